"""Launching kernels: arguments in, a core per program, the kernel's Python run eagerly, results out.

Arrays (NumPy, torch, jax) become HBM tensors that share their bytes where the memory allows it, so that a kernel that
writes to an argument changes the caller's array. `kernel[2]` runs two programs with one HBM; ranks run side by side
with `simulate_ranks`.
"""

from __future__ import annotations

import contextlib
import copy as shallow
import functools
import inspect
import io
import math
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.neuroncore import core as machine
from mowich.neuroncore import memory as mem
from mowich.neuroncore import placement
from mowich.neuroncore.access import static_view, storage_of, tile_elements
from mowich.neuroncore.boxes import row_major
from mowich.neuroncore.clock.program import no_collection
from mowich.neuroncore.clock.records import ClockOptions, Schedule
from mowich.neuroncore.communicator import IN_TURN, Group, Order
from mowich.neuroncore.core import Alike, Core, Watcher
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.nonfinite import Origins, Traced, are_finite
from mowich.neuroncore.registers import DeviceNumber
from mowich.neuroncore.repeat import Unlike
from mowich.neuroncore.targets import generation_of
from mowich.neuroncore.views import Tile, view_of
from mowich.nki import frameworks, interface, loops, words
from mowich.nki.hollows import Hollow
from mowich.nki.objects import NKIObject
from mowich.nki.sizes import default_generation

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.neuroncore.order import KernelOrder
    from mowich.neuroncore.profile import Profile


@dataclass(slots=True)
class Peers:
    """Cores of all ranks of one run: they are scheduled together, once."""

    cores: list[Core]
    schedule: Schedule | None = None


@dataclass(slots=True, kw_only=True)
class Result:
    """What a run gives. kernel: name of its function; outputs: arrays that it returned; cores: state of each program,
    with its trace; warnings: lines;
    timed: whether the clock may replay the trace, with `options`; static_dma: compiled with --disable-dge; older:
    written in the older interface; peers: the cores of all ranks of the run; facts: of the clock, None: those that
    ship."""

    kernel: str
    outputs: list[Any]
    value: object
    cores: list[Core] = field(repr=False)
    warnings: list[str] = field(default_factory=list)
    timed: bool = False
    options: ClockOptions = field(default_factory=ClockOptions, repr=False)
    static_dma: bool = False
    older: bool = False
    peers: Peers | None = field(default=None, repr=False)
    facts: Facts | None = field(default=None, repr=False)
    _schedule: Schedule | None = field(default=None, repr=False)
    _profile: Profile | None = field(default=None, repr=False)

    @property
    def schedule(self) -> Schedule:
        """When each instruction ran; made when first asked for. Raises UserError for a run without times."""
        if self._schedule is None:
            from mowich.neuroncore.clock.costs import Costs, costs
            from mowich.neuroncore.clock.schedule import schedule

            cores = self.peers.cores if self.peers is not None else self.cores
            traces = [c.trace for c in cores if c.trace is not None]
            if not self.timed or len(traces) < len(cores):
                raise UserError("this run has no times", fix="run_kernel(..., timed=True)")
            if self.peers is not None and self.peers.schedule is not None:
                self._schedule = self.peers.schedule
            else:
                options = replace(self.options, older=self.older)
                if options.dge is None:
                    options = replace(options, dge=not self.static_dma)
                generation = self.cores[0].generation
                known = costs(generation) if self.facts is None else Costs(generation, self.facts)
                self._schedule = schedule(traces, known, options)
            if self.peers is not None:
                self.peers.schedule = self._schedule
        return self._schedule

    @property
    def time_s(self) -> Estimate:
        """Latency from the first trigger to the last result, in seconds; unknown, with the reason, where no instruction
        ran. Raises UserError for a run without times."""
        return self.profile.time_s

    @property
    def profile(self) -> Profile:
        """Who was busy, who waited for whom, what binds. Raises UserError for a run without times."""
        if self._profile is None:
            from mowich.neuroncore.profile import Profile

            self._profile = Profile(self.schedule, self.kernel)
        return self._profile

    def against(self, other: Result) -> KernelOrder:
        """Which of two kernels is slower: this run is A, the other one B. `ratio` is the time of B over the time of A
        (an Estimate without unit, with its own 90% range), `p_a_slower` the probability that A takes longer, `verdict`
        one of "a slower", "b slower", "tie" and "no order known". Raises UserError for a run without times.

        Example:
            >>> order = mowich.run_kernel(before, x).against(mowich.run_kernel(after, x))  # doctest: +SKIP
            >>> print(order)  # doctest: +SKIP
            A is slower than B with a probability of 97%.
        """
        from mowich.neuroncore.order import order_of

        return order_of(self.profile, other.profile)

    @property
    def device_s(self) -> float:
        """Latency as profilers of the device report it: with the start-up and tear-down of a launch, where known
        (Trainium1). Raises ValueError where no instruction ran."""
        return float(self.time_s) + self.schedule.costs.number("launch.startup")

    @property
    def instructions(self) -> int:
        """Instructions that ran on all cores."""
        return sum(c.clock for c in self.cores)


def _place(array: Array) -> tuple[int, int]:
    """Where an array of the host begins, and its bytes."""
    return int(array.__array_interface__["data"][0]), array.nbytes


