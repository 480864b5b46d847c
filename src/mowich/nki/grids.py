"""`nl.tiles`, `nl.blocks`, `nl.alloc_tiles`, `nl.alloc_blocks` (NKI 0.7): views of a tensor that count tiles or blocks.

A grid allocates nothing, copies nothing and issues nothing: `grid[i, j].data` is the operand of an instruction. What
AWS's pages leave open follows NeuroTile, the ancestor in nki-library: an integer takes its dimension away, negative
numbers count from the end, a slice steps forward. On chip, the tiles of `alloc_tiles` lie in rows behind one another in
the free dimension, each with room for a whole tile ("by capacity").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Self, TypeVar

from mowich.errors import shorten
from mowich.neuroncore import core as machine
from mowich.neuroncore import placement
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.boxes import merged
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType
from mowich.neuroncore.memory import SPACE, MemoryRegion, as_region
from mowich.neuroncore.views import Tile, view_of
from mowich.nki.words import OutsideGrid, WrongArguments, WrongValue


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """One dimension of a selection, in elements. first, end: of the elements of the grid that it may reach; unit: of a
    tile, or of a block (1 where the dimension is not tiled); tile: of a tile; count, step: units that are selected;
    taken: an integer chose the one unit."""

    first: int
    end: int
    unit: int
    tile: int
    count: int
    step: int = 1
    taken: bool = False

    @property
    def last(self) -> int:
        """Where the last unit begins."""
        return self.first + (self.count - 1) * self.step * self.unit

    @property
    def elements(self) -> int:
        """Elements that are selected."""
        return (self.count - 1) * self.unit + min(self.unit, self.end - self.last)

    @property
    def is_cut(self) -> bool:
        """Whether the last unit is a partial one."""
        return self.end - self.last < self.unit

    def at(self, key: object, d: int) -> _Axis:
        """The part that an index or a slice selects. d: the dimension, for errors."""
        if type(key) is int:
            i = key + self.count if key < 0 else key
            if not 0 <= i < self.count:
                raise OutsideGrid(
                    "a grid is indexed outside its bounds",
                    where=machine.where(),
                    given=f"{key} along dimension {d}",
                    allowed=f"{-self.count} .. {self.count - 1}",
                )
            return replace(self, first=self.first + i * self.step * self.unit, count=1, step=1, taken=True)
        if not isinstance(key, slice) or not all(k is None or type(k) is int for k in (key.start, key.stop, key.step)):
            _refuse("the index of a grid", key, "whole numbers and slices of Python")
        if (key.step or 1) < 1 or key.step == 0:
            _refuse("the step of a grid's slice", key.step, "1 or more", value=True)
        start, stop, step = key.indices(self.count)
        count = len(range(start, stop, step))
        if not count:
            _refuse("a slice of a grid selects nothing", key, f"0 .. {self.count}", value=True)
        return replace(self, first=self.first + start * self.step * self.unit, count=count, step=self.step * step)

    def counted(self, tile: int, per: int) -> _Axis:
        """All that is selected, counted in units of `per` tiles."""
        if self.step > 1 and self.count > 1:
            _refuse("tiles with a step between them cannot be counted anew", self.step, "a slice without a step", True)
        end = min(self.last + self.unit, self.end)
        unit = tile * per
        return _Axis(first=self.first, end=end, unit=unit, tile=tile, count=-(-(end - self.first) // unit))


def _refuse(what: str, given: object, allowed: str, value: bool = False) -> NoReturn:
    raise (WrongValue if value else WrongArguments)(
        what, where=machine.where(), given=shorten(repr(given)), allowed=allowed
    )


def _sizes(name: str, given: object, rank: int | None = None) -> tuple[int, ...]:
    """A shape: a tuple of exact whole numbers from 1 on; rank: how many there must be."""
    if not isinstance(given, tuple) or not all(type(n) is int for n in given):
        _refuse(name, given, "a tuple of whole numbers (Python's int)")
    if any(n < 1 for n in given):
        _refuse(name, given, "whole numbers from 1 on", value=True)
    if len(given) < 2:
        _refuse(name, given, "two dimensions or more", value=True)
    if rank is not None and len(given) != rank:
        _refuse(name, given, f"as many dimensions as the tile, {rank}", value=True)
    return given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layout:
    """Where the elements of a grid lie. tensor: all of them; strides: of an element along each dimension; tile_strides:
    from one tile to the next, None: tiles are slices of the tensor."""

    tensor: Tile
    strides: tuple[int, ...]
    tile_strides: tuple[int, ...] | None = None


class NkiGrid:
    """A view of a tensor by tiles or blocks. `grid[i, j]` and `grid[i, :]` are grids of the same class; `.data` is the
    operand for an instruction."""

    __slots__ = ("_axes", "_block", "_layout", "_tile")
    _axes: tuple[_Axis, ...]
    _block: tuple[int, ...]
    _layout: _Layout
    _tile: tuple[int, ...]

    def __init__(self, *_: object, **__: object) -> None:
        raise fail("a grid is made of a tensor", fix="nl.tiles(tensor, tile_shape=...), or nl.alloc_tiles(...)")

    @property
    def shape(self) -> tuple[int, ...]:
        """Tiles, or blocks, of each dimension that no integer took away; elements where it is not tiled."""
        return tuple(a.count for a in self._axes if not a.taken)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Elements of a tile, of the last dimensions."""
        return self._tile

    @property
    def element_shape(self) -> tuple[int, ...]:
        """Elements that are selected: partial tiles at the end count as what they have."""
        rest = len(self._axes) - len(self._tile)
        return tuple(a.elements for d, a in enumerate(self._axes) if d >= rest or not a.taken)

    @property
    def index_step_elements(self) -> tuple[int, ...]:
        """Elements per step of each index."""
        return tuple(a.step * a.unit for a in self._axes if not a.taken)

    @property
    def dtype(self) -> DType:
        """Format of the elements."""
        return self._layout.tensor.dtype

    @property
    def buffer(self) -> MemoryRegion:
        """Memory that they lie in."""
        return self._layout.tensor.buffer

    @property
    def is_remainder(self) -> bool:
        """Whether the selection ends in a partial tile, or block."""
        return any(a.is_cut for a in self._axes)

    @property
    def is_data_representable(self) -> bool:
        """Whether one access pattern is the selection: then it has `data`."""
        return self._view() is not None

    @property
    def data(self) -> Tile:
        """The selection as the operand of an instruction. Raises where no access pattern is that."""
        found = self._view()
        if found is None:
            raise fail(
                f"no access pattern is this selection of {list(self.element_shape)} elements of a grid",
                tile=self._layout.tensor,
                fix="take fewer tiles at once: grid[i, j].data always is one",
            )
        return found

    def __getitem__(self, key: object) -> Self:
        keys = key if type(key) is tuple else (key,)
        free = [d for d, a in enumerate(self._axes) if not a.taken]
        while len(keys) > len(free) and keys[-1:] == (slice(None),):
            keys = keys[:-1]
        if len(keys) > len(free):
            raise OutsideGrid(
                f"{len(keys)} indices for a grid of {len(free)} dimensions", where=machine.where(), given=list(keys)
            )
        axes = list(self._axes)
        for k, d in zip(keys, free, strict=False):
            axes[d] = axes[d].at(k, d)
        return _grid(type(self), self._layout, axes, self._tile, self._block)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def __repr__(self) -> str:
        kind = "blocks" if self._block else "tiles"
        return f"<grid {list(self.shape)} of {kind}, {list(self.element_shape)} elements of {self._layout.tensor!r}>"

    def _view(self) -> Tile | None:
        t = self._layout.tensor
        levels = self._slices() if self._layout.tile_strides is None else self._rows(self._layout.tile_strides)
        if levels is None:
            return None
        offset, dims = levels
        while len(dims) < (2 if t.on_chip else 1):
            dims.append((1, 1))
        return view_of(
            storage_of(t), t.dtype, tuple(n for n, _ in dims), tuple(s for _, s in dims), t.offset + offset, t.dynamic
        )

    def _slices(self) -> tuple[int, list[tuple[int, int]]] | None:
        """(Offset, (elements, stride) of each dimension) of tiles that are slices of the tensor."""
        offset, dims, rest = 0, [], len(self._axes) - len(self._tile)
        for d, (a, s) in enumerate(zip(self._axes, self._layout.strides, strict=True)):
            offset += a.first * s
            if a.step == 1 or a.count == 1:
                dims += [(a.elements, s)] if d >= rest or not a.taken else []
            elif a.is_cut or (d == 0 and self._layout.tensor.on_chip):
                return None
            else:
                dims += [(a.count, a.step * a.unit * s), *([(a.unit, s)] if a.unit > 1 else [])]
        return offset, dims

    def _rows(self, tile_strides: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]] | None:
        """The same of tiles on chip, whose rows lie behind one another."""
        rows = self._axes[0]
        if rows.elements % rows.tile and rows.elements > rows.tile:
            return None
        offset, levels = 0, []
        for d, (a, step, s) in enumerate(zip(self._axes, tile_strides, self._layout.strides, strict=True)):
            offset += a.first // a.tile * step
            if a.count > 1 and a.step > 1:
                if a.is_cut:
                    return None
                levels.append((a.count, a.step * a.unit // a.tile * step))
                inside, cut = a.unit // a.tile, 0
            else:
                inside, cut = -(-a.elements // a.tile), a.elements % a.tile
            if d == 0:
                levels.append((inside, step))
            elif step == a.tile * s:  # tiles side by side are one run
                levels.append(((inside - 1) * a.tile + (cut or a.tile), s))
            elif cut and inside > 1:
                return None
            else:
                levels += [(inside, step), (cut or a.tile, s)]
        return offset, [
            (min(rows.elements, rows.tile), self._layout.strides[0]),
            *(merged(*zip(*levels, strict=True)) or [(1, 1)]),
        ]


class NkiTileGrid(NkiGrid):
    """A grid that counts tiles."""

    __slots__ = ()


class NkiBlockGrid(NkiGrid):
    """A grid that counts blocks of tiles; `nl.tiles(block)` shows the tiles of one."""

    __slots__ = ()

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Tiles of a block."""
        return self._block


G = TypeVar("G", bound=NkiGrid)


def _grid(
    kind: type[G], layout: _Layout, axes: Sequence[_Axis], tile: tuple[int, ...], block: tuple[int, ...] = ()
) -> G:
    made = object.__new__(kind)
    made._layout, made._axes, made._tile, made._block = layout, tuple(axes), tile, block
    return made


def _counted(kind: type[G], source: object, tile_shape: object, block_shape: object) -> G:
    """A grid of a tensor, or of what another grid selects."""
    if isinstance(source, NkiGrid):
        layout, before, inherited = source._layout, list(source._axes), source._tile
    elif isinstance(source, Tile):
        layout = _Layout(tensor=source, strides=source.strides)
        before, inherited = [_Axis(first=0, end=n, unit=1, tile=1, count=n) for n in source.shape], None
    else:
        _refuse("the source of a grid", source, "a tensor, or a grid of nl.tiles or nl.blocks")
    if tile_shape is None and inherited is None:
        _refuse("tile_shape", None, "the elements of a tile, as (128, 512): a tensor has no tiles yet", value=True)
    tile = inherited if tile_shape is None else _sizes("tile_shape", tile_shape)
    assert tile is not None
    block = () if block_shape is None else _sizes("block_shape", block_shape, len(tile))
    rest = len(before) - len(tile)
    if rest < 0:
        _refuse("tile_shape", tile, f"at most the {len(before)} dimensions of the source", value=True)
    if rest and layout.tensor.on_chip:
        _refuse("tile_shape", tile, f"the {len(before)} dimensions of a tensor on chip", value=True)
    if layout.tile_strides is not None and tile != inherited:
        raise fail("tiles on chip are not cut anew", tile=layout.tensor, fix="tile grid[i, j].data")
    per = block or (1,) * len(tile)
    tiled = [a.counted(t, n) for a, t, n in zip(before[rest:], tile, per, strict=True)]
    return _grid(kind, layout, [*before[:rest], *tiled], tile, block)


def tiles(source: Tile | NkiGrid, *, tile_shape: tuple[int, ...] | None = None) -> NkiTileGrid:
    """A view of a tensor, or of a grid, that counts tiles of its last dimensions. Elements are those of a tile; without
    tile_shape the tiles of the grid stay. Raises TypeError for a shape that is no tuple of whole numbers, ValueError
    for one that does not fit.

    Example: `nl.tiles(x, tile_shape=(128, 512))[i, j].data`
    """
    return _counted(NkiTileGrid, source, tile_shape, None)


def blocks(
    source: Tile | NkiGrid, *, tile_shape: tuple[int, ...] | None = None, block_shape: tuple[int, ...]
) -> NkiBlockGrid:
    """The same, counting blocks of `block_shape` tiles."""
    return _counted(NkiBlockGrid, source, tile_shape, _sizes("block_shape", block_shape))


def _allocated(
    kind: type[G],
    tile_shape: object,
    block_shape: object,
    element_shape: object,
    buffer: object,
    dtype: object,
    address: object,
    name: str,
) -> G:
    tile = _sizes("tile_shape", tile_shape)
    extent = _sizes("element_shape", element_shape)
    if type(buffer) is not MemoryRegion:
        _refuse("buffer", buffer, "nl.sbuf, nl.psum, nl.shared_hbm, nl.private_hbm or nl.hbm")
    region, core = as_region(buffer), machine.active()
    if SPACE[region] == "H":
        tensor = placement.allocate(core, extent, dtype, region, name, address)
        return _counted(kind, tensor, tile, block_shape)
    if len(extent) != len(tile):
        _refuse("element_shape", extent, f"the {len(tile)} dimensions of a tile on chip", value=True)
    counts = [-(-n // t) for n, t in zip(extent, tile, strict=True)]
    room = math.prod(tile[1:])  # of a tile in each of its partitions
    tensor = placement.allocate(core, (min(tile[0], extent[0]), math.prod(counts) * room), dtype, region, name, address)
    strides = tuple(math.prod(tile[d + 1 :]) if d else tensor.strides[0] for d in range(len(tile)))
    steps = tuple(math.prod(counts[d + 1 :]) * room for d in range(len(tile)))
    layout = _Layout(tensor=tensor, strides=strides, tile_strides=steps)
    axes = [_Axis(first=0, end=n, unit=t, tile=t, count=c) for n, t, c in zip(extent, tile, counts, strict=True)]
    return _counted(kind, _grid(NkiTileGrid, layout, axes, tile), None, block_shape)


def alloc_tiles(
    *,
    tile_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: object,
    address: tuple[int, int] | None = None,
    name: str = "",
) -> NkiTileGrid:
    """One tensor for `element_shape` elements, not initialised, as a grid of tiles; address: (partition, byte)."""
    return _allocated(NkiTileGrid, tile_shape, None, element_shape, buffer, dtype, address, name)


def alloc_blocks(
    *,
    tile_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: object,
    address: tuple[int, int] | None = None,
    name: str = "",
) -> NkiBlockGrid:
    """The same tensor as `alloc_tiles` makes, as a grid of blocks of `block_shape` tiles."""
    return _allocated(NkiBlockGrid, tile_shape, block_shape, element_shape, buffer, dtype, address, name)
