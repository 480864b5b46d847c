"""The page of `mowich headroom`."""

from __future__ import annotations

from mowich.show.page import Column, Page, Run, Table
from mowich.shown import Result
from mowich.units import show_gib


def page(result: Result, run: Run) -> Page:
    """A row for each system."""
    rows = [(row["system"], show_gib(row["free"]["value"])) for row in result["rows"]]
    table = Table(title="Memory", columns=(Column(name="system"), Column(name="free")), rows=rows)
    return Page(title="Headroom", sentences=(f"{rows[0][1]} are free.",), parts=(table,), records=result["rows"])