class _Arguments:
    """Host arrays of one launch as HBM tensors, each array once, and how to bring results back."""

    def __init__(self, cores: Sequence[Core]) -> None:
        self.cores = cores
        self.region = MemoryRegion.private_hbm if len(cores) == 1 else MemoryRegion.shared_hbm
        self.by_id: dict[int, mem.Storage] = {}
        self.back: list[tuple[Array, mem.Storage]] = []
        self.keep: list[Array] = []
        self.framework = "numpy"

    def tile(self, array: Array, name: str) -> Tile:
        """An HBM tensor over an array, until it has memory of its own (`_own_memory`); a copy where its bytes do not
        follow each other."""
        key = id(array)
        if key not in self.by_id:
            data = array
            if not (array.flags.c_contiguous and array.flags.writeable) or array.ndim == 0:
                data = np.array(array, order="C", copy=True)
                if array.ndim == 0:
                    data = data.reshape(1)
            self.keep.append(array)
            made = self.by_id[key] = storage_of(placement.wrap_array(self.cores[0], data, self.region, name))
            made.is_fed = True
            if isinstance(array, Hollow):
                if self.cores[0].values:
                    raise UserError(f"argument '{name}' has no values", fix="run with values=False, or pass an array")
                made.owner = None
            elif array.flags.writeable:
                self.back.append((array, made))
        s = self.by_id[key]
        return view_of(s, s.dtype, s.shape, row_major(s.shape))

    def convert(self, x: object, name: str = "") -> object:
        """Arrays anywhere in lists, dicts and configuration objects -> tensors; the rest as it is."""
        if isinstance(x, np.ndarray):
            return self.tile(x, name)
        kind = frameworks.framework(x)
        if kind is not None:
            self.framework = kind
            return self.tile(frameworks.from_torch(x) if kind == "torch" else np.array(x), name)
        if isinstance(x, list):
            return [self.convert(v, name) for v in x]
        if isinstance(x, tuple):
            made = [self.convert(v, name) for v in x]
            kind_of: Callable[..., object] = type(x)
            return kind_of(*made) if hasattr(x, "_fields") else tuple(made)
        if isinstance(x, dict):
            return {k: self.convert(v, str(k)) for k, v in x.items()}
        if isinstance(x, NKIObject) or (is_dataclass(x) and not isinstance(x, type)):
            return self._object(x)
        return x

    def _object(self, x: object) -> object:
        values = getattr(x, "__dict__", None)
        if not values:
            return x
        made = {k: self.convert(v, k) for k, v in values.items()}
        if all(made[k] is values[k] for k in values):
            return x
        out = shallow.copy(x)
        for k, v in made.items():
            object.__setattr__(out, k, v)
        return out

    def storages(self) -> dict[tuple[int, int], list[mem.Storage]]:
        """By where arrays lie in the host's memory, the tensors that share bytes with them."""
        found: dict[tuple[int, int], list[mem.Storage]] = {}
        for array in self.keep:
            storage = self.by_id[id(array)]
            found.setdefault(_place(array), []).extend([storage] if storage.owner is array else [])
        return found

    def leave(self, places: Container[tuple[int, int]]) -> None:
        """Write nothing back to the arrays that lie there."""
        self.back = [(array, storage) for array, storage in self.back if _place(array) not in places]

    def finish(self) -> None:
        """Bring what instructions wrote to tensors back to the arrays that they stand for."""
        for array, storage in self.back:
            if storage.is_made:
                array[...] = storage.bytes.view(array.dtype).reshape(array.shape)


RETURNED = (MemoryRegion.shared_hbm,)
"""Memories of the tensors that a kernel returns, beside its own arguments, as AWS's documentation has it."""


def _check_returned(s: mem.Storage, core: Core, regions: Sequence[MemoryRegion]) -> None:
    """Whether a kernel may return this. The host cannot read SBUF and PSUM: an error in strict runs, otherwise a
    warning, since AWS's simulator takes them. Another HBM than the documented one is a warning: published kernels
    return `nl.hbm` and run on hardware."""
    if s.region in regions or not s.site[0]:  # an argument was allocated at no place of the kernel
        return
    what, at = f"the kernel returns {s.describe()}: its buffer is nl.{s.region.value}", f"{s.site[0]}:{s.site[1]}"
    if s.space == "H":
        asked = " or ".join(f"nl.{r.value}" for r in regions)
        core.warn(
            f"returned {s.number}",
            f"{what}, AWS's documentation asks for {asked}; make it with buffer=nl.shared_hbm",
            at=at,
        )
        return
    fix = "copy it to a tensor made with buffer=nl.shared_hbm, and return that"
    if core.strict:
        raise machine.NkiValidationError(
            what, where=at, allowed="a tensor in HBM (nl.shared_hbm), or an argument of the kernel", fix=fix
        )
    core.warn(f"returned tile {s.number}", f"{what}, which AWS's compiler refuses; {fix}", at=at)


def _check_made(s: mem.Storage) -> None:
    """Raise for an output that no instruction made. An argument may come back as it went in."""
    if s.is_made or s.is_fed:
        return
    filled = s.state != mem.NONE
    raise machine.NkiValidationError(
        f"the kernel returns {s.describe()}, which no instruction wrote"
        + (": it was filled before the kernel starts" if filled else ""),
        where=f"{s.site[0]}:{s.site[1]}" if s.site[0] else None,
        fix="write to it with nisa.dma_copy, or with nl.store",
    )


