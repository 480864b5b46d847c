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
    """How a replica batches."""

    budget: int = 8192
    """Tokens per step, of all groups and stages together."""
    max_sequences: int = 256
    """Sequences that run at once, of all groups and stages together."""
    blocks: int = 10**9
    """Blocks of the cache, of all groups and stages together."""
    block: int = 16
    """Tokens of a block."""
    chunks: bool = True
    """Whether a prompt may be cut."""
    mixes: bool = True
    """Whether prompts and decodes share a step."""
    packs: bool = True
    """Whether several prompts of a batch share a step."""
    policy: str = "fcfs"
    """One of POLICIES."""
    preemption: str = "recompute"
    """One of PREEMPTIONS."""
    prefix_cache: bool = False
    """Whether blocks of finished prompts are kept."""
    hash_block: int = 512
    """Tokens that one hash of a request names."""
    host_blocks: int = 0
    """Blocks of cache in host memory."""
    host_Bps: float = math.inf
    """Bytes/s of the way to host memory."""
    verified: float = 1.0
    """Tokens per sequence and step that are verified (speculative decoding)."""
    accepted: float = 1.0
    """Tokens per sequence and step that are kept, to GRAIN."""
    groups: int = 1
    """Groups of attention data parallelism, that step together."""
    stages: int = 1
    """Stages of a pipeline, each with a batch of its own under way."""
    interval: int = 1
    """Steps between two looks for new requests."""
    wait: int = 0
    """Steps that the first new request waits for others."""
    enough: float = math.inf
    """New requests at which it waits no longer."""
    admission: str = "chunk"
    """One of ADMISSIONS."""
    answer_limit: int = 0
    """Tokens of an answer that requests state, where theirs is shorter."""
    ratio: float = 1.0
    """Part of what is to come that admission "expected" keeps free, at first."""
    ratio_least: float = 1.0
    """The same part at least."""
    ratio_steps: int = 600
    """Decode steps in which it falls from the first to the least."""
    retract_ahead: int = 1
    """Tokens of each sequence that have room after a retraction."""
    retract_steps: int = 20
    """Steps by which a retraction expects answers to grow."""
    answer_clip: int = 4096
    """Tokens of an answer that admission reckons with at most."""
    long_prompt: int = 0
    """Tokens of one prompt in a step at most; 0: as many as fit."""
    compiled: int = 0
    """Sequences that a compiled step always computes, also where fewer decode; 0: no step is compiled."""
    prompt_buckets: tuple[int, ...] = ()
    """Tokens of a prompt that graphs were compiled for, rising."""
    token_buckets: tuple[int, ...] = ()
    """Tokens of the longest sequence that graphs were compiled for, rising."""
    prompt_batch: int = 1
    """Prompts that a compiled step of prompts computes."""
    slot: int = 0
    """Tokens of the cache that each sequence of a compiled step has to itself; 0: the cache is in blocks."""

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
