"""Transformers of diffusers: a class by its name with the published `transformer/config.json`, and inputs of S tokens.

An image or a clip of S tokens is one patch high and S wide, so that every size is linear in S. Text tokens are those
that the pipeline pads its prompts to. Weights are bfloat16, as checkpoints are loaded, but for those that a class keeps
in fp32.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from mowich.capture.adapters import Built
from mowich.capture.problem import CaptureError

_Inputs = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Latent:
    """How a pipeline makes an image or a clip. spatial, temporal: pixels, frames of one latent element; text_tokens:
    that prompts are padded to; branches: passes of a step with the pipeline's own guidance."""

    spatial: int
    temporal: int = 1
    causal_frames: bool = False
    text_tokens: int = 512
    branches: int = 1
    patch: Callable[[Mapping[str, Any]], tuple[int, int, int]]

    def record(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """As the file has it."""
        return {
            "patch": list(self.patch(config)),
            "vae_spatial": self.spatial,
            "vae_temporal": self.temporal,
            "causal_frames": self.causal_frames,
            "text_tokens": self.text_tokens,
            "branches": self.branches,
        }


@dataclass(frozen=True, kw_only=True)
class _Class:
    """A class of transformer. inputs: (config, latent record, batch, tokens) -> keyword arguments of its forward;
    settings: of the config that are only for its inputs."""

    latent: _Latent
    inputs: Callable[[Any, _Latent, int, int], _Inputs]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _empty(*shape: int, dtype: str = "bfloat16") -> Any:
    import torch

    return torch.empty(*shape, dtype=getattr(torch, dtype), device="meta")


def _padding(batch: int, tokens: int) -> Any:
    """A mask of prompts of which the last half is padding."""
    import torch

    mask = torch.zeros(batch, tokens, dtype=torch.bool)
    mask[:, : tokens // 2] = True
    return mask


def _flux(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    guidance = {"guidance": _empty(batch, dtype="float32")} if c.guidance_embeds else {}
    return {
        "hidden_states": _empty(batch, tokens, c.in_channels),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.joint_attention_dim),
        "pooled_projections": _empty(batch, c.pooled_projection_dim),
        "timestep": _empty(batch),
        "img_ids": _empty(tokens, 3),
        "txt_ids": _empty(latent.text_tokens, 3),
        "return_dict": False,
        **guidance,
    }


def _qwen(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _empty(batch, tokens, c.in_channels),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.joint_attention_dim),
        "timestep": _empty(batch),
        "img_shapes": [[(1, 1, tokens)]] * batch,
        "return_dict": False,
    }


def _clip(c: Any, batch: int, tokens: int) -> Any:
    """Latents [batch, channels, frames, height, width] of one patch in height and `tokens` in width."""
    size = c.patch_size if isinstance(c.patch_size, (list, tuple)) else (c.patch_size_t, c.patch_size, c.patch_size)
    return _empty(batch, c.in_channels, size[0], size[1], size[2] * tokens)


def _wan(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _clip(c, batch, tokens),
        "timestep": _empty(batch, dtype="int64"),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.text_dim),
        "return_dict": False,
    }


def _hunyuan(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    guidance = {"guidance": _empty(batch)} if c.guidance_embeds else {}
    return {
        "hidden_states": _clip(c, batch, tokens),
        "timestep": _empty(batch, dtype="int64"),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.text_embed_dim),
        "encoder_attention_mask": _padding(batch, latent.text_tokens),
        "pooled_projections": _empty(batch, c.pooled_projection_dim),
        "return_dict": False,
        **guidance,
    }


AUDIO_TOKENS = 51
"""Tokens of audio beside a clip of LTX-2 of 49 frames at 24 a second: 25 a second."""


def _ltx2(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    text = latent.text_tokens
    return {
        "hidden_states": _empty(batch, tokens, c.in_channels),
        "audio_hidden_states": _empty(batch, AUDIO_TOKENS, c.audio_in_channels),
        "encoder_hidden_states": _empty(batch, text, c.caption_channels),
        "audio_encoder_hidden_states": _empty(batch, text, c.caption_channels),
        "encoder_attention_mask": _empty(batch, text),
        "audio_encoder_attention_mask": _empty(batch, text),
        "timestep": _empty(batch),
        "num_frames": 1,
        "height": 1,
        "width": tokens,
        "audio_num_frames": AUDIO_TOKENS,
        "return_dict": False,
    }


def _image(c: Any, batch: int, tokens: int) -> Any:
    """Latents [batch, channels, height, width] of one patch in height and `tokens` in width."""
    return _empty(batch, c.in_channels, c.patch_size, c.patch_size * tokens)


def _sd3(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _image(c, batch, tokens),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.joint_attention_dim),
        "pooled_projections": _empty(batch, c.pooled_projection_dim),
        "timestep": _empty(batch),
        "return_dict": False,
    }


def _sana(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _image(c, batch, tokens),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.caption_channels or c.cross_attention_dim),
        "encoder_attention_mask": _padding(batch, latent.text_tokens),
        "timestep": _empty(batch),
        "return_dict": False,
    }