def _outputs(
    x: object,
    framework: str,
    cores: Sequence[Core],
    regions: Sequence[MemoryRegion] = RETURNED,
    given: set[int] | None = None,
) -> object:
    """What a kernel returned, with tensors as arrays. regions: where these may lie; given: storages whose memory an
    array has already."""
    given = set() if given is None else given
    if isinstance(x, Tile):
        _check_returned(storage_of(x), cores[0], regions)
        if not cores[0].values:
            return np.broadcast_to(np.zeros((), x.dtype.dtype).view(x.dtype.dtype), x.shape)
        _check_made(storage_of(x))
        tile = static_view(x)
        assert tile is not None
        if storage_of(tile).state != mem.ALL and cores[0].values:
            before = machine.set_current(cores[0])
            try:
                storage_of(tile).check(tile, returned=True)
            # an error here must not leave a core running: the next launch would be taken for a call from a kernel
            finally:
                machine.set_current(before)
        s, found = storage_of(tile), tile_elements(tile)
        # a tensor of the kernel's own is nobody's any more, so its memory is given away
        is_own = (
            s.owner is None and s.address is None and found.nbytes == s.parts * s.row_B and found.flags.c_contiguous
        )
        if not is_own or s.number in given:
            found = found.copy()
        given.add(s.number)
        return frameworks.to_framework(found, framework)
    if isinstance(x, DeviceNumber):
        return x.value
    if isinstance(x, tuple):
        return tuple(_outputs(v, framework, cores, regions, given) for v in x)
    if isinstance(x, list):
        return [_outputs(v, framework, cores, regions, given) for v in x]
    if isinstance(x, dict):
        return {k: _outputs(v, framework, cores, regions, given) for k, v in x.items()}
    return x


def _grid(given: object) -> tuple[int, ...]:
    if given is None:
        return ()
    items = given if isinstance(given, tuple | list) else (given,)
    sizes: list[int] = []
    for g in items:
        size: Any = math.prod(int(v) for v in g) if isinstance(g, tuple | list) else getattr(g, "size", g)
        sizes.append(int(size))
    return tuple(sizes)


def _index(i: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(v) for v in np.unravel_index(i, grid)) if grid else ()


_LAST: ContextVar[Result | None] = ContextVar("mowich_last_run", default=None)
last_run: Result | None = None
"""The latest run of this process, of whichever thread; `last_latency_us` looks at the thread's own.

It belongs to the process, as `launches` does, and to no run or context: a script that calls its kernels directly has no
object of ours in hand, and a thread that it starts begins with an empty context. In a context variable its launches
would lose the target of the command line, and would not be found to be profiled.
"""


def _finished(result: Result | None) -> None:
    """Note the run that ended last, of this thread and of the process."""
    global last_run
    last_run = result
    _LAST.set(result)


@dataclass(slots=True)
class Launches:
    """What the user said of every launch of a script, in all of its threads: a target before the kernels' own, the
    cores of launches without a grid, the version of NKI. The command line sets it around a script, as it sets
    `sys.argv`."""

    target: str | None = None
    lnc: int | None = None
    version: tuple[int, int] | None = None


launches = Launches()


def _stochastic_rounding(rank: int, program: int) -> np.random.Generator | None:
    """The generator of a core's rounding, where the environment asks for stochastic rounding as the Neuron runtime has
    it; None for rounding to nearest, ties to even."""
    if os.environ.get("NEURON_RT_STOCHASTIC_ROUNDING_EN", "0") != "1":
        return None
    seed = os.environ.get("NEURON_RT_STOCHASTIC_ROUNDING_SEED", "0")
    if not seed.isdecimal():
        raise UserError("NEURON_RT_STOCHASTIC_ROUNDING_SEED", given=seed, allowed="a whole number from 0 on")
    return np.random.default_rng([int(seed), rank, program])


def run_function(
    func: Callable[..., Any],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    generation: int,
    grid: object = None,
    values: bool = True,
    strict: bool = False,
    record: bool = True,
    results: Callable[..., object] | None = None,
    check: bool = True,
    returned: Sequence[MemoryRegion] = RETURNED,
    repeat_loops: bool | None = None,
    observed: dict[tuple[str, str], machine.Observed] | None = None,
    order: Order = IN_TURN,
    alike: Alike | None = None,
    finite: bool = False,
    is_plain: bool = False,
    watcher: Watcher | None = None,
    traced: bool = False,
    options: Mapping[str, object] | None = None,
) -> Result:
    """Run a kernel function once on one logical core. returned: memories of the tensors that it may return;
    observed: where to put what a check of kernels looks for; order: of the programs; repeat_loops: whether a run
    without values may write iterations of regular loops without running them (None: as the environment says,
    `loops.VARIABLE`); alike: ranks that this one stands for, without values; finite: infinities and NaN in an output,
    from arguments without, are an error; watcher: who looks at each instruction; traced: by the rules of NKI 0.7
    (`nki.interface`); options: of the kernel's `nki.jit`; is_plain: it is no kernel by its decorator, and may be a
    function that launches one."""
    sizes = _grid(grid)
    programs = math.prod(sizes) if sizes else 1
    may_repeat = not values and record and (loops.are_repeated() if repeat_loops is None else repeat_loops)
    while True:
        shared: dict[object, object] = {}
        cores = [
            Core(generation, program=i, programs=programs, values=values, strict=strict, record=record, shared=shared)
            for i in range(programs)
        ]
        for i, c in enumerate(cores):
            c.scratch["base"] = 0
            c.grid = sizes
            c.grid_index = _index(i, sizes)
            c.loops = loops.LoopsOfRun() if may_repeat else None
            c.observed = observed
            c.alike = alike
            c.wants_finite = finite
            c.watcher = watcher
            c.is_traced = traced
            c.scratch |= {"plain": is_plain, "stdout": sys.stdout, "options": options or {}}
            c.rounding = _stochastic_rounding(0, i)
        try:
            # a run without values makes many small objects, few of which stay: looking for cycles takes a tenth of it
            with contextlib.nullcontext() if values else no_collection():
                return _run(func, args, kwargs, cores, results, check, returned, order)
        except loops.ChangedGrowth:  # that loop is noted, and is recorded anew each time
            continue
        except (Exception, Unlike):
            # what goes wrong is told by a run that traces each iteration
            if not any(c.has_repeated for c in cores):
                raise
            may_repeat = False


