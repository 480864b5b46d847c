"""SBUF, PSUM and HBM by the byte: what a kernel allocates, and which of its bytes are written.

A `Storage` is one allocation: rows of bytes, one per partition (HBM has one row). Those with an address lie in the
core's one SBUF or PSUM and may overlap; the others have bytes of their own, and `placement` finds addresses for them
afterwards. `views` holds the tiles through which instructions see them.
"""

from __future__ import annotations

import math
import operator
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.dtypes import HOST_ONLY, PUBLIC, DType, as_dtype, int64
from mowich.neuroncore.trace import Allocation, AnyTile, Record, Trace


class MemoryRegion(str, Enum):  # noqa: UP042
    """Where a tensor lives."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    def __str__(self) -> str:
        return self.value

    __repr__ = __str__
    __hash__ = str.__hash__  # that of Enum is written in Python, and its values are our names


SPACE = {MemoryRegion.sbuf: "S", MemoryRegion.psum: "P", MemoryRegion.private_hbm: "H", MemoryRegion.shared_hbm: "H"}
SPACE_NAME = {"S": "SBUF", "P": "PSUM", "H": "HBM"}
NONE, SOME, ALL = 0, 1, 2
"""How much of an allocation has been written."""


def as_region(buffer: object) -> MemoryRegion:
    """nl.sbuf, "sbuf", "hbm" ... -> MemoryRegion."""
    if type(buffer) is MemoryRegion:
        return buffer
    name = str(getattr(buffer, "value", buffer)).rsplit(".", 1)[-1]
    if name == "hbm":
        return MemoryRegion.private_hbm
    try:
        return MemoryRegion(name)
    except ValueError:
        raise fail("unknown memory", given=name, allowed=[r.value for r in MemoryRegion]) from None


def takes_wide(core: Core | None, d: DType) -> bool:
    """Whether a format of 64 bits may lie in the memories of a core: NKI 0.7 has int64, for scalars and DMAs."""
    return core is not None and core.is_traced and d is int64


def device_dtype(given: object, what: str) -> DType:
    """The format of a tile or view. Raises for those of 64 bits, which the chip does not have."""
    d = as_dtype(given)
    if d in HOST_ONLY and not takes_wide(machine.running(), d):
        raise fail(
            f"{what} cannot be {d}: the NeuronCore has no format of 64 bits",
            allowed=", ".join(map(str, PUBLIC)),
            fix=f"use nl.{HOST_ONLY[d]}",
        )
    return d


def _rows(space: str, shape: tuple[int, ...], dtype: DType) -> tuple[int, int]:
    """(partitions of an allocation, bytes in each); HBM counts as one partition."""
    count = math.prod(shape)
    return (1, count * dtype.itemsize) if space == "H" else (shape[0], count // max(shape[0], 1) * dtype.itemsize)


class Storage:
    """One allocation. parts: partitions; row_B: bytes in each; pitch_B: bytes from one partition to the next in
    `bytes`; base_B: first byte;
    layout: what accesses to allocations of one form have in common (memory, shape, bytes of an element, first
    partition); noted_by: the trace that knows of it; is_made: whether an instruction wrote to it; is_fed: whether
    what lies in it rests on an argument of the kernel. A run without values makes `bytes` and `record` when they are
    asked for, which is seldom."""

    __slots__ = (
        "_bytes",
        "_record",
        "address",
        "base_B",
        "bitmap",
        "core",
        "dtype",
        "filled",
        "granule",
        "is_fed",
        "is_made",
        "layout",
        "name",
        "noted_by",
        "number",
        "owner",
        "parts",
        "pitch_B",
        "region",
        "row_B",
        "shape",
        "site",
        "space",
        "state",
        "written",
    )

    def __init__(
        self,
        core: Core,
        region: MemoryRegion,
        shape: tuple[int, ...],
        dtype: DType,
        *,
        name: str = "",
        address: tuple[int, int] | None = None,
        data: Array | None = None,
    ) -> None:
        self.core = core
        self.region = region
        self.space = SPACE[region]
        self.dtype = dtype
        self.shape = shape
        self.name = name
        self.site = machine.site(core) if data is None else ("", 0)
        self.address = address
        self.layout = (self.space, shape, dtype.itemsize, address[0] if address else 0)
        self.granule = dtype.itemsize
        self.bitmap: NDArray[np.bool_] | None = None
        self.written = 0
        self.is_made = self.is_fed = False
        self.noted_by: Trace | None = None
        self.owner: object = data
        self.parts, self.row_B = _rows(self.space, shape, dtype)
        self.pitch_B, self.base_B = self.row_B, 0
        core.serial["storage"] = count_before = core.serial.get("storage", 0) + 1
        self.number = count_before * core.programs + core.program
        self._bytes: NDArray[np.uint8] | None = None
        if data is not None:
            self._bytes = (
                data.reshape(-1).view(np.uint8)
                if data.flags.c_contiguous
                else np.ascontiguousarray(data).reshape(-1).view(np.uint8)
            )
            self.state, self.filled = ALL, True
        elif address is None:
            if core.values:
                self._bytes = np.empty(self.parts * self.row_B, np.uint8)
            self.state, self.filled = NONE, False
        else:
            self._bytes = core.arena(self.space)
            self.pitch_B = core.limits.sbuf_B if self.space == "S" else core.limits.psum_B
            self.base_B = address[0] * self.pitch_B + address[1]
            self.state, self.filled = NONE, True
        self._record: Record | None = self._recorded() if core.values or core.trace is None else None

    def again(self, number: int) -> Storage:
        """An allocation of a run without values that is this one but for its number."""
        made = Storage.__new__(Storage)
        made.number = number
        self._copy_to(made)
        return made

    def common(self) -> Storage:
        """What allocations of a run without values have in common that are this one but for their numbers: one that
        nothing changes."""
        return self.again(self.number)

    def _copy_to(self, made: Storage) -> None:
        for name, value in zip(_COPIED, _copied(self), strict=True):
            setattr(made, name, value)
        made._record = None

    @property
    def record(self) -> Record:
        """What the run keeps of it."""
        found = self._record
        if found is None:
            found = self._record = self._recorded()
        return found

    def _recorded(self) -> Record:
        made = Record(
            self.number,
            self.space,
            self.parts,
            self.row_B,
            self.site,
            self.name,
            self.address,
            self.dtype.name,
            self.shape,
        )
        if self.space != "H":
            self.core.records.append(made)
        return made

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """The memory that the allocation lies in: bytes of its own, or the core's for those with an address."""
        found = self._bytes
        if found is None:
            found = self._bytes = np.empty(self.parts * self.row_B, np.uint8)
        return found

    @bytes.setter
    def bytes(self, given: NDArray[np.uint8]) -> None:
        self._bytes = given

    @property
    def is_cut_off(self) -> bool:
        """True where the bytes were taken away: a front end that moved them elsewhere does that."""
        return self._bytes is not None and self.address is None and len(self._bytes) != self.parts * self.row_B

    def form(self) -> Allocation:
        """What a trace keeps of it, without its number."""
        return Allocation(
            0,
            self.space,
            self.parts,
            self.row_B,
            self.shape,
            self.dtype.itemsize,
            self.address,
            self.name,
            *self.site,
            self.owner is not None,
            self.dtype.name,
        )

    def describe(self) -> str:
        """ "tile 'x' [128, 512] float32 in SBUF, allocated at kernel.py:12"."""
        label = f" '{self.name}'" if self.name else ""
        at = f", allocated at {self.site[0].rsplit('/', 1)[-1]}:{self.site[1]}" if self.site[0] else ", an argument"
        return f"tile{label} {list(self.shape)} {self.dtype} in {SPACE_NAME[self.space]}{at}"

    def fill(self) -> None:
        """Give bytes that nothing wrote the value that betrays them, once: NaN, or 4 in integers. Bytes are 0:
        references of published kernels take the unused rows of a tile of MX scales as 0."""
        if self.filled:
            return
        self.filled = True
        if self.dtype.is_float:
            self.bytes.fill(0xFF)
        elif self.dtype.kind in ("int", "uint") and self.dtype.itemsize > 1:
            self.bytes.view(self.dtype.dtype).fill(4)
        else:
            self.bytes.fill(0)

    def flags(self, tile: AnyTile) -> NDArray[np.bool_]:
        """Written or not, of each element (or part of an element) of a tile."""
        bitmap = self.bitmap
        if bitmap is None:
            bitmap = self.bitmap = np.zeros(self.parts * self.row_B // self.granule, np.bool_)
        size = tile.dtype.itemsize
        if size == self.granule:
            return np.ndarray(tile.shape, np.bool_, bitmap, tile.offset, tile.strides)
        if size < self.granule:
            bitmap = self.bitmap = np.repeat(bitmap, self.granule // size)
            self.granule = size
            return np.ndarray(tile.shape, np.bool_, bitmap, tile.offset, tile.strides)
        k = size // self.granule
        return np.ndarray((*tile.shape, k), np.bool_, bitmap, tile.offset * k, (*(s * k for s in tile.strides), 1))

    def mark(self, tile: AnyTile) -> None:
        """Note that a tile is about to be written."""
        self._touched()
        if self.state == ALL:
            return
        size = tile.size * tile.dtype.itemsize
        total = self.parts * self.row_B
        if self.state == NONE and size == total and 0 not in tile.strides:
            self.whole()
            return
        if self.address is not None:
            self._fresh(tile)[...] = True
        self.fill()
        self.flags(tile)[...] = True
        self.state = SOME
        self.written += size
        if self.written >= total and self.bitmap is not None:
            if self.bitmap.all():
                self.whole()
            else:
                self.written = int(np.count_nonzero(self.bitmap)) * self.granule

    def whole(self) -> None:
        """Note that all of it is written, or counts as written; what is written to it from now on need not be noted."""
        self.state, self.filled, self.bitmap = ALL, True, None
        if self.address is not None:
            fresh = self.core.fresh[self.space]
            np.ndarray((self.parts, self.row_B), np.bool_, fresh, self.base_B, (self.pitch_B, 1))[...] = True

    def _touched(self) -> None:
        """Note that an instruction writes to it now."""
        record, clock = self.record, self.core.clock
        if record.first < 0:
            record.first = clock
        record.last = clock

    def _fresh(self, tile: AnyTile) -> NDArray[np.bool_]:
        """Written or not, of each byte of the elements of a tile in an allocation that was placed by hand."""
        fresh, shape = self.core.fresh[self.space], (*tile.shape, tile.dtype.itemsize)
        return np.ndarray(shape, np.bool_, fresh, tile.byte_offset(), (*tile.byte_strides(), 1))

    def mark_at(self, whole: AnyTile, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Note that elements are about to be written. whole: all of the allocation, as [partitions, elements]."""
        self._touched()
        if self.state == ALL:
            return
        self.fill()
        self.flags(whole)[rows, columns] = True
        if self.address is not None:
            self._fresh(whole)[rows, columns] = True
        self.state = SOME
        assert self.bitmap is not None
        self.written = int(np.count_nonzero(self.bitmap)) * self.granule
        if self.bitmap.all():
            self.whole()

    def check_at(self, whole: AnyTile, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """`check` of elements by their places; see `mark_at`."""
        if self.state != ALL:
            flags = self.flags(whole)[rows, columns]
            if not flags.all():
                report_uninitialised(self, 1.0 - float(flags.mean()))

    def check(self, tile: AnyTile, returned: bool = False) -> None:
        """Report a read of bytes that nothing wrote, or that a kernel returns them."""
        record = self.record
        record.last = self.core.clock
        if self.state == ALL:
            return
        if self.state == SOME:
            flags = self.flags(tile)
            if flags.all():
                return
            share = 1.0 - float(flags.mean())
        else:
            share = 1.0
        if self.address is not None:
            fresh = self._fresh(tile)
            if fresh.all():
                return
            share = 1.0 - float(fresh.mean())
        self.fill()
        report_uninitialised(self, share, returned)


def report_uninitialised(storage: Storage, share: float, returned: bool = False) -> None:
    """A read of bytes that nothing wrote, or an output with such bytes: an error in strict runs, otherwise a
    warning, once per line."""
    at = f"{storage.site[0]}:{storage.site[1]}" if returned and storage.site[0] else machine.where()
    text = f"reads uninitialised bytes of {storage.describe()} ({share:.0%} of the elements read were never written)"
    fix = "write the tile first, or slice to the part that was written"
    if returned:
        text, fix = (
            f"the kernel returns {storage.describe()}, and {share:.0%} of its elements were never written",
            "store to it before the return",
        )
    if storage.core.strict:
        raise machine.NkiValidationError(text, where=at, fix=fix)
    storage.core.warn("uninitialised", text, machine.UninitialisedRead, at)


class RepeatedStorage(Storage):
    """An allocation of a run without values that a repeated loop would have made: as another one but for its number.
    like: that one, which nothing changes, as far as it was not asked for yet; None: all is set. A kernel names few of
    those that a loop makes."""

    __slots__ = ("like",)

    def __init__(self, like: Storage, number: int) -> None:
        self.like: Storage | None = like
        self.number = number

    def common(self) -> Storage:
        """As `Storage.common`."""
        return super().common() if self.like is None else self.like

    def __getattr__(self, name: str) -> Any:
        like = self.like
        if like is None or name not in _SLOTS:
            raise AttributeError(name)
        before = {n: object.__getattribute__(self, n) for n in ("state", "noted_by", "is_made") if _is_set(self, n)}
        self.like = None
        like._copy_to(self)
        for n, value in before.items():
            setattr(self, n, value)
        return getattr(self, name)


_SLOTS = frozenset(Storage.__slots__)
_COPIED = tuple(n for n in Storage.__slots__ if n not in ("number", "_record"))
_copied = operator.attrgetter(*_COPIED)


def _is_set(storage: Storage, name: str) -> bool:
    """Whether an attribute was set since a storage was made like another one."""
    try:
        object.__getattribute__(storage, name)
    except AttributeError:
        return False
    return True
