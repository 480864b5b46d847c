"""What an iteration of a loop added to a trace, and the same again for the iterations that follow, written by NumPy.

Two iterations, one after the other, are alike where their instructions are of the same kinds from the same lines, and
where the numbers of their storages, the offsets of their views and all else that is counted differ by constants.
Whether the iterations that follow are alike as well is not judged here (`nki.affine` reads the kernel for that).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.trace import Pattern, Trace

_Columns = NDArray[np.int64]

AT_ONCE = 1 << 16
"""Instructions that are written at once: what NumPy needs for them stays small."""


class Unlike(BaseException):
    """An iteration that ran is not what was written for it, or a core of a pair comes to something before the other:
    the run starts again."""


class Blocks(Protocol):
    """A tensor whose blocks are made when they are first named."""

    def is_free(self, at: tuple[int, ...]) -> bool:
        """Whether there is such a block, and it was not made yet."""

    def again(self, at: tuple[int, ...], like: tuple[int, ...], number: int) -> None:
        """Make a block as another one was, in a storage of this number."""

    def number(self, at: tuple[int, ...]) -> int:
        """Number of the storage of a block that was made."""


class Mark(NamedTuple):
    """How far a run has come. instructions, touches, edges, in_order: entries of the trace; clock, storages: the core's
    counters; other: what an iteration that is repeated leaves as it is; blocks: blocks of tensors that were made."""

    instructions: int
    touches: int
    edges: int
    in_order: int
    clock: int
    storages: int
    other: tuple[object, ...]
    blocks: int


def mark(core: Core, trace: Trace) -> Mark:
    """How far a run has come now."""
    storages = core.serial.get("storage", 0)
    other = (
        sum(core.serial.values()) - storages,
        len(core.serial),
        len(trace.meetings),
        len(core.records),
        len(core.warned),
        len(core.scratch),
        len(core.shared),
        len(core.ring),
        len(core.pending),
        trace.ordered,
        core.irregular,
    )
    return Mark(
        len(trace.kind),
        len(trace.touched),
        len(trace.edges),
        len(trace.in_order),
        core.clock,
        storages,
        other,
        len(core.blocks),
    )


_Made = tuple[Blocks, tuple[int, ...]]


class IterationBlock:
    """What one iteration added. made: from this number on the core made its storages in it."""

    __slots__ = ("clock", "edges", "form", "in_order", "kind", "made", "number", "pattern", "site", "storage")

    def __init__(self, core: Core, trace: Trace, begin: Mark, end: Mark) -> None:
        i, j = begin.instructions, end.instructions
        self.kind = _part(trace.kind, i, j, np.int32)
        self.site = _part(trace.site, i, j, np.int32)
        self.number = _part(trace.number, i, j, np.int64)
        pairs = _part(trace.touched, begin.touches, end.touches, np.int64)
        self.storage, self.pattern = pairs[::2], pairs[1::2]
        self.edges = np.array(trace.edges[begin.edges : end.edges], np.int64).reshape(-1, 2)
        self.in_order = _part(trace.in_order, begin.in_order, end.in_order, np.int64)
        self.clock = begin.clock
        step = core.programs
        self.made = (begin.storages + 1) * step + core.program
        after = (end.storages + 1) * step + core.program
        trace.storages.reserve(after)
        self.form = _part(trace.storages.form, self.made, after, np.int32)[::step].copy()

    def counts(self) -> tuple[int, ...]:
        """How much of each there is."""
        return (len(self.kind), len(self.storage), len(self.edges), len(self.in_order), len(self.form))

    def own(self, programs: int) -> NDArray[np.bool_]:
        """Of each operand, whether its storage was made in this iteration by this core."""
        own: NDArray[np.bool_] = (self.storage >= self.made) & ((self.storage - self.made) % programs == 0)
        return own


def _part(column: array[int], begin: int, end: int, dtype: type) -> _Columns:
    """A part of a column, copied: a column that NumPy looks at cannot grow."""
    return np.array(column[begin:end], dtype) if end > begin else np.zeros(0, dtype)


class Repeat:
    """Two iterations that are alike, as the second one and what is added from one iteration to the next."""

    def __init__(self, core: Core, trace: Trace, first: IterationBlock, second: IterationBlock) -> None:
        self.core, self.trace, self.base = core, trace, second
        self.d_clock = second.clock - first.clock
        self.d_storage = second.storage - first.storage
        self.d_edges = second.edges - first.edges
        self.d_made = len(second.form)
        self.blocks: list[tuple[Blocks, tuple[int, ...], tuple[int, ...]]] = []
        both = first.pattern * len(trace.patterns) + second.pattern
        pairs, at, self.which = np.unique(both, return_index=True, return_inverse=True)
        old, self.patterns = np.divmod(pairs, max(len(trace.patterns), 1))
        self.moving: list[
            tuple[int, Pattern, int]
        ] = []  # (pair, its pattern in the second iteration, what its offset grows by)
        for pair in np.argsort(at).tolist():
            before, after = trace.patterns[int(old[pair])], trace.patterns[int(self.patterns[pair])]
            if before is not after and before[2] is not None and after[2] is not None:
                self.moving.append((pair, after, after[2] - before[2]))

    def expected(self, times: _Columns) -> tuple[_Columns, _Columns, _Columns]:
        """(numbers, storages, edges) of the iterations that follow the second one after `times` of them, one row for
        each."""
        b, t = self.base, times[:, None]
        edges = b.edges.reshape(-1) + self.d_edges.reshape(-1) * t
        return b.number + self.d_clock * t, b.storage + self.d_storage * t, edges

    def fill(self, count: int) -> None:
        """Write `count` more iterations after the second one. The trace must end with that one."""
        trace, core, b = self.trace, self.core, self.base
        n = len(b.kind)
        chunk = max(1, AT_ONCE // max(n, 1))
        for start in range(1, count + 1, chunk):
            times = np.arange(start, min(start + chunk, count + 1))
            k = len(times)
            numbers, storages, edges = self.expected(times)
            trace.kind.frombytes(np.tile(b.kind, k).tobytes())
            trace.site.frombytes(np.tile(b.site, k).tobytes())
            trace.number.frombytes(numbers.tobytes())
            touched = np.empty((k, len(b.storage), 2), np.int64)
            touched[:, :, 0] = storages
            touched[:, :, 1] = self._patterns(times)[:, self.which]
            trace.touched.frombytes(touched.tobytes())
            if edges.size:
                trace.edges.extend((before, after) for before, after in edges.reshape(-1, 2).tolist())
            if len(b.in_order):
                trace.in_order.frombytes((b.in_order + n * times[:, None]).tobytes())
        core.clock += self.d_clock * count
        core.serial["storage"] = core.serial.get("storage", 0) + self.d_made * count
        self._note_storages(count)
        self._make_blocks(count)

    def finds_blocks(self, first: Sequence[_Made], second: Sequence[_Made]) -> bool:
        """Note the blocks that the two iterations made: those of a tensor from before them move on by the same steps.
        False: they made others."""
        if len(first) != len(second):
            return False
        for (x, at), (y, then) in zip(first, second, strict=True):
            if x is y:
                self.blocks.append((y, then, tuple(b - a for a, b in zip(at, then, strict=True))))
            elif at != then:
                return False
        return True

    def later_blocks(self, times: int) -> list[tuple[Blocks, tuple[int, ...], tuple[int, ...]]]:
        """(tensor, block, block of the second iteration) that the iteration `times` after the second one makes."""
        return [(x, tuple(i + d * times for i, d in zip(at, step, strict=True)), at) for x, at, step in self.blocks]

    def has_room(self, count: int) -> bool:
        """Whether `count` iterations more, and the one behind them, make blocks that are there and that nothing else
        has made."""
        found = [(x, at) for t in range(1, count + 2) for x, at, _ in self.later_blocks(t)]
        return len({(id(x), at) for x, at in found}) == len(found) and all(x.is_free(at) for x, at in found)

    def _make_blocks(self, count: int) -> None:
        step = self.d_made * self.core.programs
        for t in range(1, count + 1):
            for x, at, like in self.later_blocks(t):
                x.again(at, like, x.number(like) + step * t)
                self.core.blocks.append((x, at))  # a loop around this one counts them as made

    def makes(self, made: Sequence[_Made], times: int) -> bool:
        """Whether an iteration that ran made the blocks of the one that comes `times` after the second one."""
        mine = {id(x) for x, _, _ in self.blocks}
        return [(x, at) for x, at in made if id(x) in mine] == [(x, at) for x, at, _ in self.later_blocks(times)]

    def _patterns(self, times: _Columns) -> _Columns:
        """Number of the pattern of each pair, one row for each iteration; new ones in the order in which they come
        up."""
        table = np.repeat(self.patterns[None], len(times), axis=0)
        if not self.moving:
            return table
        known, listed = self.trace._pattern_of, self.trace.patterns
        made: list[int] = []
        for t in times.tolist():
            for _, (shape, item, offset, dims, strides, size), step in self.moving:
                pattern = (shape, item, (offset or 0) + step * t, dims, strides, size)
                place = known.get(pattern)
                if place is None:
                    place = known[pattern] = len(listed)
                    listed.append(pattern)
                made.append(place)
        table[:, [pair for pair, _, _ in self.moving]] = np.array(made, np.int64).reshape(len(times), -1)
        return table

    def _note_storages(self, count: int) -> None:
        """The trace touches the storages that the iterations make as it touched the second one's."""
        b, step, form = self.base, self.core.programs, self.trace.storages.form
        if self.d_made:
            begin = b.made + self.d_made * step
            self.trace.storages.reserve(begin + count * self.d_made * step)
            np.frombuffer(form, np.int32)[begin : begin + count * self.d_made * step : step] = np.tile(b.form, count)

    def others(self, count: int) -> _Columns:
        """Numbers of the storages from before the loop that `count` more iterations touch, each another one."""
        moves = np.flatnonzero((self.d_storage != 0) & ~self.base.own(self.core.programs))
        if not len(moves):
            return np.zeros(0, np.int64)
        return np.unique(self.base.storage[moves] + self.d_storage[moves] * np.arange(1, count + 1)[:, None])

    def agrees(self, later: IterationBlock, times: int) -> bool:
        """Whether an iteration that ran is the one that comes `times` after the second one."""
        b = self.base
        if b.counts() != later.counts() or later.clock != b.clock + self.d_clock * times:
            return False
        number, storage, edges = self.expected(np.array([times]))
        if not (
            np.array_equal(b.kind, later.kind)
            and np.array_equal(b.site, later.site)
            and np.array_equal(b.form, later.form)
            and np.array_equal(number[0], later.number)
            and np.array_equal(storage[0], later.storage)
            and np.array_equal(edges[0], later.edges.reshape(-1))
        ):
            return False
        offsets = {pair: (after, step) for pair, after, step in self.moving}
        patterns = self.trace.patterns
        for pair, found in set(zip(self.which.tolist(), later.pattern.tolist(), strict=True)):
            if pair not in offsets:
                if found != int(self.patterns[pair]):
                    return False
                continue
            (shape, item, offset, dims, strides, size), step = offsets[pair]
            if patterns[found] != (shape, item, (offset or 0) + step * times, dims, strides, size):
                return False
        return True


