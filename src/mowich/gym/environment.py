"""The environment: a task, candidates as text, what the judge says of each, and a reward."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from mowich.errors import UserError
from mowich.examples import TASK_PREFIX
from mowich.neuroncore.order import order_between
from mowich.neuroncore.targets import generation_of
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.judge import JudgeAsk, Judged, judge_kernels
from mowich.studies.kernel_tasks import KernelTask, kernel_task

REWARD_FLOOR = 0.1
"""Least reward of a candidate that is right."""
_LIMITS = ((20.0, 4.0), (600.0, 16.0))
"""Seconds and GiB of a candidate, at small and at full sizes."""


class Observation(TypedDict):
    """What a program sees: numbers and text alone. task, what, kernel: the name of the task, what it computes, the
    function to write; text: the file to begin from, with the reference; status: "ok" (right), "wrong" or "refused";
    reason: of one that is not right, with its line, "" of others; time_s: predicted seconds with low_s and high_s, None
    where it is not right; binds: the engine that works longest; hbm_B: bytes to and from HBM; start_s: seconds of the
    kernel to begin from; best_s: of the fastest that was right; steps: candidates so far."""

    task: str
    what: str
    kernel: str
    text: str
    status: str
    reason: str
    time_s: float | None
    low_s: float | None
    high_s: float | None
    binds: str | None
    hbm_B: float | None
    start_s: float
    best_s: float
    steps: int


def kernel_reward(status: str, time_s: float | None, start_s: float) -> float:
    """Reward of a candidate, from whether it is right and how long it takes.

        R = max(1 + log2(start_s / time_s), R_floor)

    for one that is right: 1 as fast as the kernel to begin from, one more for each halving of the time. 0 for a wrong
    one, -1 for one that is refused (it may not be run, or does not run to its end). A right one never gets less than
    `REWARD_FLOOR`, so that a slow right kernel stands above a fast wrong one.

    Args:
        status: "ok" (right), "wrong" or "refused".
        time_s: predicted seconds of a right one.
        start_s: of the kernel to begin from.

    >>> kernel_reward("ok", 5e-6, 10e-6), kernel_reward("wrong", None, 1e-5), kernel_reward("refused", None, 1e-5)
    (2.0, 0.0, -1.0)
    """
    if status != "ok" or time_s is None:
        return 0.0 if status == "wrong" else -1.0
    return max(1.0 + math.log2(start_s / time_s), REWARD_FLOOR)


class KernelGym:
    """An environment of Gymnasium's form: `reset` begins with a task, `step` takes the text of a kernel's file.

    The same task, seed and texts give the same observations and rewards: no clock of this machine is in them.

    Args:
        target: "trn1", "trn2" or "trn3".
        full: judge at the sizes that a task is meant for, which takes seconds to minutes; False: at its small ones.
        most_steps: candidates after which an episode is truncated.
        goal: times as fast as the kernel to begin from, at which an episode is over; None: never.
        seeds: draws of the arguments, 1 to 8.
        timeout_s: most seconds that a candidate may take (None: 20, at full sizes 600).
        memory_GiB: most memory that it may take (None: 4, at full sizes 16).
        cache: a folder where what each candidate gave is kept, by its content.

    Units: seconds, bytes.

    Example:
        >>> from mowich.gym import KernelGym
        >>> gym = KernelGym(seeds=1)
        >>> seen, info = gym.reset("gelu", seed=1)
        >>> seen, reward, terminated, truncated, info = gym.step(seen["text"])
        >>> seen["status"], reward
        ('ok', 1.0)
    """

    def __init__(
        self,
        *,
        target: str = "trn3",
        full: bool = False,
        most_steps: int = 100,
        goal: float | None = None,
        seeds: int = 2,
        timeout_s: float | None = None,
        memory_GiB: float | None = None,
        cache: str | Path | None = None,
    ) -> None:
        generation_of(target)
        self._target, self._full, self._most_steps, self._goal = target, full, most_steps, goal
        small, large = _LIMITS
        usual_s, usual_GiB = large if full else small
        self._seeds = seeds
        self._timeout_s = usual_s if timeout_s is None else timeout_s
        self._memory_GiB = usual_GiB if memory_GiB is None else memory_GiB
        self._cache = None if cache is None else Path(cache)
        self._task: KernelTask | None = None
        self._ask: JudgeAsk | None = None
        self._start: Judged | None = None
        self._best_s, self._steps = math.inf, 0

    def reset(self, task: str = "softmax", seed: int = 0) -> tuple[Observation, dict[str, object]]:
        """Begin with a task. The observation has the file to begin from, judged.

        Args:
            task: a name of `kernel_tasks()`.
            seed: of what is drawn, beside a candidate's text.

        Raises UserError for an unknown task, and for one that does not run on the target.
        """
        self._task = kernel_task(task.removeprefix(TASK_PREFIX))
        sizes = self._task.full if self._full else ""
        self._ask = JudgeAsk(
            reference=ReferenceFile(self._task.path, ""),
            kernel=self._task.kernel,
            how=JudgeRun(target=self._target),
            shapes=(sizes,) if sizes else (),
            seeds=self._seeds,
            seed=seed,
            time_s=self._timeout_s,
            memory_B=int(self._memory_GiB * 2**30),
            cache=self._cache,
        )
        self._start, self._steps = self._judged(self._task.text), 0
        start_s = _time_s(self._start)
        if start_s is None:
            raise UserError(f"task {task} does not run on {self._target}: {self._start.reason}")
        self._best_s = start_s
        return self._seen(self._start), {"judged": self._start}

    def step(self, text: str) -> tuple[Observation, float, bool, bool, dict[str, object]]:
        """Judge a candidate: (observation, reward, terminated, truncated, info).

        terminated: the goal is reached; truncated: `most_steps` are made; info: the row of the judge as "judged", and
        as "p_faster" the probability that it is faster than the kernel to begin from. Raises UserError before `reset`.

        Args:
            text: of a file with the kernel, as a program wrote it.
        """
        if self._start is None:
            raise UserError("an episode begins with reset()")
        judged = self._judged(text)
        time_s, start_s = _time_s(judged), _time_s(self._start)
        assert start_s is not None
        self._steps += 1
        self._best_s = min(self._best_s, math.inf if time_s is None else time_s)
        reward = kernel_reward(judged.status, time_s, start_s)
        is_reached = time_s is not None and self._goal is not None and start_s / time_s >= self._goal
        info: dict[str, object] = {"judged": judged, "p_faster": self._p_faster(judged)}
        return self._seen(judged), reward, is_reached, self._steps >= self._most_steps, info

    def close(self) -> None:
        """Nothing stays open between two steps."""

    def _judged(self, text: str) -> Judged:
        assert self._ask is not None
        [row] = judge_kernels([KernelCandidate(name="candidate.py", text=text)], self._ask).rows
        # a right one without a time is of no use to who looks for a fast one
        return replace(row, status="refused", reason=_untimed(row)) if row.status == "ok" and not row.rank else row

    def _p_faster(self, judged: Judged) -> float | None:
        assert self._start is not None
        if judged.run is None or self._start.run is None:
            return None
        slower = order_between(judged.run.side, self._start.run.side).p_a_slower
        return None if slower is None else 1.0 - slower

    def _seen(self, judged: Judged) -> Observation:
        assert self._task is not None
        assert self._start is not None
        start_s, time_s = _time_s(self._start), _time_s(judged)
        assert start_s is not None
        figures = None if time_s is None or judged.run is None else judged.run.figures
        return Observation(
            task=self._task.name,
            what=self._task.what,
            kernel=self._task.kernel,
            text=self._task.text,
            status=judged.status,
            reason=judged.reason,
            time_s=time_s,
            low_s=None if figures is None else figures["time_s"]["low"],
            high_s=None if figures is None else figures["time_s"]["high"],
            binds=None if figures is None else figures["binds"],
            hbm_B=None if figures is None else figures["hbm_B"],
            start_s=start_s,
            best_s=self._best_s,
            steps=self._steps,
        )


def _time_s(judged: Judged) -> float | None:
    """Predicted seconds of a candidate that is right."""
    return None if judged.status != "ok" or judged.run is None else judged.run.side.time_s


def _untimed(judged: Judged) -> str:
    return f"it cannot be timed: {'' if judged.run is None else judged.run.side.reason}"
