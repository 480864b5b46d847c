"""The clock's loops compiled from C. The sources are in `c/`. How they are compiled, found and called:
`mowich.compiled`.

The Python code of this package is the rule. MOWICH_CLOCK=python asks for it, MOWICH_CLOCK=compiled refuses to run
without the compiled code. Everything that goes over is a column or a row of integers.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.compiled import CompiledLibrary, CompiledStruct, address, begin, by_reference, c_struct, done, is_done

__all__ = ["address", "begin", "by_reference", "done", "is_done"]

DONE, NO_MEMORY, UNSUPPORTED, STUCK = range(4)
WORTH_SAYING = 50_000
"""Instructions from which on a user may wait noticeably longer for the Python code."""
ANYWHERE = -(1 << 63)
"""An offset that is not known."""
ClockColumn = NDArray[np.int64]

CLOCK = CompiledLibrary(
    what="kernel clock",
    path=Path(__file__).parent / "_clock.so",
    prefix="clock",
    variable="MOWICH_CLOCK",
    functions={
        ctypes.c_int: "program 2 schedule 2 path 2 lines 5 engines 3 merged 4 balanced 6 renewed 4 lives 4 peaks 4"
        " growth 6 agrees 5",
        ctypes.c_int64: "others 7 number 4",
        None: "fill 8 numbers 3 places 6 index 4 unindex 5 free 1",
    },
    worth_saying=WORTH_SAYING,
)
loaded, library = CLOCK.loaded, CLOCK.library


def rows(made: Sequence[Sequence[int]], width: int) -> ClockColumn:
    """Rows of integers, one after the other."""
    return np.array(made, np.int64).reshape(len(made), width)


class Struct(CompiledStruct):
    """A struct of the clock: integers and addresses."""

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
    return c_struct(Struct, place, fields)


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
