"""Affine boxes: places that are a start, and a stride along each axis. Views of an allocation and index expressions
are both that.

Strides and offsets are in elements. Here is what all that name elements share: where they lie, what NumPy's indices
choose of them, which array of places is a box, and which boxes have another shape as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array

ElementPlaces: TypeAlias = "NDArray[np.int64]"
"""ElementPlaces of elements, each a whole number of them from the start of the allocation."""


class AffineBox(NamedTuple):
    """A place for each position within `shape`: offset + strides . position."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def line_along(axis: int, rank: int, numbers: Array) -> Array:
    """Numbers along one of `rank` axes."""
    return numbers.reshape((1,) * axis + (-1,) + (1,) * (rank - 1 - axis))


def box_places(shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> ElementPlaces:
    """The places of a box; repeated ones take no memory.

    >>> box_places((2, 3), (10, 1), 5)
    array([[ 5,  6,  7],
           [15, 16, 17]])
    """
    rank = len(shape)
    at = np.asarray(offset, np.int64)
    for axis, (n, s) in enumerate(zip(shape, strides, strict=True)):
        if s:
            at = at + line_along(axis, rank, np.arange(n, dtype=np.int64) * s)
    return np.broadcast_to(at, shape)


def box_ends(shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> tuple[int, int]:
    """(Least, greatest) place of a box.

    >>> box_ends((2, 3), (10, -1), 5)
    (3, 15)
    """
    low = high = offset
    for n, s in zip(shape, strides, strict=True):
        if s > 0:
            high += (n - 1) * s
        elif s:
            low += (n - 1) * s
    return low, high


def box_of(a: Array) -> AffineBox | None:
    """The box whose places an array holds; None where there is none, or the array is empty.

    >>> box_of(np.array([[5, 6], [15, 16]]))
    AffineBox(shape=(2, 2), strides=(10, 1), offset=5)
    """
    if not a.size:
        return None
    first = int(a[(0,) * a.ndim])
    strides = []
    for axis, n in enumerate(a.shape):
        at = [0] * a.ndim
        at[axis] = 1
        strides.append(int(a[tuple(at)]) - first if n > 1 else 0)
    found = AffineBox(a.shape, tuple(strides), first)
    return found if np.array_equal(a, box_places(*found)) else None


def merged(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(count, stride) of the fewest axes that walk the same elements in the same order."""
    out: list[tuple[int, int]] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if out and (out[-1][1] == n * s):
            out[-1] = (out[-1][0] * n, s)
        else:
            out.append((n, s))
    return out


def reshaped(shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of a view with the wanted shape, or None where the layout does not allow one."""
    out = [0] * len(wanted)
    i = len(wanted) - 1
    for n, s in reversed(merged(shape, strides)):
        step, left = s, n
        while left > 1:
            if i < 0:
                return None
            w = wanted[i]
            if w == 1:
                out[i] = step
                i -= 1
                continue
            if left % w:
                return None
            out[i] = step
            step *= w
            left //= w
            i -= 1
    while i >= 0:
        if wanted[i] != 1:
            return None
        out[i] = out[i + 1] * wanted[i + 1] if i + 1 < len(wanted) else 1
        i -= 1
    return tuple(out)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a contiguous tensor."""
    out = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        out[i] = out[i + 1] * shape[i + 1]
    return tuple(out)


# indices
# ----------------------------------------------------------------------------------------------------------------


def completed(keys: tuple[object, ...], rank: int) -> tuple[object, ...]:
    """Indices with a slice for each of `rank` dimensions that they leave out; too many stay too many."""
    missing = (slice(None),) * (rank - sum([k is not None and k is not Ellipsis for k in keys]))
    for at, k in enumerate(keys):  # an array among them has no one answer to `in`
        if k is Ellipsis:
            return keys[:at] + missing + keys[at + 1 :]
    return keys + missing


def sliced(keys: Sequence[int | range | None], strides: Sequence[int], offset: int) -> AffineBox:
    """What one index of each dimension leaves of a box: a number takes its dimension away, None puts one of 1 before.
    The caller has looked at the bounds."""
    shape: list[int] = []
    steps: list[int] = []
    left = iter(strides)
    for k in keys:
        if k is None:
            shape.append(1)
            steps.append(0)
        elif type(k) is range:
            s = next(left)
            shape.append(len(k))
            steps.append(k.step * s)
            offset += k.start * s
        else:
            offset += k * next(left)
    return AffineBox(tuple(shape), tuple(steps), offset)


def aligned(keys: Sequence[object], shape: Sequence[int]) -> list[Array]:
    """Arrays and slices, an index for each dimension, as arrays that broadcast together, as NumPy has it: a slice of
    dimension 0 stays before the arrays, those of others come behind. No bounds are looked at: -1 is what lies before
    the first element."""
    given = {d: np.asarray(k) for d, k in enumerate(keys) if not isinstance(k, slice)}
    rank = max((g.ndim for g in given.values()), default=0)
    before = int(0 not in given)
    total = rank + len(keys) - len(given)
    out, axis = [], rank + before
    for d, (k, n) in enumerate(zip(keys, shape, strict=True)):
        if isinstance(k, slice):
            numbers = np.arange(*k.indices(n), dtype=np.int64)
            out.append(line_along(axis if d else 0, total, numbers))
            axis += d > 0
        else:
            g = given[d].astype(np.int64, copy=False)
            out.append(g.reshape((1,) * (before + rank - g.ndim) + g.shape + (1,) * (total - rank - before)))
    return out
