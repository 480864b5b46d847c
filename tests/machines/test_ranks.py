"""Collectives between 2, 16 and 64 simulated ranks, in every format that they carry, bit for bit what NumPy gives in
rank order."""

import ml_dtypes
import numpy as np
import pytest

import mowich.nki as nki
from mowich.nki import collectives as ncc
from mowich.nki import isa as nisa
from mowich.nki import language as nl

DTYPES = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3": ml_dtypes.float8_e4m3,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "int32": np.int32,
    "uint8": np.uint8,
}
RANKS = [2, 16, pytest.param(64, marks=pytest.mark.slow)]
OPS = {"add": (nl.add, np.add), "maximum": (nl.maximum, np.maximum), "minimum": (nl.minimum, np.minimum)}


def given(ranks: int, dtype: str, columns: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    high = 3 if dtype == "uint8" else 100  # sums of 64 stay in range
    if dtype in ("int32", "uint8"):
        return [rng.integers(0, high, (ranks, columns)).astype(DTYPES[dtype]) for _ in range(ranks)]
    return [(rng.standard_normal((ranks, columns)) / ranks).astype(DTYPES[dtype]) for _ in range(ranks)]


def reduced(parts: list[np.ndarray], op) -> np.ndarray:
    wide = np.int64 if parts[0].dtype.kind in "iu" else np.float32
    total = parts[0].astype(wide)
    for p in parts[1:]:
        total = op(total, p.astype(wide)).astype(wide)
    return total.astype(parts[0].dtype)


def kernel(kind: str, ranks: int, op=nl.add):
    @nki.jit
    def run(x):
        group = ncc.ReplicaGroup([list(range(ranks))])
        rows = {"all_gather": ranks * ranks, "reduce_scatter": 1}.get(kind, ranks)
        out = nl.ndarray((rows, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
        mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
        nisa.dma_copy(dst=mine, src=x)
        if kind == "all_reduce":
            ncc.all_reduce(srcs=[mine], dsts=[out], replica_group=group, op=op)
        elif kind == "reduce_scatter":
            ncc.reduce_scatter(srcs=[mine], dsts=[out], replica_group=group, collective_dim=0, op=op)
        elif kind == "all_gather":
            ncc.all_gather(srcs=[mine], dsts=[out], replica_group=group, collective_dim=0)
        elif kind == "all_to_all":
            ncc.all_to_all(srcs=[mine], dsts=[out], replica_group=group, collective_dim=0)
        elif kind == "permute":
            ncc.collective_permute([mine], [out], [[r, (r + 3) % ranks] for r in range(ranks)])
        else:
            ncc.collective_permute_implicit([[mine]], [[out]], group)
        return out

    return run


def wanted(kind: str, xs: list[np.ndarray], r: int, op=np.add) -> np.ndarray:
    n = len(xs)
    if kind == "all_reduce":
        return reduced(xs, op)
    if kind == "reduce_scatter":
        return reduced([x[r : r + 1] for x in xs], op)
    if kind == "all_gather":
        return np.concatenate(xs)
    if kind == "all_to_all":
        return np.concatenate([x[r : r + 1] for x in xs])
    return xs[(r - (3 if kind == "permute" else 1)) % n]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "permute", "implicit"])
def test_bits(kind: str, dtype: str, ranks: int) -> None:
    xs = given(ranks, dtype)
    got = nki.simulate_ranks(kernel(kind, ranks), [[x] for x in xs])
    for r in range(ranks):
        want = wanted(kind, xs, r)
        assert got[r].dtype == want.dtype
        assert got[r].tobytes() == want.tobytes(), f"rank {r}"


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter"])
def test_operators(kind: str, op: str) -> None:
    xs = given(8, "bfloat16")
    token, function = OPS[op]
    got = nki.simulate_ranks(kernel(kind, 8, token), [[x] for x in xs])
    for r in range(8):
        assert got[r].tobytes() == wanted(kind, xs, r, function).tobytes()


def test_groups_apart() -> None:
    """Two groups of four, interleaved, each with its own sum."""

    @nki.jit
    def run(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        mine = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
        nisa.dma_copy(dst=mine, src=x)
        ncc.all_reduce([mine], [out], ncc.ReplicaGroup([[0, 2, 4, 6], [1, 3, 5, 7]]), nl.add)
        return out

    xs = [np.full((4, 2), r, np.float32) for r in range(8)]
    got = nki.simulate_ranks(run, [[x] for x in xs])
    assert [g[0, 0] for g in got] == [12, 16] * 4


@pytest.mark.parametrize("columns", [2, 1 << 17])
def test_arguments_of_several_ranks_are_copied(columns: int) -> None:
    """Each rank has memory of its own: what it writes to its argument, no other rank and no caller sees. An array of
    one rank is changed in place, as in a run of one rank. Large ones share memory until they are written to."""

    @nki.jit
    def run(cache, mine):
        out = nl.ndarray(cache.shape, dtype=cache.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray((4, 2), dtype=cache.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=cache[:, :2])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=1.0)
        nisa.dma_copy(dst=cache[:, :2], src=tile)
        nisa.dma_copy(dst=mine, src=tile)
        nisa.dma_copy(dst=out, src=cache)
        return out

    for cache in (np.zeros((4, columns), np.float32), np.zeros((columns, 4), np.float32).T):
        own = [np.zeros((4, 2), np.float32) for _ in range(3)]
        got = nki.simulate_ranks(run, [{"cache": cache, "mine": m} for m in own])
        for g, m in zip(got, own, strict=True):
            np.testing.assert_array_equal(g[:, :2], np.ones((4, 2), np.float32))
            assert not g[:, 2:].any()
            np.testing.assert_array_equal(m, np.ones((4, 2), np.float32))
        assert not cache.any()


@nki.jit
def over_first_row(x, y):
    """What y holds after its second row was written over the first of x."""
    out = nl.ndarray(y.shape, dtype=y.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=x[0:1], src=y[1:2])
    nisa.dma_copy(dst=out, src=y)
    return out


def test_a_part_of_what_another_rank_has_is_as_long_as_it_was() -> None:
    """Arrays that begin at one place need not be one array; two names of one array stay one in each rank."""
    whole = np.arange(16, dtype=np.float32).reshape(4, 4)
    before = whole.copy()
    got = nki.simulate_ranks(over_first_row, [[whole, whole.view()], [whole[:2], whole.view()], [whole, whole.view()]])
    for g in (got[0], got[2]):
        np.testing.assert_array_equal(g, before[[1, 1, 2, 3]])
    np.testing.assert_array_equal(got[1], before)


@pytest.mark.parametrize("first", [0, 1])
def test_an_array_and_its_transpose_are_not_taken_for_one(first: int) -> None:
    """They begin at one place and have as many bytes, in another order."""
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    before = x.copy()
    both = [x, x.T, x, x.T]
    given = both[first : first + 3]
    wanted = [a[[1, 1, 2, 3]].copy() for a in given]
    for got, want in zip(nki.simulate_ranks(over_first_row, [[a, a] for a in given]), wanted, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(x, before)


def test_64_ranks_of_two_cores() -> None:
    @nki.jit
    def run(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        part = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        half = x.shape[0] // 2
        rows = nl.ds(nl.program_id(0) * half, half)
        tile = nl.ndarray((half, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[rows])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=part[rows], src=tile)
        nisa.core_barrier(part, (0, 1))
        ncc.all_reduce([part], [out], ncc.ReplicaGroup([list(range(64))]), nl.add)
        return out

    xs = [np.full((4, 2), r, np.float32) for r in range(64)]
    for got in nki.simulate_ranks(run, [[x] for x in xs], lnc=2):
        np.testing.assert_array_equal(got, np.full((4, 2), 2 * sum(range(64)), np.float32))
