"""`mowich prices`: what a chip-hour costs its owner, part by part; the price of a kind for all rows; and what of the
published prices a seller keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.economics import money, ownership, rent
from mowich.economics.energy import of_fact
from mowich.errors import UserError
from mowich.estimate import Estimate, exact, product_of, unknown_estimate
from mowich.facts import Facts
from mowich.machines.system import machine_id, parse_spec
from mowich.price_terms import OWN
from mowich.requests.prices import PricesRequest
from mowich.shown import Keyed, Rows, Shown

PER_CHIP_H = "USD/chip/h"
_HOUR_S = 3600.0
_OWN = "prices.ownership"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted(Keyed):
    """A published price beside the cost. margin: what its seller keeps of it, where every hour is sold."""

    KEYS = "term price=label usd_per_chip_h margin"

    term: str
    label: str
    usd_per_chip_h: Estimate
    margin: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow(Shown):
    """One system. usd_per_chip_h: the price of the kind that all rows have (`term`); tco: parts of the cost of a
    chip-hour, tco_total: their sum; capital: USD per chip that are paid once, by part; sold_usd_per_chip_h: the cost of
    an hour that is sold; asked_usd_per_chip_h: with the margin of a seller; rented_usd_per_chip_h: what each kind of
    seller asks, as his prices of other machines stand to their costs; quoted: published prices."""

    KEYS = (
        "system system_id display term price=price_label usd_per_chip_h tco tco_total capital capital_total "
        "sold_usd_per_chip_h asked_usd_per_chip_h rented_usd_per_chip_h quoted"
    )

    system: str
    system_id: str
    display: str
    term: str
    price_label: str
    usd_per_chip_h: Estimate
    tco: Mapping[str, Estimate]
    tco_total: Estimate
    capital: Mapping[str, Estimate]
    capital_total: Estimate
    sold_usd_per_chip_h: Estimate
    asked_usd_per_chip_h: Estimate
    rented_usd_per_chip_h: Mapping[str, Estimate]
    quoted: tuple[Quoted, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStudy(Shown):
    """Costs and prices of systems, in the order asked for.

    Units: dollars per chip and second; dollars.

    Example:
        >>> import mowich
        >>> mowich.prices(["trn3"]).rows[0].system
        'trn3'
    """

    SCHEMA = "mowich/prices@1"

    inputs: Mapping[str, object]
    facts_hash: str
    rows: Rows[PriceRow]


def terms_asked(asked: PricesRequest) -> ownership.Terms:
    """Terms of the cost: those that are given, else those of the facts."""
    known = ownership.read_terms(asked.facts)
    return ownership.Terms(
        quarter=asked.quarter or known.quarter,
        rule=asked.rule or known.rule,
        buyer=asked.buyer or known.buyer,
        life_s=asked.life_s or known.life_s,
        chips=asked.chips or known.chips,
    )


def priced_systems(facts: Facts) -> tuple[str, ...]:
    """Systems with a bill of their parts, by id."""
    bills = facts.children("prices.machines.bill")
    return tuple(i for i in bills if ownership.owned(facts, i).total.value is not None)


def margins(facts: Facts, margin: float | None) -> Estimate:
    """The margin of a seller: what is given, else from that of a large customer to that of a cloud."""
    if margin is not None:
        if not 0 <= margin < 1:
            raise UserError("must lie in 0 to 1", field="margin", given=margin, allowed="a share such as 0.3 or 30%")
        return exact(margin, "1", "user")
    large, cloud = (
        of_fact(facts.fact(f"{_OWN}.margin.{n}"), "1") for n in ("strategic_customer", "aws_operating_q1_2026")
    )
    low, high = large.low or 0.0, max(large.high or 0.0, cloud.value or 0.0)
    return Estimate(value=large.value, unit="1", low=low, high=high, grade=large.grade)


def prices(asked: PricesRequest) -> PriceStudy:
    """Cost and prices of each system (None: of all whose cost is known)."""
    facts, terms = asked.facts, terms_asked(asked)
    specs = priced_systems(facts) if asked.systems is None else asked.systems
    takes = margins(facts, asked.margin)
    inputs = {
        "systems": list(specs),
        "price_term": asked.price,
        "quarter": terms.quarter,
        "rule": terms.rule,
        "buyer": terms.buyer,
        "life_s": terms.life_s,
        "chips": terms.chips,
        "margin": takes.value,
        "margin_low": takes.low,
        "margin_high": takes.high,
        "margin_given": asked.margin,
    }
    rows = Rows(price_row(facts, spec, asked.price, takes, terms) for spec in specs)
    return PriceStudy(inputs=inputs, facts_hash=facts.hash(), rows=rows)


def price_row(facts: Facts, spec: str, term: str, takes: Estimate, terms: ownership.Terms) -> PriceRow:
    """One system. term: the kind of price; takes: margin of a seller; terms: of the cost."""
    system = machine_id(facts, parse_spec(spec)[0])
    cost, price = ownership.owned(facts, system, terms), money.price(facts, system, term=term, asked=terms)
    total = cost.total.scaled(_HOUR_S, PER_CHIP_H)
    sold = product_of(
        [
            (total, 1.0),
            (of_fact(facts.fact(f"{_OWN}.operation.availability"), "1"), -1.0),
            (of_fact(facts.fact(f"{_OWN}.operation.sold_share_hyperscaler"), "1"), -1.0),
        ],
        PER_CHIP_H,
    )
    kept = Estimate(
        value=1 - (takes.value or 0.0),
        unit="1",
        low=1 - (takes.high or 0.0),
        high=1 - (takes.low or 0.0),
        grade=takes.grade,
    )
    return PriceRow(
        system=spec,
        system_id=system,
        display=str(facts.meta("systems", system).get("display", system)),
        term=price.term or term,
        price_label=price.label,
        usd_per_chip_h=replace(price.rate, breakdown={}).scaled(_HOUR_S, PER_CHIP_H),
        tco={name: part.scaled(_HOUR_S, PER_CHIP_H) for name, part in cost.parts.items()},
        tco_total=total,
        capital=cost.capital,
        capital_total=cost.capital_total,
        sold_usd_per_chip_h=sold,
        asked_usd_per_chip_h=product_of([(sold, 1.0), (kept, -1.0)], PER_CHIP_H),
        rented_usd_per_chip_h={
            seller: rate.scaled(_HOUR_S, PER_CHIP_H) for seller, rate in rent.asked_by_sellers(facts, system).items()
        },
        quoted=tuple(_quoted(facts, system, total)),
    )


def _quoted(facts: Facts, system: str, cost: Estimate) -> list[Quoted]:
    """Published prices of a system, and what of each is above the cost."""
    out = []
    for term in rent.QUOTED:
        price = money.price(facts, system, term=term)
        if price.rate.value is None or price.term == OWN:
            continue
        rate = replace(price.rate, breakdown={}).scaled(_HOUR_S, PER_CHIP_H)
        share = product_of([(cost, 1.0), (rate, -1.0)], "1")
        margin = (
            unknown_estimate("1", share.reason or "unknown")
            if share.value is None
            else Estimate(
                value=1 - share.value,
                unit="1",
                low=1 - (share.high or share.value),
                high=1 - (share.low or share.value),
                grade=share.grade,
            )
        )
        out.append(Quoted(term=term, label=price.label, usd_per_chip_h=rate, margin=margin))
    return out
