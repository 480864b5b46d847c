"""The words of tables, pictures and pages, each with its meaning: `glossary.yaml`, read once.

`docs/read/glossary.md` is written from it (tools/glossary_page.py), heads of tables take their tooltips from it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mowich.files import shipped_yaml

_FILE = Path(__file__).with_name("glossary.yaml")
_BEFORE_UNIT = (", ", " per ")
"""What stands between the words of a head and its unit: "step, s"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlossaryTerm:
    """name: the word; means: at most two sentences; see: a topic of `mowich.handbook`; group: of the glossary page;
    heads: other writings of it, `*` for words that differ from answer to answer."""

    name: str
    means: str
    see: str
    group: str
    heads: tuple[str, ...] = ()


@cache
def glossary() -> Mapping[str, GlossaryTerm]:
    """Every term by its name, in the order of the glossary page."""
    out: dict[str, GlossaryTerm] = {}
    group = ""
    for name, entry in shipped_yaml(_FILE).items():
        group = str(entry.get("group", group))
        heads = tuple(str(h) for h in entry.get("heads", ()))
        out[str(name)] = GlossaryTerm(
            name=str(name), means=str(entry["means"]), see=str(entry["see"]), group=group, heads=heads
        )
    return out


@cache
def _written() -> Mapping[str, GlossaryTerm]:
    """Every writing of every term; the one of a term's own name counts before other writings."""
    terms = glossary()
    return {head: term for term in terms.values() for head in term.heads} | dict(terms)


def _shortened(head: str) -> Iterator[str]:
    """A head, and the same without its unit."""
    yield head
    for between in _BEFORE_UNIT:
        if between in head:
            yield head.split(between)[0]


def term_of(head: str) -> GlossaryTerm | None:
    """The term that a head of a table stands for, with or without its unit; None where the glossary has none.

    >>> term_of("step, s").name, term_of("days/GiB").name, term_of("no such word")
    ('step', 'days less', None)
    """
    written = _written()
    for words in _shortened(head):
        if words in written:
            return written[words]
    return next(
        (term for pattern, term in written.items() if "*" in pattern and fnmatch.fnmatchcase(head, pattern)), None
    )
