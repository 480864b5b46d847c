"""The syntax tree of a running function, and what can be said of an expression of it without running it."""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from types import CodeType

LOOKED_UP = ("min", "max", "abs", "int", "len", "isinstance")
"""Those that a look-up may call."""

CLOSED = (
    ast.Attribute,
    ast.Subscript,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.Tuple,
    ast.Slice,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.boolop,
    ast.expr_context,
)


@functools.lru_cache(65536)
def stored(tree: ast.AST) -> frozenset[str]:
    """Names that are assigned in a part of a tree."""
    return frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))


@functools.lru_cache(65536)
def text_of(e: ast.expr) -> str:
    return ast.unparse(e)


@functools.lru_cache(65536)
def compiled(e: ast.expr) -> CodeType:
    return compile(text_of(e), "<guard>", "eval", dont_inherit=True)


@functools.lru_cache(65536)
def parts_of(e: ast.expr) -> tuple[frozenset[str] | None, frozenset[str]]:
    """(names in an expression, None where it may have an effect; functions of Python that it calls)."""
    names, calls = set(), set()
    for node in ast.walk(e):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Call):
            f = node.func.id if isinstance(node.func, ast.Name) else ""
            # min and max of one argument could go through an iterator
            if f not in LOOKED_UP or node.keywords or not node.args or (f in ("min", "max") and len(node.args) < 2):
                return None, frozenset()
            calls.add(f)
        elif not isinstance(node, CLOSED):
            return None, frozenset()
    return frozenset(names), frozenset(calls)


_FILES: dict[str, tuple[str, ast.Module, dict[tuple[str, int], list[CodeType]]] | None] = {}


def tree_of(code: CodeType) -> ast.AST | None:
    """The syntax tree of the function that a code object comes from, None where the file no longer says the same."""
    text = "".join(linecache.getlines(code.co_filename))
    known = _FILES.get(code.co_filename)
    if known is None or known[0] != text:
        known = _FILES[code.co_filename] = _read(text, code.co_filename)
    if known is None:
        return None
    _, tree, codes = known
    if not any(c == code for c in codes.get((code.co_name, code.co_firstlineno), ())):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    return None


def _read(text: str, file: str) -> tuple[str, ast.Module, dict[tuple[str, int], list[CodeType]]] | None:
    try:
        tree = ast.parse(text)
        top = compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    codes: dict[tuple[str, int], list[CodeType]] = {}
    for c in _codes(top):
        codes.setdefault((c.co_name, c.co_firstlineno), []).append(c)
    return text, tree, codes


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, CodeType):
            yield from _codes(c)
