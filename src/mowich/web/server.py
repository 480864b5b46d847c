"""The application: one endpoint a verb, the page, and a cache of answers bounded in bytes.

Every answer is made in a worker process (`workers`); this process only waits. A comparison is cut into its systems,
which run side by side, and each system's row is kept: to add a system to a comparison computes one row. Requests that
are the same and under way are computed once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import pickle
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, TypeVar

from fastapi import Body, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from mowich.shown import Result
from mowich.version import VERSION
from mowich.web import asks
from mowich.web.first import FIRST
from mowich.web.guard import RequestGuard
from mowich.web.scenario import body_problems
from mowich.web.workers import AbandonedError, BugError, RefusedRequestError, Workers

T = TypeVar("T")

MAX_BODY_B = 256 * 1024
_CACHE_B = 96 * 2**20
OWN_S = 300.0
"""Most seconds for questions of the server's own, which no client can make larger."""
_JSON = "application/json"

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
    run here."""

    dirs: tuple[str, ...] = ()
    workers: int = 2
    timeout_s: float = 20.0
    kernels: bool = False
    hosts: tuple[str, ...] = ()
    warm: bool = True


class Problem(BaseModel):
    """One thing that is wrong with a request. line: all of it in one line; where: the field or option."""

    where: str | None = None
    what: str
    line: str


class Problems(BaseModel):
    """Why a request was not answered."""

    errors: list[Problem]


class AnswerCache:
    """Least recently used answers, at most `most_B` bytes; what is under way is waited for, not computed twice."""

    def __init__(self, most_B: int) -> None:
        self._most_B, self._size = most_B, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: dict[str, asyncio.Future[bytes]] = {}

    async def get(self, key: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        running = self._under_way.get(key)
        if running is not None:
            try:
                return await asyncio.shield(running)
            except (AbandonedError, asyncio.CancelledError):
                if running.cancelled() or (running.done() and isinstance(running.exception(), AbandonedError)):
                    return await self.get(key, make)  # whoever began it left: begin again
                raise
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        try:
            value = await make()
        except BaseException as error:
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # somebody has seen it
            else:
                future.cancel()
            raise
        finally:
            del self._under_way[key]
        future.set_result(value)
        self._kept[key] = value
        self._size += len(value)
        while self._size > self._most_B:
            self._size -= len(self._kept.popitem(last=False)[1])
        return value


class Answers:
    """What the endpoints ask: verbs in workers, behind the cache."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.cache = AnswerCache(_CACHE_B)

    async def verb(self, name: str, *arguments: object, wanted: Callable[[], Awaitable[bool]] | None = None) -> bytes:
        limit_s = None if arguments else OWN_S
        return await self.cache.get(
            _key(name, *arguments),
            lambda: _bytes(self.workers.call(name, *arguments, wanted=wanted, limit_s=limit_s)),
        )

    async def row(self, ask: asks.Ask, place: int, kind: str, wanted: Callable[[], Awaitable[bool]] | None) -> object:
        """One system's row: of a comparison on equal chips it does not depend on the other systems, but for the kind of
        price that all rows have."""
        own = ask.given("equal") in (None, "chips")
        system, near = ask.systems[place], ask.nearby
        settings = ask.given("set")
        kept = (
            tuple(s for s in settings if not str(s).startswith("prices.term")) if isinstance(settings, tuple) else None
        )
        alone: dict[str, object] = {"on": (system,), "price": kind, "set": kept}
        if near:
            alone["near"] = {system: near[system]} if system in near else None
        one = ask.model_copy(update=alone) if own else ask
        key = _key("row", one, 0 if own else place)

        async def make() -> bytes:
            return pickle.dumps(await self.workers.call("row", one, 0 if own else place, wanted=wanted))

        row: object = pickle.loads(await self.cache.get(key, make))
        return row

    async def compare(self, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]] | None = None) -> bytes:
        async def make() -> bytes:
            kind = await self.workers.call("kind", ask, wanted=wanted)
            rows = await _all(*(self.row(ask, i, str(kind), wanted) for i in range(len(ask.systems))))
            return await _bytes(self.workers.call("together", ask, rows, wanted=wanted))

        return await self.cache.get(_key("compare", ask), make)

    async def result(self, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]] | None) -> Result:
        verb = ask.schema_of.name
        body = await (self.compare(ask, wanted) if verb == "compare" else self.verb(verb, ask, wanted=wanted))
        return dict(json.loads(body))


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


