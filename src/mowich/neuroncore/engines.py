"""What the instructions of the compute engines do, one function each, on tiles.

Every function first calls `issue`, which checks the row of the table (generation, engine, memories, partitions) and records the
instruction; it returns False in a run without values. Then operands are read to float32, computed on, and written in the format of
the destination. Integer tiles of 32 bits keep exact integer arithmetic where the engines do (`integers`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore import integers, ops
from mowich.neuroncore.core import Core, Limits, fail
from mowich.neuroncore.dtypes import (
    DType,
    bfloat16,
    cast,
    float8_e4m3,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    pack,
    round_tf32,
    tfloat32,
    to_f32,
    unpack,
)
from mowich.neuroncore.isa import TABLE, Row
from mowich.neuroncore.memory import SPACE_NAME, Tile, merged, same
from mowich.neuroncore.ops import Alu
from mowich.neuroncore.search import largest8, occurrences

Array = NDArray[Any]
Named = tuple[str, Any]
Scalar = Any
"""A number, or a [P, 1] tile with one number per partition."""

F32_MIN = float(np.finfo(np.float32).min)
_INTEGER = (int, np.integer)


def issue(
    name: str, engine: str, writes: Sequence[Named], reads: Sequence[Named], flags: dict[str, Any] | None = None
) -> bool:
    """Check an instruction against its row and record it. engine: "" lets the row choose. False: do not compute.

    The checks look at the form of each access: memory, shapes, strides, format, first partition. An instruction on forms that it was
    issued on before has passed them.
    """
    core = machine.running() or machine.active()
    row = TABLE[name]
    core.clock += 1
    operands: Sequence[Named] = (*reads, *writes)
    for _, tile in operands:
        if type(tile) is not Tile:
            _check(core, row, engine, writes, reads)
        if tile.dynamic is not None:
            operands = (*reads, *_indices(reads, writes), *writes)
    trace, accesses = core.trace, core.accesses
    key: list[Any] = [name, engine, len(reads)]
    if flags:
        key += flags.items()
    touched: list[int] = []
    for operand, tile in operands:
        s = tile.storage
        dynamic = "" if tile.dynamic is None else tile.dynamic.kind
        access = (s.layout, tile.offset, tile.shape, tile.strides, tile.dtype.name, dynamic)
        pattern, form = accesses.get(access) or _access(core, tile, access)
        key += (operand, form)
        touched += (s.number, pattern)
        if trace is not None and s.number not in trace.storages:
            trace.touch(s)
    known = tuple(key)
    kind = core.known.get(known)
    if kind is None:
        lasts = _check(core, row, engine, writes, reads)
        kind = -1
        if trace is not None:
            before = [t for _, t in operands[: len(operands) - len(writes)]]
            kind = trace.kind_of(name, engine or row.engines[0], before, [t for _, t in writes], flags)
        if lasts:
            core.known[known] = kind
    is_dma = row.engines[0] == "dma"
    if is_dma and core.programs == 2 and core.group is not None and writes and writes[0][1].storage.space == "H":
        base = core.scratch["base"]
        core.group.step(base + core.program, base + 1 - core.program)
    if trace is not None:
        trace.add(core.clock, kind, touched, machine.site(core))
    _sink_loads(core, is_dma, writes, reads)
    if core.values:
        return True
    for _, tile in writes:
        if tile.dynamic is None:
            tile.array()
        tile.storage.record[4] = core.clock if tile.storage.record[4] < 0 else tile.storage.record[4]
        tile.storage.record[5] = core.clock
        tile.storage.state = 2
    for _, tile in reads:
        tile.storage.record[5] = core.clock
    return False


def _indices(*operands: Sequence[Named]) -> list[Named]:
    """The tiles that hold the run-time offsets of views: they are read as well."""
    dynamic = [t.dynamic for named in operands for _, t in named if t.dynamic is not None]
    return [("index", d.index) for d in dynamic if type(d.index) is Tile]


def _access(core: Core, tile: Tile, access: tuple[Any, ...]) -> tuple[int, int]:
    """Numbers of the pattern and of the form of an access that is new."""
    layout, _, *rest = access
    start = tile.start_partition if tile.on_chip else 0
    form = core.forms.setdefault((layout, start, *rest), len(core.forms))
    found = core.accesses[access] = (core.trace.pattern_of(tile) if core.trace is not None else 0, form)
    return found


def _check(core: Core, row: Row, engine: str, writes: Sequence[Named], reads: Sequence[Named]) -> bool:
    """Raise where an instruction breaks its row. True: operands of the same forms would pass as well."""
    name, generation = row.name, core.limits.generation
    if row.since > generation:
        raise fail(
            f"{name} needs NeuronCore-v{row.since}",
            given=f"target v{generation}",
            fix=f"run with target='{ {3: 'trn2', 4: 'trn3'}[row.since] }'",
        )
    if engine and engine not in row.engines:
        raise fail(
            f"{name} does not run on the {engine} engine",
            allowed=", ".join(row.engines),
            fix=f"leave engine out, or use the {row.engines[0]} engine",
        )
    if row.engine_since.get(engine, 0) > generation:
        raise fail(
            f"{name} on the {engine} engine needs NeuronCore-v{row.engine_since[engine]}",
            given=f"target v{generation}",
            fix=f"use the {' or '.join(e for e in row.engines if e not in row.engine_since)} engine",
        )
    is_dma = row.engines[0] == "dma"
    lasts = True
    for operand, tile in (*writes, *reads):
        if type(tile) is not Tile:
            raise fail(f"{name}: {operand} must be a tile", given=type(tile).__name__)
        if not tile.size:
            raise fail(
                f"{name}: {operand} is empty", tile=tile, fix="leave the instruction out where there is nothing to do"
            )
        space = tile.storage.space
        allowed = row.spaces.get(operand) or ("SH" if is_dma else "SP")
        if space not in allowed:
            raise _wrong_memory(row, operand, tile, allowed)
        if row.dtypes and operand in row.dtypes and tile.dtype.name not in row.dtypes[operand]:
            raise fail(
                f"{name}: {operand} has a format that the instruction does not take",
                tile=tile,
                given=tile.dtype,
                allowed=", ".join(row.dtypes[operand]),
                fix="copy it to a tile of one of these with tensor_copy, or view() its bytes",
            )
        if space == "H":
            continue
        if tile.shape[0] > core.limits.partitions:
            raise fail(
                f"{name}: {operand} spans {tile.shape[0]} partitions",
                tile=tile,
                allowed=f"at most {core.limits.partitions}",
            )
        if engine == "gpsimd" and space == "P":
            raise fail(
                f"{name}: the GpSimd engine cannot reach PSUM",
                tile=tile,
                fix="copy to SBUF first, or use the vector or scalar engine",
            )
        if not is_dma:
            lasts &= _check_pattern(name, operand, tile, core.limits)
            if not operand.endswith("_scale"):
                _check_start(name, operand, tile, core.limits.quadrant)
    return lasts


def _sink_loads(core: Core, is_dma: bool, writes: Sequence[Named], reads: Sequence[Named]) -> None:
    """A tile that only loads from HBM have written lives from its first read: the compiler may delay the loads until then."""
    loads = is_dma
    for _, tile in reads:
        storage = tile.storage
        if storage.space == "H":
            continue
        loads = False
        record = storage.record
        if record[11]:
            record[4], record[11] = core.clock, False
    for _, tile in writes:
        record = tile.storage.record
        if not loads:
            record[11] = False
        elif record[4] < 0 and record[8] is None:
            record[11] = True


def _wrong_memory(row: Row, operand: str, tile: Tile, allowed: str) -> Exception:
    names = " or ".join(SPACE_NAME[s] for s in allowed)
    remedy = {
        "H": "load it to SBUF with dma_copy first",
        "P": "copy it to SBUF with tensor_copy first",
        "S": "allocate it with buffer=nl.psum" if allowed == "P" else "put it in " + names,
    }[tile.storage.space]
    return fail(
        f"{row.name}: {operand} is in {SPACE_NAME[tile.storage.space]}, must be in {names}", tile=tile, fix=remedy
    )


def _check_start(name: str, operand: str, tile: Tile, quadrant: int) -> None:
    start = tile.start_partition
    if start == 0:
        return
    count, step = tile.shape[0], quadrant
    while step < count:
        step *= 2
    if start % step or start + count > tile.storage.core.limits.partitions:
        legal = range(0, tile.storage.core.limits.partitions - count + 1, step)
        raise fail(f"{name}: {operand} of {count} partitions starts at partition {start}", tile=tile, allowed=f"start at {', '.join(map(str, legal))}",
                   fix=f"engines start at quadrants of {quadrant} partitions; move the rows with dma_copy or nc_stream_shuffle")  # fmt: skip


def _check_pattern(name: str, operand: str, tile: Tile, limits: Limits) -> bool:
    """What an engine can walk: partitions that follow one another, and few long axes in each. False: warned, once per line of the kernel."""
    fits = True
    s = tile.storage
    if tile.shape[0] > 1 and tile.strides[0] * tile.dtype.itemsize != s.row_B:
        raise fail(
            f"{name}: the partitions of {operand} do not follow one another",
            tile=tile,
            given=f"partition stride {tile.strides[0]} elements, a partition has {tile.row_elements}",
            fix="an engine takes consecutive partitions: gather them with dma_copy first",
        )
    if len(tile.shape) > limits.max_dims:
        axes = len(merged(tile.shape[1:], tile.strides[1:]))
        if axes >= limits.max_dims:
            tile.storage.core.warn(
                "dims",
                f"{name}: {operand} has {axes} dimensions beside the partition, an access pattern {limits.max_dims - 1}: {tile.describe()}; "
                "the compiler makes several instructions of this one",
            )
            fits = False
    if tile.size > limits.max_count and max(tile.shape) > limits.max_count:
        raise fail(
            f"{name}: {operand} has an axis of {max(tile.shape):,} elements",
            tile=tile,
            allowed=f"at most {limits.max_count:,}",
            fix="split the axis: an instruction counts its elements in 16 bits",
        )
    return fits


def same_partitions(name: str, dst: Tile, *tiles: tuple[str, Tile]) -> None:
    """Raise where operands span different numbers of partitions, or of elements in each."""
    p, n = dst.shape[0], dst.size
    for operand, t in tiles:
        if t.shape[0] != p or t.size != n:
            raise fail(
                f"{name}: {operand} {list(t.shape)} and dst {list(dst.shape)} need the same partitions and elements per partition", tile=t,
                fix="slice one of them, or give it the other's shape",
            )  # fmt: skip


def as_rows(array: Array) -> Array:
    """[P, ...] -> [P, F]."""
    return array if array.ndim == 2 else array.reshape(array.shape[0], -1)


def like(array: Array, shape: tuple[int, ...]) -> Array:
    """The same elements in a shape. Raises where their numbers differ."""
    if array.shape == shape:
        return array
    if array.size != math.prod(shape):
        raise fail(
            f"the instruction gives {array.size} elements and its destination has {math.prod(shape)}",
            given=list(shape),
            allowed=str(list(array.shape)),
        )
    return array.reshape(shape)


def column(x: Scalar, tile: Tile, what: str) -> Any:
    """A scalar operand: float32, or a tile's [P, 1] column shaped to broadcast against `tile`."""
    if type(x) is Tile:
        p = tile.shape[0]
        if x.shape[0] != p or x.size != p:
            raise fail(f"{what} must be a number or a [{p}, 1] tile", tile=x, fix="one value per partition")
        return x.f32().reshape((p,) + (1,) * (len(tile.shape) - 1))
    if x is None:
        raise fail(f"{what} is missing", allowed="a number or a [P, 1] tile")
    return np.float32(int(x) if hasattr(x, "read") else x)


