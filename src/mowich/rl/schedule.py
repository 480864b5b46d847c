"""A step of reinforcement learning in closed form, for columns of candidates.

Colocated, or split without staleness, both sides take turns. Split with staleness, rollouts go on while the trainer
trains, and a step takes the longest of three times: what the trainer needs, what rollouts need for a batch, and what
the bound on versions leaves. `rl.events` plays the same; docs/theory/theory-rl.md says where both differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.rl.cycle import Binds, Cycle, CyclePart
from mowich.rl.job import PASSES, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.rollout import Curve, StepColumns, batch_times, fitting_sequences, steady_rate
from mowich.rl.sides import RolloutSide, RunSides, SyncSide, TrainerSide

_PACE_CELLS = 32
"""Cells into which the tokens between the starts of two batches are cut."""
_NEAR = 0.05
"""Rollouts whose own time is so near to the step are full, though another term binds."""
_ROUNDS = 11
"""Halvings of the search for the pace of rollouts: 5e-4 of the longest answer."""


def turns_s(
    generation: Floats, reward: Floats, passes: Floats, training: Floats, sync: Floats, switch: Floats, other: Floats
) -> Floats:
    """Seconds of a step whose sides take turns.

    T = generation + reward + passes + training + sync + switch + other

    generation: until the last answer of the batch; reward: from there to the last reward; switch: of chips from one
    side to the other and back, where both share them.

    Units: generation s, reward s, passes s, training s, sync s, switch s, other s.

    >>> float(turns_s(generation=50.0, reward=1.0, passes=9.0, training=28.0, sync=4.0, switch=8.0, other=0.0))
    100.0
    """
    return np.asarray(generation + reward + passes + training + sync + switch + other)


def bound_by_staleness_s(batch: Floats, trainer: Floats, travel: Floats, staleness: float) -> Floats:
    """Seconds of a step that the bound on versions leaves: a batch is begun with weights that are `staleness` versions
    old when it is trained on, so that many steps and its own hold making it, training on it, and sending the weights.

    T = (batch + trainer + travel) / (staleness + 1)

    batch: from the first token of a batch to its last reward, beside others; trainer: it is held by a step; travel:
    weights are on the way, beyond what holds the trainer.

    Units: batch s, trainer s, travel s.

    >>> float(bound_by_staleness_s(batch=100.0, trainer=40.0, travel=0.0, staleness=1.0))
    70.0
    """
    return np.asarray((batch + trainer + travel) / (staleness + 1.0))


def rollouts_s(samples: float, workers: Floats, rate: Floats, held: Floats) -> Floats:
    """Seconds in which workers that are always full make the answers of a step.

    T = samples / (workers * rate) + held

    rate: answers per second of a worker; held: workers wait for new weights.

    Units: held s.

    >>> float(rollouts_s(samples=2048.0, workers=8.0, rate=5.12, held=1.0))
    51.0
    """
    return np.asarray(samples / (workers * rate) + held)


def split_s(trainer: Floats, rollouts: Floats, bound: Floats) -> Floats:
    """Seconds of a step whose sides run beside each other.

    T = max(trainer, max(rollouts, bound))

    Units: trainer s, rollouts s, bound s.
    """
    return np.asarray(np.maximum(trainer, np.maximum(rollouts, bound)))


def staleness_mean(behind: Floats, period: Floats, staleness: float) -> Floats:
    """Versions between the weights that make a token and those that train on it, by Little's law: steps that end while
    it waits, at most the bound.

    T = min(behind / period, staleness)

    behind: mean seconds from a token to the update that trains on it, where versions do not wait for batches.

    Units: behind s, period s.
    """
    return np.asarray(np.minimum(behind / period, staleness))


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleColumns:
    """`rl.cycle.Cycle` of candidates, columns [n]. parts: seconds, sum to step_s; binds: places in `BINDING`."""

    step_s: Floats
    parts: Mapping[CyclePart, Floats]
    binds: NDArray[np.intp]
    trainer_wait_frac: Floats
    rollout_idle_frac: Floats
    longest_s: Floats
    staleness_mean: Floats
    sync_seen_s: Floats
    sync_hidden_s: Floats


BINDING: tuple[Binds, ...] = ("trainer", "rollouts", "staleness", "longest answer", "reward", "turns")
"""What a step waits for, by the places in `CycleColumns.binds`."""


@lru_cache(maxsize=64)
def curve_of(lengths: Lengths) -> Curve:
    """`Curve.of`, kept."""
    return Curve.of(lengths)


@dataclass(frozen=True, slots=True)
class _Trainer:
    """Columns of trainers and syncs. update, passes: seconds; trainer, rollouts, whole: of a sync."""

    update: Floats
    passes: Mapping[str, Floats]
    trainer: Floats
    rollouts: Floats
    whole: Floats

    @property
    def busy(self) -> Floats:
        """Seconds in which a trainer computes."""
        return self.update + sum(self.passes.values(), start=np.zeros_like(self.update))


def closed_cycle(job: RlJob, sides: RunSides, notes: Notes | None = None) -> Cycle:
    """A step in closed form: `closed_columns` of one candidate; `notes` records its laws."""
    c = closed_columns(
        job,
        [sides.rollouts],
        [sides.trainer],
        [sides.sync],
        (np.zeros(1, np.intp), np.zeros(1, np.intp), np.zeros(1, np.intp)),
        switch_s=sides.switch_s,
        hides_passes=sides.hides_passes,
        other_s=sides.other_s,
        notes=notes,
    )
    return Cycle(
        step_s=float(c.step_s[0]),
        parts={name: float(x[0]) for name, x in c.parts.items()},
        binds=BINDING[int(c.binds[0])],
        trainer_wait_frac=float(c.trainer_wait_frac[0]),
        rollout_idle_frac=float(c.rollout_idle_frac[0]),
        longest_tokens=job.lengths.longest_of(job.rolled),
        longest_s=float(c.longest_s[0]),
        staleness_mean=float(c.staleness_mean[0]),
        staleness_max=float(job.staleness),
        sync_seen_s=float(c.sync_seen_s[0]),
        sync_hidden_s=float(c.sync_hidden_s[0]),
        rolled_tokens=job.rolled * job.lengths.mean,
    )


def closed_columns(
    job: RlJob,
    rollouts: Sequence[RolloutSide],
    trainers: Sequence[TrainerSide],
    syncs: Sequence[SyncSide],
    at: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    *,
    switch_s: Floats | float = 0.0,
    hides_passes: bool = False,
    other_s: Floats | float = 0.0,
    notes: Notes | None = None,
) -> CycleColumns:
    """Steps of candidates in closed form. at: places of each candidate's sides in the three lists; the rest as in
    `RunSides`, of all candidates. A batch is integrated once for each rollout side. `notes` (one candidate only)
    records the laws."""
    of_rollout, of_trainer, of_sync = at
    made = _Rollouts.of(job, rollouts)
    names = [name for name in PASSES if name in job.passes]
    t = _Trainer(
        update=np.array([x.update_s for x in trainers])[of_trainer],
        passes={name: np.array([x.passes_s.get(name, 0.0) for x in trainers])[of_trainer] for name in names},
        trainer=np.array([x.trainer_s for x in syncs])[of_sync],
        rollouts=np.array([x.rollouts_s for x in syncs])[of_sync],
        whole=np.array([x.whole_s for x in syncs])[of_sync],
    )
    zero = np.zeros(len(of_rollout))
    if job.placement == "colocated" or job.staleness == 0:
        return _in_turns(job, made.take(of_rollout), t, zero + switch_s, hides_passes, zero + other_s, notes)
    return _side_by_side(job, made.take(of_rollout), t, hides_passes, zero + other_s, notes)


@dataclass(frozen=True, slots=True)
class _Rollouts:
    """Rollout sides as columns, and a batch on each by itself (`rollout.BatchTimes`). rate: answers per second of
    a worker that runs as many sequences as fit; fits: those."""

    times: StepColumns
    workers: Floats
    room: Floats
    most: Floats
    makespan_s: Floats
    running: Floats
    places: Floats
    longest_s: Floats
    rate: Floats
    fits: Floats

    @classmethod
    def of(cls, job: RlJob, sides: Sequence[RolloutSide]) -> _Rollouts:
        """A row for each side."""
        curve, calls = curve_of(job.lengths), calls_s(job)
        workers, room, most = (
            np.array([float(getattr(x, name)) for x in sides]) for name in ("workers", "room_tokens", "most")
        )
        times = StepColumns.of([x.times for x in sides])
        used = np.minimum(workers, np.ceil(job.rolled))
        batch = batch_times(
            times,
            curve,
            samples=np.ceil(job.rolled / used - 1e-9),
            workers=used,
            prompt=job.prompt,
            room_tokens=room,
            most=most,
            call_s=calls,
        )
        under_way = np.maximum((job.staleness + 1.0) * job.rolled / workers, 1.0)
        fits = fitting_sequences(curve, under_way, job.prompt, room, most)
        return cls(
            times=times,
            workers=workers,
            room=room,
            most=most,
            makespan_s=batch.makespan_s,
            running=batch.running,
            places=batch.places,
            longest_s=batch.longest_s,
            rate=steady_rate(times, curve, prompt=job.prompt, running=fits, call_s=calls),
            fits=fits,
        )

    def take(self, rows: NDArray[np.intp]) -> _Rollouts:
        """The columns at `rows`."""
        return _Rollouts(
            self.times.take(rows), *(getattr(self, f.name)[rows] for f in fields(self) if f.name != "times")
        )


def calls_s(job: RlJob) -> float:
    """Seconds that a sample waits for calls of tools, all turns together."""
    return max(0.0, job.environment.turns - 1.0) * job.environment.call_s


def _rewards_s(job: RlJob, generation: Floats) -> Floats:
    """Seconds from the last answer to the last reward: a judge that is slower than the answers come falls behind."""
    judged = job.rolled / job.environment.judged_per_s
    return np.asarray(job.environment.reward_s + np.maximum(0.0, judged - generation))


def _in_turns(
    job: RlJob, made: _Rollouts, t: _Trainer, switch: Floats, hides_passes: bool, other: Floats, notes: Notes | None
) -> CycleColumns:
    generation = made.makespan_s
    reward = _rewards_s(job, generation)
    is_split = job.placement == "split"
    passes = sum(t.passes.values(), start=np.zeros_like(generation))
    hidden = np.minimum(passes, generation) if hides_passes and is_split else np.zeros_like(generation)
    switch = np.zeros_like(generation) if is_split else switch
    step = told(notes, "step", turns_s)(
        generation=generation - hidden,
        reward=reward,
        passes=passes,
        training=t.update,
        sync=t.whole,
        switch=switch,
        other=other,
    )
    parts: dict[CyclePart, Floats] = {
        "generation": generation - hidden,
        "reward": reward,
        **t.passes,  # type: ignore[dict-item]
        "training": t.update,
        "sync": t.whole,
        "switch": switch,
        "other": other,
    }
    waits = generation - hidden + reward + np.maximum(t.whole - t.trainer, 0.0) if is_split else reward
    of = step if is_split else generation
    return CycleColumns(
        step_s=step,
        parts=parts,
        binds=np.full(len(step), BINDING.index("turns")),
        trainer_wait_frac=waits / step,
        rollout_idle_frac=1.0 - made.running * generation / (made.places * of),
        longest_s=made.longest_s,
        staleness_mean=np.zeros_like(step),
        sync_seen_s=t.whole,
        sync_hidden_s=np.zeros_like(step),
    )


def _side_by_side(
    job: RlJob,
    m: _Rollouts,
    t: _Trainer,
    hides_passes: bool,
    other: Floats,
    notes: Notes | None,
) -> CycleColumns:
    curve, eta = curve_of(job.lengths), float(job.staleness)
    busy = t.busy + t.trainer + other
    hidden = sum(t.passes.values(), start=np.zeros_like(busy)) if hides_passes else np.zeros_like(busy)
    travel = np.maximum(t.whole - t.trainer, 0.0)
    full = told(notes, "rollouts", rollouts_s)(samples=job.rolled, workers=m.workers, rate=m.rate, held=t.rollouts)
    judged = np.full_like(full, job.rolled / job.environment.judged_per_s)
    floor = np.maximum(busy, np.maximum(full, judged))
    beside = busy - hidden + travel + job.environment.reward_s
    batch, ahead, running, waits = _Pace.of(job, curve, m).settle(floor, beside, t.rollouts)
    token, longest = m.fits / m.rate / curve.mean, job.lengths.longest_of(job.rolled)  # of workers that are full
    # a batch is served before the next one: its own work on full workers, and what its last answers take longer
    served = np.maximum(job.rolled / m.workers, m.fits)
    renewed = np.clip(served / m.fits - 1.0, 0.0, 1.0)
    left = (1.0 - renewed) * curve.mean + renewed * curve.age  # tokens of a running answer, when the last has begun
    batch = np.minimum(batch, served / m.rate + token * (longest - left) + t.rollouts)
    bound = told(notes, "bound_by_staleness", bound_by_staleness_s)(
        batch=batch + job.environment.reward_s, trainer=busy - hidden, travel=travel, staleness=eta
    )
    step = told(notes, "step", split_s)(trainer=busy, rollouts=np.maximum(full, judged), bound=bound)
    wait = step - busy
    largest = np.argmax(np.stack([busy, full, bound, judged]), axis=0)
    half_way = np.full((len(step), 1), job.prompt + 0.5 * curve.edges[-1])
    alone = m.times.step_s(np.ones((len(step), 1)), half_way)[:, 0] / m.times.tokens_per_step
    is_tail = (largest == 2) & (alone * longest > 0.5 * batch)
    parts: dict[CyclePart, Floats] = {
        "generation": wait,
        **t.passes,  # type: ignore[dict-item]
        "training": t.update,
        "sync": t.trainer,
        "other": other,
    }
    is_full = (full > busy) & (full > (1.0 - _NEAR) * step)  # samples wait for a place
    versions = np.where(
        is_full,
        staleness_mean(busy + travel + token * (longest - (curve.age if job.partial else 0.0)), step, eta),
        _begun_at_a_version(curve, ahead, eta, (largest == 2) & ~waits) if job.partial else eta,
    )
    return CycleColumns(
        step_s=step,
        parts=parts,
        binds=np.where(is_tail, BINDING.index("longest answer"), np.array([0, 1, 2, 4])[largest]),
        trainer_wait_frac=wait / step,
        rollout_idle_frac=np.clip(1.0 - running / step, 0.0, 1.0),
        longest_s=m.longest_s,
        staleness_mean=np.clip(versions, 0.0, eta),
        sync_seen_s=t.trainer,
        sync_hidden_s=travel,
    )


def _begun_at_a_version(curve: Curve, ahead: Floats, eta: float, in_waves: NDArray[np.bool_]) -> Floats:
    """Mean versions between a token and its update, where every batch is begun as soon as its version is there: eta,
    less one for the tokens that are made after each later version. ahead: tokens of a sequence until the next version;
    in_waves: the last batches of a wave see fewer of these versions than the first."""
    later = np.arange(1.0, eta + 1.0)
    made = 1.0 - np.interp(later[None, :] * ahead[:, None], curve.edges, curve.below) / curve.mean
    seen = np.where(in_waves[:, None], 1.0 - later / (eta + 1.0), 1.0)
    return np.asarray(eta - (seen * made).sum(axis=1))


@dataclass(frozen=True, slots=True)
class _Pace:
    """Rollouts that never stop, columns [n]: batches begin one after the other,
    `ahead` tokens of a sequence apart, so that answers of up to staleness + 1 batches run at once. All times repeat
    with each batch. each: samples of a batch on a worker; longest: tokens of the longest answer of a batch."""

    job: RlJob
    curve: Curve
    times: StepColumns
    each: Floats
    room: Floats
    most: Floats
    longest: float

    @classmethod
    def of(cls, job: RlJob, curve: Curve, m: _Rollouts) -> _Pace:
        """Of these sides."""
        longest = min(job.lengths.longest_of(job.rolled), float(curve.edges[-1]))
        return cls(job, curve, m.times, job.rolled / m.workers, m.room, m.most, longest)

    def at(self, ahead: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """(seconds from one batch to the next, seconds of a batch, sequences of a worker times seconds in that, over
        those that it runs at most, samples at most over the places for them), where so many tokens lie between the
        starts of two batches [n]."""
        job, curve = self.job, self.curve
        width = ahead[:, None] / _PACE_CELLS
        edges = width * np.arange(_PACE_CELLS + 1)
        where = edges[:, None, :] + np.arange(job.staleness + 1.0)[None, :, None] * ahead[:, None, None]
        below, weighed = (np.interp(where, curve.edges, x) for x in (curve.below, curve.weighed))
        share = np.diff(below, axis=2).sum(axis=1) / width
        tokens = np.diff(weighed, axis=2).sum(axis=1) / width
        own = self.each[:, None] * share
        held = job.prompt + np.minimum(tokens / np.maximum(share, 1e-12), curve.edges[-1])
        fits = np.maximum(np.minimum(self.room[:, None] / held, self.most[:, None]), 1.0)
        running = np.clip(own, 1.0, fits)
        step = self.times.step_s(running, held) / self.times.tokens_per_step[:, None]
        queued = np.maximum(own / running, 1.0)  # the others wait for a place
        seconds = step * queued * np.minimum(own, 1.0) * width
        read = self.each * job.prompt * self.times.prompt_s
        ends = np.concatenate([np.zeros_like(width), np.cumsum(step * queued * width, axis=1)], axis=1)
        turns, part = np.divmod(self.longest, ahead)
        cell = np.minimum((part / width[:, 0]).astype(np.intp), _PACE_CELLS - 1)[:, None]
        begin, end = np.take_along_axis(ends, cell, axis=1), np.take_along_axis(ends, cell + 1, axis=1)
        within = (begin + (end - begin) * (part[:, None] / width - cell))[:, 0]
        whole = ends[:, -1]
        batch = turns * whole + within + read * np.maximum(1.0, turns) + calls_s(job)
        busy = (seconds * np.minimum(own, fits)).sum(axis=1) / np.minimum(own, fits).max(axis=1)
        return seconds.sum(axis=1) + read, batch, busy, queued.max(axis=1)

    def settle(self, floor: Floats, beside: Floats, held: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
        """(seconds of a batch, tokens from one to the next, `busy` of `at`, whether samples of a wave wait). floor: the
        least time of a step by its other terms; beside: what the trainer and weights on their way take; held: rollouts
        wait for weights.

        Where the bound on versions binds, batches come in waves: staleness + 1 of them begin as fast as the trainer
        takes them, and the next wave waits. Where samples of a wave wait for places, they even out: a step apart."""
        under_way = self.job.staleness + 1.0
        ahead = self._ahead(lambda _: np.maximum(floor, beside + held), held)
        waits = self.at(ahead)[3] > 1.0
        if waits.any():
            even = self._ahead(lambda batch: np.maximum(floor, (batch + beside + held) / under_way), held)
            ahead = np.where(waits, even, ahead)
        _, batch, busy, _ = self.at(ahead)
        return batch + held, ahead, busy, waits

    def _ahead(self, apart: Callable[[Floats], Floats], held: Floats) -> Floats:
        """Tokens between the starts of two batches that begin so many seconds apart, by the seconds of a batch."""
        longest = float(self.curve.edges[-1])
        low = np.full_like(held, longest / (self.job.staleness + 1.0))
        ahead = high = np.full_like(held, longest)  # at first one batch after the other
        for _ in range(_ROUNDS + 1):
            period, batch, _, _ = self.at(ahead)
            is_slow = period + held > apart(batch)
            high, low = np.where(is_slow, ahead, high), np.where(is_slow, low, ahead)
            ahead = 0.5 * (low + high)
        return low
