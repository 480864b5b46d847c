"""A formula is written once: in the docstring of the function that computes it.

`formula_of` takes it from there, for `explain` to print. It is arithmetic over the function's parameters, so that a
test can evaluate it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache


@cache
def formula_of(law: Callable[..., object]) -> str:
    """The formula of a function: the paragraph of its docstring that begins with "T = ", without that, on one line.

    Raises ValueError for a function that states none.
    """
    for paragraph in (inspect.getdoc(law) or "").split("\n\n"):
        if paragraph.startswith("T = "):
            return " ".join(paragraph.removeprefix("T = ").split())
    raise ValueError(f"{law.__name__} states no formula")


def printed(formula: str) -> str:
    """A formula as it is shown: x for times, ^ for powers.

    >>> printed("a * b**2")
    'a x b^2'
    """
    return formula.replace(" ** ", "^").replace("**", "^").replace(" * ", " x ")
