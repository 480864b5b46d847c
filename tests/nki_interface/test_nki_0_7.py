"""NKI 0.7 (Neuron 2.33): what its pages say, each by a small kernel with values, time and errors."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
import mowich.nki as nki
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import UserError
from mowich.neuroncore.core import NkiValidationError
from mowich.web import asks, kernels

GROUP = 16
"""Partitions that are one problem of topk."""


def returned(*tiles: Any) -> Any:
    """Tiles copied to HBM, as a kernel returns them."""
    outs = [nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm) for t in tiles]
    for out, t in zip(outs, tiles, strict=True):
        nisa.dma_copy(dst=out, src=t)
    return outs[0] if len(outs) == 1 else tuple(outs)


# topk
# ----------------------------------------------------------------------------------------------------------------


def largest(x: Any, n: int, k: int, width: int, in_order: bool) -> Any:
    values = nl.full((x.shape[0], width), 7, dtype=nl.bfloat16, buffer=nl.sbuf)
    places = nl.full((x.shape[0], width), 7, dtype=nl.uint32, buffer=nl.sbuf)
    nisa.topk(values[:, :k], places[:, :k], nl.load(x), n, sorted=in_order)
    return returned(values, places)


@settings(max_examples=20)
@given(st.data())
def test_topk_writes_a_snake_and_leaves_the_other_columns(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from((1, 2, 8)))
    n = data.draw(st.integers(8, 300))
    k = data.draw(st.integers(1, n))
    in_order = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # different values: the places are then known
    x = rng.permuted(np.arange(GROUP * 20, dtype=np.float32) % 256, axis=0).astype(ml_dtypes.bfloat16)
    x = np.stack([rng.permutation(x) for _ in range(groups)]).reshape(groups * GROUP, -1)
    got = mowich.run_kernel(largest, x, n, k, k + 2, in_order, strict=False, timed=False)
    values, places = got.outputs
    columns = -(-k // GROUP)
    assert (values[:, columns:] == 7).all()
    assert (places[:, columns:] == 7).all()
    for g in range(groups):
        rows = slice(g * GROUP, (g + 1) * GROUP)
        snake = x[rows].astype(np.float32).T.reshape(-1)[:n]
        found = values[rows, :columns].astype(np.float32).T.reshape(-1)[:k]
        at = places[rows, :columns].T.reshape(-1)[:k]
        assert sorted(found) == sorted(np.sort(snake)[n - k :])
        assert (snake[at] == found).all()
        assert len(set(at.tolist())) == k
        if in_order:
            assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize(
    ("n", "k", "in_order", "said"),
    [
        (7, 1, False, "n counts"),
        (65521, 8, False, "n counts"),
        (64, 65, False, "too many"),
        (9000, 8193, True, "8,192"),
    ],
)
def test_topk_has_limits(n: int, k: int, in_order: bool, said: str) -> None:
    x = np.zeros((16, -(-n // GROUP)), ml_dtypes.bfloat16)
    with pytest.raises(NkiValidationError, match=said):
        mowich.run_kernel(largest, x, n, k, k, in_order)


# grids of tiles and blocks
# ----------------------------------------------------------------------------------------------------------------


def by_tiles(x: Any, tile: tuple[int, int], per: tuple[int, int] | None, on_chip: bool) -> Any:
    """A copy tile by tile, or block by block, through tiles of their own on chip."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    src, dst = nl.tiles(x, tile_shape=tile), nl.tiles(out, tile_shape=tile)
    how: dict[str, Any] = {"tile_shape": tile, "element_shape": x.shape, "buffer": nl.sbuf, "dtype": x.dtype}
    buf = nl.alloc_tiles(**how)
    assert src.shape == dst.shape == buf.shape == tuple(-(-n // t) for n, t in zip(x.shape, tile, strict=True))
    if per is not None:
        assert nl.alloc_blocks(**how, block_shape=per).shape == nl.blocks(buf, block_shape=per).shape
    for grids in zip(*(_parts(g, per) for g in (src, buf, dst)), strict=True):
        assert len({g.element_shape for g in grids}) == len({g.is_remainder for g in grids}) == 1
        a, b, c = (g.data for g in grids)
        if on_chip:
            nisa.dma_copy(dst=b, src=a)
            nisa.dma_copy(dst=c, src=b)
        else:
            nisa.dma_copy(dst=c, src=a)
    return out


def _parts(grid: Any, per: tuple[int, int] | None) -> list[Any]:
    """The tiles of a grid, block by block."""
    if per is None:
        return [grid[i, j] for i in range(grid.shape[0]) for j in range(grid.shape[1])]
    found = nl.blocks(grid, block_shape=per)
    assert found.block_shape == per
    return [t for b in _parts(found, None) for t in _parts(nl.tiles(b), None)]


@settings(max_examples=40)
@given(st.data())
def test_a_copy_by_tiles_or_blocks_is_exact(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 300), st.integers(1, 1000)))
    tile = (
        data.draw(st.integers(1, 128)) if shape[0] < 40 else 128,
        data.draw(st.integers(max(1, shape[1] // 6), 400)),
    )
    per = data.draw(st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)))
    x = np.random.default_rng(0).random(shape, np.float32)
    result = mowich.run_kernel(by_tiles, x, tile, per, data.draw(st.booleans()), timed=False)
    np.testing.assert_array_equal(result.outputs[0], x)


@settings(max_examples=40)
@given(st.data())
def test_data_of_a_grid_is_the_selection(data: st.DataObject) -> None:
    """A selection by slices, on chip and in HBM: where one access pattern is it, it holds these elements in order."""
    shape, tile = (300, 1000), (128, 256)
    x = np.arange(300000, dtype=np.float32).reshape(shape)
    keys = tuple(
        data.draw(st.integers(-n, n - 1) | st.builds(slice, st.integers(0, n - 1), st.none(), st.integers(1, 2)))
        for n in (3, 4)
    )
    counted = [[range(n)[k]] if isinstance(k, int) else list(range(n)[k]) for k, n in zip(keys, (3, 4), strict=True)]
    taken = [
        [e for u in units for e in range(u * t, min(u * t + t, n))]
        for units, t, n in zip(counted, tile, shape, strict=True)
    ]
    on_chip = data.draw(st.booleans())

    def kernel(x: Any) -> Any:
        grid = nl.tiles(x, tile_shape=tile)
        if on_chip:
            source = grid
            grid = nl.alloc_tiles(tile_shape=tile, element_shape=shape, buffer=nl.sbuf, dtype=x.dtype)
            for i in range(3):
                for j in range(4):
                    nisa.dma_copy(dst=grid[i, j].data, src=source[i, j].data)
        part = grid[keys]
        assert part.element_shape == tuple(map(len, taken))
        assert part.shape == tuple(len(c) for c, k in zip(counted, keys, strict=True) if not isinstance(k, int))
        if not part.is_data_representable:
            assert len(counted[0]) > 1 or taken[1][-1] == 999
            with pytest.raises(NkiValidationError, match="no access pattern"):
                _ = part.data
            return returned(nl.load(x[0:1, 0:1]))
        out = nl.ndarray((part.data.size,), dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=part.data)
        return out

    got = mowich.run_kernel(kernel, x, timed=False).outputs[0]
    if got.size > 1:
        expected = x[np.ix_(*taken)]
        if on_chip:  # rows of tiles lie behind one another
            height = min(len(taken[0]), 128)
            expected = expected.reshape(-1, height, expected.shape[1]).transpose(1, 0, 2)
        np.testing.assert_array_equal(got, expected.reshape(-1))


def test_leading_dimensions_and_the_last_tile() -> None:
    def kernel(x: Any) -> Any:
        grid = nl.tiles(x, tile_shape=(128, 256))
        assert grid.shape == (2, 3, 4)
        assert grid.index_step_elements == (1, 128, 256)
        assert (grid.tile_shape, grid.dtype, grid.buffer) == ((128, 256), nl.float32, x.buffer)
        last = grid[1][-1, -1]
        assert (last.shape, last.element_shape, last.is_remainder) == ((), (44, 232), True)
        assert not grid[1, 0, 0].is_remainder
        assert grid[1, 2].element_shape == (44, 1000)
        assert x.data is x
        return returned(nl.load(last.data))

    x = np.arange(600000, dtype=np.float32).reshape(2, 300, 1000)
    np.testing.assert_array_equal(mowich.run_kernel(kernel, x).outputs[0], x[1, 256:, 768:])


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_blocked_product_of_allocated_tiles(target: str) -> None:
    """C = A.T B, 512 deep: tiles in SBUF and PSUM, one allocation each, its peak known."""

    def kernel(a: Any, b: Any) -> Any:
        out = nl.ndarray((256, 1024), dtype=nl.float32, buffer=nl.shared_hbm)
        rows, columns = (128, 128), (128, 512)
        held = []
        for x, tile in ((a, rows), (b, columns)):
            made = nl.alloc_tiles(tile_shape=tile, element_shape=x.shape, buffer=nl.sbuf, dtype=x.dtype)
            for i in range(made.shape[0]):
                nisa.dma_copy(dst=made[i, :].data, src=nl.tiles(x, tile_shape=tile)[i, :].data)
            held.append(made)
        psum = nl.alloc_tiles(tile_shape=columns, element_shape=out.shape, buffer=nl.psum, dtype=nl.float32)
        result = nl.alloc_tiles(tile_shape=columns, element_shape=out.shape, buffer=nl.sbuf, dtype=nl.float32)
        for m in range(2):
            for n in range(2):
                for k in range(4):
                    nisa.nc_matmul(
                        dst=psum[m, n].data, stationary=held[0][k, m].data, moving=held[1][k, n].data, accumulate=k > 0
                    )
                nisa.tensor_copy(dst=result[m, n].data, src=psum[m, n].data)
                nisa.dma_copy(dst=nl.tiles(out, tile_shape=columns)[m, n].data, src=result[m, n].data)
        return out

    a, b = (np.random.default_rng(i).standard_normal((512, n)).astype(np.float32) for i, n in enumerate((256, 1024)))
    got = mowich.run_kernel(kernel, a, b, target=target)
    np.testing.assert_allclose(got.outputs[0], a.T @ b, rtol=2e-5, atol=2e-4)
    assert len(got.cores[0].records) == 4  # one allocation a grid
    assert got.profile.sbuf_peak_B == 4 * 4 * (256 + 1024) + 2 * 4 * 1024  # of a partition
    assert float(got.time_s) > 0


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda x: nl.tiles(x, tile_shape=(128,)), ValueError, "two dimensions"),
        (lambda x: nl.tiles(x, tile_shape=(True, 4)), TypeError, "whole numbers"),
        (lambda x: nl.tiles(x, tile_shape=[4, 4]), TypeError, "tuple"),
        (lambda x: nl.tiles(x, tile_shape=(0, 4)), ValueError, "from 1 on"),
        (lambda x: nl.tiles(x, tile_shape=(1, 4, 4)), ValueError, "at most the 2"),
        (lambda x: nl.tiles(x), ValueError, "tile_shape"),
        (lambda x: nl.tiles(3, tile_shape=(4, 4)), TypeError, "source"),
        (lambda x: nl.blocks(x, tile_shape=(4, 4), block_shape=(1, 1, 1)), ValueError, "block_shape"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[[0]], TypeError, "index of a grid"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[True, 0], TypeError, "index of a grid"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[...], TypeError, "index of a grid"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[9, 0], IndexError, "along dimension 0"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[0, 0, 0], IndexError, "3 indices"),
        (lambda x: nl.tiles(x, tile_shape=(4, 4))[0, ::-1], ValueError, "step"),
        (lambda x: nl.tiles(x, tile_shape=(4, 5))[:, ::3].data, NkiValidationError, "no access pattern"),
        (
            lambda x: nl.alloc_tiles(tile_shape=(4, 4), element_shape=(8, 8), buffer="sbuf", dtype=nl.float32),
            TypeError,
            "buffer",
        ),
        (lambda x: nisa.memset(nl.tiles(nl.load(x), tile_shape=(4, 4)), 0), NkiValidationError, r"\.data"),
    ],
)
def test_errors_of_grids_are_one_line_at_the_kernel(make: Any, error: type[Exception], said: str) -> None:
    def kernel(x: Any) -> Any:
        make(x)
        return x

    with pytest.raises(error, match=said) as found:
        mowich.run_kernel(kernel, np.zeros((16, 16), np.float32))
    assert isinstance(found.value, NkiValidationError)
    assert "test_nki_0_7.py:" in str(found.value)


