"""Index expressions of the older front end: `nl.arange`, `nl.mgrid`, what is computed of them, and predicates.

Nearly all of them are affine: a start, and a step along each axis. These are kept as such (`Affine`), and inequalities
of them as `Condition`: shapes, bounds and strides follow without a look at their elements. Whatever else is computed of
them is an array (`IndexArray`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsInt, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore.boxes import AffineBox, box_ends, box_of, box_places, completed, sliced
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.trace import NotedView, ViewBound
from mowich.neuroncore.views import Tile, out_of_range

_ALL = slice(None)
Chosen: TypeAlias = "tuple[tuple[int, ...], tuple[int, ...], int]"
"""Shape, strides and offset of a box; a loop makes many, and a named tuple takes longer."""
Key: TypeAlias = "int | slice | Array | tuple[int | slice | Array | None, ...] | None"
"""What chooses elements of an index expression."""


class IndexArray(np.ndarray):
    """An index expression, or a predicate, as an array. `a and b` of predicates is not an error."""

    def __bool__(self) -> bool:
        return bool(self.reshape(-1)[0]) if self.size == 1 else True


def index(values: ArrayLike) -> IndexArray:
    """An array as index expression."""
    return np.asarray(values).view(IndexArray)


def _shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which shapes broadcast."""
    first = shapes[0]
    return first if all(s == first for s in shapes) else np.broadcast_shapes(*shapes)


