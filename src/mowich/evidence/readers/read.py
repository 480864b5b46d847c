"""Chooses the reader of a file, and fills in the setup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mowich.errors import ProblemList, UserError, unknown
from mowich.evidence.readers import aiperf, bench, collective_tests, forward_passes, server_logs, tables, training_logs
from mowich.evidence.readers.explorer import NEURON_EXPLORER, read_profile
from mowich.evidence.readers.record import FileFormat, MeasuredRecord, Reading, RefusedRecord
from mowich.evidence.readers.setup import Setup, setup_beside, with_setup
from mowich.files import read_unpacked

FILE_FORMATS: tuple[FileFormat, ...] = (
    forward_passes.FORWARD_METRICS,
    aiperf.AIPERF,
    aiperf.AIPERF_CSV,
    bench.INFERENCEX,
    bench.LLMPERF,
    bench.SGLANG,
    bench.VLLM,
    server_logs.VLLM_TABLE,
    server_logs.VLLM_SERVER,
    tables.OUR_TABLES,
    collective_tests.NCCL,
    collective_tests.NCCOM,
    training_logs.MEGATRON,
    training_logs.MAXTEXT,
    training_logs.TORCHTITAN,
)
"""Readers in the order in which they try a file; none may accept a file of another format."""

FORMAT_NAMES = tuple(f.name for f in FILE_FORMATS)


def read_measurements(path: Path, setup: Setup, name: str | None = None) -> Reading:
    """The measurements of a file; `setup` fills in what it leaves open. name: of its format, None: by its content.
    Raises UserError or UserErrors, each one line with file and line, for a file that is malformed, of no known format,
    or incomplete."""
    return _filled(read_stated(path, name), path, setup)


def read_stated(path: Path, name: str | None = None) -> Reading:
    """Only what a file states. Raises UserError or UserErrors, each one line with file and line, for a file that is
    malformed or of no known format."""
    if name is not None and name not in (*FORMAT_NAMES, NEURON_EXPLORER):
        raise unknown("format", name, (*FORMAT_NAMES, NEURON_EXPLORER))
    if path.is_dir() or name == NEURON_EXPLORER:
        return read_profile(path)
    file = str(path)
    text = read_unpacked(path, "table")
    if not text.strip():
        raise UserError("the file is empty", where=file)
    known = next((f for f in FILE_FORMATS if (f.name == name if name else f.looks(text))), None)
    if known is None:
        raise UserError(
            "not a file of measurements that is known",
            where=file,
            allowed="; ".join([*(f"{f.name} ({f.says})" for f in FILE_FORMATS), "a folder of Neuron Explorer tables"]),
            fix="--format NAME names it",
        )
    return known.read(file, text)


def _filled(reading: Reading, path: Path, setup: Setup) -> Reading:
    """A reading, completed from the setup file and the options."""
    setup = setup_beside(path).over(setup)
    found = [with_setup(record, setup) for record in reading.records]
    refused = [one for one in found if isinstance(one, RefusedRecord)]
    records = tuple(one for one in found if isinstance(one, MeasuredRecord))
    return replace(reading, records=records, refused=(*reading.refused, *refused))


def read_files(paths: Sequence[Path], setup: Setup, name: str | None = None) -> list[Reading]:
    """The readings of all files; all their mistakes are reported at once."""
    out: list[Reading] = []
    problems = ProblemList()
    for path in paths:
        with problems.watch():
            out.append(read_measurements(path, setup, name))
    problems.stop()
    return out
