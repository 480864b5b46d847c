"""Connections: how many there may be, and how long one may keep the server waiting.

uvicorn waits for the head of a request as long as it takes. Here a connection that sends none in time is closed, and so
is one that does not take its answer. Where there are as many as there may be, the one that has waited longest without a
whole request makes room: a thousand half-open connections so keep nobody out who sends his request at once.

uvicorn takes a class of connections. Ours holds the one that uvicorn would make, and passes all calls of asyncio on to
it (`TimedProtocol`). What comes of requests and answers is told to it by an application around ours (`TimedRequests`),
which finds its connection in the state of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import uvicorn
from starlette.types import ASGIApp as App
from starlette.types import Message, Receive, Scope, Send

from mowich.web.clients import Network, counted_as, is_in
from mowich.web.guard import HEADERS

HEAD_S = 10.0
"""Most seconds from a connection to the whole head of its first request."""
IDLE_S = 15
"""Most seconds of silence after an answer."""
TAKE_S = 60.0
"""Most seconds in which a client takes nothing of an answer that waits for it."""
BACKLOG = 128
"""Connections that are taken in one go."""


OF_SCOPE = "mowich_connection"
"""Where the state of a request has its connection."""
MOST_FILES = 4096
"""Open files that the server asks for, where the system allows them."""


def most_connections() -> int:
    """How many connections the limit of open files bears, with room for what is just being taken and closed. Where the
    limit may be raised, it is."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MOST_FILES:
        raised = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return connections_borne(MOST_FILES if soft == resource.RLIM_INFINITY else soft)


