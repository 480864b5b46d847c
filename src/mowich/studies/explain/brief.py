"""A number of a brief told: its arithmetic with the figures put in, and the command that gives each.

A brief needs dozens of searches, so its numbers are not made again for each end of each range. The command of a number
does that for one number.
"""

from __future__ import annotations

import re

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.shown import Result
from mowich.studies.explain.source import Source
from mowich.studies.explain.tree import ResultPath


def brief_section(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One question, or one line of the first table: the formula of each number that has one, and where its figures come
    from."""
    found: dict[ResultPath, Result] = {
        ("numbers", i, "estimate"): number for i, number in enumerate(row.get("numbers", ()))
    }
    if at[0] == "table":
        named = {number["name"]: number for number in result["rows"][0]["numbers"]}
        of_line = f"{row['job']}.{row['model']}.{row['rival']}"
        names = {f"{kept}{what}": f"{kind}.{of_line}.{what}" for kept, kind in _KINDS for what in ("speed", "dollar")}
        found = {(key,): named[name] for key, name in names.items() if name in named}

    def terms(name: ResultPath, notes: Notes) -> None:
        number = found.get(name)
        value = number["estimate"]["value"] if number else None
        if number is None or value is None:
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
    for i, (path, number) in enumerate(found.items()):
        if number["formula"]:
            formulas[path] = _own_names(number["formula"], number["symbols"], i)
            figures |= {f"{name}_{i}": value for name, value in number["symbols"].items()}
    return Source(
        at=at,
        terms=terms,
        symbols=lambda known: figures,
        formulas=formulas,
        title=str(row["question"]) if at[0] != "table" else f"{row['work']} beside {row['rival_name']}",
    )


_KINDS = (("", "shipped"), ("tuned_", "tuned"))
"""Prefix of a number's name in the first table -> the software of that number."""


def _own_names(formula: str, symbols: Result, place: int) -> str:
    """A formula whose names are unique to its number: several numbers of a question use the same name."""
    return re.sub(r"[A-Za-z_]\w*", lambda m: f"{m[0]}_{place}" if m[0] in symbols else m[0], formula)
