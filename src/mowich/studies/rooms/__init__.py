"""The answers of rooms (`requests/rooms`): a study is `answer(asked)`, which gives the rows.

What all have alike is here: the answer as a list that prints itself, and what it did with the facts that were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType

from mowich.requests.room import RoomRequest, own_values
from mowich.requests.rooms import SCHEMA_OF
from mowich.shown import AnswerList, Keyed
from mowich.studies.heard import heard


class RoomAnswer(AnswerList[Keyed]):
    """The answer of a room: a list of rows. inputs: what was asked, by field.

    Units: SI.

    Example:
        >>> from mowich.requests.rooms import room_names
        >>> sorted(room_names()) == list(room_names())
        True
    """

    KEYS = "facts_hash inputs rows"

    def __init__(self, name: str, rows: Sequence[Keyed], *, facts_hash: str, inputs: Mapping[str, object]) -> None:
        super().__init__(rows)
        self.name, self.facts_hash, self.inputs = name, facts_hash, dict(inputs)
        self.SCHEMA = SCHEMA_OF.format(name)


def room_study(name: str) -> ModuleType:
    """The module that answers the questions of a room."""
    return import_module(f"{__name__}.{name}")


def room_answered(name: str) -> Callable[[RoomRequest], RoomAnswer]:
    """What answers the questions of a room."""

    @heard(again=True)
    def answered(asked: RoomRequest) -> RoomAnswer:
        rows = room_study(name).answer(asked)
        return RoomAnswer(name, rows, facts_hash=asked.facts.hash(), inputs=own_values(name, asked))

    answered.__name__ = answered.__qualname__ = name
    return answered
