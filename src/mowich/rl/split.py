"""How many chips of which vendor make answers, and how many train: candidates of a split as columns.

A side is some chips of one system with a plan; a candidate is a side that makes answers and a side that trains. Here
are the sizes of a side, the candidates within a number of chips, and what their step times say: the order of a goal,
the front of dollars against step time, and what cannot be on it. No facts and no laws of time: seconds arrive as
columns (`schedule.closed_columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.plans.search import by_time, powers, rising, spread_out

Indices = NDArray[np.intp]

SplitGoal = Literal["cost", "time"]
SPLIT_GOALS: tuple[SplitGoal, ...] = get_args(SplitGoal)
"""What a split is chosen by. cost: the least dollars of a trained token, of candidates that use the chips asked for;
time: the shortest step, of candidates that cost no more than a budget."""

FIRST_SIZES = 10
"""Numbers of whole units of a side that are tried at first. The numbers between them are tried next to the best
ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legal:
    """Chips that a side may have. server, unit: chips of one of either (a unit is a rack, an UltraServer, a pod); most:
    all there are. Up to one unit it has whole servers, beyond it whole units."""

    server: int
    unit: int
    most: int

    def at_most(self, chips: int) -> int:
        """The largest legal size that is at most `chips`; 0 for none.

        >>> [Legal(server=4, unit=72, most=512).at_most(n) for n in (3, 50, 72, 200, 9999)]
        [0, 48, 72, 144, 504]
        """
        step = self.unit if chips >= self.unit else self.server
        return min(chips, self.most) // step * step

    def more(self, chips: int) -> int:
        """Chips that the next larger size has more."""
        return self.server if chips + self.server <= self.unit else self.unit - chips % self.unit

    def first(self, tried: int = FIRST_SIZES) -> list[int]:
        """Sizes to begin with: servers by doubling up to a unit, then whole units, of many some that lie evenly; the
        largest of all.

        >>> Legal(server=4, unit=72, most=300).first(), Legal(server=4, unit=72, most=20).first()
        ([4, 8, 16, 32, 64, 72, 144, 216, 288], [4, 8, 16, 20])
        """
        servers = [self.server * n for n in powers(min(self.unit, self.most) // self.server)]
        units = spread_out(range(self.unit, self.most + 1, self.unit), tried)
        return sorted({*servers, *units, self.at_most(self.most)} - {0})

    def beside(self, sizes: Sequence[int], best: Sequence[int]) -> list[int]:
        """Sizes halfway between the best of those that were tried and their neighbours, where one lies between.

        >>> Legal(server=4, unit=72, most=1000).beside([16, 72, 360], [72])
        [44, 216]
        """
        known = sorted({0, *sizes})
        found = set()
        for at in map(known.index, best):
            for one, other in ((at - 1, at), (at, at + 1)):
                if other < len(known):
                    found.add(self.at_most((known[one] + known[other]) // 2))
        return sorted(found - set(known))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SideColumns:
    """What one side may be. system: place of its system among those asked for [n]; chips: paid for, with those that its
    plan leaves idle [n]; more: that the next larger size has beyond them [n]; usd_per_s: of all of them, NaN where no
    price is known [n]; least_s: of a step, whatever the other side is [n]."""

    system: Indices
    chips: Indices
    more: Indices
    usd_per_s: Floats
    least_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Pairs of sides. rollouts, trainer: their places among the choices of either side [n]; chips: of both [n];
    usd_per_s: of both [n]; systems: places of the rollouts' system and of the trainer's [n, 2]; least_s: a step takes
    at least [n]; fills: the next larger size of rollouts would go beyond the chips asked for [n]."""

    rollouts: Indices
    trainer: Indices
    chips: Indices
    usd_per_s: Floats
    systems: Indices
    least_s: Floats
    fills: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rollouts)

    @classmethod
    def apart(cls, rollouts: SideColumns, trainers: SideColumns, most: int) -> Candidates:
        """All pairs that have at most so many chips together, each side its own."""
        i, j = np.nonzero(rollouts.chips[:, None] + trainers.chips[None, :] <= most)
        return cls(
            rollouts=i,
            trainer=j,
            chips=rollouts.chips[i] + trainers.chips[j],
            usd_per_s=rollouts.usd_per_s[i] + trainers.usd_per_s[j],
            systems=np.stack([rollouts.system[i], trainers.system[j]], axis=1),
            least_s=np.maximum(rollouts.least_s[i], trainers.least_s[j]),
            fills=rollouts.chips[i] + trainers.chips[j] + rollouts.more[i] > most,
        )

    @classmethod
    def in_turns(cls, rollouts: SideColumns, trainers: SideColumns, most: int) -> Candidates:
        """All pairs that are on the same chips, at most `most` of them."""
        same = (rollouts.system[:, None] == trainers.system[None, :]) & (trainers.chips <= most)[None, :]
        i, j = np.nonzero(same & (rollouts.chips[:, None] == trainers.chips[None, :]))
        return cls(
            rollouts=i,
            trainer=j,
            chips=trainers.chips[j],
            usd_per_s=trainers.usd_per_s[j],
            systems=np.stack([rollouts.system[i], trainers.system[j]], axis=1),
            least_s=rollouts.least_s[i] + trainers.least_s[j],
            fills=trainers.chips[j] + trainers.more[j] > most,
        )


def step_usd_per_mtok(usd_per_s: Floats, step_s: Floats, tokens: float) -> Floats:
    """Dollars of a million tokens that are trained on.

    usd_per_mtok = usd_per_s * step_s / tokens * 1e6

    tokens: of a step, prompts with them.

    >>> float(step_usd_per_mtok(np.array([0.1]), np.array([60.0]), 12e6)[0])
    0.5
    """
    return np.asarray(usd_per_s * step_s / tokens * 1e6)


def is_beaten(least_s: Floats, least_usd: Floats, step_s: Floats, usd: Floats) -> NDArray[np.bool_]:
    """Which candidates cannot be on the front, by the least that they may take and cost [n]: one of those that are
    known (step_s, usd [m]) takes and costs no more.

    >>> is_beaten(np.array([1.0, 3.0]), np.array([9.0, 9.0]), np.array([2.0, 4.0]), np.array([8.0, 5.0])).tolist()
    [False, True]
    """
    order = np.argsort(step_s, kind="stable")
    cheapest = np.minimum.accumulate(np.append(np.inf, usd[order]))
    return np.asarray(cheapest[np.searchsorted(step_s[order], least_s, side="right")] <= least_usd)


def front_of(step_s: Floats, usd: Floats) -> list[int]:
    """Places of the candidates that no other beats in both step time and dollars, fastest first. Where no price is
    known, the fastest alone.

    >>> front_of(np.array([3.0, 1.0, 2.0]), np.array([5.0, 9.0, 9.0]))
    [1, 0]
    """
    runs = np.isfinite(step_s)
    known = np.flatnonzero(runs & np.isfinite(usd))
    if len(known):
        return rising(known[by_time(step_s[known], usd[known])], 1.0 / np.maximum(usd, 1e-300))
    known = np.flatnonzero(runs)
    return [int(known[by_time(step_s[known])[0]])] if len(known) else []


def by_goal(
    goal: SplitGoal,
    found: Candidates,
    step_s: Floats,
    usd: Floats,
    *,
    of: tuple[int, int],
    budget: float = np.inf,
    margin: float = 0.0,
) -> Indices:
    """Places of the candidates of one pair of systems that a goal allows, best first. Those that are within a share
    `margin` of the best count as equal to it, and are ordered by the other measure; of equals those with fewer chips
    come first.

    of: places of the rollouts' system and of the trainer's; budget: dollars of a million tokens, of the goal "time".
    Where their price is not known, "cost" is the shortest step too; where none uses the chips asked for, it takes
    fewer."""
    may = np.isfinite(step_s) & (found.systems == np.array(of)).all(axis=1)
    if goal == "cost":
        may &= found.fills | ~(may & found.fills).any()
    elif np.isfinite(budget):
        may &= usd <= budget
    at = np.flatnonzero(may)
    priced = goal == "cost" and bool(np.isfinite(usd[at]).all())
    first, second = (usd, step_s) if priced else (step_s, np.nan_to_num(usd))
    chips = found.chips.astype(np.float64)
    order = at[by_time(first[at], second[at], chips[at])]
    near = first[order] <= first[order[:1]].sum() * (1.0 + margin)
    equal, rest = order[near], order[~near]
    return np.concatenate([equal[by_time(second[equal], first[equal], chips[equal])], rest])
