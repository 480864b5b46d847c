"""Programs that meet: two cores of a logical NeuronCore, and ranks of a collective, taking turns in one process.

Each program has a thread, and exactly one runs at a time: it keeps the turn until it waits for another or ends, then the next one in
order that can go on gets it. So runs are deterministic, and a deadlock is a state in which nobody can go on: it is reported with who
waits for what. `Communicator` is what a larger machine would implement instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.core import Core, NkiValidationError


class Communicator(Protocol):
    """What crosses programs: `exchange` blocks until every member has come to the same meeting, then gives all contributions."""

    def exchange(self, me: int, meeting: Any, members: Sequence[int], payload: Any) -> dict[int, Any]:
        """Contributions of all members of a meeting, by member."""
        ...


class Stopped(BaseException):
    """Another program failed: this one unwinds."""


class Group:
    """Programs that take turns. `exchange` is the one way to wait."""

    def __init__(self) -> None:
        self._cores: list[Core] = []
        self._lock = threading.Condition()
        self._turn = -1
        self._state: list[str] = []
        self._waits: list[str] = []
        self._error: BaseException | None = None
        self._meetings: dict[Any, dict[int, Any]] = {}
        self._left: dict[Any, int] = {}
        self._wanted: dict[int, tuple[Any, tuple[int, ...]]] = {}

    def run(self, programs: Sequence[tuple[Core, Callable[[], Any]]]) -> list[Any]:
        """Run all programs to their end; their results in order. Raises the first error, or a report of a deadlock."""
        n = len(programs)
        self._cores = [c for c, _ in programs]
        self._state, self._waits = ["ready"] * n, [""] * n
        results: list[Any] = [None] * n
        before = machine.current

        def body(i: int) -> None:
            try:
                self._await_turn(i)
                with np.errstate(all="ignore"):
                    results[i] = programs[i][1]()
            except Stopped:
                pass
            except BaseException as error:
                with self._lock:
                    if self._error is None:
                        self._error = error
            finally:
                with self._lock:
                    self._state[i] = "done"
                    self._pass_on(i)

        threads = [threading.Thread(target=body, args=(i,), daemon=True, name=f"program-{i}") for i in range(n)]
        for t in threads:
            t.start()
        with self._lock:
            self._turn = 0
            self._lock.notify_all()
        for t in threads:
            t.join()
        machine.set_current(before)
        if self._error is not None:
            raise self._error
        return results

    def _await_turn(self, i: int) -> None:
        with self._lock:
            while self._turn != i and self._error is None:
                self._lock.wait()
            if self._error is not None:
                raise Stopped
            self._state[i] = "running"
            machine.set_current(self._cores[i])

    def _ready(self, i: int) -> bool:
        if self._state[i] == "ready":
            return True
        if self._state[i] != "waiting":
            return False
        meeting, members = self._wanted[i]
        return all(m in self._meetings[meeting] for m in members)

    def name(self, i: int) -> str:
        """A program as its author knows it: "rank 3", "core 1", "rank 3 core 1"."""
        core = self._cores[i]
        rank = [f"rank {core.rank}"] if core.ranks > 1 else []
        return " ".join([*rank, *([f"core {core.program}"] if core.programs > 1 or not rank else [])])

    def _pass_on(self, i: int) -> None:
        n = len(self._state)
        for step in range(1, n + 1):
            j = (i + step) % n
            if self._ready(j):
                self._turn = j
                self._lock.notify_all()
                return
        if self._error is None and any(s == "waiting" for s in self._state):
            lines = [
                f"{self.name(j)} {'has ended' if s == 'done' else 'waits for ' + self._waits[j]}"
                for j, s in enumerate(self._state)
            ]
            self._error = NkiValidationError(
                "deadlock: nobody can go on; " + "; ".join(lines),
                fix="every member must reach the same barrier, sendrecv or collective, in the same order",
            )
        self._turn = -2
        self._lock.notify_all()

    def step(self, me: int, sibling: int) -> None:
        """Give the turn to the other core of a pair, if it can go on: so the stores of both to shared HBM alternate as on the chip."""
        with self._lock:
            if not self._ready(sibling):
                return
            self._state[me] = "ready"
            self._turn = sibling
            self._lock.notify_all()
        self._await_turn(me)

    def exchange(self, me: int, meeting: Any, members: Sequence[int], payload: Any, what: str = "") -> dict[int, Any]:
        """Put a contribution down, wait for the other members', and take all of them."""
        trace = self._cores[me].trace
        if trace is not None and len(trace):
            trace.meetings[len(trace) - 1] = (meeting, tuple(members))
        with self._lock:
            table = self._meetings.setdefault(meeting, {})
            table[me] = payload
            self._left.setdefault(meeting, len(members))
            complete = all(m in table for m in members)
            if not complete:
                absent = [m for m in members if m not in table]
                self._state[me] = "waiting"
                self._waits[me] = f"{', '.join(map(self.name, absent))} in {what or meeting} at {machine.where()}"
                self._wanted[me] = (meeting, tuple(members))
                self._pass_on(me)
        if not complete:
            self._await_turn(me)
        with self._lock:
            found = dict(self._meetings[meeting])
            self._left[meeting] -= 1
            if self._left[meeting] == 0:
                del self._meetings[meeting], self._left[meeting]
        return found
