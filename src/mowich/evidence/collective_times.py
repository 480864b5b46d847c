"""The time of a collective on a machine, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Estimate, from_spreads, worst_grade
from mowich.facts import Facts
from mowich.machines import collectives, flows
from mowich.machines.system import DEVICE_LAYER, System, library_facts, logical_cores, on_layer, resolve
from mowich.machines.topology import alone, on_network, per_chip
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveMachine:
    """What a collective runs on. chips: of the machine; network: "" for its own; layer: software that calls it
    (`system.call_layers`); lnc: physical cores of a rank, 0: whole chips are ranks."""

    on: str
    chips: int
    network: str = ""
    oversubscription: float = 1.0
    layer: str = DEVICE_LAYER
    lnc: int = 0

    def system(self, facts: Facts) -> System:
        """The machine with its ranks as devices and one group at work. Raises UserError for a layer or a number of
        cores that it lacks."""
        found = resolve(facts, self.on, chips=self.chips)
        found = logical_cores(facts, found, self.lnc) if self.lnc else found
        if self.network or self.oversubscription != 1.0:
            found = on_network(facts, found, self.network, oversubscription=self.oversubscription)
        found = on_layer(facts, found, self.layer)
        return alone(found if self.lnc else per_chip(found))


_RATES = (".bandwidth", "_bandwidth", ".rate_share")
_TIMES = (".latency", "fabric.base", ".call", ".host_call")
"""Last words of numbers of a system that are rates of its links and cores, and times of steps and calls."""


def _ends(system: System, ranks: int) -> list[tuple[str, list[str]]]:
    """Groups of facts with a range that move the time of a collective over `ranks` devices: (name, paths), each group
    moved together. Levels that the group does not use are left out."""
    used = {level.name for level in system.levels if not level.joins_fabrics}
    if ranks > system.levels[system.fabric_level].devices:
        used |= {level.name for level in system.levels}
    own = {k: p for k, p in system.paths.items() if k.split(".")[0] in used | {"fabric", "layer"}}
    return [
        (name, [p for k, p in own.items() if k.endswith(ends)])
        for name, ends in (("bandwidth", _RATES), ("latency", _TIMES))
    ]


def _moved(facts: Facts, paths: Sequence[str], worse: bool, bandwidth: bool) -> Facts:
    """Facts with a group at its slow or fast end; facts without a range stay."""
    values: dict[str, float] = {}
    for path in dict.fromkeys(paths):
        fact = facts.fact(path)
        end = fact.low if worse == bandwidth else fact.high
        if end is not None:
            values[path] = end
    return facts.with_values(values) if values else facts


def times(
    system: System, kind: str, data_B: Floats, ranks: int, slowdown: float
) -> tuple[Floats, list[str], list[str]]:
    """(seconds [sizes], algorithm of each size, what binds it). slowdown: of the bytes' term."""
    got = collectives.choose(system, kind, data_B, np.full(len(data_B), float(ranks)), np.ones(len(data_B)))
    extra = flows.bytes_term(system, kind, data_B, ranks) * (slowdown - 1.0) if slowdown > 1.0 else 0.0
    return got.time_s + extra, got.algorithm, got.binds


_TELLS = 0.05
"""A group of facts counts for the grade of a time that it moves by more than this share, either way."""


def timed(
    facts: Facts, runs_on: CollectiveMachine, kind: str, sizes: Sequence[int], ranks: int, slowdown: float = 1.0
) -> tuple[list[Estimate], list[str], list[str]]:
    """(time of each size with its interval, algorithm, what binds). slowdown: of the bytes' term."""
    system, data_B = runs_on.system(facts), np.array([float(b) for b in sizes])
    time_s, names, binds = times(system, kind, data_B, ranks, slowdown)
    residual = np.full(len(sizes), facts.number(f"{library_facts(facts, system.chip, system.family)}.residual"))
    downs, ups = [residual], [residual]
    grades = [["C" if system.fabric.library != "neuron" else "D"] for _ in sizes]  # of each size: it knows no other
    for name, paths in _ends(system, ranks):
        slow, fast = (
            times(runs_on.system(known), kind, data_B, ranks, slowdown)[0]
            for known in (_moved(facts, paths, worse, name == "bandwidth") for worse in (True, False))
        )
        ups.append(np.maximum(0.0, np.log(slow / time_s)))
        downs.append(np.maximum(0.0, np.log(time_s / fast)))
        of_facts = [facts.fact(p).grade or "A" for p in paths]
        for i in np.flatnonzero((downs[-1] > _TELLS) | (ups[-1] > _TELLS)):
            grades[i] += of_facts
    found = [
        from_spreads(
            float(time_s[i]),
            "s",
            [float(d[i]) for d in downs],
            [float(u[i]) for u in ups],
            grade=worst_grade(grades[i]),
            coverage={"analytic": 1.0},
            breakdown=_parts(system, kind, size, ranks, float(time_s[i])),
        )
        for i, size in enumerate(sizes)
    ]
    return found, names, binds


def _parts(system: System, kind: str, data_B: float, n: int, time_s: float) -> dict[str, float]:
    """Seconds of a collective by level, latency, and the additions of failed or shared links; they sum to its time."""
    whole = {k: v for k, v in collectives.by_level(system, kind, float(data_B), n).items() if v}
    added = time_s - float_sum(whole.values())
    return whole if added <= 1e-9 * time_s else {**whole, "slowed links": added}
