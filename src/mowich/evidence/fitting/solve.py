"""The constants that fit measurements best, and how certain they are.

Each constant has a prior: log-normal around today's value, its range the middle 90%, its ends hard bounds. Two things
are shared and learned from the data (a hierarchical fit): how far constants move at all (`scale`: where measurements
agree with today's values, all stay nearer to them), and the scatter of each kind of figure. Points of one machine share
an error that no constant explains (`SHARED_SD`), so that a hundred points of one run do not count as a hundred runs.

    minimise sum w (r + u)^2 / sigma^2 + d' P d / scale^2 + sum (u / SHARED_SD)^2

r: ln(predicted/measured) at the constants; d: ln of a constant over today's; P: the precision of the prior, 1/sd^2
of each, and what an earlier calibration found of them together (`facts/together.py`); u: of a machine. Gauss-Newton,
robust weights w, an active set for the bounds. Ranges come from the posterior with the whole prior (scale 1), so the
shrinkage does not narrow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.evidence.fitting.moved import has_range
from mowich.evidence.fitting.points import MeasuredPoint, Predictor
from mowich.facts import Facts
from mowich.facts.together import correlation_matrix, correlations

RANGE_END = 1.645
"""Standard deviations from the middle of a 90% range to its end."""
SHARED_SD = 0.03
"""Spread, ln, of the error that the points of one machine share beside constants."""
SCATTER: Mapping[str, float] = {"tpot_ms": 0.12, "ttft_ms": 0.30, "time_us": 0.12}
"""Spread, ln, of the figures of a metric before the data says more; others: `SCATTER_ELSE`. The fit of the shipped
constants used the same."""
SCATTER_ELSE = 0.08
LEAST_SCATTER = 0.01
PRIOR_POINTS = 4.0
"""Points that the spreads above count as."""
PRIOR_CONSTANTS = 2.0
"""Constants that a scale of 1 counts as."""
LEAST_SCALE = 0.1
_ROUNDS = 8
_END, _AT_END = 1e-12, 1e-9
"""Tolerance, ln, within which a constant counts as standing at an end."""
_LONGEST = 0.5
"""Longest step of a constant in a round, ln."""
IDENTIFIED = 0.75
"""A constant is identified where the data leaves less than this share of the spread of its prior."""
_LEAST_NARROWED = 0.01
"""Share of its spread from which the data confirms a constant that it neither identifies nor moves."""
_MOVED = 0.25
"""A constant that is not identified by itself, but moves by this share of its spread or more, moves with others that
the data cannot separate from it."""
_TOGETHER = 0.6
"""Correlation, of either sign, from which two constants count as badly separated."""
INSENSITIVE = 1e-4
"""A constant is left out of the fit where its whole range moves no point by more than this, ln."""


@dataclass(frozen=True, slots=True)
class Priors:
    """paths of constants; middle, sd, low, high: of their logs [n]; correlation: of their logs [n, n]."""

    paths: tuple[str, ...]
    middle: Floats
    sd: Floats
    low: Floats
    high: Floats
    correlation: Floats

    @classmethod
    def of(cls, paths: Sequence[str], facts: Facts, *, widen: bool) -> Priors:
        """From the facts and their ranges; with `widen` a value may pass the ends."""
        found = [facts.fact(path) for path in paths]
        assert all(has_range(fact) for fact in found)
        middle = np.array([math.log(float(f.value or 0.0)) for f in found])
        low, high = (np.array([math.log(getattr(f, end)) for f in found]) for end in ("low", "high"))
        sd = (high - low) / (2.0 * RANGE_END)
        if widen:
            low, high = np.full(len(paths), -math.inf), np.full(len(paths), math.inf)
        return cls(tuple(paths), middle, sd, low, high, correlation_matrix(paths, facts))

    def take(self, at: NDArray[np.intp]) -> Priors:
        """The priors of some of the constants, whatever the others are."""
        of = (self.middle[at], self.sd[at], self.low[at], self.high[at], self.correlation[np.ix_(at, at)])
        return Priors(tuple(self.paths[i] for i in at), *of)

    @property
    def precision(self) -> Floats:
        """The inverse of the covariance of the logs [n, n]."""
        return np.asarray(np.linalg.inv(self.correlation * np.outer(self.sd, self.sd)))


class JointProblem:
    """Points of several predictors and the constants of all of them."""

    def __init__(self, parts: Sequence[Predictor], paths: Sequence[str], facts: Facts) -> None:
        """paths: constants that may move; all others stay as the facts have them."""
        self.parts = parts
        self.points: list[MeasuredPoint] = [point for part in parts for point in part.points]
        self.paths = tuple(paths)
        self.fixed = {path: facts.number(path) for part in parts for path in part.paths}
        names = sorted({point.machine for point in self.points})
        self.machine = np.array([names.index(point.machine) for point in self.points])
        self.machines = len(names)
        self.scatter = np.array([SCATTER.get(point.metric, SCATTER_ELSE) for point in self.points])
        metrics = sorted({point.metric for point in self.points})
        self.metric = np.array([metrics.index(point.metric) for point in self.points])

    def values(self, theta: Floats) -> dict[str, float]:
        return {**self.fixed, **{p: math.exp(t) for p, t in zip(self.paths, theta, strict=True)}}

    def errors(self, theta: Floats) -> Floats:
        """ln(predicted/measured) of every point."""
        values = self.values(theta)
        return np.concatenate([part.errors(values) for part in self.parts])

    def slopes(self, theta: Floats) -> tuple[Floats, Floats]:
        """(`errors`, their derivatives by every constant of `paths` [points, paths])."""
        values = self.values(theta)
        r, rows = [], []
        for part in self.parts:
            errors, mine = part.slopes(values)
            J = np.zeros((len(errors), len(self.paths)))
            for j, path in enumerate(part.paths):
                if path in self.paths:
                    J[:, self.paths.index(path)] = mine[:, j]
            r.append(errors)
            rows.append(J)
        return np.concatenate(r), np.vstack(rows)


@dataclass(frozen=True, slots=True)
class FittedConstants:
    """theta: ln of the constants; sd: of their posterior with the whole prior; correlation [n, n]; scale: how far
    constants move, over their priors; stopped: constants held at an end of their range."""

    theta: Floats
    sd: Floats
    correlation: Floats
    scale: float
    stopped: NDArray[np.bool_]


def bounded_step(
    H: Floats, g: Floats, theta: Floats, low: Floats, high: Floats, *, stops_at_ends: bool = True
) -> Floats:
    """The step that solves H step = -g with theta + step within low..high: an active set, of which there is this one.

    Constants that would pass an end stop there, and the others are solved for again. stops_at_ends=False: only
    constants already at an end stop; the caller cuts the step of the others, because it checks the loss there.
    """
    held = np.zeros(len(theta), dtype=bool)
    step = np.zeros(len(theta))
    for _ in range(len(theta) + 1):
        at, fixed = np.flatnonzero(~held), np.flatnonzero(held)
        rest = -g[at] - H[np.ix_(at, fixed)] @ step[fixed]
        step[at] = np.linalg.solve(H[np.ix_(at, at)], rest)
        to = theta + step
        below, above = to < low - _END, to > high + _END
        if not stops_at_ends:
            below, above = below & (theta <= low + _AT_END), above & (theta >= high - _AT_END)
        over = ~held & (below | above)
        if not over.any():
            break
        step[over] = np.clip(to[over], low[over], high[over]) - theta[over] if stops_at_ends else 0.0
        held |= over
    return step


def solve(
    problem: JointProblem,
    prior: Priors,
    rows: NDArray[np.bool_],
    start: Floats | None = None,
    rounds: int = _ROUNDS,
    slopes: tuple[Floats, Floats] | None = None,
) -> FittedConstants:
    """The constants from the points of `rows`. slopes: at `start`, where they are known."""
    n, m = len(prior.paths), problem.machines
    theta = prior.middle.copy() if start is None else start.copy()
    Z = np.zeros((int(rows.sum()), m))
    Z[np.arange(len(Z)), problem.machine[rows]] = 1.0
    metric, first = problem.metric[rows], problem.scatter[rows]
    sigma, scale = first.copy(), 1.0
    low = np.concatenate([prior.low, np.full(m, -math.inf)])
    high = np.concatenate([prior.high, np.full(m, math.inf)])
    data = np.zeros((n + m, n + m))
    whole = np.diag(np.full(n + m, SHARED_SD**-2.0))
    whole[:n, :n] = prior.precision
    for turn in range(rounds):
        r, J = (x[rows] for x in (slopes if slopes is not None and turn == 0 else problem.slopes(theta)))
        A = np.hstack([J, Z])
        weight = 1.0 / np.sqrt(1.0 + (r / sigma / 1.5) ** 2) / sigma**2
        pull = whole.copy()
        pull[:n, :n] /= scale**2
        data = A.T @ (A * weight[:, None])
        g = A.T @ (weight * r) + pull @ np.concatenate([theta - prior.middle, np.zeros(m)])
        step = bounded_step(data + pull, g, np.concatenate([theta, np.zeros(m)]), low, high)
        step[:n] = np.clip(step[:n], -_LONGEST, _LONGEST)
        theta = theta + step[:n]
        left = r + A @ step
        for k in np.unique(metric):
            of = metric == k
            total = PRIOR_POINTS * first[of][0] ** 2 + float((weight[of] * sigma[of] ** 2 * left[of] ** 2).sum())
            sigma[of] = max(LEAST_SCATTER, math.sqrt(total / (PRIOR_POINTS + of.sum())))
        d, shrunk = theta - prior.middle, np.linalg.inv(data + pull)[:n, :n]
        moved = d @ prior.precision @ d + np.sum(prior.precision * shrunk)
        scale = float(np.sqrt((PRIOR_CONSTANTS + moved) / (PRIOR_CONSTANTS + n)))
        scale = min(1.0, max(LEAST_SCALE, scale))
        if np.max(np.abs(step[:n]), initial=0.0) < 1e-4:
            break
    covariance = np.linalg.inv(data + whole)[:n, :n]
    sd = np.sqrt(np.diag(covariance))
    stopped = (theta <= prior.low + 1e-9) | (theta >= prior.high - 1e-9)
    return FittedConstants(theta, sd, covariance / np.outer(sd, sd), scale, stopped)


def folds_of(settings: Sequence[str], most: int) -> NDArray[np.intp]:
    """Fold of each point: points of one setting together, settings dealt out in the order of their first point."""
    order = list(dict.fromkeys(settings))
    count = min(most, len(order))
    return np.array([order.index(setting) % count for setting in settings])


FOLDS = 10
_FOLD_ROUNDS = 1
"""Rounds of a fit with points left out: one is enough, because it starts near its end, at the constants of the whole
fit."""


def _left_out(
    problem: JointProblem, prior: Priors, full: FittedConstants, folds: NDArray[np.intp]
) -> tuple[Mapping[str, float], ...]:
    """The constants by fold, fitted without the points of that fold; none where all points belong to one fold."""
    if folds.max(initial=0) == 0:
        return ()
    slopes = problem.slopes(full.theta)
    return tuple(
        problem.values(solve(problem, prior, folds != fold, start=full.theta, rounds=_FOLD_ROUNDS, slopes=slopes).theta)
        for fold in range(int(folds.max()) + 1)
    )


def is_narrowed(sd: Floats, before: Floats) -> NDArray[np.bool_]:
    """Whether the data narrows constants. sd, before: spreads of their ln with the data and without."""
    return np.asarray(sd < (1.0 - _LEAST_NARROWED) * before)


@dataclass(frozen=True, slots=True)
class Posterior:
    """The uncertainty of constants after a fit. paths; sd: of their ln [n]; correlation [n, n]."""

    paths: tuple[str, ...]
    sd: Floats
    correlation: Floats

    def take(self, paths: Sequence[str]) -> Posterior:
        """The posterior of some of the constants, in this order."""
        at = np.array([self.paths.index(path) for path in paths], dtype=np.intp)
        return Posterior(tuple(paths), self.sd[at], self.correlation[np.ix_(at, at)])


@dataclass(frozen=True, slots=True)
class Calibrated:
    """problem: with the constants that are kept; folds: of its points; left_out: all constants by fold, fitted without
    its points; asked: constants that move a point; identified: whether each kept constant is identified by itself;
    together: path -> others that the data cannot separate from it; posterior: of the kept constants and of those whose
    values the points confirm."""

    problem: JointProblem
    prior: Priors
    solution: FittedConstants
    folds: NDArray[np.intp]
    left_out: Sequence[Mapping[str, float]]
    asked: tuple[str, ...]
    identified: tuple[str, ...]
    together: Mapping[str, tuple[str, ...]]
    posterior: Posterior

    def with_nothing(self) -> Calibrated:
        """This calibration, with no constant changed."""
        none = np.zeros(0, dtype=np.intp)
        nothing = Posterior((), np.zeros(0), np.zeros((0, 0)))
        return replace(
            self, prior=self.prior.take(none), solution=_nothing(), identified=(), together={}, posterior=nothing
        )


def calibrate_points(
    parts: Sequence[Predictor],
    facts: Facts,
    *,
    widen: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Calibrated:
    """The constants that the points identify; all others keep today's values. tell: is called with the progress."""
    earlier = {path for pair in correlations(facts) for path in pair if has_range(facts.fact(path))}
    paths = tuple(dict.fromkeys([*(path for part in parts for path in part.paths), *sorted(earlier)]))
    whole = JointProblem(parts, paths, facts)
    prior = Priors.of(paths, facts, widen=widen)
    everything = np.ones(len(whole.points), dtype=bool)
    tell(f"how {len(whole.points)} points depend on {len(paths)} constants")
    _, J = whole.slopes(prior.middle)
    folds = folds_of([point.setting for point in whole.points], FOLDS)
    felt = np.abs(J).max(axis=0, initial=0.0) * 2.0 * RANGE_END * prior.sd > INSENSITIVE
    # what an earlier calibration found of constants together is carried on, also where they move no point
    known_together = np.array([path in earlier for path in paths], dtype=np.bool_)
    felt_paths = tuple(path for path, is_felt in zip(paths, felt, strict=True) if is_felt)
    asked = np.flatnonzero(felt | known_together)
    first = JointProblem(parts, [paths[i] for i in asked], facts)
    known = prior.take(asked)
    tell(f"fitting {len(asked)} constants to {len(whole.points)} points")
    found = solve(first, known, everything) if len(asked) else _nothing()
    told = found.sd < IDENTIFIED * known.sd
    moved = np.abs(found.theta - known.middle) > _MOVED * known.sd
    kept = np.flatnonzero(told | moved)
    told_of = np.flatnonzero(told | moved | is_narrowed(found.sd, known.sd) | known_together[asked])
    posterior = Posterior(known.paths, found.sd, found.correlation).take([known.paths[k] for k in told_of])
    problem = JointProblem(parts, [known.paths[i] for i in kept], facts)
    final = known.take(kept)
    if not len(kept):
        return Calibrated(problem, final, _nothing(), folds, (), felt_paths, (), {}, posterior)
    tell(f"fitting the {len(kept)} that the points identify or move")
    # unchanged constants remain uncertain: ranges are those of the fit of all
    solution = replace(solve(problem, final, everything, start=found.theta[kept]), sd=found.sd[kept])
    alone = tuple(known.paths[k] for k in kept if told[k])
    together = {
        path: tuple(
            known.paths[k]
            for k in _by_correlation(found.correlation, int(kept[j]))
            if abs(found.correlation[kept[j], k]) > _TOGETHER
        )
        for j, path in enumerate(final.paths)
    }
    tell("predicting points that are left out")
    return Calibrated(
        problem,
        final,
        solution,
        folds,
        _left_out(problem, final, solution, folds),
        felt_paths,
        alone,
        together,
        posterior,
    )


def _by_correlation(correlation: Floats, j: int) -> list[int]:
    """The other constants, the most correlated first."""
    order = sorted(range(len(correlation)), key=lambda k: -abs(float(correlation[j, k])))
    return [k for k in order if k != j]


def _nothing() -> FittedConstants:
    return FittedConstants(np.zeros(0), np.zeros(0), np.zeros((0, 0)), 1.0, np.zeros(0, dtype=bool))
