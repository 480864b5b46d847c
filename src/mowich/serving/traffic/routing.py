"""Replicas together: routing, prefill and decode apart, failures."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mowich.serving.steady import Front
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import Slot, UserRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Replica `replica` of the decoding (or only) pool is lost at `at_s` and is back after `down_s`."""

    at_s: float
    replica: int
    down_s: float


@dataclass(slots=True)
class ReplicaFleet:
    """Replicas that serve one stream. decoders: a pool of their own when prefill and decode are apart (else empty);
    transfer_s: seconds to move the cache of so many tokens between pools; front: the engine's time before a request is
    scheduled (None: none)."""

    replicas: list[Replica]
    decoders: list[Replica] = field(default_factory=list)
    route: str = "round-robin"
    transfer_s: Callable[[int], float] = lambda tokens: 0.0
    front: Front[float] | None = None
    failures: tuple[Failure, ...] = ()
    _next: int = 0
    _next_decoder: int = 0
    _moving: list[tuple[float, int, Slot]] = field(default_factory=list)
    _moved: int = 0

    def __post_init__(self) -> None:
        for replica in self.replicas if self.decoders else ():
            replica.handoff = self._hand_off

    def _hand_off(self, at: float, one: Slot) -> float:
        self._moved += 1
        travel = self.transfer_s(one.need)
        heapq.heappush(self._moving, (at + travel, self._moved, one))
        return travel

    def _choose(self, pool: list[Replica], at: float, request: UserRequest, turn: int) -> Replica:
        if len(pool) == 1:
            return pool[0]
        if self.route == "round-robin":
            return pool[turn % len(pool)]
        for replica in pool:
            replica.advance(at)
        up = [r for r in pool if r.up_s <= at] or pool
        if self.route == "prefix" and request.hashes:
            best = max(up, key=lambda r: (r.cache.match(request.hashes)[0], -r.load))
            if best.cache.match(request.hashes)[0] > 0 and best.load <= 2 * min(r.load for r in up) + 4:
                return best
        return min(up, key=lambda r: r.load)

    def _deliver(self, at: float) -> None:
        """Give caches that have arrived by `at` to the decoders."""
        while self._moving and self._moving[0][0] <= at:
            when, _, one = heapq.heappop(self._moving)
            target = self._choose(self.decoders, when, one.request, self._next_decoder)
            self._next_decoder += 1
            one.swapped = one.moved = True
            one.request.decoder = target.index
            target.submit(one.request, when, one)

    def run(self, requests: Iterable[UserRequest]) -> Iterator[UserRequest]:
        """Serve requests in order of arrival; yields each once it has been given to a replica (its times are filled in
        later). `events` and times live in the replicas. Failures strike in time order."""
        pending = sorted(self.failures, key=lambda f: f.at_s)
        front = self.front
        single = len(self.replicas) == 1
        for request in requests:
            at = request.arrival_s + (front.before(float(request.prompt)) if front else 0.0)
            while pending and pending[0].at_s <= at:
                self._strike(pending.pop(0))
            if self.decoders:
                for replica in self.replicas:
                    replica.advance(at)
                self._deliver(at)
            target = self.replicas[0] if single else self._choose(self.replicas, at, request, self._next)
            self._next += 1
            target.submit(request, at)
            yield request
        for failure in pending:
            self._strike(failure)
        for replica in self.replicas:
            replica.drain()
        while self._moving:
            self._deliver(self._moving[0][0])
        for replica in self.decoders:
            replica.drain()

    def _strike(self, failure: Failure) -> None:
        pool = self.decoders or self.replicas
        for replica in self.replicas:
            replica.advance(failure.at_s)
        self._deliver(failure.at_s)
        victim = pool[failure.replica]
        victim.advance(failure.at_s)
        for request in victim.fail(failure.at_s, failure.down_s):
            target = self._choose(self.replicas, failure.at_s, request, self._next)
            self._next += 1
            target.submit(request, failure.at_s)
