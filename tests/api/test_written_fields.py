"""One serialiser over fields: what it writes, and that each declared key names something."""

from __future__ import annotations

import datetime
import importlib
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

from mowich.estimate import Estimate, exact
from mowich.shown import MARKS, Keyed, Shown, key_words, plain_json

ROOMS = ("studies", "evidence", "serving", "training", "plans", "facts", "nki.check")


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    day: datetime.date
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer(Keyed):
    KEYS = "where=inner.path time_s twice count? words:none? none? **more"
    inner: Inner
    time_s: Estimate
    count: int = 0
    words: tuple[str, ...] = ()
    none: str | None = None
    more: Inner | None = None

    @property
    def twice(self) -> int:
        return 2 * self.count


INNER = Inner(day=datetime.date(2026, 1, 2), path=Path("a/b"))


def test_keys_rename_leave_out_spread_and_take_properties() -> None:
    time_s = exact(2.0, "s")
    found = Outer(inner=INNER, time_s=time_s).to_dict()
    assert found == {"where": "a/b", "time_s": time_s.to_dict(), "twice": 0, "count": 0}
    found = Outer(inner=INNER, time_s=time_s, count=1, words=("x",), more=INNER).to_dict()
    assert list(found) == ["where", "time_s", "twice", "count", "words", "day", "path"]
    assert Estimate.from_dict(time_s.to_dict()) == time_s


class Pair(NamedTuple):
    first: int
    last: int


PAIR = Pair(first=5, last=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Keyed):
    KEYS = "* -secret note:none? first=pair.0 second=named.last cores=inner.cores:zero time_s:graded"
    note: str = ""
    time_s: Estimate
    secret: int = 1
    pair: tuple[int, int] = (3, 4)
    named: Pair = PAIR
    inner: Inner | None = None


def test_all_fields_but_some() -> None:
    time_s = Estimate(value=None, unit="s", grade="", reason="none")
    found = Listed(time_s=time_s).to_dict()
    assert list(found) == ["time_s", "pair", "named", "inner", "first", "second", "cores"]
    assert found["time_s"]["grade"] is None
    assert (found["first"], found["second"], found["cores"]) == (3, 6, 0)
    assert next(iter(Listed(time_s=time_s, note="x").to_dict())) == "note"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (INNER, {"day": "2026-01-02", "path": "a/b"}),
        ({"a": (INNER.path, None)}, {"a": ["a/b", None]}),
        (Colour.RED, "red"),
        (True, True),
    ],
)
def test_nested_values_become_plain(value: object, wanted: object) -> None:
    assert plain_json(value) == wanted


def _declared(kind: type) -> list[type]:
    return [one for below in kind.__subclasses__() for one in (below, *_declared(below))]


def test_each_declared_key_names_a_field_or_a_property() -> None:
    for room in ROOMS:
        package = importlib.import_module(f"mowich.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.rpartition(".")[2].startswith("_"):
                importlib.import_module(module.name)
    kinds = [one for one in (*_declared(Keyed), *_declared(Shown)) if is_dataclass(one)]
    named = [(one, word) for one in kinds for word in key_words(one)]
    assert len(named) > 400
    for one, word in named:
        name = word.path[0]
        assert hasattr(one, name) or name in {field.name for field in fields(one)}, f"{one.__name__}: {word}"
        assert not word.mark or word.mark in MARKS, f"{one.__name__}: {word}"
