"""Pictures of what moves an answer: tornado, waterfall, the gain of more of something, and of more chips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from mowich.show.charts import COLOURS, DECALS, Chart, Range, _base, _text, bar_of_range, bars_of_range, fill
from mowich.show.colours import DASHES, GREY, LESS, LIMIT_MARK, MORE, PAPER, SYMBOLS, SystemLook
from mowich.units import sig

ENDS = (LESS.light, MORE.light)
"""Of the low and the high end of a range."""

SIDE_BY_SIDE: Mapping[str, object] = {"barGap": "0%", "barCategoryGap": "30%"}
"""Bars of a tornado's two ends: below one another, as both may move the answer the same way."""


def tornado(title: str, note: str, bars: Sequence[tuple[str, float, float]], *, unit: str, finding: str = "") -> Chart:
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
                "itemStyle": {"color": ENDS[i - 1], **DECALS[i - 1]},
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
        finding=finding,
    )


def waterfall(
    title: str,
    note: str,
    start: tuple[str, float],
    factors: Sequence[tuple[str, float]],
    end: str,
    *,
    unit: str,
    looks: Mapping[str, SystemLook] | None = None,
    ends: Sequence[Range | None] = (),
    finding: str = "",
) -> Chart:
    """Steps from one value to another: (name, factor) each multiplies what stands before it; the first and the last bar
    stand on zero. ends: range of each factor."""
    values = [start[1]]
    for _, factor in factors:
        values.append(values[-1] * factor)
    spans = [(0.0, start[1]), *pairwise(values), (0.0, values[-1])]
    names = [start[0], *(f"{name} x{sig(factor)}" for name, factor in factors), end]
    known = looks or {}
    steps = [{"color": (MORE if b >= a else LESS).light} for a, b in spans[1:-1]]
    fills = [fill(0, known.get(start[0])), *steps, fill(0, known.get(end))]
    option = _base(
        legend={"bottom": 0, "data": ["gains", "loses"]},
        grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
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
                "data": [{"value": abs(b - a), "itemStyle": own} for (a, b), own in zip(spans, fills, strict=True)],
            },
            *bars_of_range(
                [
                    (before * end[0], before * end[1], i)
                    for i, (before, end) in enumerate(zip(values, ends, strict=False), start=1)
                    if end
                ]
            ),
            *(
                {"name": name, "type": "bar", "stack": "all", "itemStyle": {"color": colour.light}, "data": []}
                for name, colour in (("gains", MORE), ("loses", LESS))
            ),
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
        height=110 + 30 * len(names),
        finding=finding,
    )


def amount_chart(
    title: str,
    note: str,
    lines: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    unit: str,
    finding: str = "",
) -> Chart:
    """What is gained with more of something: a line for each name, of (amount, gain, plan)."""
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "line",
            "symbol": SYMBOLS[i % len(SYMBOLS)],
            "symbolSize": 9,
            "itemStyle": fill(i),
            "lineStyle": {"color": fill(i)["color"], "width": 2},
            "data": [[x, y] for x, y, _ in points],
        }
        for i, (name, points) in enumerate(lines.items())
    ]
    option = _base(
        legend={"bottom": 0, "type": "scroll"},
        grid={"left": 44, "right": 24, "top": 16, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26, "scale": True},
        yAxis={"type": "value", "name": "of today's tokens", "nameLocation": "middle", "nameGap": 48, "scale": True},
        series=series,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", unit, "of today's tokens", "plan"],
        rows=[[name, _text(x), _text(y), plan] for name, points in lines.items() for x, y, plan in points],
        height=340,
        finding=finding,
    )


def scaling_chart(
    title: str,
    note: str,
    lines: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    x: str,
    y: str,
    share: bool = False,
    looks: Mapping[str, SystemLook] | None = None,
    finding: str = "",
) -> Chart:
    """Lines (x, y, what binds) on logarithmic axes: rows told apart by colour, symbol and dash; what binds by the rim
    of the point. share: y is a share, on a linear axis that ends at 1; looks: of rows that are systems."""
    least = min((b for dots in lines.values() for _, b, _ in dots), default=0.1)
    terms = list(dict.fromkeys(term for dots in lines.values() for _, _, term in dots))
    colour = {term: COLOURS[i % len(COLOURS)] for i, term in enumerate(terms)}
    known = looks or {}
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "line",
            "symbol": known[name].symbol if name in known else SYMBOLS[i % len(SYMBOLS)],
            "symbolSize": 10,
            "lineStyle": {"color": _line_colour(name, known), "type": DASHES[i % 3], "width": 1.5},
            "itemStyle": {"color": _line_colour(name, known)},
            "data": [
                {
                    "value": [a, b],
                    "name": f"{name}: {term}",
                    "itemStyle": {
                        "color": _line_colour(name, known),
                        "borderColor": colour[term],
                        "borderWidth": 2.5,
                    },
                }
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
            "itemStyle": {"color": "transparent", "borderColor": colour[term], "borderWidth": 2.5},
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
            "type": "value" if share else "log",
            "name": y,
            "nameLocation": "middle",
            "nameGap": 48,
            **({"max": 1, "min": max(0.0, math.floor(10 * least - 0.5) / 10)} if share else {}),
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
        finding=finding,
    )


