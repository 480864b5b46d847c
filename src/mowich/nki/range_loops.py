"""Loops over Python's `range` in the function of a kernel, as those that are repeated (`nki.loops`)."""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import SupportsIndex
from weakref import WeakKeyDictionary

from mowich.nki.affine.source import tree_of
from mowich.nki.loops import over


def _range(*bounds: SupportsIndex) -> Iterable[int]:
    """What `range` is to a kernel whose loops may be repeated."""
    return over(range(*bounds))


_WITH_RANGE_LOOPS: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()
_BUILTINS = {**vars(builtins), "range": _range}


def with_range_loops(func: Callable[..., object]) -> Callable[..., object]:
    """The same function, whose loops over Python's `range` may be repeated as those over `nl.affine_range` are. It has
    the same code and the same globals; where its source names `range` elsewhere than in a loop, it is left alone."""
    if not isinstance(func, FunctionType) or "range" in func.__globals__ or not _has_range_loops(func.__code__):
        return func
    made = _WITH_RANGE_LOOPS.get(func)
    if made is None or made.__code__ is not func.__code__:
        space, key = func.__globals__, "__builtins__"
        before = space.get(key)
        if before is not builtins and before is not vars(builtins):
            return func
        space[key] = _BUILTINS  # a function keeps those that its globals had when it was made
        try:
            made = FunctionType(func.__code__, space, func.__name__, func.__defaults__, func.__closure__)
        finally:
            space[key] = before
        functools.update_wrapper(made, func)
        made.__kwdefaults__ = func.__kwdefaults__
        _WITH_RANGE_LOOPS[func] = made
    return made


@functools.lru_cache(1024)
def _has_range_loops(code: CodeType) -> bool:
    """Whether a function names `range`, and all that it does with it is to go through it in loops."""
    if "range" not in code.co_names or (tree := tree_of(code)) is None:
        return False
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "range"]
    calls = [n.iter.func for n in ast.walk(tree) if isinstance(n, ast.For) and isinstance(n.iter, ast.Call)]
    return all(any(n is call for call in calls) for n in named)
