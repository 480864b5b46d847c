"""A machine as the cost models see it: devices, their rates, and the levels that join them.

`resolve` reads facts once and hands out plain SI floats. A `System` holds no formula and no search state. Uncertainty
needs no second path: `Facts.with_values` changes one fact and `resolve` is called again.

A device is what a rank runs on: a GPU package, half of an Ironwood chip, a logical NeuronCore. Rates, memory and link
bandwidth are per device with every device of the chip busy, that is, the chip's divided by its devices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.units import parse_count

Precision = Literal["bf16", "fp8", "mxfp8", "nvfp4", "mxfp4", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Matmul precisions of a training recipe. fp8: per-tensor scales; mxfp8, mxfp4: blocks of 32; nvfp4: blocks of 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of the fabric, innermost first.

    devices: size of the domain that it joins. bandwidth_Bps: per device, one way, before efficiency. latency_s: per
    step of a collective, from one device's memory to the next one's. is_network: scale-out. joins_fabrics: the
    data-centre network between fabrics (`joined_level`); the level inside it is the fabric. reduces: the switch adds in
    the network. via_inner: its traffic also crosses the next inner level (links that join same positions only). axes:
    of a torus (0: none); wrap_from: the shortest axis that closes to a ring (a shorter one is a line); links: physical
    links of a chip (of a torus: one to each neighbour, whatever it says); in_device_order: on a torus, whether groups
    are counted off as the software lists devices, and not laid along its axes; has_idle_links: whether links that a
    group does not need carry nothing else (`topology.alone`).
    """

    name: str
    kind: str
    devices: int
    bandwidth_Bps: float
    latency_s: float
    is_network: bool = False
    joins_fabrics: bool = False
    reduces: bool = False
    via_inner: bool = False
    axes: int = 0
    wrap_from: int = 4
    links: int = 1
    in_device_order: bool = False
    has_idle_links: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLayer:
    """A layer of software that calls a collective from the host (facts `networks.collectives.calls.*`). call_s: time of
    a call on top of the device's, up to few_ranks ranks on a host; host_call_s: with host_ranks of them; rate_share: of
    the rate at which cores pass bytes on; copies_own: 1 where each rank of an all-gather also copies its own part into
    the output buffer, else 0."""

    name: str
    call_s: float
    host_call_s: float
    few_ranks: float
    host_ranks: float
    rate_share: float
    copies_own: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """The rates that the collective library reaches on the links; facts `networks.collectives.*` define each field.

    library: nccl, neuron or xla. base_s: latency of the device, of each call. Efficiencies are shares of the published
    bandwidth. Where the DMA of the cores limits a collective: pass_Bps: rate at which one core passes a buffer on, None
    where unknown; short_Bps: that rate for the first short_B bytes; copy_Bps: rate of a copy to another device;
    ring_share: of the passes that remain where rings go through whole chips.
    """

    library: str
    base_s: float
    ring_efficiency: float
    switch_reduce_efficiency: float
    all_to_all_efficiency: float
    network_efficiency: float
    pipeline: float
    pipeline_limit: float
    local_step: float
    all_to_all_steps: float
    switch_reduce_latency: float
    large_network_latency: float
    large_B: float
    network_channels: float
    tree_domain: float
    switch_reduce_from: float
    pass_Bps: float | None = None
    short_Bps: float = math.inf
    short_B: float = 0.0
    copy_Bps: float = math.inf
    ring_share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Chips joined by links, as published: no software in it. peak_flops: precision -> FLOP/s per device, dense.
    host_Bps, host_B: link to the host's memory, one way, and its size, per device; 0 without a fact. power_share: share
    of the rate of 16-bit matrix work under a power cap below the board's own limit (`under_power_cap`). lnc: physical
    cores of a device, on chips whose runtime groups them into logical ones; 0 elsewhere. chips_per_server: of one host,
    the least that is rented; layer: the software that calls collectives, None where a compiled graph starts them on the
    device itself.

    Units: SI (bytes, bytes per second, FLOP/s).

    Example:
        >>> import mowich
        >>> mowich.system("trn3:64").chips
        64
    """

    id: str
    display: str
    chip: str
    vendor: str
    family: str
    chips: int
    devices_per_chip: int
    chips_per_unit: int
    max_chips: int
    peak_flops: Mapping[str, float]
    hbm_Bps: float
    hbm_usable_B: float
    levels: tuple[Level, ...]
    fabric: Fabric
    is_estimated: bool
    host_Bps: float = 0.0
    host_B: float = 0.0
    lnc: int = 0
    power_share: float = 1.0
    chips_per_server: int = 1
    layer: CallLayer | None = None
    paths: Mapping[str, str] = field(default_factory=dict, metadata={"branches": True})

    @property
    def devices(self) -> int:
        return self.chips * self.devices_per_chip

    @property
    def server_devices(self) -> int:
        """Devices of one server; 1 for a system smaller than a server, which may leave out any device."""
        devices = self.chips_per_server * self.devices_per_chip
        return devices if devices <= self.devices else 1

    @property
    def fabric_level(self) -> int:
        """Index of the scale-out level, the first that is a network, in `levels`."""
        return next(i for i, level in enumerate(self.levels) if level.is_network)

    @property
    def domain_devices(self) -> int:
        """Devices of one scale-up unit (UltraServer, NVLink domain, pod)."""
        return self.chips_per_unit * self.devices_per_chip


S = TypeVar("S", bound=System)


def parse_spec(spec: str) -> tuple[str, str | None, str | None]:
    """ "trn3:64" -> ("trn3", ":", "64"); "trn3-gen2*4" -> (.., "*", "4"); a bare name -> (name, None, None)."""
    match = re.fullmatch(r"\s*([A-Za-z0-9_. -]+?)\s*(?:([:*])\s*([\w.]+))?\s*", spec)
    if not match:
        several = [name.strip() for name in spec.split(",") if name.strip()]
        raise UserError(
            "not a system",
            given=spec,
            allowed="NAME, NAME:CHIPS, NAME:4x4x8 or NAME*UNITS",
            fix=f"several are a list: [{', '.join(several)}]" if len(several) > 1 else None,
        )
    return match[1], match[2], match[3]


def machine_id(facts: Facts, name: str) -> str:
    """The id of a system that a job can run on. Raises UserError for an unknown name, and for a file of facts about
    something else (a network, a purchase, a machine whose fabric is not described)."""
    system_id = facts.resolve_system(name)
    if "chip" not in facts.meta("systems", system_id) or facts.get(f"systems.{system_id}.chips_per_unit") is None:
        why = facts.get(f"systems.{system_id}.not_simulated")
        said = f": {why.value}" if why is not None else ""
        raise UserError(
            f"'{name}' has facts but is not a machine that can be simulated{said}",
            allowed=machines(facts),
            fix=f"mowich facts show {system_id}",
        )
    return system_id


def machines(facts: Facts) -> list[str]:
    """The systems that a job can run on."""
    return [name for name in facts.ids("systems") if facts.get(f"systems.{name}.chips_per_unit") is not None]


def check_shape(spec: str, size: str | None, axes: int) -> None:
    """Refuse a shape such as 4x4x8 where the fabric is no torus of as many axes."""
    if size is None or "x" not in size:
        return
    if axes < 2:
        raise UserError(
            "a shape needs a torus", where=f"system '{spec}'", given=size, allowed="NAME:CHIPS or NAME*UNITS"
        )
    if size.count("x") + 1 != axes:
        example = "x".join(["4"] * axes)
        raise UserError(
            f"this torus has {axes} axes", where=f"system '{spec}'", given=size, allowed=f"a shape such as {example}"
        )


def _chips(spec: str, kind: str | None, size: str | None, per_unit: int, chips: int | None) -> int:
    if size is None:
        return per_unit if chips is None else chips
    if kind == "*":
        return int(parse_count(size, where=f"system '{spec}'")) * per_unit
    if re.fullmatch(r"[0-9]+(x[0-9]+)+", size):
        return math.prod(int(axis) for axis in size.split("x"))
    return int(parse_count(size, where=f"system '{spec}'"))


PASS_FIELDS = {
    "pass_bandwidth": "pass_Bps",
    "short_bandwidth": "short_Bps",
    "short_bytes": "short_B",
    "copy_bandwidth": "copy_Bps",
    "ring_share": "ring_share",
}
"""Fact of a chip family about bytes that its cores pass on in a collective -> the field of `Fabric`."""


def library_facts(facts: Facts, chip: str, family: str) -> str:
    """Path of the collective library's facts on a chip: the chip's own where its links differ from its family's (PCIe
    in place of NVLink), else the family's."""
    own = f"networks.collectives.{chip}"
    return own if facts.get(f"{own}.base") is not None else f"networks.collectives.{family}"


