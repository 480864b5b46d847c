"""Time of a collective on a hierarchy of fabric levels, in closed form, for floats or arrays of groups alike.

A group is (size n, stride s): its members are every s-th device, so level l holds m_l = min(n, devices_l / s) of them.
Each algorithm that the fabric's library has is a pair (L, b): latency, and seconds per byte on the link that binds. One
law turns it into a time,

    T(S) = L + min(g sqrt(L b S), r L) + b S,

the cost of a pipeline whose chunks grow with the root of the message until the buffers are full; the library takes the
algorithm with the least T. Constants: facts `networks.collectives.*`, few and common to all sizes. Formulas and errors:
docs/theory/collectives.md, docs/records/accuracy-collectives.md. Symmetric groups only: failed links, shared links and
uneven groups are `machines.flows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.machines.system import Level, System
from mowich.machines.torus import links_apart, torus_ways
from mowich.sums import float_sum

COLLECTIVE_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "broadcast", "permute")
"""Kinds of `mowich collective`. An all-gather and a reduce-scatter of the same full size take the same time."""


def bus_factor(kind: str, n: int) -> float:
    """Bus bandwidth = bytes / time x this: 2 (n-1)/n for an all-reduce, 1 for a broadcast or a copy, else (n-1)/n
    (nccl-tests' definition)."""
    return {"all-reduce": 2.0 * (n - 1) / n, "broadcast": 1.0, "permute": 1.0}.get(kind, (n - 1) / n)


def members(level_devices: float, n: Floats, stride: Floats) -> Floats:
    """How many of a group's n members fall in one domain of `level_devices` devices.

    m = the largest divisor-like share: min(n, max(1, floor(devices / stride))). A group that does not fill domains
    evenly is spread as evenly as possible.

    >>> float(members(72.0, np.array([64.0]), np.array([2.0]))[0])
    32.0
    """
    fit = np.maximum(1.0, np.floor(level_devices / stride))
    whole = np.minimum(n, fit)
    # spread evenly over the domains that it needs: n = 64 over a domain of 72 / 2 = 36 takes two domains of 32
    return n / np.ceil(n / whole)


@dataclass(frozen=True, slots=True)
class Hop:
    """One level's part of a group: members inside (m), members inside the level below (below), bandwidth that one
    device of this group drives (Bps, as published), steps of a ring over the level, and latency per step."""

    level: Level
    m: Floats
    below: Floats
    Bps: Floats
    ring_steps: Floats
    step_s: float

    @property
    def r(self) -> Floats:
        """Members of the group that the level joins: m / below."""
        return self.m / self.below


def hops(system: System, n: Floats, stride: Floats) -> list[Hop]:
    """The levels that a group of n devices at a stride crosses, innermost first."""
    out: list[Hop] = []
    below = np.ones_like(n)
    for level in system.levels:
        m = n if level is system.levels[-1] else np.maximum(below, members(float(level.devices), n, stride))
        r = m / below
        Bps = level.bandwidth_Bps * np.ones_like(n)
        steps = r - 1.0
        if level.axes:
            k, side, wraps = torus_ways(system, level, r)
            Bps = Bps * k / level.axes * np.where(wraps, 1.0, 0.5)
            if level.in_device_order:
                apart = links_apart(system, level, stride)
                Bps = np.where(apart > 1, level.bandwidth_Bps / level.axes / apart, Bps)
            steps = np.where(r > 1, k * np.where(wraps, np.minimum(side / 2.0, side - 1.0), side - 1.0), 0.0)
        out.append(Hop(level, m, below, Bps, steps, level.latency_s))
        below = m
    return out


CORE_DMA = "cores"
"""Name for the DMA of the cores as the bound, after the names of the levels."""


def bound_names(system: System) -> list[str]:
    """Names of possible bounds of a collective: the levels, and the cores."""
    return [*(level.name for level in system.levels), CORE_DMA]


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way of doing a collective: L = latency_s (and bulk_s more for messages that leave the low-latency protocol),
    b = per_B seconds per byte; inf where the library lacks it. binds: index into `bound_names` of the largest b; parts:
    b of each level; ahead: seconds saved on each of the first `Fabric.short_B` bytes, None for none."""

    name: str
    latency_s: Floats
    bulk_s: Floats
    per_B: Floats
    binds: NDArray[np.intp]
    parts: tuple[Floats, ...] = ()
    ahead: Floats | None = None

    def x_s(self, system: System, data_B: Floats, pick: NDArray[np.intp] | slice = slice(None)) -> Floats:
        """Seconds of the bytes on the bound, x = b S less the gain of the first bytes. pick: groups of the columns."""
        x = self.per_B[..., pick] * data_B
        if self.ahead is None:
            return np.asarray(x)
        return np.asarray(x - self.ahead[..., pick] * np.minimum(data_B, system.fabric.short_B))


_FEW = 512
"""Number of groups whose algorithms are kept; a search has fewer distinct ones."""


class _Groups:
    """Groups on a system, equal where their algorithms are: the same fabric (by identity, for its numbers may be
    columns) and the same groups."""

    __slots__ = ("key", "n", "stride", "system", "two")

    def __init__(self, system: System, n: Floats, stride: Floats, two: bool) -> None:
        self.system, self.n, self.stride, self.two = system, n, stride, two
        self.key = (
            id(system.levels),
            id(system.fabric),
            system.devices,
            two,
            n.shape,
            n.tobytes(),
            stride.shape,
            stride.tobytes(),
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Groups) and self.key == other.key


def algorithms(system: System, n: Floats, stride: Floats, kind: str) -> tuple[Algorithm, ...]:
    """The algorithms of the system's library for all-reduce, all-gather (= reduce-scatter) or broadcast over groups (n,
    stride)."""
    groups = _Groups(system, n, stride, kind == "all-reduce")
    return _kept(groups) if n.size <= _FEW else _laid_out(groups)


def _laid_out(groups: _Groups) -> tuple[Algorithm, ...]:
    system, n = groups.system, groups.n
    walk = hops(system, n, groups.stride)
    found = (
        _nccl(system, walk, n, groups.two) if system.fabric.library == "nccl" else _by_level(system, walk, groups.two)
    )
    return tuple(found)


_kept = lru_cache(maxsize=1024)(_laid_out)
"""A step asks for the same groups at every kind of layer, a search at every repeated plan. An entry keeps its system,
so that no other object gets the system's id."""


