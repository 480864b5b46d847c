"""A row of power made again."""

from __future__ import annotations

from mowich.economics.power import tdp_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers


def power_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """Power of one machine."""
    from mowich.studies.power import study

    inputs = result["inputs"]

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = study(
            known,
            [row["system"]],
            cap_W=inputs["cap_W"],
            spares=inputs["spares"],
            tokens_per_s=inputs["tokens_per_s_per_chip"],
        )[0]
        return flat_numbers(found.to_dict())

    chip = resolve(facts, row["system"]).chip
    symbols = {"pue": facts.number("sites.default.pue"), "idle_share": facts.number("sites.default.idle_power_share")}
    behind = {
        "pue": ("sites.default.pue",),
        "idle_share": ("sites.default.idle_power_share",),
        "it_W": (f"chips.{chip}.power.all_in",),
    }
    parts = {
        "bandwidth": facts.get(f"systems.{resolve(facts, row['system']).id}.levels.scale_out.bandwidth"),
        "port_bandwidth": facts.get("sites.parts.network_port_bandwidth"),
        "port_W": facts.get("sites.parts.network_port"),
        "tdp": tdp_of(facts, chip),
    }
    for symbol, fact in parts.items():
        if fact is not None and isinstance(fact.value, float):
            symbols[symbol], behind[symbol] = fact.value, (fact.path,)
    return Source(at=at, numbers=numbers, symbols=symbols, behind=behind, title=row["system"])
