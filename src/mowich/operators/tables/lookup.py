"""Times from tables, for arrays of shapes: interpolation between the shapes that were timed, and nothing outside them.

Time is interpolated linearly along each dimension, as a kernel's work adds up, and in logarithms along the few where it
does not (a prompt's length). A shape below the smallest, beyond the largest or in a hole of the grid has time nan and
`inside` False. Only along a dimension in which the kernel repeats the same work do the largest sizes give what one more
unit, or one more block, takes, which is added for each beyond them; `scaled` says so. Rows of experts beyond the table
are blocks, each of which takes what one takes in the steady state, of every
expert: nothing is the product of a slope along rows and a slope along experts.

No time is below what the hardware allows: an operator's work (`schema`) at the published dense peak of its format, and
its bytes at the share of HBM bandwidth of who runs it. That holds for seconds, low and high alike, and for what was
measured too; `at_limit` says where it was
needed: a table, or its extension, said less there.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mowich.arrays import Floats, distinct
from mowich.errors import UserError, unknown
from mowich.estimate import worst_grade
from mowich.facts import load_facts
from mowich.files import kept_beside
from mowich.operators.tables import schema

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Answer of `operator_s`, arrays of the shape of its arguments. seconds, low, high: nan where the table does not
    reach; low..high is the 90% interval; inside: within the shapes of the table; scaled: beyond its largest in a
    dimension of repeated work, extended by the time of one more; at_limit: the table said less than the hardware
    allows, and `seconds` is what it allows; grade: the weakest of the table ("" without one); kind: "simulated",
    "measured" or both; hash: of kernel and costs."""

    seconds: Floats
    low: Floats
    high: Floats
    inside: Bools
    scaled: Bools
    at_limit: Bools
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

    chip: id in facts/chips ("trainium2"); op: name in OPERATORS; dtype: "bf16", "fp8", "mxfp8"; shape: dimension ->
    number or array, all that the operator has, broadcast together, the sizes on one device; scope: "core", "pair",
    "chip" (default: all devices of the chip work at once and share HBM, as in training and serving) or "chip_lnc1" (the
    same with a device of each core). A chip, dtype or
    scope without a table gives nan everywhere and `share()` 0. Raises UserError for an unknown operator or scope and
    for dimensions that are missing, unknown or not positive.

    >>> t = operator_s("no-such-chip", "matmul", "bf16", {"m": [1, 8192], "n": 4096, "k": 4096})
    >>> t.share(), t.seconds.shape
    (0.0, (2,))
    """
    found = _found(chip, op, dtype, shape, scope, folder)
    if found.grid is None:
        nothing = np.full(found.points.shape[1:], np.nan)
        no = np.zeros(found.points.shape[1:], np.bool_)
        return Times(
            seconds=nothing,
            low=nothing,
            high=nothing,
            inside=no,
            scaled=no,
            at_limit=no,
            grade="",
            kind="",
            kernel="",
            hash="",
        )
    operator, grid, points = found.operator, found.grid, found.points
    tabled = _interpolate(operator, grid, found.flat, 3).reshape(3, *points.shape[1:])
    least = least_s(chip, op, dtype, points, scope)
    seconds, low, high = np.maximum(tabled, least)  # nan stays nan
    known = np.isfinite(seconds)
    beyond = np.array([d in operator.repeats for d in operator.dims])[:, None] & (
        found.flat > np.array([[a[-1]] for a in grid.axes])
    )
    scaled = known & beyond.any(axis=0).reshape(known.shape)
    return Times(
        seconds=seconds,
        low=np.minimum(low, seconds),
        high=np.maximum(high, seconds),
        inside=known & ~scaled,
        scaled=scaled,
        at_limit=known & (tabled[0] < least),
        grade=grid.grade,
        kind=grid.kind,
        kernel=grid.kernel,
        hash=grid.hash,
    )


def in_a_row_s(
    chip: str, op: str, dtype: str, shape: Mapping[str, ArrayLike], *, scope: str = "chip", folder: Path = schema.FOLDER
) -> Floats:
    """`operator_s(...).seconds` of an operator that follows others in one program: less the table's shortest time, in
    which next to nothing but a launch is, and no less than the hardware allows. nan where the table does not reach."""
    found = _found(chip, op, dtype, shape, scope, folder)
    if found.grid is None:
        return np.full(found.points.shape[1:], np.nan)
    tabled = _interpolate(found.operator, found.grid, found.flat, 1)[0].reshape(found.points.shape[1:])
    return np.asarray(np.maximum(tabled - found.grid.shortest_s, least_s(chip, op, dtype, found.points, scope)))


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """`in_a_row_s` along one dimension, in which it is linear between the sizes that were timed, for columns of the
    other sizes [c]: read once, it is found for any number of sizes without going to the table again. sizes: that were
    timed [k], seconds: there [k, c]; goes_on: whether the last two say what larger sizes take; flop_s, fixed_B_s,
    each_B_s: seconds that the hardware needs, of arithmetic for one, of bytes for none and for one more [c]."""

    sizes: Floats
    seconds: Floats
    goes_on: bool
    flop_s: Floats
    fixed_B_s: Floats
    each_B_s: Floats

    def times(self, count: Floats) -> Lines:
        """So many times these [c]."""
        work = (self.flop_s * count, self.fixed_B_s * count, self.each_B_s * count)
        return Lines(self.sizes, self.seconds * count, self.goes_on, *work)

    def at(self, x: Floats, column: NDArray[np.intp]) -> Floats:
        """Seconds at sizes x [..., n] of columns [..., n]; nan where the table does not reach."""
        top = len(self.sizes) - 1
        low = np.minimum(np.searchsorted(self.sizes, x, side="right") - 1, max(top - 1, 0))
        outside = low < 0
        if not self.goes_on or top == 0:
            outside |= x > self.sizes[-1]
        low = np.maximum(low, 0)
        above = np.minimum(low + 1, top)
        w = np.where(outside, np.nan, (x - self.sizes[low]) / np.maximum(self.sizes[above] - self.sizes[low], 1.0))
        flat, columns = self.seconds.ravel(), self.seconds.shape[1]
        below, over = flat.take(low * columns + column), flat.take(above * columns + column)
        tabled = np.where(
            w == 0.0, below, np.where(w == 1.0, over, (1.0 - w) * below + w * over)
        )  # as `_cell`: no hole
        bytes_s = self.fixed_B_s.take(column) + self.each_B_s.take(column) * x
        return np.asarray(np.maximum(tabled, np.maximum(self.flop_s.take(column) * x, bytes_s)))


def lines(
    chip: str, op: str, dtype: str, along: str, shape: Mapping[str, Floats], *, scope: str = "chip"
) -> Lines | None:
    """The times of an operator along a dimension, for columns of its other sizes [c]; None without a table. Of
    operators without blocks and tiles whose arithmetic and bytes grow evenly along it, as those of products and of
    reading caches do."""
    operator = schema.operator(op)
    if operator.blocks or operator.tiles or along in operator.curved:
        raise ValueError(f"{op} is not linear along {along}")
    grid = _grid(op, chip, dtype, scope, schema.FOLDER)
    if grid is None:
        return None
    columns = np.broadcast(*shape.values()).shape
    sizes = grid.axes[list(operator.dims).index(along)]
    points = _points(operator, {**shape, along: np.broadcast_to(sizes[:, None], (len(sizes), *columns))})
    tabled = _interpolate(operator, grid, points.reshape(len(points), -1), 1)[0]
    peak, Bps = published_rates(chip, dtype, scope)
    none, one = ([{**shape, along: np.full(columns, size)}[d] for d in operator.dims] for size in (0.0, 1.0))
    fixed_B, B = (operator.least_B(schema.FORMAT_B[dtype], *sizes_) for sizes_ in (none, one))
    return Lines(
        sizes=sizes,
        seconds=tabled.reshape(points.shape[1:]) - grid.shortest_s,
        goes_on=along in operator.repeats,
        flop_s=operator.flop(*one) / peak,
        fixed_B_s=fixed_B / Bps,
        each_B_s=(B - fixed_B) / Bps,
    )


class _Found(NamedTuple):
    """points: [dims, ...] sizes as asked; flat: [dims, n] these sizes in whole tiles."""

    operator: schema.Operator
    grid: _Grid | None
    points: Floats
    flat: Floats


def _found(chip: str, op: str, dtype: str, shape: Mapping[str, ArrayLike], scope: str, folder: Path) -> _Found:
    operator = schema.operator(op)
    if scope not in schema.SCOPES:
        raise unknown("scope", scope, schema.SCOPES)
    points = _points(operator, shape)
    flat = points.reshape(len(points), -1)
    if operator.tiles:
        tile = np.array([operator.tiles.get(d, 0.0) for d in operator.dims])[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.where((tile > 0) & (flat > tile), np.ceil(flat / tile) * tile, flat)
    return _Found(operator, _grid(op, chip, dtype, scope, folder), points, flat)


def largest(chip: str, op: str, dtype: str, dim: str, *, scope: str = "chip", folder: Path = schema.FOLDER) -> float:
    """The largest size along `dim` in the table of a chip and dtype; 0 without a table.

    >>> largest("trainium3", "matmul", "bf16", "k")
    16384.0
    """
    grid = _grid(op, chip, dtype, scope, folder)
    return float(grid.axes[list(schema.operator(op).dims).index(dim)][-1]) if grid else 0.0


def least_s(chip: str, op: str, dtype: str, points: Floats, scope: str) -> Floats:
    """Seconds [...] below which no device of a chip can run an operator at `points` [dims, ...]: its FLOP at the
    published dense peak of the format, or its least bytes at the device's share of HBM bandwidth, whichever takes
    longer. Raises UserError where the chip's facts lack either."""
    operator, (peak, Bps) = schema.operator(op), published_rates(chip, dtype, scope)
    return np.maximum(operator.flop(*points) / peak, operator.least_B(schema.FORMAT_B[dtype], *points) / Bps)


