"""What no edit of a kind can gain: the work that such an edit leaves, at the rates of the machine.

A schedule is never shorter than the work of one engine, of one DMA engine, or of HBM. An edit of a kind changes some of
this work and leaves the rest. So the longest of what it leaves, at the least that the rest could take, is a time that
no edit of the kind can beat. It is a roofline, not a promise: what waits for what is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.records import Program, Schedule
from mowich.neuroncore.clock.schedule import hbm_Bps
from mowich.neuroncore.instructions.rates import (
    DMA_QUEUES,
    FP8,
    GPSIMD,
    PS,
    QUEUES,
    RINGS,
    SCALAR,
    SOFTWARE,
    TENSOR,
    VECTOR,
    Cost,
)
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.profile import Profile
from mowich.neuroncore.trace import Kind, Trace
from mowich.sums import float_sum

EDIT_KINDS: Mapping[str, str] = {
    "engine": "another engine for an instruction",
    "dma mode": "another way to make the descriptors of a DMA, or another queue",
    "dma size": "several DMAs as one",
    "buffers": "more tiles in turn, so that a new one does not wait for the last",
    "reuse": "a tile that stays in SBUF, in place of another load",
    "fusion": "two instructions as one, or one that is not needed",
    "format": "16 bits in place of 32 on chip",
    "tile size": "another constant of the kernel",
    "loop order": "two loops exchanged",
}
"""Kinds of edits, and what they are."""
_FAST = 4.0
"""Most by how much a format on chip makes a product or an instruction faster: four passes of float32 against one, and
formats of 8 bits against 16."""
_STATIC_SINCE = 3
"""First generation with a rate of its own for static descriptors."""
_MOVABLE = (VECTOR, SCALAR, GPSIMD)
_SLACK = 1e-9
"""Times are whole picoseconds, and a bound is a sum of rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditBound:
    """The least time, in seconds, that a kernel could take after edits of a kind, and what sets it."""

    kind: str
    time_s: float
    by: str

    def gain(self, base_s: float) -> float:
        """The largest share of a time that an edit of this kind could save."""
        return max(0.0, 1.0 - self.time_s / base_s) if base_s else 0.0


@dataclass(slots=True)
class _Work:
    """Work of one core in seconds. engine: by name of its queue; movable: least of what several engines could do, and
    what one alone can, by engine; issue: of each ring; dma: of the busiest DMA engine."""

    engine: dict[str, float]
    movable: float
    fixed: dict[str, float]
    issue: dict[str, float]
    dma: float


def bounds_of(s: Schedule) -> dict[str, EditBound]:
    """The bound of each kind of edits, and of all together ("all"), from the schedule of a kernel."""
    work = [_work(p, s.costs) for p in s.programs]
    cores = len(s.programs)
    rates = ("dma.rate", "dma.static_rate") if s.generation >= _STATIC_SINCE else ("dma.rate",)
    rate = max(map(s.costs.number, rates)) * s.costs.number("dma.engines")
    memory = hbm_Bps(s.costs, min(cores, int(s.costs.number("memory.cores"))), s.options.active_cores)
    moved = [_moved_B(p) for p in s.programs]
    least = [_least_B(p.trace) for p in s.programs]
    flops = [_product_s(p, s.costs, may_change=False) for p in s.programs]
    fast = [_product_s(p, s.costs, may_change=True) for p in s.programs]

    def most(of: list[float], by: str) -> tuple[float, str]:
        return max(of, default=0.0), by

    hbm, once = float_sum(moved) / memory, _shared_B(s.programs, least) / memory
    engines = [most([w.engine.get(q, 0.0) for w in work], f"the work of the {q} engine") for q in QUEUES[:4]]
    tensor = most([w.engine.get("tensor", 0.0) for w in work], "the work of the tensor engine")
    rings = [most([w.issue.get(r, 0.0) for w in work], f"the issue of DMAs ({r})") for r in RINGS]
    shared = most([w.movable for w in work], "the work of three engines together")
    fixed = [most([w.fixed.get(q, 0.0) for w in work], f"the work of the {q} engine") for q in QUEUES[:4]]
    bytes_now = [(hbm, "bytes of HBM"), most([b / rate for b in moved], "bytes through the DMA engines")]
    through = most([b / rate for b in least], "bytes through the DMA engines, each once")
    bytes_once = [(once, "bytes of HBM, each once"), through]
    dma = most([w.dma for w in work], "the work of the busiest DMA engine")
    products = most(flops, "products of the tensor engine")
    fastest = most(fast, "products of the tensor engine in 8 bits")
    found = {
        "engine": [*fixed, shared, *rings, dma, *bytes_now],
        "dma mode": [*engines, *bytes_now],
        "dma size": [*engines, *bytes_now],
        "buffers": [*engines, *rings, dma, *bytes_now],
        "reuse": [*engines, *bytes_once],
        "fusion": [tensor, *bytes_now],
        "format": [
            fastest,
            *((t / (2 * _FAST), by) for t, by in engines[1:]),
            *bytes_once,
        ],
        "tile size": [products, *bytes_once],
        "loop order": [products, *bytes_once],
        "all": [fastest, *bytes_once],
    }
    return {
        kind: EditBound(kind=kind, time_s=time * (1 - _SLACK), by=by)
        for kind, floors in found.items()
        for time, by in (max(floors),)
    }


def _counts(p: Program) -> list[tuple[Cost, int]]:
    times = np.bincount(np.array(p.cost, np.int64), minlength=len(p.costs))
    return [*zip(p.costs, times.tolist(), strict=True)]


