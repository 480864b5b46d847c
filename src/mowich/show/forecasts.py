"""The page of frozen forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate
from mowich.show.formats import UNKNOWN, percent, with_range
from mowich.show.page import Cell, Column, Page, Part, Run, Table, TextCell, counted, paragraphs
from mowich.shown import Result
from mowich.units import show

_STATUS: Mapping[str, str] = {
    "open": "open",
    "inside": "inside",
    "above": "OUTSIDE, above",
    "below": "OUTSIDE, below",
}


def forecasts_page(result: Result, run: Run) -> Page:
    """What was frozen, and what came of it."""
    rows = result["rows"]
    return Page(
        title="Frozen forecasts",
        sentences=_sentences(result),
        assumptions=[("ledger", f"{result['file']}, last line {result['head']}")],
        parts=(*_table(rows), *_questions(rows)),
        records=rows,
        inputs=result.get("inputs", {}),
    )


def _sentences(result: Result) -> list[str]:
    """How many are right, and of whom it is open."""
    rows, summary = result["rows"], result["summary"]
    scored, inside = summary["scored"], summary["inside"]
    if not rows:
        return ["No forecast is frozen."]
    if not scored:
        days = sorted(row["frozen"] for row in rows)
        since = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        return [f"{counted(len(rows), 'forecast')} frozen, none measured yet.", f"Frozen: {since}."]
    return [
        f"{inside} of {counted(scored, 'measured forecast')} inside the 90% range.",
        f"Median error {percent(summary['median_error'])}; {counted(len(rows) - scored, 'forecast')} still open.",
    ]


def _range(node: Result) -> str:
    return with_range(Estimate.from_dict(node))


def _table(rows: Sequence[Result]) -> list[Part]:
    def line(row: Result) -> list[Cell]:
        measured = UNKNOWN if row["measured"] is None else show(row["measured"], row["unit"])
        return [
            row["id"],
            row["number"].rpartition(".")[2],
            TextCell(_range(row["predicted"]), metric=f"{row['id']}.predicted"),
            row["predicted"]["grade"],
            row["frozen"],
            TextCell(measured, metric=f"{row['id']}.measured"),
            TextCell(UNKNOWN if row["ratio"] is None else f"{row['ratio']:.3g}", metric=f"{row['id']}.ratio"),
            _STATUS[row["status"]],
        ]

    if not rows:
        return []
    return [
        Table(
            title="Forecasts",
            columns=[
                Column(name="forecast", right=False),
                Column(name="number", right=False, keep=5),
                Column(name="predicted, 90% range"),
                Column(name="grade", keep=2),
                Column(name="frozen", keep=3),
                Column(name="measured"),
                Column(name="ratio", keep=4),
                Column(name="status", right=False),
            ],
            rows=[line(row) for row in rows],
        )
    ]


def _questions(rows: Sequence[Result]) -> Sequence[Part]:
    """Each question with its number, what would settle it, and where what was measured is published."""
    said = []
    for row in rows:
        came = "" if row["source"] is None else f" Measured: {row['source']}, {row['published']}."
        noted = f" {row['note']}." if row["note"] else ""
        said.append(
            f"{row['id']}: {row['number']} of `mowich {row['question']}` (version {row['by_version']}). To settle it:"
            f" {row['settles']}.{came}{noted}"
        )
    return paragraphs(said, "basis", heading="Questions", gap=True)