# loops and scalars of the device
# ----------------------------------------------------------------------------------------------------------------

TRACED: list[int] = []
ROW = [[512, 128], [1, 512]]


def add_rows(x: Any, count: Any) -> Any:
    out = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.shared_hbm)
    acc = nl.zeros((128, 512), dtype=nl.float32, buffer=nl.sbuf)
    n = nl.load(count)

    def body(i: Any) -> None:
        TRACED.append(1)
        row = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=row, src=x.ap(pattern=ROW, scalar_offset=i, indirect_dim=0))
        nisa.tensor_tensor(dst=acc, data1=acc, data2=row, op=nl.add)

    nl.fori_loop(0, nisa.scalar_load(n), body)
    nisa.dma_copy(dst=out, src=acc)
    return out


@pytest.mark.parametrize(("target", "turns"), [("trn1", 1), ("trn2", 64), ("trn3", 0), ("trn3", 5)])
def test_a_loop_traces_its_body_once_and_runs_it_each_turn(target: str, turns: int) -> None:
    x = np.random.default_rng(0).integers(0, 9, (64, 128, 512)).astype(np.float32)
    TRACED.clear()
    got = mowich.run_kernel(add_rows, x, np.array([[turns]], np.int32), target=target)
    np.testing.assert_array_equal(got.outputs[0], x[:turns].sum(axis=0))
    assert TRACED == [1]
    names = [r.name for r in got.cores[0].trace.records]
    assert names.count("loop_turn") == names.count("tensor_tensor") == turns
    lines = {r.line for r in got.cores[0].trace.records if r.name == "tensor_tensor"}
    assert len(lines) == min(turns, 1)  # the line of the body, in every turn
    assert len([r for r in got.cores[0].records if r.shape == (128, 512)]) <= 2  # one row for all turns
    assert float(got.time_s) > 0


