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
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    library.clock_free.argtypes = [ctypes.c_void_p]
    library.clock_free.restype = None
    library.clock_merged.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    library.clock_balanced.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 5]
    library.clock_sums.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 4]
    library.clock_sums.restype = None
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    library.clock_growth.argtypes = [pointer, pointer, pointer, pointer, integer, pointer]
    library.clock_agrees.argtypes = [pointer] * 5
    library.clock_fill.argtypes = [pointer, pointer, integer, integer, integer, pointer, pointer, pointer]
    library.clock_fill.restype = None
    library.clock_others.argtypes = [pointer, pointer, integer, pointer, integer, integer, pointer]
    library.clock_others.restype = integer
    library.clock_places.argtypes = [pointer, integer, integer, integer, pointer, pointer]
    library.clock_places.restype = None
    library.clock_index.argtypes = [pointer, integer, pointer, integer]
    library.clock_unindex.argtypes = [pointer, integer, integer, pointer, integer]
    library.clock_index.restype = library.clock_unindex.restype = None
    library.clock_number.argtypes = [pointer, integer, pointer, integer]
    library.clock_number.restype = integer
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


def rows(made: Sequence[Sequence[int]], width: int) -> ClockColumn:
    """Rows of integers, one after the other."""
    return np.array(made, np.int64).reshape(len(made), width)


def as_column(numbers: array[int]) -> ClockColumn:
    """The numbers of an array, 64 bits each: without a copy where they have that."""
    return np.frombuffer(numbers, numbers.typecode).astype(np.int64, copy=False) if numbers else np.zeros(0, np.int64)


def address(column: NDArray[np.generic] | array[int] | None) -> int | None:
    """Where a column begins; whoever passes it on keeps the column."""
    if column is None or not len(column):
        return None
    return column.buffer_info()[0] if isinstance(column, array) else begin(column)


def begin(column: NDArray[np.generic]) -> int:
    """The same of a column that is there."""
    found: int = column.__array_interface__["data"][0]
    return found


by_reference = ctypes.byref
address_of = ctypes.addressof


def pointer(column: NDArray[np.generic] | array[int]) -> ctypes.c_void_p:
    """An address as an argument of its own."""
    return ctypes.c_void_p(address(column))


class Struct(ctypes.Structure):
    """A struct of the C code: integers and addresses."""

    def take(self, name: str, code: str, count: int) -> array[int]:
        """A column that the C code made, as an array; its memory is freed."""
        out = array(code, [0]) * count
        where = getattr(self, name)
        if where:
            ctypes.memmove(out.buffer_info()[0], where, count * out.itemsize)
            found, _ = loaded()
            assert found is not None
            found.clock_free(where)
            setattr(self, name, None)
        return out


def _fields(numbers: str, addresses: str = "", more: str = "") -> list[tuple[str, type]]:
    """Fields of a struct: integers, addresses, integers."""
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    return [
        *((n, integer) for n in numbers.split()),
        *((n, pointer) for n in addresses.split()),
        *((n, integer) for n in more.split()),
    ]


class ProgramGiven(Struct):
    """`Given` of program.c."""

    _fields_ = [
        *_fields(
            "instructions kinds storages tensors patterns forms",
            "kind touched kind_rows storage_form storage_rows form_of offset_of form_data form_at shapes special",
            "meetings",
        ),
        *_fields("", "meeting_rows", "explicit_edges"),
        *_fields("", "explicit_rows", "window rotate bank_B sbuf_B psum_B spills farthest sink spare_B"),
    ]


class ProgramMade(Struct):
    """`Made` of program.c."""

    _fields_ = _fields(
        "n edges costs usage_s usage_p",
        "cost origin first edge cost_rows place_of before_s level_s before_p level_p",
        "overflow_B spill_B peak_s peak_p",
    )


class TraceGiven(Struct):
    """`Trace` of lower.c."""

    _fields_ = _fields("instructions storages sites", "kind site touched kind_rows storage_form is_free")


class LivesGiven(Struct):
    """`Trace` of lives.c."""

    _fields_ = _fields("instructions storages", "kind number touched kind_rows")


class IterationGiven(Struct):
    """`Iteration` of repeat.c."""

    _fields_ = _fields("instructions touches clock made forms", "kind site form number touched")


class PlacesGiven(Struct):
    """`Places` of repeat.c."""

    _fields_ = _fields("", "rows of_sample of_full", "has_corners")


class GrowthColumns(Struct):
    """`Growth` of repeat.c."""

    _fields_ = _fields("is_alike elsewhere moves offsets_n", "touched places which firsts offsets")


class KeysGiven(Struct):
    """`Keys` of repeat.c."""

    _fields_ = _fields("count bits", "keys slots")


class Renewed(Struct):
    """`Renewed` of lower.c."""

    _fields_ = _fields("n", "after")


class CoreProgram(Struct):
    """`Program` of schedule.c."""

    _fields_ = _fields("", "cost first edge", "instructions base chip is_tiled")


class ScheduleGiven(Struct):
    """`Given` of schedule.c."""

    _fields_ = _fields(
        "cores chips costs queues servers dma_engines window ps_per_KB tile_issue ramp meetings meeting_keys",
        "programs cost_rows transfer step server_of meeting_rows",
    )


class ScheduleMade(Struct):
    """`Made` of schedule.c."""

    _fields_ = _fields("", "begin data end ready loading by data_by cause data_cause", "total")


class ScheduleColumns(Struct):
    """`Schedule` of latency.c."""

    _fields_ = _fields(
        "instructions cores units total semaphore trigger",
        "begin data end loading by data_by cause data_cause core cost offset base cost_rows parts",
    )


@dataclass(slots=True)
class ScheduleToRead:
    """A schedule as the compiled code reads it. names: of facts, by their numbers there; kept: what `given` points at,
    beside the schedule's own columns."""

    given: ScheduleColumns
    names: list[str]
    kept: list[NDArray[np.generic]]


class PathColumns(Struct):
    """`Path` of latency.c."""

    _fields_ = _fields("steps parts", "instruction start end cause first fact length")


class SourceGiven(Struct):
    """`Source` of latency.c."""

    _fields_ = _fields("", "origin site", "sites storages")


class LinesMade(Struct):
    """`Lines` of latency.c."""

    _fields_ = _fields("places parts", "place part")
