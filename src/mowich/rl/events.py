"""A step of a run, by playing it: `run` plays, this says how long for and what it comes to.

Lengths are those of the job's distribution, each share of it once, in drawn order, and then the same again. Calls,
rewards and a judge take their mean times. Dynamic sampling drops its share of the groups of each step, drawn.

At the start staleness + 1 batches begin at once. They stay together for long: so many steps follow closely, then the
trainer waits. So steps are counted in whole waves of staleness + 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.rl.compiled import played
from mowich.rl.cycle import CYCLE_PARTS, Binds, Cycle, CyclePart, CycleSpan
from mowich.rl.job import RlJob
from mowich.rl.setup import STEP, RunRecord, RunSetup
from mowich.rl.sides import RunSides
from mowich.sums import float_sum

_LEAST_STEPS, _MOST_STEPS, _ENOUGH_SAMPLES = 8, 256, 32768
"""Steps that a mean is over: as many as have enough samples, within these."""
_SLIGHT_WAIT = 0.01
"""A trainer that waits for less than this share of a step binds."""
_ROUNDING = 1e-9
"""A smaller share of a step counts as 0."""
_SPAN_STEPS, _SPAN_WORKERS = 3, 16
"""Least steps and most workers that a timeline shows."""


def play(
    job: RlJob,
    sides: RunSides,
    *,
    steps: int | None = None,
    seed: int = 0,
    spans: bool = False,
) -> Cycle:
    """A step of a run, mean over `steps` of them (None: enough), rounded up to whole waves. With staleness as many are
    played before. spans: with a timeline of the last few.

    step = generation + reward + passes + training + sync + switch + other. The trainer waits for generation and reward.
    What binds: both sides' turns; the trainer, where it waits for less than 1% of the step; else what it waits for
    most. That is rewards, after the last answer of its batch; the longest answers, once as many groups as it needs are
    there but not the right ones; until then the rate of the rollouts while samples wait for a place, and else the bound
    on staleness, which lets no more samples start.

    >>> from mowich.rl.lengths import Lengths
    >>> from mowich.rl.sides import RolloutSide, SyncSide, TokenTimes, TrainerSide
    >>> times = TokenTimes(np.array([1.0]), np.array([1.0]), np.array([[0.01]]), prompt_s=0.0)
    >>> sides = RunSides(
    ...     rollouts=RolloutSide(workers=2, times=times, room_tokens=1e6, most=64, chips=2),
    ...     trainer=TrainerSide(update_s=3.0, passes_s={"policy": 1.0}, chips=2),
    ...     sync=SyncSide(method="reshard", trainer_s=1.0, rollouts_s=1.0, whole_s=1.0),
    ... )
    >>> job = RlJob(algorithm="grpo", prompts=4, samples=8, global_batch=32, prompt=100.0, most=2048.0,
    ...             lengths=Lengths(np.full(4, 1000.0), 1000.0))
    >>> cycle = play(job, sides)
    >>> round(cycle.step_s, 6), {part: round(s, 6) for part, s in cycle.parts.items() if s}
    (15.0, {'generation': 10.0, 'policy': 1.0, 'training': 3.0, 'sync': 1.0})
    """
    wave = job.staleness + 1
    steps = min(max(_LEAST_STEPS, math.ceil(_ENOUGH_SAMPLES / job.batch)), _MOST_STEPS) if steps is None else steps
    steps = math.ceil(steps / wave) * wave
    warmup = 0 if job.placement == "colocated" or job.staleness == 0 else steps
    setup = RunSetup.of(job, sides, warmup + steps, steps, seed)
    return _cycle(job, sides, setup, played(setup), warmup, spans=spans)


def _cycle(job: RlJob, sides: RunSides, setup: RunSetup, run: RunRecord, warmup: int, *, spans: bool) -> Cycle:
    column = {name: run.steps[:, i] for i, name in enumerate(STEP)}
    at = {name: values[warmup:-1] for name, values in column.items()}
    after_s = column["free_s"][warmup + 1 :]
    waits = _waits(setup, column, warmup)
    parts: dict[CyclePart, float] = dict.fromkeys(CYCLE_PARTS, 0.0)
    for one, seconds in sides.trainer.passes_s.items():
        parts[one] = seconds
    parts["training"], parts["switch"], parts["other"] = setup.update_s, setup.switch_s, setup.other_s
    parts["sync"] = max(0.0, _mean(after_s - at["trained_s"] - setup.switch_s))
    rolled = _rolled(setup, warmup)
    if not setup.takes_turns:
        waits = _in_the_long_run(waits, column, warmup, rolled)
    parts["generation"] = _mean(waits["rollouts"] + waits["staleness"] + waits["longest answer"])
    parts["reward"] = _mean(waits["reward"])
    parts["sync"] += _mean(waits["sync"])
    enough_s = _ROUNDING * float_sum(parts.values())
    parts = {part: s if s > enough_s else 0.0 for part, s in parts.items()}
    step_s = float_sum(parts.values())
    played_s = float(column["free_s"][-1] - column["free_s"][warmup]) / len(after_s)
    in_hand_s = parts["generation"] + parts["reward"] if job.placement == "colocated" else played_s
    wait_s = parts["reward"]
    if job.placement == "split":
        wait_s += parts["generation"] + _mean(waits["sync"])
        wait_s += parts["sync"] - setup.trainer_s if setup.takes_turns else 0.0
    busy_s = (column["busy_s"][-1] - column["busy_s"][warmup]) / len(after_s)
    places = setup.workers * float(column["most_running"][warmup + 1 :].max())
    longest = _longest(setup, run, warmup)
    behind = _behind(setup, run, warmup)
    return Cycle(
        step_s=step_s,
        parts=parts,
        binds=_binds(setup, waits, step_s),
        trainer_wait_frac=wait_s / step_s,
        rollout_idle_frac=min(max(1.0 - busy_s / (places * in_hand_s), 0.0), 1.0),
        longest_tokens=float(setup.draws.tokens[longest].mean()),
        longest_s=float((run.end_s - run.start_s)[longest].mean()),
        staleness_mean=behind[0],
        staleness_max=behind[1],
        sync_seen_s=parts["sync"],
        sync_hidden_s=max(0.0, setup.whole_s - parts["sync"]),
        rolled_tokens=rolled,
        spans=_spans(job, sides, setup, run, column) if spans else (),
    )


def _mean(values: Floats) -> float:
    return float(values.mean())


def _waits(setup: RunSetup, column: dict[str, Floats], warmup: int) -> dict[str, Floats]:
    """Seconds that the trainer waits for, by what, and of them those in which the workers take weights [steps]."""
    at = {name: values[warmup:-1] for name, values in column.items()}
    free_s = at["free_s"]
    whole = np.maximum(at["passed_s"] - free_s - setup.passes_s, 0.0)
    answered_s = np.clip(at["answered_s"], free_s, at["ready_s"])
    reward = np.minimum(at["ready_s"] - answered_s, whole)
    left = whole - reward
    enough_s = np.clip(np.where(at["enough_s"] < 0.0, answered_s, at["enough_s"]), free_s, answered_s)
    longest = np.minimum(answered_s - enough_s, left)
    left = left - longest
    sync = np.zeros_like(left)
    if setup.is_partial and not setup.takes_turns:
        before = {name: np.concatenate(([0.0], column[name]))[warmup : warmup + len(free_s)] for name in STEP}
        held_s = np.minimum(before["delivered_s"], enough_s) - np.maximum(before["held_s"], free_s)
        sync = np.clip(held_s, 0.0, left)
    left = left - sync
    slack = np.clip(at["slack_enough_s"] - at["slack_free_s"], 0.0, left)
    return {"rollouts": left - slack, "staleness": slack, "longest answer": longest, "reward": reward, "sync": sync}


def _rolled(setup: RunSetup, warmup: int) -> float:
    """Tokens of the answers that are made for a step."""
    step = np.repeat(setup.draws.step_of, setup.draws.samples)
    return float(setup.draws.tokens[(step >= warmup) & (step < setup.steps)].sum()) / (setup.steps - warmup)


def _in_the_long_run(
    waits: dict[str, Floats], column: dict[str, Floats], warmup: int, rolled: float
) -> dict[str, Floats]:
    """Waits, so that rollouts make as many tokens as are trained on. In some steps they make more or fewer, of answers
    that are not finished. step = seconds * rolled / made, of so many steps; the trainer's own work stays."""
    seconds, made = (float(column[name][-1] - column[name][warmup]) for name in ("free_s", "tokens"))
    waited = float(sum(waits.values(), start=np.zeros(1)).sum())
    own = seconds - waited
    steps = len(column["free_s"]) - 1 - warmup
    by = max(seconds * rolled * steps / made - own, 0.0) / max(waited, 1e-300)
    return {cause: values * by for cause, values in waits.items()}


