"""The search behind `studies.rates`: candidates by their bounds, played out with more workers until limits are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.progress import tell
from mowich.requests.loads import ServeLoad
from mowich.serving import capacity
from mowich.serving.search import ServeJob
from mowich.studies.rate_scenario import Timing, WorkerGroup, scenario_text
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import searched_plans, worker
from mowich.studies.traffic import REDRAWS, TrafficResult, simulate_traffic
from mowich.studies.traffic_pools import chips_by_system
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

BUDGET = 120_000
"""Requests that a search plays out at most, before the answers themselves, as `weighed`."""

ANSWER_BUDGET = 90_000
"""The same for an answer with its ranges."""

ROUTED = 40
"""Workers that it takes as long to choose from as to play out the request."""

SCREENED, LEAST_ANSWERED, ANSWERED = 2000, 4000, 12_000
"""Requests that stand in the percentiles of a candidate, and of an answer: on many workers, on few."""

SAFETY = 1.05
"""How much more than its bound a worker may serve: closed forms and simulation differ by less."""

GROWTH = 1.12
"""By how much a pool that is too small grows at least, beyond one worker."""

HELPS = 0.98
"""Share of a percentile to which more workers must bring it, to be added on."""

KEPT = 6
"""Plans of each kind, system and pair of systems that are candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A system with its plans. usd_per_s: of a chip (None: no price)."""

    spec: str
    system: System
    deployment: Deployment
    usd_per_s: float | None
    together: capacity.Capacity
    prompts: capacity.Capacity
    decode: capacity.Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCandidate:
    """A plan, or a pair of plans, and the fewest workers that could do. request_s: time of a request, about."""

    front: Side
    plan: int
    behind: Side | None
    decode: int
    least: tuple[int, int]
    request_s: float

    @property
    def systems(self) -> frozenset[str]:
        """The systems that it is on."""
        return frozenset(side.system.id for side, _ in self.sides())

    def sides(self) -> Iterator[tuple[Side, int]]:
        """The pools: side, plan."""
        yield self.front, self.plan
        if self.behind is not None:
            yield self.behind, self.decode

    def chips(self, workers: tuple[int, int]) -> dict[str, float]:
        """Chips of each system."""
        out: dict[str, float] = {}
        for (side, plan), n in zip(self.sides(), workers, strict=False):
            used = n * side.deployment.plans[plan].devices / side.system.devices_per_chip
            out[side.system.id] = out.get(side.system.id, 0.0) + used
        return {name: float(math.ceil(used)) for name, used in out.items()}

    def cost(self, workers: tuple[int, int], goal: str) -> float:
        """Chips, or USD per second; inf where a price is not known."""
        chips = self.chips(workers)
        if goal == "chips":
            return sum(chips.values())
        rates = {side.system.id: side.usd_per_s for side, _ in self.sides()}
        total = 0.0
        for name, used in chips.items():
            rate = rates[name]
            total += math.inf if rate is None else rate * used
        return total

    def fits(self, workers: tuple[int, int]) -> bool:
        """Whether the systems have the chips."""
        limits = {side.system.id: side.system.chips for side, _ in self.sides()}
        return all(used <= limits[name] for name, used in self.chips(workers).items())


@dataclass(slots=True, kw_only=True)
class RateSearch:
    """A search under way. played: what was simulated, by candidate and workers; requests: in all; spent, left: as
    `weighed`; is_cut: whether it wanted to play more."""

    model: Model
    model_given: str
    job: ServeJob
    load: ServeLoad
    facts: Facts
    term: str
    seed: int
    given: Mapping[str, object]
    left: int = BUDGET
    requests: int = 0
    spent: int = 0
    is_cut: bool = False
    played: dict[tuple[int, tuple[int, int]], TrafficResult | None] = field(default_factory=dict)
    answers: dict[str, tuple[TrafficScenario, TrafficResult]] = field(default_factory=dict)
    bases: dict[int, TrafficScenario] = field(default_factory=dict)

    def rate(self, request_s: float) -> float:
        """Requests per second of the load, about."""
        if self.load.rate is not None:
            return self.load.rate
        return (self.load.users or 0) / (request_s + self.load.think_s)

    def may_play(self) -> bool:
        """Whether it may play more; it remembers where not."""
        self.is_cut = self.is_cut or self.left <= 0
        return self.left > 0

    def timing(self, c: RateCandidate, counted: int) -> Timing:
        """When its requests come and are counted."""
        return Timing.of(self.rate(c.request_s), c.request_s, self.load, counted)

    def arrivals(self, c: RateCandidate) -> float:
        """Requests of an answer, about."""
        return self.rate(c.request_s) * self.timing(c, LEAST_ANSWERED).last_s

    def text(self, c: RateCandidate, workers: tuple[int, int], counted: int) -> str:
        """The scenario of a deployment."""
        front, behind = c.front, c.behind
        return scenario_text(
            self.model_given,
            front=WorkerGroup(
                on=front.spec,
                system=front.system,
                engine=front.deployment.engine,
                plan=front.deployment.plans[c.plan],
                workers=workers[0],
            ),
            behind=None
            if behind is None
            else WorkerGroup(
                on=behind.spec,
                system=behind.system,
                engine=behind.deployment.engine,
                plan=behind.deployment.plans[c.decode],
                workers=workers[1],
            ),
            job=self.job,
            load=self.load,
            timing=self.timing(c, counted),
            term=self.term,
            seed=self.seed,
        )

    def play(self, i: int, c: RateCandidate, workers: tuple[int, int]) -> TrafficResult | None:
        """What a candidate shows with so many workers; None where one request does not fit."""
        key = (i, workers)
        if key not in self.played:
            tell(f"playing deployment {len(self.played) + 1}, {self.requests:,} requests so far")
            try:
                if i not in self.bases:
                    self.bases[i] = read_traffic(self.text(c, c.least, SCREENED), self.facts)
                result = simulate_traffic(_with_workers(self.bases[i], workers), self.facts)
                self.left -= weighed(result.requests, workers)
                self.spent += weighed(result.requests, workers)
                self.requests += result.requests
                self.played[key] = result
            except UserError as error:
                if error.code != EXIT_INFEASIBLE:
                    raise
                self.played[key] = None
        return self.played[key]

    def answer(self, c: RateCandidate, workers: tuple[int, int]) -> tuple[TrafficScenario, TrafficResult]:
        """A deployment as it is shown: its scenario, played for as long as an answer is."""
        text = self.text(c, workers, answered(workers))
        if text not in self.answers:
            scenario = read_traffic(text, self.facts)
            result = simulate_traffic(scenario, self.facts)
            self.left -= weighed(result.requests, workers)
            self.spent += weighed(result.requests, workers)
            self.requests += result.requests
            self.answers[text] = (scenario, result)
        return self.answers[text]

    def draws(self, requests: int, workers: tuple[int, int]) -> int:
        """Other draws that the range of an answer rests on: fewer of a long traffic on many workers."""
        return max(1, min(REDRAWS, ANSWER_BUDGET // max(1, weighed(requests, workers)) - 3))

    def broken(self, result: TrafficResult | None) -> tuple[bool, bool]:
        """Whether the limits on the first token, and on later ones, are broken."""
        if result is None:
            return True, True
        job, load = self.job, self.load
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


def _with_workers(base: TrafficScenario, workers: tuple[int, int]) -> TrafficScenario:
    serve = replace(base.serve, replicas=workers[0])
    decode = None if base.decode is None else replace(base.decode, replicas=workers[1])
    pools = [serve] if decode is None else [serve, decode]
    return replace(base, serve=serve, decode=decode, chips_of=chips_by_system(pools))


def side_of(
    s: RateSearch, spec: str, system: System, engine: str, fixed: Mapping[str, Sequence[int | str]]
) -> Side | None:
    """A system with the bounds of its plans; None where no plan is legal."""
    plans = searched_plans(s.model, system, s.job.prompt, s.facts, fixed)
    if not plans:
        return None
    d = deploy(s.model, system, engine, plans, s.facts, accept=s.job.accept)
    w = worker(d, s.job)
    means = replace(
        s.job,
        ttft_s=min(s.job.ttft_s, s.load.p99_ttft_s),
        tpot_s=min(s.job.tpot_s, s.load.p99_tpot_s),
    )
    return Side(
        spec=spec,
        system=system,
        deployment=d,
        usd_per_s=money.price(s.facts, system.id, term=s.term).rate.value,
        together=capacity.together_capacity(w, means),
        prompts=capacity.prefill_capacity(w, means),
        decode=capacity.decode_capacity(w, means),
    )


def _fewest(s: RateSearch, side: Side, bound: capacity.Capacity, rest_s: float) -> list[tuple[int, int, float]]:
    """(plan, workers, seconds of a request) of the plans that need the fewest devices, the best `KEPT`. rest_s: of a
    request elsewhere."""
    found = []
    for i, plan in enumerate(side.deployment.plans):
        if bound.per_s[i] > 0.0:
            seconds = float(bound.request_s[i]) + rest_s
            n = max(1, math.ceil(s.rate(seconds) / (SAFETY * float(bound.per_s[i]))))
            if n * plan.devices <= side.system.devices:
                found.append((n * plan.devices, -float(bound.per_s[i]) / plan.devices, i, n, seconds))
    return [(i, n, seconds) for _, _, i, n, seconds in sorted(found)[:KEPT]]


def candidates_of(s: RateSearch, sides: Sequence[Side], together: bool, apart: bool) -> list[RateCandidate]:
    """What could serve the load, in no order. Raises UserError where it is too much to be played out."""
    out: list[RateCandidate] = []
    for side in sides if together else ():
        for i, n, seconds in _fewest(s, side, side.together, 0.0):
            out.append(RateCandidate(front=side, plan=i, behind=None, decode=-1, least=(n, 0), request_s=seconds))
    for front in sides if apart else ():
        for behind in sides:
            answer = min((x for _, _, x in _fewest(s, behind, behind.decode, 0.0)), default=0.0)
            firsts = _fewest(s, front, front.prompts, answer)
            for p, x, prompt_s in firsts[:KEPT]:
                for d, y, seconds in _fewest(s, behind, behind.decode, prompt_s - answer)[:KEPT]:
                    one = RateCandidate(front=front, plan=p, behind=behind, decode=d, least=(x, y), request_s=seconds)
                    if one.fits(one.least):
                        out.append(one)
    short = [c for c in out if s.arrivals(c) <= BUDGET]
    if out and not short:
        fewest = min(s.arrivals(c) for c in out)
        raise UserError(
            f"a steady state of this load is {fewest:,.0f} requests, too many to play out",
            field="rate" if s.load.users is None else "users",
            allowed=f"up to {BUDGET:,} requests",
            fix="ask for a part of it: a tenth of the load needs about a tenth of the chips",
        )
    return short


def _smallest(s: RateSearch, i: int, c: RateCandidate, goal: str, best: float) -> tuple[int, int] | None:
    """The fewest workers of a candidate that keep the limits at less than the best cost; None where there are none, or
    the search has played all it may."""
    workers, low = c.least, (0, 0)
    before = (math.inf, math.inf)
    while True:
        if c.cost(workers, goal) >= best or not c.fits(workers):
            return None
        if not s.may_play():
            return None
        result = s.play(i, c, workers)
        late, slow = s.broken(result)
        if not late and not slow:
            break
        now = (math.inf, math.inf) if result is None else (result.ttft_s["p99"] or 0.0, result.tpot_s["p99"] or 0.0)
        if result is None or any(
            is_broken and after > HELPS * earlier
            for is_broken, after, earlier in zip((late, slow), now, before, strict=True)
        ):
            return None  # more workers do not help: one request alone takes too long
        before = now
        low = workers
        if c.behind is None:
            workers = (more_workers(workers[0]), 0)
        else:
            workers = (
                more_workers(workers[0]) if late else workers[0],
                more_workers(workers[1]) if slow else workers[1],
            )
    while c.behind is None and workers[0] - low[0] > 1 and s.may_play():  # between one that fails and one that does not
        middle = ((workers[0] + low[0]) // 2, 0)
        if middle[0] < c.least[0]:
            break
        if any(s.broken(s.play(i, c, middle))):
            low = middle
        else:
            workers = middle
    workers = _fewer(s, i, c, workers)
    while True:  # a longer run may say that it is not enough
        late, slow = s.broken(s.answer(c, workers)[1])
        if not late and not slow:
            return workers
        x, y = workers
        workers = (more_workers(x) if late or c.behind is None else x, more_workers(y) if slow and y else y)
        if c.cost(workers, goal) >= best or not c.fits(workers) or not s.may_play():
            return None


def _fewer(s: RateSearch, i: int, c: RateCandidate, workers: tuple[int, int]) -> tuple[int, int]:
    """One worker less of each pool while the limits are kept: a bound need not be met exactly."""
    for pool in (0, 1) if c.behind is not None else (0,):
        while workers[pool] > 1 and s.may_play():
            less = (workers[0] - 1, workers[1]) if pool == 0 else (workers[0], workers[1] - 1)
            if any(s.broken(s.play(i, c, less))):
                break
            workers = less
    return workers


def searched(s: RateSearch, candidates: Sequence[RateCandidate]) -> tuple[dict[int, tuple[int, int]], dict[str, int]]:
    """(workers of candidates that keep the limits: the best of each system, and of pairs of systems those that are
    better than all; the smallest and the cheapest of them, by goal)."""
    found: dict[int, tuple[int, int]] = {}
    total = s.left
    alone = sorted({c.systems for c in candidates if len(c.systems) == 1}, key=sorted)
    pairs = [i for i, c in enumerate(candidates) if len(c.systems) > 1]
    groups = len(alone) + (2 if pairs else 0)
    for k, names in enumerate(alone):  # on one system the cheapest is the smallest
        s.left = max(0, total - s.spent) // (groups - k)
        _best_of(s, candidates, [i for i, c in enumerate(candidates) if c.systems == names], "chips", math.inf, found)
    winners = {}
    for k, goal in enumerate(("chips", "usd")):
        s.left = max(0, total - s.spent) // (2 - k)
        best = min((candidates[i].cost(n, goal) for i, n in found.items()), default=math.inf)
        _best_of(s, candidates, pairs, goal, best, found)
        known = {i: candidates[i].cost(n, goal) for i, n in found.items()}
        first = min(known, key=lambda i: (known[i], i), default=None)
        if first is not None and math.isfinite(known[first]):
            winners[goal] = first
    return found, winners


def _best_of(
    s: RateSearch,
    candidates: Sequence[RateCandidate],
    which: Sequence[int],
    goal: str,
    best: float,
    found: dict[int, tuple[int, int]],
) -> None:
    """Add to what was found the best of some candidates, where it is better than `best`."""
    winner: tuple[int, tuple[int, int]] | None = None
    for i in sorted(which, key=lambda i: (candidates[i].cost(candidates[i].least, goal), i)):
        c = candidates[i]
        if c.cost(c.least, goal) >= best:
            break
        workers = _smallest(s, i, c, goal, best)
        if workers is not None:
            winner, best = (i, workers), c.cost(workers, goal)
    if winner is not None:
        found[winner[0]] = winner[1]


def more_workers(workers: int) -> int:
    return max(workers + 1, math.floor(workers * GROWTH))
