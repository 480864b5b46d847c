"""Questions of one room each: a verb is three files of one name, and nothing else of the package is touched.

- `requests/rooms/NAME.py` asks: a frozen class of `RoomRequest`, and `SCHEMA`, a `room_schema` of its fields;
- `studies/rooms/NAME.py` answers: `answer(asked)` gives the rows, and `RULES` says what each number of a row is;
- `show/rooms/NAME.py` tells: `page(result, run)`.

The command line, Python, HTTP, tools for programs, `explain` and the report find them by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from mowich.requests.common import FORM, Asked
from mowich.requests.fields import Field
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of

SCHEMA_OF = "mowich/{}@1"
"""The schema of a room's answers, by the name of the verb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRequest(Asked):
    """A question of the facts. Fields of its own are called as Python calls those of the schema."""


A = TypeVar("A", bound=RoomRequest)


@cache
def room_names() -> tuple[str, ...]:
    """The verbs that have a room, by the alphabet. Nothing is imported for them."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def schema_of_room(name: str) -> Schema[RoomRequest]:
    """What a room asks."""
    schema: Schema[RoomRequest] = import_module(f"{__name__}.{name}").SCHEMA
    if schema.name != name:
        raise ValueError(f"{__name__}.{name} asks {schema.name}: file and verb have one name")
    return schema


def room_schema(name: str, asked: type[A], *own: Field[object], help: str, short: str, example: str) -> Schema[A]:
    """The schema of a room. own: its fields; those of facts and of the form of an answer stand beside them."""

    def make(reader: QuestionReader) -> A:
        made = asked_of(reader, f"mowich {name} asks of facts alone")
        reader.stop()
        return reader.fill(asked, **made)

    every = (*own, *OF_FACTS, *FORM)
    return Schema(name=name, fields=every, make=make, help=help, short=short, example=example)


def _own(schema: Schema[RoomRequest]) -> Mapping[str, str]:
    """Attributes of a request, which are keys of its answer's inputs too -> the names of the fields."""
    return {field.keyword or field.name: field.name for field in schema.fields if field not in (*OF_FACTS, *FORM)}


def own_values(name: str, asked: RoomRequest) -> dict[str, object]:
    """What a room was asked, as its answer says it."""
    values = {key: getattr(asked, key) for key in _own(schema_of_room(name))}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def values_asked(name: str, inputs: Mapping[str, object]) -> dict[str, object]:
    """The same, out of the inputs of an answer, by field."""
    own = _own(schema_of_room(name))
    return {own[key]: value for key, value in inputs.items() if key in own and value is not None}


def room_of(schema: object) -> str | None:
    """The room of an answer, by its schema; None where it has none."""
    return next((name for name in room_names() if SCHEMA_OF.format(name) == schema), None)
