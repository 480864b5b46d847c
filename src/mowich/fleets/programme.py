"""The linear programme of a fleet question: variables, rows and goals as arrays. No solver here.

`formulate` turns a `FleetProblem` and its `TaskRates` into orders, units at work on each task, and kept stacks. Work is
a share of the asked work, chips are units of purchase, and money is in costs of a typical order, so that the numbers
have similar sizes. Every row has its meaning in words, which shadow prices and conflicts use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mowich.errors import EXIT_INFEASIBLE, UserError, UserErrors
from mowich.fleets.goals import ColumnCosts, column_costs, goal_units
from mowich.fleets.layout import ColumnNumbers, Layout, Programme, ProgrammePool, RunColumns, Says, standing
from mowich.fleets.problem import (
    CLOUD,
    LEAST_PACE,
    Choice,
    FleetProblem,
    FleetSite,
    FleetTask,
    Offer,
    TaskRates,
    Vector,
    Workload,
)
from mowich.sums import float_sum

HEADROOM = 1.01
"""Work on a stack may be this share of the asked work: slightly over one, so that the shadow price of a demand belongs
to the demand alone."""


class _Builder:
    """Columns and rows as they are found; `matrix` sorts the entries by columns."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.integer: list[bool] = []
        self.rows: list[tuple[float, float, Says]] = []
        self.entries: tuple[list[int], list[int], list[float]] = ([], [], [])  # row, column, value

    def columns(self, number: int, *, high: float = np.inf, integer: bool = False) -> ColumnNumbers:
        first = len(self.low)
        self.low += [0.0] * number
        self.high += [high] * number
        self.integer += [integer] * number
        return np.arange(first, first + number)

    def row(self, low: float, high: float, says: Says) -> int:
        self.rows.append((low, high, says))
        return len(self.rows) - 1

    def add(
        self,
        row: int,
        columns: int | np.int64 | Sequence[int] | ColumnNumbers,
        values: float | Sequence[float] | Vector,
    ) -> None:
        """Entries of a row: a value for each column, or one for all. Entries at the same place are added."""
        c = columns.tolist() if isinstance(columns, np.ndarray | np.integer) else columns
        v = values.tolist() if isinstance(values, np.ndarray) else values
        places = [c] if isinstance(c, int) else c
        rows, at, numbers = self.entries
        rows += [row] * len(places)
        at += places
        numbers += [v] * len(places) if isinstance(v, int | float) else v

    def matrix(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Vector]:
        """(starts, row index, value) by columns."""
        rows, columns = (np.array(places, dtype=np.int64) for places in self.entries[:2])
        values = np.array(self.entries[2], dtype=float)
        key = columns * len(self.rows) + rows
        unique, inverse = np.unique(key, return_inverse=True)
        total = np.bincount(inverse, weights=values, minlength=len(unique))
        column, index = np.divmod(unique, len(self.rows))
        return (
            np.searchsorted(column, np.arange(len(self.low) + 1)).astype(np.int64),
            index.astype(np.int64),
            np.asarray(total, dtype=float),
        )


