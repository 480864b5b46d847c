"""A row of prices made again."""

from __future__ import annotations

from mowich.economics import rent
from mowich.economics.cost_laws import per_hour
from mowich.economics.ownership import PER_CHIP_S, Terms, own_terms, owned
from mowich.estimate import Notes
from mowich.facts import Facts
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

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] == "rented_usd_per_chip_h" and len(name) > 1:
            rent.note_asked(facts, row["system_id"], str(name[1]), notes)
            return
        every = Notes()
        own_terms(facts, row["system_id"], every, terms_of)
        part = str(name[1]) if name[0] in ("tco", "capital") and len(name) > 1 else ""
        own = (part, *_BEFORE.get(part, ()))
        for term in every.terms.values():
            if not part or term.name in own or term.name.startswith(tuple(f"{one} " for one in own)):
                notes.terms[term.name] = term
        if name[0] == "tco" and part in every.terms:
            per_s = sum(t.value for t in every.terms.values() if t.unit == PER_CHIP_S and t.name.startswith(part))
            notes.add(f"{part} of an hour", per_hour(per_s), "USD/chip/h", per_hour, per_s=per_s)

    known = owned(facts, row["system_id"], terms_of)
    shares = {"availability": f"{_OPERATION}.availability", "sold_share": f"{_OPERATION}.sold_share_hyperscaler"}
    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols={**{name: facts.number(path) for name, path in shares.items()}, "margin": float(inputs["margin"])},
        behind={**{name: (path,) for name, path in shares.items()}, "tco_total": known.facts},
        title=row["system"],
    )
