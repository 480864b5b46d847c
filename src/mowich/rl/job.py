"""What a run of reinforcement learning is, without machines: batch, lengths, passes, and the order of its work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from mowich.rl.lengths import Lengths

LearningAlgorithm = Literal["grpo", "ppo", "dapo", "distill"]
ALGORITHMS: tuple[LearningAlgorithm, ...] = get_args(LearningAlgorithm)

SidePlacement = Literal["colocated", "split"]
PLACEMENTS: tuple[SidePlacement, ...] = get_args(SidePlacement)
"""Rollouts and updates take turns on the same chips, or each has its own."""

BatchOrder = Literal["started", "finished"]
BATCH_ORDERS: tuple[BatchOrder, ...] = get_args(BatchOrder)
"""Which groups an update takes: those that were started first, or those that are finished first."""

Pass = Literal["policy", "reference", "critic", "teacher"]
PASSES: tuple[Pass, ...] = get_args(Pass)
"""Forward passes over a finished batch, by model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a sample waits for besides the making of its tokens. turns: of the model in a sample, 1: no tool is called
    between; call_s: mean seconds of a call between two turns; reward_s: mean seconds until the reward of a finished
    sample is there; judged_per_s: samples that a judge on chips of its own rates in a second (inf: no judge);
    judge_chips: those."""

    turns: float = 1.0
    call_s: float = 0.0
    reward_s: float = 0.0
    judged_per_s: float = float("inf")
    judge_chips: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RlJob:
    """One run. prompts: groups of a step; samples: answers to each; global_batch: samples of an optimizer step; epochs:
    how often a batch is trained on; prompt: mean tokens of a prompt; lengths: of answers; most: the longest sequence
    that the trainer packs, prompt and answer; passes: forward passes over a batch before it is trained on; trained:
    models that are updated (2 with a critic); acceptance: share of groups that dynamic sampling keeps (1: all).

    staleness: versions that the weights which made a token may be behind those that train on it; 0: rollouts wait for
    the update. Split alone has more than 0. order: which groups an update takes; partial: new weights reach answers
    that are being made, so a sync waits for none of them.
    """

    algorithm: LearningAlgorithm
    prompts: int
    samples: int
    global_batch: int
    lengths: Lengths
    prompt: float
    most: float
    epochs: int = 1
    passes: tuple[Pass, ...] = ("policy",)
    trained: int = 1
    acceptance: float = 1.0
    placement: SidePlacement = "colocated"
    staleness: int = 0
    order: BatchOrder = "finished"
    partial: bool = True
    environment: Environment = Environment()

    @property
    def batch(self) -> int:
        """Samples that a step trains on: prompts x samples."""
        return self.prompts * self.samples

    @property
    def rolled(self) -> float:
        """Samples that are made for one step: more than it trains on where dynamic sampling drops groups."""
        return self.batch / self.acceptance

    @property
    def updates(self) -> float:
        """Optimizer steps of a batch."""
        return self.epochs * self.batch / self.global_batch

    @property
    def tokens(self) -> float:
        """Mean tokens of a step that are trained on, prompts with them."""
        return self.batch * (self.prompt + self.lengths.mean)
