"""Formulas as data: arithmetic over the names of a result, evaluated on the very numbers that the result holds.

`tokens / (chips_used * step_s)` reads `chips_used` and `step_s` beside the number that is explained, `tokens` further
out or in the inputs. Attribute access walks into objects and over lists (`layers.params` of a list is an array), so
`sum(layers.count * layers.params)` is a formula too. Nothing but arithmetic and the functions of `_FUNCTIONS` is
allowed: a formula is text in a table, never code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import SupportsFloat

import numpy as np

from mowich.arrays import Floats
from mowich.operators.law import beside, both

Lookup = Callable[[str], object]

_OPERATORS: Mapping[type[ast.AST], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


def _total(x: Mapping[str, float] | Sequence[float] | Floats) -> float:
    """Sum of a list, an array, or of the values of an object."""
    return float(np.sum(list(x.values()) if isinstance(x, Mapping) else x))


_FUNCTIONS: Mapping[str, Callable[..., float | Floats]] = {
    "sum": _total,
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
    "median": lambda x: float(np.median(x)),
    "count": len,
    "beside": lambda T, share, window, contention: float(
        beside(np.array([T]), share, np.array([window]), contention)[0]
    ),
    "both": lambda a, b: float(both(np.array([a]), np.array([b]))[0]),
}


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


def evaluate(text: str, lookup: Lookup) -> float:
    """The value of a formula. Raises UnknownNameError for a name that `lookup` does not know, and SyntaxError for what
    is not arithmetic.

    >>> evaluate("a / (b * 2)", {"a": 6.0, "b": 3.0}.__getitem__)
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
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            return _FUNCTIONS[node.func.id](*(value(a) for a in node.args))
        raise SyntaxError(f"not arithmetic: {ast.unparse(node)}")

    found = value(parsed(text))
    if not isinstance(found, SupportsFloat):
        raise TypeError(f"{text} is {type(found).__name__}, not a number")
    return float(found)
