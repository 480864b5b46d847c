"""Edits of the text of a kernel: a keyword of a call, a constant, a format, a tile that is allocated in a loop, two
loops that change places.

An edit gives the whole text of the file, changed. It says nothing of whether the kernel still computes the same: it is
run and compared for that.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

ALLOCATORS = ("ndarray", "zeros", "ones", "full", "empty", "zeros_like", "empty_like")
"""Functions of `nki.language` that make a tile."""
FACTORS = tuple(map(Fraction, ("2", "1/2", "3/2", "2/3", "4", "1/4")))
"""By how much a constant is changed."""
_FREE_TILES = ("sbuf", "psum")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEdit:
    """An edit. line: that it concerns; text: of the whole file, afterwards; what: it does, for a reader."""

    line: int
    text: str
    what: str


class KernelText:
    """The text of a file with a kernel. function: of the kernel."""

    def __init__(self, text: str, function: str) -> None:
        self.text = text
        self._lines = text.encode().splitlines(keepends=True)
        self._tree = ast.parse(text)
        self._bodies = [
            node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef) and node.name == function
        ]

        self._calls = [
            (node.func.attr, node)
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]

    def diff(self, text: str, name: str) -> str:
        """What another text of the file changes, as `patch` reads it."""
        before, after = (x.splitlines(keepends=True) for x in (self.text, text))
        return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", n=1))

    # calls
    # --------------------------------------------------------------------------------------------------------------
    def call_at(self, line: int, name: str) -> ast.Call | None:
        """The call of an instruction that begins at, or spans, a line; the only one of this name there."""
        return self._call(line, (name,))

    def _call(self, line: int, names: Sequence[str]) -> ast.Call | None:
        """The only call at a line of an attribute with one of these names."""
        found = [
            call
            for name, call in self._calls
            if name in names and call.lineno <= line <= (call.end_lineno or call.lineno)
        ]
        return found[0] if len(found) == 1 else None

    def around(self, line: int) -> str:
        """A line and the three after it, by which calls that are alike are known."""
        return b" ".join(x.strip() for x in self._lines[line - 1 : line + 3]).decode()

    def keyword_of(self, line: int, name: str, keyword: str) -> str | None:
        """What a call gives for a keyword, as text; None: nothing."""
        call = self.call_at(line, name)
        found = [k.value for k in call.keywords if k.arg == keyword] if call is not None else []
        return self._source(found[0]) if found else None

    def with_keywords(self, places: Sequence[tuple[int, str, str, str]]) -> str | None:
        """The text with keywords of calls set. places: (line, name of the call, keyword, value; "{isa}" in it stands
        for the module of the call). None where a call is not found, or takes its keywords from elsewhere."""
        edits = []
        for line, name, keyword, value in places:
            call = self.call_at(line, name)
            if call is None or any(k.arg is None for k in call.keywords) or call.end_lineno is None:
                return None
            assert isinstance(call.func, ast.Attribute)
            said = value.format(isa=self._source(call.func.value))
            old = [k.value for k in call.keywords if k.arg == keyword]
            if old:
                edits.append((*self._span(old[0]), said))
            else:
                last = [*call.args, *(k.value for k in call.keywords)]
                if not last:
                    return None
                _, end = self._span(max(last, key=lambda n: (n.end_lineno or 0, n.end_col_offset or 0)))
                edits.append((end, end, f", {keyword}={said}"))
        return self._replaced(edits)

    # constants
    # ----------------------------------------------------------------------------------------------------------
    def with_constants(self) -> Iterator[TextEdit]:
        """The text with a constant changed, for each and each factor: whole numbers above 1 that a name gets, in the
        module or in the kernel."""
        found = [
            (name, node, value)
            for body in (*(function.body for function in self._bodies), self._tree.body)
            for statement in body
            for name, node, value in _constants(statement)
        ]
        for factor in FACTORS:
            for name, node, value in found:
                made = value * factor
                if made.denominator == 1 and made > 1:
                    text = self._replaced([(*self._span(node), str(int(made)))])
                    yield TextEdit(line=node.lineno, text=text, what=f"{name} = {int(made)} in place of {value}")

    # tiles
    # --------------------------------------------------------------------------------------------------------------
    def allocation_at(self, line: int) -> ast.Call | None:
        """The call that allocates a tile at a line."""
        return self._call(line, ALLOCATORS)

    def with_format(self, lines: Sequence[int], dtype: str) -> str | None:
        """The text with the tiles that are allocated at these lines in another format; None where one is not found."""
        edits = []
        for line in lines:
            call = self.allocation_at(line)
            if call is None:
                return None
            assert isinstance(call.func, ast.Attribute)
            given = [k.value for k in call.keywords if k.arg == "dtype"] or call.args[1:2]
            if not given:
                return None
            edits.append((*self._span(given[0]), f"{self._source(call.func.value)}.{dtype}"))
        return self._replaced(edits)

    def in_loops(self) -> Iterator[TextEdit]:
        """The text with a tile allocated in the loop that uses it, for each that is allocated just before one and used
        nowhere else."""
        for body in self._blocks():
            for at, statement in enumerate(body):
                name = self._tile_of(statement)
                users = [s for s in body[at + 1 :] if name is not None and name in _names(s)]
                if len(users) == 1 and isinstance(users[0], ast.For) and name is not None:
                    loop = users[0]
                    if name in {n.id for n in ast.walk(loop.iter) if isinstance(n, ast.Name)}:
                        continue
                    text = self._moved(statement, loop.body[0])
                    yield TextEdit(
                        line=statement.lineno, text=text, what=f"allocate {name} in the loop of line {loop.lineno}"
                    )

    # loops
    # --------------------------------------------------------------------------------------------------------------
    def exchanged(self) -> Iterator[TextEdit]:
        """The text with two loops exchanged, for each loop whose body is another one that does not go by it."""
        for body in self._blocks():
            for outer in body:
                inner = outer.body[0] if isinstance(outer, ast.For) and len(outer.body) == 1 else None
                if not isinstance(outer, ast.For) or not isinstance(inner, ast.For) or outer.orelse or inner.orelse:
                    continue
                if _names(outer.target) & _names(inner.iter):
                    continue
                heads = [(*self._span(x), self._source(y)) for x, y in _pairs(outer, inner)]
                what = f"exchange the loops over {self._source(outer.target)} and {self._source(inner.target)}"
                yield TextEdit(line=outer.lineno, text=self._replaced(heads), what=what)

    # text
    # ---------------------------------------------------------------------------------------------------------------
    def _blocks(self) -> Iterator[list[ast.stmt]]:
        for function in self._bodies:
            for node in ast.walk(function):
                for field in ("body", "orelse"):
                    block = getattr(node, field, None)
                    if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                        yield block

    def _tile_of(self, statement: ast.stmt) -> str | None:
        """The name of the tile on chip that a statement of whole lines allocates."""
        if not (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
            and isinstance(statement.value, ast.Call)
            and isinstance(statement.value.func, ast.Attribute)
            and statement.value.func.attr in ALLOCATORS
        ):
            return None
        where = [self._source(k.value) for k in statement.value.keywords if k.arg == "buffer"]
        is_tile = bool(where) and where[0].split(".")[-1] in _FREE_TILES
        return statement.targets[0].id if is_tile else None

    def _source(self, node: ast.AST) -> str:
        (l0, c0), (l1, c1) = self._span(node)
        if l0 == l1:
            return self._lines[l0][c0:c1].decode()
        return b"".join([self._lines[l0][c0:], *self._lines[l0 + 1 : l1], self._lines[l1][:c1]]).decode()

    @staticmethod
    def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
        """(First, last + 1) of a node, each as line and byte, lines from 0."""
        n: ast.expr = node  # type: ignore[assignment]
        return (n.lineno - 1, n.col_offset), ((n.end_lineno or n.lineno) - 1, n.end_col_offset or 0)

    def _replaced(self, edits: Sequence[tuple[tuple[int, int], tuple[int, int], str]]) -> str:
        """The text with spans replaced."""
        lines = list(self._lines)
        for (l0, c0), (l1, c1), new in sorted(edits, reverse=True):
            lines[l0 : l1 + 1] = [lines[l0][:c0] + new.encode() + lines[l1][c1:]]
        return b"".join(lines).decode()

    def _moved(self, statement: ast.stmt, before: ast.stmt) -> str:
        """The text with the lines of a statement before another one, at its depth."""
        first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
        taken, depth = self._lines[first:last], before.col_offset - statement.col_offset
        moved = [b" " * depth + line if line.strip() else line for line in taken]
        at = before.lineno - 1
        return b"".join([*self._lines[:first], *self._lines[last:at], *moved, *self._lines[at:]]).decode()


def _constants(statement: ast.stmt) -> Iterator[tuple[str, ast.Constant, int]]:
    """(Name, where its number stands, the number) of a statement that gives names whole numbers above 1."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return
    target, value = statement.targets[0], statement.value
    pairs: Sequence[tuple[ast.expr, ast.expr]] = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs = [*zip(target.elts, value.elts, strict=True)]
    for name, number in pairs:
        if not isinstance(name, ast.Name) or not isinstance(number, ast.Constant):
            continue
        if type(number.value) is int and number.value > 1:
            yield name.id, number, number.value


def _pairs(outer: ast.For, inner: ast.For) -> list[tuple[ast.expr, ast.expr]]:
    """What stands in the heads of two loops, each with what comes in its place."""
    return [
        (outer.target, inner.target),
        (outer.iter, inner.iter),
        (inner.target, outer.target),
        (inner.iter, outer.iter),
    ]


def _names(node: ast.AST) -> set[str]:
    """Names that stand in a piece of text."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
