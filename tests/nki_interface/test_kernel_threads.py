"""Launches from several threads at once: each run keeps its state to itself, so outputs and times are those of one
launch after the other."""

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
import older_kernels as older
from mowich.errors import UserError

THREADS, LAUNCHES = 4, 50


def scaled(x: Any) -> Any:
    """Many small instructions, a matmul among them."""
    p, f = x.shape
    out = nl.ndarray((f, f), dtype=nl.float32, buffer=nl.shared_hbm)
    tile = nl.ndarray((p, f), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    for i in range(6):
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=1.0 + i / 8)
    product = nl.ndarray((f, f), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=tile, moving=tile)
    held = nl.ndarray((f, f), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=held, src=product)
    nisa.dma_copy(dst=out, src=held)
    return out


def summed(x: Any) -> Any:
    """A sum over the ranks."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.hbm)
    total = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.hbm)
    nisa.dma_copy(dst=mine, src=x)
    ncc.all_reduce(srcs=[mine], dsts=[total], op=nl.add, replica_group=ncc.ReplicaGroup([[0, 1, 2]]))
    nisa.dma_copy(dst=out, src=total)
    return out


def halves(x: Any) -> Any:
    """Each of two cores doubles its half of the rows, and both meet."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // 2
    first = nl.program_id(0) * rows
    tile = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[first : first + rows, :])
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=tile[:, 0:1])
    nisa.core_barrier(tile, (0, 1))
    nisa.dma_copy(dst=out[first : first + rows, :], src=tile)
    return out


def launch(case: tuple[Any, tuple[int, int], dict[str, Any]]) -> tuple[Any, ...]:
    """Time in picoseconds, instructions and bytes of the outputs of each rank."""
    kernel, shape, how = case
    x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    found = nki.run_kernel(kernel, x, target="trn3", **how)
    return tuple(
        (round(float(r.time_s) * 1e12), r.instructions, [o.tobytes() for o in r.outputs], r.warnings)
        for r in (found if isinstance(found, list) else [found])
    )


CASES: list[tuple[Any, tuple[int, int], dict[str, Any]]] = [
    *((scaled, (p, f), {}) for p, f in ((128, 64), (32, 128), (96, 16))),
    *((older.product, (k, n), {}) for k, n in ((64, 64), (128, 32))),
    *((older.shifted, (p, f), {}) for p, f in ((128, 40), (17, 300))),
    *((halves, (p, f), {"lnc": 2}) for p, f in ((64, 50), (128, 9))),
    (summed, (32, 20), {"ranks": 3}),
]


def in_threads(work: Callable[[Any], list[str]], parts: Sequence[Any]) -> list[str]:
    """What `work` says of each part, each in a thread of its own. A thread that hangs fails the test and does not hold
    it."""
    said: list[str] = []
    threads = [threading.Thread(target=lambda p=p: said.extend(work(p)), daemon=True) for p in parts]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    return said + ["a launch hangs"] * sum(t.is_alive() for t in threads)


@pytest.fixture
def switching():
    """Threads that give way to each other after a few instructions, so that launches overlap."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_launches_in_threads_give_what_launches_in_turn_give():
    alone = [launch(c) for c in CASES]
    order = [list(range(len(CASES))) for _ in range(THREADS)]
    for i, o in enumerate(order):
        np.random.default_rng(i).shuffle(o)

    def work(mine: list[int]) -> list[str]:
        different = []
        for i in itertools.islice(itertools.cycle(mine), LAUNCHES):
            try:
                found = launch(CASES[i])
            except Exception as error:
                different.append(f"{CASES[i][0].__name__} {CASES[i][1]}: {error}")
                continue
            if found != alone[i]:
                different.append(f"{CASES[i][0].__name__} {CASES[i][1]}")
        return different

    assert in_threads(work, order) == []


@pytest.mark.usefixtures("switching")
def test_the_latency_of_the_last_kernel_is_that_of_the_thread():
    shapes = [(128, 64), (32, 128), (96, 16), (128, 32)]
    want = {}
    for p, f in shapes:
        nki.run_kernel(scaled, np.ones((p, f), np.float32), target="trn3")
        want[p, f] = nki.last_latency_us()

    assert len(set(want.values())) == len(shapes)

    def work(shape: tuple[int, int]) -> list[str]:
        different = []
        for _ in range(5):
            nki.run_kernel(scaled, np.ones(shape, np.float32), target="trn3")
            if nki.last_latency_us() != want[shape]:
                different.append(str(shape))
        return different

    assert in_threads(work, shapes) == []


def test_a_thread_beside_a_launch_is_not_inside_its_kernel():
    """What a kernel starts in a thread of its own is outside the run: its instructions are refused, not recorded on
    somebody's core."""
    seen: list[str] = []

    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=x)

        def other() -> None:
            try:
                nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.sbuf)
                seen.append("nothing was wrong")
            except UserError as error:
                seen.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return out

    nki.run_kernel(kernel, np.ones((4, 4), np.float32), target="trn3")
    assert "runs inside a kernel only" in seen[0]
