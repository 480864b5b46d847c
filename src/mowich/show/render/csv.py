"""Results as CSV: one line per row of a result; an estimate E becomes the columns E, E_low, E_high and E_grade. Unknown
is "?"."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from mowich.show.formats import UNKNOWN
from mowich.show.page import Page

SKIP = ("spread", "breakdown", "coverage")


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row of a contract, nested objects spread over columns."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if key in SKIP:
            continue
        if isinstance(value, Mapping) and "grade" in value and "value" in value:
            out[key] = UNKNOWN if value["value"] is None else value["value"]
            for part in ("low", "high", "grade"):
                out[f"{key}_{part}"] = UNKNOWN if value[part] is None else value[part]
        elif isinstance(value, Mapping):
            out.update({f"{key}.{k}": v for k, v in flatten(value).items()})
        elif isinstance(value, (list, tuple)):
            out[key] = "; ".join(map(str, value))
        elif isinstance(value, bool):
            out[key] = str(value).lower()
        else:
            out[key] = UNKNOWN if value is None and key == "feasible" else value
    return out


def csv_of(page: Page) -> str:
    """The rows of an answer."""
    return to_csv(page.records)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of all rows with the union of their columns, in order of first appearance."""
    flat = [flatten(row) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
