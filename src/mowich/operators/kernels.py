"""Operators of a training step at the times of our own kernels, from the timing tables of a chip
(`mowich.operators.tables`).

`operators.law` asks here when it is given a `Kernels`; where a table does not reach, the fitted formula's time that it
brings along stands. Which operator takes which table, and what has none: docs/tables.md. No time of a table is below
what the hardware allows (`mowich.operators.tables.lookup`). Tables are those of devices that all work at once and share
HBM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats, distinct
from mowich.machines.system import PRECISIONS
from mowich.models.model import Layer
from mowich.operators.tables import largest, operator_s

ROW = 4096.0
"""Columns of the view on which elementwise work runs: a kernel sees a flat buffer as it likes."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """The tables of one chip. Each number may be a column: down, up: how far times move towards the low and the high
    end of their 90% intervals, 0 to 1; mark: relative change of the times that a kernel of ours was timed for, and of
    nothing that is derived from them."""

    chip: str
    down: Floats | float = 0.0
    up: Floats | float = 0.0
    mark: Floats | float = 0.0

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
        t = operator_s(self.chip, op, dtype, shape)
        return np.asarray(t.seconds * (t.low / t.seconds) ** self.down * (t.high / t.seconds) ** self.up)

    def _or(self, tabled: Floats, fitted: Floats, timed: float = 1.0) -> Floats:
        """`tabled` where there is a time, of which the share `timed` is of kernels that ran; else `fitted`."""
        return np.where(np.isnan(tabled), fitted, tabled * (1.0 + timed * self.mark))

    def products(
        self, m: Floats, n: Floats, k: Floats, groups: Floats | float, precision: Floats | float, fitted: Floats
    ) -> Floats:
        """Mean time of the three products of a training step, out[m,n] = in[m,k] w[k,n] and the gradients of its input
        [m,n] x [n,k] and of its weight [k,m] x [m,n]; of `groups` experts in one call where that is a column. A
        contraction beyond the table's largest is done in equal parts, each written out.

        Every product that no table has takes `fitted`, the forward time of the formula.
        """
        m, n, k, experts, index = np.broadcast_arrays(m, n, k, groups, precision)
        rows, columns, deep = np.array([[m, m, k], [n, k, n], [k, n, m]])  # [product, case] each
        grouped = {"experts": experts} if isinstance(groups, np.ndarray) else {}
        op = "moe_gemm" if grouped else "matmul"
        seconds = fitted
        for code in distinct(index):
            dtype = PRECISIONS[int(code)]
            parts = np.ceil(deep / (largest(self.chip, op, dtype, "k") or np.inf))
            t = np.maximum(parts, 1.0) * self._time(
                op, dtype, m=rows, n=columns, k=deep / np.maximum(parts, 1.0), **grouped
            )
            mean = (self._or(t[0], fitted) + self._or(t[1], fitted) + self._or(t[2], fitted)) / 3.0
            seconds = np.where(index == code, mean, seconds)
        return seconds

    def attention(
        self,
        layer: Layer,
        heads: Floats,
        tokens: float,
        share: Floats,
        again: Floats | float,
        fitted: tuple[Floats, Floats],
    ) -> tuple[Floats, Floats]:
        """(forward, backward) of causal attention of `tokens` on themselves, `heads` query heads x sequences, of which
        a rank does `share`.

        Beyond the longest prompt of the table the prompt runs in equal chunks, each on the ones before. Other kinds
        than grouped-query (latent, windowed, sparse, with sinks, both ways), heads wider than the table's, and layers
        without attention have none. Nor has the backward pass: it is the forward's time x `again`, and is not counted
        as timed.
        """
        a = layer.attention
        special = (
            not a.num_heads
            or a.kind != "gqa"
            or a.sinks
            or not a.causal
            or a.indexer
            or a.compressor
            or a.head_dim != a.v_head_dim
        )
        longest = largest(self.chip, "attention_prefill", "bf16", "queries")
        if special or layer.recurrent is not None or (a.window and a.window < tokens) or not longest:
            return fitted
        chunks = np.ceil(tokens / longest)
        queries = tokens / chunks
        prefix = queries * (chunks - 1.0) / 2.0  # the mean over the chunks: time is linear in it
        t = (
            share
            * chunks
            * self._time("attention_prefill", "bf16", heads=heads, queries=queries, prefix=prefix, head_dim=a.head_dim)
        )
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
