"""What a run is played from, as plain numbers and columns: the same for the Python code (`run`) and the compiled code
(`compiled`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.rl.draws import Draws
from mowich.rl.job import RlJob
from mowich.rl.sides import RolloutSide, RunSides


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """Steps of a worker by its running sequences, row 0 for one. context: mean tokens of their caches, from 0; step_s:
    seconds there; slope: seconds a token of context from there on; spent: integral of step_s from 0, seconds times
    tokens [rows, places]."""

    context: Floats
    step_s: Floats
    slope: Floats
    spent: Floats

    @classmethod
    def of(cls, side: RolloutSide, running: int) -> StepTable:
        """The table for 1 to `running` sequences that run at once."""
        known = side.times.context
        context = np.unique(np.concatenate(([0.0], known, [2.0 * known[-1] + 1.0])))
        step_s = side.times.step_s(np.arange(1.0, running + 1.0)[:, None], context)
        width = np.diff(context)
        slope = np.zeros_like(step_s)
        slope[:, :-1] = np.diff(step_s) / width
        spent = np.zeros_like(step_s)
        spent[:, 1:] = np.cumsum(0.5 * (step_s[:, 1:] + step_s[:, :-1]) * width, axis=1)
        return cls(context, np.ascontiguousarray(step_s), slope, spent)


MOST_PLACES = 1 << 40
"""Places of a cache that is never full."""


def cache_places(job: RlJob, side: RolloutSide) -> int:
    """Sequences that the cache of a worker holds in the long run, when they are of all ages; at least 1.

    places = room / (prompt + E[tokens^2] / (2 E[tokens]))
    """
    table = job.lengths.table
    age = float((table**2).mean() / table.mean()) / 2.0
    return max(1, int(min(side.room_tokens / (job.prompt + age), MOST_PLACES)))


@dataclass(frozen=True, slots=True, eq=False)
class RunSetup:
    """One run. takes_turns: rollouts wait for the update; waits_started: an update takes the groups that were started
    for it; places: sequences whose caches a worker holds; passes_s, update_s, other_s: of the trainer in each step;
    judge_s: of a sample on the judge."""

    draws: Draws
    table: StepTable
    steps: int
    workers: int
    prompts: int
    staleness: int
    takes_turns: bool
    waits_started: bool
    is_partial: bool
    hides_passes: bool
    most: int
    places: int
    room_tokens: float
    prompt: float
    prompt_s: float
    gain: float
    call_s: float
    reward_s: float
    judge_s: float
    passes_s: float
    update_s: float
    other_s: float
    trainer_s: float
    rollouts_s: float
    whole_s: float
    switch_s: float

    @property
    def turn_steps(self) -> Floats:
        """Steps of each turn of each sample."""
        return np.asarray(self.draws.tokens / self.draws.turns / self.gain)

    @classmethod
    def of(cls, job: RlJob, sides: RunSides, steps: int, period: int, seed: int) -> RunSetup:
        """The setup of a job on its two sides, for `steps` steps."""
        rollouts, trainer, sync, environment = sides.rollouts, sides.trainer, sides.sync, job.environment
        draws = Draws.of(job, steps + job.staleness, period, seed)
        places = cache_places(job, rollouts)
        is_colocated = job.placement == "colocated"
        passes_s = 0.0
        for seconds in trainer.passes_s.values():
            passes_s += seconds
        return cls(
            draws=draws,
            table=StepTable.of(rollouts, min(rollouts.most, places, len(draws.tokens))),
            steps=steps,
            workers=rollouts.workers,
            prompts=job.prompts,
            staleness=job.staleness,
            takes_turns=is_colocated or job.staleness == 0,
            waits_started=job.staleness == 0 or job.order == "started",
            is_partial=job.partial,
            hides_passes=sides.hides_passes and not is_colocated,
            most=rollouts.most,
            places=places,
            room_tokens=rollouts.room_tokens,
            prompt=job.prompt,
            prompt_s=rollouts.times.prompt_s,
            gain=rollouts.times.tokens_per_step,
            call_s=environment.call_s,
            reward_s=environment.reward_s,
            judge_s=1.0 / environment.judged_per_s,
            passes_s=passes_s,
            update_s=trainer.update_s,
            other_s=sides.other_s,
            trainer_s=sync.trainer_s,
            rollouts_s=sync.rollouts_s,
            whole_s=sync.whole_s,
            switch_s=sides.switch_s if is_colocated else 0.0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """What came of a run. Of each sample: worker, version of the weights at its first token, start_s and end_s of it,
    made: versions of the weights summed over its steps. trained: the step that took each group, -1: none. steps: a row
    of `STEP` for each step and one more, whose free_s alone is set."""

    worker: NDArray[np.int64]
    version: NDArray[np.int64]
    start_s: Floats
    end_s: Floats
    made: Floats
    trained: NDArray[np.int64]
    steps: Floats


STEP = (
    "free_s",
    "ready_s",
    "answered_s",
    "enough_s",
    "slack_free_s",
    "slack_enough_s",
    "passed_s",
    "trained_s",
    "sent_s",
    "held_s",
    "delivered_s",
    "busy_s",
    "tokens",
    "most_running",
)
"""Columns of a step. free_s: the trainer waits from then; ready_s: its batch is there; answered_s: last answer of it;
enough_s: as many groups as a batch has are there, whichever; slack_*: seconds until then (free, enough) in which no
sample waited for a place; passed_s: end of the passes; trained_s: of the update; sent_s: the sync begins; held_s: the
workers are held; delivered_s: they have the weights; busy_s, tokens: of all sequences until free_s; most_running:
sequences that a worker ran at once until then, since the step before."""
