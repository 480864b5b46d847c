"""Instructions of the Vector Engine that compute on all elements: copies, arithmetic, scans, reductions, quantisation.
Some run on the Scalar and GpSimd Engines as well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore import integers, ops, overflow
from mowich.neuroncore.access import read_tile, storage_of, tile_f32, write_tile
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import cast, round_tf32, tfloat32
from mowich.neuroncore.instructions.issue import Named, issue
from mowich.neuroncore.instructions.microscaling import MX_COLUMNS, quantise, scale_blocks
from mowich.neuroncore.instructions.operands import (
    WHOLE,
    Array,
    Scalar,
    alike,
    applied,
    as_int64,
    as_rows,
    bit_operator,
    column,
    exact_column,
    given_tiles,
    gives,
    int_column,
    like,
    of_integers,
    one_each,
    reduce_into,
    reduce_last,
    reduces_into,
    same_partitions,
    tiles_of,
    two_operands,
    wrapped,
)
from mowich.neuroncore.instructions.rates import (
    FP8,
    SHORT,
    EngineWork,
    InstructionRates,
    contiguous,
    elementwise,
    one_pass,
    scalar_cycles,
)
from mowich.neuroncore.instructions.table import SCALES, instruction
from mowich.neuroncore.ops import Alu
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile

# what they cost
# -------------------------------------------------------------------------------------------------------------


TWO_INPUTS = "vector_engine.two_inputs_per_element"


def _two_inputs(r: InstructionRates, kind: Kind, n: int) -> float:
    """tensor_tensor and its like: N with an operand in PSUM; with both in SBUF what the generation takes, N in
    performance mode (v3, v4) and for 16-bit operands (v2)."""
    a, b, out = kind.reads[0], kind.reads[1], kind.writes[0]
    both = a.space == "S" and b.space == "S"
    short = all(o.dtype in SHORT for o in (a, b, out))
    if r.generation >= 4 and not short:
        short = all(o.dtype in (*SHORT, *FP8) for o in (a, b, out))
    if not both:
        return n
    if kind.engine == "gpsimd":
        return 2 * n
    if r.generation >= 3:
        slow = r.number(TWO_INPUTS) * n
        if short and kind.name == "tensor_tensor":
            return max(n, slow / r.number("vector_engine.fast_tensor_tensor"))
        return slow
    quick = short and all(contiguous(o) for o in (a, b, out)) and kind.flag("op") in ("add", "subtract", "multiply")
    return n if quick else r.number(TWO_INPUTS) * n


def _two_inputs_work(r: InstructionRates, kind: Kind, n: int) -> EngineWork:
    cycles = _two_inputs(r, kind, n)
    is_fast = kind.name == "tensor_tensor" and cycles <= n and r.generation >= 3 and kind.reads[0].itemsize == 2
    both = kind.engine == "vector" and all(t.space == "S" for t in kind.reads[:2])
    return EngineWork(cycles, is_fast=is_fast, fact=TWO_INPUTS if both else "")


def _copy_like(r: InstructionRates, kind: Kind, n: int) -> float:
    """tensor_copy and tensor_scalar: performance modes of the Vector Engine (v3, v4; copies of fp8 on v4 as measured)
    and of the Scalar Engine (v4)."""
    tiles = [kind.reads[0], kind.writes[0]] if kind.reads else [kind.writes[0]]
    formats = (*SHORT, *FP8) if r.generation >= 4 else SHORT
    if r.generation < 4 and kind.engine == "scalar":
        return scalar_cycles(r, kind, n)
    if r.generation < 3 or not all(t.dtype in formats for t in tiles):
        return n
    if kind.engine == "vector" and kind.name == "tensor_copy" and any(t.dtype in FP8 for t in tiles):
        return n / r.number("vector_engine.fast_copy_fp8")
    flat = all(contiguous(t) for t in tiles)
    on_chip = all(t.space == "S" for t in tiles)
    if kind.engine == "scalar":
        return n / r.number("scalar_engine.fast_copy")
    if kind.engine != "vector":
        return n
    if flat and on_chip:
        return n / r.number("vector_engine.fast_copy")
    if flat or on_chip:
        return n / r.number("vector_engine.fast_copy_other")
    return n


def _copy_work(r: InstructionRates, kind: Kind, n: int) -> EngineWork:
    if any(t.dynamic == "scalar" for t in (*kind.reads, *kind.writes)):
        return EngineWork(n, least=r.number("vector_engine.dynamic_least"))
    cycles = _copy_like(r, kind, n)
    if kind.engine == "gpsimd" and kind.flag("op") in ("rsqrt", "sqrt"):
        cycles *= r.number("gpsimd_engine.rsqrt_per_element")
    return EngineWork(cycles, is_fast=cycles < n)


_copy_cost = elementwise(_copy_work)


def _memset_work(r: InstructionRates, kind: Kind, n: int) -> float:
    """N; on v2 half of it for zeros of 16 bits. Later there is no performance mode for it, as profiles show."""
    quick = r.generation < 3 and kind.flag("zero", False) and kind.writes[0].dtype in SHORT
    return n / 2 if quick else n


def _scalar_reduce_work(r: InstructionRates, kind: Kind, n: int) -> float:
    return max(r.number("vector_engine.least"), n) + r.number("vector_engine.reduce_extra")


def _reduce_work(_: InstructionRates, kind: Kind, n: int) -> float:
    quick = kind.reads[0].dtype in SHORT and kind.writes[0].dtype in SHORT and kind.flag("op") in ("add", "maximum")
    return n / 2 if quick else n


# what they do
# ---------------------------------------------------------------------------------------------------------------

_INTEGER = (int, np.integer)

_FREE = {"free": True}
"""Flag of a copy whose engine the compiler chooses."""

_ASSIGNED = {"free": True, "assigned": True}
"""Flags of a copy that stands for an assignment of the older interface: its source may be written to its destination at
once."""


@instruction(engines=("vector", "scalar", "gpsimd"), cost=_copy_cost, face="* name | dtype")
def tensor_copy(dst: Tile, src: Tile, engine: str = "", *, is_assigned: bool = False) -> None:
    """dst = src; bit-exact between equal formats where the engine can, through float32 otherwise. is_assigned: it
    stands for an assignment."""
    flags = _ASSIGNED if is_assigned else None if engine else _FREE
    if not issue("tensor_copy", engine, (("dst", dst),), (("src", src),), flags, alike):
        return
    if integers.keeps_bits(storage_of(dst).core, "tensor_copy", engine, src.dtype, dst.dtype) or (
        src.dtype.pack == 4 and src.itemsize == dst.itemsize
    ):
        a = read_tile(src)
        write_tile(
            dst, like(a, dst.shape) if a.dtype == dst.dtype.dtype else np.ascontiguousarray(a).view(dst.dtype.dtype)
        )
    else:
        a = tile_f32(src)
        write_tile(dst, round_tf32(np.ascontiguousarray(a)) if dst.dtype is tfloat32 else a)


@instruction(engines=("vector", "gpsimd"), cost=elementwise(_memset_work), face="* name | dtype")
def memset(dst: Tile, value: Any, engine: str = "") -> None:
    """dst = value."""
    issued = issue("memset", engine, (("dst", dst),), (), {"zero": value == 0})
    if dst.dtype.part is not None and value != 0:
        raise fail(f"memset of {dst.dtype} takes 0 only", tile=dst, given=value)
    if not issued:
        return
    if dst.dtype.part is not None:
        write_tile(dst, np.zeros((), dst.dtype.dtype))
        return
    if dst.dtype.is_int:
        number = np.asarray([int(value) if float(value).is_integer() else value])
    else:
        number = np.asarray([float(value)], np.float32)
    made = cast(number, dst.dtype)
    overflow.look_at_constant(storage_of(dst).core, float(value), made, dst.dtype)
    write_tile(dst, np.broadcast_to(made, dst.shape))


@instruction(engines=("vector", "gpsimd"), cost=elementwise(_two_inputs_work), face="* name | dtype")
def tensor_tensor(dst: Tile, data1: Tile, data2: Tile, op: object, engine: str = "") -> None:
    """dst = data1 op data2."""
    row = ops.alu(op)
    reads = (("data1", data1), ("data2", data2))
    if not issue("tensor_tensor", engine, (("dst", dst),), reads, {"op": row.name}, _two_rules):
        return
    if row.kind.startswith("bit"):
        write_tile(dst, bit_operator(row, like(read_tile(data1), dst.shape), like(read_tile(data2), dst.shape)))
        return
    core = storage_of(dst).core
    if integers.keeps(core, "tensor_tensor", engine, row.name, (dst, data1, data2)):
        write_tile(dst, wrapped(row.apply(as_int64(data1, dst.shape), as_int64(data2, dst.shape)), dst.dtype))
        return
    a, b = tile_f32(data1), tile_f32(data2)
    shape = dst.shape
    if a.shape != shape:
        a = a.reshape(shape)
    if b.shape != shape:
        b = b.reshape(shape)
    r = row.apply(a, b)
    if core.looks and row.name in WHOLE and integers.is_wide(dst.dtype) and data1.dtype.is_int and data2.dtype.is_int:
        integers.note_rounding(core, "tensor_tensor", row.apply(as_int64(data1, shape), as_int64(data2, shape)), r, dst)
    write_tile(dst, r)


def _two_rules(name: str, writes: Sequence[Named], reads: Sequence[Named], flags: Mapping[str, object]) -> None:
    """What the operands of a tensor_tensor must be together."""
    row, (data1, data2) = ops.alu(flags["op"]), (tile for _, tile in reads)
    if storage_of(data1).space == "P" and storage_of(data2).space == "P":
        raise fail("tensor_tensor: data1 and data2 cannot both be in PSUM", tile=data2, fix="copy one of them to SBUF")
    alike(name, writes, reads, flags)
    if row.kind.endswith("unary") and row.name != "copy":
        raise fail(
            f"tensor_tensor: '{row.name}' takes one operand", tile=data2, fix="use tensor_scalar or activation for it"
        )
    if row.kind.startswith("bit"):
        of_integers(row, data1, data2)


@instruction(
    engines=("vector", "scalar", "gpsimd"),
    cost=_copy_cost,
    engine_since={"scalar": 3},
    face="dst data op0 operand0=None * name | dtype",
)
def tensor_scalar(
    dst: Tile,
    data: Tile,
    op0: object,
    operand0: Scalar,
    reverse0: bool = False,
    op1: object = None,
    operand1: Scalar = None,
    reverse1: bool = False,
    engine: str = "",
) -> None:
    """dst = (data op0 operand0) op1 operand1, the operands one value per partition or one in all."""
    row0 = ops.alu(op0)
    row1 = ops.alu(op1) if op1 is not None else None
    reads = (("data", data), *tiles_of(("operand0", operand0), ("operand1", operand1)))
    issued = issue("tensor_scalar", engine, (("dst", dst),), reads, _scale_flags(row0, row1, engine))
    same_partitions("tensor_scalar", dst, ("data", data))
    steps = [(row0, operand0, "operand0")]
    if row1 is not None:
        steps.append((row1, operand1, "operand1"))
    _scalar_rules("tensor_scalar", data, steps)
    if not issued:
        return
    if row0.kind.startswith("bit"):
        bits = read_tile(data)
        for row, x, _ in steps:
            bits = bit_operator(row, bits, int_column(x, data) if row.kind == "bit" else 0)
        write_tile(dst, like(bits, dst.shape))
        return
    a = tile_f32(data)
    r = applied(row0, a, column(operand0, data) if row0.kind != "unary" else None, reverse0)
    if row1 is not None:
        if r.dtype != np.float32:
            r = r.astype(np.float32)
        r = applied(row1, r, column(operand1, data) if row1.kind != "unary" else None, reverse1)
    core = storage_of(dst).core
    if core.looks and integers.is_wide(dst.dtype) and data.dtype.is_int:
        whole = _whole(data, (row0, operand0, reverse0), *([(row1, operand1, reverse1)] if row1 is not None else []))
        if whole is not None:
            integers.note_rounding(core, "tensor_scalar", whole, np.asarray(r), dst)
    write_tile(dst, r)


def _scalar_rules(name: str, data: Tile, steps: Sequence[tuple[Alu, Scalar, str]]) -> None:
    """What the scalar operands of one or two steps must be: a number per partition, or in all; for a bit operator also
    a tile like the data."""
    if all(type(x) is float and row.kind == "arith" for row, x, _ in steps):
        return
    are_bits = [row.kind.startswith("bit") for row, _, _ in steps]
    if any(are_bits) and not all(are_bits):
        raise fail(
            f"{name}: op0 and op1 must both be bit operators, or both arithmetic",
            given=", ".join(row.name for row, _, _ in steps),
        )
    for row, x, what in steps:
        if are_bits[0]:
            of_integers(row, data, x)
            if type(x) is Tile and x.size not in (data.shape[0], data.size):
                raise fail(
                    f"{name}: {what} has {x.size} elements",
                    tile=x,
                    allowed=f"{data.shape[0]}, or {data.size} as the data",
                )
        elif row.kind != "unary":
            one_each(x, data, f"{name}: {what}")


def _scale_flags(row0: Alu, row1: Alu | None, engine: str) -> dict[str, object]:
    """Flags of a tensor_scalar. "free": the compiler chooses its engine, and the Scalar Engine can run it: a product, a
    sum, or a sum of a product (reference of nki.isa)."""
    ops_ = (row0.name, row1.name if row1 is not None else "")
    if engine or ops_ not in (("multiply", ""), ("add", ""), ("multiply", "add")):
        return {"op": row0.name}
    return {"op": row0.name, "free": True}


def _whole(data: Tile, *steps: tuple[Alu, Scalar, bool]) -> Array | None:
    """What operators with one scalar each make of integers, in whole numbers (int64); None where something is none."""
    out = read_tile(data).astype(np.int64)
    for row, x, reverse in steps:
        b = exact_column(x, data) if row.name in WHOLE else None
        if b is None:
            return None
        out = applied(row, out, b, reverse)
    return np.asarray(out)


@instruction(engines=("vector",), cost=elementwise(_two_inputs_work), face="* name | dtype")
def scalar_tensor_tensor(
    dst: Tile,
    data: Tile,
    op0: object,
    operand0: Scalar,
    op1: object,
    operand1: Tile,
    reverse0: bool = False,
    reverse1: bool = False,
) -> None:
    """dst = (data op0 operand0) op1 operand1, operand1 a tile of data's shape."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    reads = (("data", data), ("operand1", operand1), *tiles_of(("operand0", operand0)))
    issued = issue("scalar_tensor_tensor", "", (("dst", dst),), reads, {"op": row0.name})
    if storage_of(data).space == "P" and storage_of(operand1).space == "P":
        raise fail(
            "scalar_tensor_tensor: data and operand1 cannot both be in PSUM",
            tile=operand1,
            fix="copy one of them to SBUF",
        )
    same_partitions("scalar_tensor_tensor", dst, ("data", data), ("operand1", operand1))
    if row0.kind != "unary" and not row0.kind.startswith("bit") and not row1.kind.startswith("bit"):
        one_each(operand0, data, "scalar_tensor_tensor: operand0")
    if row1.kind.startswith("bit"):
        of_integers(row1, data, operand1)
    if row0.kind.startswith("bit"):
        of_integers(row0, data, operand0)
    if not issued:
        return
    if row0.kind.startswith("bit") or row1.kind.startswith("bit"):
        a = (
            bit_operator(row0, read_tile(data), int_column(operand0, data))
            if row0.kind.startswith("bit")
            else read_tile(data)
        )
        write_tile(dst, bit_operator(row1, like(a, dst.shape), like(read_tile(operand1), dst.shape)))
        return
    r = applied(row0, tile_f32(data), column(operand0, data) if row0.kind != "unary" else None, reverse0)
    if r.dtype != np.float32:
        r = r.astype(np.float32)
    write_tile(dst, applied(row1, like(r, dst.shape), like(tile_f32(operand1), dst.shape), reverse1))


