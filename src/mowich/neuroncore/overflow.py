"""Numbers that are too large for their format. Those that become infinity or NaN in 8 bits on writing are counted where
a check of kernels looks for them; a constant that its tile cannot hold is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore.dtypes import DType, float8_e4m3, float8_e4m3fn, float8_e5m2, int_limits

if TYPE_CHECKING:
    from mowich.neuroncore.core import Core

FORMATS = (float8_e4m3, float8_e4m3fn, float8_e5m2)
"""The 8-bit formats that kernels compute with."""


def look(core: Core, values: Array, made: Array, dtype: DType) -> None:
    """Count the numbers that were finite and are no more. values: before, made: as written in `dtype`."""
    if dtype not in FORMATS or values.dtype.kind != "f":
        return
    # the largest float32 stands for infinity in kernels that mask: it is meant to overflow
    counts = np.isfinite(values) & (np.abs(values) < np.finfo(np.float32).max)
    lost = counts & ~np.isfinite(made.astype(np.float32))
    count = int(lost.sum())
    if count:
        numbers = np.arange(256, dtype=np.uint8).view(dtype.dtype).astype(np.float32)
        largest = float(numbers[np.isfinite(numbers)].max())
        first = float(np.abs(values[lost]).max())
        core.observe(
            "fp8 overflow",
            f"numbers up to {first:,.6g} are written as {dtype}, whose largest is {largest:,.0f}",
            count=count,
            of=lost.size,
        )


def look_at_constant(core: Core, value: float, made: Array, dtype: DType) -> None:
    """Warn of a number in the text of a kernel that a tile of this format does not hold. made: as it is written."""
    if not abs(value) < np.finfo(np.float32).max:
        return
    low, high = int_limits(dtype)
    kept = float(made.reshape(-1)[0])
    if low <= value <= high and np.isfinite(kept):
        return
    bounds = f", which holds {low:.0f} to {high:.0f}" if dtype.is_int else ""
    core.warn("out of format", f"{value:g} is written as {kept:g}: the tile is {dtype}{bounds}")
