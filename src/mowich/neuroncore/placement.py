"""Where tiles lie: allocation by a kernel, and addresses over live ranges afterwards, for what must fit and what must not overlap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.core import Core, NkiValidationError, fail
from mowich.neuroncore.dtypes import HOST_ONLY, PUBLIC, DType, as_dtype
from mowich.neuroncore.memory import SPACE, SPACE_NAME, MemoryRegion, Record, Storage, device_dtype
from mowich.neuroncore.views import Tile, row_major


def allocate(core: Core, shape: Any, dtype: Any, region: MemoryRegion, name: str = "", address: Any = None) -> Tile:
    """A new tensor. On chip: at most 128 partitions, and a row that fits the memory; address = (partition, byte) places it by hand."""
    dims = (int(shape),) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
    d = device_dtype(dtype, "a tile")
    space = SPACE[region]
    if not dims or min(dims) < 1:
        raise fail("a tensor has at least one element in each dimension", given=list(dims))
    limits = core.limits
    if space != "H":
        if len(dims) == 1:
            dims = (dims[0], 1)
        if dims[0] > limits.partitions:
            raise fail(f"partition dimension {dims[0]} exceeds {limits.partitions} partitions of {SPACE_NAME[space]}", given=f"{list(dims)} {d}",
                       allowed=f"at most {limits.partitions}", fix="tile the first dimension in steps of nl.tile_size.pmax")  # fmt: skip
        row = math.prod(dims[1:]) * d.itemsize
        room = limits.sbuf_B if space == "S" else limits.psum_B
        if row > room:
            raise fail(f"tile needs {row:,} bytes in each partition of {SPACE_NAME[space]}, which has {room:,}", given=f"{list(dims)} {d}",
                       fix="split the free dimension")  # fmt: skip
        if address is not None:
            address = _address(core, address, dims, row, d.itemsize, space)
    else:
        address = None
        _check_hbm(dims, d, limits.hbm_B)
    if region is MemoryRegion.shared_hbm and core.programs > 1:
        return _shared(core, dims, d, region, name)
    storage = _stored(core, region, dims, d, name, address)
    return Tile(storage, d, dims, row_major(dims))


def _check_hbm(dims: tuple[int, ...], d: DType, room_B: int) -> None:
    """Raise for a tensor that is larger than the HBM of the chip."""
    size_B = math.prod(dims) * d.itemsize
    if size_B > room_B:
        raise fail(
            f"a tensor of {size_B / 2**30:,.4g} GiB exceeds the HBM of the chip",
            given=f"{list(dims)} {d}",
            allowed=f"at most {room_B / 2**30:,.4g} GiB",
            fix="check the shape, or split the tensor over chips",
        )


def _stored(
    core: Core, region: MemoryRegion, dims: tuple[int, ...], d: DType, name: str, address: tuple[int, int] | None = None
) -> Storage:
    """An allocation. Raises where this machine has no memory for its bytes."""
    try:
        return Storage(core, region, dims, d, name=name, address=address)
    except MemoryError:
        size_B = math.prod(dims) * d.itemsize
        raise fail(
            f"this machine has no memory for a tensor of {size_B / 2**30:,.4g} GiB",
            given=f"{list(dims)} {d}",
            fix="use a smaller shape: the simulator holds the bytes of every tensor of a kernel",
        ) from None


def _address(
    core: Core, address: Any, dims: tuple[int, ...], row: int, itemsize: int, space: str
) -> tuple[int, int] | None:
    partition, byte = (None if x is None else int(x) for x in address)
    if byte is None:
        return None
    limits = core.limits
    partition = partition or 0
    room, align = (limits.sbuf_B, limits.sbuf_align_B) if space == "S" else (limits.psum_B, limits.psum_align_B)
    align = max(align, itemsize)
    if byte % align:
        raise fail(
            f"address {byte:,} of a tile in {SPACE_NAME[space]} is not aligned",
            given=f"{list(dims)} of {itemsize}-byte elements",
            allowed=f"a multiple of {align} bytes",
            fix=f"place it at byte {byte // align * align:,} or {-(-byte // align) * align:,}",
        )
    if partition + dims[0] > limits.partitions:
        raise fail(
            f"tile of {dims[0]} partitions at partition {partition} exceeds {limits.partitions} partitions",
            given=address,
        )
    if byte < 0 or byte + row > room:
        raise fail(f"tile of {row:,} bytes at byte {byte:,} exceeds the {room:,} bytes of a partition of {SPACE_NAME[space]}", given=address,
                   fix=f"addresses 0 .. {room - row:,} fit")  # fmt: skip
    return partition, byte


def _shared(core: Core, dims: tuple[int, ...], d: DType, region: MemoryRegion, name: str) -> Tile:
    """Tensors in shared HBM are the same for both programs: matched by name, else by the order in which they are made."""
    kind = ("named", name) if name else ("order",)
    turn = core.serial.get(kind, 0)
    core.serial[kind] = turn + 1
    key = (*kind, turn)
    found = core.shared.get(key)
    if found is None:
        found = core.shared[key] = _stored(core, region, dims, d, name)
    elif found.shape != dims or found.dtype is not d:
        raise fail(
            "the programs of this kernel create different shared tensors in the same place",
            given=f"{list(dims)} {d}",
            allowed=found.describe(),
            fix="give shared_hbm tensors names",
        )
    return Tile(found, d, dims, row_major(dims))


def wrap(core: Core, array: NDArray[Any], region: MemoryRegion, name: str = "") -> Tile:
    """A host array as an HBM tensor that shares its bytes. Raises for formats of 64 bits."""
    d = as_dtype(array.dtype)
    if d in HOST_ONLY:
        to = HOST_ONLY[d]
        raise NkiValidationError(
            f"a kernel cannot take {d}: the NeuronCore has no format of 64 bits", where=f"argument '{name}'",
            given=f"{list(array.shape)} {d}", allowed=", ".join(map(str, PUBLIC)),
            fix=f"convert it first: {name}.astype(np.{to}), or {name}.to(torch.{to})",
        )  # fmt: skip
    shape = array.shape or (1,)
    storage = Storage(core, region, shape, d, name=name, data=array)
    return Tile(storage, d, shape, row_major(shape))


def place(core: Core, space: str) -> tuple[int, list[Record]]:
    """Most bytes of one partition that are live at once, and the records live then (largest first).

    Live: from the first write (for tiles filled by loads from HBM, the first read) to the last use, in program order. Tiles of few
    partitions share columns by quadrants.
    """
    quadrant = core.limits.quadrant
    events: list[tuple[int, int, int, Record]] = []
    for i, r in enumerate(core.records):
        if r.space == space and r.first >= 0:
            events.append((r.first, 1, i, r))
            events.append((r.last + 1, 0, i, r))
    events.sort(key=lambda e: e[:3])
    live: dict[int, Record] = {}
    now = peak = 0
    at: list[Record] = []
    for _, kind, i, r in events:
        size = r.row_B * -(-r.parts // quadrant)
        if kind:
            live[i] = r
            now += size
            if now > peak:
                peak = now
                at = list(live.values())
        else:
            live.pop(i, None)
            now -= size
    return -(-peak * quadrant // core.limits.partitions), sorted(at, key=lambda r: -r.row_B * r.parts)


def _allocated(record: Record) -> str:
    """file:line of a tile's allocation: errors found after the kernel have no line of their own."""
    return f"{record.site[0]}:{record.site[1]}"


