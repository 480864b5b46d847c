"""`mowich power`: power by part, chips under a site's cap, tokens per megawatt."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.requests import machines


@verb(app, machines.POWER)
def power(asked: machines.PowerRequest) -> None:
    """A row for each machine."""
    from mowich.studies.answers import power_found

    form = asked.form
    result = power_found(asked)

    emit(result.to_dict(), form, inputs=asked.given)
