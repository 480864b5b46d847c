"""Weight synchronisation: from an update to the moment when the last worker has the new weights.

A sync is a row of parts, one after another: start (control, pause, drain), gather (shards are brought together, or
copied to a host), convert (to the engine's format), wire (bytes between the two sides), load (the engine takes tensors
by name). Bytes follow from the formats, tensors from the model, links from both systems, and what remains of software
from facts (`rl.sync.METHOD.*`). The slower side sets the wire: what a device of the trainer sends, what a device of a
worker receives, and what crosses a link between sites.

Between chips the narrower of both formats is sent, and whoever has the wider one converts. A format below 16 bits
brings a scale beside each matrix, so that twice as many tensors are loaded. On the same chips the trainer's format is
handed over, and the engine converts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mowich.errors import UserError, unknown
from mowich.estimate import Notes, told
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import Level, System
from mowich.models.model import Model
from mowich.models.storage import BITS_16
from mowich.models.tensors import QUANTISED, component_tensors, scale_tensors
from mowich.plans.plan import WEIGHT_B, Plan, ServePlan
from mowich.rl.frameworks import Framework
from mowich.rl.sides import SyncSide
from mowich.sums import float_sum

SyncMethod = Literal[
    "ipc-buckets",
    "ipc-tensors",
    "reshard",
    "collective",
    "broadcast",
    "tensors",
    "rdma",
    "host",
    "delta",
    "disk",
    "relay",
]
METHODS: tuple[SyncMethod, ...] = get_args(SyncMethod)
"""How weights get to the workers.