@instruction(engines=("vector",), cost=elementwise(_scalar_reduce_work), face="* name | dtype")
def tensor_scalar_reduce(
    dst: Tile,
    data: Tile,
    op0: object,
    operand0: Scalar,
    reduce_op: object,
    reduce_res: Tile | None = None,
    reverse0: bool = False,
    reduce_cmd: str = "reset_reduce",
    reduce_init: Scalar = None,
    reduce_res_negate: bool = False,
) -> None:
    """dst = data op0 operand0, reduced over the free axes into the accumulators."""
    row0, red = ops.alu(op0), ops.alu(reduce_op)
    reads = (("data", data), *tiles_of(("operand0", operand0), ("reduce_init", reduce_init)))
    writes = given_tiles(("dst", dst), ("reduce_res", reduce_res))
    issued = issue("tensor_scalar_reduce", "", writes, reads, {"op": row0.name})
    same_partitions("tensor_scalar_reduce", dst, ("data", data))
    if row0.kind != "unary":
        two_operands("tensor_scalar_reduce", row0, data)
        one_each(operand0, data, "tensor_scalar_reduce: operand0")
    if reduce_cmd == "load_reduce":
        one_each(reduce_init, data, "tensor_scalar_reduce: reduce_init")
    reduces_into("tensor_scalar_reduce", data, reduce_res)
    if not issued:
        return
    y = applied(row0, tile_f32(data), column(operand0, data) if row0.kind != "unary" else None, reverse0)
    write_tile(dst, y)
    start = column(reduce_init, data) if reduce_cmd == "load_reduce" else None
    reduce_into(np.asarray(y), red, reduce_cmd, reduce_res, "dve", start, reduce_res_negate)


