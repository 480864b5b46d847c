"""`mowich claims`: each public claim, derived again, with a verdict."""

from __future__ import annotations

from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, FactsDir, Json, Out, Plain, Quiet, Set
from mowich.cli.output import emit, one_form, style
from mowich.requests import Problems, facts_changes, read_facts, read_settings


@app.command(
    short_help="Each public claim, derived again, with a verdict.", epilog="Example: mowich claims trainium3 --json"
)
def claims(
    word: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORD]", help="Only claims whose id holds this: trainium3, ironwood, gb300.", show_default=False
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
    """Each public claim: formula, inputs, result and verdict; then what memory per chip costs by model and context."""
    from mowich.errors import UserError
    from mowich.studies import claims as study
    from mowich.studies import memory_claim

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    problems.stop()
    found = [c for c in study.claims(chosen.facts) if word is None or word.casefold() in c.id.casefold()]
    if not found:
        raise UserError("no claim has that word in its id", given=word, allowed=list(chosen.facts.ids("claims")))
    rows = memory_claim.memory_table(chosen.facts)
    count = {v: sum(c.verdict == v for c in found) for v in (study.HOLDS, study.ONLY_IF, study.NOT, study.UNCHECKED)}
    result = {
        "schema": "mowich/claims@1",
        "facts_hash": chosen.facts.hash(),
        "verdicts": count,
        "claims": [c.to_dict() for c in found],
        "memory": [{f: getattr(r, f) for f in r.__slots__} for r in rows],
    }

    def text() -> str:
        from mowich.show.claims import claims_text

        return claims_text(found, rows if word is None else [], style(plain))

    emit(result, text, as_json=as_json, as_csv=as_csv, rows="claims", out=out, inputs=facts_changes(settings, facts))
