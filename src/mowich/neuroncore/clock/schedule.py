"""When each instruction runs: a trace replayed through in-order engines, DMA queues, one DMA issuer, 16 DMA engines and the memories.

Rules. An instruction is ready when those that it waits for are done: `end + latency`, and a semaphore where the engines differ. An
engine or DMA queue takes, among the next `window` instructions of its program order, the first that is ready (window 1: strictly in
order). A DMA first holds the core's issuer, then its bytes follow `first_byte` later, each DMA engine first in, first out. Tiles without
an address of their own rotate through SBUF and PSUM: a new one takes the bytes that were freed longest ago, and waits for their last
users. Everything is integer arithmetic in time order: the same trace gives the same times everywhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np

from mowich.neuroncore.clock.buffers import POLICIES, WORTH
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.lower import balanced, lowered
from mowich.neuroncore.clock.program import BUFFER, DATA, READ, WEIGHTS, Options, Program, no_collection, prepare
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE, GPSIMD, LOAD, PS, QUEUES, STORE, TENSOR, Cost
from mowich.neuroncore.trace import Trace

NEEDED = (DATA, WEIGHTS)
START, ENGINE, ISSUER, DMA, MEMORY, PORT = range(4, 10)
"""What else can decide the time of an instruction: nothing before it; its engine; the DMA issuer; the DMA engines; HBM; a port."""
CAUSES = ("done reading", "result", "buffer", "weights", "start", "engine", "DMA issuer", "DMA engines", "HBM", "port")
NEVER = 1 << 62


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
    with no_collection():
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

    used = [q for q in range(nqueues) if lines[q]]
    for q in used:
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
    issues = [q % nq in (LOAD, STORE) for q in range(nqueues)]
    left = n
    while left:
        best, chosen, from_now = -1, -1, False
        for q in used:
            f = future[q]
            ready_now = now[q]
            t = free[q]
            if issues[q] and issuer[q // nq] > t:
                t = issuer[q // nq]
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


__all__ = [
    "BUFFER",
    "CAUSES",
    "DATA",
    "ENGINE",
    "ISSUER",
    "READ",
    "START",
    "WEIGHTS",
    "Options",
    "Program",
    "Schedule",
    "hbm_Bps",
    "prepare",
    "run",
    "schedule",
]
