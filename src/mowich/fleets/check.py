"""An independent check that an answer is a plan, computed from the problem alone, with loops and no matrix.

`violations` takes the answer's orders, units at work and kept stacks, and checks the rules one by one. It shares no
code with `solve`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mowich.fleets.problem import CLOUD, LEAST_PACE, Choice, FleetProblem, FleetSite, FleetTask, TaskRates, Workload
from mowich.sums import float_sum

SLACK = 1e-5
"""Relative error that the solver's tolerance may leave."""

_Orders = Mapping[tuple[str, str, str, int], float]
"""(system, kind, site, period) -> units ordered."""
_Work = Mapping[tuple[str, str, int], float]
"""(task, system, period) -> units at work."""
_Sold = Mapping[tuple[str, int], float]
"""(system, period) -> committed units let to others."""
_There = Mapping[tuple[str, str, int], float]
"""(system, site, period) -> installed units."""


def violations(
    problem: FleetProblem,
    rates: TaskRates,
    *,
    orders: _Orders,
    work: _Work,
    keeps: Mapping[tuple[str, str], float],
    sold: _Sold | None = None,
    whole: bool = True,
    claimed: Mapping[str, float] | None = None,
) -> list[str]:
    """Every rule that an answer breaks, in words; empty for a plan.

    keeps: (workload, stack) -> 1 where kept; whole: orders must be whole units, runs have no gap; claimed: the tokens
    and the revenue that the answer states.
    """
    sold = sold or {}
    there, cash = _standing(problem, orders, sold), _cash(problem, orders, sold)
    tasks = {task.name: task for task in problem.tasks}
    fullest = {
        (choice.name, t): _fullest_hour(
            tasks, {n: units for (n, s, q), units in work.items() if s == choice.name and q == t}
        )
        for choice in problem.choices
        for t in range(problem.num_periods)
    }
    wrong = _of_orders(problem, orders, sold, whole=whole)
    wrong += _of_units(problem, there, fullest)
    for workload in problem.workloads:
        wrong += _of_workload(problem, rates, workload, work, keeps, whole=whole)
    for site in problem.sites:
        wrong += _of_power(problem, site, there, fullest)
    wrong += [f"{name}: ported more than once" for (name, _), kept in keeps.items() if kept > 1 + SLACK]
    for goal, said in (claimed or {}).items():
        done = work_done(problem, rates, work, goal)
        if abs(done - said) > SLACK * max(abs(done), abs(said)):
            wrong.append(f"{said:g} {goal} are claimed, {done:g} are done")
    return wrong + _of_money(problem, cash)


def work_done(problem: FleetProblem, rates: TaskRates, work: _Work, goal: str) -> float:
    """Tokens that all workloads do, or their net present USD ("revenue").

    Serving counts only what users send, the mean of the day. Reinforcement learning counts as far as its tasks keep
    step.
    """
    total = 0.0
    for workload in problem.workloads:
        speeds = {task.name: _speeds(problem, rates, work, task) for task in workload.tasks}
        for t in range(problem.num_periods):
            done = {}
            for task in workload.tasks:
                day = task.day or (1.0,)
                done[task.name] = speeds[task.name][t] * problem.length_s * float_sum(day) / len(day) / task.peak
            if workload.kind == "rl":
                least = min(done[task.name] / task.tokens for task in workload.tasks)
                done = {task.name: least * task.tokens for task in workload.tasks}
            worth = workload.worth_usd / (1 + problem.discount) ** (t / problem.periods_per_year)
            first = done[workload.tasks[0].name]  # in reinforcement learning a rollout brings it
            total += float_sum(done.values()) if goal == "tokens" else first * worth
    return total


def _speeds(problem: FleetProblem, rates: TaskRates, work: _Work, task: FleetTask) -> list[float]:
    """[T] tokens/s of a task at the peak of its day."""
    chips = {choice.name: choice.unit_chips for choice in problem.choices}
    speeds = [0.0] * problem.num_periods
    for (name, system, t), units in work.items():
        if name == task.name and units > 0:
            speeds[t] += units * chips[system] * float(rates[name, system].tokens_per_s_per_chip)
    return speeds


def _above(value: float, limit: float) -> bool:
    return value > limit + SLACK * max(1.0, abs(limit))


def _standing(problem: FleetProblem, orders: _Orders, sold: _Sold) -> _There:
    """Installed units by place: those in hand, those committed and not let to others, and ordered ones."""
    there: dict[tuple[str, str, int], float] = {}

    def put(choice: Choice, place: str, t: int, units: float) -> None:
        there[choice.name, place, t] = there.get((choice.name, place, t), 0.0) + units

    for choice in problem.choices:
        for t in range(problem.num_periods):
            for place, had in choice.have.items():
                put(choice, place, t, float(had[t]))
            put(choice, CLOUD, t, float(choice.committed[t]) - sold.get((choice.name, t), 0.0))
        for offer in choice.offers:
            for ordered in range(problem.num_periods):
                units = orders.get((choice.name, offer.kind, offer.site, ordered), 0.0)
                first = ordered + offer.delay
                last = first + offer.term if offer.kind == "rent" else problem.num_periods
                for t in range(first, min(last, problem.num_periods)):
                    put(choice, offer.site, t, units)
    return there


