"""`mowich next`: which measurement comes next."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.forecast import verb_words
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests.next_measure import NEXT_MEASURE, NextRequest


@verb(app, NEXT_MEASURE, "next")
def next_verb(asked: NextRequest) -> None:
    """Which measurements narrow a range most."""
    from mowich.studies.next_measure import next_measurements

    verb_words(asked.question)  # a verb that there is none of is refused at once
    with progress(asked.form.quiet) as line:
        line("asking")
        found = next_measurements(asked)
    emit(found.to_dict(), asked.form)