def connections_borne(files: int) -> int:
    """Connections within a limit of open files.

    >>> connections_borne(256), connections_borne(1024), connections_borne(65536)
    (32, 768, 2000)
    """
    return min(2000, max(16, files // 8, files - 2 * BACKLOG))


@dataclass(slots=True)
class ConnectionBook:
    """All connections. most: at once; per_address: of one address (0: any number), but for trusted proxies, whose
    X-Forwarded-For is believed."""

    most: int
    per_address: int = 0
    trusted: tuple[Network, ...] = ()
    addresses: dict[TimedProtocol, str] = field(default_factory=dict)
    by_address: Counter[str] = field(default_factory=Counter)
    waiting: OrderedDict[TimedProtocol, None] = field(default_factory=OrderedDict)
    """Those without a whole request, by when they began to wait."""
    closed: Counter[str] = field(default_factory=Counter)
    """Why -> how many were closed by the server before their client ended them."""

    def enter(self, one: TimedProtocol, peer: str) -> None:
        """A new connection. Who has waited longest makes room for it."""
        address = "" if is_in(peer, self.trusted) else counted_as(peer)
        if self.per_address and address and self.by_address[address] >= self.per_address:
            self._make_room(next((w for w in self.waiting if self.addresses[w] == address), one), "address")
        elif len(self.addresses) >= self.most:
            self._make_room(next(iter(self.waiting), one), "full")
        if not one.is_ended:
            self.addresses[one] = address
            self.by_address[address] += 1
            self.waiting[one] = None

    def _make_room(self, last: TimedProtocol, why: str) -> None:
        self.leave(last)
        last.end(why)

    def leave(self, one: TimedProtocol) -> None:
        self.waiting.pop(one, None)
        address = self.addresses.pop(one, None)
        if address is not None:
            self.by_address[address] -= 1
            if not self.by_address[address]:
                del self.by_address[address]


class TimedProtocol(asyncio.Protocol):
    """A connection with limits of time, around the protocol that uvicorn makes of it."""

    book: ConnectionBook
    inner_class: Callable[..., asyncio.Protocol]
    """Both are set in a subclass: uvicorn makes the connections itself."""

    def __init__(self, *, app_state: Mapping[str, object], **given: object) -> None:
        self.is_ended = self.is_last = self._is_busy = self._is_reading = False
        self._head: asyncio.TimerHandle | None = None
        self._take: asyncio.TimerHandle | None = None
        self._inner = self.inner_class(app_state={**app_state, OF_SCOPE: self}, **given)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport, self._loop = transport, asyncio.get_running_loop()
        self._inner.connection_made(cast("asyncio.Transport", _Writer(self)))
        self.book.enter(self, str((transport.get_extra_info("peername") or ("",))[0]))
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self.is_ended = True
        self._stop_timer()
        if self._take is not None:
            self._take.cancel()
        self.book.leave(self)

    def data_received(self, data: bytes) -> None:
        self._is_reading = True
        try:
            self._inner.data_received(data)
        except Exception:  # uvicorn has no refusal of what is no HTTP once its answer has begun
            self._refuse()
        finally:
            self._is_reading = False

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._take = self._loop.call_later(TAKE_S, self.end, "slow answer")

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        if self._take is not None:
            self._take.cancel()
            self._take = None

    def begin(self) -> None:
        """The whole head of a request has come."""
        self._is_busy, self.is_last = True, False
        self._stop_timer()

    def have_whole(self) -> None:
        """The whole request has come."""
        self.book.waiting.pop(self, None)

    def answered(self) -> None:
        """All of an answer was sent."""
        self._is_busy = False
        self._wait(IDLE_S + HEAD_S)

    def write(self, data: bytes) -> None:
        """What uvicorn writes. While it reads, or while no request is answered, or as a head behind the last piece of
        an answer, that is its refusal of what is no HTTP. Ours stands in its place, in the form of all refusals."""
        if self._is_reading or not self._is_busy or (self.is_last and data.startswith(b"HTTP/1.1 ")):
            self._refuse()
        else:
            self.transport.write(data)

    def _refuse(self) -> None:
        """Close on bytes that are not HTTP, with a line where no answer is under way."""
        if not self.transport.is_closing():
            self.book.closed["not HTTP"] += 1
            if not self._is_busy:
                self.transport.write(_not_http())
            self.transport.close()

    def end(self, why: str) -> None:
        """Close the connection without waiting for anything."""
        if not self.is_ended:
            self.is_ended = True
            self.book.closed[why] += 1
            self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_timer()
        if not self.is_ended:
            self._head = self._loop.call_later(seconds, self.end, "slow head")
            if self in self.book.addresses:
                self.book.waiting[self] = None

    def _stop_timer(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class _Writer:
    """The transport that uvicorn's protocol sees: it writes through `TimedProtocol.write`."""

    def __init__(self, one: TimedProtocol) -> None:
        self.write = one.write
        self._transport = one.transport

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def _not_http() -> bytes:
    line = "this is no request of HTTP/1.1, or its head is too long"
    body = json.dumps({"errors": [{"where": None, "what": line, "line": line}]}).encode()
    own = (
        *((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))),
        *((b"cache-control", b"no-store"), (b"connection", b"close")),
    )
    return b"\r\n".join([b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % one for one in (*own, *HEADERS)), b"", body])


class TimedRequests:
    """Wraps an application: tells the connection of a request what has come of it, and that it is answered."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        one = scope["state"].get(OF_SCOPE) if scope["type"] == "http" else None
        if one is None:
            await self.app(scope, receive, send)
            return
        one.begin()
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
            one.have_whole()

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                one.have_whole()
            return message

        async def sent(message: Message) -> None:
            one.is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)
            if one.is_last:
                one.answered()

        await self.app(scope, received, sent)


def timed_protocol(book: ConnectionBook) -> type[TimedProtocol]:
    """The class whose connections are in `book`, around uvicorn's h11: uvicorn bounds the head of a request in no other
    of its parsers (`h11_max_incomplete_event_size`)."""
    chosen = uvicorn.Config(TimedRequests, http="h11", ws="none", log_config=None)
    chosen.load()  # for the name of the class alone
    return type("BookedProtocol", (TimedProtocol,), {"book": book, "inner_class": chosen.http_protocol_class})
