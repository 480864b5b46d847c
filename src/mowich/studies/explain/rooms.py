"""A row of a room made again (`requests/rooms`): where its study has no `source`, the room is asked again under other
facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mowich.facts import Facts
from mowich.models.model import Model
from mowich.requests.fields import Edge
from mowich.requests.room import own_fields, schema_of_room
from mowich.requests.rooms import room_of
from mowich.requests.schema import QuestionSource
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers
from mowich.studies.rooms import room_study


def room_row(result: Result, place: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source | None:
    """The source of a room's answer; None for an answer of no room. model: the model of the result."""
    name = room_of(result["schema"])
    if name is None:
        return None
    study, schema = room_study(name), schema_of_room(name)
    if hasattr(study, "source"):
        own: Source | None = study.source(result, place, row, facts, model)
        return own
    stated = {field.name: field.stated(result) for field in own_fields(schema)}
    values = {name: value for name, value in stated.items() if value is not None}
    asked = schema.read(values, QuestionSource(edge=Edge.KEY, facts=facts))

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        rows = study.answer(replace(asked, facts=known))
        return flat_numbers(rows[int(place[1])].to_dict())

    return Source(at=place, numbers=numbers, title=str(row.get("system", "")))
