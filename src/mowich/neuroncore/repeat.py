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
from mowich.neuroncore.trace import Trace
from mowich.neuroncore.views import Tile

_Columns = NDArray[np.int64]

AT_ONCE = 1 << 16
"""Instructions that are written at once: what NumPy needs for them stays small."""

_FEW = 64
"""Pairs below which a dictionary is faster than NumPy."""


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


Item = Tile | list["Item"]
"""What an iteration appends to a list: a tile, or a list of such."""
_Made = tuple[Blocks, tuple[int, ...]]


class IterationBlock:
    """What one iteration added. touched: (storage, pattern) of each operand, in turn; made: from this number on the
    core made its storages in it."""

    __slots__ = ("clock", "edges", "form", "in_order", "kind", "made", "number", "site", "touched")

    def __init__(self, core: Core, trace: Trace, begin: Mark, end: Mark) -> None:
        i, j = begin.instructions, end.instructions
        self.kind, self.site = trace.kind[i:j], trace.site[i:j]
        self.number = _part(trace.number, i, j)
        self.touched = _part(trace.touched, begin.touches, end.touches)
        self.edges = trace.edges[begin.edges : end.edges]
        self.in_order = trace.in_order[begin.in_order : end.in_order]
        self.clock = begin.clock
        step = core.programs
        self.made = (begin.storages + 1) * step + core.program
        after = (end.storages + 1) * step + core.program
        trace.storages.reserve(after)
        self.form = trace.storages.form[self.made : after : step]

    @property
    def storage(self) -> _Columns:
        """Number of the storage of each operand."""
        return self.touched[::2]

    @property
    def pattern(self) -> _Columns:
        """Number of the pattern of each operand."""
        return self.touched[1::2]

    def is_like(self, other: IterationBlock) -> bool:
        """Whether the other one has as much of everything, the same kinds of instructions from the same lines, and
        storages of the same forms."""
        return (
            self.kind == other.kind
            and self.site == other.site
            and self.form == other.form
            and len(self.touched) == len(other.touched)
            and len(self.edges) == len(other.edges)
            and len(self.in_order) == len(other.in_order)
        )

    def own(self, programs: int) -> NDArray[np.bool_]:
        """Of each operand, whether its storage was made in this iteration by this core."""
        own: NDArray[np.bool_] = self.storage >= self.made
        return own if programs == 1 else own & ((self.storage - self.made) % programs == 0)


def _part(column: array[int], begin: int, end: int) -> _Columns:
    """A part of a column, copied: a column that NumPy looks at cannot grow."""
    return np.array(column[begin:end], np.int64)


class Growth(NamedTuple):
    """What is added from one iteration to the next. clock: instructions; made: storages that an iteration makes;
    touched: storage and pattern of each operand (0 for the pattern); edges: instructions that `depends_on` joins;
    elsewhere: whether storages from before the loop move; places: entries of `touched` whose pattern moves; which: of
    each of them, its place in `offsets`; firsts: of each offset, the first of `places` that has it; offsets: what the
    offset of a pattern grows by, elements."""

    clock: int
    made: int
    touched: _Columns
    edges: list[tuple[int, int]]
    elsewhere: bool
    places: _Columns
    which: _Columns
    firsts: _Columns
    offsets: list[int]


