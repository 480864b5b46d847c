"""`plan --serve` without a load: what random arrivals do to each plan, whose own times are those of a steady load.

A row's workers are played out (`mowich traffic`) under Poisson arrivals at `ARRIVING` of the row's rate, with answers
whose lengths vary. So prompts that meet by chance, batches of every size, waits for the cache and the choice of a
worker are what the event loop makes of them, and the command that stands in the row gives the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from mowich.errors import UserError, or_infeasible
from mowich.estimate import Estimate, unknown_estimate
from mowich.machines.system import logical_cores, resolve
from mowich.plans.serving_choices import SEQUENCES_CHOICE
from mowich.requests.jobs import PlanRequest
from mowich.requests.loads import ServeLoad
from mowich.requests.scenarios import TRAFFIC
from mowich.serving.search import MOST_USERS
from mowich.studies.arrivals_row import PLAYED_TIMES, RandomArrivals
from mowich.studies.rate_scenario import LONGER, SETTLED, Timing, WorkerGroup, scenario_text, sized
from mowich.studies.serving_plan import ServeRow
from mowich.studies.traffic import TrafficResult, simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

ARRIVING = 0.95
"""Share of a plan's rate at which requests arrive."""

_COUNTED = 3000
"""Requests that stand in the times."""

MOST_PLAYED = 120_000
"""Requests of a run at most: a larger plan is not played."""

CROWDED = 2.0
"""A plan is overloaded where its requests take more than so many times as long as in the steady load, or come to no
steady state in two runs."""

_SEEDS, _PARTS = 64, 8
"""Draws of arrivals to choose from, and parts of a run in which they keep to their rate."""

OVERLOADED = "overloaded: requests that arrive at random come faster than they are answered"


@cache
def even_seed(requests: int) -> int:
    """Of `_SEEDS` draws the one whose arrivals keep closest to their rate in every part of a run of so many requests: a
    few thousand that come 2% faster by chance would make tokens several per cent slower.

    >>> even_seed(4000) == even_seed(4000)
    True
    """
    n = min(max(requests, _PARTS), 4096)
    marks = np.arange(1, _PARTS + 1) * n // _PARTS
    far = [
        float(np.abs(np.cumsum(np.random.default_rng(seed).exponential(1.0, n))[marks - 1] - marks).max())
        for seed in range(_SEEDS)
    ]
    return far.index(min(far))


def _text(asked: PlanRequest, row: ServeRow, load: ServeLoad, timing: Timing) -> str:
    """The scenario of a row's workers."""
    system = resolve(asked.facts, asked.systems[0], chips=asked.chips)
    on = sized(asked.systems[0], system.chips)
    system = logical_cores(asked.facts, system, row.lnc) if row.lnc else system
    plans = (row.decode,) if row.mode == "aggregated" else (row.prefill, row.decode)
    groups = [
        WorkerGroup(on=on, system=system, engine=row.engine, plan=plan, workers=row.replicas[kind])
        for kind, plan in zip(("prefill", "decode"), plans, strict=False)
        if plan is not None
    ]
    return scenario_text(
        replace(asked, seed=even_seed(round(timing.last_s * (load.rate or 0.0)))),
        load,
        groups=groups,
        timing=timing,
        sequences=max((int(n) for n in asked.fixed.get(SEQUENCES_CHOICE, ())), default=0) or round(MOST_USERS),
    )


def random_arrivals(asked: PlanRequest, row: ServeRow) -> RandomArrivals | None:
    """A row under Poisson arrivals, each time with the range of the steady one; None where the row has no plan, is too
    large to play, has cached images, or has no worker that a request of the scenario has room in."""
    ttft, tpot, rate = row.ttft_s.value, row.tpot_s.value, row.tokens_per_s_per_chip.value
    if row.decode is None or ttft is None or tpot is None or not rate:
        return None
    job = asked.serve_job
    if job.images is not None and job.cached:
        return None  # a scenario has no share of a prompt with images
    if row.cached_frac is not None:
        asked = replace(asked, serve=replace(job, cached=row.cached_frac, cached_by=None))
    per_s = float(f"{ARRIVING * rate * row.chips_requested / job.output:.6g}")
    request_s = ttft + (job.output - 1.0) * tpot
    if per_s * Timing.of(per_s, request_s, ServeLoad(rate=per_s), _COUNTED).last_s > MOST_PLAYED:
        return None
    played = or_infeasible(_steady, asked, row, per_s, request_s)
    if isinstance(played, UserError):
        return None
    text, result = played

    def seen(name: str, mark: str) -> Estimate:
        steady: Estimate = getattr(row, name)
        value: float | None = None if result is None else getattr(result, name)[mark]
        if result is None or not value or not steady.value:
            return unknown_estimate("s", OVERLOADED if result is None else "no request was counted")
        return replace(steady, breakdown={}).scaled(value / steady.value, "s")

    return RandomArrivals(
        share=ARRIVING,
        requests_per_s=per_s,
        **{time: seen(*at) for time, at in PLAYED_TIMES.items()},
        is_overloaded=result is None,
        command=TRAFFIC.command({"scenario": text, **asked.traffic_options()}),
    )


def _steady(asked: PlanRequest, row: ServeRow, per_s: float, request_s: float) -> tuple[str, TrafficResult | None]:
    """(scenario, what it shows) of a run that is warm before requests are counted; None where no run is. request_s:
    seconds of a request in a steady load."""
    load, steady_s = ServeLoad(rate=per_s), request_s
    for _ in range(2):
        timing = Timing.of(per_s, request_s, load, _COUNTED)
        text = _text(asked, row, load, timing)
        result = simulate_traffic(read_traffic(text, asked.facts, asked.model), asked.facts)
        seen_s = result.e2e_s["mean"] or math.inf
        if seen_s > CROWDED * steady_s:
            break
        if seen_s <= SETTLED * timing.request_s:
            return text, result
        request_s = LONGER * seen_s
    return text, None
