"""The pictures and the sound that a load brings: how many a request has, and which of them were seen before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mowich.facts import Facts
from mowich.models.encoder import EncodedItem, Encoder, MediaKind
from mowich.serving.arrivals import Draw
from mowich.serving.traffic.encoders import EncoderPool, EncoderTimes, EncoderWorker, Media, MediaItem
from mowich.serving.traffic.requests import UserRequest

_CHUNK = 4096
_STREAM = 0x6D65
"""Beside the seed of a load: its own stream of draws, so that arrivals and lengths are those of the text alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLoad:
    """One kind of media of a load. size: width and height in pixels, or (seconds, 0); per_request: how many a request
    has that has some (None: the trace says); share: of the requests that have some; distinct: how many different ones
    there are, drawn evenly (None: each is new); in_prompt: whether the lengths of prompts have their tokens already;
    words: as it was asked."""

    kind: MediaKind
    size: tuple[float, float]
    per_request: Draw | None
    share: float = 1.0
    distinct: int | None = None
    in_prompt: bool = False
    words: dict[str, object]

    def item(self, encoder: Encoder, facts: Facts) -> EncodedItem:
        """One of them, as the encoder sees it."""
        if self.kind == "image":
            return encoder.image(*self.size, facts)
        return encoder.audio(self.size[0], facts)


class MediaDraws:
    """Gives requests their media. What the n-th request has depends on n alone, so that a slower machine is asked the
    same. loads, items: one of each kind; seed: of the load."""

    __slots__ = ("_counts", "_given", "_items", "_loads", "_seed")

    def __init__(self, loads: Sequence[MediaLoad], items: Sequence[EncodedItem], seed: int) -> None:
        self._loads, self._items, self._seed = tuple(loads), tuple(items), seed
        self._counts: dict[tuple[int, int], list[int]] = {}
        self._given = 0

    def _count(self, k: int, n: int) -> int:
        """Items of kind k in request n."""
        load = self._loads[k]
        if load.per_request is None:
            return 0
        chunk, at = divmod(n, _CHUNK)
        found = self._counts.get((k, chunk))
        if found is None:
            rng = np.random.default_rng((self._seed, _STREAM, k, chunk))
            some = rng.random(_CHUNK) < load.share
            found = self._counts[k, chunk] = (load.per_request(rng, _CHUNK) * some).astype(int).tolist()
        return found[at]

    def _name(self, k: int, n: int, i: int) -> int:
        """Which one item i of request n is: one of `distinct`, or none that another request has."""
        distinct = self._loads[k].distinct
        whole = (n + 1) * _ITEMS + i
        return whole if distinct is None else _mixed(whole + (self._seed + 1) * _SEEDS) % distinct

    def give(self, request: UserRequest, n: int) -> UserRequest:
        """Request n with its media, and a prompt that has their tokens."""
        asked = 0 if request.media is None else len(request.media.items)
        items: list[MediaItem] = []
        tokens = 0
        for k, item in enumerate(self._items):
            count = asked if self._loads[k].per_request is None else self._count(k, n)
            items += [(k, self._name(k, n, i)) for i in range(count)]
            tokens += count * item.tokens
            if not self._loads[k].in_prompt:
                request.prompt += count * item.prompt
        request.media = Media(tuple(items), tokens) if items else None
        return request

    def of_all(self, requests: Iterator[UserRequest], *, by_user: bool) -> Iterator[UserRequest]:
        """The requests of a load in order. by_user: of users who wait, each by its place among all."""
        for n, request in enumerate(requests):
            yield self.give(request, request.conversation if by_user else n)

    def of_next(
        self, follow: Callable[[UserRequest], Iterable[UserRequest]]
    ) -> Callable[[UserRequest], Iterable[UserRequest]]:
        """What users ask next, with its media."""
        return lambda request: [self.give(more, more.conversation) for more in follow(request)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMedia:
    """The media of a load and their encoders, as a fleet has them. draws: what gives requests theirs; times: of an
    encoder; apart: workers that encode alone, 0: those that read prompts encode; travel_s: of so many embeddings from
    there; see: what is done with an answered request."""

    draws: MediaDraws
    times: EncoderTimes
    apart: int
    travel_s: Callable[[int], float]
    see: Callable[[UserRequest], None]

    def pool(self) -> EncoderPool | None:
        """The workers that encode alone, idle."""
        workers = [EncoderWorker(self.times, f"encode {i}") for i in range(self.apart)]
        return EncoderPool(workers, self.travel_s) if workers else None


_ITEMS, _SEEDS = 1 << 20, 1 << 50
_WORD = (1 << 64) - 1


def _mixed(n: int) -> int:
    """A number of 64 bits whose bits all depend on all of n (the finaliser of SplitMix64)."""
    n = (n + 0x9E3779B97F4A7C15) & _WORD
    n = ((n ^ (n >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    n = ((n ^ (n >> 27)) * 0x94D049BB133111EB) & _WORD
    return n ^ (n >> 31)
