"""What the two sides of a run take, as the closed form and the event loop read it: plain numbers and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from mowich.arrays import Floats
from mowich.rl.job import Pass
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, eq=False)
class TokenTimes:
    """Seconds of a step of one worker, in which each of its running sequences gains `tokens_per_step` tokens.
    sequences: running on the worker, ascending from 1 [a]; context: mean tokens of their caches, ascending [b];
    seconds: of a step [a, b], linear between; prompt_s: seconds of a prompt token that is read; tokens_per_step: 1,
    more where drafts are accepted."""

    sequences: Floats
    context: Floats
    seconds: Floats
    prompt_s: float
    tokens_per_step: float = 1.0

    def step_s(self, sequences: Floats | float, context: Floats | float) -> Floats:
        """Seconds of a step at any number of running sequences and mean context, by the nearest cell at the edges."""
        n = np.clip(sequences, self.sequences[0], self.sequences[-1])
        s = np.clip(context, self.context[0], self.context[-1])
        i = np.clip(np.searchsorted(self.sequences, n, side="right") - 1, 0, max(0, len(self.sequences) - 2))
        j = np.clip(np.searchsorted(self.context, s, side="right") - 1, 0, max(0, len(self.context) - 2))
        i1, j1 = np.minimum(i + 1, len(self.sequences) - 1), np.minimum(j + 1, len(self.context) - 1)
        u = (n - self.sequences[i]) / np.maximum(self.sequences[i1] - self.sequences[i], 1e-300)
        v = (s - self.context[j]) / np.maximum(self.context[j1] - self.context[j], 1e-300)
        low = (1.0 - v) * self.seconds[i, j] + v * self.seconds[i, j1]
        high = (1.0 - v) * self.seconds[i1, j] + v * self.seconds[i1, j1]
        return np.asarray((1.0 - u) * low + u * high)

    def scaled(self, by: float) -> TokenTimes:
        """All times longer by a factor."""
        return TokenTimes(self.sequences, self.context, self.seconds * by, self.prompt_s * by, self.tokens_per_step)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSide:
    """Workers that make answers. workers: copies of the engine; times: of one worker, with what the framework adds;
    room_tokens: tokens that the cache of a worker holds; most: sequences that a worker runs at once; chips: of all
    workers."""

    workers: int
    times: TokenTimes
    room_tokens: float
    most: int
    chips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSide:
    """Chips that train. update_s: all optimizer steps of a batch, of every model that is trained; passes_s: of each
    forward pass over a batch; both with what the framework adds. chips: all of them."""

    update_s: float
    passes_s: Mapping[Pass, float]
    chips: int

    @property
    def busy_s(self) -> float:
        """Seconds of a step in which the trainer computes."""
        return self.update_s + float_sum(self.passes_s.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSide:
    """Bringing new weights to the workers. trainer_s: that the trainer is held by it; rollouts_s: that the workers are
    held; whole_s: from the first byte to the last worker that has them, at least either of both; method: of
    `rl.sync`."""

    method: str
    trainer_s: float
    rollouts_s: float
    whole_s: float

    def scaled(self, by: float) -> SyncSide:
        """All times longer by a factor."""
        return SyncSide(
            method=self.method,
            trainer_s=self.trainer_s * by,
            rollouts_s=self.rollouts_s * by,
            whole_s=self.whole_s * by,
        )


NO_SYNC = SyncSide(method="", trainer_s=0.0, rollouts_s=0.0, whole_s=0.0)
"""Weights that are there at once: what a search sees before it knows who sends them to whom."""


class Around(TypedDict):
    """What a cycle has beside its sides, as `RunSides` names it."""

    switch_s: float
    hides_passes: bool
    other_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSides:
    """All that a cycle is made of beside its job. switch_s: seconds of a colocated step in which chips change from one
    side to the other and back (sleep, wake, offload); hides_passes: forward passes run while rollouts still do (where
    the framework streams); other_s: what else the framework takes in each step."""

    rollouts: RolloutSide
    trainer: TrainerSide
    sync: SyncSide
    switch_s: float = 0.0
    hides_passes: bool = False
    other_s: float = 0.0
