"""Pictures of time and of rates: lanes, levels, a roofline, what rises and falls over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.show.chart_grammar import (
    COLOURS,
    WHOLE_LEGEND,
    Series,
    bar_marks,
    digits,
    dot_marks,
    down_the_page,
    fill,
    in_a_plane,
    name_gap,
    number_axis,
    rimmed,
)
from mowich.show.charts import Chart
from mowich.show.colours import LIMIT_MARK, SystemLook
from mowich.sums import float_sum

_AT_ONCE: Mapping[str, object] = {"trigger": "axis", "confine": True}
"""What is told of a place: all that stands there."""


def _time_axis(name: str) -> dict[str, object]:
    """An axis that ends where the data do."""
    return number_axis(name, max="dataMax", axisLabel={"showMaxLabel": False})


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
    legend = {} if set(looks) == set(lanes) else {"legend": {**WHOLE_LEGEND, "icon": "roundRect"}}
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
    bottom = 72 if legend else 48
    option = legend | down_the_page(list(lanes), _time_axis(unit), series, bottom=bottom, tooltip={"show": False})
    busy = {name: float_sum(span[1] - span[0] for span in spans) for name, spans in lanes.items()}
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"first begins, {unit}", f"last ends, {unit}", f"at work, {unit}", "spans"],
        rows=[
            [
                n,
                digits(min((span[0] for span in s), default=0.0)),
                digits(max((span[1] for span in s), default=0.0)),
                digits(busy[n]),
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
    series: list[Series] = [
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
    up = number_axis(y, name_gap(v for _, v in curve))
    option = in_a_plane(_time_axis(x), up, series, right=24, bottom=72, legend=WHOLE_LEGEND, tooltip=_AT_ONCE)
    peak = max((v for _, v in curve), default=0.0)
    at = next((t for t, v in curve if v == peak), 0.0)
    rows = [["peak", digits(at), digits(peak)], *([[limit_name, "-", digits(limit)]] if limit is not None else [])]
    return Chart(title=title, note=note, option=option, head=["", x, y], rows=rows, height=260)


def roofline(title: str, note: str, *, peak: float, bandwidth: float, work: float, achieved: float) -> Chart:
    """FLOP/s that a kernel may reach at its work per byte, and what it reaches. peak: FLOP/s; bandwidth: B/s; work:
    FLOP/B; achieved: FLOP/s."""
    ridge = peak / bandwidth
    low, high = min(work, ridge) / 8, max(work, ridge) * 8
    T = 1e-12
    roof = [[low, low * bandwidth * T], [ridge, peak * T], [high, peak * T]]
    ceiling = [work, min(peak, work * bandwidth) * T]
    series: list[Series] = [
        {
            "name": "roof: DMA rate, then Tensor Engine",
            "type": "line",
            "symbol": "none",
            "lineStyle": {"width": 2.5},
            "itemStyle": {"color": COLOURS[0]},
            "data": roof,
        },
        dot_marks("this kernel", [[work, achieved * T]], {"color": LIMIT_MARK.light}, symbol="diamond", size=18),
        dot_marks("its ceiling", [ceiling], rimmed("transparent", COLOURS[0], 2), symbol="circle", size=12),
    ]
    across, up = number_axis("FLOP per byte of HBM", kind="log"), number_axis("TFLOP/s", 44, "log")
    option = in_a_plane(across, up, series, right=32, bottom=72, legend=WHOLE_LEGEND)
    rows = [
        ["this kernel", digits(work), digits(achieved * T)],
        ["its ceiling", digits(work), digits(ceiling[1])],
        ["ridge", digits(ridge), digits(peak * T)],
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
    series = [
        bar_marks(name, list(values), fill(i, (looks or {}).get(name)), stacked=True, barCategoryGap="8%")
        for i, (name, values) in enumerate(parts.items())
    ]
    below = {"type": "category", "data": list(periods)}
    up = number_axis(unit, name_gap(map(sum, zip(*parts.values(), strict=True))))
    option = in_a_plane(below, up, series, right=16, bottom=56, legend=WHOLE_LEGEND, tooltip=_AT_ONCE)
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *periods],
        rows=[[n, *(digits(v) for v in values)] for n, values in parts.items()],
        finding=finding,
    )
