"""Processes that compute: warm, bounded in time and memory, in two pools that do not hold up each other.

A pool of threads could not be stopped, and one interpreter cannot use two cores. Questions that take milliseconds have
a process of their own, so that none waits for a search. A process takes one task at a time over a pipe. At its
deadline, or when nobody waits for it any more, a task is stopped inside the process, which lives on with all that it
has read. Only a process that does not answer for `GRACE_S` after that is ended and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING, Literal

from mowich.errors import UserError, UserErrors
from mowich.requests.room import schema_of_room
from mowich.requests.rooms import room_names
from mowich.web.asks import Mistake
from mowich.web.turns import ENDING_LINE, RefusedRequestError, Turns, refusal_of

if TYPE_CHECKING:
    from mowich.web.reading import Knowledge

_ROOMS = {name: schema_of_room(name).web for name in room_names()}

QUICK = frozenset(
    (
        *("together", "fit", "scenario"),
        *("first", "scenarios", "head_words", "models", "model", "systems", "facts_list", "facts_show", "facts_side"),
        *("map_picture", "kernel_examples"),
        *(name for name, web in _ROOMS.items() if web.is_quick),
    )
)
"""Verbs that take milliseconds, up to a quarter of a second the first time. Whatever is not named here is heavy."""
QUICK_S = 2.0
"""A quick task that takes longer after all is asked again as a heavy one, so that it holds up no other."""
LONG = frozenset(
    (
        *("brief", "fleet", "rl", "validate", "report", "deepen", "kernel"),
        *(name for name, web in _ROOMS.items() if web.is_long),
    )
)
"""Heavy verbs that take seconds."""

GRACE_S = 5.0
"""Most seconds that a process has to stop a task; then it is ended."""
AGAIN_S = 1.0
"""A task that was told to stop and goes on is told again so often."""
START_S = 300.0
"""Most seconds that a process may take to import and warm up; it counts against no request, so that a busy machine does
not end one process after another."""


WorkerKind = Literal["quick", "heavy"]
"""What a process is for."""
HEAVY_NICE = 5
"""How much a process of heavy tasks gives way to others."""


class BugError(Exception):
    """Something broke in a worker: our fault."""


class LateError(RefusedRequestError):
    """A task was stopped at its deadline."""

    def __init__(self, limit_s: float) -> None:
        line = f"took longer than the {limit_s:g} s that a request may take here; ask for less, or use the command line"
        super().__init__(422, [{"where": None, "what": line, "line": line}])


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


def error_data(error: UserError) -> list[Mistake]:
    """A UserError as data, one entry for each mistake."""
    errors = error.errors if isinstance(error, UserErrors) else (error,)
    return [{"where": e.where, "what": e.what, "line": e.line()} for e in errors]


# ---- inside a process
# ----------------------------------------------------------------------------------------------------------------------


class StopError(BaseException):
    """A task is stopped. No `Exception`, so that nothing that handles errors keeps it."""


class Alarm:
    """Stops what runs under it: at its deadline, or when the server asks for it. In the main thread of a process."""

    def __init__(self) -> None:
        self._armed = False
        signal.signal(signal.SIGALRM, self._ring)
        signal.signal(signal.SIGUSR1, self._ring)

    def arm(self, limit_s: float) -> None:
        """From now on StopError may be raised: after limit_s, or earlier."""
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)

    def disarm(self) -> None:
        """Raise nothing any more."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, _: int, frame: FrameType | None) -> None:
        if not self._armed:
            return
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                signal.setitimer(signal.ITIMER_REAL, 0.02, AGAIN_S)  # else half a module would stay
                return
            frame = frame.f_back
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        raise StopError


