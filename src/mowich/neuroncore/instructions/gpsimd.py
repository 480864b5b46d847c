"""Instructions of the GpSimd Engine: patterns of indices, gathers, and the programs that come with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat, SupportsInt

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.access import read_tile, tile_f32, write_tile
from mowich.neuroncore.boxes import box_places
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import cast
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import as_rows, gives, like, reduce_last, same_partitions
from mowich.neuroncore.instructions.rates import InstructionRates, elementwise, free_size
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile

# what they cost
# -------------------------------------------------------------------------------------------------------------


pattern_cost = elementwise(lambda r, _, n: r.number("gpsimd_engine.fixed") + n, strided=False)
program_cost = elementwise(
    lambda r, _, n: r.number("gpsimd_engine.fixed") + r.number("gpsimd_engine.other_per_element") * n
)


def _partition_reduce_work(r: InstructionRates, kind: Kind, _: int) -> float:
    p = kind.reads[0].shape[0]
    return r.number("gpsimd_engine.fixed") + free_size(kind.writes[0]) * max(1.0, math.log2(p))


def _topk_work(r: InstructionRates, kind: Kind, n: int) -> float:
    snake = int(kind.flag("elements", n))  # n of the formula: elements over the 16 partitions of a group
    return r.number("gpsimd_engine.topk_per_element") * snake + int(kind.flag("results", 0))


def _local_gather_work(r: InstructionRates, kind: Kind, _: int) -> float:
    e = int(kind.flag("elements", 1))
    t = r.number("gpsimd_engine.gather_step")
    rate = (r.number("gpsimd_engine.gather_base") + t * e) / (t * e) / min(4 / kind.writes[0].itemsize, e)
    return r.number("gpsimd_engine.fixed") + free_size(kind.writes[0]) / rate


# what they do
# ---------------------------------------------------------------------------------------------------------------


def pattern_values(
    pattern: Sequence[Sequence[SupportsInt]], offset: SupportsInt, multiplier: SupportsInt, partitions: int
) -> NDArray[np.int64]:
    """[P, F] = offset + partition * multiplier + the sum over the pattern of index * step (int64)."""
    free = box_places([int(n) for _, n in pattern], [int(s) for s, _ in pattern])
    rows = int(offset) + np.arange(partitions, dtype=np.int64) * int(multiplier)
    values: NDArray[np.int64] = rows[:, None] + free.reshape(1, -1)
    return values


def _fills(name: str, dst: Tile, pattern: Sequence[Sequence[SupportsInt]]) -> None:
    """Raise where a pattern has another number of elements than a partition of the destination."""
    count = math.prod(int(n) for _, n in pattern)
    if count * dst.shape[0] != dst.size:
        raise fail(
            f"{name}: the pattern has {count} elements per partition",
            tile=dst,
            given=[list(map(int, p)) for p in pattern],
        )


@instruction(engines=("gpsimd",), cost=pattern_cost, spaces={"dst": "S"}, face="* name | dtype")
def iota(
    dst: Tile, pattern: Sequence[Sequence[SupportsInt]], offset: SupportsInt = 0, channel_multiplier: SupportsInt = 0
) -> None:
    """dst = an affine function of partition and free indices (32-bit integers, then the format of dst)."""
    issued = issue("iota", "", (("dst", dst),), ())
    _fills("iota", dst, pattern)
    if not issued:
        return
    v = pattern_values(pattern, offset, channel_multiplier, dst.shape[0])
    write_tile(dst, like(v, dst.shape))


@instruction(engines=("gpsimd",), cost=pattern_cost, spaces={"dst": "S", "on_true_tile": "S"}, face="* name | dtype")
def affine_select(
    dst: Tile,
    pattern: Sequence[Sequence[SupportsInt]],
    channel_multiplier: SupportsInt,
    on_true_tile: Tile,
    on_false_value: SupportsFloat,
    cmp_op: object = "equal",
    offset: SupportsInt = 0,
) -> None:
    """dst = on_true_tile where (affine value cmp_op 0), else on_false_value."""
    row = ops.alu(cmp_op)
    issued = issue("affine_select", "", (("dst", dst),), (("on_true_tile", on_true_tile),))
    same_partitions("affine_select", dst, ("on_true_tile", on_true_tile))
    _fills("affine_select", dst, pattern)
    if not issued:
        return
    v = pattern_values(pattern, offset, channel_multiplier, dst.shape[0])
    keep = like(np.asarray(row.apply(v, 0)), dst.shape)
    if on_true_tile.dtype is dst.dtype and not dst.dtype.is_float:
        a = like(read_tile(on_true_tile), dst.shape)
        write_tile(dst, np.where(keep, a, cast(np.asarray([on_false_value], np.float32), dst.dtype)[0]))
    else:
        write_tile(dst, np.where(keep, like(tile_f32(on_true_tile), dst.shape), np.float32(on_false_value)))


@instruction(
    engines=("gpsimd",),
    cost=elementwise(_partition_reduce_work),
    spaces={"dst": "S", "src": "S", "data": "S"},
    face="* name | dtype",
)
def tensor_partition_reduce(dst: Tile, op: object, data: Tile) -> None:
    """dst [1, F] = data reduced over partitions."""
    row = ops.alu(op)
    issued = issue("tensor_partition_reduce", "", (("dst", dst),), (("data", data),), {"op": row.name})
    gives(dst, data.shape[1:])
    if not issued:
        return
    a = read_tile(data) if row.kind == "bit" else tile_f32(data)
    r = reduce_last(row, np.moveaxis(a, 0, -1))
    write_tile(dst, like(np.asarray(r), dst.shape))


@instruction(
    engines=("gpsimd",),
    cost=elementwise(_local_gather_work),
    spaces={"dst": "S", "src_buffer": "S", "index": "S"},
    dtypes={"index": ("uint16",)},
    face="* name | dtype",
)
def local_gather(
    dst: Tile, src_buffer: Tile, index: Tile, num_elem_per_idx: int = 1, num_valid_indices: int | None = None
) -> None:
    """In each group of 16 partitions, gather the columns that the group's indices (partition first) name."""
    reads = (("src_buffer", src_buffer), ("index", index))
    issued = issue("local_gather", "", (("dst", dst),), reads, {"elements": num_elem_per_idx})
    limits, p = machine.active().limits, src_buffer.shape[0]
    group = limits.gpsimd_group
    if p % group or index.shape[0] != p:
        raise fail(f"local_gather: src_buffer and index have the same partitions, a multiple of {group}", tile=index)
    if dst.dtype is not src_buffer.dtype:
        raise fail("local_gather keeps the format", tile=dst, given=dst.dtype, allowed=str(src_buffer.dtype))
    if num_elem_per_idx not in (1, 2, 4, 8, 16, 32):
        raise fail("local_gather: num_elem_per_idx", given=num_elem_per_idx, allowed="1, 2, 4, 8, 16, 32")
    given = index.size // p * group
    valid = int(num_valid_indices) if num_valid_indices is not None else given
    if valid > min(given, limits.gather_indices):
        raise fail(
            f"local_gather: {valid:,} indices in a group of {group} partitions",
            tile=index,
            allowed=f"at most {min(given, limits.gather_indices):,}",
            fix="gather in several instructions",
        )
    gives(dst, (p, valid * num_elem_per_idx))
    if not issued:
        return
    a, idx = as_rows(read_tile(src_buffer)), as_rows(read_tile(index)).astype(np.int64)
    out = np.empty((p, valid * num_elem_per_idx), a.dtype)
    k = np.arange(num_elem_per_idx)
    for g in range(0, p, group):
        flat = idx[g : g + group].T.reshape(-1)[:valid]
        columns = (flat[:, None] * num_elem_per_idx + k).reshape(-1)
        if (columns < 0).any() or (columns >= a.shape[1]).any():
            raise fail("out-of-bounds access by local_gather", tile=src_buffer, given=f"index {int(flat.max())}")
        out[g : g + group] = a[g : g + group][:, columns]
    write_tile(dst, like(out, dst.shape))


