"""The pages of rooms (`requests/rooms`): `page(result, run)` of each."""

from __future__ import annotations

from importlib import import_module

from mowich.requests.rooms import room_of
from mowich.show.page import Page, Run
from mowich.shown import Result


def room_page(result: Result, run: Run) -> Page | None:
    """The page of an answer of a room; None where it is of none."""
    name = room_of(result.get("schema"))
    if name is None:
        return None
    made: Page = import_module(f"{__name__}.{name}").page(result, run)
    return made
