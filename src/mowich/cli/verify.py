"""`mowich verify`: a log of a run, compared with its forecast."""

from __future__ import annotations

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_CHECK_FAILED
from mowich.requests import verify as asks


@verb(app, asks.VERIFY_RUN)
def verify(asked: asks.VerifyRequest) -> None:
    """Measured beside predicted. The exit code says whether a figure lies outside of its range."""
    from mowich.studies import verify as study

    with progress(asked.form.quiet) as line:
        result = study.verify(asked, line)
    emit(result.to_dict(), asked.form, inputs=asked.again())
    if result.verdict == "outside":
        raise typer.Exit(EXIT_CHECK_FAILED)
