"""The programme of a fleet solved again."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path as File

from mowich.estimate import Estimate, Notes
from mowich.facts import Facts
from mowich.facts.moves import noted
from mowich.readback import record_of
from mowich.scenario import is_inline
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers


def fleet_source(result: Result, facts: Facts) -> Source | None:
    """The programme solved again, relaxed, with the speeds of the result; None where its scenario is missing."""
    from mowich.fleets.answer import solve_fleet
    from mowich.fleets.problem import Rate
    from mowich.fleets.read import read_problem
    from mowich.fleets.tenants import tenant_fall
    from mowich.studies.fleet import Fleet, at_supply_ends

    inputs = result["inputs"]
    file = File(inputs["scenario"])
    if not is_inline(file) and not file.is_file():
        return None
    fallen = inputs.get("tenant")
    speeds = {
        (r["task"], r["system"]): record_of(
            Rate, r, tokens_per_s_per_chip=Estimate.from_dict(r["tokens_per_s_per_chip"]), engine=""
        )
        for r in result["rates"]
    }

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        problem = read_problem(file, known)
        answer = solve_fleet(problem, speeds, relaxed=True)
        fall = tenant_fall(problem, speeds, fallen["name"], fallen["share"]) if fallen else None
        ends = at_supply_ends(problem, speeds)
        return flat_numbers(Fleet(problem=problem, rates=speeds, answer=answer, fall=fall, at_supply=ends).to_dict())

    @cache
    def found() -> Notes:
        return noted(partial(record_offers, file), facts)

    def terms(name: ResultPath, notes: Notes) -> None:
        notes.terms |= found().terms

    return Source(at=(), numbers=numbers, terms=terms, title=str(inputs["name"]), is_slow=True)


def record_offers(scenario: File, known: Facts, notes: Notes) -> None:
    """Record the power and the offered prices of a chip of each system of a scenario."""
    from mowich.fleets.read import read_problem

    for choice in read_problem(scenario, known).choices:
        if choice.power_W.value is not None:
            notes.add(f"power of {choice.name}", choice.power_W.value, "W")
        for offer in choice.offers:
            name = f"{offer.kind} {choice.name} at {offer.site}"
            if offer.price.value is not None:
                notes.add(name, offer.price.value, offer.price.unit, note=offer.price_label)
