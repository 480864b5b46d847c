"""Which engine the compiler takes where a kernel names none, and what products of float32 cost: figures of measured
kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki as nki
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.instructions.rates import QUEUES
from mowich.neuroncore.targets import generation_of
from mowich.nki import hollow

TARGETS = ("trn1", "trn2", "trn3")


def run(kernel: Any, *arrays: Any, target: str = "trn2", options: ClockOptions | None = None) -> Any:
    return mowich.run_kernel(kernel, *arrays, target=target, values=False, options=options)


def engines(result: Any, opcode: str) -> list[str]:
    """Engine of each instruction of an opcode."""
    p = result.schedule.programs[0]
    found = (p.costs[c] for c in p.cost)
    return [QUEUES[k.queue] for k in found if k.opcode == opcode]


@pytest.mark.parametrize("target", TARGETS)
def test_an_fp32_row_repeated_over_partitions_takes_twice_the_passes_of_a_product(target: str) -> None:
    """Profile of mamba_v2 (kda): 896 broadcasts of 512 columns in 1,548 us."""

    @nki.jit
    def row(x: Any, dtype: str) -> Any:
        out = nl.ndarray((128, 512), dtype=dtype, buffer=nl.shared_hbm)
        t = nl.ndarray((1, 512), dtype=dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x)
        nisa.dma_copy(dst=out, src=nl.broadcast_to(t, (128, 512)))
        return out

    clock = costs(generation_of(target)).number("tensor_engine.clock")
    time = {}
    for dtype, passes in (("bfloat16", 1), ("float32", 8)):
        p = run(row, hollow((1, 512), dtype), dtype, target=target).schedule.programs[0]
        found = next(p.costs[c] for c in p.cost if p.costs[c].opcode == "nc_matmul")
        assert found.parts["tensor_engine.clock"] / 1e12 * clock == pytest.approx(passes * 512, rel=1e-4)
        time[dtype] = found.occupancy
    if target == "trn2":
        assert 896 * time["float32"] / 1e6 == pytest.approx(1548, rel=0.02)


@pytest.mark.parametrize(
    ("dtype", "columns", "is_hidden"), [("float32", 64, False), ("float32", 512, True), ("bfloat16", 64, True)]
)
def test_a_short_fp32_product_waits_for_its_weights(dtype: str, columns: int, is_hidden: bool) -> None:
    """Tiled matmul of the ladder: 488 cycles for a stationary tile of fp32. Behind 4 x 512 columns it is hidden, and in
    bf16 always."""

    @nki.jit
    def products(x: Any) -> Any:
        a = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=a, src=x)
        for _ in range(40):
            p = nl.ndarray((128, columns), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(dst=p, stationary=a[:, 0:128], moving=a[:, 0:columns])
        return x

    s = run(products, hollow((128, 512), dtype), options=ClockOptions(throttle=False)).schedule
    p = s.programs[0]
    mine = [i for i, c in enumerate(p.cost) if p.costs[c].opcode == "nc_matmul"]
    cost, interval = p.costs[p.cost[mine[0]]], (s.data[mine[-1]] - s.data[mine[9]]) / 30
    if dtype == "float32":
        assert cost.load / 1000 * 2.4 == pytest.approx(488, abs=1)
    assert (interval == pytest.approx(cost.occupancy, rel=1e-6)) == is_hidden
    assert is_hidden or cost.occupancy + (cost.load - cost.occupancy) / 2 <= interval * 1.001 <= cost.load * 1.002


def scaled(x: Any, busy: int, engine: Any = None, op: Any = onl.multiply) -> Any:
    """A product with a number for each of 8 tiles, and `busy` instructions that only the Vector Engine runs."""
    out = onl.ndarray((128, 4096), dtype=np.float32, buffer=onl.shared_hbm)
    for i in onl.affine_range(8):
        t = onl.load(x[:, onl.ds(512 * i, 512)])
        for _ in range(busy):
            t = oisa.tensor_tensor_scan(t, t, 0.0, onl.multiply, onl.add)
        onl.store(out[:, onl.ds(512 * i, 512)], value=oisa.tensor_scalar(t, op, 2.0, engine=engine))
    return out


@pytest.mark.parametrize(("target", "elsewhere"), [("trn1", "scalar"), ("trn2", "scalar"), ("trn3", "vector")])
def test_a_product_with_a_number_leaves_a_full_vector_engine(target: str, elsewhere: str) -> None:
    """Baselines of adamw and silu (kda): 2,610 and 2,045 us are what is left on the Vector Engine when their seven
    tensor_scalar of a tile, or one, are elsewhere. The compiler for Trainium3 shares nothing
    (`model.shares_copies`)."""
    x = hollow((128, 4096), "float32")

    def where(busy: int, **how: Any) -> set[str]:
        return set(engines(run(old.jit(lambda x: scaled(x, busy, **how)), x, target=target), "tensor_scalar"))

    assert where(4) == {elsewhere}
    assert where(4, engine=oisa.vector_engine) == {"vector"}
    assert where(4, op=onl.maximum) == {"vector"}  # the Scalar Engine multiplies and adds, no more


def test_it_does_not_move_more_than_the_vector_engine_has() -> None:
    """Nothing but products with numbers: neither engine ends far behind the other."""
    x = hollow((128, 4096), "float32")

    @old.jit
    def many(x: Any) -> Any:
        t = onl.load(x)
        for _ in range(40):
            t = oisa.tensor_scalar(t, onl.add, 1.0)
        out = onl.ndarray((128, 4096), dtype=np.float32, buffer=onl.shared_hbm)
        onl.store(out, value=t)
        return out

    busy = {e: b.busy_s for e, b in run(many, x).profile.engines.items()}
    assert busy["scalar"] == pytest.approx(busy["vector"], rel=0.1)


@pytest.mark.parametrize(("target", "per_element"), [("trn1", 5), ("trn2", 7.4), ("trn3", 8)])
def test_reciprocal(target: str, per_element: float) -> None:
    """7.4 cycles per element on Trainium2: what the baselines of adamw and silu (kda) leave for it."""

    @nki.jit
    def kernel(x: Any) -> Any:
        t = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x)
        nisa.reciprocal(dst=t, data=t)
        return x

    p = run(kernel, hollow((128, 512), "float32"), target=target).schedule.programs[0]
    found = next(p.costs[c] for c in p.cost if p.costs[c].opcode == "reciprocal")
    clock = costs(generation_of(target)).number("vector_engine.clock")
    assert found.parts["vector_engine.clock"] / 1e12 * clock == pytest.approx(per_element * 512, rel=1e-4)


@pytest.mark.parametrize(("target", "per_element"), [("trn2", 2), ("trn3", 1)])
@pytest.mark.parametrize("copies", [False, True])
def test_the_scalar_engine_of_trn2_reads_fp8_at_half_rate(target: str, per_element: int, copies: bool) -> None:
    """Profiles of fused fp8 kernels: 8 activations of 6,144 columns are 83 us, not 42. What they write does not
    matter."""

    def kernel(x: Any, fp8: bool) -> Any:
        a, b = (nl.ndarray((128, 512), dtype=t, buffer=nl.sbuf) for t in (nl.float8_e4m3, nl.float32))
        nisa.memset(a, 1.0)
        nisa.memset(b, 1.0)
        source, target = (a, b) if fp8 else (b, a)
        if copies:
            nisa.tensor_copy(dst=target, src=source, engine=nisa.scalar_engine)
        else:
            nisa.activation(dst=target, data=source, op=nl.exp)
        return x

    name = "tensor_copy" if copies else "activation"
    for fp8 in (True, False):
        r = run(nki.jit(kernel), hollow((128, 512), "float32"), fp8, target=target)
        made = next(k for k in r.profile.cost if k.opcode == name)
        assert made.occupancy == pytest.approx((512 * (per_element if fp8 else 1) + 60) / 1.2e9 * 1e12, abs=2)