def _scalars(*named: Named) -> list[Named]:
    return [n for n in named if type(n[1]) is Tile]


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


# elementwise ---------------------------------------------------------------------------------------------------------------


_FREE = {"free": True}
"""Flag of a copy whose engine the compiler chooses."""


def tensor_copy(dst: Tile, src: Tile, engine: str = "") -> None:
    """dst = src; bit-exact between equal formats where the engine can, through float32 otherwise."""
    if not issue("tensor_copy", engine, (("dst", dst),), (("src", src),), None if engine else _FREE):
        return
    same_partitions("tensor_copy", dst, ("src", src))
    if integers.copies(dst.storage.core, "tensor_copy", engine, src.dtype, dst.dtype) or (
        src.dtype.pack == 4 and src.itemsize == dst.itemsize
    ):
        a = src.read()
        dst.write(like(a, dst.shape) if a.dtype == dst.dtype.dtype else np.ascontiguousarray(a).view(dst.dtype.dtype))
    else:
        a = src.f32()
        dst.write(round_tf32(np.ascontiguousarray(a)) if dst.dtype is tfloat32 else a)


def memset(dst: Tile, value: Any, engine: str = "") -> None:
    """dst = value."""
    if not issue("memset", engine, (("dst", dst),), (), {"zero": value == 0}):
        return
    if dst.dtype.part is not None:
        if value != 0:
            raise fail(f"memset of {dst.dtype} takes 0 only", tile=dst, given=value)
        dst.write(np.zeros((), dst.dtype.dtype))
        return
    if dst.dtype.is_int:
        dst.write(
            np.broadcast_to(
                cast(np.asarray([int(value) if float(value).is_integer() else value]), dst.dtype), dst.shape
            )
        )
    else:
        dst.write(np.broadcast_to(cast(np.asarray([float(value)], np.float32), dst.dtype), dst.shape))


def _bits(op: Alu, dst: Tile, a: Array, b: Any) -> Array:
    """A bit operator on integer patterns; a number as second operand takes the first one's type."""
    if a.dtype.kind not in "iu" or (isinstance(b, np.ndarray) and b.dtype.kind not in "iu"):
        raise fail(
            f"'{op.name}' works on integer tiles",
            tile=dst,
            given=str(a.dtype),
            fix="use tile.view(nl.int32) to see the bits of floats",
        )
    if op.kind == "bit-unary":
        return np.asarray(op.apply(a))
    if isinstance(b, np.ndarray):
        if b.dtype != a.dtype:
            b = b.astype(a.dtype)
    else:
        b = np.asarray(int(b) & ((1 << 8 * a.dtype.itemsize) - 1), f"u{a.dtype.itemsize}").view(a.dtype)
    return np.asarray(op.apply(a, b))


def _wrap(values: Array, dtype: DType) -> Array:
    """Integers modulo 2^bits."""
    return values.astype(f"u{dtype.itemsize}").view(dtype.dtype)


def two_operands(name: str, op: Alu, tile: Tile) -> None:
    """Raise for an operator that does not combine two numbers."""
    if op.kind.startswith("bit") or (op.kind == "unary" and op.name != "copy"):
        raise fail(
            f"{name} does not take '{op.name}'", tile=tile, allowed="arithmetic, comparisons and logic of two operands"
        )


_WHOLE = ("add", "subtract", "multiply", "maximum", "minimum", "mod", "abs_max", "abs_min")
"""Operators that make whole numbers of whole numbers."""


def _int64(tile: Tile, shape: tuple[int, ...]) -> Array:
    return like(tile.read(), shape).astype(np.int64)


def tensor_tensor(dst: Tile, data1: Tile, data2: Tile, op: Any, engine: str = "") -> None:
    """dst = data1 op data2."""
    row = ops.alu(op)
    if not issue("tensor_tensor", engine, (("dst", dst),), (("data1", data1), ("data2", data2)), {"op": row.name}):
        return
    if data1.storage.space == "P" and data2.storage.space == "P":
        raise fail("tensor_tensor: data1 and data2 cannot both be in PSUM", tile=data2, fix="copy one of them to SBUF")
    same_partitions("tensor_tensor", dst, ("data1", data1), ("data2", data2))
    if row.kind.endswith("unary") and row.name != "copy":
        raise fail(
            f"tensor_tensor: '{row.name}' takes one operand", tile=data2, fix="use tensor_scalar or activation for it"
        )
    if row.kind.startswith("bit"):
        dst.write(_bits(row, dst, like(data1.read(), dst.shape), like(data2.read(), dst.shape)))
        return
    core = dst.storage.core
    if integers.keeps(core, "tensor_tensor", engine, row.name, (dst, data1, data2)):
        dst.write(_wrap(row.apply(_int64(data1, dst.shape), _int64(data2, dst.shape)), dst.dtype))
        return
    a, b = data1.f32(), data2.f32()
    shape = dst.shape
    if a.shape != shape:
        a = a.reshape(shape)
    if b.shape != shape:
        b = b.reshape(shape)
    r = row.apply(a, b)
    if core.strict and row.name in _WHOLE and integers.is_wide(dst.dtype) and data1.dtype.is_int and data2.dtype.is_int:
        integers.note(core, "tensor_tensor", row.apply(_int64(data1, shape), _int64(data2, shape)), r, dst)
    dst.write(r)


def _apply(row: Alu, a: Any, b: Any, reverse: bool) -> Any:
    if row.kind == "unary":
        return row.apply(a)
    return row.apply(b, a) if reverse else row.apply(a, b)


def tensor_scalar(dst: Tile, data: Tile, op0: Any, operand0: Scalar, reverse0: bool = False, op1: Any = None, operand1: Scalar = None,
                  reverse1: bool = False, engine: str = "") -> None:  # fmt: skip
    """dst = (data op0 operand0) op1 operand1, the operands one value per partition or one in all."""
    row0 = ops.alu(op0)
    row1 = ops.alu(op1) if op1 is not None else None
    if not issue(
        "tensor_scalar",
        engine,
        (("dst", dst),),
        (("data", data), *_scalars(("operand0", operand0), ("operand1", operand1))),
        {"op": row0.name},
    ):
        return
    same_partitions("tensor_scalar", dst, ("data", data))
    if row0.kind.startswith("bit"):
        a = _bits(row0, dst, data.read(), _int_column(operand0, data) if row0.kind == "bit" else 0)
        if row1 is not None:
            if row1.kind.startswith("bit"):
                a = _bits(row1, dst, a, _int_column(operand1, data) if row1.kind == "bit" else 0)
            else:
                raise fail(
                    "tensor_scalar: op0 and op1 must both be bit operators, or both arithmetic",
                    given=f"{row0.name}, {row1.name}",
                )
        dst.write(like(a, dst.shape))
        return
    if row1 is not None and row1.kind.startswith("bit"):
        raise fail(
            "tensor_scalar: op0 and op1 must both be bit operators, or both arithmetic",
            given=f"{row0.name}, {row1.name}",
        )
    a = data.f32()
    r = _apply(row0, a, column(operand0, data, "tensor_scalar: operand0") if row0.kind != "unary" else None, reverse0)
    if row1 is not None:
        if r.dtype != np.float32:
            r = r.astype(np.float32)
        r = _apply(
            row1, r, column(operand1, data, "tensor_scalar: operand1") if row1.kind != "unary" else None, reverse1
        )
    core = dst.storage.core
    if core.strict and integers.is_wide(dst.dtype) and data.dtype.is_int:
        whole = _whole(data, (row0, operand0, reverse0), *([(row1, operand1, reverse1)] if row1 is not None else []))
        if whole is not None:
            integers.note(core, "tensor_scalar", whole, np.asarray(r), dst)
    dst.write(r)


