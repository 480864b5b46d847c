"""A captured layer as one of ours: attention, latent attention, a recurrence, a dense feed-forward or experts where its
products say so, else `Traced`.

A layer folds only where every product has its place and parameters and forward FLOP come out exactly as captured, so a
wrong guess cannot change a count. What is no matrix (norms, vectors, odd biases) is the layer's `norm_params`. All
counts are of one sequence: of a dimension a + b batch + c tokens + d batch tokens, (a + b, c + d) is (fixed, per
token); what does not grow with the batch is so counted for each sequence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from mowich.models.attention import NO_ATTENTION, Attention, Indexer
from mowich.models.captured import (
    CapturedCore,
    CapturedDimension,
    CapturedExperts,
    CapturedLayer,
    CapturedProduct,
    CapturedScan,
)
from mowich.models.ffn import NO_FFN, Mlp, Moe
from mowich.models.model import Layer, Mixer
from mowich.models.recurrent import Recurrent
from mowich.models.traced import (
    EACH_TOKEN,
    ONE_SEQUENCE,
    Role,
    RowCount,
    Traced,
    TracedCore,
    TracedProduct,
    TracedScan,
)

_MOST_PRODUCTS = 24
"""A layer of ours has fewer; the search for its place takes their square."""
COMPARED_TOKENS = (256.0, 4096.0)
"""Tokens at which FLOP of two forms of a layer are compared: below and above common windows."""

_Products = tuple[CapturedProduct, ...]


def rows_per_sequence(dimension: CapturedDimension) -> RowCount:
    """(fixed, per token) of one sequence; never below 0.

    >>> rows_per_sequence((0, 512, 0, 1))
    (512.0, 1.0)
    """
    a, b, c, d = dimension
    return float(max(0, a + b)), float(c + d)


def layers_of(captured: Sequence[CapturedLayer]) -> tuple[Layer, ...]:
    """Each layer as one of ours, else as `Traced` with routed experts beside it where their router is known. An
    attention of ours has a cache, so one without folds only in a model that caches nothing."""
    caches = any(core.cached for layer in captured for core in layer.cores)
    out = []
    for layer in captured:
        traced = traced_layer(layer)
        may_fold = not caches or all(core.cached for core in layer.cores)
        out.append((may_fold and _folded(layer, traced)) or traced)
    return tuple(out)


# as it was captured
# ----------------------------------------------------------------------------------------------------------------------


def traced_layer(captured: CapturedLayer) -> Layer:
    """The layer with each product, core and scan under its module's name."""
    moe, products = _moe(captured, _multiplied(captured.products), shared=False)
    mixer = traced_of(replace(captured, products=products, experts=captured.experts[1:] if moe else captured.experts))
    ffn = moe or NO_FFN
    rest = captured.params - mixer.params(captured.hidden) - ffn.params(captured.hidden)
    return Layer(count=captured.count, mixer=mixer, ffn=ffn, norm_params=rest, hidden=captured.hidden)


def traced_of(captured: CapturedLayer) -> Traced:
    """All that a layer computes, its experts as products."""
    is_split = any(p.role in ("column", "row") for p in captured.products)
    return Traced(
        module=captured.module,
        products=(
            *map(_product, _multiplied(captured.products)),
            *(p for e in captured.experts for p in _as_products(e)),
        ),
        cores=tuple(map(_core, captured.cores)),
        scans=tuple(_scan(scan, is_split) for scan in captured.scans),
        moved=rows_per_sequence(captured.moved),
        moved_eager=rows_per_sequence(captured.moved_eager),
        norms=captured.norms,
        cached_elements=float(captured.cached_elements),
        blocks=captured.blocks,
        launches=captured.launches,
    )


def _multiplied(products: _Products) -> _Products:
    """Products without those of two activations that share no width (angles of positions): passes over memory."""
    return tuple(p for p in products if p.weight is not None or p.k > 1)


def _product(p: CapturedProduct) -> TracedProduct:
    fixed, per_token = rows_per_sequence(p.rows)
    roles: dict[str, Role] = {"column": "column", "row": "row", "vocabulary": "vocabulary"}
    return TracedProduct(
        module=_joined(p.module, p.weight),
        n=p.n,
        k=p.k,
        rows=(p.times * fixed, p.times * per_token),
        role=roles.get(p.role, "replicated"),
        biases=p.biases,
        is_weight=p.weight is not None,
        is_shared=p.shared,
    )


