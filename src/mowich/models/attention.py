"""Attention of every kind in use, as shapes: what it projects, what a token attends to, what it caches.

One block covers multi-head, grouped, multi-query and latent (MLA) attention, each with a window, chunks, a sparse
choice of what it reads (an indexer) or a compressed past; the options combine as published models combine them. Counts
are per layer and unsharded. Notation: h hidden width, c context (earlier tokens, the token itself included), s sequence
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def mean_of_min(seq: float, limit: float | None) -> float:
    """Mean over the tokens of a causal sequence of min(context, limit): s/2 without limit, w - w^2/(2s) with w < s.

    The diagonal's half token is left out, as published FLOP counts do.

    >>> mean_of_min(4096, None), mean_of_min(4096, 1024)
    (2048.0, 896.0)
    """
    if limit is None or limit >= seq:
        return seq / 2
    return limit - limit**2 / (2 * seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressor:
    """Merges each `ratio` tokens of the past into one cached entry by a learned softmax; with `overlap` an entry draws
    on its own group and the one before (two projections instead of one). DeepSeek-V4's CSA (overlap) and HCA."""

    ratio: int
    overlap: bool = False

    def matmul_params(self, hidden: int, width: int) -> int:
        """Weights of the two projections (values, gates) to entries of `width`."""
        return 2 * hidden * width * (2 if self.overlap else 1)

    def params(self, hidden: int, width: int) -> int:
        """All weights: projections, a bias per position of the group, a norm."""
        return self.matmul_params(hidden, width) + self.ratio * width * (2 if self.overlap else 1) + width


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """Chooses what a sparse attention reads: `num_heads` small heads of `head_dim` score every earlier entry, the best
    `top_k` are kept (counted in entries, also where whole blocks are chosen).

    query_in: width that its queries are projected from (MLA's low-rank query; 0: h). head_weights: a projection from h
    weighs the heads. norm_params: weights of its norms. shared: takes the choice of an earlier layer, so it has no
    weights, scores and cache of its own. pool: tokens whose keys are merged into one entry by a learned softmax (1:
    none; `top_k` still counts tokens).
    """

    num_heads: int
    head_dim: int
    top_k: int
    query_in: int = 0
    head_weights: bool = True
    norm_params: int = 0
    shared: bool = False
    pool: int = 1

    def matmul_params(self, hidden: int, compressor: Compressor | None) -> int:
        """Weights of the projections of queries, keys (h x d, or a compressor's; twice with the gate of a pool) and
        head weights."""
        if self.shared:
            return 0
        keys = compressor.matmul_params(hidden, self.head_dim) if compressor else hidden * self.head_dim
        keys += hidden * self.head_dim if self.pool > 1 else 0
        query = (self.query_in or hidden) * self.num_heads * self.head_dim
        return query + keys + (hidden * self.num_heads if self.head_weights else 0)

    def params(self, hidden: int, compressor: Compressor | None) -> int:
        """All weights."""
        if self.shared:
            return 0
        extra = (
            compressor.params(hidden, self.head_dim) - compressor.matmul_params(hidden, self.head_dim)
            if compressor
            else 0
        )
        extra += self.pool * self.head_dim if self.pool > 1 else 0  # a bias per position of the pool
        return self.matmul_params(hidden, compressor) + extra + self.norm_params

    def flop_per_entry(self) -> float:
        """FLOP of scoring one entry for one token: 2 * heads * (head_dim, and 1 for the weighted sum of the heads)."""
        return 0.0 if self.shared else 2.0 * self.num_heads * (self.head_dim + (1 if self.head_weights else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One attention block.

    kind "gqa" covers MHA (num_kv_heads == num_heads), GQA and MQA; "mla" is multi-head latent attention with kv_lora
    and rope_head_dim; there head_dim = qk_nope + qk_rope and v_head_dim is the value's.
    q_lora: rank of a low-rank query (None: full). o_lora, o_groups: rank of each group's low-rank output (0: full).
    window: tokens attended at most (sliding window), None for full. With `chunked` the sequence is cut into
    blocks of `window` tokens and a token attends inside its block only.
    indexer: sparse attention: at most top_k entries are attended. compressor: beyond the window the past is attended in
    compressed entries (all of them, or those that the indexer keeps).
    qk_norm: "head" normalises each head (head_dim weights for q and for k), "full" the whole projection.
    shares_kv: reads an earlier layer's keys and values, so it has neither k and v projections nor a cache.
    k_is_v: one projection serves as key and value; cached_once: and is cached once.
    out_gate: columns of a projection from the hidden state that gates the attention output (0: none).
    norm_params: weights of further norms inside the block.
    """

    kind: Literal["gqa", "mla"]
    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int | None = None
    q_lora: int | None = None
    kv_lora: int = 0
    rope_head_dim: int = 0
    o_lora: int = 0
    o_groups: int = 1
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    sinks: bool = False
    causal: bool = True
    chunked: bool = False
    shares_kv: bool = False
    k_is_v: bool = False
    cached_once: bool = False
    out_gate: int = 0
    norm_params: int = 0
    indexer: Indexer | None = None
    compressor: Compressor | None = None

    @property
    def q_width(self) -> int:
        """Columns of the query: num_heads * head_dim."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of keys and values that the block projects (gqa): num_kv_heads * (head_dim + v_head_dim)."""
        if self.shares_kv:
            return 0
        return self.num_kv_heads * (self.head_dim + (0 if self.k_is_v else self.v_head_dim))

    @property
    def out_width(self) -> int:
        """Rows of the output projection: num_heads * v_head_dim."""
        return self.num_heads * self.v_head_dim

    def matmul_params(self, hidden: int) -> int:
        """Weights of the projections, each used once per token.

        gqa: h (q + k + v) + o h; mla: h q_lora + q_lora q (or h q), h (kv_lora + rope), kv_lora * heads * (nope + v), o
        h; with o_groups groups a low-rank output is o * o_lora + groups * o_lora * h. Compressor and indexer are added.
        """
        query = hidden * self.q_width if self.q_lora is None else self.q_lora * (hidden + self.q_width)
        if self.kind == "mla":
            up = self.kv_lora * self.num_heads * (self.head_dim - self.rope_head_dim + self.v_head_dim)
            kv = hidden * (self.kv_lora + self.rope_head_dim) + up
        else:
            kv = hidden * self.kv_width
        out = (
            self.out_width * self.o_lora + self.o_groups * self.o_lora * hidden
            if self.o_lora
            else hidden * self.out_width
        )
        total = query + kv + out + hidden * self.out_gate
        if self.compressor:
            total += self.compressor.matmul_params(hidden, self.head_dim)
        return total + (self.indexer.matmul_params(hidden, self.compressor) if self.indexer else 0)

    def params(self, hidden: int) -> int:
        """All weights of the block: projections, biases, norms, sinks."""
        total = self.matmul_params(hidden) + (self.q_lora or 0) + self.norm_params
        if self.kind == "mla":
            total += self.kv_lora
            if self.qkv_bias:
                total += (self.q_lora or 0) + self.kv_lora + self.rope_head_dim
        elif self.qkv_bias:
            total += self.q_width + self.kv_width
        if self.qk_norm == "head":
            total += self.head_dim * (1 if self.shares_kv else 2)
        elif self.qk_norm == "full":
            total += self.q_width + self.num_kv_heads * self.head_dim
        if self.compressor:
            total += self.compressor.params(hidden, self.head_dim) - self.compressor.matmul_params(
                hidden, self.head_dim
            )
        if self.indexer:
            total += self.indexer.params(hidden, self.compressor) - self.indexer.matmul_params(hidden, self.compressor)
        return total + (hidden if self.out_bias else 0) + (self.num_heads if self.sinks else 0)

    state_elements = conv_elements = 0
    """Elements that a recurrence keeps of one sequence."""

    @property
    def _kept(self) -> float | None:
        """Entries that the indexer keeps, None when all are attended."""
        return None if self.indexer is None else float(self.indexer.top_k)

    def attended(self, context: float) -> float:
        """Entries that one token attends to when it sees `context` tokens: a decode step's length.

        Full: c. Window: min(c, w); in chunks the mean position of a chunk. Sparse: min(c, top_k). Compressed: min(c, w)
        tokens and min(c / ratio, top_k) entries.

        >>> sparse = Indexer(num_heads=64, head_dim=128, top_k=2048)
        >>> heads = {"num_heads": 8, "num_kv_heads": 8, "head_dim": 64, "v_head_dim": 64}
        >>> Attention(kind="gqa", **heads, indexer=sparse).attended(100_000)
        2048.0
        """
        raw = float(context)
        if self.window is not None:
            raw = min(raw, self.window / 2 if self.chunked and context > self.window else float(self.window))
        if self.compressor:
            entries = context / self.compressor.ratio
            return raw + (entries if self._kept is None else min(entries, self._kept))
        return raw if self._kept is None else min(raw, self._kept)

    def context(self, seq: float) -> float:
        """Mean number of entries that a token attends to in a sequence of `seq` tokens.

        Not causal: s. Causal: s/2 (the diagonal's half token is left out, as published FLOP counts do).
        Window or top_k w < s: w - w^2/(2s). Blocks of w: the block mean, the last one partial. Compressed: the window's
        and the entries' means together.

        >>> a = Attention(kind="gqa", num_heads=1, num_kv_heads=1, head_dim=64, v_head_dim=64, window=1024)
        >>> a.context(1024), a.context(4096)
        (512.0, 896.0)
        """
        if not self.causal:
            return min(seq, float(self.window)) if self.window else float(seq)
        if self.chunked and self.window is not None and self.window < seq:
            blocks, rest = divmod(seq, self.window)
            return (blocks * self.window**2 + rest**2) / (2 * seq)
        if self.compressor:
            return mean_of_min(seq, self.window) + mean_of_min(seq / self.compressor.ratio, self._kept)
        if self.window is not None and self._kept is not None:
            return mean_of_min(seq, min(float(self.window), self._kept))
        return mean_of_min(seq, self.window if self._kept is None else self._kept)

    def scored(self, context: float) -> float:
        """Entries that the indexer scores for one token that sees `context` tokens."""
        if self.indexer is None or self.indexer.shared:
            return 0.0
        return context / (self.compressor.ratio if self.compressor else self.indexer.pool)

    def core_flop_per_token(self, seq: float) -> float:
        """Forward FLOP of scores and weighted values: 2 * context * heads * (head_dim + v_head_dim), and the
        indexer's."""
        flop = 2 * self.context(seq) * self.num_heads * (self.head_dim + self.v_head_dim)
        return flop + (self.indexer.flop_per_entry() * self.scored(seq) / 2 if self.indexer else 0.0)

    def decode_flop(self, context: float) -> float:
        """FLOP of the attention core for one new token that sees `context` tokens, read from the cache as it lies
        there.

        MLA works on the latent itself (queries and outputs pass through kv_up, whose FLOP are the projection's):
        2 * attended * heads * (2 kv_lora + rope); else 2 * attended * heads * (head_dim + v_head_dim). And the
        indexer's.
        """
        width = 2 * self.kv_lora + self.rope_head_dim if self.kind == "mla" else self.head_dim + self.v_head_dim
        index = self.indexer.flop_per_entry() * self.scored(context) if self.indexer else 0.0
        return 2 * self.attended(context) * self.num_heads * width + index

    @property
    def entry_elements(self) -> int:
        """Elements of one cached entry: k and v of each kv head, or MLA's compressed kv and its shared rope key."""
        if self.kind == "mla":
            return self.kv_lora + self.rope_head_dim
        if self.shares_kv:
            return 0
        return self.num_kv_heads * (self.head_dim if self.cached_once else self.head_dim + self.v_head_dim)

    @property
    def index_elements(self) -> float:
        """Elements of the indexer's key cache that each token adds (often stored in 8 bits whatever the cache is
        in)."""
        if self.indexer is None or self.indexer.shared:
            return 0.0
        return self.indexer.head_dim / (self.compressor.ratio if self.compressor else self.indexer.pool)

    @property
    def kv_elements_per_token(self) -> float:
        """Elements that each token writes to the cache (a window forgets them later), indexer keys included."""
        compressed = self.entry_elements / self.compressor.ratio if self.compressor else 0
        return self.entry_elements + compressed + self.index_elements

    def cached_elements(self, context: float) -> float:
        """Elements that the cache of one sequence of `context` tokens holds: windows keep their window, a compressor
        its entries, an indexer its keys; sparse attention alone keeps everything."""
        kept = min(float(context), self.window) if self.window is not None else float(context)
        if self.compressor:
            kept += context / self.compressor.ratio
        return self.entry_elements * kept + self.index_elements * context

    def read_elements(self, context: float) -> float:
        """Elements of the cache that one decode token reads: the entries it attends to and every indexer key."""
        return self.entry_elements * self.attended(context) + self.index_elements * context


NO_ATTENTION = Attention(kind="gqa", num_heads=0, num_kv_heads=0, head_dim=0, v_head_dim=0)
"""The attention of a layer that has none: every width, FLOP and cache is zero."""
