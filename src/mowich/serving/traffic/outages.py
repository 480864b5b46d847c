"""Replicas that go, lost at once or drained, by plan or by chance: what the router knows of it, and what becomes of the
sequences inside.

A lost replica loses everything in the moment, and the router sends to it until that is detected. A drained one takes no
more requests and answers those inside until the deadline; then, or when the last answer has ended, it is down. What is
still inside goes on elsewhere as `Recovery` says. Nothing is lost for good: every request is answered once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from mowich.serving.traffic.moments import Agenda, earlier
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import Slot, UserRequest

RECOVERIES = ("restart", "replay", "cache")
"""What becomes of a sequence whose replica goes. restart: it is asked again from its prompt; replay: another replica
reads the prompt and what was said, and goes on; cache: as replay, but the cache of one that is drained moves there."""


MOST_TRIES = 1000
"""Times that a request may lose its replica: one that needs more is never answered between failures."""


class NeverAnsweredError(Exception):
    """A request whose replicas go again and again before it is answered."""

    def __init__(self, request: UserRequest) -> None:
        super().__init__(f"request {request.id} has lost its replica {MOST_TRIES} times and was never answered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Replica `replica` of the decoding (or only) pool goes at `at_s` and is back `down_s` after it went down: at once
    (drain_s None: everything inside is lost), or when its answers have ended, at the latest after drain_s."""

    at_s: float
    replica: int
    down_s: float
    drain_s: float | None = None


