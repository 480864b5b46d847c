"""One replica, event by event: what is admitted, what a step does, who leaves, what makes room."""

from __future__ import annotations

import heapq
import math
from collections import deque

from mowich.serving.traffic.admission import Admission
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.policies import RETRACT
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.scheduling import (
    part_after_retraction,
    shortest_answer,
    steps_to_room,
)
from mowich.serving.traffic.times import _between


class CacheTooSmallError(Exception):
    """A request that the cache cannot hold even alone. holds: what a replica has room for, in words."""

    def __init__(self, request: UserRequest, tokens: int, holds: str = "a replica holds {}") -> None:
        super().__init__(
            f"request {request.id} needs {request.prompt} + {request.output} tokens of cache; {holds.format(tokens)}"
        )


class Replica(Admission):
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
            one.order, one.seen = self._order, (-1, 0)
        held = one.need + (one.left if self.handoff is None else 0)
        if held > (self.s.blocks + 1) * self.s.block:  # it would be sent back at the end of the cache for ever
            raise CacheTooSmallError(request, self.s.blocks * self.s.block)
        if self.s.compiled:
            self._check_buckets(one)
        if not self.load:
            self.ratio_start, self.ratio_from = self.s.ratio, self.D
        if self.tiering.prefetch and not one.moved and request.hashes:
            self._prefetch(request)
        if not self.waiting:
            self._waits_from = self.steps
        self._queue(one, is_first=False)

    def _check_buckets(self, one: Slot) -> None:
        """Raise CacheTooSmallError for a request that no graph was compiled for."""
        prompts, tokens = self.s.prompt_buckets[-1], self.s.token_buckets[-1]
        if one.need > prompts:
            raise CacheTooSmallError(one.request, prompts, "the largest context-encoding bucket has {}")
        if self.handoff is None and one.need + one.left > tokens:
            raise CacheTooSmallError(one.request, tokens, "the largest token-generation bucket has {}")

    def advance(self, until: float) -> None:
        """Run every step that starts before `until`."""
        slots, until = self.slots, earlier(until)
        while self.t < until:
            if self.t < self.up_s:
                self.t = self.up_s
                continue
            if self.loading:
                self._arrive()
            if self.prefilling or (self._looks() and self._admit()):
                if not self._mixed(until):
                    self._leap(min(until, self._next_load()))
            elif slots:
                self._leap(min(until, self._next_load()))
            elif self.loading:
                if self.loading[0][0] >= until:
                    return
                self.t = self.loading[0][0]
            elif self.waiting:
                self._unblock()
            else:
                return

    def _next_load(self) -> float:
        """The moment before which nothing more comes from a tier; inf where nothing is on its way."""
        return earlier(self.loading[0][0]) if self.loading else math.inf

    def _arrive(self) -> None:
        """Put sequences whose blocks have come from a tier at the head of the queue."""
        while self.loading and earlier(self.loading[0][0]) <= self.t:
            one = heapq.heappop(self.loading)[2]
            one.fetched = True
            self._queue(one, is_first=True)

    def _unblock(self) -> None:
        """Make room for the head of the queue beside nothing but blocks that others hold in it. Raises
        CacheTooSmallError where none does: it has no room even alone."""
        head = self._head()
        if all(one is head for one in self.held.values()):
            raise CacheTooSmallError(head.request, self.s.blocks * self.s.block)
        self._drop_held()

    def _drop_held(self) -> None:
        """Take the blocks of the sequence in the queue, or on its way to it, that came last and holds some."""
        order = max(self.held)
        one = self.held.pop(order)
        on_way = [item for item in self.loading if item[1] == order]
        if on_way:
            self.loading.remove(on_way[0])
            heapq.heapify(self.loading)
            self._queue(one, is_first=True)
        coming = self.cache.coming
        names = one.shared[: one.hit // self.cache.each]
        there = next((k for k, name in enumerate(names) if name in coming), len(names))
        self._release(one, there * self.s.hash_block)
        one.fetched, one.done = False, 0

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
        own = self._room_of_one(room)
        has_entered = self._looks() and self._admit()
        until = min(until, self._next_load())
        tokens, extra, longest, slowest, done = self._taken_at_last(room, own)
        if not tokens:
            if self.prefilling and not has_entered:
                return False
            self._leap(self.t)  # a sequence has entered the batch: one step, and look again
            return True
        seconds, least = self._mixed_s(n, tokens, len(done), (extra, longest, slowest))
        by_device, factor = seconds >= least, self._factor()
        seconds = (max(seconds, least) + times.prefill_step) * factor
        k = 1
        if self._layers_s > self.t + seconds:  # the last layers' blocks come after the step could have ended
            by_device, seconds = False, self._layers_s - self.t
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

    def _mixed_s(self, n: int, tokens: int, finishing: int, prompts: tuple[float, int, float]) -> tuple[float, float]:
        """(seconds of the device, least seconds by the host's launches) of a step with n decoding sequences and
        `tokens` of prompts, of which `finishing` end. prompts: (extra, longest, slowest), as `_taken` has them."""
        s, times, (extra, longest, slowest) = self.s, self.times, prompts
        v = n if self._is_one_group and s.verified == 1.0 else self._fullest(n) * s.verified
        padded = tokens
        if s.compiled:
            padded, extra = self._compiled_prompts(longest)
            finishing = s.prompt_batch
        if self._batches == 1:
            body = _between(times.tokens, v + padded)
        else:  # prompts are spread over the batches; each is whole in one of them
            held, extra = max(padded / self._batches, longest), max(extra / self._batches, slowest)
            mean = n / s.groups * s.verified + max(padded / self._batches, longest / s.groups) * s.stages
            body = times.of_tokens(v + held * s.stages, mean)
        last = len(times.sampled) - 1
        if self.adapters is not None:
            body += self.adapters.extra_s(v + padded)
        seconds = (
            body
            + times.sampled[min(n + finishing if self._is_one_group else self._fullest(n + finishing), last)]
            + extra
        )
        if n:
            seconds += self._reading_s(n)
            if times.verify != 1.0:
                seconds += (times.verify - 1.0) * self._plain_s(n)
        return seconds, times.launched_s((v + padded) / self._batches)

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

    def _taken_at_last(self, room: int, own: int) -> tuple[int, float, int, float, list[Slot]]:
        """`_taken`. Where prompts under way fill the cache and nothing decodes, the last one gives way to the others.
        Raises CacheTooSmallError where a prompt alone has no room."""
        taken = self._taken(room, own)
        while not taken[0] and not self.slots:
            if self.held:
                self._drop_held()
            elif not self._drop_last():
                raise CacheTooSmallError(self.prefilling[0].request, self.s.blocks * self.s.block)
            taken = self._taken(room, own)
        return taken

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
            self._unshare(one, one.need)
            self.served += 1
            if self.handed_s != self.t:
                self.handed_s, self.handed, self.handed_tokens = self.t, 0, 0
            self.handed += 1
            self.handed_tokens += one.need
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

    def _unshare(self, one: Slot, tokens: int) -> None:
        """Give back what a sequence that leaves the batch shared with others: its adapter, and what it holds through
        the prefix cache; the first `tokens` tokens of it are there."""
        if self.adapters is not None:
            self.adapters.leave(one.request.adapter)
        self._release(one, tokens)

    def _release(self, one: Slot, tokens: int) -> None:
        """Give back what a sequence holds through the prefix cache."""
        if one.hit:
            held = one.hit // self.cache.each
            self.cache.release(one.shared[:held], min(held, tokens // self.s.hash_block))
        one.shared, one.hit = (), 0

    def _finish(self, one: Slot) -> None:
        request = one.request
        request.last_token_s = self.t + request.late_s
        if request.later and self.s.prefix_cache and request.decoder < 0:
            self.cache.keep(request.later, self.t)
        self._unshare(one, one.need)
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

    def _stop(self, one: Slot) -> None:
        """Take a sequence out of the decoding batch; later it goes on after the tokens that it has."""
        context = self._leave(one)
        one.left = min(one.left, max(1, round((one.finish - self.D) * self.s.accepted)))  # the last step writes less
        one.need = round(context)
        one.finish = -1

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
        if self.waiting and self.s.admission == "expected":
            k = min(k, steps_to_room(self, self._head()))
        if self._bound(self.D + k) > self._cap:
            k = self._until_full(k)
            if k == 0:
                return 0, 0.0
        a = self.s.accepted
        factor = self._factor() * self.times.verify
        first = self._plain_s(n) * factor
        if self.s.compiled:
            return _until(min(k, self._steps_in_bucket()), first, 0.0, until - self.t)
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
        """The moment at which its next event ends if nothing arrives, s; for a step with prompts the moment at which it
        begins; inf where it has nothing to do. is_stuck: neither what waits nor a prompt under way has room beside the
        present batch."""
        if not (self.prefilling or self.waiting or self.slots or self.loading):
            return math.inf
        if self.t < self.up_s:
            return self.up_s
        if self._next_load() <= self.t or ((self.prefilling or self._looks()) and not is_stuck):
            return self.t
        if self.slots:
            return self.t + self._next_steps(self._next_load())[1]
        return self.loading[0][0] if self.loading else self.t

    def play(self, *, is_stuck: bool) -> bool:
        """Play the event that `due_s` told of; whether it found that no prompt has room beside the present batch."""
        if self.t < self.up_s:
            self.t = self.up_s
        elif self._next_load() <= self.t:
            self._arrive()
        elif not is_stuck and (self.prefilling or (self._looks() and self._admit())):
            return not self._mixed(self.t)
        elif (self.slots or self.loading) and self._looks() and not is_stuck:
            return True
        elif self.slots:
            self._leap(self._next_load())
        elif self.loading:
            self.t = self.loading[0][0]
        elif self.waiting:
            self._unblock()
        return False

    def _make_room(self) -> None:
        """Preempt decoding sequences, last come first (or lowest priority first), until one more step fits."""
        if self.s.preemption == RETRACT:
            self._retract()
            return
        decoding = self._decoding_blocks(self.D + 1)
        while self.held and self.blocks_private + self.cache.used_blocks + decoding > self._cap:
            self._drop_held()
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
            self._put_out(one)
            if self.s.preemption == "swap":
                one.swapped = True
                self.t += one.need * self.times.kv_B / self.s.host_Bps
            else:
                one.done = 0
            self._queue(one, is_first=True)

    def _put_out(self, one: Slot) -> None:
        """Take a decoding sequence out of the cache. What it wrote stays a part of its prompt."""
        self._stop(one)
        one.request.preemptions += 1
        self._unshare(one, one.need)
        self.events += 1

    def _retract(self) -> None:
        """Take back decoding sequences, those with the shortest answers first, until those that stay have room for
        their next tokens; expect as much of later answers as those that stay have written."""
        s, ahead, is_fewer = self.s, 1, False
        while self.held and self._used(self.D + 1) > self._cap:
            self._drop_held()
        while self.slots and self._used(self.D + ahead) > self._cap:
            if len(self.slots) == 1 and ahead > 1:
                break
            if len(self.slots) == 1 and not self._drop_last():
                raise CacheTooSmallError(next(iter(self.slots.values())).request, s.blocks * s.block)
            if len(self.slots) > 1:
                one = shortest_answer(self)
                self._put_out(one)
                one.done = 0
                self._queue(one, is_first=False)
                ahead, is_fewer = s.retract_ahead, True
        if is_fewer:
            self.ratio_start, self.ratio_from = part_after_retraction(self), self.D

    def _drop_last(self) -> bool:
        """Send the last prompt under way back to the queue; False when it is the only one."""
        if len(self.prefilling) + len(self.slots) <= 1:
            return False
        one = self.prefilling.pop()
        self._sizes -= one.size
        self.blocks_private -= one.blocks
        self._unshare(one, one.done)
        one.blocks = one.done = 0
        one.request.preemptions += 1
        self._queue(one, is_first=self.s.preemption != RETRACT)
        return True

    def fail(self, at: float, down_s: float) -> list[Slot]:
        """Go down at `at` for `down_s`; what was inside, none of it with a block here. Those are `swapped` that have
        their whole cache, were it kept."""
        for one in list(self.slots.values()):
            self._stop(one)
            one.swapped = True
            self.prefilling.append(one)
        waiting = self.waiting if isinstance(self.waiting, deque) else [item[2] for item in self.waiting]
        inside = [*self.prefilling, *(item[2] for item in sorted(self.loading)), *waiting]
        self.decoding.clear()
        self.prefilling.clear()
        self.waiting.clear()
        self.loading.clear()
        self.held.clear()
        self.queued_tokens = 0
        self.cache = self.cache.lost()
        if self.adapters is not None:
            self.adapters.clear()
        if self.encoder is not None:
            self.encoder.forget()
        self.blocks_private, self.S, self._sizes = 0, 0.0, 0.0
        self.window_sums = [0.0] * len(self.window_sums)
        self.up_s = max(self.up_s, at + down_s)
        self.t = max(self.t, at)
        for one in inside:
            one.done = one.blocks = one.hit = 0
            one.shared, one.fetched = (), False
        return inside


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
