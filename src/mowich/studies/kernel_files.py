"""Kernels of a file, and what a file of them expects of the process that runs it.

What a kernel or a file does wrong is one line with its file and line.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import math
import os
import re
import sys
import traceback
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import numpy as np

from mowich.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_CHECK_FAILED, UserError, UserErrors, placed, unknown, words_of
from mowich.files import MAX_DIGITS

if TYPE_CHECKING:
    from mowich.neuroncore.dtypes import DType
    from mowich.nki import Kernel, Result
    from mowich.requests.debugging import ReferenceFile
    from mowich.studies.kernel_reference import ReferenceFit


@contextmanager
def as_scripts_expect(
    file: str,
    arguments: Sequence[str],
    target: str | None,
    lnc: int | None,
    version: tuple[int, int] | None = None,
    *,
    quiet: bool = False,
    for_programs: bool = False,
) -> Iterator[None]:
    """The process as a script finds it on a machine with NKI: modules, sys.argv, sys.path, environment. All is put
    back. quiet: without its warnings; for_programs: the answer on stdout is for programs: what the script prints goes
    to stderr."""
    import mowich.nki
    from mowich.nki.runtime import launches
    from mowich.progress import IS_QUIET

    is_quiet = IS_QUIET.set(quiet)
    environment = {"NKI_SIMULATOR": "1"}
    if target:
        environment["NEURON_PLATFORM_TARGET_OVERRIDE"] = target
    if lnc:
        environment["NEURON_LOGICAL_NC_CONFIG"] = str(lnc)
    before = {k: os.environ.get(k) for k in environment}
    argv, path, main = sys.argv, sys.path[:], sys.modules.get("__main__")
    sys.argv = [file, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    os.environ.update(environment)
    launches.target, launches.lnc, launches.version = target, lnc, version
    try:
        with _lent_process(for_programs), warnings.catch_warnings(), mowich.nki.installed(replace=True):
            warnings.showwarning = _warning_quiet if quiet else _warning
            yield
    finally:
        IS_QUIET.reset(is_quiet)
        launches.target = launches.lnc = launches.version = None
        sys.argv, sys.path[:] = argv, path
        if main is not None:
            sys.modules["__main__"] = main
        for k, v in before.items():
            if v is None:
                os.environ.pop(k, None)
            else:
                os.environ[k] = v


class _Lent:
    """A stream that a user's code may close: ours stays open."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def close(self) -> None:
        self._stream.flush()


@contextmanager
def _lent_process(for_programs: bool) -> Iterator[None]:
    """What a user's code may close, replace or end, without that its answer is lost: the streams are copies, and
    `os._exit` ends the code as `sys.exit` does. In processes that it starts all is as it was."""
    out, error, leave, process = sys.stdout, sys.stderr, os._exit, os.getpid()

    def ended(status: int) -> NoReturn:
        if os.getpid() != process:
            leave(status)
        raise SystemExit(status)

    sys.stderr = _Lent(error)
    sys.stdout = sys.stderr if for_programs else _Lent(out)
    os._exit = ended
    try:
        yield
    finally:
        sys.stdout, sys.stderr, os._exit = out, error, leave


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = " ".join(str(message).split())
    place = "" if filename.startswith(_OURS) else f"{filename}:{lineno}: "
    print(f"warning: {place}{text}", file=sys.stderr)


def _warning_quiet(*_: object, **__: object) -> None:
    pass


def execute_file(file: str, name: str, text: str | None = None) -> dict[str, object]:
    """Run a file as a module of this name; its names. Its exceptions become one line with the file and line. text: in
    the place of the file's, which need not be there."""
    try:
        if text is not None:
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        code = compile(Path(file).read_bytes() if text is None else text, file, "exec")
    except SyntaxError as error:
        raise UserError(f"SyntaxError: {error.msg}", where=f"{file}:{error.lineno}") from error
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    with one_line(file, is_script=name == "__main__"):
        exec(code, module.__dict__)
    return module.__dict__


_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # the package


