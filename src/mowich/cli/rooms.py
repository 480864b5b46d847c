"""The verbs of rooms (`requests/rooms`) on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typer import Typer

from mowich.cli.options import verb
from mowich.cli.output import emit, noter, progress
from mowich.requests.common import Asked
from mowich.requests.room import asked_again, schema_of_room


def add_rooms(app: Typer, names: Iterable[str]) -> None:
    """The application with these verbs."""
    there = {command.name for command in app.registered_commands}
    for name in names:
        if name not in there:
            verb(app, schema_of_room(name), name)(_answer_of(name))


def _answer_of(name: str) -> Callable[[Asked], None]:
    """What the parser calls: asks a room and prints its answer. An answer for programs has its warnings on stderr."""

    def answer(asked: Asked) -> None:
        from mowich.studies.rooms import room_answered

        form = asked.form
        with progress(form.quiet) as line:
            if asked.doing():
                line(asked.doing())
            found = room_answered(name)(asked)
        note = noter(form.quiet or not (form.as_json or form.as_csv))
        for warning in getattr(found, "warnings", ()):
            note(warning)
        emit(found.to_dict(), form, inputs=asked_again(asked), model=getattr(asked, "model", None))

    answer.__name__ = name
    return answer
