"""One replica, event by event: what is admitted, what a step does, who leaves, what makes room."""

from __future__ import annotations

import heapq
import math
from collections import deque

from mowich.serving.traffic.cache import PrefixCache
from mowich.serving.traffic.encoders import EncoderWorker, Media
from mowich.serving.traffic.moments import Agenda, earlier
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.state import State
from mowich.serving.traffic.times import _between


class CacheTooSmallError(Exception):
    """A request that the cache cannot hold even alone."""

    def __init__(self, request: UserRequest, tokens: int) -> None:
        super().__init__(
            f"request {request.id} needs {request.prompt} + {request.output} tokens of cache; a replica holds {tokens}"
        )


class Replica(State):
    """One worker and its queue. `submit` at a request's time, `advance` to a time, `drain` to the end. Requests whose
    prompt is done are handed to `handoff` where decoding is elsewhere, which says how long their cache travels. seen:
    what users see beyond the engine's own times (None: these times); encoder: of pictures and sound, which runs before
    the step in which a prompt begins (None: elsewhere, or text alone)."""

    __slots__ = ()

    def submit(self, request: UserRequest, at: float, sequence: Slot | None = None) -> None:
        """Run to `at`, then queue a request (or a sequence whose prompt is done, from another pool)."""
        if self.t < at:
            self.advance(at)
            if self.t < at:
                self.t = at
        self._order += 1
        one = Slot(request, self._order) if sequence is None else sequence
        if sequence is not None:
            one.order = self._order
        held = one.need + (one.left if self.handoff is None else 0)
        if held > (self.s.blocks + 1) * self.s.block:  # it would be sent back at the end of the cache for ever
            raise CacheTooSmallError(request, self.s.blocks * self.s.block)
        self.queued_tokens += one.need
        if not self.waiting:
            self._waits_from = self.steps
        if isinstance(self.waiting, deque):
            self.waiting.append(one)
        else:
            heapq.heappush(self.waiting, (request.priority, one.order, one))

    def _again(self, one: Slot) -> None:
        """Put a preempted sequence at the head of the queue."""
        self.queued_tokens += one.need
        if isinstance(self.waiting, deque):
            self.waiting.appendleft(one)
        else:
            heapq.heappush(self.waiting, (one.request.priority, one.order, one))

    def _head(self) -> Slot:
        return self.waiting[0] if isinstance(self.waiting, deque) else self.waiting[0][2]

    def _pop(self) -> Slot:
        one = self.waiting.popleft() if isinstance(self.waiting, deque) else heapq.heappop(self.waiting)[2]
        self.queued_tokens -= one.need
        return one

    def advance(self, until: float) -> None:
        """Run every step that starts before `until`."""
        s, slots, until = self.s, self.slots, earlier(until)
        while self.t < until:
            if self.t < self.up_s:
                self.t = self.up_s
                continue
            if self.prefilling or (self._looks() and self._admit()):
                if not self._mixed(until):
                    self._leap(until)
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

    def _looks(self) -> bool:
        """Whether the scheduler looks for waiting requests before the next step. One that decodes nothing looks always,
        and sequences from another pool come to it by themselves."""
        s = self.s
        if not self.waiting or not self.slots or (s.interval == 1 and s.wait == 0) or self._head().moved:
            return bool(self.waiting)
        is_due = self.steps >= self._waits_from + s.wait or len(self.waiting) >= s.enough
        return is_due and self.steps % s.interval == 0

    def _steps_to_look(self) -> int:
        """Steps until it looks again, at least one."""
        s = self.s
        due = max(self.steps + 1, self._waits_from + s.wait)
        return -(-due // s.interval) * s.interval - self.steps

    def _admit(self) -> bool:
        """Move waiting requests into prefill while there is room for a first chunk each; False when nothing entered."""
        s, room = self.s, self.s.budget - len(self.slots) * (1 if self.s.mixes else 0)
        if s.verified > 1 and s.mixes:
            room = int(s.budget - len(self.slots) * s.verified)
        entered = False
        before = len(self.prefilling)
        own = self._own_room() if self._batches > 1 else max(room, 0)
        for one in self.prefilling:
            room -= min(one.need - one.done, own) if s.chunks else one.need - one.done
        while self.waiting and room > 0 and len(self.slots) + len(self.prefilling) < s.max_sequences:
            if not s.packs and len(self.prefilling) >= s.batches:
                break
            one = self._head()
            request = one.request
            if one.swapped:
                if not self._fits(-(-math.ceil(one.need + s.accepted) // s.block)):
                    break
                self._pop()
                self._resume(one)
                entered = True
                continue
            if self.encoder is not None and request.media is not None and not self._has_room_for(request.media):
                break
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
        if self.encoder is not None and len(self.prefilling) > before:
            self._encode(self.encoder, before)
        return entered

    def _has_room_for(self, media: Media) -> bool:
        """Whether the encoder's cache holds the embeddings of one more prompt beside those under way; one alone always
        has room."""
        held = sum(one.request.media.tokens for one in self.prefilling if one.request.media is not None)
        return not held or self.encoder is None or held + media.tokens <= self.encoder.times.most

    def _encode(self, encoder: EncoderWorker, before: int) -> None:
        """Encode what the prompts that have entered bring, all but the first `before` under way: the step that begins
        them waits. Rank groups encode side by side, each request in one of them."""
        ones = [one for one in list(self.prefilling)[before:] if one.request.media is not None]
        whole = longest = 0.0
        for one in ones:
            media = one.request.media
            assert media is not None
            seconds = encoder.take(media.items)
            whole, longest = whole + seconds, max(longest, seconds)
            if one.request.first_token_s < 0:
                media.encode_s += seconds
        stall = max(longest, whole / self.s.groups)
        if stall > 0.0:
            self.t += stall
            self.busy_s += stall
            encoder.busy_s += stall
            for one in ones:
                one.began_s = self.t

    def _hold(self, one: Slot, tokens: int) -> None:
        """Give a prefilling sequence the private blocks of `tokens` tokens."""
        want = max(0, -(-tokens // self.s.block) - one.hit)
        self.blocks_private += want - one.blocks
        one.blocks = want

    def _mixed(self, until: float) -> bool:
        """Steps with prompt tokens: one, or as many alike as start before `until`. False, and nothing is done, where
        no prompt under way has room before the batch changes: decoding only fills the cache, so what has no room now
        has none until a sequence leaves."""
        s, times = self.s, self.times
        n = len(self.slots) if s.mixes else 0
        if n and self._bound(self.D + 1) > self._cap:
            self._make_room()
            n = len(self.slots)
        room = s.budget - (n if s.verified == 1.0 else math.ceil(n * s.verified))
        own = self._own_room() if self._batches > 1 else room
        has_entered = self._looks() and self._admit()
        tokens, extra, longest, slowest, done = self._taken(room, own)
        while not tokens and not self.slots:  # prompts under way fill the cache: the last one gives way to the others
            if not self._drop_last():
                raise CacheTooSmallError(self.prefilling[0].request, s.blocks * s.block)
            tokens, extra, longest, slowest, done = self._taken(room, own)
        finishing = len(done)
        if not tokens:
            if self.prefilling and not has_entered:
                return False
            self._leap(self.t)  # a sequence has entered the batch: one step, and look again
            return True
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
        )
        if n:
            seconds += self._reading_s(n)
            if times.verify != 1.0:
                seconds += (times.verify - 1.0) * self._plain_s(n)
        least = times.launched_s((v + tokens) / self._batches)
        by_device, factor = seconds >= least, self._factor()
        seconds = (max(seconds, least) + times.prefill_step) * factor
        k = 1
        if by_device and until > self.t + seconds and tokens == longest and not (done or has_entered):
            k, seconds = self._next_chunks(tokens, max(own, tokens + 1), n, seconds, until)
        self.prompt_tokens += tokens * k
        if self.spans is not None:
            self.spans.append((self.t, seconds, n, tokens * k, k))
        self.t += seconds
        self.busy_s += seconds
        self.steps += k
        self.events += k  # each chunk of a prompt counts as one
        if n:
            self._tick(k)
        travels = [self._prompt_done(one) for one in done]
        for one, travel in zip(done, travels, strict=True):
            self._see(one, factor, travel)
            if one.left <= 0:
                self._finish(one)
        return True

    def _next_chunks(self, take: int, least: int, n: int, first: float, until: float) -> tuple[int, float]:
        """After the first step of `first` seconds that gave `take` tokens to the first prompt alone, give it those of
        the steps that are like it beside n decodes: (steps, their seconds), with the first. They end before fewer than
        `least` tokens of it are left, where others may enter. One step where its time does not grow evenly."""
        times, one = self.times, self.prefilling[0]
        if self.cache.idle or times.reading is not None or times.asking is not None or times.window_pairs:
            return 1, first
        k = 1 + max(0, (one.need - one.done - least) // take + 1)
        if n:
            k = min(k, self._next_finish() - self.D)
        if k > 1:
            k = self._until_full(k, one, take, decodes=n > 0)
        if k == 1:
            return 1, first
        grow = times.prompt_s(one.done, take) - times.prompt_s(one.done - take, take)
        if n:
            grow += self._grow_s(n, k) * times.verify
        k, whole = _until(k, first, grow * self._factor(), until - self.t)
        one.done += (k - 1) * take
        self._hold(one, one.done)
        return k, whole

    def _taken(self, room: int, own: int) -> tuple[int, float, int, float, list[Slot]]:
        """Give prompts their share of a step. room: tokens left in the step; own: of one prompt in it. (Tokens taken,
        seconds of their attention; of the prompt that takes most: tokens, seconds; the prompts that are done)."""
        s, times = self.s, self.times
        tokens, extra, longest, slowest = 0, 0.0, 0, 0.0
        done: list[Slot] = []
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
            longest, slowest = max(longest, take), max(slowest, attention)
            one.done += take
            tokens += take
            room -= take
            if one.done >= one.need:
                done.append(one)
        return tokens, extra, longest, slowest, done

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
                step_s=plain * self.times.verify,
            )
            whole = 0.0
            for part in parts.values():
                whole += part
            request.first_token_s = one.began_s - parts["front_end"] + correction * whole
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
        if request.later and self.s.prefix_cache and request.decoder < 0:
            self.cache.keep(request.later)
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
            held = 0.0
            for one in self.slots.values():
                held += min(one.origin + a * (self.D + k), width)
            self.window_sums[i] = held
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
        k, whole = self._next_steps(until)
        if k == 0:
            self._make_room()
            return
        if self.spans is not None:
            self.spans.append((self.t, whole, len(self.slots), 0, k))
        self.t += whole
        self.busy_s += whole
        self.steps += k
        self.events += 1
        self._tick(k)

    def _next_steps(self, until: float) -> tuple[int, float]:
        """(decode steps of the present batch that a leap takes, their seconds); no steps where the cache has no room
        for one."""
        slots, n = self.slots, len(self.slots)
        k = self._next_finish() - self.D
        if self.waiting and (self.s.interval > 1 or self.s.wait > 0):
            k = min(k, self._steps_to_look())
        if self._bound(self.D + k) > self._cap:
            k = self._until_full(k)
            if k == 0:
                return 0, 0.0
        a = self.s.accepted
        factor = self._factor() * self.times.verify
        first = self._plain_s(n) * factor
        grow = self._grow_s(n, k) * factor
        factor *= self._fullest(n) / n
        for width, each in self.times.windows:
            inside = [w for one in slots.values() if (w := width - one.origin - a * self.D) > 0]
            if inside:
                grow += each * len(inside) * a * factor
                k = min(k, max(1, int(min(inside) / a)))
        return _until(k, first, grow, until - self.t)

    def _next_finish(self) -> int:
        """The decode counter at which the first of the present batch is done."""
        decoding, slots = self.decoding, self.slots
        while slots.get(decoding[0][1]) is not decoding[0][2] or decoding[0][2].finish != decoding[0][0]:
            heapq.heappop(decoding)
        return decoding[0][0]

    def _grow_s(self, n: int, k: int) -> float:
        """What a decode step takes more than the one before it, in layers without a window, on the mean of the next k
        steps."""
        times, fullest, a = self.times, self._fullest(n), self.s.accepted
        if times.reading is None:
            return times.per_context * fullest * a
        now = self.S * fullest / n
        return (times.reading_s(fullest, now + fullest * a * k) - times.reading_s(fullest, now)) / k

    def due_s(self, *, is_stuck: bool) -> float:
        """When its next event is over, were nothing to arrive; of a step with prompts: when it begins; inf where it has
        nothing to do. is_stuck: neither what waits nor a prompt under way has room beside the present batch."""
        if not (self.prefilling or self.waiting or self.slots):
            return math.inf
        if self.t < self.up_s:
            return self.up_s
        if not self.slots or ((self.prefilling or self._looks()) and not is_stuck):
            return self.t
        return self.t + self._next_steps(math.inf)[1]

    def play(self, *, is_stuck: bool) -> bool:
        """Play the event that `due_s` told of; whether it found that no prompt has room beside the present batch."""
        if self.t < self.up_s:
            self.t = self.up_s
        elif not is_stuck and (self.prefilling or (self._looks() and self._admit())):
            return not self._mixed(self.t)
        elif self.slots and self._looks() and not is_stuck:
            return True
        elif self.slots:
            self._leap(math.inf)
        elif self.waiting:
            raise CacheTooSmallError(self._head().request, self.s.blocks * self.s.block)
        return False

    def _make_room(self) -> None:
        """Preempt decoding sequences, last come first (or lowest priority first), until one more step fits."""
        decoding = self._decoding_blocks(self.D + 1)
        while self.slots and self.blocks_private + self.cache.used_blocks + decoding > self._cap:
            if len(self.slots) == 1 and not self.prefilling:
                one = next(iter(self.slots.values()))
                raise CacheTooSmallError(one.request, self.s.blocks * self.s.block)
            if self.prefilling and self.prefilling[-1].order > max(self.slots):
                self._drop_last()
                continue
            last = max(self.slots)
            if self.s.policy == "priority":
                last = max(self.slots.values(), key=lambda q: (q.request.priority, q.order)).order
            one = self.slots[last]
            decoding -= self._decoding_blocks(self.D + 1, one)
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

    def fail(self, at: float, down_s: float) -> list[UserRequest]:
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
        self.queued_tokens = 0
        self.cache = PrefixCache(self.cache.each, self.cache.host_limit)
        if self.encoder is not None:
            self.encoder.forget()
        self.blocks_private, self.S, self._sizes = 0, 0.0, 0.0
        self.window_sums = [0.0] * len(self.window_sums)
        self.up_s = at + down_s
        self.t = max(self.t, at)
        for request in lost:
            request.failures += 1
        again = Agenda([(r.arrival_s, r) for r in lost])
        return [again.pop()[1] for _ in lost]


def _until(k: int, first: float, grow: float, gap: float) -> tuple[int, float]:
    """(how many of k steps start within `gap` seconds, at least one; their seconds), where the first takes `first`
    seconds and each `grow` more than the one before it."""
    whole = k * first + 0.5 * grow * k * (k - 1)
    if whole > gap:
        b = first - 0.5 * grow
        if gap <= 0:
            k = 1
        elif grow > 0:
            k = min(k, max(1, math.ceil((math.sqrt(b * b + 2.0 * grow * gap) - b) / grow)))
        else:
            k = min(k, max(1, math.ceil(gap / first)))
        whole = k * first + 0.5 * grow * k * (k - 1)
    return k, whole