def _fabric(facts: Facts, system_id: str, library: str, read: Callable[[str, str], float]) -> Fabric:
    """The library's rates on this system, from the facts at the path `library`; `read(name, path)` notes the source of
    each number."""
    own, common = library, "networks.collectives.common"
    stated = f"systems.{system_id}.levels.scale_out.efficiency"
    nic = stated if facts.get(stated) else "networks.collectives.scale_out.ethernet.efficiency"
    names = (
        "pipeline",
        "pipeline_limit",
        "local_step",
        "all_to_all_steps",
        "switch_reduce_latency",
        "large_network_latency",
        "network_channels",
        "tree_domain",
        "switch_reduce_from",
    )
    passes = {
        field_name: read(f"fabric.{name}", f"{own}.{name}")
        for name, field_name in PASS_FIELDS.items()
        if facts.get(f"{own}.{name}")
    }
    return Fabric(
        library=facts.text(f"{own}.library"),
        **passes,
        base_s=read("fabric.base", f"{own}.base"),
        large_B=read("fabric.large_message", f"{common}.large_message"),
        network_efficiency=read("fabric.network_efficiency", nic),
        **{
            name: read(f"fabric.{name}", f"{own}.{name}")
            for name in ("ring_efficiency", "switch_reduce_efficiency", "all_to_all_efficiency")
        },
        **{name: read(f"fabric.{name}", f"{common}.{name}") for name in names},
    )