def formulate(problem: FleetProblem, rates: TaskRates, runs: Collection[str] = ()) -> Programme:
    """The programme of a problem. runs: the training runs without a gap; a programme in fractions has none.

    Raises UserError (exit 3) where a workload runs on none of the systems allowed to it, with the reason for each.
    """
    build = _Builder()
    layout = _variables(build, problem, rates, runs)
    _rows(build, problem, rates, layout)
    goals = column_costs(problem, rates, layout, len(build.low))
    units = goal_units(problem, goals)
    _budget_rows(build, problem, goals, units["cost"])
    starts, index, value = build.matrix()
    return Programme(
        layout=layout,
        first=problem.goals[0],
        units=units,
        goals={name: getattr(goals, name) / unit for name, unit in units.items()},
        offset={name: goals.offset[name] / unit for name, unit in units.items()},
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


def _variables(build: _Builder, problem: FleetProblem, rates: TaskRates, held: Collection[str]) -> Layout:
    """The columns: work, orders, units at work, units let to others, choices of systems and stacks."""
    num = problem.num_periods
    offers = tuple(o for c in problem.choices for o in c.offers)
    work = _work_columns(build, problem, rates)

    def per_period(rows: int, *, integer: bool = False) -> ColumnNumbers:
        columns = [build.columns(num, integer=integer) for _ in range(rows)]
        return np.array(columns, dtype=np.int64).reshape(rows, num)

    orders = per_period(len(offers), integer=True)
    pools = _pools(problem, offers, {s.name: s for s in problem.sites})
    busy = per_period(len(pools))
    peak = per_period(len(pools)) if problem.hours else busy
    sold = {
        c.name: np.array([build.columns(1, high=float(n), integer=True)[0] for n in c.committed], dtype=np.int64)
        for c in problem.choices
        if c.resale > 0 and c.committed.any()
    }
    keeps, picks, stacks = _decisions(build, problem, work)
    windows = {w.name: w.last + 1 - w.first for w in problem.workloads}
    progress = {w.name: build.columns(windows[w.name]) for w in problem.workloads if w.kind == "rl"}
    runs = {
        w.name: RunColumns(
            begun=build.columns(windows[w.name], high=1.0, integer=True),
            ended=build.columns(windows[w.name], high=1.0, integer=True),
            fullest=int(build.columns(1)[0]),
        )
        for w in problem.workloads
        if w.name in held
    }
    return Layout(
        work=work,
        busy=busy,
        peak=peak,
        sold=sold,
        orders=orders,
        keeps=keeps,
        picks=picks,
        stacks=stacks,
        ports=_ports(problem, work, keeps),
        progress=progress,
        runs=runs,
        pools=pools,
        offers=offers,
    )


def _decisions(
    build: _Builder, problem: FleetProblem, work: Mapping[tuple[str, str], ColumnNumbers]
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int], dict[str, int]]:
    """The yes-or-no columns: (workload, stack) where a workload is ported to a stack, (workload, system) where it runs
    on that system alone, and stack where it is in use."""

    def yes_or_no() -> int:
        return int(build.columns(1, high=1.0, integer=True)[0])

    keeps = {
        (w.name, k): yes_or_no()
        for w in problem.workloads
        for k in problem.stacks
        if any((t.name, c.name) in work for t in w.tasks for c in problem.choices if c.stack == k)
    }
    picks = {
        (w.name, c.name): yes_or_no()
        for w in problem.workloads
        if w.one_system
        for c in problem.choices
        if any((t.name, c.name) in work for t in w.tasks)
    }
    return keeps, picks, {k: yes_or_no() for k in problem.stacks}


def _ports(
    problem: FleetProblem,
    work: Mapping[tuple[str, str], ColumnNumbers],
    keeps: Collection[tuple[str, str]],
) -> dict[tuple[str, str], ColumnNumbers]:
    """The columns of the work of a workload on a stack, for each workload that may run on it."""
    stack_of = {c.name: c.stack for c in problem.choices}
    return {
        (w.name, k): np.concatenate(
            [c[c >= 0] for (n, s), c in work.items() if stack_of[s] == k and n in {t.name for t in w.tasks}]
        )
        for w in problem.workloads
        for k in problem.stacks
        if (w.name, k) in keeps
    }


def _work_columns(build: _Builder, problem: FleetProblem, rates: TaskRates) -> dict[tuple[str, str], ColumnNumbers]:
    """(task, system) -> [T] columns of its work, -1 outside of its window. Raises UserError for tasks that run on no
    system allowed to them."""
    work: dict[tuple[str, str], ColumnNumbers] = {}
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
        raise stuck[0] if len(stuck) == 1 else UserErrors(stuck)
    return work