async def _bytes(made: Awaitable[object]) -> bytes:
    """What a verb gives that answers with a body."""
    body = await made
    assert isinstance(body, bytes)
    return body


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
                out[file.name] = (data, gzip.compress(data, 6), kind, hashlib.sha256(data).hexdigest()[:16])
    return out


Responses = dict[int | str, dict[str, object]]
"""Status -> what OpenAPI says of the answer."""

FOUR: Responses = {
    400: {"model": Problems, "description": "Not JSON."},
    403: {"model": Problems, "description": "Not allowed here."},
    413: {"model": Problems, "description": "The body is too large."},
    422: {
        "model": Problems,
        "description": "Something is wrong with the request, or it cannot be computed within its limits.",
    },
    429: {"model": Problems, "description": "Too many requests at once."},
}


def create_app(options: ServerOptions, workers: Workers | None = None) -> FastAPI:
    """The ASGI application. workers: made here unless given; ended when the application shuts down."""
    pool = workers or Workers(options.workers, dirs=options.dirs, timeout_s=options.timeout_s, warm=options.warm)
    answers = Answers(pool)
    files = _static()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async def ahead() -> None:
            """What a visitor sees first, then what takes longest."""
            with contextlib.suppress(RefusedRequestError, BugError):
                await answers.compare(FIRST)
                await answers.verb("validate")

        begin = asyncio.create_task(ahead()) if options.warm else None
        yield
        if begin is not None:
            begin.cancel()
        pool.close()

    app = FastAPI(
        title="Mowich",
        version=VERSION,
        description="The verbs of `mowich` over HTTP. Every answer has `result`, the object that `--json` prints.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=FOUR,
        redirect_slashes=False,
        middleware=[Middleware(RequestGuard, max_body_B=MAX_BODY_B, hosts=options.hosts)],
    )

    def lines(status: int, errors: Sequence[asks.Mistake]) -> Response:
        return Response(
            json.dumps({"errors": errors}, ensure_ascii=False, default=str), status_code=status, media_type=_JSON
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
        return lines(error.status, error.lines)

    @app.exception_handler(AbandonedError)
    async def _gone(_: Request, error: AbandonedError) -> Response:
        return lines(422, [{"where": None, "what": "abandoned", "line": "abandoned by the client"}])

    @app.exception_handler(BugError)
    async def _bug(_: Request, error: BugError) -> Response:
        line = f"this is a bug in mowich {VERSION}: {error}"
        return lines(500, [{"where": None, "what": line, "line": line}])

    def present(request: Request) -> Callable[[], Awaitable[bool]]:
        async def wanted() -> bool:
            return not await request.is_disconnected()

        return wanted

    async def send(request: Request, made: Awaitable[bytes]) -> Response:
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
        make: Callable[[Request, asks.Ask, Callable[[], Awaitable[bool]]], Awaitable[Response]],
        *,
        responses: Responses = ok,
        response_class: type[Response] = JSONResponse,
    ) -> None:
        """An address that takes a body."""

        async def endpoint(request: Request, ask: asks.Ask) -> Response:
            return await make(request, ask, present(request))

        endpoint.__name__, endpoint.__doc__ = path, about
        endpoint.__annotations__ = {"request": Request, "ask": body, "return": Response}
        app.post(f"/api/{path}", tags=[tag], responses=responses, response_class=response_class)(endpoint)

    def answered(verb: str) -> Callable[[Request, asks.Ask, Callable[[], Awaitable[bool]]], Awaitable[Response]]:
        async def make(request: Request, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]]) -> Response:
            return await send(request, answers.verb(verb, ask, wanted=wanted))

        return make

    async def compared(request: Request, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]]) -> Response:
        return await send(request, answers.compare(ask, wanted))

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

    async def explained(request: Request, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]]) -> Response:
        async def made() -> bytes:
            question = ask.given("ask")
            assert isinstance(question, asks.Ask)
            found = await answers.result(question, wanted)
            return await answers.verb("explain", found["result"], ask.given("metric"), question, wanted=wanted)

        return await send(request, made())

    async def reported(_: Request, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]]) -> Response:
        found = await answers.result(ask, wanted)
        page = await _bytes(pool.call("report", found["result"], str(found.get("command", "")), ask, wanted=wanted))
        return Response(
            page, media_type="text/html", headers={"content-disposition": 'attachment; filename="mowich.html"'}
        )

    async def deepened(request: Request, ask: asks.Ask, wanted: Callable[[], Awaitable[bool]]) -> Response:
        async def made() -> bytes:
            found = await answers.result(ask, wanted)
            return await answers.verb("deepen", found["result"], ask, wanted=wanted)

        return await send(request, made())

    post(
        *("explain", asks.ExplainBody, "results"),
        "Formula, numbers, facts and sources of one number: `mowich explain`.",
        explained,
    )
    post(
        *("report", Annotated[asks.CompareBody | asks.PlanBody | asks.FleetBody, Body()], "results"),
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
    async def validate(request: Request) -> Response:
        """Predicted against measured: `mowich validate`."""
        return await send(request, answers.verb("validate"))

    @app.get("/api/models", responses=ok, tags=["facts"])
    async def models(request: Request) -> Response:
        """Built-in models."""
        return await send(request, answers.verb("models"))

    @app.post("/api/model", responses=ok, tags=["facts"])
    async def model(request: Request, ask: asks.ModelAsk) -> Response:
        """Parameters, FLOP and bytes per token of a model: `mowich model`."""
        return await send(request, answers.verb("model", ask.model, wanted=present(request)))

    @app.get("/api/systems", responses=ok, tags=["facts"])
    async def systems(request: Request) -> Response:
        """Systems that can be asked for."""
        return await send(request, answers.verb("systems"))

    @app.get("/api/facts", responses=ok, tags=["facts"])
    async def facts_list(request: Request) -> Response:
        """What is known, by kind: `mowich facts list`."""
        return await send(request, answers.verb("facts_list"))

    @app.get("/api/facts/side", responses=ok, tags=["facts"])
    async def facts_side(
        request: Request, name: Annotated[list[asks.FactPath], Query(min_length=1, max_length=asks.MAX_SYSTEMS)]
    ) -> Response:
        """Chips and systems side by side, with grades and sources: `mowich facts diff` for more than two."""
        return await send(request, answers.verb("facts_side", list(name)))

    @app.get("/api/facts/{name}", responses=ok, tags=["facts"])
    async def facts_show(request: Request, name: Annotated[asks.FactPath, Path()]) -> Response:
        """Every number of one thing: `mowich facts show`."""
        return await send(request, answers.verb("facts_show", [name]))

    @app.post("/api/kernel/profile", responses=ok, tags=["kernels"])
    async def kernel_profile(request: Request, ask: asks.KernelProfile) -> Response:
        """How long an NKI kernel takes and what binds: `mowich kernel profile`. Only where the server was started with
        --kernels."""
        if not options.kernels:
            line = "kernels are code: this server runs none (mowich web --kernels, on loopback, does)"
            raise RefusedRequestError(403, [{"where": None, "what": line, "line": line}])
        from mowich.web.kernels import profile

        return await send(request, profile(ask, options.timeout_s))

    @app.get("/api/kernel/example", responses=ok, tags=["kernels"])
    async def kernel_example(request: Request) -> Response:
        """The profile of a kernel that ships with the page."""
        from mowich.web.kernels import example

        return await send(
            request, answers.cache.get("kernel/example", lambda: example(files["kernel.txt"][0].decode(), 60.0))
        )

    @app.get("/api/about", responses=ok, tags=["results"])
    async def about(request: Request) -> Response:
        """Version of this server, and what it allows."""
        return Response(
            json.dumps(
                {
                    "result": {
                        "schema": "mowich/about@1",
                        "version": VERSION,
                        "kernels": options.kernels,
                        "workers": len(pool),
                        "timeout_s": options.timeout_s,
                        "max_body_B": MAX_BODY_B,
                        "first": FIRST.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
                    }
                }
            ),
            media_type=_JSON,
        )

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
    async def first(request: Request) -> Response:
        """The finished comparison of the empty page, made when the server starts."""
        return Response(await answers.compare(FIRST), media_type=_JSON)

    return app
