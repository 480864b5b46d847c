"""The parts of a brief: questions with a verdict, numbers with ranges, and the words that numbers choose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mowich.estimate import Estimate, product_of
from mowich.shown import Keyed, Rows, Shown

Bound = tuple[float, str]

LEVEL_WORDS: Mapping[str, tuple[Bound, ...]] = {
    "claim": ((3.5, "no"), (math.inf, "per UltraServer yes")),
    "job": ((0.8, "behind"), (1.25, "about level"), (math.inf, "ahead")),
    "work": ((1e-9, "for no work"), (1.0, "for some work"), (math.inf, "for all work")),
    "memory": ((1e-9, "hardly"), (1.0, "in some work"), (math.inf, "in all work")),
    "scale": ((0.9, "the gap grows"), (1.1, "the gap stays"), (math.inf, "the gap shrinks")),
    "price": (
        (0.8, "not even at what it costs to build"),
        (1.25, "only about at what it costs to build"),
        (math.inf, "yes, with room for a margin"),
    ),
    "your price": (
        (0.8, "not at your price"),
        (1.25, "only about at your price"),
        (math.inf, "yes, at your price"),
    ),
    "port": (
        (1e3, "pays from a few racks on"),
        (1e5, "pays from a cluster on"),
        (math.inf, "pays for the largest alone"),
    ),
    "worth": (
        (0.5, "less than half of what it costs today"),
        (0.9, "less than it costs today"),
        (math.inf, "about what it costs today"),
    ),
    "stranded": ((0.1, "little is stranded"), (0.4, "a part is stranded"), (math.inf, "much is stranded")),
    "supply": ((1.005, "Chips are not what binds"), (math.inf, "Chips are what binds")),
    "energy": ((0.8, "less energy"), (1.25, "about as much energy"), (math.inf, "more energy")),
    "next": ((0.8, "still behind"), (1.25, "about level"), (math.inf, "ahead")),
    "fleet": ((0.05, "work for all"), (0.5, "work for most"), (math.inf, "work for few")),
    "sure": ((1.5, "well"), (3.0, "roughly"), (math.inf, "only to an order of magnitude")),
}
"""Question -> (below this number, these words), lowest first: the one table that decides each verdict. job: tokens of a
dollar over those of a rival's; work: share of the jobs that are ahead; memory: share of the jobs that gain from twice
the memory; scale: the distance at few chips over that at many; price: break-even over cost, or over the reader's price;
port: chips from which a port pays; worth: dollars of an hour once the next chip sells over today's; stranded: chips no
longer needed over installed chips; supply: work with the high end of supply over today's work."""


