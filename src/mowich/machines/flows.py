"""Max-min fair flows on the links of a machine: what the closed forms cannot do, because the pattern is not symmetric.

A failed or slow link, a missing chip, two jobs that share links, an all-to-all across the cut of two racks. Chips are
joined by directed links with a capacity; a collective is a list of phases, each a set of flows that start together;
flows share links max-min fairly and speed up when others end. The library's efficiencies, latencies and its choice of
algorithm stay those of `collectives`: flows give the factor by which an asymmetry stretches the bytes' term, T = L +
extra + x f, f = T_flow(asymmetric) / T_flow(whole) >= 1, so a whole machine has the same time in both. Sized for one
UltraServer, rack or pod slice; of a larger machine the part that holds the fault is laid out (`links.laid_out`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.machines import collectives
from mowich.machines.links import Graph, Ints, Routes, build, damage
from mowich.machines.system import System

TOLERANCE = 0.02
"""Shares and ends that lie within this of each other are taken together: classes of flows instead of single ones."""

EVENTS = 4
"""Ends of flows after which rates are not shared out anew: what is left keeps the busiest link busy, which then tells
the time."""


# routes
# ----------------------------------------------------------------------------------------------------------------------


# max-min fairness
# ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Flows that start together. bytes_, weight: [n]; flow, link: the pairs (flow, directed link on its path).

    Weights are shares of the bytes on the job's busiest link: a job's flows progress together, and two jobs on one link
    get a share each, however many flows they have there.
    """

    bytes_: Floats
    weight: Floats
    flow: Ints
    link: Ints


def lay(routes: Routes, pairs: Iterable[tuple[int, int, float]]) -> Flows:
    """Flows of (from, to, bytes), split as the routes are."""
    sizes: list[float] = []
    flow: list[int] = []
    link: list[int] = []
    for u, v, count in pairs:
        if u == v or count <= 0.0:
            continue
        for share, path in routes(u, v):
            flow += [len(sizes)] * len(path)
            link += path
            sizes.append(count * share)
    bytes_, at, on = np.array(sizes), np.array(flow, dtype=np.intp), np.array(link, dtype=np.intp)
    most = np.bincount(on, weights=bytes_[at]).max() if len(on) else 1.0
    return Flows(bytes_=bytes_, weight=bytes_ / most, flow=at, link=on)


def _rates(capacity_Bps: Floats, flows: Flows, active: NDArray[np.bool_]) -> Floats:
    """Weighted max-min fair bytes per second of the active flows: progressive filling, all flows of a bottleneck frozen
    at once.

    >>> flow, link = np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1])  # one flow over both links
    >>> f = Flows(bytes_=np.ones(3), weight=np.ones(3), flow=flow, link=link)
    >>> _rates(np.array([10.0, 4.0]), f, np.ones(3, bool)).tolist()
    [2.0, 8.0, 2.0]
    """
    left = capacity_Bps.copy()
    out = np.zeros(len(flows.bytes_))
    open_ = active.copy()
    flow, link = flows.flow, flows.link
    while open_.any():
        keep = open_[flow]
        flow, link = flow[keep], link[keep]
        wanted = np.bincount(link, weights=flows.weight[flow], minlength=len(left))
        used = wanted > 0
        fair = np.full(len(left), np.inf)
        fair[used] = left[used] / wanted[used]
        least = fair.min()
        tight = fair <= least * (1.0 + TOLERANCE)
        frozen = np.zeros(len(out), dtype=bool)
        frozen[flow[tight[link]]] = True
        frozen &= open_
        out[frozen] = least * flows.weight[frozen]
        on = frozen[flow]
        left = np.maximum(left - np.bincount(link[on], weights=out[flow[on]], minlength=len(left)), 0.0)
        open_ &= ~frozen
    return out


