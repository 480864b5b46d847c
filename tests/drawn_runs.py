"""Drawn runs of reinforcement learning, and sides of them that are made by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from mowich.rl.job import BatchOrder, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.sides import RolloutSide, RunSides, SyncSide, TokenTimes, TrainerSide

PLENTY = 1e9
"""Tokens of a cache that is never full."""


def times_of(fixed_s: float, each_s: float, token_s: float, *, most: int = 1024, gain: float = 1.0) -> TokenTimes:
    """Steps that take `fixed_s`, `each_s` for each sequence, and `token_s` for each token of its cache."""
    sequences, context = np.geomspace(1.0, most, 12), np.geomspace(64.0, 40_000.0, 8)
    rows = sequences[:, None]
    return TokenTimes(sequences, context, fixed_s + each_s * rows + token_s * rows * context, 0.0, gain)


def constant_times(step_s: float) -> TokenTimes:
    """Steps that always take the same."""
    return TokenTimes(np.array([1.0]), np.array([1.0]), np.array([[step_s]]), 0.0)


def fixed_lengths(tokens: float) -> Lengths:
    """Answers that are all as long."""
    return Lengths(np.full(4, tokens), tokens)


def job_of(
    lengths: Lengths, *, prompts: int = 8, samples: int = 4, staleness: int | None = None, **given: object
) -> RlJob:
    """Colocated where no staleness is given."""
    job = RlJob(
        algorithm="grpo",
        prompts=prompts,
        samples=samples,
        global_batch=prompts * samples,
        lengths=lengths,
        prompt=0.0,
        most=lengths.cap,
        placement="colocated" if staleness is None else "split",
        staleness=staleness or 0,
    )
    return replace(job, **given)  # type: ignore[arg-type]


def sides_of(
    times: TokenTimes,
    *,
    workers: int = 2,
    most: int = 1024,
    room_tokens: float = PLENTY,
    update_s: float = 3.0,
    passes_s: float = 0.0,
    sync_s: float = 0.0,
    held_s: float | None = None,
    **given: object,
) -> RunSides:
    """sync_s: of the whole; held_s: that both sides are held by it (None: all of it)."""
    held_s = sync_s if held_s is None else held_s
    return RunSides(
        rollouts=RolloutSide(workers=workers, times=times, room_tokens=room_tokens, most=most, chips=workers),
        trainer=TrainerSide(update_s=update_s, passes_s={"policy": passes_s}, chips=8),
        sync=SyncSide(method="drawn", trainer_s=held_s, rollouts_s=held_s, whole_s=sync_s),
        **given,  # type: ignore[arg-type]
    )


def drawn_run(
    seed: int, *, sigmas: tuple[float, ...] = (0.1, 0.3, 0.7, 1.2), is_tight: bool = False
) -> tuple[RlJob, RunSides]:
    """A run whose sides are within a factor of ten of each other. is_tight: caches are full."""
    r = random.Random(seed)
    fixed_s = r.choice((0.004, 0.01, 0.03))
    times = times_of(
        fixed_s, fixed_s / r.choice((50, 200, 1000)), fixed_s / r.choice((1e6, 1e7)), gain=r.choice((1.0, 1.0, 2.2))
    )
    cap = r.choice((1024.0, 4096.0, 16384.0))
    lengths = Lengths.lognormal(mean=cap * r.uniform(0.15, 0.7), cap=cap, sigma=r.choice(sigmas))
    order: BatchOrder = r.choice(("started", "finished"))
    job = job_of(
        lengths,
        prompts=r.choice((8, 16, 32)),
        samples=r.choice((4, 8, 16)),
        staleness=r.choice((None, 0, 1, 1, 2, 4)),
        order=order,
        prompt=r.choice((0.0, 200.0)),
    )
    workers = r.choice((1, 2, 3, 4, 8))
    share = job.batch / workers
    alone_s = lengths.mean * float(times.step_s(share, lengths.mean / 2)) / times.tokens_per_step
    sync_s = alone_s * r.choice((0.01, 0.1, 0.3))
    sides = sides_of(
        times,
        workers=workers,
        most=max(1, int(share * r.choice((0.5, 4.0)))) if not is_tight else 1024,
        room_tokens=max(2.0 * (cap + 200.0), share * lengths.mean * r.uniform(0.2, 0.6)) if is_tight else PLENTY,
        update_s=alone_s * r.uniform(0.1, 2.0),
        passes_s=alone_s * r.uniform(0.0, 0.3),
        sync_s=sync_s,
        held_s=sync_s * r.choice((0.3, 1.0)),
    )
    return job, sides
