"""Frameworks of reinforcement learning as facts: what they add to the software of both sides, and in what order they
work."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.rl.job import BatchOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A release of a framework. generation, training, passes: what its steps take over those of the same software in
    benchmarks of it; switch_s: of a colocated step, sleep, wake and offload; tensor_s: of each tensor of a checkpoint
    that a sync hands over by itself; sync: its method, of `rl.sync.METHODS`, by placement; order, partial: of its
    asynchronous runs; hides_passes: forward passes run while rollouts still do; overlaps_sync: the trainer goes on
    while weights travel; other_s: what else it takes in each step."""

    name: str
    display: str
    release: str
    generation: float
    training: float
    passes: float
    switch_s: float
    tensor_s: float
    sync_colocated: str
    sync_split: str
    order: BatchOrder
    partial: bool
    hides_passes: bool
    overlaps_sync: bool
    other_s: float = 0.0