def _rows(build: _Builder, problem: FleetProblem, rates: TaskRates, at: Layout) -> None:
    """All rows except budgets: demand, use, capacity, power, supply, stacks."""
    for workload in problem.workloads:
        _demand(build, problem, workload, rates, at)
        if workload.name in at.runs:
            _without_gap(build, problem, workload, rates, at)
    _use_rows(build, problem, at)
    _capacity_rows(build, problem, at)
    for site in problem.sites:
        for t in range(problem.num_periods):
            if np.isfinite(site.cap_W[t]):
                _power(build, problem, site, t, at.pools, at.offers, at.peak, at.orders)
    for offer, columns in zip(at.offers, at.orders, strict=True):
        for t, supply in enumerate(offer.supply):
            if np.isfinite(supply):
                says = Says(kind=f"supply to {offer.kind}", subject=offer.system, period=t, unit="unit")
                build.add(build.row(-np.inf, float(supply), says), columns[t], 1.0)
    for (_, stack), column in at.keeps.items():
        row = build.row(-np.inf, 0.0, Says(kind="stack", subject=stack, period=-1, unit="stack"))
        build.add(row, [column, at.stacks[stack]], [1.0, -1.0])


def _use_rows(build: _Builder, problem: FleetProblem, at: Layout) -> None:
    """The work on a system equals that of its units at work, in the mean of a day, and in each hour that has its own
    work."""
    by_task, hours = {t.name: t for t in problem.tasks}, problem.hours
    for choice in problem.choices:
        mine = [i for i, p in enumerate(at.pools) if p.choice is choice]
        tasks = [(by_task[n], w) for (n, s), w in at.work.items() if s == choice.name]
        for t in range(problem.num_periods):
            there = [(task, w[t]) for task, w in tasks if w[t] >= 0]
            used = np.array([column for _, column in there], dtype=np.int64)
            means = np.array([task.day_mean for task, _ in there])
            by_hour = [(at.peak, np.array([task.hour(h) for task, _ in there])) for h in hours]
            for columns, needed in ((at.busy, means), *by_hour):
                row = build.row(-np.inf, 0.0, Says(kind="use", subject=choice.name, period=t, unit="unit"))
                build.add(row, used, needed)
                build.add(row, columns[mine, t], -1.0)


def _capacity_rows(build: _Builder, problem: FleetProblem, at: Layout) -> None:
    """Units at work in a pool and units let to others are together at most the installed units."""
    has_hours = bool(problem.hours)
    for number, pool in enumerate(at.pools):
        for t in range(problem.num_periods):
            subject = f"{pool.choice.name} at {pool.site.name}"
            says = Says(kind="capacity", subject=subject, period=t, unit="unit")
            row = build.row(-np.inf, float(pool.there[t]), says)
            build.add(row, at.peak[number, t], 1.0)
            if pool.holds_committed and pool.choice.name in at.sold:
                build.add(row, at.sold[pool.choice.name][t], 1.0)
            for o in pool.offers:
                build.add(row, at.orders[o, standing(at.offers[o], t, problem.num_periods)], -1.0)
            if has_hours:
                row = build.row(-np.inf, 0.0, Says(kind="use", subject=pool.choice.name, period=t, unit="unit"))
                build.add(row, [at.busy[number, t], at.peak[number, t]], [1.0, -1.0])


def _budget_rows(build: _Builder, problem: FleetProblem, goals: ColumnCosts, money: float) -> None:
    """Payments in a period, and in all, stay within the budget. money: the unit, USD."""

    def row(t: int, budget: float, paid: Vector, offset: float) -> None:
        says = Says(kind="budget", subject="", period=t, unit="$", scale=money)
        columns = np.flatnonzero(paid)
        build.add(build.row(-np.inf, budget / money - offset, says), columns, paid[columns])

    cash, offset = goals.cash / money, goals.cash_offset / money
    for t in range(problem.num_periods):
        if np.isfinite(problem.budget_per_period[t]):
            row(t, problem.budget_per_period[t], cash[t], offset[t])
    if np.isfinite(problem.budget_usd):
        row(-1, problem.budget_usd, cash.sum(axis=0), float(offset.sum()))


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