@contextmanager
def one_line(file: str, is_script: bool = False) -> Iterator[None]:
    """Exceptions of the user's code as a `UserError` with its file and line. A failed assertion has the exit code of a
    check. is_script: `sys.exit` ends it with an exit code of its own; it is an error where an answer was asked for."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if is_script and isinstance(error, SystemExit):
            _exit(error)
            return
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        last = _frame_of(error, frames, file)
        where = f"{last.filename}:{last.lineno}"
        if isinstance(error, ImportError):
            from mowich.nki.words import not_imported

            known = not_imported(error, where)
            if known is not None:
                raise known from error
        text = words_of(error) or (last.line or "")
        if _is_bug(error, frames):
            raise UserError(
                f"this is a bug in mowich: {type(error).__name__}: {text}",
                where=where,
                fix="--debug shows the traceback",
                code=EXIT_BUG,
            ) from error
        code = EXIT_CHECK_FAILED if isinstance(error, AssertionError) else EXIT_BAD_INPUT
        fix = "a kernel returns its tensors, and ends nothing" if isinstance(error, SystemExit) else None
        if is_script and isinstance(error, AssertionError):
            fix = "-k NAME with --first-difference REFERENCE.py names the instruction that leaves a reference"
        raise UserError(f"{type(error).__name__}: {text}", where=where, fix=fix, code=code) from error


_MANY = 50
"""Frames of a file of kernels from which on the file is the one that calls itself without end."""


def _of_guest(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames that are not of the package."""
    return [f for f in frames if not f.filename.startswith(_OURS)]


def _frame_of(error: BaseException, frames: Sequence[traceback.FrameSummary], file: str) -> traceback.FrameSummary:
    """The frame that an error is told of: the last one of the user's code where there is one. file: the user's, which
    goes first for a failed assertion."""
    theirs = _of_guest(frames)
    named = [f for f in theirs if f.filename == file] if isinstance(error, AssertionError) else []
    own = [f for f in theirs if not _is_library(f.filename)]
    return (named or own or theirs or frames)[-1]


def _is_bug(error: BaseException, frames: Sequence[traceback.FrameSummary]) -> bool:
    """Whether an error is the simulator's own. A guest may use up memory or the stack while our code runs, and be
    refused a file by the system or by what closes its process in."""
    is_used_up = isinstance(error, MemoryError) or (
        isinstance(error, RecursionError) and len(_of_guest(frames)) > _MANY
    )
    return _inside_ours(frames) and not (is_used_up or isinstance(error, PermissionError))


def _inside_ours(frames: Sequence[traceback.FrameSummary]) -> bool:
    """True where an exception came from the simulator: its last frames, with those of libraries below, are ours."""
    for frame in reversed(frames):
        name = frame.filename
        if name.startswith(_OURS):
            return not name.endswith((os.path.join("studies", "kernel_files.py"), "runtime.py", "arguments.py"))
        if not _is_library(name):
            return False
    return False


