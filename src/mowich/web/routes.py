"""The addresses of the application: one for each verb, lists of what is known, kernels, the page, and what the server
says of itself.

A group of addresses is a function that adds them to the application. What they share is a `ServerParts`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Literal, get_args

from fastapi import Body, FastAPI, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mowich.readback import TypeForm
from mowich.show import colours
from mowich.version import VERSION
from mowich.web import asks
from mowich.web.cache import Answers
from mowich.web.first import FIRST
from mowich.web.metrics import Metrics
from mowich.web.turns import Turns, refusal_of

MAX_BODY_B = 256 * 1024
EXAMPLE_S = 60.0
"""Most seconds for a kernel that ships."""
PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
"""Headers: a proxy adds at least one of them."""
METRICS_TYPE = "text/plain; version=0.0.4"

JSON_TYPE = "application/json"

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "yaml": "text/plain; charset=utf-8",
}


@dataclass(slots=True, kw_only=True)
class ServerParts:
    """What the addresses of one application share. kernels: turns at running one; runs_kernels: whether kernels that
    are sent may run; timeout_s: most seconds of one; is_ending: the server refuses what comes."""

    answers: Answers
    kernels: Turns[str]
    metrics: Metrics
    runs_kernels: bool
    timeout_s: float
    is_ending: bool = False

    def end(self) -> None:
        """Refuse what comes from now on."""
        self.is_ending = True
        self.answers.workers.end()
        self.kernels.end()


Responses = dict[int | str, dict[str, object]]
"""Status -> what OpenAPI says of the answer."""

_OK: Responses = {200: {"content": {JSON_TYPE: {"schema": {"type": "object", "required": ["result"]}}}}}

Answering = Callable[[asks.Ask], Awaitable[Response]]
"""What answers a body."""


def add_routes(app: FastAPI, server: ServerParts) -> None:
    """Every address of the server. The files of the page are read here, so that no visitor waits for it."""
    _static()
    _add_jobs(app, server)
    _add_results(app, server)
    _add_facts(app, server)
    _add_kernels(app, server)
    _add_state(app, server)
    _add_page(app, server)


async def _sent(made: Awaitable[bytes]) -> Response:
    """An answer, with how long it took."""
    start = time.perf_counter()
    body = await made
    return Response(
        body, media_type=JSON_TYPE, headers={"server-timing": f"total;dur={1e3 * (time.perf_counter() - start):.1f}"}
    )


def _post(
    app: FastAPI,
    path: str,
    body: TypeForm,
    tag: str,
    about: str,
    make: Answering,
    *,
    responses: Responses = _OK,
    response_class: type[Response] = JSONResponse,
) -> None:
    """An address that takes a body."""

    async def endpoint(ask: asks.Ask) -> Response:
        return await make(ask)

    endpoint.__name__, endpoint.__doc__ = path, about
    endpoint.__annotations__ = {"ask": body, "return": Response}
    app.post(f"/api/{path}", tags=[tag], responses=responses, response_class=response_class)(endpoint)


def _add_jobs(app: FastAPI, server: ServerParts) -> None:
    """The verbs whose answer is the result of one question."""

    def answered(verb: str) -> Answering:
        async def make(ask: asks.Ask) -> Response:
            return await _sent(server.answers.verb(verb, ask))

        return make

    async def compared(ask: asks.Ask) -> Response:
        return await _sent(server.answers.compare(ask))

    _post(
        app,
        *("compare", asks.CompareBody, "jobs"),
        "The same job on several systems, each at its best plan: `mowich compare`.",
        compared,
    )
    _post(
        app,
        "serve",
        asks.ServePlansBody,
        "jobs",
        "The same serving job on several systems: `mowich compare --serve`.",
        compared,
    )
    rooms = [(name, body, body.schema_.web) for name, body in asks.ROOM_BODIES.items() if body.schema_ is not None]
    for verb, body, tag, said in (
        ("plan", asks.PlanBody, "jobs", "The best plans of one system: `mowich plan`."),
        ("fit", asks.FitBody, "jobs", "Does it fit, what binds, how few chips would do: `mowich fit`."),
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
        (
            *("rl", asks.RlBody, "jobs"),
            "A step of reinforcement learning on given chips, or the split that costs least: `mowich rl`.",
        ),
        *((name, body, web.tag, f"{web.said or body.__doc__} `mowich {name}`.") for name, body, web in rooms),
        ("scenario", asks.Scenario, "results", "A comparison's YAML as the request that it means."),
    ):
        _post(app, verb, body, tag, said, answered(verb))


def _add_results(app: FastAPI, server: ServerParts) -> None:
    """What is said of a result."""

    async def explained(ask: asks.Ask) -> Response:
        async def made() -> bytes:
            question = ask.given("ask")
            assert isinstance(question, asks.Ask)
            found = await server.answers.result(question)
            return await server.answers.verb("explain", found["result"], ask.given("metric"), question)

        return await _sent(made())

    async def reported(ask: asks.Ask) -> Response:
        return Response(
            await server.answers.report(ask),
            media_type="text/html",
            headers={"content-disposition": 'attachment; filename="mowich.html"'},
        )

    async def deepened(ask: asks.Ask) -> Response:
        async def made() -> bytes:
            found = await server.answers.result(ask)
            return await server.answers.verb("deepen", found["result"], ask)

        return await _sent(made())

    _post(
        app,
        *("explain", asks.ExplainBody, "results"),
        "Formula, numbers, facts and sources of one number: `mowich explain`.",
        explained,
    )
    _post(
        app,
        *("report", Annotated[asks.Explainable, Body()], "results"),
        "A result as one HTML file that needs no network: `mowich report --html`.",
        reported,
        response_class=Response,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    )
    _post(
        app,
        *("deepen", Annotated[asks.CompareBody | asks.PlanBody, Body()], "results"),
        "What the report adds to a result: what would change the answer, scaling, the nearest measured points.",
        deepened,
    )

    @app.get("/api/validate", responses=_OK, tags=["results"])
    async def validate() -> Response:
        """Predicted against measured: `mowich validate`."""
        return await _sent(server.answers.verb("validate"))


def _add_facts(app: FastAPI, server: ServerParts) -> None:
    """Lists of what is known."""

    @app.get("/api/models", responses=_OK, tags=["facts"])
    async def models() -> Response:
        """Built-in models."""
        return await _sent(server.answers.verb("models"))

    @app.post("/api/model", responses=_OK, tags=["facts"])
    async def model(ask: asks.ModelAsk) -> Response:
        """Parameters, FLOP and bytes per token of a model: `mowich model`."""
        return await _sent(server.answers.verb("model", ask.model))

    @app.get("/api/systems", responses=_OK, tags=["facts"])
    async def systems() -> Response:
        """Systems that can be asked for, training stacks and serving engines that they can be asked to run, and words
        of a question of prices."""
        return await _sent(server.answers.verb("systems"))

    @app.get("/api/map", responses=_OK, tags=["facts"])
    async def map_picture(name: Annotated[asks.SizedSystem, Query()]) -> Response:
        """A machine of up to 256 chips as a picture: its chips and the links between them."""
        return await _sent(server.answers.verb("map_picture", name))

    @app.get("/api/glossary", responses=_OK, tags=["facts"])
    async def head_words() -> Response:
        """The words of tables, each with its meaning."""
        return await _sent(server.answers.verb("head_words"))

    @app.get("/api/scenarios", responses=_OK, tags=["fleets"])
    async def scenarios(verb: Annotated[Literal["fleet", "rl"], Query()] = "fleet") -> Response:
        """Scenarios of a verb that ship: `mowich example`."""
        return await _sent(server.answers.verb("scenarios", verb))

    @app.get("/api/facts", responses=_OK, tags=["facts"])
    async def facts_list() -> Response:
        """What is known, by kind: `mowich facts list`."""
        return await _sent(server.answers.verb("facts_list"))

    @app.get("/api/facts/side", responses=_OK, tags=["facts"])
    async def facts_side(
        name: Annotated[list[asks.FactPath], Query(min_length=1, max_length=asks.MAX_SYSTEMS)],
    ) -> Response:
        """Chips and systems side by side, with grades and sources: `mowich facts diff` for more than two."""
        return await _sent(server.answers.verb("facts_side", list(name)))

    @app.get("/api/facts/{name}", responses=_OK, tags=["facts"])
    async def facts_show(name: Annotated[asks.FactPath, Path()]) -> Response:
        """Every number of one thing: `mowich facts show`."""
        return await _sent(server.answers.verb("facts_show", [name]))


def _add_kernels(app: FastAPI, server: ServerParts) -> None:
    """Kernels, one at a time."""

    async def one_at_a_time(run: Callable[[], Awaitable[bytes]]) -> bytes:
        with server.kernels.request():
            turn = await server.kernels.take(is_long=True)
            try:
                return await run()
            finally:
                server.kernels.give(turn, is_long=True)

    async def profiled(ask: asks.KernelProfile, limit_s: float) -> bytes:
        from mowich.web.kernels import profile

        return await one_at_a_time(lambda: profile(ask, limit_s))

    @app.post("/api/kernel/profile", responses=_OK, tags=["kernels"])
    async def kernel_profile(request: Request, ask: asks.KernelProfile) -> Response:
        """How long an NKI kernel takes and what binds: `mowich kernel profile`. Only where the server was started with
        --kernels."""
        if not server.runs_kernels:
            raise refusal_of(403, "kernels are code: this server runs none (mowich web --kernels, on loopback, does)")
        if any(name in request.headers for name in PASSED_ON):
            raise refusal_of(403, "kernels are code: none runs for a request that a proxy passed on")
        return await _sent(profiled(ask, server.timeout_s))

    @app.get("/api/kernel/{name}", responses=_OK, tags=["kernels"])
    async def kernel_shipped(name: Annotated[asks.Word, Path()]) -> Response:
        """The profile of an example of ours: `mowich kernel profile @NAME`. `/api/kernels` lists them."""
        from mowich.web.kernels import profile_example

        async def make() -> bytes:
            return await one_at_a_time(lambda: profile_example(name, EXAMPLE_S))

        return await _sent(server.answers.cache.get(f"kernel/@{name}", make))

    @app.get("/api/kernels", responses=_OK, tags=["kernels"])
    async def kernels_list() -> Response:
        """Kernels that ship: `mowich example`."""
        return await _sent(server.answers.verb("kernel_examples"))


def _add_state(app: FastAPI, server: ServerParts) -> None:
    """What the server says of itself."""

    @app.get("/api/about", responses=_OK, tags=["results"])
    async def about() -> Response:
        """Version of this server, and what it allows."""
        from mowich.neuroncore.targets import DEFAULT_TARGET

        return Response(
            json.dumps(
                {
                    "result": {
                        "schema": "mowich/about@1",
                        "version": VERSION,
                        "kernels": server.runs_kernels,
                        "kernel_target": DEFAULT_TARGET,
                        "kernel_targets": get_args(asks.KernelTarget),
                        "workers": len(server.answers.workers),
                        "timeout_s": server.timeout_s,
                        "max_body_B": MAX_BODY_B,
                        "first": FIRST.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
                    }
                }
            ),
            media_type=JSON_TYPE,
        )

    @app.get("/health", include_in_schema=False)
    async def health() -> Response:
        """Whether the server answers: 200, or 503 while it ends."""
        status = "ending" if server.is_ending else "ok"
        return Response(
            json.dumps({"status": status, "version": VERSION}),
            status_code=503 if server.is_ending else 200,
            media_type=JSON_TYPE,
        )

    @app.get("/metrics", include_in_schema=False)
    async def metrics_text() -> Response:
        """What the server counts of itself, for Prometheus."""
        return Response(server.metrics.text(), media_type=METRICS_TYPE)


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
                out[file.name] = _as_sent(data, kind)
    for name, text in (("colours.css", colours.css()), ("colours.js", colours.script())):
        out[name] = _as_sent(text.encode(), _TYPES[name.rsplit(".", 1)[-1]])
    return out


def _as_sent(data: bytes, kind: str) -> tuple[bytes, bytes, str, str]:
    return data, gzip.compress(data, 6), kind, hashlib.sha256(data).hexdigest()[:16]


def _asset(request: Request, name: str) -> Response:
    files = _static()
    if name not in files:
        raise HTTPException(404, f"no such file: {name[:60]}")
    data, small, kind, tag = files[name]
    headers = {"etag": f'"{tag}"', "cache-control": "no-cache", "vary": "accept-encoding"}
    if request.headers.get("if-none-match") == f'"{tag}"':
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(small, media_type=kind, headers={**headers, "content-encoding": "gzip"})
    return Response(data, media_type=kind, headers=headers)


def _add_page(app: FastAPI, server: ServerParts) -> None:
    """The page and its files."""

    @app.get("/static/{name}", include_in_schema=False)
    async def static(request: Request, name: str) -> Response:
        return _asset(request, name)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return _asset(request, "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return _asset(request, "icon.svg")

    @app.get("/first.json", include_in_schema=False)
    async def first() -> Response:
        """What a visitor sees first: the brief that ships."""
        return Response(await server.answers.verb("first"), media_type=JSON_TYPE)
