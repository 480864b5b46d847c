"""What costs of instructions are made of: the numbers of a generation, `facts/neuroncore/timing-v*.yaml`, and the
formulas that several instructions share.

A compute instruction holds its engine for `occupancy` = (work + overhead) / clock; a dependent one waits `latency`
longer. A DMA holds the issuer for `issue`, each DMA engine for the descriptors that fall to it, and the memory for its
bytes. Times are integers of
picoseconds: sums do not depend on their order. Each cost remembers which facts it is made of, so that a latency knows
how much of it rests on which number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mowich.facts import Facts, load_facts
from mowich.neuroncore.ops import ACT_RESIDENT
from mowich.neuroncore.trace import Kind, Operand

QUEUES = (
    "tensor",
    "vector",
    "scalar",
    "gpsimd",
    "sync",
    "load",
    "store",
    "collective",
    "load by scalar",
    "store by scalar",
    "static load",
    "static store",
    "software",
)
"""In-order queues of a core: five engines, the collective cores, and the DMA triggers of each ring, loads apart from
stores. Rings: two instances of the hardware's descriptor generator (of the Sync and of the Scalar Engine), descriptors
made before the launch, and those that GpSimd writes (loads and stores in one queue)."""
(
    TENSOR,
    VECTOR,
    SCALAR,
    GPSIMD,
    SYNC,
    LOAD,
    STORE,
    COLLECTIVE_QUEUE,
    SCALAR_LOAD,
    SCALAR_STORE,
    STATIC_LOAD,
    STATIC_STORE,
    SOFTWARE,
) = range(len(QUEUES))
RINGS = {
    "sync": (LOAD, STORE),
    "scalar": (SCALAR_LOAD, SCALAR_STORE),
    "static": (STATIC_LOAD, STATIC_STORE),
    "software": (SOFTWARE, SOFTWARE),
}
"""Queues of the loads and of the stores of a ring. The queues of a ring share its issuer."""
DMA_QUEUES = frozenset(queue for ring in RINGS.values() for queue in ring)
"""Queues of DMA triggers."""
PS = 1_000_000_000_000
SHORT = ("bfloat16", "float16")
FP8 = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e3m4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Times in ps. occupancy: of the engine; latency: from the end of the occupancy until a dependant may start;
    weights: until a matmul may start after its stationary tile is there; load: of the stationary tile behind the matmul
    before.

    For DMA: issue; first_byte; transfer: time on each DMA engine, by engine; hbm_read_B, hbm_write_B, sbuf_B: bytes
    moved; descriptors, and descriptor_B: bytes of one. flop, elements: of the Tensor Engine. table: of the Scalar
    Engine's functions. parts: share of the times above by fact, ps (occupancy or transfer; latency, and what comes
    before the first byte, apart).
    """

    queue: int
    occupancy: int = 0
    latency: int = 0
    weights: int = 0
    load: int = 0
    issue: int = 0
    first_byte: int = 0
    transfer: tuple[int, ...] = ()
    hbm_read_B: int = 0
    hbm_write_B: int = 0
    sbuf_B: int = 0
    descriptor_B: int = 0
    descriptors: int = 0
    flop: int = 0
    elements: int = 0
    table: str = ""
    ports: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    latency_parts: Mapping[str, int] = field(default_factory=dict)
    lead_parts: Mapping[str, int] = field(default_factory=dict)
    opcode: str = ""
    dtype: str = ""


class InstructionRates:
    """The numbers of one generation."""

    def __init__(self, generation: int, facts: Facts | None = None) -> None:
        self.generation = generation
        self.facts = facts or load_facts()
        self.prefix = f"neuroncore.timing-v{generation}"
        self._numbers: dict[str, float] = {}

    def number(self, name: str) -> float:
        """A fact by its name in the file: "dma.issue"; SI, cycles as counts."""
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = self.facts.number(f"{self.prefix}.{name}")
        return found

    def ps(self, name: str) -> int:
        """A time in picoseconds."""
        return round(self.number(name) * PS)

    def cycles(self, engine: str, count: float) -> int:
        """Cycles of an engine in picoseconds."""
        return round(count / self.number(f"{engine}_engine.clock") * PS)


def queue_of(engine: str) -> int:
    """Number of an engine's queue."""
    return QUEUES.index(engine)


ENGINES = ("tensor", "vector", "scalar", "gpsimd", "sync", "dma", "collective")
"""What a profile shows, in its order."""


def unit_of_queue(queue: int) -> str:
    """The unit that a queue feeds: an engine, "dma" or "collective"."""
    return "dma" if queue in DMA_QUEUES else QUEUES[queue]


