"""`mowich report`: a saved result as one HTML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.explain import facts_of_result, read_result
from mowich.cli.options import Quiet
from mowich.errors import UserError


@app.command(
    short_help="A saved result as one HTML file.",
    epilog="Example: mowich compare ... --out r.json && mowich report r.json --html r.html",
)
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="JSON of a verb (--out or --json); - reads stdin.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Where to write it (else RESULT with .html).")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    quiet: Quiet = False,
) -> None:
    """One self-contained file: headline, table, charts, sources, inputs. It needs no network, prints, and can be
    mailed."""
    from mowich.show.html import render

    where = str(result)
    data = read_result(result)
    try:
        page = render(data, facts=facts_of_result(data))
    except UserError as error:
        error.where = error.where or where
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise UserError(
            f"not a whole result: {type(error).__name__} {error}", where=where, fix="save it again with --out"
        ) from error
    target = html or (Path("report.html") if where == "-" else result.with_suffix(".html"))
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=f"--html {target}") from error
    if not quiet:
        print(f"wrote {target}", file=sys.stderr)
    if show:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
