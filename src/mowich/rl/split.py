"""How many chips of which vendor make answers, and how many train: candidates of a split as columns.

A side is some chips of one system with a plan; a candidate is a side that makes answers and a side that trains. Here
are the sizes of a side, the candidates within a number of chips, and what their step times say: the order of a goal and
the front of dollars against step time. No facts and no laws of time: seconds arrive as columns
(`schedule.closed_columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.plans.search import by_time, rising, spread_out

Places = NDArray[np.intp]

SplitGoal = Literal["cost", "time"]
SPLIT_GOALS: tuple[SplitGoal, ...] = get_args(SplitGoal)
"""What a split is chosen by. cost: least dollars of a trained token, of candidates that use the chips asked for; time:
the shortest step, of candidates that cost no more than a budget."""

SIZES = 12
"""Sizes of a side that are tried at first. Those between are tried beside the best ones."""

_UNITS, _PARTS = 4, 8
"""Whole units (racks, UltraServers) from which sides are counted in them; below that, a side is counted in so many
parts of the chips asked for, each of whole servers."""


def size_step(*, server: int, unit: int, most: int) -> int:
    """Chips that the sizes of a side are multiples of: whole units where `most` chips hold several, else whole servers,
    about an eighth of `most`. server, unit: chips of one of either.

    >>> size_step(server=4, unit=72, most=512), size_step(server=4, unit=9216, most=512)
    (72, 64)
    >>> size_step(server=8, unit=8, most=16)
    8
    """
    if most >= _UNITS * unit:
        return unit
    step = min(server, max(most, 1))
    while 2 * step * _PARTS <= most and 2 * step <= unit:
        step *= 2
    return step


def side_sizes(step: int, most: int, tried: int = SIZES) -> list[int]:
    """Multiples of a step up to `most` chips; of many, `tried` that lie evenly.

    >>> side_sizes(64, 256), side_sizes(8, 1024, tried=3)
    ([64, 128, 192, 256], [8, 520, 1024])
    """
    return spread_out(range(step, most + 1, step), tried)


def sizes_beside(sizes: Sequence[int], best: Sequence[int], step: int) -> list[int]:
    """Multiples of a step halfway between the best of the sizes that were tried and their neighbours, where one lies
    between.

    >>> sizes_beside([64, 256, 512], [256], 64)
    [128, 384]
    """
    known = sorted({0, *sizes})
    found = set()
    for size in best:
        at = known.index(size)
        for one, other in ((at - 1, at), (at, at + 1)):
            if other < len(known):
                found.add((known[one] + known[other]) // 2 // step * step)
    return sorted(found - set(known))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SideColumns:
    """What one side of a split may be. system: place of its system among those asked for [n]; chips: paid for, with
    those that its plan leaves idle [n]; usd_per_s: of all of them, NaN where no price is known [n]; step: chips that
    its sizes are multiples of [n]."""

    system: Places
    chips: Places
    usd_per_s: Floats
    step: Places


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Pairs of sides. rollouts, trainer: their places among the choices of either side [n]; chips: of both [n];
    usd_per_s: of both [n]; systems: places of the rollouts' system and of the trainer's [n, 2]; fills: neither side
    could have a step more [n]."""

    rollouts: Places
    trainer: Places
    chips: Places
    usd_per_s: Floats
    systems: Places
    fills: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rollouts)

    @classmethod
    def within(cls, rollouts: SideColumns, trainers: SideColumns, most: int) -> Candidates:
        """All pairs that have at most so many chips together."""
        i, j = np.nonzero(rollouts.chips[:, None] + trainers.chips[None, :] <= most)
        chips = rollouts.chips[i] + trainers.chips[j]
        return cls(
            rollouts=i,
            trainer=j,
            chips=chips,
            usd_per_s=rollouts.usd_per_s[i] + trainers.usd_per_s[j],
            systems=np.stack([rollouts.system[i], trainers.system[j]], axis=1),
            fills=chips + np.minimum(rollouts.step[i], trainers.step[j]) > most,
        )


def usd_per_mtok(usd_per_s: Floats, step_s: Floats, tokens: float) -> Floats:
    """Dollars of a million tokens that are trained on.

    usd_per_mtok = usd_per_s * step_s / tokens * 1e6

    tokens: of a step, prompts with them.

    >>> float(usd_per_mtok(np.array([0.1]), np.array([60.0]), 12e6)[0])
    0.5
    """
    return np.asarray(usd_per_s * step_s / tokens * 1e6)


def front_of(step_s: Floats, usd: Floats) -> list[int]:
    """Places of the candidates that no other beats in both step time and dollars, fastest first. Where no price is
    known, the fastest alone.

    >>> front_of(np.array([3.0, 1.0, 2.0]), np.array([5.0, 9.0, 9.0]))
    [1, 0]
    """
    known = np.flatnonzero(np.isfinite(step_s) & np.isfinite(usd))
    if not len(known):
        known = np.flatnonzero(np.isfinite(step_s))
        return [int(known[by_time(step_s[known])[0]])] if len(known) else []
    order = known[by_time(step_s[known], usd[known])]
    return rising(order, 1.0 / np.maximum(usd, 1e-300))


def by_goal(
    goal: SplitGoal, found: Candidates, step_s: Floats, usd: Floats, *, of: tuple[int, int], budget: float = np.inf
) -> Places:
    """Places of the candidates of one pair of systems that a goal allows, best first; of equals those with fewer chips.
    of: places of the rollouts' system and of the trainer's; budget: dollars of a million tokens, of the goal "time".
    Where their price is not known, "cost" is the shortest step too."""
    may = np.isfinite(step_s) & (found.systems == np.array(of)).all(axis=1)
    if goal == "cost":
        may &= found.fills
    elif np.isfinite(budget):
        may &= usd <= budget
    at = np.flatnonzero(may)
    priced = goal == "cost" and bool(np.isfinite(usd[at]).all())
    first, second = (usd, step_s) if priced else (step_s, np.nan_to_num(usd))
    return at[by_time(first[at], second[at], found.chips[at].astype(np.float64))]
