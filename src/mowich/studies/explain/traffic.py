"""A simulation of serving traffic made again."""

from __future__ import annotations

from pathlib import Path as File

import numpy as np

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers

EXAMPLE_USERS = 16.0
"""Sequences of the step that stands for all steps of a simulation."""


def traffic_source(result: Result, facts: Facts) -> Source | None:
    """The simulation once more; None where its scenario is not there."""
    from mowich.studies import traffic as study
    from mowich.studies import traffic_scenario

    file = File(result["inputs"]["scenario"])
    if not file.is_file():
        return None
    scenario = traffic_scenario.read_traffic(file, facts)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return flat_numbers(study.traffic(file, known).to_dict())

    def terms(name: ResultPath, notes: Notes) -> None:
        from mowich.economics import energy, money
        from mowich.serving.step import step
        from mowich.studies.explain.serving import part_terms

        if name[0] in ("requests", "chips", "coverage"):
            return
        d = scenario.serve.deployment
        one = np.zeros(1, dtype=np.intp)
        n, context = EXAMPLE_USERS, 1024.0
        made = Notes()
        found = step(d.shapes.take(one), d.costs.take(one), n=n, context=context, notes=made)
        parts = {k: float(v[0]) for k, v in found.items()}
        part_terms(d, 0, parts, made, notes)
        total = sum(parts.values())
        notes.add(
            "step",
            total,
            "s",
            words=f"sum of its parts, here of {n:g} sequences of {context:g} tokens; the simulation evaluates it for"
            " every batch",
        )
        if name[0] == "usd_per_mtok":
            money.price(facts, scenario.system.id, term=money.kind_for(facts, [scenario.system.id])[0], notes=notes)
        elif name[0] == "J_per_token":
            energy.chip_power(facts, scenario.system.id, notes=notes)

    site = facts.number("sites.default.pue"), facts.number("sites.default.idle_power_share")
    symbols = {"pue": site[0], "idle_share": site[1]}
    behind = {"pue": ("sites.default.pue",), "idle_share": ("sites.default.idle_power_share",)}
    return Source(
        at=(),
        numbers=numbers,
        terms=terms,
        symbols=symbols,
        behind=behind,
        title=str(result["inputs"]["name"]),
        is_slow=True,
    )
