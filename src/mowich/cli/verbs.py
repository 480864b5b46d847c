"""Which module has which verb: a command line loads the module of its verb alone, and all for a list of verbs.

The module of a verb brings its schema and the schemas that stand beside it. All of them take longer than Python's
start. A verb that registers itself (`cli/options.py:verb`) and stands in no line here is found too, when its module is
imported: only its place in `--help` is the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from typer import Typer

from mowich.cli.options import command_word
from mowich.requests.rooms import room_names

VERB_MODULES: Mapping[str, Sequence[str]] = {
    "plan": ("compare", "plan", "fit"),
    "serving": ("traffic",),
    "rl": ("rl",),
    "brief": ("brief",),
    "sweep": ("sweep",),
    "fleet": ("fleet",),
    "model": ("model",),
    "capture": ("capture",),
    "explain": ("explain",),
    "report": ("report",),
    "validate": ("validate",),
    "verify": ("verify",),
    "forecast": ("forecast",),
    "next": ("next",),
    "calibrate": ("calibrate",),
    "facts": ("facts",),
    "kernel": ("kernel run",),
    "kernel_check": ("kernel check",),
    "kernel_profile": ("kernel profile", "kernel diff"),
    "kernel_judge": ("kernel judge",),
    "kernel_advise": ("kernel advise",),
    "kernel_tune": ("kernel tune",),
    "kernel_tasks": ("kernel tasks",),
    "kernel_layer": ("kernel layer",),
    "kernel_tables": ("kernel tables",),
    "example": ("example",),
    "web": ("web",),
    "mcp": ("mcp",),
}
"""Module of `cli` -> its verbs, with the word of their group, in the order of `--help`. Verbs of rooms stand
behind those that their schemas name (`requests.room.with_rooms`)."""

ALL_VERBS = frozenset((*(verb.split()[0] for verbs in VERB_MODULES.values() for verb in verbs), *room_names()))
"""The first word of every command line."""


def load_verb(app: Typer, words: Sequence[str]) -> None:
    """Import what a command line needs: the module of its verb; every module where it begins with no verb."""
    if list(words) == ["--version"]:
        return
    begins = {" ".join(words[:1]), " ".join(words[:2])}
    found = next((module for module, verbs in VERB_MODULES.items() if begins & set(verbs)), None)
    if found is None and words and words[0] in room_names():
        _add_rooms(app, words[:1])
    elif found is None:
        load_verbs(app)
    else:
        import_module(f"mowich.cli.{found}")


def load_verbs(app: Typer) -> Typer:
    """The application with every verb, in the order of `--help`, whichever of them was imported first."""
    for module in VERB_MODULES:
        import_module(f"mowich.cli.{module}")
    _add_rooms(app, room_names())
    from mowich.requests.room import with_rooms

    order = with_rooms(verb for verbs in VERB_MODULES.values() for verb in verbs)
    _sort(app, "", {verb: place for place, verb in enumerate(order)})
    return app


def _add_rooms(app: Typer, names: Sequence[str]) -> None:
    if names:
        from mowich.cli.rooms import add_rooms

        add_rooms(app, names)


def _sort(app: Typer, group: str, places: Mapping[str, int]) -> None:
    last = len(places)
    own = {c: places.get(f"{group}{command_word(c)}", last) for c in app.registered_commands}
    app.registered_commands.sort(key=own.__getitem__)
    for within in app.registered_groups:
        if within.typer_instance is not None:
            _sort(within.typer_instance, f"{within.name} ", places)
    app.registered_groups.sort(
        key=lambda g: min((at for verb, at in places.items() if verb.split()[0] == g.name), default=last)
    )