def _cash(problem: FleetProblem, orders: _Orders, sold: _Sold) -> list[float]:
    """[T] USD paid for chips in each period, less the rent from others."""
    cash = [0.0] * problem.num_periods
    for choice in problem.choices:
        for t in range(problem.num_periods):
            per_unit = choice.unit_chips * float(choice.committed_price) * problem.length_s
            cash[t] += float(choice.committed[t]) * per_unit
            cash[t] -= sold.get((choice.name, t), 0.0) * per_unit * choice.resale
        for offer in choice.offers:
            for ordered in range(problem.num_periods):
                units = orders.get((choice.name, offer.kind, offer.site, ordered), 0.0)
                if offer.kind == "buy":
                    cash[ordered] += units * float(offer.price)
                    continue
                first = ordered + offer.delay
                for t in range(first, min(first + offer.term, problem.num_periods)):
                    cash[t] += units * choice.unit_chips * float(offer.price) * problem.length_s
    return cash


def _of_orders(problem: FleetProblem, orders: _Orders, sold: _Sold, *, whole: bool) -> list[str]:
    """Orders that are negative, fractional or beyond supply, and units let to others beyond the committed ones."""
    wrong = []
    for key, units in orders.items():
        if units < -SLACK:
            wrong.append(f"{key}: fewer than no units, {units}")
        if whole and abs(units - round(units)) > SLACK * max(1.0, units):
            wrong.append(f"{key}: {units} is no whole number of units")
    for choice in problem.choices:
        for t, label in enumerate(problem.labels):
            committed, let = float(choice.committed[t]), sold.get((choice.name, t), 0.0)
            if let < -SLACK or _above(let, committed if choice.resale else 0.0):
                wrong.append(f"{choice.name} in {label}: {let:g} units let of {committed:g} committed")
            for offer in choice.offers:
                units = orders.get((choice.name, offer.kind, offer.site, t), 0.0)
                if _above(units, float(offer.supply[t])):
                    wrong.append(
                        f"{choice.name}: {units:g} units to {offer.kind} in {label}, {offer.supply[t]:g} are supplied"
                    )
    return wrong


def _of_units(problem: FleetProblem, there: _There, fullest: Mapping[tuple[str, int], float]) -> list[str]:
    """More units at work than are installed. fullest: (system, period) -> units at work in the fullest hour."""
    wrong = []
    for (system, t), used in fullest.items():
        total = float_sum(units for (s, _, q), units in there.items() if s == system and q == t)
        if _above(used, total):
            wrong.append(f"{system} in {problem.labels[t]}: {used:g} units work, {total:g} are there")
    return wrong


def _of_workload(
    problem: FleetProblem,
    rates: TaskRates,
    workload: Workload,
    work: _Work,
    keeps: Mapping[tuple[str, str], float],
    *,
    whole: bool,
) -> list[str]:
    """Missing work of a workload, and its work at a forbidden place or time."""
    wrong: list[str] = []
    all_done = [_speeds(problem, rates, work, task) for task in workload.tasks]
    for task, done in zip(workload.tasks, all_done, strict=True):
        wrong += _of_places(problem, workload, task, work, keeps, whole=whole)
        wrong += _of_demand(problem, workload, task, done)
        if workload.kind == "train" and whole:
            wrong += _of_run(problem, task, done)
    if workload.kind == "rl":
        wrong += _of_steps(problem, workload, all_done)
    chips = {c.name: c.unit_chips for c in problem.choices}
    names = {task.name for task in workload.tasks}
    for t in range(workload.first, workload.last + 1) if workload.max_chips else ():
        used = float_sum(units * chips[s] for (n, s, q), units in work.items() if q == t and n in names)
        if _above(used, workload.max_chips):
            wrong.append(f"{workload.name} in {problem.labels[t]}: {used:g} chips, at most {workload.max_chips:g}")
    systems = {s for (n, s, _), units in work.items() if n in names and units > SLACK}
    if workload.one_system and whole and len(systems) > 1:
        wrong.append(f"{workload.name} works on {', '.join(sorted(systems))}, and must stay on one system")
    return wrong


def _of_places(
    problem: FleetProblem,
    workload: Workload,
    task: FleetTask,
    work: _Work,
    keeps: Mapping[tuple[str, str], float],
    *,
    whole: bool,
) -> list[str]:
    """Work of a task outside its window, on a system that it may not use, or on one that it is not ported to."""
    wrong = []
    stacks = {c.name: c.stack for c in problem.choices}
    for (name, s, t), units in work.items():
        if name != task.name or units <= SLACK:
            continue
        if not workload.first <= t <= workload.last:
            wrong.append(f"{name} works on {s} in {problem.labels[t]}, outside its window")
        if workload.systems and s not in workload.systems:
            wrong.append(f"{name} works on {s}, which is not allowed to it")
        if keeps.get((workload.name, stacks[s]), 0.0) < SLACK * (1.0 if whole else min(1.0, units)):
            wrong.append(f"{name} works on {s} without being ported to {stacks[s]}")
    return wrong


