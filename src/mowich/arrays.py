"""The types of arrays that formulas take and give, and classes whose fields are columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Numbers in SI units. A formula takes columns and gives columns: one place for each plan, case or point, or arrays
that broadcast to that shape."""

Array = NDArray[Any]
"""Elements of any format: what only moves or adds them gives the type back that came in."""

Places = NDArray[np.intp] | NDArray[np.bool_]
"""Positions of rows, or a mask of them."""

C = TypeVar("C", bound="Columns")
V = TypeVar("V", bound=np.generic)


def constant(value: float, n: int) -> Floats:
    """A column of n equal values that takes no memory.

    >>> constant(2.0, 3).tolist()
    [2.0, 2.0, 2.0]
    """
    # `np.broadcast_to` takes ten times as long
    return np.ndarray((n,), np.float64, np.float64(value).tobytes(), 0, (0,))


def pick(column: Floats, index: Places) -> Floats:
    """The places of a column [..., n] at `index`; a constant column stays one, and so does a number that all rows
    share."""
    if not isinstance(column, np.ndarray) or not column.ndim:
        return column
    if column.strides == (0,) and len(column):
        n = int(np.count_nonzero(index)) if index.dtype == np.bool_ else len(index)
        return constant(float(column[0]), n)
    # for positions `take` needs a seventh of the time on columns of several kinds
    return column.take(index, axis=-1) if index.dtype != np.bool_ else np.asarray(column[..., index])


def _taken(value: Floats | Columns | dict[str, Floats], index: Places) -> Floats | Columns | dict[str, Floats]:
    if isinstance(value, dict):
        return {name: pick(part, index) for name, part in value.items()}
    return value.take(index) if isinstance(value, Columns) else pick(value, index)


def _folded(column: Floats | Columns) -> Floats | Columns:
    if isinstance(column, Columns):
        return column.folded()
    alike = np.ndim(column) == 1 and len(column) > 0 and bool((column == column[0]).all())
    return np.asarray(column[0]) if alike else column


def distinct(values: NDArray[V]) -> NDArray[V]:
    """The different values, ascending. As `np.unique`, which imports masked arrays to begin with: longer than a search
    takes.

    >>> distinct(np.array([3.0, 1.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    ordered = np.sort(values, axis=None)
    is_new = np.ones(len(ordered), dtype=np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return np.asarray(ordered[is_new])


def ranked(whole: NDArray[np.intp], most: int) -> tuple[NDArray[np.intp], int]:
    """(the rank of each whole number 0 .. `most` among those that occur, how many occur), without sorting.

    >>> ranked(np.array([7, 2, 7]), 7)[0].tolist()
    [1, 0, 1]
    """
    occurs = np.zeros(most + 1, dtype=np.bool_)
    occurs[whole] = True
    rank = np.cumsum(occurs) - 1
    return rank[whole], int(rank[-1]) + 1


class Columns:
    """A dataclass whose fields are columns, [n] or [..., n], or hold such (a dict: by name): one row a plan, a case or
    a point."""

    __slots__ = ()

    def take(self: C, index: Places) -> C:
        """The rows at `index` (positions or a mask)."""
        return type(self)(**{f.name: _taken(getattr(self, f.name), index) for f in fields(self)})  # type: ignore[arg-type]

    def folded(self: C) -> C:
        """These columns, where a column [n] whose rows are all equal is one number: taking its rows costs nothing."""
        return type(self)(*(_folded(getattr(self, f.name)) for f in fields(self)))  # type: ignore[arg-type]

    @classmethod
    def joined(cls: type[C], parts: Sequence[C]) -> C:
        """The rows of all parts, in turn. A field of several kinds [k, n] gets rows of zeros where a part has fewer."""
        out: dict[str, Floats | Columns] = {}
        for f in fields(cls):  # type: ignore[arg-type]
            values = [getattr(part, f.name) for part in parts]
            if values and isinstance(values[0], Columns):
                out[f.name] = type(values[0]).joined(values)
                continue
            arrays = [np.asarray(value) for value in values]
            most = max((a.shape[0] for a in arrays if a.ndim == 2), default=0)
            out[f.name] = np.concatenate(
                [a if a.ndim < 2 else np.pad(a, ((0, most - a.shape[0]), (0, 0))) for a in arrays] or [np.empty(0)],
                axis=-1,
            )
        return cls(**out)
