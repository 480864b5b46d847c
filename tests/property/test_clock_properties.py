"""What every schedule keeps, on random kernels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import mowich
import mowich.nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.facts import load_facts
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.records import ClockOptions, Schedule
from mowich.neuroncore.clock.schedule import DATA, WEIGHT_BUFFER, schedule
from mowich.neuroncore.instructions.rates import DMA_QUEUES
from mowich.neuroncore.trace import Trace

STRICT = ClockOptions(window=1, throttle=False)
ENGINES = ("tensor_engine", "vector_engine", "scalar_engine", "gpsimd_engine")


def _ops(*kinds: int) -> Any:
    return st.lists(
        st.tuples(st.sampled_from(kinds), st.integers(0, 5), st.integers(0, 5), st.sampled_from((64, 200, 512))),
        min_size=1,
        max_size=40,
    )


ALONE = _ops(0, 1, 2, 3, 4, 6, 7)
OPS = _ops(0, 1, 2, 3, 4, 5, 6, 7)
MIXED = _ops(0, 1, 2, 3, 4, 5, 6, 7, 8)
"""What engines share goes to whoever comes first, so that even in order a kernel can lose by a faster part. ALONE:
nothing is shared but the DMA; OPS: the Vector Engine and GpSimd share a port; MIXED: GpSimd also writes software
descriptors."""
relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def trace(ops: list[tuple[int, int, int, int]], edges: tuple[tuple[int, int], ...] = ()) -> Trace:
    """A kernel of loads, stores, sums, activations, copies by GpSimd (on a port of the Vector Engine) and matmuls, on
    six tiles; loads of x by hardware descriptors, of y by software ones, because it changes format."""

    def kernel(x: Any, y: Any) -> Any:
        out = nl.ndarray((128 * 6, 512), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        tiles = [nl.ndarray((128, 512), dtype=nl.bfloat16, buffer=nl.sbuf) for _ in range(6)]
        for op, i, j, n in ops:
            a, b = tiles[i], tiles[j]
            if op == 0:
                nisa.dma_copy(dst=a[:, 0:n], src=x[:, 0:n])
            elif op == 8:
                nisa.dma_copy(dst=a[:, 0:n], src=y[:, 0:n])
            elif op == 1:
                nisa.dma_copy(dst=out[128 * j : 128 * (j + 1), 0:n], src=a[:, 0:n])
            elif op == 2:
                nisa.tensor_tensor(dst=b[:, 0:n], data1=a[:, 0:n], data2=b[:, 0:n], op=nl.add)
            elif op == 3:
                nisa.activation(b[:, 0:n], nl.exp if n < 512 else nl.tanh, a[:, 0:n])
            elif op == 4:
                nisa.tensor_scalar(dst=b[:, 0:n], data=a[:, 0:n], op0=nl.multiply, operand0=2.0)
            elif op == 5:
                nisa.tensor_copy(dst=b[:, 0:n], src=a[:, 0:n], engine=nisa.engine.gpsimd)
            else:
                p = nl.ndarray((128, n), dtype=nl.float32, buffer=nl.psum)
                nisa.nc_matmul(dst=p, stationary=a[:, 0:128], moving=b[:, 0:n])
                nisa.tensor_copy(dst=a[:, 0:n], src=p, engine=nisa.engine.vector)
        return out

    given = mowich.nki.hollow((128, 512), "bfloat16"), mowich.nki.hollow((128, 512), "float32")
    r = mowich.run_kernel(kernel, *given, target="trn2", values=False, strict=False)
    assert not isinstance(r, list)
    made = r.cores[0].trace
    assert made is not None
    made.edges += [(made.number[a], made.number[b]) for a, b in edges]
    return made


def run(made: Trace, options: ClockOptions = STRICT, **facts: float) -> Schedule:
    values = {f"neuroncore.timing-v3.{k.replace('__', '.')}": v for k, v in facts.items()}
    return schedule([made], Costs(3, load_facts().with_values(values)), options)


def _queues(made: Schedule) -> list[list[int]]:
    """The queue of each instruction, by core."""
    return [[p.costs[cost].queue for cost in p.cost] for p in made.programs]


@relaxed
@given(ops=ALONE, engine=st.sampled_from(ENGINES), factor=st.sampled_from((1.1, 2.0, 7.0)))
def test_a_faster_engine_never_slows_a_kernel_in_order(ops: Any, engine: str, factor: float) -> None:
    made = trace(ops)
    clock = load_facts().number(f"neuroncore.timing-v3.{engine}.clock")
    ticks = len(made)  # whole picoseconds: a difference of two rounded times may be one longer for each instruction
    faster, plain = run(made, **{f"{engine}__clock": clock * factor}), run(made)
    # an instruction that names no engine goes to the one that is free: where that is another one, the whole may take
    # longer, as in any schedule without foresight
    assume(_queues(faster) == _queues(plain))
    assert faster.total <= plain.total + ticks


@relaxed
@given(
    ops=ALONE,
    fact=st.sampled_from(("dma__rate", "dma__issue", "dma__first_byte", "sync__semaphore")),
    factor=st.sampled_from((1.3, 4.0)),
)
def test_a_faster_dma_or_semaphore_never_slows_a_kernel_in_order(ops: Any, fact: str, factor: float) -> None:
    made = trace(ops)
    value = load_facts().number(f"neuroncore.timing-v3.{fact.replace('__', '.')}")
    better = value * factor if fact.endswith("rate") else value / factor
    assert run(made, **{fact: better}).total <= run(made).total


@relaxed
@given(ops=ALONE, data=st.data())
def test_an_added_dependency_never_speeds_a_kernel_up_in_order(ops: Any, data: Any) -> None:
    n = len(trace(ops))
    if n < 2:
        return
    a = data.draw(st.integers(0, n - 2))
    b = data.draw(st.integers(a + 1, n - 1))
    assert run(trace(ops, ((a, b),))).total >= run(trace(ops)).total


@relaxed
@given(ops=OPS, engine=st.sampled_from(ENGINES))
def test_with_look_ahead_anomalies_are_small(ops: Any, engine: str) -> None:
    """List scheduling can lose by a faster engine; here by less than a third."""
    made = trace(ops)
    clock = load_facts().number(f"neuroncore.timing-v3.{engine}.clock")
    options = ClockOptions()
    assert run(made, options, **{f"{engine}__clock": 2 * clock}).total <= 1.34 * run(made, options).total


@relaxed
@given(ops=MIXED, window=st.sampled_from((1, 4, 32)))
def test_bounds_and_sums(ops: Any, window: int) -> None:
    from mowich.neuroncore.profile import Profile

    made = trace(ops)
    s = run(made, ClockOptions(window=window))
    p = Profile(s)
    for use in p.engines.values():
        assert use.busy_s + use.wait_s + use.idle_s == pytest.approx(p.total_s, abs=1e-15)
        assert min(use.busy_s, use.wait_s, use.idle_s) >= -1e-15
    # at least each engine's work, and the longest chain of dependencies
    work: dict[int, int] = {}
    for k in p.cost:
        work[k.queue] = work.get(k.queue, 0) + (0 if k.queue in DMA_QUEUES else k.occupancy)
    assert s.total >= max(work.values())
    assert s.total >= max((sum(k.transfer[e] for k in p.cost if k.transfer) for e in range(16)), default=0)
    program = s.programs[0]
    done: list[int] = []
    for i, k in enumerate(p.cost):
        start = 0
        for e in program.edges[program.first[i] : program.first[i + 1]]:
            if e & 3 in (DATA, WEIGHT_BUFFER):
                start = max(start, done[e >> 2])
        time = k.issue + k.first_byte + max(k.transfer) if k.transfer else k.occupancy
        done.append(start + time)
        assert s.end[i] >= done[i]
    assert sum(p.time_s.breakdown.values()) == pytest.approx(p.total_s, rel=1e-9)
    assert p.time_s.low is not None
    assert p.time_s.high is not None
    assert p.time_s.low <= p.total_s <= p.time_s.high


@relaxed
@given(ops=MIXED)
def test_a_wait_is_respected_and_engines_do_one_thing_at_a_time(ops: Any) -> None:
    s = run(trace(ops), ClockOptions())
    program = s.programs[0]
    busy: dict[int, list[tuple[int, int]]] = {}
    for i in range(len(s.begin)):
        k = s.cost_of(i)
        assert s.begin[i] <= s.data[i] <= s.end[i]
        if k.queue not in DMA_QUEUES:
            busy.setdefault(k.queue, []).append((s.data[i], s.end[i]))
        for e in program.edges[program.first[i] : program.first[i + 1]]:
            assert s.data[i] >= s.end[e >> 2]
    for spans in busy.values():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_timing_changes_no_values_and_repeats_itself() -> None:
    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        t = nl.load(x)
        nisa.activation(t, nl.exp, t)
        nisa.dma_copy(dst=out, src=t)
        return out

    x = np.linspace(-1, 1, 128 * 64, dtype=np.float32).reshape(128, 64)
    runs = [mowich.run_kernel(kernel, x, target="trn2", timed=t) for t in (True, False, True)]
    assert len({r.outputs[0].tobytes() for r in runs if not isinstance(r, list)}) == 1
    assert list(runs[0].schedule.begin) == list(runs[2].schedule.begin)  # type: ignore[union-attr]
