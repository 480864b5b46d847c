"""Iterations of a loop whose places follow no pattern (`x[i * 7 % n]`, tiles that a table chooses), written by NumPy.

The numbers that such places go by are known for each iteration before it runs: that of the iteration itself, and those
of `i * 7 % n` or of the table. The kernel's source shows that the offsets of all views, and the numbers of all
storages, are sums and products of them with constants (`nki.affine`). So a few iterations, as many as it takes to tell
those constants, stand for all that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.repeat import AT_ONCE, IterationBlock, Mark, view_ends
from mowich.neuroncore.trace import NotedView, Trace

_Columns = NDArray[np.int64]
MOST_NUMBERS = 64
"""Most numbers beside that of the iteration: the tiles of longer lists are not followed."""
_SMALL = 1e-9
"""What is left of a column, as a share of it, where it is a sum of others."""
_WHOLE = 1e-3
"""How far from a whole number a sum may come out."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Numbers of which others are sums. columns: what each of them has grown by since the first iteration, [iteration,
    number], none of them a sum of the others; rows: as many iterations, which differ in all of them."""

    columns: NDArray[np.float64]
    rows: tuple[int, ...]

    @staticmethod
    def of(numbers: Sequence[Sequence[int]]) -> Basis | None:
        """That of columns of numbers, one for each iteration, and of the numbers of the iterations. None: there are
        too many columns."""
        grown = np.array([range(len(numbers[0])), *numbers], np.float64)
        grown -= grown[:, :1]
        grown /= np.maximum(np.abs(grown).max(axis=1, keepdims=True), 1)
        grown = np.array(list({row.tobytes(): row for row in grown}.values())).T
        if grown.shape[1] > min(MOST_NUMBERS + 1, len(grown)):
            return None
        left = np.abs(np.diagonal(np.linalg.qr(grown, mode="r")))
        columns = grown[:, left > _SMALL * np.linalg.norm(grown, axis=0)]
        rest, rows = columns.copy(), list[int]()
        for _ in range(columns.shape[1]):  # each time the row that the others tell least of
            sizes = np.linalg.norm(rest, axis=1)
            rows.append(row := int(sizes.argmax()))
            along = rest[row] / sizes[row]
            rest -= np.outer(rest @ along, along)
        return Basis(columns, tuple(sorted(rows)))


@dataclass(frozen=True, slots=True)
class Sums:
    """Columns that are sums of those of a basis. first: their values in the first iteration; moving: those of them that
    change; which: of each of these, its place among the `parts`, which are the different ones."""

    basis: Basis
    first: _Columns
    moving: _Columns
    which: _Columns
    parts: NDArray[np.floating[Any]]

    @staticmethod
    def of(basis: Basis, found: _Columns) -> Sums | None:
        """Those with these values, [iteration, column], in the first iteration and in the rows of the basis. None: they
        are not whole numbers in some iteration."""
        grown = found[1:] - found[0]
        moving = np.flatnonzero(grown.any(axis=0))
        known: dict[bytes, int] = {}
        which = [known.setdefault(grown[:, n].tobytes(), len(known)) for n in moving]
        each = np.frombuffer(b"".join(known), np.int64).reshape(len(known), len(grown)).T
        parts = np.linalg.solve(basis.columns[list(basis.rows)], each.astype(np.float64))
        sums = basis.columns @ parts
        if (np.abs(sums - np.rint(sums)) > _WHOLE).any():
            return None
        return Sums(basis, found[0], moving, np.array(which, np.int64), parts)

    def values(self, iterations: range) -> _Columns:
        """The moving ones, [iteration, column]."""
        sums = np.rint(self.basis.columns[iterations.start : iterations.stop] @ self.parts).astype(np.int64)
        found: _Columns = self.first[self.moving] + sums[:, self.which]
        return found


@dataclass(frozen=True, slots=True)
class Tried:
    """An iteration that ran. block: what it added; views: those by indices that it made; other, blocks: of the core
    before it and behind it (`repeat.Mark`)."""

    block: IterationBlock
    views: Sequence[NotedView | None]
    other: tuple[tuple[object, ...], tuple[object, ...]]
    blocks: tuple[int, int]

    @staticmethod
    def of(core: Core, trace: Trace, before: Mark, after: Mark) -> Tried:
        """That between two marks."""
        views = [] if core.views is None else core.views[before.views : after.views]
        block = IterationBlock(core, trace, before, after)
        return Tried(block, views, (before.other, after.other), (before.blocks, after.blocks))


class ScatteredTurns:
    """An iteration that stands in the trace, and those that follow it. touches: storage and key of the pattern of each
    operand; clock, storages: what each iteration counts; made: by how much the numbers of the storages that it makes
    grow."""

    def __init__(
        self, core: Core, trace: Trace, base: IterationBlock, touches: Sums, clock: int, library: CDLL
    ) -> None:
        self.core, self.trace, self.base, self.touches, self.library = core, trace, base, touches, library
        self.clock, self.storages = clock, len(base.form)
        self.made = self.storages * core.programs
        self.touched = np.array(base.touched, np.int64)
        self.patterns = touches.moving[touches.moving % 2 == 1]

    def rows(self, iterations: range) -> _Columns:
        """Storages and patterns of these iterations, a row for each."""
        rows = np.repeat(self.touched[None], len(iterations), axis=0)
        rows[:, self.touches.moving] = self.touches.values(iterations)
        rows[:, self.patterns] = self.trace.patterns.numbers(rows[:, self.patterns], self.library)
        return rows

    def fill(self, iterations: range) -> None:
        """Write these iterations, and count what they would have counted: the trace must end with the one before."""
        trace, core, b = self.trace, self.core, self.base
        numbers, chunk = np.array(b.number, np.int64), max(1, AT_ONCE // max(len(b.kind), 1))
        for start in range(iterations.start, iterations.stop, chunk):
            some, begin = range(start, min(start + chunk, iterations.stop)), len(trace.kind)
            trace.kind.extend(b.kind * len(some))
            trace.site.extend(b.site * len(some))
            turns = np.arange(some.start, some.stop)[:, None]
            if b.in_order:
                places = np.array(b.in_order) + begin + len(b.kind) * np.arange(len(some))[:, None]
                trace.in_order.frombytes(places.tobytes())
            trace.number.frombytes((numbers + self.clock * turns).tobytes())
            trace.touched.frombytes(self.rows(some).tobytes())
        core.clock += self.clock * len(iterations)
        if self.made:
            begin, end = (b.made + self.made * t for t in (iterations.start, iterations.stop))
            trace.storages.reserve(end)
            trace.storages.form[begin : end : core.programs] = b.form * len(iterations)
            core.serial["storage"] += self.storages * len(iterations)

    def agrees(self, found: Tried, number: int) -> bool:
        """Whether an iteration that ran is the one that this tells."""
        b = found.block
        return (
            found.other[0] == found.other[1]
            and found.blocks[0] == found.blocks[1]
            and self.base.is_like(b)
            and (b.clock, b.made) == (self.base.clock + self.clock * number, self.base.made + self.made * number)
            and b.touched.tolist() == self.rows(range(number, number + 1))[0].tolist()
        )


def scattered_of(
    core: Core,
    trace: Trace,
    basis: Basis,
    clock: int,
    tried: Sequence[Tried],
    storages: Mapping[int, Storage],
    library: CDLL,
) -> ScatteredTurns | None:
    """What an iteration, and those of the rows of a basis, all of which ran in its place, tell of those that follow it.
    clock: what it counted; storages: from before the loop, by number. None: they are not alike, or a view leaves its
    tile in an iteration that did not run."""
    base, programs = tried[0].block, core.programs
    if trace.ordered or base.edges or tried[0].blocks[0] != tried[0].blocks[1]:
        return None
    numbers = np.array(base.number, np.int64) - base.clock
    for t in tried[1:]:
        b = t.block
        if t.other[0] != t.other[1] or t.blocks[0] != t.blocks[1] or b.edges or not base.is_like(b):
            return None
        if (np.array(b.number, np.int64) - b.clock != numbers).any():
            return None
    found = np.array([t.block.touched for t in tried], np.int64)
    found[:, 1::2] = np.array(trace.patterns.keys, np.int64)[found[:, 1::2]]
    # those that an iteration made itself move with it
    since = found[:, ::2] - np.array([t.block.made for t in tried])[:, None]
    own = (since >= 0) & (since % programs == 0)
    if (own != own[0]).any() or (since[:, own[0]] != since[0, own[0]]).any():
        return None
    for row, number in zip(found[1:], basis.rows, strict=True):
        row[::2][own[0]] = found[0, ::2][own[0]] + number * len(base.form) * programs
    touches = Sums.of(basis, found)
    if touches is None or not _are_within(basis, [t.views for t in tried]):
        return None
    moving, values = touches.moving, touches.values(range(len(basis.columns)))
    if not trace.patterns.are_known(values[:, moving % 2 == 1]):
        return None
    form = trace.storages.form
    others = np.unique(values[:, (moving % 2 == 0) & ~own[0][moving // 2]]).tolist()
    new = [n for n in others if not (0 <= n < len(form) and form[n] >= 0)]
    if any(n not in storages for n in new):
        return None
    for n in new:
        trace.touch(storages[n])
    return ScatteredTurns(core, trace, base, touches, clock, library)


def _are_within(basis: Basis, each: Sequence[Sequence[NotedView | None]]) -> bool:
    """Whether all views stay within their tiles in all iterations, as those that ran show."""
    first = each[0]
    ends: list[list[tuple[int, int]]] = []
    for views in each:
        if len(views) != len(first):
            return False
        ends.append([])
        for a, b in zip(first, views, strict=True):
            if a is None or b is None or (a.shape, a.spread, len(a.keys)) != (b.shape, b.spread, len(b.keys)):
                return False
            ends[-1] += view_ends(b)
    if not ends[0]:
        return True
    sums = Sums.of(basis, np.array([[value for value, _ in row] for row in ends], np.int64))
    if sums is None:
        return False
    spreads = [s for v in first if v is not None for s in v.spread or ((0, 0),) * len(view_ends(v))]
    limits = np.array(
        [(-low, limit - high) for (_, limit), (low, high) in zip(ends[0], spreads, strict=True)], np.int64
    )
    least, most = limits[sums.moving].T
    values = sums.values(range(len(basis.columns)))
    return bool((values >= least).all() and (values <= most).all())
