"""Instructions of the Scalar Engine: functions of all elements, from tables."""

from __future__ import annotations

from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.access import tile_f32, write_tile
from mowich.neuroncore.core import fail
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import (
    Array,
    Scalar,
    applied,
    column,
    given_tiles,
    one_each,
    reduce_into,
    reduces_into,
    same_partitions,
    tiles_of,
)
from mowich.neuroncore.instructions.rates import InstructionRates, elementwise, scalar_cycles
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile


def _activation_work(r: InstructionRates, kind: Kind, n: int) -> float:
    reduces = kind.name == "activation_reduce" or kind.flag("reduce", False)
    cycles = scalar_cycles(r, kind, n)
    return max(r.number("scalar_engine.least"), cycles) + (r.number("scalar_engine.accumulate_extra") if reduces else 0)


activation_cost = elementwise(_activation_work, table=True)


@instruction(engines=("scalar",), cost=activation_cost, face="* name | dtype")
def activation(
    dst: Tile | None,
    op: object,
    data: Tile,
    bias: Scalar = None,
    scale: Scalar = 1.0,
    reduce_op: object = None,
    reduce_res: Tile | None = None,
    reduce_cmd: str = "idle",
    *,
    name: str = "activation",
    slope: Scalar = None,
) -> None:
    """dst = op(data * scale + bias), the sum of it over the free axes into the accumulators as reduce_cmd says."""
    f = ops.function(op)
    writes = given_tiles(("dst", dst), ("reduce_res", reduce_res))
    flags = {"op": f.name, "reduce": reduce_cmd != "idle"}
    issued = issue(name, "", writes, (("data", data), *tiles_of(("bias", bias), ("scale", scale))), flags)
    if bias is not None and type(bias) is not Tile and bias != 0 and machine.active().generation < 3:
        raise fail(f"{name}: a number as bias needs NeuronCore-v3", given=bias, fix="memset a [P, 1] tile and pass it")
    if (
        reduce_op is not None
        and ops.alu(reduce_op).name != "add"
        and (name == "activation" or machine.active().generation < 3)
    ):
        raise fail(
            f"{name} reduces with add only", given=ops.alu(reduce_op).name, fix="use tensor_reduce, or activate2"
        )
    if dst is not None:
        same_partitions(name, dst, ("data", data))
    if type(scale) is not float:
        one_each(scale, data, f"{name}: scale")
    if bias is not None:
        one_each(bias, data, f"{name}: bias")
    if slope is not None:
        one_each(slope, data, "relu_param")
    reduces_into(name, data, reduce_res)
    if not issued:
        return
    x = tile_f32(data)
    if type(scale) is Tile or scale != 1.0:
        x = x * column(scale, data)
    if bias is not None and (type(bias) is Tile or bias != 0):
        x = x + column(bias, data)
    y = _function(f, x, slope, data)
    if dst is not None:
        write_tile(dst, y)
    reduce_into(y, ops.alu(reduce_op) if reduce_op is not None else ops.ALU["add"], reduce_cmd, reduce_res, "act")


def _function(f: ops.Function, x: Array, slope: Scalar, data: Tile) -> Array:
    if f.valid is not None and x.size:
        low, high = f.valid
        if bool(((x < low) | (x > high)).any()) and f.name in ("sin", "arctan"):
            machine.active().warn(
                "range", f"{f.name} of values outside [{low:.4g}, {high:.4g}]: the hardware's result is invalid there"
            )
    return f.apply(x, column(slope, data)) if f.name == "prelu" and slope is not None else f.apply(x)  # type: ignore[no-any-return]


_PAIRS = [
    *(("add", "bypass"), ("bypass", "bypass"), ("multiply", "add")),
    *(("multiply", "bypass"), ("multiply", "subtract"), ("subtract", "bypass")),
]
"""Operators that activate2 applies one after the other."""


@instruction(engines=("scalar",), cost=activation_cost, since=4)
def activate2(
    dst: Tile,
    op: object,
    data: Tile,
    imm0: Scalar = 0.0,
    imm1: Scalar = 0.0,
    op0: object = None,
    op1: object = None,
    relu_param: Scalar = 0.0,
    reverse0: bool = False,
    reverse1: bool = False,
    reduce_op: object = None,
    reduce_res: Tile | None = None,
    reduce_cmd: str = "idle",
) -> None:
    """dst = op((data op0 imm0) op1 imm1) on v4, with the reduction of `activation`."""
    f = ops.function(op)
    writes = given_tiles(("dst", dst), ("reduce_res", reduce_res))
    flags = {"op": f.name, "reduce": reduce_cmd != "idle"}
    reads = (("data", data), *tiles_of(("imm0", imm0), ("imm1", imm1), ("relu_param", relu_param)))
    issued = issue("activate2", "", writes, reads, flags)
    row0, row1 = ops.alu(op0 if op0 is not None else "bypass"), ops.alu(op1 if op1 is not None else "bypass")
    if (row0.name, row1.name) not in _PAIRS:
        raise fail(
            "activate2: this pair of operators does not exist",
            given=f"{row0.name}, {row1.name}",
            allowed=", ".join(f"{a}+{b}" for a, b in _PAIRS),
        )
    same_partitions("activate2", dst, ("data", data))
    for row, imm, what in ((row0, imm0, "imm0"), (row1, imm1, "imm1")):
        if row.name != "bypass":
            one_each(imm, data, f"activate2: {what}")
    if f.name == "prelu" and relu_param is not None:
        one_each(relu_param, data, "activate2: relu_param")
    reduces_into("activate2", data, reduce_res)
    if not issued:
        return
    x: Array = tile_f32(data)
    if row0.name != "bypass":
        x = applied(row0, x, column(imm0, data), reverse0)
    if row1.name != "bypass":
        x = applied(row1, x, column(imm1, data), reverse1)
    y = _function(f, x, relu_param, data)
    write_tile(dst, y)
    reduce_into(y, ops.alu(reduce_op) if reduce_op is not None else ops.ALU["add"], reduce_cmd, reduce_res, "act")


@instruction(engines=("scalar",), cost=activation_cost, face="* name | dtype")
def activation_reduce(
    dst: Tile,
    op: object,
    data: Tile,
    reduce_op: object,
    reduce_res: Tile | None = None,
    bias: Scalar = None,
    scale: Scalar = 1.0,
) -> None:
    """dst = op(data * scale + bias), and reduce_res = its reduction over the free axes."""
    activation(dst, op, data, bias, scale, reduce_op, reduce_res, "reset_reduce", name="activation_reduce")
