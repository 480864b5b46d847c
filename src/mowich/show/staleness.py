"""The page of facts that nobody has looked at for long: by source, and each with what to search for."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show.formats import UNKNOWN
from mowich.show.page import Cell, Column, Page, Run, Table, Words
from mowich.shown import Result

_MOST = 30
"""Facts that a terminal shows; all are in JSON and CSV."""


def staleness_page(result: Result, run: Run) -> Page:
    """Old facts by source, then one by one."""
    rows, inputs = result["rows"], result["inputs"]
    days = f"{inputs['older_than_s'] / 86400:g} days"
    if not rows:
        said = (
            f"The last look at each of {result['facts']} facts is at most {days} old on {inputs['as_of']}"
            f" (the oldest {result['oldest_days']} days)."
        )
        return Page(title="Stale facts", sentences=("No fact is stale.", said), parts=(), records=rows, inputs=inputs)
    said = (
        f"They were last looked at more than {days} before {inputs['as_of']}; the oldest look is"
        f" {result['oldest_days']} days old."
    )
    note = "A look is the day on which the source was last read, or the later one that the fact says (confirmed)."
    return Page(
        title="Stale facts",
        sentences=(f"{len(rows)} of {result['facts']} facts are stale.", said),
        parts=(_by_source(rows), _by_fact(rows), Words(text=note, kind="basis", gap=True)),
        records=rows,
        inputs=inputs,
    )


def _age(row: Result) -> str:
    return UNKNOWN if row["age_days"] is None else str(row["age_days"])


def _by_source(rows: Sequence[Result]) -> Table:
    """What to open again: sources with the number of facts that rest on them."""
    found: dict[str, list[Result]] = {}
    for row in rows:
        found.setdefault(str(row["source"]), []).append(row)
    lines: list[list[Cell]] = [
        [
            source or "(none)",
            str(of[0]["confirmed"] or UNKNOWN),
            _age(of[0]),
            str(len(of)),
            str(of[0]["host"] or "-"),
            str(of[0]["title"] or "what was searched for and not found"),
        ]
        for source, of in found.items()
    ]
    columns = [
        Column(name="source", right=False),
        Column(name="last look", right=False),
        Column(name="age", unit="days"),
        Column(name="facts"),
        Column(name="host", right=False, keep=50),
        Column(name="title", right=False, keep=40),
    ]
    return Table(title="By source", columns=columns, rows=lines, most=_MOST, note="What to open again.")


def _by_fact(rows: Sequence[Result]) -> Table:
    """Facts, the oldest look first."""
    lines: list[list[Cell]] = [
        [str(row["path"]), _age(row), str(row["source"] or "-"), str(row["search"])] for row in rows
    ]
    columns = [
        Column(name="fact", right=False),
        Column(name="age", unit="days"),
        Column(name="source", right=False, keep=40),
        Column(name="search for", right=False, keep=50),
    ]
    return Table(title="By fact", columns=columns, rows=lines, most=_MOST, note="What to search for.")
