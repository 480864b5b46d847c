"""Whole models that were measured on Trainium 2 and on Trainium 3 (`facts/published/trainium_models.csv`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mowich.evidence.measured_tables import shipped_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredGain:
    """One model at one shape. before_s, now_s: of the same work on Trainium 2 and on Trainium 3, seconds."""

    model: str
    shape: str
    before_s: float
    now_s: float
    source: str

    @property
    def gain(self) -> float:
        """How many times as fast the newer chip is."""
        return self.before_s / self.now_s


@cache
def measured_gains() -> tuple[MeasuredGain, ...]:
    """Every model with times for both chips, in the order of the file.

    >>> [f"{g.gain:.2f}" for g in measured_gains()][:2]
    ['1.11', '1.27']
    """
    times: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for row in shipped_rows("published/trainium_models.csv"):
        times.setdefault((row["model"], row["shape"]), {})[row["chip"]] = row
    return tuple(
        MeasuredGain(
            model=model,
            shape=shape,
            before_s=float(by_chip["trn2"]["value"]) * 1e-3,
            now_s=float(by_chip["trn3"]["value"]) * 1e-3,
            source=by_chip["trn3"]["source"],
        )
        for (model, shape), by_chip in times.items()
        if {"trn2", "trn3"} <= by_chip.keys()
    )
