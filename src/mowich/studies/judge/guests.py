"""Work in closed processes, so many at a time. Whatever one does, it ends with a value or with a line that says why."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.studies.judge.closed import GUARDS, close
from mowich.studies.judge.threads import one_thread

MOST_B = 4 * 2**30
"""Bytes that a guest may answer with."""
_HEAD = b"ok\n"
"""What stands before a value, after the line of guards that are missing."""
_REAP_S = 2.0
_MOST_FILES = 1024
_PATIENT_S, _NAP_S = 1.0, 0.001
"""Seconds that a process which has said all has to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLimits:
    """What a guest may use. time_s: on the clock, and of processor time; memory_B: beside what this process holds;
    reads: folders below which it may read; guards: what closes it (`closed.GUARDS`)."""

    time_s: float
    memory_B: int
    reads: tuple[str, ...]
    guards: tuple[str, ...] = GUARDS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEnd:
    """place: of the work in the order in which it was given; value: what it gave, None: it did not, and why says why;
    seconds: on the clock; missing: guards that its process told, before it did the work, not to have."""

    place: int
    value: bytes | None
    why: str = ""
    seconds: float = 0.0
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class _Guest:
    place: int
    pid: int
    pipe: int
    start: float
    read: bytearray


def in_guests(
    works: Iterable[Callable[[], bytes]], limits: GuestLimits, *, at_once: int = 1
) -> Generator[GuestEnd, None, None]:
    """Do each work in a closed process of its own, `at_once` at a time; ends as they come. When the caller stops
    looking, what runs is ended. Raises UserError on a platform that cannot copy a process."""
    if not hasattr(os, "fork"):
        raise UserError(
            "this platform has no os.fork, so a candidate cannot run in a closed process", allowed="Linux, macOS"
        )
    left, running = enumerate(works), dict[int, _Guest]()
    is_over = False
    try:
        while True:
            while not is_over and len(running) < at_once:
                item = next(left, None)
                if item is None:
                    is_over = True
                    break
                guest = _started(*item, limits)
                running[guest.pipe] = guest
            if not running:
                return
            yield from _heard(running, limits)
    finally:
        for guest in running.values():
            _killed(guest)


def _started(place: int, work: Callable[[], bytes], limits: GuestLimits) -> _Guest:
    """A process that does a work."""
    pipe, to = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _live(work, to, limits)
    os.close(to)
    os.set_blocking(pipe, False)
    return _Guest(place, pid, pipe, start, bytearray())


def _live(work: Callable[[], bytes], to: int, limits: GuestLimits) -> None:
    """The life of a guest. It never comes back."""
    code, is_told = 1, False
    try:
        os.setsid()
        os.closerange(3, to)  # ways to other processes are none of its business
        os.closerange(to + 1, _MOST_FILES)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limits.time_s + _REAP_S)  # where nobody is left to end it, it ends itself
        one_thread()
        closed = close(reads=limits.reads, memory_B=limits.memory_B, time_s=limits.time_s, guards=limits.guards)
        _written(to, ",".join(closed.missing).encode() + b"\n")
        is_told = True
        value = _HEAD + work()
        code = 0
    except MemoryError:
        value = b"it needs more memory than it may take"
    except BaseException as error:
        with suppress(BaseException):
            value = f"{type(error).__name__}: {error}".removesuffix(": ").encode(errors="replace")[:2000]
    with suppress(BaseException):
        _written(to, value if is_told else b"\n" + value)
    os._exit(code)


def _written(to: int, value: bytes) -> None:
    view = memoryview(value)
    while view:
        view = view[os.write(to, view[: 1 << 20]) :]


def _heard(running: dict[int, _Guest], limits: GuestLimits) -> Iterator[GuestEnd]:
    """Read what guests say until one ends."""
    now = time.monotonic()
    next_end = min(g.start + limits.time_s for g in running.values())
    ready, _, _ = select.select([*running], [], [], max(0.0, next_end - now))
    for pipe in ready:
        guest = running[pipe]
        try:
            part = os.read(pipe, 1 << 20)
        except BlockingIOError:
            continue
        if part and len(guest.read) + len(part) <= MOST_B:
            guest.read += part
            continue
        del running[pipe]
        yield _ended(guest, "" if not part else f"it answers with more than {MOST_B / 2**30:g} GiB")
    for pipe, guest in [*running.items()]:
        if time.monotonic() - guest.start >= limits.time_s:
            del running[pipe]
            yield _ended(guest, f"it takes longer than {limits.time_s:g} s")


def _ended(guest: _Guest, why: str) -> GuestEnd:
    """What a guest that said all, or is ended, gave."""
    seconds = time.monotonic() - guest.start
    status = _killed(guest, 0.0 if why else _PATIENT_S)
    value, (missing, _, text) = None, bytes(guest.read).partition(b"\n")
    if not why and text.startswith(_HEAD):
        value = text[len(_HEAD) :]
    elif not why:
        why = text.decode(errors="replace") or _death(status)
    names = tuple(name for name in GUARDS if name in missing.decode(errors="replace").split(","))
    return GuestEnd(place=guest.place, value=value, why=why, seconds=seconds, missing=names)


def missing_guards(limits: GuestLimits) -> tuple[str, ...]:
    """Guards that processes of guests do not have on this system, as one of them finds."""
    with closing(in_guests([bytes], limits)) as ends:
        return next(ends).missing


def _killed(guest: _Guest, patient_s: float = 0.0) -> int:
    """End a guest with all of its group; how it ended. patient_s: seconds that it has to end by itself."""
    with suppress(OSError):
        os.close(guest.pipe)
    end = time.monotonic() + patient_s
    while time.monotonic() < end:
        pid, status = os.waitpid(guest.pid, os.WNOHANG)
        if pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(guest.pid, signal.SIGKILL)
            return status
        time.sleep(_NAP_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(guest.pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(guest.pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        return os.waitpid(guest.pid, 0)[1]
    return 0


def _death(status: int) -> str:
    """How a process ended that said nothing."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return "it takes more processor time than it may"
        name = signal.Signals(number).name if number in [*signal.Signals] else f"signal {number}"
        return f"its process was ended by {name}"
    return f"its process ended with exit code {os.WEXITSTATUS(status)} before it answered"