def free_size(op: Operand) -> int:
    """Elements in each partition."""
    return math.prod(op.shape[1:]) if len(op.shape) > 1 else 1


def contiguous(op: Operand) -> bool:
    """Elements of the innermost free dimension follow each other."""
    for size, stride in zip(reversed(op.shape[1:]), reversed(op.strides[1:]), strict=True):
        if size != 1:
            return stride == 1
    return True


def wide_stride(op: Operand) -> bool:
    """The innermost stride is 16 bytes or more: half the bandwidth of SBUF."""
    for size, stride in zip(reversed(op.shape[1:]), reversed(op.strides[1:]), strict=True):
        if size != 1:
            return abs(stride) * op.itemsize >= 16 and op.space == "S"
    return False


# Vector, Scalar and GpSimd Engines
# ------------------------------------------------------------------------------------------------


class EngineWork(NamedTuple):
    """What an instruction asks of the Vector, Scalar or GpSimd Engine. cycles: of work; least: cycles that it takes at
    least, where not the engine's own; is_fast: a performance mode that takes the port of GpSimd; fact: the number that
    the cycles rest on most, where it is not the engine's clock."""

    cycles: float
    least: float | None = None
    is_fast: bool = False
    fact: str = ""


def elementwise(
    work: Callable[[InstructionRates, Kind, int], EngineWork | float], *, table: bool = False, strided: bool = True
) -> Callable[[InstructionRates, Kind], Cost]:
    """The cost of an instruction of the Vector, Scalar or GpSimd Engine from its work: a function of the rates, the
    kind and the elements in each partition of the largest operand. table: it needs the activation table of its
    function; strided: operands with wide strides double the work."""

    def cost(r: InstructionRates, kind: Kind) -> Cost:
        engine = kind.engine
        tiles = [*kind.reads, *kind.writes]
        found = work(r, kind, max((free_size(t) for t in tiles), default=1))
        cycles, least, is_fast, fact = found if isinstance(found, EngineWork) else EngineWork(found)
        if strided and any(wide_stride(t) for t in (*kind.reads[:2], *kind.writes[:1])):
            cycles *= 2
        if least is None:
            least = r.number(f"{engine}_engine.least")
        parts = {
            fact or f"{engine}_engine.clock": r.cycles(engine, max(cycles, least)),
            f"{engine}_engine.overhead": r.cycles(engine, r.number(f"{engine}_engine.overhead")),
        }
        latency = r.cycles(engine, r.number(f"{engine}_engine.latency"))
        function = str(kind.flag("op", "")) if table else ""
        return Cost(
            queue=queue_of(engine),
            occupancy=sum(parts.values()),
            latency=latency,
            parts=parts,
            table="" if function in ACT_RESIDENT else function,
            latency_parts={f"{engine}_engine.latency": latency},
            ports=_ports(r, engine, tiles, is_fast),
            opcode=kind.name,
            dtype=kind.reads[0].dtype if kind.reads else "",
        )

    return cost


def scalar_cycles(r: InstructionRates, kind: Kind, n: int) -> float:
    """Cycles in which the Scalar Engine passes n elements of a partition: more where it reads fp8."""
    reads_fp8 = bool(kind.reads) and kind.reads[0].dtype in FP8
    return n * r.number("scalar_engine.fp8_per_element") if reads_fp8 else n


one_pass = elementwise(lambda _, __, n: n)
"""The cost of an instruction that takes a cycle for each element of a partition."""


def _ports(r: InstructionRates, engine: str, tiles: list[Operand], fast: bool) -> tuple[str, ...]:
    """Ports that an instruction holds against another engine: v2, Vector and GpSimd share SBUF's, Vector and Scalar
    PSUM's; later, a Vector instruction in performance mode takes the port that GpSimd needs."""
    spaces = {t.space for t in tiles}
    made: list[str] = []
    if engine == "gpsimd" and "S" in spaces:
        made.append("sbuf")
    if engine == "vector" and "S" in spaces and (fast or r.generation == 2):
        made.append("sbuf")
    if r.generation == 2 and engine in ("vector", "scalar") and "P" in spaces:
        made.append("psum")
    return tuple(made)


# sequencers
# ----------------------------------------------------------------------------------------------------


def sequencer(fact: str) -> Callable[[InstructionRates, Kind], Cost]:
    """The cost of an instruction whose time is one fact."""

    def cost(r: InstructionRates, kind: Kind) -> Cost:
        time = r.ps(fact)
        queue = queue_of(kind.engine) if kind.engine in QUEUES else SYNC
        return Cost(queue=queue, occupancy=time, parts={fact: time}, opcode=kind.name)

    return cost