def finish_s(capacity_Bps: Floats, flows: Flows, background: Flows | None = None) -> float:
    """Seconds until the last flow has ended; flows that end leave their share to the others. background: flows that
    never end.

    Max-min sharing keeps a full link full, so after EVENTS ends the bytes left on the busiest link over its capacity
    are the time left."""
    n = len(flows.bytes_)
    if n == 0:
        return 0.0
    if background is not None and len(background.bytes_):
        flows = Flows(
            bytes_=np.concatenate([flows.bytes_, np.full(len(background.bytes_), np.inf)]),
            weight=np.concatenate([flows.weight, background.weight]),
            flow=np.concatenate([flows.flow, background.flow + n]),
            link=np.concatenate([flows.link, background.link]),
        )
    left = flows.bytes_.copy()
    active = left > 0
    time = 0.0
    for _ in range(EVENTS):
        if not active[:n].any():
            return time
        speed = _rates(capacity_Bps, flows, active)
        with np.errstate(divide="ignore", invalid="ignore"):
            due = np.where(active[:n], left[:n] / speed[:n], np.inf)
        ends = due <= due.min() * (1.0 + TOLERANCE)
        step = float(due[ends].max())
        time += step
        left[:n] -= np.where(active[:n], speed[:n] * step, 0.0)
        active[:n] &= ~ends
    on = flows.flow < n
    load = np.bincount(
        flows.link[on], weights=np.where(active[:n], left[:n], 0.0)[flows.flow[on]], minlength=len(capacity_Bps)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.maximum(
            capacity_Bps * 1e-9,
            capacity_Bps - np.bincount(flows.link[~on], weights=speed[flows.flow[~on]], minlength=len(capacity_Bps)),
        )
        rest = np.where(load > 0, load / free, 0.0)
    return time + float(rest.max())


def busiest(graph: Graph, capacity_Bps: Floats, flows: Sequence[Flows]) -> str:
    """The directed link that needs longest for its bytes, in words, with its level."""
    load = np.zeros(len(capacity_Bps))
    for f in flows:
        np.add.at(load, f.link, f.bytes_[f.flow])
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = int(np.argmax(np.where(load > 0, load / capacity_Bps, 0.0)))
    level = next((link.level for link in graph.links if edge in link.ends), "")
    return f"{level}: {graph.name(edge)}"


# collectives as phases
# ----------------------------------------------------------------------------------------------------------------------
def phases(graph: Graph, library: str, kind: str, members: Sequence[int]) -> list[list[tuple[int, int, float]]]:
    """The flows of a collective on one byte, phase by phase: (from, to, bytes).

    all-to-all: every pair 1/n. Level by level (Neuron, XLA) where the group fills whole domains: on a switch or over
    direct links each to each of the same inner position, on a torus to both neighbours of each axis. Else, and for
    NCCL: as many rings as a domain has members, each crossing between domains at another one of them.
    """
    n = len(members)
    passes = 2.0 if kind == "all-reduce" else 1.0
    if kind == "all-to-all":
        return [[(u, v, 1.0 / n) for u in members for v in members if u != v]]
    if kind in ("permute", "broadcast"):
        return [[(u, v, 1.0) for u, v in zip(members, [*members[1:], members[0]], strict=True)]]
    even = list(members) == list(range(members[0], members[0] + n)) and members[0] == 0
    if library == "nccl" or not even or any(n % s for s in graph.sizes if s < n):
        return [_rings(graph, members, passes)]
    out = []
    below = 1
    for at, (level, size) in enumerate(zip(graph.levels, graph.sizes, strict=True)):
        m = min(size, n)
        if m <= below:
            continue
        r = m // below
        flows: list[tuple[int, int, float]] = []
        carried = passes * (r - 1) / r / below
        if level.axes:
            flows = _torus(graph, at, below, members, carried)
        else:
            for u in members:
                start = u - u % m + u % below
                flows += [(u, v, carried / (r - 1)) for v in range(start, start + m, below) if v != u]
        out.append(flows)
        below = m
    return out


def _torus(graph: Graph, at: int, below: int, members: Sequence[int], carried: float) -> list[tuple[int, int, float]]:
    """Both neighbours on every axis that the group spans; an open line passes its bytes along one way each, so they
    count twice."""
    group = set(members)
    ends = [
        (int(graph.tail[e]), int(graph.head[e]))
        for link in graph.links
        if link.level == graph.levels[at].name
        for e in link.ends
    ]
    kept = sorted({(a, b) for a, b in ends if a in group and b in group})
    out: dict[int, int] = {}
    for a, _ in kept:
        out[a] = out.get(a, 0) + 1
    most = max(out.values(), default=1)
    return [(a, b, carried / most) for a, b in kept]


def _rings(graph: Graph, members: Sequence[int], passes: float) -> list[tuple[int, int, float]]:
    n = len(members)
    inner = [s for s, level in zip(graph.sizes, graph.levels, strict=True) if not level.is_network]
    size = inner[-1] if inner else 1
    domains: dict[int, list[int]] = {}
    for m in members:
        domains.setdefault(m // size, []).append(m)
    rings = max(len(d) for d in domains.values()) if len(domains) > 1 else 1
    flows: dict[tuple[int, int], float] = {}
    for j in range(rings):
        order = [m for d in domains.values() for m in d[j % len(d) :] + d[: j % len(d)]]
        for u, v in zip(order, order[1:] + order[:1], strict=True):
            flows[u, v] = flows.get((u, v), 0.0) + passes * (n - 1) / n / rings
    return [(u, v, b) for (u, v), b in flows.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asymmetric:
    """A collective on a machine that is not whole or not alone. slowdown: of the bytes' term, at least 1; binds: the
    busiest link."""

    time_s: Floats
    slowdown: float
    algorithm: list[str]
    binds: list[str]


def asymmetric(
    system: System,
    kind: str,
    data_B: Floats,
    members: Sequence[int],
    *,
    faults: Mapping[int, float] | None = None,
    beside: Sequence[tuple[str, Sequence[int]]] = (),
) -> Asymmetric:
    """Time of a collective among some chips, with damaged links and with other collectives running beside it all the
    time.

    data_B: [sizes], as in `collectives.choose`; members: chips (ranks); faults: {link: share left}; beside: (kind,
    members) of other jobs. An uneven group goes round in rings and is compared with the next larger even one as the
    library would run it. Raises UserError where the group falls apart.
    """
    graph = build(system)
    n = len(members)
    if n != len(set(members)) or not all(0 <= m < graph.chips for m in members):
        raise UserError(
            "members are different chips of the machine", given=list(members), allowed=f"0 to {graph.chips - 1}"
        )
    capacity = damage(graph, faults or {})
    library = system.fabric.library
    uneven = list(members) != list(range(n)) or (
        library != "nccl" and any(n % size for size in graph.sizes if size < n)
    )
    whole = Routes(graph, graph.capacity_Bps)
    full = n
    while kind != "all-to-all" and any(full % size for size in graph.sizes if size < full) and full < graph.chips:
        full += 1  # the next group that fills whole domains is what an uneven one is compared with
    plan = phases(graph, library, kind, list(range(full)))
    now = phases(graph, library, kind, members)
    usual = [lay(whole, p) for p in plan]
    before = sum(finish_s(graph.capacity_Bps, p) for p in usual)
    living = whole if (capacity > 0.0).all() else Routes(graph, capacity, whole)
    other = [lay(living, flow) for what, group in beside for flow in phases(graph, library, what, group)]
    background = None
    if other:
        counts = np.cumsum([0] + [len(o.bytes_) for o in other])
        background = Flows(
            bytes_=np.concatenate([o.bytes_ for o in other]),
            weight=np.concatenate([o.weight for o in other]),
            link=np.concatenate([o.link for o in other]),
            flow=np.concatenate([o.flow + c for o, c in zip(other, counts[:-1], strict=True)]),
        )
    laid = usual if living is whole and not uneven and full == n else [lay(living, p) for p in now]
    after = sum(finish_s(capacity, f, background) for f in laid)
    slowdown = max(1.0, after / before) if before else 1.0
    size, ones = np.full(len(data_B), float(n)), np.ones(len(data_B))
    found = collectives.choose(system, kind, data_B, size, ones)
    asymptote = bytes_term(system, kind, data_B, n)
    time = found.time_s + asymptote * (slowdown - 1.0)
    binds = [b if b == "latency" and slowdown == 1.0 else busiest(graph, capacity, laid) for b in found.binds]
    names = ["ring"] * len(data_B) if uneven and kind not in ("all-to-all", "permute") else found.algorithm
    return Asymmetric(time_s=time, slowdown=slowdown, algorithm=names, binds=binds)


def bytes_term(system: System, kind: str, data_B: Floats, n: int) -> Floats:
    """The part x = b S of a collective's time, for a group of n neighbours: what a link's bandwidth stretches."""
    size, ones = np.array([float(n)]), np.ones(1)
    if kind in ("all-to-all", "permute"):
        large = np.array([1e15])
        per_B = float(collectives.choose(system, kind, large, size, ones).time_s[0]) / 1e15
    else:
        per_B = float(collectives.linear(system, size, ones, all_reduce=kind == "all-reduce")[0][0])
    return np.asarray(data_B * per_B)
