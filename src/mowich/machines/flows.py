"""Max-min fair flows on the links of a machine, for asymmetric patterns without closed forms.

A failed or slow link, a missing chip, two jobs that share links, an all-to-all across the cut of two racks. Chips are
joined by directed links with a capacity; a collective is a list of phases, each a set of flows that start together;
flows share links max-min fairly and speed up when others end. The library's efficiencies, latencies and its choice of
algorithm stay those of `collectives`: flows give the factor by which an asymmetry stretches the bytes' term, T = L +
extra + x f, f = T_flow(asymmetric) / T_flow(whole) >= 1, so a whole machine has the same time in both.

Units without a fault are alike, so one of them stands for all (`links.classes`): a flow then stands for a class of
flows, and a link for a class of links that each carry `uses` of them. The rates equal those of all flows one by one, at
the cost of the differing units only, even for 100,000 chips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.machines import collectives
from mowich.machines.links import Classes, Graph, Ints, Routes, build, chips_of_unit, classes, damage, joined_by
from mowich.machines.system import System
from mowich.sums import float_sum

TOLERANCE = 0.02
"""Shares and ends that lie within this of each other are taken together: classes of flows instead of single ones."""

EVENTS = 4
"""Ends of flows after which rates are not shared out again: the rest keeps the busiest link busy, which then gives the
time."""


# max-min fairness
# ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Flows that start together. bytes_, weight: [n]; flow, link: the pairs (flow, directed link on its path); uses:
    flows of the class that the link carries, of each pair.

    Weights are shares of the bytes on the job's busiest link: a job's flows progress together, and two jobs on one link
    get a share each, however many flows they have there.
    """

    bytes_: Floats
    weight: Floats
    flow: Ints
    link: Ints
    uses: Floats

    def load(self, of_flow: Floats, links: int) -> Floats:
        """The load of the flows on each link, [links]. of_flow: of each flow, [n]."""
        return np.bincount(self.link, weights=of_flow[self.flow] * self.uses, minlength=links).astype(np.float64)


class ClassFlow(NamedTuple):
    """Flows that are alike. u, v: chips that stand for those where they start and end; bytes_: of each; out: that leave
    one chip, into: that reach one; to_copy: they end in another unit of the class in which they start."""

    u: int
    v: int
    bytes_: float
    out: float = 1.0
    into: float = 1.0
    to_copy: bool = False


