"""The matrix multiplications of one layer, forward, unsharded, and how tensor parallelism splits each.

This is where a layer's shapes become work. Bytes, times and chips are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.models.model import Attention, Layer, Mlp, Model, Moe, Recurrent, Traced
from mowich.models.traced import EACH_TOKEN, ProductGroup, RowCount, TracedProduct, groups, row_count, rows_per_token
from mowich.sums import float_sum

OUT_GROUPS = ("attn_out", "mlp_down")
"""Groups of products that lead back to the residual stream."""
FFN_GROUPS = ("mlp_up", "mlp_down")
"""Groups of products outside of attention and recurrences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """out[m, n] = in[m, k] x weight[k, n]; m is the token count of the caller.

    split: which of n, k tensor parallelism divides ("none": replicated, and sequence parallelism divides m).
    granule: the smallest local n (one key-value head is replicated, not cut). fused: n of further matrices that
    share the input and run in the same call, as (n, granule). rows: m of one sequence, where it is not a row each
    token. is_held: whether the weight is one, and not counted elsewhere. casts: whether no product before it read its
    input, which is brought into the format of a recipe once. group: what it does in a captured block, whose names are
    the user's.
    """

    name: str
    n: int
    k: int
    split: Literal["n", "k", "none"] = "n"
    granule: int = 1
    fused: tuple[tuple[int, int], ...] = ()
    rows: RowCount = EACH_TOKEN
    is_held: bool = True
    casts: bool = True
    group: ProductGroup = ""

    @property
    def is_shared_expert(self) -> bool:
        """Whether it belongs to the expert that every token takes."""
        return self.name.startswith("shared") if not self.group else self.group in FFN_GROUPS and "shared" in self.name

    def m(self, tokens: Floats, seq: float, cp: Floats | float = 1.0) -> Floats:
        """Its rows on a rank with so many tokens of sequences of `seq`, each shared by `cp` ranks."""
        return tokens if self.rows == EACH_TOKEN else tokens * rows_per_token(self.rows, seq / np.asarray(cp))

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


_SPLIT: dict[str, Literal["n", "k", "none"]] = {"column": "n", "row": "k", "vocabulary": "n", "replicated": "none"}
"""Role of a weight -> what of it tensor parallelism divides."""


def traced_gemms(traced: Traced) -> tuple[Gemm, ...]:
    """Products of a captured block, under their modules' names. Of keys and values one head is replicated, not cut."""
    out, read = list[Gemm](), set[tuple[object, ...]]()
    for product, group in zip(traced.products, groups(traced), strict=True):
        source = input_of(product, group)
        out.append(replace(_traced_gemm(traced, product, group), casts=source not in read))
        read.add(source)
    return tuple(out)


def input_of(product: TracedProduct, group: ProductGroup) -> tuple[object, ...]:
    """What a product reads: products into a block that stand side by side in a module and read as many columns have one
    input."""
    where = product.module if group in OUT_GROUPS else product.module.rpartition(".")[0]
    return (where, product.k, product.rows, group)


def _traced_gemm(traced: Traced, product: TracedProduct, group: ProductGroup) -> Gemm:
    whole = Gemm(
        name=product.module,
        n=product.n,
        k=product.k,
        split=_SPLIT[product.role],
        rows=product.rows,
        is_held=product.params > 0,
        group=group,
    )
    if group != "qkv" or product.role != "column":
        return whole
    for core in traced.cores:
        a = core.attention
        if product not in traced.around(core.module) or a.kind == "mla":
            continue
        for head in (a.head_dim, a.v_head_dim, a.head_dim + a.v_head_dim):
            if product.n == a.num_kv_heads * head:
                return replace(whole, granule=head)
            if product.n == a.q_width + a.num_kv_heads * head:
                return replace(whole, n=a.q_width, granule=a.head_dim, fused=((a.num_kv_heads * head, head),))
    return whole


def mixer_gemms(layer: Layer, hidden: int) -> tuple[Gemm, ...]:
    """Projections of the layer's mixer, whichever kind it is."""
    mixer = layer.mixer
    if isinstance(mixer, Attention):
        return attention_gemms(mixer, hidden)
    return recurrent_gemms(mixer, hidden) if isinstance(mixer, Recurrent) else traced_gemms(mixer)


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


def exchanged_kv(layer: Layer, seq: float) -> float:
    """Elements of keys (or values) of each token of a rank that ranks of context parallelism gather, mean of the two;
    what a core reads of fixed length all of them have."""
    if layer.traced is None:
        return kv_width(layer.attention)
    return float_sum(
        kv_width(core.attention) * core.keys_per_token(seq) for core in layer.traced.cores if core.keys[1] > 0
    )


