"""A block of a model as it was captured from code, where no mixer or feed-forward of ours says what it does.

Its products, attention cores and scans are listed one by one, each under its module's name in the user's code. It
stands in the place of a layer's mixer; routed experts beside it are the layer's `Moe`. Counts are per layer and
unsharded. RowCount are (fixed, per token) of one sequence: m = batch * (fixed + per_token * tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeVar

from mowich.arrays import Floats
from mowich.models.attention import NO_ATTENTION, Attention
from mowich.sums import float_sum

Role = Literal["column", "row", "vocabulary", "replicated"]
ProductGroup = Literal["", "qkv", "attn_out", "mlp_up", "mlp_down"]
RowCount = tuple[float, float]
EACH_TOKEN: RowCount = (0.0, 1.0)
"""A row for each token."""
ONE_SEQUENCE: RowCount = (1.0, 0.0)
"""The sequence itself."""


def row_count(rows: RowCount, seq: float) -> float:
    """Rows of one sequence of `seq` tokens: fixed + per_token * seq.

    >>> row_count((512.0, 1.0), 4096)
    4608.0
    """
    return rows[0] + rows[1] * seq


N = TypeVar("N", float, Floats)


def rows_per_token(rows: RowCount, seq: N) -> N:
    """Rows for each token: per_token + fixed / seq. seq: tokens of a sequence on a rank; ranks that share a sequence
    have its fixed rows whole.

    >>> rows_per_token((512.0, 1.0), 4096.0), rows_per_token((512.0, 1.0), 4096.0 / 2)
    (1.125, 1.25)
    """
    return rows[1] + rows[0] / seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedProduct:
    """out[m, n] = in[m, k] x weight[k, n]. module: its name in the user's code, within the layer; rows: m of one
    sequence; role: how tensor parallelism splits it, replicated where that is not known; biases: weights of its bias;
    is_weight: whether its second operand is a weight; is_shared: whether that weight is counted elsewhere already (tied
    to another, or used twice)."""

    module: str
    n: int
    k: int
    rows: RowCount = (0.0, 1.0)
    role: Role = "replicated"
    biases: int = 0
    is_weight: bool = True
    is_shared: bool = False

    @property
    def params(self) -> int:
        """Weights that it adds to the model, its bias left out."""
        return self.n * self.k if self.is_weight and not self.is_shared else 0

    def flop_per_token(self, seq: float) -> float:
        """Forward FLOP over the tokens of a sequence: 2 n k rows / seq."""
        return 2.0 * self.n * self.k * row_count(self.rows, seq) / seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCore:
    """One attention core. attention: heads, widths, window and causality as `Attention` has them (its projections are
    products of their own); queries, keys: positions of one sequence; sequences: how many such sequences one sequence of
    the model makes (windows of an image); is_cached: whether decoding keeps its keys and values; is_unfused: whether
    the user's code writes its scores; is_masked: whether it takes a dense mask that is no plain causal one."""

    module: str
    attention: Attention
    queries: RowCount = (0.0, 1.0)
    keys: RowCount = (0.0, 1.0)
    sequences: RowCount = (1.0, 0.0)
    is_cached: bool = True
    is_unfused: bool = False
    is_masked: bool = False

    @property
    def grows(self) -> bool:
        """Whether decoding keeps more with each token."""
        return self.is_cached and self.keys[1] * self.sequences[0] > 0

    def queries_per_token(self, seq: float) -> float:
        """Query positions of all its sequences, over the tokens of a sequence of the model."""
        return row_count(self.sequences, seq) * row_count(self.queries, seq) / seq

    def keys_per_token(self, seq: float) -> float:
        """Key positions of all its sequences, over the tokens of a sequence of the model."""
        return row_count(self.sequences, seq) * row_count(self.keys, seq) / seq

    def flop_per_token(self, seq: float) -> float:
        """Forward FLOP over the tokens of a sequence: 2 * sequences * queries * context(keys) * heads * (qk + v) / seq;
        context is halved where the core is causal."""
        a = self.attention
        attended = a.context(row_count(self.keys, seq))
        return 2.0 * self.queries_per_token(seq) * attended * a.num_heads * (a.head_dim + a.v_head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedScan:
    """A recurrence that was taken whole. kind: its name; flop: forward, per token; state_elements, conv_elements: kept
    of one sequence; moved: elements per token that its kernels move; num_heads: that ranks can share, 0 where not
    known: each rank then has all of it."""

    module: str
    kind: str
    flop: float
    state_elements: float
    conv_elements: float = 0.0
    moved: float = 0.0
    num_heads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A captured block. module: its name in the user's code ("layers.{}"); products, cores, scans: what it computes;
    moved: elements that its passes over memory between these read and write, as (fixed, per token) of one sequence, as
    a compiler fuses them; moved_eager: the same run one operation after another; norms: norms among them;
    cached_elements: that each token writes to the cache (None: keys and values of the cached cores); blocks: residual
    additions; launches: operations of one forward pass of eager code."""

    module: str
    products: tuple[TracedProduct, ...]
    cores: tuple[TracedCore, ...] = ()
    scans: tuple[TracedScan, ...] = ()
    moved: RowCount = (0.0, 0.0)
    moved_eager: RowCount = (0.0, 0.0)
    norms: int = 2
    cached_elements: float | None = None
    blocks: int = 2
    launches: int = 0

    def __hash__(self) -> int:
        return hash((self.module, len(self.products), self.moved, self.moved_eager, self.launches))

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Heads and widths of every core."""
        return tuple(core.attention for core in self.cores)

    @property
    def attention(self) -> Attention:
        """The core that decoding caches, else the first one, else none."""
        cached = [core.attention for core in self.cores if core.is_cached]
        return next(iter([*cached, *self.attentions]), NO_ATTENTION)

    def matmul_params(self, hidden: int) -> int:
        """Weights of the matrices."""
        return sum(product.params for product in self.products)

    def params(self, hidden: int) -> int:
        """Matrices and biases; norms and other vectors are the layer's `norm_params`."""
        return self.matmul_params(hidden) + sum(product.biases for product in self.products)

    def product_flop_per_token(self, seq: float) -> float:
        """Forward FLOP of the products over the tokens of a sequence."""
        return float_sum(product.flop_per_token(seq) for product in self.products)

    def core_flop_per_token(self, seq: float) -> float:
        """Forward FLOP of attention cores and scans over the tokens of a sequence."""
        return float_sum(core.flop_per_token(seq) for core in self.cores) + float_sum(scan.flop for scan in self.scans)

    @property
    def cache_scale(self) -> float:
        """Elements that a token writes to the cache over those of the keys and values of the cached cores."""
        of_cores = float_sum(core.attention.kv_elements_per_token for core in self.cores if core.grows)
        return 1.0 if self.cached_elements is None or not of_cores else self.cached_elements / of_cores

    @property
    def kv_elements_per_token(self) -> float:
        """Elements that each token writes to the cache."""
        if self.cached_elements is not None:
            return self.cached_elements
        return float_sum(core.attention.kv_elements_per_token for core in self.cores if core.grows)

    def kept_elements(self, context: float) -> float:
        """Elements that the cache of one sequence of `context` tokens holds: windows keep their window, cores that read
        something of fixed length keep that."""
        of_cores = float_sum(
            core.attention.cached_elements(row_count(core.keys, context)) for core in self.cores if core.is_cached
        )
        if self.cached_elements is not None and not any(core.grows for core in self.cores):
            return self.cached_elements * context + of_cores
        return self.cache_scale * of_cores

    @property
    def state_elements(self) -> float:
        """Elements of the states of one sequence."""
        return float_sum(scan.state_elements for scan in self.scans)

    @property
    def conv_elements(self) -> float:
        """Elements that convolutions keep of one sequence."""
        return float_sum(scan.conv_elements for scan in self.scans)

    def home(self, module: str) -> str:
        """The block that an attention core or a scan is in: the longest part of its module's name that has products;
        "" for all of the layer."""
        while module and not any(_is_below(product.module, module) for product in self.products):
            module = module.rpartition(".")[0]
        return module

    def around(self, module: str) -> tuple[TracedProduct, ...]:
        """The products of the block that an attention core or a scan is in."""
        home = self.home(module)
        return tuple(product for product in self.products if _is_below(product.module, home))

    def is_split(self, part: TracedCore | TracedScan) -> bool:
        """Whether ranks of tensor parallelism share the heads of a core or a scan: a product of its block is split."""
        heads = part.num_heads if isinstance(part, TracedScan) else part.attention.num_heads
        return heads > 0 and any(product.role != "replicated" for product in self.around(part.module))


def _is_below(module: str, path: str) -> bool:
    return not path or module == path or module.startswith(path + ".")


@lru_cache(maxsize=256)
def groups(traced: Traced) -> tuple[ProductGroup, ...]:
    """What each product does, by the block that it is in: into an attention core or a scan ("qkv"), out of it
    ("attn_out"), into another block ("mlp_up"), out of it ("mlp_down"). A product leads out of a block where its role
    is "row", or, where that is not known, where it is the last one of its module and reads what another one or a core
    of it wrote. Where a core lies beside all products, those of its widths are its own.

    >>> up = TracedProduct(module="up", n=8, k=2, role="column")
    >>> down = TracedProduct(module="down", n=2, k=8, role="row")
    >>> groups(Traced(module="layers.{}", products=(up, down)))
    ('mlp_up', 'mlp_down')
    """
    own: set[TracedProduct] = set()
    written: dict[str, set[int]] = {}
    last: dict[str, TracedProduct] = {}
    parts: tuple[TracedCore | TracedScan, ...] = (*traced.cores, *traced.scans)
    for part in parts:
        found = traced.around(part.module)
        if isinstance(part, TracedCore):
            a = part.attention
            if not traced.home(part.module):
                q, k, v = a.q_width, a.num_kv_heads * a.head_dim, a.num_kv_heads * a.v_head_dim
                into = {q, k, v, k + v, q + k + v}
                found = tuple(p for p in found if (p.k == a.out_width if p.role == "row" else p.n in into))
            for product in found:
                written.setdefault(_parent(product), set()).add(a.out_width)
        own |= set(found)
    for product in traced.products:
        last[_parent(product)] = product
    out, before = [], dict[str, set[int]]()
    for product in traced.products:
        parent = _parent(product)
        read = written.get(parent) or before.get(parent, set())
        ends = product.role == "row" or (product.role == "replicated" and product is last[parent] and product.k in read)
        out.append(_GROUP[product in own, ends])
        before.setdefault(parent, set()).update((product.n, product.n // 2))
    return tuple(out)


def _parent(product: TracedProduct) -> str:
    return product.module.rpartition(".")[0]


_GROUP: dict[tuple[bool, bool], ProductGroup] = {
    (True, False): "qkv",
    (True, True): "attn_out",
    (False, False): "mlp_up",
    (False, True): "mlp_down",
}
