"""What the scheduler of an engine may do: its limits, its order, how it makes room, how requests are routed."""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULER_POLICIES = ("fcfs", "priority")
PREEMPTIONS = ("recompute", "swap")
ROUTES = ("round-robin", "least-loaded", "prefix", "kv")
"""prefix: where the longest start of the prompt is cached, unless that replica is much fuller; kv: where fewest tokens
stand before it, its own uncached ones among them."""
GRAIN = 2.0**-30
"""Of a token: sums of contexts that grow by whole grains are exact, in any order, up to eight million tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """How a replica batches. groups: of attention data parallelism, that step together; stages: of a pipeline, each
    with a batch of its own under way. Of all of these
    together: budget: tokens per step; max_sequences: running at once; blocks: of the cache, `block` tokens each.
    chunks: whether a prompt may be cut; mixes: whether prompts and decodes share a step; packs: whether several prompts
    of a batch share a step; policy, preemption: see
    POLICIES, PREEMPTIONS; prefix_cache: keep blocks of finished prompts; hash_block: tokens that one hash of a request
    names; host_blocks, host_Bps: cache in host memory and the way to it;
    verified, accepted: tokens per sequence and step that are verified and kept (speculative decoding), to GRAIN;
    interval: steps between two looks for new requests; wait: steps that the first new request waits for others, unless
    so many wait (enough)."""

    budget: int = 8192
    max_sequences: int = 256
    blocks: int = 10**9
    block: int = 16
    chunks: bool = True
    mixes: bool = True
    packs: bool = True
    policy: str = "fcfs"
    preemption: str = "recompute"
    prefix_cache: bool = False
    hash_block: int = 512
    host_blocks: int = 0
    host_Bps: float = math.inf
    verified: float = 1.0
    accepted: float = 1.0
    groups: int = 1
    stages: int = 1
    interval: int = 1
    wait: int = 0
    enough: float = math.inf

    def __post_init__(self) -> None:
        for name in ("verified", "accepted"):
            object.__setattr__(self, name, round(getattr(self, name) / GRAIN) * GRAIN)

    @property
    def batches(self) -> int:
        """Batches that a step of the whole worker carries: a sequence is in one of them."""
        return self.groups * self.stages
