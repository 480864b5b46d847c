"""What a time is made of: words and group of every part, and the bars that show them.

A part has a name of its own in answers ("pp_transfer"). A reader sees it in words, and among five groups: compute,
memory, network, waiting, software. Products count as compute also where reading their weights binds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mowich.estimate import Estimate
from mowich.show.chart_grammar import DECALS, Range
from mowich.show.charts import Chart, Option, stacked_bars
from mowich.show.colours import GROUPS
from mowich.show.page import estimate_of
from mowich.shown import Result
from mowich.studies.ranking import names_listed
from mowich.sums import float_sum


class TimePart(NamedTuple):
    """words: for a reader; group: of GROUPS; short: in a narrow table, "" its name."""

    words: str
    group: str
    short: str = ""


PARTS_OF_TIME: Mapping[str, TimePart] = {
    # a training step
    "gemm": TimePart("matrix products", "compute", "matmul"),
    "attention": TimePart("attention", "compute"),
    "memory_bound": TimePart("work bound by memory", "memory", "HBM-bound"),
    "quantise": TimePart("conversion to 8 bits", "memory"),
    "moe": TimePart("routing of experts", "memory", "MoE routing"),
    "head": TimePart("output head", "compute"),
    "recompute": TimePart("recomputation", "compute"),
    "host": TimePart("launches by the host", "software"),
    "tp": TimePart("tensor-parallel exchange", "network", "TP"),
    "cp": TimePart("context-parallel exchange", "network", "CP"),
    "ep": TimePart("expert exchange", "network", "EP"),
    "pp": TimePart("hand-over between stages", "network", "PP"),
    "pp_transfer": TimePart("hand-over between stages", "network", "PP transfer"),
    "pp_bubble": TimePart("pipeline bubbles", "waiting", "bubble"),
    "dp": TimePart("exchange of gradients", "network", "DP"),
    "optimizer": TimePart("optimizer", "memory"),
    "offload": TimePart("offload to the host's memory", "network"),
    "fixed": TimePart("fixed time of a step", "software"),
    "jitter": TimePart("wait for the slowest chip", "waiting"),
    "software": TimePart("software beyond tuned kernels", "software"),
    # a token of serving
    "linear": TimePart("matrix products", "compute"),
    "experts": TimePart("experts", "compute"),
    "prefill_attention": TimePart("attention of prompts", "compute"),
    "activations": TimePart("activations", "memory"),
    "layers": TimePart("fixed time of layers", "software"),
    "launches": TimePart("wait for launches by the host", "software"),
    "prefill_interference": TimePart("prompts between tokens", "waiting"),
    # a first token
    "prefill": TimePart("prefill", "compute"),
    "step_wait": TimePart("wait for the running step", "waiting"),
    "queue": TimePart("queue", "waiting"),
    "start_burst": TimePart("burst at the start", "waiting"),
    "lockstep": TimePart("users in step", "waiting"),
    "held": TimePart("held by the scheduler", "waiting"),
    "kv_wait": TimePart("wait for room in the cache", "waiting"),
    "kv_transfer": TimePart("transfer of the cache", "network"),
    "prefill_queue_transfer": TimePart("prefill, queue and transfer", "waiting"),  # as older answers have it
    "front_end": TimePart("front end", "software"),
    "visibility": TimePart("until the user sees it", "software"),
    # a forward pass
    "outside": TimePart("work outside of the layers", "compute"),
    "cfg": TimePart("exchange of the branches", "network"),
    # a step of reinforcement learning
    "generation": TimePart("generation of answers", "memory"),
    "answers_wait": TimePart("wait for answers", "waiting"),
    "reward": TimePart("wait for rewards", "waiting"),
    "policy": TimePart("log-probabilities of the policy", "compute"),
    "reference": TimePart("log-probabilities of the reference", "compute"),
    "critic": TimePart("values of the critic", "compute"),
    "teacher": TimePart("log-probabilities of the teacher", "compute"),
    "training": TimePart("updates", "compute"),
    "sync": TimePart("weight synchronisation", "network"),
    "switch": TimePart("sleep, wake and offload", "software"),
    "other": TimePart("rest of the framework", "software"),
}
"""Parts of the times of training, serving, forward passes and reinforcement learning, by their names in answers."""

CACHE_READ: Mapping[str, TimePart] = {"attention": TimePart("reading the cache", "memory")}
"""What attention is between tokens of an answer."""

CORRECTION = "correction"
"""What served rows differ by on the sum of the other parts: a factor, so that every part has its share of it."""


MEMORY_WORDS: Mapping[str, str] = {"kv": "caches of requests", "optimizer": "optimizer state", "temporary": "buffers"}
"""Categories of memory that are not plain words already."""


def memory_words(name: str) -> str:
    """A category of memory, in words."""
    return MEMORY_WORDS.get(name, name.replace("_", " "))


def time_part(name: str, own: Mapping[str, TimePart] | None = None) -> TimePart:
    """A part; one that is not known is software. own: parts that mean something else in this time."""
    return (own or {}).get(name) or PARTS_OF_TIME.get(name) or TimePart(name.replace("_", " "), "software")


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
    seen = [k for k in dict.fromkeys(k for f in found for k in f) if any(f.get(k) for f in found)]
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
    ordered = sorted(
        seen, key=lambda k: (list(GROUPS).index(time_part(k, own).group), -float_sum(f.get(k, 0.0) for f in found))
    )
    parts: dict[str, list[float]] = {}
    for key in ordered:  # two parts may have the same words
        values = [f.get(key, 0.0) for f in found]
        old = parts.get(time_part(key, own).words)
        parts[time_part(key, own).words] = values if old is None else [a + b for a, b in zip(old, values, strict=True)]
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
    "TimePart",
    "group_shares",
    "memory_words",
    "short_part",
    "time_bars",
    "time_part",
    "whole_parts",
]
