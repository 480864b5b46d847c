"""The most chips that can be ordered, from facts: chips made a quarter, by chip (`supply.chips`)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from mowich.economics.energy import of_fact
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.fleets.problem import LENGTHS, FleetProblem, Supplied, Vector
from mowich.units import parse

SupplyEnd = Literal["low", "value", "high"]
SUPPLY_ENDS: tuple[SupplyEnd, ...] = get_args(SupplyEnd)
"""The place in its range from which a supply of facts is taken."""

_OF_FACTS = re.compile(r"(?:(\S+) of )?facts")


def is_of_facts(given: object) -> bool:
    """Whether a scenario asks for the supply in facts: "facts", "20% of facts"."""
    return isinstance(given, str) and _OF_FACTS.fullmatch(given.strip()) is not None


def supply_of_facts(given: str, facts: Facts, chip: str) -> Supplied:
    """The supply of a chip in facts, all of it or a share. Raises UserError where nobody publishes it, or for a wrong
    share.

    >>> from mowich.facts import load_facts
    >>> found = supply_of_facts("20% of facts", load_facts(), "trainium3")
    >>> found.share, found.quarterly.grade
    (0.2, 'D')
    """
    match = _OF_FACTS.fullmatch(given.strip())
    assert match is not None
    share = parse(match[1], "1").value if match[1] else 1.0
    if not 0.0 < share <= 1.0:
        raise UserError("a share of the chips that are made", given=given, allowed="facts, or 1% of facts to all of it")
    path = f"supply.chips.{chip}"
    fact = facts.get(path)
    if fact is None or fact.value is None:
        why = "no fact has how many are made" if fact is None else fact.reason or "it is not known"
        raise UserError(f"{path}: {why}", given=given, fix="give its supply as a number of units")
    return Supplied(quarterly=of_fact(fact, "1"), share=share, fact=path)


def units_a_period(supplied: Supplied, chips: float, unit_chips: int, length_s: float) -> float:
    """Whole units that can be ordered in one period, of so many chips a quarter.

    >>> from mowich.estimate import exact
    >>> some = Supplied(quarterly=exact(1000.0, "1"), share=0.5, fact="")
    >>> units_a_period(some, 1000.0, 64, LENGTHS["quarter"]), units_a_period(some, 1000.0, 64, LENGTHS["year"])
    (7.0, 31.0)
    """
    return float(np.floor(supplied.share * chips * (length_s / LENGTHS["quarter"]) / unit_chips + 1e-9))


def at_supply_end(problem: FleetProblem, end: SupplyEnd) -> FleetProblem:
    """The problem with every supply of facts at one end of its range."""

    def moved(supply: Vector, supplied: Supplied, unit_chips: int) -> Vector:
        chips = getattr(supplied.quarterly, end) or float(supplied.quarterly)
        return np.full_like(supply, units_a_period(supplied, chips, unit_chips, problem.length_s))

    choices = tuple(
        replace(
            c,
            offers=tuple(
                o if o.supplied is None else replace(o, supply=moved(o.supply, o.supplied, c.unit_chips))
                for o in c.offers
            ),
        )
        for c in problem.choices
    )
    return replace(problem, choices=choices)


def is_supplied_by_facts(problem: FleetProblem) -> bool:
    """Whether any supply of a problem comes from facts."""
    return any(o.supplied is not None for c in problem.choices for o in c.offers)
