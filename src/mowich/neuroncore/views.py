"""Tiles: views of an allocation, through which instructions see its bytes.

A `Tile` has a format, and shape, strides and offset in elements, where the elements of a row follow each other and rows
follow rows, so that the pattern of `.ap()` on a [128, 512] tile is [[512, 128], [1, 512]] wherever the tile lies. An
offset may be read at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NoReturn, SupportsInt, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mowich.arrays import Array
from mowich.neuroncore import integers, overflow
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import F32, DType, as_dtype, cast, rounded_stochastically, to_f32
from mowich.neuroncore.memory import ALL, MemoryRegion, RepeatedStorage, Storage, device_dtype
from mowich.neuroncore.registers import DeviceNumber, NkiScalar
from mowich.neuroncore.trace import NotedView, ViewAccess, ViewBound

Place: TypeAlias = "SupportsInt | Tile | DeviceNumber"
"""Where an access begins: a number, a register, or a tile of numbers; the last two are read when it runs."""


class DynamicSlice:
    """`nl.ds(start, size)`: `size` elements from `start`, which may be a register."""

    __slots__ = ("size", "start", "step")

    def __init__(self, start: Place, size: int, step: int = 1) -> None:
        self.start, self.size, self.step = start, size, step


class Dynamic:
    """An offset that is read when the instruction runs. scale_B: bytes per unit of the index; bound: rows that the
    index may name."""

    __slots__ = ("bound", "group", "index", "kind", "scale_B")

    def __init__(self, kind: str, index: Place | None, scale_B: int, bound: int, group: int = 0) -> None:
        self.kind, self.index, self.scale_B, self.bound, self.group = kind, index, scale_B, bound, group


class Tile:
    """A view of an allocation, as a kernel holds it. shape; strides and offset in elements of `dtype` from the start of
    the allocation; access: what `issue` found out about it, for the core that made the allocation; like: the tile of
    another allocation of which this one has all but the storage, None: it was made by itself.

    Values reach it through instructions only: it has no attribute that leads to its allocation or its elements, and
    none that can be set. The simulator has functions for both, below (`storage_of`, `tile_elements` ...).
    """

    __slots__ = (
        "_array",
        "_written",
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
    like: Tile | None
    offset: int
    shape: tuple[int, ...]
    size: int
    strides: tuple[int, ...]

    assign: ClassVar[Callable[[Tile, object], None]]
    """What `tile[...] = value` issues. Instructions stand above views: `instructions.dma` puts its function here."""

    def __init__(self, *_: object, **__: object) -> None:
        raise fail("a tile is allocated", fix="nl.ndarray(shape, dtype, buffer=...)")

    def __setattr__(self, name: str, _: object) -> NoReturn:
        raise fail(f"a tile does not change: its '{name}' was set", tile=self, fix=_THROUGH_INSTRUCTIONS)

    def __delattr__(self, name: str) -> NoReturn:
        raise fail(f"a tile does not change: its '{name}' was deleted", tile=self, fix=_THROUGH_INSTRUCTIONS)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise self._unread("an array was asked for")

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise self._unread("a copy outside the kernel was asked for")

    def __copy__(self) -> Tile:
        return self

    def __deepcopy__(self, _: object) -> Tile:
        return self

    def __int__(self) -> int:
        raise self._unread("a number was asked for")

    def __float__(self) -> float:
        raise self._unread("a number was asked for")

    def _unread(self, what: str) -> Exception:
        """The error for a kernel that wants values on the host."""
        return fail(
            f"a kernel cannot read a tile on the host: {what}",
            tile=self,
            fix="compute with instructions; control flow that reads data takes a whole number from"
            " nisa.register_load; nl.device_print shows a tile",
        )

    @property
    def first(self) -> Tile:
        """The tile that this one and others have all but the storage of: itself, where it was made by itself."""
        return self if self.like is None else self.like

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
    def data(self) -> Tile:
        """The tensor as the operand of an instruction: itself. A grid of tiles has the same (NKI 0.7)."""
        return self

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
        s = storage_of(self)
        if self.shape == s.shape and self.dtype is s.dtype:
            return s.describe()
        return f"view {list(self.shape)} {self.dtype} of {s.describe()}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        """True: a tensor is there. Raises for the result of a comparison in the convenience layer."""
        if self.is_truth:
            raise self._unread("whether a comparison holds was asked for")
        return True

    @property
    def base_tensor(self) -> Tile:
        """The tensor that this is a view of: the whole allocation in its own dtype. Not in AWS's reference; nki-library
        uses it."""
        s = storage_of(self)
        return view_of(s, s.dtype, s.shape, row_major(s.shape))

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
        low = high = self.offset
        for n, x in zip(self.shape, self.strides, strict=True):
            if x < 0:
                low += (n - 1) * x
            else:
                high += (n - 1) * x
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

    # views
    # -------------------------------------------------------------------------------------------------------------
    def _like(self, shape: Iterable[int], strides: Iterable[int], offset: int) -> Tile:
        return view_of(storage_of(self), self.dtype, tuple(shape), tuple(strides), offset, self.dynamic)

    @property
    def on_chip(self) -> bool:
        """True in SBUF and PSUM."""
        return storage_of(self).space != "H"

    def is_contiguous(self) -> bool:
        """True where the elements (of each partition, on chip) follow each other in memory."""
        expected = 1
        for i in range(self.ndim - 1, 0 if self.on_chip else -1, -1):
            if self.shape[i] != 1 and self.strides[i] != expected:
                return False
            expected *= self.shape[i]
        return True

    def get_pattern(self) -> list[list[int]]:
        """[[stride, count], ...] of the view."""
        return [[s, n] for s, n in zip(self.strides, self.shape, strict=True)]

    def is_indirect(self) -> bool:
        """True where an offset is read at run time."""
        return self.dynamic is not None

    def __getitem__(self, key: object) -> Tile:
        keys: tuple[Any, ...] = key if type(key) is tuple else (key,)
        ndim = len(self.shape)
        if len(keys) == ndim:  # a range of each dimension, as nearly all views have
            box, at, size = [], self.offset, 1
            for k, n, s in zip(keys, self.shape, self.strides):  # noqa: B905 - as many keys as dimensions
                if type(k) is not slice or k.step is not None:
                    break
                start, stop = k.start, k.stop
                if start is None:
                    start = 0
                if stop is None:
                    stop = n
                if type(start) is not int or type(stop) is not int or not 0 <= start <= stop <= n:
                    break
                box.append(count := stop - start)
                size *= count
                at += start * s
            else:
                storage = storage_of(self)
                if (views := storage.core.views) is not None:
                    views.append(NotedView(keys, self.shape))
                return view_of(storage, self.dtype, tuple(box), self.strides, at, self.dynamic, size)
        has_dots = False
        for k in keys:
            kind = type(k)
            if kind is not slice and kind is not int:
                if kind not in _PLAIN:
                    return _fancy_index(self, keys)
                has_dots |= k is Ellipsis
        if has_dots:
            at = keys.index(Ellipsis)
            keys = keys[:at] + (slice(None),) * (ndim - len(keys) + 1) + keys[at + 1 :]
        if len(keys) > ndim:
            raise fail(f"{len(keys)} indices for {ndim} dimensions", tile=self)
        if (views := storage_of(self).core.views) is not None:
            views.append(NotedView(keys, self.shape))
        shape: list[int] = []
        strides: list[int] = []
        offset = self.offset
        on_chip = storage_of(self).space != "H"
        d = -1
        for k, n, s in zip(keys, self.shape, self.strides, strict=False):
            d += 1
            if type(k) is slice:
                start, stop, step = k.start, k.stop, k.step
                if type(start) is not int:
                    start = 0 if start is None else int(start)
                if type(stop) is not int:
                    stop = n if stop is None else int(stop)
                if step is None:
                    if 0 <= start <= stop <= n:
                        shape.append(stop - start)
                        strides.append(s)
                        offset += start * s
                        continue
                    step = 1
                step = int(step)
                if start < 0:
                    start += n
                if stop < 0:
                    stop += n
                if step < 1 or start < 0 or stop > n or start > stop:
                    raise fail(
                        "out-of-bounds access" if stop > n or start < 0 else "backward slice",
                        tile=self,
                        given=f"[{start}:{stop}:{step}] along dimension {d}",
                        allowed=f"0 .. {n}",
                        fix="bound the slice with min(), or allocate a larger tile",
                    )
                shape.append((stop - start + step - 1) // step)
                strides.append(s * step)
                offset += start * s
            else:
                i = int(k)
                if i < 0:
                    i += n
                if not 0 <= i < n:
                    raise fail(
                        "out-of-bounds access",
                        tile=self,
                        given=f"index {int(k)} along dimension {d}",
                        allowed=f"0 .. {n - 1}",
                    )
                offset += i * s
                if on_chip and d == 0:
                    shape.append(1)
                    strides.append(s)
        if len(keys) < ndim:
            shape += self.shape[len(keys) :]
            strides += self.strides[len(keys) :]
        while len(shape) < (2 if on_chip else 1):
            shape.append(1)
            strides.append(1)
        return view_of(storage_of(self), self.dtype, tuple(shape), tuple(strides), offset, self.dynamic)

    def __setitem__(self, key: object, value: object) -> None:
        Tile.assign(self[key], value)

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> Tile:
        """Elements start .. end (exclusive) of one dimension."""
        dim = self._dim(dim)
        start, end, step = int(start), int(end), int(step)
        if not 0 <= start < end <= self.shape[dim] or step < 1:
            raise fail(
                "out-of-bounds access",
                tile=self,
                given=f"slice({dim}, {start}, {end}, {step})",
                allowed=f"0 .. {self.shape[dim]}",
            )
        self._static(dim)
        self._note(dim, slice(start, end))
        shape, strides = list(self.shape), list(self.strides)
        shape[dim] = (end - start + step - 1) // step
        strides[dim] *= step
        return self._like(shape, strides, self.offset + start * self.strides[dim])

    def _note(self, dim: int, key: ViewBound) -> None:
        """A view along one dimension, for loops that are repeated."""
        if (views := storage_of(self).core.views) is not None:
            views.append(NotedView((key,), (self.shape[dim],)))

    def _dim(self, dim: int) -> int:
        if dim < 0:
            dim += self.ndim
        if not 0 <= dim < self.ndim:
            raise fail(f"dimension {dim} of {self.ndim}", tile=self)
        return dim

    def _static(self, dim: int) -> None:
        if self.dynamic is not None and self.dynamic.kind == "vector" and dim == 0:
            raise fail(
                "dimension 0 is chosen by a vector of offsets: it cannot be sliced, moved or selected", tile=self
            )

    def _free(self, dim: int, what: str) -> None:
        if dim == 0 and (self.on_chip or (self.dynamic is not None and self.dynamic.kind == "vector")):
            raise fail(
                f"cannot {what} the partition dimension",
                tile=self,
                fix="partitions stay dimension 0; use nc_transpose or dma_copy to move data across them",
            )

    def select(self, dim: int, index: Place) -> Tile:
        """One element of a dimension, which goes. index: an integer, a register, or a one-element tile read when the
        instruction runs."""
        dim = self._dim(dim)
        if isinstance(index, Tile | DeviceNumber):
            if self.dynamic is not None:
                raise fail("a view can have one run-time offset only", tile=self)
            if self.on_chip and dim == 0:
                raise fail("cannot select partitions at run time", tile=self)
            keep = [i for i in range(self.ndim) if i != dim]
            out = self._like([self.shape[i] for i in keep], [self.strides[i] for i in keep], self.offset)
            out = out._at_least()
            return _at_run_time(out, Dynamic("scalar", index, self.strides[dim] * self.dtype.itemsize, self.shape[dim]))
        self._static(dim)
        i = int(index)
        if not 0 <= i < self.shape[dim]:
            raise fail(
                "out-of-bounds access", tile=self, given=f"select({dim}, {i})", allowed=f"0 .. {self.shape[dim] - 1}"
            )
        self._note(dim, i)
        if dim == 0 and self.on_chip:
            return self.slice(0, i, i + 1)
        keep = [d for d in range(self.ndim) if d != dim]
        return self._like(
            [self.shape[d] for d in keep], [self.strides[d] for d in keep], self.offset + i * self.strides[dim]
        )._at_least()

    def _at_least(self) -> Tile:
        least = 2 if self.on_chip else 1
        if self.ndim >= least:
            return self
        extra = least - self.ndim
        return self._like(self.shape + (1,) * extra, self.strides + (1,) * extra, self.offset)

    def vector_select(self, dim: int, vector_offset: Tile) -> Tile:
        """Rows of an HBM tensor, one per partition, chosen by a [P, 1] tile of indices."""
        if dim != 0 or self.on_chip or self.dynamic is not None:
            raise fail("vector_select works on dimension 0 of an HBM tensor without another run-time offset", tile=self)
        shape = (vector_offset.size, *self.shape[1:])
        out = self._like(shape, self.strides, self.offset)
        return _at_run_time(out, Dynamic("vector", vector_offset, self.strides[0] * self.dtype.itemsize, self.shape[0]))

    def permute(self, dims: Sequence[int]) -> Tile:
        """Dimensions in another order; the partition dimension stays first on chip."""
        dims = tuple(int(d) for d in dims)
        if sorted(dims) != list(range(self.ndim)):
            raise fail("permute takes each dimension once", tile=self, given=list(dims))
        if dims[0] != 0:
            self._free(0, "move")
        return self._like([self.shape[d] for d in dims], [self.strides[d] for d in dims], self.offset)

    def broadcast(self, dim: int, size: int) -> Tile:
        """Repeat a dimension of size 1."""
        dim = self._dim(dim)
        if self.shape[dim] != 1:
            raise fail("broadcast needs a dimension of size 1", tile=self, given=f"dimension {dim}")
        self._free(dim, "broadcast")
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = int(size), 0
        return self._like(shape, strides, self.offset)

    def broadcast_to(self, shape: Sequence[int]) -> Tile:
        """Repeat every dimension of size 1 to reach a shape of the same rank (leading dimensions are added in HBM)."""
        wanted = tuple(int(n) for n in shape)
        out = self
        if len(wanted) > self.ndim and not self.on_chip:
            extra = len(wanted) - self.ndim
            out = self._like((1,) * extra + self.shape, (0,) * extra + self.strides, self.offset)
        if len(wanted) != out.ndim:
            raise fail("broadcast_to keeps the number of dimensions", tile=self, given=list(wanted))
        strides = list(out.strides)
        for d, (n, m) in enumerate(zip(out.shape, wanted, strict=True)):
            if n != m:
                if n != 1:
                    raise fail("broadcast_to repeats dimensions of size 1 only", tile=self, given=list(wanted))
                strides[d] = 0
        return out._like(wanted, strides, out.offset)

    def expand_dim(self, dim: int) -> Tile:
        """A new dimension of size 1."""
        if dim < 0:
            dim += self.ndim + 1
        self._free(dim, "insert before")
        shape, strides = list(self.shape), list(self.strides)
        step = strides[dim] * shape[dim] if dim < self.ndim else 1
        shape.insert(dim, 1)
        strides.insert(dim, step)
        return self._like(shape, strides, self.offset)

    expand_dims = expand_dim

    def squeeze_dim(self, dim: int) -> Tile:
        """Remove a dimension of size 1."""
        dim = self._dim(dim)
        self._free(dim, "remove")
        if self.shape[dim] != 1:
            raise fail("squeeze_dim needs a dimension of size 1", tile=self, given=f"dimension {dim}")
        keep = [d for d in range(self.ndim) if d != dim]
        return self._like([self.shape[d] for d in keep], [self.strides[d] for d in keep], self.offset)

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> Tile:
        """Split one dimension."""
        dim = self._dim(dim)
        sizes = _infer(tuple(int(n) for n in shape), self.shape[dim], self)
        if len(sizes) > 1:
            self._free(dim, "split")
        inner: list[int] = []
        step = self.strides[dim]
        for n in reversed(sizes):
            inner.insert(0, step)
            step *= n
        new_shape = (*self.shape[:dim], *sizes, *self.shape[dim + 1 :])
        return self._like(new_shape, (*self.strides[:dim], *inner, *self.strides[dim + 1 :]), self.offset)

    def flatten_dims(self, start_dim: int, end_dim: int) -> Tile:
        """Merge dimensions start .. end (inclusive), which must follow each other in memory."""
        start, end = self._dim(start_dim), self._dim(end_dim)
        if start != end:
            self._free(start, "merge")
        group = self.shape[start : end + 1]
        strides = reshaped(group, self.strides[start : end + 1], (math.prod(group),))
        if strides is None:
            raise fail(
                "these dimensions do not follow each other in memory: no view can merge them",
                tile=self,
                given=f"dimensions {start} .. {end}",
                fix="copy the tile first",
            )
        return self._like(
            (*self.shape[:start], math.prod(group), *self.shape[end + 1 :]),
            (*self.strides[:start], *strides, *self.strides[end + 1 :]),
            self.offset,
        )

    def reshape(self, *shape: SupportsInt | Iterable[SupportsInt]) -> Tile:
        """The same elements in another shape, without a copy; raises where no view can do it."""
        wanted: tuple[int, ...] = ()
        for sizes in shape:
            wanted += tuple(int(n) for n in sizes) if isinstance(sizes, Iterable) else (int(sizes),)
        wanted = _infer(wanted, self.size, self)
        if wanted == self.shape:
            return self
        if self.on_chip or (self.dynamic is not None and self.dynamic.kind == "vector"):
            if not wanted or wanted[0] != self.shape[0]:
                raise fail(
                    "reshape keeps the partition dimension",
                    tile=self,
                    given=list(wanted),
                    fix="only the free dimensions can be reshaped",
                )
            strides = reshaped(self.shape[1:], self.strides[1:], wanted[1:])
            if strides is not None:
                strides = (self.strides[0], *strides)
        else:
            strides = reshaped(self.shape, self.strides, wanted)
        if strides is None:
            raise fail(
                "no view has this shape: the elements do not follow each other in memory",
                tile=self,
                given=list(wanted),
                fix="copy the tile first",
            )
        return self._like(wanted, strides, self.offset)

    def rearrange(
        self,
        src_pattern: Sequence[str | Sequence[str]],
        dst_pattern: Sequence[str | Sequence[str]],
        fixed_sizes: dict[str, int] | None = None,
    ) -> Tile:
        """Split, reorder and merge by named dimensions: t.rearrange(('b', ('h', 'w')), ('b', 'w', 'h'), {'h': 4})."""
        known = dict(fixed_sizes or {})
        names: list[str] = []
        shape: list[int] = []
        strides: list[int] = []
        if len(src_pattern) != self.ndim:
            raise fail("the pattern names another number of dimensions", tile=self, given=src_pattern)
        for d, part in enumerate(src_pattern):
            members = [part] if isinstance(part, str) else list(part)
            sizes = [known.get(m, -1) for m in members]
            if len(members) == 1:
                sizes = [self.shape[d]]
            split = self.reshape_dim(d, sizes) if len(members) > 1 else None
            source = split if split is not None else self
            names += members
            shape += list(source.shape[d : d + len(members)])
            strides += list(source.strides[d : d + len(members)])
        out_shape: list[int] = []
        out_strides: list[int] = []
        used: list[str] = []
        for part in dst_pattern:
            members = [part] if isinstance(part, str) else list(part)
            used += members
            at = [names.index(m) for m in members]
            merged = reshaped(
                tuple(shape[i] for i in at), tuple(strides[i] for i in at), (math.prod(shape[i] for i in at),)
            )
            if merged is None:
                raise fail(
                    "no view has this arrangement: the merged dimensions do not follow each other",
                    tile=self,
                    given=dst_pattern,
                    fix="copy the tile first",
                )
            out_shape.append(math.prod(shape[i] for i in at))
            out_strides += merged
        if sorted(used) != sorted(names):
            raise fail("both patterns must name the same dimensions", tile=self, given=dst_pattern)
        if self.on_chip and out_strides[0] != self.strides[0]:
            self._free(0, "move")
        return self._like(out_shape, out_strides, self.offset)

    def view(self, dtype: object) -> Tile:
        """The same bytes as another dtype; the last dimension grows or shrinks with the size of an element."""
        d = device_dtype(dtype, "a view")
        old, new = self.dtype.itemsize, d.itemsize
        if old == new:
            return view_of(storage_of(self), d, self.shape, self.strides, self.offset, self.dynamic)
        if self.strides[-1] != 1 and self.shape[-1] != 1:
            raise fail("view with another element size needs a contiguous last dimension", tile=self)
        shape, strides = list(self.shape), list(self.strides)
        if new < old:
            k = old // new
            shape[-1] *= k
            return view_of(
                storage_of(self),
                d,
                tuple(shape),
                tuple([s * k for s in strides[:-1]] + [1]),
                self.offset * k,
                self.dynamic,
            )
        k = new // old
        if (
            shape[-1] % k
            or self.offset % k
            or any(s % k for s, n in zip(strides[:-1], shape[:-1], strict=True) if n > 1)
        ):
            raise fail(f"view as {d} needs sizes, strides and offset divisible by {k}", tile=self)
        shape[-1] //= k
        return view_of(
            storage_of(self),
            d,
            tuple(shape),
            tuple([s // k for s in strides[:-1]] + [1]),
            self.offset // k,
            self.dynamic,
        )

    reinterpret_cast = view

    def ap(
        self,
        pattern: Sequence[Sequence[SupportsInt]],
        offset: SupportsInt | None = None,
        scalar_offset: Place | None = None,
        vector_offset: Tile | None = None,
        indirect_dim: int = 0,
        dtype: object = None,
    ) -> Tile:
        """An access pattern of one's own: [[stride, count], ...] in elements, from the view's first element plus
        `offset`.

        scalar_offset (register, integer or one-element tile) and vector_offset ([P, 1] tile, HBM only) are read when
        the instruction runs, and count steps along `indirect_dim` of this view.
        """
        d = self.dtype if dtype is None else as_dtype(dtype)
        base = self.offset
        if d.itemsize != self.dtype.itemsize:
            base = base * self.dtype.itemsize // d.itemsize
        strides: list[int] = []
        shape: list[int] = []
        for stride, n in pattern:
            strides.append(int(stride))
            shape.append(int(n))
            if shape[-1] < 1:
                raise fail(
                    "a pattern counts at least one element per dimension",
                    tile=self,
                    given=[list(map(int, p)) for p in pattern],
                )
        step = int(offset) if offset is not None else 0
        s = storage_of(self)
        if s.space != "H" and shape and shape[0] > 1:
            strides[0], step = self._partition_step(d, strides[0], step)
        start = base + step
        if s.space != "H" and scalar_offset is None:
            row = s.row_B // d.itemsize
            reach = start % row + sum((n - 1) * x for x, n in zip(strides[1:], shape[1:], strict=True)) if row else 0
            if reach >= row and any(n > 1 for n in shape[1:]):
                return self._overrun(d, tuple(shape), tuple(strides), start, reach, row)
        dynamic = self.dynamic
        if scalar_offset is not None or vector_offset is not None:
            if scalar_offset is not None and vector_offset is not None:
                raise fail("scalar_offset and vector_offset exclude each other", tile=self)
            dim = self._dim(indirect_dim)
            scale = (
                math.prod(self.shape[dim + 1 :]) if self.is_contiguous() else self.strides[dim]
            ) * self.dtype.itemsize
            if s.space != "H":
                scale = self.strides[dim] * self.dtype.itemsize
            if vector_offset is not None:
                if s.space != "H":
                    raise fail("vector_offset reaches HBM tensors only", tile=self)
                dynamic = Dynamic("vector", vector_offset, scale, self.shape[dim])
            else:
                if isinstance(scalar_offset, NkiScalar):
                    self._offset_by(scalar_offset)
                dynamic = Dynamic("scalar", scalar_offset, scale, self.shape[dim])
        return view_of(s, d, tuple(shape), tuple(strides), start, dynamic)

    def _offset_by(self, scalar: NkiScalar) -> None:
        """Raise where a scalar cannot be an offset into this memory."""
        if scalar.is_comparison or (scalar.dtype.bits > 32 and self.on_chip):
            raise fail(
                "scalar_offset",
                tile=self,
                given="the result of a comparison" if scalar.is_comparison else f"a scalar of {scalar.dtype}",
                allowed="a scalar of int32" + ("" if self.on_chip else ", or of int64"),
            )

    def _partition_step(self, d: DType, stride: int, offset: int) -> tuple[int, int]:
        """Partition stride and offset of a pattern in elements of the allocation. A stride that steps through a row but
        counts whole rows of this view (columns of a wider tile) means partitions of the view."""
        s = storage_of(self)
        row = s.row_B // d.itemsize
        own = math.prod(self.shape[1:]) * self.dtype.itemsize // d.itemsize
        if not row or not own or stride % row == 0 or stride % own or not self.is_contiguous():
            return stride, offset
        pitch = self.strides[0] * self.dtype.itemsize // d.itemsize
        partition, column = divmod(offset, own)
        return stride // own * pitch, partition * pitch + column

    def _overrun(
        self, d: DType, shape: tuple[int, ...], strides: tuple[int, ...], start: int, reach: int, row: int
    ) -> Tile:
        """A pattern that leaves its partition. Kernels make such views that they never use, so it is judged where it is
        read."""
        return view_of(storage_of(self), d, shape, strides, start, Dynamic("overrun", reach, d.itemsize, row))

    def indirect(self, index: Tile, num_elem: int | None = None) -> Tile:
        """Columns of an on-chip tile at offsets read from `index` when the instruction runs (v4): shape [P,
        num_elem]."""
        if storage_of(self).core.generation < 4:
            raise fail("tensor indirection needs NeuronCore-v4", tile=self)
        if not self.on_chip or index.shape[0] != self.shape[0]:
            raise fail("indirect needs an on-chip tile and an index of the same number of partitions", tile=self)
        count = index.size if num_elem is None else int(num_elem)
        out = self._like((self.shape[0], count), (self.strides[0], 1), self.offset)
        group = storage_of(self).core.limits.gpsimd_group
        return _at_run_time(out, Dynamic("columns", index, self.dtype.itemsize, math.prod(self.shape[1:]), group))


_THROUGH_INSTRUCTIONS = "nisa.dma_copy and nisa.memset write, nisa.tensor_copy moves, nl.device_print shows"
_HOST_WORDS = frozenset(
    ("write", "read", "numpy", "array", "storage", "f32", "bytes", "item", "tolist", "tobytes", "fill")
)
"""Attributes by which kernels have tried to get at the values of a tile on the host."""


def host_fix(name: str) -> str | None:
    """What to do instead, where an attribute that a tile does not have would lead to its values on the host."""
    return _THROUGH_INSTRUCTIONS if name.lstrip("_") in _HOST_WORDS else None


# what the simulator alone has
# ----------------------------------------------------------------------------------------------------------------


class _Fields:
    """A tile while it is made: the same slots, which can be set. A tile becomes one (`Tile`) when they are."""

    __slots__ = Tile.__slots__
    _array: Array | None
    _written: Array | None
    access: ViewAccess | None
    dtype: DType
    dynamic: Dynamic | None
    is_truth: bool
    like: Tile | None
    offset: int
    shape: tuple[int, ...]
    size: int
    storage: Storage
    strides: tuple[int, ...]


storage_of: Callable[[Tile], Storage] = vars(Tile)["storage"].__get__
"""The allocation of a tile."""
_array_of: Callable[[Tile], Array | None] = vars(Tile)["_array"].__get__
_keep_array: Callable[[Tile, Array | None], None] = vars(Tile)["_array"].__set__
keep_access: Callable[[Tile, ViewAccess | None], None] = vars(Tile)["access"].__set__
"""Note what `issue` found out about a tile."""
mark_truth: Callable[[Tile, bool], None] = vars(Tile)["is_truth"].__set__
"""Note whether a tile is the result of a comparison in the convenience layer."""
_written_of: Callable[[Tile], Array | None] = vars(Tile)["_written"].__get__
_keep_written: Callable[[Tile, Array | None], None] = vars(Tile)["_written"].__set__
_set_dynamic: Callable[[Tile, Dynamic], None] = vars(Tile)["dynamic"].__set__
del Tile.storage, Tile._array, Tile._written  # type: ignore[attr-defined]


def view_of(
    storage: Storage,
    dtype: DType,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
    dynamic: Dynamic | None = None,
    size: int = -1,
) -> Tile:
    """A tile of an allocation; see `Tile`. size: its elements, where the caller knows them."""
    made = _Fields()
    made.storage = storage
    made.dtype = dtype
    made.shape = shape
    made.strides = strides
    made.offset = offset
    made.dynamic = dynamic
    made.is_truth = False
    made.size = math.prod(shape) if size < 0 else size
    made._array = made._written = made.access = made.like = None
    made.__class__ = Tile  # type: ignore[assignment]
    return made  # type: ignore[return-value]


def views_again(tile: Tile, common: Storage, numbers: Iterable[int]) -> list[Tile]:
    """Such views of other allocations, in a run without values: of those that are `common` but for their numbers.
    Loops make them by the hundred."""
    like = tile.first
    dtype, shape, strides, offset, size = tile.dtype, tile.shape, tile.strides, tile.offset, tile.size
    out = []
    for number in numbers:
        made = _Fields()
        made.storage = RepeatedStorage(common, number)
        made.dtype = dtype
        made.shape = shape
        made.strides = strides
        made.offset = offset
        made.size = size
        made.like = like
        made.dynamic = made._array = made._written = made.access = None
        made.is_truth = False
        made.__class__ = Tile  # type: ignore[assignment]
        out.append(made)
    return out  # type: ignore[return-value]


def _at_run_time(tile: Tile, dynamic: Dynamic) -> Tile:
    """A new view, with an offset that is read when the instruction runs."""
    _set_dynamic(tile, dynamic)
    return tile


def forget_elements(tile: Tile) -> None:
    """The bytes of a tile were moved elsewhere."""
    _keep_array(tile, None)
    _keep_written(tile, None)


def tile_elements(tile: Tile) -> Array:
    """The elements as a NumPy view of the memory. Raises where the pattern leaves the allocation."""
    found = _array_of(tile)
    if found is None:
        found = _elements(tile, storage_of(tile))
        _keep_array(tile, found)
    return found


def _elements(tile: Tile, s: Storage) -> Array:
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


def whole_view(tile: Tile) -> Tile:
    """All of the allocation of a tile, as [partitions, elements of its format]."""
    s, row = storage_of(tile), tile.row_elements
    return view_of(s, tile.dtype, (s.parts, row), (row, 1))


def known_to_host(tile: Tile) -> None:
    """Raise where a kernel reads data of the device for its control flow in a run without values."""
    s = storage_of(tile)
    if not s.core.values and s.owner is None:
        raise fail(
            "control flow that reads data of the device cannot be timed without values",
            tile=tile,
            fix="run with values=True (--values)",
        )


def read_tile(tile: Tile) -> Array:
    """Elements as stored, for an instruction: checks that they were written."""
    found = _written_of(tile)
    if found is not None:
        return found
    if tile.dynamic is not None:
        return _gather(tile)
    s = storage_of(tile)
    if s.state != ALL:
        s.check(tile)
        return tile_elements(tile)
    found = _elements(tile, s)
    _keep_written(tile, found)
    return found


def tile_f32(tile: Tile) -> NDArray[np.float32]:
    """Elements as float32, for an instruction."""
    a = read_tile(tile)
    if a.dtype == F32:
        return a
    f = to_f32(a, tile.dtype)
    core = storage_of(tile).core
    if core.looks and integers.is_wide(tile.dtype):
        integers.note_rounding(core, "an operand", a.astype(np.int64), f, tile)
    return f


def write_tile(tile: Tile, values: ArrayLike) -> None:
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


def static_view(tile: Tile) -> Tile | None:
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
    return view_of(s, tile.dtype, tile.shape, tile.strides, offset)


_PLAIN = (int, slice, type(Ellipsis), np.int64, np.int32)


def host_value(index: Place) -> int:
    """The same for Python: where a view begins, or a loop that is unrolled ends. Raises for what has no value there."""
    return index.on_host() if isinstance(index, DeviceNumber) else scalar_value(index)


def scalar_value(index: Place) -> int:
    """A register, a scalar, an integer or a one-element tile -> int, for an instruction."""
    if type(index) is int:
        return index
    if isinstance(index, DeviceNumber):
        return index.read()
    if isinstance(index, Tile):
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


def _fancy_index(tile: Tile, keys: tuple[object, ...]) -> Tile:
    """Indices that are registers, run-time slices, booleans of new axes, or arrays of indices."""
    plain: list[object] = []
    arrays = False
    for k in keys:
        if isinstance(k, DynamicSlice):
            start = host_value(k.start)
            plain.append(slice(start, start + int(k.size) * k.step, k.step))
        elif isinstance(k, DeviceNumber):
            plain.append(host_value(k))
        elif isinstance(
            k, range
        ):  # an index that a loop of one instruction would go through: `x[nl.affine_range(128)]`
            plain.append(slice(k.start, k.stop, k.step))
        elif isinstance(k, slice):
            plain.append(slice(*(None if x is None else host_value(x) for x in (k.start, k.stop, k.step))))
        elif isinstance(k, int | np.integer) and not isinstance(k, bool):
            plain.append(int(k))  # as a plain number: this function is for kinds that are not
        elif k is Ellipsis:
            plain.append(k)
        elif k is None:
            return _new_axes(tile, keys)
        elif isinstance(k, Tile) and k.size == 1:
            plain.append(scalar_value(k))
        elif isinstance(k, np.ndarray):
            arrays = True
            plain.append(k)
        else:
            raise fail(
                f"cannot index a tile with {type(k).__name__}", tile=tile, allowed="integers, slices, nl.ds, registers"
            )
    if arrays:
        return index_tile(tile, tuple(plain))
    return tile[tuple(plain)]


def _new_axes(tile: Tile, keys: tuple[object, ...]) -> Tile:
    out = tile[tuple(k for k in keys if k is not None)]
    at = 0
    for k in keys:
        if k is None:
            out = out._like(
                (*out.shape[:at], 1, *out.shape[at:]), (*out.strides[:at], 0, *out.strides[at:]), out.offset
            )
            at += 1
        elif not isinstance(k, int | np.integer) or (at == 0 and tile.on_chip):
            at += 1
    return out


def index_tile(tile: Tile, keys: tuple[object, ...]) -> Tile:
    """Arrays of indices, one per dimension, that broadcast together -> the view that they describe, when they are
    affine.

    Elements outside the tile may be named: a mask hides them (`core.mask`)."""
    if (views := storage_of(tile).core.views) is not None:
        views.append(None)  # where it reaches is not followed from iteration to iteration
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys = keys[:at] + (slice(None),) * (tile.ndim - len(keys) + 1) + keys[at + 1 :]
    keys = keys + (slice(None),) * (tile.ndim - len(keys))
    slices = [d for d, k in enumerate(keys) if isinstance(k, slice)]
    grids = [
        np.arange(*k.indices(n)) if isinstance(k, slice) else np.asarray(k)
        for k, n in zip(keys, tile.shape, strict=True)
    ]
    rank = max(g.ndim for d, g in enumerate(grids) if d not in slices)
    after = len(slices)
    if after:
        for j, d in enumerate(slices):
            grids[d] = grids[d].reshape(
                (1,) * (rank + j if d else 0) + (-1,) + (1,) * (after - 1 - j if d else rank + after - 1)
            )
        for d, k in enumerate(keys):
            if not isinstance(k, slice):
                if 0 in slices:
                    grids[d] = grids[d].reshape((1,) + grids[d].shape + (1,) * (after - 1))
                else:
                    grids[d] = grids[d].reshape(grids[d].shape + (1,) * after)
    address = np.asarray(tile.offset, np.int64)
    for g, s in zip(grids, tile.strides, strict=True):
        address = address + np.asarray(g, np.int64) * s
    shape = address.shape
    first = int(address.reshape(-1)[0]) if address.size else 0
    strides = []
    for axis, n in enumerate(shape):
        strides.append(int(np.take(address, 1, axis).reshape(-1)[0]) - first if n > 1 else 0)
    model = np.asarray(first, np.int64)
    for axis, (n, s) in enumerate(zip(shape, strides, strict=True)):
        model = model + (np.arange(n) * s).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
    if not np.array_equal(np.broadcast_to(model, shape), address):
        raise fail(
            "these indices are not an affine pattern", tile=tile, fix="use an indirect DMA, local_gather or nc_n_gather"
        )
    return tile._like(shape, strides, first)


def _infer(shape: tuple[int, ...], size: int, tile: Tile) -> tuple[int, ...]:
    if -1 in shape:
        rest = -math.prod(shape)
        if rest and size % rest == 0:
            shape = tuple(size // rest if n == -1 else n for n in shape)
    if math.prod(shape) != size or -1 in shape:
        raise fail("the number of elements must stay", tile=tile, given=list(shape), allowed=f"{size} elements")
    return shape


def same(a: Tile, b: Tile) -> bool:
    """The same elements of the same allocation."""
    return (
        storage_of(a) is storage_of(b)
        and a.offset == b.offset
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype is b.dtype
        and a.dynamic is b.dynamic
    )


def merged(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(count, stride) of the fewest axes that walk the same elements in the same order."""
    out: list[tuple[int, int]] = []
    for n, s in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if out and (out[-1][1] == n * s):
            out[-1] = (out[-1][0] * n, s)
        else:
            out.append((n, s))
    return out


