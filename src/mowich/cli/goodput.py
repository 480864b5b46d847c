"""`mowich goodput`: which way of surviving failures keeps how much of a long run."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, noter, progress
from mowich.requests import machines


@verb(app, machines.GOODPUT)
def goodput(asked: machines.GoodputRequest) -> None:
    """A row for each strategy."""
    from mowich.studies.answers import goodput_found

    form = asked.form
    with progress(form.quiet) as line:
        line("simulating failures")
        found = goodput_found(asked)
    note = noter(form.quiet or not (form.as_json or form.as_csv))  # the text has them
    for warning in found.warnings:
        note(warning)
    emit(found.to_dict(), form, inputs=asked.given)
