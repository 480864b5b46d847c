"""When each instruction runs: a trace replayed through in-order engines, DMA queues, one DMA issuer, 16 DMA engines and the memories.

Rules. An instruction is ready when those that it waits for are done: `end + latency`, and a semaphore where the engines differ. An
engine or DMA queue takes, among the next `window` instructions of its program order, the first that is ready (window 1: strictly in
order). A DMA first holds the core's issuer, then its bytes follow `first_byte` later, each DMA engine first in, first out. Tiles without
an address of their own rotate through SBUF and PSUM: a new one takes the bytes that were freed longest ago, and waits for their last
users. Everything is integer arithmetic in time order: the same trace gives the same times everywhere.
"""

from __future__ import annotations

import gc
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from mowich.neuroncore.buffers import POLICIES, WORTH, Policy, Residency, Rotation, columns
from mowich.neuroncore.core import limits
from mowich.neuroncore.costs import COLLECTIVE, GPSIMD, LOAD, PS, QUEUES, SCALAR, STORE, TENSOR, Cost, Costs
from mowich.neuroncore.depend import Box, Dependencies
from mowich.neuroncore.lower import balanced, lowered
from mowich.neuroncore.trace import Allocation, Trace

READ, DATA, BUFFER, WEIGHTS = range(4)
"""Kinds of edges: the other has to be done reading; its result is needed; its memory is reused; its result is the stationary tile."""
NEEDED = (DATA, WEIGHTS)
START, ENGINE, ISSUER, DMA, MEMORY, PORT = range(4, 10)
"""What else can decide the time of an instruction: nothing before it; its engine; the DMA issuer; the DMA engines; HBM; a port."""
NEVER = 1 << 62
NOBODY = [-1] * len(QUEUES)
PIECES = 64
"""Most parts of a tile that live and die on their own."""
CAUSES = ("done reading", "result", "buffer", "weights", "start", "engine", "DMA issuer", "DMA engines", "HBM", "port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to schedule. window: instructions that an engine or queue may look ahead, None: the fact; 1: in order,
    with one queue for all DMA. rotate: tiles without
    an address share the memory's bytes; False: each has bytes of its own. throttle: the Tensor Engine starts at half rate where its
    generation does. optimise: leave out what the compiler leaves out (`lower`). active_cores: cores of the chip that use HBM at the same time, None: the cores simulated."""

    window: int | None = None
    rotate: bool = True
    throttle: bool = True
    optimise: bool = True
    active_cores: int | None = None


@dataclass(slots=True)
class Program:
    """One core's instructions, ready to be scheduled. usage: pairs of (instruction before which it changes, bytes of a partition in
    use), by memory; origin: index in the trace, -1 for those added; -1 - storage of a spill
    or reload; edges: 4 * predecessor + kind; overflow_B: bytes of a partition that did not fit; spill_B: bytes stored and loaded for that; meetings: where
    an instruction waits for the other cores that come to the same meeting."""

    trace: Trace
    costs: list[Cost] = field(default_factory=list)
    cost: array[int] = field(default_factory=lambda: array("i"))
    origin: array[int] = field(default_factory=lambda: array("q"))
    first: array[int] = field(default_factory=lambda: array("q"))
    edges: array[int] = field(default_factory=lambda: array("q"))
    peak: dict[str, int] = field(default_factory=dict)
    usage: dict[str, array[int]] = field(default_factory=dict)
    meetings: dict[int, tuple[Any, tuple[int, ...]]] = field(default_factory=dict)
    overflow_B: int = 0
    spill_B: int = 0


class _Maker:
    """Turns a trace into a program, one instruction after the other."""

    def __init__(self, trace: Trace, costs: Costs, options: Options, policy: Policy | None) -> None:
        self.trace, self.costs, self.options, self.policy = trace, costs, options, policy
        self.p = Program(trace)
        self.kinds = [(costs.of(k), len(k.reads), len(k.reads) + len(k.writes)) for k in trace.kinds]
        self.uses: dict[int, list[int]] = {}
        self.users: dict[int, list[int]] = {}
        self.reload: dict[int, int] = {}
        self.table, self.table_load, self.table_cost = "", -1, -1
        self.table_users: list[int] = []
        self.cost_index: dict[int, int] = {}
        self.spill_cost: dict[tuple[int, int, bool], int] = {}
        storages = trace.storages
        self.placed = {n: a.space for n, a in storages.items() if a.address is not None}
        writes: dict[Any, int] = {}
        touched = trace.touched
        self.start = array("q")
        self.rows = [(cost, cost.queue, nr, nt) for cost, nr, nt in self.kinds]
        self.hbm = {n for n, a in storages.items() if a.space == "H"}
        self.sizes: dict[tuple[int, int], int] = {}
        self.special = bool(trace.edges or trace.meetings or trace.in_order)
        self.deps = Dependencies(trace, writes)
        self.room = limits(costs.generation)
        self.pieces: dict[int, Sequence[int]] = {}
        self.split = {
            n for n, a in storages.items() if a.space == "P" and a.address is None and a.row_B > self.room.psum_bank_B
        }
        kind = np.frombuffer(trace.kind, np.int32) if len(trace.kind) else np.zeros(0, np.int32)
        reads, count = (np.asarray([row[c] for row in self.rows] or [0], np.int64)[kind] for c in (2, 3))
        self.start.frombytes((2 * (np.cumsum(count) - count)).astype(np.int64).tobytes())
        numbers, patterns = (
            np.frombuffer(touched, np.int64)[c::2] if len(touched) else np.zeros(0, np.int64) for c in (0, 1)
        )
        whose = np.repeat(np.arange(len(kind)), count)
        written = np.arange(len(numbers)) - np.repeat(np.cumsum(count) - count, count) >= np.repeat(reads, count)
        loads = np.asarray([cost.queue == LOAD and cost.hbm_read_B > 0 for cost, _, _ in self.kinds] or [False])[kind]
        # of repeated keys, a dict keeps the last: the last use of each tile
        last = self.last_use = dict(zip((numbers * PIECES).tolist(), whose.tolist(), strict=True))
        if self.split:
            for j in np.flatnonzero(np.isin(numbers, np.fromiter(self.split, np.int64))).tolist():
                for unit in self._units(int(numbers[j]), int(patterns[j])):
                    last[unit] = int(whose[j])
        for number, times in zip(*(x.tolist() for x in np.unique(numbers[written], return_counts=True)), strict=True):
            store = self.placed.get(number, number)
            writes[store] = writes.get(store, 0) + times
        dirty = set(np.unique(numbers[written & ~np.repeat(loads, count)]).tolist())
        self.never_written = {n for n, a in storages.items() if a.space == "H" and n not in writes}
        self.arena: dict[tuple[int, int], Box] = {}
        self.rotation = {"S": Rotation(self.room.sbuf_usable_B), "P": Rotation(self.room.psum_B)}
        self.live = {"S": 0, "P": 0}
        self.p.usage = {"S": array("q"), "P": array("q")}
        self.explicit = _explicit(trace)
        self.in_order = set(trace.in_order)
        self.ordered: dict[int, int] = {}
        window = int(options.window or costs.number("model.window")) if trace.meetings else 0
        self.recent: list[deque[int]] = [deque(maxlen=window) for _ in QUEUES]
        self.place_of = array("q", bytes(8 * len(trace.kind)))
        self.residency: Residency | None = None
        self.pending: dict[int, list[int]] = {}
        if policy is not None:
            for i, k in enumerate(trace.kind):
                at = self.start[i]
                for j in range(at, at + 2 * self.kinds[k][2], 2):
                    self.uses.setdefault(touched[j], []).append(i)
            auto = [a for a in storages.values() if a.space == "S" and a.address is None]
            self.loaded = {a.number for a in auto if a.number not in dirty}
            self.residency = Residency(
                rotation=self.rotation["S"], policy=policy, uses=self.uses, sizes={a.number: columns(a) for a in auto},
                loaded=set(self.loaded), emit_store=self._spill, emit_load=self._fill, room=self.room.sbuf_usable_B,
            )  # fmt: skip

    def _units(self, number: int, pattern: int) -> Sequence[int]:
        """What of a tile lives and dies on its own: banks of PSUM, otherwise the tile."""
        pieces = self.pieces.get(pattern)
        if pieces is None:
            a = self.trace.storages[number]
            row, bank = max(a.row_B, 1), self.room.psum_bank_B
            inner = self.deps.box_of(pattern)[2]
            low, high = (0, row - 1) if inner is None else _row_range(inner, a)
            pieces = self.pieces[pattern] = range(low // bank, min(high, row - 1) // bank + 1)
        return [number * PIECES + p for p in pieces]

    def _size(self, unit: int) -> int:
        a = self.trace.storages[unit // PIECES]
        if unit // PIECES not in self.split:
            key = (a.row_B, a.parts)
            size = self.sizes.get(key)
            if size is None:
                size = self.sizes[key] = columns(a)
            return size
        bank = self.room.psum_bank_B
        return max(1, min(bank, a.row_B - bank * (unit % PIECES)) * -(-a.parts // 32) // 4)

    def make(self) -> Program:
        """The whole program."""
        sink = self.policy is not None and self.policy.sink
        self.add = add = self._adder()
        for i in range(len(self.trace.kind)):
            if sink and self._delayed(i):
                continue
            add(i)
        for waiting in self.pending.values():
            for i in waiting:
                add(i)
        self.p.first.append(len(self.p.edges))
        self.p.peak = {s: max(u[1::2], default=0) for s, u in self.p.usage.items()}
        return self.p

    def _delayed(self, i: int) -> bool:
        """Hold a load from an unwritten tensor back until its tile is first read, and release the ones that this instruction reads."""
        cost, nr, nt = self.kinds[self.trace.kind[i]]
        at, touched = self.start[i], self.trace.touched
        target = touched[at + 2 * nr] if nt > nr else -1
        loads = cost.queue == LOAD and all(touched[j] in self.never_written for j in range(at, at + 2 * nr, 2))
        if (
            nt - nr == 1
            and target * PIECES not in self.users
            and ((loads and target in self.loaded) or cost.opcode == "memset")
        ):
            self.pending.setdefault(target, []).append(i)
            return True
        for j in range(at, at + 2 * nt, 2):
            for held in self.pending.pop(touched[j], ()):
                self.add(held)
        return False

    def _append(self, cost: int, origin: int, edges: list[int]) -> int:
        p = self.p
        p.cost.append(cost)
        p.origin.append(origin)
        p.first.append(len(p.edges))
        p.edges.extend(dict.fromkeys(edges) if len(edges) > 1 else edges)
        return len(p.cost) - 1

    def _cost(self, cost: Cost) -> int:
        self.p.costs.append(cost)
        return len(self.p.costs) - 1

    def _moves(self, number: int, is_load: bool) -> int:
        a = self.trace.storages[number]
        key = (a.parts, a.row_B, is_load)
        found = self.spill_cost.get(key)
        if found is None:
            found = self.spill_cost[key] = self._cost(self.costs.spill(a.parts, a.row_B, is_load))
        self.p.spill_B += a.parts * a.row_B
        return found

    def _spill(self, number: int, users: tuple[int, ...]) -> int:
        return self._append(self._moves(number, False), -1 - number, [4 * u + DATA for u in users])

    def _fill(self, number: int, after: tuple[int, ...]) -> int:
        me = self._append(self._moves(number, True), -1 - number, [4 * u + BUFFER for u in after])
        self.reload[number] = me
        self.users[number * PIECES] = [-1] * len(QUEUES)
        self.users[number * PIECES][LOAD] = me
        return me

    def _users_of(self, number: int) -> tuple[int, ...]:
        return tuple(u for u in self.users[number * PIECES] if u >= 0)

    def _load_table(self, function: str) -> None:
        """The Scalar Engine loads the table of a function after all users of the one before."""
        if self.table_cost < 0:
            time = self.costs.ps("scalar_engine.table_load")
            self.table_cost = self._cost(
                Cost(queue=SCALAR, occupancy=time, parts={"scalar_engine.table_load": time}, opcode="act_table_load")
            )
        self.table_load = self._append(self.table_cost, -1, [4 * g + READ for g in self.table_users])
        self.table_users = []
        self.table = function

    def _adder(self) -> Callable[[int], None]:
        """The function that adds one instruction. Its tables are local to it: it runs once for each of up to 10^7 instructions."""
        trace, p, deps = self.trace, self.p, self.deps
        rows, start, kind, touched, meetings = self.rows, self.start, trace.kind, trace.touched, trace.meetings
        users, split, hbm, placed, last = self.users, self.split, self.hbm, self.placed, self.last_use
        boxes, read, write = deps.boxes, deps.read, deps.write
        cost_index, place_of = self.cost_index, self.place_of
        costs_of, origins, firsts, all_edges = p.cost, p.origin, p.first, p.edges
        in_memory, special = self.residency is not None, self.special

        def add(i: int) -> None:
            k = kind[i]
            cost, q, nr, nt = rows[k]
            if q == COLLECTIVE and i in meetings:
                cost = self.costs.of(trace.kinds[k], len(meetings[i][1]))
                k = -1 - len(meetings[i][1]) * len(trace.kinds) - k
            at = start[i]
            end = at + 2 * nt
            if q == SCALAR and cost.table and cost.table != self.table:
                self._load_table(cost.table)
            edges: list[int] = []
            born: list[int] = []
            units: list[int] = []
            for j in range(at, end, 2):
                number = touched[j]
                if number in hbm:
                    continue
                if number in split:
                    units += self._units(number, touched[j + 1])
                else:
                    units.append(number * PIECES)
            for unit in units:
                if unit not in users:
                    users[unit] = NOBODY[:]
                    born.append(unit)
            if in_memory:
                self._reside(i, units, born, edges)
            me = len(costs_of)
            place_of[i] = me
            out: list[int] = []
            reading = at + 2 * nr
            for j in range(at, end, 2):
                number, pattern = touched[j], touched[j + 1]
                box = boxes[pattern] or deps.box_of(pattern)
                store: Any = number
                if number in placed:
                    store, box = placed[number], _arena_box(deps, self.arena, trace.storages[number], pattern)
                if j >= reading:
                    write(me, store, box, out)
                else:
                    read(me, store, box, out)
                    if j == at and q == TENSOR and nr > 1 and out:
                        edges += [4 * (e >> 1) + WEIGHTS for e in out]
                        out = []
            for e in out:
                if e >> 1 != me:
                    edges.append(4 * (e >> 1) + (e & 1))
            if special:
                self._order(i, me, q, edges)
            for unit in born:
                self._born(unit, me, edges)
            for unit in units:
                mine = users.get(unit)
                if mine is not None:
                    mine[q] = me
                    if last[unit] == i:
                        self._free(unit, me)
            if q == SCALAR and cost.table:
                self.table_users.append(me)
                edges.append(4 * self.table_load + READ)
            found = cost_index.get(k)
            if found is None:
                found = cost_index[k] = self._cost(cost)
            costs_of.append(found)
            origins.append(i)
            firsts.append(len(all_edges))
            if len(edges) > 1:
                all_edges.extend(dict.fromkeys(edges))
            elif edges:
                all_edges.append(edges[0])

        return add

    def _reside(self, i: int, units: list[int], born: list[int], edges: list[int]) -> None:
        """With more live tiles than SBUF holds: bring back what the instruction touches, and make room for what it creates."""
        residency = self.residency
        assert residency is not None
        trace = self.trace
        cost, q, nr, nt = self.rows[trace.kind[i]]
        mine = {u // PIECES: None for u in units if u // PIECES in residency.sizes}
        residency.need(mine, i, self._users_of)
        for number in mine:
            if number in self.reload:
                edges.append(4 * self.reload[number] + DATA)
            if number * PIECES in born:
                edges += [4 * u + BUFFER for u in residency.born(number, i, mine, self._users_of)]
        at = self.start[i]
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            if trace.touched[j] in residency.sizes:
                residency.written(trace.touched[j], q == LOAD and cost.hbm_read_B > 0)

    def _order(self, i: int, me: int, q: int, edges: list[int]) -> None:
        """What `depends_on`, `no_reorder` and meetings of cores add."""
        trace = self.trace
        if i in self.explicit:
            edges += [4 * self.place_of[b] + DATA for b in self.explicit[i]]
        if i in trace.meetings:
            self.p.meetings[me] = trace.meetings[i]
            edges += [4 * b + READ for b in self.recent[q]]
        self.recent[q].append(me)
        if i in self.in_order:
            if q in self.ordered:
                edges.append(4 * self.ordered[q] + READ)
            self.ordered[q] = me

    def _born(self, unit: int, me: int, edges: list[int]) -> None:
        """A tile comes to life: bytes for it, and whom it waits for."""
        a = self.trace.storages[unit // PIECES]
        space = a.space
        size = self._size(unit)
        level = self.live[space] = self.live[space] + size
        usage = self.p.usage[space]
        usage.append(me)
        usage.append(level)
        if a.address is None and self.options.rotate and (self.residency is None or space == "P"):
            old: list[int] = []
            missing = self.rotation[space].take(size, old)
            if missing and space == "S":
                self.p.overflow_B += missing
            for u in old:
                edges.append(4 * u + BUFFER)

    def _free(self, unit: int, me: int) -> None:
        number = unit // PIECES
        a = self.trace.storages[number]
        space = a.space
        size = self._size(unit)
        level = self.live[space] = self.live[space] - size
        usage = self.p.usage[space]
        usage.append(me + 1)
        usage.append(level)
        who = tuple([u for u in self.users.pop(unit) if u >= 0])
        if self.residency is not None and number in self.residency.sizes:
            self.residency.dead(number, who)
        elif a.address is None and self.options.rotate:
            self.rotation[space].give(size, who)


def _row_range(ranges: tuple[tuple[int, int, int], ...], a: Allocation) -> tuple[int, int]:
    """First and last byte of a partition that a box touches."""
    pitch, low, high = max(a.row_B, 1), 0, 0
    for (first, last, _), n in zip(ranges[1:], (*a.shape[1:-1], a.shape[-1] * a.itemsize), strict=True):
        pitch //= n
        low, high = low + first * pitch, high + last * pitch
    return low, high


def _explicit(trace: Trace) -> dict[int, list[int]]:
    """What `depends_on` adds: index -> indices that come first."""
    out: dict[int, list[int]] = {}
    at = {n: i for i, n in enumerate(trace.number)} if trace.edges else {}
    for before, after in trace.edges:
        if before in at and after in at and at[before] < at[after]:
            out.setdefault(at[after], []).append(at[before])
    return out


def prepare(trace: Trace, costs: Costs, options: Options, policy: Policy | None = None) -> Program:
    """A trace with its costs, its dependencies, the loads of activation tables and, with a policy, spills and reloads."""
    with _no_collection():
        return _Maker(trace, costs, options, policy).make()


@contextmanager
def _no_collection() -> Iterator[None]:
    """The many small tuples made here form no cycles: Python need not look for them."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _arena_box(deps: Dependencies, found: dict[tuple[int, int], Box], a: Allocation, pattern: int) -> Box:
    """The bytes of a view of a tile placed by hand, in coordinates of the whole memory."""
    key = (a.number, pattern)
    b = found.get(key)
    if b is None:
        first, end, _ = deps.box_of(pattern)
        row = max(a.row_B, 1)
        part, byte = a.address or (0, 0)
        p0, p1 = first // row, (end - 1) // row
        b0, b1 = (first % row, (end - 1) % row) if p0 == p1 else (0, row - 1)
        inner = deps.box_of(pattern)[2]
        if inner is not None and p0 != p1:
            b0, b1 = _row_range(inner, a)
        wide = 1 << 20
        b = (
            (part + p0) * wide + byte + b0,
            (part + p1) * wide + byte + b1 + 1,
            ((part + p0, part + p1, 1), (byte + b0, byte + b1, 1)),
        )
        found[key] = b
    return b


