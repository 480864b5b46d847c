"""The rules that only a run shows: limits of the machine, what a kernel returns, integers that float32 rounds, numbers
beyond fp8, rows written twice, races."""

from __future__ import annotations

import copy
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType

from mowich.errors import words_of
from mowich.neuroncore.core import NkiValidationError, Observed, is_ours
from mowich.nki.beta1.tensor import INDEX_EXPRESSION
from mowich.nki.check.orders import races
from mowich.nki.check.rule import Finding, KernelRule, declare
from mowich.nki.check.words import WORD_RULES
from mowich.nki.result import Result
from mowich.nki.runtime import Kernel
from mowich.shown import Keyed

LAUNCHES = {rule.id: rule for rule, _ in WORD_RULES if rule.stage == "launch"}
"""Rules that the text may break as well."""
MACHINE = "facts neuroncore.v*, nki.isa reference"


def _rule(id: str, what: str, fix: str, source: str, example: str) -> KernelRule:
    return declare(KernelRule(id=id, stage="run", what=what, fix=fix, source=source, example=example))


LIMIT = _rule(
    "limit",
    "what the machine or an instruction does not take: memories, partitions, formats, engines, capacity, barriers",
    "what the message says",
    MACHINE,
    "nisa.tensor_copy(dst=t, src=x) of an x in HBM",
)
ASSERTION = _rule(
    "assertion",
    "an assertion of the kernel that fails: the compiler evaluates it",
    "arguments that the kernel takes",
    "NKI language guide",
    "assert x.shape[0] <= 128",
)
BROADCAST = _rule(
    "implicit-broadcast",
    "arithmetic on a tile of one partition and a tile of several",
    "nl.broadcast_to(tile, shape=(P, F)) first",
    "AWS's compiler: Unexpected partition broadcast!",
    "tile + nl.arange(512)[None, :]",
)
DUPLICATES = _rule(
    "duplicate-rows",
    "rows of one DMA that scatter other values to the same place: which one stays is not defined",
    "indices that differ, or dma_compute with reduce_op and unique_indices=False",
    "nki.isa.dma_copy, unique_indices",
    "nisa.dma_copy(dst=out.ap(..., vector_offset=index), src=rows)",
)
OVERLAP = _rule(
    "dma-overlap",
    "a DMA that reads elements that it writes at another place",
    "a second tensor between the two",
    "NKI DMA overview: descriptors of a DMA follow no order",
    "nisa.dma_copy(dst=t[:, 1:9], src=t[:, 0:8])",
)
RACE = _rule(
    "race",
    "a result that depends on which of the two cores of a launch is first",
    "nisa.core_barrier(tensor, (0, 1)) between the two, or a part of the tensor for each core",
    "LNC overview: cores of a logical core share HBM",
    "both cores store to out[0:128, :]",
)
_INTEGERS = _rule(
    "integer-rounded",
    "whole numbers that float32 rounds: the Vector and Scalar Engines and the DMA compute in it",
    "tensor_tensor on int32 tiles in SBUF without an engine, or smaller numbers (page and row apart)",
    "facts neuroncore.integers-v*",
    "nisa.tensor_scalar(dst=offset, data=page, op0=nl.multiply, operand0=65536)",
)
OVERFLOW = _rule(
    "fp8-overflow",
    "finite numbers that become infinity or NaN in an 8-bit format",
    "scale, or clip with tensor_scalar (nl.minimum, nl.maximum) before the cast",
    "ml_dtypes; NKI data types",
    "nisa.tensor_copy(dst=fp8_tile, src=tile) with 1000.0",
)

EXCEPTION = _rule(
    "exception",
    "an exception of Python: a name that is not there, a division by zero, a number where a tile belongs",
    "what the message says; instructions and functions of nki.language take tiles, math takes numbers",
    "Python",
    "nl.sqrt(2.0)",
)
UNINITIALISED = _rule(
    "uninitialised",
    "a read of bytes that nothing wrote",
    "write the tile first, or slice to the part that was written",
    "nki.isa reference; AWS's simulator fills them with NaN",
    "tile = nl.ndarray(...)\nnisa.tensor_copy(dst=t, src=tile)",
)
UNWRITTEN = _rule(
    "unwritten-output",
    "an output of which elements are never written, or that no instruction made",
    "store to all of it before the return",
    "nki.isa reference; the host reads what lay in HBM before",
    "for i in range(tiles - 1): nisa.dma_copy(dst=out[i], src=tile)",
)
NO_INSTRUCTION = "no instruction"
"""Words of the errors of an output that no instruction made."""
OF_BYTES = (UNINITIALISED.id, UNWRITTEN.id)
"""Rules that only a run with values sees broken."""
_BY_WORDS = (
    ("reads uninitialised bytes", UNINITIALISED),
    ("of its elements were never written", UNWRITTEN),
    (NO_INSTRUCTION, UNWRITTEN),
    ("the kernel returns", LAUNCHES["returned-tile"]),
)
"""Words of an error of the machine -> the rule, where it is another than `LIMIT`."""