def _worst(parts: Sequence[Floats]) -> NDArray[np.intp]:
    return np.asarray(np.argmax(np.stack(np.broadcast_arrays(*parts)), axis=0), dtype=np.intp)


def _sum(parts: Sequence[Floats], like: Floats) -> Floats:
    """Sum of columns that broadcast together; zeros where there are none."""
    return reduce(np.add, parts, np.zeros_like(like))


def _nccl(system: System, walk: list[Hop], n: Floats, two: bool) -> list[Algorithm]:
    """NCCL: ring over all members; double binary tree over servers with a chain inside each; in-switch reduction
    (NVLS), alone or with that tree.

    k members in a domain, N = n / k domains. Ring: 2 (n-1) steps (n-1 for a gather), each over the link or the network;
    tree: 2 (k-1) steps inside and 2 log2 N over the network. Bytes inside: (2 (n-1) + c) / n of S; over the network: S
    (N = 2) or 2 S (a node of a binary tree sends up and down) for an all-reduce, (N-1)/N S for a gather, over min(k,
    channels) NICs of a domain. Phases overlap, so the slower binds. Where F fabrics are joined, all groups of a fabric
    share the network between them: (F-1) / n of S each pass, and F of the steps (log2 F of a tree's) are that
    network's.
    """
    f = system.fabric
    at = system.fabric_level
    inner, net, beyond = walk[:at], walk[at], walk[at + 1 :]
    k, N = net.below, n / net.below
    passes = 2.0 if two else 1.0
    inside = []
    for h in inner:
        ring = np.where(h.m == k, n / h.below, h.r)  # the outermost level inside carries the ring over all domains
        share = (passes * (ring - 1.0) + f.local_step) / ring / h.below
        inside.append(np.where(h.r > 1, share / (h.Bps * f.ring_efficiency), 0.0))
    sent = np.where(N > 2, 2.0, 1.0) if two else (N - 1.0) / N
    nics = np.maximum(k, float(inner[-1].level.devices)) if inner and inner[-1].level.has_idle_links else k
    outside = np.where(N > 1, sent / (net.Bps * f.network_efficiency * np.minimum(nics, f.network_channels)), 0.0)
    joined = [passes * (h.r - 1.0) / h.r / h.below / (h.Bps * f.network_efficiency) for h in beyond]
    outer = reduce(np.maximum, joined, outside)
    per_B = np.maximum(_sum(inside, n), outer)
    parts = (*inside, outside, *joined)
    binds = _worst(parts)
    step = inner[0].step_s if inner else 0.0
    steps = _sum([passes * h.ring_steps * (n / h.m) * h.step_s for h in inner], n)
    far_ring = _sum([np.where(h.r > 1, passes * h.r * h.step_s, 0.0) for h in beyond], n)
    far_tree = _sum([passes * np.log2(np.maximum(h.r, 1.0)) * h.step_s for h in beyond], n)
    ring_net = np.where(N > 1, passes * N * net.step_s, 0.0) + far_ring
    one = n > 1
    base = np.where(one, f.base_s, 0.0)
    out = [Algorithm("ring", base + steps + ring_net, f.large_network_latency * ring_net, per_B, binds, parts)]
    if not two:
        return out
    tree_ok = (N > 1) & (k <= f.tree_domain)
    chain = passes * np.maximum(k - 1.0, 0.0) * step
    tree_net = passes * np.log2(np.maximum(N, 1.0)) * net.step_s + far_tree
    never = np.full_like(n, np.inf)
    out.append(
        Algorithm(
            "double binary tree",
            np.where(tree_ok, base + chain + tree_net, never),
            f.large_network_latency * tree_net,
            per_B,
            binds,
            parts,
        )
    )
    switch = next((h for h in inner if h.level.reduces), None)
    if switch is not None:
        ok = k >= f.switch_reduce_from
        deep = np.where(
            k <= f.tree_domain, k, n
        )  # beyond servers of 8 the library has no tree: steps as a ring over all members
        over_net = np.where((k <= f.tree_domain) & (N > 1), tree_net, 0.0)
        latency = f.switch_reduce_latency * (base + passes * (deep - 1.0) * switch.step_s) + over_net
        reduced = passes * (n - 1.0) / n / (switch.Bps * f.switch_reduce_efficiency)
        rest = [b for h, b in zip(inner, inside, strict=True) if h is not switch]
        total = np.maximum(reduced + _sum(rest, n), outer)
        name = "nvls"
        every = (*(reduced if h is switch else b for h, b in zip(inner, inside, strict=True)), outside, *joined)
        out.append(
            Algorithm(
                name, np.where(ok, latency, never), f.large_network_latency * over_net, total, _worst(every), every
            )
        )
    return out