@dataclass(slots=True)
class Schedule:
    """Times of all instructions, ps. begin: when an instruction takes its engine (the issuer, for a DMA); end: when its engine is free (a
    DMA: its last byte); data: when the first byte of a DMA moves; ready: when it could have begun; loading: time before `data` in which
    the Tensor Engine loads the stationary tile and does nothing else; cause, by: what decided its begin; data_cause,
    data_by: what delayed the bytes of a DMA beyond that (0: nothing)."""

    generation: int
    costs: Costs
    programs: list[Program]
    options: Options
    begin: array[int]
    data: array[int]
    end: array[int]
    ready: array[int]
    loading: array[int]
    cause: array[int]
    by: array[int]
    data_cause: array[int]
    data_by: array[int]
    core: array[int]
    offset: list[int]
    total: int
    policy: str = ""

    def cost_of(self, i: int) -> Cost:
        """Cost of instruction i of all."""
        c = self.core[i]
        p = self.programs[c]
        return p.costs[p.cost[i - self.offset[c]]]


def schedule(traces: Sequence[Trace], costs: Costs, options: Options | None = None) -> Schedule:
    """Schedule the traces of the cores of one launch together: they share HBM and meet at barriers."""
    options = options or Options()
    if options.optimise:
        bank = limits(costs.generation).psum_bank_B
        traces = [balanced(lowered(t, bank), costs) for t in traces]
    programs = [prepare(t, costs, options) for t in traces]
    if not options.rotate or not any(p.overflow_B for p in programs):
        return run(programs, costs, options)
    tried = []
    for policy in POLICIES:
        programs = [prepare(t, costs, options, policy) for t in traces]
        tried.append(run(programs, costs, options))
        tried[-1].policy = policy.name
    fewest = min(tried, key=lambda s: sum(p.spill_B for p in s.programs))
    fastest = min(tried, key=lambda s: s.total)
    return fastest if fastest.total < (1 - WORTH) * fewest.total else fewest


