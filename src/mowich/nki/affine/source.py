"""The syntax tree of a running function, and what can be said of an expression of it without running it."""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import linecache
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import TypeGuard

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
    for c in codes_within(top):
        codes.setdefault((c.co_name, c.co_firstlineno), []).append(c)
    return text, tree, codes


def codes_within(code: CodeType) -> Iterator[CodeType]:
    """A function and those within."""
    yield code
    for c in code.co_consts:
        if isinstance(c, CodeType):
            yield from codes_within(c)


_PLACED = (ast.BinOp, ast.UnaryOp, ast.Name, ast.Constant, ast.operator, ast.unaryop, ast.expr_context)
_AFFINE = (ast.Add, ast.Sub, ast.Mult)


def with_places(node: ast.For, index: str, step: int) -> tuple[ast.For, list[ast.expr]]:
    """(A loop in which names that stand for a place in a cycle are written out where they are read, so that what they
    choose can be looked up before the loop; the places in a cycle that have to be the same from iteration to
    iteration). They are `slot = i % 2`, `row, slot = i // 2, i % 2`, and tiles that change their names at the end of
    each turn (`a, b = b, a`). The same loop where it has none. step: of the index."""
    written = Counter(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load))
    places, turn = _changed_names(node, index, step, written)
    if turn is not None:
        node = ast.copy_location(ast.For(node.target, node.iter, node.body[:-1], []), node)
    assigned = stored(node)
    read: set[str] = set()  # by the statements so far
    for s in node.body:
        read |= {n.id for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for name, value in _assignments(s):
            parts = list(ast.walk(value))
            names = {n.id for n in parts if isinstance(n, ast.Name)}
            is_place = any(isinstance(n, ast.operator) and not isinstance(n, _AFFINE) for n in parts)
            is_plain = all(isinstance(n, _PLACED) for n in parts) and names & assigned <= {index}
            if is_place and is_plain and index in names and written[name] == 1 and name not in read:
                places[name] = value
    return _WrittenOut(places).visit(copy.deepcopy(node)) if places else node, [] if turn is None else [turn]


def _changed_names(
    node: ast.For, index: str, step: int, written: Mapping[str, int]
) -> tuple[dict[str, ast.expr], ast.expr | None]:
    """(Names that change places with each other in the last statement of a loop, with what each of them is in a turn;
    the place in the cycle in a turn). None: there are none."""
    pairs = dict(_assignments(node.body[-1])) if len(node.body) > 1 else {}
    after = {name: value.id for name, value in pairs.items() if isinstance(value, ast.Name)}
    leaves = any(isinstance(n, ast.Continue | ast.Break) for n in ast.walk(node))
    if len(after) < 2 or len(after) < len(pairs) or set(after) != set(after.values()) or index in after or leaves:
        return {}, None
    cycles = {}
    for name in after:
        cycles[name] = [name]
        while (following := after[cycles[name][-1]]) != name:
            cycles[name].append(following)
    length = len(next(iter(cycles.values())))
    if any(written[name] != 1 for name in after) or any(len(c) != length for c in cycles.values()):
        return {}, None
    turn = ast.parse(f"{index} // {abs(step)} % {length}", mode="eval").body
    places: dict[str, ast.expr] = {}
    for name, names in cycles.items():
        choice = ast.Tuple([ast.Name(n, ast.Load()) for n in names], ast.Load())
        places[name] = ast.Subscript(choice, turn, ast.Load())
    return places, turn


def _assignments(s: ast.stmt) -> list[tuple[str, ast.expr]]:
    """Names that a statement assigns, each with its value, where these are seen."""
    if not isinstance(s, ast.Assign) or len(s.targets) != 1:
        return []
    target, value = s.targets[0], s.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs = list(zip(target.elts, value.elts, strict=True))
    return [(name.id, of) for name, of in pairs if isinstance(name, ast.Name)]


class _WrittenOut(ast.NodeTransformer):
    """Puts expressions where their names are read."""

    def __init__(self, places: dict[str, ast.expr]) -> None:
        self.places = places

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A name."""
        return self.places.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def appends_of(node: ast.For) -> dict[ast.stmt, str]:
    """Statements of a loop, in no other one and under no condition, that append to a list of which the loop says
    nothing else, with its name."""
    named = Counter(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
    return {s: name for s in node.body if (name := _appended(s)) is not None and named[name] == 1}


def kept_lists(node: ast.For) -> dict[str, str]:
    """Lists that a loop makes empty, appends to, and appends beside to another list, and of which it says nothing else:
    no other name stands for them. By name, with the name that stands for what is appended ("": several, or none)."""
    named = Counter(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
    calls = [(name, n.value) for n in ast.walk(node) if isinstance(n, ast.Expr) and (name := _appended(n)) is not None]
    given: dict[str, list[str]] = {}
    for name, call in calls:
        item = call.args[0] if isinstance(call, ast.Call) else None
        given.setdefault(name, []).append(item.id if isinstance(item, ast.Name) else "")
    passed = Counter(item for items in given.values() for item in items)
    kept = {}
    for block in (n.body for n in ast.walk(node) if isinstance(n, ast.For)):
        made = {t.id for s in block if _is_empty_list(s) for t in s.targets if isinstance(t, ast.Name)}
        beside = {item for s in block if (name := _appended(s)) is not None for item in given[name]}
        for name in made & beside:
            items = set(given.get(name, ()))
            if passed[name] == 1 and named[name] == 2 + len(given.get(name, ())):
                kept[name] = items.pop() if len(items) == 1 else ""
    return kept


def _is_empty_list(s: ast.stmt) -> TypeGuard[ast.Assign]:
    return isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.value, ast.List) and not s.value.elts


def _appended(s: ast.stmt) -> str | None:
    """The name of the list to which a statement appends something, None where it does something else."""
    if not isinstance(s, ast.Expr) or not isinstance(s.value, ast.Call):
        return None
    f = s.value.func
    if not isinstance(f, ast.Attribute) or f.attr != "append" or not isinstance(f.value, ast.Name):
        return None
    return f.value.id if len(s.value.args) == 1 and not s.value.keywords else None


def multiplied_out(e: ast.expr, check: Callable[[ast.expr], None]) -> dict[tuple[str, ...], int]:
    """Sums and products of an expression multiplied out: factors -> how many. Anything else in it is a factor, which
    `check` may refuse."""
    if isinstance(e, ast.Constant) and type(e.value) is int:
        return {(): e.value}
    if isinstance(e, ast.Name):
        return {(e.id,): 1}
    if not isinstance(e, ast.BinOp) or not isinstance(e.op, _AFFINE):
        check(e)
        return {(f"<{text_of(e)}>",): 1}
    a, b = multiplied_out(e.left, check), multiplied_out(e.right, check)
    if not isinstance(e.op, ast.Mult):
        sign = 1 if isinstance(e.op, ast.Add) else -1
        return {key: a.get(key, 0) + sign * b.get(key, 0) for key in {**a, **b}}
    out: dict[tuple[str, ...], int] = {}
    for (x, n), (y, m) in itertools.product(a.items(), b.items()):
        key = tuple(sorted(x + y))
        out[key] = out.get(key, 0) + n * m
    return out