def reshaped(shape: Sequence[int], strides: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of a view with the wanted shape, or None where the layout does not allow one."""
    out = [0] * len(wanted)
    i = len(wanted) - 1
    for n, s in reversed(merged(shape, strides)):
        step, left = s, n
        while left > 1:
            if i < 0:
                return None
            w = wanted[i]
            if w == 1:
                out[i] = step
                i -= 1
                continue
            if left % w:
                return None
            out[i] = step
            step *= w
            left //= w
            i -= 1
    while i >= 0:
        if wanted[i] != 1:
            return None
        out[i] = out[i + 1] * wanted[i + 1] if i + 1 < len(wanted) else 1
        i -= 1
    return tuple(out)


# run-time offsets
# ----------------------------------------------------------------------------------------------------------


def addresses(tile: Tile) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Element addresses in the allocation of a view with a run-time offset, and which rows are in bounds ([rows] along
    dimension 0)."""
    dyn = tile.dynamic
    assert dyn is not None
    size = tile.dtype.itemsize
    total = storage_of(tile).parts * storage_of(tile).row_B // size
    if dyn.kind == "columns":
        return _columns(tile, dyn)
    rest = np.zeros((), np.int64)
    for axis in range(1, tile.ndim):
        rest = rest + (np.arange(tile.shape[axis], dtype=np.int64) * tile.strides[axis]).reshape(
            (-1,) + (1,) * (tile.ndim - 1 - axis)
        )
    rest = np.broadcast_to(rest, tile.shape[1:])
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
    return start.reshape((-1,) + (1,) * (tile.ndim - 1)) + rest[None], good


def _numbers(dyn: Dynamic) -> Tile:
    """The tile of a run-time offset that has many numbers."""
    assert isinstance(dyn.index, Tile)
    return dyn.index


def _columns(tile: Tile, dyn: Dynamic) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
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


def flat_elements(tile: Tile) -> Array:
    """All elements of the allocation in one row, as the tile's dtype (allocations with bytes of their own only)."""
    s = storage_of(tile)
    if s.pitch_B != s.row_B:
        raise fail("run-time offsets are not supported on tiles with a manual address yet", tile=tile)
    usable = len(s.bytes) // tile.dtype.itemsize * tile.dtype.itemsize
    return s.bytes[:usable].view(tile.dtype.dtype)


def _gather(tile: Tile) -> Array:
    dyn = tile.dynamic
    assert dyn is not None
    if dyn.kind == "scalar":
        found = static_view(tile)
        if found is None:
            raise out_of_bounds(tile)
        return tile_elements(found)
    if dyn.kind == "overrun":
        return _past_the_end(tile, dyn)
    where, good = addresses(tile)
    if not good.all():
        raise out_of_bounds(tile)
    if storage_of(tile).pitch_B != storage_of(tile).row_B:
        whole = tile_elements(whole_view(tile))
        return whole[where // tile.row_elements, where % tile.row_elements]
    return flat_elements(tile)[where]


_OVERRUN = "access pattern runs past the end of the partition"


def _overruns(tile: Tile, dyn: Dynamic) -> Exception:
    return fail(
        _OVERRUN,
        tile=tile,
        given=f"element {dyn.index} of a row",
        allowed=f"0 .. {dyn.bound - 1}",
        fix="only the first [stride, count] pair may step across partitions",
    )


def _past_the_end(tile: Tile, dyn: Dynamic) -> Array:
    """Elements of a pattern that leaves its partitions: an error in strict runs, else NaN there, where the chip reads
    other data."""
    row, core, d = dyn.bound, storage_of(tile).core, tile.dtype
    if core.strict or tile.strides[0] % row or not d.is_float:
        raise _overruns(tile, dyn)
    core.warn("overrun", f"{_OVERRUN}: {tile.describe()}, element {dyn.index} of {row}; the chip reads what lies there")
    first, column = divmod(tile.offset, row)
    free = np.full((), column, np.int64)
    for axis in range(1, tile.ndim):
        free = free + (np.arange(tile.shape[axis]) * tile.strides[axis]).reshape((-1,) + (1,) * (tile.ndim - 1 - axis))
    whole = tile_elements(whole_view(tile))
    rows = whole[first : first + tile.shape[0] * (tile.strides[0] // row) : tile.strides[0] // row]
    out = rows[:, np.minimum(free, row - 1).reshape(-1)]
    out.view(f"u{tile.dtype.itemsize}")[:, (free >= row).reshape(-1)] = (1 << 8 * tile.dtype.itemsize) - 1
    return out.reshape(tile.shape)


def _scatter(tile: Tile, values: ArrayLike) -> None:
    dyn = tile.dynamic
    assert dyn is not None
    if dyn.kind == "overrun":
        raise _overruns(tile, dyn)
    if dyn.kind == "scalar":
        found = static_view(tile)
        if found is None:
            raise out_of_bounds(tile)
        write_tile(found, values)
        return
    where, good = addresses(tile)
    if not good.all():
        raise out_of_bounds(tile)
    s = storage_of(tile)
    if s.state != ALL:
        if not s.filled:
            s.fill()
        s.whole()
    made = cast(np.asarray(values), tile.dtype)
    if s.core.observed is not None:
        overflow.look(s.core, np.asarray(values), made, tile.dtype)
    values = made
    if values.shape != where.shape and values.size == where.size:
        values = values.reshape(where.shape)
    if s.pitch_B != s.row_B:
        whole = tile_elements(whole_view(tile))
        whole[where // tile.row_elements, where % tile.row_elements] = values
        return
    flat_elements(tile)[where] = values


def out_of_bounds(tile: Tile) -> Exception:
    """The error for a run-time index that leaves the tensor."""
    dyn = tile.dynamic
    index = dyn.index if dyn is not None else None
    shown = read_tile(index).reshape(-1)[:8].tolist() if isinstance(index, Tile) else index
    return fail(
        "out-of-bounds access by a run-time offset",
        tile=tile,
        given=shown,
        allowed=f"0 .. {dyn.bound - 1 if dyn else 0}",
        fix="or oob_mode=oob_mode.skip to leave such rows out",
    )


# allocation
# ----------------------------------------------------------------------------------------------------------------


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a contiguous tensor."""
    out = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        out[i] = out[i + 1] * shape[i + 1]
    return tuple(out)
