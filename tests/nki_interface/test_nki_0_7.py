"""NKI 0.7 (Neuron 2.33): what its pages say, each by a small kernel with values, time and errors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.core import NkiValidationError

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
