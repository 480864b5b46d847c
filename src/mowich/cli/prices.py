"""`mowich prices`: cost of a chip-hour by part, prices and margins."""

from __future__ import annotations

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.requests import prices as requests


@verb(app, requests.PRICES)
def prices(asked: requests.PricesRequest) -> None:
    """A row for each system."""
    from mowich.studies.answers import prices_found

    emit(prices_found(asked).to_dict(), asked.form, inputs=asked.given)
