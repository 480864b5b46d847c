"""Loops of a run without values: of a regular one three iterations are traced, and NumPy writes what the others add.

The first two iterations run, and the last. Where the first two add the same but for numbers that grow by constants
(`neuroncore.repeat`), and the kernel's source shows that so do all that follow (`nki.affine`), the others are written
without running; the last one runs and is compared. Where the first iteration is another, the second and the third are
looked at. A run that meets anything else after that, an error of the kernel above all, starts again and traces each
iteration (`runtime.run_function`): so an error is found in the iteration that makes it, and said as ever.

A loop that is entered again, as one within another is, is traced twice: what grows from one iteration to the next is
known from the first time, and the last iteration shows whether it is so again. Where it is not (the step of a loop
within may depend on the loop around it), the run starts again, and that loop is traced three times at each entry.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType

from mowich.neuroncore import core as machine
from mowich.neuroncore import repeat
from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.trace import Trace
from mowich.neuroncore.views import Tile
from mowich.nki.affine import Loop, known_loop, loop_at

VARIABLE = "MOWICH_TRACE_LOOPS"
"""Environment variable: "full" traces each iteration of each loop."""
_LEAST = 4
"""Fewest iterations of a loop that is looked at."""
LEAST_WRITTEN = 16
"""Fewest instructions that are written without running: below, running them is as fast."""
PATIENCE = 3
"""Times that a loop may turn out irregular, or short, before it is left alone for the rest of the run."""


def are_repeated() -> bool:
    """Whether the environment leaves loops to be repeated."""
    return os.environ.get(VARIABLE, "") != "full"


@dataclass(slots=True)
class LoopSite:
    """A loop of the kernel's source in one run. found: what its source tells, once it was read; misses: times that
    nothing came of it; recorded: what it repeated when it was entered before, with that step of its range."""

    found: Loop | str | None = None
    misses: int = 0
    recorded: repeat.Repeat | None = None
    step: int = 0


_CHANGING: set[tuple[CodeType, int]] = set()
"""Loops that grew otherwise when they were entered again: what was recorded does not serve for them."""


class ChangedGrowth(repeat.Unlike):
    """A loop that is entered again grows otherwise than before: the run starts again, and records it each time."""


def over(values: range, depth: int = 1) -> Iterable[int]:
    """What a loop of a kernel goes through: the range, or the same numbers from a loop that is repeated. depth: calls
    between the kernel and this one."""
    core = machine.running()
    if core is None or core.loops is None or len(values) < _LEAST or core.trace is None:
        return values
    frame = sys._getframe(depth + 1)
    key = (frame.f_code, frame.f_lasti)
    site = core.loops.get(key)
    if site is None:
        site = core.loops[key] = LoopSite()
        if key[1] not in _loop_calls(key[0]):
            site.misses = PATIENCE
    if site.misses >= PATIENCE:
        return values
    return _repeated(values, core, core.trace, site, frame.f_lasti)


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


def _repeated(values: range, core: Core, trace: Trace, site: LoopSite, call: int) -> Iterator[int]:
    """The numbers of a range, without those of the iterations that need not run."""
    marks = [repeat.mark(core, trace)]
    place = (sys._getframe(1).f_code, call)
    for ran, i in enumerate(values[:3], 1):
        yield i
        marks.append(repeat.mark(core, trace))
        most = len(values) - ran - 1
        if (marks[-1].instructions - marks[-2].instructions) * most < LEAST_WRITTEN:
            continue
        found = (
            _recorded(site, values, (marks[-2], marks[-1]))
            if ran == 1
            else repeat.repeat_of(core, trace, (marks[-3], marks[-2], marks[-1]))
        )
        if found is None:
            continue
        frame = sys._getframe(1)
        left = _regular(site, frame, call, values, ran, found)
        if repeat.mark(core, trace) != marks[-1]:  # what was looked up has done something
            _note_repeated(core)
            raise repeat.Unlike
        if not left:
            continue
        if ran == 2 and not found.blocks and place not in _CHANGING:
            site.recorded, site.step = found, values.step
        _note_repeated(core)
        found.fill(left)
        lists = _lists(site, frame)
        for tiles in lists:
            tiles += found.tiles(tiles[-1], left)
        items = [(tiles, tiles[-1], len(tiles)) for tiles in lists]
        before = repeat.mark(core, trace)
        core.unfinished += 1  # an error leaves it so, whoever catches it
        yield values[ran + left]
        core.unfinished -= 1
        after = repeat.mark(core, trace)
        if (
            before.other != after.other
            or not found.agrees(repeat.IterationBlock(core, trace, before, after), left + 1)
            or not found.makes(core.blocks[before.blocks : after.blocks], left + 1)
            or not all(len(tiles) == n + 1 and found.follows(tiles[-1], item) for tiles, item, n in items)
        ):
            if ran > 1:
                raise repeat.Unlike
            _CHANGING.add(place)
            raise ChangedGrowth
        yield from values[ran + left + 1 :]
        return
    site.misses += 1
    yield from values[3:]


def _recorded(site: LoopSite, values: range, marks: tuple[repeat.Mark, repeat.Mark]) -> repeat.Repeat | None:
    """What the loop repeats from its first iteration on, where it is as it was when it was entered before."""
    before, after = marks
    if site.recorded is None or site.step != values.step:
        return None
    if before.other != after.other or before.blocks != after.blocks:
        return None
    return site.recorded.from_here(before, after)


def _lists(site: LoopSite, frame: FrameType) -> list[list[Tile]]:
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


def _is_regular(site: LoopSite, frame: FrameType, call: int, values: range, found: repeat.Repeat, left: int) -> bool:
    """Whether the source of a loop shows that the iterations for `values` are all alike, of which the first two ran and
    the last will."""
    storages: dict[int, Storage] = {}
    if site.found is None:
        site.found = known_loop(frame.f_code, call)
        if site.found is None or (isinstance(site.found, Loop) and not site.found.holds(frame, values, storages)):
            site.found = loop_at(frame, call)
    if isinstance(site.found, str):
        site.misses = PATIENCE
        return False
    if not found.has_room(left) or not site.found.holds(frame, values, storages):
        return False
    others = found.others(left)
    if len(others) and site.found.has_fresh_blocks:
        return False
    if not all(tiles and found.has_made(tiles[-1]) for tiles in _lists(site, frame)):
        return False
    return repeat.note_storages(found.trace, others, storages)
