"""What one instruction costs, by generation: documented formulas over the numbers of `facts/neuroncore/timing-v*.yaml`.

A compute instruction holds its engine for `occupancy` = (work + overhead) / clock; a dependent one waits `latency` longer. A DMA holds
the issuer for `issue`, each DMA engine for the descriptors that fall to it, and the memory for its bytes. Times are integers of
picoseconds: sums do not depend on their order. Each cost remembers which facts it is made of, so that a latency knows how much of it
rests on which number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from mowich.errors import UserError
from mowich.facts import Facts, load
from mowich.neuroncore.ops import ACT_RESIDENT
from mowich.neuroncore.trace import Kind, Operand

QUEUES = ("tensor", "vector", "scalar", "gpsimd", "sync", "load", "store", "collective")
"""In-order queues of a core: five engines, the DMA triggers of loads and of stores, and the collective cores."""
TENSOR, VECTOR, SCALAR, GPSIMD, SYNC, LOAD, STORE, COLLECTIVE = range(len(QUEUES))
PS = 1_000_000_000_000
_SHORT = ("bfloat16", "float16")
_FP8 = ("float8_e4m3", "float8_e4m3fn", "float8_e5m2", "float8_e3m4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Times in ps. occupancy: of the engine; latency: from the end of the occupancy until a dependant may start; weights: until a matmul
    may start after its stationary tile is there; load: of the stationary tile behind the matmul before.

    For DMA: issue; first_byte; transfer: time on each DMA engine, by engine; hbm_B: bytes read and written in HBM; descriptor_B: bytes of
    a descriptor. parts: share of the times above by fact, ps (occupancy or transfer, and latency, apart).
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
    opcode: str = ""
    dtype: str = ""


class Costs:
    """The cost of every kind of instruction on one generation."""

    def __init__(self, generation: int, facts: Facts | None = None) -> None:
        self.generation = generation
        self.facts = facts or load()
        self.prefix = f"neuroncore.timing-v{generation}"
        self._numbers: dict[str, float] = {}
        self._found: dict[tuple[Kind, int], Cost] = {}

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

    def of(self, kind: Kind, ranks: int = 1) -> Cost:
        """The cost of a kind of instruction; ranks: members of a collective."""
        found = self._found.get((kind, ranks))
        if found is None:
            found = self._found[kind, ranks] = (
                _collective(self, kind, ranks) if kind.name == "collective" else self._make(kind)
            )
        return found

    def spill(self, parts: int, row_B: int, is_load: bool) -> Cost:
        """A tile of `parts` partitions to a buffer in HBM, or back."""
        tile = Operand("S", (parts, row_B), (row_B, 1), 1, "uint8", 0, "")
        memory = Operand("H", (parts, row_B), (row_B, 1), 1, "uint8", 0, "")
        pair = (memory, tile) if is_load else (tile, memory)
        made = self.of(Kind("dma_copy", "dma", (), (pair[0],), (pair[1],)))
        return replace(made, opcode="reload" if is_load else "spill")

    def _make(self, kind: Kind) -> Cost:
        if kind.engine == "dma" and kind.name in _DMA:
            return _DMA[kind.name](self, kind)
        if kind.engine == "tensor":
            return _tensor(self, kind)
        if kind.engine in ("vector", "scalar", "gpsimd"):
            return _elementwise(self, kind)
        if kind.engine == "sync" or kind.name == "core_barrier":
            return _sync(self, kind)
        raise UserError(f"no cost for {kind.name} on the {kind.engine} engine")


def queue_of(engine: str) -> int:
    """Number of an engine's queue."""
    return QUEUES.index(engine)


def free_size(op: Operand) -> int:
    """Elements in each partition."""
    return math.prod(op.shape[1:]) if len(op.shape) > 1 else 1


# Tensor Engine --------------------------------------------------------------------------------------------------------------


