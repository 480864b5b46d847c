"""`mowich web`: the studies behind HTTP, and a page on them."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import FactsDir, Quiet
from mowich.errors import UserError
from mowich.requests import Problems, read_facts

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@app.command(short_help="A page in the browser, live, and an HTTP interface.", epilog="Example: mowich web --open")
def web(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0 for all.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port; 0 takes a free one.")
    ] = 8000,
    browse: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="Let the page run NKI kernels: code. On loopback only.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=256, metavar="N", help="Processes that compute (else one per core)."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=600, metavar="S", help="Most seconds that one request may compute.")
    ] = 20.0,
    facts: FactsDir = None,
    quiet: Quiet = False,
) -> None:
    """Serve the page and the HTTP interface (its OpenAPI is at /openapi.json) until interrupted."""
    problems = Problems()
    if kernels and host not in LOOPBACK:
        problems.add(
            "runs code that is sent to it: on loopback only",
            where="--kernels",
            given=f"--host {host}",
            allowed=", ".join(LOOPBACK),
        )
    read_facts(facts, problems)
    problems.stop()
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(
            f"needs the extra [web] ({error.name} is not installed)",
            where="mowich web",
            fix="pip install 'mowich[web]'",
        ) from None
    from mowich.web.run import serve

    serve(
        uvicorn,
        host=host,
        port=port,
        browse=browse,
        kernels=kernels,
        workers=workers or max(2, os.cpu_count() or 1),
        timeout_s=timeout,
        dirs=tuple(str(d.resolve()) for d in facts or ()),
        say=(lambda _: None) if quiet else (lambda text: print(text, file=sys.stderr)),
    )
