"""Charts as ECharts options: plain dictionaries, so that a page needs no code but ECharts itself.

Every chart carries its numbers as a table too, for readers without pictures. `chart_grammar` has what they are made of.
Values are SI; `scale` and the axis name say what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mowich.show.chart_grammar import (
    COLOURS,
    GUIDE_LINE,
    RANGE,
    Range,
    Series,
    bar_marks,
    colour_in,
    digits,
    dot_marks,
    down_the_page,
    fill,
    in_a_plane,
    legend_for,
    line_marks,
    name_gap,
    number_axis,
    ranges_of_dot,
    ranges_over_bars,
    rimmed,
    symbol_in,
    upright_guide,
)
from mowich.show.colours import DASHES, GREY, GROUPS, LIMIT_MARK, PAPER, SYMBOLS, SystemLook
from mowich.shown import Result

Option = Mapping[str, object]
"""What ECharts draws."""

FOCUSED = "dots "
"""Begins the id of a series whose dots the page lets the keyboard reach (web/static/charts.js)."""


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
    known, own_fills = looks or {}, fills or {}
    by_bar = [p for p in drawn if set(names) & set(known) and p not in known and p not in own_fills]
    series: list[Series] = []
    for i, (part, values) in enumerate(drawn.items()):
        data = _in_colours_of_bars(names, values, known) if part in by_bar else list(values)
        own = own_fills.get(part) or fill(i, known.get(part))
        series.append(bar_marks(part, data, own, stacked=True, emphasis={"focus": "series"}))
    if marks:
        limits_at = [[m, i] for i, m in enumerate(marks) if m is not None]
        rim = rimmed(LIMIT_MARK.light, "#fff", 1)
        series.append(dot_marks(mark, limits_at, rim, symbol="rect", size=[5, 28], z=5))
    shown = [*drawn, *([mark] if marks else [])]
    legend = legend_for(shown, by_bar) | {"show": len(shown) > 1}  # of a single part the axis says the name
    whiskers = ranges_over_bars([(*end, i) for i, end in enumerate(ends) if end])
    option = _bars(names, unit, [*series, *whiskers], legend, parts)
    views: dict[str, Option] = {}
    if shares:
        views = {unit: option, "100%": _bars(names, "% of the whole", _shared(series, drawn), legend, parts)}
    head, rows = _table_of_bars(names, parts, unit, marks, mark, ends)
    return Chart(
        title=title,
        note=note,
        option=option,
        head=head,
        rows=rows,
        height=(120 if legend["show"] else 100) + row_px * len(names),
        finding=finding,
        views=views,
    )


def _in_colours_of_bars(names: Sequence[str], values: Sequence[float], looks: Mapping[str, SystemLook]) -> list[object]:
    """The values of a part, one a bar; a bar that is a system has the colour of that system."""
    return [
        {"value": v, "itemStyle": fill(0, looks[n])} if n in looks else v for n, v in zip(names, values, strict=True)
    ]


def _table_of_bars(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    unit: str,
    marks: Sequence[float | None],
    mark: str,
    ends: Sequence[Range | None],
) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of the table of `stacked_bars`."""
    head, columns = ["", *(f"{p}, {unit}" for p in parts)], [list(map(digits, values)) for values in parts.values()]
    if marks:
        head.append(f"{mark}, {unit}")
        columns.append(["-" if m is None else digits(m) for m in marks])
    if ends:
        head += [f"low, {unit}", f"high, {unit}"]
        columns += [[digits(e[side]) if e else "-" for e in ends] for side in (0, 1)]
    return head, [[name, *(column[i] for column in columns)] for i, name in enumerate(names)]


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
    across = number_axis(unit) | ({"max": 100} if whole else {})
    return down_the_page(names, across, series, bottom=64 if legend["show"] else 44, legend=legend)


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
    series = _dots_of_groups(groups, known, ends or {}, line=line)
    for name, (dot, across, up) in (answers or {}).items():
        series += _answer(name, dot, across, up, known.get(name))
    series += [_band(name, span, known.get(name)) for name, span in (bands or {}).items()]
    empty = {n: f"{n}, {hollow_is if isinstance(hollow_is, str) else hollow_is[n]}" for n in hollow or {}}
    for name, dots in (hollow or {}).items():
        series.append(_hollow_dots(name, empty[name], dots, known.get(name)))
        names.append(empty[name])
    both = [v for dots in groups.values() for a, b, _ in dots for v in (a, b)]
    if diagonal and both:
        series.append(_guide_marks(diagonal, [[v, v] for v in (min(both), max(both))]))
        names.append(diagonal)
    if limit is not None:
        series.append({**_guide_marks(limit[0], []), "markLine": upright_guide(limit[1])})
        names.append(limit[0])
    gap = name_gap((10 if log_y else 1) * b for dots in groups.values() for _, b, _ in dots)
    option = in_a_plane(
        number_axis(x, 28, "log" if log_x else "value", scale=True),
        number_axis(y, gap, "log" if log_y else "value", scale=not from_zero),
        series,
        right=40,
        bottom=72,
        legend=legend_for(names) | ({} if line else {"itemWidth": 14}),
    )
    rows = [
        *_rows_of_dots(groups),
        *([n, "90% range, cost not known", f"{digits(a)} to {digits(b)}", "?"] for n, (a, b) in (bands or {}).items()),
        *_rows_of_dots({empty[n]: dots for n, dots in (hollow or {}).items()}),
    ]
    return Chart(title=title, note=note, option=option, head=["", "", x, y], rows=rows, height=380, finding=finding)


