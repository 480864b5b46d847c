"""Why one machine beats another, and what more of a property is worth: `mowich gap`, `mowich value`."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import gaps


@verb(app, gaps.GAP)
def gap(asked: gaps.GapRequest) -> None:
    """Factors that multiply to the ratio of two machines."""
    from mowich.studies.answers import gap_explained

    form = asked.form
    with progress(form.quiet) as line:
        line(f"planning on machines between {' and '.join(asked.systems)}")
        result = gap_explained(asked)

    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model)


@verb(app, gaps.VALUE)
def value(asked: gaps.ValueRequest) -> None:
    """A row for each amount, model and job."""
    from mowich.studies.answers import value_found

    form = asked.form
    with progress(form.quiet) as line:
        line(f"planning on {asked.systems[0]} with more and less {asked.of}")
        result = value_found(asked)

    emit(result.to_dict(), form, inputs={**asked.given, "models_given": asked.model_given})
