"""Published times of collectives against ours (docs/records/accuracy-collectives.md). The rows are
facts/published/collectives.csv, each a measured time with its source. Nothing is fitted here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mowich.evidence.measured_tables import shipped_rows
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.machines.topology import on_network, per_chip
from mowich.readback import record_of

LARGE_B = 2**20
"""Sizes of 1 MiB and more are judged apart from smaller ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One published time. group: ranks, one per chip; data_B: full buffer (what each rank sends, for an all-to-all);
    network: "" inside one domain."""

    id: str
    system: str
    network: str
    group: int
    kind: str
    data_B: int
    time_s: float
    source: str
    locator: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A published time beside ours. ratio: predicted over measured; error: max(ratio, 1/ratio) - 1."""

    row: Measured
    predicted_s: float
    algorithm: str
    binds: str

    @property
    def ratio(self) -> float:
        return self.predicted_s / self.row.time_s

    @property
    def error(self) -> float:
        return max(self.ratio, 1.0 / self.ratio) - 1.0


def measured() -> list[Measured]:
    """The published rows that ship."""
    return [
        record_of(Measured, r, group=int(r["group"]), data_B=int(r["bytes"]), time_s=float(r["time_us"]) * 1e-6)
        for r in shipped_rows("published/collectives.csv")
    ]


def compare_measured(facts: Facts, rows: Sequence[Measured]) -> list[Compared]:
    """Predict every row with the closed forms of its machine."""
    out = []
    for row in rows:
        system = (
            resolve(facts, row.system) if ":" in row.system else resolve(facts, row.system, chips=max(row.group, 2))
        )
        if row.network:
            system = on_network(facts, system, row.network)
        found = collectives.choose(
            per_chip(system), row.kind, np.array([float(row.data_B)]), np.array([float(row.group)]), np.ones(1)
        )
        out.append(
            Compared(row=row, predicted_s=float(found.time_s[0]), algorithm=found.algorithm[0], binds=found.binds[0])
        )
    return out


def median(rows: Sequence[Compared]) -> float:
    """Median absolute error of some rows."""
    return float(np.median([r.error for r in rows]))
