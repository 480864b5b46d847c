"""A trace made ready for the clock: the cost of each instruction, whom it waits for, where tiles live, what is added.

What is added: loads of activation tables, and spills and reloads where live tiles do not fit. An edge says what the
waiting is for: the other has to be done reading, its result, the memory that it used, or the stationary tile of a
matmul.
"""

from __future__ import annotations

import gc
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.buffers import Policy, Residency, Rotation, columns_taken
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.depend import Box, Dependencies
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, LOAD, QUEUES, SCALAR, TENSOR, Cost
from mowich.neuroncore.trace import Allocation, Meeting, Storages, Trace

READ, DATA, BUFFER, WEIGHT_BUFFER = range(4)
"""Kinds of edges: the other has to be done reading; its result is needed; its memory is reused; its result is the
stationary tile."""
NOBODY = [-1] * len(QUEUES)
PIECES = 64
"""Most parts of a tile that live and die on their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOptions:
    """How to schedule. window: instructions that an engine or queue may look ahead (None: the fact; 1: in order, with
    one queue for all DMA); rotate: tiles without an address share the memory's bytes (False: each has bytes of its
    own); throttle: the Tensor Engine starts at half rate where its generation does; optimise: leave out what the
    compiler leaves out (`lower`); active_cores: cores of the chip that use HBM at the same time (None: the cores
    simulated); dge: descriptors are made while the kernel runs (False: before the launch, as with the compiler's
    --disable-dge; None: as the kernel asks); older: the kernel is written in the older interface, whose kernels are
    timed less surely."""

    window: int | None = None
    rotate: bool = True
    throttle: bool = True
    optimise: bool = True
    active_cores: int | None = None
    dge: bool | None = None
    older: bool = False


@dataclass(slots=True)
class Usage:
    """How full a memory is. before: the instruction before which it changes; level_B: bytes of a partition in use from
    there on."""

    before: array[int] = field(default_factory=lambda: array("i"))
    level_B: array[int] = field(default_factory=lambda: array("i"))

    def add(self, before: int, level_B: int) -> None:
        """The level changes before an instruction."""
        self.before.append(before)
        self.level_B.append(level_B)


class _KindRow(NamedTuple):
    """What every instruction of a kind shares. reads: operands that it reads, of `operands` in all, the written ones
    last."""

    cost: Cost
    queue: int
    reads: int
    operands: int


@dataclass(slots=True)
class Program:
    """One core's instructions, ready to be scheduled. cost: index into costs; origin: index in the trace, -1 for loads
    of tables,
    -1 - storage for spills and reloads; first: where the edges of an instruction begin; edges: 4 * predecessor + kind;
    usage: bytes of a partition in use, by memory; peak: the most of them; meetings: where an instruction waits for the
    other cores that come; overflow_B: bytes of a partition that did not fit; spill_B: bytes moved for that."""

    trace: Trace
    costs: list[Cost] = field(default_factory=list)
    cost: array[int] = field(default_factory=lambda: array("i"))
    origin: array[int] = field(default_factory=lambda: array("i"))
    first: array[int] = field(default_factory=lambda: array("i"))
    edges: array[int] = field(default_factory=lambda: array("i"))
    peak: dict[str, int] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)
    meetings: dict[int, Meeting] = field(default_factory=dict)
    overflow_B: int = 0
    spill_B: int = 0


class _Maker:
    """Turns a trace into a program, one instruction after the other."""

    def __init__(self, trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None) -> None:
        self.trace, self.costs, self.options, self.policy = trace, costs, options, policy
        self.p = Program(trace)
        made = [(costs.of(k), k) for k in trace.kinds]
        self.rows = [_KindRow(c, c.queue, len(k.reads), len(k.reads) + len(k.writes)) for c, k in made]
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
        reads = np.asarray([row.reads for row in self.rows] or [0], np.int64)[kind]
        count = np.asarray([row.operands for row in self.rows] or [0], np.int64)[kind]
        self.start.frombytes((2 * (np.cumsum(count) - count)).astype(np.int64).tobytes())
        numbers, patterns = (
            np.frombuffer(touched, np.int64)[c::2] if len(touched) else np.zeros(0, np.int64) for c in (0, 1)
        )
        whose = np.repeat(np.arange(len(kind)), count)
        written = np.arange(len(numbers)) - np.repeat(np.cumsum(count) - count, count) >= np.repeat(reads, count)
        loads = np.asarray([row.cost.hbm_read_B > 0 for row in self.rows] or [False])[kind]
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
        self.p.usage = {"S": Usage(), "P": Usage()}
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
                for j in range(at, at + 2 * self.rows[k].operands, 2):
                    self.uses.setdefault(touched[j], []).append(i)
            auto = [a for a in storages.values() if a.space == "S" and a.address is None]
            self.loaded = {a.number for a in auto if a.number not in dirty}
            self.residency = Residency(
                rotation=self.rotation["S"],
                policy=policy,
                uses=self.uses,
                sizes={a.number: columns_taken(a) for a in auto},
                loaded=set(self.loaded),
                emit_store=self._spill,
                emit_load=self._fill,
                room=self.room.sbuf_usable_B,
            )

    def _units(self, number: int, pattern: int) -> Sequence[int]:
        """What of a tile lives and dies on its own: banks of PSUM, otherwise the tile."""
        pieces = self.pieces.get(pattern)
        if pieces is None:
            a = self.trace.storages[number]
            row, bank = max(a.row_B, 1), self.room.psum_bank_B
            inner = self.deps.box_of(pattern).ranges
            low, high = (0, row - 1) if inner is None else _row_range(inner, a)
            pieces = self.pieces[pattern] = range(low // bank, min(high, row - 1) // bank + 1)
        return [number * PIECES + p for p in pieces]

    def _size(self, unit: int) -> int:
        a = self.trace.storages[unit // PIECES]
        if unit // PIECES not in self.split:
            key = (a.row_B, a.parts)
            size = self.sizes.get(key)
            if size is None:
                size = self.sizes[key] = columns_taken(a)
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
        self.p.peak = {s: max(u.level_B, default=0) for s, u in self.p.usage.items()}
        return self.p

    def _delayed(self, i: int) -> bool:
        """Hold a load from an unwritten tensor back until its tile is first read, and release the ones that this
        instruction reads."""
        cost, _, nr, nt = self.rows[self.trace.kind[i]]
        at, touched = self.start[i], self.trace.touched
        target = touched[at + 2 * nr] if nt > nr else -1
        loads = cost.hbm_read_B > 0 and all(touched[j] in self.never_written for j in range(at, at + 2 * nr, 2))
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
            self.table_cost = self._cost(_table_load(self.costs))
        self.table_load = self._append(self.table_cost, -1, [4 * g + READ for g in self.table_users])
        self.table_users = []
        self.table = function

    def _adder(self) -> Callable[[int], None]:
        """The function that adds one instruction. Its tables are local to it: it runs once for each of up to 10^7
        instructions."""
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
            if q == COLLECTIVE_QUEUE and i in meetings:
                cost = self.costs.of(trace.kinds[k], len(meetings[i].members))
                k = -1 - len(meetings[i].members) * len(trace.kinds) - k
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
                        edges += [4 * (e >> 1) + WEIGHT_BUFFER for e in out]
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
        """With more live tiles than SBUF holds: bring back what the instruction touches, and make room for what it
        creates."""
        residency = self.residency
        assert residency is not None
        trace = self.trace
        cost, _, nr, nt = self.rows[trace.kind[i]]
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
                residency.written(trace.touched[j], cost.hbm_read_B > 0)

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
        self.p.usage[space].add(me, level)
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
        self.p.usage[space].add(me + 1, level)
        who = tuple([u for u in self.users.pop(unit) if u >= 0])
        if self.residency is not None and number in self.residency.sizes:
            self.residency.dead(number, who)
        elif a.address is None and self.options.rotate:
            self.rotation[space].give(size, who)


def _table_load(costs: Costs) -> Cost:
    """The cost of loading an activation table."""
    time = costs.ps("scalar_engine.table_load")
    return Cost(queue=SCALAR, occupancy=time, parts={"scalar_engine.table_load": time}, opcode="act_table_load")


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


def prepare(trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None = None) -> Program:
    """A trace with its costs, its dependencies, the loads of activation tables and, with a policy, spills and
    reloads."""
    library = compiled.library(len(trace))
    made = None if library is None else _compiled(library, trace, costs, options, policy)
    if made is not None:
        return made
    with no_collection():
        return _Maker(trace, costs, options, policy).make()


@contextmanager
def no_collection() -> Iterator[None]:
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
        first, end, inner = deps.box_of(pattern)
        row = max(a.row_B, 1)
        part, byte = a.address or (0, 0)
        p0, p1 = first // row, (end - 1) // row
        b0, b1 = (first % row, (end - 1) % row) if p0 == p1 else (0, row - 1)
        if inner is not None and p0 != p1:
            b0, b1 = _row_range(inner, a)
        wide = 1 << 20
        b = Box(
            (part + p0) * wide + byte + b0,
            (part + p1) * wide + byte + b1 + 1,
            ((part + p0, part + p1, 1), (byte + b0, byte + b1, 1)),
        )
        found[key] = b
    return b


# the same, compiled ------------------------------------------------------------------------------------------

_SPACES = ("S", "P", "H")
MEETS, KEEPS_ORDER, COMES_AFTER = 1, 2, 4
TABLE_LOAD, SPILL, RELOAD = -1, -2, -3
"""What a cost stands for that belongs to no kind of instruction."""


def _kind_rows(trace: Trace, made: Sequence[Cost]) -> compiled.ClockColumn:
    """Of each kind: queue, operands read, all operands, number of its activation table, and whether it reads HBM, is a
    memset."""
    tables: dict[str, int] = {"": 0}
    return compiled.rows(
        [
            (
                cost.queue,
                len(kind.reads),
                len(kind.reads) + len(kind.writes),
                tables.setdefault(cost.table if cost.queue == SCALAR else "", len(tables)),
                cost.hbm_read_B > 0,
                cost.opcode == "memset",
            )
            for kind, cost in zip(trace.kinds, made, strict=True)
        ],
        6,
    )


def _storage_forms(storages: Storages) -> tuple[np.ndarray[Any, np.dtype[np.int32]], list[Allocation]]:
    """(Form of each number, -1 where the trace does not touch it; one allocation of each form): up to one storage for
    each instruction, few forms, of which those that differ in name and line only are one here."""
    known: dict[Any, int] = {}
    forms: list[Allocation] = []
    places = []
    for a in storages.forms:
        places.append(known.setdefault((a.space, a.parts, a.row_B, a.address, a.shape, a.itemsize), len(known)))
        if places[-1] == len(forms):
            forms.append(a)
    return np.array([*places, -1], np.int32)[np.array(storages.form, np.int32)], forms


def _storage_rows(forms: Sequence[Allocation]) -> tuple[compiled.ClockColumn, compiled.ClockColumn]:
    """Of each form: space, partitions, bytes in each, whether it is placed by hand, at which partition and byte, and
    where its shape stands among the shapes, which come second."""
    out: list[tuple[int, ...]] = []
    shapes: list[int] = []
    for a in forms:
        part, byte = a.address or (0, 0)
        out.append((_SPACES.index(a.space), a.parts, a.row_B, a.address is not None, part, byte, len(shapes)))
        shapes += [len(a.shape), *a.shape, a.itemsize]
    return compiled.rows(out, 7), np.array(shapes, np.int64)


def _pattern_columns(
    trace: Trace,
) -> tuple[np.ndarray[Any, np.dtype[np.int32]], compiled.ClockColumn, compiled.ClockColumn, compiled.ClockColumn]:
    """(Form and offset of each pattern, the forms one after the other, where each begins): many patterns differ in
    their offset only."""
    of, offsets = trace.patterns.columns(compiled.ANYWHERE)
    data: list[int] = []
    begins: list[int] = []
    for shape, itemsize, _, counts, strides, size in trace.patterns.families:
        begins.append(len(data))
        data += [len(shape), itemsize, size, len(counts), *shape, *counts, *strides]
    return of, offsets, np.array(data, np.int64), np.array(begins, np.int64)


def _special(trace: Trace) -> tuple[np.ndarray[Any, np.dtype[np.uint8]] | None, compiled.ClockColumn]:
    """(What is special about each instruction, None where nothing is; pairs of a later and an earlier one, for
    `depends_on`)."""
    if not (trace.edges or trace.meetings or trace.in_order):
        return None, compiled.rows([], 2)
    special = np.zeros(len(trace.kind), np.uint8)
    explicit = _explicit(trace)
    for found, flag in ((trace.meetings, MEETS), (set(trace.in_order), KEEPS_ORDER), (explicit, COMES_AFTER)):
        special[np.fromiter(found, np.int64, len(found))] |= flag
    return special, compiled.rows([(i, before) for i in sorted(explicit) for before in explicit[i]], 2)


def _compiled(
    library: CDLL, trace: Trace, costs: Costs, options: ClockOptions, policy: Policy | None
) -> Program | None:
    """The program by the compiled code; None where it cannot."""
    made = [costs.of(k) for k in trace.kinds]
    kind_rows = _kind_rows(trace, made)
    # a collective costs what its members make it cost: a kind of its own for each number of them
    known: dict[tuple[int, int], int] = {}
    meetings: list[tuple[int, int]] = []
    for i in sorted(trace.meetings):
        k = trace.kind[i]
        if made[k].queue == COLLECTIVE_QUEUE:
            ranks = len(trace.meetings[i].members)
            meetings.append((i, known.setdefault((k, ranks), len(trace.kinds) + len(known))))
    made += [costs.of(trace.kinds[k], ranks) for k, ranks in known]
    storage_form, forms = _storage_forms(trace.storages)
    storage_rows, shapes = _storage_rows(forms)
    form_of, offset_of, form_data, form_at = _pattern_columns(trace)
    special, explicit = _special(trace)
    meeting_rows = compiled.rows(meetings, 2)
    room = limits(costs.generation)
    at = compiled.address
    given = compiled.ProgramGiven(
        instructions=len(trace.kind),
        kinds=len(made),
        storages=len(storage_form),
        tensors=len(forms),
        patterns=len(form_of),
        forms=len(form_at),
        kind=at(trace.kind),
        touched=at(trace.touched),
        kind_rows=at(kind_rows),
        storage_form=at(storage_form),
        storage_rows=at(storage_rows),
        form_of=at(form_of),
        offset_of=at(offset_of),
        form_data=at(form_data),
        form_at=at(form_at),
        shapes=at(shapes),
        special=at(special),
        meetings=len(meeting_rows),
        meeting_rows=at(meeting_rows),
        explicit_edges=len(explicit),
        explicit_rows=at(explicit),
        window=int(options.window or costs.number("model.window")) if trace.meetings else 0,
        rotate=options.rotate,
        bank_B=room.psum_bank_B,
        sbuf_B=room.sbuf_usable_B,
        psum_B=room.psum_B,
        spills=policy is not None,
        farthest=policy is not None and policy.farthest,
        sink=policy is not None and policy.sink,
        spare_B=int(room.sbuf_usable_B * policy.slack) if policy is not None else 0,
    )
    out = compiled.ProgramMade()
    if not compiled.done(library.clock_program(compiled.by_reference(given), compiled.by_reference(out))):
        return None
    p = Program(trace, overflow_B=out.overflow_B, spill_B=out.spill_B, peak={"S": out.peak_s, "P": out.peak_p})
    p.cost, p.origin = out.take("cost", "i", out.n), out.take("origin", "i", out.n)
    p.first, p.edges = out.take("first", "i", out.n + 1), out.take("edge", "i", out.edges)
    p.usage = {
        "S": Usage(out.take("before_s", "i", out.usage_s), out.take("level_s", "i", out.usage_s)),
        "P": Usage(out.take("before_p", "i", out.usage_p), out.take("level_p", "i", out.usage_p)),
    }
    wanted = out.take("cost_rows", "q", 2 * out.costs)
    for what, number in zip(wanted[::2], wanted[1::2], strict=True):
        if what >= 0:
            p.costs.append(made[what])
        elif what == TABLE_LOAD:
            p.costs.append(_table_load(costs))
        else:
            a = trace.storages[number]
            p.costs.append(costs.spill(a.parts, a.row_B, what == RELOAD))
    place_of = out.take("place_of", "i", len(trace.kind) if special is not None else 0)
    for me, i in sorted((place_of[i], i) for i in trace.meetings):
        p.meetings[me] = trace.meetings[i]
    return p
