"""`plan --serve --rate` and `--users`: the smallest and the cheapest deployment that serves a load within limits on
percentiles, found by playing the load out.

Bounds come first: from the closed forms of `serving.capacity`, how few workers of each plan could do. Candidates are
then simulated in order of that bound, with more workers until the limits are kept, and a candidate whose bound is no
better than what was found is left out. So the answer is the best of what was searched, up to the noise of a simulation.
Limits are kept at the peak: at the load that leaves nothing of the headroom free. The best ones are played again at the
load itself, as the scenario that `mowich traffic` reads: the command that repeats them stands in the answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.estimate import Estimate, chance_within, unknown_estimate
from mowich.launch.origin import LaunchedRow, Origin, with_origin
from mowich.machines.system import System, parse_spec, resolve
from mowich.plans.plan import stated_plan
from mowich.requests.jobs import PlanRequest
from mowich.requests.scenarios import TRAFFIC
from mowich.shown import Rows
from mowich.software.engine import about_engine, engine_for
from mowich.software.vendors import unmeasured
from mowich.studies.arrivals_row import PLAYED_TIMES
from mowich.studies.rate_reasons import (
    LIMITS,
    Unserved,
    broken_words,
    closest,
    limits_of,
    peak_words,
    unserved,
)
from mowich.studies.rate_scenario import sized
from mowich.studies.rate_search import RateFindings, RateSearch, playable, searched
from mowich.studies.rate_sides import candidates_of, side_of, unlike_prices
from mowich.studies.runnable import Compromise, runnable
from mowich.studies.system_row import SystemRows
from mowich.studies.traffic import TrafficResult, with_ranges
from mowich.studies.traffic_sessions import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow(LaunchedRow):
    """One deployment, at the load that was asked. chips_of: by system; keeps: the chance of keeping each limit, by its
    name; batch: sequences that a decode worker holds at most; scenario: what `mowich traffic` reads; command: that
    plays it."""

    KEYS = (
        "system system_id decode_system engine mode prefill decode replicas batch chips_requested chips_used "
        "chips_of feasible reason is_smallest is_cheapest ttft_s tpot_s p99_ttft_s p99_tpot_s keeps requests_per_s "
        "in_flight utilisation tokens_per_s_per_chip tokens_per_s_per_user usd_per_h usd_per_mtok J_per_token "
        "price=price_label scenario command"
    )

    system: str
    system_id: str
    decode_system: str | None
    engine: str
    mode: str
    prefill: Mapping[str, object]
    decode: Mapping[str, object]
    replicas: Mapping[str, int]
    batch: int
    chips_requested: int
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
    keeps: Mapping[str, float]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RateResult(SystemRows[RateRow]):
    """The deployments found, cheapest first. candidates: plans, and pairs of plans, that could serve the load;
    simulated: deployments that were played out, with simulated_requests in all; unserved: why a system has no
    deployment of its own; is_complete: whether the search went to its end (else the best is the best of those played).

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> load = {"isl": "1k", "osl": "200", "rate": "20rps", "p99_ttft": "2s"}
        >>> mowich.plan("llama-3.1-8b", "h100", serve=load).rows[0].feasible  # doctest: +SKIP
        True
    """

    SCHEMA = "mowich/rates@1"
    KEYS = (
        "inputs facts_hash evaluated candidates simulated simulated_requests is_complete unserved plans=rows "
        "compromise? warnings"
    )

    evaluated: int
    candidates: int
    simulated: int
    simulated_requests: int
    seconds: float
    unserved: tuple[Unserved, ...] = ()
    is_complete: bool = True
    compromise: Compromise | None = None


def plan_rates(asked: PlanRequest) -> RateResult:
    """The smallest and the cheapest deployment on systems, each with as many chips as it has at most (where none says
    how many: as it needs), and the best of other kinds up to `top` rows. Where a program has to run them, those that it
    can run, with what that costs. Raises UserError where it can run none."""
    found, program = _found(replace(asked, emit=None)), asked.emit
    if program is None or not found.rows:
        return found
    rows, compromise = runnable(
        found.rows, program, lambda row: 1.0 / (row.usd_per_h or row.chips_used), lambda: _found(asked).rows
    )
    return replace(found, rows=rows, compromise=compromise)


def _found(asked: PlanRequest) -> RateResult:
    """The deployments, among plans that the program asked for can run."""
    begin = time.process_time()
    model, facts = asked.model, asked.facts
    named = [(spec, resolve(facts, spec)) for spec in (sized(spec, asked.chips) for spec in asked.systems)]
    systems = [(spec, system, engine_for(facts, system, asked.engine, model)) for spec, system in named]
    sides = {spec: side_of(asked, spec, name) for spec, _, name in systems}
    known = [side for side in sides.values() if side is not None]
    every, s = candidates_of(asked, known), RateSearch(asked=asked)
    s.candidates = playable(every, asked.peak)
    s.cut |= {c.systems for c in every} - {c.systems for c in s.candidates}  # too long to play out
    found = searched(s)
    inputs = _inputs(asked, systems)
    rows, warnings = _rows(s, found)
    served = {spec for i in found.workers if len(names := s.candidates[i].systems) == 1 for spec in names}
    lacking = tuple(unserved(s, spec, sides[spec], name, found) for spec, _, name in systems if spec not in served)
    return RateResult(
        inputs=inputs,
        facts_hash=facts.hash(),
        evaluated=sum(len(side.deployment.plans) for side in known),
        candidates=len(s.candidates),
        simulated=len(s.played),
        simulated_requests=s.requests,
        seconds=time.process_time() - begin,
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        unserved=lacking,
        is_complete=not s.cut,
        warnings=tuple(warnings),
    )


def _rows(s: RateSearch, found: RateFindings) -> tuple[list[RateRow], list[str]]:
    """The answers, each played once more as the scenario that stands beside it, cheapest first; and what to warn of.
    Where nothing keeps the limits: the deployment that comes closest."""
    winners = found.winners
    if not winners:
        nearest = closest(s)
        return ([] if nearest is None else [_row(s, *nearest, (False, False))]), []
    why = unlike_prices([s.candidates[i] for i in found.workers]) or "no price is known here"
    warnings = [] if "usd" in winners else [f"{why}: the cheapest is not named"]
    rest = sorted(
        set(found.workers) - set(winners.values()), key=lambda i: s.candidates[i].cost(found.workers[i], "chips")
    )
    rows = [
        _row(s, i, found.workers[i], (winners.get("chips") == i, winners.get("usd") == i))
        for i in [*dict.fromkeys(winners.values()), *rest][: s.asked.top]
    ]
    rows.sort(key=lambda r: (not r.feasible, math.inf if r.usd_per_h is None else r.usd_per_h, r.chips_used))
    return rows, warnings


def _row(s: RateSearch, i: int, workers: tuple[int, int], marks: tuple[bool, bool]) -> RateRow:
    """A deployment, played as the scenario that is shown, with ranges."""
    asked, c = s.asked, s.candidates[i]
    shown, at_peak = s.answer(i, workers, asked.serve_load), s.answer(i, workers, asked.peak)
    scenario, once = shown.scenario, shown.result
    assert scenario is not None
    assert once is not None
    assert at_peak.result is not None
    text = str(scenario.inputs["scenario"])
    draws = s.draws(once.requests, workers) if any(marks) else 1
    result = with_ranges(once, scenario, asked.facts, draws)
    pools = scenario.pools
    times = {name: _estimate(result, *at) for name, at in PLAYED_TIMES.items()}
    usd_per_s = c.cost(workers, "usd")
    usd = usd_per_s if math.isfinite(usd_per_s) else None
    tokens_per_s = result.tokens_per_s_per_chip * scenario.chips
    return RateRow(
        system=c.front.spec,
        system_id=c.front.system.id,
        decode_system=None if c.behind is None or c.behind is c.front else c.behind.spec,
        engine=c.front.deployment.engine,
        mode="aggregated" if c.behind is None else "disaggregated",
        prefill=stated_plan(pools[0].plan, pools[0].system.lnc),
        decode=stated_plan(pools[-1].plan, pools[-1].system.lnc),
        replicas={"prefill": workers[0], "decode": workers[1] or workers[0]},
        batch=pools[-1].scheduler.max_sequences * pools[-1].plan.dp,
        chips_requested=scenario.chips,
        chips_used=scenario.chips,
        chips_of=scenario.chips_of,
        feasible=not at_peak.is_broken,
        reason=f"breaks a limit{peak_words(s)}: {broken_words(s, at_peak.result)}" if at_peak.is_broken else None,
        is_smallest=marks[0],
        is_cheapest=marks[1],
        ttft_s=times["ttft_s"],
        tpot_s=times["tpot_s"],
        p99_ttft_s=times["p99_ttft_s"],
        p99_tpot_s=times["p99_tpot_s"],
        keeps={
            name: chance
            for name, limit in limits_of(asked).items()
            if (chance := chance_within(times[name], limit)) is not None
        },
        requests_per_s=result.requests_per_s,
        in_flight=result.in_flight,
        utilisation=result.utilisation,
        tokens_per_s_per_chip=_at_load(result, result.tokens_per_s_per_chip, "1/s", ""),
        tokens_per_s_per_user=times["tpot_s"].inverse(1.0, "1/s"),
        usd_per_h=None if usd is None else usd * HOUR_S,
        usd_per_mtok=_at_load(
            result, None if usd is None else usd / tokens_per_s * 1e6, "USD/Mtok", "no price is known"
        ),
        J_per_token=_at_load(result, result.J_per_token, "J/token", "no power is known"),
        price_label="; ".join({side.spec: side.price.label for side, _ in c.sides()}.values()),
        scenario=text,
        command=TRAFFIC.command({"scenario": text, **asked.traffic_options()}),
    )


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


def _inputs(asked: PlanRequest, systems: Sequence[tuple[str, System, str]]) -> dict[str, object]:
    """What was asked, with null for what is open."""
    job, load, limits = asked.serve_job, asked.serve_load, limits_of(asked)
    return {
        **asked.model.inputs(),
        "task": "serve",
        "isl": job.prompt,
        "osl": job.output,
        **{name: limits.get(name) for name, _ in LIMITS},
        "rate": load.rate,
        "users": load.users,
        "think_s": load.think_s,
        "headroom": load.headroom,
        "accept": job.accept,
        "fixed": {k: list(v) for k, v in asked.fixed.items()},
        "price_term": asked.term,
        "systems": [
            {
                "system": n,
                "id": y.id,
                "chips": None if parse_spec(n)[1] is None else y.chips,
                "engine": e,
                **about_engine(asked.facts, e, asked.model.name, y.chip),
                **unmeasured(asked.facts, y.id),
            }
            for n, y, e in systems
        ],
    }
