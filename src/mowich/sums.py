"""Sums of floats, from left to right with one rounding an addition: the same bits on every Python.

From Python 3.12 on `sum` compensates for what floats round off, so an answer would have other last digits than on 3.11,
and a decision between two that are equal another outcome. Whole numbers and arrays are summed as ever. Type checks
(`tools/mypy_sums.py`) refuse `sum` over floats.
"""

from __future__ import annotations

from collections.abc import Iterable


def float_sum(numbers: Iterable[float], start: float = 0.0) -> float:
    """The sum of numbers, one after the other.

    >>> float_sum([0.1] * 10)
    0.9999999999999999
    """
    total = start
    for number in numbers:
        total += number
    return total
