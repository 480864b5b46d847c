"""`mowich fit`: does a training job fit on a system, what takes the memory, and how few chips would do.

Memory only: no plan is timed here. Counts tried are powers of two inside a scale-up unit, the unit, and doublings of
it; "smallest" is the smallest of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mowich.errors import EXIT_INFEASIBLE, UserError, or_infeasible
from mowich.machines.system import System
from mowich.models.model import Model, as_trained
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import CATEGORIES, host_memory_B, memory_B
from mowich.plans.memory_range import MemoryNeed, memory_need, usable_B
from mowich.plans.plan import Plan, TrainJob
from mowich.requests.jobs import FitRequest
from mowich.shown import Shown
from mowich.software.stack import Platform, equip
from mowich.sums import float_sum
from mowich.training.step import micro_batches_of
from mowich.units import show_gib

MAX_TRIED = 65536
"""Largest count tried in the search for the smallest that fits, unless more chips were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitAnswer(Shown):
    """Whether something fits on a system. fits: None where the range of the memory itself decides; capacity_B: what a
    program may use of a device; largest_tried: chips."""

    SCHEMA = "mowich/fit@1"

    inputs: Mapping[str, object]
    system_id: str
    display: str
    chips: int
    devices_per_chip: int
    fits: bool | None
    capacity_B: float
    largest_tried: int
    reason: str | None = None


def largest_part(memory_B: Mapping[str, float]) -> str:
    """The category that takes the most memory.

    >>> largest_part({"weights": 2.0, "kv": 3.0}), largest_part({})
    ('kv', 'no legal plan')
    """
    return max(memory_B, key=lambda k: memory_B[k]) if memory_B else "no legal plan"


def range_decides(low_B: float, high_B: float) -> str:
    """Why nobody can say whether something fits: the ends of what a device has."""
    return f"a device has {show_gib(low_B)} to {show_gib(high_B)}: the facts have no one figure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit(FitAnswer):
    """plan, memory_B: the legal plan with the least memory per device; need: its range, and the chance of running out;
    smallest_chips: None when no count that was tried fits."""

    KEYS = (
        "inputs system_id display chips devices_per_chip fits reason plan memory_B memory_capacity_B=capacity_B "
        "**need binds smallest_chips largest_tried notes"
    )

    plan: Plan | None
    memory_B: Mapping[str, float]
    need: MemoryNeed | None
    smallest_chips: int | None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def binds(self) -> str:
        """The category that takes the most memory."""
        return largest_part(self.memory_B)


def least_memory(
    model: Model, system: Platform, job: TrainJob, fixed: Mapping[str, Sequence[int | str]]
) -> tuple[Plan, dict[str, float]]:
    """The legal plan with the least memory per device whose offloads the host holds. Raises UserError (exit 3) when
    there is none."""
    plans = legal_plans(model, system, job, fixed).plans
    g = micro_batches_of(job, plans)
    parts = memory_B(model, system, job, plans, g)
    held = (plans.offload == 0) | (host_memory_B(model, system, job, plans, g) <= system.host_B)
    if not np.any(held):
        raise UserError("what is offloaded does not fit in the memory of the host", code=EXIT_INFEASIBLE)
    i = int(np.argmin(np.where(held, np.sum(list(parts.values()), axis=0), np.inf)))
    return plans.plan(i), {k: float(parts[k][i]) for k in CATEGORIES}


def counts(system: System, limit: int) -> Iterator[int]:
    """Chip counts to try, ascending: powers of two below the unit, the unit, its doublings."""
    chips = 1
    while chips < min(system.chips_per_unit, limit + 1):
        yield chips
        chips *= 2
    chips = system.chips_per_unit
    while chips <= min(limit, system.max_chips):
        yield chips
        chips *= 2


def fit(asked: FitRequest) -> Fit:
    """Whether a training job fits on a system (its size, `chips`, or one scale-up unit), and the smallest count that
    does."""
    facts, train, fixed, spec = asked.facts, asked.train_job, asked.fixed, asked.systems[0]
    model = as_trained(asked.model)
    system = equip(facts, spec, chips=asked.chips, stack=asked.stack)
    low, _, high = usable_B(facts, system)
    plan: Plan | None = None
    memory: Mapping[str, float] = {}
    reason: str | None = None
    fits: bool | None = False
    found = or_infeasible(least_memory, model, system, train, fixed)
    if isinstance(found, UserError):
        reason = found.line()
    else:
        plan, memory = found
        need = float_sum(memory.values())
        fits = True if need <= low else None if need <= high else False
        if fits is None:
            reason = range_decides(low, high)
        elif not fits:
            reason = f"{show_gib(need - high)} short"
    limit = max(MAX_TRIED, system.chips)
    smallest = None
    for count in counts(system, limit):
        found = or_infeasible(least_memory, model, replace(system, chips=count), train, fixed)
        if not isinstance(found, UserError) and float_sum(found[1].values()) <= low:
            smallest = count
            break
    if fits and (smallest is None or smallest > system.chips):
        smallest = system.chips
    inputs = {
        **asked.model.inputs(),
        **train.inputs(),
        "systems": [{"system": spec, "id": system.id, "chips": system.chips, "stack": system.stack.name}],
        "fixed": {k: list(v) for k, v in fixed.items()},
    }
    return Fit(
        inputs=inputs,
        system_id=system.id,
        display=system.display,
        chips=system.chips,
        devices_per_chip=system.devices_per_chip,
        fits=fits,
        plan=plan,
        memory_B=memory,
        capacity_B=high if fits is None else low,
        need=memory_need(facts, system, plan, memory) if plan else None,
        smallest_chips=smallest,
        largest_tried=limit,
        reason=reason,
    )
