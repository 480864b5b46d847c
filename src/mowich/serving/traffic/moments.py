"""Which of two moments of a simulation is first, when rounding alone may tell them apart.

A time is a sum of many steps. Its last digits depend on the order of the additions, on the processor and on the Python
that did them. So moments nearer than `SAME_S` (and `SAME_SHARE` of the time) are one moment, and what happens in it
follows a stated order, never a digit:

- An arrival joins the batch of a step that begins in the same moment.
- Before anything else: autoscaling looks, machines fail, caches arrive, conversations begin, users ask again.
- Of things of one kind, what was told of first (`Agenda`); of replicas, the first of the pool.

Times are compared with a margin and are not rounded to a grid: two times around the edge of a grid's cell would be told
apart by a last bit again. With a margin that happens only to times that are `SAME_S` apart to the last bit, which
nothing makes them be. No time is changed, so a rounding stays a rounding.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Generic, TypeVar

from mowich.arrays import Floats

SAME_S = 1e-9
"""A step takes thousands of times as long."""
SAME_SHARE = 1e-12
"""Share of a time by which sums of it may differ: rounding of a day of steps."""

T = TypeVar("T")
S = TypeVar("S", float, Floats)


def earlier(at_s: S) -> S:
    """The moment before which everything is earlier than `at_s`, s (a number, or a column).

    Example:
        >>> 0.1 + 0.2 < earlier(0.3 + 1e-12), 0.2 < earlier(0.3)
        (False, True)
    """
    return at_s * (1.0 - SAME_SHARE) - SAME_S


class Agenda(Generic[T]):
    """What is to come, by time; of one moment, in the order in which it was put in.

    Example:
        >>> agenda = Agenda([(0.3, "first"), (0.1 + 0.2, "second"), (0.2, "before")])
        >>> [agenda.pop()[1] for _ in range(3)]
        ['before', 'first', 'second']
    """

    __slots__ = ("_heap", "_now", "_put")

    def __init__(self, items: list[tuple[float, T]] | tuple[tuple[float, T], ...] = ()) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._now: deque[tuple[float, int, T]] = deque()
        self._put = 0
        for at_s, item in items:
            self.put(at_s, item)

    def __bool__(self) -> bool:
        return bool(self._now or self._heap)

    @property
    def next_s(self) -> float:
        """When the next of it happens, s; inf: never."""
        return self._now[0][0] if self._now else self._heap[0][0] if self._heap else math.inf

    def put(self, at_s: float, item: T) -> None:
        self._put += 1
        heapq.heappush(self._heap, (at_s, self._put, item))

    def pop(self) -> tuple[float, T]:
        """Take what is next: (s, item)."""
        if not self._now:
            heap = self._heap
            found = [heapq.heappop(heap)]
            while heap and earlier(heap[0][0]) <= found[0][0]:
                found.append(heapq.heappop(heap))
            self._now.extend(found if len(found) == 1 else sorted(found, key=lambda one: one[1]))
        at_s, _, item = self._now.popleft()
        return at_s, item
