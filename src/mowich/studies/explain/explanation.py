"""The explanation of one number: how it came about, the facts behind it, what moves it most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mowich.estimate import Estimate, Term
from mowich.facts import Fact
from mowich.formula import printed
from mowich.shown import Keyed

NUDGE = 1.01
"""A fact without a range is moved by this to see whether a number rests on it at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Keyed):
    """What one fact does to the number. low, high: where the fact is moved to, SI; at_low, at_high: relative change of
    the number there; flips: who wins instead, and at which end. A fact without a useful range goes from its value to
    `NUDGE` times it."""

    KEYS = "fact=fact.path low high at_low at_high flips"

    fact: Fact
    low: float
    high: float
    at_low: float
    at_high: float
    flips: str | None = None

    @property
    def is_nudge(self) -> bool:
        """Whether the fact was only nudged upward."""
        return self.low == self.fact.value and self.at_low == 0.0 and abs(self.high / self.low - NUDGE) < 1e-9

    @property
    def size(self) -> float:
        return max(abs(self.at_low), abs(self.at_high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Keyed):
    """says: what the number is; formula: arithmetic, words: how a choice, a search or a count came about; kind: which
    of these (`rules.KINDS`); inputs: the numbers put in; units: their units; estimate: the number (grade "" where
    nothing graded is behind it); parts: they sum to it; terms: formulas that the model recorded, in order of
    evaluation; facts: all behind it; moves: largest first; held: what stays fixed while facts move its terms, and
    settles anew while they move the whole ("": nothing).

    Units: of each input in `units`; SI.

    Example:
        >>> import mowich
        >>> answer = mowich.goodput("trn3:64", samples=20)
        >>> mowich.explain(answer, "sync.goodput").facts != ()
        True
    """

    SCHEMA = "mowich/explain@1"
    KEYS = (
        "metric title says formula=printed_formula words kind inputs units value=estimate.value unit=estimate.unit "
        "low=estimate.low high=estimate.high grade=estimate.grade:none reason=estimate.reason parts terms facts "
        "moves warnings"
    )

    metric: str
    title: str
    says: str
    formula: str
    inputs: Mapping[str, float | str]
    estimate: Estimate
    parts: Mapping[str, float] = field(default_factory=dict)
    terms: tuple[Term, ...] = ()
    facts: tuple[Fact, ...] = ()
    moves: tuple[Move, ...] = ()
    warnings: tuple[str, ...] = ()
    words: str = ""
    kind: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    held: str = ""

    @property
    def printed_formula(self) -> str:
        """The formula as it is printed."""
        return printed(self.formula)