@instruction(engines=("vector",), cost=one_pass, face="* name | reverse0")
def tensor_scalar_cumulative(
    dst: Tile,
    src: Tile,
    op0: object,
    op1: object,
    imm0: Scalar,
    imm1: Scalar = None,
    reduce_cmd: str = "reset_reduce",
    reverse0: bool = False,
) -> None:
    """dst[i] = op1(src[i] op0 imm0, dst[i - 1]) along the free axes; the accumulators carry over between
    instructions."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    reads = (("src", src), *tiles_of(("imm0", imm0), ("imm1", imm1)))
    issued = issue("tensor_scalar_cumulative", "", (("dst", dst),), reads, {"op": row0.name})
    if row1.name not in ("add", "subtract", "multiply", "maximum", "minimum"):
        raise fail(
            "tensor_scalar_cumulative: op1 cannot accumulate",
            given=row1.name,
            allowed="add, subtract, multiply, maximum, minimum",
        )
    if integers.is_wide(src.dtype) or integers.is_wide(dst.dtype):
        raise fail("tensor_scalar_cumulative does not take 32-bit integers", tile=src)
    same_partitions("tensor_scalar_cumulative", dst, ("src", src))
    if row0.kind != "unary":
        two_operands("tensor_scalar_cumulative", row0, src)
        one_each(imm0, src, "tensor_scalar_cumulative: imm0")
    if reduce_cmd == "load_reduce":
        one_each(imm1, src, "tensor_scalar_cumulative: imm1")
    if not issued:
        return
    y = applied(row0, tile_f32(src), column(imm0, src) if row0.kind != "unary" else None, reverse0)
    x = as_rows(np.asarray(y, np.float32))
    core = machine.active()
    p = x.shape[0]
    if reduce_cmd == "reset_reduce":
        state = np.full(p, row1.identity, np.float32)
    elif reduce_cmd == "load_reduce":
        state = np.broadcast_to(np.asarray(column(imm1, src), np.float32).reshape(-1), (p,)).copy()
    else:
        state = core.dve_acc[:p].copy()
    out = _scan(np.ascontiguousarray(x.T), state, row1)
    core.dve_acc[:p] = out[-1]
    write_tile(dst, like(np.ascontiguousarray(out.T), dst.shape))


def _scan(columns: Array, state: Array, op: Alu) -> Array:
    out = np.empty_like(columns)
    if op.name == "add":
        columns = columns.copy()
        columns[0] += state
        return np.cumsum(columns, axis=0, dtype=np.float32)
    for i in range(columns.shape[0]):
        state = op.apply(columns[i], state)
        out[i] = state
    return out


@instruction(
    engines=("vector",),
    cost=elementwise(lambda r, _, n: r.number("vector_engine.scan_per_element") * n),
    face="* name | dtype",
)
def tensor_tensor_scan(
    dst: Tile,
    data0: Tile,
    data1: Tile,
    initial: Scalar,
    op0: object,
    op1: object,
    reverse0: bool = False,
    reverse1: bool = False,
) -> None:
    """dst[i] = (data0[i] op0 dst[i - 1]) op1 data1[i], from `initial`, along the free axes."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    reads = (("data0", data0), ("data1", data1), *tiles_of(("initial", initial)))
    issued = issue("tensor_tensor_scan", "", (("dst", dst),), reads, {"op": row0.name})
    if storage_of(data0).space == "P" and storage_of(data1).space == "P":
        raise fail("tensor_tensor_scan: data0 and data1 cannot both be in PSUM", tile=data1)
    same_partitions("tensor_tensor_scan", dst, ("data0", data0), ("data1", data1))
    for row in (row0, row1):
        two_operands("tensor_tensor_scan", row, data0)
    one_each(initial, data0, "tensor_tensor_scan: initial")
    if not issued:
        return
    a = np.ascontiguousarray(as_rows(tile_f32(data0)).T)
    b = np.ascontiguousarray(as_rows(tile_f32(data1)).T)
    p = a.shape[1]
    state: Any = np.broadcast_to(np.asarray(column(initial, data0), np.float32).reshape(-1), (p,))
    if row0.name == "multiply" and row1.name == "add" and bool((a == 1).all()):
        b = b.copy()
        b[0] += state
        out = np.cumsum(b, axis=0, dtype=np.float32)
    else:
        out = np.empty_like(b)
        for i in range(a.shape[0]):
            t = row0.apply(state, a[i]) if reverse0 else row0.apply(a[i], state)
            state = np.asarray(row1.apply(b[i], t) if reverse1 else row1.apply(t, b[i]), np.float32)
            out[i] = state
    write_tile(dst, like(np.ascontiguousarray(out.T), dst.shape))


