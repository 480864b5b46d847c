"""A pipeline's timeline and the memory of its devices as text, as SVG, and as a trace that ui.perfetto.dev and
chrome://tracing open (JSON trace events, microseconds; memory as counters in GiB)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from mowich.show.formats import gib
from mowich.show.page import GIB
from mowich.show.render.terminal import Style
from mowich.sums import float_sum
from mowich.training.pipeline import Span
from mowich.training.timeline import PlanTimeline
from mowich.units import sig

_NAMES = {"F": "forward", "B": "backward input", "W": "backward weights", "BW": "backward"}
_FILL = {"F": "#4e79a7", "B": "#59a14f", "W": "#edc948", "BW": "#76b7b2", "tail": "#b07aa1"}

_MEMORY_FILL = {
    "weights": "#4e79a7",
    "gradients": "#a0cbe8",
    "optimizer": "#9c755f",
    "reserve": "#bab0ac",
    "activations": "#59a14f",
    "recomputation": "#edc948",
    "loss": "#e15759",
    "gathered weights": "#76b7b2",
    "expert buffers": "#b07aa1",
}
"""Categories of memory over a step, from the bottom of the picture up."""

_MEMORY_HEIGHT = 150
"""Of the picture of memory under the lanes."""

LEGEND_STEP = 120
"""From one short name of a legend to the next."""

MAX_DRAWN = 40_000
"""Operations that an SVG draws at most."""


def label(span: Span) -> str:
    """ "F3" or, with several chunks or directions, "F3.1": micro-batch and stage."""
    return f"{span.op.kind}{span.op.micro}"


def named_threads(process: str, threads: Sequence[str]) -> list[dict[str, object]]:
    """Events that name a process and its threads, which have the numbers from 0."""
    out: list[dict[str, object]] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": process}}]
    out += [
        {"ph": "M", "pid": 1, "tid": i, "name": "thread_name", "args": {"name": name}} for i, name in enumerate(threads)
    ]
    return out


def slice_event(
    thread: int, name: str, category: str, start_s: float, end_s: float, **args: object
) -> dict[str, object]:
    """An event that lasts, on a thread."""
    event = {"ph": "X", "pid": 1, "tid": thread, "name": name, "cat": category}
    return {**event, "ts": start_s * 1e6, "dur": (end_s - start_s) * 1e6, **({"args": args} if args else {})}


def trace_text(events: Sequence[dict[str, object]]) -> str:
    """The file of a trace."""
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, separators=(",", ":")) + "\n"


def to_trace(found: PlanTimeline) -> str:
    """JSON trace events: one thread per device, one slice per operation, the tail on every device."""
    devices = range(found.line.num_devices)
    events = named_threads(f"pipeline of {found.plan}", [f"stage device {device}" for device in devices])
    for span in found.line.spans:
        op = span.op
        args = {"micro_batch": op.micro, "stage": op.stage, "direction": op.direction}
        events.append(slice_event(span.device, label(span), _NAMES[op.kind], span.start_s, span.end_s, **args))
    start = found.line.makespan_s
    for part, seconds in found.tail_s.items():
        events += [slice_event(device, part, "step", start, start + seconds) for device in devices]
        start += seconds
    events += _counters(found)
    return trace_text(events)


def _counters(found: PlanTimeline) -> Iterator[dict[str, object]]:
    """What each device holds by category, wherever it changes."""
    for device, levels in enumerate(found.memory.levels):
        before: object = None
        for level in levels:
            args = {name: round(level.held_B[name] / GIB, 4) for name in _MEMORY_FILL}
            if args != before:
                name = f"memory of device {device}, GiB"
                yield {"ph": "C", "pid": 1, "name": name, "ts": level.at_s * 1e6, "args": args}
            before = args


MOST_RELIEFS = 4
"""Changes that lower the peak of memory, of which so many are told."""


def words_of_peak(found: PlanTimeline) -> list[str]:
    """What sets the peak of memory, and what would lower it."""
    memory, peak = found.memory, found.memory.peak
    when = "between operations"
    if peak.during is not None:
        what = {"F": "forward pass", "W": "backward pass to the weights"}.get(peak.during.kind, "backward pass")
        when = f"in the {what} of micro-batch {peak.during.micro}"
    parts = sorted(peak.held_B.items(), key=lambda kv: -kv[1])
    of = ", ".join(f"{name} {gib(held)}" for name, held in parts if held >= GIB / 100)
    out = [
        f"Memory peaks at {gib(peak.total_B)} of {gib(memory.usable_B)} GiB on device {memory.peak_device},"
        f" {sig(peak.at_s)} s into the step, {when}: {of}."
    ]
    reliefs = [
        f"{r.change} {gib(r.less_B)} GiB less ({abs(r.slower):.1%} {'slower' if r.slower > 0 else 'faster'})"
        for r in memory.reliefs[:MOST_RELIEFS]
    ]
    return [*out, f"What would lower it, one choice at a time: {'; '.join(reliefs)}."] if reliefs else out


def summary(found: PlanTimeline) -> str:
    """One line: makespan, idle share, memory, and the closed form beside it."""
    line = found.line
    idle = 1.0 - line.busiest_s / line.makespan_s
    return (
        f"{line.schedule}, {line.num_devices} devices, {found.num_micro_batches} micro-batches:"
        f" {sig(line.makespan_s)} s of pipeline (closed form {sig(found.closed_s)} s), idle {idle:.1%} of the busiest"
        f" device; holds {sig(max(line.peak))} micro-batches at most"
    )


def letters(spans: Iterable[tuple[int, str, float, float]], lanes: int, end_s: float, width: int) -> list[str]:
    """A row of letters for each lane: what runs most of each slice of time, "." where nothing does for half of it.
    spans: (lane, letter, from, to).

    >>> letters([(0, "F", 0.0, 2.0), (1, "B", 2.0, 3.0)], 2, 4.0, 8)
    ['FFFF....', '....BB..']
    """
    cell = end_s / width
    time: list[list[dict[str, float]]] = [[{} for _ in range(width)] for _ in range(lanes)]
    for lane, letter, start, end in spans:
        for i in range(int(start / cell), min(width - 1, int(end / cell)) + 1):
            share = min(end, (i + 1) * cell) - max(start, i * cell)
            here = time[lane][i]
            here[letter] = here.get(letter, 0.0) + share

    def shown(here: dict[str, float]) -> str:
        return max(here, key=lambda k: here[k]) if float_sum(here.values()) >= cell / 2 else "."

    return ["".join(map(shown, row)) for row in time]


def draw_timeline(found: PlanTimeline, style: Style) -> list[str]:
    """One row of characters per device: what runs most of each slice of time. F forward, B backward, W weights, "."
    idle; lower case: a later chunk or the second direction. Very deep pipelines show their first and last devices."""
    line = found.line
    width = max(20, style.width - 8)
    spans = []
    for span in line.spans:
        kind = "B" if span.op.kind == "BW" else span.op.kind
        letter = kind.lower() if span.op.direction or span.op.stage >= line.num_devices else kind
        spans.append((span.device, letter, span.start_s, span.end_s))
    drawn = letters(spans, line.num_devices, line.makespan_s, width)
    devices = list(range(line.num_devices))
    if len(devices) > 16:
        devices = [*devices[:8], *devices[-8:]]
    out = [f"  {d:>4} {drawn[d]}" for d in devices]
    return [
        *out,
        f"   GiB {_tenths(found, width)}",
        (
            "  F forward, B backward, W weight gradients, . idle; lower case: a later chunk or the second direction;"
            f" {sig(line.makespan_s)} s across; GiB: what device {found.memory.peak_device} holds at most, in tenths of"
            f" {gib(found.memory.peak.total_B)} GiB"
        ),
    ]


def _tenths(found: PlanTimeline, width: int) -> str:
    """One digit for each slice of time of the pipeline: the most that the device of the peak holds, 9 at the peak."""
    levels, end, top = found.memory.levels[found.memory.peak_device], found.line.makespan_s, found.memory.peak.total_B
    most = [0.0] * width
    for level, after in pairwise(levels):
        first, last = (min(width - 1, int(at / end * width)) for at in (level.at_s, min(after.at_s, end)))
        if level.at_s < end:
            for i in range(first, last + 1):
                most[i] = max(most[i], level.total_B)
    return "".join(str(min(9, int(held / top * 10.0))) for held in most)


def svg_head(title: str, left: int, width: int, height: int) -> Iterator[str]:
    """The opening of a drawing: its size, white paper, its title."""
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
        ' font-size="10">'
    )
    yield (
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="16" font-size="12">{escape(title)}'
        "</text>"
    )


def svg_legend(fills: Mapping[str, str], left: int, y: int, step: int = LEGEND_STEP) -> Iterator[str]:
    """A box in its fill and its name for each of several. step: from one name to the next."""
    for i, (name, colour) in enumerate(fills.items()):
        x = left + step * i
        yield f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="{y + 9}">{escape(name)}</text>'


def to_svg(found: PlanTimeline, *, width: int = 1200, row: int = 22) -> str:
    """The timeline as a drawing of its own. Raises ValueError above `MAX_DRAWN` operations."""
    line = found.line
    if len(line.spans) > MAX_DRAWN:
        raise ValueError(f"{len(line.spans)} operations are more than an SVG draws ({MAX_DRAWN}); write a .json trace")
    left, top = 40, 28
    scale = (width - left - 10) / found.step_s
    lanes = top + row * line.num_devices
    drawn = [
        *_svg(found, left, top, scale, width, lanes + 26 + _MEMORY_HEIGHT + 56, row),
        *_memory_svg(found, left, lanes + 40, scale),
        "</svg>",
    ]
    return "\n".join(drawn) + "\n"


def _svg(found: PlanTimeline, left: int, top: int, scale: float, width: int, height: int, row: int) -> Iterator[str]:
    line = found.line
    yield from svg_head(summary(found), left, width, height)
    for device in range(line.num_devices):
        yield f'<text x="4" y="{top + row * device + 14}">{device}</text>'
    for span in line.spans:
        x, w = left + span.start_s * scale, (span.end_s - span.start_s) * scale
        y = top + row * span.device
        later = span.op.direction or span.op.stage >= line.num_devices
        faint = ' fill-opacity="0.6"' if later else ""
        name = f"{_NAMES[span.op.kind]}, micro-batch {span.op.micro}, stage {span.op.stage}"
        yield (
            f'<rect x="{x:.2f}" y="{y}" width="{max(w, 0.1):.2f}" height="{row - 4}" fill="{_FILL[span.op.kind]}"'
            f'{faint} stroke="white" stroke-width="0.3"><title>{name}</title></rect>'
        )
        if w > 14:
            yield f'<text x="{x + 2:.2f}" y="{y + 13}" fill="white">{span.op.micro}</text>'
    start = line.makespan_s
    for part, seconds in found.tail_s.items():
        yield (
            f'<rect x="{left + start * scale:.2f}" y="{top}" width="{seconds * scale:.2f}"'
            f' height="{row * line.num_devices - 4}" fill="{_FILL["tail"]}"'
            f' fill-opacity="0.5"><title>{part}</title></rect>'
        )
        start += seconds
    names = {**{name: _FILL[kind] for kind, name in _NAMES.items()}, ", ".join(found.tail_s): _FILL["tail"]}
    yield from svg_legend(names, left, top + row * line.num_devices + 10)


def _memory_svg(found: PlanTimeline, left: int, top: int, scale: float) -> Iterator[str]:
    """What the device of the peak holds over the step, by category, one upon the other."""
    memory = found.memory
    levels = memory.levels[memory.peak_device]
    per_B = (_MEMORY_HEIGHT - 20) / max(memory.peak.total_B, memory.usable_B)
    floor = top + _MEMORY_HEIGHT

    def line(heights: Sequence[float]) -> list[tuple[float, float]]:
        """The corners of a line that keeps each height from its level to the next."""
        ys = [floor - height * per_B for height in heights]
        return [
            (left + at * scale, y)
            for (level, after), y in zip(pairwise(levels), ys, strict=False)
            for at in (level.at_s, after.at_s)
        ]

    yield f'<text x="{left}" y="{top + 10}" font-size="12">{words_of_peak(found)[0]}</text>'
    below = [0.0] * len(levels)
    for name, colour in _MEMORY_FILL.items():
        above = [low + level.held_B[name] for low, level in zip(below, levels, strict=True)]
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in [*line(above), *reversed(line(below))])
        if above != below:
            yield f'<polygon points="{points}" fill="{colour}"><title>{name}</title></polygon>'
        below = above
    yield from svg_legend(_MEMORY_FILL, left, floor + 8)
    y = floor - memory.usable_B * per_B
    yield (
        f'<line x1="{left}" x2="{left + found.step_s * scale:.2f}" y1="{y:.2f}" y2="{y:.2f}" stroke="black"'
        ' stroke-dasharray="4 3"><title>usable</title></line>'
    )
    yield f'<text x="2" y="{y + 4:.2f}">{gib(memory.usable_B)}</text>'