def resolve(facts: Facts, spec: str, *, chips: int | None = None, domain_chips: int | None = None) -> System:
    """The system that `spec` names, with `chips` chips (a size inside `spec` wins; else one unit, or one instance where
    the name is of an instance: "p5en.48xlarge*4" is 32 chips).

    domain_chips overrides the size of the scale-up unit (a TPU slice, a rack used in part). Raises UserError for an
    unknown name, a size that is not a positive whole number, or one above what the fabric joins.
    """
    name, kind, size = parse_spec(spec)
    system_id = machine_id(facts, name)
    machine = facts.once(("machine", system_id, domain_chips), lambda known: _machine(known, system_id, domain_chips))
    instance = facts.instance(name)
    if instance is not None and instance.chips is None and kind != ":" and chips is None:
        raise UserError(
            f"chips of one {instance.name} are not known ({instance.why})",
            where=f"system '{spec}'",
            fix=f"say how many: {system_id}:4",
        )
    per_unit = machine.chips if instance is None or instance.chips is None else instance.chips
    count = _chips(spec, kind, size, per_unit, chips)
    if not 1 <= count <= machine.max_chips:
        raise UserError(
            "number of chips out of range",
            where=f"system '{spec}'",
            given=count,
            allowed=f"1 to {machine.max_chips:,} (systems.{system_id}.max_chips)".replace(",", " "),
        )
    check_shape(spec, size, max(level.axes for level in machine.levels))
    return replace(machine, chips=count)