def _binds(setup: RunSetup, waits: dict[str, Floats], step_s: float) -> Binds:
    if setup.takes_turns:
        return "turns"
    causes: tuple[Binds, ...] = ("rollouts", "staleness", "longest answer", "reward")
    means = {cause: _mean(waits[cause]) for cause in causes}
    if float_sum(means.values()) < _SLIGHT_WAIT * step_s:
        return "trainer"
    return max(causes, key=means.__getitem__)


def _trained(setup: RunSetup, run: RunRecord, warmup: int) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """(step that trained on each sample, the samples of counted steps)."""
    step = np.repeat(run.trained, setup.draws.samples)
    return step, np.flatnonzero(step >= warmup)


def _longest(setup: RunSetup, run: RunRecord, warmup: int) -> NDArray[np.intp]:
    """The longest sample of each step."""
    step, counted = _trained(setup, run, warmup)
    order = counted[np.lexsort((setup.draws.tokens[counted], step[counted]))]
    return order[np.flatnonzero(np.diff(step[order], append=setup.steps))]


def _behind(setup: RunSetup, run: RunRecord, warmup: int) -> tuple[float, float]:
    """Versions between the weights that made a token and those that train on it: mean over tokens, and most."""
    step, counted = _trained(setup, run, warmup)
    made_steps = setup.draws.tokens[counted] / setup.gain
    mean = float((step[counted] * made_steps - run.made[counted]).sum() / made_steps.sum())
    most = float((step[counted] - run.version[counted]).max())
    return min(max(mean, 0.0), most), most


