"""The operators of one layer: what a training step and an engine step are sums over.

A layer has matrix products, an attention core or a recurrence, passes over memory between them, experts, and exchanges
between ranks. `products`, `core`, `stream` and `exchanges` list what one rank does of them with the tokens of a
micro-batch, forward; `backward_times` says how often the backward pass does the same again. `serving` lists the same
layer for an engine, whose prefill and decode steps hold other numbers of tokens: work per token and per context token,
and weights that are read once a step. No times, no rates: `operators.law` has those.

Symbols: t tokens of a rank, h hidden width. Degrees and tokens are columns [n], one row a plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.models import ops
from mowich.models.model import NO_ATTENTION, Attention, Layer, Moe, Traced
from mowich.models.traced import EACH_TOKEN, ONE_SEQUENCE, groups, row_count, rows_per_token
from mowich.operators.law import Sides

OperatorKind = Literal["product", "attention", "scan", "stream", "experts", "routing", "exchange"]
OperandFormat = Literal["recipe", "16 bit"]

BACKWARD: dict[OperatorKind, float] = {"product": 2.0, "experts": 2.0, "stream": 2.0, "routing": 2.0, "exchange": 1.0}
"""How often the backward pass does the work of the forward pass: a product twice, for the gradients of its input and of
its weight, and so what moves with it. Attention, quantisation and launches have constants of their software instead."""


def backward_times(kind: OperatorKind, *, is_frozen: bool = False) -> float:
    """How often backward does the forward's work of a kind. is_frozen: no weight gradients are asked for."""
    return 1.0 if is_frozen and kind in ("product", "experts") else BACKWARD[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one rank has of a layer's work. tokens: of a micro-batch; split_tokens: of those, where sequence parallelism
    splits them; seq: tokens of a sequence; attended: of a document in it; element_B: bytes between products; tp, cp:
    degrees; is_split: 1 where sequence parallelism is on."""

    tokens: Floats
    split_tokens: Floats
    seq: float
    attended: float
    element_B: float
    tp: Floats
    cp: Floats
    is_split: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """out[m, n] = in[m, k] x weight[k, n] on one rank. gemm: the matrix before it is split; inputs: elements that are
    cast to the format of the recipe."""

    gemm: ops.Gemm
    m: Floats
    n: Floats
    k: Floats
    format: OperandFormat
    kind: OperatorKind = "product"

    @property
    def inputs(self) -> Floats:
        return np.asarray(self.m * self.k if self.format == "recipe" and self.gemm.casts else 0.0 * self.m)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCore:
    """An attention core, or the scan of a recurrence, forward. flop: of a fused kernel, causal halves left out;
    square_flop: of the full square; scores: elements of the full square, which an unfused kernel writes and reads;
    moved: elements that a scan's kernels move; attended: tokens of its sequences; attention: its heads and widths,
    where tokens attend to one another; ranks: that share them; module: its name in the user's code; is_unfused: whether
    that code writes its scores; is_masked: whether it takes a dense mask."""

    flop: Floats
    square_flop: Floats
    scores: Floats
    moved: Floats
    attended: float
    is_causal: bool
    has_sinks: bool
    kind: OperatorKind
    attention: Attention
    ranks: Floats
    module: str = ""
    is_unfused: bool = False
    is_masked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Passes over memory between products. bytes_: read and written in one pass; most: passes that software makes at
    the most, where it is known what one operation after another moves; norm_elements: of them those of norms, with
    their rows, columns and number."""

    bytes_: Floats
    norm_elements: Floats
    rows: Floats
    columns: float
    norms: float
    most: float | None = None
    kind: OperatorKind = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Bytes that ranks of a group exchange, whole; count: how often in a forward pass."""

    group: Literal["tp", "cp"]
    bytes_: Floats
    count: float
    kind: OperatorKind = "exchange"


def products(layer: Layer, hidden: int, share: Share) -> tuple[Product, ...]:
    """The products that every token takes; the router's in 16 bit."""
    out = []
    for gemm in ops.dense_gemms(layer, hidden):
        n, k = gemm.local(share.tp)
        m = gemm.m(share.split_tokens if gemm.split == "none" else share.tokens, share.seq, share.cp)
        out.append(Product(gemm=gemm, m=m, n=n, k=k, format="16 bit" if gemm.name == "router" else "recipe"))
    return tuple(out)


def is_last(product: Product, layer: Layer) -> bool:
    """Whether nothing in a layer needs the output of one of its products to compute gradients: it is only added to the
    residual stream. The last products of experts are not among `products`."""
    if isinstance(layer.ffn, Moe):
        return product.gemm.name in ("shared_down", "latent_up")
    if layer.traced:
        return product.gemm.group == "mlp_down" and product.gemm.name == layer.traced.products[-1].module
    return product.gemm.name == "mlp_down"


def cores(layer: Layer, share: Share) -> tuple[AttentionCore, ...]:
    """The attention core of a layer, or its recurrence; all of them of a captured block."""
    if layer.traced:
        return _traced_cores(layer.traced, share)
    a, r, t = layer.attention, layer.recurrent, share.tokens
    zero = 0.0 * t
    per_token = a.core_flop_per_token(share.attended) if r is None else r.chunked_flop_per_token()
    only = AttentionCore(
        flop=per_token * t / share.tp,
        square_flop=4.0 * t * share.seq * ops.attention_width(a) / share.tp,
        scores=t * share.seq * a.num_heads / share.tp,
        moved=zero if r is None else r.core_elements * t / share.tp,
        attended=share.attended,
        is_causal=a.causal,
        has_sinks=bool(a.sinks),
        kind="attention" if r is None else "scan",
        attention=a,
        ranks=share.tp,
    )
    return (only,)


def _traced_cores(traced: Traced, share: Share) -> tuple[AttentionCore, ...]:
    t, out = share.tokens, list[AttentionCore]()
    for core in traced.cores:
        a, ranks = core.attention, share.tp if traced.is_split(core) else np.ones_like(share.tp)
        squares = t * core.queries_per_token(share.seq) * row_count(core.keys, share.seq) / ranks
        is_plain = core.queries == core.keys == EACH_TOKEN and core.sequences == ONE_SEQUENCE
        is_plain = is_plain and not (core.is_unfused or core.is_masked)
        out.append(
            AttentionCore(
                flop=core.flop_per_token(share.attended) * t / ranks,
                square_flop=4.0 * squares * ops.attention_width(a),
                scores=squares * a.num_heads,
                moved=0.0 * t,
                attended=row_count(core.keys, share.attended),
                is_causal=a.causal,
                has_sinks=bool(a.sinks),
                kind="attention",
                attention=a if is_plain else NO_ATTENTION,
                ranks=ranks,
                module=core.module,
                is_unfused=core.is_unfused,
                is_masked=core.is_masked,
            )
        )
    for scan in traced.scans:
        ranks = share.tp if traced.is_split(scan) else np.ones_like(share.tp)
        out.append(
            AttentionCore(
                flop=scan.flop * t / ranks,
                square_flop=0.0 * t,
                scores=0.0 * t,
                moved=scan.moved * t / ranks,
                attended=share.attended,
                is_causal=True,
                has_sinks=False,
                kind="scan",
                attention=NO_ATTENTION,
                ranks=ranks,
                module=scan.module,
            )
        )
    return tuple(out)


def stream(layer: Layer, hidden: float, share: Share, *, is_eager: bool = False) -> Stream:
    """What norms, residuals, activation functions and rotary embeddings move.

    bytes = b t (blocks (5 + 4 streams) h' + 3 (q + 2 kv) / tp + outputs ffn / tp), h' = h, or h / tp where sequence
    parallelism splits it; 4 streams only where there are several.
    Of a captured block it is what was counted in its code; is_eager: one operation after another.
    """
    if layer.traced:
        return _traced_stream(layer.traced, hidden, share, is_eager)
    width, outputs = ops.ffn_width(layer.ffn)
    t = share.tokens
    h = np.where(share.is_split > 0, hidden / share.tp, hidden)
    residual = layer.blocks * (5.0 + (4.0 * layer.streams if layer.streams > 1 else 0.0))
    elements = residual * h + 3.0 * ops.mixer_width(layer) / share.tp + outputs * width / share.tp
    return Stream(
        bytes_=share.element_B * t * elements,
        norm_elements=2.0 * layer.blocks * t * h,
        rows=share.split_tokens,
        columns=hidden,
        norms=float(layer.blocks),
    )


_RESIDUAL = 5.0
"""Passes over the residual stream in a block: its norm reads and writes it, the addition reads two and writes one."""


def _traced_stream(traced: Traced, hidden: float, share: Share, is_eager: bool) -> Stream:
    """What lies at the width of the residual stream is split where tokens are, the rest as the outputs of products
    are."""
    h = np.where(share.is_split > 0, hidden / share.tp, hidden)
    rows = traced.moved_eager if is_eager and any(traced.moved_eager) else traced.moved
    fused, counted = (rows_per_token(r, share.seq / share.cp) for r in (traced.moved, rows))
    residual = np.minimum(_RESIDUAL * traced.blocks * hidden, fused)
    spread = np.where(share.is_split > 0, share.tp, 1.0)
    split = ops.split_share(traced)
    elements = residual / spread + (fused - residual) * (split / share.tp + (1.0 - split) / spread)
    elements = elements * (counted / np.maximum(fused, 1e-30))
    eager = rows_per_token(traced.moved_eager, share.seq)
    most = eager / max(rows_per_token(rows, share.seq), 1e-30) if eager else None
    return Stream(
        bytes_=share.element_B * share.tokens * elements,
        norm_elements=np.minimum(2.0 * traced.norms * share.tokens * h, share.tokens * elements),
        rows=share.split_tokens,
        columns=hidden,
        norms=float(traced.norms),
        most=most,
    )


def exchanges(layer: Layer, hidden: float, share: Share) -> tuple[Exchange, Exchange]:
    """(tensor parallel: activations after the mixer and after the dense feed-forward; context parallel: keys and
    values). Those of experts depend on where they are sent: `training.layer`."""
    width, _ = ops.ffn_width(layer.ffn)
    kv = np.maximum(ops.exchanged_kv(layer, share.seq) / share.tp, 1.0)
    reduced = ops.reductions(layer.traced, hidden, share.seq) if layer.traced else float(layer.has_mixer)
    return (
        Exchange(group="tp", bytes_=2.0 * share.tokens * hidden, count=reduced + float(width > 0)),
        Exchange(group="cp", bytes_=2.0 * 2.0 * share.tokens * kv * share.cp, count=1.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: number, chosen per token, parameters of one, columns between its matrices (ffn), width of
    the tokens that it sees."""

    number: float
    top_k: float
    params: float
    ffn: float
    width: float
    kind: OperatorKind = "experts"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReads:
    """What an attention core reads of its cache. elements: per token and rank; window: tokens that a step reads at the
    most; held: tokens that stay in memory at the most; decode_flop, prefill_flop: per pair of a query token and a
    context token; heads, cached: of queries and of keys on a rank; dim: their width, 0 where it is not plain
    grouped-query attention, which kernels are timed for."""

    elements: Floats
    window: Floats
    held: Floats
    decode_flop: Floats
    prefill_flop: Floats
    heads: Floats
    cached: Floats
    dim: float
    kind: OperatorKind = "attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A layer under an engine, on one rank. products: of every token; sides: of those, whose weights are read once a
    step; not_held: of their weights those that memory does not hold again; caches; state_B: bytes that a recurrence
    keeps of a sequence; scan_flop: of a prompt token; experts: None
    without; blocks: launches, in halves of a layer; kernels: of a step; uncaptured: more of a step with a prompt, which
    no graph holds."""

    products: tuple[ops.Gemm, ...]
    sides: Sides
    not_held: Floats
    caches: tuple[CacheReads, ...]
    state_B: Floats
    scan_flop: Floats
    experts: Experts | None
    blocks: float
    kernels: float
    uncaptured: float


def serving(layer: Layer, hidden: int, tp: Floats, cache_B: Floats) -> Serving:
    """The operators of a layer for prefill and decode. cache_B: bytes of an element of the cache. Of a captured block
    what it computes of each token: what has a fixed number of rows is left out, and its weights are held."""
    zero = 0.0 * tp
    sides, not_held, f = Sides.of(zero, zero, 0.0), zero, layer.ffn
    state_B, scan_flop = _scanned(layer, tp)
    products = ops.dense_gemms(layer, hidden)
    for gemm in products:
        n, k = gemm.local(tp)
        sides = sides + Sides.of(zero + n, zero + k, gemm.rows[1])
        if gemm.rows != EACH_TOKEN or not gemm.is_held:
            not_held = not_held + n * k * (gemm.rows[1] - float(gemm.is_held))
    return Serving(
        products=products,
        sides=sides,
        not_held=not_held,
        caches=_traced_caches(layer.traced, tp, cache_B) if layer.traced else caches(layer.attention, tp, cache_B),
        state_B=state_B,
        scan_flop=scan_flop,
        experts=Experts(
            number=f.num_experts,
            top_k=f.top_k,
            params=f.expert_params(hidden),
            ffn=float(f.ffn),
            width=float(f.width(hidden)),
        )
        if isinstance(f, Moe)
        else None,
        blocks=float(layer.blocks),
        kernels=kernels(layer),
        uncaptured=_uncaptured(layer),
    )


def _scanned(layer: Layer, tp: Floats) -> tuple[Floats, Floats]:
    """(bytes of state of a sequence, FLOP of a prompt token) of the recurrences of a layer on one rank."""
    state, flop = 0.0 * tp, 0.0 * tp
    if layer.recurrent:
        return layer.state_bytes() / tp, layer.recurrent.chunked_flop_per_token() / tp
    for scan in layer.traced.scans if layer.traced else ():
        ranks = tp if layer.traced and layer.traced.is_split(scan) else np.ones_like(tp)
        state = state + (4.0 * scan.state_elements + 2.0 * scan.conv_elements) / ranks
        flop = flop + scan.flop / ranks
    return state, flop


_KERNELS = {
    "layer": 10.0,
    "mlp": 2.0,
    "experts": 6.0,
    "shared": 3.0,
    "mla": 6.0,
    "qk_norm": 2.0,
    "indexer": 12.0,
    "recurrent": 7.0,
}
"""Kernels that an engine launches for a layer of two blocks, with the products of its mlp among them, and what each
feature adds: counted in the model code of public engines, alike in all of them."""

_UNCAPTURED = {"attention": 2.0, "recurrent": 20.0}
"""Kernels of a prompt's tokens that engines launch one by one for a layer even where they capture steps with prompts:
of attention (cache, attention), and of the scan of a recurrence by chunks (convolution, gates, products and inverses
of a chunk, states, copies). Counted in the model code of public engines."""


def _uncaptured(layer: Layer) -> float:
    scans = len(layer.traced.scans) if layer.traced else int(layer.recurrent is not None)
    return _UNCAPTURED["recurrent"] * scans + _UNCAPTURED["attention"] * len(layer.attentions)


def kernels(layer: Layer) -> float:
    """Kernels that an engine launches for a layer in a step.

    >>> from mowich.models import builtin
    >>> [kernels(builtin.builtin(name).layers[-1]) for name in ("llama-3.1-70b", "qwen3-30b-a3b")]
    [10.0, 18.0]
    """
    a, f = layer.attention, layer.ffn
    count = _traced_kernels(layer.traced) if layer.traced else _KERNELS["layer"] * layer.blocks / 2.0
    if isinstance(f, Moe):
        count += _KERNELS["mlp"] if layer.traced else 0.0
        count += _KERNELS["experts"] + (_KERNELS["shared"] if f.shared_ffn else 0.0)
    if layer.traced:
        return count
    if layer.recurrent is not None:
        return count + _KERNELS["recurrent"]
    if not a.num_heads:
        return count
    count += _KERNELS["mla"] if a.kind == "mla" else 0.0
    return count + (_KERNELS["qk_norm"] if a.qk_norm != "none" else 0.0) + (_KERNELS["indexer"] if a.indexer else 0.0)


def _traced_kernels(traced: Traced) -> float:
    """Kernels of a captured block: its products, of which those that share an input are one; of each core two (cache,
    attention), of each block one (rotary embedding, activation), its norms, and its scans."""
    calls = {
        (ops.input_of(product, group), product.role)
        for product, group in zip(traced.products, groups(traced), strict=True)
    }
    scans = _KERNELS["recurrent"] * len(traced.scans)
    return float(len(calls) + 2 * len(traced.cores) + traced.blocks + traced.norms) + scans


def _traced_caches(traced: Traced, tp: Floats, cache_B: Floats) -> tuple[CacheReads, ...]:
    """What each core of a captured block reads: what it keeps of each token, or of something of fixed length. A core
    that keeps nothing has the work of a prompt's tokens alone."""
    out, scale = list[CacheReads](), traced.cache_scale
    for core in traced.cores:
        ranks = tp if traced.is_split(core) else np.ones_like(tp)
        fixed, per_token = core.keys
        for part in caches(core.attention, ranks, cache_B):
            most = part.window if per_token else np.minimum(part.window, fixed)
            out.append(
                replace(
                    part,
                    elements=part.elements * (scale if core.grows else 1.0) * core.is_cached,
                    decode_flop=part.decode_flop * core.is_cached,
                    window=most,
                    held=part.held if per_token else most,
                    dim=part.dim if core.grows and scale == 1.0 else 0.0,
                )
            )
    return tuple(out)


def caches(a: Attention, tp: Floats, cache_B: Floats) -> tuple[CacheReads, ...]:
    """What one layer reads of its cache: the cache itself, compressed entries, keys of an indexer; nothing where a
    layer has no attention."""
    if not a.num_heads:
        return ()
    one = np.ones_like(tp)
    heads = np.maximum(1.0, a.num_heads / tp)
    cut = one if a.kind == "mla" else np.minimum(tp, max(1, a.num_kv_heads))
    width = 2.0 * a.kv_lora + a.rope_head_dim if a.kind == "mla" else float(a.head_dim + a.v_head_dim)
    decode, prefill = 2.0 * heads * width, 2.0 * heads * (a.head_dim + a.v_head_dim)
    top_k = float(a.indexer.top_k) if a.indexer else math.inf
    kept = float(a.window or math.inf)
    read = kept / 2.0 if a.chunked else kept
    entry = a.entry_elements / cut
    is_plain = (
        a.kind == "gqa"
        and a.causal
        and a.head_dim == a.v_head_dim
        and not (a.indexer or a.compressor or a.chunked or a.shares_kv or a.cached_once)
    )

    def cache(elements: Floats, window: float, held: float, decode: Floats, prefill: Floats) -> CacheReads:
        return CacheReads(
            elements=elements,
            window=one * window,
            held=one * held,
            decode_flop=decode,
            prefill_flop=prefill,
            heads=heads,
            cached=np.maximum(1.0, a.num_kv_heads / tp),
            dim=float(a.head_dim) if is_plain else 0.0,
        )

    if a.compressor:
        ratio = float(a.compressor.ratio)
        out = [
            cache(entry, read, kept, decode, prefill),
            cache(entry / ratio, top_k * ratio, math.inf, decode / ratio, prefill / ratio),
        ]
    else:
        out = [cache(entry, min(read, top_k), kept, decode, prefill)]
    if a.indexer and a.index_elements:  # its keys are kept in 8 bits whatever the cache is in, whole on every rank
        scores = one * a.indexer.flop_per_entry() * a.scored(1.0)
        out.append(cache(a.index_elements / cache_B, math.inf, math.inf, scores, scores))
    return tuple(out)
