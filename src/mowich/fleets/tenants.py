"""The chips that a fleet strands when one tenant asks for less.

A tenant's share is of the chip-hours at work in the best plan of today. When it falls, each of its workloads asks for
proportionally less, and does at most that share of today's work. Two questions follow, both of the relaxation
(fractions of units), so that a small fall strands little:

- What is needed no more? The least cost of all that is asked, where each commitment is kept from its first period to
  its last or let go as a whole: before the fall less after it. Whatever meets the larger demand meets the smaller one
  too, so what is saved never falls as the tenant's share falls.
- What stands idle all the same? The plan by the scenario's own goals, where other workloads take what they may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.errors import EXIT_INFEASIBLE, UserError, unknown
from mowich.fleets.answer import uses
from mowich.fleets.layout import Programme
from mowich.fleets.problem import CLOUD, GOALS, Choice, FleetProblem, Offer, TaskRates, Vector, Workload
from mowich.fleets.programme import formulate, share_per_unit
from mowich.fleets.solve import LEAST_WORK, Infeasible, Solution, optimise
from mowich.shown import Keyed
from mowich.sums import float_sum

_NOTHING = 1e-3
"""A smaller share of the installed chips is only the solver's tolerance."""

_A_HAIR = 1e-6
"""Today's work may be exceeded by this share, so that the solver's tolerance forbids none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrandedUse:
    """One system in one period. chips: no longer needed for the asked work; usd: cost of the committed ones among them;
    idle: idle chips beyond today's after others have taken what they may, mean of the day; idle_usd: cost of the
    committed ones among these."""

    system: str
    period: str
    chips: float
    usd: float
    idle: float
    idle_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """A commitment, or a part of it, that can be let go: units of a system from its first period to its last. usd: what
    they cost, before discounting."""

    system: str
    first: str
    last: str
    units: float
    chips: float
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refilled:
    """Work of another workload on free chips. before, after: its work over its demand; chips: additional chips at work
    on it, mean of the periods."""

    workload: str
    tenant: str
    before: float
    after: float
    chips: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantFall(Keyed):
    """One tenant with a smaller share. share: of the chip-hours at work today; asked: the smaller share; work: the
    remaining part of its work, asked / share; usd: net present cost of chips no longer needed; committed_usd, idle_usd:
    of the committed chips among the rows, before discounting."""

    KEYS = "name=tenant share asked work chips idle usd committed_usd idle_usd stranded=rows let_go=contracts refilled"

    tenant: str
    share: float
    asked: float
    work: float
    usd: float
    committed_usd: float
    idle_usd: float
    rows: tuple[StrandedUse, ...]
    contracts: tuple[LetGo, ...]
    refilled: tuple[Refilled, ...]

    @property
    def chips(self) -> float:
        """Chips no longer needed, mean of the periods that have any."""
        return self._mean("chips")

    @property
    def idle(self) -> float:
        """Chips that stand idle all the same, mean of the same periods."""
        return self._mean("idle")

    def _mean(self, what: str) -> float:
        periods = {row.period for row in self.rows}
        return float_sum(getattr(row, what) for row in self.rows) / (len(periods) or 1)


def tenants_of(problem: FleetProblem) -> tuple[str, ...]:
    """The tenants of a fleet's workloads; a workload without one has its own name."""
    return tuple(dict.fromkeys(w.whose for w in problem.workloads))


