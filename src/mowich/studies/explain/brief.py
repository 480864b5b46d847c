"""A number of a brief told: its arithmetic with the figures put in, and the command that gives each.

A brief asks some dozens of searches. So its numbers are not made again for each end of each range: the command beside
a number does that for it alone.
"""

from __future__ import annotations

import re

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath


def brief_section(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One question: the formula of each number that has one, and where its figures come from."""

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return {}

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] != "numbers":
            return
        number = row["numbers"][name[1]]
        value = number["estimate"]["value"]
        if value is None:
            return
        notes.add(
            number["what"],
            value,
            number["estimate"]["unit"],
            words=f"from: {number['of']}",
            given=number["symbols"],
        )

    formulas: dict[ResultPath, str] = {}
    figures: dict[str, float] = {}
    for i, number in enumerate(row["numbers"]):
        if number["formula"]:
            formulas["numbers", i, "estimate"] = _own_names(number["formula"], number["symbols"], i)
            figures |= {f"{name}_{i}": value for name, value in number["symbols"].items()}
    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols=lambda known: figures,
        formulas=formulas,
        title=str(row["question"]),
    )


def _own_names(formula: str, symbols: Result, place: int) -> str:
    """A formula whose names are those of its own number: several numbers of a question have one of the same name."""
    return re.sub(r"[A-Za-z_]\w*", lambda m: f"{m[0]}_{place}" if m[0] in symbols else m[0], formula)
