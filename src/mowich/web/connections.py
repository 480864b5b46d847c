"""Connections: how many there may be, and how long one may keep the server waiting.

uvicorn waits for the head of a request as long as it takes. Here a connection that sends none in time is closed, and so
is one that does not take its answer. Where there are as many as there may be, the one that has waited longest without a
whole request makes room: a thousand half-open connections so keep nobody out who sends his request at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from uvicorn.protocols.http.h11_impl import H11Protocol

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
    """All connections. most: at once; per_address: of one address (0: any number), but for trusted proxies."""

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


class TimedProtocol(H11Protocol):
    """A connection of uvicorn's with limits of time."""

    book: ConnectionBook
    """Set in a subclass: uvicorn makes the connections itself."""
    is_ended = False
    _head: asyncio.TimerHandle | None = None
    _take: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.book.enter(self, self.client[0] if self.client else "")
        self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()
        if self._take is not None:
            self._take.cancel()
        self.book.leave(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_busy():
            self._stop_timer()
            if not self.cycle.more_body:
                self.book.waiting.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_busy():
            self._wait(IDLE_S + HEAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take = self.loop.call_later(TAKE_S, self.end, "slow answer")

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._take is not None:
            self._take.cancel()
            self._take = None

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is refused as everything else is."""
        self.book.closed["not HTTP"] += 1
        if not self._is_busy():
            line = "this is no request of HTTP/1.1, or its head is too long"
            body = json.dumps({"errors": [{"where": None, "what": line, "line": line}]}).encode()
            own = (
                *((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))),
                *((b"cache-control", b"no-store"), (b"connection", b"close")),
            )
            lines = [b"HTTP/1.1 400 Bad Request", *(b"%s: %s" % one for one in (*own, *HEADERS)), b"", body]
            self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def end(self, why: str) -> None:
        """Close the connection without waiting for anything."""
        if not self.is_ended:
            self.is_ended = True
            self.book.closed[why] += 1
            self.transport.abort()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._stop_timer()
        if not self.is_ended:
            self._head = self.loop.call_later(seconds, self.end, "slow head")
            if self in self.book.addresses:
                self.book.waiting[self] = None

    def _stop_timer(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def timed_protocol(book: ConnectionBook) -> type[TimedProtocol]:
    """The class whose connections are in `book`."""
    return type("BookedProtocol", (TimedProtocol,), {"book": book})
