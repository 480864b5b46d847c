"""The architectures that are read from a `config.json`, one row each: windows, experts, biases, defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mowich.models import stacks
from mowich.models.model import Mlp, Moe
from mowich.models.reader import ConfigReader, Flag

Window = tuple[int | None, bool]


WindowRule = Callable[[ConfigReader, int, int], list[Window]]


FfnRule = Callable[[ConfigReader, int, Mlp], "Mlp | Moe"]


def _full(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """Every layer attends to everything."""
    return [(None, False)] * num_layers


def _all_sliding(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """One window for all layers; a null or absent `sliding_window` is none (absent means `default` if that is set)."""
    given = c.data.get("sliding_window", default or None)
    return [(c.count("sliding_window", default=default or None) if given else None, False)] * num_layers


def _stated(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """Our plain form: `sliding_window` on all layers, or on all but each `sliding_window_pattern`-th."""
    if c.get("sliding_window_pattern"):
        return _every(1)(c, num_layers, 0)
    return _all_sliding(c, num_layers, 0)


def _late_sliding(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """Qwen: `use_sliding_window` switches windows on from layer `max_window_layers`."""
    if not c.flag("use_sliding_window"):
        return _full(c, num_layers, 0)
    first = c.count("max_window_layers", default=28, minimum=0)
    window = c.count("sliding_window", default=4096)
    return [(window if i >= first else None, False) for i in range(num_layers)]


def _every(period: int) -> WindowRule:
    """Windowed layers with a full one at the end of each `period` (config key sliding_window_pattern)."""

    def rule(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
        window = c.count("sliding_window", default=default or None)
        step = c.count("sliding_window_pattern", "_sliding_window_pattern", default=period)
        return [(None if (i + 1) % step == 0 else window, False) for i in range(num_layers)]

    return rule


def _chunks(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """Llama 4: layers with rope attend inside chunks of `attention_chunk_size`; each fourth one to everything."""
    chunk = c.count("attention_chunk_size", default=8192)
    step = c.count("no_rope_layer_interval", default=4)
    rope = c.get("no_rope_layers") or [int((i + 1) % step != 0) for i in range(num_layers)]
    return [(chunk, True) if on else (None, False) for on in rope[:num_layers]]


def _hybrid_pattern(c: ConfigReader, num_layers: int, default: int) -> list[Window]:
    """MiMo V2: `hybrid_layer_pattern` marks windowed layers with 1."""
    window = c.count("sliding_window_size", "sliding_window", default=128)
    default_pattern = [int(i > 0 and (i + 1) % 6 != 0) for i in range(num_layers)]
    pattern = c.get("hybrid_layer_pattern", default=default_pattern)
    return [(window if on else None, False) for on in pattern[:num_layers]]


def _dense(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """No experts."""
    return mlp


def _all_experts(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """Experts in every layer, as wide as `intermediate_size` (or `moe_intermediate_size` if given)."""
    return Moe(
        num_experts=c.count("num_local_experts", "num_experts"),
        top_k=c.count("num_experts_per_tok", "experts_per_token"),
        ffn=c.count("intermediate_size"),
        shared_ffn=c.count("shared_intermediate_size", default=0, minimum=0),
        gated=mlp.gated,
    )


def _gpt_oss_experts(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """Experts and router with biases."""
    experts = _all_experts(c, layer, mlp)
    return replace(experts, bias=True, router_bias=True)  # type: ignore[arg-type]


def _sparse_step(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """Qwen: experts in each `decoder_sparse_step`-th layer except `mlp_only_layers`; a gated shared expert if
    stated."""
    experts = c.count("num_experts", "num_local_experts", minimum=0)
    dense = layer in c.get("mlp_only_layers", default=[])
    if not experts or dense or (layer + 1) % c.count("decoder_sparse_step", default=1):
        return mlp
    return stacks.qwen_experts(c, experts, shared=0)


def _leading_dense(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """DeepSeek: experts from layer `first_k_dense_replace` on; `n_shared_experts` always-on experts.
    `mlp_layer_types`, or `moe_layer_freq` as a list, may say so layer by layer."""
    freq = c.get("moe_layer_freq", default=1)
    types = c.get("mlp_layer_types")
    if types:
        dense = types[layer] == "dense"
    elif isinstance(freq, list):
        dense = not freq[layer]
    else:
        dense = (
            layer < c.count("first_k_dense_replace", default=0, minimum=0)
            or layer % c.whole(freq, "moe_layer_freq") != 0
        )
    if dense or c.get("n_routed_experts") is None:
        return mlp
    width = c.count("moe_intermediate_size")
    return Moe(
        num_experts=c.count("n_routed_experts"),
        top_k=c.count("num_experts_per_tok"),
        ffn=width,
        shared_ffn=width * c.count("n_shared_experts", default=0, minimum=0),
        groups=c.count("n_group", default=1),
        top_groups=c.count("topk_group", default=1),
    )


def _biased_leading_dense(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """As `_leading_dense`; the choice of experts has a learned bias for each."""
    block = _leading_dense(c, layer, mlp)
    return replace(block, router_bias=True) if isinstance(block, Moe) else block


def _interleaved(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """Llama 4: every `interleave_moe_layer_step`-th layer has experts and one shared expert; the others a wider MLP."""
    step = c.count("interleave_moe_layer_step", default=1)
    chosen = c.get("moe_layers")
    if (layer in chosen) if chosen else (layer + 1) % step == 0:
        width = c.count("intermediate_size")
        return Moe(
            num_experts=c.count("num_local_experts"),
            top_k=c.count("num_experts_per_tok", default=1),
            ffn=width,
            shared_ffn=width,
        )
    return replace(mlp, ffn=c.count("intermediate_size_mlp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How to read one `model_type`. Fields name config keys or fixed choices; `norms` counts norms per layer;
    `out_gate`: a projection as wide as the heads gates the attention output; `windowed_heads`: windowed layers may have
    heads of their own (`swa_*`). `stack`: a function of `stacks` that reads the layers instead."""

    stack: Callable[[ConfigReader], stacks.LayerStack] | None = None
    windows: WindowRule = _full
    ffn: FfnRule = _dense
    attention: Literal["gqa", "mla"] = "gqa"
    window_default: int = 0
    tied: bool = False
    qkv_bias: Flag = False
    out_bias: Flag = False
    mlp_bias: Flag = False
    gated: Flag = True
    qk_norm: Literal["none", "head", "full"] = "none"
    qk_norm_if: Flag = True
    out_gate: bool = False
    sinks: Literal["none", "all", "windowed"] = "none"
    windowed_heads: bool = False
    norms: int = 2
    norm_bias: Flag = False
    norm_free: bool = False
    embedding_norm: bool = False
    positions: str = ""
    position_offset: int = 0
    causal: bool = True
    rename: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)


