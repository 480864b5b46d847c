"""When each instruction runs: a trace replayed through in-order engines, DMA queues, one DMA issuer, 16 DMA engines and the memories.

Rules. An instruction is ready when those that it waits for are done: `end + latency`, and a semaphore where the engines differ. An
engine or DMA queue takes, among the next `window` instructions of its program order, the first that is ready (window 1: strictly in
order). A DMA first holds the core's issuer, then its bytes follow `first_byte` later, each DMA engine first in, first out. Tiles without
an address of their own rotate through SBUF and PSUM: a new one takes the bytes that were freed longest ago, and waits for their last
users. Everything is integer arithmetic in time order: the same trace gives the same times everywhere.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from mowich.neuroncore.core import limits
from mowich.neuroncore.costs import COLLECTIVE, GPSIMD, LOAD, PS, QUEUES, SCALAR, STORE, TENSOR, Cost, Costs
from mowich.neuroncore.depend import Box, Dependencies
from mowich.neuroncore.trace import Allocation, Trace

READ, DATA, BUFFER, WEIGHTS = range(4)
"""Kinds of edges: the other has to be done reading; its result is needed; its memory is reused; its result is the stationary tile."""
START, ENGINE, ISSUER, DMA, MEMORY, PORT = range(4, 10)
"""What else can decide the time of an instruction: nothing before it; its engine; the DMA issuer; the DMA engines; HBM; a port."""
CAUSES = ("done reading", "result", "buffer", "weights", "start", "engine", "DMA issuer", "DMA engines", "HBM", "port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to schedule. window: instructions that an engine or queue may look ahead, None: the fact; 1: in order. rotate: tiles without
    an address share the memory's bytes; False: each has bytes of its own. throttle: the Tensor Engine starts at half rate where its
    generation does. active_cores: cores of the chip that use HBM at the same time, None: the cores simulated."""

    window: int | None = None
    rotate: bool = True
    throttle: bool = True
    active_cores: int | None = None


@dataclass(slots=True)
class Program:
    """One core's instructions, ready to be scheduled. origin: index in the trace, -1 for those added; edges: 4 * predecessor + kind."""

    trace: Trace
    costs: list[Cost] = field(default_factory=list)
    cost: array[int] = field(default_factory=lambda: array("i"))
    origin: array[int] = field(default_factory=lambda: array("q"))
    first: array[int] = field(default_factory=lambda: array("q"))
    edges: array[int] = field(default_factory=lambda: array("q"))
    peak: dict[str, int] = field(default_factory=dict)
    usage: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    overflow_B: int = 0


class _Rotation:
    """Free bytes of a memory, oldest first, each with those who used them last."""

    def __init__(self, room: int) -> None:
        self.free: deque[tuple[int, tuple[int, ...]]] = deque([(room, ())])
        self.left = room

    def take(self, size: int, out: list[int]) -> int:
        """Take bytes; their last users to `out`. Returns how many bytes there were too few."""
        self.left -= size
        while size > 0 and self.free:
            have, users = self.free.popleft()
            out += users
            if have > size:
                self.free.appendleft((have - size, users))
                return 0
            size -= have
        return size

    def give(self, size: int, users: tuple[int, ...]) -> None:
        """Free bytes."""
        self.left += size
        self.free.append((size, users))


