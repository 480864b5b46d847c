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
    rows = power_found(asked)
    result = {
        "schema": "mowich/power@1",
        "facts_hash": asked.facts.hash(),
        "inputs": {"cap_W": asked.cap_W, "spares": asked.spares, "tokens_per_s_per_chip": asked.tokens_per_s},
        "rows": [r.to_dict() for r in rows],
    }

    emit(result, form, inputs=asked.given)
