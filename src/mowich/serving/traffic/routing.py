"""Replicas together: routing, prefill and decode apart, replicas that go, and users who wait for an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mowich.serving.traffic.autoscale import ScaledPool
from mowich.serving.traffic.encoders import EncoderPool
from mowich.serving.traffic.moments import Agenda, earlier
from mowich.serving.traffic.outages import Chance, Failure, Outages, Recovery, drawn_failures
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import Slot, UserRequest
from mowich.serving.waits import Front

Follow = Callable[[UserRequest], Iterable[UserRequest]]
"""What is asked because a request was answered."""


@dataclass(slots=True)
class ReplicaFleet:
    """Replicas that serve one stream. decoders: a pool of their own when prefill and decode are apart (else empty);
    transfer_s: seconds to move the cache of so many tokens between pools; front: the engine's time before a request is
    scheduled (None: none); failures: replicas of the decoding (or only) pool that go, chance: and when by chance,
    recovery: what becomes of their requests; follow: what is asked because a request was answered (None: requests do
    not depend on answers); scaled, scaled_decoders: the rules that replicas and decoders come and go by, which look
    together (None: all are there); encoders: of pictures and sound, on workers of their own (None: replicas encode)."""

    replicas: list[Replica]
    decoders: list[Replica] = field(default_factory=list)
    route: str = "round-robin"
    transfer_s: Callable[[int], float] = lambda tokens: 0.0
    front: Front[float] | None = None
    failures: tuple[Failure, ...] = ()
    chance: Chance | None = None
    recovery: Recovery = field(default_factory=Recovery)
    follow: Follow | None = None
    scaled: ScaledPool | None = None
    scaled_decoders: ScaledPool | None = None
    encoders: EncoderPool | None = None
    _next: int = 0
    _next_decoder: int = 0
    _moving: Agenda[Slot] = field(default_factory=Agenda)
    _coming: Agenda[UserRequest] = field(default_factory=Agenda)
    _now: float = 0.0
    _outages: Outages | None = None

    def __post_init__(self) -> None:
        for replica in self.replicas if self.decoders else ():
            replica.handoff = self._hand_off
        for pool in self._scaled():
            for replica in [*self.replicas, *self.decoders]:
                replica.on_done = _told(replica.on_done, pool)
        if self.failures or self.chance is not None:
            victims = self.decoders or self.replicas
            self._outages = Outages(
                pool=victims,
                recovery=self.recovery,
                settle=self._settle,
                send=lambda at, one: self._give(at, one.request, one),
                drawn=iter(()) if self.chance is None else drawn_failures(len(victims), self.chance),
            )
            self._outages.plan(self.failures)

    def _scaled(self) -> list[ScaledPool]:
        """The pools that come and go by a rule."""
        return [pool for pool in (self.scaled, self.scaled_decoders) if pool is not None]

    def _hand_off(self, at: float, one: Slot) -> float:
        travel = self.transfer_s(one.need)
        self._moving.put(at + travel, one)
        return travel

    def _choose(self, pool: list[Replica], at: float, request: UserRequest, turn: int) -> Replica:
        if len(pool) == 1 and self._outages is None:
            return pool[0]
        if self.route != "round-robin":
            for replica in pool:
                replica.advance(at)
        up = self._open(pool, at)
        if self.route == "round-robin":
            return up[turn % len(up)]
        if self.route == "kv":
            return min(up, key=lambda r: r.tokens_ahead(request, at) + self._lost(r)[1])
        if self.route == "prefix" and request.hashes:
            here, _, best = max(
                ((r.tokens_here(request), -self._load(r, at), r) for r in up), key=lambda found: found[:2]
            )
            if here > 0 and self._load(best, at) <= 2 * min(self._load(r, at) for r in up) + 4:
                return best
        return min(up, key=lambda r: self._load(r, at))

    def _load(self, replica: Replica, at: float) -> int:
        """Requests inside, as the router knows them."""
        return replica.load_at(at) + self._lost(replica)[0]

    def _lost(self, replica: Replica) -> tuple[int, int]:
        """Requests, and their tokens, that the router takes to be inside a replica that is lost."""
        outages = self._outages
        return (0, 0) if outages is None or replica not in outages.pool else outages.lost(replica)

    def _open(self, pool: list[Replica], at: float) -> list[Replica]:
        """The replicas of a pool that the router sends to: those that are up, else those that soon are."""
        if self._outages is not None and pool[0] in self._outages.pool:
            return self._outages.open(pool, at)
        return pool

    def _deliver(self, at: float) -> None:
        """Give caches that have arrived by `at` to the decoders."""
        while earlier(self._moving.next_s) <= at < math.inf:
            when, one = self._moving.pop()
            one.swapped = one.moved = True
            self._give(when, one.request, one)

    def _give(self, at: float, request: UserRequest, one: Slot | None = None) -> Replica | None:
        """Give a request, or a sequence that has begun elsewhere, to a replica: to which (None: to none yet)."""
        decodes = one is not None and one.moved and bool(self.decoders)
        pool, rule = (self.decoders, self.scaled_decoders) if decodes else (self.replicas, self.scaled)
        if rule is not None:
            goes = self._outages is not None and self._outages.pool is pool  # then these say who is up
            pool = [pool[i] for i in (rule.there if goes else rule.open(at))]
            rule.seen.arrives(request)
        if decodes:
            target = self._choose(pool, at, request, self._next_decoder)
            self._next_decoder += 1
            request.decoder = target.index
        else:
            target = self._choose(pool, at, request, self._next)
            self._next += 1
        if self._outages is not None and target in self._outages.pool:
            one = Slot(request, 0) if one is None else one
            if not self._outages.takes(target, one):
                return None
        target.submit(request, at, one)
        return target

    def run(self, requests: Iterable[UserRequest]) -> Iterator[UserRequest]:
        """Serve requests in order of arrival; yields each once it has been given to a replica (its times are filled in
        later). `events` and times live in the replicas. Failures strike in time order."""
        if self.follow is not None or self._shares_tiers():
            yield from self._converse(requests, self.follow or (lambda request: ()))
            return
        outages = self._outages
        for request in requests if self.encoders is None else self._encoded(requests, self.encoders):
            at = self._ready_s(request)
            while earlier(self._look_s()) <= at:
                self._look()
            while outages is not None and earlier(min(outages.planned_s, outages.drawn_s)) <= at:
                outages.play()
            if self.decoders:
                for replica in self.replicas:
                    replica.advance(at)
                self._deliver(at)
            self._give(at, request)
            yield request
        while outages is not None and (outages.planned_s < math.inf or (outages.drawn_s < math.inf and self._has_work)):
            outages.play()
        for replica in self.replicas:
            replica.drain()
        while self._moving:
            self._deliver(self._moving.next_s)
        for replica in self.decoders:
            replica.drain()

    @property
    def _has_work(self) -> bool:
        """Whether a request is inside."""
        return bool(self._moving) or any(r.load for r in (*self.replicas, *self.decoders))

    def _encoded(self, requests: Iterable[UserRequest], encoders: EncoderPool) -> Iterator[UserRequest]:
        """The requests in the order in which their prompts can be read, once encoders apart have done their part."""
        ready: Agenda[UserRequest] = Agenda()
        for request in requests:
            at = self._ready_s(request)
            while earlier(ready.next_s) <= at:
                yield ready.pop()[1]
            ready.put(at if request.media is None else encoders.encode(at, request.media), request)
        while ready:
            yield ready.pop()[1]

    def _shares_tiers(self) -> bool:
        """Whether replicas write to one tier: then what one of them does is seen by the others, in order of time."""
        held = [store.names for r in (*self.replicas, *self.decoders) for store in r.cache.tiers]
        return len({id(names) for names in held}) < len(held)

    def _converse(self, requests: Iterable[UserRequest], follow: Follow) -> Iterator[UserRequest]:
        """Serve requests where what a user asks next depends on when the last answer ended: of all replicas, the event
        that is over first is played first, so that no answer comes after what it brings about."""
        everyone = [*self.replicas, *self.decoders]
        for replica in everyone:
            replica.on_done = self._answered(replica.on_done, follow)
        outages = self._outages
        starts = iter(requests)
        start = next(starts, None)
        stuck = [False] * len(everyone)
        due = [math.inf] * len(everyone)
        while True:
            soonest = min(due)
            at = self._outside_s(start, soonest)
            if soonest < earlier(at):
                i = _first_due(due, soonest)
                self._now = soonest
                stuck[i] = everyone[i].play(is_stuck=stuck[i])
                due[i] = everyone[i].due_s(is_stuck=stuck[i])
                if outages is not None and outages.look():
                    stuck = [False] * len(everyone)
                    due = [r.due_s(is_stuck=False) for r in everyone]
                continue
            if at == math.inf:
                return
            self._now = at
            request: UserRequest | None = None
            if not self._plays_pools(at):
                if start is not None and earlier(self._ready_s(start)) <= at:
                    request, start = start, next(starts, None)
                else:
                    request = self._coming.pop()[1]
                if self._goes_to_encoder(at, request):
                    request = None
            target = None if request is None else self._give(at, request)
            for i, replica in enumerate(everyone):  # those that this has moved on to their event, or past it
                if target is None or outages is not None or replica is target or replica.t >= earlier(due[i]):
                    stuck[i] = False
                    due[i] = replica.due_s(is_stuck=False)
            if request is not None:
                yield request

    def _outside_s(self, start: UserRequest | None, soonest: float) -> float:
        """The next moment of what is outside of replicas, s. start: the next user's first request; soonest: the next
        event of a replica. Rules of autoscaling and drawn failures have one only while something else is to come."""
        outages = self._outages
        at = min(
            math.inf if start is None else self._ready_s(start),
            self._coming.next_s,
            self._moving.next_s,
            math.inf if outages is None else outages.planned_s,
        )
        if at == soonest == math.inf:
            return at
        return min(at, self._look_s(), math.inf if outages is None else outages.drawn_s)

    def _plays_pools(self, at: float) -> bool:
        """Whether a rule of autoscaling, a failure or a cache that arrives comes first at a moment; it is played."""
        outages = self._outages
        if earlier(self._look_s()) <= at:
            self._look()
        elif outages is not None and earlier(min(outages.planned_s, outages.drawn_s)) <= at:
            outages.play()
        elif earlier(self._moving.next_s) <= at:
            self._deliver(at)
        else:
            return False
        return True

    def _goes_to_encoder(self, at: float, request: UserRequest) -> bool:
        """Whether a request has media that encoders apart have still to read; it comes back when they have."""
        if self.encoders is None or request.media is None or request.media.ready_s >= 0:
            return False
        self._coming.put(self.encoders.encode(at, request.media), request)
        return True

    def _ready_s(self, request: UserRequest) -> float:
        """When a request can be scheduled: after its time in front of the engine, and at an encoder apart."""
        if request.media is not None and request.media.ready_s >= 0:
            return request.media.ready_s
        return request.arrival_s + (self.front.before(float(request.prompt)) if self.front else 0.0)

    def _answered(self, tell: Callable[[UserRequest], None] | None, follow: Follow) -> Callable[[UserRequest], None]:
        """What is done with an answered request: it is told of, and its user asks again."""

        def done(request: UserRequest) -> None:
            if tell is not None:
                tell(request)
            for more in follow(request):
                self._coming.put(max(self._now, self._ready_s(more)), more)

        return done

    def _look_s(self) -> float:
        """When the rules of autoscaling look next; inf where there is none."""
        rule = self.scaled or self.scaled_decoders
        return math.inf if rule is None else rule.look_s

    def _look(self) -> None:
        """Let the rules of autoscaling look."""
        at = self._look_s()
        for replica in self.replicas:
            replica.advance(at)
        if self.decoders:
            self._deliver(at)
            for replica in self.decoders:
                replica.advance(at)
        for pool in self._scaled():
            pool.look()

    def _settle(self, at: float) -> None:
        """Play everything that is before a time outside of replicas."""
        for replica in self.replicas:
            replica.advance(at)
        self._deliver(at)


def _first_due(due: Sequence[float], soonest: float) -> int:
    """The first replica whose next event is at the soonest moment, within what counts as the same moment."""
    i = due.index(soonest)
    if i and earlier(min(due[:i])) <= soonest:
        return next(j for j, other in enumerate(due) if earlier(other) <= soonest)
    return i


def _told(tell: Callable[[UserRequest], None] | None, pool: ScaledPool) -> Callable[[UserRequest], None]:
    """What is done with an answered request: it is told of, and counted for the pool's next look."""

    def done(request: UserRequest) -> None:
        if tell is not None:
            tell(request)
        pool.seen.answers(request)

    return done
