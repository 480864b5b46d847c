"""What a compiler may do to a kernel that no published kernel identifies: named risks, each with the range that a time
gets from it.

A kernel without a risk has the range of its class: by interface, and by whether GpSimd writes descriptors. With several
risks it has the widest of their ranges, and a profile names them all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mowich.neuroncore.clock.lower import uses_of
from mowich.neuroncore.clock.records import Program, Schedule
from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import SOFTWARE
from mowich.neuroncore.source import innermost_loop
from mowich.neuroncore.trace import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """name: of the fact `model.residual_NAME`, the range of measured over predicted time; why: what is not known."""

    name: str
    why: str


_OVERFLOW = Risk(
    name="overflow", why="live tiles exceed SBUF, and which of them the compiler stores and reloads is not known"
)
_CROWDED = Risk(
    name="crowded",
    why="one instruction holds more than a third of SBUF, and how far the compiler then loads ahead is not known",
)
_SEQUENTIAL = Risk(
    name="sequential",
    why="a load stands in an innermost sequential_range loop, and whether the compiler loads ahead there is not known",
)
_OFFSETS = Risk(
    name="offsets",
    why="a DMA at an offset known at run time only asks for dge_mode=hwdge, and whether the compiler grants it is not"
    " known",
)


def is_crowded(p: Program, room_B: int) -> bool:
    """Whether one instruction of a program holds tiles of more than a third of SBUF: there is no room for what is
    loaded, worked on and stored at the same time. room_B: of a partition."""
    trace = p.trace
    if not len(trace):
        return False
    size = np.array([a.row_B if a.space == "S" else 0 for a in trace.storages.forms], np.int64)
    uses = uses_of(trace)
    held = size[np.array(trace.storages.form, np.int64)[uses.number]]
    is_full = 3 * np.bincount(uses.whose, weights=held) > room_B
    # an instruction that writes the tile that it reads holds it once
    columns = (c[is_full[uses.whose]].tolist() for c in (uses.whose, uses.number, held))
    tiles = {(i, n): b for i, n, b in zip(*columns, strict=True)}
    sums: Counter[int] = Counter()
    for (i, _), b in tiles.items():
        sums[i] += b
    return 3 * max(sums.values(), default=0) > room_B


def _is_load(kind: Kind) -> bool:
    """Whether a kind of instruction brings bytes from HBM to SBUF."""
    return kind.engine == "dma" and any(o.space == "H" for o in kind.reads) and kind.writes[0].space != "H"


def _loads_in_sequence(p: Program) -> bool:
    """Whether a load stands in an innermost loop over `sequential_range`: its turns wait for each other."""
    trace = p.trace
    loads = np.array([_is_load(k) for k in trace.kinds], np.bool_)
    if not loads.any():
        return False
    kind, site = np.array(trace.kind, np.int64), np.array(trace.site, np.int64)
    places = (trace.sites[n] for n in np.unique(site[loads[kind]]).tolist())
    return any(innermost_loop(file, line) == "sequential_range" for file, line in places)


def _offsets_by_hardware(p: Program) -> bool:
    """Whether a DMA whose offset is known at run time only asks for the hardware's descriptors."""
    return any(
        k.engine == "dma" and k.flag("dge") == "hwdge" and any(o.dynamic == "scalar" for o in (*k.reads, *k.writes))
        for k in p.trace.kinds
    )


def risks_of(s: Schedule) -> tuple[Risk, ...]:
    """The risks of a kernel, that of the widest range first.

    Overflow, crowded tiles and sequential loads are those of the older interface, whose compiler places tiles and loads
    ahead by rules of its own; run-time offsets are those of the newer one.
    """
    programs = s.programs
    if not s.options.older:
        found = [_OFFSETS] if any(map(_offsets_by_hardware, programs)) else []
    else:
        room_B = limits(s.generation).sbuf_usable_B
        is_there = {
            _OVERFLOW: any(p.spill_B for p in programs),
            _CROWDED: any(is_crowded(p, room_B) for p in programs),
            _SEQUENTIAL: any(map(_loads_in_sequence, programs)),
        }
        found = [risk for risk, holds in is_there.items() if holds]
    return tuple(sorted(found, key=lambda r: -_width(s, r)))


def _width(s: Schedule, risk: Risk) -> float:
    """High over low of the range of a risk."""
    fact = s.costs.facts.fact(f"{s.costs.prefix}.model.residual_{risk.name}")
    return (fact.high or 1.0) / (fact.low or 1.0)


def residual_of(s: Schedule) -> str:
    """Name of the fact whose range is what kernels like this one measured beyond the ranges of single numbers: of its
    widest risk, or of its class."""
    risks = risks_of(s)
    return f"residual_{risks[0].name}" if risks else residual_class(s)


def residual_class(s: Schedule) -> str:
    """The same of a kernel without a risk: by interface, and by whether GpSimd writes descriptors."""
    if s.options.older:
        return "residual_older"
    software = any(k.queue == SOFTWARE for p in s.programs for k in p.costs)
    return "residual_software" if software else "residual"