def _tensor(c: Costs, kind: Kind) -> Cost:
    if kind.name == "core_barrier":
        return _sync(c, kind)
    n = c.number
    out = kind.writes[0]
    if kind.name == "nc_transpose":
        data = kind.reads[0]
        p, f = data.shape[0], free_size(data)
        passes = n("tensor_engine.passes_fp32_transpose") if data.itemsize == 4 else 1
        columns, weights, rows, flop = max(p, min(64, f)), f, p, 0
        dtype = data.dtype
    else:
        stationary, moving = kind.reads[0], kind.reads[1]
        dtype = moving.dtype
        weights, columns, rows = out.shape[0], free_size(out), stationary.shape[0]
        depth = rows * {"nc_matmul_mx": 4}.get(kind.name, 2 if kind.flag("mode") == "double_row" else 1)
        flop = 2 * depth * weights * columns
        passes = 1
        if dtype == "float32":
            passes = n("tensor_engine.passes_fp32")
            if kind.flag("transpose"):
                passes = n("tensor_engine.passes_fp32_transpose")
            elif kind.flag("onezero"):
                passes = n("tensor_engine.passes_fp32_onezero")
        if kind.flag("transpose"):
            flop = 0
    instructions = n("tensor_engine.instructions_fp32") if passes > 1 else 1
    work = passes * max(columns, n("tensor_engine.least"))
    extra = instructions * n("tensor_engine.overhead")
    load = passes * weights / n("tensor_engine.load_columns")
    cyc = c.cycles
    parts = {"tensor_engine.clock": cyc("tensor", work), "tensor_engine.overhead": cyc("tensor", extra)}
    return Cost(
        queue=TENSOR, occupancy=sum(parts.values()), latency=cyc("tensor", n("tensor_engine.drain")),
        weights=cyc("tensor", load + n("tensor_engine.load_latency")), load=cyc("tensor", load), flop=flop, elements=columns * weights,
        parts=parts, latency_parts={"tensor_engine.drain": cyc("tensor", n("tensor_engine.drain"))}, opcode=kind.name, dtype=dtype,
        groups=_groups(kind),
    )  # fmt: skip


