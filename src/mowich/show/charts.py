"""Charts as ECharts options: plain dictionaries, so that a page needs no code but ECharts itself.

Every chart carries its numbers as a table too, for readers without pictures. Colours are the eight of Okabe and Ito,
told apart by colour-blind readers; bars are also told apart by order and legend, lines by symbol. Values are SI;
`scale` and the axis name say what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#999999",
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#AA4499",
)
"""Okabe and Ito's eight, then four of Tol's for charts with more parts."""

DECALS: Sequence[Mapping[str, object]] = (
    {},
    {
        "decal": {
            "symbol": "line",
            "dashArrayX": [1, 0],
            "dashArrayY": [3, 3],
            "rotation": 0.6,
            "color": "rgba(0,0,0,0.25)",
        }
    },
)
"""Fill patterns of two ends, told apart without colour."""

SYMBOLS = (
    "circle",
    "rect",
    "triangle",
    "diamond",
    "path://M0 0L10 0L5 8.7Z",
    "path://M0 3L3 3L3 0L7 0L7 3L10 3L10 7L7 7L7 10L3 10L3 7L0 7Z",
    "emptyCircle",
    "emptyTriangle",
)
"""The fifth and sixth are a triangle upside down and a cross; each has its point in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its numbers. option: what ECharts draws; head, rows: the same as a table; height: pixels."""

    title: str
    note: str
    option: Mapping[str, object]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    height: int = 320
    classes: Sequence[str] = field(default_factory=tuple)


def _base(**more: object) -> dict[str, object]:
    return {
        "color": list(COLOURS),
        "aria": {"enabled": True, "decal": {"show": False}},
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True},
        **more,
    }


def _gap(values: Iterable[float]) -> int:
    """Pixels between a vertical axis and its name, so that the name stands beside the widest label."""
    most = max((abs(v) for v in values), default=0.0)
    return max(48, 18 + 7 * len(f"{most:,.0f}"))


def _text(value: float) -> str:
    return f"{value:.4g}"


def stacked_bars(
    title: str,
    note: str,
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    unit: str,
    marks: Sequence[float | None] = (),
    mark: str = "",
) -> Chart:
    """One horizontal bar for each name, made of parts; marks: a limit for each bar, drawn as a line (None: it has
    none)."""
    drawn = _with_other(parts)
    series: list[dict[str, object]] = [
        {
            "name": part,
            "type": "bar",
            "stack": "all",
            "data": list(values),
            "itemStyle": {"color": COLOURS[i % len(COLOURS)], **DECALS[i // len(COLOURS) % 2]},
            "emphasis": {"focus": "series"},
        }
        for i, (part, values) in enumerate(drawn.items())
    ]
    if marks:
        series.append(
            {
                "name": mark,
                "type": "scatter",
                "symbol": "rect",
                "symbolSize": [5, 28],
                "itemStyle": {"color": "#000", "borderColor": "#fff", "borderWidth": 1},
                "z": 5,
                "data": [[m, i] for i, m in enumerate(marks) if m is not None],
            }
        )
    option = _base(
        legend={"bottom": 0},
        grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
        xAxis={
            "type": "value",
            "name": unit,
            "nameLocation": "middle",
            "nameGap": 26,
            **(
                {"max": 100}
                if unit.startswith("% of the") and max(map(sum, zip(*parts.values(), strict=True)), default=0.0) > 99.0
                else {}
            ),
        },
        yAxis={"type": "category", "data": list(names), "inverse": True},
        series=series,
    )
    limits = [["-" if m is None else _text(m)] for m in marks] or [[] for _ in names]
    rows = [[name, *(_text(values[i]) for values in parts.values()), *limits[i]] for i, name in enumerate(names)]
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *(f"{p}, {unit}" for p in parts), *([f"{mark}, {unit}"] if marks else [])],
        rows=rows,
        height=120 + 42 * len(names),
    )


_SMALL = 0.015
"""A part that is less than this of every bar is drawn with the others; the table has it."""


def _with_other(parts: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The parts worth drawing, the rest as "other" where they are many."""
    full = {k: list(v) for k, v in parts.items() if any(v)}
    totals = [sum(v) or 1.0 for v in zip(*full.values(), strict=True)]
    small = [
        k
        for k, v in full.items()
        if len(full) > len(COLOURS) - 2 and all(abs(x) < _SMALL * abs(t) for x, t in zip(v, totals, strict=True))
    ]
    if len(small) < 2:
        return full
    rest = [sum(column) for column in zip(*(full.pop(k) for k in small), strict=True)]
    return {**full, "other": rest}


