"""A line of a value made again: the same job on the machine with the same amount, under other facts."""

from __future__ import annotations

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath
from mowich.studies.value import worth_facts

_OF_MEMORY = ("pays_from",)
_OF_LIFE = ("worth", "pays_from")


def value_point(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One amount of the property: the facts that it sets, and those of its worth. A plan is not searched again."""
    system = resolve(facts, str(result["inputs"]["on"]))

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return {}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        paths = list(row["set"]) or [f"chips.{system.chip}.memory.hbm_capacity"]
        memory, life = worth_facts(known, system.id)
        paths += [life] if name[0] in _OF_LIFE else []
        paths += [memory] if name[0] in _OF_MEMORY and memory is not None else []
        for path in paths:
            fact = known.fact(path)
            notes.add(path, fact.value, fact.unit)

    return Source(at=at, numbers=numbers, record=record, title=f"{row['model']} on {system.display}")