def table_keys(op: str) -> list[tuple[str, str]]:
    """(chip, scope) of every table of an operator that ships, in order."""
    return sorted({(chip, scope) for chip, _, scope in _shipped(op)})


@cache
def devices_in(chip: str, scope: str) -> int:
    """Devices of a chip in a scope of all of them."""
    return devices_per_chip(chip) if scope == "chip" else round(load_facts().number(f"chips.{chip}.matrix_unit.count"))


@cache
def devices_per_chip(chip: str) -> int:
    """Devices of a chip that the tables of scope "chip" were made for: logical cores as they ship."""
    return round(load_facts().number(f"chips.{chip}.devices_per_chip"))


@cache
def published_rates(chip: str, dtype: str, scope: str) -> tuple[float, float]:
    """(FLOP/s, bytes/s) as published, of what a scope runs on. A core or a pair that works alone has the stack of HBM
    that its data lie in, at least; in scopes of a chip every device has an equal share of
    both."""
    facts, at = load_facts(), f"chips.{chip}"
    peak, Bps = facts.number(f"{at}.peak_dense.{dtype}"), facts.number(f"{at}.memory.hbm_bandwidth")
    if scope.startswith("chip"):
        devices = devices_in(chip, scope)
        return peak / devices, Bps / devices
    share = {"core": 1.0, "pair": 2.0}[scope] / facts.number(f"{at}.matrix_unit.count")
    return peak * share, Bps * max(share, 1.0 / facts.number(f"{at}.memory.hbm_stacks"))


