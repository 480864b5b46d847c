"""How long the answers of a run are: the whole distribution as one table, whatever it was stated by.

A batch ends with its longest answer, so a mean alone says little. Where only a mean and a cap are stated, answers are
lognormal and cut at the cap, and the mean is that after the cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError

TABLE_PLACES = 4096
"""Places of the table of a distribution."""

_HALVINGS = 80
"""Steps of a bisection: more than a float has bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Answers in tokens, without their prompts. table: length at the middle of each of its equal shares, ascending
    [TABLE_PLACES]; cap: the longest that an answer may be."""

    table: Floats
    cap: float

    @property
    def mean(self) -> float:
        """Mean tokens of an answer."""
        return float(self.table.mean())

    @property
    def at_cap(self) -> float:
        """Share of answers that the cap cuts."""
        return float(np.count_nonzero(self.table >= self.cap)) / len(self.table)

    def longest_of(self, samples: float) -> float:
        """Mean of the longest of so many answers.

        >>> round(Lengths.of_quantiles({0.0: 0.0, 1.0: 100.0}, cap=100.0).longest_of(3), 1)
        75.0
        """
        edges = np.arange(len(self.table) + 1) / len(self.table)
        return float(self.table @ np.diff(edges ** max(samples, 1.0)))

    def quantile(self, share: float) -> float:
        """Length that a share of the answers stays below."""
        return float(self.at(np.array(share)))

    def at(self, shares: Floats) -> Floats:
        """Lengths at shares of the answers (0 to 1), ascending with them."""
        return np.asarray(np.interp(shares, _middles(len(self.table)), self.table))

    def scaled(self, by: float) -> Lengths:
        """All answers longer by a factor, cut at the same cap."""
        return Lengths(np.minimum(self.table * by, self.cap), self.cap)

    @classmethod
    def lognormal(cls, *, mean: float, cap: float, sigma: float) -> Lengths:
        """Lognormal answers cut at `cap`, whose mean after the cut is `mean`. Raises UserError for a mean that is not
        between 0 and the cap.

        >>> long = Lengths.lognormal(mean=3000.0, cap=4096.0, sigma=0.7)
        >>> round(long.mean), round(long.at_cap, 2)
        (3000, 0.37)
        """
        if not 0.0 < mean < cap:
            raise UserError("the cap is below the mean length", given=f"mean {mean:g}, cap {cap:g} tokens")
        spread = np.exp(sigma * _normal(TABLE_PLACES))
        low, high = math.log(mean) - 1.0, math.log(cap) + 8.0 * max(sigma, 1.0)
        for _ in range(_HALVINGS):
            mu = 0.5 * (low + high)
            if float(np.minimum(math.exp(mu) * spread, cap).mean()) < mean:
                low = mu
            else:
                high = mu
        return cls(np.minimum(math.exp(0.5 * (low + high)) * spread, cap), cap)

    @classmethod
    def of_quantiles(cls, at: Mapping[float, float], *, cap: float) -> Lengths:
        """By length at shares (0 to 1), straight between them. Below the first share and above the last, the length is
        the one there."""
        shares = sorted(at)
        table = np.interp(_middles(TABLE_PLACES), shares, [at[share] for share in shares])
        return cls(np.minimum(table, cap), cap)

    @classmethod
    def of_answers(cls, tokens: Sequence[float] | Floats, *, cap: float) -> Lengths:
        """By the answers of a run."""
        ordered = np.sort(np.asarray(tokens, dtype=np.float64))
        table = np.interp(_middles(TABLE_PLACES), _middles(len(ordered)), ordered)
        return cls(np.minimum(table, cap), cap)


def _middles(places: int) -> Floats:
    return np.asarray((np.arange(places) + 0.5) / places)


def _normal(places: int) -> Floats:
    """Standard normal at the middle of each share."""
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / places) for i in range(places)])
