"""What binds a plan: the part that takes most of the step, and why a plan does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.plans.memory import CATEGORIES
from mowich.plans.memory_range import chance_to_fit
from mowich.software.stack import Platform
from mowich.sums import float_sum
from mowich.training.parts import PARTS_OF_STEP, bound_by
from mowich.units import show_gib

if TYPE_CHECKING:
    from mowich.training.search import Candidate, Search

TOLD_CHANCE = 0.05
"""Chance from which it is told that a plan may run that does not fit, or that one may run out of memory that does."""


_BINDS = bound_by(PARTS_OF_STEP, lambda part: part.binds)
"""What a step is said to be bound by: the group of parts with the largest share; software and jitter scale all
alike."""


def binds(candidate: Candidate, found: Search) -> str:
    """What limits the plan: memory, when a plan that does not fit would be over 8% faster; else the largest group of
    parts."""
    if found.unconstrained_s_per_token < candidate.seconds_per_token / 1.08:
        return "hbm capacity"
    shares = {name: float_sum(candidate.parts[part] for part in parts) for name, parts in _BINDS.items()}
    return max(shares, key=lambda name: shares[name])


def does_not_fit(found: Search, system: Platform) -> str:
    """The reason of an infeasible row: by how much, and of what."""
    least = found.smallest_B
    short = float_sum(least.values()) - system.hbm_usable_B
    parts = ", ".join(f"{name} {least[name] / 2**30:.1f}" for name in CATEGORIES)
    chance = chance_to_fit(system, least)
    all_the_same = f"; the chance that it runs all the same is {chance:.0%}" if chance >= TOLD_CHANCE else ""
    return (
        f"does not fit: {show_gib(short)} short per device at best ({parts}; usable {system.hbm_usable_B / 2**30:.1f})"
        f"{all_the_same}"
    )
