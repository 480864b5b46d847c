"""From a solved programme to an answer: orders, assignment, binding limits with their shadow prices, one vendor alone,
and robustness.

Each study is a function of a `FleetProblem` and its `TaskRates`. Shadow prices are those of the linear relaxation,
where they are defined. Draws take every price and speed from its own 90% range, log-normal on either side; all tasks of
a system share the error of its speed, because it mostly comes from unknown properties of the chip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mowich.errors import UserError
from mowich.fleets.check import violations
from mowich.fleets.layout import TIES, Programme, Says, standing
from mowich.fleets.problem import (
    GOAL_UNITS,
    LEAST_PACE,
    WORK_GOALS,
    FleetProblem,
    FleetTask,
    Offer,
    TaskRates,
    Vector,
    Workload,
)
from mowich.fleets.programme import formulate, share_per_unit
from mowich.fleets.solve import GOAL_TIE, LEAST_WORK, Infeasible, Solution, conflict, gap_between, only, optimise
from mowich.progress import steps, tell
from mowich.shown import Keyed
from mowich.sums import float_sum

Z90 = 1.6448536269514722
"""Standard deviations from the middle to the end of a 90% interval of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipOrder(Keyed):
    """Units ordered in one period. chips: in all; usd: what they cost within the horizon, before discounting."""

    KEYS = "system site period units chips usd price"

    system: str
    kind: str
    site: str
    period: str
    units: float
    chips: float
    usd: float
    price: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resale:
    """Committed units let to others in one period. chips: in all; usd: what they bring, before discounting."""

    system: str
    period: str
    units: float
    chips: float
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """chips at work on a task in one period, mean of the day, and their share of its work of that period (or of all its
    tokens)."""

    task: str
    system: str
    period: str
    chips: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A constraint that holds the first goal back. shadow_price: USD saved, or tokens or USD gained, by one more of it
    (a demand: one per cent less, or more where the unit says so); unit: of that price. kind, subject: from the row of
    the programme: "capacity", "trn2 at cloud"."""

    constraint: str
    shadow_price: float
    unit: str
    goal: str
    kind: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor(Keyed):
    """The best plan on one stack alone. value: of the first goal, None without a plan, with the reason; over: how much
    worse it is than the best plan, as a share."""

    KEYS = "stack goal objective=value over:finite reason:none"

    stack: str
    goal: str
    value: float | None
    over: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUse(Keyed):
    """Chips of a system in one period: installed, at work, and the MWh that they draw (None: power unknown)."""

    KEYS = "system unit_chips period chips=there busy idle MWh=mwh"

    system: str
    unit_chips: int
    period: str
    there: float
    busy: float
    mwh: float | None

    @property
    def idle(self) -> float:
        """Installed chips that are not at work."""
        return max(0.0, self.there - self.busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to buy, rent and assign. goal: the first one; value: of it, in its own unit (USD, J, stacks or tokens);
    bound: no plan is better; usd: net present cost; energy_J: at the meter, of systems whose power is known; done:
    workload -> its work over what is asked."""

    status: str
    goal: str = "cost"
    value: float
    usd: float
    bound: float
    gap: float
    energy_J: float
    stacks: tuple[str, ...]
    orders: tuple[ChipOrder, ...] = ()
    sold: tuple[Resale, ...] = ()
    assign: tuple[Assignment, ...] = ()
    done: Mapping[str, float] = field(default_factory=dict)
    uses: tuple[PeriodUse, ...] = ()
    binding: tuple[Binding, ...] = ()
    vendors: tuple[Vendor, ...] = ()
    conflict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_feasible(self) -> bool:
        return self.status in ("optimal", "time limit")


# ---- one answer
# ----------------------------------------------------------------------------------------------------------------------


