"""Instructions of the Vector Engine that choose: selections, searches and shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsInt

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.access import read_tile, same, storage_of, tile_elements, tile_f32, write_tile
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import cast
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import (
    Scalar,
    as_rows,
    column,
    given_tiles,
    gives,
    like,
    one_each,
    reduce_into,
    reduces_into,
    same_partitions,
    tiles_of,
    wrapped,
)
from mowich.neuroncore.instructions.rates import InstructionRates, elementwise, one_pass
from mowich.neuroncore.instructions.table import BOOL, FLOATS, UNSIGNED, instruction
from mowich.neuroncore.search import largest8, occurrences
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile


def _predicated_work(r: InstructionRates, kind: Kind, n: int) -> float:
    both = all(t.space == "S" for t in (*kind.reads, *kind.writes))
    return (r.number("vector_engine.two_inputs_per_element") if both else 1) * n


predicated_cost = elementwise(_predicated_work)

F32_MIN = float(np.finfo(np.float32).min)


@instruction(
    engines=("vector",),
    cost=one_pass,
    since=3,
    dtypes={"on_true_tile": FLOATS, "bound0": ("float32",), "bound1": ("float32",)},
    face="* name | dtype",
)
def range_select(
    dst: Tile,
    on_true_tile: Tile,
    comp_op0: object,
    comp_op1: object,
    bound0: Tile,
    bound1: Tile,
    reduce_cmd: str = "reset_reduce",
    reduce_res: Tile | None = None,
    reduce_op: object = "maximum",
    range_start: SupportsInt = 0,
    on_false_value: float = F32_MIN,
) -> None:
    """dst = on_true_tile where its free index + range_start lies in both bounds, else on_false_value; running
    maximum."""
    writes = given_tiles(("dst", dst), ("reduce_res", reduce_res))
    reads = (("on_true_tile", on_true_tile), ("bound0", bound0), ("bound1", bound1))
    issued = issue("range_select", "", writes, reads)
    same_partitions("range_select", dst, ("on_true_tile", on_true_tile))
    c0, c1 = ops.alu(comp_op0), ops.alu(comp_op1)
    if c0.kind != "compare" or c1.kind != "compare":
        raise fail(
            "range_select compares",
            given=f"{c0.name}, {c1.name}",
            allowed="equal, less, less_equal, greater, greater_equal",
        )
    for i, bound in enumerate((bound0, bound1)):
        one_each(bound, on_true_tile, f"range_select: bound{i}")
    reduces_into("range_select", on_true_tile, reduce_res)
    if not issued:
        return
    x = as_rows(tile_f32(on_true_tile))
    index = (np.arange(x.shape[1]) + int(range_start)).astype(np.float32)[None]
    b0, b1 = (as_rows(column(b, on_true_tile)).reshape(-1, 1) for b in (bound0, bound1))
    y = np.where(c0.apply(index, b0) & c1.apply(index, b1), x, np.float32(on_false_value))
    write_tile(dst, like(y, dst.shape))
    reduce_into(y, ops.alu(reduce_op), reduce_cmd, reduce_res, "dve")


@instruction(
    engines=("vector",),
    cost=predicated_cost,
    dtypes={"predicate": (BOOL, "int8", "uint8", "int16", "uint16"), "reduce_res": FLOATS},
    face="* name | dtype",
)
def select_reduce(
    dst: Tile,
    predicate: Tile,
    on_true: Tile,
    on_false: Scalar,
    reduce_res: Tile | None = None,
    reduce_cmd: str = "idle",
    reduce_op: object = "maximum",
    reverse_pred: bool = False,
) -> None:
    """dst = on_true where predicate, else on_false; optional running maximum."""
    writes = given_tiles(("dst", dst), ("reduce_res", reduce_res))
    reads = (("predicate", predicate), ("on_true", on_true), *tiles_of(("on_false", on_false)))
    issued = issue("select_reduce", "", writes, reads)
    same_partitions("select_reduce", dst, ("predicate", predicate), ("on_true", on_true))
    if storage_of(predicate).space == "P" and storage_of(on_true).space == "P":
        raise fail("select_reduce: predicate and on_true cannot both be in PSUM", tile=predicate)
    one_each(on_false, dst, "select_reduce: on_false")
    reduces_into("select_reduce", dst, reduce_res)
    if not issued:
        return
    keep = like(read_tile(predicate) != 0, dst.shape)
    if reverse_pred:
        keep = ~keep
    y = np.where(keep, like(tile_f32(on_true), dst.shape), column(on_false, dst))
    write_tile(dst, y)
    reduce_into(y, ops.alu(reduce_op), reduce_cmd, reduce_res, "dve")


@instruction(engines=("vector",), cost=predicated_cost, dtypes={"predicate": (BOOL, *UNSIGNED)}, keeps=True)
def tensor_copy_predicated(dst: Tile, src: Scalar, predicate: Tile, reverse_pred: bool = False) -> None:
    """dst = src where predicate; dst keeps its elements elsewhere."""
    reads = (("predicate", predicate), *tiles_of(("src", src)))
    issued = issue("tensor_copy_predicated", "", (("dst", dst),), reads)
    same_partitions("tensor_copy_predicated", dst, *reads)
    if not issued:
        return
    keep = like(read_tile(predicate) != 0, dst.shape)
    if reverse_pred:
        keep = ~keep
    old = tile_elements(dst) if dst.dynamic is None else read_tile(dst)
    storage_of(dst).fill()
    if type(src) is Tile:
        new = (
            like(read_tile(src), dst.shape)
            if src.dtype is dst.dtype
            else cast(like(tile_f32(src), dst.shape), dst.dtype)
        )
    else:
        new = cast(np.asarray([src], np.float32), dst.dtype)[0]
    write_tile(dst, np.where(keep, new, old))


@instruction(engines=("vector",), cost=one_pass, face="* name | dtype")
def max8(dst: Tile, src: Tile) -> None:
    """dst [P, 8] = the 8 largest of each partition, descending; NaN counts as -inf, +0 goes before -0."""
    issued = issue("max8", "", (("dst", dst),), (("src", src),))
    _searchable("max8", src)
    if dst.size != 8 * dst.shape[0] or dst.shape[0] != src.shape[0]:
        raise fail("max8: dst holds 8 values in each partition of src", tile=dst, allowed=f"[{src.shape[0]}, 8]")
    if not issued:
        return
    write_tile(dst, like(largest8(as_rows(tile_f32(src))), dst.shape))


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


@instruction(engines=("vector",), cost=one_pass, dtypes={"dst": ("uint16", "uint32")})
def nc_find_index8(dst: Tile, data: Tile, vals: Tile) -> None:
    """dst [P, 8] = position of each of 8 values in its partition; equal values take successive occurrences; all ones
    where absent."""
    issued = issue("nc_find_index8", "", (("dst", dst),), (("data", data), ("vals", vals)))
    _eight("nc_find_index8", data, vals)
    gives(dst, (data.shape[0], 8))
    if not issued:
        return
    at = occurrences(as_rows(tile_f32(data)), as_rows(tile_f32(vals)))
    write_tile(dst, like(wrapped(at, dst.dtype) if dst.dtype.is_int else at.astype(np.float32), dst.shape))


@instruction(engines=("vector",), cost=one_pass)
def nc_match_replace8(dst: Tile, data: Tile, vals: Tile, imm: float, dst_idx: Tile | None = None) -> None:
    """dst = data with the first occurrence of each of 8 values replaced by imm; positions to dst_idx."""
    writes = given_tiles(("dst", dst), ("dst_idx", dst_idx))
    issued = issue("nc_match_replace8", "", writes, (("data", data), ("vals", vals)))
    _eight("nc_match_replace8", data, vals)
    gives(dst, data.shape)
    if dst_idx is not None:
        gives(dst_idx, (data.shape[0], 8))
    if not issued:
        return
    x = as_rows(tile_f32(data))
    at = occurrences(x, as_rows(tile_f32(vals)), backwards=True)
    row, value = np.nonzero(at >= 0)
    column = at[row, value]
    if dst.dynamic is None:
        if dst.dtype.is_float and same(dst, data):  # in place: what stays need not be written
            storage_of(dst).mark(dst)
        else:
            write_tile(dst, like(x, dst.shape))
        place = np.unravel_index(row * x.shape[1] + column, dst.shape)
        tile_elements(dst)[place] = cast(np.full(1, imm, np.float32), dst.dtype)
    else:
        out = x.copy()
        out[row, column] = imm
        write_tile(dst, like(out, dst.shape))
    if dst_idx is not None:
        write_tile(
            dst_idx, like(wrapped(at, dst_idx.dtype) if dst_idx.dtype.is_int else at.astype(np.float32), dst_idx.shape)
        )


@instruction(engines=("vector",), cost=one_pass, keeps=True)
def nc_stream_shuffle(dst: Tile, src: Tile, shuffle_mask: Sequence[SupportsInt]) -> None:
    """Within each quadrant of 32 partitions, dst partition i = src partition shuffle_mask[i]; 255 leaves it."""
    issued = issue("nc_stream_shuffle", "", (("dst", dst),), (("src", src),))
    mask = np.asarray([int(m) for m in shuffle_mask])
    quadrant = machine.active().limits.quadrant
    if mask.size != quadrant or (((mask < 0) | (mask >= quadrant)) & (mask != 255)).any():
        raise fail(f"shuffle_mask has {quadrant} entries of 0 .. {quadrant - 1}, or 255", given=mask.tolist())
    if src.dtype is not dst.dtype and src.itemsize != dst.itemsize:
        raise fail("nc_stream_shuffle keeps the format", tile=dst, given=dst.dtype, allowed=str(src.dtype))
    rows, given = dst.shape[0], src.shape[0]
    if src.size // given != dst.size // rows:
        raise fail("nc_stream_shuffle: src and dst need the same elements per partition", tile=dst)
    taken = [(q + i, q + int(m)) for q in range(0, rows, quadrant) for i, m in enumerate(mask[: rows - q]) if m != 255]
    if given <= quadrant:
        taken = [(to, of) for to, of in taken if of < quadrant]
    for _, of in taken:
        if of >= given:
            raise fail(
                "nc_stream_shuffle reads a partition outside src",
                tile=src,
                given=f"partition {of}",
                allowed=f"0 .. {given - 1}",
            )
    if not issued:
        return
    a = as_rows(read_tile(src))
    if not storage_of(dst).filled and storage_of(dst).state == 0:
        storage_of(dst).fill()
    out = as_rows(tile_elements(dst).copy() if dst.dynamic is None else read_tile(dst))
    for to, of in taken:
        out[to] = a[of] if a.dtype == out.dtype else a[of].view(out.dtype)
    write_tile(dst, like(out, dst.shape))
