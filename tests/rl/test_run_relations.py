"""Relations of runs of reinforcement learning, over drawn ones: more never loses, a longer mean never gains.

Where both sides take turns they hold exactly: lengths are drawn by shares and samples go to workers by number, so each
answer of one run is that of the other, made longer or with fewer beside it. With staleness a run is a window of a
longer one. What is under way at its two ends differs, and by so much a step by batches is off from a step by tokens
(`window_share`): both are the same in the long run. Runs are compared within that of both, and `ORDER`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import compiled_code
from drawn_runs import drawn_run
from mowich.rl.compiled import RUN_LIBRARY, played
from mowich.rl.events import play
from mowich.rl.job import RlJob
from mowich.rl.setup import STEP, RunSetup
from mowich.rl.sides import RunSides

needs_compiled = pytest.mark.skipif(not compiled_code.available(RUN_LIBRARY), reason="no C compiler")

ORDER = 0.005
"""Share of a step that the order of groups in a window moves: where small changes put groups into another order, the
batches of one window have other answers."""
CLOSER = 0.02
"""Share of a step that a faster trainer may lose where the bound on staleness binds: it brings the batches that run at
once closer together, so more answers run beside each other, each slower (1 of 300 draws)."""
WINDOW = 60
"""Steps of a run: whole waves of every staleness that is drawn."""

Run = tuple[RlJob, RunSides]


def faster_sync(job: RlJob, sides: RunSides, by: float) -> Run:
    sync = sides.sync
    faster = {name: getattr(sync, name) * by for name in ("trainer_s", "rollouts_s", "whole_s")}
    return job, replace(sides, sync=replace(sync, **faster))


def more_trainer(job: RlJob, sides: RunSides, by: float) -> Run:
    trainer = sides.trainer
    passes = {name: s * by for name, s in trainer.passes_s.items()}
    return job, replace(sides, trainer=replace(trainer, update_s=trainer.update_s * by, passes_s=passes))


def more_workers(job: RlJob, sides: RunSides, by: float) -> Run:
    rollouts = sides.rollouts
    return job, replace(sides, rollouts=replace(rollouts, workers=rollouts.workers * (2 if by > 0.6 else 4)))


def more_staleness(job: RlJob, sides: RunSides, by: float) -> Run:
    return (job if job.placement == "colocated" else replace(job, staleness=job.staleness + 1)), sides


def shorter_answers(job: RlJob, sides: RunSides, by: float) -> Run:
    return replace(job, lengths=job.lengths.scaled(by)), sides


GAINS: tuple[Callable[[RlJob, RunSides, float], Run], ...] = (
    faster_sync,
    more_trainer,
    more_workers,
    more_staleness,
    shorter_answers,
)


def window_share(job: RlJob, sides: RunSides) -> float:
    """By how much of a step a step by batches differs from a step by tokens."""
    steps = -(-WINDOW // (job.staleness + 1)) * (job.staleness + 1)
    rows = played(RunSetup.of(job, sides, 2 * steps, steps, 0)).steps[:, STEP.index("tokens")]
    return abs(float(rows[-1] - rows[steps]) / (steps * job.rolled * job.lengths.mean) - 1.0)


def lost(seed: int, gain: Callable[[RlJob, RunSides, float], Run], *, is_tight: bool) -> float:
    """By how much of a step a gain loses, beyond what a window tells."""
    job, sides = drawn_run(seed, is_tight=is_tight)
    more = gain(job, sides, random.Random(seed).choice((0.5, 0.8, 0.95)))
    before_s, after_s = (play(*run, steps=WINDOW).step_s for run in ((job, sides), more))
    loss = after_s / before_s - 1.0
    if loss <= 1e-9 or job.staleness == 0:
        return loss
    return loss - window_share(job, sides) - window_share(*more) - (CLOSER if gain is more_trainer else ORDER)


@needs_compiled
@pytest.mark.parametrize("gain", GAINS, ids=lambda gain: gain.__name__)
def test_more_never_loses(gain: Callable[[RlJob, RunSides, float], Run]) -> None:
    losses = [lost(seed, gain, is_tight=seed % 3 == 2) for seed in range(6)]
    assert max(losses) <= 1e-9, int(np.argmax(losses))


@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("gain", GAINS, ids=lambda gain: gain.__name__)
def test_more_never_loses_in_three_hundred_draws(gain: Callable[[RlJob, RunSides, float], Run]) -> None:
    losses = [lost(seed, gain, is_tight=seed % 3 == 2) for seed in range(300)]
    assert max(losses) <= 1e-9, int(np.argmax(losses))


def test_a_gain_that_matters_is_a_gain() -> None:
    """Half of what binds saves a third of the step and more: the relations are not of runs where nothing matters."""
    gained = 0
    for seed in range(10):
        job, sides = drawn_run(seed)
        before_s = play(job, sides, steps=6).step_s
        gained += min(play(*gain(job, sides, 0.5), steps=6).step_s for gain in GAINS) < 0.75 * before_s
    assert gained >= 6
