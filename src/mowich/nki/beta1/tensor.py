"""Tensors of the older front end: block dimensions before partitions, index arrays, masks, and arithmetic by operators.

A `Tensor` is a `Tile` of the machine, whose elements are named one by one where the indices are not an affine pattern
(indirect access), and which of them a mask left in. Instructions see tiles: `operand` gives them one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, SupportsInt, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike

from mowich.arrays import Array as Array
from mowich.neuroncore import boxes, ops, placement
from mowich.neuroncore import core as machine
from mowich.neuroncore import memory as mem
from mowich.neuroncore.access import (
    element_places,
    forget_elements,
    of_view,
    read_tile,
    read_unchecked,
    same,
    scattered,
    storage_of,
    view_like,
    write_tile,
    write_where,
)
from mowich.neuroncore.boxes import aligned, box_of
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType, as_dtype, to_f32
from mowich.neuroncore.instructions import dma, tensor, vector
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import Tile, view_of
from mowich.nki import language as now
from mowich.nki.beta1.index import (
    Affine,
    Symbol,
    are_plain,
    chosen_elements,
    completed_keys,
    index_view,
    irregular,
    is_condition,
    left_by,
    note_view,
    partial,
    plain_view,
)
from mowich.nki.beta1.operands import index_of, partitions_first, touched
from mowich.nki.frameworks import each_value
from mowich.nki.language import par_dim

_Operand: TypeAlias = "Tensor | Symbol | Array | float"
"""What stands beside a tensor in arithmetic."""
Sizes: TypeAlias = SupportsInt | tuple[SupportsInt, ...] | list[SupportsInt]
"""A size, or the sizes of several dimensions."""
_Mask: TypeAlias = "Array | np.bool_ | bool | None"
"""Which elements are read: None or True for all."""


def _operator(name: str, *, is_reversed: bool = False) -> Callable[[Tensor, _Operand], Tensor]:
    """A method that gives an operator of a tensor and of what stands beside it."""

    def call(self: Tensor, other: _Operand) -> Tensor:
        return call_operator(name, other, self) if is_reversed else call_operator(name, self, other)

    return call


class Tensor:
    """See the module. tile: its elements; valid: those that a mask left in, None: all; outside: the indices that leave
    the tensor, in words, "" where none does: then `valid` marks the others."""

    __slots__ = ("outside", "tile", "valid")

    operators: ClassVar[Mapping[str, Callable[..., object]]]
    """What stands for `a + b`, by name. Operators stand above tensors: `beta1.operators` puts them here."""

    def __init__(self, tile: Tile, valid: Array | None = None, outside: str = "") -> None:
        self.tile, self.valid, self.outside = tile, valid, outside

    # description
    # -------------------------------------------------------------------------------------------------------
    @property
    def is_box(self) -> bool:
        """Whether its elements are an affine box; each has a place of its own otherwise (`Scattered`)."""
        return self.tile.dynamic is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Elements in each dimension."""
        return self.tile.shape

    @property
    def dtype(self) -> DType:
        """Format of the elements."""
        return self.tile.dtype

    @property
    def buffer(self) -> MemoryRegion:
        """Memory that the tensor lies in."""
        return self.tile.buffer

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.tile.size

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{'' if self.is_box else 'elements of '}{self.tile.describe()}>"

    def __array__(self, *_: object, **__: object) -> NoReturn:
        self.tile.__array__()

    # elements
    # ----------------------------------------------------------------------------------------------------------
    def check(self, keep: Array | None) -> None:
        """Raise where an index leaves the tensor at an element that `keep` leaves in (None: all). Indices that are read
        at run time are known only where values are computed."""
        if not self.outside or self.valid is None:
            return
        if index_of(self.tile) is not None and not storage_of(self.tile).core.values:
            return
        if keep is None or (keep & ~self.valid).any():
            raise fail(
                "out-of-bounds access",
                tile=self.tile,
                given=self.outside,
                fix="bound the indices, or leave those elements out with mask=",
            )

    def check_under(self, mask: object, is_aligned: bool = True) -> None:
        """`check` of what an instruction under a mask reads; is_aligned: its dimensions are those of this tensor."""
        if self.outside:
            self.check(None if mask is None else left_by(mask, self.shape, is_aligned))

    # views
    # -------------------------------------------------------------------------------------------------------------
    def __getitem__(self, key: object) -> Tensor:
        t = self.tile
        is_box = t.dynamic is None
        if type(key) is tuple and is_box and len(key) == len(t.shape) and Affine in map(type, key):
            found = index_view(key, t.shape, t.strides, t.offset)
            if found is not None:
                note_view(storage_of(t).core, key, t.shape)
                return Tensor(view_of(storage_of(t), t.dtype, *found))
        if is_condition(key):
            keep = np.broadcast_to(np.asarray(key), t.shape)
            self.check(keep)
            irregular()
            if is_box:
                return ChosenElements(t, keep if self.valid is None else keep & self.valid)
            return ChosenElements(scattered(t, element_places(t)), keep)
        given = key if isinstance(key, tuple) else (key,)
        if len(t.shape) == 1 and len(given) == 2 and is_box and t.on_chip and None not in given:
            return self._column()[given]
        keys = completed_keys(given, len(t.shape), t)
        if is_box and not are_plain(keys):
            return self._arrays(keys)
        if not is_box:
            return self._each(lambda elements: chosen_elements(elements, keys))
        note_view(storage_of(t).core, [k for k in keys if k is not None], t.shape)
        valid = None if self.valid is None else chosen_elements(self.valid, keys)
        return Tensor(view_like(t, *plain_view(t, keys)), valid)

    def _each(self, choose: Callable[[Array], Array]) -> Tensor:
        """Some of the elements, each of which has a place of its own; choose: them of an array of all."""
        made = scattered(self.tile, choose(element_places(self.tile)), index_of(self.tile))
        return Tensor(made, None if self.valid is None else choose(self.valid), self.outside)

    def beside(self, other: Tensor) -> Tensor:
        """One element of each partition as [n, 1, ...], with as many dimensions as the tensor that it is combined
        with."""
        t = self if self.ndim > 1 or not self.is_box or not self.tile.on_chip else self._column()
        missing = other.ndim - t.ndim
        if missing < 1 or any(n != 1 for n in t.shape[1:]):
            return t
        return t[(slice(None),) * t.ndim + (None,) * missing]

    def _column(self) -> Tensor:
        """A line of partitions [n] as [n, 1]: a tile keeps a free dimension when an integer has chosen its only
        element."""
        t = self.tile
        valid = None if self.valid is None else self.valid.reshape(-1, 1)
        return Tensor(view_like(t, (t.shape[0], 1), (t.strides[0], 1), t.offset), valid)

    def _arrays(self, keys: Sequence[object]) -> Tensor:
        """NumPy's indexing by arrays that broadcast together; slices keep their place."""
        t = self.tile
        found = index_view(keys, t.shape, t.strides, t.offset)
        if found is not None:
            note_view(storage_of(t).core, keys, t.shape)
            return Tensor(view_like(t, *found))
        irregular()
        numbers = [
            k if isinstance(k, slice) else np.asarray(read_tensor(k) if isinstance(k, Tensor) else k) for k in keys
        ]
        rank = max(a.ndim for a in numbers if not isinstance(a, slice))
        for d, (k, a) in enumerate(zip(keys, numbers, strict=True)):
            if isinstance(k, Tensor) and not isinstance(a, slice):  # a tile of indices has the partitions first
                numbers[d] = a.reshape(a.shape + (1,) * (rank - a.ndim))
        inside = np.asarray(True)
        where = np.asarray(t.offset, np.int64)
        outside = ""
        for d, (g, n, s) in enumerate(zip(aligned(numbers, t.shape), t.shape, t.strides, strict=True)):
            within = (g >= 0) & (g < n)
            if not within.all() and not outside:
                outside = f"indices {g.min()} .. {g.max()} along dimension {d}, which has 0 .. {n - 1}"
            inside = inside & within
            where = np.asarray(where + np.clip(g, 0, n - 1) * s)
        index = next((operand(k) for k in keys if isinstance(k, Tensor)), None)
        if outside:
            return Tensor(scattered(t, where, index), np.broadcast_to(inside, where.shape), outside)
        found = None if index is not None else box_of(where)
        return Tensor(scattered(t, where, index) if found is None else view_like(t, *found))

    def __setitem__(self, key: object, value: object) -> None:
        if type(key) is not tuple and is_condition(key):
            assign(self, value, key)
        else:
            assign(self[key], value)

    def reshape(self, *dims: Sizes, shape: Sequence[SupportsInt] | None = None) -> Tensor:
        """The same elements in another shape: a view where the layout allows, else a copy in HBM only."""
        given: Sequence[Sizes] = dims if shape is None else shape
        wanted: tuple[int, ...] = ()
        for sizes in given:
            wanted += tuple(int(n) for n in sizes) if isinstance(sizes, tuple | list) else (int(sizes),)
        if -1 in wanted:
            wanted = tuple(self.size // -math.prod(wanted) if n == -1 else n for n in wanted)
        t = self.tile
        strides = boxes.reshaped(t.shape, t.strides, wanted) if self.is_box else wanted
        if strides is None or math.prod(wanted) != t.size:
            raise fail("this reshape is not a view", tile=t, given=list(wanted))
        if not self.is_box:
            return self._each(lambda elements: elements.reshape(wanted))
        return Tensor(view_like(t, wanted, strides, t.offset))

    def view(self, dtype: object) -> Tensor:
        """The same bytes in another format."""
        d = as_dtype(dtype)
        t = self.tile
        if d.itemsize != self.dtype.itemsize:
            return Tensor(t.view(d))
        made = view_of(storage_of(t), d, t.shape, t.strides, t.offset, t.dynamic)
        return Tensor(made) if self.is_box else Tensor(made, self.valid, self.outside)

    def broadcast_to(self, shape: Sequence[SupportsInt], **_: object) -> Tensor:
        """Dimensions of size 1 repeated; leading ones added. A row on chip is copied to the partitions: no engine reads
        another partition."""
        wanted = tuple(int(n) for n in shape)
        if not self.is_box:
            return self._each(lambda elements: np.broadcast_to(elements, wanted))
        t = self.tile
        if self.valid is None and t.on_chip and t.ndim == len(wanted) and t.shape[0] == 1 < wanted[0]:
            return wrap_tiles(now.broadcast_to(operand(self), wanted))
        lead = len(wanted) - t.ndim
        have = zip((1,) * lead + t.shape, wanted, (0,) * lead + t.strides, strict=True)
        return Tensor(view_like(t, wanted, tuple(0 if n != w else s for n, w, s in have), t.offset))

    def as_tile(self) -> Tensor:
        """The tensor itself: as an index of another it stands for its elements."""
        return self

    def astype(self, dtype: object) -> Tensor:
        """A copy in another format."""
        return call_operator("copy", self, dtype=dtype)

    # operators
    # -----------------------------------------------------------------------------------------------------------
    __add__, __radd__ = _operator("add"), _operator("add", is_reversed=True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", is_reversed=True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", is_reversed=True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", is_reversed=True)
    __pow__ = _operator("power")
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")
    __and__, __or__ = _operator("bitwise_and"), _operator("bitwise_or")

    def __neg__(self) -> Tensor:
        return self * -1.0

    def __iadd__(self, other: _Operand) -> Tensor:
        if isinstance(other, PendingProduct) and other.fits(self):
            other.into(operand(self), None)
            return self
        assign(self, self + other)
        return self

    def __isub__(self, other: _Operand) -> Tensor:
        assign(self, self - other)
        return self

    def __imul__(self, other: _Operand) -> Tensor:
        assign(self, self * other)
        return self


# what the simulator alone has
# ----------------------------------------------------------------------------------------------------------------


def read_tensor(t: Tensor, mask: _Mask = None) -> Array:
    """Elements as stored. With a mask nothing is checked; without, all must be in bounds and written."""
    if mask is not None or (t.valid is not None and t.is_box):
        return read_unchecked(t.tile)
    t.check(None)
    return read_tile(t.tile)


def tensor_f32(t: Tensor, mask: _Mask = None) -> Array:
    """Elements as float32."""
    return to_f32(read_tensor(t, mask), t.dtype)


def write_tensor(t: Tensor, values: ArrayLike, mask: object = None) -> None:
    """Elements = values, where the mask says so."""
    if mask is None and t.is_box:
        write_tile(t.tile, np.asarray(values))
        return
    keep = np.broadcast_to(True if mask is None else np.asarray(mask), t.shape)
    t.check(keep)
    write_where(t.tile, values, keep)


def call_operator(name: str, *args: object, dtype: object = None) -> Tensor:
    """An operator of tensors."""
    out = Tensor.operators[name](*args, dtype=dtype)
    assert isinstance(out, Tensor)
    return out


class ChosenElements(Tensor):
    """`tensor[condition]`: the elements where a predicate of indices holds. As an operand the others count as 0, also
    those out of bounds."""

    __slots__ = ()

    def plain(self) -> Tensor:
        """The tensor itself where the condition holds everywhere, else a copy with zeros."""
        if self.valid is None or self.valid.all():
            return Tensor(self.tile)
        copy = new(self.shape, self.dtype)
        moved(copy, self, self.valid)
        write_tensor(copy, np.where(self.valid, read_tensor(self, True), self.dtype.dtype.type(0)))
        return copy


class _MadeLater(Tensor):
    """A tensor whose tile is made when it is first asked for."""

    __slots__ = ()

    def __init__(self) -> None:
        self.valid, self.outside = None, ""

    @property
    def is_box(self) -> bool:
        """True."""
        return True

    def later(self) -> Tile | None:
        """The tile, made now; None where there is none."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Tile:
        made = self.later() if name == "tile" else None
        if made is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)
        return made


class PendingProduct(_MadeLater):
    """A matmul whose destination is not known yet: `psum += nc_matmul(...)` accumulates in the engine."""

    __slots__ = ("_shape", "arguments", "done")

    def __init__(self, shape: tuple[int, int], arguments: dict[str, Any]) -> None:
        flush()
        super().__init__()
        self._shape, self.arguments, self.done = shape, arguments, False
        machine.active().pending.append(self)

    def later(self) -> Tile | None:
        """The product, in a tile of its own; None where it has gone to another one."""
        if self.done:
            return None
        self.run()
        return self.tile

    def fits(self, dst: Tensor) -> bool:
        """True where the Tensor Engine can add it to what is in a tensor."""
        if self.done or not dst.is_box or dst.tile.space != "P" or dst.dtype.name != "float32":
            return False
        return dst.shape[0] == self._shape[0] and dst.size == math.prod(self._shape)

    def run(self) -> None:
        """Run it into a tile of its own, unless it has run."""
        if not self.done:
            d: object = self.arguments["stationary"].dtype if self.arguments.get("is_transpose") else "float32"
            out = new(self._shape, d, MemoryRegion.psum).tile
            self.into(out, False)
            self.tile = out

    def into(self, dst: Tile, accumulate: bool | None) -> None:
        """Run it."""
        self.done = True
        machine.active().pending.clear()
        tensor.nc_matmul(dst, accumulate=accumulate, **self.arguments)
        machine.active().compute_waiting()


class TileBlocks(_MadeLater):
    """A tensor with dimensions before the partitions. Each block is a tile of its own, allocated when it is first
    named, which lives as long as it is used: how many there are at once is the compiler's choice. Where anything but
    one block is named, they lie side by side instead, in SBUF, from then on. counts: blocks in each dimension before
    the partitions; `part` names some of these dimensions."""

    __slots__ = ("_block", "_made", "_name", "_region", "_type", "counts", "fill", "part", "whole")

    def __init__(
        self, counts: tuple[int, ...], shape: tuple[int, ...], dtype: object, region: MemoryRegion, name: str
    ) -> None:
        self._made: dict[tuple[int, ...], Tensor] = {}
        self.counts, self._block, self._region, self._name = counts, shape, region, name
        self._type = as_dtype(dtype)
        self.fill: object = None
        self.part: tuple[TileBlocks, tuple[int, ...]] | None = None
        self.whole: Tensor | None = None
        super().__init__()

    @property
    def shape(self) -> tuple[int, ...]:
        """Blocks, then partitions and free dimensions."""
        return (*self.counts, *self._block)

    @property
    def size(self) -> int:
        """Number of elements of all blocks."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> DType:
        """Format of the elements."""
        return self._type

    @property
    def buffer(self) -> MemoryRegion:
        """Memory that the blocks lie in."""
        return self._region

    def later(self) -> Tile:
        """The blocks side by side."""
        return self.together().tile

    def __getitem__(self, key: object) -> Tensor:
        if self.part is not None:
            root, first = self.part
            return root[(*first, *(key if isinstance(key, tuple) else (key,)))]
        keys = key if isinstance(key, tuple) else (key,)
        n = len(self.counts)
        at: tuple[int, ...] = ()
        for k in keys[:n]:
            if type(k) is not int and not isinstance(k, int | np.integer):
                break
            at += (int(k),)
        if self.whole is None and at in self._made:  # nearly always
            block = self._made[at]
            return block[keys[n:]] if len(keys) > n else block
        if self.whole is not None or (len(at) < n and len(at) < len(keys)) or is_condition(key):
            return self.together()[key]
        if any(not -c <= i < c for i, c in zip(at, self.counts, strict=False)):
            raise fail("out-of-bounds access", given=at, allowed=f"blocks {self.counts}")
        at = tuple(i % c for i, c in zip(at, self.counts, strict=False))
        if len(at) < n:
            some = TileBlocks(self.counts[len(at) :], self._block, self._type, self._region, self._name)
            some.part = (self, at)
            return some
        block = self._at(at)
        return block[keys[n:]] if len(keys) > n else block

    def is_free(self, at: tuple[int, ...]) -> bool:
        """Whether there is such a block, and it was not made yet."""
        there = all(0 <= i < c for i, c in zip(at, self.counts, strict=True))
        return there and self.whole is None and at not in self._made

    def again(self, at: tuple[int, ...], like: tuple[int, ...], number: int) -> None:
        """Make a block as another one was, in a storage of this number."""
        t = self._made[like].tile
        self._made[at] = Tensor(view_of(storage_of(t).again(number), t.dtype, t.shape, t.strides, t.offset))

    def made(self) -> dict[tuple[int, ...], Tensor]:
        """The blocks that were made, by their numbers."""
        if self.part is None:
            return self._made
        root, first = self.part
        return {at[len(first) :]: block for at, block in root.made().items() if at[: len(first)] == first}

    def number(self, at: tuple[int, ...]) -> int:
        """Number of the storage of a block that was made."""
        return storage_of(self._made[at].tile).number

    def block(self, *keys: object) -> Tile | None:
        """The tile of a block that was made before, None where there is none; keys: numbers of the blocks first."""
        at = tuple(k for k in keys[: len(self.counts)] if type(k) is int)
        if self.part is not None or self.whole is not None or len(at) < len(self.counts):
            return None
        found = self._made.get(at)
        return None if found is None else found.tile

    def _at(self, at: tuple[int, ...]) -> Tensor:
        found = self._made.get(at)
        if found is None:
            found = self._made[at] = new(self._block, self._type, self._region, self._name)
            machine.active().blocks.append((self, at))
            if self.fill is not None:  # a matmul that waits for its destination may be meant for this block
                vector.memset(operand(found), self.fill)
        return found

    def together(self) -> Tensor:
        """The blocks side by side, with what those that were made hold."""
        if self.part is not None:
            root, first = self.part
            return root.together()[first]
        if self.whole is None:
            core = machine.active()
            dims = (self._block[0], *self.counts, *self._block[1:])
            room = core.limits.sbuf_B if mem.SPACE[self._region] == "S" else core.limits.psum_B
            if math.prod(dims[1:]) * self._type.itemsize > room:
                raise fail(
                    "blocks of a tensor that is larger than its memory are named one at a time",
                    given=f"shape {list(self.shape)}",
                    fix="index the block dimensions with integers",
                )
            t = placement.allocate(core, dims, self._type, self._region, self._name)
            n = len(self.counts)
            strides = (*t.strides[1 : n + 1], t.strides[0], *t.strides[n + 1 :])
            self.whole = Tensor(view_like(t, self.shape, strides, 0))
            if self.fill is not None:
                vector.memset(t, self.fill)
            for at, block in self._made.items():
                if storage_of(block.tile).state != mem.NONE:
                    vector.tensor_copy(operand(self.whole[at]), operand(block), is_assigned=True)
                storage_of(block.tile).bytes = np.empty(0, np.uint8)  # whoever still holds the block alone is told
                forget_elements(block.tile)
        return self.whole

    def __setitem__(self, key: object, value: object) -> None:
        assign(self[key], value)


class Reduction(Tensor):
    """`nl.loop_reduce`: assigned in each iteration, it adds to what is there; in the first one (`first`) there is
    nothing yet."""

    __slots__ = ("first", "op")
    op: str
    first: bool


def _is_written(t: Tile) -> bool:
    """True where all elements of a tile have been written."""
    s = storage_of(t)
    return s.state == mem.ALL or (s.state == mem.SOME and bool(s.flags(of_view(t)).all()))


def flush() -> None:
    """Run a matmul that still waits for its destination, before anything changes its operands."""
    core = machine.running()
    while core is not None and core.pending:
        core.pending[0].run()


def new(
    shape: Sequence[SupportsInt],
    dtype: object,
    region: MemoryRegion = MemoryRegion.sbuf,
    name: str = "",
    address: object = None,
) -> Tensor:
    """A new tensor; the dimension given as par_dim is the partitions. Blocks of a PSUM bank or less lie each in a bank
    of its own."""
    dims = tuple(shape)
    at = next((i for i, n in enumerate(dims) if isinstance(n, par_dim)), 0) if par_dim in map(type, dims[1:]) else 0
    plain = tuple([int(n) for n in dims])
    core = machine.active()
    if at == 0 or mem.SPACE[region] == "H":
        t = placement.allocate(core, plain or (1,), dtype, region, name, address)
        is_whole = len(plain) >= 2 or mem.SPACE[region] == "H"
        return Tensor(t if is_whole else view_like(t, plain, t.strides[: len(plain)], t.offset))
    order = (plain[at], *plain[:at], *plain[at + 1 :])
    if mem.SPACE[region] == "P":
        bank = core.limits.psum_bank_B // as_dtype(dtype).itemsize
        free = math.prod(plain[at + 1 :])
        if free < bank and math.prod(plain[:at]) * bank * as_dtype(dtype).itemsize <= core.limits.psum_B:
            t = placement.allocate(core, (plain[at], math.prod(plain[:at]) * bank), dtype, region, name, address)
            inner = boxes.row_major(plain[at + 1 :])
            blocks = tuple(s * bank for s in boxes.row_major(plain[:at]))
            return Tensor(view_like(t, plain, (*blocks, t.strides[0], *inner), t.offset))
    room = core.limits.sbuf_B if mem.SPACE[region] == "S" else core.limits.psum_B
    row = math.prod(order[1:]) * as_dtype(dtype).itemsize
    if row > room or (mem.SPACE[region] == "S" and math.prod(plain[:at]) > 1):
        return TileBlocks(plain[:at], plain[at:], dtype, region, name)
    t = placement.allocate(core, order, dtype, region, name, address)
    strides = (*t.strides[1 : at + 1], t.strides[0], *t.strides[at + 1 :])
    return Tensor(view_like(t, plain, strides, t.offset))


@overload
def operand(x: Tensor, mask: object = None, *, is_aligned: bool = True) -> Tile: ...
@overload
def operand(x: object, mask: object = None, *, is_aligned: bool = True) -> object: ...
def operand(x: object, mask: object = None, *, is_aligned: bool = True) -> object:
    """A tensor as an instruction takes it: a tile with partitions first. Other values as they are. mask: that of the
    instruction, which hides indices that leave the tensor; is_aligned: its dimensions are those of the operand."""
    if type(x) is Tensor and x.tile.dynamic is None:
        t = x.tile
        if len(t.shape) > 1 and t.strides[0] and t.on_chip and t.strides[0] % t.row_elements == 0:
            return t
    if not isinstance(x, Tensor):
        if isinstance(x, Symbol | np.ndarray):
            return as_tensor(x).tile
        return x
    if isinstance(x, ChosenElements):
        x = x.plain()
    found = partitions_first(x.tile) if x.is_box else None
    if found is not None:
        return found
    x.check_under(mask, is_aligned)
    copy = new(x.shape, x.dtype)
    if moved(copy, x, None, is_checked=True):
        write_tensor(copy, read_tensor(x, True if x.valid is not None or mask is not None else None))
    return operand(copy)


def part(x: Tensor, keep: Array | None, is_checked: bool = False) -> Tile | None:
    """What an access touches, as an instruction takes it; see `operands.touched`. Raises for indices that leave the
    tensor outside the mask, unless the caller looked for them."""
    if x.outside and not is_checked:
        x.check(keep)
    if keep is not None:
        irregular()
    return touched(x.tile, keep)


def moved(
    dst: Tensor,
    src: Tensor,
    keep: Array | None,
    flags: dict[str, object] | None = None,
    op: object = None,
    *,
    is_checked: bool = False,
) -> bool:
    """Record that elements go from one tensor to another where a mask leaves them in: by DMA to or from HBM, else by a
    copy. flags: of the DMA (on chip too, where given); op: operator by which it adds them to what is there; is_checked:
    the caller looked for indices that leave the tensors. True: the caller is to move them."""
    core = machine.active()
    to = part(dst, None if keep is None else keep.reshape(dst.shape), is_checked)
    of = part(src, None if keep is None else keep.reshape(src.shape), is_checked)
    if to is None or of is None:
        return core.values
    if op is not None:
        named = {**(flags or {}), "op": ops.alu(op).name}
        return issue("dma_compute", "", (("dst", to),), (("src0", to), ("src1", of)), named)
    if flags is None and to.on_chip and of.on_chip:
        return issue("tensor_copy", "", (("dst", to),), (("src", of),), {"free": True, "assigned": True})
    return issue("dma_copy", "", (("dst", to),), (("src", of),), flags)


INDEX_EXPRESSION = "index expression"
"""Name of a tile that an index expression was made into."""


def as_tensor(x: ArrayLike | Symbol) -> Tensor:
    """An index expression as numbers in SBUF."""
    a = np.asarray(x)
    out = new(a.shape, "int32" if a.dtype.kind in "iu" else "uint8" if a.dtype.kind == "b" else "float32")
    storage_of(out.tile).name = INDEX_EXPRESSION
    write_tensor(out, a)
    return out


def assign(dst: Tensor, value: object, mask: object = None) -> None:
    """dst = value: what an instruction returned goes to its place."""
    mask, is_box = partial(mask), dst.is_box
    if isinstance(value, PendingProduct) and not value.done and is_box and dst.tile.space == "P" and mask is None:
        value.into(operand(dst), False)
        return
    flush()
    if isinstance(value, Tensor):
        value.check_under(mask)
        if is_box and value.is_box and same(dst.tile, value.tile):
            return
        left = None if mask is None else np.asarray(mask)
        keep = left if value.valid is None else value.valid if left is None else value.valid & left
        if keep is not None:
            a = tensor_f32(value, True) if value.dtype is not dst.dtype else read_tensor(value, True)
            is_each = value.size == dst.size
            if a.shape != dst.shape:
                a = a.reshape(dst.shape) if is_each else np.broadcast_to(a, dst.shape)
                keep = np.broadcast_to(keep, value.shape).reshape(dst.shape) if is_each else keep
            keep = np.broadcast_to(keep, dst.shape)
            dst.check(keep)
            if moved(dst, value, keep if is_each else None, is_checked=True):
                write_tensor(dst, a, keep)
            return
        if isinstance(value, Reduction) and not value.first and _is_written(dst.tile):
            value = call_operator(value.op, dst, value, dtype=dst.dtype)
        if is_box and dst.tile.space != "H" and value.tile.space != "H":
            if value.size != dst.size:
                value = value.broadcast_to(dst.shape)
            vector.tensor_copy(operand(dst), operand(value), is_assigned=True)
        elif is_box and value.is_box:
            source = value if value.tile.space != "P" else call_operator("copy", value)
            dma.copy(dst.tile, source.tile)
        elif moved(dst, value, None):
            write_tensor(dst, tensor_f32(value) if value.dtype is not dst.dtype else read_tensor(value))
        return
    if is_box and mask is None and dst.tile.space != "H" and dst.tile.start_partition % 32 == 0:
        vector.memset(operand(dst), value)
    elif _filled(dst, mask, value):
        write_tensor(dst, np.full(dst.shape, value, np.float32), mask)


def _filled(dst: Tensor, mask: object, value: object) -> bool:
    """Record that a number is written where a mask leaves elements in. True: the caller is to write it."""
    core = machine.active()
    to = part(dst, None if mask is None else np.broadcast_to(np.asarray(mask), dst.shape))
    if to is None:
        return core.values
    if not to.on_chip or to.start_partition % core.limits.quadrant:  # no engine starts there: a DMA writes it
        return issue("dma_copy", "", (("dst", to),), (("src", as_tensor(np.full((1, 1), value, np.float32)).tile),))
    return issue("memset", "", (("dst", to),), (), {"zero": value == 0})


def corner_box(x: Tensor, mask: object) -> Tensor:
    """The corner of a two-dimensional tensor that a rectangular mask leaves in."""
    if mask is None:
        return x
    irregular()
    m = np.broadcast_to(np.asarray(mask), x.shape)
    return x[tuple(slice(0, int(at.max(initial=0)) + 1) for at in np.nonzero(m))]


@overload
def wrap_tiles(x: Tile) -> Tensor: ...
@overload
def wrap_tiles(x: list[object]) -> list[object]: ...
@overload
def wrap_tiles(x: dict[str, object]) -> dict[str, object]: ...
@overload
def wrap_tiles(x: object) -> object: ...
def wrap_tiles(x: object) -> object:
    """Tiles anywhere in lists, tuples and dicts -> tensors."""
    return each_value(x, lambda v: Tensor(v) if isinstance(v, Tile) else v)


def unwrap(x: object) -> object:
    """Tensors -> tiles."""
    return each_value(x, lambda v: v if not isinstance(v, Tensor) else v.tile if v.is_box else operand(v))
