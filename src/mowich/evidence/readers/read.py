"""Chooses the reader of a file, and fills in the setup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mowich.errors import UserError, UserErrors, unknown
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
    records: list[MeasuredRecord] = []
    refused = list(reading.refused)
    problems: list[UserError] = []
    for record in reading.records:
        try:
            found = with_setup(record, setup)
        except UserError as error:
            problems.append(error)
            break  # the same is missing in every line of a file
        if isinstance(found, RefusedRecord):
            refused.append(found)
        else:
            records.append(found)
    if problems:
        raise problems[0]
    return replace(reading, records=tuple(records), refused=tuple(refused))


def read_files(paths: Sequence[Path], setup: Setup, name: str | None = None) -> list[Reading]:
    """The readings of all files; all their mistakes are reported at once."""
    out: list[Reading] = []
    problems: list[UserError] = []
    for path in paths:
        try:
            out.append(read_measurements(path, setup, name))
        except UserErrors as errors:
            problems += errors.errors
        except UserError as error:
            problems.append(error)
    if problems:
        raise problems[0] if len(problems) == 1 else UserErrors(problems)
    return out
