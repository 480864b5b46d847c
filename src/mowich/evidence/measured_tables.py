"""Tables of measurements: the kinds, the columns of each, the tables that ship, and how a file is read.

`columns.yaml` lists every column of every kind: its content, whether it is required, its allowed words, and what it
fills. One reader reads all tables by that list and reports every mistake of a file at once. Whether a row can be
modelled is decided later, row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from mowich.errors import ProblemList, UserError, unknown
from mowich.evidence.row_checks import LARGEST_COUNT, PublishedRow, refusal
from mowich.facts import Facts
from mowich.files import read_text, shipped_yaml

# the tables that ship
# ----------------------------------------------------------------------------------------------------------------------

SHIPPED = "published/training.csv"
"""How a result names the training rows that ship: constants and widths of intervals were fitted to them, so their
errors are in sample."""

TRAINIUM = "published/trainium_serving.csv"
"""How a result names the measured rows of serving on Trainium."""

TRAINIUM_COLLECTIVES = "published/trainium_collectives.csv"
"""How a result names the measured collectives among the cores of Trainium."""

METERED = "published/energy.csv"
"""How a result names the rows of metered power. They give the shares of provisioned power that chips draw."""

TABLES = {
    "training": SHIPPED,
    "trainium-serving": TRAINIUM,
    "trainium-collectives": TRAINIUM_COLLECTIVES,
    "energy": METERED,
}
"""Word for a table of measurements that ships -> its file, as results name it."""


def published(shown: str = SHIPPED) -> Path:
    """The file of measurements that ship under this name."""
    return Path(str(resources.files("mowich.facts"))) / shown


@cache
def shipped_rows(shown: str = SHIPPED) -> tuple[PublishedRow, ...]:
    """The rows of a shipped table, read without checks: tests check them."""
    with published(shown).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def shipped_as(path: str | Path | None) -> str | None:
    """How results name the shipped table that `path` means: none for those of training, a word of `TABLES`, or the
    name itself. None for any other file."""
    if path is None:
        return SHIPPED
    return TABLES.get(str(path)) or (str(path) if str(path) in TABLES.values() else None)


# kinds and their columns
# ----------------------------------------------------------------------------------------------------------------------

TableKind = Literal[
    "rl", "passes", "energy", "serving", "collectives", "forward", "collective", "ownership", "training"
]

LARGEST = 1e18
"""The largest number in a cell of a measurement: seconds, bytes, TFLOP/s or tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredColumn:
    """A line of `columns.yaml`, which says what each field means."""

    name: str
    holds: Literal["text", "count", "count0", "amount", "metric"] = "text"
    needed: Literal["", "column", "cell"] = ""
    needed_with: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allowed: Sequence[str] | Literal["metrics"] = ()
    called: str = ""
    says: str = ""
    whole: Literal["", "file"] = ""
    unit: str = ""
    fills: str = ""

    def is_needed(self, row: PublishedRow) -> bool:
        """Whether a row may not leave the cell blank."""
        return self.needed == "cell" or any(row.get(name) in words for name, words in self.needed_with.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """A kind of table, as `columns.yaml` has it."""

    kind: TableKind
    says: str
    columns: tuple[MeasuredColumn, ...]
    told_by: frozenset[str]
    told_by_any: frozenset[str]
    renamed: Mapping[str, str]
    copied: Mapping[str, str]

    def holding(self, *kinds: str) -> tuple[str, ...]:
        """Names of the columns that hold one of these, kind by kind."""
        return tuple(column.name for kind in kinds for column in self.columns if column.holds == kind)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns without which a file is not such a table."""
        return tuple(column.name for column in self.columns if column.needed)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns of measured figures."""
        return self.holding("metric")

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that hold a number or nothing."""
        return self.holding("count", "count0", "amount", "metric")

    def is_told_by(self, columns: Collection[str]) -> bool:
        """Whether a table with these columns is of this kind."""
        return self.told_by <= set(columns) and (not self.told_by_any or not self.told_by_any.isdisjoint(columns))

    def blank(self) -> dict[str, str]:
        """A row with only blank cells."""
        return {column.name: "" for column in self.columns}

    def check_whole(self, row: PublishedRow) -> None:
        """Raises RefusedError for the first stated count that is not a whole number up to `LARGEST_COUNT`."""
        for least, kind in ((1, "count"), (0, "count0")):
            for column in self.holding(kind):
                text = (row.get(column) or "").strip()
                value = _number(text) if text else least
                if value is None or not least <= value <= LARGEST_COUNT or value % 1:
                    raise refusal(column, text, f"a whole number from {least} to {LARGEST_COUNT:.0e}".replace("+0", ""))

    def wrong_cells(self, row: PublishedRow, where: str) -> list[UserError]:
        """The mistakes of a row: blank cells, words that are not allowed, cells that are not numbers."""
        at = {column.name: f"{where}, column {column.name}" for column in self.columns}
        errors = [
            UserError("must not be blank", where=at[column.name])
            for column in self.columns
            if column.is_needed(row) and not row.get(column.name)
        ]
        for column in self.columns:
            word, allowed = row.get(column.name, ""), column.allowed
            if allowed == "metrics":
                word, allowed = word.split(" ")[0], self.metrics
            if not word or not allowed or word in allowed:
                continue
            if column.called:
                errors.append(unknown(column.called, word, allowed, where=at[column.name]))
            else:
                errors.append(UserError(column.says, where=at[column.name], given=word, allowed=", ".join(allowed)))
        whole = {column.name for column in self.columns if column.whole}
        for name in self.numbers:
            cell = row.get(name, "")
            value = _number(cell)
            if not cell:
                continue
            if value is None:
                errors.append(UserError("not a number", where=at[name], given=cell))
            elif name in whole and (value < 1 or value % 1):
                errors.append(UserError("out of range", where=at[name], given=cell, allowed="a whole number from 1"))
            elif not 0 <= value <= LARGEST:  # nan neither
                allowed = f"a number from 0 to {LARGEST:g}"
                errors.append(UserError("out of range", where=at[name], given=cell, allowed=allowed))
        return errors

    def finished(self, row: dict[str, str]) -> dict[str, str]:
        """A row, with each copied column also under its other name."""
        row |= {other: row[name] for name, other in self.copied.items()}
        return {**row, "chip": chip_word(row.get("chip", ""))} if self.kind == "forward" else row


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@cache
def table_form(kind: TableKind) -> TableForm:
    """The kind of this name.

    >>> table_form("energy").required
    ('id', 'chip', 'n_chips', 'workload', 'scope')
    """
    found = shipped_yaml(Path(__file__).with_name("columns.yaml"))[kind]
    return TableForm(
        kind=kind,
        says=found["says"],
        columns=tuple(MeasuredColumn(name=name, **column) for name, column in found["columns"].items()),
        told_by=frozenset(found.get("told_by", ())),
        told_by_any=frozenset(found.get("told_by_any", ())),
        renamed=found.get("renamed", {}),
        copied=found.get("copied", {}),
    )


_ELSEWHERE: tuple[TableKind, ...] = ("collective", "ownership")
"""Kinds that `validate` does not read: files of other programs, and the shipped costs."""


def table_kind(columns: Collection[str]) -> TableKind:
    """The kind of a table with these columns, "training" by default.

    >>> table_kind(["W_per_chip", "chip"]), table_kind(["row_kind"]), table_kind(["id"])
    ('energy', 'rl', 'training')
    """
    asked = (kind for kind in get_args(TableKind) if kind not in _ELSEWHERE and table_form(kind).is_told_by(columns))
    return next(asked, "training")


# files
# ----------------------------------------------------------------------------------------------------------------------


def read_csv(path: Path, facts: Facts) -> list[PublishedRow]:
    """Rows of a table of measurements of any kind, told by its columns and checked at the edge.

    Raises UserError (one) or UserErrors (all at once), each with file:line: missing file, empty file, no rows, missing
    columns, a cell that is not a number, a repeated id, an unknown metric, no chip that is known.
    """
    name = str(path)
    reader = csv.DictReader(read_text(path, "table").splitlines(keepends=True), strict=True)
    try:
        columns = reader.fieldnames
        if not columns:
            needed = ", ".join(table_form("training").required)
            raise UserError("the file is empty", where=f"{name}:1", fix=f"a table needs the columns {needed}")
        form = table_form(table_kind(columns))
        rows: list[PublishedRow] = [row for _, row in checked_rows(name, form, reader)]
    except csv.Error as error:
        raise UserError(f"not a CSV table: {error}", where=f"{name}:{reader.line_num}") from error
    if form.kind == "passes":
        return named_rows(rows)
    if form.kind == "training" and not any(chip_reason(row["chip"], facts) is None for row in rows):
        try:
            facts.resolve_system(rows[0]["chip"])
        except UserError as error:
            raise UserError(error.what, where=f"{name}:2, column chip", allowed=error.allowed, fix=error.fix) from error
    return rows


def checked_rows(
    name: str, form: TableForm, reader: csv.DictReader[str], *, is_named: bool = True
) -> list[tuple[int, PublishedRow]]:
    """(line, row) of a table behind its header, by our names of columns; its numbers are read by `plain_number`.
    is_named: whether each row has an id and every column that the form needs; else a setup outside the file gives the
    rest. Raises UserError or UserErrors, each with file:line: missing columns, a ragged row, a wrong cell, a repeated
    id, no rows."""
    reader.fieldnames = columns = [form.renamed.get(c, c) for c in reader.fieldnames or ()]
    missing = [c for c in form.required if is_named and c not in columns]
    if missing:
        raise UserError(
            f"missing columns: {', '.join(missing)}",
            where=f"{name}:1",
            fix=f"a table of {form.says} measurements needs them",
        )
    numbers = form.numbers
    problems = ProblemList()
    rows: list[tuple[int, PublishedRow]] = []
    seen: dict[str, int] = {}
    for cells in reader:
        where = f"{name}:{reader.line_num}"
        if None in cells or any(value is None for value in cells.values()):
            stated = sum(v is not None for v in cells.values())
            problems.add("wrong number of cells", where=where, given=stated, allowed=str(len(columns)))
            continue
        row = {key: plain_number(value.strip()) if key in numbers else value.strip() for key, value in cells.items()}
        problems.found += form.wrong_cells(row, where)
        if is_named and "id" in row:
            if row["id"] in seen:
                problems.add(f"id '{row['id']}' is repeated (first on line {seen[row['id']]})", where=where)
            seen.setdefault(row["id"], reader.line_num)
        rows.append((reader.line_num, form.finished(row)))
    problems.stop()
    if not rows:
        raise UserError("no rows after the header", where=f"{name}:1")
    return rows


NOT_STATED = frozenset({"-", "--", "?", "n/a", "na", "nan", "none", "null", "unknown", "not stated", "tbd"})
"""Words that people and programs write for an empty cell."""


def plain_number(text: str) -> str:
    """A cell of numbers as `float` reads it: "" for a word that means nothing is stated, without commas between
    thousands.

    >>> plain_number("16,384"), plain_number("n/a"), plain_number("8.0"), plain_number("many")
    ('16384', '', '8.0', 'many')
    """
    if not text or text.casefold() in NOT_STATED:
        return ""
    return text.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text) else text


def named_rows(rows: Iterable[PublishedRow]) -> list[PublishedRow]:
    """Rows of passes, each with an id made of its cells, and numbered where several are equal."""
    seen: dict[str, int] = {}
    out: list[PublishedRow] = []
    for row in rows:
        words = (row["model"] or row["what"], row["shape"], row["chip"])
        name = row.get("id") or " ".join(word for word in words if word)
        seen[name] = seen.get(name, 0) + 1
        out.append({**row, "id": name if seen[name] == 1 else f"{name} #{seen[name]}"})
    return out


def chip_word(hardware: str) -> str:
    """The name of a chip in the words of a driver.

    >>> chip_word("NVIDIA B300 SXM6 AC"), chip_word("trn3")
    ('b300', 'trn3')
    """
    left = re.sub(r"\b(nvidia|amd|instinct|aws|google)\b", " ", hardware.casefold()).split()
    return left[0] if left else ""


def chip_reason(chip: str, facts: Facts) -> str | None:
    """None when the chip is known, else why not."""
    try:
        facts.resolve_system(chip)
    except UserError as error:
        return f"no facts for it: {error.what}; --facts adds a chip and its system" + (
            f"; {error.fix}" if error.fix else ""
        )
    return None


def is_time(metric: str) -> bool:
    """True when a larger figure is slower."""
    return metric.endswith(("step_time_s", "time_us"))
