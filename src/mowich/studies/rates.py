"""`plan --serve --rate` and `--users`: the smallest and the cheapest deployment that serves a load within limits on
percentiles, found by playing the load out.

Bounds come first: from the closed forms of `serving.capacity`, how few workers of each plan could do. Candidates are
then simulated in order of that bound, with more workers until the limits are kept, and a candidate whose bound is no
better than what was found is left out. So the answer is the best of what was searched, up to the noise of a simulation.
The best ones are played again as the scenario that `mowich traffic` reads: the command that repeats them stands in the
answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, EXIT_LIMIT_BROKEN, EXIT_OK
from mowich.estimate import Estimate, unknown_estimate
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans.plan import ServePlan, stated_plan
from mowich.requests.loads import ServeLoad
from mowich.requests.scenarios import TRAFFIC
from mowich.serving.search import ServeJob
from mowich.shown import Rows, Shown
from mowich.software.engine import about_engine, engine_for
from mowich.software.vendors import unmeasured
from mowich.studies.rate_search import (
    RateCandidate,
    RateSearch,
    answered,
    candidates_of,
    searched,
    side_of,
)
from mowich.studies.serving_plan import searched_modes
from mowich.studies.traffic import TrafficResult, with_ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """One deployment. chips_of: by system; scenario: what `mowich traffic` reads;
    command: that plays it."""

    system: str
    system_id: str
    decode_system: str | None
    engine: str
    mode: str
    prefill: Mapping[str, object]
    decode: Mapping[str, object]
    replicas: Mapping[str, int]
    chips_used: int
    chips_of: Mapping[str, int]
    feasible: bool
    reason: str | None
    is_smallest: bool
    is_cheapest: bool
    ttft_s: Estimate
    tpot_s: Estimate
    p99_ttft_s: Estimate
    p99_tpot_s: Estimate
    requests_per_s: float
    in_flight: float
    utilisation: float
    tokens_per_s_per_chip: Estimate
    tokens_per_s_per_user: Estimate
    usd_per_h: float | None
    usd_per_mtok: Estimate
    J_per_token: Estimate
    price_label: str
    scenario: str
    command: str

    def to_dict(self) -> dict[str, object]:
        """A row of the answer."""
        out: dict[str, object] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            known = value.to_dict() if isinstance(value, Estimate) else value
            out[{"price_label": "price"}.get(name, name)] = dict(known) if isinstance(known, Mapping) else known
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class RateResult(Shown):
    """The deployments found, cheapest first. candidates: plans, and pairs of plans, that could serve the load;
    simulated: deployments that were played out, with simulated_requests in all.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> load = {"isl": "1k", "osl": "200", "rate": "20rps", "p99_ttft": "2s"}
        >>> mowich.plan("llama-3.1-8b", "h100", serve=load).rows[0].feasible  # doctest: +SKIP
        True
    """

    inputs: Mapping[str, object]
    facts_hash: str
    evaluated: int
    candidates: int
    simulated: int
    simulated_requests: int
    seconds: float
    rows: Rows[RateRow]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """`mowich/rates@1`."""
        return {
            "schema": "mowich/rates@1",
            "inputs": dict(self.inputs),
            "facts_hash": self.facts_hash,
            "evaluated": self.evaluated,
            "candidates": self.candidates,
            "simulated": self.simulated,
            "simulated_requests": self.simulated_requests,
            "plans": [r.to_dict() for r in self.rows],
            "warnings": list(self.warnings),
        }


def plan_rates(
    model: Model,
    model_given: str,
    specs: Sequence[str],
    *,
    job: ServeJob,
    load: ServeLoad,
    facts: Facts,
    chips: int | None = None,
    engine: str | None = None,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
    term: str = "default",
    seed: int = 0,
    top: int = 5,
    given: Mapping[str, object] | None = None,
) -> RateResult:
    """The smallest and the cheapest deployment on systems, each with as many chips as it has at most, and the best of
    other kinds up to `top` rows. given: options of facts, which the command that repeats a row has too."""
    begin = time.process_time()
    s = RateSearch(
        model=model, model_given=model_given, job=job, load=load, facts=facts, term=term, seed=seed, given=given or {}
    )
    sides, systems = [], []
    for spec in specs:
        system = resolve(facts, spec, chips=chips)
        name = engine_for(facts, system, engine)
        systems.append((spec, system, name))
        side = side_of(s, spec, system, name, fixed or {})
        if side is not None:
            sides.append(side)
    together, apart = searched_modes(fixed or {})
    candidates = candidates_of(s, sides, together, apart)
    found, winners = searched(s, candidates)
    rows, warnings = _rows(s, candidates, found, winners, top)
    served = {row.system for row in rows if row.feasible}
    for spec, _, _ in systems if len(systems) > 1 else ():
        if spec not in served:
            warnings.append(f"{spec}: no deployment of its own was found that keeps the limits")
    if s.is_cut:
        warnings.append(f"the search stopped after {s.requests:,} requests: others may be smaller or cheaper")
    return RateResult(
        inputs=_inputs(s, systems, fixed or {}),
        facts_hash=facts.hash(),
        evaluated=sum(len(side.deployment.plans) for side in sides),
        candidates=len(candidates),
        simulated=len(s.played),
        simulated_requests=s.requests,
        seconds=time.process_time() - begin,
        rows=Rows(rows),
        warnings=tuple(warnings),
    )


def _rows(
    s: RateSearch,
    candidates: Sequence[RateCandidate],
    found: Mapping[int, tuple[int, int]],
    winners: Mapping[str, int],
    top: int,
) -> tuple[list[RateRow], list[str]]:
    """The answers, each played once more as the scenario that stands beside it, cheapest first; and what to warn of.
    Where nothing keeps the limits: the deployment that comes closest."""
    warnings: list[str] = []
    if not winners:
        closest = _closest(s, candidates)
        return ([] if closest is None else [_row(s, candidates[closest[0]], closest[1], (False, False))]), warnings
    why = _unlike(s, [candidates[i] for i in found])
    winners = {goal: i for goal, i in winners.items() if goal != "usd" or not why}
    if "usd" not in winners:
        warnings.append(f"{why or 'no price is known here'}: the cheapest is not named")
    rest = sorted(set(found) - set(winners.values()), key=lambda i: candidates[i].cost(found[i], "chips"))
    rows = []
    for i in [*dict.fromkeys(winners.values()), *rest][:top]:
        marks = (winners.get("chips") == i, winners.get("usd") == i)
        workers = found[i]
        row = _row(s, candidates[i], workers, marks)
        rows.append(row)
    rows.sort(key=lambda r: (not r.feasible, math.inf if r.usd_per_h is None else r.usd_per_h, r.chips_used))
    return rows, warnings


def _unlike(s: RateSearch, found: Sequence[RateCandidate]) -> str:
    """Why the deployments that were found are not ranked by cost: prices of unlike kinds, or no price of some; "" where
    they are."""
    names = {side.system.id: side.spec for c in found for side in (c.front, c.behind) if side is not None}
    terms = {spec: money.quote(money.price(s.facts, i, term=s.term).label) for i, spec in names.items()}
    if len({None if q is None else q.term for q in terms.values()}) < 2:
        return ""
    said = ", ".join(f"{spec} {q or 'unknown'}" for spec, q in terms.items())
    return f"prices are on different terms ({said})"


def _closest(s: RateSearch, candidates: Sequence[RateCandidate]) -> tuple[int, tuple[int, int]] | None:
    """(candidate, workers) of what was played and is least beyond its limits."""

    def excess(result: TrafficResult) -> float:
        pairs = ((result.ttft_s, s.load.p99_ttft_s), (result.tpot_s, s.load.p99_tpot_s))
        return max(((times["p99"] or 0.0) / limit for times, limit in pairs), default=0.0)

    played = {key: r for key, r in s.played.items() if r is not None}
    return min(played, key=lambda key: excess(played[key]), default=None)


def _row(s: RateSearch, c: RateCandidate, workers: tuple[int, int], marks: tuple[bool, bool]) -> RateRow:
    """A deployment, played as the scenario that is shown, with ranges."""
    text = s.text(c, workers, answered(workers))
    scenario, once = s.answer(c, workers)
    result = with_ranges(once, scenario, s.facts, s.draws(once.requests, workers))
    late, slow = s.broken(result)
    broken = [name for name, is_broken in (("TTFT", late), ("TPOT", slow)) if is_broken]
    pools = scenario.pools
    labels = {p.system.id: money.price(s.facts, p.system.id, term=s.term).label for p in pools}
    return RateRow(
        system=c.front.spec,
        system_id=c.front.system.id,
        decode_system=None if c.behind is None or c.behind is c.front else c.behind.spec,
        engine=c.front.deployment.engine,
        mode="aggregated" if c.behind is None else "disaggregated",
        prefill=_stated(pools[0].plan, pools[0].system),
        decode=_stated(pools[-1].plan, pools[-1].system),
        replicas={"prefill": workers[0], "decode": workers[1] or workers[0]},
        chips_used=scenario.chips,
        chips_of=scenario.chips_of,
        feasible=not broken,
        reason=f"the limit on {' and '.join(broken)} is broken" if broken else None,
        is_smallest=marks[0],
        is_cheapest=marks[1],
        ttft_s=_estimate(result, "ttft_s", "mean"),
        tpot_s=_estimate(result, "tpot_s", "mean"),
        p99_ttft_s=_estimate(result, "ttft_s", "p99"),
        p99_tpot_s=_estimate(result, "tpot_s", "p99"),
        requests_per_s=result.requests_per_s,
        in_flight=result.in_flight,
        utilisation=result.utilisation,
        tokens_per_s_per_chip=_at_load(result, result.tokens_per_s_per_chip, "1/s", ""),
        tokens_per_s_per_user=_estimate(result, "tpot_s", "mean").inverse(1.0, "1/s"),
        usd_per_h=result.usd_per_h,
        usd_per_mtok=_at_load(result, result.usd_per_mtok, "USD/Mtok", "no price is known"),
        J_per_token=_at_load(result, result.J_per_token, "J/token", "no power is known"),
        price_label="; ".join(labels.values()),
        scenario=text,
        command=TRAFFIC.command({"scenario": text, **s.given}),
    )


def _stated(plan: ServePlan, system: System) -> dict[str, object]:
    return dict(stated_plan(plan, system.lnc))


def _estimate(result: TrafficResult, name: str, mark: str) -> Estimate:
    """A time of a result with its range."""
    value: float | None = getattr(result, name)[mark]
    if value is None:
        return unknown_estimate("s", "no request was counted")
    low, high = result.ranges[name].get(mark, (value, value))
    return Estimate(value=value, unit="s", low=low, high=high, grade="D", coverage=result.coverage, breakdown={})


def _at_load(result: TrafficResult, value: float | None, unit: str, reason: str) -> Estimate:
    """A number that the load decides: slower steps do not move it while the deployment keeps up."""
    if value is None:
        return unknown_estimate(unit, reason)
    return Estimate(value=value, unit=unit, low=value, high=value, grade="D", coverage=result.coverage)


def _inputs(
    s: RateSearch, systems: Sequence[tuple[str, System, str]], fixed: Mapping[str, Sequence[int | str]]
) -> dict[str, object]:
    """What was asked, with null for what is open."""

    def number(x: float) -> float | None:
        return None if math.isinf(x) else x

    return {
        **s.model.inputs(),
        "task": "serve",
        "isl": s.job.prompt,
        "osl": s.job.output,
        "ttft_s": number(s.job.ttft_s),
        "tpot_s": number(s.job.tpot_s),
        "rate": s.load.rate,
        "users": s.load.users,
        "think_s": s.load.think_s,
        "p99_ttft_s": number(s.load.p99_ttft_s),
        "p99_tpot_s": number(s.load.p99_tpot_s),
        "accept": s.job.accept,
        "fixed": {k: list(v) for k, v in fixed.items()},
        "price_term": s.term,
        "systems": [
            {
                "system": n,
                "id": y.id,
                "chips": y.chips,
                "engine": e,
                **about_engine(s.facts, e),
                **unmeasured(s.facts, y.id),
            }
            for n, y, e in systems
        ],
    }


def rates_exit_code(result: RateResult) -> int:
    """0 where a deployment keeps the limits; 4 where one was played and breaks them; 3 where none could be."""
    if any(r.feasible for r in result.rows):
        return EXIT_OK
    return EXIT_LIMIT_BROKEN if result.rows else EXIT_INFEASIBLE