@instruction(
    engines=("gpsimd",),
    cost=program_cost,
    spaces={"dst": "S", "data": "S", "indices": "S"},
    dtypes={"indices": ("uint32",)},
    face="* name | dtype",
)
def nc_n_gather(dst: Tile, data: Tile, indices: Tile) -> None:
    """dst = elements of the same partition at flattened free indices."""
    issued = issue("nc_n_gather", "", (("dst", dst),), (("data", data), ("indices", indices)))
    if indices.shape[0] != data.shape[0]:
        raise fail(f"nc_n_gather: indices span {indices.shape[0]} partitions and data {data.shape[0]}", tile=indices)
    if dst.dtype is not data.dtype:
        raise fail("nc_n_gather keeps the format", tile=dst, given=dst.dtype, allowed=str(data.dtype))
    gives(dst, indices.shape)
    if not issued:
        return
    a, idx = as_rows(read_tile(data)), as_rows(read_tile(indices)).astype(np.int64)
    if (idx < 0).any() or (idx >= a.shape[1]).any():
        raise fail(
            "out-of-bounds access by nc_n_gather",
            tile=data,
            given=f"index {int(idx.max())}",
            allowed=f"0 .. {a.shape[1] - 1}",
        )
    write_tile(dst, like(np.take_along_axis(a, idx, axis=1), dst.shape))


