"""Fleets on random small problems: every plan passes the independent check, no enumeration beats it, more of anything
never costs more and never does less, no training run has a gap, and only stacks that work are kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_problems import (
    LENGTH_S,
    choice,
    offer,
    problem,
    random_problem,
    random_work_problem,
    speeds,
    train,
)
from mowich.estimate import exact
from mowich.fleets.answer import Answer, solve_fleet
from mowich.fleets.check import violations
from mowich.fleets.layout import TIES, Programme
from mowich.fleets.problem import LEAST_PACE, WORK_GOALS, FleetProblem, TaskRates, Workload
from mowich.fleets.programme import formulate
from mowich.fleets.solve import Infeasible, Session, conflict, optimise


def brute_force(programme: Programme) -> float | None:
    """The best over every whole number of every integer variable, the rest by linear programme."""
    places = np.flatnonzero(programme.integer)
    best = None
    session = Session(programme, integer=False)
    for values in product(*(range(int(min(programme.high[c], _most(programme, c))) + 1) for c in places)):
        low, high = programme.low.copy(), programme.high.copy()
        low[places] = high[places] = values
        session.load(replace(programme, low=low, high=high))
        try:
            found = session.run().goals[programme.first]
        except Infeasible:
            continue
        best = found if best is None else min(best, found)
    return best


def _most(programme: Programme, column: int) -> float:
    """The supply of an order."""
    for row, says in enumerate(programme.says):
        entries = slice(programme.starts[column], programme.starts[column + 1])
        if says.kind.startswith("supply") and row in programme.index[entries]:
            return float(programme.row_high[row])
    return 1.0


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("seed", "goal"),
    [
        *((seed, "cost") for seed in range(3)),
        *product((0, 2, 4), WORK_GOALS),
        *(pytest.param(seed, "cost", marks=pytest.mark.slow) for seed in range(3, 6)),
        pytest.param(3, "tokens", marks=pytest.mark.slow),
    ],
)
def test_no_enumeration_beats_the_solver(seed: int, goal: str) -> None:
    rng = np.random.default_rng(seed)
    if goal == "cost":
        problem, rates = random_problem(rng, tasks=1 + seed % 2, systems=2, periods=1, capped=seed % 3 == 0)
    else:
        problem, rates = random_work_problem(rng, goal, tasks=1 + seed % 2, periods=1)
    programme = formulate(problem, rates)
    best = brute_force(programme)
    try:
        found = optimise(programme, gap=0.0).goals[goal]
    except Infeasible:
        assert best is None
        return
    assert best is not None
    assert found == pytest.approx(best, rel=1e-6)


problems = st.integers(0, 10_000).map(
    lambda seed: random_problem(
        np.random.default_rng(seed),
        tasks=1 + seed % 4,
        systems=1 + seed % 3,
        periods=1 + seed % 4,
        capped=bool(seed % 2),
    )
)


@settings(max_examples=40, deadline=None)
@given(problems)
def test_a_plan_passes_the_check_or_the_conflict_is_irreducible(case: tuple[FleetProblem, TaskRates]) -> None:
    problem, rates = case
    answer = solve_fleet(problem, rates)  # raises where the independent check finds a broken rule
    if answer.is_feasible:
        assert answer.bound <= answer.usd * (1 + 1e-6)
        assert answer.gap <= 0.005 + 1e-9
        for vendor in answer.vendors:
            assert vendor.value is None or vendor.value >= answer.bound * (1 - 1e-6)
        return
    programme = formulate(problem, rates)
    rows = conflict(programme)
    assert rows
    for left_out in rows:
        loose = [
            (-np.inf, np.inf) if s == left_out or (s not in rows and s.kind not in TIES) else (lo, hi)
            for s, lo, hi in zip(programme.says, programme.row_low, programme.row_high, strict=True)
        ]
        low, high = map(np.array, zip(*loose, strict=True))
        optimise(replace(programme, row_low=low, row_high=high))  # without any one of them there is a plan


@settings(max_examples=25, deadline=None)
@given(problems, st.sampled_from(["power", "supply", "budget"]))
def test_more_never_costs_more(case: tuple[FleetProblem, TaskRates], what: str) -> None:
    problem, rates = case
    try:
        before = optimise(formulate(problem, rates), integer=False).goals["cost"]
    except Infeasible:
        return
    if what == "power":
        more = replace(problem, sites=tuple(replace(s, cap_W=s.cap_W * 1.5) for s in problem.sites))
    elif what == "supply":
        more = replace(
            problem,
            choices=tuple(
                replace(c, offers=tuple(replace(o, supply=o.supply + 1) for o in c.offers)) for c in problem.choices
            ),
        )
    else:
        more = replace(problem, budget_usd=problem.budget_usd * 2)
    assert optimise(formulate(more, rates), integer=False).goals["cost"] <= before + 1e-9 * abs(before)


@settings(max_examples=20, deadline=None)
@given(problems, st.sampled_from([0.25, 2.0, 10.0]))
def test_faster_chips_do_more_work_for_the_same_money(case: tuple[FleetProblem, TaskRates], times: float) -> None:
    """Chips that are faster by a number do so much more work for the same money."""
    problem, rates = case
    try:
        before = optimise(formulate(problem, rates), integer=False).goals["cost"]
    except Infeasible:
        return
    more = {
        key: replace(rate, tokens_per_s_per_chip=exact(float(rate.tokens_per_s_per_chip) * times, "tok/s"))
        if rate.tokens_per_s_per_chip.value is not None
        else rate
        for key, rate in rates.items()
    }
    grown = replace(problem, workloads=tuple(_grown(w, times) for w in problem.workloads))
    after = optimise(formulate(grown, more), integer=False).goals["cost"]
    assert after == pytest.approx(before, rel=1e-6, abs=1e-6 * abs(before) + 1e-9)


def _grown(workload: Workload, times: float) -> Workload:
    tasks = (replace(t, tokens=t.tokens * times, tokens_per_s=t.tokens_per_s * times) for t in workload.tasks)
    return replace(workload, tasks=tuple(tasks))


# ---- runs without a gap
# ----------------------------------------------------------------------------------------------------------------------


def _runs(seed: int) -> tuple[FleetProblem, TaskRates]:
    """Training alone, in windows of three to five periods, on chips that can be rented for little in some periods and
    for much in all: what has no rule is scattered over the cheap ones."""
    rng = np.random.default_rng(seed)
    periods = int(rng.integers(3, 6))
    run = train(
        "run",
        float(rng.integers(6, 15)) * 50 * LENGTH_S,
        periods,
        0,
        periods - 1,
        one_system=bool(seed % 3 == 0),
        porting={n: float(rng.integers(0, 5)) for n in ("trn2", "h100")},
    )
    cheap = offer("trn2", "rent", float(rng.integers(1, 5)), periods)
    cheap = replace(cheap, supply=rng.integers(0, 2, periods) * 2.0)
    dear = offer("h100", "rent", float(rng.integers(5, 30)), periods, supply=2.0)
    table = speeds({("run", n): float(rng.integers(5, 20)) * 10 for n in ("trn2", "h100")})
    chips = [choice("trn2", periods, cheap), choice("h100", periods, dear)]
    return problem([run], chips, periods, stack_usd=float(rng.integers(0, 2))), table


def _done(problem: FleetProblem, answer: Answer, task: str) -> list[float]:
    """[T] share of a task that is done in each period."""
    return [sum(a.share for a in answer.assign if a.task == task and a.period == t) for t in problem.labels]


def _gaps(done: list[float]) -> list[int]:
    """Periods between the first and the last with work that have next to none."""
    at_work = [t for t, share in enumerate(done) if share > 1e-5]
    return [t for t in range(at_work[0], at_work[-1]) if done[t] < LEAST_PACE * max(done) - 1e-5 and t != at_work[0]]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000).map(_runs))
def test_a_training_run_goes_on_once_it_has_begun(case: tuple[FleetProblem, TaskRates]) -> None:
    problem, rates = case
    answer = solve_fleet(problem, rates)
    if answer.is_feasible:
        [run] = problem.workloads
        done = _done(problem, answer, run.name)
        assert not _gaps(done), done


def _over_intervals(problem: FleetProblem, rates: TaskRates) -> float | None:
    """The least cost over every first and last period of a run, which is no run here but a batch with those rules as
    rows of its own."""
    [run] = problem.workloads
    found = []
    for first in range(run.first, run.last + 1):
        for last in range(first, run.last + 1):
            [task] = run.tasks
            loose = replace(run, kind="batch", first=first, last=last, tasks=(replace(task, kind="batch"),))
            programme = formulate(replace(problem, workloads=(loose,)), rates)
            session = Session(programme, integer=True, gap=0.0)
            speed = {s: float(rates[run.name, s].tokens_per_s_per_chip) for (_, s) in programme.layout.work}
            fullest = session.highs.getNumCol()
            session.highs.addCol(0.0, 0.0, np.inf, 0, np.array([], dtype=np.int32), np.array([]))
            for t in range(first, last + 1):
                columns = [int(c[t]) for c in programme.layout.work.values()]
                shares = [speed[s] * LENGTH_S / task.tokens for (_, s) in programme.layout.work]
                places = np.array([*columns, fullest], dtype=np.int32)
                session.highs.addRow(-np.inf, 0.0, len(places), places, np.array([*shares, -1.0]))
                if first < t < last:
                    session.highs.addRow(0.0, np.inf, len(places), places, np.array([*shares, -LEAST_PACE]))
            session.highs.run()
            if session.highs.getModelStatus() == highspy.HighsModelStatus.kOptimal:
                found.append(programme.amount("cost", session.highs.getInfo().objective_function_value))
    return min(found, default=None)


@pytest.mark.parametrize("seed", range(8))
def test_no_first_and_last_period_beats_the_solver(seed: int) -> None:
    problem, rates = _runs(seed)
    best, found = _over_intervals(problem, rates), solve_fleet(problem, rates, gap=0.0)
    if best is None:
        assert not found.is_feasible
    else:
        assert found.usd == pytest.approx(best, rel=1e-5)


# ---- stacks that work
# ----------------------------------------------------------------------------------------------------------------------


def _paid(problem: FleetProblem, answer: Answer) -> float:
    """What an answer costs where electricity is free and nothing is discounted, from what it says: orders less what is
    not written off, ports and stacks that work."""
    choices = {c.name: c for c in problem.choices}
    stack, of_task = {c.name: c.stack for c in problem.choices}, {t.name: t.workload for t in problem.tasks}
    total = 0.0
    for order in answer.orders:
        offer = next(o for o in choices[order.system].offers if (o.kind, o.site) == (order.kind, order.site))
        used = problem.num_periods - problem.labels.index(order.period) - offer.delay
        total += order.usd * (min(1.0, used / offer.term) if order.kind == "buy" else 1.0)
    ports = {(of_task[a.task], stack[a.system]) for a in answer.assign}
    total += sum(problem.workload(w).porting_usd.get(k, 0.0) for w, k in ports)
    return total + problem.stack_usd * problem.num_periods * len({k for _, k in ports})


@settings(max_examples=25, deadline=None)
@given(problems)
def test_only_what_works_is_kept_and_paid(case: tuple[FleetProblem, TaskRates]) -> None:
    """The stacks of an answer are those of the systems that work, and nobody pays for another one."""
    problem, rates = case
    free = exact(0.0, "USD/J")
    problem = replace(problem, sites=tuple(replace(s, electricity=free) for s in problem.sites))
    for relaxed in (False, True):
        answer = solve_fleet(problem, rates, relaxed=relaxed)
        if not answer.is_feasible:
            return
        stack = {c.name: c.stack for c in problem.choices}
        assert set(answer.stacks) == {stack[a.system] for a in answer.assign}
        if not relaxed:
            assert answer.usd == pytest.approx(_paid(problem, answer), rel=1e-5, abs=1e-4)


# ---- the most work
# ----------------------------------------------------------------------------------------------------------------------

work_problems = st.tuples(st.integers(0, 10_000), st.sampled_from(WORK_GOALS)).map(
    lambda drawn: random_work_problem(
        np.random.default_rng(drawn[0]),
        drawn[1],
        tasks=1 + drawn[0] % 4,
        systems=1 + drawn[0] % 3,
        periods=1 + drawn[0] % 3,
    )
)


@settings(max_examples=20, deadline=None)
@given(work_problems)
def test_the_most_work_is_what_the_check_counts(case: tuple[FleetProblem, TaskRates]) -> None:
    """The check, which shares no code with the solver, counts as much work; one stack alone never does more than the
    bound; later goals cost no work."""
    problem, rates = case
    answer = solve_fleet(problem, rates)  # raises where the check counts something else
    if not answer.is_feasible:
        return
    assert answer.goal == problem.goals[0]
    assert answer.value <= answer.bound * (1 + 1e-6)
    assert answer.gap <= 0.005 + 2e-6
    assert all(v.value is None or v.value <= answer.bound * (1 + 1e-6) for v in answer.vendors)
    assert all(times <= problem.workload(name).most * (1 + 1e-4) for name, times in answer.done.items())
    assert all(times >= 1 - 1e-4 for times in answer.done.values())
    at_work = {(a.task, a.system, problem.labels.index(a.period)): a.chips for a in answer.assign}
    claimed = {answer.goal: 1.01 * answer.value}
    assert any(
        "are claimed" in w for w in violations(problem, rates, orders={}, work=at_work, keeps={}, claimed=claimed)
    )


@settings(max_examples=25, deadline=None)
@given(work_problems, st.sampled_from(["speed", "units", "budget", "welcome"]))
def test_more_never_does_less(case: tuple[FleetProblem, TaskRates], what: str) -> None:
    problem, rates = case

    def value(p: FleetProblem, r: TaskRates) -> float:
        programme = formulate(p, r)
        return programme.amount(programme.first, optimise(programme, integer=False).goals[programme.first])

    try:
        before = value(problem, rates)
    except Infeasible:
        return
    if what == "speed":
        faster = {
            k: replace(r, tokens_per_s_per_chip=r.tokens_per_s_per_chip.scaled(1.5, "1/s")) for k, r in rates.items()
        }
        after = value(problem, faster)
    elif what == "units":
        there = (replace(c, have={s: n + 1 for s, n in c.have.items()}) for c in problem.choices)
        after = value(replace(problem, choices=tuple(there)), rates)
    elif what == "budget":
        after = value(replace(problem, budget_usd=problem.budget_usd * 2), rates)
    else:
        more = (replace(w, most=w.most + 1) for w in problem.workloads)
        after = value(replace(problem, workloads=tuple(more)), rates)
    assert after >= before * (1 - 1e-6)
