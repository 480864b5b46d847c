"""Scores of answers: by metric, class and tool, and again on the rows that several tools answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from benchmarks.accuracy.rows import CLASSES, METRICS, Asked
from benchmarks.accuracy.run import Answer, Answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """rows: that state the metric; answered: of them; median, p90: of the error max(predicted / measured, measured /
    predicted) - 1; bias: median of predicted / measured, less 1; inside: share of the answers with a range whose range
    holds the measurement. None where nothing is answered."""

    rows: int
    answered: int
    median: float | None
    p90: float | None
    bias: float | None
    inside: float | None


def is_inside(one: Answer, measured: float) -> bool | None:
    """Whether the range holds the measurement; None where the tool states none."""
    if one.inside is not None:
        return one.inside
    if one.low is None or one.high is None:
        return None
    return one.low <= measured <= one.high


def error(one: Answer, measured: float) -> float:
    """max(predicted / measured, measured / predicted) - 1: twice as much and half as much are equally far off."""
    return math.expm1(abs(math.log(one.value / measured)))


def measured_of(rows: Iterable[Asked], metric: str, kind: str | None = None) -> dict[str, float]:
    """Row -> measurement, of the rows of a class (None: all) that state the metric."""
    return {
        row.id: row.measured[metric]
        for row in rows
        if metric in row.measured and kind in (None, row.kind) and not math.isnan(row.measured[metric])
    }


def score(measured: Mapping[str, float], found: Answered, metric: str) -> Score:
    """One tool on these rows."""
    pairs = [(found.answers[row][metric], m) for row, m in measured.items() if metric in found.answers.get(row, {})]
    if not pairs:
        return Score(rows=len(measured), answered=0, median=None, p90=None, bias=None, inside=None)
    errors = [error(one, m) for one, m in pairs]
    held = [inside for one, m in pairs if (inside := is_inside(one, m)) is not None]
    return Score(
        rows=len(measured),
        answered=len(pairs),
        median=float(np.median(errors)),
        p90=float(np.quantile(errors, 0.9)),
        bias=float(np.median([one.value / m for one, m in pairs])) - 1.0,
        inside=sum(held) / len(held) if held else None,
    )


def table(rows: Sequence[Asked], found: Sequence[Answered]) -> list[tuple[str, str, str, Score]]:
    """(metric, class, tool, score) of every class that has rows."""
    out = []
    for metric in METRICS:
        for kind in CLASSES:
            measured = measured_of(rows, metric, kind)
            out += [(metric, kind, one.tool, score(measured, one, metric)) for one in found if measured]
    return out


def common(rows: Sequence[Asked], found: Sequence[Answered], metric: str) -> tuple[list[Answered], dict[str, float]]:
    """(the tools that answer any row of a metric, the rows that all of these answer)."""
    measured = measured_of(rows, metric)
    able = [one for one in found if any(metric in one.answers.get(row, {}) for row in measured)]
    shared = {row: m for row, m in measured.items() if all(metric in one.answers.get(row, {}) for one in able)}
    return able, shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Two tools on the rows of a slice that both answer. nearer: share of them on which the peer is nearer to the
    measurement."""

    metric: str
    slice: str
    peer: str
    rows: int
    ours: float
    theirs: float
    nearer: float

    @property
    def is_better(self) -> bool:
        """Whether the peer's median error is the smaller one."""
        return self.theirs < self.ours


def beside(
    rows: Sequence[Asked], ours: Answered, peer: Answered, of: Callable[[Asked], str], least: int = 1
) -> list[Beside]:
    """Both tools by metric and slice, where both answer `least` rows or more. of: the slice of a row."""
    out = []
    for metric in METRICS:
        found: dict[str, list[tuple[float, float]]] = {}
        measured = measured_of(rows, metric)
        for row in rows:
            if row.id in measured and all(metric in one.answers.get(row.id, {}) for one in (ours, peer)):
                both = (error(one.answers[row.id][metric], measured[row.id]) for one in (ours, peer))
                found.setdefault(of(row), []).append((next(both), next(both)))
        for name, pairs in sorted(found.items()):
            if len(pairs) >= least:
                mine, theirs = (np.array(column) for column in zip(*pairs, strict=True))
                out.append(
                    Beside(
                        metric=metric,
                        slice=name,
                        peer=peer.tool,
                        rows=len(pairs),
                        ours=float(np.median(mine)),
                        theirs=float(np.median(theirs)),
                        nearer=float(np.mean(theirs < mine)),
                    )
                )
    return out


def only(rows: Sequence[Asked], ours: Answered, peer: Answered) -> int:
    """Rows that a peer answers and we do not."""
    return sum(row.id in peer.answers and row.id not in ours.answers for row in rows)


def reasons(rows: Sequence[Asked], one: Answered) -> list[tuple[str, str, int]]:
    """(work, reason, rows) of what a tool does not answer, most rows first."""
    counted = Counter((row.work, one.reasons[row.id]) for row in rows if row.id in one.reasons)
    return [(work, why, n) for (work, why), n in sorted(counted.items(), key=lambda kv: (-kv[1], kv[0]))]
