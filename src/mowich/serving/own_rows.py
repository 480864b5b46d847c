"""A user's own measured rows beside those that ship: `mowich calibrate` writes them into an overlay of facts, as the
text of one fact (`serving.anchors.rows`), and every forecast counts them among its neighbours.

The text is a table with the columns of `anchors.csv`. Its residues are over the constants of the same overlay.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.serving.anchors import (
    AMOUNTS,
    ANCHOR_COLUMNS,
    CLASS_WORDS,
    METRICS,
    Anchor,
    Anchors,
    Class,
    anchor_cells,
    anchors_for,
)

OWN_ROWS = "serving.anchors.rows"
NO_ROWS = "none"


def own_rows(facts: Facts) -> list[Anchor]:
    """The user's own rows. Raises UserError for a line that is not a row."""
    text = facts.text(OWN_ROWS)
    return [] if text == NO_ROWS else read_rows(text)


def known_anchors(facts: Facts, engine: str) -> Anchors:
    """The measured rows that ship for an engine, with the user's own."""

    def make(known: Facts) -> Anchors:
        rows, shipped = own_rows(known), anchors_for(engine)
        return shipped.with_rows(rows) if rows else shipped

    return facts.once(("anchors", engine), make)


def rows_text(rows: Sequence[Anchor]) -> str:
    """Rows as the text of the fact."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(ANCHOR_COLUMNS)
    for row in rows:
        cells = anchor_cells(row, row.source)
        for metric in METRICS:
            value, noise = row.residue.get(metric), (row.noise or {}).get(metric)
            cells += ["" if value is None else f"{value:.5f}", "" if noise is None else f"{noise:.4f}"]
        table.writerow(cells)
    return out.getvalue()


def read_rows(text: str) -> list[Anchor]:
    """Rows from the text of the fact. Raises UserError for a line that is not a row."""
    out = []
    for number, cells in enumerate(csv.DictReader(text.splitlines()), 1):
        try:
            out.append(_row(cells))
        except (KeyError, TypeError, ValueError):
            raise UserError(
                "not a measured row", where=f"{OWN_ROWS}, row {number}", allowed=f"columns {', '.join(ANCHOR_COLUMNS)}"
            ) from None
    return out


def _row(cells: dict[str, str]) -> Anchor:
    words = {name: cells[name] for name in CLASS_WORDS if name != "guesses"}
    lengths = {name: float(cells[name]) for name in AMOUNTS}
    one = Class(**words, **lengths, vendor=cells["vendor"], guesses=cells["guesses"] == "yes")  # type: ignore[arg-type]
    return Anchor(
        id=cells["id"],
        source=cells["source"],
        one=one,
        residue={metric: float(cells[metric]) for metric in METRICS if cells[metric]},
        noise={metric: float(cells[f"{metric}_noise"]) for metric in METRICS if cells[f"{metric}_noise"]} or None,
    )
