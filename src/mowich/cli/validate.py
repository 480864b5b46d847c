"""`mowich validate`: predicted against measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, FactsDir, Json, Out, Plain, Quiet, Set
from mowich.cli.output import emit, one_form, progress, style
from mowich.requests import Problems, facts_changes, read_facts, read_settings


@app.command(
    short_help="Predicted against measured, by chip and source.",
    epilog="Example: mowich validate   or   mowich validate my_runs.csv --json",
)
def validate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE.csv]",
            help="Measured training runs; without it, the published ones that ship.",
            show_default=False,
        ),
    ] = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Predicted against measured: errors by chip and by source."""
    from mowich.evidence.validate import validate as study

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan or chosen.term != "default":
        problems.add("validate takes each row's own plan and no price", where="--set", allowed="paths of facts")
    problems.stop()
    with progress(quiet) as line:
        line("predicting")
        result = study(file, chosen.facts)

    def text() -> str:
        from mowich.show.text import validate_text

        return validate_text(result, style(plain))

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="rows",
        out=out,
        inputs=facts_changes(settings, facts),
    )