def _work(p: Program, costs: Costs) -> _Work:
    engine: dict[str, float] = defaultdict(float)
    issue: dict[str, float] = defaultdict(float)
    fixed: dict[str, float] = defaultdict(float)
    on = np.zeros(int(costs.number("dma.engines")))
    for cost, n in _counts(p):
        if cost.queue in DMA_QUEUES:
            ring = next(name for name, queues in RINGS.items() if cost.queue in queues)
            issue[ring] += n * cost.issue / PS
            on[: len(cost.transfer)] += n * np.array(cost.transfer) / PS
        else:
            engine[QUEUES[cost.queue]] += n * cost.occupancy / PS
    movable = 0.0
    times = np.bincount(np.array(p.trace.kind, np.int64), minlength=len(p.trace.kinds))
    for kind, n in zip(p.trace.kinds, times.tolist(), strict=True):
        able = _engines(kind, costs)
        if len(able) == 1:
            fixed[next(iter(able))] += n * able.popitem()[1]
        elif able:
            movable += n * min(able.values())
    alone = float_sum(fixed.get(QUEUES[q], 0.0) for q in _MOVABLE)
    return _Work(
        dict(engine), (movable + alone) / (len(_MOVABLE) + 1), dict(fixed), dict(issue), float(on.max(initial=0))
    )


def _engines(kind: Kind, costs: Costs) -> dict[str, float]:
    """Seconds of an instruction by engine that can run it."""
    row = TABLE[kind.name]
    if kind.engine not in QUEUES[:4]:
        return {}
    out = {}
    for engine in row.engines:
        if engine in QUEUES[:4] and row.engine_since.get(engine, 0) <= costs.generation:
            try:
                out[engine] = costs.of(kind._replace(engine=engine)).occupancy / PS
            except UserError:
                continue
    return out


def _product_s(p: Program, costs: Costs, *, may_change: bool) -> float:
    """Seconds that the products of a program take at the peak of their formats, or of the fastest."""
    peak = 2 * 128 * 128 * costs.number("tensor_engine.clock")
    total = 0.0
    for cost, n in _counts(p):
        if cost.queue == TENSOR:
            fast = may_change or cost.dtype in FP8 or cost.dtype.endswith("_x4")
            passes = 1 / _FAST if fast else _FAST if cost.dtype == "float32" else 1.0
            total += n * cost.flop * passes / peak
    return total


def _moved_B(p: Program) -> float:
    return float(sum(n * (c.hbm_read_B + c.hbm_write_B) for c, n in _counts(p)))


def _least_B(trace: Trace) -> float:
    """Bytes of HBM that a trace touches from outside, each counted once: no tile or loop order saves these. Where rows
    are known at run time only, one access counts."""
    seen: dict[int, set[int]] = defaultdict(set)
    sizes: dict[int, float] = {}
    at, touched = 0, trace.touched
    by_kind = [
        [(n, float(np.prod(o.shape)) * o.itemsize) for n, o in enumerate((*k.reads, *k.writes)) if o.space == "H"]
        for k in trace.kinds
    ]
    widths = [len(k.reads) + len(k.writes) for k in trace.kinds]
    for k in trace.kind:
        for n, size in by_kind[k]:
            storage, pattern = touched[at + 2 * n], touched[at + 2 * n + 1]
            seen[storage].add(pattern)
            sizes[pattern] = size
        at += 2 * widths[k]
    out = 0.0
    for storage, patterns in seen.items():
        a = trace.storages[storage]
        if a.is_input or len(patterns) == 1:
            largest = max(sizes[n] for n in patterns)
            total = float_sum(sizes[n] for n in patterns) / 2  # views may overlap by half
            out += min(float(np.prod(a.shape)) * a.itemsize, max(largest, total))
        else:
            out += max(sizes[n] for n in patterns)
    return out


def kernel_work(profile: Profile) -> tuple[float, float, float]:
    """(Useful operations of the Tensor Engine, bytes of HBM read, bytes written) of a kernel, whatever its tiles are:
    bytes at known places count once."""
    read = written = 0.0
    for p in profile.schedule.programs:
        reads, writes = _places_B(p.trace)
        read, written = read + reads, written + writes
    return float(profile.flop), read, written


def _places_B(trace: Trace) -> tuple[float, float]:
    """Bytes of HBM that a trace reads and writes: at places that are known, each place once, and no more than a tensor
    has; at others all."""
    seen: tuple[dict[int, dict[int, float]], ...] = (defaultdict(dict), defaultdict(dict))
    moved = [0.0, 0.0]
    at, touched = 0, trace.touched
    by_kind = [_memory_operands(k) for k in trace.kinds]
    widths = [2 * (len(k.reads) + len(k.writes)) for k in trace.kinds]
    for k in trace.kind:
        for n, is_written, size, is_known in by_kind[k]:
            if is_known:
                seen[is_written][touched[at + 2 * n]][touched[at + 2 * n + 1]] = size
            else:
                moved[is_written] += size
        at += widths[k]
    for way, storages in enumerate(seen):
        for storage, sizes in storages.items():
            a = trace.storages[storage]
            moved[way] += min(float(np.prod(a.shape)) * a.itemsize, float_sum(sizes.values()))
    return moved[0], moved[1]


def _memory_operands(kind: Kind) -> list[tuple[int, bool, float, bool]]:
    """(Place, whether it is written, bytes, whether its address is known) of the operands in HBM."""
    return [
        (n, n >= len(kind.reads), float(np.prod(o.shape)) * o.itemsize, not o.dynamic)
        for n, o in enumerate((*kind.reads, *kind.writes))
        if o.space == "H"
    ]


def _shared_B(programs: list[Program], least: list[float]) -> float:
    """Bytes of all cores: those of one where they might be the same."""
    return max(least, default=0.0) if len(programs) > 1 else float_sum(least)


__all__ = ["EDIT_KINDS", "SOFTWARE", "EditBound", "bounds_of"]
