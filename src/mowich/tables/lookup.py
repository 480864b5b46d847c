"""Times from tables, for arrays of shapes: interpolation between the shapes that were timed, and nothing outside them.

Time is interpolated in logarithms of time and of each dimension (exact for products of powers, as compute and traffic are), linearly
along the few dimensions that may be 0. A shape below the smallest, beyond the largest or in a hole of the grid has time nan and
`inside` False; only along a dimension in which the kernel repeats the same work is the largest shape scaled up, and `scaled` says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mowich.errors import UserError, unknown
from mowich.estimate import worst_grade
from mowich.tables import schema

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Answer of `operator_s`, arrays of the shape of its arguments. seconds, low, high: nan where the table does not reach; low..high is the
    90% interval; inside: within the shapes of the table; scaled: beyond its largest in a dimension of repeated work, time in
    proportion; grade: the weakest of the table ("" without one); kind: "simulated", "measured" or both; hash: of kernel and costs."""

    seconds: Floats
    low: Floats
    high: Floats
    inside: Bools
    scaled: Bools
    grade: str
    kind: str
    kernel: str
    hash: str

    @property
    def known(self) -> Bools:
        """Where there is a time: inside or scaled."""
        return self.inside | self.scaled

    def share(self, weight: ArrayLike = 1.0) -> float:
        """Coverage: share of the weight (seconds, FLOP; one each by default) of shapes whose time is known, 0 to 1."""
        w = np.broadcast_to(np.asarray(weight, float), self.seconds.shape)
        total = float(w.sum())
        return float(w[self.known].sum()) / total if total > 0 else 0.0


def operator_s(
    chip: str, op: str, dtype: str, shape: Mapping[str, ArrayLike], *, scope: str = "chip", folder: Path = schema.FOLDER
) -> Times:
    """Seconds that one device of a chip takes for an operator, for arrays of shapes.

    chip: id in facts/chips ("trainium2"); op: name in OPERATORS; dtype: "bf16", "fp8", "mxfp8"; shape: dimension -> number or array,
    all that the operator has, broadcast together, the sizes on one device; scope: "core", "pair", or "chip" (default: all devices of
    the chip work at once and share HBM, as in training and serving). A chip, dtype or scope without a table gives
    nan everywhere and `share()` 0. Raises UserError for an unknown operator or scope and for dimensions that are missing,
    unknown or not positive.

    >>> t = operator_s("no-such-chip", "matmul", "bf16", {"m": [1, 8192], "n": 4096, "k": 4096})
    >>> t.share(), t.seconds.shape
    (0.0, (2,))
    """
    operator = schema.operator(op)
    if scope not in schema.SCOPES:
        raise unknown("scope", scope, schema.SCOPES)
    points = _points(operator, shape)
    grid = _grid(op, chip, dtype, scope, folder)
    if grid is None:
        nothing = np.full(points.shape[1:], np.nan)
        no = np.zeros(points.shape[1:], np.bool_)
        return Times(
            seconds=nothing, low=nothing, high=nothing, inside=no, scaled=no, grade="", kind="", kernel="", hash=""
        )
    flat = points.reshape(len(points), -1)
    top = np.array([axis[-1] for axis in grid.axes])[:, None]
    repeats = np.array([d in operator.repeats for d in operator.dims])[:, None]
    factor = np.where(repeats & (flat > top), flat / top, 1.0).prod(axis=0)
    found = _interpolate(operator, grid, np.where(repeats, np.minimum(flat, top), flat)) * factor
    known = np.isfinite(found[0])
    seconds, low, high = (f.reshape(points.shape[1:]) for f in found)
    return Times(seconds=seconds, low=low, high=high, inside=(known & (factor == 1.0)).reshape(seconds.shape),
                 scaled=(known & (factor > 1.0)).reshape(seconds.shape), grade=grid.grade, kind=grid.kind, kernel=grid.kernel,
                 hash=grid.hash)  # fmt: skip


