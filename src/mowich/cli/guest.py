"""A guest: code of a user, whose processes end with it; where asked, in a process of its own with limits of time and
memory."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.cli.app import IS_DEBUG, outcome
from mowich.cli.output import noter
from mowich.errors import EXIT_LIMIT_BROKEN, EXIT_OK, UserError

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

_GIB = 2**30
_SPARE_S = 1.0
"""Seconds after its limit at which a process ends itself."""
_SUBREAPER = 36
"""Of prctl: a process of our offspring whose parent ends becomes a child of ours (PR_SET_CHILD_SUBREAPER of Linux)."""
_MOST_GENERATIONS = 1000
"""How often children are ended whose own children have become ours: some may start others for ever."""


@contextmanager
def offspring_ended() -> Iterator[None]:
    """On Linux, processes that the code within starts and leaves end with it, those of other sessions too. Elsewhere
    they are left."""
    before = _children() if _adopts(True) else None
    try:
        yield
    finally:
        if before is not None:
            for _ in range(_MOST_GENERATIONS):
                left = _children() - before
                if not left:
                    break
                for pid in left:
                    with suppress(ProcessLookupError, PermissionError, ChildProcessError):
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
            _adopts(False)


def _adopts(is_wanted: bool) -> bool:
    """Whether the system lets this process take the children of its children, as is wanted."""
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(_SUBREAPER, int(is_wanted), 0, 0, 0) == 0)


def _children() -> set[int]:
    """Processes whose parent is this one."""
    own, found = str(os.getpid()), set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            if file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1] == own:
                found.add(int(file.parent.name))
    return found


def in_limits(work: Callable[[], None], *, timeout_s: float | None, memory_GiB: float | None, quiet: bool) -> int:
    """Do the work, and give its exit code. With a limit it is done in a process of its own, which ends when it takes
    longer than `timeout_s` seconds; allocations that pass `memory_GiB`, beside what Mowich holds already, fail.
    What it starts ends with it. Raises UserError where a limit is broken."""
    with offspring_ended():
        return _in_limits(work, timeout_s, memory_GiB, quiet)


def _in_limits(work: Callable[[], None], timeout_s: float | None, memory_GiB: float | None, quiet: bool) -> int:
    if timeout_s is None and memory_GiB is None:
        work()
        return EXIT_OK
    import multiprocessing  # verbs without a guest do without it

    from mowich.studies.judge.closed import address_space_B

    note = noter(quiet)
    if "fork" not in multiprocessing.get_all_start_methods():
        note("this platform has no limits for a process: --timeout and --memory are not kept")
        work()
        return EXIT_OK
    held_B = address_space_B()
    if memory_GiB is not None and held_B is None:
        note("this platform has no limit of memory for a process: --memory is not kept")
        memory_GiB = None

    def guest() -> None:
        os.setsid()  # its own children end with it
        if timeout_s is not None:  # where nobody is left to end it, it ends itself
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, timeout_s + _SPARE_S)
        bound = None if memory_GiB is None or held_B is None else int(held_B + memory_GiB * _GIB)
        sys.exit(outcome(lambda: _within(work, bound, memory_GiB), IS_DEBUG.get()))

    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=guest)
    process.start()
    try:
        process.join(timeout_s)
        code = process.exitcode
    finally:
        if process.exitcode is None:
            _end(process)
    if code is None:
        raise UserError(
            f"the kernel took longer than {timeout_s:g} s", field="timeout", fix="allow more", code=EXIT_LIMIT_BROKEN
        )
    if code < 0:
        with suppress(ValueError):
            raise UserError(f"the process of the kernel was ended by {signal.Signals(-code).name}")
        raise UserError(f"the process of the kernel was ended by signal {-code}")
    return code


def _end(process: ForkProcess) -> None:
    """End a process with those that it started."""
    try:
        os.killpg(process.pid or 0, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # it has no group of its own yet
        process.kill()
    process.join()


def _within(work: Callable[[], None], bound_B: int | None, memory_GiB: float | None) -> None:
    """Do the work with at most so much address space."""
    if bound_B is None:
        work()
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    most = bound_B if before[1] == resource.RLIM_INFINITY else min(bound_B, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        work()
    except (UserError, MemoryError) as error:
        resource.setrlimit(resource.RLIMIT_AS, before)  # there is room again to say so
        if not _lacks_memory(error):
            raise
        where = error.where if isinstance(error, UserError) else None
        raise UserError(
            "the kernel needs more memory than it may take",
            where=where,
            allowed=f"--memory {memory_GiB:g} (GiB)",
            fix="allow more, or use smaller shapes",
            code=EXIT_LIMIT_BROKEN,
        ) from error


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether an error came of one of memory."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