def _spans(
    job: RlJob, sides: RunSides, setup: RunSetup, run: RunRecord, column: dict[str, Floats]
) -> tuple[CycleSpan, ...]:
    """The last steps, a whole wave of them: what the trainer does, when rollouts run, and of a few workers."""
    wave = setup.staleness + 1
    first = max(0, setup.steps - math.ceil(_SPAN_STEPS / wave) * wave)
    waits = _waits(setup, column, first)
    out = []

    def tell(lane: str, what: str, version: int, from_s: float, seconds: float) -> float:
        if from_s + seconds > from_s:
            out.append(CycleSpan(lane=lane, what=what, version=version, from_s=from_s, to_s=from_s + seconds))
        return from_s + max(seconds, 0.0)

    for k in range(first, setup.steps):
        at, row = {name: float(values[k]) for name, values in column.items()}, k - first
        reward_s = float(waits["reward"][row])
        waited_s = at["passed_s"] - setup.passes_s - at["free_s"] - reward_s
        now = tell("trainer", "generation", k, at["free_s"], waited_s)
        now = tell("trainer", "reward", k, now, reward_s)
        for one, seconds in sides.trainer.passes_s.items():
            now = tell("trainer", one, k, now, seconds)
        now = tell("trainer", "training", k, now, setup.update_s)
        now = tell("trainer", "other", k, now, setup.other_s)
        sync_s = float(column["free_s"][k + 1]) - setup.switch_s - now
        now = tell("trainer", "sync", k + 1, now, sync_s)
        tell("trainer", "switch", k + 1, now, setup.switch_s)
    begin_s, end_s = float(column["free_s"][first]), float(column["free_s"][-1])
    delivered_s = [float(at_s) for at_s in column["delivered_s"] if at_s > 0.0]
    lanes = [("rollouts", np.arange(len(run.worker)))]
    lanes += [(str(w), np.flatnonzero(run.worker == w)) for w in range(min(setup.workers, _SPAN_WORKERS))]
    for lane, samples in lanes:
        for from_s, to_s in _busy(run, samples, begin_s, end_s):
            edges = [from_s, *(at_s for at_s in delivered_s if from_s < at_s < to_s), to_s]
            for a, b in pairwise(edges):
                tell(lane, "generation", sum(at_s <= a for at_s in delivered_s), a, b - a)
    return tuple(out)


def _busy(run: RunRecord, samples: NDArray[np.intp], begin_s: float, end_s: float) -> list[tuple[float, float]]:
    """Stretches within two moments in which any of these samples runs."""
    ends = np.where(run.end_s < 0.0, end_s, run.end_s)
    some = samples[(run.start_s[samples] >= 0.0) & (ends[samples] > begin_s) & (run.start_s[samples] < end_s)]
    out: list[tuple[float, float]] = []
    for i in some[np.argsort(run.start_s[some], kind="stable")].tolist():
        from_s, to_s = max(float(run.start_s[i]), begin_s), min(float(ends[i]), end_s)
        if out and from_s <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], to_s))
        else:
            out.append((from_s, to_s))
    return out