def _points(op: schema.Operator, shape: Mapping[str, ArrayLike]) -> Floats:
    """[dims, ...] sizes in the operator's order."""
    for name in shape:
        if name not in op.dims:
            raise unknown(f"dimension of {op.name}", name, op.dims)
    if missing := [d for d in op.dims if d not in shape]:
        raise UserError(
            f"{op.name} needs every dimension",
            given=", ".join(shape),
            allowed=", ".join(op.dims),
            fix=f"add {', '.join(missing)}",
        )
    arrays = np.broadcast_arrays(*(np.asarray(shape[d], np.float64) for d in op.dims))
    for d, a in zip(op.dims, arrays, strict=True):
        least = 0.0 if d in op.from_zero else np.finfo(float).tiny
        if a.size and not (a >= least).all():
            raise UserError(f"{op.name}: {d} is {'negative' if least == 0 else 'not positive'}", given=float(np.min(a)))
    return np.stack(arrays)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """axes: sizes along each dimension, ascending; log_s: [3, ...] logarithms of seconds, low and high, nan in holes;
    flat_s: [3, cells] the seconds themselves; shortest_s: the least time, of a launch with next to nothing to do."""

    axes: tuple[Floats, ...]
    log_s: Floats
    flat_s: Floats
    shortest_s: float
    grade: str
    kind: str
    kernel: str
    hash: str


