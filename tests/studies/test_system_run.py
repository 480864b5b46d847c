"""Kernels and a transformer layer on 144 ranks of a Trn3 UltraServer: values bit by bit, times by level, and what goes
wrong told."""

from __future__ import annotations

import resource

import ml_dtypes
import numpy as np
import pytest

import mowich
from mowich import nki
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines import collectives, ranks, steps
from mowich.machines.system import System, resolve
from mowich.machines.topology import per_chip
from mowich.nki import collectives as ncc
from mowich.nki import isa as nisa
from mowich.nki import language as nl

RANKS = 144
DTYPES = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "int32": np.int32,
    "uint8": np.uint8,
}
KINDS = ("all_reduce", "reduce_scatter", "all_gather", "all_to_all", "permute")


@pytest.fixture(scope="module")
def gen2(facts: Facts) -> System:
    return per_chip(resolve(facts, "trn3-gen2"))


def kernel(kind: str, size: int = RANKS):
    @nki.jit
    def run(x):
        group = ncc.ReplicaGroup([list(range(size))])
        rows = {"all_gather": size * size, "reduce_scatter": 1}.get(kind, size)
        out = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
        mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
        nisa.dma_copy(dst=mine, src=x)
        if kind == "permute":
            ncc.collective_permute([mine], [out], [[r, (r + 5) % size] for r in range(size)])
        elif kind in ("all_reduce", "reduce_scatter"):
            getattr(ncc, kind)(srcs=[mine], dsts=[out], replica_group=group, op=nl.add)
        else:
            getattr(ncc, kind)(srcs=[mine], dsts=[out], replica_group=group, collective_dim=0)
        return out

    return run


