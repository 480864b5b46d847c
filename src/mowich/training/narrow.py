"""Which data-parallel degrees of a plan can still be the fastest, where there are too many to look at each.

A range of degrees whose lower bound (`floor.least_between`) is no better than what was found goes as a whole; the
others are halved. So ten million degrees cost some thousand bounds, and none that can win is left out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.models.model import Model
from mowich.plans import schedules
from mowich.plans.enumerate import LAID_OUT, dp_step_of, every_dp, largest_dp
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.floor import Floor, least, least_between

TOO_MANY = 1 << 17
"""Degrees of one block of plans beyond which ranges of them are bounded first. Results do not depend on it."""

FEW_LEFT = 8
"""Degrees of a range that is not halved again."""

APART = 2.0**0.5
"""From one of the `scouts` to the next."""


def _counts(system: Platform, p: Plans, low: Floats) -> tuple[Floats, Floats, Floats]:
    """(step, the first step, how many steps) of dp of at least `low` and at most that of the plans."""
    step = dp_step_of(system, p)
    first = np.maximum(1.0, np.ceil(low / step))
    return step, first, np.maximum(0.0, p.dp / step - first + 1.0)


def scouts(system: Platform, job: TrainJob, p: Plans, low: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """(dp, index) of some legal plans that differ from one of `p` in a dp of at least `low`: the largest legal degrees
    up to its own, down in even ratios. None where no plan has many. Their times show which
    of the others are worth a look."""
    step, first, count = _counts(system, p, low)
    if not job.batch_tolerance or count.max(initial=0.0) <= TOO_MANY / FEW_LEFT:
        return np.zeros(0), np.zeros(0, dtype=np.intp)
    turns = np.floor(np.log(np.maximum(1.0, p.dp / (first * step))) / np.log(APART)).astype(np.intp) * (count > 0)
    of = np.repeat(np.arange(len(p)), turns)
    turn = np.arange(len(of)) - np.repeat(np.cumsum(turns) - turns, turns) + 1
    rows = {name: getattr(p, name)[of] for name in LAID_OUT}
    dp = largest_dp(job, rows, step[of], np.floor(p.dp[of] / APART**turn))
    legal, at = every_dp(system, job, replace(p.take(of), dp=dp), dp)
    _, first_at = np.unique(np.stack((of[at], legal)), axis=1, return_index=True)
    return legal[first_at], of[at][first_at]


def contending_dp(
    model: Model, system: Platform, job: TrainJob, p: Plans, floor: Floor, loaded: Floor, low: Floats, limit: float
) -> tuple[Floats, NDArray[np.intp], Floats]:
    """(dp, index, least seconds per token) of every legal plan that differs from one of `p`, at that index, in a dp of
    at least `low` and at most its own, and may take less than `limit` seconds per token. floor: of p without traffic
    between data-parallel ranks; loaded: with that of `low`."""
    step, first, count = _counts(system, p, low)
    if not job.batch_tolerance or count.sum() <= TOO_MANY:  # an exact batch has few divisors
        dp, of = every_dp(system, job, p, low)
        bound = least(system, job, p, loaded, dp, of)
    else:
        ends = _ranges(model, system, job, p, floor, first * step, step, limit)
        dp, of = _each(*ends, step)
        legal, at = every_dp(system, job, replace(p.take(of), dp=dp), dp)
        dp, of = legal, of[at]
        bound = least_between(model, system, job, p.take(of), floor.take(of), dp, dp)
    may = bound < limit
    return dp[may], of[may], bound[may]


def _ranges(
    model: Model, system: Platform, job: TrainJob, p: Plans, floor: Floor, low: Floats, step: Floats, limit: float
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """(least dp, most dp, index of the plan) of ranges of at most FEW_LEFT degrees that together hold all that may be
    below the limit."""
    of = np.flatnonzero(low <= p.dp)
    low, high = low[of], p.dp[of]
    done: list[tuple[Floats, Floats, NDArray[np.intp]]] = []
    while len(of):
        plans = p.take(of)
        bound = least_between(model, system, job, plans, floor.take(of), low, high)
        may = np.flatnonzero((bound < limit) & _may_be_legal(job, plans, low, high))
        low, high, of = low[may], high[may], of[may]
        size = (high - low) / step[of]
        few = size < FEW_LEFT
        done.append((low[few], high[few], of[few]))
        low, high, of, size = low[~few], high[~few], of[~few], size[~few]
        middle = low + np.floor(size / 2.0) * step[of]
        low, high = np.concatenate((low, middle + step[of])), np.concatenate((middle, high))
        of = np.concatenate((of, of))
    lows, highs, plans_of = zip(*done, strict=True) if done else ((low,), (high,), (of,))
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(plans_of)


def _may_be_legal(job: TrainJob, p: Plans, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Whether a range may hold a legal dp: false where all of it has one number of micro-batches, and a batch too large
    or too small."""
    fewest, most = (schedules.micro_batches(job, p.schedule, p.pp, p.micro_batch * dp) for dp in (high, low))
    slack = job.batch_tolerance + 1e-9
    least_seqs, most_seqs = fewest * p.micro_batch * low, most * p.micro_batch * high
    return np.asarray((least_seqs <= job.batch_seqs * (1.0 + slack)) & (most_seqs >= job.batch_seqs * (1.0 - slack)))


def _each(low: Floats, high: Floats, of: NDArray[np.intp], step: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """(dp, index of its plan) of every degree of ranges."""
    count = np.rint((high - low) / step[of] + 1.0).astype(np.intp)
    turn = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    plan = np.repeat(of, count)
    return np.repeat(low, count) + turn * step[plan], plan