def _columns(a: Allocation) -> int:
    """Bytes of a partition that an allocation takes, where tiles of few partitions share columns by quadrants of 32."""
    return max(1, a.row_B * -(-a.parts // 32) // 4)


def prepare(trace: Trace, costs: Costs, options: Options) -> Program:
    """A trace with its costs, its dependencies and the loads of activation tables."""
    p = Program(trace)
    table_cost: int | None = None
    writes: dict[Any, int] = {}
    last: dict[int, int] = {}
    kinds = [(costs.of(k), len(k.reads), len(k.reads) + len(k.writes)) for k in trace.kinds]
    touched, storages = trace.touched, trace.storages
    placed = {n: a.space for n, a in storages.items() if a.address is not None}
    at = 0
    for i, k in enumerate(trace.kind):
        _, nr, nt = kinds[k]
        for j in range(at, at + 2 * nt, 2):
            last[touched[j]] = i
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            store = placed.get(touched[j], touched[j])
            writes[store] = writes.get(store, 0) + 1
        at += 2 * nt
    deps = Dependencies(trace, writes)
    arena: dict[tuple[int, int], Box] = {}
    room = limits(costs.generation)
    rotation = {"S": _Rotation(room.sbuf_usable_B), "P": _Rotation(room.psum_B)}
    live = {"S": 0, "P": 0}
    p.usage = {"S": [], "P": []}
    users: dict[int, list[int]] = {}
    explicit: dict[int, list[int]] = {}
    number_at = {n: i for i, n in enumerate(trace.number)} if trace.edges else {}
    for before, after in trace.edges:
        if before in number_at and after in number_at and number_at[before] < number_at[after]:
            explicit.setdefault(number_at[after], []).append(number_at[before])
    resident, loader = "", -1  # activation table, and the instruction that loads it
    group: list[int] = []  # instructions that use it
    seen: set[int] = set()
    out: list[int] = []
    place_of = array("q", bytes(8 * len(trace.kind)))
    at = 0
    cost_index: dict[int, int] = {}
    for i, k in enumerate(trace.kind):
        cost, nr, nt = kinds[k]
        q = cost.queue
        if q == SCALAR and cost.table and cost.table != resident:
            if table_cost is None:
                table_cost = len(p.costs)
                time = costs.ps("scalar_engine.table_load")
                p.costs.append(
                    Cost(
                        queue=SCALAR, occupancy=time, parts={"scalar_engine.table_load": time}, opcode="act_table_load"
                    )
                )
            loader = len(p.cost)
            p.cost.append(table_cost)
            p.origin.append(-1)
            p.first.append(len(p.edges))
            p.edges.extend(4 * g + READ for g in group)
            group = []
            resident = cost.table
        me = len(p.cost)
        place_of[i] = me
        out.clear()
        edges: list[int] = []
        weights = q == TENSOR and nr > 1
        for j in range(at, at + 2 * nr, 2):
            number = touched[j]
            if number in placed:
                deps.read(me, placed[number], _arena_box(deps, arena, storages[number], touched[j + 1]), out)
            else:
                deps.read(me, number, deps.box_of(touched[j + 1]), out)
            if weights and j == at:
                edges += [4 * (e >> 1) + WEIGHTS for e in out]
                out.clear()
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            number = touched[j]
            if number in placed:
                deps.write(me, placed[number], _arena_box(deps, arena, storages[number], touched[j + 1]), out)
            else:
                deps.write(me, number, deps.box_of(touched[j + 1]), out)
        edges += [4 * (e >> 1) + (e & 1) for e in out if e >> 1 != me]
        if i in explicit:
            edges += [4 * place_of[b] + DATA for b in explicit[i]]
        for j in range(at, at + 2 * nt, 2):
            number = touched[j]
            a = storages[number]
            if a.space == "H":
                continue
            if number not in seen:
                seen.add(number)
                users[number] = [-1] * len(QUEUES)
                size = _columns(a)
                live[a.space] += size
                p.usage[a.space].append((me, live[a.space]))
                if options.rotate and a.address is None:
                    old: list[int] = []
                    missing = rotation[a.space].take(size, old)
                    p.overflow_B += missing
                    edges += [4 * u + BUFFER for u in old if u != me]
            users[number][q] = me
        for j in range(at, at + 2 * nt, 2):
            number = touched[j]
            if last[number] == i and number in users:
                a = storages[number]
                size = _columns(a)
                live[a.space] -= size
                p.usage[a.space].append((me + 1, live[a.space]))
                who = tuple(u for u in users.pop(number) if u >= 0)
                if options.rotate and a.address is None:
                    rotation[a.space].give(size, who)
        if q == SCALAR and cost.table:
            group.append(me)
            edges.append(4 * loader + READ)
        at += 2 * nt
        found = cost_index.get(k)
        if found is None:
            found = cost_index[k] = len(p.costs)
            p.costs.append(cost)
        p.cost.append(found)
        p.origin.append(i)
        p.first.append(len(p.edges))
        p.edges.extend(dict.fromkeys(edges) if len(edges) > 1 else edges)
    p.first.append(len(p.edges))
    p.peak = {s: max((v for _, v in u), default=0) for s, u in p.usage.items()}
    return p


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
            pitch, b0, b1 = row, 0, 0
            for (low, high, _), n in zip(inner[1:], (*a.shape[1:-1], a.shape[-1] * a.itemsize), strict=True):
                pitch //= n
                b0, b1 = b0 + low * pitch, b1 + high * pitch
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
    DMA: its last byte); data: when the first byte of a DMA moves; ready: when it could have begun; cause, by: what decided its begin; data_cause,
    data_by: what delayed the bytes of a DMA beyond that (0: nothing)."""

    generation: int
    costs: Costs
    programs: list[Program]
    options: Options
    begin: array[int]
    data: array[int]
    end: array[int]
    ready: array[int]
    cause: array[int]
    by: array[int]
    data_cause: array[int]
    data_by: array[int]
    core: array[int]
    offset: list[int]
    total: int

    def cost_of(self, i: int) -> Cost:
        """Cost of instruction i of all."""
        c = self.core[i]
        p = self.programs[c]
        return p.costs[p.cost[i - self.offset[c]]]


def schedule(traces: Sequence[Trace], costs: Costs, options: Options | None = None) -> Schedule:
    """Schedule the traces of the cores of one launch together: they share HBM and meet at barriers."""
    options = options or Options()
    programs = [prepare(t, costs, options) for t in traces]
    return run(programs, costs, options)


def run(programs: list[Program], costs: Costs, options: Options) -> Schedule:
    """The event loop."""
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
    # edges -> successors
    waiting = [0] * n
    after: list[list[int] | None] = [None] * n
    for c, p in enumerate(programs):
        o = offset[c]
        first, edges = p.first, p.edges
        for i in range(len(p.cost)):
            a, b = first[i], first[i + 1]
            me = o + i
            waiting[me] = b - a
            for e in edges[a:b]:
                j = o + (e >> 2)
                have = after[j]
                item = 4 * me + (e & 3)
                if have is None:
                    after[j] = [item]
                else:
                    have.append(item)
    core = array("i", bytes(4 * n))
    for c, p in enumerate(programs):
        for i in range(offset[c], offset[c] + len(p.cost)):
            core[i] = c
    nqueues = nq * len(programs)
    lines: list[list[int]] = [[] for _ in range(nqueues)]
    for i in range(n):
        lines[core[i] * nq + queue[which[i]]].append(i)
    # delay of an edge beyond end: by queue of the predecessor and of the successor
    semaphore, trigger = costs.ps("sync.semaphore"), costs.ps("dma.trigger")
    step = [[0] * nq for _ in range(nq)]
    for a in range(nq):
        for b in range(nq):
            if a == b or a in (LOAD, STORE, COLLECTIVE):
                step[a][b] = 0
            else:
                step[a][b] = trigger if b in (LOAD, STORE, COLLECTIVE) else semaphore
    begin, data, end, ready = (array("q", bytes(8 * n)) for _ in range(4))
    cause, by = array("b", bytes(n)), array("q", bytes(8 * n))
    data_cause, data_by = array("b", bytes(n)), array("q", bytes(8 * n))
    wready: dict[int, int] = {}
    future: list[list[tuple[int, int]]] = [[] for _ in range(nqueues)]
    now: list[list[int]] = [[] for _ in range(nqueues)]
    inside = bytearray(n)
    entered = [0] * nqueues
    free = [0] * nqueues
    holder = [-1] * nqueues
    ready_cause, ready_by = array("b", bytes(n)), array("q", bytes(8 * n))
    for i in range(n):
        ready_cause[i] = START
        ready_by[i] = -1

    def enter(q: int) -> None:
        line = lines[q]
        at = entered[q]
        if at < len(line):
            i = line[at]
            entered[q] = at + 1
            inside[i] = 1
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
    active = options.active_cores or ncores
    bandwidth = costs.number("memory.hbm_bandwidth")
    pair = bandwidth / costs.number("memory.stacks")
    rate = min(
        bandwidth / active * ncores,
        pair * max(1.0, ncores / (costs.number("memory.cores") / costs.number("memory.stacks"))),
    )
    ps_per_KB = round(1024 / rate * PS)
    last_pe = [-1] * ncores
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
                hbm_free = max(hbm_free, arrive) + moved * ps_per_KB // 1024
                if hbm_free > finish:
                    finish = hbm_free
                    data_cause[i], data_by[i] = MEMORY, hbm_by
                hbm_by = i
            if late > arrive and data_cause[i] != MEMORY:
                data_cause[i], data_by[i] = DMA, late_by
            begin[i], data[i], end[i] = s, max(moving, arrive), finish
            after_data = finish + k.latency
            after_read = after_data
        else:
            s = best
            if own == TENSOR:
                w = wready.get(i, 0)
                lp = last_pe[c]
                held = s
                if lp >= 0 and w <= begin[lp]:
                    if begin[lp] + k.load > s:
                        s = begin[lp] + k.load
                elif w + k.weights > s:
                    s = w + k.weights
                    held = max(w, held)
                else:
                    held = s
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
                if slow:
                    if s - idle_since[c] > ramp // 2:
                        period[c] = s
                    age = s - period[c]
                    if age < ramp:
                        rest = ramp - age
                        occupancy = 2 * occupancy if 2 * occupancy <= rest else rest + occupancy - rest // 2
                    idle_since[c] = s + occupancy
                begin[i] = held if s > held else s
                last_pe[c] = i
                data[i] = s
                begin[i] = held
            else:
                begin[i] = data[i] = s
            finish = s + occupancy
            end[i] = finish
            free[q] = finish
            for port in k.ports:
                ports[c][port] = (finish, i)
            after_data = finish + k.latency
            after_read = finish
        holder[q] = i
        enter(q)
        successors = after[i]
        if successors is not None:
            after[i] = None
            row = step[own]
            for item in successors:
                j = item >> 2
                kind = item & 3
                qj = queue[which[j]]
                if kind in (DATA, WEIGHTS):
                    t = (finish if own == TENSOR and qj == TENSOR else after_data) + row[qj]
                    if kind == WEIGHTS and t > wready.get(j, 0):
                        wready[j] = t
                else:
                    t = after_read + row[qj]
                if t > ready[j]:
                    ready[j] = t
                    ready_cause[j] = kind
                    ready_by[j] = i
                waiting[j] -= 1
                if waiting[j] == 0 and inside[j]:
                    heappush(future[core[j] * nq + qj], (ready[j], j))
    total = max(
        (end[i] + (kinds[which[i]].latency if queue[which[i]] not in (LOAD, STORE) else 0) for i in range(n)), default=0
    )
    return Schedule(generation=costs.generation, costs=costs, programs=programs, options=options, begin=begin, data=data, end=end, ready=ready,
                    cause=cause, by=by, data_cause=data_cause, data_by=data_by, core=core, offset=offset, total=total)  # fmt: skip
