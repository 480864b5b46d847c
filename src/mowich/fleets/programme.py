"""The linear programme of a fleet question: variables, rows and goals as arrays. No solver here.

`formulate` writes a `FleetProblem` and its `TaskRates`: what is ordered, which units work on which task, which stacks
are kept. Work is measured as a share of what is asked, chips in units of purchase, money in what a typical order costs,
so that the numbers are of like size. Every row knows in words what it says: shadow prices and conflicts speak with
those words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.fleets.problem import CLOUD, Choice, FleetProblem, FleetSite, FleetTask, Offer, TaskRates, Vector, Workload

HEADROOM = 1.01
"""Work on a stack may be this share of what is asked: a hair over one, so that the shadow price of a demand is the
demand's alone."""


_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """What a row of the programme says. kind and subject make the group; period: index or -1; unit: what one more of it
    is called;
    scale: how many units the right-hand side counts in (power in MW, units as they are)."""

    kind: str
    subject: str
    period: int
    unit: str
    scale: float = 1.0

    @property
    def group(self) -> tuple[str, str]:
        return self.kind, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammePool:
    """Units of one system at one site. owned: electricity is ours to pay (at a site of ours); offers: which orders fill
    it."""

    choice: Choice
    site: FleetSite
    owned: bool
    there: Vector
    offers: tuple[int, ...]

    @property
    def holds_committed(self) -> bool:
        """Whether what is committed stands here: rented, and in the cloud."""
        return not self.owned and self.site.name == CLOUD


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where each variable stands. work[task, system]: [T] columns, only where the task runs there and then (else
    -1), in units at the peak of its day. busy, peak: units of each pool at work, mean of the day and in its fullest
    hour; the same columns where no task has a day. sold[system]: [T] committed units let to others, where they
    can be."""

    work: Mapping[tuple[str, str], _Ints]
    busy: _Ints
    peak: _Ints
    sold: Mapping[str, _Ints]
    orders: _Ints
    keeps: Mapping[tuple[str, str], int]
    picks: Mapping[tuple[str, str], int]
    stacks: Mapping[str, int]
    pools: tuple[ProgrammePool, ...]
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """min cost.x, row_low <= A x <= row_high, low <= x <= high; A by columns. goals: name -> cost vector (USD over
    money_usd, J in GWh, stacks);
    money_usd: the unit of money, chosen so that a typical order costs one."""

    layout: Layout
    money_usd: float
    goals: Mapping[str, Vector]
    offset: Mapping[str, float]
    low: Vector
    high: Vector
    integer: NDArray[np.bool_]
    row_low: Vector
    row_high: Vector
    says: tuple[Says, ...]
    starts: _Ints
    index: _Ints
    value: Vector


class _Builder:
    """Columns and rows as they are found; `programme` sorts them into arrays."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[tuple[float, float, Says]] = []
        self.at: list[tuple[int, _Ints, Vector]] = []

    def columns(self, number: int, *, high: float = np.inf, integer: bool = False) -> _Ints:
        first = len(self.low)
        self.low += [0.0] * number
        self.high += [high] * number
        self.integer += [integer] * number
        return np.arange(first, first + number)

    def row(self, low: float, high: float, says: Says) -> int:
        self.rows.append((low, high, says))
        return len(self.rows) - 1

    def add(
        self, row: int, columns: int | np.int64 | Sequence[int] | _Ints, values: float | Sequence[float] | Vector
    ) -> None:
        """Entries of a row: a value for each column, or one for all. Entries at the same place are added."""
        c, v = np.atleast_1d(np.asarray(columns, dtype=np.int64)), np.asarray(values, dtype=float)
        self.at.append((row, c, v if v.shape == c.shape else np.full(c.shape, v)))

    def matrix(self) -> tuple[_Ints, _Ints, Vector]:
        """(starts, row index, value) by columns."""
        rows = np.repeat([row for row, _, _ in self.at], [len(columns) for _, columns, _ in self.at])
        columns, values = (np.concatenate([part[i] for part in self.at]) for i in (1, 2))
        key = columns * len(self.rows) + rows
        unique, inverse = np.unique(key, return_inverse=True)
        total = np.bincount(inverse, weights=values, minlength=len(unique))
        column, index = np.divmod(unique, len(self.rows))
        return (
            np.searchsorted(column, np.arange(len(self.low) + 1)).astype(np.int64),
            index.astype(np.int64),
            np.asarray(total, dtype=float),
        )


