"""`mowich collective`: time of one collective against its size, what binds, and with failed links."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, noter
from mowich.requests import machines


@verb(app, machines.COLLECTIVE)
def collective(asked: machines.CollectiveRequest) -> None:
    """A row for each size."""
    from mowich.studies.answers import collective_timed

    form = asked.form
    found = collective_timed(asked)
    note = noter(form.quiet or not (form.as_json or form.as_csv))  # the text has them
    for warning in found.warnings:
        note(warning)
    emit(found.to_dict(), form, inputs=asked.given)
