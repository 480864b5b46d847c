"""The search behind `studies.rates`: candidates by their bounds, played out with more workers until limits are kept.

Each system is searched alone, with a budget of its own: what else a question names moves nothing of it. So the answer
of several systems is the best of their single answers, or a pair of systems that is better than all of them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mowich.errors import UserError, or_infeasible
from mowich.progress import tell
from mowich.requests.jobs import PlanRequest
from mowich.requests.loads import ServeLoad
from mowich.serving.traffic.play import Cutoff
from mowich.studies.rate_scenario import LONGER, SETTLED, Timing, WorkerGroup, scenario_text
from mowich.studies.rate_sides import RateCandidate, requests_per_s, unlike_prices
from mowich.studies.traffic import REDRAWS, TrafficResult, simulate_traffic
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

BUDGET = 120_000
"""The most requests that a search plays out on one system, and as many again on all pairs of systems (`weighed`)."""

ANSWER_BUDGET = 90_000
"""The most requests that an answer with its ranges plays out."""

ROUTED = 40
"""Workers that it takes as long to choose from as to play out the request."""

SCREENED, LEAST_ANSWERED, ANSWERED = 2000, 4000, 8000
"""Requests that stand in the percentiles of a candidate, and of an answer: on many workers, on few."""

GROWTH = 0.12
"""By how much a pool that is too small grows at first, beyond one worker; each time twice as much."""

NOISE = 6.0
"""Standard deviations of a number of arrivals that are never exceeded."""

WARM_UPS = 5
"""A run is played again with a longer warm-up so often at most."""


@dataclass(frozen=True, slots=True)
class Played:
    """A deployment played at a load. result: None where one request does not fit; late, slow: whether a limit on the
    first token, and on later ones, is broken (both where it came to no steady state)."""

    result: TrafficResult | None
    scenario: TrafficScenario | None = None
    late: bool = True
    slow: bool = True

    @property
    def is_broken(self) -> bool:
        return self.late or self.slow


@dataclass(slots=True, kw_only=True)
class RateSearch:
    """A search under way. played: what was simulated at the peak (the load with the headroom that is kept free), by
    candidate and workers; request_s: seconds of a request, where a run showed more than the bound says; requests:
    played in all; left: of the group's budget, as `weighed`; cut: the groups of systems that would have been played
    further."""

    asked: PlanRequest
    candidates: Sequence[RateCandidate] = ()
    left: int = BUDGET
    requests: int = 0
    group: frozenset[str] = frozenset()
    cut: set[frozenset[str]] = field(default_factory=set)
    played: dict[tuple[int, tuple[int, int]], Played] = field(default_factory=dict)
    answers: dict[tuple[int, tuple[int, int], ServeLoad], Played] = field(default_factory=dict)
    request_s: dict[tuple[int, tuple[int, int], ServeLoad], float] = field(default_factory=dict)

    def may_play(self) -> bool:
        """Whether it may play more; it remembers where not."""
        if self.left <= 0:
            self.cut.add(self.group)
        return self.left > 0

    def timing(self, i: int, workers: tuple[int, int], load: ServeLoad, counted: int) -> Timing:
        """When requests of a candidate come and are counted."""
        request_s = max(self.candidates[i].request_s(workers, load), self.request_s.get((i, workers, load), 0.0))
        return Timing.of(requests_per_s(load, request_s), request_s, load, counted)

    def text(self, i: int, workers: tuple[int, int], load: ServeLoad, timing: Timing) -> str:
        """The scenario of a deployment."""
        c = self.candidates[i]
        groups = [
            WorkerGroup(
                on=side.on(c.chips(workers)[side.spec]),
                system=side.system,
                engine=side.deployment.engine,
                plan=side.deployment.plans[plan],
                workers=n,
            )
            for (side, plan), n in zip(c.sides(), workers, strict=False)
        ]
        return scenario_text(self.asked, load, groups=groups, timing=timing)

    def play(self, i: int, workers: tuple[int, int]) -> Played:
        """What a candidate shows with so many workers at the peak, until a limit is broken for certain."""
        key = (i, workers)
        if key not in self.played:
            tell(f"playing deployment {len(self.played) + 1}, {self.requests:,} requests so far")
            found = or_infeasible(self._steady, i, workers, self.asked.peak, SCREENED, is_cut=True)
            self.played[key] = Played(None) if isinstance(found, UserError) else found
        return self.played[key]

    def answer(self, i: int, workers: tuple[int, int], load: ServeLoad) -> Played:
        """A deployment as it is shown, or at the peak: its scenario, played for as long as an answer is."""
        key = (i, workers, load)
        if key not in self.answers:
            self.answers[key] = self._steady(i, workers, load, answered(workers), is_cut=False)
        return self.answers[key]

    def _steady(self, i: int, workers: tuple[int, int], load: ServeLoad, counted: int, *, is_cut: bool) -> Played:
        """A run that is warm before requests are counted."""
        for _ in range(WARM_UPS):
            timing = self.timing(i, workers, load, counted)
            scenario = read_traffic(self.text(i, workers, load, timing), self.asked.facts, self.asked.model)
            cutoff = self._cutoff(timing, load) if is_cut else None
            result = simulate_traffic(scenario, self.asked.facts, cutoff=cutoff)
            self.left -= weighed(result.requests, workers)
            self.requests += result.requests
            if cutoff is not None and any(cutoff.broken):
                return Played(result, scenario, *cutoff.broken)
            seen_s = result.e2e_s["mean"] or 0.0
            if seen_s <= SETTLED * timing.request_s:
                return Played(result, scenario, *self._broken(result))
            self.request_s[i, workers, load] = LONGER * seen_s
            if is_cut and self.left <= 0:
                break
        return Played(result, scenario)

    def _cutoff(self, timing: Timing, load: ServeLoad) -> Cutoff | None:
        """Users wait for their answers, so nobody knows how many requests of theirs are counted."""
        if load.rate is None:
            return None
        mean = load.rate * timing.last_s
        most = mean + NOISE * math.sqrt(mean) + 1.0
        limits = self.asked.serve_load
        return Cutoff(ttft_s=limits.p99_ttft_s, tpot_s=limits.p99_tpot_s, most=most)

    def draws(self, requests: int, workers: tuple[int, int]) -> int:
        """Other draws that the range of an answer rests on: fewer of a long traffic on many workers."""
        return max(1, min(REDRAWS, ANSWER_BUDGET // max(1, weighed(requests, workers)) - 3))

    def _broken(self, result: TrafficResult) -> tuple[bool, bool]:
        """Whether the limits on the first token, and on later ones, are broken."""
        job, load = self.asked.serve_job, self.asked.serve_load
        first = _above(result.ttft_s, load.p99_ttft_s, job.ttft_s)
        return first, _above(result.tpot_s, load.p99_tpot_s, job.tpot_s)


def answered(workers: tuple[int, int]) -> int:
    """Requests that stand in the percentiles of an answer."""
    return max(LEAST_ANSWERED, ANSWERED * ROUTED // (ROUTED + sum(workers)))


def weighed(requests: int, workers: tuple[int, int]) -> int:
    """Requests as long as they take: each looks at every worker before one is chosen."""
    return requests * (ROUTED + sum(workers)) // ROUTED


def _above(times: Mapping[str, float | None], p99: float, mean: float) -> bool:
    """Whether a limit is broken; nothing was counted: it is."""
    tail, middle = times["p99"], times["mean"]
    if tail is None or middle is None:
        return math.isfinite(p99) or math.isfinite(mean)
    return tail > p99 or middle > mean


def playable(candidates: Sequence[RateCandidate], load: ServeLoad) -> list[RateCandidate]:
    """The candidates that can be played out. Raises UserError where none of several can."""

    def arrivals(c: RateCandidate) -> float:
        request_s = c.request_s(c.least, load)
        rate = requests_per_s(load, request_s)
        return rate * Timing.of(rate, request_s, load, LEAST_ANSWERED).last_s

    each = [arrivals(c) for c in candidates]
    if each and min(each) > BUDGET:
        raise UserError(
            f"a steady state of this load is {min(each):,.0f} requests, too many to play out",
            field="rate" if load.users is None else "users",
            allowed=f"up to {BUDGET:,} requests",
            fix="ask for a part of it: a tenth of the load needs about a tenth of the chips",
        )
    return [c for c, requests in zip(candidates, each, strict=True) if requests <= BUDGET]


@dataclass(frozen=True, slots=True, order=True)
class _Trial:
    """A candidate that is to be played next. low: workers that are too few; grown: how often it grew."""

    cost: float
    candidate: int
    workers: tuple[int, int]
    low: tuple[int, int] = (0, 0)
    grown: int = 0

    def grow(self, s: RateSearch, workers: tuple[int, int], played: Played, goal: str) -> _Trial | None:
        """The trial with more workers, where these break a limit; None where there is no room for more."""
        c = s.candidates[self.candidate]
        more = _more(c, workers, played, self.grown)
        if c.behind is None and workers[0] < c.most_workers < more[0]:
            more = (c.most_workers, 0)  # all that there are
        if not c.fits(more):
            return None
        return _Trial(c.cost(more, goal), self.candidate, more, workers, self.grown + 1)


def _best_of(s: RateSearch, which: Sequence[int], goal: str, best: float, found: RateFindings) -> None:
    """Add to what was found the best of some candidates, where it is better than `best`. Whatever costs least is
    played next; what breaks a limit comes again with more workers, when these are the cheapest."""
    trials = [_Trial(s.candidates[i].cost(s.candidates[i].least, goal), i, s.candidates[i].least) for i in which]
    heapq.heapify(trials)
    winner: tuple[int, tuple[int, int]] | None = None
    while trials and trials[0].cost < best and s.may_play():
        trial = heapq.heappop(trials)
        i, c = trial.candidate, s.candidates[trial.candidate]
        workers, played = trial.workers, s.play(i, trial.workers)
        if played.result is None:
            continue
        if not played.is_broken:
            workers = _fewest_between(s, i, trial.low, workers)
            played = s.answer(i, workers, s.asked.peak)  # a longer run may say that it is not enough
            if not played.is_broken:
                if c.cost(workers, goal) < best:
                    winner, best = (i, workers), c.cost(workers, goal)
                continue
            trial = replace(trial, grown=0)
        more = trial.grow(s, workers, played, goal)
        if more is not None:
            heapq.heappush(trials, more)
    if winner is not None:
        found.workers[winner[0]] = winner[1]


def _fewest_between(s: RateSearch, i: int, low: tuple[int, int], workers: tuple[int, int]) -> tuple[int, int]:
    """The fewest workers of a candidate that keep the limits, above those that do not and up to those that do; down to
    its floor, as a bound need not be met exactly."""
    c = s.candidates[i]
    while c.behind is None and workers[0] - low[0] > 1 and low[0] and s.may_play():
        middle = ((workers[0] + low[0]) // 2, 0)
        if s.play(i, middle).is_broken:
            low = middle
        else:
            workers = middle
    for pool in (0, 1) if c.behind is not None else (0,):
        while workers[pool] > c.floor[pool] and s.may_play():
            less = (workers[0] - 1, workers[1]) if pool == 0 else (workers[0], workers[1] - 1)
            if less == low or s.play(i, less).is_broken:
                break
            workers = less
    return workers


def _more(c: RateCandidate, workers: tuple[int, int], played: Played, grown: int) -> tuple[int, int]:
    """More workers of the pool that is too small. grown: how often it grew before."""

    def more(n: int) -> int:
        return n + (max(1, math.floor(GROWTH * n)) << grown)

    x, y = workers
    return (more(x) if played.late or c.behind is None else x, more(y) if played.slow and y else y)


@dataclass(slots=True, kw_only=True)
class RateFindings:
    """workers: of candidates that keep the limits, by their index: the best of each system, and of pairs of systems
    those that are better than all; winners: the smallest and the cheapest of them, by goal; costlier: systems that were
    not played, because at their bounds they need more of both, with the least chips and USD per second."""

    workers: dict[int, tuple[int, int]] = field(default_factory=dict)
    winners: dict[str, int] = field(default_factory=dict)
    costlier: dict[str, tuple[float, float]] = field(default_factory=dict)


COSTED = ("chips", "usd")


def searched(s: RateSearch) -> RateFindings:
    """The best of each system, the most promising first, and of pairs of systems."""
    found = RateFindings()
    groups: dict[frozenset[str], list[int]] = {}
    for i, c in enumerate(s.candidates):
        groups.setdefault(c.systems if len(c.systems) == 1 else frozenset(), []).append(i)
    pairs = groups.pop(frozenset(), [])
    bounds = {
        names: tuple(min(s.candidates[i].cost(s.candidates[i].floor, goal) for i in which) for goal in COSTED)
        for names, which in groups.items()
    }
    goals = COSTED[:1] if unlike_prices(s.candidates) else COSTED
    for names in sorted(groups, key=lambda names: (bounds[names][::-1], sorted(names))):
        chips, usd = bounds[names]
        if goals == COSTED and chips > _best(s, found, "chips") and usd > _best(s, found, "usd"):
            found.costlier[next(iter(names))] = (chips, usd)
            continue
        s.group, s.left = names, BUDGET
        _best_of(s, groups[names], "chips", math.inf, found)  # on one system the cheapest is the smallest
    s.group, s.left = frozenset({spec for i in pairs for spec in s.candidates[i].systems}), BUDGET
    for goal in goals:
        _best_of(s, pairs, goal, _best(s, found, goal), found)
        known = {i: s.candidates[i].cost(n, goal) for i, n in found.workers.items()}
        first = min(known, key=lambda i: (known[i], i), default=None)
        if first is not None and math.isfinite(known[first]):
            found.winners[goal] = first
    return found


def _best(s: RateSearch, found: RateFindings, goal: str) -> float:
    return min((s.candidates[i].cost(n, goal) for i, n in found.workers.items()), default=math.inf)
