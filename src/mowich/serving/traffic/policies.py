"""What the scheduler of an engine may do: its limits, its order, how it makes room, how requests are routed."""

from __future__ import annotations

import math
from dataclasses import dataclass

SCHEDULER_POLICIES = ("fcfs", "priority", "lpm", "dfs-weight", "lof", "random")
"""Order of the queue: as they came; lower priority first; longest cached start first; by subtrees of cached starts,
that with most requests first; longest answer first; in an order that is drawn once."""
KEYED = ("priority", "lof", "random")
"""Orders by a key that a request keeps while it waits; the others are a queue."""
PREEMPTIONS = ("recompute", "swap")
RETRACT = "retract"
"""What SGLang does in the place of a preemption: it takes back the sequences with the shortest answers so far; they
keep what they wrote and wait behind those that are in the queue."""
ADMISSIONS = ("chunk", "prompt", "expected", "answer", "batch")
"""What must fit in the cache before a sequence is let in: its next chunk; its prompt; its prompt and answer beside a
part of what is to come of the others (`ratio`); its prompt and answer beside all that is to come of the others; the
same, and nothing may be inside."""
LOOKED_FOR_PREFIX = 128
"""Requests that wait, beyond which SGLang no longer looks for the longest cached start."""
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
    so many wait (enough).
    admission: see ADMISSIONS; answer_limit: tokens of an answer that requests state, where theirs is shorter;
    ratio, ratio_least, ratio_steps: part of what is to come that admission "expected" keeps free: at first, at least,
    and the decode steps between the two; retract_ahead: tokens of each sequence that have room after a retraction;
    retract_steps: those by which it expects answers to grow;
    answer_clip: tokens of an answer that it reckons with at most; long_prompt: tokens of one prompt in a step at most
    (0: as many as fit).
    compiled: sequences that a compiled step computes, however many decode (0: none is compiled); prompt_buckets,
    token_buckets: tokens of a prompt and of the longest sequence that graphs were compiled for, rising; prompt_batch:
    prompts that a compiled step of prompts computes; slot: tokens of the cache that each of its sequences has to
    itself (0: the cache is in blocks)."""

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
    admission: str = "chunk"
    answer_limit: int = 0
    ratio: float = 1.0
    ratio_least: float = 1.0
    ratio_steps: int = 600
    retract_ahead: int = 1
    retract_steps: int = 20
    answer_clip: int = 4096
    long_prompt: int = 0
    compiled: int = 0
    prompt_buckets: tuple[int, ...] = ()
    token_buckets: tuple[int, ...] = ()
    prompt_batch: int = 1
    slot: int = 0

    def __post_init__(self) -> None:
        for name in ("verified", "accepted"):
            object.__setattr__(self, name, round(getattr(self, name) / GRAIN) * GRAIN)

    @property
    def batches(self) -> int:
        """Batches that a step of the whole worker carries: a sequence is in one of them."""
        return self.groups * self.stages

    def expected_part(self, start: float, steps: int) -> float:
        """The part of what is to come that is kept free, `steps` decode steps after it was `start`."""
        return start if steps == 0 else max(self.ratio_least, start - self.fall * steps)

    @property
    def fall(self) -> float:
        """By which that part falls in each decode step."""
        return (self.ratio - self.ratio_least) / self.ratio_steps


def told_fields(scheduler: Scheduler) -> dict[str, object]:
    """What an answer tells of a scheduler: its limits, and of what engines do in their own ways that which is not the
    plain loop."""
    plain = Scheduler()
    names = scheduler.__slots__
    own = names.index("admission")
    told = {
        f: getattr(scheduler, f) for i, f in enumerate(names) if i < own or getattr(scheduler, f) != getattr(plain, f)
    }
    return {f: list(v) if isinstance(v, tuple) else v for f, v in told.items() if v != math.inf}


def bucket_of(buckets: tuple[int, ...], tokens: float) -> int:
    """The smallest bucket that holds so many tokens; the largest where none does.

    >>> bucket_of((128, 256, 512), 129), bucket_of((128, 256, 512), 900)
    (256, 512)
    """
    return next((bucket for bucket in buckets if bucket >= tokens), buckets[-1])