def _pixart(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    resolution = {"resolution": _empty(batch, 2), "aspect_ratio": _empty(batch, 1)}
    return {**_sana(c, latent, batch, tokens), "added_cond_kwargs": resolution}


def _cogvideox(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    rotary = [_empty(tokens, c.attention_head_dim, dtype="float32") for _ in range(2)]
    return {
        "hidden_states": _empty(batch, 1, c.in_channels, c.patch_size, c.patch_size * tokens),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.text_embed_dim),
        "timestep": _empty(batch),
        "image_rotary_emb": tuple(rotary) if c.use_rotary_positional_embeddings else None,
        "return_dict": False,
    }


def _ltx(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _empty(batch, tokens, c.in_channels),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.caption_channels),
        "encoder_attention_mask": _padding(batch, latent.text_tokens),
        "timestep": _empty(batch),
        "num_frames": 1,
        "height": 1,
        "width": tokens,
        "return_dict": False,
    }


def _chroma(c: Any, latent: _Latent, batch: int, tokens: int) -> _Inputs:
    return {
        "hidden_states": _empty(batch, tokens, c.in_channels),
        "encoder_hidden_states": _empty(batch, latent.text_tokens, c.joint_attention_dim),
        "timestep": _empty(batch),
        "img_ids": _empty(tokens, 3),
        "txt_ids": _empty(latent.text_tokens, 3),
        "return_dict": False,
    }


def _packed(_: Mapping[str, Any]) -> tuple[int, int, int]:
    return (1, 2, 2)


def _square(c: Mapping[str, Any]) -> tuple[int, int, int]:
    return (1, c["patch_size"], c["patch_size"])


def _of_config(c: Mapping[str, Any]) -> tuple[int, int, int]:
    size = c["patch_size"]
    return tuple(size) if isinstance(size, (list, tuple)) else (c["patch_size_t"], size, size)


CLASSES: Mapping[str, _Class] = {
    "FluxTransformer2DModel": _Class(latent=_Latent(spatial=8, text_tokens=512, patch=_packed), inputs=_flux),
    "QwenImageTransformer2DModel": _Class(
        latent=_Latent(spatial=8, text_tokens=512, branches=2, patch=_packed),
        inputs=_qwen,
        notes=("prompts are not padded: 512 text tokens are what a long prompt has",),
    ),
    "WanTransformer3DModel": _Class(
        latent=_Latent(spatial=8, temporal=4, causal_frames=True, text_tokens=512, branches=2, patch=_of_config),
        inputs=_wan,
    ),
    "HunyuanVideoTransformer3DModel": _Class(
        latent=_Latent(spatial=8, temporal=4, causal_frames=True, text_tokens=256, patch=_of_config), inputs=_hunyuan
    ),
    "SD3Transformer2DModel": _Class(
        latent=_Latent(spatial=8, text_tokens=333, branches=2, patch=_square),
        inputs=_sd3,
        settings={"pos_embed_max_size": 1024},  # a table of positions, cut to the size of the image
    ),
    "PixArtTransformer2DModel": _Class(
        latent=_Latent(spatial=8, text_tokens=300, branches=2, patch=_square), inputs=_pixart
    ),
    "SanaTransformer2DModel": _Class(
        latent=_Latent(spatial=32, text_tokens=300, branches=2, patch=_square), inputs=_sana
    ),
    "ChromaTransformer2DModel": _Class(
        latent=_Latent(spatial=8, text_tokens=512, branches=2, patch=_packed), inputs=_chroma
    ),
    "CogVideoXTransformer3DModel": _Class(
        latent=_Latent(spatial=8, temporal=4, causal_frames=True, text_tokens=226, branches=2, patch=_square),
        inputs=_cogvideox,
    ),
    "LTXVideoTransformer3DModel": _Class(
        latent=_Latent(spatial=32, temporal=8, causal_frames=True, text_tokens=128, branches=2, patch=_of_config),
        inputs=_ltx,
    ),
    "LTX2VideoTransformer3DModel": _Class(
        latent=_Latent(spatial=32, temporal=8, causal_frames=True, text_tokens=1024, branches=2, patch=_of_config),
        inputs=_ltx2,
        notes=(f"audio beside the clip: {AUDIO_TOKENS} tokens, of 49 frames",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Diffusers:
    """The helper of one class. settings: its config."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Built:
        """The transformer on the meta device. Raises CaptureError for a class that no inputs are known of."""
        import torch

        known = CLASSES.get(self.name)
        if known is None:
            raise CaptureError("no such class is known", where=f"diffusers:{self.name}", allowed=", ".join(CLASSES))
        made = (
            getattr(importlib.import_module("diffusers"), self.name)
            .from_config({**self.settings, **known.settings})
            .eval()
        )
        kept = set(getattr(made, "_keep_in_fp32_modules", None) or ())
        for name, weight in made.named_parameters():  # as `from_pretrained(torch_dtype=bfloat16)` loads a checkpoint
            if not kept & set(name.split(".")):
                weight.data = weight.data.to(torch.bfloat16)
        config = made.config
        return Built(
            module=made,
            inputs=lambda batch, tokens: known.inputs(config, known.latent, batch, tokens),
            name=self.name,
            kind="diffusion",
            latent=known.latent.record(config),
            notes=known.notes,
        )

    def installed(self) -> AbstractContextManager[None]:
        """Nothing stands in the library's place: scaled_dot_product_attention is taken whole by the tracer."""
        return nullcontext()


def adapter(what: str, settings: Mapping[str, Any], config: str | None) -> Diffusers:
    """The helper of a class, with `--set key=value` over the keys of `--config`."""
    given: dict[str, Any] = {}
    if config is not None:
        with open(config, encoding="utf-8") as file:
            given = json.load(file)
    return Diffusers(name=what, settings={**given, **settings})
