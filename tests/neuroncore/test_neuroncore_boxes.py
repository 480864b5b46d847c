"""Affine boxes and what instructions reach through an access, against NumPy: drawn slices, steps, arrays of indices and
masks, in every memory, with and without an address."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.neuroncore import core as machine
from mowich.neuroncore import dtypes, placement
from mowich.neuroncore.access import (
    element_places,
    of_view,
    read_tile,
    read_unchecked,
    scattered,
    view_like,
    write_tile,
    write_where,
)
from mowich.neuroncore.boxes import (
    AffineBox,
    aligned,
    box_ends,
    box_of,
    box_places,
    completed,
    reshaped,
    row_major,
    sliced,
)
from mowich.neuroncore.core import Core, NkiValidationError
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import Tile

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
LIES = st.sampled_from(
    [
        (MemoryRegion.sbuf, None),
        (MemoryRegion.sbuf, (32, 40)),
        (MemoryRegion.psum, (0, 64)),
        (MemoryRegion.shared_hbm, None),
    ]
)


@pytest.fixture(autouse=True)
def no_core() -> Iterator[None]:
    yield
    machine.set_current(None)


def drawn_box(data: Any) -> AffineBox:
    shape = data.draw(SHAPES)
    return AffineBox(shape, tuple(data.draw(st.integers(-9, 9)) for _ in shape), data.draw(st.integers(-50, 50)))


def said(box: AffineBox) -> np.ndarray:
    """The places of a box, one by one."""
    at = [box.offset + sum(i * s for i, s in zip(where, box.strides, strict=True)) for where in np.ndindex(*box.shape)]
    return np.array(at, np.int64).reshape(box.shape)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_box_is_its_places(data: Any) -> None:
    """Places, the ends of them, and the box that an array of places is; one place moved is a box no more."""
    box = drawn_box(data)
    every = said(box)
    assert np.array_equal(box_places(*box), every)
    assert box_ends(*box) == (every.min(), every.max())
    found = box_of(every)
    assert found is not None
    assert found.shape == box.shape
    assert np.array_equal(box_places(*found), every)
    if every.size > 3 and max(box.shape) > 2:
        axis = box.shape.index(max(box.shape))
        spoilt = every.copy()
        spoilt[tuple(-1 if d == axis else 0 for d in range(every.ndim))] += 1
        assert box_of(spoilt) is None


def drawn_key(data: Any, n: int) -> int | slice | None:
    kind = data.draw(st.sampled_from(["slice", "step", "one", "new"]))
    if kind == "one":
        return data.draw(st.integers(0, n - 1))
    if kind == "new":
        return None
    first = data.draw(st.integers(0, n - 1))
    return slice(first, data.draw(st.integers(first, n)), data.draw(st.integers(1, 3)) if kind == "step" else None)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_numbers_slices_and_new_axes_take_what_numpy_takes(data: Any) -> None:
    box = drawn_box(data)
    keys: list[Any] = []
    for n in box.shape:
        while (key := drawn_key(data, n)) is None:
            keys.append(None)
        keys.append(key)
    left = iter(box.shape)
    plain = [k if k is None or isinstance(k, int) else range(*k.indices(next(left))) for k in _with_sizes(keys, left)]
    found = sliced(plain, box.strides, box.offset)
    assert np.array_equal(box_places(*found), said(box)[tuple(keys)])


def _with_sizes(keys: list[Any], left: Iterator[int]) -> Iterator[Any]:
    """The keys; sizes of the dimensions that numbers take are passed over."""
    for k in keys:
        if isinstance(k, int):
            next(left)
        yield k


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_arrays_among_slices_choose_what_numpy_chooses(data: Any) -> None:
    """Arrays broadcast together; a slice of dimension 0 stays before them, the others come behind, as NumPy has it
    where the arrays follow one another."""
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
    first = data.draw(st.integers(0, min(1, len(shape) - 1)))
    last = data.draw(st.integers(first + 1, len(shape)))
    grid = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=2).map(tuple))
    keys: list[Any] = []
    for d, n in enumerate(shape):
        if first <= d < last:
            rank = data.draw(st.integers(0, len(grid)))
            dims = tuple(m if data.draw(st.booleans()) else 1 for m in grid[len(grid) - rank :])
            keys.append(np.array([data.draw(st.integers(0, n - 1)) for _ in range(math.prod(dims))]).reshape(dims))
        else:
            start = data.draw(st.integers(0, n - 1))
            keys.append(slice(start, data.draw(st.integers(start, n)), data.draw(st.sampled_from([None, 1, 2]))))
    every = np.arange(math.prod(shape)).reshape(shape)
    parts = [g * s for g, s in zip(aligned(keys, shape), row_major(shape), strict=True)]
    assert np.array_equal(sum(parts[1:], parts[0]), every[tuple(keys)])


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.data())
def test_dots_stand_for_the_dimensions_left_out(shape: tuple[int, ...], data: Any) -> None:
    every = np.arange(math.prod(shape)).reshape(shape)
    before = data.draw(st.integers(0, len(shape)))
    behind = data.draw(st.integers(0, len(shape) - before))
    keys: list[Any] = [np.array([0])] * before + [None]
    keys += [..., *[0] * behind] if data.draw(st.booleans()) else []
    assert np.array_equal(every[completed(tuple(keys), len(shape))], every[tuple(keys)])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_another_shape_walks_the_same_elements(data: Any) -> None:
    box = drawn_box(data)
    size = math.prod(box.shape)
    first = data.draw(st.sampled_from([k for k in range(1, size + 1) if size % k == 0]))
    wanted = (first, size // first)
    strides = reshaped(box.shape, box.strides, wanted)
    if strides is not None:
        assert np.array_equal(box_places(wanted, strides, box.offset), said(box).reshape(wanted))
    else:
        assert box_of(said(box).reshape(wanted)) is None


def tensor(shape: tuple[int, ...], lies: Any, is_written: bool) -> tuple[Tile, np.ndarray]:
    """A tile, and what it holds."""
    core = Core(4, record=False, strict=True)
    machine.set_current(core)
    t = placement.allocate(core, shape, dtypes.int32, lies[0], address=lies[1])
    a = np.arange(math.prod(shape), dtype=np.int32).reshape(shape) + 7
    if is_written:
        write_tile(t, a)
    return t, a


@settings(max_examples=80, deadline=None)
@given(LIES, st.tuples(st.integers(1, 6), st.integers(1, 6)), st.booleans(), st.booleans(), st.data())
def test_reads_and_writes_under_masks(lies: Any, shape: tuple[int, int], box: bool, written: bool, data: Any) -> None:
    """A box of a tile, or elements of it one by one: what a mask leaves in is written, the rest stays as it was; a
    read without mask wants all of it written."""
    t, a = tensor(shape, lies, written)
    held = a if written else np.full(shape, 0 if lies[1] else 4, np.int32)  # what nothing wrote
    if box:
        low = [data.draw(st.integers(0, n - 1)) for n in shape]
        key = tuple(slice(x, data.draw(st.integers(x + 1, n))) for x, n in zip(low, shape, strict=True))
        view = t[key]
    else:
        count = data.draw(st.integers(1, 5))
        key = tuple(np.array([data.draw(st.integers(0, n - 1)) for _ in range(count)]) for n in shape)
        if len({*zip(*(k.tolist() for k in key), strict=True)}) < count:
            return  # of two values for one element, the later stays: not what this is about
        view = scattered(t, t.offset + sum(k * s for k, s in zip(key, t.strides, strict=True)))
        assert of_view(view) is t
        assert view.describe() == t.describe()
    assert np.array_equal(element_places(view), element_places(t)[key])
    keep = np.array([data.draw(st.booleans()) for _ in range(view.size)]).reshape(view.shape)
    values = 100 + np.arange(view.size, dtype=np.int32).reshape(view.shape)
    write_where(view, values, keep)
    after = held.copy()
    after[key] = np.where(keep, values, held[key])
    assert np.array_equal(read_unchecked(view), after[key])
    assert np.array_equal(read_unchecked(t), after)
    if written or keep.all():
        assert np.array_equal(read_tile(view), after[key])
    else:
        with pytest.raises(NkiValidationError, match=r"uninitialised bytes of .* \((\d+)% of the elements"):
            read_tile(view)


@settings(max_examples=60, deadline=None)
@given(LIES.filter(lambda lies: lies[1] is None), st.data())
def test_a_pattern_is_outside_where_one_of_its_places_is(lies: Any, data: Any) -> None:
    t, a = tensor((4, 6), lies, True)
    strides = tuple(data.draw(st.integers(-7, 7)) for _ in range(2))
    view = view_like(
        t, data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))), strides, data.draw(st.integers(0, 30))
    )
    every = element_places(view)
    is_inside = bool(every.min() >= 0 and every.max() < a.size)
    assert view.fits() == is_inside
    if is_inside:
        assert np.array_equal(read_tile(view), a.reshape(-1)[every])
    else:
        with pytest.raises(NkiValidationError, match="out-of-bounds access"):
            read_tile(view)
