"""One run of reinforcement learning on given machines: what each side takes, by the laws of serving and of training,
and what a step comes to.

Plans that nobody stated are searched. The closed form chooses among them, the events answer (`rl.events`). Ranges come
from those of serving and of training, from the framework's facts, and from what published steps differ by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mowich.arrays import Floats
from mowich.economics import energy, money
from mowich.errors import UserError, or_infeasible
from mowich.estimate import Estimate, Notes, product_of, sum_of, unknown_estimate, worst_grade
from mowich.evidence.residual import step_interval
from mowich.facts import Facts
from mowich.machines.system import Level, System
from mowich.models.model import Model
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, ServePlan
from mowich.rl.cycle import Cycle, CyclePart
from mowich.rl.events import play
from mowich.rl.frameworks import Framework
from mowich.rl.job import Pass, RlJob
from mowich.rl.rollout import room_tokens, token_times
from mowich.rl.schedule import CycleColumns, closed_columns, closed_cycle
from mowich.rl.sides import NO_SYNC, RolloutSide, RunSides, SyncSide
from mowich.rl.sync import SyncEnd, method_of, sync_times
from mowich.rl.trainer import step_job, trainer_side
from mowich.serving.search import ServeJob
from mowich.software.engine import engine_for
from mowich.software.recipes import FORMAT_OF, recipe_settings, switches
from mowich.software.stack import Platform, as_set
from mowich.studies.outcome import resolved
from mowich.studies.rl_row import RlAsk, RlRow
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import fact_spreads, searched_plans, worker
from mowich.sums import float_sum
from mowich.training.search import search
from mowich.training.step import micro_batches_of, predict_step
from mowich.units import show_gib

TRAINERS = 6
"""Plans of a trainer that a search found the fastest; the whole step decides between them."""
MADE = 24
"""Plans of rollout workers, the fastest ones beside one trainer, that are paired with all plans of it."""
SIMPLER = 0.01
"""Share of the shortest step within which smaller workers come first."""
SYNCED = 12
"""Pairs of plans that are the fastest without their syncs; the whole step decides between them."""
FRAMEWORKS_RUN_ON = "NVIDIA"
"""The vendor of the chips that the stacks of frameworks in our facts are made for."""
USUAL_METHODS = ("broadcast", "reshard", "relay")
"""Ways of bringing weights to workers of the same vendor; a run that states no way has the quickest."""
AS_RELEASED = "release"
"""The recipe of a framework that sets its stack as the newest release of the stack is set."""
TRAINED_FORMAT = "bf16"
"""Format of the weights that a trainer sends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RolloutPlans:
    """Ways to make answers on one system: sides[i] is of the deployment's plan i, None where it has no room."""

    deployment: Deployment
    sides: tuple[RolloutSide | None, ...]


def rollout_plans(
    ask: RlAsk, system: System, plans: Sequence[ServePlan], framework: Framework, engine: str
) -> RolloutPlans:
    """What workers of each of `plans` take on all chips of a system. The system and the plan that the run asks for are
    not read; a plan that does not say which share of a device the engine may use has that of the run, or of the
    framework."""
    model, job, facts, asked = ask.model, ask.job, ask.facts, ask.rollouts
    memory_share = asked.memory_share
    if memory_share is None:
        is_colocated = job.placement == "colocated"
        memory_share = framework.memory_share_colocated if is_colocated else framework.memory_share_split
    stated = [
        p if p.launch.memory is not None else replace(p, launch=replace(p.launch, memory=memory_share)) for p in plans
    ]
    d = deployed(ask, system, engine, stated)
    mean = job.lengths.mean
    w = worker(d, ServeJob(prompt=job.prompt, output=mean, accept=asked.accept))
    most = facts.number("rl.constants.sequences")
    room = room_tokens(w, np.arange(len(stated)), job.prompt + mean)
    longest = job.prompt + float(job.lengths.table[-1])
    fits = np.flatnonzero(room >= longest)
    is_moe = model.has_experts
    slower = framework.generation * (framework.experts if is_moe else 1.0)
    times = token_times(w, fits, prompt=job.prompt, longest=longest, most=most, slower=slower) if len(fits) else ()
    sides: list[RolloutSide | None] = [None] * len(stated)
    for i, taken in zip(fits.tolist(), times, strict=True):
        workers = system.devices // stated[i].devices
        if workers:
            sides[i] = RolloutSide(
                workers=workers,
                times=taken,
                room_tokens=float(room[i]),
                most=round(most * stated[i].dp),
                chips=system.chips,
            )
    return RolloutPlans(deployment=d, sides=tuple(sides))


