"""Mowich: Trainium 3 in software, beside the machines it competes with.

The public functions mirror the verbs of the command line; each is imported when it is first used.

>>> import mowich
>>> mowich.load("llama-3.1-8b").params
8030261248
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich import shown
from mowich.version import VERSION

__version__ = VERSION

__all__ = [
    "__version__",
    "brief",
    "calibrate",
    "check_kernel",
    "claims",
    "collective",
    "compare",
    "emit",
    "explain",
    "fit",
    "fleet",
    "gap",
    "goodput",
    "load",
    "neighbours",
    "pareto",
    "plan",
    "power",
    "prices",
    "run_kernel",
    "run_layer",
    "stale_facts",
    "sweep",
    "system",
    "traffic",
    "validate",
    "value",
]

if TYPE_CHECKING:
    from mowich.api import (
        brief,
        calibrate,
        check_kernel,
        claims,
        collective,
        compare,
        emit,
        explain,
        fit,
        fleet,
        gap,
        goodput,
        load,
        neighbours,
        pareto,
        plan,
        power,
        prices,
        run_kernel,
        run_layer,
        stale_facts,
        sweep,
        system,
        traffic,
        validate,
        value,
    )


def _notebook() -> shown.Drawer:
    # Results draw themselves in a notebook with the report, which stands above them; it is loaded when one is drawn.
    from mowich.show.render import notebook

    return notebook


shown.draw_with(_notebook)


def __getattr__(name: str) -> object:
    if name in __all__:
        from mowich import api

        return getattr(api, name)
    if name == "nki":
        import importlib

        return importlib.import_module("mowich.nki")
    raise AttributeError(f"module 'mowich' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "nki"]