def _dots_of_groups(
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    looks: Mapping[str, SystemLook],
    ends: Mapping[str, Sequence[tuple[Range | None, Range | None]]],
    *,
    line: bool,
) -> list[Series]:
    """The dots of each group, joined where `line` says so, and the ranges of each dot after its group."""
    series: list[Series] = []
    for i, (name, dots) in enumerate(groups.items()):
        look = looks.get(name)
        colour = colour_in(i, look)
        dash = "dashed" if look is not None and look.is_announced else DASHES[0 if look or not line else i % 3]
        series.append(
            {
                "name": name,
                "type": "line" if line else "scatter",
                "symbol": symbol_in(look, SYMBOLS[i % len(SYMBOLS)]),
                "symbolSize": 7 if line else 11,
                "itemStyle": {"color": colour},
                "lineStyle": {"color": colour, "width": 2, "type": dash},
                "z": 4,
                "data": _named(dots),
            }
        )
        for (a, b, _), (across, up) in zip(dots, ends.get(name, ()), strict=False):
            series += ranges_of_dot(a, b, across, up, colour)
    return series


def _rows_of_dots(groups: Mapping[str, Sequence[tuple[float, float, str]]]) -> list[list[str]]:
    """A row of the table for each dot."""
    return [[name, label, digits(a), digits(b)] for name, dots in groups.items() for a, b, label in dots]


def _hollow_dots(group: str, name: str, dots: Sequence[tuple[float, float, str]], look: SystemLook | None) -> Series:
    """Empty dots of a group, which the keyboard reaches."""
    rim = rimmed("transparent", colour_in(0, look), 1.5)
    return dot_marks(name, _named(dots), rim, symbol=symbol_in(look), size=10, id=f"{FOCUSED}{group}", z=5)


def _named(dots: Sequence[tuple[float, float, str]]) -> list[dict[str, object]]:
    """Dots, each with its label."""
    return [{"value": [a, b], "name": label} for a, b, label in dots]


def _answer(
    name: str, dot: tuple[float, float, str], across: Range | None, up: Range | None, look: SystemLook | None
) -> list[Series]:
    """A large dot with a rim, and its ranges."""
    colour = colour_in(0, look)
    rim = rimmed(colour, LIMIT_MARK.light, 1.5)
    large = dot_marks(name, _named([dot]), rim, symbol=symbol_in(look), size=15, z=6)
    return [large, *ranges_of_dot(dot[0], dot[1], across, up, colour)]


def _guide_marks(name: str, data: Sequence[Sequence[float]]) -> Series:
    """A thin dashed line that is no system's."""
    return line_marks(name, data, GREY.light, style=GUIDE_LINE)


def _band(name: str, span: Range, look: SystemLook | None) -> Series:
    """A band from bottom to top."""
    colour = colour_in(0, look)
    area = {
        "silent": True,
        "itemStyle": {"color": colour, "opacity": 0.16},
        "data": [[{"xAxis": span[0]}, {"xAxis": span[1]}]],
    }
    return line_marks(name, [], colour, width=6, markArea=area)


_WIDE = 30.0


def interval_bar(name: str, data: Result, scale: float = 1.0) -> tuple[str, float, float, float]:
    """An estimate of an answer as `ranges` takes it. scale: to the unit that is drawn."""
    return name, scale * data["low"], scale * data["value"], scale * data["high"]


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
    known = [(looks or {}).get(name) for name, _, _, _ in bars]
    spans: list[Series] = [
        {
            "name": RANGE,
            "type": "line",
            "data": [[low, i], [high, i]],
            "symbol": "none",
            "lineStyle": {"width": 8, "opacity": 0.45, "color": colour_in(0, look)},
        }
        for i, ((_, low, _, high), look) in enumerate(zip(bars, known, strict=True))
    ]
    values = [
        {"value": [value, i], "symbol": symbol_in(look), "itemStyle": rimmed(colour_in(0, look), "#fff", 1)}
        for i, ((_, _, value, _), look) in enumerate(zip(bars, known, strict=True))
    ]
    option = down_the_page(
        [b[0] for b in bars],
        number_axis(unit, kind="log" if log else "value", scale=True),
        [*spans, {"name": "value", "type": "scatter", "symbolSize": 12, "data": values}],
        right=32,
        bottom=48,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", f"low, {unit}", f"value, {unit}", f"high, {unit}"],
        rows=[[n, digits(a), digits(b), digits(c)] for n, a, b, c in bars],
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
    option = down_the_page(
        names,
        {"type": "category", "data": list(columns)},
        [{"type": "heatmap", "data": data, "label": {"show": True}}],
        right=16,
        bottom=72,
        visualMap={
            "min": 0,
            "max": 100,
            "orient": "horizontal",
            "left": "center",
            "bottom": 0,
            "inRange": {"color": [PAPER.light, GROUPS["memory"].light]},
            "text": [unit, ""],
        },
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", *columns],
        rows=[[n, *(digits(v) for v in values)] for n, values in rows.items()],
        height=130 + 34 * len(names),
        finding=finding,
    )
