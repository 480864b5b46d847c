"""The pipeline of one plan, played out: `training.pipeline` with the times that `training.stage` gives each stage.

Layers are dealt evenly, the first stages taking what does not divide, or as a balanced split says. The head and the
loss are whole on the last stage, where the closed form of an even split takes a share of them. So the two differ where
stages are uneven, and `closed_s` says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.machines import collectives
from mowich.models.model import Model
from mowich.operators.rates import rates
from mowich.plans import schedules
from mowich.plans.memory import stage_split
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform
from mowich.sums import float_sum
from mowich.training.memory_time import MemoryTimeline, memory_timeline
from mowich.training.pipeline import StageTimes, Timeline, play_schedule
from mowich.training.stage import head_times, layer_sums
from mowich.training.step import step_time

MAX_SPANS = 500_000
"""Operations that a timeline may hold: above it no viewer opens the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTimeline:
    """A step of one plan. line: its pipeline; closed_s: the same stretch by the closed form; tail_s: what follows on
    every device, by part of the step (exposed data-parallel traffic, optimizer, offload, fixed), so that the step is
    the makespan and the tail; memory: what each device holds."""

    plan: Plan
    num_micro_batches: int
    line: Timeline
    memory: MemoryTimeline
    closed_s: float
    tail_s: dict[str, float]

    @property
    def step_s(self) -> float:
        return self.line.makespan_s + float_sum(self.tail_s.values())


def stage_layers(num_layers: int, num_stages: int) -> list[int]:
    """Layers of each stage, as even as they go, the longer ones first.

    >>> stage_layers(61, 16)[:2], stage_layers(61, 16)[-2:]
    ([4, 4], [3, 3])
    """
    each, over = divmod(num_layers, num_stages)
    return [each + (i < over) for i in range(num_stages)]


def timeline(model: Model, system: Platform, job: TrainJob, plan: Plan) -> PlanTimeline:
    """Play one step of a plan. Raises ValueError when it has more than `MAX_SPANS` operations, or a schedule that does
    not exist."""
    p = Plans.of([plan])
    step = step_time(model, system, job, p)
    g = int(step.num_micro_batches[0])
    chunks = schedules.num_chunks(plan.schedule, plan.vpp) if plan.pp > 1 else 1
    pieces = 3 if plan.schedule in ("zb-h1", "zb-v", "dualpipe", "dualpipe-v") else 2
    if plan.pp * chunks * g * pieces > MAX_SPANS:
        raise ValueError(
            f"{plan.pp * chunks * g * pieces} operations do not fit in a timeline: it holds at most {MAX_SPANS}"
        )
    base = float_sum(float(v[0]) for k, v in step.parts.items() if k not in ("jitter", "software"))
    slower = float(step.total_s[0]) / base  # jitter and software scale all alike
    sums = layer_sums(model, system, job, p, None)
    layer = float(sum(sums[k][0] for k in sums if k not in ("forward", "weights"))) * slower / model.num_layers
    forward = float(sums["forward"][0]) * slower / model.num_layers
    weights = 0.0 if job.frozen_base else float(sums["weights"][0]) * slower / model.num_layers
    head = [float(x[0]) * slower for x in head_times(model, system, job, p, rates(system, p.precision))]
    stages = []
    dealt = stage_layers(model.num_layers, plan.pp * chunks)
    if plan.split == "balanced":
        _, last = stage_split(model, p)
        dealt = [*stage_layers(model.num_layers - int(last[0]), plan.pp - 1), int(last[0])]
    for i, n in enumerate(dealt):
        f, b, w = n * forward, n * (layer - forward - weights), n * weights
        if i == plan.pp * chunks - 1:
            f, b, w = f + head[0], b + head[1], w + head[2]
        stages.append(StageTimes(f=f, b=b, w=w))
    hop_B = 2.0 * plan.micro_batch * job.seq / plan.cp * model.hidden / (plan.tp if plan.sp or plan.pp_scatter else 1)
    hop = float(collectives.transfer_s(system, np.array([hop_B]), p.stride("pp"))[0]) * slower
    line = play_schedule(plan.schedule, plan.pp, plan.vpp, g, stages, hop)
    tail = {
        k: float(step.parts[k][0]) * slower for k in ("dp", "optimizer", "offload", "fixed") if step.parts[k][0] > 0
    }
    of_head = StageTimes(f=head[0], b=head[1], w=head[2])
    memory = memory_timeline(
        model, system, job, plan, line, line.makespan_s + float_sum(tail.values()), layers=dealt, head=of_head
    )
    return PlanTimeline(
        plan=plan,
        num_micro_batches=g,
        line=line,
        memory=memory,
        closed_s=float(step.total_s[0]) - float_sum(tail.values()),
        tail_s=tail,
    )
