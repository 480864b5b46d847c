"""How much slower this machine is than the one that limits of processor time were set on.

A limit in seconds is a property of a program only on a known machine. Where a machine makes the turns of an empty loop
more slowly than `TURN_S`, its limits grow in proportion; where it makes them faster, they stay. The loop is timed again
beside what is judged, because a shared machine is slower at one moment than at another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

TURN_S = 0.35 / 20e6
"""Seconds of a turn of an empty loop on that machine (benchmarks/README.md)."""
TURNS = 1_000_000
_LOOP = compile(f"for _ in range({TURNS}): pass", "loop", "exec")


def pace() -> float:
    """1 or more: what a limit of processor time is multiplied by at this moment."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        exec(_LOOP, {})
        best = min(best, time.process_time() - begun)
    return max(1.0, best / TURNS / TURN_S)


def allowed_s(seconds: float, took: float) -> float:
    """What a limit of `seconds` allows at this moment. Where `took` keeps it, as a rule, the loop need not be timed."""
    return seconds * pace() if took >= seconds else seconds


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What it holds takes less processor time of this process than `seconds` on the machine that limits were set on.

    Raises AssertionError with the seconds that it took and what was allowed."""
    begun = time.process_time()
    yield
    took = time.process_time() - begun
    allowed = allowed_s(seconds, took)
    assert took < allowed, f"{took:.2f} s of processor time, meant to take {seconds} s x {allowed / seconds:.2f}"