@instruction(engines=("vector",), cost=elementwise(_reduce_work), face="* keepdims=False name | dtype")
def tensor_reduce(dst: Tile, op: object, data: Tile, axis: Any, negate: bool = False) -> None:
    """dst = data reduced over its last free axes."""
    row = ops.alu(op)
    issued = issue("tensor_reduce", "", (("dst", dst),), (("data", data),), {"op": row.name})
    ndim = len(data.shape)
    axes = sorted([int(a) % ndim for a in ((axis,) if isinstance(axis, _INTEGER) else axis)])
    if axes[0] == 0:
        raise fail(
            "tensor_reduce cannot reduce the partition dimension",
            tile=data,
            fix="transpose first, use tensor_partition_reduce, or a matmul with ones",
        )
    innermost = list(range(ndim - len(axes), ndim))
    if axes != innermost and dst.size == math.prod(data.shape[: innermost[0]]) and innermost[0] > 0:
        axes = innermost  # kernels that run on Trainium 2 name axis 1 of [P, 1, N]: how many axes decides, not which
    if axes != innermost:
        raise fail(
            "tensor_reduce reduces the last free dimensions only",
            tile=data,
            given=f"axis={axes}",
            fix="permute the view so that the reduced dimensions come last",
        )
    kept = math.prod(data.shape[: axes[0]])
    if dst.size != kept or dst.shape[0] != data.shape[0]:
        raise fail(
            f"tensor_reduce: dst needs {kept // data.shape[0]} elements in each of {data.shape[0]} partitions", tile=dst
        )
    if row.kind == "bit":
        of_integers(row, data)
    if not issued:
        return
    a = read_tile(data) if row.kind == "bit" else tile_f32(data)
    flat = (*data.shape[: axes[0]], -1)
    r = reduce_last(row, a.reshape(flat))
    core = storage_of(dst).core
    if core.looks and row.name in ("add", "maximum", "minimum") and data.dtype.is_int and integers.is_wide(dst.dtype):
        integers.note_rounding(
            core, "tensor_reduce", reduce_last(row, as_int64(data, data.shape).reshape(flat)), np.asarray(r), dst
        )
    if negate:
        r = -r
    write_tile(dst, like(np.asarray(r), dst.shape))


