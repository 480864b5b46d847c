"""Who waits for whom: edges between instructions from the bytes that they touch.

A view is a box in the coordinates of its allocation (one range, with a step, per dimension): column tiles of one HBM
tensor, or interleaved halves of a tile, do not meet although their address ranges do. Read after write, write after
read and write after write give edges; so does `depends_on`. Allocations are kept apart by their number, tiles placed by
hand by their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mowich.neuroncore.trace import Pattern, Trace


class Box(NamedTuple):
    """The bytes of a view. first: byte; end: last byte + 1; ranges: (low, high, step) of each dimension, bounds
    inclusive; None where the view is no box."""

    first: int
    end: int
    ranges: tuple[tuple[int, int, int], ...] | None


_FEW = 12
"""Entries of an allocation that are compared one by one; beyond, a grid over its coordinates finds the ones to
compare."""


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


_Entry = tuple[int, Box]
"""An instruction and what it touches."""


class _Cell:
    """The entries of an allocation that touch one cell of its grid."""

    __slots__ = ("readers", "writers")

    def __init__(self) -> None:
        self.writers: list[_Entry] = []
        self.readers: list[_Entry] = []

    def overwrite(self, b: Box, out: list[int]) -> None:
        """Edges to the entries that meet b; those that b covers entirely are gone."""
        self.writers[:] = _overwrite(self.writers, b, out, 1)
        self.readers[:] = _overwrite(self.readers, b, out, 0)


_Cells = dict[Any, _Cell]
_NONE: list[_Entry] = []
_NO_CELLS: _Cells = {}


class _Store:
    """Writers and readers of one allocation that a later access may have to wait for. Most tiles are written once: what
    they do not need is not made."""

    __slots__ = ("cells", "grid", "readers", "writers")

    def __init__(self, writers: list[_Entry]) -> None:
        self.writers = writers
        self.readers: list[_Entry] = _NONE
        self.grid: tuple[int, ...] | None = None
        self.cells: _Cells = _NO_CELLS


def _cells(grid: Sequence[int], b: Box) -> list[tuple[int, ...]] | None:
    """Cells of the grid that a box touches; None where they are too many."""
    if b.ranges is None:
        return None
    cells: list[tuple[int, ...]] = [()]
    for (low, high, _), size in zip(b.ranges, grid, strict=True):
        first, last = low // size, high // size
        if (last - first + 1) * len(cells) > 16:
            return None
        cells = [(*c, k) for c in cells for k in range(first, last + 1)]
    return cells


class Dependencies:
    """Edges of a trace. `edges(i)` must be called for each instruction in order; it gives the numbers of those that it
    waits for: 2 * j where j only has to be done reading (write after read), 2 * j + 1 where i needs what j wrote, or
    overwrites it."""

    __slots__ = ("_patterns", "_stores", "_writes_left", "boxes")

    def __init__(self, trace: Trace, writes: dict[int, int]) -> None:
        self._patterns = trace.patterns
        self.boxes: list[Box | None] = [None] * len(trace.patterns)
        self._stores: dict[Any, _Store] = {}
        self._writes_left = writes

    def box_of(self, pattern: int) -> Box:
        """Box of a pattern by number."""
        found = self.boxes[pattern]
        if found is None:
            found = self.boxes[pattern] = box(self._patterns[pattern])
        return found

    def read(self, i: int, store: Any, b: Box, out: list[int]) -> None:
        """Instruction i reads box b of an allocation."""
        s = self._stores.get(store)
        if s is None:
            if not self._writes_left.get(store):
                return
            s = self._stores[store] = _Store([])
        if s.grid is None:
            for j, other in s.writers:
                if other is b or meet(other, b):
                    out.append(2 * j + 1)
            if self._writes_left[store] > 0:
                if s.readers is _NONE:
                    s.readers = []
                s.readers.append((i, b))
                if len(s.readers) > _FEW:
                    self._spread(s, b)
            return
        cells = _cells(s.grid, b)
        for j, other in self._writers(s, cells):
            if meet(other, b):
                out.append(2 * j + 1)
        if self._writes_left[store] > 0:
            self._put(s, cells, (i, b), False)

    def write(self, i: int, store: Any, b: Box, out: list[int]) -> None:
        """Instruction i writes box b of an allocation."""
        self._writes_left[store] -= 1
        s = self._stores.get(store)
        if s is None:
            self._stores[store] = _Store([(i, b)])
            return
        if s.grid is None:
            s.writers = _overwrite(s.writers, b, out, 1)
            if s.readers:
                s.readers = _overwrite(s.readers, b, out, 0)
            s.writers.append((i, b))
            if len(s.writers) > _FEW:
                self._spread(s, b)
            return
        cells = _cells(s.grid, b)
        if cells is None:
            for cell in s.cells.values():
                cell.overwrite(b, out)
        else:
            for key in (*cells, None):
                found = s.cells.get(key)
                if found is not None:
                    found.overwrite(b, out)
        self._put(s, cells, (i, b), True)

    def _spread(self, s: _Store, b: Box) -> None:
        """Put the entries of an allocation on a grid with cells of the size of b."""
        if b.ranges is None:
            b = next((view for _, view in (*s.writers, *s.readers) if view.ranges is not None), b)
            if b.ranges is None:
                return
        s.grid = tuple(high - low + 1 for low, high, _ in b.ranges)
        s.cells = {}
        for entries, is_write in ((s.writers, True), (s.readers, False)):
            for entry in entries:
                self._put(s, _cells(s.grid, entry[1]), entry, is_write)
        s.writers, s.readers = [], _NONE

    def _put(self, s: _Store, cells: list[tuple[int, ...]] | None, entry: _Entry, is_write: bool) -> None:
        for key in cells if cells is not None else (None,):
            cell = s.cells.get(key)
            if cell is None:
                cell = s.cells[key] = _Cell()
            (cell.writers if is_write else cell.readers).append(entry)

    def _writers(self, s: _Store, cells: list[tuple[int, ...]] | None) -> list[_Entry]:
        """Writers that may meet what touches these cells (None: any)."""
        if cells is None:
            return [e for cell in s.cells.values() for e in cell.writers]
        found: list[_Entry] = []
        for key in (*cells, None):
            cell = s.cells.get(key)
            if cell is not None:
                found += cell.writers
        return found


def _overwrite(entries: list[_Entry], b: Box, out: list[int], needed: int) -> list[_Entry]:
    """Edges to the entries that meet b; those that b covers entirely are gone."""
    kept: list[_Entry] = []
    for entry in entries:
        j, other = entry
        if other is b:
            out.append(2 * j + needed)
        elif meet(other, b):
            out.append(2 * j + needed)
            if not covers(b, other):
                kept.append(entry)
        else:
            kept.append(entry)
    return kept