class Repeat:
    """An iteration, and what is added from one iteration to the next."""

    def __init__(self, core: Core, trace: Trace, base: IterationBlock, growth: Growth) -> None:
        self.core, self.trace, self.base, self.growth = core, trace, base, growth
        self.blocks: list[tuple[Blocks, tuple[int, ...], tuple[int, ...]]] = []
        self.moving = list(zip(base.touched[growth.firsts].tolist(), growth.offsets, strict=True))

    def from_here(self, begin: Mark, end: Mark) -> Repeat | None:
        """The same growth from another iteration, where that one is like the one it was found with."""
        found = IterationBlock(self.core, self.trace, begin, end)
        places, which = self.growth.places, self.growth.which
        if self.blocks or found.in_order or not self.base.is_like(found):
            return None
        if len(places):
            patterns, first = found.touched[places], found.touched[self.growth.firsts]
            if (first[which] != patterns).any() or not self.trace.patterns.have_offsets(first.tolist()):
                return None
        return Repeat(self.core, self.trace, found, self.growth)

    def grows_as(self, other: Repeat) -> bool:
        """Whether the same is added from one iteration to the next."""
        a, b = self.growth, other.growth
        return (
            (a.clock, a.made, a.edges, a.offsets) == (b.clock, b.made, b.edges, b.offsets)
            and np.array_equal(a.touched, b.touched)
            and np.array_equal(a.places, b.places)
            and np.array_equal(a.which, b.which)
        )

    def touched(self, times: range) -> _Columns:
        """Storages and patterns of the iterations that follow the base after `times` of them, one row for each."""
        turns = np.arange(times.start, times.stop)[:, None]
        touched: _Columns = self.base.touched + self.growth.touched * turns
        if self.moving:
            touched[:, self.growth.places] = self.trace.patterns.later(self.moving, times)[:, self.growth.which]
        return touched

    def fill(self, count: int, more: int = 0) -> _Columns:
        """Write `count` more iterations after the base. The trace must end with that one. Storages and patterns of the
        `more` iterations behind them, which are not written, one row for each."""
        trace, core, b, growth = self.trace, self.core, self.base, self.growth
        n = len(b.kind)
        chunk = max(1, AT_ONCE // max(n, 1))
        ahead = np.zeros((0, len(b.touched)), np.int64)
        for start in range(1, count + 1, chunk):
            end = min(start + chunk, count + 1)
            k, turns = end - start, np.arange(start, end)[:, None]
            trace.kind.extend(b.kind * k)
            trace.site.extend(b.site * k)
            trace.number.frombytes((b.number + growth.clock * turns).tobytes())
            touched = self.touched(range(start, end + more if end > count else end))
            trace.touched.frombytes(touched[:k].tobytes())
            ahead = touched[k:]
            if b.edges:
                trace.edges.extend(edge for t in range(start, end) for edge in self.edges(t))
            if b.in_order:
                trace.in_order.frombytes((np.array(b.in_order) + n * turns).tobytes())
        core.clock += growth.clock * count
        core.serial["storage"] = core.serial.get("storage", 0) + growth.made * count
        self._note_storages(count)
        self._make_blocks(count)
        return ahead

    def edges(self, times: int) -> list[tuple[int, int]]:
        """What `depends_on` joins in the iteration that comes `times` after the base."""
        if not self.base.edges:
            return []
        return [
            (before + x * times, after + y * times)
            for (before, after), (x, y) in zip(self.base.edges, self.growth.edges, strict=True)
        ]

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
        """(tensor, block, block of the base) that the iteration `times` after the base makes."""
        return [(x, tuple(i + d * times for i, d in zip(at, step, strict=True)), at) for x, at, step in self.blocks]

    def has_room(self, count: int) -> bool:
        """Whether `count` iterations more, and the one behind them, make blocks that are there and that nothing else
        has made."""
        if not self.blocks:
            return True
        found = [(x, at) for t in range(1, count + 2) for x, at, _ in self.later_blocks(t)]
        return len({(id(x), at) for x, at in found}) == len(found) and all(x.is_free(at) for x, at in found)

    def _make_blocks(self, count: int) -> None:
        if not self.blocks:
            return
        step = self.growth.made * self.core.programs
        for t in range(1, count + 1):
            for x, at, like in self.later_blocks(t):
                x.again(at, like, x.number(like) + step * t)
                self.core.blocks.append((x, at))  # a loop around this one counts them as made

    def makes(self, made: Sequence[_Made], times: int) -> bool:
        """Whether an iteration that ran made the blocks of the one that comes `times` after the base."""
        mine = {id(x) for x, _, _ in self.blocks}
        return [(x, at) for x, at in made if id(x) in mine] == [(x, at) for x, at, _ in self.later_blocks(times)]

    def has_made(self, item: object) -> bool:
        """Whether something is a tile whose storage the base made, or a list of such tiles."""
        return is_made(item, self.core, self.base.made, self.growth.made)

    def items(self, like: Item, count: int) -> list[Item]:
        """What `count` more iterations append to a list, to which the base appended this."""
        return items_after(like, self.growth.made * self.core.programs, count)

    def follows(self, item: object, before: Item) -> bool:
        """Whether something is what an iteration appends after that of the iteration before."""
        if isinstance(before, list):
            return (
                type(item) is list
                and len(item) == len(before)
                and all(self.follows(x, y) for x, y in zip(item, before, strict=True))
            )
        return (
            type(item) is Tile
            and item.storage.number == before.storage.number + self.growth.made * self.core.programs
            and item.storage.layout == before.storage.layout
            and (item.dtype, item.shape, item.strides, item.offset, item.dynamic)
            == (before.dtype, before.shape, before.strides, before.offset, None)
        )

    def _note_storages(self, count: int) -> None:
        """The trace touches the storages that the iterations make as it touched those of the base."""
        b, step, made = self.base, self.core.programs, self.growth.made
        if made:
            begin, storages = b.made + made * step, self.trace.storages
            storages.reserve(begin + count * made * step)
            storages.form[begin : begin + count * made * step : step] = b.form * count

    def others(self, count: int) -> _Columns:
        """Numbers of the storages from before the loop that `count` more iterations touch, each iteration others."""
        if not self.growth.elsewhere:
            return np.zeros(0, np.int64)
        steps = self.growth.touched[::2]
        moves = np.flatnonzero((steps != 0) & ~self.base.own(self.core.programs))
        if not len(moves):
            return np.zeros(0, np.int64)
        return (self.base.storage[moves] + steps[moves] * np.arange(1, count + 1)[:, None]).reshape(-1)

    def agrees(self, later: IterationBlock, times: int, touched: _Columns) -> bool:
        """Whether an iteration that ran is the one that comes `times` after the base. touched: storages and patterns of
        that one."""
        b, clock = self.base, self.growth.clock * times
        if not b.is_like(later) or later.clock != b.clock + clock or self.edges(times) != later.edges:
            return False
        # bytes are compared faster than columns
        return (b.number + clock).tobytes() == later.number.tobytes() and touched.tobytes() == later.touched.tobytes()


class Expected:
    """What an iteration has to add that runs to be compared. found, times: it is the one so many after the base;
    touched: storage and pattern of each operand; begin: how far the run had come before it; are_noted: the trace knows
    of the storages from before it."""

    __slots__ = ("are_noted", "begin", "found", "times", "touched")

    def __init__(self, found: Repeat, times: int, touched: _Columns, begin: Mark) -> None:
        self.found, self.times, self.touched, self.begin = found, times, touched, begin
        core, form = found.core, found.trace.storages.form
        numbers = touched[::2]
        places = numbers - ((begin.storages + 1) * core.programs + core.program)
        others = numbers[(places < 0) | (places % core.programs != 0)] if core.programs > 1 else numbers[places < 0]
        self.are_noted = bool(
            not len(others) or (others.max() < len(form) and (np.frombuffer(form, np.int32)[others] >= 0).all())
        )

    def agrees(self, instruction: int, touch: int) -> bool:
        """Whether what came from an instruction of the trace on, and from its first operand on, is as expected."""
        trace, b, begin = self.found.trace, self.found.base, self.begin
        at, end = touch - begin.touches, len(trace.touched) - begin.touches
        first, last = instruction - begin.instructions, len(trace.kind) - begin.instructions
        return (
            trace.touched[touch:].tobytes() == self.touched[at:end].tobytes()
            and trace.kind[instruction:] == b.kind[first:last]
            and trace.site[instruction:] == b.site[first:last]
        )

    def copy(self, before: Mark, after: Mark, count: int) -> bool:
        """Write `count` iterations of a loop within, from what is expected: they are as long as the one between the two
        marks, and follow it. False, and nothing written: that cannot be."""
        found, begin = self.found, self.begin
        b, trace, core = found.base, found.trace, found.core
        first = after.instructions - begin.instructions
        last = first + (after.instructions - before.instructions) * count
        at = after.touches - begin.touches
        end = at + (after.touches - before.touches) * count
        if before.other != after.other or before.blocks != after.blocks or not self.are_noted:
            return False
        if last >= len(b.kind) or end > len(self.touched):
            return False
        trace.kind.extend(b.kind[first:last])
        trace.site.extend(b.site[first:last])
        trace.number.frombytes((b.number[first:last] + found.growth.clock * self.times).tobytes())
        trace.touched.frombytes(self.touched[at:end].tobytes())
        if after.edges > before.edges:
            start = after.edges - begin.edges
            trace.edges.extend(found.edges(self.times)[start : start + (after.edges - before.edges) * count])
        if after.in_order > before.in_order:
            start, move = after.in_order - begin.in_order, len(b.kind) * self.times
            more = (after.in_order - before.in_order) * count
            trace.in_order.extend(i + move for i in b.in_order[start : start + more])
        core.clock += (after.clock - before.clock) * count
        made = (after.storages - before.storages) * count
        if made:
            core.serial["storage"] = after.storages + made
            start, step = (after.storages + 1) * core.programs + core.program, core.programs
            trace.storages.reserve(start + made * step)
            place = after.storages - begin.storages
            trace.storages.form[start : start + made * step : step] = b.form[place : place + made]
        return True


def is_made(item: object, core: Core, first: int, made: int) -> bool:
    """Whether something is a tile whose storage is one of the `made` that a core made from the number `first` on, or a
    list of such tiles."""
    if type(item) is list:
        return all(is_made(x, core, first, made) for x in item)
    if type(item) is not Tile or item.dynamic is not None or item.storage.core is not core:
        return False
    place, rest = divmod(item.storage.number - first, core.programs)
    return rest == 0 and 0 <= place < made


def items_after(like: Item, step: int, count: int) -> list[Item]:
    """`count` tiles, or lists of them, as others whose storages' numbers they follow in steps."""
    if isinstance(like, list):
        columns = [items_after(x, step, count) for x in like]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(count)]
    s, out = like.storage, list[Item]()
    for number in range(s.number + step, s.number + step * count + 1, step):
        out.append(Tile(s.again(number), like.dtype, like.shape, like.strides, like.offset))
    return out


