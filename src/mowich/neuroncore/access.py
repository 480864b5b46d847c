"""How instructions reach the elements of an allocation: an affine box of them, or elements chosen one by one, and which
of these a mask leaves in. Both interfaces read, write and check bounds here.

An `Access` has a format, and shape, strides and offset in elements, where the elements of a row follow each other and
rows follow rows, so that the pattern of `.ap()` on a [128, 512] tile is [[512, 128], [1, 512]] wherever the tile lies.
An offset may be read at run time, and each element may have an address of its own (`Scattered`). Kernels hold tiles
(`views.Tile`), which add what a kernel may do with one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, SupportsInt, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mowich.arrays import Array
from mowich.neuroncore import integers, overflow
from mowich.neuroncore.boxes import ElementPlaces, box_ends, box_places, line_along
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import F32, DType, cast, rounded_stochastically, to_f32
from mowich.neuroncore.memory import ALL, MemoryRegion, Storage
from mowich.neuroncore.registers import DeviceNumber
from mowich.neuroncore.trace import ViewAccess

Place: TypeAlias = "SupportsInt | Access | DeviceNumber"
"""Where an access begins: a number, a register, or a tile of numbers; the last two are read when it runs."""
A = TypeVar("A", bound="Access")


class Dynamic:
    """An offset that is read when the instruction runs. scale_B: bytes per unit of the index; bound: rows that the
    index may name."""

    __slots__ = ("bound", "group", "index", "kind", "scale_B")

    def __init__(self, kind: str, index: Place | None, scale_B: int, bound: int, group: int = 0) -> None:
        self.kind, self.index, self.scale_B, self.bound, self.group = kind, index, scale_B, bound, group


class Scattered(Dynamic):
    """Elements that no box describes. where: the place of each in the allocation; of: the view that they were chosen
    from; index: the tile of numbers that chose them when the instruction ran, None: they were known before."""

    __slots__ = ("of", "where")

    def __init__(self, of: Access, where: ElementPlaces, index: Access | None) -> None:
        super().__init__("scattered", index, of.dtype.itemsize, 0)
        self.of, self.where = of, where


class Access:
    """Elements of an allocation; see the module. shape; strides and offset in elements of `dtype` from the start of
    the allocation; access: what `issue` found out about it, for the core that made the allocation; like: the access to
    another allocation of which this one has all but the storage, None: it was made by itself.

    Values are reached by the functions below only (`storage_of`, `tile_elements`, `read_tile` ...): no attribute leads
    to the allocation or its elements.
    """

    __slots__ = (
        "_array",
        "access",
        "dtype",
        "dynamic",
        "is_truth",
        "like",
        "offset",
        "shape",
        "size",
        "storage",
        "strides",
    )
    access: ViewAccess | None
    dtype: DType
    dynamic: Dynamic | None
    is_truth: bool
    like: Access | None
    offset: int
    shape: tuple[int, ...]
    size: int
    strides: tuple[int, ...]

    # description
    # -------------------------------------------------------------------------------------------------------
    @property
    def buffer(self) -> MemoryRegion:
        """Memory that the tile lies in."""
        return storage_of(self).region

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """Name given at allocation."""
        return storage_of(self).name

    @property
    def address(self) -> tuple[int, int] | None:
        """(partition, byte) where the allocation was placed by hand."""
        return storage_of(self).address

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.dtype.itemsize

    @property
    def space(self) -> str:
        """ "S", "P" or "H"."""
        return storage_of(self).space

    @property
    def on_chip(self) -> bool:
        """True in SBUF and PSUM."""
        return storage_of(self).space != "H"

    @property
    def row_elements(self) -> int:
        """Elements of this dtype in one partition of the allocation."""
        return storage_of(self).row_B // self.dtype.itemsize

    @property
    def start_partition(self) -> int:
        """First partition that the tile touches."""
        s = storage_of(self)
        first = self.offset * self.dtype.itemsize // s.row_B if s.row_B else 0
        return first + (s.address[0] if s.address else 0)

    def describe(self) -> str:
        """The view and its allocation, in words."""
        if isinstance(self.dynamic, Scattered):
            return self.dynamic.of.describe()
        s = storage_of(self)
        if self.shape == s.shape and self.dtype is s.dtype:
            return s.describe()
        return f"view {list(self.shape)} {self.dtype} of {s.describe()}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    # bytes
    # -------------------------------------------------------------------------------------------------------------
    def byte_strides(self) -> tuple[int, ...]:
        """Strides in bytes of the memory that the tile lies in."""
        s, size = storage_of(self), self.dtype.itemsize
        if s.pitch_B == s.row_B:
            return tuple(x * size for x in self.strides)
        row = s.row_B // size
        return tuple((x // row) * s.pitch_B + (x % row) * size for x in self.strides)

    def byte_offset(self) -> int:
        """First byte in the memory that the tile lies in."""
        s, size = storage_of(self), self.dtype.itemsize
        if s.pitch_B == s.row_B:
            return s.base_B + self.offset * size
        row = s.row_B // size
        return s.base_B + (self.offset // row) * s.pitch_B + (self.offset % row) * size

    def _last(self) -> int:
        """The element at which the pattern ends."""
        return self.offset + sum([(n - 1) * x for n, x in zip(self.shape, self.strides, strict=True)])

    def fits(self) -> bool:
        """Whether the pattern stays within the allocation."""
        s, size = storage_of(self), self.dtype.itemsize
        if s.address is not None:
            last = self._last()
            return self.offset >= 0 and last >= 0 and (last + 1) * size <= s.parts * s.row_B
        low, high = box_ends(self.shape, self.strides, self.offset)
        return low >= 0 and (high + 1) * size <= s.parts * s.row_B

    def outside(self) -> Exception:
        """The error for a pattern that leaves the allocation."""
        s = storage_of(self)
        return fail(
            "out-of-bounds access",
            tile=self,
            given=f"element {max(self._last(), self.offset)}",
            allowed=f"0 .. {s.parts * s.row_B // self.dtype.itemsize - 1}",
            fix="check offset, strides and counts of the pattern",
        )


AccessFields: Any = type("AccessFields", (), {"__slots__": Access.__slots__})
"""An access while it is made: the same slots, which can be set. It becomes one (`Access`) when they are."""
storage_of: Callable[[Access], Storage] = vars(Access)["storage"].__get__
"""The allocation of a tile."""
_array_of: Callable[[Access], Array | None] = vars(Access)["_array"].__get__
_keep_array: Callable[[Access, Array | None], None] = vars(Access)["_array"].__set__
keep_access: Callable[[Access, ViewAccess | None], None] = vars(Access)["access"].__set__
"""Note what `issue` found out about a tile."""
mark_truth: Callable[[Access, bool], None] = vars(Access)["is_truth"].__set__
"""Note whether a tile is the result of a comparison in the convenience layer."""
set_dynamic: Callable[[Access, Dynamic], None] = vars(Access)["dynamic"].__set__
"""Give a new view an offset that is read when the instruction runs."""
del Access.storage, Access._array  # type: ignore[attr-defined]


def made_as(
    kind: type[A],
    storage: Storage,
    dtype: DType,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
    dynamic: Dynamic | None = None,
    size: int = -1,
) -> A:
    """An access of this class; see `Access`. size: its elements, where the caller knows them."""
    made = AccessFields()
    made.storage = storage
    made.dtype = dtype
    made.shape = shape
    made.strides = strides
    made.offset = offset
    made.dynamic = dynamic
    made.is_truth = False
    made.size = math.prod(shape) if size < 0 else size
    made._array = made.access = made.like = None
    made.__class__ = kind
    return made  # type: ignore[no-any-return]


def view_like(tile: A, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> A:
    """Another box of the same allocation, in the same format, without an offset that is read at run time."""
    return made_as(type(tile), storage_of(tile), tile.dtype, shape, strides, offset)


def scattered(tile: A, where: ElementPlaces, index: Access | None = None) -> A:
    """Elements of the allocation of a tile by their places; see `Scattered`."""
    chosen = Scattered(of_view(tile), where, index)
    return made_as(type(tile), storage_of(tile), tile.dtype, where.shape, (0,) * where.ndim, 0, chosen)


def of_view(tile: Access) -> Access:
    """The view that elements were chosen from; a box is its own."""
    return tile.dynamic.of if isinstance(tile.dynamic, Scattered) else tile


def whole_view(tile: A) -> A:
    """All of the allocation of a tile, as [partitions, elements of its format]."""
    row = tile.row_elements
    return view_like(tile, (storage_of(tile).parts, row), (row, 1), 0)


def same(a: Access, b: Access) -> bool:
    """The same elements of the same allocation."""
    return (
        storage_of(a) is storage_of(b)
        and a.offset == b.offset
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype is b.dtype
        and a.dynamic is b.dynamic
    )


# elements
# ----------------------------------------------------------------------------------------------------------------


def forget_elements(tile: Access) -> None:
    """The bytes of a tile were moved elsewhere."""
    _keep_array(tile, None)


def tile_elements(tile: Access) -> Array:
    """The elements as a NumPy view of the memory. Raises where the pattern leaves the allocation."""
    found = _array_of(tile)
    if found is None:
        found = _elements(tile, storage_of(tile))
        _keep_array(tile, found)
    return found


def _elements(tile: Access, s: Storage) -> Array:
    d = tile.dtype
    if tile.dynamic is not None:
        raise fail("this view has an offset that only DMA and indirect instructions can follow", tile=tile)
    if s.address is None:
        size = d.itemsize
        strides = tuple([x * size for x in tile.strides])
        try:  # NumPy compares the pattern with the bytes of the allocation
            return np.ndarray(
                tile.shape, d.dtype, s._bytes if s._bytes is not None else s.bytes, tile.offset * size, strides
            )
        except ValueError:
            raise tile.outside() from None
    if not tile.fits():
        raise tile.outside()
    return np.ndarray(tile.shape, d.dtype, s.bytes, tile.byte_offset(), tile.byte_strides())


def flat_elements(tile: Access) -> Array:
    """All elements of the allocation in one row, as the tile's dtype (allocations with bytes of their own only)."""
    s = storage_of(tile)
    if s.pitch_B != s.row_B:
        raise fail("run-time offsets are not supported on tiles with a manual address yet", tile=tile)
    usable = len(s.bytes) // tile.dtype.itemsize * tile.dtype.itemsize
    return s.bytes[:usable].view(tile.dtype.dtype)


