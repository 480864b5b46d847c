"""The verbs of rooms (`requests/rooms`) on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typer import Typer

from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests.room import RoomRequest, schema_of_room


def add_rooms(app: Typer, names: Iterable[str]) -> None:
    """The application with these verbs."""
    there = {command.name for command in app.registered_commands}
    for name in names:
        if name not in there:
            verb(app, schema_of_room(name), name)(_answer_of(name))


def _answer_of(name: str) -> Callable[[RoomRequest], None]:
    """What the parser calls: asks a room and prints its answer."""

    def answer(asked: RoomRequest) -> None:
        from mowich.studies.rooms import room_answered

        with progress(asked.form.quiet) as line:
            line("asking")
            found = room_answered(name)(asked)
        emit(found.to_dict(), asked.form, inputs=asked.given)

    return answer
