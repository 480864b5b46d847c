"""A difference shared out among its causes, whatever the order in which they are exchanged.

The worth of a cause depends on what was exchanged before it: twice the bandwidth is worth little to a machine that
waits for its network. So each cause gets the mean over orders of what it adds when its turn comes. Over all orders that
is the Shapley value; over some, an estimate of it. In both the shares add up to the whole difference, exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from mowich.errors import UserError
from mowich.sums import float_sum

Worth = Callable[[frozenset[str]], float | None]
"""What is reached with a set of causes exchanged, as a logarithm; None: nothing is reached (no plan fits)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseShare:
    """value: the mean of what a cause adds; low, high: the least and the most over the orders that count."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """shares: of each cause; orders: how many were averaged; is_exact: whether those are all orders along which a plan
    fits; sets: how many sets of causes were looked at."""

    shares: Mapping[str, CauseShare]
    orders: int
    is_exact: bool
    sets: int


class _Kept:
    """Worths that were looked at."""

    def __init__(self, worth: Worth) -> None:
        self._worth = worth
        self.known: dict[frozenset[str], float | None] = {}

    def __call__(self, taken: frozenset[str]) -> float | None:
        if taken not in self.known:
            self.known[taken] = self._worth(taken)
        return self.known[taken]


def over_all_orders(causes: Sequence[str], worth: Worth) -> Attribution:
    """The mean over all orders, from the worth of every set of causes. An order in which some set reaches nothing does
    not count. Raises UserError where none counts."""
    kept, whole = _Kept(worth), frozenset(causes)
    sets = [frozenset(some) for n in range(len(causes) + 1) for some in combinations(causes, n)]
    # orders that lead to a set, and on from it, through sets that reach something
    before: dict[frozenset[str], int] = {}
    for taken in sets:
        arriving = sum(before[taken - {c}] for c in taken) if taken else 1
        before[taken] = arriving if kept(taken) is not None else 0
    after: dict[frozenset[str], int] = {}
    for taken in reversed(sets):
        leaving = sum(after[taken | {c}] for c in causes if c not in taken) if taken != whole else 1
        after[taken] = leaving if kept(taken) is not None else 0
    orders = before[whole]
    if not orders:
        raise _no_order()
    shares = {}
    for cause in causes:
        steps = [
            (before[taken] * after[taken | {cause}], _step(kept, taken, cause)) for taken in sets if cause not in taken
        ]
        live = [(weight, gain) for weight, gain in steps if weight]
        gains = [gain for _, gain in live]
        shares[cause] = CauseShare(
            value=float_sum(weight * gain for weight, gain in live) / orders, low=min(gains), high=max(gains)
        )
    return Attribution(shares=shares, orders=orders, is_exact=True, sets=len(kept.known))


def over_some_orders(causes: Sequence[str], worth: Worth, *, most_sets: int, seed: int) -> Attribution:
    """The mean over orders that are drawn, each with its reverse, until about `most_sets` sets were looked at. Raises
    UserError where nothing is reached along any."""
    kept, draw, whole = _Kept(worth), random.Random(seed), frozenset(causes)
    found: list[dict[str, float]] = []
    drawn = 0
    while not drawn or (len(kept.known) + 2 * (len(causes) - 1) <= most_sets and drawn < most_sets):
        drawn += 1
        order = draw.sample(list(causes), len(causes))
        for way in (order, order[::-1]):
            path = [frozenset(way[:n]) for n in range(len(way) + 1)]
            if all(kept(taken) is not None for taken in path):
                found.append({c: _step(kept, taken, c) for c, (taken, _) in zip(way, pairwise(path), strict=True)})
    if not found or kept(whole) is None:
        raise _no_order()
    shares = {
        c: CauseShare(
            value=float_sum(one[c] for one in found) / len(found),
            low=min(one[c] for one in found),
            high=max(one[c] for one in found),
        )
        for c in causes
    }
    return Attribution(shares=shares, orders=len(found), is_exact=False, sets=len(kept.known))


def _step(kept: _Kept, taken: frozenset[str], cause: str) -> float:
    """What a cause adds to a set; 0 where one of the two reaches nothing, which no order goes through."""
    start, end = kept(taken), kept(taken | {cause})
    return 0.0 if start is None or end is None else end - start


def _no_order() -> UserError:
    return UserError(
        "the properties cannot be exchanged one by one: in every order, no plan fits on some machine between the two",
        fix="ask for more chips",
    )
