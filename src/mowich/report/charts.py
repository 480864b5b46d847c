"""Charts as ECharts options: plain dictionaries, so that a page needs no code but ECharts itself.

Every chart carries its numbers as a table too, for readers without pictures. Colours are the eight of Okabe and Ito, told apart by colour-blind
readers; bars are also told apart by order and legend, lines by symbol. Values are SI; `scale` and the axis name say what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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

SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "emptyCircle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its numbers. option: what ECharts draws; head, rows: the same as a table; height: pixels."""

    title: str
    note: str
    option: Mapping[str, Any]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    height: int = 320
    classes: Sequence[str] = field(default_factory=tuple)


def _base(**more: Any) -> dict[str, Any]:
    return {
        "color": list(COLOURS),
        "aria": {"enabled": True, "decal": {"show": False}},
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True},
        **more,
    }


def _text(value: float) -> str:
    return f"{value:.4g}"


def stacked_bars(title: str, note: str, names: Sequence[str], parts: Mapping[str, Sequence[float]], *, unit: str, marks: Sequence[float | None] = (),
                 mark: str = "") -> Chart:  # fmt: skip
    """One horizontal bar for each name, made of parts; marks: a limit for each bar, drawn as a line."""
    series: list[dict[str, Any]] = [
        {"name": part, "type": "bar", "stack": "all", "data": list(values), "emphasis": {"focus": "series"}} for part, values in parts.items() if any(values)
    ]  # fmt: skip
    if marks:
        series.append({"name": mark, "type": "scatter", "symbol": "rect", "symbolSize": [3, 26], "itemStyle": {"color": "#000"}, "z": 5,
                       "data": [[m, i] for i, m in enumerate(marks) if m is not None]})  # fmt: skip
    option = _base(
        legend={"type": "scroll", "bottom": 0}, grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26}, yAxis={"type": "category", "data": list(names), "inverse": True}, series=series,
    )  # fmt: skip
    rows = [
        [name, *(_text(values[i]) for values in parts.values()), *([_text(marks[i] or 0.0)] if marks else [])]
        for i, name in enumerate(names)
    ]
    return Chart(title=title, note=note, option=option, head=["", *(f"{p}, {unit}" for p in parts), *([f"{mark}, {unit}"] if marks else [])], rows=rows,
                 height=120 + 42 * len(names))  # fmt: skip


def points(title: str, note: str, groups: Mapping[str, Sequence[tuple[float, float, str]]], *, x: str, y: str, log_x: bool = False, log_y: bool = False,
           line: bool = False) -> Chart:  # fmt: skip
    """Dots (x, y, label) by group; with `line` joined in the order given."""
    series = [
        {"name": name, "type": "line" if line else "scatter", "symbol": SYMBOLS[i % len(SYMBOLS)], "symbolSize": 9, "data": [{"value": [a, b], "name": label} for a, b, label in dots]}
        for i, (name, dots) in enumerate(groups.items())
    ]  # fmt: skip
    option = _base(
        legend={"type": "scroll", "bottom": 0}, grid={"left": 16, "right": 24, "top": 16, "bottom": 72, "containLabel": True},
        xAxis={"type": "log" if log_x else "value", "name": x, "nameLocation": "middle", "nameGap": 28, "scale": True},
        yAxis={"type": "log" if log_y else "value", "name": y, "nameLocation": "middle", "nameGap": 48, "scale": True}, series=series,
    )  # fmt: skip
    rows = [[name, label, _text(a), _text(b)] for name, dots in groups.items() for a, b, label in dots]
    return Chart(title=title, note=note, option=option, head=["", "", x, y], rows=rows, height=380)


