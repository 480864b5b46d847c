"""The table of parts and kernels: which kernel does which part of a layer, and the arrays that it is called with.

A part is a launch of its own here: a block of nki-library that does several steps at once is one part. Arrays have
shapes and no values. Of a library that was named its kernels come first, ours where it has none for a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mowich.nki import hollow
from mowich.operators.law import active_experts
from mowich.studies.layer.library import KernelFunction, Kit
from mowich.studies.layer.shape import TILE_WIDTH, LayerJob, RankLayer, padded

KernelSource = Literal["nki-library", "mowich"]
_FLOAT = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A kernel that does a part, and what it is called with."""

    part: str
    kernel: str
    source: KernelSource
    function: KernelFunction
    arguments: Mapping[str, object]


Builder = Callable[[Kit, RankLayer], list[Call]]


def _tensor(*shape: int, dtype: str = _FLOAT) -> object:
    return hollow(shape, dtype)


def _ours(kit: Kit, part: str, file: str, name: str, **arguments: object) -> Call:
    return Call(part=part, kernel=name, source="mowich", function=kit.ours(file, name), arguments=arguments)


def _theirs(kit: Kit, part: str, module: str, name: str, **arguments: object) -> Call:
    function = kit.theirs(module, name, arguments)
    return Call(part=part, kernel=name, source="nki-library", function=function, arguments=arguments)


# the mixer
# ----------------------------------------------------------------------------------------------------------------------


