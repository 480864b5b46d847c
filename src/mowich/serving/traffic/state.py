"""What a replica holds at a moment: its sequences, its queue, its blocks, and how long a step of them takes."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable

from mowich.serving.traffic.adapters import Adapters
from mowich.serving.traffic.cache import PrefixCache
from mowich.serving.traffic.encoders import EncoderWorker
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.policies import KEYED, Scheduler, bucket_of
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.tiers import Tiering, TierStore, stores_of, tiering_of
from mowich.serving.traffic.times import Seen, StepTimes, _between


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
        "_layers_s",
        "_order",
        "_own_budget",
        "_sized",
        "_sizes",
        "_waits_from",
        "adapters",
        "blocks_private",
        "busy_s",
        "cache",
        "decoding",
        "encoder",
        "events",
        "handed",
        "handed_s",
        "handed_tokens",
        "handoff",
        "held",
        "index",
        "loading",
        "name",
        "on_done",
        "prefilling",
        "prompt_tokens",
        "queued_tokens",
        "ratio_from",
        "ratio_start",
        "s",
        "seen",
        "served",
        "slots",
        "spans",
        "steps",
        "t",
        "tiering",
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
        tiering: Tiering | None = None,
        stores: tuple[TierStore, ...] | None = None,
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
        self.waiting: list[tuple[float, int, Slot]] | deque[Slot] = [] if scheduler.policy in KEYED else deque()
        name_B = scheduler.hash_block * times.kv_B
        each = max(1, scheduler.hash_block // scheduler.block)
        self.tiering = tiering_of(scheduler, times.kv_B) if tiering is None else tiering
        self.cache = PrefixCache(each, stores_of(self.tiering, name_B, 1)[0] if stores is None else stores)
        self.adapters = None if times.adapters is None else Adapters(times.adapters)
        self.loading: list[tuple[float, int, Slot]] = []  # what has come of a tier, when, in order of it
        self.held: dict[int, Slot] = {}  # those of the queue, and on their way to it, that hold blocks
        self._layers_s = 0.0
        self.blocks_private = 0
        self.window_sums = [0.0] * len(times.windows)
        self.busy_s = 0.0
        self.steps = self.events = self.prompt_tokens = self.served = 0
        self.queued_tokens = 0
        self.ratio_start, self.ratio_from = scheduler.ratio, 0  # the part of answers kept free, and the step it was so
        self.handed_s, self.handed, self.handed_tokens = -math.inf, 0, 0  # of the last step that handed prompts on
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
    def adapter_loads(self) -> tuple[int, int]:
        """Times that an adapter was brought to the device, and those of them that it was read from disk."""
        return (0, 0) if self.adapters is None else (self.adapters.loads, self.adapters.reads)

    @property
    def load(self) -> int:
        """Requests inside."""
        return len(self.waiting) + len(self.prefilling) + len(self.slots) + len(self.loading)

    @property
    def waits(self) -> int:
        """Requests in the queue."""
        return len(self.waiting)

    @property
    def kv_share(self) -> float:
        """Share of the cache's blocks in use; idle ones, which give way, are left out."""
        return self._used(self.D) / self._cap

    def load_at(self, at: float) -> int:
        """Requests inside at a time that the running step may have passed: prompts that it hands on are here until it
        ends."""
        return self.load + (0 if earlier(self.handed_s) <= at else self.handed)

    def tokens_ahead(self, request: UserRequest, at: float) -> float:
        """Tokens that stand before and of a request here: prompts to come, contexts that decode, and what of its own
        prompt is not in the cache."""
        under_way = sum(one.need - one.done for one in self.prefilling)
        under_way += sum(item[2].need - item[2].done for item in self.loading)
        if earlier(self.handed_s) > at:
            under_way += self.handed_tokens
        own = max(1.0, request.prompt - self.tokens_here(request))
        return self.queued_tokens + under_way + self.S + own

    @property
    def moved_B(self) -> list[tuple[float, float]]:
        """Bytes that came from each tier, and that were written to it."""
        return [(store.read_B, store.written_B) for store in self.cache.tiers]

    def tokens_here(self, request: UserRequest) -> float:
        """Tokens of its prompt that this replica need not compute, less those that it could compute while the tiers
        send theirs."""
        if not self.s.prefix_cache:
            return 0
        here, away = self.cache.found(request.hashes, self.t)
        if not away:
            return here * self.s.hash_block
        tokens = (here + len(away)) * self.s.hash_block
        seconds = self._loaded_s(away, self.t) - self.t
        return max(here * self.s.hash_block, tokens * (1.0 - seconds / max(seconds, self._prompt_s(0, tokens))))

    def _loaded_s(self, away: list[int], now: float) -> float:
        """When so many blocks of each tier would have come if they were asked for now."""
        return max(
            [store.read_end_s(n, now) for k, store in enumerate(self.cache.tiers, 1) if (n := away.count(k))],
            default=now,
        )

    def _prompt_s(self, done: int, tokens: int) -> float:
        """Seconds to compute `tokens` prompt tokens after `done` ones, in whole steps without decodes."""
        if tokens <= 0:
            return 0.0
        most = min(self.s.budget, tokens)
        return tokens / most * _between(self.times.tokens, most) + self.times.prompt_s(done, tokens)

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
        free = self._free(more)
        if free < 0:
            return False
        if self.cache.idle:
            self.cache.shrink(free, self.t)
        return True

    def _free(self, more: int) -> int:
        """Blocks that are left beside `more` and the next token of every decoding sequence, idle ones among them."""
        D = self.D + 1
        if self._bound(D) + more > self._cap:
            return self._cap - self._used(D) - more
        return self._cap - math.ceil(self._bound(D)) - more

    def _fullest(self, n: int) -> int:
        """Sequences of the rank group that holds most, when n are spread evenly."""
        return -(-n // self.s.groups)

    def _own_room(self) -> int:
        """Tokens of one prompt that a step takes: it is in one batch, beside the decodes of that batch."""
        if not self.s.mixes or not self.slots:
            return max(1, self._own_budget)
        return max(1, self._own_budget - math.ceil(self._fullest(len(self.slots)) * self.s.verified / self.s.stages))

    def _factor(self) -> float:
        """The correction of steps at the present load and lengths; of compiled steps, at those of the graph."""
        if self.s.compiled:
            prompts = [one.need for one in self.prefilling]
            tokens = bucket_of(self.s.prompt_buckets, max(prompts)) if prompts else self._token_bucket()
            return self.times.tpot.factor(max(1.0, self.s.compiled / self.s.groups), math.log2(tokens))
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
        if self.s.compiled:
            return self._compiled_s(more)
        if self._is_one_group and verified == 1.0 and times.reading is None and self.adapters is None:
            # the common case, without a call
            seconds = times.tokens[n] + times.sampled[n] + times.per_context * (self.S + more)
            return seconds if not times.windows else seconds + self._windows_s(more)
        fullest = self._fullest(n)
        seconds = (
            times.of_tokens(fullest * verified, n / self.s.groups * verified)
            + times.sampled[fullest]
            + self._reading_s(n, more)
        )
        return seconds if self.adapters is None else seconds + self.adapters.extra_s(fullest * verified)

    def _longest(self) -> float:
        """Tokens of the longest decoding sequence."""
        return max((one.origin for one in self.slots.values()), default=0.0) + self.s.accepted * self.D

    def _token_bucket(self, more: float = 0.0) -> int:
        """The bucket of the next decode step: it holds the next tokens of every sequence, and of one of `more`."""
        return bucket_of(self.s.token_buckets, math.ceil(max(self._longest(), more) + self.s.accepted))

    def _steps_in_bucket(self) -> int:
        """Decode steps of the present batch that stay in the bucket of the next one, at least one."""
        return max(1, int((self._token_bucket() - self._longest()) / self.s.accepted))

    def _compiled_s(self, more: float) -> float:
        """Time of a decode step of the graph: of all its sequences, each as long as the bucket."""
        n, times, verified = self.s.compiled, self.times, self.s.verified
        bucket, fullest = self._token_bucket(more), self._fullest(self.s.compiled)
        seconds = times.of_tokens(fullest * verified, n / self.s.groups * verified) + times.sampled[fullest]
        seconds += times.reading_s(fullest, float(fullest * bucket))
        for width, each in times.windows:
            seconds += each * fullest * min(float(bucket), width)
        return seconds if self.adapters is None else seconds + self.adapters.extra_s(fullest * verified)

    def _compiled_prompts(self, longest: int) -> tuple[int, float]:
        """(tokens, seconds of their attention) of a step of the graph for prompts of which the longest has so many
        tokens: it computes its whole batch, each prompt as long as the bucket."""
        bucket = bucket_of(self.s.prompt_buckets, longest)
        tokens = bucket * -(-longest // bucket)  # what was generated before a preemption may be beyond the largest
        return tokens * self.s.prompt_batch, self.times.prompt_s(0, tokens) * self.s.prompt_batch

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
            self.cache.shrink(self._cap - blocks(low), self.t)
        return low
