"""What `mowich facts` lists: what is known, by kind, and of a machine what a reader compares it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from mowich.economics.money import price
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.machines.topology import describe
from mowich.models import model_names
from mowich.price_terms import quote


def fact_entries(facts: Facts, kinds: Sequence[str], *, with_models: bool) -> list[dict[str, object]]:
    """Of each thing of the kinds its kind, its id and what its file says of it in words; behind them the models, which
    are files of their own."""
    entries: list[dict[str, object]] = [
        {"kind": k, "id": i, **{x: y for x, y in facts.meta(k, i).items() if isinstance(y, str) and x != "id"}}
        for k in kinds
        for i in facts.ids(k)
    ]
    return entries + [{"kind": "models", "id": n} for n in model_names() if with_models]


def system_entry(facts: Facts, name: str) -> dict[str, object]:
    """What a list says of a system, beside its identity: names, instances, chips of a unit, and of a chip its memory in
    bytes and as written, its bandwidth in B/s and the price in USD/chip/s (None: not known) with its kind."""
    meta = facts.meta("systems", name)
    own = facts.aliases().get(name)
    chip, unit = str(meta.get("chip", "")), facts.get(f"systems.{name}.chips_per_unit")
    if not chip or unit is None:
        return {"aliases": list(own.aliases) if own else []}
    memory, bandwidth = (facts.get(f"chips.{chip}.memory.{what}") for what in ("hbm_capacity", "hbm_bandwidth"))
    asked = price(facts, name, term="rent")
    quoted = quote(asked.label)
    return {
        "aliases": list(own.aliases) if own else [],
        "instances": [f"{one.name} ({one.chips or '?'})" for one in facts.instances().values() if one.system == name],
        "chips_per_unit": unit.value,
        "hbm_capacity_B": None if memory is None else memory.value,
        "hbm_capacity": None if memory is None else memory.shown,
        "hbm_Bps": None if bandwidth is None else bandwidth.value,
        "price": asked.rate.value,
        "price_term": quoted.short if quoted else None,
        "price_grade": asked.rate.grade if quoted else None,
    }


def fabric_levels(facts: Facts, path: str) -> list[dict[str, object]]:
    """A system level by level, with hops and cuts, of one scale-up unit; nothing for what is not a machine that can be
    simulated. path: "systems.trn3-gen2"."""
    kind, _, name = path.partition(".")
    if kind != "systems" or facts.get(f"{path}.chips_per_unit") is None or "chip" not in facts.meta(kind, name):
        return []
    return [asdict(level) for level in describe(resolve(facts, name))]