def attention_block(kit: Kit, s: RankLayer) -> list[Call]:
    """Norm, QKV, rotary positions, cache, attention and output projection of one new token, as one kernel of
    nki-library: one key-value head."""
    words = kit.find("common_types")
    none, B, H, d = words.QuantizationType.NONE, s.job.batch, s.wide, s.head_dim
    head = _tensor(1, d) if s.has_qk_norm else None
    arguments = {
        "X": _tensor(B, 1, H),
        "X_hidden_dim_actual": s.hidden,
        "rmsnorm_X_enabled": True,
        "rmsnorm_X_eps": 1e-6,
        "rmsnorm_X_gamma": _tensor(1, H),
        "W_qkv": _tensor(H, d * (s.heads + 2)),
        "bias_qkv": _tensor(1, d * (s.heads + 2)) if s.has_qkv_bias else None,
        "quantization_type_qkv": none,
        "weight_dequant_scale_qkv": None,
        "input_dequant_scale_qkv": None,
        "rmsnorm_QK_pre_rope_enabled": s.has_qk_norm,
        "rmsnorm_QK_pre_rope_eps": 1e-6,
        "rmsnorm_QK_pre_rope_W_Q": head,
        "rmsnorm_QK_pre_rope_W_K": head,
        "cos": _tensor(d // 2, B, 1),
        "sin": _tensor(d // 2, B, 1),
        "rope_contiguous_layout": True,
        "rmsnorm_QK_post_rope_enabled": False,
        "rmsnorm_QK_post_rope_eps": 1e-6,
        "rmsnorm_QK_post_rope_W_Q": None,
        "rmsnorm_QK_post_rope_W_K": None,
        "K_cache_transposed": True,
        "active_blocks_table": None,
        "K_cache": _tensor(B, 1, d, s.cached),
        "V_cache": _tensor(B, 1, s.cached, d),
        "attention_mask": _tensor(s.cached, B, s.heads, 1, dtype="uint8"),
        "sink": _tensor(s.heads, 1) if s.has_sinks else None,
        "update_cache": True,
        "kv_cache_update_idx": _tensor(B, 1, dtype="uint32"),
        "W_out": _tensor(s.heads * d, H),
        "bias_out": _tensor(1, H) if s.has_out_bias else None,
        "quantization_type_out": none,
        "weight_dequant_scale_out": None,
        "input_dequant_scale_out": None,
        "transposed_out": False,
        "out_in_sb": False,
    }
    return [_theirs(kit, "attention block", "attention_block_tkg", "attention_block_tkg", **arguments)]


def prompt_attention(kit: Kit, s: RankLayer) -> list[Call]:
    """The kernels of nki-library for a prompt, with our rotary positions between."""
    words = kit.find("common_types")
    B, S, H, d = s.job.batch, s.job.prompt, s.wide, s.head_dim
    return [
        _theirs(
            kit,
            "norm and QKV",
            "qkv",
            "qkv",
            input=_tensor(B, S, H),
            fused_qkv_weights=_tensor(H, d * (s.heads + 2 * s.kv_heads)),
            bias=_tensor(1, d * (s.heads + 2 * s.kv_heads)) if s.has_qkv_bias else None,
            fused_norm_type=words.NormType.RMS_NORM,
            gamma_norm_weights=_tensor(1, H),
            hidden_actual=s.hidden,
            d_head=d,
            num_q_heads=s.heads,
            num_kv_heads=s.kv_heads,
        ),
        _positions(kit, s),
        _theirs(
            kit,
            "attention",
            "attention_cte",
            "attention_cte",
            q=_tensor(B * s.heads, S, d),
            k=_tensor(B * s.kv_heads, d, S),
            v=_tensor(B * s.kv_heads, S, d),
            scale=1.0,
            sink=_tensor(B * s.heads, 1) if s.has_sinks else None,
            sliding_window=s.cached if s.cached < S else None,
        ),
        _theirs(
            kit,
            "output projection",
            "output_projection_cte",
            "output_projection_cte",
            attention=_tensor(B, s.heads, d, S),
            weight=_tensor(s.heads * d, H),
            bias=_tensor(1, H) if s.has_out_bias else None,
        ),
    ]


def _positions(kit: Kit, s: RankLayer) -> Call:
    rows, d = s.rows, s.head_dim
    turn = {"cos": _tensor(rows, d // 2), "sin": _tensor(rows, d // 2)}
    weight = _tensor(rows, d) if s.has_qk_norm else None
    return _ours(kit, "positions", "rotate", "rotate", x=_tensor(rows, d), weight=weight, **turn)


def _norm(kit: Kit, tokens: int, width: int, part: str = "norm") -> Call:
    return _ours(kit, part, "rmsnorm", "rmsnorm", x=_tensor(tokens, width), weight=_tensor(1, width))


def _product(kit: Kit, part: str, tokens: int, k: int, n: int) -> Call:
    """tokens x k x n; k in whole tiles, as a kernel takes it."""
    k = padded(k, TILE_WIDTH) if k > TILE_WIDTH else k
    return _ours(kit, part, "matmul", "matmul", lhsT=_tensor(k, tokens), rhs=_tensor(k, n))


def our_attention(kit: Kit, s: RankLayer) -> list[Call]:
    """Our kernels, a launch each: norm, QKV, positions, attention over the cache or the prompt, output projection."""
    d, T, group = s.head_dim, s.job.tokens, s.heads // s.kv_heads
    if s.job.prefill:
        S = padded(s.job.prompt, TILE_WIDTH)
        shapes = {
            "q": _tensor(s.job.batch * s.heads, d, S),
            "k": _tensor(s.job.batch * s.kv_heads, d, S),
            "v": _tensor(s.job.batch * s.kv_heads, S, d),
        }
        core = _ours(kit, "attention", "attention_prefill", "attention_prefill", **shapes)
    else:
        caches = s.job.batch * s.kv_heads
        shapes = {
            "q": _tensor(caches, d, group),
            "k": _tensor(caches, d, s.cached),
            "v": _tensor(caches, s.cached, d),
        }
        core = _ours(kit, "attention", "attention_decode", "attention_decode", **shapes)
    return [
        _norm(kit, T, s.wide),
        _product(kit, "QKV", T, s.wide, d * (s.heads + 2 * s.kv_heads)),
        _positions(kit, s),
        core,
        _product(kit, "output projection", T, s.heads * d, s.wide),
    ]


# the feed-forward block
# ----------------------------------------------------------------------------------------------------------------------


def library_mlp(kit: Kit, s: RankLayer) -> list[Call]:
    """Norm and a gated feed-forward network by nki-library; it chooses its kernels for few or many tokens itself."""
    words, H, ffn = kit.find("common_types"), s.wide, s.ffn
    bias = {f"{name}_proj_bias_tensor": _tensor(1, n) for name, n in (("gate", ffn), ("up", ffn), ("down", H))}
    return [
        _theirs(
            kit,
            "norm and MLP",
            "mlp",
            "mlp",
            hidden_tensor=_tensor(s.job.batch, s.job.prompt, H),
            gate_proj_weights_tensor=_tensor(H, ffn),
            up_proj_weights_tensor=_tensor(H, ffn),
            down_proj_weights_tensor=_tensor(ffn, H),
            normalization_weights_tensor=_tensor(1, H),
            normalization_type=words.NormType.RMS_NORM,
            **(bias if s.has_ffn_bias else {}),
        )
    ]


def our_mlp(kit: Kit, s: RankLayer) -> list[Call]:
    """Norm, then a gated feed-forward network."""
    return [_norm(kit, s.job.tokens, s.wide), _swiglu(kit, "MLP", s, s.ffn)]


def _swiglu(kit: Kit, part: str, s: RankLayer, ffn: int) -> Call:
    H, F = s.wide, padded(ffn, TILE_WIDTH * s.job.lnc)
    shapes = {"w_gate": _tensor(H, F), "w_up": _tensor(H, F), "w_down": _tensor(F, H)}
    return _ours(kit, part, "swiglu_mlp", "swiglu_mlp", xT=_tensor(H, s.job.tokens), **shapes)


def moe_block(kit: Kit, s: RankLayer) -> list[Call]:
    """Norm, router and experts of new tokens as one kernel of nki-library, which wants the two cores of a logical
    core."""
    words = kit.find("common_types")
    H, E = s.wide, s.experts
    return [
        _theirs(
            kit,
            "norm, router, experts",
            "moe_block_tkg",
            "moe_block_tkg",
            inp=_tensor(s.job.batch, 1, H),
            gamma=_tensor(1, H),
            router_weights=_tensor(H, E),
            router_bias=_tensor(1, E) if s.has_ffn_bias else None,
            top_k=s.top_k,
            router_act_fn=words.RouterActFnType.SOFTMAX,
            router_pre_norm=not s.has_ffn_bias,
            norm_topk_prob=not s.has_ffn_bias,
            hidden_actual=s.hidden,
            **_expert_weights(kit, s),
            **_by_expert(s),
        )
    ]


def _expert_weights(kit: Kit, s: RankLayer) -> dict[str, object]:
    H, E, ffn = s.wide, s.experts, s.ffn
    return {
        "expert_gate_up_weights": _tensor(E, H, 2, ffn),
        "expert_down_weights": _tensor(E, ffn, H),
        "expert_gate_up_bias": _tensor(E, 2, ffn) if s.has_ffn_bias else None,
        "expert_down_bias": _tensor(E, H) if s.has_ffn_bias else None,
        "expert_affinities_scaling_mode": kit.find("common_types").ExpertAffinityScaleMode.POST_SCALE,
    }


def _by_expert(s: RankLayer) -> dict[str, object]:
    """Whether the library goes through all experts or, where tokens choose fewer than there are, through the chosen
    ones of each token."""
    every = s.job.tokens * s.top_k >= s.experts
    return {"is_all_expert": every, "rank_id": _tensor(1, 1, dtype="uint32") if every else None}


def library_experts(kit: Kit, s: RankLayer) -> list[Call]:
    """Our norm and router, then the experts of new tokens by nki-library: on a core alone."""
    T, E = s.job.tokens, s.experts
    return [
        *_routed(kit, s),
        _theirs(
            kit,
            "experts",
            "moe_tkg",
            "moe_tkg",
            hidden_input=_tensor(T, s.wide),
            expert_affinities=_tensor(T, E, dtype="float32"),
            expert_index=_tensor(T, s.top_k, dtype="uint32"),
            **_expert_weights(kit, s),
            **_by_expert(s),
        ),
    ]


def _routed(kit: Kit, s: RankLayer) -> list[Call]:
    T, E = s.job.tokens, s.experts
    return [
        _norm(kit, T, s.wide),
        _product(kit, "router", T, s.wide, E),
        _ours(kit, "choice of experts", "route", "route", logits=_tensor(T, E, dtype="float32"), k=s.top_k),
    ]


def our_experts(kit: Kit, s: RankLayer) -> list[Call]:
    """Norm, router, then two products of each expert that tokens choose, its tokens spread evenly."""
    one, pairs = np.ones(1), float(s.job.tokens)
    used = max(1, round(float(active_experts(one * s.experts, one * s.top_k, one * pairs)[0])))
    rows = math.ceil(pairs * s.top_k / used)
    wide = padded(s.ffn, TILE_WIDTH)

    def each(part: str, k: int, n: int) -> Call:
        shapes = {"lhsT": _tensor(used, k, rows), "rhs": _tensor(used, k, n)}
        return _ours(kit, part, "matmul", "grouped_matmul", **shapes)

    return [*_routed(kit, s), each("experts, gate and up", s.wide, 2 * s.ffn), each("experts, down", wide, s.wide)]


def shared_expert(kit: Kit, s: RankLayer) -> list[Call]:
    """The expert that every token takes."""
    return [_swiglu(kit, "shared expert", s, s.shared_ffn)]


# between layers, and after them
# ----------------------------------------------------------------------------------------------------------------------


def residual(kit: Kit, s: RankLayer) -> list[Call]:
    """A block's output added to the residual stream."""
    shape = (s.job.tokens, s.wide)
    return [_ours(kit, "residual", "add", "add", x=_tensor(*shape), y=_tensor(*shape))]


def head_calls(kit: Kit, job: LayerJob, hidden: int, vocab: int) -> list[Call]:
    """Last norm, output matrix of the last token of each sequence, and its largest elements: greedy sampling. vocab: of
    this rank."""
    wide, B, columns = padded(hidden, 2 * TILE_WIDTH), job.batch, max(8, math.ceil(vocab / TILE_WIDTH))
    return [
        _norm(kit, B, wide, "last norm"),
        _product(kit, "head", B, wide, vocab),
        _ours(kit, "sampling: each partition", "route", "largest", x=_tensor(B * TILE_WIDTH, columns, dtype="float32")),
        _ours(kit, "sampling: of those", "route", "largest", x=_tensor(B, TILE_WIDTH, dtype="float32")),
    ]


def mixer_builders(kit: Kit, s: RankLayer) -> tuple[Builder, ...]:
    """What can do the mixer, the one to prefer first."""
    theirs: tuple[Builder, ...] = ()
    if kit.has_library():
        theirs = (prompt_attention,) if s.job.prefill else (attention_block,) if s.kv_heads == 1 else ()
    return (*theirs, our_attention)


def kit_lacks_block(kit: Kit, s: RankLayer) -> bool:
    """Whether a library was named and its attention block does not take this rank's heads."""
    return kit.has_library() and not s.job.prefill and s.kv_heads > 1


def ffn_builders(kit: Kit, s: RankLayer) -> tuple[Builder, ...]:
    """What can do the feed-forward block, the one to prefer first."""
    if not s.experts:
        return (library_mlp, our_mlp) if kit.has_library() else (our_mlp,)
    if not kit.has_library() or s.job.prefill:
        return (our_experts,)
    return (moe_block, our_experts) if s.job.lnc == 2 else (library_experts, our_experts)
