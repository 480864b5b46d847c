"""A block of a model as it was captured from code, where no mixer or feed-forward of ours says what it does.

Its products, attention cores and scans are listed one by one, each under its module's name in the user's code. It
stands in the place of a layer's mixer; routed experts beside it are the layer's `Moe`. Counts are per layer and
unsharded. Rows are (fixed, per token) of one sequence: m = batch * (fixed + per_token * tokens).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mowich.models.attention import NO_ATTENTION, Attention
from mowich.sums import float_sum

Role = Literal["column", "row", "vocabulary", "replicated"]
Rows = tuple[float, float]


def rows_of(rows: Rows, seq: float) -> float:
    """Rows of one sequence of `seq` tokens: fixed + per_token * seq.

    >>> rows_of((512.0, 1.0), 4096)
    4608.0
    """
    return rows[0] + rows[1] * seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedProduct:
    """out[m, n] = in[m, k] x weight[k, n]. module: its name in the user's code, within the layer; rows: m of one
    sequence; role: how tensor parallelism splits it, replicated where that is not known; biases: weights of its bias;
    is_weight: whether its second operand is a weight; is_shared: whether that weight is counted elsewhere already (tied
    to another, or used twice)."""

    module: str
    n: int
    k: int
    rows: Rows = (0.0, 1.0)
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
        return 2.0 * self.n * self.k * rows_of(self.rows, seq) / seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedCore:
    """One attention core. attention: heads, widths, window and causality as `Attention` has them (its projections are
    products of their own); queries, keys: positions of one sequence; sequences: how many such sequences one sequence of
    the model makes (windows of an image); is_cached: whether decoding keeps its keys and values; is_unfused: whether
    the user's code writes its scores; is_masked: whether it takes a dense mask that is no plain causal one."""

    module: str
    attention: Attention
    queries: Rows = (0.0, 1.0)
    keys: Rows = (0.0, 1.0)
    sequences: Rows = (1.0, 0.0)
    is_cached: bool = True
    is_unfused: bool = False
    is_masked: bool = False

    def flop_per_token(self, seq: float) -> float:
        """Forward FLOP over the tokens of a sequence: 2 * sequences * queries * context(keys) * heads * (qk + v) / seq;
        context is halved where the core is causal."""
        a = self.attention
        queries = rows_of(self.sequences, seq) * rows_of(self.queries, seq)
        return 2.0 * queries * a.context(rows_of(self.keys, seq)) * a.num_heads * (a.head_dim + a.v_head_dim) / seq


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedScan:
    """A recurrence that was taken whole. kind: its name; flop: forward, per token; state_elements, conv_elements: kept
    of one sequence; moved: elements per token that its kernels move."""

    module: str
    kind: str
    flop: float
    state_elements: float
    conv_elements: float = 0.0
    moved: float = 0.0


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
    moved: Rows = (0.0, 0.0)
    moved_eager: Rows = (0.0, 0.0)
    norms: int = 2
    cached_elements: float | None = None
    blocks: int = 2
    launches: int = 0

    @property
    def attention(self) -> Attention:
        """The core that decoding caches, else the first one, else none: its heads bound tensor parallelism."""
        cached = [core.attention for core in self.cores if core.is_cached]
        return next(iter([*cached, *(core.attention for core in self.cores)]), NO_ATTENTION)

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