@instruction(
    engines=("gpsimd",),
    cost=program_cost,
    since=3,
    spaces={"dst": "S", "src": "S"},
    dtypes={"dst": ("int32",), "src": ("float32", "int32")},
)
def nonzero_with_count(dst: Tile, src: Tile, index_offset: int = 0, padding_val: int = -1) -> None:
    """In partitions 0, 16, 32 ...: indices of nonzero elements, then padding, then their count."""
    issued = issue("nonzero_with_count", "", (("dst", dst),), (("src", src),))
    n = src.size // src.shape[0]
    if dst.size // dst.shape[0] != n + 1:
        raise fail("nonzero_with_count: dst has one element more than src", tile=dst)
    if not issued:
        return
    x = as_rows(read_tile(src))
    for p in range(0, x.shape[0], machine.active().limits.gpsimd_group):
        at = np.flatnonzero(x[p])
        line = np.full(n + 1, padding_val, np.int64)
        line[: at.size] = at + int(index_offset)
        line[n] = at.size
        write_tile(dst[p : p + 1], line.reshape((1, *dst.shape[1:])))


@instruction(
    engines=("gpsimd",),
    cost=elementwise(_topk_work),
    spaces={"val_dst": "S", "idx_dst": "S", "src": "S"},
    dtypes={"val_dst": ("bfloat16",), "idx_dst": ("uint32",), "src": ("bfloat16",)},
)
def topk(val_dst: Tile, idx_dst: Tile, src: Tile, n: int, sorted: bool = False) -> None:
    """In each group of 16 partitions, the K largest of the first n elements of the snake (element e: partition e % 16,
    column e // 16), with their places in it. K is the free size of val_dst. Result j lies in the snake too: columns 0
    .. ceil(K / 16) - 1 are written, the last one whole, its slots behind K without meaning (NaN here); the others stay.
    sorted: largest first; without it no order holds, and the results come as they lie in src."""
    limits, p, n = machine.active().limits, src.shape[0], int(n)
    group, k = limits.gpsimd_group, val_dst.size // val_dst.shape[0]
    columns = -(-k // group)
    dsts = [d if d.ndim == 2 else d.reshape(d.shape[0], -1) for d in (val_dst, idx_dst)]
    val, idx = (d[:, :columns] for d in dsts)
    flags = {"elements": n, "results": k, "sorted": bool(sorted)}
    issued = issue("topk", "", (("val_dst", val), ("idx_dst", idx)), (("src", src),), flags)
    if p % group:
        raise fail(f"topk: partitions are a multiple of {group}", tile=src)
    most = min(limits.topk_max // group * group, group * src.size // p)
    if not limits.topk_min <= n <= most:
        raise fail(
            "topk: n counts the elements of the snake over a group of partitions",
            tile=src,
            given=n,
            allowed=f"{limits.topk_min} .. {most:,}",
        )
    results = min(limits.topk_sorted if sorted else limits.topk_results, n)
    if k > results:
        what = "topk: too many sorted results" if sorted else "topk: too many results"
        raise fail(what, tile=val_dst, given=k, allowed=f"1 .. {results:,}")
    for dst in (val_dst, idx_dst):
        gives(dst, (p, k))
    if not issued:
        return
    x = as_rows(tile_f32(src))
    values = np.full((p, columns), np.nan, np.float32)
    places = np.full((p, columns), np.iinfo(np.uint32).max, np.int64)
    for g in range(0, p, group):
        snake = x[g : g + group].T.reshape(-1)[:n]
        found = np.argsort(-snake, kind="stable")[:k]
        if not sorted:
            found.sort()
        for out, made in ((values, snake[found]), (places, found)):
            out[g : g + group].T.flat[:k] = made
    write_tile(val, values)
    write_tile(idx, places)


@instruction(
    engines=("gpsimd",), cost=program_cost, dtypes={"dst": ("float32", "int32"), "segment_ids": ("float32", "int32")}
)
def sequence_bounds(dst: Tile, segment_ids: Tile) -> None:
    """dst [1, 2, n] = first and one-past-last index of each element's run of equal ids; n and -1 where the id is 0."""
    issued = issue("sequence_bounds", "", (("dst", dst),), (("segment_ids", segment_ids),))
    if segment_ids.shape[0] != 1:
        raise fail("sequence_bounds works on one partition", tile=segment_ids)
    gives(dst, (1, 2, segment_ids.size))
    if not issued:
        return
    ids = read_tile(segment_ids).reshape(-1)
    n = ids.size
    edges = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    run = np.cumsum(np.r_[True, ids[1:] != ids[:-1]]) - 1
    ends = np.r_[edges[1:], n]
    start, end = edges[run], ends[run]
    start[ids == 0], end[ids == 0] = n, -1
    out = np.stack([start, end])
    write_tile(dst, like(out, dst.shape) if dst.shape[-1] != 2 else like(np.ascontiguousarray(out.T), dst.shape))
