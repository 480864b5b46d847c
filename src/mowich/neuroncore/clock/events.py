"""When each instruction runs, in plain Python: what `c/schedule.c` does, to be read, to be compared with, and to run
where there is no compiler. The rules are told in `schedule.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from mowich.neuroncore.clock.depend import DATA, READ, WEIGHT_BUFFER
from mowich.neuroncore.clock.records import Schedule
from mowich.neuroncore.instructions.rates import DMA_QUEUES, GPSIMD, QUEUES, RINGS, TENSOR, Cost

START, ENGINE, ISSUER, DMA, MEMORY, PORT = range(4, 10)
"""What else can decide the time of an instruction: nothing before it; its engine; the DMA issuer; the DMA engines; HBM;
a port."""
NEVER = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRules:
    """Numbers of a run. window: instructions that a queue looks ahead; chip_cores: cores of a chip; dma_engines: of a
    core; ps_per_KB: of HBM; tile_issue: time until the next matmul of another part of the array, ps; ramp: time in
    which a cold Tensor Engine runs at half rate, ps; step: delay of an edge beyond the end, ps, by the queues of the
    predecessor and of the successor."""

    window: int
    chip_cores: int
    dma_engines: int
    ps_per_KB: int
    tile_issue: int
    ramp: int
    step: Sequence[Sequence[int]]


@dataclass(slots=True)
class Taken:
    """Something that is taken in turn: a DMA engine, a port, HBM, the issuer of a ring. free: until when it is taken,
    ps; by: the instruction that took it last."""

    free: int = 0
    by: int = -1


@dataclass(slots=True)
class CoreState:
    """What the queues of one core share. engines: for DMA; ports: by name; matmul: the last one; groups: until when
    each of the 4 x 4 groups of the array is held; is_tiled: some matmul holds only a part of the array; busy_since,
    idle_since: of the Tensor Engine, for its slow start; hbm: of the chip."""

    engines: list[Taken]
    hbm: Taken
    is_tiled: bool
    ports: dict[str, Taken] = field(default_factory=lambda: defaultdict(Taken))
    matmul: int = -1
    groups: list[int] = field(default_factory=lambda: [0] * 16)
    busy_since: int = 0
    idle_since: int = -(10**15)


@dataclass(slots=True)
class QueueState:
    """One queue of one core: an engine or a kind of DMA triggers. server: what it shares with other queues;
    instructions: in program order, of which the first `entered` are inside the window or done; open: those inside that
    wait for no other; holder: the instruction that it took last; is_fenced: a meeting of cores is inside, and nothing
    behind it may enter."""

    queue: int
    core: CoreState
    server: Taken | None
    instructions: list[int] = field(default_factory=list)
    entered: int = 0
    open: set[int] = field(default_factory=set)
    free: int = 0
    holder: int = -1
    is_fenced: bool = False


class NextPick(NamedTuple):
    """What a queue could take next. is_late: it could start before the queue is free."""

    time: int
    instruction: int
    line: QueueState
    is_late: bool


class EventLoop:
    """The state of a run. costs, lines: the cost and the queue of each instruction; inside: those that have entered
    their windows; waiting: for how many others each waits; after: (successor, kind of edge) of each; ready_cause,
    ready_by: what made it ready last; weights_ready: of a matmul, when its stationary tile is there; meeting_of: of an
    instruction, the key of the meeting that it waits at; absent: how many have not come to a meeting; arrived: those
    that have; arriving: DMAs that were issued and wait for the DMA engines: (time of the first byte, turn,
    instruction)."""

    def __init__(self, s: Schedule, rules: LoopRules) -> None:
        self.s, self.rules = s, rules
        self.costs: list[Cost] = [s.cost_of(i) for i in range(len(s.begin))]
        n = len(self.costs)
        self.lines: list[QueueState] = []
        self.used: list[QueueState] = []
        self.inside: set[int] = set()
        self.waiting = [0] * n
        self.after: list[list[tuple[int, int]]] = [[] for _ in range(n)]
        self.ready_cause, self.ready_by = [START] * n, [-1] * n
        self.weights_ready: dict[int, int] = defaultdict(int)
        self.meeting_of: dict[int, Hashable] = {}
        self.absent: dict[Hashable, int] = defaultdict(int)
        self.arrived: dict[Hashable, list[int]] = defaultdict(list)
        self.arriving: list[tuple[int, int, int]] = []
        self.turns = 0
        self.open_cores()

    def open_cores(self) -> None:
        """The queues of each core, with their instructions."""
        s, rules = self.s, self.rules
        # strictly in order: one queue for all DMA of a ring
        taken = {store: load for load, store in RINGS.values()} if rules.window == 1 else {}
        # ranks on several chips: each chip has HBM of its own
        hbm = [Taken() for _ in range(-(-len(s.programs) // rules.chip_cores))]
        for c, p in enumerate(s.programs):
            is_tiled = any(k.groups for k in p.costs)
            core = CoreState([Taken() for _ in range(rules.dma_engines)], hbm[c // rules.chip_cores], is_tiled)
            servers = {q: server for ring in RINGS.values() for server in [Taken()] for q in ring}
            servers[GPSIMD] = servers[RINGS["software"][0]]
            lines = [QueueState(q, core, servers.get(q)) for q in range(len(QUEUES))]
            for i in range(len(p.cost)):
                me, queue = s.offset[c] + i, p.costs[p.cost[i]].queue
                self.lines.append(lines[taken.get(queue, queue)])
                self.lines[me].instructions.append(me)
                edges = p.edges[p.first[i] : p.first[i + 1]]
                self.waiting[me] = len(edges)
                for edge in edges:
                    self.after[s.offset[c] + edge // 4].append((me, edge % 4))
                if i in p.meetings:
                    self.meeting_of[me] = p.meetings[i].key
                    self.absent[p.meetings[i].key] += 1
            self.used += [line for line in lines if line.instructions]

    def play(self) -> None:
        """Everything, in the order of time."""
        s = self.s
        for line in self.used:
            self.admit(line, self.rules.window)
        left = len(self.costs)
        while left:
            pick = self.next()
            if self.arriving and (pick is None or self.arriving[0][0] <= pick.time):
                # the bytes of a DMA come before the next instruction
                arrive, _, i = heappop(self.arriving)
                self.move(i, arrive)
                self.release(i)
                left -= 1
                continue
            assert pick is not None
            at, i, line, _ = pick
            line.open.remove(i)
            if i in self.meeting_of:
                self.meet(i, at)
                continue
            if line.queue in DMA_QUEUES:
                self.issue(i, at)
            elif line.queue == TENSOR:
                self.multiply(i, at)
            else:
                self.execute(i, at)
            line.holder = i
            self.admit(line, self.rules.window if line.is_fenced else 1)
            if line.queue not in DMA_QUEUES:
                self.release(i)
                left -= 1
        s.total = max((s.end[i] + tail(k) for i, k in enumerate(self.costs)), default=0)

    def admit(self, line: QueueState, count: int) -> None:
        """The next instructions of a queue enter its window; a meeting comes in last, until it is over."""
        line.is_fenced = False
        for i in line.instructions[line.entered : line.entered + count]:
            line.entered += 1
            self.inside.add(i)
            if not self.waiting[i]:
                line.open.add(i)
            if i in self.meeting_of:
                line.is_fenced = True
                break

    def next(self) -> NextPick | None:
        """What starts next: the earliest; at one time, the first in program order of those that could have started."""
        best: NextPick | None = None
        for line in self.used:
            if not line.open:
                continue
            free = line.free if line.server is None else max(line.free, line.server.free)
            time, i = min((max(free, self.s.ready[i]), i) for i in line.open)
            pick = NextPick(time, i, line, self.s.ready[i] <= free)
            if best is None or time < best.time:
                best = pick
            elif time == best.time and pick.is_late and best.is_late:
                best = min(pick, best, key=lambda x: x.instruction)
        return best

    def release(self, i: int) -> None:
        """Tell those that wait for an instruction."""
        s, k, own = self.s, self.costs[i], self.lines[i].queue
        for j, kind in self.after[i]:
            other = self.lines[j]
            t = s.end[i] + self.rules.step[own][other.queue]
            if own in DMA_QUEUES or (kind in (DATA, WEIGHT_BUFFER) and not (own == other.queue == TENSOR)):
                t += k.latency
            if kind == WEIGHT_BUFFER:
                self.weights_ready[j] = max(self.weights_ready[j], t)
            if t > s.ready[j]:
                s.ready[j], self.ready_cause[j], self.ready_by[j] = t, kind, i
            self.waiting[j] -= 1
            if not self.waiting[j] and j in self.inside:
                other.open.add(j)

    def meet(self, i: int, at: int) -> None:
        """An instruction waits for the other cores; the last one to come lets all go on."""
        key = self.meeting_of[i]
        self.absent[key] -= 1
        self.arrived[key].append(i)
        self.lines[i].free = NEVER
        if self.absent[key]:
            return
        for j in self.arrived.pop(key):
            self.lines[j].free = at
            self.lines[j].open.add(j)
            del self.meeting_of[j]
            if j != i:
                self.s.ready[j], self.ready_cause[j], self.ready_by[j] = at, READ, i

    # DMA ------------------------------------------------------------------------------------------------------
    def issue(self, i: int, at: int) -> None:
        """A DMA takes the issuer of its ring; its first byte arrives later."""
        s, k, line = self.s, self.costs[i], self.lines[i]
        server = line.server
        assert server is not None
        if at == s.ready[i] or server.free < at:
            s.cause[i], s.by[i] = self.ready_cause[i], self.ready_by[i]
        else:
            s.cause[i], s.by[i] = ISSUER, server.by
        s.begin[i] = at
        server.free = line.free = at + k.issue
        server.by = i
        self.turns += 1
        heappush(self.arriving, (at + k.issue + k.first_byte, self.turns, i))

    def move(self, i: int, arrive: int) -> None:
        """The bytes of a DMA arrive: each DMA engine moves its part, and HBM all of them."""
        s, k, core = self.s, self.costs[i], self.lines[i].core
        begins, end, late = [], arrive, Taken()
        for engine, t in zip(core.engines, k.transfer, strict=False):
            if t:
                if engine.free >= arrive and engine.free > late.free:
                    late = Taken(engine.free, engine.by)
                begins.append(max(engine.free, arrive))
                engine.free, engine.by = begins[-1] + t, i
                end = max(end, engine.free)
        if late.free > arrive:
            s.data_cause[i], s.data_by[i] = DMA, late.by
        moved_B, hbm = k.hbm_read_B + k.hbm_write_B, core.hbm
        if moved_B:
            before = hbm.by
            hbm.free, hbm.by = max(hbm.free, arrive) + moved_B * self.rules.ps_per_KB // 1024, i
            if hbm.free > end:
                end = hbm.free
                s.data_cause[i], s.data_by[i] = MEMORY, before
        s.data[i], s.end[i] = min(begins, default=arrive), end

    # engines --------------------------------------------------------------------------------------------------
    def execute(self, i: int, at: int) -> None:
        """An instruction holds its engine, once its ports are free."""
        s, k, line = self.s, self.costs[i], self.lines[i]
        start = self.after_ports(i, at)
        if start == at:
            self.begin_cause(i, at)
        s.begin[i] = s.data[i] = start
        s.end[i] = line.free = start + k.occupancy
        if line.server is not None:
            line.server.free, line.server.by = s.end[i], i
        self.hold_ports(i)

    def multiply(self, i: int, at: int) -> None:
        """An instruction of the Tensor Engine: behind the one before it while its stationary tile is loaded, in a part
        of the array or in all of it, at half the rate while the engine is cold."""
        s, k, line = self.s, self.costs[i], self.lines[i]
        core, weights = line.core, self.weights_ready[i]
        held = max(at, *core.groups) if core.is_tiled and not k.groups else at
        before, began = core.matmul, s.begin[core.matmul] if core.matmul >= 0 else 0
        start = max(held, weights + k.weights)
        if before >= 0:
            start = max(start, began + k.load)
        alone = 0
        if before < 0 or weights > began:
            # not behind the matmul before: the engine loads the stationary tile and does nothing else
            if weights + k.weights > at:
                held = max(weights, held)
            alone = min(k.weights, start - max(weights, line.free))
        if start > at:
            s.cause[i], s.by[i] = WEIGHT_BUFFER, self.ready_by[i] if weights else before
        start = self.after_ports(i, start)
        if start == at:
            self.begin_cause(i, at)
        if k.groups:
            start = max(start, *(core.groups[g] for g in k.groups))
            held = max(held, start)
        occupancy = self.warmed(core, start, k.occupancy)
        s.begin[i], s.data[i], s.end[i] = held, start, start + occupancy
        s.loading[i] = max(alone, start - held)
        core.matmul = i
        line.free = min(s.end[i], start + self.rules.tile_issue) if k.groups else s.end[i]
        for g in k.groups or (range(16) if core.is_tiled else ()):
            core.groups[g] = s.end[i]
        self.hold_ports(i)

    def warmed(self, core: CoreState, start: int, occupancy: int) -> int:
        """How long a matmul takes that starts then: a cold Tensor Engine runs at half rate."""
        ramp = self.rules.ramp
        if start - core.idle_since > ramp // 2:
            core.busy_since = start
        rest = ramp - (start - core.busy_since)
        if rest > 0:
            occupancy = 2 * occupancy if 2 * occupancy <= rest else rest + occupancy - rest // 2
        core.idle_since = start + occupancy
        return occupancy

    def after_ports(self, i: int, start: int) -> int:
        """When the ports of an instruction are free."""
        for name in self.costs[i].ports:
            port = self.lines[i].core.ports[name]
            if port.free > start:
                start = port.free
                self.s.cause[i], self.s.by[i] = PORT, port.by
        return start

    def hold_ports(self, i: int) -> None:
        """Its ports are taken until it ends."""
        for name in self.costs[i].ports:
            self.lines[i].core.ports[name] = Taken(self.s.end[i], i)

    def begin_cause(self, i: int, at: int) -> None:
        """What decided the begin of an instruction that starts as soon as it is picked: the last that it waited for, or
        its engine."""
        s, line = self.s, self.lines[i]
        server = line.server
        if self.ready_by[i] >= 0 and s.ready[i] >= at:
            s.cause[i], s.by[i] = self.ready_cause[i], self.ready_by[i]
        elif server is not None and server.by >= 0 and server.free == at:
            s.cause[i], s.by[i] = ENGINE, server.by
        elif line.holder >= 0 and line.free == at:
            s.cause[i], s.by[i] = ENGINE, line.holder
        else:
            s.cause[i], s.by[i] = START, -1


def tail(k: Cost) -> int:
    """How long after its end the result of an instruction is there, where its end is not that."""
    return 0 if k.queue in DMA_QUEUES else k.latency