def ranges(
    title: str, note: str, bars: Sequence[tuple[str, float, float, float]], *, unit: str, log: bool = False
) -> Chart:
    """Intervals: (name, low, value, high) each."""
    option = _base(
        grid={"left": 8, "right": 32, "top": 8, "bottom": 48, "containLabel": True},
        xAxis={"type": "log" if log else "value", "name": unit, "nameLocation": "middle", "nameGap": 26, "scale": True},
        yAxis={"type": "category", "data": [b[0] for b in bars], "inverse": True},
        series=[
            {"name": "90% range", "type": "line", "data": [[low, i], [high, i]], "symbol": "none", "lineStyle": {"width": 6, "opacity": 0.45, "color": COLOURS[0]}}
            for i, (_, low, _, high) in enumerate(bars)
        ] + [{"name": "value", "type": "scatter", "symbolSize": 11, "data": [[value, i] for i, (_, _, value, _) in enumerate(bars)], "itemStyle": {"color": COLOURS[0]}}],
    )  # fmt: skip
    return Chart(title=title, note=note, option=option, head=["", f"low, {unit}", f"value, {unit}", f"high, {unit}"],
                 rows=[[n, _text(a), _text(b), _text(c)] for n, a, b, c in bars], height=90 + 34 * len(bars))  # fmt: skip


def tornado(title: str, note: str, bars: Sequence[tuple[str, float, float]], *, unit: str) -> Chart:
    """What moves an answer: (name, change at the low end, change at the high end), largest first."""
    names = [b[0] for b in bars]
    option = _base(
        legend={"bottom": 0}, grid={"left": 8, "right": 24, "top": 8, "bottom": 64, "containLabel": True},
        xAxis={"type": "value", "name": unit, "nameLocation": "middle", "nameGap": 26}, yAxis={"type": "category", "data": names, "inverse": True},
        series=[{"name": f"at its {end} end", "type": "bar", "stack": "t", "data": [b[i] for b in bars]} for i, end in ((1, "low"), (2, "high"))],
    )  # fmt: skip
    return Chart(title=title, note=note, option=option, head=["", f"at its low end, {unit}", f"at its high end, {unit}"], rows=[[n, _text(a), _text(b)] for n, a, b in bars],
                 height=110 + 30 * len(bars))  # fmt: skip


def over_time(
    title: str,
    note: str,
    periods: Sequence[str],
    lines: Mapping[str, Sequence[float]],
    *,
    unit: str,
    stacked: bool = True,
) -> Chart:
    """Amounts over periods, stacked areas or lines."""
    series = [
        {"name": name, "type": "line", "step": "middle", "symbol": SYMBOLS[i % len(SYMBOLS)], "data": list(values), **({"stack": "all", "areaStyle": {"opacity": 0.6}} if stacked else {})}
        for i, (name, values) in enumerate(lines.items())
    ]  # fmt: skip
    option = _base(
        legend={"type": "scroll", "bottom": 0}, grid={"left": 16, "right": 16, "top": 24, "bottom": 56, "containLabel": True}, xAxis={"type": "category", "data": list(periods)},
        yAxis={"type": "value", "name": unit}, series=series, tooltip={"trigger": "axis", "confine": True},
    )  # fmt: skip
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *periods],
        rows=[[n, *(_text(v) for v in values)] for n, values in lines.items()],
    )


def heat(title: str, note: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]], *, unit: str) -> Chart:
    """A share (0 to 1) for each row and column, darker for more."""
    names = list(rows)
    data = [
        [x, y, round(100 * value, 1)] for y, name in enumerate(names) for x, value in enumerate(rows[name]) if value > 0
    ]
    option = _base(
        grid={"left": 8, "right": 16, "top": 8, "bottom": 72, "containLabel": True}, xAxis={"type": "category", "data": list(columns)},
        yAxis={"type": "category", "data": names, "inverse": True},
        visualMap={"min": 0, "max": 100, "orient": "horizontal", "left": "center", "bottom": 0, "inRange": {"color": ["#f0f4f8", "#0072B2"]}, "text": [unit, ""]},
        series=[{"type": "heatmap", "data": data, "label": {"show": True}}],
    )  # fmt: skip
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *columns],
        rows=[[n, *(_text(v) for v in values)] for n, values in rows.items()],
        height=130 + 34 * len(names),
    )