@cache
def _grid(op: str, chip: str, dtype: str, scope: str, folder: Path) -> _Grid | None:
    if folder == schema.FOLDER:
        held = _shipped(op).get((chip, dtype, scope))
        return None if held is None else _grid_of(held)
    rows = schema.read_table(op, folder, chip=chip, dtype=dtype, scope=scope)
    return _grid_of(_held(rows)) if rows else None


class _Held(NamedTuple):
    """The rows of one table as plain data: sizes [rows, dims], seconds, low and high [3, rows], one after another."""

    num_rows: int
    sizes: array[float]
    seconds: array[float]
    grade: str
    kind: str
    kernel: str
    hash: str


def _held(rows: Sequence[schema.TableRow]) -> _Held:
    return _Held(
        num_rows=len(rows),
        sizes=array("d", itertools.chain.from_iterable(r.shape for r in rows)),
        seconds=array("d", (getattr(r, name) for name in ("seconds", "low_s", "high_s") for r in rows)),
        grade=worst_grade(r.grade for r in rows),
        kind=_one(r.kind for r in rows),
        kernel=_one(r.kernel for r in rows),
        hash=_one(r.hash for r in rows),
    )


@cache
def _shipped(op: str) -> Mapping[tuple[str, str, str], _Held]:
    """The tables of an operator that ship with Mowich, by chip, dtype and scope. They are kept beside their file, as
    reading thousands of rows takes longer than all else that a comparison does with them."""
    path = schema.FOLDER / f"{schema.operator(op).name}.csv"

    def read(_: bytes) -> dict[tuple[str, str, str], tuple[Any, ...]]:
        tables: dict[tuple[str, str, str], list[schema.TableRow]] = {}
        for row in schema.read_table(op):
            tables.setdefault((row.chip, row.dtype, row.scope), []).append(row)
        return {key: tuple(_held(rows)) for key, rows in tables.items()}

    return {key: _Held(*held) for key, held in kept_beside(path, read).items()} if path.is_file() else {}


def _grid_of(held: _Held) -> _Grid:
    sizes = np.array(held.sizes).reshape(held.num_rows, -1)
    axes = tuple(distinct(column) for column in sizes.T)
    log_s = np.full((3, *map(len, axes)), np.nan)
    index = [np.searchsorted(axis, column) for axis, column in zip(axes, sizes.T, strict=True)]
    for i, seconds in enumerate(np.array(held.seconds).reshape(3, -1)):
        log_s[i][tuple(index)] = np.log(seconds)
    flat_s = np.exp(log_s).reshape(3, -1)
    return _Grid(
        axes=axes,
        log_s=log_s,
        flat_s=flat_s,
        shortest_s=float(np.nanmin(flat_s[0])),
        grade=held.grade,
        kind=held.kind,
        kernel=held.kernel,
        hash=held.hash,
    )


def _one(words: object) -> str:
    return ", ".join(sorted(set(words)))  # type: ignore[call-overload]


def _interpolate(op: schema.Operator, grid: _Grid, points: Floats, rows: int) -> Floats:
    """[rows, n] seconds (and low and high, if rows is 3) at points [dims, n]; nan outside the grid."""
    n = points.shape[1]
    if not op.curved:
        return _linear(op, grid, points, rows)
    lower, upper, weight = np.empty_like(points, np.intp), np.empty_like(points, np.intp), np.empty_like(points)
    is_linear = np.zeros(points.shape, np.bool_)
    outside = np.zeros(n, np.bool_)
    for j, (d, axis, x) in enumerate(zip(op.dims, grid.axes, points, strict=True)):
        extends = d in op.repeats and len(axis) > 1
        is_linear[j] = (d not in op.curved) | (x > axis[-1])
        outside |= (x < axis[0]) | ((x > axis[-1]) & (not extends))
        lower[j] = np.clip(np.searchsorted(axis, x, side="right") - 1, 0, max(len(axis) - 2, 0))
        upper[j] = np.minimum(lower[j] + 1, len(axis) - 1)
        a, b = axis[lower[j]], axis[upper[j]]
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(is_linear[j], (x - a) / (b - a), np.log(x / a) / np.log(b / a))
        weight[j] = np.where(b > a, w, 0.0)
    total = np.full((rows, n), np.nan)
    patterns = (1 << np.arange(len(points))) @ is_linear  # one bit a dimension
    for pattern in distinct(patterns[~outside]):
        some = np.flatnonzero((patterns == pattern) & ~outside)
        of = is_linear[:, int(some[0])]
        total[:, some] = _corners(grid.log_s[:rows], of, lower[:, some], upper[:, some], weight[:, some])
    return total


