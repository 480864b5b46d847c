"""What an answer shows, as data: one `Page`, made once of the answer's JSON, which every renderer draws in its own way.

A function of each verb (`show.verbs`) makes the page: headline, tables with declared columns, pictures, what has to be
said beside the numbers, next steps. `show.render` has the terminal, HTML, the notebook and CSV. A renderer decides how
much room there is; what is said, who is best and how a number is rounded is decided here, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from mowich.estimate import Estimate
from mowich.facts import Fact
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, interval, number_text, percent, seconds, spread
from mowich.shown import Result

if TYPE_CHECKING:
    from mowich.models.model import Model

GIB = 2**30
"""Bytes of a GiB."""

NOTHING = "-"
"""Where there is no number, known or unknown."""

Format = Literal["text", "number", "interval", "spread", "percent", "seconds"]
"""How the estimates of a column stand in a narrow table: the value alone, with its 90% range, with the half of its
range in per cent, as a percentage, with the unit of time that suits it. A wide table shows every range."""

_MARKS = {"best": "\N{LEFTWARDS ARROW}", "close": "~", "": ""}
"""Behind a number: the best of its column, or a range that overlaps with the best."""

NOTE = "Hover or focus a number for its grade and range. ? is unknown, with the reason."
NOTE_MARKED = f"{NOTE} {_MARKS['best']} best, ~ range overlaps with the best: not ranked."
"""Said above a table of plans, and of rows that are compared."""


class TextCell(NamedTuple):
    """A cell of words. hover: what is said of it where there is a pointer; metric: the name under which `explain` tells
    where it comes from; short: in a narrow table, where it is not the same."""

    text: str
    hover: str = ""
    metric: str = ""
    short: str | None = None


class Figure(NamedTuple):
    """A cell of a number. mark: "best", "close" or "" in a column that is ranked, None in another; metric: as of
    `TextCell`; short: what a narrow table shows in its place."""

    estimate: Estimate
    metric: str = ""
    mark: str | None = None
    short: str | None = None


Cell = str | TextCell | Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """name: the heading, unit: behind it in a wide table; short: the heading of a narrow one, "" the same. format: of
    its estimates; scale: from SI to the unit. keep: of columns that have no room the lowest go first, 99 never goes;
    below: where it has no room it stands on a line under its row; wide: in wide tables only. right: numbers. of: the
    number of a row that its cells show, "" where they show something else; cell: what they show, for `rows_in`."""

    name: str
    unit: str = ""
    short: str = ""
    format: Format = "text"
    scale: float = 1.0
    keep: int = 99
    wide: bool = False
    below: bool = False
    right: bool = True
    marked: bool = True
    of: str = ""
    cell: Callable[[Result], Cell] = lambda row: NOTHING

    @property
    def head(self) -> str:
        """The heading of a wide table."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def full(self, cell: Cell) -> str | tuple[str, str, str]:
        """A cell of a wide table: its text, or (text, hover, metric)."""
        if isinstance(cell, Figure):
            e = cell.estimate
            if e.value is None:
                return UNKNOWN, e.reason or "unknown", cell.metric
            behind = _MARKS[cell.mark or ""]
            return (
                interval(e, self.scale) + (f" {behind}" if behind else ""),
                f"grade {e.grade}; 90% range {number_text(e.low, self.scale)} to {number_text(e.high, self.scale)}",
                cell.metric,
            )
        if isinstance(cell, TextCell):
            return (cell.text, cell.hover, cell.metric) if cell.hover or cell.metric else cell.text
        return cell

    def brief(self, cell: Cell) -> str:
        """A cell of a narrow table."""
        if isinstance(cell, Figure):
            if cell.short is not None:
                return cell.short
            mark = cell.mark if self.marked else None
            return self._said(cell.estimate) + ("" if mark is None else f" {_MARKS[mark] or ' '}")
        if isinstance(cell, TextCell):
            return cell.text if cell.short is None else cell.short
        return cell

    def _said(self, e: Estimate) -> str:
        if self.format == "spread":
            return spread(e, self.scale)
        if self.format == "interval":
            return interval(e, self.scale)
        if self.format == "percent":
            return percent(e.value)
        if self.format == "seconds":
            return seconds(e.value)
        return number_text(e.value, self.scale)


