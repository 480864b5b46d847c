"""Charts as ECharts options: plain dictionaries, so that a page needs no code but ECharts itself.

Every chart carries its numbers as a table too, for readers without pictures. Colours are those of `colours`, in their
forms for light paper; systems are also told apart by symbol, bars by order and legend. Values are SI; `scale` and the
axis name say what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mowich.show.colours import DASHES, GREY, GROUPS, HATCH, LIMIT_MARK, PAPER, PART_COLOURS, SYMBOLS, SystemLook

COLOURS: Sequence[str] = [colour.light for colour in PART_COLOURS]
"""Of what is no system and no time."""

DECALS: Sequence[Mapping[str, object]] = (
    {},
    {
        "decal": {
            "symbol": "line",
            "dashArrayX": [1, 0],
            "dashArrayY": [3, 3],
            "rotation": 0.6,
            "color": HATCH.light,
        }
    },
)
"""Fill patterns: none, and hatched, for announced parts and where colours come round again."""

Option = Mapping[str, object]
"""What ECharts draws."""

Range = tuple[float, float]
"""(low, high)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its numbers. title: what it shows; finding: what one sees in it, "" where nothing stands out;
    option: what ECharts draws; views: the same drawn in other ways, by what they are called, the first of them the name
    of `option`; head, rows: the same as a table; height: pixels; command: what makes it, "" that of its page."""

    title: str
    note: str
    option: Option
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    height: int = 320
    finding: str = ""
    views: Mapping[str, Option] = field(default_factory=dict)
    command: str = ""

    @property
    def whole_note(self) -> str:
        """What stands below the heading: the note, after the title where a finding stands in its place."""
        return f"{self.title}. {self.note}".strip() if self.finding else self.note


def fill(i: int, look: SystemLook | None = None) -> dict[str, object]:
    """The fill of the i-th of several, or of a system."""
    if look is not None:
        return {
            "color": look.colour.light,
            "borderColor": PAPER.light,
            "borderWidth": 1,
            **DECALS[look.is_announced],
        }
    return {"color": COLOURS[i % len(COLOURS)], **DECALS[i // len(COLOURS) % 2]}


def bar_of_range(ends: tuple[Sequence[float], Sequence[float]], colour: str, *, upright: bool) -> dict[str, object]:
    """An error bar from one point to another, with caps."""
    return {
        "name": RANGE,
        "type": "line",
        "data": [list(end) for end in ends],
        "symbol": "rect",
        "symbolSize": [9, 1.5] if upright else [1.5, 9],
        "lineStyle": {"width": 1.5, "color": colour, "opacity": 0.85},
        "itemStyle": {"color": colour},
        "silent": True,
        "tooltip": {"show": False},
    }


def bars_of_range(ends: Sequence[tuple[float, float, int]]) -> list[dict[str, object]]:
    """Error bars (low, high, place) over filled bars: each on a rim in the colour of the page, so that it is seen on
    bars of any colour."""
    rims = [
        {**bar_of_range(([low, i], [high, i]), PAPER.light, upright=False), "name": "rim", "symbolSize": [4, 12]}
        for low, high, i in ends
    ]
    for rim in rims:
        rim["lineStyle"] = {"width": 4, "color": PAPER.light, "opacity": 0.7}
    return [*rims, *(bar_of_range(([low, i], [high, i]), LIMIT_MARK.light, upright=False) for low, high, i in ends)]


RANGE = "90% range"
FOCUSED = "dots "
"""Begins the id of a series whose dots the page lets the keyboard reach (web/static/charts.js)."""


def legend_for(names: Iterable[str], own_colour: Iterable[str] = ()) -> dict[str, object]:
    """A legend of some series only. own_colour: of which each bar has the colour of its system: they are an empty box,
    or the legend would show a colour that no bar has."""
    hollow = set(own_colour)
    data: list[object] = [
        {"name": n, "itemStyle": {"color": "transparent", "borderColor": GREY.light, "borderWidth": 1.5}}
        if n in hollow
        else n
        for n in dict.fromkeys(names)
    ]
    return {"bottom": 0, "data": data}


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
    fills: Mapping[str, Mapping[str, object]] | None = None,
    looks: Mapping[str, SystemLook] | None = None,
    ends: Sequence[Range | None] = (),
    finding: str = "",
    shares: bool = False,
    row_px: int = 42,
) -> Chart:
    """One horizontal bar for each name, made of parts; marks: a limit for each bar, drawn as a line (None: it has
    none); fills: of parts that have their own; looks: of parts or bars that are systems; ends: the range of each whole
    bar; shares: may be drawn as shares of the whole too; row_px: height of a bar with its gap."""
    drawn = _with_other(parts)
    known = looks or {}
    series: list[dict[str, object]] = []
    for i, (part, values) in enumerate(drawn.items()):
        own = (fills or {}).get(part) or fill(i, known.get(part))
        data: list[object] = list(values)
        if known and part not in known and part not in (fills or {}):
            data = [
                {"value": v, "itemStyle": fill(0, known[n])} if n in known else v
                for n, v in zip(names, values, strict=True)
            ]
        series.append(
            {
                "name": part,
                "type": "bar",
                "stack": "all",
                "data": data,
                "itemStyle": own,
                "emphasis": {"focus": "series"},
            }
        )
    if marks:
        series.append(
            {
                "name": mark,
                "type": "scatter",
                "symbol": "rect",
                "symbolSize": [5, 28],
                "itemStyle": {"color": LIMIT_MARK.light, "borderColor": "#fff", "borderWidth": 1},
                "z": 5,
                "data": [[m, i] for i, m in enumerate(marks) if m is not None],
            }
        )
    own_colour = [p for p in drawn if set(names) & set(known) and p not in known and p not in (fills or {})]
    shown = [*drawn, *([mark] if marks else [])]
    legend = legend_for(shown, own_colour) | {"show": len(shown) > 1}  # of a single part the axis says the name
    whiskers = bars_of_range([(*end, i) for i, end in enumerate(ends) if end])
    option = _bars(names, unit, [*series, *whiskers], legend, parts)
    views: dict[str, Option] = {}
    if shares:
        views = {unit: option, "100%": _bars(names, "% of the whole", _shared(series, drawn), legend, parts)}
    limits = [["-" if m is None else _text(m)] for m in marks] or [[] for _ in names]
    spans = [[_text(e[0]), _text(e[1])] if e else ["-", "-"] for e in ends] or [[] for _ in names]
    rows = [
        [name, *(_text(values[i]) for values in parts.values()), *limits[i], *spans[i]] for i, name in enumerate(names)
    ]
    return Chart(
        title=title,
        note=note,
        option=option,
        head=[
            "",
            *(f"{p}, {unit}" for p in parts),
            *([f"{mark}, {unit}"] if marks else []),
            *([f"low, {unit}", f"high, {unit}"] if ends else []),
        ],
        rows=rows,
        height=(120 if legend["show"] else 100) + row_px * len(names),
        finding=finding,
        views=views,
    )


def _bars(
    names: Sequence[str],
    unit: str,
    series: Sequence[Mapping[str, object]],
    legend: Mapping[str, object],
    parts: Mapping[str, Sequence[float]],
) -> dict[str, object]:
    whole = unit == "% of the whole" or (
        unit.startswith("% of the") and max(map(sum, zip(*parts.values(), strict=True)), default=0.0) > 99.0
    )
    return _base(
        legend=legend,
        grid={"left": 8, "right": 24, "top": 8, "bottom": 64 if legend["show"] else 44, "containLabel": True},
        xAxis={
            "type": "value",
            "name": unit,
            "nameLocation": "middle",
            "nameGap": 26,
            **({"max": 100} if whole else {}),
        },
        yAxis={"type": "category", "data": list(names), "inverse": True},
        series=series,
    )


def _shared(series: Sequence[Mapping[str, object]], parts: Mapping[str, Sequence[float]]) -> list[Mapping[str, object]]:
    """The same bars, each as long as the whole."""
    totals = [sum(v) or 1.0 for v in zip(*parts.values(), strict=True)]
    return [
        {**s, "data": [round(100 * v / t, 2) for v, t in zip(parts[str(s["name"])], totals, strict=True)]}
        for s in series
        if s["name"] in parts
    ]


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
    looks: Mapping[str, SystemLook] | None = None,
    ends: Mapping[str, Sequence[tuple[Range | None, Range | None]]] | None = None,
    bands: Mapping[str, Range] | None = None,
    limit: tuple[str, float] | None = None,
    hollow: Mapping[str, Sequence[tuple[float, float, str]]] | None = None,
    hollow_is: str | Mapping[str, str] = "measured",
    from_zero: bool = False,
    answers: Mapping[str, tuple[tuple[float, float, str], Range | None, Range | None]] | None = None,
    finding: str = "",
) -> Chart:
    """Dots (x, y, label) by group; with `line` joined in the order given; diagonal: name of a line where y is x; looks:
    of groups that are systems; ends: ranges of each dot along x and y; bands: groups of which only x is known, from low
    to high, drawn from bottom to top; limit: name and place of an upright line; hollow: empty dots of groups, which
    are `hollow_is` (of each group, or of all), and which a page can focus; from_zero: y begins at 0; answers: one large
    dot of a group, with its ranges along x and y."""
    known = looks or {}
    names = list(dict.fromkeys([*groups, *(bands or {})]))
    series: list[dict[str, object]] = []
    for i, (name, dots) in enumerate(groups.items()):
        look = known.get(name)
        colour = fill(i, look)["color"]
        dash = "dashed" if look is not None and look.is_announced else DASHES[0 if look or not line else i % 3]
        series.append(
            {
                "name": name,
                "type": "line" if line else "scatter",
                "symbol": look.symbol if look is not None else SYMBOLS[i % len(SYMBOLS)],
                "symbolSize": 7 if line else 11,
                "itemStyle": {"color": colour},
                "lineStyle": {"color": colour, "width": 2, "type": dash},
                "z": 4,
                "data": [{"value": [a, b], "name": label} for a, b, label in dots],
            }
        )
        for (a, b, _), (across, up) in zip(dots, (ends or {}).get(name, ()), strict=False):
            if across is not None:
                series.append(bar_of_range(([across[0], b], [across[1], b]), str(colour), upright=False))
            if up is not None:
                series.append(bar_of_range(([a, up[0]], [a, up[1]]), str(colour), upright=True))
    for name, (dot, across, up) in (answers or {}).items():
        series += _answer(name, dot, across, up, known.get(name))
    series += [_band(name, span, known.get(name)) for name, span in (bands or {}).items()]
    empty = {n: f"{n}, {hollow_is if isinstance(hollow_is, str) else hollow_is[n]}" for n in hollow or {}}
    for name, dots in (hollow or {}).items():
        series.append(
            {
                "name": empty[name],
                "id": f"{FOCUSED}{name}",
                "type": "scatter",
                "symbol": known[name].symbol if name in known else "circle",
                "symbolSize": 10,
                "itemStyle": {
                    "color": "transparent",
                    "borderColor": fill(0, known.get(name))["color"],
                    "borderWidth": 1.5,
                },
                "z": 5,
                "data": [{"value": [a, b], "name": label} for a, b, label in dots],
            }
        )
        names.append(empty[name])
    both = [v for dots in groups.values() for a, b, _ in dots for v in (a, b)]
    if diagonal and both:
        series.append(_straight(diagonal, [[v, v] for v in (min(both), max(both))]))
        names.append(diagonal)
    if limit is not None:
        series.append({**_straight(limit[0], []), "markLine": _upright(limit[1])})
        names.append(limit[0])
    option = _base(
        legend=legend_for(names) | ({} if line else {"itemWidth": 14}),
        grid={"left": 44, "right": 40, "top": 16, "bottom": 72, "containLabel": True},
        xAxis={"type": "log" if log_x else "value", "name": x, "nameLocation": "middle", "nameGap": 28, "scale": True},
        yAxis={
            "type": "log" if log_y else "value",
            "name": y,
            "nameLocation": "middle",
            "nameGap": _gap((10 if log_y else 1) * b for dots in groups.values() for _, b, _ in dots),
            "scale": not from_zero,
        },
        series=series,
    )
    rows = [[name, label, _text(a), _text(b)] for name, dots in groups.items() for a, b, label in dots]
    rows += [[n, "90% range, cost not known", f"{_text(a)} to {_text(b)}", "?"] for n, (a, b) in (bands or {}).items()]
    rows += [[empty[n], w, _text(a), _text(b)] for n, dots in (hollow or {}).items() for a, b, w in dots]
    return Chart(title=title, note=note, option=option, head=["", "", x, y], rows=rows, height=380, finding=finding)


def _answer(
    name: str, dot: tuple[float, float, str], across: Range | None, up: Range | None, look: SystemLook | None
) -> list[dict[str, object]]:
    """A large dot with a rim, and its ranges."""
    a, b, label = dot
    colour = str(fill(0, look)["color"])
    out: list[dict[str, object]] = [
        {
            "name": name,
            "type": "scatter",
            "symbol": "circle" if look is None else look.symbol,
            "symbolSize": 15,
            "itemStyle": {"color": colour, "borderColor": LIMIT_MARK.light, "borderWidth": 1.5},
            "z": 6,
            "data": [{"value": [a, b], "name": label}],
        }
    ]
    if across is not None:
        out.append(bar_of_range(([across[0], b], [across[1], b]), colour, upright=False))
    if up is not None:
        out.append(bar_of_range(([a, up[0]], [a, up[1]]), colour, upright=True))
    return out


def _straight(name: str, data: Sequence[Sequence[float]]) -> dict[str, object]:
    """A thin dashed line that is no system's."""
    return {
        "name": name,
        "type": "line",
        "symbol": "none",
        "lineStyle": {"color": GREY.light, "type": "dashed", "width": 1.5},
        "itemStyle": {"color": GREY.light},
        "data": data,
    }


