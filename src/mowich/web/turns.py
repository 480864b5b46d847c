"""Turns at a few things that many clients want: fair by client, bounded, given up by who leaves.

The next turn goes to the client that has the fewest running; among equals, to the one that was served longest ago. One
client with a hundred questions so delays another one by at most the question that runs. Questions that are known to be
long leave one thing free, where there are several, so that short ones need not wait for them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mowich.web.asks import Mistake

CLIENT: ContextVar[str] = ContextVar("CLIENT", default="")
"""The address for which the running task works; "" for the server itself."""

T = TypeVar("T")


class RefusedRequestError(Exception):
    """A request that is answered with an HTTP status of 4xx or 503. lines: what is wrong, one line each; retry_s: after
    how many seconds to ask again, None: never."""

    def __init__(self, status: int, lines: list[Mistake], retry_s: int | None = None) -> None:
        self.status, self.lines, self.retry_s = status, lines, retry_s
        super().__init__(lines[0]["line"])


def refusal_of(status: int, line: str, retry_s: int | None = None) -> RefusedRequestError:
    """A refusal in one line that is about no field."""
    return RefusedRequestError(status, [{"where": None, "what": line, "line": line}], retry_s)


ENDING_LINE = "the server is ending"
MOST_RETRY_S = 60


@dataclass(slots=True, eq=False)
class _Waiter(Generic[T]):
    """One that waits for its turn. is_long: it is known to take long."""

    turn: asyncio.Future[T]
    is_long: bool


@dataclass(slots=True)
class _Client(Generic[T]):
    """What one client has. requests: that are in the house, waiting or running; running: turns that it has; served: the
    number of its last turn."""

    requests: int = 0
    running: int = 0
    served: int = 0
    waiting: deque[_Waiter[T]] = field(default_factory=deque)


class Turns(Generic[T]):
    """Turns at `things`. most: requests that may be in the house at once, waiting or running; share: those of one
    client; most_long: long turns at once; most_wait_s: the longest that anybody waits."""

    def __init__(self, things: Sequence[T], *, most: int, share: int, most_long: int, most_wait_s: float) -> None:
        self.count, self.most, self.share = len(things), most, share
        self.most_long, self.most_wait_s = most_long, most_wait_s
        self.requests = self.long = 0
        self.refusals: Counter[str] = Counter()
        self.mean_s = 1.0
        """Seconds of a turn, of late."""
        self._idle = deque(things)
        self._clients: dict[str, _Client[T]] = {}
        self._served = 0
        self._ending = False

    @property
    def waiting(self) -> int:
        return sum(len(c.waiting) for c in self._clients.values())

    @property
    def running(self) -> int:
        return self.count - len(self._idle)

    def retry_s(self) -> int:
        """After how many seconds it is worth to ask again: about when what waits now is done."""
        return max(1, min(MOST_RETRY_S, math.ceil(self.mean_s * (self.waiting + self.running) / max(1, self.count))))

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request in the house; its turns are not refused any more. Raises RefusedRequestError: 429 where the house
        is full or the client has its share."""
        name = CLIENT.get()
        client = self._clients.get(name)
        if self._ending:
            raise refusal_of(503, ENDING_LINE, 5)
        if client is not None and client.requests >= self.share:
            self.refusals["share"] += 1
            raise refusal_of(
                429, f"{self.share} requests of this address wait already; try again later", self.retry_s()
            )
        if self.requests >= self.most:
            self.refusals["queue"] += 1
            raise refusal_of(429, "too many requests wait already; try again later", self.retry_s())
        client = self._client(name)
        client.requests += 1
        self.requests += 1
        try:
            yield
        finally:
            client.requests -= 1
            self.requests -= 1
            self._forget(name)

    async def take(self, *, is_long: bool) -> T:
        """The turn of this client; `give` ends it. Raises RefusedRequestError: 429 where it waits too long, 503 where
        the server ends."""
        if self._ending:
            raise refusal_of(503, ENDING_LINE, 5)
        name = CLIENT.get()
        waiter: _Waiter[T] = _Waiter(asyncio.get_running_loop().create_future(), is_long)
        client = self._client(name)
        client.waiting.append(waiter)
        self._hand_out()
        try:
            async with asyncio.timeout(self.most_wait_s):
                return await waiter.turn
        except (TimeoutError, asyncio.CancelledError, RefusedRequestError) as error:
            if waiter in client.waiting:
                client.waiting.remove(waiter)
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self.give(waiter.turn.result(), is_long=is_long)  # it came as the client left
            self._forget(name)
            if isinstance(error, TimeoutError):
                self.refusals["wait"] += 1
                line = f"no turn came within {self.most_wait_s:g} s: the server is busy; try again later"
                raise refusal_of(429, line, self.retry_s()) from None
            raise

    def give(self, thing: T, *, is_long: bool, took_s: float | None = None) -> None:
        """End a turn. took_s: how long it was."""
        name = CLIENT.get()
        client = self._client(name)
        client.running -= 1
        self.long -= is_long
        if took_s is not None:
            self.mean_s += 0.1 * (took_s - self.mean_s)
        self._idle.append(thing)
        self._forget(name)
        self._hand_out()

    def end(self) -> None:
        """Refuse who waits, and whoever comes."""
        self._ending = True
        for client in self._clients.values():
            for waiter in client.waiting:
                if not waiter.turn.done():
                    waiter.turn.set_exception(refusal_of(503, ENDING_LINE, 5))

    def _client(self, name: str) -> _Client[T]:
        return self._clients.setdefault(name, _Client())

    def _forget(self, name: str) -> None:
        client = self._clients.get(name)
        if client is not None and not (client.requests or client.running or client.waiting):
            del self._clients[name]

    def _hand_out(self) -> None:
        while self._idle and (chosen := self._next()) is not None:
            client, waiter = chosen
            client.waiting.remove(waiter)
            client.running += 1
            self._served += 1
            client.served = self._served
            self.long += waiter.is_long
            waiter.turn.set_result(self._idle.popleft())

    def _next(self) -> tuple[_Client[T], _Waiter[T]] | None:
        """Whose turn it is."""
        best: tuple[_Client[T], _Waiter[T]] | None = None
        for client in self._clients.values():
            if best is None or (client.running, client.served) < (best[0].running, best[0].served):
                may_be_long = self.long < self.most_long
                free = next(
                    (w for w in client.waiting if not w.turn.done() and (may_be_long or not w.is_long)), None
                )  # done: its client has just left
                if free is not None:
                    best = client, free
        return best
