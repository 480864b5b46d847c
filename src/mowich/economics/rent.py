"""The cost of renting a chip: quoted prices, and an estimate for a machine without a quoted price.

The estimate is the cost of a seller who owns the chip times the observed range of rent over cost, for each kind of
seller, on machines with both figures. Commitments of years and spot are left out: neither is the price of a machine
rented for weeks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mowich.economics.ownership import Terms, cost_per_s, owned, read_terms
from mowich.estimate import Estimate, Notes, exact, product_of, told
from mowich.facts import Fact, Facts
from mowich.price_terms import BUYERS

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
    """rate: USD per chip and second, grade D; words: how it comes about; cost, markup: of `rent_of_cost`."""

    rate: Estimate
    words: str
    cost: Estimate
    markup: Estimate


def _quote_paths(facts: Facts, system_id: str, kind: str) -> list[str]:
    """Paths of the facts that quote a kind of a system, the preferred first."""
    choice = facts.get(f"{_CHOICES}.{system_id}.{kind.replace('-', '_')}")
    words = "" if choice is None or choice.value is None else str(choice.value)
    return [path.strip() for path in words.split(",") if path.strip()]


def quoted(facts: Facts, system_id: str, kind: str) -> Fact | None:
    """The quoted price of a kind for a system; None without a quote."""
    for path in _quote_paths(facts, system_id, kind):
        fact = facts.get(path)
        if fact is not None and isinstance(fact.value, float):
            return fact
    return None


def markups(facts: Facts) -> dict[str, Markup]:
    """The price of each kind of seller over his cost, on machines that show both. Sellers have the kinds of `BUYERS`,
    because they own the machines."""
    return facts.once("markups", lambda known: _markups(known, known))


def _markups(facts: Facts, held: Facts) -> dict[str, Markup]:
    """held: facts of what the machines cost."""
    terms = read_terms(facts)
    pairs: dict[str, list[tuple[str, str, float]]] = {seller: [] for seller in BUYERS}
    files = {seller: _listed(facts, f"prices.rent.{seller}.files") for seller in BUYERS}
    for system in facts.children(_CHOICES):
        for path in dict.fromkeys(path for kind in RENTAL_ORDER for path in _quote_paths(facts, system, kind)):
            fact = facts.get(path)
            seller = next((s for s, names in files.items() if path.split(".")[1] in names), None)
            if seller is None or fact is None or not isinstance(fact.value, float) or fact.grade == "D":
                continue
            cost = _cost(held, system, replace(terms, buyer=seller))
            if cost is not None:
                pairs[seller].append((system, path, fact.value / cost))
    out = {}
    for seller, found in pairs.items():
        if found:
            found.sort(key=lambda pair: pair[2])
            out[seller] = Markup(seller=seller, low=found[0][2], high=found[-1][2], pairs=tuple(found))
    return out


def _cost(facts: Facts, system: str, terms: Terms) -> float | None:
    return facts.once(("cost", system, terms), lambda known: cost_per_s(known, system, terms))


def _listed(facts: Facts, path: str) -> list[str]:
    return [word.strip() for word in str(facts.fact(path).value).split(",")]


def rent_of_cost(cost: Estimate, markup: Estimate) -> Estimate:
    """The rent of a chip-hour without a quote.

    T = cost * markup

    cost: of the seller who owns the chip; markup: rent over cost, the geometric mean of the range that is observed.

    Units: cost USD/chip/s, markup 1.
    """
    return product_of([(cost, 1.0), (markup, 1.0)], "USD/chip/s")


def asked_by_sellers(facts: Facts, system_id: str) -> dict[str, Estimate]:
    """USD per chip and second by kind of seller who rents out chips of that maker: his cost times the observed price
    over cost of such sellers, grade D. Empty where the cost is unknown."""
    chip = facts.meta("systems", system_id).get("chip")
    vendor = "" if chip is None else str(facts.meta("chips", str(chip))["vendor"])
    out, terms = {}, read_terms(facts)
    for seller, seen in markups(facts).items():
        cost = owned(facts, system_id, replace(terms, buyer=seller)).total
        if cost.value is not None and vendor in _listed(facts, f"prices.rent.{seller}.vendors"):
            times = Estimate(value=math.sqrt(seen.low * seen.high), unit="1", low=seen.low, high=seen.high, grade="D")
            out[seller] = rent_of_cost(replace(cost, breakdown={}), times)
    return out


def note_asked(facts: Facts, system_id: str, seller: str, held: Facts, notes: Notes) -> None:
    """Record how the price of a kind of seller comes about: from the seller's cost and from quotes, with the costs of
    the quoted machines from `held`."""
    cost, seen = _cost(facts, system_id, replace(read_terms(facts), buyer=seller)), _markups(facts, held)[seller]
    if cost is not None:
        law = told(notes, "rent", rent_of_cost, unit="USD/chip/s", note="markup: the costs of quoted machines are held")
        law(cost=exact(cost, "USD/chip/s"), markup=exact(math.sqrt(seen.low * seen.high), "1"))


def estimated(facts: Facts, system_id: str) -> EstimatedRent | None:
    """The rent of a system from its cost: over all kinds of sellers that rent its chips out. None where its cost is not
    known, or nobody's rent over cost is."""
    asked, known, terms = asked_by_sellers(facts, system_id), markups(facts), read_terms(facts)
    if not asked:
        return None
    low = min(float(e.low or 0.0) for e in asked.values())
    high = max(float(e.high or 0.0) for e in asked.values())
    cost = owned(facts, system_id, replace(terms, buyer=next(iter(asked)))).total
    markup = exact(math.sqrt(low * high) / float(cost), "1")
    said = " or ".join(f"{known[s].low:.2g} to {known[s].high:.2g} times a {s}'s cost" for s in asked)
    return EstimatedRent(
        rate=replace(rent_of_cost(cost, markup), low=low, high=high, grade="D"),
        words=f"bought {terms.quarter}, {said}",
        cost=cost,
        markup=markup,
    )
