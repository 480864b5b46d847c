"""A formula is written once: in the docstring of the function that computes it.

`formula_of` takes it from there, for `explain` to print, and `units_of` the units of its symbols. It is arithmetic over
named symbols, so that a test can evaluate it.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import SupportsFloat

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


Functions = Mapping[str, Callable[..., object]]

PLAIN_FUNCTIONS: Functions = MappingProxyType(
    {
        "max": max,
        "min": min,
        "sqrt": math.sqrt,
        "exp": math.exp,
        "expm1": math.expm1,
        "ln": math.log,
        "log2": math.log2,
        "floor": math.floor,
        "ceil": math.ceil,
        "round": round,
    }
)
"""Functions of numbers that every formula may call."""


def _power(a: object, b: object) -> object:
    """a ** b. Of whole numbers in floats, so that 9 ** 9 ** 9 is an error and no endless sum."""
    both_whole = isinstance(a, int) and isinstance(b, int)
    return operator.pow(float(a), b) if both_whole else operator.pow(a, b)  # type: ignore[arg-type]


_OPERATORS: Mapping[type[ast.AST], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
    ast.USub: operator.neg,
}

LONGEST_FORMULA = 1000
"""Characters of a formula that a file may state."""


class UnknownNameError(KeyError):
    """A name of a formula that the result does not have."""


@cache
def parsed(text: str) -> ast.expr:
    """The tree of a formula. Raises SyntaxError."""
    return ast.parse(text, mode="eval").body


def names_in(text: str) -> tuple[str, ...]:
    """The names that a formula reads, dotted, in order.

    >>> names_in("sum(layers.params) + head")
    ('layers.params', 'head')
    """
    out: dict[str, None] = {}

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            out[_dotted(node)] = None
        elif isinstance(node, ast.Call):
            for a in node.args:
                walk(a)
        else:
            for child in ast.iter_child_nodes(node):
                walk(child)

    walk(parsed(text))
    return tuple(out)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise SyntaxError(f"not a name: {ast.dump(node)}")


def calculated(text: str, lookup: Callable[[str], object], functions: Functions = PLAIN_FUNCTIONS) -> float:
    """The value of a formula over the names that `lookup` knows and the functions that are given.

    Raises what `lookup` raises for a name that it does not know, SyntaxError for what is not arithmetic.

    >>> calculated("a / (b * 2)", {"a": 6.0, "b": 3.0}.__getitem__)
    1.0
    """

    def value(node: ast.expr) -> object:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return lookup(_dotted(node))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.operand))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            return functions[node.func.id](*(value(a) for a in node.args))
        raise SyntaxError(f"not arithmetic: {ast.unparse(node)}")

    found = value(parsed(text))
    if not isinstance(found, SupportsFloat):
        raise TypeError(f"{text} is {type(found).__name__}, not a number")
    return float(found)


def problem_in(text: str, names: Iterable[str]) -> str:
    """What is wrong with a formula that a file states over some names, in words; "" for nothing.

    >>> problem_in("a / c", ["a", "b"])
    "nothing is called 'c'"
    >>> problem_in("a / b", ["a", "b"])
    ''
    """
    if len(text) > LONGEST_FORMULA:
        return f"a formula of {len(text)} characters, and {LONGEST_FORMULA} are the most"
    try:
        calculated(text, dict.fromkeys(names, 1.0).__getitem__)
    except KeyError as error:
        return f"nothing is called {error}"
    except SyntaxError as error:
        said = str(error.msg)
        return said if said.startswith("not a") else f"not arithmetic: {text}"
    except (TypeError, ValueError, RecursionError, MemoryError):
        return f"not arithmetic: {text}"
    except ArithmeticError:  # a division by zero, or too large a number, of the ones that stand for the facts
        return ""
    return ""
