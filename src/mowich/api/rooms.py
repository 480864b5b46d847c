"""The verbs of rooms (`requests/rooms`) as Python functions: `mowich.NAME(...)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from mowich.api.keyword_verb import keyword_verb
from mowich.requests.fields import Edge
from mowich.requests.room import schema_of_room
from mowich.studies.rooms import RoomAnswer, room_answered


@cache
def room_verb(name: str) -> Callable[..., RoomAnswer]:
    """The function of a room. What it needs is given by position too."""
    schema = schema_of_room(name)
    places = [field.spelled(Edge.KEYWORD) for field in schema.at(Edge.KEYWORD) if field.needs]
    answered = room_answered(name)
    answered.__doc__ = f"{schema.help}\n\nAs a command: {schema.example}"
    return keyword_verb(schema, *places)(answered)
