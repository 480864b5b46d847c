"""The clock's loops compiled from C: found, loaded and called. The sources are in `c/`; `tools/hatch_build.py` compiles
them when Mowich is installed.

The Python code of this package is the rule; the compiled code does the same to the last bit, faster. Without a C
compiler, or in a checkout that was not installed, the Python code runs. MOWICH_CLOCK=python asks for it,
MOWICH_CLOCK=compiled refuses to run without the compiled code. A library that was compiled from other sources than
those beside it is not used. Everything that goes over is a column or a row of integers.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError

HERE = Path(__file__).parent
SOURCES = HERE / "c"
LIBRARY = HERE / "_clock.so"
WORTH_SAYING = 50_000
"""Instructions from which on a user may wait noticeably longer for the Python code."""
DONE, NO_MEMORY, UNSUPPORTED, STUCK = range(4)
IS_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether stderr is for errors only (--quiet)."""
ANYWHERE = -(1 << 63)
"""An offset that is not known."""
ClockColumn = NDArray[np.int64]


def source_digest(sources: Path = SOURCES) -> str:
    """Of the C sources: a library says which ones it was compiled from."""
    made = hashlib.sha256()
    for path in sorted(sources.iterdir()):
        if path.suffix in (".c", ".h"):
            made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()


_INTEGER = ctypes.c_int64
_FUNCTIONS: Mapping[type[ctypes.c_int64] | type[ctypes.c_int] | None, str] = {
    ctypes.c_int: "program 2 schedule 2 path 2 lines 5 engines 3 merged 4 balanced 6 renewed 4 lives 4 peaks 4 growth 6"
    " agrees 5",
    _INTEGER: "others 7 number 4",
    None: "fill 8 numbers 3 places 6 index 4 unindex 5 free 1",
}
"""By what they return, the functions (`clock_program` ...), each with how many integers and addresses it takes."""


@cache
def loaded() -> tuple[ctypes.CDLL | None, str]:
    """The library, and what is wrong where there is none."""
    if not LIBRARY.exists():
        return None, "Mowich was installed without a C compiler, or not installed"
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.clock_sources.restype = ctypes.c_char_p
        compiled_from = library.clock_sources().decode()
    except (OSError, AttributeError) as error:
        return None, f"{LIBRARY.name}: {error}"
    if SOURCES.exists() and compiled_from != source_digest():
        return None, f"{LIBRARY.name} was compiled from other sources: install again"
    for result, told in _FUNCTIONS.items():
        for name, arguments in zip(told.split()[::2], told.split()[1::2], strict=True):
            function = getattr(library, f"clock_{name}")
            function.argtypes, function.restype = [ctypes.c_void_p] * int(arguments), result
    return library, ""


def library(instructions: int = 0) -> ctypes.CDLL | None:
    """The compiled code; None where the Python code shall run, which is said once on stderr for many instructions.
    Raises UserError where the environment asks for what is not there."""
    asked = os.environ.get("MOWICH_CLOCK", "")
    if asked == "python":
        return None
    if asked not in ("", "compiled"):
        raise UserError(f"MOWICH_CLOCK={asked}", fix="python, compiled, or nothing")
    found, reason = loaded()
    if found is None:
        if asked:
            raise UserError(f"MOWICH_CLOCK=compiled, but there is no compiled clock: {reason}")
        if instructions >= WORTH_SAYING and not IS_QUIET.get():
            say(reason)
    return found


@cache
def say(reason: str) -> None:
    """Once for each reason, on stderr: results are on stdout."""
    print(f"note: the kernel clock runs in Python, slowly: {reason}", file=sys.stderr)


def done(status: int) -> bool:
    """Whether the compiled code did it; False where the Python code has to. Raises MemoryError."""
    if status == NO_MEMORY:
        raise MemoryError
    return status == DONE


def is_done(function: Callable[..., int], *given: object) -> bool:
    """Whether the compiled code did what a call of it asks. given: structs, columns and integers. Raises
    MemoryError."""
    return done(
        function(*(by_reference(x) if isinstance(x, ctypes.Structure | ctypes.Array) else _word(x) for x in given))
    )


def rows(made: Sequence[Sequence[int]], width: int) -> ClockColumn:
    """Rows of integers, one after the other."""
    return np.array(made, np.int64).reshape(len(made), width)