def hbm_Bps(costs: Costs, cores: int, active: int | None = None) -> float:
    """HBM bandwidth of `cores` cores while `active` of the chip (None: only these) use it: their share of all, and at most what their
    stacks give."""
    bandwidth, stacks = costs.number("memory.hbm_bandwidth"), costs.number("memory.stacks")
    return min(
        bandwidth / (active or cores) * cores,
        bandwidth / stacks * max(1.0, cores / (costs.number("memory.cores") / stacks)),
    )


def run(programs: list[Program], costs: Costs, options: Options) -> Schedule:
    """The event loop."""
    with _no_collection():
        return _run(programs, costs, options)


def _run(programs: list[Program], costs: Costs, options: Options) -> Schedule:
    nq = len(QUEUES)
    window = int(options.window if options.window is not None else costs.number("model.window"))
    offset: list[int] = []
    n = 0
    for p in programs:
        offset.append(n)
        n += len(p.cost)
    kinds: list[Cost] = []
    which: list[int] = []
    for p in programs:
        base = len(kinds)
        kinds += p.costs
        which += [base + c for c in p.cost] if base else list(p.cost)
    queue = [k.queue for k in kinds]
    # edges -> successors, grouped by predecessor in program order
    counts = (
        np.concatenate([np.diff(np.frombuffer(p.first, np.int64)) for p in programs]) if n else np.zeros(0, np.int64)
    )
    edges = (
        np.concatenate([np.frombuffer(p.edges, np.int64) + 4 * offset[c] for c, p in enumerate(programs)])
        if n
        else counts
    )
    waiting = counts.tolist()
    items = 4 * np.repeat(np.arange(n), counts) + (edges & 3)
    order = np.argsort(edges >> 2, kind="stable")
    after = array("q", items[order].tobytes())
    until = array(
        "q", np.concatenate([[0], np.cumsum(np.bincount(edges >> 2, minlength=n))]).astype(np.int64).tobytes()
    )
    owner = np.repeat(np.arange(len(programs), dtype=np.int32), [len(p.cost) for p in programs])
    core = array("i", owner.tobytes())
    nqueues = nq * len(programs)
    mine = owner * nq + np.asarray(queue, np.int32)[np.asarray(which, np.int64)] if n else owner
    if window == 1:
        # strictly in order: one queue for all DMA
        mine = np.where(mine % nq == STORE, mine - STORE + LOAD, mine)
    lines = [np.flatnonzero(mine == q).tolist() for q in range(nqueues)]
    line_of = mine.tolist()
    # delay of an edge beyond end: by queue of the predecessor and of the successor
    semaphore, trigger = costs.ps("sync.semaphore"), costs.ps("dma.trigger")
    step = [[0] * nq for _ in range(nq)]
    for a in range(nq):
        for b in range(nq):
            if a == b or a in (LOAD, STORE, COLLECTIVE):
                step[a][b] = 0
            else:
                step[a][b] = trigger if b in (LOAD, STORE, COLLECTIVE) else semaphore
    begin, data, end, ready, loading = (array("q", bytes(8 * n)) for _ in range(5))
    cause, by = array("b", bytes(n)), array("q", bytes(8 * n))
    data_cause, data_by = array("b", bytes(n)), array("q", bytes(8 * n))
    wready: dict[int, int] = {}
    future: list[list[tuple[int, int]]] = [[] for _ in range(nqueues)]
    now: list[list[int]] = [[] for _ in range(nqueues)]
    inside = bytearray(n)
    entered = [0] * nqueues
    free = [0] * nqueues
    holder = [-1] * nqueues
    ready_cause, ready_by = array("b", [START]) * n, array("q", [-1]) * n

    meeting_of: dict[int, Any] = {}
    absent: dict[Any, int] = {}
    arrived: dict[Any, list[tuple[int, int]]] = {}
    for c, p in enumerate(programs):
        for i, (key, _) in p.meetings.items():
            meeting_of[offset[c] + i] = key
            absent[key] = absent.get(key, 0) + 1
    fenced = [False] * nqueues

    def enter(q: int) -> None:
        if fenced[q]:
            return
        line = lines[q]
        at = entered[q]
        if at < len(line):
            i = line[at]
            entered[q] = at + 1
            inside[i] = 1
            fenced[q] = i in meeting_of
            if waiting[i] == 0:
                heappush(future[q], (ready[i], i))

    for q in range(nqueues):
        for _ in range(window):
            enter(q)
    ncores = len(programs)
    issuer = [0] * ncores
    issuer_by = [-1] * ncores
    ndma = int(costs.number("dma.engines"))
    engines = [[0] * ndma for _ in range(ncores)]
    engine_by = [[-1] * ndma for _ in range(ncores)]
    ports: list[dict[str, tuple[int, int]]] = [{} for _ in range(ncores)]
    hbm_free, hbm_by = 0, -1
    ps_per_KB = round(1024 / hbm_Bps(costs, ncores, options.active_cores) * PS)
    last_pe = [-1] * ncores
    groups = [[0] * 16 for _ in range(ncores)]
    tiled = [any(k.groups for k in p.costs) for p in programs]
    tile_issue = costs.cycles("tensor", costs.number("tensor_engine.tile_issue"))
    chip_cores = int(costs.number("memory.cores"))
    if ncores > chip_cores:
        # ranks on several chips: each chip has HBM of its own
        ps_per_KB = round(1024 / hbm_Bps(costs, chip_cores, options.active_cores) * PS)
    hbm = [(hbm_free, hbm_by)] * -(-ncores // chip_cores)
    period = [0] * ncores
    idle_since = [-(10**15)] * ncores
    slow = options.throttle and costs.generation >= 3
    ramp = costs.ps("tensor_engine.throttle_window") if slow else 0
    left = n
    while left:
        best, chosen, from_now = -1, -1, False
        for q in range(nqueues):
            f = future[q]
            ready_now = now[q]
            t = free[q]
            if q % nq in (LOAD, STORE):
                t = max(t, issuer[q // nq])
            while f and f[0][0] <= t:
                heappush(ready_now, heappop(f)[1])
            if ready_now:
                if best < 0 or t < best or (t == best and from_now and ready_now[0] < now[chosen][0]):
                    best, chosen, from_now = t, q, True
            elif f and (best < 0 or f[0][0] < best):
                best, chosen, from_now = f[0][0], q, False
        q = chosen
        i = heappop(now[q]) if from_now else heappop(future[q])[1]
        if i in meeting_of:
            # wait for the others, then all go on at once
            key = meeting_of[i]
            absent[key] -= 1
            arrived.setdefault(key, []).append((q, i))
            free[q] = NEVER
            if absent[key]:
                continue
            for other, j in arrived.pop(key):
                free[other] = best
                del meeting_of[j]
                if j != i:
                    ready[j], ready_cause[j], ready_by[j] = best, READ, i
                heappush(now[other], j)
            continue
        k = kinds[which[i]]
        own = q % nq
        c = q // nq
        left -= 1
        if own in (LOAD, STORE):
            s = best
            at_issuer = issuer[c]
            if k.table == "swdge":
                g = c * nq + GPSIMD
                s = max(s, free[g])
                free[g] = s + k.issue
            if s == ready[i] or at_issuer < s:
                cause[i], by[i] = ready_cause[i], ready_by[i]
            else:
                cause[i], by[i] = ISSUER, issuer_by[c]
            if k.table != "swdge":
                issuer[c] = s + k.issue
                issuer_by[c] = i
            free[q] = s + k.issue
            arrive = s + k.issue + k.first_byte
            moving, finish = -1, arrive
            es, ebs = engines[c], engine_by[c]
            late, late_by = 0, -1
            for e, t in enumerate(k.transfer):
                if t:
                    go = es[e]
                    if go < arrive:
                        go = arrive
                    elif go > late:
                        late, late_by = go, ebs[e]
                    if moving < 0 or go < moving:
                        moving = go
                    go += t
                    es[e] = go
                    ebs[e] = i
                    if go > finish:
                        finish = go
            moved = k.hbm_read_B + k.hbm_write_B
            if moved:
                busy_until, who = hbm[c // chip_cores]
                busy_until = max(busy_until, arrive) + moved * ps_per_KB // 1024
                hbm[c // chip_cores] = (busy_until, i)
                if busy_until > finish:
                    finish = busy_until
                    data_cause[i], data_by[i] = MEMORY, who
            if late > arrive and data_cause[i] != MEMORY:
                data_cause[i], data_by[i] = DMA, late_by
            begin[i], data[i], end[i] = s, max(moving, arrive), finish
            after_data = finish + k.latency
            after_read = after_data
        else:
            s = best
            if own == TENSOR and tiled[c] and not k.groups:
                s = max(s, max(groups[c]))
            held = s
            alone = 0
            if own == TENSOR:
                w = wready.get(i, 0)
                lp = last_pe[c]
                s = max(s, w + k.weights)
                if lp >= 0:
                    s = max(s, begin[lp] + k.load)
                if lp < 0 or w > begin[lp]:
                    # not behind the matmul before: the engine loads the stationary tile and does nothing else
                    held = max(w, held) if w + k.weights > best else held
                    alone = min(k.weights, s - max(w, free[q]))
                if s > best:
                    cause[i], by[i] = WEIGHTS, ready_by[i] if w else lp
            for port in k.ports:
                t, who = ports[c].get(port, (0, -1))
                if t > s:
                    s = t
                    cause[i], by[i] = PORT, who
            if s == best:
                if ready[i] < s or ready_by[i] < 0:
                    cause[i], by[i] = (ENGINE, holder[q]) if holder[q] >= 0 and free[q] == s else (START, -1)
                else:
                    cause[i], by[i] = ready_cause[i], ready_by[i]
            occupancy = k.occupancy
            if own == TENSOR:
                if k.groups:
                    held_groups = groups[c]
                    for g in k.groups:
                        if held_groups[g] > s:
                            s = held_groups[g]
                    held = max(held, s)
                if slow:
                    if s - idle_since[c] > ramp // 2:
                        period[c] = s
                    age = s - period[c]
                    if age < ramp:
                        rest = ramp - age
                        occupancy = 2 * occupancy if 2 * occupancy <= rest else rest + occupancy - rest // 2
                    idle_since[c] = s + occupancy
                begin[i], data[i] = held, s
                loading[i] = max(alone, s - held)
                last_pe[c] = i
            else:
                begin[i] = data[i] = s
            finish = s + occupancy
            end[i] = finish
            free[q] = finish
            if k.groups:
                free[q] = min(finish, s + tile_issue)
                for g in k.groups:
                    groups[c][g] = finish
            elif own == TENSOR and tiled[c]:
                groups[c] = [finish] * 16
            for port in k.ports:
                ports[c][port] = (finish, i)
            after_data = finish + k.latency
            after_read = finish
        holder[q] = i
        if fenced[q]:
            fenced[q] = False
            for _ in range(window):
                enter(q)
        else:
            enter(q)
        first, last = until[i], until[i + 1]
        if first != last:
            row = step[own]
            for item in after[first:last]:
                j = item >> 2
                kind = item & 3
                line = line_of[j]
                qj = line % nq if ncores > 1 else line
                if kind in NEEDED:
                    t = (finish if own == TENSOR and qj == TENSOR else after_data) + row[qj]
                    if kind == WEIGHTS and t > wready.get(j, 0):
                        wready[j] = t
                else:
                    t = after_read + row[qj]
                if t > ready[j]:
                    ready[j] = t
                    ready_cause[j] = kind
                    ready_by[j] = i
                left_to_wait = waiting[j] - 1
                waiting[j] = left_to_wait
                if left_to_wait == 0 and inside[j]:
                    heappush(future[line], (ready[j], j))
    tail = np.asarray([k.latency if k.queue not in (LOAD, STORE) else 0 for k in kinds], np.int64)
    total = int((np.frombuffer(end, np.int64) + tail[np.asarray(which, np.int64)]).max()) if n else 0
    return Schedule(generation=costs.generation, costs=costs, programs=programs, options=options, begin=begin, data=data, end=end, ready=ready, loading=loading,
                    cause=cause, by=by, data_cause=data_cause, data_by=data_by, core=core, offset=offset, total=total)  # fmt: skip
