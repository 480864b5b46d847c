"""A pytest plugin under which nki-library's own test suite runs on Mowich, with no Neuron software installed.

Nothing of nki-library is copied; what its public snapshot leaves out or gets wrong is put right while it is imported:
  - packages of its infrastructure (ssh, S3, CloudWatch) are stood in for where they are not installed;
  - `test.utils.perf_analysis_private` and other modules that were not published become empty;
  - leftovers of the old namespace: `neuronxcc.nki.typing`, `neuronxcc.starfish.support.dtype`;
  - a file that does not parse because a docstring's tail stands there twice (core/mlp/mlp.py) is repaired in memory;
  - `@dataclass` classes that only AWS's front end accepts (README.md, "Defects of the snapshot");
  - a test that imports its kernel from where it was before (experimental/subkernels) finds it;
  - its simulation mode knows one rank: with several, `mowich.nki.simulate_ranks` runs the kernel;
  - its generator of MX inputs draws four numbers for each block of 32 elements, one by one: the same numbers are drawn
    at once;
  - its MX references multiply by an `einsum` that NumPy does element by element: as a product of matrices;
  - its comparison makes five copies of the outputs in float64: it is given a piece after the other (pieces.py); so is
    the reference of
    test_rmsnorm_quant.py, and inputs that are drawn as float64 to be cast (draws.py);
  - the inputs are written to files that its simulator does not read: they are not;
  - test_moe_block_tkg.py draws MX weights at random for each case: cases of the same shapes share them;
  - test_attention_block_tkg.py runs its reference a second time for the shapes of the outputs: they are kept from the
    first;
  - kernels whose cases are all large get small ones too (small.py), in the tests' own tables;
  - tests marked trace-only want AWS's compiler: they run on the machine instead, their outputs unchecked.

Environment: MOWICH_CONFORMANCE_SETS (comma list of regular, multirank, trace, slow, small, skipped: which cases stay),
MOWICH_CONFORMANCE_WITHOUT (a platform mark: cases that carry it are left out),
MOWICH_CONFORMANCE_EVERY (a sample: every n-th case), MOWICH_CONFORMANCE_DONE (a file of ids to leave out),
MOWICH_CONFORMANCE_ONLY (a file of the ids to keep, in their order), MOWICH_CONFORMANCE_CPU_S (seconds of CPU time that
a case may have, so that a busy machine fails nothing), MOWICH_CONFORMANCE_MEMORY_GB (data of a process: a case that
needs more counts as not attempted), MOWICH_CONFORMANCE_RESULTS (file to which a JSON line per case is appended),
MOWICH_CONFORMANCE_LISTING (file for a JSON line per case that will run), MOWICH_CONFORMANCE_PAIRS (a folder that keeps
the pairs of parameters that sweeps draw), MOWICH_CONFORMANCE_ROUNDED (references with their kernels' roundings, where
known: rounded.py, rounded_moe.py), MOWICH_CONFORMANCE_EXTERNAL (test another importable `nki`).
"""

import ast
import builtins
import contextlib
import ctypes
import dataclasses
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import draws
import numpy as np
import pairs
import pieces
import pytest
import rounded
import rounded_moe
import small

if not os.environ.get("MOWICH_CONFORMANCE_EXTERNAL"):
    importlib.import_module("mowich.nki").install(replace=True)

INFRASTRUCTURE = (
    *("boto3", "botocore", "fabric2", "paramiko", "invoke", "aws_embedded_metrics"),
    *("plotext", "debugpy", "pytest_html", "filelock", "pandas"),
)
# names of tests of which several ranks take part (their inputs are given per rank)
MULTIRANK = re.compile(r"collectives/test_(collectives|fg_allgather|fgcc|sb2sb_allgather)\.py::")
LARGE = ("4096", "5120", "8192", "16384", "32768", "36864")  # nki-library's own rule for slow simulation
TRACE_MARKS = {"trace_only", "trace-only", "compile_only", "compile-only"}


