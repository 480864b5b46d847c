"""Checks that tables of training and of serving share: blank cells, numbers, words from a closed list, and the refusal
that names the cell.

A cell that cannot be read is never replaced by a default: the error would then be that of another run than the one that
was measured. Blank cells mean "not stated" and are no concern of this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.errors import UserError, did_you_mean

PublishedRow = Mapping[str, str]
"""The cells of one row, by column; "" where nothing is stated."""

LARGEST_COUNT = 10**9
"""The largest count of anything in a table: chips, sequences, tokens of a vocabulary. Above it a cell is a slip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableForm:
    """The columns of a kind of table. required: without them a file is not such a table; metrics: what is measured;
    counts: whole numbers from 1; counts_from_zero: whole numbers that may be 0; amounts: further numbers."""

    required: tuple[str, ...]
    metrics: tuple[str, ...]
    counts: tuple[str, ...]
    counts_from_zero: tuple[str, ...]
    amounts: tuple[str, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that hold a number or nothing."""
        return (*self.counts, *self.counts_from_zero, *self.amounts, *self.metrics)


class RefusedError(Exception):
    """A row that cannot be modelled; the text is the reason shown."""


def refusal(column: str, given: str, allowed: str | Sequence[str], *, why: str = "") -> RefusedError:
    """The refusal of one cell: its column, what stands there, what is allowed, and the nearest allowed word.

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


PATTERN_COLUMNS = ("source", "model", "framework", "date", "chip", "precision")
"""Columns of a row of serving that a note may have a pattern of."""


def is_noted(note: Mapping[str, object], row: PublishedRow) -> bool:
    """Whether a note is about a row: each of its patterns is found in the column of its name, in any case."""
    return all(re.search(str(note[key]), row.get(key) or "", re.IGNORECASE) for key in PATTERN_COLUMNS if key in note)


def check_whole(row: PublishedRow, form: TableForm) -> None:
    """Raises RefusedError for the first cell of a count that is stated and no whole number up to `LARGEST_COUNT`."""
    for column in (*form.counts, *form.counts_from_zero):
        least = 0 if column in form.counts_from_zero else 1
        text = (row.get(column) or "").strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= LARGEST_COUNT or value % 1:
            raise refusal(column, text, f"a whole number from {least} to {LARGEST_COUNT:.0e}".replace("+0", ""))


def blank(row: PublishedRow, columns: Sequence[str], where: str) -> list[UserError]:
    """Cells that must not be."""
    return [UserError("must not be blank", where=f"{where}, column {c}") for c in columns if not row[c]]


LARGEST = 1e18
"""No cell of a measurement is larger: seconds, bytes, FLOP/s in TFLOP/s, tokens."""


def not_numbers(row: PublishedRow, columns: Sequence[str], where: str, *, whole: Sequence[str] = ()) -> list[UserError]:
    """Cells that hold something and no number from 0; of `whole`, no whole number from 1."""
    errors = []
    for column in columns:
        cell, place = row.get(column, ""), f"{where}, column {column}"
        if not cell:
            continue
        try:
            value = float(cell)
        except ValueError:
            errors.append(UserError("not a number", where=place, given=cell))
            continue
        if column in whole and (value < 1 or value % 1):
            errors.append(UserError("out of range", where=place, given=cell, allowed="a whole number from 1"))
        elif not 0 <= value <= LARGEST:  # nan neither
            errors.append(UserError("out of range", where=place, given=cell, allowed=f"a number from 0 to {LARGEST:g}"))
    return errors
