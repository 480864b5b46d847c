"""A fleet's programme solved with HiGHS: `optimise` takes one goal after another (lexicographic), `conflict` says why
there is no plan. Nothing here knows how an answer is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import highspy
import numpy as np

from mowich.errors import UserError
from mowich.fleets.layout import TIES, Programme, Says
from mowich.fleets.problem import WORK_GOALS, FleetProblem, Vector

GOAL_TIE = 1e-6
"""A later goal may worsen an earlier one by this share, no more."""

LEAST_WORK = 1e-6
"""A smaller part of a unit at work is only the solver's tolerance."""

_SEARCHED_PER_S = 1e6
"""Nodes of a search times (rows + columns) that an idle core searches in a second: 0.85 million for the largest
programmes tried, 2.8 million for the smallest."""


def most_nodes(programme: Programme, time_limit_s: float) -> int:
    """The number of nodes, at least one, that a search takes in about this many seconds.

    This count stops a search, never a clock, so that a busy machine finds the same as an idle one.
    """
    size = len(programme.low) + len(programme.row_low)
    return int(min(max(1.0, time_limit_s * _SEARCHED_PER_S / size), np.iinfo(np.int32).max))


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """x: the variables; goals: value of each goal, minimised, in the programme's units; bound, gap: of the first goal;
    duals: of the first goal per unit of each row's right-hand side."""

    status: str
    x: Vector
    goals: Mapping[str, float]
    bound: float
    gap: float
    duals: Vector = field(default_factory=lambda: np.zeros(0))


class Infeasible(Exception):
    """No plan meets every constraint."""


class Session:
    """A programme inside HiGHS, solved again and again from the last basis. Mutable; lives inside one study.

    time_limit_s: of a whole-number search, counted in its nodes (`most_nodes`).
    """

    def __init__(
        self, programme: Programme, *, integer: bool, gap: float = 0.005, time_limit_s: float = 60.0, goal: str = ""
    ) -> None:
        self.programme = programme
        self.integer = integer and bool(programme.integer.any())
        self.highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        self.highs.silent()
        for option, value in (
            ("output_flag", False),
            ("mip_rel_gap", gap),
            ("mip_max_nodes", most_nodes(programme, time_limit_s)),
            ("random_seed", 0),
            ("threads", 1),
        ):
            self.highs.setOptionValue(option, value)
        self.load(programme, goal)

    def load(self, programme: Programme, goal: str = "") -> None:
        """Take another programme of the same shape; the basis stays. goal: "" for the programme's first."""
        goal = goal or programme.first
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(programme.low), len(programme.row_low)
        lp.col_cost_, lp.offset_ = programme.goals[goal], programme.offset[goal]
        lp.col_lower_, lp.col_upper_ = programme.low, programme.high
        lp.row_lower_, lp.row_upper_ = programme.row_low, programme.row_high
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = (
            programme.starts,
            programme.index,
            programme.value,
        )
        if self.integer:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            lp.integrality_ = [kinds[int(i)] for i in programme.integer]
        basis = self.highs.getBasis() if self.programme is not programme else None
        self.programme = programme
        self.highs.passModel(lp)
        if basis is not None and basis.valid and not self.integer:
            self.highs.setBasis(basis)

    def costs(self, cost: Vector) -> None:
        self.highs.changeColsCost(len(cost), np.arange(len(cost), dtype=np.int32), cost)

    def upper(self, high: Vector) -> None:
        """Sets other upper bounds of the columns; 0 forbids a column."""
        self.highs.changeColsBounds(len(high), np.arange(len(high), dtype=np.int32), self.programme.low, high)

    def run(self) -> Solution:
        """Solve. Raises Infeasible; KeyboardInterrupt goes through."""
        self.highs.run()
        status = self.highs.getModelStatus()
        if status == highspy.HighsModelStatus.kUnknown:  # the last basis can mislead the solver: start afresh
            self.highs.clearSolver()
            self.highs.run()
            status = self.highs.getModelStatus()
        words = self.highs.modelStatusToString(status)
        if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
            raise Infeasible
        info, solution = self.highs.getInfo(), self.highs.getSolution()
        limit = highspy.HighsModelStatus.kSolutionLimit  # HiGHS's status when its nodes run out
        if status not in (highspy.HighsModelStatus.kOptimal, limit) or not solution.value_valid:
            raise UserError(f"the solver stopped without a plan: {words}", fix="a longer --time-limit may help")
        x = np.array(solution.col_value)
        goals = {name: float(vector @ x) + self.programme.offset[name] for name, vector in self.programme.goals.items()}
        bound = float(info.mip_dual_bound) if self.integer else float(info.objective_function_value)
        gap = float(info.mip_gap) if self.integer else 0.0
        duals = np.array(solution.row_dual) if not self.integer else np.zeros(0)
        return Solution(
            status="optimal" if status == highspy.HighsModelStatus.kOptimal else "time limit",
            x=x,
            goals=goals,
            bound=bound,
            gap=max(0.0, gap),
            duals=duals,
        )