def _of_demand(problem: FleetProblem, workload: Workload, task: FleetTask, done: list[float]) -> list[str]:
    """Missing work of a task, or more than is welcome where a goal maximises work. done: [T] tokens/s in each
    period."""
    most = workload.most if problem.counts_work else float("inf")
    if task.kind == "serve":
        out = []
        for t in range(workload.first, workload.last + 1):
            asked = float(task.tokens_per_s[t])
            if _above(asked, done[t]) or (asked > 0 and _above(done[t] / asked, most)):
                out.append(
                    f"{task.name} in {problem.labels[t]}: {done[t]:g} of {asked:g} tokens/s, at most {most:g} times"
                )
        return out
    share = float_sum(done) * problem.length_s / task.tokens
    if _above(1.0, share) or _above(share, most):
        last = problem.labels[workload.last]
        return [f"{task.name}: {share * task.tokens:g} of {task.tokens:g} tokens by {last}, at most {most:g} times"]
    return []


def _of_steps(problem: FleetProblem, workload: Workload, done: list[list[float]]) -> list[str]:
    """Reinforcement learning with rollouts and updates in different periods: work of one ahead of the other makes no
    step. done: tokens/s of each task in each period."""
    shares = [
        min(speed[t] / task.tokens for task, speed in zip(workload.tasks, done, strict=True)) * problem.length_s
        for t in range(problem.num_periods)
    ]
    return (
        [f"{workload.name}: its tasks keep step for {float_sum(shares):g} of it"]
        if _above(1.0, float_sum(shares))
        else []
    )


def _of_run(problem: FleetProblem, task: FleetTask, done: list[float]) -> list[str]:
    """Periods between the first and the last of a training run in which it does almost nothing. done: [T] tokens/s."""
    least, fullest = SLACK * task.tokens / problem.length_s, max(done)
    at_work = [t for t, speed in enumerate(done) if speed > least]
    return [
        f"{task.name} in {problem.labels[t]}: {done[t]:g} tokens/s in the midst of a run, at its fullest {fullest:g}"
        for t in range(at_work[0] + 1 if at_work else 0, at_work[-1] if at_work else 0)
        if done[t] < LEAST_PACE * fullest - least
    ]


def _of_power(
    problem: FleetProblem, site: FleetSite, there: _There, fullest: Mapping[tuple[str, int], float]
) -> list[str]:
    """Periods in which the units at a site draw more than its cap."""
    wrong = []
    for t, label in enumerate(problem.labels):
        drawn = 0.0
        for choice in problem.choices:
            units = there.get((choice.name, site.name, t), 0.0)
            if units <= 0 or choice.power_W.value is None:
                continue
            elsewhere = float_sum(
                n for (s, place, q), n in there.items() if s == choice.name and q == t and place != site.name
            )
            busy = max(0.0, min(units, fullest[choice.name, t] - elsewhere))  # the least that must be at work here
            watts = choice.unit_chips * choice.power_W.value * float(site.pue)
            drawn += (busy + site.idle_share * (units - busy)) * watts
        if _above(drawn, float(site.cap_W[t])):
            cap = site.cap_W[t] / 1e6
            wrong.append(f"{site.name} in {label}: draws at least {drawn / 1e6:g} MW of {cap:g} MW")
    return wrong


def _of_money(problem: FleetProblem, cash: list[float]) -> list[str]:
    """Budgets that the cost of chips alone exceeds. cash: [T] USD."""
    wrong = [
        f"{label}: {paid:g} USD for chips alone, budget {budget:g}"
        for label, paid, budget in zip(problem.labels, cash, map(float, problem.budget_per_period), strict=True)
        if _above(paid, budget)
    ]
    if _above(float_sum(cash), problem.budget_usd):
        wrong.append(f"{float_sum(cash):g} USD for chips alone, budget {problem.budget_usd:g}")
    return wrong


def _fullest_hour(tasks: Mapping[str, FleetTask], units: Mapping[str, float]) -> float:
    """Units of a system that work in the fullest hour of the day: the tasks that are bound to hours, hour by hour, and
    at least the mean of the day of all tasks. units: task -> units at the peak of its day."""
    mean = 0.0
    hours = [0.0] * 24
    for name, number in units.items():
        day = tasks[name].day or (1.0,) * 24
        mean += number * float_sum(day) / len(day)
        if not tasks[name].any_hour:
            hours = [sum_so_far + number * load for sum_so_far, load in zip(hours, day, strict=True)]
    return max(mean, *hours)
