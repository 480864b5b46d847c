"""The entries of facts/claims, and which facts of chips and systems speak of the same quantity.

A file of claims names in `about` the chips and systems that it speaks of. An entry is a group whose `published` (for a
measured row `output_per_chip`) is what was claimed, with its unit; `title` is what a reader calls it, `topic` what it
speaks of (`TOPICS`). A measured row that has its step time is no claim: its other columns follow from it by arithmetic.
Where a file of a chip or a system states the same quantity there is one number:

- `published: {ref: PATH}`: the claim is that fact;
- `states: {ref: PATH}` beside a `published` of its own: another text, rounded in another way, which the fact must bear
  out;
- `explained: {text: ...}` beside them: why the two differ, or why a fact of a similar name is another quantity.

`claim_problems` finds entries that break this. It knows a fact of the same quantity by its words (each word of the
claim's name stands in the fact's path, or each of the fact's name in the claim's) and by its size (one unit and at most
`NEAR` apart, or equal counts).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mowich.facts.load import Facts
from mowich.facts.schema import Fact
from mowich.units import UNITS

_PUBLISHED = ("published", "output_per_chip")
"""Names that the claimed value of a group has; the first that is there."""

TOPICS = ("price", "memory", "scale", "energy", "serving", "training", "compute", "quality")
"""What claims speak of, in the order of their weight for the question whether scale and price offset a smaller
memory."""

COMPARED = ("chips.", "systems.")
"""Kinds of facts that a claim may not contradict."""

SMALL_WORDS = frozenset(("vs", "of", "per", "the", "to", "with", "on", "by", "at"))

NEAR = 0.10
"""Two figures of one unit this close, of one machine, are taken for the same quantity until a word says that they are
not. Counts must be equal."""

LEAST_COUNT = 100
"""Smaller counts are the same too often by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One claim. key: its name in `file`; path: of its group; published: path of the claimed value; title, topic: "" if
    it has none."""

    file: str
    key: str
    path: str
    published: str
    title: str = ""
    topic: str = ""

    @property
    def id(self) -> str:
        """As in `mowich claims`: "trainium4.Memory_capacity_vs_Trainium3"."""
        return f"{self.file}.{self.key}"


def entries(facts: Facts) -> Iterator[_Entry]:
    """Every claim, in the order of the files."""
    for file in facts.ids("claims"):
        root = f"claims.{file}"
        if "claims" in facts.children(root):
            root = f"{root}.claims"
        for key in facts.children(root):
            path = f"{root}.{key}"
            published = next((p for p in (f"{path}.{name}" for name in _PUBLISHED) if facts.leaf(p)), None)
            if published is not None:
                said = facts.words(path)
                yield _Entry(
                    file=file,
                    key=key,
                    path=path,
                    published=published,
                    title=said.get("title", ""),
                    topic=said.get("topic", ""),
                )


def _machines(facts: Facts, file: str) -> tuple[str, ...]:
    """Paths of the chips and systems that a file of claims is about."""
    about = facts.meta("claims", file).get("about")
    return tuple(map(str, about)) if isinstance(about, list) else ()


def claim_problems(facts: Facts) -> Iterator[tuple[str, str]]:
    """(path, what is wrong) of each claim that states again, contradicts or does not know what the fact of a chip or a
    system states."""
    for file in facts.ids("claims"):
        for about in _machines(facts, file) or ("",):
            if not facts.paths(about):
                yield (
                    f"claims.{file}.about",
                    "names no chip or system" + (f" that has facts: '{about}'" if about else ""),
                )
    for entry in entries(facts):
        if not entry.title:
            yield entry.path, "has no title"
        if entry.topic not in TOPICS:
            yield entry.path, f"its topic is '{entry.topic}', not one of {', '.join(TOPICS)}"
        published = facts.fact(entry.published)
        if published.path.startswith(COMPARED):
            continue
        states = facts.get(f"{entry.path}.states")
        explained = bool(facts.leaf(f"{entry.path}.explained"))
        if states is not None and states.value is not None:
            if published.value is None:
                yield entry.published, _unknown(states)
            elif not explained and not agree(published, states):
                yield (
                    entry.published,
                    f"is {published.shown}, but {states.path} states {states.shown}, and no `explained` says why",
                )
            continue
        if explained:
            continue
        for fact in _same(entry, published, facts):
            if published.value is None:
                yield entry.published, _unknown(fact)
            else:
                yield (
                    entry.published,
                    (
                        f"is {published.shown}, and {fact.path} states {fact.shown}: write {{ref: {fact.path}}}, or"
                        " name it in `states`"
                    ),
                )
            break


def _unknown(fact: Fact) -> str:
    return f"is unknown, but {fact.path} states {fact.shown}: write {{ref: {fact.path}}}"


def _same(entry: _Entry, published: Fact, facts: Facts) -> Iterator[Fact]:
    """Known facts of the machines that a claim is about which state its quantity, by their words or by their size."""
    named = _words(entry.key)
    for about in _machines(facts, entry.file):
        for path in facts.paths(about):
            fact = facts.fact(path)
            if fact.value is not None and (_same_words(named, path, published, fact) or _same_size(published, fact)):
                yield fact


def _words(name: str) -> frozenset[str]:
    return frozenset(w for w in re.split(r"[^a-z0-9]+", name.casefold()) if w) - SMALL_WORDS


def _same_words(named: frozenset[str], path: str, published: Fact, fact: Fact) -> bool:
    if published.unit != fact.unit and "text" not in (published.unit, fact.unit):
        return False
    last = _words(path.rsplit(".", 1)[1])
    return named <= _words(path) or (len(last) > 1 and last <= named and published.unit == fact.unit)


def _same_size(published: Fact, fact: Fact) -> bool:
    mine, theirs = published.value, fact.value
    if not isinstance(mine, float) or not isinstance(theirs, float) or published.unit != fact.unit:
        return False
    if published.unit == "1" or min(mine, theirs) <= 0:
        return False
    if not published.unit:
        return mine == theirs and mine >= LEAST_COUNT
    return abs(math.log(mine / theirs)) <= math.log1p(NEAR)


_FIGURE = re.compile(r"(\d[\d,]*\.?\d*) *([A-Za-z%/]*)")


def figure_of(fact: Fact) -> tuple[float, float] | None:
    """(SI value, half a unit of its last digit) of a number, or of the first number in a text; None where there is
    none."""
    written = _FIGURE.search(fact.shown)
    if fact.value is None or written is None:
        return None
    digits = written[1].replace(",", "").rstrip(".")
    unit = UNITS.get(written[2])
    value = fact.value if isinstance(fact.value, float) else float(digits) * (unit.value if unit else 1.0)
    scale = value / float(digits) if float(digits) else 1.0
    return value, 0.5 * 10.0 ** -len(digits.partition(".")[2]) * scale


def agree(published: Fact, fact: Fact) -> bool:
    """Whether a fact, rounded as the claim is rounded, is the claimed number. Texts without a number agree when they
    are the same."""
    mine, theirs = figure_of(published), figure_of(fact)
    if mine is None or theirs is None:
        return published.value == fact.value
    return abs(mine[0] - theirs[0]) <= mine[1] * (1 + 1e-9)