def _run(
    func: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    cores: list[Core],
    results: Callable[..., object] | None,
    check: bool,
    returned: Sequence[MemoryRegion],
    order: Order,
) -> Result:
    """Run a kernel function on these cores."""
    arguments = _Arguments(cores)
    runs = func if cores[0].loops is None else loops.with_range_loops(func)
    bound = _bind(runs, args, kwargs, arguments)
    finish = results or (lambda value, core: value)

    def program(core: Core, call: Callable[[], object]) -> object:
        value = call()
        _check_plain(value, func)
        _check_triggered(core)
        if core.unfinished:
            raise Unlike
        try:
            placement.check_capacity(core)
        except machine.NkiValidationError as error:
            if check:
                raise
            core.warnings.append(f"{error}; timed with spills")
        if check and core.looks:
            placement.check_overlap(core)
        return finish(value, core)

    calls = [bound() for _ in cores]
    if cores[0].values:
        _own_memory([arguments])
    if len(cores) == 1:
        before = machine.set_current(cores[0])
        try:
            with np.errstate(all="ignore"):
                value = program(cores[0], calls[0])
        finally:
            machine.set_current(before)
    else:
        group = Group(order)
        for c in cores:
            c.group = group
        value = group.run([(c, functools.partial(program, c, call)) for c, call in zip(cores, calls, strict=True)])[0]
    out = _outputs(value, arguments.framework, cores, returned)
    if not any(c.clock for c in cores) and any(isinstance(t, Tile) for t in _leaves(value)):
        raise _nothing_ran(func)
    if len(cores) == 1 and cores[0].values and arguments.by_id:
        for t in _leaves(value):
            if isinstance(t, Tile):
                _look_for_constants(storage_of(t), cores[0])
    if cores[0].watcher is not None:
        cores[0].watcher.ended(cores, _leaves(value))
    if cores[0].values and not are_finite(_leaves(out)):

        def again(more: list[Core]) -> None:
            _run(func, args, kwargs, more, results, False, returned, order)

        _tell_origin(arguments, cores, again)
    arguments.finish()
    _release(cores)
    result = _result(func, out, cores)
    _finished(result)
    return result


def _look_for_constants(s: mem.Storage, core: Core) -> None:
    """Warn of an output that rests on no argument of the kernel: an answer that the host knew before."""
    if s.is_made and not s.is_fed:
        core.warn(
            f"constant {s.number}",
            f"the kernel returns {s.describe()}, which rests on none of its arguments: it is made of constants",
            at=f"{s.site[0]}:{s.site[1]}" if s.site[0] else None,
        )


def _nothing_ran(func: Callable[..., object]) -> Exception:
    """The error for a kernel that returns tensors and has no instruction."""
    return machine.NkiValidationError(
        "the kernel returns tensors, and no instruction ran: nothing made them",
        where=_first_line(func),
        fix="write them with instructions, as nisa.dma_copy(dst, src)",
    )


def _first_line(func: Callable[..., object]) -> str | None:
    """file:line of a function."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


NOT_FINITE = "an output has infinities or NaN, and no argument has"
"""How the line begins that says where these come from."""


def _is_of(kind: str, key: object) -> bool:
    """Whether what was warned of is of a kind."""
    return isinstance(key, tuple) and key[0] == kind


def _tell_origin(arguments: _Arguments, cores: Sequence[Core], again: Callable[[list[Core]], object]) -> None:
    """Say where the infinities and NaN of the outputs come from, where the arguments have none: the kernel runs once
    more, from the same arguments, and what it prints then is left out."""
    first = cores[0]
    if not are_finite(arguments.keep) or any(_is_of("uninitialised", key) for c in cores for key in c.warned):
        return
    shared: dict[object, object] = {}
    origins, unseen = Origins(), io.StringIO()
    more = []
    for c in cores:
        made = Core(c.generation, program=c.program, programs=c.programs, record=c.trace is not None, shared=shared)
        made.scratch |= {"base": 0, "stdout": unseen}
        made.grid, made.grid_index, made.watcher, made.is_traced = c.grid, c.grid_index, origins, c.is_traced
        made.rounding = _stochastic_rounding(0, c.program)
        more.append(made)
    origin, before = None, machine.set_current(None)
    try:
        with contextlib.redirect_stdout(unseen):
            again(more)
    except Traced as traced:
        origin = traced.origin
    except Exception:  # a kernel that does not run twice alike
        origin = None
    finally:
        machine.set_current(before)
    text = NOT_FINITE
    where = origin.where if origin is not None and origin.where else machine.where()
    if origin is not None:
        text += f": {origin.text}"
    if first.wants_finite:
        raise machine.NkiValidationError(text, where=where)
    first.warn("not finite", text, at=where)


def _check_plain(value: object, func: Callable[..., object]) -> None:
    """Refuse a kernel whose call runs none of its lines: a generator, or a coroutine."""
    kinds = ((inspect.isgenerator, "yield"), (inspect.iscoroutine, "async"), (inspect.isasyncgen, "async"))
    word = next((word for is_kind, word in kinds if is_kind(value)), None)
    if word is None:
        return
    if inspect.iscoroutine(value):
        value.close()  # else Python warns that nobody waited for it
    raise machine.NkiValidationError(
        f"a kernel is a plain function: this one has '{word}', and none of its lines ran",
        where=_first_line(func),
        fix="return the tensors",
    )


def _leaves(value: object) -> list[object]:
    """What containers hold, those within others as well, in order; None is left out."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, tuple | list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [] if value is None else [value]


