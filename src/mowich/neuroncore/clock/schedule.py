"""When each instruction runs: a trace replayed through in-order engines, DMA queues, an issuer for each ring, 16 DMA
engines and the memories.

Rules. An instruction is ready when those that it waits for are done: `end + latency`, and a semaphore where the engines
differ. An engine or DMA queue takes, among the next `window` instructions of its program order, the first that is ready
(window 1: strictly in order). A DMA first holds the issuer of its ring (of software descriptors: GpSimd), then its
bytes arrive at the DMA engines `first_byte` later. A DMA engine takes what arrives first, of whichever ring: a DMA of a
slow ring holds up none that arrives before it. Tiles without an address of their own rotate through SBUF and PSUM: a
new one takes the bytes that were freed longest ago, and waits for their last users. Everything is integer arithmetic in
time order: the same trace gives the same times everywhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.buffers import BUFFER_POLICIES, WORTH
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.costs import costs as shipped_costs
from mowich.neuroncore.clock.lower import balanced, lowered, without_dge
from mowich.neuroncore.clock.places import refills, renewed, settled, unzeroed
from mowich.neuroncore.clock.program import (
    BUFFER,
    DATA,
    READ,
    WEIGHT_BUFFER,
    ClockOptions,
    Program,
    no_collection,
    prepare,
)
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, DMA_QUEUES, GPSIMD, PS, QUEUES, RINGS, TENSOR, Cost
from mowich.neuroncore.trace import Trace

NEEDED = (DATA, WEIGHT_BUFFER)
START, ENGINE, ISSUER, DMA, MEMORY, PORT = range(4, 10)
"""What else can decide the time of an instruction: nothing before it; its engine; the DMA issuer; the DMA engines; HBM;
a port."""
CAUSES = ("done reading", "result", "buffer", "weights", "start", "engine", "DMA issuer", "DMA engines", "HBM", "port")
NEVER = 1 << 62


@dataclass(slots=True)
class Schedule:
    """Times of all instructions, ps. begin: when an instruction takes its engine (the issuer, for a DMA); end: when its
    engine is free (a
    DMA: its last byte); data: when the first byte of a DMA moves; ready: when it could have begun; loading: time before
    `data` in which the Tensor Engine loads the stationary tile and does nothing else; cause, by: what decided its
    begin; data_cause,
    data_by: what delayed the bytes of a DMA beyond that (0: nothing). refills: loads fill tiles again that are taken
    to begin anew; to_read: the columns for the compiled code, once they were asked for."""

    generation: int
    costs: Costs
    programs: list[Program]
    options: ClockOptions
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
    refills: bool = False
    to_read: compiled.ScheduleToRead | None = field(default=None, repr=False, compare=False)

    def cost_of(self, i: int) -> Cost:
        """Cost of instruction i of all."""
        c = self.core[i]
        p = self.programs[c]
        return p.costs[p.cost[i - self.offset[c]]]


def schedule(traces: Sequence[Trace], costs: Costs, options: ClockOptions | None = None) -> Schedule:
    """Schedule the traces of the cores of one launch together: they share HBM and meet at barriers."""
    options = options or ClockOptions()
    traces, refilled = as_compiled(traces, costs, options)
    made = _fitted(traces, costs, options)
    made.refills = refilled
    return made


def as_compiled(traces: Sequence[Trace], costs: Costs, options: ClockOptions) -> tuple[Sequence[Trace], bool]:
    """(Traces with what the compiler does to them before they run; whether loads fill tiles that begin anew)."""
    refilled = False
    if options.dge is False:
        traces = [without_dge(t) for t in traces]
    if options.optimise:
        bank, only_invariant = limits(costs.generation).psum_bank_B, not costs.number("model.merges_repeats")
        traces = [unzeroed(settled(t)) for t in traces]
        if options.older:
            # fused kernels of the newer interface run as if each tile kept the bytes that its author gave it
            before, traces = traces, [renewed(t) for t in traces]
            refilled = any(map(refills, before, traces))
        traces = [balanced(lowered(t, bank, only_invariant), costs) for t in traces]
    return traces, refilled


def _fitted(traces: Sequence[Trace], costs: Costs, options: ClockOptions) -> Schedule:
    """Traces as they run, spills included where their tiles do not fit."""
    programs = [prepare(t, costs, options) for t in traces]
    if not options.rotate or not any(p.overflow_B for p in programs):
        return run_programs(programs, costs, options)
    tried = []
    for policy in BUFFER_POLICIES:
        programs = [prepare(t, costs, options, policy) for t in traces]
        tried.append(run_programs(programs, costs, options))
        tried[-1].policy = policy.name
    fewest = min(tried, key=lambda s: sum(p.spill_B for p in s.programs))
    fastest = min(tried, key=lambda s: s.total)
    return fastest if fastest.total < (1 - WORTH) * fewest.total else fewest


def hbm_Bps(costs: Costs, cores: int, active: int | None = None) -> float:
    """HBM bandwidth of `cores` cores while `active` of the chip (None: only these) use it: their share of all, and at
    most what their stacks give. Raises UserError for more active cores than the chip has."""
    most = int(costs.number("memory.cores"))
    if active is not None and active > most:
        raise UserError("more active cores than a chip has", given=active, allowed=f"1 to {most} on this chip")
    bandwidth, stacks = costs.number("memory.hbm_bandwidth"), costs.number("memory.stacks")
    return min(
        bandwidth / (active or cores) * cores,
        bandwidth / stacks * max(1.0, cores / (costs.number("memory.cores") / stacks)),
    )


def stack_Bps(costs: Costs) -> float:
    """HBM bandwidth that Neuron Explorer counts as 100% of MBU, B/s: about one stack's. The fact is of the chip as it
    ships; another HBM bandwidth of the chip, which times transfers, moves it alike."""
    shipped = shipped_costs(costs.generation).number("memory.hbm_bandwidth")
    return costs.number("memory.mbu_bandwidth") * costs.number("memory.hbm_bandwidth") / shipped


def run_programs(programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule:
    """The event loop."""
    library = compiled.library(sum(len(p.cost) for p in programs))
    made = None if library is None else _compiled(library, programs, costs, options)
    if made is not None:
        return made
    with no_collection():
        return _run(programs, costs, options)


@dataclass(slots=True)
class _Memory:
    """HBM of one chip. free: when its last bytes have moved, ps; by: the DMA that moves them."""

    free: int = 0
    by: int = -1


@dataclass(slots=True)
class _Core:
    """What the queues of one core share. engine_free, engine_by: when each DMA engine is free, and whom it serves until
    then; ports: port -> (until when, by whom it is held); matmul: the last one; groups: until when each of the 4 x 4
    groups of the array is held; is_tiled: some matmul holds only a part of the array; busy_since, idle_since: of the
    Tensor Engine, for its slow start; hbm: of the chip."""

    engine_free: list[int]
    engine_by: list[int]
    is_tiled: bool
    hbm: _Memory
    ports: dict[str, tuple[int, int]] = field(default_factory=dict)
    matmul: int = -1
    groups: list[int] = field(default_factory=lambda: [0] * 16)
    busy_since: int = 0
    idle_since: int = -(10**15)


@dataclass(slots=True)
class _Server:
    """What several queues of a core take in turn: the issuer of a ring, or GpSimd, which runs instructions and writes
    descriptors. free: when it takes the next one, ps; by: the instruction that it took last."""

    free: int = 0
    by: int = -1


@dataclass(slots=True)
class _Line:
    """One queue of one core: an engine or a kind of DMA triggers. instructions: in program order, of which the first
    `entered` are inside the window or done; future: (time, instruction) of those inside that wait for nothing but this
    time; now: those inside that could start; server: what it shares with other queues; free: when the queue takes the
    next one, ps; holder: the instruction that it took last; is_fenced: a meeting of cores is inside, and nothing behind
    it may enter."""

    queue: int
    core: _Core
    instructions: list[int]
    issues: bool
    server: _Server | None
    entered: int = 0
    future: list[tuple[int, int]] = field(default_factory=list)
    now: list[int] = field(default_factory=list)
    free: int = 0
    holder: int = -1
    is_fenced: bool = False


@dataclass(slots=True)
class _Machine:
    """The state of a run. lines: the queue of each instruction; inside: it has entered its window; waiting: for how
    many others it waits; after[until[i]:until[i + 1]]: who waits for instruction i, as 4 * successor + kind of edge;
    ready_cause, ready_by: what made it ready last; weights_ready: matmul -> when its stationary tile is there;
    meeting_of: instruction -> key of the meeting that it waits at;
    absent: instructions that have not come to a meeting; arrived: those that have; arriving: DMAs that were issued and
    wait for the DMA engines, as (time of their first byte, turn, instruction); turn: DMAs issued so far. Times in
    ps."""

    cores: list[_Core]
    used: list[_Line]
    lines: list[_Line]
    inside: bytearray
    waiting: list[int]
    after: array[int]
    until: array[int]
    ready_cause: array[int]
    ready_by: array[int]
    window: int
    ps_per_KB: int
    tile_issue: int
    ramp: int
    weights_ready: dict[int, int] = field(default_factory=dict)
    meeting_of: dict[int, Any] = field(default_factory=dict)
    absent: dict[Any, int] = field(default_factory=dict)
    arrived: dict[Any, list[tuple[_Line, int]]] = field(default_factory=dict)
    arriving: list[tuple[int, int, int]] = field(default_factory=list)
    turn: int = 0


def _steps(costs: Costs) -> list[list[int]]:
    """Delay of an edge beyond the end, ps: [queue of the predecessor][queue of the successor]."""
    semaphore, trigger = costs.ps("sync.semaphore"), costs.ps("dma.trigger")
    step = [[0] * len(QUEUES) for _ in QUEUES]
    for a in range(len(QUEUES)):
        for b in range(len(QUEUES)):
            if a != b and a not in DMA_QUEUES and a != COLLECTIVE_QUEUE:
                step[a][b] = trigger if b in DMA_QUEUES or b == COLLECTIVE_QUEUE else semaphore
    return step


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """Numbers of a run. window: instructions that a queue looks ahead; chip_cores: cores of a chip; dma_engines: of a
    core; ps_per_KB: of HBM; tile_issue: time until the next matmul of another part of the array, ps; ramp: time in
    which a cold Tensor Engine runs at half rate, ps."""

    window: int
    chip_cores: int
    dma_engines: int
    ps_per_KB: int
    tile_issue: int
    ramp: int


def _rules(cores: int, costs: Costs, options: ClockOptions) -> _Rules:
    chip_cores = int(costs.number("memory.cores"))
    slow = options.throttle and costs.generation >= 3
    return _Rules(
        window=int(options.window if options.window is not None else costs.number("model.window")),
        chip_cores=chip_cores,
        dma_engines=int(costs.number("dma.engines")),
        ps_per_KB=round(1024 / hbm_Bps(costs, min(cores, chip_cores), options.active_cores) * PS),
        tile_issue=costs.cycles("tensor", costs.number("tensor_engine.tile_issue")),
        ramp=costs.ps("tensor_engine.throttle_window") if slow else 0,
    )


def _machine(s: Schedule, kinds: list[Cost], which: list[int]) -> _Machine:
    """The machine before the first instruction. kinds[which[i]]: cost of instruction i."""
    programs, n = s.programs, len(which)
    rules = _rules(len(programs), s.costs, s.options)
    nq = len(QUEUES)
    # edges -> successors, grouped by predecessor in program order
    counts = np.concatenate([np.diff(np.array(p.first, np.int64)) for p in programs]) if n else np.zeros(0, np.int64)
    edges = (
        np.concatenate([np.array(p.edges, np.int64) + 4 * s.offset[c] for c, p in enumerate(programs)]) if n else counts
    )
    items = 4 * np.repeat(np.arange(n), counts) + (edges & 3)
    order = np.argsort(edges >> 2, kind="stable")
    after = array("q", items[order].tobytes())
    ends = np.concatenate([[0], np.cumsum(np.bincount(edges >> 2, minlength=n))])
    owner = np.frombuffer(s.core, np.int32) if n else np.zeros(0, np.int32)
    queue = [k.queue for k in kinds]
    mine = owner * nq + np.asarray(queue, np.int32)[np.asarray(which, np.int64)] if n else owner
    if rules.window == 1:
        # strictly in order: one queue for all DMA of a ring
        for load, store in RINGS.values():
            mine = np.where(mine % nq == store, mine - store + load, mine)
    # ranks on several chips: each chip has HBM of its own
    hbm = [_Memory() for _ in range(-(-len(programs) // rules.chip_cores))]
    ndma = rules.dma_engines
    cores = [
        _Core([0] * ndma, [-1] * ndma, any(k.groups for k in p.costs), hbm[c // rules.chip_cores])
        for c, p in enumerate(programs)
    ]
    lines: list[_Line] = []
    for c, core in enumerate(cores):
        servers = {q: server for ring in RINGS.values() for server in [_Server()] for q in ring}
        servers[GPSIMD] = servers[RINGS["software"][0]]
        lines += [
            _Line(q, core, np.flatnonzero(mine == c * nq + q).tolist(), q in DMA_QUEUES, servers.get(q))
            for q in range(nq)
        ]
    m = _Machine(
        cores=cores,
        used=[line for line in lines if line.instructions],
        lines=[lines[x] for x in mine.tolist()],
        inside=bytearray(n),
        waiting=counts.tolist(),
        after=after,
        until=array("q", ends.astype(np.int64).tobytes()),
        ready_cause=array("b", [START]) * n,
        ready_by=array("q", [-1]) * n,
        window=rules.window,
        ps_per_KB=rules.ps_per_KB,
        tile_issue=rules.tile_issue,
        ramp=rules.ramp,
    )
    for c, p in enumerate(programs):
        for i, meeting in p.meetings.items():
            m.meeting_of[s.offset[c] + i] = meeting.key
            m.absent[meeting.key] = m.absent.get(meeting.key, 0) + 1
    return m


def _admit(m: _Machine, s: Schedule, line: _Line) -> None:
    """The next instruction of a queue enters its window."""
    if line.is_fenced or line.entered == len(line.instructions):
        return
    i = line.instructions[line.entered]
    line.entered += 1
    m.inside[i] = 1
    line.is_fenced = i in m.meeting_of
    if m.waiting[i] == 0:
        heappush(line.future, (s.ready[i], i))


def _next(used: list[_Line]) -> tuple[int, _Line, bool]:
    """(time, queue, from its heap `now`) of what starts next: the earliest; at one time, the first in program order of
    those that could start. Time -1: nothing."""
    best, chosen, from_now = -1, used[0], False
    for line in used:
        future, now, t = line.future, line.now, line.free
        if line.server is not None and line.server.free > t:
            t = line.server.free
        while future and future[0][0] <= t:
            heappush(now, heappop(future)[1])
        if now:
            if best < 0 or t < best or (t == best and from_now and now[0] < chosen.now[0]):
                best, chosen, from_now = t, line, True
        elif future and (best < 0 or future[0][0] < best):
            best, chosen, from_now = future[0][0], line, False
    return best, chosen, from_now


def _meet(m: _Machine, s: Schedule, at: int, i: int, line: _Line) -> None:
    """An instruction waits for the other cores; the last one to come lets all go on."""
    key = m.meeting_of[i]
    m.absent[key] -= 1
    m.arrived.setdefault(key, []).append((line, i))
    line.free = NEVER
    if m.absent[key]:
        return
    for other, j in m.arrived.pop(key):
        other.free = at
        del m.meeting_of[j]
        if j != i:
            s.ready[j], m.ready_cause[j], m.ready_by[j] = at, READ, i
        heappush(other.now, j)


def _issue_dma(m: _Machine, s: Schedule, at: int, i: int, line: _Line, k: Cost) -> None:
    """A DMA takes the issuer of its ring; its first byte arrives later."""
    server = line.server
    assert server is not None
    if at == s.ready[i] or server.free < at:
        s.cause[i], s.by[i] = m.ready_cause[i], m.ready_by[i]
    else:
        s.cause[i], s.by[i] = ISSUER, server.by
    server.free = line.free = at + k.issue
    server.by = i
    s.begin[i] = at
    m.turn += 1
    heappush(m.arriving, (at + k.issue + k.first_byte, m.turn, i))


def _move(m: _Machine, s: Schedule, arrive: int, i: int, core: _Core, k: Cost) -> int:
    """The bytes of a DMA arrive: each DMA engine moves its part, and HBM all of them. Returns when the last byte has
    moved."""
    moving, finish = -1, arrive
    engine_free, engine_by = core.engine_free, core.engine_by
    late, late_by = 0, -1
    for e, t in enumerate(k.transfer):
        if t:
            go = engine_free[e]
            if go < arrive:
                go = arrive
            elif go > late:
                late, late_by = go, engine_by[e]
            if moving < 0 or go < moving:
                moving = go
            go += t
            engine_free[e] = go
            engine_by[e] = i
            if go > finish:
                finish = go
    moved = k.hbm_read_B + k.hbm_write_B
    waits_for_hbm = False
    if moved:
        hbm = core.hbm
        who = hbm.by
        hbm.free = max(hbm.free, arrive) + moved * m.ps_per_KB // 1024
        hbm.by = i
        if hbm.free > finish:
            finish = hbm.free
            waits_for_hbm = True
            s.data_cause[i], s.data_by[i] = MEMORY, who
    if late > arrive and not waits_for_hbm:
        s.data_cause[i], s.data_by[i] = DMA, late_by
    s.data[i], s.end[i] = max(moving, arrive), finish
    return finish


def _run_engine(m: _Machine, s: Schedule, at: int, i: int, line: _Line, k: Cost) -> int:
    """An instruction holds its engine, once its ports are free. Returns when it is done."""
    start = _after_ports(s, at, i, line.core, k) if k.ports else at
    if start == at:
        _begin_cause(m, s, at, i, line)
    s.begin[i] = s.data[i] = start
    s.end[i] = line.free = finish = start + k.occupancy
    if line.server is not None:
        line.server.free, line.server.by = finish, i
    for port in k.ports:
        line.core.ports[port] = (finish, i)
    return finish


def _run_matmul(m: _Machine, s: Schedule, at: int, i: int, line: _Line, k: Cost) -> int:
    """An instruction of the Tensor Engine: behind the one before it while its stationary tile is loaded, in a part of
    the array or in all of it, at half the rate while the engine is cold. Returns when it is done."""
    core = line.core
    start = at
    if core.is_tiled and not k.groups:
        start = max(start, max(core.groups))
    held = start
    alone = 0
    weights, before = m.weights_ready.get(i, 0), core.matmul
    began = s.begin[before] if before >= 0 else 0
    start = max(start, weights + k.weights)
    if before >= 0 and began + k.load > start:
        start = began + k.load
    if before < 0 or weights > began:
        # not behind the matmul before: the engine loads the stationary tile and does nothing else
        held = max(weights, held) if weights + k.weights > at else held
        alone = min(k.weights, start - max(weights, line.free))
    if start > at:
        s.cause[i], s.by[i] = WEIGHT_BUFFER, m.ready_by[i] if weights else before
    if k.ports:
        start = _after_ports(s, start, i, core, k)
    if start == at:
        _begin_cause(m, s, at, i, line)
    for g in k.groups:
        if core.groups[g] > start:
            start = core.groups[g]
    held = max(held, start) if k.groups else held
    occupancy = k.occupancy
    if m.ramp:
        if start - core.idle_since > m.ramp // 2:
            core.busy_since = start
        age = start - core.busy_since
        if age < m.ramp:
            rest = m.ramp - age
            occupancy = 2 * occupancy if 2 * occupancy <= rest else rest + occupancy - rest // 2
        core.idle_since = start + occupancy
    s.begin[i], s.data[i] = held, start
    s.loading[i] = max(alone, start - held)
    core.matmul = i
    s.end[i] = line.free = finish = start + occupancy
    if k.groups:
        line.free = min(finish, start + m.tile_issue)
        for g in k.groups:
            core.groups[g] = finish
    elif core.is_tiled:
        core.groups = [finish] * 16
    for port in k.ports:
        core.ports[port] = (finish, i)
    return finish


def _after_ports(s: Schedule, start: int, i: int, core: _Core, k: Cost) -> int:
    for port in k.ports:
        t, who = core.ports.get(port, (0, -1))
        if t > start:
            start = t
            s.cause[i], s.by[i] = PORT, who
    return start


def _begin_cause(m: _Machine, s: Schedule, at: int, i: int, line: _Line) -> None:
    """What decided the begin of an instruction that starts as soon as it is picked: the last that it waited for, or its
    engine."""
    server = line.server
    if m.ready_by[i] >= 0 and s.ready[i] >= at:
        s.cause[i], s.by[i] = m.ready_cause[i], m.ready_by[i]
    elif server is not None and server.by >= 0 and server.free == at:
        s.cause[i], s.by[i] = ENGINE, server.by
    else:
        s.cause[i], s.by[i] = (ENGINE, line.holder) if line.holder >= 0 and line.free == at else (START, -1)


def _run(programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule:
    s, kinds, which = _blank(programs, costs, options), _kinds(programs), _which(programs)
    m = _machine(s, kinds, which)
    step = _steps(costs)
    for line in m.used:
        for _ in range(m.window):
            _admit(m, s, line)
    # the tables of the inner loop, by names of their own: it runs once for each edge
    used, lines, inside, waiting, after, until = m.used, m.lines, m.inside, m.waiting, m.after, m.until
    ready, ready_cause, ready_by, meeting_of = s.ready, m.ready_cause, m.ready_by, m.meeting_of
    arriving = m.arriving
    left = len(which)
    while left:
        at, line, from_now = _next(used)
        if arriving and (at < 0 or arriving[0][0] <= at):
            # the bytes of a DMA come before the next instruction
            arrive, _, i = heappop(arriving)
            left -= 1
            k = kinds[which[i]]
            line = lines[i]
            own = line.queue
            finish = _move(m, s, arrive, i, line.core, k)
            after_data = after_read = finish + k.latency
        else:
            i = heappop(line.now) if from_now else heappop(line.future)[1]
            if i in meeting_of:
                _meet(m, s, at, i, line)
                continue
            k = kinds[which[i]]
            own = line.queue
            if line.issues:
                _issue_dma(m, s, at, i, line, k)
            else:
                left -= 1
                finish = (_run_matmul if own == TENSOR else _run_engine)(m, s, at, i, line, k)
                after_data, after_read = finish + k.latency, finish
            line.holder = i
            if line.is_fenced:
                line.is_fenced = False
                for _ in range(m.window):
                    _admit(m, s, line)
            else:
                _admit(m, s, line)
            if line.issues:
                continue
        # release those that wait for it
        first, last = until[i], until[i + 1]
        if first == last:
            continue
        delays = step[own]
        for item in after[first:last]:
            j = item >> 2
            kind = item & 3
            other = lines[j]
            if kind in NEEDED:
                t = (finish if own == TENSOR and other.queue == TENSOR else after_data) + delays[other.queue]
                if kind == WEIGHT_BUFFER and t > m.weights_ready.get(j, 0):
                    m.weights_ready[j] = t
            else:
                t = after_read + delays[other.queue]
            if t > ready[j]:
                ready[j] = t
                ready_cause[j] = kind
                ready_by[j] = i
            left_to_wait = waiting[j] - 1
            waiting[j] = left_to_wait
            if left_to_wait == 0 and inside[j]:
                heappush(other.future, (ready[j], j))
    tail = np.asarray([0 if k.queue in DMA_QUEUES else k.latency for k in kinds], np.int64)
    if which:
        s.total = int((np.frombuffer(s.end, np.int64) + tail[np.asarray(which, np.int64)]).max())
    return s


def _kinds(programs: Sequence[Program]) -> list[Cost]:
    """The costs of all programs, one after the other."""
    return [k for p in programs for k in p.costs]


def _which(programs: Sequence[Program]) -> list[int]:
    """The number of each instruction's cost in them."""
    which: list[int] = []
    base = 0
    for p in programs:
        which += [base + c for c in p.cost] if base else list(p.cost)
        base += len(p.costs)
    return which


