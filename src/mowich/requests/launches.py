"""run_kernel and debug_kernel: a kernel that Python runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.requests.common import Request, form_of
from mowich.requests.debugging import (
    CALLED_REFERENCE,
    PRINT,
    STOP,
    WATCH,
    SourceLine,
    TileName,
    check_debugging,
)
from mowich.requests.fields import CALLED, Field, flag, whole, word
from mowich.requests.kernels import FIT_TOLERANCE, LNC, NKI_VERSION, OF_TARGET, STRICT, VALUES
from mowich.requests.schema import QuestionReader, Schema

if TYPE_CHECKING:
    from mowich.facts import Facts

FUNCTION: Field[object] = Field(
    name="kernel",
    parse=lambda value: value,
    kind="object",
    help="A kernel, or a plain function that is one.",
    needs=True,
    edges=CALLED,
)
CALLED_TARGET = replace(OF_TARGET, edges=CALLED)
CORES = replace(LNC, help="Cores of the logical core: 1 or 2.", default=1, edges=CALLED)
CALLED_VERSION = replace(NKI_VERSION, keyword="", edges=CALLED)
WITH_VALUES = replace(VALUES, help="Compute; else a kernel is only timed and checked.", default=True, edges=CALLED)
RANKS = whole("ranks", "Ranks that run the same arguments.", default=1, high=1e6, edges=CALLED)
HAS_CLOCK = flag("timed", "Keep what the clock needs.", default=True, edges=CALLED)
ON_SYSTEM = word("system", "A machine: one rank a chip.", edges=CALLED, example="trn3-gen2")
INPUTS: Field[object] = Field(
    name="inputs",
    parse=lambda value: value,
    kind="object",
    help="Arguments of each rank, with a system.",
    edges=CALLED,
)
STRICTLY = replace(STRICT, help="Infinities and NaN in an output from finite arguments are an error.", edges=CALLED)
REFERENCE_OF: Field[object] = Field(
    name="reference",
    parse=lambda value: value,
    kind="object",
    help="A function of the arguments of the kernel that gives what the kernel should.",
    edges=CALLED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch(Request):
    """A kernel that Python runs. kernel: a function; nki: version, None: by the names it uses; system: None: on a
    NeuronCore alone; inputs: the arguments of each rank, None: the same for all; strict: infinities and NaN that it
    makes are an error; reference: gives what its outputs should be, None: nobody compares; tolerance: of a difference,
    None: by the formats; facts: of the machine."""

    kernel: Callable[..., object]
    target: str | None
    lnc: int
    nki: tuple[int, int] | None
    values: bool
    ranks: int
    timed: bool
    system: str | None
    inputs: Sequence[object] | None
    strict: bool
    reference: Callable[..., object] | None
    tolerance: float | None
    facts: Facts


def _launch(reader: QuestionReader) -> Launch:
    if not callable(reader.given(FUNCTION)) and reader.has(FUNCTION):
        reader.add("not a kernel", FUNCTION, given=reader.given(FUNCTION), allowed="a function")
    inputs = reader.given(INPUTS)
    if not reader.has(ON_SYSTEM) and inputs is not None:
        reader.problems.add(
            "inputs of each rank need a system", fix='run_kernel(kernel, inputs=[...], system="trn3-gen2")'
        )
    reference = reader.given(REFERENCE_OF)
    if reference is not None and not callable(reference):
        reader.add("not a reference", REFERENCE_OF, given=reference, allowed="a function")
    if reference is not None and (reader.has(ON_SYSTEM) or (reader.get(RANKS) or 1) > 1):
        reader.add("a reference goes with one rank", REFERENCE_OF, fix="compare the outputs of each rank yourself")
    if reference is None and reader.has(FIT_TOLERANCE):
        reader.add("a tolerance goes with a reference", FIT_TOLERANCE)
    if inputs is not None and (isinstance(inputs, str) or not isinstance(inputs, Sequence)):
        reader.add("not a list of arguments", INPUTS, given=inputs, allowed="one entry for each rank")
    if reader.has(ON_SYSTEM) and reader.has(CALLED_TARGET):
        given = reader.given(CALLED_TARGET)
        reader.problems.add("system says which core runs: leave target out", given=given)
    reader.stop()
    facts = reader.source.facts
    assert facts is not None
    return reader.fill(Launch, form=form_of(reader), facts=facts)


LAUNCH = Schema(
    name="run_kernel",
    fields=(
        FUNCTION,
        CALLED_TARGET,
        CORES,
        CALLED_VERSION,
        WITH_VALUES,
        RANKS,
        HAS_CLOCK,
        ON_SYSTEM,
        INPUTS,
        STRICTLY,
        REFERENCE_OF,
        FIT_TOLERANCE,
    ),
    make=_launch,
    help="A kernel, run from Python.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugging(Request):
    """A kernel that Python debugs. first_difference: a function, a generator function or a kernel, None: nothing is
    compared; tolerance: of a difference, None: by the formats; strict: infinities and NaN that it makes are an
    error."""

    kernel: Callable[..., object]
    target: str | None
    lnc: int
    strict: bool
    tolerance: float | None
    stop: SourceLine | None
    tiles: tuple[TileName, ...]
    watch: TileName | None
    first_difference: Callable[..., object] | None


def _debugging(reader: QuestionReader) -> Debugging:
    for field in (FUNCTION, CALLED_REFERENCE):
        given = reader.given(field)
        if given is not None and not callable(given):
            reader.add("not a function", field, given=given, allowed="a kernel, or a function")
    check_debugging(reader, CALLED_REFERENCE)
    if not any(reader.given(field) for field in (STOP, PRINT, WATCH, CALLED_REFERENCE)):
        reader.problems.add(
            "nothing to look at", fix='say stop="kernel.py:42", tiles=["x"], watch="x" or first_difference=reference'
        )
    reader.stop()
    return reader.fill(Debugging, form=form_of(reader))


DEBUG = Schema(
    name="debug_kernel",
    fields=(
        *(FUNCTION, CALLED_TARGET, CORES, STRICTLY, FIT_TOLERANCE),
        *(STOP, PRINT, WATCH, CALLED_REFERENCE),
    ),
    make=_debugging,
    help="A kernel, stopped or compared from Python.",
)
