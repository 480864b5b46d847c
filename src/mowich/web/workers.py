"""Processes that compute: warm, bounded in time and memory, and replaced when they overrun.

A pool of threads could not be stopped, and one interpreter cannot use two cores. A worker takes one task at a time over
a pipe; a task that takes longer than `timeout_s` has its process ended and a fresh one started. Tasks wait in order;
more than `max_waiting` of them are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from mowich.errors import UserError, UserErrors
from mowich.web.asks import Mistake


class RefusedRequestError(Exception):
    """A request that is answered with an HTTP status of 4xx. lines: what is wrong, one line each."""

    def __init__(self, status: int, lines: list[Mistake]) -> None:
        self.status, self.lines = status, lines
        super().__init__(lines[0]["line"])


class BugError(Exception):
    """Something broke in a worker: our fault."""


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


def error_data(error: UserError) -> list[Mistake]:
    """A UserError as data, one entry for each mistake."""
    errors = error.errors if isinstance(error, UserErrors) else (error,)
    return [{"where": e.where, "what": e.what, "line": e.line()} for e in errors]


def _serve(pipe: multiprocessing.connection.Connection, dirs: tuple[str, ...], memory_B: int, warm: bool) -> None:
    """The life of a worker process."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_B:
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (memory_B, memory_B))
    from mowich.web import verbs
    from mowich.web.reading import server_facts

    if warm:
        from mowich.web.first import warm_up

        warm_up(server_facts(dirs))
    gc.collect()
    gc.freeze()  # what is loaded stays: without this, looking through it for garbage takes a third of a request
    pipe.send_bytes(b"ready")
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        out: tuple[Literal["ok", "refused", "bug"], object]
        try:
            out = "ok", verbs.VERBS[name](*arguments, server_facts(dirs))
        except UserError as error:
            out = "refused", error_data(error)
        except (ArithmeticError, MemoryError, RecursionError) as error:
            line = f"these numbers cannot be computed with ({type(error).__name__})"
            out = "refused", [{"where": None, "what": line, "line": line}]
        except Exception as error:
            print(f"mowich web: {name}: {type(error).__name__}: {error}", file=sys.stderr)
            if os.environ.get("MOWICH_DEBUG"):
                import traceback

                traceback.print_exc()
            out = "bug", f"{type(error).__name__}: {' '.join(str(error).split())}"
        try:
            pipe.send_bytes(pickle.dumps(out))
        except OSError:
            return


START_S = 300.0
"""Most seconds that a process may take to import and warm up; it counts against no request, so that a busy machine does
not end one process after another."""


class _Worker:
    """One process and this side of its pipe."""

    def __init__(self, dirs: tuple[str, ...], memory_B: int, warm: bool) -> None:
        self._args = dirs, memory_B, warm
        self._lock = threading.Lock()
        self._closed = False
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._args), daemon=True, name="mowich-web")
        self._process.start()
        self._ready = False
        theirs.close()

    def call(self, name: str, arguments: tuple[object, ...], timeout_s: float) -> object:
        """Blocks until the answer. Raises RefusedRequestError, BugError, and AbandonedError when the server ends
        meanwhile."""
        with self._lock:
            try:
                if not self._ready and self._pipe.poll(START_S):
                    self._ready = self._pipe.recv_bytes() == b"ready"
                self._pipe.send((name, arguments))
                if not self._pipe.poll(timeout_s):
                    self.restart()
                    line = (
                        f"took longer than the {timeout_s:g} s that a request may take here; ask for less, or use the"
                        " command line"
                    )
                    raise RefusedRequestError(422, [{"where": None, "what": line, "line": line}])
                kind, value = pickle.loads(self._pipe.recv_bytes())
            except (EOFError, OSError) as error:  # the process died: out of memory, most likely
                self.restart()
                if self._closed:
                    raise AbandonedError from None
                line = "needs more memory than a request may take here"
                raise RefusedRequestError(422, [{"where": None, "what": line, "line": line}]) from error
        if kind == "refused":
            raise RefusedRequestError(422, value)
        if kind == "bug":
            raise BugError(value)
        return value

    def restart(self) -> None:
        self._stop()
        if not self._closed:
            self._start()

    def close(self) -> None:
        """End the process for good, also while it computes."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


class Workers:
    """`call` runs a verb in one of `count` processes."""

    def __init__(
        self,
        count: int,
        *,
        dirs: tuple[str, ...] = (),
        timeout_s: float = 20.0,
        memory_B: int = 3 * 2**30,
        max_waiting: int = 1000,
        warm: bool = True,
    ) -> None:
        self.timeout_s, self.max_waiting = timeout_s, max_waiting
        self._all = [_Worker(dirs, memory_B, warm) for _ in range(count)]
        self._idle: asyncio.Queue[_Worker] | None = None
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="mowich-web")
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._all)

    async def call(
        self,
        name: str,
        *arguments: object,
        wanted: Callable[[], Awaitable[bool]] | None = None,
        limit_s: float | None = None,
    ) -> object:
        """The value of a verb. wanted: asked when its turn comes; where it says no, nothing is computed; limit_s: in
        place of `timeout_s`. Raises RefusedRequestError (422; 429 where the queue is full), BugError,
        AbandonedError."""
        if self._idle is None:
            self._idle = asyncio.Queue()
            for worker in self._all:
                self._idle.put_nowait(worker)
        if self._waiting >= self.max_waiting:
            line = "too many requests at once; try again in a moment"
            raise RefusedRequestError(429, [{"where": None, "what": line, "line": line}])
        self._waiting += 1
        try:
            worker = await self._idle.get()
        finally:
            self._waiting -= 1
        try:
            if wanted is not None and not await wanted():
                raise AbandonedError
            call = asyncio.get_running_loop().run_in_executor(
                self._threads, worker.call, name, arguments, limit_s or self.timeout_s
            )
            try:
                return await asyncio.shield(call)
            except asyncio.CancelledError:
                await asyncio.wait([call])  # the worker is busy until then
                raise
        finally:
            self._idle.put_nowait(worker)

    def close(self) -> None:
        for worker in self._all:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