def _rows_named(tile: Access, where: ElementPlaces) -> tuple[Access, ElementPlaces, ElementPlaces]:
    """(The whole allocation of a tile, row and column there of elements by their places)."""
    whole = whole_view(tile)
    return whole, where // whole.shape[1], where % whole.shape[1]


def elements_at(tile: Access, where: ElementPlaces) -> Array:
    """A copy of the elements at these places of the allocation of a tile."""
    whole, rows, columns = _rows_named(tile, where)
    return np.asarray(tile_elements(whole)[rows, columns])


def put_elements(tile: Access, where: ElementPlaces, values: ArrayLike) -> None:
    """Write elements, as they are stored, to these places of the allocation of a tile."""
    whole, rows, columns = _rows_named(tile, where)
    tile_elements(whole)[rows, columns] = values


def element_places(tile: Access) -> ElementPlaces:
    """Place of each element of a view in the allocation."""
    if isinstance(tile.dynamic, Scattered):
        return tile.dynamic.where
    return box_places(tile.shape, tile.strides, tile.offset)


def known_to_host(tile: Access) -> None:
    """Raise where a kernel reads data of the device for its control flow in a run without values."""
    s = storage_of(tile)
    s.core.compute_waiting()
    if not s.core.values and s.owner is None:
        raise fail(
            "control flow that reads data of the device cannot be timed without values",
            tile=tile,
            fix="run with values=True (--values)",
        )


