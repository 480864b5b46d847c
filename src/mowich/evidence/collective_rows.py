"""Measured collectives among the cores of Trainium: each row of a table becomes a question to `collective_times`, whose
answer is compared with the measurement.

A row states chip, kind, bytes, ranks, the place in words (`topology`: instance and cores of a rank, LNC) and the timed
layer of software. `measured_us` is a time, `busbw_GBps` alone a peak over sizes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.evidence.collective_times import CollectiveMachine, timed
from mowich.evidence.row_checks import PublishedRow, RefusedError, note_pattern, read_or_why, refusal, words_of_rows
from mowich.evidence.scores import RowResult
from mowich.facts import Facts
from mowich.machines.collectives import COLLECTIVE_KINDS, bus_factor
from mowich.machines.system import core_groups, resolve
from mowich.progress import steps

PEAK_B = 2**31
"""Bytes at which a peak over sizes is predicted: the largest buffer of the tables."""

_BUS_AGREES = 0.1
"""How far a printed bus bandwidth, which has two decimals, may lie from that of its buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCollective:
    """A row as a question. kind: our word; data_B: the whole buffer, over all ranks; ranks: of `lnc` physical cores;
    time_s: measured; is_peak: the row states the highest bus bandwidth over sizes."""

    runs_on: CollectiveMachine
    kind: str
    data_B: float
    ranks: int
    time_s: float
    is_peak: bool


def read_collective_row(row: PublishedRow, facts: Facts) -> MeasuredCollective:
    """A row, read. Raises RefusedError for a row that is no collective of a library, and for unknown words."""
    words = words_of_rows("collectives")
    kind = words["kinds"].get(row["kind"], row["kind"])
    if kind not in COLLECTIVE_KINDS:
        raise refusal("kind", row["kind"], [*COLLECTIVE_KINDS, *words["kinds"]])
    layer = next((name for said, name in words["layers"].items() if note_pattern(said).search(row["layer"])), None)
    if layer is None:
        raise refusal("layer", row["layer"], list(words["layers"]))
    ranks = int(float(row["ranks"]))
    if ranks < 2:
        raise refusal("ranks", row["ranks"], "2 or more")
    runs_on = _machine(row, ranks, layer, facts)
    is_peak = not row["measured_us"]
    if not (row.get("busbw_GBps") if is_peak else row["bytes"]):
        raise RefusedError("neither a time of some bytes nor a peak of bus bandwidth is stated")
    data_B = float(PEAK_B) if is_peak else _whole_buffer_B(row, kind, ranks)
    time_s = (
        bus_factor(kind, ranks) * data_B / (float(row["busbw_GBps"]) * 1e9)
        if is_peak
        else float(row["measured_us"]) / 1e6
    )
    return MeasuredCollective(runs_on=runs_on, kind=kind, data_B=data_B, ranks=ranks, time_s=time_s, is_peak=is_peak)


def _machine(row: PublishedRow, ranks: int, layer: str, facts: Facts) -> CollectiveMachine:
    """The chips that the ranks of a row fill, on the named instance, else on its chip."""
    named = re.search(r"\btrn\d\w*\.\w+", row["topology"])
    on = named[0] if named else row["chip"]
    try:
        system = resolve(facts, on)
    except UserError as error:
        raise refusal("topology" if named else "chip", on, error.what) from error
    groups = core_groups(facts, system.chip)
    if groups is None:
        raise refusal("chip", row["chip"], "a chip of NeuronCores")
    stated = re.search(r"\bLNC ?= ?(\d)|\bLNC(\d)", row["topology"])
    lnc = int(stated[1] or stated[2]) if stated else system.lnc
    if lnc not in groups.sizes:
        raise refusal("topology", f"LNC {lnc}", [f"LNC {size}" for size in groups.sizes])
    return CollectiveMachine(on=system.id, chips=-(-ranks // groups.devices(lnc)), layer=layer, lnc=lnc)


def _whole_buffer_B(row: PublishedRow, kind: str, ranks: int) -> float:
    """The whole buffer of a row. A gather's column states what each rank sends, unless a printed bus bandwidth fits
    only the other reading."""
    stated, bus = float(row["bytes"]), float(row.get("busbw_GBps") or 0.0)
    if bus >= 1.0 and row["measured_us"]:
        for data_B in (stated, stated * ranks):
            made = bus_factor(kind, ranks) * data_B / float(row["measured_us"]) / 1e3
            if abs(made / bus - 1.0) < _BUS_AGREES:
                return data_B
    return stated * ranks if kind == "all-gather" else stated


def validate_collectives(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """Every row with its prediction."""
    return [_predict(row, facts) for row in steps(rows, "predicting collectives")]


def _predict(row: PublishedRow, facts: Facts) -> RowResult:
    case = read_or_why(lambda cells: read_collective_row(cells, facts), row)
    if isinstance(case, str):
        return RowResult.refused(row, case, "time_us")[0]
    (found,), _, _ = timed(facts, case.runs_on, case.kind, [round(case.data_B)], case.ranks)
    return RowResult.scored(
        row,
        found,
        metric="time_us",
        measured=case.time_s,
        scale=1e6,
        kind=case.kind,
        inferred=("bytes",) if case.is_peak else (),
        fully_specified=not case.is_peak,
        stack=f"{case.runs_on.layer}, {'64 MiB and more' if case.data_B >= BULK_B else 'less than 64 MiB'}",
    )


BULK_B = 2**26
"""Buffers of 64 MiB and more are judged apart: smaller ones spend most of their time on the call and its latency."""
