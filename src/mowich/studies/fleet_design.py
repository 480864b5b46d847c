"""A new system in a fleet: its design file, the knobs to turn, and what a fleet with it saves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mowich.economics.energy import chip_power, drawn_power
from mowich.economics.money import RATE
from mowich.economics.unit_cost import unit_cost
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.facts import Facts
from mowich.fleets.answer import Answer, solve_fleet
from mowich.fleets.flips import flips, scaled
from mowich.fleets.problem import CLOUD, WORK_GOALS, Choice, FleetProblem, Offer, Rate, TaskRates, Workload
from mowich.fleets.programme import formulate
from mowich.fleets.robustness import shares_at, shares_of, work_unit
from mowich.fleets.solve import Infeasible, optimise
from mowich.machines.system import resolve
from mowich.progress import steps, tell
from mowich.scenario import read_scenario
from mowich.shown import Keyed
from mowich.software.vendors import ported_stack
from mowich.studies.fleet import PER_CHIP, Fleet, speeds_of

KNOBS: Mapping[str, Sequence[str]] = {
    "memory": ("memory.hbm_capacity",),
    "bandwidth": ("memory.hbm_bandwidth",),
    "compute": tuple(f"peak_dense.{p}" for p in ("bf16", "fp8", "mxfp8", "nvfp4", "mxfp4", "int8")),
    "links": ("scale_up.bandwidth_per_direction",),
    "power": ("power.all_in",),
}
"""What a chip designer can turn, and the facts of a chip that it moves."""


_STEP = 0.1
"""Each knob is turned by this share, up and down."""

_MATTERS = 0.01
"""A property matters where it moves the system's share of the work by this much."""

_FAR = 4.0
"""How far a property matters is looked for from a quarter to four times today's, in `_LOOKS` steps either way."""

_LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A chip that may come: a known system with some of its numbers replaced, at a price. values: paths of facts ->
    SI."""

    system: str
    values: Mapping[str, float]
    offer: Offer
    power_W: Estimate | None
    silicon_m2: float | None


def read_design(path: Path, facts: Facts, problem: FleetProblem) -> Design:
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
    if problem.counts_work and not math.isfinite(supply):
        goal = next(goal for goal in problem.goals if goal in WORK_GOALS)
        root.problem(
            None,
            f"for the most {goal}, a plan would take any number of it",
            fix="give supply: how many units there are",
        )
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


def with_design(problem: FleetProblem, design: Design, facts: Facts) -> FleetProblem:
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
        drawn_share=float(drawn_power(facts, system.id).share),
        have={},
        committed=zero,
        committed_price=exact(0.0, RATE),
        offers=(design.offer,),
    )
    return replace(problem, choices=(*(c for c in problem.choices if c.name != design.system), choice))


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob(Keyed):
    """What one property does: share of the work (`work_unit`), with the property 10% lower and 10% higher; matters_at:
    the nearest multiple of it that moves the share by `_MATTERS` (None: none from a quarter to four times);
    share_there: the share at it."""

    KEYS = "name share_at_90=share_low share_at_110=share_high points_per_percent=elasticity matters_at share_there"

    name: str
    share_low: float
    share_high: float
    matters_at: float | None = None
    share_there: float | None = None

    @property
    def elasticity(self) -> float:
        """Change of the share, in points, per per cent of the property."""
        return (self.share_high - self.share_low) / (2 * _STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf(Keyed):
    """A chip put on the table: value of the scenario's first goal and share of the work without and with it, its
    knobs, the price at which it would take most of each task (None: it does at today's), and what its package costs to
    make."""

    KEYS = (
        "system goal share_of objective_before=value_before objective_after=value_after share_before share_after "
        "win_price unit_cost knobs"
    )

    system: str
    goal: str
    value_before: float | None
    value_after: float
    share_before: Mapping[str, float]
    share_after: Mapping[str, float]
    knobs: tuple[Knob, ...]
    win_price: Mapping[str, float | None]
    unit_cost: Estimate

    @property
    def share_of(self) -> str:
        """What shares are of."""
        return work_unit(self.goal)


def _answered(problem: FleetProblem, rates: TaskRates, answer: Answer) -> dict[str, float]:
    """System -> its share of the work of an answer."""
    at_work = {(a.task, a.system, problem.labels.index(a.period)): a.chips for a in answer.assign}
    return shares_of(problem, rates, at_work)


def what_if(result: Fleet, system: str, facts: Facts, *, silicon_m2: float | None = None) -> WhatIf:
    """How demand shifts when a system of the scenario is there or not, which of its properties matter, and what price
    would win. Relaxed throughout.

    Raises UserError where it is not in the scenario, or where there is no plan even with it.
    """
    problem = result.problem
    choice = next((c for c in problem.choices if c.name == system), None)
    if choice is None:
        raise UserError(
            f"'{system}' is not a system of the scenario", field="what_if", allowed=[c.name for c in problem.choices]
        )

    with_it = solve_fleet(problem, result.rates, relaxed=True)
    if not with_it.is_feasible:
        raise UserError("the scenario has no plan even with it", field="what_if", code=EXIT_INFEASIBLE)
    others = replace(
        problem,
        choices=tuple(c for c in problem.choices if c is not choice),
        workloads=tuple(_without(w, system) for w in problem.workloads),
    )
    without: Answer | None = None
    with suppress(UserError):
        found = solve_fleet(others, result.rates, relaxed=True)
        without = found if found.is_feasible else None
    knobs = _knobs(problem, result.rates, choice, facts)
    wins: dict[str, float | None] = {
        f.task: f.value
        for f in reversed(flips(problem, result.rates, only_system=system, what=("price",)))
        if f.after == system
    }
    wins |= {task: None for task, leader in most_of(problem, with_it).items() if leader == system}
    hbm_B = facts.fact(f"chips.{choice.system.chip}.memory.hbm_capacity").value
    return WhatIf(
        system=system,
        goal=with_it.goal,
        value_before=None if without is None else without.value,
        value_after=with_it.value,
        share_before={} if without is None else _answered(others, result.rates, without),
        share_after=_answered(problem, result.rates, with_it),
        knobs=tuple(sorted(knobs, key=lambda k: (_distance(k), -abs(k.elasticity), k.name))),
        win_price=wins,
        unit_cost=unit_cost(facts, hbm_B=hbm_B, silicon_m2=silicon_m2)
        if isinstance(hbm_B, float)
        else unknown_estimate("USD", "memory unknown"),
    )


def _knobs(problem: FleetProblem, rates: TaskRates, choice: Choice, facts: Facts) -> list[Knob]:
    """What each property of a system does to its share of the work."""
    system = choice.name
    tasks = [t for w in problem.workloads if choice in problem.allowed(w) for t in w.tasks]
    tell(f"speeds of {system}")
    now = speeds_of(tasks, choice, facts)
    today = _share(problem, rates, system)

    def share_at(what: str, factor: float) -> float:
        return _share(*scaled(problem, rates, system, what, factor), system)

    whats = ("speed", "price") if choice.offers else ("speed",)  # a committed price is paid anyway, and moves no work
    knobs = [_knob(what, today, partial(share_at, what)) for what in whats]
    if choice.power_W.value is not None:
        knobs.append(_knob("power", today, lambda f: _share(_with_power(problem, choice, f), rates, system)))
    turned = {name: fields for name, fields in KNOBS.items() if name != "power"}
    for name, fields in steps(turned.items(), "turning its properties"):
        tell(f"{system} with 90% and 110% of its {name}")
        ends = {
            factor: speeds_of(tasks, choice, _turned(facts, choice, fields, factor))
            for factor in (1 - _STEP, 1 + _STEP)
        }
        knobs.append(_knob(name, today, partial(_turned_share, problem, rates, system, now, ends, today)))
    return knobs


def _share(problem: FleetProblem, rates: TaskRates, system: str) -> float:
    """A system's share of the work in the relaxed optimum; 0 where there is no plan."""
    try:
        programme = formulate(problem, rates)
        found = optimise(programme, goals=problem.goals, integer=False)
    except (Infeasible, UserError):
        return 0.0
    return shares_at(programme, problem, rates, found.x)[system]


def _knob(name: str, today: float, share: Callable[[float], float]) -> Knob:
    """What a property does to a system's share of the work, and how far it is from mattering. today: the share as
    things are; share: that of a multiple of the property."""
    low, high = share(1 - _STEP), share(1 + _STEP)
    near = [(1 - _STEP, low), (1 + _STEP, high)]
    ahead = [_FAR ** (step / _LOOKS) for step in range(1, _LOOKS + 1)]
    for factor in [f for up in ahead for f in (1 / up, up)]:
        moved = next(((f, s) for f, s in near if abs(s - today) >= _MATTERS), None)
        if moved is not None:
            return Knob(name=name, share_low=low, share_high=high, matters_at=moved[0], share_there=moved[1])
        near = [(factor, share(factor))]
    return Knob(name=name, share_low=low, share_high=high)


def _distance(knob: Knob) -> float:
    """How far a property is from mattering, as a ratio; infinite where it does not within `_FAR`."""
    return math.inf if knob.matters_at is None else abs(math.log(knob.matters_at))


def _with_power(problem: FleetProblem, choice: Choice, factor: float) -> FleetProblem:
    """The problem with a system's power times a factor."""
    watts = choice.power_W.scaled(factor, "W")
    return replace(problem, choices=tuple(replace(c, power_W=watts) if c is choice else c for c in problem.choices))


def _moved(
    rates: TaskRates, system: str, now: Mapping[str, Rate], ends: Mapping[float, Mapping[str, Rate]], factor: float
) -> TaskRates:
    """The speeds of a fleet with a property of one system times a factor: as at the nearer end of what was predicted
    (`ends`: 10% lower, 10% higher) over today's prediction (`now`), a power law beyond; a task that runs only with the
    property at that end has that speed."""
    turned = min(ends) if factor < 1 else max(ends)
    out = dict(rates)
    for task, there in ends[turned].items():
        was, then, kept = now[task].tokens_per_s_per_chip, there.tokens_per_s_per_chip, rates.get((task, system))
        if kept is None or was.value is None or then.value is None or kept.tokens_per_s_per_chip.value is None:
            out[task, system] = there
            continue
        speed = (then.value / was.value) ** (math.log(factor) / math.log(turned))
        out[task, system] = replace(kept, tokens_per_s_per_chip=kept.tokens_per_s_per_chip.scaled(speed, PER_CHIP))
    return out


def _turned_share(
    problem: FleetProblem,
    rates: TaskRates,
    system: str,
    now: Mapping[str, Rate],
    ends: Mapping[float, Mapping[str, Rate]],
    today: float,
    factor: float,
) -> float:
    """A system's share of the work with one of its properties times a factor, as `_moved` has its speeds; today's
    where the property moves no speed."""
    moved = _moved(rates, system, now, ends, factor)
    return today if moved == rates else _share(problem, moved, system)


def _without(workload: Workload, system: str) -> Workload:
    """The workload allowed everything but one system (one that is left with nothing runs nowhere: its list names it
    still)."""
    left = tuple(s for s in workload.systems if s != system)
    return replace(workload, systems=left) if left else workload


def most_of(problem: FleetProblem, answer: Answer) -> dict[str, str]:
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
