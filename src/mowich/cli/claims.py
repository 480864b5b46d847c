"""`mowich claims`: each public claim, derived again, with a verdict."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import results


@verb(app, results.CLAIMS)
def claims(asked: results.ClaimsRequest) -> None:
    """The claims with their verdicts, then what memory per chip costs, where a claim of memory is among them."""
    from mowich.studies import claims as study
    from mowich.studies import memory_claim
    from mowich.studies.answers import claims_checked

    form, word = asked.form, asked.word
    with progress(form.quiet) as line:
        line("deriving claims")
        found = claims_checked(asked)
        line("what memory per chip costs")
        rows = memory_claim.memory_table(asked.facts) if any(c.topic == "memory" for c in found) else []
    count = {v: sum(c.verdict == v for c in found) for v in (study.HOLDS, study.ONLY_IF, study.NOT, study.UNCHECKED)}
    result = {
        "schema": "mowich/claims@1",
        "facts_hash": asked.facts.hash(),
        "verdicts": count,
        "claims": [c.to_dict() for c in found],
        "memory": [r.to_dict() for r in rows],
        **({} if word is None else {"inputs": {"word": word}}),
    }

    emit(result, form, inputs=asked.given)
