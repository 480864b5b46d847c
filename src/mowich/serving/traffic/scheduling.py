"""What the schedulers of engines decide in their own ways: the order of the queue, what must fit in the cache before a
sequence is let in, and which sequences make room. `replica` asks; nothing is changed here but the order of a queue.

Numbers of blocks are whole, and tokens are whole grains (`policies.GRAIN`), so that no sum depends on its order.
"""

from __future__ import annotations

import math
from collections import deque

from mowich.serving.traffic.policies import LOOKED_FOR_PREFIX, Scheduler
from mowich.serving.traffic.requests import Slot
from mowich.serving.traffic.state import State

_MIXED, _MIXES = 2654435761, 2**32
"""Knuth's multiplicative hash: an order that is drawn, the same on every machine."""


def queue_key(one: Slot, policy: str) -> int:
    """What a queue is ordered by where a request keeps its key while it waits: the least first."""
    if policy == "priority":
        return one.request.priority
    return -one.request.output if policy == "lof" else one.order * _MIXED % _MIXES


def order_queue(state: State) -> None:
    """Put the queue in the order in which SGLang looks at it, by what is cached. Without a prefix cache, and in long
    queues for the longest start, requests stay as they came."""
    s, queue = state.s, state.waiting
    if not (isinstance(queue, deque) and s.prefix_cache and len(queue) > 1):
        return
    if s.policy == "lpm" and len(queue) <= LOOKED_FOR_PREFIX:
        state.waiting = deque(_by_longest_start(state, list(queue)))
    elif s.policy == "dfs-weight":
        state.waiting = deque(_by_subtree(state, list(queue)))


def _by_longest_start(state: State, queue: list[Slot]) -> list[Slot]:
    """The longest cached start first. Of requests that share a start which is not cached yet, the first goes before all
    others of it: these find it cached later."""
    coming: set[int] = set()
    keyed: list[tuple[int, int, Slot]] = []
    for place, one in enumerate(queue):
        hashes = one.request.hashes
        here = state.cache.found(hashes, state.t)[0]
        is_late = not here and bool(hashes) and hashes[0] in coming
        if not here:
            coming.update(hashes[:1])
        keyed.append((1 if is_late else -here, place, one))
    return [one for _, _, one in sorted(keyed, key=lambda item: item[:2])]


def _by_subtree(state: State, queue: list[Slot]) -> list[Slot]:
    """Depth first through the tree of cached starts, the child with most requests under it first; a node's own requests
    come after those of its children."""
    starts = [one.request.hashes[: state.cache.found(one.request.hashes, state.t)[0]] for one in queue]
    weight: dict[tuple[int, ...], int] = {}
    for start in starts:
        for depth in range(len(start) + 1):
            weight[start[:depth]] = weight.get(start[:depth], 0) + 1
    first = {start: place for place, start in reversed(list(enumerate(starts)))}
    for node in sorted(weight, key=len, reverse=True):  # the first request under each node settles equal weights
        if node and node in first:
            above = node[:-1]
            first[above] = min(first[node], first.get(above, len(queue)))

    def way(start: tuple[int, ...]) -> list[tuple[int, int, int]]:
        nodes = [start[:depth] for depth in range(1, len(start) + 1)]
        return [*((0, -weight[node], first[node]) for node in nodes), (1, 0, 0)]

    keyed = [(way(start), place) for place, start in enumerate(starts)]
    return [queue[place] for _, place in sorted(keyed)]


def to_come(s: Scheduler, one: Slot, D: int) -> float:
    """Tokens that a decoding sequence may still write at decode step D: of its answer, or of the limit that its request
    states."""
    return (one.finish - D) * s.accepted + unused(s, one)


def unused(s: Scheduler, one: Slot) -> int:
    """Tokens of the stated limit beyond the answer."""
    return max(0, s.answer_limit - one.request.output)


