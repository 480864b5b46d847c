"""Speed and size of the simulated NeuronCore: overhead of an instruction, a tiled matrix product against NumPy, 144
ranks in memory.

`pytest benchmarks -s` prints the figures and checks the limits. BLAS must run on one thread:
set OPENBLAS_NUM_THREADS=1 (and OMP_NUM_THREADS, MKL_NUM_THREADS) before Python starts. A limit is judged on the best of
a few rounds in one process, in processor time, so that a busy machine does not fail it.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
import mowich.nki.isa as nisa
import mowich.nki.language as nl

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
MOST_US = 30.0
"""Largest overhead of an instruction with all checks on, in microseconds."""
LEAST_RATIO = 1 / 3
"""Smallest speed of the 4096 x 4096 x 4096 kernel over NumPy's float32 product."""
REPEAT, ROUNDS = 250, 40
"""Instructions of a round, and rounds, the best of which counts: short ones, so that some of them fall into quiet
moments of a busy machine."""
LEAST_OLDER_PER_TURN = 3e-4
"""Fewest instructions of a kernel of the older interface, from kernel to time, for each turn of an empty loop."""
RANKS, MOST_GB = 144, 6.0
"""Ranks of one core each in one process, and the memory that they may take."""

one_thread = pytest.mark.skipif(
    os.environ.get("OPENBLAS_NUM_THREADS") != "1",
    reason="needs OPENBLAS_NUM_THREADS=1: the comparison is on one thread",
)


def best(call: Callable[[], Any], rounds: int) -> float:
    """Shortest processor time of a few calls, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def _copy(a: Any, b: Any, p: Any) -> None:
    nisa.tensor_copy(dst=b, src=a)


def _tensor_tensor(a: Any, b: Any, p: Any) -> None:
    nisa.tensor_tensor(dst=b, data1=a, data2=a, op=nl.add)


def _tensor_scalar(a: Any, b: Any, p: Any) -> None:
    nisa.tensor_scalar(dst=b, data=a, op0=nl.multiply, operand0=2.0, op1=nl.add, operand1=1.0)


def _sliced(a: Any, b: Any, p: Any) -> None:
    nisa.tensor_scalar(dst=b[0:64, 0:2], data=a[64:128, 1:3], op0=nl.multiply, operand0=2.0)


def _activation(a: Any, b: Any, p: Any) -> None:
    nisa.activation(dst=b, op=nl.relu, data=a, scale=0.5)


def _reduce(a: Any, b: Any, p: Any) -> None:
    nisa.tensor_reduce(dst=b[:, 0:1], op=nl.maximum, data=a, axis=1)


def _dma(a: Any, b: Any, p: Any) -> None:
    nisa.dma_copy(dst=b, src=a)


def _matmul(a: Any, b: Any, p: Any) -> None:
    nisa.nc_matmul(dst=p, stationary=a, moving=a, accumulate=False)


INSTRUCTIONS = {
    f.__name__.strip("_"): f
    for f in (_copy, _tensor_tensor, _tensor_scalar, _sliced, _activation, _reduce, _dma, _matmul)
}


def overhead_us(name: str, record: bool = True) -> float:
    """Time of an instruction on [128, 4] tiles, where the arithmetic itself takes next to nothing."""
    issue = INSTRUCTIONS[name]
    spent: list[float] = []

    def kernel(x: Any) -> None:
        a, b = (nl.ndarray((128, 4), dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
        p = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.psum)
        nisa.memset(dst=a, value=1.0)
        nisa.memset(dst=b, value=1.0)
        for _ in range(ROUNDS):
            start = time.process_time()
            for _ in range(REPEAT):
                issue(a, b, p)
            spent.append(time.process_time() - start)

    nki.run_kernel(kernel, np.zeros(1, np.float32)) if record else nki.simulate(kernel)(np.zeros(1, np.float32))
    return min(spent) / REPEAT * 1e6


@pytest.mark.parametrize("name", sorted(INSTRUCTIONS))
def test_overhead_of_an_instruction(name: str, record_property: Callable[[str, object], None]) -> None:
    us = overhead_us(name)
    record_property("us_per_instruction", us)
    print(
        f"{name}: {us:.1f} us per instruction, checks and trace on; {overhead_us(name, record=False):.1f} us without"
        " trace"
    )
    assert us <= MOST_US


def matmul_speed(n: int, rounds: int) -> tuple[float, float]:
    """Seconds of the kernel of kernels/matmul.py on n x n x n bf16, and of NumPy's float32 product, in one run."""
    with nki.installed():
        made = runpy.run_path(str(KERNELS / "matmul.py"))
    given = made["inputs"](K=n, M=n, N=n)
    x, y = (np.ascontiguousarray(v.astype(np.float32)) for v in given.values())
    product = best(lambda: x.T @ y, rounds + 1)
    return best(lambda: made["matmul"](**given), rounds), product