def _spread(steps: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Steps along the last axes of an expression with `rank` axes."""
    return steps if len(steps) == rank else (0,) * (rank - len(steps)) + steps


class Symbol:
    """What `Affine` and `Condition` share: everything that they do not know themselves, their array does."""

    __slots__ = ()
    __array_priority__ = 100.0  # so that an operation of an array or a number of NumPy with one of these is done here
    shape: tuple[int, ...]

    def array(self) -> IndexArray:
        """The elements; repeated ones take no memory."""
        raise NotImplementedError

    def __array__(self, dtype: DTypeLike | None = None, copy: object = None) -> Array:
        a = np.asarray(self.array()).view(np.ndarray)
        return a if dtype is None else a.astype(dtype)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.array(), name)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.array())

    def __iter__(self) -> Iterator[object]:
        return iter(self.array())

    def __bool__(self) -> bool:
        return bool(self.array())

    def __repr__(self) -> str:
        return repr(self.array())

    def __getitem__(self, key: Key) -> IndexArray | Affine:
        return index(self.array()[key])


def plain_array(x: object) -> object:
    """An index expression or a predicate as an array; other values as they are."""
    return x.array() if isinstance(x, Symbol) else x


def _by_array(name: str, is_reversed: bool = False) -> Callable[[Symbol, object], Any]:
    """An operator on the elements; is_reversed: its first operand is not an index expression."""
    apply = getattr(operator, name)

    def call(self: Symbol, other: object) -> object:
        a, b = self.array(), plain_array(other)
        return apply(b, a) if is_reversed else apply(a, b)

    return call


class Condition(Symbol):
    """A predicate: all of some inequalities hold. bounds: for each its start and its steps, start + steps . position >=
    0."""

    __slots__ = ("bounds", "shape")

    def __init__(self, shape: tuple[int, ...], bounds: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
        self.shape, self.bounds = shape, bounds

    def holds(self) -> bool:
        """True where it holds for all elements."""
        return all(Affine(self.shape, start, steps).low >= 0 for start, steps in self.bounds)

    def array(self) -> IndexArray:
        """Whether it holds, for each element."""
        out = np.ones((1,) * len(self.shape), np.bool_)
        for start, steps in self.bounds:
            thin = tuple(n if s else 1 for n, s in zip(self.shape, steps, strict=True))
            out = out & (Affine(thin, start, steps).array().view(np.ndarray) >= 0)
        return np.broadcast_to(out, self.shape).view(IndexArray)

    def __and__(self, other: object) -> object:
        if not isinstance(other, Condition):
            return _by_array("and_")(self, other)
        shape = _shapes(self.shape, other.shape)
        return Condition(shape, tuple((s, _spread(t, len(shape))) for s, t in (*self.bounds, *other.bounds)))

    __or__, __xor__ = _by_array("or_"), _by_array("xor")
    __rand__, __ror__, __rxor__ = _by_array("and_", True), _by_array("or_", True), _by_array("xor", True)
    __mul__, __rmul__ = _by_array("mul"), _by_array("mul", True)
    __add__, __radd__ = _by_array("add"), _by_array("add", True)

    def __invert__(self) -> IndexArray:
        return ~self.array()


class Affine(Symbol):
    """An index expression: start + steps . position, a step for each axis of `shape`. low, high: its least and its
    greatest element."""

    __slots__ = ("high", "low", "shape", "start", "steps")
    __hash__ = None  # type: ignore[assignment]  # == compares elements

    def __init__(self, shape: tuple[int, ...], start: int, steps: tuple[int, ...]) -> None:
        if 1 in shape:  # no step along an axis of one element: it may be broadcast
            steps = tuple([0 if n == 1 else s for n, s in zip(shape, steps, strict=True)])
        self.shape, self.start, self.steps = shape, start, steps
        self.low, self.high = box_ends(shape, steps, start)

    def moved(self, by: int) -> Affine:
        """The expression + a number."""
        made = Affine.__new__(Affine)
        made.shape, made.steps = self.shape, self.steps
        made.start, made.low, made.high = self.start + by, self.low + by, self.high + by
        return made

    @property
    def dtype(self) -> np.dtype[np.int64]:
        """Format of the elements."""
        return np.dtype(np.int64)

    def array(self) -> IndexArray:
        """The elements; repeated ones take no memory."""
        return box_places(self.shape, self.steps, self.start).view(IndexArray)

    def __getitem__(self, key: Key) -> IndexArray | Affine:
        keys = key if isinstance(key, tuple) else (key,)
        if len(self.shape) == 1 and len(keys) == 2:
            if keys[1] is None and keys[0] == _ALL:
                return _stood(self.shape[0], self.start, self.steps[0], True)
            if keys[0] is None and keys[1] == _ALL:
                return _stood(self.shape[0], self.start, self.steps[0], False)
        plain: list[range | None] = []
        left = list(self.shape)
        for k in keys:
            if k is not None and not (isinstance(k, slice) and left):
                return index(self.array()[key])
            plain.append(None if k is None else range(*k.indices(left.pop(0))))
        shape, steps, start = sliced([*plain, *map(range, left)], self.steps, self.start)
        return Affine(shape, start, steps)

    def _plus(self, other: object, sign: int) -> object:
        """self + sign * other."""
        if isinstance(other, int | np.integer):
            return self.moved(sign * int(other))
        if isinstance(other, Affine):
            shape = _shapes(self.shape, other.shape)
            rank = len(shape)
            steps = zip(_spread(self.steps, rank), _spread(other.steps, rank), strict=True)
            return Affine(shape, self.start + sign * other.start, tuple(a + sign * b for a, b in steps))
        return _by_array("add" if sign > 0 else "sub")(self, other)

    def __add__(self, other: object) -> object:
        return self._plus(other, 1)

    def __sub__(self, other: object) -> object:
        return self._plus(other, -1)

    def __radd__(self, other: object) -> object:
        return self._plus(other, 1)

    def __rsub__(self, other: object) -> object:
        return (-self)._plus(other, 1)

    def __neg__(self) -> Affine:
        return self.scaled(-1)

    def scaled(self, k: int) -> Affine:
        """The expression times a number."""
        return Affine(self.shape, self.start * k, tuple(s * k for s in self.steps))

    def __mul__(self, other: object) -> object:
        if isinstance(other, int | np.integer):
            return self.scaled(int(other))
        return _by_array("mul")(self, other)

    __rmul__ = __mul__

    def _at_least(self, other: object, margin: int, sign: int, name: str) -> object:
        """sign * (self - other) >= margin."""
        found = self._plus(other, -1) if isinstance(other, Affine | int | np.integer) else None
        if not isinstance(found, Affine):
            return _by_array(name)(self, other)
        return Condition(found.shape, ((sign * found.start - margin, tuple(sign * s for s in found.steps)),))

    def __lt__(self, other: object) -> object:
        return self._at_least(other, 1, -1, "lt")

    def __le__(self, other: object) -> object:
        return self._at_least(other, 0, -1, "le")

    def __gt__(self, other: object) -> object:
        return self._at_least(other, 1, 1, "gt")

    def __ge__(self, other: object) -> object:
        return self._at_least(other, 0, 1, "ge")

    __eq__, __ne__ = _by_array("eq"), _by_array("ne")
    __floordiv__, __rfloordiv__ = _by_array("floordiv"), _by_array("floordiv", True)
    __truediv__, __rtruediv__ = _by_array("truediv"), _by_array("truediv", True)
    __mod__, __rmod__ = _by_array("mod"), _by_array("mod", True)
    __pow__, __rpow__ = _by_array("pow"), _by_array("pow", True)
    __and__, __or__, __xor__ = _by_array("and_"), _by_array("or_"), _by_array("xor")
    __lshift__, __rshift__ = _by_array("lshift"), _by_array("rshift")

    def __int__(self) -> int:
        return int(self.array())

    __index__ = __int__


@functools.lru_cache(1024)
def line(bounds: tuple[SupportsInt, ...]) -> Affine:
    """The numbers of a range."""
    numbers = range(*[int(b) for b in bounds])
    return Affine((len(numbers),), numbers.start, (numbers.step,))


@functools.lru_cache(1024)
def _stood(n: int, start: int, step: int, is_column: bool) -> Affine:
    """Numbers as a column, or as a row."""
    return Affine((n, 1), start, (step, 0)) if is_column else Affine((1, n), start, (0, step))


def affine(x: object) -> Affine | None:
    """An index expression, a number or an array of integers as `Affine`, None where it is none."""
    if isinstance(x, Affine):
        return x
    if isinstance(x, int | np.integer):
        return Affine((), int(x), ())
    if not isinstance(x, np.ndarray):
        return None
    a = np.asarray(x)
    found = box_of(a) if a.dtype.kind in "iu" else None
    return None if found is None else Affine(found.shape, found.offset, found.strides)


def is_condition(key: object) -> bool:
    """True for a predicate of indices, also of numbers."""
    return isinstance(key, Condition | bool | np.bool_) or (isinstance(key, IndexArray) and key.dtype == np.bool_)


def irregular() -> None:
    """Count an access that a mask cuts, or whose addresses follow no pattern: another iteration of its loop may be
    another."""
    core = machine.running()
    if core is not None:
        core.irregular += 1


def partial(mask: object) -> object:
    """A mask, or None where it leaves nothing out."""
    if mask is None or (mask.holds() if isinstance(mask, Condition) else bool(np.all(np.asarray(mask)))):
        return None
    irregular()
    return mask


def index_view(keys: Sequence[object], shape: Sequence[int], strides: Sequence[int], offset: int) -> Chosen | None:
    """(Shape, strides, offset) of what affine indices, one for each dimension, choose of a box; None where they are not
    affine, or leave it.

    As NumPy has it: arrays broadcast together; a slice of dimension 0 stays in front of them, others come behind.
    """
    if len(keys) == 2:
        a, b = keys
        if type(a) is Affine and type(b) is Affine and len(a.shape) == len(b.shape) == 2:  # nearly all of them
            if a.low < 0 or b.low < 0 or a.high >= shape[0] or b.high >= shape[1]:
                return None
            (rows, columns), (i, j) = a.shape, b.shape
            if (rows == i or rows == 1 or i == 1) and (columns == j or columns == 1 or j == 1) and rows and columns:
                (s, t), (u, v), (m, n) = a.steps, b.steps, strides
                dims = (rows if i == 1 else i, columns if j == 1 else j)
                return dims, (s * m + u * n, t * m + v * n), offset + a.start * m + b.start * n
    grids: list[tuple[Affine, int]] = []
    front: list[tuple[int, int]] = []
    behind: list[tuple[int, int]] = []
    rank = 0
    for d, (k, n, s) in enumerate(zip(keys, shape, strides, strict=True)):
        if type(k) is int:
            if not 0 <= k < n:
                return None
            offset += k * s
            continue
        if type(k) is slice:
            numbers = range(*k.indices(n))
            if not numbers:
                return None
            offset += numbers.start * s
            (behind if d else front).append((len(numbers), numbers.step * s if len(numbers) > 1 else 0))
            continue
        found = k if type(k) is Affine else affine(k)
        if found is None or found.low < 0 or found.high >= n:
            return None
        offset += found.start * s
        if len(found.shape) > rank:
            rank = len(found.shape)
        grids.append((found, s))
    together, steps = [1] * rank, [0] * rank
    for g, s in grids:
        axis = rank - len(g.shape)
        for n, step in zip(g.shape, g.steps, strict=True):
            if n != 1:
                if not n or together[axis] not in (1, n):  # NumPy says what is wrong
                    return None
                together[axis] = n
                steps[axis] += step * s
            axis += 1
    if not front and not behind:
        return tuple(together), tuple(steps), offset
    made = (*front, *zip(together, steps, strict=True), *behind)
    return tuple(n for n, _ in made), tuple(s for _, s in made), offset


def are_plain(keys: Sequence[object]) -> TypeGuard[Sequence[int | slice | None]]:
    """Whether these indices are numbers, slices and new axes alone."""
    return all(k is None or isinstance(k, int | np.integer | slice) for k in keys)


def chosen_elements(a: Array, keys: Sequence[object]) -> Array:
    """The elements of an array at the indices of a kernel."""
    plain_keys = tuple(k if k is None or isinstance(k, int | slice) else np.asarray(k) for k in keys)
    return np.asarray(a[plain_keys])


def left_by(mask: object, shape: tuple[int, ...], is_aligned: bool = True) -> Array:
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


def completed_keys(keys: tuple[object, ...], ndim: int, tile: Tile) -> tuple[object, ...]:
    """Indices with a slice for each dimension that they leave out. Raises where they are too many."""
    used = sum(k is not None and k is not Ellipsis for k in keys)
    if used > ndim:
        raise fail(f"{used} indices for {ndim} dimensions", tile=tile)
    return completed(keys, ndim)


def plain_view(t: Tile, keys: Sequence[object]) -> AffineBox:
    """What numbers, slices and new axes choose. Raises for those that leave the tensor, or choose nothing."""
    plain: list[int | range | None] = []
    d = 0
    for k in keys:
        if k is None:
            plain.append(None)
            continue
        n = t.shape[d]
        if isinstance(k, slice):
            numbers = range(*k.indices(n))
            if (k.stop is not None and int(k.stop) > n) or numbers.step < 1 or not numbers:
                raise fail(
                    "out-of-bounds or empty slice",
                    tile=t,
                    given=f"[{k.start}:{k.stop}:{k.step}] along dimension {d}",
                    allowed=f"0 .. {n}",
                )
            plain.append(numbers)
        else:
            assert isinstance(k, int | np.integer)
            i = int(k)
            if not -n <= i < n:
                raise out_of_range(t, f"index {i} along dimension {d}", n - 1)
            plain.append(i % n)
        d += 1
    return sliced(plain, t.strides, t.offset)


def note_view(core: Core, keys: Sequence[object], shape: tuple[int, ...]) -> None:
    """Note a view at affine indices, one for each dimension, for loops that are repeated (`Core.views`)."""
    if core.views is None:
        return
    bounds: list[ViewBound] = []
    for k in keys:
        found = None if isinstance(k, int | np.integer | slice) else affine(k)
        bounds.append(k if found is None else slice(found.low, found.high + 1))  # type: ignore[arg-type]
    core.views.append(NotedView(tuple(bounds), shape))
