"""The server's verbs in the process of the test."""

from __future__ import annotations

import asyncio
import functools
import json
from contextlib import nullcontext
from typing import Any

from fastapi import FastAPI

from mowich.errors import UserError, UserErrors
from mowich.web import verbs
from mowich.web.reading import Knowledge
from mowich.web.server import ServerOptions, create_app
from mowich.web.turns import RefusedRequestError
from mowich.web.workers import Workers, error_data
from shared_facts import SHARED_FACTS


class Here(Workers):
    """Verbs in this process: what is asked is tested, not the processes."""

    def __init__(self) -> None:
        self.known = Knowledge(SHARED_FACTS)
        self.pools = {}

    def __len__(self) -> int:
        return 1

    def request(self, name: str) -> Any:
        return nullcontext()

    async def call(self, name: str, *arguments: Any, limit_s: Any = None) -> Any:
        try:
            return verbs.VERBS[name](*arguments, self.known)
        except UserError as error:
            raise RefusedRequestError(422, error_data(error)) from error

    def close(self) -> None:
        pass


@functools.cache
def _app() -> FastAPI:
    return create_app(ServerOptions(warm=False), Here())


async def _sent(path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to one POST, without a socket."""
    head = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/api/{path}",
        "raw_path": f"/api/{path}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": head,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        answer.append(message)

    await _app()(scope, receive, send)
    return int(answer[0]["status"]), b"".join(m.get("body", b"") for m in answer[1:])


def asked_here(path: str, body: bytes) -> object:
    """The result of a POST to the application in this process. Raises UserError with the lines of a refusal, and
    AssertionError for an answer that is neither."""
    status, data = asyncio.run(_sent(path, body))
    told = json.loads(data)
    if status == 200:
        return told["result"]
    assert 400 <= status < 500, (status, data[:300])
    lines = [error["line"] for error in told["errors"]]
    assert lines, data[:300]
    assert all(line and "\n" not in line for line in lines), lines
    raise UserErrors([UserError(line) for line in lines])