def points(
    title: str,
    note: str,
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    x: str,
    y: str,
    log_x: bool = False,
    log_y: bool = False,
    line: bool = False,
    diagonal: str = "",
) -> Chart:
    """Dots (x, y, label) by group; with `line` joined in the order given; diagonal: name of a line where y is x."""
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "line" if line else "scatter",
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "symbolSize": 9,
            "data": [{"value": [a, b], "name": label} for a, b, label in dots],
        }
        for i, (name, dots) in enumerate(groups.items())
    ]
    both = [v for dots in groups.values() for a, b, _ in dots for v in (a, b)]
    if diagonal and both:
        series.append(
            {
                "name": diagonal,
                "type": "line",
                "symbol": "none",
                "lineStyle": {"color": "#888", "type": "dashed", "width": 1},
                "itemStyle": {"color": "#888"},
                "data": [[v, v] for v in (min(both), max(both))],
            }
        )
    option = _base(
        legend={"bottom": 0},
        grid={"left": 44, "right": 40, "top": 16, "bottom": 72, "containLabel": True},
        xAxis={"type": "log" if log_x else "value", "name": x, "nameLocation": "middle", "nameGap": 28, "scale": True},
        yAxis={
            "type": "log" if log_y else "value",
            "name": y,
            "nameLocation": "middle",
            "nameGap": _gap((10 if log_y else 1) * b for dots in groups.values() for _, b, _ in dots),
            "scale": True,
        },
        series=series,
    )
    rows = [[name, label, _text(a), _text(b)] for name, dots in groups.items() for a, b, label in dots]
    return Chart(title=title, note=note, option=option, head=["", "", x, y], rows=rows, height=380)


_WIDE = 30.0


def ranges(
    title: str, note: str, bars: Sequence[tuple[str, float, float, float]], *, unit: str, log: bool = False
) -> Chart:
    """Intervals: (name, low, value, high) each; log: logarithmic where they span more than a factor of `_WIDE`."""
    ends = [x for _, low, _, high in bars for x in (low, high)]
    log = log and min(ends, default=1.0) > 0 and max(ends, default=1.0) / min(ends, default=1.0) > _WIDE
    option = _base(
        grid={"left": 8, "right": 32, "top": 8, "bottom": 48, "containLabel": True},
        xAxis={"type": "log" if log else "value", "name": unit, "nameLocation": "middle", "nameGap": 26, "scale": True},
        yAxis={"type": "category", "data": [b[0] for b in bars], "inverse": True},
        series=[
            {
                "name": "90% range",
                "type": "line",
                "data": [[low, i], [high, i]],
                "symbol": "none",
                "lineStyle": {"width": 7, "opacity": 0.7, "color": COLOURS[4]},
            }
            for i, (_, low, _, high) in enumerate(bars)
        ]
        + [
            {
                "name": "value",
                "type": "scatter",
                "symbolSize": 11,
                "data": [[value, i] for i, (_, _, value, _) in enumerate(bars)],
                "itemStyle": {"color": COLOURS[0], "borderColor": "#fff", "borderWidth": 1},
            }
        ],
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"low, {unit}", f"value, {unit}", f"high, {unit}"],
        rows=[[n, _text(a), _text(b), _text(c)] for n, a, b, c in bars],
        height=90 + 34 * len(bars),
    )


