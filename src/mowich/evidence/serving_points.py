"""Measured points of serving for pictures: the speed of a user and of a chip, from the shipped table as `validate`
reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mowich.evidence.measured_tables import TRAINIUM, published, read_csv
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import load_facts
from mowich.software.vendors import chip_of

_SPEED, _RATE = "tpot_ms", "output_tok_s_per_chip"
"""The two metrics that a point needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDot:
    """One measured point. user, chip: output tokens per second of a user, and of a chip; source: who published it;
    label: lengths, batch, formats, software and source in words."""

    user: float
    chip: float
    source: str
    label: str


@cache
def _cases() -> tuple[tuple[PublishedRow, ServingCase], ...]:
    """The rows that are compared in both metrics, each with its case."""
    facts = load_facts()
    rows = read_csv(published(TRAINIUM), facts)
    read = zip(rows, read_serving_cases(rows, facts), strict=True)
    cases = [(row, case) for row, case in read if not isinstance(case, str)]
    return tuple((r, c) for r, c in cases if all(c.measured.get(m) and m not in c.skip for m in (_SPEED, _RATE)))


@cache
def _chip(system_id: str) -> str | None:
    """The chip of a shipped system."""
    facts = load_facts()
    return chip_of(facts, system_id) if system_id in facts.ids("systems") else None


def measured_points(model: str, system_id: str, weights: str) -> tuple[MeasuredDot, ...]:
    """Every measured point of a model on the chip of a system, with this format of its weights; none where nothing was
    published or the system does not ship. model: the name that answers have.

    >>> len(measured_points("qwen3-1.7b", "trn2", "bf16")), measured_points("qwen3-1.7b", "trn2", "fp8")
    (15, ())
    """
    chip = _chip(system_id)
    if chip is None:
        return ()
    return tuple(
        MeasuredDot(
            user=1e3 / case.measured[_SPEED],
            chip=case.measured[_RATE],
            source=case.source,
            label=(
                f"measured: {row['isl']} in, {row['osl']} out, batch {row['batch'] or '?'},"
                f" {weights} (cache {case.plan.kv}), {case.version}, {case.source}"
            ),
        )
        for row, case in _cases()
        if (case.chip, case.model.name, case.plan.weights) == (chip, model, weights)
    )
