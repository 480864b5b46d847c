"""Microscaling (OCP MX) as the NeuronCore lays it out: blocks of 32 elements that share a power of two."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import read_tile
from mowich.neuroncore.core import Limits, fail
from mowich.neuroncore.dtypes import DType, pack, unpack_by_part
from mowich.neuroncore.instructions.operands import Array, as_rows
from mowich.neuroncore.views import Tile

MX_ROWS, MX_COLUMNS = 8, 4
"""A block of 32 elements that share a scale (OCP MX), as the NeuronCore lays it out: partitions and elements of
each."""

E_MAX = {"float8_e4m3fn": 8, "float8_e5m2": 15, "float4_e2m1fn": 2}
"""Largest exponent of each element format (OCP MX)."""

_F8_MAX = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}


def scale_blocks(scale: Tile, rows: int, columns: int, limits: Limits) -> list[Tile]:
    """Rows of a scale tile that belong to a data tile of `rows` partitions: rows / 8 of them, of which each quadrant's
    lie in its first partitions from the tile's own first one. Raises where it has fewer, or other columns."""
    per, quadrant = limits.mx_scale_rows, limits.quadrant
    spans = [(0, rows // MX_ROWS)] if rows <= quadrant else [(q, q + per) for q in range(0, rows, quadrant)]
    if scale.shape[0] < spans[-1][1]:
        raise fail(
            f"the scale tile of {rows} data partitions has {per} rows in each quadrant of {quadrant}",
            tile=scale,
            allowed=f"at least {spans[-1][1]} partitions",
        )
    if scale.size // scale.shape[0] != columns:
        raise fail(f"the scale tile needs {columns} columns", tile=scale)
    return [scale.slice(0, first, last) for first, last in spans]


def dequantise(data: Tile, scale: Tile) -> Array:
    """Packed MX tile [P, F] and its scales -> float32 values [4 P, F], the four parts of a partition one below the
    other."""
    p, f = data.shape[0], data.size // data.shape[0]
    blocks = scale_blocks(scale, p, f, machine.active().limits)
    factors = _factors().take(np.concatenate([as_rows(read_tile(t)).view(np.uint8) for t in blocks]))
    values = unpack_by_part(as_rows(read_tile(data)), data.dtype).reshape(-1, MX_ROWS * MX_COLUMNS, f)
    values *= factors[:, None, :]
    return values.reshape(MX_COLUMNS * p, f)


@functools.cache
def _factors() -> Array:
    """What each byte of scale stands for: a power of two, or NaN."""
    return np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan)).astype(np.float32)


def quantise(x: Array, dtype: DType, headroom: int = 0) -> tuple[Array, NDArray[np.uint8]]:
    """float32 [P, 4 F] -> packed words [P, F] and scale bytes [P / 8, F]. headroom: powers of two by which the scale is
    larger.

    >>> from mowich.neuroncore.dtypes import float8_e4m3fn_x4
    >>> int(quantise(np.full((8, 4), 256, np.float32), float8_e4m3fn_x4)[1][0, 0])
    127
    """
    assert dtype.part is not None
    p, f = x.shape
    blocks = x.reshape(p // MX_ROWS, MX_ROWS, f // MX_COLUMNS, MX_COLUMNS)
    amax = np.abs(blocks).max(axis=(1, 3))
    _, exponent = np.frexp(amax)
    exponent = np.where(amax > 0, exponent - 1 - E_MAX[dtype.part.name] + headroom, -127)
    exponent = np.clip(exponent, -127, 127)
    scaled: Any = blocks / np.ldexp(np.float32(1), exponent.astype(np.int32))[:, None, :, None]
    top = float(_F8_MAX[dtype.part.name])
    scaled = np.clip(scaled, -top, top)
    return pack(scaled.reshape(p, f), dtype), (exponent + 127).astype(np.uint8)
