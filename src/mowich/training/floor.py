"""What a smaller data-parallel degree cannot make faster: lower bounds by which a search leaves plans unevaluated and
stays exact.

Most of a step does not depend on dp: the work of a micro-batch and the bubble. Of the traffic between data-parallel
ranks the bounds know the part that must cross the network. They leave out the rest: transfers between stages, which can
fall with dp, and the optimizer, which cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, Floats
from mowich.machines import collectives
from mowich.models.model import Model
from mowich.plans import schedules
from mowich.plans.memory import layers_per_stage
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.exchange import Linear, least_dp_s, least_linear_in_full
from mowich.training.parts import EXCHANGED, LAYER_PARTS
from mowich.training.slices import slice_chips, slices
from mowich.training.stage import Through, stage_times, through, total_of

MOVING = tuple(EXCHANGED)
"""Parts of a stage that are transfers; "recompute" has transfers in it, and counts as kernels all the same."""

_GROUPS = {
    "still": tuple(name for name in LAYER_PARTS if name not in (*MOVING, "recompute")),
    "recompute": ("recompute",),
    "moving": MOVING,
}


_ROUNDING = 1e-9
"""Share by which a bound of another formula is kept below one."""


@dataclass(frozen=True, slots=True)
class Floor(Columns):
    """Seconds of plans that every smaller dp takes at least, before jitter and software [n each]. stage: of a
    micro-batch, its forward pass among it; once: of the step; kernel_stage, kernel_once: of these, what the software
    lengthens. still_stage, still_once: kernels without transfers, for a dp that changes where those run."""

    stage: Floats
    forward: Floats
    once: Floats
    kernel_stage: Floats
    kernel_once: Floats
    still_stage: Floats
    still_once: Floats


def floor_of(model: Model, system: Platform, job: TrainJob, p: Plans, known: Through | None = None) -> Floor:
    """The floor of plans. known: what they take through layers and head, by GROUPS, each on its slice of the system."""
    fixed = system.stack.step_fixed
    known = known or through(model, system, job, p, _GROUPS, np.arange(len(p)))
    x = stage_times(model, system, job, p, groups=_GROUPS, known=known)
    still = x.parts["still"] + x.parts["head"]  # no recomputing: what it repeats of transfers moves with them
    between = p.order > 1  # data-parallel ranks lie between tensor-parallel ones
    once = np.where(between, 0.0, x.bubble_s) + fixed
    return Floor(
        stage=np.where(between, still, x.total_s),
        forward=x.forward_s,
        once=once,
        kernel_stage=np.where(between, still, still + x.parts["recompute"]),
        kernel_once=once,
        still_stage=still,
        still_once=np.full(len(p), fixed),
    )


def of_layers(model: Model, job: TrainJob, p: Plans) -> Floats:
    """Seconds per token that these plans take at least, with any legal dp up to theirs, for each second that a
    micro-batch takes through all layers (`least_layers_s`). A bound below `least_of_any` that looks at no layer."""
    cut = layers_per_stage(model, p) / model.num_layers
    return np.asarray(cut / (p.micro_batch * p.dp * job.seq) * (1.0 - _ROUNDING))


def least_layers_s(system: Platform, known: Through, *, all_parts: bool) -> Floats:
    """Seconds that a micro-batch takes at least through all layers, software included, by row of `known`. all_parts:
    of every part; else, where another dp may change transfers, of what is still in them."""
    if not all_parts:
        return known.sums["still"] * (1.0 + _slower(system))
    return total_of(known.sums[name] for name in _GROUPS) + _slower(system) * (
        known.sums["still"] + known.sums["recompute"]
    )


def with_traffic(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    floor: Floor,
    dp: Floats,
    linear: Linear = collectives.least_linear,
) -> Floor:
    """The floor of plans, given that a dp below `dp` is out of the question: with the traffic between at least so many
    data-parallel ranks. linear: what a collective takes at least."""
    least = least_dp_s(model, system, job, replace(p, dp=dp), floor.forward, floor.stage - floor.forward, linear)
    least = np.where(p.order > 1, 0.0, least)
    per_micro = np.where(p.zero == 3, least, 0.0)
    return replace(floor, stage=floor.stage + per_micro, once=floor.once + (least - per_micro))


def _jitter(system: Platform, devices: Floats) -> Floats:
    """A step over its time without jitter. It grows less than the devices do."""
    return np.asarray(1.0 + system.stack.jitter_per_doubling * np.log2(np.maximum(1.0, devices / 8.0)))


def _slower(system: Platform) -> float:
    """Seconds that the software adds to each second of kernels."""
    return 1.0 / (system.stack.speed * system.efficiency.framework_carry) - 1.0


def least_of_any(system: Platform, job: TrainJob, p: Plans, floor: Floor) -> Floats:
    """Seconds per token that these plans take at least with any legal dp up to theirs.

    stage / (mb dp seq), least at the largest dp, + once / (the largest legal batch), least jitter.
    """
    most = job.batch_seqs * (1.0 + job.batch_tolerance) * job.seq
    ranks = p.tp * p.pp * p.cp
    slower = _slower(system)

    def at(dp: Floats, stage: Floats, once: Floats, kernel_stage: Floats, kernel_once: Floats) -> Floats:
        per_micro = stage * _jitter(system, ranks * dp) + slower * kernel_stage
        return np.asarray(per_micro / (p.micro_batch * dp * job.seq) + (once + slower * kernel_once) / most)

    out = at(p.dp, floor.stage, floor.once, floor.kernel_stage, floor.kernel_once)
    sizes = np.array(slices(system))
    if len(sizes) > 1:  # a smaller slice has other rings
        below = np.append(sizes, 0)[np.searchsorted(-sizes, -slice_chips(system, p.devices)) + 1]
        dp = np.floor(below * system.devices_per_chip / ranks)
        still = (floor.still_stage, floor.still_once)
        smaller = at(np.maximum(dp, 1.0), *still, *still)
        out = np.where(dp >= 1, np.minimum(out, smaller), out)
    return out


def least(system: Platform, job: TrainJob, p: Plans, floor: Floor, dp: Floats, of: NDArray[np.intp]) -> Floats:
    """Seconds per token that plans take at least which differ from p, at the indices `of`, in a smaller dp."""
    size, ranks = p.micro_batch[of], (p.tp * p.pp * p.cp)[of]
    g = schedules.micro_batches(job, p.schedule[of], p.pp[of], size * dp)
    whole = g * floor.stage[of] + floor.once[of]
    kernels = g * floor.kernel_stage[of] + floor.kernel_once[of]
    if len(slices(system)) > 1:
        moved = slice_chips(system, ranks * dp) != slice_chips(system, p.devices)[of]
        still = g * floor.still_stage[of] + floor.still_once[of]
        whole, kernels = np.where(moved, still, whole), np.where(moved, still, kernels)
    seconds = whole * _jitter(system, ranks * dp) + _slower(system) * kernels
    return np.asarray(seconds / (g * size * dp * job.seq))


def least_between(
    model: Model, system: Platform, job: TrainJob, p: Plans, floor: Floor, low: Floats, high: Floats
) -> Floats:
    """Seconds per token that plans take at least with a dp from `low` to `high`, their own or less [n]. floor: theirs,
    without traffic between data-parallel ranks.

    Work and traffic are those of `low` ranks, tokens those of `high`: the closer the ends, the nearer to the time.
    """
    size, ranks, slower = p.micro_batch, p.tp * p.pp * p.cp, _slower(system)
    loaded = with_traffic(model, system, job, p, floor, low, least_linear_in_full)
    stage, once, kernel_stage, kernel_once = loaded.stage, loaded.once, floor.kernel_stage, floor.kernel_once
    if len(slices(system)) > 1:  # a smaller slice has other rings
        moved = slice_chips(system, ranks * low) != slice_chips(system, p.devices)
        stage, once = np.where(moved, floor.still_stage, stage), np.where(moved, floor.still_once, once)
        kernel_stage = np.where(moved, floor.still_stage, kernel_stage)
        kernel_once = np.where(moved, floor.still_once, kernel_once)
    doublings = system.stack.step_per_doubling * np.log2(np.maximum(1.0, ranks * low))
    jitter = _jitter(system, ranks * low)
    g = schedules.micro_batches(job, p.schedule, p.pp, size * low)  # no larger dp has more of them
    most = np.minimum(g * size * high, job.batch_seqs * (1.0 + job.batch_tolerance))
    per_micro = stage * jitter + slower * kernel_stage
    per_step = (once + doublings) * jitter + slower * (kernel_once + doublings)
    return np.asarray((per_micro / (size * high) + per_step / most) / job.seq * (1.0 - _ROUNDING))


def smallest_dp(system: Platform, job: TrainJob, p: Plans, floor: Floor, limit: float) -> Floats:
    """The dp below which a plan takes `limit` seconds per token or more, whatever else: from its work alone."""
    one = len(slices(system)) == 1
    work, kernels = (floor.stage, floor.kernel_stage) if one else (floor.still_stage, floor.still_stage)
    return np.asarray((work + _slower(system) * kernels) / (p.micro_batch * job.seq * limit))
