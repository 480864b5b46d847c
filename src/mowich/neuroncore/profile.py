"""What a schedule says about a kernel: who was busy, who waited for whom, what binds, and which lines cost most.

Utilisations are those of AWS's Neuron Explorer: MFU counts useful multiply-adds against the bf16 peak of the array, HFU
all that the array did, MBU the bytes of HBM against one stack's bandwidth. "Waiting" is the time in which an engine
still had instructions, none of them ready; "idle" the time after its last. Top lines come from the critical path: what
they cost is what the kernel would save.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from ctypes import CDLL
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mowich.estimate import Estimate
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.latency import CriticalPath, compiled_columns, critical_path, latency_estimate
from mowich.neuroncore.clock.records import Schedule
from mowich.neuroncore.clock.risks import Risk, risks_of
from mowich.neuroncore.clock.schedule import BUFFER, CAUSES, ENGINE, START, stack_Bps
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import ENGINES, PS, SOFTWARE, TENSOR, Cost, unit_of_queue
from mowich.shown import Keyed, Shown
from mowich.sums import float_sum

DESCRIPTOR_SIZES = ((0, 256), (256, 512), (512, 2048), (2048, 4096), (4096, 1 << 62))
"""Ranges of descriptor sizes in bytes, from the DMA bandwidth guide: below 256 B overhead binds, from 4 KiB the
rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineUse(Keyed):
    """Seconds of an engine. busy: at work (GpSimd: also at the descriptors of software DMAs); wait: it had work that
    was not ready; idle: it had none; waits: for whom."""

    KEYS = "busy_s wait_s idle_s instructions waits_s=waits"

    busy_s: float
    wait_s: float
    idle_s: float
    instructions: int
    waits: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Total:
    """Picoseconds of an engine, and its instructions. waits: for whom it waited."""

    busy: int
    wait: int
    instructions: int
    waits: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the kernel: seconds of the critical path that it takes, what they are, and what would make them
    fewer."""

    file: str
    line: int
    seconds: float
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors(Keyed):
    """DMA by size of descriptor: bytes moved, descriptors, and the share of the DMA engines' rate that such descriptors
    reach."""

    KEYS = "descriptor_low_B=low_B descriptor_high_B=known_high_B bytes descriptors efficiency"

    low_B: int
    high_B: int
    bytes: int
    descriptors: int
    efficiency: float

    @property
    def known_high_B(self) -> int | None:
        """The largest size; None where there is none."""
        return self.high_B if self.high_B < 1 << 62 else None


def merged_spans(intervals: Iterable[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Intervals in the order of their begins, those that meet, or lie no more than a gap apart, as one.

    >>> merged_spans([(0, 2), (1, 4), (6, 7)]), merged_spans([(0, 2), (1, 4), (6, 7)], gap=2)
    ([(0, 4), (6, 7)], [(0, 7)])
    """
    out: list[tuple[int, int]] = []
    for a, b in intervals:
        if out and a - out[-1][1] <= gap:
            out[-1] = out[-1][0], max(out[-1][1], b)
        else:
            out.append((a, b))
    return out


def union(intervals: Iterable[tuple[int, int]]) -> int:
    """Length of the union of intervals."""
    return sum(b - a for a, b in merged_spans(sorted(intervals)))


def part_at(name: str, seconds: float, ratio: float) -> float:
    """Seconds of a part of the critical path that a fact makes, when the fact is `ratio` times what it was: a rate
    divides them, anything else multiplies them. The path is taken as it is.

    >>> part_at("tensor_engine.clock", 2.0, 2.0), part_at("dma.issue", 2.0, 2.0)
    (1.0, 4.0)
    """
    return seconds / ratio if name.endswith(("clock", "rate", "bandwidth")) else seconds * ratio


NO_TIME = "no instruction ran"
"""Why a run has no time."""


class PathPlaces(NamedTuple):
    """A critical path by where its instructions come from. places: (first instruction, time, time in which it waits for
    memory) of each, ps; parts: (place, number of a fact, time); each in the order in which the path meets them."""

    places: list[tuple[int, int, int]]
    parts: list[tuple[int, int, int]]


