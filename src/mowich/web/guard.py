"""What stands before every request: size of the body, headers of every answer, names that this server goes by, and
pages that may write to it.

Plain ASGI. A page of another site may send a body without asking first (a form, a fetch that cannot read the answer):
such requests are refused by what browsers say of where they come from, so that a page elsewhere starts no work here,
and no kernel. The policy lets the page load from its own origin only, runs no inline script, and may not be framed;
nothing is cached that was computed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp as App
from starlette.types import Message, Receive, Send

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


BODY_S = 15
"""Most seconds between two pieces of a body."""

DRAIN_B = 16 * 2**20
"""Most of a body that is read only to be refused."""


class RequestGuard:
    """Wraps an application. max_body_B: larger bodies are answered 413; hosts: names that a request may ask for (empty:
    any)."""

    def __init__(self, app: App, *, max_body_B: int, hosts: Sequence[str] = ()) -> None:
        self.app, self.max_body_B, self.hosts = app, max_body_B, frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *((n, v) for n, v in HEADERS if n not in given)]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        headers = dict(scope["headers"])
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            await _refuse(headed, *refused)
            return
        if b"content-length" in headers or b"transfer-encoding" in headers:
            try:
                body, size = await self._body(receive)
            except TimeoutError:
                await _refuse(headed, 408, f"the body did not come within {BODY_S} s")
                return
            if body is None:  # the client went away
                return
            if size > self.max_body_B:
                await _refuse(headed, 413, f"a body is at most {self.max_body_B} bytes")
                return
            receive = _replayed(body, receive)
        await self.app(scope, receive, headed)

    def _refused(self, method: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """(status, why) of a request that is refused by its headers alone."""
        if self.hosts:
            given = headers.get(b"host", b"").decode("latin-1")
            host = given if given.endswith("]") else given.rsplit(":", 1)[0]
            if host not in self.hosts:
                return 421, f"this server answers to {', '.join(sorted(self.hosts))}"
        if method not in ("GET", "HEAD") and is_foreign(headers):
            return 403, "a page of another site may not ask here"
        return None

    async def _body(self, receive: Receive) -> tuple[bytes | None, int]:
        """(the body, None where the client went away; its size). What is too large is read and dropped, so that the
        refusal arrives. Raises TimeoutError."""
        body, size, more = bytearray(), 0, True
        while more and size <= DRAIN_B:
            message = await asyncio.wait_for(receive(), BODY_S)
            if message["type"] == "http.disconnect":
                return None, size
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size <= self.max_body_B:
                body += message.get("body", b"")
        return bytes(body), size


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` with a body in front that was read already."""
    first = True

    async def replayed() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


def is_foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says that a request comes from a page of another origin; other clients say nothing of it.

    >>> host = {b"host": b"localhost:8000"}
    >>> is_foreign({**host, b"origin": b"https://example.org"}), is_foreign(host)
    (True, False)
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        return site not in (b"same-origin", b"none")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host", b"")


async def _refuse(send: Send, status: int, line: str) -> None:
    body = json.dumps({"errors": [{"where": None, "what": line, "line": line}]}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"application/json"), (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": body})