def _joined(module: str, weight: str | None) -> str:
    """A weight's name below its layer; "weight" alone says nothing more than its module."""
    return module if weight in (None, "weight") else f"{module}.{weight}".lstrip(".")


def _as_products(e: CapturedExperts) -> tuple[TracedProduct, ...]:
    """Experts whose router is not known, as products whose rows are those that a mean weight sees."""
    fixed, per_token = rows_per_sequence(e.rows)
    share = e.top_k / e.number
    rows = (share * fixed, share * per_token)
    up = e.number * e.ffn * (2 if e.gated else 1)
    return (
        TracedProduct(module=e.module, n=up, k=e.width, rows=rows, biases=e.biases),
        TracedProduct(module=e.module, n=e.width, k=e.number * e.ffn, rows=rows),
    )


def _core(core: CapturedCore) -> TracedCore:
    return TracedCore(
        module=core.module,
        attention=_attention_of(core),
        queries=rows_per_sequence(core.queries),
        keys=rows_per_sequence(core.keys),
        sequences=rows_per_sequence(core.sequences),
        is_cached=core.cached,
        is_unfused=core.eager,
        is_masked=core.masked,
    )


def _attention_of(core: CapturedCore) -> Attention:
    """Heads, widths, window of a core; the scores of an indexer are a core of their own."""
    latent = core.latent
    return Attention(
        kind="mla" if latent else "gqa",
        num_heads=core.heads,
        num_kv_heads=core.kv_heads,
        head_dim=core.qk,
        v_head_dim=core.v,
        window=core.window,
        chunked=core.chunked,
        causal=core.causal and not core.masked,
        kv_lora=latent.kv_lora if latent else 0,
        rope_head_dim=latent.rope if latent else 0,
        indexer=Indexer(num_heads=0, head_dim=0, top_k=core.kept, head_weights=False) if core.kept else None,
    )


def _scan(scan: CapturedScan, is_split: bool) -> TracedScan:
    """A recurrence; its kernels read values, keys, queries and a step per head, and write the output. is_split: whether
    products around it are split over ranks, and so its heads."""
    moved = 2 * scan.heads * scan.head_dim + 2 * scan.groups * scan.state + scan.heads
    return TracedScan(
        module=scan.module,
        kind=scan.kind,
        flop=rows_per_sequence(scan.flop)[1],
        state_elements=float(scan.state_elements),
        conv_elements=float(scan.conv_elements),
        moved=float(moved),
        num_heads=scan.heads if is_split else 0,
    )


# as a layer of ours
# ----------------------------------------------------------------------------------------------------------------------


def _folded(captured: CapturedLayer, traced: Layer) -> Layer | None:
    """The layer in the first form of ours that has a place for each product, and the same parameters and FLOP."""
    captured, convolution = _with_convolution(captured)
    if convolution is not None:
        traced = traced_layer(captured)
    products = _multiplied(captured.products)
    plain = all(_is_plain(p) for p in products) and len(products) <= _MOST_PRODUCTS
    if not plain or len(captured.cores) + len(captured.scans) > 1:
        return None
    is_biased = convolution is not None and _biased([convolution])
    for mixer, rest in _mixers(captured, products, is_biased):
        for ffn in _ffns(captured, rest):
            norms = captured.params - mixer.params(captured.hidden) - ffn.params(captured.hidden)
            layer = Layer(count=captured.count, mixer=mixer, ffn=ffn, norm_params=norms, hidden=captured.hidden)
            if norms >= 0 and layer.blocks and all(_close(layer, traced, seq) for seq in COMPARED_TOKENS):
                return layer
    return None


def _with_convolution(captured: CapturedLayer) -> tuple[CapturedLayer, CapturedProduct | None]:
    """The layer with the causal convolution before a recurrence counted in the recurrence, as `Recurrent` does (2 taps
    a channel and token; code pads it by a few rows more), and that convolution."""
    scan = captured.scans[0] if len(captured.scans) == 1 else None
    if scan is None or not scan.conv:
        return captured, None
    taps = scan.conv
    found = next((p for p in captured.products if p.k == taps and p.n * (taps - 1) == scan.conv_elements), None)
    if found is None:
        return captured, None
    a, b, c, d = scan.flop
    whole = replace(scan, flop=(a, b, c, d + 2 * found.n * found.k))
    products = tuple(p for p in captured.products if p is not found)
    return replace(captured, products=products, scans=(whole,)), found


