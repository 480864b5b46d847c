"""A rate of requests that changes with time: ramps, and days that repeat."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RateCurve:
    """Requests per second along time: straight between points, and the last one held. times: s, from 0, rising; rates:
    1/s; period_s: after which it begins again (inf: never)."""

    times: tuple[float, ...]
    rates: tuple[float, ...]
    period_s: float = math.inf
    _sums: tuple[float, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        times = list(self.times)
        if math.isfinite(self.period_s) and times[-1] < self.period_s:
            times.append(self.period_s)
            object.__setattr__(self, "rates", (*self.rates, self.rates[-1]))
            object.__setattr__(self, "times", tuple(times))
        sums = [0.0]
        for i in range(1, len(times)):
            sums.append(sums[-1] + 0.5 * (self.rates[i] + self.rates[i - 1]) * (times[i] - times[i - 1]))
        object.__setattr__(self, "_sums", tuple(sums))

    @property
    def peak(self) -> float:
        """The highest rate, 1/s."""
        return max(self.rates)

    def expected(self, until_s: float) -> float:
        """Requests expected from 0 to `until_s`: the integral of the rate."""
        whole = 0.0
        if math.isfinite(self.period_s):
            if math.isinf(until_s):
                return math.inf
            rounds = math.floor(until_s / self.period_s)
            whole, until_s = rounds * self._sums[-1], until_s - rounds * self.period_s
        i = min(bisect_right(self.times, until_s), len(self.times)) - 1
        past = until_s - self.times[i]
        if i == len(self.times) - 1:
            return whole + self._sums[i] + (self.rates[i] * past if self.rates[i] else 0.0)
        slope = (self.rates[i + 1] - self.rates[i]) / (self.times[i + 1] - self.times[i])
        return whole + self._sums[i] + past * (self.rates[i] + 0.5 * slope * past)

    def time_of(self, count: float) -> float:
        """The time at which this many requests are expected to have come, s: the inverse of `expected`; inf where they
        never do."""
        start = 0.0
        if math.isfinite(self.period_s):
            rounds = math.floor(count / self._sums[-1])
            start, count = rounds * self.period_s, count - rounds * self._sums[-1]
        i = min(bisect_right(self._sums, count), len(self._sums)) - 1
        left, rate = count - self._sums[i], self.rates[i]
        if i == len(self.times) - 1:
            return start + self.times[i] + (left / rate if rate > 0 else math.inf if left > 0 else 0.0)
        slope = (self.rates[i + 1] - rate) / (self.times[i + 1] - self.times[i])
        root = math.sqrt(max(0.0, rate * rate + 2.0 * slope * left))
        return start + self.times[i] + (2.0 * left / (rate + root) if rate + root > 0 else 0.0)
