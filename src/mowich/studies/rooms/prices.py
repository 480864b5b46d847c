"""`mowich prices`: what a chip-hour costs its owner, part by part; the price of a kind for all rows; and what of the
published prices a seller keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from mowich.economics import money, ownership, rent
from mowich.economics.energy import of_fact
from mowich.errors import UserError
from mowich.estimate import Estimate, Notes, exact, product_of, unknown_estimate
from mowich.facts import Facts
from mowich.facts.moves import noted
from mowich.machines.system import machine_id, parse_spec
from mowich.models.model import Model
from mowich.price_terms import OWN
from mowich.readback import record_of
from mowich.requests.rooms.prices import PricesRequest
from mowich.shown import Keyed, Result, Rows, Shown, written_fields
from mowich.studies.explain.rules.rule import R
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers

PER_CHIP_H = "USD/chip/h"
_HOUR_S = 3600.0
_OWN = "prices.ownership"
_OPERATION = f"{_OWN}.operation"


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
    given = {name: value for name in written_fields(known) if (value := getattr(asked, name))}
    return record_of(ownership.Terms, known, **given)


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


def answer(asked: PricesRequest) -> PriceStudy:
    """What a chip-hour costs its owner, part by part, and what sellers keep.

    Args:
        systems: names; None: all whose cost is known.
        price: kind of price for all rows: "tco" (default), "list", "on-demand", ...
        quarter: of purchase, "2026Q1".
        rule: whose rule of accounting: "owner", "semianalysis" or "epoch".
        buyer: "hyperscaler" or "neocloud".
        life_s: of the machine, seconds or "5 years".
        chips: that share one network.
        margin: of a seller, a share of his price.
        facts: other facts than the shipped ones.

    Returns: a `PriceStudy`: `.rows`, one for each machine. Units: dollars per chip and second; dollars.

    Example:
        >>> import mowich
        >>> mowich.prices(["trn3"]).rows[0].system
        'trn3'
    """
    facts, terms = asked.facts, terms_asked(asked)
    specs = priced_systems(facts) if asked.systems is None else asked.systems
    takes = margins(facts, asked.margin)
    inputs = {
        "systems": list(specs),
        "price_term": asked.price,
        **written_fields(terms),
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
            (of_fact(facts.fact(f"{_OPERATION}.availability"), "1"), -1.0),
            (of_fact(facts.fact(f"{_OPERATION}.sold_share_hyperscaler"), "1"), -1.0),
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


_COST = "terms: the formulas below, from wafer to hour"
_COST_SAYS = {
    "silicon": "logic dies",
    "hbm": "high-bandwidth memory",
    "packaging": "interposer, substrate, test, and good parts that are lost",
    "chip_maker": "what the maker of the chip takes",
    "host_memory": "memory of the chip's share of a host",
    "machine": "boards, host, network cards and rack, and what their maker takes",
    "scale_up": "the chip's share of the scale-up network",
    "network": "the chip's share of the scale-out network",
    "storage": "the chip's share of storage",
    "spares": "chips that stand ready",
    "capital_cost": "cost of the capital that is bound",
    "site": "building, or its lease",
    "energy": "electricity of the machine",
    "cooling": "electricity of cooling and losses",
    "operation": "people, repairs and what else it takes to run",
}
"""Parts of a chip-hour, in the order of `economics.ownership.OWNED`."""

RULES = (
    R(
        "rows * usd_per_chip_h",
        "USD/chip/h",
        "price of a chip-hour, of the kind that was asked",
        "lookup: as quoted; of kind tco: the cost of ownership",
    ),
    *(R(f"rows * tco {part}", "USD/chip/h", says, _COST) for part, says in _COST_SAYS.items()),
    *(
        R(f"rows * capital {part}", "USD", f"{says}, paid once for a chip", _COST)
        for part, says in list(_COST_SAYS.items())[:9]
    ),
    R("rows * tco_total", "USD/chip/h", "cost of an installed chip for an hour", "= sum(parts)"),
    R("rows * tco_total breakdown *", "USD/chip/h", "a part of it", "terms: see tco"),
    R("rows * capital_total", "USD", "what is paid once for a chip with its share of everything", "= sum(parts)"),
    R("rows * capital_total breakdown *", "USD", "a part of it", "terms: see capital"),
    R(
        "rows * sold_usd_per_chip_h",
        "USD/chip/h",
        "cost of an hour that is sold",
        "= tco_total / (availability * sold_share)",
    ),
    R(
        "rows * asked_usd_per_chip_h",
        "USD/chip/h",
        "price of a sold hour with the margin of a seller",
        "= sold_usd_per_chip_h / (1 - margin)",
    ),
    R(
        "rows * rented_usd_per_chip_h *",
        "USD/chip/h",
        "what a kind of seller asks",
        "terms: his cost, times what such sellers ask over theirs",
    ),
    R("rows * quoted * usd_per_chip_h", "USD/chip/h", "a published price", "lookup: as quoted"),
    R(
        "rows * quoted * margin",
        "1",
        "share of a published price above the cost of an installed hour",
        "= 1 - tco_total / usd_per_chip_h",
    ),
)
"""What each number is."""

_BEFORE = {"silicon": ("dies_of_wafer", "sold_share"), "cooling": ("energy",)}
"""Part -> formulas of other names that it rests on."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """Cost and price of one system, made again."""
    inputs = result["inputs"]
    terms_of = record_of(ownership.Terms, inputs)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        takes = margins(known, inputs["margin_given"])
        return flat_numbers(price_row(known, row["system"], str(inputs["price_term"]), takes, terms_of).to_dict())

    @cache
    def cost() -> Notes:
        return noted(lambda known, notes: ownership.cost_per_s(known, row["system_id"], terms_of, notes), facts)

    def terms(name: ResultPath, notes: Notes) -> None:
        part = str(name[1]) if name[0] in ("tco", "capital") and len(name) > 1 else ""
        every = {} if is_rent(name) else cost().terms
        own = (part, *_BEFORE.get(part, ()))
        hour = f"{part}{ownership.OF_AN_HOUR}" if name[0] == "tco" and part in every else ""
        for term in every.values():
            is_own = not part or term.name in own or term.name.startswith(tuple(f"{one} " for one in own))
            if term.name == hour or (is_own and not term.name.endswith(ownership.OF_AN_HOUR)):
                notes.terms[term.name] = term

    def is_rent(name: ResultPath) -> bool:
        return name[0] == "rented_usd_per_chip_h" and len(name) > 1

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        if is_rent(name):
            rent.note_asked(known, row["system_id"], str(name[1]), facts, notes)

    def symbols(known: Facts) -> dict[str, float]:
        return {
            "availability": known.number(f"{_OPERATION}.availability"),
            "sold_share": known.number(f"{_OPERATION}.sold_share_hyperscaler"),
            "margin": float(inputs["margin"]),
            "tco_total": 3600.0 * (ownership.cost_per_s(known, row["system_id"], terms_of) or 0.0),
        }

    return Source(at=at, numbers=numbers, record=record, terms=terms, symbols=symbols, title=row["system"])
