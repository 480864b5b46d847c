"""A formula is written once: in the docstring of the function that computes it.

`formula_of` takes it from there, for `explain` to print, and `units_of` the units of its symbols. It is arithmetic over
named symbols, so that a test can evaluate it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

Law = Callable[..., object]
"""A function whose docstring states a formula."""


def _paragraph(law: Law, start: str) -> str | None:
    """The paragraph of a docstring that begins with `start`, without that, on one line."""
    for paragraph in (inspect.getdoc(law) or "").split("\n\n"):
        if paragraph.startswith(start):
            return " ".join(paragraph.removeprefix(start).split())
    return None


@cache
def formula_of(law: Law) -> str:
    """The formula of a function: the paragraph of its docstring that begins with "T = ", without that, on one line.

    Raises ValueError for a function that states none.
    """
    found = _paragraph(law, "T = ")
    if found is None:
        raise ValueError(f"{law.__name__} states no formula")
    return found


@cache
def units_of(law: Law) -> Mapping[str, str]:
    """Symbol -> unit, of the docstring's paragraph "Units: B bytes/s, P FLOP/s.": counts and shares are not listed."""
    found = _paragraph(law, "Units: ") or ""
    pairs = (entry.partition(" ") for entry in found.rstrip(".").split(", ") if entry)
    return MappingProxyType({name: unit for name, _, unit in pairs})


def printed(formula: str) -> str:
    """A formula as it is shown: x for times, ^ for powers.

    >>> printed("a * b**2")
    'a x b^2'
    """
    return formula.replace(" ** ", "^").replace("**", "^").replace(" * ", " x ")
