"""The application: one endpoint a verb, the page, and what the server says of itself.

Every answer is made in a worker process (`workers`) and kept for a while (`cache`); this process only waits. A
comparison is cut into its systems, which run side by side, and each system's row is kept: to add a system to a
comparison computes one row.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated

from fastapi import Body, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from mowich.show import colours
from mowich.version import VERSION
from mowich.web import asks
from mowich.web.cache import Answers
from mowich.web.clients import ClientLimits, Network
from mowich.web.connections import ConnectionBook
from mowich.web.first import FIRST
from mowich.web.guard import GuardRules, RequestGuard
from mowich.web.scenario import body_problems
from mowich.web.turns import RefusedRequestError, Turns, refusal_of
from mowich.web.watch import server_metrics
from mowich.web.workers import AbandonedError, BugError, Workers

MAX_BODY_B = 256 * 1024
KERNEL_WAIT_S = 120.0
"""Most seconds that a kernel waits for the one before it."""
EXAMPLE_S = 60.0
"""Most seconds for the kernel that ships."""
PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers of which a proxy adds one or the other."""
_JSON = "application/json"
METRICS_TYPE = "text/plain; version=0.0.4"

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "yaml": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server was started. hosts: names that it answers to (empty: any); kernels: NKI kernels that are sent may
    run here; trusted: proxies whose X-Forwarded-For is believed; at_once, a_minute: requests of one address (0: any
    number); queue: requests that wait or run; share: those of one address (None: all); log: takes a line for each
    request."""

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


class Problem(BaseModel):
    """One thing that is wrong with a request. line: all of it in one line; where: the field or option."""

    where: str | None = None
    what: str
    line: str


class Problems(BaseModel):
    """Why a request was not answered."""

    errors: list[Problem]


@cache
def _static() -> dict[str, tuple[bytes, bytes, str, str]]:
    """name -> (bytes, gzipped, type, tag) of every file of the page, read once: no request names a path of the disk."""
    out = {}
    for package, names in (("mowich.web", None), ("mowich.show", ("echarts.min.js", "fitted.js"))):
        for file in sorted((resources.files(package) / "static").iterdir(), key=lambda f: f.name):
            if names is not None and file.name not in names:
                continue
            kind = _TYPES.get(file.name.rsplit(".", 1)[-1])
            if kind is not None:
                data = file.read_bytes()
                out[file.name] = _served(data, kind)
    for name, text in (("colours.css", colours.css()), ("colours.js", colours.script())):
        out[name] = _served(text.encode(), _TYPES[name.rsplit(".", 1)[-1]])
    return out


def _served(data: bytes, kind: str) -> tuple[bytes, bytes, str, str]:
    return data, gzip.compress(data, 6), kind, hashlib.sha256(data).hexdigest()[:16]


Responses = dict[int | str, dict[str, object]]
"""Status -> what OpenAPI says of the answer."""

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
    files = _static()
    limits = ClientLimits(at_once=options.at_once, a_minute=options.a_minute)
    metrics = server_metrics(answers.cache, pool, kernels, limits, book)
    is_ending = False

    def end() -> None:
        nonlocal is_ending
        is_ending = True
        pool.end()
        kernels.end()

    rules = GuardRules(
        max_body_B=MAX_BODY_B,
        hosts=frozenset(options.hosts),
        trusted=options.trusted,
        limits=limits,
        log=options.log,
        is_ending=lambda: is_ending,
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async def ahead() -> None:
            """What a visitor sees first, then what takes longest."""
            with contextlib.suppress(RefusedRequestError, BugError):
                await answers.verb("first")
                await answers.compare(FIRST)
                await answers.verb("validate")

        begin = asyncio.create_task(ahead()) if options.warm else None
        yield
        if begin is not None:
            begin.cancel()
        end()
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
        middleware=[Middleware(RequestGuard, rules=rules, metrics=metrics)],
    )

    app.state.end = end

    def lines(status: int, errors: Sequence[asks.Mistake], retry_s: int | None = None) -> Response:
        return Response(
            json.dumps({"errors": errors}, ensure_ascii=False, default=str),
            status_code=status,
            media_type=_JSON,
            headers=None if retry_s is None else {"retry-after": str(retry_s)},
        )

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        if any(e["type"] == "json_invalid" for e in error.errors()):
            return lines(400, [{"where": None, "what": "not JSON", "line": "the body is not JSON"}])
        return lines(422, body_problems(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        return Response(
            json.dumps({"errors": [{"where": None, "what": str(error.detail), "line": str(error.detail)}]}),
            status_code=error.status_code,
            media_type=_JSON,
            headers=error.headers,
        )

    @app.exception_handler(RefusedRequestError)
    async def _refused(_: Request, error: RefusedRequestError) -> Response:
        return lines(error.status, error.lines, error.retry_s)

    @app.exception_handler(AbandonedError)
    async def _gone(_: Request, error: AbandonedError) -> Response:
        return lines(422, [{"where": None, "what": "abandoned", "line": "abandoned by the client"}])

    @app.exception_handler(BugError)
    async def _bug(_: Request, error: BugError) -> Response:
        line = f"this is a bug in mowich {VERSION}: {error}"
        return lines(500, [{"where": None, "what": line, "line": line}])

    async def send(made: Awaitable[bytes]) -> Response:
        start = time.perf_counter()
        body = await made
        return Response(
            body, media_type=_JSON, headers={"server-timing": f"total;dur={1e3 * (time.perf_counter() - start):.1f}"}
        )

    ok: Responses = {200: {"content": {_JSON: {"schema": {"type": "object", "required": ["result"]}}}}}

    def post(
        path: str,
        body: asks.TypeForm,
        tag: str,
        about: str,
        make: Callable[[asks.Ask], Awaitable[Response]],
        *,
        responses: Responses = ok,
        response_class: type[Response] = JSONResponse,
    ) -> None:
        """An address that takes a body."""

        async def endpoint(ask: asks.Ask) -> Response:
            return await make(ask)

        endpoint.__name__, endpoint.__doc__ = path, about
        endpoint.__annotations__ = {"ask": body, "return": Response}
        app.post(f"/api/{path}", tags=[tag], responses=responses, response_class=response_class)(endpoint)

    def answered(verb: str) -> Callable[[asks.Ask], Awaitable[Response]]:
        async def make(ask: asks.Ask) -> Response:
            return await send(answers.verb(verb, ask))

        return make

    async def compared(ask: asks.Ask) -> Response:
        return await send(answers.compare(ask))

    post(
        *("compare", asks.CompareBody, "jobs"),
        "The same job on several systems, each at its best plan: `mowich compare`.",
        compared,
    )
    post(
        "serve",
        asks.ServePlansBody,
        "jobs",
        "The same serving job on several systems: `mowich compare --serve`.",
        compared,
    )
    for verb, body, tag, said in (
        ("plan", asks.PlanBody, "jobs", "The best plans of one system: `mowich plan`."),
        ("fit", asks.FitBody, "jobs", "Does it fit, what binds, how few chips would do: `mowich fit`."),
        ("gap", asks.GapBody, "jobs", "Why one machine beats another, as factors: `mowich gap`."),
        (
            *("brief", asks.BriefBody, "jobs"),
            "Trainium 3 on one page, for the facts of this server: `mowich brief`.",
        ),
        (
            "fleet",
            asks.FleetBody,
            "fleets",
            "What to buy, rent and assign in each period of a scenario: `mowich fleet`.",
        ),
        ("collective", asks.CollectiveBody, "machines", "Time of a collective against size: `mowich collective`."),
        (
            *("goodput", asks.GoodputBody, "machines"),
            "Which way of surviving failures keeps how much of a long run: `mowich goodput`.",
        ),
        ("prices", asks.PricesBody, "machines", "What a chip-hour costs and is sold for: `mowich prices`."),
        ("scenario", asks.Scenario, "results", "A comparison's YAML as the request that it means."),
    ):
        post(verb, body, tag, said, answered(verb))

    async def explained(ask: asks.Ask) -> Response:
        async def made() -> bytes:
            question = ask.given("ask")
            assert isinstance(question, asks.Ask)
            found = await answers.result(question)
            return await answers.verb("explain", found["result"], ask.given("metric"), question)

        return await send(made())

    async def reported(ask: asks.Ask) -> Response:
        return Response(
            await answers.report(ask),
            media_type="text/html",
            headers={"content-disposition": 'attachment; filename="mowich.html"'},
        )

    async def deepened(ask: asks.Ask) -> Response:
        async def made() -> bytes:
            found = await answers.result(ask)
            return await answers.verb("deepen", found["result"], ask)

        return await send(made())

    post(
        *("explain", asks.ExplainBody, "results"),
        "Formula, numbers, facts and sources of one number: `mowich explain`.",
        explained,
    )
    post(
        *("report", Annotated[asks.CompareBody | asks.PlanBody | asks.FleetBody | asks.BriefBody, Body()], "results"),
        "A result as one HTML file that needs no network: `mowich report --html`.",
        reported,
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    post(
        *("deepen", Annotated[asks.CompareBody | asks.PlanBody, Body()], "results"),
        "What the report adds to a result: what would change the answer, scaling, the nearest measured points.",
        deepened,
    )

    @app.get("/api/validate", responses=ok, tags=["results"])
    async def validate() -> Response:
        """Predicted against measured: `mowich validate`."""
        return await send(answers.verb("validate"))

    @app.get("/api/models", responses=ok, tags=["facts"])
    async def models() -> Response:
        """Built-in models."""
        return await send(answers.verb("models"))

    @app.post("/api/model", responses=ok, tags=["facts"])
    async def model(ask: asks.ModelAsk) -> Response:
        """Parameters, FLOP and bytes per token of a model: `mowich model`."""
        return await send(answers.verb("model", ask.model))

    @app.get("/api/systems", responses=ok, tags=["facts"])
    async def systems() -> Response:
        """Systems that can be asked for."""
        return await send(answers.verb("systems"))

    @app.get("/api/map", responses=ok, tags=["facts"])
    async def map_picture(name: Annotated[asks.SizedSystem, Query()]) -> Response:
        """A machine of up to 256 chips as a picture: its chips and the links between them."""
        return await send(answers.verb("map_picture", name))

    @app.get("/api/glossary", responses=ok, tags=["facts"])
    async def head_words() -> Response:
        """The words of tables, each with its meaning."""
        return await send(answers.verb("head_words"))

    @app.get("/api/scenarios", responses=ok, tags=["fleets"])
    async def scenarios() -> Response:
        """Fleet scenarios that ship: `mowich example`."""
        return await send(answers.verb("scenarios"))

    @app.get("/api/facts", responses=ok, tags=["facts"])
    async def facts_list() -> Response:
        """What is known, by kind: `mowich facts list`."""
        return await send(answers.verb("facts_list"))

    @app.get("/api/facts/side", responses=ok, tags=["facts"])
    async def facts_side(
        name: Annotated[list[asks.FactPath], Query(min_length=1, max_length=asks.MAX_SYSTEMS)],
    ) -> Response:
        """Chips and systems side by side, with grades and sources: `mowich facts diff` for more than two."""
        return await send(answers.verb("facts_side", list(name)))

    @app.get("/api/facts/{name}", responses=ok, tags=["facts"])
    async def facts_show(name: Annotated[asks.FactPath, Path()]) -> Response:
        """Every number of one thing: `mowich facts show`."""
        return await send(answers.verb("facts_show", [name]))

    async def profiled(ask: asks.KernelProfile, limit_s: float) -> bytes:
        """One kernel at a time."""
        from mowich.web.kernels import profile

        with kernels.request():
            turn = await kernels.take(is_long=True)
            try:
                return await profile(ask, limit_s)
            finally:
                kernels.give(turn, is_long=True)

    @app.post("/api/kernel/profile", responses=ok, tags=["kernels"])
    async def kernel_profile(request: Request, ask: asks.KernelProfile) -> Response:
        """How long an NKI kernel takes and what binds: `mowich kernel profile`. Only where the server was started with
        --kernels."""
        if not options.kernels:
            raise refusal_of(403, "kernels are code: this server runs none (mowich web --kernels, on loopback, does)")
        if any(name in request.headers for name in PASSED_ON):
            raise refusal_of(403, "kernels are code: none runs for a request that a proxy passed on")
        return await send(profiled(ask, options.timeout_s))

    @app.get("/api/kernel/example", responses=ok, tags=["kernels"])
    async def kernel_example() -> Response:
        """The profile of a kernel that ships with the page."""
        from mowich.web.kernels import SHIPPED_ASK, example

        source = files["kernel.txt"][0].decode()
        ask = asks.KernelProfile.model_validate({"source": source, **SHIPPED_ASK})

        async def make() -> bytes:
            return example(await profiled(ask, EXAMPLE_S), source)

        return await send(answers.cache.get("kernel/example", make))

    @app.get("/api/about", responses=ok, tags=["results"])
    async def about() -> Response:
        """Version of this server, and what it allows."""
        from mowich.neuroncore.targets import DEFAULT_TARGET

        return Response(
            json.dumps(
                {
                    "result": {
                        "schema": "mowich/about@1",
                        "version": VERSION,
                        "kernels": options.kernels,
                        "kernel_target": DEFAULT_TARGET,
                        "workers": len(pool),
                        "timeout_s": options.timeout_s,
                        "max_body_B": MAX_BODY_B,
                        "first": FIRST.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
                    }
                }
            ),
            media_type=_JSON,
        )

    @app.get("/health", include_in_schema=False)
    async def health() -> Response:
        """Whether the server answers: 200, or 503 while it ends."""
        status = "ending" if is_ending else "ok"
        return Response(
            json.dumps({"status": status, "version": VERSION}),
            status_code=503 if is_ending else 200,
            media_type=_JSON,
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics_text() -> Response:
        """What the server counts of itself, for Prometheus."""
        return Response(metrics.text(), media_type=METRICS_TYPE)

    def asset(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404, f"no such file: {name[:60]}")
        data, small, kind, tag = files[name]
        headers = {"etag": f'"{tag}"', "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(small, media_type=kind, headers={**headers, "content-encoding": "gzip"})
        return Response(data, media_type=kind, headers=headers)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        return asset(request, name)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return asset(request, "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return asset(request, "icon.svg")

    @app.get("/first.json", include_in_schema=False)
    async def first() -> Response:
        """What a visitor sees first: the brief that ships."""
        return Response(await answers.verb("first"), media_type=_JSON)

    return app
