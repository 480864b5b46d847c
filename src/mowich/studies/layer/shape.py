"""What one rank of a tensor-parallel group has of a decoder layer: plain numbers that kernels are called with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.models.attention import Attention
from mowich.models.ffn import Mlp, Moe
from mowich.models.model import Layer, Model

TILE_WIDTH = 128
"""Partitions of SBUF: kernels take whole tiles of so many features and tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerJob:
    """What is asked of a model. tp: ranks; lnc: cores of a rank; batch: sequences; context: tokens of each sequence, in
    its cache or in its prompt; prefill: a prompt, else one new token of each sequence."""

    tp: int
    lnc: int
    batch: int
    context: int
    prefill: bool

    @property
    def phase(self) -> str:
        """ "prefill" or "decode"."""
        return "prefill" if self.prefill else "decode"

    @property
    def tokens(self) -> int:
        """Tokens that go through the layer."""
        return self.batch * (self.context if self.prefill else 1)

    @property
    def prompt(self) -> int:
        """Tokens of one sequence that go through the layer."""
        return self.context if self.prefill else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLayer:
    """A layer on one rank, in elements. hidden: of the model; heads, kv_heads: of this rank; cached: tokens that a
    query reads; ffn, shared_ffn: width of a feed-forward network, or of one expert, on this rank; experts: 0
    without."""

    job: LayerJob
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    cached: int
    has_qk_norm: bool
    has_qkv_bias: bool
    has_out_bias: bool
    has_sinks: bool
    ffn: int
    shared_ffn: int
    experts: int
    top_k: int
    has_ffn_bias: bool

    @property
    def wide(self) -> int:
        """The hidden width in whole tiles of two cores, as kernels get it: padded where the model's is not."""
        return padded(self.hidden, 2 * TILE_WIDTH)

    @property
    def rows(self) -> int:
        """Heads of queries and keys of all tokens: what rotary positions turn."""
        return self.job.tokens * (self.heads + self.kv_heads)


def padded(count: int, whole: int) -> int:
    """The next multiple."""
    return math.ceil(count / whole) * whole


def rank_layer(layer: Layer, job: LayerJob) -> RankLayer:
    """One rank's part of a layer. `check_split` has checked the degrees."""
    a, f = layer.attention, layer.ffn
    moe = f if isinstance(f, Moe) else None
    seen = min(job.context, a.window or job.context)
    return RankLayer(
        job=job,
        hidden=layer.hidden,
        heads=a.num_heads // job.tp,
        kv_heads=max(1, a.num_kv_heads // job.tp) if a.num_heads else 0,
        head_dim=a.head_dim,
        cached=padded(seen, 2 * TILE_WIDTH),
        has_qk_norm=a.qk_norm != "none",
        has_qkv_bias=a.qkv_bias,
        has_out_bias=a.out_bias,
        has_sinks=a.sinks,
        ffn=f.ffn // job.tp,
        shared_ffn=moe.shared_ffn // job.tp if moe else 0,
        experts=moe.num_experts if moe else 0,
        top_k=moe.top_k if moe else 0,
        has_ffn_bias=f.bias,
    )


def check_split(model: Model, tp: int) -> None:
    """Raise UserError where tp does not divide the heads and the widths of a model."""
    for layer in model.layers:
        for what, count in _cut(layer):
            if count % tp:
                legal = [t for t in (1, 2, 4, 8, 16, 32, 64, 128) if all(c % t == 0 for _, c in _cut(layer))]
                raise UserError(
                    f"--tp {tp} does not divide {what} of {model.name}", given=count, allowed=f"tp of {legal}"
                )
        kv = layer.attention.num_kv_heads
        if layer.attention.kind == "gqa" and kv and kv % tp and tp % kv:
            raise UserError(f"--tp {tp} and the {kv} key-value heads of {model.name}: one must divide the other")


def _cut(layer: Layer) -> list[tuple[str, int]]:
    """What tensor parallelism cuts."""
    f = layer.ffn
    out = [("the query heads", layer.attention.num_heads), ("the feed-forward width", f.ffn)]
    return [*out, ("the width of the shared expert", f.shared_ffn)] if isinstance(f, Moe) else out


def odd_mixer(layer: Layer) -> str:
    """Why no kernel does the mixer of a layer; "" where one does."""
    a: Attention = layer.attention
    if layer.traced:
        return f"a block as it was captured ({layer.traced.module})"
    if layer.recurrent is not None:
        return "a recurrence"
    if a.kind != "gqa":
        return "latent attention (MLA)"
    if a.indexer is not None or a.compressor is not None:
        return "sparse attention"
    if a.v_head_dim != a.head_dim or a.head_dim > TILE_WIDTH:
        return f"heads of {a.head_dim} and {a.v_head_dim}"
    if a.shares_kv or a.k_is_v or a.out_gate or a.o_lora or not a.causal or a.qk_norm == "full":
        return "attention of another form"
    return "" if layer.streams == 1 else "several residual streams"


def odd_ffn(layer: Layer) -> str:
    """Why no kernel does the feed-forward block of a layer; "" where one does."""
    f: Mlp | Moe = layer.ffn
    if layer.traced:
        return odd_mixer(layer)
    if not f.gated:
        return "a feed-forward network without a gate"
    if isinstance(f, Moe) and (f.latent or f.groups > 1 or f.top_k > 8):
        return "experts that are chosen in another way"
    return "" if layer.streams == 1 else "several residual streams"
