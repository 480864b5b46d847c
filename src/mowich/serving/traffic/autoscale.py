"""Replicas that come and go with the load: how many are wanted, which are open, and how long each was paid for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mowich.serving.traffic.moments import earlier

REPLICA_MARGIN = 1e-9
"""Of a number of replicas: one more is not wanted for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """The rule: as many replicas as hold `inside` requests each, looked at every `every_s`, from `least` to `most`. A
    new one serves `start_s` after it was ordered; one too many goes when it was too many for `hold_s`, and is paid for
    until the first look after its last answer."""

    least: int
    most: int
    inside: float
    every_s: float
    start_s: float
    hold_s: float


class ScaledReplica(Protocol):
    """What a rule sees of a replica, and sets. load: requests inside; up_s: when it serves, s."""

    up_s: float

    @property
    def load(self) -> int: ...


@dataclass(slots=True)
class ScaledPool:
    """The replicas under a rule; the first `least` are there from the start. since: when each was ordered (None: not
    there); leaving: those that take no more requests; paid_s: seconds paid for of those that are gone; looks: so
    far."""

    rule: Autoscale
    replicas: Sequence[ScaledReplica]
    since: dict[int, float] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    paid_s: float = 0.0
    orders: int = 0
    looks: int = 0
    most_at_once: int = 0
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.since = dict.fromkeys(range(self.rule.least), 0.0)
        self.most_at_once = self.rule.least

    @property
    def there(self) -> list[int]:
        """Replicas that take requests, once they are up."""
        return [i for i in self.since if i not in self.leaving]

    def open(self, at: float) -> list[int]:
        """Replicas that take requests at a time: those that are up, else those that soon are."""
        there = self.there
        return [i for i in there if earlier(self.replicas[i].up_s) <= at] or there

    @property
    def look_s(self) -> float:
        """When it looks next, s."""
        return (self.looks + 1) * self.rule.every_s

    def look(self) -> None:
        """Count what is inside and order or dismiss."""
        rule, at = self.rule, self.look_s
        self.looks += 1
        for i in [i for i in self.leaving if not self.replicas[i].load]:
            self.paid_s += at - self.since.pop(i)
            self.leaving.discard(i)
        load = sum(self.replicas[i].load for i in self.since)
        now = min(rule.most, max(rule.least, math.ceil(load / rule.inside - REPLICA_MARGIN)))
        self._wanted.append((at, now))
        while self._wanted[0][0] < earlier(at - rule.hold_s):
            self._wanted.popleft()
        want = max(wanted for _, wanted in self._wanted)
        there = self.there
        for i in sorted(self.leaving):  # one that was leaving stays
            if len(there) < now:
                self.leaving.discard(i)
                there.append(i)
        for i in range(rule.most):
            if len(there) < now and i not in self.since:
                self.since[i] = at
                self.replicas[i].up_s = at + rule.start_s
                self.orders += 1
                there.append(i)
        self.most_at_once = max(self.most_at_once, len(self.since))
        for i in sorted(there, key=lambda i: (self.replicas[i].load, -i))[: max(0, len(there) - want)]:
            self.leaving.add(i)

    def paid_until(self, end_s: float) -> float:
        """Seconds of replicas paid for from 0 to the end."""
        return self.paid_s + sum(max(0.0, end_s - start) for start in self.since.values())
