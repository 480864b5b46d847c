"""The searches of the Vector Engine, on arrays: the eight largest of each row, and where eight values stand in it.

Kernels search the same data again and again, eight elements at a time, and almost nothing of a row concerns one search.
So one comparison with a bound finds the few elements that may matter, and the rest is done on these. A row in which
many may matter (equal elements, values far below the largest) is compared whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]

FOLD_COLUMNS = 256
"""Columns into which `largest8` folds a long row: the fastest power of two, or within a tenth of it, from 512 to 16,384
elements."""
NARROW = 64
"""Elements of a row up to which `occurrences` is faster without a bound."""
_EARLIER = np.tri(8, k=-1, dtype=np.bool_)
"""[i, j]: value j comes before value i."""


def largest8(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """[P, N] -> [P, 8]: the 8 largest of each row, descending. N is 8 or more; NaN counts as -inf; +0 goes before -0.

    A long row is folded into columns. The 8th largest of their maxima is a bound that 8 elements reach, so that the
    answer is what exceeds it (elements of 7 columns at most, and of the rest that no fold holds), filled up with the
    bound itself.

    >>> largest8(np.array([[3, 1, 4, 1, 5, 9, 2, 6, 5]], np.float32)).tolist()
    [[9.0, 6.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0]]
    """
    p, n = x.shape
    is_long = n > 2 * FOLD_COLUMNS
    highest = x
    if is_long:
        folds = n // FOLD_COLUMNS
        highest = x[:, : folds * FOLD_COLUMNS].reshape(p, folds, FOLD_COLUMNS).max(axis=1)
    if np.isnan(highest).any():
        return largest8(np.where(np.isnan(x), np.float32(-np.inf), x))
    few = np.partition(highest, highest.shape[1] - 8, axis=1)[:, -8:]
    if is_long:
        bound = few.min(axis=1, keepdims=True)
        row, column, place, most = _places(x > bound)
        few = np.repeat(bound, max(8, most), axis=1)
        few[row, place] = x[row, column]
    few.sort(axis=1)
    top = few[:, :-9:-1]
    zero = top == 0
    if (zero & np.signbit(top)).any():  # which zero the sort puts first depends on the processor
        plus = np.count_nonzero(x.view(np.uint32) == 0, axis=1)
        top = np.where(zero, np.where(zero.cumsum(axis=1) <= plus[:, None], np.float32(0.0), np.float32(-0.0)), top)
    return top


def occurrences(data: _Array, values: _Array, backwards: bool = False) -> NDArray[np.int64]:
    """[P, N], [P, 8] -> [P, 8]: the column of its row of data in which each value stands, -1 where it does not.

    Equal values take successive occurrences: the first value the first of them, or the last value where `backwards`.
    NaN stands nowhere. N is at most 65,535.

    >>> occurrences(np.array([[8, 3, 8]]), np.array([[8, 8, 8, 3, 1, 1, 1, 1]])).tolist()
    [[0, 2, -1, 1, -1, -1, -1, -1]]
    """
    p, n = data.shape
    equal = (values[:, :, None] == values[:, None, :]) & (_EARLIER.T if backwards else _EARLIER)
    turn = np.bincount(np.flatnonzero(equal) // 8, minlength=8 * p).reshape(p, 8)
    if n <= NARROW:
        return _throughout(data, values, turn, backwards) if turn.any() else _among(data, values, turn)
    near = data >= np.fmin.reduce(values, axis=1, keepdims=True)
    whole = np.flatnonzero(near.sum(axis=1, dtype=np.uint16) > 16 + n // 64)  # so many elements are slower one by one
    if whole.size > p // 4:
        return _throughout(data, values, turn, backwards)
    if whole.size:
        near[whole] = False
    row, column, place, most = _places(near)
    few = np.zeros((p, most + 1), data.dtype)
    few[row, place] = data[row, column]
    at = np.full(few.shape, -1, np.int64)  # behind the elements too, and last
    at[row, place] = column
    found: NDArray[np.int64] = at[np.arange(p)[:, None], _among(few, values, turn)]
    if whole.size:
        found[whole] = _throughout(data[whole], values[whole], turn[whole], backwards)
    return found


def _places(mask: _Array) -> tuple[_Array, _Array, _Array, int]:
    """Of each True of a mask [P, N]: its row, its column, how many stand before it in the row; and the most of one
    row."""
    p, n = mask.shape
    at = np.flatnonzero(mask)
    row = at // n
    count = np.bincount(row, minlength=p)
    return row, at - row * n, np.arange(at.size) - (np.cumsum(count) - count)[row], int(count.max())


def _among(data: _Array, values: _Array, turn: _Array) -> NDArray[np.int64]:
    """`occurrences` in short rows: each value with each element. turn [P, 8]: how many equal values take their
    occurrences before."""
    hit = data[:, None, :] == values[:, :, None]
    later = np.nonzero(turn)
    if later[0].size:
        again = hit[later]
        hit[later] = again & (again.cumsum(axis=1) == turn[later][:, None] + 1)
    first: NDArray[np.int64] = hit.argmax(axis=2)
    first[~hit[np.arange(len(data))[:, None], np.arange(8), first]] = -1
    return first


def _throughout(data: _Array, values: _Array, turn: _Array, backwards: bool) -> NDArray[np.int64]:
    """`occurrences` in long rows: all elements with one value after the other."""
    rows = np.arange(len(data))
    found = np.full(values.shape, -1, np.int64)
    taken = np.zeros(data.shape, np.bool_)
    for j in range(7, -1, -1) if backwards else range(8):
        hit = data == values[:, j : j + 1]
        if turn[:, j].any():
            hit &= ~taken
        first = hit.argmax(axis=1)
        there = hit[rows, first]
        found[there, j] = first[there]
        taken[rows[there], first[there]] = True
    return found