def read_tile(tile: Access) -> Array:
    """Elements as stored, for an instruction: checks that they were written."""
    if tile.dynamic is not None:
        return _gather(tile)
    s = storage_of(tile)
    if s.state != ALL:
        s.check(tile)
    found = _array_of(tile)
    return tile_elements(tile) if found is None else found


def read_unchecked(tile: Access) -> Array:
    """Elements as stored, of which a mask leaves out those that were never written: these hold what betrays them."""
    s = storage_of(tile)
    s.fill()
    s.record.last = s.core.clock
    return elements_at(tile, tile.dynamic.where) if isinstance(tile.dynamic, Scattered) else tile_elements(tile)


def tile_f32(tile: Access) -> NDArray[np.float32]:
    """Elements as float32, for an instruction."""
    a = read_tile(tile)
    if a.dtype == F32:
        return a
    f = to_f32(a, tile.dtype)
    core = storage_of(tile).core
    if core.looks and integers.is_wide(tile.dtype):
        integers.note_rounding(core, "an operand", a.astype(np.int64), f, tile)
    return f


def write_tile(tile: Access, values: ArrayLike) -> None:
    """Computed values (any shape of the same size, or one that broadcasts) -> elements, rounded as the engine does."""
    if tile.dynamic is not None:
        _scatter(tile, values)
        return
    s = storage_of(tile)
    target = _array_of(tile)
    if target is None:
        target = tile_elements(tile)
    if s.state != ALL:
        s.mark(tile)
    if type(values) is np.ndarray:
        if values.shape != tile.shape and values.size == tile.size:
            values = values.reshape(tile.shape)
        d, random = tile.dtype, s.core.rounding
        if random is not None and d.is_float and d.itemsize < 4 and values.dtype == F32:
            values = rounded_stochastically(values, d, random)
        if values.dtype is not d.dtype and not (d.is_float and d.itemsize > 1 and values.dtype.kind == "f"):
            made = cast(values, d)
            if s.core.observed is not None:
                overflow.look(s.core, values, made, d)
            values = made
    target[...] = values