class More(NamedTuple):
    """Words of a line of `Details`; column: they are said where this column had no room, "" always."""

    column: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a narrow table says of each row below it, where the column `when` had no room. rows: (name of the row, its
    words, more words on a line of their own); instead_of: columns whose content is said here."""

    title: str
    when: str
    rows: Sequence[tuple[str, Sequence[More], Sequence[More]]]
    instead_of: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """title and note: above it on a page. legend: below it on a terminal, a line each. wide: not on a terminal, which
    has no room for it. gap: with an empty line above on a terminal; indent: of its lines there. most: rows that a
    terminal shows, the first ones, or spread evenly from the first to the last where `thinned`; 0 all. split: columns
    that have no room follow in a table of their own, with the first column again. elsewhere: where what had no room is
    found."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    legend: Sequence[str] = ()
    wide: bool = False
    gap: bool = True
    indent: int = 2
    most: int = 0
    thinned: bool = False
    split: bool = False
    details: Details | None = None
    elsewhere: str = "--json or --csv"

    @property
    def head(self) -> list[str]:
        """The headings of the wide table."""
        return [c.head for c in self.columns]

    def brief_rows(self) -> Sequence[Sequence[Cell]]:
        """The rows that a terminal has room for."""
        if not self.most or len(self.rows) <= self.most:
            return self.rows
        if not self.thinned:
            return self.rows[: self.most]
        return [self.rows[round(i * (len(self.rows) - 1) / (self.most - 1))] for i in range(self.most)]

    def cells(self) -> list[list[str | tuple[str, str, str]]]:
        """The rows of the wide table."""
        return [[c.full(x) for c, x in zip(self.columns, row, strict=True)] for row in self.rows]


def table_by_answer(
    title: str,
    caption: str,
    first: str,
    answers: Column,
    names: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    note: str = "",
) -> list[Part]:
    """A table of what answers consist of, a column for each answer. first: heading of the first column; answers: the
    column of one, before it has its name; caption: in place of the title on a terminal."""
    own = (replace(answers, name=name, keep=99 - place) for place, name in enumerate(names))
    return [
        Words(text=caption, kind="caption", gap=True),
        Table(
            title=title,
            columns=[Column(name=first, right=False), *own],
            rows=rows,
            note=note,
            gap=False,
            split=True,
            elsewhere="--json",
        ),
    ]


NoteKind = Literal["job", "heading", "caption", "note", "warning", "basis", "next"]
"""What words are: the work that was asked, the heading of what follows, what a page with more room shows in another way
(the caption of a table, its content in words), a remark on a number or a row, a warning, what the answer rests on, how
to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A paragraph. indent: of its lines on a terminal, hang: of the later ones beyond that; gap: with an empty line
    above."""

    text: str
    kind: NoteKind
    indent: int = 2
    hang: int = 2
    gap: bool = False


