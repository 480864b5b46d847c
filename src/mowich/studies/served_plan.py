"""The best deployments of one system: the question of `mowich plan --serve`."""

from __future__ import annotations

from dataclasses import replace

from mowich.launch.emitted import runs_plan
from mowich.machines.system import resolve
from mowich.requests.jobs import PlanRequest
from mowich.shown import Rows
from mowich.studies.random_arrivals import random_arrivals
from mowich.studies.runnable import runnable
from mowich.studies.serving_plan import ServeResult, plan_serving


def served_plan(asked: PlanRequest) -> ServeResult:
    """The best deployments, the one to take first, each under random arrivals too. Where a program has to run them,
    those that it can run, with what that costs. Raises UserError where it can run none."""
    found, program = plan_serving(asked, prefer=True), asked.emit
    if program is None:
        return replace(found, rows=Rows(replace(row, arrivals=random_arrivals(asked, row)) for row in found.rows))
    system, engine = resolve(asked.facts, asked.systems[0], chips=asked.chips), found.rows[0].engine
    rows, compromise = runnable(
        found.rows,
        program,
        lambda row: row.tokens_per_s_per_chip.value,
        lambda: plan_serving(asked, prefer=True, runs=lambda one: runs_plan(program, one, system, engine)).rows,
    )
    return replace(found, rows=rows, compromise=compromise)