def _result(func: Callable[..., object], value: object, cores: list[Core]) -> Result:
    """The result of one logical core. value: what the kernel returned, as arrays."""
    outputs = _leaves(value)
    name = str(getattr(func, "__name__", type(func).__name__))
    return Result(
        kernel=name, outputs=outputs, value=value, cores=cores, warnings=[w for c in cores for w in c.warnings]
    )


def _release(cores: Sequence[Core]) -> None:
    """Let go of the memories of a run that is over; traces, records and warnings stay."""
    for c in cores:
        c.shared.clear()
        c.scratch.clear()
        c.arenas.clear()
        c.fresh.clear()
        c.group = c.rank_group = None
        c.loops = None  # it refers to the core
        c.blocks.clear()


def _bind(
    func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object], arguments: _Arguments
) -> Callable[[], Callable[[], object]]:
    """A maker of calls, one per program, each with tensors of its own over the same memory."""
    names: list[str] = []
    with contextlib.suppress(TypeError, ValueError):
        names = list(inspect.signature(func).parameters)
    named = [(names[i] if i < len(names) else f"arg{i}", a) for i, a in enumerate(args)]

    def make() -> Callable[[], object]:
        a = [arguments.convert(v, n) for n, v in named]
        k = {n: arguments.convert(v, n) for n, v in kwargs.items()}
        return functools.partial(_called, func, a, k)

    return make