def _demand(build: _Builder, problem: FleetProblem, workload: Workload, rates: TaskRates, at: Layout) -> None:
    """The demand of a workload, in shares: all tokens by its deadline, or its rate in every period, and at most the
    welcome work where a goal maximises work; on which stacks; on how many chips."""
    by_name = {c.name: c for c in problem.choices}
    window = range(workload.first, workload.last + 1)
    most = workload.most if problem.counts_work else np.inf
    progress = at.progress.get(workload.name)

    def asked(kind: str, subject: str, period: int) -> int:
        return build.row(1.0, most, Says(kind=kind, subject=subject, period=period, unit="% of it", scale=100.0))

    if progress is not None:
        build.add(asked("work", workload.name, workload.last), progress, 1.0)
    for task in workload.tasks:
        mine = [(s, columns) for (n, s), columns in at.work.items() if n == task.name]
        shares = {s: share_per_unit(problem, task, by_name[s], rates) for s, _ in mine}
        if task.kind == "serve" or progress is not None:
            for place, t in enumerate(window):
                if task.kind == "serve" and task.tokens_per_s[t] == 0:
                    continue
                if progress is None:
                    row = asked("demand", task.name, t)
                else:  # equal shares of all tasks; more of one alone is no work
                    step = Says(kind="step", subject=task.name, period=t, unit="% of it", scale=100.0)
                    row = build.row(0.0, 0.0 if problem.counts_work else np.inf, step)
                    build.add(row, progress[place], -1.0)
                for s, columns in mine:
                    build.add(row, columns[t], shares[s][t])
                _links(build, problem, workload, task, t, mine, shares, at)
        else:
            row = asked("work", task.name, workload.last)
            for s, columns in mine:
                build.add(row, columns[window], shares[s][window])
            _links(build, problem, workload, task, -1, mine, shares, at)
    _limit_rows(build, workload, at, {name: float(c.unit_chips) for name, c in by_name.items()})


def _limit_rows(build: _Builder, workload: Workload, at: Layout, unit_chips: Mapping[str, float]) -> None:
    """A single-system workload picks at most one system; a workload with a limit of chips stays below it."""
    if picks_of := [c for (w, _), c in at.picks.items() if w == workload.name]:
        build.add(
            build.row(-np.inf, 1.0, Says(kind="one system", subject=workload.name, period=-1, unit="system")),
            picks_of,
            1.0,
        )
    if workload.max_chips:
        for t in range(workload.first, workload.last + 1):
            row = build.row(
                -np.inf, workload.max_chips, Says(kind="chips at once", subject=workload.name, period=t, unit="chip")
            )
            for (n, s), columns in at.work.items():
                if any(task.name == n for task in workload.tasks):
                    build.add(row, columns[t], unit_chips[s])


def _without_gap(build: _Builder, problem: FleetProblem, workload: Workload, rates: TaskRates, at: Layout) -> None:
    """A training run begins once and ends once: w[t] <= cap (begun[t] - ended[t]), both never fall. Between its first
    and its last period it does at least `LEAST_PACE` of its fullest: w[t] <= f, and w[t] >= pace (f - cap (1 -
    begun[t-1] + ended[t+1])). w[t] is the share of it that all systems do in a period, cap the most that they can."""
    [task] = workload.tasks
    run, by_name = at.runs[workload.name], {c.name: c for c in problem.choices}
    mine = {s: columns for (n, s), columns in at.work.items() if n == task.name}
    shares = {s: share_per_unit(problem, task, by_name[s], rates) for s in mine}
    most = HEADROOM * (workload.most if problem.counts_work else 1.0)
    caps = [
        min(most, sum(shares[s][t] * most_units(problem, by_name[s])[t] for s in mine))
        for t in range(workload.first, workload.last + 1)
    ]
    once = Says(kind="run", subject=workload.name, period=-1, unit="gap")
    ties = Says(kind="on", subject=workload.name, period=-1, unit="gap")

    def done(place: int, low: float, high: float, says: Says) -> int:
        """A row of the work done in a period."""
        row = build.row(low, high, says)
        for s, columns in mine.items():
            build.add(row, columns[workload.first + place], shares[s][workload.first + place])
        return row

    pace = LEAST_PACE * max(caps)
    for place, cap in enumerate(caps):
        build.add(done(place, -np.inf, 0.0, ties), [run.begun[place], run.ended[place]], [-cap, cap])
        build.add(done(place, -np.inf, 0.0, ties), run.fullest, -1.0)
        if place:
            for never_falls in (run.begun, run.ended):
                build.add(build.row(0.0, np.inf, once), [never_falls[place], never_falls[place - 1]], [1.0, -1.0])
        if 0 < place < len(caps) - 1:
            row = done(place, -pace, np.inf, once)
            build.add(row, [run.fullest, run.begun[place - 1], run.ended[place + 1]], [-LEAST_PACE, -pace, pace])


