"""Tensors of the older front end: block dimensions before partitions, index arrays, masks, and arithmetic by operators.

A `Tensor` is a `Tile` of the machine, or a set of element addresses of one where the indices are not an affine pattern
(indirect access). `valid` marks the elements that a mask left in. Instructions see tiles: `operand` gives them one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NoReturn, SupportsInt, TypeAlias, TypedDict, TypeGuard, overload

import numpy as np
from numpy.typing import ArrayLike

from mowich.arrays import Array as Array
from mowich.neuroncore import access, boxes, ops, placement
from mowich.neuroncore import core as machine
from mowich.neuroncore import memory as mem
from mowich.neuroncore.access import forget_elements, read_tile, same, storage_of, tile_elements, whole_view, write_tile
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType, as_dtype, cast, to_f32
from mowich.neuroncore.instructions import dma, tensor, vector
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import Tile, view_of
from mowich.nki import language as now
from mowich.nki.beta1.index import Affine, Symbol, affine, index_view, irregular, is_condition, partial, plain_array
from mowich.nki.language import par_dim

_Operand: TypeAlias = "Tensor | Symbol | Array | float"
"""What stands beside a tensor in arithmetic."""
Sizes: TypeAlias = SupportsInt | tuple[SupportsInt, ...] | list[SupportsInt]
"""A size, or the sizes of several dimensions."""
_Mask: TypeAlias = "Array | np.bool_ | bool | None"
"""Which elements are read: None or True for all."""


class Tensor:
    """See the module. tile: the view, or with `address` the tensor that the addresses lie in; index: the tile that
    holds run-time indices, where the addresses were made of one; outside: the indices that leave the tensor, in words,
    "" where none does: then `valid` marks the others."""

    __slots__ = ("address", "index", "outside", "tile", "valid")

    def __init__(
        self,
        tile: Tile,
        address: Array | None = None,
        valid: Array | None = None,
        index: Tile | None = None,
        outside: str = "",
    ) -> None:
        self.tile, self.address, self.valid, self.index, self.outside = tile, address, valid, index, outside

    # description
    # -------------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        """Elements in each dimension."""
        return self.tile.shape if self.address is None else self.address.shape

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
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.tile.describe()}>" if self.address is None else f"<elements of {self.tile.describe()}>"

    def __array__(self, *_: object, **__: object) -> NoReturn:
        self.tile.__array__()

    # elements
    # ----------------------------------------------------------------------------------------------------------
    def addresses(self) -> Array:
        """Element address of each element."""
        if self.address is not None:
            return self.address
        t = self.tile
        at = np.asarray(t.offset, np.int64)
        for axis, (n, s) in enumerate(zip(t.shape, t.strides, strict=True)):
            at = at + (np.arange(n, dtype=np.int64) * s).reshape((-1,) + (1,) * (t.ndim - 1 - axis))
        return np.broadcast_to(at, t.shape)

    def check(self, keep: Array | None) -> None:
        """Raise where an index leaves the tensor at an element that `keep` leaves in (None: all). Indices that are read
        at run time are known only where values are computed."""
        if not self.outside or self.valid is None or (self.index is not None and not storage_of(self.tile).core.values):
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
            self.check(None if mask is None else _under(mask, self.shape, is_aligned))

    # views
    # -------------------------------------------------------------------------------------------------------------
    def __getitem__(self, key: object) -> Tensor:
        if type(key) is tuple and self.address is None and Affine in map(type, key):
            t = self.tile
            if len(key) == len(t.shape):
                found = index_view(key, t.shape, t.strides)
                if found is not None:
                    return Tensor(view_of(storage_of(t), t.dtype, found[0], found[1], t.offset + found[2]))
        if is_condition(key):
            keep = np.broadcast_to(np.asarray(key), self.shape)
            self.check(keep)
            irregular()
            return ChosenElements(
                self.tile, self.address, keep if self.valid is None or self.address is not None else keep & self.valid
            )
        given = key if isinstance(key, tuple) else (key,)
        if self.ndim == 1 and len(given) == 2 and self.address is None and self.tile.on_chip and None not in given:
            return self._column()[given]
        keys = _complete(given, self.ndim, self.tile)
        if self.address is not None:
            if self.valid is None:
                return Tensor(self.tile, _chosen(self.address, keys), None, self.index)
            return Tensor(self.tile, _chosen(self.address, keys), _chosen(self.valid, keys), self.index, self.outside)
        if _are_plain(keys):
            return self._affine(keys)
        return self._arrays(keys)

    def beside(self, other: Tensor) -> Tensor:
        """One element of each partition as [n, 1, ...], with as many dimensions as the tensor that it is combined
        with."""
        t = self if self.ndim > 1 or self.address is not None or not self.tile.on_chip else self._column()
        missing = other.ndim - t.ndim
        if missing < 1 or any(n != 1 for n in t.shape[1:]):
            return t
        return t[(slice(None),) * t.ndim + (None,) * missing]

    def _column(self) -> Tensor:
        """A line of partitions [n] as [n, 1]: a tile keeps a free dimension when an integer has chosen its only
        element."""
        t = self.tile
        valid = None if self.valid is None else self.valid.reshape(-1, 1)
        return Tensor(view_of(storage_of(t), t.dtype, (t.shape[0], 1), (t.strides[0], 1), t.offset), None, valid)

    def _affine(self, keys: Sequence[int | slice | None]) -> Tensor:
        t = self.tile
        shape: list[int] = []
        strides: list[int] = []
        offset, d = t.offset, 0
        for k in keys:
            if k is None:
                shape.append(1)
                strides.append(0)
                continue
            n, s = t.shape[d], t.strides[d]
            if isinstance(k, slice):
                start, stop, step = k.indices(n)
                if (k.stop is not None and int(k.stop) > n) or step < 1 or start >= stop:
                    raise fail(
                        "out-of-bounds or empty slice",
                        tile=t,
                        given=f"[{k.start}:{k.stop}:{k.step}] along dimension {d}",
                        allowed=f"0 .. {n}",
                    )
                shape.append(-(-(stop - start) // step))
                strides.append(s * step)
                offset += start * s
            else:
                i = int(k) + (n if k < 0 else 0)
                if not 0 <= i < n:
                    raise fail(
                        "out-of-bounds access",
                        tile=t,
                        given=f"index {int(k)} along dimension {d}",
                        allowed=f"0 .. {n - 1}",
                    )
                offset += i * s
            d += 1
        valid = _chosen(self.valid, keys) if self.valid is not None else None
        return Tensor(view_of(storage_of(t), t.dtype, tuple(shape), tuple(strides), offset), None, valid)

    def _arrays(self, keys: Sequence[object]) -> Tensor:
        """NumPy's indexing by arrays that broadcast together; slices keep their place."""
        t = self.tile
        found = index_view(keys, t.shape, t.strides)
        if found is not None:
            return Tensor(view_of(storage_of(t), t.dtype, found[0], found[1], t.offset + found[2]))
        irregular()
        given = {
            d: np.asarray(read_tensor(k) if isinstance(k, Tensor) else k).astype(np.int64)
            for d, k in enumerate(keys)
            if not isinstance(k, slice)
        }
        rank = max(g.ndim for g in given.values())
        slices = {d: k for d, k in enumerate(keys) if isinstance(k, slice)}
        before = [d for d in slices if d == 0]
        total = rank + len(slices)
        inside = np.asarray(True)
        address = np.asarray(t.offset, np.int64)
        outside = ""
        for d, (k, n, s) in enumerate(zip(keys, t.shape, t.strides, strict=True)):
            if d in slices:
                axis = 0 if d in before else rank + len(before) + [x for x in slices if x not in before].index(d)
                line = np.arange(*slices[d].indices(n), dtype=np.int64)
                g = line.reshape((1,) * axis + (-1,) + (1,) * (total - axis - 1))
            else:
                g = given[d]
                missing = (1,) * (rank - g.ndim)  # a tile of indices has the partitions first
                shape = (*g.shape, *missing) if isinstance(k, Tensor) else (*missing, *g.shape)
                g = g.reshape((1,) * len(before) + shape + (1,) * (len(slices) - len(before)))
            within = (g >= 0) & (g < n)
            if not within.all() and not outside:
                outside = f"indices {g.min()} .. {g.max()} along dimension {d}, which has 0 .. {n - 1}"
            inside = inside & within
            address = address + np.clip(g, 0, n - 1) * s
        index = next((operand(k) for k in keys if isinstance(k, Tensor)), None)
        if not outside:
            pattern = None if index is not None else _pattern(t, address)
            return Tensor(pattern) if pattern is not None else Tensor(t, address, None, index)
        return Tensor(t, address, np.broadcast_to(inside, address.shape), index, outside)

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
        strides = boxes.reshaped(t.shape, t.strides, wanted)
        if strides is None or math.prod(wanted) != t.size:
            raise fail("this reshape is not a view", tile=t, given=list(wanted))
        return Tensor(view_of(storage_of(t), t.dtype, wanted, strides, t.offset))

    def view(self, dtype: object) -> Tensor:
        """The same bytes in another format."""
        d = as_dtype(dtype)
        return Tensor(
            view_of(storage_of(self.tile), d, self.tile.shape, self.tile.strides, self.tile.offset)
            if d.itemsize == self.dtype.itemsize
            else self.tile.view(d)
        )

    def broadcast_to(self, shape: Sequence[SupportsInt], **_: object) -> Tensor:
        """Dimensions of size 1 repeated; leading ones added. A row on chip is copied to the partitions: no engine reads
        another partition."""
        wanted = tuple(int(n) for n in shape)
        t = self.tile
        if (
            self.address is None
            and self.valid is None
            and t.space != "H"
            and t.ndim == len(wanted)
            and t.shape[0] == 1 < wanted[0]
        ):
            return wrap_tiles(now.broadcast_to(operand(self), wanted))
        if self.address is not None:
            valid = None if self.valid is None else np.broadcast_to(self.valid, wanted)
            return Tensor(t, np.broadcast_to(self.address, wanted), valid, self.index, self.outside)
        lead = len(wanted) - t.ndim
        have, strides = (1,) * lead + t.shape, (0,) * lead + t.strides
        return Tensor(
            view_of(
                storage_of(t),
                t.dtype,
                wanted,
                tuple(0 if n != w else s for n, w, s in zip(have, wanted, strides, strict=True)),
                t.offset,
            )
        )

    def as_tile(self) -> Tensor:
        """The tensor itself: as an index of another it stands for its elements."""
        return self

    def astype(self, dtype: object) -> Tensor:
        """A copy in another format."""
        return call_operator("copy", self, dtype=dtype)

    # operators
    # -----------------------------------------------------------------------------------------------------------
    def _do(self, name: str, a: _Operand, b: _Operand) -> Tensor:
        return call_operator(name, a, b)

    def __add__(self, other: _Operand) -> Tensor:
        return self._do("add", self, other)

    def __radd__(self, other: _Operand) -> Tensor:
        return self._do("add", other, self)

    def __sub__(self, other: _Operand) -> Tensor:
        return self._do("subtract", self, other)

    def __rsub__(self, other: _Operand) -> Tensor:
        return self._do("subtract", other, self)

    def __mul__(self, other: _Operand) -> Tensor:
        return self._do("multiply", self, other)

    def __rmul__(self, other: _Operand) -> Tensor:
        return self._do("multiply", other, self)

    def __truediv__(self, other: _Operand) -> Tensor:
        return self._do("divide", self, other)

    def __rtruediv__(self, other: _Operand) -> Tensor:
        return self._do("divide", other, self)

    def __pow__(self, other: _Operand) -> Tensor:
        return self._do("power", self, other)

    def __neg__(self) -> Tensor:
        return self._do("multiply", self, -1.0)

    def __lt__(self, other: _Operand) -> Tensor:
        return self._do("less", self, other)

    def __le__(self, other: _Operand) -> Tensor:
        return self._do("less_equal", self, other)

    def __gt__(self, other: _Operand) -> Tensor:
        return self._do("greater", self, other)

    def __ge__(self, other: _Operand) -> Tensor:
        return self._do("greater_equal", self, other)

    def __and__(self, other: _Operand) -> Tensor:
        return self._do("bitwise_and", self, other)

    def __or__(self, other: _Operand) -> Tensor:
        return self._do("bitwise_or", self, other)

    def __iadd__(self, other: _Operand) -> Tensor:
        if isinstance(other, PendingProduct) and other.fits(self):
            other.into(operand(self), None)
            return self
        assign(self, self._do("add", self, other))
        return self

    def __isub__(self, other: _Operand) -> Tensor:
        assign(self, self._do("subtract", self, other))
        return self

    def __imul__(self, other: _Operand) -> Tensor:
        assign(self, self._do("multiply", self, other))
        return self


