"""`mowich value`: what more of a property is worth."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import gaps


@verb(app, gaps.VALUE)
def value(asked: gaps.ValueRequest) -> None:
    """A row for each amount, model and job."""
    from mowich.studies.answers import value_found

    form = asked.form
    with progress(form.quiet) as line:
        line(f"planning on {asked.systems[0]} with more and less {asked.of}")
        result = value_found(asked)

    emit(result.to_dict(), form, inputs={**asked.given, "models_given": asked.model_given})
