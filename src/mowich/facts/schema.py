"""What a fact file may contain, and the parsing of one leaf.

A leaf is a mapping with `value` (a count, or a string with a unit), `text`, or `ref` (the path of another fact).
Everything else that is a mapping is a group. Problems are collected with the path of the leaf; `load` adds file and
line.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

from mowich.errors import UserError, did_you_mean, placed
from mowich.estimate import GRADES
from mowich.facts import fields
from mowich.shown import Keyed
from mowich.units import UNITS

LEAF_KEYS = (
    "value",
    "text",
    "ref",
    "unit",
    "low",
    "high",
    "source",
    "locator",
    "date",
    "confirmed",
    "grade",
    "reason",
    "formula",
    "note",
)
_MOST = 10**300
"""A longer whole number of a file is not read: it is no float."""
IDENTITY_KEYS = ("id", "name", "vendor", "family", "display", "chip", "instance", "core", "note", "comment", "about")
"""Plain keys at the top of a file that say what it is about."""

CLAIM_WORDS = ("title", "topic")
"""Plain keys of a public claim: what a reader calls it, and what it speaks of."""


SOFTWARE_STATUSES = ("supported", "beta", "maintenance", "ended")
"""What a training stack or a serving engine may say of its support (`status`). maintenance: only critical errors are
mended; ended: support ended, with the release and the day in `ended`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Keyed):
    """A number with its source. value: SI float, text, or None when unknown (`reason` says why). unit: SI unit, "" for
    a count, "text" for words. low..high: range, where the number is disputed or estimated. grade: A to D, or "user".
    shown, shown_range: as written."""

    KEYS = "path shown shown_range value unit low high grade title address locator date formula reason note"

    path: str
    value: float | str | None
    unit: str
    low: float | None = None
    high: float | None = None
    grade: str | None = None
    source: str | None = None
    title: str = ""
    address: str = ""
    locator: str | None = None
    date: str | None = None
    reason: str | None = None
    formula: str | None = None
    note: str | None = None
    shown: str = ""
    shown_range: str = ""

    @property
    def as_written(self) -> str:
        """Value and range in the units of the file: "4.9 TB/s (4.7 TB/s .. 4.9 TB/s)"."""
        return f"{self.shown} ({self.shown_range})" if self.shown_range else self.shown


def is_leaf(node: object) -> TypeGuard[Mapping[str, object]]:
    """True for a mapping that is a fact, not a group of facts."""
    return isinstance(node, Mapping) and any(key in node for key in ("value", "text", "ref"))


