"""What several instructions do with their operands: shapes, scalars, operators, and the accumulators of the engines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mowich.arrays import Array as Array
from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.access import read_tile, tile_f32, write_tile
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.dtypes import DType
from mowich.neuroncore.instructions.issue import Named
from mowich.neuroncore.ops import Alu
from mowich.neuroncore.views import Tile

Scalar = Any
"""A number, or a [P, 1] tile with one number per partition."""


def same_partitions(name: str, dst: Tile, *tiles: tuple[str, Tile]) -> None:
    """Raise where operands span different numbers of partitions, or of elements in each."""
    p, n = dst.shape[0], dst.size
    for operand, t in tiles:
        if t.shape[0] != p or t.size != n:
            raise fail(
                f"{name}: {operand} {list(t.shape)} and dst {list(dst.shape)} need the same partitions and elements per"
                " partition",
                tile=t,
                fix="slice one of them, or give it the other's shape",
            )


def alike(name: str, writes: Sequence[Named], reads: Sequence[Named], _: Mapping[str, object]) -> None:
    """Rules of an instruction whose operands all span the same partitions, and elements in each."""
    same_partitions(name, writes[0][1], *reads)


def as_rows(array: Array) -> Array:
    """[P, ...] -> [P, F]."""
    return array if array.ndim == 2 else array.reshape(array.shape[0], -1)


def gives(dst: Tile, shape: Sequence[int]) -> None:
    """Raise where a destination has another number of elements than the result, which has this shape."""
    if dst.size != math.prod(shape):
        raise _other_count(dst.shape, shape, dst)


def _other_count(given: Sequence[int], wanted: Sequence[int], tile: Tile | None = None) -> Exception:
    """The error for a destination of one shape and a result of another, with other numbers of elements."""
    what = f"the instruction gives {math.prod(wanted)} elements and its destination has {math.prod(given)}"
    return fail(what, tile=tile, given=list(given), allowed=str(list(wanted)))


def one_each(x: Scalar, tile: Tile, what: str) -> None:
    """Raise where a scalar operand is neither a number nor a tile with one number for each partition of `tile`."""
    p = tile.shape[0]
    if type(x) is Tile and (x.shape[0] != p or x.size != p):
        raise fail(f"{what} must be a number or a [{p}, 1] tile", tile=x, fix="one value per partition")
    if x is None:
        raise fail(f"{what} is missing", allowed="a number or a [P, 1] tile")
    is_number = hasattr(x, "__float__") and not getattr(x, "ndim", 0)
    if type(x) is not Tile and not hasattr(x, "read") and (isinstance(x, str) or not is_number):
        raise fail(f"{what} must be a number or a [{p}, 1] tile", given=x)


def reduces_into(name: str, data: Tile, result: Tile | None) -> None:
    """Raise where the result of a reduction over the free axes of `data` does not hold one value per partition."""
    if result is not None and result.size != data.shape[0]:
        raise fail(f"{name}: reduce_res holds one value per partition", tile=result, allowed=f"[{data.shape[0]}, 1]")


def like(array: Array, shape: tuple[int, ...]) -> Array:
    """The same elements in a shape. Raises where their numbers differ."""
    if array.shape == shape:
        return array
    if array.size != math.prod(shape):
        raise _other_count(shape, array.shape)
    return array.reshape(shape)


def column(x: Scalar, tile: Tile) -> Any:
    """A scalar operand that `one_each` has seen: float32, or a tile's [P, 1] column shaped to broadcast against
    `tile`."""
    if type(x) is Tile:
        return tile_f32(x).reshape((tile.shape[0],) + (1,) * (len(tile.shape) - 1))
    return np.float32(int(x) if hasattr(x, "read") else x)


def given_tiles(*named: Named) -> list[Named]:
    """The operands that are given."""
    return [n for n in named if n[1] is not None]


def tiles_of(*named: Named) -> list[Named]:
    """The operands that are tiles, not numbers."""
    return [n for n in named if type(n[1]) is Tile]


def two_operands(name: str, op: Alu, tile: Tile) -> None:
    """Raise for an operator that does not combine two numbers."""
    if op.kind.startswith("bit") or (op.kind == "unary" and op.name != "copy"):
        raise fail(
            f"{name} does not take '{op.name}'", tile=tile, allowed="arithmetic, comparisons and logic of two operands"
        )


def of_integers(op: Alu, *operands: object) -> None:
    """Raise where a tile that a bit operator reads holds no integers."""
    for t in operands:
        if type(t) is Tile and t.dtype.kind not in ("int", "uint"):
            raise fail(
                f"'{op.name}' works on integer tiles",
                tile=t,
                given=t.dtype,
                fix="use tile.view(nl.int32) to see the bits of floats",
            )


def bit_operator(op: Alu, a: Array, b: Any) -> Array:
    """A bit operator on integer patterns; a number as second operand takes the first one's type."""
    if op.kind == "bit-unary":
        return np.asarray(op.apply(a))
    if isinstance(b, np.ndarray):
        if b.dtype != a.dtype:
            b = b.astype(a.dtype)
    else:
        b = np.asarray(int(b) & ((1 << 8 * a.dtype.itemsize) - 1), f"u{a.dtype.itemsize}").view(a.dtype)
    return np.asarray(op.apply(a, b))