@lru_cache(maxsize=256)
def reductions(traced: Traced, hidden: float, seq: float) -> float:
    """Exchanges of tensor parallel ranks in a captured block, in those of one activation of `hidden` columns: a
    reduction behind each product that is split by its inputs, and a gather, half as much, before a replicated product
    behind split ones, unless it reads the residual stream."""
    count, is_split = 0.0, False
    for product in traced.products:
        rows = rows_per_token(product.rows, seq)
        if product.role == "row":
            count += rows * product.n / hidden
        elif product.role == "column":
            is_split = True
        elif is_split and product.role == "replicated" and (product.k != hidden or product.n == hidden):
            count += 0.5 * rows * product.k / hidden
    return count


@lru_cache(maxsize=256)
def split_share(traced: Traced) -> float:
    """Share of the outputs of a captured block's products, those back to the residual stream left out, that ranks of
    tensor parallelism divide."""
    outputs = [(p.n * p.rows[1], p.role == "column") for p in traced.products if p.role != "row"]
    total = float_sum(n for n, _ in outputs)
    return float_sum(n for n, is_split in outputs if is_split) / total if total else 1.0


def ffn_width(ffn: Mlp | Moe) -> tuple[float, int]:
    """(width of the feed-forward that every token takes, 0 if none; gates + 1 matrices' outputs per token)."""
    outputs = 2 if ffn.gated else 1
    return (float(ffn.ffn) if isinstance(ffn, Mlp) else float(ffn.shared_ffn)), outputs


def tp_widths(layer: Layer) -> dict[str, list[int]]:
    """What tensor parallelism divides of a layer, by name: heads of attention and of recurrences, and the feed-forward
    that every token takes; of a captured block what its split products have beside heads."""
    traced, ffn = layer.traced, [round(ffn_width(layer.ffn)[0])]
    if traced is None:
        return {
            "query heads": [layer.attention.num_heads],
            "heads of recurrent layers": [layer.recurrent.num_heads] if layer.recurrent else [],
            "feed-forward width": ffn,
        }
    heads = [core.attention.num_heads for core in traced.cores if traced.is_split(core)]
    for product, gemm in zip(traced.products, traced_gemms(traced), strict=True):
        side = gemm.k if gemm.split == "k" else gemm.n
        of_heads = gemm.granule > 1 or (gemm.group not in FFN_GROUPS and any(side % h == 0 for h in heads))
        ffn += [] if product.role == "replicated" or of_heads else [side]
    return {
        "query heads": heads,
        "heads of recurrent layers": [scan.num_heads for scan in traced.scans if traced.is_split(scan)],
        "feed-forward width": ffn,
    }


