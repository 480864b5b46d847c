"""What the DMA engines do: copies between HBM and SBUF with casts, transposes, sums of several sources, gathers and
scatters.

Elements are taken in row-major order of each side's pattern. Equal formats are copied bit by bit; others go through
float32. Rows whose run-time index is out of bounds raise, or are left out with oob_mode skip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore import integers, ops, overflow
from mowich.neuroncore.access import (
    addresses,
    flat_elements,
    out_of_bounds,
    read_tile,
    static_view,
    storage_of,
    tile_elements,
    write_tile,
    write_where,
)
from mowich.neuroncore.boxes import line_along
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.dtypes import DType, cast, to_f32
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import Array, like, two_operands
from mowich.neuroncore.instructions.rates import PS, RINGS, Cost, InstructionRates
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.instructions.vector import memset, tensor_copy
from mowich.neuroncore.memory import ALL
from mowich.neuroncore.trace import Kind, Operand
from mowich.neuroncore.views import Tile

SPACES = {"dst": "SH", "src": "SH"}


# what they cost
# -------------------------------------------------------------------------------------------------------------


def _run_B(op: Operand) -> int:
    """Bytes that follow each other in memory, from the innermost dimension outwards; on chip within a partition."""
    run, expected = op.itemsize, 1
    dims = list(zip(op.shape, op.strides, strict=True))
    if op.space != "H":
        dims = dims[1:]
    for size, stride in reversed(dims):
        if size == 1:
            continue
        if stride != expected:
            break
        run *= size
        expected *= size
    return run


def _shorter_run_B(source: Operand, out: Operand, total: int) -> int:
    """Bytes of a descriptor: the run of the more fragmented side. Rows that follow each other in HBM are one run, whole
    partitions on the other side do not break it."""
    if (source.space == "H") == (out.space == "H"):
        return min(
            _run_B(out) * max(1, source.itemsize // out.itemsize),
            _run_B(source) * max(1, out.itemsize // source.itemsize),
        )
    memory, tile = (source, out) if source.space == "H" else (out, source)
    run, inner = _run_B(memory), _run_B(tile)
    return min(run, inner) if inner < total // max(tile.shape[0], 1) else run


def _rows(reads: tuple[Operand, ...], write: Operand) -> tuple[int, int]:
    """(first partition, partitions) of the side in SBUF; (0, 0) where both are in HBM."""
    for op in (write, *reads):
        if op.space != "H":
            return op.start, op.shape[0]
    return 0, 0


class _Share(NamedTuple):
    """What falls to each DMA engine. transfer: ps; descriptors: in all; rate_ps: of the longest transfer, the bytes;
    parts: what the rest of it is, ps by fact."""

    transfer: tuple[int, ...]
    descriptors: int
    rate_ps: int
    parts: dict[str, int]


def _step_B(op: Operand, run: int) -> int:
    """Bytes from one run of `run` bytes to the next in HBM; 0 where there is one run only, or runs are cut by the other
    side."""
    inner = op.itemsize
    for size, stride in reversed(list(zip(op.shape, op.strides, strict=True))):
        if size == 1:
            continue
        if inner == run and stride * op.itemsize != run:
            return abs(stride) * op.itemsize
        inner *= size
    return 0


def _in_memory(r: InstructionRates, kind: Kind, run: int) -> dict[str, int]:
    """What a static descriptor waits for in HBM, ps by fact, where it takes a part of each row of a tensor.

    Two effects, of parts of `dma.static_row_bytes` and more. Where a row has an even number of such parts that is no
    multiple of `dma.static_row_parts`, each descriptor waits for `dma.static_row`. Each end of a descriptor inside a
    burst of HBM costs `dma.static_ragged`: as a kernel goes along the row, parts whose length is a multiple of g bytes
    begin on a burst's border in g of `dma.static_burst` cases.
    """
    memory = [o for o in (*kind.reads[:1], *kind.writes[:1]) if o.space == "H"]
    step = _step_B(memory[0], run) if len(memory) == 1 else 0
    if step <= run or run < r.number("dma.static_row_bytes"):
        return {}
    found = {}
    parts, rest = divmod(step, run)
    if rest == 0 and parts % 2 == 0 and parts % int(r.number("dma.static_row_parts")):
        found["dma.static_row"] = r.ps("dma.static_row")
    burst = int(r.number("dma.static_burst"))
    border = math.gcd(step, run, burst)
    if border < burst:
        found["dma.static_ragged"] = round(2 * (1 - border / burst) * r.ps("dma.static_ragged"))
    return found


def _transfer(r: InstructionRates, kind: Kind, total: int, run: int, rate: float, beside: dict[str, int]) -> _Share:
    """A partition belongs to one engine, 8 partitions to each; rows that follow each other in HBM make one descriptor
    per engine. beside: the time that a descriptor costs beside its bytes, ps by fact; however short, it takes
    `dma.descriptor_least`."""
    engines = int(r.number("dma.engines"))
    start, rows = _rows(kind.reads, kind.writes[0])
    if rows == 0:
        count = max(1, math.ceil(total / run))
        used = min(engines, max(count, math.ceil(total / 512)))
        held = [total / used] * used + [0.0] * (engines - used)
        made = [math.ceil(count / used)] * used
        count = max(count, used)
    else:
        width = 128 // engines
        row_B = total / rows
        on = [0] * engines
        for p in range(start, start + rows):
            on[min(p // width, engines - 1)] += 1
        held = [n * row_B for n in on]
        made = [math.ceil(b / run) if b else 0 for b in held]
        count = sum(made)
    made = [max(1, n) for n in made]
    each, least = sum(beside.values()), r.ps("dma.descriptor_least")
    bytes_ps = [round(b / rate * PS) for b in held]
    load = [max(n * each + t, n * least) if t else 0 for n, t in zip(made, bytes_ps, strict=False)]
    longest = max(range(len(load)), key=lambda e: load[e])
    parts = {fact: made[longest] * ps for fact, ps in beside.items()}
    if load[longest] > made[longest] * each + bytes_ps[longest]:
        parts = {"dma.descriptor_least": load[longest] - bytes_ps[longest]}
    return _Share(tuple(load), count, bytes_ps[longest], parts)


def ring_of(r: InstructionRates, kind: Kind) -> str:
    """The ring (`rates.RINGS`) that a DMA is triggered on.

    GpSimd writes the descriptors for `swdge`, for a vector of indices, and where the compiler chooses and an address is
    known at run time only or the tensors differ in format. Descriptors made before the launch serve `none`. The
    hardware's generators serve the rest, that of the Scalar Engine what names this engine. NeuronCore-v2 has no such
    generators: the first ring stands for its descriptors.
    """
    mode = kind.flag("dge", "unknown")
    dynamic = {o.dynamic for o in (*kind.reads, *kind.writes)}
    if mode == "swdge" or "vector" in dynamic:
        return "software"
    if mode in ("unknown", "none") and "scalar" in dynamic:
        return "software"
    if mode == "unknown" and kind.flag("cast") and r.generation >= 3:
        return "software"
    if mode == "none" and r.generation >= 3:
        return "static"
    return "scalar" if kind.flag("queue") == "scalar" else "sync"


def _bytes_cost(r: InstructionRates, kind: Kind, factor: float = 1.0, extra_reads: bool = False) -> Cost:
    out = kind.writes[0]
    sources = [o for o in kind.reads if math.prod(o.shape) == math.prod(out.shape)] or list(kind.reads[:1]) or [out]
    source = sources[0]
    size = math.prod(out.shape)
    total = size * max(out.itemsize, source.itemsize)
    run = _shorter_run_B(source, out, total)
    if any(o.dynamic in ("vector", "columns") for o in (out, source)):
        run = min(run, total // max(out.shape[0], 1))
    moved = total * (len(sources) if extra_reads else 1)
    ring = ring_of(r, kind)
    at_run_time = ring == "software" or any(o.dynamic for o in (out, source))
    rate = "dma.static_rate" if ring == "static" and run >= r.number("dma.static_bytes") else "dma.rate"
    descriptor = "dma.dynamic_descriptor" if at_run_time else "dma.descriptor"
    beside = {descriptor: r.ps(descriptor)}
    if ring == "static":
        beside |= _in_memory(r, kind, run)
    share = _transfer(r, kind, moved, max(run, 1), r.number(rate) * factor, beside)
    read = sum(math.prod(o.shape) * o.itemsize for o in sources if o.space == "H")
    write = size * out.itemsize if out.space == "H" else 0
    load, store = RINGS[ring]
    static = "dma.static_issue" if kind.flag("ahead") else "dma.none_issue"
    issue = {"software": "dma.software_issue", "static": static}.get(ring, "dma.issue")
    lead = {issue: r.ps(issue)}
    if kind.name == "dma_transpose" and issue == "dma.issue" and r.generation >= 3:
        lead["dma.transpose_issue"] = r.ps("dma.transpose_issue")
    held = sum(lead.values())
    lead["dma.first_byte"] = r.ps("dma.first_byte")
    if ring == "software":
        lead["dma.software_first_byte"] = r.ps("dma.software_first_byte")
    return Cost(
        queue=store if out.space == "H" and source.space != "H" else load,
        issue=held,
        first_byte=sum(lead.values()) - held,
        transfer=share.transfer,
        hbm_read_B=read,
        hbm_write_B=write,
        sbuf_B=moved,
        latency=r.ps("dma.completion"),
        parts={**share.parts, rate: share.rate_ps},
        latency_parts={"dma.completion": r.ps("dma.completion")},
        lead_parts=lead,
        opcode=kind.name,
        descriptor_B=moved // max(share.descriptors, 1),
        descriptors=share.descriptors,
        dtype=out.dtype,
    )


def copy_cost(r: InstructionRates, kind: Kind) -> Cost:
    """Bytes as they are."""
    return _bytes_cost(r, kind)


def _transpose_cost(r: InstructionRates, kind: Kind) -> Cost:
    """Bytes at the lower rate of transposes, which depends on where the source lies."""
    on_chip = kind.reads[0].space != "H"
    return _bytes_cost(r, kind, r.number("dma.transpose_sbuf" if on_chip else "dma.transpose_hbm"))


def compute_cost(r: InstructionRates, kind: Kind) -> Cost:
    """Bytes of all sources at the lower rate of sums."""
    return _bytes_cost(r, kind, r.number("dma.compute"), extra_reads=True)


# what they do
# ---------------------------------------------------------------------------------------------------------------


def convert(a: Array, source: DType, target: DType) -> Array:
    """Elements of one format in another, as a DMA writes them: bits where the formats are equal, through float32 where
    not."""
    if source is target or a.dtype == target.dtype:
        return a
    if max(source.itemsize, target.itemsize) > 4:
        raise fail(f"DMA does not convert {source} to {target}", fix="a format of 64 bits is copied as it is")
    if source.part is not None or target.part is not None:
        if source.itemsize == target.itemsize:
            return np.ascontiguousarray(a).view(target.dtype)
        raise fail(f"DMA cannot convert {source} to {target}", fix="view() one of them as bytes")
    wide = _float32(a, source)
    made = cast(wide, target)
    core = machine.running()
    if core is not None and core.observed is not None:
        overflow.look(core, wide, made, target)
    return made


def _float32(a: Array, source: DType) -> Array:
    """Elements as a DMA computes with them."""
    f = to_f32(a, source)
    core = machine.running()
    if core is not None and core.looks and integers.is_wide(source):
        integers.note_rounding(core, "a DMA", a.astype(np.int64), f)
    return f


@instruction("dma_copy", engines=("dma",), cost=copy_cost, spaces=SPACES, face="")
def copy(
    dst: Tile, src: Tile, oob: str = "error", name: str = "dma_copy", flags: dict[str, object] | None = None
) -> None:
    """dst = src, both in HBM or SBUF, the same number of elements."""
    issued = issue(name, "", (("dst", dst),), (("src", src),), flags)
    if src.size != dst.size:
        raise other_elements(dst, dst.shape, src.shape)
    if issued:
        _move(dst, src, oob)


def other_elements(tile: Tile, dst: Sequence[int], src: Sequence[int]) -> Exception:
    """The error for a copy between shapes with different numbers of elements. tile: that it writes."""
    return fail(
        f"dma_copy: src has {math.prod(src)} elements and dst {math.prod(dst)}",
        tile=tile,
        given=f"src {list(src)}, dst {list(dst)}",
        fix="slice both to the same shape",
    )


def _move(dst: Tile, src: Tile, oob: str) -> None:
    if src.dynamic is None and dst.dynamic is None:
        core = machine.running()
        if core is not None and core.observed is not None and storage_of(src) is storage_of(dst):
            _look_for_overlap(core, dst, src)
        a = read_tile(src)
        if src.dtype is not dst.dtype:
            a = convert(a, src.dtype, dst.dtype)
        write_tile(dst, a)
        return
    found = _take(src, oob)
    if found is not None:
        _put(dst, convert(found[0], src.dtype, dst.dtype), oob, found[1])


def _look_for_overlap(core: Core, dst: Tile, src: Tile) -> None:
    """Observe a DMA that reads what it writes at another place of it: its descriptors follow no order."""
    if dst.dtype is not src.dtype or (dst.offset, dst.shape, dst.strides) == (src.offset, src.shape, src.strides):
        return
    if np.may_share_memory(tile_elements(dst), tile_elements(src)) and np.shares_memory(
        tile_elements(dst), tile_elements(src)
    ):
        core.observe("dma overlap", f"a DMA reads elements of {src.describe()} that it writes itself")


def _take(src: Tile, oob: str) -> tuple[Array, NDArray[np.bool_] | None] | None:
    """The elements of a source, and which of its rows were in bounds (None: all); None where the whole of it is left
    out."""
    if src.dynamic is not None and src.dynamic.kind == "vector":
        return gather(src, oob)
    found = static_view(src)
    if found is not None:
        return read_tile(found), None
    if oob == "skip":
        return None
    raise out_of_bounds(src)


def _put(dst: Tile, a: Array, oob: str, kept: NDArray[np.bool_] | None) -> None:
    """Write `a` to a destination, of its rows only those in `kept` (None: all); the others stay as they are."""
    if dst.dynamic is not None and dst.dynamic.kind == "vector":
        scatter(dst, a, oob, kept)
        return
    target = static_view(dst)
    if target is None:
        if oob == "skip":
            return
        raise out_of_bounds(dst)
    if kept is None or kept.all():
        write_tile(target, a)
    elif target.shape[0] == kept.size and a.shape[0] == kept.size:
        write_where(target, a, line_along(0, target.ndim, kept))
    elif kept.any():
        storage_of(target).fill()
        mixed = tile_elements(target).reshape(kept.size, -1).copy()
        mixed[kept] = a.reshape(kept.size, -1)[kept]
        write_tile(target, mixed.reshape(target.shape))


def gather(src: Tile, oob: str) -> tuple[Array, NDArray[np.bool_] | None]:
    """Rows of an HBM tensor at run-time indices, and which of them were in bounds (None: all)."""
    where, good = addresses(src)
    s = storage_of(src)
    s.record.last = s.core.clock
    if good.all():
        return flat_elements(src)[where], None
    if oob != "skip":
        raise out_of_bounds(src)
    return flat_elements(src)[np.where(line_along(0, where.ndim, good), where, 0)], good


def scatter(dst: Tile, values: Array, oob: str, kept: NDArray[np.bool_] | None = None) -> None:
    """Write rows of an HBM tensor at run-time indices, in order: a later row wins."""
    where, good = addresses(dst)
    if not good.all() and oob != "skip":
        raise out_of_bounds(dst)
    if kept is not None and kept.size == good.size:
        good = good & kept
    s = storage_of(dst)
    if s.state != ALL:
        s.fill()
        s.whole()
    values = like(values, where.shape)
    if not good.all():
        where, values = where[good], values[good]
    flat_elements(dst)[where] = values
    if s.core.observed is not None:
        _look_for_duplicates(s.core, dst, where, values)


def _look_for_duplicates(core: Core, dst: Tile, where: NDArray[np.int64], values: Array) -> None:
    """Observe rows that another row of the same DMA wrote over with other values: which one stays is not said."""
    rows = len(where)
    there = np.ascontiguousarray(flat_elements(dst)[where]).view(np.uint8).reshape(rows, -1)
    wrote = np.ascontiguousarray(values.astype(dst.dtype.dtype, copy=False)).view(np.uint8).reshape(rows, -1)
    lost = int((there != wrote).any(axis=1).sum())
    if lost:
        core.observe(
            "duplicate rows",
            f"a DMA writes several rows with other values to one place of {dst.describe()}",
            None,
            lost,
            rows,
        )


_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


@instruction("dma_transpose", engines=("dma",), cost=_transpose_cost, spaces=SPACES, face="")
def transpose(
    dst: Tile, src: Tile, axes: Sequence[int] | None = None, oob: str = "error", flags: dict[str, object] | None = None
) -> None:
    """dst = src with its outer and inner dimensions exchanged."""
    issued = issue("dma_transpose", "", (("dst", dst),), (("src", src),), flags)
    order = tuple(int(a) for a in axes) if axes is not None else _AXES.get(src.ndim, ())
    if sorted(order) != list(range(src.ndim)):
        raise fail("dma_transpose: axes", tile=src, given=axes, allowed="(1, 0), (2, 1, 0), (3, 1, 2, 0)")
    if src.size != dst.size:
        raise fail(f"dma_transpose: src has {src.size} elements and dst {dst.size}", tile=dst)
    if not issued:
        return
    found = _take(src, oob)
    if found is None:
        return
    a, kept = found
    a = np.transpose(convert(a, src.dtype, dst.dtype), order)
    if kept is not None and not kept.all():
        storage_of(dst).fill()
        mask = kept.reshape([-1 if ax == 0 else 1 for ax in order])
        a = np.where(np.broadcast_to(mask, a.shape), a, like(tile_elements(dst), a.shape))
    _put(dst, np.ascontiguousarray(a).reshape(dst.shape), oob, None)


@instruction(
    "dma_compute",
    engines=("dma",),
    cost=compute_cost,
    spaces=SPACES,
    face="dst srcs reduce_op scales unique_indices=True oob_mode name",
)
def compute(
    dst: Tile, srcs: Sequence[Tile], reduce_op: object, scales: Sequence[float] | None = None, oob_mode: str = "error"
) -> None:
    """dst = op over the sources, each times its scale, in float32. A source or dst with a vector offset is gathered or
    scattered."""
    row = ops.alu(reduce_op)
    reads = tuple((f"src{i}", s) for i, s in enumerate(srcs))
    issued = issue("dma_compute", "", (("dst", dst),), reads, {"op": row.name})
    if scales is not None and len(scales) != len(srcs):
        raise fail("dma_compute: one scale per source", given=len(scales), allowed=str(len(srcs)))
    two_operands("dma_compute", row, dst)
    most = machine.active().limits.compute_sources
    if not 1 <= len(srcs) <= most:
        raise fail(f"dma_compute takes 1 to {most} sources", tile=dst, given=len(srcs))
    for src in srcs:
        if src.size != dst.size:
            raise fail("dma_compute: sources and dst have the same number of elements", tile=src)
    if not issued:
        return
    total: Array | None = None
    kept: NDArray[np.bool_] | None = None
    for i, src in enumerate(srcs):
        found = _take(src, oob_mode)
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
    _put(dst, cast(np.asarray(total), dst.dtype), oob_mode, kept)


def assign_tile(dst: Tile, value: object) -> None:
    """dst[...] = value in a kernel of the older front end: a DMA to or from HBM, a copy on chip, a memset for
    numbers."""
    if isinstance(value, Tile):
        if dst.space == "H" or value.space == "H":
            copy(dst, value)
        else:
            if value.shape != dst.shape and value.size != dst.size:
                value = value.broadcast_to(dst.shape)
            tensor_copy(dst, value)
    elif dst.space == "H":
        machine.active()
        write_tile(dst, np.full(dst.shape, value, dst.dtype.dtype))
    else:
        memset(dst, value)


Tile.assign = assign_tile
