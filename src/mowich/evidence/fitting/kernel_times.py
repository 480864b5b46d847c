"""Kernels on a NeuronCore: how the clock's constants move the time that a profile measured.

The simulated profile of the same kernel says which fact makes which part of its critical path. Parts follow their facts
with the path held fixed (`neuroncore.profile.part_at`), so the fit is good near today's values: profile again with the
overlay to see the path that it leads to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mowich.arrays import Floats
from mowich.errors import placed
from mowich.evidence.fitting.moved import has_range
from mowich.evidence.fitting.points import ConstantValues, MeasuredPoint, numerical_slopes
from mowich.facts import Facts
from mowich.neuroncore.explorer import path_parts_s, total_time_s
from mowich.neuroncore.profile import part_at
from mowich.neuroncore.targets import generation_of

FAR = 5.0
"""Factor between the measured and the simulated time from which the two count as different kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCase:
    """A measured kernel. root: path of the constants of its generation; parts: seconds of the simulated critical path
    by the fact that makes them; kernel: its name, for people."""

    kernel: str
    target: str
    root: str
    parts: Mapping[str, float]
    time_s: float


def read_kernel(cells: Mapping[str, str], where: str) -> KernelCase | str:
    """A profile as a case, or why it is refused. Raises UserError for an unknown target, and for a folder without a
    profile."""
    target, folder = cells["system"].split(":")[0], Path(cells["simulated"])
    with placed(where):
        generation = generation_of(target)
    simulated_s, time_s = total_time_s(folder), float(cells["time_s"])
    if not 1.0 / FAR <= time_s / simulated_s <= FAR:
        return (
            f"total_time {time_s:.4g} s, and the simulated profile {folder.name} takes {simulated_s:.4g} s: another"
            " kernel, or other shapes"
        )
    return KernelCase(
        kernel=Path(where).name,
        target=target,
        root=f"neuroncore.timing-v{generation}",
        parts=path_parts_s(folder),
        time_s=time_s,
    )


class KernelPredictor:
    """Measured kernels, each a sum of the parts of its simulated path."""

    def __init__(self, cases: Sequence[tuple[str, KernelCase]], facts: Facts) -> None:
        """cases: (place, case)."""
        self.cases = [case for _, case in cases]
        self.points = [_point(where, case) for where, case in cases]
        self.today: dict[str, float] = {}
        for case in self.cases:
            for name in case.parts:
                path = f"{case.root}.{name}"
                fact = facts.get(path)
                if fact is not None and has_range(fact):
                    self.today[path] = facts.number(path)
        self.paths = tuple(sorted(self.today))

    def errors(self, values: ConstantValues) -> Floats:
        out = []
        for case in self.cases:
            total = 0.0
            for name, seconds in case.parts.items():
                path = f"{case.root}.{name}"
                ratio = values[path] / self.today[path] if path in self.today else 1.0
                total += part_at(name, seconds, ratio)
            out.append(math.log(total / case.time_s))
        return np.array(out)

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]:
        return numerical_slopes(self.errors, values, self.paths)


def _point(where: str, case: KernelCase) -> MeasuredPoint:
    what, metric = f"{case.kernel} on {case.target}", "total_time_s"
    return MeasuredPoint(
        where=where, kind="kernel", what=what, metric=metric, measured=case.time_s, machine=what, setting=what
    )
