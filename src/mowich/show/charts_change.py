"""Pictures of what moves an answer: tornado, waterfall, the gain of more of something, and of more chips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from mowich.show.chart_grammar import (
    COLOURS,
    DECALS,
    WHOLE_LEGEND,
    Range,
    Series,
    bar_marks,
    colour_in,
    digits,
    dot_marks,
    down_the_page,
    fill,
    in_a_plane,
    line_marks,
    number_axis,
    range_marks,
    ranges_over_bars,
    rimmed,
    symbol_in,
)
from mowich.show.charts import Chart
from mowich.show.colours import DASHES, GREY, LESS, LIMIT_MARK, MORE, PAPER, SYMBOLS, SystemLook
from mowich.units import sig

ENDS = (LESS.light, MORE.light)
"""Of the low and the high end of a range."""

SIDE_BY_SIDE: dict[str, object] = {"barGap": "0%", "barCategoryGap": "30%"}
"""Bars of a tornado's two ends: below one another, as both may move the answer the same way."""

_BARE_ENDS: Mapping[str, object] = {"showMinLabel": False, "showMaxLabel": False}
"""An axis that ends between round numbers has no labels there."""


def tornado(title: str, note: str, bars: Sequence[tuple[str, float, float]], *, unit: str, finding: str = "") -> Chart:
    """What moves an answer: (name, change at the low end, change at the high end), largest first."""
    names = [b[0] for b in bars]
    option = _two_ends(names, [b[1] for b in bars], [b[2] for b in bars], unit)
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"at its low end, {unit}", f"at its high end, {unit}"],
        rows=[[n, digits(a), digits(b)] for n, a, b in bars],
        height=110 + 30 * len(bars),
        finding=finding,
    )


def _two_ends(names: Sequence[str], low: Sequence[object], high: Sequence[object], unit: str) -> dict[str, object]:
    """Two bars for each name: the change at the low and at the high end of its range."""
    series = [
        bar_marks(f"at its {end} end", data, {"color": ENDS[i], **DECALS[i]}) | SIDE_BY_SIDE
        for i, (end, data) in enumerate((("low", low), ("high", high)))
    ]
    return down_the_page(names, number_axis(unit), series, bottom=64, legend=WHOLE_LEGEND)


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
    changes = [{"value": abs(b - a), "itemStyle": own} for (a, b), own in zip(spans, fills, strict=True)]
    whiskers = [
        (before * end[0], before * end[1], i)
        for i, (before, end) in enumerate(zip(values, ends, strict=False), start=1)
        if end
    ]
    series = [
        bar_marks("", [min(span) for span in spans], {"color": "transparent"}, stacked=True, silent=True),
        {"name": unit, "type": "bar", "stack": "all", "data": changes},
        *ranges_over_bars(whiskers),
        *(bar_marks(name, [], {"color": c.light}, stacked=True) for name, c in (("gains", MORE), ("loses", LESS))),
    ]
    shown = {**WHOLE_LEGEND, "data": ["gains", "loses"]}
    option = down_the_page(names, number_axis(unit), series, bottom=64, legend=shown)
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", "factor", f"then, {unit}"],
        rows=[
            [start[0], "", digits(start[1])],
            *([name, digits(factor), digits(v)] for (name, factor), v in zip(factors, values[1:], strict=True)),
            [end, "", digits(values[-1])],
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
    series = [
        {
            **line_marks(name, [[x, y] for x, y, _ in points], colour_in(i), symbol=SYMBOLS[i % len(SYMBOLS)]),
            "symbolSize": 9,
            "itemStyle": fill(i),
        }
        for i, (name, points) in enumerate(lines.items())
    ]
    option = in_a_plane(
        number_axis(unit, scale=True),
        number_axis("of today's tokens", 48, scale=True),
        series,
        right=24,
        bottom=64,
        legend={**WHOLE_LEGEND, "type": "scroll"},
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", unit, "of today's tokens", "plan"],
        rows=[[name, digits(x), digits(y), plan] for name, points in lines.items() for x, y, plan in points],
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
    series: list[Series] = []
    for i, (name, dots) in enumerate(lines.items()):
        own = known[name].colour.light if name in known else GREY.light
        data = [
            {"value": [a, b], "name": f"{name}: {term}", "itemStyle": rimmed(own, colour[term], 2.5)}
            for a, b, term in dots
        ]
        symbol, dash = symbol_in(known.get(name), SYMBOLS[i % len(SYMBOLS)]), {"type": DASHES[i % 3]}
        series.append(line_marks(name, data, own, symbol=symbol, width=1.5, style=dash, symbolSize=10))
    series += [
        {
            "name": f"bound by {term}",
            "type": "scatter",
            "symbol": "circle",
            "itemStyle": rimmed("transparent", colour[term], 2.5),
            "data": [],
        }
        for term in terms
    ]
    bounds = {"max": 1, "min": max(0.0, math.floor(10 * least - 0.5) / 10)} if share else {}
    option = in_a_plane(
        number_axis(x, 28, "log", min=50, max=1_200_000, axisLabel=_BARE_ENDS),
        number_axis(y, 48, "value" if share else "log", **bounds),
        series,
        right=32,
        bottom=76,
        legend=WHOLE_LEGEND,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", x, y, "bound by"],
        rows=[[name, f"{a:,.0f}", digits(b), term] for name, dots in lines.items() for a, b, term in dots],
        height=400,
        finding=finding,
    )


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
    series: list[Series] = []
    for name, points in lines.items():
        look = looks.get(name)
        colour, symbol = colour_in(0, look), symbol_in(look)
        for i, point in enumerate(points):
            style = {"width": 2} if i == 0 else {"width": 1.2, "type": "dashed", "opacity": 0.75}
            data = [[a, point.y * a / point.x] for a in ends]
            series.append(line_marks(name, data, colour, symbol=symbol, style=style, showSymbol=False, z=4))
        first = points[0]
        dot = [{"value": [first.x, first.y], "name": first.words}]
        series.append(dot_marks(name, dot, rimmed(colour, PAPER.light, 1), symbol=symbol, size=11, z=5))
    for i, (name, (level, span, _)) in enumerate(levels.items()):
        look = looks.get(name)
        colour = colour_in(i, look)
        flat = [[a, level] for a in ends]
        series.append(line_marks(name, flat, colour, symbol=symbol_in(look), symbolSize=8, z=3))
        if span is not None:
            place = ends[1] / 1.15 ** (i + 1)
            series.append(range_marks(([place, span[0]], [place, span[1]]), colour, upright=True))
    option = in_a_plane(
        number_axis(x, 28, "log", min=ends[0], max=ends[1], axisLabel=_BARE_ENDS),
        number_axis(y, 54, "log"),
        series,
        right=32,
        bottom=72,
        legend={**WHOLE_LEGEND, "data": [*lines, *levels]},
    )
    rows = [[name, c.words, digits(c.x), digits(c.y)] for name, points in lines.items() for c in points]
    rows += [[name, words, "any", digits(level)] for name, (level, _, words) in levels.items()]
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
    outline = {"borderColor": LIMIT_MARK.light, "borderWidth": 2.5}
    low, high = ([{"value": b[i], "itemStyle": outline} if b[4] else b[i] for b in bars] for i in (2, 3))
    option = _two_ends(names, low, high, unit)
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["fact", "moves most", f"at its low end, {unit}", f"at its high end, {unit}", "winner changes"],
        rows=[[fact, row, digits(a), digits(b), flip or "no"] for fact, row, a, b, flip in bars],
        height=110 + 38 * len(bars),
        finding=finding,
    )
