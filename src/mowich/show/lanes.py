"""A profile of a kernel as one HTML page: its source beside a timeline of engines, DMA rings, the 16 DMA engines and
the critical path.

A click on an instruction shows whom it waited for and why, as arrows and in words. The page holds all it needs, fetches
nothing, and draws on a canvas, so that `MOST` instructions stay quick; of a longer kernel it shows a window, and says
which.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from mowich.neuroncore.clock.schedule import CAUSES
from mowich.neuroncore.instructions.rates import PS, QUEUES
from mowich.neuroncore.profile import Profile
from mowich.neuroncore.source import lines_of, statement
from mowich.show.render.html import filled, script_json, static
from mowich.units import show

MOST = 20_000
"""Instructions that a page draws at most."""
LONG_FILE = 3_000
"""Lines of a source file up to which the page holds all of them."""
_AROUND = 30
"""Lines of a longer file that are kept around each that issues an instruction."""
EDGES = ("done reading", "result", "buffer", "weights")
"""Kinds of edges between instructions (`clock.program`), by number."""

Json = dict[str, object]


def render_lanes(profile: Profile, target: str = "", from_s: float = 0.0, most: int = MOST) -> str:
    """The page. from_s: begin of the window, seconds, where the kernel has more than `most` instructions."""
    data = page_data(profile, from_s, most)
    name = profile.kernel or "kernel"
    cores = f", {profile.cores} cores" if profile.cores > 1 else ""
    window = str(data["window"])
    parts = {
        "title": escape(f"{name} on {target}" if target else name),
        "headline": escape(f"{profile.time_s}, {len(profile):,} instructions{cores}"),
        "window": f'<p class="warning" id="window">{escape(window)}</p>' if window else "",
        "figures": "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in _figures(profile)),
        "engines": _engines(profile),
        "top": _top(profile),
        "style": static("lanes.css"),
        "script": static("lanes.js"),
        "data": script_json(data),
    }
    return filled(static("lanes.html"), parts)


def _figures(p: Profile) -> list[tuple[str, str]]:
    read, written = p.hbm_B
    made = [
        ("MFU", f"{p.mfu:.1%}"),
        ("MBU", f"{p.mbu:.1%}"),
        ("HBM read, written", f"{show(read, 'B')}, {show(written, 'B')}"),
        ("SBUF at most", f"{p.sbuf_peak_B:,} B of a partition"),
        ("PSUM at most", f"{p.psum_peak_banks} {'bank' if p.psum_peak_banks == 1 else 'banks'}"),
    ]
    return made + ([("spills", show(p.spill_B, "B"))] if p.spill_B else [])


def _engines(p: Profile) -> str:
    """Rows of the table of engines."""
    rows = []
    for name, use in p.engines.items():
        if use.instructions:
            waits = ", ".join(f"{who} {show(s, 's')}" for who, s in list(use.waits.items())[:3])
            cells = [show(s, "s") for s in (use.busy_s, use.wait_s, use.idle_s)]
            body = "".join(f"<td>{escape(c)}</td>" for c in (*cells, f"{use.instructions:,}"))
            rows.append(f'<tr><th scope="row">{escape(name)}</th>{body}<td class="words">{escape(waits)}</td></tr>')
    return "".join(rows)


def _top(p: Profile) -> str:
    """Costliest lines with cause and remedy; a button of each marks it in source and timeline."""
    out = []
    for line in [x for x in p.lines if x.file][:8]:
        at = statement(line.file, line.line)
        place = f"{Path(line.file).name}:{line.line}"
        out.append(
            f'<li><button type="button" data-file="{escape(line.file)}" data-line="{at.line}">{escape(place)}</button> '
            f"<b>{escape(show(line.seconds, 's'))}</b> ({line.seconds / p.total_s:.0%}): {escape(line.cause)}"
            f'<br><span class="note">{escape(line.remedy)}</span></li>'
        )
    return "".join(out)


# the data of the timeline ----------------------------------------------------------------------------------------


def page_data(p: Profile, from_s: float = 0.0, most: int = MOST) -> Json:
    """What the script draws: columns by instruction of the window, in program order; times in ps."""
    chosen, window = _window(p, from_s, most)
    local = {i: n for n, i in enumerate(chosen)}
    lanes, lane_of = _lanes(p)
    s = p.schedule
    places, place_of, sources = _sources(p, chosen)
    costs: dict[int, int] = {}
    kinds: list[Json] = []
    cost_of = []
    for i in chosen:
        k = p.cost[i]
        if id(k) not in costs:
            costs[id(k)] = len(kinds)
            kinds.append(
                {
                    "opcode": k.opcode,
                    "dtype": k.dtype,
                    "queue": QUEUES[k.queue],
                    "bytes": k.sbuf_B,
                    "descriptors": k.descriptors,
                    "descriptor": k.descriptor_B,
                    "flop": k.flop,
                    "issue": k.issue,
                    "first": k.first_byte,
                    "dma": bool(k.transfer),
                    "parts": {**k.parts, **{f"{n} (after the end)": ps for n, ps in k.latency_parts.items()}},
                }
            )
        cost_of.append(costs[id(k)])
    first, edges = _edges(p, chosen, local)
    begin = min((s.begin[i] for i in chosen), default=0)
    end = max((s.end[i] for i in chosen), default=s.total) if window else s.total
    return {
        "window": window,
        "from": begin if window else 0,
        "to": max(end, 1),
        "total": s.total,
        "causes": list(CAUSES),
        "edgeKinds": list(EDGES),
        "lanes": lanes,
        "kinds": kinds,
        "places": places,
        "sources": sources,
        "id": chosen,
        "begin": [s.begin[i] for i in chosen],
        "data": [s.data[i] for i in chosen],
        "end": [s.end[i] for i in chosen],
        "ready": [s.ready[i] for i in chosen],
        "loading": [s.loading[i] for i in chosen],
        "cause": [s.cause[i] for i in chosen],
        "by": [local.get(s.by[i], -2 if s.by[i] >= 0 else -1) for i in chosen],
        "dataCause": [s.data_cause[i] for i in chosen],
        "dataBy": [local.get(s.data_by[i], -2 if s.data_by[i] >= 0 else -1) for i in chosen],
        "lane": [lane_of[s.core[i], p.cost[i].queue] for i in chosen],
        "kind": cost_of,
        "place": [place_of[i] for i in chosen],
        "edgeFirst": first,
        "edges": edges,
        "dma": _slices(p, local),
        "path": _path(p, local),
        "semaphore": p.costs.ps("sync.semaphore"),
        "trigger": p.costs.ps("dma.trigger"),
    }


def _window(p: Profile, from_s: float, most: int) -> tuple[list[int], str]:
    """Instructions to draw, in program order, and what of the kernel they are ("": all)."""
    s, n = p.schedule, len(p)
    if n <= most and from_s <= 0:
        return list(range(n)), ""
    after = sorted((i for i in range(n) if s.begin[i] >= from_s * PS), key=lambda i: (s.begin[i], i))
    chosen = sorted(after[:most])
    if not chosen:
        return [], f"no instruction begins at {show(from_s, 's')} or later: the kernel takes {show(p.total_s, 's')}"
    last = max(s.begin[i] for i in chosen) / PS
    low = min(s.begin[i] for i in chosen) / PS
    return chosen, (
        f"A window: the {len(chosen):,} of {n:,} instructions that begin from {show(low, 's')} to {show(last, 's')} of"
        f" {show(p.total_s, 's')}. --html-from TIME shows another. Figures, causes and lines are of the whole kernel."
    )


def _lanes(p: Profile) -> tuple[list[Json], dict[tuple[int, int], int]]:
    """Lanes from top to bottom, and the lane of (core, queue): engines, rings, then a lane for each DMA engine."""
    used: dict[tuple[int, int], bool] = {}
    for i, k in enumerate(p.cost):
        used[p.schedule.core[i], k.queue] = bool(k.transfer)
    lanes: list[Json] = [{"name": "critical path", "kind": "path", "core": -1}]
    lane_of: dict[tuple[int, int], int] = {}
    engines = int(p.costs.number("dma.engines"))
    for core in range(p.cores):
        suffix = f" {core}" if p.cores > 1 else ""
        for is_dma in (False, True):
            for queue in range(len(QUEUES)):
                if used.get((core, queue)) is is_dma:
                    lane_of[core, queue] = len(lanes)
                    name = f"{QUEUES[queue]} ring{suffix}" if is_dma else f"{QUEUES[queue]}{suffix}"
                    lanes.append(
                        {"name": name, "kind": "ring" if is_dma else "engine", "core": core, "engine": QUEUES[queue]}
                    )
        if any(c == core and dma for (c, _), dma in used.items()):
            for e in range(engines):
                name = f"DMA engine {e}{f', core {core}' if p.cores > 1 else ''}"
                lanes.append({"name": name, "kind": "dma", "core": core, "number": e})
    return lanes, lane_of


def _slices(p: Profile, local: dict[int, int]) -> list[list[object]]:
    """[DMA, [begin on each DMA engine], [time on each]] of the DMAs of the window, ps; -1: an engine without a part.

    Each DMA engine takes DMAs first in, first out, once their first byte can move, as on the clock.
    """
    s = p.schedule
    engines = int(p.costs.number("dma.engines"))
    free = [[0] * engines for _ in range(p.cores)]
    out: list[list[object]] = []
    arrive = {i: s.begin[i] + k.issue + k.first_byte for i, k in enumerate(p.cost) if k.transfer}
    for i in sorted(arrive, key=lambda i: (arrive[i], s.data[i], s.begin[i], i)):
        k, mine = p.cost[i], free[s.core[i]]
        begins = []
        for e, time in enumerate(k.transfer):
            begins.append(max(mine[e], arrive[i]) if time else -1)
            if time:
                mine[e] = begins[-1] + time
        if i in local:
            out.append([local[i], begins, list(k.transfer)])
    return out


def _edges(p: Profile, chosen: Sequence[int], local: dict[int, int]) -> tuple[list[int], list[int]]:
    """Whom each instruction waits for: edges[first[n]:first[n + 1]], 4 * predecessor + kind; -1: before the window."""
    s = p.schedule
    first, edges = [0], []
    for i in chosen:
        c = s.core[i]
        program, offset = s.programs[c], s.offset[c]
        at = i - offset
        for edge in program.edges[program.first[at] : program.first[at + 1]]:
            before = local.get((edge >> 2) + offset)
            edges.append(-1 if before is None else 4 * before + (edge & 3))
        first.append(len(edges))
    return first, edges


def _path(p: Profile, local: dict[int, int]) -> list[list[object]]:
    """[instruction, from, to, what it is made of] of the critical path inside the window, first to last."""
    out: list[list[object]] = []
    for step in reversed(p.path):
        if step.end > step.start and (step.instruction in local or (step.instruction < 0 and len(local) == len(p))):
            most = max(step.parts, key=lambda part: part[1], default=("", 0))[0]
            out.append([local.get(step.instruction, -1), step.start, step.end, most])
    return out


def _sources(p: Profile, chosen: Sequence[int]) -> tuple[list[list[int]], dict[int, int], list[Json]]:
    """Places ([file, line] of a statement), the place of each instruction (-1: added by the compiler), and the source
    files with the time of each line: ps of instructions in the window, and of the critical path of the whole kernel."""
    s = p.schedule
    places: dict[tuple[str, int], int] = {}
    place_of: dict[int, int] = {}
    files: dict[str, int] = {}
    busy: dict[tuple[str, int], int] = {}
    for i in chosen:
        file, number = p.site(i)
        if not file:
            place_of[i] = -1
            continue
        at = (file, statement(file, number).line)
        files.setdefault(file, len(files))
        place_of[i] = places.setdefault(at, len(places))
        busy[at] = busy.get(at, 0) + s.end[i] - s.begin[i]
    path: dict[tuple[str, int], int] = {}
    for line in p.lines:
        if line.file:
            at = (line.file, statement(line.file, line.line).line)
            path[at] = path.get(at, 0) + round(line.seconds * PS)
    sources: list[Json] = []
    for file in files:
        lines = lines_of(file)
        hot = sorted({n for f, n in (*busy, *path) if f == file})
        kept = list(range(1, len(lines) + 1))
        if len(lines) > LONG_FILE or not lines:
            near = {m for n in hot for m in range(n - _AROUND, n + _AROUND + 1) if 1 <= m <= len(lines)}
            kept = sorted(near or hot)
        sources.append(
            {
                "file": file,
                "name": Path(file).name,
                "lines": [[n, lines[n - 1] if n <= len(lines) else ""] for n in kept],
                "time": [[n, busy.get((file, n), 0), path.get((file, n), 0)] for n in hot],
            }
        )
    return [[files[f], n] for f, n in places], place_of, sources


__all__ = ["MOST", "page_data", "render_lanes"]