SIDE_BY_SIDE: Mapping[str, object] = {"barGap": "0%", "barCategoryGap": "30%"}
"""Bars of a tornado's two ends: below one another, as both may move the answer the same way."""


def tornado(title: str, note: str, bars: Sequence[tuple[str, float, float]], *, unit: str) -> Chart:
    """What moves an answer: (name, change at the low end, change at the high end), largest first."""
    names = [b[0] for b in bars]
    option = _base(
        legend={"bottom": 0},
        grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26},
        yAxis={"type": "category", "data": names, "inverse": True},
        series=[
            {
                "name": f"at its {end} end",
                "type": "bar",
                **SIDE_BY_SIDE,
                "itemStyle": {"color": COLOURS[i - 1], **DECALS[i - 1]},
                "data": [b[i] for b in bars],
            }
            for i, end in ((1, "low"), (2, "high"))
        ],
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"at its low end, {unit}", f"at its high end, {unit}"],
        rows=[[n, _text(a), _text(b)] for n, a, b in bars],
        height=110 + 30 * len(bars),
    )


def waterfall(
    title: str, note: str, start: tuple[str, float], factors: Sequence[tuple[str, float]], end: str, *, unit: str
) -> Chart:
    """Steps from one value to another: (name, factor) each multiplies what stands before it; the first and the last bar
    stand on zero."""
    values = [start[1]]
    for _, factor in factors:
        values.append(values[-1] * factor)
    spans = [(0.0, start[1]), *pairwise(values), (0.0, values[-1])]
    names = [start[0], *(f"{name} x{_text(factor)}" for name, factor in factors), end]
    colours = [COLOURS[0], *(COLOURS[2 if b >= a else 1] for a, b in spans[1:-1]), COLOURS[0]]
    option = _base(
        grid={"left": 8, "right": 24, "top": 8, "bottom": 48, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26},
        yAxis={"type": "category", "data": names, "inverse": True},
        series=[
            {
                "name": "",
                "type": "bar",
                "stack": "all",
                "silent": True,
                "itemStyle": {"color": "transparent"},
                "data": [min(span) for span in spans],
            },
            {
                "name": unit,
                "type": "bar",
                "stack": "all",
                "data": [
                    {"value": abs(b - a), "itemStyle": {"color": colour}}
                    for (a, b), colour in zip(spans, colours, strict=True)
                ],
            },
        ],
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", "factor", f"then, {unit}"],
        rows=[
            [start[0], "", _text(start[1])],
            *([name, _text(factor), _text(v)] for (name, factor), v in zip(factors, values[1:], strict=True)),
            [end, "", _text(values[-1])],
        ],
        height=90 + 30 * len(names),
    )


def amount_chart(title: str, note: str, lines: Mapping[str, Sequence[tuple[float, float, str]]], *, unit: str) -> Chart:
    """What is gained with more of something: a line for each name, of (amount, gain, plan)."""
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "line",
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "symbolSize": 9,
            "color": COLOURS[i % len(COLOURS)],
            "data": [[x, y] for x, y, _ in points],
        }
        for i, (name, points) in enumerate(lines.items())
    ]
    option = _base(
        legend={"bottom": 0, "type": "scroll"},
        grid={"left": 8, "right": 24, "top": 16, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26, "scale": True},
        yAxis={"type": "value", "name": "of today's tokens", "scale": True},
        series=series,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", unit, "of today's tokens", "plan"],
        rows=[[name, _text(x), _text(y), plan] for name, points in lines.items() for x, y, plan in points],
        height=340,
    )


