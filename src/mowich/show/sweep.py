"""The page of a sweep: every point of a grid."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import number_text
from mowich.show.headline import sweep_headline
from mowich.show.page import Cell, Column, Page, Run, Table, TextCell, estimate_of, figure
from mowich.show.rows import plan_of, terms_text
from mowich.shown import Result
from mowich.studies.ranking import runs
from mowich.units import show_count

_MOST_ROWS = 1000
"""Rows of a page."""

_MOST_LINES = 24
"""Lines of a picture."""

_AXES = ("model", "seq", "batch", "tokens")
"""What may vary beside the system, its chips and what is set."""


def sweep_page(result: Result, run: Run) -> Page:
    """Every point of a grid: cost against time, time against chips, and the table."""
    rows, inputs = result["rows"], result["inputs"]
    return Page(
        title=f"Sweep of {len(rows):,} points",
        sentences=sweep_headline(result).sentences,
        assumptions=[
            ("scenario", str(inputs.get("scenario", ""))),
            ("price term", str(inputs.get("price_term", ""))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(_points(rows),),
        charts=_pictures(rows),
        records=rows,
        inputs=inputs,
    )


def _axis(row: Result, name: str) -> str | TextCell:
    if name == "batch":
        return TextCell(f"{row['batch_seqs']:g}", short=number_text(row["batch_seqs"]))
    return show_count(row["tokens"]) if name == "tokens" else str(row[name])


def _points(rows: Sequence[Result]) -> Table:
    """The axes, those that vary first on a terminal, then each point's answer."""
    several = {a for a in _AXES if len({_axis(r, a) for r in rows}) > 1}
    settings = list(rows[0].get("set") or {}) if rows else []
    short = {k: k if k.startswith("plan.") else ".".join(k.split(".")[-2:]) for k in settings}
    more = "" if len(rows) <= _MOST_ROWS else f" The table shows the first {_MOST_ROWS:,} of {len(rows):,}."
    columns = [
        *(Column(name=a, right=a != "model", wide=a not in several) for a in _AXES),
        *(Column(name=k, short=name) for k, name in short.items()),
        Column(name="system", right=False),
        Column(name="chips"),
        Column(name="step", unit="s", short="step s", format="number"),
        Column(name="MFU", unit="%", short="MFU", format="percent", scale=100.0),
        Column(name="days", format="number"),
        Column(name="$/Mtok", format="number", keep=6),
        Column(name="price", right=False, keep=6),
        Column(name="binds", right=False, keep=4),
        Column(name="plan", right=False, keep=5),
    ]
    return Table(
        title="Points",
        columns=columns,
        rows=[_line(r, i, settings) for i, r in enumerate(rows[:_MOST_ROWS], start=1)],
        note=f"Hover or focus a number for its grade and range.{more}",
    )


def _line(row: Result, place: int, settings: Sequence[str]) -> list[Cell]:
    given = row.get("set") or {}
    own = [number_text(given[k]) if isinstance(given[k], float) else str(given[k]) for k in settings]
    reason = str(row.get("reason") or "")
    return [
        *(_axis(row, a) for a in _AXES),
        *own,
        str(row["system"]),
        str(row["chips_requested"]),
        *(figure(row[m], f"{place}.{m}") for m in ("step_s", "mfu", "days", "usd_per_mtok")),
        terms_text(row),
        str(row["binds"]),
        TextCell(plan_of(row), reason, short=plan_of(row) if row.get("plan") else reason),
    ]


def _pictures(rows: Sequence[Result]) -> list[Chart]:
    several = [k for k in ("model", "seq", "batch_seqs") if len({r[k] for r in rows}) > 1]
    found = [r for r in rows if runs(r)]

    def group(r: Result) -> str:
        return ", ".join([str(r["system"]), *(str(r[k]) if k == "model" else f"{k} {r[k]:g}" for k in several)])

    def grouped(x: str, y: str) -> dict[str, list[tuple[float, float, str]]]:
        out: dict[str, list[tuple[float, float, str]]] = {}
        for r in found:
            a = float(r[x]) if x == "chips_requested" else estimate_of(r[x]).value
            b = estimate_of(r[y]).value
            if a is not None and b is not None:
                out.setdefault(group(r), []).append((a, b, f"{r['chips_requested']} chips, {plan_of(r)}"))
        return {k: sorted(v) for k, v in list(out.items())[:_MOST_LINES]}

    pictures = []
    for title, note, x, y, names in (
        ("Cost against time", "Down and left is better.", "days", "usd_per_mtok", ("days", "$ per million tokens")),
        ("Time of the run against chips", "Both axes logarithmic.", "chips_requested", "days", ("chips", "days")),
        ("MFU against chips", "Of the published dense peak.", "chips_requested", "mfu", ("chips", "MFU")),
    ):
        dots, line = grouped(x, y), x == "chips_requested"
        if dots:
            pictures.append(
                charts.points(title, note, dots, x=names[0], y=names[1], log_x=True, log_y=y != "mfu", line=line)
            )
    return pictures