def _linear(op: schema.Operator, grid: _Grid, points: Floats, rows: int) -> Floats:
    """`_interpolate` for an operator without curved dimensions. Beyond the largest size along a dimension of blocks,
    the time as far into a block as the point is, and for each whole block the time of the table's last one, with as
    many copies at work as the table has: the steady state."""
    points, more = points.copy(), np.zeros((rows, points.shape[1]))
    at = {d: j for j, d in enumerate(op.dims)}
    for d, block in op.blocks.items():
        j, largest = at[d], grid.axes[at[d]][-1]
        whole = np.maximum(0.0, np.ceil((points[j] - largest) / block))
        if not whole.any() or largest - block not in grid.axes[j]:
            continue
        steady, share = points.copy(), whole
        if op.copies:
            most = grid.axes[at[op.copies]][-1]
            steady[at[op.copies]], share = most, whole * points[at[op.copies]] / most
        ends = []
        for size in (largest, largest - block):
            steady[j] = size
            ends.append(_cell(op, grid, steady, rows))
        more += np.where(whole > 0, share * (ends[0] - ends[1]), 0.0)
        points[j] -= whole * block
    return _cell(op, grid, points, rows) + more


def _cell(op: schema.Operator, grid: _Grid, points: Floats, rows: int) -> Floats:
    """The corners of each point's cell, weighed; beyond the grid along repeated work, its last cell continued."""
    index, share = np.zeros((1, points.shape[1]), np.intp), np.ones((1, points.shape[1]))
    for d, axis, x in zip(op.dims, grid.axes, points, strict=True):
        top = len(axis) - 1
        at = np.minimum(np.searchsorted(axis, x, side="right") - 1, max(top - 1, 0))
        outside = (at < 0) | ((x > axis[-1]) & (d not in op.repeats or top == 0))
        at = np.maximum(at, 0)
        above = np.minimum(at + 1, top)
        w = (x - axis[at]) / np.maximum(axis[above] - axis[at], 1.0)
        w = np.where(outside, np.nan, w)
        index = index * (top + 1)
        if not w.any():  # all on the grid: nothing lies above
            index += at
            continue
        index = np.concatenate((index + at, index + above))
        share = np.concatenate((share * (1.0 - w), share * w))
    values = grid.flat_s[:rows, index]
    return np.asarray(np.where(share == 0.0, 0.0, share * values).sum(axis=1))  # a hole counts only where it has weight


def _corners(
    log_s: Floats, is_linear: Bools, lower: NDArray[np.intp], upper: NDArray[np.intp], weight: Floats
) -> Floats:
    """Sum over the corners of each point's cell: along the linear dimensions of times, along the others of their
    logarithms."""
    has_weight = [bool(w.any()) for w in weight]  # along the others all points are on the grid: nothing lies above
    total = np.zeros((len(log_s), weight.shape[1]))
    for along in itertools.product(
        *[(0, 1) if more and linear else (0,) for linear, more in zip(is_linear, has_weight, strict=True)]
    ):
        inner, share = np.zeros_like(total), np.ones(weight.shape[1])
        for corner in itertools.product(
            *[
                (0, 1) if more and not linear else (c,)
                for linear, more, c in zip(is_linear, has_weight, along, strict=True)
            ]
        ):
            part = np.ones(weight.shape[1])
            for w, linear, c in zip(weight, is_linear, corner, strict=True):
                if not linear:
                    part = part * (w if c else 1.0 - w)
            index = tuple(np.where(c, up, low) for up, low, c in zip(upper, lower, corner, strict=True))
            inner += np.where(
                part == 0.0, 0.0, part * log_s[(slice(None), *index)]
            )  # a hole counts only where it has weight
        for w, linear, c in zip(weight, is_linear, along, strict=True):
            if linear:
                share = share * (w if c else 1.0 - w)
        total += np.where(share == 0.0, 0.0, share * np.exp(inner))
    return total
