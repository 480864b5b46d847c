"""Options of the clock, a program made ready, and the times of a run: what the compiled code and its Python reference
both read and fill."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.instructions.rates import Cost
from mowich.neuroncore.trace import Meeting, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOptions:
    """How to schedule. window: instructions that an engine or queue may look ahead (None: the fact; 1: in order, with
    one queue for all DMA); rotate: tiles without an address share the memory's bytes (False: each has bytes of its
    own); throttle: the Tensor Engine starts at half rate where its generation does; optimise: leave out what the
    compiler leaves out (`lower`); active_cores: cores of the chip that use HBM at the same time (None: the cores
    simulated); dge: descriptors are made while the kernel runs (False: before the launch, as with the compiler's
    --disable-dge; None: as the kernel asks); older: the kernel is written in the older interface, whose kernels are
    timed less surely."""

    window: int | None = None
    rotate: bool = True
    throttle: bool = True
    optimise: bool = True
    active_cores: int | None = None
    dge: bool | None = None
    older: bool = False


@dataclass(slots=True)
class Usage:
    """How full a memory is. before: the instruction before which it changes; level_B: bytes of a partition in use from
    there on."""

    before: array[int] = field(default_factory=lambda: array("i"))
    level_B: array[int] = field(default_factory=lambda: array("i"))

    def add(self, before: int, level_B: int) -> None:
        """The level changes before an instruction."""
        self.before.append(before)
        self.level_B.append(level_B)


@dataclass(slots=True)
class Program:
    """One core's instructions, ready to be scheduled. cost: index into costs; origin: index in the trace, -1 for loads
    of tables,
    -1 - storage for spills and reloads; first: where the edges of an instruction begin; edges: 4 * predecessor + kind;
    usage: bytes of a partition in use, by memory; peak: the most of them; meetings: where an instruction waits for the
    other cores that come; overflow_B: bytes of a partition that did not fit; spill_B: bytes moved for that."""

    trace: Trace
    costs: list[Cost] = field(default_factory=list)
    cost: array[int] = field(default_factory=lambda: array("i"))
    origin: array[int] = field(default_factory=lambda: array("i"))
    first: array[int] = field(default_factory=lambda: array("i"))
    edges: array[int] = field(default_factory=lambda: array("i"))
    peak: dict[str, int] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=lambda: {"S": Usage(), "P": Usage()})
    meetings: dict[int, Meeting] = field(default_factory=dict)
    overflow_B: int = 0
    spill_B: int = 0


@dataclass(slots=True)
class Schedule:
    """Times of all instructions, ps. begin: when an instruction takes its engine (the issuer, for a DMA); end: when its
    engine is free (a
    DMA: its last byte); data: when the first byte of a DMA moves; ready: when it could have begun; loading: time before
    `data` in which the Tensor Engine loads the stationary tile and does nothing else; cause, by: what decided its
    begin; data_cause,
    data_by: what delayed the bytes of a DMA beyond that (0: nothing). to_read: the columns for the compiled code, once
    they were asked for."""

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
    to_read: compiled.ScheduleToRead | None = field(default=None, repr=False, compare=False)

    def cost_of(self, i: int) -> Cost:
        """Cost of instruction i of all."""
        c = self.core[i]
        p = self.programs[c]
        return p.costs[p.cost[i - self.offset[c]]]