def lay(routes: Routes, pairs: Iterable[tuple[int, int, float] | ClassFlow], unit: int = 0) -> Flows:
    """Flows of (from, to, bytes), split as the routes are. unit: chips of a unit, where flows are of classes."""
    sizes: list[float] = []
    flow: list[int] = []
    link: list[int] = []
    uses: list[float] = []
    for pair in pairs:
        u, v, count, out, into, to_copy = ClassFlow(*pair)
        if (u == v and not to_copy) or count <= 0.0:
            continue
        for share, path in routes.to_copy(u, v) if to_copy else routes(u, v):
            flow += [len(sizes)] * len(path)
            link += path
            if out == into == 1.0:
                uses += [1.0] * len(path)
            elif to_copy:
                uses += [out, into]
            else:
                uses += [out if routes.chip_of(e) // unit == u // unit else into for e in path]
            sizes.append(count * share)
    bytes_, at, on, many = np.array(sizes), np.array(flow, dtype=np.intp), np.array(link, dtype=np.intp), np.array(uses)
    most = np.bincount(on, weights=bytes_[at] * many).max() if len(on) else 1.0
    return Flows(bytes_=bytes_, weight=bytes_ / most, flow=at, link=on, uses=many)


def _rates(capacity_Bps: Floats, flows: Flows, active: NDArray[np.bool_]) -> Floats:
    """Weighted max-min fair bytes per second of the active flows: progressive filling, all flows of a bottleneck frozen
    at once.

    >>> flow, link = np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1])  # one flow over both links
    >>> f = Flows(bytes_=np.ones(3), weight=np.ones(3), flow=flow, link=link, uses=np.ones(4))
    >>> _rates(np.array([10.0, 4.0]), f, np.ones(3, bool)).tolist()
    [2.0, 8.0, 2.0]
    """
    left = capacity_Bps.copy()
    out = np.zeros(len(flows.bytes_))
    open_ = active.copy()
    flow, link, uses = flows.flow, flows.link, flows.uses
    while open_.any():
        keep = open_[flow]
        flow, link, uses = flow[keep], link[keep], uses[keep]
        wanted = np.bincount(link, weights=flows.weight[flow] * uses, minlength=len(left))
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
        taken = np.bincount(link[on], weights=out[flow[on]] * uses[on], minlength=len(left))
        left = np.maximum(left - taken, 0.0)
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
        endless = np.full(len(background.bytes_), np.inf)
        flows = _together([flows, replace(background, bytes_=endless)])
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
    links, others = len(capacity_Bps), np.arange(len(left)) >= n
    load = flows.load(np.where(active & ~others, np.where(others, 0.0, left), 0.0), links)
    with np.errstate(divide="ignore", invalid="ignore"):
        free = np.maximum(capacity_Bps * 1e-9, capacity_Bps - flows.load(np.where(others, speed, 0.0), links))
        rest = np.where(load > 0, load / free, 0.0)
    return time + float(rest.max())


def _together(parts: Sequence[Flows]) -> Flows:
    """Flows of several jobs at the same time."""
    before = np.cumsum([0] + [len(p.bytes_) for p in parts[:-1]])
    return Flows(
        bytes_=np.concatenate([p.bytes_ for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        flow=np.concatenate([p.flow + b for p, b in zip(parts, before, strict=True)]),
        link=np.concatenate([p.link for p in parts]),
        uses=np.concatenate([p.uses for p in parts]),
    )


def busiest(graph: Graph, capacity_Bps: Floats, flows: Sequence[Flows]) -> str:
    """The directed link that needs longest for its bytes, in words, with its level."""
    load = np.zeros(len(capacity_Bps))
    for f in flows:
        load += f.load(f.bytes_, len(capacity_Bps))
    with np.errstate(divide="ignore", invalid="ignore"):
        edge = int(np.argmax(np.where(load > 0, load / capacity_Bps, 0.0)))
    level = next((link.level for link in graph.links if edge in link.ends), "")
    return f"{level}: {graph.name(edge)}"


# collectives as phases
# ----------------------------------------------------------------------------------------------------------------------
def phases(
    graph: Graph, library: str, kind: str, members: Sequence[int], of: Classes | None = None
) -> list[list[ClassFlow]]:
    """The flows of a collective on one byte, phase by phase. of: the units of the graph stand for classes of units.

    all-to-all: every pair 1/n. Level by level (Neuron, XLA) where the group fills whole domains: on a switch or over
    direct links each to each of the same inner position, on a torus to both neighbours of each axis. Else, and for
    NCCL: as many rings as a domain has members, each crossing between domains at another one of them.
    """
    of = of or Classes.each_its_own(graph, members)
    n = of.ranks(members)
    passes = 2.0 if kind == "all-reduce" else 1.0
    if kind == "all-to-all":
        return [_every_pair(of, members, 1.0 / n)]
    if kind in ("permute", "broadcast"):
        return [_rings(of, members, 1.0, rings=1)]
    if library == "nccl" or not of.is_even:
        return [_rings(of, members, passes * (n - 1) / n)]
    out = []
    below = 1
    for at, (level, size) in enumerate(zip(graph.levels, of.sizes, strict=True)):
        m = min(size, n)
        if m <= below:
            continue
        r = m // below
        flows: list[ClassFlow] = []
        carried = passes * (r - 1) / r / below
        if level.axes:
            flows = _torus(graph, at, below, members, carried)
        elif level.is_network and below >= of.unit:
            flows = _across(of, members, carried / (r - 1))
        else:
            for u in members:
                start = u - u % m + u % below
                flows += [ClassFlow(u, v, carried / (r - 1)) for v in range(start, start + m, below) if v != u]
        out.append(flows)
        below = m
    return out


def _every_pair(of: Classes, members: Sequence[int], bytes_: float) -> list[ClassFlow]:
    """Every chip to every other one. Where the network certainly binds the machine, chips of a unit with the same
    network links are one class, and exchanges inside sound units are left out."""
    if _is_bound_by_network(of, members):
        return _every_pair_across(of, members, bytes_)
    out = []
    for u in members:
        a = u // of.unit
        for v in members:
            b = v // of.unit
            if a != b:
                out.append(ClassFlow(u, v, bytes_, of.count[b], of.count[a]))
                continue
            if u != v:
                out.append(ClassFlow(u, v, bytes_))
            if of.count[a] > 1:
                out.append(ClassFlow(u, v, bytes_, of.count[a] - 1, of.count[a] - 1, to_copy=True))
    return out


def _is_bound_by_network(of: Classes, members: Sequence[int]) -> bool:
    """Whether the exchange inside a unit, all of it over the slowest link inside, takes less time than one chip needs
    to send to other units."""
    if max(of.count) < 2:
        return False
    graph, n = of.graph, of.ranks(members)
    at = {link.level: graph.capacity_Bps[link.ends[0]] for link in graph.links}
    net = _network(graph)
    inner = min((Bps for name, Bps in at.items() if name != net), default=np.inf)
    return bool(of.unit * (of.unit - 1) / inner < (n - of.unit) / at[net])


def _every_pair_across(of: Classes, members: Sequence[int], bytes_: float) -> list[ClassFlow]:
    """Every chip to every other one, chips with the same links to the network as one class; inside of units only where
    a link of theirs is damaged."""
    unit = of.unit
    alike = _alike(of, members)
    hurt = {of.graph.links[i].chip // unit for i in of.faults}
    out = []
    for u, starts in alike.items():
        a = u // unit
        for v, ends in alike.items():
            b = v // unit
            k, into, copies = float(len(ends)), float(len(starts)), of.count[a]
            if a != b:
                out.append(ClassFlow(u, v, bytes_, k * of.count[b], into * copies))
            elif copies > 1:
                out.append(ClassFlow(u, v, bytes_, k * (copies - 1), into * (copies - 1), to_copy=True))
    inside = [m for m in members if m // unit in hurt]
    return out + [ClassFlow(u, v, bytes_) for u in inside for v in inside if u != v and u // unit == v // unit]


def _alike(of: Classes, members: Sequence[int]) -> dict[int, list[int]]:
    """Chip that stands for a class of chips with the same links to the network -> its members in one unit."""
    graph, unit = of.graph, of.unit
    net, capacity = _network(graph), damage(graph, of.faults)
    cut = {graph.links[i].chip // unit for i in of.faults if not capacity[graph.links[i].ends[0]]}  # with other routes
    own = {graph.links[i].chip for i in of.faults if graph.links[i].level == net}
    alike: dict[int, list[int]] = {}
    for m in members:
        place = m // unit
        first = next((u for u in alike if u // unit == place and u not in own), None)
        if m in own or place in cut or first is None:
            alike[m] = [m]
        else:
            alike[first].append(m)
    return alike


def _network(graph: Graph) -> str:
    """The first level of a graph that is a network."""
    return next(level.name for level in graph.levels if level.is_network)


def _across(of: Classes, members: Sequence[int], bytes_: float) -> list[ClassFlow]:
    """Every chip to those of its position in the other units."""
    out = []
    units = sorted({m // of.unit for m in members})
    for u in members:
        a = u // of.unit
        for b in units:
            v, many = b * of.unit + u % of.unit, of.count[b]
            if a != b:
                out.append(ClassFlow(u, v, bytes_, many, of.count[a]))
            elif many > 1:
                out.append(ClassFlow(u, u, bytes_, many - 1, many - 1, to_copy=True))
    return out


def _torus(graph: Graph, at: int, below: int, members: Sequence[int], carried: float) -> list[ClassFlow]:
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
    return [ClassFlow(a, b, carried / most) for a, b in kept]


def _rings(of: Classes, members: Sequence[int], bytes_: float, rings: int = 0) -> list[ClassFlow]:
    """Rings through all units in turn, that share the bytes. rings: how many, 0: as many as a unit has members."""
    units: dict[int, list[int]] = {}
    for m in members:
        units.setdefault(m // of.unit, []).append(m)
    is_one = len(units) == 1 and of.count[next(iter(units))] == 1
    rings = rings or (1 if is_one else max(len(d) for d in units.values()))
    orders = {a: [d[j % len(d) :] + d[: j % len(d)] for j in range(rings)] for a, d in units.items()}
    flows: dict[tuple[int, int, float, float, bool], float] = {}

    def add(u: int, v: int, out: float = 1.0, into: float = 1.0, to_copy: bool = False) -> None:
        key = (u, v, out, into, to_copy)
        flows[key] = flows.get(key, 0.0) + bytes_ / rings

    for j in range(rings):
        for order in orders.values():
            for u, v in zip(order[j][:-1], order[j][1:], strict=True):
                add(u, v)
        if is_one:
            (order,) = orders.values()
            add(order[j][-1], order[j][0])
        for (a, b), many in of.follows.items():
            add(orders[a][j][-1], orders[b][j][0], many / of.count[a], many / of.count[b], a == b)
    return [ClassFlow(u, v, b, out, into, to_copy) for (u, v, out, into, to_copy), b in flows.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asymmetric:
    """A collective on a damaged or shared machine. slowdown: of the bytes' term, at least 1; binds: the busiest
    link."""

    time_s: Floats
    slowdown: float
    algorithm: list[str]
    binds: list[str]


def _even_from(system: System, kind: str, n: int) -> int:
    """The next group from n on that fills whole domains, as the reference of an uneven one."""
    sizes = joined_by(system)
    while kind != "all-to-all" and any(n % size for size in sizes if size < n) and n < system.chips:
        n += 1
    return n


def _answer(
    system: System, kind: str, data_B: Floats, n: int, slowdown: float, is_uneven: bool, busy: str
) -> Asymmetric:
    size, ones = np.full(len(data_B), float(n)), np.ones(len(data_B))
    found = collectives.choose(system, kind, data_B, size, ones)
    time = found.time_s + bytes_term(system, kind, data_B, n) * (slowdown - 1.0)
    binds = [b if b == "latency" and slowdown == 1.0 else busy for b in found.binds]
    names = ["ring"] * len(data_B) if is_uneven and kind not in ("all-to-all", "permute") else found.algorithm
    return Asymmetric(time_s=time, slowdown=slowdown, algorithm=names, binds=binds)


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
    time. Every chip is laid out.

    data_B: [sizes], as in `collectives.choose`; members: chips (ranks); faults: {link: share left}; beside: (kind,
    members) of other jobs. An uneven group goes round in rings; one that has lost chips is compared with the next
    larger even one as the library would run it. Raises UserError where the group falls apart.
    """
    graph = build(system)
    _check_members(graph, members)
    n, library = len(members), system.fabric.library
    capacity = damage(graph, faults or {})
    is_first = list(members) == list(range(n))
    uneven = not is_first or (library != "nccl" and any(n % size for size in graph.sizes if size < n))
    whole = Routes(graph, graph.capacity_Bps)
    full = n if is_first else _even_from(system, kind, n)
    usual = [lay(whole, p) for p in phases(graph, library, kind, list(range(full)))]
    living = whole if (capacity > 0.0).all() else Routes(graph, capacity, whole)
    other = [lay(living, flow) for what, group in beside for flow in phases(graph, library, what, group)]
    background = _together(other) if other else None
    same = living is whole and not uneven and full == n
    laid = usual if same else [lay(living, p) for p in phases(graph, library, kind, members)]
    before = float_sum(finish_s(graph.capacity_Bps, p) for p in usual)
    slowdown = slower_by(before, float_sum(finish_s(capacity, f, background) for f in laid))
    return _answer(system, kind, data_B, n, slowdown, uneven, busiest(graph, capacity, laid))


def _check_members(graph: Graph, members: Sequence[int]) -> None:
    if len(members) != len(set(members)) or not all(0 <= m < graph.chips for m in members):
        allowed = f"0 to {graph.chips - 1}"
        raise UserError("members are different chips of the machine", given=list(members), allowed=allowed)


def slower_by(before_s: float, after_s: float) -> float:
    """Time of a collective on a damaged machine over its time before; at least 1.

    >>> slower_by(2.0, 3.0), slower_by(2.0, 1.0), slower_by(0.0, 1.0)
    (1.5, 1.0, 1.0)
    """
    return max(1.0, after_s / before_s) if before_s else 1.0


def failed(
    system: System, kind: str, data_B: Floats, group: int, *, dead: Sequence[int], faults: Mapping[int, float]
) -> Asymmetric:
    """`asymmetric` of the first `group` chips of a machine of many units, less those that are dead: units without a
    fault are laid out once. faults: {link of the whole machine: share left}."""
    library, left = system.fabric.library, group - len(dead)
    unit = chips_of_unit(system)
    laid_out = replace(system, chips=-(-system.chips // unit) * unit)
    is_first = list(dead) == list(range(left, group))
    full = left if is_first else _even_from(laid_out, kind, left)

    def is_even(n: int) -> bool:
        return not any(n % size for size in joined_by(laid_out) if size < n)

    goes_round = library == "nccl" or not (is_first and is_even(left)) or kind in ("permute", "broadcast")
    now = classes(laid_out, group, dead=dead, faults=faults, in_order=goes_round, is_even=is_first and is_even(left))
    usual = classes(laid_out, full, in_order=True, is_even=is_even(full))

    def laid(of: Classes) -> tuple[list[Flows], Floats]:
        whole = Routes(of.graph, of.graph.capacity_Bps)
        capacity = damage(of.graph, of.faults)
        routes = whole if (capacity > 0.0).all() else Routes(of.graph, capacity, whole)
        plan = phases(of.graph, library, kind, of.members, of)
        return [lay(routes, p, of.unit) for p in plan], capacity

    flows, capacity = laid(now)
    after = float_sum(finish_s(capacity, f) for f in flows)
    whole, sound = laid(usual)
    slowdown = slower_by(float_sum(finish_s(sound, f) for f in whole), after)
    uneven = not is_first or (library != "nccl" and not is_even(left))
    return _answer(system, kind, data_B, left, slowdown, uneven, busiest(now.graph, capacity, flows))


def bytes_term(system: System, kind: str, data_B: Floats, n: int) -> Floats:
    """The part x = b S of a collective's time, for a group of n neighbours: what a link's bandwidth stretches."""
    size, ones = np.array([float(n)]), np.ones(1)
    if kind in ("all-to-all", "permute"):
        large = np.array([1e15])
        per_B = float(collectives.choose(system, kind, large, size, ones).time_s[0]) / 1e15
    else:
        per_B = float(collectives.linear(system, size, ones, all_reduce=kind == "all-reduce")[0][0])
    return np.asarray(data_B * per_B)