def _whole(data: Tile, *steps: tuple[Alu, Scalar, bool]) -> Array | None:
    """What operators with one scalar each make of integers, in whole numbers (int64); None where something is none."""
    out = data.read().astype(np.int64)
    for row, x, reverse in steps:
        b = _exact_column(x, data) if row.name in _WHOLE else None
        if b is None:
            return None
        out = _apply(row, out, b, reverse)
    return np.asarray(out)


def _int_column(x: Scalar, data: Tile) -> Any:
    if type(x) is Tile:
        return (
            x.read().reshape((data.shape[0],) + (1,) * (data.ndim - 1))
            if x.size == data.shape[0]
            else like(x.read(), data.shape)
        )
    return int(x)


def _exact_column(x: Scalar, data: Tile) -> Any:
    if type(x) is Tile:
        if x.dtype.is_int and x.size == data.shape[0]:
            return x.read().astype(np.int64).reshape((data.shape[0],) + (1,) * (data.ndim - 1))
        return None
    if x is None or hasattr(x, "read"):
        return None if x is None else int(x)
    return int(x) if float(x).is_integer() else None


def scalar_tensor_tensor(dst: Tile, data: Tile, op0: Any, operand0: Scalar, op1: Any, operand1: Tile, reverse0: bool = False,
                         reverse1: bool = False) -> None:  # fmt: skip
    """dst = (data op0 operand0) op1 operand1, operand1 a tile of data's shape."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    if not issue(
        "scalar_tensor_tensor",
        "",
        (("dst", dst),),
        (("data", data), ("operand1", operand1), *_scalars(("operand0", operand0))),
        {"op": row0.name},
    ):
        return
    if data.storage.space == "P" and operand1.storage.space == "P":
        raise fail(
            "scalar_tensor_tensor: data and operand1 cannot both be in PSUM",
            tile=operand1,
            fix="copy one of them to SBUF",
        )
    same_partitions("scalar_tensor_tensor", dst, ("data", data), ("operand1", operand1))
    if row0.kind.startswith("bit") or row1.kind.startswith("bit"):
        a = _bits(row0, dst, data.read(), _int_column(operand0, data)) if row0.kind.startswith("bit") else data.read()
        dst.write(_bits(row1, dst, like(a, dst.shape), like(operand1.read(), dst.shape)))
        return
    r = _apply(
        row0,
        data.f32(),
        column(operand0, data, "scalar_tensor_tensor: operand0") if row0.kind != "unary" else None,
        reverse0,
    )
    if r.dtype != np.float32:
        r = r.astype(np.float32)
    dst.write(_apply(row1, like(r, dst.shape), like(operand1.f32(), dst.shape), reverse1))


# accumulators ---------------------------------------------------------------------------------------------------------------


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


def activation(dst: Tile | None, op: Any, data: Tile, bias: Scalar = None, scale: Scalar = 1.0, reduce_op: Any = None,
               reduce_res: Tile | None = None, reduce_cmd: str = "idle", name: str = "activation", slope: Scalar = None) -> None:  # fmt: skip
    """dst = op(data * scale + bias), the sum of it over the free axes into the accumulators as reduce_cmd says."""
    f = ops.function(op)
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue(
        name,
        "",
        writes,
        (("data", data), *_scalars(("bias", bias), ("scale", scale))),
        {"op": f.name, "reduce": reduce_cmd != "idle"},
    ):
        return
    generation = machine.active().generation
    if generation < 3 and bias is not None and type(bias) is not Tile and bias != 0:
        raise fail(f"{name}: a number as bias needs NeuronCore-v3", given=bias, fix="memset a [P, 1] tile and pass it")
    if reduce_op is not None and ops.alu(reduce_op).name != "add" and (name == "activation" or generation < 3):
        raise fail(
            f"{name} reduces with add only", given=ops.alu(reduce_op).name, fix="use tensor_reduce, or activate2"
        )
    if dst is not None:
        same_partitions(name, dst, ("data", data))
    x = data.f32()
    if type(scale) is Tile or scale != 1.0:
        x = x * column(scale, data, f"{name}: scale")
    if bias is not None and (type(bias) is Tile or bias != 0):
        x = x + column(bias, data, f"{name}: bias")
    y = _function(f, x, slope, data)
    if dst is not None:
        dst.write(y)
    _reduce_tail(
        name, y, ops.alu(reduce_op) if reduce_op is not None else ops.ALU["add"], reduce_cmd, reduce_res, "act"
    )


def _function(f: ops.Function, x: Array, slope: Scalar, data: Tile) -> Array:
    if f.valid is not None and x.size:
        low, high = f.valid
        if bool(((x < low) | (x > high)).any()) and f.name in ("sin", "arctan"):
            machine.active().warn(
                "range", f"{f.name} of values outside [{low:.4g}, {high:.4g}]: the hardware's result is invalid there"
            )
    return f.apply(x, column(slope, data, "relu_param")) if f.name == "prelu" and slope is not None else f.apply(x)  # type: ignore[no-any-return]


def _reduce_tail(
    name: str, y: Array, op: Alu, cmd: str, result: Tile | None, unit: str, start: Any = None, negate: bool = False
) -> None:
    if cmd == "idle" and result is None:
        return
    registers = accumulate(machine.active(), unit, y, op, cmd, start)
    if result is not None:
        if result.size != y.shape[0]:
            raise fail(f"{name}: reduce_res holds one value per partition", tile=result, allowed=f"[{y.shape[0]}, 1]")
        out = -registers if negate else registers.copy()
        result.write(out.reshape(result.shape))


def activate2(dst: Tile, op: Any, data: Tile, imm0: Scalar, imm1: Scalar, op0: Any, op1: Any, relu_param: Scalar = 0.0, reverse0: bool = False,
              reverse1: bool = False, reduce_op: Any = None, reduce_res: Tile | None = None, reduce_cmd: str = "idle") -> None:  # fmt: skip
    """dst = op((data op0 imm0) op1 imm1) on v4, with the reduction of `activation`."""
    f = ops.function(op)
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue(
        "activate2",
        "",
        writes,
        (("data", data), *_scalars(("imm0", imm0), ("imm1", imm1), ("relu_param", relu_param))),
        {"op": f.name, "reduce": reduce_cmd != "idle"},
    ):
        return
    row0, row1 = ops.alu(op0 if op0 is not None else "bypass"), ops.alu(op1 if op1 is not None else "bypass")
    legal = {
        ("multiply", "add"),
        ("multiply", "subtract"),
        ("multiply", "bypass"),
        ("add", "bypass"),
        ("subtract", "bypass"),
        ("bypass", "bypass"),
    }
    if (row0.name, row1.name) not in legal:
        raise fail(
            "activate2: this pair of operators does not exist",
            given=f"{row0.name}, {row1.name}",
            allowed=", ".join(f"{a}+{b}" for a, b in sorted(legal)),
        )
    same_partitions("activate2", dst, ("data", data))
    x: Array = data.f32()
    if row0.name != "bypass":
        x = _apply(row0, x, column(imm0, data, "activate2: imm0"), reverse0)
    if row1.name != "bypass":
        x = _apply(row1, x, column(imm1, data, "activate2: imm1"), reverse1)
    y = _function(f, x, relu_param, data)
    dst.write(y)
    _reduce_tail(
        "activate2", y, ops.alu(reduce_op) if reduce_op is not None else ops.ALU["add"], reduce_cmd, reduce_res, "act"
    )


def exponential(dst: Tile, src: Tile, max_value: Scalar = 0.0, reduce_res: Tile | None = None, reduce_cmd: str = "idle",
                reduce_init: Scalar = 0.0) -> None:  # fmt: skip
    """dst = exp(src - max_value) on the Vector Engine of v4, its sum into the accumulators."""
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue(
        "exponential", "", writes, (("src", src), *_scalars(("max_value", max_value), ("reduce_init", reduce_init)))
    ):
        return
    same_partitions("exponential", dst, ("src", src))
    y = np.exp(src.f32() - column(max_value, src, "exponential: max_value"))
    dst.write(y)
    start = column(reduce_init, src, "exponential: reduce_init") if reduce_cmd == "load_reduce" else None
    _reduce_tail("exponential", y, ops.ALU["add"], reduce_cmd, reduce_res, "dve", start)


def tensor_scalar_reduce(dst: Tile, data: Tile, op0: Any, operand0: Scalar, reduce_op: Any, reduce_res: Tile | None = None,
                         reverse0: bool = False, reduce_cmd: str = "reset_reduce", reduce_init: Scalar = None,
                         negate: bool = False) -> None:  # fmt: skip
    """dst = data op0 operand0, reduced over the free axes into the accumulators."""
    row0, red = ops.alu(op0), ops.alu(reduce_op)
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue(
        "tensor_scalar_reduce",
        "",
        writes,
        (("data", data), *_scalars(("operand0", operand0), ("reduce_init", reduce_init))),
        {"op": row0.name},
    ):
        return
    same_partitions("tensor_scalar_reduce", dst, ("data", data))
    if row0.kind != "unary":
        two_operands("tensor_scalar_reduce", row0, data)
    y = _apply(row0, data.f32(), column(operand0, data, "operand0") if row0.kind != "unary" else None, reverse0)
    dst.write(y)
    start = column(reduce_init, data, "reduce_init") if reduce_cmd == "load_reduce" else None
    _reduce_tail("tensor_scalar_reduce", np.asarray(y), red, reduce_cmd, reduce_res, "dve", start, negate)


def tensor_scalar_cumulative(dst: Tile, src: Tile, op0: Any, op1: Any, imm0: Scalar, imm1: Scalar = None, reduce_cmd: str = "reset_reduce",
                             reverse0: bool = False) -> None:  # fmt: skip
    """dst[i] = op1(src[i] op0 imm0, dst[i - 1]) along the free axes; the accumulators carry over between instructions."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    if not issue(
        "tensor_scalar_cumulative",
        "",
        (("dst", dst),),
        (("src", src), *_scalars(("imm0", imm0), ("imm1", imm1))),
        {"op": row0.name},
    ):
        return
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
    x = as_rows(
        np.asarray(
            _apply(row0, src.f32(), column(imm0, src, "imm0") if row0.kind != "unary" else None, reverse0), np.float32
        )
    )
    core = machine.active()
    p = x.shape[0]
    if reduce_cmd == "reset_reduce":
        state = np.full(p, row1.identity, np.float32)
    elif reduce_cmd == "load_reduce":
        state = np.broadcast_to(np.asarray(column(imm1, src, "imm1"), np.float32).reshape(-1), (p,)).copy()
    else:
        state = core.dve_acc[:p].copy()
    out = _scan(np.ascontiguousarray(x.T), state, row1)
    core.dve_acc[:p] = out[-1]
    dst.write(like(np.ascontiguousarray(out.T), dst.shape))


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