N, WIDE = 16, [[2048, 128], [1, 2048]]


def one_row(x: Any, out: Any, i: Any) -> None:
    t = nl.ndarray((128, 2048), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=t, src=x[i] if isinstance(i, int) else x.ap(WIDE, scalar_offset=i, indirect_dim=0))
    nisa.activation(dst=t, op=nl.exp, data=t)
    nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out[i] if isinstance(i, int) else out.ap(WIDE, scalar_offset=i, indirect_dim=0), src=t)


def rows_of(how: str) -> Any:
    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        if how == "unrolled":
            for i in range(N):
                one_row(x, out, i)
        elif how == "one":
            nl.fori_loop(0, N, lambda i: one_row(x, out, i))
        else:

            def four(i: Any) -> None:
                for j in range(4):
                    one_row(x, out, i * 4 + j)

            nl.fori_loop(0, N // 4, four)
        return out

    return kernel


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_turns_end_with_a_barrier_and_do_not_overlap(target: str) -> None:
    """Published, trn1, NKI 0.6: 7.5 us a tile unrolled, 17.9 as one a turn, 10.2 as four a turn."""
    x = np.random.default_rng(0).random((N, 128, 2048), np.float32)
    took = {}
    for how in ("unrolled", "four", "one"):
        result = mowich.run_kernel(rows_of(how), mowich.nki.hollow(x.shape, "float32"), values=False, target=target)
        took[how] = float(result.time_s)
    assert took["one"] > 1.15 * took["four"] > 1.3 * took["unrolled"]
    if target == "trn1":
        assert 2 < took["one"] / took["unrolled"] < 3
    made, trace = result.schedule, result.cores[0].trace
    spans: list[list[tuple[int, int]]] = [[]]
    for i, origin in enumerate(made.programs[0].origin):
        if origin >= 0:
            if trace.kinds[trace.kind[origin]].name == "loop_turn":
                spans += [[(made.begin[i], made.end[i])], []]
            else:
                spans[-1].append((made.begin[i], made.end[i]))
    assert len(spans) == 2 * N + 1
    for before, after in itertools.pairwise(filter(None, spans)):
        assert max(end for _, end in before) <= min(begin for begin, _ in after)
    if target == "trn3":
        got = mowich.run_kernel(rows_of("four"), x, timed=False).outputs[0]
        np.testing.assert_allclose(got, 2 * np.exp(x), rtol=1e-6)


def test_a_while_loop_counts_down_zero_times_and_five() -> None:
    def kernel(x: Any, count: Any) -> Any:
        acc, n = nl.load(x), nl.load(count)
        left = nisa.register_alloc()
        nisa.register_load(left, n)

        def body(r: Any) -> Any:
            TRACED.append(1)
            nisa.tensor_scalar(dst=acc, data=acc, op0=nl.add, operand0=1.0)
            nisa.register_store(n, r - 1)
            following = nisa.register_alloc()
            nisa.register_load(following, n)
            return following

        nl.while_loop(left, body)
        return returned(acc, n)

    for turns in (0, 5):
        TRACED.clear()
        got = mowich.run_kernel(kernel, np.zeros((4, 4), np.float32), np.array([[turns]], np.int32), timed=False)
        assert (got.outputs[0] == turns).all()
        assert got.outputs[1] == 0
        assert TRACED == [1]


@settings(max_examples=20)
@given(outer=st.integers(0, 4), inner=st.integers(0, 3), grows=st.booleans())
def test_loops_in_loops(outer: int, inner: int, grows: bool) -> None:
    """The bounds of the inner one are read anew in each turn."""

    def kernel(x: Any) -> Any:
        acc = nl.zeros((1, 1), dtype=nl.float32, buffer=nl.sbuf)

        def add(i: Any, j: Any) -> None:
            one = nl.ndarray((1, 1), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=one, src=x.ap([[1, 1], [1, 1]], scalar_offset=i * 8 + j, indirect_dim=1))
            nisa.tensor_tensor(dst=acc, data1=acc, data2=one, op=nl.add)

        nl.fori_loop(0, outer, lambda i: nl.fori_loop(0, i + inner if grows else inner, lambda j: add(i, j)))
        return returned(acc)

    x = np.arange(64, dtype=np.float32).reshape(1, 64)
    expected = sum(i * 8 + j for i in range(outer) for j in range(i + inner if grows else inner))
    for target, warned in (("trn1", 1), ("trn3", 0)):
        result = mowich.run_kernel(kernel, x, timed=False, target=target)
        assert result.outputs[0] == expected
        assert sum("within another" in w for w in result.warnings) == warned


@settings(max_examples=40)
@given(st.data())
def test_arithmetic_of_scalars_wraps_at_their_width(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from((32, 64)))
    kind = {32: np.int32, 64: np.int64}[bits]
    edge = st.sampled_from((0, 1, -1, 100000, 2**31 - 1, -(2**31), 2 ** (bits - 1) - 1))
    a, b = data.draw(edge), data.draw(edge)
    text = data.draw(st.sampled_from(("a + b", "a - b", "a * b", "-a", "3 - a", "a * 4 + 1", "b + (a - 7) * b")))

    def kernel(x: Any) -> Any:
        out = nl.ndarray((1, 1), dtype=x.dtype, buffer=nl.shared_hbm)
        made = eval(text, {"a": nisa.scalar_load(x[0:1, 0:1]), "b": nisa.scalar_load(x[0:1, 1:2])})
        nisa.scalar_store(out, made)
        return out

    exact = eval(text, {"a": a, "b": b})
    got = mowich.run_kernel(kernel, np.array([[a, b]], kind), timed=False).outputs[0]
    assert got.dtype == kind
    assert int(got[0, 0]) == (exact + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def test_rows_by_a_scalar_of_either_width() -> None:
    def kernel(x: Any, at: Any) -> Any:
        row = nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=row, src=x.ap(ROW, scalar_offset=nisa.scalar_load(at), indirect_dim=0))
        return returned(row)

    x = np.random.default_rng(0).random((8, 128, 512), np.float32)
    for kind in (np.int32, np.int64):
        got = mowich.run_kernel(kernel, x, np.array([[5]], kind))
        np.testing.assert_array_equal(got.outputs[0], x[5])
        assert float(got.time_s) > 0


def one(kind: Any = nl.int32, buffer: Any = nl.sbuf) -> Any:
    t = nl.ndarray((1, 1), dtype=kind, buffer=buffer)
    nisa.memset(t, 3)
    return t


def scalar(kind: Any = nl.int32) -> Any:
    return nisa.scalar_load(one(kind))


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "if": (lambda x: bool(scalar() == 3), TypeError, "no value"),
    "int": (lambda x: int(scalar()), TypeError, "no value"),
    "range": (lambda x: range(scalar()), TypeError, "no value"),
    "slice": (lambda x: x[scalar() :], TypeError, "no value"),
    "index": (lambda x: x[scalar()], TypeError, "no value"),
    "shape": (lambda x: nl.zeros((scalar(), 4), nl.float32, nl.sbuf), TypeError, "no value"),
    "modulo": (lambda x: scalar() % 2, TypeError, "no operator %"),
    "floor": (lambda x: 2 // scalar(), TypeError, "no operator //"),
    "shift": (lambda x: scalar() << 1, TypeError, "no operator <<"),
    "float": (lambda x: scalar() * 1.5, TypeError, "float"),
    "literal": (lambda x: scalar() + 2**31, TypeError, "its width"),
    "mixed": (lambda x: scalar() + scalar(nl.int64), TypeError, "one format"),
    "wide comparison": (lambda x: scalar(nl.int64) < 3, TypeError, "64 bits"),
    "comparison used": (lambda x: (scalar() < 3) + 1, TypeError, "cannot be used"),
    "unsigned": (lambda x: nisa.scalar_load(one(nl.uint32)), NkiValidationError, "int32, int64"),
    "psum": (lambda x: nisa.scalar_load(one(buffer=nl.psum)), NkiValidationError, "PSUM"),
    "two": (lambda x: nisa.scalar_load(nl.zeros((1, 2), nl.int32, nl.sbuf)), NkiValidationError, "one element"),
    "store width": (lambda x: nisa.scalar_store(one(nl.int64), scalar()), NkiValidationError, "NkiScalar of int64"),
    "store int": (lambda x: nisa.scalar_store(one(), 3), NkiValidationError, "given an? |got 'int'"),
    "wide bound": (lambda x: nl.fori_loop(0, scalar(nl.int64), print), NkiValidationError, "32 bits"),
    "compared bound": (lambda x: nl.fori_loop(0, scalar() < 3, print), NkiValidationError, "32 bits"),
    "tile bound": (lambda x: nl.fori_loop(0, one(), print), NkiValidationError, "32 bits"),
    "step": (lambda x: nl.fori_loop(0, 3, print, -1), NkiValidationError, "from 1 on"),
    "wide on chip": (
        lambda x: nl.load(x).ap([[16, 16], [1, 1]], scalar_offset=scalar(nl.int64), indirect_dim=1),
        NkiValidationError,
        "scalar of int32",
    ),
    "wide compute": (lambda x: nisa.tensor_copy(dst=one(nl.int64), src=one(nl.int64)), NkiValidationError, "64 bits"),
    "wide memset": (lambda x: nisa.memset(nl.ndarray((1, 2), nl.int64, nl.sbuf), 0), NkiValidationError, "64 bits"),
    "loop value": (lambda x: nl.fori_loop(0, 3, lambda i: 3), NkiValidationError, "returns a value"),
    "index in if": (lambda x: nl.fori_loop(0, 3, lambda i: i == 0 or None), TypeError, "no value"),
    "index in range": (lambda x: nl.fori_loop(0, 3, lambda i: list(range(i))[9:] or None), TypeError, "no value"),
    "no condition": (
        lambda x: nl.while_loop(nisa.register_alloc(1), lambda r: None),
        NkiValidationError,
        "no condition",
    ),
    "error in no turn": (
        lambda x: nl.fori_loop(0, 0, lambda i: nisa.tensor_copy(dst=one(), src=x) and None),
        NkiValidationError,
        "must be in",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_scalar_or_a_loop_cannot_do(name: str) -> None:
    call, error, said = REFUSED[name]

    def kernel(x: Any) -> Any:
        call(x)
        return returned(nl.load(x))

    with pytest.raises(error, match=said) as found:
        mowich.run_kernel(kernel, np.zeros((16, 16), np.float32), nki="0.7")
    assert isinstance(found.value, NkiValidationError)
    assert "test_nki_0_7.py:" in str(found.value)


def test_what_a_body_allocates_ends_with_the_loop() -> None:
    def kernel(x: Any, inside: bool) -> Any:
        held = []

        def body(i: Any) -> None:
            held.append(nl.load(x))
            nisa.tensor_scalar(dst=held[0], data=held[0], op0=nl.add, operand0=1.0)
            with nl.no_reorder():
                nisa.dma_copy(dst=x, src=held[0])

        with nl.no_reorder() if inside else contextlib.nullcontext():
            nl.fori_loop(0, 2, body)
        return returned(held[0])

    x = np.zeros((4, 4), np.float32)
    with pytest.raises(NkiValidationError, match="outside of it"):
        mowich.run_kernel(kernel, x, False)
    with pytest.raises(NkiValidationError, match="no_reorder"):
        mowich.run_kernel(kernel, x, True)


def test_the_cores_of_a_logical_core_make_the_same_turns() -> None:
    def kernel(x: Any, differ: bool) -> Any:
        me = nl.program_id(0)
        t = nl.load(x)
        nl.fori_loop(0, 2 + me * differ, lambda i: nisa.tensor_scalar(dst=t, data=t, op0=nl.add, operand0=1.0) and None)
        out = nl.ndarray((2, 4, 4), dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out[me], src=t)
        return out

    x = np.zeros((4, 4), np.float32)
    assert (mowich.run_kernel(kernel, x, False, lnc=2).outputs[0] == 2).all()
    with pytest.raises(NkiValidationError, match="different numbers of turns"):
        mowich.run_kernel(kernel, x, True, lnc=2)


def test_a_bound_from_data_has_no_time_without_values() -> None:
    x, n = (mowich.nki.hollow(s, d) for s, d in (((64, 128, 512), "float32"), ((1, 1), "int32")))
    with pytest.raises(UserError, match="control flow that reads data"):
        mowich.run_kernel(add_rows, x, n, values=False)


# collectives in two halves, and of different sizes
# ----------------------------------------------------------------------------------------------------------------

RANKS = 4


def held(*shape: int, kind: Any = nl.float32) -> Any:
    return nl.ndarray(shape, dtype=kind, buffer=nl.private_hbm)


def exchanged(x: Any, table: Any, steps: str) -> Any:
    """all_to_all_v of x [4, 8] by "whole", or by the halves that the letters name: p, t of all_to_all_v, P, T of
    all_gather_v, f fills what is sent."""
    send, got, meta, out = held(RANKS, 8), held(RANKS, RANKS * 8), held(3, RANKS, kind=nl.uint32), None
    out = nl.ndarray((RANKS, RANKS * 8), dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=meta, src=table)
    zero = nl.zeros((RANKS, RANKS * 8), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=got, src=zero)
    how: dict[str, Any] = {"srcs": [send], "dsts": [got], "replica_group": [[*range(RANKS)]], "metadata_tensor": meta}
    prepared: Any = None
    for step in steps if steps != "whole" else "fw":
        if step == "f":
            nisa.dma_copy(dst=send, src=x)
        elif step == "w":
            assert isinstance(ncc.all_to_all_v(**how), nisa.NkiInstruction)
        elif step in "pP":
            prepared = (ncc.all_to_all_v_prepare if step == "p" else ncc.all_gather_v_prepare)(**how)
        else:
            (ncc.all_to_all_v_trigger if step == "t" else ncc.all_gather_v_trigger)(prepared)
    nisa.dma_copy(dst=out, src=got)
    counts = nl.ndarray((3, RANKS), dtype=nl.uint32, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=counts, src=meta)
    return out, counts


def of_ranks(steps: str) -> list[dict[str, Any]]:
    """Rank r sends r + d + 1 elements to rank d, from element 8 d on."""
    return [
        {
            "x": np.arange(32, dtype=np.float32).reshape(4, 8) + 100 * r,
            "table": np.array([[r + d + 1 for d in range(4)], [8 * d for d in range(4)], [0] * 4], np.uint32),
            "steps": steps,
        }
        for r in range(RANKS)
    ]


def test_halves_of_an_exchange_are_the_whole() -> None:
    whole, halves = (mowich.nki.simulate_ranks(exchanged, of_ranks(steps)) for steps in ("whole", "pft"))
    for r, ((a, counts), (b, same)) in enumerate(zip(whole, halves, strict=True)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(counts, same)
        assert counts[2].tolist() == [s + r + 1 for s in range(RANKS)]
        for s in range(RANKS):
            piece = a.reshape(RANKS, -1)[s, : s + r + 1]
            np.testing.assert_array_equal(piece, 100 * s + 8 * r + np.arange(s + r + 1))
    given = of_ranks("pft")[0]
    made = mowich.run_kernel(exchanged, given["x"], given["table"], "pft", target="trn2", ranks=RANKS)
    names = [(r.flags or {}).get("kind") for r in made[0].cores[0].trace.records if r.name == "collective"]
    assert names == ["all_to_all_v_prepare", "all_to_all_v_trigger"]
    other = mowich.run_kernel(exchanged, given["x"], given["table"], "whole", target="trn2", ranks=RANKS)
    assert float(made[0].time_s) < float(other[0].time_s)  # the set-up runs beside what fills the tensor


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("ppt", "while another prepare waits"),
        ("pPt", "while another prepare waits"),
        ("pftt", "none waits"),
        ("pfT", "all_gather_v_trigger without its prepare"),
        ("ft", "none waits"),
        ("pf", "prepare without its trigger"),
    ],
)
def test_one_trigger_after_each_prepare(steps: str, said: str) -> None:
    with pytest.raises(NkiValidationError, match=said):
        mowich.nki.simulate_ranks(exchanged, of_ranks(steps))


def test_no_halves_on_switched_chips_and_whole_slots() -> None:
    with pytest.raises(NkiValidationError, match="NeuronSwitch"):
        mowich.run_kernel(exchanged, system="trn3-gen2", inputs=of_ranks("pft"))
    with pytest.raises(NkiValidationError, match=r"NKI 0\.6 was asked for"):
        mowich.run_kernel(exchanged, system="trn2", inputs=of_ranks("pft"), nki="0.6")

    def short(x: Any) -> Any:
        how: dict[str, Any] = {"replica_group": [[0, 1]], "metadata_tensor": held(3, 2, kind=nl.uint32)}
        ncc.all_to_all_v_prepare(srcs=[held(2, 4)], dsts=[held(1, 15)], **how)
        return x

    with pytest.raises(NkiValidationError, match=r"slot of the size of src.*got '15 elements'; allowed: 2 x 8"):
        mowich.nki.simulate_ranks(short, [(np.zeros((1, 4), np.float32),)] * 2)


def test_reduce_scatter_v_adds_the_pieces_for_a_rank() -> None:
    def kernel(x: Any, table: Any) -> Any:
        send, got, meta = held(1, 32), held(1, 8), held(3, RANKS, kind=nl.uint32)
        nisa.dma_copy(dst=meta, src=table)
        nisa.dma_copy(dst=send, src=x)
        nisa.dma_copy(dst=got, src=nl.zeros((1, 8), dtype=nl.float32, buffer=nl.sbuf))
        ncc.reduce_scatter_v([send], [got], [[0, 1, 2, 3]], meta, nl.add)
        out = nl.ndarray((1, 8), dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=got)
        return out

    table = np.array([[d + 1 for d in range(4)], [8 * d for d in range(4)], [0] * 4], np.uint32)
    xs = [np.arange(32, dtype=np.float32).reshape(1, 32) * (r + 1) for r in range(RANKS)]
    found = mowich.nki.simulate_ranks(kernel, [(x, table) for x in xs], lnc=2)
    for d, out in enumerate(found):
        assert out[0].tolist() == [10.0 * (8 * d + e) for e in range(d + 1)] + [0.0] * (7 - d)
    with pytest.raises(NkiValidationError, match="4 ranks of two cores"):
        mowich.nki.simulate_ranks(kernel, [(x, table) for x in xs], lnc=1)


# cores of a logical core, and the version of the interface
# ----------------------------------------------------------------------------------------------------------------


@nki.jit
def programs(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    t = nl.load(x)
    nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=float(nl.num_programs(0)))
    nisa.dma_copy(dst=out, src=t)
    return out


def test_kernel_and_compiler_have_the_same_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((4, 4), np.float32)
    for cores in (1, 2):
        monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", str(cores))
        assert (programs(x) == cores).all()
        assert (programs[3 - cores](x) == 3 - cores).all()  # brackets come first
        monkeypatch.setenv("NEURON_CC_FLAGS", f"--model-type=transformer --lnc={3 - cores}")
        with pytest.raises(NkiValidationError, match=f"NCC_EVRF066: .* programs has {cores} core.* {3 - cores}"):
            programs(x)
        assert (programs[3 - cores](x) == 3 - cores).all()
        with pytest.raises(NkiValidationError, match="NCC_EVRF066"):
            programs[cores](x)
        monkeypatch.delenv("NEURON_CC_FLAGS")
    with pytest.raises(NkiValidationError, match="NCC_EVRF066"):
        mowich.run_kernel(programs[1], x, lnc=2)
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "3")
    with pytest.raises(UserError, match="1 or 2"):
        programs(x)


def test_a_kernel_in_a_graph_takes_one_core_and_its_compiler_two(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=nl.tiles(out, tile_shape=(4, 4)).data, src=x)
        return out

    def in_graph(kernel: Any) -> Any:
        """As a framework asks for the shapes of its outputs while it compiles."""
        return kernel._value((mowich.nki.hollow((4, 4), "float32"),), {}, values=False)

    kernel = nki.jit(copied)
    for target, refused in (("trn1", False), ("trn2", True), ("trn3", True)):
        monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
        with pytest.raises(NkiValidationError, match="NCC_EVRF066") if refused else contextlib.nullcontext():
            assert in_graph(kernel).shape == (4, 4)
    assert in_graph(kernel[2]).shape == (4, 4)
    assert in_graph(nki.jit(programs.func)).shape == (4, 4)  # of no version: unchecked before 0.7
    monkeypatch.setenv("NEURON_CC_FLAGS", "--lnc=1")
    assert in_graph(kernel).shape == (4, 4)
    monkeypatch.delenv("NEURON_CC_FLAGS")
    for flags in ("", "--lnc=1", "--lnc=2"):  # one compiler makes a graph: its kernels have the same degree
        monkeypatch.setenv("NEURON_CC_FLAGS", flags)
        taken = set()
        for cores, launched in ((1, kernel), (1, kernel[1]), (2, kernel[2])):
            with contextlib.suppress(NkiValidationError):
                in_graph(launched)
                taken.add(cores)
        assert taken == ({1} if flags == "--lnc=1" else {2}), flags
    monkeypatch.delenv("NEURON_CC_FLAGS")
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "2")
    assert in_graph(kernel).shape == (4, 4)


