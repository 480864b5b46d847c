"""A profile of Neuron Explorer: a folder of Parquet tables, of a kernel that ran on Trainium.

The measurement is the total time (`Summary.total_time`). The tables do not describe the kernel well enough to time it.
So the word `simulated` of a plan names Mowich's simulated profile of the same kernel (`mowich kernel profile ...
--parquet DIR`).
"""

from __future__ import annotations

from pathlib import Path

from mowich.evidence.readers.record import MeasuredRecord, Reading, cell
from mowich.neuroncore.explorer import total_time_s

NEURON_EXPLORER = "neuron-explorer"
"""The name of the format, which is a folder and not a file."""


def read_profile(folder: Path) -> Reading:
    """The time of a profile. Raises UserError for a folder without one."""
    cells = {"time_s": cell(total_time_s(folder))}
    record = MeasuredRecord(where=str(folder), kind="kernel", cells=cells)
    return Reading(file=str(folder), format=NEURON_EXPLORER, records=(record,))
