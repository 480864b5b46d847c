"""One candidate, run in a closed process: what it gives, what its instructions take, and whether a compiler would have
it. All that comes back is numbers and text, so that who reads it need not trust it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.readback import read_fields
from mowich.shown import Result as Figures

if TYPE_CHECKING:
    from mowich.neuroncore.order import KernelSide
    from mowich.nki import Kernel, Result

_MAGIC = b"mowich judge 1\n"
MOST_FINDINGS = 5
"""Findings of `kernel check` that a refusal names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCandidate:
    """name: what an answer calls it; text: of its file; kernel: the one that is judged, None: its only one."""

    name: str
    text: str
    kernel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRun:
    """How candidates are run. target: "trn3"; lnc: cores of a logical core; version: of NKI, None: by what it uses;
    values: whether numbers are computed, or instructions alone are timed; fits: whether tiles that do not fit are
    refused where no numbers are computed too, or the clock spills them; disable_dge: descriptors are made before the
    launch; summary: Neuron Explorer's summary is among the figures."""

    target: str
    lnc: int | None = None
    version: tuple[int, int] | None = None
    values: bool = True
    fits: bool = False
    disable_dge: bool = False
    summary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRun:
    """One run of a candidate on one set of arguments. outputs: arrays in float64, empty without values; figures:
    time_s (with range), bytes and what binds; side: for the order of two; warnings: of the run."""

    outputs: tuple[Array, ...]
    formats: tuple[str, ...]
    figures: Figures
    side: KernelSide
    warnings: tuple[str, ...]


_HELD: ContextVar[JudgeRun | None] = ContextVar("mowich_judge_held", default=None)


@contextmanager
def expected_by(how: JudgeRun) -> Iterator[None]:
    """This process as candidates find it. Processes that are copied within it have no need to make it so again."""
    from mowich.studies.kernel_files import as_scripts_expect

    if _HELD.get() == how:
        yield
        return
    with as_scripts_expect("candidate", (), how.target, how.lnc, how.version, quiet=True):
        before = _HELD.set(how)
        try:
            yield
        finally:
            _HELD.reset(before)


Arguments = Sequence[Mapping[str, object]]
"""Sets of arguments of a kernel, by name."""
OwnArguments = Callable[["Kernel", Mapping[str, object]], Arguments]
"""What makes them in the candidate's process, of its kernel and all names of its file."""


def run_candidate(candidate: KernelCandidate, arguments: Arguments | OwnArguments, how: JudgeRun) -> bytes:
    """Run a candidate on each set of arguments; what `runs_of` reads. For a closed process: the candidate's text is
    executed here. What is wrong with it is a line."""
    try:
        found = _runs(candidate, arguments, how)
    except UserError as error:
        return _told_apart({"runs": [], "why": error.line()}, [])
    head = {"runs": [{k: v for k, v in run.items() if k != "arrays"} for run in found], "why": ""}
    return _told_apart(head, [x for run in found for x in run["arrays"]])


def _told_apart(head: Figures, arrays: Sequence[Array]) -> bytes:
    """The length of the head, the head, the numbers: a length may look like any text."""
    text = json.dumps(head).encode()
    numbers = [np.ascontiguousarray(x, np.float64).tobytes() for x in arrays]
    return b"".join([_MAGIC, len(text).to_bytes(8, "little"), text, *numbers])


