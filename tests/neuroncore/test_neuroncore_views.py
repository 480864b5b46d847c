"""Views and access patterns against NumPy (property tests), on chip and in HBM, with and without an address."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.neuroncore import core as machine
from mowich.neuroncore import dtypes, placement
from mowich.neuroncore.access import read_tile, tile_elements, write_tile
from mowich.neuroncore.core import Core, NkiValidationError
from mowich.neuroncore.instructions import vector
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import Tile


def tile(shape, region=MemoryRegion.sbuf, address=None, dtype=dtypes.int32) -> tuple[Tile, np.ndarray]:
    """A tile that counts its elements, and the same in NumPy."""
    core = Core(4, record=False)
    machine.set_current(core)
    t = placement.allocate(core, shape, dtype, region, address=address)
    a = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype.dtype)
    write_tile(t, a)
    return t, a


@pytest.fixture(autouse=True)
def no_core():
    yield
    machine.set_current(None)


shapes = st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple)
places = st.sampled_from(
    [
        (MemoryRegion.sbuf, None),
        (MemoryRegion.sbuf, (32, 40)),
        (MemoryRegion.shared_hbm, None),
        (MemoryRegion.psum, (0, 64)),
    ]
)


@settings(max_examples=150, deadline=None)
@given(shapes, places, st.data())
def test_chains_of_views_equal_numpy(shape, place, data):
    t, a = tile(shape, *place)
    on_chip = t.on_chip
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["slice", "permute", "expand", "select", "index", "split", "broadcast"]))
        d = data.draw(st.integers(0, t.ndim - 1))
        n = t.shape[d]
        if kind == "slice":
            start = data.draw(st.integers(0, n - 1))
            end = data.draw(st.integers(start + 1, n))
            step = data.draw(st.integers(1, 3))
            key = (slice(None),) * d + (slice(start, end, step),)
            t, a = (t.slice(d, start, end, step) if data.draw(st.booleans()) else t[key]), a[key]
        elif kind == "permute":
            order = data.draw(st.permutations(range(1, t.ndim) if on_chip else range(t.ndim)))
            order = [0, *order] if on_chip else list(order)
            t, a = t.permute(order), a.transpose(order)
        elif kind == "expand" and t.ndim < 6:
            d = data.draw(st.integers(1 if on_chip else 0, t.ndim))
            t, a = t.expand_dim(d), np.expand_dims(a, d)
        elif kind == "select" and t.ndim > 2 and (d > 0 or not on_chip):
            i = data.draw(st.integers(0, n - 1))
            t, a = t.select(d, i), a.take(i, axis=d)
        elif kind == "index" and t.ndim > 2 and (d > 0 or not on_chip):
            i = data.draw(st.integers(-n, n - 1))
            key = (slice(None),) * d + (i,)
            t, a = t[key], a[key]
        elif kind == "split" and d > 0 and n % 2 == 0:
            t, a = t.reshape_dim(d, (2, -1)), a.reshape(*a.shape[:d], 2, n // 2, *a.shape[d + 1 :])
        elif kind == "broadcast" and d > 0 and n == 1:
            t, a = t.broadcast(d, 3), np.broadcast_to(a, (*a.shape[:d], 3, *a.shape[d + 1 :]))
    assert t.shape == a.shape
    assert np.array_equal(tile_elements(t), a)


@settings(max_examples=150, deadline=None)
@given(shapes, places, st.data())
def test_reshape_is_a_view_or_an_error_never_other_values(shape, place, data):
    t, a = tile(shape, *place)
    if data.draw(st.booleans()):
        order = data.draw(st.permutations(range(1, t.ndim)))
        t, a = t.permute([0, *order]), a.transpose([0, *order])
    flat = a.shape[0], int(np.prod(a.shape[1:]))
    try:
        r = t.reshape(flat)
    except NkiValidationError:
        assert not a.flags.c_contiguous
        return
    assert np.array_equal(tile_elements(r), a.reshape(flat))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(2, 24), st.sampled_from([None, (64, 8)]), st.data())
def test_access_patterns_equal_as_strided(p, f, address, data):
    t, a = tile((p, f), MemoryRegion.sbuf, address)
    start = data.draw(st.integers(0, f - 1))
    inner = data.draw(st.integers(1, 3))
    count = data.draw(st.integers(1, max(1, (f - 1 - start) // inner + 1)))
    got = tile_elements(t.ap([[f, p], [0, 2], [inner, count]], offset=start))
    want = np.broadcast_to(a[:, None, start : start + (count - 1) * inner + 1 : inner], (p, 2, count))
    assert np.array_equal(got, want)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 6), st.sampled_from([dtypes.uint8, dtypes.int16, dtypes.float32, dtypes.bfloat16])
)
def test_view_as_another_dtype_equals_numpy(p, f, dtype):
    t, a = tile((p, 4 * f))
    assert np.array_equal(tile_elements(t.view(dtype)).view(np.uint8), a.view(dtype.dtype).view(np.uint8))
    assert np.array_equal(tile_elements(t.view(dtype).view(dtypes.int32)), a)


def test_rearrange_splits_orders_and_merges():
    t, a = tile((4, 24))
    assert np.array_equal(
        tile_elements(t.rearrange(("b", ("h", "w")), ("b", "w", "h"), {"h": 4})), a.reshape(4, 4, 6).transpose(0, 2, 1)
    )


def test_an_integer_index_keeps_the_partition_dimension():
    t, a = tile((4, 3, 2))
    assert t[2].shape == (1, 3, 2)
    assert t[:, 1].shape == (4, 2)
    assert t[:, 1, 0].shape == (4, 1)
    assert np.array_equal(tile_elements(t[1:3, ..., 1]), a[1:3, ..., 1])


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: t[0:5],
        lambda t: t[:, 9],
        lambda t: t.slice(1, 0, 9),
        lambda t: read_tile(t.ap([[8, 4], [1, 9]])),
        lambda t: tile_elements(t.ap([[8, 5], [1, 8]])),
        lambda t: write_tile(t.ap([[8, 4], [1, 8]], offset=1), 0),
    ],
)
def test_leaving_a_tile_is_an_error_with_the_kernels_line(bad):
    t, _ = tile((4, 8))
    with pytest.raises(NkiValidationError, match=r"test_neuroncore_views\.py:\d+: .*(out-of-bounds|past the end)"):
        bad(t)


def test_an_empty_slice_is_a_view_that_no_instruction_takes():
    """A core whose share of the rows is none makes such views and uses none of them."""
    t, _ = tile((4, 8))
    assert t[:, 3:3].shape == (4, 0)
    with pytest.raises(NkiValidationError, match="is empty"):
        vector.tensor_copy(t[:, 3:3], t[:, 5:5])
    with pytest.raises(NkiValidationError, match="backward slice"):
        t[:, 4:3]


def test_the_base_of_a_view_is_its_allocation():
    t, a = tile((4, 8))
    base = t.view(dtypes.int8)[:, 4:12].base_tensor
    assert (base.shape, base.dtype) == (t.shape, t.dtype)
    assert np.array_equal(tile_elements(base), a)


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_dots_new_axes_and_arrays_choose_what_numpy_chooses(shape, data):
    """Slices, new axes and dots at any place, and one array of rows in arithmetic order among them."""
    t, a = tile(shape, MemoryRegion.shared_hbm)
    keys = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        keys.append(slice(start, data.draw(st.integers(start + 1, n)), data.draw(st.sampled_from([None, 1, 2]))))
    d = data.draw(st.integers(0, len(shape) - 1))
    kind = data.draw(st.sampled_from(["new axis", "array", "neither"]))
    if kind == "array":  # NumPy puts the dimensions of an array elsewhere where it does not come first
        step = data.draw(st.integers(0, max(0, shape[0] - 1) // 2))
        keys[0] = np.arange(3).reshape(data.draw(st.sampled_from([(3,), (3, 1), (1, 3)]))) * step
        d = max(d, 1)
    if data.draw(st.booleans()):
        keys[d:] = [...]
    if kind == "new axis":
        keys.insert(data.draw(st.integers(0, len(keys))), None)
    got, want = t[tuple(keys)], a[tuple(keys)]
    assert got.shape == want.shape
    assert np.array_equal(tile_elements(got), want)