def _machine(facts: Facts, system_id: str, domain_chips: int | None) -> System:
    """The system with one unit of chips."""
    meta = facts.meta("systems", system_id)
    chip = str(meta["chip"])
    chip_meta = facts.meta("chips", chip)
    family = str(chip_meta["family"])
    vendor = str(chip_meta["vendor"])
    root, chip_root = f"systems.{system_id}", f"chips.{chip}"
    paths: dict[str, str] = {}

    def read(field_name: str, path: str) -> float:
        paths[field_name] = path
        return facts.number(path)

    per_unit = round(read("chips_per_unit", f"{root}.chips_per_unit"))
    max_chips = round(read("max_chips", f"{root}.max_chips"))
    per_chip = round(read("devices_per_chip", f"{chip_root}.devices_per_chip"))
    groups = core_groups(facts, chip)
    facts.number(f"{chip_root}.peak_dense.bf16")  # every plan has 16-bit work
    peak: dict[str, float] = {}
    for precision in PRECISIONS:
        fact = facts.get(f"{chip_root}.peak_dense.{precision}")
        if fact is not None and fact.value is not None:
            peak[precision] = read(f"peak_flops.{precision}", fact.path) / per_chip
    estimated = facts.fact(f"{chip_root}.peak_dense.bf16").grade == "D"
    levels = []
    for key in facts.children(f"{root}.levels"):
        at = f"{root}.levels.{key}"
        kind_text = facts.text(f"{at}.kind")
        size_chips = facts.get(f"{at}.chips")
        level_chips = (
            round(facts.number(f"{at}.chips")) if size_chips else max_chips if key == "scale_out" else per_unit
        )
        paths[f"{key}.bandwidth"] = f"{at}.bandwidth"
        paths[f"{key}.latency"] = f"{at}.latency"
        if level_chips == per_unit and key not in ("chip", "scale_out") and domain_chips is not None:
            level_chips = domain_chips
        axes = facts.get(f"{at}.axes")
        flags = {
            flag: bool((f := facts.get(f"{at}.{flag}")) and f.value) for flag in ("in_network_reduction", "via_inner")
        }
        levels.append(
            Level(
                name=key,
                kind=kind_text,
                devices=level_chips * per_chip,
                bandwidth_Bps=facts.number(f"{at}.bandwidth") / per_chip,
                latency_s=facts.number(f"{at}.latency"),
                is_network=key == "scale_out",
                reduces=flags["in_network_reduction"],
                via_inner=flags["via_inner"],
                axes=round(facts.number(f"{at}.axes"))
                if axes
                else {"torus3d": 3, "torus2d": 2, "ring": 1}.get(kind_text, 0),
                wrap_from=round(facts.number(f"{at}.wrap_from")) if facts.get(f"{at}.wrap_from") else 4,
                links=round(facts.number(f"{at}.links")) if facts.get(f"{at}.links") else 1,
            )
        )

    if facts.get(f"{root}.levels.scale_out.chips"):
        levels.append(joined_level(levels[-1], max_chips * per_chip, read))

    server = f"{root}.chips_per_server"

    def host(what: str) -> float:
        path = f"{chip_root}.host.{what}"
        return read("host_Bps" if what == "bandwidth" else "host_B", path) / per_chip if facts.get(path) else 0.0

    return System(
        id=system_id,
        display=str(meta["display"]),
        chip=chip,
        vendor=vendor,
        family=family,
        chips=per_unit,
        devices_per_chip=per_chip,
        chips_per_unit=domain_chips or per_unit,
        max_chips=max_chips,
        peak_flops=peak,
        hbm_Bps=read("hbm_Bps", f"{chip_root}.memory.hbm_bandwidth") / per_chip,
        hbm_usable_B=read("hbm_usable_B", f"{chip_root}.memory.hbm_usable") / per_chip,
        levels=tuple(levels),
        fabric=_fabric(facts, system_id, library_facts(facts, chip, family), read),
        host_Bps=host("bandwidth"),
        host_B=host("memory"),
        lnc=groups.cores // per_chip if groups else 0,
        chips_per_server=round(facts.number(server)) if facts.get(server) else 1,
        is_estimated=estimated,
        paths=paths,
    )


def joined_level(fabric: Level, devices: int, read: Callable[[str, str], float]) -> Level:
    """The data-centre network that joins fabrics of `fabric.devices` devices, up to `devices` in all: a share of what a
    device drives inside its fabric, and a longer step (facts `networks.collectives.joined`, the same for every vendor:
    none publishes its own)."""
    joined = "networks.collectives.joined"
    return Level(
        name="joined",
        kind="network",
        devices=devices,
        bandwidth_Bps=fabric.bandwidth_Bps * read("joined.bandwidth", f"{joined}.bandwidth_share"),
        latency_s=read("joined.latency", f"{joined}.step"),
        is_network=True,
        joins_fabrics=True,
    )


@dataclass(frozen=True, slots=True)
class CoreGroups:
    """cores: physical cores of a chip; sizes: how many of them a device can have."""

    cores: int
    sizes: tuple[int, ...]

    def devices(self, physical: int) -> int:
        """Devices of a chip with `physical` cores each. Raises UserError for a grouping that the chip does not have."""
        if physical not in self.sizes:
            raise UserError("cores per device", where="lnc", given=physical, allowed=", ".join(map(str, self.sizes)))
        return self.cores // physical


def core_groups(facts: Facts, chip: str) -> CoreGroups | None:
    """How the runtime of a chip can group its cores into devices: Trainium's logical NeuronCores of one core or of two
    (LNC; facts `chips.<chip>.matrix_unit.count` and `cores_per_device`). None where devices are not groups of cores."""
    cores, grouped = (facts.get(f"chips.{chip}.{name}") for name in ("matrix_unit.count", "cores_per_device"))
    if cores is None or cores.value is None or grouped is None:
        return None
    return CoreGroups(round(float(cores.value)), tuple(int(word) for word in str(grouped.value).split(",")))


