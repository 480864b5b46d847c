"""The source of a kernel by statement: what stands at a line, in one line of text, whatever line breaks and spaces it
was written with."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_MOST = 400
"""Characters of a statement that are kept."""


@dataclass(frozen=True, slots=True)
class Statement:
    """line: where it begins, from 1; text: what it says, in one line."""

    line: int
    text: str


def lines_of(file: str) -> tuple[str, ...]:
    """The lines of a file; none where it cannot be read."""
    try:
        return _lines(file, Path(file).stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError):
        return ()


@lru_cache(maxsize=32)
def _lines(file: str, changed_ns: int) -> tuple[str, ...]:
    """changed_ns: when the file was changed last, so that an edited file is read again."""
    return tuple(Path(file).read_text(encoding="utf-8").splitlines())


@lru_cache(maxsize=32)
def _statements(lines: tuple[str, ...]) -> dict[int, Statement]:
    """Line -> the innermost simple statement that covers it, or the head of a compound one."""
    try:
        tree = ast.parse("\n".join(lines) + "\n")
    except SyntaxError:
        return {}
    out: dict[int, Statement] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        text = ast.unparse(node)
        made = Statement(node.lineno, (text.splitlines()[0] if body else " ".join(text.split()))[:_MOST])
        for line in range(node.lineno, max(last, node.lineno) + 1):
            out.setdefault(line, made)
    return out


def statement(file: str, line: int) -> Statement:
    """What stands at a line of a file; nothing where the file cannot be read."""
    lines = lines_of(file)
    found = _statements(lines).get(line)
    if found is not None:
        return found
    return Statement(line, " ".join(lines[line - 1].split())[:_MOST] if 0 < line <= len(lines) else "")


@lru_cache(maxsize=32)
def _loops(lines: tuple[str, ...]) -> tuple[tuple[int, int, str], ...]:
    """First line, last line and iterator of each `for` that has no other loop inside."""
    try:
        tree = ast.parse("\n".join(lines) + "\n")
    except SyntaxError:
        return ()
    out: list[tuple[int, int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and not any(
            isinstance(x, ast.For | ast.While) for inner in node.body for x in ast.walk(inner)
        ):
            called = node.iter.func if isinstance(node.iter, ast.Call) else node.iter
            name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
            out.append((node.body[0].lineno, node.body[-1].end_lineno or node.lineno, name))
    return tuple(out)


def innermost_loop(file: str, line: int) -> str:
    """Name of what the loop around a line iterates over, without its module: "affine_range". "" where no loop is around
    it, where that loop has others inside, or where the file cannot be read."""
    return next((name for first, last, name in _loops(lines_of(file)) if first <= line <= last), "")
