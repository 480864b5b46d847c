"""Amounts of the page of a fleet: a goal's value and what a change does to it, in words."""

from __future__ import annotations

from mowich.fleets.problem import WORK_GOALS
from mowich.fleets.solve import GOAL_TIE
from mowich.show.formats import percent
from mowich.shown import Result
from mowich.units import show, sig


def dollars(value: float) -> str:
    """19.7e6 -> "$19.7M"."""
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"${sig(value / scale)}{letter}"
    return f"${sig(value)}"


def amount(goal: str, value: float) -> str:
    """A value of a goal, in words.

    >>> amount("cost", 19.7e6), amount("tokens", 2.394e17), amount("tokens", 3.2e9)
    ('$19.7M', '239,000T tokens', '3.20G tokens')
    """
    if goal in ("cost", "revenue"):
        return dollars(value)
    if goal == "energy":
        return show(value, "J")
    if goal == "tokens":
        for scale, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
            if abs(value) >= scale * 0.9995:
                return f"{_thousands(value / scale)}{letter} tokens"
    return f"{sig(value)} {goal}"


def _thousands(value: float) -> str:
    """Three digits, with thousands apart: 239,412 -> "239,000"."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000 else sig(value)


def is_work(result: Result) -> bool:
    """Whether the first goal is made most."""
    return result.get("goal", "cost") in WORK_GOALS


def dearer(after: float, before: float) -> str:
    """What a change does to a cost: "costs $5.82B more", "costs $1.20k less"; "costs the same" where the two are closer
    than the solver tells plans apart.

    >>> dearer(7.0e9, 1.18e9), dearer(1.0, 1.0 + 2e-16)
    ('costs $5.82B more', 'costs the same')
    """
    if abs(after - before) <= GOAL_TIE * max(abs(after), abs(before)):
        return "costs the same"
    return f"costs {dollars(abs(after - before))} {'more' if after > before else 'less'}"


def does_more(goal: str, after: float, before: float) -> str:
    """What a change does to work that is made most: "does 12,000T tokens more"; "does as much" where the two are closer
    than the solver tells plans apart."""
    if abs(after - before) <= GOAL_TIE * max(abs(after), abs(before)):
        return "does as much"
    return f"does {amount(goal, abs(after - before))} {'more' if after > before else 'less'}"


def mixing(value: float, gap: float, stacks: int, stack: str, alone: float, goal: str = "cost") -> str:
    """What several stacks save over the cheapest one alone, or do beyond the one that does most; nothing where it is
    within what the plan may be away from the best possible."""
    most = goal in WORK_GOALS
    gained = value - alone if most else alone - value
    if gained <= max(gap, GOAL_TIE) * value:
        nothing = "adds nothing" if most else "saves nothing"
        return f"Mixing {nothing} that can be told: {stack} alone is within {percent(max(gap, GOAL_TIE))} of it."
    share = percent(gained / (alone if most else value))
    return (
        f"Mixing {'adds' if most else 'saves'} {amount(goal, gained)} ({share}) over {stack} alone, and keeps"
        f" {stacks} stacks."
    )