def with_lnc(facts: Facts, physical: int) -> dict[str, float]:
    """The facts that make every device of every chip with logical cores one of `physical` cores: path -> value. Peak,
    memory and links of a chip are split over as many devices. Raises UserError where no chip is grouped so."""
    found = {chip: groups for chip in facts.ids("chips") if (groups := core_groups(facts, chip))}
    able = {chip: groups for chip, groups in found.items() if physical in groups.sizes}
    if not able:
        sizes = sorted({size for groups in found.values() for size in groups.sizes})
        raise UserError("cores per device", where="plan.lnc", given=physical, allowed=", ".join(map(str, sizes)))
    return {f"chips.{chip}.devices_per_chip": float(groups.devices(physical)) for chip, groups in able.items()}


def logical_cores(facts: Facts, system: S, physical: int) -> S:
    """The system with devices of `physical` cores each, where the runtime of its chips can group them so
    (`core_groups`). Raises UserError for a grouping that the chip does not have."""
    groups = core_groups(facts, system.chip)
    if groups is None:
        raise UserError(f"devices of {system.chip} are not groups of cores", where="lnc", given=physical)
    devices = groups.devices(physical)
    share = system.devices_per_chip / devices
    if share == 1.0:
        return system
    levels = tuple(
        replace(level, devices=round(level.devices / share), bandwidth_Bps=level.bandwidth_Bps * share)
        for level in system.levels
    )
    return replace(
        system,
        devices_per_chip=devices,
        lnc=physical,
        peak_flops={name: rate * share for name, rate in system.peak_flops.items()},
        hbm_Bps=system.hbm_Bps * share,
        hbm_usable_B=system.hbm_usable_B * share,
        host_Bps=system.host_Bps * share,
        host_B=system.host_B * share,
        levels=levels,
    )


LAYER_FACTS = {
    "call_s": "call",
    "host_call_s": "host_call",
    "few_ranks": "few_ranks",
    "host_ranks": "host_ranks",
    "rate_share": "rate_share",
    "copies_own": "copies_own",
}
"""Field of `CallLayer` -> its fact."""


DEVICE_LAYER = "graph"
"""The layer of software where a compiled graph starts a collective on the device itself, which adds no time."""


def call_layers(facts: Facts, system: System) -> tuple[str, ...]:
    """Layers of software that were measured for the system's library, the device's own first."""
    calls = "networks.collectives.calls"
    known = facts.children(f"{calls}.{system.fabric.library}") if system.fabric.library in facts.children(calls) else ()
    return (DEVICE_LAYER, *known)


def on_layer(facts: Facts, system: S, name: str) -> S:
    """The system whose collectives are called by a layer of software (one of `call_layers`). Raises UserError for a
    layer without measurements on its library.

    >>> from mowich.facts import load_facts
    >>> trn2 = resolve(load_facts(), "trn2")
    >>> round(on_layer(load_facts(), trn2, "kernel").layer.call_s * 1e6)
    90
    """
    known = call_layers(facts, system)
    if name not in known:
        raise unknown("layer of software", name, known, field="layer")
    if name == DEVICE_LAYER:
        return system
    at = f"networks.collectives.calls.{system.fabric.library}.{name}"
    layer = CallLayer(name=name, **{part: facts.number(f"{at}.{fact}") for part, fact in LAYER_FACTS.items()})
    f, share = system.fabric, layer.rate_share
    fabric = replace(
        f,
        pass_Bps=None if f.pass_Bps is None else f.pass_Bps * share,
        short_Bps=f.short_Bps * share,
        copy_Bps=f.copy_Bps * share,
    )
    paths = {**system.paths, **{f"layer.{fact}": f"{at}.{fact}" for fact in LAYER_FACTS.values()}}
    return replace(system, fabric=fabric, layer=layer, paths=paths)


def under_power_cap(facts: Facts, system: S, watts: float) -> S:
    """The system with its boards capped at `watts`: 16-bit matrix work slows down to the rate that this power sustains,
    ((C - P0) / (limit - P0))^(1/x) of its rate.

    P0 and x (`training.<family>.power_floor`, `power_exponent`) are fits of measured 16-bit products; families without
    them, and caps at or above the board's own limit, change nothing. Docs: theory-training.md, clock and power.
    """
    floor, exponent = (facts.get(f"training.{system.family}.{name}") for name in ("power_floor", "power_exponent"))
    limit = facts.get(f"chips.{system.chip}.power.tdp")
    known = [float(fact.value) for fact in (floor, exponent, limit) if fact is not None and fact.value is not None]
    if len(known) < 3:
        return system
    floor_W, x, limit_W = known
    if not floor_W < watts < limit_W:
        return system
    return replace(system, power_share=((watts - floor_W) / (limit_W - floor_W)) ** (1.0 / x))
