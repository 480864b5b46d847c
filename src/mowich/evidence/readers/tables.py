"""Our own CSV tables: training and serving rows as `mowich validate` reads them, measured collectives and forward
passes."""

from __future__ import annotations

import csv
from typing import Literal

from mowich.errors import UserError
from mowich.evidence.measured_tables import TableForm, checked_rows, table_form
from mowich.evidence.readers.record import FileFormat, MeasuredRecord, Reading, RecordKind


def _columns(text: str) -> list[str]:
    """The header of a table; empty where the first line is not a header."""
    first = text.split("\n", 1)[0]
    return next(csv.reader([first]), []) if "," in first else []


_KINDS: tuple[Literal["collective", "forward", "serving", "training"], ...] = (
    "collective",
    "forward",
    "serving",
    "training",
)


def _form(columns: list[str]) -> tuple[RecordKind, TableForm] | None:
    for kind, form in ((kind, table_form(kind)) for kind in _KINDS):
        if form.is_told_by(columns) and (kind != "serving" or "chip" in columns):
            return kind, form
    return None


def looks(text: str) -> bool:
    """Whether a text begins with the header of one of our tables."""
    return _form(_columns(text)) is not None


def read(file: str, text: str) -> Reading:
    """Every row. Raises UserError or UserErrors, each with its line, as `mowich validate` does."""
    found = _form(_columns(text))
    if found is None:
        raise UserError(
            "not one of our tables",
            where=f"{file}:1",
            allowed="a header with primary_metric (training), tpot_ms or ttft_ms (serving), kind, bytes, time_us, or"
            " measured_ms, decode_requests (forward passes)",
        )
    kind, form = found
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        records = _records(file, kind, form, reader)
    except csv.Error as error:
        raise UserError(f"not a CSV table: {error}", where=f"{file}:{reader.line_num}") from error
    return Reading(file=file, format="csv", records=records)


def _records(file: str, kind: RecordKind, form: TableForm, reader: csv.DictReader[str]) -> tuple[MeasuredRecord, ...]:
    is_named = kind in ("training", "serving") or (kind == "collective" and "id" in (reader.fieldnames or ()))
    rows = checked_rows(file, form, reader, is_named=is_named)
    return tuple(MeasuredRecord(where=f"{file}:{line}", kind=kind, cells=row) for line, row in rows)


OUR_TABLES = FileFormat(
    name="csv", says="a table of ours: training, serving, collectives or forward passes", looks=looks, read=read
)
