"""What the question of a room is made of (`requests/rooms`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import TypeVar

from mowich.requests import rooms
from mowich.requests.common import FORM, Asked
from mowich.requests.fields import Field
from mowich.requests.rooms import room_names
from mowich.requests.schema import ROW_KEYS, QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, asked_of

A = TypeVar("A", bound=Asked)


def schema_of_room(name: str) -> Schema[Asked]:
    """What a room asks."""
    schema: Schema[Asked] = import_module(f"{rooms.__name__}.{name}").SCHEMA
    if schema.name != name:
        raise ValueError(f"{rooms.__name__}.{name} asks {schema.name}: file and verb have one name")
    return schema


def _nothing(reader: QuestionReader) -> Mapping[str, object]:
    return {}


def room_schema(
    name: str,
    asked: type[A],
    *own: Field[object],
    help: str,
    short: str,
    example: str,
    after: str = "",
    keys: Mapping[str, str] = ROW_KEYS,
    read: Callable[[QuestionReader], Mapping[str, object]] = _nothing,
) -> Schema[A]:
    """The schema of a room that asks of facts alone. asked: its request, whose attributes are called as Python calls
    the fields; own: its fields; those of facts and of the form of an answer stand beside them; after, keys: as in
    `Schema`; read: notes what is wrong beyond single fields, and gives attributes that are no field's value."""
    fields = tuple(field if field.told else replace(field, told=field.keyword or field.name) for field in own)

    def make(reader: QuestionReader) -> A:
        made = asked_of(reader, f"{name} takes no plan and no price")
        more = read(reader)
        reader.stop()
        return reader.fill(asked, **made, **more)

    return Schema(
        name=name,
        fields=(*fields, *OF_FACTS, *FORM),
        make=make,
        help=help,
        short=short,
        example=example,
        after=after,
        keys=keys,
    )


def own_fields(schema: Schema[Asked]) -> list[Field[object]]:
    """The fields of a room beside those of facts and of the form of an answer."""
    return [field for field in schema.fields if field not in (*OF_FACTS, *FORM)]


def own_values(name: str, asked: Asked) -> dict[str, object]:
    """What a room was asked, as its answer says it: the attributes of its request by their names."""
    values = {key: getattr(asked, key) for key in (f.keyword or f.name for f in own_fields(schema_of_room(name)))}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def asked_again(asked: Asked) -> Mapping[str, object]:
    """What else than its inputs is needed to ask a question again."""
    again: Callable[[], Mapping[str, object]] | object = getattr(asked, "again", None)
    return again() if callable(again) else asked.given


def with_rooms(verbs: Iterable[str]) -> list[str]:
    """Verbs in their order, and each room behind the verb that its schema names; at the end where that is not among
    them."""
    order = list(verbs)

    def put(name: str) -> None:
        after = schema_of_room(name).after
        if after in room_names() and after not in order:
            put(after)
        if name not in order:
            order.insert(order.index(after) + 1 if after in order else len(order), name)

    for name in room_names():
        put(name)
    return order
