"""A few steps of a run of reinforcement learning, who does what when: as text, as SVG, as a trace that ui.perfetto.dev
opens, and as a picture of a page. All of `Cycle.spans`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from mowich.rl.cycle import CycleSpan
from mowich.show.charts import Chart
from mowich.show.charts_parts import PARTS_OF_TIME, time_part
from mowich.show.charts_time import timeline_chart
from mowich.show.colours import GROUPS, PAPER, Colour, mixed_colour
from mowich.show.render.terminal import Style, wrap
from mowich.show.timeline import letters, named_threads, slice_event, svg_head, svg_legend, trace_text
from mowich.units import sig

TRAINER = "trainer"

_LETTERS: Mapping[str, str] = {
    "answers_wait": ".",
    "generation": "G",
    "reward": "W",
    "policy": "P",
    "reference": "R",
    "critic": "C",
    "teacher": "T",
    "training": "U",
    "sync": "S",
    "switch": "X",
    "other": "O",
}
"""What a lane does, in one character."""

_FAINTER = 0.28
"""How much fainter each further part of a group is."""

MOST_LANES = 9
"""Lanes that a page and a terminal show: the trainer, all rollouts, the first workers."""


def with_waits(spans: Sequence[CycleSpan], placement: str) -> list[CycleSpan]:
    """Spans by the names of `charts_parts`: while answers are made, a split trainer waits."""
    waits = (TRAINER, "generation") if placement == "split" else None
    return [replace(span, what="answers_wait") if (span.lane, span.what) == waits else span for span in spans]


def spans_of(told: Sequence[Sequence[object]], placement: str) -> list[CycleSpan]:
    """Spans from the JSON of an answer: [lane, what, version, from_s, to_s] each; placement: of its run."""
    found = [
        CycleSpan(
            lane=str(lane), what=str(what), version=int(str(version)), from_s=float(str(start)), to_s=float(str(end))
        )
        for lane, what, version, start, end in told
    ]
    return with_waits(found, placement)


def lanes_of(spans: Sequence[CycleSpan]) -> list[str]:
    """Lanes from top to bottom: the trainer, the rollouts, workers by their numbers."""
    return sorted(
        {span.lane for span in spans},
        key=lambda lane: (lane != TRAINER, int(lane) if lane.isdecimal() else -1, lane),
    )


def lane_words(lane: str) -> str:
    """What a lane is called."""
    return f"worker {lane}" if lane.isdecimal() else lane


def _shades(spans: Sequence[CycleSpan]) -> dict[str, tuple[Colour, float]]:
    """The colour of the group of each part, by its words, and how much of paper shines through: parts of one group are
    fainter, the one that takes longest is not."""
    took = dict.fromkeys(_seen(spans), 0.0)
    for span in spans:
        took[span.what] += span.to_s - span.from_s
    out: dict[str, tuple[Colour, float]] = {}
    count: dict[str, int] = {}
    for part in sorted(took, key=lambda part: -took[part]):
        known = time_part(part)
        i = count[known.group] = count.get(known.group, -1) + 1
        out[known.words] = GROUPS[known.group], _FAINTER * min(i, 2)
    return {words: out[words] for words in (time_part(part).words for part in took)}


def _seen(spans: Sequence[CycleSpan]) -> list[str]:
    """Parts that are there, in print order; parts that are not known behind them."""
    there = {span.what for span in spans}
    return [part for part in PARTS_OF_TIME if part in there] + sorted(there - set(PARTS_OF_TIME))


def _from_zero(spans: Sequence[CycleSpan]) -> list[CycleSpan]:
    """The same, the first one beginning at 0: a timeline shows steps after those that fill the pipeline."""
    start = min((span.from_s for span in spans), default=0.0)
    return [replace(span, from_s=span.from_s - start, to_s=span.to_s - start) for span in spans]


def _end_s(spans: Sequence[CycleSpan]) -> float:
    return max(span.to_s for span in spans)


def trace_of_steps(spans: Sequence[CycleSpan], title: str) -> str:
    """JSON trace events: a thread for each lane, a slice for each span."""
    lanes = lanes_of(spans)
    events = named_threads(title, [lane_words(lane) for lane in lanes])
    for span in spans:
        words = time_part(span.what).words
        at = lanes.index(span.lane)
        events.append(slice_event(at, words, span.what, span.from_s, span.to_s, version=span.version))
    return trace_text(events)


def draw_steps(spans: Sequence[CycleSpan], style: Style) -> list[str]:
    """A row of characters for each lane: what it does for most of each slice of time. No lines where there are no
    spans."""
    if not spans:
        return []
    spans = _from_zero(spans)
    lanes = lanes_of(spans)[:MOST_LANES]
    width, end = max(20, style.width - 13), _end_s(spans)
    at = [(lanes.index(s.lane), _LETTERS.get(s.what, "O"), s.from_s, s.to_s) for s in spans if s.lane in lanes]
    said = [f"{_LETTERS.get(part, 'O')} {time_part(part).words}" for part in _seen(spans) if part != "answers_wait"]
    return [
        *(
            style.text(f"  {lane_words(lane):>10} {row}")
            for lane, row in zip(lanes, letters(at, len(lanes), end, width), strict=True)
        ),
        *wrap(f"{', '.join(said)}, . waits; {sig(end)} s across", style),
    ]


def timeline_picture(spans: Sequence[CycleSpan], name: str) -> Chart:
    """The picture of a page. name: of the run."""
    spans = _from_zero(spans)
    lanes = lanes_of(spans)[:MOST_LANES]
    return timeline_chart(
        "Who does what in a few steps",
        f"Of {name}. Empty: waits. --timeline FILE.json writes it for ui.perfetto.dev.",
        {
            lane_words(lane): [(s.from_s, s.to_s, time_part(s.what).words) for s in spans if s.lane == lane]
            for lane in lanes
        },
        unit="s",
        looks={
            words: {"color": colour.light, "opacity": round(1.0 - paper, 2)}
            for words, (colour, paper) in _shades(spans).items()
        },
    )


def svg_of_steps(spans: Sequence[CycleSpan], title: str, *, width: int = 1200, row: int = 24) -> str:
    """A drawing of its own, each span with the version of its weights."""
    spans = _from_zero(spans)
    fills = {words: mixed_colour(colour, PAPER, paper).light for words, (colour, paper) in _shades(spans).items()}
    lanes, left, top = lanes_of(spans), 70, 28
    scale = (width - left - 10) / _end_s(spans)
    floor = top + row * len(lanes)
    out = list(svg_head(title, left, width, floor + 48))
    for i, lane in enumerate(lanes):
        out.append(f'<text x="4" y="{top + row * i + 15}">{escape(lane_words(lane))}</text>')
    for span in spans:
        words = time_part(span.what).words
        x, wide, y = left + span.from_s * scale, (span.to_s - span.from_s) * scale, top + row * lanes.index(span.lane)
        out.append(
            f'<rect x="{x:.2f}" y="{y}" width="{max(wide, 0.1):.2f}" height="{row - 4}" fill="{fills[words]}"'
            f' stroke="white" stroke-width="0.3"><title>{escape(words)}, weights'
            f" {span.version}, {sig(span.from_s)} to {sig(span.to_s)} s</title></rect>"
        )
        if wide > 14:
            out.append(f'<text x="{x + 2:.2f}" y="{y + 14}" fill="white">{span.version}</text>')
    out += svg_legend(fills, left, floor + 4, step=(width - left) // len(fills))
    out.append(
        f'<text x="{left}" y="{floor + 38}">{sig(_end_s(spans))} s across; a number: the version of weights</text>'
    )
    return "\n".join([*out, "</svg>"]) + "\n"
