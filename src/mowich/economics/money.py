"""The cost of a chip-hour, and the cost of a token at that price.

`price` reads the price of a system under a term from facts, and names the price that it took. It reads that system
alone, so that no other row of an answer moves it. All else is formulas on estimates. A price that the facts do not have
stays unknown; `breakeven_usd_per_chip_h` then says which price would equal the best known row. Rental prices include
power, so electricity is never added to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.economics import rent
from mowich.economics.energy import drawn_power, read_site
from mowich.economics.ownership import Terms, owned
from mowich.errors import UserError
from mowich.errors import unknown as unknown_word
from mowich.estimate import Estimate, Notes, product_of, told, unknown_estimate
from mowich.facts import Fact, Facts
from mowich.price_terms import COST_RULE_WORDS, ESTIMATE, OWN, WITHOUT_PRICE
from mowich.units import show

PRICE_KINDS = (
    *("tco", "rent", "list", "on-demand", "1y", "3y", "capacity-block", "spot", "market"),
    "electricity",
)
"""Kinds of price (`--price`). tco: what the chip-hour costs its owner (`economics.ownership`); rent: what it costs to
rent, the first of `rent.RENTAL_ORDER` that somebody quotes, else an estimate (`economics.rent`); list: a seller's
public price, on demand, else for a block of capacity; 1y and 3y are commitments; market is a range of quotes of several
sellers; electricity: of an installed chip."""

TERMS = ("default", *PRICE_KINDS)
"""Kinds, and the default: cost of ownership, or a quoted price for a machine whose parts have no known cost."""

RENTAL_KINDS = tuple(kind for kind in PRICE_KINDS if kind not in ("tco", "electricity"))
"""Kinds at which a budget buys: a price that a seller asks for a chip-hour."""

_OPEN: Mapping[str, tuple[str, ...]] = {
    "list": ("on-demand", "capacity-block"),
    "rent": rent.RENTAL_ORDER,
    "default": rent.RENTAL_ORDER,
}
"""Kinds that mean the first quoted one of several kinds."""

RATE = "USD/chip/s"
PER_MTOK = "USD/Mtok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """rate: USD per chip and second. label: term, date and scope, for a reader. fact_path: of the number ("" when
    unknown)."""

    rate: Estimate
    label: str
    fact_path: str
    term: str = ""


def quoted_terms(facts: Facts, system_id: str) -> dict[str, str]:
    """Term -> grade, for every term with a price of the system; empty where the user has set a price, which wins over
    all."""
    if _own_price(facts, system_id) is not None:
        return {}
    found = {kind: rent.quoted(facts, system_id, kind) for kind in rent.QUOTED}
    return {kind: fact.grade or "A" for kind, fact in found.items() if fact is not None}


def _own_price(facts: Facts, system_id: str) -> Fact | None:
    """The user's own price of a system, where it is set."""
    own = facts.get(f"prices.user.{system_id}")
    return own if own is not None and own.value is not None else None


def price(
    facts: Facts, system_id: str, *, term: str = "default", notes: Notes | None = None, asked: Terms | None = None
) -> Price:
    """The price of one chip of a system.

    The user's own (`prices.user.<system>`, from --set prices.<system>=) wins over any term but electricity. Otherwise
    `prices.choices.<system>.<term>` names the facts that quote that term, the preferred first; the cost of ownership
    is built up from its parts (asked: on which terms, None: those of the facts). `default` is the cost of ownership
    and, where that is not known, what `rent` quotes. Unknown, with the kinds that there are, when no fact of the term
    has a value: another kind never stands in.

    Raises UserError for an unknown term, and for a fact that is no price of a chip and time.
    """
    if term not in TERMS:
        raise unknown_word("price term", term, TERMS, field="prices.term")
    if term == "electricity":
        return _electricity(facts, system_id, notes)
    own = _own_price(facts, system_id)
    if own is not None:
        return _price(facts, own, OWN, notes)
    if term == "tco" or (term == "default" and owned(facts, system_id, asked).total.value is not None):
        return _cost(facts, system_id, notes, asked)
    for kind in _OPEN.get(term, (term,)):
        fact = rent.quoted(facts, system_id, kind)
        if fact is not None and not (term in ("default", "rent") and fact.grade == "D"):
            if fact.unit != RATE:
                raise UserError(
                    f"measures {fact.unit or 'a count'}",
                    where=fact.path,
                    given=fact.shown,
                    allowed=RATE,
                    fix='a price says of what: "$2.10/chip/h"',
                )
            return _price(facts, fact, kind, notes)
    guess = rent.estimated(facts, system_id) if term == "rent" else None
    if guess is not None:
        return _estimated(guess, notes)
    wanted = _no_price(facts, system_id, term, asked)
    return Price(rate=unknown_estimate(RATE, wanted), label=wanted, fact_path="", term="")


def _no_price(facts: Facts, system_id: str, term: str, asked: Terms | None) -> str:
    """Why there is no price of a kind, and which kinds have a price."""
    if term == "default":
        return WITHOUT_PRICE
    there = list(quoted_terms(facts, system_id))
    if owned(facts, system_id, asked).total.value is not None:
        there = ["tco", "rent", *there]
    instead = f" (there is {', '.join(there)})" if there else ""
    return f"no {term} price in the facts{instead}"