def tensor_tensor_scan(dst: Tile, data0: Tile, data1: Tile, initial: Scalar, op0: Any, op1: Any, reverse0: bool = False,
                       reverse1: bool = False) -> None:  # fmt: skip
    """dst[i] = (data0[i] op0 dst[i - 1]) op1 data1[i], from `initial`, along the free axes."""
    row0, row1 = ops.alu(op0), ops.alu(op1)
    if not issue(
        "tensor_tensor_scan",
        "",
        (("dst", dst),),
        (("data0", data0), ("data1", data1), *_scalars(("initial", initial))),
        {"op": row0.name},
    ):
        return
    if data0.storage.space == "P" and data1.storage.space == "P":
        raise fail("tensor_tensor_scan: data0 and data1 cannot both be in PSUM", tile=data1)
    same_partitions("tensor_tensor_scan", dst, ("data0", data0), ("data1", data1))
    for row in (row0, row1):
        two_operands("tensor_tensor_scan", row, data0)
    a = np.ascontiguousarray(as_rows(data0.f32()).T)
    b = np.ascontiguousarray(as_rows(data1.f32()).T)
    p = a.shape[1]
    state: Any = np.broadcast_to(np.asarray(column(initial, data0, "initial"), np.float32).reshape(-1), (p,))
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
    dst.write(like(np.ascontiguousarray(out.T), dst.shape))


# reductions -----------------------------------------------------------------------------------------------------------------


def tensor_reduce(dst: Tile, op: Any, data: Tile, axis: Any, negate: bool = False) -> None:
    """dst = data reduced over its last free axes."""
    row = ops.alu(op)
    if not issue("tensor_reduce", "", (("dst", dst),), (("data", data),), {"op": row.name}):
        return
    ndim = len(data.shape)
    axes = sorted([int(a) % ndim for a in ((axis,) if isinstance(axis, _INTEGER) else axis)])
    if axes[0] == 0:
        raise fail(
            "tensor_reduce cannot reduce the partition dimension",
            tile=data,
            fix="transpose first, use tensor_partition_reduce, or a matmul with ones",
        )
    if axes != list(range(axes[0], ndim)):
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
        a = data.read()
        if a.dtype.kind not in "iu":
            raise fail(f"'{row.name}' works on integer tiles", tile=data)
    else:
        a = data.f32()
    flat = (*data.shape[: axes[0]], -1)
    r = reduce_last(row, a.reshape(flat))
    core = dst.storage.core
    if core.strict and row.name in ("add", "maximum", "minimum") and data.dtype.is_int and integers.is_wide(dst.dtype):
        integers.note(
            core, "tensor_reduce", reduce_last(row, _int64(data, data.shape).reshape(flat)), np.asarray(r), dst
        )
    if negate:
        r = -r
    dst.write(like(np.asarray(r), dst.shape))


def tensor_partition_reduce(dst: Tile, op: Any, data: Tile) -> None:
    """dst [1, F] = data reduced over partitions."""
    row = ops.alu(op)
    if not issue("tensor_partition_reduce", "", (("dst", dst),), (("data", data),), {"op": row.name}):
        return
    a = data.read() if row.kind == "bit" else data.f32()
    r = reduce_last(row, np.moveaxis(a, 0, -1))
    dst.write(like(np.asarray(r), dst.shape))


def bn_stats(dst: Tile, data: Tile) -> None:
    """dst [P, 6] = count, mean and count * variance of the even elements, then of the odd ones."""
    if not issue("bn_stats", "", (("dst", dst),), (("data", data),)):
        return
    x = as_rows(data.f32()).astype(np.float64)
    most = machine.active().limits.bn_stats_elements
    if x.shape[1] > most:
        raise fail(
            f"bn_stats takes at most {most} elements per partition",
            tile=data,
            fix="split the free dimension, and join with bn_aggr",
        )
    out = np.zeros((x.shape[0], 6))
    for k, part in enumerate((x[:, 0::2], x[:, 1::2])):
        n = part.shape[1]
        if n:
            mean = part.mean(axis=1)
            out[:, 3 * k] = n
            out[:, 3 * k + 1] = mean
            out[:, 3 * k + 2] = ((part - mean[:, None]) ** 2).sum(axis=1)
    dst.write(like(out.astype(np.float32), dst.shape))


def bn_aggr(dst: Tile, data: Tile) -> None:
    """dst [P, 2] = mean and variance from (count, mean, count * variance) triples."""
    if not issue("bn_aggr", "", (("dst", dst),), (("data", data),)):
        return
    x = as_rows(data.f32()).astype(np.float64)
    if x.shape[1] % 3:
        raise fail(
            "bn_aggr takes triples of count, mean, count * variance",
            tile=data,
            given=f"{x.shape[1]} elements per partition",
        )
    n, mean, m2 = x[:, 0::3], x[:, 1::3], x[:, 2::3]
    total = n.sum(axis=1)
    whole = (n * mean).sum(axis=1) / total
    var = (m2.sum(axis=1) + (n * (mean - whole[:, None]) ** 2).sum(axis=1)) / total
    dst.write(like(np.stack([whole, var], axis=1).astype(np.float32), dst.shape))


def reciprocal(dst: Tile, data: Tile) -> None:
    """dst = 1 / data."""
    if not issue("reciprocal", "", (("dst", dst),), (("data", data),)):
        return
    same_partitions("reciprocal", dst, ("data", data))
    dst.write(np.float32(1.0) / data.f32())


# selection ------------------------------------------------------------------------------------------------------------------


def pattern_values(
    pattern: Sequence[Sequence[Any]], offset: Any, multiplier: Any, partitions: int
) -> NDArray[np.int64]:
    """[P, F] = offset + partition * multiplier + the sum over the pattern of index * step (int64)."""
    dims = [(int(s), int(n)) for s, n in pattern]
    free: Any = np.zeros((), np.int64)
    for axis, (s, n) in enumerate(dims):
        free = free + (np.arange(n, dtype=np.int64) * s).reshape((-1,) + (1,) * (len(dims) - 1 - axis))
    rows = int(offset) + np.arange(partitions, dtype=np.int64) * int(multiplier)
    values: NDArray[np.int64] = rows[:, None] + np.asarray(free).reshape(1, -1)
    return values


def iota(dst: Tile, pattern: Sequence[Sequence[Any]], offset: Any = 0, channel_multiplier: Any = 0) -> None:
    """dst = an affine function of partition and free indices (32-bit integers, then the format of dst)."""
    if not issue("iota", "", (("dst", dst),), ()):
        return
    v = pattern_values(pattern, offset, channel_multiplier, dst.shape[0])
    if v.size != dst.size:
        raise fail(
            f"iota: the pattern has {v.shape[1]} elements per partition",
            tile=dst,
            given=[list(map(int, p)) for p in pattern],
        )
    dst.write(like(v, dst.shape))


