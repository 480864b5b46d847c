"""What the DMA engines do: copies between HBM and SBUF with casts, transposes, sums of several sources, gathers and scatters.

Elements are taken in row-major order of each side's pattern. Equal formats are copied bit by bit; others go through float32. Rows
whose run-time index is out of bounds raise, or are left out with oob_mode skip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore import integers, ops
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType, cast, to_f32
from mowich.neuroncore.engines import issue, like, two_operands
from mowich.neuroncore.memory import ALL, Register, Tile, addresses, flat, out_of_bounds, scalar_value

Array = NDArray[Any]


def convert(a: Array, source: DType, target: DType) -> Array:
    """Elements of one format in another, as a DMA writes them: bits where the formats are equal, through float32 where not."""
    if source is target or a.dtype == target.dtype:
        return a
    if source.part is not None or target.part is not None:
        if source.itemsize == target.itemsize:
            return np.ascontiguousarray(a).view(target.dtype)
        raise fail(f"DMA cannot convert {source} to {target}", fix="view() one of them as bytes")
    return cast(_float32(a, source), target)


def _float32(a: Array, source: DType) -> Array:
    """Elements as a DMA computes with them."""
    f = to_f32(a, source)
    core = machine.running()
    if core is not None and core.strict and integers.is_wide(source):
        integers.note(core, "a DMA", a.astype(np.int64), f)
    return f


def copy(dst: Tile, src: Tile, oob: str = "error", name: str = "dma_copy", flags: dict[str, Any] | None = None) -> None:
    """dst = src, both in HBM or SBUF, the same number of elements."""
    if not issue(name, "", (("dst", dst),), (("src", src),), flags):
        return
    _move(dst, src, oob)


def _move(dst: Tile, src: Tile, oob: str) -> None:
    if src.size != dst.size:
        raise fail(
            f"dma_copy: src has {src.size} elements and dst {dst.size}",
            tile=dst,
            given=f"src {list(src.shape)}, dst {list(dst.shape)}",
            fix="slice both to the same shape",
        )
    if src.dynamic is None and dst.dynamic is None:
        a = src.read()
        if src.dtype is not dst.dtype:
            a = convert(a, src.dtype, dst.dtype)
        dst.write(a)
        return
    found = _take(src, oob)
    if found is not None:
        _put(dst, convert(found[0], src.dtype, dst.dtype), oob, found[1])


def _take(src: Tile, oob: str) -> tuple[Array, NDArray[np.bool_] | None] | None:
    """The elements of a source, and which of its rows were in bounds (None: all); None where the whole of it is left out."""
    if src.dynamic is not None and src.dynamic.kind == "vector":
        return gather(src, oob)
    found = src.resolved()
    if found is not None:
        return found.read(), None
    if oob == "skip":
        return None
    raise out_of_bounds(src)


def _put(dst: Tile, a: Array, oob: str, kept: NDArray[np.bool_] | None) -> None:
    """Write `a` to a destination, of its rows only those in `kept` (None: all); the others stay as they are."""
    if dst.dynamic is not None and dst.dynamic.kind == "vector":
        scatter(dst, a, oob, kept)
        return
    target = dst.resolved()
    if target is None:
        if oob == "skip":
            return
        raise out_of_bounds(dst)
    if kept is None or kept.all():
        target.write(a)
    elif target.shape[0] == kept.size and a.shape[0] == kept.size:
        for i in np.flatnonzero(kept):
            target.slice(0, int(i), int(i) + 1).write(a[i : i + 1])
    elif kept.any():
        if not target.storage.filled:
            target.storage.fill()
        mixed = target.array().reshape(kept.size, -1).copy()
        mixed[kept] = a.reshape(kept.size, -1)[kept]
        target.write(mixed.reshape(target.shape))


def gather(src: Tile, oob: str) -> tuple[Array, NDArray[np.bool_] | None]:
    """Rows of an HBM tensor at run-time indices, and which of them were in bounds (None: all)."""
    where, good = addresses(src)
    s = src.storage
    s.record[5] = s.core.clock
    if good.all():
        return flat(src)[where], None
    if oob != "skip":
        raise out_of_bounds(src)
    safe = np.where(good.reshape((-1,) + (1,) * (where.ndim - 1)), where, 0)
    return flat(src)[safe], good


def scatter(dst: Tile, values: Array, oob: str, kept: NDArray[np.bool_] | None = None) -> None:
    """Write rows of an HBM tensor at run-time indices, in order: a later row wins."""
    where, good = addresses(dst)
    if not good.all() and oob != "skip":
        raise out_of_bounds(dst)
    if kept is not None and kept.size == good.size:
        good = good & kept
    s = dst.storage
    if s.state != ALL:
        if not s.filled:
            s.fill()
        s.whole()
    values = like(values, where.shape)
    if good.all():
        flat(dst)[where] = values
    else:
        flat(dst)[where[good]] = values[good]


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


def transpose(
    dst: Tile, src: Tile, axes: Sequence[int] | None = None, oob: str = "error", flags: dict[str, Any] | None = None
) -> None:
    """dst = src with its outer and inner dimensions exchanged."""
    if not issue("dma_transpose", "", (("dst", dst),), (("src", src),), flags):
        return
    order = tuple(int(a) for a in axes) if axes is not None else _AXES.get(src.ndim, ())
    if sorted(order) != list(range(src.ndim)):
        raise fail("dma_transpose: axes", tile=src, given=axes, allowed="(1, 0), (2, 1, 0), (3, 1, 2, 0)")
    if src.size != dst.size:
        raise fail(f"dma_transpose: src has {src.size} elements and dst {dst.size}", tile=dst)
    found = _take(src, oob)
    if found is None:
        return
    a, kept = found
    a = np.transpose(convert(a, src.dtype, dst.dtype), order)
    if kept is not None and not kept.all():
        if not dst.storage.filled:
            dst.storage.fill()
        mask = kept.reshape([-1 if ax == 0 else 1 for ax in order])
        a = np.where(np.broadcast_to(mask, a.shape), a, like(dst.array(), a.shape))
    _put(dst, np.ascontiguousarray(a).reshape(dst.shape), oob, None)


def compute(
    dst: Tile, srcs: Sequence[Tile], op: Any, scales: Sequence[float] | None = None, oob: str = "error"
) -> None:
    """dst = op over the sources, each times its scale, in float32. A source or dst with a vector offset is gathered or scattered."""
    row = ops.alu(op)
    if not issue(
        "dma_compute", "", (("dst", dst),), tuple((f"src{i}", s) for i, s in enumerate(srcs)), {"op": row.name}
    ):
        return
    if scales is not None and len(scales) != len(srcs):
        raise fail("dma_compute: one scale per source", given=len(scales), allowed=str(len(srcs)))
    two_operands("dma_compute", row, dst)
    most = machine.active().limits.compute_sources
    if not 1 <= len(srcs) <= most:
        raise fail(f"dma_compute takes 1 to {most} sources", tile=dst, given=len(srcs))
    total: Any = None
    kept: NDArray[np.bool_] | None = None
    for i, src in enumerate(srcs):
        if src.size != dst.size:
            raise fail("dma_compute: sources and dst have the same number of elements", tile=src)
        found = _take(src, oob)
        if found is None:
            return
        raw, good = found
        if good is not None:
            kept = good if kept is None else kept & good
        a = _float32(raw, src.dtype)
        if scales is not None and scales[i] != 1.0:
            a = a * np.float32(scales[i])
        a = like(a, dst.shape)
        total = a if total is None else row.apply(total, a)
    _put(dst, cast(np.asarray(total), dst.dtype), oob, kept)


def register_load(register: Register, src: Tile) -> None:
    """register = a one-element tile."""
    if not issue("register_load", "", (), (("src", src),)):
        src._known()
    found = src.resolved()
    if found is None or found.size != 1:
        raise fail("register_load reads one element", tile=src)
    register.value = int(found.read().reshape(-1)[0])


def register_store(dst: Tile, register: Any) -> None:
    """A one-element tile = register."""
    if issue("register_store", "", (("dst", dst),), ()):
        dst.write(np.full(dst.shape, int(register), np.int64))


def assign(dst: Tile, value: Any) -> None:
    """dst[...] = value in a kernel of the older front end: a DMA to or from HBM, a copy on chip, a memset for numbers."""
    from mowich.neuroncore import engines

    if isinstance(value, Tile):
        if dst.space == "H" or value.space == "H":
            copy(dst, value)
        else:
            if value.shape != dst.shape and value.size != dst.size:
                value = value.broadcast_to(dst.shape)
            engines.tensor_copy(dst, value)
    elif dst.space == "H":
        machine.active()
        dst.write(np.full(dst.shape, value, dst.dtype.dtype))
    else:
        engines.memset(dst, value)


__all__ = [
    "assign",
    "compute",
    "copy",
    "gather",
    "register_load",
    "register_store",
    "scalar_value",
    "scatter",
    "transpose",
]
