"""`mowich fleet`: speeds of every workload on every system from `plan`, then what to buy, rent and assign, and how sure
that is.

The speeds are files: `rates` writes what `mowich plan` and `mowich plan --serve` answer for each task on each system,
with their ranges, and the optimiser reads that. So nothing in a fleet's answer was typed in but prices, supply and
power that a scenario gives as its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mowich.economics.energy import power as chip_power
from mowich.economics.money import RATE
from mowich.economics.unit_cost import unit_cost
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate, exact, product, unknown
from mowich.facts import Facts
from mowich.fleets.answer import Answer, Flip, Robustness, flips, robustness, scaled, solve
from mowich.fleets.problem import (
    CLOUD,
    Choice,
    Offer,
    Problem,
    Rate,
    Rates,
    Task,
    Workload,
    read_problem,
    read_rates,
)
from mowich.machines.system import resolve
from mowich.models import load as load_model
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.scenario import read as read_scenario
from mowich.serving.search import ServeJob
from mowich.shown import Shown
from mowich.software.vendors import ported_stack
from mowich.studies import serving_plan
from mowich.studies.compare import Ask
from mowich.studies.compare import solve as best_plans
from mowich.studies.serving_plan import parse_serving
from mowich.units import parse, parse_batch, parse_count

PER_CHIP = "1/s"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Shown):
    """What was asked, the speeds it rests on, the answer, and (where asked for) how robust it is and where it flips."""

    problem: Problem
    rates: Rates
    answer: Answer
    robust: Robustness | None = None
    flips: tuple[Flip, ...] = ()
    facts_hash: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def buys(self) -> list[dict[str, object]]:
        """What to buy, in each period."""
        return [_order(o) for o in self.answer.orders if o.kind == "buy"]

    @property
    def rents(self) -> list[dict[str, object]]:
        """What to rent, in each period."""
        return [_order(o) for o in self.answer.orders if o.kind == "rent"]

    def rows(self) -> list[dict[str, object]]:
        """Every order, bought or rented."""
        return [
            {"kind": kind, **order} for kind, orders in (("buy", self.buys), ("rent", self.rents)) for order in orders
        ]

    def to_dict(self) -> dict[str, object]:
        """The `mowich/fleet@1` contract."""
        a = self.answer

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None  # no plan, or no draw with one

        out: dict[str, object] = {
            "schema": "mowich/fleet@1",
            "inputs": dict(self.inputs),
            "facts_hash": self.facts_hash,
            "complete": self.robust is None or self.robust.complete,
            "status": a.status,
            "objective": number(a.usd),
            "unit": "USD",
            "bound": number(a.bound_usd),
            "gap": number(a.gap),
            "energy_J": number(a.energy_J),
            "stacks": list(a.stacks),
            "periods": list(self.problem.labels),
            "buy": self.buys,
            "rent": self.rents,
            "assign": [
                {"task": x.task, "system": x.system, "period": x.period, "chips": x.chips, "share": x.share}
                for x in a.assign
            ],
            "use": [
                {
                    "system": u.system,
                    "period": u.period,
                    "chips": u.there,
                    "busy": u.busy,
                    "idle": max(0.0, u.there - u.busy),
                    "MWh": u.mwh,
                }
                for u in a.uses
            ],
            "binding": [
                {"constraint": b.constraint, "shadow_price": b.shadow_price, "unit": f"USD/{b.unit}"} for b in a.binding
            ],
            "single_vendor": [
                {
                    "stack": v.stack,
                    "objective": v.usd,
                    "over": None if v.over is None else number(v.over),
                    "reason": v.reason or None,
                }
                for v in a.vendors
            ],
            "conflict": list(a.conflict),
            "rates": [
                {
                    "task": r.task,
                    "system": r.system,
                    "chips": r.chips,
                    "tokens_per_s_per_chip": r.tokens_per_s_per_chip.to_dict(),
                    "plan": dict(r.plan),
                }
                for r in self.rates.values()
            ],
            "warnings": [*self.warnings, *a.warnings],
        }
        if self.robust is not None:
            r = self.robust
            out["robust"] = {
                "draws": r.draws,
                "asked": r.asked,
                "infeasible": r.infeasible,
                "share": {k: list(map(number, v)) for k, v in r.share.items()},
                "wins": {k: number(v) for k, v in r.wins.items()},
                "kept_regret": list(map(number, r.kept)),
                "single_vendor_regret": {k: None if v is None else list(v) for k, v in r.regret.items()},
            }
        if self.flips:
            out["flips"] = [
                {
                    "task": f.task,
                    "system": f.system,
                    "what": f.what,
                    "at": f.at,
                    "value": number(f.value),
                    "unit": f.unit,
                    "before": f.before,
                    "after": f.after,
                }
                for f in self.flips
            ]
        return out


def _order(o: Any) -> dict[str, object]:
    return {
        "system": o.system,
        "site": o.site,
        "period": o.period,
        "units": o.units,
        "chips": o.chips,
        "usd": o.usd,
        "price": o.price,
    }


# ---- speeds
# ----------------------------------------------------------------------------------------------------------------------


def rates(problem: Problem, facts: Facts, *, progress: Progress | None = None) -> dict[tuple[str, str], Rate]:
    """The speed of every task on every system allowed to it, from the best plan; unknown with the reason where it does
    not run."""
    out: dict[tuple[str, str], Rate] = {}
    for workload in problem.workloads:
        for task in workload.tasks:
            for choice in problem.allowed(workload):
                if progress:
                    progress(f"speed of {task.name} on {choice.name}")
                out[task.name, choice.name] = rate(task, choice, facts)
    return out


def rate(task: Task, choice: Choice, facts: Facts) -> Rate:
    """The speed of one task on one system."""
    return _train_rate(task, choice, facts) if task.ask["do"] == "train" else _serve_rate(task, choice, facts)


def _failed(task: Task, choice: Choice, reason: str, chips: int) -> Rate:
    return Rate(task=task.name, system=choice.name, tokens_per_s_per_chip=unknown(PER_CHIP, reason), chips=chips)


def _train_rate(task: Task, choice: Choice, facts: Facts) -> Rate:
    ask = task.ask
    model = as_trained(load_model(str(ask["model"])))
    seq = int(parse_count(ask["seq"], where=f"{task.name}.seq"))
    sequences = parse_batch(ask["batch"], seq, where=f"{task.name}.batch")
    job = TrainJob(tokens=parse_count(ask["tokens"]), seq=seq, batch_seqs=sequences)
    chips = int(ask.get("chips") or choice.unit_chips)
    fixed = parse_fixed({"precision": ",".join(ask["precision"])} if ask.get("precision") else {})
    system = resolve(facts, choice.system.id, chips=chips)
    row = best_plans(
        Ask(
            name=choice.name,
            system_id=system.id,
            chips=chips,
            stack=None,
            model=model,
            facts=facts,
            job=job,
            term="default",
        ),
        fixed=fixed,
    )[0]
    if row.plan is None or row.feasible is False:
        return _failed(task, choice, row.reason or "no plan fits", chips)
    paid = row.chips_used + row.chips_idle
    speed = product([(row.tokens_per_s_per_chip, 1.0), (row.goodput, 1.0)], PER_CHIP).scaled(
        row.chips_used / paid, PER_CHIP
    )
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=speed,
        chips=chips,
        plan=row.plan.to_dict(),
        source="mowich plan --train",
    )


def _serve_rate(task: Task, choice: Choice, facts: Facts) -> Rate:
    ask = task.ask

    def limit(key: str) -> float:
        return parse(ask[key], "s", where=f"{task.name}.{key}").value if key in ask else math.inf

    job = ServeJob(
        prompt=parse_count(ask["isl"], where=f"{task.name}.isl"),
        output=parse_count(ask["osl"], where=f"{task.name}.osl"),
        ttft_s=limit("ttft"),
        tpot_s=limit("tpot"),
    )
    chips = int(ask.get("chips") or choice.unit_chips)
    fixed = parse_serving({"weights": ",".join(ask["precision"])} if ask.get("precision") else {})
    row = serving_plan.plan(
        load_model(str(ask["model"])), choice.system.id, job=job, facts=facts, chips=chips, top=1, fixed=fixed
    ).rows[0]
    if row.feasible is not True or row.decode is None:
        return _failed(task, choice, row.reason or "no plan meets the limits", chips)
    speed = row.tokens_per_s_per_chip.scaled(1.0, PER_CHIP)  # of all chips already, idle ones too
    plan = {**row.decode.to_dict(), "mode": row.mode, "batch": row.batch, "engine": row.engine}
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=speed,
        chips=chips,
        plan=plan,
        source="mowich plan --serve",
    )


# ---- the study
# ----------------------------------------------------------------------------------------------------------------------


def known_rates(
    problem: Problem, facts: Facts, scenario: Path, given: Path | None, *, progress: Progress | None = None
) -> tuple[Rates, list[str]]:
    """The speeds of a problem: from the file given, from the file that the scenario names, else predicted now. A file
    made from other facts is used and said; tasks or systems that a file lacks are predicted."""
    warnings = []
    found: dict[tuple[str, str], Rate] = {}
    file = given or (scenario.parent / problem.rates_file if problem.rates_file else None)
    if file is not None:
        found, made_from = read_rates(file)
        if made_from and made_from != facts.hash():
            warnings.append(
                f"{file.name} was made from other facts ({made_from}, now {facts.hash()}): --rates-out FILE renews it"
            )
    names = {(t.name, c.name) for w in problem.workloads for t in w.tasks for c in problem.allowed(w)}
    for key in found:
        if key not in names:
            warnings.append(f"{key[0]} on {key[1]} is not asked for: its speed is not used")
    missing = [key for key in sorted(names) if key not in found]
    for task, system in missing:
        choice = next(c for c in problem.choices if c.name == system)
        one = next(t for t in problem.tasks if t.name == task)
        if progress:
            progress(f"speed of {task} on {system}")
        found[task, system] = rate(one, choice, facts)
    return {key: found[key] for key in found if key in names}, warnings


def fleet(
    scenario: str | Path,
    facts: Facts,
    *,
    rates_file: Path | None = None,
    relaxed: bool = False,
    gap: float = 0.005,
    time_limit_s: float = 60.0,
    draws: int = 0,
    with_flips: bool = False,
    seed: int = 0,
    problem: Problem | None = None,
    speeds: Rates | None = None,
    progress: Progress | None = None,
) -> Fleet:
    """The answer to a scenario file. draws: of prices and speeds (0: none); with_flips: look for flip points; speeds:
    those of `problem`, where they are known.

    Raises UserError for bad input, and (exit 3) where a workload runs on no system allowed to it.
    """
    path = Path(scenario)
    asked = problem or read_problem(path, facts)
    warnings: list[str] = []
    if speeds is None:
        speeds, warnings = known_rates(asked, facts, path, rates_file, progress=progress)
    found = solve(asked, speeds, relaxed=relaxed, gap=gap, time_limit_s=time_limit_s, progress=progress)
    robust = (
        robustness(asked, speeds, found, draws=draws, seed=seed, progress=progress)
        if draws and found.is_feasible
        else None
    )
    turning = flips(asked, speeds, progress=progress) if with_flips and found.is_feasible else ()
    inputs = {
        "scenario": str(scenario),
        "name": asked.name,
        "relaxed": relaxed,
        "gap": gap,
        "draws": draws,
        "seed": seed,
        "goals": list(asked.goals),
    }
    return Fleet(
        problem=asked,
        rates=speeds,
        answer=found,
        robust=robust,
        flips=turning,
        facts_hash=facts.hash(),
        inputs=inputs,
        warnings=tuple(warnings),
    )


# ---- a chip as design
# ----------------------------------------------------------------------------------------------------------------------

KNOBS: Mapping[str, Sequence[str]] = {
    "memory": ("memory.hbm_capacity", "memory.hbm_usable"),
    "bandwidth": ("memory.hbm_bandwidth",),
    "compute": tuple(f"peak_dense.{p}" for p in ("bf16", "fp8", "mxfp8", "nvfp4", "mxfp4", "int8")),
    "links": ("scale_up.bandwidth_per_direction",),
    "power": ("power.all_in",),
}
"""What a chip designer can turn, and the facts of a chip that it moves."""

STEP = 0.1
"""Each knob is turned by this share, up and down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A chip that may come: a known system with some of its numbers replaced, at a price. values: paths of facts ->
    SI."""

    system: str
    values: Mapping[str, float]
    offer: Offer
    power_W: Estimate | None
    silicon_m2: float | None


def read_design(path: Path, facts: Facts, problem: Problem) -> Design:
    """A file such as `like: trn4`, `memory: 288 GiB`, `bandwidth: 18 TB/s`, `compute: {mxfp8: 7.5 PFLOP/s}`, `links:`,
    `power:`, `price:`, `supply:`, `silicon:` -> Design. Raises UserError (all mistakes at once)."""
    root = read_scenario(path)
    root.need("like", "price")
    like = root.text("like")
    try:
        system = resolve(facts, like, chips=None)
    except UserError as error:
        root.problem("like", error.what, allowed=error.allowed, fix=error.fix)
        root.stop()
        raise
    chip = f"chips.{system.chip}"
    values: dict[str, float] = {}
    for key, unit in (("memory", "B"), ("bandwidth", "B/s"), ("links", "B/s"), ("power", "W")):
        number = root.quantity(key, unit)
        if number is None:
            continue
        old = facts.get(f"{chip}.{KNOBS[key][0]}")
        if old is None:
            root.problem(key, f"{like} has no such number to replace")
            continue
        values[old.path] = number
        for name in KNOBS[key][1:]:  # what a program may use of the memory keeps its share
            other = facts.get(f"{chip}.{name}")
            if other is not None and isinstance(other.value, float) and isinstance(old.value, float):
                values[other.path] = other.value * number / old.value
    compute = root.node("compute")
    for name in compute:
        peak = compute.quantity(name, "FLOP/s")
        fact = facts.get(f"{chip}.peak_dense.{name}")
        if fact is None:
            compute.problem(
                name,
                f"{like} has no such precision",
                allowed=[p.rsplit(".", 1)[1] for p in KNOBS["compute"] if facts.get(f"{chip}.{p}")],
            )
        elif peak is not None:
            values[fact.path] = peak
    price = root.quantity("price", RATE)
    silicon = root.quantity("silicon", "m2")
    supply = root.count("supply", math.inf, minimum=0)
    arrives = root.text("from", problem.labels[0], allowed=problem.labels)
    root.done()
    root.stop()
    there = np.where(np.arange(problem.num_periods) >= problem.labels.index(arrives), supply, 0.0)
    offer = Offer(
        system=like,
        kind="rent",
        site=CLOUD,
        price=exact(price or 0.0, RATE, "user"),
        price_label="yours",
        term=1,
        supply=there,
        delay=0,
    )
    power = values.get(f"{chip}.power.all_in")
    return Design(
        system=like,
        values=values,
        offer=offer,
        power_W=None if power is None else exact(power, "W", "user"),
        silicon_m2=silicon,
    )


def with_design(problem: Problem, design: Design, facts: Facts) -> Problem:
    """The problem with a design on the table, in place of a system of the same name. facts: with the design's
    values."""
    system = resolve(facts, design.system, chips=None)
    zero = np.zeros(problem.num_periods)
    choice = Choice(
        name=design.system,
        system=system,
        stack=ported_stack(facts, system.vendor),
        unit_chips=system.chips_per_unit,
        power_W=design.power_W or chip_power(facts, system.id),
        have={},
        committed=zero,
        committed_price=exact(0.0, RATE),
        offers=(design.offer,),
    )
    return replace(problem, choices=(*(c for c in problem.choices if c.name != design.system), choice))


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What one property does: share of all chip-hours at work, with the property 10% lower and 10% higher."""

    name: str
    share_low: float
    share_high: float

    @property
    def elasticity(self) -> float:
        """Change of the share, in points, per per cent of the property."""
        return (self.share_high - self.share_low) / (2 * STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A chip put on the table: share of chip-hours without and with it, its knobs, the price at which it would take
    most of each task (None: it does at today's), and what its package costs to make."""

    system: str
    usd_before: float | None
    usd_after: float
    share_before: Mapping[str, float]
    share_after: Mapping[str, float]
    knobs: tuple[Knob, ...]
    win_price: Mapping[str, float | None]
    unit_cost: Estimate

    def to_dict(self) -> dict[str, object]:
        return {
            "system": self.system,
            "objective_before": self.usd_before,
            "objective_after": self.usd_after,
            "share_before": dict(self.share_before),
            "share_after": dict(self.share_after),
            "win_price": dict(self.win_price),
            "unit_cost": self.unit_cost.to_dict(),
            "knobs": [
                {
                    "name": k.name,
                    "share_at_90": k.share_low,
                    "share_at_110": k.share_high,
                    "points_per_percent": k.elasticity,
                }
                for k in self.knobs
            ],
        }


def shares_of(problem: Problem, answer: Answer) -> dict[str, float]:
    """System -> share of all chip-periods at work."""
    total = {c.name: 0.0 for c in problem.choices}
    for a in answer.assign:
        total[a.system] += a.chips
    everything = sum(total.values()) or 1.0
    return {k: v / everything for k, v in total.items()}


def what_if(
    result: Fleet, system: str, facts: Facts, *, silicon_m2: float | None = None, progress: Progress | None = None
) -> WhatIf:
    """How demand shifts when a system of the scenario is there or not, which of its properties matter, and what price
    would win. Relaxed throughout.

    Raises UserError where it is not in the scenario, or where there is no plan even with it.
    """
    problem = result.problem
    choice = next((c for c in problem.choices if c.name == system), None)
    if choice is None:
        raise UserError(
            f"'{system}' is not a system of the scenario", where="--what-if", allowed=[c.name for c in problem.choices]
        )

    def share(of: Problem, speeds: Rates) -> float:
        try:
            again = solve(of, speeds, relaxed=True)
        except UserError:
            return 0.0
        return shares_of(of, again).get(system, 0.0) if again.is_feasible else 0.0

    with_it = solve(problem, result.rates, relaxed=True, progress=progress)
    if not with_it.is_feasible:
        raise UserError("the scenario has no plan even with it", where="--what-if", code=EXIT_INFEASIBLE)
    others = replace(
        problem,
        choices=tuple(c for c in problem.choices if c is not choice),
        workloads=tuple(_without(w, system) for w in problem.workloads),
    )
    try:
        without: Answer | None = solve(others, result.rates, relaxed=True, progress=progress)
    except UserError:
        without = None
    if without is not None and not without.is_feasible:
        without = None
    tasks = [t for w in problem.workloads if choice in problem.allowed(w) for t in w.tasks]
    knobs = []
    for name, fields in KNOBS.items():
        ends = []
        for factor in (1 - STEP, 1 + STEP):
            if progress:
                progress(f"{system} with {factor:.0%} of its {name}")
            if name == "power":
                if choice.power_W.value is None:
                    continue
                watts = choice.power_W.scaled(factor, "W")
                ends.append(
                    share(
                        replace(
                            problem,
                            choices=tuple(replace(c, power_W=watts) if c is choice else c for c in problem.choices),
                        ),
                        result.rates,
                    )
                )
            else:
                moved = _turned(facts, choice, fields, factor)
                ends.append(
                    share(problem, {**result.rates, **{(t.name, system): rate(t, choice, moved) for t in tasks}})
                )
        if ends:
            knobs.append(Knob(name=name, share_low=ends[0], share_high=ends[1]))
    ends = [
        share(scaled(problem, result.rates, system, "price", factor)[0], result.rates)
        for factor in (1 - STEP, 1 + STEP)
    ]
    knobs.append(Knob(name="price", share_low=ends[0], share_high=ends[1]))
    wins: dict[str, float | None] = {
        f.task: f.value
        for f in reversed(flips(problem, result.rates, only_system=system, what=("price",), progress=progress))
        if f.after == system
    }
    wins |= {task: None for task, leader in most_of(problem, with_it).items() if leader == system}
    hbm = facts.fact(f"chips.{choice.system.chip}.memory.hbm_capacity")
    cost = (
        unit_cost(facts, hbm_B=float(hbm.value), silicon_m2=silicon_m2)
        if isinstance(hbm.value, float)
        else unknown("USD", "memory unknown")
    )
    return WhatIf(
        system=system,
        usd_before=None if without is None else without.usd,
        usd_after=with_it.usd,
        share_before={} if without is None else shares_of(others, without),
        share_after=shares_of(problem, with_it),
        knobs=tuple(sorted(knobs, key=lambda k: (-abs(k.elasticity), k.name))),
        win_price=wins,
        unit_cost=cost,
    )


def _without(workload: Workload, system: str) -> Workload:
    """The workload allowed everything but one system (one that is left with nothing runs nowhere: its list names it
    still)."""
    left = tuple(s for s in workload.systems if s != system)
    return replace(workload, systems=left) if left else workload


def most_of(problem: Problem, answer: Answer) -> dict[str, str]:
    """Task -> the system with the largest share of it over all periods."""
    done: dict[tuple[str, str], float] = {}
    for a in answer.assign:
        done[a.task, a.system] = done.get((a.task, a.system), 0.0) + a.share
    return {
        t.name: max((s for (n, s) in done if n == t.name), key=lambda s: done[t.name, s], default="")
        for t in problem.tasks
    }


def _turned(facts: Facts, choice: Choice, fields: Sequence[str], factor: float) -> Facts:
    """The facts with some of a chip's numbers times a factor."""
    found = [facts.get(f"chips.{choice.system.chip}.{name}") for name in fields]
    return facts.with_values({f.path: f.value * factor for f in found if f is not None and isinstance(f.value, float)})
