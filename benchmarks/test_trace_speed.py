"""Speed of the front end without values: processor time of an instruction, loops repeated and each iteration traced.

    pytest benchmarks/test_trace_speed.py -s                    two matmuls of our own, and one of 10^6 instructions
    NKI_SAMPLES=DIR pytest benchmarks/test_trace_speed.py -s    the tutorial's too: a checkout of aws-neuron/nki-samples

Times are of the process, best of three, and beside an empty loop of Python in the same process: a machine that is slow,
or busy, is slow for both. Memory is measured in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mowich.nki as nki
from mowich.nki import hollow, run_kernel

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "fixtures"
TUTORIAL = Path("src/nki_samples/tutorials/matrix_multiplication/matrix_multiplication_nki_kernels.py")
TURNS = 20_000_000
MOST_TURNS = {"tiled": 60, "blocked": 300}
"""Most turns of an empty loop that an instruction may take, loops repeated."""
MILLION_S, MILLION_MB = 2.0, 200
"""Most processor time where the empty loop takes `LOOP_S`, and most memory of the process, for 10^6 instructions."""
LOOP_S = 1.4
ROUNDS = 3


def load(path: Path) -> Any:
    with nki.installed():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return module


def empty_loop_s() -> float:
    """Processor time of 20 million turns of an empty loop at the top of a module, the best of three."""
    loop = compile(f"for _ in range({TURNS}): pass", "loop", "exec")

    def turns() -> float:
        start = time.process_time()
        exec(loop, {})
        return time.process_time() - start

    return min(turns() for _ in range(ROUNDS))


def traced(kernel: Any, shapes: tuple[tuple[int, int], ...], repeat_loops: bool) -> tuple[int, float]:
    """(Instructions, processor time of each in seconds) of a run without values, before it is scheduled."""
    best, n = float("inf"), 0
    for _ in range(ROUNDS):
        start = time.process_time()
        result = run_kernel(
            kernel, *(hollow(s, "bfloat16") for s in shapes), target="trn3", values=False, repeat_loops=repeat_loops
        )
        assert not isinstance(result, list)
        n = result.instructions
        best = min(best, (time.process_time() - start) / n)
    return n, best


def kernels() -> Iterator[tuple[str, Any, tuple[tuple[int, int], ...]]]:
    own = load(FIXTURES / "clock_kernels.py")
    yield "tiled", own.tiled, ((4096, 4096), (4096, 4096))
    yield "blocked", own.blocked, ((4096, 4096), (4096, 4096))
    samples = os.environ.get("NKI_SAMPLES")
    if samples:
        tutorial = load(Path(samples) / TUTORIAL)
        for name in ("tiled", "hoist_load", "block_free_dimension", "fully_optimized"):
            yield f"nki_matmul_{name}_", getattr(tutorial, f"nki_matmul_{name}_"), ((4096, 4096), (4096, 4096))


def test_an_instruction(record_property: Any) -> None:
    turn = empty_loop_s() / TURNS
    print(
        f"\n20 million turns: {turn * TURNS:.2f} s\n{'kernel':34}{'instructions':>12}"
        "  each iteration traced      loops repeated"
    )
    for name, kernel, shapes in kernels():
        (_, full), (n, repeated) = (traced(kernel, shapes, on) for on in (False, True))
        print(
            f"{name:34}{n:12,}{1e6 * full:9.2f} us {full / turn:6.0f} turns"
            f"{1e6 * repeated:9.2f} us {repeated / turn:6.0f} turns"
        )
        record_property(name, repeated / turn)
        assert repeated / turn < MOST_TURNS.get(name, float("inf"))


MILLION = f"""
import resource, sys, time
sys.path.insert(0, {str(FIXTURES)!r})
import clock_kernels
from mowich.nki import hollow, run_kernel
start = time.process_time()
given = (hollow((21504, n), "bfloat16") for n in (8192, 16384))
r = run_kernel(clock_kernels.tiled, *given, target="trn3", values=False)
seconds, most = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(r.instructions, seconds, most)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is measured as Linux counts it")
def test_a_million_instructions(record_property: Any) -> None:
    out = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True).stdout.split()
    n, seconds, megabytes = int(out[0]), float(out[1]), float(out[2])
    allowed = MILLION_S * empty_loop_s() / LOOP_S
    print(f"\n{n:,} instructions: {seconds:.2f} s of {allowed:.2f}, {megabytes:.0f} MB with all of Mowich")
    record_property("seconds", seconds)
    assert n > 1_000_000
    assert seconds < allowed
    assert megabytes < MILLION_MB
