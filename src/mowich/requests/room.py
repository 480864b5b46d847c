"""What the question of a room is made of (`requests/rooms`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

from mowich.requests import rooms
from mowich.requests.common import FORM, Asked
from mowich.requests.fields import Field
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRequest(Asked):
    """A question of the facts. Fields of its own are called as Python calls those of the schema."""


A = TypeVar("A", bound=RoomRequest)


def schema_of_room(name: str) -> Schema[RoomRequest]:
    """What a room asks."""
    schema: Schema[RoomRequest] = import_module(f"{rooms.__name__}.{name}").SCHEMA
    if schema.name != name:
        raise ValueError(f"{rooms.__name__}.{name} asks {schema.name}: file and verb have one name")
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
