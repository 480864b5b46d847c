"""Launching kernels: arguments in, a core per program, the kernel's Python run eagerly, results out.

`kernel[2]` runs two programs with one HBM; ranks run side by side with `simulate_ranks`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mowich.errors import UserError
from mowich.neuroncore import core as machine
from mowich.neuroncore import memory as mem
from mowich.neuroncore import placement
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.clock.program import no_collection
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.communicator import IN_TURN, Group, Order
from mowich.neuroncore.core import Alike, Core, Watcher
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.nonfinite import Origins, TracedOrigin, are_finite
from mowich.neuroncore.repeat import Unlike
from mowich.neuroncore.targets import generation_of
from mowich.neuroncore.views import Tile
from mowich.nki import control, frameworks, interface, loops, words
from mowich.nki.arguments import RETURNED, HostArrays, outputs_of, own_memory, values_in
from mowich.nki.result import Peers, Result
from mowich.nki.sizes import default_generation


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


def _cores(generation: int, programs: int, rank: int = 0, **given: Any) -> list[Core]:
    """The cores of a launch, or of one rank of it: they share one HBM. given: what else `Core` takes."""
    shared: dict[object, object] = {}
    cores = [Core(generation, program=i, programs=programs, rank=rank, shared=shared, **given) for i in range(programs)]
    for c in cores:
        c.rounding = _stochastic_rounding(rank, c.program)
        c.scratch |= {"base": rank * programs, "stdout": sys.stdout}
    return cores


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
        cores = _cores(generation, programs, values=values, strict=strict, record=record, is_traced=traced)
        for i, c in enumerate(cores):
            c.grid, c.grid_index = sizes, _index(i, sizes)
            c.loops = loops.loops_of_run() if may_repeat else None
            c.observed, c.alike, c.wants_finite, c.watcher = observed, alike, finite, watcher
            c.scratch |= {"plain": is_plain, "options": options or {}}
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
    arguments = HostArrays(cores)
    runs = func if cores[0].loops is None else control.with_range_loops(func)
    bound = _bind(runs, args, kwargs, arguments)
    finish = results or (lambda value, core: value)

    def program(core: Core, call: Callable[[], object]) -> object:
        value = call()
        core.compute_waiting()
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
        own_memory([arguments])
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
    out = outputs_of(value, arguments.framework, cores, returned)
    if not any(c.clock for c in cores) and any(isinstance(t, Tile) for t in values_in(value)):
        raise machine.NkiValidationError(
            "the kernel returns tensors, and no instruction ran: nothing made them",
            where=_first_line(func),
            fix="write them with instructions, as nisa.dma_copy(dst, src)",
        )
    if len(cores) == 1 and cores[0].values and arguments.by_id:
        for t in values_in(value):
            if isinstance(t, Tile):
                _look_for_constants(storage_of(t), cores[0])
    if cores[0].watcher is not None:
        cores[0].watcher.ended(cores, values_in(value))
    if cores[0].values and not are_finite(values_in(out)):

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
            f"the kernel returns {s.describe()}, {FROM_CONSTANTS}",
            at=f"{s.site[0]}:{s.site[1]}" if s.site[0] else None,
        )


def _first_line(func: Callable[..., object]) -> str | None:
    """file:line of a function."""
    code = getattr(inspect.unwrap(func), "__code__", None)
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


NOT_FINITE = "an output has infinities or NaN, and no argument has"
"""How the line begins that says where these come from."""
FROM_CONSTANTS = "which rests on none of its arguments: it is made of constants"
"""How the line ends that says that an answer was known before."""


def _tell_origin(arguments: HostArrays, cores: Sequence[Core], again: Callable[[list[Core]], object]) -> None:
    """Say where the infinities and NaN of the outputs come from, where the arguments have none: the kernel runs once
    more, from the same arguments, and what it prints then is left out."""
    first = cores[0]
    kinds = {key[0] for c in cores for key in c.warned if isinstance(key, tuple)}
    if not are_finite(arguments.keep) or "uninitialised" in kinds:
        return
    unseen = io.StringIO()
    more = _cores(
        first.generation, len(cores), record=first.trace is not None, is_traced=first.is_traced, watcher=Origins()
    )
    for c, other in zip(more, cores, strict=True):
        c.grid, c.grid_index = other.grid, other.grid_index
        c.scratch["stdout"] = unseen
    origin, before = None, machine.set_current(None)
    try:
        with contextlib.redirect_stdout(unseen):
            again(more)
    except TracedOrigin as traced:
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


def _result(func: Callable[..., object], value: object, cores: list[Core]) -> Result:
    """The result of one logical core. value: what the kernel returned, as arrays."""
    outputs = values_in(value)
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
    func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object], arguments: HostArrays
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
    launches: list[tuple[list[Core], HostArrays]] = []
    for rank, given in enumerate(inputs):
        cores = _cores(
            generation, lnc, rank, ranks=len(inputs), values=values, strict=strict, record=record, is_traced=traced
        )
        arguments = HostArrays(cores)
        if not isinstance(given, Mapping | Iterable):
            raise UserError(f"arguments of rank {rank}", given=type(given).__name__, allowed="a dict, or a sequence")
        a, k = ((), given) if isinstance(given, Mapping) else (tuple(given), {})
        bound = _bind(func, a, k, arguments)
        for c in cores:
            c.group = c.rank_group = group
            c.scratch["switched"] = switched
            every.append((c, _finished_by(results, c, bound())))
        launches.append((cores, arguments))
    if values:
        own_memory([arguments for _, arguments in launches])
    found = group.run(every)
    out = []
    for rank, (cores, arguments) in enumerate(launches):
        arguments.finish()
        out.append(_result(func, outputs_of(found[rank * lnc], arguments.framework, cores, returned), cores))
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
        for x in values_in([*args, *kwargs.values()]):
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
        host = _HostLaunch(how=how, lnc=lnc, given=values_in([*args, *kwargs.values()]))
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
    if any(not any(x is made for made in result.outputs) for x in values_in(value)):
        raise UserError(
            f"{name} returns what its kernel did not",
            where=_first_line(kernel),
            fix="return what the kernel returns; the rest of the work is an instruction's, or the caller's",
        )
    result.kernel, result.value, result.outputs = str(name), value, values_in(value)
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

    def _again(self, kind: type[Kernel], **changed: Any) -> Kernel:
        """This kernel with something changed."""
        given = {n: getattr(self, n) for n in ("platform_target", "grid", "options", "results")}
        return kind(self.func, **(given | changed))

    def __getitem__(self, grid: object) -> Kernel:
        return self._again(type(self), grid=grid)

    def with_schedule(self, schedule: Sequence[tuple[str, str | Sequence[str]]]) -> Kernel:
        """This kernel with edges between named instructions, (later, earlier or a list of earlier ones), for the
        scheduler."""
        pairs = ((later, [earlier] if isinstance(earlier, str) else earlier) for later, earlier in schedule)
        edges = [(str(later), str(name)) for later, names in pairs for name in names]
        return self._again(Kernel, options={**self.options, "schedule": edges})

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

    def launch_ranks(
        self, inputs: Sequence[object], version: tuple[int, int] | None = None, **how: Any
    ) -> list[Result]:
        """Run on several ranks, with the details of `run_ranks`. version: of NKI, that the user named (None: none)."""
        traced = self.is_traced(version)
        return run_ranks(self.func, inputs, results=self.results, returned=self.returned, traced=traced, **how)

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
    found = k.launch_ranks(inputs, generation=k.generation(), lnc=lnc)
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
        inputs = [dict(inspect.signature(k.func).bind(*arrays, **kwargs).arguments)] * ranks
        how = {"generation": generation, "lnc": lnc, "values": values, "strict": strict is not False}
        results = k.launch_ranks(inputs, version, **how)
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


def last_latency_us() -> float | None:
    """Latency of the last kernel of this thread in microseconds, as a profiler reports it (`Result.device_s`); None
    where it had no instruction, and before one was timed (`run_kernel`, or any launch of a recorded trace)."""
    last = _LAST.get()
    if last is None or not last.instructions or any(c.trace is None for c in last.cores):
        return None
    last.timed = True
    return last.device_s * 1e6
