"""What renting a chip costs: prices that somebody quotes, and an estimate for a machine of which nobody quotes one.

The estimate is what the chip-hour costs a seller who owns it, times the range of rent over cost that is observed on the
machines that have both, for each kind of seller. Commitments of years and spot are not among those quotes: neither is
what a machine costs that is rented for weeks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.economics.ownership import BUYERS, owned, read_terms
from mowich.estimate import Estimate, Notes, product_of
from mowich.facts import Fact, Facts

RENTAL_ORDER = ("capacity-block", "on-demand", "market")
"""Kinds at which anybody can rent for weeks, the preferred first."""

QUOTED = ("on-demand", "capacity-block", "1y", "3y", "market", "spot")
"""Kinds that sellers quote."""

_CHOICES = "prices.choices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """Rent over the cost of the seller, over machines that have both. low, high: the least and the most; pairs:
    (system, path of the price, ratio), the least first."""

    seller: str
    low: float
    high: float
    pairs: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedRent:
    """rate: USD per chip and second, grade D; words: how it comes about; symbols: of `rent_of_cost`; facts: paths."""

    rate: Estimate
    words: str
    symbols: Mapping[str, float]
    facts: tuple[str, ...]


def _quote_paths(facts: Facts, system_id: str, kind: str) -> list[str]:
    """Paths of the facts that quote a kind of a system, the preferred first."""
    choice = facts.get(f"{_CHOICES}.{system_id}.{kind.replace('-', '_')}")
    words = "" if choice is None or choice.value is None else str(choice.value)
    return [path.strip() for path in words.split(",") if path.strip()]


def quoted(facts: Facts, system_id: str, kind: str) -> Fact | None:
    """The price of a kind that somebody quotes of a system; None where nobody does."""
    for path in _quote_paths(facts, system_id, kind):
        fact = facts.get(path)
        if fact is not None and isinstance(fact.value, float):
            return fact
    return None


def markups(facts: Facts) -> dict[str, Markup]:
    """What each kind of seller asks over his cost, where a machine tells: sellers are of the kinds of `BUYERS`, who own
    the machines."""
    return facts.once("markups", _markups)


def _markups(facts: Facts) -> dict[str, Markup]:
    terms = read_terms(facts)
    pairs: dict[str, list[tuple[str, str, float]]] = {seller: [] for seller in BUYERS}
    files = {seller: _listed(facts, f"prices.rent.{seller}.files") for seller in BUYERS}
    for system in facts.children(_CHOICES):
        for path in dict.fromkeys(path for kind in RENTAL_ORDER for path in _quote_paths(facts, system, kind)):
            fact = facts.get(path)
            seller = next((s for s, names in files.items() if path.split(".")[1] in names), None)
            if seller is None or fact is None or not isinstance(fact.value, float) or fact.grade == "D":
                continue
            cost = owned(facts, system, replace(terms, buyer=seller)).total.value
            if cost is not None:
                pairs[seller].append((system, path, fact.value / cost))
    out = {}
    for seller, found in pairs.items():
        if found:
            found.sort(key=lambda pair: pair[2])
            out[seller] = Markup(seller=seller, low=found[0][2], high=found[-1][2], pairs=tuple(found))
    return out


def _listed(facts: Facts, path: str) -> list[str]:
    return [word.strip() for word in str(facts.fact(path).value).split(",")]


def rent_of_cost(cost: float, markup: float) -> float:
    """What renting a chip-hour costs that nobody quotes.

    T = cost * markup

    cost: of the seller who owns the chip; markup: rent over cost, the geometric mean of the range that is observed.

    Units: cost USD/chip/s, markup 1.
    """
    return cost * markup


def asked_by_sellers(facts: Facts, system_id: str) -> dict[str, Estimate]:
    """USD per chip and second by kind of seller who rents chips of that maker out: his cost times what such sellers are
    seen to ask over theirs, grade D. Empty where the cost is not known."""
    chip = facts.meta("systems", system_id).get("chip")
    vendor = "" if chip is None else str(facts.meta("chips", str(chip))["vendor"])
    out, terms = {}, read_terms(facts)
    for seller, seen in markups(facts).items():
        cost = owned(facts, system_id, replace(terms, buyer=seller)).total
        if cost.value is not None and vendor in _listed(facts, f"prices.rent.{seller}.vendors"):
            times = Estimate(value=math.sqrt(seen.low * seen.high), unit="1", low=seen.low, high=seen.high, grade="D")
            out[seller] = product_of([(replace(cost, breakdown={}), 1.0), (times, 1.0)], "USD/chip/s")
    return out


def note_asked(facts: Facts, system_id: str, seller: str, notes: Notes) -> None:
    """Write down how what a kind of seller asks comes about."""
    cost = owned(facts, system_id, replace(read_terms(facts), buyer=seller))
    seen, rate = markups(facts)[seller], float(asked_by_sellers(facts, system_id)[seller])
    paths = [*cost.facts, *(path for _, path, _ in seen.pairs)]
    given = {"cost": float(cost.total), "markup": math.sqrt(seen.low * seen.high)}
    notes.add("rent", rate, "USD/chip/s", rent_of_cost, facts=dict.fromkeys(paths), given=given)


def estimated(facts: Facts, system_id: str) -> EstimatedRent | None:
    """The rent of a system from its cost: over all kinds of sellers that rent its chips out. None where its cost is not
    known, or nobody's rent over cost is."""
    asked, known, terms = asked_by_sellers(facts, system_id), markups(facts), read_terms(facts)
    if not asked:
        return None
    low = min(float(e.low or 0.0) for e in asked.values())
    high = max(float(e.high or 0.0) for e in asked.values())
    value = math.sqrt(low * high)
    cost = owned(facts, system_id, replace(terms, buyer=next(iter(asked))))
    said = " or ".join(f"{known[s].low:.2g} to {known[s].high:.2g} times a {s}'s cost" for s in asked)
    paths = [path for s in asked for _, path, _ in known[s].pairs]
    return EstimatedRent(
        rate=Estimate(value=value, unit="USD/chip/s", low=low, high=high, grade="D"),
        words=f"bought {terms.quarter}, {said}",
        symbols={"cost": float(cost.total), "markup": value / float(cost.total)},
        facts=tuple(dict.fromkeys([*cost.facts, *paths])),
    )