class Stub(types.ModuleType):
    """A module that has every attribute; an exception where the name says so."""

    __path__: list[str] = []  # noqa: RUF012 - a package's attribute

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        is_error = name.endswith(("Error", "Exception", "Timeout"))
        value = type(name, (Exception,), {}) if is_error else mock.MagicMock(name=f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value


def stand_in(packages: tuple[str, ...]) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = Stub(name)  # `Finder` answers for what is below it


def old_namespace() -> None:
    try:
        importlib.import_module("neuronxcc.nki.typing")
        has_nki = True
    except ImportError:
        has_nki = False
    import neuron_dtypes

    class Annotation:
        def __getitem__(self, key: Any) -> "Annotation":
            return self

    def add(name: str, **attributes: Any) -> None:
        module = types.ModuleType(name)
        module.__path__ = []  # type: ignore[attr-defined]
        module = sys.modules.setdefault(name, module)
        module.__dict__.update(attributes)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)

    if not has_nki:
        add("neuronxcc")
        add("neuronxcc.nki")
        add("neuronxcc.nki.typing", tensor=Annotation(), mutable_tensor=Annotation())
    try:
        cast = importlib.import_module("neuronxcc.starfish.support.dtype").static_cast
    except (ImportError, AttributeError):
        cast = None
    if cast is None or isinstance(cast, type):  # a class: Mowich's stand-in for a name that it does not have
        add("neuronxcc.starfish")
        add("neuronxcc.starfish.support")
        add("neuronxcc.starfish.support.dtype", static_cast=neuron_dtypes.static_cast)


def repaired(source: str) -> str:
    """Source without the copy of a docstring's tail that follows its closing quotes; as it was where that is not it."""
    try:
        compile(source, "x", "exec")
        return source
    except SyntaxError as error:
        lines, first = source.split("\n"), (error.lineno or 1) - 1
    while first > 0 and lines[first - 1].strip():
        first -= 1
    last = first + 1
    while last < len(lines) and lines[last].strip() != '"""':
        last += 1
    shorter = "\n".join(lines[:first] + lines[last + 1 :])
    try:
        compile(shorter, "x", "exec")
        return shorter
    except SyntaxError:
        return source


class RepairLoader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return compile(repaired(self.get_data(path).decode()), path, "exec", dont_inherit=True)


MOVED = ("nkilib_src.nkilib.experimental.subkernels", "nkilib_src.nkilib.experimental.collectives")
"""Where test_topk_reduce.py looks for its kernel, and where it is."""


class Moved(importlib.abc.Loader):
    def create_module(self, spec: Any) -> types.ModuleType:
        return importlib.import_module(spec.name.replace(*MOVED))

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if isinstance(sys.modules.get(name.split(".")[0]), Stub):
            return importlib.util.spec_from_loader(name, loader=self, is_package=True)
        if name.startswith(MOVED[0]):
            return importlib.util.spec_from_loader(name, loader=Moved())
        if path is None or not name.startswith(("test.utils.", "nkilib_src.")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if name.startswith("test.utils."):
            return None if spec else importlib.util.spec_from_loader(name, loader=self, is_package=True)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader) and spec.origin:
            if not spec.submodule_search_locations:
                spec.loader = RepairLoader(name, spec.origin)
            return spec
        return spec

    def create_module(self, spec: Any) -> types.ModuleType:
        return Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def lenient_dataclasses() -> None:
    """For NKIObject subclasses only: a required field that nobody passes is None; a keyword that names a class
    attribute without annotation sets it. nki-library relies on both (MLPTKGConstantsDimensionSizes, SectionParams)."""
    original = dataclasses.dataclass

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        def wrap(c: Any) -> Any:
            own = "__init__" in c.__dict__
            c = original(c, **options)
            if own or not any(b.__name__ == "NKIObject" for b in c.__mro__) or not options.get("init", True):
                return c
            init, fields = c.__init__, {f.name: f for f in dataclasses.fields(c)}
            missing = dataclasses.MISSING
            required = [
                n for n, f in fields.items() if f.init and f.default is missing and f.default_factory is missing
            ]

            @functools.wraps(init)
            def lenient(self: Any, *args: Any, **kwargs: Any) -> None:
                extra = {n: kwargs.pop(n) for n in list(kwargs) if n not in fields and hasattr(type(self), n)}
                if not args:
                    for n in required:
                        kwargs.setdefault(n, None)
                init(self, *args, **kwargs)
                for n, value in extra.items():
                    object.__setattr__(self, n, value)

            c.__init__ = lenient
            return c

        return wrap if cls is None else wrap(cls)

    dataclasses.dataclass = dataclass  # type: ignore[assignment]