def _active(offer: Offer, ordered: int, num_periods: int) -> slice:
    """The periods in which what was ordered in a period is there."""
    first = ordered + offer.delay
    last = num_periods if offer.kind == "buy" else min(num_periods, first + offer.term)
    return slice(min(first, num_periods), last)


def standing(offer: Offer, period: int, num_periods: int) -> list[int]:
    """The periods in which an order must be placed for its units to be there in a period."""
    when = [_active(offer, q, num_periods) for q in range(num_periods)]
    return [q for q, there in enumerate(when) if there.start <= period < there.stop]


def order_cost(problem: FleetProblem, offer: Offer, unit_chips: int, ordered: int) -> tuple[float, Vector]:
    """(net present USD of one unit, [T] cash of each period).

    Bought: the price when ordered, less what is not yet written off at the end (straight line over its life). Rented:
    price x chips x hours of the periods inside the horizon; what a term runs past the horizon is not charged.
    """
    discounts, cash = problem.discounts(), np.zeros(problem.num_periods)
    price = float(offer.price)
    when = _active(offer, ordered, problem.num_periods)
    if offer.kind == "buy":
        cash[ordered] = price
        used = when.stop - when.start
        residual = price * max(0.0, 1 - used / offer.term)
        return price * discounts[ordered] - residual * discounts[-1], cash
    cash[when] = price * unit_chips * problem.length_s
    return float(cash @ discounts), cash