def affine_select(dst: Tile, pattern: Sequence[Sequence[Any]], channel_multiplier: Any, on_true_tile: Tile, on_false_value: Any, cmp_op: Any,
                  offset: Any = 0) -> None:  # fmt: skip
    """dst = on_true_tile where (affine value cmp_op 0), else on_false_value."""
    row = ops.alu(cmp_op)
    if not issue("affine_select", "", (("dst", dst),), (("on_true_tile", on_true_tile),)):
        return
    same_partitions("affine_select", dst, ("on_true_tile", on_true_tile))
    v = pattern_values(pattern, offset, channel_multiplier, dst.shape[0])
    if v.size != dst.size:
        raise fail(f"affine_select: the pattern has {v.shape[1]} elements per partition", tile=dst)
    keep = like(np.asarray(row.apply(v, 0)), dst.shape)
    if on_true_tile.dtype is dst.dtype and not dst.dtype.is_float:
        a = like(on_true_tile.read(), dst.shape)
        dst.write(np.where(keep, a, cast(np.asarray([on_false_value], np.float32), dst.dtype)[0]))
    else:
        dst.write(np.where(keep, like(on_true_tile.f32(), dst.shape), np.float32(on_false_value)))


def range_select(dst: Tile, on_true_tile: Tile, comp_op0: Any, comp_op1: Any, bound0: Tile, bound1: Tile, reduce_cmd: str = "reset_reduce",
                 reduce_res: Tile | None = None, reduce_op: Any = "maximum", range_start: Any = 0, on_false_value: float = F32_MIN) -> None:  # fmt: skip
    """dst = on_true_tile where its free index + range_start lies in both bounds, else on_false_value; running maximum."""
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue("range_select", "", writes, (("on_true_tile", on_true_tile), ("bound0", bound0), ("bound1", bound1))):
        return
    same_partitions("range_select", dst, ("on_true_tile", on_true_tile))
    c0, c1 = ops.alu(comp_op0), ops.alu(comp_op1)
    if c0.kind != "compare" or c1.kind != "compare":
        raise fail(
            "range_select compares",
            given=f"{c0.name}, {c1.name}",
            allowed="equal, less, less_equal, greater, greater_equal",
        )
    x = as_rows(on_true_tile.f32())
    index = (np.arange(x.shape[1]) + int(range_start)).astype(np.float32)[None]
    b0, b1 = (
        as_rows(column(b, on_true_tile, f"range_select: bound{i}")).reshape(-1, 1)
        for i, b in enumerate((bound0, bound1))
    )
    y = np.where(c0.apply(index, b0) & c1.apply(index, b1), x, np.float32(on_false_value))
    dst.write(like(y, dst.shape))
    _reduce_tail(
        "range_select",
        y,
        ops.alu(reduce_op),
        reduce_cmd if reduce_res is not None or reduce_cmd != "idle" else "idle",
        reduce_res,
        "dve",
    )


def select_reduce(dst: Tile, predicate: Tile, on_true: Tile, on_false: Scalar, reduce_res: Tile | None = None, reduce_cmd: str = "idle",
                  reduce_op: Any = "maximum", reverse_pred: bool = False) -> None:  # fmt: skip
    """dst = on_true where predicate, else on_false; optional running maximum."""
    writes = [(n, t) for n, t in (("dst", dst), ("reduce_res", reduce_res)) if t is not None]
    if not issue(
        "select_reduce", "", writes, (("predicate", predicate), ("on_true", on_true), *_scalars(("on_false", on_false)))
    ):
        return
    same_partitions("select_reduce", dst, ("predicate", predicate), ("on_true", on_true))
    if predicate.storage.space == "P" and on_true.storage.space == "P":
        raise fail("select_reduce: predicate and on_true cannot both be in PSUM", tile=predicate)
    keep = like(predicate.read() != 0, dst.shape)
    if reverse_pred:
        keep = ~keep
    y = np.where(keep, like(on_true.f32(), dst.shape), column(on_false, dst, "select_reduce: on_false"))
    dst.write(y)
    _reduce_tail("select_reduce", y, ops.alu(reduce_op), reduce_cmd, reduce_res, "dve")


def tensor_copy_predicated(dst: Tile, src: Any, predicate: Tile, reverse_pred: bool = False) -> None:
    """dst = src where predicate; dst keeps its elements elsewhere."""
    if not issue("tensor_copy_predicated", "", (("dst", dst),), (("predicate", predicate), *_scalars(("src", src)))):
        return
    same_partitions("tensor_copy_predicated", dst, ("predicate", predicate))
    keep = like(predicate.read() != 0, dst.shape)
    if reverse_pred:
        keep = ~keep
    old = dst.array() if dst.dynamic is None else dst.read()
    if not dst.storage.filled:
        dst.storage.fill()
    if type(src) is Tile:
        same_partitions("tensor_copy_predicated", dst, ("src", src))
        new = like(src.read(), dst.shape) if src.dtype is dst.dtype else cast(like(src.f32(), dst.shape), dst.dtype)
    else:
        new = cast(np.asarray([src], np.float32), dst.dtype)[0]
    dst.write(np.where(keep, new, old))


# search ---------------------------------------------------------------------------------------------------------------------


def max8(dst: Tile, src: Tile) -> None:
    """dst [P, 8] = the 8 largest of each partition, descending; NaN counts as -inf, +0 goes before -0."""
    if not issue("max8", "", (("dst", dst),), (("src", src),)):
        return
    _searchable("max8", src)
    if dst.size != 8 * dst.shape[0] or dst.shape[0] != src.shape[0]:
        raise fail("max8: dst holds 8 values in each partition of src", tile=dst, allowed=f"[{src.shape[0]}, 8]")
    dst.write(like(largest8(as_rows(src.f32())), dst.shape))


def _searchable(name: str, data: Tile) -> None:
    limits, count = machine.active().limits, data.size // data.shape[0]
    if not limits.search_min <= count <= limits.search_max:
        raise fail(
            f"{name} takes {limits.search_min} to {limits.search_max:,} elements per partition",
            tile=data,
            given=count,
            fix="search parts of the free dimension, then their results",
        )


def _eight(name: str, data: Tile, vals: Tile) -> None:
    _searchable(name, data)
    if vals.shape[0] != data.shape[0] or vals.size != 8 * data.shape[0]:
        raise fail(f"{name}: vals holds 8 values in each partition of data", tile=vals, allowed=f"[{data.shape[0]}, 8]")


def nc_find_index8(dst: Tile, data: Tile, vals: Tile) -> None:
    """dst [P, 8] = position of each of 8 values in its partition; equal values take successive occurrences; all ones where absent."""
    if not issue("nc_find_index8", "", (("dst", dst),), (("data", data), ("vals", vals))):
        return
    _eight("nc_find_index8", data, vals)
    at = occurrences(as_rows(data.f32()), as_rows(vals.f32()))
    dst.write(like(_wrap(at, dst.dtype) if dst.dtype.is_int else at.astype(np.float32), dst.shape))


def nc_match_replace8(dst: Tile, data: Tile, vals: Tile, imm: float, dst_idx: Tile | None = None) -> None:
    """dst = data with the first occurrence of each of 8 values replaced by imm; positions to dst_idx."""
    writes = [(n, t) for n, t in (("dst", dst), ("dst_idx", dst_idx)) if t is not None]
    if not issue("nc_match_replace8", "", writes, (("data", data), ("vals", vals))):
        return
    _eight("nc_match_replace8", data, vals)
    x = as_rows(data.f32())
    at = occurrences(x, as_rows(vals.f32()), backwards=True)
    row, value = np.nonzero(at >= 0)
    column = at[row, value]
    if dst.dynamic is None:
        if dst.dtype.is_float and same(dst, data):  # in place: what stays need not be written
            dst.storage.mark(dst)
        else:
            dst.write(like(x, dst.shape))
        place = np.unravel_index(row * x.shape[1] + column, dst.shape)
        dst.array()[place] = cast(np.full(1, imm, np.float32), dst.dtype)
    else:
        out = x.copy()
        out[row, column] = imm
        dst.write(like(out, dst.shape))
    if dst_idx is not None:
        dst_idx.write(like(_wrap(at, dst_idx.dtype) if dst_idx.dtype.is_int else at.astype(np.float32), dst_idx.shape))