if not os.environ.get("MOWICH_CONFORMANCE_STRICT"):
    lenient_dataclasses()
sys.meta_path.insert(0, Finder())
old_namespace()
stand_in(INFRASTRUCTURE)


def ranks_hook() -> Callable[..., Any] | None:
    if os.environ.get("MOWICH_CONFORMANCE_EXTERNAL"):
        return None
    return getattr(importlib.import_module("mowich.nki"), "simulate_ranks", None)


def patch_collectives() -> None:
    import test.utils.simulation_setup as setup
    from test.utils.common_dataclasses import PerRankLazyInputGenerator, normalize_golden_output

    one_rank = setup.run_simulator_inference

    def run(under_test: Any) -> Any:
        ranks, inputs = under_test.inference_args.collective_ranks, under_test.kernel_input
        if ranks == 1 and not isinstance(inputs, PerRankLazyInputGenerator):
            return one_rank(under_test)
        simulate_ranks = ranks_hook()
        if simulate_ranks is None:
            pytest.skip("several ranks: nki offers no simulate_ranks")
        per_rank = [
            inputs.for_rank(r) if isinstance(inputs, PerRankLazyInputGenerator) else inputs for r in range(ranks)
        ]
        per_rank = [{k.removesuffix(".must_alias_input"): v for k, v in given.items()} for given in per_rank]
        os.environ["NKI_NC_VERSION"] = under_test.compiler_input.platform_target.get_nc_gen()
        results = simulate_ranks(under_test.kernel_func, per_rank, under_test.compiler_input.logical_nc_config)
        named = {}
        for r in range(ranks):
            golden = normalize_golden_output(under_test.validation_args.golden_output, r)
            got = results[r] if isinstance(results[r], (list, tuple)) else [results[r]]
            for name, array in zip(golden, got, strict=True):
                named[f"output_worker_{r}/{name}"] = np.asarray(array, dtype=golden[name].dtype)
        return named

    setup.run_simulator_inference = run


reached: set[str] = set()
"""Kernels (module:function) that the running case has launched or called from another."""
ran: set[str] = set()
"""Of these, those in a launch that came to its end: a case that wants an error passes without."""
spilled: list[str] = []
"""Launches of the running case whose live tiles exceeded SBUF: AWS's compiler spills there, so it is no failure."""
machine_s: list[float] = []
"""Processor time of each launch of the running case; the rest of the case is its inputs, its reference and the
comparison."""


@contextlib.contextmanager
def on_the_machine() -> Iterator[None]:
    start = time.process_time()
    try:
        yield
    finally:
        machine_s.append(time.process_time() - start)


def note_kernels() -> None:
    import mowich.nki.runtime as runtime

    bind, call, launch, run_ranks = runtime._bind, runtime.Kernel.__call__, runtime.Kernel.launch, runtime.run_ranks

    def note(func: Any) -> None:
        reached.add(f"{func.__module__}:{func.__qualname__}".removeprefix("nkilib_src."))

    def noted_bind(func: Any, *args: Any) -> Any:
        note(func)
        return bind(func, *args)

    def noted_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        note(self.func)
        return call(self, *args, **kwargs)

    def noted_launch(self: Any, args: Any, kwargs: Any, **how: Any) -> Any:
        with on_the_machine():
            result = launch(self, args, kwargs, check=False, record=False, **how)
        ran.update(reached)
        spilled.extend(w for w in result.warnings if "over capacity" in w)
        return result

    def noted_ranks(*args: Any, **kwargs: Any) -> Any:
        with on_the_machine():
            result = run_ranks(*args, record=False, **kwargs)
        ran.update(reached)
        return result

    runtime._bind, runtime.run_ranks = noted_bind, noted_ranks
    runtime.Kernel.__call__, runtime.Kernel.launch = noted_call, noted_launch  # type: ignore[method-assign]


if not os.environ.get("MOWICH_CONFORMANCE_EXTERNAL"):
    note_kernels()


