"""The page of two profiles of a kernel, side by side."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.formats import UNKNOWN, number
from mowich.show.page import Page, Result, Run, Table, words
from mowich.units import show


def _measure(table: str, what: str, value: float | None) -> str:
    """A figure of a profile with the unit that its field has; opcodes and lines are nanoseconds."""
    if value is None:
        return UNKNOWN
    if table != "summary":
        return f"{number(value, 1e-3)} us"
    if what.endswith("_time"):
        return show(value, "s")
    if what.endswith("_percent"):
        return f"{number(value)}%"
    if what.endswith("_bytes"):
        return show(value, "B")
    return f"{value:,.0f}" if value == round(value) else number(value)


TITLES = {
    "summary": "Figures",
    "engines": "Engines",
    "causes": "Critical path by cause",
    "opcodes": "Opcodes",
    "lines": "Lines",
}
"""Sections of a comparison -> titles of their tables."""


def _what(r: Result) -> str:
    """What a row is of: of a line also how it was matched, and where it stands."""
    if "how" not in r:
        return str(r["what"])
    places = " -> ".join(dict.fromkeys(x for x in (r["a_line"], r["b_line"]) if x))
    return f"{r['how']}, {places}: {r['text']}"


def diff_page(result: Result, run: Run) -> Page:
    """Two profiles of a kernel, figure by figure."""
    tables = [
        Table(
            title=TITLES[name],
            columns=words(["what", "A", "B", "B/A"]),
            note="Matched by what they say and do; the largest change on the critical path first."
            if name == "lines"
            else "",
            rows=[
                [
                    _what(r),
                    _measure(name, r["what"], r["a"]),
                    _measure(name, r["what"], r["b"]),
                    number(r["ratio"]),
                ]
                for r in result[name]
                if r["a"] or r["b"]
            ],
        )
        for name in TITLES
        if result.get(name)
    ]
    time = next((r for r in result["summary"] if r["what"] == "total_time"), None)
    moved = [r for r in result["opcodes"] if r["ratio"] and r["a"]][:20]
    pictures = (
        [
            charts.stacked_bars(
                "Time of opcodes, B over A",
                "1 is unchanged.",
                [str(r["what"]) for r in moved],
                {"B/A": [r["ratio"] for r in moved]},
                unit="ratio",
            )
        ]
        if moved
        else []
    )
    word = "" if time is None or not time["ratio"] else f"B takes {number(time['ratio'])} times the time of A."
    return Page(
        title="Two profiles compared",
        sentences=(word or "Two profiles, figure by figure.",),
        assumptions=[("A", str(result["a"])), ("B", str(result["b"]))],
        parts=tables,
        charts=pictures,
    )
