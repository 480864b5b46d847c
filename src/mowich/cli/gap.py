"""`mowich gap`: why one machine beats another."""

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