Part = Table | Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One question of a page for readers outside the field: verdict, picture, why, and below them the numbers with the
    commands that make them. A terminal has its words among the parts of the page."""

    question: str
    verdict: str
    why: Sequence[str]
    chart: Chart
    numbers: Table
    commands: Sequence[str]


class LateCharts(Sequence[Chart]):
    """Pictures that are made when somebody looks at them: a terminal and CSV draw none, and they take facts of every
    chip and rows of evidence."""

    def __init__(self, make: Callable[[], Sequence[Chart]]) -> None:
        self._make = make
        self._made: Sequence[Chart] | None = None

    @property
    def made(self) -> Sequence[Chart]:
        """The pictures."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @overload
    def __getitem__(self, place: int) -> Chart: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Chart]: ...
    def __getitem__(self, place: int | slice) -> Chart | Sequence[Chart]:
        return self.made[place]

    def __len__(self) -> int:
        return len(self.made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """sentences: the answer, the first in a few words (`headline`), then the rest (`under`); parts: tables and words in
    order of reading; charts: pictures of the tables. records: rows of the answer, for CSV. marks: of a comparison, by
    measure, "best", "close" or "" for each row; beside: words for each row, by what they say (`chips` where a table
    needs them, `price_terms`). assumptions: (what, value) or (what, value, path of the fact); facts: all that the
    numbers rest on; stories: questions with a picture each, where pictures can be drawn; plans: those that stand in no
    table, (whose, plan), where "" is one that the words name."""

    title: str
    sentences: Sequence[str]
    assumptions: Sequence[tuple[str, str] | tuple[str, str, str]] = ()
    parts: Sequence[Part] = ()
    charts: Sequence[Chart] = ()
    records: Sequence[Result] = ()
    inputs: Mapping[str, object] = field(default_factory=dict)
    facts: Sequence[Fact] = ()
    marks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stories: Sequence[Story] = ()
    plans: Sequence[tuple[str, str]] = ()

    @property
    def headline(self) -> str:
        """The answer in at most `formats.MOST_FIRST_WORDS` words; "" for a page that only lists."""
        return self.sentences[0] if self.sentences else ""

    @property
    def under(self) -> str:
        """What follows the headline, in a few sentences."""
        return " ".join(self.sentences[1:])

    @property
    def tables(self) -> list[Table]:
        return [p for p in self.parts if isinstance(p, Table)]

    def said(self, *kinds: NoteKind) -> list[str]:
        """The paragraphs of some kinds."""
        return [p.text for p in self.parts if isinstance(p, Words) and p.kind in kinds]

    @property
    def warnings(self) -> list[str]:
        return self.said("warning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known where an answer was just made, and not in its JSON. model: where it is not one that ships; seconds:
    how long it took; saved: the file that it was written to."""

    model: Model | None = None
    seconds: float | None = None
    saved: str = ""


_LARGEST = 50.0
"""Largest logarithm of a change that is shown: no fact moves a step so far, but a damaged result may say so."""


def change_of(logarithm: float) -> float:
    """A change as a share of what it is of, from its logarithm.

    >>> change_of(0.0), change_of(1e12) == change_of(1e6)
    (0.0, True)
    """
    return math.expm1(min(logarithm, _LARGEST))


def estimate_of(data: Result | None) -> Estimate:
    """A number of a row; unknown where the row has none."""
    return Estimate.from_dict(data or {"value": None, "unit": "", "reason": "not in this result"})


def figure(data: Result | None, metric: str = "", mark: str | None = None, short: str | None = None) -> Figure:
    """A cell of an estimate's JSON."""
    return Figure(estimate_of(data), metric, mark, short)


def word_columns(head: Sequence[str], *, left: Sequence[str] = ()) -> list[Column]:
    """Columns of words. left: those of no numbers."""
    return [Column(name=name, right=name not in left) for name in head]


def rows_in(columns: Sequence[Column], found: Iterable[Result]) -> list[list[Cell]]:
    """A row of a table for each of what was found, with the cells that its columns tell."""
    return [[column.cell(one) for column in columns] for one in found]


def paragraphs(
    texts: Sequence[str], kind: NoteKind, *, heading: str = "", indent: int = 2, gap: bool = False
) -> list[Words]:
    """A paragraph each, below a heading; with an empty line above the first where there is `gap`."""
    said = [Words(text=heading, kind="heading", indent=0)] if heading and texts else []
    said += [Words(text=text, kind=kind, indent=indent) for text in texts]
    return [replace(said[0], gap=gap), *said[1:]] if said else []


def notes(remarks: Sequence[str], warnings: Sequence[str]) -> list[Words]:
    """Remarks and warnings under one heading."""
    return [
        *paragraphs(remarks, "note", heading="Notes", gap=True),
        *paragraphs(warnings, "warning", heading="" if remarks else "Notes", gap=not remarks),
    ]


def counted(n: float, what: str) -> str:
    """ "1 chip", "1,024 chips".

    >>> counted(1, "chip"), counted(1_000_000, "chip"), counted(2.5, "day")
    ('1 chip', '1,000,000 chips', '2.5 days')
    """
    return f"{n:,.0f} {what}{'' if n == 1 else 's'}" if n == round(n) else f"{n:,.6g} {what}s"