def _is_in_chip(system: System, level: Level) -> bool:
    """Whether a level joins the devices of one chip, which use only the DMA of their cores."""
    return system.fabric.pass_Bps is not None and level.devices <= system.devices_per_chip


def core_pass_B(system: System, n: Floats) -> tuple[Floats, Floats]:
    """Seconds per byte of a device to pass on the whole buffer once, and the seconds that the first bytes save. Every
    byte that a rank sends or gets goes through the DMA of its own cores, even from a core of the same chip. Zeros where
    the rate of a family is unknown."""
    f = system.fabric
    if f.pass_Bps is None:
        return np.zeros_like(n), np.zeros_like(n)
    one = np.where(n > 1, 1.0, 0.0) / max(1, system.lnc)
    return one / f.pass_Bps, one * np.maximum(0.0, 1.0 / f.pass_Bps - 1.0 / f.short_Bps)


def _fills_rings(system: System, walk: list[Hop]) -> NDArray[np.bool_]:
    """Groups whose rings go through whole chips (KangaRing): all devices of each chip are members, and two rings
    without a common link join the chips, as in a torus that the group fills, or on switches."""
    whole = np.ones(walk[0].m.shape, dtype=bool)
    beyond = np.zeros_like(whole)
    for h in walk:
        if h.level.devices <= system.devices_per_chip:
            whole &= h.m > system.devices_per_chip - 0.5
        elif not h.level.is_network:
            joins = h.r > 1
            beyond |= joins
            whole &= ~joins | (h.level.axes < 2) | (h.m > h.level.devices - 0.5)
    return whole & beyond


