"""What a machine is worth some years after its purchase, by the market and by accounts.

Its value falls by the year, and once more with each generation of its maker that comes out. Both falls, and the time
between generations, are facts with wide ranges (`prices.depreciation`). Observed resale and rents
(`prices.depreciation.seen`) are compared with the law and are no input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mowich.economics.energy import of_fact
from mowich.economics.ownership import YEAR_S
from mowich.estimate import Estimate, Notes, from_spreads, told, worst_grade
from mowich.facts import Facts
from mowich.software.vendors import OTHERS, vendor_id, vendor_of

_DEPRECIATION = "prices.depreciation"
_LIVES = "prices.ownership.capital.life"

BOOKS = ("amazon_ai_subset", "alphabet", "microsoft", "meta", "coreweave", "nebius")
"""Whose accounts say how long a server lives (`prices.ownership.capital.life`)."""


def kept_share(fall: float, step: float, years: float, every: float) -> float:
    """Share of its price that a machine is worth some years after it was bought.

    T = (1 - fall)**years * (1 - step)**(years / every)

    fall: each year, of what is left; step: once for each new generation, of what is left; every: years between two
    generations of its maker.

    Units: fall 1, step 1, years 1, every 1.
    """
    return float((1.0 - fall) ** years * (1.0 - step) ** (years / every))


def residual_share(facts: Facts, system_id: str, years: float, notes: Notes | None = None) -> Estimate:
    """Share of its purchase price that a machine is worth `years` years later, after the new generations of its maker
    by then. Between 0 and 1; it falls with the years.

    Raises UserError for a system that is not known.

    >>> from mowich.facts import load_facts
    >>> facts = load_facts()
    >>> after = [residual_share(facts, "trn3-gen2", years) for years in (0.0, 2.0, 4.0)]
    >>> [f"{float(e):.2f}" for e in after]  # 0.9^4 x 0.8^(4 / 1.67) = 0.38
    ['1.00', '0.62', '0.38']
    >>> after[2].low < 0.2, after[2].high > 0.6
    (True, True)
    """
    return _of_maker(facts, vendor_id(vendor_of(facts, system_id)), years, notes)


def _of_maker(facts: Facts, vendor: str, years: float, notes: Notes | None = None) -> Estimate:
    cadence = f"{_DEPRECIATION}.next_generation.every.{vendor}"
    if facts.get(cadence) is None:
        cadence = f"{_DEPRECIATION}.next_generation.every.{OTHERS}"
    every = of_fact(facts.fact(cadence), "s").scaled(1.0 / YEAR_S, "year")
    fall = of_fact(facts.fact(f"{_DEPRECIATION}.fall_per_year"), "1")
    step = of_fact(facts.fact(f"{_DEPRECIATION}.next_generation.fall"), "1")
    value = told(notes, "residual_share", kept_share, unit="1")(float(fall), float(step), years, float(every))

    def moved(one: Estimate, end: float | None) -> float:
        """The share where one number is at its end."""
        parts = [replace(e, value=end) if e is one and end is not None else e for e in (fall, step, every)]
        return kept_share(float(parts[0]), float(parts[1]), years, float(parts[2]))

    ends = [(moved(e, e.low), moved(e, e.high)) for e in (fall, step, every)]
    found = from_spreads(
        value,
        "1",
        [math.log(value / min(pair)) for pair in ends],
        [math.log(max(pair) / value) for pair in ends],
        grade=worst_grade(e.grade for e in (fall, step, every)),
    )
    return replace(found, high=min(1.0, found.high or 1.0))


def book_share(facts: Facts, owner: str, years: float) -> Estimate:
    """Share of its price that a server has in the accounts of an owner of `BOOKS`: even steps over the stated useful
    life.

    >>> from mowich.facts import load_facts
    >>> round(float(book_share(load_facts(), "amazon_ai_subset", 2.0)), 3)  # five years
    0.6
    """
    life = of_fact(facts.fact(f"{_LIVES}.{owner}"), "s")
    left = max(0.0, 1.0 - years * YEAR_S / float(life))
    return Estimate(value=left, unit="1", low=left, high=left, grade=life.grade)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenValue:
    """An observed worth or rent of a machine over that at the start. name: of the fact; words: its note; years: since
    the start; share: observed; law: `residual_share` for a machine of that maker."""

    name: str
    words: str
    years: float
    share: Estimate
    law: Estimate


def seen_values(facts: Facts) -> Iterator[SeenValue]:
    """The observations of `prices.depreciation.seen`, each with the law's share."""
    for name in facts.children(f"{_DEPRECIATION}.seen"):
        base = f"{_DEPRECIATION}.seen.{name}"
        years = facts.number(f"{base}.years") / YEAR_S
        share = facts.fact(f"{base}.share")
        yield SeenValue(
            name=name,
            words=share.note or "",
            years=years,
            share=of_fact(share, "1"),
            law=_of_maker(facts, str(facts.fact(f"{base}.maker").value), years),
        )
