"""Power of a machine by part, and the chips that a site's power cap feeds.

Provisioned power of a busy chip, before the meter: chip (its TDP, published or estimated), network (scale-out ports),
server (host, fans, scale-up switches: the rest of the all-in figure), then cooling and losses by PUE. All-in figures
are provisioned; `energy.drawn_power` gives the drawn share (`mowich validate energy`). Values of the parts sum to the
total; idle is the total of an idle chip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mowich.economics.energy import PowerBasis, Site, drawn_power, of_fact, power_basis
from mowich.estimate import Estimate, product_of, unknown_estimate, worst_grade
from mowich.facts import Fact, Facts

POWER_PARTS = ("chip", "server", "network", "cooling")
"""Parts of the power of a busy chip at the meter, in print order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Watts per chip. parts: name of PARTS -> Estimate; total: at the meter, the sum of their values; it: before PUE
    (all-in); idle: of an idle chip, at the meter; drawn: mean draw of its working node (chip and server); drawn_system:
    the node and its network. Both before PUE. basis: whether they are metered."""

    parts: dict[str, Estimate]
    it: Estimate
    total: Estimate
    idle: Estimate
    drawn: Estimate
    drawn_system: Estimate
    basis: PowerBasis


def by_part(facts: Facts, system_id: str, site: Site) -> Power:
    """Power of a chip of a system by part: chip + server + network = all-in, cooling = (PUE - 1) all-in.

    network = scale-out bandwidth / port bandwidth x watts of a port. server = all-in - chip - network, not below 0
    (then network, then chip, are cut so that the sum stays). An unknown all-in power makes everything unknown, with its
    reason.
    """
    chip_id = str(facts.meta("systems", system_id)["chip"])
    root = f"chips.{chip_id}"
    it = of_fact(facts.fact(f"{root}.power.all_in"), "W")
    if it.value is None or site.pue.value is None:
        reason = it.reason or site.pue.reason or "unknown"
        none = unknown_estimate("W", reason)
        parts = dict.fromkeys(POWER_PARTS, none)
        basis = power_basis(facts, system_id)
        return Power(parts=parts, it=none, total=none, idle=none, drawn=none, drawn_system=none, basis=basis)
    tdp = tdp_of(facts, chip_id)
    low, high = it.low or it.value, it.high or it.value
    port = of_fact(facts.fact("sites.parts.network_port"), "W")
    bandwidth = facts.number(f"systems.{system_id}.levels.scale_out.bandwidth")
    port_bandwidth = facts.number("sites.parts.network_port_bandwidth")
    ports = bandwidth / port_bandwidth
    network = network_W(bandwidth, port_bandwidth, float(port), it.value)
    if tdp is None or tdp.value is None:
        chip = unknown_estimate("W", "neither published nor estimated")
        chip_W = chip_low = chip_high = 0.0
    else:
        stated = of_fact(tdp, "W")
        chip_W = package_W(float(stated), it.value, network)
        chip_low, chip_high = min(stated.low or chip_W, chip_W), max(stated.high or chip_W, chip_W)
        chip = Estimate(value=chip_W, unit="W", low=chip_low, high=chip_high, grade=stated.grade)
    server = max(0.0, it.value - network - chip_W)
    net = Estimate(
        value=network,
        unit="W",
        low=min(network, ports * (port.low or 0.0)),
        high=max(network, ports * (port.high or 0.0)),
        grade=port.grade,
    )
    rest = Estimate(
        value=server,
        unit="W",
        low=max(0.0, min(server, low - chip_high - (net.high or 0.0))),
        high=max(server, high - chip_low - (net.low or 0.0)),
        grade=worst_grade((it.grade, chip.grade, net.grade)),
    )
    total = product_of([(it, 1.0), (site.pue, 1.0)], "W")
    pue_low, pue_high = site.pue.low or site.pue.value, site.pue.high or site.pue.value
    cooling = Estimate(
        value=cooling_W(site.pue.value, it.value),
        unit="W",
        low=cooling_W(pue_low, low),
        high=cooling_W(pue_high, high),
        grade=worst_grade((it.grade, site.pue.grade)),
    )
    idle = product_of([(total, 1.0), (site.idle_share, 1.0)], "W")
    draw = drawn_power(facts, system_id)
    return Power(
        parts={"chip": chip, "server": rest, "network": net, "cooling": cooling},
        it=it,
        total=total,
        idle=idle,
        drawn=draw.power.scaled(node_drawn_W(1.0, it.value, network), "W"),
        drawn_system=draw.power,
        basis=draw.basis,
    )


def node_drawn_W(drawn_W: float, it_W: float, network_W: float) -> float:
    """Mean watts of a working chip's node: chip and server, without the network.

    T = drawn_W * (it_W - network_W) / it_W

    drawn_W: with the network; it_W: provisioned, with host and network.

    Units: drawn_W W, it_W W, network_W W.
    """
    return drawn_W * (it_W - network_W) / it_W


def tdp_of(facts: Facts, chip: str) -> Fact | None:
    """The power of a package: published, else measured, else estimated; None where there is none."""
    tdp = facts.get(f"chips.{chip}.power.tdp")
    if tdp is None or tdp.value is None:
        tdp = facts.get(f"chips.{chip}.power.measured_mean") or facts.get(f"chips.{chip}.power.tdp_estimate")
    return tdp


def network_W(bandwidth: float, port_bandwidth: float, port_W: float, it_W: float) -> float:
    """Watts of a chip's ports of the scale-out network, at most all of its power.

    T = min(bandwidth / port_bandwidth * port_W, it_W)

    Units: bandwidth B/s, port_bandwidth B/s, port_W W, it_W W.
    """
    return min(bandwidth / port_bandwidth * port_W, it_W)


def package_W(tdp: float, it_W: float, network_W: float) -> float:
    """Watts of the package, at most what the network leaves.

    T = min(tdp, it_W - network_W)

    Units: tdp W, it_W W, network_W W.
    """
    return min(tdp, it_W - network_W)


def cooling_W(pue: float, it_W: float) -> float:
    """Watts of cooling and losses of a chip's share of a building.

    T = (pue - 1) * it_W

    Units: it_W W.
    """
    return (pue - 1.0) * it_W


def fed_chips(cap_W: float, busy_W: float, idle_W: float, spares: float) -> float:
    """Chips that a cap feeds when a share of them is idle.

    T = floor(cap_W / (busy_W * (1 - spares) + idle_W * spares))

    Units: cap_W W, busy_W W, idle_W W.
    """
    return float(math.floor(cap_W / (busy_W * (1.0 - spares) + idle_W * spares)))


def chips_under(cap_W: float, power: Power, *, spares: float = 0.0) -> Estimate:
    """Chips that a site's power cap feeds, `spares` of them (a share) idle (`fed_chips`).

    >>> from mowich.estimate import exact
    >>> it, total, idle, drawn = (exact(x, "W") for x in (1000.0, 1200.0, 300.0, 600.0))
    >>> p = Power(parts={}, it=it, total=total, idle=idle, drawn=drawn, drawn_system=drawn, basis="assumed")
    >>> chips_under(1.2e6, p).value, chips_under(1.2e6, p, spares=0.5).value
    (1000.0, 1600.0)
    """
    if power.total.value is None or power.idle.value is None:
        return unknown_estimate("chips", power.total.reason or power.idle.reason or "power unknown")

    def count(busy: float, idle: float) -> float:
        return fed_chips(cap_W, busy, idle, spares)

    t, i = power.total, power.idle
    return Estimate(
        value=count(power.total.value, power.idle.value),
        unit="chips",
        low=count(t.high or power.total.value, i.high or power.idle.value),
        high=count(t.low or power.total.value, i.low or power.idle.value),
        grade=worst_grade((t.grade, i.grade if spares else "A")),
    )


def tokens_per_MW(tokens_per_s_per_chip: Estimate, power: Power) -> Estimate:
    """Tokens per second and megawatt at the meter.

    T = tokens_per_s_per_chip / power_W * 1e6

    power_W: of a busy chip at the meter.

    >>> from mowich.estimate import exact
    >>> it, total, idle, drawn = (exact(x, "W") for x in (1000.0, 1250.0, 0.0, 600.0))
    >>> p = Power(parts={}, it=it, total=total, idle=idle, drawn=drawn, drawn_system=drawn, basis="assumed")
    >>> tokens_per_MW(exact(500.0, "1/s"), p).value
    400000.0
    """
    return product_of([(tokens_per_s_per_chip, 1.0), (power.total, -1.0)], "1/s/MW").scaled(1e6, "1/s/MW")
