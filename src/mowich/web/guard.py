"""What stands before every request: who asks and how much he may, size and time of head and body, names that this
server goes by, pages that may ask it, and headers of every answer; behind it, the count and the log of what was asked.

Plain ASGI. A page of another site may send a body without asking first (a form, a fetch that cannot read the answer):
such requests are refused by what browsers say of where they come from, so that a page elsewhere starts no work here,
and no kernel. The policy lets the page load from its own origin only, runs no inline script, and may not be framed;
nothing is cached that was computed. A request whose client goes away is cancelled, and with it what it waits for.

We compare the name of the host ourselves, in 5 lines. Starlette's `TrustedHostMiddleware` accepts the same names, but
it refuses with 400 and plain text. Ours refuses with 421 and a line of JSON that has the names, as all refusals do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp as App
from starlette.types import Message, Receive, Scope, Send

from mowich.web.clients import ClientLimits, counted_as
from mowich.web.metrics import Metrics
from mowich.web.turns import CLIENT, ENDING_LINE, RefusedRequestError, refusal_of

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


BODY_S = 30.0
"""Most seconds in which a body comes as a whole."""
DROP_S = 5.0
"""Most seconds in which the rest of a refused body is read and dropped, so that the refusal arrives."""
MOST_HEAD_B = 32 * 2**10
"""Largest head of a request."""
MOST_HEADERS = 100
UNLIMITED = ("/health", "/metrics")
"""Addresses that count against no limit: who watches the server must be answered while it is busy."""
CLIENT_GONE = 499
"""In counts and the log: the client went away before the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """What may be asked. max_body_B: larger bodies are answered 413; hosts: names that a request may ask for (empty:
    any); log: takes a line for each request; is_ending: whether the server ends, so that requests are answered 503."""

    max_body_B: int
    hosts: frozenset[str] = frozenset()
    limits: ClientLimits = field(default_factory=ClientLimits)
    log: Callable[[str], None] | None = None
    is_ending: Callable[[], bool] = lambda: False