def repeat_of(core: Core, trace: Trace, marks: tuple[Mark, Mark, Mark]) -> Repeat | None:
    """What repeats, where the iterations between the first and the second mark and between the second and the third are
    alike."""
    a, b, c = marks
    if b.other != c.other or b.instructions == a.instructions:
        return None
    if (
        b.instructions - a.instructions != c.instructions - b.instructions
        or b.touches - a.touches != c.touches - b.touches
        or b.clock - a.clock != c.clock - b.clock
        or b.storages - a.storages != c.storages - b.storages
    ):
        return None
    first, second = IterationBlock(core, trace, a, b), IterationBlock(core, trace, b, c)
    n = second.clock - first.clock
    own = first.own(core.programs)
    if (
        first.counts() != second.counts()
        or not np.array_equal(first.kind, second.kind)
        or not np.array_equal(first.site, second.site)
        or not np.array_equal(first.form, second.form)
        or not np.array_equal(first.number + n, second.number)
        or not np.array_equal(first.in_order + len(first.kind), second.in_order)
        or not np.array_equal(own, second.own(core.programs))
        or not (second.storage - first.storage == second.made - first.made)[own].all()
    ):
        return None
    for before, after in {*zip(first.pattern.tolist(), second.pattern.tolist(), strict=True)}:
        x, y = trace.patterns[before], trace.patterns[after]
        if x is not y and (x[:2] != y[:2] or x[3:] != y[3:] or x[2] is None or y[2] is None):
            return None
    found = Repeat(core, trace, first, second)
    return found if found.finds_blocks(core.blocks[a.blocks : b.blocks], core.blocks[b.blocks : c.blocks]) else None


def note_storages(trace: Trace, numbers: _Columns, known: Mapping[int, Storage]) -> bool:
    """Note storages in a trace that it may not know yet. False, and nothing noted: one is not among the known."""
    form = trace.storages.form
    new = [n for n in numbers.tolist() if n not in trace.storages]
    if any(n not in known for n in new):
        return False
    for n in new:
        trace.touch(known[n])
    return form is trace.storages.form
