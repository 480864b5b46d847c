"""What a trainer takes in reinforcement learning: optimizer steps over packed answers, and forward passes over them.

Steps are those of `training.step`. What is new is how answers of many lengths fill micro-batches, and that ranks which
exchange tokens of experts in every layer wait for the fullest of their micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.models.model import Model
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.rl.frameworks import Framework
from mowich.rl.job import Pass, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.rollout import fullest_worker
from mowich.rl.sides import TrainerSide
from mowich.software.stack import Platform
from mowich.training.step import forward_time, step_time

FILLED_UP = 0.125
"""Share by which the micro-batches of an update may differ from those that its sequences fill, in a search."""
MOST_PACKED = 512
"""Sequences that are packed one by one to see how full micro-batches become; more are in proportion."""


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Micro-batches of a set of sequences. share: micro-batches for each sequence; fill: tokens of each of those that
    were packed one by one, ascending."""

    share: float
    fill: Floats

    @property
    def mean(self) -> float:
        """Mean tokens of a micro-batch."""
        return float(self.fill.mean())

    def fullest_of(self, ranks: float) -> float:
        """Mean tokens of the fullest of `ranks` micro-batches."""
        edges = np.arange(len(self.fill) + 1) / len(self.fill)
        return float(self.fill @ np.diff(edges ** max(ranks, 1.0)))


def packed(lengths: Lengths, prompt: float, room: float, sequences: float) -> Packing:
    """Sequences packed into micro-batches of `room` tokens, the longest first, each into the first that has room.

    >>> whole = Lengths.of_quantiles({0.0: 300.0, 1.0: 300.0}, cap=300.0)
    >>> packed(whole, 100.0, 1000.0, 64).share
    0.5
    """
    return _packed(lengths, prompt, room, max(1, min(MOST_PACKED, round(sequences))))


@lru_cache(maxsize=256)
def _packed(lengths: Lengths, prompt: float, room: float, n: int) -> Packing:
    shares = (np.arange(n) + 0.5) / n
    tokens = np.minimum(
        np.interp(shares, (np.arange(len(lengths.table)) + 0.5) / len(lengths.table), lengths.table), 1e18
    )
    left: Floats = np.empty(n)
    used = 0
    for length in np.minimum(tokens + prompt, room)[::-1].tolist():
        fits = left[:used] >= length
        at = int(fits.argmax()) if used and fits.any() else used
        if at == used:
            left[used], used = room, used + 1
        left[at] -= length
    return Packing(used / n, np.sort(room - left[:used]))


def document_tokens(lengths: Lengths, prompt: float) -> float:
    """Tokens of the sequence that a token is in, mean over tokens: what attention works on where sequences are packed.

    >>> document_tokens(Lengths.of_quantiles({0.0: 300.0, 1.0: 300.0}, cap=300.0), 100.0)
    400.0
    """
    whole = lengths.table + prompt
    return float((whole**2).mean() / whole.mean())


def data_ranks(plan: Plan) -> float:
    """Ranks with micro-batches of their own that exchange the tokens of one group of experts."""
    return max(1.0, plan.ep * plan.etp / (plan.tp * plan.cp)) if plan.ep > 1 else 1.0


def packed_job(job: RlJob, plan: Plan, sequences: float) -> TrainJob:
    """The training job of so many sequences under a plan: micro-batches of whole sequences, packed up to the longest
    one that the trainer takes. All ranks of a group of experts go at the pace of its fullest micro-batch, and an update
    at the pace of the rank with the most tokens."""
    bins = packed(job.lengths, job.prompt, job.most * plan.micro_batch, sequences)
    each = max(1.0, math.ceil(bins.share * sequences / plan.dp - 1e-9))  # of a rank
    spread = float(fullest_worker(np.array([float(plan.dp)]))[0]) * float(bins.fill.std()) / math.sqrt(each)
    mean = bins.share * sequences / plan.dp / each * bins.mean  # a rank's last micro-batch may be empty
    tokens = min(max(bins.fullest_of(data_ranks(plan)), mean + spread), job.most * plan.micro_batch)
    return TrainJob(
        tokens=each * plan.dp * tokens,
        seq=max(1, round(tokens)),
        batch_seqs=each * plan.dp,
        document=min(document_tokens(job.lengths, job.prompt), tokens),
    )


def trainer_side(
    model: Model,
    system: Platform,
    job: RlJob,
    plan: Plan,
    framework: Framework,
    *,
    models: Mapping[Pass, Model] | None = None,
    notes: Notes | None = None,
) -> TrainerSide:
    """What a batch takes on a trainer of one plan. models: of passes, where it is another than the policy; a critic
    among them is trained too."""
    own = models or {}
    one = Plans.of([replace(plan, micro_batch=1)])
    trainer, passer = (slowed(system, by) for by in (framework.training, framework.passes))
    update = packed_job(job, plan, job.global_batch)
    trained = [model] + [own.get("critic", model)] * (job.trained - 1)
    update_s = 0.0
    for i, m in enumerate(trained):
        update_s += float(step_time(m, trainer, update, one, notes if i == 0 else None).total_s[0])
    whole = packed_job(job, plan, float(job.batch))
    forward: dict[int, float] = {}
    for name in job.passes:
        m = own.get(name, model)
        if id(m) not in forward:
            forward[id(m)] = float(forward_time(m, passer, whole, one, notes if m is model else None)[0])
    return TrainerSide(
        update_s=job.updates * update_s,
        passes_s={name: forward[id(own.get(name, model))] for name in job.passes},
        chips=system.chips,
    )


def slowed(system: Platform, by: float) -> Platform:
    """A machine whose software takes `by` times as long on its devices; transfers take as long as before."""
    return replace(system, stack=replace(system.stack, speed=system.stack.speed / by))


def step_job(job: RlJob) -> TrainJob:
    """The job that plans of a trainer are searched for: an optimizer step in micro-batches of the longest sequence. A
    trainer fills up its last micro-batches, so a number of them near the packed one is legal too."""
    bins = packed(job.lengths, job.prompt, job.most, job.global_batch)
    return TrainJob(
        tokens=bins.share * job.global_batch * bins.mean,
        seq=max(1, round(job.most)),
        batch_seqs=max(1.0, round(bins.share * job.global_batch)),
        batch_tolerance=FILLED_UP,
        document=document_tokens(job.lengths, job.prompt),
    )
