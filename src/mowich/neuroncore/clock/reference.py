"""How a trace becomes a program, in plain Python: what `c/program.c` does, to be read, to be compared with, and to run
where there is no compiler.

One instruction after the other: the load of its activation table, bytes for tiles that it makes, whom it waits for, and
bytes of tiles that nothing touches after it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from mowich.neuroncore.clock.buffers import Policy, Residency, Rotation, columns_taken
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.depend import BUFFER, DATA, READ, WEIGHT_BUFFER, Box, ClockEdge, Touched, box
from mowich.neuroncore.clock.records import ClockOptions, Program
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, LOAD, SCALAR, TENSOR, Cost
from mowich.neuroncore.trace import Allocation, Trace

ROW_STEP = 1 << 20
"""Between two partitions, in coordinates of a whole memory: more than a partition has bytes."""


class UsedTile(NamedTuple):
    """What an instruction touches."""

    tile: Allocation
    pattern: int
    is_written: bool


TileUnit = tuple[int, int]
"""What lives and dies on its own: a tile, or a bank of one in PSUM. (Number of the storage, bank.)"""


def operands_of(trace: Trace) -> list[list[UsedTile]]:
    """What each instruction touches, reads before writes."""
    pairs = zip(trace.touched[::2], trace.touched[1::2], strict=True)
    out = []
    for k in trace.kind:
        reads, writes = trace.kinds[k].reads, trace.kinds[k].writes
        written = [False] * len(reads) + [True] * len(writes)
        out.append([UsedTile(trace.storages[n], pattern, w) for w, (n, pattern) in zip(written, pairs, strict=False)])
    return out


def table_load(costs: Costs) -> Cost:
    """The cost of loading an activation table."""
    time = costs.ps("scalar_engine.table_load")
    return Cost(queue=SCALAR, occupancy=time, parts={"scalar_engine.table_load": time}, opcode="act_table_load")


def earlier_ones(trace: Trace) -> dict[int, list[int]]:
    """What `depends_on` adds: index -> indices that come first."""
    out: dict[int, list[int]] = {}
    at = {n: i for i, n in enumerate(trace.number)} if trace.edges else {}
    for before, after in trace.edges:
        if before in at and after in at and at[before] < at[after]:
            out.setdefault(at[after], []).append(at[before])
    return out


def row_range(ranges: tuple[tuple[int, int, int], ...], a: Allocation) -> tuple[int, int]:
    """First and last byte of a partition that a box touches."""
    pitch, low, high = max(a.row_B, 1), 0, 0
    for (first, last, _), n in zip(ranges[1:], (*a.shape[1:-1], a.shape[-1] * a.itemsize), strict=True):
        pitch //= n
        low, high = low + first * pitch, high + last * pitch
    return low, high


def in_memory(b: Box, a: Allocation) -> Box:
    """The bytes of a view of a tile placed by hand, in coordinates of the whole memory."""
    row, (part, byte) = max(a.row_B, 1), a.address or (0, 0)
    p0, p1 = b.first // row, (b.end - 1) // row
    b0, b1 = (b.first % row, (b.end - 1) % row) if p0 == p1 else (0, row - 1)
    if b.ranges is not None and p0 != p1:
        b0, b1 = row_range(b.ranges, a)
    ranges = ((part + p0, part + p1, 1), (byte + b0, byte + b1, 1))
    return Box((part + p0) * ROW_STEP + byte + b0, (part + p1) * ROW_STEP + byte + b1 + 1, ranges)


class ProgramMaker:
    """Fills in a program. operands: of each instruction; users: of each unit that lives, the last instruction of each
    queue that uses it; last_use: of each unit, the last instruction of the trace that touches it; touched,
    writes_left: of each tile, and of the memory where tiles are placed by hand; table_users: those of the activation
    table that is loaded."""

    def __init__(self, p: Program, costs: Costs, options: ClockOptions, policy: Policy | None) -> None:
        self.p, self.trace, self.costs, self.options, self.policy = p, p.trace, costs, options, policy
        self.room = limits(costs.generation)
        self.operands = operands_of(p.trace)
        self.boxes: dict[Hashable, Box] = {}
        self.cost_numbers: dict[Hashable, int] = {}
        self.open_tiles()
        self.table, self.table_load = "", -1
        self.table_users: list[int] = []
        self.earlier = earlier_ones(p.trace)
        self.in_order = set(p.trace.in_order)
        self.last_in_order: dict[int, int] = {}
        window = int(options.window or costs.number("model.window")) if p.trace.meetings else 0
        self.recent: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=window))
        self.place_of: dict[int, int] = {}

    def open_tiles(self) -> None:
        """Who touches what, and the memories."""
        self.users: dict[TileUnit, dict[int, int]] = {}
        self.last_use: dict[TileUnit, int] = {}
        self.touched: dict[Hashable, Touched] = defaultdict(Touched)
        self.writes_left: dict[Hashable, int] = defaultdict(int)
        self.live_B = {"S": 0, "P": 0}
        self.rotation = {"S": Rotation(self.room.sbuf_usable_B), "P": Rotation(self.room.psum_B)}
        uses: dict[int, list[int]] = defaultdict(list)
        written, computed = set(), set()  # computed: by something else than a load
        for i, mine in enumerate(self.operands):
            for o in mine:
                uses[o.tile.number].append(i)
                self.last_use.update(dict.fromkeys(self.units(o), i))
                if o.is_written:
                    self.writes_left[self.store(o)] += 1
                    written.add(self.store(o))
                    if not self.cost(i).hbm_read_B:
                        computed.add(o.tile.number)
        tiles = self.trace.storages.values()
        self.constant = {a.number for a in tiles if a.space == "H" and a.number not in written}
        automatic = {a.number: columns_taken(a) for a in tiles if a.space == "S" and a.address is None}
        self.loaded = {number for number in automatic if number not in computed}
        self.held: dict[int, list[int]] = {}
        self.reloads: dict[int, int] = {}
        self.residency: Residency | None = None
        if self.policy is not None:
            self.residency = Residency(
                self.rotation["S"],
                self.policy,
                uses=uses,
                sizes=automatic,
                loaded=self.loaded,
                spill=self.spill,
                reload=self.reload,
                users_of=lambda number: self.users_of((number, 0)),
            )

    def make(self) -> None:
        """All instructions, in the order of the trace but for loads that wait for their first use."""
        for i in range(len(self.operands)):
            if self.policy is None or not self.policy.sink or not self.is_held(i):
                self.add(i)
        for waiting in self.held.values():
            for i in waiting:
                self.add(i)
        self.p.first.append(len(self.p.edges))
        self.p.peak = {s: max(u.level_B, default=0) for s, u in self.p.usage.items()}

    # what an instruction is -----------------------------------------------------------------------------------
    def cost(self, i: int) -> Cost:
        """Of an instruction's kind."""
        return self.costs.of(self.trace.kinds[self.trace.kind[i]])

    def cost_number(self, key: Hashable, cost: Cost) -> int:
        """Its place among the costs of the program, where it is put when its key is new."""
        if key not in self.cost_numbers:
            self.cost_numbers[key] = len(self.p.costs)
            self.p.costs.append(cost)
        return self.cost_numbers[key]

    def box(self, o: UsedTile) -> Box:
        """The bytes of an operand; the same object for the same view."""
        key: Hashable = o.pattern if o.tile.address is None else (o.tile.number, o.pattern)
        if key not in self.boxes:
            made = box(self.trace.patterns[o.pattern])
            self.boxes[key] = made if o.tile.address is None else in_memory(made, o.tile)
        return self.boxes[key]

    def store(self, o: UsedTile) -> Hashable:
        """What an operand's bytes are compared within: its tile, or the memory where tiles are placed by hand."""
        return o.tile.number if o.tile.address is None else o.tile.space

    def is_split(self, a: Allocation) -> bool:
        """Whether the banks of a tile live and die on their own."""
        return a.space == "P" and a.address is None and a.row_B > self.room.psum_bank_B

    def units(self, o: UsedTile) -> list[TileUnit]:
        """What of an operand lives and dies on its own; nothing in HBM."""
        a, bank_B = o.tile, self.room.psum_bank_B
        if a.space == "H":
            return []
        if not self.is_split(a):
            return [(a.number, 0)]
        ranges = self.box(o).ranges
        low, high = (0, a.row_B - 1) if ranges is None else row_range(ranges, a)
        return [(a.number, bank) for bank in range(low // bank_B, min(high, a.row_B - 1) // bank_B + 1)]

    def size_B(self, unit: TileUnit) -> int:
        """Bytes of a partition that a unit takes."""
        a, bank_B = self.trace.storages[unit[0]], self.room.psum_bank_B
        return columns_taken(a._replace(row_B=min(bank_B, a.row_B - bank_B * unit[1])) if self.is_split(a) else a)

    def users_of(self, unit: TileUnit) -> list[int]:
        """The last users of a unit, by queue."""
        return [who for _, who in sorted(self.users[unit].items())]

    # one instruction ------------------------------------------------------------------------------------------
    def append(self, cost: int, origin: int, edges: Iterable[ClockEdge]) -> int:
        """One instruction more in the program; each edge counts once."""
        p = self.p
        p.cost.append(cost)
        p.origin.append(origin)
        p.first.append(len(p.edges))
        p.edges.extend(4 * before + kind for before, kind in dict.fromkeys(edges))
        return len(p.cost) - 1

    def add(self, i: int) -> None:
        """An instruction of the trace."""
        trace, cost, operands, ranks = self.trace, self.cost(i), self.operands[i], 0
        if cost.queue == COLLECTIVE_QUEUE and i in trace.meetings:
            ranks = len(trace.meetings[i].members)
            cost = self.costs.of(trace.kinds[trace.kind[i]], ranks)
        uses_table = cost.queue == SCALAR and cost.table != ""
        if uses_table and cost.table != self.table:
            self.load_table(cost.table)
        units = list(dict.fromkeys(unit for o in operands for unit in self.units(o)))
        born = [unit for unit in units if unit not in self.users]
        self.users.update((unit, {}) for unit in born)
        edges = self.reside(self.residency, i, units, born) if self.residency else []
        me = self.place_of[i] = len(self.p.cost)
        edges += self.dependencies(i, me, cost.queue)
        edges += self.order(i, me, cost.queue)
        for unit in born:
            edges += self.begin(unit, me)
        for unit in units:
            self.users[unit][cost.queue] = me
            if self.last_use[unit] == i:
                self.end(unit, me)
        if uses_table:
            self.table_users.append(me)
            edges.append((self.table_load, READ))
        self.append(self.cost_number((trace.kind[i], ranks), cost), i, edges)

    def load_table(self, function: str) -> None:
        """The Scalar Engine loads the table of a function after all users of the one before."""
        number = self.cost_number("table", table_load(self.costs))
        self.table_load = self.append(number, -1, [(user, READ) for user in self.table_users])
        self.table, self.table_users = function, []

    def dependencies(self, i: int, me: int, queue: int) -> list[ClockEdge]:
        """What follows from the bytes that it reads and writes. The first operand of a product is its stationary
        tile."""
        is_product = queue == TENSOR and len(self.trace.kinds[self.trace.kind[i]].reads) > 1
        out: list[ClockEdge] = []
        for n, o in enumerate(self.operands[i]):
            store, view = self.store(o), self.box(o)
            if o.is_written:
                self.writes_left[store] -= 1
                found = self.touched[store].write(me, view)
            else:
                found = self.touched[store].read(me, view, is_noted=self.writes_left[store] > 0)
            if n == 0 and is_product and not o.is_written:
                found = [(before, WEIGHT_BUFFER) for before, _ in found]
            out += [edge for edge in found if edge[0] != me]
        return out

    def order(self, i: int, me: int, queue: int) -> list[ClockEdge]:
        """What `depends_on`, `no_reorder` and meetings of cores add."""
        # the first instruction stands for one that is still held
        out = [(self.place_of.get(before, 0), DATA) for before in self.earlier.get(i, ())]
        if i in self.trace.meetings:
            self.p.meetings[me] = self.trace.meetings[i]
            out += [(before, READ) for before in self.recent[queue]]
        self.recent[queue].append(me)
        if i in self.in_order:
            if queue in self.last_in_order:
                out.append((self.last_in_order[queue], READ))
            self.last_in_order[queue] = me
        return out

    # where tiles live -----------------------------------------------------------------------------------------
    def begin(self, unit: TileUnit, me: int) -> list[ClockEdge]:
        """A unit comes to life: bytes for it. Returns whom it waits for."""
        a, size_B = self.trace.storages[unit[0]], self.size_B(unit)
        self.live_B[a.space] += size_B
        self.p.usage[a.space].add(me, self.live_B[a.space])
        if a.address is not None or not self.options.rotate or (self.residency and a.space == "S"):
            return []
        users, missing_B = self.rotation[a.space].take(size_B)
        if a.space == "S":
            self.p.overflow_B += missing_B
        return [(user, BUFFER) for user in users]

    def end(self, unit: TileUnit, me: int) -> None:
        """A unit was used for the last time."""
        a, size_B = self.trace.storages[unit[0]], self.size_B(unit)
        self.live_B[a.space] -= size_B
        self.p.usage[a.space].add(me + 1, self.live_B[a.space])
        users = self.users_of(unit)
        del self.users[unit]
        if self.residency and a.number in self.residency.sizes:
            self.residency.dead(a.number, users)
        elif a.address is None and self.options.rotate:
            self.rotation[a.space].give(size_B, users)

    # with more live tiles than SBUF holds -----------------------------------------------------------------------
    def is_held(self, i: int) -> bool:
        """Whether a load from a constant, or a memset, waits until its tile is first used. What waits for the tiles of
        this instruction is added."""
        cost, operands = self.cost(i), self.operands[i]
        targets = [o.tile.number for o in operands if o.is_written]
        from_constant = cost.hbm_read_B > 0 and all(o.is_written or o.tile.number in self.constant for o in operands)
        is_new = len(targets) == 1 and (targets[0], 0) not in self.users
        if is_new and (cost.opcode == "memset" or (from_constant and targets[0] in self.loaded)):
            self.held.setdefault(targets[0], []).append(i)
            return True
        for o in operands:
            for waiting in self.held.pop(o.tile.number, ()):
                self.add(waiting)
        return False

    def reside(self, residency: Residency, i: int, units: list[TileUnit], born: list[TileUnit]) -> list[ClockEdge]:
        """Bring back what an instruction touches, and make room for what it makes."""
        mine = [number for number, _ in units if number in residency.sizes]
        residency.need(mine, i)
        out: list[ClockEdge] = []
        for number in mine:
            if number in self.reloads:
                out.append((self.reloads[number], DATA))
            if (number, 0) in born:
                out += [(user, BUFFER) for user in residency.make_room(number, mine, i)]
                residency.live[number] = i
        for o in self.operands[i]:
            if o.is_written and o.tile.number in residency.sizes:
                residency.written(o.tile.number, by_load=self.cost(i).hbm_read_B > 0)
        return out

    def moved(self, number: int, *, is_load: bool) -> int:
        """The cost of a spill or a reload."""
        a = self.trace.storages[number]
        self.p.spill_B += a.parts * a.row_B
        return self.cost_number((a.parts, a.row_B, is_load), self.costs.spill(a.parts, a.row_B, is_load))

    def spill(self, number: int, after: list[int]) -> int:
        """A tile goes to HBM."""
        return self.append(self.moved(number, is_load=False), -1 - number, [(user, DATA) for user in after])

    def reload(self, number: int, after: list[int]) -> int:
        """A tile comes back."""
        me = self.append(self.moved(number, is_load=True), -1 - number, [(user, BUFFER) for user in after])
        self.reloads[number] = me
        self.users[number, 0] = {LOAD: me}
        return me
