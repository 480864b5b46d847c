"""The uncertainty of a plan's memory: the 90% range of the need of its fullest device, and the chance that it runs out.

The range has two causes: the spread of measured memory about the law (`training.common.memory_spread`), which applies
to bytes that come and go in a step, and the ranges of driver, collectives, libraries, captured graphs and the
allocator. The search takes a plan that fits at the middle of its range, and states the chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.plans.memory import groups_of_ranks
from mowich.plans.plan import Plan, Plans
from mowich.shown import Keyed
from mowich.software.stack import Platform
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed(Keyed):
    """The need of the fullest device of a plan. need: bytes, with the 90% range, by category; out_of_memory: the chance
    that the need exceeds the usable memory."""

    KEYS = "memory_range_B=range_B out_of_memory"

    need: Estimate
    out_of_memory: float

    @property
    def range_B(self) -> dict[str, float]:
        """The ends of the range, "low" and "high"."""
        return {"low": self.need.low or 0.0, "high": self.need.high or math.inf}


def memory_need(facts: Facts, system: Platform, plan: Plan, parts: Mapping[str, float]) -> MemoryNeed:
    """The range of a plan's memory and the chance of running out of it. parts: bytes by category, from `memory_B`.

    >>> from mowich.facts import load_facts
    >>> from mowich.software.stack import equip
    >>> facts = load_facts()
    >>> h100 = equip(facts, "h100", chips=8)
    >>> half = memory_need(facts, h100, Plan(dp=8), {"weights": h100.hbm_usable_B / 2})
    >>> half.out_of_memory < 0.01
    True
    """
    downs, ups = [_spread_B(system, parts, -1.0)], [_spread_B(system, parts, 1.0)]
    for field, times in _times(system, plan, parts):
        if field not in system.paths:  # a recipe states it
            continue
        fact = facts.fact(system.paths[field])
        value = facts.number(fact.path)
        downs.append(0.0 if fact.low is None else (value - fact.low) * times)
        ups.append(0.0 if fact.high is None else (fact.high - value) * times)
    need = _need(parts, math.hypot(*downs), math.hypot(*ups))
    return MemoryNeed(need=need, out_of_memory=chance_of_more(need, usable_B(facts, system)))


def _need(parts: Mapping[str, float], down: float, up: float) -> Estimate:
    """The bytes of a plan as an estimate, with the distances to the ends of its range."""
    total = float_sum(parts.values())
    return Estimate(
        value=total,
        unit="B",
        low=max(0.0, total - down),
        high=total + up,
        grade="D",
        coverage={"analytic": 1.0},
        breakdown=parts,
    )


def chance_to_fit(system: Platform, parts: Mapping[str, float]) -> float:
    """The chance that a plan of these bytes fits the usable memory, by the spread of measured memory alone.

    >>> from mowich.facts import load_facts
    >>> from mowich.software.stack import equip
    >>> h100 = equip(load_facts(), "h100", chips=8)
    >>> chance_to_fit(h100, {"activations": h100.hbm_usable_B})
    0.5
    """
    usable, need = system.hbm_usable_B, _need(parts, _spread_B(system, parts, -1.0), _spread_B(system, parts, 1.0))
    return 1.0 - chance_of_more(need, (usable, usable, usable))


def _moving(parts: Mapping[str, float]) -> float:
    """Bytes that come and go in a step."""
    return parts.get("activations", 0.0) + parts.get("temporary", 0.0)


def _spread_B(system: Platform, parts: Mapping[str, float], side: float) -> float:
    """Bytes from a plan's memory to an end of its range (side -1 or 1) by the spread of measured memory, which moves
    only bytes that come and go in a step: the plan fixes weights, gradients and states."""
    return abs(_moving(parts) * math.expm1(side * system.stack.memory_spread))


def _times(system: Platform, plan: Plan, parts: Mapping[str, float]) -> Iterable[tuple[str, float]]:
    """Field of the platform -> bytes of the reserve per unit of the field, as in `memory.reserve_B`."""
    return (
        ("efficiency.runtime_reserve", 1.0),
        ("stack.workspace_B", 1.0),
        ("stack.graph_pool_B", 1.0),
        ("stack.communicator_B", float(groups_of_ranks(Plans.of([plan]))[0])),
        ("stack.fragmentation", _moving(parts)),
    )


def allocated(facts: Facts, system: Platform, plan: Plan, parts: Mapping[str, float]) -> Estimate:
    """Bytes of a plan's memory in the program's own allocator, with their range: all except those of driver and
    collectives."""
    times = dict(_times(system, plan, parts))
    outside = system.efficiency.runtime_reserve + system.stack.communicator_B * times["stack.communicator_B"]
    need = memory_need(facts, system, plan, parts).need
    return Estimate(
        value=float(need) - outside,
        unit="B",
        low=max(0.0, (need.low or 0.0) - outside),
        high=(need.high or 0.0) - outside,
        grade=need.grade,
        coverage=need.coverage,
    )


def usable_B(facts: Facts, system: System) -> tuple[float, float, float]:
    """Bytes of a device's memory that a program may use: low end, value, high end."""
    fact = facts.fact(system.paths["hbm_usable_B"])
    value = facts.number(fact.path)
    ends = (value if end is None else end for end in (fact.low, value, fact.high))
    low, middle, high = (end / system.devices_per_chip for end in ends)
    return low, middle, high


def chance_of_more(need: Estimate, usable: tuple[float, float, float]) -> float:
    """The chance that the need exceeds the usable memory (low end, value, high end), each normal on either side of its
    value, with these 90% ranges.

    >>> need = Estimate(value=8e9, unit="B", low=7e9, high=10e9, grade="D")
    >>> [round(chance_of_more(need, (x, x, x)), 3) for x in (7e9, 8e9, 10e9)]
    [0.95, 0.5, 0.05]
    """
    low, middle, high = usable
    above = middle - float(need)
    towards = (need.high or 0.0) - float(need) if above >= 0 else float(need) - (need.low or 0.0)
    width = math.hypot(towards, (high - low) / 2.0)
    if width <= 0.0:
        return 0.0 if above >= 0 else 1.0
    from statistics import NormalDist  # not above: it takes 5 ms, and serving asks for no chance

    to_end = NormalDist().inv_cdf(0.95)  # standard deviations from the middle of a 90% range to its ends
    return round(NormalDist().cdf(-above / width * to_end), 6)
