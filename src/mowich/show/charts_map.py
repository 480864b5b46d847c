"""A machine as a map: its chips where they stand, the links between them, and those that failed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mowich.show.chart_grammar import legend_for, option_of
from mowich.show.charts import Chart
from mowich.show.colours import GREY, LESS, PART_COLOURS, look_of
from mowich.studies.machine_map import MachineMap

_GAP = 0.45
"""Room between domains, in chips, more for each level."""

_Spot = tuple[float, float]


def places(chips: int, joins: Sequence[int]) -> list[_Spot]:
    """Where each chip stands: domains of a level side by side, as near to a square as their number allows, those of the
    last in one row. joins: chips of a domain of each level, innermost first."""
    found: list[_Spot] = [(0.0, 0.0)]
    wide = tall = 1.0
    for k, size in enumerate(joins):
        count = math.ceil(size / len(found)) if found else 1
        columns = count if k == len(joins) - 1 and count <= 4 else math.ceil(math.sqrt(count))
        gap = _GAP * (k + 1) if k else 0.0
        blocks = [(i % columns * (wide + gap), i // columns * (tall + gap)) for i in range(count)]
        found = [(x + dx, y + dy) for dx, dy in blocks for x, y in found][:size]
        wide, tall = (columns * (wide + gap) - gap, math.ceil(count / columns) * (tall + gap) - gap)
    return found[:chips]


def machine_chart(drawn: MachineMap) -> Chart:
    """A machine chip by chip, with the links between them and those that failed."""
    chips, dead, look = drawn.chips, drawn.failed_chips, look_of(drawn.system_id)
    at = places(chips, [joins for _, joins in drawn.levels])
    nodes: list[dict[str, object]] = [
        {
            "name": f"chip {i}",
            "value": list(place),
            "symbolSize": 9,
            "itemStyle": {"color": LESS.light if i in dead else look.colour.light},
        }
        for i, place in enumerate(at)
    ]
    members: dict[int, list[_Spot]] = {}
    for pair in drawn.pairs:
        if pair.b >= chips:
            members.setdefault(pair.b, []).append(at[pair.a])
    for switch in sorted(members):
        xs, ys = zip(*members[switch], strict=True)
        place = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2]
        nodes.append(
            {
                "name": f"switch {switch - chips}",
                "value": place,
                "symbol": "diamond",
                "symbolSize": 7,
                "itemStyle": {"color": GREY.light},
            }
        )
    colour = {name: PART_COLOURS[(i + 1) % len(PART_COLOURS)].light for i, (name, _) in enumerate(drawn.levels)}
    links = [
        {
            "source": f"chip {a}",
            "target": f"chip {b}" if b < chips else f"switch {b - chips}",
            "lineStyle": {"color": colour[level], "opacity": 0.35, "width": 1}
            if left >= 1
            else {"color": LESS.light, "opacity": 1, "width": 4, "type": "dashed"},
        }
        for a, b, level, left in drawn.pairs
    ]
    names = [f"links of the {level.replace('_', '-')}" for level, _ in drawn.levels]
    broken = [*drawn.failed_links, *(f"chip {i}" for i in dead)]
    keys = [
        {
            "name": name,
            "type": "line",
            "symbol": "none",
            "lineStyle": {"color": c, "width": 3},
            "itemStyle": {"color": c},
            "data": [],
        }
        for name, c in [*zip(names, colour.values(), strict=True), *([("failed", LESS.light)] if broken else [])]
    ]
    option = option_of(
        legend=legend_for([str(k["name"]) for k in keys]),
        grid={"left": 16, "right": 16, "top": 12, "bottom": 44},
        xAxis={"type": "value", "show": False, "min": -1, "max": max(x for x, _ in at) + 1},
        yAxis={"type": "value", "show": False, "inverse": True, "min": -1, "max": max(y for _, y in at) + 1},
        series=[
            {
                "name": "machine",
                "type": "graph",
                "coordinateSystem": "cartesian2d",
                "data": nodes,
                "links": links,
                "z": 3,
            },
            *keys,
        ],
    )
    rows = [
        *(
            [name, str(joins), str(sum(pair.level == level for pair in drawn.pairs))]
            for name, (level, joins) in zip(names, drawn.levels, strict=True)
        ),
        *(["failed", what, ""] for what in broken),
    ]
    tall = max(y for _, y in at) + 2
    return Chart(
        title=f"Map of {drawn.display}",
        note=f"{chips} chips. A dot is a chip, a diamond a switch, a line joins two that have links between them"
        + (", dashed where they failed." if drawn.failed_links else "."),
        option=option,
        head=["", "joins chips", "pairs joined"],
        rows=rows,
        height=round(90 + min(420.0, 34.0 * tall)),
        finding=f"{len(broken)} of {drawn.links:,} links failed: {', '.join(broken)}"
        if broken and not dead
        else f"Failed: {', '.join(broken)}"
        if broken
        else "",
    )
