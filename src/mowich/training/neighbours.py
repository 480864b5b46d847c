"""Why the best plan is the best: what its neighbours cost, which plans tie with it, and what trades time for memory.

A neighbour differs in one choice, taken to the next value on either side, with all other choices made anew: "the best
plan with pp 8". So its time is what insisting on that value costs, not the accident of keeping the other choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.models.model import Model
from mowich.plans.plan import SWITCHES, WORDS, Plan, Plans, TrainJob
from mowich.shown import Keyed
from mowich.software.stack import Platform
from mowich.training.search import Survey, candidate

FIELDS = (
    "tp",
    "sp",
    "cp",
    "pp",
    "vpp",
    "schedule",
    "ep",
    "etp",
    "zero",
    "shards",
    "micro_batch",
    "recompute",
    "precision",
    "order",
    "split",
    "offload",
    "tp_overlap",
    "dp_overlap",
    "pp_scatter",
    "regather",
)
"""Choices whose neighbours are shown; dp follows from the others."""

LEAST_SHOWN = 1e-3
"""Share of a step below which a difference is not printed, and has no cause to name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour(Keyed):
    """The best plan with another value of one choice. slower: share of the best plan's time per token that it takes
    more, or None when nothing with that value fits; then short_B says by how much. part: the part of the step that
    grows most, and by what share of the step. unused: share of the best plan's devices that this one leaves idle."""

    KEYS = "field value plan slower short_B memory_B part part_change unused cause"

    field: str
    value: str
    plan: Plan
    slower: float | None
    short_B: float
    memory_B: float
    part: str
    part_change: float
    unused: float

    @property
    def cause(self) -> str:
        """What makes it slower, in words: idle chips where they explain a good part of it, else the part that grows
        most, else nothing."""
        if self.slower is None or self.slower <= LEAST_SHOWN:
            return ""
        if self.unused > self.slower / 4.0:
            return f"leaves {self.unused:.0%} of the chips idle"
        return self.part if self.part_change > self.slower / 5.0 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ties(Keyed):
    """Plans that fit and lie within a share of the best (`plans.preference.margin`): how many, and which values each
    choice takes among them."""

    within: float
    count: int
    differ_in: Mapping[str, tuple[str, ...]]


def _word(field: str, code: float) -> str:
    """A value of a column as it is written."""
    if field in WORDS:
        return WORDS[field][int(code)]
    return ("on" if code else "off") if field in SWITCHES else str(int(code))


def neighbours_of(model: Model, system: Platform, job: TrainJob, found: Survey) -> tuple[Neighbour, ...]:
    """The neighbours of the best plan, by choice; empty when nothing fits."""
    best = found.best
    if best is None:
        return ()
    base = candidate(model, system, job, found.plans.plan(best))
    out = []
    for field in FIELDS:
        column = getattr(found.plans, field)
        mine = float(column[best])
        others = sorted(set(np.unique(column).tolist()) - {mine})
        if field not in WORDS and field not in SWITCHES:  # the next on either side
            others = [
                v
                for v in (
                    max((o for o in others if o < mine), default=None),
                    min((o for o in others if o > mine), default=None),
                )
                if v is not None
            ]
        for value in others:
            fastest = found.best_of(field, value)
            if fastest is not None:
                plan, need, seconds = fastest
                slower, short = seconds / float(found.seconds_per_token[best]) - 1.0, 0.0
            else:
                rows = np.flatnonzero(column == value)
                row = int(rows[np.argmin(found.need_B[rows])])
                plan, need = found.plans.plan(row), float(found.need_B[row])
                slower, short = None, need - system.hbm_usable_B
            other = candidate(model, system, job, plan)
            change = {
                k: (v / other.tokens - base.parts[k] / base.tokens) / base.seconds_per_token
                for k, v in other.parts.items()
                if k not in ("jitter", "software")
            }
            part = max(change, key=lambda k: change[k])
            out.append(
                Neighbour(
                    field=field,
                    value=_word(field, value),
                    plan=other.plan,
                    slower=slower,
                    short_B=short,
                    memory_B=need,
                    part=part,
                    part_change=change[part],
                    unused=max(0.0, 1.0 - other.plan.devices / base.plan.devices),
                )
            )
    return tuple(out)


def ties(found: Survey, within: float) -> Ties:
    """What lies within that share of the best."""
    best = found.best
    if best is None:
        return Ties(within=within, count=0, differ_in={})
    rows = np.flatnonzero(found.fits & (found.seconds_per_token <= found.seconds_per_token[best] * (1.0 + within)))
    same: Plans = found.plans.take(rows)
    values = {field: np.unique(getattr(same, field)) for field in (*FIELDS[:6], "dp", *FIELDS[6:])}
    return Ties(
        within=within,
        count=len(rows),
        differ_in={k: tuple(_word(k, x) for x in v) for k, v in values.items() if len(v) > 1},
    )


def front(*costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows that no other row beats in every cost (lower is better), in order of the first cost. Of equal rows the first
    is kept.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([3.0, 3.0, 1.0])).tolist()
    [0, 2]
    """
    order = np.lexsort(costs[::-1])
    table = np.stack(costs, axis=1)[order]
    if len(costs) == 2:  # sorted by the first cost, a row is on the front when its second is below all before it
        lowest = np.minimum.accumulate(table[:, 1])
        return order[np.concatenate([[True], table[1:, 1] < lowest[:-1]])] if len(table) else order
    kept: list[int] = []
    for i, row in enumerate(table):
        if not any(np.all(table[k] <= row) for k in kept):
            kept.append(i)
    return order[kept]