def memory_now_B() -> int:
    """Bytes that this process has in memory; where the system does not tell, the most that it has had."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


Outcome = tuple[Literal["ok", "refused", "bug", "stopped"], object]
"""How a task ended, and its value or what is to be said of it."""


def _compute(alarm: Alarm, name: str, arguments: tuple[object, ...], limit_s: float, known: Knowledge) -> Outcome:
    """One task."""
    from mowich.web import verbs

    try:
        alarm.arm(limit_s)
        try:
            return "ok", verbs.VERBS[name](*arguments, known)
        finally:
            alarm.disarm()
    except StopError:
        alarm.disarm()  # it may have come just before
        return "stopped", None
    except UserError as error:
        return "refused", error_data(error)
    except (ArithmeticError, MemoryError, RecursionError) as error:
        line = f"these numbers cannot be computed with ({type(error).__name__})"
        return "refused", [{"where": None, "what": line, "line": line}]
    except Exception as error:
        print(f"mowich web: {name}: {type(error).__name__}: {error}", file=sys.stderr)
        if os.environ.get("MOWICH_DEBUG"):
            import traceback

            traceback.print_exc()
        return "bug", f"{type(error).__name__}: {' '.join(str(error).split())}"


def _serve(
    pipe: multiprocessing.connection.Connection, kind: WorkerKind, dirs: tuple[str, ...], memory_B: int, warm: bool
) -> None:
    """The life of a worker process. warm: it makes a small job of each kind before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alarm = Alarm()
    if memory_B:
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_B, memory_B))
    from mowich.web.first import warm_quick, warm_up
    from mowich.web.reading import Knowledge

    known = Knowledge.of_server(dirs)
    if kind == "heavy":
        os.nice(HEAVY_NICE)  # where cores are few, quick questions and the server itself come first
    if warm:
        (warm_up if kind == "heavy" else warm_quick)(known)
    gc.collect()
    gc.freeze()  # what is loaded stays: without this, looking through it for garbage takes a third of a request
    pipe.send_bytes(b"ready")
    while True:
        try:
            name, arguments, limit_s = pipe.recv()
        except (EOFError, OSError):
            return
        out = _compute(alarm, name, arguments, limit_s, known)
        try:
            pipe.send_bytes(pickle.dumps((out, memory_now_B())))
        except OSError:
            return


# ---- this side of the pipe
# ----------------------------------------------------------------------------------------------------------------------


class _Worker:
    """One process and this side of its pipe. memory_B: what it had after its last task; restarts: how often it was
    started again."""

    def __init__(self, kind: WorkerKind, dirs: tuple[str, ...], memory_B: int, warm: bool) -> None:
        self._args = kind, dirs, memory_B, warm
        self._most_B = memory_B // 2
        self._lock = threading.Lock()
        self._flags = threading.Lock()
        self._busy = self._left = self._closed = False
        self._until = 0.0
        self.restarts = 0
        self.memory_B = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._args), daemon=True, name="mowich-web")
        self._process.start()
        self._ready = False
        theirs.close()

    def begin(self) -> None:
        """Its next call is wanted; before `call`, in the thread of the event loop."""
        self._left = False

    def leave(self) -> None:
        """Nobody waits for the call that runs: stop it."""
        with self._flags:
            self._left = True
            if self._busy:
                self._until = min(self._until, time.monotonic() + GRACE_S)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._process.pid or 0, signal.SIGUSR1)

    def call(self, name: str, arguments: tuple[object, ...], limit_s: float) -> object:
        """Blocks until the answer. Raises RefusedRequestError, BugError, and AbandonedError when nobody waits for it or
        the server ends meanwhile."""
        with self._lock:
            try:
                out = self._asked(name, arguments, limit_s)
            except (EOFError, OSError) as error:  # the process died: out of memory, most likely
                self.restart()
                if self._closed or self._left:
                    raise AbandonedError from None
                raise refusal_of(422, "needs more memory than a request may take here") from error
            finally:
                self._busy = False
        if self._left:
            raise AbandonedError
        kind, value = out
        if kind == "stopped":
            raise LateError(limit_s)
        if kind == "refused":
            assert isinstance(value, list)
            raise RefusedRequestError(422, value)
        if kind == "bug":
            raise BugError(value)
        return value

    def _asked(self, name: str, arguments: tuple[object, ...], limit_s: float) -> Outcome:
        """How the task ended in the process. A process that does not answer is ended."""
        if not self._ready and self._pipe.poll(START_S):
            self._ready = self._pipe.recv_bytes() == b"ready"
        with self._flags:
            if self._left or self._closed:
                raise AbandonedError
            self._until = time.monotonic() + limit_s + GRACE_S
            self._pipe.send((name, arguments, limit_s))
            self._busy = True
        while not self._pipe.poll(min(0.5, max(0.0, self._until - time.monotonic()))):
            if time.monotonic() >= self._until:
                self.restart()
                return "stopped", None
        with self._flags:
            self._busy = False
        answer: tuple[Outcome, int] = pickle.loads(self._pipe.recv_bytes())
        out, self.memory_B = answer
        if self._most_B and self.memory_B > self._most_B:
            self.restart()
        return out

    def restart(self) -> None:
        with self._flags:
            self._busy = False
            self._stop()
            if not self._closed:
                self.restarts += 1
                self._start()

    def close(self) -> None:
        """End the process for good, also while it computes."""
        with self._flags:
            self._closed = True
            self._stop()

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


