"""Where tiles lie: allocation by a kernel, and addresses over live ranges afterwards, for what must fit and what must
not overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex, SupportsInt

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.neuroncore.boxes import row_major
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.core import Core, NkiValidationError, TensorLayout, fail
from mowich.neuroncore.dtypes import HOST_ONLY, PUBLIC, DType, as_dtype
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.memory import SPACE, SPACE_NAME, MemoryRegion, Storage, device_dtype, takes_wide
from mowich.neuroncore.repeat import Unlike
from mowich.neuroncore.trace import Record, Trace
from mowich.neuroncore.views import Tile, view_of


def allocate(
    core: Core, shape: object, dtype: object, region: MemoryRegion, name: str = "", address: object = None
) -> Tile:
    """A new tensor. On chip: at most 128 partitions, and a row that fits the memory; address = (partition, byte) places
    it by hand."""
    plan = None
    if address is None and type(shape) is tuple:
        try:
            plan = core.plans.get((shape, dtype, region))
        except TypeError:  # what cannot be a key is judged below
            plan = None
    if plan is None:
        plan = _planned(core, shape, dtype, region, address)
        if address is None and type(shape) is tuple:
            core.plans[shape, dtype, region] = plan
    dims, d, strides, address = plan
    if region is MemoryRegion.shared_hbm and core.programs > 1:
        return _shared(core, dims, d, region, name)
    return view_of(_stored(core, region, dims, d, name, address), d, dims, strides)


def _planned(core: Core, shape: Any, dtype: object, region: MemoryRegion, address: object) -> TensorLayout:
    """Shape, format, strides and address of a new tensor. Raises where its memory cannot hold it."""
    dims = _dims(shape)
    d = device_dtype(dtype, "a tile")
    space = SPACE[region]
    if not dims or min(dims) < 1:
        raise fail("a tensor has at least one element in each dimension", given=list(dims))
    limits = core.limits
    if space != "H":
        if len(dims) == 1:
            dims = (dims[0], 1)
        if dims[0] > limits.partitions:
            raise fail(
                f"partition dimension {dims[0]} exceeds {limits.partitions} partitions of {SPACE_NAME[space]}",
                given=f"{list(dims)} {d}",
                allowed=f"at most {limits.partitions}",
                fix="tile the first dimension in steps of nl.tile_size.pmax",
            )
        row = math.prod(dims[1:]) * d.itemsize
        room = limits.sbuf_B if space == "S" else limits.psum_B
        if row > room:
            raise fail(
                f"tile needs {row:,} bytes in each partition of {SPACE_NAME[space]}, which has {room:,}",
                given=f"{list(dims)} {d}",
                fix="split the free dimension",
            )
        if address is not None:
            address = _address(core, address, dims, row, d.itemsize, space)
    else:
        address = None
        check_hbm(dims, d, limits.hbm_B)
    return dims, d, row_major(dims), address


def _dims(shape: object) -> tuple[int, ...]:
    """A shape as whole numbers. Raises for what Python would only cut down to one: 4.5, True, "4"."""
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    dims = []
    for n in sizes:
        if type(n) is int:
            dims.append(n)
            continue
        is_part = isinstance(n, float | np.floating) and not float(n).is_integer()
        if is_part or isinstance(n, bool | np.bool_ | str) or not isinstance(n, SupportsInt | SupportsIndex):
            raise fail("a dimension of a tensor is a whole number", given=list(sizes))
        dims.append(int(n))
    return tuple(dims)


def check_hbm(dims: tuple[int, ...], d: DType, room_B: int) -> None:
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
        raise fail(
            f"tile of {row:,} bytes at byte {byte:,} exceeds the {room:,} bytes of a partition of {SPACE_NAME[space]}",
            given=address,
            fix=f"addresses 0 .. {room - row:,} fit",
        )
    return partition, byte


def _shared(core: Core, dims: tuple[int, ...], d: DType, region: MemoryRegion, name: str) -> Tile:
    """Tensors in shared HBM are the same for both programs: matched by name, else by the order in which they are
    made."""
    kind = ("named", name) if name else ("order",)
    turn = core.serial.get(kind, 0)
    core.serial[kind] = turn + 1
    key = (*kind, turn)
    found = core.shared.get(key)
    if found is None:
        if core.group is not None and core.group.has_repeated:
            raise Unlike  # who comes first makes it, and without the turns that were left out that may be another
        found = core.shared[key] = _stored(core, region, dims, d, name)
    elif found.shape != dims or found.dtype is not d:
        raise fail(
            "the programs of this kernel create different shared tensors in the same place",
            given=f"{list(dims)} {d}",
            allowed=found.describe(),
            fix="give shared_hbm tensors names",
        )
    return view_of(found, d, dims, row_major(dims))


def wrap_array(core: Core, array: Array, region: MemoryRegion, name: str = "") -> Tile:
    """A host array as an HBM tensor that shares its bytes. Raises for formats of 64 bits."""
    d = as_dtype(array.dtype)
    if d in HOST_ONLY and not takes_wide(core, d):
        to = HOST_ONLY[d]
        raise NkiValidationError(
            f"a kernel cannot take {d}: the NeuronCore has no format of 64 bits",
            where=f"argument '{name}'",
            given=f"{list(array.shape)} {d}",
            allowed=", ".join(map(str, PUBLIC)),
            fix=f"convert it first: {name}.astype(np.{to}), or {name}.to(torch.{to})",
        )
    shape = array.shape or (1,)
    check_hbm(shape, d, core.limits.hbm_B)
    storage = Storage(core, region, shape, d, name=name, data=array)
    return view_of(storage, d, shape, row_major(shape))


class Lives(NamedTuple):
    """Allocations of a run on chip, in the order in which they were made, as columns. is_psum: in PSUM, else in SBUF;
    parts, row_B: as in `Record`; first, last: numbers of the instructions between which each lives, first -1 where
    nothing wrote it; record: makes the `Record` of a row."""

    is_psum: NDArray[np.bool_]
    parts: NDArray[np.int32] | NDArray[np.int64]
    row_B: NDArray[np.int32] | NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    record: Callable[[int], Record]

    def rows(self, space: str) -> NDArray[np.int64]:
        """Rows of the tiles of a memory that were written."""
        return np.flatnonzero((self.is_psum == (space == "P")) & (self.first >= 0))


def lives(core: Core) -> Lives:
    """Tiles and when they live: as the run noted it, or, without values, as the trace tells it."""
    if not core.values and core.trace is not None:
        return _traced_lives(core, core.trace)
    c = np.array([(r.space == "P", r.parts, r.row_B, r.first, r.last) for r in core.records], np.int64).reshape(-1, 5).T
    return Lives(c[0] == 1, c[1], c[2], c[3], c[4], core.records.__getitem__)


def _traced_lives(core: Core, trace: Trace) -> Lives:
    """The same from a trace. A tile lives from its first write to its last use. Where the first write is a load from
    HBM, and the first to follow that is no such load is a read, it lives from there: the compiler may delay loads until
    then."""
    forms = trace.storages.forms
    noted = {r.number: r for r in core.records}  # what was written or read without an instruction
    size = max([len(trace.storages.form), *(n + 1 for n in noted)])
    form = np.full(size, -1, np.int32)
    form[: len(trace.storages.form)] = trace.storages.form
    shapes: list[tuple[str, int, int]] = []
    first, last, reads, others = Touches(trace).lives(form, noted.values())
    delayed = (reads >= 0) & (reads <= others)
    first[delayed] = reads[delayed]
    known = len(forms)
    for r in noted.values():  # a form of its own for each
        form[r.number] = known + len(shapes)
        shapes.append((r.space, r.parts, r.row_B))
    shown = [(f.space, f.parts, f.row_B) for f in forms] + shapes + [("H", 0, 0)]
    rows = np.flatnonzero(np.array([space != "H" for space, _, _ in shown])[form])
    is_psum, parts, row_B = np.array([(space == "P", p, b) for space, p, b in shown], np.int32).T[:, form[rows]]

    def record(i: int) -> Record:
        number = int(rows[i])
        if number in noted:
            noted[number].first, noted[number].last = int(first[number]), int(last[number])
            return noted[number]
        f = forms[form[number]]
        return Record(
            number,
            f.space,
            f.parts,
            f.row_B,
            (f.file, f.line),
            f.name,
            f.address,
            f.dtype,
            f.shape,
            int(first[number]),
            int(last[number]),
        )

    return Lives(is_psum == 1, parts, row_B, first[rows], last[rows], record)


class Touches:
    """The operands of a trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.library = compiled.library(len(trace))
        loads = [
            TABLE[k.name].engines[0] == "dma" and all(o.space == "H" for o in k.reads[:n])
            for k, n in zip(trace.kinds, trace.plain_reads, strict=True)
        ]
        # of each kind: operands that it reads, those of them that are no run-time indices, operands, whether it loads
        self.kinds = [
            (len(k.reads), n, len(k.reads) + len(k.writes), loaded)
            for k, n, loaded in zip(trace.kinds, trace.plain_reads, loads, strict=True)
        ]

    def lives(self, form: NDArray[np.int32], noted: Iterable[Record]) -> NDArray[np.int64]:
        """Of each storage, in four rows: the clock of its first write, and of its last use; of one that is loaded first
        and not placed by hand, the clock of the first read after that, and of the first write that is no load. -1 where
        there is none, of the last the largest number; the third is -2 where a storage is not loaded first. form: of
        each storage, -1 where it is not touched; noted: what touched storages without an instruction."""
        lives = np.empty((len(form), 4), np.int64)
        lives[:] = (-1, -1, -2, np.iinfo(np.int64).max)
        for r in noted:
            lives[r.number, :2] = r.first, r.last
        is_free = [f.address is None for f in self.trace.storages.forms]
        if not self._is_compiled("clock_lives", form, compiled.rows([(-1, 0, free) for free in is_free], 3), lives):
            lives = np.array(self._lives(lives.tolist(), [*is_free, True], form.tolist()), np.int64).reshape(-1, 4)
        return lives.T

    def _lives(self, rows: list[list[int]], is_free: Sequence[bool], form: Sequence[int]) -> list[list[int]]:
        """Enter in the rows of `lives` what the trace tells."""
        first: dict[int, tuple[int, bool]] = {}
        for number, clock, is_write, is_load in self.operands():
            rows[number][1] = max(rows[number][1], clock)
            if is_write:
                first.setdefault(number, (clock, is_load))
        for number, (clock, is_load) in first.items():
            row = rows[number]
            if row[0] < 0 or clock <= row[0]:
                row[0], row[2] = clock, -1 if is_load and is_free[form[number]] else -2
        for number, clock, is_write, is_load in self.operands():
            row = rows[number]
            if row[2] == -2 or clock <= row[0] or (is_write and is_load):
                continue
            if is_write:
                row[3] = min(row[3], clock)
            elif row[2] < 0:
                row[2] = clock
        return rows

    def operands(self) -> Iterator[tuple[int, int, bool, bool]]:
        """(Storage, clock, whether it is written, whether by a DMA that reads nothing but HBM) of each operand but
        run-time indices."""
        t, at = self.trace, 0
        for kind, clock in zip(t.kind, t.number, strict=True):
            reads, plain, count, is_load = self.kinds[kind]
            for place in range(count):
                if place < plain or place >= reads:
                    yield t.touched[at + 2 * place], clock, place >= reads, is_load
            at += 2 * count

    def peaks(self, quadrant: int) -> dict[str, int] | None:
        """Of SBUF and PSUM, the most bytes of a quadrant's partition that are live at once, by the compiled code; None
        where that cannot tell."""
        t, peak = self.trace, np.zeros(2, np.int64)
        spaces = {"S": 0, "P": 1}
        forms = compiled.rows(
            [(spaces.get(f.space, -1), f.row_B * -(-f.parts // quadrant), f.address is None) for f in t.storages.forms],
            3,
        )
        form = np.frombuffer(t.storages.form, np.int32) if t.storages.form else np.zeros(0, np.int32)
        found = self._is_compiled("clock_peaks", form, forms, peak)
        return {space: int(peak[n]) for space, n in spaces.items()} if found else None

    def _is_compiled(self, name: str, *columns: NDArray[np.generic]) -> bool:
        """Whether the compiled code filled the columns, of which the first has an entry for each storage."""
        if self.library is None:
            return False
        t, kinds = self.trace, compiled.rows([*self.kinds, (0, 0, 0, 0)], 4)
        given = compiled.LivesGiven.of(t, instructions=len(t), storages=len(columns[0]), kind_rows=kinds)
        return compiled.is_done(getattr(self.library, name), given, *columns)


def most_live(core: Core, space: str, found: Lives) -> tuple[int, NDArray[np.int64]]:
    """Most bytes of one partition that are live at once, and the rows of what is live then.

    Live: from the first write (for tiles filled by loads from HBM, the first read) to the last use, in program order.
    Tiles of few partitions share columns by quadrants.
    """
    quadrant = core.limits.quadrant
    rows = found.rows(space)
    if not len(rows):
        return 0, rows
    size = (found.row_B[rows] * -(-found.parts[rows] // quadrant)).astype(np.int64)
    # what changes with each instruction, then how much is live from there on
    level = np.zeros(int(found.last[rows].max()) + 2, np.int64)
    np.add.at(level, found.first[rows], size)
    np.subtract.at(level, found.last[rows] + 1, size)
    np.cumsum(level, out=level)
    moment = int(np.argmax(level))
    live = rows[(found.first[rows] <= moment) & (found.last[rows] >= moment)]
    return _of_partition(int(level[moment]), core), live


def _of_partition(size_B: int, core: Core) -> int:
    """Bytes of one partition where tiles take so many of a partition of any quadrant."""
    return -(-size_B * core.limits.quadrant // core.limits.partitions)


def _allocated(record: Record) -> str:
    """file:line of a tile's allocation: errors found after the kernel have no line of their own."""
    return f"{record.site[0]}:{record.site[1]}"


_SHOWN = 5
"""Allocations that an error about capacity lists at most."""


def check_capacity(core: Core) -> None:
    """Raise where the tiles live at one moment cannot fit SBUF or PSUM; names the lines that allocate most of them."""
    limits = core.limits
    found: Lives | None = None
    peaks = None
    if core.trace is not None and not core.values and not core.records:
        peaks = Touches(core.trace).peaks(limits.quadrant)
    for space, room in (("S", limits.sbuf_B), ("P", limits.psum_B)):
        if not _holds_free_tiles(core, space):
            continue
        if peaks is not None and _of_partition(peaks[space], core) <= room:
            continue
        found = found or lives(core)
        peak, rows = most_live(core, space, found)
        if peak <= room:
            continue
        live = sorted(map(found.record, rows.tolist()), key=lambda r: -r.row_B * r.parts)
        fix = (
            "use smaller tiles, or let tiles die sooner: a tile lives from its first write (or first read, where loaded"
            " from HBM) to its last use"
        )
        if space == "P":
            bank = limits.psum_bank_B
            what = (
                f"{-(-peak // bank)} banks are live at once, it has {limits.psum_banks} of {bank:,} bytes per partition"
            )
            fix = (
                "copy results to SBUF with tensor_copy and use the banks again: a tile holds its banks from its first"
                " write to its last use"
            )
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
    more = len(made) - _SHOWN
    return "; ".join(made[:_SHOWN] + ([f"{more} more lines"] if more > 0 else []))


def _short(record: Record) -> str:
    """File, without its folder, and line of an allocation."""
    return _allocated(record).rsplit("/", 1)[-1]


def _holds_free_tiles(core: Core, space: str) -> bool:
    """Whether the kernel has tiles in a memory that it did not place by hand."""
    if core.trace is not None and any(f.space == space and f.address is None for f in core.trace.storages.forms):
        return True
    return any(r.address is None and r.space == space for r in core.records)


def check_overlap(core: Core) -> None:
    """Raise where a tile placed by hand is written over bytes of another that is still used afterwards."""
    if core.trace is not None and not core.values and not any(f.address for f in core.trace.storages.forms):
        return
    found = lives(core)
    written = map(found.record, np.flatnonzero(found.first >= 0).tolist())
    placed = [(r.address, r) for r in written if r.address is not None]
    live: list[tuple[tuple[int, int], Record]] = []
    for (p, b), r in sorted(placed, key=lambda x: x[1].first):
        live = [(at, q) for at, q in live if q.last >= r.first]
        for (qp, qb), q in live:
            if q.space == r.space and qp < p + r.parts and p < qp + q.parts and qb < b + r.row_B and b < qb + q.row_B:
                names = [f"'{x.name or 'tile'}' {list(x.shape)} {x.dtype} at {x.address} ({_short(x)})" for x in (q, r)]
                raise NkiValidationError(
                    f"tiles overlap in {SPACE_NAME[r.space]} while both are in use: {names[0]} and {names[1]}",
                    where=_allocated(r),
                    fix=f"the second may start at byte {qb + q.row_B}, or be written after the last use of the first",
                )
        live.append(((p, b), r))
