"""Costs and gains of the columns of a fleet's programme: money, energy, stacks kept, tokens and revenue, and the cash
of each period."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mowich.fleets.layout import ColumnNumbers, Layout, ProgrammePool, active_periods, standing
from mowich.fleets.problem import CLOUD, GOALS, WORK_GOALS, FleetProblem, FleetTask, Offer, TaskRates, Vector
from mowich.sums import float_sum

GWH_J = 3.6e12


@dataclass(slots=True, kw_only=True)
class ColumnCosts:
    """Costs and gains of the columns while they are summed up. cost: net present USD of one unit of each column [n];
    energy: J; stacks: stacks kept; tokens, revenue: tokens done, and their net present USD; cash: USD paid in each
    period [T, n]. The offsets are paid or drawn under every choice."""

    cost: Vector
    energy: Vector
    stacks: Vector
    tokens: Vector
    revenue: Vector
    cash: Vector
    cash_offset: Vector
    offset: dict[str, float] = field(default_factory=lambda: dict.fromkeys((*GOALS, *WORK_GOALS), 0.0))


def order_cost(problem: FleetProblem, offer: Offer, unit_chips: int, ordered: int) -> tuple[float, Vector]:
    """(net present USD of one unit, [T] cash of each period).

    Bought: the price when ordered, less the value not yet written off at the end (straight line over its life). Rented:
    price x chips x hours of the periods inside the horizon; later periods are not charged.
    """
    discounts, cash = problem.discounts(), np.zeros(problem.num_periods)
    price = float(offer.price)
    when = active_periods(offer, ordered, problem.num_periods)
    if offer.kind == "buy":
        cash[ordered] = price
        used = when.stop - when.start
        residual = price * max(0.0, 1 - used / offer.term)
        return price * discounts[ordered] - residual * discounts[-1], cash
    cash[when] = price * unit_chips * problem.length_s
    return float(cash @ discounts), cash


def column_costs(problem: FleetProblem, rates: TaskRates, at: Layout, size: int) -> ColumnCosts:
    """The goals of a programme of `size` columns."""
    num = problem.num_periods
    cost, energy, stacks, tokens, revenue = np.zeros((5, size))
    into = ColumnCosts(
        cost=cost,
        energy=energy,
        stacks=stacks,
        tokens=tokens,
        revenue=revenue,
        cash=np.zeros((num, size)),
        cash_offset=np.zeros(num),
    )
    _add_chips(into, problem, at)
    for number, pool in enumerate(at.pools):
        _add_energy(into, problem, at, number, pool)
    _add_stacks(into, problem, at)
    _add_work(into, problem, rates, at)
    return into


def tokens_asked(problem: FleetProblem, task: FleetTask) -> float:
    """Tokens that a task asks for over all periods; for serving, by the mean of the day."""
    return task.tokens + float(task.tokens_per_s.sum()) * task.mean_load * problem.length_s


def goal_units(problem: FleetProblem, costs: ColumnCosts) -> dict[str, float]:
    """Goal -> the size of its unit, negative for maximised goals. Money: cost of a typical order; work: all asked
    work."""
    money = float(np.median(costs.cost[costs.cost > 0])) if (costs.cost > 0).any() else 1.0
    worth = {w.name: w.worth_usd for w in problem.workloads}
    asked = {t.name: tokens_asked(problem, t) for t in problem.tasks}
    brought = float_sum(tokens * worth[t.workload] for t, tokens in zip(problem.tasks, asked.values(), strict=True))
    units = {"cost": money, "energy": GWH_J, "stacks": 1.0}
    return units | {"tokens": -(float_sum(asked.values()) or 1.0), "revenue": -(brought or 1.0)}


def _add_chips(into: ColumnCosts, problem: FleetProblem, at: Layout) -> None:
    """Adds orders, committed units, and the rent for units let to others."""
    by_name, discounts = {c.name: c for c in problem.choices}, problem.discounts()
    for offer, columns in zip(at.offers, at.orders, strict=True):
        for t in range(problem.num_periods):
            net, paid = order_cost(problem, offer, by_name[offer.system].unit_chips, t)
            into.cost[columns[t]] += net
            into.cash[:, columns[t]] += paid
    for choice in problem.choices:
        paid = choice.committed * choice.unit_chips * float(choice.committed_price) * problem.length_s
        into.offset["cost"] += float(paid @ discounts)
        into.cash_offset += paid
        if choice.name in at.sold:
            brings = choice.resale_usd(problem.length_s)
            into.cost[at.sold[choice.name]] -= brings * discounts
            into.cash[range(problem.num_periods), at.sold[choice.name]] -= brings


def _add_energy(into: ColumnCosts, problem: FleetProblem, at: Layout, number: int, pool: ProgrammePool) -> None:
    """Adds the energy of a pool's units, at work and idle, and its cost where we pay for electricity."""
    power = pool.choice.power_W.value
    if power is None:
        return
    num, discounts = problem.num_periods, problem.discounts()
    joule = power * pool.choice.unit_chips * float(pool.site.pue) * problem.length_s
    pay = float(pool.site.electricity) if pool.owned and pool.site.name != CLOUD else 0.0
    idle = pool.site.idle_share
    more = max(0.0, pool.choice.drawn_share - idle)  # at work
    for target, per_J, weight in ((into.energy, 1.0, np.ones(num)), (into.cost, pay, discounts)):
        target[at.busy[number]] += joule * per_J * more * weight
        if pool.holds_committed and pool.choice.name in at.sold:
            target[at.sold[pool.choice.name]] -= joule * per_J * idle * weight
        for o in pool.offers:
            for t in range(num):
                stands = float(weight[active_periods(at.offers[o], t, num)].sum())
                target[at.orders[o, t]] += joule * per_J * idle * stands
    into.offset["energy"] += joule * idle * float(pool.there.sum())
    into.offset["cost"] += joule * pay * idle * float(pool.there @ discounts)
    for t in range(num):
        into.cash[t, at.busy[number, t]] += joule * pay * more
        into.cash_offset[t] += joule * pay * idle * pool.there[t]
        for o in pool.offers:
            into.cash[t, at.orders[o, standing(at.offers[o], t, num)]] += joule * pay * idle