def write_where(tile: Access, values: ArrayLike, keep: ArrayLike) -> None:
    """Computed values (any shape of the same size, or one that broadcasts) -> the elements of a view that a mask leaves
    in."""
    a = np.asarray(values)
    if a.dtype != tile.dtype.dtype:
        a = cast(a.astype(np.float32) if a.dtype == np.float64 else a, tile.dtype)
    if a.size == tile.size:
        a = a.reshape(tile.shape)
    left = np.broadcast_to(keep, tile.shape)
    whole, rows, columns = _rows_named(tile, element_places(tile)[left])
    storage_of(tile).mark_at(whole, rows, columns)
    tile_elements(whole)[rows, columns] = np.broadcast_to(a, tile.shape)[left]


# run-time offsets
# ----------------------------------------------------------------------------------------------------------


def static_view(tile: A) -> A | None:
    """A view with its scalar run-time offset read; None where the index is out of bounds."""
    dyn = tile.dynamic
    if dyn is None or dyn.kind != "scalar":
        return tile
    assert dyn.index is not None
    i = scalar_value(dyn.index)
    s = storage_of(tile)
    offset = tile.offset + i * dyn.scale_B // tile.dtype.itemsize
    reach = tile._last() - tile.offset + offset
    if i < 0 or offset < 0 or (reach + 1) * tile.dtype.itemsize > s.parts * s.row_B:
        return None
    return view_like(tile, tile.shape, tile.strides, offset)


def host_value(index: Place) -> int:
    """`scalar_value` for Python: where a view begins, or a loop that is unrolled ends. Raises for what has no value
    there."""
    return index.on_host() if isinstance(index, DeviceNumber) else scalar_value(index)


def scalar_value(index: Place) -> int:
    """A register, a scalar, an integer or a one-element tile -> int, for an instruction."""
    if type(index) is int:
        return index
    if isinstance(index, DeviceNumber):
        return index.read()
    if isinstance(index, Access):
        if index.size != 1:
            raise fail("a scalar offset has one element", tile=index)
        known_to_host(index)
        s = storage_of(index)
        s.record.last = s.core.clock
        return int(read_tile(index).reshape(-1)[0])
    is_part = isinstance(index, float | np.floating) and not float(index).is_integer()
    if is_part or isinstance(index, str) or not hasattr(index, "__int__"):
        raise fail("a bound, a step or an index is a whole number", given=index)
    return int(index)


def addresses(tile: Access) -> tuple[ElementPlaces, NDArray[np.bool_]]:
    """Element addresses in the allocation of a view with a run-time offset, and which rows are in bounds ([rows] along
    dimension 0)."""
    dyn = tile.dynamic
    assert dyn is not None
    size = tile.dtype.itemsize
    total = storage_of(tile).parts * storage_of(tile).row_B // size
    if dyn.kind == "columns":
        return _columns(tile, dyn)
    rest = box_places(tile.shape[1:], tile.strides[1:])
    rows = tile.shape[0]
    raw = read_tile(_numbers(dyn))
    index = raw.reshape(-1) if raw.shape[1:] in ((), (1,)) else raw.reshape(raw.shape[0], -1).T.reshape(-1)
    index = index.astype(np.int64)
    if index.size < rows:
        raise fail(f"{index.size} offsets for {rows} rows", tile=tile)
    index = index[:rows]
    step = dyn.scale_B // size if dyn.scale_B % size == 0 else dyn.scale_B / size
    start = (tile.offset + index * step).astype(np.int64)
    reach = int(rest.max()) if rest.size else 0
    good = (index >= 0) & (start >= 0) & (start + reach < total)
    if raw.dtype.kind == "u":
        good &= index < total
    return line_along(0, tile.ndim, start) + rest[None], good


def _numbers(dyn: Dynamic) -> Access:
    """The tile of a run-time offset that has many numbers."""
    assert isinstance(dyn.index, Access)
    return dyn.index


