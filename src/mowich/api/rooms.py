"""The verbs of rooms (`requests/rooms`) as Python functions: `mowich.NAME(...)`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from mowich.api.keyword_verb import keyword_verb
from mowich.requests.fields import Edge
from mowich.requests.room import schema_of_room
from mowich.shown import Shown
from mowich.studies.rooms import room_answered


@cache
def room_verb(name: str) -> Callable[..., Shown]:
    """The function of a room. What it needs is given by position too; where it needs nothing, its first field is; or
    what its schema says. Its docstring is that of the study's `answer`, or, where that lists no arguments, the help of
    the command line."""
    schema = schema_of_room(name)
    fields = [field for field in schema.at(Edge.KEYWORD) if not field.group]
    needed = [field.spelled(Edge.KEYWORD) for field in [f for f in fields if f.needs] or fields[:1]]
    answered = room_answered(name)
    if "Args:" not in (answered.__doc__ or ""):
        answered.__doc__ = f"{schema.help}\n\nAs a command: {schema.example}"
    return keyword_verb(schema, *(schema.places or needed))(answered)
