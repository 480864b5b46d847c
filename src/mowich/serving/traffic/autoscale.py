"""Replicas that come and go with the load: how many are wanted, which are open, and how long each was paid for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.planner import ByInside, PoolView, ReplicaPlanner
from mowich.serving.traffic.requests import UserRequest
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """The rule of a pool, looked at every `every_s`: from `least` to `most` replicas. A new one serves `start_s` after
    it was ordered; one too many goes when it was too many for `hold_s`, and is paid for until the first look after its
    last answer. make: the planner that says how many are wanted, with nothing seen yet (None: as many as hold `inside`
    requests each)."""

    least: int
    most: int
    every_s: float
    start_s: float
    hold_s: float
    inside: float = 1.0
    make: Callable[[], ReplicaPlanner] | None = None

    def planner(self) -> ReplicaPlanner:
        """A planner that has seen nothing."""
        return ByInside(self.inside) if self.make is None else self.make()


class ScaledReplica(Protocol):
    """What a rule sees of a replica, and sets. load, waits: requests inside, and those of them in the queue;
    queued_tokens: of their prompts; kv_share: of the cache's blocks in use; up_s: when it serves, s."""

    up_s: float

    @property
    def load(self) -> int: ...
    @property
    def waits(self) -> int: ...
    @property
    def queued_tokens(self) -> int: ...
    @property
    def kv_share(self) -> float: ...


@dataclass(slots=True)
class SinceLook:
    """What happened since the last look: requests that came and that were answered, and sums over them."""

    came: int = 0
    prompt: int = 0
    answered: int = 0
    output: int = 0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0

    def arrives(self, request: UserRequest) -> None:
        """A request was given to a replica."""
        self.came += 1
        self.prompt += request.prompt

    def answers(self, request: UserRequest) -> None:
        """A request was answered."""
        self.answered += 1
        self.output += request.output
        self.ttft_s += request.first_token_s - request.arrival_s
        self.e2e_s += request.last_token_s - request.arrival_s
        if request.output > 1:
            self.tpot_s += (request.last_token_s - request.first_token_s) / (request.output - 1)


@dataclass(frozen=True, slots=True)
class PoolLook:
    """What was there at a look: requests that came since the last one, and that are inside; replicas that the planner
    wants, that serve, and that are paid for."""

    at_s: float
    came: int
    inside: int
    wanted: int
    up: int
    paid: int


@dataclass(slots=True)
class ScaledPool:
    """The replicas under a rule; the first `least` are there from the start. since: when each was ordered (None: not
    there); leaving: those that take no more requests; paid_s: seconds paid for of those that are gone; orders, gone:
    how often one was ordered, and sent away; log: what was there at each look; seen: what happened since the last;
    planner: says how many are wanted."""

    rule: Autoscale
    replicas: Sequence[ScaledReplica]
    since: dict[int, float] = field(default_factory=dict)
    leaving: set[int] = field(default_factory=set)
    paid_s: float = 0.0
    orders: int = 0
    gone: int = 0
    log: list[PoolLook] = field(default_factory=list)
    seen: SinceLook = field(default_factory=SinceLook)
    planner: ReplicaPlanner = field(init=False)
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.since = dict.fromkeys(range(self.rule.least), 0.0)
        self.planner = self.rule.planner()

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
        return (len(self.log) + 1) * self.rule.every_s

    def view(self, at: float) -> PoolView:
        """What the planner sees."""
        seen = self.seen
        there = [self.replicas[i] for i in self.there]
        up = [r for r in there if earlier(r.up_s) <= at]
        full = 0.0
        for r in up:
            full += r.kv_share
        held = [self.replicas[i] for i in self.since]
        n = max(1, seen.answered)
        return PoolView(
            at_s=at,
            since_s=self.rule.every_s,
            there=len(there),
            serving=len(up),
            inside=sum(r.load for r in held),
            waiting=sum(r.waits for r in held),
            waiting_tokens=sum(r.queued_tokens for r in held),
            kv=full / max(1, len(up)),
            came=seen.came,
            prompt=seen.prompt / max(1, seen.came),
            answered=seen.answered,
            output=seen.output / n,
            ttft_s=seen.ttft_s / n,
            tpot_s=seen.tpot_s / n,
            e2e_s=seen.e2e_s / n,
        )

    def look(self) -> None:
        """See what is inside, ask the planner, and order or dismiss."""
        rule, at = self.rule, self.look_s
        for i in [i for i in self.leaving if not self.replicas[i].load]:
            self.paid_s += at - self.since.pop(i)
            self.leaving.discard(i)
        view = self.view(at)
        self.seen = SinceLook()
        now = min(rule.most, max(rule.least, self.planner.wanted(view)))
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
        for i in sorted(there, key=lambda i: (self.replicas[i].load, -i))[: max(0, len(there) - want)]:
            self.leaving.add(i)
            self.gone += 1
        up = sum(1 for i in self.there if earlier(self.replicas[i].up_s) <= at)
        self.log.append(PoolLook(at, view.came, view.inside, now, up, len(self.since)))

    def paid_until(self, end_s: float) -> float:
        """Seconds of replicas paid for from 0 to the end."""
        return self.paid_s + float_sum(max(0.0, end_s - start) for start in self.since.values())
