"""Programs that meet: two cores of a logical NeuronCore, and ranks of a collective, taking turns in one process.

Each program has a thread, and exactly one runs at a time: it keeps the turn until it waits for another or ends, then
the next one in order that can go on gets it. So runs are deterministic, and a deadlock is a state in which nobody can
go on: it is reported with who waits for what.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.core import Core, NkiValidationError
from mowich.neuroncore.trace import Meeting

_NAMED = 4
"""Programs that are at the same place and that a report of a deadlock names; the others it counts."""


class Order(NamedTuple):
    """Who runs when nothing orders two programs. first: the program that begins; alternates: the cores of a pair take
    turns at their stores to shared HBM, otherwise each runs on until it waits."""

    first: int = 0
    alternates: bool = True


IN_TURN = Order()


class Stopped(BaseException):
    """Another program failed: this one unwinds."""


class Group:
    """Programs that take turns. `exchange` is the one way to wait.

    Each program has a gate, a lock that it waits at and that whoever has the turn opens to hand it over: who has the
    turn alone touches the group's state, so nothing else is locked, and a hand-over is one switch of threads.
    """

    def __init__(self, order: Order = IN_TURN) -> None:
        self._order = order
        # a program wrote iterations of a loop without running them: the others did not take their turns there
        self.has_repeated = False
        self._cores: list[Core] = []
        self._gates: list[threading.Lock] = []
        self._state: list[str] = []
        self._waits: list[str] = []
        self._absent: list[set[int]] = []  # by program: whom it waits for
        self._error: BaseException | None = None
        self._meetings: dict[object, dict[int, object]] = {}
        self._left: dict[object, int] = {}
        self._waiting: dict[object, list[int]] = {}  # by meeting: who came before somebody else

    def run(self, programs: Sequence[tuple[Core, Callable[[], object]]]) -> list[object]:
        """Run all programs to their end; their results in order. Raises the first error, or a report of a deadlock."""
        n = len(programs)
        self._cores = [c for c, _ in programs]
        self._state, self._waits, self._absent = ["ready"] * n, [""] * n, [set() for _ in range(n)]
        self._gates = [threading.Lock() for _ in programs]
        for gate in self._gates:
            gate.acquire()
        results: list[object] = [None] * n

        def body(i: int) -> None:
            machine.set_current(self._cores[i])  # in the context of this thread alone
            try:
                self._await_turn(i)
                with np.errstate(all="ignore"):
                    results[i] = programs[i][1]()
            except Stopped:
                pass
            except BaseException as error:
                if self._error is None:
                    self._error = error
            finally:
                self._state[i] = "done"
                self._pass_on(i)

        # each program runs in a copy of the launch's context, as its one thread would
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(body, i), daemon=True, name=f"program-{i}")
            for i in range(n)
        ]
        for t in threads:
            t.start()
        self._gates[self._order.first].release()
        for t in threads:
            t.join()
        if self._error is not None:
            raise self._error
        return results

    def _await_turn(self, i: int) -> None:
        self._gates[i].acquire()
        if self._error is not None:
            raise Stopped
        self._state[i] = "running"

    def _ready(self, i: int) -> bool:
        state = self._state[i]
        return state == "ready" or (state == "waiting" and not self._absent[i])

    def name(self, i: int) -> str:
        """A program as its author knows it: "rank 3", "core 1", "rank 3 core 1"."""
        core = self._cores[i]
        rank = [f"rank {core.rank}"] if core.ranks > 1 else []
        return " ".join([*rank, *([f"core {core.program}"] if core.programs > 1 or not rank else [])])

    def _pass_on(self, i: int) -> None:
        n = len(self._state)
        others = [*range(i + 1, n), *range(i + 1)]
        able = next(filter(self._ready, others), None) if self._error is None else None
        if able is None and self._error is None and any(s == "waiting" for s in self._state):
            self._error = NkiValidationError(
                "deadlock: nobody can go on; " + "; ".join(self._stuck()),
                fix="every member must reach the same barrier, sendrecv or collective, in the same order",
            )
        if self._error is not None:  # the others unwind, one after the other
            able = next((j for j in others if self._state[j] != "done"), None)
        if able is not None:
            self._gates[able].release()

    def _stuck(self) -> list[str]:
        """What each program is at, those at the same together."""
        alike: dict[tuple[tuple[int, ...], str], list[int]] = {}
        for i, state in enumerate(self._state):
            key = ((), "") if state == "done" else (tuple(sorted(self._absent[i])), self._waits[i])
            alike.setdefault(key, []).append(i)
        out = []
        for (absent, waits), who in alike.items():
            one = len(who) == 1
            if not waits:
                out.append(f"{self._names(who)} {'has' if one else 'have'} ended")
            else:
                out.append(f"{self._names(who)} {'waits' if one else 'wait'} for {self._names(absent)} in {waits}")
        return out

    def _names(self, who: Sequence[int]) -> str:
        """Programs by name; of many the first few, and how many more."""
        named = ", ".join(self.name(i) for i in who[:_NAMED])
        return named if len(who) <= _NAMED else f"{named} and {len(who) - _NAMED} more"

    def step(self, me: int, sibling: int) -> None:
        """Give the turn to the other core of a pair, if it can go on: so the stores of both to shared HBM alternate as
        on the chip."""
        if self._order.alternates and self._ready(sibling):
            self._state[me] = "ready"
            self._gates[sibling].release()
            self._await_turn(me)

    def exchange(
        self, me: int, meeting: object, members: Sequence[int], payload: object, what: str = ""
    ) -> dict[int, Any]:
        """Put a contribution down, wait for the other members', and take all of them."""
        trace = self._cores[me].trace
        if trace is not None and len(trace):
            trace.meetings[len(trace) - 1] = Meeting(meeting, tuple(members))
        table = self._meetings.setdefault(meeting, {})
        table[me] = payload
        self._left.setdefault(meeting, len(members))
        for waiting in self._waiting.get(meeting, ()):
            self._absent[waiting].discard(me)
        absent = {m for m in members if m not in table}
        if absent:
            self._state[me], self._absent[me] = "waiting", absent
            self._waits[me] = f"{what or meeting} at {machine.where()}"
            self._waiting.setdefault(meeting, []).append(me)
            self._pass_on(me)
            self._await_turn(me)
        found = dict(self._meetings[meeting])
        self._left[meeting] -= 1
        if self._left[meeting] == 0:
            del self._meetings[meeting], self._left[meeting]
            self._waiting.pop(meeting, None)
        return found