def deployed(ask: RlAsk, system: System, engine: str, plans: Sequence[ServePlan]) -> Deployment:
    """Workers of `plans` with the release and the speculative decoding that a run asks for."""
    of = ask.rollouts
    return deploy(ask.model, system, engine, plans, ask.facts, accept=of.accept, drafts=of.drafts, release=of.release)


def serving_ends(
    d: Deployment, place: int, side: RolloutSide, job: RlJob, facts: Facts
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """How far the truth may lie below and above the steps of an engine that runs one of a deployment's plans: 90%
    half-widths in ln time, of measured rows and of the facts."""
    users = max(1.0, min(side.most, job.rolled / side.workers) / d.plans[place].dp)
    half = d.half_width("tpot", place, users=users, prompt=max(job.prompt, 1.0))
    downs, ups = fact_spreads(d, place, users, job.prompt + 0.5 * job.lengths.mean, facts)
    return (half, *downs), (half, *ups)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choice:
    """One pair of plans. rollouts: of the deployment, and which of its plans; sides: what a step is made of."""

    found: RolloutPlans
    place: int
    trainer_plan: Plan
    sides: RunSides

    @property
    def rollout_plan(self) -> ServePlan:
        return self.found.deployment.plans[self.place]


def assess(ask: RlAsk, *, notes: Notes | None = None) -> RlRow:
    """The answer to one run, with the timeline of a few steps; `notes` records its laws. A run that no plan can do is a
    row with its reason. Raises UserError for what is asked wrongly."""
    facts, job, model = ask.facts, ask.job, ask.model
    framework = ask.software()
    roll_system = ask.maker()
    platform = trainer_platform(ask, framework)
    engine = engine_for(facts, roll_system, ask.rollouts.engine or None, model)
    stated = ask.rollouts.plan
    plans = [stated] if stated else searched_plans(model, roll_system, job.prompt, facts, ask.rollouts.fixed)
    plans = [p for p in plans if p.devices <= roll_system.devices]
    if not plans:
        return without_answer(ask, f"no worker plan is legal on {ask.rollouts.on} (heads, experts, devices)")
    found = rollout_plans(ask, roll_system, plans, framework, engine)
    if all(side is None for side in found.sides):
        return without_answer(
            ask, f"on {ask.rollouts.on} the longest answer has no room beside the weights of the engine"
        )
    trainer_plans = or_infeasible(trainer_plans_of, ask, platform)
    if isinstance(trainer_plans, UserError):
        return without_answer(ask, trainer_plans.line())
    if not trainer_plans:
        return without_answer(ask, f"no plan of the trainer fits the memory of {ask.trainer.on}")
    choice = _chosen(ask, framework, found, platform, trainer_plans)
    return _row(ask, framework, platform, choice, notes)


def trainer_platform(ask: RlAsk, framework: Framework) -> Platform:
    """The trainer's machine with its software: the stated stack, else the framework's where it runs on that vendor's
    chips, else the vendor's own. The framework's stack is set as its recipes have it."""
    facts, on = ask.facts, ask.trainer
    platform = resolved(facts, on.system_id, on.chips, on.stack)
    if not ask.framework or platform.vendor != FRAMEWORKS_RUN_ON:
        return platform
    if on.stack is None:
        platform = resolved(facts, on.system_id, on.chips, framework.stack)
    if framework.links == "server":
        platform = replace(platform, levels=tuple(_within_server(platform, level) for level in platform.levels))
    if framework.recipe == AS_RELEASED or platform.stack.name != framework.stack:
        return platform
    settings = recipe_settings(framework.recipe, framework.paths["recipe"])
    is_moe = ask.model.has_experts
    return as_set(facts, platform, switches(settings, FORMAT_OF["bf16"], is_moe=is_moe))


def _within_server(system: System, level: Level) -> Level:
    """A level of links whose domain ends with the server; a network stays."""
    return level if level.is_network else replace(level, devices=min(level.devices, system.server_devices))


def trainer_plans_of(ask: RlAsk, platform: Platform) -> tuple[Plan, ...]:
    """The stated plan of a trainer, else the fastest ones that fit."""
    if ask.trainer.plan is not None:
        return (ask.trainer.plan,)
    wanted = step_job(ask.job)
    return tuple(c.plan for c in search(ask.model, platform, wanted, fixed=ask.trainer.fixed, top=TRAINERS).best)


def models_of(ask: RlAsk) -> dict[Pass, Model]:
    """Models of passes that are not the policy."""
    own: tuple[tuple[Pass, Model | None], ...] = (("critic", ask.critic), ("teacher", ask.teacher))
    return {name: model for name, model in own if model is not None}


def sync_of(
    ask: RlAsk,
    framework: Framework,
    platform: Platform,
    plan: Plan,
    system: System,
    served: ServePlan,
    workers: int,
    notes: Notes | None = None,
) -> SyncSide:
    """Bringing weights from a trainer's plan to workers of a plan: by the stated method, or the framework's. Where
    neither is stated, and both sides stand apart on one vendor's chips, by the one of `USUAL_METHODS` that holds them
    least."""
    is_colocated = ask.job.placement == "colocated"
    is_one_vendor = platform.vendor == system.vendor
    method = method_of(ask.sync, framework, is_colocated=is_colocated, is_one_vendor=is_one_vendor)
    used = system.devices if is_colocated else workers * served.devices
    source = SyncEnd(system=platform, devices=platform.devices, plan=plan, format=TRAINED_FORMAT)
    target = SyncEnd(system=system, devices=used, plan=served, format=served.weights, workers=workers)
    law = partial(sync_times, ask.model, source, target, facts=ask.facts, framework=framework, link_Bps=ask.link_Bps)
    if not (ask.sync or ask.framework or is_colocated) and is_one_vendor:
        method = min(map(law, USUAL_METHODS), key=lambda sync: (sync.trainer_s + sync.rollouts_s, sync.whole_s)).method
    return law(method, notes=notes).side()


def _chosen(
    ask: RlAsk, framework: Framework, found: RolloutPlans, platform: Platform, plans: Sequence[Plan]
) -> _Choice:
    """The pair of plans with the shortest step in closed form; of those within `SIMPLER` of it the one whose workers
    are smallest."""
    job, system = ask.job, found.deployment.system
    trainers = [trainer_side(ask.model, platform, job, p, framework, models=models_of(ask)) for p in plans]
    rollouts = [(i, side) for i, side in enumerate(found.sides) if side is not None]
    around = framework.around(job)

    def steps(pairs: Sequence[tuple[int, int]], syncs: Sequence[SyncSide]) -> Floats:
        """Seconds of a step of each pair of places."""
        i, j = np.array(pairs, dtype=np.intp).T
        at = i, j, np.arange(len(pairs))
        return closed_columns(job, [side for _, side in rollouts], trainers, syncs, at, **around).step_s

    everywhere: Sequence[int] = range(len(rollouts))
    if len(rollouts) > MADE:
        quickest = min(range(len(plans)), key=lambda j: trainers[j].busy_s)
        beside = steps([(i, quickest) for i in everywhere], [NO_SYNC] * len(rollouts))
        everywhere = sorted(np.argsort(beside, kind="stable")[:MADE].tolist())
    pairs = [(i, j) for i in everywhere for j in range(len(plans))]
    if len(pairs) > SYNCED:
        fastest = np.argsort(steps(pairs, [NO_SYNC] * len(pairs)), kind="stable")[:SYNCED]
        pairs = [pairs[k] for k in sorted(fastest.tolist())]
    syncs = []
    for i, j in pairs:
        place, side = rollouts[i]
        syncs.append(sync_of(ask, framework, platform, plans[j], system, found.deployment.plans[place], side.workers))
    seconds = steps(pairs, syncs)
    near = np.flatnonzero(seconds <= (1.0 + SIMPLER) * seconds.min()).tolist()
    best = min(near, key=lambda k: (found.deployment.plans[rollouts[pairs[k][0]][0]].devices, seconds[k]))
    place, side = rollouts[pairs[best][0]]
    return _Choice(
        found=found,
        place=place,
        trainer_plan=plans[pairs[best][1]],
        sides=RunSides(rollouts=side, trainer=trainers[pairs[best][1]], sync=syncs[best], **around),
    )


# ranges
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cause:
    """Something that makes a step unsure. low, high: the sides at either end of its range."""

    name: str
    low: RunSides
    high: RunSides


def _causes(ask: RlAsk, framework: Framework, platform: Platform, choice: _Choice) -> list[_Cause]:
    """What a step is not sure of: the times of both sides, and the framework's numbers."""
    sides, facts = choice.sides, ask.facts
    downs, ups = serving_ends(choice.found.deployment, choice.place, sides.rollouts, ask.job, facts)
    faster, slower = math.hypot(*downs), math.hypot(*ups)
    out = [_Cause("serving", _paced(sides, rollouts=math.exp(-faster)), _paced(sides, rollouts=math.exp(slower)))]
    job = step_job(ask.job)
    step = predict_step(ask.model, platform, job, choice.trainer_plan)
    faster, slower = step_interval(step.breakdown, ask.model, platform, facts)
    out.append(_Cause("training", _paced(sides, trainer=math.exp(-faster)), _paced(sides, trainer=math.exp(slower))))
    is_moe = ask.model.has_experts
    for name in ("generation", *(("experts",) if is_moe else ()), "training", "passes", "switch", "other"):
        fact = facts.fact(framework.paths[name])
        now = facts.number(fact.path)
        low, high = (fact.low if fact.low is not None else now), (fact.high if fact.high is not None else now)
        if name in _PACES:
            out.append(_Cause(name, *(_paced(sides, **{_PACES[name]: end / now}) for end in (low, high))))
        elif name == "other":
            out.append(_Cause(name, replace(sides, other_s=low), replace(sides, other_s=high)))
        elif sides.switch_s > 0:
            out.append(_Cause(name, replace(sides, switch_s=low), replace(sides, switch_s=high)))
    spread = facts.number("rl.constants.sync_spread")
    ends = [replace(sides, sync=sides.sync.scaled(by)) for by in (1.0 / spread, spread)]
    out.append(_Cause("sync", *ends))
    return out


_PACES = {"generation": "rollouts", "experts": "rollouts", "training": "update", "passes": "passes"}
"""Number of a framework -> the times of `_paced` that it makes longer."""


def _paced(
    sides: RunSides, *, rollouts: float = 1.0, trainer: float = 1.0, update: float = 1.0, passes: float = 1.0
) -> RunSides:
    """RunSides whose times are longer by factors."""
    made, t = sides.rollouts, sides.trainer
    return replace(
        sides,
        rollouts=made if rollouts == 1.0 else replace(made, times=made.times.scaled(rollouts)),
        trainer=replace(
            t,
            update_s=t.update_s * trainer * update,
            passes_s={name: x * trainer * passes for name, x in t.passes_s.items()},
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """A step in closed form as it is, and with each cause at its low and its high end in turn [1 + 2 causes]."""

    columns: CycleColumns
    beyond: tuple[float, float]
    """What published steps differ by beyond that, below and above, in ln time."""

    @classmethod
    def of(cls, job: RlJob, sides: RunSides, causes: Sequence[_Cause], beyond: tuple[float, float]) -> _Ends:
        """One column for each end of each cause."""
        every = [sides, *(end for cause in causes for end in (cause.low, cause.high))]
        at = np.arange(len(every))
        columns = closed_columns(
            job,
            [s.rollouts for s in every],
            [s.trainer for s in every],
            [s.sync for s in every],
            (at, at, at),
            switch_s=np.array([s.switch_s for s in every]),
            hides_passes=sides.hides_passes,
            other_s=np.array([s.other_s for s in every]),
        )
        return cls(columns, beyond)

    def of_time(self, value: float, column: Floats, unit: str, grade: str) -> Estimate:
        """A time with the relative moves of a column; of one that is 0 in closed form, with those of the step."""
        base = column if column[0] > 0 else self.columns.step_s
        with np.errstate(divide="ignore"):
            moves = np.log(np.maximum(base[1:], 1e-3 * base[0]) / base[0]).reshape(-1, 2)
        down = math.hypot(self.beyond[0], *np.maximum(0.0, -moves.min(axis=1)).tolist())
        up = math.hypot(self.beyond[1], *np.maximum(0.0, moves.max(axis=1)).tolist())
        return Estimate(value=value, unit=unit, low=value * math.exp(-down), high=value * math.exp(up), grade=grade)

    def of_share(self, value: float, column: Floats, unit: str, grade: str, most: float = 1.0) -> Estimate:
        """A share, or a count between 0 and `most`, with the moves of a column."""
        moves = (column[1:] - column[0]).reshape(-1, 2)
        down = math.hypot(*np.maximum(0.0, -moves.min(axis=1)).tolist())
        up = math.hypot(*np.maximum(0.0, moves.max(axis=1)).tolist())
        return Estimate(
            value=value, unit=unit, low=max(0.0, value - down), high=max(value, min(most, value + up)), grade=grade
        )


# the answer
# ----------------------------------------------------------------------------------------------------------------------


def _row(ask: RlAsk, framework: Framework, platform: Platform, choice: _Choice, notes: Notes | None) -> RlRow:
    job, facts, sides = ask.job, ask.facts, choice.sides
    closed = closed_cycle(job, sides, notes)
    cycle = play(job, sides, seed=ask.seed, spans=True)
    beyond = tuple(facts.number(f"rl.constants.residual_{end}") for end in ("faster", "slower"))
    ends = _Ends.of(job, sides, _causes(ask, framework, platform, choice), (beyond[0], beyond[1]))
    columns, grade = ends.columns, worst_grade([ask.model.graded("C"), "C" if ask.framework else "D"])
    step = ends.of_time(cycle.step_s, columns.step_s, "s", grade)
    step = replace(
        step, breakdown={str(name): seconds for name, seconds in cycle.parts.items()}, coverage={"analytic": 1.0}
    )
    parts: dict[CyclePart, Estimate] = {
        name: ends.of_time(seconds, columns.parts[name], "s", grade) if name in columns.parts else _exact_s(seconds)
        for name, seconds in cycle.parts.items()
    }
    chips = _chips(ask)
    cost = _cost(ask, chips, step, cycle)
    return RlRow(
        ask=ask,
        maker=ask.maker(),
        machine=platform,
        reason="",
        rollout_plan=choice.rollout_plan,
        trainer_plan=choice.trainer_plan,
        workers=sides.rollouts.workers,
        step_s=step,
        parts=parts,
        binds=cycle.binds,
        tokens_per_s_per_chip=step.inverse(job.tokens / float_sum(chips.values()), "1/s"),
        trainer_wait_frac=ends.of_share(cycle.trainer_wait_frac, columns.trainer_wait_frac, "1", grade),
        rollout_idle_frac=ends.of_share(cycle.rollout_idle_frac, columns.rollout_idle_frac, "1", grade),
        longest_s=ends.of_time(cycle.longest_s, columns.longest_s, "s", grade),
        staleness_mean=ends.of_share(
            cycle.staleness_mean, columns.staleness_mean, "versions", grade, float(job.staleness)
        ),
        staleness_max=round(cycle.staleness_max),
        sync_seen_s=ends.of_time(cycle.sync_seen_s, columns.sync_seen_s, "s", grade),
        sync_hidden_s=ends.of_time(cycle.sync_hidden_s, columns.sync_hidden_s, "s", grade),
        usd_per_mtok=cost.usd_per_mtok,
        J_per_token=cost.J_per_token,
        price_label=cost.label,
        power_basis=cost.basis,
        cycle=cycle,
        closed_s=closed.step_s,
        sync_method=sides.sync.method or ask.sync,
        assumed=(*ask.assumed, *_assumed(ask, framework, platform, choice)),
    )


def _exact_s(seconds: float) -> Estimate:
    return Estimate(value=seconds, unit="s", low=seconds, high=seconds, grade="C")


def _assumed(ask: RlAsk, framework: Framework, platform: Platform, choice: _Choice) -> list[str]:
    """What nobody stated of the machines and the software."""
    out, facts = [], ask.facts
    if not ask.framework:
        fact = facts.fact(framework.paths["generation"])  # one that was set has no range
        low, high = fact.low or framework.generation, fact.high or framework.generation
        out.append(
            f"no framework is stated: both sides take {framework.generation:.2g} times ({low:.2g} to {high:.2g}) what"
            " the same software takes in benchmarks"
        )
    if ask.rollouts.memory_share is None and (ask.rollouts.plan is None or ask.rollouts.plan.launch.memory is None):
        share = choice.rollout_plan.launch.memory or 0.0
        out.append(f"the engine may use {share:.0%} of a device's memory, as {framework.display} has it")
    if ask.rollouts.plan is None:
        out.append(f"the plan of a rollout worker is searched: {choice.rollout_plan}")
    plan = choice.trainer_plan
    if ask.trainer.plan is None:
        out.append(f"the plan of the trainer is searched: {plan}")
    else:
        one = Plans.of([plan])
        job = step_job(ask.job)
        need = float_sum(
            float(x[0]) for x in memory_B(ask.model, platform, job, one, micro_batches_of(job, one)).values()
        )
        if need > platform.hbm_usable_B:
            out.append(
                f"the trainer's plan is stated, and by our account it needs {show_gib(need)} of a device that has"
                f" {show_gib(platform.hbm_usable_B)}"
            )
    if not ask.sync and not ask.framework:
        out.append(f"new weights reach the workers by {choice.sides.sync.method}")
    if ask.job.placement == "colocated":
        out.append("weights and optimizer of the trainer are in host memory while answers are made")
    return out


def _chips(ask: RlAsk) -> dict[str, int]:
    """Chips that are paid for, by what they do."""
    if ask.job.placement == "colocated":
        sides = {"both": ask.trainer.chips}
    else:
        sides = {"rollouts": ask.rollouts.chips, "trainer": ask.trainer.chips}
    judge = ask.job.environment.judge_chips
    return sides | ({"judge": judge} if judge and ask.judge_id else {})


@dataclass(frozen=True, slots=True)
class _Cost:
    """What tokens cost on all chips of a run together."""

    usd_per_mtok: Estimate
    J_per_token: Estimate
    label: str
    basis: energy.PowerBasis | None


def _cost(ask: RlAsk, chips: Mapping[str, int], step: Estimate, cycle: Cycle) -> _Cost:
    """Dollars and joules of a trained token: every chip is paid for all of the step, and draws less while it waits."""
    on = {"both": ask.trainer.system_id, "rollouts": ask.rollouts.system_id, "trainer": ask.trainer.system_id}
    on["judge"] = ask.judge_id
    idle = {"rollouts": cycle.rollout_idle_frac, "trainer": cycle.trainer_wait_frac}
    site = energy.read_site(ask.facts)
    rates, powers, labels, bases = [], [], [], []
    for what, count in chips.items():
        found = money.price(ask.facts, on[what], term=ask.term)
        rates.append(found.rate.scaled(count, found.rate.unit))
        labels.append(found.label)
        draw = energy.drawn_power(ask.facts, on[what])
        working = count * (1.0 - float(idle.get(what, 0.0)))
        powered = energy.powered_chips(working, count - working, draw.idle_share)
        powers.append(product_of([(draw.power, 1.0), (powered, 1.0)], "W"))
        bases.append(draw.basis)
    tokens = ask.job.tokens
    rate, power = sum_of(rates), sum_of(powers)
    dollars = product_of([(rate, 1.0), (step, 1.0)], "USD/Mtok").scaled(1e6 / tokens, "USD/Mtok")
    joules = product_of([(site.pue, 1.0), (power, 1.0), (step, 1.0)], "J/token").scaled(1.0 / tokens, "J/token")
    return _Cost(
        usd_per_mtok=dollars,
        J_per_token=joules,
        label="; ".join(dict.fromkeys(labels)),
        basis=bases[0] if len(set(bases)) == 1 else "assumed",
    )


def without_answer(ask: RlAsk, reason: str) -> RlRow:
    """The row of a run that no plan can do."""

    none = partial(unknown_estimate, reason=reason)
    return RlRow(
        ask=ask,
        maker=ask.maker(),
        machine=trainer_platform(ask, ask.software()),
        reason=reason,
        step_s=none("s"),
        tokens_per_s_per_chip=none("1/s"),
        trainer_wait_frac=none("1"),
        rollout_idle_frac=none("1"),
        longest_s=none("s"),
        staleness_mean=none("versions"),
        staleness_max=ask.job.staleness,
        sync_seen_s=none("s"),
        sync_hidden_s=none("s"),
        usd_per_mtok=none("USD/Mtok"),
        J_per_token=none("J/token"),
        price_label=money.price(ask.facts, ask.trainer.system_id, term=ask.term).label,
        sync_method=ask.sync,
        assumed=ask.assumed,
    )
