"""From a kernel to its time without values: processor time of an instruction in each stage, instructions per second to
its time (trace, schedule, critical path) and to its top lines (what the engines did as well).

    python benchmarks/kernel_stages.py              two matmuls of our own
    python benchmarks/kernel_stages.py NKI_SAMPLES  the tutorial's matmuls too: a checkout of aws-neuron/nki-samples
    python benchmarks/kernel_stages.py --large NKI_SAMPLES   the same, 8192 x 8192 x 8192: 80,000 instructions and more
    python benchmarks/kernel_stages.py --rounds=13 NKI_SAMPLES   the least of 13 rounds, in place of three
    python benchmarks/kernel_stages.py --million    one of 10^6 instructions, with the memory that it takes

Mowich is loaded before the first kernel is timed.
Machines differ: so each figure is also given beside 20 million turns of an empty loop of Python in the same process.
MOWICH_CLOCK=python times the Python code of the clock in place of the compiled one.
"""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mowich
import mowich.api
import mowich.nki
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.program import prepare
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.clock.schedule import as_compiled, run_programs
from mowich.neuroncore.profile import Profile
from mowich.nki import hollow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))
import clock_kernels

TURNS = 20_000_000
WANTED_S = 1.4
"""Processor time of the turns on the machine for which the goal is stated."""
STAGES = ("trace", "lower", "prepare", "event loop", "critical path", "engines", "lines")
TUTORIAL = "src/nki_samples/tutorials/matrix_multiplication/matrix_multiplication_nki_kernels.py"
AFTER = ("engines", "lines")
"""Stages beyond the time of a kernel."""
ROUNDS = 3


def empty_loop_s() -> float:
    """Processor time of 20 million turns of an empty loop at the top of a module, the best of three."""
    loop = compile(f"for _ in range({TURNS}): pass", "loop", "exec")

    def turns() -> float:
        start = time.process_time()
        exec(loop, {})
        return time.process_time() - start

    return min(turns() for _ in range(3))


def stages(
    kernel: Callable[..., Any], *shapes: tuple[int, int], dtype: str = "bfloat16"
) -> tuple[int, dict[str, float]]:
    """(Instructions, seconds of each stage) of one run on one core of Trainium2."""
    seconds: dict[str, float] = {}
    last = time.process_time()

    def done(stage: str) -> None:
        nonlocal last
        now = time.process_time()
        seconds[stage] = now - last
        last = now

    result = mowich.run_kernel(kernel, *(hollow(s, dtype) for s in shapes), target="trn2", values=False)
    assert not isinstance(result, list)
    trace = result.cores[0].trace
    assert trace is not None
    done("trace")
    numbers, options = costs(3), ClockOptions()
    (trace,) = as_compiled([trace], numbers, options)
    done("lower")
    program = prepare(trace, numbers, options)
    done("prepare")
    assert not program.overflow_B, "it would be prepared three times"
    profile = Profile(run_programs([program], numbers, options))
    done("event loop")
    assert float(profile.time_s) > 0
    done("critical path")
    assert profile.engines
    done("engines")
    assert profile.top
    done("lines")
    return len(trace), seconds


def kernels(samples: str) -> Iterator[tuple[str, Callable[..., Any], tuple[tuple[int, int], ...]]]:
    """(Name, kernel, shapes) of what is timed."""
    yield "tiled", clock_kernels.tiled, ((4096, 2048), (4096, 4096))
    yield "blocked", clock_kernels.blocked, ((4096, 4096), (4096, 4096))
    if not samples:
        return
    with mowich.nki.installed():
        spec = importlib.util.spec_from_file_location("matmuls", Path(samples) / TUTORIAL)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    for name, rows, columns in (
        ("nki_matmul_tiled_", 2048, 8192),
        ("nki_matmul_hoist_load_", 4096, 4096),
        ("nki_matmul_block_free_dimension_", 4096, 4096),
        ("nki_matmul_fully_optimized_", 4096, 4096),
    ):
        yield name, getattr(module, name), ((4096, rows), (4096, columns))


def shown(name: str, n: int, seconds: dict[str, float], loop_s: float) -> None:
    """One kernel: us of each stage, and instructions per second: to its time, here and where the loop takes the stated
    time, and to its top lines."""
    total = sum(seconds.values())
    to_time = total - sum(seconds[stage] for stage in AFTER)
    each = "  ".join(f"{1e6 * seconds[stage] / n:7.3f}" for stage in STAGES)
    clock = total - seconds["trace"]
    print(
        f"{name[:32]:32} {n:>9,}  {each}  {1e6 * clock / n:7.3f} {1e6 * clock / n * WANTED_S / loop_s:8.3f}"
        f"  {n / to_time:>9,.0f}  {n / to_time * loop_s / WANTED_S:>9,.0f}  {n / total * loop_s / WANTED_S:>9,.0f}"
    )


def main() -> None:
    words = sys.argv[1:]
    loop_s = empty_loop_s()
    state = "in Python" if compiled.library() is None else "compiled"
    print(f"{TURNS:,} turns of an empty loop: {loop_s:.2f} s; the clock runs {state}; us of processor time each")
    print(
        f"{'kernel':32} {'instrs':>9}  {'  '.join(f'{stage[:7]:>7}' for stage in STAGES)}  {'clock':>7} {'at 1.4 s':>8}"
        f"  {'instrs/s':>9}  {'at 1.4 s':>9}  {'to lines':>9}"
    )
    if words == ["--million"]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        n, seconds = stages(clock_kernels.tiled, (8192, 8192), (8192, 40960))
        shown("tiled", n, seconds, loop_s)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"most memory {peak / 1024:,.0f} MB, {before / 1024:,.0f} MB before; {sum(seconds.values()):.2f} s")
        return
    is_large = "--large" in words
    samples = next((word for word in words if not word.startswith("--")), "")
    rounds = next((int(word.removeprefix("--rounds=")) for word in words if word.startswith("--rounds=")), ROUNDS)
    for name, kernel, shapes in kernels(samples):
        shapes = ((8192, 8192), (8192, 8192)) if is_large else shapes
        made = [stages(kernel, *shapes) for _ in range(rounds)]
        best = {stage: min(seconds[stage] for _, seconds in made) for stage in STAGES}
        shown(name, made[0][0], best, loop_s)


if __name__ == "__main__":
    main()