# what the simulator alone has
# ----------------------------------------------------------------------------------------------------------------


def rows_named(t: Tensor) -> tuple[Array, Array, Array]:
    """The whole allocation as [partitions, elements], and a tensor's row and column of each element."""
    at, row = t.addresses(), t.tile.row_elements
    return tile_elements(whole_view(t.tile)), at // row, at % row


def read_tensor(t: Tensor, mask: _Mask = None) -> Array:
    """Elements as stored. With a mask nothing is checked; without, all must be in bounds and written."""
    s = storage_of(t.tile)
    if mask is None and t.valid is not None and t.address is not None:
        t.check(None)
    if t.address is None:
        if mask is None and t.valid is None:
            return read_tile(t.tile)
        if not s.filled:
            s.fill()
        s.record.last = s.core.clock
        return tile_elements(t.tile)
    if not s.filled:
        s.fill()
    s.record.last = s.core.clock
    whole, r, c = rows_named(t)
    if s.state != mem.ALL and mask is None:
        flags = s.flags(whole_view(t.tile))[r, c]
        if not flags.all():
            mem.report_uninitialised(s, 1.0 - float(flags.mean()))
    return whole[r, c]


def tensor_f32(t: Tensor, mask: _Mask = None) -> Array:
    """Elements as float32."""
    return to_f32(read_tensor(t, mask), t.dtype)