def _upright(place: float) -> dict[str, object]:
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": {"color": GREY.light, "type": "dashed", "width": 1.5},
        "data": [{"xAxis": place}],
    }


def _band(name: str, span: Range, look: SystemLook | None) -> dict[str, object]:
    """A band from bottom to top."""
    colour = fill(0, look)["color"]
    return {
        "name": name,
        "type": "line",
        "symbol": "none",
        "itemStyle": {"color": colour},
        "lineStyle": {"color": colour, "width": 6},
        "data": [],
        "markArea": {
            "silent": True,
            "itemStyle": {"color": colour, "opacity": 0.16},
            "data": [[{"xAxis": span[0]}, {"xAxis": span[1]}]],
        },
    }


_WIDE = 30.0


def ranges(
    title: str,
    note: str,
    bars: Sequence[tuple[str, float, float, float]],
    *,
    unit: str,
    log: bool = False,
    looks: Mapping[str, SystemLook] | None = None,
    finding: str = "",
) -> Chart:
    """Intervals: (name, low, value, high) each; log: logarithmic where they span more than a factor of `_WIDE`."""
    ends = [x for _, low, _, high in bars for x in (low, high)]
    log = log and min(ends, default=1.0) > 0 and max(ends, default=1.0) / min(ends, default=1.0) > _WIDE
    known = looks or {}

    def colour(name: str) -> object:
        return fill(0, known.get(name))["color"]

    option = _base(
        grid={"left": 8, "right": 32, "top": 8, "bottom": 48, "containLabel": True},
        xAxis={"type": "log" if log else "value", "name": unit, "nameLocation": "middle", "nameGap": 26, "scale": True},
        yAxis={"type": "category", "data": [b[0] for b in bars], "inverse": True},
        series=[
            {
                "name": RANGE,
                "type": "line",
                "data": [[low, i], [high, i]],
                "symbol": "none",
                "lineStyle": {"width": 8, "opacity": 0.45, "color": colour(name)},
            }
            for i, (name, low, _, high) in enumerate(bars)
        ]
        + [
            {
                "name": "value",
                "type": "scatter",
                "symbolSize": 12,
                "data": [
                    {
                        "value": [value, i],
                        "symbol": known[name].symbol if name in known else "circle",
                        "itemStyle": {"color": colour(name), "borderColor": "#fff", "borderWidth": 1},
                    }
                    for i, (name, _, value, _) in enumerate(bars)
                ],
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
        finding=finding,
    )


def heat(
    title: str, note: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]], *, unit: str, finding: str = ""
) -> Chart:
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
            "inRange": {"color": [PAPER.light, GROUPS["memory"].light]},
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
        finding=finding,
    )
