"""Which tenant, and so which LoRA adapter, a request is of."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mowich.errors import UserError
from mowich.serving.traffic.adapters import BASE
from mowich.serving.traffic.requests import UserRequest

Follow = Callable[[UserRequest], UserRequest | None]
"""What the user of an answered request asks next."""

MOST_ADAPTERS = 100_000
MOST_SKEW = 10.0
"""Exponent of a popularity; beyond it one adapter has all."""
_STREAM = 0x4C6F5241
"""Apart from the draws of arrivals and lengths, which stay as they are without adapters."""


def popularity(text: object, count: int, where: str = "") -> list[float]:
    """Shares of the requests of `count` adapters: "uniform", or "zipf(1.1)": in proportion to k^-1.1 of the k-th.

    Raises UserError for anything else.

    >>> [round(share, 3) for share in popularity("zipf(1)", 3)]
    [0.545, 0.273, 0.182]
    """
    match = re.fullmatch(r"\s*zipf\s*\(\s*(\d+\.?\d*)\s*\)\s*", str(text))
    if str(text).strip() == "uniform":
        skew = 0.0
    elif match and float(match[1]) <= MOST_SKEW:
        skew = float(match[1])
    else:
        raise UserError(
            "not a popularity", where=where, given=text, allowed='"uniform", "zipf(1.1)" (exponent up to 10)'
        )
    weights = np.arange(1, count + 1, dtype=np.float64) ** -skew
    shares: list[float] = (weights / np.sum(weights)).tolist()
    return shares


@dataclass
class Tenants:
    """Gives requests their adapters. shares: of the requests, by adapter; base: share that takes the base model; users:
    that ask without end, each with one adapter (0: each conversation, or each request, has its own)."""

    shares: list[float]
    base: float = 0.0
    users: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        self._up_to = list(itertools.accumulate(self.shares))
        self._random = np.random.default_rng([self.seed, _STREAM])
        self._drawn: list[int] = []

    def of(self, i: int) -> int:
        """The adapter of the i-th tenant that comes."""
        while i >= len(self._drawn):
            for x in self._random.random(4096).tolist():
                rest = (x - self.base) / (1.0 - self.base) if self.base < 1.0 else -1.0
                last = len(self._up_to) - 1
                self._drawn.append(BASE if rest < 0.0 else min(bisect.bisect_right(self._up_to, rest), last))
        return self._drawn[i]

    def give(self, request: UserRequest, i: int) -> UserRequest:
        """Its adapter, and names of its blocks that no other adapter shares: what an adapter computes is its own."""
        request.adapter = self.of(i)
        many, own = len(self.shares) + 1, request.adapter + 1
        request.hashes = tuple(name * many + own for name in request.hashes)
        request.later = tuple(name * many + own for name in request.later)
        return request

    def among(
        self, requests: Iterator[UserRequest], follow: Follow | None
    ) -> tuple[Iterator[UserRequest], Follow | None]:
        """The same requests, and what follows them, with their adapters."""
        if follow is None:
            return (self.give(request, i) for i, request in enumerate(requests)), None

        def talk(request: UserRequest) -> UserRequest:
            return self.give(request, request.conversation % self.users if self.users else request.conversation)

        def after(request: UserRequest) -> UserRequest | None:
            more = follow(request)
            return None if more is None else talk(more)

        return map(talk, requests), after