ipc-buckets: both sides are in one device's memory, and a handle is given for a bucket of tensors; ipc-tensors: for each
tensor. reshard: each device sends what another needs, straight into the engine's layout (matrices of experts and MLPs;
the rest is broadcast). collective: the whole model, packed, in one group of all devices. broadcast: the whole model in
buckets, from one device to all workers. tensors: the same tensor by tensor. rdma: point to point, each device its part,
loaded by name. host: through the memory of both hosts, fanned out among the workers. delta: the weights that changed,
as index and value. disk: files of a shared store. relay: one copy crosses between sites and is fanned out there.
"""

SyncPart = Literal["start", "gather", "convert", "wire", "load"]
SYNC_PARTS: tuple[SyncPart, ...] = get_args(SyncPart)
"""Parts of a sync, in order; they sum to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a method works. trainer, workers: parts during which that side stands still; placement: it is of colocated
    runs, of split ones; spans_vendors: between machines of two kinds; slices: components of which a device receives its
    own share alone; by_name: the engine takes tensors by name."""

    trainer: tuple[SyncPart, ...]
    workers: tuple[SyncPart, ...]
    is_colocated: bool = False
    spans_vendors: bool = False
    slices: tuple[str, ...] = ()


_ALL: tuple[SyncPart, ...] = SYNC_PARTS
_SENDS: tuple[SyncPart, ...] = ("start", "gather", "convert", "wire")
_TAKES: tuple[SyncPart, ...] = ("start", "wire", "load")

WAYS: Mapping[SyncMethod, _Way] = {
    "ipc-buckets": _Way(trainer=_ALL, workers=_ALL, is_colocated=True),
    "ipc-tensors": _Way(trainer=_ALL, workers=_ALL, is_colocated=True),
    "reshard": _Way(trainer=_ALL, workers=_TAKES, slices=("experts", "mlp")),
    "collective": _Way(trainer=_ALL, workers=_TAKES),
    "broadcast": _Way(trainer=_ALL, workers=_TAKES),
    "tensors": _Way(trainer=_ALL, workers=_TAKES),
    "rdma": _Way(trainer=_SENDS, workers=_TAKES, slices=("experts",)),
    "host": _Way(trainer=("start", "gather", "convert"), workers=_TAKES, spans_vendors=True),
    "delta": _Way(trainer=("gather", "convert"), workers=("start", "load"), spans_vendors=True),
    "disk": _Way(trainer=("gather", "convert"), workers=_TAKES, spans_vendors=True),
    "relay": _Way(trainer=("gather", "convert"), workers=("start", "load"), spans_vendors=True),
}
"""Methods as they work. A trainer that starts a collective waits for the workers that load from it; files, relays and
copies in a host's memory leave it free, and reach workers that go on with their answers until they load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEnd:
    """One side of a sync. devices: all of the side; plan: of the trainer (`Plan`), or of one worker (`ServePlan`);
    format: of the weights there; workers: copies of the engine (1 for a trainer).

    >>> from mowich.facts import load_facts
    >>> from mowich.machines.system import resolve
    >>> h100 = resolve(load_facts(), "h100:16")
    >>> SyncEnd(system=h100, devices=16, plan=Plan(tp=2, ep=4, dp=8), format="bf16").workers
    1
    """

    system: System
    devices: int
    plan: Plan | ServePlan
    format: str
    workers: int = 1

    @property
    def chips(self) -> int:
        """Chips of the side; either side of colocated chips may group their cores in its own way."""
        return -(-self.devices // self.system.devices_per_chip)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncTimes:
    """A sync. parts: seconds, they sum to whole_s; trainer_s, rollouts_s: that either side is held; sent_B: bytes of
    the model as it is sent; tensors: that a device of a worker loads by name; binds: what takes most."""

    method: SyncMethod
    parts: Mapping[SyncPart, float]
    trainer_s: float
    rollouts_s: float
    sent_B: float
    tensors: float
    binds: str

    @property
    def whole_s(self) -> float:
        """Seconds from the update to the last worker."""
        return float_sum(self.parts.values())

    def side(self) -> SyncSide:
        """As a step of reinforcement learning reads it."""
        return SyncSide(method=self.method, trainer_s=self.trainer_s, rollouts_s=self.rollouts_s, whole_s=self.whole_s)


# laws
# ----------------------------------------------------------------------------------------------------------------------


def wire_s(
    sent_B: float, received_B: float, crossed_B: float, send_Bps: float, receive_Bps: float, link_Bps: float
) -> float:
    """Seconds of the bytes between trainer and workers: the slowest of the device that sends most, the device that
    receives most, and the link between their sites.

    T = max(sent_B / send_Bps, received_B / receive_Bps, crossed_B / link_Bps)

    sent_B, received_B: of one device; crossed_B: of all that crosses between sites. It leaves out latency, which is
    microseconds a bucket.

    Units: sent_B B, received_B B, crossed_B B, send_Bps B/s, receive_Bps B/s, link_Bps B/s.

    >>> round(wire_s(61e9, 61e9, 0.0, 48e9, 48e9, float("inf")), 2)
    1.27
    """
    return max(sent_B / send_Bps, received_B / receive_Bps, crossed_B / link_Bps)


def load_s(tensors: float, tensor_s: float) -> float:
    """Seconds in which an engine takes tensors by name and copies its part of each into place.

    T = tensors * tensor_s

    tensors: of one device, scales among them; tensor_s: of one of them: host work, whatever its size.

    Units: tensor_s s.

    >>> round(load_s(18867, 0.11e-3), 2)
    2.08
    """
    return tensors * tensor_s


def exported_s(experts: float, export_s: float) -> float:
    """Seconds in which a trainer makes tensors of the checkpoint of its experts, one by one: gathered among the devices
    that share them, cut out and named.

    T = experts * export_s

    experts: tensors of all experts of the model.

    Units: export_s s.

    >>> round(exported_s(18432, 0.48e-3), 1)
    8.8
    """
    return experts * export_s


def load_each_s(experts: float, expert_s: float, others: float, other_s: float) -> float:
    """Seconds in which tensors are handed over one by one, a call each. An engine looks for the place of a tensor of an
    expert among all experts of a layer, so that it takes longer than another.

    T = experts * expert_s + others * other_s

    experts, others: tensors of one device, scales among them.

    Units: expert_s s, other_s s.

    >>> round(load_each_s(18432, 1e-3, 435, 0.25e-3), 1)
    18.5
    """
    return experts * expert_s + others * other_s


def beside_s(load: float, wire: float) -> float:
    """Seconds of loading that remain once the bytes are there, where both go bucket by bucket beside each other.

    T = max(load - wire, 0)

    Units: load s, wire s.
    """
    return max(load - wire, 0.0)


def converted_s(read_B: float, written_B: float, devices: float, hbm_Bps: float) -> float:
    """Seconds to read weights in one format and write them in another, by all devices of a side, at the rate of their
    memories.

    T = (read_B + written_B) / (devices * hbm_Bps)

    Units: read_B B, written_B B, hbm_Bps B/s.
    """
    return (read_B + written_B) / (devices * hbm_Bps)


def copied_s(whole_B: float, devices: float, host_Bps: float) -> float:
    """Seconds in which all devices of a side copy their shares to or from the memory of their hosts.

    T = whole_B / (devices * host_Bps)

    Units: whole_B B, host_Bps B/s.
    """
    return whole_B / (devices * host_Bps)


def fan_out_s(whole_B: float, servers: float, server_devices: float, network_Bps: float, inner_Bps: float) -> float:
    """Seconds in which servers that hold equal shares of the weights give them to one another, all devices of a server
    together, and each server to its devices: the slower of both.

    T = max(whole_B * (1 - 1 / servers) / (server_devices * network_Bps), whole_B / inner_Bps)

    Units: whole_B B, network_Bps B/s, inner_Bps B/s.
    """
    return max(whole_B * (1.0 - 1.0 / servers) / (server_devices * network_Bps), whole_B / inner_Bps)


def changed_B(params: float, changed: float, index_B: float, value_B: float) -> float:
    """Bytes of the weights that an update changed, each as its place and its new value.

    T = params * changed * (index_B + value_B)

    changed: share of the weights whose 16-bit value is another.

    Units: index_B B, value_B B.
    """
    return params * changed * (index_B + value_B)


def scanned_s(whole_B: float, scan_Bps: float) -> float:
    """Seconds to find what changed between two versions of the weights.

    T = whole_B / scan_Bps

    Units: whole_B B, scan_Bps B/s.
    """
    return whole_B / scan_Bps


# bytes, tensors, links
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What is sent and taken. whole_B: the model in the format that is sent; sliced_whole_B: of the components that a
    device takes its share of, sliced_B: that share; rest_B: of the others; taken: tensors that a device loads by name,
    scales too; experts: those of experts; unsliced: those that are no matrix of such a component."""

    whole_B: float
    sliced_whole_B: float
    sliced_B: float
    rest_B: float
    taken: float
    experts: float
    unsliced: float

    @property
    def received_B(self) -> float:
        """Of one device that takes its share alone."""
        return self.sliced_B + self.rest_B


def weight_bytes(model: Model, form: str) -> dict[str, float]:
    """Bytes of the weights by component in a format: matrices in it, with scales, all else in 16 bits.

    >>> from mowich.models.builtin import load_model
    >>> round(sum(weight_bytes(load_model("qwen3-30b-a3b"), "bf16").values()) / 1e9, 2)
    61.06
    """
    each = bytes_of(form)
    return {
        name: params * (each if name in QUANTISED else max(each, BITS_16))
        for name, params in model.component_params().items()
    }


def bytes_of(form: str) -> float:
    """Bytes per weight of a format. Raises UserError for one that is not known."""
    if form == "fp32":
        return 2.0 * BITS_16
    if form not in WEIGHT_B:
        raise unknown("format of weights", form, ("fp32", *WEIGHT_B))
    return WEIGHT_B[form]


def _load(model: Model, form: str, plan: ServePlan, way: _Way) -> _Load:
    parts = weight_bytes(model, form)
    cuts = {"experts": plan.pp * plan.ep * plan.etp, "mlp": plan.tp * plan.pp}
    counts = component_tensors(model)
    scales = scale_tensors(counts) if bytes_of(form) < BITS_16 else {}
    held = {name: count.tensors / (plan.pp * (plan.ep if name == "experts" else 1)) for name, count in counts.items()}
    scaled = {name: n / (plan.pp * (plan.ep if name == "experts" else 1)) for name, n in scales.items()}
    sliced = {name: parts.get(name, 0.0) for name in way.slices}
    return _Load(
        whole_B=float_sum(parts.values()),
        sliced_whole_B=float_sum(sliced.values()),
        sliced_B=float_sum(whole / cuts[name] for name, whole in sliced.items()),
        rest_B=float_sum(parts.values()) - float_sum(sliced.values()),
        taken=float_sum(held.values()) + float_sum(scaled.values()),
        experts=held.get("experts", 0.0) + scaled.get("experts", 0.0),
        unsliced=float_sum(n for name, n in held.items() if name not in way.slices) + float_sum(scaled.values()),
    )


def _rate(system: System, level: Level) -> float:
    """Bytes/s that a device sends over a level, as its collectives reach it."""
    f = system.fabric
    return level.bandwidth_Bps * (f.network_efficiency if level.is_network else f.ring_efficiency)


def _inner_Bps(system: System) -> float:
    """Bytes/s of a device inside its server: the slowest level up to the one that holds the server; of a machine whose
    servers have no links, its network."""
    rates = []
    for level in system.levels[: system.fabric_level]:
        if level.devices > 1:
            rates.append(_rate(system, level))
        if level.devices >= system.server_devices:
            break
    return min(rates, default=_network_Bps(system))


def _network_Bps(system: System) -> float:
    """Bytes/s of a device over the network."""
    return _rate(system, system.levels[system.fabric_level])


def _joining(source: SyncEnd, target: SyncEnd, apart: bool) -> tuple[float, float, bool]:
    """(bytes/s of a device that sends, of one that receives, whether that is the network): inside the domain where one
    of the same system holds both sides."""
    a, b = source.system, target.system
    if not apart and a.id == b.id:
        both = source.devices + target.devices
        for level in a.levels[: a.fabric_level]:
            if both <= level.devices:
                return _rate(a, level), _rate(b, level), False
    return _network_Bps(a), _network_Bps(b), True


def host_Bps(facts: Facts, system: System) -> float:
    """Bytes/s of a device's link to its host: of the chip's own file, of `networks.cache_tiers`, or the usual one."""
    if system.host_Bps:
        return system.host_Bps
    tier = facts.get(f"networks.cache_tiers.{system.chip}.host_bandwidth")
    if tier is not None and isinstance(tier.value, float):
        return tier.value / system.devices_per_chip
    return facts.number("rl.sync.common.host_link") / system.devices_per_chip


def _gathered_s(source: SyncEnd, whole_B: float, notes: Notes | None) -> float:
    """Seconds in which the shards of each stage are brought together: an all-gather of the stage's weights among the
    devices that share them, all stages at once."""
    plan = source.plan
    if not isinstance(plan, Plan):
        return 0.0
    shared = max(plan.tp, plan.ep * plan.etp)
    if plan.zero >= 3:
        shared = max(shared, plan.shards or plan.dp)
    shared = min(shared, max(1, source.devices // plan.pp))
    if shared < 2:
        return 0.0
    data = np.array([whole_B / plan.pp])
    found = collectives.choose(source.system, "all-gather", data, np.array([float(shared)]), np.ones(1))
    seconds = float(found.time_s[0])
    if notes is not None:
        words = "all-gather of the weights of a stage among the devices that share them, all stages at once"
        notes.add("sync_gather", seconds, "s", words=words, stage_B=float(data[0]), shared=float(shared))
    return seconds


# the law of a sync
# ----------------------------------------------------------------------------------------------------------------------


def sync_times(
    model: Model,
    source: SyncEnd,
    target: SyncEnd,
    method: str,
    *,
    facts: Facts,
    framework: Framework | None = None,
    link_Bps: float | None = None,
    notes: Notes | None = None,
) -> SyncTimes:
    """A sync of a model from its trainer to the workers, part by part.

    link_Bps: of a link between the sites of both sides, bytes/s; None: they share a network, and across vendors what
    `rl.sync.common.link` says. framework: its seconds of a tensor take the place of the method's, and it may let the
    trainer go on while weights travel. Raises UserError for a method that is not known or does not reach the workers.
    """
    name, way = check_method(method, source, target)
    at = f"rl.sync.{name}"

    def number(what: str) -> float:
        return facts.number(f"{at}.{what}")

    sent_as = source.format if way.is_colocated else min((source.format, target.format), key=bytes_of)
    load = _load(model, sent_as, _worker_plan(target), way)
    crosses = link_Bps is not None or source.system.vendor != target.system.vendor
    link = (facts.number("rl.sync.common.link") if link_Bps is None else link_Bps) if crosses else math.inf
    parts = dict.fromkeys(SYNC_PARTS, 0.0)
    parts["start"] = number("start")
    if notes is not None:
        notes.add("sync_start", parts["start"], "s", words="control, pause and drain of a sync, by its method")
    if source.format != target.format:
        wide = source if bytes_of(source.format) >= bytes_of(target.format) else target
        read_B = float_sum(weight_bytes(model, wide.format).values())
        parts["convert"] = told(notes, "sync_convert", converted_s)(
            read_B=read_B, written_B=load.whole_B, devices=wide.devices, hbm_Bps=wide.system.hbm_Bps
        )
    parts["gather"] = _gather(name, model, load, source, facts, notes)
    parts["wire"] = _wire(name, model, load, source, target, facts, link, notes)
    taken = load.unsliced if name == "reshard" else load.taken
    if name in ("tensors", "ipc-tensors"):
        expert_s = framework.tensor_s if framework and framework.tensor_s else number("tensor")
        parts["load"] = told(notes, "sync_load", load_each_s)(
            experts=load.experts,
            expert_s=expert_s,
            others=taken - load.experts,
            other_s=min(expert_s, number("other")),
        )
    else:
        tensor_s = number("tensor") if facts.get(f"{at}.tensor") else facts.number("rl.sync.common.load_tensor")
        parts["load"] = told(notes, "sync_load", load_s)(tensors=taken, tensor_s=tensor_s)
    if name == "host":
        parts["load"] = told(notes, "sync_load_seen", beside_s)(load=parts["load"], wire=parts["wire"])
    held = [part for part in way.trainer if part != "wire" or not (framework and framework.overlaps_sync)]
    return SyncTimes(
        method=name,
        parts=parts,
        trainer_s=float_sum(parts[part] for part in held),
        rollouts_s=float_sum(parts[part] for part in way.workers),
        sent_B=load.whole_B,
        tensors=taken,
        binds=max(SYNC_PARTS, key=lambda part: parts[part]),
    )


def check_method(method: str, source: SyncEnd, target: SyncEnd) -> tuple[SyncMethod, _Way]:
    """The method of that name. Raises UserError for one that is not known, or that does not lead from one side to the
    other."""
    name = next((known for known in METHODS if known == method), None)
    if name is None:
        raise unknown("method of weight synchronisation", method, METHODS, field="method")
    way = WAYS[name]
    if way.is_colocated and (source.system.id != target.system.id or source.chips != target.chips):
        raise UserError(
            f"'{name}' needs trainer and workers on the same chips",
            field="method",
            given=f"{source.system.id}, {source.chips} chips, and {target.system.id}, {target.chips}",
            allowed=[known for known in METHODS if not WAYS[known].is_colocated],
        )
    if source.system.vendor != target.system.vendor and not way.spans_vendors:
        raise UserError(
            f"'{name}' does not span two vendors",
            field="method",
            given=f"{source.system.display} and {target.system.display}",
            allowed=[known for known in METHODS if WAYS[known].spans_vendors],
        )
    return name, way


def method_of(stated: str, framework: Framework | None, *, is_colocated: bool, is_one_vendor: bool = True) -> str:
    """The method of a run: the stated one, the framework's, or the usual one; "relay" where the framework's does not
    span two vendors.

    >>> method_of("", None, is_colocated=True), method_of("", None, is_colocated=False, is_one_vendor=False)
    ('ipc-buckets', 'relay')
    """
    if stated:
        return stated
    if is_colocated:
        return framework.sync_colocated if framework else "ipc-buckets"
    name = framework.sync_split if framework else "broadcast"
    spans = any(known == name and WAYS[known].spans_vendors for known in METHODS)
    return name if is_one_vendor or spans else "relay"


def _worker_plan(target: SyncEnd) -> ServePlan:
    """The plan of one worker; of a side that trains, as its degrees have it."""
    plan = target.plan
    return plan if isinstance(plan, ServePlan) else ServePlan(tp=plan.tp, pp=plan.pp, dp=plan.dp, ep=plan.ep)


def _gather(name: SyncMethod, model: Model, load: _Load, source: SyncEnd, facts: Facts, notes: Notes | None) -> float:
    """Seconds until what is to be sent is together: in devices, in their hosts, or as the weights that changed."""
    if name == "reshard":
        return 0.0
    if name == "delta":
        scan = facts.number("rl.sync.delta.scan")
        return told(notes, "sync_gather", scanned_s)(whole_B=load.whole_B, scan_Bps=scan)
    if name in ("host", "relay", "disk"):
        copied = told(notes, "sync_gather", copied_s)(
            whole_B=load.whole_B, devices=source.devices, host_Bps=host_Bps(facts, source.system)
        )
        if name != "disk":
            return copied
        written = scanned_s(load.whole_B, facts.number("rl.sync.disk.write"))
        if notes is not None:
            words = "the slower of the copy to the hosts and the writing of the store"
            notes.add("sync_gather", max(copied, written), "s", words=words, copied=copied, written=written)
        return max(copied, written)
    gathered = _gathered_s(source, load.whole_B, notes)
    if not WAYS[name].is_colocated:
        return gathered
    experts = component_tensors(model).get("experts")
    return gathered + told(notes, "sync_export", exported_s)(
        experts=experts.tensors if experts else 0, export_s=facts.number(f"rl.sync.{name}.export")
    )


def _wire(
    name: SyncMethod,
    model: Model,
    load: _Load,
    source: SyncEnd,
    target: SyncEnd,
    facts: Facts,
    link: float,
    notes: Notes | None,
) -> float:
    """Seconds of the bytes between both sides."""
    if WAYS[name].is_colocated:
        return 0.0
    law = told(notes, "sync_wire", wire_s)
    senders, receivers = source.devices, target.devices
    send, receive, over_network = _joining(source, target, math.isfinite(link))
    servers = math.ceil(receivers / target.system.server_devices)
    whole = load.whole_B
    if name == "reshard":
        shared = target.workers * load.sliced_whole_B
        return law(shared / senders + load.rest_B, load.received_B, shared + load.rest_B, send, receive, link)
    if name == "rdma":
        total = load.received_B * receivers
        return law(total / min(senders, receivers), load.received_B, total, send, receive, link)
    if name in ("broadcast", "tensors"):  # one chip sends, each device of the workers receives
        return law(whole, whole, whole, send * source.system.devices_per_chip, receive, link)
    if name == "collective":
        lanes = [
            min(facts.number("rl.sync.collective.lanes"), float(end.system.server_devices)) if over_network else 1.0
            for end in (source, target)
        ]
        return law(whole, whole, whole, lanes[0] * send, lanes[1] * receive, link)
    if name == "delta":
        law_of = told(notes, "sync_changed", changed_B, unit="B")
        part = law_of(
            params=model.params,
            changed=facts.number("rl.sync.delta.changed"),
            index_B=facts.number("rl.sync.delta.index"),
            value_B=whole / model.params,
        )
        rate = facts.number("rl.sync.delta.rate")
        return law(part, part, part, rate, rate, link)
    if name == "disk":
        read = facts.number("rl.sync.disk.read")
        return law(0.0, whole * servers, whole, read, read, link)  # the store has a copy at either site
    reached = link * facts.number("rl.sync.relay.reached") if name == "relay" else link
    crossing = law(whole / senders, whole / receivers, whole, send, receive, reached)
    fan_out = told(notes, "sync_fan_out", fan_out_s)(
        whole_B=whole,
        servers=servers,
        server_devices=min(target.system.server_devices, receivers),
        network_Bps=_network_Bps(target.system),
        inner_Bps=_inner_Bps(target.system),
    )
    copied = told(notes, "sync_copied", copied_s)(
        whole_B=whole, devices=receivers, host_Bps=host_Bps(facts, target.system)
    )
    return max(crossing, fan_out, copied)
