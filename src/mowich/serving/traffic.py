"""Serving traffic, iteration by iteration: continuous batching on one replica, many replicas, prefill and decode apart,
and failures.

A replica is an engine such as vLLM: each step carries one token of every decoding sequence and chunks of waiting
prompts up to a token budget, while the cache has blocks. A batch that does not change is advanced to the next arrival,
completion or cache limit in one move, exactly: the time of k decode steps is a quadratic in k. So cost follows events,
not tokens. `StepTimes` holds the step times of one worker as tables made by the same formulas as the steady state
(`opcost.step`), `Seen` its rule for the time to first token (`serve.Front`) with its correction. Requests come from
`arrivals`; scenarios are read in `studies.traffic`.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mowich.serving.corrections import UNCORRECTED, Along
from mowich.serving.steady import Front, kv_B_per_sequence
from mowich.serving.step import Shapes, step, total
from mowich.software.engine import Costs, Engine

POLICIES = ("fcfs", "priority")
PREEMPTIONS = ("recompute", "swap")
ROUTES = ("round-robin", "least-loaded", "prefix")


class Request:
    """One request and what happened to it. Times in s on the simulation's clock; -1 until they happen. priority: lower
    goes first;
    hashes: names of the prompt's blocks, for prefix caching; late_s: from the engine's time of a token to the user's
    (below 0 where the correction says that prompts are faster than the steps)."""

    __slots__ = (
        "arrival_s",
        "cached",
        "decoder",
        "failures",
        "first_token_s",
        "hashes",
        "id",
        "last_token_s",
        "late_s",
        "output",
        "preemptions",
        "priority",
        "prompt",
        "replica",
        "scheduled_s",
    )

    def __init__(
        self, id: str, arrival_s: float, prompt: int, output: int, hashes: tuple[int, ...] = (), priority: int = 0
    ) -> None:
        self.id, self.arrival_s, self.prompt, self.output = id, arrival_s, prompt, output
        self.hashes, self.priority = hashes, priority
        self.scheduled_s = self.first_token_s = self.last_token_s = -1.0
        self.replica = self.decoder = -1
        self.cached = self.preemptions = self.failures = 0
        self.late_s = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """How a replica batches. groups: of attention data parallelism, that step together; stages: of a pipeline, each
    with a batch of its own under way. Of all of these
    together: budget: tokens per step; max_sequences: running at once; blocks: of the cache, `block` tokens each.
    chunks: whether a prompt may be cut; mixes: whether prompts and decodes share a step; policy, preemption: see
    POLICIES, PREEMPTIONS; prefix_cache: keep blocks of finished prompts; hash_block: tokens that one hash of a request
    names; host_blocks, host_Bps: cache in host memory and the way to it;
    verified, accepted: tokens per sequence and step that are verified and kept (speculative decoding)."""

    budget: int = 8192
    max_sequences: int = 256
    blocks: int = 10**9
    block: int = 16
    chunks: bool = True
    mixes: bool = True
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

    @property
    def batches(self) -> int:
        """Batches that a step of the whole worker carries: a sequence is in one of them."""
        return self.groups * self.stages


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Step times of one worker as plain floats, made once, without corrections. A rank group that holds m tokens in all
    its pipeline stages together: tokens[m]: matrices, collectives and fixed layers, and experts where there is one
    group; experts[m]: experts where all groups together hold m tokens for each group (empty with one group);
    sampled[n]: head for n sequences and host time; per_context: seconds per context token of a decoding sequence in
    layers without a window; windows: (tokens, seconds per token) of layers with one. A prompt in one batch:
    prefill_step: of a step with prompt tokens;
    pair: seconds per (prompt token, attended token); window_pairs: the same for windowed layers; prompt_token: of
    recurrent layers, per prompt token. kv_B: bytes per cached token on the worker; verify: time of a step that verifies
    several tokens over that of a plain one; tpot: the correction of steps."""

    tokens: list[float]
    sampled: list[float]
    per_context: float
    windows: tuple[tuple[float, float], ...]
    prefill_step: float
    pair: float
    window_pairs: tuple[tuple[float, float], ...]
    kv_B: float
    experts: tuple[float, ...] = ()
    prompt_token: float = 0.0
    verify: float = 1.0
    tpot: Along = UNCORRECTED

    @classmethod
    def of(cls, s: Shapes, c: Costs, e: Engine, scheduler: Scheduler, tpot: Along | None = None) -> StepTimes:
        """Tables of one case (`s`, `c`, `e` of length 1): of the batch of the fullest rank group. Pipeline stages share
        a group's sequences evenly."""
        v, stages = scheduler.verified, scheduler.stages
        most = -(-scheduler.max_sequences // scheduler.groups)
        limit = scheduler.budget // scheduler.groups + math.ceil(most * v) + stages + 1
        m = np.arange(limit + 1, dtype=np.float64)
        every = np.zeros(len(m), dtype=np.intp)
        share = 1.0 / stages
        ones = step(s.take(every), c.take(every), n=0.0, context=0.0, prompt=m * share)
        apart = {"experts"} if scheduler.groups > 1 else set()
        body = total({k: x for k, x in ones.items() if k not in {"head", "host", "prefill_attention", *apart}})
        n = np.arange(most + 1, dtype=np.float64)
        every = np.zeros(len(n), dtype=np.intp)
        decode = step(s.take(every), c.take(every), n=n * share, context=0.0, verify=v)
        sampled = decode["head"] + decode["host"] + decode["attention"]
        one = np.zeros(1)
        base = float(step(s, c, n=one + 1, context=0.0, verify=v)["attention"][0])
        recurrence = float(step(s, c, n=one, context=0.0, prompt=one + 1, prompt_context=0.0)["prefill_attention"][0])
        open_layers, windows, pair, window_pairs = 0.0, [], 0.0, []
        for k in range(s.window.shape[0]):
            alone = _only(s, k)
            each = (float(step(alone, c, n=one + 1, context=one + 1.0, verify=v)["attention"][0]) - base) * share
            per_pair = (
                float(
                    step(alone, c, n=one, context=0.0, prompt=one + 1, prompt_context=one + 1.0)["prefill_attention"][0]
                )
                - recurrence
            )
            width = float(s.window[k, 0])
            if math.isinf(width):
                open_layers, pair = open_layers + each, pair + per_pair
            elif each > 0:
                windows.append((width, each))
                window_pairs.append((width, per_pair))
        return cls(
            tokens=body.tolist(),
            sampled=sampled.tolist(),
            per_context=open_layers,
            windows=tuple(windows),
            prefill_step=float(np.asarray(c.prefill_step).ravel()[0]),
            pair=pair,
            window_pairs=tuple(window_pairs),
            kv_B=float(kv_B_per_sequence(s, one + 1.0)[0] - s.state_B[0] / s.pp[0])
            * float(s.tp[0] * s.cp[0] * s.pp[0]),
            experts=tuple(ones["experts"].tolist()) if apart else (),
            prompt_token=recurrence,
            verify=float(np.asarray(e.mtp_cost).ravel()[0]) if v > 1 else 1.0,
            tpot=tpot or UNCORRECTED,
        )

    def of_tokens(self, fullest: float, mean: float) -> float:
        """Time of a batch that holds so many tokens in its fullest rank group and in the mean of all."""
        seconds = _between(self.tokens, fullest)
        return seconds + _between(self.experts, mean) if self.experts else seconds

    def prompt_s(self, start: int, tokens: int) -> float:
        """Attention time of `tokens` prompt tokens after `start` earlier ones: pairs x seconds per pair, windows
        honoured on average."""
        mean = start + 0.5 * tokens
        seconds = tokens * (self.prompt_token + mean * self.pair)
        for width, each in self.window_pairs:
            seconds += tokens * min(mean, width) * each
        return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What lies between the engine's time of a first token and the user's: the rule of the steady state, and the
    correction of TTFT."""

    front: Front[float]
    ttft: Along

    @classmethod
    def of(cls, e: Engine, ttft: Along) -> Seen:
        """Of one case (`e` of length 1)."""
        front = Front.of(e)
        names = ("step_share", "front_s", "front_token_s", "visible_tokens")
        return cls(front=Front(*(float(np.asarray(getattr(front, name)).ravel()[0]) for name in names)), ttft=ttft)


def _between(table: Sequence[float], m: float) -> float:
    """Entry m of a table, between two where m is no whole number; in proportion beyond its end (a prompt that may not
    be cut)."""
    whole = int(m)
    if whole >= len(table) - 1:
        return table[-1] * m / (len(table) - 1)
    if whole == m:
        return table[whole]
    return table[whole] + (m - whole) * (table[whole + 1] - table[whole])


def _only(s: Shapes, k: int) -> Shapes:
    """The shapes with one kind of attention layer left."""
    from dataclasses import replace

    mask = np.zeros_like(s.att_layers)
    mask[k] = 1.0
    return replace(s, att_layers=s.att_layers * mask)


class Slot:
    """A request inside a replica. size: log2 of its prompt; began_s: when its prompt last left the queue; done: prompt
    tokens in the cache; need: tokens to prefill (the prompt, and what was generated before a preemption); left: output
    tokens to come; blocks: private ones held; origin: context minus decode counter while decoding."""

    __slots__ = (
        "began_s",
        "blocks",
        "done",
        "finish",
        "hit",
        "left",
        "moved",
        "need",
        "order",
        "origin",
        "request",
        "shared",
        "size",
        "swapped",
    )

    def __init__(self, request: Request, order: int) -> None:
        self.request, self.order = request, order
        self.need, self.left = request.prompt, request.output
        self.done = self.blocks = self.hit = 0
        self.origin = self.began_s = 0.0
        self.size = math.log2(request.prompt)
        self.finish = 0
        self.shared: tuple[int, ...] = ()
        self.swapped = self.moved = False


class PrefixCache:
    """Blocks of prompts by hash: those in use (counted), those free to evict (oldest first), and those in host
    memory."""

    __slots__ = ("each", "host", "host_limit", "idle", "used")

    def __init__(self, each: int, host_limit: int) -> None:
        self.each, self.host_limit = each, host_limit
        self.used: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()
        self.host: OrderedDict[int, None] = OrderedDict()

    def match(self, hashes: Sequence[int]) -> tuple[int, int]:
        """(leading hashes in the device's memory, further ones in host memory)."""
        here = 0
        for name in hashes:
            if name not in self.used and name not in self.idle:
                break
            here += 1
        away = 0
        for name in hashes[here:]:
            if name not in self.host:
                break
            away += 1
        return here, away

    def new_blocks(self, hashes: Sequence[int]) -> int:
        """Blocks that taking these hashes adds to the used ones."""
        return self.each * sum(1 for name in hashes if name not in self.used)

    def take(self, hashes: Sequence[int]) -> None:
        """Use these hashes once more."""
        for name in hashes:
            self.used[name] = self.used.get(name, 0) + 1
            self.idle.pop(name, None)

    def release(self, hashes: Sequence[int]) -> None:
        """Use these hashes once less; the last user leaves them idle, the end of the prompt to be evicted first."""
        for name in reversed(hashes):
            count = self.used[name] - 1
            if count:
                self.used[name] = count
            else:
                del self.used[name]
                self.idle[name] = None

    def shrink(self, room: int) -> None:
        """Evict idle hashes, oldest first, until they fit in `room` blocks; they go to host memory while it lasts."""
        while self.idle and len(self.idle) * self.each > room:
            name, _ = self.idle.popitem(last=False)
            if self.host_limit:
                self.host[name] = None
                self.host.move_to_end(name)
                while len(self.host) * self.each > self.host_limit:
                    self.host.popitem(last=False)

    @property
    def used_blocks(self) -> int:
        return len(self.used) * self.each


class Replica:
    """One worker and its queue. `submit` at a request's time, `advance` to a time, `drain` to the end. Requests whose
    prompt is done are handed to `handoff` where decoding is elsewhere, which says how long their cache travels. seen:
    what users see beyond the engine's own times (None: these times)."""

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
        "blocks_private",
        "busy_s",
        "cache",
        "decoding",
        "events",
        "handoff",
        "index",
        "name",
        "on_done",
        "prefilling",
        "prompt_tokens",
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
        on_done: Callable[[Request], None] | None = None,
        trace: bool = False,
        name: str = "replica",
        seen: Seen | None = None,
    ) -> None:
        self.index, self.times, self.s, self.name = index, times, scheduler, name
        self.handoff, self.on_done, self.seen = handoff, on_done, seen
        self.t = 0.0
        self.up_s = 0.0
        self.D = 0
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

    # queue
    # -------------------------------------------------------------------------------------------------------------
    @property
    def load(self) -> int:
        """Requests inside."""
        return len(self.waiting) + len(self.prefilling) + len(self.slots)

    def submit(self, request: Request, at: float, sequence: Slot | None = None) -> None:
        """Run to `at`, then queue a request (or a sequence whose prompt is done, from another pool)."""
        if self.t < at:
            self.advance(at)
            if self.t < at:
                self.t = at
        self._order += 1
        one = Slot(request, self._order) if sequence is None else sequence
        if sequence is not None:
            one.order = self._order
        if isinstance(self.waiting, deque):
            self.waiting.append(one)
        else:
            heapq.heappush(self.waiting, (request.priority, one.order, one))

    def _again(self, one: Slot) -> None:
        """Put a preempted sequence at the head of the queue."""
        if isinstance(self.waiting, deque):
            self.waiting.appendleft(one)
        else:
            heapq.heappush(self.waiting, (one.request.priority, one.order, one))

    def _head(self) -> Slot:
        return self.waiting[0] if isinstance(self.waiting, deque) else self.waiting[0][2]

    def _pop(self) -> Slot:
        return self.waiting.popleft() if isinstance(self.waiting, deque) else heapq.heappop(self.waiting)[2]

    # blocks
    # ------------------------------------------------------------------------------------------------------------
    def _used(self, D: int) -> int:
        """Blocks in use when the decode counter is D, exactly."""
        block, a = self.s.block, self.s.accepted
        used = self.blocks_private + self.cache.used_blocks
        for one in self.slots.values():
            used += -(-int(one.origin + a * D + 0.999999) // block) - one.hit
        return used

    def _bound(self, D: int) -> float:
        """At least the blocks in use at D: exact up to one block per sequence."""
        n = len(self.slots)
        context = self.S + n * self.s.accepted * (D - self.D)
        return self.blocks_private + self.cache.used_blocks + context / self.s.block + n

    # time
    # --------------------------------------------------------------------------------------------------------------
    def advance(self, until: float) -> None:
        """Run every step that starts before `until`."""
        s, slots = self.s, self.slots
        while self.t < until:
            if self.t < self.up_s:
                self.t = self.up_s
                continue
            if self.prefilling or (self.waiting and self._admit()):
                self._mixed()
            elif slots:
                self._leap(until)
            elif self.waiting:
                head = self._head()
                raise CacheTooSmallError(head.request, s.blocks * s.block)
            else:
                return

    def drain(self) -> None:
        """Run to the end."""
        self.advance(math.inf)

    def _admit(self) -> bool:
        """Move waiting requests into prefill while there is room for a first chunk each; False when nothing entered."""
        s, room = self.s, self.s.budget - len(self.slots) * (1 if self.s.mixes else 0)
        if s.verified > 1 and s.mixes:
            room = int(s.budget - len(self.slots) * s.verified)
        entered = False
        own = self._own_room() if self._batches > 1 else max(room, 0)
        for one in self.prefilling:
            room -= min(one.need - one.done, own) if s.chunks else one.need - one.done
        while self.waiting and room > 0 and len(self.slots) + len(self.prefilling) < s.max_sequences:
            one = self._head()
            request = one.request
            if one.swapped:
                if not self._fits(-(-math.ceil(one.need + s.accepted) // s.block)):
                    break
                self._pop()
                self._resume(one)
                entered = True
                continue
            hit, shared, loaded = 0, request.hashes if s.prefix_cache else (), 0
            if shared:
                here, away = self.cache.match(shared)
                hit = min((here + away) * s.hash_block, one.need - 1)
                loaded = max(0, hit - here * s.hash_block)
                whole = one.request.prompt // s.hash_block
                shared = shared[:whole]
            tokens = one.need - hit
            if not s.chunks and tokens > room and (self.prefilling or entered):
                break
            first = min(tokens, room, own) if s.chunks else tokens
            new = self.cache.new_blocks(shared) if shared else 0
            next_token = (
                s.accepted if first == tokens else 0.0
            )  # a prompt that ends here decodes at once: without room it would be sent back
            private = -(-math.ceil(hit + first + next_token) // s.block) - len(shared) * self.cache.each
            if not self._fits(max(0, private) + new):
                break
            self._pop()
            entered = True
            if request.scheduled_s < 0:
                request.scheduled_s = self.t
                request.replica = self.index
                request.cached = hit
            one.done = hit
            one.shared = shared
            if shared:
                self.cache.take(shared)
                one.hit = len(shared) * self.cache.each
            one.began_s = self.t
            if loaded:
                self.t += loaded * self.times.kv_B / s.host_Bps
            self._hold(one, hit + first)
            self.prefilling.append(one)
            self._sizes += one.size
            room -= first
        return entered

    def _hold(self, one: Slot, tokens: int) -> None:
        """Give a prefilling sequence the private blocks of `tokens` tokens."""
        want = max(0, -(-tokens // self.s.block) - one.hit)
        self.blocks_private += want - one.blocks
        one.blocks = want

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
        seconds = self.times.per_context * (self.S + more)
        if self.times.windows:
            seconds += self._windows_s(more)
        return seconds if self._is_one_group else seconds * self._fullest(n) / n

    def _windows_s(self, more: float) -> float:
        """The part of it in layers with a window."""
        return sum(
            each * (held + min(more, width))
            for (width, each), held in zip(self.times.windows, self.window_sums, strict=True)
        )

    def _plain_s(self, n: int, more: float = 0.0) -> float:
        """Time of one decode step of n sequences, those of the present batch (and one of `more` tokens of context),
        without correction and without the extra time of verifying."""
        verified, times = self.s.verified, self.times
        if self._is_one_group and verified == 1.0:  # the common case, without a call
            seconds = times.tokens[n] + times.sampled[n] + times.per_context * (self.S + more)
            return seconds if not times.windows else seconds + self._windows_s(more)
        fullest = self._fullest(n)
        return (
            times.of_tokens(fullest * verified, n / self.s.groups * verified)
            + times.sampled[fullest]
            + self._reading_s(n, more)
        )

    def _mixed(self) -> None:
        """One step with prompt tokens."""
        s, times = self.s, self.times
        n = len(self.slots) if s.mixes else 0
        if n and self._bound(self.D + 1) > self._cap:
            self._make_room()
            n = len(self.slots)
        room = s.budget - (n if s.verified == 1.0 else math.ceil(n * s.verified))
        tokens, extra, finishing = 0, 0.0, 0
        own, longest, slowest = self._own_room() if self._batches > 1 else room, 0, 0.0
        done: list[Slot] = []
        self._admit()
        for one in self.prefilling:
            if room <= 0:
                break
            take = one.need - one.done
            if s.chunks:
                take = min(take, room, own)
            elif take > room and tokens:
                break
            more = s.accepted if one.done + take >= one.need else 0.0
            hold = -(-math.ceil(one.done + take + more) // s.block) - one.hit - one.blocks
            if hold > 0 and not self._fits(hold):
                break
            self._hold(one, one.done + take)
            attention = times.prompt_s(one.done, take)
            extra += attention
            if self._batches > 1:
                longest, slowest = max(longest, take), max(slowest, attention)
            one.done += take
            tokens += take
            room -= take
            if one.done >= one.need:
                finishing += 1
                done.append(one)
        if not tokens:
            if self.slots:
                self._leap(self.t + 1e-12)
            elif not self._drop_last():
                raise CacheTooSmallError(self.prefilling[0].request, s.blocks * s.block)
            return
        v = n if self._is_one_group and s.verified == 1.0 else self._fullest(n) * s.verified
        if self._batches == 1:
            body = _between(times.tokens, v + tokens)
        else:  # prompts are spread over the batches; each is whole in one of them
            held, extra = max(tokens / self._batches, longest), max(extra / self._batches, slowest)
            mean = n / s.groups * s.verified + max(tokens / self._batches, longest / s.groups) * s.stages
            body = times.of_tokens(v + held * s.stages, mean)
        last = len(times.sampled) - 1
        seconds = (
            body
            + times.sampled[min(n + finishing if self._is_one_group else self._fullest(n + finishing), last)]
            + extra
            + times.prefill_step
        )
        if n:
            seconds += self._reading_s(n)
            if times.verify != 1.0:
                seconds += (times.verify - 1.0) * self._plain_s(n)
        factor = self._factor()
        seconds *= factor
        self.prompt_tokens += tokens
        if self.spans is not None:
            self.spans.append((self.t, seconds, n, tokens, 1))
        self.t += seconds
        self.busy_s += seconds
        self.steps += 1
        self.events += 1
        if n:
            self._tick(1)
        travels = [self._prompt_done(one) for one in done]
        for one, travel in zip(done, travels, strict=True):
            self._see(one, factor, travel)
            if one.left <= 0:
                self._finish(one)

    def _prompt_done(self, one: Slot) -> float:
        """Let a sequence whose prompt is done decode, here or elsewhere; seconds that its cache travels."""
        self.prefilling.remove(one)
        self._sizes -= one.size
        one.left -= 1
        if one.left <= 0:
            self.blocks_private -= one.blocks
        elif self.handoff is not None:
            self.blocks_private -= one.blocks
            one.blocks = 0
            self._unshare(one)
            self.served += 1
            return self.handoff(self.t, one)
        else:
            self._join(one)
        return 0.0

    def _see(self, one: Slot, factor: float, travel: float) -> None:
        """When the user sees the first token of a prompt that is done: the rule of the steady state, with the prompt's
        own time and wait from the simulation.
        factor: what the steps of its prompt were multiplied by; travel: time of its cache to the pool that decodes."""
        request, seen = one.request, self.seen
        if request.first_token_s >= 0:
            return
        if seen is None:
            request.first_token_s = self.t
            return
        n, more = (len(self.slots), 0.0) if one.left > 0 else (len(self.slots) + 1, float(one.need))
        correction = seen.ttft.factor(max(1.0, (n + len(self.prefilling)) / self.s.groups), one.size)
        prefill_s = (self.t - one.began_s) / factor
        if self.handoff is not None:  # no decode steps are in its way
            request.first_token_s = one.began_s + correction * prefill_s + travel
        else:
            plain = self._plain_s(n, more)
            parts = seen.front.parts(
                prompt=float(request.prompt),
                prefill_s=prefill_s,
                decode_s=plain,
                step_s=plain * self.times.verify / self.s.accepted,
            )
            request.first_token_s = one.began_s - parts["front_end"] + correction * sum(parts.values())
        request.late_s = request.first_token_s - travel - self.t

    def _join(self, one: Slot) -> None:
        """Start decoding a sequence whose cache is here."""
        self.blocks_private -= one.blocks
        one.blocks = 0
        context = float(one.need)
        one.origin = context - self.s.accepted * self.D
        one.finish = self.D + max(1, math.ceil(one.left / self.s.accepted - 1e-9))
        self.slots[one.order] = one
        self._sizes += one.size
        heapq.heappush(self.decoding, (one.finish, one.order, one))
        self.S += context
        for k, (width, _) in enumerate(self.times.windows):
            self.window_sums[k] += min(context, width)

    def _resume(self, one: Slot) -> None:
        """Bring a swapped sequence back: its cache crosses the host link (one from another pool has come already)."""
        if not one.moved:
            self.t += one.need * self.times.kv_B / self.s.host_Bps
        one.swapped = one.moved = False
        if one.request.replica < 0:
            one.request.replica = self.index
        self._join(one)

    def _unshare(self, one: Slot) -> None:
        if one.shared:
            self.cache.release(one.shared)
            one.shared, one.hit = (), 0

    def _finish(self, one: Slot) -> None:
        request = one.request
        request.last_token_s = self.t + request.late_s
        self._unshare(one)
        self.served += 1
        if self.on_done is not None:
            self.on_done(request)

    def _leave(self, one: Slot) -> float:
        """Take a sequence out of the decoding batch; its context."""
        context = one.origin + self.s.accepted * self.D
        del self.slots[one.order]
        self.S -= context
        self._sizes -= one.size
        for k, (width, _) in enumerate(self.times.windows):
            self.window_sums[k] -= min(context, width)
        return context

    def _tick(self, k: int) -> None:
        """The batch has made k decode steps: contexts grow, sequences that are done leave."""
        a = self.s.accepted
        n = len(self.slots)
        for i, (width, _) in enumerate(self.times.windows):
            self.window_sums[i] = sum(min(one.origin + a * (self.D + k), width) for one in self.slots.values())
        self.D += k
        self.S += n * k * a
        decoding = self.decoding
        while decoding and decoding[0][0] <= self.D:
            finish, order, one = heapq.heappop(decoding)
            if self.slots.get(order) is not one or one.finish != finish:
                continue  # it was preempted meanwhile
            self._leave(one)
            self._finish(one)
        if not self.slots:
            self.S = 0.0
            if not self.prefilling:
                self._sizes = 0.0

    def _leap(self, until: float) -> None:
        """Advance a batch that does not change: to the next completion, cache limit or window edge, or to the first
        step that ends at `until`."""
        decoding, slots = self.decoding, self.slots
        while slots.get(decoding[0][1]) is not decoding[0][2] or decoding[0][2].finish != decoding[0][0]:
            heapq.heappop(decoding)
        n = len(slots)
        k = decoding[0][0] - self.D
        if self._bound(self.D + k) > self._cap:
            k = self._until_full(k)
            if k == 0:
                self._make_room()
                return
        a = self.s.accepted
        factor = self._factor() * self.times.verify
        first = self._plain_s(n) * factor
        factor *= self._fullest(n) / n
        grow = self.times.per_context * n * a * factor
        for i, (width, each) in enumerate(self.times.windows):
            inside = [w for one in slots.values() if (w := width - one.origin - a * self.D) > 0]
            if inside:
                grow += each * len(inside) * a * factor
                k = min(k, max(1, int(min(inside) / a)))
            del i
        gap = until - self.t
        whole = k * first + 0.5 * grow * k * (k - 1)
        if whole > gap:
            b = first - 0.5 * grow
            if gap <= 0:
                k = 1
            elif grow > 0:
                k = min(k, max(1, math.ceil((math.sqrt(b * b + 2.0 * grow * gap) - b) / grow - 1e-9)))
            else:
                k = min(k, max(1, math.ceil(gap / first - 1e-9)))
            whole = k * first + 0.5 * grow * k * (k - 1)
        if self.spans is not None:
            self.spans.append((self.t, whole, n, 0, k))
        self.t += whole
        self.busy_s += whole
        self.steps += k
        self.events += 1
        self._tick(k)

    def _until_full(self, most: int) -> int:
        """The most decode steps, up to `most`, after which the cache still holds the batch; idle blocks give way."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._used(self.D + middle) <= self._cap:
                low = middle
            else:
                high = middle - 1
        if self.cache.idle:
            self.cache.shrink(max(0, self._cap - self._used(self.D + low)))
        return low

    def _make_room(self) -> None:
        """Preempt decoding sequences, last come first (or lowest priority first), until one more step fits."""
        while self.slots and self._used(self.D + 1) > self._cap:
            if len(self.slots) == 1 and not self.prefilling:
                one = next(iter(self.slots.values()))
                raise CacheTooSmallError(one.request, self.s.blocks * self.s.block)
            if self.prefilling and self.prefilling[-1].order > max(self.slots):
                self._drop_last()
                continue
            one = max(
                self.slots.values(), key=lambda q: (q.request.priority if self.s.policy == "priority" else 0, q.order)
            )
            context = self._leave(one)
            one.left = max(1, round((one.finish - self.D) * self.s.accepted))
            one.need = round(context)
            one.finish = -1
            one.request.preemptions += 1
            self._unshare(one)
            if self.s.preemption == "swap":
                one.swapped = True
                self.t += one.need * self.times.kv_B / self.s.host_Bps
            else:
                one.done = 0
            self._again(one)
            self.events += 1

    def _drop_last(self) -> bool:
        """Send the last prompt under way back to the queue; False when it is the only one."""
        if len(self.prefilling) + len(self.slots) <= 1:
            return False
        one = self.prefilling.pop()
        self._sizes -= one.size
        self.blocks_private -= one.blocks
        one.blocks = one.done = 0
        self._unshare(one)
        one.request.preemptions += 1
        self._again(one)
        return True

    def fail(self, at: float, down_s: float) -> list[Request]:
        """Lose everything at `at`, be down for `down_s`; what was inside, to be sent again from the start."""
        lost = [one.request for one in self.slots.values()] + [one.request for one in self.prefilling]
        lost += (
            [one.request for one in self.waiting]
            if isinstance(self.waiting, deque)
            else [item[2].request for item in self.waiting]
        )
        self.slots.clear()
        self.decoding.clear()
        self.prefilling.clear()
        self.waiting.clear()
        self.cache = PrefixCache(self.cache.each, self.cache.host_limit)
        self.blocks_private, self.S, self._sizes = 0, 0.0, 0.0
        self.window_sums = [0.0] * len(self.window_sums)
        self.up_s = at + down_s
        self.t = max(self.t, at)
        for request in lost:
            request.failures += 1
        return sorted(lost, key=lambda r: r.arrival_s)


class CacheTooSmallError(Exception):
    """A request that the cache cannot hold even alone."""

    def __init__(self, request: Request, tokens: int) -> None:
        super().__init__(
            f"request {request.id} needs {request.prompt} + {request.output} tokens of cache; a replica holds {tokens}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Replica `replica` of the decoding (or only) pool is lost at `at_s` and is back after `down_s`."""

    at_s: float
    replica: int
    down_s: float


@dataclass(slots=True)
class Fleet:
    """Replicas that serve one stream. decoders: a pool of their own when prefill and decode are apart (else empty);
    transfer_s: seconds to move the cache of so many tokens between pools; front: the engine's time before a request is
    scheduled (None: none)."""

    replicas: list[Replica]
    decoders: list[Replica] = field(default_factory=list)
    route: str = "round-robin"
    transfer_s: Callable[[int], float] = lambda tokens: 0.0
    front: Front[float] | None = None
    failures: tuple[Failure, ...] = ()
    _next: int = 0
    _next_decoder: int = 0
    _moving: list[tuple[float, int, Slot]] = field(default_factory=list)
    _moved: int = 0

    def __post_init__(self) -> None:
        for replica in self.replicas if self.decoders else ():
            replica.handoff = self._hand_off

    def _hand_off(self, at: float, one: Slot) -> float:
        self._moved += 1
        travel = self.transfer_s(one.need)
        heapq.heappush(self._moving, (at + travel, self._moved, one))
        return travel

    def _choose(self, pool: list[Replica], at: float, request: Request, turn: int) -> Replica:
        if len(pool) == 1:
            return pool[0]
        if self.route == "round-robin":
            return pool[turn % len(pool)]
        for replica in pool:
            replica.advance(at)
        up = [r for r in pool if r.up_s <= at] or pool
        if self.route == "prefix" and request.hashes:
            best = max(up, key=lambda r: (r.cache.match(request.hashes)[0], -r.load))
            if best.cache.match(request.hashes)[0] > 0 and best.load <= 2 * min(r.load for r in up) + 4:
                return best
        return min(up, key=lambda r: r.load)

    def _deliver(self, at: float) -> None:
        """Give caches that have arrived by `at` to the decoders."""
        while self._moving and self._moving[0][0] <= at:
            when, _, one = heapq.heappop(self._moving)
            target = self._choose(self.decoders, when, one.request, self._next_decoder)
            self._next_decoder += 1
            one.swapped = one.moved = True
            one.request.decoder = target.index
            target.submit(one.request, when, one)

    def run(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Serve requests in order of arrival; yields each once it has been given to a replica (its times are filled in
        later). `events` and times live in the replicas. Failures strike in time order."""
        pending = sorted(self.failures, key=lambda f: f.at_s)
        front = self.front
        single = len(self.replicas) == 1
        for request in requests:
            at = request.arrival_s + (front.before(float(request.prompt)) if front else 0.0)
            while pending and pending[0].at_s <= at:
                self._strike(pending.pop(0))
            if self.decoders:
                for replica in self.replicas:
                    replica.advance(at)
                self._deliver(at)
            target = self.replicas[0] if single else self._choose(self.replicas, at, request, self._next)
            self._next += 1
            target.submit(request, at)
            yield request
        for failure in pending:
            self._strike(failure)
        for replica in self.replicas:
            replica.drain()
        while self._moving:
            self._deliver(self._moving[0][0])
        for replica in self.decoders:
            replica.drain()

    def _strike(self, failure: Failure) -> None:
        pool = self.decoders or self.replicas
        for replica in self.replicas:
            replica.advance(failure.at_s)
        self._deliver(failure.at_s)
        victim = pool[failure.replica]
        victim.advance(failure.at_s)
        for request in victim.fail(failure.at_s, failure.down_s):
            target = self._choose(self.replicas, failure.at_s, request, self._next)
            self._next += 1
            target.submit(request, failure.at_s)
