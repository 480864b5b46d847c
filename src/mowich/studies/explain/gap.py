"""A factor of a gap told: the facts of its property on both machines.

A factor is not made again: each end of each range would plan on all machines between the two.
"""

from __future__ import annotations

from mowich.economics import money
from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.shown import Result
from mowich.software.hybrid import property_of
from mowich.software.stack import equip
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath


def gap_factor(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One property of both machines."""

    paths = {s["system"]: _paths(result, s, str(row["property"]), facts) for s in result["systems"]}

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return {}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        for system in result["systems"]:
            if row["property"] == "price":
                own = Notes()
                money.price(known, system["system_id"], term=result["inputs"]["price_term"], notes=own)
                notes.take(own, f" of {system['system']}")
                continue
            for field, path in paths[system["system"]].items():
                fact = known.get(path)
                if fact is not None and isinstance(fact.value, float):
                    notes.add(f"{field} of {system['system']}", fact.value, fact.unit)

    return Source(
        at=at,
        numbers=numbers,
        record=record,
        title=" and ".join(s["system"] for s in result["systems"]),
    )


def _paths(result: Result, system: Result, name: str, facts: Facts) -> dict[str, str]:
    """Field -> path of the facts of a property of one machine. Software of serving is its engine, and the chip's
    family under it."""
    serves = result["inputs"].get("task") == "serve"
    platform = equip(facts, system["system_id"], stack=None if serves else system["software"])
    if serves and name == "software":
        files = (f"serving.{platform.family}", f"serving.{system['software']}")
        return {path.removeprefix("serving."): path for file in files for path in facts.paths(file)}
    return {field: path for field, path in platform.paths.items() if property_of(field) == name}