def _runs(candidate: KernelCandidate, arguments: Arguments | OwnArguments, how: JudgeRun) -> list[Figures]:
    from mowich.studies.judge.names import candidate_globals, parsed_candidate
    from mowich.studies.kernel_files import check_outputs, one_line

    name, text = candidate.name, candidate.text
    tree = parsed_candidate(text, name)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    with expected_by(how):
        names = candidate_globals(name)
        with one_line(name):
            exec(compile(tree, name, "exec"), names)
        launched, kernel = _kernel_in(names, candidate)
        _compiles(candidate, how)
        made = arguments(kernel, names) if callable(arguments) else arguments
        out, constants = [], dict[str, list[bytes]]()
        for given in made:
            _takes(kernel, given, name)
            with one_line(name):
                result = _launched(launched, given, how)
            check_outputs(result, kernel)
            _check_constants(constants, given, result, name)
            if how.values:
                _check_rests_on_arguments(result)
            out.append(_told(result, how))
        if how.values and any(constants.values()) and len(constants) == len(made):
            # no form was run twice: again on zeros
            for given in made:
                zeros = {k: np.zeros_like(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
                with one_line(name):
                    _check_constants(constants, given, _launched(launched, zeros, how), name)
    return out


def _check_constants(constants: dict[str, list[bytes]], given: Mapping[str, object], result: Result, name: str) -> None:
    """Raise UserError where a kernel takes other arrays of the host than it took for arguments of the same form: it has
    seen their values. constants: those of each form so far."""
    taken = [digest for core in result.cores for digest in core.constants]
    if constants.setdefault(_form_of(given), taken) != taken:
        raise UserError(
            "its answer is not computed on the core: constants of the host depend on its arguments",
            where=name,
            fix="compute numbers that depend on arguments with instructions",
        )


def _check_rests_on_arguments(result: Result) -> None:
    """Raise UserError for an output that is made of constants alone."""
    from mowich.nki.runtime import FROM_CONSTANTS

    constant = next((w for w in result.warnings if FROM_CONSTANTS in w), None)
    if constant is not None:
        raise UserError(f"its answer is not computed: {constant}")


def _form_of(given: Mapping[str, object]) -> str:
    """What constants of a kernel may depend on: shapes and formats of arrays, and all else as it is."""
    return repr([(k, (v.shape, v.dtype) if isinstance(v, np.ndarray) else v) for k, v in given.items()])


def _kernel_in(names: Mapping[str, object], candidate: KernelCandidate) -> tuple[Callable[..., object], Kernel]:
    """(What is launched, the same as a kernel)."""
    from mowich.errors import unknown
    from mowich.nki import Kernel
    from mowich.studies.kernel_files import kernels_in

    defined, wanted = kernels_in(names), candidate.kernel
    if wanted is None:
        if len(defined) != 1:
            said = "no kernel in it" if not defined else "it has several kernels"
            raise UserError(said, where=candidate.name, given=", ".join(defined) or None, fix="-k NAME says which")
        wanted = next(iter(defined))
    found = defined.get(wanted) or names.get(wanted)
    if not callable(found) or isinstance(found, type):
        raise unknown("kernel", wanted, defined, where=candidate.name)
    return found, found if isinstance(found, Kernel) else Kernel(found)


def _takes(kernel: Kernel, given: Mapping[str, object], name: str) -> None:
    """Raise UserError for a kernel that takes other arguments."""
    try:
        inspect.signature(kernel.func).bind(**given)
    except (TypeError, ValueError) as error:
        code = getattr(kernel.func, "__code__", None)
        at = f":{code.co_firstlineno}" if code is not None else ""
        raise UserError(f"it takes other arguments: {error}", where=f"{name}{at}", allowed=", ".join(given)) from None


def _compiles(candidate: KernelCandidate, how: JudgeRun) -> None:
    """Raise UserError for what the NKI compiler would refuse in the text."""
    from mowich.neuroncore.targets import generation_of
    from mowich.nki.check import check_text

    looked = check_text(
        candidate.text, candidate.name, version=how.version, generation=generation_of(how.target), tries=False
    )
    if looked.findings:
        found = looked.findings
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"the compiler refuses it: {found[0].text()}{more}")


def _launched(launched: Callable[..., object], given: Mapping[str, object], how: JudgeRun) -> Result:
    """Launched on arrays of its own, without values on none."""
    from mowich.nki import hollow
    from mowich.nki.runtime import kernel_launched

    def own(x: object) -> object:
        if not isinstance(x, np.ndarray):
            return x
        return x.copy() if how.values else hollow(x.shape, x.dtype)

    arrays = {key: own(x) for key, x in given.items()}
    return kernel_launched(
        launched, (), arrays, strict=False, finite=False, record=True, values=how.values, check=how.values or how.fits
    )


def _told(result: Result, how: JudgeRun) -> Figures:
    """A run as numbers and text."""
    from mowich.neuroncore.clock.records import ClockOptions
    from mowich.neuroncore.explorer import summary_row
    from mowich.neuroncore.order import order_side

    result.timed, result.options = True, ClockOptions(dge=False if how.disable_dge else None)
    profile = result.profile
    read, written = profile.hbm_B
    arrays = [np.asarray(x) for x in result.outputs] if how.values else []
    return {
        "shapes": [list(x.shape) for x in arrays],
        "formats": [str(x.dtype) for x in arrays],
        "arrays": [x.astype(np.float64) for x in arrays],
        "figures": {
            "time_s": profile.time_s.to_dict(),
            "grade": profile.time_s.grade or None,
            "instructions": result.instructions,
            "hbm_B": read + written,
            "spill_B": profile.spill_B,
            "sbuf_B": profile.sbuf_peak_B,
            "flop": profile.flop,
            "bound": profile.bound,
            "binds": _busiest(profile.active_s),
            **({"summary": summary_row(profile)} if how.summary else {}),
        },
        "side": dataclasses.asdict(order_side(profile)),
        "warnings": list(result.warnings)[:MOST_FINDINGS],
    }


def _busiest(active_s: Mapping[str, float]) -> str | None:
    """The engine that works longest."""
    return max(active_s, key=lambda name: active_s[name]) if active_s else None


def runs_of(value: bytes) -> tuple[list[CandidateRun], str]:
    """(The runs that a candidate's process told, why there are none). Nothing of the answer is executed, and its form
    is checked: raises UserError for another form."""
    from mowich.neuroncore.order import KernelSide

    try:
        if not value.startswith(_MAGIC):
            raise ValueError("another beginning")
        body = value[len(_MAGIC) :]
        size = int.from_bytes(body[:8], "little")
        head, at = json.loads(body[8 : 8 + size]), 8 + size
        out = []
        for run in head["runs"]:
            arrays = []
            for shape in run["shapes"]:
                count = int(np.prod([int(n) for n in shape], dtype=np.int64))
                arrays.append(np.frombuffer(body, np.float64, count, at).reshape(shape))
                at += count * 8
            out.append(
                CandidateRun(
                    outputs=tuple(arrays),
                    formats=tuple(map(str, run["formats"])),
                    figures=run["figures"],
                    side=read_fields(KernelSide, run["side"], "side"),
                    warnings=tuple(map(str, run["warnings"])),
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(f"its process gave an answer that no run gives: {type(error).__name__}: {error}") from None
    return out, str(head["why"])