def write_tensor(t: Tensor, values: ArrayLike, mask: object = None) -> None:
    """Elements = values, where the mask says so."""
    s = storage_of(t.tile)
    a = np.asarray(values)
    if a.size == t.size and a.shape != t.shape:
        a = a.reshape(t.shape)
    if t.address is None and mask is None:
        write_tile(t.tile, a)
        return
    keep = np.broadcast_to(True if mask is None else np.asarray(mask), t.shape)
    t.check(keep)
    if a.dtype != t.dtype.dtype:
        a = cast(a.astype(np.float32) if a.dtype == np.float64 else a, t.dtype)
    whole, r, c = rows_named(t)
    r, c = np.broadcast_to(r, t.shape)[keep], np.broadcast_to(c, t.shape)[keep]
    clock = s.core.clock
    s.record.first = clock if s.record.first < 0 else s.record.first
    s.record.last = clock
    if s.state != mem.ALL:
        if not s.filled:
            s.fill()
        s.flags(whole_view(t.tile))[r, c] = True
        s.state = mem.SOME
        if s.bitmap is not None and s.bitmap.all():
            s.whole()
    whole[r, c] = np.broadcast_to(a, t.shape)[keep]


class ChosenElements(Tensor):
    """`tensor[condition]`: the elements where a predicate of indices holds. As an operand the others count as 0, also
    those out of bounds."""

    __slots__ = ()

    def plain(self) -> Tensor:
        """The tensor itself where the condition holds everywhere, else a copy with zeros."""
        if self.valid is None or self.valid.all():
            return Tensor(self.tile, self.address)
        copy = new(self.shape, self.dtype)
        moved(copy, self, self.valid)
        write_tensor(copy, np.where(self.valid, read_tensor(self, True), self.dtype.dtype.type(0)))
        return copy


