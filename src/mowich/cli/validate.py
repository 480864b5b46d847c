"""`mowich validate`: predicted against measured."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import results


@verb(app, results.VALIDATE)
def validate(asked: results.ValidateRequest) -> None:
    """Errors by chip and by source."""
    from mowich.studies.heard import note_heard
    from mowich.studies.validate import validate as study

    form = asked.form
    with progress(form.quiet) as line:
        line("predicting")
        result = note_heard(study(asked.path, asked.facts), asked.facts, question=asked)

    emit(result.to_dict(), form, inputs=asked.given)
