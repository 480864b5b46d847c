"""A row of prices made again."""

from __future__ import annotations

from functools import cache

from mowich.economics import rent
from mowich.economics.ownership import OF_AN_HOUR, Terms, cost_per_s
from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.facts.moves import noted
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers

_OPERATION = "prices.ownership.operation"

_BEFORE = {"silicon": ("dies_of_wafer", "sold_share"), "cooling": ("energy",)}
"""Part -> formulas of other names that it rests on."""


def price_source(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """Cost and price of one system."""
    from mowich.studies import prices as study

    inputs = result["inputs"]
    terms_of = Terms(**{name: inputs[name] for name in ("quarter", "rule", "buyer", "life_s", "chips")})

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        takes = study.margins(known, inputs["margin_given"])
        return flat_numbers(study.price_row(known, row["system"], str(inputs["price_term"]), takes, terms_of).to_dict())

    @cache
    def cost() -> Notes:
        return noted(lambda known, notes: cost_per_s(known, row["system_id"], terms_of, notes), facts)

    def terms(name: ResultPath, notes: Notes) -> None:
        part = str(name[1]) if name[0] in ("tco", "capital") and len(name) > 1 else ""
        every = {} if is_rent(name) else cost().terms
        own = (part, *_BEFORE.get(part, ()))
        hour = f"{part}{OF_AN_HOUR}" if name[0] == "tco" and part in every else ""
        for term in every.values():
            is_own = not part or term.name in own or term.name.startswith(tuple(f"{one} " for one in own))
            if term.name == hour or (is_own and not term.name.endswith(OF_AN_HOUR)):
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
            "tco_total": 3600.0 * (cost_per_s(known, row["system_id"], terms_of) or 0.0),
        }

    return Source(at=at, numbers=numbers, record=record, terms=terms, symbols=symbols, title=row["system"])