class Factors(TypedDict, total=False):
    """Arguments of a matmul but its destination; see `instructions.tensor.nc_matmul`."""

    stationary: Tile
    moving: Tile
    is_stationary_onezero: bool
    is_moving_onezero: bool
    is_transpose: bool
    tile_position: Sequence[SupportsInt]
    tile_size: Sequence[SupportsInt]
    perf_mode: str


class PendingProduct(Tensor):
    """A matmul whose destination is not known yet: `psum += nc_matmul(...)` accumulates in the engine."""

    __slots__ = ("_shape", "arguments", "done")

    def __init__(self, shape: tuple[int, int], arguments: Factors) -> None:
        flush()
        self._shape, self.arguments, self.done = shape, arguments, False
        self.address = self.valid = self.index = None
        self.outside = ""
        machine.active().pending.append(self)

    def __getattr__(self, name: str) -> Tile:
        if name == "tile" and not self.done:
            self.run()
            return self.tile
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    def fits(self, dst: Tensor) -> bool:
        """True where the Tensor Engine can add it to what is in a tensor."""
        if self.done or dst.address is not None or dst.tile.space != "P" or dst.dtype.name != "float32":
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


class TileBlocks(Tensor):
    """A tensor with dimensions before the partitions. Each block is a tile of its own, allocated when it is first
    named, which lives as long as it is used: how many there are at once is the compiler's choice. Where anything but
    one block is named, they lie side by side instead, in SBUF, from then on. `part` names some of the leading
    dimensions."""

    __slots__ = ("_block", "_counts", "_made", "_name", "_region", "_type", "fill", "part", "whole")

    def __init__(
        self, counts: tuple[int, ...], shape: tuple[int, ...], dtype: object, region: MemoryRegion, name: str
    ) -> None:
        self._made: dict[tuple[int, ...], Tensor] = {}
        self._counts, self._block, self._region, self._name = counts, shape, region, name
        self._type = as_dtype(dtype)
        self.fill: object = None
        self.part: tuple[TileBlocks, tuple[int, ...]] | None = None
        self.whole: Tensor | None = None
        self.address = self.valid = self.index = None
        self.outside = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Blocks, then partitions and free dimensions."""
        return (*self._counts, *self._block)

    @property
    def dtype(self) -> DType:
        """Format of the elements."""
        return self._type

    @property
    def buffer(self) -> MemoryRegion:
        """Memory that the blocks lie in."""
        return self._region

    def __getattr__(self, name: str) -> Tile:
        if name == "tile":
            return self.together().tile
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'", name=name, obj=self)

    def __getitem__(self, key: object) -> Tensor:
        if self.part is not None:
            root, first = self.part
            return root[(*first, *(key if isinstance(key, tuple) else (key,)))]
        keys = key if isinstance(key, tuple) else (key,)
        n = len(self._counts)
        if self.whole is None and len(keys) >= n:
            at: tuple[int, ...] = ()
            for k, count in zip(keys, self._counts, strict=False):
                if type(k) is not int or not 0 <= k < count:
                    break
                at += (k,)
            else:
                block = self._at(at)
                return block[keys[n:]] if len(keys) > n else block
        at = ()
        for k in keys[:n]:
            if not isinstance(k, int | np.integer):
                break
            at += (int(k),)
        if self.whole is not None or (len(at) < n and len(at) < len(keys)) or is_condition(key):
            return self.together()[key]
        if any(not -c <= i < c for i, c in zip(at, self._counts, strict=False)):
            raise fail("out-of-bounds access", given=at, allowed=f"blocks {self._counts}")
        at = tuple(i % c for i, c in zip(at, self._counts, strict=False))
        if len(at) < n:
            some = TileBlocks(self._counts[len(at) :], self._block, self._type, self._region, self._name)
            some.part = (self, at)
            return some
        block = self._at(at)
        return block[tuple(keys[n:])] if keys[n:] else block

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks in each dimension before the partitions."""
        return self._counts

    def is_free(self, at: tuple[int, ...]) -> bool:
        """Whether there is such a block, and it was not made yet."""
        there = all(0 <= i < c for i, c in zip(at, self._counts, strict=True))
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
        at = tuple(k for k in keys[: len(self._counts)] if type(k) is int)
        if self.part is not None or self.whole is not None or len(at) < len(self._counts):
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
            dims = (self._block[0], *self._counts, *self._block[1:])
            room = core.limits.sbuf_B if mem.SPACE[self._region] == "S" else core.limits.psum_B
            if math.prod(dims[1:]) * self._type.itemsize > room:
                raise fail(
                    "blocks of a tensor that is larger than its memory are named one at a time",
                    given=f"shape {list(self.shape)}",
                    fix="index the block dimensions with integers",
                )
            t = placement.allocate(core, dims, self._type, self._region, self._name)
            n = len(self._counts)
            self.whole = Tensor(
                view_of(
                    storage_of(t), t.dtype, self.shape, (*t.strides[1 : n + 1], t.strides[0], *t.strides[n + 1 :]), 0
                )
            )
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
    return s.state == mem.ALL or (s.state == mem.SOME and bool(s.flags(t).all()))


