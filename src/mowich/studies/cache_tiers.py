"""Tiers of a prefix cache as a scenario asks for them, and what facts say where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.plans.plan import ServePlan
from mowich.readback import record_of
from mowich.scenario import Node
from mowich.serving.traffic.tiers import LOADS, OVERLAPS, TIER_NAMES, WRITES, CacheTier, Tiering

_FACTS = "networks.cache_tiers"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTier:
    """One tier as the file says; None: what the facts say."""

    name: str
    capacity_B: float | None
    read_Bps: float | None
    write_Bps: float | None
    latency_s: float | None
    write: str
    is_shared: bool
    has_one_link: bool
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTiering:
    """The tiers that the file names, fastest first, and how they are used."""

    tiers: tuple[AskedTier, ...] = ()
    load: str = "always"
    overlap: str = "batch"
    prefetch: bool = False


def read_tiering(node: Node) -> AskedTiering:
    """`scheduler.cache_tiers` of a scenario; a tier of capacity 0 is none."""
    tiers = []
    for name in TIER_NAMES:
        inner = node.node(name)
        if name in node:
            tier = _read_tier(inner, name)
            if tier.capacity_B != 0.0:
                tiers.append(tier)
    out = AskedTiering(
        tiers=tuple(tiers),
        load=node.text("load", "always", allowed=LOADS),
        overlap=node.text("overlap", "batch", allowed=OVERLAPS),
        prefetch=node.flag("prefetch", False),
    )
    names = [tier.name for tier in tiers]
    if out.prefetch and (names[:1] != ["host"] or len(names) < 2) and "host" not in node:
        node.problem("prefetch", "brings blocks of ssd or remote to host memory", fix="host: {}")
    node.done()
    return out


def _read_tier(node: Node, name: str) -> AskedTier:
    both = node.quantity("bandwidth", "B/s", minimum=1.0)
    is_shared = node.flag("shared", name == "remote")
    has_one_link = node.flag("shared_link", False)
    if has_one_link and not is_shared:
        node.problem("shared_link", "goes with a tier that replicas share", fix="shared: true")
    capacity = node.quantity("capacity", "B", minimum=0.0)
    if name == "remote" and capacity is None:
        node.problem("capacity", "is needed: no fact says how large a remote store is", allowed='such as "100 TB"')
    out = AskedTier(
        name=name,
        capacity_B=capacity,
        read_Bps=node.quantity("read", "B/s", both, minimum=1.0),
        write_Bps=node.quantity("write", "B/s", both, minimum=1.0),
        latency_s=node.quantity("latency", "s", minimum=0.0),
        write=node.text("write_policy", "eviction", allowed=WRITES),
        is_shared=is_shared,
        has_one_link=has_one_link,
        where=node.name("capacity"),
    )
    node.done()
    return out


def make_tiering(asked: AskedTiering, facts: Facts, system: System, plan: ServePlan, network_Bps: float) -> Tiering:
    """The tiers of a worker of a plan. What the file does not say is the worker's share of its host, by devices.
    network_Bps: of a device to other machines."""
    chip = f"{_FACTS}.{system.chip}"
    per_chip = plan.devices / system.devices_per_chip

    def said(path: str) -> float | None:
        return facts.number(path) if facts.get(path) else None

    def known(tier: AskedTier, key: str, given: float | None, of: float | None) -> float:
        found = given if given is not None else of
        if found is None:
            raise UserError(
                f"no fact says the {key} of the {tier.name} tier of {system.display}",
                where=tier.where.rpartition(".")[0],
                fix=f"{key}: {'1 TB' if key == 'capacity' else '10 GB/s'}",
            )
        return found

    def made(tier: AskedTier) -> CacheTier:
        if tier.name == "host":
            size, way = said(f"{chip}.host_memory"), said(f"{chip}.host_bandwidth")
            size = size if size is not None else system.host_B * system.devices_per_chip or None
            way = way if way is not None else system.host_Bps * system.devices_per_chip or None
            read = write = way
        elif tier.name == "ssd":
            size, read, write = (said(f"{chip}.ssd_{key}") for key in ("capacity", "read", "write"))
        else:
            size, read = None, network_Bps * system.devices_per_chip
            write = read
        size, read, write = (None if v is None else v * per_chip for v in (size, read, write))
        latency = tier.latency_s
        return record_of(
            CacheTier,
            tier,
            capacity_B=known(tier, "capacity", tier.capacity_B, size),
            read_Bps=known(tier, "read", tier.read_Bps, read),
            write_Bps=known(tier, "write", tier.write_Bps, write),
            latency_s=facts.number(f"{_FACTS}.latency.{tier.name}") if latency is None else latency,
            lanes=1 if tier.name == "ssd" or tier.has_one_link else plan.dp,
            stays=tier.name != "host",
        )

    return Tiering(
        tiers=tuple(made(tier) for tier in asked.tiers),
        load=asked.load,
        overlap=asked.overlap,
        prefetch=asked.prefetch and len(asked.tiers) > 1 and asked.tiers[0].name == "host",
    )


def tiering_inputs(tiering: Tiering) -> Mapping[str, object] | None:
    """What was asked and filled in; None where there is no tier."""
    if not tiering.tiers:
        return None
    tiers: Sequence[CacheTier] = tiering.tiers
    return {
        "tiers": {tier.name: {k: v for k, v in asdict(tier).items() if k != "name"} for tier in tiers},
        "load": tiering.load,
        "overlap": tiering.overlap,
        "prefetch": tiering.prefetch,
    }