def nc_stream_shuffle(dst: Tile, src: Tile, shuffle_mask: Sequence[Any]) -> None:
    """Within each quadrant of 32 partitions, dst partition i = src partition shuffle_mask[i]; 255 leaves it."""
    if not issue("nc_stream_shuffle", "", (("dst", dst),), (("src", src),)):
        return
    mask = np.asarray([int(m) for m in shuffle_mask])
    quadrant = machine.active().limits.quadrant
    if mask.size != quadrant or (((mask < 0) | (mask >= quadrant)) & (mask != 255)).any():
        raise fail(f"shuffle_mask has {quadrant} entries of 0 .. {quadrant - 1}, or 255", given=mask.tolist())
    if src.dtype is not dst.dtype and src.itemsize != dst.itemsize:
        raise fail("nc_stream_shuffle keeps the format", tile=dst, given=dst.dtype, allowed=str(src.dtype))
    a = as_rows(src.read())
    if not dst.storage.filled and dst.storage.state == 0:
        dst.storage.fill()
    out = as_rows(dst.array().copy() if dst.dynamic is None else dst.read())
    if a.shape[1] != out.shape[1]:
        raise fail("nc_stream_shuffle: src and dst need the same elements per partition", tile=dst)
    for q in range(0, max(out.shape[0], 1), quadrant):
        for i, m in enumerate(mask[: max(out.shape[0] - q, 0)]):
            if m != 255:
                if q + m >= a.shape[0]:
                    if a.shape[0] <= quadrant and q > 0:
                        continue
                    raise fail(
                        "nc_stream_shuffle reads a partition outside src",
                        tile=src,
                        given=f"partition {q + m}",
                        allowed=f"0 .. {a.shape[0] - 1}",
                    )
                out[q + i] = a[q + m] if a.dtype == out.dtype else a[q + m].view(out.dtype)
    dst.write(like(out, dst.shape))


def local_gather(
    dst: Tile, src_buffer: Tile, index: Tile, num_elem_per_idx: int = 1, num_valid_indices: int | None = None
) -> None:
    """In each group of 16 partitions, gather the columns that the group's indices (partition first) name."""
    if not issue(
        "local_gather",
        "",
        (("dst", dst),),
        (("src_buffer", src_buffer), ("index", index)),
        {"elements": num_elem_per_idx},
    ):
        return
    limits, p = machine.active().limits, src_buffer.shape[0]
    group = limits.gpsimd_group
    if p % group or index.shape[0] != p:
        raise fail(f"local_gather: src_buffer and index have the same partitions, a multiple of {group}", tile=index)
    if dst.dtype is not src_buffer.dtype:
        raise fail("local_gather keeps the format", tile=dst, given=dst.dtype, allowed=str(src_buffer.dtype))
    if num_elem_per_idx not in (1, 2, 4, 8, 16, 32):
        raise fail("local_gather: num_elem_per_idx", given=num_elem_per_idx, allowed="1, 2, 4, 8, 16, 32")
    a, idx = as_rows(src_buffer.read()), as_rows(index.read()).astype(np.int64)
    given = idx.shape[1] * group
    valid = int(num_valid_indices) if num_valid_indices is not None else given
    if valid > min(given, limits.gather_indices):
        raise fail(
            f"local_gather: {valid:,} indices in a group of {group} partitions",
            tile=index,
            allowed=f"at most {min(given, limits.gather_indices):,}",
            fix="gather in several instructions",
        )
    out = np.empty((p, valid * num_elem_per_idx), a.dtype)
    k = np.arange(num_elem_per_idx)
    for g in range(0, p, group):
        flat = idx[g : g + group].T.reshape(-1)[:valid]
        columns = (flat[:, None] * num_elem_per_idx + k).reshape(-1)
        if (columns < 0).any() or (columns >= a.shape[1]).any():
            raise fail("out-of-bounds access by local_gather", tile=src_buffer, given=f"index {int(flat.max())}")
        out[g : g + group] = a[g : g + group][:, columns]
    dst.write(like(out, dst.shape))


def nc_n_gather(dst: Tile, data: Tile, indices: Tile) -> None:
    """dst = elements of the same partition at flattened free indices."""
    if not issue("nc_n_gather", "", (("dst", dst),), (("data", data), ("indices", indices))):
        return
    if indices.shape[0] != data.shape[0]:
        raise fail(f"nc_n_gather: indices span {indices.shape[0]} partitions and data {data.shape[0]}", tile=indices)
    if dst.dtype is not data.dtype:
        raise fail("nc_n_gather keeps the format", tile=dst, given=dst.dtype, allowed=str(data.dtype))
    a, idx = as_rows(data.read()), as_rows(indices.read()).astype(np.int64)
    if (idx < 0).any() or (idx >= a.shape[1]).any():
        raise fail(
            "out-of-bounds access by nc_n_gather",
            tile=data,
            given=f"index {int(idx.max())}",
            allowed=f"0 .. {a.shape[1] - 1}",
        )
    dst.write(like(np.take_along_axis(a, idx, axis=1), dst.shape))


def nonzero_with_count(dst: Tile, src: Tile, index_offset: int = 0, padding_val: int = -1) -> None:
    """In partitions 0, 16, 32 ...: indices of nonzero elements, then padding, then their count."""
    if not issue("nonzero_with_count", "", (("dst", dst),), (("src", src),)):
        return
    x = as_rows(src.read())
    n = x.shape[1]
    if dst.size // dst.shape[0] != n + 1:
        raise fail("nonzero_with_count: dst has one element more than src", tile=dst)
    for p in range(0, x.shape[0], machine.active().limits.gpsimd_group):
        at = np.flatnonzero(x[p])
        line = np.full(n + 1, padding_val, np.int64)
        line[: at.size] = at + int(index_offset)
        line[n] = at.size
        dst[p : p + 1].write(line.reshape((1, *dst.shape[1:])))