def _taken(
    programme: Programme, problem: FleetProblem, x: Vector
) -> tuple[dict[tuple[str, str, str, int], float], dict[tuple[str, str, int], float], dict[tuple[str, str], float]]:
    """(orders, work, keeps) of a solution, as `check.violations` takes them."""
    layout = programme.layout
    orders = {
        (o.system, o.kind, o.site, t): float(x[c])
        for o, columns in zip(layout.offers, layout.orders, strict=True)
        for t, c in enumerate(columns)
    }
    work = {(n, s, t): float(x[c]) for (n, s), columns in layout.work.items() for t, c in enumerate(columns) if c >= 0}
    keeps = {key: float(x[c]) for key, c in layout.keeps.items()}
    return orders, work, keeps


def answer_of(
    problem: FleetProblem, rates: TaskRates, programme: Programme, solution: Solution, *, whole: bool
) -> Answer:
    """An answer from a solution, checked again without the programme. Raises RuntimeError (our bug) where it breaks a
    rule."""
    orders, work, keeps = _taken(programme, problem, solution.x)
    let = {(s, t): float(solution.x[c]) for s, columns in programme.layout.sold.items() for t, c in enumerate(columns)}
    if whole:
        orders = {k: _rounded(v) for k, v in orders.items()}
        let = {k: _rounded(v) for k, v in let.items()}
    claimed = {g: programme.amount(g, solution.goals[g]) for g in problem.goals if g in WORK_GOALS}
    wrong = violations(problem, rates, orders=orders, work=work, keeps=keeps, sold=let, whole=whole, claimed=claimed)
    if wrong:
        raise RuntimeError(f"the solver's plan breaks {len(wrong)} rules, the first: {wrong[0]}")
    choices = {c.name: c for c in problem.choices}
    assign = _assigned(problem, rates, work)
    working = {choices[a.system].stack for a in assign}
    return Answer(
        status=solution.status,
        goal=programme.first,
        value=programme.amount(programme.first, solution.goals[programme.first]),
        usd=programme.amount("cost", solution.goals["cost"]),
        bound=programme.amount(programme.first, solution.bound),
        gap=solution.gap,
        energy_J=programme.amount("energy", solution.goals["energy"]),
        stacks=tuple(k for k in programme.layout.stacks if k in working),
        orders=_ordered(problem, programme.layout.offers, orders),
        sold=tuple(
            Resale(
                system=s,
                period=problem.labels[t],
                units=units,
                chips=units * choices[s].unit_chips,
                usd=units * choices[s].resale_usd(problem.length_s),
            )
            for (s, t), units in let.items()
            if units > LEAST_WORK
        ),
        assign=assign,
        done={w.name: min(_times(task, assign, problem.labels) for task in w.tasks) for w in problem.workloads},
        uses=uses(problem, programme, solution.x),
        warnings=problem.warnings,
    )


def _ordered(
    problem: FleetProblem, offers: Sequence[Offer], units: Mapping[tuple[str, str, str, int], float]
) -> tuple[ChipOrder, ...]:
    """Purchases and rentals by offer and period. units: of (system, kind, site, period)."""
    unit_chips = {c.name: c.unit_chips for c in problem.choices}
    lines = []
    for offer in offers:
        chips = unit_chips[offer.system]
        for t in range(problem.num_periods):
            count = units[offer.system, offer.kind, offer.site, t]
            if count > LEAST_WORK:
                rented = max(0, min(problem.num_periods, t + offer.delay + offer.term) - t - offer.delay)
                paid = 1 if offer.kind == "buy" else chips * problem.length_s * rented
                lines.append(
                    ChipOrder(
                        system=offer.system,
                        kind=offer.kind,
                        site=offer.site,
                        period=problem.labels[t],
                        units=count,
                        chips=count * chips,
                        usd=count * (float(offer.price) * paid),
                        price=offer.price_label,
                    )
                )
    return tuple(lines)


