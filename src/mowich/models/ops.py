"""The matrix multiplications of one layer, forward, unsharded, and how tensor parallelism splits each.

This is where a layer's shapes become work. Bytes, times and chips are elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.models.model import Attention, Layer, Mlp, Moe, Recurrent


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
    """Projections of one attention block: fused q, k, v (and gate) and the output, or the low-rank chains of latent and
    compressed attention. Compressors and indexers are small and whole on every rank."""
    if not a.num_heads:
        return ()
    out: tuple[Gemm, ...] = (Gemm(name="attn_out", n=hidden, k=a.out_width, split="k"),)
    if a.o_lora:
        out = (
            Gemm(name="out_down", n=a.o_groups * a.o_lora, k=a.out_width // a.o_groups),
            Gemm(name="out_up", n=hidden, k=a.o_groups * a.o_lora, split="k"),
        )
    gate = ((a.out_gate, 1),) if a.out_gate else ()
    if a.kind == "gqa" and a.q_lora is None:
        kv = ((a.kv_width, a.kv_width // a.num_kv_heads),)
        chain: tuple[Gemm, ...] = (Gemm(name="qkv", n=a.q_width, k=hidden, granule=a.head_dim, fused=(*kv, *gate)),)
    else:
        if a.q_lora is None:
            chain = (Gemm(name="q", n=a.q_width, k=hidden),)
        else:
            chain = (
                Gemm(name="q_down", n=a.q_lora, k=hidden, split="none"),
                Gemm(name="q_up", n=a.q_width, k=a.q_lora),
            )
        if a.kind == "mla":
            nope = a.head_dim - a.rope_head_dim
            chain += (
                Gemm(name="kv_down", n=a.kv_lora + a.rope_head_dim, k=hidden, split="none"),
                Gemm(name="kv_up", n=a.num_heads * (nope + a.v_head_dim), k=a.kv_lora),
            )
        else:
            chain += (Gemm(name="kv", n=a.kv_width, k=hidden, granule=a.kv_width // a.num_kv_heads),)
        if a.out_gate:
            chain += (Gemm(name="out_gate", n=a.out_gate, k=hidden),)
    return chain + _sparse_gemms(a, hidden) + out


def _sparse_gemms(a: Attention, hidden: int) -> tuple[Gemm, ...]:
    """Projections of the compressor and of the indexer."""
    gemms: tuple[Gemm, ...] = ()
    if a.compressor:
        columns = a.compressor.matmul_params(hidden, a.head_dim) // hidden
        gemms += (Gemm(name="compress", n=columns, k=hidden, split="none"),)
    i = a.indexer
    if i is None or i.shared:
        return gemms
    query = i.num_heads * i.head_dim
    keys = (i.matmul_params(hidden, a.compressor) - (i.query_in or hidden) * query) // hidden
    return (
        *gemms,
        Gemm(name="index_q", n=query, k=i.query_in or hidden, split="none"),
        Gemm(name="index_k", n=keys, k=hidden, split="none"),
    )


def recurrent_gemms(r: Recurrent, hidden: int) -> tuple[Gemm, ...]:
    """Projections of a recurrent mixer: everything that comes from the hidden state in one call, low ranks, the
    output."""
    low = tuple(
        gemm
        for i, (rank, columns) in enumerate(r.low_rank_params)
        for gemm in (
            Gemm(name=f"low_down{i}", n=rank, k=hidden, split="none"),
            Gemm(name=f"low_up{i}", n=columns, k=rank),
        )
    )
    return (
        Gemm(name="mixer_in", n=r.in_width, k=hidden),
        *low,
        Gemm(name="mixer_out", n=hidden, k=r.value_width, split="k"),
    )


def mixer_gemms(layer: Layer, hidden: int) -> tuple[Gemm, ...]:
    """Projections of the layer's mixer, whichever kind it is."""
    r = layer.recurrent
    return attention_gemms(layer.attention, hidden) if r is None else recurrent_gemms(r, hidden)


def mlp_gemms(ffn: int, gated: bool, hidden: int, prefix: str = "mlp") -> tuple[Gemm, ...]:
    """Gate and up in one call, then down."""
    return (
        Gemm(name=f"{prefix}_up", n=ffn * (2 if gated else 1), k=hidden),
        Gemm(name=f"{prefix}_down", n=hidden, k=ffn, split="k"),
    )


@lru_cache(maxsize=1024)
def dense_gemms(layer: Layer, hidden: int) -> tuple[Gemm, ...]:
    """Every GEMM of the layer that all tokens take: mixer, dense or shared feed-forward, router, latent projections."""
    gemms = mixer_gemms(layer, hidden)
    if layer.extra_matmul_params:
        gemms += (Gemm(name="extra", n=layer.extra_matmul_params // hidden, k=hidden),)
    f = layer.ffn
    if isinstance(f, Mlp):
        return gemms + mlp_gemms(f.ffn, f.gated, hidden) if f.ffn else gemms
    gemms += (Gemm(name="router", n=f.num_experts + f.shared_gate, k=hidden, split="none"),)
    if f.latent:
        gemms += (
            Gemm(name="latent_down", n=f.latent, k=hidden, split="none"),
            Gemm(name="latent_up", n=hidden, k=f.latent, split="none"),
        )
    if f.shared_ffn:
        gemms += mlp_gemms(f.shared_ffn, f.gated, hidden, "shared")
    return gemms


def attention_width(a: Attention) -> float:
    """q: attention core width, heads x (qk + v head size) / 2; forward FLOP = 4 x tokens x context x q."""
    return a.num_heads * (a.head_dim + a.v_head_dim) / 2.0


def kv_width(a: Attention) -> float:
    """Elements of keys (or values) that one token adds before sharding, mean of the two."""
    if a.kind == "mla":
        return attention_width(a)
    return a.num_kv_heads * (a.head_dim + a.v_head_dim) / 2.0


def mixer_width(layer: Layer) -> float:
    """Elements that the mixer keeps or moves per token before sharding: q and twice `kv_width`, or what a recurrence
    projects."""
    r = layer.recurrent
    if r is not None:
        return float(r.in_width)
    return attention_width(layer.attention) + 2.0 * kv_width(layer.attention)


def ffn_width(ffn: Mlp | Moe) -> tuple[float, int]:
    """(width of the feed-forward that every token takes, 0 if none; gates + 1 matrices' outputs per token)."""
    outputs = 2 if ffn.gated else 1
    return (float(ffn.ffn) if isinstance(ffn, Mlp) else float(ffn.shared_ffn)), outputs