def wrapped(values: Array, dtype: DType) -> Array:
    """Integers modulo 2^bits."""
    return values.astype(f"u{dtype.itemsize}").view(dtype.dtype)


def as_int64(tile: Tile, shape: tuple[int, ...]) -> Array:
    return like(read_tile(tile), shape).astype(np.int64)


def applied(row: Alu, a: object, b: object, reverse: bool) -> Any:
    if row.kind == "unary":
        return row.apply(a)
    return row.apply(b, a) if reverse else row.apply(a, b)


def int_column(x: Scalar, data: Tile) -> object:
    if type(x) is Tile:
        return (
            read_tile(x).reshape((data.shape[0],) + (1,) * (data.ndim - 1))
            if x.size == data.shape[0]
            else like(read_tile(x), data.shape)
        )
    return int(x)


def exact_column(x: Scalar, data: Tile) -> object:
    if type(x) is Tile:
        if x.dtype.is_int and x.size == data.shape[0]:
            return read_tile(x).astype(np.int64).reshape((data.shape[0],) + (1,) * (data.ndim - 1))
        return None
    if x is None or hasattr(x, "read"):
        return None if x is None else int(x)
    return int(x) if float(x).is_integer() else None


def reduce_last(op: Alu, a: Array) -> Array:
    """Reduce the last axis."""
    if op.name == "add":
        return np.asarray(np.add.reduce(a, axis=-1))
    if op.kind == "bit" and a.dtype.kind not in "iu":
        raise fail(f"'{op.name}' reduces integer tiles", given=str(a.dtype))
    if op.reduce is not None:
        return op.reduce(a, axis=-1)  # type: ignore[no-any-return]
    if op.name == "average":
        return np.asarray(a.mean(axis=-1))
    if op.name in ("abs_max", "abs_min"):
        pick = np.argmax if op.name == "abs_max" else np.argmin
        return np.take_along_axis(a, pick(np.abs(a), axis=-1)[..., None], axis=-1)[..., 0]
    raise fail(f"'{op.name}' cannot reduce", allowed=[r.name for r in ops.ALU.values() if r.reduce is not None])


def accumulate(core: Core, unit: str, values: Array, op: Alu, cmd: str, start: Any = None) -> Array:
    """The accumulators of an engine ("act" or "dve") after reducing [P, ...] values into them; returns [P]."""
    registers = core.act_acc if unit == "act" else core.dve_acc
    p = values.shape[0]
    identity = op.identity if op.identity is not None else 0.0
    if cmd in ("reset", "reset_reduce"):
        registers[:] = identity
    elif cmd == "load_reduce":
        if start is None:
            raise fail("reduce_cmd.load_reduce needs an initial value")
        registers[:p] = np.asarray(start, np.float32).reshape(-1)
    if cmd in ("reduce", "reset_reduce", "load_reduce"):
        part = reduce_last(op, as_rows(values).astype(np.float32, copy=False)).astype(np.float32)
        old = registers[:p].copy()
        registers[:p] = part if cmd == "reset_reduce" else op.apply(old, part)
    return registers[:p]


def reduce_into(
    y: Array, op: Alu, cmd: str, result: Tile | None, unit: str, start: object = None, negate: bool = False
) -> None:
    if cmd == "idle" and result is None:
        return
    registers = accumulate(machine.active(), unit, y, op, cmd, start)
    if result is not None:
        out = -registers if negate else registers.copy()
        write_tile(result, out.reshape(result.shape))


WHOLE = ("add", "subtract", "multiply", "maximum", "minimum", "mod", "abs_max", "abs_min")
"""Operators that make whole numbers of whole numbers."""
