"""The answers of rooms (`requests/rooms`): a study is `answer(asked)`, which gives the rows, or an answer of its own.

What all have alike is here: the answer as a list that prints itself, and what it did with the facts that were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType

from mowich.requests.common import Asked
from mowich.requests.room import own_values
from mowich.requests.rooms import SCHEMA_OF
from mowich.shown import AnswerList, Keyed, Shown
from mowich.studies.heard import heard


class RoomAnswer(AnswerList[Keyed]):
    """The answer of a room whose study gives rows: a list of them. inputs: what was asked, by field.

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


def room_answered(name: str) -> Callable[[Asked], Shown]:
    """What answers the questions of a room. Nobody asks a slow one again without a fact, to see what moves nothing."""
    study = room_study(name)

    @heard(again=not getattr(study, "IS_SLOW", False))
    def answered(asked: Asked) -> Shown:
        found = study.answer(asked)
        if isinstance(found, Shown):
            return found
        return RoomAnswer(name, found, facts_hash=asked.facts.hash(), inputs=own_values(name, asked))

    answered.__name__ = answered.__qualname__ = name
    answered.__module__, answered.__doc__ = study.__name__, study.answer.__doc__
    gives = str(study.answer.__annotations__["return"])
    answered.__annotations__ = {"return": "RoomAnswer" if gives.startswith("list[") else gives}
    return answered
