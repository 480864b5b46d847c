"""What every saved result of Mowich obeys. A file that was changed by hand or cut short is told by its numbers.

A digest of the numbers would not do: their last digits differ between processors. What is checked here holds for every
answer (tests/requests/test_result_check.py goes through those that are kept).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mowich.errors import UserError, UserErrors

_ENDS = ("low", "value", "high")
SHARES = frozenset(("mfu", "mbu", "goodput", "utilisation"))
"""Names of shares of a whole, beside those that end in `_frac`."""
SIGNED = frozenset(("margin",))
"""Names of estimates that may be below 0."""
ROUNDING = 1e-6
"""Share by which a sum, or the order of ends, may be off: files may hold fewer digits."""
_SHARE = "0 to 1"
_TOLD = 5
"""Problems that are told at once."""


@contextmanager
def whole_result(where: str) -> Iterator[None]:
    """Raises UserError where the block misses something of a saved result, or finds another kind of value."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, ArithmeticError, StopIteration) as error:
        raise UserError(
            f"not a whole result: {type(error).__name__} {error}",
            where=where,
            fix="make it again with its verb and --out FILE",
        ) from error


def check_result(data: Mapping[str, object], where: str) -> None:
    """Raises UserErrors, each with its place in the result, where numbers are not what a result has: an end of a range
    on the wrong side of its value, parts that do not sum, a share above 1, an amount below 0, a value that is not a
    number."""
    found = []
    for error in _problems(data, ""):
        found.append(error)
        if len(found) == _TOLD:
            break
    for error in found:
        error.where = f"{where} {error.where}"
        error.fix = "the file was changed since mowich wrote it; make the result again"
    if found:
        raise UserErrors(found)


def _problems(node: object, at: str) -> Iterator[UserError]:
    """What is wrong below a place; `where` of each is its path."""
    if isinstance(node, Mapping):
        if {"value", "unit", "low", "high"} <= node.keys():
            yield from _of_estimate(node, at)
            return
        for key, value in node.items():
            yield from _of_share(str(key), value, f"{at}.{key}".lstrip("."))
            yield from _problems(value, f"{at}.{key}".lstrip("."))
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for i, value in enumerate(node):
            yield from _problems(value, f"{at}.{i}".lstrip("."))


def _of_share(name: str, value: object, at: str) -> Iterator[UserError]:
    """A plain number whose name says that it is a share."""
    if not _is_share(name) or isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not 0.0 <= value <= 1.0 + ROUNDING:
        yield UserError("not a share", where=at, given=value, allowed=_SHARE)


def _of_estimate(node: Mapping[str, object], at: str) -> Iterator[UserError]:
    """An estimate: its grade, its numbers, their order, its bounds, its parts."""
    from mowich.estimate import GRADES  # it brings NumPy, which a page of help does without

    name, known = at.rpartition(".")[2], {}
    if node.get("grade", "D") not in (*GRADES, "user"):
        yield UserError("not a grade", where=f"{at}.grade", given=node["grade"], allowed=[*GRADES, "user"])
    for end in _ENDS:
        x = node[end]
        if x is None:
            continue
        if (number := _number(x)) is None:
            yield UserError("not a number", where=f"{at}.{end}", given=x)
            return
        known[end] = number
        if number < 0.0 and name not in SIGNED:
            yield UserError("below 0", where=f"{at}.{end}", given=x)
        elif number > 1.0 + ROUNDING and _is_share(name):
            yield UserError("not a share", where=f"{at}.{end}", given=x, allowed=_SHARE)
    if "value" not in known:
        return
    value = known["value"]
    slack = ROUNDING * abs(value)
    is_ranged = "low" in known and "high" in known
    if ("low" in known) is not ("high" in known) or (
        is_ranged and not known["low"] - slack <= value <= known["high"] + slack
    ):
        given = f"{node['value']} ({node['low']} to {node['high']})"
        yield UserError("value and range do not fit", where=at, given=given, allowed="low <= value <= high")
    yield from _of_breakdown(node, value, at)


def _of_breakdown(node: Mapping[str, object], value: float, at: str) -> Iterator[UserError]:
    """The parts of an estimate, where it has some: each is a number, and their sum is its value."""
    breakdown = node.get("breakdown")
    if not isinstance(breakdown, Mapping) or not breakdown:
        return
    parts = {key: _number(x) for key, x in breakdown.items()}
    wrong = next((key for key, x in parts.items() if x is None), None)
    if wrong is not None:
        yield UserError("not a number", where=f"{at}.breakdown.{wrong}", given=breakdown[wrong])
        return
    sizes = [x for x in parts.values() if x is not None]
    whole = math.fsum(sizes)
    if abs(whole - value) > ROUNDING * max(abs(value), *map(abs, sizes)):
        yield UserError("is not the sum of its breakdown", where=at, given=node["value"], allowed=f"{whole:.12g}")


def _is_share(name: str) -> bool:
    return name in SHARES or name.endswith("_frac")


def _number(x: object) -> float | None:
    """A finite number; None for anything else."""
    is_one = isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
    return float(x) if is_one else None  # type: ignore[arg-type]