OBSERVED = {
    "rounded": _INTEGERS,
    "fp8 overflow": OVERFLOW,
    "duplicate rows": DUPLICATES,
    "dma overlap": OVERLAP,
    "implicit broadcast": BROADCAST,
    "collective on an argument": LAUNCHES["collective-on-argument"],
}
"""What a run observes -> the rule that it breaks."""


@dataclass(frozen=True, slots=True)
class Ran(Keyed):
    """A kernel that ran. instructions: on all cores; orders: in how many orders of its cores it ran; finished: whether
    it came to its end."""

    KEYS = "instructions orders finished"

    findings: tuple[Finding, ...]
    instructions: int
    orders: int
    finished: bool


def check_run(kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object], **how: object) -> Ran:
    """Run a kernel on arguments and look at what it does. how: as `Kernel.launch`. What
    the kernel's own Python raises is a finding too."""
    seen: dict[tuple[str, str], Observed] = {}
    found: list[Finding] = []
    result: Result | None = None
    first, named = copy.deepcopy(list(args)), copy.deepcopy(dict(kwargs))  # a kernel may write to its arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is warned of is observed
        try:
            result = kernel.launch(first, named, observed=seen, **how)
        except NkiValidationError as error:
            found.append(of_error(error, *_place(kernel)))
        except AssertionError as error:
            found.append(_failed(error, kernel))
        except Exception as error:
            found.append(of_exception(error, *_place(kernel)))
        raced, orders = races(kernel, args, kwargs, result, **how) if result is not None else ([], 1)
    found += [_at(where, RACE, text) for where, text in raced]
    observed = [f for (kind, at), o in seen.items() if (f := _observed(kind, at, o, kernel.older)) is not None]
    # where one core reads before the other writes, the race is the mistake
    found += [f for f in observed if not (raced and f.rule in OF_BYTES)]
    ran = 0 if result is None else result.instructions
    return Ran(tuple(sorted(set(found))), ran, orders, result is not None)


def code_of(kernel: Kernel) -> CodeType | None:
    """The code of a kernel's own function, under what wraps it; None for an object that is called."""
    function: object = kernel.func
    while (inner := getattr(function, "__wrapped__", None) or getattr(function, "func", None)) is not None:
        function = inner
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None


def _place(kernel: Kernel) -> tuple[str, int]:
    """Where the function of a kernel stands."""
    code = code_of(kernel)
    return ("<kernel>", 0) if code is None else (code.co_filename, code.co_firstlineno)


def _at(where: str, rule: KernelRule, what: str, fix: str | None = None) -> Finding:
    file, _, line = where.rpartition(":")
    return Finding(file or where, int(line) if line.isdecimal() else 0, rule.id, what, fix or rule.fix)


def _observed(kind: str, at: str, o: Observed, older: bool) -> Finding | None:
    rule = LAUNCHES["returned-tile"] if kind.startswith("returned tile") else OBSERVED.get(kind)
    if kind == "uninitialised":
        rule = next(r for words, r in _BY_WORDS if words in o.text)
    takes_it = rule is BROADCAST and older and INDEX_EXPRESSION not in o.text  # nl.add of tiles takes it there
    if rule is None or takes_it:
        return None
    what = o.text.partition(": its buffer")[0] if kind.startswith("returned tile") else o.text
    if o.count:
        what = f"{what}: {o.count:,} of {o.of:,}"
    return _at(at, rule, what.partition("; ")[0])


def of_error(error: NkiValidationError, file: str, line: int) -> Finding:
    """What the machine refuses, in the error's own words. file, line: of the kernel, where the error names no place."""
    where = error.where or f"{file}:{line}"
    what = error.what if error.given is None else f"{error.what}, got {error.given}"
    allowed = (
        None if error.allowed is None else error.allowed if isinstance(error.allowed, str) else ", ".join(error.allowed)
    )
    parts = [p for p in (f"allowed: {allowed}" if allowed else "", error.fix or "") if p]
    rule = next((r for words, r in _BY_WORDS if words in what), LIMIT)
    return _at(where, rule, " ".join(what.split()), "; ".join(parts) or None)


def of_exception(error: Exception, file: str, line: int) -> Finding:
    """What Python refuses, at the innermost line of the kernel's files. file, line: of the kernel, where there is
    none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename)]
    theirs = [f for f in frames if not is_library(f.filename)]
    where = f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else f"{file}:{line}"
    source = f" at `{' '.join(theirs[-1].line.split())}`" if theirs and theirs[-1].line else ""
    return _at(where, EXCEPTION, f"{type(error).__name__}: {words_of(error) or 'no words'}{source}")


def is_library(name: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return f"{os.sep}site-packages{os.sep}" in name or name.startswith((sys.base_prefix, "<frozen"))


def _failed(error: AssertionError, kernel: Kernel) -> Finding:
    """An assertion of the kernel, where it stands."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename)]
    file, line = (frames[-1].filename, frames[-1].lineno) if frames else _place(kernel)
    said = words_of(error) or (frames[-1].line if frames else "")
    return _at(f"{file}:{line}", ASSERTION, f"the assertion fails: {said}")
