"""Memory over a step: what each device of a pipeline holds from moment to moment, what sets the peak, and what would
lower it.

The levels follow from the played pipeline and from the terms of `plans.memory.memory_B`; every device is taken as the
fullest stage. Weights, gradients and states stay. A stage's activations come layer by layer in a forward pass and go
layer by layer in the backward pass to the weights. While an operation runs, it holds gathered weights and buffers of
experts; a backward pass also a layer that it computes again, and on the last stage first of all the loss. So the
highest level of all devices is the memory of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.models.model import Model
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import memory_B
from mowich.plans.plan import OFFLOAD_BITS, RECOMPUTE, Plan, Plans, Recompute, TrainJob
from mowich.plans.schedules import Op
from mowich.software.stack import Platform
from mowich.sums import float_sum
from mowich.training.pipeline import Span, StageTimes, Timeline
from mowich.training.step import micro_batches_of, step_time

STAYS = ("weights", "gradients", "optimizer", "reserve")
"""Categories that a device holds through the whole step."""

COMES = ("activations", "recomputation", "loss", "gathered weights", "expert buffers")
"""Categories that come and go; all but the activations are the plan's temporary bytes."""


MOST_LEVELS = 100_000
"""Levels of all devices, above which the layers of a pass come and go in groups: a trace of ten times as many is slow
to open."""

