"""A profile of Neuron Explorer: a folder of Parquet tables, of a kernel that ran on Trainium.

The measurement is the time of the whole (`Summary.total_time`). The tables do not say what the kernel is in a form that
can be timed, so the profile of the same kernel that Mowich simulated stands beside it (`mowich kernel profile ...
--parquet DIR`), named by the word `simulated` of a plan.
"""

from __future__ import annotations

from pathlib import Path

from mowich.evidence.readers.record import MeasuredRecord, Reading, cell
from mowich.neuroncore.explorer import total_time_s

NEURON_EXPLORER = "neuron-explorer"
"""The name of the format: of a folder, not of a file."""


def read_profile(folder: Path) -> Reading:
    """The time of a profile. Raises UserError for a folder without one."""
    cells = {"time_s": cell(total_time_s(folder))}
    record = MeasuredRecord(where=str(folder), kind="kernel", cells=cells)
    return Reading(file=str(folder), format=NEURON_EXPLORER, records=(record,))