def _is_library(name: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return f"{os.sep}site-packages{os.sep}" in name or name.startswith(sys.base_prefix)


class ScriptExit(Exception):
    """A script ended itself with an exit code other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _exit(stop: SystemExit) -> None:
    """The script's own exit code; anything but a number is its message, as Python has it."""
    if stop.code is None:
        return
    if not isinstance(stop.code, int):
        raise UserError(words_of(stop) or type(stop.code).__name__, code=1) from None
    code = int(stop.code) & 0xFF  # what is left of it when a process ends
    if code:
        raise ScriptExit(code)


def kernels_in(names: Mapping[str, object]) -> dict[str, Kernel]:
    """Kernels that a file defines, by name."""
    from mowich.nki import Kernel

    return {n: v for n, v in names.items() if isinstance(v, Kernel) and not n.startswith("__")}


def prepared_kernel(
    file: str,
    name: str,
    arguments: Sequence[str],
    seed: int,
    *,
    values: bool,
    text: str | None = None,
) -> tuple[Callable[..., object], Kernel, dict[str, object], dict[str, object]]:
    """(What to launch; the same as a kernel; its arguments, without words for them those that `inputs()` of the file
    gives; all names of the file). text: of the file, where it is not the one that lies there."""
    names = execute_file(file, Path(file).stem, text)
    defined = kernels_in(names)
    run = defined.get(name)
    asked: Callable[..., object] | None = run
    if run is None or asked is None:
        from mowich.nki import Kernel

        found = names.get(name)
        if not defined and found is None:
            raise UserError("no kernel in it", where=file, given=name, fix="mark a function with @nki.jit")
        if not callable(found) or isinstance(found, type):
            raise unknown("kernel", name, defined, where=file)
        run, asked = Kernel(found), found
    own = names.get("inputs")
    if not arguments and callable(own):
        with one_line(file):
            given = dict(own(seed) if "seed" in inspect.signature(own).parameters else own())
    else:
        given = described_arguments(run, name, arguments, seed, values)
    return asked, run, given, names


def check_outputs(result: Result, kernel: Kernel) -> None:
    """Refuse what a kernel returned beside tensors."""
    for value in result.outputs:
        kind = getattr(value, "dtype", None)
        if not hasattr(value, "shape") or kind is None or (isinstance(kind, np.dtype) and kind.kind in "OUSMmc"):
            code = getattr(kernel.func, "__code__", None)
            raise UserError(
                "the kernel returns something that is not a tensor",
                where=None if code is None else f"{code.co_filename}:{code.co_firstlineno}",
                given=type(value).__name__ if callable(value) else value,
                allowed="tensors in HBM, also in tuples, lists and dicts; or nothing",
            )


def described_arguments(
    kernel: Kernel, name: str, words: Sequence[str], seed: int, values: bool = True
) -> dict[str, object]:
    """`NAME=VALUE` words as arguments of a kernel; everything that is wrong with them at once."""
    parameters = inspect.signature(kernel.func).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    rng = np.random.default_rng(seed)
    given: dict[str, object] = {}
    problems: list[UserError] = []
    for word in words:
        key, equals, text = word.partition("=")
        try:
            if not equals:
                raise UserError("an argument of a kernel is NAME=VALUE", given=word)
            if key not in parameters and not anything:
                raise unknown(f"argument of {name}", key, parameters)
            given[key] = _value(text, key, rng, kernel.generation(), values)
        except UserError as error:
            problems.append(error)
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in given
    ]
    if missing and not problems:
        example = " ".join(f'"{n}=float32[128,512]"' for n in missing)
        problems.append(UserError(f"{name} needs {', '.join(missing)}", fix=f"for example {example}"))
    if problems:
        raise UserErrors(problems)
    return given


def _value(text: str, key: str, rng: np.random.Generator, generation: int, values: bool = True) -> object:
    """`float32[128,512]` (normal numbers; integers 0..15; nothing without values), `FILE.npy`, or a Python literal.
    generation: of the NeuronCore whose HBM the arrays have to fit."""
    from mowich.neuroncore.core import limits
    from mowich.neuroncore.dtypes import as_dtype
    from mowich.neuroncore.placement import check_hbm

    match = re.fullmatch(r"([A-Za-z]\w*)\[([\d\s,]+)\]", text)
    if match:
        d = as_dtype(match[1])
        shape = _shape(match[2], text, key)
        with placed(key):
            check_hbm(shape, d, limits(generation).hbm_B)
        if values and d.part is not None:
            raise UserError(f"{key}: packed formats have no random arrays", given=text, fix="pass an .npy file")
        return _array(shape, d, rng if values else None, text, key)
    if text.endswith(".npy"):
        try:
            return np.load(text)
        except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise UserError(f"{key}: cannot be read: {words_of(error)}", where=text) from error
    try:
        return ast.literal_eval(text)
    except (RecursionError, MemoryError):
        raise UserError(f"{key}: nested too deep", given=text) from None
    except (ValueError, SyntaxError, TypeError):
        if "[" in text:
            raise UserError(
                f"{key}: not an array", given=text, allowed="a dtype and a shape, float32[128,512]"
            ) from None
        return text