def flush() -> None:
    """Run a matmul that still waits for its destination, before anything changes its operands."""
    core = machine.running()
    while core is not None and core.pending:
        core.pending[0].run()


def _are_plain(keys: Sequence[object]) -> TypeGuard[Sequence[int | slice | None]]:
    """Whether these indices are numbers, slices and new axes alone."""
    return all(k is None or isinstance(k, int | np.integer | slice) for k in keys)


def _chosen(a: Array, keys: Sequence[object]) -> Array:
    """The elements of an array at the indices of a kernel."""
    plain_keys = tuple(k if k is None or isinstance(k, int | slice) else np.asarray(k) for k in keys)
    return np.asarray(a[plain_keys])


def _under(mask: object, shape: tuple[int, ...], is_aligned: bool = True) -> Array:
    """The elements of an operand that an instruction under a mask reads: an operand with one element along an axis
    serves all of that axis. None where the mask has other dimensions: it does not say which."""
    m = np.asarray(plain_array(mask))
    if m.all():
        return np.ones(shape, np.bool_)
    if not is_aligned:
        return np.zeros(shape, np.bool_)
    if m.ndim == len(shape):
        m = np.asarray(m.any(axis=tuple(a for a, n in enumerate(shape) if n == 1), keepdims=True))
    try:
        return np.broadcast_to(m, shape)
    except ValueError:
        return np.zeros(shape, np.bool_)


