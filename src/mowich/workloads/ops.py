"""The matrix multiplications of one layer, forward, unsharded, and how tensor parallelism splits each.

This is where a layer's shapes become work. Bytes, times and chips are elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mowich.workloads.model import Attention, Layer, Mlp, Moe

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """out[m, n] = in[m, k] x weight[k, n]; m is the token count of the caller.

    split: which of n, k tensor parallelism divides ("none": replicated, and sequence parallelism divides m).
    granule: the smallest local n (one key-value head is replicated, not cut). fused: n of further matrices that
    share the input and run in the same call, as (n, granule).
    """

    name: str
    n: int
    k: int
    split: Literal["n", "k", "none"] = "n"
    granule: int = 1
    fused: tuple[tuple[int, int], ...] = ()

    def local(self, tp: Floats) -> tuple[Floats, Floats]:
        """(n, k) on one of tp ranks."""
        if self.split == "k":
            return np.full_like(tp, float(self.n)), self.k / tp
        if self.split == "none":
            return np.full_like(tp, float(self.n)), np.full_like(tp, float(self.k))
        n = np.maximum(self.n / tp, self.granule)
        for size, granule in self.fused:
            n = n + np.maximum(size / tp, granule)
        return n, np.full_like(tp, float(self.k))


def attention_gemms(a: Attention, hidden: int) -> tuple[Gemm, ...]:
    """Projections of one attention block: fused q, k, v and the output, or the low-rank chain of MLA."""
    if a.kind == "gqa":
        return (
            Gemm(name="qkv", n=a.num_heads * a.head_dim, k=hidden, granule=a.head_dim,
                 fused=((a.kv_width, a.kv_width // a.num_kv_heads),)),
            Gemm(name="attn_out", n=hidden, k=a.num_heads * a.v_head_dim, split="k"),
        )  # fmt: skip
    nope = a.head_dim - a.rope_head_dim
    down = Gemm(name="kv_down", n=a.kv_lora + a.rope_head_dim, k=hidden, split="none")
    query: tuple[Gemm, ...] = (Gemm(name="q", n=a.num_heads * a.head_dim, k=hidden),)
    if a.q_lora is not None:
        query = (
            Gemm(name="q_down", n=a.q_lora, k=hidden, split="none"),
            Gemm(name="q_up", n=a.num_heads * a.head_dim, k=a.q_lora),
        )
    return (
        *query,
        down,
        Gemm(name="kv_up", n=a.num_heads * (nope + a.v_head_dim), k=a.kv_lora),
        Gemm(name="attn_out", n=hidden, k=a.num_heads * a.v_head_dim, split="k"),
    )


def mlp_gemms(ffn: int, gated: bool, hidden: int, prefix: str = "mlp") -> tuple[Gemm, ...]:
    """Gate and up in one call, then down."""
    return (
        Gemm(name=f"{prefix}_up", n=ffn * (2 if gated else 1), k=hidden),
        Gemm(name=f"{prefix}_down", n=hidden, k=ffn, split="k"),
    )


def dense_gemms(layer: Layer, hidden: int) -> tuple[Gemm, ...]:
    """Every GEMM of the layer that all tokens take: attention, dense or shared feed-forward, router."""
    gemms = attention_gemms(layer.attention, hidden)
    if layer.extra_matmul_params:
        gemms += (Gemm(name="extra", n=layer.extra_matmul_params // hidden, k=hidden),)
    if isinstance(layer.ffn, Mlp):
        return gemms + mlp_gemms(layer.ffn.ffn, layer.ffn.gated, hidden)
    gemms += (Gemm(name="router", n=layer.ffn.num_experts, k=hidden, split="none"),)
    if layer.ffn.shared_ffn:
        gemms += mlp_gemms(layer.ffn.shared_ffn, layer.ffn.gated, hidden, "shared")
    return gemms


def attention_width(a: Attention) -> float:
    """q: attention core width, heads x (qk + v head size) / 2; forward FLOP = 4 x tokens x context x q."""
    return a.num_heads * (a.head_dim + a.v_head_dim) / 2.0


def kv_width(a: Attention) -> float:
    """Elements of keys (or values) that one token adds before sharding, mean of the two."""
    if a.kind == "mla":
        return attention_width(a)
    return a.num_kv_heads * (a.head_dim + a.v_head_dim) / 2.0


def ffn_width(ffn: Mlp | Moe) -> tuple[float, int]:
    """(width of the feed-forward that every token takes, 0 if none; gates + 1 matrices' outputs per token)."""
    outputs = 2 if ffn.gated else 1
    return (float(ffn.ffn) if isinstance(ffn, Mlp) else float(ffn.shared_ffn)), outputs
