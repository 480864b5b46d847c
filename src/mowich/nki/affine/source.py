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


# which names are read after a loop
# -------------------------------------------------------------------------------------------------------

_READS, _KILLS, _NEITHER = range(3)
_SEES_NAMES = frozenset(("locals", "vars", "eval", "exec", "dir"))
"""Functions of Python that may read any name."""


def is_read_after(function: ast.AST, loop: ast.For) -> bool:
    """Whether a function may read, once a loop of its own has ended, a name as the loop left it. What is not followed
    counts as a reader."""
    if _loaded(function) & _SEES_NAMES or any(isinstance(n, ast.Global | ast.Nonlocal) for n in ast.walk(function)):
        return True
    path = _path_to(function, loop)
    return path is None or any(_is_live(path, name) for name in stored(loop))


def _path_to(node: ast.AST, loop: ast.stmt) -> list[tuple[ast.AST, list[ast.stmt], int]] | None:
    """(statement, block of it, place in the block) on the way from a function down to a loop."""
    for field in ("body", "orelse"):
        block = getattr(node, field, [])
        if not isinstance(block, list):
            continue
        for i, s in enumerate(block):
            if s is loop:
                return [(node, block, i)]
            below = _path_to(s, loop) if isinstance(s, ast.For | ast.If | ast.With | ast.While) else None
            if below is not None:
                return [(node, block, i), *below]
    return None


def _is_live(path: list[tuple[ast.AST, list[ast.stmt], int]], name: str) -> bool:
    """Whether a name may be read after the last statement of a path, before it is assigned again."""
    for around, block, i in reversed(path):
        found = _first_of(block[i + 1 :], name)
        if found == _READS:
            return True
        if isinstance(around, ast.For | ast.While) and _named_in(around, name):
            if any(isinstance(n, ast.Break | ast.Continue) for n in ast.walk(around)):
                found = _NEITHER
            # the next turn; what the block kills on the way there, the way out of the loop may miss
            is_target = isinstance(around, ast.For) and name in stored(around.target)
            if isinstance(around, ast.While) and _loads(around.test, name):
                return True
            if found != _KILLS and not is_target and _first_of(block, name) == _READS:
                return True
        if found == _KILLS:
            return False
    return False


def _first_of(block: list[ast.stmt], name: str) -> int:
    """What statements, one after the other, do first to a name: read it, assign it in any case, or neither."""
    for s in block:
        found = _first(s, name)
        if found != _NEITHER:
            return found
    return _NEITHER


def _first(s: ast.stmt, name: str) -> int:
    if not _named_in(s, name):
        return _NEITHER
    if isinstance(s, ast.Assign | ast.AnnAssign):
        targets = s.targets if isinstance(s, ast.Assign) else [s.target]
        if (s.value is not None and _loads(s.value, name)) or any(_loads(t, name) for t in targets):
            return _READS
        return _KILLS if s.value is not None and any(name in stored(t) for t in targets) else _NEITHER
    if isinstance(s, ast.Expr | ast.Assert | ast.Return | ast.Raise):
        return _READS if _loads(s, name) else _NEITHER
    if isinstance(s, ast.If):
        if _loads(s.test, name):
            return _READS
        both = {_first_of(s.body, name), _first_of(s.orelse, name)}
        return _READS if _READS in both else _KILLS if both == {_KILLS} else _NEITHER
    if isinstance(s, ast.For) and not s.orelse:  # it may have no turn
        if _loads(s.iter, name) or _loads(s.target, name):
            return _READS
        if name in stored(s.target):
            return _NEITHER
        return _READS if _first_of(s.body, name) == _READS else _NEITHER
    return _READS


@functools.lru_cache(65536)
def _loaded(tree: ast.AST) -> frozenset[str]:
    """Names that are read in a part of a tree."""
    return frozenset(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


def _named_in(node: ast.AST, name: str) -> bool:
    return name in _loaded(node) or name in stored(node)


def _loads(node: ast.AST, name: str) -> bool:
    return name in _loaded(node)
