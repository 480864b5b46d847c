"""What could be measured for a number, and what each measurement would say of it: the offers of `mowich next`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mowich.evidence.fitting.overlay import FittedFact
from mowich.evidence.fitting.solve import Posterior
from mowich.evidence.prospects import RangePart
from mowich.serving.anchors import Anchor
from mowich.shown import Result

FittedTogether = tuple[tuple[FittedFact, ...], Posterior]
"""Constants, and how they are correlated."""
AskWords = Callable[[Sequence[str]], Result]
"""Answers the words of a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringOffer:
    """A measurement that nobody made yet. what, kind, where: in words; commands: those that make it, in order; reads:
    how its result comes back; rows: what it would put beside measured rows, with what is expected today; sets: facts
    that it would replace, as --set takes them."""

    what: str
    kind: str
    where: str
    commands: tuple[str, ...]
    reads: str
    rows: tuple[Anchor, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuringOffers:
    """offers: what could be measured; parts: of the number's range, which know the offers by their places; remains:
    what no offer takes away, in words; fitted: the constants with the ranges that some of the offers leave."""

    offers: tuple[MeasuringOffer, ...] = ()
    parts: tuple[RangePart, ...] = ()
    remains: tuple[str, ...] = ()
    fitted: Callable[[Sequence[int]], FittedTogether] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A part of a range that no offer tells anything of. before: squared half-width."""

    before: float

    def given(self, made: Sequence[int]) -> float:
        """As it was."""
        return self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class _Among:
    """A part that knows `count` offers, as a part of more: its own begin at `first`."""

    part: RangePart
    first: int
    count: int

    @property
    def before(self) -> float:
        return self.part.before

    def given(self, made: Sequence[int]) -> float:
        return self.part.given([k - self.first for k in made if self.first <= k < self.first + self.count])


def offers_beside(own: MeasuringOffers, more: MeasuringOffers) -> MeasuringOffers:
    """Two sets of offers as one; constants are fitted by the first alone."""
    first, count = len(own.offers), len(more.offers)
    parts = [_Among(part=part, first=0, count=first) for part in own.parts]
    parts += [_Among(part=part, first=first, count=count) for part in more.parts]
    fitted = own.fitted
    return MeasuringOffers(
        offers=(*own.offers, *more.offers),
        parts=tuple(parts),
        remains=(*own.remains, *more.remains),
        fitted=None if fitted is None else lambda made: fitted([k for k in made if k < first]),
    )