@one_thread
@pytest.mark.parametrize(
    "n", [pytest.param(1024, id="1024 (small)"), pytest.param(2048, id="2048 (small)"), pytest.param(4096, id="4096")]
)
def test_tiled_matmul_against_numpy(n: int, record_property: Callable[[str, object], None]) -> None:
    kernel_s, numpy_s = matmul_speed(n, rounds=2 if n == 4096 else 3)
    ratio = numpy_s / kernel_s
    record_property("ratio", ratio)
    print(f"{n}^3 bf16: kernel {kernel_s:.3f} s, NumPy float32 {numpy_s:.3f} s, ratio {ratio:.2f}")
    if n == 4096:
        assert ratio >= LEAST_RATIO


@old.jit
def transposed_product(x: Any, w: Any) -> Any:
    """Blocks of x [2048, 1024] transposed, times w [1024, 512], with indices as older kernels write them."""
    p, k, n = onl.arange(128)[:, None], onl.arange(128)[None, :], onl.arange(512)[None, :]
    out = onl.ndarray((2048, 512), dtype=np.float32, buffer=onl.shared_hbm)
    weights = onl.ndarray((8, onl.par_dim(128), 512), dtype=np.float32, buffer=onl.sbuf)
    for j in onl.affine_range(8):
        weights[j, p, n] = onl.load(w[128 * j + p, n])
    for i in onl.affine_range(16):
        row = onl.ndarray((onl.par_dim(128), 1024), dtype=np.float32, buffer=onl.sbuf)
        turned = onl.ndarray((8, onl.par_dim(128), 128), dtype=np.float32, buffer=onl.sbuf)
        total = onl.zeros((onl.par_dim(128), 512), dtype=np.float32, buffer=onl.psum)
        for j in onl.affine_range(8):
            row[p, 128 * j + k] = onl.load(x[128 * i + p, 128 * j + k], mask=128 * i + p < 2048)
            turned[j, p, k] = onl.copy(oisa.nc_transpose(row[p, 128 * j + k]))
            total[p, n] += oisa.nc_matmul(turned[j, p, k], weights[j, p, n])
        onl.store(out[128 * i + p, n], value=oisa.activation(op=onl.exp, data=total[p, n]), mask=128 * i + p < 2048)
    return out


def test_older_interface_per_turn_of_a_loop(record_property: Callable[[str, object], None]) -> None:
    """Instructions per processor second, trace, schedule and critical path together, beside an empty loop of Python."""
    arguments = nki.hollow((2048, 1024), "float32"), nki.hollow((1024, 512), "float32")
    count = 0

    def timed() -> None:
        nonlocal count
        result = nki.run_kernel(transposed_product, *arguments, target="trn2", values=False)
        assert not isinstance(result, list)
        assert result.time_s.value > 0
        count = result.instructions

    loop = compile("for _ in range(2_000_000): pass", "loop", "exec")
    kernel_s, loop_s = best(timed, 10), best(lambda: exec(loop, {}), 5)
    per_turn = count / kernel_s * loop_s / 2_000_000
    record_property("instructions_per_turn", per_turn)
    scaled = per_turn * 20e6 / 1.4
    print(f"older interface: {count / kernel_s:,.0f} instructions/s, {scaled:,.0f} where 20 million turns take 1.4 s")
    assert per_turn >= LEAST_OLDER_PER_TURN


MANY_RANKS = """
import resource, sys, time
import numpy as np
import mowich.nki as nki, mowich.nki.collectives as ncc, mowich.nki.isa as nisa, mowich.nki.language as nl

ranks = int(sys.argv[1])

def kernel(x):
    out, part = (nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.hbm) for _ in range(2))
    for i in range(x.shape[0] // 128):
        rows = nl.ds(i * 128, 128)
        tile = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf, address=(0, 4096 * (i % 4)))
        total = nl.ndarray((128, x.shape[1]), dtype=nl.float32, buffer=nl.psum)
        nisa.dma_copy(dst=tile, src=x[rows])
        nisa.nc_matmul(dst=total, stationary=tile[:, 0:128], moving=tile)
        nisa.tensor_scalar(dst=tile, data=total, op0=nl.multiply, operand0=1 / 128)
        nisa.dma_copy(dst=part[rows], src=tile)
    ncc.all_reduce([part], [out], ncc.ReplicaGroup([list(range(ranks))]), nl.add)
    return out

start = time.perf_counter()
results = nki.run_kernel(kernel, np.ones((512, 512), np.float32), target="trn3", ranks=ranks, timed=False)
assert all((r.outputs[0] == ranks).all() for r in results)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, time.perf_counter() - start)
"""


def test_ranks_in_memory(record_property: Callable[[str, object], None]) -> None:
    """Ranks that each use SBUF by hand, PSUM and 2 MiB of HBM, and all-reduce 1 MiB; the whole process counts."""
    run = subprocess.run([sys.executable, "-c", MANY_RANKS, str(RANKS)], capture_output=True, text=True, check=True)
    memory_GB, seconds = map(float, run.stdout.split())
    record_property("memory_GB", memory_GB)
    print(f"{RANKS} ranks: {memory_GB:.2f} GB, {seconds:.1f} s")
    assert memory_GB <= MOST_GB
