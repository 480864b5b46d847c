"""What comes next in a series that a planner saw: the rate, the tokens of a prompt and of an answer, look by look.

Each predictor is told one number a look and says what it expects some looks ahead. They are those that planners of
served models offer (docs/records/autoscaling.md); none looks at the clock, draws, or reads numbers that are still to
come, but `KnownAhead`, which is told the truth and is there to compare with.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

PREDICTORS = ("constant", "average", "kalman", "arima", "seasonal")
"""constant: as it is now; average: the mean of the last looks; kalman: a level and its trend; arima: ARIMA(1, 1, 0)
over the last looks; seasonal: as one season ago, moved by what has changed since."""


class LoadPredictor(Protocol):
    """Told of a series number by number."""

    def add(self, value: float) -> None:
        """The next number of the series."""

    def ahead(self, looks: int) -> float:
        """What it expects so many looks later, at least 0."""


@dataclass(slots=True)
class LastSeen:
    """What was seen last.

    Example:
        >>> seen = LastSeen()
        >>> seen.add(3.0)
        >>> seen.ahead(10)
        3.0
    """

    last: float = 0.0

    def add(self, value: float) -> None:
        self.last = value

    def ahead(self, looks: int) -> float:
        return self.last


@dataclass(slots=True)
class _Window:
    """Keeps the last `window` numbers."""

    window: int
    seen: deque[float] = field(default_factory=deque)

    def add(self, value: float) -> None:
        self.seen.append(value)
        if len(self.seen) > self.window:
            self.seen.popleft()


@dataclass(slots=True)
class Average(_Window):
    """The mean of the last `window` numbers."""

    def ahead(self, looks: int) -> float:
        return _mean(self.seen)


def _mean(values: Sequence[float] | deque[float]) -> float:
    """The mean, added up in order; 0 of none."""
    total = 0.0
    for value in values:
        total += value
    return total / len(values) if values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Variances of a local linear trend, in the unit of the series squared: of its level and of its trend from look to
    look, and of what is seen."""

    level: float
    trend: float
    seen: float


@dataclass(slots=True)
class Kalman:
    """A level that moves by a trend, both seen through noise: the Kalman filter of the local linear trend. A forecast
    is the level and the trend times the looks ahead.

    Example:
        >>> seen = Kalman(Noise(level=1.0, trend=0.1, seen=0.01))
        >>> for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
        ...     seen.add(value)
        >>> round(seen.ahead(2), 1)
        9.5
    """

    noise: Noise
    count: int = 0
    level: float = 0.0
    trend: float = 0.0
    _ll: float = 0.0
    _lt: float = 0.0
    _tt: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        if self.count == 1:  # nothing is known of the trend yet
            self.level, self._ll, self._lt, self._tt = value, self.noise.seen, 0.0, self.noise.seen
            return
        level = self.level + self.trend
        ll = self._ll + 2.0 * self._lt + self._tt + self.noise.level
        lt, tt = self._lt + self._tt, self._tt + self.noise.trend
        share, pull = ll / (ll + self.noise.seen), lt / (ll + self.noise.seen)
        missed = value - level
        self.level, self.trend = level + share * missed, self.trend + pull * missed
        self._ll, self._lt, self._tt = (1.0 - share) * ll, (1.0 - share) * lt, tt - pull * lt

    def ahead(self, looks: int) -> float:
        return max(0.0, self.level + looks * self.trend)


STATIONARY = 0.95
"""Largest share of a difference that ARIMA carries on to the next: beyond it forecasts run away."""


@dataclass(slots=True)
class Arima(_Window):
    """ARIMA(1, 1, 0) with a drift, by least squares over the last `window` numbers: each difference is a share of the
    one before it, and a constant."""

    def ahead(self, looks: int) -> float:
        y = list(self.seen)
        if len(y) < 4:
            return y[-1] if y else 0.0
        steps = [b - a for a, b in itertools.pairwise(y)]
        before, after = steps[:-1], steps[1:]
        mean_b, mean_a = _mean(before), _mean(after)
        spread = together = 0.0
        for b, a in zip(before, after, strict=True):
            spread += (b - mean_b) * (b - mean_b)
            together += (b - mean_b) * (a - mean_a)
        share = max(-STATIONARY, min(STATIONARY, together / spread)) if spread > 0.0 else 0.0
        drift = mean_a - share * mean_b
        value, step = y[-1], steps[-1]
        for _ in range(looks):
            step = drift + share * step
            value += step
        return max(0.0, value)


@dataclass(slots=True)
class Seasonal:
    """As one season of `season` looks ago, moved by the mean change over the last `window` looks against a season ago.
    Until a season was seen, the mean of the last `window`."""

    season: int
    window: int
    seen: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.seen.append(value)

    def ahead(self, looks: int) -> float:
        n, back = len(self.seen), self.season
        recent = self.seen[-self.window :]
        at = n - 1 + looks - back * math.ceil(looks / back)
        if n <= back or at < 0:
            return _mean(recent)
        pairs = [self.seen[i] - self.seen[i - back] for i in range(max(back, n - self.window), n)]
        return max(0.0, self.seen[at] + _mean(pairs))


@dataclass(slots=True)
class KnownAhead:
    """The truth: the numbers of all looks, known before they come."""

    truth: Sequence[float]
    count: int = 0

    def add(self, value: float) -> None:
        self.count += 1

    def ahead(self, looks: int) -> float:
        """The largest from the next look to `looks` later."""
        return max(self.truth[self.count : self.count + looks + 1], default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasting:
    """How a planner looks ahead. window: looks that `average`, `arima` and `seasonal` remember; season: looks of a
    season; noise: of `kalman`."""

    predictor: str
    window: int
    season: int
    noise: Noise

    def make(self) -> LoadPredictor:
        """A predictor that has seen nothing."""
        makers: dict[str, Callable[[], LoadPredictor]] = {
            "constant": LastSeen,
            "average": lambda: Average(self.window),
            "kalman": lambda: Kalman(self.noise),
            "arima": lambda: Arima(self.window),
            "seasonal": lambda: Seasonal(self.season, self.window),
        }
        return makers[self.predictor]()