def query_heads(model: Model) -> list[int]:
    """Heads of every attention core that ranks of tensor parallelism share; 1 where they share nothing of a layer."""
    heads, others = list[int](), list[int]()
    for layer in model.work:
        of_layer = tp_widths(layer)
        heads += [size for size in of_layer.pop("query heads") if size]
        others += [size for sizes in of_layer.values() for size in sizes if size]
    return heads if heads or others else [1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPart:
    """Elements per token: those that ranks of tensor parallelism share, those that they share where they split tokens,
    and those that each has."""

    split: float = 0.0
    by_tokens: float = 0.0
    whole: float = 0.0

    def __add__(self, other: RankPart) -> RankPart:
        return RankPart(
            split=self.split + other.split,
            by_tokens=self.by_tokens + other.by_tokens,
            whole=self.whole + other.whole,
        )

    def on_rank(self, tp: Floats, spread: Floats) -> Floats:
        """Elements of one of tp ranks; spread: ranks that tokens are split over."""
        out = self.split / tp
        if self.by_tokens:
            out = out + self.by_tokens / spread
        return out + self.whole if self.whole else out


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptElements:
    """Elements per token that a layer keeps for its backward pass. inputs: read by products that all ranks have the
    whole input of, by the group of the product; queries, keys: of cores (or what a scan reads); outputs: of cores;
    latent: what MLA projects keys and values from; statistics: rows of them; up, down: outputs of the first products of
    feed-forwards and inputs of their last ones; scores: for each token attended to, of all cores; unfused: of those
    whose code writes them; is_latent: queries, keys and values
    are computed again from something smaller."""

    inputs: tuple[tuple[str, float], ...]
    queries: RankPart = RankPart()
    keys: RankPart = RankPart()
    outputs: RankPart = RankPart()
    latent: float = 0.0
    statistics: RankPart = RankPart()
    up: RankPart = RankPart()
    down: RankPart = RankPart()
    scores: RankPart = RankPart()
    unfused: RankPart = RankPart()
    is_latent: bool = False

    def inputs_of(self, groups: Iterable[str] | None) -> float:
        """Of the products of some groups; None: of all."""
        return float_sum(size for group, size in self.inputs if groups is None or group in groups)


@lru_cache(maxsize=1024)
def kept_by_layer(layer: Layer, hidden: int, seq: float) -> KeptElements:
    """What a layer keeps for its backward pass where nothing is computed again, routed experts left out.

    In a captured block products that stand side by side in a module and read as many columns have one input.
    """
    if isinstance(layer.mixer, Traced):
        return _kept_of_traced(layer, layer.mixer, seq)
    a, r, (width, outputs) = layer.attention, layer.recurrent, ffn_width(layer.ffn)
    q, out = float(a.num_heads * a.head_dim), float(a.num_heads * a.v_head_dim)
    if r is not None:  # projections, scan output, gated output; fused kernels compute the rest again
        q, out = float(r.in_width), 2.0 * r.value_width
    heads = RankPart(split=float(a.num_heads))
    return KeptElements(
        inputs=(
            *((("qkv", float(hidden)),) if layer.has_mixer else ()),
            *((("mlp_up", float(hidden)),) if layer.has_ffn else ()),
        ),
        queries=RankPart(split=q),
        keys=RankPart(split=2.0 * kv_width(a)),
        outputs=RankPart(split=out),
        latent=float(a.kv_lora + a.rope_head_dim + (a.q_lora or 0)) if a.kind == "mla" else 0.0,
        statistics=heads,
        up=RankPart(split=outputs * width),
        down=RankPart(split=width),
        scores=heads,
        is_latent=a.kind == "mla",
    )


def _kept_of_traced(layer: Layer, traced: Traced, seq: float) -> KeptElements:
    inputs: dict[tuple[object, ...], tuple[str, float]] = {}
    width, outputs = ffn_width(layer.ffn)
    up, down, latent = RankPart(split=outputs * width), RankPart(split=width), 0.0
    if layer.has_ffn:
        inputs["experts",] = ("mlp_up", float(layer.hidden))
    queries, keys, given, statistics, scores, unfused = (RankPart() for _ in range(6))
    mla = [
        (core.attention.kv_lora, traced.around(core.module)) for core in traced.cores if core.attention.kind == "mla"
    ]
    scanned = {product for scan in traced.scans for product in traced.around(scan.module)}
    for product, group in zip(traced.products, groups(traced), strict=True):
        per_token = rows_per_token(product.rows, seq)
        is_whole = product.role == "replicated"
        if group not in OUT_GROUPS and not any(product.k == lora and product in around for lora, around in mla):
            inputs[input_of(product, group)] = (group, product.k * per_token)
        out = _part(product.n * per_token, is_whole)
        if group == "mlp_up":
            up = up + out
        elif group == "mlp_down":
            down = down + _part(product.k * per_token, is_whole)
        elif product in scanned:
            if group == "qkv":
                queries = queries + out
            else:  # what the scan gives, and the same behind its gate
                given = given + _part(2.0 * product.k * per_token, is_whole)
        if not product.is_weight:
            queries = queries + RankPart(whole=product.k * per_token)
    for core in traced.cores:
        a, each = core.attention, core.queries_per_token(seq)
        is_split, width = traced.is_split(core), 2.0 * kv_width(a)
        latent += (a.kv_lora + a.rope_head_dim) * core.keys_per_token(seq) if a.kind == "mla" else 0.0

        def on(elements: float, is_split: bool = is_split) -> RankPart:
            return RankPart(split=elements) if is_split else RankPart(whole=elements)

        queries = queries + on(a.q_width * each)
        keys = keys + on(width * core.keys_per_token(seq))
        given = given + on(a.out_width * each)
        statistics = statistics + on(a.num_heads * each)
        written = on(a.num_heads * each * row_count(core.keys, seq) / seq)
        scores, unfused = scores + written, unfused + (written if core.is_unfused else RankPart())
    return KeptElements(
        inputs=tuple(inputs.values()),
        queries=queries,
        keys=keys,
        outputs=given,
        latent=latent,
        statistics=statistics,
        up=up,
        down=down,
        scores=scores,
        unfused=unfused,
        is_latent=bool(mla),
    )


def _part(elements: float, is_replicated: bool) -> RankPart:
    return RankPart(by_tokens=elements) if is_replicated else RankPart(split=elements)
