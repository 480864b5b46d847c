"""Products of matmuls that wait to be computed.

Kernels multiply one moving tile by several stationary tiles that lie beside each other, one matmul after the other.
NumPy does that at once, and reads the moving tile once. So a matmul notes what it multiplies and where the product
goes. All that wait are computed, in their order, before another instruction is issued. The elements are the same to
the last bit: each is a sum over the partitions of one matmul, added to what is there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mowich.neuroncore.access import read_tile, same, storage_of, tile_elements, tile_f32
from mowich.neuroncore.core import Core
from mowich.neuroncore.dtypes import F32, float32
from mowich.neuroncore.memory import ALL, NONE
from mowich.neuroncore.views import Tile, view_of

_MOST_STATIONARY = 1024
"""Most stationary columns that are multiplied at once: the product stays small."""


class WaitingProduct(NamedTuple):
    """stationary [K, M] transposed @ moving [K, N], which dst [M, N] gets, or which is added to it."""

    dst: Tile
    stationary: Tile
    moving: Tile
    adds: bool


class Products:
    """Those of a core that wait."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.listed: list[WaitingProduct] = []

    def compute(self) -> None:
        """Compute them: none waits any more."""
        self.core.waiting = None
        listed, at = self.listed, 0
        while at < len(listed):
            end = at + 1
            while end < len(listed) and _are_beside(listed[at], listed[end], end - at):
                end += 1
            self._multiply(listed[at:end])
            at = end

    def _multiply(self, some: list[WaitingProduct]) -> None:
        """Compute products of one moving tile, whose stationary tiles lie beside each other."""
        a, moving = some[0].stationary, some[0].moving
        if len(some) > 1:
            a = view_of(storage_of(a), a.dtype, (a.shape[0], a.shape[1] * len(some)), a.strides, a.offset)
        shape = a.shape[1], moving.shape[1]
        room = self.core.scratch.get("products")  # new memory each time would take longer than the sums
        if room is None or room.size < shape[0] * shape[1]:
            room = self.core.scratch["products"] = np.empty(shape[0] * shape[1], F32)
        found = room[: shape[0] * shape[1]].reshape(shape)
        np.matmul(tile_f32(a).T, tile_f32(moving), out=found)
        for p, part in zip(some, np.split(found, len(some)), strict=True):
            to = tile_elements(p.dst)
            if p.adds:
                np.add(to, part, out=to)
            else:
                to[...] = part


def waits(dst: Tile, stationary: Tile, moving: Tile, accumulate: bool | None) -> bool:
    """Let the product of a matmul wait. False: it is to be computed now, as its destination was written in part, or as
    somebody looks at each instruction."""
    s = storage_of(dst)
    core = s.core
    if (
        (accumulate is not False and s.state not in (NONE, ALL))
        or (accumulate and s.state == NONE)
        or dst.dtype is not float32
        or core.looks
        or core.watcher is not None
        or any(t.dynamic is not None or len(t.shape) != 2 for t in (dst, stationary, moving))
    ):
        return False
    read_tile(stationary)
    read_tile(moving)
    adds = s.state == ALL if accumulate is None else accumulate
    tile_elements(dst)
    s.mark(dst)
    if core.waiting is None:
        core.waiting = Products(core)
    assert isinstance(core.waiting, Products)
    core.waiting.listed.append(WaitingProduct(dst, stationary, moving, adds))
    return True


def _are_beside(first: WaitingProduct, other: WaitingProduct, place: int) -> bool:
    """Whether a product is of the same moving tile as another one, and its stationary tile is so many behind it. Tiles
    of less than all columns of the array are multiplied alone."""
    a, b = first.stationary, other.stationary
    s, width = storage_of(a), a.shape[1]
    return (
        b.offset == a.offset + place * width * a.strides[1]
        and (place + 1) * width <= _MOST_STATIONARY
        and width == s.core.limits.stationary_columns
        and (a.shape, a.strides, a.dtype) == (b.shape, b.strides, b.dtype)
        and s is storage_of(b)
        and (other.moving is first.moving or same(other.moving, first.moving))
    )
