"""Flip points of a fleet: how much a price or a speed must change before another system leads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mowich import progress
from mowich.fleets.layout import Programme
from mowich.fleets.problem import Choice, FleetProblem, TaskRates, Vector
from mowich.fleets.programme import formulate
from mowich.fleets.solve import LEAST_WORK, Infeasible, Session
from mowich.shown import Keyed


def tied_leaders(found: Sequence[Flip]) -> dict[str, str]:
    """Task -> the other system, where they tie today: the leader changes at the first step of a third system's price or
    speed."""
    near = 1.03
    return {f.task: f.after for f in reversed(found) if 1 / near < f.at < near and f.system not in (f.before, f.after)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip(Keyed):
    """A change of a task's leader when one number moves. what: "price" or "speed" of `system`; at: multiple of today's
    value; value: that value (USD per chip-hour, or tokens per second and chip); before, after: the system that does
    most of the task."""

    KEYS = "task system what at value:finite unit before after"

    task: str
    system: str
    what: str
    at: float
    value: float
    unit: str
    before: str
    after: str


_RANGE = 4.0
"""Flip points are searched from a quarter to four times today's value."""


def scaled(
    problem: FleetProblem, rates: TaskRates, system: str, what: str, factor: float
) -> tuple[FleetProblem, TaskRates]:
    """The problem with one system's price, or speed on every task, times a factor."""
    if what == "price":
        choices = tuple(
            (
                replace(c, offers=tuple(replace(o, price=o.price.scaled(factor, o.price.unit)) for o in c.offers))
                if c.name == system
                else c
            )
            for c in problem.choices
        )
        return replace(problem, choices=choices), rates
    moved = {
        k: (
            replace(r, tokens_per_s_per_chip=r.tokens_per_s_per_chip.scaled(factor, r.tokens_per_s_per_chip.unit))
            if k[1] == system
            else r
        )
        for k, r in rates.items()
    }
    return problem, moved


def leaders(programme: Programme, problem: FleetProblem, rates: TaskRates, x: Vector) -> dict[str, str]:
    """Task -> the system that does most of it."""
    out = {}
    chips = {c.name: c.unit_chips for c in problem.choices}
    for task in problem.tasks:
        done = {
            s: float(x[c[c >= 0]].sum()) * chips[s] * float(rates[n, s].tokens_per_s_per_chip)
            for (n, s), c in programme.layout.work.items()
            if n == task.name
        }
        out[task.name] = max(sorted(done), key=lambda s: done[s]) if done and max(done.values()) > LEAST_WORK else ""
    return out


def flips(
    problem: FleetProblem,
    rates: TaskRates,
    *,
    steps: int = 16,
    only_system: str = "",
    what: Sequence[str] = ("price", "speed"),
) -> tuple[Flip, ...]:
    """For each system's price and speed, the nearest multiple, either way, at which a task's leader changes; nearest
    first.

    The relaxation is solved at `steps` factors to either side, and between two that differ at their quarters: a factor
    is known to RANGE^(1 / 4 steps), 2.2%. Systems without an offer have no price to move.
    """
    session = Session(formulate(problem, rates), integer=False)
    out = []
    today = _leaders_at(session, problem, rates, problem.choices[0].name, "speed", 1.0)
    if today is None:
        return ()
    for choice in progress.steps(problem.choices, "looking for flip points"):
        for kind in what:
            if (only_system and choice.name != only_system) or (
                kind == "price" and not any(o.price.value for o in choice.offers)
            ):
                continue
            progress.tell(f"{kind} of {choice.name}")
            for sign in (-1, 1):
                for task, factor, after in _turns(session, problem, rates, choice.name, kind, sign, steps, today):
                    value, unit = _value(choice, rates, task, kind, factor)
                    out.append(
                        Flip(
                            task=task,
                            system=choice.name,
                            what=kind,
                            at=factor,
                            value=value,
                            unit=unit,
                            before=today[task],
                            after=after,
                        )
                    )
    return tuple(sorted(out, key=lambda f: (abs(math.log(f.at)), f.task, f.system, f.what)))


def _leaders_at(
    session: Session, problem: FleetProblem, rates: TaskRates, system: str, what: str, factor: float
) -> dict[str, str] | None:
    """The leader of each task when one number is moved; None without a plan."""
    now, speeds = scaled(problem, rates, system, what, factor)
    programme = formulate(now, speeds)
    session.load(programme)
    try:
        return leaders(programme, now, speeds, session.run().x)
    except Infeasible:
        return None


def _turns(
    session: Session,
    problem: FleetProblem,
    rates: TaskRates,
    system: str,
    what: str,
    sign: int,
    steps: int,
    today: Mapping[str, str],
) -> list[tuple[str, float, str]]:
    """(task, factor, new leader) of every task whose leader changes in one direction from today's value."""
    known: dict[int, dict[str, str] | None] = {0: dict(today)}

    def who(quarter: int) -> dict[str, str] | None:
        if quarter not in known:
            known[quarter] = _leaders_at(
                session, problem, rates, system, what, _RANGE ** (sign * quarter / (4 * steps))
            )
        return known[quarter]

    out: list[tuple[str, float, str]] = []
    left = set(today)
    for step in range(1, steps + 1):
        found = who(4 * step)
        if found is None:
            break
        for task in sorted(k for k in left if found[k] != today[k]):
            left.discard(task)
            nearer = [
                q for q in range(4 * step - 3, 4 * step) if (seen := who(q)) is not None and seen[task] != today[task]
            ]
            at = nearer[0] if nearer else 4 * step
            out.append((task, _RANGE ** (sign * at / (4 * steps)), (who(at) or found)[task]))
    return out


def _value(choice: Choice, rates: TaskRates, task: str, what: str, factor: float) -> tuple[float, str]:
    if what == "price":
        offer = min(choice.offers, key=lambda o: (o.kind != "rent", float(o.price)))
        return (
            (float(offer.price) * 3600 * factor, "USD/chip/h")
            if offer.kind == "rent"
            else (float(offer.price) * factor, "USD/unit")
        )
    rate = rates.get((task, choice.name))
    return (
        (
            float(rate.tokens_per_s_per_chip) * factor
            if rate is not None and rate.tokens_per_s_per_chip.value is not None
            else math.nan
        ),
        "tokens/s/chip",
    )
