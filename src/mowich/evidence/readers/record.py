"""One measurement as a file states it, and the reading of a whole file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from mowich.errors import UserError
from mowich.evidence.row_checks import RefusedError

RecordKind = Literal["training", "serving", "collective", "kernel", "forward"]

D = TypeVar("D")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRecord:
    """One measurement. where: file, and the line where the file has lines; cells: by column of the tables of its kind,
    "" or missing where the file does not state it."""

    where: str
    kind: RecordKind
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A measurement that contradicts itself, or cannot be modelled."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The reading of a file. format: its name; refused: measurements that the reader itself refused."""

    file: str
    format: str
    records: tuple[MeasuredRecord, ...]
    refused: tuple[RefusedRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """A format. name: the word of `--format`; says: what writes it; looks: whether a text is of this format; read: its
    measurements, from the name of the file and its text. `read` raises UserError, with file and line, for another
    format."""

    name: str
    says: str
    looks: Callable[[str], bool]
    read: Callable[[str, str], Reading]


def read_each(
    file: str,
    name: str,
    kind: RecordKind,
    found: Iterable[tuple[str, D]],
    cells: Callable[[D, str], Mapping[str, str]],
) -> Reading:
    """The reading of a file from its measurements. name: of the format; found: (place, what stands there); cells: the
    cells of one, from what stands there and its place. It raises RefusedError for a measurement that contradicts
    itself."""
    records: list[MeasuredRecord] = []
    refused: list[RefusedRecord] = []
    for where, data in found:
        try:
            records.append(MeasuredRecord(where=where, kind=kind, cells=cells(data, where)))
        except RefusedError as error:
            refused.append(RefusedRecord(where=where, reason=str(error)))
    return Reading(file=file, format=name, records=tuple(records), refused=tuple(refused))


def log_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, text) of every line without terminal colours."""
    for number, line in enumerate(text.splitlines(), 1):
        yield number, re.sub(r"\x1b\[[0-9;]*m", "", line)


def log_figure(text: str, where: str, what: str, least: float = -math.inf) -> float:
    """A finite number of a log, from `least` on, without commas between thousands. Raises UserError."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{what} is not a number", where=where, given=text)
    if value < least:
        raise UserError(f"{what} is below {least:g}", where=where, given=text)
    return value


def cell(value: float | int | str | None) -> str:
    """A value as a cell of a table; "" for none."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.10g}"


def not_of_format(name: str, file: str, wanted: str) -> UserError:
    """The error for a file that holds nothing of the expected format."""
    return UserError(f"holds no measurement of {name}", where=file, allowed=wanted)
