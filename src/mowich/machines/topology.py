"""Machines in a reader's terms: whole chips as ranks, a named data-centre network, levels with hops and cuts.

`system.resolve` makes the machine of the cost models, with every logical device a rank. This module shows the same
facts from outside: `per_chip` joins the devices of a chip into one rank, `on_network` replaces the scale-out level,
`describe` describes a fabric level by level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.machines.system import Level, System


def per_chip(system: System) -> System:
    """The same machine with one rank per chip: it has no levels inside a chip, and a rank has the bandwidth of all its
    devices.

    Used for published collectives (one rank per GPU or chip); the cost models divide a chip among its devices instead.
    """
    per = system.devices_per_chip
    if per == 1:
        return system
    levels = tuple(
        replace(level, devices=level.devices // per, bandwidth_Bps=level.bandwidth_Bps * per)
        for level in system.levels
        if level.devices > per
    )
    layer = system.layer
    if layer is not None:  # its ranks are devices
        layer = replace(layer, few_ranks=layer.few_ranks / per, host_ranks=layer.host_ranks / per)
    return replace(
        system,
        levels=levels,
        layer=layer,
        devices_per_chip=1,
        lnc=system.lnc * per,
        hbm_Bps=system.hbm_Bps * per,
        hbm_usable_B=system.hbm_usable_B * per,
        peak_flops={name: flops * per for name, flops in system.peak_flops.items()},
    )


def alone(system: System) -> System:
    """The machine with one group of chips at work and the others idle, whose links and switches the group may use. In a
    step of training or serving every chip works in some group, and no link is idle.

    >>> from mowich.facts import load_facts
    >>> from mowich.machines.system import resolve
    >>> any(level.has_idle_links for level in alone(resolve(load_facts(), "trn2")).levels)
    True
    """
    levels = tuple(replace(level, has_idle_links=not level.is_network) for level in system.levels)
    return replace(system, levels=levels)


def networks(facts: Facts) -> tuple[str, ...]:
    """Names of the data-centre networks with facts of their own."""
    return facts.children("networks.collectives.scale_out")


def on_network(facts: Facts, system: System, name: str, *, oversubscription: float = 1.0) -> System:
    """The system with its scale-out level on another network: latency per step, reached share, and bandwidth where the
    network states one. The level that joins fabrics keeps its share of that bandwidth.

    name: one of `networks`, or "" for the system's own. oversubscription: bandwidth below a leaf switch over that above
    it; a rail-optimised fat tree has 1.
    """
    if not 1.0 <= oversubscription < math.inf:
        raise UserError("oversubscription is at least 1", field="oversubscription", given=oversubscription)
    known = networks(facts)
    if name and name not in known:
        raise unknown("network", name, known, field="network")
    at = f"networks.collectives.scale_out.{name}"
    own = system.levels[system.fabric_level]
    stated = bool(name and facts.get(f"{at}.bandwidth"))
    Bps = facts.number(f"{at}.bandwidth") / system.devices_per_chip if stated else own.bandwidth_Bps
    step_s = facts.number(f"{at}.step") if name else own.latency_s
    levels = []
    for level in system.levels:
        if level.joins_fabrics:
            share = level.bandwidth_Bps / own.bandwidth_Bps
            level = replace(level, bandwidth_Bps=min(share * Bps, Bps / oversubscription))
        elif level.is_network:
            level = replace(level, latency_s=step_s, bandwidth_Bps=Bps / oversubscription)
        levels.append(level)
    fabric = replace(system.fabric, network_efficiency=facts.number(f"{at}.efficiency")) if name else system.fabric
    return replace(system, levels=tuple(levels), fabric=fabric)


def joined_note(facts: Facts, name: str, system: System) -> list[str]:
    """One sentence for a system with more chips than its vendor's fabric joins: the number of fabrics, and a chip's
    bandwidth between them. name: as the reader wrote it."""
    fabric = system.levels[system.fabric_level]
    if not system.levels[-1].joins_fabrics or system.devices <= fabric.devices:
        return []
    each = fabric.devices // system.devices_per_chip
    share = facts.fact(system.paths["joined.bandwidth"])
    low, value, high = (f"{100 * float(x or 0.0):.3g}%" for x in (share.low, share.value, share.high))
    return [
        f"{name}: {system.chips:,} chips are {-(-system.chips // each)} fabrics of {each:,}, joined by a data-centre"
        f" network of which a chip has {value} ({low} to {high}) of its own link: an estimate, {share.path}"
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRow:
    """One level as a reader sees it, in chips. joins: chips in one domain; of: domains in the machine; Bps: per chip,
    one way; hops: links between the two chips that are furthest apart inside the domain, this level's own; cut_Bps: one
    way through the middle of the domain; latency_s per step."""

    name: str
    kind: str
    joins: int
    of: int
    Bps: float
    hops: int
    cut_Bps: float
    latency_s: float
    note: str


def _hops(level: Level, r: float) -> int:
    """Links between the two furthest members of a level, each member counted as one node: a switch is two links, a
    torus half way round each axis."""
    if level.is_network:  # leaf, spine and core of a three-tier fat tree, up and down; then the link of two
        return 8 if level.joins_fabrics else 6
    if level.axes:
        side = float(r ** (1.0 / level.axes))
        return round(level.axes * (side // 2 if side > level.wrap_from - 1e-6 else side - 1))
    return 2 if level.kind == "switch" else 1


def _cut(level: Level, joins: int, r: float) -> float:
    """Bandwidth, one way, through the worst even cut of a domain of `joins` chips: half of its chips send across with
    their bandwidth at this level.

    On a torus the cut crosses the longest axis: 2 (1 where it does not close) x nodes / side links of Bps / (2 axes)
    each.
    """
    if level.axes:
        nodes = max(1.0, r)
        side = float(nodes ** (1.0 / level.axes))
        wires = 2.0 if side > level.wrap_from - 1e-6 else 1.0
        inner = joins / nodes  # chips behind each node: a ring of servers joins every position of them
        return wires * nodes / side * inner * level.bandwidth_Bps / (2.0 * level.axes)
    return joins / 2.0 * level.bandwidth_Bps


def describe(system: System) -> list[LevelRow]:
    """The levels of a machine outside the chip, innermost first, in chips, for the number of chips that the system
    has."""
    chips = per_chip(system)
    rows = []
    below = 1
    for level in chips.levels:
        joins = chips.chips if level is chips.levels[-1] else min(level.devices, chips.chips)
        if joins <= below:
            continue
        r = joins / below
        notes = []
        if level.via_inner:
            notes.append("joins the same position of each domain below: other pairs cross the level inside too")
        if level.joins_fabrics:
            notes.append("joins fabrics: an estimate, no vendor publishes what a chip has of it")
        if level.reduces:
            notes.append("the switch adds")
        if level.axes:
            side = r ** (1 / level.axes)
            notes.append(
                f"{level.axes} axes of about {side:.3g},"
                f" {'closed to rings' if side > level.wrap_from - 1e-6 else 'open lines'}"
            )
        rows.append(
            LevelRow(
                name=level.name,
                kind=level.kind,
                joins=joins,
                of=math.ceil(chips.chips / joins),
                Bps=level.bandwidth_Bps,
                hops=_hops(level, r),
                cut_Bps=_cut(level, joins, r),
                latency_s=level.latency_s,
                note="; ".join(notes),
            )
        )
        below = joins
    return rows
