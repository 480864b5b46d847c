"""Forecasts that are frozen before anybody measured, and what came of them.

A ledger is a text file, a JSON object a line. A line is either a forecast (a question, the number that it asks for, its
answer with its 90% range) or what was measured later. Each line holds the digest of the line before it and its own, so
a line that is changed, taken out or put in between is told. Lines are added at the end, and nothing is rewritten: a
forecast that turned out wrong stays.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Literal

from mowich.errors import UserError, unknown
from mowich.estimate import Estimate, log_spread
from mowich.examples import shipped_forecasts
from mowich.shown import Keyed, Result, Rows, Shown
from mowich.studies.explain.tree import at, find_path, is_estimate, name_of, numbers
from mowich.units import parse
from mowich.version import VERSION
from mowich.writing import write_file

ForecastStatus = Literal["open", "inside", "above", "below"]
"""above: more was measured than the high end of the range."""

OWN_LEDGER = Path("forecasts/forecasts.jsonl")
"""Where forecasts are added, from the folder that one is in."""
_LINE = "mowich/forecast-line@1"
_START = "0" * 16
"""What stands for the line before the first one."""
_DIGITS = 16
_NORMAL_90 = 1.6448536269514722
"""Standard deviations of a normal distribution that hold 90% between them on both sides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTruth:
    """What was measured of a forecast. value: in the unit of the forecast; source: where it is published; published:
    the day; note: what differs from the question, "" nothing."""

    value: float
    source: str
    published: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenForecast(Keyed):
    """One forecast of a ledger. id: its name; question: a command without "mowich"; number: of its answer, as `explain`
    names it; settles: what would settle it; frozen: the day; version, facts_hash, answer: of what answered (digest of
    the answer, "" where it has none); digest: of its line; truths: what was measured, the last one counts."""

    KEYS = (
        "id question number predicted=estimate settles frozen by_version=version facts_hash answer digest status "
        "measured=measured.value unit=estimate.unit source=measured.source published=measured.published "
        "note=measured.note ratio deviations"
    )

    id: str
    question: str
    number: str
    estimate: Estimate
    settles: str
    frozen: str
    version: str
    facts_hash: str
    answer: str
    digest: str
    truths: tuple[MeasuredTruth, ...] = ()

    @property
    def measured(self) -> MeasuredTruth | None:
        """What is measured, as published last; None: nothing yet."""
        return self.truths[-1] if self.truths else None

    @property
    def ratio(self) -> float | None:
        """What was predicted over what was measured."""
        return float(self.estimate) / self.measured.value if self.measured else None

    @property
    def status(self) -> ForecastStatus:
        """Whether what was measured lies in the range; "open" where nothing was measured yet."""
        e = self.estimate
        if self.measured is None or e.low is None or e.high is None:
            return "open"
        return "above" if self.measured.value > e.high else "below" if self.measured.value < e.low else "inside"

    @property
    def deviations(self) -> float | None:
        """How far off in standard deviations of the range on that side, in ln: +-1.64 are its ends. None without range
        or truth.

        >>> row = FrozenForecast(id="a", question="", number="", settles="", frozen="", version="", facts_hash="",
        ...     answer="", digest="", estimate=Estimate(value=1.0, low=0.5, high=2.0, unit="s"),
        ...     truths=(MeasuredTruth(value=2.0, source="", published=""),))
        >>> round(row.deviations, 2)
        1.64
        """
        e = self.estimate
        if self.measured is None or e.low is None or e.high is None:
            return None
        off = math.log(self.measured.value / float(e))
        down, up = log_spread(float(e), e.low, e.high)
        side = up if off > 0.0 else down
        return off / side * _NORMAL_90 if side else None


class Forecasts(Shown):
    """The forecasts of a ledger, in the order in which they were frozen. file: its name; head: digest of its last line.

    Units: of each forecast, SI; ratios are predicted over measured.

    Example:
        >>> import mowich
        >>> found = mowich.forecasts()
        >>> len(found.rows) >= 20, found.rows[0].status
        (True, 'open')
    """

    SCHEMA = "mowich/forecasts@1"
    KEYS = "inputs.ledger=file file head rows summary"

    def __init__(self, file: str, rows: Sequence[FrozenForecast], head: str) -> None:
        self.file, self.rows, self.head = file, Rows(rows), head

    def of(self, name: str) -> Forecasts:
        """One forecast alone. Raises UserError where no forecast has the name."""
        found = [row for row in self.rows if row.id == name]
        if not found:
            raise unknown("forecast", name, [row.id for row in self.rows])
        return Forecasts(self.file, found, self.head)

    @property
    def scored(self) -> tuple[FrozenForecast, ...]:
        """The forecasts that something was measured for."""
        return tuple(row for row in self.rows if row.status != "open")

    @property
    def summary(self) -> dict[str, object]:
        """How many there are, are scored and are inside their range, and the error of the scored ones."""
        off = [max(r, 1.0 / r) - 1.0 for row in self.scored if (r := row.ratio) is not None]
        return {
            "forecasts": len(self.rows),
            "scored": len(self.scored),
            "inside": sum(row.status == "inside" for row in self.scored),
            "median_error": median(off) if off else None,
        }


def line_digest(line: Mapping[str, object]) -> str:
    """Of a line of a ledger without its own digest: 16 hex digits.

    >>> line_digest({"a": 1, "digest": "not counted"}) == line_digest({"a": 1})
    True
    """
    text = json.dumps({k: v for k, v in line.items() if k != "digest"}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_DIGITS]


