"""What enters a replica: its queue, what its cache has of a prompt, and the blocks that a tier holds of it."""

from __future__ import annotations

import heapq
import math
from collections import deque

from mowich.serving.traffic.encoders import EncoderWorker, Media
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.traffic.scheduling import (
    order_queue,
    queue_key,
    room_left,
)
from mowich.serving.traffic.state import State

_LOADS = -1
"""In the place of the tokens of a first chunk: what a tier holds of the prompt is loaded before."""


class Admission(State):
    """The part of a replica that takes requests from the queue into its batch."""

    __slots__ = ()

    def _queue(self, one: Slot, *, is_first: bool) -> None:
        """Put a sequence in the queue: first or last of it, or where its key says."""
        self.queued_tokens += one.need
        if not isinstance(self.waiting, deque):
            heapq.heappush(self.waiting, (queue_key(one, self.s.policy), one.order, one))
        elif is_first:
            self.waiting.appendleft(one)
        else:
            self.waiting.append(one)

    def _head(self) -> Slot:
        return self.waiting[0] if isinstance(self.waiting, deque) else self.waiting[0][2]

    def _pop(self) -> Slot:
        one = self.waiting.popleft() if isinstance(self.waiting, deque) else heapq.heappop(self.waiting)[2]
        self.queued_tokens -= one.need
        return one

    def _admit(self) -> bool:
        """Move waiting requests into prefill while there is room for a first chunk each; False when nothing entered."""
        s = self.s
        if s.admission == "batch" and (self.slots or self.prefilling):
            return False
        entered = False
        before = len(self.prefilling)
        room, own = self._rooms()
        if s.policy in ("lpm", "dfs-weight"):
            order_queue(self)
        skipped: list[Slot] = []
        while self.waiting and room > 0 and self._takes_one():
            one = self._head()
            request = one.request
            if self.adapters is not None and not self.adapters.admits(request.adapter):
                skipped.append(self._pop())  # others of the queue may go first
                continue
            if one.swapped:
                if not self._swap_in(one):
                    break
                entered = True
                continue
            if not self._has_room_for(request.media):
                break
            first = self._enter(one, room, own, may_wait=bool(self.prefilling) or entered)
            if first is None:
                break
            if first != _LOADS:
                entered = True
                room -= first
        for one in reversed(skipped):
            self._queue(one, is_first=True)
        if self.encoder is not None and len(self.prefilling) > before:
            self._encode(self.encoder, before)
        return entered

    def _rooms(self) -> tuple[int, int]:
        """(tokens of a step that prompts under way leave to others, tokens that one prompt may take)."""
        s, room = self.s, self.s.budget
        if s.mixes:
            room = int(room - len(self.slots) * max(1.0, s.verified))
        own = self._room_of_one(max(room, 0))
        for one in self.prefilling:
            room -= min(one.need - one.done, own) if s.chunks else one.need - one.done
        return room, own

    def _takes_one(self) -> bool:
        """Whether the numbers of sequences and of prompts under way allow one more."""
        s, prompts = self.s, len(self.prefilling)
        return len(self.slots) + prompts < s.max_sequences and (s.packs or prompts < s.batches * s.prompt_batch)

    def _room_of_one(self, room: int) -> int:
        """Tokens of a step that one prompt may take. room: left in the step."""
        own = self._own_room() if self._batches > 1 else room
        return min(own, self.s.long_prompt) if self.s.long_prompt else own

    def _swap_in(self, one: Slot) -> bool:
        """Take the head of the queue, which was put out to the host's memory, back into the batch, if it has room."""
        free = room_left(self, one, -(-math.ceil(one.need + self.s.accepted) // self.s.block), 0, 0)
        if free < 0:
            return False
        self._pop()
        if self.cache.idle:
            self.cache.shrink(free, self.t)
        self._take_adapter(one)
        self._resume(one)
        return True

    def _enter(self, one: Slot, room: int, own: int, *, may_wait: bool) -> int | None:
        """Take the head of the queue into prefill: the tokens of its first chunk, `_LOADS` where its blocks come from a
        tier before, None where it has no room. room: tokens left in the step, own: of them for one prompt; may_wait:
        another prompt is under way, so that one that does not fit whole can wait."""
        s, request = self.s, one.request
        hit, found, new = one.done, one.hit // self.cache.each, 0
        away: list[int] = []
        if s.prefix_cache and request.hashes and not one.fetched:
            hit, found, away = self._found(one)
            new = self.cache.new_blocks(one.shared[:found])
        tokens = one.need - hit
        if not s.chunks and tokens > room and may_wait:
            return None
        first = min(tokens, room, own) if s.chunks else tokens
        # a prompt that ends here decodes at once: without room it would be sent back
        next_token = s.accepted if first == tokens else 0.0
        private = -(-math.ceil(hit + first + next_token) // s.block) - found * self.cache.each
        free = room_left(self, one, max(0, private) + new, found * self.cache.each, new)
        if free < 0:
            return None
        self._pop()
        if found and not one.fetched:
            self.cache.take(one.shared[:found], self.t)
            one.hit = found * self.cache.each
        if self.cache.idle:
            self.cache.shrink(free, self.t)
        if request.scheduled_s < 0 and not one.fetched:
            request.cached = hit
            if self.cache.tiers:
                self._tell_tiers(request, hit, away)
        if (away or self.cache.coming) and not one.fetched and self._load(one, found, away):
            one.done = hit
            return _LOADS
        if one.fetched:
            one.fetched = False
            del self.held[one.order]
        if request.scheduled_s < 0:
            request.scheduled_s = self.t
            request.replica = self.index
        self._take_adapter(one)
        one.done = hit
        one.began_s = self.t
        self._hold(one, hit + first)
        self.prefilling.append(one)
        self._sizes += one.size
        return first

    def _found(self, one: Slot) -> tuple[int, int, list[int]]:
        """What the cache has of a request at the head of the queue: (tokens that need not be computed, blocks by name
        that hold them, where those after the leading ones in this memory are)."""
        cache, hash_block = self.cache, self.s.hash_block
        names = one.shared = one.request.hashes[: one.request.prompt // hash_block]
        if cache.tiers:
            here, away = cache.found(names, self.t)
            if away and self.tiering.load == "faster":
                away = away[: self._worth(here, away)]
        elif one.seen[0] == cache.changes:
            here, away = one.seen[1], []
        else:
            here, away = cache.found(names, self.t)
            one.seen = (cache.changes, here)
        found = here + len(away)
        return min(found * hash_block, one.need - 1), found, away

    def _worth(self, here: int, away: list[int]) -> int:
        """How many of the blocks that a tier holds are loaded, so that the prompt is done soonest: up to where the
        tier changes."""
        best, most = (self._prompt_s(here * self.s.hash_block, len(away) * self.s.hash_block), 0), len(away)
        for k in range(1, most + 1):
            if k == most or away[k] != away[k - 1]:
                rest = self._prompt_s((here + k) * self.s.hash_block, (most - k) * self.s.hash_block)
                best = min(best, (self._loaded_s(away[:k], self.t) - self.t + rest, k))
        return best[1]

    def _tell_tiers(self, request: UserRequest, hit: int, away: list[int]) -> None:
        """Note how many tokens of a hit are in each tier; the last token of a prompt is always computed."""
        beyond = max(0, len(away) - away.count(0)) * self.s.hash_block - hit
        loaded = [away.count(k) * self.s.hash_block for k in range(1, 4)]
        for k in (2, 1, 0):
            cut = min(max(0, beyond), loaded[k])
            loaded[k], beyond = loaded[k] - cut, beyond - cut
        request.tier_1, request.tier_2, request.tier_3 = loaded

    def _load(self, one: Slot, found: int, away: list[int]) -> bool:
        """Have blocks come that were taken for a sequence; whether it waits for them."""
        cache, now = self.cache, self.t
        names = one.shared[:found]
        start = end = cache.wait_s(names, now)
        for k, store in enumerate(cache.tiers, 1):
            count = away.count(k)
            if count:
                end = max(end, store.read(count, start))
        if end <= now:
            return False
        one.request.loads_s += end - now
        for k, name in enumerate(names[found - len(away) :] if away else ()):
            if away[k]:
                cache.coming[name] = end
        if self.tiering.overlap == "layers":
            self._layers_s = max(self._layers_s, end)
            return False
        heapq.heappush(self.loading, (end, one.order, one))
        self.held[one.order] = one
        return True

    def _prefetch(self, request: UserRequest) -> None:
        """Have what slower tiers hold of a request come to the first one."""
        cache, now = self.cache, self.t
        here, away = cache.found(request.hashes, now)
        first = cache.tiers[0]
        names = request.hashes[here : here + len(away)]
        for k, store in enumerate(cache.tiers[1:], 2):
            count = away.count(k)
            if count:
                end = store.read(count, now)
                for name in [name for name, at in zip(names, away, strict=True) if at == k][::-1]:
                    cache.coming[name] = end
                    cache.evicted(first, first.keep(name, end), now)

    def _take_adapter(self, one: Slot) -> None:
        """Bring the adapter of a sequence that joins the batch to the device; the step waits for it."""
        if self.adapters is not None:
            self.t += self.adapters.enter(one.request.adapter)

    def _has_room_for(self, media: Media | None) -> bool:
        """Whether the encoder's cache holds the embeddings of one more prompt beside those under way; one alone always
        has room, and so has text."""
        if self.encoder is None or media is None:
            return True
        held = sum(one.request.media.tokens for one in self.prefilling if one.request.media is not None)
        return not held or held + media.tokens <= self.encoder.times.most

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
        """Give a prefilling sequence the blocks of `tokens` tokens: those that are full through the prefix cache."""
        full = min(tokens // self.s.hash_block, len(one.shared)) if one.shared else 0
        if full * self.cache.each > one.hit:
            self.cache.add(one.shared[one.hit // self.cache.each : full], self.t)
            one.hit = full * self.cache.each
        want = max(0, -(-tokens // self.s.block) - one.hit)
        self.blocks_private += want - one.blocks
        one.blocks = want

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
