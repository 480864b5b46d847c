"""A machine with some of its numbers replaced, by the names that `System.paths` has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

from mowich.arrays import Floats
from mowich.facts import Fact, Facts
from mowich.machines.system import PASS_FIELDS, Level, System
from mowich.software.stack import Efficiency, Platform, Stack

S = TypeVar("S", bound=System)

MovedNumbers = Mapping[str, Floats | float]
"""Name of a number ("efficiency.product_16", "domain.latency") -> its value, SI, or a column of values [k, 1]."""

FABRIC = {"base": "base_s", "large_message": "large_B", **PASS_FIELDS}
"""Name of a number of the fabric -> its field, where the two differ."""

DECIDING = frozenset(
    (
        *(f"efficiency.{f.name}" for f in fields(Efficiency) if f.metadata.get("branches")),
        *(f"stack.{f.name}" for f in fields(Stack) if f.metadata.get("branches")),
        *(f"fabric.{name}" for name in ("tree_domain", "switch_reduce_from", "library")),
    )
)
"""Numbers that choose a formula, so no slope follows from them."""

_OF_MEMORY = frozenset(
    (
        "efficiency.runtime_reserve",
        *(
            f"stack.{name}"
            for name in (
                "optimizer_memory_B",
                "logit_B",
                "unfused_gate",
                "communicator_B",
                "workspace_B",
                "graph_pool_B",
                "fragmentation",
                "offloaded_layers",
                "memory_spread",
            )
        ),
    )
)
"""Numbers of a plan's memory; no time depends on them."""

SHARED_FACT = ".common."
"""Part of the path of a fact that every machine reads: a measurement on one machine does not move it."""


def with_numbers(system: S, values: MovedNumbers) -> S:
    """The system with numbers replaced: {"efficiency.product_16": 0.7, "domain.latency": 1e-6}. A bandwidth is
    that of the chip, as facts have it."""
    parts: dict[str, dict[str, Floats | float]] = {}
    for name, value in values.items():
        head, _, rest = name.rpartition(".")
        parts.setdefault(head, {})[rest] = value
    changes: dict[str, object] = {}
    if "fabric" in parts:
        made = {FABRIC.get(name, name): value for name, value in parts.pop("fabric").items()}
        changes["fabric"] = replace(system.fabric, **made)  # type: ignore[arg-type]
    if isinstance(system, Platform):
        if "efficiency" in parts:
            changes["efficiency"] = replace(system.efficiency, **parts.pop("efficiency"))  # type: ignore[arg-type]
        if "stack" in parts:
            changes["stack"] = replace(system.stack, **parts.pop("stack"))  # type: ignore[arg-type]
    own = parts.pop("", {})
    if "hbm_Bps" in own:
        changes["hbm_Bps"] = own.pop("hbm_Bps") / system.devices_per_chip
    levels: list[Level] = []
    for level in system.levels:
        given = parts.pop(level.name, {})
        fresh: dict[str, Floats | float] = {}
        if level.joins_fabrics and levels and levels[-1] is not (inside := system.levels[len(levels) - 1]):
            # a link between fabrics gets a share of a device's bandwidth inside its own
            fresh["bandwidth_Bps"] = level.bandwidth_Bps * levels[-1].bandwidth_Bps / inside.bandwidth_Bps
        if "bandwidth" in given:
            fresh["bandwidth_Bps"] = given.pop("bandwidth") / system.devices_per_chip
        if "latency" in given:
            fresh["latency_s"] = given.pop("latency")
        if given:
            parts[level.name] = given
        levels.append(replace(level, **fresh) if fresh else level)  # type: ignore[arg-type]
    if any(a is not b for a, b in zip(levels, system.levels, strict=True)):
        changes["levels"] = tuple(levels)
    unknown = [*own, *parts]
    if unknown:
        raise KeyError(f"no number of a system: {unknown[0]}")
    return replace(system, **changes)  # type: ignore[arg-type]


def uncertain(system: System, facts: Facts) -> dict[str, str]:
    """Name -> path of the numbers of a system that have a range and that only this machine, its family or its software
    reads."""
    levels = tuple(f"{level.name}." for level in system.levels if not level.joins_fabrics)  # all share this one
    out = {}
    for name, path in system.paths.items():
        if name in DECIDING or name in _OF_MEMORY or SHARED_FACT in path:
            continue
        is_rate = name.startswith(("efficiency.", "stack.", "fabric.", *levels)) or name == "hbm_Bps"
        if is_rate and has_range(facts.fact(path)):
            out[name] = path
    return out


def has_range(fact: Fact) -> bool:
    """Whether a fact is a number above 0 with a range, whose logarithm can be moved."""
    return isinstance(fact.value, float) and bool(fact.low and fact.high and 0.0 < fact.low < fact.high)