def words_for(question: str, number: float) -> str:
    """The words that a number chooses.

    >>> words_for("memory", 0.5), words_for("energy", 2.0)
    ('in some work', 'more energy')
    """
    return next(words for bound, words in LEVEL_WORDS[question] if number < bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefNumber(Keyed):
    """One number. name: its word in `explain`; what: in plain words; formula: arithmetic over `symbols`, "" for a
    figure of an answer; of: the command that gives the number or its symbols, and their names there."""

    KEYS = "name what formula symbols of estimate:bare"

    name: str
    what: str
    estimate: Estimate
    formula: str = ""
    symbols: Mapping[str, float] = field(default_factory=dict)
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefPicture(Keyed):
    """Data of one picture. kind: bars (stacked where there are several series), ranges or lines; series: name ->
    values, one for each label; low, high: ends of the ranges of the first series; x: of lines, places of the labels in
    `x_unit`."""

    kind: Literal["bars", "ranges", "lines"]
    title: str
    unit: str
    labels: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    x: tuple[float, ...] = ()
    x_unit: str = ""

    @classmethod
    def of_ranges(cls, title: str, unit: str, known: Iterable[tuple[str, Estimate]]) -> BriefPicture:
        """Known numbers, each with its label, and their ranges."""
        rows = list(known)
        ends = [ends_of(e) for _, e in rows]
        return cls(
            kind="ranges",
            title=title,
            unit=unit,
            labels=tuple(label for label, _ in rows),
            series={unit: tuple(float(e) for _, e in rows)},
            low=tuple(low for low, _ in ends),
            high=tuple(high for _, high in ends),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section(Keyed):
    """One question. level: the words of `LEVEL_WORDS` that its number chose; why: at most four sentences; commands:
    that make it."""

    id: str
    question: str
    verdict: str
    level: str
    why: tuple[str, ...]
    numbers: tuple[BriefNumber, ...]
    commands: tuple[str, ...]
    picture: BriefPicture

    def number(self, name: str) -> Estimate:
        """The number of a name."""
        return next(n.estimate for n in self.numbers if n.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefGap(Keyed):
    """first, second: names of two machines; start: tokens per second and chip of the first; factors: property in plain
    words -> factor, their product leads to the second; command: gives it."""

    KEYS = "first second tokens_per_s_per_chip=start factors=listed command"

    first: str
    second: str
    start: float
    factors: Mapping[str, float]
    command: str

    @property
    def listed(self) -> list[dict[str, object]]:
        """The factors as the JSON states them."""
        return [{"property": name, "factor": x} for name, x in self.factors.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow(Keyed):
    """A line of the first table: one job beside one rival. job: "train", "serve" or "bulk"; work: in plain words;
    speed, dollar: tokens per second and chip, and tokens of a dollar, of Trainium 3 over the rival's, with the software
    as shipped; tuned_speed, tuned_dollar: with kernels written by hand on Trainium 3; level: the words of
    `LEVEL_WORDS` that `dollar` chose; flips: where the other one is cheaper; basis: what rates are extrapolated from,
    "" where their like was measured; rests_on: the one constant that decides the row, "" where none does; command:
    gives the rates."""

    KEYS = (
        "job model work rival rival_name level flips basis rests_on command speed:bare dollar:bare "
        "tuned_speed:bare tuned_dollar:bare"
    )

    job: str
    model: str
    work: str
    rival: str
    rival_name: str
    speed: Estimate
    dollar: Estimate
    tuned_speed: Estimate
    tuned_dollar: Estimate
    level: str
    flips: str
    basis: str
    rests_on: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief(Shown):
    """The page. headline: the answer in a few sentences; table: jobs by rival; story: from Trainium 3 to the first
    rival in training, a factor for each property, as `mowich gap` gives them; rows: a question each.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> len(mowich.brief().rows)  # doctest: +SKIP
        9
    """

    SCHEMA = "mowich/brief@1"

    inputs: Mapping[str, object]
    facts_hash: str
    headline: tuple[str, ...]
    table: tuple[JobRow, ...]
    story: BriefGap
    rows: Rows[Section]

    def section(self, name: str) -> Section:
        """The section of an id."""
        return next(row for row in self.rows if row.id == name)


# ---- numbers in plain words
# ----------------------------------------------------------------------------------------------------------------------


def between(e: Estimate, digits: int = 2) -> str:
    """A number with its range: "1.9 (between 1.4 and 2.6)", "unknown".

    >>> from mowich.estimate import exact
    >>> between(exact(1.94, "1"))
    '1.9'
    """
    if e.value is None:
        return "unknown"
    text, low, high = (plainly(x, digits) for x in (e.value, *ends_of(e)))
    return text if low == high else f"{text} (between {low} and {high})"


def ends_of(e: Estimate) -> tuple[float, float]:
    """The ends of the range of a known number; the number itself where it has no range."""
    return float(e) if e.low is None else e.low, float(e) if e.high is None else e.high


def plainly(x: float, digits: int = 2) -> str:
    """Meaningful digits without a power of ten.

    >>> plainly(0.01234), plainly(1.94), plainly(1234.5)
    ('0.012', '1.9', '1,200')
    """
    if x == 0.0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(x)))
    return f"{round(x, places):,.{max(0, places)}f}"


def share_text(x: float) -> str:
    """A share in a reader's words.

    >>> share_text(0.034), share_text(0.31)
    ('3.4%', '31%')
    """
    return f"{plainly(100.0 * x)}%"


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def times_of(a: Estimate, b: Estimate) -> Estimate:
    """a / b of two independent estimates."""
    return product_of([(a, 1.0), (b, -1.0)], "1")
