"""Operators of a training step and of an engine step at the times of our own kernels, from the timing tables of a chip
(`mowich.operators.tables`).

`operators.law` asks here when it is given a `Kernels`, and `serving.tabled` for the cases of an engine; where a table
does not reach, the fitted formula's time that they bring along stands. Which operator takes which table, and what has
none: docs/theory/tables.md. No time of a table is below what the hardware allows (`mowich.operators.tables.lookup`).
Tables are those of devices that all work at once and share HBM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mowich.arrays import Floats, distinct
from mowich.errors import UserError
from mowich.machines.system import PRECISIONS
from mowich.models.model import Attention
from mowich.operators.tables import OPERATORS, devices_in, largest, operator_s, table_keys
from mowich.operators.tables.lookup import Lines, in_a_row_s, least_s, lines, published_rates

SIMULATED = "simulated kernels"
"""Kind of cost in a coverage: times of kernels of ours on the simulated NeuronCore."""
ROW = 4096.0
"""Columns of the view on which elementwise work runs: a kernel sees a flat buffer as it likes."""


@cache
def _machines() -> tuple[tuple[str, str], ...]:
    """Every (chip, scope of all its devices) that ships tables."""
    return tuple(key for key in table_keys("matmul") if key[1].startswith("chip"))


def table_code(chip: str, devices: int) -> int:
    """Number of the tables of a chip that is cut into so many devices, 0 without: what a column of cases can hold."""
    for code, (known, scope) in enumerate(_machines(), 1):
        if known == chip and devices_in(chip, scope) == devices:
            return code
    return 0


@cache
def kernels_of(code: int) -> Kernels:
    """The tables of a `table_code`, for the steps of an engine: one program of many kernels."""
    chip, scope = _machines()[code - 1]
    return Kernels(chip, scope=scope, in_a_row=True)


@dataclass(frozen=True, slots=True)
class KernelReach:
    """Share of a published rate that kernels reach at the largest shapes of their tables: products of many rows
    (compute) and of one (memory) of the matrix peak and of HBM, attention of a prompt of the peak, of a cache of HBM.
    Work that no table holds is as far below the published rates as these kernels are."""

    compute: float
    memory: float
    prompt: float
    cache: float


@cache
def timed_at(code: int, precision: str) -> tuple[float, float]:
    """(FLOP/s, bytes/s) of a device at which the kernels of a `table_code` were timed: as published for the chip; 0
    FLOP/s for a format that the chip has not, of which there is no table."""
    kernels = kernels_of(code)
    try:
        return published_rates(kernels.chip, precision, kernels.scope)
    except UserError:
        return 0.0, published_rates(kernels.chip, "bf16", kernels.scope)[1]


@cache
def reach_of(code: int) -> KernelReach:
    """Of a `table_code`."""
    kernels = kernels_of(code)

    def share(op: str, seconds: Floats, **sizes: float) -> float:
        points = np.array([[sizes[d]] for d in OPERATORS[op].dims])
        return float(least_s(kernels.chip, op, "bf16", points, kernels.scope)[0] / np.ravel(seconds)[0])

    def product(m: float) -> float:
        n, k = (largest(kernels.chip, "matmul", "bf16", d, scope=kernels.scope) for d in "nk")
        return share("matmul", kernels.product_s(np.array([m]), np.array([n]), np.array([k]), "bf16"), m=m, n=n, k=k)

    most = {
        d: largest(kernels.chip, "attention_prefill", "bf16", d, scope=kernels.scope) for d in ("queries", "prefix")
    }
    rows = largest(kernels.chip, "matmul", "bf16", "m", scope=kernels.scope)
    prompt = kernels.prompt_s(np.ones(1), most["queries"], most["prefix"], 128.0)
    cache_s = kernels.cache_s(np.array([16.0]), np.array([8.0]), np.array([8192.0]), np.array([128.0]))
    return KernelReach(
        compute=product(rows),
        memory=product(1.0),
        prompt=share("attention_prefill", prompt, heads=1.0, head_dim=128.0, **most),
        cache=share("attention_decode", cache_s, sequences=16.0, group=8.0, context=8192.0, head_dim=128.0),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """The tables of one chip. Each number may be a column: down, up: how far times move towards the low and the high
    end of their 90% intervals, 0 to 1; mark: relative change of the times that a kernel of ours was timed for, and of
    nothing that is derived from them. scope: of `tables.SCOPES`; in_a_row: kernels follow one another in one program,
    so that the start and the end of a launch is not in each of their times."""

    chip: str
    down: Floats | float = 0.0
    up: Floats | float = 0.0
    mark: Floats | float = 0.0
    scope: str = "chip"
    in_a_row: bool = False

    @property
    def lnc(self) -> int:
        """Physical cores of a device."""
        return round(devices_in(self.chip, "chip_lnc1") / devices_in(self.chip, self.scope))

    def source(self, seconds: Floats) -> str:
        """What a recorded term says of where its time is from. seconds: the term's, a column for each of `mark`, the
        first unmarked and the last
        marked: how much longer the marked is says which share of it a kernel was timed for."""
        marks, x = np.ravel(self.mark), np.ravel(seconds)
        if x[0] <= 0 or marks[-1] == 0:
            return ""
        share = (x[-1] / x[0] - 1.0) / marks[-1] if x.size == marks.size else 0.0
        if share < 0.005:
            return f"the formula: no operator table of {self.chip} reaches this"
        if share > 0.995:
            return f"operator tables of {self.chip}: kernels of ours"
        return (
            f"{share:.0%} from operator tables of {self.chip}; the rest by the formula, or a multiple of a timed"
            " forward pass"
        )

    def _time(self, op: str, dtype: str, **shape: Floats | float) -> Floats:
        """Seconds, nan where the table does not reach."""
        if self.in_a_row:
            return in_a_row_s(self.chip, op, dtype, shape, scope=self.scope)
        t = operator_s(self.chip, op, dtype, shape, scope=self.scope)
        return np.asarray(t.seconds * (t.low / t.seconds) ** self.down * (t.high / t.seconds) ** self.up)

    def _or(self, tabled: Floats, fitted: Floats, timed: float = 1.0) -> Floats:
        """`tabled` where there is a time, of which the share `timed` is of kernels that ran; else `fitted`."""
        return np.where(np.isnan(tabled), fitted, tabled * (1.0 + timed * self.mark))

    def products(
        self, m: Floats, n: Floats, k: Floats, groups: Floats | float, precision: Floats | float, fitted: Floats
    ) -> Floats:
        """Mean time of the three products of a training step, out[m,n] = in[m,k] w[k,n] and the gradients of its input
        [m,n] x [n,k] and of its weight [k,m] x [m,n]; of `groups` experts in one call where that is a column.

        Every product that no table has takes `fitted`, the forward time of the formula.
        """
        m, n, k, experts, index = np.broadcast_arrays(m, n, k, groups, precision)
        rows, columns, deep = np.array([[m, m, k], [n, k, n], [k, n, m]])  # [product, case] each
        seconds = fitted
        for code in distinct(index):
            some = experts if isinstance(groups, np.ndarray) else None
            t = self.product_s(rows, columns, deep, PRECISIONS[int(code)], some)
            mean = (self._or(t[0], fitted) + self._or(t[1], fitted) + self._or(t[2], fitted)) / 3.0
            seconds = np.where(index == code, mean, seconds)
        return seconds

    def product_s(self, m: Floats, n: Floats, k: Floats, dtype: str, experts: Floats | None = None) -> Floats:
        """Seconds of out[m, n] = in[m, k] x weight[k, n], of each of `experts` where they are given; nan where the
        table does not reach. A contraction beyond the table's largest is done in equal parts, each written out."""
        op, grouped = ("matmul", {}) if experts is None else ("moe_gemm", {"experts": experts})
        parts = np.maximum(np.ceil(k / (largest(self.chip, op, dtype, "k", scope=self.scope) or np.inf)), 1.0)
        return np.asarray(parts * self._time(op, dtype, m=m, n=n, k=k / parts, **grouped))

    def product_lines(self, n: Floats, k: Floats, dtype: str) -> Lines | None:
        """`product_s` along m, for columns of n and k; None without a table."""
        parts = np.maximum(np.ceil(k / (largest(self.chip, "matmul", dtype, "k", scope=self.scope) or np.inf)), 1.0)
        found = lines(self.chip, "matmul", dtype, "m", {"n": n, "k": k / parts}, scope=self.scope)
        return None if found is None else found.times(parts)

    def cache_lines(self, group: Floats, context: Floats, head_dim: Floats) -> Lines | None:
        """`cache_s` along sequences, for columns of the others; None without a table."""
        shape = {"group": group, "context": context, "head_dim": head_dim}
        return lines(self.chip, "attention_decode", "bf16", "sequences", shape, scope=self.scope)

    def prompt_s(
        self, heads: Floats, tokens: Floats | float, prefix: Floats | float, head_dim: Floats | float
    ) -> Floats:
        """Seconds of causal attention of `tokens` on themselves and on `prefix` tokens before them, `heads` query heads
        x sequences; nan where the table does not reach. Beyond the longest prompt of the table the prompt runs in equal
        chunks, each on the ones before."""
        longest = largest(self.chip, "attention_prefill", "bf16", "queries", scope=self.scope)
        chunks = np.ceil(np.asarray(tokens) / longest) if longest else np.ones(1)
        queries = tokens / chunks
        before = prefix + queries * (chunks - 1.0) / 2.0  # the mean over the chunks: time is linear in it
        shape = {"heads": heads, "queries": queries, "prefix": before, "head_dim": head_dim}
        return np.asarray(chunks * self._time("attention_prefill", "bf16", **shape))

    def cache_s(self, sequences: Floats, group: Floats, context: Floats, head_dim: Floats) -> Floats:
        """Seconds of one token of each of `sequences` x key-value heads on its cache, `group` queries a head; nan where
        the table does not reach."""
        shape = {"sequences": sequences, "group": group, "context": context, "head_dim": head_dim}
        return self._time("attention_decode", "bf16", **shape)

    def attention(
        self,
        a: Attention,
        heads: Floats,
        tokens: float,
        share: Floats,
        again: Floats | float,
        fitted: tuple[Floats, Floats],
    ) -> tuple[Floats, Floats]:
        """(forward, backward) of causal attention of `tokens` on themselves, `heads` query heads x sequences, of which
        a rank does `share`.

        Other kinds
        than grouped-query (latent, windowed, sparse, with sinks, both ways), heads wider than the table's, and layers
        without attention have none. Nor has the backward pass: it is the forward's time x `again`, and is not counted
        as timed.
        """
        special = (
            not a.num_heads
            or a.kind != "gqa"
            or a.sinks
            or not a.causal
            or a.indexer
            or a.compressor
            or a.head_dim != a.v_head_dim
        )
        if special or (a.window and a.window < tokens):
            return fitted
        t = share * self.prompt_s(heads, tokens, 0.0, a.head_dim)
        return self._or(t, fitted[0]), self._or(again * t, fitted[1], 0.0)

    def passes(self, rows: Floats, columns: float, norms: float, elements: Floats, fitted: Floats) -> Floats:
        """Mean of the forward and the two backward parts of what is bound by memory: `norms` RMSNorms of [rows,
        columns], and `elements` that elementwise work reads or writes, three each time (two in, one out). Backward
        takes twice the forward's, as in the formula, and is not counted as timed."""
        t = norms * self._time("rmsnorm", "bf16", rows=rows, columns=columns)
        t = t + self._time("add", "bf16", rows=elements / 3.0 / ROW, columns=ROW)
        return self._or(t, fitted, 1.0 / 3.0)

    def quantise(self, elements: Floats, precision: Floats, again: float, fitted: Floats) -> Floats:
        """Casting `elements` of products' inputs with their scales; the backward pass takes `again` times as long and
        is not counted as timed."""
        out = np.array(fitted)
        for code in distinct(precision):
            dtype = PRECISIONS[int(code)]
            if dtype != "bf16":
                t = self._time("quantise", dtype, rows=np.maximum(elements, ROW) / ROW, columns=ROW)
                out = np.where(precision == code, self._or(t, fitted, 1.0 / (1.0 + again)), out)
        return out

    def optimizer(self, elements: Floats, fitted: Floats) -> Floats:
        """An AdamW step on `elements` parameters."""
        return self._or(self._time("adamw", "bf16", elements=np.maximum(elements, 1.0)), fitted)
