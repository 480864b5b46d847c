"""The application: what it is made of, how errors are answered. Its addresses are in `routes`.

Every answer is made in a worker process (`workers`) and kept for a while (`cache`); this process only waits. A
comparison is cut into its systems, which run side by side, and each system's row is kept: to add a system to a
comparison computes one row.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from mowich.version import VERSION
from mowich.web import asks
from mowich.web.cache import Answers
from mowich.web.clients import ClientLimits, Network
from mowich.web.connections import ConnectionBook
from mowich.web.first import FIRST
from mowich.web.guard import GuardRules, RequestGuard
from mowich.web.links import ShortLinks, add_links
from mowich.web.routes import JSON_TYPE, MAX_BODY_B, Responses, ServerParts, add_routes
from mowich.web.scenario import body_problems
from mowich.web.turns import RefusedRequestError, Turns
from mowich.web.watch import server_metrics
from mowich.web.workers import AbandonedError, BugError, Workers

KERNEL_WAIT_S = 120.0
"""Most seconds that a kernel waits for the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server was started. hosts: names that it answers to (empty: any); kernels: NKI kernels that are sent may
    run here; trusted: proxies whose X-Forwarded-For is believed; at_once, a_minute: requests of one address (0: any
    number); queue: requests that wait or run; share: those of one address (None: all); log: takes a line for each
    request; links: folder of short links (None: in memory)."""

    dirs: tuple[str, ...] = ()
    workers: int = 2
    timeout_s: float = 20.0
    kernels: bool = False
    hosts: tuple[str, ...] = ()
    warm: bool = True
    trusted: tuple[Network, ...] = ()
    at_once: int = 0
    a_minute: int = 0
    queue: int = 1000
    share: int | None = None
    log: Callable[[str], None] | None = None
    links: Path | None = None


class Problem(BaseModel):
    """One thing that is wrong with a request. line: all of it in one line; where: the field or option."""

    where: str | None = None
    what: str
    line: str


class Problems(BaseModel):
    """Why a request was not answered."""

    errors: list[Problem]


REFUSALS: Responses = {
    400: {"model": Problems, "description": "Not JSON."},
    403: {"model": Problems, "description": "Not allowed here."},
    413: {"model": Problems, "description": "The body is too large."},
    422: {
        "model": Problems,
        "description": "Something is wrong with the request, or it cannot be computed within its limits.",
    },
    408: {"model": Problems, "description": "The body did not come in time."},
    429: {"model": Problems, "description": "Too many requests: of this address, or at once. Retry-After says when."},
    503: {"model": Problems, "description": "The server is ending."},
}


def create_app(options: ServerOptions, workers: Workers | None = None, book: ConnectionBook | None = None) -> FastAPI:
    """The ASGI application. workers: made here unless given; ended when the application shuts down; book: the
    connections, to be counted. Its `state.end` refuses what comes from then on."""
    pool = workers or Workers(
        options.workers,
        dirs=options.dirs,
        timeout_s=options.timeout_s,
        warm=options.warm,
        most_waiting=options.queue,
        share=options.share,
    )
    answers = Answers(pool)
    kernels: Turns[str] = Turns(
        ("kernel",), most=options.queue, share=options.share or options.queue, most_long=1, most_wait_s=KERNEL_WAIT_S
    )
    limits = ClientLimits(at_once=options.at_once, a_minute=options.a_minute)
    server = ServerParts(
        answers=answers,
        kernels=kernels,
        metrics=server_metrics(answers.cache, pool, kernels, limits, book),
        runs_kernels=options.kernels,
        timeout_s=options.timeout_s,
    )
    rules = GuardRules(
        max_body_B=MAX_BODY_B,
        hosts=frozenset(options.hosts),
        trusted=options.trusted,
        limits=limits,
        log=options.log,
        is_ending=lambda: server.is_ending,
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        begin = asyncio.create_task(_ahead(answers)) if options.warm else None
        yield
        if begin is not None:
            begin.cancel()
        server.end()
        pool.close()

    app = FastAPI(
        title="Mowich",
        version=VERSION,
        description="The verbs of `mowich` over HTTP. Every answer has `result`, the object that `--json` prints.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=REFUSALS,
        redirect_slashes=False,
        middleware=[Middleware(RequestGuard, rules=rules, metrics=server.metrics)],
    )
    app.state.end = server.end
    _add_errors(app)
    add_routes(app, server)
    add_links(app, ShortLinks(folder=options.links))
    return app


async def _ahead(answers: Answers) -> None:
    """Compute what a visitor sees first, then what takes longest."""
    with contextlib.suppress(RefusedRequestError, BugError):
        await answers.verb("first")
        await answers.compare(FIRST)
        await answers.verb("validate")


def _add_errors(app: FastAPI) -> None:
    """How errors are answered: with their status, and a line for each mistake."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        if any(e["type"] == "json_invalid" for e in error.errors()):
            return _lines(400, [{"where": None, "what": "not JSON", "line": "the body is not JSON"}])
        return _lines(422, body_problems(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return Response(
            json.dumps({"errors": [{"where": None, "what": str(error.detail), "line": str(error.detail)}]}),
            status_code=error.status_code,
            media_type=JSON_TYPE,
            headers=error.headers,
        )

    @app.exception_handler(RefusedRequestError)
    async def _refused(_: Request, error: RefusedRequestError) -> Response:
        return _lines(error.status, error.lines, error.retry_s)

    @app.exception_handler(AbandonedError)
    async def _gone(_: Request, error: AbandonedError) -> Response:
        return _lines(422, [{"where": None, "what": "abandoned", "line": "abandoned by the client"}])

    @app.exception_handler(BugError)
    async def _bug(_: Request, error: BugError) -> Response:
        line = f"this is a bug in mowich {VERSION}: {error}"
        return _lines(500, [{"where": None, "what": line, "line": line}])


def _lines(status: int, errors: Sequence[asks.Mistake], retry_s: int | None = None) -> Response:
    return Response(
        json.dumps({"errors": errors}, ensure_ascii=False, default=str),
        status_code=status,
        media_type=JSON_TYPE,
        headers=None if retry_s is None else {"retry-after": str(retry_s)},
    )
