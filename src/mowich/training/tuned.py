"""A training step with hand-tuned kernels: the plan and its network as they are, operators by the tables of our own
kernels, software that adds nothing.

The other end of the framework-to-kernel factor: what a step with the software as shipped takes, over this, is what the
software costs. Only Trainium has such tables; on other chips operators were measured with the software that ships.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mowich.estimate import Notes
from mowich.models.model import Model
from mowich.operators.kernels import Kernels
from mowich.operators.tables import devices_per_chip
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import TUNED, Platform
from mowich.sums import float_sum
from mowich.training.step import OneStep, step_time

MARK = 1e-4
"""Relative change of the kernels' times whose effect on the step says which share of it they are."""


def has_kernels(system: Platform) -> bool:
    """Whether a hand-tuned step is shown beside the one as shipped: kernels are timed for its chips, on devices of as
    many cores."""
    return bool(system.kernel_language) and system.devices_per_chip == devices_per_chip(system.chip)


def hand_tuned(system: Platform) -> Platform:
    """The same machine with software that adds nothing to its operators."""
    return replace(
        system,
        stack=replace(system.stack, name=f"{system.stack.name}{TUNED}", speed=1.0),
        efficiency=replace(system.efficiency, framework_carry=1.0),
    )


def _columns(system: Platform) -> Kernels:
    """Kernels as they are, at their low and high ends, and marked."""
    return Kernels(
        system.chip,
        down=np.array([0.0, 1.0, 0.0, 0.0]),
        up=np.array([0.0, 0.0, 1.0, 0.0]),
        mark=np.array([0.0, 0.0, 0.0, MARK]),
    )


def hand_tuned_terms(model: Model, job: TrainJob, plan: Plan, system: Platform, notes: Notes) -> None:
    """Record the terms of the hand-tuned step."""
    step_time(model, hand_tuned(system), job, Plans.of([plan]), notes, _columns(system))


@dataclass(frozen=True, slots=True, kw_only=True)
class HandTuned:
    """step: at the tables' times; low_s, high_s: with all of them at an end of their 90% intervals (one clock is behind
    all, so they move together); coverage: share of the step that kernels of ours were timed for, backward passes that
    are multiples of a timed forward not included."""

    step: OneStep
    low_s: float
    high_s: float
    coverage: float


def predict_hand_tuned(
    model: Model, system: Platform, job: TrainJob, plan: Plan, notes: Notes | None = None
) -> HandTuned:
    """The step of one plan, in one evaluation of four columns: as it is, kernels at their low and high ends, kernels
    marked.

    The share of the step that comes from kernels is how much longer its parts get for a small change of the kernels'
    times; what then hides more of a transfer makes nothing less timed, and a pipeline bubble counts like the work that
    it waits for. `notes` records the terms.
    """
    step = step_time(model, hand_tuned(system), job, Plans.of([plan]), notes, _columns(system))
    total, low, high, _ = (float(x) for x in np.broadcast_to(step.total_s, 4))
    columns = {name: np.broadcast_to(seconds, 4) for name, seconds in step.parts.items()}
    longer = float_sum(max(0.0, float(c[3] - c[0])) for c in columns.values())
    parts = {name: float(c[0]) for name, c in columns.items()}
    one = OneStep(total, parts, float(np.ravel(step.tokens)[0]), float(np.ravel(step.num_micro_batches)[0]))
    return HandTuned(step=one, low_s=low, high_s=high, coverage=longer / MARK / total)
