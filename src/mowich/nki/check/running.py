"""The rules that only a run shows: limits of the machine, what a kernel returns, integers that float32 rounds, numbers
beyond fp8, rows written twice, races."""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.neuroncore.core import NkiValidationError, Observed, is_ours
from mowich.nki.beta1.tensor import INDEX_EXPRESSION
from mowich.nki.check.orders import races
from mowich.nki.check.rule import Finding, KernelRule, declare
from mowich.nki.check.words import WORD_RULES
from mowich.nki.runtime import Kernel, Result

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
class Ran:
    """A kernel that ran. instructions: on all cores; orders: in how many orders of its cores it ran; finished: whether
    it came to its end."""

    findings: tuple[Finding, ...]
    instructions: int
    orders: int
    finished: bool


def check_run(kernel: Kernel, args: Sequence[object], kwargs: Mapping[str, object], **how: object) -> Ran:
    """Run a kernel on arguments and look at what it does. how: as `Kernel.launch`. Raises what the kernel's own Python
    raises, other than assertions."""
    seen: dict[tuple[str, str], Observed] = {}
    found: list[Finding] = []
    result: Result | None = None
    first, named = copy.deepcopy(list(args)), copy.deepcopy(dict(kwargs))  # a kernel may write to its arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is warned of is observed
        try:
            result = kernel.launch(first, named, observed=seen, **how)
        except NkiValidationError as error:
            found.append(_refused(error, kernel))
        except AssertionError as error:
            found.append(_failed(error, kernel))
        raced, orders = races(kernel, args, kwargs, result, **how) if result is not None else ([], 1)
    found += [_at(where, RACE, text) for where, text in raced]
    found += [f for (kind, at), o in seen.items() if (f := _observed(kind, at, o, kernel.older)) is not None]
    ran = 0 if result is None else result.instructions
    return Ran(tuple(sorted(set(found))), ran, orders, result is not None)


def _at(where: str, rule: KernelRule, what: str, fix: str | None = None) -> Finding:
    file, _, line = where.rpartition(":")
    return Finding(file or where, int(line) if line.isdecimal() else 0, rule.id, what, fix or rule.fix)


def _observed(kind: str, at: str, o: Observed, older: bool) -> Finding | None:
    rule = LAUNCHES["returned-tile"] if kind.startswith("returned tile") else OBSERVED.get(kind)
    takes_it = rule is BROADCAST and older and INDEX_EXPRESSION not in o.text  # nl.add of tiles takes it there
    if rule is None or takes_it:
        return None
    what = o.text.partition(": its buffer")[0] if kind.startswith("returned tile") else o.text
    if o.count:
        what = f"{what}: {o.count:,} of {o.of:,}"
    return _at(at, rule, what.partition("; ")[0])


def _refused(error: NkiValidationError, kernel: Kernel) -> Finding:
    """What the machine refuses, in the error's own words."""
    where = error.where or f"{kernel.func.__code__.co_filename}:{kernel.func.__code__.co_firstlineno}"
    what = error.what if error.given is None else f"{error.what}, got {error.given}"
    allowed = (
        None if error.allowed is None else error.allowed if isinstance(error.allowed, str) else ", ".join(error.allowed)
    )
    parts = [p for p in (f"allowed: {allowed}" if allowed else "", error.fix or "") if p]
    return _at(where, LIMIT, " ".join(what.split()), "; ".join(parts) or None)


def _failed(error: AssertionError, kernel: Kernel) -> Finding:
    """An assertion of the kernel, where it stands."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_ours(f.filename)]
    last = frames[-1]
    said = " ".join(str(error).split())
    return _at(f"{last.filename}:{last.lineno}", ASSERTION, f"the assertion fails: {said or last.line}")