def _complete(keys: tuple[object, ...], ndim: int, tile: Tile) -> tuple[object, ...]:
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > ndim:
        raise fail(f"{used} indices for {ndim} dimensions", tile=tile)
    for at, k in enumerate(keys):
        if k is Ellipsis:
            return keys[:at] + (slice(None),) * (ndim - used) + keys[at + 1 :]
    return keys + (slice(None),) * (ndim - used)


def _pattern(t: Tile, address: Array) -> Tile | None:
    """The view that addresses describe, or None where they are no affine pattern."""
    found = affine(address)
    return None if found is None else view_of(storage_of(t), t.dtype, found.shape, found.steps, found.start)


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
        return (
            Tensor(t)
            if len(plain) >= 2 or mem.SPACE[region] == "H"
            else Tensor(view_of(storage_of(t), t.dtype, plain, t.strides[: len(plain)], t.offset))
        )
    order = (plain[at], *plain[:at], *plain[at + 1 :])
    if mem.SPACE[region] == "P":
        bank = core.limits.psum_bank_B // as_dtype(dtype).itemsize
        free = math.prod(plain[at + 1 :])
        if free < bank and math.prod(plain[:at]) * bank * as_dtype(dtype).itemsize <= core.limits.psum_B:
            t = placement.allocate(core, (plain[at], math.prod(plain[:at]) * bank), dtype, region, name, address)
            inner = boxes.row_major(plain[at + 1 :])
            blocks = tuple(s * bank for s in boxes.row_major(plain[:at]))
            return Tensor(view_of(storage_of(t), t.dtype, plain, (*blocks, t.strides[0], *inner), t.offset))
    room = core.limits.sbuf_B if mem.SPACE[region] == "S" else core.limits.psum_B
    row = math.prod(order[1:]) * as_dtype(dtype).itemsize
    if row > room or (mem.SPACE[region] == "S" and math.prod(plain[:at]) > 1):
        return TileBlocks(plain[:at], plain[at:], dtype, region, name)
    t = placement.allocate(core, order, dtype, region, name, address)
    strides = (*t.strides[1 : at + 1], t.strides[0], *t.strides[at + 1 :])
    return Tensor(view_of(storage_of(t), t.dtype, plain, strides, t.offset))


@overload
def operand(x: Tensor, mask: object = None, *, is_aligned: bool = True) -> Tile: ...
@overload
def operand(x: object, mask: object = None, *, is_aligned: bool = True) -> object: ...
def operand(x: object, mask: object = None, *, is_aligned: bool = True) -> object:
    """A tensor as an instruction takes it: a tile with partitions first. Other values as they are. mask: that of the
    instruction, which hides indices that leave the tensor; is_aligned: its dimensions are those of the operand."""
    if type(x) is Tensor and x.address is None:
        t = x.tile
        if len(t.shape) > 1 and t.strides[0] and t.on_chip and t.strides[0] % t.row_elements == 0:
            return t
    if not isinstance(x, Tensor):
        if isinstance(x, Symbol | np.ndarray):
            return as_tensor(x).tile
        return x
    if isinstance(x, ChosenElements):
        x = x.plain()
    t = x.tile
    if x.address is None and t.space != "H":
        row = t.row_elements
        if t.ndim == 1:
            t = (
                view_of(storage_of(t), t.dtype, (1, t.shape[0]), (0, t.strides[0]), t.offset)
                if t.strides[0] % row or (row == 1 and storage_of(t).parts == 1)
                else view_of(storage_of(t), t.dtype, (t.shape[0], 1), (t.strides[0], 1), t.offset)
            )
        if t.ndim == 0:
            t = view_of(storage_of(t), t.dtype, (1, 1), (1, 1), t.offset)
        if t.shape[0] == 1 or (t.strides[0] and t.strides[0] % row == 0):
            return t
        if t.strides[0]:
            raise fail(
                "the first dimension of an operand is the partitions",
                tile=t,
                fix="index partitions first, or transpose",
            )
    if x.address is None and t.space == "H":
        return t
    x.check_under(mask, is_aligned)
    copy = new(x.shape, x.dtype)
    if moved(copy, x, None, is_checked=True):
        write_tensor(copy, read_tensor(x, True if x.valid is not None or mask is not None else None))
    return operand(copy)


