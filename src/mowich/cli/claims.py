"""`mowich claims`: each public claim, derived again, with a verdict."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import results


@verb(app, results.CLAIMS)
def claims(asked: results.ClaimsRequest) -> None:
    """The claims with their verdicts, then what memory per chip costs, where a claim of memory is among them."""
    from mowich.studies.answers import claims_checked

    form = asked.form
    with progress(form.quiet) as line:
        line("deriving claims")
        found = claims_checked(asked)
        line("what memory per chip costs")
        result = found.to_dict()

    emit(result, form, inputs=asked.given)
