"""Estimates: a value with its 90% predictive interval, its grade and the terms that it is made of.

`Estimate` is what every answer is. A `Term` is one named step of a formula: what `explain` prints. Terms
come from the same functions that the search evaluates: they take a `Notes` recorder, which is None while
searching. Combination rules (sum, max, scaling, independent spread) are here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from types import MappingProxyType
from typing import ParamSpec, TypeVar

import numpy as np

from mowich.formula import Law, formula_of, printed, units_of
from mowich.shown import Keyed
from mowich.sums import float_sum
from mowich.units import show

_P = ParamSpec("_P")
_T = TypeVar("_T")

GRADES = "ABCD"
"""A vendor document or own reading of a primary source, B independent measurement, C derived with its
formula, D estimate with a range and a reason; "user" is the user's own number."""


def worst_grade(grades: Iterable[str | None]) -> str:
    """The weakest grade among those given: D before C before B before A ("user" counts as A)."""
    return max((g for g in grades if g is not None and g in GRADES), default="A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term(Keyed):
    """One named step of a formula. `value` is SI in `unit`; `formula`: arithmetic over the names in `inputs` (name ->
    number or text; `units`: their units), which gives `value`; `words`: how it comes about where that is no formula;
    `facts` are the paths of the facts that it reads."""

    KEYS = "name value unit formula=printed_formula words inputs units facts note"

    name: str
    value: float
    unit: str
    formula: str = ""
    inputs: Mapping[str, float | str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    note: str = ""
    words: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def printed_formula(self) -> str:
        """The formula as it is printed."""
        return printed(self.formula)


LEAST_MOVE = 1e-12
"""Of a value: what changes it by less is rounding, and moves nothing."""


class Notes:
    """Collects the terms of one evaluation, in order. The only mutable thing in a cost evaluation.

    The facts of a term are those that move it: nobody lists them. moved: path of the fact that each row of a value but
    the first has moved (`training.sensitivity.noted_on`), empty where values have no such rows.
    """

    __slots__ = ("_moves", "moved", "terms")

    def __init__(self, moved: Sequence[str] = ()) -> None:
        self.terms: dict[str, Term] = {}
        self.moved = moved
        self._moves: dict[str, dict[str, float]] = {}

    def add(
        self,
        name: str,
        value: object,
        unit: str,
        law: Law | None = None,
        *,
        words: str = "",
        note: str = "",
        given: Mapping[str, object] | None = None,
        **inputs: object,
    ) -> None:
        """Record one term. law: the function that computed it, whose docstring states its formula in the names of
        `given` and `inputs`; words: how it comes about, where that is a choice or a search. Arrays of length one are
        accepted for `value` and the symbols, with a row for each fact of `moved`."""
        self._moves.pop(name, None)
        self.terms[name] = Term(
            name=name,
            value=_scalar(value),
            unit=unit,
            formula=formula_of(law) if law is not None else "",
            units=units_of(law) if law is not None else {},
            words=words,
            inputs={k: v if isinstance(v, str) else _scalar(v) for k, v in {**(given or {}), **inputs}.items()},
            note=note,
        )
        if self.moved:
            rows = np.asarray(value, dtype=np.float64)
            if rows.ndim and len(rows) == 1 + len(self.moved):
                for path, moved in zip(self.moved, rows.reshape(len(rows), -1)[1:, 0], strict=True):
                    self._move(name, path, float(moved))

    def _move(self, name: str, path: str, value: float) -> None:
        """What a term is where one fact is moved."""
        now = self.terms[name].value
        if abs(value - now) > LEAST_MOVE * abs(now):
            own = self._moves.setdefault(name, {})
            own[path] = max(own.get(path, 0.0), abs(value - now))

    def learn(self, path: str, other: Notes) -> None:
        """Hear from `other`, the same evaluation with one fact moved, which terms that moves."""
        for name in self.terms.keys() & other.terms.keys():
            self._move(name, path, other.terms[name].value)

    def with_facts(self) -> Notes:
        """The same terms with the facts that were seen to move them, the largest move first. Moves that agree in six
        digits are equal, and their facts stand by name: the last digits of a move are those of a processor."""
        for name, moves in self._moves.items():
            in_order = sorted(moves, key=lambda at: (-float(f"{moves[at]:.6g}"), at))
            self.terms[name] = replace(self.terms[name], facts=tuple(in_order))
        return self

    def drop_zeros(self) -> None:
        """Forget the terms that are nothing."""
        self.drop(*(name for name, term in self.terms.items() if not term.value))

    def drop(self, *names: str) -> None:
        """Forget terms."""
        self.terms = {name: term for name, term in self.terms.items() if name not in names}
        self._moves = {name: moves for name, moves in self._moves.items() if name in self.terms}

    def take(self, other: Notes, suffix: str = "") -> None:
        """Add the terms of another recorder, `suffix` behind their names."""
        for name, term in other.terms.items():
            self.terms[name + suffix] = replace(term, name=name + suffix)
        self._moves |= {name + suffix: moves for name, moves in other._moves.items() if name in other.terms}


BY_TABLES = "by the tables of kernels, where they hold it"
"""How a term comes about that operators of ours were timed for."""


def told(
    notes: Notes | None,
    name: str,
    law: Callable[_P, _T],
    *,
    unit: str = "s",
    words: str = "",
    note: str = "",
    also: Mapping[str, object] = MappingProxyType({}),
    tabled: tuple[Callable[[_T], _T], Callable[[_T], str]] | None = None,
) -> Callable[_P, _T]:
    """A law that records each call as the term `name`; without `notes` the law itself. Of estimates the values are
    recorded, and nothing where the law gives one that is not known.

    also: further numbers to show. tabled: what tables of kernels give in the place of a value, and what they say of
    where it is from.
    """
    if notes is None and tabled is None:
        return law

    def recorded(*args: _P.args, **given: _P.kwargs) -> _T:
        value = law(*args, **given) if tabled is None else tabled[0](law(*args, **given))
        if notes is not None and not (isinstance(value, Estimate) and value.value is None):
            symbols = {**dict(zip(signature(law).parameters, args, strict=False)), **given, **also}
            if tabled is None:
                notes.add(name, value, unit, law, words=words, note=note, given=symbols)
            else:
                notes.add(name, value, unit, words=BY_TABLES, note=tabled[1](value) or note, given=symbols)
        return value

    return recorded


def _scalar(value: object) -> float:
    item = getattr(value, "ravel", None)
    if item is not None:
        flat = item()
        return float(flat[0])
    return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that knows how far to trust it.

    value: SI, or None when unknown (then `reason` says why). low, high: 90% predictive interval.
    grade: the weakest grade that matters. coverage: share of the value by kind of cost, e.g.
    {"measured": 0.2, "analytic": 0.8}. breakdown: named parts that sum to value.

    Units: SI, named in `unit`; `low` and `high` are the ends of the 90% range.

    Example:
        >>> from mowich import Estimate
        >>> step = Estimate(value=4.2, low=3.4, high=5.0, grade="C", unit="s")
        >>> float(step), step.low, step.unit
        (4.2, 3.4, 's')
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    grade: str = "C"
    coverage: Mapping[str, float] = field(default_factory=dict)
    breakdown: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None

    def __float__(self) -> float:
        if self.value is None:
            raise ValueError(f"unknown: {self.reason}")
        return self.value

    def __str__(self) -> str:
        if self.value is None:
            return f"? ({self.reason})"
        text = show(self.value, self.unit)
        if self.low is not None and self.high is not None:
            text += f" ({show(self.low, self.unit)} .. {show(self.high, self.unit)})"
        return f"{text} [{self.grade}]"

    def scaled(self, factor: float, unit: str) -> Estimate:
        """The same estimate times a known constant, in another unit."""
        if self.value is None:
            return unknown_estimate(unit, self.reason or "unknown")
        return Estimate(
            value=self.value * factor,
            unit=unit,
            low=None if self.low is None else self.low * factor,
            high=None if self.high is None else self.high * factor,
            grade=self.grade,
            coverage=self.coverage,
            breakdown={k: v * factor for k, v in self.breakdown.items()},
        )

    def inverse(self, numerator: float, unit: str) -> Estimate:
        """numerator / self: throughput from time. The interval swaps ends; no breakdown survives."""
        if self.value is None:
            return unknown_estimate(unit, self.reason or "unknown")
        return Estimate(
            value=numerator / self.value,
            unit=unit,
            low=None if self.high is None else numerator / self.high,
            high=None if self.low is None else numerator / self.low,
            grade=self.grade,
            coverage=self.coverage,
        )

    def below(self, limit: float) -> Estimate:
        """The estimate of what cannot pass a limit, such as a share: its range ends there. Its value stays: one that
        passes the limit is a mistake that must show.

        >>> Estimate(value=0.8, low=0.6, high=1.1, grade="D", unit="1").below(1.0).high
        1.0
        """
        if self.value is None or self.high is None:
            return self
        return replace(self, high=max(self.value, min(self.high, limit)))

    def overlaps(self, other: Estimate) -> bool:
        """True when the two 90% intervals meet: the difference is then not distinguishable."""
        if None in (self.low, self.high, other.low, other.high):
            return True
        return self.low <= other.high and other.low <= self.high  # type: ignore[operator]

    def to_dict(self) -> dict[str, object]:
        """The JSON contract of an estimate."""
        out: dict[str, object] = {
            "value": self.value,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "grade": self.grade,
            "coverage": dict(self.coverage),
            "breakdown": dict(self.breakdown),
        }
        if self.value is None or self.reason is not None:
            out["reason"] = self.reason
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Estimate:
        """Inverse of `to_dict`."""
        return cls(**{k: data[k] for k in cls.__slots__ if k in data})  # type: ignore[arg-type]


def unknown_estimate(unit: str, reason: str) -> Estimate:
    """An estimate that cannot be made, and why."""
    return Estimate(value=None, unit=unit, grade="D", reason=reason)


def exact(value: float, unit: str, grade: str = "A") -> Estimate:
    """An estimate without spread: a count, or a number the user gave."""
    return Estimate(value=value, unit=unit, low=value, high=value, grade=grade)


def log_spread(value: float, low: float, high: float) -> tuple[float, float]:
    """(ln(value/low), ln(high/value)), never negative: the two half-widths of a range."""
    return max(0.0, math.log(value / low)), max(0.0, math.log(high / value))


def from_spreads(
    value: float,
    unit: str,
    downs: Iterable[float],
    ups: Iterable[float],
    *,
    grade: str,
    coverage: Mapping[str, float] | None = None,
    breakdown: Mapping[str, float] | None = None,
) -> Estimate:
    """Combine independent log half-widths in quadrature, each side on its own:
    low = value exp(-sqrt(sum down^2)), high = value exp(+sqrt(sum up^2)).

    Assumes that the causes are independent and log-symmetric enough; correlated causes widen it.

    >>> e = from_spreads(10.0, "s", [0.3, 0.4], [0.0], grade="C")
    >>> round(e.low, 3), e.high
    (6.065, 10.0)
    """
    down = math.sqrt(float_sum(d * d for d in downs))
    up = math.sqrt(float_sum(u * u for u in ups))
    return Estimate(
        value=value,
        unit=unit,
        low=value * math.exp(-down),
        high=value * math.exp(up),
        grade=grade,
        coverage=coverage or {},
        breakdown=breakdown or {},
    )


def product_of(parts: Iterable[tuple[Estimate, float]], unit: str) -> Estimate:
    """Product of independent estimates, each raised to a power (+1 or -1): cost = price x time."""
    value, downs, ups, grades = 1.0, [], [], []
    for part, power in parts:
        if part.value is None:
            return unknown_estimate(unit, part.reason or "unknown")
        value *= part.value**power
        down, up = log_spread(part.value, part.low or part.value, part.high or part.value)
        if power < 0:
            down, up = up, down
        downs.append(down * abs(power))
        ups.append(up * abs(power))
        grades.append(part.grade)
    return from_spreads(value, unit, downs, ups, grade=worst_grade(grades))


def sum_of(parts: Sequence[Estimate]) -> Estimate:
    """The sum of independent numbers: their ranges combine by squares.

    >>> both = [Estimate(value=10.0, unit="W", low=7.0, high=13.0), Estimate(value=10.0, unit="W", low=6.0, high=14.0)]
    >>> total = sum_of(both)
    >>> total.value, total.low, total.high
    (20.0, 15.0, 25.0)
    """
    for part in parts:
        if part.value is None:
            return unknown_estimate(part.unit, part.reason or "unknown")
    value = float_sum(float(part) for part in parts)
    down = math.hypot(*(float(part) - (part.low if part.low is not None else float(part)) for part in parts))
    up = math.hypot(*((part.high if part.high is not None else float(part)) - float(part) for part in parts))
    return Estimate(
        value=value,
        unit=parts[0].unit,
        low=max(value - down, 0.0),
        high=value + up,
        grade=worst_grade(part.grade for part in parts),
    )


def difference_of(more: Estimate, less: Estimate) -> Estimate:
    """One number less another that nothing is shared with: their ranges combine by squares. It may be below 0.

    >>> earned = Estimate(value=10.0, unit="USD", low=7.0, high=13.0)
    >>> left = difference_of(earned, Estimate(value=10.0, unit="USD", low=6.0, high=14.0))
    >>> left.value, left.low, left.high
    (0.0, -5.0, 5.0)
    """
    if more.value is None or less.value is None:
        return unknown_estimate(more.unit, more.reason or less.reason or "unknown")
    value = more.value - less.value
    ends = [
        (e.low if e.low is not None else float(e), e.high if e.high is not None else float(e)) for e in (more, less)
    ]
    down = math.hypot(more.value - ends[0][0], ends[1][1] - less.value)
    up = math.hypot(ends[0][1] - more.value, less.value - ends[1][0])
    return Estimate(
        value=value, unit=more.unit, low=value - down, high=value + up, grade=worst_grade((more.grade, less.grade))
    )


def chance_within(e: Estimate, limit: float) -> float | None:
    """Chance that a number is at most a limit: of a log-normal with the value as its median, and on the limit's side of
    it the 90% range of the estimate.

    T = Phi(z95 * ln(limit / value) / ln(end / value))

    end: high where the limit is above the value, low below it (then with the other sign); z95 = 1.645. None where the
    value is not known.

    >>> round(chance_within(Estimate(value=1.0, unit="s", low=0.5, high=2.0), 2.0), 3)
    0.95
    >>> chance_within(exact(1.0, "s"), 1.1)
    1.0
    """
    if e.value is None:
        return None
    down, up = log_spread(e.value, e.low or e.value, e.high or e.value)
    beyond = math.log(limit / e.value)
    half = up if beyond > 0 else down
    if half == 0.0:
        return 1.0 if beyond >= 0 else 0.0
    from statistics import NormalDist  # not above: most answers ask for no chance, and it takes 5 ms

    return NormalDist().cdf(NormalDist().inv_cdf(0.95) * beyond / half)
