"""What charts are made of, as parts of an option of ECharts, each once: the planes that pictures are drawn in, axes,
legends, and marks: bars, lines, dots, ranges.

Colours are those of `colours`, in their forms for light paper; systems are also told apart by symbol, bars by order and
legend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mowich.show.colours import GREY, HATCH, LIMIT_MARK, PAPER, PART_COLOURS, SystemLook

Fill = Mapping[str, object]
"""A fill, or a style of a line."""

COLOURS: Sequence[str] = [colour.light for colour in PART_COLOURS]
"""Colours of series that are neither systems nor parts of a time."""

DECALS: Sequence[Fill] = (
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

Series = dict[str, object]
"""Marks of one kind and name."""

Range = tuple[float, float]
"""(low, high)."""

RANGE = "90% range"
WHOLE_LEGEND: Fill = {"bottom": 0}
"""A legend of all series."""
GUIDE_LINE: Fill = {"color": GREY.light, "type": "dashed", "width": 1.5}
"""A thin line that belongs to no system."""

# planes and axes
# ----------------------------------------------------------------------------------------------------------------------


def option_of(**more: object) -> dict[str, object]:
    """What every picture has, and more."""
    return {
        "color": list(COLOURS),
        "aria": {"enabled": True, "decal": {"show": False}},
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True},
        **more,
    }


def number_axis(name: str, gap: float = 26, kind: str = "value", **more: object) -> dict[str, object]:
    """An axis of numbers. gap: pixels between it and its name; kind: "value" or "log"."""
    return {"type": kind, "name": name, "nameLocation": "middle", "nameGap": gap, **more}


def name_gap(values: Iterable[float]) -> int:
    """Pixels between a vertical axis and its name, so that the name stands beside the widest label."""
    most = max((abs(v) for v in values), default=0.0)
    return max(48, 18 + 7 * len(f"{most:,.0f}"))


def down_the_page(
    names: Sequence[str], across: object, series: object, *, bottom: int, right: int = 24, **more: object
) -> dict[str, object]:
    """A picture of a row for each name, the first on top. across: the axis below; right, bottom: pixels beside and
    below the rows."""
    return option_of(
        **more,
        grid={"left": 8, "right": right, "top": 8, "bottom": bottom, "containLabel": True},
        xAxis=across,
        yAxis={"type": "category", "data": list(names), "inverse": True},
        series=series,
    )


def in_a_plane(x: object, y: object, series: object, *, right: int, bottom: int, **more: object) -> dict[str, object]:
    """A picture of numbers up against an axis below."""
    return option_of(
        **more,
        grid={"left": 44, "right": right, "top": 16, "bottom": bottom, "containLabel": True},
        xAxis=x,
        yAxis=y,
        series=series,
    )


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
    return {**WHOLE_LEGEND, "data": data}


# looks
# ----------------------------------------------------------------------------------------------------------------------


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


def colour_in(i: int, look: SystemLook | None = None) -> str:
    """The colour of the i-th of several, or of a system."""
    return COLOURS[i % len(COLOURS)] if look is None else look.colour.light


def symbol_in(look: SystemLook | None, other: str = "circle") -> str:
    """The symbol of a system; other: of a series that is not a system."""
    return other if look is None else look.symbol


def rimmed(colour: str, rim: str, width: float) -> dict[str, object]:
    """A colour with a rim of so many pixels."""
    return {"color": colour, "borderColor": rim, "borderWidth": width}


# marks
# ----------------------------------------------------------------------------------------------------------------------


def bar_marks(name: str, data: Sequence[object], style: Fill, *, stacked: bool = False, **more: object) -> Series:
    """Bars in a fill. stacked: upon, or behind, those of the series before."""
    on = {"stack": "all"} if stacked else {}
    return {"name": name, "type": "bar", **on, **more, "itemStyle": style, "data": data}


def line_marks(
    name: str,
    data: Sequence[object],
    colour: str,
    *,
    symbol: str = "none",
    width: float = 2,
    style: Fill | None = None,
    **more: object,
) -> Series:
    """A line in a colour. style: of the line, beside its colour and width."""
    return {
        "name": name,
        "type": "line",
        "symbol": symbol,
        "itemStyle": {"color": colour},
        "lineStyle": {"color": colour, "width": width, **(style or {})},
        **more,
        "data": data,
    }


def dot_marks(
    name: str, data: Sequence[object], style: Fill, *, symbol: object, size: object, **more: object
) -> Series:
    """Dots, or what the symbol is, in a fill."""
    return {
        "name": name,
        "type": "scatter",
        "symbol": symbol,
        "symbolSize": size,
        "itemStyle": style,
        **more,
        "data": data,
    }


def range_marks(ends: tuple[Sequence[float], Sequence[float]], colour: str, *, upright: bool) -> Series:
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


def ranges_of_dot(a: float, b: float, across: Range | None, up: Range | None, colour: str) -> list[Series]:
    """Error bars of a dot along both axes, where they are known."""
    out = [] if across is None else [range_marks(([across[0], b], [across[1], b]), colour, upright=False)]
    return out if up is None else [*out, range_marks(([a, up[0]], [a, up[1]]), colour, upright=True)]


def ranges_over_bars(ends: Sequence[tuple[float, float, int]]) -> list[Series]:
    """Error bars (low, high, place) over filled bars: each on a rim in the colour of the page, so that it is seen on
    bars of any colour."""
    rims = [
        {**range_marks(([low, i], [high, i]), PAPER.light, upright=False), "name": "rim", "symbolSize": [4, 12]}
        for low, high, i in ends
    ]
    for rim in rims:
        rim["lineStyle"] = {"width": 4, "color": PAPER.light, "opacity": 0.7}
    return [*rims, *(range_marks(([low, i], [high, i]), LIMIT_MARK.light, upright=False) for low, high, i in ends)]


def upright_guide(place: float) -> dict[str, object]:
    """A thin dashed line from bottom to top."""
    return {
        "silent": True,
        "symbol": "none",
        "label": {"show": False},
        "lineStyle": GUIDE_LINE,
        "data": [{"xAxis": place}],
    }


def digits(value: float) -> str:
    """A number in the table of a picture."""
    return f"{value:.4g}"