class Profile(Shown):
    """Figures of one schedule of a kernel, each made when asked for. target: what the JSON calls its machine."""

    SCHEMA = "mowich/kernel@1"
    KEYS = (
        "kernel target time_s:graded risks=told_risks cores instructions engines mfu=shares.mfu hfu=shares.hfu "
        "mbu=shares.mbu flop hbm_read_B=hbm_B.0 hbm_write_B=hbm_B.1 spill_B spill_policy? "
        "roofline.flop_per_B=intensity roofline.ridge_flop_per_B=ridge roofline.bound=bound sbuf_peak_B "
        "psum_peak_banks dma=descriptors top over_time"
    )

    def __init__(self, schedule: Schedule, kernel: str = "") -> None:
        self.schedule, self.kernel = schedule, kernel
        self.costs = schedule.costs
        self.target = f"v{schedule.generation}"

    def __len__(self) -> int:
        return len(self.schedule.begin)

    @cached_property
    def cost(self) -> list[Cost]:
        """The cost of each instruction."""
        return [p.costs[c] for p in self.schedule.programs for c in p.cost]

    @cached_property
    def counts(self) -> list[tuple[Cost, int]]:
        """How many instructions have each cost."""
        out: list[tuple[Cost, int]] = []
        for p in self.schedule.programs:
            times = np.bincount(np.array(p.cost, np.int64), minlength=len(p.costs))
            out += zip(p.costs, times.tolist(), strict=True)
        return out

    @property
    def cores(self) -> int:
        """Cores that were scheduled together."""
        return len(self.schedule.programs)

    @property
    def total_s(self) -> float:
        """The latency in seconds."""
        return self.schedule.total / PS

    @cached_property
    def path(self) -> CriticalPath:
        """Steps of the critical path, last first."""
        return critical_path(self.schedule)

    @cached_property
    def time_s(self) -> Estimate:
        """The latency with its interval; without an instruction there is none."""
        if not len(self):
            return Estimate(value=None, unit="s", grade="", reason=NO_TIME)
        return latency_estimate(self.schedule, self.path)

    @cached_property
    def risks(self) -> tuple[Risk, ...]:
        """What the compiler may do to this kernel that no published kernel identifies; the first sets the range."""
        return risks_of(self.schedule) if len(self) else ()

    @property
    def told_risks(self) -> list[dict[str, object]]:
        """The risks with their ranges, as the JSON states them."""
        named = [(risk, f"{self.costs.prefix}.model.residual_{risk.name}") for risk in self.risks]
        facts = [(risk, self.costs.facts.fact(path)) for risk, path in named]
        return [{"name": risk.name, "low": fact.low, "high": fact.high, "why": risk.why} for risk, fact in facts]

    def site(self, i: int) -> tuple[str, int]:
        """(file, line) of the kernel that an instruction comes from; of the tile, for spills and reloads."""
        c = self.schedule.core[i]
        p = self.schedule.programs[c]
        origin = p.origin[i - self.schedule.offset[c]]
        if origin >= 0:
            return p.trace.sites[p.trace.site[origin]]
        if origin < -1:
            a = p.trace.storages[-1 - origin]
            return a.file, a.line
        return ("", 0)

    # engines
    # -----------------------------------------------------------------------------------------------------------
    @cached_property
    def engines(self) -> dict[str, EngineUse]:
        """Use of each engine, mean over the cores. busy + wait + idle is the latency."""
        out: dict[str, EngineUse] = {}
        total, n = self.schedule.total, max(1, self.cores)
        for name in ENGINES:
            parts = [of_core[name] for of_core in self._totals]
            waits: dict[str, float] = {}
            for part in parts:
                for who, time in part.waits.items():
                    waits[who] = waits.get(who, 0.0) + time / PS / n
            out[name] = EngineUse(
                busy_s=float_sum(m.busy / PS for m in parts) / n,
                wait_s=float_sum(m.wait / PS for m in parts) / n,
                idle_s=float_sum((total - m.busy - m.wait) / PS for m in parts) / n,
                instructions=sum(m.instructions for m in parts),
                waits=dict(sorted(waits.items(), key=lambda x: -x[1])),
            )
        return out

    @cached_property
    def _totals(self) -> list[dict[str, _Total]]:
        """Of each core: what each engine did."""
        library = compiled.library(len(self))
        made = None if library is None else _compiled_totals(library, self.schedule)
        return [self._total(core) for core in range(self.cores)] if made is None else made

    def _total(self, core: int) -> dict[str, _Total]:
        s = self.schedule
        mine: dict[str, list[int]] = {name: [] for name in ENGINES}
        last = s.offset[core + 1] if core + 1 < self.cores else len(s.begin)
        for i in range(s.offset[core], last):
            mine[unit_of_queue(self.cost[i].queue)].append(i)
        writes = self.costs.ps("dma.software_active")
        out = {}
        for name, instructions in mine.items():
            count = len(instructions)
            if name == "gpsimd":
                instructions += [i for i in mine["dma"] if self.cost[i].queue == SOFTWARE]
            instructions.sort(key=lambda i: (s.begin[i], i))
            busy = wait = reach = 0
            waits: dict[str, int] = {}
            for i in instructions:
                start = min(s.begin[i], s.data[i] - s.loading[i]) if name == "tensor" else s.begin[i]
                if start > reach:
                    gap = start - reach
                    wait += gap
                    who = self._blamed(i)
                    waits[who] = waits.get(who, 0) + gap
                    reach = start
                if name == "tensor" and s.data[i] - s.loading[i] > reach:
                    wait += s.data[i] - s.loading[i] - reach
                    reach = s.data[i] - s.loading[i]
                end = s.begin[i] + writes if name == "gpsimd" and self.cost[i].queue == SOFTWARE else s.end[i]
                if end > reach:
                    busy += end - reach
                    reach = end
            out[name] = _Total(busy, wait, count, waits)
        return out

    @cached_property
    def active_s(self) -> dict[str, float]:
        """Seconds in which a profiler on hardware shows each unit at work, mean over the cores: the union of intervals,
        of the Scalar Engine with its latency, of the Tensor Engine with the load of stationary tiles, of DMA from first
        to last byte, of GpSimd with the descriptors that it writes."""
        s, writes = self.schedule, self.costs.ps("dma.software_active")
        spans: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for i, k in enumerate(self.cost):
            name, start, end = unit_of_queue(k.queue), s.begin[i], s.end[i]
            if name == "dma":
                start = s.data[i]
                if k.queue == SOFTWARE:
                    spans.setdefault((s.core[i], "gpsimd"), []).append((s.begin[i], s.begin[i] + writes))
            elif name == "tensor":
                start = s.data[i] - max(s.loading[i], k.load)
            elif name == "scalar":
                end += k.latency
            spans.setdefault((s.core[i], name), []).append((start, end))
        out = dict.fromkeys(ENGINES, 0.0)
        for (_, name), found in spans.items():
            out[name] += union(found) / PS / self.cores
        return out

    def _blamed(self, i: int) -> str:
        """For whom an instruction waited."""
        s = self.schedule
        cause, by = s.cause[i], s.by[i]
        if by < 0 or cause == START:
            return "start"
        if cause == BUFFER:
            return f"buffer of {unit_of_queue(self.cost[by].queue)}"
        if cause == ENGINE:
            return "itself"
        return unit_of_queue(self.cost[by].queue)

    @property
    def throttle_rate(self) -> float:
        """Share of its rate that the Tensor Engine has while it is throttled; 1 in a generation that is not."""
        return self.costs.number("tensor_engine.throttle_rate") if self._throttle_window else 1.0

    @property
    def _throttle_window(self) -> int:
        """Time that a cold Tensor Engine takes to become warm, ps; 0 in a generation that is not throttled."""
        return self.costs.ps("tensor_engine.throttle_window") if self.costs.generation >= 3 else 0

    def throttled(self, core: int = 0) -> list[tuple[int, int]]:
        """(start, end) in ps of each time in which the Tensor Engine of a core worked at the throttled rate: from the
        first matmul after it was idle until it is warm. Gaps after which it is as warm as before count in."""
        s = self.schedule
        last = s.offset[core + 1] if core + 1 < self.cores else len(s.begin)
        found: list[tuple[int, int]] = []
        for i in range(s.offset[core], last):
            k = self.cost[i]
            late = s.end[i] - s.data[i] - k.occupancy
            if k.queue == TENSOR and late > 0:  # at half the rate a time takes half of itself longer
                found.append((s.data[i], min(s.end[i], s.data[i] + 2 * late)))
        return merged_spans(sorted(found), self._throttle_window // 2)

    # work
    # --------------------------------------------------------------------------------------------------------------
    @cached_property
    def flop(self) -> int:
        """Useful operations of the Tensor Engine: 2 for each multiply-add, transposes and broadcasts left out."""
        return sum(n * k.flop for k, n in self.counts)

    @cached_property
    def hardware_flop(self) -> int:
        """All operations of the Tensor Engine."""
        return sum(n * (k.flop or 2 * k.elements * 128) for k, n in self.counts if k.queue == TENSOR)

    @cached_property
    def hbm_B(self) -> tuple[int, int]:
        """Bytes read from and written to HBM."""
        return sum(n * k.hbm_read_B for k, n in self.counts), sum(n * k.hbm_write_B for k, n in self.counts)

    @property
    def spill_B(self) -> int:
        """Bytes stored and reloaded because live tiles do not fit SBUF."""
        return sum(p.spill_B for p in self.schedule.programs)

    @property
    def peak_flops(self) -> float:
        """bf16 peak of the cores: 2 x 128 x 128 x clock each."""
        return 2 * 128 * 128 * self.costs.number("tensor_engine.clock") * self.cores

    @property
    def mfu(self) -> float:
        """Neuron Explorer's mfu_estimated_percent / 100."""
        return self.flop / (self.peak_flops * self.total_s) if self.total_s else 0.0

    @property
    def hfu(self) -> float:
        """Neuron Explorer's hfu_estimated_percent / 100."""
        return self.hardware_flop / (self.peak_flops * self.total_s) if self.total_s else 0.0

    @property
    def mbu(self) -> float:
        """Neuron Explorer's mbu_estimated_percent / 100: bytes of HBM over the bandwidth of one stack."""
        return sum(self.hbm_B) / (stack_Bps(self.costs) * self.total_s) if self.total_s else 0.0

    @property
    def intensity(self) -> float:
        """FLOP per byte of HBM."""
        return self.flop / max(1, sum(self.hbm_B))

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on the array can bind, at the rate of the core's DMA engines."""
        return self.peak_flops / (self.costs.number("dma.rate") * self.costs.number("dma.engines") * self.cores)

    @property
    def bound(self) -> str:
        """Side of the roofline: "compute", "memory", or "" without matmuls."""
        return "" if not self.flop else "compute" if self.intensity >= self.ridge else "memory"

    @cached_property
    def descriptors(self) -> list[Descriptors]:
        """DMA by size of descriptor."""
        out = []
        rate = self.costs.number("dma.rate")
        for low, high in DESCRIPTOR_SIZES:
            moves = [(k, n) for k, n in self.counts if k.transfer and low <= k.descriptor_B < high]
            if moves:
                moved = sum(n * k.sbuf_B for k, n in moves)
                time = sum(n * sum(k.transfer) for k, n in moves) / PS
                out.append(
                    Descriptors(
                        low_B=low,
                        high_B=high,
                        bytes=moved,
                        descriptors=sum(n * k.descriptors for k, n in moves),
                        efficiency=moved / rate / time if time else 0.0,
                    )
                )
        return out

    # memory
    # ------------------------------------------------------------------------------------------------------------
    def occupancy(self, space: str, core: int = 0) -> list[tuple[int, int]]:
        """(time in ps, bytes of a partition in use) of SBUF ("S") or PSUM ("P"): a tile lives from its first write to
        its last use."""
        s = self.schedule
        p, offset = s.programs[core], s.offset[core]
        changes: list[tuple[int, int]] = []
        level = 0
        usage = p.usage[space]
        for at, now in zip(usage.before, usage.level_B, strict=True):
            change = now - level
            level = now
            if change:
                i = offset + at
                changes.append((s.begin[i], change) if change > 0 else (s.end[i - 1], change))
        changes.sort()
        out: list[tuple[int, int]] = []
        level = 0
        for t, change in changes:
            level += change
            if out and out[-1][0] == t:
                out[-1] = (t, level)
            else:
                out.append((t, level))
        return out

    @cached_property
    def sbuf_peak_B(self) -> int:
        """Most bytes of a partition of SBUF in use at once (of its capacity at most)."""
        room = limits(self.schedule.generation).sbuf_B
        return min(room, max((v for c in range(self.cores) for _, v in self.occupancy("S", c)), default=0))

    @cached_property
    def psum_peak_banks(self) -> int:
        """Most banks of PSUM in use at once."""
        bank = limits(self.schedule.generation)
        most = max((v for c in range(self.cores) for _, v in self.occupancy("P", c)), default=0)
        return min(bank.psum_banks, -(-most // bank.psum_bank_B))

    # lines
    # -------------------------------------------------------------------------------------------------------------
    @cached_property
    def lines(self) -> list[Line]:
        """Lines of the kernel by their time on the critical path, costliest first."""
        library = compiled.library(len(self))
        found = None if library is None else _compiled_places(library, self.schedule, self.path)
        if found is None:
            found = _places(self.schedule, self.path)
        names = self.path.names
        places: dict[tuple[str, int], int] = {}
        of: list[int] = []  # several kinds of instructions may come from one line
        spent: list[tuple[int, int, int]] = []
        for instruction, time, buffers in found.places:
            of.append(places.setdefault(self.site(instruction), len(places)))
            if of[-1] == len(spent):
                spent.append((instruction, time, buffers))
            else:
                first, before, held = spent[of[-1]]
                spent[of[-1]] = first, before + time, held + buffers
        # the facts of a place in the order in which the path meets them
        parts: list[dict[str, int]] = [{} for _ in spent]
        for place, fact, length in found.parts:
            mine = parts[of[place]]
            mine[names[fact]] = mine.get(names[fact], 0) + length
        out = []
        for (file, line), at in sorted(places.items(), key=lambda x: (-spent[x[1]][1], x[0])):
            example, time, buffers = spent[at]
            reason, remedy = _advice(self, self.schedule.cost_of(example), parts[at], time, buffers)
            out.append(Line(file=file, line=line, seconds=time / PS, cause=reason, remedy=remedy))
        return out

    @property
    def top(self) -> list[Line]:
        """The three costliest lines."""
        return [x for x in self.lines if x.file][:3]

    # output
    # ------------------------------------------------------------------------------------------------------------
    @property
    def instructions(self) -> int:
        """Instructions of all cores as they were written."""
        return sum(len(p.trace) for p in self.schedule.programs)

    @property
    def shares(self) -> Profile | None:
        """Itself; None where nothing ran, and there is no share."""
        return self if len(self) else None

    @property
    def spill_policy(self) -> str | None:
        """How what does not fit is chosen; None where all fits."""
        return self.schedule.policy if self.spill_B else None

    @property
    def over_time(self) -> dict[str, object]:
        """Curves for a picture."""
        return _curves(self)


def _places(s: Schedule, path: CriticalPath) -> PathPlaces:
    """A critical path by where its instructions come from: a line of the trace, loads of tables, what spills."""
    places: dict[tuple[int, int], int] = {}
    spent: list[list[int]] = []
    parts: dict[tuple[int, int], int] = {}
    for k, i in enumerate(path.instruction):
        if i < 0:
            continue
        c = s.core[i]
        p = s.programs[c]
        origin = p.origin[i - s.offset[c]]
        place = places.setdefault((c, p.trace.site[origin] if origin >= 0 else origin), len(places))
        if place == len(spent):
            spent.append([i, 0, 0])
        time = path.end[k] - path.start[k]
        spent[place][1] += time
        spent[place][2] += time if path.cause[k] == BUFFER else 0
        for at in range(path.first[k], path.first[k + 1]):
            parts[place, path.fact[at]] = parts.get((place, path.fact[at]), 0) + path.length[at]
    return PathPlaces([(i, time, held) for i, time, held in spent], [(*pair, t) for pair, t in parts.items()])


def _compiled_places(library: CDLL, s: Schedule, path: CriticalPath) -> PathPlaces | None:
    """`_places` by the compiled code; None where it cannot."""
    mine, out = compiled_columns(s), compiled.LinesMade()
    columns = compiled.PathColumns.of(path, steps=len(path), parts=len(path.fact))
    sources = (compiled.SourceGiven * len(s.programs))()
    for c, p in enumerate(s.programs):
        storages = len(p.trace.storages.form) if p.spill_B else 0
        t = p.trace
        sources[c] = compiled.SourceGiven.of(t, origin=p.origin, sites=len(t.sites), storages=storages)
    if not compiled.is_done(library.clock_lines, mine.given, columns, sources, len(path.names), out):
        return None
    places, parts = out.take("place", "q", 3 * out.places), out.take("part", "q", 3 * out.parts)
    return PathPlaces(*(list(zip(x[::3], x[1::3], x[2::3], strict=True)) for x in (places, parts)))


def _compiled_totals(library: CDLL, s: Schedule) -> list[dict[str, _Total]] | None:
    """Of each core: what each engine did, by the compiled code; None where it cannot."""
    units, cores = list(ENGINES), len(s.programs)
    blamed = ["start", "itself", *units, *(f"buffer of {name}" for name in units)]
    width = 3 + 2 * len(blamed)
    rows = array("q", bytes(8 * cores * len(units) * width))
    special = array("q", [units.index("tensor"), units.index("gpsimd"), SOFTWARE, s.costs.ps("dma.software_active")])
    if not compiled.is_done(library.clock_engines, compiled_columns(s).given, special, rows):
        return None
    out: list[dict[str, _Total]] = []
    for core in range(cores):
        found: dict[str, _Total] = {}
        for place, name in enumerate(units, core * len(units)):
            busy, wait, instructions, *rest = rows[place * width : (place + 1) * width]
            waits, turn = rest[: len(blamed)], rest[len(blamed) :]
            # in the order in which they were first blamed
            order = sorted((t, k) for k, t in enumerate(turn) if t)
            found[name] = _Total(busy, wait, instructions, {blamed[k]: waits[k] for _, k in order})
        out.append(found)
    return out


def _advice(profile: Profile, k: Cost, parts: dict[str, int], time: int, buffer: int) -> tuple[str, str]:
    """Cause and remedy of a line, one line each, from what its time on the critical path is made of."""
    name = max(parts, key=lambda n: parts[n])
    share = f"{parts[name] / time:.0%}"
    size = f"{k.descriptor_B:,} B"
    if buffer > time / 2:
        return (
            "waits for SBUF or PSUM that earlier tiles hold",
            "smaller or fewer live tiles, so that the next load finds room before this one is used up",
        )
    if name == "dma.software_issue":
        return (
            f"{share} descriptors of dma_copy by GpSimd ({k.sbuf_B:,} B each)",
            "dge_mode=hwdge where the indices are scalars, equal formats on both sides, or fewer, larger DMAs",
        )
    if name in ("dma.issue", "dma.static_issue", "dma.none_issue"):
        return (
            f"{share} issue of dma_copy ({k.sbuf_B:,} B each)",
            "fewer, larger dma_copy: the core issues one at a time",
        )
    if name in ("dma.descriptor", "dma.dynamic_descriptor", "dma.descriptor_least") or (
        name == "dma.rate" and 0 < k.descriptor_B < 512
    ):
        return (
            f"{share} DMA of short descriptors ({size})",
            "runs of 2 KiB or more in HBM: another layout, or wider tiles",
        )
    if name in ("dma.rate", "dma.static_rate", "dma.wait"):
        return (
            f"{share} bytes through the DMA engines ({size} descriptors)",
            "keep tiles in SBUF and reuse them, or move fewer bytes per element",
        )
    if name in ("dma.first_byte", "dma.completion", "dma.trigger", "dma.software_first_byte"):
        return (
            f"{share} latency of a DMA that nothing overlaps",
            "load the next tile before this one is used (more buffers), or fuse small DMAs",
        )
    if name.startswith("tensor_engine"):
        if name == "tensor_engine.throttle_rate":
            return f"{share} start of the Tensor Engine at half rate", "longer runs of matmuls without gaps"
        if name == "tensor_engine.load_latency":
            return f"{share} matmul waits for its stationary tile", "load weights earlier than the moving tile"
        if k.dtype == "float32" and k.flop:
            return f"{share} Tensor Engine at work in float32, four passes", "bf16 tiles: one pass"
        return f"{share} Tensor Engine at work", "it binds: fewer FLOP, fp8 (double_row), or MX formats on Trainium3"
    if name == "sync.loop_turn":
        return f"{share} drain and barrier at the end of a turn", "several tiles a turn, by a loop of Python within"
    if name == "scalar_engine.table_load":
        return f"{share} load of an activation table", "group instructions of the same function"
    if name.endswith(("latency", "overhead", "semaphore", "barrier")):
        return (
            f"{share} fixed cost of small or dependent instructions",
            "fewer, wider instructions; fuse; independent work in between",
        )
    if name.endswith(("_engine.clock", "_per_element")):
        engine = name.split("_")[0]
        return f"{share} {engine} engine at work ({k.opcode})", {
            "vector": (
                "16-bit tiles in SBUF (performance mode), one operand in PSUM, fused operators, or another engine"
            ),
            "scalar": "wider tiles, or move copies to the Vector Engine",
            "gpsimd": "the Vector Engine, where it has the instruction",
        }.get(engine, "move work to another engine")
    return f"{share} {name}", "see `mowich kernel profile --path`"


_POINTS = 400
"""Most points of a curve, and about as many spans of an engine: gaps below a 400th of the time are closed."""


def _curves(profile: Profile, core: int = 0) -> dict[str, object]:
    """A schedule as curves for a picture, thinned to what a screen shows. The JSON of one core: engines: name ->
    [[start, end], ...] in seconds; sbuf_B (of a partition) and psum_banks: [[second, level], ...], the largest of each
    piece of time, with their capacities."""
    room = limits(profile.schedule.generation)
    sbuf = [(t / PS, float(min(v, room.sbuf_B))) for t, v in profile.occupancy("S", core)]
    psum = [(t / PS, float(min(room.psum_banks, -(-v // room.psum_bank_B)))) for t, v in profile.occupancy("P", core)]
    total = profile.total_s
    return {
        "core": core,
        "engines": _spans(profile, core),
        "sbuf_B": _thinned(sbuf, total),
        "sbuf_capacity_B": room.sbuf_B,
        "psum_banks": _thinned(psum, total),
        "psum_capacity_banks": room.psum_banks,
    }


def _spans(profile: Profile, core: int) -> dict[str, list[list[float]]]:
    """When each engine that did anything was at work."""
    s, cost = profile.schedule, profile.cost
    last = s.offset[core + 1] if core + 1 < profile.cores else len(s.begin)
    gap = profile.total_s / _POINTS
    found: dict[str, list[list[float]]] = {name: [] for name in ENGINES}
    for i in sorted(range(s.offset[core], last), key=lambda i: (s.begin[i], i)):
        mine = found[unit_of_queue(cost[i].queue)]
        start, end = s.begin[i] / PS, s.end[i] / PS
        if mine and start - mine[-1][1] <= gap:
            mine[-1][1] = max(mine[-1][1], end)
        elif end > start:
            mine.append([start, end])
    return {name: mine for name, mine in found.items() if mine}


def _thinned(curve: list[tuple[float, float]], total_s: float) -> list[list[float]]:
    """At most `_POINTS` steps: of each piece of time the highest level, then the level at its end."""
    if len(curve) <= _POINTS:
        return [list(p) for p in curve]
    out: list[list[float]] = []
    width = 2.0 * total_s / _POINTS
    piece: list[tuple[float, float]] = []
    for t, level in curve:
        if piece and int(t / width) != int(piece[0][0] / width):
            out += _piece(piece)
            piece = []
        piece.append((t, level))
    return out + _piece(piece)


def _piece(piece: list[tuple[float, float]]) -> list[list[float]]:
    top = max(piece, key=lambda p: p[1])
    return [list(top)] if top == piece[-1] else [list(top), list(piece[-1])]


__all__ = ["CAUSES", "Descriptors", "EngineUse", "Line", "Profile", "union"]