def _electricity(facts: Facts, system_id: str, notes: Notes | None) -> Price:
    """The cost of a working chip's electricity at the meter.

    rate = power * pue * electricity
    """
    site = read_site(facts)
    if not facts.meta("systems", system_id).get("chip"):
        return Price(rate=unknown_estimate(RATE, WITHOUT_PRICE), label=WITHOUT_PRICE, fact_path="")
    parts = [(drawn_power(facts, system_id, notes=notes).power, 1.0), (site.pue, 1.0), (site.electricity, 1.0)]
    rate = product_of(parts, RATE)
    if rate.value is None:
        why = f"no cost of electricity: {rate.reason}"
        return Price(rate=unknown_estimate(RATE, why), label=why, fact_path="")
    label = ", ".join((show(rate.value, RATE), "electricity", f"a chip at work, site {site.name}"))
    if notes is not None:
        notes.add("price", rate.value, RATE, note=label, words="power * pue * electricity")
    return Price(rate=rate, label=label, fact_path="", term="electricity")


def _estimated(found: rent.EstimatedRent, notes: Notes | None) -> Price:
    """The estimated rent of a system that nobody quotes, as a price of grade D."""
    label = ", ".join((show(float(found.rate), RATE), "rent", ESTIMATE, found.words))
    told(notes, "price", rent.rent_of_cost, unit=RATE, note=label)(cost=found.cost, markup=found.markup)
    return Price(rate=found.rate, label=label, fact_path="", term="rent")


def _cost(facts: Facts, system_id: str, notes: Notes | None, asked: Terms | None) -> Price:
    """What a chip-hour costs its owner, as a price."""
    cost = owned(facts, system_id, asked)
    if cost.total.value is None:
        why = f"no cost of ownership: {cost.total.reason}"
        return Price(rate=unknown_estimate(RATE, why), label=why, fact_path="")
    terms = cost.terms
    scope = f"{terms.quarter}, {terms.buyer}, {COST_RULE_WORDS[terms.rule]}"
    label = ", ".join((show(cost.total.value, RATE), "tco", scope))
    if notes is not None:
        notes.add("price", cost.total.value, RATE, note=label, words="sum of the parts that mowich prices shows")
    return Price(rate=replace(cost.total, breakdown={}), label=label, fact_path="", term="tco")


def _price(facts: Facts, fact: Fact, term: str, notes: Notes | None) -> Price:
    value = float(fact.value)  # type: ignore[arg-type]
    rate = Estimate(
        value=value,
        unit=RATE,
        low=fact.low if fact.low is not None else value,
        high=fact.high if fact.high is not None else value,
        grade=fact.grade or "A",
    )
    region = facts.get(fact.path.rsplit(".", 1)[0] + ".region")
    where = str(region.value) if region is not None and region.value else fact.note or "scope not stated"
    where = f"region {where}" if where.startswith("not stated") else where
    scope = where if fact.grade != "user" else ""
    date = str(fact.date or "") if fact.grade != "user" else ""
    label = ", ".join(
        part for part in (show(value, RATE), term, ESTIMATE if fact.grade == "D" else "", date, scope) if part
    )
    if notes is not None:
        notes.add("price", value, RATE, note=label)
    return Price(rate=rate, label=label, fact_path=fact.path, term=term)


def usd_per_mtok(price: Estimate, *, chips: int, step_s: Estimate, tokens: float, goodput: Estimate) -> Estimate:
    """USD per million trained tokens.

    T = chips * price * step_s / (tokens * goodput) * 1e6

    chips: all that are paid for, used and idle; tokens: of a step; goodput: the share of time that is useful. Assumes
    that price, time and goodput err independently.

    Units: chips chips, price USD/chip/s, step_s s, tokens tokens.

    >>> from mowich.estimate import exact
    >>> price, step, kept = exact(3.6 / 3600, "USD/chip/s"), exact(4.0, "s"), exact(0.8, "1")
    >>> c = usd_per_mtok(price, chips=1000, step_s=step, tokens=4e6, goodput=kept)
    >>> round(c.value, 9), c.unit
    (1.25, 'USD/Mtok')
    """
    cost = product_of([(price, 1.0), (step_s, 1.0), (goodput, -1.0)], PER_MTOK)
    return cost.scaled(chips / tokens * 1e6, PER_MTOK)


def breakeven_usd_per_chip_h(best: Estimate, *, chips: int, tokens_per_s: Estimate, goodput: Estimate) -> Estimate:
    """The price per chip-hour at which a row costs as much as the best row.

    T = best * tokens_per_s * goodput / chips * 3600 / 1e6

    best: of the best row; tokens_per_s: of this row, all chips, without failures; chips: used and idle. The interval
    carries that of both rows.

    Units: best USD/Mtok, tokens_per_s 1/s, chips chips.

    >>> from mowich.estimate import exact
    >>> cost, rate, kept = exact(1.25, "USD/Mtok"), exact(1e6, "1/s"), exact(0.8, "1")
    >>> r = breakeven_usd_per_chip_h(cost, chips=1000, tokens_per_s=rate, goodput=kept)
    >>> round(r.value, 9)
    3.6
    """
    cost = product_of([(best, 1.0), (tokens_per_s, 1.0), (goodput, 1.0)], "USD/chip/h")
    return cost.scaled(3600 / 1e6 / chips, "USD/chip/h")
