"""What a replica holds at a moment: its sequences, its queue, its blocks, and how long a step of them takes."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable

from mowich.serving.traffic.cache import PrefixCache
from mowich.serving.traffic.encoders import EncoderWorker
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.times import Seen, StepTimes


class State:
    """What a replica holds: sequences, queue, blocks, and the times of its steps. `Replica` moves it on."""

    __slots__ = (
        "D",
        "S",
        "_batches",
        "_cap",
        "_correction",
        "_inside",
        "_is_one_group",
        "_order",
        "_own_budget",
        "_sized",
        "_sizes",
        "_waits_from",
        "blocks_private",
        "busy_s",
        "cache",
        "decoding",
        "encoder",
        "events",
        "handoff",
        "index",
        "name",
        "on_done",
        "prefilling",
        "prompt_tokens",
        "queued_tokens",
        "s",
        "seen",
        "served",
        "slots",
        "spans",
        "steps",
        "t",
        "times",
        "up_s",
        "waiting",
        "window_sums",
    )

    def __init__(
        self,
        index: int,
        times: StepTimes,
        scheduler: Scheduler,
        *,
        handoff: Callable[[float, Slot], float] | None = None,
        on_done: Callable[[UserRequest], None] | None = None,
        trace: bool = False,
        name: str = "replica",
        seen: Seen | None = None,
        encoder: EncoderWorker | None = None,
    ) -> None:
        self.index, self.times, self.s, self.name = index, times, scheduler, name
        self.handoff, self.on_done, self.seen = handoff, on_done, seen
        self.encoder = encoder
        self.t = 0.0
        self.up_s = 0.0
        self.D = 0
        self._waits_from = 0
        self.S = 0.0
        self.slots: dict[int, Slot] = {}
        self.decoding: list[tuple[int, int, Slot]] = []
        self.prefilling: deque[Slot] = deque()
        self.waiting: list[tuple[float, int, Slot]] | deque[Slot] = [] if scheduler.policy == "priority" else deque()
        self.cache = PrefixCache(max(1, scheduler.hash_block // scheduler.block), scheduler.host_blocks)
        self.blocks_private = 0
        self.window_sums = [0.0] * len(times.windows)
        self.busy_s = 0.0
        self.steps = self.events = self.prompt_tokens = self.served = 0
        self.queued_tokens = 0
        self._order = 0
        self._is_one_group = scheduler.groups == 1
        self._batches = scheduler.batches
        self._own_budget = scheduler.budget // self._batches
        self._inside, self._sized, self._correction = (
            -1,
            0.0,
            1.0,
        )  # what the correction of steps was last worked out for, and it
        self._sizes = 0.0  # sum of the sizes of prompts under way and decoding
        self._cap = scheduler.blocks
        self.spans: list[tuple[float, float, int, int, int]] | None = [] if trace else None

    @property
    def load(self) -> int:
        """Requests inside."""
        return len(self.waiting) + len(self.prefilling) + len(self.slots)

    def tokens_ahead(self, request: UserRequest) -> float:
        """Tokens that stand before and of a request here: prompts to come, contexts that decode, and what of its own
        prompt is not in the cache."""
        under_way = sum(one.need - one.done for one in self.prefilling)
        here = self.cache.match(request.hashes)[0] * self.s.hash_block if self.s.prefix_cache else 0
        return self.queued_tokens + under_way + self.S + max(1, request.prompt - here)

    def _used(self, D: int) -> int:
        """Blocks in use when the decode counter is D, exactly."""
        return self.blocks_private + self.cache.used_blocks + self._decoding_blocks(D)

    def _decoding_blocks(self, D: int, one: Slot | None = None) -> int:
        """Those of the decoding sequences, or of one of them, without what they share."""
        block, a = self.s.block, self.s.accepted
        some = self.slots.values() if one is None else (one,)
        return sum(-(-int(q.origin + a * D + 0.999999) // block) - q.hit for q in some)

    def _bound(self, D: int) -> float:
        """At least the blocks in use at D: exact up to one block per sequence."""
        n = len(self.slots)
        context = self.S + n * self.s.accepted * (D - self.D)
        return self.blocks_private + self.cache.used_blocks + context / self.s.block + n

    def _fits(self, more: int) -> bool:
        """Whether `more` blocks are free beside the next token of every decoding sequence; idle cached blocks are
        evicted for them."""
        D = self.D + 1
        if self._bound(D) + more > self._cap:
            free = self._cap - self._used(D) - more
        else:
            free = self._cap - math.ceil(self._bound(D)) - more
        if free < 0:
            return False
        if self.cache.idle:
            self.cache.shrink(free)
        return True

    def _fullest(self, n: int) -> int:
        """Sequences of the rank group that holds most, when n are spread evenly."""
        return -(-n // self.s.groups)

    def _own_room(self) -> int:
        """Tokens of one prompt that a step takes: it is in one batch, beside the decodes of that batch."""
        if not self.s.mixes or not self.slots:
            return max(1, self._own_budget)
        return max(1, self._own_budget - math.ceil(self._fullest(len(self.slots)) * self.s.verified / self.s.stages))

    def _factor(self) -> float:
        """The correction of steps at the present load and lengths."""
        inside, sizes = len(self.slots) + len(self.prefilling), self._sizes
        if inside != self._inside or sizes != self._sized:  # else as it was
            self._inside, self._sized = inside, sizes
            self._correction = self.times.tpot.factor(
                max(1.0, inside / self.s.groups), sizes / inside if inside else 10.0
            )
        return self._correction

    def _reading_s(self, n: int, more: float = 0.0) -> float:
        """Time of reading the cache in a decode step of the n sequences of the present batch, and `more` tokens: of the
        fullest rank group."""
        share = 1.0 if self._is_one_group else self._fullest(n) / n
        seconds = self.times.reading_s(self._fullest(n), (self.S + more) * share)
        return seconds + self._windows_s(more) * share if self.times.windows else seconds

    def _windows_s(self, more: float) -> float:
        """The part of it in layers with a window."""
        seconds = 0.0
        for (width, each), held in zip(self.times.windows, self.window_sums, strict=True):
            seconds += each * (held + min(more, width))
        return seconds

    def _plain_s(self, n: int, more: float = 0.0) -> float:
        """Time of one decode step of n sequences, those of the present batch (and one of `more` tokens of context),
        without correction and without the extra time of verifying."""
        verified, times = self.s.verified, self.times
        if self._is_one_group and verified == 1.0 and times.reading is None:  # the common case, without a call
            seconds = times.tokens[n] + times.sampled[n] + times.per_context * (self.S + more)
            return seconds if not times.windows else seconds + self._windows_s(more)
        fullest = self._fullest(n)
        return (
            times.of_tokens(fullest * verified, n / self.s.groups * verified)
            + times.sampled[fullest]
            + self._reading_s(n, more)
        )

    def _until_full(self, most: int, prompt: Slot | None = None, take: int = 0, *, decodes: bool = True) -> int:
        """The most steps, up to `most`, after which the cache still holds the batch; idle blocks give way. prompt: what
        has its tokens of the first step, and takes `take` more in each later one; decodes: whether the batch decodes
        in these steps."""

        def blocks(k: int) -> int:
            used = self._used(self.D + (k if decodes else 1))
            if prompt is not None and k > 0:
                held = -(-(prompt.done + (k - 1) * take) // self.s.block) - prompt.hit
                used += max(0, held) - prompt.blocks
            return used

        low = bisect.bisect_left(range(1, most + 1), True, key=lambda k: blocks(k) > self._cap)
        if self.cache.idle:
            self.cache.shrink(max(0, self._cap - blocks(low)))
        return low