def draw_at_once() -> None:
    """Give `generate_stabilized_mx_data` a loop that takes no time, if it then gives the same arrays and leaves the
    same state."""
    import test.integration.nkilib.utils.tensor_generators as generators

    theirs = generators.generate_stabilized_mx_data
    tree = ast.parse(inspect.getsource(theirs))
    body = tree.body[0].body  # type: ignore[attr-defined]
    loops = [k for k, statement in enumerate(body) if isinstance(statement, ast.For)]
    if len(loops) != 1:
        return
    body[loops[0]] = ast.parse("raise_blocks(rand_data, max_exp)").body[0]
    space = {**vars(generators), "raise_blocks": draws.raise_blocks}
    exec(compile(tree, generators.__file__, "exec"), space)
    ours, before = space[theirs.__name__], np.random.get_state()
    found = []
    for make in (theirs, ours):
        np.random.seed(1)
        found.append(
            [np.asarray(a).tobytes() for a in make(generators.nl.float4_e2m1fn_x4, (64, 512))] + [np.random.random()]
        )
    np.random.set_state(before)
    if found[0] == found[1]:
        generators.generate_stabilized_mx_data = ours


def multiply_as_matrices() -> None:
    """The product of its MX references (`einsum` over two axes) as one of matrices: the same sum in another order, in a
    fiftieth of the time."""
    import test.utils.mx_utils as mx

    mx.np = types.SimpleNamespace(**vars(np) | {"einsum": functools.partial(np.einsum, optimize=True)})


def imported(name: str) -> Any:
    """A module of its tests, where it was collected."""
    return next((m for n, m in sys.modules.items() if n.endswith(f".{name}")), None)


def draw_in_pieces() -> None:
    """Inputs of gigabytes without arrays of float64 beside them; the reference of test_rmsnorm_quant.py some rows at a
    time. Tables of parameters hold
    generators: what makes them has to draw so before tests are imported."""
    for name in ("tensor_generators", "test_attention_block_tkg", "test_rmsnorm_quant"):
        if (module := imported(name)) is not None and module.np is np:
            module.np = draws.piecewise(np)
    if (module := imported("test_rmsnorm_quant")) is not None:
        module.rmsnorm_quant_ref = pieces.by_rows(module.rmsnorm_quant_ref)


def keep_weights() -> None:
    """For test_moe_block_tkg.py: the MX weights of the case before, if this one wants the same shapes. The tests draw
    them before they seed the generator, so which weights a case gets is left to chance."""
    module = imported("test_moe_block_tkg")
    if module is not None:
        module.gen_moe_mx_weights = functools.lru_cache(maxsize=1)(module.gen_moe_mx_weights)


def infer_once() -> None:
    """For test_attention_block_tkg.py: shapes and formats of the outputs from the reference's latest run, if it had the
    same inputs."""
    module = imported("test_attention_block_tkg")
    if module is None:
        return
    reference, infer = module._golden_ref_via_torch, module._infer_output_shapes_and_dtypes
    latest: dict[Any, dict[str, Any]] = {}

    def same(given: dict[str, Any]) -> Any:
        return tuple((name, id(given[name])) for name in sorted(given))

    def noted_reference(kernel_input: dict[str, Any], lnc: int) -> Any:
        result = reference(kernel_input, lnc)
        latest.clear()
        latest[same(kernel_input)] = {name: (a.shape, a.dtype) for name, a in result.items()}
        return result

    def inferred(kernel_input: dict[str, Any], lnc: int) -> Any:
        found = latest.get(same(kernel_input))
        return infer(kernel_input, lnc) if found is None else {name: np.zeros(*how) for name, how in found.items()}

    module._golden_ref_via_torch, module._infer_output_shapes_and_dtypes = noted_reference, inferred


