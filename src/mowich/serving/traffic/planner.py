"""How many replicas a planner wants: by requests inside, by what waits, by limits on times, or by a forecast.

A planner sees a pool at each look (`PoolView`) and says a number; `autoscale.ScaledPool` orders and dismisses. The
rules are those of planners in use (docs/records/autoscaling.md). `ReplicaProfile` is what one replica does at a load,
interpolated.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mowich.serving.traffic.forecasts import LoadPredictor

REPLICA_MARGIN = 1e-9
"""Of a number of replicas: one more is not wanted for it."""


@dataclass(slots=True, kw_only=True)
class PoolView:
    """What a planner sees of a pool at a look. there: replicas ordered or serving, without those that leave; serving:
    of these, that are up; inside, waiting: requests, in the whole pool; waiting_tokens: of their prompts; kv: share of
    the cache's blocks in use, mean of those that serve. Since the last look: came: requests; prompt: their mean
    tokens; answered: requests; output, ttft_s, tpot_s, e2e_s: their means (0: of none)."""

    at_s: float
    since_s: float
    there: int
    serving: int
    inside: int
    waiting: int = 0
    waiting_tokens: int = 0
    kv: float = 0.0
    came: int = 0
    prompt: float = 0.0
    answered: int = 0
    output: float = 0.0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0


class ReplicaPlanner(Protocol):
    """Says how many replicas of one pool are wanted. It may remember."""

    def wanted(self, view: PoolView) -> int:
        """Replicas wanted now; the pool's least and most bound it."""


def as_it_is(planner: ReplicaPlanner) -> ReplicaPlanner:
    """A planner that needs no making: it was given, or remembers nothing."""
    return planner