def _assigned(
    problem: FleetProblem, rates: TaskRates, work: Mapping[tuple[str, str, int], float]
) -> tuple[Assignment, ...]:
    """Which task works where in each period. work: units of (task, system, period)."""
    unit_chips = {c.name: c.unit_chips for c in problem.choices}
    assign = []
    for task in problem.tasks:
        for (n, s, t), units in work.items():
            if n == task.name and units > LEAST_WORK:
                at_work = units * unit_chips[s]
                speed = at_work * float(rates[n, s].tokens_per_s_per_chip)
                share = speed / task.tokens_per_s[t] if task.kind == "serve" else speed * problem.length_s / task.tokens
                mean = at_work * task.day_mean
                assign.append(Assignment(task=n, system=s, period=problem.labels[t], chips=mean, share=float(share)))
    return tuple(assign)


def _rounded(units: float) -> float:
    """Whole units where the solver found them within its tolerance."""
    return float(round(units)) if abs(units - round(units)) < 1e-4 else units


def _times(task: FleetTask, assign: Sequence[Assignment], labels: Sequence[str]) -> float:
    """The done work of a task over the asked work."""
    mine = [a for a in assign if a.task == task.name]
    if task.kind != "serve":
        return float_sum(a.share for a in mine)
    asked = {label: float(rate) for label, rate in zip(labels, task.tokens_per_s, strict=True)}
    return float_sum(a.share * asked[a.period] for a in mine) / (float_sum(asked.values()) or 1.0)


def uses(problem: FleetProblem, programme: Programme, x: Vector) -> tuple[PeriodUse, ...]:
    """Installed chips, chips at work, and energy, by system and period."""
    layout, out = programme.layout, []
    for choice in problem.choices:
        mine = [(n, p) for n, p in enumerate(layout.pools) if p.choice is choice]
        for t in range(problem.num_periods):
            there = busy = joule = 0.0
            for number, pool in mine:
                units = float(pool.there[t])
                for o in pool.offers:
                    units += float_sum(
                        float(x[layout.orders[o][q]]) for q in standing(layout.offers[o], t, problem.num_periods)
                    )
                if pool.holds_committed and choice.name in layout.sold:
                    units -= float(x[layout.sold[choice.name][t]])
                at_work = float(x[layout.busy[number][t]])
                there, busy = there + units, busy + at_work
                if choice.power_W.value is not None:
                    share = pool.site.idle_share
                    at_work_share = max(share, choice.drawn_share)
                    joule += (
                        choice.power_W.value
                        * float(pool.site.pue)
                        * choice.unit_chips
                        * problem.length_s
                        * (at_work_share * at_work + share * max(0.0, units - at_work))
                    )
            if there > LEAST_WORK:
                out.append(
                    PeriodUse(
                        system=choice.name,
                        unit_chips=choice.unit_chips,
                        period=problem.labels[t],
                        there=there * choice.unit_chips,
                        busy=busy * choice.unit_chips,
                        mwh=None if choice.power_W.value is None else joule / 3.6e9,
                    )
                )
    return tuple(out)


_WORDS: Mapping[str, str] = {
    "power": "power at {subject}",
    "supply to buy": "supply of {subject} to buy",
    "supply to rent": "supply of {subject} to rent",
    "budget": "the budget",
    "demand": "demand of {subject}",
    "work": "work of {subject} by its deadline",
    "chips at once": "chips at once of {subject}",
    "one system": "{subject} on one system",
    "run": "{subject} without a gap",
    "capacity": "units of {subject}",
}


def _words(says: Says, labels: Sequence[str]) -> str:
    """A row in plain words: "power at iowa in 2027-Q3"."""
    text = _WORDS.get(says.kind, says.kind + " of {subject}").format(subject=says.subject)
    return text + (
        f" in {labels[says.period]}"
        if says.period >= 0 and says.kind != "work"
        else f" ({labels[says.period]})"
        if says.kind == "work"
        else ""
    )


