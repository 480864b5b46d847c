"""What the serialiser writes is read back: drawn records of every class whose JSON holds all its fields, and what is
said of JSON that is no record."""

from __future__ import annotations

import datetime
import importlib
import json
import pkgutil
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.estimate import Estimate
from mowich.fleets.problem import GOAL_UNITS
from mowich.plans.forward import ForwardPlan
from mowich.readback import Most, WholeBounds, read_fields
from mowich.requests.rooms.value import VALUE_UNITS
from mowich.shown import Keyed, Rows, Shown, key_words

ROOMS = ("studies", "evidence", "serving", "training", "plans", "facts", "fleets", "launch", "models", "nki.check")
MORE = 4
"""Entries of a drawn list at most."""


OF_CLASS: Mapping[str, Mapping[str, Sequence[object]]] = {
    "ValueStudy": {"of": tuple(VALUE_UNITS)},
    "FittedFact": {"today_low": (0.1,), "today_high": (9.0,)},
    "WhatIf": {"goal": tuple(GOAL_UNITS)},
}
"""Class -> fields of which a property takes some values alone."""


class NotDrawn(Exception):
    """A type that no draw is made of."""


def drawn(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type of a field."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bound = inner[1]
        if isinstance(bound, WholeBounds):
            return st.integers(bound.low, bound.high)
        assert isinstance(bound, Most)
        return drawn(inner[0])
    if origin in (Union, types.UnionType):
        return st.one_of([drawn(kind) for kind in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Mapping, dict) and inner[0] is str:
        return st.dictionaries(st.text(max_size=MORE), drawn(inner[1]), max_size=2)
    if origin in (Sequence, Rows) or (origin is tuple and inner[-1] is Ellipsis):
        return st.lists(drawn(inner[0]), max_size=MORE).map(Rows if origin is Rows else tuple)
    if origin is tuple:
        return st.tuples(*map(drawn, inner))
    if isinstance(hint, type) and is_dataclass(hint):
        return record_of(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        types.NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(1, 99),
        float: st.floats(0.5, 8.0),  # what properties divide by
        str: st.text(max_size=MORE),
        object: st.none() | st.integers(),
        datetime.date: st.dates(),
        Path: st.sampled_from([Path("a"), Path("a/b.json")]),
    }
    if hint not in plain:
        raise NotDrawn(hint)
    return plain[hint]


def record_of(kind: type) -> st.SearchStrategy[Any]:
    """Records whose JSON holds each of their fields. Raises NotDrawn for a class whose JSON leaves one out."""
    if ("to_dict" in kind.__dict__ and kind is not Estimate) or hasattr(kind, "__post_init__"):
        raise NotDrawn(kind)
    words = [word for word in key_words(kind) if word.key and word.mark in ("", "none") and len(word.path) == 1]
    if {f.name for f in fields(kind)} != {word.path[0] for word in words} & {f.name for f in fields(kind)}:
        raise NotDrawn(kind)
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:  # a name that type checkers alone see
        raise NotDrawn(kind) from error
    own = {name: st.sampled_from(known) for name, known in OF_CLASS.get(kind.__name__, {}).items()}
    return st.builds(kind, **{f.name: drawn(hints[f.name]) for f in fields(kind)} | own)


def _below(kind: type) -> list[type]:
    return [one for below in kind.__subclasses__() for one in (below, *_below(below))]


def kinds() -> dict[type, st.SearchStrategy[Any]]:
    """Each class that is written by its fields and can be read back, with what draws it."""
    for room in ROOMS:
        package = importlib.import_module(f"mowich.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.rpartition(".")[2].startswith("_"):
                importlib.import_module(module.name)
    found: dict[type, st.SearchStrategy[Any]] = {}
    for kind in (*_below(Keyed), *_below(Shown)):
        if (
            is_dataclass(kind) and getattr(sys.modules[kind.__module__], kind.__name__, None) is kind
        ):  # no twin of slots
            try:
                found[kind] = record_of(kind)
            except NotDrawn:
                continue
    return found


def _survives(record: Any) -> None:
    kind = type(record)
    written = record.to_dict()
    assert read_fields(kind, json.loads(json.dumps(written)), "r.json") == record
    words = key_words(kind)
    schema = ["schema"] if getattr(kind, "SCHEMA", "") else []
    keys = [*schema, *dict.fromkeys((*word.places, word.key)[0] for word in words)]
    optional = {word.key for word in words if word.is_optional}
    assert [key for key in keys if key in written or key not in optional] == list(written), kind


def test_what_is_written_is_read_back() -> None:
    by_kind = kinds()
    assert len(by_kind) >= 20, sorted(kind.__name__ for kind in by_kind)
    assert ForwardPlan in by_kind
    quick = settings(
        max_examples=3, phases=[Phase.generate], deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    for records in by_kind.values():
        quick(given(records)(_survives))()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine(Keyed):
    KEYS = "name cores?"

    name: Literal["PE", "ACT"]
    cores: Annotated[int, WholeBounds(1, 8)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip(Keyed):
    KEYS = "chip=name ran.day=day engines price twice"

    name: str
    day: datetime.date
    engines: tuple[Engine, ...] = ()
    price: float | None = None

    @property
    def twice(self) -> float | None:
        return None if self.price is None else 2.0 * self.price


CHIP = {"chip": "a", "ran": {"day": "2026-01-02"}, "engines": [{"name": "PE", "cores": 8}], "price": 1.5, "twice": 3.0}


def test_a_key_of_a_property_is_not_read() -> None:
    found = read_fields(Chip, CHIP, "r.json")
    assert found.to_dict() == CHIP
    assert read_fields(Chip, {**CHIP, "twice": 0.0}, "r.json") == found


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"chip": 3}, "r.json chip: must be a text, got 3"),
        ({"prize": 3}, "r.json prize: unknown key; allowed: chip, engines, price, ran, twice; did you mean 'price'?"),
        ({"ran": {}}, "r.json ran.day: missing key; write it again"),
        ({"ran": {"day": "soon"}}, "r.json ran.day: must be a date, got 'soon'"),
        ({"price": "3"}, "r.json price: must be a number, got '3'"),
        ({"engines": {}}, "r.json engines: must be a list, got '{}'"),
        ({"engines": [{"name": "PI"}]}, "r.json engines.0.name: is none of these, got 'PI'; allowed: PE, ACT"),
        (
            {"engines": [{"name": "PE", "cores": 9}]},
            "r.json engines.0.cores: must be a whole number, got 9; allowed: 1 to 8",
        ),
        ({"engines": [3]}, "r.json engines.0: must be a mapping, got 3"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(more: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as told:
        read_fields(Chip, {**CHIP, **more}, "r.json", fix="write it again")
    assert told.value.line() == said


def test_several_problems_are_told_at_once() -> None:
    with pytest.raises(UserErrors) as told:
        read_fields(Chip, {"price": True}, "r.json")
    assert [error.what for error in told.value.errors] == ["missing key", "missing key", "must be a number"]
