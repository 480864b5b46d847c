"""The closed form of a step against the same step played, over drawn runs without a heavy tail."""

from __future__ import annotations

import math
from functools import cache

from drawn_runs import drawn_run
from mowich.rl.cycle import Cycle
from mowich.rl.events import play
from mowich.rl.job import RlJob
from mowich.rl.schedule import closed_cycle

LIGHT = (0.1, 0.2, 0.3)
"""Spreads of answers that are not heavy-tailed."""
MANY = 8.0
"""Samples of a batch on a worker, and places, from which on a mean stands for them."""


@cache
def pairs() -> list[tuple[RlJob, Cycle, Cycle]]:
    """(job, its step in closed form, the same played)."""
    out = []
    for seed in range(80):
        job, sides = drawn_run(seed, sigmas=LIGHT)
        if min(job.batch / sides.rollouts.workers, sides.rollouts.most) >= MANY:
            out.append((job, closed_cycle(job, sides), play(job, sides, steps=20)))
    return out


def within(shares: list[float], share: float) -> float:
    """How many of them are."""
    return sum(x <= share for x in shares) / len(shares)


def test_steps_agree() -> None:
    """Sides that take turns: nearly all within 5%. With staleness three of four are: batches that begin together stay
    together, which the closed form spreads evenly; then it is up to 12% short."""
    for has_staleness in (False, True):
        off = [
            abs(math.log(closed.step_s / played.step_s))
            for job, closed, played in pairs()
            if (job.staleness > 0) == has_staleness
        ]
        assert len(off) > 12
        assert within(off, 0.015) > 0.5
        assert within(off, 0.05) > (0.7 if has_staleness else 0.9)
        assert max(off) < 0.12


def test_staleness_agrees_where_the_trainer_or_the_bound_binds() -> None:
    """Within 5%: nearly all where the trainer binds, and two of three where the bound does."""
    of = [
        (played.binds, abs(closed.staleness_mean / played.staleness_mean - 1.0))
        for job, closed, played in pairs()
        if job.staleness
    ]
    trainer, bound = ([off for binds, off in of if binds == cause] for cause in ("trainer", "staleness"))
    assert min(len(trainer), len(bound)) > 6
    assert within(trainer, 0.05) > 0.9
    assert within(bound, 0.05) > 0.66