class ProcessPool:
    """Processes of one kind and the turns at them. stopped: tasks that were stopped, by why."""

    def __init__(
        self, workers: list[_Worker], *, most: int, share: int, most_long: int, most_wait_s: float, limit_s: float
    ) -> None:
        self.workers, self.limit_s = workers, limit_s
        self.turns = Turns(workers, most=most, share=share, most_long=most_long, most_wait_s=most_wait_s)
        self.stopped: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(len(workers), thread_name_prefix="mowich-web")
        self._ending = False

    async def call(self, name: str, arguments: tuple[object, ...], limit_s: float | None) -> object:
        """The value of a verb, when its turn has come."""
        is_long = name in LONG
        worker = await self.turns.take(is_long=is_long)
        begin = time.monotonic()
        worker.begin()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._threads, worker.call, name, arguments, limit_s or self.limit_s)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            self.stopped["left"] += 1
            worker.leave()
            raise
        except AbandonedError:
            if self._ending:
                raise refusal_of(503, ENDING_LINE, 5) from None
            raise
        except LateError:
            self.stopped["late"] += 1
            raise
        finally:
            if call.done():
                self.turns.give(worker, is_long=is_long, took_s=time.monotonic() - begin)
            else:  # its process stops first; the turn ends then, still as this client's

                def done(ended: asyncio.Future[object]) -> None:
                    if not ended.cancelled():
                        ended.exception()  # somebody has seen it
                    self.turns.give(worker, is_long=is_long)

                call.add_done_callback(done)

    def end(self) -> None:
        """Answer nobody any more."""
        self._ending = True
        self.turns.end()

    def close(self) -> None:
        self.end()
        for worker in self.workers:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Workers:
    """`call` runs a verb in one of `count` processes, a quick one in a process of its own. most_waiting: requests that
    wait or run in each pool; share: those of one client (None: all)."""

    def __init__(
        self,
        count: int,
        *,
        dirs: tuple[str, ...] = (),
        timeout_s: float = 20.0,
        memory_B: int = 3 * 2**30,
        most_waiting: int = 1000,
        share: int | None = None,
        most_wait_s: float = 120.0,
        warm: bool = True,
    ) -> None:
        def pool(processes: int, most_long: int, kind: WorkerKind) -> ProcessPool:
            return ProcessPool(
                [_Worker(kind, dirs, memory_B, warm) for _ in range(processes)],
                most=most_waiting,
                share=most_waiting if share is None else share,
                most_long=most_long,
                most_wait_s=most_wait_s,
                limit_s=timeout_s,
            )

        self.pools = {"heavy": pool(count, max(1, count - 1), "heavy"), "quick": pool(1, 1, "quick")}

    def __len__(self) -> int:
        return len(self.pools["heavy"].workers)

    def pool_of(self, name: str) -> ProcessPool:
        return self.pools["quick" if name in QUICK else "heavy"]

    def request(self, name: str) -> contextlib.AbstractContextManager[None]:
        """A request for a verb in the house. Raises RefusedRequestError (429) where there is no room."""
        return self.pool_of(name).turns.request()

    async def call(self, name: str, *arguments: object, limit_s: float | None = None) -> object:
        """The value of a verb. limit_s: in place of the server's. Cancelling it stops it. Raises RefusedRequestError
        (422; 429 where no turn came; 503 where the server ends), BugError."""
        if name in QUICK:
            with contextlib.suppress(LateError):
                return await self.pools["quick"].call(name, arguments, QUICK_S)
        return await self.pools["heavy"].call(name, arguments, limit_s)

    def end(self) -> None:
        """Refuse who waits, and whoever comes; what runs may finish."""
        for pool in self.pools.values():
            pool.end()

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()
