"""`mowich calibrate`: your own measurements as an overlay of facts."""

from __future__ import annotations

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_INFEASIBLE
from mowich.requests import calibrate as asks


@verb(app, asks.CALIBRATE)
def calibrate(asked: asks.CalibrateRequest) -> None:
    """Constants, their ranges, and errors before and after. Where nothing is identified and an overlay was asked for,
    none is written, and the exit code says so."""
    from mowich.studies.calibrate_log import calibrated

    form = asked.form
    with progress(form.quiet) as line:
        result = calibrated(asked, line)

    emit(result.to_dict(), form, inputs=asked.again())
    if asked.out is not None and not result.written:
        raise typer.Exit(EXIT_INFEASIBLE)
