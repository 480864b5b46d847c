"""Loops on the device: `nl.fori_loop`, `nl.while_loop`. Their body is traced once; each further turn does again what
its instructions did.

While Python runs the body, a profile hook of the interpreter (`sys.setprofile`) notes each call of what
`instructions.table.EACH_TURN` lists, with its arguments: tiles, and numbers of the device that are read when an
instruction runs. A body of no turn is traced as well, and leaves nothing behind but its errors. Tensors that a body
allocates live as long as the loop. A turn ends with `loop_turn`: a drain of all engines and DMAs, and a barrier.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from types import CodeType, FrameType, FunctionType
from typing import NamedTuple

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.instructions.sync import loop_turn
from mowich.neuroncore.instructions.table import EACH_TURN
from mowich.neuroncore.memory import Storage
from mowich.neuroncore.placement import allocate
from mowich.neuroncore.trace import Trace
from mowich.neuroncore.views import Tile

ENDED = "ended"
"""In the state of a core (`Core.scratch`) that stands for a loop that is over: the line of that loop."""
_ALLOCATE: CodeType = allocate.__code__
TURN = "<turn>"
"""Name of a function that does again what a line of a body did."""
_TABLES = ("trace", "accesses", "forms", "known", "values", "is_sampling", "clock", "records")
"""What a core knows of a run: a body of no turn is traced with others."""


def run_loop(core: Core, turns: Callable[[], Iterator[None]], body: Callable[[], object]) -> None:
    """Trace a body, and run it once for each step of `turns()`, which sets what the body reads. A loop within a traced
    body is one of the things that the loop around it does again."""
    if core.trace is not None and core.trace.keeps_order:
        raise fail("a loop on the device inside nl.no_reorder()", fix="put nl.no_reorder() inside its body")
    if core.views is not None:
        core.views.append(None)  # a loop around it that may be repeated cannot follow it
    loop, around = DeviceLoop(core), core.turns
    if around is None:
        loop.run(turns, body)
        return
    if core.generation == 2:
        core.warn(
            "nested loop", "a loop on the device within another: AWS's compiler for Trainium 1 refused it in NKI 0.6"
        )
    around.depth += 1  # it is one call to the loop around it
    loop.run(turns, body)
    around.depth -= 1
    around.note(functools.partial(loop.again, turns))


def end_turn(core: Core) -> None:
    """A turn of a loop on the device is over."""
    loop_turn()
    if core.trace is not None:
        core.trace.put_fence()


class KernelFrame(NamedTuple):
    """A function of the kernel that runs, or ran when the body of a loop was traced: its line, and its variables."""

    frame: FrameType
    line: int
    variables: Mapping[str, object]


class DeviceLoop:
    """The body of one loop. calls: what a turn does, in order, each called from the kernel's line; storages: that the
    body allocated; depth: of calls that are noted, in each other; done: turns of the latest run."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.calls: list[Callable[[], object]] = []
        self.storages: list[Storage] = []
        self.touched: dict[Storage, tuple[int, bool]] | None = None
        self.depth = self.done = 0
        self.where = machine.where()

    def run(self, turns: Callable[[], Iterator[None]], body: Callable[[], object]) -> None:
        """The first turn, traced, and the others."""
        self.done = 0
        steps = turns()
        is_dry = self._is_dry() or next(steps, self) is self
        if is_dry:
            with self._leaving_nothing():
                self._trace(body)
        else:
            self._trace(body)
            self._end_turn()
            self._replay(steps)
        self._compare()
        ended = copy(self.core)
        ended.scratch = {ENDED: self.where}
        self._belong(ended)

    def again(self, turns: Callable[[], Iterator[None]]) -> None:
        """All turns, in a later turn of a loop around this one."""
        ended = self.storages[0].core if self.storages else self.core
        self._belong(self.core)
        self.done = 0
        self._replay(turns())
        self._compare()
        self._belong(ended)

    def note(self, call: Callable[[], object]) -> None:
        """Something that each turn does, from the kernel's line that runs now."""
        if not self.depth:
            self.calls.append(functools.partial(_at(machine.where()), call, {}, self._frames(sys._getframe(1))))

    def _is_dry(self) -> bool:
        return self.core.turns is not None and self.core.turns.is_dry

    @property
    def is_dry(self) -> bool:
        """Whether it is traced to show its errors alone."""
        return self.touched is not None

    def _belong(self, core: Core) -> None:
        for s in self.storages:
            s.core = core

    def _replay(self, steps: Iterator[None]) -> None:
        for _ in steps:
            for call in self.calls:
                call()
            self._end_turn()

    def _end_turn(self) -> None:
        self.done += 1
        _at(self.where)(end_turn, {"core": self.core})
        if self.core.watcher is not None:
            self.core.watcher.turn_ended(self.core, [s.number for s in self.storages])

    def _compare(self) -> None:
        """Raise where the two cores of a logical core make different numbers of turns."""
        core = self.core
        if core.programs == 1:
            return
        turn = core.serial["loop"] = core.serial.get("loop", 0) + 1
        first = core.shared.setdefault(("loop", turn), self.done)
        if first != self.done:
            raise fail(
                "the cores of a logical core make different numbers of turns of a loop on the device",
                given=f"{first} and {self.done}",
                fix="both cores loop alike; what differs goes into the operands",
            )

    def _trace(self, body: Callable[[], object]) -> None:
        """Run the body, and note what it does."""
        core, profiler = self.core, sys.getprofile()
        before, loops = core.turns, core.loops
        core.turns, core.loops = self, None  # loops of Python within run in full
        sys.setprofile(self._hook)
        try:
            body()
        finally:
            sys.setprofile(profiler)
            core.turns, core.loops = before, loops

    def _hook(self, frame: FrameType, event: str, value: object) -> None:
        if event not in ("call", "return"):
            return
        code = frame.f_code
        if code is _ALLOCATE:
            if event == "return" and isinstance(value, Tile):
                self.storages.append(storage_of(value))
        elif code in EACH_TURN:
            if event == "return":
                self.depth -= 1
                return
            if not self.depth:
                names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
                given = {n: frame.f_locals[n] for n in names}
                call = functools.partial(_at(machine.where()), EACH_TURN[code], given, self._frames(frame))
                self.calls.append(call)
                if self.touched is not None:
                    self._remember(given)
            self.depth += 1

    def _frames(self, frame: FrameType | None) -> list[KernelFrame]:
        """The functions of the kernel from the body to a frame, innermost first: for who looks at each instruction."""
        found: list[KernelFrame] = []
        while self.core.watcher is not None and frame is not None and frame.f_code is not DeviceLoop._trace.__code__:
            if not machine.is_ours(frame.f_code.co_filename):
                found.append(KernelFrame(frame, frame.f_lineno, dict(frame.f_locals)))
            frame = frame.f_back
        return found

    def _remember(self, given: object) -> None:
        """Keep the state of the tensors among arguments."""
        assert self.touched is not None
        if isinstance(given, Tile):
            s = storage_of(given)
            self.touched.setdefault(s, (s.state, s.is_made))
        elif isinstance(given, dict | list | tuple):
            for x in given.values() if isinstance(given, dict) else given:
                self._remember(x)

    @contextmanager
    def _leaving_nothing(self) -> Iterator[None]:
        """A run whose instructions are checked, and not recorded or computed."""
        core, self.touched = self.core, {}
        before = {name: getattr(core, name) for name in _TABLES}
        core.trace, core.accesses, core.forms, core.known = Trace(), {}, {}, {}
        core.values, core.is_sampling, core.records = False, True, []
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(core, name, value)
            for s, (state, is_made) in self.touched.items():
                s.state, s.is_made, s.noted_by = state, is_made, None
            self.touched = None


@functools.lru_cache(4096)
def _at(where: str) -> Callable[..., object]:
    """A function that calls another, from a line of a kernel: errors and the trace name that line."""
    file, _, line = where.rpartition(":")
    first = max(int(line) - 1, 1) if line.isdecimal() else 1
    code = _called.__code__.replace(co_filename=file, co_firstlineno=first, co_name=TURN)
    return FunctionType(code, {}, TURN, _called.__defaults__)


def _called(call: Callable[..., object], given: Mapping[str, object], frames: Sequence[KernelFrame] = ()) -> object:
    return call(**given)  # one line below the first: `_at` counts on it
