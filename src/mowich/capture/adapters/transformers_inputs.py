"""Inputs of the classes of transformers, by what their forward takes: S counts text tokens of a decoder, frames of a
speech encoder, source and target tokens of an encoder-decoder. Images have the size of the configuration, so that their
tokens are fixed beside the text."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers.models.auto import modeling_auto

from mowich.capture.adapters import patched
from mowich.capture.problem import CaptureError

_Inputs = Callable[[int, int], dict[str, Any]]

_CAUSAL = frozenset(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
GRID = 32
"""Patches along an image whose size the model does not fix (448 pixels of patches of 14)."""


def inputs_of(module: Any) -> tuple[str, _Inputs, tuple[str, ...]]:
    """(kind, inputs(batch, tokens), notes) of a module.

    Raises:
        CaptureError: no inputs are known for what its forward takes.
    """
    taken = inspect.signature(module.forward).parameters
    name = type(module).__name__
    config = module.config
    is_causal = name.endswith(("ForCausalLM", "LMHeadModel", "WithLMHead")) or name in _CAUSAL
    if "decoder_input_ids" in taken and config.is_encoder_decoder:
        return _encoder_decoder(module, taken)
    if "pixel_values" in taken and "input_ids" in taken and _value(config, "vision_config") is not None:
        if "image_grid_thw" in taken:
            return _gridded(module, taken)
        if hasattr(module, "get_image_features") and not is_causal_text(module):
            return _imaged(module)
    if "input_ids" in taken:
        return ("decoder" if is_causal else "encoder"), _ids(taken), ()
    if "pixel_values" in taken:
        return "encoder", *_pixels(config)
    if "input_values" in taken and hasattr(module, "_get_feat_extract_output_lengths"):
        return "speech", _waves(config), ("S counts frames after the convolutions",)
    if "input_features" in taken:
        return "speech", *_features(config)
    raise CaptureError(
        f"no inputs are known for {name}, whose forward takes {', '.join(list(taken)[:6])}",
        fix="write a function that builds it and give --inputs FUNCTION",
    )


def is_causal_text(module: Any) -> bool:
    """Whether a class with images in its signature is one of text alone."""
    return type(module).__name__.endswith("ForCausalLM")


def _value(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def _long(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.long, device="meta")


def _ids(taken: Any) -> _Inputs:
    rest = {"use_cache": False} if "use_cache" in taken else {}
    return lambda batch, tokens: {"input_ids": _long(batch, tokens), **rest}


def _encoder_decoder(module: Any, taken: Any) -> tuple[str, _Inputs, tuple[str, ...]]:
    config = module.config
    if "input_features" in taken and _value(config, "max_source_positions"):
        frames, bins = 2 * config.max_source_positions, config.num_mel_bins
        return (
            "encoder-decoder",
            lambda batch, tokens: {
                "input_features": torch.empty(batch, bins, frames, device="meta"),
                "decoder_input_ids": _long(batch, tokens),
                "use_cache": False,
            },
            (f"speech of {config.max_source_positions} frames; S counts tokens of text",),
        )
    if "input_ids" not in taken:
        raise CaptureError(f"no inputs are known for {type(module).__name__}", fix="give --inputs FUNCTION")
    return (
        "encoder-decoder",
        lambda batch, tokens: {
            "input_ids": _long(batch, tokens),
            "decoder_input_ids": _long(batch, tokens),
            "use_cache": False,
        },
        ("S counts source tokens and target tokens alike",),
    )


def _side(config: Any) -> tuple[int, int]:
    size = _value(config, "image_size") or 224
    return (size[0], size[1]) if isinstance(size, (list, tuple)) else (size, size)


def _pixels(config: Any) -> tuple[_Inputs, tuple[str, ...]]:
    height, width = _side(config)
    channels = _value(config, "num_channels") or 3

    def inputs(batch: int, tokens: int) -> dict[str, Any]:
        return {"pixel_values": torch.empty(batch, channels, height, width, device="meta")}

    return inputs, (f"images of {height} x {width} pixels, whatever S is",)


def _waves(config: Any) -> _Inputs:
    """Samples of which the convolutions make S frames."""

    def inputs(batch: int, tokens: int) -> dict[str, Any]:
        length = tokens
        for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
            length = (length - 1) * stride + kernel
        return {"input_values": torch.empty(batch, length, device="meta")}

    return inputs


def _features(config: Any) -> tuple[_Inputs, tuple[str, ...]]:
    part = _value(config, "encoder_config") or config
    factor = int(_value(part, "subsampling_factor") or 1)
    bins = int(_value(part, "num_mel_bins") or _value(part, "feature_size") or _value(part, "input_dim") or 80)

    def inputs(batch: int, tokens: int) -> dict[str, Any]:
        return {"input_features": torch.empty(batch, factor * tokens, bins, device="meta")}

    return inputs, ("S counts frames after the subsampling",)


def _with_image(image: int, images: int, batch: int, tokens: int) -> torch.Tensor:
    """Token numbers, real: an image's places, then text."""
    ids = torch.zeros((batch, images + tokens), dtype=torch.long, device="cpu")
    ids[:, :images] = image
    return ids


