"""What of a user's measurements is used: fitted constants, the rows beside those that ship, both, or nothing.

Each kind of measurement is judged by itself, on points that are left out: what predicts them best is used, and nothing
that predicts them worse than today's facts do. Constants that only refused kinds moved stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.evidence.fitting.points import ConstantValues, Predictor
from mowich.evidence.fitting.solve import FOLDS, Calibrated, calibrate_points, folds_of
from mowich.facts import Facts
from mowich.serving.anchors import Anchor

_TAIL = 0.25
"""What the 90th percentile counts beside the median."""
_EVEN = 1e-3
"""How much larger an error may be and still count as none."""


@runtime_checkable
class RowPredictor(Predictor, Protocol):
    """Whose points can stand beside the measured rows that ship."""

    def rows_of(self, values: ConstantValues) -> dict[int, Anchor]: ...

    def errors_beside(self, values: ConstantValues, rows: Sequence[Anchor]) -> Floats: ...

    def kept_rows(self, rows: Sequence[Anchor]) -> list[Anchor]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """What is used of one kind. constants, beside: whether fitted constants are, and its rows; rows: those to write;
    before, after, held: ln(predicted/measured) of its points by today's facts, by what is used, and without the point's
    own setting (nan where there is no other)."""

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


@dataclass(frozen=True, slots=True)
class _Way:
    """One use of a part's points. values: of constants; held: by fold, without the points of that fold."""

    constants: bool
    beside: bool
    values: ConstantValues
    held: Sequence[ConstantValues]


def choose(
    parts: Sequence[Predictor], facts: Facts, *, widen: bool = False, tell: Callable[[str], None] = lambda text: None
) -> tuple[Calibrated, list[Choice]]:
    """(the fit of the kinds whose constants are used, the choice of each kind)."""
    fitted = list(parts)
    while True:
        found = calibrate_points(fitted, facts, widen=widen, tell=tell)
        tell("judging by points that are left out")
        choices = [_choice(part, found, fitted, facts) for part in parts]
        used = [one.part for one in choices if one.constants]
        if len(used) == len(fitted) or not len(found.prior.paths):
            return found, choices
        if not used:
            found = found.with_nothing()
            return found, [_choice(part, found, [], facts) for part in parts]
        fitted = used


def error_of(logs: Floats) -> tuple[float, float]:
    """(median, 90th percentile) of max(predicted/measured, measured/predicted) - 1; points without one are left out."""
    off = np.expm1(np.abs(logs[~np.isnan(logs)]))
    return (float(np.median(off)), float(np.quantile(off, 0.9))) if len(off) else (math.nan, math.nan)


def _choice(part: Predictor, found: Calibrated, fitted: Sequence[Predictor], facts: Facts) -> Choice:
    """What predicts the left-out points of a part best, and no worse than today's facts."""
    today = {path: facts.number(path) for path in part.paths}
    before = part.errors(today)
    ways = []
    folds = folds_of([point.setting for point in part.points], FOLDS)
    if any(part is one for one in fitted) and len(found.prior.paths):
        start = sum(len(one.points) for one in fitted[: next(i for i, one in enumerate(fitted) if one is part)])
        folds = found.folds[start : start + len(folds)]
        ways.append(_Way(True, False, found.problem.values(found.solution.theta), found.left_out))
    if isinstance(part, RowPredictor):
        plain = _Way(False, True, today, [today] * FOLDS)
        ways += [replace(way, beside=True) for way in ways] + [plain]
    held = [_held(part, folds, way) for way in ways]
    if len(np.unique(folds)) > 1:
        now = error_of(before)
        fits = [all(a <= b + _EVEN for a, b in zip(error_of(logs), now, strict=True)) for logs in held]
        order = sorted((_score(held[k]), k) for k in range(len(ways)) if fits[k])
    else:
        order = [(0.0, k) for k, way in enumerate(ways) if way.beside or not isinstance(part, RowPredictor)]
    if not order:
        return Choice(part, False, False, (), before, before, np.full(len(before), math.nan))
    k = order[0][1]
    rows = _rows(part, ways[k])
    kept = part.kept_rows(rows) if isinstance(part, RowPredictor) else []
    return Choice(part, ways[k].constants, ways[k].beside, tuple(kept), before, _errors(part, ways[k], rows), held[k])


def _score(logs: Floats) -> float:
    median, tail = error_of(logs)
    return median + _TAIL * tail


def _rows(part: Predictor, way: _Way, values: ConstantValues | None = None) -> list[Anchor]:
    """The measured rows of a part, over constants."""
    if not way.beside or not isinstance(part, RowPredictor):
        return []
    return list(part.rows_of(way.values if values is None else values).values())


def _errors(part: Predictor, way: _Way, rows: Sequence[Anchor], values: ConstantValues | None = None) -> Floats:
    values = way.values if values is None else values
    beside = way.beside and isinstance(part, RowPredictor)
    return part.errors_beside(values, rows) if beside and isinstance(part, RowPredictor) else part.errors(values)


def _held(part: Predictor, folds: NDArray[np.intp], way: _Way) -> Floats:
    """ln(predicted/measured) of every point by what was fitted without its setting; nan where there is one setting."""
    out = np.full(len(folds), math.nan)
    every = np.unique(folds)
    for fold in every if len(every) > 1 else ():
        at, values = folds == fold, way.held[int(fold)]
        rows: list[Anchor] = []
        if way.beside and isinstance(part, RowPredictor):
            rows = [row for k, row in part.rows_of(values).items() if not at[k]]
        out[at] = _errors(part, way, rows, values)[at]
    return out