def _called(func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    with words.explained_call():
        return func(*args, **kwargs)


KERNEL_CALL = _called.__code__
"""The frame of ours that every program of a launch begins in: what is above it in a stack is the kernel's."""


MAPPED_FROM_B = 1 << 20
"""Bytes from which copies of an array share memory until they are written to: below, a copy costs less than a file."""


def _copies(data: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """Copies of bytes. Several large ones share memory until something is written to them."""
    if count == 1 or data.size < MAPPED_FROM_B:
        return [data.copy() for _ in range(count)]
    with (
        os.fdopen(os.memfd_create("ranks"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile() as file
    ):
        file.write(data.data)
        file.flush()
        maps = [mmap.mmap(file.fileno(), data.size, access=mmap.ACCESS_COPY) for _ in range(count)]
    return [np.frombuffer(made, np.uint8) for made in maps]


def _own_memory(launches: Sequence[_Arguments]) -> None:
    """A device has memory of its own: what a kernel does to the caller's arrays on the host does not reach it. An
    array that several ranks were given is copied for each of them, and the caller's stays as it is."""
    ranks: dict[tuple[int, int], list[list[mem.Storage]]] = {}
    for arguments in launches:
        for place, storages in arguments.storages().items():
            ranks.setdefault(place, []).append(storages)
    for given in ranks.values():
        using = [storages for storages in given if storages]
        for storages, own in zip(using, _copies(using[0][0].bytes, len(using)) if using else [], strict=True):
            for storage in storages:
                storage.bytes = own
    shared = {place for place, given in ranks.items() if len(given) > 1}
    for arguments in launches:
        arguments.leave(shared)


def run_ranks(
    func: Callable[..., object],
    inputs: Sequence[object],
    *,
    generation: int,
    lnc: int = 1,
    values: bool = True,
    strict: bool = False,
    record: bool = True,
    results: Callable[..., object] | None = None,
    returned: Sequence[MemoryRegion] = RETURNED,
    traced: bool = False,
    switched: bool = False,
) -> list[Result]:
    """Run a kernel on several ranks that exchange by collectives. inputs: for each rank a dict, or a sequence of
    arguments; switched: a NeuronSwitch joins their chips. A kernel's writes to its arguments are seen in the caller's
    arrays, but for an array that several ranks were given: each has a copy of it."""
    group = Group()
    every: list[tuple[Core, Callable[[], object]]] = []
    launches: list[tuple[list[Core], _Arguments]] = []
    for rank, given in enumerate(inputs):
        shared: dict[object, object] = {}
        cores = [
            Core(
                generation,
                program=i,
                programs=lnc,
                rank=rank,
                ranks=len(inputs),
                values=values,
                strict=strict,
                record=record,
                shared=shared,
            )
            for i in range(lnc)
        ]
        for c in cores:
            c.is_traced = traced
        arguments = _Arguments(cores)
        if not isinstance(given, Mapping | Iterable):
            raise UserError(f"arguments of rank {rank}", given=type(given).__name__, allowed="a dict, or a sequence")
        a, k = ((), given) if isinstance(given, Mapping) else (tuple(given), {})
        bound = _bind(func, a, k, arguments)
        for c in cores:
            c.group = c.rank_group = group
            c.scratch |= {"base": rank * lnc, "stdout": sys.stdout, "switched": switched}
            c.rounding = _stochastic_rounding(rank, c.program)
            every.append((c, _finished_by(results, c, bound())))
        launches.append((cores, arguments))
    if values:
        _own_memory([arguments for _, arguments in launches])
    found = group.run(every)
    out = []
    for rank, (cores, arguments) in enumerate(launches):
        arguments.finish()
        out.append(_result(func, _outputs(found[rank * lnc], arguments.framework, cores, returned), cores))
    everyone = Peers([c for r in out for c in r.cores])
    for r in out:
        r.peers = everyone
    _finished(out[0] if out else None)
    return out


def _finished_by(results: Callable[..., object] | None, core: Core, call: Callable[[], object]) -> Callable[[], object]:
    """A call whose value is what `results` makes of it."""

    def finished() -> object:
        value = call()
        _check_triggered(core)
        return value if results is None else results(value, core)

    return finished


def _check_triggered(core: Core) -> None:
    """Raise for a collective that was prepared and never triggered."""
    waiting = core.scratch.get("prepared")
    if waiting is not None:
        raise machine.NkiValidationError(
            f"{waiting.kind}_prepare without its trigger",
            where=waiting.where,
            fix=f"{waiting.kind}_trigger moves the data, once after each prepare",
        )


class _LaunchesGrid(BaseException):
    """A plain function that was run as a kernel launches one on a grid: it belongs on the host."""


@dataclass(slots=True, kw_only=True)
class _HostLaunch:
    """A plain function on the host that launches a kernel. how: what its launch takes besides; given: the arrays of the
    function; results: of its launches."""

    how: dict[str, Any]
    lnc: int | None
    given: list[object]
    results: list[Result] = field(default_factory=list)

    def check(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Raise for an array that the function made on the host: an answer may be computed there."""
        for x in _leaves([*args, *kwargs.values()]):
            if isinstance(x, np.ndarray) and not any(
                x is g or (isinstance(g, np.ndarray) and np.may_share_memory(x, g)) for g in self.given
            ):
                raise UserError(
                    "the function gives its kernel an array that it made itself",
                    given=f"{list(x.shape)} {x.dtype}",
                    fix="pass that array as an argument, or run the kernel with its grid: run_kernel(kernel[2], ...)",
                )


_HOST: ContextVar[_HostLaunch | None] = ContextVar("mowich_host_launch", default=None)


def kernel_launched(
    kernel: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    lnc: int | None = None,
    **how: Any,
) -> Result:
    """Launch a kernel, or a plain function that is one or that launches one on a grid, with the details of
    `run_function`. Raises UserError where such a function does more than launch one kernel."""
    if isinstance(kernel, Kernel):
        return kernel.launch(args, kwargs, lnc=lnc, **how)
    try:
        return Kernel(kernel).launch(args, kwargs, lnc=lnc, is_plain=True, **how)
    except _LaunchesGrid:
        host = _HostLaunch(how=how, lnc=lnc, given=_leaves([*args, *kwargs.values()]))
    before = _HOST.set(host)
    try:
        value = kernel(*args, **kwargs)
    finally:
        _HOST.reset(before)
    name = getattr(kernel, "__name__", "the function")
    if len(host.results) != 1:
        raise UserError(
            f"{name} launches {len(host.results)} kernels, and one run is of one",
            where=_first_line(kernel),
            fix="run each kernel by itself: run_kernel(kernel[2], ...)",
        )
    result = host.results[0]
    if any(not any(x is made for made in result.outputs) for x in _leaves(value)):
        raise UserError(
            f"{name} returns what its kernel did not",
            where=_first_line(kernel),
            fix="return what the kernel returns; the rest of the work is an instruction's, or the caller's",
        )
    result.kernel, result.value, result.outputs = str(name), value, _leaves(value)
    return result


LOGICAL_CORES = "NEURON_LOGICAL_NC_CONFIG"
"""Environment variable: cores of the logical core of a kernel without brackets."""
_LNC_FLAG = re.compile(r"--(?:lnc|logical-nc-config)[= ]([12])\b")


class Kernel:
    """A function under `nki.jit`. `kernel[2](...)` runs it on two cores; inside another kernel it is called as plain
    Python."""

    returned: Sequence[MemoryRegion] = RETURNED
    older = False

    def __init__(
        self,
        func: Callable[..., object],
        *,
        platform_target: str | None = None,
        grid: object = None,
        options: Mapping[str, Any] | None = None,
        results: Callable[..., object] | None = None,
    ) -> None:
        self.func = func
        self.platform_target = platform_target
        self.grid = grid
        self.options = dict(options or {})
        self.results = results
        functools.update_wrapper(self, func, updated=())

    def __getitem__(self, grid: object) -> Kernel:
        return type(self)(
            self.func,
            platform_target=self.platform_target,
            grid=grid,
            options=self.options,
            results=self.results,
        )

    def with_schedule(self, schedule: Sequence[tuple[str, str | Sequence[str]]]) -> Kernel:
        """This kernel with edges between named instructions, (later, earlier or a list of earlier ones), for the
        scheduler."""
        edges = []
        for later, earlier in schedule:
            for name in [earlier] if isinstance(earlier, str) else earlier:
                edges.append((str(later), str(name)))
        return Kernel(
            self.func,
            platform_target=self.platform_target,
            grid=self.grid,
            options={**self.options, "schedule": edges},
            results=self.results,
        )

    @property
    def static_dma(self) -> bool:
        """Compiled with --disable-dge (`additional_compile_opt`): the descriptors of DMAs are made before the
        launch."""
        given = self.options.get("additional_compile_opt") or ""
        return "--disable-dge" in (given.split() if isinstance(given, str) else [str(word) for word in given])

    def is_traced(self, version: tuple[int, int] | None = None) -> bool:
        """Whether it runs by the rules of NKI 0.7. version: that the user named (None: none)."""
        return not self.older and interface.is_traced(self.func, version or launches.version)

    def generation(self) -> int:
        """Generation that this kernel runs on when nobody says otherwise."""
        if launches.target:
            return generation_of(launches.target)
        if self.platform_target:
            return generation_of(self.platform_target)
        return default_generation()

    def __call__(self, *args: object, **kwargs: object) -> Any:
        outside = frameworks.outside_graph(self._call)
        return self._call(args, kwargs) if outside is None else outside(args, kwargs)

    def _call(self, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        core = machine.running()
        if core is not None:
            self._check_grid_inside(core)
            self._check_config_inside(core)
            return self.func(*args, **kwargs)
        return frameworks.called(self._value, args, kwargs)

    def _value(self, args: Sequence[object], kwargs: Mapping[str, object], *, values: bool) -> object:
        # a framework asks for shapes alone where it compiles a graph
        return self.launch(args, kwargs, values=values, in_graph=not values).value

    def _check_grid_inside(self, core: Core) -> None:
        """A kernel that another one calls runs on the programs of that one. Raises where it asks for others."""
        programs = math.prod(_grid(self.grid)) if self.grid is not None else 1
        if programs in (1, core.programs):
            return
        if core.scratch.get("plain") and not core.clock:
            raise _LaunchesGrid
        name = getattr(self.func, "__name__", "kernel")
        raise machine.fail(
            f"{name}[{programs}] is called inside a kernel, which runs on {core.programs} program"
            + ("s" if core.programs > 1 else ""),
            fix=f"give the grid to the outer kernel, outer[{programs}](...), or call {name} outside a kernel",
        )

    def _check_config_inside(self, core: Core) -> None:
        """A kernel that another one calls is compiled as that one is. Raises where its own configuration is another."""
        own, outer = self.options.get("compile_config"), core.scratch.get("options", {})
        if own is None or own == outer.get("compile_config"):
            return
        name = getattr(self.func, "__name__", "kernel")
        text = f"{name} is called inside a kernel with another compile_config"
        if getattr(outer.get("specialization_config"), "allow_nested_config_override", False):
            core.warn("nested configuration", f"{text}, which counts")
            return
        raise machine.fail(
            text,
            given=own,
            allowed=str(outer.get("compile_config")),
            fix="the same for both, or SpecializationConfig(allow_nested_config_override=True) on the outer one",
        )

    def launch(self, args: Sequence[object], kwargs: Mapping[str, object], **how: Any) -> Result:
        """Run on the host's arrays, with the details of `run_function`; lnc: programs where no grid is given."""
        host, lnc = _HOST.get(), how.pop("lnc", None)
        if host is not None:
            host.check(args, kwargs)
            how |= host.how
            lnc = lnc or host.lnc
        how.setdefault("generation", self.generation())
        how["options"] = self.options
        how["traced"] = self.is_traced(how.pop("version", None))
        is_checked = how.pop("in_graph", False) and how["traced"] and how["generation"] >= 3
        grid = self._cores(lnc, 2 if is_checked else None)
        result = run_function(self.func, args, kwargs, grid=grid, results=self.results, returned=self.returned, **how)
        result.static_dma, result.older = self.static_dma, self.older
        if host is not None:
            host.results.append(result)
        return result

    def _cores(self, lnc: int | None, of_graph: int | None) -> object:
        """The grid of a launch: brackets, else NEURON_LOGICAL_NC_CONFIG, else the degree of the compiler. Raises where
        the kernel and the compiler have different degrees. lnc: what the caller says of the compiler; of_graph: what it
        takes by default for a graph of NKI 0.7 around the kernel, which takes 1."""
        compiled = lnc if lnc is not None and lnc > 1 else launches.lnc or self._flag_lnc() or of_graph
        stated, said = self.grid, "brackets"
        if stated is None and not self.older and (text := os.environ.get(LOGICAL_CORES)):
            if text not in ("1", "2"):
                raise UserError(LOGICAL_CORES, given=text, allowed="1 or 2")
            stated, said = int(text), LOGICAL_CORES
        if stated is None and of_graph is not None:
            stated, said = 1, "the default"
        if stated is None:
            return compiled if compiled is not None and compiled > 1 else None
        degree, name = math.prod(_grid(stated)), getattr(self.func, "__name__", "kernel")
        if compiled is not None and not self.older and degree in (1, 2) and degree != compiled:
            raise machine.NkiValidationError(
                f"NCC_EVRF066: the kernel {name} has {degree} cores ({said}), its compiler {compiled} (--lnc)",
                where=_first_line(self.func),
                fix=f"{name}[{compiled}](...), or --lnc {degree}",
            )
        return self.grid if self.grid is not None else degree if degree > 1 else None

    def _flag_lnc(self) -> int | None:
        """The degree among the flags of the compiler."""
        given = self.options.get("additional_compile_opt") or ""
        text = given if isinstance(given, str) else " ".join(map(str, given))
        found = _LNC_FLAG.findall(f"{os.environ.get('NEURON_CC_FLAGS', '')} {text}")
        return int(found[-1]) if found else None

    def __get__(self, instance: object, owner: object = None) -> Callable[..., Any]:
        return self if instance is None else functools.partial(self.__call__, instance)


def jit(fn: Any = None, **kwargs: Any) -> Any:
    """Decorator of kernels: bare, or with keywords; `platform_target` names the generation."""
    if fn is None:
        return lambda f: jit(f, **kwargs)
    if isinstance(fn, Kernel):
        return fn
    return Kernel(fn, platform_target=kwargs.get("platform_target"), options=kwargs)


def simulate(kernel: Callable[..., object]) -> Callable[..., Any]:
    """A callable that runs the kernel on the CPU and returns arrays like those passed in."""
    k = kernel if isinstance(kernel, Kernel) else Kernel(kernel)

    def call(*args: object, **kwargs: object) -> object:
        return k.launch(args, kwargs).value

    return functools.wraps(k.func)(call) if hasattr(k.func, "__name__") else call


class _CpuSimulator:
    """`nki.cpu_simulate(kernel)[lnc](**inputs)`."""

    def __init__(self, kernel: Callable[..., object]) -> None:
        self._kernel = kernel if isinstance(kernel, Kernel) else Kernel(kernel)

    def __getitem__(self, grid: object) -> Callable[..., Any]:
        return simulate(self._kernel[grid] if grid != 1 else self._kernel)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return simulate(self._kernel)(*args, **kwargs)


def cpu_simulate(kernel: Callable[..., object]) -> _CpuSimulator:
    """The older spelling of `simulate`."""
    return _CpuSimulator(kernel)


def simulate_ranks(kernel: Callable[..., object], inputs: Sequence[object], lnc: int = 1) -> list[object]:
    """Outputs of each rank of a kernel run with collectives; inputs: arguments of each rank, as a dict or a
    sequence. An array that several ranks are given is copied for each of them."""
    k = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    found = run_ranks(
        k.func,
        inputs,
        generation=k.generation(),
        lnc=lnc,
        results=k.results,
        returned=k.returned,
        traced=k.is_traced(),
    )
    return [r.value for r in found]


def run_kernel(
    kernel: Callable[..., object],
    *arrays: object,
    target: str | None = None,
    lnc: int = 1,
    values: bool = True,
    ranks: int = 1,
    strict: bool | None = None,
    timed: bool = True,
    spill: bool | None = None,
    options: ClockOptions | None = None,
    repeat_loops: bool | None = None,
    version: tuple[int, int] | None = None,
    **kwargs: object,
) -> Result | list[Result]:
    """Run a kernel and keep what happened: outputs, instruction trace, warnings, and with `timed` when each instruction
    ran.

    target: "trn1", "trn2" or "trn3" (default: the kernel's own, else trn3); lnc: cores of the logical core; ranks: the
    same arguments on that many ranks, which gives a list; strict: reads of uninitialised bytes are errors, with True
    also infinities and NaN in the outputs from arguments without, with False neither is; values=False runs without
    arithmetic;
    spill: live tiles that do not fit SBUF are stored and reloaded as a compiler would, with a warning that counts the
    bytes, instead of an error (None: where values=False); options: how the clock schedules
    (`neuroncore.clock.records.ClockOptions`); repeat_loops=False traces each iteration of each loop also where
    values=False, where a regular loop is otherwise traced a few times and repeated (None: unless the environment has
    MOWICH_TRACE_LOOPS=full). The trace is the same; version: of NKI, as (0, 7) (None: 0.7 where the kernel uses a name
    that came with it).
    """
    check = not (spill if spill is not None else not values)
    k = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    generation = generation_of(target) if target else k.generation()
    if ranks > 1:
        inputs = [_bound_arguments(k.func, arrays, kwargs)] * ranks
        results = run_ranks(
            k.func,
            inputs,
            generation=generation,
            lnc=lnc,
            values=values,
            strict=strict is not False,
            results=k.results,
            returned=k.returned,
            traced=k.is_traced(version),
        )
        for r in results:
            r.timed, r.options, r.static_dma, r.older = timed, options or ClockOptions(), k.static_dma, k.older
        return results
    result = kernel_launched(
        kernel,
        arrays,
        kwargs,
        lnc=lnc,
        **({"generation": generation} if target else {}),
        values=values,
        strict=strict is not False,
        finite=strict is True,
        record=True,
        check=check,
        repeat_loops=repeat_loops,
        version=version,
    )
    result.timed, result.options = timed, options or ClockOptions()
    return result


def _bound_arguments(
    func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    return dict(inspect.signature(func).bind(*args, **kwargs).arguments)


def last_latency_us() -> float | None:
    """Latency of the last kernel of this thread in microseconds, as a profiler reports it (`Result.device_s`); None
    where it had no instruction, and before one was timed (`run_kernel`, or any launch of a recorded trace)."""
    last = _LAST.get()
    if last is None or not last.instructions or any(c.trace is None for c in last.cores):
        return None
    last.timed = True
    return last.device_s * 1e6