def _by_level(system: System, walk: list[Hop], two: bool) -> list[Algorithm]:
    """Neuron and XLA: level by level, innermost first. An inner level reduces the bytes before the outer one sends
    them, so level l carries S / m_(l-1).

    Phases run in turn: b = sum over levels of passes (r-1) / r / m_(l-1) / B. Steps per level: ring r-1 (on a torus:
    half of the way round, per axis); mesh 1, where each sends to each, which on a torus costs the mean distance in
    bandwidth; over the network log2 r (recursive halving and doubling). All the while the cores pass the whole buffer
    on, once a pass (`core_pass_B`), and that binds where it takes longer than the links.
    """
    f = system.fabric
    passes = 2.0 if two else 1.0
    n = walk[-1].m
    base = np.where(n > 1, f.base_s, 0.0)
    pass_B, gain_B = core_pass_B(system, n)
    ring_share = np.where(_fills_rings(system, walk), f.ring_share, 1.0)
    out = []
    for name in ("mesh", "ring") if f.library == "neuron" else ("torus multi-ring",):
        latency, bulk = base, np.zeros_like(n)
        parts = []
        for h in walk:
            efficiency = f.network_efficiency if h.level.is_network else f.ring_efficiency
            b = passes * (h.r - 1.0) / h.r / h.below / (h.Bps * efficiency)
            if _is_in_chip(system, h.level):
                b = np.zeros_like(b)
            if h.level.is_network:
                step = np.log2(np.maximum(h.r, 1.0)) * h.step_s * passes
                bulk = bulk + f.large_network_latency * step
            elif name == "mesh":
                step = np.where(h.r > 1, passes * h.step_s, 0.0)
                if h.level.axes:
                    b = b * np.maximum(1.0, h.ring_steps / 2.0)  # mean distance along the axes: half of the farthest
            else:
                step = passes * h.ring_steps * h.step_s
            latency = latency + step
            parts.append(b)
        links = _sum(parts, n)
        if f.pass_Bps is None:
            out.append(Algorithm(name, latency, bulk, links, _worst(parts), tuple(parts)))
            continue
        cores = passes * pass_B * (ring_share if name == "ring" else 1.0)
        ahead = np.clip(passes * gain_B - passes * pass_B + cores, 0.0, np.maximum(0.0, cores - links))
        binds = np.where(cores > links, len(walk), _worst(parts))
        parts.append(cores)
        out.append(Algorithm(name, latency, bulk, np.maximum(links, cores), binds, tuple(parts), ahead))
    return out


def call_s(system: System, n: Floats, stride: Floats) -> Floats:
    """Seconds that the layer of software above the device adds to a collective of n devices at a stride; 0 where a
    compiled graph starts it on the device.

    T = call + (host_call - call) (ranks - few) / (all - few), ranks of the group on one host from few to all

    Measured for few ranks on a host and for all of them; linear between, constant beyond.
    """
    layer = system.layer
    if layer is None:
        return np.zeros(np.broadcast_shapes(np.shape(n), np.shape(stride)))
    ranks = np.minimum(n, np.maximum(1.0, system.server_devices / stride))
    more = np.clip((ranks - layer.few_ranks) / (layer.host_ranks - layer.few_ranks), 0.0, 1.0)
    return np.asarray(np.where(n > 1, layer.call_s + (layer.host_call_s - layer.call_s) * more, 0.0))


def own_copy_s(system: System, kind: str, data_B: Floats, n: Floats) -> Floats:
    """Seconds in which each rank of an all-gather copies its own part into the output buffer, where the layer of
    software gathers out of place.

    T = data / n / copy rate of its cores
    """
    layer, cores = system.layer, max(1, system.lnc)
    if layer is None or kind != "all-gather" or not layer.copies_own:
        return np.zeros(np.broadcast_shapes(np.shape(data_B), np.shape(n)))
    return np.asarray(np.where(n > 1, layer.copies_own * data_B / n / (cores * system.fabric.copy_Bps), 0.0))


def pipelined_s(L: Floats, b: Floats | float, S: Floats | float, g: Floats | float, r: Floats | float) -> Floats:
    """Seconds of S bytes that go in pieces, one after the other.

    T = L + min(g * sqrt(L * b * S), r * L) + b * S

    L: latency of all steps; b: seconds of a byte; g, r: what filling the pipeline costs, and at most.

    Units: L s, b s/B, S B.
    """
    x = b * S
    return np.asarray(L + np.minimum(g * np.sqrt(L * x), r * L) + x)