_GPT = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
}


def _biased(by: Flag) -> Architecture:
    """The form of GPT-2: a plain MLP and tied embeddings, with biases in every product by one flag, and in norms."""
    return Architecture(tied=True, qkv_bias=by, out_bias=by, mlp_bias=by, gated=False, norm_bias=True)


_QWEN = Architecture(windows=_late_sliding)


_LLAMA = Architecture(qkv_bias="attention_bias", out_bias="attention_bias", mlp_bias="mlp_bias")


_DEEPSEEK = Architecture(
    attention="mla",
    ffn=_leading_dense,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    defaults={"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
)


_GEMMA = Architecture(tied=True, qkv_bias="attention_bias", out_bias="attention_bias", defaults={"head_dim": 256})


_QWEN3 = replace(
    _QWEN, qk_norm="head", qkv_bias="attention_bias", out_bias="attention_bias", defaults={"head_dim": 128}
)


_MIMO_V2 = Architecture(
    windows=_hybrid_pattern,
    ffn=_leading_dense,
    qkv_bias="attention_bias",
    sinks="windowed",
    windowed_heads=True,
    defaults={"first_k_dense_replace": 1},
)


_LIKE_DEEPSEEK = {"num_experts": "n_routed_experts", "num_shared_experts": "n_shared_experts"}
"""Other words for the keys that `_leading_dense` reads."""


_QWEN3_MOE = replace(_QWEN3, ffn=_sparse_step, defaults={"num_key_value_heads": 4})


_GLM4 = replace(
    _LLAMA,
    norms=4,
    qkv_bias=("attention_bias", True),
    out_bias=False,
    mlp_bias=False,
    defaults={"head_dim": 128, "num_key_value_heads": 2},
)
_GLM4_MOE = Architecture(
    ffn=_leading_dense,
    qkv_bias="attention_bias",
    qk_norm="head",
    qk_norm_if="use_qk_norm",
    defaults={"first_k_dense_replace": 1, "n_shared_experts": 1},
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": Architecture(windows=_all_sliding, window_default=4096, defaults={"num_key_value_heads": 8}),
    "ministral": Architecture(windows=_all_sliding, window_default=4096, defaults={"num_key_value_heads": 8}),
    "ministral3": Architecture(windows=_all_sliding, defaults={"num_key_value_heads": 8, "head_dim": 128}),
    "mixtral": Architecture(windows=_all_sliding, ffn=_all_experts, defaults={"num_key_value_heads": 8}),
    "qwen2": replace(_QWEN, qkv_bias=True),
    "qwen2_vl_text": replace(_QWEN, qkv_bias=True),
    "qwen2_5_vl_text": replace(_QWEN, qkv_bias=True),
    "qwen2_moe": replace(_QWEN, qkv_bias=("qkv_bias", True), ffn=_sparse_step),
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_vl_text": replace(_QWEN3, windows=_full),
    "qwen3_vl_moe_text": replace(_QWEN3, windows=_full, ffn=_sparse_step),
    "qwen3_omni_moe_text": replace(_QWEN3, windows=_full, ffn=_sparse_step),
    "gpt_oss": Architecture(
        windows=_every(2),
        window_default=128,
        ffn=_gpt_oss_experts,
        sinks="all",
        qkv_bias=("attention_bias", True),
        out_bias=("attention_bias", True),
        defaults={"head_dim": 64, "num_key_value_heads": 8},
    ),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
    "mimo": replace(_QWEN, qkv_bias=("attention_bias", True)),
    "mimo_v2_flash": _MIMO_V2,
    "mimo_v2": _MIMO_V2,
    "afmoe": Architecture(
        windows=_every(4),
        window_default=1024,
        ffn=_biased_leading_dense,
        qk_norm="head",
        out_gate=True,
        norms=4,
        rename={
            **_LIKE_DEEPSEEK,
            "num_dense_layers": "first_k_dense_replace",
            "global_attn_every_n_layers": "sliding_window_pattern",
        },
        defaults={"head_dim": 128},
    ),
    "sarvam_moe": Architecture(
        ffn=_leading_dense,
        qkv_bias="use_qkv_bias",
        out_bias="use_bias",
        qk_norm="head",
        qk_norm_if="use_qk_norm",
        rename=_LIKE_DEEPSEEK,
    ),
    "solar_open": Architecture(ffn=_leading_dense, qkv_bias="attention_bias", defaults={"head_dim": 128}),
    "minimax_m2": Architecture(ffn=_all_experts, qk_norm="full", defaults={"head_dim": 128}),
    "glm4": _GLM4,
    "glm4v_text": replace(_GLM4, defaults={"num_key_value_heads": 2}),
    "glm": replace(
        _LLAMA,
        qkv_bias=("attention_bias", True),
        out_bias=False,
        mlp_bias=False,
        defaults={"head_dim": 128, "num_key_value_heads": 2},
    ),
    "glm4_moe": _GLM4_MOE,
    "glm4v_moe_text": _GLM4_MOE,
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, windows=_every(2), window_default=4096),
    "gemma3_text": replace(
        _GEMMA,
        norms=4,
        qk_norm="head",
        windows=_every(6),
        window_default=4096,
        defaults={"head_dim": 256, "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4},
    ),
    "gemma4_text": replace(_GEMMA, norms=4, qk_norm="head", windows=_every(6), window_default=512),
    "llama4_text": Architecture(
        windows=_chunks,
        ffn=_interleaved,
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        defaults={"head_dim": 128},
    ),
    "olmo": replace(_LLAMA, mlp_bias=False, norms=0, norm_free=True),
    "olmo2": replace(_LLAMA, mlp_bias=False, qk_norm="full"),
    "olmo3": replace(_LLAMA, mlp_bias=False, qk_norm="full", windows=_every(4), window_default=4096),
    "olmoe": replace(_LLAMA, mlp_bias=False, qk_norm="full", ffn=_all_experts),
    "phi3": Architecture(windows=_all_sliding),
    "granite": _LLAMA,
    "smollm3": replace(_LLAMA, tied=True, windows=_late_sliding, defaults={"num_key_value_heads": 4}),
    "cohere2": Architecture(
        tied=True,
        norms=1,
        windows=_every(4),
        window_default=4096,
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        defaults={"head_dim": 128},
    ),
    "nemotron": replace(_LLAMA, gated=False, norm_bias=True),
    "gpt2": replace(_biased(True), positions="max_position_embeddings", rename=_GPT),
    "gpt_neox": Architecture(
        qkv_bias=("attention_bias", True), out_bias=("attention_bias", True), mlp_bias=True, gated=False, norm_bias=True
    ),
    "opt": replace(
        _biased(("enable_bias", True)),
        positions="max_position_embeddings",
        position_offset=2,
        rename={"ffn_dim": "intermediate_size"},
    ),
    "bloom": replace(_biased(True), embedding_norm=True, rename={**_GPT, "n_embed": "hidden_size"}),
    "mpt": Architecture(
        tied=True,
        gated=False,
        rename={
            "d_model": "hidden_size",
            "n_layers": "num_hidden_layers",
            "n_heads": "num_attention_heads",
            "max_seq_len": "max_position_embeddings",
        },
    ),
    "starcoder2": replace(_biased(("use_bias", True)), windows=_all_sliding, defaults={"num_key_value_heads": 2}),
    "falcon": replace(
        _biased("bias"),
        rename={**_GPT, "ffn_hidden_size": "intermediate_size", "num_kv_heads": "num_key_value_heads"},
    ),
    "bert": replace(_biased(True), causal=False, embedding_norm=True, positions="max_position_embeddings"),
    "qwen3_next": Architecture(
        stack=stacks.qwen_next,
        defaults={
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "moe_intermediate_size": 512,
            "num_key_value_heads": 2,
        },
    ),
    "qwen3_5_text": Architecture(stack=stacks.qwen_next, defaults={"num_key_value_heads": 4}),
    "qwen3_5_moe_text": Architecture(
        stack=stacks.qwen_next,
        defaults={"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512, "num_key_value_heads": 2},
    ),
    "nemotron_h": Architecture(stack=stacks.nemotron_h, defaults={"num_key_value_heads": 8}),
    "mamba2": Architecture(stack=stacks.mamba2),
    "bamba": Architecture(stack=stacks.bamba, defaults={"num_key_value_heads": 8}),
    "minimax": Architecture(stack=stacks.minimax, defaults={"num_key_value_heads": 8}),
    "deepseek_v32": Architecture(stack=stacks.deepseek_sparse),
    "glm_moe_dsa": Architecture(stack=stacks.deepseek_sparse, defaults={"index_n_heads": 32}),
    "deepseek_v4": Architecture(stack=stacks.deepseek_v4),
    "deepseek_ref": Architecture(stack=stacks.deepseek_v4),
    "minimax_m3": Architecture(stack=stacks.minimax_m3),
    "minimax_m3_vl_text": Architecture(stack=stacks.minimax_m3),
    "step3p5": Architecture(stack=stacks.step3),
    "step3p7": Architecture(stack=stacks.step3),
    "kimi_linear": Architecture(
        stack=stacks.kimi_linear,
        defaults={"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128},
    ),
    "glm5_next_text": Architecture(
        stack=stacks.glm_next, defaults={"kv_lora_rank": 512, "qk_nope_head_dim": 256, "v_head_dim": 256}
    ),
    "nemotron-nas": Architecture(stack=stacks.nemotron_nas),
    "decoder": Architecture(
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        mlp_bias="mlp_bias",
        gated=("gated", True),
        norm_bias="norm_bias",
        windows=_stated,
    ),
}
"""model_type -> how to read it. "decoder" is our own plain form: MLP kind, biases and windows are stated by keys."""


WRAPPERS = {
    "qwen2_vl": "qwen2_vl_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "qwen2_audio": "qwen2",
    "qwen3_omni_moe_thinker": "qwen3_omni_moe_text",
    "internvl": "qwen2",
    "glm4v": "glm4v_text",
    "glm4v_moe": "glm4v_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "kimi_k25": "kimi_k2",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "kimi_k3": "kimi_linear",
    "glm5_next": "glm5_next_text",
}
"""Multimodal model_type -> its text model, read from `text_config`."""


REFUSED = {
    "mamba": "state-space layers of the first Mamba are not modelled",
    "jamba": "its Mamba layers are not modelled",
    "zamba2": "its shared attention blocks are not modelled",
    "t5": "encoder-decoder models are not modelled",
    "falcon_h1": "attention and Mamba side by side in one layer are not modelled",
    "granitemoehybrid": "its hybrid layers are not modelled",
}
"""model_type that is known and not supported -> why."""