def own_blocks(state: State, one: Slot, shared: int) -> int:
    """Blocks that a waiting sequence must find by the rule of admission, beside `shared` ones that others hold too."""
    s = state.s
    tokens = float(one.need)
    if s.admission != "prompt" and state.handoff is None:
        answer = one.left + unused(s, one)
        tokens += answer if s.admission != "expected" else min(answer, s.answer_clip)
    return max(0, -(-math.ceil(tokens + s.accepted) // s.block) - shared)


def held_blocks(state: State) -> int:
    """Blocks that admission counts as taken: in use, and what it keeps free for the sequences inside."""
    s = state.s
    if s.admission == "prompt":
        return state._used(state.D + 1)
    if s.admission == "expected":
        return state._used(state.D + 1) + _under_way(state) + math.ceil(expected_tokens(state) / s.block)
    whole = state.cache.used_blocks + state.blocks_private + _under_way(state)
    for one in state.slots.values():
        whole += -(-int(one.origin + s.accepted * one.finish + unused(s, one) + 0.999999) // s.block) - one.hit
    return whole


def _under_way(state: State) -> int:
    """Blocks that prompts under way are still to take, with what is kept for their answers."""
    return sum(max(0, own_blocks(state, one, one.hit) - one.blocks) for one in state.prefilling)


def expected_tokens(state: State) -> float:
    """Tokens that are kept free for the answers of the decoding sequences."""
    return state.s.expected_part(state.ratio_start, state.D - state.ratio_from) * clipped_to_come(state)


def clipped_to_come(state: State) -> float:
    """Tokens that the decoding sequences may still write, each within the clip."""
    s, D, total = state.s, state.D, 0.0
    for one in state.slots.values():
        total += min(to_come(s, one, D), float(s.answer_clip))
    return total


def room_left(state: State, one: Slot, now: int, shared: int, new: int) -> int:
    """Blocks that are free when a sequence has left the queue, below 0 where it may not. now: blocks that it takes at
    once; shared: those of its prompt that others hold too, of which it brings `new`. A lone one needs room for what it
    takes at once."""
    s = state.s
    if s.admission != "chunk" and (state.slots or state.prefilling):
        need = own_blocks(state, one, shared) + new
        is_told = s.admission == "prompt" and need <= now  # it is all taken at once
        if not is_told and held_blocks(state) + need > state._cap:
            return -1
    return state._free(now)


def steps_to_room(state: State, one: Slot) -> int:
    """Decode steps of the present batch before which the part that is kept free has not fallen enough to let `one` in,
    at least one; a large number where it never does.

    In tokens: U + n a k + (r - d k) (L - n a k) <= C, with n sequences that keep `a` tokens a step, L to come, r the
    part kept free, which falls by d a step."""
    s, never = state.s, 2**62
    if s.admission != "expected" or len(state.slots) + len(state.prefilling) >= s.max_sequences:
        return never
    r, d = s.expected_part(state.ratio_start, state.D - state.ratio_from), s.fall
    na, left = len(state.slots) * s.accepted, clipped_to_come(state)
    if r <= s.ratio_least:
        return 1 if r < s.ratio_least else never
    shared = len(one.request.hashes) * state.cache.each if s.prefix_cache else 0  # at most
    taken = (state.blocks_private + state.cache.used_blocks + own_blocks(state, one, shared) - state._cap) * s.block
    c = taken + state.S + na + r * left
    b = na * (1.0 - r) - d * left
    if c <= 0:
        return 1
    under = b * b - 4.0 * d * na * c
    if b >= 0 or under < 0:
        return never
    k = (-b - math.sqrt(under)) / (2.0 * d * na)
    return max(1, int(k)) if k * d <= r - s.ratio_least + d else never


def shortest_answer(state: State) -> Slot:
    """The decoding sequence that is taken back first: with the shortest answer so far; of these the longest prompt,
    then the last that came."""
    D, a = state.D, state.s.accepted
    return min(
        state.slots.values(),
        key=lambda q: (q.request.output - (q.finish - D) * a, -q.request.prompt, -q.order),
    )


def part_after_retraction(state: State) -> float:
    """The part of what is to come that is kept free after a retraction: what the sequences that stay have written, and
    as much as they write in the next steps, of what they may write."""
    s, D = state.s, state.D
    written = limits = 0.0
    for one in state.slots.values():
        written += one.request.output - (one.finish - D) * s.accepted
        limits += one.request.output + unused(s, one)
    return min(1.0, (written + s.retract_steps * len(state.slots)) / (limits + 1.0))