def only(programme: Programme, problem: FleetProblem, stacks: Sequence[str]) -> Vector:
    """Upper bounds of the columns when work may run on these stacks alone."""
    high = programme.high.copy()
    stack = {c.name: c.stack for c in problem.choices}
    for (_, s), columns in programme.layout.work.items():
        if stack[s] not in stacks:
            high[columns[columns >= 0]] = 0.0
    return high


def optimise(
    programme: Programme,
    *,
    goals: Sequence[str] = (),
    integer: bool = True,
    gap: float = 0.005,
    time_limit_s: float = 60.0,
    high: Vector | None = None,
) -> Solution:
    """The best plan by the first goal, and among the plans that keep it (within `GOAL_TIE`) the best by the next goals.

    goals: the programme's first where there are none. gap: relative, of the integer programme of the first goal. Later
    goals improve the plan found: `stacks` leaves out every stack that can go; the next behind a goal of work, which
    pays for nothing, chooses the whole numbers again; any other keeps the whole numbers and moves the rest. Ports and
    stacks that no work needs are dropped. Raises Infeasible.
    """
    goals = goals or (programme.first,)
    limits = programme.high if high is None else high
    session = Session(programme, integer=integer, gap=gap, time_limit_s=time_limit_s, goal=goals[0])
    session.upper(limits)
    first = best = session.run()
    low = programme.low
    kept: list[tuple[Vector, float]] = []
    for before, goal in pairwise(goals):
        value = best.goals[before]
        kept.append((programme.goals[before], value - programme.offset[before] + GOAL_TIE * max(1.0, abs(value))))
        if goal == "stacks" and integer:
            best, limits = _fewer_stacks(programme, best, limits, kept, gap, time_limit_s)
            continue
        if integer and before in WORK_GOALS:
            with suppress(Infeasible, UserError):  # else the plan found stays, possibly too dear
                best = _under(
                    programme, limits, kept, goal, integer=True, gap=gap, time_limit_s=time_limit_s, near=best.x
                )
            continue
        if integer:
            whole = np.where(programme.integer, np.round(best.x), np.nan)
            low, limits = np.where(programme.integer, whole, programme.low), np.where(programme.integer, whole, limits)
        try:
            found = _under(
                replace(programme, low=low), limits, kept, goal, integer=False, gap=gap, time_limit_s=time_limit_s
            )
        except (Infeasible, UserError):  # rounding within the solver's tolerance left no room: the plan found stays
            break
        best = found
    if integer:
        best = _without_needless(programme, best)
    gap = gap_between(best.goals[goals[0]], first.bound)
    return replace(best, status=first.status, bound=first.bound, gap=gap, duals=first.duals)


def gap_between(value: float, bound: float) -> float:
    """How far a minimised value is above its bound, as a share of the value; 0 for a value of 0."""
    return max(0.0, value - bound) / abs(value) if value else 0.0


def _without_needless(programme: Programme, found: Solution) -> Solution:
    """The same plan without ports that no work uses and stacks that no port needs: nobody pays for them."""
    at, x = programme.layout, found.x.copy()
    for key, column in at.keeps.items():
        if x[at.ports[key]].max(initial=0.0) <= LEAST_WORK / 10:  # a negligible amount
            x[at.ports[key]] = x[column] = 0.0
    for stack, column in at.stacks.items():
        x[column] = max((x[c] for (_, k), c in at.keeps.items() if k == stack), default=0.0)
    goals = {name: float(vector @ x) + programme.offset[name] for name, vector in programme.goals.items()}
    return replace(found, x=x, goals=goals)