def law_s(
    system: System,
    latency_s: Floats,
    bulk_s: Floats | float,
    x_s: Floats,
    data_B: Floats,
    S: Floats | float = 1.0,
    law: Callable[..., Floats] = pipelined_s,
) -> Floats:
    """Seconds of an algorithm: `pipelined_s` with L = latency + bulk S / (S + S_large) and b = x over S; inf where it
    does not apply. law: what is called for it (`estimate.told`).

    >>> from mowich.facts import load_facts
    >>> from mowich.machines.system import resolve
    >>> h100 = resolve(load_facts(), "h100")
    >>> S = np.array([2.0**29])
    >>> round(float(all_reduce_s(h100, S, np.array([8.0]), np.ones(1))[0]) * 1e6)  # measured: 2111 us
    2034
    """
    f = system.fabric
    L = latency_s + bulk_s * (data_B / (data_B + f.large_B))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isfinite(L), law(L, x_s, S, f.pipeline, f.pipeline_limit), np.inf))


@dataclass(frozen=True, slots=True)
class ChosenAlgorithms:
    """The algorithm that each message takes: seconds, name, the level that binds (or "latency"), per column."""

    time_s: Floats
    algorithm: list[str]
    binds: list[str]


def choose(system: System, kind: str, data_B: Floats, n: Floats, stride: Floats) -> ChosenAlgorithms:
    """Time, algorithm and binding level of a collective. `kind`: one of KINDS; bytes as in `mowich collective`: the
    full buffer (for an all-to-all, what each member sends)."""
    data_B, n, stride = np.broadcast_arrays(data_B, n, stride)
    found = _chosen(system, kind, data_B, n, stride)
    if system.layer is None:
        return found
    called = call_s(system, n, stride) + own_copy_s(system, kind, data_B, n)
    binds = [
        "call" if called[i] > 0.5 * t else b
        for i, (t, b) in enumerate(zip(found.time_s + called, found.binds, strict=True))
    ]
    return ChosenAlgorithms(found.time_s + called, found.algorithm, binds)


def _chosen(system: System, kind: str, data_B: Floats, n: Floats, stride: Floats) -> ChosenAlgorithms:
    """`choose` without the call of the host's software."""
    names = bound_names(system)
    if kind == "all-to-all":
        both = all_to_all_s(system, data_B, n, stride)
        total = both.inside_s + both.outside_s
        share = both.outside_s > both.inside_s
        inner, outer = all_to_all_binds(system, n, stride)
        binding = np.where(share, outer, inner)
        return ChosenAlgorithms(total, ["pairwise"] * len(n), [names[i] for i in binding])
    if kind == "permute":
        total = transfer_s(system, data_B, stride)
        at = [next(x.name for x in system.levels if s < x.devices or x is system.levels[-1]) for s in stride]
        return ChosenAlgorithms(total, ["copy"] * len(n), at)
    ways = algorithms(system, n, stride, kind)
    with np.errstate(invalid="ignore"):
        times = np.stack([law_s(system, a.latency_s, a.bulk_s, a.x_s(system, data_B), data_B) for a in ways])
    best = np.argmin(times, axis=0)
    binds, used = [], []
    for i, b in enumerate(best):
        way = ways[b]
        time = float(times[b, i])
        bound = names[int(way.binds[i])] if float(way.per_B[i] * data_B[i]) > 0.5 * time else "latency"
        binds.append(bound)
        used.append(
            way.name + (" + tree" if way.name == "nvls" and bound_by_network(way, system, i, n, stride) else "")
        )
    return ChosenAlgorithms(np.min(times, axis=0), used, binds)


def by_level(system: System, kind: str, data_B: float, n: int, stride: int = 1) -> dict[str, float]:
    """Seconds of one collective by level: the bytes' time on each level that it uses, and "latency" for steps and
    pipeline; they sum to its time.

    Where levels work at once (all-to-all, and all of NCCL's), the bound, a level or the cores, has the bytes' time.
    """
    data, size, step = (np.array([float(x)]) for x in (data_B, n, stride))
    called = float((call_s(system, size, step) + own_copy_s(system, kind, data, size))[0])
    found = _chosen(system, kind, data, size, step)
    total = float(found.time_s[0])
    names = bound_names(system)
    out: dict[str, float] = {}
    if kind in ("all-to-all", "permute", "broadcast"):
        large = _chosen(system, kind, np.array([1e15]), size, step)
        share, where = float(large.time_s[0]) / 1e15 * data_B, large.binds[0]
        out[where if where in names else names[0]] = min(share, total)
    else:
        ways = algorithms(system, size, step, kind)
        way = min(ways, key=lambda a: float(law_s(system, a.latency_s, a.bulk_s, a.x_s(system, data), data)[0]))
        if system.fabric.library == "nccl" or names[int(way.binds[0])] == CORE_DMA:
            out[names[int(way.binds[0])]] = float(way.x_s(system, data)[0])
        else:
            links = zip(names, way.parts[: len(system.levels)], strict=False)
            out |= {name: float(part[0]) * data_B for name, part in links if float(part[0]) > 0.0}
    out["latency"] = max(0.0, total - float_sum(out.values()))
    return out | ({"call": called} if called else {})


