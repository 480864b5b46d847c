"""Mowich: Trainium 3 in software, beside the machines it competes with.

The public functions mirror the verbs of the command line; each is imported when it is first used.

>>> import mowich
>>> mowich.load("llama-3.1-8b").params
8030261248
"""

from __future__ import annotations

import sys
from types import ModuleType

from mowich import shown
from mowich.api.names import HOMES
from mowich.requests.rooms import room_names
from mowich.version import VERSION

__version__ = VERSION

__all__ = ["__version__", *sorted((*HOMES, *room_names()))]


def _notebook() -> shown.Drawer:
    # Results draw themselves in a notebook with the report, which stands above them; it is loaded when one is drawn.
    from mowich.show.render import notebook

    return notebook


shown.draw_with(_notebook)


def __getattr__(name: str) -> object:
    if name in HOMES:
        import importlib

        return getattr(importlib.import_module(HOMES[name]), name)
    if name in _PACKAGES:
        import importlib

        return importlib.import_module(f"mowich.{name}")
    if name in room_names():
        from mowich.api.rooms import room_verb

        return room_verb(name)
    raise AttributeError(f"module 'mowich' has no attribute '{name}'")


class _Package(ModuleType):
    """This package. A package of the same name as the verb `rl` lies in it, which Python would put in the verb's place
    when it is imported."""

    @property
    def rl(self) -> object:
        return __getattr__("rl")

    @rl.setter
    def rl(self, package: object) -> None:
        return None


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return [*__all__, *_PACKAGES]


_PACKAGES = ("gym", "nki")
"""Packages that need no import of their own."""
