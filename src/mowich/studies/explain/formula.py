"""Formulas as data: arithmetic over the names of a result, evaluated on the very numbers that the result holds.

`tokens / (chips_used * step_s)` reads `chips_used` and `step_s` next to the explained number, `tokens` further out or
in the inputs. Attribute access walks into objects and over lists (`layers.params` of a list is an array), so
`sum(layers.count * layers.params)` is a formula too. Nothing but arithmetic and the functions of `_FUNCTIONS` is
allowed: a formula is text in a table, never code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mowich.arrays import Floats
from mowich.formula import PLAIN_FUNCTIONS, Functions, UnknownNameError, calculated, names_in
from mowich.operators.law import beside, both

__all__ = ["UnknownNameError", "evaluate", "names_in"]

Lookup = Callable[[str], object]


def _total(x: Mapping[str, float] | Sequence[float] | Floats) -> float:
    """Sum of a list, an array, or of the values of an object."""
    return float(np.sum(list(x.values()) if isinstance(x, Mapping) else x))


_FUNCTIONS: Functions = {
    **PLAIN_FUNCTIONS,
    "sum": _total,
    "median": lambda x: float(np.median(x)),
    "count": len,
    "beside": lambda T, share, window, contention: float(
        beside(np.array([T]), share, np.array([window]), contention)[0]
    ),
    "both": lambda a, b: float(both(np.array([a]), np.array([b]))[0]),
}


def evaluate(text: str, lookup: Lookup) -> float:
    """The value of a formula. Raises UnknownNameError for a name that `lookup` does not know, and SyntaxError for what
    is not arithmetic.

    >>> evaluate("a / (b * 2)", {"a": 6.0, "b": 3.0}.__getitem__)
    1.0
    """
    return calculated(text, lookup, _FUNCTIONS)
