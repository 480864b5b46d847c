"""`neuronxcc.nki.isa`: the older instructions, which return their result, on the same functions of `neuroncore`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import SupportsFloat, SupportsInt

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.core import NkiValidationError, fail
from mowich.neuroncore.instructions import TABLE, dma, gpsimd, selection, tensor, vector
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.memory import MemoryRegion
from mowich.nki import faces, words
from mowich.nki import isa as now
from mowich.nki.beta1 import language
from mowich.nki.beta1.index import partial
from mowich.nki.beta1.tensor import (
    PendingProduct,
    Tensor,
    assign,
    corner_box,
    flush,
    moved,
    new,
    operand,
    read_tensor,
    tensor_f32,
    wrap_tiles,
    write_tensor,
)
from mowich.nki.language import Axes

__path__: list[str] = []
__getattr__ = words.missing(__name__)
constants = sys.modules[__name__]
"""`from neuronxcc.nki.isa import constants`: the enumerations are here."""

engine, reduce_cmd, dge_mode, oob_mode, nc_version = (
    now.engine,
    now.reduce_cmd,
    now.dge_mode,
    now.oob_mode,
    now.nc_version,
)
tensor_engine, vector_engine, scalar_engine = now.tensor_engine, now.vector_engine, now.scalar_engine
gpsimd_engine, unknown_engine, get_nc_version = now.gpsimd_engine, now.unknown_engine, now.get_nc_version
matmul_perf_mode = now.matmul_perf_mode
_engine, _cmd, _oob = now._engine, now._cmd, now._oob


def _out(
    shape: Sequence[int],
    dtype: object,
    mask: object = None,
    valid: Array | None = None,
    region: MemoryRegion = MemoryRegion.sbuf,
) -> Tensor:
    out = new(tuple(shape), dtype, region)
    mask = partial(mask)
    if mask is not None:
        out.valid = np.broadcast_to(np.asarray(mask), out.shape)
    elif valid is not None and valid.shape == out.shape:
        out.valid = valid
    return out


def tensor_tensor(
    data1: Tensor,
    data2: Tensor,
    op: object,
    *,
    dtype: object = None,
    mask: object = None,
    engine: object = None,
    **_: object,
) -> Tensor:
    """data1 op data2, broadcast along free dimensions of size 1."""
    flush()
    data1, data2 = data1.beside(data2), data2.beside(data1)
    try:
        shape = np.broadcast_shapes(data1.shape, data2.shape)
    except ValueError:
        raise fail(
            "tensor_tensor: shapes differ",
            tile=operand(data2),
            given=f"data1 {list(data1.shape)}, data2 {list(data2.shape)}",
            allowed="the same shape, or 1 along a free dimension",
        ) from None
    a, b = (t if t.shape == shape else t.broadcast_to(shape) for t in (data1, data2))
    out = _out(shape, dtype or data1.dtype, mask, data1.valid)
    vector.tensor_tensor(operand(out), operand(a, mask), operand(b, mask), op, _engine(engine))
    return out


def tensor_reduce(
    op: object,
    data: Tensor,
    axis: Axes,
    *,
    mask: object = None,
    dtype: object = None,
    negate: bool = False,
    keepdims: bool = False,
    **_: object,
) -> Tensor:
    """Reduction over free axes."""
    return language.reduce(ops.alu(op).name, data, axis, dtype, keepdims, mask, negate)


def memset(shape: Sequence[int], value: object, dtype: object, *, engine: object = None, **_: object) -> Tensor:
    """A tensor of one value."""
    flush()
    out = _out(shape, dtype)
    vector.memset(operand(out), value, _engine(engine))
    return out


def nc_matmul(
    stationary: Tensor,
    moving: Tensor,
    *,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    tile_position: Sequence[SupportsInt] = (),
    tile_size: Sequence[SupportsInt] = (),
    perf_mode: object = "none",
    mask: object = None,
    **_: object,
) -> Tensor:
    """stationary.T @ moving, in PSUM."""
    flush()
    mode = now._perf(perf_mode)
    a, b = operand(stationary, mask, is_aligned=False), operand(moving, mask, is_aligned=False)
    halves = 2 if mode == "double_row" else 1
    shape = (a.size // a.shape[0] // halves, b.size // b.shape[0] // halves)
    return PendingProduct(
        shape,
        {
            "stationary": a,
            "moving": b,
            "is_transpose": is_transpose,
            "tile_position": tile_position,
            "tile_size": tile_size,
            "perf_mode": mode,
            "is_stationary_onezero": is_stationary_onezero,
            "is_moving_onezero": is_moving_onezero,
        },
    )


def nc_transpose(
    data: Tensor, *, mask: object = None, dtype: object = None, engine: object = None, **_: object
) -> Tensor:
    """data transposed: in PSUM by the Tensor Engine, in SBUF by the Vector Engine."""
    flush()
    t = operand(data, mask, is_aligned=False)
    if _engine(engine) != "vector" and t.space == "P":
        raise fail("nc_transpose on the Tensor Engine reads SBUF", tile=t)
    name = _engine(engine) or ("vector" if t.shape[0] <= 32 and t.size // t.shape[0] <= 32 else "tensor")
    out = _out(
        (t.size // t.shape[0], t.shape[0]),
        dtype or data.dtype,
        region=MemoryRegion.psum if name == "tensor" else MemoryRegion.sbuf,
    )
    tensor.nc_transpose(operand(out), t, name)
    return out


def iota(expr: object, dtype: object, *, mask: object = None, **_: object) -> Tensor:
    """An index expression as numbers."""
    flush()
    a = np.asarray(expr)
    a = a if a.ndim >= 2 else a.reshape(1, -1)
    out = _out(a.shape, dtype)
    if issue("iota", "", (("dst", out.tile),), ()):
        write_tensor(out, a)
    return out


def affine_select(
    pred: object,
    on_true_tile: Tensor,
    on_false_value: SupportsFloat,
    *,
    mask: object = None,
    dtype: object = None,
    **_: object,
) -> Tensor:
    """on_true_tile where the predicate of indices holds, else a number. A tile in PSUM, which GpSimd does not reach, is
    copied to SBUF first."""
    flush()
    on_true_tile.check_under(mask)
    if operand(on_true_tile, mask).space == "P":
        on_true_tile = _MADE["tensor_copy"](on_true_tile)
    out = _out(on_true_tile.shape, dtype or on_true_tile.dtype, mask)
    if issue("affine_select", "", (("dst", operand(out)),), (("on_true_tile", operand(on_true_tile, mask)),)):
        write_tensor(
            out,
            np.where(
                np.broadcast_to(np.asarray(pred), out.shape), tensor_f32(on_true_tile), np.float32(on_false_value)
            ),
        )
    return out


def bn_stats(data: Tensor, *, mask: object = None, dtype: object = None, **_: object) -> Tensor:
    """Counts, means and variances of even and odd elements."""
    flush()
    data = corner_box(data, mask)
    out = _out((data.shape[0], 6), dtype or data.dtype)
    vector.bn_stats(operand(out), operand(data))
    return out


def max8(*, src: Tensor, mask: object = None, dtype: object = None, **_: object) -> Tensor:
    """The 8 largest of each partition."""
    flush()
    src = corner_box(src, mask)
    out = _out((src.shape[0], 8), dtype or src.dtype)
    selection.max8(operand(out), operand(src))
    return out


def nc_find_index8(*, data: Tensor, vals: Tensor, mask: object = None, dtype: object = "uint32", **_: object) -> Tensor:
    """Position of each of 8 values in its partition."""
    flush()
    out = _out((data.shape[0], 8), dtype or "uint32")
    selection.nc_find_index8(operand(out), operand(data), operand(vals))
    return out


def nc_match_replace8(
    *,
    data: Tensor,
    vals: Tensor,
    imm: float,
    dst_idx: Tensor | None = None,
    mask: object = None,
    dtype: object = None,
    **_: object,
) -> Tensor:
    """data with the first occurrence of each of 8 values replaced."""
    flush()
    out = _out(data.shape, dtype or data.dtype, mask)
    part, rows = corner_box(data, mask), corner_box(data, mask).shape[0]
    at = None if dst_idx is None else operand(dst_idx[:rows])
    selection.nc_match_replace8(operand(corner_box(out, mask)), operand(part), operand(vals[:rows]), imm, at)
    return out


def local_gather(
    src_buffer: Tensor,
    index: Tensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: SupportsInt | None = None,
    *,
    mask: object = None,
    **_: object,
) -> Tensor:
    """Gather within groups of 16 partitions; indices count elements."""
    flush()
    n = int(num_valid_indices) if num_valid_indices is not None else index.size // index.shape[0] * 16
    columns = new(index.shape, index.dtype)
    write_tensor(columns, np.asarray(read_tensor(index)) // np.asarray(num_elem_per_idx, index.dtype.dtype))
    shape = (
        (src_buffer.shape[0], n // 16, 16, num_elem_per_idx)
        if n % 16 == 0
        else (src_buffer.shape[0], n * num_elem_per_idx)
    )
    out = _out(shape, src_buffer.dtype)
    gpsimd.local_gather(operand(out), operand(src_buffer), operand(columns), num_elem_per_idx, n)
    return out


def _dge(mode: object) -> dict[str, object] | None:
    """Flags of a DMA that says who makes its descriptors; none where the compiler chooses."""
    flags = now._dma_flags(mode, None, None)
    return None if flags["dge"] == "unknown" else flags


def dma_copy(
    *,
    dst: Tensor,
    src: Tensor,
    mask: object = None,
    dst_rmw_op: object = None,
    oob_mode: object = now.oob_mode.error,
    dge_mode: object = None,
    **_: object,
) -> None:
    """dst = src between HBM and SBUF; with dst_rmw_op, dst = dst op src."""
    flush()
    flags = _dge(dge_mode)
    if src.size != dst.size:
        raise dma.other_elements(dst.tile, dst.shape, src.shape)
    left = partial(mask)
    among = None if left is None else np.broadcast_to(np.asarray(left), dst.shape)
    keep = np.broadcast_to(True if mask is None else np.asarray(mask), dst.shape)
    if _oob(oob_mode) != "skip":
        for t in (src, dst):
            try:
                t.check(keep.reshape(t.shape))
            except NkiValidationError as error:  # the type that this front end documents
                raise IndexError(f"{error}; or oob_mode=oob_mode.skip to leave such rows out") from None
    if not moved(dst, src, among, flags or {}, dst_rmw_op, is_checked=True):
        return
    for t in (src, dst):
        if t.valid is not None and not t.is_box:
            keep = keep & t.valid.reshape(dst.shape)
    everything = bool(keep.all())
    a = dma.convert(np.ascontiguousarray(read_tensor(src, None if everything else keep)), src.dtype, dst.dtype)
    if dst_rmw_op is not None:
        row = ops.alu(dst_rmw_op)
        a = row.apply(tensor_f32(dst, True), a.reshape(dst.shape).astype(np.float32))
    write_tensor(dst, a, None if everything else keep)


def dma_transpose(
    src: Tensor,
    *,
    axes: Sequence[int] | None = None,
    mask: object = None,
    dtype: object = None,
    dge_mode: object = None,
    **_: object,
) -> Tensor:
    """src transposed by the DMA engines, in SBUF."""
    flush()
    flags = _dge(dge_mode)
    t = src.tile if src.is_box else operand(src, mask, is_aligned=False)
    order = tuple(axes) if axes is not None else dma._AXES[len(src.shape)]
    out = _out([src.shape[a] for a in order], dtype or src.dtype)
    dma.transpose(operand(out), t, order, flags=flags)
    return out


def core_barrier(data: Tensor, cores: Sequence[int], **kwargs: object) -> None:
    """Wait for the other cores."""
    now.core_barrier(operand(data), cores, **kwargs)


# instructions that give what those of `nki.isa` write
# ----------------------------------------------------------------------------

_ALL = "{0}.shape, dtype or {0}.dtype, mask, {0}.valid"

_TWINS = {
    "activation": ("op data * bias scale reduce_op reduce_res reduce_cmd dtype mask", _ALL.format("data")),
    "activation_reduce": ("op data * reduce_op reduce_res bias scale dtype mask", _ALL.format("data")),
    "tensor_scalar": ("data op0 operand0 reverse0 op1 operand1 reverse1 * dtype mask engine", _ALL.format("data")),
    "scalar_tensor_tensor": ("* data op0 operand0 op1 operand1 reverse0 reverse1 dtype mask", _ALL.format("data")),
    "tensor_scalar_reduce": ("* data op0 operand0 reduce_op reduce_res reverse0 dtype mask", _ALL.format("data")),
    "tensor_scalar_cumulative": ("* src dst op0 op1 imm0 imm1 reduce_cmd", ""),
    "tensor_tensor_scan": ("data0 data1 initial op0 op1 reverse0 reverse1 * dtype mask", _ALL.format("data1")),
    "tensor_partition_reduce": ("op data * mask dtype", "(1, *data.shape[1:]), dtype or data.dtype"),
    "tensor_copy": ("src * mask dtype engine", _ALL.format("src")),
    "tensor_copy_predicated": ("* src dst predicate reverse_pred", ""),
    "reciprocal": ("data * dtype mask", _ALL.format("data")),
    "range_select": (
        (
            "* on_true_tile comp_op0 comp_op1 bound0 bound1 reduce_cmd=idle reduce_res reduce_op range_start"
            " on_false_value dtype mask"
        ),
        _ALL.format("on_true_tile"),
    ),
    "select_reduce": ("* dst predicate on_true on_false reduce_res reduce_cmd reduce_op reverse_pred", ""),
    "bn_aggr": ("data * mask dtype", "(data.shape[0], 2), dtype or data.dtype"),
    "nc_stream_shuffle": ("src dst shuffle_mask", ""),
    "sequence_bounds": ("* segment_ids dtype", "(1, 2, segment_ids.size), dtype or segment_ids.dtype"),
    "dropout": ("data prob * mask dtype", _ALL.format("data")),
}
"""Instruction -> (its arguments in this interface, those after "*" by keyword only; what `_out` makes its result of,
empty where the instruction writes to its dst). Defaults are those of the instruction; arguments that are not listed are
taken and not used."""


def _of_tensors(a: faces.Argument) -> faces.Argument:
    return dataclasses.replace(a, note=a.note.replace("Tile", "Tensor"))


def _twin(name: str, listed: str, out: str) -> FunctionType:
    """The function of an instruction that hands over tensors, and returns the result."""
    effect = TABLE[name].effect
    uses: dict[str, object] = {"_effect": effect, "_flush": flush, "_out": _out, "_operand": operand}
    positions, _, by_name = listed.partition("*")
    before, after = (
        faces.signed([_of_tensors(a) for a in faces.arguments(effect, part, now.VOCABULARIES, {})], uses)
        for part in (positions, by_name)
    )
    parameters = [*before, *(["*"] if after else []), *after, "**_: object"]
    notes = faces.own(effect)
    taken = {entry.partition("=")[0] for entry in listed.split()}
    call, in_order = [], True
    for n, text in faces.given(effect, now.VOCABULARIES, uses).items():
        if n not in taken and not (n == "dst" and out):
            in_order = False  # the effect's default serves
            continue
        value = "out" if n == "dst" and out else text
        note = str(notes[n].annotation)
        masked = "mask" if "mask" in taken else '_.get("mask")'
        value = f"_operand({value}, {masked})" if "Tile" in note or "Scalar" in note else value
        call.append(value if in_order else f"{n}={value}")
    body = ["_flush()", f"_effect({', '.join(call)})"]
    if out:
        body = ["_flush()", f"out = _out({out})", body[1], "return out"]
    doc = f"{effect.__doc__}\n\nReturns dst, a new tensor." if out else effect.__doc__
    return faces.define(name, __name__, doc, parameters, "Tensor" if out else "None", body, uses)


_MADE = {name: _twin(name, listed, out) for name, (listed, out) in _TWINS.items()}
globals().update(_MADE)


__all__ = ["assign", "machine", "wrap_tiles"]