def _blank(programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule:
    """A schedule whose times are 0."""
    counts = [len(p.cost) for p in programs]
    n = sum(counts)
    owner = array("i")
    for c, count in enumerate(counts):
        owner.extend(array("i", [c]) * count)
    begin, data, end, ready, loading = (array("q", [0]) * n for _ in range(5))
    by, data_by, cause, data_cause = (array(code, [0]) * n for code in "iibb")
    return Schedule(
        generation=costs.generation,
        costs=costs,
        programs=programs,
        options=options,
        begin=begin,
        data=data,
        end=end,
        ready=ready,
        loading=loading,
        cause=cause,
        by=by,
        data_cause=data_cause,
        data_by=data_by,
        core=owner,
        offset=list(accumulate(counts, initial=0))[:-1],
        total=0,
    )


# the same, compiled ------------------------------------------------------------------------------------------

PORTS = 4
"""Most ports that an instruction holds."""


def _cost_rows(kinds: Sequence[Cost], window: int) -> compiled.ClockColumn | None:
    """Of each cost: queue, the queue that takes it, whether it is a DMA, its times, bytes of HBM, the groups of the
    array as bits, its ports (-1 beyond the last). None where there are more ports than the compiled code knows."""
    taken = {store: load for load, store in RINGS.values()} if window == 1 else {}
    ports: dict[str, int] = {}
    out: list[tuple[int, ...]] = []
    for k in kinds:
        held = [ports.setdefault(name, len(ports)) for name in k.ports]
        out.append(
            (
                k.queue,
                taken.get(k.queue, k.queue),
                k.queue in DMA_QUEUES,
                k.occupancy,
                k.latency,
                k.weights,
                k.load,
                k.issue,
                k.first_byte,
                k.hbm_read_B + k.hbm_write_B,
                sum({1 << g for g in k.groups}),
                *held,
                *(-1 for _ in range(PORTS - len(held))),
            )
        )
    return compiled.rows(out, 11 + PORTS) if len(ports) <= PORTS else None


def _compiled(library: CDLL, programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule | None:
    """The event loop by the compiled code; None where it cannot."""
    kinds = _kinds(programs)
    rules = _rules(len(programs), costs, options)
    cost_rows = _cost_rows(kinds, rules.window)
    if cost_rows is None:
        return None
    s = _blank(programs, costs, options)
    transfer = np.zeros((len(kinds), rules.dma_engines), np.int64)
    for row, k in zip(transfer, kinds, strict=True):
        row[: len(k.transfer)] = k.transfer
    keys: dict[Any, int] = {}
    meetings = [
        (s.offset[c] + i, keys.setdefault(p.meetings[i].key, len(keys)))
        for c, p in enumerate(programs)
        for i in sorted(p.meetings)
    ]
    meeting_rows, step = compiled.rows(meetings, 2), np.array(_steps(costs), np.int64)
    server_of = np.full(len(QUEUES), -1)
    for server, (name, ring) in enumerate(RINGS.items()):
        server_of[[*ring, *([GPSIMD] if name == "software" else [])]] = server
    at = compiled.address
    cores = (compiled.CoreProgram * len(programs))()
    base = 0
    for c, p in enumerate(programs):
        cores[c] = compiled.CoreProgram(
            cost=at(p.cost),
            first=at(p.first),
            edge=at(p.edges),
            instructions=len(p.cost),
            base=base,
            chip=c // rules.chip_cores,
            is_tiled=any(k.groups for k in p.costs),
        )
        base += len(p.costs)
    given = compiled.ScheduleGiven(
        cores=len(programs),
        chips=-(-len(programs) // rules.chip_cores),
        costs=len(kinds),
        queues=len(QUEUES),
        servers=len(RINGS),
        dma_engines=rules.dma_engines,
        window=rules.window,
        ps_per_KB=rules.ps_per_KB,
        tile_issue=rules.tile_issue,
        ramp=rules.ramp,
        meetings=len(meetings),
        meeting_keys=len(keys),
        programs=compiled.address_of(cores),
        cost_rows=at(cost_rows),
        transfer=at(transfer),
        step=at(step),
        server_of=at(server_of),
        meeting_rows=at(meeting_rows),
    )
    out = compiled.ScheduleMade(
        begin=at(s.begin),
        data=at(s.data),
        end=at(s.end),
        ready=at(s.ready),
        loading=at(s.loading),
        by=at(s.by),
        data_by=at(s.data_by),
        cause=at(s.cause),
        data_cause=at(s.data_cause),
    )
    if not compiled.done(library.clock_schedule(compiled.by_reference(given), compiled.by_reference(out))):
        return None
    s.total = out.total
    return s


__all__ = [
    "BUFFER",
    "CAUSES",
    "DATA",
    "ENGINE",
    "ISSUER",
    "READ",
    "START",
    "WEIGHT_BUFFER",
    "ClockOptions",
    "Program",
    "Schedule",
    "hbm_Bps",
    "prepare",
    "run_programs",
    "schedule",
]