SHOWN = 5
"""Allocations that an error about capacity lists at most."""


def check_capacity(core: Core) -> None:
    """Raise where the tiles live at one moment cannot fit SBUF or PSUM; names the lines that allocate most of them."""
    limits = core.limits
    for space, room in (("S", limits.sbuf_B), ("P", limits.psum_B)):
        if not any(r.address is None and r.space == space for r in core.records):
            continue
        peak, live = place(core, space)
        if peak <= room:
            continue
        fix = "use smaller tiles, or let tiles die sooner: a tile lives from its first write (or first read, where loaded from HBM) to its last use"
        if space == "P":
            bank = limits.psum_bank_B
            what = (
                f"{-(-peak // bank)} banks are live at once, it has {limits.psum_banks} of {bank:,} bytes per partition"
            )
            fix = "copy results to SBUF with tensor_copy and use the banks again: a tile holds its banks from its first write to its last use"
        else:
            what = f"{peak:,} bytes per partition are live at once, it has {room:,}"
        raise NkiValidationError(
            f"{SPACE_NAME[space]} over capacity: {what}; largest live tiles: {_by_line(live)}",
            where=_allocated(live[0]),
            fix=fix,
        )


def _by_line(live: list[Record]) -> str:
    """Live tiles in words, largest first, each line of the kernel once."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for r in live:
        groups.setdefault((r.site, r.shape, r.dtype), []).append(r)
    made = []
    for _, tiles in sorted(groups.items(), key=lambda g: -sum(r.row_B * r.parts for r in g[1])):
        r, n = tiles[0], len(tiles)
        what = f"{r.name or 'tile'} {list(r.shape)} {r.dtype}"
        text = (
            f"{what} from {_short(r)} ({r.row_B:,} B)"
            if n == 1
            else f"{n} like {what} from {_short(r)} ({r.row_B:,} B each)"
        )
        made.append(text)
    more = len(made) - SHOWN
    return "; ".join(made[:SHOWN] + ([f"{more} more lines"] if more > 0 else []))


def _short(record: Record) -> str:
    """File, without its folder, and line of an allocation."""
    return _allocated(record).rsplit("/", 1)[-1]


def check_overlap(core: Core) -> None:
    """Raise where a tile placed by hand is written over bytes of another that is still used afterwards."""
    placed = [(r.address, r) for r in core.records if r.address is not None and r.first >= 0]
    live: list[tuple[tuple[int, int], Record]] = []
    for (p, b), r in sorted(placed, key=lambda x: x[1].first):
        live = [(at, q) for at, q in live if q.last >= r.first]
        for (qp, qb), q in live:
            if q.space == r.space and qp < p + r.parts and p < qp + q.parts and qb < b + r.row_B and b < qb + q.row_B:
                names = [f"'{x.name or 'tile'}' {list(x.shape)} {x.dtype} at {x.address} ({_short(x)})" for x in (q, r)]
                raise NkiValidationError(f"tiles overlap in {SPACE_NAME[r.space]} while both are in use: {names[0]} and {names[1]}", where=_allocated(r),
                           fix=f"the second may start at byte {qb + q.row_B}, or be written after the last use of the first")  # fmt: skip
        live.append(((p, b), r))
