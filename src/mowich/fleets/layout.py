"""The layout of a fleet's programme: the place of each variable, and the meaning of each row. No formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.fleets.problem import CLOUD, Choice, FleetSite, Offer, Vector

TIES = frozenset({"use", "capacity", "port", "pick", "stack", "step", "on"})
"""Kinds of rows that only tie variables together; they are no limit and no part of a conflict."""

ColumnNumbers = NDArray[np.int64]
"""Places of variables in the programme; -1 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """The meaning of a row of the programme. kind and subject make the group; period: index or -1; unit: name of one
    more of it; scale: units that 1 of the right-hand side stands for (power in MW, units unscaled)."""

    kind: str
    subject: str
    period: int
    unit: str
    scale: float = 1.0

    @property
    def group(self) -> tuple[str, str]:
        return self.kind, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammePool:
    """Units of one system at one site. owned: at a site of ours, where we pay for electricity; offers: orders that fill
    it."""

    choice: Choice
    site: FleetSite
    owned: bool
    there: Vector
    offers: tuple[int, ...]

    @property
    def holds_committed(self) -> bool:
        """Whether committed units are here: rented, and in the cloud."""
        return not self.owned and self.site.name == CLOUD


@dataclass(frozen=True, slots=True, kw_only=True)
class RunColumns:
    """A training run: begun, ended: [W] 1 from the period in which it begins, and from the one after its last; fullest:
    the share of it done in its fullest period."""

    begun: ColumnNumbers
    ended: ColumnNumbers
    fullest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The place of each variable. work[task, system]: [T] columns, only where the task runs there and then (else -1),
    in units at the peak of its day. busy, peak: units of each pool at work, mean of the day and in its fullest hour;
    the same columns where no task has a day. sold[system]: [T] committed units let to others, where they can be.
    ports[workload, stack]: the columns of work that need the port. progress[workload]: [W] share of a workload of
    reinforcement learning done in each period of its window. runs[workload]: training runs held together."""

    work: Mapping[tuple[str, str], ColumnNumbers]
    busy: ColumnNumbers
    peak: ColumnNumbers
    sold: Mapping[str, ColumnNumbers]
    orders: ColumnNumbers
    keeps: Mapping[tuple[str, str], int]
    picks: Mapping[tuple[str, str], int]
    stacks: Mapping[str, int]
    ports: Mapping[tuple[str, str], ColumnNumbers]
    progress: Mapping[str, ColumnNumbers]
    runs: Mapping[str, RunColumns]
    pools: tuple[ProgrammePool, ...]
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """min cost.x, row_low <= A x <= row_high, low <= x <= high; A by columns. goals: name -> vector to minimise; units:
    name -> its size in USD, J, stacks or tokens, chosen so that its numbers are near one; negative for maximised goals.
    first: the first goal."""

    layout: Layout
    first: str
    units: Mapping[str, float]
    goals: Mapping[str, Vector]
    offset: Mapping[str, float]
    low: Vector
    high: Vector
    integer: NDArray[np.bool_]
    row_low: Vector
    row_high: Vector
    says: tuple[Says, ...]
    starts: NDArray[np.int64]
    index: NDArray[np.int64]
    value: Vector

    def amount(self, goal: str, value: float) -> float:
        """A value of a goal in its own unit: USD, J, stacks or tokens."""
        return value * self.units[goal]


def active_periods(offer: Offer, ordered: int, num_periods: int) -> slice:
    """The periods in which an order of a period is installed: a purchase to the end, a rental for its term."""
    first = ordered + offer.delay
    last = num_periods if offer.kind == "buy" else min(num_periods, first + offer.term)
    return slice(min(first, num_periods), last)


def standing(offer: Offer, period: int, num_periods: int) -> list[int]:
    """The periods in which an order must be placed so that its units are installed in a period."""
    when = [active_periods(offer, q, num_periods) for q in range(num_periods)]
    return [q for q, there in enumerate(when) if there.start <= period < there.stop]
