"""What a step of a run comes to: its parts, what binds, and how far behind the weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

CyclePart = Literal[
    "generation", "reward", "policy", "reference", "critic", "teacher", "training", "sync", "switch", "other"
]
CYCLE_PARTS: tuple[CyclePart, ...] = get_args(CyclePart)
"""Parts of a step, in print order. They are what the trainer's chips do or wait for, so they sum to the step.
generation: of a colocated step all of it; of a split one the time that the trainer waits for answers. reward: waiting
for the last rewards after the last answer; sync: what is seen of it."""

Binds = Literal["rollouts", "trainer", "staleness", "longest answer", "reward", "turns"]
BINDS: tuple[Binds, ...] = get_args(Binds)
"""What a step waits for most. rollouts: their rate of tokens; trainer: its own work; staleness: the bound on versions
keeps rollouts back; longest answer: the tail of a batch; reward: rewards or a judge; turns: both sides take turns
(colocated, or staleness 0)."""


_ROUNDED = 1e-9
"""Of a step, or of 1: what is smaller is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSpan:
    """A stretch of a timeline. lane: "trainer", "rollouts" or a worker's number; what: a part of `CYCLE_PARTS`;
    version: of the weights; from_s, to_s: since the start."""

    lane: str
    what: str
    version: int
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """A step in the long run, mean over steps. parts: seconds, sum to step_s; trainer_wait_frac: share of the step in
    which the trainer's chips have nothing to do; rollout_idle_frac: share of the workers' time in which none of their
    sequences runs, and of places that stand empty while others run; longest_tokens, longest_s: of the longest answer of
    a batch, from its start to its end; staleness_mean, staleness_max: versions between the weights that made a token
    and those that train on it; sync_seen_s, sync_hidden_s: of a step; rolled_tokens: of the answers that are made for
    a step, those dropped too; spans: a timeline of a few steps (events alone)."""

    step_s: float
    parts: Mapping[CyclePart, float]
    binds: Binds
    trainer_wait_frac: float
    rollout_idle_frac: float
    longest_tokens: float
    longest_s: float
    staleness_mean: float
    staleness_max: float
    sync_seen_s: float
    sync_hidden_s: float
    rolled_tokens: float
    spans: tuple[CycleSpan, ...] = ()

    def __post_init__(self) -> None:
        """What is below a billionth of the step, or of 1, is rounding, and becomes 0."""
        least = _ROUNDED * self.step_s
        object.__setattr__(self, "parts", {name: s if s > least else 0.0 for name, s in self.parts.items()})
        for name, smallest in (
            *((name, _ROUNDED) for name in ("trainer_wait_frac", "rollout_idle_frac", "staleness_mean")),
            *((name, least) for name in ("sync_seen_s", "sync_hidden_s")),
        ):
            if getattr(self, name) <= smallest:
                object.__setattr__(self, name, 0.0)
