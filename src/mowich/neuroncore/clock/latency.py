"""The latency of a schedule as an estimate: its critical path, which facts it is made of, and what their ranges do to
it.

The critical path goes back from the last instruction through whatever decided each begin: a result, a buffer, an
engine, the DMA issuer. Every picosecond of it belongs to one fact (a clock, an overhead, a latency), so the breakdown
sums to the latency, and the range of a fact moves the latency by its share. That is exact while the path stays the
same; another path can only make it longer.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from ctypes import CDLL
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from mowich.estimate import Estimate, from_spreads, worst_grade
from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.records import Schedule
from mowich.neuroncore.clock.risks import residual_of
from mowich.neuroncore.clock.schedule import BUFFER, DATA, ISSUER, READ, START, WEIGHT_BUFFER
from mowich.neuroncore.instructions.rates import DMA_QUEUES, ENGINES, PS, QUEUES, unit_of_queue

MATTERS = 0.05
"""Share of a latency from which on a grade counts for the grade of the whole."""


@dataclass(frozen=True, slots=True)
class PathStep:
    """A part of the critical path: instruction, from and to (ps), and the share of each fact (ps)."""

    instruction: int
    start: int
    end: int
    cause: int
    parts: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class CriticalPath(Sequence[PathStep]):
    """Steps of a critical path, last first, in columns: it may have one for each instruction. first: where the parts
    of a step begin among all: fact (a number: see `names`) and length (ps)."""

    names: list[str]
    instruction: array[int] = field(default_factory=lambda: array("i"))
    start: array[int] = field(default_factory=lambda: array("q"))
    end: array[int] = field(default_factory=lambda: array("q"))
    cause: array[int] = field(default_factory=lambda: array("b"))
    first: array[int] = field(default_factory=lambda: array("i", [0]))
    fact: array[int] = field(default_factory=lambda: array("i"))
    length: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.instruction)

    @overload
    def __getitem__(self, at: int) -> PathStep: ...
    @overload
    def __getitem__(self, at: slice) -> list[PathStep]: ...
    def __getitem__(self, at: int | slice) -> PathStep | list[PathStep]:
        if isinstance(at, slice):
            return [self[k] for k in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        k = at % len(self)
        parts = range(self.first[k], self.first[k + 1])
        return PathStep(
            self.instruction[k],
            self.start[k],
            self.end[k],
            self.cause[k],
            tuple((self.names[self.fact[p]], self.length[p]) for p in parts),
        )

    def __iter__(self) -> Iterator[PathStep]:
        return (self[k] for k in range(len(self)))

    def add(self, instruction: int, start: int, end: int, cause: int, parts: dict[str, int]) -> None:
        """A step more."""
        self.instruction.append(instruction)
        self.start.append(start)
        self.end.append(end)
        self.cause.append(cause)
        for name, length in parts.items():
            self.fact.append(self.names.index(name))
            self.length.append(length)
        self.first.append(len(self.fact))

    def total(self) -> dict[str, int]:
        """Time of each fact, ps, in the order in which the path meets them."""
        if not len(self.fact):
            return {}
        fact = np.frombuffer(self.fact, np.int32)
        sums = np.bincount(fact, np.frombuffer(self.length, np.int64))  # exact: below 2^53 ps, two hours
        first = np.full(len(sums), len(fact))
        first[fact[::-1]] = np.arange(len(fact) - 1, -1, -1)  # what is written last is the first of all
        return {self.names[n]: int(sums[n]) for n in np.argsort(first).tolist() if first[n] < len(fact)}


WAIT, DMA_WAIT, LOAD_LATENCY, THROTTLE_RATE, TRIGGER, SEMAPHORE = range(6)
_NAMED = (
    "wait",
    "dma.wait",
    "tensor_engine.load_latency",
    "tensor_engine.throttle_rate",
    "dma.trigger",
    "sync.semaphore",
)
"""Facts, and waiting, that this module names."""
_WAITING = (_NAMED[WAIT], _NAMED[DMA_WAIT])


def _segments(s: Schedule, i: int) -> list[tuple[str, int, int]]:
    """The time of an instruction by fact: (fact, from, to), one after the other."""
    k = s.cost_of(i)
    out: list[tuple[str, int, int]] = []
    at = s.begin[i]

    def add(name: str, length: int) -> None:
        nonlocal at
        if length > 0:
            out.append((name, at, at + length))
            at += length

    if k.queue in DMA_QUEUES:
        for name, length in k.lead_parts.items():
            add(name, length)
        add(_NAMED[DMA_WAIT], s.data[i] - at)
        for name, length in k.parts.items():
            add(name, min(length, s.end[i] - at))
        add(_NAMED[DMA_WAIT], s.end[i] - at)
    else:
        add(_NAMED[LOAD_LATENCY], s.data[i] - at)
        for name, length in k.parts.items():
            add(name, length)
        add(_NAMED[THROTTLE_RATE], s.end[i] - s.data[i] - k.occupancy)
    for name, length in k.latency_parts.items():
        add(name, length)
    return out


def _names(s: Schedule) -> list[str]:
    """The facts of all costs, each once."""
    found = dict.fromkeys(_NAMED)
    for p in s.programs:
        for k in p.costs:
            found.update(dict.fromkeys(name for parts in (k.lead_parts, k.parts, k.latency_parts) for name in parts))
    return list(found)


def critical_path(s: Schedule) -> CriticalPath:
    """Steps of the critical path, last first."""
    library = compiled.library(len(s.begin))
    made = None if library is None else _compiled(library, s)
    return _critical_path(s) if made is None else made


def _critical_path(s: Schedule) -> CriticalPath:
    path = CriticalPath(_names(s))
    n = len(s.begin)
    if not n:
        return path
    costs = s.costs
    finish = [s.end[i] for i in range(n)]
    i = max(range(n), key=lambda j: (finish[j] + (0 if s.cost_of(j).queue in DMA_QUEUES else s.cost_of(j).latency), -j))
    now = s.total
    semaphore, trigger = costs.ps("sync.semaphore"), costs.ps("dma.trigger")
    while i >= 0:
        cause, by = s.cause[i], s.by[i]
        low = s.begin[i]
        k = s.cost_of(i)
        if s.data_cause[i] and s.data_by[i] >= 0 and now > low + k.issue + k.first_byte:
            cause, by = s.data_cause[i], s.data_by[i]
            low = min(now, max(low, s.end[by]))
        parts: dict[str, int] = {}
        covered = low
        for name, a, b in _segments(s, i):
            a, b = max(a, low), min(b, now)
            if b > a:
                parts[name] = parts.get(name, 0) + b - a
                covered = b
        if now > covered:
            parts["wait"] = parts.get("wait", 0) + now - covered
        if low > s.begin[i] and sum(parts.values()) < now - low:
            parts["wait"] = parts.get("wait", 0) + now - low - sum(parts.values())
        path.add(i, low, now, cause, parts)
        now = low
        if by < 0 or cause == START:
            if now > 0:
                path.add(-1, 0, now, START, {"wait": now})
            break
        if cause in (READ, DATA, BUFFER, WEIGHT_BUFFER):
            own, other = s.cost_of(i).queue, s.cost_of(by).queue
            step = 0 if own == other or other in DMA_QUEUES else trigger if own in DMA_QUEUES else semaphore
            step = min(step, now)
            if step:
                path.add(i, now - step, now, cause, {_NAMED[TRIGGER if own in DMA_QUEUES else SEMAPHORE]: step})
                now -= step
        elif cause == ISSUER:
            # the issuer of software descriptors is GpSimd, which runs instructions too
            issuer_free = s.begin[by] + s.cost_of(by).issue if s.cost_of(by).queue in DMA_QUEUES else s.end[by]
            now = min(now, issuer_free)
        i = by
    return path


def compiled_columns(s: Schedule) -> compiled.ScheduleToRead:
    """A schedule for the compiled code, made once. Units are places in `ENGINES`."""
    if s.to_read is None:
        s.to_read = _compiled_columns(s)
    return s.to_read


def _compiled_columns(s: Schedule) -> compiled.ScheduleToRead:
    names = _names(s)
    number = {name: place for place, name in enumerate(names)}
    parts: list[tuple[int, int]] = []
    told: list[tuple[int, ...]] = []
    base: list[int] = []
    for p in s.programs:
        base.append(len(told))
        for k in p.costs:
            made = (k.queue, _UNITS[k.queue], k.queue in DMA_QUEUES, k.occupancy, k.latency, k.issue, k.first_byte)
            three = (k.lead_parts, k.parts, k.latency_parts)
            told.append((*made, len(parts), *map(len, three)))
            parts += [(number[name], length) for some in three for name, length in some.items()]
    given = compiled.ScheduleColumns.of(
        s,
        instructions=len(s.begin),
        cores=len(s.programs),
        units=len(ENGINES),
        semaphore=s.costs.ps("sync.semaphore"),
        trigger=s.costs.ps("dma.trigger"),
        cost=np.array([compiled.address(p.cost) for p in s.programs], np.int64),
        offset=np.array(s.offset, np.int64),
        base=np.array(base, np.int64),
        cost_rows=compiled.rows(told, 11),
        parts=compiled.rows(parts, 2),
    )
    return compiled.ScheduleToRead(given, names)


_UNITS = [list(ENGINES).index(unit_of_queue(q)) for q in range(len(QUEUES))]
"""Of each queue, the place of its unit in `ENGINES`."""


def _compiled(library: CDLL, s: Schedule) -> CriticalPath | None:
    """The critical path by the compiled code; None where it cannot."""
    mine, out = compiled_columns(s), compiled.PathColumns()
    if not compiled.is_done(library.clock_path, mine.given, out):
        return None
    steps, pieces = out.steps, out.parts
    return CriticalPath(
        mine.names,
        instruction=out.take("instruction", "i", steps),
        start=out.take("start", "q", steps),
        end=out.take("end", "q", steps),
        cause=out.take("cause", "b", steps),
        first=out.take("first", "i", steps + 1),
        fact=out.take("fact", "i", pieces),
        length=out.take("length", "q", pieces),
    )


def breakdown(path: CriticalPath) -> dict[str, float]:
    """Seconds of the critical path by fact."""
    return {k: v / PS for k, v in sorted(path.total().items(), key=lambda x: -x[1])}


def fact_ends(costs: Costs, name: str) -> tuple[float, float] | None:
    """By how much a part of the critical path that a fact makes is multiplied at the two ends of the fact's range, the
    shorter first; None where the fact has no range, or the part is waiting."""
    if name in _WAITING:
        return None
    fact = costs.facts.fact(f"{costs.prefix}.{name}")
    if fact.low is None or fact.high is None or not isinstance(fact.value, float):
        return None
    lower, upper = fact.low / fact.value, fact.high / fact.value
    return (1 / upper, 1 / lower) if name.endswith(("clock", "rate", "bandwidth")) else (lower, upper)


def latency_estimate(s: Schedule, path: CriticalPath | None = None) -> Estimate:
    """The latency with its interval: the ranges of the facts on the critical path and the clock's own residual, taken
    as independent."""
    parts = breakdown(critical_path(s) if path is None else path)
    total = s.total / PS
    if total == 0:
        return Estimate(value=0.0, unit="s", low=0.0, high=0.0, grade="A")
    facts, prefix = s.costs.facts, s.costs.prefix
    downs, ups = [], []
    shares: dict[str, float] = {}
    for name, seconds in parts.items():
        share = seconds / total
        grade = "C" if name in _WAITING else facts.fact(f"{prefix}.{name}").grade or "C"
        shares[grade] = shares.get(grade, 0.0) + share
        ends = fact_ends(s.costs, name)
        if ends is not None:
            downs.append(-math.log(max(1 - share * (1 - ends[0]), 1e-6)))
            ups.append(math.log(1 + share * (ends[1] - 1)))
    residual = facts.fact(f"{prefix}.model.{residual_of(s)}")
    if residual.low is not None and residual.high is not None:
        downs.append(-math.log(residual.low))
        ups.append(math.log(residual.high))
    grade = worst_grade(g for g, share in shares.items() if share >= MATTERS)
    coverage = {f"grade {g}": shares[g] for g in sorted(shares)}
    return from_spreads(total, "s", downs, ups, grade=grade, coverage=coverage, breakdown=parts)