def most_units(problem: FleetProblem, choice: Choice) -> Vector:
    """[T] the most units of a system that can be installed in a period; inf where supply has no limit."""
    out = sum(choice.have.values(), start=np.zeros(problem.num_periods)) + choice.committed
    for offer in choice.offers:
        out = out + [
            sum(offer.supply[q] for q in standing(offer, t, problem.num_periods)) for t in range(problem.num_periods)
        ]
    return np.asarray(out, dtype=float)


def share_per_unit(problem: FleetProblem, task: FleetTask, choice: Choice, rates: TaskRates) -> Vector:
    """[T] share of a task's demand that one unit does in each period: of all its tokens, or of that period's rate."""
    rate = float(rates[task.name, choice.name].tokens_per_s_per_chip) * choice.unit_chips
    if task.kind == "serve":
        with np.errstate(divide="ignore"):
            return np.where(task.tokens_per_s > 0, rate / np.where(task.tokens_per_s > 0, task.tokens_per_s, 1.0), 0.0)
    return np.full(problem.num_periods, rate * problem.length_s / task.tokens)


def _links(
    build: _Builder,
    problem: FleetProblem,
    workload: Workload,
    task: FleetTask,
    period: int,
    mine: Sequence[tuple[str, ColumnNumbers]],
    shares: Mapping[str, Vector],
    at: Layout,
) -> None:
    """Work runs only on kept stacks, and on the picked system. Work and demand are shares of one, so `HEADROOM` is the
    tightest bound; where more work is welcome, the chips that can be installed are the bound."""
    by_name = {c.name: c for c in problem.choices}
    window = slice(period, period + 1) if period >= 0 else slice(workload.first, workload.last + 1)

    def port(row: int, names: Sequence[str], chosen: int) -> None:
        """Bounds work on some systems by a choice: none without it, the most possible with it."""
        most = HEADROOM
        if problem.counts_work and workload.most > 1:
            can = float_sum(float((shares[s] * most_units(problem, by_name[s]))[window].sum()) for s in names)
            most = HEADROOM * min(workload.most, max(1.0, can))
        for s, columns in mine:
            if s in names:
                build.add(row, columns[window], shares[s][window])
        build.add(row, chosen, -most)

    for stack in dict.fromkeys(by_name[s].stack for s, _ in mine):
        row = build.row(-np.inf, 0.0, Says(kind="port", subject=f"{task.name} to {stack}", period=period, unit="port"))
        port(row, [s for s, _ in mine if by_name[s].stack == stack], at.keeps[workload.name, stack])
    if workload.one_system:
        for s, _ in mine:
            row = build.row(-np.inf, 0.0, Says(kind="pick", subject=f"{task.name} on {s}", period=period, unit="pick"))
            port(row, [s], at.picks[workload.name, s])


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
    """The units at a site draw at most its cap at the meter in the fullest hour of the day: P pue (peak + idle share x
    (units - peak)), in MW."""
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
