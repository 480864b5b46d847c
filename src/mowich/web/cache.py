"""Answers that were made, bounded in bytes, and what makes them: verbs in workers, one computation for requests that
are the same and under way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from mowich.requests.footing import has_size
from mowich.shown import Result
from mowich.web import asks
from mowich.web.workers import Workers

T = TypeVar("T")

_CACHE_B = 96 * 2**20
OWN_S = 300.0
"""Most seconds for questions of the server's own, which no client can make larger."""


@dataclass(slots=True)
class _Work:
    """An answer that is under way. waiters: requests that wait for it."""

    task: asyncio.Task[bytes]
    waiters: int = 0


class AnswerCache:
    """Least recently used answers, at most `most_B` bytes; what is under way is waited for, not computed twice, and
    stopped when nobody waits for it any more."""

    def __init__(self, most_B: int) -> None:
        self._most_B, self.size_B = most_B, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: dict[str, _Work] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        work = self._under_way.get(key)
        if work is None:
            work = self._under_way[key] = _Work(asyncio.create_task(self._made(key, make)))
            work.task.add_done_callback(_seen)
        work.waiters += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiters -= 1
            if not work.waiters:
                self._end(key, work)
                work.task.cancel()

    async def _made(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        value = await make()
        if key not in self._kept:
            self._kept[key] = value
            self.size_B += len(value)
        while self.size_B > self._most_B:
            self.size_B -= len(self._kept.popitem(last=False)[1])
        return value

    def _end(self, key: str, work: _Work) -> None:
        if self._under_way.get(key) is work:
            del self._under_way[key]


def _seen(task: asyncio.Task[bytes]) -> None:
    """Somebody has seen its error, or nobody waits for it."""
    if not task.cancelled():
        task.exception()


class Answers:
    """What the endpoints ask: verbs in workers, behind the cache."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.cache = AnswerCache(_CACHE_B)

    async def verb(self, name: str, *arguments: object) -> bytes:
        own = not arguments or arguments == (asks.BriefBody(),)

        async def make() -> bytes:
            with self.workers.request(name):
                return await self._bytes(name, *arguments, limit_s=OWN_S if own else None)

        return await self.cache.get(_key(name, *arguments), make)

    async def row(self, ask: asks.Ask, place: int) -> object:
        """One system's row: of a comparison on equal chips it does not depend on the other systems."""
        own = ask.given("equal") in (None, "chips")
        system, near = ask.systems[place], ask.nearby
        there = ask.given("have")
        is_there = isinstance(there, tuple) and place < len(there)
        alone: dict[str, object] = {"on": (system,)}
        if there:
            alone = {"have": (system,), "on": None} if is_there else {"have": None, "on": (system,)}
        if ask.given("power") is not None and has_size(system, None):
            alone["power"] = None  # of the others alone
        if near:
            alone["near"] = {system: near[system]} if system in near else None
        one = ask.model_copy(update=alone) if own else ask
        key = _key("row", one, 0 if own else place)

        async def make() -> bytes:
            return pickle.dumps(await self.workers.call("row", one, 0 if own else place))

        row: object = pickle.loads(await self.cache.get(key, make))
        return row

    async def compare(self, ask: asks.Ask) -> bytes:
        if ask.given("forward") is not None:
            return await self.verb("forward", ask)  # its systems take no time that would be worth sharing

        async def make() -> bytes:
            with self.workers.request("row"):
                rows = await _all(*(self.row(ask, i) for i in range(len(ask.systems))))
                return await self._bytes("together", ask, rows)

        return await self.cache.get(_key("compare", ask), make)

    async def result(self, ask: asks.Ask) -> Result:
        """The result of a question, from the cache where it was asked before."""
        verb = ask.schema_of.name
        return dict(json.loads(await (self.compare(ask) if verb == "compare" else self.verb(verb, ask))))

    async def report(self, ask: asks.Ask) -> bytes:
        """The report of a question. It is large, and not kept."""
        found = await self.result(ask)
        with self.workers.request("report"):
            return await self._bytes("report", found["result"], str(found.get("command", "")), ask)

    async def _bytes(self, name: str, *arguments: object, limit_s: float | None = None) -> bytes:
        """What a verb gives that answers with a body."""
        body = await self.workers.call(name, *arguments, limit_s=limit_s)
        assert isinstance(body, bytes)
        return body


def _key(*question: object) -> str:
    """The same digits for the same question: what is asked may be long (a pasted config, a result to explain) and is
    not kept."""
    asked = [type(a).__name__ + asks.canonical(a) if isinstance(a, BaseModel) else a for a in question]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


async def _all(*waits: Awaitable[T]) -> list[T]:
    """Like gather, but every part is waited for before the first failure is raised."""
    done: list[T] = []
    for one in await asyncio.gather(*waits, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
        done.append(one)
    return done