def part(x: Tensor, keep: Array | None, is_checked: bool = False) -> Tile | None:
    """What an access touches, as an instruction takes it: the box of the elements that a mask leaves in (None: all);
    None where there are none. Addresses that follow no pattern are a view with an offset that is read at run time.
    Raises for indices that leave the tensor outside the mask, unless the caller looked for them."""
    if x.outside and not is_checked:
        x.check(keep)
    inner: tuple[slice, ...] = ()
    if keep is not None:
        irregular()
        if not keep.any():
            return None
        others = [tuple(a for a in range(keep.ndim) if a != d) for d in range(keep.ndim)]
        kept = [np.flatnonzero(keep.any(axis=axes)) for axes in others]
        inner = tuple(slice(int(at[0]), int(at[-1]) + 1) for at in kept)
    t = x.tile
    if x.address is None:
        if inner:
            offset = t.offset + sum(k.start * s for k, s in zip(inner, t.strides, strict=True))
            t = view_of(storage_of(t), t.dtype, tuple(k.stop - k.start for k in inner), t.strides, offset)
    else:
        address = x.address[inner]
        found = None if x.index is not None else _pattern(t, address)
        t = _irregular(x, address) if found is None else found
    if t.dynamic is not None or not t.on_chip:
        return t
    if t.ndim > 1 and t.shape[0] > 1 and (not t.strides[0] or t.strides[0] % t.row_elements):
        return _irregular(x, Tensor(t).addresses())
    return operand(Tensor(t))


