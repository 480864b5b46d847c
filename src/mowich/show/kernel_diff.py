"""The page of two profiles of a kernel, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.neuroncore.order import order_sentence
from mowich.show import charts
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
    names = [" -> ".join(dict.fromkeys(x for x in (r["a_line"], r["b_line"]) if x)) for r in rows]
    a, b = ("a_path", "b_path") if has_path else ("a", "b")
    changes = [(r[b] or 0.0) - (r[a] or 0.0) for r in rows]
    counts = [f"{r['a_count']} -> {r['b_count']}" if r["a_count"] != r["b_count"] else str(r["b_count"]) for r in rows]
    causes = [r["cause"] if has_path and change else "" for r, change in zip(rows, changes, strict=True)]

    def us(value: float | None) -> str:
        return NOTHING if value is None else f"{number_text(value, 1e-3)} us"

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
        rows=[
            [
                str(r["how"]),
                name,
                us(r[a]),
                us(r[b]),
                f"{'+' if change > 0 else ''}{number_text(change, 1e-3)} us",
                r["engines"] or NOTHING,
                count,
                cause or NOTHING,
                r["text"] or NOTHING,
            ]
            for r, name, change, count, cause in zip(rows, names, changes, counts, causes, strict=True)
        ],
        note="Matched by what they say and do; the largest change on the critical path first.",
        legend=[f"Lines by change, time {of}; matched by what they say and do."],
        most=_MOST_LINES,
        details=Details(
            title="What the lines say",
            when="text",
            rows=[
                (
                    name,
                    [More("", r["text"])],
                    [
                        More("engines", r["engines"]),
                        More("instructions", f"{count} instructions"),
                        *([More("cause", cause)] if cause else []),
                    ],
                )
                for r, name, count, cause in zip(rows, names, counts, causes, strict=True)
            ][:_MOST_LINES],
            instead_of=("engines", "instructions", "cause"),
        ),
        elsewhere="--json or --csv",
    )


_MOST_LINES = 20
"""Lines that a terminal shows."""


def kernel_diff_page(result: Result, run: Run) -> Page:
    """Two versions of a kernel, figure by figure."""
    sections = {name: [r for r in result[name] if r["a"] or r["b"]] for name in (*_TITLES, "lines") if result.get(name)}
    tables = [_lines(rows) if name == "lines" else _section(name, rows) for name, rows in sections.items() if rows]
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
    word = "" if time is None or not time["ratio"] else f"B takes {number_text(time['ratio'])} times the time of A."
    order = result.get("order")
    if order and order["ratio"]["value"] is not None:
        low, high = (number_text(order["ratio"][end]) for end in ("low", "high"))
        word = f"{word[:-1]} ({low} .. {high})."
    return Page(
        title="Two profiles compared",
        sentences=(word or "Two profiles, figure by figure.", *([order_sentence(order)] if order else [])),
        assumptions=[("A", str(result["a"])), ("B", str(result["b"]))],
        parts=(
            *paragraphs([f"A: {result['a']}; B: {result['b']}"], "caption"),
            *paragraphs([f"not known of {risk}" for risk in order["risks"]] if order else (), "note"),
            *tables,
        ),
        charts=pictures,
        records=[{"section": name, **r} for name, rows in sections.items() for r in rows],
    )
