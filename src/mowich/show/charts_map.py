"""A machine as a map: its chips where they stand, the links between them, and those that failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.links import Graph, build, parse_fault
from mowich.machines.system import resolve
from mowich.machines.topology import per_chip
from mowich.show.charts import Chart, _base, legend_for
from mowich.show.colours import GREY, LESS, PART_COLOURS, SystemLook, look_of

MOST_CHIPS = 256
"""Chips of a machine that a map shows."""

_GAP = 0.45
"""Room between domains, in chips, more for each level."""

_Spot = tuple[float, float]


def places(graph: Graph) -> list[_Spot]:
    """Where each chip stands: domains of a level side by side, as near to a square as their number allows, those of the
    last in one row."""
    found: list[_Spot] = [(0.0, 0.0)]
    wide = tall = 1.0
    for k, size in enumerate(graph.sizes):
        count = math.ceil(size / len(found)) if found else 1
        columns = count if k == len(graph.sizes) - 1 and count <= 4 else math.ceil(math.sqrt(count))
        gap = _GAP * (k + 1) if k else 0.0
        blocks = [(i % columns * (wide + gap), i // columns * (tall + gap)) for i in range(count)]
        found = [(x + dx, y + dy) for dx, dy in blocks for x, y in found][:size]
        wide, tall = (columns * (wide + gap) - gap, math.ceil(count / columns) * (tall + gap) - gap)
    return found[: graph.chips]


def machine_map(
    title: str, note: str, graph: Graph, faults: Mapping[int, float], dead: Sequence[int], look: SystemLook
) -> Chart:
    """faults: physical link -> share of it that is left; dead: chips that failed; look: of the system."""
    at = places(graph)
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
    for link in graph.links:
        a, b = int(graph.tail[link.ends[0]]), int(graph.head[link.ends[0]])
        if b >= graph.chips:
            members.setdefault(b, []).append(at[a])
    for switch in sorted(members):
        xs, ys = zip(*members[switch], strict=True)
        place = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2]
        nodes.append(
            {
                "name": f"switch {switch - graph.chips}",
                "value": place,
                "symbol": "diamond",
                "symbolSize": 7,
                "itemStyle": {"color": GREY.light},
            }
        )
    colour = {level.name: PART_COLOURS[(i + 1) % len(PART_COLOURS)].light for i, level in enumerate(graph.levels)}
    lines: dict[tuple[int, int, str], float] = {}
    for i, link in enumerate(graph.links):
        ends = int(graph.tail[link.ends[0]]), int(graph.head[link.ends[0]])
        key = (*ends, link.level)
        lines[key] = min(lines.get(key, 1.0), faults.get(i, 1.0))
    drawn = [
        {
            "source": f"chip {a}",
            "target": f"chip {b}" if b < graph.chips else f"switch {b - graph.chips}",
            "lineStyle": {"color": colour[level], "opacity": 0.35, "width": 1}
            if left >= 1
            else {"color": LESS.light, "opacity": 1, "width": 4, "type": "dashed"},
        }
        for (a, b, level), left in lines.items()
    ]
    names = [f"links of the {level.name.replace('_', '-')}" for level in graph.levels]
    broken = [str(graph.links[i]) for i in faults] + [f"chip {i}" for i in dead]
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
    option = _base(
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
                "links": drawn,
                "z": 3,
            },
            *keys,
        ],
    )
    counts = {
        name: sum(1 for _, _, n in lines if n == level.name) for name, level in zip(names, graph.levels, strict=True)
    }
    rows = [
        *([name, str(joins), str(counts[name])] for name, joins in zip(names, graph.sizes, strict=True)),
        *(["failed", what, ""] for what in broken),
    ]
    tall = max(y for _, y in at) + 2
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", "joins chips", "pairs joined"],
        rows=rows,
        height=round(90 + min(420.0, 34.0 * tall)),
        finding=f"{len(broken)} of {len(graph.links):,} links failed: {', '.join(broken)}"
        if broken and not dead
        else f"Failed: {', '.join(broken)}"
        if broken
        else "",
    )


def map_name(facts: Facts, system_id: str, chips: int) -> str:
    """What `map_of` draws for so many chips of a system, "trn3-gen2:144"; "" where they are one chip, more than one
    scale-up unit, or too many to draw."""
    whole = per_chip(resolve(facts, system_id))
    fits = 1 < chips <= min(whole.chips_per_unit, MOST_CHIPS)
    return f"{system_id}:{chips}" if fits else ""


def map_of(facts: Facts, name: str, faults: Sequence[str] = ()) -> Chart:
    """The map of a system, "trn3-gen2:144", with the links and chips that failed. Raises UserError for one of more
    chips than can be drawn."""
    system = per_chip(resolve(facts, name))
    if system.chips > MOST_CHIPS:
        raise UserError(f"{system.chips} chips cannot be drawn", field="name", given=name, allowed=f"to {MOST_CHIPS}")
    graph = build(system)
    shares: dict[int, float] = {}
    dead: list[int] = []
    for text in faults:
        what, index, share = parse_fault(graph, text)
        if what == "chip":
            dead.append(index)
        else:
            shares[index] = share
    return machine_map(
        f"Map of {system.display}",
        f"{graph.chips} chips. A dot is a chip, a diamond a switch, a line joins two that have links between them"
        + (", dashed where they failed." if shares else "."),
        graph,
        shares,
        dead,
        look_of(system.id),
    )


__all__ = ["MOST_CHIPS", "machine_map", "map_name", "map_of", "places"]
