"""Who waits for whom: edges between instructions from the bytes that they touch.

A view is a box in the coordinates of its allocation (one range, with a step, per dimension): column tiles of one HBM
tensor, or interleaved halves of a tile, do not meet although their address ranges do. Read after write, write after
read and write after write give edges; so does `depends_on`. Allocations are kept apart by their number, tiles placed by
hand by their bytes.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

from mowich.neuroncore.trace import Pattern

READ, DATA, BUFFER, WEIGHT_BUFFER = range(4)
"""Kinds of edges: the other has to be done reading; its result is needed; its memory is reused; its result is the
stationary tile."""
FEW_ENTRIES, MOST_CELLS = 12, 16
"""Entries of an allocation that are compared one by one, without a grid; most cells that a view is entered in."""


class Box(NamedTuple):
    """The bytes of a view. first: byte; end: last byte + 1; ranges: (low, high, step) of each dimension, bounds
    inclusive; None where the view is no box."""

    first: int
    end: int
    ranges: tuple[tuple[int, int, int], ...] | None


def box(pattern: Pattern) -> Box:
    """The bytes of a view as a box in its allocation.

    >>> box(((128, 512), 4, 256, (128, 256), (512, 1), 4)).ranges
    ((0, 127, 1), (1024, 2047, 1))
    """
    shape, itemsize, offset, dims, strides, size = pattern
    total = itemsize
    for n in shape:
        total *= n
    if offset is None:
        return Box(0, total, None)
    pitch: list[int] = []
    step = itemsize
    for n in reversed(shape):
        pitch.insert(0, step)
        step *= n
    # the innermost dimension counts bytes
    sizes = [*shape[:-1], shape[-1] * itemsize]
    pitch[-1] = 1
    at = offset * size
    low: list[int] = []
    for p in pitch:
        c, at = divmod(at, p)
        low.append(c)
    high = list(low)
    steps = [1] * len(pitch)
    fits = offset >= 0
    first = last = offset * size
    for n, stride in zip(dims, strides, strict=True):
        if n == 1 or stride == 0:
            continue
        s = stride * size
        if s < 0:
            fits = False
            first += (n - 1) * s
            continue
        last += (n - 1) * s
        for d, p in enumerate(pitch):
            if p <= s and s % p == 0:
                k = s // p
                steps[d] = k if low[d] == high[d] and k > 1 and d < len(pitch) - 1 else 1
                high[d] += (n - 1) * k
                break
        else:
            fits = False
    high[-1] += size - 1
    if any(h >= n for h, n in zip(high, sizes, strict=True)):
        fits = False
    ranges = tuple(zip(low, high, steps, strict=True)) if fits else None
    return Box(first, last + size, ranges)


def meet(a: Box, b: Box) -> bool:
    """True where two views of one allocation share bytes."""
    first, end, x = a
    other_first, other_end, y = b
    if first >= other_end or other_first >= end:
        return False
    if x is None or y is None:
        return True
    for (l0, h0, s0), (l1, h1, s1) in zip(x, y, strict=True):
        if l0 > h1 or l1 > h0:
            return False
        if s0 > 1 and s0 == s1 and (l0 - l1) % s0:
            return False
    return True


def covers(a: Box, b: Box) -> bool:
    """True where view a holds all bytes of view b."""
    x, y = a.ranges, b.ranges
    if x is None or y is None:
        return False
    for (l0, h0, s0), (l1, h1, s1) in zip(x, y, strict=True):
        if l0 > l1 or h0 < h1 or (s0 > 1 and not (s0 == s1 and l0 % s0 == l1 % s1)):
            return False
    return True


ClockEdge = tuple[int, int]
"""An instruction that another one waits for, and the kind of the edge."""
TouchEntry = tuple[int, Box]
"""An instruction and what it touches."""


class Touched:
    """Who touched an allocation, as far as a later access may have to wait for it. cells: (writers, readers) by the
    cells of a grid over its coordinates that they touch; None: of views that fit no cells, and of all until there is a
    grid."""

    def __init__(self) -> None:
        self.grid: tuple[int, ...] | None = None
        self.cells: dict[tuple[int, ...] | None, tuple[list[TouchEntry], list[TouchEntry]]] = {None: ([], [])}

    def read(self, i: int, b: Box, *, is_noted: bool) -> list[ClockEdge]:
        """Edges of an instruction that reads a view. is_noted: somebody writes later."""
        found = [(j, DATA) for writers, _ in self._near(b) for j, other in writers if other is b or meet(other, b)]
        if is_noted:
            self._put((i, b), 1)
        return found

    def write(self, i: int, b: Box) -> list[ClockEdge]:
        """Edges of an instruction that writes a view. Those whose bytes it overwrites entirely are gone."""
        found: list[ClockEdge] = []
        for writers, readers in self._near(b):
            for entries, kind in ((writers, DATA), (readers, READ)):
                met = [entry for entry in entries if entry[1] is b or meet(entry[1], b)]
                found += [(j, kind) for j, _ in met]
                gone = {id(entry) for entry in met if entry[1] is b or covers(b, entry[1])}
                entries[:] = [entry for entry in entries if id(entry) not in gone]
        self._put((i, b), 0)
        return found

    def _keys(self, b: Box) -> list[tuple[int, ...]] | None:
        """Cells of the grid that a view touches; None where they are too many."""
        if self.grid is None or b.ranges is None:
            return None
        each = [range(low // n, high // n + 1) for (low, high, _), n in zip(b.ranges, self.grid, strict=True)]
        return list(product(*each)) if math.prod(map(len, each)) <= MOST_CELLS else None

    def _near(self, b: Box) -> list[tuple[list[TouchEntry], list[TouchEntry]]]:
        """(Writers, readers) of the cells with what a view may meet."""
        keys = self._keys(b)
        if keys is None:
            return list(self.cells.values())
        return [self.cells[key] for key in (*keys, None) if key in self.cells]

    def _put(self, entry: TouchEntry, which: int) -> None:
        keys = self._keys(entry[1])
        for key in (None,) if keys is None else keys:
            self.cells.setdefault(key, ([], []))[which].append(entry)
        if self.grid is None and len(self.cells[None][which]) > FEW_ENTRIES:
            self._spread(entry[1])

    def _spread(self, b: Box) -> None:
        """Put all on a grid with cells of the size of a view."""
        both = self.cells[None]
        ranges = next((x.ranges for x in (b, *(x for some in both for _, x in some)) if x.ranges is not None), None)
        if ranges is not None:
            self.grid, self.cells = tuple(high - low + 1 for low, high, _ in ranges), {}
            for which, entries in enumerate(both):
                for entry in entries:
                    self._put(entry, which)
