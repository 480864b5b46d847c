"""`mowich brief`: the question of the project on one page."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import brief as requests


@verb(app, requests.BRIEF)
def brief(asked: requests.BriefRequest) -> None:
    """Trainium 3 on one page."""
    from mowich.studies.brief import one_page

    form = asked.form
    with progress(form.quiet):
        result = one_page.brief(asked)

    emit(result.to_dict(), form, inputs=asked.given)
