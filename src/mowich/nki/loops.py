"""Loops of a run without values: of a regular one three iterations run, and C writes what the others add.

The first iteration runs, and stands in the trace in full. Where the kernel's source shows that all that follow are
alike (`nki.affine`), the second one runs as a sample: it tells what grows by constants (`neuroncore.repeat`), and is
taken back. Then all iterations but the first are written without running. The last one runs as a sample again: it is
compared with what was written, and leaves the kernel's names as they are after the loop. Where the first iteration is
another one, the second serves in its place. A run that meets anything else after that, an error of the kernel above
all, starts again and traces each iteration (`runtime.run_function`): so an error is found in the iteration that makes
it, and said as ever.

In a sample each loop within runs its last iteration alone. So a loop that is the d-th in a nest runs 2 d + 1 iterations
in all: the very first, and the second and the last of itself and of each loop around it. That is enough where the
source shows that what the index of a loop adds does not depend on where the loops within are (no product of two
indices), and where all views by indices are noted. A bound that no iteration tries is seen from the steps: its least
and its most are sums over the loops (`repeat.reach`). Elsewhere, and in the older interface, each loop within runs its
first and its last iteration in a sample, and has to grow alike at both: then each corner is tried.

An outermost loop whose places follow no pattern, but go by numbers that are known before it (`i * 7 % n`, a table),
runs its first iteration, a few of the others ahead of their turn, and its last one: see `neuroncore.scattered`.

A loop that is entered again, as one within another that is not regular, grows as it did before: it runs its first and
its last iteration. Where the last one shows that it grows otherwise, the run starts again, and samples that loop each
time.

Python's `range` makes such loops as well as `nl.affine_range` does, in the kernel's own function (`nki.control`).
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass, field
from types import CodeType, FrameType

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore import repeat
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.repeat import NO_PLACES, ColumnPlaces, IterationBlock, Repeat, SamplePlaces
from mowich.neuroncore.scattered import Basis, Tried, scattered_of
from mowich.neuroncore.trace import Trace
from mowich.nki.affine import Loop, known_loop, loop_at

VARIABLE = "MOWICH_TRACE_LOOPS"
"""Environment variable: "full" traces each iteration of each loop."""
LEAST_WRITTEN = 16
"""Fewest instructions that are written without running: below, running them is as fast."""
LEAST_WITHIN = 4
"""The same for a loop within another one: it saves them each time that the other one runs."""
PATIENCE = 3
"""Times that a loop may turn out irregular, or short, before it is left alone for the rest of the run."""
MOST_VIEWS = 1 << 12
"""Most views that a loop which runs in full leaves noted: their memory is bounded."""
MOST_KEPT = 1 << 10
"""Most entries of an iteration whose places are kept for the next loop."""
MOST_APART, LEAST_APART = 8, 4
"""Most turns between two that are alike, and fewest iterations of so many turns."""
Place = tuple[CodeType, int]
"""A loop of a kernel's source: a function, and where in it the loop's range is called."""


def are_repeated() -> bool:
    """Whether the environment leaves loops to be repeated."""
    return os.environ.get(VARIABLE, "") != "full"


@dataclass(slots=True)
class LoopEntry:
    """One time that a loop is entered. found: what it repeats, None: it ran in full; before, count: iterations that ran
    before those that are repeated, and how many these are; inner: loops that the first of these entered; begin, end: of
    that one in the columns of the trace (instructions, touches, edges); lists: names of the lists that get a tile in
    each iteration; has_corners: whether a sample of it ran the first iteration of loops within; period: turns of an
    iteration of those that are repeated."""

    place: Place
    values: range
    found: Repeat | None = None
    before: int = 0
    count: int = 0
    inner: list[LoopEntry] = field(default_factory=list)
    begin: tuple[int, int, int] = (0, 0, 0)
    end: tuple[int, int, int] = (0, 0, 0)
    lists: tuple[str, ...] = ()
    has_corners: bool = False
    period: int = 1

    def turns(self, number: int) -> range:
        """Those of an iteration of the ones that are repeated."""
        begin = self.before + number * self.period
        return self.values[begin : begin + self.period]

    def is_like(self, other: LoopEntry) -> bool:
        """Whether the other one is of the same loop, and is repeated in the same way."""
        return (
            self.place == other.place
            and self.values == other.values
            and (self.found is None, self.before, self.count, self.period)
            == (other.found is None, other.before, other.count, other.period)
            and are_like(self.inner, other.inner)
        )


def are_like(some: Sequence[LoopEntry], others: Sequence[LoopEntry]) -> bool:
    """Whether the same loops were entered, and are repeated in the same way."""
    return len(some) == len(others) and all(a.is_like(b) for a, b in zip(some, others, strict=True))


@dataclass(slots=True)
class LoopSite:
    """A loop of the kernel's source in one run. found: what its source tells, once it was read; misses: times that
    nothing came of it; recorded: as it was entered before and repeated."""

    found: Loop | str | None = None
    misses: int = 0
    recorded: LoopEntry | None = None


@dataclass(slots=True)
class Sample:
    """An iteration that runs to be compared. entries: the loops within, in the order in which they are entered; next:
    of these, the next one; has_corners: whether each of them runs its first iteration beside its last."""

    entries: list[LoopEntry]
    has_corners: bool
    next: int = 0


@dataclass(slots=True)
class LoopsOfRun:
    """The loops of one core. sites: by place; entries: where loops that are entered now are noted, None: no loop around
    them asks for it; sample: the iteration that runs now to be compared; library: the compiled clock, which writes what
    is repeated."""

    library: CDLL
    sites: dict[Place, LoopSite] = field(default_factory=dict)
    entries: list[LoopEntry] | None = None
    sample: Sample | None = None


def loops_of_run() -> LoopsOfRun | None:
    """The loops of a core that starts. None: there is no compiled clock to write what is repeated, and the Python clock
    takes longer than running each iteration does."""
    library = compiled.library()
    return None if library is None else LoopsOfRun(library)


_CHANGING: set[Place] = set()
"""Loops that grew otherwise when they were entered again: what was recorded does not serve for them."""


_IN_PATTERN: set[Place] = set()
"""Loops whose places did not go by the numbers that their source shows: they are repeated in patterns alone."""


_RUN_BEFORE: dict[Place, int] = {}
"""Iterations that run in full before a loop is repeated, where loops within it are, and a sample was another than its
source shows."""
_TRIES = 2
"""Iterations of a loop with which a sample is compared: the first, and where that is another one the second."""


class ChangedGrowth(repeat.Unlike):
    """A loop grows otherwise than it did before, or than its source shows: that is noted, and the run starts again."""


def over(values: range, depth: int = 1) -> Iterable[int]:
    """What a loop of a kernel goes through: the range, or the same numbers from a loop that is repeated. depth: calls
    between the kernel and this one."""
    core = machine.running()
    run = core.loops if core is not None else None
    if core is None or not isinstance(run, LoopsOfRun) or len(values) < 2 or core.trace is None:
        return values
    frame = sys._getframe(depth + 1)
    place = (frame.f_code, frame.f_lasti)
    if run.sample is not None:
        return _of_sample(values, core, run.sample, place)
    site = run.sites.get(place)
    if site is None:
        site = run.sites[place] = LoopSite()
        if place[1] not in _loop_calls(place[0]):
            site.misses = PATIENCE
    entry = LoopEntry(place, values)
    if run.entries is not None:
        run.entries.append(entry)
    return values if site.misses >= PATIENCE else _repeated(core, core.trace, run, site, entry)


@functools.lru_cache(1024)
def _loop_calls(code: CodeType) -> frozenset[int]:
    """Offsets in a function, those of inline caches as well, of the calls whose value a loop goes through."""
    shown = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG")]
    return frozenset(
        at
        for a, b, c in zip(shown, shown[1:], shown[2:], strict=False)
        for at in range(a.offset, b.offset, 2)
        if b.opname == "GET_ITER" and c.opname == "FOR_ITER"
    )


def _repeated(core: Core, trace: Trace, run: LoopsOfRun, site: LoopSite, entry: LoopEntry) -> Iterator[int]:
    """The numbers of a range, without those of the iterations that need not run."""
    loop = _Running(core, trace, run, site, entry)
    values = entry.values
    try:
        for _ in range(_TRIES):
            yield from loop.first()
            count = loop.alike(sys._getframe(1))
            if loop.period > 1:
                yield from loop.rest_of_period()
            if loop.is_alike(count):
                if loop.found is None:
                    yield from loop.second()
                if loop.is_known(sys._getframe(1)):
                    loop.write()
                    if loop.ran < loop.end:
                        yield from loop.last()
                    loop.compare()
                    yield from values[loop.at(loop.end) :]
                    return
            elif loop.basis is not None:
                yield from loop.scattered(loop.basis)
                return
            if loop.at(loop.ran) > len(values) - 2:
                break
        site.misses += 1
        loop.give_up()
        yield from values[loop.at(loop.ran) :]
    finally:
        loop.leave()


class _Running:
    """A loop that runs. period: turns of the kernel's loop that count as one iteration from `start` on: more than one
    where turns are alike that lie so far apart (`tiles[i % 2]`); ran: iterations that ran; start, end: iterations that
    are alike; basis: what the places of iterations go by that are alike but in these; found: what they add, None: it
    is not known; begin, middle: before the first of them, and behind it; inner: the loops that it entered; others:
    those that the second entered, where that one stays if it is not like the first; lists: those that each iteration
    appends to; before, after: before and behind the latest sample."""

    def __init__(self, core: Core, trace: Trace, run: LoopsOfRun, site: LoopSite, entry: LoopEntry) -> None:
        self.core, self.trace, self.run, self.site, self.entry = core, trace, run, site, entry
        self.around = run.entries
        self.is_outermost = core.views is None
        if core.views is None:
            core.views = []
        self.first_view = len(core.views)
        self.ran = self.start = self.end = 0
        self.period = 1
        self.basis: Basis | None = None
        self.found: Repeat | None = None
        self.base: IterationBlock | None = None
        self.begin = self.middle = self.before = self.after = repeat.mark(core, trace)
        self.inner: list[LoopEntry] = []
        self.others: list[LoopEntry] = []
        self.lists: list[list[repeat.Item]] = []
        self.is_nested = self.has_corners = self.is_complete = self.was_recorded = False
        self.storages: dict[int, Storage] = {}

    # what runs
    # --------------------------------------------------------------------------------------------------------
    def first(self) -> Iterator[int]:
        """An iteration that stands in the trace in full."""
        self.start = self.ran = self.at(self.ran)
        self.period, self.found, self.begin, self.others = 1, None, self.after, []
        self.inner = yield from self.noting(self.turns(self.ran))
        self.middle = self.after = repeat.mark(self.core, self.trace)
        self.ran += 1

    def rest_of_period(self) -> Iterator[int]:
        """The other turns of that iteration."""
        self.inner += yield from self.noting(self.turns(self.start)[1:])
        self.middle = self.after = repeat.mark(self.core, self.trace)

    def second(self) -> Iterator[int]:
        """The one behind it, which tells what grows."""
        self.before = self.middle
        if self.is_nested:
            yield from self.sampled(self.ran)
        else:  # nothing is missing in it, whatever it turns out to be
            self.core.is_sampling = True
            try:
                inner = yield from self.noting(self.turns(self.ran))
            finally:
                self.core.is_sampling = False
            self.is_complete, self.others = are_like(inner, self.inner), inner
        self.ran += 1
        self.after = repeat.mark(self.core, self.trace)
        if self.is_complete and self.before.other == self.after.other:
            blocks, begin, middle = self.core.blocks, self.begin.blocks, self.middle.blocks
            made = blocks[begin:middle], blocks[middle:]
            sample = IterationBlock(self.core, self.trace, self.before, self.after)
            self.found = repeat.repeat_of(
                self.core, self.trace, self.block, sample, self.places(), made, self.run.library
            )

    def last(self) -> Iterator[int]:
        """The last of those that are alike. It is written already."""
        self.before = repeat.mark(self.core, self.trace)
        yield from self.sampled(self.end - 1)
        self.ran = self.end
        self.after = repeat.mark(self.core, self.trace)

    def scattered(self, basis: Basis) -> Iterator[int]:
        """All that follow the first one, where their places go by numbers that are known."""
        core, trace, count = self.core, self.trace, len(basis.columns)
        tried = [Tried.of(core, trace, self.begin, self.middle)]
        for number in basis.rows:
            tried.append((yield from self.ahead(number)))
        clock = self.middle.clock - self.begin.clock
        found = scattered_of(core, trace, basis, clock, tried, self.storages, self.run.library)
        if found is not None:
            repeat.undo(core, trace, self.middle)
            found.fill(range(1, count - 1))
            before = repeat.mark(core, trace)
            yield from self.noting(self.turns(self.start + count - 1))
            last = Tried.of(core, trace, before, repeat.mark(core, trace))
        if found is None or not found.agrees(last, count - 1):
            _IN_PATTERN.add(self.entry.place)
            raise ChangedGrowth
        yield from self.entry.values[self.start + count :]

    def ahead(self, number: int) -> Generator[int, None, Tried]:
        """The iteration so many after the first, before its turn: it is taken back. Loops within it run in full."""
        core, trace = self.core, self.trace
        _note_repeated(core)
        before = repeat.mark(core, trace)
        core.unfinished += 1  # an error leaves it so, whoever catches it
        core.loops, core.is_sampling = None, True
        try:
            yield from self.turns(self.start + number)
        finally:
            core.loops, core.is_sampling = self.run, False
        core.unfinished -= 1
        found = Tried.of(core, trace, before, repeat.mark(core, trace))
        core.clock = before.clock
        if found.block.form:
            core.serial["storage"] = before.storages
        return found

    def at(self, number: int) -> int:
        """How many turns come before an iteration."""
        return number if number <= self.start else self.start + (number - self.start) * self.period

    def turns(self, number: int) -> range:
        """The turns of an iteration."""
        return self.entry.values[self.at(number) : self.at(number + 1)]

    def noting(self, turns: range) -> Generator[int, None, list[LoopEntry]]:
        """An iteration in which the loops within are noted."""
        inner = self.run.entries = []
        try:
            yield from turns
        finally:
            self.run.entries = self.around
        return inner

    def sampled(self, number: int) -> Iterator[int]:
        """An iteration in which each loop within runs its last iteration alone, or its first and its last."""
        core, run = self.core, self.run
        _note_repeated(core)
        core.unfinished += 1  # an error leaves it so, whoever catches it
        sample = run.sample = Sample(self.inner, self.has_corners)
        core.is_sampling = True
        try:
            yield from self.turns(number)
        finally:
            run.sample, core.is_sampling = None, False
        core.unfinished -= 1
        self.is_complete = sample.next == len(self.inner)

    # what is judged, and written
    # --------------------------------------------------------------------------------------------------------
    def alike(self, frame: FrameType) -> int:
        """How many iterations, from the first on, are alike as the kernel's source shows."""
        core, site, place = self.core, self.site, self.entry.place
        values = self.entry.values[self.start :]
        added = self.middle.instructions - self.begin.instructions
        least = LEAST_WRITTEN if self.around is None else LEAST_WITHIN
        self.is_nested = any(e.found is not None for e in self.inner)
        is_full = self.is_nested and _RUN_BEFORE.get(place, 0) > self.start
        self.basis, count = None, 0
        if added and added * (len(values) - 1) >= least and not is_full:
            count = _alike(site, frame, place[1], values, self.storages)
            if not count:
                self.period, count = _alike_apart(site, frame, values, self.storages)
            if not count and self.may_scatter():
                self.basis = _basis(site, frame, values, self.storages, least // added)
            if repeat.has_moved(core, self.trace, self.middle):  # what was looked up has done something
                _note_repeated(core)
                raise repeat.Unlike
        return count

    def is_alike(self, count: int) -> bool:
        """Whether iterations are repeated, so many of which are alike."""
        core, site, values = self.core, self.site, self.entry.values
        self.is_nested = any(e.found is not None for e in self.inner)
        # blocks that the index names were made before: which ones, the source does not tell
        is_vague = (
            isinstance(site.found, Loop) and site.found.has_fresh_blocks and self.begin.blocks == self.middle.blocks
        )
        if count < 2 or is_vague or not isinstance(site.found, Loop):
            self.pass_on()
            if self.basis is not None and self.core.views is not None:
                del self.core.views[self.middle.views :]  # of what was looked up
            return False
        self.end = self.start + count
        assert core.views is not None
        del core.views[self.middle.views :]  # of what was looked up
        self.has_corners = site.found.is_older or site.found.has_products or None in core.views[self.begin.views :]
        self.base = IterationBlock(core, self.trace, self.begin, self.middle)
        recorded = site.recorded
        if (
            recorded is not None
            and recorded.found is not None
            and recorded.period == self.period
            and recorded.values.step == values.step
            and recorded.has_corners == self.has_corners
            and self.begin.other == self.middle.other
            and self.begin.blocks == self.middle.blocks
            and are_like(recorded.inner, self.inner)
        ):
            self.found = recorded.found.from_here(self.base)
        self.was_recorded = self.found is not None
        return True

    @property
    def block(self) -> IterationBlock:
        """What the first of those that are alike added."""
        assert self.base is not None
        return self.base

    def places(self) -> SamplePlaces | None:
        """How a sample stands for the iteration in full. None: it has all of it."""
        if not self.is_nested:
            return None
        begin, end = _columns(self.begin), _columns(self.middle)
        a, b, c = (_places(begin[n], end[n], self.inner, n, self.has_corners, self.run.library) for n in range(3))
        return SamplePlaces(a, b, c, self.has_corners)

    def is_known(self, frame: FrameType) -> bool:
        """Whether it is known what the iterations add, and all of that can be written."""
        site, found, more = self.site, self.found, self.end - self.start - 1
        assert isinstance(site.found, Loop)
        if found is not None:
            self.lists = _lists(frame, site.found.lists)
            others = found.others(more)
            if (
                found.has_room(more)
                and not (others is not None and site.found.has_fresh_blocks)
                and all(map(self.has_item, self.lists))
                and repeat.note_storages(self.trace, others or (), more, self.storages)
            ):
                return True
        if self.is_nested and self.has_second:  # what the sample left out is missing
            if site.found.has_products:  # what loops within add depends on where this one is
                _CHANGING.update(e.place for e in self.inner)
            is_other = found is None and not site.found.has_products
            raise _noted(self.entry.place, self.start + 1 if is_other else _TRIES)
        self.pass_on()
        return False

    def may_scatter(self) -> bool:
        """Whether the places of iterations may go by numbers that follow no pattern."""
        begin, middle, views = self.begin, self.middle, self.core.views
        return (
            self.is_outermost
            and not self.trace.ordered
            and (begin.edges, begin.blocks) == (middle.edges, middle.blocks)
            and views is not None
            and None not in views[begin.views : middle.views]
            and self.entry.place not in _IN_PATTERN
        )

    @property
    def has_second(self) -> bool:
        """Whether the second of those that are alike ran."""
        return self.ran > self.start + 1

    def has_item(self, tiles: list[repeat.Item]) -> bool:
        """Whether the latest iteration has appended to a list what can be made for those that do not run."""
        found, block = self.found, self.block
        assert found is not None
        first = block.made + self.has_second * found.growth.made * self.core.programs
        if not tiles or not repeat.is_made(tiles[-1], self.core, first, found.growth.made):
            return False
        return not self.has_second or (len(tiles) > 1 and found.follows(tiles[-1], tiles[-2]))

    def write(self) -> None:
        """Write all iterations that are alike but the first. The last of them may be yet to run."""
        core, found, loop, more = self.core, self.found, self.site.found, self.end - self.start - 1
        assert found is not None
        assert isinstance(loop, Loop)
        assert core.views is not None
        _note_repeated(core)
        if self.has_second:
            repeat.undo(core, self.trace, self.before)
        found.fill(more)
        if self.ran < self.end:
            ahead = self.end - self.ran - 1  # those that neither ran nor will
            del core.views[self.middle.views :]
            found.make_blocks(core.blocks[self.begin.blocks : self.middle.blocks], range(2, more))
            repeat.advance(core, found.growth, ahead)
            for tiles in self.lists if ahead else ():
                tiles += found.items(tiles[-1], ahead)
        entry = self.entry
        entry.found, entry.inner, entry.before, entry.count = found, self.inner, self.start, more + 1
        entry.has_corners, entry.period = self.has_corners, self.period
        entry.lists, entry.begin, entry.end = loop.lists, _columns(self.begin), _columns(self.middle)
        if entry.place not in _CHANGING:
            self.site.recorded = entry

    def compare(self) -> None:
        """Compare the last iteration with what was written for it, and take it back. See that no view leaves its tile
        in those that did not run."""
        core, found, more = self.core, self.found, self.end - self.start - 1
        assert found is not None
        assert core.views is not None
        if self.before is not self.middle:
            sample = IterationBlock(core, self.trace, self.before, self.after)
            if (
                not self.is_complete
                or self.before.other != self.after.other
                or not found.agrees(sample, more, self.before)
                or not found.makes(core.blocks[self.before.blocks : self.after.blocks], more)
                or not all(found.follows(tiles[-1], tiles[-2]) for tiles in self.lists)
            ):
                raise self.mistaken()
            repeat.undo(core, self.trace, self.before)
        first, last = core.views[self.begin.views : self.middle.views], core.views[self.middle.views :]
        reached = [None] if self.has_corners else repeat.reach(first, last)
        if reached is None:
            raise repeat.Unlike
        core.views[self.begin.views :] = reached
        self.lists = []

    def mistaken(self) -> repeat.Unlike:
        """What ends a run whose last iteration of a loop is another than was written."""
        place = self.entry.place
        if self.was_recorded and place not in _CHANGING:
            _CHANGING.add(place)
            return ChangedGrowth()
        return _noted(place, _TRIES) if self.is_nested else repeat.Unlike()

    def pass_on(self) -> None:
        """The loops within are loops of the iteration around, as this one is not repeated from here on."""
        if self.around is not None:
            self.around += self.inner + self.others

    def give_up(self) -> None:
        """The iterations that are left run in full: a loop within them is the outermost that may be repeated."""
        if self.is_outermost:
            self.core.views = None

    def leave(self) -> None:
        """The loop ends."""
        views = self.core.views
        if self.is_outermost:
            self.core.views = None
        elif views is not None and len(views) > self.first_view + MOST_VIEWS:
            views[self.first_view :] = [None]


def _columns(at: repeat.Mark) -> tuple[int, int, int]:
    """Entries of the columns of a trace."""
    return at.instructions, at.touches, at.edges


_Within = tuple[int, int, int, ColumnPlaces]
"""Of a loop within: where its iterations begin, the length of one, how many there are, how a sample stands for one."""


def _places(
    begin: int, end: int, inner: Sequence[LoopEntry], column: int, has_corners: bool, library: CDLL
) -> ColumnPlaces:
    """How a sample of what lies between two places of a column stands for it: of each loop within it has the last
    iteration, or the first and the last."""
    if begin == end:
        return NO_PLACES
    repeated = [e for e in inner if e.found is not None]
    if not repeated:
        return _all_of(end - begin)
    loops: list[_Within] = []
    for entry in sorted(repeated, key=lambda e: e.begin) if len(repeated) > 1 else repeated:
        found = entry.found.samples if entry.found is not None else None
        if found is not None and entry.has_corners == has_corners:
            part = (found.instructions, found.touches, found.edges)[column]
        else:
            part = _places(entry.begin[column], entry.end[column], entry.inner, column, has_corners, library)
        loops.append((entry.begin[column] - begin, entry.end[column] - entry.begin[column], entry.count, part))
    return _joined(library, loops, end - begin, has_corners)


def _all_of(entries: int) -> ColumnPlaces:
    """Where a sample has them all."""
    return _all_of_few(entries) if entries <= MOST_KEPT else _counted(entries)


def _counted(entries: int) -> ColumnPlaces:
    return ColumnPlaces(np.tile(np.arange(entries), 2), entries)


_all_of_few = functools.lru_cache(256)(_counted)


def _joined(library: CDLL, loops: Sequence[_Within], entries: int, has_corners: bool) -> ColumnPlaces:
    """How a sample stands for so many entries with loops within, one after the other."""
    rows, sampled = array("q"), entries
    for begin, length, count, part in loops:
        n = part.sampled
        sampled += n * (1 + has_corners) - length * count
        rows.extend((begin, length, count, n, *part.addresses))
    made = ColumnPlaces(np.empty(sampled + entries, np.int64), sampled)
    library.clock_places(rows.buffer_info()[0], len(loops), entries, has_corners, *made.addresses)
    return made


def _of_sample(values: range, core: Core, sample: Sample, place: Place) -> Iterable[int]:
    """The numbers of a loop that a sample enters. Raises Unlike for another loop than the iteration has that it is
    compared with."""
    entry = sample.entries[sample.next] if sample.next < len(sample.entries) else None
    if entry is None or entry.place != place or entry.values != values:
        raise repeat.Unlike
    sample.next += 1
    return values if entry.found is None else _ends(core, sample, entry, entry.found)


def _ends(core: Core, sample: Sample, entry: LoopEntry, found: Repeat) -> Iterator[int]:
    """Of the iterations that a loop repeats the last one, or the first and the last; those before and behind them."""
    more = entry.count - 1
    yield from entry.values[: entry.before]
    entries, following = sample.entries, sample.next
    if sample.has_corners:
        blocks = len(core.blocks)
        sample.entries, sample.next = entry.inner, 0
        yield from entry.turns(0)
        made = core.blocks[blocks:]
        if sample.next != len(entry.inner) or len(made) != len(found.blocks):
            raise repeat.Unlike
        found.make_blocks(made, range(1, more))
        for tiles in _lists(sys._getframe(1), entry.lists):
            tiles += found.items(tiles[-1], more - 1)
    repeat.advance(core, found.growth, more - sample.has_corners)
    first = (core.serial.get("storage", 0) + 1) * core.programs + core.program
    sample.entries, sample.next = entry.inner, 0
    yield from entry.turns(more)
    lists = _lists(sys._getframe(1), entry.lists)
    if sample.next != len(entry.inner) or not all(
        tiles and repeat.is_made(tiles[-1], core, first, found.growth.made) for tiles in lists
    ):
        raise repeat.Unlike
    sample.entries, sample.next = entries, following
    for tiles in lists if not sample.has_corners else ():
        tiles[-1:-1] = found.items(tiles[-1], -more)
    yield from entry.values[entry.before + entry.count * entry.period :]


def _noted(place: Place, before: int) -> repeat.Unlike:
    """What ends a run in which a sample of a loop was another than its source shows: in the next run so many iterations
    run in full before. Where that was noted before, that run is in full, so that no kernel starts for ever."""
    if _RUN_BEFORE.get(place, 0) >= before:
        return repeat.Unlike()
    _RUN_BEFORE[place] = before
    return ChangedGrowth()


def _lists(frame: FrameType, names: Sequence[str]) -> list[list[repeat.Item]]:
    """Lists from before a loop that get a tile in each iteration."""
    return [frame.f_locals[name] for name in names] if names else []


def _note_repeated(core: Core) -> None:
    """From here on a run that goes wrong starts again in full."""
    core.has_repeated = True
    if core.group is not None:
        core.group.has_repeated = True


def _alike(site: LoopSite, frame: FrameType, call: int, values: range, storages: dict[int, Storage]) -> int:
    """How many iterations, from the first of these values on, are alike as the kernel's source has it. Where a mask
    cuts the last iteration of the loop, that one comes after them. storages: gets those of the tiles that were looked
    at."""
    for end in (len(values), len(values) - 1):
        if end < 2 or isinstance(site.found, str):
            break
        if _source(site, frame, call, values[:end], storages):
            return end
        if not isinstance(site.found, Loop) or not site.found.has_last:
            break
    return 0


def _alike_apart(site: LoopSite, frame: FrameType, values: range, storages: dict[int, Storage]) -> tuple[int, int]:
    """(Turns from one to the next that is like it, how many iterations of so many turns there are), where some of the
    first `MOST_APART` come out; (1, 0) where none does."""
    loop = site.found
    if isinstance(loop, Loop) and loop.guards and not loop.lists:
        for period in range(2, MOST_APART + 1):
            count = len(values) // period
            if count < LEAST_APART:
                break
            # most are refused by the first few
            if all(loop.holds(frame, values[: n * period], storages, period) for n in (LEAST_APART, count)):
                return period, count
    return 1, 0


def _basis(site: LoopSite, frame: FrameType, values: range, storages: dict[int, Storage], least: int) -> Basis | None:
    """What the places of the iterations for these values go by, where they follow no pattern but are known, and at
    least so many iterations need not run; without the last one, where it is another."""
    loop = site.found
    for end in (len(values), len(values) - 1) if isinstance(loop, Loop) and loop.guards else ():
        assert isinstance(loop, Loop)
        numbers = loop.numbers(frame, values[:end], storages)
        if numbers:
            basis = Basis.of(numbers)
            return basis if basis is not None and end - len(basis.rows) - 2 > least else None
    return None


def _source(site: LoopSite, frame: FrameType, call: int, values: range, storages: dict[int, Storage]) -> bool:
    """Whether the source of a loop shows that the iterations for `values` are all alike. storages: gets those of the
    tiles that were looked at."""
    if site.found is None:
        site.found = known_loop(frame.f_code, call)
        if isinstance(site.found, Loop):
            if site.found.holds(frame, values, storages):
                return True
            if site.found.stands(frame, values, storages):
                return False
        if not isinstance(site.found, str):
            site.found = loop_at(frame, call, values)
    if isinstance(site.found, str):
        site.misses = PATIENCE
        return False
    return site.found.holds(frame, values, storages)