@instruction(engines=("vector",), cost=one_pass, face="* name | dtype")
def bn_stats(dst: Tile, data: Tile) -> None:
    """dst [P, 6] = count, mean and count * variance of the even elements, then of the odd ones."""
    issued = issue("bn_stats", "", (("dst", dst),), (("data", data),))
    most = machine.active().limits.bn_stats_elements
    if data.size // data.shape[0] > most:
        raise fail(
            f"bn_stats takes at most {most} elements per partition",
            tile=data,
            fix="split the free dimension, and join with bn_aggr",
        )
    gives(dst, (data.shape[0], 6))
    if not issued:
        return
    x = as_rows(tile_f32(data)).astype(np.float64)
    out = np.zeros((x.shape[0], 6))
    for k, part in enumerate((x[:, 0::2], x[:, 1::2])):
        n = part.shape[1]
        if n:
            mean = part.mean(axis=1)
            out[:, 3 * k] = n
            out[:, 3 * k + 1] = mean
            out[:, 3 * k + 2] = ((part - mean[:, None]) ** 2).sum(axis=1)
    write_tile(dst, like(out.astype(np.float32), dst.shape))


@instruction(
    engines=("vector",),
    cost=elementwise(lambda r, _, n: r.number("vector_engine.bn_aggr_per_element") * n),
    face="* name | dtype",
)
def bn_aggr(dst: Tile, data: Tile) -> None:
    """dst [P, 2] = mean and variance from (count, mean, count * variance) triples."""
    issued = issue("bn_aggr", "", (("dst", dst),), (("data", data),))
    columns = data.size // data.shape[0]
    if columns % 3:
        raise fail(
            "bn_aggr takes triples of count, mean, count * variance",
            tile=data,
            given=f"{columns} elements per partition",
        )
    gives(dst, (data.shape[0], 2))
    if not issued:
        return
    x = as_rows(tile_f32(data)).astype(np.float64)
    n, mean, m2 = x[:, 0::3], x[:, 1::3], x[:, 2::3]
    total = n.sum(axis=1)
    whole = (n * mean).sum(axis=1) / total
    var = (m2.sum(axis=1) + (n * (mean - whole[:, None]) ** 2).sum(axis=1)) / total
    write_tile(dst, like(np.stack([whole, var], axis=1).astype(np.float32), dst.shape))