def _columns(tile: Access, dyn: Dynamic) -> tuple[ElementPlaces, NDArray[np.bool_]]:
    parts, count = tile.shape
    index = read_tile(_numbers(dyn)).reshape(parts, -1).astype(np.int64)
    group = dyn.group
    columns = np.empty((parts, count), np.int64)
    for first in range(0, parts, group):
        rows = index[first : first + group]
        snake = rows.T.reshape(-1)[:count]
        columns[first : first + group] = snake[None]
    if (columns < 0).any() or (columns >= dyn.bound).any():
        raise fail("out-of-bounds access through indirect()", tile=tile, allowed=f"offsets 0 .. {dyn.bound - 1}")
    row = np.arange(parts, dtype=np.int64)[:, None] * tile.strides[0]
    return tile.offset + row + columns, np.ones(parts, np.bool_)


def _gather(tile: Access) -> Array:
    dyn = tile.dynamic
    assert dyn is not None
    if isinstance(dyn, Scattered):
        found = read_unchecked(tile)
        storage_of(tile).check_at(*_rows_named(tile, dyn.where))
        return found
    if dyn.kind == "overrun":
        return _past_the_end(tile, dyn)
    static = _settled(tile)
    return tile_elements(static) if static is not None else elements_at(tile, _addresses_inside(tile))


def _settled(tile: A) -> A | None:
    """The view that a scalar offset comes to; None where the offset is another one. Raises where it leaves the
    tensor."""
    if tile.dynamic is None or tile.dynamic.kind != "scalar":
        return None
    found = static_view(tile)
    if found is None:
        raise out_of_bounds(tile)
    return found


def _addresses_inside(tile: Access) -> ElementPlaces:
    """`addresses`, all of which have to be in bounds."""
    where, good = addresses(tile)
    if not good.all():
        raise out_of_bounds(tile)
    return where


_OVERRUN = "access pattern runs past the end of the partition"


def _overruns(tile: Access, dyn: Dynamic) -> Exception:
    return fail(
        _OVERRUN,
        tile=tile,
        given=f"element {dyn.index} of a row",
        allowed=f"0 .. {dyn.bound - 1}",
        fix="only the first [stride, count] pair may step across partitions",
    )


def _past_the_end(tile: Access, dyn: Dynamic) -> Array:
    """Elements of a pattern that leaves its partitions: an error in strict runs, else NaN there, where the chip reads
    other data."""
    row, core, d = dyn.bound, storage_of(tile).core, tile.dtype
    if core.strict or tile.strides[0] % row or not d.is_float:
        raise _overruns(tile, dyn)
    core.warn("overrun", f"{_OVERRUN}: {tile.describe()}, element {dyn.index} of {row}; the chip reads what lies there")
    first, column = divmod(tile.offset, row)
    free = box_places(tile.shape[1:], tile.strides[1:], column).reshape(-1)
    rows = tile_elements(whole_view(tile))[first :: tile.strides[0] // row][: tile.shape[0]]
    out = rows[:, np.minimum(free, row - 1)]
    out.view(f"u{d.itemsize}")[:, free >= row] = (1 << 8 * d.itemsize) - 1
    return out.reshape(tile.shape)


def _scatter(tile: Access, values: ArrayLike) -> None:
    dyn = tile.dynamic
    assert dyn is not None
    if isinstance(dyn, Scattered):
        write_where(tile, values, True)
        return
    if dyn.kind == "overrun":
        raise _overruns(tile, dyn)
    static = _settled(tile)
    if static is not None:
        write_tile(static, values)
        return
    where = _addresses_inside(tile)
    s = storage_of(tile)
    if s.state != ALL:
        s.fill()
        s.whole()
    made = cast(np.asarray(values), tile.dtype)
    if s.core.observed is not None:
        overflow.look(s.core, np.asarray(values), made, tile.dtype)
    if made.shape != where.shape and made.size == where.size:
        made = made.reshape(where.shape)
    put_elements(tile, where, made)


def out_of_bounds(tile: Access) -> Exception:
    """The error for a run-time index that leaves the tensor."""
    dyn = tile.dynamic
    index = dyn.index if dyn is not None else None
    shown = read_tile(index).reshape(-1)[:8].tolist() if isinstance(index, Access) else index
    return fail(
        "out-of-bounds access by a run-time offset",
        tile=tile,
        given=shown,
        allowed=f"0 .. {dyn.bound - 1 if dyn else 0}",
        fix="or oob_mode=oob_mode.skip to leave such rows out",
    )