def _shape(words: str, text: str, key: str) -> tuple[int, ...]:
    """ "128,512" of `text` as dimensions."""
    found = [n.strip() for n in words.split(",") if n.strip()]
    if not found or not all(n.isascii() and n.isdecimal() and len(n) <= MAX_DIGITS for n in found):
        raise UserError(f"{key}: not a shape", given=text, allowed="whole numbers with commas, float32[128,512]")
    shape = tuple(int(n) for n in found)
    if min(shape) < 1:
        raise UserError(f"{key}: an array has at least one element in each dimension", given=text)
    return shape


def _array(shape: tuple[int, ...], d: DType, rng: np.random.Generator | None, text: str, key: str) -> object:
    """Normal numbers, or integers 0..15; without a generator: an array without values."""
    from mowich.nki import hollow

    size_B = math.prod(shape) * _DRAWN_B
    try:
        if rng is None:
            return hollow(shape, d)
        if size_B > physical_B():
            raise MemoryError
        numbers = rng.standard_normal(shape, dtype=np.float32) if d.is_float else rng.integers(0, 16, shape)
        return numbers.astype(d.dtype)
    except ValueError as error:  # more dimensions than an array has
        raise UserError(f"{key}: {words_of(error)}", given=text) from None
    except MemoryError as error:
        raise UserError(
            f"{key}: this machine has no memory for an array of {size_B / 2**30:,.4g} GiB",
            given=text,
            fix="use a smaller shape",
        ) from error


_DRAWN_B = 4
"""Bytes of a random number as it is drawn."""


def reference_in(
    asked: ReferenceFile, kernel: str, *, tiles_first: bool = False
) -> tuple[Callable[..., object], dict[str, object]]:
    """(The function or the kernel that a file has for a kernel of this name; all names of the file). tiles_first: a
    kernel, which says what tiles hold, comes before a function."""
    file = str(asked.file)
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    names = execute_file(file, f"{Path(file).stem}_reference")
    if asked.name:
        found = names.get(asked.name)
        if not callable(found):
            raise unknown("function", asked.name, [n for n, v in names.items() if callable(v)], where=file)
        return found, names
    defined = kernels_in(names)
    plain = (names.get(f"reference_{kernel}"), names.get("reference"))
    for found in (defined.get(kernel), *plain) if tiles_first else (*plain, defined.get(kernel)):
        if callable(found):
            return found, names
    raise UserError(
        "no reference in it",
        where=file,
        allowed=f"a kernel {kernel}, or a function reference_{kernel} or reference",
        fix=f"name another function: {file}:NAME",
    )


def run_kernel_of(
    file: str,
    name: str,
    arguments: Sequence[str],
    strict: bool,
    seed: int,
    values: bool = True,
    beside: tuple[float | None, list[ReferenceFit]] | None = None,
) -> Result:
    """One kernel of a file; without values, arrays described by shape have none, and live tiles that do not fit are
    left to the clock. No arguments at all: what `inputs()` of the file gives. beside: a tolerance, and what gets how
    far the outputs are from what `reference()` of the file gives, or `reference_NAME()` for this kernel."""
    from mowich.nki.runtime import kernel_launched
    from mowich.studies.kernel_reference import fit_to_reference, wanted_of

    asked, run, given, names = prepared_kernel(file, name, arguments, seed, values=values)
    wanted: list[np.ndarray] | str = ""
    if beside is not None:
        with one_line(file):
            wanted = wanted_of(names.get(f"reference_{name}", names.get("reference")), (), given)
    how = {"strict": strict, "finite": strict, "record": True, "values": values, "check": values}
    with one_line(file):
        result = kernel_launched(asked, (), given, **how)
    check_outputs(result, run)
    if beside is not None:
        with one_line(file):
            beside[1].append(fit_to_reference(result, wanted, [*given.values()], beside[0]))
    return result


def physical_B() -> float:
    """Bytes of this machine's memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
