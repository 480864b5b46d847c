"""Which rows would narrow a number most, before anybody measures them.

The error of a number is a sum of independent parts (the process of each latency around measured rows, and each fact
with a range), all normal in ln. A measurement narrows them by the correlation of its result with the number, whatever
the result is, so its worth is known in advance. `worth_most` chooses one after another, each as if the earlier ones
were made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mowich.arrays import Floats
from mowich.serving.anchors import CLASS_WORDS, Anchor, Anchors, Class, covariance_of
from mowich.sums import float_sum

LEAST_WORTH = 1e-3
"""A measurement that takes less than this share off the squared half-width of a range is not worth making."""
_LEAST_VARIANCE = 1e-15
"""Least variance in a division: an already known result has none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prospect:
    """One part of a number and n possible measurements. mean [1 + n]: expected ln of the number, then of each
    measurement; covariance [1 + n, 1 + n]: the same order; noise [n]: standard deviation, ln, of a result around the
    truth; weight: squared half-width of the number's range over a variance of this part; floor: squared half-width that
    no measurement takes away; before: squared half-width today."""

    mean: Floats
    covariance: Floats
    noise: Floats
    weight: float = 1.0
    floor: float = 0.0
    before: float

    def given(self, made: Sequence[int]) -> float:
        """Squared half-width with these measurements made."""
        if not any(self.covariance[0, 1 + k] for k in made):
            return self.before
        at = 1 + np.asarray(made, dtype=np.intp)
        cross, among = self._of(made)
        variance = self.covariance[0, 0] - cross @ _solved(among, self.covariance[at, 0])
        return self.weight * max(float(variance), 0.0) + self.floor

    def expected(self, made: Sequence[int], results: Floats) -> float:
        """Expected ln of the number, given results (ln) of these measurements."""
        if not len(made):
            return float(self.mean[0])
        cross, among = self._of(made)
        off = results - self.mean[1 + np.asarray(made, dtype=np.intp)]
        return float(self.mean[0] + cross @ _solved(among, off))

    def _of(self, made: Sequence[int]) -> tuple[Floats, Floats]:
        """Covariance of the number with results, and of results with each other."""
        at = 1 + np.asarray(made, dtype=np.intp)
        among = self.covariance[np.ix_(at, at)] + np.diag(self.noise[np.asarray(made, dtype=np.intp)] ** 2)
        return self.covariance[0, at], among


def _solved(among: Floats, right: Floats) -> Floats:
    """The least x with among x = right; results that repeat each other make the matrix singular."""
    return np.asarray(np.linalg.lstsq(among, right, rcond=None)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWorth:
    """A chosen measurement. place: among the offered ones; alone, left: half-width of the range in ln with it alone,
    and with it and the earlier choices."""

    place: int
    alone: float
    left: float


class RangePart(Protocol):
    """A part of a range."""

    @property
    def before(self) -> float: ...

    def given(self, made: Sequence[int]) -> float: ...


def half_width_of(parts: Sequence[RangePart], made: Sequence[int] = ()) -> float:
    """Half-width in ln of a number's range, with these measurements made."""
    return math.sqrt(float_sum(part.given(made) for part in parts))


def worth_most(parts: Sequence[RangePart], count: int, budget: int) -> list[RowWorth]:
    """At most `budget` of `count` measurements; each choice leaves the narrowest range after the earlier ones; of
    equals the first offered."""
    known = [part.covariance.copy() if isinstance(part, Prospect) else None for part in parts]
    now = np.array([part.before for part in parts])
    out: list[RowWorth] = []
    made: list[int] = []
    while len(made) < min(budget, count):
        after = np.array([_after(*one, made, count) for one in zip(parts, known, now, strict=True)])
        after[:, made] = math.inf
        total = np.round(after.sum(axis=0), 12)
        best = int(np.argmin(total))
        if total[best] > now.sum() * (1.0 - LEAST_WORTH):
            break
        now = after[:, best]
        for part, C in zip(parts, known, strict=True):
            if isinstance(part, Prospect) and C is not None:
                told = C[:, 1 + best].copy()
                C -= np.outer(told, told) / max(told[1 + best] + part.noise[best] ** 2, _LEAST_VARIANCE)
        made.append(best)
        out.append(RowWorth(place=best, alone=half_width_of(parts, [best]), left=math.sqrt(now.sum())))
    return out


def _after(part: RangePart, covariance: Floats | None, before: float, made: Sequence[int], count: int) -> Floats:
    """Squared half-width of a part after each possible measurement; its covariance already holds the made ones."""
    if not isinstance(part, Prospect) or covariance is None:
        return np.array([part.given([*made, k]) for k in range(count)])
    cross = covariance[0, 1:]
    variance = np.maximum(np.diag(covariance)[1:] + part.noise**2, _LEAST_VARIANCE)
    left = part.weight * np.maximum(covariance[0, 0] - cross**2 / variance, 0.0) + part.floor
    return np.where(part.covariance[0, 1:] == 0.0, before, left)


def row_prospect(
    known: Anchors, metric: str, question: Class, rows: Sequence[Anchor], *, weight: float = 1.0
) -> Prospect:
    """A latency of a class and rows that a user may measure, by the same law as `Anchors.with_rows`. weight: how much
    the number moves with the latency (elasticity)."""
    near, kernel = known.near(metric, question), known.kernel_of(metric, question)
    asked = Anchor(id="", source="", one=question, residue={metric: math.nan})
    joint = known.with_rows([asked, *rows])
    first = len(known.ids)
    at = np.concatenate([np.arange(first, first + 1 + len(rows)), near.at])
    covariance = covariance_of(kernel, joint.codes[at], joint.logs[at])
    if not question.version:  # the latency is of the release that the user measured
        release = CLASS_WORDS.index("version")
        own = (at > first) | (at >= first - known.own)
        same = own & (at != first) & (joint.codes[at, release] != joint.codes[first, release])
        factor = np.where(same, np.exp(kernel.apart[release]), 1.0)
        covariance[0] *= factor
        covariance[:, 0] *= factor
    n = 1 + len(rows)
    around = covariance[n:, n:] + np.diag(known.noise[metric][near.at] ** 2)
    told = np.linalg.solve(around, np.column_stack([covariance[n:, :n], known.residue[metric][near.at]]))
    half = float(near.half_width(question.users, question.log("prompt"))[0])
    scale = (weight * kernel.width) ** 2
    return Prospect(
        mean=covariance[:n, n:] @ told[:, n],
        covariance=covariance[:n, :n] - covariance[:n, n:] @ told[:, :n],
        noise=np.array([(row.noise or {}).get(metric, kernel.noise) for row in rows]),
        weight=scale,
        floor=scale * kernel.noise**2,
        before=(weight * half) ** 2,
    )