def formulate(problem: FleetProblem, rates: TaskRates) -> Programme:
    """The programme of a problem.

    Raises UserError (exit 3) where a workload runs on none of the systems allowed to it, with the reason for each.
    """
    build = _Builder()
    periods = range(problem.num_periods)
    offers = tuple(o for c in problem.choices for o in c.offers)
    sites = {s.name: s for s in problem.sites}
    by_name = {c.name: c for c in problem.choices}
    by_task = {t.name: t for t in problem.tasks}

    # variables
    work: dict[tuple[str, str], _Ints] = {}
    stuck: list[UserError] = []
    for workload in problem.workloads:
        for task in workload.tasks:
            reasons = []
            for choice in problem.allowed(workload):
                rate = rates.get((task.name, choice.name))
                if rate is None or rate.tokens_per_s_per_chip.value is None:
                    reasons.append(
                        f"{choice.name}: {'no speed is given' if rate is None else rate.tokens_per_s_per_chip.reason}"
                    )
                    continue
                columns = np.full(problem.num_periods, -1)
                columns[workload.first : workload.last + 1] = build.columns(workload.last + 1 - workload.first)
                work[task.name, choice.name] = columns
            if len(reasons) == len(problem.allowed(workload)):
                stuck.append(
                    UserError(
                        f"workload '{task.name}' runs on no system allowed to it ({'; '.join(reasons)})",
                        where=problem.name,
                        code=EXIT_INFEASIBLE,
                    )
                )
    if stuck:
        raise stuck[0] if len(stuck) == 1 else _several(stuck)
    orders = np.array([build.columns(problem.num_periods, integer=True) for _ in offers], dtype=np.int64).reshape(
        len(offers), problem.num_periods
    )
    pools = _pools(problem, offers, sites)
    busy = np.array([build.columns(problem.num_periods) for _ in pools], dtype=np.int64).reshape(
        len(pools), problem.num_periods
    )
    hours = problem.hours
    peak = busy if not hours else np.array([build.columns(problem.num_periods) for _ in pools], dtype=np.int64)
    sold = {
        c.name: np.array([build.columns(1, high=float(n), integer=True)[0] for n in c.committed], dtype=np.int64)
        for c in problem.choices
        if c.resale > 0 and c.committed.any()
    }
    keeps = {
        (w.name, k): int(build.columns(1, high=1.0, integer=True)[0])
        for w in problem.workloads
        for k in problem.stacks
        if any((t.name, c.name) in work for t in w.tasks for c in problem.choices if c.stack == k)
    }
    picks = {
        (w.name, c.name): int(build.columns(1, high=1.0, integer=True)[0])
        for w in problem.workloads
        if w.one_system
        for c in problem.choices
        if any((t.name, c.name) in work for t in w.tasks)
    }
    stacks = {k: int(build.columns(1, high=1.0, integer=True)[0]) for k in problem.stacks}

    # rows
    for workload in problem.workloads:
        _demand(build, problem, workload, work, rates, by_name, keeps, picks)
    for choice in problem.choices:
        mine = [i for i, p in enumerate(pools) if p.choice is choice]
        tasks = [(by_task[n], w) for (n, s), w in work.items() if s == choice.name]
        for t in periods:
            there = [(task, w[t]) for task, w in tasks if w[t] >= 0]
            used = np.array([column for _, column in there], dtype=np.int64)
            means = np.array([task.day_mean for task, _ in there])
            needs = [(busy, means), *((peak, np.array([task.hour(h) for task, _ in there])) for h in hours)]
            for columns, needed in needs:
                row = build.row(-np.inf, 0.0, Says(kind="use", subject=choice.name, period=t, unit="unit"))
                build.add(row, used, needed)
                build.add(row, columns[mine, t], -1.0)
    for number, pool in enumerate(pools):
        for t in periods:
            row = build.row(
                -np.inf,
                float(pool.there[t]),
                Says(kind="capacity", subject=f"{pool.choice.name} at {pool.site.name}", period=t, unit="unit"),
            )
            build.add(row, peak[number, t], 1.0)
            if pool.holds_committed and pool.choice.name in sold:
                build.add(row, sold[pool.choice.name][t], 1.0)
            for o in pool.offers:
                ordered = standing(offers[o], t, problem.num_periods)
                build.add(row, orders[o, ordered], -1.0)
            if hours:
                row = build.row(-np.inf, 0.0, Says(kind="use", subject=pool.choice.name, period=t, unit="unit"))
                build.add(row, [busy[number, t], peak[number, t]], [1.0, -1.0])
    for site in problem.sites:
        for t in periods:
            if np.isfinite(site.cap_W[t]):
                _power(build, problem, site, t, pools, offers, peak, orders)
    for o, offer in enumerate(offers):
        for t in periods:
            if np.isfinite(offer.supply[t]):
                build.add(
                    build.row(
                        -np.inf,
                        float(offer.supply[t]),
                        Says(kind=f"supply to {offer.kind}", subject=offer.system, period=t, unit="unit"),
                    ),
                    orders[o, t],
                    1.0,
                )
    for (_, stack), column in keeps.items():
        row = build.row(-np.inf, 0.0, Says(kind="stack", subject=stack, period=-1, unit="stack"))
        build.add(row, [column, stacks[stack]], [1.0, -1.0])

    # goals
    cost, energy, kept = (np.zeros(len(build.low)) for _ in range(3))
    offset = {"cost": 0.0, "energy": 0.0, "stacks": 0.0}
    cash = np.zeros((problem.num_periods, len(build.low)))
    cash_offset = np.zeros(problem.num_periods)
    discounts = problem.discounts()
    for o, offer in enumerate(offers):
        for t in periods:
            net, paid = order_cost(problem, offer, by_name[offer.system].unit_chips, t)
            cost[orders[o, t]] += net
            cash[:, orders[o, t]] += paid
    for choice in problem.choices:
        paid = choice.committed * choice.unit_chips * float(choice.committed_price) * problem.length_s
        offset["cost"] += float(paid @ discounts)
        cash_offset += paid
        if choice.name in sold:
            brings = choice.resale_usd(problem.length_s)
            cost[sold[choice.name]] -= brings * discounts
            cash[periods, sold[choice.name]] -= brings
    for number, pool in enumerate(pools):
        power = pool.choice.power_W.value
        if power is None:
            continue
        joule = power * pool.choice.unit_chips * float(pool.site.pue) * problem.length_s
        pay = float(pool.site.electricity) if pool.owned and pool.site.name != CLOUD else 0.0
        idle = pool.site.idle_share
        for target, per_J, weight in ((energy, 1 / 3.6e12, np.ones(problem.num_periods)), (cost, pay, discounts)):
            target[busy[number]] += joule * per_J * (1 - idle) * weight
            if pool.holds_committed and pool.choice.name in sold:
                target[sold[pool.choice.name]] -= joule * per_J * idle * weight
            for o in pool.offers:
                for t in periods:
                    target[orders[o, t]] += (
                        joule * per_J * idle * float(weight[_active(offers[o], t, problem.num_periods)].sum())
                    )
        offset["energy"] += joule / 3.6e12 * idle * float(pool.there.sum())
        offset["cost"] += joule * pay * idle * float(pool.there @ discounts)
        for t in periods:
            cash[t, busy[number, t]] += joule * pay * (1 - idle)
            cash_offset[t] += joule * pay * idle * pool.there[t]
            for o in pool.offers:
                ordered = standing(offers[o], t, problem.num_periods)
                cash[t, orders[o, ordered]] += joule * pay * idle
    for (name, stack), column in keeps.items():
        workload = problem.workload(name)
        usd = workload.porting_usd.get(stack, 0.0)
        cost[column] += usd * discounts[workload.first]
        cash[workload.first, column] += usd
    for column in stacks.values():
        cost[column] += problem.stack_usd * discounts.sum()
        cash[:, column] += problem.stack_usd
        kept[column] = 1.0
    money = float(np.median(cost[cost > 0])) if (cost > 0).any() else 1.0
    cost, cash, cash_offset = cost / money, cash / money, cash_offset / money
    offset["cost"] /= money
    for t in periods:
        if np.isfinite(problem.budget_per_period[t]):
            row = build.row(
                -np.inf,
                problem.budget_per_period[t] / money - cash_offset[t],
                Says(kind="budget", subject="", period=t, unit="$", scale=money),
            )
            build.add(row, every_nonzero := np.flatnonzero(cash[t]), cash[t, every_nonzero])
    if np.isfinite(problem.budget_usd):
        total = cash.sum(axis=0)
        row = build.row(
            -np.inf,
            problem.budget_usd / money - float(cash_offset.sum()),
            Says(kind="budget", subject="", period=-1, unit="$", scale=money),
        )
        build.add(row, nonzero := np.flatnonzero(total), total[nonzero])
    starts, index, value = build.matrix()
    return Programme(
        layout=Layout(
            work=work,
            busy=busy,
            peak=peak,
            sold=sold,
            orders=orders,
            keeps=keeps,
            picks=picks,
            stacks=stacks,
            pools=pools,
            offers=offers,
        ),
        money_usd=money,
        goals={"cost": cost, "energy": energy, "stacks": kept},
        offset=offset,
        low=np.array(build.low),
        high=np.array(build.high),
        integer=np.array(build.integer),
        row_low=np.array([r[0] for r in build.rows]),
        row_high=np.array([r[1] for r in build.rows]),
        says=tuple(r[2] for r in build.rows),
        starts=starts,
        index=index,
        value=value,
    )


