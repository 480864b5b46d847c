"""How a user's measurements are used: as fitted constants, as rows next to the shipped rows, as both, or not at all.

Each kind of measurement is judged by itself on left-out points: the use that predicts them best wins, and none that
predicts them worse than today's facts. Constants that only refused kinds moved keep their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.evidence.fitting.points import ConstantValues, Predictor
from mowich.evidence.fitting.solve import FOLDS, Calibrated, calibrate_points, folds_of
from mowich.facts import Facts
from mowich.serving.anchors import Anchor

_TAIL = 0.25
"""Weight of the 90th percentile against the median."""
_NEARLY = 0.1
"""How much worse, ln, constants may be than rows alone and still be fitted: constants also help where no row is near.
Where points can serve as rows, a fit needs `FOLDS` settings or more."""
_EVEN = 0.01
"""Smaller errors count as none: repeated measurements of one run scatter as much."""


@runtime_checkable
class RowPredictor(Predictor, Protocol):
    """A predictor whose points can serve as rows next to the shipped rows."""

    def rows_of(self, values: ConstantValues) -> dict[int, Anchor]: ...

    def errors_beside(self, values: ConstantValues, rows: Sequence[Anchor]) -> Floats: ...

    def kept_rows(self, rows: Sequence[Anchor]) -> list[Anchor]: ...


@dataclass(frozen=True, slots=True)
class UsedPoints:
    """How one kind is used. constants, beside: whether its fitted constants are used, and whether its rows are; rows:
    rows to write; before, after, held: ln(predicted/measured) of its points by today's facts, by the chosen use, and
    without the point's own setting (nan where there is no other)."""

    part: Predictor
    constants: bool
    beside: bool
    rows: tuple[Anchor, ...]
    before: Floats
    after: Floats
    held: Floats

    @property
    def is_used(self) -> bool:
        return self.constants or self.beside


def used_of(
    parts: Sequence[Predictor], facts: Facts, *, widen: bool = False, tell: Callable[[str], None] = lambda text: None
) -> tuple[Calibrated, list[UsedPoints]]:
    """(fit of the kinds whose constants are used, choice for each kind)."""
    fitted = list(parts)
    while True:
        found = calibrate_points(fitted, facts, widen=widen, tell=tell)
        tell("judging by points that are left out")
        choices = [_choice(part, found, fitted, facts) for part in parts]
        used = [one.part for one in choices if one.constants]
        if len(used) == len(fitted):
            return found, choices
        if not len(found.prior.paths):  # today's constants: the points confirm them, where any were fitted
            is_asked = all(_is_enough(part, facts) for part in fitted)
            return (found if is_asked else found.with_nothing()), choices
        if not used:
            found = found.with_nothing()
            return found, [_choice(part, found, [], facts) for part in parts]
        fitted = used


def error_of(logs: Floats) -> tuple[float, float]:
    """(median, 90th percentile) of max(predicted/measured, measured/predicted) - 1; points without one are left out."""
    off = np.expm1(np.abs(logs[~np.isnan(logs)]))
    return (float(np.median(off)), float(np.quantile(off, 0.9))) if len(off) else (math.nan, math.nan)


def _choice(part: Predictor, found: Calibrated, fitted: Sequence[Predictor], facts: Facts) -> UsedPoints:
    """The use that predicts the left-out points of a part best, and no metric worse than today's facts. Rows are chosen
    for each metric by itself."""
    today = {path: facts.number(path) for path in part.paths}
    before, metric = part.errors(today), np.array([point.metric for point in part.points])
    folds = folds_of([point.setting for point in part.points], FOLDS)
    ways: list[tuple[ConstantValues, Sequence[ConstantValues]]] = [(today, [today] * FOLDS)]
    if any(part is one for one in fitted) and len(found.prior.paths) and _is_enough(part, facts):
        start = sum(len(one.points) for one in fitted[: next(i for i, one in enumerate(fitted) if one is part)])
        folds = found.folds[start : start + len(folds)]
        ways.append((found.problem.values(found.solution.theta), found.left_out))
    tried: list[tuple[float, int, frozenset[str], Floats]] = []
    for k, (_, held_values) in enumerate(ways):
        held = _held(part, folds, held_values, beside=False)
        beside = _held(part, folds, held_values, beside=True)
        named = np.unique(metric).tolist()
        own = frozenset(m for m in named if _score(beside[metric == m]) < _score(held[metric == m]))
        held = np.where(np.isin(metric, list(own)), beside, held)
        gains = [math.log(_score(held[metric == m]) / _score(before[metric == m])) for m in named]
        if k + len(own) and (np.isnan(gains).all() or max(gains) <= 0.0):
            tried.append((float(np.mean(gains)) - (_NEARLY if k else 0.0), k, own, held))
    if len(np.unique(folds)) < 2:  # nothing to judge by: use everything
        own = frozenset(metric.tolist()) if isinstance(part, RowPredictor) else frozenset()
        tried = [(0.0, len(ways) - 1, own, np.full(len(before), math.nan))] if own or len(ways) > 1 else []
    if not tried:
        return UsedPoints(part, False, False, (), before, before, np.full(len(before), math.nan))
    _, k, own, held = min(tried, key=lambda one: one[:2])
    if not isinstance(part, RowPredictor):
        return UsedPoints(part, k > 0, False, (), before, part.errors(ways[k][0]), held)
    kept = [row for i, row in part.rows_of(ways[k][0]).items() if metric[i] in own]
    after = part.errors_beside(ways[k][0], kept)
    return UsedPoints(part, k > 0, bool(kept), tuple(part.kept_rows(kept)), before, after, held)


def _is_enough(part: Predictor, facts: Facts) -> bool:
    """Whether constants are fitted to a part: not where it has few settings and its points can serve as rows."""
    rows = part.rows_of({path: facts.number(path) for path in part.paths}) if isinstance(part, RowPredictor) else {}
    settings = len({point.setting for point in part.points})
    return not rows or not 1 < min(settings, FOLDS) < FOLDS


def _score(logs: Floats) -> float:
    median, tail = error_of(logs)
    return max(median + _TAIL * tail, _EVEN)


def _held(part: Predictor, folds: NDArray[np.intp], values: Sequence[ConstantValues], *, beside: bool) -> Floats:
    """ln(predicted/measured) of every point by constants fitted without its setting and rows of the other settings; nan
    where there is one setting."""
    out = np.full(len(folds), math.nan)
    every = np.unique(folds)
    for fold in every if len(every) > 1 else ():
        at, known = folds == fold, values[int(fold)]
        if beside and isinstance(part, RowPredictor):
            rows = [row for k, row in part.rows_of(known).items() if not at[k]]
            out[at] = part.errors_beside(known, rows)[at]
        else:
            out[at] = part.errors(known)[at]
    return out