@dataclass(frozen=True, slots=True)
class ByInside:
    """As many replicas as hold `inside` requests each, as Kubernetes' HPA counts them.

    wanted = ceil(requests inside / inside)
    """

    inside: float

    def wanted(self, view: PoolView) -> int:
        return math.ceil(view.inside / self.inside - REPLICA_MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByQueue:
    """`step` more where what waits on a replica is above `queue_up` or the cache in use is above `kv_up`; `step` fewer
    where both are below `queue_down` and `kv_down` and the rest would stay below `kv_up`. None while a replica
    starts. counts_tokens: whether prompt tokens are counted, not requests."""

    queue_up: float
    queue_down: float
    kv_up: float
    kv_down: float
    step: int
    counts_tokens: bool

    def wanted(self, view: PoolView) -> int:
        if view.serving < view.there:
            return view.there
        waits = (view.waiting_tokens if self.counts_tokens else view.waiting) / max(1, view.serving)
        if waits > self.queue_up or view.kv > self.kv_up:
            return view.there + self.step
        fewer = view.there - self.step
        if waits < self.queue_down and view.kv < self.kv_down and fewer >= 1:
            return fewer if view.kv * view.there / fewer < self.kv_up else view.there
        return view.there


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The numbers of a schedule, look by look; the last one is held."""

    numbers: Sequence[int]
    every_s: float

    def wanted(self, view: PoolView) -> int:
        at = max(0, round(view.at_s / self.every_s) - 1)
        return self.numbers[min(at, len(self.numbers) - 1)]


@dataclass(slots=True, kw_only=True)
class Helped:
    """`number` replicas, and all there are while the answers since the last look broke a limit on their means and until
    nothing waits: so that what one number cannot do does not spoil what follows. helped: the looks at which it had
    help."""

    number: int
    limits_s: tuple[float, float, float]
    helped: list[float] = field(default_factory=list)
    _helps: bool = False

    def wanted(self, view: PoolView) -> int:
        times = (view.ttft_s, view.tpot_s, view.e2e_s)
        broken = any(time > limit for time, limit in zip(times, self.limits_s, strict=True))
        self._helps = broken or (self._helps and view.waiting > 0)
        if self._helps:
            self.helped.append(view.at_s)
        return BOUNDLESS if self._helps else self.number


BOUNDLESS = 1_000_000_000
"""Wanted where no number of replicas is enough: the most there are."""


# what a replica does
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProfile:
    """A replica in its steady state. Axes, each of which rises: prompts, outputs: tokens; users: requests inside.
    ttft_s, tpot_s: seconds at [prompt][output][users]. Between the points straight in logarithms; beyond them the
    nearest."""

    prompts: tuple[float, ...]
    outputs: tuple[float, ...]
    users: tuple[float, ...]
    ttft_s: tuple[tuple[tuple[float, ...], ...], ...]
    tpot_s: tuple[tuple[tuple[float, ...], ...], ...]

    def along_users(self, prompt: float, output: float) -> tuple[list[float], list[float]]:
        """(TTFT, TPOT) for each number of users, of requests of one length."""
        i, x = _place(self.prompts, prompt)
        j, y = _place(self.outputs, output)
        found = []
        for table in (self.ttft_s, self.tpot_s):
            a, b, c, d = table[i][j], table[i + 1][j], table[i][j + 1], table[i + 1][j + 1]
            found.append([_mixed(_mixed(a[k], b[k], x), _mixed(c[k], d[k], x), y) for k in range(len(self.users))])
        return found[0], found[1]

    def at(self, prompt: float, output: float, users: float) -> tuple[float, float]:
        """(TTFT, TPOT) at a load."""
        ttft, tpot = self.along_users(prompt, output)
        k, x = _place(self.users, users)
        return _mixed(ttft[k], ttft[k + 1], x), _mixed(tpot[k], tpot[k + 1], x)

    def rate(self, prompt: float, output: float, ttft_s: float, tpot_s: float) -> float:
        """The most requests per second of a replica at a number of users that keeps both limits; those of one user
        where none does."""
        ttft, tpot = self.along_users(prompt, output)
        later = max(0.0, output - 1.0)
        rates = [n / (first + later * each) for n, first, each in zip(self.users, ttft, tpot, strict=True)]
        best = rates[0]
        if ttft[0] > ttft_s or tpot[0] > tpot_s:
            return best
        for k in range(1, len(rates)):
            shares = [
                math.log(limit / a[k - 1]) / math.log(a[k] / a[k - 1])
                for a, limit in ((ttft, ttft_s), (tpot, tpot_s))
                if a[k] > limit
            ]
            best = max(best, _mixed(rates[k - 1], rates[k], max(0.0, min(shares, default=1.0))))
            if shares:
                break
        return best


def _place(axis: Sequence[float], value: float) -> tuple[int, float]:
    """(the point before a value, the share of the way to the next in logarithms)."""
    i = min(max(bisect.bisect_right(axis, value) - 1, 0), len(axis) - 2)
    share = math.log(value / axis[i]) / math.log(axis[i + 1] / axis[i]) if value > 0.0 else 0.0
    return i, min(1.0, max(0.0, share))


def _mixed(a: float, b: float, share: float) -> float:
    """Between two positive numbers, straight in logarithms."""
    return a if a == b or share == 0.0 else b if share == 1.0 else math.exp(math.log(a) + share * math.log(b / a))


def prompts_per_s(each_s: float, ttft_s: float) -> float:
    """Prompts per second of a worker that does nothing else, whose users wait for the first token `ttft_s` on average:
    of a queue with times that are alike (M/D/1).

    rate = 2 w / (1 + 2 w) / each_s, with w = ttft_s / each_s - 1

    Units: s. Of a limit below the prompt's own time: 0.

    Example:
        >>> round(prompts_per_s(0.1, 0.2), 2)
        6.67
    """
    waits = max(0.0, ttft_s / each_s - 1.0)
    return 2.0 * waits / (1.0 + 2.0 * waits) / each_s if math.isfinite(waits) else 1.0 / each_s


# by limits on times
# ----------------------------------------------------------------------------------------------------------------------

CORRECTION_ENDS = (0.5, 2.0)
"""Least and largest correction of a profiled time: a backlog is no property of a replica."""


@dataclass(slots=True, kw_only=True)
class ByTimes:
    """The fewest replicas that keep the limits on mean times at the rate to come.

    wanted = ceil(rate / (utilisation x rate of a replica at the limits))

    at: (TTFT, TPOT) of a replica for (prompt, output, users); of_replica: its rate for (prompt, output, limit on TTFT,
    limit on TPOT). What was seen over what the profile says corrects the limits: a TPOT that is larger than profiled
    lowers its limit by as much; a TTFT that is smaller (prompts found in a cache) raises its limit, and one that is
    larger (a queue) changes nothing. Where fewer than `enough` were answered since the last look, the factors stay.
    look_ahead_s: the rate is the larger one of now and of then; counts_first: whether requests are in the pool before
    their first token. rate, prompt, output: predictors of requests a look, and of their mean tokens."""

    at: Callable[[float, float, float], tuple[float, float]]
    of_replica: Callable[[float, float, float, float], float]
    ttft_s: float
    tpot_s: float
    utilisation: float
    enough: int
    look_ahead_s: float
    counts_first: bool
    rate: LoadPredictor
    prompt: LoadPredictor
    output: LoadPredictor
    correction: list[float] = field(default_factory=lambda: [1.0, 1.0])
    _prompt: float = 0.0
    _output: float = 0.0

    def wanted(self, view: PoolView) -> int:
        now = float(view.came)
        self.rate.add(now)
        if view.came:
            self._prompt = view.prompt
        if view.answered:
            self._output = view.output
        if self._prompt:
            self.prompt.add(self._prompt)
        if self._output:
            self.output.add(self._output)
        if not (self._prompt and self._output):  # no lengths are known yet
            return view.there
        if view.answered >= self.enough:
            self._correct(view)
        looks = math.ceil(self.look_ahead_s / view.since_s - REPLICA_MARGIN)
        rate = (max(now, self.rate.ahead(looks)) if looks else now) / view.since_s
        prompt, output = max(1.0, self.prompt.ahead(looks)), max(1.0, self.output.ahead(looks))
        first, each = self.correction
        one = self.of_replica(prompt, output, self.ttft_s / min(1.0, first), self.tpot_s / each)
        return math.ceil(rate / (self.utilisation * one) - REPLICA_MARGIN) if one > 0.0 else BOUNDLESS

    def _correct(self, view: PoolView) -> None:
        """What was seen over what the profile says of the load that was there, by Little's law."""
        there_s = view.e2e_s if self.counts_first else view.e2e_s - view.ttft_s
        users = view.answered / view.since_s * there_s / max(1, view.serving)
        expected = self.at(self._prompt, self._output, max(1.0, users))
        low, high = CORRECTION_ENDS
        for k, (seen, said) in enumerate(zip((view.ttft_s, view.tpot_s), expected, strict=True)):
            if seen > 0.0 and said > 0.0:
                self.correction[k] = min(high, max(low, seen / said))