def _close(layer: Layer, traced: Layer, seq: float) -> bool:
    """Whether both forms of a layer compute the same: equal but for the rounding of sums."""
    wanted = traced.flop_per_token(seq)
    return abs(layer.flop_per_token(seq) - wanted) <= 1e-12 * wanted


def _is_plain(p: CapturedProduct) -> bool:
    """Whether each token takes a weight once that is the layer's own."""
    return rows_per_sequence(p.rows) == EACH_TOKEN and p.times == 1 and p.weight is not None and not p.shared


def _mixers(captured: CapturedLayer, products: _Products, is_biased: bool) -> Iterator[tuple[Mixer, _Products]]:
    """Mixers that some of the products may be, each with the products that are left. is_biased: whether a convolution
    has a bias."""
    if captured.cores:
        core = captured.cores[0]
        rows = (rows_per_sequence(core.sequences), rows_per_sequence(core.queries), rows_per_sequence(core.keys))
        if rows != (ONE_SEQUENCE, EACH_TOKEN, EACH_TOKEN) or core.masked or core.kept:
            return
        forms = _latent_attentions(captured, core, products) if core.latent else _attentions(captured, core, products)
        for attention, rest in forms:
            if not core.cached or attention.kv_elements_per_token == captured.cached_elements:
                yield attention, rest
    elif captured.scans:
        for recurrent, rest in _recurrents(captured, captured.scans[0], products):
            yield replace(recurrent, conv_bias=is_biased), rest
    else:
        yield NO_ATTENTION, products


def _runs(products: _Products, k: int) -> Iterator[tuple[_Products, _Products]]:
    """Neighbours in order of execution that all read `k` columns, with the products around them."""
    for start in range(len(products)):
        for end in range(start + 1, len(products) + 1):
            if products[end - 1].k != k:
                break
            yield products[start:end], (*products[:start], *products[end:])


def _without(products: _Products, n: int, k: int) -> Iterator[tuple[CapturedProduct, _Products]]:
    """Each product of that shape, with the others."""
    for i, p in enumerate(products):
        if (p.n, p.k) == (n, k):
            yield p, (*products[:i], *products[i + 1 :])


def _biased(products: Sequence[CapturedProduct]) -> bool:
    """Whether each product has a bias of its columns."""
    return bool(products) and all(p.biases == p.n for p in products)


def _attentions(
    captured: CapturedLayer, core: CapturedCore, products: _Products
) -> Iterator[tuple[Attention, _Products]]:
    """Queries, keys, values (and a gate of the output) in products that follow one another, and the output."""
    hidden, base = captured.hidden, _attention_of(core)
    keys, values = core.kv_heads * core.qk, core.kv_heads * core.v
    for run, others in _runs(products, hidden):
        width = sum(p.n for p in run)
        for out, rest in _without(others, hidden, base.out_width):
            for gate in (0, base.out_width, core.heads):
                for kv, is_shared, k_is_v in ((keys + values, False, False), (keys, False, True), (0, True, False)):
                    if width != base.q_width + kv + gate:
                        continue
                    attention = replace(
                        base,
                        sinks=core.sinks,
                        qkv_bias=_biased(run) and not gate,
                        out_bias=_biased([out]),
                        out_gate=gate,
                        shares_kv=is_shared,
                        k_is_v=k_is_v,
                        cached_once=k_is_v and captured.cached_elements == keys,
                    )
                    yield attention, rest


def _latent_attentions(
    captured: CapturedLayer, core: CapturedCore, products: _Products
) -> Iterator[tuple[Attention, _Products]]:
    """The chain of latent attention: q (or down and up), down to the latent, up to keys and values, the output."""
    assert core.latent is not None
    hidden, lora, rope = captured.hidden, core.latent.kv_lora, core.latent.rope
    q_width = core.heads * core.qk
    up = core.heads * (core.qk - rope + core.v)
    ranks: list[int | None] = [None, *dict.fromkeys(p.k for p in products if p.n == q_width)]
    for rank in ranks:
        query = [(q_width, hidden)] if rank is None else [(rank, hidden), (q_width, rank)]
        rest, taken = products, []
        for shape in (*query, (lora + rope, hidden), (up, lora), (hidden, core.heads * core.v)):
            found = next(_without(rest, *shape), None)
            if found is None:
                break
            taken.append(found[0])
            rest = found[1]
        else:
            down = [p for p in taken if p.k == hidden and p.n in (rank, lora + rope)]
            chain = replace(_attention_of(core), q_lora=rank, sinks=core.sinks)
            yield replace(chain, qkv_bias=_biased(down), out_bias=_biased(taken[-1:])), rest