def topk(val_dst: Tile, idx_dst: Tile, src: Tile, n: int) -> None:
    """In each group of 16 partitions, the K largest of the first n elements of the snake, ascending, with their places in it."""
    if not issue("topk", "", (("val_dst", val_dst), ("idx_dst", idx_dst)), (("src", src),), {"elements": int(n)}):
        return
    limits, p, n = machine.active().limits, src.shape[0], int(n)
    group, k = limits.gpsimd_group, val_dst.size // val_dst.shape[0]
    if p % group:
        raise fail(f"topk: partitions are a multiple of {group}", tile=src)
    if not limits.topk_min <= n <= min(limits.topk_max, group * src.size // p):
        raise fail(
            "topk: n counts the elements of the snake over a group of partitions",
            tile=src,
            given=n,
            allowed=f"{limits.topk_min} .. {min(limits.topk_max, group * src.size // p):,}",
        )
    if k > min(limits.topk_results, n):
        raise fail("topk: too many results", tile=val_dst, given=k, allowed=f"1 .. {min(limits.topk_results, n):,}")
    x = as_rows(src.f32())
    values = np.empty((p, k), np.float32)
    places = np.empty((p, k), np.int64)
    for g in range(0, p, group):
        snake = x[g : g + group].T.reshape(-1)[:n]
        order = np.argsort(-snake, kind="stable")[:k][::-1]
        values[g : g + group] = snake[order]
        places[g : g + group] = order
    val_dst.write(like(values, val_dst.shape))
    idx_dst.write(like(places, idx_dst.shape))


def sequence_bounds(dst: Tile, segment_ids: Tile) -> None:
    """dst [1, 2, n] = first and one-past-last index of each element's run of equal ids; n and -1 where the id is 0."""
    if not issue("sequence_bounds", "", (("dst", dst),), (("segment_ids", segment_ids),)):
        return
    if segment_ids.shape[0] != 1:
        raise fail("sequence_bounds works on one partition", tile=segment_ids)
    ids = segment_ids.read().reshape(-1)
    n = ids.size
    edges = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    run = np.cumsum(np.r_[True, ids[1:] != ids[:-1]]) - 1
    ends = np.r_[edges[1:], n]
    start, end = edges[run], ends[run]
    start[ids == 0], end[ids == 0] = n, -1
    out = np.stack([start, end])
    dst.write(like(out, dst.shape) if dst.shape[-1] != 2 else like(np.ascontiguousarray(out.T), dst.shape))


# random numbers -------------------------------------------------------------------------------------------------------------


def rng(dst: Tile, engine: str = "vector") -> None:
    """dst = random bits (our own generator: AWS does not publish the hardware's polynomial)."""
    if not issue("rng", engine, (("dst", dst),), ()):
        return
    bits = machine.active().rng.integers(0, 1 << 32, size=dst.shape, dtype=np.uint32)
    dst.write(bits.astype(f"u{dst.itemsize}").view(dst.dtype.dtype))


def rand2(dst: Tile, low: Scalar, high: Scalar) -> None:
    """dst = uniform numbers in [low, high)."""
    if not issue("rand2", "", (("dst", dst),), _scalars(("min", low), ("max", high))):
        return
    u = machine.active().rng.random(dst.shape, dtype=np.float32)
    a, b = column(low, dst, "rand2: min"), column(high, dst, "rand2: max")
    dst.write(a + u * (b - a))


def dropout(dst: Tile, data: Tile, prob: Scalar) -> None:
    """dst = data, each element 0 with probability `prob`."""
    if not issue("dropout", "", (("dst", dst),), (("data", data), *_scalars(("prob", prob)))):
        return
    same_partitions("dropout", dst, ("data", data))
    if dst.dtype is not data.dtype:
        raise fail("dropout keeps the format", tile=dst, given=dst.dtype, allowed=str(data.dtype))
    u = machine.active().rng.random(data.shape, dtype=np.float32)
    keep = u >= column(prob, data, "dropout: prob")
    dst.write(like(np.where(keep, data.read(), np.zeros((), data.dtype.dtype)), dst.shape))


def set_rng_seed(src_seeds: Tile) -> None:
    """Seed the generator with a [1, 1] tile."""
    if not issue("set_rng_seed", "", (), (("src_seeds", src_seeds),)):
        return
    if src_seeds.size != 1:
        raise fail("set_rng_seed takes one 32-bit value", tile=src_seeds, allowed="[1, 1]")
    machine.active().rng = np.random.default_rng(int(src_seeds.read().reshape(-1)[0]) & 0xFFFFFFFF)


def _state_words(name: str, tile: Tile, engine: str, limits: Limits) -> None:
    words = limits.vector_rng_words if engine == "vector" else limits.gpsimd_rng_words
    if tile.size // tile.shape[0] != words:
        raise fail(f"{name}: the {engine} engine keeps {words} words of state in each partition", tile=tile)


def rand_set_state(src_seeds: Tile, engine: str = "gpsimd") -> None:
    """Load the generator's state words."""
    if not issue("rand_set_state", engine, (), (("src_seeds", src_seeds),)):
        return
    core = machine.active()
    _state_words("rand_set_state", src_seeds, engine, core.limits)
    state = src_seeds.read().astype(np.uint32)
    core.xorwow[engine] = as_rows(state).copy()
    core.rng = np.random.default_rng(state.reshape(-1).tolist())


def rand_get_state(dst: Tile, engine: str = "gpsimd") -> None:
    """Store the state words that were loaded last."""
    if not issue("rand_get_state", engine, (("dst", dst),), ()):
        return
    _state_words("rand_get_state", dst, engine, machine.active().limits)
    state = machine.active().xorwow.get(engine)
    dst.write(like(state, dst.shape) if state is not None else np.zeros(dst.shape, np.uint32))


# Tensor Engine --------------------------------------------------------------------------------------------------------------


def _accumulate_into(dst: Tile, product: Array, accumulate: bool | None) -> None:
    """Write or add a product to PSUM. None: overwrite elements that nothing wrote since allocation, add to the others."""
    product = like(product, dst.shape)
    s = dst.storage
    if accumulate is None:
        if s.state == 0:
            accumulate = False
        elif s.state == 2:
            accumulate = True
        else:
            flags: Any = s.flags(dst)
            if flags.ndim > dst.ndim:
                flags = flags.all(axis=-1)
            if not flags.any():
                accumulate = False
            elif flags.all():
                accumulate = True
            else:
                old = to_f32(dst.array(), dst.dtype)
                dst.write(np.where(flags, old + product, product))
                return
    if accumulate:
        if dst.dtype is float32 and dst.dynamic is None:
            s.check(dst) if s.state != 2 else None
            s.mark(dst)
            view = dst.array()
            np.add(view, product, out=view)
        else:
            dst.write(dst.f32() + product)
    else:
        dst.write(product)


def _check_tiling(name: str, position: Any, size: Any, rows: int, columns: int, limits: Limits) -> None:
    if not size and not position:
        return
    if bool(size) != bool(position):
        raise fail(f"{name}: tile_position and tile_size go together", given=f"{position}, {size}")
    (r0, c0), (r, c) = (tuple(int(x) for x in position), tuple(int(x) for x in size))
    most = limits.stationary_columns
    legal = [limits.tile_rows << i for i in range((most // limits.tile_rows).bit_length())]
    widths = [most] if name == "nc_matmul_mx" else legal
    if r not in legal or c not in widths or r0 % r or c0 % c or r0 + r > most or c0 + c > most:
        raise fail(
            f"{name}: no such tile of the array",
            given=f"position {(r0, c0)}, size {(r, c)}",
            allowed=f"rows {', '.join(map(str, legal))}, columns {', '.join(map(str, widths))}; positions multiples of the size",
        )
    if rows > r or columns > c:
        raise fail(f"{name}: operands [{rows}, {columns}] exceed tile_size {(r, c)}")


_FP8 = (float8_e4m3, float8_e4m3fn, float8_e5m2)


def nc_matmul(dst: Tile, stationary: Tile, moving: Tile, is_transpose: bool = False, accumulate: bool | None = None, tile_position: Any = (),
              tile_size: Any = (), perf_mode: str = "none", onezero: bool = False, name: str = "nc_matmul") -> None:  # fmt: skip
    """dst [M, N] (+)= stationary [K, M] transposed @ moving [K, N], products and sums in float32."""
    flags = {"mode": perf_mode, "transpose": is_transpose, "onezero": onezero}
    if tile_size:
        flags["tile"] = (*(int(x) for x in tile_position), *(int(x) for x in tile_size))
    if not issue(
        name,
        "tensor" if name != "nc_matmul" else "",
        (("dst", dst),),
        (("stationary", stationary), ("moving", moving)),
        flags,
    ):
        return
    core = machine.active()
    limits = core.limits
    k = stationary.shape[0]
    if moving.shape[0] != k:
        raise fail(
            f"{name}: stationary has {k} partitions and moving {moving.shape[0]}: both are the contraction", tile=moving
        )
    sd, md = stationary.dtype, moving.dtype
    double = perf_mode == "double_row"
    m, n = stationary.size // k, moving.size // k
    if double:
        if limits.generation < 3:
            raise fail("double_row needs NeuronCore-v3", tile=stationary, fix="leave perf_mode out on v2")
        if sd not in _FP8 or md not in _FP8:
            raise fail("double_row takes float8 tiles", tile=stationary, given=f"{sd}, {md}")
        if tile_size and int(tile_size[1]) < limits.stationary_columns:
            raise fail("double_row cannot be combined with column tiles", given=f"tile_size {tuple(tile_size)}")
        m, n = m // 2, n // 2
    if not is_transpose:
        _check_matmul_dtypes(name, sd, md, stationary, limits.generation)
    if m > limits.stationary_columns:
        raise fail(
            f"{name}: the stationary tile has {m} columns",
            tile=stationary,
            allowed=f"at most {limits.stationary_columns}",
        )
    _check_tiling(name, tile_position, tile_size, k, m, limits)
    if dst.shape[0] != m or dst.size != m * n:
        raise fail(
            f"{name}: dst must be [{m}, {n}]",
            tile=dst,
            given=list(dst.shape),
            fix="[stationary columns, moving columns]",
        )
    _check_psum(name, dst, moving, m, n, limits)
    if is_transpose:
        if (
            limits.generation > 2
            and dst.dtype is not (md if md.itemsize == dst.itemsize else sd)
            and dst.dtype.itemsize != sd.itemsize
        ):
            raise fail("transposes keep the dtype", tile=dst, allowed=str(sd))
        data = _transpose_source(stationary, moving)
        if data is not None:
            dst.write(data if data.dtype == dst.dtype.dtype else cast(data.astype(np.float32), dst.dtype))
            return
    elif dst.dtype is not float32 and not (dst.dtype is bfloat16 and limits.generation >= 4):
        raise fail(f"{name}: dst must be float32" + (" or bfloat16" if limits.generation >= 4 else f" on NeuronCore-v{limits.generation}"), tile=dst,
                   fix="accumulate in float32 and cast with tensor_copy")  # fmt: skip
    a, b = stationary.f32(), moving.f32()
    if sd is tfloat32:
        a = round_tf32(np.ascontiguousarray(a))
    if md is tfloat32:
        b = round_tf32(np.ascontiguousarray(b))
    if double:
        a2, b2 = _halves(a, k, m), _halves(b, k, n)
        product = a2.reshape(2 * k, m).T @ b2.reshape(2 * k, n)
    else:
        product = as_rows(a).T @ as_rows(b)
    _accumulate_into(dst, product, accumulate)


def _halves(a: Array, k: int, m: int) -> Array:
    """[K, 2, M] (any split of the free axes) -> [K, 2, M]; a trailing 2 is the other accepted layout."""
    if a.ndim >= 3 and a.shape[1] != 2 and a.shape[-1] == 2:
        return np.moveaxis(a.reshape(k, m, 2), 2, 1)
    return a.reshape(k, 2, m)


def _check_matmul_dtypes(name: str, sd: DType, md: DType, tile: Tile, generation: int) -> None:
    legal = (bfloat16, float16, float32, tfloat32, *_FP8)
    for d in (sd, md):
        if d not in legal:
            raise fail(f"{name} does not take {d}", tile=tile, allowed=", ".join(map(str, legal)))
        if d is float8_e4m3fn and generation < 4:
            raise fail(f"{name}: float8_e4m3fn needs NeuronCore-v4", tile=tile, fix="use float8_e4m3 on v2 and v3")
    wide = (float32, tfloat32)
    if (sd in wide) != (md in wide):
        raise fail(
            f"{name}: float32 goes with float32 only", tile=tile, given=f"{sd}, {md}", fix="cast one of the tiles"
        )
    if {sd, md} == {float8_e4m3, float8_e4m3fn}:
        raise fail(
            f"{name}: float8_e4m3 and float8_e4m3fn cannot meet in one matmul",
            tile=tile,
            given=f"{sd}, {md}",
            fix="cast one of the tiles",
        )


def _check_psum(name: str, dst: Tile, moving: Tile, m: int, n: int, limits: Any) -> None:
    most = (
        limits.moving_columns
        * limits.banks_per_matmul
        * (2 if dst.itemsize == 2 and limits.banks_per_matmul > 1 else 1)
    )
    if n > most:
        raise fail(
            f"{name}: the moving tile has {n} columns",
            tile=moving,
            allowed=f"at most {most}",
            fix="tile the moving free dimension by nl.tile_size.gemm_moving_fmax",
        )
    s = dst.storage
    if limits.banks_per_matmul == 1 and s.row_B:
        first = (dst.offset * dst.itemsize) % s.row_B + (s.address[1] if s.address else 0)
        last = (
            first
            + sum((c - 1) * t for c, t in zip(dst.shape[1:], dst.strides[1:], strict=True)) * dst.itemsize
            + dst.itemsize
            - 1
        )
        bank = limits.psum_bank_B
        if first // bank != last // bank:
            raise fail(f"{name}: dst crosses a PSUM bank", tile=dst, given=f"bytes {first} .. {last} of the partition", allowed=f"within one bank of {bank} bytes",
                       fix=f"one matmul writes at most {bank // dst.itemsize} {dst.dtype} values per partition, within a bank")  # fmt: skip


def _transpose_source(stationary: Tile, moving: Tile) -> Array | None:
    """The transpose that a matmul with an identity performs, bits untouched, or None where neither operand is an identity."""
    for ident, data, flip in ((moving, stationary, True), (stationary, moving, False)):
        if ident.shape[0] == ident.size // ident.shape[0]:
            e = as_rows(ident.f32())
            if np.array_equal(e, np.eye(e.shape[0], dtype=np.float32)):
                a = as_rows(data.read())
                return a.T if flip else a
    return None


def nc_transpose(dst: Tile, data: Tile, engine: str = "") -> None:
    """dst [F, P] = data [P, F] transposed, bits untouched. Tensor Engine: SBUF to PSUM, up to 128 x 128; Vector Engine: up to 32 x 32."""
    p, f = data.shape[0], data.size // data.shape[0]
    limits = machine.active().limits
    if not engine:
        small = p <= limits.transpose_rows and f <= limits.transpose_rows
        engine = (
            "tensor"
            if dst.storage.space == "P" and data.storage.space == "S" and not small
            else "vector"
            if small
            else "tensor"
        )
    if not issue("nc_transpose", engine, (("dst", dst),), (("data", data),)):
        return
    if dst.shape[0] != f or dst.size != p * f:
        raise fail(f"nc_transpose: dst must be [{f}, {p}]", tile=dst)
    if engine == "tensor":
        if data.storage.space != "S" or dst.storage.space != "P":
            raise fail(
                "nc_transpose on the Tensor Engine reads SBUF and writes PSUM",
                tile=dst if dst.storage.space != "P" else data,
            )
        most = limits.stationary_columns
    else:
        most = limits.transpose_rows
    if p > most or f > most:
        raise fail(
            f"nc_transpose on the {engine} engine takes at most {most} x {most}",
            tile=data,
            fix="transpose blocks" + (" or use the tensor engine" if engine == "vector" else ""),
        )
    a = as_rows(data.read()).T
    if data.dtype is not dst.dtype:
        a = cast(np.ascontiguousarray(to_f32(a, data.dtype)), dst.dtype)
    dst.write(like(a, dst.shape))


# microscaling ---------------------------------------------------------------------------------------------------------------


MX_ROWS, MX_COLUMNS = 8, 4
"""A block of 32 elements that share a scale (OCP MX), as the NeuronCore lays it out: partitions and elements of each."""


def _scale_blocks(scale: Tile, rows: int, limits: Limits) -> list[Tile]:
    """Rows of a scale tile that belong to a data tile of `rows` partitions: rows / 8 of them, of which each quadrant's lie in its first
    partitions from the tile's own first one."""
    per, quadrant = limits.mx_scale_rows, limits.quadrant
    spans = [(0, rows // MX_ROWS)] if rows <= quadrant else [(q, q + per) for q in range(0, rows, quadrant)]
    if scale.shape[0] < spans[-1][1]:
        raise fail(
            f"the scale tile of {rows} data partitions has {per} rows in each quadrant of {quadrant}",
            tile=scale,
            allowed=f"at least {spans[-1][1]} partitions",
        )
    return [scale.slice(0, first, last) for first, last in spans]


def dequantise(data: Tile, scale: Tile) -> Array:
    """Packed MX tile [P, F] and its scales -> float32 values [P, F, 4]."""
    limits = machine.active().limits
    p, f = data.shape[0], data.size // data.shape[0]
    values = unpack(as_rows(data.read()), data.dtype)
    bytes_ = np.concatenate([as_rows(t.read()).view(np.uint8) for t in _scale_blocks(scale, p, limits)])
    if bytes_.shape[1] != f:
        raise fail(f"the scale tile needs {f} columns", tile=scale)
    factor = np.ldexp(np.float32(1), bytes_.astype(np.int32) - 127)
    factor = np.where(bytes_ == 255, np.float32(np.nan), factor)
    return np.asarray(values * np.repeat(factor, MX_ROWS, axis=0)[:, :, None])


def nc_matmul_mx(dst: Tile, stationary: Tile, moving: Tile, stationary_scale: Tile, moving_scale: Tile, tile_position: Any = None,
                 tile_size: Any = None, accumulate: bool | None = None) -> None:  # fmt: skip
    """dst [M, N] (+)= dequantised stationary [K, 4, M] transposed @ moving [K, 4, N], one scale per 8 partitions x 4 parts."""
    reads = (
        ("stationary", stationary),
        ("moving", moving),
        ("stationary_scale", stationary_scale),
        ("moving_scale", moving_scale),
    )
    tile = (*(int(x) for x in tile_position or ()), *(int(x) for x in tile_size)) if tile_size else ()
    if not issue("nc_matmul_mx", "", (("dst", dst),), reads, {"tile": tile} if tile else None):
        return
    limits = machine.active().limits
    k = stationary.shape[0]
    for t in (stationary, moving):
        if t.shape[0] != k or k % limits.quadrant:
            raise fail(f"nc_matmul_mx: both operands have the same partitions, a multiple of {limits.quadrant}", tile=t)
    m, n = stationary.size // k, moving.size // k
    if m > limits.stationary_columns:
        raise fail(
            f"nc_matmul_mx: the stationary tile has {m} columns",
            tile=stationary,
            allowed=f"at most {limits.stationary_columns}",
        )
    _check_tiling("nc_matmul_mx", tile_position, tile_size, k, m, limits)
    if dst.shape[0] != m or dst.size != m * n:
        raise fail(f"nc_matmul_mx: dst must be [{m}, {n}]", tile=dst)
    _check_psum("nc_matmul_mx", dst, moving, m, n, limits)
    a = np.moveaxis(dequantise(stationary, stationary_scale), 2, 1).reshape(4 * k, m)
    b = np.moveaxis(dequantise(moving, moving_scale), 2, 1).reshape(4 * k, n)
    _accumulate_into(dst, a.T @ b, accumulate)


E_MAX = {"float8_e4m3fn": 8, "float8_e5m2": 15, "float4_e2m1fn": 2}
"""Largest exponent of each element format (OCP MX)."""


def quantize_mx(dst: Tile, src: Tile, dst_scale: Tile) -> None:
    """dst (packed fp8) and one e8m0 scale per 8 partitions x 4 columns of src.

    Scale exponent = floor(log2 max |x|) - E_max + headroom; elements are divided by the scale, limited to the format's range and rounded
    to nearest even. The headroom is the fact `neuroncore.v4.mx.scale_headroom`: 0, as nki-library's hardware-checked references have it;
    the reference of 2026-08 documents 1.
    """
    if not issue("quantize_mx", "", (("dst", dst), ("dst_scale", dst_scale)), (("src", src),)):
        return
    limits, p, f = machine.active().limits, src.shape[0], src.size // src.shape[0]
    if p % limits.quadrant or f % MX_COLUMNS:
        raise fail(f"quantize_mx: partitions are a multiple of {limits.quadrant}, columns of {MX_COLUMNS}", tile=src)
    words, scales = quantise(as_rows(src.f32()), dst.dtype, limits.mx_headroom)
    dst.write(like(words, dst.shape))
    row = 0
    for block in _scale_blocks(dst_scale, p, limits):
        part = scales[row : row + block.shape[0]].view(dst_scale.dtype.dtype)
        block.write(like(part, block.shape))
        row += block.shape[0]


def quantise(x: Array, dtype: DType, headroom: int = 0) -> tuple[Array, NDArray[np.uint8]]:
    """float32 [P, 4 F] -> packed words [P, F] and scale bytes [P / 8, F]. headroom: powers of two by which the scale is larger.

    >>> from mowich.neuroncore.dtypes import float8_e4m3fn_x4
    >>> int(quantise(np.full((8, 4), 256, np.float32), float8_e4m3fn_x4)[1][0, 0])
    127
    """
    assert dtype.part is not None
    p, f = x.shape
    blocks = x.reshape(p // MX_ROWS, MX_ROWS, f // MX_COLUMNS, MX_COLUMNS)
    amax = np.abs(blocks).max(axis=(1, 3))
    _, exponent = np.frexp(amax)
    exponent = np.where(amax > 0, exponent - 1 - E_MAX[dtype.part.name] + headroom, -127)
    exponent = np.clip(exponent, -127, 127)
    scaled: Any = blocks / np.ldexp(np.float32(1), exponent.astype(np.int32))[:, None, :, None]
    top = float(_F8_MAX[dtype.part.name])
    scaled = np.clip(scaled, -top, top)
    return pack(scaled.reshape(p, f), dtype), (exponent + 127).astype(np.uint8)


_F8_MAX = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