def wanted(kind: str, xs: list[np.ndarray], r: int) -> np.ndarray:
    """What NumPy gives, added in the order of the ranks, in 32 bits (64-bit integers)."""
    if kind == "permute":
        return xs[(r - 5) % len(xs)]
    if kind == "all_gather":
        return np.concatenate(xs)
    if kind == "all_to_all":
        return np.concatenate([x[r : r + 1] for x in xs])
    rows = xs if kind == "all_reduce" else [x[r : r + 1] for x in xs]
    wide = np.int64 if xs[0].dtype.kind in "iu" else np.float32
    total = rows[0].astype(wide)
    for x in rows[1:]:
        total = total + x.astype(wide)
    return total.astype(xs[0].dtype)


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "kind", [k if k in ("all_reduce", "all_to_all") else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_144_ranks_bit_by_bit_in_every_format(kind: str) -> None:
    rng = np.random.default_rng(11)
    for name, dtype in DTYPES.items():
        if name in ("int32", "uint8"):
            xs = [rng.integers(0, 2, (RANKS, 2)).astype(dtype) for _ in range(RANKS)]
        else:
            xs = [(rng.standard_normal((RANKS, 2)) / RANKS).astype(dtype) for _ in range(RANKS)]
        found = mowich.run_kernel(kernel(kind), system="trn3-gen2", inputs=[[x] for x in xs])
        for r in (0, 1, 71, 72, 143):
            want = wanted(kind, xs, r)
            assert found.outputs[r][0].tobytes() == want.tobytes(), (name, r)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6 * 2**20  # KiB: 6 GiB


def test_times_of_a_kernel_are_those_of_the_fabric(gen2: System) -> None:
    x = np.ones((16, 4), np.float32)
    found = mowich.run_kernel(kernel("all_reduce", 16), x, system="trn3-gen2", ranks=16)
    [exchange] = found.exchanges
    assert (exchange.kind, exchange.group, exchange.data_B) == ("all-reduce", 16, 256.0)
    whole = collectives.choose(gen2, "all-reduce", np.array([256.0]), np.array([16.0]), np.ones(1)).time_s[0]
    assert found.communication_s == pytest.approx(whole)
    assert set(found.by_level_s) <= {"server", "rack", "ultraserver", "latency"}
    assert exchange.file.endswith("test_system_run.py")


def test_what_goes_wrong_is_told() -> None:
    x = np.ones((4, 2), np.float32)

    @nki.jit
    def deadlock(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
        nisa.dma_copy(dst=mine, src=x)
        if x.shape[1] == 2:  # the rank with three columns never comes
            ncc.all_reduce([mine], [out], ncc.ReplicaGroup([[0, 1, 2]]), nl.add)
        return out

    with pytest.raises(Exception, match="deadlock"):
        mowich.run_kernel(deadlock, system="trn3-gen2", inputs=[[x], [x], [np.ones((4, 3), np.float32)]])
    with pytest.raises(Exception, match="in a run of 2 ranks"):
        mowich.run_kernel(kernel("all_reduce", 4), x, system="trn3-gen2", ranks=2)
    with pytest.raises(Exception, match="does not match"):
        mowich.run_kernel(
            kernel("all_reduce", 2),
            system="trn3-gen2",
            inputs=[[np.ones((2, 2), np.float32)], [np.ones((2, 3), np.float32)]],
        )
    with pytest.raises(UserError, match="no NeuronCore"):
        mowich.run_kernel(kernel("all_reduce", 2), x, system="h100", ranks=2)
    with pytest.raises(UserError, match="more ranks than chips"):
        mowich.run_kernel(kernel("all_reduce", 2), x, system="trn3-gen2", ranks=145)
    with pytest.raises(UserError, match="leave target out"):
        mowich.run_kernel(kernel("all_reduce", 2), x, system="trn3-gen2", ranks=2, target="trn2")


@pytest.mark.parametrize("tp", [1, 4, 8])
def test_a_layer_on_144_ranks_is_the_layer_on_one_device(gen2: System, tp: int) -> None:
    """Equal to 1e-12 in 64 bits: only the order of sums differs. Communication by level sums to that of its
    collectives."""
    w = ranks.weights(hidden=32, heads=8, head=8, experts=RANKS, ffn=16, top_k=4, dtype=np.float64)
    x = np.random.default_rng(3).standard_normal((RANKS // tp, 16, 32))
    found = ranks.spread_layer(w, x, gen2, ranks=RANKS, tp=tp)
    assert np.abs(found.output - ranks.single(w, x)).max() < 1e-12
    assert sum(found.by_level_s.values()) == pytest.approx(sum(s.time_s for s in found.sent))
    assert found.by_level_s["ultraserver"] > 0


def test_a_layer_that_does_not_divide_is_refused(gen2: System) -> None:
    w = ranks.weights(hidden=16, heads=6, head=4, experts=RANKS, ffn=8, top_k=2)
    with pytest.raises(UserError, match="heads do not divide"):
        ranks.spread_layer(w, np.ones((36, 16, 16), np.float32), gen2, ranks=RANKS, tp=4)


@pytest.mark.parametrize(
    ("algorithm", "n"), [("ring", 144), ("mesh", 12), ("halving-doubling", 16), ("level by level", 144)]
)
def test_steps_add_in_their_own_order(algorithm: str, n: int) -> None:
    """All ranks get the same bits; for the ring they are NumPy's sum begun at the chunk's next rank."""
    plan = steps.all_reduce(n, algorithm, domain=4)
    xs = [np.random.default_rng(r).standard_normal(2 * n).astype(np.float32) for r in range(n)]
    out = steps.play_steps(plan, xs)
    assert all(o.tobytes() == out[0].tobytes() for o in out)
    np.testing.assert_allclose(out[0], np.sum(xs, axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)
    if algorithm == "ring":
        for c in range(n):
            part = slice(2 * c, 2 * c + 2)
            total = xs[c][part]
            for k in range(1, n):
                total = xs[(c + k) % n][part] + total
            assert out[0][part].tobytes() == total.tobytes()


def test_steps_are_timed_as_the_closed_form_says(gen2: System) -> None:
    """1 GiB among 144 chips: steps inside servers and between them, against a closed form that knows racks as
    well: they differ by an eighth."""
    plan = steps.all_reduce(144, "level by level", domain=4)
    closed = float(collectives.choose(gen2, "all-reduce", np.array([2.0**30]), np.array([144.0]), np.ones(1)).time_s[0])
    assert steps.time_s(plan, gen2, 2.0**30) == pytest.approx(closed, rel=0.13)


@pytest.mark.parametrize("spec", ["trn3-gen2", "trn2", "ironwood:4x4x4", "gb300", "h100:64"])
@pytest.mark.parametrize("kind", ["all-reduce", "all-gather", "all-to-all", "permute"])
def test_levels_sum_to_the_time(facts: Facts, spec: str, kind: str) -> None:
    system = per_chip(resolve(facts, spec))
    for data in (2.0**12, 2.0**30):
        told = collectives.by_level(system, kind, data, system.chips)
        whole = collectives.choose(system, kind, np.array([data]), np.array([float(system.chips)]), np.ones(1)).time_s[
            0
        ]
        assert sum(told.values()) == pytest.approx(whole, rel=1e-9)
