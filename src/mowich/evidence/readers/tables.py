"""Our own CSV tables: training and serving rows as `mowich validate` reads them, measured collectives and forward
passes."""

from __future__ import annotations

import csv

from mowich.errors import UserError, UserErrors
from mowich.evidence import serving_validate
from mowich.evidence.forward_passes import FORWARD_TABLE, check_forward_row, chip_word, forward_columns, is_forward
from mowich.evidence.readers.record import COLLECTIVE_TABLE, FileFormat, MeasuredRecord, Reading, RecordKind
from mowich.evidence.row_checks import PublishedRow, TableForm, blank, not_numbers
from mowich.evidence.row_rules import TRAINING
from mowich.evidence.serving_rows import SERVING
from mowich.evidence.validate import check_training_row, checked_rows

_RENAMED = {"chip": "system"}
"""Columns of collectives that other tables of ours call by another name."""


def _columns(text: str) -> list[str]:
    """The header of a table; empty where the first line is none."""
    first = text.split("\n", 1)[0]
    return next(csv.reader([first]), []) if "," in first else []


def _kind(columns: list[str]) -> tuple[RecordKind, TableForm] | None:
    renamed = [_RENAMED.get(c, c) for c in columns]
    if {"kind", "bytes", "time_us"} <= set(renamed):
        return "collective", COLLECTIVE_TABLE
    if is_forward(columns):
        return "forward", FORWARD_TABLE
    if serving_validate.is_serving(columns) and "chip" in columns:
        return "serving", SERVING
    return ("training", TRAINING) if "primary_metric" in columns else None


def looks(text: str) -> bool:
    """Whether a text begins with the header of one of our tables."""
    return _kind(_columns(text)) is not None


def read(file: str, text: str) -> Reading:
    """Every row. Raises UserError or UserErrors, each with its line, as `mowich validate` does."""
    found = _kind(_columns(text))
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
    if kind == "forward":
        reader.fieldnames = forward_columns(reader.fieldnames or ())
        return _unnamed(file, kind, reader)
    if kind == "collective":
        reader.fieldnames = [_RENAMED.get(c, c) for c in reader.fieldnames or ()]
        if "id" not in reader.fieldnames:
            return _unnamed(file, kind, reader)
    check = {"training": check_training_row, "serving": serving_validate.check_serving_row}.get(kind, _check)
    rows = checked_rows(file, kind, list(reader.fieldnames or ()), reader, form, check)
    return tuple(MeasuredRecord(where=f"{file}:{line}", kind=kind, cells=row) for line, row in rows)


def _unnamed(file: str, kind: RecordKind, reader: csv.DictReader[str]) -> tuple[MeasuredRecord, ...]:
    """Rows that need no id."""
    errors: list[UserError] = []
    records = []
    for cells in reader:
        where = f"{file}:{reader.line_num}"
        if None in cells or any(value is None for value in cells.values()):
            errors.append(UserError("wrong number of cells", where=where, allowed=str(len(reader.fieldnames or ()))))
            continue
        row = {key: value.strip() for key, value in cells.items()}
        if kind == "forward":
            row["chip"] = chip_word(row.get("chip", ""))
        errors += (check_forward_row if kind == "forward" else _check)(row, where)
        records.append(MeasuredRecord(where=where, kind=kind, cells=row))
    if errors:
        raise errors[0] if len(errors) == 1 else UserErrors(errors)
    if not records:
        raise UserError("no rows after the header", where=f"{file}:1")
    return tuple(records)


def _check(row: PublishedRow, where: str) -> list[UserError]:
    return blank(row, ("kind", "bytes", "time_us"), where) + not_numbers(row, COLLECTIVE_TABLE.numbers, where)


OUR_TABLES = FileFormat(
    name="csv", says="a table of ours: training, serving, collectives or forward passes", looks=looks, read=read
)