def ledger_file(named: Path | None) -> Path:
    """The ledger to read: the one that is named, else the one in this folder, else the one that ships."""
    if named is not None:
        return named
    return OWN_LEDGER if OWN_LEDGER.is_file() else shipped_forecasts()


def read_forecasts(file: Path) -> Forecasts:
    """The forecasts of a ledger. Raises UserError, with the line, for a file that is not a ledger, for a line that was
    changed, and for one that was taken out or put in between."""
    found: dict[str, FrozenForecast] = {}
    head = _START
    for number, (text, line) in enumerate(_lines(file), 1):
        where = f"{file}:{number}"
        if line.get("previous") != head:
            raise UserError(
                "the line before this one is not the one that was written",
                where=where,
                fix="lines are added at the end, never taken out or put in between: restore the ledger",
            )
        if line.get("digest") != line_digest(line) or text != _text(line):
            raise UserError("was changed after it was frozen", where=where, fix="restore the line")
        head = str(line["digest"])
        try:
            _take(line, found)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"not a line of a ledger: {type(error).__name__} {error}", where=where) from error
    return Forecasts(str(file), tuple(found.values()), head)


def _text(line: Mapping[str, object]) -> str:
    """A line as it is written."""
    return json.dumps(line, ensure_ascii=False)


def _lines(file: Path) -> list[tuple[str, Result]]:
    """The lines, each with its object. Raises UserError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("no ledger of forecasts can be read", where=str(file), given=str(error)) from error
    out: list[tuple[str, Result]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            read = json.loads(line)
        except ValueError:
            read = None
        if not isinstance(read, dict) or read.get("schema") != _LINE:
            raise UserError("not a line of a ledger", where=f"{file}:{number}", allowed=f'a JSON object of "{_LINE}"')
        out.append((line, read))
    return out


def _take(line: Result, found: dict[str, FrozenForecast]) -> None:
    """Add a line to the forecasts."""
    if line["kind"] == "measured":
        row = found[line["of"]]
        truth = MeasuredTruth(**{name: line[name] for name in MeasuredTruth.__slots__})
        found[row.id] = replace(row, truths=(*row.truths, truth))
        return
    own = {name: line[name] for name in FrozenForecast.__slots__ if name not in ("estimate", "truths")}
    if line["id"] in found:
        raise ValueError(f"{line['id']} is there twice")
    found[line["id"]] = FrozenForecast(**own, estimate=Estimate.from_dict(line["predicted"]))


def freeze(file: Path, result: Result, *, name: str, question: str, number: str, settles: str, day: date) -> None:
    """Add the number of an answer to a ledger, which is made where it is not there.
    result: the JSON of the answer. Raises UserError for a name that is taken, for a number that the answer has not or
    does not know, and for one without a range."""
    known = read_forecasts(file) if file.exists() else Forecasts(str(file), (), _START)
    if name in {row.id for row in known.rows}:
        raise UserError(f"a forecast named '{name}' is frozen already", where=str(file), fix="choose another --name")
    path = find_path(result, number)
    node = at(result, path)
    if not is_estimate(node):
        raise UserError("not a number with a range", field="number", given=number, fix=_ranged(result))
    if node["value"] is None or node["low"] is None or node["high"] is None or node["low"] == node["high"]:
        raise UserError("is not predicted with a range", field="number", given=number, fix=node.get("reason"))
    predicted = {key: node[key] for key in ("value", "unit", "low", "high", "grade")}
    _add(
        known,
        {
            "kind": "forecast",
            "id": name,
            "question": question,
            "number": name_of(result, path),
            "predicted": predicted,
            "settles": settles,
            "frozen": day.isoformat(),
            "version": VERSION,
            "facts_hash": str(result.get("facts_hash", "")),
            "answer": str(result.get("digest", "")),
        },
    )


def score(file: Path, name: str, measured: str, *, source: str, published: date, note: str = "") -> None:
    """Add what was measured of a forecast. measured: with its unit, or in that of the
    forecast. Raises UserError for a forecast that is not there, a value that has another unit, and a day before the
    forecast was frozen: what was known is not forecast."""
    known = read_forecasts(file)
    row = known.of(name).rows[0]
    if published < date.fromisoformat(row.frozen):
        raise UserError(
            f"was published before the forecast was frozen, on {row.frozen}",
            field="published",
            given=published.isoformat(),
            fix="a number that was known is not forecast",
        )
    value = _in_unit(measured, row.estimate.unit)
    _add(
        known,
        {
            "kind": "measured",
            "of": name,
            "value": value,
            "source": source,
            "published": published.isoformat(),
            "note": note,
        },
    )


def _in_unit(text: str, unit: str) -> float:
    """A value as typed: with its unit, or a plain number of the unit. Raises UserError."""
    try:
        value = float(text)
    except ValueError:
        value = parse(text, unit).value
    if not (math.isfinite(value) and value > 0.0):
        raise UserError("must be above 0", field="measured", given=text)
    return value


def _ranged(result: Result) -> str:
    """Numbers of the answer that have a range, to choose from."""
    names = [name_of(result, p) for p in numbers(result) if is_estimate(at(result, p)) and at(result, p)["value"]]
    return f"numbers with a range: {', '.join(names[:8])}"


def _add(known: Forecasts, line: Mapping[str, object]) -> None:
    """Write a line behind those of a ledger."""
    file = Path(known.file)
    whole = {"schema": _LINE, **line, "previous": known.head}
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, before + _text({**whole, "digest": line_digest(whole)}) + "\n", where=str(file))