def _line_colour(name: str, looks: Mapping[str, SystemLook]) -> str:
    return looks[name].colour.light if name in looks else GREY.light


class Crossing(NamedTuple):
    """A point that a line through zero goes through, with what it is."""

    x: float
    y: float
    words: str


def crossing_lines(
    title: str,
    note: str,
    lines: Mapping[str, Sequence[Crossing]],
    levels: Mapping[str, tuple[float, Range | None, str]],
    *,
    x: str,
    y: str,
    looks: Mapping[str, SystemLook],
    finding: str = "",
) -> Chart:
    """Lines through zero on logarithmic axes, where they cross level ones. lines: of each name the point that its line
    goes through, then those of the ends of its range; levels: (height, its range, what it is)."""
    places = [c.x for points in lines.values() for c in points]
    ends = min(places) / 2, 2 * max(places)
    series: list[dict[str, object]] = []
    for name, points in lines.items():
        colour, symbol = str(fill(0, looks.get(name))["color"]), looks[name].symbol if name in looks else "circle"
        for i, point in enumerate(points):
            style = {"width": 2} if i == 0 else {"width": 1.2, "type": "dashed", "opacity": 0.75}
            series.append(
                {
                    "name": name,
                    "type": "line",
                    "symbol": symbol,
                    "showSymbol": False,
                    "itemStyle": {"color": colour},
                    "lineStyle": {"color": colour, **style},
                    "z": 4,
                    "data": [[a, point.y * a / point.x] for a in ends],
                }
            )
        first = points[0]
        series.append(
            {
                "name": name,
                "type": "scatter",
                "symbol": symbol,
                "symbolSize": 11,
                "itemStyle": {"color": colour, "borderColor": PAPER.light, "borderWidth": 1},
                "z": 5,
                "data": [{"value": [first.x, first.y], "name": first.words}],
            }
        )
    for i, (name, (level, span, _)) in enumerate(levels.items()):
        colour = str(fill(i, looks.get(name))["color"])
        series.append(
            {
                "name": name,
                "type": "line",
                "symbol": looks[name].symbol if name in looks else "circle",
                "symbolSize": 8,
                "itemStyle": {"color": colour},
                "lineStyle": {"color": colour, "width": 2},
                "z": 3,
                "data": [[a, level] for a in ends],
            }
        )
        if span is not None:
            place = ends[1] / 1.15 ** (i + 1)
            series.append(bar_of_range(([place, span[0]], [place, span[1]]), colour, upright=True))
    option = _base(
        legend={"bottom": 0, "data": [*lines, *levels]},
        grid={"left": 44, "right": 32, "top": 16, "bottom": 72, "containLabel": True},
        xAxis={
            "type": "log",
            "name": x,
            "nameLocation": "middle",
            "nameGap": 28,
            "min": ends[0],
            "max": ends[1],
            "axisLabel": {"showMinLabel": False, "showMaxLabel": False},
        },
        yAxis={"type": "log", "name": y, "nameLocation": "middle", "nameGap": 54},
        series=series,
    )
    rows = [[name, c.words, _text(c.x), _text(c.y)] for name, points in lines.items() for c in points]
    rows += [[name, words, "any", _text(level)] for name, (level, _, words) in levels.items()]
    return Chart(title=title, note=note, option=option, head=["", "", x, y], rows=rows, height=380, finding=finding)


def turning_bars(
    title: str, note: str, bars: Sequence[tuple[str, str, float, float, str]], *, unit: str, finding: str = ""
) -> Chart:
    """A tornado of a comparison: (fact, row that it moves most, change at the low end, at the high end, flip in words),
    largest first. Bars at which another row wins are outlined, and say so behind their name."""
    names = [
        (fact if fact.endswith(")") else f"{fact} ({row})") + (f" - {flip}" if flip else "")
        for fact, row, _, _, flip in bars
    ]
    series: list[dict[str, object]] = [
        {
            "name": f"at its {end} end",
            "type": "bar",
            **SIDE_BY_SIDE,
            "itemStyle": {"color": ENDS[i - 2], **DECALS[i - 2]},
            "data": [
                {"value": b[i], "itemStyle": {"borderColor": LIMIT_MARK.light, "borderWidth": 2.5}} if b[4] else b[i]
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
        finding=finding,
    )
