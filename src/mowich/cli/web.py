"""`mowich web`: the studies behind HTTP, and a page on them."""

from __future__ import annotations

import os
import sys

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.errors import UserError
from mowich.requests import known


@verb(app, known.WEB)
def web(asked: known.WebRequest) -> None:
    """Serve until interrupted."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"needs the extra [web] ({error.name} is not installed)",
            where="mowich web",
            fix="pip install 'mowich[web]'",
        ) from None
    from mowich.web.run import serve

    serve(
        asked,
        workers=asked.workers or max(2, os.cpu_count() or 1),
        say=(lambda _: None) if asked.form.quiet else (lambda text: print(text, file=sys.stderr)),
        log=(lambda line: print(line, flush=True)) if asked.access_log else None,
    )
