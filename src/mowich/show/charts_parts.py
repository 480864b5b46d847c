"""What a time is made of: words and group of every part, and the bars that show them.

A part has a name of its own in answers ("pp_transfer"). A reader sees it in words, and among five groups: compute,
memory, network, waiting, software. Parts that have laws say theirs where the laws stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mowich.estimate import Estimate
from mowich.operators.parts import TimePart
from mowich.serving.parts import PARTS_OF_TOKEN
from mowich.show.chart_grammar import DECALS, Range
from mowich.show.charts import Chart, Option, stacked_bars
from mowich.show.colours import GROUPS
from mowich.show.page import GIB, estimate_of
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.sums import float_sum
from mowich.training.forward import PARTS_OF_PASS
from mowich.training.parts import PARTS_OF_STEP

_OWN = (
    # a token of serving
    TimePart("prefill_interference", "prompts between tokens", "waiting"),
    # a first token
    TimePart("prefill", "prefill", "compute"),
    TimePart("step_wait", "wait for the running step", "waiting"),
    TimePart("queue", "queue", "waiting"),
    TimePart("start_burst", "burst at the start", "waiting"),
    TimePart("lockstep", "users in step", "waiting"),
    TimePart("held", "held by the scheduler", "waiting"),
    TimePart("kv_wait", "wait for room in the cache", "waiting"),
    TimePart("kv_transfer", "transfer of the cache", "network"),
    TimePart("prefill_queue_transfer", "prefill, queue and transfer", "waiting"),  # as older answers have it
    TimePart("front_end", "front end", "software"),
    TimePart("visibility", "until the user sees it", "software"),
    # a step of reinforcement learning
    TimePart("generation", "generation of answers", "memory"),
    TimePart("answers_wait", "wait for answers", "waiting"),
    TimePart("reward", "wait for rewards", "waiting"),
    TimePart("policy", "log-probabilities of the policy", "compute"),
    TimePart("reference", "log-probabilities of the reference", "compute"),
    TimePart("critic", "values of the critic", "compute"),
    TimePart("teacher", "log-probabilities of the teacher", "compute"),
    TimePart("training", "updates", "compute"),
    TimePart("sync", "weight synchronisation", "network"),
    TimePart("switch", "sleep, wake and offload", "software"),
    TimePart("other", "rest of the framework", "software"),
)
"""Parts of first tokens and of steps of reinforcement learning, and what waits between tokens."""

PARTS_OF_TIME: Mapping[str, TimePart] = {
    part.name: part for part in (*PARTS_OF_TOKEN, *PARTS_OF_PASS, *PARTS_OF_STEP, *_OWN)
}
"""Parts of the times of training, serving, forward passes and reinforcement learning, by their names in answers."""

CACHE_READ: Mapping[str, TimePart] = {p.name: p for p in PARTS_OF_TOKEN if p.name == "attention"}
"""What attention is between tokens of an answer."""

CORRECTION = "correction"
"""What served rows differ by on the sum of the other parts: a factor, so that every part has its share of it."""


MEMORY_WORDS: Mapping[str, str] = {"kv": "caches of requests", "optimizer": "optimizer state", "temporary": "buffers"}
"""Categories of memory that are not plain words already."""


def memory_words(name: str) -> str:
    """A category of memory, in words."""
    return MEMORY_WORDS.get(name, name.replace("_", " "))


def memory_bars(
    named: Sequence[tuple[str, Result]],
    *,
    title: str = "Memory of a device against what a program may use",
    note: str = "The mark is the usable capacity.",
    finding: str = "",
) -> Chart:
    """The memory of a device by category, a bar for each row that has one, against the usable capacity."""
    kinds = dict.fromkeys(kind for _, row in named for kind in row["memory_B"])
    return stacked_bars(
        title,
        note,
        [name for name, _ in named],
        {memory_words(kind): [row["memory_B"].get(kind, 0.0) / GIB for _, row in named] for kind in kinds},
        unit="GiB",
        marks=[row.get("memory_capacity_B", 0.0) / GIB for _, row in named],
        mark="usable",
        finding=finding,
    )


def time_part(name: str, own: Mapping[str, TimePart] | None = None) -> TimePart:
    """A part; one that is not known is software. own: parts that mean something else in this time."""
    return (own or {}).get(name) or PARTS_OF_TIME.get(name) or TimePart(name, name.replace("_", " "), "software")


def short_part(name: str) -> str:
    """A part in a narrow table."""
    known = PARTS_OF_TIME.get(name)
    return (known.short if known else "") or name


def whole_parts(time: Estimate) -> dict[str, float]:
    """The parts of a time, by name, that sum to it: a correction of the sum is spread over all."""
    parts = {k: float(v) for k, v in time.breakdown.items() if k != CORRECTION}
    total, value = float_sum(parts.values()), float(time.value or 0.0)
    return {k: v * value / total for k, v in parts.items()} if total > 0 else parts


def group_shares(time: Estimate, own: Mapping[str, TimePart] | None = None) -> dict[str, float]:
    """The share of each group in a time, 0 to 1."""
    parts = whole_parts(time)
    total = float_sum(parts.values()) or 1.0
    return {g: float_sum(v for k, v in parts.items() if time_part(k, own).group == g) / total for g in GROUPS}


def time_bars(
    title: str,
    note: str,
    rows: Sequence[tuple[str, Result]],
    *,
    unit: str,
    scale: float = 1.0,
    own: Mapping[str, TimePart] | None = None,
) -> Chart:
    """Times of rows (their estimates as JSON), in five groups; the same as shares, and with every part. scale: from
    seconds to the unit; own: parts that mean something else in these times."""
    names = [name for name, _ in rows]
    times = [estimate_of(data) for _, data in rows]
    found = [{k: scale * v for k, v in whole_parts(t).items()} for t in times]
    groups = {g: [float_sum(v for k, v in f.items() if time_part(k, own).group == g) for f in found] for g in GROUPS}
    groups = {g: values for g, values in groups.items() if any(values)}
    fills: dict[str, Mapping[str, object]] = {g: {"color": GROUPS[g].light} for g in groups}
    ends: list[Range | None] = [
        (scale * t.low, scale * t.high) if t.low is not None and t.high is not None and t.high > t.low else None
        for t in times
    ]
    if any(CORRECTION in t.breakdown and t.breakdown[CORRECTION] for t in times):
        note = f"{note} What served runs differ by is spread over all parts."
    few = stacked_bars(
        title,
        note.strip(),
        names,
        groups,
        unit=unit,
        fills=fills,
        ends=ends,
        shares=True,
        finding=_finding(names, times, own),
    )
    ordered = _by_group(found, own)
    parts = _in_words(ordered, found, own)
    many = stacked_bars(title, note, names, parts, unit=unit, fills=_shades(ordered, own), ends=ends, shares=True)
    views: dict[str, Option] = {
        "groups": few.option,
        "groups, 100%": few.views["100%"],
        "all parts": many.option,
        "all parts, 100%": many.views["100%"],
    }
    return replace(
        few,
        views=views,
        head=["", *(f"{g}, {unit}" for g in groups), *many.head[1:]],
        rows=[[*a[: len(groups) + 1], *b[1:]] for a, b in zip(few.rows, many.rows, strict=True)],
    )


def _by_group(found: Sequence[Mapping[str, float]], own: Mapping[str, TimePart] | None) -> list[str]:
    """The parts that some row has, group after group, the longest first."""
    seen = [k for k in dict.fromkeys(k for f in found for k in f) if any(f.get(k) for f in found)]
    return sorted(
        seen, key=lambda k: (list(GROUPS).index(time_part(k, own).group), -float_sum(f.get(k, 0.0) for f in found))
    )


def _in_words(
    ordered: Sequence[str], found: Sequence[Mapping[str, float]], own: Mapping[str, TimePart] | None
) -> dict[str, list[float]]:
    """The values of parts by their words, one a row; parts with the same words are added up."""
    parts: dict[str, list[float]] = {}
    for key in ordered:
        values, words = [f.get(key, 0.0) for f in found], time_part(key, own).words
        old = parts.get(words)
        parts[words] = values if old is None else [a + b for a, b in zip(old, values, strict=True)]
    return parts


def _shades(parts: Sequence[str], own: Mapping[str, TimePart] | None) -> dict[str, Mapping[str, object]]:
    """Parts of a group have its colour, fainter one after another, and hatched every second time."""
    out: dict[str, Mapping[str, object]] = {}
    count: dict[str, int] = {}
    for key in parts:
        group = time_part(key, own).group
        i = count[group] = count.get(group, -1) + 1
        out.setdefault(
            time_part(key, own).words,
            {"color": GROUPS[group].light, "opacity": max(0.4, 1.0 - 0.2 * (i // 2)), **DECALS[i % 2]},
        )
    return {**out, "other": {"color": GROUPS["waiting"].light, "opacity": 0.4}}


def _finding(names: Sequence[str], times: Sequence[Estimate], own: Mapping[str, TimePart] | None) -> str:
    """Where most of the time goes."""
    shares = [group_shares(t, own) for t in times]
    if not shares or not any(t.breakdown for t in times):
        return ""
    first = {n: max(s, key=lambda g: s[g]) for n, s in zip(names, shares, strict=True)}
    if len(set(first.values())) == 1:
        group = next(iter(first.values()))
        found = sorted(round(100 * s[group]) for s in shares)
        span = f"{found[0]}%" if found[0] == found[-1] else f"{found[0]} to {found[-1]}%"
        return f"Most goes to {group}: {span}{' of each' if len(names) > 1 else ''}"
    said = [
        f"{group} on {names_listed([n for n in names if first[n] == group])}" for group in dict.fromkeys(first.values())
    ]
    return f"Most goes to {', to '.join(said)}"


__all__ = [
    "CACHE_READ",
    "CORRECTION",
    "PARTS_OF_TIME",
    "group_shares",
    "memory_bars",
    "memory_words",
    "short_part",
    "time_bars",
    "time_part",
    "whole_parts",
]
