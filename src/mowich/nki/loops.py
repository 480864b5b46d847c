"""Loops of a run without values: of a regular one three iterations are traced, and NumPy writes what the others add.

The first two iterations run, and the last. Where the first two add the same but for numbers that grow by constants
(`neuroncore.repeat`), and the kernel's source shows that so do all that follow (`nki.affine`), the others are written
without running; the last one runs and is compared. Where the first iteration is another, the second and the third are
looked at. A run that meets anything else after that, an error of the kernel above all, starts again and traces each
iteration (`runtime.run_function`): so an error is found in the iteration that makes it, and said as ever.

A loop that is entered again, as one within another is, is traced twice: what grows from one iteration to the next is
known from the first time, and the last iteration shows whether it is so again. Where it is not (the step of a loop
within may depend on the loop around it), the run starts again, and that loop is traced three times at each entry.

In the second iteration of a loop around it, it is traced once, where the source shows before that the loop around is
regular from its first iteration on, and no name that the loop within assigns is read after it. What an instruction
touches is affine in the outer index for each turn of the loop within. In the first and in the last outer iteration it
is seen to be affine in the inner index too, with one and the same step: then that is so in between. Where the outer
loop is not repeated after all, the run starts again and that iteration runs in full.

In the last iteration of a loop around it, it is traced twice: what the outer iteration has to add is known, and what
lies between the first and the last inner one is copied from there.

A loop of two or three iterations, or of a few instructions, runs in full when it is entered first. It is recorded then,
and serves in the second and in the last iteration of the loop around it as others do.

Python's `range` makes such loops as well as `nl.affine_range` does, in the kernel's own function (`with_range_loops`).
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType
from typing import SupportsIndex
from weakref import WeakKeyDictionary

from mowich.neuroncore import core as machine
from mowich.neuroncore import repeat
from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.trace import Trace
from mowich.nki.affine import Loop, known_loop, loop_at
from mowich.nki.affine.source import tree_of

VARIABLE = "MOWICH_TRACE_LOOPS"
"""Environment variable: "full" traces each iteration of each loop."""
_LEAST = 4
"""Fewest iterations of a loop that is repeated when it is entered first. A shorter one runs in full then. It is written
from its first iteration alone in the second iteration of a loop around it."""
LEAST_WRITTEN = 16
"""Fewest instructions that are written without running: below, running them is as fast."""
LEAST_RECORDED = 4
"""Fewest instructions of a loop after its first iteration for which it is recorded: it is written at later entries."""
PATIENCE = 3
"""Times that a loop may turn out irregular, or short, before it is left alone for the rest of the run."""


def are_repeated() -> bool:
    """Whether the environment leaves loops to be repeated."""
    return os.environ.get(VARIABLE, "") != "full"


@dataclass(slots=True)
class LoopSite:
    """A loop of the kernel's source in one run. found: what its source tells, once it was read; misses: times that
    nothing came of it; recorded: what it repeated when it was entered before, with those values of its index, as the
    `number`th loop of the run; is_alike: it was repeated at each entry, as it was recorded."""

    found: Loop | str | None = None
    misses: int = 0
    recorded: repeat.Repeat | None = None
    values: range = range(0)
    number: int = 0
    is_alike: bool = True


@dataclass(slots=True)
class LoopsOfRun:
    """The loops of one core. sites: by code and place of the call; recorded: how many loops were recorded; since: what
    was recorded after so many may be written from its first iteration alone; expected: what the iteration that runs
    now has to add, as it is the last one of a loop that is repeated; around: loops that are in their first iteration,
    or in the second."""

    sites: dict[tuple[CodeType, int], LoopSite] = field(default_factory=dict)
    recorded: int = 0
    since: int = sys.maxsize
    expected: repeat.Expected | None = None
    around: int = 0


_CHANGING: set[tuple[CodeType, int]] = set()
"""Loops that grew otherwise when they were entered again: what was recorded does not serve for them."""


_IN_FULL: set[tuple[CodeType, int]] = set()
"""Loops that were not repeated though their source shows that they are regular: their second iteration runs in full."""


class ChangedGrowth(repeat.Unlike):
    """A loop that is entered again grows otherwise than before: the run starts again, and records it each time."""


def _noted(noted: set[tuple[CodeType, int]], place: tuple[CodeType, int]) -> repeat.Unlike:
    """What ends a run that a loop at this place was not repeated in: noted, it is another in the next run. Where it was
    noted before, that run is in full, so that no kernel starts for ever."""
    if place in noted:
        return repeat.Unlike()
    noted.add(place)
    return ChangedGrowth()


def over(values: range, depth: int = 1) -> Iterable[int]:
    """What a loop of a kernel goes through: the range, or the same numbers from a loop that is repeated. depth: calls
    between the kernel and this one."""
    core = machine.running()
    run = core.loops if core is not None else None
    if core is None or not isinstance(run, LoopsOfRun) or len(values) < 2 or core.trace is None:
        return values
    if len(values) < _LEAST and not (run.around or (run.expected is not None and len(values) > 2)):
        return values
    frame = sys._getframe(depth + 1)
    key = (frame.f_code, frame.f_lasti)
    site = run.sites.get(key)
    if site is None:
        site = run.sites[key] = LoopSite()
        if key[1] not in _loop_calls(key[0]):
            site.misses = PATIENCE
    if site.misses >= PATIENCE:
        return values
    return _repeated(values, core, core.trace, run, site, frame.f_lasti)


def _range(*bounds: SupportsIndex) -> Iterable[int]:
    """What `range` is to a kernel whose loops may be repeated."""
    return over(range(*bounds))


_WITH_RANGE_LOOPS: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()
_BUILTINS = {**vars(builtins), "range": _range}


def with_range_loops(func: Callable[..., object]) -> Callable[..., object]:
    """The same function, whose loops over Python's `range` may be repeated as those over `nl.affine_range` are. It has
    the same code and the same globals; where its source names `range` elsewhere than in a loop, it is left alone."""
    if not isinstance(func, FunctionType) or "range" in func.__globals__ or not _has_range_loops(func.__code__):
        return func
    made = _WITH_RANGE_LOOPS.get(func)
    if made is None or made.__code__ is not func.__code__:
        space, key = func.__globals__, "__builtins__"
        before = space.get(key)
        if before is not builtins and before is not vars(builtins):
            return func
        space[key] = _BUILTINS  # a function keeps those that its globals had when it was made
        try:
            made = FunctionType(func.__code__, space, func.__name__, func.__defaults__, func.__closure__)
        finally:
            space[key] = before
        functools.update_wrapper(made, func)
        made.__kwdefaults__ = func.__kwdefaults__
        _WITH_RANGE_LOOPS[func] = made
    return made


@functools.lru_cache(1024)
def _has_range_loops(code: CodeType) -> bool:
    """Whether a function names `range`, and all that it does with it is to go through it in loops."""
    if "range" not in code.co_names or (tree := tree_of(code)) is None:
        return False
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "range"]
    calls = [n.iter.func for n in ast.walk(tree) if isinstance(n, ast.For) and isinstance(n.iter, ast.Call)]
    return all(any(n is call for call in calls) for n in named)


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


def _repeated(values: range, core: Core, trace: Trace, run: LoopsOfRun, site: LoopSite, call: int) -> Iterator[int]:
    """The numbers of a range, without those of the iterations that need not run."""
    marks = [repeat.mark(core, trace)]
    place = (sys._getframe(1).f_code, call)
    entered, outside, is_sure = run.recorded, run.since, False
    for ran, i in enumerate(values[:3], 1):
        if is_sure:
            run.since = min(outside, entered)
        run.around += 1
        try:
            yield i
        finally:
            run.since = outside
            run.around -= 1
        marks.append(repeat.mark(core, trace))
        most = len(values) - ran - 1
        if ran == 1 and (
            len(values) < _LEAST or 0 < marks[-1].instructions - marks[-2].instructions < LEAST_WRITTEN / most
        ):
            yield from _small(values, core, trace, run, site, call, marks)
            return
        if (marks[-1].instructions - marks[-2].instructions) * most < LEAST_WRITTEN:
            continue
        expected = run.expected
        if ran == 1 and expected is not None and _is_copied(site, sys._getframe(1), values, marks, core, expected):
            yield from _compared(values[-1], place, trace, expected)
            return
        if ran == 1 and outside < site.number and _is_written(site, sys._getframe(1), values, marks[-2:], core):
            return
        found = (
            _recorded(site, values, marks[-2:])
            if ran == 1
            else repeat.repeat_of(core, trace, (marks[-3], marks[-2], marks[-1]))
        )
        frame = sys._getframe(1)
        if found is None:
            if ran == 1 and run.recorded > entered and place not in _IN_FULL:
                is_sure = _is_sure(site, frame, call, values)
                core.unfinished += is_sure  # an error leaves it so, whoever catches it
                _check_nothing_done(core, trace, marks[-1])
            continue
        left = _regular(site, frame, call, values, ran, found)
        _check_nothing_done(core, trace, marks[-1])
        if not left:
            continue
        if ran > 1:
            site.is_alike = site.recorded is None and ran == 2
        if ran == 2 and not found.blocks and place not in _CHANGING:
            run.recorded += 1
            site.recorded, site.values, site.number = found, values, run.recorded
        _note_repeated(core)
        touched = found.fill(left, 1)[0]
        lists = _lists(site, frame)
        for tiles in lists:
            tiles += found.items(tiles[-1], left)
        items = [(tiles, tiles[-1], len(tiles)) for tiles in lists]
        before = repeat.mark(core, trace)
        core.unfinished += 1
        around, run.expected = run.expected, repeat.Expected(found, left + 1, touched, before)
        try:
            yield values[ran + left]
        finally:
            run.expected = around
        core.unfinished -= 1 + is_sure
        after = repeat.mark(core, trace)
        if (
            before.other != after.other
            or not found.agrees(repeat.IterationBlock(core, trace, before, after), left + 1, touched)
            or not found.makes(core.blocks[before.blocks : after.blocks], left + 1)
            or not all(len(tiles) == n + 1 and found.follows(tiles[-1], item) for tiles, item, n in items)
        ):
            if ran > 1 and not is_sure:
                raise repeat.Unlike
            raise _noted(_CHANGING if ran == 1 else _IN_FULL, place)
        yield from values[ran + left + 1 :]
        return
    if is_sure:  # what its second iteration wrote is not shown to be so
        _note_repeated(core)
        raise _noted(_IN_FULL, place)
    site.misses += 1
    site.is_alike = False
    yield from values[3:]


def _compared(last: int, place: tuple[CodeType, int], trace: Trace, expected: repeat.Expected) -> Iterator[int]:
    """The last number of a loop of which those between were copied. Where it does something else, the step of the loop
    depends on the one around it."""
    instruction, touch = len(trace.kind), len(trace.touched)
    yield last
    if not expected.agrees(instruction, touch):
        raise _noted(_CHANGING, place)


def _small(
    values: range, core: Core, trace: Trace, run: LoopsOfRun, site: LoopSite, call: int, marks: list[repeat.Mark]
) -> Iterator[int]:
    """The numbers of a range after the first, where few instructions follow. They all run when the loop is entered
    first, which is recorded; in the second iteration of a loop around it they are written."""
    frame, expected = sys._getframe(2), run.expected
    if expected is not None and _is_copied(site, frame, values, marks, core, expected):
        yield from _compared(values[-1], (frame.f_code, call), trace, expected)
        return
    if run.since < site.number and _is_written(site, frame, values, marks, core):
        return
    is_first = site.number == 0 and run.around > 0 and (frame.f_code, call) not in _CHANGING
    if not is_first or (marks[1].instructions - marks[0].instructions) * (len(values) - 1) < LEAST_RECORDED:
        site.misses += is_first or (site.number == 0 and expected is None)
        yield from values[1:]
        return
    del frame
    for i in values[1:]:
        yield i
        marks.append(repeat.mark(core, trace))
    site.misses += 1
    found = last = repeat.repeat_of(core, trace, (marks[0], marks[1], marks[2]))
    if len(values) > 2:
        last = repeat.repeat_of(core, trace, (marks[-3], marks[-2], marks[-1]))
    steps = {tuple(y - x for x, y in zip(one[:6], two[:6], strict=True)) for one, two in itertools.pairwise(marks)}
    if found is None or last is None or found.blocks or last.blocks or len(steps) > 1 or not found.grows_as(last):
        return
    if _source(site, sys._getframe(2), call, values, {}) and all(
        tiles and last.has_made(tiles[-1]) for tiles in _lists(site, sys._getframe(2))
    ):
        _check_nothing_done(core, trace, marks[-1])
        run.recorded += 1
        site.recorded, site.values, site.number, site.misses = last, values, run.recorded, 0


def _check_nothing_done(core: Core, trace: Trace, before: repeat.Mark) -> None:
    """Raise where what was looked up has done something."""
    if repeat.mark(core, trace) != before:
        _note_repeated(core)
        raise repeat.Unlike


def _is_sure(site: LoopSite, frame: FrameType, call: int, values: range) -> bool:
    """Whether the source of a loop shows after its first iteration that all are alike. Then those of its second that
    are in loops within follow from the first and the last: what is affine in the index of this loop, and in that of the
    loop within at both ends, grows in between as it does there."""
    return _source(site, frame, call, values, {})


def _is_written(site: LoopSite, frame: FrameType, values: range, marks: Sequence[repeat.Mark], core: Core) -> bool:
    """Write all that follows the first iteration of a loop that is entered in the second iteration of one around it,
    and was recorded in the first. False, and nothing written: it has to run."""
    if not isinstance(site.found, Loop) or not site.found.may_end or not site.is_alike or site.values != values:
        return False
    found, left = _recorded(site, values, marks), len(values) - 1
    if found is None:
        return False
    lists = _lists(site, frame)
    if not repeat.note_storages(found.trace, found.others(left), {}) or not all(
        tiles and found.has_made(tiles[-1]) for tiles in lists
    ):
        return False
    _note_repeated(core)
    found.fill(left)
    for tiles in lists:
        tiles += found.items(tiles[-1], left)
    return True


def _is_copied(
    site: LoopSite,
    frame: FrameType,
    values: range,
    marks: Sequence[repeat.Mark],
    core: Core,
    expected: repeat.Expected,
) -> bool:
    """Write what lies between the first and the last iteration of a loop that is entered in the last iteration of one
    around it: what that one has to add is known, and it is compared when it ends. False, and nothing written: the loop
    is not as it was when it was recorded."""
    before, after = marks
    count = len(values) - 2
    if site.recorded is None or not isinstance(site.found, Loop) or site.values != values or site.found.has_masks:
        return False
    step = core.programs
    made, first = after.storages - before.storages, (before.storages + 1) * step + core.program
    lists = _lists(site, frame)
    if not all(tiles and repeat.is_made(tiles[-1], core, first, made) for tiles in lists):
        return False
    if count < 1 or not expected.copy(before, after, count):
        return False
    for tiles in lists:
        tiles += repeat.items_after(tiles[-1], made * step, count)
    return True


def _recorded(site: LoopSite, values: range, marks: Sequence[repeat.Mark]) -> repeat.Repeat | None:
    """What the loop repeats from its first iteration on, where it is as it was when it was entered before."""
    before, after = marks
    if site.recorded is None or site.values.step != values.step:
        return None
    if before.other != after.other or before.blocks != after.blocks:
        return None
    return site.recorded.from_here(before, after)


def _lists(site: LoopSite, frame: FrameType) -> list[list[repeat.Item]]:
    """Lists from before the loop that get a tile in each iteration."""
    return [frame.f_locals[name] for name in site.found.lists] if isinstance(site.found, Loop) else []


def _note_repeated(core: Core) -> None:
    """From here on a run that goes wrong starts again in full."""
    core.has_repeated = True
    if core.group is not None:
        core.group.has_repeated = True


def _regular(site: LoopSite, frame: FrameType, call: int, values: range, ran: int, found: repeat.Repeat) -> int:
    """Iterations after those that ran which may be written without running, 0 for none. The one behind them runs and is
    compared; where a mask cuts the last iteration of the loop, that one comes after it."""
    for end in (len(values), len(values) - 1):
        left = end - ran - 1
        if left < 1 or isinstance(site.found, str):
            break
        if _is_regular(site, frame, call, values[max(ran - 2, 0) : end], found, left):
            return left
        if not isinstance(site.found, Loop) or not site.found.has_masks:
            break
    return 0


def _source(site: LoopSite, frame: FrameType, call: int, values: range, storages: dict[int, Storage]) -> bool:
    """Whether the source of a loop shows that the iterations for `values` are all alike. storages: gets those of the
    tiles that were looked at."""
    if site.found is None:
        site.found = known_loop(frame.f_code, call)
        if site.found is None or (isinstance(site.found, Loop) and not site.found.holds(frame, values, storages)):
            site.found = loop_at(frame, call)
    if isinstance(site.found, str):
        site.misses = PATIENCE
        return False
    return site.found.holds(frame, values, storages)


def _is_regular(site: LoopSite, frame: FrameType, call: int, values: range, found: repeat.Repeat, left: int) -> bool:
    """Whether the iterations for `values` are all alike, of which the first two ran and the last will."""
    storages: dict[int, Storage] = {}
    if not found.has_room(left) or not _source(site, frame, call, values, storages):
        return False
    assert isinstance(site.found, Loop)
    others = found.others(left)
    if len(others) and site.found.has_fresh_blocks:
        return False
    if not all(tiles and found.has_made(tiles[-1]) for tiles in _lists(site, frame)):
        return False
    return repeat.note_storages(found.trace, others, storages)