def _several(errors: Sequence[UserError]) -> UserError:
    from mowich.errors import UserErrors

    return UserErrors(errors)


def _pools(problem: FleetProblem, offers: Sequence[Offer], sites: Mapping[str, FleetSite]) -> tuple[ProgrammePool, ...]:
    """Every (system, site, owned or rented) that can hold units."""
    out = []
    for choice in problem.choices:
        for site in problem.sites:
            for owned in (True, False):
                mine = tuple(
                    i
                    for i, o in enumerate(offers)
                    if o.system == choice.name and o.site == site.name and (o.kind == "buy") == owned
                )
                there = np.zeros(problem.num_periods)
                if owned and site.name in choice.have:
                    there = there + choice.have[site.name]
                if not owned and site.name == CLOUD:
                    there = there + choice.committed
                if mine or there.any():
                    out.append(
                        ProgrammePool(choice=choice, site=sites[site.name], owned=owned, there=there, offers=mine)
                    )
    return tuple(out)


def _demand(
    build: _Builder,
    problem: FleetProblem,
    workload: Workload,
    work: Mapping[tuple[str, str], _Ints],
    rates: TaskRates,
    by_name: Mapping[str, Choice],
    keeps: Mapping[tuple[str, str], int],
    picks: Mapping[tuple[str, str], int],
) -> None:
    """What a workload asks, as shares of it: all tokens by its deadline, or its rate in every period; on which stacks;
    on how many chips."""
    window = range(workload.first, workload.last + 1)
    progress = build.columns(len(window)) if workload.kind == "rl" else None
    if progress is not None:
        row = build.row(
            1.0, np.inf, Says(kind="work", subject=workload.name, period=workload.last, unit="% of it", scale=100.0)
        )
        build.add(row, progress, 1.0)
    for task in workload.tasks:
        mine = [(s, columns) for (n, s), columns in work.items() if n == task.name]
        shares = {s: share_per_unit(problem, task, by_name[s], rates) for s, _ in mine}
        if task.kind == "serve" or progress is not None:
            for place, t in enumerate(window):
                if task.kind == "serve" and task.tokens_per_s[t] == 0:
                    continue
                row = build.row(
                    1.0 if progress is None else 0.0,
                    np.inf,
                    Says(
                        kind="demand" if progress is None else "step",
                        subject=task.name,
                        period=t,
                        unit="% of it",
                        scale=100.0,
                    ),
                )
                for s, columns in mine:
                    build.add(row, columns[t], shares[s][t])
                if progress is not None:
                    build.add(row, progress[place], -1.0)
                _links(build, workload, task, t, mine, shares, by_name, keeps, picks)
        else:
            row = build.row(
                1.0, np.inf, Says(kind="work", subject=task.name, period=workload.last, unit="% of it", scale=100.0)
            )
            for s, columns in mine:
                build.add(
                    row, columns[workload.first : workload.last + 1], shares[s][workload.first : workload.last + 1]
                )
            _links(build, workload, task, -1, mine, shares, by_name, keeps, picks)
    if picks_of := [c for (w, _), c in picks.items() if w == workload.name]:
        build.add(
            build.row(-np.inf, 1.0, Says(kind="one system", subject=workload.name, period=-1, unit="system")),
            picks_of,
            1.0,
        )
    if workload.max_chips:
        for t in window:
            row = build.row(
                -np.inf, workload.max_chips, Says(kind="chips at once", subject=workload.name, period=t, unit="chip")
            )
            for (n, s), columns in work.items():
                if any(task.name == n for task in workload.tasks):
                    build.add(row, columns[t], float(by_name[s].unit_chips))