def _image_token(config: Any) -> int:
    for name in ("image_token_id", "image_token_index", "img_context_token_id"):
        if _value(config, name) is not None:
            return int(getattr(config, name))
    raise CaptureError("the number of the token that stands for an image is not in the configuration")


def _gridded(module: Any, taken: Any) -> tuple[str, _Inputs, tuple[str, ...]]:
    """One image as a grid of patches (Qwen-VL and what follows it)."""
    config = module.config
    vision = config.vision_config
    merge = int(_value(vision, "spatial_merge_size") or 1)
    width = int(_value(vision, "in_channels") or _value(vision, "in_chans") or 3)
    width *= int(_value(vision, "temporal_patch_size") or 1) * int(vision.patch_size) ** 2
    images, token = (GRID // merge) ** 2, _image_token(config)

    for part in module.modules():
        if part is not module and hasattr(type(part), "get_image_features"):
            part.get_image_features = partial(_unsplit, part.get_image_features)

    def inputs(batch: int, tokens: int) -> dict[str, Any]:
        ids = _with_image(token, images, batch, tokens)
        kinds = {"mm_token_type_ids": (ids == token).int()} if "mm_token_type_ids" in taken else {}
        return {
            "input_ids": ids,
            "pixel_values": torch.empty(batch * GRID * GRID, width, device="meta"),
            "image_grid_thw": torch.tensor([[1, GRID, GRID]] * batch, dtype=torch.long, device="cpu"),
            "use_cache": False,
            **kinds,
        }

    return (
        "vision-language",
        inputs,
        (f"one image of {GRID} x {GRID} patches before S tokens of text: {images} tokens",),
    )


def _unsplit(features: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Features of all images in one: the code splits them by image and joins them again."""

    def split(tensor: torch.Tensor, sizes: Any, dim: int = 0) -> Any:
        is_by_image = isinstance(sizes, list) and dim == 0 and sum(sizes) == tensor.shape[0] and tensor.dim() == 2
        return (tensor,) if is_by_image else tensor.split(sizes, dim)

    with patched(torch, "split", split):
        return features(*args, **kwargs)


def _imaged(module: Any) -> tuple[str, _Inputs, tuple[str, ...]]:
    """One image of the configuration's size before S tokens of text."""
    config, taken = module.config, inspect.signature(module.forward).parameters
    make, _ = _pixels(config.vision_config)
    held: list[int] = []

    def inputs(batch: int, tokens: int) -> dict[str, Any]:
        if not held:
            held.append(_image_tokens(module, make(1, 1)))
        ids = _with_image(_image_token(config), held[0], batch, tokens)
        kinds = {"token_type_ids": (ids != ids).long()} if "token_type_ids" in taken else {}
        return {"input_ids": ids, **make(batch, tokens), "use_cache": False, **kinds}

    return "vision-language", inputs, ("one image of the configuration's size before S tokens of text",)


def _image_tokens(module: Any, pixels: dict[str, Any]) -> int:
    """Tokens that the language part gets for one image, as the vision part makes them."""
    found = module.get_image_features(**pixels)
    features = getattr(found, "pooler_output", found)
    width = module.config.get_text_config().hidden_size
    parts = features if isinstance(features, (list, tuple)) else [features]
    return sum(int(part.numel()) for part in parts) // int(width)
