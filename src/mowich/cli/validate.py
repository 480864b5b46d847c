"""`mowich validate`: predicted against measured."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress, style
from mowich.requests import results


@verb(app, results.VALIDATE)
def validate(asked: results.Validate) -> None:
    """Errors by chip and by source."""
    from mowich.evidence.validate import validate as study

    form = asked.form
    with progress(form.quiet) as line:
        line("predicting")
        result = study(asked.file, asked.facts)

    def text() -> str:
        from mowich.show.text import validate_text

        return validate_text(result, style(form.plain))

    emit(
        result.to_dict(),
        text,
        as_json=form.as_json,
        as_csv=form.as_csv,
        rows="rows",
        out=form.out,
        inputs=asked.given,
    )
