"""What could serve a load: the systems of a question with the bounds of their plans, and the plans, and pairs of plans,
that by these bounds need the fewest devices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mowich.economics import money
from mowich.launch.emitted import runs_plan
from mowich.machines.system import System, parse_spec, resolve
from mowich.price_terms import quote
from mowich.requests.jobs import PlanRequest
from mowich.requests.loads import ServeLoad
from mowich.serving import capacity
from mowich.serving.search import ServeJob
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import searched_modes, searched_plans, worker
from mowich.sums import float_sum

SAFETY = 1.05
"""How much more than its bound a worker may serve: closed forms and simulation differ by less."""

NEVER_FEWER = 1.25
"""As `SAFETY`, for the fewest workers that are played at all: no simulation comes near it."""

KEPT = 6
"""Plans of each kind, system and pair of systems that are candidates."""

DOUBLINGS = 4
"""How often one unit is doubled for a worker that needs more of them, where no number of chips is asked."""

MOST_GROWN = 8
"""Times of the fewest workers up to which a deployment without a number of chips grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A system with its plans. system: with the chips that a worker may have; most_chips: of a deployment; is_sized:
    whether the question says how many; price: of a chip and second."""

    spec: str
    system: System
    most_chips: int
    is_sized: bool
    deployment: Deployment
    price: money.Price
    together: capacity.Capacity
    prompts: capacity.Capacity
    decode: capacity.Capacity

    def on(self, chips: float) -> str:
        """The system of a deployment on so many chips, as a scenario names it."""
        return self.spec if self.is_sized else f"{self.spec}:{math.ceil(chips)}"


def means_asked(asked: PlanRequest) -> ServeJob:
    """The limits on percentiles as limits on means."""
    job, load = asked.serve_job, asked.serve_load
    return replace(job, ttft_s=min(job.ttft_s, load.p99_ttft_s), tpot_s=min(job.tpot_s, load.p99_tpot_s))


def side_of(asked: PlanRequest, spec: str, engine: str, *, is_open: bool = False) -> Side | None:
    """A system with the bounds of the plans that the program asked for can run (without one: of all); None where no
    plan is legal. Without a number of chips (is_open: and where there is one) a worker has one unit, and more where no
    plan of one unit could do."""
    is_sized = parse_spec(spec)[1] is not None and not is_open
    system = resolve(asked.facts, spec)
    found = _side(asked, spec, system, engine, is_sized)
    for _ in range(0 if is_sized else DOUBLINGS):
        if (found is not None and could_serve(found)) or 2 * system.chips > system.max_chips:
            break
        system = replace(system, chips=2 * system.chips)
        found = _side(asked, spec, system, engine, is_sized) or found
    return found


def could_serve(side: Side) -> bool:
    """Whether a plan keeps the limits on means at some batch."""
    return bool(side.together.per_s.any() or (side.prompts.per_s.any() and side.decode.per_s.any()))


def _side(asked: PlanRequest, spec: str, system: System, engine: str, is_sized: bool) -> Side | None:
    job, means, facts = asked.serve_job, means_asked(asked), asked.facts
    plans = searched_plans(asked.model, system, job.prompt, facts, asked.fixed)
    plans = [p for p in plans if asked.emit is None or runs_plan(asked.emit, p, system, engine)]
    if not plans:
        return None
    d = deploy(asked.model, system, engine, plans, facts, accept=job.accept)
    w = worker(d, job)
    return Side(
        spec=spec,
        system=system,
        most_chips=system.chips if is_sized else system.max_chips,
        is_sized=is_sized,
        deployment=d,
        price=money.price(facts, system.id, term=asked.term),
        together=capacity.together_capacity(w, means),
        prompts=capacity.prefill_capacity(w, means),
        decode=capacity.decode_capacity(w, means),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCandidate:
    """A plan, or a pair of plans: the fewest workers that by their bounds could do, where a search begins, and the
    fewest that it plays."""

    front: Side
    plan: int
    behind: Side | None
    decode: int
    least: tuple[int, int]
    floor: tuple[int, int]

    @property
    def systems(self) -> frozenset[str]:
        """The systems that it is on."""
        return frozenset(side.spec for side, _ in self.sides())

    def sides(self) -> Iterator[tuple[Side, int]]:
        """The pools: side, plan."""
        yield self.front, self.plan
        if self.behind is not None:
            yield self.behind, self.decode

    def chips(self, workers: tuple[int, int]) -> dict[str, float]:
        """Chips of each system, as the question names it."""
        out: dict[str, float] = {}
        for (side, plan), n in zip(self.sides(), workers, strict=False):
            used = n * side.deployment.plans[plan].devices / side.system.devices_per_chip
            out[side.spec] = out.get(side.spec, 0.0) + used
        return {name: float(math.ceil(used)) for name, used in out.items()}

    def cost(self, workers: tuple[int, int], goal: str) -> float:
        """Chips, or USD per second; inf where a price is not known. All that an answer says of a price is this."""
        chips = self.chips(workers)
        if goal == "chips":
            return float_sum(chips.values())
        rates = {side.spec: side.price.rate.value for side, _ in self.sides()}
        return float_sum(math.inf if (rate := rates[name]) is None else rate * used for name, used in chips.items())

    def fits(self, workers: tuple[int, int]) -> bool:
        """Whether the systems have the chips; where they may have any number, whether it has not grown too far."""
        limits = {side.spec: side.most_chips for side, _ in self.sides()}
        grown = all(
            side.is_sized or n <= MOST_GROWN * least
            for (side, _), n, least in zip(self.sides(), workers, self.least, strict=False)
        )
        return grown and all(used <= limits[name] for name, used in self.chips(workers).items())

    @property
    def most_workers(self) -> int:
        """Of workers that do both, as many as the system has room for."""
        side = self.front
        return side.most_chips * side.system.devices_per_chip // side.deployment.plans[self.plan].devices

    def request_s(self, workers: tuple[int, int], load: ServeLoad) -> float:
        """Seconds of a request, about, under a load."""

        def at(bound: capacity.Capacity, plan: int, n: int, think_s: float) -> float:
            each = None if load.rate is None else load.rate / n
            return bound.seconds_at(plan, per_s=each, users=(load.users or 0) / n, think_s=think_s)

        if self.behind is None:
            return at(self.front.together, self.plan, workers[0], load.think_s)
        prompt_s = float(self.front.prompts.request_s[self.plan])
        return prompt_s + at(self.behind.decode, self.decode, workers[1], load.think_s + prompt_s)


def unlike_prices(candidates: Sequence[RateCandidate]) -> str:
    """Why deployments are not ranked by cost: prices of unlike kinds, or no price of some; "" where they are."""
    known = {side.spec: quote(side.price.label) for c in candidates for side, _ in c.sides()}
    if len({None if one is None else one.term for one in known.values()}) < 2:
        return ""
    said = ", ".join(f"{spec} {one or 'unknown'}" for spec, one in known.items())
    return f"prices are on different terms ({said})"


def requests_per_s(load: ServeLoad, request_s: float) -> float:
    """Requests per second of a load, about. request_s: of one."""
    return load.rate if load.rate is not None else (load.users or 0) / (request_s + load.think_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fewest:
    """The fewest workers of a plan, by its bound. request_s: of a request there, and elsewhere."""

    plan: int
    workers: int
    floor: int
    request_s: float


def _fewest(side: Side, bound: capacity.Capacity, load: ServeLoad, rest_s: float) -> list[_Fewest]:
    """The plans that need the fewest devices, the best `KEPT`. rest_s: of a request elsewhere."""
    found = []
    for i, plan in enumerate(side.deployment.plans):
        if bound.per_s[i] > 0.0:
            seconds = float(bound.request_s[i]) + rest_s
            load_of_one = requests_per_s(load, seconds) / float(bound.per_s[i])
            n, floor = (max(1, math.ceil(load_of_one / more)) for more in (SAFETY, NEVER_FEWER))
            if n * plan.devices <= side.most_chips * side.system.devices_per_chip:
                one = _Fewest(plan=i, workers=n, floor=floor, request_s=seconds)
                found.append((n * plan.devices, -float(bound.per_s[i]) / plan.devices, i, one))
    return [one for *_, one in sorted(found, key=lambda f: f[:3])[:KEPT]]


def candidates_of(asked: PlanRequest, sides: Sequence[Side]) -> list[RateCandidate]:
    """What could serve the load at its peak, of the kinds of deployments that are searched, in no order."""
    load = asked.peak
    together, apart = searched_modes(asked.fixed)
    out: list[RateCandidate] = []
    for side in sides if together else ():
        out += [
            RateCandidate(
                front=side, plan=one.plan, behind=None, decode=-1, least=(one.workers, 0), floor=(one.floor, 0)
            )
            for one in _fewest(side, side.together, load, 0.0)
        ]
    for front in sides if apart else ():
        for behind in sides:
            answer_s = min((one.request_s for one in _fewest(behind, behind.decode, load, 0.0)), default=0.0)
            for first in _fewest(front, front.prompts, load, answer_s):
                for second in _fewest(behind, behind.decode, load, first.request_s - answer_s):
                    one = RateCandidate(
                        front=front,
                        plan=first.plan,
                        behind=behind,
                        decode=second.plan,
                        least=(first.workers, second.workers),
                        floor=(first.floor, second.floor),
                    )
                    if one.fits(one.least):
                        out.append(one)
    return out
