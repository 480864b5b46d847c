"""What times that were measured on a device say of the candidates that were not.

The clock is off by a factor for each kernel. What two kernels share of it follows from the range of their ratio: where
that is narrow, a kernel that measured 10% more than predicted makes the other one 10% slower too. A measured time is
exact; the others move, and their ranges get narrower, by the rule of normal errors (simple kriging).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np

from mowich.arrays import Array
from mowich.estimate import Estimate
from mowich.neuroncore.order import KernelOrder, KernelSide, order_between, order_by, side_spread

WORTH_MEASURING = 0.01
"""Share of the time of the fastest that a candidate has to be expected to save before it is worth a device."""
LEAST_MEASURED = 2
"""Candidates that may be measured where nobody says how many, at least."""
_Z95 = 1.645


@dataclass(frozen=True)
class KnownTimes:
    """Times of candidates, as the clock and a device know them. sides: those that have a time; measured_s: seconds of
    those that were measured, by their place.

    e is the logarithm of true over predicted time, K its covariance: half of var(e_i) + var(e_j) - var(e_i - e_j).

    e_i = K_im K_mm^-1 e_m, var(e_i - e_j) less (K_im - K_jm) K_mm^-1 (K_im - K_jm)

    i, j: candidates; m: those that were measured.
    """

    sides: Sequence[KernelSide]
    measured_s: Mapping[int, float]

    def time_s(self, place: int) -> float:
        """Seconds: measured, or predicted with what was measured."""
        known = self.measured_s.get(place)
        return self._clock_s(place) * math.exp(self._shift(place)) if known is None else known

    def estimate(self, place: int) -> Estimate:
        """The time with its range."""
        known, spread = self.measured_s.get(place), side_spread(self.sides[place])
        if known is not None:
            return Estimate(value=known, unit="s", low=known, high=known, grade="B")
        left = self._left(_sd(spread) ** 2, self._shared(place))
        return _scaled(spread, self.time_s(place), left, "s")

    def order(self, a: int, b: int) -> KernelOrder:
        """Which of two is slower, and how sure that is."""
        order = order_between(self.sides[a], self.sides[b])
        if not self.measured_s:
            return order
        both = a in self.measured_s and b in self.measured_s
        left = 0.0 if both else self._left(_sd(order.ratio) ** 2, self._shared(a) - self._shared(b))
        return order_by(_scaled(order.ratio, self.time_s(b) / self.time_s(a), left, "1"), order.risks)

    @cached_property
    def by_time(self) -> tuple[int, ...]:
        """Places, the fastest first, as far as is known."""
        return tuple(sorted(range(len(self.sides)), key=self.time_s))

    @cached_property
    def gains(self) -> tuple[float, ...]:
        """Of each candidate: what it is expected to save of the time of the fastest (`expected_gain`)."""
        ratios = [self.order(self.by_time[0], place).ratio for place in range(len(self.sides))]
        return tuple(expected_gain(ratio.value or 1.0, _sd(ratio)) for ratio in ratios)

    def measure_next(self, most: int) -> tuple[int, ...]:
        """Places to measure next, at most so many: the fastest, then those that are expected to save most of its time.
        Empty where none is expected to save `WORTH_MEASURING`: then a device is not expected to change the choice."""
        worth = sorted(
            (at for at in self.by_time[1:] if self.gains[at] >= WORTH_MEASURING), key=lambda at: -self.gains[at]
        )
        named = (*self.by_time[:1], *worth) if worth else ()
        return tuple(at for at in named if at not in self.measured_s)[: max(most, 0)]

    def _clock_s(self, place: int) -> float:
        time_s = self.sides[place].time_s
        assert time_s is not None
        return time_s

    @cached_property
    def _places(self) -> list[int]:
        return sorted(self.measured_s)

    @cached_property
    def _weights(self) -> Array:
        """K_mm^-1."""
        return np.linalg.pinv(np.array([self._row(at) for at in self._places]), rcond=1e-9, hermitian=True)

    @cached_property
    def _errors(self) -> Array:
        """e_m."""
        return np.array([math.log(self.measured_s[at] / self._clock_s(at)) for at in self._places])

    @cached_property
    def _rows(self) -> dict[int, Array]:
        return {}

    def _shared(self, place: int) -> Array:
        """K_im."""
        if place not in self._rows:
            self._rows[place] = np.array(self._row(place))
        return self._rows[place]

    def _row(self, place: int) -> list[float]:
        own = _sd(side_spread(self.sides[place])) ** 2
        out = []
        for at in self._places:
            if at == place:
                out.append(own)
                continue
            other = _sd(side_spread(self.sides[at])) ** 2
            apart = _sd(order_between(self.sides[place], self.sides[at]).ratio) ** 2
            out.append(max(0.0, (own + other - apart) / 2))
        return out

    def _shift(self, place: int) -> float:
        """e_i."""
        return float(self._shared(place) @ self._weights @ self._errors) if self._places else 0.0

    def _left(self, variance: float, shared: Array) -> float:
        """What is left of a standard deviation, as a share of it."""
        if not self._places or variance == 0.0:
            return 1.0
        return math.sqrt(max(0.0, 1 - float(shared @ self._weights @ shared) / variance))


def measure_budget(candidates: int) -> int:
    """How many of so many candidates may be measured where nobody says: a fifth, at least two.

    >>> measure_budget(7), measure_budget(19)
    (2, 3)
    """
    return max(LEAST_MEASURED, candidates // 5)


def expected_gain(ratio: float, sd: float) -> float:
    """The mean of what is saved of a time, 0 where nothing is, by a kernel that takes `ratio` times as long.

    g = Phi(z) - r exp(s^2 / 2) Phi(z - s), z = -ln(r) / s

    r (`ratio`): median of a log-normal ratio; s (`sd`): of its logarithm.

    >>> round(expected_gain(1.0, 0.06), 3), expected_gain(0.9, 0.0), expected_gain(1.1, 0.0)
    (0.023, 0.1, 0.0)
    """
    if sd == 0.0:
        return max(0.0, round(1 - ratio, 12))
    phi, z = NormalDist().cdf, -math.log(ratio) / sd
    return max(0.0, phi(z) - ratio * math.exp(sd * sd / 2) * phi(z - sd))


def _sd(e: Estimate) -> float:
    """Standard deviation of the logarithm of an estimate."""
    return math.log((e.high or 1.0) / (e.low or 1.0)) / (2 * _Z95)


def _scaled(e: Estimate, value: float, share: float, unit: str) -> Estimate:
    """Another value, with a share of the range."""
    assert e.value is not None
    low, high = (value * ((end or e.value) / e.value) ** share for end in (e.low, e.high))
    return Estimate(value=value, unit=unit, low=low, high=high, grade=e.grade)
