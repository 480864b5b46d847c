"""A machine as a graph of links, which may be damaged, and the routes through it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.errors import UserError, did_you_mean
from mowich.machines.system import Level, System

Ints = NDArray[np.intp]


MAX_CHIPS = 4096
"""Chips of the largest part of a machine that is laid out link by link."""

PART_CHIPS = 1024
"""Chips that are laid out of a larger machine, and of the largest part in which every chip sends to every other."""


LinkPath = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One physical link, both directions. level: its name; chip: where it starts; number: which of the chip's links of
    that level; ends: the two directed capacities (indices into `Graph.capacity_Bps`) that it is a part of; share: of
    each of them."""

    level: str
    chip: int
    number: int
    ends: tuple[int, int]
    share: float

    def __str__(self) -> str:
        return f"{self.level} link {self.number} of chip {self.chip}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Directed links between nodes. Nodes below `chips` are chips, the others switches. tail, head: [links];
    capacity_Bps: [links], as published;
    links: the physical ones, in the order in which `--fail link:N` counts them; sizes: chips joined by each level,
    innermost first."""

    chips: int
    levels: tuple[Level, ...]
    sizes: tuple[int, ...]
    tail: Ints
    head: Ints
    capacity_Bps: Floats
    links: tuple[Link, ...]
    of: Mapping[tuple[int, int], int]
    switch_of: Mapping[tuple[int, int], int]
    unit: int = 0
    stands_for: tuple[int, ...] = ()

    def name(self, edge: int) -> str:
        """A directed link in words. unit, stands_for: chips of a unit, and which unit of a larger machine each is."""
        return " to ".join(self._node(int(n)) for n in (self.tail[edge], self.head[edge]))

    def _node(self, node: int) -> str:
        if not self.stands_for:
            return f"chip {node}" if node < self.chips else f"switch {node - self.chips}"
        return (
            f"chip {self.stands_for[node // self.unit] * self.unit + node % self.unit}"
            if node < self.chips
            else "a switch"
        )

    @property
    def counts(self) -> dict[str, int]:
        """Level -> its physical links, in the order in which they are counted."""
        return dict(Counter(link.level for link in self.links))


def _torus_sides(level: Level, r: int) -> tuple[int, ...]:
    """Whole sides of a torus of r nodes, as near to a cube as divisors allow, longest last."""
    sides: list[int] = []
    left = r
    for axes in range(level.axes, 0, -1):
        ideal = left ** (1.0 / axes)
        divisors = [d for d in range(1, left + 1) if left % d == 0]
        side = min(divisors, key=lambda d: (abs(np.log(d / ideal)), d))
        sides.append(side)
        left //= side
    return tuple(sorted(sides))


class _Wiring:
    """A graph while it grows. Nodes above `chips` are switches."""

    def __init__(self, chips: int) -> None:
        self.chips = self.nodes = chips
        self.tail: list[int] = []
        self.head: list[int] = []
        self.capacity_Bps: list[float] = []
        self.of: dict[tuple[int, int], int] = {}
        self.links: list[Link] = []
        self.switches: dict[tuple[int, int], int] = {}

    def edge(self, a: int, b: int, Bps: float) -> int:
        """The edge from a to b, made wider by `Bps` bytes/s. An axis of two nodes that closes has both links on one."""
        at = self.of.get((a, b))
        if at is None:
            at = self.of[a, b] = len(self.tail)
            self.tail.append(a)
            self.head.append(b)
            self.capacity_Bps.append(0.0)
        self.capacity_Bps[at] += Bps
        return at

    def join(self, level: Level, a: int, b: int, Bps: float, numbers: Sequence[int], share: float) -> None:
        """Links both ways between chip a and node b. numbers: of the links of the chip; share: of the edge, each."""
        ends = (self.edge(a, b, Bps), self.edge(b, a, Bps))
        self.links += [Link(level=level.name, chip=a, number=i, ends=ends, share=share) for i in numbers]

    def torus(self, level: Level, below: int, joins: int) -> None:
        """Each chip to its next neighbour along each axis."""
        sides = _torus_sides(level, -(-joins // below))
        Bps = level.bandwidth_Bps / (2.0 * level.axes)
        for c in range(self.chips):
            base, node, inner = c - c % joins, (c % joins) // below, c % below
            for axis, side in enumerate(sides):
                step = int(np.prod(sides[:axis]))
                here = node // step % side
                if side == 1 or (here == side - 1 and side < level.wrap_from):
                    continue
                other = base + (node + ((here + 1) % side - here) * step) * below + inner
                if other < self.chips:
                    self.join(level, c, other, Bps, [axis], 1.0)

    def direct(self, level: Level, below: int, joins: int) -> None:
        """Each chip to those of the same position in the other domains."""
        r = -(-joins // below)
        for c in range(self.chips):
            base = c - c % joins
            for k in range(r):
                other = base + (c % below) + k * below
                if c < other < self.chips:
                    self.join(level, c, other, level.bandwidth_Bps / (r - 1), range(level.links), 1.0 / level.links)

    def switched(self, level: Level, place: int, joins: int) -> None:
        """Each chip to the switch of its domain. place: of the level among the used ones."""
        for c in range(self.chips):
            key = (place, c // joins)
            if key not in self.switches:
                self.switches[key] = self.nodes
                self.nodes += 1
            self.join(level, c, self.switches[key], level.bandwidth_Bps, range(level.links), 1.0 / level.links)


def build(system: System) -> Graph:
    """The links of a machine whose ranks are whole chips (`topology.per_chip`).

    Switch level: a chip has a port up and a port down. Direct links: one to each same position of the other domains.
    Torus: one to each neighbour; an axis shorter than `wrap_from` is not closed. Raises UserError above MAX_CHIPS.
    """
    chips = system.chips
    if system.devices_per_chip != 1:
        raise ValueError("flows are laid out for whole chips: use topology.per_chip")
    if chips > MAX_CHIPS:
        raise UserError(
            "too many chips to lay out link by link",
            given=chips,
            allowed=f"at most {MAX_CHIPS}",
            fix="give the part that holds the fault",
        )
    wiring = _Wiring(chips)
    used: list[Level] = []
    sizes: list[int] = []
    below = 1
    for level in system.levels:
        joins = chips if level.is_network else min(level.devices, chips)
        if joins <= below:
            continue
        if level.axes:
            wiring.torus(level, below, joins)
        elif level.kind == "links":
            wiring.direct(level, below, joins)
        else:
            wiring.switched(level, len(used), joins)
        used.append(level)
        sizes.append(joins)
        below = joins
    return Graph(
        chips=chips,
        levels=tuple(used),
        sizes=tuple(sizes),
        tail=np.array(wiring.tail),
        head=np.array(wiring.head),
        capacity_Bps=np.array(wiring.capacity_Bps),
        links=tuple(wiring.links),
        of=wiring.of,
        switch_of=wiring.switches,
    )


def joined_by(system: System) -> tuple[int, ...]:
    """Chips joined by each level that the machine uses, innermost first, as `Graph.sizes`."""
    out: list[int] = []
    for level in system.levels:
        joins = system.chips if level.is_network else min(level.devices, system.chips)
        if joins > (out[-1] if out else 1):
            out.append(joins)
    return tuple(out)


def chips_of_unit(system: System) -> int:
    """Chips of a unit of a machine of several, which only a network joins; 0 where there is one unit, or where one has
    more than PART_CHIPS."""
    unit = max((level.devices for level in system.levels if not level.is_network), default=1)
    return unit if unit < system.chips and unit <= PART_CHIPS else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkNumbers:
    """How the links of a machine of several units are counted: level by level, unit by unit. chips: of the machine;
    units: of it; counts: level -> all of its links."""

    chips: int
    units: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, system: System) -> LinkNumbers:
        """The numbers of a machine whose units are all laid out whole."""
        unit = chips_of_unit(system)
        units = -(-system.chips // unit)
        of_two = build(replace(system, chips=2 * unit)).counts
        return cls(chips=system.chips, units=units, counts={name: n // 2 * units for name, n in of_two.items()})

    def place(self, index: int) -> tuple[str, int, int]:
        """(level, unit, number within the unit and level) of a link."""
        for level, count in self.counts.items():
            if index < count:
                return level, *divmod(index, count // self.units)
            index -= count
        raise ValueError("no such link")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """A group of chips of a machine; equal units are laid out once. graph: of the units laid out; unit: chips of each;
    count: units of the machine that each stands for; follows: (a, b) -> how many units of class a are followed by one
    of b; members: chips of the group; faults: {link of the graph: share left}; sizes: chips joined by each level of the
    machine; is_even: the group fills whole domains."""

    graph: Graph
    unit: int
    count: tuple[int, ...]
    follows: Mapping[tuple[int, int], int]
    members: Sequence[int]
    faults: Mapping[int, float]
    sizes: tuple[int, ...]
    is_even: bool

    @classmethod
    def each_its_own(cls, graph: Graph, members: Sequence[int]) -> Classes:
        """Classes in which every unit of the graph stands for itself."""
        inner = [s for s, level in zip(graph.sizes, graph.levels, strict=True) if not level.is_network]
        unit = inner[-1] if inner else 1
        order = list(dict.fromkeys(m // unit for m in members))
        ring = zip(order, order[1:] + order[:1], strict=True) if len(order) > 1 else ()
        n = len(members)
        return cls(
            graph=graph,
            unit=unit,
            count=(1,) * -(-graph.chips // unit),
            follows=dict.fromkeys(ring, 1),
            members=members,
            faults={},
            sizes=graph.sizes,
            is_even=list(members) == list(range(n)) and not any(n % s for s in graph.sizes if s < n),
        )

    def ranks(self, members: Sequence[int]) -> int:
        """Chips of the machine that members stand for."""
        return sum(self.count[m // self.unit] for m in members)


def classes(
    system: System,
    group: int,
    *,
    dead: Sequence[int] = (),
    faults: Mapping[int, float] | None = None,
    in_order: bool,
    is_even: bool,
) -> Classes:
    """The first `group` chips of a machine of several units, less dead ones. Units with a fault, a dead chip or a part
    of the group are laid out, one stands for all others, and where units exchange in_order, those beside a unit that
    differs are laid out as well.

    faults: {link of the machine, as `LinkNumbers` counts them: share left}.
    """
    unit, numbers = chips_of_unit(system), LinkNumbers.of(system)
    units = -(-group // unit)
    at = {index: numbers.place(index) for index in faults or {}}
    own = {chip // unit for chip in dead} | {of_unit for _, of_unit, _ in at.values() if of_unit < units}
    own |= {units - 1} if group % unit else set()
    own |= {(u + step) % units for u in own for step in (-1, 1)} if in_order else set()
    stands_for, count = _stand_ins(units, own)
    local = build(replace(system, chips=len(stands_for) * unit))
    graph = replace(local, unit=unit, stands_for=tuple(stands_for))
    first = dict(zip(graph.counts, np.cumsum([0, *graph.counts.values()])[:-1].tolist(), strict=True))
    each = {level: n // len(stands_for) for level, n in graph.counts.items()}
    gone = set(dead)
    members = [
        place * unit + p
        for place, real in enumerate(stands_for)
        for p in range(unit)
        if count[place] and real * unit + p < group and real * unit + p not in gone
    ]
    return Classes(
        graph=graph,
        unit=unit,
        count=count,
        follows=_follows(units, sorted(own), {m // unit for m in members}),
        members=members,
        faults={
            first[level] + stands_for.index(of_unit) * each[level] + number: (faults or {})[index]
            for index, (level, of_unit, number) in at.items()
            if of_unit < units
        },
        sizes=joined_by(system),
        is_even=is_even,
    )


def _stand_ins(units: int, own: set[int]) -> tuple[list[int], tuple[int, ...]]:
    """Units that are laid out, and how many units each stands for: own ones for themselves, then one for all others,
    and an idle one where that is alone, so that the network exists."""
    stands_for, count = sorted(own), [1] * len(own)
    if others := units - len(own):
        stands_for.append(next(u for u in range(units) if u not in own))
        count.append(others)
    return (stands_for, tuple(count)) if len(stands_for) > 1 else (stands_for * 2, (*count, 0))


def _follows(units: int, own: Sequence[int], used: set[int]) -> dict[tuple[int, int], int]:
    """(a, b) -> units of class a that are followed by one of class b, round all units that have members. own: units of
    classes of their own, in order; all others are of the class behind theirs; used: classes that have members."""
    rest = len(own)
    ring = [(real, at) for at, real in enumerate(own) if at in used]
    out: Counter[tuple[int, int]] = Counter()
    if not ring:
        return {(rest, rest): units} if units > 1 else {}
    for (real, a), (after, b) in zip(ring, ring[1:] + ring[:1], strict=True):
        span = (after - real - 1) % units if after != real else units - 1
        between = span - sum(1 for other in own if 0 < (other - real) % units <= span)
        steps = [a, *([rest] if between else []), b]
        out.update(pairwise(steps))
        if between > 1:
            out[rest, rest] += between - 1
    out.pop((ring[0][1], ring[0][1]), None)  # a lone unit has no follower
    return dict(out)


def laid_out(system: System, group: int, kind: str = "all-reduce") -> System:
    """The machine, or the part of it that is laid out link by link for a collective of its first `group` chips.

    A domain of direct links or of a torus is laid out as a whole, even where the job has only some of its chips. Of a
    too large machine, the unit that holds the group is laid out, else as many whole units as PART_CHIPS holds, at least
    one (of a torus a slice): all units are equal, and a machine is as slow as its faulty part.

    >>> from mowich.facts import load_facts
    >>> from mowich.machines.system import resolve
    >>> from mowich.machines.topology import per_chip
    >>> laid_out(per_chip(resolve(load_facts(), "trn3:128")), 128).chips  # of two racks of 72
    144
    """
    unit, chips = system.chips_per_unit, system.chips
    most = PART_CHIPS if kind == "all-to-all" else MAX_CHIPS
    if chips > most:
        chips = unit if group <= unit <= most else max(1, PART_CHIPS // unit) * unit
        is_torus = any(level.axes and level.devices == unit for level in system.levels)
        chips = PART_CHIPS if is_torus and chips > most else chips
    below = 1
    for level in system.levels:
        joins = chips if level.is_network else min(level.devices, chips)
        if joins > below and (level.axes or level.kind == "links"):
            grain = level.devices if chips > level.devices else below
            chips = -(-chips // grain) * grain
        below = max(below, joins)
    return replace(system, chips=chips)


def damage(graph: Graph, faults: Mapping[int, float]) -> Floats:
    """Capacities with some physical links at a share of their bandwidth: {index: share}, 0 for a link that failed.

    Raises UserError for a link that does not exist or a share outside 0..1.
    """
    out = graph.capacity_Bps.copy()
    for index, share in faults.items():
        _check_fault(index, share, len(graph.links))
        link = graph.links[index]
        parts = sum(1 for other in graph.links if other.ends == link.ends) if link.share == 1.0 else 1
        for end in link.ends:
            out[end] -= graph.capacity_Bps[end] * link.share / max(1, parts) * (1.0 - share)
    out[out < 1e-6 * graph.capacity_Bps] = 0.0
    return out


def _check_fault(index: int, share: float, links: int) -> None:
    if not 0 <= index < links:
        raise UserError("no such link", field="fail", given=f"link:{index}", allowed=f"link:0 to link:{links - 1}")
    if not 0.0 <= share <= 1.0:
        raise UserError("the share of a link's bandwidth that is left lies between 0 and 1", field="fail", given=share)


def parse_fault(graph: Graph | LinkNumbers, text: str) -> tuple[str, int, float]:
    """ "link:3", "link:rack:7", "link:3=0.5", "chip:5" -> (link or chip, index, share left)."""
    counts = graph.counts
    body, _, left = text.partition("=")
    words = body.split(":")
    try:
        share = float(left) if left else 0.0
        index = int(words[-1])
    except ValueError:
        index, share = -1, 0.0
    if words[0] == "chip" and len(words) == 2 and 0 <= index < graph.chips:
        return "chip", index, 0.0
    if words[0] == "link" and len(words) in (2, 3) and index >= 0:
        if len(words) == 3:
            names = list(counts)
            if words[1] not in names:
                raise UserError(
                    "unknown level", field="fail", given=words[1], allowed=names, fix=did_you_mean(words[1], names)
                )
            if index >= counts[words[1]]:
                raise UserError(
                    "no such link",
                    field="fail",
                    given=text,
                    allowed=f"link:{words[1]}:0 to link:{words[1]}:{counts[words[1]] - 1}",
                )
            index += sum(counts[name] for name in names[: names.index(words[1])])
        _check_fault(index, share, sum(counts.values()))
        return "link", index, share
    raise UserError(
        "not a fault",
        field="fail",
        given=text,
        allowed=(
            f"link:N (0 to {sum(counts.values()) - 1}), link:LEVEL:N, either with =SHARE left, or chip:N (0 to"
            f" {graph.chips - 1})"
        ),
    )


class Routes:
    """Paths between chips, made once per pair. A pair goes over the innermost level that joins both; where that level
    has direct links only, half of the bytes change the inner position first and half last; a torus is walked axis by
    axis, halves both ways round where they are equally far. A path over a dead link is replaced by a shortest living
    one. whole: routes of the undamaged machine, if they are at hand."""

    def __init__(self, graph: Graph, capacity_Bps: Floats, whole: Routes | None = None) -> None:
        self._graph = graph
        self._alive = capacity_Bps > 0.0
        self._known: dict[tuple[int, int], list[tuple[float, LinkPath]]] = {}
        self._all_alive = bool(self._alive.all())
        self._dead = frozenset(int(e) for e in np.nonzero(~self._alive)[0])
        self._base = whole
        self._out: dict[int, list[int]] = {}

    def __call__(self, u: int, v: int) -> list[tuple[float, LinkPath]]:
        """[(share of the bytes, directed links)] from chip u to chip v; shares sum to 1. Raises UserError where no path
        is left."""
        found = self._known.get((u, v))
        if found is None:
            found = self._base(u, v) if self._base is not None else self._whole(u, v)
            if not self._all_alive:
                found = [(s, p if self._dead.isdisjoint(p) else self._around(u, v)) for s, p in found]
            self._known[u, v] = found
        return found

    def to_copy(self, u: int, v: int) -> list[tuple[float, LinkPath]]:
        """Like a call, but over the network to chip v of another unit equal to u's."""
        node = self._graph.switch_of[len(self._graph.sizes) - 1, 0]
        return [(1.0, (self._graph.of[u, node], self._graph.of[node, v]))]

    def chip_of(self, edge: int) -> int:
        """A chip at an end of a directed link."""
        tail = int(self._graph.tail[edge])
        return tail if tail < self._graph.chips else int(self._graph.head[edge])

    def _whole(self, u: int, v: int) -> list[tuple[float, LinkPath]]:
        if u == v:
            return [(1.0, ())]
        g = self._graph
        at = next(i for i, size in enumerate(g.sizes) if u // size == v // size)
        level, below = g.levels[at], (g.sizes[at - 1] if at else 1)
        if not level.axes and level.kind != "links":
            node = g.switch_of[at, u // g.sizes[at]]
            return [(1.0, (g.of[u, node], g.of[node, v]))]
        near = u - u % below + v % below  # v's inner position, on u's side
        far = v - v % below + u % below
        if near == u:
            return self._direct(at, u, v)
        first = [(s * t, p + q) for s, p in self._whole(u, near) for t, q in self._direct(at, near, v)]
        last = [(s * t, p + q) for s, p in self._direct(at, u, far) for t, q in self._whole(far, v)]
        return [(s / 2.0, p) for s, p in first + last]

    def _direct(self, at: int, u: int, v: int) -> list[tuple[float, LinkPath]]:
        g = self._graph
        level, below, size = g.levels[at], (g.sizes[at - 1] if at else 1), g.sizes[at]
        if not level.axes:
            return [(1.0, (g.of[u, v],))]
        sides = _torus_sides(level, size // below)
        ways: list[tuple[float, tuple[int, ...]]] = [(1.0, (u,))]
        for axis, side in enumerate(sides):
            step = int(np.prod(sides[:axis]))
            a, b = (u % size) // below // step % side, (v % size) // below // step % side
            if a == b:
                continue
            closed = side >= level.wrap_from
            up, down = ((b - a) % side, (a - b) % side) if closed else ((b - a, 0) if b > a else (0, a - b))
            turns = (
                [(0.5, 1, up), (0.5, -1, down)]
                if closed and up == down
                else [(1.0, 1, up)]
                if up and (not closed or up < down)
                else [(1.0, -1, down)]
            )
            grown = []
            for share, path in ways:
                for part, sign, count in turns:
                    walk = list(path)
                    for _ in range(count):
                        c = walk[-1]
                        here = (c % size) // below // step % side
                        walk.append(c + ((here + sign) % side - here) * step * below)
                    grown.append((share * part, tuple(walk)))
            ways = grown
        return [(share, tuple(g.of[x, y] for x, y in pairwise(w))) for share, w in ways]

    def _around(self, u: int, v: int) -> LinkPath:
        g = self._graph
        if not self._out:
            for e in range(len(g.tail)):
                if self._alive[e]:
                    self._out.setdefault(int(g.tail[e]), []).append(e)
        came: dict[int, int] = {u: -1}
        queue = deque([u])
        while queue:
            node = queue.popleft()
            if node == v:
                break
            for e in self._out.get(node, ()):
                nxt = int(g.head[e])
                if nxt not in came:
                    came[nxt] = e
                    queue.append(nxt)
        if v not in came:
            raise UserError(f"no path is left from chip {u} to chip {v}", field="fail", fix="leave fewer links out")
        path: list[int] = []
        while v != u:
            path.append(came[v])
            v = int(g.tail[came[v]])
        return tuple(reversed(path))