def _irregular(x: Tensor, address: Array) -> Tile:
    """A view for addresses without a pattern: its rows are as long as theirs, and lie anywhere."""
    t = x.tile
    kind = "pattern" if x.index is None else "scalar" if t.on_chip else "vector"
    where = access.Dynamic(kind, x.index, t.itemsize, address.shape[0] if address.ndim else 1)
    if t.on_chip:
        rows = min(address.shape[0] if address.ndim else 1, storage_of(t).parts)
        return view_of(storage_of(t), t.dtype, (rows, address.size // rows), (t.row_elements, 1), 0, where)
    row = affine(address[:1])
    steps = (0,) * address.ndim if row is None else row.steps
    return view_of(storage_of(t), t.dtype, address.shape or (1,), steps or (1,), 0, where)


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
    mask = partial(mask)
    if (
        isinstance(value, PendingProduct)
        and not value.done
        and dst.address is None
        and dst.tile.space == "P"
        and mask is None
    ):
        value.into(operand(dst), False)
        return
    flush()
    if isinstance(value, Tensor):
        value.check_under(mask)
        if value.address is None and dst.address is None and same(dst.tile, value.tile):
            return
        left = None if mask is None else np.asarray(mask)
        keep = left if value.valid is None else value.valid if left is None else value.valid & left
        if keep is not None:
            a = tensor_f32(value, True) if value.dtype is not dst.dtype else read_tensor(value, True)
            if a.shape != dst.shape:
                a = a.reshape(dst.shape) if a.size == dst.size else np.broadcast_to(a, dst.shape)
                keep = (
                    np.broadcast_to(keep, value.shape).reshape(dst.shape)
                    if value.size == dst.size
                    else np.broadcast_to(keep, dst.shape)
                )
            dst.check(keep)
            if moved(dst, value, keep if value.size == dst.size else None, is_checked=True):
                write_tensor(dst, a, keep)
            return
        if isinstance(value, Reduction) and not value.first and _is_written(dst.tile):
            value = call_operator(value.op, dst, value, dtype=dst.dtype)
        if dst.address is None and dst.tile.space != "H" and value.tile.space != "H":
            if value.size != dst.size:
                value = value.broadcast_to(dst.shape)
            vector.tensor_copy(operand(dst), operand(value), is_assigned=True)
        elif dst.address is None and value.address is None:
            source = value if value.tile.space != "P" else call_operator("copy", value)
            dma.copy(dst.tile, source.tile)
        else:
            if moved(dst, value, None):
                write_tensor(dst, tensor_f32(value) if value.dtype is not dst.dtype else read_tensor(value))
        return
    if dst.address is None and mask is None and dst.tile.space != "H" and dst.tile.start_partition % 32 == 0:
        vector.memset(operand(dst), value)
    elif _filled(dst, mask, value):
        if dst.address is None and mask is None:
            t = dst.tile if dst.tile.ndim else view_of(storage_of(dst.tile), dst.dtype, (1,), (1,), dst.tile.offset)
            write_tile(t, np.full(t.shape, value, np.float32))
        else:
            write_tensor(dst, np.full(dst.shape, value, np.float32), mask)


def _filled(dst: Tensor, mask: object, value: object) -> bool:
    """Record that a number is written where a mask leaves elements in. True: the caller is to write it."""
    core = machine.active()
    to = part(dst, None if mask is None else np.broadcast_to(np.asarray(mask), dst.shape))
    if to is None:
        return core.values
    if not to.on_chip:
        return issue("dma_copy", "", (("dst", to),), (("src", as_tensor(np.full((1, 1), value, np.float32)).tile),))
    if to.start_partition % core.limits.quadrant:  # no engine starts there: a DMA writes it
        return issue("dma_copy", "", (("dst", to),), (("src", as_tensor(np.full((1, 1), value, np.float32)).tile),))
    return issue("memset", "", (("dst", to),), (), {"zero": value == 0})


def corner_box(x: Tensor, mask: object) -> Tensor:
    """The corner of a two-dimensional tensor that a rectangular mask leaves in."""
    if mask is None:
        return x
    irregular()
    m = np.broadcast_to(np.asarray(mask), x.shape)
    sizes = [
        int(np.flatnonzero(m.any(axis=tuple(a for a in range(m.ndim) if a != d)))[-1]) + 1 if m.any() else 1
        for d in range(m.ndim)
    ]
    return x[tuple(slice(0, n) for n in sizes)]


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
    if isinstance(x, Tile):
        return Tensor(x)
    if isinstance(x, list | tuple):
        return type(x)(wrap_tiles(v) for v in x)
    if isinstance(x, dict):
        return {k: wrap_tiles(v) for k, v in x.items()}
    return x


def unwrap(x: object) -> object:
    """Tensors -> tiles."""
    if isinstance(x, Tensor):
        return x.tile if x.address is None else operand(x)
    if isinstance(x, list | tuple):
        return type(x)(unwrap(v) for v in x)
    if isinstance(x, dict):
        return {k: unwrap(v) for k, v in x.items()}
    return x


# operators
# ------------------------------------------------------------------------------------------------------------------


def values_taken(x: object, mask: object = None) -> object:
    """What stands in an operator as an instruction takes it: index expressions and arrays as numbers in SBUF."""
    if isinstance(x, Symbol | np.ndarray) and np.ndim(x):
        return operand(as_tensor(x), mask)
    return operand(x, mask)


_OP_WORDS = ("x", "y", "dtype")
"""Keywords that reach an operator: functions of the older interface take any others, and leave them out."""


def _lifted(op: now._NkiOp) -> Callable[..., object]:
    """A function of tiles as a function of tensors; the result keeps the mask that it was made under."""

    def call(name: str, *args: object, mask: object = None, **kwargs: object) -> object:
        flush()
        mask = partial(mask)
        tensors = [a for a in args if isinstance(a, Tensor)]
        if not tensors:
            return ops.alu(name).apply(*[plain_array(a) for a in args])
        made = op(
            *[values_taken(a, mask) for a in args],
            **{k: v if k == "dtype" else operand(v, mask) for k, v in kwargs.items() if k in _OP_WORDS},
        )
        assert isinstance(made, Tile)
        out = Tensor(made)
        valid = next((t.valid for t in tensors if t.valid is not None and t.shape == out.shape), None)
        if mask is not None:
            m = np.broadcast_to(np.asarray(mask), out.shape)
            valid = m if valid is None else m & valid
        out.valid = valid
        return out

    return call


LIFTED = {
    name: now._NkiOp(op.op_name, _lifted(op), op.__doc__ or "")
    for name, op in vars(now).items()
    if isinstance(op, now._NkiOp)
}
"""The operators of `nki.language` as functions of tensors, by name."""


def call_operator(name: str, *args: object, dtype: object = None) -> Tensor:
    """An operator of tensors."""
    out = LIFTED[name](*args, dtype=dtype)
    assert isinstance(out, Tensor)
    return out