MOST_SLOWER = 0.5
"""A change that makes a token slower by a larger share than this is not offered for its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLevel:
    """What a device holds from a moment of the step on, in bytes by category. during: the operation that runs then,
    None between operations."""

    at_s: float
    held_B: Mapping[str, float]
    during: Op | None

    @property
    def total_B(self) -> float:
        return float_sum(self.held_B.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """A change of one choice of the plan that lowers its memory. less_B: by how many bytes of a device; slower: the
    change of the time per token, as a share."""

    change: str
    less_B: float
    slower: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTimeline:
    """Memory of each device over a step. levels: in order of time, by device; usable_B: of a device; reliefs: what
    would lower the peak, the largest first."""

    levels: tuple[tuple[MemoryLevel, ...], ...]
    usable_B: float
    reliefs: tuple[Relief, ...]

    @property
    def peak_device(self) -> int:
        """The first device on which memory is highest."""
        tops = [max(level.total_B for level in levels) for levels in self.levels]
        return int(np.argmax(np.round(tops, 3)))

    @property
    def peak(self) -> MemoryLevel:
        """The first of the highest levels of all devices, while an operation runs where one does."""
        return max(self.levels[self.peak_device], key=lambda level: (round(level.total_B, 3), level.during is not None))


def memory_timeline(
    model: Model,
    system: Platform,
    job: TrainJob,
    plan: Plan,
    line: Timeline,
    step_s: float,
    layers: Sequence[int],
    head: StageTimes,
) -> MemoryTimeline:
    """What each device of a played plan holds. step_s: of the whole step, with what follows the pipeline; layers: of
    each stage; head: seconds of the last stage that are the head's."""
    columns, notes = Plans.of([plan]), Notes()
    found = memory_B(model, system, job, columns, micro_batches_of(job, columns), notes)
    stays = {name: float(found[name][0]) for name in STAYS}
    terms = notes.terms["memory.temporary"].inputs
    parts = {name: float(terms[name]) for name in ("recomputed", "logits", "gathered", "expert_buffers")}
    of_one = float(found["activations"][0]) / max(line.held)
    most = max(1, MOST_LEVELS // len(line.spans))
    passes = _Passes(steps=[min(max(1, n), most) for n in layers], head=head, stays=stays, parts=parts, of_one=of_one)
    return MemoryTimeline(
        levels=tuple(tuple(_levels(line, device, passes, step_s)) for device in range(line.num_devices)),
        usable_B=system.hbm_usable_B,
        reliefs=_reliefs(model, system, job, plan, float_sum(float(v[0]) for v in found.values())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """What the passes of a step hold. steps: in how many steps the activations of each stage come and go, its layers
    unless there are too many; head: seconds of the last stage that are the head's; stays, parts: bytes by category, and
    of what a pass needs for a while; of_one: bytes of activations of one chunk and micro-batch."""

    steps: Sequence[int]
    head: StageTimes
    stays: Mapping[str, float]
    parts: Mapping[str, float]
    of_one: float

    def level(self, at_s: float, held: float, op: Op | None, loss: float = 0.0) -> MemoryLevel:
        """held: activations, in units of one chunk and micro-batch."""
        back = op is not None and op.kind != "F"
        comes = (
            held * self.of_one,
            max(0.0, self.parts["recomputed"] - loss) if back else 0.0,
            loss,
            self.parts["gathered"] if op else 0.0,
            self.parts["expert_buffers"] if op else 0.0,
        )
        return MemoryLevel(at_s=at_s, held_B={**self.stays, **dict(zip(COMES, comes, strict=True))}, during=op)

    def during(self, span: Span, held: int) -> Iterator[MemoryLevel]:
        """The levels of one operation, which begins with so many activations. The head ends a forward pass and begins a
        backward one."""
        op, n, first_s = span.op, self.steps[span.op.stage], span.start_s
        is_last = op.stage == len(self.steps) - 1
        head_s = self.head.of(op.kind) if is_last else 0.0
        each_s = (span.end_s - span.start_s - head_s) / n
        if is_last and op.kind != "F":
            yield self.level(first_s, held, op, self.parts["logits"] if op.kind != "W" else 0.0)
            first_s += head_s
        step = CHANGE[op.kind] / n
        for k in range(n if step else 1):
            yield self.level(first_s + k * each_s, held + k * step, op)
        if is_last and op.kind == "F":
            yield self.level(span.end_s - head_s, held + 1, op)


CHANGE: Mapping[str, int] = {"F": 1, "B": 0, "W": -1, "BW": -1}
"""Activations of a chunk and micro-batch that a device has more after each kind of operation."""


def _levels(line: Timeline, device: int, passes: _Passes, step_s: float) -> Iterator[MemoryLevel]:
    """The levels of one device."""
    held = 0
    yield passes.level(0.0, held, None)
    for span in line.spans:
        if span.device == device:
            yield from passes.during(span, held)
            held += CHANGE[span.op.kind]
            yield passes.level(span.end_s, held, None)
    yield passes.level(step_s, held, None)


def _reliefs(model: Model, system: Platform, job: TrainJob, plan: Plan, need_B: float) -> tuple[Relief, ...]:
    """What would lower a plan's memory: legal plans that differ in one choice, the largest gain first."""
    options = [
        (f"{field} {value}", other)
        for field, value, other in _changes(plan, has_link=system.host_Bps > 0)
        if _is_legal(model, system, job, other)
    ]
    if not options:
        return ()
    columns = Plans.of([plan, *(other for _, other in options)])
    step = step_time(model, system, job, columns)
    needs = sum(memory_B(model, system, job, columns, micro_batches_of(job, columns)).values(), np.zeros(len(columns)))
    seconds = step.total_s / step.tokens
    found = [
        Relief(change=name, less_B=need_B - float(needs[i]), slower=float(seconds[i] / seconds[0]) - 1.0)
        for i, (name, _) in enumerate(options, 1)
    ]
    worth = [r for r in found if r.less_B > 0.0 and r.slower <= MOST_SLOWER]
    return tuple(sorted(worth, key=lambda r: (-r.less_B, r.change)))


def _changes(plan: Plan, *, has_link: bool) -> Iterator[tuple[str, object, Plan]]:
    """(choice, its value, the plan with it): each choice that frees memory, a step further. has_link: the host's memory
    can be reached."""
    order: Sequence[Recompute] = [mode for mode in RECOMPUTE if mode != "experts"]
    if plan.recompute in order[:-1]:
        mode = order[order.index(plan.recompute) + 1]
        yield "recompute", mode, replace(plan, recompute=mode)
    if plan.micro_batch > 1:
        yield "micro_batch", plan.micro_batch // 2, replace(plan, micro_batch=plan.micro_batch // 2)
    if plan.zero < 3:
        yield "zero", plan.zero + 1, replace(plan, zero=plan.zero + 1)
    if plan.shards:
        yield "shards", 0, replace(plan, shards=0)
    if plan.schedule == "interleaved":
        yield "schedule", "1f1b", replace(plan, schedule="1f1b", vpp=1)
    if plan.tp > 1 and not plan.sp:
        yield "sp", "on", replace(plan, sp=True)
    if has_link and plan.offload == "none":
        for part in OFFLOAD_BITS:
            yield "offload", part, replace(plan, offload=part)


def _is_legal(model: Model, system: Platform, job: TrainJob, plan: Plan) -> bool:
    """Whether a plan keeps every rule of the search."""
    fixed = {name: (value,) for name, value in plan.to_dict().items()}
    try:
        legal_plans(model, system, job, fixed)
    except UserError:
        return False
    return True
