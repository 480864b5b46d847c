"""The page of two profiles of a kernel, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.neuroncore.order import order_sentence
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, number_text
from mowich.show.page import NOTHING, Column, Details, More, Page, Run, Table, paragraphs
from mowich.shown import Result
from mowich.units import show


def _measure(table: str, what: str, value: float | None) -> str:
    """A figure of a profile with the unit that its field has; opcodes and lines are nanoseconds."""
    if value is None:
        return UNKNOWN
    if table != "summary":
        return f"{number_text(value, 1e-3)} us"
    if what.endswith("_time"):
        return show(value, "s")
    if what.endswith("_percent"):
        return f"{number_text(value)}%"
    if what.endswith("_bytes"):
        return show(value, "B")
    return f"{value:,.0f}" if value == round(value) else number_text(value)


_TITLES = {
    "summary": "Figures",
    "engines": "Engines",
    "causes": "Critical path by cause",
    "opcodes": "Opcodes",
}
"""Sections of a comparison -> titles of their tables; lines have a table of their own."""

_MOST = {"summary": 40}
"""Rows of a section that a terminal shows, 20 of others."""


def _section(name: str, rows: Sequence[Result]) -> Table:
    """Figures of one kind."""
    title = _TITLES[name]
    return Table(
        title=title,
        columns=[Column(name=title.lower(), right=False), *(Column(name=side) for side in ("A", "B", "B/A"))],
        rows=[
            [
                str(r["what"]),
                _measure(name, r["what"], r["a"]),
                _measure(name, r["what"], r["b"]),
                NOTHING if r["ratio"] is None else f"{r['ratio']:.3f}",
            ]
            for r in rows
        ],
        most=_MOST.get(name, 20),
        elsewhere="--json or --csv",
    )


def _lines(rows: Sequence[Result]) -> Table:
    """Lines of both versions, those first whose change weighs most; times of the critical path where both know it."""
    has_path = all(any(r[f"{side}_path"] is not None for r in rows) for side in "ab")
    of = "on the critical path" if has_path else "of their instructions"
    lines = [_line(r, has_path=has_path) for r in rows]
    return Table(
        title=f"Lines by change, time {of}",
        columns=[
            Column(name="how", right=False),
            Column(name="line", right=False),
            *(Column(name=side) for side in ("A", "B")),
            Column(name="change"),
            Column(name="engines", right=False, keep=4),
            Column(name="instructions", keep=3),
            Column(name="cause", right=False, keep=2),
            Column(name="text", right=False, keep=1),
        ],
        rows=[[cell or NOTHING for cell in line] for line in lines],
        note="Matched by what they say and do; the largest change on the critical path first.",
        legend=[f"Lines by change, time {of}; matched by what they say and do."],
        most=_MOST_LINES,
        details=Details(
            title="What the lines say",
            when="text",
            rows=[
                (
                    name,
                    [More("", text)],
                    [
                        More("engines", engines),
                        More("instructions", f"{count} instructions"),
                        *([More("cause", cause)] if cause else []),
                    ],
                )
                for _, name, *_, engines, count, cause, text in lines[:_MOST_LINES]
            ],
            instead_of=("engines", "instructions", "cause"),
        ),
        elsewhere="--json or --csv",
    )


def _line(r: Result, *, has_path: bool) -> list[str]:
    """The cells of a line, "" for nothing. has_path: times are those of the critical path."""
    a, b = ((r[f"{side}_path"] if has_path else r[side]) for side in "ab")
    change = (b or 0.0) - (a or 0.0)
    return [
        str(r["how"]),
        " -> ".join(dict.fromkeys(line for line in (r["a_line"], r["b_line"]) if line)),
        *("" if time is None else f"{number_text(time, 1e-3)} us" for time in (a, b)),
        f"{'+' if change > 0 else ''}{number_text(change, 1e-3)} us",
        r["engines"],
        " -> ".join(dict.fromkeys(str(r[f"{side}_count"]) for side in "ab")),
        r["cause"] if has_path and change else "",
        r["text"],
    ]


_MOST_LINES = 20
"""Lines that a terminal shows."""


def kernel_diff_page(result: Result, run: Run) -> Page:
    """Two versions of a kernel, figure by figure."""
    sections = {name: [r for r in result[name] if r["a"] or r["b"]] for name in (*_TITLES, "lines") if result.get(name)}
    order = result.get("order")
    return Page(
        title="Two profiles compared",
        sentences=(_sentence(result), *([order_sentence(order)] if order else [])),
        assumptions=[("A", str(result["a"])), ("B", str(result["b"]))],
        parts=(
            *paragraphs([f"A: {result['a']}; B: {result['b']}"], "caption"),
            *paragraphs([f"not known of {risk}" for risk in order["risks"]] if order else (), "note"),
            *(_lines(rows) if name == "lines" else _section(name, rows) for name, rows in sections.items() if rows),
        ),
        charts=_moved_opcodes(result),
        records=[{"section": name, **r} for name, rows in sections.items() for r in rows],
    )


def _sentence(result: Result) -> str:
    """How many times the time of A the second takes, with the range of that where it is known."""
    time = next((r for r in result["summary"] if r["what"] == "total_time"), None)
    word = f"B takes {number_text(time['ratio'])} times the time of A" if time and time["ratio"] else ""
    ratio = (result.get("order") or {"ratio": {"value": None}})["ratio"]
    if ratio["value"] is not None:
        return f"{word} ({number_text(ratio['low'])} .. {number_text(ratio['high'])})."
    return f"{word}." if word else "Two profiles, figure by figure."


def _moved_opcodes(result: Result) -> list[Chart]:
    """The time of each opcode of B over that of A."""
    moved = [r for r in result["opcodes"] if r["ratio"] and r["a"]][:20]
    if not moved:
        return []
    names, ratios = [str(r["what"]) for r in moved], [r["ratio"] for r in moved]
    return [charts.stacked_bars("Time of opcodes, B over A", "1 is unchanged.", names, {"B/A": ratios}, unit="ratio")]