@instruction(
    engines=("vector",),
    cost=elementwise(lambda r, _, n: r.number("vector_engine.reciprocal_per_element") * n),
    face="* name | dtype",
)
def reciprocal(dst: Tile, data: Tile) -> None:
    """dst = 1 / data."""
    issued = issue("reciprocal", "", (("dst", dst),), (("data", data),))
    same_partitions("reciprocal", dst, ("data", data))
    if not issued:
        return
    write_tile(dst, np.float32(1.0) / tile_f32(data))


@instruction(
    engines=("vector",), cost=elementwise(lambda r, _, n: n / r.number("vector_engine.exponential_elements")), since=4
)
def exponential(
    dst: Tile,
    src: Tile,
    max_value: Scalar = 0.0,
    reduce_res: Tile | None = None,
    reduce_cmd: str = "idle",
    reduce_init: Scalar = 0.0,
) -> None:
    """dst = exp(src - max_value) on the Vector Engine of v4, its sum into the accumulators."""
    reads = (("src", src), *tiles_of(("max_value", max_value), ("reduce_init", reduce_init)))
    issued = issue("exponential", "", given_tiles(("dst", dst), ("reduce_res", reduce_res)), reads)
    same_partitions("exponential", dst, ("src", src))
    one_each(max_value, src, "exponential: max_value")
    if reduce_cmd == "load_reduce":
        one_each(reduce_init, src, "exponential: reduce_init")
    reduces_into("exponential", src, reduce_res)
    if not issued:
        return
    y = np.exp(tile_f32(src) - column(max_value, src))
    write_tile(dst, y)
    start = column(reduce_init, src) if reduce_cmd == "load_reduce" else None
    reduce_into(y, ops.ALU["add"], reduce_cmd, reduce_res, "dve", start)