def _recurrents(
    captured: CapturedLayer, scan: CapturedScan, products: _Products
) -> Iterator[tuple[Recurrent, _Products]]:
    """A recurrence of a kind of ours: what is projected from the hidden state, and the output."""
    kinds: dict[str, Literal["mamba2", "gdn", "kda", "lightning"]] = {
        "mamba2": "mamba2",
        "gdn": "gdn",
        "kda": "kda",
        "lightning": "lightning",
    }
    if scan.kind not in kinds:
        return
    for run, others in _runs(products, captured.hidden):
        for out, rest in _without(others, captured.hidden, scan.heads * scan.head_dim):
            recurrent = Recurrent(
                kind=kinds[scan.kind],
                num_heads=scan.heads,
                head_dim=scan.head_dim,
                num_groups=scan.groups,
                state_dim=scan.state,
                conv=scan.conv,
                proj_bias=_biased([*run, out]),
            )
            kept = (recurrent.state_elements, recurrent.conv_elements)
            if sum(p.n for p in run) == recurrent.in_width and kept == (scan.state_elements, scan.conv_elements):
                yield recurrent, rest


def _ffns(captured: CapturedLayer, products: _Products) -> Iterator[Mlp | Moe]:
    """Feed-forward blocks that take all the products."""
    if captured.experts:
        moe, rest = _moe(captured, products, shared=True)
        if moe and not rest and len(captured.experts) == 1:
            yield moe
    elif not products:
        yield NO_FFN
    else:
        for mlp, rest in _mlps(captured.hidden, products):
            if not rest:
                yield mlp


def _mlps(hidden: int, products: _Products) -> Iterator[tuple[Mlp, _Products]]:
    """Gate and up (or up alone) in products that follow one another, and down."""
    for run, others in _runs(products, hidden):
        width = sum(p.n for p in run)
        for gated in (True, False):
            if width % 2 and gated:
                continue
            ffn = width // 2 if gated else width
            for down, rest in _without(others, hidden, ffn):
                yield Mlp(ffn=ffn, gated=gated, bias=_biased([*run, down])), rest


def _moe(captured: CapturedLayer, products: _Products, *, shared: bool) -> tuple[Moe | None, _Products]:
    """The first experts of a layer with their router among the products, and the products that are left; no experts
    where their router, or the way to the width that they work in, is not there. shared: a shared expert and its gate
    are taken too."""
    e = captured.experts[0] if captured.experts else None
    hidden = captured.hidden
    if e is None or rows_per_sequence(e.rows) != EACH_TOKEN:
        return None, products
    shapes = [(e.number, hidden), *([(e.width, hidden), (hidden, e.width)] if e.width != hidden else ())]
    tokens = tuple(p for p in products if _is_plain(p))
    taken: list[CapturedProduct] = []  # the router, and the way to the width of experts and back
    for n, k in shapes:
        found = next((p for p, _ in _without(tokens, n, k) if p not in taken), None)
        if found is None:
            return None, products
        taken.append(found)
    rest = tuple(p for p in products if not any(p is one for one in taken))
    gate, mlp = None, NO_FFN
    if shared:
        gate = next((p for p, _ in _without(rest, 1, hidden)), None)
        rest = tuple(p for p in rest if p is not gate)
        mlp, rest = next(((m, r) for m, r in _mlps(hidden, rest) if m.gated is e.gated and not r), (NO_FFN, rest))
    columns = e.ffn * (2 if e.gated else 1) + e.width
    moe = Moe(
        num_experts=e.number,
        top_k=e.top_k,
        ffn=e.ffn,
        shared_ffn=mlp.ffn,
        gated=e.gated,
        bias=e.biases == e.number * columns,
        router_bias=_biased(taken[:1]),
        shared_gate=gate is not None,
        latent=0 if e.width == hidden else e.width,
        groups=e.groups,
        top_groups=e.top_groups,
    )
    return moe, rest