def address(column: NDArray[np.generic] | array[int] | None) -> int:
    """Where a column begins, 0 where it is empty; whoever passes it on keeps the column."""
    if column is None or not len(column):
        return 0
    return column.buffer_info()[0] if isinstance(column, array) else begin(column)


def begin(column: NDArray[np.generic]) -> int:
    """The same of a column that is there."""
    found: int = column.__array_interface__["data"][0]
    return found


by_reference = ctypes.byref


def _word(given: Any) -> int:
    """An integer, or where a column begins."""
    if type(given) is array or type(given) is np.ndarray or given is None:
        return address(given)
    return int(given)


class Struct(ctypes.Structure):
    """A struct of the C code: integers and addresses, 64 bits each. names: of its fields; kept: what it was made of."""

    names: ClassVar[tuple[str, ...]] = ()
    kept: tuple[object, ...] = ()

    @classmethod
    def of(cls, owner: object, **given: object) -> Self:
        """One of these integers and columns, and for the other fields of those that an object has under their names."""
        found = [given[name] if name in given else getattr(owner, name) for name in cls.names]
        made = cls(*map(_word, found))
        made.kept = tuple(found)
        return made

    def take(self, name: str, code: str, count: int) -> array[int]:
        """A column that the C code made, as an array; its memory is freed."""
        out = array(code, [0]) * count
        where = getattr(self, name)
        if where:
            ctypes.memmove(out.buffer_info()[0], where, count * out.itemsize)
            found, _ = loaded()
            assert found is not None
            found.clock_free(where)
            setattr(self, name, 0)
        return out


def _struct(place: str, fields: str) -> type[Struct]:
    """The struct at a place in `c` ("file.c:Name"), with these fields (tests/property/test_clock_compiled.py compares
    them)."""
    names = tuple(fields.split())
    return type(place, (Struct,), {"_fields_": [(name, _INTEGER) for name in names], "names": names})


ProgramGiven = _struct(
    "program.c:Given",
    "instructions kinds storages tensors patterns forms kind touched kind_rows storage_form storage_rows form_of"
    " offset_of form_data form_at shapes special meetings meeting_rows explicit_edges explicit_rows window rotate"
    " bank_B sbuf_B psum_B spills farthest sink spare_B",
)
ProgramMade = _struct(
    "program.c:Made",
    "n edges costs usage_s usage_p cost origin first edge cost_rows place_of before_s level_s before_p level_p"
    " overflow_B spill_B peak_s peak_p",
)
CoreProgram = _struct("schedule.c:Program", "cost first edge instructions base chip is_tiled")
ScheduleGiven = _struct(
    "schedule.c:Given",
    "cores chips costs queues servers dma_engines window ps_per_KB tile_issue ramp meetings meeting_keys programs"
    " cost_rows transfer step server_of meeting_rows",
)
ScheduleMade = _struct("schedule.c:Made", "begin data end ready loading by data_by cause data_cause total")
ScheduleColumns = _struct(
    "latency.c:Schedule",
    "instructions cores units total semaphore trigger begin data end loading by data_by cause data_cause core cost"
    " offset base cost_rows parts",
)
PathColumns = _struct("latency.c:Path", "steps parts instruction start end cause first fact length")
SourceGiven = _struct("latency.c:Source", "origin site sites storages")
LinesMade = _struct("latency.c:Lines", "places parts place part")
TraceGiven = _struct("lower.c:Trace", "instructions storages sites kind site touched kind_rows storage_form is_free")
Renewed = _struct("lower.c:Renewed", "n after")
LivesGiven = _struct("lives.c:Trace", "instructions storages kind number touched kind_rows")
IterationGiven = _struct("repeat.c:Iteration", "instructions touches clock made forms kind site form number touched")
PlacesGiven = _struct("repeat.c:Places", "rows of_sample of_full has_corners")
GrowthColumns = _struct("repeat.c:Growth", "is_alike elsewhere moves offsets_n touched places which firsts offsets")
KeysGiven = _struct("repeat.c:Keys", "count bits keys slots")


@dataclass(slots=True)
class ScheduleToRead:
    """A schedule as the compiled code reads it. names: of facts, by their numbers there."""

    given: Struct
    names: list[str]
