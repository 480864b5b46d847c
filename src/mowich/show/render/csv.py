"""Results as CSV: one line per row of a result; an estimate E becomes the columns E, E_low, E_high and E_grade. Unknown
is "?"."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from mowich.show.formats import UNKNOWN
from mowich.show.page import Page
from mowich.shown import Spot, spots


def _written(spot: Spot) -> object:
    """A value as CSV has it: whether a plan is feasible, and a number that the row estimates, may be unknown."""
    if isinstance(spot.value, bool):
        return str(spot.value).lower()
    can_be_unknown = spot.is_estimated or spot.column.rpartition(".")[2] == "feasible"
    return UNKNOWN if spot.value is None and can_be_unknown else inert(spot.value)


def inert(value: object) -> object:
    """A value that no spreadsheet takes for a formula: before a text that begins like one stands an apostrophe, as
    spreadsheets mark text.

    >>> inert("=HYPERLINK(1)"), inert(-1.5), inert("-"), inert("trn3:64")
    ("'=HYPERLINK(1)", -1.5, '-', 'trn3:64')
    """
    is_formula = isinstance(value, str) and len(value) > 1 and value[0] in _FORMULA
    return f"'{value}" if is_formula else value


_FORMULA = "=+-@\t\r"
"""First characters of what a spreadsheet works out."""


def flatten(row: Mapping[str, object]) -> dict[str, object]:
    """One row of a contract, nested objects spread over columns."""
    return {spot.column: _written(spot) for spot in spots(row, ".")}


def csv_of(page: Page) -> str:
    """The rows of an answer."""
    return to_csv(page.records)


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """A table of all rows with the union of their columns, in order of first appearance."""
    flat = [flatten(row) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