def _add_stacks(into: ColumnCosts, problem: FleetProblem, at: Layout) -> None:
    """Ports of workloads to stacks, and stacks that are kept."""
    discounts = problem.discounts()
    for (name, stack), column in at.keeps.items():
        workload = problem.workload(name)
        usd = workload.porting_usd.get(stack, 0.0)
        into.cost[column] += usd * discounts[workload.first]
        into.cash[workload.first, column] += usd
    for column in at.stacks.values():
        into.cost[column] += problem.stack_usd * discounts.sum()
        into.cash[:, column] += problem.stack_usd
        into.stacks[column] = 1.0


def _add_work(into: ColumnCosts, problem: FleetProblem, rates: TaskRates, at: Layout) -> None:
    """Adds the tokens of a column and their revenue; for reinforcement learning, where its tasks keep step."""
    discounts, chips = problem.discounts(), {c.name: c.unit_chips for c in problem.choices}

    def put(columns: ColumnNumbers, when: slice, tokens: float, usd: float) -> None:
        into.tokens[columns] += tokens
        into.revenue[columns] += usd * discounts[when]

    for workload in problem.workloads:
        when = slice(workload.first, workload.last + 1)
        if workload.name in at.progress:
            tokens = [task.tokens for task in workload.tasks]
            put(at.progress[workload.name], when, float_sum(tokens), tokens[0] * workload.worth_usd)
            continue
        for task in workload.tasks:
            for (name, system), columns in at.work.items():
                if name == task.name:
                    speed = float(rates[name, system].tokens_per_s_per_chip) * chips[system]
                    tokens_of_unit = speed * problem.length_s * task.mean_load
                    put(columns[when], when, tokens_of_unit, tokens_of_unit * workload.worth_usd)
