"""The latency of a schedule as an estimate: its critical path, which facts it is made of, and what their ranges do to it.

The critical path goes back from the last instruction through whatever decided each begin: a result, a buffer, an engine, the DMA issuer.
Every picosecond of it belongs to one fact (a clock, an overhead, a latency), so the breakdown sums to the latency, and the range of a
fact moves the latency by its share. That is exact while the path stays the same; another path can only make it longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mowich.estimate import Estimate, from_spreads, worst_grade
from mowich.neuroncore.clock.schedule import BUFFER, DATA, ISSUER, READ, START, WEIGHTS, Schedule
from mowich.neuroncore.instructions.rates import DMA, PS

MATTERS = 0.05
"""Share of a latency from which on a grade counts for the grade of the whole."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the critical path: instruction, from and to (ps), and the share of each fact (ps)."""

    instruction: int
    start: int
    end: int
    cause: int
    parts: tuple[tuple[str, int], ...]


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

    if k.queue in DMA:
        for name, length in k.lead_parts.items():
            add(name, length)
        add("dma.wait", s.data[i] - at)
        for name, length in k.parts.items():
            add(name, min(length, s.end[i] - at))
        add("dma.wait", s.end[i] - at)
    else:
        add("tensor_engine.load_latency", s.data[i] - at)
        held = s.end[i] - s.data[i]
        extra = held - k.occupancy
        for name, length in k.parts.items():
            add(name, length)
        add("tensor_engine.throttle_rate", extra)
    for name, length in k.latency_parts.items():
        add(name, length)
    return out


def critical_path(s: Schedule) -> list[Step]:
    """Steps of the critical path, last first."""
    n = len(s.begin)
    if not n:
        return []
    costs = s.costs
    finish = [s.end[i] for i in range(n)]
    i = max(range(n), key=lambda j: (finish[j] + (0 if s.cost_of(j).queue in DMA else s.cost_of(j).latency), -j))
    now = s.total
    path: list[Step] = []
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
        path.append(Step(i, low, now, cause, tuple(parts.items())))
        now = low
        if by < 0 or cause == START:
            if now > 0:
                path.append(Step(-1, 0, now, START, (("wait", now),)))
            break
        if cause in (READ, DATA, BUFFER, WEIGHTS):
            own, other = s.cost_of(i).queue, s.cost_of(by).queue
            step = 0 if own == other or other in DMA else trigger if own in DMA else semaphore
            step = min(step, now)
            if step:
                path.append(
                    Step(
                        i,
                        now - step,
                        now,
                        cause,
                        (("dma.trigger" if own in DMA else "sync.semaphore", step),),
                    )
                )
                now -= step
        elif cause == ISSUER:
            # the issuer of software descriptors is GpSimd, which runs instructions too
            issuer_free = s.begin[by] + s.cost_of(by).issue if s.cost_of(by).queue in DMA else s.end[by]
            now = min(now, issuer_free)
        i = by
    return path


def breakdown(path: list[Step]) -> dict[str, float]:
    """Seconds of the critical path by fact."""
    out: dict[str, int] = {}
    for step in path:
        for name, length in step.parts:
            out[name] = out.get(name, 0) + length
    return {k: v / PS for k, v in sorted(out.items(), key=lambda x: -x[1])}


def estimate(s: Schedule, path: list[Step] | None = None) -> Estimate:
    """The latency with its interval: the ranges of the facts on the critical path and the clock's own residual, taken as independent."""
    parts = breakdown(critical_path(s) if path is None else path)
    total = s.total / PS
    if total == 0:
        return Estimate(value=0.0, unit="s", low=0.0, high=0.0, grade="A")
    facts, prefix = s.costs.facts, s.costs.prefix
    downs, ups = [], []
    shares: dict[str, float] = {}
    for name, seconds in parts.items():
        share = seconds / total
        if name in ("wait", "dma.wait"):
            shares["C"] = shares.get("C", 0.0) + share
            continue
        fact = facts.fact(f"{prefix}.{name}")
        grade = fact.grade or "C"
        shares[grade] = shares.get(grade, 0.0) + share
        if fact.low is None or fact.high is None or not isinstance(fact.value, float):
            continue
        lower, upper = fact.low / fact.value, fact.high / fact.value
        if name.endswith(("clock", "rate", "bandwidth")):
            lower, upper = 1 / upper, 1 / lower
        downs.append(-math.log(max(1 - share * (1 - lower), 1e-6)))
        ups.append(math.log(1 + share * (upper - 1)))
    residual = facts.fact(f"{prefix}.model.residual")
    if residual.low is not None and residual.high is not None:
        downs.append(-math.log(residual.low))
        ups.append(math.log(residual.high))
    grade = worst_grade(g for g, share in shares.items() if share >= MATTERS)
    coverage = {f"grade {g}": shares[g] for g in sorted(shares)}
    return from_spreads(total, "s", downs, ups, grade=grade, coverage=coverage, breakdown=parts)