def _distinct(a: _Columns, b: _Columns) -> tuple[_Columns, _Columns]:
    """(Of each pair, its place among the different ones in the order in which they come up; of these, where they come
    up first)."""
    if len(a) < _FEW:
        known: dict[tuple[int, int], int] = {}
        which = [known.setdefault(pair, len(known)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
        return np.array(which, np.int64), np.array([which.index(n) for n in range(len(known))], np.int64)
    _, first, place = np.unique(a << 32 | b, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[place], first[order]


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
    n, length = second.clock - first.clock, len(first.kind)
    if (
        not first.is_like(second)
        or not np.array_equal(first.number + n, second.number)
        or any(y - x != length for x, y in zip(first.in_order, second.in_order, strict=True))
    ):
        return None
    touched = second.touched - first.touched
    own = first.own(core.programs)
    if not np.array_equal(own, second.own(core.programs)) or not (touched[::2] == second.made - first.made)[own].all():
        return None
    places = np.flatnonzero(touched[1::2]) * 2 + 1
    which, firsts = _distinct(first.touched[places], second.touched[places])
    firsts = places[firsts]
    offsets = trace.patterns.steps(first.touched[firsts].tolist(), second.touched[firsts].tolist())
    if offsets is None:
        return None
    touched[1::2] = 0
    elsewhere = bool(((touched[::2] != 0) & ~own).any())
    edges = [(s - x, t - y) for (x, y), (s, t) in zip(first.edges, second.edges, strict=True)]
    growth = Growth(n, len(second.form), touched, edges, elsewhere, places, which, firsts, offsets)
    found = Repeat(core, trace, second, growth)
    return found if found.finds_blocks(core.blocks[a.blocks : b.blocks], core.blocks[b.blocks : c.blocks]) else None


def note_storages(trace: Trace, numbers: _Columns, known: Mapping[int, Storage]) -> bool:
    """Note storages in a trace that it may not know yet. False, and nothing noted: one is not among the known."""
    if not len(numbers):
        return True
    form = trace.storages.form
    inside = (numbers >= 0) & (numbers < len(form))
    noted = inside & (np.frombuffer(form, np.int32)[np.where(inside, numbers, 0)] >= 0)
    new = np.unique(numbers[~noted]).tolist()
    if any(n not in known for n in new):
        return False
    for n in new:
        trace.touch(known[n])
    return form is trace.storages.form