Kept = Sequence[tuple[Vector, float]]
"""(cost vector of a goal, most that it may be)"""


def _under(
    programme: Programme,
    high: Vector,
    kept: Kept,
    goal: str,
    *,
    integer: bool,
    gap: float,
    time_limit_s: float,
    near: Vector | None = None,
) -> Solution:
    """The best by a goal under bounds on other goals. near: a first plan that keeps them."""
    session = Session(programme, integer=integer, gap=gap, time_limit_s=time_limit_s, goal=goal)
    session.upper(high)
    for vector, most in kept:
        places = np.flatnonzero(vector)
        session.highs.addRow(-np.inf, most, len(places), places.astype(np.int32), vector[places])
    if near is not None:
        start = highspy.HighsSolution()
        start.col_value = near.tolist()
        session.highs.setSolution(start)
    return session.run()


def _fewer_stacks(
    programme: Programme, best: Solution, high: Vector, kept: Kept, gap: float, time_limit_s: float
) -> tuple[Solution, Vector]:
    """Leave out each stack in turn where the goals so far allow it; the relaxation says no quickly."""
    for column in programme.layout.stacks.values():
        if best.x[column] < 0.5:
            continue
        fewer = high.copy()
        fewer[column] = 0.0
        try:
            for integer in (False, True):
                found = _under(programme, fewer, kept, "cost", integer=integer, gap=gap, time_limit_s=time_limit_s)
        except (Infeasible, UserError):
            continue
        best, high = found, fewer
    return best, high


def _without_plan(session: Session, programme: Programme, kept: Sequence[int], loosened: set[int]) -> bool:
    """Whether a programme has no plan with the rows `loosened` free and the rows `kept` as they are."""
    for number in loosened:
        session.highs.changeRowBounds(number, -np.inf, np.inf)
    for number in kept:
        session.highs.changeRowBounds(number, programme.row_low[number], programme.row_high[number])
    try:
        session.run()
    except Infeasible:
        return True
    return False


def conflict(programme: Programme) -> tuple[Says, ...]:
    """A smallest set of constraints that cannot hold together, as rows of the programme (irreducible: without any one
    of them there is a plan).

    Groups of rows (a site's power, a system's supply, a workload's demand) are left out one after another; what cannot
    be left out without a plan appearing is part of the conflict. Several orders are tried and the smallest set is kept.
    The groups are then reduced in the same way, period by period. Rows that only tie variables together (use, capacity,
    ports) always stay.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for number, says in enumerate(programme.says):
        if says.kind not in TIES:
            groups.setdefault(says.group, []).append(number)
    session = Session(programme, integer=False)
    session.costs(np.zeros(len(programme.low)))
    integer: Session | None = None

    def impossible(kept: Sequence[int], loosened: set[int]) -> bool:
        """Whether these rows have no plan, in fractions of units or, where that was asked for, in whole ones."""
        sessions = [session] if integer is None else [session, integer]
        return any(_without_plan(one, programme, kept, loosened) for one in sessions)

    def irreducible(parts: list[list[int]], rest: set[int]) -> list[list[int]]:
        kept = list(parts)
        for part in parts:
            trial = [p for p in kept if p is not part]
            loosened = rest | {n for p in parts if p not in trial for n in p}
            if impossible([n for p in trial for n in p], loosened):
                kept = trial
        return kept

    everything = [n for rows in groups.values() for n in rows]
    if not impossible(everything, set()):  # impossible only in whole units
        integer = Session(programme, integer=True, time_limit_s=20.0)
        integer.costs(np.zeros(len(programme.low)))
        if not impossible(everything, set()):
            return ()
    parts = list(groups.values())
    found = min((irreducible(order, set()) for order in (parts, parts[::-1], sorted(parts, key=len))), key=len)
    outside = set(everything) - {n for part in found for n in part}
    rows = irreducible([[n] for part in found for n in part], outside)
    return tuple(programme.says[n] for part in rows for n in part)
