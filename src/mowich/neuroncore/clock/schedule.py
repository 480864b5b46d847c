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

import ctypes
from array import array
from collections.abc import Hashable, Sequence
from ctypes import CDLL
from itertools import accumulate

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.buffers import BUFFER_POLICIES, WORTH
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.costs import costs as shipped_costs
from mowich.neuroncore.clock.depend import BUFFER, DATA, READ, WEIGHT_BUFFER
from mowich.neuroncore.clock.events import ENGINE, ISSUER, START, EventLoop, LoopRules
from mowich.neuroncore.clock.lower import balanced, lowered, without_dge
from mowich.neuroncore.clock.places import renewed, settled, unzeroed
from mowich.neuroncore.clock.program import no_collection, prepare
from mowich.neuroncore.clock.records import ClockOptions, Program, Schedule
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, DMA_QUEUES, GPSIMD, PS, QUEUES, RINGS, Cost
from mowich.neuroncore.trace import Trace

CAUSES = ("done reading", "result", "buffer", "weights", "start", "engine", "DMA issuer", "DMA engines", "HBM", "port")
"""What decides the time of an instruction, by number: kinds of edges, then what else can (`events.py`)."""


def schedule(traces: Sequence[Trace], costs: Costs, options: ClockOptions | None = None) -> Schedule:
    """Schedule the traces of the cores of one launch together: they share HBM and meet at barriers."""
    options = options or ClockOptions()
    return _fitted(as_compiled(traces, costs, options), costs, options)


def as_compiled(traces: Sequence[Trace], costs: Costs, options: ClockOptions) -> Sequence[Trace]:
    """Traces with what the compiler does to them before they run."""
    if options.dge is False:
        traces = [without_dge(t) for t in traces]
    if options.optimise:
        bank, only_invariant = limits(costs.generation).psum_bank_B, not costs.number("model.merges_repeats")
        traces = [unzeroed(settled(t)) for t in traces]
        if options.older:
            # fused kernels of the newer interface run as if each tile kept the bytes that its author gave it
            traces = [renewed(t) for t in traces]
        traces = [balanced(lowered(t, bank, only_invariant), costs) for t in traces]
    return traces


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
    made = None if library is None else compiled_schedule(library, programs, costs, options)
    return reference_schedule(programs, costs, options) if made is None else made


def reference_schedule(programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule:
    """The event loop by the Python code."""
    s = _blank(programs, costs, options)
    with no_collection():
        EventLoop(s, _rules(len(programs), costs, options)).play()
    return s


def _steps(costs: Costs) -> list[list[int]]:
    """Delay of an edge beyond the end, ps: [queue of the predecessor][queue of the successor]."""
    semaphore, trigger = costs.ps("sync.semaphore"), costs.ps("dma.trigger")
    step = [[0] * len(QUEUES) for _ in QUEUES]
    for a in range(len(QUEUES)):
        for b in range(len(QUEUES)):
            if a != b and a not in DMA_QUEUES and a != COLLECTIVE_QUEUE:
                step[a][b] = trigger if b in DMA_QUEUES or b == COLLECTIVE_QUEUE else semaphore
    return step


def _rules(cores: int, costs: Costs, options: ClockOptions) -> LoopRules:
    chip_cores = int(costs.number("memory.cores"))
    slow = options.throttle and costs.generation >= 3
    return LoopRules(
        window=int(options.window if options.window is not None else costs.number("model.window")),
        chip_cores=chip_cores,
        dma_engines=int(costs.number("dma.engines")),
        ps_per_KB=round(1024 / hbm_Bps(costs, min(cores, chip_cores), options.active_cores) * PS),
        tile_issue=costs.cycles("tensor", costs.number("tensor_engine.tile_issue")),
        ramp=costs.ps("tensor_engine.throttle_window") if slow else 0,
        step=_steps(costs),
    )


def _blank(programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule:
    """A schedule whose times are 0."""
    counts = [len(p.cost) for p in programs]
    n = sum(counts)
    owner = array("i", np.repeat(np.arange(len(counts), dtype=np.int32), counts).tobytes())
    begin, data, end, ready, loading = (array("q", [0]) * n for _ in range(5))
    by, data_by, cause, data_cause = (array(code, [0]) * n for code in "iibb")
    times = (begin, data, end, ready, loading, cause, by, data_cause, data_by)
    offset = list(accumulate(counts, initial=0))[:-1]
    return Schedule(costs.generation, costs, programs, options, *times, core=owner, offset=offset, total=0)


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


def compiled_schedule(library: CDLL, programs: list[Program], costs: Costs, options: ClockOptions) -> Schedule | None:
    """The event loop by the compiled code; None where it cannot."""
    kinds = [k for p in programs for k in p.costs]
    rules = _rules(len(programs), costs, options)
    cost_rows = _cost_rows(kinds, rules.window)
    if cost_rows is None:
        return None
    s = _blank(programs, costs, options)
    transfer = np.zeros((len(kinds), rules.dma_engines), np.int64)
    for row, k in zip(transfer, kinds, strict=True):
        row[: len(k.transfer)] = k.transfer
    keys: dict[Hashable, int] = {}
    meetings = [
        (s.offset[c] + i, keys.setdefault(p.meetings[i].key, len(keys)))
        for c, p in enumerate(programs)
        for i in sorted(p.meetings)
    ]
    server_of = np.full(len(QUEUES), -1)
    for server, (name, ring) in enumerate(RINGS.items()):
        server_of[[*ring, *([GPSIMD] if name == "software" else [])]] = server
    cores = (compiled.CoreProgram * len(programs))()
    base = 0
    for c, p in enumerate(programs):
        is_tiled, chip = any(k.groups for k in p.costs), c // rules.chip_cores
        cores[c] = compiled.CoreProgram.of(
            p, edge=p.edges, instructions=len(p.cost), base=base, chip=chip, is_tiled=is_tiled
        )
        base += len(p.costs)
    given = compiled.ScheduleGiven.of(
        rules,
        cores=len(programs),
        chips=-(-len(programs) // rules.chip_cores),
        costs=len(kinds),
        queues=len(QUEUES),
        servers=len(RINGS),
        meetings=len(meetings),
        meeting_keys=len(keys),
        programs=ctypes.addressof(cores),
        cost_rows=cost_rows,
        transfer=transfer,
        step=np.array(rules.step, np.int64),
        server_of=server_of,
        meeting_rows=compiled.rows(meetings, 2),
    )
    out = compiled.ScheduleMade.of(s)
    if not compiled.is_done(library.clock_schedule, given, out):
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
