"""What an iteration of a loop added to a trace, and the same again for the iterations that follow, written by C.

Two iterations are alike where their instructions are of the same kinds from the same lines, and where the numbers of
their storages, the offsets of their views and all else that is counted differ by constants. Whether the iterations that
follow are alike as well is not judged here (`nki.affine` reads the kernel for that).

Where loops lie within a loop, the first iteration stands in the trace in full. Of a later one, a sample tells how it
differs: in it each loop within runs its last iteration alone (`ColumnPlaces` says which entries of the full one those
stand for), and what it recorded is taken back (`undo`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.access import storage_of
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.trace import NotedView, Trace
from mowich.neuroncore.views import Tile, views_again

_Columns = NDArray[np.int64]
_Edge = tuple[int, int]

AT_ONCE = 1 << 16
"""Instructions that are written at once: what NumPy needs for them stays small."""


_LONG = 8
"""Bytes of a number in a column."""


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
    """How far a run has come. instructions, touches, edges, in_order: entries of the trace; patterns: of the trace;
    accesses: that the core knows; clock, storages: the core's counters; views: views that were noted; blocks: blocks of
    tensors that were made; other: what an iteration that is repeated leaves as it is."""

    instructions: int
    touches: int
    edges: int
    in_order: int
    patterns: int
    accesses: int
    clock: int
    storages: int
    views: int
    blocks: int
    other: tuple[object, ...]


def mark(core: Core, trace: Trace) -> Mark:
    """How far a run has come now."""
    serial = core.serial
    storages = serial.get("storage", 0)
    counted = sum(serial.values()) - storages if len(serial) > 1 else 0
    other = (
        len(core.warned),
        counted,
        trace.ordered,
        core.irregular,
        len(serial),
        len(trace.meetings),
        len(core.records),
        len(core.scratch),
        len(core.shared),
        len(core.pending),
    )
    return Mark(
        len(trace.kind),
        len(trace.touched),
        len(trace.edges),
        len(trace.in_order),
        len(trace.patterns.keys),
        len(core.accesses),
        core.clock,
        storages,
        len(core.views or ()),
        len(core.blocks),
        other,
    )


def has_moved(core: Core, trace: Trace, since: Mark) -> bool:
    """Whether a run has done anything since a mark."""
    return (
        core.clock != since.clock
        or core.serial.get("storage", 0) != since.storages
        or len(trace.kind) != since.instructions
        or len(core.blocks) != since.blocks
        or len(core.warned) != since.other[0]
    )


def undo(core: Core, trace: Trace, begin: Mark) -> None:
    """Take back what was recorded since a mark: the instructions, and the patterns that came up in them. The core's
    counters and its blocks stay."""
    del trace.kind[begin.instructions :]
    del trace.site[begin.instructions :]
    del trace.number[begin.instructions :]
    del trace.touched[begin.touches :]
    del trace.edges[begin.edges :]
    del trace.in_order[begin.in_order :]
    trace.patterns.cut(begin.patterns)
    while len(core.accesses) > begin.accesses:
        core.accesses.popitem()


def advance(core: Core, growth: Growth, count: int) -> None:
    """Count what `count` iterations, less than none to go back, would have counted."""
    core.clock += growth.clock * count
    if growth.made:
        core.serial["storage"] = core.serial.get("storage", 0) + growth.made * count


Item = Tile | list["Item"]
"""What an iteration appends to a list: a tile, or a list of such."""
MadeBlock = tuple[Blocks, tuple[int, ...]]
"""A block of a tensor that was made."""


class ColumnPlaces:
    """How a sample of an iteration stands for all of it, in one column. of_sample: of each entry of the sample, its
    place in the full iteration; of_full: of each entry of that, its place in the sample. columns: the two, one behind
    the other, of which the first has `sampled` entries."""

    __slots__ = ("_address", "columns", "sampled")

    def __init__(self, columns: _Columns, sampled: int) -> None:
        self.columns, self.sampled = columns, sampled
        self._address: int | None = None

    @property
    def of_sample(self) -> _Columns:
        """Of each entry of the sample, its place in the full iteration."""
        return self.columns[: self.sampled]

    @property
    def of_full(self) -> _Columns:
        """Of each entry of the full iteration, its place in the sample."""
        return self.columns[self.sampled :]

    @property
    def addresses(self) -> tuple[int, int]:
        """Where the two begin; whoever passes them on keeps the columns."""
        if self._address is None:
            self._address = compiled.begin(self.columns)
        return self._address, self._address + _LONG * self.sampled


NO_PLACES = ColumnPlaces(np.zeros(0, np.int64), 0)
"""Of a column without entries."""


@dataclass(slots=True)
class SamplePlaces:
    """The same in each column: instructions, (storage, pattern) of operands, what `depends_on` joins. has_corners:
    whether the sample has the first iteration of loops within beside the last."""

    instructions: ColumnPlaces
    touches: ColumnPlaces
    edges: ColumnPlaces
    has_corners: bool
    _given: compiled.Struct | None = None

    def given(self) -> compiled.Struct:
        """For the compiled code."""
        if self._given is None:
            rows, _ = self.instructions.addresses
            self._given = compiled.PlacesGiven(rows, *self.touches.addresses, self.has_corners)
        return self._given


class IterationBlock:
    """What one iteration added. touched: (storage, pattern) of each operand, in turn; in_order: counted from its first
    instruction; made: from this number on the core made its storages in it, of these forms."""

    __slots__ = ("_given", "clock", "edges", "form", "in_order", "kind", "made", "number", "site", "touched")

    def __init__(self, core: Core, trace: Trace, begin: Mark, end: Mark) -> None:
        i, j = begin.instructions, end.instructions
        self.kind, self.site, self.number = trace.kind[i:j], trace.site[i:j], trace.number[i:j]
        self.touched = trace.touched[begin.touches : end.touches]
        self.edges = trace.edges[begin.edges : end.edges]
        self.in_order = [n - i for n in trace.in_order[begin.in_order : end.in_order]]
        self.clock = begin.clock
        self._given: compiled.Struct | None = None
        step = core.programs
        self.made = (begin.storages + 1) * step + core.program
        after = (end.storages + 1) * step + core.program
        trace.storages.reserve(after)
        self.form = trace.storages.form[self.made : after : step]

    def is_like(self, other: IterationBlock) -> bool:
        """Whether the other one has as much of everything, the same kinds of instructions from the same lines, and
        storages of the same forms."""
        return (
            self.kind == other.kind
            and self.site == other.site
            and self.form == other.form
            and len(self.touched) == len(other.touched)
            and len(self.edges) == len(other.edges)
            and self.in_order == other.in_order
        )

    def counted(self, places: SamplePlaces | None, edges: Sequence[_Edge]) -> tuple[int, int, list[_Edge], list[int]]:
        """Of a sample: instructions, touches, those of `edges` that it has, and what keeps its order. None: it has
        all."""
        if places is None:
            return len(self.kind), len(self.touched), list(edges), self.in_order
        kept = np.flatnonzero(np.isin(places.instructions.of_sample, self.in_order)).tolist() if self.in_order else []
        mine = [edges[n] for n in places.edges.of_sample] if edges else []
        return places.instructions.sampled, places.touches.sampled, mine, kept

    def given(self) -> compiled.Struct:
        """For the compiled code."""
        if self._given is None:
            kind, instructions = self.kind.buffer_info()
            form, forms = self.form.buffer_info()
            touched, touches = self.touched.buffer_info()
            site, number = self.site.buffer_info()[0], self.number.buffer_info()[0]
            counts = (instructions, touches, self.clock, self.made, forms)
            self._given = compiled.IterationGiven(*counts, kind, site, form, number, touched)
        return self._given

    def has_made(self, core: Core, storage: int) -> bool:
        """Whether a core made a storage in this iteration, or after it."""
        return storage >= self.made and (storage - self.made) % core.programs == 0


_ALL_GIVEN = compiled.PlacesGiven()


def _given(samples: SamplePlaces | None) -> compiled.Struct:
    """For the compiled code: how a sample stands for an iteration. None: it has all of it."""
    return _ALL_GIVEN if samples is None else samples.given()


@dataclass(slots=True)
class Growth:
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
    _given: compiled.Struct | None = None
    _kept: _Columns | None = None

    def given(self) -> compiled.Struct:
        """For the compiled code that writes iterations."""
        if self._given is None:
            self._kept = np.array(self.offsets, np.int64)
            columns = (self.touched, self.places, self.which, self.firsts, self._kept)
            counts = (True, self.elsewhere, len(self.places), len(self.offsets))
            self._given = compiled.GrowthColumns(*counts, *map(compiled.address, columns))
        return self._given


class Repeat:
    """An iteration that stands in a trace in full, and what is added from one iteration to the next. samples: places of
    its entries in samples, None: a sample has them all; library: the compiled clock; blocks: those of tensors that it
    made, each with the step to that of the next iteration (none for a tensor that it made itself)."""

    def __init__(
        self,
        core: Core,
        trace: Trace,
        base: IterationBlock,
        growth: Growth,
        samples: SamplePlaces | None,
        library: CDLL,
        blocks: Sequence[tuple[MadeBlock, tuple[int, ...] | None]] = (),
    ) -> None:
        self.core, self.trace, self.base, self.growth, self.samples = core, trace, base, growth, samples
        self.library, self.blocks = library, blocks

    def from_here(self, base: IterationBlock) -> Repeat | None:
        """The same growth from another iteration, where that one is like the one it was found with."""
        places, which = self.growth.places, self.growth.which
        if self.blocks or base.in_order or not self.base.is_like(base):
            return None
        if len(places):
            row = np.frombuffer(base.touched, np.int64)
            patterns, first = row[places], row[self.growth.firsts]
            if (first[which] != patterns).any() or not self.trace.patterns.have_offsets(first.tolist()):
                return None
        return Repeat(self.core, self.trace, base, self.growth, self.samples, self.library)

    # what is written
    # --------------------------------------------------------------------------------------------------------
    def fill(self, count: int) -> None:
        """Write `count` more iterations after the base. The trace must end with that one."""
        trace, b, growth = self.trace, self.base, self.growth
        n, first = len(b.kind), len(trace.kind) - len(b.kind)
        chunk = max(1, AT_ONCE // max(n, 1))
        for start in range(1, count + 1, chunk):
            end = min(start + chunk, count + 1)
            k = end - start
            trace.kind.extend(b.kind * k)
            trace.site.extend(b.site * k)
            self._fill(start, k)
            if b.edges:
                trace.edges.extend(edge for t in range(start, end) for edge in self.edges(t))
            if b.in_order:
                turns = np.arange(start, end)[:, None]
                trace.in_order.frombytes((np.array(b.in_order) + first + n * turns).tobytes())
        if growth.made:
            begin, step, storages = b.made + growth.made * self.core.programs, self.core.programs, trace.storages
            storages.reserve(begin + count * growth.made * step)
            storages.form[begin : begin + count * growth.made * step : step] = b.form * count

    def _fill(self, start: int, count: int) -> None:
        """Numbers and touches of `count` iterations, from the one `start` after the base on."""
        trace, b, growth, by = self.trace, self.base, self.growth, compiled.by_reference
        numbers = _LONG * len(b.number) * count
        made = np.empty(numbers + _LONG * len(b.touched) * count, np.uint8)
        begin = compiled.begin(made)
        table = trace.patterns.table(self.library)
        keys = table.given(len(growth.offsets) * count)
        given = by(b.given()), by(growth.given()), growth.clock, start, count, by(keys)
        self.library.clock_fill(*given, begin, begin + numbers)
        table.end(keys.count)
        trace.number.frombytes(made[:numbers].data)
        trace.touched.frombytes(made[numbers:].data)

    def edges(self, times: int) -> list[tuple[int, int]]:
        """What `depends_on` joins in the iteration that comes `times` after the base."""
        return [
            (before + x * times, after + y * times)
            for (before, after), (x, y) in zip(self.base.edges, self.growth.edges, strict=True)
        ]

    def others(self, count: int) -> list[tuple[int, int]] | None:
        """(Storage, step) of the storages from before the loop that come, in `count` iterations more, to one that the
        trace does not know yet. None: each iteration touches the same of them."""
        if not self.growth.elsewhere:
            return None
        form = self.trace.storages.form
        made = np.empty(len(self.base.touched), np.int64)
        given = compiled.by_reference(self.base.given()), self.growth.given().touched, self.core.programs
        unknown = self.library.clock_others(*given, *form.buffer_info(), count, compiled.begin(made))
        numbers = iter(made[: 2 * unknown].tolist() if unknown > 0 else ())
        return None if unknown < 0 else list(zip(numbers, numbers, strict=True))

    def agrees(self, sample: IterationBlock, times: int, end: Mark) -> bool:
        """Whether a sample is of the iteration that comes `times` after the base, which the trace holds up to `end`."""
        b, trace = self.base, self.trace
        if b.clock + self.growth.clock * times != sample.clock or b.counted(
            self.samples, self.edges(times)
        ) != sample.counted(None, sample.edges):
            return False
        number = trace.number.buffer_info()[0] + _LONG * (end.instructions - len(b.kind))
        touched = trace.touched.buffer_info()[0] + _LONG * (end.touches - len(b.touched))
        by = compiled.by_reference
        given = by(b.given()), by(sample.given()), by(_given(self.samples))
        return bool(self.library.clock_agrees(*given, number, touched))

    # blocks of tensors
    # --------------------------------------------------------------------------------------------------------
    def later_blocks(self, times: int) -> list[MadeBlock]:
        """(tensor, block) of those that the iteration `times` after the base makes."""
        return [(x, _moved(at, step, times)) for (x, at), step in self.blocks if step is not None]

    def has_room(self, count: int) -> bool:
        """Whether `count` iterations more make blocks that are there and that nothing else has made. The first of them
        ran, and has made its own."""
        if not self.blocks:
            return True
        found = [made for t in range(2, count + 1) for made in self.later_blocks(t)]
        return len({(id(x), at) for x, at in found}) == len(found) and all(x.is_free(at) for x, at in found)

    def make_blocks(self, made: Sequence[MadeBlock], times: range) -> None:
        """Make the blocks of the iterations that follow one, which made these, after `times`."""
        step = self.growth.made * self.core.programs
        for t in times:
            for (x, like), (_, move) in zip(made, self.blocks, strict=True):
                if move is not None:
                    at = _moved(like, move, t)
                    x.again(at, like, x.number(like) + step * t)
                    self.core.blocks.append((x, at))  # a loop around this one counts them as made

    def makes(self, made: Sequence[MadeBlock], times: int) -> bool:
        """Whether an iteration that ran made the blocks of the one that comes `times` after the base."""
        mine = {id(x) for (x, _), step in self.blocks if step is not None}
        return [(x, at) for x, at in made if id(x) in mine] == self.later_blocks(times)

    # lists
    # --------------------------------------------------------------------------------------------------------
    def items(self, like: Item, count: int) -> list[Item]:
        """What `count` iterations more append to a list, after one that appended this; less than none: before it."""
        return items_after(like, self.growth.made * self.core.programs, count)

    def follows(self, item: object, before: Item) -> bool:
        """Whether something is what an iteration appends after that of the iteration before."""
        return _follows(item, before, self.growth.made * self.core.programs)


def _follows(item: object, before: Item, step: int) -> bool:
    """The same for storages whose numbers differ by `step`."""
    if isinstance(before, list):
        if type(item) is not list or len(item) != len(before):
            return False
        return all(map(_follows, item, before, itertools.repeat(step)))
    if type(item) is not Tile or storage_of(item).number != storage_of(before).number + step:
        return False
    return item.first is before.first or _has_form(item.first, before.first)


def _has_form(t: Tile, other: Tile) -> bool:
    """Whether a tile is as another one but for its storage."""
    return storage_of(t).layout == storage_of(other).layout and (t.dtype, t.shape, t.strides, t.offset, t.dynamic) == (
        other.dtype,
        other.shape,
        other.strides,
        other.offset,
        None,
    )


def _moved(at: tuple[int, ...], step: tuple[int, ...], times: int) -> tuple[int, ...]:
    return tuple(i + d * times for i, d in zip(at, step, strict=True))


def is_made(item: object, core: Core, first: int, made: int) -> bool:
    """Whether something is a tile whose storage is one of the `made` that a core made from the number `first` on, or a
    list of such tiles."""
    found = [item]
    while list in (kinds := set(map(type, found))):
        found = [y for x in found for y in (x if type(x) is list else (x,))]
    if not found:
        return True
    if kinds != {Tile}:
        return False
    tiles = [t for t in found if isinstance(t, Tile)]
    numbers, step = [storage_of(t).number for t in tiles], core.programs
    if min(numbers) < first or max(numbers) >= first + made * step or any((n - first) % step for n in numbers):
        return False
    likes = {t if t.like is None else t.like for t in tiles}
    return all(t.dynamic is None and storage_of(t).core is core for t in likes)


def items_after(like: Item, step: int, count: int) -> list[Item]:
    """`count` tiles, or lists of them, as others whose storages' numbers they follow in steps; count less than 0: that
    many before them."""
    moves = [step * t for t in (range(1, count + 1) if count > 0 else range(count, 0))]
    return _moved_items(like, moves, {})


def _moved_items(like: Item, moves: Sequence[int], kept: dict[int, Storage]) -> list[Item]:
    """A tile as another one, or a list of such, in storages that differ in their numbers, for each of `moves`. kept: by
    number, what they have in common with the storages that they are like."""
    if isinstance(like, list):
        rows = [_moved_items(x, moves, kept) for x in like]
        return [list(row) for row in zip(*rows, strict=True)] if rows else [[] for _ in moves]
    number = storage_of(like).number
    common = kept.get(number)
    if common is None:
        common = kept[number] = storage_of(like).common()
    return [*views_again(like, common, [number + move for move in moves])]


def repeat_of(
    core: Core,
    trace: Trace,
    base: IterationBlock,
    sample: IterationBlock,
    samples: SamplePlaces | None,
    made: tuple[Sequence[MadeBlock], Sequence[MadeBlock]],
    library: CDLL,
) -> Repeat | None:
    """What repeats, where a sample of the iteration behind the base is like it. made: blocks that each of them made;
    library: the compiled clock."""
    growth = _growth(library, core, trace, base, sample, samples)
    blocks = None if growth is None else _block_steps(*made)
    return None if growth is None or blocks is None else Repeat(core, trace, base, growth, samples, library, blocks)


def _growth(
    library: CDLL, core: Core, trace: Trace, base: IterationBlock, sample: IterationBlock, samples: SamplePlaces | None
) -> Growth | None:
    """What grows, where a sample of the iteration behind the base is like it."""
    (*have, edges, in_order), its = base.counted(samples, base.edges), sample.counted(None, sample.edges)
    if (*have, len(edges), in_order) != (*its[:2], len(its[2]), its[3]):
        return None
    steps = [(s - x, t - y) for (x, y), (s, t) in zip(edges, sample.edges, strict=True)]
    n, half = len(base.touched), len(base.touched) // 2
    columns = np.empty(n + 4 * half, np.int64)
    begin, rest = compiled.begin(columns), _LONG * half
    behind = begin + _LONG * n
    out = compiled.GrowthColumns(0, 0, 0, 0, begin, behind, behind + rest, behind + 2 * rest, behind + 3 * rest)
    by, keys = compiled.by_reference, trace.patterns.keys.buffer_info()[0]
    given = by(base.given()), by(sample.given()), by(_given(samples))
    compiled.done(library.clock_growth(*given, keys, core.programs, by(out)))
    if not out.is_alike:
        return None
    moves, different = out.moves, out.offsets_n
    which, firsts, offsets = n + half, n + 2 * half, n + 3 * half
    return Growth(
        sample.clock - base.clock,
        len(base.form),
        columns[:n],
        steps if samples is None else [steps[place] for place in samples.edges.of_full],
        bool(out.elsewhere),
        columns[n : n + moves],
        columns[which : which + moves],
        columns[firsts : firsts + different],
        columns[offsets : offsets + different].tolist(),
        out,
    )


def _block_steps(
    first: Sequence[MadeBlock], second: Sequence[MadeBlock]
) -> list[tuple[MadeBlock, tuple[int, ...] | None]] | None:
    """The blocks that an iteration made, each with the step to that of the next one: blocks of a tensor from before
    them move on by the same steps. None: the next one made others."""
    if len(first) != len(second):
        return None
    out: list[tuple[MadeBlock, tuple[int, ...] | None]] = []
    for (x, at), (y, then) in zip(first, second, strict=True):
        if x is not y and at != then:
            return None
        out.append(((x, at), tuple(b - a for a, b in zip(at, then, strict=True)) if x is y else None))
    return out


def note_storages(trace: Trace, moving: Sequence[tuple[int, int]], count: int, known: Mapping[int, Storage]) -> bool:
    """Note in a trace the storages that come `count` times after others, each (number, step), as far as it does not
    know them yet. False, and nothing noted: one is not among the known."""
    if not moving:
        return True
    form, new = trace.storages.form, set[int]()
    for number, step in moving:
        numbers = range(number + step, number + step * (count + 1), step)
        new.update(n for n in numbers if not (0 <= n < len(form) and form[n] >= 0))
    if any(n not in known for n in new):
        return False
    for n in sorted(new):
        trace.touch(known[n])
    return form is trace.storages.form


# how far the views of a loop reach
# ------------------------------------------------------------------------------------------------------------


def reach(first: Sequence[NotedView | None], last: Sequence[NotedView | None]) -> list[NotedView | None] | None:
    """The views of a loop, as its last iteration makes them, with how far they reach in all iterations. None: one of
    them leaves its tile in some iteration, or is not seen to stay within, or the two iterations make other views.

    What an end adds from one iteration to the next is the same wherever the loops around and within are. So the least
    and the most that it comes to are sums over the loops, though no iteration that runs may have them."""
    if len(first) != len(last):
        return None
    out: list[NotedView | None] = []
    for a, b in zip(first, last, strict=True):
        if a is None or b is None:
            if a is not b:
                return None
            out.append(a)
            continue
        if a.keys == b.keys and a.shape == b.shape:
            out.append(a)
            continue
        if a.shape != b.shape or len(a.keys) != len(b.keys):
            return None
        ends, later = view_ends(a), view_ends(b)
        spread = []
        for (x, limit), (y, _), (low, high) in zip(ends, later, a.spread or ((0, 0),) * len(ends), strict=True):
            low, high = low + min(x - y, 0), high + max(x - y, 0)
            if (low or high) and (y + low < 0 or y + high > limit):
                return None
            spread.append((low, high))
        out.append(NotedView(b.keys, b.shape, tuple(spread)))
    return out


def view_ends(view: NotedView) -> list[tuple[int, int]]:
    """(Value, largest that is allowed) of each bound and each index of a view."""
    out = []
    for key, n in zip(view.keys, view.shape, strict=False):
        if isinstance(key, slice):
            out += [(0 if key.start is None else int(key.start), n), (n if key.stop is None else int(key.stop), n)]
        else:
            out.append((int(key), n - 1))
    return out
