"""How robust an answer of a fleet is: the same question with new draws of every uncertain number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.estimate import Estimate
from mowich.fleets.answer import Z90, Answer, worse_by
from mowich.fleets.layout import Programme
from mowich.fleets.problem import WORK_GOALS, FleetProblem, TaskRates, Vector
from mowich.fleets.programme import formulate
from mowich.fleets.solve import Infeasible, Session, Solution, only
from mowich.progress import steps
from mowich.shown import Keyed
from mowich.sums import float_sum


def _drawn(rng: np.random.Generator, estimate: Estimate, normal: float) -> Estimate:
    """One draw of an estimate from its 90% range: log-normal with its own width on either side of the value."""
    value = float(estimate)
    end = estimate.high if normal > 0 else estimate.low
    if end is None or end <= 0 or end == value:
        return estimate
    return replace(estimate, value=value * math.exp(normal * abs(math.log(end / value)) / Z90))


def perturbed(problem: FleetProblem, rates: TaskRates, rng: np.random.Generator) -> tuple[FleetProblem, TaskRates]:
    """The same problem with every price and speed drawn once: one draw for each system's speed, one for each price
    (also of committed units)."""
    speed = {c.name: float(rng.standard_normal()) for c in problem.choices}
    choices = []
    for choice in problem.choices:
        offers = tuple(replace(o, price=_drawn(rng, o.price, float(rng.standard_normal()))) for o in choice.offers)
        committed = _drawn(rng, choice.committed_price, float(rng.standard_normal()))
        choices.append(replace(choice, offers=offers, committed_price=committed))
    moved = {
        key: (
            replace(r, tokens_per_s_per_chip=_drawn(rng, r.tokens_per_s_per_chip, speed[r.system]))
            if r.tokens_per_s_per_chip.value is not None and r.system in speed
            else r
        )
        for key, r in rates.items()
    }
    return replace(problem, choices=tuple(choices)), moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness(Keyed):
    """Over draws of prices and speeds. share: system -> quantiles (5, 50, 95%) of its share of the work (`work_unit`)
    in the optimum of each draw; wins: system -> share of draws in which it does most; kept: quantiles (50, 90%) of the
    loss against the draw's optimum with the plan's stacks; regret: stack -> that loss with the stack alone; objective:
    quantiles (5, 50, 95%) of the optimum of each draw by the first goal, in its unit, over the draws that have a plan;
    draws: done."""

    KEYS = (
        "draws asked infeasible objective:finite share:finite wins:finite kept_regret=kept:finite "
        "single_vendor_regret=regret"
    )

    draws: int
    asked: int
    infeasible: int
    share: Mapping[str, tuple[float, float, float]]
    wins: Mapping[str, float]
    kept: tuple[float, float]
    regret: Mapping[str, tuple[float, float] | None]
    objective: tuple[float, float, float]
    complete: bool = True


def work_unit(goal: str) -> str:
    """The unit of a system's share: chip-hours at work, or tokens where a goal maximises work and all chips are at
    work."""
    return "tokens" if goal in WORK_GOALS else "chip-hours"


def shares_at(programme: Programme, problem: FleetProblem, rates: TaskRates, x: Vector) -> dict[str, float]:
    """System -> its share of the work in a solution (`work_unit`)."""
    units = {
        (n, s, t): max(0.0, float(x[c]))
        for (n, s), columns in programme.layout.work.items()
        for t, c in enumerate(columns)
        if c >= 0
    }
    mean = {t.name: t.day_mean for t in problem.tasks}
    chips = {c.name: c.unit_chips for c in problem.choices}
    return shares_of(problem, rates, {key: n * chips[key[1]] * mean[key[0]] for key, n in units.items()})


def shares_of(problem: FleetProblem, rates: TaskRates, chips: Mapping[tuple[str, str, int], float]) -> dict[str, float]:
    """System -> its share of the work (`work_unit`). chips: (task, system, period) -> at work, mean of the day."""
    of_tokens, peak = work_unit(problem.goals[0]) == "tokens", {t.name: t.peak for t in problem.tasks}
    total = {c.name: 0.0 for c in problem.choices}
    for (task, system, _), number in chips.items():
        speed = float(rates[task, system].tokens_per_s_per_chip) / peak[task] if of_tokens else 1.0
        total[system] += number * speed
    everything = float_sum(total.values())
    return {s: v / everything if everything else 0.0 for s, v in total.items()}


def robustness(
    problem: FleetProblem,
    rates: TaskRates,
    answer: Answer,
    *,
    draws: int = 200,
    seed: int = 0,
) -> Robustness:
    """Solve the relaxation again for draws of prices and speeds; find the cost of keeping the plan's choice of stack
    per workload, and of one stack alone.

    An interrupt keeps the draws that are done. Deterministic for a seed.
    """
    rng = np.random.default_rng(seed)
    programme = formulate(problem, rates)
    session = Session(programme, integer=False)
    stack = {c.name: c.stack for c in problem.choices}
    chosen = {(a.task, stack[a.system]) for a in answer.assign}
    shares: list[dict[str, float]] = []
    values: list[float] = []
    kept: list[float] = []
    alone: dict[str, list[float]] = {k: [] for k in problem.stacks}
    infeasible = 0
    complete = True
    done = 0
    for _ in steps(range(draws), "drawing prices and speeds"):
        try:
            now, speeds = perturbed(problem, rates, rng)
            drawn_programme = formulate(now, speeds)
            session.load(drawn_programme)
            try:
                best = session.run()
            except Infeasible:
                infeasible += 1
                done += 1
                continue
            shares.append(shares_at(drawn_programme, now, speeds, best.x))
            first = drawn_programme.first
            values.append(drawn_programme.amount(first, best.goals[first]))
            limits = drawn_programme.high.copy()
            for (n, s), columns in drawn_programme.layout.work.items():
                if (n, stack[s]) not in chosen:
                    limits[columns[columns >= 0]] = 0.0
            session.upper(limits)
            kept.append(_regret(session, best))
            for k in problem.stacks:
                session.upper(only(drawn_programme, now, [k]))
                alone[k].append(_regret(session, best))
            done += 1
        except KeyboardInterrupt:
            complete = False
            break
    names = [c.name for c in problem.choices]
    table = {s: [row[s] for row in shares] for s in names}
    winners = [max(names, key=lambda s: row[s]) for row in shares]

    def ends(values: list[float]) -> tuple[float, float] | None:
        known = [v for v in values if math.isfinite(v)]
        return (
            (float(np.quantile(known, 0.5)), float(np.quantile(known, 0.9))) if len(known) > len(values) / 2 else None
        )

    return Robustness(
        draws=done,
        asked=draws,
        infeasible=infeasible,
        complete=complete,
        share={s: _range(v) for s, v in table.items()},
        objective=_range(values),
        wins={s: winners.count(s) / len(winners) if winners else math.nan for s in names},
        kept=ends(kept) or (math.nan, math.nan),
        regret={k: ends(v) for k, v in alone.items()},
    )


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """(5%, median, 95%) of draws; unknown without draws."""
    if not values:
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(low), float(middle), float(high)


def _regret(session: Session, best: Solution) -> float:
    """How much worse the restricted programme is than the best, as a share of the best; infinite without a plan."""
    first = session.programme.first
    try:
        return worse_by(session.run().goals[first], best.goals[first])
    except Infeasible:
        return math.inf
