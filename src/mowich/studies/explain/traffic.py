"""A simulation of serving traffic made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as File
from typing import TYPE_CHECKING

from mowich.economics import energy
from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.requests.scenarios import TrafficRequest
from mowich.scenario import is_inline
from mowich.shown import Result
from mowich.studies.arrivals_row import PLAYED_TIMES
from mowich.studies.explain.source import Numbers, Source, note_costs
from mowich.studies.explain.tree import ResultPath, flat_numbers

if TYPE_CHECKING:
    from mowich.studies.traffic_scenario import TrafficScenario

EXAMPLE_USERS = 16.0
"""Sequences of the one step that is explained for all steps of a simulation."""


def traffic_source(result: Result, facts: Facts) -> Source | None:
    """The simulation made again; None where its scenario is missing."""
    from mowich.studies import traffic as study
    from mowich.studies import traffic_scenario

    given = str(result["inputs"]["scenario"])
    file = File(given)
    if not is_inline(given) and not file.is_file():
        return None
    rules = tuple(result["inputs"].get("rules", ()))
    scenario = traffic_scenario.read_traffic(file, facts, rules=rules)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        draws = result["inputs"].get("draws") if wanted[0] == "ranges" else 0  # a range takes many runs
        regret = bool(result["inputs"].get("regret"))
        asked = TrafficRequest(facts=known, scenario=file, draws=draws, autoscale=rules, regret=regret)
        return flat_numbers(study.traffic(asked).to_dict())

    def symbols(known: Facts) -> dict[str, float]:
        idle = {energy.drawn_power(known, system).idle_share.value or 0.0 for system in scenario.chips_of}
        of_all = {"idle_share": idle.pop()} if len(idle) == 1 else {}  # mixed traffic has no formula for it
        return {"pue": known.number("sites.default.pue"), **of_all}

    return Source(
        at=(),
        numbers=numbers,
        terms=_terms(scenario, facts),
        record=lambda name, known, notes: note_costs(name, scenario.chips_of, scenario.price, known, notes),
        symbols=symbols,
        title=str(result["inputs"]["name"]),
        is_slow=True,
    )


_SAME = (
    "requests_per_s",
    "in_flight",
    "utilisation",
    "tokens_per_s_per_chip",
    "usd_per_h",
    "usd_per_mtok",
    "J_per_token",
)
"""Numbers that a deployment and its traffic share."""


def rate_row(at: ResultPath, row: Result, facts: Facts) -> Source:
    """A deployment for a load: its scenario played once more."""
    from mowich.studies import traffic as study
    from mowich.studies import traffic_scenario

    scenario = traffic_scenario.read_traffic(row["scenario"], facts)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = study.traffic(TrafficRequest(facts=known, scenario=row["scenario"], draws=0)).to_dict()
        out = flat_numbers(found)
        seen: dict[ResultPath, float] = {(name,): out[path] for name, path in PLAYED_TIMES.items() if path in out}
        return seen | {(name,): out[name,] for name in _SAME if (name,) in out}

    title = f"{row['system']}, {row['mode']}"
    return Source(
        at=at,
        numbers=numbers,
        terms=_terms(scenario, facts),
        record=lambda name, known, notes: note_costs(name, scenario.chips_of, scenario.price, known, notes),
        title=title,
        is_slow=True,
    )


def _terms(scenario: TrafficScenario, facts: Facts) -> Callable[[ResultPath, Notes], None]:
    """The step that stands for all steps of a simulation, and the price or the power of the chips."""

    def terms(name: ResultPath, notes: Notes) -> None:
        from mowich.studies.explain.serving import one_step_terms

        if name[0] in ("requests", "chips", "chips_of", "chips_used", "replicas", "prefill", "decode", "coverage"):
            return
        n, context = EXAMPLE_USERS, 1024.0
        notes.add(
            "step",
            one_step_terms(scenario.serve.deployment, facts, n, context, notes),
            "s",
            words=f"sum of its parts, here of {n:g} sequences of {context:g} tokens; the simulation evaluates it for"
            " every batch",
        )

    return terms
