"""A row of power made again."""

from __future__ import annotations

from dataclasses import replace

from mowich.economics.energy import drawn_share_path
from mowich.economics.power import tdp_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.requests.machines import POWER
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers


def power_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """Power of one machine."""
    from mowich.studies.power import study

    inputs = result["inputs"]
    tokens_per_s = inputs["tokens_per_s_per_chip"]
    asked = POWER.of(
        facts, systems=[row["system"]], cap_W=inputs["cap_W"], spares=inputs["spares"], tokens_per_s=tokens_per_s
    )

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        return flat_numbers(study(replace(asked, facts=known))[0].to_dict())

    system = resolve(facts, row["system"])

    def symbols(known: Facts) -> dict[str, float]:
        given = {
            "pue": known.get("sites.default.pue"),
            "drawn_share": known.get(drawn_share_path(known, system.chip)),
            "idle_share": known.get("sites.default.idle_power_share"),
            "it_W": known.get(f"chips.{system.chip}.power.all_in"),
            "bandwidth": known.get(f"systems.{system.id}.levels.scale_out.bandwidth"),
            "port_bandwidth": known.get("sites.parts.network_port_bandwidth"),
            "port_W": known.get("sites.parts.network_port"),
            "tdp": tdp_of(known, system.chip),
        }
        return {name: fact.value for name, fact in given.items() if fact is not None and isinstance(fact.value, float)}

    return Source(at=at, numbers=numbers, symbols=symbols, title=row["system"])
