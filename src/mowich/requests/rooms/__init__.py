"""Questions of one room each: a verb is three files of one name, and nothing else of the package is touched.

- `requests/rooms/NAME.py` asks: a frozen class of `Asked`, and `SCHEMA`, a `room_schema` of its fields
  (`requests/room.py`), or a `Schema` where it reads them in its own way. The schema says where the verb stands in
  lists, which keys its answer has, and what the server bears; the request says what it is `doing`, and what else is
  needed to ask it `again`;
- `studies/rooms/NAME.py`, or a folder of that name, answers: `answer(asked)` gives the rows, or an answer of a class of
  its own; its docstring is that of `mowich.NAME`. `RULES` says what each number is. It may have a `source` that makes a
  row again with its formulas, and `IS_SLOW`, where an answer takes seconds;
- `show/rooms/NAME.py` tells: `page(result, run)`.

The command line, Python, HTTP, tools for programs, `explain` and the report find them by their names.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

SCHEMA_OF = "mowich/{}@1"
"""The schema of a room's answers, by the name of the verb."""


@cache
def room_names() -> tuple[str, ...]:
    """The verbs that have a room, by the alphabet. Nothing is imported for them."""
    return tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem != "__init__"))


def room_of(schema: object) -> str | None:
    """The room of an answer, by its schema; None where it has none."""
    return next((name for name in room_names() if SCHEMA_OF.format(name) == schema), None)
