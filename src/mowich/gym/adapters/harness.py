"""A harness of another program, in a process of its own, which calls a kernel that runs in closed processes.

The harness makes arguments and looks at outputs. Guests are copies of this process, not of the harness's: so no guest
ever holds what the harness knows.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.connection import Connection
from typing import TypeVar

import numpy as np

from mowich.arrays import Array
from mowich.errors import UserError, words_of
from mowich.neuroncore.dtypes import as_dtype
from mowich.shown import Result as Figures
from mowich.studies.judge.candidate import CandidateRun, JudgeRun, KernelCandidate, run_candidate, runs_of
from mowich.studies.judge.closed import readable_folders
from mowich.studies.judge.guests import GuestLimits, in_guests
from mowich.studies.judge.warm import warm_for

R = TypeVar("R")
TARGET_VARIABLE = "NEURON_PLATFORM_TARGET_OVERRIDE"
"""What names the target in the environment, as for AWS's own tools."""


class KernelRefusedError(Exception):
    """A candidate that may not be run, or does not run to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessLimits:
    """What a candidate may use in one call. time_s: seconds; memory_B: bytes."""

    time_s: float = 120.0
    memory_B: int = 16 * 2**30


class CalledKernel:
    """A candidate as a function of arrays, in the harness. last: figures of its last run."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.last: Figures | None = None

    def __call__(self, *args: object, **kwargs: object) -> Array | tuple[Array, ...]:
        """Its outputs, one alone or as a tuple. Raises KernelRefusedError."""
        self._pipe.send(("call", tuple(map(_as_array, args)), {k: _as_array(v) for k, v in kwargs.items()}))
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise KernelRefusedError(answer)
        outputs, self.last = answer
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


_WARM = """
import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl


@nki.jit
def warm(x):
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(result, nl.copy(nl.load(x)))
    return result
"""


@cache
def _warm(how: JudgeRun) -> None:
    """Load what a run needs while it can be loaded: guests are copies of this process, and read few files."""
    warm_for(how)
    run_candidate(KernelCandidate(name="warm", text=_WARM), [{"x": np.ones((128, 128), np.float32)}], how)


def in_harness(
    work: Callable[[CalledKernel], R], candidate: KernelCandidate, how: JudgeRun, limits: HarnessLimits
) -> R:
    """What `work` gives, done in a process of its own with the candidate as a function. Raises UserError for a harness
    that ends without an answer, with what it raised."""
    _warm(how)
    context = multiprocessing.get_context("fork")
    pipe, theirs = context.Pipe()
    process = context.Process(target=_lived, args=(work, theirs, pipe), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            what, *told = pipe.recv()
            if what == "end":
                answer: R = told[0]
                return answer
            if what == "error":
                raise UserError(told[0])
            pipe.send(_run(candidate, told[0], told[1], how, limits))
    except (EOFError, OSError) as error:
        raise UserError("the process of the harness has ended") from error
    finally:
        process.kill()
        process.join()
        pipe.close()


def _lived(work: Callable[[CalledKernel], object], pipe: Connection, other: Connection) -> None:
    other.close()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            pipe.send(("end", work(CalledKernel(pipe))))
        except Exception as error:
            pipe.send(("error", f"{type(error).__name__}: {words_of(error)}"))


def _run(
    candidate: KernelCandidate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    how: JudgeRun,
    limits: HarnessLimits,
) -> tuple[list[Array], Figures] | str:
    """One call in a guest: (outputs, figures), or the reason why there are no outputs."""
    try:
        given = {**named_arguments(candidate, args), **kwargs}
    except UserError as error:
        return error.line()
    guests = GuestLimits(time_s=limits.time_s, memory_B=limits.memory_B, reads=readable_folders())
    for end in in_guests([partial(run_candidate, candidate, [given], how)], guests):
        if end.value is None:
            return end.why
        try:
            runs, why = runs_of(end.value)
        except UserError as error:
            return error.line()
        return why or _outputs(runs[-1])
    return "it ran on nothing"


def _outputs(run: CandidateRun) -> tuple[list[Array], Figures]:
    pairs = zip(run.outputs, run.formats, strict=True)
    return [np.asarray(x, as_dtype(name).dtype) for x, name in pairs], run.figures


def named_arguments(candidate: KernelCandidate, args: Sequence[object]) -> dict[str, object]:
    """Arguments by the names that the candidate's text gives them. Raises UserError for more than it takes, and for a
    candidate without the kernel."""
    try:
        tree = ast.parse(candidate.text)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"SyntaxError: {words_of(error)}", where=candidate.name) from None
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == candidate.kernel]
    if not found:
        raise UserError(f"no function {candidate.kernel} in it", where=candidate.name)
    names = [a.arg for a in (*found[-1].args.posonlyargs, *found[-1].args.args)]
    if len(args) > len(names):
        raise UserError(
            "it takes fewer arguments", where=f"{candidate.name}:{found[-1].lineno}", given=len(args), allowed=names
        )
    return dict(zip(names, args, strict=False))


def _as_array(value: object) -> object:
    """An array of torch as one of NumPy; anything else as it is."""
    if not hasattr(value, "detach"):
        return value
    plain = value.detach().cpu()
    if str(plain.dtype).endswith("bfloat16"):
        return plain.float().numpy().astype(as_dtype("bfloat16").dtype)
    return plain.numpy()


def target_asked(default: str) -> str:
    """The target that the environment names, else a default."""
    return os.environ.get(TARGET_VARIABLE) or default
