"""What could be measured for a number, and what each measurement would say of it: the offers of `mowich next`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mowich.evidence.fitting.points import Predictor
from mowich.evidence.prospects import Prospect
from mowich.serving.anchors import Anchor


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A measurement that nobody made yet. what, kind, where: in words; commands: those that make it, in order; reads:
    how its result comes back; rows: what it would put beside measured rows, with what is expected today; part: what it
    would put before the fit of constants; sets: facts that it would replace, as --set takes them."""

    what: str
    kind: str
    where: str
    commands: tuple[str, ...]
    reads: str
    rows: tuple[Anchor, ...] = ()
    part: Predictor | None = None
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """offers: what could be measured; parts: of the number's range, one column an offer in the same order; remains:
    what no offer takes away, in words."""

    offers: tuple[Offer, ...] = ()
    parts: tuple[Prospect, ...] = ()
    remains: tuple[str, ...] = field(default_factory=tuple)


def deaf(count: int, before: float) -> Prospect:
    """A part of a range, of squared half-width `before`, that none of `count` offers tells anything of."""
    return Prospect(
        mean=np.zeros(1 + count), covariance=np.zeros((1 + count, 1 + count)), noise=np.ones(count), before=before
    )


def joined(found: Sequence[Offers]) -> Offers:
    """Several sets of offers as one: each part knows of its own offers alone."""
    total = sum(len(one.offers) for one in found)
    parts, first = [], 0
    for one in found:
        count = len(one.offers)
        at = np.concatenate([[0], np.arange(1 + first, 1 + first + count)])
        for part in one.parts:
            covariance = np.zeros((1 + total, 1 + total))
            covariance[np.ix_(at, at)] = part.covariance
            mean, noise = np.zeros(1 + total), np.ones(total)
            mean[at], noise[first : first + count] = part.mean, part.noise
            parts.append(
                Prospect(
                    mean=mean,
                    covariance=covariance,
                    noise=noise,
                    weight=part.weight,
                    floor=part.floor,
                    before=part.before,
                )
            )
        first += count
    return Offers(
        offers=tuple(offer for one in found for offer in one.offers),
        parts=tuple(parts),
        remains=tuple(text for one in found for text in one.remains),
    )