class Packed:
    """An output in a packed x4 format. A test that holds its reference as the same bits in float32 (test_mxfp_load)
    gets bits, not numbers."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        wanted = self.array.dtype if dtype is None else np.dtype(dtype)
        return self.array if wanted == self.array.dtype else self.array.view(wanted)


class Aliased(dict):  # type: ignore[type-arg]
    """Inputs by name, whether or not the key carries the suffix that marks an input as written in place."""

    def __missing__(self, key: str) -> Any:
        return dict.__getitem__(self, key + ".must_alias_input")


def patch_framework() -> None:
    import nki

    for name in ("nki.compiler.frontend", "nki.compiler.ncc_driver"):
        try:
            importlib.import_module(name)
        except ImportError:
            if "nki.compiler" not in sys.modules:
                sys.modules["nki.compiler"] = nki.compiler = types.ModuleType("nki.compiler")  # type: ignore[attr-defined]
            compiler = sys.modules["nki.compiler"]
            if not hasattr(compiler, "__path__"):
                compiler.__path__ = []  # type: ignore[attr-defined]
            sys.modules[name] = Stub(name)
            setattr(compiler, name.rsplit(".", 1)[1], sys.modules[name])

    draw_at_once()
    draw_in_pieces()
    multiply_as_matrices()
    import test.integration.nkilib.utils.comparators as comparators
    import test.utils.common_dataclasses as common
    import test.utils.coverage_parametrized_tests as sweeps
    import test.utils.kernel_tracer as tracer
    import test.utils.output_validator as validator
    import test.utils.simulation_setup as setup
    import test.utils.test_orchestrator as orchestrator
    import test.utils.unit_test_framework as framework

    if hasattr(orchestrator.Orchestrator, "_mowich"):
        return
    simulate = setup.simulate_kernel

    def simulate_kernel(*args: Any) -> list[Any]:
        return [Packed(a) if isinstance(a, np.ndarray) and a.dtype.names else a for a in simulate(*args)]

    setup.simulate_kernel = simulate_kernel
    builtins.Platforms = common.Platforms  # type: ignore[attr-defined]  # test_qkv_tkg.py does not import it
    runner = orchestrator.Orchestrator
    runner._mowich = True
    if not hasattr(runner, "_compiled_kernel"):  # set only where a kernel is compiled
        runner._compiled_kernel = None

    # outputs of several ranks are named output_worker_<r>/<name>: make the folders before they are written
    dump_name = "__dump_tensors__" if hasattr(runner, "__dump_tensors__") else "_Orchestrator__dump_tensors__"
    if hasattr(runner, dump_name):
        dump = getattr(runner, dump_name)

        def dump_with_folders(self: Any, directory: str, tensors: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
            for n in tensors:
                if "/" in n:
                    os.makedirs(os.path.dirname(os.path.join(directory, name(n))), exist_ok=True)
            return dump(self, directory, tensors, name, *args, **kwargs)

        setattr(runner, dump_name, dump_with_folders)

    if folder := os.environ.get("MOWICH_CONFORMANCE_PAIRS"):
        library = Path(sweeps.__file__).parents[2]
        sources = pairs.stamp([library / "src", library / "test"])
        sweeps.generate_pairs = pairs.kept(sweeps.generate_pairs, Path(folder), sources)
    comparators.maxAllClose = validator.maxAllClose = pieces.in_pieces(comparators.maxAllClose)
    validator.get_largest_abs_diff = lambda *_, **__: float("nan")  # a metric, of which nobody takes note here
    inputs_name = "__dump_kernel_inputs__"
    if hasattr(runner, inputs_name):  # its simulator does not read them
        setattr(runner, inputs_name, lambda self, *args: {})

    init = framework.UnitTestFramework.__init__

    def init_aliased(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        describe = self.output_tensor_descriptor
        if callable(describe):
            self.output_tensor_descriptor = lambda given: describe(Aliased(given) if isinstance(given, dict) else given)

    framework.UnitTestFramework.__init__ = init_aliased

    def trace_kernel(kernel_under_test: Any, mode: Any = None, output_directory: Any = None, **_: Any) -> None:
        given = kernel_under_test.kernel_input or {}
        if isinstance(given, common.PerRankLazyInputGenerator):
            given = given.for_rank(0)
        os.environ["NKI_NC_VERSION"] = kernel_under_test.compiler_input.platform_target.get_nc_gen()
        setup.simulate_kernel(kernel_under_test.kernel_func, given, kernel_under_test.compiler_input.logical_nc_config)

    tracer.trace_kernel = trace_kernel


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    small.add(metafunc)


def set_of(item: pytest.Item) -> str:
    if "[small" in item.name:
        return "small"
    if MULTIRANK.search(item.nodeid):
        return "multirank"
    if any(m.name in TRACE_MARKS for m in item.iter_markers()):
        return "trace"
    if item.get_closest_marker("slow_simulation") or any(pattern in item.name for pattern in LARGE):
        return "slow"
    return "skipped" if item.get_closest_marker("skip") else "regular"  # skipped upstream, or parametrised over nothing


def case_id(nodeid: str) -> str:
    return "nkilib/" + nodeid.split("nkilib/", 1)[-1]


def ids_in(file: str | None) -> dict[str, int]:
    """Ids of a file, and the place of each."""
    return {name: i for i, name in enumerate(Path(file).read_text().splitlines())} if file else {}


def pytest_configure(config: pytest.Config) -> None:
    if most := os.environ.get("MOWICH_CONFORMANCE_MEMORY_GB"):
        resource.setrlimit(resource.RLIMIT_DATA, (int(float(most) * 1e9), -1))
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:  # a folder of its own, so that each worker can clear what its case wrote
        Path(worker).mkdir(exist_ok=True)
        os.chdir(worker)


HELD_B = 2e9
"""Memory that a worker may keep between cases for the next one's arrays (run.py has malloc keep it: fresh pages cost
more than the arithmetic)."""


def give_back() -> None:
    """Return free memory to the system where a worker holds much of it."""
    with contextlib.suppress(OSError, AttributeError):  # Linux with glibc
        if int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() > HELD_B:
            ctypes.CDLL(None).malloc_trim(0)


def asked(text: str) -> str:
    """What the request that was refused was for, in the words of NumPy's or torch's error."""
    found = re.search(r"Unable to allocate ([\d.]+) ([KMGT])iB|tried to allocate (\d+) bytes", text)
    if found is None:
        return ""
    size = float(found[3]) if found[3] else float(found[1]) * 1024.0 ** (1 + "KMGT".index(found[2]))
    return f"; the request refused was for {size / 1e9:.1f} GB"


refused: list[str] = []
"""The case just refused for its memory, until what its exception holds is let go."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    # pytest and the interpreter keep the last exception, and with it every array of its frames: the next case needs the
    # room
    if refused:
        refused.clear()
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        gc.collect()
    give_back()
    for folder in Path("neuron_test_output").glob(
        "out-*"
    ):  # inputs and outputs as files: tens of GB over the whole suite
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A case that needs more memory than it may have was not attempted: some compare arrays of 30 GB as float64. The
    reason says who asked last."""
    report = yield
    error, most = call.excinfo, os.environ.get("MOWICH_CONFORMANCE_MEMORY_GB")
    if (
        error is not None
        and report.failed
        and re.search(r"MemoryError|Unable to allocate|t allocate memory|can't start new thread", str(report.longrepr))
    ):
        refused.append(item.nodeid)
        report.outcome = "skipped"
        machine = [f for f in error.traceback if "/mowich/neuroncore/" in str(f.path)]
        when = "while its kernel ran" if machine else "by its own inputs, reference or comparison"
        needs = f"needs more than {most} GB of memory, {when}{asked(str(report.longrepr))}"
        report.longrepr = (str(item.path), 0, f"Skipped: {needs}")
    return report


def out_of_time(*_: Any) -> None:
    pytest.fail("took more CPU time than a case may have")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    start = time.process_time()
    reached.clear()
    ran.clear()
    spilled.clear()
    machine_s.clear()
    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, float(os.environ.get("MOWICH_CONFORMANCE_CPU_S", "0")))
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        item.user_properties.append(("cpu_s", round(time.process_time() - start, 2)))
        item.user_properties.append(("machine_s", round(sum(machine_s), 2)))
        item.user_properties.append(("kernels", sorted(reached)))
        item.user_properties.append(("ran", sorted(ran)))
        item.user_properties.append(("spilled", "; ".join(spilled[:1])))


def pytest_collection(session: pytest.Session) -> None:
    patch_framework()


DRAWN_BEFORE = re.compile(r"/test_(rmsnorm_quant|router_topk|moe_bwmm_mx_cte)\.py::")
"""Files that draw sizes while they are imported, from a generator that the tests of every file before them have drawn
from."""


@functools.cache
def tests_wanted() -> set[str]:
    """Names of the tests of MOWICH_CONFORMANCE_ONLY, without their parameters; nothing where all are, or have to
    draw."""
    names = ids_in(os.environ.get("MOWICH_CONFORMANCE_ONLY"))
    return set() if any(map(DRAWN_BEFORE.search, names)) else {name.split("[")[0] for name in names}


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> list[Any] | None:
    """A test of which no case is wanted draws none: its pairs of parameters take most of the time of collecting. Each
    test seeds its own draws."""
    test = case_id(f"{collector.nodeid}::{name}")
    return [] if tests_wanted() and inspect.isfunction(obj) and test not in tests_wanted() else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = [s for s in os.environ.get("MOWICH_CONFORMANCE_SETS", "").split(",") if s]
    without = os.environ.get("MOWICH_CONFORMANCE_WITHOUT", "")
    done, only = (ids_in(os.environ.get(f"MOWICH_CONFORMANCE_{name}")) for name in ("DONE", "ONLY"))
    kept, left = [], []
    for item in items:
        which = set_of(item)
        item.user_properties.append(("set", which))
        drop = (wanted and which not in wanted) or (without and item.get_closest_marker(without))
        name = case_id(item.nodeid)
        drop = drop or name in done or (only and name not in only)
        (left if drop else kept).append(item)
    every = int(os.environ.get("MOWICH_CONFORMANCE_EVERY", "1"))
    left += [item for i, item in enumerate(kept) if i % every]
    config.hook.pytest_deselected(items=left)
    items[:] = sorted(kept[::every], key=lambda item: only.get(case_id(item.nodeid), 0))


def pytest_collection_finish(session: pytest.Session) -> None:
    patch_collectives()
    infer_once()
    keep_weights()
    draw_in_pieces()
    if os.environ.get("MOWICH_CONFORMANCE_ROUNDED"):
        rounded.apply()
        rounded_moe.apply()
    listing = os.environ.get("MOWICH_CONFORMANCE_LISTING")
    if listing and os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        lines = [json.dumps({"id": case_id(item.nodeid), "set": set_of(item)}) + "\n" for item in session.items]
        Path(listing + ".part").write_text("".join(lines))
        Path(listing + ".part").replace(listing)  # whole or not there: run.py looks for it


def cause(report: pytest.TestReport) -> tuple[str, str]:
    """The exception as `Type: first line`, and the innermost frame as file:line."""
    if report.outcome == "passed":
        return "", ""
    long = report.longrepr
    if isinstance(long, tuple):
        return str(long[2]).removeprefix("Skipped: "), ""
    chain = [(trace, crash) for trace, crash, _ in getattr(long, "chain", [])]
    trace, crash = chain[-1] if chain else (getattr(long, "reprtraceback", None), getattr(long, "reprcrash", None))
    if len(chain) > 1 and crash is not None and crash.message.startswith("test.utils.exceptions."):
        trace, crash = chain[-2]  # its orchestrator wraps what the kernel raised
    files = [e.reprfileloc for e in getattr(trace, "reprentries", []) if getattr(e, "reprfileloc", None)]
    where = f"{files[-1].path}:{files[-1].lineno}" if files else ""
    text = crash.message if crash is not None else str(long).strip().split("\n")[-1]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return " ".join(lines[:3])[:400], where


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
        return
    out = os.environ.get("MOWICH_CONFORMANCE_RESULTS")
    # under xdist both the worker and the controller see each report: the controller writes
    if out and "PYTEST_XDIST_WORKER" not in os.environ:
        why, where = cause(report)
        row = {
            "id": case_id(report.nodeid),
            "outcome": report.outcome,
            "seconds": round(report.duration, 2),
            "why": why,
            "where": where,
            "set": dict(report.user_properties).get("set", ""),
            "cpu_s": dict(report.user_properties).get("cpu_s", 0.0),
            "machine_s": dict(report.user_properties).get("machine_s", 0.0),
            "kernels": dict(report.user_properties).get("kernels", []),
            "ran": dict(report.user_properties).get("ran", []),
            "spilled": dict(report.user_properties).get("spilled", ""),
        }
        with Path(out).open("a") as f:
            f.write(json.dumps(row) + "\n")
