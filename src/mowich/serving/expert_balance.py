"""How evenly the experts of a layer keep the ranks busy, with copies of the popular ones and without.

Experts are not equally popular. A rank that holds popular ones is the busiest, and the others wait for it. Engines
measure the popularity and place the experts anew, with copies of the most popular ones: the next copy goes to the
expert whose copies have most to do each, and copies, the heaviest first, go to the rank that has least to do and room
left. What was measured is of the past: by the time it is used the popularity has moved on (drift).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mowich.arrays import Floats
from mowich.sums import float_sum

_LAYERS = 24
"""Layers that an expected imbalance is the mean of."""


def copies_of(load: Sequence[float], redundant: int) -> list[int]:
    """Copies of each expert, one at least, with `redundant` more for those whose copies have most to do.

    >>> copies_of([8.0, 3.0, 1.0], 3)
    [3, 2, 1]
    """
    copies = [1] * len(load)
    heap = [(-x, i) for i, x in enumerate(load)]
    heapq.heapify(heap)
    for _ in range(redundant):
        _, i = heap[0]
        copies[i] += 1
        heapq.heapreplace(heap, (-load[i] / copies[i], i))
    return copies


def placed_by_load(load: Sequence[float], copies: Sequence[int], ranks: int) -> list[list[int]]:
    """The experts on each rank, as many copies on each as on any other.

    >>> placed_by_load([8.0, 3.0, 1.0], [2, 1, 1], 2)
    [[0, 1], [0, 2]]
    """
    room = -(-sum(copies) // ranks)
    each = sorted(((load[i] / n, i) for i, n in enumerate(copies) for _ in range(n)), key=lambda x: (-x[0], x[1]))
    heap = [(0.0, rank) for rank in range(ranks)]
    out: list[list[int]] = [[] for _ in range(ranks)]
    for weight, i in each:
        held, rank = heapq.heappop(heap)
        out[rank].append(i)
        if len(out[rank]) < room:
            heapq.heappush(heap, (held + weight, rank))
    return [sorted(one) for one in out]


def busiest_over_mean(load: Sequence[float], copies: Sequence[int], place: Sequence[Sequence[int]]) -> float:
    """The work of the busiest rank over that of the mean one, where the copies of an expert share its work."""
    held = [float_sum(load[i] / copies[i] for i in experts) for experts in place]
    return max(held) * len(held) / float_sum(held)


def _layer(rng: np.random.Generator, experts: int, spread: float) -> Floats:
    """Popularities of mean 1 with this coefficient of variation: log-normal."""
    sigma = np.sqrt(np.log1p(spread * spread))
    return np.asarray(np.exp(sigma * rng.standard_normal(experts) - 0.5 * sigma * sigma))


@lru_cache(maxsize=4096)
def expected_imbalance(experts: int, ranks: int, redundant: int | None, skew: float, drift: float) -> float:
    """The busiest rank over the mean, expected over layers: in the order of the checkpoint (redundant None), or placed
    by load with up to so many copies (0: placed anew, without copies). skew: coefficient of variation of the
    popularity; drift: of what it has become over what was measured.

    >>> [round(expected_imbalance(256, 32, r, 1.0, 0.2), 2) for r in (None, 0, 32)]
    [1.9, 1.29, 1.17]
    """
    if ranks <= 1:
        return 1.0
    # fewer copies, twice each, take the same room: more room is never worse
    fewer = expected_imbalance(experts, ranks, (redundant - 1) // ranks * ranks, skew, drift) if redundant else math.inf
    found = []
    for i in range(_LAYERS):
        rng = np.random.default_rng([experts, i])
        measured = _layer(rng, experts, skew)
        now = (measured * _layer(rng, experts, drift)).tolist()
        load = measured.tolist()
        if redundant is None:
            size = experts / ranks
            place = [list(range(round(k * size), round((k + 1) * size))) for k in range(ranks)]
            copies = [1] * experts
        else:
            copies = copies_of(load, redundant)
            place = placed_by_load(load, copies, ranks)
        found.append(busiest_over_mean(now, copies, place))
    return min(float(np.mean(found)), fewer)
