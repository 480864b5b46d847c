"""Machines between two machines: one with some properties of the other.

A property is exchanged as a whole, and per chip: a machine with the memory of another has as many bytes a chip as that
one. What is left when all named properties are exchanged is the rest: how a chip is divided into devices, the links
between those, the host, and how many chips there are.
"""

from __future__ import annotations

from dataclasses import replace

from mowich.machines.system import Fabric, Level
from mowich.software.stack import Platform

PROPERTIES = ("compute", "bandwidth", "capacity", "scale-up", "scale-out", "software")
"""What is exchanged by name. compute: matrix rates, and the formats that training could run in; bandwidth and
capacity: of the HBM; scale-up: links inside a unit, and its size; scale-out: the network beyond it; software: what
kernels and the collective library reach of published rates, what stack or engine add, and the formats that they
ship."""

REST = "rest"

_NETWORK = ("network_efficiency", "large_network_latency", "network_channels")
"""Fields of a fabric that are of the network beyond a unit. The others are of the collective library."""


class Hybrids:
    """Machines that have some properties of `b` and the others of `a`. Parts that are made anew are kept, so that
    machines with the same links share them."""

    def __init__(self, a: Platform, b: Platform) -> None:
        self.a, self.b = a, b
        self._levels: dict[tuple[bool, bool, bool], tuple[Level, ...]] = {}
        self._fabrics: dict[tuple[bool, bool], Fabric] = {}

    def with_taken(self, taken: frozenset[str]) -> Platform:
        """The machine with the properties `taken` of b; all of `PROPERTIES` and `REST`: b itself."""

        def of(name: str) -> Platform:
            return self.b if name in taken else self.a

        rest, compute, software = of(REST), of("compute"), of("software")
        devices = rest.devices_per_chip

        def per_device(value: float, owner: Platform) -> float:
            return value * (owner.devices_per_chip / devices)

        return replace(
            software,
            id=rest.id,
            display=rest.display,
            chips=rest.chips,
            devices_per_chip=devices,
            chips_per_unit=of("scale-up").chips_per_unit,
            max_chips=max(of("scale-out").max_chips, rest.chips),
            peak_flops={name: per_device(rate, compute) for name, rate in compute.peak_flops.items()},
            hbm_Bps=per_device(of("bandwidth").hbm_Bps, of("bandwidth")),
            hbm_usable_B=per_device(of("capacity").hbm_usable_B, of("capacity")),
            levels=self._levels_of(taken),
            fabric=self._fabric_of(taken),
            is_estimated=rest.is_estimated,
            host_Bps=rest.host_Bps,
            host_B=rest.host_B,
            lnc=rest.lnc,
            chips_per_server=rest.chips_per_server,
            power_share=compute.power_share,
            paths=rest.paths,
            precisions=compute.precisions,
        )

    def differing(self) -> tuple[str, ...]:
        """The named properties in which the two differ."""
        return tuple(name for name in PROPERTIES if self.with_taken(frozenset({name})) != self.a)

    def _levels_of(self, taken: frozenset[str]) -> tuple[Level, ...]:
        """Links inside a chip are of the rest, the network of scale-out, what lies between of scale-up."""
        key = (REST in taken, "scale-up" in taken, "scale-out" in taken)
        if key not in self._levels:
            rest, up, out = (self.b if is_taken else self.a for is_taken in key)
            parts = (
                (rest, [x for x in rest.levels if is_inside_chip(rest, x)]),
                (up, [x for x in up.levels if not x.is_network and not is_inside_chip(up, x)]),
                (out, [x for x in out.levels if x.is_network]),
            )
            self._levels[key] = tuple(
                _rescaled(level, owner.devices_per_chip / rest.devices_per_chip)
                for owner, levels in parts
                for level in levels
            )
        return self._levels[key]

    def _fabric_of(self, taken: frozenset[str]) -> Fabric:
        key = ("software" in taken, "scale-out" in taken)
        if key not in self._fabrics:
            library, network = (self.b.fabric if is_taken else self.a.fabric for is_taken in key)
            own = {name: getattr(network, name) for name in _NETWORK}
            self._fabrics[key] = library if library is network else replace(library, **own)
        return self._fabrics[key]


def is_inside_chip(system: Platform, level: Level) -> bool:
    """Whether a level joins the devices of one chip."""
    return not level.is_network and level.devices <= system.devices_per_chip


def _rescaled(level: Level, share: float) -> Level:
    """A level of a chip with `share` times as many devices, as one of a chip with 1."""
    if share == 1.0:
        return level
    return replace(level, devices=round(level.devices / share), bandwidth_Bps=level.bandwidth_Bps * share)


def property_of(field: str) -> str:
    """The property that a field of `Platform.paths` belongs to."""
    head, _, of = field.partition(".")
    if head == "peak_flops":
        return "compute"
    if field in ("hbm_Bps", "hbm_usable_B"):
        return "bandwidth" if field == "hbm_Bps" else "capacity"
    if (head == "fabric" and of not in _NETWORK) or head in ("efficiency", "stack"):
        return "software"
    if head in ("scale_out", "fabric") or field == "max_chips":
        return "scale-out"
    if (of in ("bandwidth", "latency") and head != "chip") or field == "chips_per_unit":
        return "scale-up"
    return REST
