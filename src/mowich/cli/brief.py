"""`mowich brief`: the question of the project on one page."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import brief as requests


@verb(app, requests.BRIEF)
def brief(asked: requests.BriefRequest) -> None:
    """Trainium 3 on one page."""
    from mowich.studies.answers import briefed

    form = asked.form
    with progress(form.quiet):
        result = briefed(asked)

    emit(result.to_dict(), form, inputs=asked.given)
