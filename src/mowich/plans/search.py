"""Shared parts of the searches for training and serving plans: degrees to try, the fastest of many, fronts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats


def divisors(n: int, limit: int) -> list[int]:
    """Divisors of n up to limit, ascending.

    >>> divisors(12, 6)
    [1, 2, 3, 4, 6]
    """
    small = [d for d in range(1, min(math.isqrt(n), limit) + 1) if n % d == 0]
    return [d for d in sorted({*small, *(n // d for d in small)}) if d <= limit]


def powers(limit: int) -> list[int]:
    """1, 2, 4, ... up to `limit`."""
    return [2**i for i in range(limit.bit_length()) if 2**i <= limit]


def spread_out(items: Sequence[int], most: int) -> list[int]:
    """At most `most` items, evenly along the list, both ends kept."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


SAME_TIME = 1e-12
"""Share of a time by which two equally fast plans may differ: the rounding of sums and of exp, log and power, which
depends on the processor."""


def by_time(seconds: Floats, *ties: Floats) -> NDArray[np.intp]:
    """Places by seconds, the least first; those that rounding alone tells apart by the least of `ties`, the first of
    these first, then by place.

    >>> by_time(np.array([0.3, 0.1 + 0.2, 0.1]), np.array([2.0, 1.0, 3.0])).tolist()
    [2, 1, 0]
    """
    order = np.argsort(seconds, kind="stable")
    rising_s = seconds[order]
    with np.errstate(invalid="ignore"):  # inf next to inf
        group = np.cumsum(np.diff(rising_s, prepend=rising_s[:1]) > SAME_TIME * np.abs(rising_s))
    return order[np.lexsort((order, *(tie[order] for tie in reversed(ties)), group))]


def fastest(
    per_token: NDArray[np.float64], need_B: NDArray[np.float64], fits: NDArray[np.bool_], top: int
) -> NDArray[np.intp]:
    """The `top` fastest of those that fit, best first; of equals first those with less memory, then by place."""
    runners = np.flatnonzero(fits & np.isfinite(per_token))
    if len(runners) > top:
        limit = np.partition(per_token[runners], top - 1)[top - 1]
        runners = runners[per_token[runners] <= limit * (1.0 + SAME_TIME)]
    return runners[by_time(per_token[runners], need_B[runners])][:top]


def first_of(values: Floats, most: int) -> NDArray[np.intp]:
    """Positions of the `most` least values, ascending; of equals the first. As the beginning of a stable sort, without
    sorting the rest.

    >>> first_of(np.array([3.0, 1.0, 2.0, 1.0]), 3).tolist()
    [1, 3, 2]
    """
    if most >= len(values):
        return np.argsort(values, kind="stable")
    near = np.flatnonzero(values <= np.partition(values, most - 1)[most - 1])
    return near[np.argsort(values[near], kind="stable")][:most]


def rising(
    order: NDArray[np.intp], values: Floats, may: NDArray[np.bool_] | None = None, step: float = 1.0
) -> list[int]:
    """The places, in this order, whose value is more than `step` times the greatest value before them. may: which
    places may be taken (None: all)."""
    taken, best = [], -1.0
    allowed = np.ones(len(order), dtype=bool) if may is None else may[order]
    for i, value, ok in zip(order.tolist(), values[order].tolist(), allowed.tolist(), strict=True):
        if ok and value > best * step:
            taken.append(i)
            best = value
    return taken