def _together(rows: Sequence[Says], labels: Sequence[str]) -> tuple[str, ...]:
    """Rows in words, those of one subject as one: "supply of trn3 to rent in 2028-Q1 to 2028-Q4"."""
    groups: dict[tuple[str, str], list[Says]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    out = []
    for same in groups.values():
        first, last = same[0].period, same[-1].period
        text = _words(same[0], labels)
        if len(same) > 1 and first < last:
            text += (
                f" to {labels[last]}"
                if last - first == len(same) - 1
                else ", " + ", ".join(labels[r.period] for r in same[1:])
            )
        out.append(text)
    return tuple(out)


def bindings(problem: FleetProblem, programme: Programme, duals: Vector) -> tuple[Binding, ...]:
    """The constraints with a shadow price, dearest first; rows that only tie variables together are left out, except
    installed units where a goal maximises work."""
    silent = TIES - ({"capacity"} if programme.first in WORK_GOALS else set()) | {"one system", "run"}
    out = []
    for says, dual in zip(programme.says, duals, strict=True):
        if says.kind in silent or abs(dual) < 1e-7:
            continue
        more = says.unit.startswith("%") and dual < 0  # the cap on welcome work: more would be better
        unit = says.unit.replace("%", "% more", 1) if more else says.unit
        out.append(
            Binding(
                constraint=_words(says, problem.labels),
                shadow_price=abs(programme.amount(programme.first, float(dual))) / says.scale,
                unit=f"{GOAL_UNITS[programme.first]}/{unit}",
                goal=programme.first,
                kind=says.kind,
                subject=says.subject,
            )
        )
    return tuple(sorted(out, key=lambda b: (-float(f"{b.shadow_price:.9g}"), b.constraint)))  # not by a last bit


SMALL_SHARE = 1e-5
"""A smaller share of a run is only the solver's tolerance."""

LEAST_UNITS = 1e-4
"""Least work of a task at any time, in units of its fastest system: less is as small as the solver's tolerance, so that
no work at all would count as enough."""


def _refuse_too_little(problem: FleetProblem, rates: TaskRates) -> None:
    """Raise UserError for a task so small that doing nothing would count as a plan."""
    choices = {choice.name: choice for choice in problem.choices}
    for workload in problem.workloads:
        periods = workload.last + 1 - workload.first
        for task in workload.tasks:
            speeds = [
                choices[system].unit_chips * float(rate.tokens_per_s_per_chip)
                for (name, system), rate in rates.items()
                if name == task.name and system in choices and rate.tokens_per_s_per_chip.value
            ]
            asked = [float(x) for x in task.tokens_per_s[workload.first : workload.last + 1] if x > 0]
            least = min(asked) if asked else task.tokens / (problem.length_s * periods)
            if speeds and 0 < least < LEAST_UNITS * max(speeds):
                units = least / max(speeds)
                raise UserError(
                    f"{task.name} is too small to plan: it needs {units:.2g} of one unit of the fastest system",
                    allowed=f"{LEAST_UNITS * max(speeds):.3g} tokens/s or more",
                    fix="leave it out",
                )


def solve_fleet(
    problem: FleetProblem,
    rates: TaskRates,
    *,
    relaxed: bool = False,
    gap: float = 0.005,
    time_limit_s: float = 60.0,
) -> Answer:
    """The best plan, with shadow prices and the best plan of each single stack. relaxed: fractions of units allowed.

    Where no plan exists the answer has status "infeasible" and `conflict` names a smallest set of constraints in words.
    Raises UserError where a workload runs nowhere.
    """
    _refuse_too_little(problem, rates)
    programme = fractions = formulate(problem, rates)
    runs: set[str] = set()
    solved = partial(optimise, integer=not relaxed, gap=gap, time_limit_s=time_limit_s)
    tell("solving the relaxation")
    try:
        goals = problem.goals if relaxed else ()
        linear = optimise(programme, goals=goals, integer=False, time_limit_s=time_limit_s)
        tell("solving for whole units")
        if relaxed:
            best = linear
        else:
            programme, best = _held_together(problem, rates, runs, lambda p: solved(p, goals=problem.goals))
    except Infeasible:
        tell("finding what conflicts")
        rows = conflict(formulate(problem, rates, runs))
        return Answer(
            status="infeasible",
            goal=programme.first,
            value=math.nan,
            usd=math.nan,
            bound=math.nan,
            gap=math.nan,
            energy_J=math.nan,
            stacks=(),
            conflict=_together(rows, problem.labels),
            warnings=problem.warnings,
        )

    def on_one_stack(stack: str, goals: Sequence[str] = ()) -> tuple[Programme, Solution]:
        def solve(p: Programme) -> Solution:
            return solved(p, high=only(p, problem, [stack]), goals=goals)

        return (fractions, solve(fractions)) if relaxed else _held_together(problem, rates, runs, solve)

    alone: dict[str, Solution | str] = {}
    for stack in steps(problem.stacks, "solving with {} alone"):
        try:
            alone[stack] = on_one_stack(stack)[1]
        except Infeasible:
            alone[stack] = _why_not(problem, formulate(problem, rates, runs), stack)
    first = programme.first
    enough = best.goals[first] - GOAL_TIE * len(problem.goals) * max(1.0, abs(best.goals[first]))
    better = [s for s in alone.values() if isinstance(s, Solution) and s.goals[first] < enough]
    if better:  # within the gap, one stack alone may do better
        found = min(better, key=lambda s: s.goals[first])
        stack = next(k for k, s in alone.items() if s is found)
        programme, found = on_one_stack(stack, problem.goals)
        best = replace(found, bound=best.bound, gap=gap_between(found.goals[first], best.bound))
    out = answer_of(problem, rates, programme, best, whole=not relaxed)
    vendors = []
    for stack, one in alone.items():
        if isinstance(one, Solution):
            over = worse_by(one.goals[first], best.goals[first])
            vendors.append(Vendor(stack=stack, goal=first, value=programme.amount(first, one.goals[first]), over=over))
        else:
            vendors.append(Vendor(stack=stack, goal=first, value=None, over=None, reason=one))
    return replace(out, binding=bindings(problem, fractions, linear.duals), vendors=tuple(vendors))


def _held_together(
    problem: FleetProblem, rates: TaskRates, runs: set[str], solve: Callable[[Programme], Solution]
) -> tuple[Programme, Solution]:
    """The best plan in which no training run has a gap, and its programme. runs: held together from the start; runs
    with a gap are added until none has one, so that the others cost no search."""
    while True:
        programme = formulate(problem, rates, runs)
        found = solve(programme)
        gaps = {w.name for w in problem.workloads if w.is_run and _has_gap(problem, rates, programme, found.x, w)}
        if gaps <= runs:
            return programme, found
        runs |= gaps


def _has_gap(problem: FleetProblem, rates: TaskRates, programme: Programme, x: Vector, run: Workload) -> bool:
    """Whether a run does next to nothing in a period between its first and its last."""
    [task], by_name = run.tasks, {c.name: c for c in problem.choices}
    done = np.zeros(problem.num_periods)
    for (name, system), columns in programme.layout.work.items():
        if name == task.name:
            share = share_per_unit(problem, task, by_name[system], rates)
            done += np.where(columns >= 0, x[columns] * share, 0.0)
    at_work = np.flatnonzero(done > SMALL_SHARE)
    return bool(at_work.size and (done[at_work[0] + 1 : at_work[-1]] < LEAST_PACE * done.max() - SMALL_SHARE).any())


def worse_by(value: float, best: float) -> float:
    """How much worse a plan is than the best by a minimised goal (work counts as negative), as a share of the best;
    infinite where the best is 0 and the other is not.

    >>> round(worse_by(3.0, 2.0), 6), round(worse_by(-3.0, -4.0), 6)
    (0.5, 0.25)
    """
    return (value - best) / abs(best) if best else math.inf if value > LEAST_WORK else 0.0


def _why_not(problem: FleetProblem, programme: Programme, stack: str) -> str:
    """Why one stack alone cannot do it: a workload that runs on none of its systems, else the constraints that
    conflict."""
    for task in problem.tasks:
        mine = [c.name for c in problem.choices if c.stack == stack]
        if not any((task.name, s) in programme.layout.work for s in mine):
            return f"{task.name} runs on none of {', '.join(mine)}"
    rows = conflict(replace(programme, high=only(programme, problem, [stack])))
    return " and ".join(_together(rows, problem.labels))
