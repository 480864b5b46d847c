"""Requests of a traffic, and their place in a replica."""

from __future__ import annotations

import math

from mowich.serving.traffic.adapters import BASE
from mowich.serving.traffic.encoders import Media


class UserRequest:
    """One request and what happened to it. Times in s on the simulation's clock; -1 until they happen. priority: lower
    goes first;
    hashes: names of the prompt's blocks, for prefix caching; later: of the blocks that the answer fills; conversation,
    turn: which session it is of, and which call of it; media: its pictures and sound (None: text alone); tier_1,
    tier_2, tier_3: of its cached tokens, those that a tier had; loads_s: that it waited for a tier; late_s: from the
    engine's time of a token to the user's (below 0 where the correction says that prompts are faster than the steps);
    failures: times it was lost and asked again; moves: times it went on in another replica; adapter: the LoRA adapter
    that it asks for."""

    __slots__ = (
        "adapter",
        "arrival_s",
        "cached",
        "conversation",
        "decoder",
        "failures",
        "first_token_s",
        "hashes",
        "id",
        "last_token_s",
        "late_s",
        "later",
        "loads_s",
        "media",
        "moves",
        "output",
        "preemptions",
        "priority",
        "prompt",
        "replica",
        "scheduled_s",
        "tier_1",
        "tier_2",
        "tier_3",
        "turn",
    )

    def __init__(
        self, id: str, arrival_s: float, prompt: int, output: int, hashes: tuple[int, ...] = (), priority: int = 0
    ) -> None:
        self.id, self.arrival_s, self.prompt, self.output = id, arrival_s, prompt, output
        self.hashes, self.priority = hashes, priority
        self.scheduled_s = self.first_token_s = self.last_token_s = -1.0
        self.replica = self.decoder = -1
        self.cached = self.preemptions = self.failures = self.moves = 0
        self.late_s = self.loads_s = 0.0
        self.later: tuple[int, ...] = ()
        self.tier_1 = self.tier_2 = self.tier_3 = 0
        self.conversation = self.turn = 0
        self.adapter = BASE
        self.media: Media | None = None


class Slot:
    """A request inside a replica. size: log2 of its prompt; began_s: when its prompt last left the queue; done: prompt
    tokens in the cache; need: tokens to prefill (the prompt, and what was generated before a preemption); left: output
    tokens to come; blocks: private ones held; hit: held through the prefix cache, the first of `shared`; fetched: what
    was to be loaded of them is here; seen: what the cache had of it, and after how many changes; origin: context minus
    decode counter while decoding."""

    __slots__ = (
        "began_s",
        "blocks",
        "done",
        "fetched",
        "finish",
        "hit",
        "left",
        "moved",
        "need",
        "order",
        "origin",
        "request",
        "seen",
        "shared",
        "size",
        "swapped",
    )

    def __init__(self, request: UserRequest, order: int) -> None:
        self.request, self.order = request, order
        self.need, self.left = request.prompt, request.output
        self.done = self.blocks = self.hit = 0
        self.origin = self.began_s = 0.0
        self.size = math.log2(request.prompt)
        self.finish = 0
        self.shared: tuple[int, ...] = ()
        self.swapped = self.moved = self.fetched = False
        self.seen: tuple[int, int] = (-1, 0)
