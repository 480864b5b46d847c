"""Which tenant, and so which LoRA adapter, a request is of."""

from __future__ import annotations

import bisect
import itertools
import re
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from mowich.errors import UserError
from mowich.serving.traffic.adapters import BASE
from mowich.serving.traffic.columns import RequestColumns

MOST_ADAPTERS = 100_000
MOST_SKEW = 10.0
"""Exponent of a popularity; beyond it one adapter has all."""
_STREAM = 0x4C6F5241
"""Seed apart from that of arrivals and lengths, which are drawn the same with and without adapters."""


def popularity(text: object, count: int, where: str = "") -> list[float]:
    """Shares of the requests of `count` adapters: "uniform", or "zipf(1.1)": in proportion to k^-1.1 of the k-th.

    Raises UserError for anything else.

    >>> [round(share, 3) for share in popularity("zipf(1)", 3)]
    [0.545, 0.273, 0.182]
    """
    match = re.fullmatch(r"\s*zipf\s*\(\s*([0-9]+\.?[0-9]*)\s*\)\s*", str(text))
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


@dataclass(slots=True)
class Tenants:
    """Gives requests their adapters. shares: of the requests, by adapter; base: share that takes the base model. A user
    who asks without end is a tenant, else each conversation, else each request."""

    shares: list[float]
    base: float = 0.0
    seed: int = 0
    _up_to: list[float] = field(init=False)
    _random: np.random.Generator = field(init=False)
    _drawn: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._up_to = list(itertools.accumulate(self.shares))
        self._random = np.random.default_rng([self.seed, _STREAM])
        self._drawn = []

    def of(self, i: int) -> int:
        """The adapter of the i-th tenant that comes."""
        while i >= len(self._drawn):
            for x in self._random.random(4096).tolist():
                rest = (x - self.base) / (1.0 - self.base) if self.base < 1.0 else -1.0
                last = len(self._up_to) - 1
                self._drawn.append(BASE if rest < 0.0 else min(bisect.bisect_right(self._up_to, rest), last))
        return self._drawn[i]

    def name(self, block: int, adapter: int) -> int:
        """A name of a block that no other adapter shares: what an adapter computes is its own. Traces may call a block
        otherwise than by a number."""
        named: object = block
        return block * (len(self.shares) + 1) + adapter + 1 if isinstance(named, int) else cast(int, (block, adapter))

    def columns(self, requests: RequestColumns) -> RequestColumns:
        """Requests, each of a tenant of its own, with their adapters, and names of blocks of their own."""
        given = [self.of(requests.first + i) for i in range(len(requests))]
        owners = np.repeat(given, np.diff(requests.names_at)).tolist()
        names = [self.name(block, own) for block, own in zip(requests.names, owners, strict=True)]
        return replace(requests, adapter=np.array(given, np.int64), names=names)
