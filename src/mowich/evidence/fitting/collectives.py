"""Collectives: the checks of a benchmark's line, and how constants of links and libraries move its time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError, unknown
from mowich.evidence.fitting.moved import uncertain, with_numbers
from mowich.evidence.fitting.points import DELTA, ConstantValues, MeasuredPoint
from mowich.facts import Facts
from mowich.facts.load import once_for
from mowich.machines.collectives import COLLECTIVE_KINDS, bus_factor, choose
from mowich.machines.system import System, parse_spec, resolve
from mowich.machines.topology import on_network, per_chip

ROUNDED_GBps = 0.006
"""Bandwidths are printed with two decimals, GB/s."""
_AGREE = 0.03
"""How far bytes over time may lie from the printed bandwidth."""
ABOVE_LINK = 2.5
"""Times the published link that a bus bandwidth may read: a switch that adds in the network doubles what ranks see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveCase:
    """A measured time among neighbouring devices. system: its devices are chips where whole chips take part; data_B:
    the full buffer (of an all-to-all, the bytes that each device sends)."""

    system: System
    network: str
    kind: str
    ranks: int
    data_B: float
    time_s: float


def read_collective(cells: Mapping[str, str], facts: Facts) -> CollectiveCase | str:
    """One line as a case, or why it is refused. Raises UserError for a system or a network that is not known."""
    kind, network, spec = cells["kind"].replace("_", "-"), cells.get("network", ""), cells["system"]
    if kind not in COLLECTIVE_KINDS:
        return unknown("collective", kind, COLLECTIVE_KINDS).line()
    whole = not cells.get("ranks")
    ranks, data_B = round(float(cells["group" if whole else "ranks"])), float(cells["bytes"])
    time_s = float(cells["time_us"]) * 1e-6
    if ranks < 2:
        return f"{ranks} rank: nothing is exchanged"
    if not (data_B > 0.0 and time_s > 0.0):
        return f"{data_B:g} B in {time_s * 1e6:g} us: nothing was measured"
    if float(cells.get("wrong") or 0) > 0:
        return f"{cells['wrong']} results are wrong"
    system = _system(facts, spec, ranks, network, whole=whole)
    said = _contradiction(cells, kind, ranks, data_B, time_s, system)
    return said or CollectiveCase(system=system, network=network, kind=kind, ranks=ranks, data_B=data_B, time_s=time_s)


@once_for(256)
def _system(facts: Facts, spec: str, ranks: int, network: str, *, whole: bool) -> System:
    name, _, size = parse_spec(spec)
    one = resolve(facts, name, chips=1)
    chips = ranks if whole else -(-ranks // one.devices_per_chip)
    system = resolve(facts, spec) if size is not None else resolve(facts, name, chips=chips)
    if (system.chips if whole else system.devices) < ranks:
        raise UserError(f"{ranks} ranks need {chips} chips", field="on", given=spec, allowed=f"{name}:{chips} or more")
    system = on_network(facts, system, network) if network else system
    return per_chip(system) if whole else system


def _contradiction(
    cells: Mapping[str, str], kind: str, ranks: int, data_B: float, time_s: float, system: System
) -> str:
    """Why a line contradicts itself, or the links."""

    def unlike(printed: float, made: float) -> bool:
        return abs(printed - made) > _AGREE * made + ROUNDED_GBps

    rate = data_B / time_s / 1e9
    algorithm, bus = cells.get("algbw_GBps"), cells.get("busbw_GBps")
    if algorithm and unlike(float(algorithm), rate):
        return f"algbw {algorithm} GB/s is not {data_B:g} B / {time_s * 1e6:g} us = {rate:.4g} GB/s: wrong units"
    made = rate * bus_factor(kind, ranks)
    if bus and unlike(float(bus), made):
        return (
            f"busbw {bus} GB/s is not that of {kind} among {ranks} ranks, {made:.4g} GB/s: another collective, or other"
            " ranks"
        )
    link = max(level.bandwidth_Bps for level in system.levels) / 1e9
    if made > ABOVE_LINK * link:
        return (
            f"busbw {made:.4g} GB/s is {made / link:.1f} times the fastest link of {system.id}: wrong units or system"
        )
    return ""


class CollectivePredictor:
    """Measured collectives; those of one machine, kind and group are columns."""

    def __init__(self, cases: Sequence[tuple[str, CollectiveCase]], facts: Facts) -> None:
        """cases: (place, case)."""
        self.points = [_point(where, case) for where, case in cases]
        self.time = np.log([case.time_s for _, case in cases])
        groups: dict[tuple[int, str, int], list[int]] = {}
        for i, (_, case) in enumerate(cases):
            groups.setdefault((id(case.system), case.kind, case.ranks), []).append(i)
        self.groups = [
            (cases[rows[0]][1], np.array(rows), np.array([cases[i][1].data_B for i in rows]))
            for rows in groups.values()
        ]
        self.reads = [uncertain(case.system, facts) for case, _, _ in self.groups]
        self.paths = tuple(dict.fromkeys(path for reads in self.reads for path in reads.values()))

    def _errors_of(self, g: int, values: ConstantValues) -> Floats:
        case, rows, data_B = self.groups[g]
        system = with_numbers(case.system, {n: values[p] for n, p in self.reads[g].items()})
        time_s = choose(system, case.kind, data_B, np.full(len(rows), float(case.ranks)), np.ones(len(rows))).time_s
        return np.asarray(np.log(time_s) - self.time[rows])

    def errors(self, values: ConstantValues) -> Floats:
        out = np.zeros(len(self.points))
        for g, (_, rows, _) in enumerate(self.groups):
            out[rows] = self._errors_of(g, values)
        return out

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]:
        r, J = self.errors(values), np.zeros((len(self.points), len(self.paths)))
        for g, (_, rows, _) in enumerate(self.groups):
            for path in set(self.reads[g].values()):
                moved = {**values, path: values[path] * math.exp(DELTA)}
                J[rows, self.paths.index(path)] = (self._errors_of(g, moved) - r[rows]) / DELTA
        return r, J


def _point(where: str, case: CollectiveCase) -> MeasuredPoint:
    machine = f"{case.kind} of {case.ranks} ranks on {case.system.id}" + (
        f" over {case.network}" if case.network else ""
    )
    return MeasuredPoint(
        where=where,
        kind="collective",
        what=f"{machine}, {case.data_B:g} B",
        metric="time_us",
        measured=case.time_s * 1e6,
        machine=machine,
        setting=f"{machine}, {case.data_B:g} B",
    )