def _points(op: schema.Operator, shape: Mapping[str, ArrayLike]) -> Floats:
    """[dims, ...] sizes in the operator's order."""
    for name in shape:
        if name not in op.dims:
            raise unknown(f"dimension of {op.name}", name, op.dims)
    if missing := [d for d in op.dims if d not in shape]:
        raise UserError(f"{op.name} needs every dimension", given=", ".join(shape), allowed=", ".join(op.dims), fix=f"add {', '.join(missing)}")  # fmt: skip
    arrays = np.broadcast_arrays(*(np.asarray(shape[d], np.float64) for d in op.dims))
    for d, a in zip(op.dims, arrays, strict=True):
        least = 0.0 if d in op.linear else np.finfo(float).tiny
        if a.size and not (a >= least).all():
            raise UserError(f"{op.name}: {d} is {'negative' if least == 0 else 'not positive'}", given=float(np.min(a)))
    return np.stack(arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """axes: sizes along each dimension, ascending; log_s: [3, ...] logarithms of seconds, low and high, nan in holes."""

    axes: tuple[Floats, ...]
    log_s: Floats
    grade: str
    kind: str
    kernel: str
    hash: str


@cache
def _grid(op: str, chip: str, dtype: str, scope: str, folder: Path) -> _Grid | None:
    rows = [r for r in schema.read(op, folder) if (r.chip, r.dtype, r.scope) == (chip, dtype, scope)]
    if not rows:
        return None
    sizes = np.array([r.shape for r in rows], np.float64)
    axes = tuple(np.unique(column) for column in sizes.T)
    log_s = np.full((3, *map(len, axes)), np.nan)
    index = tuple(np.searchsorted(axis, column) for axis, column in zip(axes, sizes.T, strict=True))
    for i, name in enumerate(("seconds", "low_s", "high_s")):
        log_s[(i, *index)] = np.log([getattr(r, name) for r in rows])
    return _Grid(axes=axes, log_s=log_s, grade=worst_grade(r.grade for r in rows), kind=_one(r.kind for r in rows),
                 kernel=_one(r.kernel for r in rows), hash=_one(r.hash for r in rows))  # fmt: skip


def _one(words: object) -> str:
    return ", ".join(sorted(set(words)))  # type: ignore[call-overload]


def _interpolate(op: schema.Operator, grid: _Grid, points: Floats) -> Floats:
    """[3, n] seconds, low and high at points [dims, n]; nan outside the grid."""
    lower, weight, logs, outside = [], [], [], np.zeros(points.shape[1], np.bool_)
    for d, axis, x in zip(op.dims, grid.axes, points, strict=True):
        linear = d in op.linear
        outside |= (x < axis[0]) | (x > axis[-1])
        i = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, max(len(axis) - 2, 0))
        a, b = axis[i], axis[np.minimum(i + 1, len(axis) - 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            w = (x - a) / (b - a) if linear else np.log(x / a) / np.log(b / a)
        lower.append(i)
        weight.append(np.where(b > a, w, 0.0))
        logs.append(not linear)
    total = np.zeros((3, points.shape[1]))
    for along in itertools.product(*[(0,) if is_log else (0, 1) for is_log in logs]):
        share = np.ones(points.shape[1])
        inner = np.zeros((3, points.shape[1]))
        for corner in itertools.product(*[(0, 1) if is_log else (c,) for is_log, c in zip(logs, along, strict=True)]):
            part = np.ones(points.shape[1])
            index = []
            for axis, i, w, is_log, c in zip(grid.axes, lower, weight, logs, corner, strict=True):
                index.append(np.minimum(i + c, len(axis) - 1))
                if is_log:
                    part = part * (w if c else 1.0 - w)
            value = grid.log_s[(slice(None), *index)]
            inner += np.where(part == 0.0, 0.0, part * value)  # a hole counts only where it has weight
        for w, is_log, c in zip(weight, logs, along, strict=True):
            if not is_log:
                share = share * (w if c else 1.0 - w)
        total += np.where(share == 0.0, 0.0, share * np.exp(inner))
    total[:, outside] = np.nan
    return total