def bound_by_network(way: Algorithm, system: System, i: int, n: Floats, stride: Floats) -> bool:
    """Whether group i leaves its scale-up domain."""
    inside = hops(system, n[i : i + 1], stride[i : i + 1])[system.fabric_level].below
    return bool(n[i] > inside[0])


def _distinct(n: Floats, stride: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    key = n.astype(np.int64) << 32 | stride.astype(np.int64)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return first, inverse


def _time(system: System, data_B: Floats, n: Floats, stride: Floats, kind: str) -> Floats:
    """Least time over the library's algorithms; groups are laid out once per distinct (n, stride)."""
    n, stride = np.broadcast_arrays(n, stride)
    pick: NDArray[np.intp] | slice = slice(None)
    if len(n) > 1:
        first, pick = _distinct(n, stride)
        n, stride = n[first], stride[first]
    best: Floats | None = None
    for a in algorithms(system, n, stride, kind):
        if not np.isfinite(a.latency_s).any():
            continue
        time = law_s(system, a.latency_s[..., pick], a.bulk_s[..., pick], a.x_s(system, data_B, pick), data_B)
        best = time if best is None else np.minimum(best, time)
    assert best is not None
    return best


def linear(system: System, n: Floats, stride: Floats, *, all_reduce: bool = False) -> tuple[Floats, Floats]:
    """(seconds per byte, latency) of a large reduce-scatter or all-reduce: the law beyond S where its pipeline is full,
    T = (1 + r) L + b S, of the algorithm with the least b (then the least L)."""
    pick: NDArray[np.intp] | slice = slice(None)
    if len(n) > 1:
        first, pick = _distinct(n, stride)
        n, stride = n[first], stride[first]
    ways = algorithms(system, n, stride, "all-reduce" if all_reduce else "all-gather")
    both = [((a.latency_s + a.bulk_s) * (1.0 + system.fabric.pipeline_limit), a.per_B) for a in ways]
    columns = np.broadcast_arrays(*(x for pair in both for x in pair))
    latency = np.stack(columns[0::2])
    per_B = np.where(np.isfinite(latency), np.stack(columns[1::2]), np.inf)
    with np.errstate(invalid="ignore"):
        best = np.argmin(per_B + 1e-15 * np.minimum(latency, 1e3), axis=0)[None]
    taken = (np.take_along_axis(x, best, axis=0)[0] for x in (per_B, latency))
    first_B, first_s = (x[..., pick] for x in taken)
    return first_B, first_s


def least_linear(system: System, n: Floats, stride: Floats) -> tuple[Floats, Floats]:
    """(seconds per byte, latency) that `linear` is not below for a reduce-scatter over n or more devices: what must
    cross the network, from domains that hold as many members as they can."""
    f, net = system.fabric, system.levels[system.fabric_level]
    inner = max((level.devices for level in system.levels if not level.is_network), default=1)
    k = np.maximum(1.0, np.floor(inner / stride))
    N = np.maximum(1.0, n / k)
    nccl = f.library == "nccl"
    per_B = (1.0 - 1.0 / N) / (
        net.bandwidth_Bps * f.network_efficiency * (np.minimum(k, f.network_channels) if nccl else k)
    )
    steps = np.where(N > 1, N, 0.0) if nccl else np.log2(N)
    return per_B, steps * net.latency_s * (1.0 + f.large_network_latency) * (1.0 + f.pipeline_limit)


def reduce_scatter_s(system: System, data_B: Floats, n: Floats, stride: Floats) -> Floats:
    """Time to reduce-scatter (or, equal, all-gather) `data_B` bytes, the full unsharded size, over a group."""
    return _time(system, data_B, n, stride, "all-gather")


def all_reduce_s(system: System, data_B: Floats, n: Floats, stride: Floats) -> Floats:
    """Time to all-reduce `data_B` bytes: least over ring, double binary tree and in-switch reduction (NCCL), or over
    mesh and ring level by level."""
    return _time(system, data_B, n, stride, "all-reduce")


@dataclass(frozen=True, slots=True)
class AllToAll:
    """Time of one all-to-all, split into the part inside the scale-up domain and the part over the network."""

    inside_s: Floats
    outside_s: Floats


def all_to_all_binds(system: System, n: Floats, stride: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the level inside the domain, and of the network, that take longest in an all-to-all."""
    walk, at = hops(system, n, stride), system.fabric_level
    inside = [_all_to_all_x(system, walk, i, n) for i in range(at)]
    outside = [(n - walk[at].below) / walk[at].Bps, *((h.m - h.below) / h.Bps for h in walk[at + 1 :])]
    within = _worst(inside) if inside else np.full(len(n), at, dtype=np.intp)
    if inside and system.fabric.pass_Bps is not None:
        passed = core_pass_B(system, n)[0] * (walk[at].below / n)
        within = np.where(passed > np.max(inside, axis=0), len(system.levels), within)
    return within, at + _worst(outside)


def _all_to_all_x(system: System, walk: list[Hop], i: int, n: Floats) -> Floats:
    """Seconds per byte that a device sends which level i needs for the bytes that cross it: those that leave the level
    below and stay inside, and, where the next level joins same positions only, those of its bytes that must change
    their position first."""
    f = system.fabric
    hop = walk[i]
    if _is_in_chip(system, hop.level):
        return np.zeros_like(n)
    share = (hop.m - hop.below) / n
    outer = walk[i + 1] if i + 1 < len(walk) else None
    if outer is not None and outer.level.via_inner:
        share = share + (outer.m - outer.below) / n * (outer.below - hop.below) / np.maximum(outer.below, 1.0)
    efficiency = f.network_efficiency if hop.level.is_network else f.all_to_all_efficiency
    if f.library == "nccl" and not i:
        share = share + np.where(hop.m > 1, f.local_step / n, 0.0)  # a rank also copies its own part
    x = share / (hop.Bps * efficiency)
    if (
        hop.level.axes
    ):  # each byte takes side / 4 links of each axis on average, of 2 k that a device has: the bisection binds
        k, side, _ = torus_ways(system, hop.level, hop.r)
        x = x * np.maximum(1.0, side / 4.0 * k * hop.r / np.maximum(hop.r - 1.0, 1.0))
    return np.asarray(x)


def all_to_all_s(
    system: System,
    send_B: Floats,
    n: Floats,
    stride: Floats,
    *,
    reach: Floats | float | None = None,
    row_B: Floats | float | None = None,
    rows: Floats | float | None = None,
) -> AllToAll:
    """Time of an all-to-all in which each device sends `send_B` bytes in all, evenly over the n members.

    A level carries the share that leaves the level below and stays inside this one; the levels inside a domain are
    other links and work at the same time, so the slowest binds. With reach, rows and row_B (a dispatch that limits the
    nodes of a row) a row goes once to each remote domain of the network that it reaches, not once per expert: min(N,
    reach) (N - 1) / N of N domains. On a torus the bisection binds. Bytes to other fabrics leave by the same NICs at
    the same time, and share the links between fabrics. Each of the two parts follows the law of the module, L = base +
    steps.
    """
    send_B, n, stride = np.broadcast_arrays(send_B, n, stride)
    (L_in, _, x_in), (L_out, bulk, x_out) = all_to_all_ways(system, n, stride)
    net = hops(system, n, stride)[system.fabric_level]
    inside = np.where(net.below > 1, law_s(system, L_in, 0.0, send_B * x_in, send_B), 0.0)
    sent_s = send_B * x_out
    if reach is not None and rows is not None and row_B is not None:
        near, far = _outside_x(system, n, stride)
        domains = np.maximum(1.0, n / net.below)
        reached = np.minimum(domains, reach) * (domains - 1.0) / domains
        least = rows * row_B * reached / (net.Bps * system.fabric.network_efficiency)
        sent_s = np.maximum(np.minimum(send_B * near, least), send_B * far)
    outside = np.where(n > net.below, law_s(system, L_out, bulk, sent_s, send_B), 0.0)
    return AllToAll(inside, outside)


Way = tuple[Floats, Floats, Floats]
"""(latency, extra latency of large messages, seconds per byte) of an algorithm."""


def _outside_x(system: System, n: Floats, stride: Floats) -> tuple[Floats, Floats]:
    """Seconds per byte that a device sends in an all-to-all: (by its network, what crosses fabrics among it, by links
    between fabrics, that all of a fabric share)."""
    walk, at, efficiency = hops(system, n, stride), system.fabric_level, system.fabric.network_efficiency
    net = walk[at]
    far = np.zeros(n.shape)
    for hop in walk[at + 1 :]:
        far = np.maximum(far, (hop.m - hop.below) / n / (hop.Bps * efficiency))
    return (n - net.below) / n / (net.Bps * efficiency), far


def _shared_by_switches(system: System, walk: list[Hop], x_in: Floats, n: Floats) -> Floats:
    """Seconds per byte of an all-to-all inside a domain, x_in, where idle switches of outer levels take a part of what
    inner levels carry: what enters level i and beyond, over what a device has at all of these."""
    at = system.fabric_level
    if not any(hop.level.has_idle_links for hop in walk[:at]):
        return x_in
    least = np.zeros_like(x_in)
    for i, hop in enumerate(walk[:at]):
        rate, carried = np.zeros_like(x_in), np.zeros_like(x_in)
        for j in range(i, at):
            if j > i and walk[j].level.kind != "switch":
                break
            x = _all_to_all_x(system, walk, j, n)
            Bps = walk[j].Bps * np.ones_like(x_in)
            rate, carried = rate + Bps, carried + x * Bps
        least = np.maximum(least, carried / rate if not _is_in_chip(system, hop.level) else 0.0)
    return least


def all_to_all_ways(system: System, n: Floats, stride: Floats) -> tuple[Way, Way]:
    """(inside the domain, over the network) of an all-to-all, per byte that a device sends; zeros where a group has no
    such part."""
    f = system.fabric
    walk, at = hops(system, n, stride), system.fabric_level
    x_in, L_in = np.zeros(n.shape), np.zeros(n.shape)
    for i, hop in enumerate(walk[:at]):
        x_in = np.maximum(x_in, _all_to_all_x(system, walk, i, n))
        L_in = L_in + np.where(hop.m > hop.below, f.all_to_all_steps * hop.step_s, 0.0)
    net = walk[at]
    # bytes for the network also pass through the cores, at the same time and faster
    x_in = np.maximum(_shared_by_switches(system, walk, x_in, n), core_pass_B(system, n)[0] * (net.below / n))
    is_inside, crosses = net.below > 1, n > net.below
    base = np.where(n > 1, f.base_s, 0.0)
    L_out = np.where(crosses, f.all_to_all_steps * net.step_s, 0.0)
    for hop in walk[at + 1 :]:
        L_out = L_out + np.where(hop.r > 1, f.all_to_all_steps * hop.step_s, 0.0)
    x_out = np.where(crosses, np.maximum(*_outside_x(system, n, stride)), 0.0)
    L_in, x_in = np.where(is_inside, L_in + base, 0.0), np.where(is_inside, x_in, 0.0)
    bulk = f.large_network_latency * L_out
    L_out = np.where(crosses, L_out + np.where(is_inside, 0.0, base), 0.0)
    return (L_in, np.zeros(n.shape), x_in), (L_out, bulk, x_out)


def transfer_way(system: System, stride: Floats) -> Way:
    """Of a transfer to the device `stride` places on: the innermost level that holds both carries it."""
    f = system.fabric
    latency, more, per_B = (np.zeros(np.shape(stride)) for _ in range(3))
    done = np.zeros(np.shape(stride), dtype=bool)
    for level in system.levels:
        efficiency = f.network_efficiency if level.is_network else f.ring_efficiency
        here = ~done & ((stride < level.devices) | (level is system.levels[-1]))
        share = 1.0 / level.axes if level.axes > 1 else 1.0
        bulk = f.large_network_latency * level.latency_s if level.is_network else 0.0
        latency = np.where(here, f.base_s + level.latency_s, latency)
        more = np.where(here, bulk, more)
        if not _is_in_chip(system, level):
            per_B = np.where(here, 1.0 / (level.bandwidth_Bps * efficiency * share), per_B)
        done = done | here
    return latency, more, np.maximum(per_B, 1.0 / (f.copy_Bps * max(1, system.lnc)))


def transfer_s(system: System, data_B: Floats, stride: Floats) -> Floats:
    """Time to send `data_B` bytes to the device `stride` places on."""
    latency, bulk, per_B = transfer_way(system, np.asarray(stride))
    return law_s(system, latency, bulk, data_B * per_B, np.asarray(data_B))