class CacheWay(Protocol):
    """The way of a cache from prefill to decode: `Transfer`. token_s: of a token that all layers send, s; kept: (share
    of a token's bytes, the most tokens that the layers with it keep)."""

    def seconds(self, tokens: int) -> float: ...
    @property
    def kept(self) -> tuple[tuple[float, float], ...]: ...
    @property
    def token_s(self) -> float: ...
    @property
    def state_s(self) -> float: ...
    @property
    def latency_s(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """detect_s: from a loss until the router knows; retry_s: until a user asks again; moves: see `RECOVERIES`; way: of
    a cache to another replica (None: it takes no time)."""

    detect_s: float = 0.0
    retry_s: float = 0.0
    moves: str = "restart"
    way: CacheWay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """Failures by chance: of each replica in the mean one for each `mtbf_s` in which it is up; it is back after
    `down_s`."""

    mtbf_s: float
    down_s: float
    seed: int = 0


def rolling(replicas: int, *, at_s: float, each_s: float, drain_s: float, down_s: float) -> tuple[Failure, ...]:
    """All replicas of a pool drained one after another, `each_s` apart.

    Example:
        >>> [f.at_s for f in rolling(3, at_s=60.0, each_s=10.0, drain_s=5.0, down_s=2.0)]
        [60.0, 70.0, 80.0]
    """
    return tuple(Failure(at_s=at_s + i * each_s, replica=i, down_s=down_s, drain_s=drain_s) for i in range(replicas))


def drawn_failures(replicas: int, chance: Chance) -> Iterator[Failure]:
    """Failures of so many replicas by chance, without end, in order of time. The draws of a replica depend on the seed
    and its number alone."""
    coming: Agenda[int] = Agenda()
    gaps = [np.random.default_rng([chance.seed, i]) for i in range(replicas)]

    def put(i: int, up_s: float) -> None:
        coming.put(up_s + chance.mtbf_s * float(gaps[i].exponential(1.0)), i)

    for i in range(replicas):
        put(i, 0.0)
    while coming:
        at, i = coming.pop()
        yield Failure(at_s=at, replica=i, down_s=chance.down_s)
        put(i, at + chance.down_s)


@dataclass(slots=True)
class _Drain:
    """A drain under way. held: what came while no other replica was there."""

    failure: Failure
    from_s: float
    held: list[Slot] = field(default_factory=list)


@dataclass(slots=True)
class Outages:
    """The replicas of `pool` that go. settle: play every replica to a time; send: give a sequence to a replica at a
    time. drawn: failures by chance, which end with the work."""

    pool: Sequence[Replica]
    recovery: Recovery
    settle: Callable[[float], None]
    send: Callable[[float, Slot], object]
    drawn: Iterator[Failure]
    drains: dict[int, _Drain] = field(default_factory=dict)
    _unseen: dict[int, list[Slot]] = field(default_factory=dict)
    _pending: Agenda[Callable[[float], None]] = field(default_factory=Agenda)
    _next: Failure | None = None

    def __post_init__(self) -> None:
        self._next = next(self.drawn, None)

    def plan(self, failures: Sequence[Failure]) -> None:
        """Failures that are stated."""
        for one in failures:
            self._pending.put(one.at_s, partial(self._strike, one))

    @property
    def planned_s(self) -> float:
        """When the next thing happens that is not by chance; inf: never."""
        return self._pending.next_s

    @property
    def drawn_s(self) -> float:
        """When the next failure by chance happens; inf: never."""
        return math.inf if self._next is None else self._next.at_s

    def play(self) -> None:
        """Play what happens next."""
        if self._next is not None and self._next.at_s < earlier(self._pending.next_s):
            one, self._next = self._next, next(self.drawn, None)
            self.settle(one.at_s)
            self._strike(one, one.at_s)
            return
        at, event = self._pending.pop()
        self.settle(at)
        event(at)

    def open(self, there: list[Replica], at: float) -> list[Replica]:
        """The replicas of the pool, of those that are there, that the router sends to: all that it takes to be up; else
        those that soon are; else those that are drained, which hold what comes until they are back."""
        for i in list(self.drains):
            self.pool[i].advance(at)
        self.look()
        serving = [r for r in there if r.index not in self.drains]
        return [r for r in serving if r.index in self._unseen or earlier(r.up_s) <= at] or serving or there

    def lost(self, replica: Replica) -> tuple[int, int]:
        """Requests, and their tokens, that are lost in a replica and not yet known to be: the router counts them."""
        inside = self._unseen.get(replica.index, ())
        return len(inside), sum(one.need for one in inside)

    def takes(self, target: Replica, one: Slot) -> bool:
        """Whether a replica that the router has chosen takes a sequence; one that is lost and not yet known to be loses
        it, one that is drained holds it."""
        lost = self._unseen.get(target.index)
        if lost is not None:
            lost.append(one)
            return False
        drain = self.drains.get(target.index)
        if drain is not None:
            drain.held.append(one)
        return drain is None

    def look(self) -> bool:
        """End the drains whose last answer has ended; whether there was one."""
        empty = [d for d in self.drains.values() if not self.pool[d.failure.replica].load]
        for drain in empty:  # what one sends on may end another
            if self.drains.get(drain.failure.replica) is drain:
                self._end(drain, max(drain.from_s, self.pool[drain.failure.replica].t))
        return bool(empty)

    def _strike(self, failure: Failure, at: float) -> None:
        i = failure.replica
        victim = self.pool[i]
        victim.advance(at)
        if failure.drain_s is None:
            drain = self.drains.pop(i, None)
            lost = [*victim.fail(at, failure.down_s), *(drain.held if drain is not None else ())]
            seen_s = min(self.recovery.detect_s, failure.down_s)
            if seen_s > 0.0:
                self._unseen[i] = lost
                self._pending.put(at + seen_s, partial(self._noticed, i, lost))
            else:
                self._recover(at, lost, is_lost=True)
        elif i not in self.drains and not at < earlier(victim.up_s):  # one that is down has nothing to drain
            drain = self.drains[i] = _Drain(failure, at)
            self._pending.put(at + failure.drain_s, partial(self._deadline, drain))
            self.look()

    def _noticed(self, i: int, lost: list[Slot], at: float) -> None:
        if self._unseen.get(i) is lost:
            del self._unseen[i]
        self._recover(at, lost, is_lost=True)

    def _deadline(self, drain: _Drain, at: float) -> None:
        if self.drains.get(drain.failure.replica) is drain:
            self.pool[drain.failure.replica].advance(at)
            self.look()
        if self.drains.get(drain.failure.replica) is drain:
            self._end(drain, at)

    def _end(self, drain: _Drain, at: float) -> None:
        """A drained replica goes down."""
        del self.drains[drain.failure.replica]
        self._recover(at, self.pool[drain.failure.replica].fail(at, drain.failure.down_s), is_lost=False)
        for one in drain.held:
            self.send(at, one)

    def _recover(self, at: float, inside: Sequence[Slot], *, is_lost: bool) -> None:
        """Let sequences go on elsewhere, the first to arrive first. is_lost: whether their caches are."""
        moves, way = self.recovery.moves, self.recovery.way
        again = Agenda([(one.request.arrival_s, one) for one in inside])
        for one in [again.pop()[1] for _ in inside]:
            when = at
            if one.request.failures + one.request.moves >= MOST_TRIES:
                raise NeverAnsweredError(one.request)
            if moves == "restart":
                one.request.failures += 1
                one, when = Slot(one.request, 0), at + self.recovery.retry_s
            else:
                one.request.moves += 1
                one.done = 0  # one that was on its way to a lost replica had its prompt done
                one.swapped = one.moved = one.swapped and moves == "cache" and not is_lost
                if one.moved:
                    when = at + (0.0 if way is None else way.seconds(one.need))
            if when > at:
                self._pending.put(when, partial(self._sent, one))
            else:
                self.send(at, one)

    def _sent(self, one: Slot, at: float) -> None:
        self.send(at, one)