def leaves(node: Mapping[str, object], prefix: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(path, leaf) of every fact under a group, in file order."""
    for key, child in node.items():
        path = f"{prefix}.{key}"
        if is_leaf(child):
            yield path, child
        elif isinstance(child, Mapping):
            yield from leaves(child, path)


def parse_leaf(
    path: str, leaf: Mapping[str, object], sources: Mapping[str, Mapping[str, object]], known: str | None = None
) -> Fact:
    """A leaf that is not a reference -> Fact. `known`: SI unit of the fact that is there, for errors. Raises UserError
    for an unknown key, a missing unit, an unknown unit, a range that does not hold the value, or a grade that does not
    exist."""
    for key in leaf:
        if key not in LEAF_KEYS:
            raise UserError(
                f"unknown key '{key}'", where=path, allowed=LEAF_KEYS, fix=did_you_mean(str(key), LEAF_KEYS)
            )
    grade = leaf.get("grade")
    if grade is not None and grade not in (*GRADES, "user"):
        raise UserError("unknown grade", where=path, given=grade, allowed=[*GRADES, "user"])
    _check_date(path, leaf.get("date"))
    _check_date(path, leaf.get("confirmed"))
    source_id = _text(leaf.get("source"))
    source = sources.get(source_id, {}) if source_id else {}
    fact = partial(
        Fact,
        path=path,
        grade=_text(grade),
        source=source_id,
        title=str(source.get("title", "")),
        address=str(source.get("address", "")),
        locator=_text(leaf.get("locator")),
        date=_text(leaf.get("date")),
        reason=_text(leaf.get("reason")),
        formula=_text(leaf.get("formula")),
        note=_text(leaf.get("note")),
    )
    if "text" in leaf:
        return fact(value=str(leaf["text"]), unit="text", shown=str(leaf["text"]))
    raw = leaf["value"]
    if raw is None:
        said = _text(leaf.get("unit"))
        if said is not None and said not in UNITS:
            raise UserError(f"unknown unit '{said}'", where=path, fix=did_you_mean(said, UNITS))
        return fact(value=None, unit=UNITS[said].unit if said else "", shown="?")
    value, unit = _number(raw, path, known)
    low, high = _range(path, leaf, value, unit, known)
    written = f"{leaf['low']} .. {leaf['high']}" if low is not None and low != high else ""
    return fact(value=value, unit=unit, low=low, high=high, shown=str(raw), shown_range=written)


def _range(
    path: str, leaf: Mapping[str, object], value: float, unit: str, known: str | None
) -> tuple[float | None, float | None]:
    """Both ends of the range of a leaf; None where it has none. Raises UserError for half of one, for another unit than
    the value's, and where the value lies outside."""
    ends: list[float] = []
    for end in ("low", "high"):
        if end in leaf:
            number, end_unit = _number(leaf[end], f"{path}.{end}", known)
            if end_unit != unit:
                what = f"{end} measures {end_unit or 'a count'}, the value {unit or 'a count'}"
                raise UserError(what, where=path, given=leaf[end])
            ends.append(number)
    if not ends:
        return None, None
    if len(ends) == 1:
        raise UserError("a range needs both low and high", where=path)
    low, high = ends
    if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
        raise UserError(f"value {leaf['value']} lies outside its range {leaf['low']} .. {leaf['high']}", where=path)
    return low, high


def _number(raw: object, where: str, known: str | None) -> tuple[float, str]:
    """A count (bare number) or a quantity string -> (SI value, unit)."""
    if isinstance(raw, bool):
        raise UserError("not a number", where=where, given=raw)
    if isinstance(raw, int | float):
        if (isinstance(raw, int) and abs(raw) > _MOST) or not math.isfinite(raw):
            raise UserError("not a finite number", where=where, given=str(raw)[:40])
        return float(raw), ""
    if not isinstance(raw, str):
        raise UserError("not a quantity", where=where, given=raw, allowed='a number and a unit, "4.9 TB/s"')
    with placed(where):
        return fields.read_fact_quantity(where, raw, known)


def _check_date(path: str, date: object) -> None:
    """Raise UserError for what looks like a day, or a month, that the calendar does not have. Other words ("undated
    snapshot") may stand there."""
    match = re.fullmatch(r"(\d{4})-(\d\d)(?:-(\d\d))?", str(date).strip())
    if match:
        try:
            datetime.date(int(match[1]), int(match[2]), int(match[3] or 1))
        except ValueError:
            raise UserError("no day of the calendar", where=path, given=str(date), allowed="YYYY-MM-DD") from None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def check_fact(path: str, fact: Fact, known: str | None = None) -> None:
    """Raise UserError, without a place, where the field at `path` cannot hold a fact: its unit, its value or an end of
    its range. `known`: SI unit of the fact that is there. The path is another than the fact's own where it refers to
    that."""
    ends = [end for end in (fact.value, fact.low, fact.high) if isinstance(end, float)]
    if ends or (fact.value is None and fact.unit):
        fields.check_unit(path, fact.unit, fact.shown if fact.path == path and ends else fact.unit, known)
    for end in ends:
        fields.check_value(path, end, fact.unit)


_DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LastLook(Keyed):
    """A fact and the last look at it. value: as written; confirmed: day, None where no source says one; age_days: on
    the day that is asked for, None likewise; source, title, host: where it is from, "" for what is not known; search:
    words to search for."""

    path: str
    value: str
    confirmed: datetime.date | None
    age_days: int | None
    source: str
    title: str
    host: str
    search: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessLimit:
    """Which facts are old on the day `as_of`: those that were looked at more than `older_than_s` seconds before, and
    those without a day."""

    older_than_s: float
    as_of: datetime.date

    def old(self, looks: Iterable[LastLook]) -> tuple[LastLook, ...]:
        """The looks that are longer ago."""
        return tuple(x for x in looks if x.age_days is None or x.age_days * _DAY_S > self.older_than_s)
