"""Fleets on random small problems: every plan passes the independent check, no enumeration beats it, more of anything
never costs more."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_problems import random_problem
from mowich.estimate import exact
from mowich.fleets.answer import solve_fleet
from mowich.fleets.layout import TIES, Programme
from mowich.fleets.problem import FleetProblem, TaskRates, Workload
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
            found = session.run().goals["cost"]
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


@pytest.mark.parametrize("seed", range(6))
def test_no_enumeration_beats_the_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem, rates = random_problem(rng, tasks=1 + seed % 2, systems=2, periods=1, capped=seed % 3 == 0)
    programme = formulate(problem, rates)
    best = brute_force(programme)
    try:
        found = optimise(programme, gap=0.0).goals["cost"]
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
