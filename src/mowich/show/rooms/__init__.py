"""The pages of rooms (`requests/rooms`): `page(result, run)` of each."""

from __future__ import annotations

from importlib import import_module

from mowich.requests.rooms import room_of
from mowich.show.page import Page, Run
from mowich.shown import Result


def room_page(result: Result, run: Run) -> Page:
    """The page of an answer of a room."""
    made: Page = import_module(f"{__name__}.{room_of(result.get('schema'))}").page(result, run)
    return made
