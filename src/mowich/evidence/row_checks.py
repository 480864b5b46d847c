"""The cells of one row of measurements of any kind: their words and numbers, and the refusal that names a cell.

A default never replaces an unreadable cell: the error would then belong to a run that nobody measured. Blank cells mean
"not stated"; this module does not judge them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from mowich.errors import UserError, did_you_mean
from mowich.files import shipped_yaml

PublishedRow = Mapping[str, str]
"""The cells of one row, by column; "" where nothing is stated."""


@cache
def words_of_rows(kind: str) -> Any:
    """What `words.yaml` says of the words of a kind of rows."""
    return shipped_yaml(Path(__file__).with_name("words.yaml"))[kind]


LARGEST_COUNT = 10**9
"""The largest count of anything in a table: chips, sequences, tokens of a vocabulary. A larger one is a misprint."""


class RefusedError(Exception):
    """A row that cannot be modelled; the text is the printed reason."""


C = TypeVar("C")


def read_or_why(read: Callable[[PublishedRow], C], row: PublishedRow) -> C | str:
    """The case of a row, or the reason why it is refused."""
    try:
        return read(row)
    except RefusedError as error:
        return str(error)
    except UserError as error:
        return error.what


def refusal(column: str, given: str, allowed: str | Sequence[str], *, why: str = "") -> RefusedError:
    """The refusal of one cell: its column, its text, what is allowed, and the nearest allowed word.

    >>> str(refusal("precision", "bf61", ["bf16", "fp8"]))
    "precision: 'bf61'; allowed: bf16, fp8; did you mean 'bf16'?"
    """
    text = f"{column}: '{given}'" + (f" {why}" if why else "")
    text += f"; allowed: {allowed if isinstance(allowed, str) else ', '.join(allowed)}"
    near = None if isinstance(allowed, str) else did_you_mean(given, allowed)
    return RefusedError(text + (f"; {near}" if near else ""))


def has_word(text: str, *words: str) -> bool:
    """Whether one of `words` (parts of regular expressions) stands in `text`, not inside a longer word.

    >>> has_word("fp8 (delayed)", "fp8"), has_word("fp8x", "fp8"), has_word("fp8_e4m3", "fp8")
    (True, False, True)
    """
    return bool(re.search(rf"(?<![a-z0-9])(?:{'|'.join(words)})(?![a-z0-9])", text.casefold()))


@cache
def note_pattern(text: str) -> re.Pattern[str]:
    """A pattern of a note; upper and lower case are equal."""
    return re.compile(text, re.IGNORECASE)


def fits_all(row: PublishedRow, patterns: Mapping[str, str]) -> bool:
    """Whether each pattern is found in the column of its name."""
    return all(note_pattern(text).search(row.get(column) or "") for column, text in patterns.items())


def cell_text(row: PublishedRow, column: str) -> str:
    """The words of a cell; "" where it holds none."""
    return (row.get(column) or "").strip()


def cell_number(row: PublishedRow, column: str) -> float | None:
    """The number in a cell; None where it holds none."""
    try:
        return float(cell_text(row, column))
    except ValueError:
        return None


def cell_count(row: PublishedRow, column: str) -> int:
    """The count in a cell of ranks, passes or sequences; 1 where it is blank."""
    return max(1, round(cell_number(row, column) or 1))


class Cells:
    """One row while it is read. inferred: "field=value (how)" for every field that the row does not state."""

    def __init__(self, row: PublishedRow) -> None:
        self.row = dict(row)
        self.inferred: list[str] = []

    def fill(self, field: str, value: object, how: str) -> None:
        self.inferred.append(f"{field}={value} ({how})")

    def text(self, column: str) -> str:
        return cell_text(self.row, column)

    def number(self, column: str) -> float | None:
        return cell_number(self.row, column)
