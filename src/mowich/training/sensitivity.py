"""Uncertain facts at the ends of their ranges, all in one system: numbers that differ become columns, and one
evaluation of a step gives all moves.

A fact that changes something a formula branches on, and not only a number that it computes with, is evaluated by itself
(fields that are declared with `software.stack.branches`; texts and lists always). What is
stacked depends on the facts and the machine, not on the job or the number of chips, and is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import numpy as np

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.facts import Fact, Facts, Watched
from mowich.facts.load import once_for
from mowich.facts.moves import nudges
from mowich.models.model import Model
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform, equip
from mowich.training.step import step_time

Moves = tuple[tuple[str, float, float], ...]


class _Differs(Exception):
    """Two systems differ in more than numbers."""


def stack(systems: Sequence[Platform]) -> Platform:
    """One system whose numbers that differ are columns of shape [k, 1], one row a system. Raises `_Differs` where
    something else differs."""
    made = _stack(systems)
    assert isinstance(made, Platform)
    return made


def _stack(values: Sequence[object], name: str = "", decides: bool = False) -> object:
    """decides: the field decides which formula is taken, and may not differ."""
    first = values[0]
    if all(v is first or v == first for v in values):
        return first
    if decides or any(type(v) is not type(first) for v in values):
        raise _Differs(name)
    if isinstance(first, float):
        return np.array(values)[:, None]
    if is_dataclass(first):
        columns = {
            f.name: _stack([getattr(v, f.name) for v in values], f.name, f.metadata.get("branches", False))
            for f in fields(first)
        }
        return replace(first, **columns)  # type: ignore[type-var]
    if isinstance(first, Mapping):
        maps = [v for v in values if isinstance(v, Mapping) and v.keys() == first.keys()]
        if len(maps) == len(values):
            return {key: _stack([v[key] for v in maps], key) for key in first}
    if isinstance(first, tuple):
        rows = [v for v in values if isinstance(v, tuple) and len(v) == len(first)]
        if len(rows) == len(values):
            return tuple(_stack(column) for column in zip(*rows, strict=True))
    raise _Differs(name)


def _unbounded(system: Platform) -> Platform:
    """The system without how many chips its network can join: a step takes the same time on two that are alike in all
    else."""
    levels = tuple(replace(x, devices=0) if x.is_network else x for x in system.levels)
    return replace(system, max_chips=0, levels=levels)


@dataclass(frozen=True, slots=True)
class Ends:
    """moved: (fact path, which of its ways) of each row of `stacked`, whose row 0 is the system as it is; alone: those
    that do not stack, each with its system."""

    stacked: Platform
    moved: tuple[tuple[str, int], ...]
    alone: tuple[tuple[str, int, Platform], ...]


Ways = Callable[[Fact], Sequence[float]]
"""The values that a fact is moved to."""


def ends_of_range(fact: Fact) -> Sequence[float]:
    """Both ends of a range. Training constants of grade C were fitted to measured steps: their error is in the residual
    and is not counted twice."""
    is_fitted = fact.path.startswith(("devices.", "training.")) and fact.grade == "C"
    return () if is_fitted or fact.low is None or fact.high is None or fact.low == fact.high else (fact.low, fact.high)


@once_for(32)
def ends(facts: Facts, system_id: str, stack_name: str | None, ways: Ways = ends_of_range) -> Ends:
    """Every fact that a system was made of, at every value of its ways that differs from its own."""
    watched = Watched(facts)
    base = equip(watched, system_id, stack=stack_name)
    rows, moved, alone, unbounded = [base], [], [], _unbounded(base)
    for path, fact in facts.found((*base.paths.values(), *watched.asked)).items():
        for way, value in enumerate(ways(fact)):
            if value == fact.value:
                continue
            try:
                system = equip(facts.with_values({path: value}), system_id, stack=stack_name)
            except (UserError, ZeroDivisionError):  # what the fact cannot be
                continue
            system = replace(system, paths=base.paths, is_estimated=base.is_estimated)
            if _unbounded(system) == unbounded:
                continue
            try:
                stack([base, system])
            except _Differs:
                alone.append((path, way, system))
            else:
                rows.append(system)
                moved.append((path, way))
    return Ends(stack(rows), tuple(moved), tuple(alone))


def noted_on(evaluate: Callable[[Platform, Notes], object], system: Platform, facts: Facts) -> Notes:
    """`facts.moves.noted` of an evaluation on a machine, in one evaluation of all moves that stack. facts: those that
    the machine is made of."""
    found = ends(facts, system.id, system.stack.name, nudges)
    notes = Notes([path for path, _ in found.moved])
    evaluate(replace(found.stacked, chips=system.chips), notes)
    for path, _, moved in found.alone:
        own = Notes()
        evaluate(replace(moved, chips=system.chips), own)
        notes.learn(path, own)
    return notes.with_facts()


def moved_numbers(
    evaluate: Callable[[Platform], Sequence[float] | np.ndarray], found: Ends, chips: int
) -> tuple[float, dict[tuple[str, int], float]]:
    """(a number of the machine as it is, what it is under each move by (fact path, which of its ways)), in one
    evaluation of all moves that stack."""
    column = np.ravel(evaluate(replace(found.stacked, chips=chips)))  # a single number where no row moves it
    first, *rest = np.broadcast_to(column, (1 + len(found.moved),)).tolist()
    out = dict(zip(found.moved, rest, strict=True))
    for path, way, system in found.alone:
        out[path, way] = float(np.ravel(evaluate(replace(system, chips=chips)))[0])
    return first, out


def moves(
    model: Model,
    job: TrainJob,
    plan: Plan,
    *,
    facts: Facts,
    system_id: str,
    chips: int,
    stack_name: str | None,
    least: float = 1e-4,
) -> Moves:
    """(fact path, change of ln seconds per token at its low end, at its high end) of a fixed plan, largest first;
    changes below `least` are left out."""
    plans = Plans.of([plan])

    def per_token(system: Platform) -> np.ndarray:
        step = step_time(model, system, job, plans)
        return np.asarray(step.total_s / step.tokens)

    now, moved = moved_numbers(per_token, ends(facts, system_id, stack_name), chips)
    change: dict[str, list[float]] = {}
    for (path, is_high), time in moved.items():
        change.setdefault(path, [0.0, 0.0])[is_high] = math.log(time) - math.log(now)
    out = [(path, low, high) for path, (low, high) in change.items() if max(abs(low), abs(high)) > least]
    return tuple(sorted(out, key=lambda item: -max(abs(item[1]), abs(item[2]))))
