"""How a kernel's time for attention departs from proportion: few sequences, short contexts and short prompts take
longer for each token than the batch that a traffic takes its times per token from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats

_LEAST = 1e-3
"""Least factor: recurrent layers beside attention are taken off, which may leave nothing of a short prompt."""


@dataclass(frozen=True, slots=True)
class Unevenness:
    """Time per unit of work over that of the usual batch, by two sizes: logs[i][j], its logarithm at 2^(x0 + i) and
    2^(y0 + j); between them a power of each size, beyond them as at the end."""

    x0: int
    y0: int
    logs: tuple[tuple[float, ...], ...]

    @classmethod
    def of(
        cls, per_unit: Callable[[Floats, Floats], Floats], usual: float, x: tuple[int, int], y: tuple[int, int]
    ) -> Unevenness:
        """per_unit: seconds per unit of work of columns of both sizes; usual: of the usual batch; x, y: first and last
        power of two of each size."""
        one, other = (np.exp2(np.arange(first, last + 1, dtype=np.float64)) for first, last in (x, y))
        grid = per_unit(np.repeat(one, len(other)), np.tile(other, len(one))).reshape(len(one), len(other)) / usual
        return cls(x[0], y[0], tuple(tuple(row) for row in np.log(np.maximum(grid, _LEAST)).tolist()))

    def at(self, x: float, y: float) -> float:
        """The factor for two sizes."""
        i, u = _place(x, self.x0, len(self.logs))
        j, v = _place(y, self.y0, len(self.logs[0]))
        low, high = self.logs[i], self.logs[i + 1]
        below = low[j] + v * (low[j + 1] - low[j])
        return math.exp(below + u * (high[j] + v * (high[j + 1] - high[j]) - below))


def _place(size: float, first: int, count: int) -> tuple[int, float]:
    """(the point of a grid below a size, the share of the way to the next one)."""
    at = min(max(math.log2(max(size, 1e-9)) - first, 0.0), count - 1.0)
    i = min(int(at), count - 2)
    return i, at - i