@instruction(
    engines=("vector",),
    cost=elementwise(lambda r, _, n: n / r.number("vector_engine.quantize_elements")),
    since=4,
    spaces={"dst": "S", "src": "S", "dst_scale": "S"},
    dtypes={"dst": ("float8_e4m3fn_x4", "float8_e5m2_x4"), "src": ("float16", "bfloat16"), "dst_scale": SCALES},
)
def quantize_mx(dst: Tile, src: Tile, dst_scale: Tile) -> None:
    """dst (packed fp8) and one e8m0 scale per 8 partitions x 4 columns of src.

    Scale exponent = floor(log2 max |x|) - E_max + headroom; elements are divided by the scale, limited to the format's
    range and rounded to nearest even. The headroom is the fact `neuroncore.v4.mx.scale_headroom`: 0, as nki-library's
    hardware-checked references have it; the reference of 2026-08 documents 1.
    """
    issued = issue("quantize_mx", "", (("dst", dst), ("dst_scale", dst_scale)), (("src", src),))
    limits, p, f = machine.active().limits, src.shape[0], src.size // src.shape[0]
    if p % limits.quadrant or f % MX_COLUMNS:
        raise fail(f"quantize_mx: partitions are a multiple of {limits.quadrant}, columns of {MX_COLUMNS}", tile=src)
    gives(dst, (p, f // MX_COLUMNS))
    blocks = scale_blocks(dst_scale, p, f // MX_COLUMNS, limits)
    if not issued:
        return
    words, scales = quantise(as_rows(tile_f32(src)), dst.dtype, limits.mx_headroom)
    write_tile(dst, like(words, dst.shape))
    row = 0
    for block in blocks:
        part = scales[row : row + block.shape[0]].view(dst_scale.dtype.dtype)
        write_tile(block, like(part, block.shape))
        row += block.shape[0]
