"""The state of one NeuronCore while a kernel runs: its generation's limits, its memories, registers and clocks; and its
errors.

`running()` is the core whose program runs in this thread. It is a context variable: threads that launch kernels side by
side each have their own, and so has each program of a launch (see `communicator`). Nothing else that a run writes lies
outside its cores.
"""

from __future__ import annotations

import mmap
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields
from functools import cache
from types import CodeType, FrameType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError
from mowich.neuroncore.dtypes import DType
from mowich.neuroncore.trace import AnyTile, NotedView, Record, Trace, ViewAccess, ViewForm

_OURS = tuple(
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), part) + os.sep
    for part in ("neuroncore", "nki")
)
_OUR_FILES: set[str] = set()


class NkiValidationError(UserError, AssertionError):
    """A kernel broke a rule of the hardware. One line: where in the kernel, which tile, the limit, the remedy."""


class UninitialisedRead(UserWarning):
    """A kernel read bytes that nothing wrote; the value is NaN, or 4 in integers, as in AWS's simulator."""


def fact(path: str, file: str = "v") -> Any:
    """A field of `Limits` that holds the fact `neuroncore.FILE*.PATH`, * for the generation."""
    return field(metadata={"fact": path, "file": file})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one generation can hold, from the facts `neuroncore.v*` and `timing-v*`: bytes per partition (`_B`; `hbm_B`:
    of the chip), partitions, columns, elements; 0 where the generation has no such thing. Each field's metadata names
    its fact."""

    generation: int
    partitions: int = fact("sbuf.partitions")
    quadrant: int = fact("sbuf.quadrant_partitions")
    sbuf_B: int = fact("sbuf.bytes_per_partition")
    sbuf_usable_B: int = fact("sbuf.usable_per_partition")
    sbuf_align_B: int = fact("sbuf.min_align")
    psum_B: int = fact("psum.bytes_per_partition")
    psum_banks: int = fact("psum.banks")
    psum_align_B: int = fact("psum.min_align")
    banks_per_matmul: int = fact("psum.banks_per_matmul")
    stationary_columns: int = fact("tensor_engine.stationary_columns")
    moving_columns: int = fact("tensor_engine.moving_columns")
    tile_rows: int = fact("tensor_engine.tile_rows")
    bn_stats_elements: int = fact("vector_engine.bn_stats_elements")
    transpose_rows: int = fact("vector_engine.transpose_rows")
    search_min: int = fact("vector_engine.search_min_elements")
    search_max: int = fact("vector_engine.search_max_elements")
    vector_rng_words: int = fact("vector_engine.rng_state_words")
    gpsimd_rng_words: int = fact("gpsimd_engine.rng_state_words")
    gpsimd_group: int = fact("gpsimd_engine.group_partitions")
    gather_indices: int = fact("gpsimd_engine.gather_indices")
    topk_min: int = fact("gpsimd_engine.topk_min_elements")
    topk_max: int = fact("gpsimd_engine.topk_max_elements")
    topk_results: int = fact("gpsimd_engine.topk_max_results")
    topk_sorted: int = fact("gpsimd_engine.topk_max_sorted")
    gpsimd_dma_32bit_B: int = fact("gpsimd_engine.dma_bytes_32bit")
    gpsimd_dma_16bit_B: int = fact("gpsimd_engine.dma_bytes_16bit")
    gpsimd_dma_8bit_B: int = fact("gpsimd_engine.dma_bytes_8bit")
    compute_sources: int = fact("dma.compute_sources")
    transpose_columns: int = fact("dma.transpose_columns")
    max_dims: int = fact("access.max_dims")
    max_count: int = fact("access.max_count")
    hbm_B: int = fact("memory.hbm_capacity", "timing-v")
    mx_scale_rows: int = fact("mx.scale_rows")
    mx_headroom: int = fact("mx.scale_headroom")

    @property
    def psum_bank_B(self) -> int:
        """Bytes of one PSUM bank in each partition."""
        return self.psum_B // self.psum_banks


@cache
def limits(generation: int) -> Limits:
    """Limits of NeuronCore generation 2, 3 or 4."""
    from mowich.facts import load_facts

    facts = load_facts()
    found = {
        f.name: facts.get(f"neuroncore.{f.metadata['file']}{generation}.{f.metadata['fact']}")
        for f in fields(Limits)
        if f.metadata
    }
    return Limits(
        generation=generation, **{n: int(float(f.value or 0)) if f is not None else 0 for n, f in found.items()}
    )


def _pages(size: int) -> NDArray[np.uint8]:
    """Zeros in small pages that take memory when touched: NumPy asks for pages of 2 MiB, of which a few columns of each
    partition touch all, and 144 ranks would not fit."""
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a check of kernels saw at a line. text: what it is, the first time; count, of: elements, all times."""

    text: str
    count: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Ranks that run the same program on the same shapes: one of them, without values, stands for all. ranks: how many;
    lasts_ps: (kind of a collective, bytes that a rank gives) -> picoseconds on the fabric of a machine, None: as inside
    a chip."""

    ranks: int
    lasts_ps: Callable[[str, int], int | None]


Named = tuple[str, Any]
"""An operand of an instruction by its name: a tile, where it passed the checks."""


class ProgramGroup(Protocol):
    """Programs that take turns (`communicator.Group`)."""

    has_repeated: bool

    def step(self, me: int, sibling: int) -> None: ...
    def exchange(
        self, me: int, meeting: object, members: Sequence[int], payload: object, what: str = ""
    ) -> dict[int, Any]: ...


class DeviceTurns(Protocol):
    """The loop on the device whose body is traced (`turns.DeviceLoop`). depth: of calls that are noted, in each
    other."""

    depth: int

    @property
    def is_dry(self) -> bool: ...
    def note(self, call: Callable[[], object]) -> None: ...


class WaitingProducts(Protocol):
    """Products of matmuls that were issued, and are computed before anything reads them (`instructions.products`)."""

    def compute(self) -> None:
        """Compute them: none waits any more."""


TensorLayout = tuple[tuple[int, ...], DType, tuple[int, ...], tuple[int, int] | None]
"""(shape, format, strides, address) of a new tensor."""


class Watcher(Protocol):
    """Who looks at every instruction of a run with values. What a method raises ends the run."""

    @property
    def is_again(self) -> bool:
        """Whether the kernel runs once more, and what it warns of was told the first time."""

    def issued(self, core: Core, name: str, reads: Sequence[Named], writes: Sequence[Named]) -> None:
        """An instruction was checked and recorded, and computes next. reads, writes: (operand, tile)."""

    def turn_ended(self, core: Core, storages: Sequence[int]) -> None:
        """A turn of a loop on the device is over; storages: numbers of those that its body allocates, which each turn
        fills again."""

    def ended(self, cores: Sequence[Core], returned: Sequence[object]) -> None:
        """All programs have ended; returned: what they gave, tiles among it. Their memories are still there."""


@dataclass(slots=True, eq=False, repr=False)
class Core:
    """One NeuronCore with a program on it. `program` of `programs` share one HBM; `rank` of `ranks` are joined by
    collectives; record: it keeps a trace.

    wants_finite: infinities and NaN in an output, from arguments without, are an error; alike: the ranks that this one
    stands for, None: itself alone; observed: what a check of kernels looks for while this one runs, None: nobody looks;
    watcher: who looks at each instruction, None: nobody. accesses, forms, known: what `issue` found out about each
    access, about each form, kind of an instruction on forms that passed its checks. loops: those of the kernel that
    were looked at, None: each iteration is traced; has_repeated: iterations were written without running; unfinished:
    loops of that kind whose last iteration did not end. turns: the loop on the device whose body is traced now;
    is_traced: the kernel is of an interface that traces (NKI 0.7), where registers have no value for Python. views:
    those that were made by indices while a loop runs that may be repeated (None among them: one that is not followed),
    None: nobody asks; is_sampling: what is recorded now may be taken back. blocks: (tensor of the older interface,
    block of it that was made); irregular: accesses of the older interface that a mask cuts, or whose addresses follow
    no pattern; pending: its matmuls that wait for their destination; waiting: products of matmuls that were issued.
    plans: what `placement.allocate` found out about a shape; rounding: the generator of stochastic rounding, None: to
    nearest, ties to even; constants: a digest of each array of the host that the kernel took."""

    generation: int
    _: KW_ONLY
    program: int = 0
    programs: int = 1
    rank: int = 0
    ranks: int = 1
    values: bool = True
    strict: bool = False
    record: InitVar[bool] = True
    shared: dict[object, Any] = field(default_factory=dict)
    limits: Limits = field(init=False)
    grid: tuple[int, ...] = field(init=False)
    grid_index: tuple[int, ...] = field(init=False)
    wants_finite: bool = False
    alike: Alike | None = None
    observed: dict[tuple[str, str], Observed] | None = None
    watcher: Watcher | None = None
    trace: Trace | None = field(init=False)
    accesses: dict[object, ViewAccess] = field(default_factory=dict)
    forms: dict[object, ViewForm] = field(default_factory=dict)
    known: dict[object, int] = field(default_factory=dict)
    loops: object = None
    has_repeated: bool = False
    unfinished: int = 0
    turns: DeviceTurns | None = None
    is_traced: bool = False
    views: list[NotedView | None] | None = None
    is_sampling: bool = False
    blocks: list[tuple[Any, tuple[int, ...]]] = field(default_factory=list)
    irregular: int = 0
    plans: dict[object, TensorLayout] = field(default_factory=dict)
    clock: int = 0
    serial: dict[object, int] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    arenas: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    fresh: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    act_acc: NDArray[np.float32] = field(init=False)
    dve_acc: NDArray[np.float32] = field(init=False)
    _rng: np.random.Generator | None = None
    rounding: np.random.Generator | None = None
    xorwow: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    constants: list[bytes] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warned: set[object] = field(default_factory=set)
    group: ProgramGroup | None = None
    rank_group: ProgramGroup | None = None
    sites: dict[tuple[int, int], tuple[tuple[str, int], CodeType]] = field(default_factory=dict)
    waiting: WaitingProducts | None = None
    pending: list[Any] = field(default_factory=list)
    scratch: dict[object, Any] = field(default_factory=dict)

    def __post_init__(self, record: bool) -> None:
        self.limits = limits(self.generation)
        several = self.programs > 1
        self.grid, self.grid_index = ((self.programs,), (self.program,)) if several else ((), ())
        self.act_acc, self.dve_acc = (np.zeros(self.limits.partitions, np.float32) for _ in range(2))
        self.trace = Trace() if record else None

    @property
    def rng(self) -> np.random.Generator:
        """The generator of random numbers, from a seed of 0 unless the kernel sets another: made when it is asked for,
        for that takes as long as five instructions."""
        if self._rng is None:
            self._rng = np.random.default_rng(0)
        return self._rng

    @rng.setter
    def rng(self, made: np.random.Generator) -> None:
        self._rng = made

    def compute_waiting(self) -> None:
        """Compute the products of matmuls that wait, before something reads them that is no instruction."""
        if self.waiting is not None:
            self.waiting.compute()

    @property
    def looks(self) -> bool:
        """Whether what costs time to find is looked for: in strict runs and in checks."""
        return self.strict or self.observed is not None

    def observe(self, kind: str, text: str, at: str | None = None, count: int = 0, of: int = 0) -> None:
        """Note something that a check of kernels looks for, where one is made: once per line, with `count` of `of`
        elements in all."""
        if self.observed is not None:
            key = (kind, at or where())
            before = self.observed.get(key, Observed(text))
            self.observed[key] = Observed(before.text, before.count + count, before.of + of)

    def arena(self, space: str) -> NDArray[np.uint8]:
        """All bytes of SBUF or PSUM, for tiles with addresses of their own. Untouched pages take no memory."""
        if space not in self.arenas:
            size = self.limits.sbuf_B if space == "S" else self.limits.psum_B
            self.arenas[space] = _pages(self.limits.partitions * size)
            self.fresh[space] = _pages(self.limits.partitions * size).view(np.bool_)
        return self.arenas[space]

    def once(self, kind: str) -> bool:
        """True the first time that this kernel line warns of this kind."""
        key = (kind, where())
        if key in self.warned:
            return False
        self.warned.add(key)
        return True

    def warn(self, kind: str, text: str, category: type[Warning] = UserWarning, at: str | None = None) -> None:
        """Report once per kernel line; the result of the run keeps the list."""
        self.observe(kind, text, at)
        if self.once(kind):
            line = f"{at or where()}: {text}"
            self.warnings.append(line)
            if self.watcher is None or not self.watcher.is_again:
                warnings.warn(line, category, stacklevel=2)


_RUNNING: ContextVar[Core | None] = ContextVar("mowich_core", default=None)
running: Callable[[], Core | None] = _RUNNING.get
"""The core whose program runs in this thread, None outside a kernel."""


def active() -> Core:
    """The core that is running. Raises UserError outside a kernel."""
    core = running()
    if core is None:
        raise UserError(
            "this is an instruction of a NeuronCore: it runs inside a kernel only",
            fix="call it from a function under @nki.jit, or use nki.simulate(kernel)(...)",
        )
    return core


def set_current(core: Core | None) -> Core | None:
    """Make a core the running one of this thread; returns the one before."""
    before = running()
    _RUNNING.set(core)
    return before


def is_ours(filename: str) -> bool:
    """Whether a frame of this file is the simulator's, not the kernel's."""
    return filename.startswith((*_OURS, "<frozen"))


def where() -> str:
    """file:line of the kernel: the innermost frame that is not ours, nor generated."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_ours(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "<kernel>"


def site(core: Core) -> tuple[str, int]:
    """(file, line) of the kernel, for trace records of a core. Python finds a line by going through the table of its
    function, which takes longer than an instruction in a function of hundreds of lines: the core keeps what it
    found."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        name = code.co_filename
        if name not in _OUR_FILES:
            key = (id(code), frame.f_lasti)
            found = core.sites.get(key)
            if found is not None:
                return found[0]
            if name.startswith(_OURS):
                _OUR_FILES.add(name)
            else:
                core.sites[key] = ((name, frame.f_lineno), code)  # the code stays alive, and its id its own
            continue
        frame = frame.f_back
    return "<kernel>", 0


def fail(
    what: str, *, tile: AnyTile | None = None, given: object = None, allowed: Any = None, fix: str | None = None
) -> NkiValidationError:
    """The error for a broken rule, with the kernel's line and the tile."""
    if tile is not None:
        what = f"{what}: {tile.describe()}"
    return NkiValidationError(what, where=where(), given=given, allowed=allowed, fix=fix)
