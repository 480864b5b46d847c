"""What an access of the older interface is to an instruction: a tile with partitions first, the box of the elements
that a mask leaves in, or rows that lie anywhere."""

from __future__ import annotations

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore.access import Dynamic, Scattered, element_places, storage_of, view_like
from mowich.neuroncore.boxes import box_of, sliced
from mowich.neuroncore.core import fail
from mowich.neuroncore.views import Tile, view_of


def index_of(t: Tile) -> Tile | None:
    """The tile of numbers that chose the elements of another when the instruction ran; None where there is none."""
    index = None if t.dynamic is None else t.dynamic.index
    return index if isinstance(index, Tile) else None


def partitions_first(t: Tile) -> Tile | None:
    """A box as an instruction takes it: on chip the first dimension is the partitions, and there is another one. None
    where one partition is repeated: no engine reads another one. Raises where another dimension comes first."""
    if not t.on_chip:
        return t
    row = t.row_elements
    if t.ndim == 1:
        is_row = t.strides[0] % row or (row == 1 and storage_of(t).parts == 1)
        shape, strides = ((1, t.shape[0]), (0, t.strides[0])) if is_row else ((t.shape[0], 1), (t.strides[0], 1))
        t = view_like(t, shape, strides, t.offset)
    if t.ndim == 0:
        t = view_like(t, (1, 1), (1, 1), t.offset)
    if t.shape[0] == 1 or (t.strides[0] and t.strides[0] % row == 0):
        return t
    if t.strides[0]:
        raise fail(
            "the first dimension of an operand is the partitions", tile=t, fix="index partitions first, or transpose"
        )
    return None


def touched(t: Tile, keep: Array | None) -> Tile | None:
    """What an access touches, as an instruction takes it: the box of the elements that a mask leaves in (None: all);
    None where there are none. Elements without a pattern are a view with an offset that is read at run time."""
    inner: tuple[slice, ...] = ()
    if keep is not None:
        if not keep.any():
            return None
        others = [tuple(a for a in range(keep.ndim) if a != d) for d in range(keep.ndim)]
        kept = [np.flatnonzero(keep.any(axis=axes)) for axes in others]
        inner = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in kept)
    if isinstance(t.dynamic, Scattered):
        where = t.dynamic.where[inner]
        found = box_of(where) if t.dynamic.index is None else None
        if found is None:
            return _irregular(t, where)
        t = view_like(t, *found)
    elif inner:
        t = view_like(t, *sliced([range(k.start, k.stop) for k in inner], t.strides, t.offset))
    if not t.on_chip:
        return t
    if t.ndim > 1 and t.shape[0] > 1 and (not t.strides[0] or t.strides[0] % t.row_elements):
        return _irregular(t, element_places(t))
    return partitions_first(t) or _irregular(t, element_places(t))


def _irregular(t: Tile, where: Array) -> Tile:
    """Elements of a tile without a pattern, by their places: rows as long as theirs that lie anywhere."""
    index, count = index_of(t), where.shape[0] if where.ndim else 1
    kind = "pattern" if index is None else "scalar" if t.on_chip else "vector"
    row = None if t.on_chip else box_of(where[:1])
    shape, strides = where.shape or (1,), ((0,) * where.ndim if row is None else row.strides) or (1,)
    if t.on_chip:
        rows = min(count, storage_of(t).parts)
        shape, strides = (rows, where.size // rows), (t.row_elements, 1)
    return view_of(storage_of(t), t.dtype, shape, strides, 0, Dynamic(kind, index, t.itemsize, count))
