"""Tiles: what a kernel holds of an allocation, and may do with it: index it, and see its elements in another order or
shape.

Each view is made of another by a change of its box (`boxes`); values reach it through instructions (`access`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NoReturn, SupportsInt

import numpy as np

from mowich.neuroncore.access import (
    Access,
    AccessFields,
    Dynamic,
    Place,
    host_value,
    made_as,
    scalar_value,
    set_dynamic,
    storage_of,
)
from mowich.neuroncore.boxes import AffineBox, aligned, box_of, completed, reshaped, row_major
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType, as_dtype
from mowich.neuroncore.memory import RepeatedStorage, Storage, device_dtype
from mowich.neuroncore.registers import DeviceNumber, NkiScalar
from mowich.neuroncore.trace import NotedView, ViewBound


class DynamicSlice:
    """`nl.ds(start, size)`: `size` elements from `start`, which may be a register."""

    __slots__ = ("size", "start", "step")

    def __init__(self, start: Place, size: int, step: int = 1) -> None:
        self.start, self.size, self.step = start, size, step


class Tile(Access):
    """A view of an allocation, as a kernel holds it; see `Access`. It has no attribute that leads to its elements, and
    none that can be set."""

    __slots__ = ()
    like: Tile | None

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

    @property
    def data(self) -> Tile:
        """The tensor as the operand of an instruction: itself. A grid of tiles has the same (NKI 0.7)."""
        return self

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

    # views
    # -------------------------------------------------------------------------------------------------------------
    def _like(self, shape: Iterable[int], strides: Iterable[int], offset: int) -> Tile:
        return view_of(storage_of(self), self.dtype, tuple(shape), tuple(strides), offset, self.dynamic)

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
        shape: list[int] = []
        strides: list[int] | None = None  # those of the tile, so far
        at, d, size = self.offset, 0, 1
        storage = storage_of(self)
        for k, n, s in zip(keys, self.shape, self.strides):  # noqa: B905 - dimensions without an index stay
            kind = type(k)
            if kind is slice:
                start, stop, step = k.start, k.stop, k.step
                if start is None:
                    start = 0
                if stop is None:
                    stop = n
                if step is None and type(start) is int and type(stop) is int and 0 <= start <= stop <= n:
                    shape.append(count := stop - start)
                    if strides is not None:
                        strides.append(s)
                elif self._are_plain(keys):
                    start, stop, step = self._bounds(start, stop, step, d)
                    shape.append(count := (stop - start + step - 1) // step)
                    strides = [*(self.strides[:d] if strides is None else strides), s * step]
                else:
                    break
                size *= count
                at += start * s
            elif kind in _PLAIN:
                i = int(k)
                if not -n <= i < n:
                    if not self._are_plain(keys):
                        break
                    raise out_of_range(self, f"index {i} along dimension {d}", n - 1)
                at += (i + n if i < 0 else i) * s
                if strides is None:
                    strides = [*self.strides[:d]]
                if not d and storage.space != "H":
                    shape.append(1)
                    strides.append(s)
            else:
                break
            d += 1
        if len(keys) != d:
            return _fancy_index(self, keys)
        if len(self.shape) != d:
            shape += self.shape[d:]
            size = -1
            if strides is not None:
                strides += self.strides[d:]
        if (views := storage.core.views) is not None:
            views.append(NotedView(keys, self.shape))
        if strides is None:
            return view_of(storage, self.dtype, tuple(shape), self.strides, at, self.dynamic, size)
        while len(shape) < (1 if storage.space == "H" else 2):
            shape.append(1)
            strides.append(1)
        return view_of(storage, self.dtype, tuple(shape), tuple(strides), at, self.dynamic, size)

    def _are_plain(self, keys: tuple[object, ...]) -> bool:
        """Whether indices are numbers and slices, and not too many."""
        return len(keys) <= len(self.shape) and _PLAIN.issuperset(map(type, keys))

    def _bounds(
        self, start: SupportsInt, stop: SupportsInt, step: SupportsInt | None, dim: int
    ) -> tuple[int, int, int]:
        """Bounds and step of a slice, from the first element on."""
        n, first, end, by = self.shape[dim], int(start), int(stop), 1 if step is None else int(step)
        first, end = first + n * (first < 0), end + n * (end < 0)
        if by < 1 or first < 0 or end > n or first > end:
            raise fail(
                "out-of-bounds access" if end > n or first < 0 else "backward slice",
                tile=self,
                given=f"[{first}:{end}:{by}] along dimension {dim}",
                allowed=f"0 .. {n}",
                fix="bound the slice with min(), or allocate a larger tile",
            )
        return first, end, by

    def __setitem__(self, key: object, value: object) -> None:
        Tile.assign(self[key], value)

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> Tile:
        """Elements start .. end (exclusive) of one dimension."""
        dim = self._dim(dim)
        start, end, step = int(start), int(end), int(step)
        if not 0 <= start < end <= self.shape[dim] or step < 1:
            raise out_of_range(self, f"slice({dim}, {start}, {end}, {step})", self.shape[dim])
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
        if isinstance(index, Access | DeviceNumber):
            if self.dynamic is not None:
                raise fail("a view can have one run-time offset only", tile=self)
            if self.on_chip and dim == 0:
                raise fail("cannot select partitions at run time", tile=self)
            found = Dynamic("scalar", index, self.strides[dim] * self.dtype.itemsize, self.shape[dim])
            return self._without(dim, self.offset)._at_least()._at_run_time(found)
        self._static(dim)
        i = int(index)
        if not 0 <= i < self.shape[dim]:
            raise out_of_range(self, f"select({dim}, {i})", self.shape[dim] - 1)
        self._note(dim, i)
        if dim == 0 and self.on_chip:
            return self.slice(0, i, i + 1)
        return self._without(dim, self.offset + i * self.strides[dim])._at_least()

    def _without(self, dim: int, offset: int) -> Tile:
        """The dimensions but one."""
        shape, strides = self.shape, self.strides
        return self._like(shape[:dim] + shape[dim + 1 :], strides[:dim] + strides[dim + 1 :], offset)

    def _at_run_time(self, dynamic: Dynamic) -> Tile:
        """This view, which is new, with an offset that is read when the instruction runs."""
        set_dynamic(self, dynamic)
        return self

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
        found = Dynamic("vector", vector_offset, self.strides[0] * self.dtype.itemsize, self.shape[0])
        return self._like(shape, self.strides, self.offset)._at_run_time(found)

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
        return self._without(dim, self.offset)

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
        known = fixed_sizes or {}
        source, target = ([[p] if isinstance(p, str) else list(p) for p in part] for part in (src_pattern, dst_pattern))
        if len(source) != self.ndim:
            raise fail("the pattern names another number of dimensions", tile=self, given=src_pattern)
        if sorted(m for members in target for m in members) != sorted(m for members in source for m in members):
            raise fail("both patterns must name the same dimensions", tile=self, given=dst_pattern)
        parts: dict[str, tuple[int, int]] = {}
        for d, members in enumerate(source):
            split = self.reshape_dim(d, [known.get(m, -1) for m in members]) if len(members) > 1 else self
            parts |= zip(members, zip(split.shape[d:], split.strides[d:], strict=True), strict=False)
        out_shape: list[int] = []
        out_strides: list[int] = []
        for members in target:
            shape = [parts[m][0] for m in members]
            merged = reshaped(shape, [parts[m][1] for m in members], (math.prod(shape),))
            if merged is None:
                raise fail(
                    "no view has this arrangement: the merged dimensions do not follow each other",
                    tile=self,
                    given=dst_pattern,
                    fix="copy the tile first",
                )
            out_shape.append(math.prod(shape))
            out_strides += merged
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
        rest = self.strides[:-1]
        if new < old:
            k = old // new
            shape, strides, offset = self.shape[-1] * k, [s * k for s in rest], self.offset * k
        else:
            k = new // old
            moved = [s for s, n in zip(rest, self.shape, strict=False) if n > 1]
            if any(n % k for n in (self.shape[-1], self.offset, *moved)):
                raise fail(f"view as {d} needs sizes, strides and offset divisible by {k}", tile=self)
            shape, strides, offset = self.shape[-1] // k, [s // k for s in rest], self.offset // k
        return view_of(storage_of(self), d, (*self.shape[:-1], shape), (*strides, 1), offset, self.dynamic)

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
            if reach >= row and any(n > 1 for n in shape[1:]):  # judged where it is read: kernels make some in vain
                overrun = Dynamic("overrun", reach, d.itemsize, row)
                return view_of(s, d, tuple(shape), tuple(strides), start, overrun)
        dynamic = self.dynamic
        if scalar_offset is not None or vector_offset is not None:
            if scalar_offset is not None and vector_offset is not None:
                raise fail("scalar_offset and vector_offset exclude each other", tile=self)
            dim = self._dim(indirect_dim)
            is_dense = s.space == "H" and self.is_contiguous()
            scale = (math.prod(self.shape[dim + 1 :]) if is_dense else self.strides[dim]) * self.dtype.itemsize
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

    def indirect(self, index: Tile, num_elem: int | None = None) -> Tile:
        """Columns of an on-chip tile at offsets read from `index` when the instruction runs (v4): shape [P,
        num_elem]."""
        if storage_of(self).core.generation < 4:
            raise fail("tensor indirection needs NeuronCore-v4", tile=self)
        if not self.on_chip or index.shape[0] != self.shape[0]:
            raise fail("indirect needs an on-chip tile and an index of the same number of partitions", tile=self)
        count = index.size if num_elem is None else int(num_elem)
        group = storage_of(self).core.limits.gpsimd_group
        found = Dynamic("columns", index, self.dtype.itemsize, math.prod(self.shape[1:]), group)
        return self._like((self.shape[0], count), (self.strides[0], 1), self.offset)._at_run_time(found)


def out_of_range(tile: Tile, given: str, most: int) -> Exception:
    """The error for an index that leaves a tile. most: the largest that does not."""
    return fail("out-of-bounds access", tile=tile, given=given, allowed=f"0 .. {most}")


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

view_of = functools.partial(made_as, Tile)
"""A tile of an allocation; see `access.made_as`."""


def views_again(tile: Tile, common: Storage, numbers: Iterable[int]) -> list[Tile]:
    """Such views of other allocations, in a run without values: of those that are `common` but for their numbers.
    Loops make them by the hundred."""
    like = tile.first
    dtype, shape, strides, offset, size = tile.dtype, tile.shape, tile.strides, tile.offset, tile.size
    out = []
    for number in numbers:
        made = AccessFields()
        made.storage = RepeatedStorage(common, number)
        made.dtype = dtype
        made.shape = shape
        made.strides = strides
        made.offset = offset
        made.size = size
        made.like = like
        made.dynamic = made._array = made.access = None
        made.is_truth = False
        made.__class__ = Tile
        out.append(made)
    return out


_PLAIN = frozenset((int, slice, np.int64, np.int32))


def _fancy_index(tile: Tile, keys: tuple[object, ...]) -> Tile:
    """Indices that are registers, run-time slices, dots, new axes, or arrays of indices."""
    plain: list[object] = []
    arrays = False
    if any(k is Ellipsis for k in keys):
        keys = completed(keys, tile.ndim)
    for k in keys:
        if isinstance(k, DynamicSlice):
            start = host_value(k.start)
            plain.append(slice(start, start + int(k.size) * k.step, k.step))
        elif isinstance(k, DeviceNumber):
            plain.append(host_value(k))
        elif isinstance(k, range):  # one that a loop of one instruction would go through: `x[nl.affine_range(128)]`
            plain.append(slice(k.start, k.stop, k.step))
        elif isinstance(k, slice):
            plain.append(slice(*(None if x is None else host_value(x) for x in (k.start, k.stop, k.step))))
        elif isinstance(k, int | np.integer) and not isinstance(k, bool):
            plain.append(int(k))  # as a plain number: this function is for kinds that are not
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
    if len(plain) > tile.ndim:
        raise fail(f"{len(plain)} indices for {tile.ndim} dimensions", tile=tile)
    if arrays:
        return _index_by_arrays(tile, tuple(plain))
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


def _index_by_arrays(tile: Tile, keys: tuple[object, ...]) -> Tile:
    """Arrays of indices, one per dimension, that broadcast together -> the view that they describe, when they are
    affine.

    Elements outside the tile may be named: a mask hides them."""
    if (views := storage_of(tile).core.views) is not None:
        views.append(None)  # where it reaches is not followed from iteration to iteration
    address = np.asarray(tile.offset, np.int64)
    for g, s in zip(aligned(completed(keys, tile.ndim), tile.shape), tile.strides, strict=True):
        address = address + g * s
    found = box_of(address) if address.size else AffineBox(address.shape, (0,) * address.ndim, 0)
    if found is None:
        raise fail(
            "these indices are not an affine pattern", tile=tile, fix="use an indirect DMA, local_gather or nc_n_gather"
        )
    return tile._like(*found)


def _infer(shape: tuple[int, ...], size: int, tile: Tile) -> tuple[int, ...]:
    if -1 in shape:
        rest = -math.prod(shape)
        if rest and size % rest == 0:
            shape = tuple(size // rest if n == -1 else n for n in shape)
    if math.prod(shape) != size or -1 in shape:
        raise fail("the number of elements must stay", tile=tile, given=list(shape), allowed=f"{size} elements")
    return shape