class RequestGuard:
    """Wraps an application."""

    def __init__(self, app: App, *, rules: GuardRules, metrics: Metrics) -> None:
        self.app, self.rules, self.metrics = app, rules, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.monotonic()
        address = (scope.get("client") or ("",))[0]
        CLIENT.set(counted_as(address))
        status, size = 0, 0

        async def headed(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message.get("headers", ())}
                message["headers"] = [*message.get("headers", ()), *((n, v) for n, v in HEADERS if n not in given)]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            size += len(message.get("body", b""))
            await send(message)

        try:
            if not await self._answer(scope, receive, headed):
                status = CLIENT_GONE
        except Exception:
            status = status or 500
            raise
        except asyncio.CancelledError:
            status = status or CLIENT_GONE
            raise
        finally:
            seconds = time.monotonic() - begin
            route = str(getattr(scope.get("route"), "path", "")) or "other"
            self.metrics.answered(scope["method"], route, status, seconds)
            if self.rules.log is not None:
                path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")[:200]
                when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self.rules.log(f"{when} {address or '-'} {scope['method']} {path} {status} {size} {seconds:.3f}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether there was an answer; else the client went away."""
        headers = dict(scope["headers"])
        is_read = not (b"content-length" in headers or b"transfer-encoding" in headers)
        try:
            self._check(scope, headers)
            limits = (
                contextlib.nullcontext()
                if scope["path"] in UNLIMITED
                else self.rules.limits.request(CLIENT.get(), is_light=is_read and is_page(scope["path"]))
            )
            with limits:
                body = b""
                if not is_read:
                    whole, is_read = await self._body(headers, receive)
                    if whole is None:
                        return False
                    if len(whole) > self.rules.max_body_B:
                        raise self._too_large()
                    body = whole
                    if b"json" in headers.get(b"content-type", b"json"):
                        check_keys(body)
                return await _until_gone(self.app, scope, body, receive, send)
        except RefusedRequestError as error:
            await _refuse(send, receive, error, is_read=is_read)
            return True

    def _check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises RefusedRequestError for what is refused by the head alone."""
        rules = self.rules
        if rules.is_ending() and scope["path"] not in UNLIMITED:
            raise refusal_of(503, ENDING_LINE, 5)
        if sum(len(n) + len(v) + 4 for n, v in scope["headers"]) + len(scope["query_string"]) > MOST_HEAD_B:
            raise refusal_of(431, f"the head of a request is at most {MOST_HEAD_B} bytes")
        if len(scope["headers"]) > MOST_HEADERS:
            raise refusal_of(431, f"a request has at most {MOST_HEADERS} headers")
        if b"content-length" in headers and b"transfer-encoding" in headers:  # what follows may be another's request
            raise refusal_of(400, "a request says its length once: by Content-Length or by Transfer-Encoding")
        if rules.hosts:
            given = headers.get(b"host", b"").decode("latin-1").lower()
            host = given if given.endswith("]") else given.rsplit(":", 1)[0]
            if host not in rules.hosts:
                raise refusal_of(421, f"this server answers to {', '.join(sorted(rules.hosts))}")
        is_read = scope["method"] in ("GET", "HEAD")
        if not (is_read and is_page(scope["path"])) and is_foreign(headers):
            raise refusal_of(403, "a page of another site may not ask here")

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> tuple[bytes | None, bool]:
        """(the body, None where the client went away; whether that is all of it, as no more is read of what is too
        large). Raises RefusedRequestError: 413 where it will be too large, 408 where it does not come in time."""
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said[:20]) > self.rules.max_body_B:
            raise self._too_large()
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(BODY_S):
                while more and len(body) <= self.rules.max_body_B:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None, True
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            raise refusal_of(408, f"the body did not come within {BODY_S:g} s") from None
        return bytes(body), not more

    def _too_large(self) -> RefusedRequestError:
        return refusal_of(413, f"a body is at most {self.rules.max_body_B} bytes")


async def _until_gone(app: App, scope: Scope, body: bytes, receive: Receive, send: Send) -> bool:
    """Run the application on a body that was read; stop it when the client goes away. Whether it was answered."""
    gone = asyncio.create_task(_gone(receive))
    has_read = False

    async def replayed() -> Message:
        nonlocal has_read
        if not has_read:
            has_read = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.shield(gone)
        return {"type": "http.disconnect"}

    answer = asyncio.create_task(_awaited(app, scope, replayed, send))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            await answer
            return True
        return False
    finally:
        for task in (gone, answer):
            task.cancel()
        await asyncio.wait((gone, answer))
        if answer.done() and not answer.cancelled():
            answer.exception()  # somebody has seen it


async def _awaited(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _gone(receive: Receive) -> None:
    """Ends when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


PAGE = ("/", "/favicon.ico")


def is_page(path: str) -> bool:
    """Whether an address is of the page itself or a short link to it, which other sites may name: reading it starts no
    work."""
    return path in PAGE or path.startswith(("/static/", "/r/"))


def check_keys(body: bytes) -> None:
    """Refuse JSON in which an object has the same key twice: readers differ in which of the two they take. What is no
    JSON is left to the reader. Raises RefusedRequestError."""

    def once(pairs: Sequence[tuple[str, object]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise refusal_of(400, f"the key {key[:60]!r} stands twice in one object")
            seen.add(key)

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(body, object_pairs_hook=once)


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


async def _refuse(send: Send, receive: Receive, error: RefusedRequestError, *, is_read: bool) -> None:
    """Answer a refusal. is_read: there is no more of the request; else the rest is dropped for a while, as a connection
    that is closed on what still comes would take the answer with it."""
    body = json.dumps({"errors": error.lines}).encode()
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if error.retry_s is not None:
        head.append((b"retry-after", b"%d" % error.retry_s))
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": not is_read})
    if not is_read:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DROP_S):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