def turning_bars(title: str, note: str, bars: Sequence[tuple[str, str, float, float, str]], *, unit: str) -> Chart:
    """A tornado of a comparison: (fact, row that it moves most, change at the low end, at the high end, flip in words),
    largest first. Bars at which another row wins are outlined, and say so behind their name."""
    names = [f"{fact} ({row})" + (f" - {flip}" if flip else "") for fact, row, _, _, flip in bars]
    series: list[dict[str, object]] = [
        {
            "name": f"at its {end} end",
            "type": "bar",
            **SIDE_BY_SIDE,
            "itemStyle": {"color": COLOURS[i - 2], **DECALS[i - 2]},
            "data": [
                {"value": b[i], "itemStyle": {"borderColor": "#D55E00", "borderWidth": 2}} if b[4] else b[i]
                for b in bars
            ],
        }
        for i, end in ((2, "low"), (3, "high"))
    ]
    option = _base(
        legend={"bottom": 0},
        grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26},
        yAxis={
            "type": "category",
            "data": names,
            "inverse": True,
            "axisLabel": {"width": 330, "overflow": "break", "fontSize": 11},
        },
        series=series,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["fact", "moves most", f"at its low end, {unit}", f"at its high end, {unit}", "winner changes"],
        rows=[[fact, row, _text(a), _text(b), flip or "no"] for fact, row, a, b, flip in bars],
        height=110 + 38 * len(bars),
    )


def scaling_chart(
    title: str,
    note: str,
    lines: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    x: str,
    y: str,
    share: bool = False,
) -> Chart:
    """Lines (x, y, what binds) on logarithmic axes: rows told apart by symbol and dash, what binds by the colour of the
    point. share: y ends at 1."""
    least = min((b for dots in lines.values() for _, b, _ in dots), default=0.1)
    terms = list(dict.fromkeys(term for dots in lines.values() for _, _, term in dots))
    colour = dict(zip(terms, cycle(c for c in COLOURS if c != "#F0E442"), strict=False))
    dashes = ("solid", "dashed", "dotted")
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "line",
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "symbolSize": 11,
            "lineStyle": {"color": "#888", "type": dashes[i % 3], "width": 1.5},
            "itemStyle": {"color": "#888"},
            "data": [
                {"value": [a, b], "name": f"{name}: {term}", "itemStyle": {"color": colour[term]}}
                for a, b, term in dots
            ],
        }
        for i, (name, dots) in enumerate(lines.items())
    ]
    series += [
        {
            "name": f"bound by {term}",
            "type": "scatter",
            "symbol": "circle",
            "itemStyle": {"color": colour[term]},
            "data": [],
        }
        for term in terms
    ]
    option = _base(
        legend={"bottom": 0},
        grid={"left": 44, "right": 32, "top": 16, "bottom": 76, "containLabel": True},
        xAxis={
            "type": "log",
            "name": x,
            "nameLocation": "middle",
            "nameGap": 28,
            "min": 50,
            "max": 1_200_000,
            "axisLabel": {"showMinLabel": False, "showMaxLabel": False},
        },
        yAxis={
            "type": "log",
            "name": y,
            "nameLocation": "middle",
            "nameGap": 48,
            **({"max": 1, "min": max(0.01, math.floor(20 * least - 0.5) / 20)} if share else {}),
        },
        series=series,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", x, y, "bound by"],
        rows=[[name, f"{a:,.0f}", _text(b), term] for name, dots in lines.items() for a, b, term in dots],
        height=400,
    )


def heat(title: str, note: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]], *, unit: str) -> Chart:
    """A share (0 to 1) for each row and column, darker for more."""
    names = list(rows)
    data = [
        [x, y, round(100 * value, 1)] for y, name in enumerate(names) for x, value in enumerate(rows[name]) if value > 0
    ]
    option = _base(
        grid={"left": 8, "right": 16, "top": 8, "bottom": 72, "containLabel": True},
        xAxis={"type": "category", "data": list(columns)},
        yAxis={"type": "category", "data": names, "inverse": True},
        visualMap={
            "min": 0,
            "max": 100,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "inRange": {"color": ["#f0f4f8", "#0072B2"]},
            "text": [unit, ""],
        },
        series=[{"type": "heatmap", "data": data, "label": {"show": True}}],
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *columns],
        rows=[[n, *(_text(v) for v in values)] for n, values in rows.items()],
        height=130 + 34 * len(names),
    )
