"""Is this answer a plan at all? Recomputed from the problem alone, with loops and no matrix: an independent check of
every solution.

Takes what the answer says (orders, units at work, stacks kept) and goes through the rules one by one. It shares no code
with `solve`.
"""

from __future__ import annotations

from collections.abc import Mapping

from mowich.fleets.problem import CLOUD, FleetProblem, TaskRates

SLACK = 1e-5
"""Relative error that a solver's tolerance may leave."""


def violations(
    problem: FleetProblem,
    rates: TaskRates,
    *,
    orders: Mapping[tuple[str, str, str, int], float],
    work: Mapping[tuple[str, str, int], float],
    keeps: Mapping[tuple[str, str], float],
    sold: Mapping[tuple[str, int], float] | None = None,
    whole: bool = True,
) -> list[str]:
    """Every rule that an answer breaks, in words; empty for a plan.

    orders: (system, kind, site, period) -> units ordered; work: (task, system, period) -> units at work; keeps:
    (workload, stack) -> 1 where kept; sold: (system, period) -> committed units let to others. whole: orders must be
    whole units.
    """
    wrong: list[str] = []
    periods = range(problem.num_periods)
    choices = {c.name: c for c in problem.choices}

    def above(value: float, limit: float) -> bool:
        return value > limit + SLACK * max(1.0, abs(limit))

    for key, units in orders.items():
        if units < -SLACK:
            wrong.append(f"{key}: fewer than no units, {units}")
        if whole and abs(units - round(units)) > SLACK * max(1.0, units):
            wrong.append(f"{key}: {units} is no whole number of units")

    # how many units stand where
    there: dict[tuple[str, str, int], float] = {}
    cash = [0.0 for _ in periods]
    for choice in problem.choices:
        for t in periods:
            for place, had in choice.have.items():
                there[choice.name, place, t] = there.get((choice.name, place, t), 0.0) + float(had[t])
            committed = float(choice.committed[t])
            let = (sold or {}).get((choice.name, t), 0.0)
            if let < -SLACK or above(let, committed if choice.resale else 0.0):
                wrong.append(f"{choice.name} in {problem.labels[t]}: {let:g} units let of {committed:g} committed")
            there[choice.name, CLOUD, t] = there.get((choice.name, CLOUD, t), 0.0) + committed - let
            cash[t] -= let * choice.unit_chips * float(choice.committed_price) * choice.resale * problem.length_s
            cash[t] += committed * choice.unit_chips * float(choice.committed_price) * problem.length_s
        for offer in choice.offers:
            for ordered in periods:
                units = orders.get((choice.name, offer.kind, offer.site, ordered), 0.0)
                if above(units, float(offer.supply[ordered])):
                    wrong.append(
                        f"{choice.name}: {units:g} units to {offer.kind} in {problem.labels[ordered]},"
                        f" {offer.supply[ordered]:g} are supplied"
                    )
                if offer.kind == "buy":
                    cash[ordered] += units * float(offer.price)
                for t in periods:
                    if t < ordered + offer.delay or (offer.kind == "rent" and t >= ordered + offer.delay + offer.term):
                        continue
                    there[choice.name, offer.site, t] = there.get((choice.name, offer.site, t), 0.0) + units
                    if offer.kind == "rent":
                        cash[t] += units * choice.unit_chips * float(offer.price) * problem.length_s

    # work within what stands there
    fullest: dict[tuple[str, int], float] = {}
    for choice in problem.choices:
        for t in periods:
            mine = {n: units for (n, s, q), units in work.items() if s == choice.name and q == t}
            used = _fullest_hour(problem, mine)
            fullest[choice.name, t] = used
            total = sum(units for (s, _, q), units in there.items() if s == choice.name and q == t)
            if above(used, total):
                wrong.append(f"{choice.name} in {problem.labels[t]}: {used:g} units work, {total:g} are there")

    # what is asked
    for workload in problem.workloads:
        window = range(workload.first, workload.last + 1)
        done: dict[str, list[float]] = {}
        for task in workload.tasks:
            done[task.name] = [0.0 for _ in periods]
            for (name, s, t), units in work.items():
                if name != task.name or units <= SLACK:
                    continue
                if t not in window:
                    wrong.append(f"{name} works on {s} in {problem.labels[t]}, outside its window")
                if workload.systems and s not in workload.systems:
                    wrong.append(f"{name} works on {s}, which is not allowed to it")
                if keeps.get((workload.name, choices[s].stack), 0.0) < SLACK:
                    wrong.append(f"{name} works on {s} without being ported to {choices[s].stack}")
                done[task.name][t] += units * choices[s].unit_chips * float(rates[name, s].tokens_per_s_per_chip)
            if task.kind == "serve":
                for t in window:
                    if above(float(task.tokens_per_s[t]), done[task.name][t]):
                        wrong.append(
                            f"{task.name} in {problem.labels[t]}: {done[task.name][t]:g} of"
                            f" {task.tokens_per_s[t]:g} tokens/s"
                        )
            elif above(1.0, sum(done[task.name]) * problem.length_s / task.tokens):
                wrong.append(
                    f"{task.name}: {sum(done[task.name]) * problem.length_s:g} of {task.tokens:g} tokens by"
                    f" {problem.labels[workload.last]}"
                )
        if workload.max_chips:
            for t in window:
                chips = sum(units * choices[s].unit_chips for (n, s, q), units in work.items() if q == t and n in done)
                if above(chips, workload.max_chips):
                    wrong.append(
                        f"{workload.name} in {problem.labels[t]}: {chips:g} chips, at most {workload.max_chips:g}"
                    )
        if workload.one_system and whole:
            systems = {s for (n, s, _), units in work.items() if n in done and units > SLACK}
            if len(systems) > 1:
                wrong.append(f"{workload.name} works on {', '.join(sorted(systems))}, and must stay on one system")

    # power and money
    for site in problem.sites:
        for t in periods:
            drawn = 0.0
            for choice in problem.choices:
                units = there.get((choice.name, site.name, t), 0.0)
                if units <= 0 or choice.power_W.value is None:
                    continue
                elsewhere = sum(
                    n for (s, place, q), n in there.items() if s == choice.name and q == t and place != site.name
                )
                used = fullest[choice.name, t]
                busy = max(0.0, min(units, used - elsewhere))  # the least that must be at work here
                drawn += (
                    (busy + site.idle_share * (units - busy))
                    * choice.unit_chips
                    * choice.power_W.value
                    * float(site.pue)
                )
            if above(drawn, float(site.cap_W[t])):
                wrong.append(
                    f"{site.name} in {problem.labels[t]}: draws at least {drawn / 1e6:g} MW of"
                    f" {site.cap_W[t] / 1e6:g} MW"
                )
    for (name, _), kept in keeps.items():
        if kept > 1 + SLACK:
            wrong.append(f"{name}: ported more than once")
    for t in periods:
        if above(cash[t], float(problem.budget_per_period[t])):
            wrong.append(
                f"{problem.labels[t]}: {cash[t]:g} USD for chips alone, budget {problem.budget_per_period[t]:g}"
            )
    if above(sum(cash), problem.budget_usd):
        wrong.append(f"{sum(cash):g} USD for chips alone, budget {problem.budget_usd:g}")
    return wrong


def _fullest_hour(problem: FleetProblem, units: Mapping[str, float]) -> float:
    """Units of a system that work in the fullest hour of the day: what is bound to hours, hour by hour, and no less
    than the mean of the day with what takes any hour. units: task -> units at the peak of its day."""
    tasks = {task.name: task for task in problem.tasks}
    mean = 0.0
    hours = [0.0] * 24
    for name, number in units.items():
        day = tasks[name].day or (1.0,) * 24
        mean += number * sum(day) / len(day)
        if not tasks[name].any_hour:
            hours = [sum_so_far + number * load for sum_so_far, load in zip(hours, day, strict=True)]
    return max(mean, *hours)
