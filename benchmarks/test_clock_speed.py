"""Speed of the clock: instructions scheduled per second beside the front end, and that the cost grows linearly.

`pytest benchmarks/test_clock_speed.py -s` prints the figures and checks the limits. `CLOCK_LARGEST=10000000` adds the
largest trace (about 8 GB of memory and some minutes). Times are of the process, best of two, so that a busy machine
does not fail it.
"""

from __future__ import annotations

import os
import sys
import time
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import mowich
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.clock.schedule import schedule
from mowich.neuroncore.trace import Trace
from mowich.nki import hollow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
import clock_kernels

LEAST_PER_S = 15_000 if compiled.library() is None else 1_000_000
"""Fewest instructions per second on one core, dependencies, buffers and the event loop together."""
MOST_GROWTH = 1.3 if compiled.library() is None else 2.0
"""Largest time per instruction of a trace over that of one a tenth as long: what is compiled is faster while it fits
the caches."""


def traced(kernel: str, *shapes: tuple[int, int]) -> Trace:
    r = mowich.run_kernel(
        getattr(clock_kernels, kernel), *(hollow(s, "float32") for s in shapes), target="trn2", values=False
    )
    assert not isinstance(r, list)
    made = r.cores[0].trace
    assert made is not None
    return made


def repeated(trace: Trace, times: int) -> Trace:
    """The instructions again and again, each time on new tiles."""
    out = Trace()
    out.kinds, out.sites, out.patterns = trace.kinds, trace.sites, trace.patterns
    out.kind, out.site = trace.kind * times, trace.site * times
    out.number = array("q", range(1, len(out.kind) + 1))
    step = max(trace.storages) + 1
    pairs = np.frombuffer(trace.touched, np.int64).reshape(-1, 2)
    chip = np.array([trace.storages[int(n)].space != "H" for n in pairs[:, 0]])
    touched = np.tile(pairs, (times, 1))
    touched[:, 0] += np.repeat(np.arange(times), len(pairs)) * step * np.tile(chip, times)
    out.touched = array("q", touched.tobytes())
    for n, a in trace.storages.items():
        for k in range(times if a.space != "H" else 1):
            out.storages[n + k * step] = a
    return out


def seconds(trace: Trace, rounds: int = 2) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        schedule([trace], costs(3), ClockOptions())
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize(
    ("kernel", "shapes"), [("tiled", ((4096, 2048), (4096, 4096))), ("blocked", ((4096, 4096), (4096, 4096)))]
)
def test_instructions_per_second(
    kernel: str, shapes: tuple[tuple[int, int], ...], record_property: Callable[[str, object], None]
) -> None:
    trace = traced(kernel, *shapes)
    rate = len(trace) / seconds(trace, 3)
    record_property("instructions_per_s", rate)
    print(f"{kernel}: {len(trace):,} instructions at {rate:,.0f} per second")
    assert rate >= LEAST_PER_S


def test_cost_grows_linearly(record_property: Callable[[str, object], None]) -> None:
    one = traced("blocked", (2048, 2048), (2048, 2048))
    largest = int(os.environ.get("CLOCK_LARGEST", "1000000"))
    sizes = [n for n in (10_000, 100_000, 1_000_000, 10_000_000) if n <= largest]
    each = {}
    for size in sizes:
        trace = repeated(one, max(1, size // len(one)))
        each[size] = seconds(trace, 2 if size <= 1_000_000 else 1) / len(trace)
        print(f"{len(trace):>10,} instructions: {1e6 * each[size]:.2f} us each")
        record_property(f"us_each_{size}", 1e6 * each[size])
    for small, large in pairwise(sizes[1:]):
        assert each[large] <= MOST_GROWTH * each[small]
