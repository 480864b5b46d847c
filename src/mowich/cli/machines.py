"""What machines do and cost, and what is said of them: `mowich collective`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, noter
from mowich.requests import machines

if TYPE_CHECKING:
    from mowich.requests.common import Form


def _warn(form: Form, warnings: Sequence[str]) -> None:
    """The warnings of an answer for programs, on stderr; its text has them."""
    note = noter(form.quiet or not (form.as_json or form.as_csv))
    for warning in warnings:
        note(warning)


@verb(app, machines.COLLECTIVE)
def collective(asked: machines.CollectiveRequest) -> None:
    """A row for each size."""
    from mowich.studies.answers import collective_timed

    form = asked.form
    found = collective_timed(asked)
    _warn(form, found.warnings)
    emit(found.to_dict(), form, inputs=asked.given)
