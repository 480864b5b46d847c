"""The values of a tile, as numbers: which were written, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.neuroncore.access import static_view, storage_of, tile_elements
from mowich.neuroncore.memory import ALL, NONE, SPACE_NAME
from mowich.neuroncore.nonfinite import as_floats
from mowich.neuroncore.views import Tile
from mowich.requests.debugging import Step
from mowich.shown import Keyed


def numbers_of(tile: Tile) -> tuple[Array, NDArray[np.bool_]] | None:
    """(A copy of the elements as numbers, whether each was written); packed formats as the whole numbers that store
    them. None where an offset is known to no one but the DMA, or the bytes were moved elsewhere."""
    seen = static_view(tile)
    if seen is None or seen.dynamic is not None or storage_of(seen).is_cut_off:
        return None
    d, elements = seen.dtype, tile_elements(seen)
    found = as_floats(elements, d)
    if found is None:
        found = elements.view(f"<u{d.itemsize}") if d.part is not None else elements
    return np.array(found), np.array(_written(seen))


def _written(tile: Tile) -> NDArray[np.bool_]:
    s = storage_of(tile)
    if s.state == ALL:
        return np.broadcast_to(np.True_, tile.shape)
    if s.address is not None and s.space in s.core.fresh:
        fresh = s.core.fresh[s.space]
        shape = (*tile.shape, tile.dtype.itemsize)
        parts = np.ndarray(shape, np.bool_, fresh, tile.byte_offset(), (*tile.byte_strides(), 1))
        return np.asarray(parts.all(axis=-1))
    if s.state == NONE:
        return np.broadcast_to(np.False_, tile.shape)
    flags = s.flags(tile)
    return flags if flags.shape == tile.shape else np.asarray(flags.all(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSummary(Keyed):
    """Figures of the elements of a tile that were written. written: their share of all; low, high, mean: of the finite
    ones, None where there are none; nan, infinite: how many."""

    KEYS = "written min=low max=high mean nan infinite"

    written: float
    low: float | None
    high: float | None
    mean: float | None
    nan: int
    infinite: int


def summary_of(numbers: Array, written: NDArray[np.bool_]) -> ValueSummary:
    """Figures of elements.

    >>> summary_of(np.array([1.0, 3.0, np.inf]), np.array([True, True, True])).mean
    2.0
    """
    known = numbers[written].astype(np.float64)
    finite = known[np.isfinite(known)]
    return ValueSummary(
        written=float(written.mean()) if written.size else 1.0,
        low=float(finite.min()) if finite.size else None,
        high=float(finite.max()) if finite.size else None,
        mean=float(finite.mean()) if finite.size else None,
        nan=int(np.isnan(known).sum()),
        infinite=int(np.isinf(known).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TileValues(Keyed):
    """What `--print` shows. tile: as it was asked for; values: nested lists, None for an element that nothing wrote."""

    KEYS = "tile shape dtype memory **summary values"

    tile: str
    shape: tuple[int, ...]
    dtype: str
    memory: str
    summary: ValueSummary
    values: object


def chosen(found: tuple[Array, NDArray[np.bool_]], steps: Sequence[Step], text: str, where: str) -> tuple[Array, Array]:
    """The elements that indices choose. Raises UserError where they leave the tile."""
    numbers, written = found
    shape = list(numbers.shape)
    for step in steps:
        try:
            numbers, written = numbers[step.at], written[step.at]
        except (IndexError, TypeError, ValueError):
            raise UserError(
                "an index that the tile does not have", where=where, given=text, allowed=f"a tile of shape {shape}"
            ) from None
    if not np.size(numbers):
        raise UserError("no element is chosen", where=where, given=text, allowed=f"a tile of shape {shape}")
    return np.asarray(numbers), np.asarray(written)


def tile_values(tile: Tile, steps: Sequence[Step], text: str, where: str) -> TileValues:
    """The values of a tile, or of a part of it."""
    found = numbers_of(tile)
    if found is None:
        raise UserError(
            "an offset that is read at run time, or bytes that were moved: print the whole tile",
            where=where,
            given=text,
        )
    numbers, written = chosen(found, steps, text, where)
    listed = numbers.astype(object)
    listed[~written] = None
    return TileValues(
        tile=text,
        shape=numbers.shape,
        dtype=str(tile.dtype),
        memory=SPACE_NAME[tile.space],
        summary=summary_of(numbers, written),
        values=listed.tolist(),
    )
