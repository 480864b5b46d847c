"""Bundles of what a fleet's answer assigns in one period: a folder for each task on each system."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.fleets.answer import Assignment
from mowich.fleets.problem import FleetTask, Rate
from mowich.launch.origin import LaunchedRow
from mowich.plans.plan import FIXABLE
from mowich.requests.jobs import PLAN
from mowich.studies.fleet import Fleet
from mowich.studies.job_answers import plans_of_one

_SERVED = {"tp": "tp", "pp": "pp", "dp": "dp", "cp": "cp", "ep": "ep", "precision": "weights", "kv": "kv"}
"""Field of a worker's plan -> how a question of serving fixes it."""
_NEAR = 0.02
"""Shares of the speed by which a plan that is solved again may lie off the speed of the rates."""

_ROUNDED = 1e-6
"""Of a copy of a plan: what a sum of floats may lie above a whole number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBundle:
    """One assignment. folder: of its bundle, "" where none was written; said: what it is, or why there is none."""

    task: str
    system: str
    folder: str
    said: tuple[str, ...]

    def line(self) -> str:
        """One line, with what is to be told below it."""
        first, *rest = self.said
        where = f"{self.folder}: {first}" if self.folder else f"{self.task} on {self.system} is not written: {first}"
        return "\n".join([where, *(f"  note: {text}" for text in rest)])


def write_fleet_bundles(
    found: Fleet, program: str, folder: Path, period: str | None, facts: Facts
) -> list[FleetBundle]:
    """Write a bundle for each assignment of a period, in sub-folders. program: as `--emit` takes it; period: its label,
    None: each assignment in the first period that has it. Raises UserError for a label that no period has, and where
    the program runs nothing of the period."""
    if period is not None and period not in found.problem.labels:
        raise unknown("period", period, found.problem.labels, field="period")
    assigned = assigned_in(found.answer.assign, period)
    out = [_written(found, one, program, folder, facts) for one in assigned]
    if not any(one.folder for one in out):
        why = out[0].said[0] if out else "nothing runs"
        raise UserError(f"{program} runs no work of {period or 'any period'}: {why}", field="emit", given=program)
    return out


def assigned_in(assign: Sequence[Assignment], period: str | None) -> list[Assignment]:
    """The assignments of a period, each task and system once; where no period is named, the first of each over all."""
    chosen: dict[tuple[str, str], Assignment] = {}
    for one in assign:
        if one.chips > 0 and period in (None, one.period):
            chosen.setdefault((one.task, one.system), one)
    return list(chosen.values())


def _written(found: Fleet, one: Assignment, program: str, folder: Path, facts: Facts) -> FleetBundle:
    """The bundle of one assignment, or why there is none."""
    task = next(t for t in found.problem.tasks if t.name == one.task)
    rate = found.rates[one.task, one.system]
    name = f"{one.task}-on-{one.system}".replace("/", "-").replace(" ", "-")
    try:
        row, notes = _row(task, rate, _system(found, one), program, facts)
        row.written_bundle(program, folder / name)
    except UserError as error:
        if error.field == "out":
            raise
        return FleetBundle(task=one.task, system=one.system, folder="", said=(str(error),))
    said = f"{one.task} on {one.system} in {one.period}, {one.chips:.3g} chips on average"
    if rate.chips:
        copies = math.ceil(one.chips / rate.chips - _ROUNDED)
        said += f"; the plan is of {rate.chips}" + (f", so {copies} of these" if copies > 1 else "")
    return FleetBundle(task=one.task, system=one.system, folder=str(folder / name), said=(said, *notes))


def _system(found: Fleet, one: Assignment) -> str:
    return next(c for c in found.problem.choices if c.name == one.system).system.id


def _row(task: FleetTask, rate: Rate, system: str, program: str, facts: Facts) -> tuple[LaunchedRow, list[str]]:
    """(the row with the plan that a speed was predicted with, what to tell of it). Raises UserError where the program
    cannot run it."""
    does = str(task.ask["do"])
    if does in ("rollouts", "updates"):
        raise UserError("it is a part of reinforcement learning, which mowich rl plans", field="emit", given=program)
    model = str(task.ask["model"])
    if does == "train":
        train = {key: task.ask[key] for key in ("tokens", "seq", "batch")}
        fixed = {key: str(value).casefold() for key, value in rate.plan.items() if key in FIXABLE}
        asked = {"train": train, "fixed": fixed}
        notes = [] if rate.plan else ["the rates hold no plan of it: this one was solved again"]
    else:
        serve = {key: task.ask[key] for key in ("isl", "osl", "ttft", "tpot") if key in task.ask}
        serve |= {"engine": rate.engine} if rate.engine else {}
        fixed, notes = _served_fixed(rate.plan)
        asked = {"serve": serve, "fixed": fixed}
    one = PLAN.of(facts, model=model, on=system, chips=rate.chips or None, top=1, **asked)
    row = plans_of_one(one).rows[0]
    assert isinstance(row, LaunchedRow)
    if getattr(row, "feasible", True) is False:
        reason = str(getattr(row, "reason", "")) or "no plan fits"
        raise UserError(f"its plan does not run with these facts: {reason}", field="emit", given=program)
    return row, [*notes, *_moved(row, rate, does)]


def _served_fixed(stated: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """(what fixes the plan of serving that a rate states, what it leaves open)."""
    if not stated:
        return {}, ["the rates hold no plan of it: this one was solved again"]
    mode = str(stated.get("mode", "aggregated"))
    if mode != "aggregated":
        return {"mode": mode}, ["the rates hold the plan of decode alone: this one was solved again, with prefill"]
    fixed = {name: str(stated[field]) for field, name in _SERVED.items() if field in stated}
    return {"mode": mode, **fixed}, []


def _moved(row: LaunchedRow, rate: Rate, does: str) -> list[str]:
    """A line where the forecast of the bundle is not the speed that the fleet was planned with."""
    stated = row.to_dict()
    speed = _value(stated, "tokens_per_s_per_chip")
    if does == "train" and speed is not None:
        used, idle = float(str(stated["chips_used"])), float(str(stated["chips_idle"]))
        speed *= (_value(stated, "goodput") or 1.0) * used / (used + idle)
    known = rate.tokens_per_s_per_chip.value
    if speed is None or known is None or math.isclose(speed, known, rel_tol=_NEAR):
        return []
    return [f"its forecast is {speed / known - 1:+.0%} off the speed of the rates: --rates-out renews them"]


def _value(stated: Mapping[str, object], name: str) -> float | None:
    """The value of a number of a row."""
    data = stated.get(name)
    return data.get("value") if isinstance(data, Mapping) else None
