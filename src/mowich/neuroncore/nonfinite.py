"""Where the first infinity or NaN of a kernel comes from: the instruction that made it of finite values, and its
operand.

Looking at every operand takes as long as computing. So a run looks at its outputs alone. Where these are not finite
and the arguments are, the kernel runs once more with `Origins` on its cores (`Core.watcher`), which look at each
instruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.neuroncore.access import storage_of, tile_elements, whole_view
from mowich.neuroncore.core import Core, where
from mowich.neuroncore.dtypes import DType, as_dtype, to_f32
from mowich.neuroncore.memory import NONE, SOME
from mowich.neuroncore.views import Tile

_Named = Sequence[tuple[str, Tile]]


def as_floats(values: Array, dtype: DType) -> NDArray[np.float32] | None:
    """Elements as float32; None for whole numbers and packed formats, which are always finite."""
    if not dtype.is_float or dtype.part is not None:
        return None
    return values if values.dtype == np.float32 else to_f32(values, dtype)


def are_finite(arrays: Iterable[object]) -> bool:
    """Whether all numbers of some arrays are finite; what is no array is.

    >>> are_finite([np.ones(2, np.float32), 3]), are_finite([np.array([np.inf], np.float32)])
    (True, False)
    """
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fV" or array.dtype.itemsize > 4:
            continue
        found = as_floats(array, as_dtype(array.dtype))
        if found is not None and not np.isfinite(found).all():
            return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class NonfiniteOrigin:
    """What made a value that is not finite. text: instruction and operand; where: file:line, "" where no instruction
    did; is_nan: NaN, else an infinity."""

    text: str
    where: str
    is_nan: bool


@dataclass(slots=True)
class _Issued:
    """An instruction whose results are not there yet. causes: of the infinities and NaN that it reads."""

    name: str
    where: str
    reads: _Named
    writes: _Named
    causes: list[tuple[str, NonfiniteOrigin]]


class TracedOrigin(BaseException):
    """A run that looked for where infinities and NaN come from has ended."""

    def __init__(self, origin: NonfiniteOrigin | None) -> None:
        self.origin = origin


@dataclass(slots=True)
class Origins:
    """Of each storage, by its number, where what is not finite in it comes from."""

    is_again: ClassVar[bool] = True
    of: dict[int, NonfiniteOrigin] = field(default_factory=dict)
    _issued: dict[int, _Issued] = field(default_factory=dict)

    def issued(self, core: Core, name: str, reads: _Named, writes: _Named) -> None:
        """An instruction was issued: look at the results of the one before, and at what this one reads."""
        self.settle(core)
        causes = []
        for operand, tile in reads:
            found = _not_finite(tile)
            if found is not None:
                causes.append((operand, self._origin(tile, found)))
        self._issued[id(core)] = _Issued(name, where(), reads, writes, causes)

    def turn_ended(self, core: Core, storages: Sequence[int]) -> None:
        """What a tensor of a body holds stays."""

    def _origin(self, tile: Tile, found: NDArray[np.float32]) -> NonfiniteOrigin:
        """Where what is not finite in a tile comes from."""
        known = self.of.get(storage_of(tile).number)
        if known is not None:
            return known
        text = f"{tile.describe()} holds it from before any instruction wrote to it"
        return NonfiniteOrigin(text=text, where="", is_nan=bool(np.isnan(found).any()))

    def settle(self, core: Core) -> None:
        """Look at the results of the last instruction of a core."""
        last = self._issued.pop(id(core), None)
        if last is None:
            return
        for operand, tile in last.writes:
            number, found = storage_of(tile).number, _not_finite(tile)
            if found is None:
                if tile.size * tile.dtype.itemsize == storage_of(tile).parts * storage_of(tile).row_B:
                    self.of.pop(number, None)
                continue
            made = _made(last, operand, tile, found)
            before = self.of.get(number)
            if before is None or (made.is_nan and not before.is_nan):
                self.of[number] = made

    def ended(self, cores: Sequence[Core], returned: Sequence[object]) -> NoReturn:
        """Raise `TracedOrigin` with where what is not finite in a returned tile comes from, None where all are
        finite."""
        for core in cores:
            self.settle(core)
        tiles = [(tile, _not_finite(tile)) for tile in returned if isinstance(tile, Tile)]
        raise TracedOrigin(next((self._origin(tile, found) for tile, found in tiles if found is not None), None))


def _not_finite(tile: Tile) -> NDArray[np.float32] | None:
    """The elements of a tile, of a view with a run-time offset those of the whole allocation; None where all that were
    written are finite."""
    s = storage_of(tile)
    if s.state == NONE or not s.filled:
        return None
    seen = tile if tile.dynamic is None else whole_view(tile)
    found = as_floats(tile_elements(seen), seen.dtype)
    if found is None:
        return None
    if s.state == SOME:
        flags = s.flags(seen)
        written = flags if flags.shape == seen.shape else flags.all(axis=-1)
        found = np.where(written, found, np.float32(0))
    return None if np.isfinite(found).all() else found


def _made(last: _Issued, operand: str, tile: Tile, found: NDArray[np.float32]) -> NonfiniteOrigin:
    """Where what an instruction wrote comes from: from what it read, or it made it itself."""
    is_nan = bool(np.isnan(found).any())
    worst = [c for c in last.causes if c[1].is_nan] or last.causes
    if worst and (worst[0][1].is_nan or not is_nan):
        return worst[0][1]
    bad = np.isnan(found) if is_nan else np.isinf(found)
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    value = "NaN" if is_nan else "inf" if found[at] > 0 else "-inf"
    text = f"{last.name} writes {value} to its {operand} at {list(at)} ({tile.describe()})"
    read = [f"{name} {_shown(t, at)}" for name, t in last.reads if _shown(t, at)]
    if read:
        text += f", from {', '.join(read)}"
    if worst:
        name, origin = worst[0]
        text += f"; its {name} has an infinity: {origin.text}" + (f", {origin.where}" if origin.where else "")
    return NonfiniteOrigin(text=text, where=last.where, is_nan=is_nan)


def _shown(tile: Tile, at: tuple[int, ...]) -> str:
    """The element of an operand at a place, where it has one there, or one for the whole row."""
    if tile.dynamic is not None or not at or len(tile.shape) != len(at) or tile.shape[0] <= at[0]:
        return ""
    place = at if all(i < n for i, n in zip(at, tile.shape, strict=True)) else None
    if place is None and all(n == 1 for n in tile.shape[1:]):
        place = (at[0], *(0 for _ in tile.shape[1:]))
    values = None if place is None else as_floats(tile_elements(tile), tile.dtype)
    return "" if values is None else f"{float(values[place]):.6g}"
