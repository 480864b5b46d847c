"""`mowich power`: power by part, chips under a site's cap, tokens per megawatt."""

from __future__ import annotations

from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, FactsDir, Json, On, Out, Plain, Quiet, Set
from mowich.cli.output import emit, one_form, style
from mowich.requests import Problems, facts_changes, read_facts, read_settings


@app.command(
    short_help="Power by part, chips under a site's cap, tokens per megawatt.",
    epilog="Example: mowich power --on trn3,gb300 --cap 100MW",
)
def power(
    on: On,
    cap: Annotated[
        str | None, typer.Option("--cap", metavar="POWER", help="Power of the site at the meter: 100MW.")
    ] = None,
    spares: Annotated[
        float, typer.Option("--spares", metavar="SHARE", help="Share of the chips that is idle: 0.02.")
    ] = 0.0,
    tokens: Annotated[
        float | None,
        typer.Option("--tokens-per-s", metavar="N", help="Tokens per second of one chip, for tokens per megawatt."),
    ] = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Provisioned power of a chip by part (chip, server, network, cooling), of the machine, and what a cap feeds."""
    from mowich.studies.power import study
    from mowich.units import parse

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    watts = None
    if cap is not None:
        with problems.watch():
            watts = parse(cap, "W", where="--cap").value
    problems.stop()
    rows = study(chosen.facts, on.split(","), cap_W=watts, spares=spares, tokens_per_s=tokens)
    result = {
        "schema": "mowich/power@1",
        "facts_hash": chosen.facts.hash(),
        "inputs": {"cap_W": watts, "spares": spares, "tokens_per_s_per_chip": tokens},
        "rows": [r.to_dict() for r in rows],
    }

    def text() -> str:
        from mowich.show.machines import power_text

        return power_text(rows, style(plain))

    emit(result, text, as_json=as_json, as_csv=as_csv, rows="rows", out=out, inputs=facts_changes(settings, facts))
