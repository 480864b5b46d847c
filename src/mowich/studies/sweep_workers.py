"""Where the tasks of a sweep run: processes of this machine, or a Ray cluster, both behind
`concurrent.futures.Executor`.

Tasks are functions of plain data and give the same answer wherever they run, so Ray may run one again when its machine
is lost. Ray is an extra (`pip install 'mowich[ray]'`) and is imported when it is asked for; every node needs the same
version of Mowich.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TypeVar

from mowich.errors import UserError, words_of

T = TypeVar("T")

RETRIES = 20
"""How often Ray runs a task again whose worker or node is lost."""


def _leave_with(asker: int) -> None:
    """End this process when the one that asks it is gone: the workers of a killed pool would wait for work forever.
    Where a server forks the workers, their parent is that server, which ends with the asker. Ctrl-C goes to all of a
    terminal's processes: the one that asks answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and _lives(asker):
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # ended; its number is another user's process by now
        return False
    return True


def processes(count: int) -> ProcessPoolExecutor:
    """Processes of this machine."""
    return ProcessPoolExecutor(count, initializer=_leave_with, initargs=(os.getpid(),))


class ClusterLostError(BrokenExecutor):
    """A cluster that no longer answers: its head is gone, or the way to it. Tasks whose results are not here are lost,
    and run again when the sweep goes on."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the Ray cluster is lost ({words_of(error)})")


@contextmanager
def workers_live(fix: str) -> Iterator[None]:
    """Where results of workers are waited for: a worker that dies, or a cluster that is lost, is one line. fix: what to
    do then."""
    try:
        yield
    except ClusterLostError as error:
        raise UserError(str(error), fix=fix) from None
    except BrokenExecutor:
        raise UserError("a worker process died (out of memory?)", fix=f"{fix}; --jobs takes fewer processes") from None


class RayExecutor(Executor):
    """A Ray cluster. address: "ray" (the cluster that this machine is part of) or "ray://HOST:PORT" (one elsewhere, by
    way of its client server).

    workers: processors of the cluster when it was joined. An argument that is passed again and again is sent to the
    cluster once.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError:
            raise UserError(
                "Ray is not installed", field=f"executor {address}", fix="pip install 'mowich[ray]'"
            ) from None
        self._ray: ModuleType = ray
        try:
            ray.init(address="auto" if address == "ray" else address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())[:120]
            raise UserError(
                f"no Ray cluster answers ({words})",
                field=f"executor {address}",
                fix="ray start --head starts one here",
            ) from None
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._lost = (ConnectionError, ray.exceptions.RayError)
        self._remote = ray.remote(max_retries=RETRIES)(_call)
        self._sent: tuple[object, object] | None = None

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        if kwargs:
            raise TypeError("arguments go by position")
        future: Future[T] = Future()
        try:
            if args and (self._sent is None or self._sent[0] is not args[0]):
                self._sent = (args[0], self._ray.put(args[0]))
            first = (self._sent[1],) if args and self._sent else ()
            under_way: Future[T] = self._remote.remote(fn, *first, *args[1:]).future()
        except self._lost as error:
            raise ClusterLostError(error) from error
        future.set_running_or_notify_cancel()
        under_way.add_done_callback(lambda done: self._hand_on(done, future))
        return future

    def _hand_on(self, done: Future[T], future: Future[T]) -> None:
        """The end of a task on the cluster as the end of ours. An error of the task itself stays what it is."""
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        elif isinstance(error, self._lost) and not isinstance(error, self._ray.exceptions.RayTaskError):
            future.set_exception(ClusterLostError(error))
        else:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with suppress(*self._lost):
            self._ray.shutdown()


def _call(fn: Callable[..., object], *args: object) -> object:
    return fn(*args)
