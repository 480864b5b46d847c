"""What an answer is made of: the facts that it read, and a digest of what decides it.

The digest is a hash of the question, of the facts that were read and of the version of Mowich: not of numbers that were
computed, whose last digits differ between processors. See docs/theory/facts.md#what-an-answer-is-made-of.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from mowich.facts import Facts
from mowich.facts.freshness import last_looks
from mowich.facts.schema import FreshnessLimit
from mowich.shown import Keyed
from mowich.version import VERSION

NOT_ASKED = frozenset(
    (
        *("form", "notes", "facts", "given", "model_given", "pick", "timeline", "out", "saved"),
        *("trace", "html", "html_from_s", "parquet", "timeout_s", "memory_GiB", "places", "again", "emits"),
    )
)
"""Fields of requests that say how a question was put, and how its answer is shown and where; facts are in a digest by
their values."""

_DIGITS = 16
"""Hex digits of a digest."""


@dataclass(frozen=True, eq=False)
class AnswerRecord(Keyed):
    """What an answer is made of; the JSON of every answer has its keys. kind: of answer; question: what was asked,
    plain data, requests and files; facts: those that it was asked of; asked: the paths that it asked for; limit: which
    facts it is asked to call old, None: nobody asks."""

    KEYS = "stale? facts_read digest"

    kind: str
    question: object
    facts: Facts
    asked: Iterable[str]
    limit: FreshnessLimit | None

    @property
    def stale(self) -> dict[str, object] | None:
        """The facts among those read that are old; None where nobody asks."""
        return None if self.limit is None else stale_among(self.facts, self.facts_read, self.limit)

    @cached_property
    def facts_read(self) -> tuple[str, ...]:
        """The paths of the facts that were read, sorted."""
        return tuple(sorted(self.facts.found(self.asked)))

    @cached_property
    def digest(self) -> str:
        """16 hex digits, the same for the same question of the same facts by the same version."""
        read = ((path, self.facts.fact(path)) for path in self.facts_read)
        told = {
            "version": VERSION,
            "kind": self.kind,
            "question": question_data(self.question),
            "facts": {path: [question_data(x) for x in (f.value, f.low, f.high, f.grade)] for path, f in read},
        }
        return _hash(told)


def stale_among(facts: Facts, paths: Sequence[str], limit: FreshnessLimit) -> dict[str, object]:
    """Of these facts those that are old, the oldest look first, as JSON; those that were set are not looked for."""
    old = limit.old(last_looks(facts, limit.as_of, paths))
    return {
        "older_than_s": limit.older_than_s,
        "as_of": limit.as_of.isoformat(),
        "of": len(paths),
        "facts": [{k: look.to_dict()[k] for k in _OF_LOOK} for look in old],
    }


_OF_LOOK = ("path", "confirmed", "age_days", "source", "title")
"""What an answer says of the last look at an old fact."""


def question_data(value: object) -> object:
    """A part of a question as JSON holds it: of a file its content, of a model its shapes, of an object its fields but
    `NOT_ASKED`. Raises TypeError for what has no such form.

    >>> question_data({"b": 1.0, "a": (True, None)})
    {'b': 1.0, 'a': [True, None]}
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0.0 else repr(float(value))
    if isinstance(value, Path):
        return _content(value)
    if (digested := getattr(value, "digested", None)) is not None:
        return digested()
    if isinstance(value, Mapping):
        return {str(k): question_data(v) for k, v in value.items()}
    if isinstance(value, Set):
        return sorted(str(question_data(v)) for v in value)
    if isinstance(value, Sequence):
        return [question_data(v) for v in value]
    if isinstance(value, Enum | datetime.date):
        return str(value)
    if is_dataclass(value):
        return {f.name: question_data(getattr(value, f.name)) for f in fields(value) if f.name not in NOT_ASKED}
    raise TypeError(f"{type(value).__name__} is no part of a question")


def _content(file: Path) -> str:
    """Of a file its content; of a folder, and of what is not there, the name."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS] if file.is_file() else str(file)


def _hash(data: object) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
