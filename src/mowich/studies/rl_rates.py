"""How fast one side of a run of reinforcement learning goes by itself, in tokens that are trained on: what a fleet
assigns to systems.

Rollouts are those of a trainer that never waits for them, updates those of a trainer that never waits. A fleet lets
both advance together, so that a token is rolled out for each that is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mowich.estimate import Estimate, from_spreads, unknown_estimate
from mowich.evidence.residual import step_interval
from mowich.facts import Fact
from mowich.plans.plan import stated_plan
from mowich.rl.frameworks import Framework
from mowich.rl.trainer import step_job
from mowich.studies.rl import deployed, serving_ends
from mowich.studies.rl_row import RlAsk
from mowich.studies.split_table import SplitAsk, SplitSystem, SplitTable
from mowich.training.step import predict_step


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRate:
    """tokens_per_s_per_chip: trained tokens, prompts with them, over all chips; unknown, with the reason, where no plan
    fits. plan: of a worker or of the trainer; engine: of rollouts."""

    tokens_per_s_per_chip: Estimate
    plan: Mapping[str, object]
    engine: str = ""


def rollout_rate(run: RlAsk, system: str, chips: int, *, engine: str = "") -> SideRate:
    """Rollouts on so many chips of a system, with the plan that is fastest at the run's staleness (1 where it has
    none). engine: "": the vendor's own. Raises UserError for names that are not known."""
    search = _search(run, system, chips, engine)
    table, vendor = search.table, search.system
    table.take(vendor, [chips], [])
    if not table.rollouts:
        return _without("no plan of a worker fits", vendor.engine)
    base, best = search.ask.base, int(np.argmin(table.alone_s))
    made = table.rollouts[best]
    d = deployed(base, vendor.system, vendor.engine, [made.plan])
    downs, ups = serving_ends(d, 0, made.side, base.job, base.facts)
    return SideRate(
        tokens_per_s_per_chip=_rate(search, chips, table.alone_s[best], downs, ups, "generation"),
        plan=stated_plan(made.plan, vendor.system.lnc),
        engine=vendor.engine,
    )


def update_rate(run: RlAsk, system: str, chips: int) -> SideRate:
    """Updates and forward passes on so many chips of a system, with the fastest plan. Raises UserError for names that
    are not known."""
    search = _search(run, system, chips, "")
    trained = search.system.trainer(chips)
    if trained is None:
        return _without("no plan of the trainer fits", "")
    base = search.ask.base
    step = predict_step(base.model, trained.system, step_job(base.job), trained.plan)
    faster, slower = step_interval(step.breakdown, base.model, trained.system, base.facts)
    return SideRate(
        tokens_per_s_per_chip=_rate(search, chips, trained.side.busy_s, (faster,), (slower,), "training"),
        plan=stated_plan(trained.plan, trained.system.lnc),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """The choices of one system."""

    ask: SplitAsk
    framework: Framework
    system: SplitSystem
    table: SplitTable


def _search(run: RlAsk, system: str, chips: int, engine: str) -> _Search:
    job = replace(run.job, placement="split", staleness=max(1, run.job.staleness))
    base = replace(run, job=job, rollouts=replace(run.rollouts, engine=engine, plan=None))
    ask = SplitAsk(base=base, chips=chips, systems=(system,))
    framework = base.software()
    found = SplitSystem(ask=ask, place=0, name=system, framework=framework)
    return _Search(
        ask=ask,
        framework=framework,
        system=found,
        table=SplitTable(ask=ask, job=job, vendors=[found], framework=framework),
    )


def _rate(
    search: _Search, chips: int, seconds: float, faster: tuple[float, ...], slower: tuple[float, ...], factor: str
) -> Estimate:
    """Trained tokens per second and chip of a side that takes so long for a batch. faster, slower: half-widths of its
    time in ln; factor: the framework's number that has a range of its own."""
    facts, job = search.ask.base.facts, search.ask.base.job
    low, high = _ends(facts.fact(search.framework.paths[factor]), getattr(search.framework, factor))
    beyond = [facts.number(f"rl.constants.residual_{end}") for end in ("faster", "slower")]
    model = search.ask.base.model
    return from_spreads(
        job.tokens / seconds / chips,
        "1/s",
        [*slower, high, beyond[1]],
        [*faster, low, beyond[0]],
        grade=model.graded("D"),
        coverage={"analytic": 1.0},
    )


def _ends(fact: Fact, now: float) -> tuple[float, float]:
    """ln of what a factor is over its low end, and of its high end over it."""
    return math.log(now / (fact.low or now)), math.log((fact.high or now) / now)


def _without(reason: str, engine: str) -> SideRate:
    return SideRate(tokens_per_s_per_chip=unknown_estimate("1/s", reason), plan={}, engine=engine)
