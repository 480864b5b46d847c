"""Pictures of what moves an answer: tornado, waterfall, the gain of more of something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from mowich.show.charts import DECALS, Chart, Range, _base, _text, bar_of_range, fill
from mowich.show.colours import LESS, LIMIT_MARK, MORE, SYMBOLS, SystemLook
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
                "data": [{"value": abs(b - a), "itemStyle": own} for (a, b), own in zip(spans, fills, strict=True)],
            },
            *(
                bar_of_range(([before * end[0], i], [before * end[1], i]), LIMIT_MARK.light, upright=False)
                for i, (before, end) in enumerate(zip(values, ends, strict=False), start=1)
                if end
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
        height=90 + 30 * len(names),
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