def _groups(kind: Kind) -> tuple[int, ...]:
    """Which of the 4 x 4 groups of 32 rows and columns a tiled matmul holds; none: the whole array."""
    tile = kind.flag("tile")
    if not tile:
        return ()
    r0, c0, r, c = (int(x) // 32 for x in tile)
    return tuple(4 * i + j for i in range(r0, r0 + r) for j in range(c0, c0 + c)) if r * c < 16 else ()


# Vector, Scalar and GpSimd Engines ------------------------------------------------------------------------------------------------


def _contiguous(op: Operand) -> bool:
    """Elements of the innermost free dimension follow each other."""
    for size, stride in zip(reversed(op.shape[1:]), reversed(op.strides[1:]), strict=True):
        if size != 1:
            return stride == 1
    return True


def _wide_stride(op: Operand) -> bool:
    """The innermost stride is 16 bytes or more: half the bandwidth of SBUF."""
    for size, stride in zip(reversed(op.shape[1:]), reversed(op.strides[1:]), strict=True):
        if size != 1:
            return abs(stride) * op.itemsize >= 16 and op.space == "S"
    return False


def _two_inputs(c: Costs, kind: Kind, n: int) -> float:
    """tensor_tensor and its like: N with an operand in PSUM or, on v2, 16-bit operands; 2 N with both in SBUF; performance mode on v3+."""
    a, b, out = kind.reads[0], kind.reads[1], kind.writes[0]
    both = a.space == "S" and b.space == "S"
    short = all(o.dtype in _SHORT for o in (a, b, out))
    if c.generation >= 4 and not short:
        short = all(o.dtype in (*_SHORT, *_FP8) for o in (a, b, out))
    if not both:
        return n
    if kind.engine == "gpsimd":
        return 2 * n
    if c.generation >= 3:
        base = c.number("vector_engine.two_inputs_per_element") * n
        if short and kind.name == "tensor_tensor":
            return base / c.number("vector_engine.fast_tensor_tensor")
        return base
    quick = short and all(_contiguous(o) for o in (a, b, out)) and kind.flag("op") in ("add", "subtract", "multiply")
    return n if quick else c.number("vector_engine.two_inputs_per_element") * n


def _copy_like(c: Costs, kind: Kind, n: int) -> float:
    """tensor_copy and tensor_scalar: performance modes of the Vector Engine (v3, v4) and of the Scalar Engine (v4)."""
    tiles = [kind.reads[0], kind.writes[0]] if kind.reads else [kind.writes[0]]
    formats = (*_SHORT, *_FP8) if c.generation >= 4 else _SHORT
    if c.generation < 3 or not all(t.dtype in formats for t in tiles):
        return n
    flat = all(_contiguous(t) for t in tiles)
    on_chip = all(t.space == "S" for t in tiles)
    if kind.engine == "scalar":
        return n / c.number("scalar_engine.fast_copy") if c.generation >= 4 else n
    if kind.engine != "vector":
        return n
    if flat and on_chip:
        return n / c.number("vector_engine.fast_copy")
    if flat or on_chip:
        return n / c.number("vector_engine.fast_copy_other")
    return n


def _work(c: Costs, kind: Kind) -> tuple[float, float, bool]:
    """(cycles of work, least cycles, fast mode) of an instruction of the Vector, Scalar or GpSimd Engine."""
    name, num = kind.name, c.number
    tiles = [*kind.reads, *kind.writes]
    n = max((free_size(t) for t in tiles), default=1)
    out = free_size(kind.writes[0]) if kind.writes else n
    least = num(f"{kind.engine}_engine.least")
    if name in ("tensor_copy", "tensor_scalar"):
        if any(t.dynamic == "scalar" for t in tiles):
            return n, num("vector_engine.dynamic_least"), False
        cycles = _copy_like(c, kind, n)
        if kind.engine == "gpsimd" and kind.flag("op") in ("rsqrt", "sqrt"):
            cycles *= num("gpsimd_engine.rsqrt_per_element")
        return cycles, least, cycles < n
    if name in ("tensor_tensor", "scalar_tensor_tensor"):
        cycles = _two_inputs(c, kind, n)
        return (
            cycles,
            least,
            cycles <= n and c.generation >= 3 and name == "tensor_tensor" and kind.reads[0].itemsize == 2,
        )
    if name in ("tensor_copy_predicated", "select_reduce"):
        both = all(t.space == "S" for t in tiles)
        return (num("vector_engine.two_inputs_per_element") if both else 1) * n, least, False
    if name == "tensor_scalar_reduce":
        return max(least, n) + num("vector_engine.reduce_extra"), least, False
    if name in ("activation", "activation_reduce", "activate2"):
        reduces = name == "activation_reduce" or kind.flag("reduce", False)
        return max(least, n) + (num("scalar_engine.accumulate_extra") if reduces else 0), least, False
    if name == "tensor_tensor_scan":
        return num("vector_engine.scan_per_element") * n, least, False
    if name == "tensor_reduce":
        quick = (
            kind.reads[0].dtype in _SHORT and kind.writes[0].dtype in _SHORT and kind.flag("op") in ("add", "maximum")
        )
        return n / 2 if quick else n, least, False
    if name == "reciprocal":
        return num("vector_engine.reciprocal_per_element") * n, least, False
    if name == "bn_aggr":
        return num("vector_engine.bn_aggr_per_element") * n, least, False
    if name == "memset":
        zero = kind.flag("zero", False) and kind.writes[0].dtype in _SHORT
        cycles = _copy_like(c, kind, n) if c.generation >= 3 else n
        return min(cycles, n / 2 if zero else n), least, False
    if name == "quantize_mx":
        return n / num("vector_engine.quantize_elements"), least, False
    if name == "exponential":
        return n / num("vector_engine.exponential_elements"), least, False
    if name in ("rng", "rand2"):
        return (
            n / (num("vector_engine.rng_elements") if c.generation >= 4 and kind.engine == "vector" else 1),
            least,
            False,
        )
    if name in ("iota", "affine_select"):
        return num("gpsimd_engine.fixed") + n, least, False
    if name == "local_gather":
        return _local_gather(c, kind, out), least, False
    if name == "topk":
        snake = int(kind.flag("elements", n))  # n of the formula: elements over the 16 partitions of a group
        return num("gpsimd_engine.topk_per_element") * snake + free_size(kind.writes[0]), least, False
    if name == "tensor_partition_reduce":
        p = kind.reads[0].shape[0]
        return num("gpsimd_engine.fixed") + free_size(kind.writes[0]) * max(1.0, math.log2(p)), least, False
    if name == "sendrecv":
        moved = math.prod(kind.reads[0].shape) * kind.reads[0].itemsize
        return (
            num("gpsimd_engine.fixed") + moved / num("gpsimd_engine.dma_bandwidth") * num("gpsimd_engine.clock"),
            least,
            False,
        )
    if name in ("nc_n_gather", "nonzero_with_count", "sequence_bounds"):
        return num("gpsimd_engine.fixed") + num("gpsimd_engine.other_per_element") * n, least, False
    return n, least, False


def _local_gather(c: Costs, kind: Kind, out: int) -> float:
    e = int(kind.flag("elements", 1))
    t = c.number("gpsimd_engine.gather_step")
    rate = (c.number("gpsimd_engine.gather_base") + t * e) / (t * e) / min(4 / kind.writes[0].itemsize, e)
    return c.number("gpsimd_engine.fixed") + out / rate


def _elementwise(c: Costs, kind: Kind) -> Cost:
    if kind.name == "core_barrier":
        return _sync(c, kind)
    engine = kind.engine
    work, least, fast = _work(c, kind)
    if kind.name not in ("iota", "affine_select") and any(_wide_stride(t) for t in (*kind.reads[:2], *kind.writes[:1])):
        work *= 2
    tiles = [*kind.reads, *kind.writes]
    cyc, num = c.cycles, c.number
    parts = {
        f"{engine}_engine.clock": cyc(engine, max(work, least)),
        f"{engine}_engine.overhead": cyc(engine, num(f"{engine}_engine.overhead")),
    }
    latency = cyc(engine, num(f"{engine}_engine.latency"))
    table = ""
    if engine == "scalar" and kind.name.startswith("activat"):
        function = str(kind.flag("op", ""))
        table = "" if function in ACT_RESIDENT else function
    return Cost(
        queue=queue_of(engine), occupancy=sum(parts.values()), latency=latency, parts=parts, table=table,
        latency_parts={f"{engine}_engine.latency": latency}, ports=_ports(c, engine, tiles, fast), opcode=kind.name,
        elements=max((math.prod(t.shape) for t in tiles), default=0), dtype=kind.reads[0].dtype if kind.reads else "",
    )  # fmt: skip


def _ports(c: Costs, engine: str, tiles: list[Operand], fast: bool) -> tuple[str, ...]:
    """Ports that an instruction holds against another engine: v2, Vector and GpSimd share SBUF's, Vector and Scalar PSUM's; later, a Vector
    instruction in performance mode takes the port that GpSimd needs."""
    spaces = {t.space for t in tiles}
    made: list[str] = []
    if engine == "gpsimd" and "S" in spaces:
        made.append("sbuf")
    if engine == "vector" and "S" in spaces and (fast or c.generation == 2):
        made.append("sbuf")
    if c.generation == 2 and engine in ("vector", "scalar") and "P" in spaces:
        made.append("psum")
    return tuple(made)


# sequencers -----------------------------------------------------------------------------------------------------------------------


def _sync(c: Costs, kind: Kind) -> Cost:
    fact = "sync.barrier" if kind.name == "core_barrier" else "sync.register"
    time = c.ps(fact)
    queue = queue_of(kind.engine) if kind.engine in QUEUES else SYNC
    return Cost(queue=queue, occupancy=time, parts={fact: time}, opcode=kind.name)


# DMA ------------------------------------------------------------------------------------------------------------------------------


def _run_B(op: Operand) -> int:
    """Bytes that follow each other in memory, from the innermost dimension outwards; on chip within a partition."""
    run, expected = op.itemsize, 1
    dims = list(zip(op.shape, op.strides, strict=True))
    if op.space != "H":
        dims = dims[1:]
    for size, stride in reversed(dims):
        if size == 1:
            continue
        if stride != expected:
            break
        run *= size
        expected *= size
    return run


def _shorter_run_B(source: Operand, out: Operand, total: int) -> int:
    """Bytes of a descriptor: the run of the more fragmented side. Rows that follow each other in HBM are one run, whole partitions on
    the other side do not break it."""
    if (source.space == "H") == (out.space == "H"):
        return min(
            _run_B(out) * max(1, source.itemsize // out.itemsize),
            _run_B(source) * max(1, out.itemsize // source.itemsize),
        )
    memory, tile = (source, out) if source.space == "H" else (out, source)
    run, inner = _run_B(memory), _run_B(tile)
    return min(run, inner) if inner < total // max(tile.shape[0], 1) else run


def _rows(reads: tuple[Operand, ...], write: Operand) -> tuple[int, int]:
    """(first partition, partitions) of the side in SBUF; (0, 0) where both are in HBM."""
    for op in (write, *reads):
        if op.space != "H":
            return op.start, op.shape[0]
    return 0, 0


def _transfer(
    c: Costs, kind: Kind, total: int, run: int, rate: float, per_row: bool = True
) -> tuple[tuple[int, ...], int]:
    """Time on each DMA engine, and descriptors in all. A partition belongs to one engine, 8 partitions to each; rows that follow each
    other in HBM make one descriptor per engine."""
    engines = int(c.number("dma.engines"))
    descriptor = c.ps("dma.descriptor")
    start, rows = _rows(kind.reads, kind.writes[0]) if per_row else (0, 0)
    if rows == 0:
        count = max(1, math.ceil(total / run))
        used = min(engines, max(count, math.ceil(total / 512)))
        share = total / used
        each = max(1, math.ceil(count / used))
        time = each * descriptor + round(share / rate * PS)
        return tuple(time if e < used else 0 for e in range(engines)), max(count, used)
    width = 128 // engines
    row_B = total / rows
    load = [0] * engines
    held = [0] * engines
    for p in range(start, start + rows):
        held[min(p // width, engines - 1)] += 1
    count = 0
    for e, n in enumerate(held):
        if n:
            made = max(1, math.ceil(n * row_B / max(run, 1)))
            count += made
            load[e] = made * descriptor + round(n * row_B / rate * PS)
    return tuple(load), count


def _dma(c: Costs, kind: Kind, factor: float = 1.0, extra_reads: bool = False) -> Cost:
    out = kind.writes[0]
    sources = [o for o in kind.reads if math.prod(o.shape) == math.prod(out.shape)] or list(kind.reads[:1]) or [out]
    source = sources[0]
    size = math.prod(out.shape)
    total = size * max(out.itemsize, source.itemsize)
    run = _shorter_run_B(source, out, total)
    if any(o.dynamic in ("vector", "columns") for o in (out, source)):
        run = min(run, total // max(out.shape[0], 1))
    moved = total * (len(sources) if extra_reads else 1)
    rate = c.number("dma.rate") * factor
    transfer, count = _transfer(c, kind, moved, max(run, 1), rate)
    by_software = kind.flag("dge") == "swdge" or any(o.dynamic == "vector" for o in (*kind.reads, out))
    issue = c.ps("dma.issue")
    read = sum(math.prod(o.shape) * o.itemsize for o in sources if o.space == "H")
    write = size * out.itemsize if out.space == "H" else 0
    queue = STORE if out.space == "H" and source.space != "H" else LOAD
    longest = max(transfer)
    descriptor = c.ps("dma.descriptor") * max(1, count // sum(1 for t in transfer if t))
    parts = {"dma.rate": max(longest - descriptor, 0), "dma.descriptor": min(descriptor, longest)}
    if by_software:
        issue = c.ps("dma.software_issue")
    return Cost(
        queue=queue, issue=issue, first_byte=c.ps("dma.first_byte"), transfer=transfer, hbm_read_B=read, hbm_write_B=write, sbuf_B=moved,
        latency=c.ps("dma.completion"), parts=parts, latency_parts={"dma.completion": c.ps("dma.completion")}, opcode=kind.name,
        descriptor_B=moved // max(count, 1), descriptors=count, elements=size, dtype=out.dtype, table="swdge" if by_software else "",
    )  # fmt: skip


def _dma_transpose(c: Costs, kind: Kind) -> Cost:
    on_chip = kind.reads[0].space != "H"
    return _dma(c, kind, c.number("dma.transpose_sbuf" if on_chip else "dma.transpose_hbm"))


def _dma_compute(c: Costs, kind: Kind) -> Cost:
    return _dma(c, kind, c.number("dma.compute"), extra_reads=True)


def _collective(c: Costs, kind: Kind, ranks: int) -> Cost:
    """Ring, mesh or a single step, whichever is fastest, over the links of a chip's neighbours (alpha-beta forms of the Neuron docs)."""
    bytes_ = sum(math.prod(o.shape) * o.itemsize for o in kind.reads)
    hop = c.number("links.hop")
    rate = c.number("dma.rate") * c.number("dma.engines")
    name = str(kind.flag("kind", ""))
    twice = 2 if name == "all_reduce" else 1
    chunk = bytes_ / ranks if name in ("all_reduce", "reduce_scatter", "all_to_all") else bytes_
    ring = twice * (ranks - 1) * (hop + chunk / rate)
    mesh = twice * 2 * hop + twice * (ranks - 1) * chunk / rate
    time = round((hop + bytes_ / rate if name.startswith("collective_permute") else min(ring, mesh)) * PS)
    steps = round(min(time, twice * 2 * hop * PS))
    return Cost(
        queue=COLLECTIVE,
        occupancy=time,
        latency=c.ps("dma.completion"),
        parts={"links.hop": steps, "dma.rate": time - steps},
        opcode=name,
    )


_DMA: dict[str, Callable[[Costs, Kind], Cost]] = {
    "dma_copy": _dma, "dma_transpose": _dma_transpose, "dma_compute": _dma_compute, "sendrecv": _dma,
}  # fmt: skip


@cache
def costs(generation: int) -> Costs:
    """Costs of a generation from the shipped facts."""
    return Costs(generation)