def share_per_unit(problem: FleetProblem, task: FleetTask, choice: Choice, rates: TaskRates) -> Vector:
    """[T] share of what a task asks that one unit does in each period: of all its tokens, or of the rate asked for
    then."""
    rate = float(rates[task.name, choice.name].tokens_per_s_per_chip) * choice.unit_chips
    if task.kind == "serve":
        with np.errstate(divide="ignore"):
            return np.where(task.tokens_per_s > 0, rate / np.where(task.tokens_per_s > 0, task.tokens_per_s, 1.0), 0.0)
    return np.full(problem.num_periods, rate * problem.length_s / task.tokens)


def _links(
    build: _Builder,
    workload: Workload,
    task: FleetTask,
    period: int,
    mine: Sequence[tuple[str, _Ints]],
    shares: Mapping[str, Vector],
    by_name: Mapping[str, Choice],
    keeps: Mapping[tuple[str, str], int],
    picks: Mapping[tuple[str, str], int],
) -> None:
    """Work on a stack only where the stack is kept; on a system only where it is the one picked. Work and demand are
    shares of one, so `HEADROOM` is as tight as a bound can be."""
    window = slice(workload.first, workload.last + 1)

    def put(row: int, s: str, columns: _Ints) -> None:
        if period >= 0:
            build.add(row, columns[period], shares[s][period])
        else:
            build.add(row, columns[window], shares[s][window])

    for stack in dict.fromkeys(by_name[s].stack for s, _ in mine):
        row = build.row(-np.inf, 0.0, Says(kind="port", subject=f"{task.name} to {stack}", period=period, unit="port"))
        for s, columns in mine:
            if by_name[s].stack == stack:
                put(row, s, columns)
        build.add(row, keeps[workload.name, stack], -HEADROOM)
    if workload.one_system:
        for s, columns in mine:
            row = build.row(-np.inf, 0.0, Says(kind="pick", subject=f"{task.name} on {s}", period=period, unit="pick"))
            put(row, s, columns)
            build.add(row, picks[workload.name, s], -HEADROOM)


def _power(
    build: _Builder,
    problem: FleetProblem,
    site: FleetSite,
    t: int,
    pools: Sequence[ProgrammePool],
    offers: Sequence[Offer],
    peak: NDArray[np.int64],
    orders: NDArray[np.int64],
) -> None:
    """What stands at a site draws at most its cap at the meter in the fullest hour of the day: P pue (peak + idle share
    x (units - peak)), in MW."""
    mine = [(n, p) for n, p in enumerate(pools) if p.site is site]
    drawn = sum(_mw(p) * site.idle_share * p.there[t] for _, p in mine)
    row = build.row(-np.inf, site.cap_W[t] / 1e6 - drawn, Says(kind="power", subject=site.name, period=t, unit="MW"))
    for number, pool in mine:
        build.add(row, peak[number, t], _mw(pool) * (1 - site.idle_share))
        for o in pool.offers:
            ordered = standing(offers[o], t, problem.num_periods)
            build.add(row, orders[o, ordered], _mw(pool) * site.idle_share)


def _mw(pool: ProgrammePool) -> float:
    """MW at the meter of one busy unit."""
    return float(pool.choice.power_W) * pool.choice.unit_chips * float(pool.site.pue) / 1e6
