"""How much slower this machine is than the one that limits of processor time were set on.

A limit in seconds is a property of a program only on a known machine. Where a machine makes the turns of an empty loop
more slowly than `TURN_S`, its limits grow in proportion; where it makes them faster, they stay."""

from __future__ import annotations

import time
from functools import cache

TURN_S = 0.35 / 20e6
"""Seconds of a turn of an empty loop on that machine (benchmarks/README.md)."""
TURNS = 1_000_000


@cache
def pace() -> float:
    """1 or more: what a limit of processor time is multiplied by."""
    loop = compile(f"for _ in range({TURNS}): pass", "loop", "exec")
    best = float("inf")
    for _ in range(7):
        begun = time.process_time()
        exec(loop, {})
        best = min(best, time.process_time() - begun)
    return max(1.0, best / TURNS / TURN_S)