def uses_scalars(x: Any) -> Any:
    nisa.scalar_load(nl.zeros((1, 1), nl.int32, nl.sbuf))
    return returned(nl.load(x))


def uses_registers(x: Any) -> Any:
    if nisa.register_alloc(1):
        for _ in nl.dynamic_range(2):
            pass
    return returned(nl.load(x))


def helped(x: Any) -> Any:
    return uses_scalars(x)


def test_no_module_is_asked_for_a_name_that_a_kernel_does_not_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a module answers to an unknown name, with the nearest ones, takes longer than a small kernel."""
    for module in (nki, nisa, nl):
        monkeypatch.setattr(module, "__getattr__", pytest.fail)

    @nki.jit
    def kernel(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=x)
        return out

    assert not kernel.is_traced()


def test_the_version_is_that_of_the_names_or_the_one_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.ones((4, 4), np.float32)
    assert (nki.Kernel(uses_scalars).is_traced(), nki.Kernel(helped).is_traced()) == (True, True)
    assert not nki.Kernel(uses_registers).is_traced()
    mowich.run_kernel(uses_registers, x)
    for kernel in (uses_scalars, helped):
        mowich.run_kernel(kernel, x)
        with pytest.raises(NkiValidationError, match=r"py:\d+: nki.isa.scalar_load is of NKI 0.7, and NKI 0.6 was"):
            mowich.run_kernel(kernel, x, nki="0.6")
    with pytest.raises(NkiValidationError, match="no value while a kernel is traced"):
        mowich.run_kernel(uses_registers, x, nki="0.7")
    for frontend, ok in (("parser", False), ("custom", False), ("tracer", True)):
        monkeypatch.setenv("NKI_COMPILER_FRONTEND", frontend)
        with contextlib.nullcontext() if ok else pytest.raises(NkiValidationError, match=frontend):
            mowich.run_kernel(uses_scalars, x)
        with pytest.raises(NkiValidationError) if ok else contextlib.nullcontext():
            mowich.run_kernel(uses_registers, x)
    monkeypatch.setenv("NKI_COMPILER_FRONTEND", "other")
    with pytest.raises(UserError, match="custom, parser, tracer"):
        mowich.run_kernel(uses_scalars, x)
    monkeypatch.delenv("NKI_COMPILER_FRONTEND")
    file = tmp_path / "k.py"
    file.write_text(
        "import nki, nki.isa as nisa, nki.language as nl\n\n@nki.jit\ndef k(x):\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n"
        "    for i in nl.affine_range(2):\n"
        "        for j in nl.affine_range(2):\n"
        "            nisa.dma_copy(dst=out, src=nl.tiles(x, tile_shape=(4, 4)).data)\n"
        "    return out\n"
    )
    words = ["kernel", "run", str(file), "-k", "k", "x=float32[4,4]"]
    assert cli.run(words) == 0
    warned = mowich.run_kernel(mowich.load_kernel(file), x).warnings
    assert [w.partition(": ")[2] for w in warned] == ["nl.affine_range is deprecated in NKI 0.7: range does the same"]
    assert cli.run([*words, "--nki", "0.7"]) == 0
    capsys.readouterr()
    assert cli.run([*words, "--nki", "0.6"]) == 2
    assert "k.py:8: nki.language.tiles is of NKI 0.7, and NKI 0.6 was asked for" in capsys.readouterr().err
    assert cli.run(["kernel", "profile", str(file), "-k", "k", "x=float32[4,4]", "--nki", "0.6", "--json"]) == 2
    both = ["kernel", "diff", str(file), str(file), "-k", "k", "x=float32[4,4]"]
    assert [cli.run([*both, "--nki", version]) for version in ("0.7", "0.6")] == [0, 2]
    assert cli.run(["kernel", "diff", str(tmp_path), str(tmp_path), "--nki", "0.7"]) == 2
    assert "--nki: goes with two FILE.py" in capsys.readouterr().err
    asked = asks.KernelProfile(source=file.read_text(), kernel="k", nki="0.7")
    assert kernels._options(asked) == ["--nki", "0.7"]


# signatures
# ----------------------------------------------------------------------------------------------------------------

ARGUMENTS = Path(__file__).resolve().parents[1] / "fixtures" / "nki_0_6_arguments.txt"
"""Arguments of each function in the stubs of NKI 0.6 (aws-neuron-sdk, 81ce03ae)."""
LATER = {"isa.topk": ["sorted"]}
"""Arguments that 0.7 added."""


def test_signatures_are_those_of_the_interface() -> None:
    modules = {"isa": nisa, "language": nl, "collectives": ncc}
    for line in ARGUMENTS.read_text(encoding="utf-8").splitlines():
        name, *arguments = line.split()
        module, _, function = name.partition(".")
        found = inspect.signature(getattr(modules[module], function)).parameters
        assert [n for n in found if n not in LATER.get(name, ())] == arguments, name


def test_arguments_of_older_kernels_are_taken_and_not_shown() -> None:
    def kernel(x: Any) -> Any:
        t = nl.load(x)
        nisa.tensor_scalar(dst=t, data=t, op0=nl.multiply, operand0=2.0, dtype=nl.float32)  # type: ignore[call-arg]
        nisa.dma_copy(dst=x, src=t, unique_indices=True)
        return returned(t)

    assert (mowich.run_kernel(kernel, np.ones((4, 4), np.float32)).outputs[0] == 2).all()
    assert "dtype" not in inspect.signature(nisa.tensor_scalar).parameters

    def wrong(x: Any) -> Any:
        nisa.tensor_copy(dst=nl.load(x), scr=x, dtype=nl.float32)
        return x

    with pytest.raises(NkiValidationError, match=r"no argument 'scr'.*allowed: dst .*, src .*, engine, name;"):
        mowich.run_kernel(wrong, np.ones((4, 4), np.float32))


def test_a_kernel_within_another_is_compiled_as_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = nki.compiler.CompileConfig
    inner = nki.jit(compile_config=config(dead_code_elim=True))(lambda x: returned(nl.load(x)))
    x = np.ones((4, 4), np.float32)

    def outer(x: Any) -> Any:
        return inner(x)

    for how in ({}, {"compile_config": config()}):
        with pytest.raises(NkiValidationError, match="another compile_config"):
            nki.jit(**how)(outer)(x)
    assert (nki.jit(compile_config=config(dead_code_elim=True))(outer)(x) == 1).all()
    lenient = nki.compiler.SpecializationConfig(allow_nested_config_override=True)
    assert len(mowich.run_kernel(nki.jit(specialization_config=lenient)(outer), x).warnings) == 1
    assert config().address_rotation is nki.compiler.AddressRotation.AUTO
    monkeypatch.setenv("NKI_PREFETCH_RING_SIZE", "4")
    with pytest.raises(UserError, match="one of the two"):
        config(prefetch_auto=True)