def tenant_fall(problem: FleetProblem, rates: TaskRates, tenant: str, asked: float) -> TenantFall:
    """The stranded chips when a tenant's share of the chip-hours at work falls to `asked`.

    Raises UserError for a tenant that is unknown or does no work, for a share above today's, and (exit 3) where today's
    work has no plan.
    """
    known = tenants_of(problem)
    if tenant not in known:
        raise unknown("tenant", tenant, known, field="tenant")
    now = _solved(problem, rates)
    share = _share_at(problem, now, tenant)
    if share <= 0.0:
        raise UserError(f"{tenant} does no work in today's plan", field="tenant", given=f"{tenant}={asked:.3g}")
    if asked > share * (1.0 + _NOTHING):
        raise UserError(
            f"{tenant} has {100 * share:.3g}% of the chip-hours at work today, and a larger share cannot be asked for",
            field="tenant",
            given=f"{tenant}={100 * asked:.3g}%",
            allowed=f"0% to {100 * share:.3g}%",
        )
    work = min(1.0, asked / share)
    today = _done_at(problem, rates, now)
    capped = _bounded(problem, tenant, today, 1.0)
    fewer = _bounded(problem, tenant, today, work)
    before, after = _solved(capped, rates), _solved(fewer, rates)
    needed, needed_then = _solved(_can_let_go(capped), rates), _solved(_can_let_go(fewer), rates)
    contracts = _contracts(problem, needed, needed_then)
    rows = _rows(problem, (needed, needed_then), (before, after), contracts)
    return TenantFall(
        tenant=tenant,
        share=share,
        asked=asked,
        work=work,
        usd=max(0.0, needed.usd - needed_then.usd),
        committed_usd=float_sum(row.usd for row in rows),
        idle_usd=float_sum(row.idle_usd for row in rows),
        rows=rows,
        contracts=contracts,
        refilled=_refilled(problem, rates, tenant, (before, after)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """A programme and its best plan in fractions. usd: net present cost."""

    problem: FleetProblem
    programme: Programme
    best: Solution

    @property
    def usd(self) -> float:
        return self.programme.amount("cost", self.best.goals["cost"])

    def at_work(self, system: str) -> dict[str, Vector]:
        """Task -> [T] units at work on it at the peak of its day."""
        found = {}
        for (name, s), columns in self.programme.layout.work.items():
            if s == system:
                found[name] = np.where(columns >= 0, self.best.x[columns], 0.0)
        return found

    def needed(self, choice: Choice) -> Vector:
        """[T] units of a system that work in the fullest hour of the day, at least the mean of the day."""
        tasks = {task.name: task for task in self.problem.tasks}
        units = self.at_work(choice.name)
        none = np.zeros(self.problem.num_periods)
        mean = sum((n * tasks[k].day_mean for k, n in units.items()), start=none)
        hours = [sum((n * tasks[k].hour(h) for k, n in units.items()), start=none) for h in self.problem.hours]
        return np.asarray(np.max([mean, *hours], axis=0))


def _solved(problem: FleetProblem, rates: TaskRates) -> _Solved:
    programme = formulate(problem, rates)
    try:
        best = optimise(programme, goals=problem.goals, integer=False)
    except Infeasible:
        raise UserError("today's work has no plan", field="tenant", code=EXIT_INFEASIBLE) from None
    return _Solved(problem=problem, programme=programme, best=best)


def _chip_hours(found: _Solved, workload: Workload) -> float:
    """Chips at work on a workload, mean of the day, summed over periods."""
    tasks = {task.name: task.day_mean for task in workload.tasks}
    return float_sum(
        float_sum(map(float, units)) * tasks[name] * choice.unit_chips
        for choice in found.problem.choices
        for name, units in found.at_work(choice.name).items()
        if name in tasks
    )


def _share_at(problem: FleetProblem, found: _Solved, tenant: str) -> float:
    """A tenant's share of the chip-hours at work."""
    hours = {w.name: _chip_hours(found, w) for w in problem.workloads}
    mine = float_sum(hours[w.name] for w in problem.workloads if w.whose == tenant)
    return mine / (float_sum(hours.values()) or 1.0)


def _done_at(problem: FleetProblem, rates: TaskRates, found: _Solved) -> dict[str, float]:
    """Workload -> its work over its demand: the least of its tasks."""
    out = {}
    for workload in problem.workloads:
        times = []
        for task in workload.tasks:
            done, weight = np.zeros(problem.num_periods), task.tokens_per_s
            for choice in problem.allowed(workload):
                units = found.at_work(choice.name).get(task.name)
                if units is not None:
                    done += units * share_per_unit(problem, task, choice, rates)
            serves = task.kind == "serve"
            times.append(float(done @ weight / (weight.sum() or 1.0)) if serves else float(done.sum()))
        out[workload.name] = min(times)
    return out


def _bounded(problem: FleetProblem, tenant: str, today: Mapping[str, float], work: float) -> FleetProblem:
    """The problem with a share of a tenant's demand; at most that share of its work today is welcome."""
    out = []
    for w in problem.workloads:
        if w.whose != tenant:
            out.append(w)
        elif work > 0.0:
            tasks = tuple(replace(t, tokens=work * t.tokens, tokens_per_s=work * t.tokens_per_s) for t in w.tasks)
            most = min(w.most, max(1.0, today[w.name]) * (1.0 + _A_HAIR)) if w.most > 1.0 else w.most
            out.append(replace(w, tasks=tasks, most=most))
    return replace(problem, workloads=tuple(out))


def _can_let_go(problem: FleetProblem) -> FleetProblem:
    """The problem with cost as its goal, where each commitment is an offer to take from its first to its last period,
    or to leave."""
    choices = []
    for choice in problem.choices:
        kept = tuple(
            Offer(
                system=choice.name,
                kind="rent",
                site=CLOUD,
                price=choice.committed_price,
                price_label=_COMMITTED,
                term=last + 1 - first,
                supply=np.where(np.arange(problem.num_periods) == first, units, 0.0),
                delay=0,
            )
            for first, last, units in _commitments(choice)
        )
        none = np.zeros(problem.num_periods)
        choices.append(replace(choice, offers=(*choice.offers, *kept), committed=none, resale=0.0))
    return replace(problem, choices=tuple(choices), goals=GOALS[:2])


_COMMITTED = "committed"


def _commitments(choice: Choice) -> list[tuple[int, int, float]]:
    """The commitments of a system as (first period, last, units): the latest to come goes first."""
    standing: list[tuple[int, float]] = []
    out = []
    for t, units in enumerate([*map(float, choice.committed), 0.0]):
        more = units - float_sum(n for _, n in standing)
        if more > 0.0:
            standing.append((t, more))
        while more < 0.0 and standing:
            first, n = standing.pop()
            gone = min(n, -more)
            out.append((first, t - 1, gone))
            more += gone
            if n > gone:
                standing.append((first, n - gone))
    return sorted(out)


def _contracts(problem: FleetProblem, needed: _Solved, needed_then: _Solved) -> tuple[LetGo, ...]:
    """The commitments that are kept for today's work and not after the fall, the dearest first."""
    out = []
    for before, after in zip(_kept(needed), _kept(needed_then), strict=True):
        offer, first, units = before
        choice = next(c for c in problem.choices if c.name == offer.system)
        free = units - after[2]
        chips = free * choice.unit_chips
        if abs(free) > _NOTHING * max(1.0, float(offer.supply[first])):
            out.append(
                LetGo(
                    system=offer.system,
                    first=problem.labels[first],
                    last=problem.labels[first + offer.term - 1],
                    units=free,
                    chips=chips,
                    usd=chips * float(offer.price) * problem.length_s * offer.term,
                )
            )
    return tuple(sorted(out, key=lambda c: (-c.usd, c.system, c.first)))


def _kept(found: _Solved) -> list[tuple[Offer, int, float]]:
    """(commitment, its first period, units that are kept)."""
    layout = found.programme.layout
    return [
        (offer, first, float(found.best.x[columns[first]]))
        for offer, columns in zip(layout.offers, layout.orders, strict=True)
        if offer.price_label is _COMMITTED
        for first in (int(np.argmax(offer.supply > 0.0)),)
    ]


def _rows(
    problem: FleetProblem,
    needed: tuple[_Solved, _Solved],
    plans: tuple[_Solved, _Solved],
    contracts: Sequence[LetGo],
) -> tuple[StrandedUse, ...]:
    """The stranded chips by system and period."""
    stands, idle = ([_stands(found) for found in pair] for pair in (needed, plans))
    rows, place = [], {label: t for t, label in enumerate(problem.labels)}
    for choice in problem.choices:
        usd = float(choice.committed_price) * problem.length_s
        only_had = not choice.offers and not choice.committed.any()
        free = (needed[0].needed(choice) - needed[1].needed(choice)) * choice.unit_chips
        for t, period in enumerate(problem.labels):
            at = choice.name, period
            before, after = (there.get(at, (0.0, 0.0)) for there in stands)
            least = _NOTHING * max(1.0, max(there.get(at, (0.0, 0.0))[0] for there in (*stands, *idle)))
            more = _unless(idle[1].get(at, (0.0, 0.0))[1] - idle[0].get(at, (0.0, 0.0))[1], least)
            let = float_sum(
                c.chips for c in contracts if c.system == choice.name and place[c.first] <= t <= place[c.last]
            )
            row = StrandedUse(
                system=choice.name,
                period=period,
                chips=_unless(float(free[t]) if only_had else before[0] - after[0], least),
                usd=let * usd,
                idle=more,
                idle_usd=min(more, float(choice.committed[t]) * choice.unit_chips) * usd,
            )
            if row.chips or row.idle or row.usd:
                rows.append(row)
    return tuple(rows)


def _stands(found: _Solved) -> dict[tuple[str, str], tuple[float, float]]:
    """(system, period) -> (chips there, chips idle in the mean of the day)."""
    every = uses(found.problem, found.programme, found.best.x)
    return {(u.system, u.period): (u.there, max(0.0, u.there - u.busy)) for u in every}


def _unless(value: float, least: float) -> float:
    """A value; 0 where it is within the solver's tolerance."""
    return value if abs(value) > least else 0.0


def _refilled(
    problem: FleetProblem, rates: TaskRates, tenant: str, plans: tuple[_Solved, _Solved]
) -> tuple[Refilled, ...]:
    """The additional work of the other workloads."""
    before, after = (_done_at(p.problem, rates, p) for p in plans)
    out = []
    for w in problem.workloads:
        if w.whose == tenant:
            continue
        chips = (_chip_hours(plans[1], w) - _chip_hours(plans[0], w)) / problem.num_periods
        if abs(after[w.name] - before[w.name]) > LEAST_WORK * max(1.0, before[w.name]):
            out.append(
                Refilled(workload=w.name, tenant=w.whose, before=before[w.name], after=after[w.name], chips=chips)
            )
    return tuple(out)
