"""Pictures of time and of rates: lanes, levels, a roofline, what rises and falls over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.show.charts import COLOURS, Chart, _base, _gap, _text, fill
from mowich.show.colours import LIMIT_MARK, SystemLook
from mowich.sums import float_sum


def timeline_chart(
    title: str,
    note: str,
    lanes: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    unit: str,
    looks: Mapping[str, Mapping[str, object]],
) -> Chart:
    """Who does what when: (start, end, what) spans, one lane each. looks: of all that is done, colour and opacity, in
    the order of the legend; there is none where each lane does one thing."""
    drawn: dict[str, list[list[float | None]]] = {what: [] for what in looks}
    for i, spans in enumerate(lanes.values()):
        for start, end, what in spans:
            drawn[what] += [[start, i], [end, i], [None, None]]
    legend = {} if set(looks) == set(lanes) else {"legend": {"bottom": 0, "icon": "roundRect"}}
    series = [
        {
            "name": what,
            "type": "line",
            "symbol": "none",
            "itemStyle": looks[what],
            "lineStyle": {"width": 16, "cap": "butt", **looks[what]},
            "data": data,
            "connectNulls": False,
        }
        for what, data in drawn.items()
    ]
    option = _base(
        **legend,
        grid={"left": 8, "right": 24, "top": 8, "bottom": 72 if legend else 48, "containLabel": True},
        xAxis={
            "type": "value",
            "name": unit,
            "nameLocation": "middle",
            "nameGap": 26,
            "max": "dataMax",
            "axisLabel": {"showMaxLabel": False},
        },
        yAxis={"type": "category", "data": list(lanes), "inverse": True},
        series=series,
        tooltip={"show": False},
    )
    busy = {name: float_sum(span[1] - span[0] for span in spans) for name, spans in lanes.items()}
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"first begins, {unit}", f"last ends, {unit}", f"at work, {unit}", "spans"],
        rows=[
            [
                n,
                _text(min((span[0] for span in s), default=0.0)),
                _text(max((span[1] for span in s), default=0.0)),
                _text(busy[n]),
                str(len(s)),
            ]
            for n, s in lanes.items()
        ],
        height=(104 if legend else 80) + 34 * len(lanes),
    )


def levels(
    title: str,
    note: str,
    curve: Sequence[tuple[float, float]],
    *,
    x: str,
    y: str,
    limit: float | None = None,
    limit_name: str = "capacity",
) -> Chart:
    """One amount over time, in steps, against a limit."""
    series: list[dict[str, object]] = [
        {
            "name": y,
            "type": "line",
            "step": "end",
            "symbol": "none",
            "areaStyle": {"opacity": 0.35},
            "itemStyle": {"color": COLOURS[0]},
            "data": [list(p) for p in curve],
        }
    ]
    if limit is not None:
        ends = [curve[0][0], curve[-1][0]] if curve else [0, 1]
        series.append(
            {
                "name": limit_name,
                "type": "line",
                "symbol": "none",
                "lineStyle": {"type": "dashed"},
                "itemStyle": {"color": LIMIT_MARK.light},
                "data": [[e, limit] for e in ends],
            }
        )
    option = _base(
        legend={"bottom": 0},
        grid={"left": 44, "right": 24, "top": 16, "bottom": 72, "containLabel": True},
        tooltip={"trigger": "axis", "confine": True},
        xAxis={
            "type": "value",
            "name": x,
            "nameLocation": "middle",
            "nameGap": 26,
            "max": "dataMax",
            "axisLabel": {"showMaxLabel": False},
        },
        yAxis={"type": "value", "name": y, "nameLocation": "middle", "nameGap": _gap(v for _, v in curve)},
        series=series,
    )
    peak = max((v for _, v in curve), default=0.0)
    at = next((t for t, v in curve if v == peak), 0.0)
    rows = [["peak", _text(at), _text(peak)], *([[limit_name, "-", _text(limit)]] if limit is not None else [])]
    return Chart(title=title, note=note, option=option, head=["", x, y], rows=rows, height=260)


def roofline(title: str, note: str, *, peak: float, bandwidth: float, work: float, achieved: float) -> Chart:
    """FLOP/s that a kernel may reach at its work per byte, and what it reaches. peak: FLOP/s; bandwidth: B/s; work:
    FLOP/B; achieved: FLOP/s."""
    ridge = peak / bandwidth
    low, high = min(work, ridge) / 8, max(work, ridge) * 8
    T = 1e-12
    roof = [[low, low * bandwidth * T], [ridge, peak * T], [high, peak * T]]
    series = [
        {
            "name": "roof: DMA rate, then Tensor Engine",
            "type": "line",
            "symbol": "none",
            "lineStyle": {"width": 2.5},
            "itemStyle": {"color": COLOURS[0]},
            "data": roof,
        },
        {
            "name": "this kernel",
            "type": "scatter",
            "symbol": "diamond",
            "symbolSize": 18,
            "itemStyle": {"color": LIMIT_MARK.light},
            "data": [[work, achieved * T]],
        },
        {
            "name": "its ceiling",
            "type": "scatter",
            "symbol": "circle",
            "symbolSize": 12,
            "itemStyle": {"color": "transparent", "borderColor": COLOURS[0], "borderWidth": 2},
            "data": [[work, min(peak, work * bandwidth) * T]],
        },
    ]
    option = _base(
        legend={"bottom": 0},
        grid={"left": 44, "right": 32, "top": 16, "bottom": 72, "containLabel": True},
        xAxis={"type": "log", "name": "FLOP per byte of HBM", "nameLocation": "middle", "nameGap": 26},
        yAxis={"type": "log", "name": "TFLOP/s", "nameLocation": "middle", "nameGap": 44},
        series=series,
    )
    rows = [
        ["this kernel", _text(work), _text(achieved * T)],
        ["its ceiling", _text(work), _text(min(peak, work * bandwidth) * T)],
        ["ridge", _text(ridge), _text(peak * T)],
    ]
    return Chart(title=title, note=note, option=option, head=["", "FLOP/B", "TFLOP/s"], rows=rows, height=340)


def over_time(
    title: str,
    note: str,
    periods: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    *,
    unit: str,
    looks: Mapping[str, SystemLook] | None = None,
    finding: str = "",
) -> Chart:
    """Amounts in each period, stacked; looks: of parts that are systems."""
    series: list[dict[str, object]] = [
        {
            "name": name,
            "type": "bar",
            "stack": "all",
            "barCategoryGap": "8%",
            "itemStyle": fill(i, (looks or {}).get(name)),
            "data": list(values),
        }
        for i, (name, values) in enumerate(parts.items())
    ]
    option = _base(
        legend={"bottom": 0},
        grid={"left": 44, "right": 16, "top": 16, "bottom": 56, "containLabel": True},
        xAxis={"type": "category", "data": list(periods)},
        yAxis={
            "type": "value",
            "name": unit,
            "nameLocation": "middle",
            "nameGap": _gap(map(sum, zip(*parts.values(), strict=True))),
        },
        series=series,
        tooltip={"trigger": "axis", "confine": True},
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *periods],
        rows=[[n, *(_text(v) for v in values)] for n, values in parts.items()],
        finding=finding,
    )
