"""Encoders of images and of sound in a simulated traffic: before a prompt on its own worker, or on workers apart."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

MediaItem = tuple[int, int]
"""(kind, name): which of the scenario's media it is, and which one of them; the same name is the same picture."""


class Media:
    """The pictures and the sound of a request. tokens: embeddings of all; encode_s: its encoding, from the first of
    them to the last; wait_s, travel_s: before an encoder apart, and of its embeddings from there; ready_s: when these
    have arrived, -1 until then."""

    __slots__ = ("encode_s", "items", "ready_s", "tokens", "travel_s", "wait_s")

    def __init__(self, items: tuple[MediaItem, ...], tokens: int = 0) -> None:
        self.items, self.tokens = items, tokens
        self.encode_s = self.wait_s = self.travel_s = 0.0
        self.ready_s = -1.0


class EncoderTimes:
    """Seconds of encoding so many items of each kind together, each worked out once. tokens: embeddings of an item of
    each kind; most: embeddings that the cache of an encoder holds, and of prompts under way."""

    __slots__ = ("_known", "_law", "most", "tokens")

    def __init__(self, tokens: Sequence[int], law: Callable[[tuple[int, ...]], float], most: int) -> None:
        self.tokens, self._law, self.most = tuple(tokens), law, most
        self._known: dict[tuple[int, ...], float] = {}

    def seconds(self, counts: tuple[int, ...]) -> float:
        """Seconds of encoding `counts` items, a number for each kind."""
        found = self._known.get(counts)
        if found is None:
            found = self._known[counts] = self._law(counts) if any(counts) else 0.0
        return found

    def one_s(self, kind: int) -> float:
        """Of one item of a kind."""
        return self.seconds(tuple(int(k == kind) for k in range(len(self.tokens))))


class EncoderWorker:
    """An encoder with the embeddings that it still holds; the ones used longest ago make room. free_s: when it has
    worked off what it was given; reused, encoded: items found there, and items that were not."""

    __slots__ = ("_held", "_kept", "busy_s", "encoded", "events", "free_s", "name", "reused", "spans", "steps", "times")

    def __init__(self, times: EncoderTimes, name: str = "encode") -> None:
        self.times, self.name = times, name
        self.spans: list[tuple[float, float, int, int, int]] | None = None
        self.events = self.steps = self.reused = self.encoded = 0
        self.busy_s = self.free_s = 0.0
        self._kept: OrderedDict[MediaItem, int] = OrderedDict()
        self._held = 0

    @property
    def adapter_loads(self) -> tuple[int, int]:
        """An encoder has no adapters."""
        return 0, 0

    @property
    def moved_B(self) -> list[tuple[float, float]]:
        """Bytes to and from tiers of a cache: it has none."""
        return []

    def forget(self) -> None:
        """Lose what it holds, as a worker that fails does."""
        self._kept.clear()
        self._held = 0

    def take(self, items: Sequence[MediaItem]) -> float:
        """Seconds of encoding together those that it does not hold."""
        counts = [0] * len(self.times.tokens)
        kept = self._kept
        for item in items:
            if item in kept:
                kept.move_to_end(item)
                self.reused += 1
                continue
            counts[item[0]] += 1
            self.encoded += 1
            tokens = self.times.tokens[item[0]]
            if tokens <= self.times.most:
                kept[item] = tokens
                self._held += tokens
            while self._held > self.times.most:
                self._held -= kept.popitem(last=False)[1]
        return self.times.seconds(tuple(counts))


class EncoderPool:
    """Encoders on workers of their own. The items of a request are dealt out, each to the worker that would begin it
    first; a worker encodes its part of a request together. All embeddings travel when the last is there. travel_s:
    seconds of so many embeddings."""

    __slots__ = ("travel_s", "workers")

    def __init__(self, workers: list[EncoderWorker], travel_s: Callable[[int], float]) -> None:
        self.workers, self.travel_s = workers, travel_s

    def encode(self, at: float, media: Media) -> float:
        """Encode a request that comes at `at`: when its embeddings have arrived."""
        workers = self.workers
        free = [max(at, worker.free_s) for worker in workers]
        dealt: list[list[MediaItem]] = [[] for _ in workers]
        for item in media.items:
            i = free.index(min(free))
            dealt[i].append(item)
            free[i] += workers[i].times.one_s(item[0])
        first, last = math.inf, at
        for worker, items in zip(workers, dealt, strict=True):
            if not items:
                continue
            start = max(at, worker.free_s)
            seconds = worker.take(items)
            worker.free_s = start + seconds
            worker.busy_s += seconds
            worker.events += 1
            worker.steps += 1
            first, last = min(first, start), max(last, worker.free_s)
        media.wait_s, media.encode_s, media.travel_s = first - at, last - first, self.travel_s(media.tokens)
        media.ready_s = last + media.travel_s
        return media.ready_s
