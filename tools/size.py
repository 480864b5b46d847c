"""How large the source is, package by package: code, imports, docstrings, comments, blank lines; and what a change adds.

`python tools/size.py` counts the working tree; `--since REV` prints beside it what has come and gone since that commit.
Mass is a cost: a change that adds more than `TOLD` lines of code says in its message what it made needless.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "src/mowich"
TOLD = 300
"""Lines of code that a change may add without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Lines of some files."""

    files: int = 0
    code: int = 0
    imports: int = 0
    docstrings: int = 0
    comments: int = 0
    blank: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements below a module, a statement or a handler, with those within them: imports and texts are among
    them, no expression needs a look."""
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        for child in getattr(node, name, ()):
            yield child
            yield from statements(child)


@cache
def size_of(text: str) -> Size:
    """The lines of one file, each counted once.

    >>> size_of('''"A module."
    ...
    ... import os  # the system
    ...
    ... # a comment
    ... x = [
    ...     1,
    ... ]
    ... ''')
    Size(files=1, code=3, imports=1, docstrings=1, comments=1, blank=2)
    """
    lines = text.splitlines()
    docs, imports = set[int](), set[int]()
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        # a docstring, and a text that stands below a constant or a field
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    like_comments = {i for i, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline) if like_comments else ()
    comments = {t.start[0] for t in tokens if t.type == tokenize.COMMENT} & like_comments
    blank = {i for i, line in enumerate(lines, 1) if not line.strip()} - docs
    rest = len(lines) - len(docs | imports | comments | blank)
    return Size(
        files=1, code=rest, imports=len(imports), docstrings=len(docs), comments=len(comments), blank=len(blank)
    )


def by_package(texts: Mapping[str, str]) -> dict[str, Size]:
    """Package -> its lines. texts: path from the root -> text."""
    out: dict[str, Size] = {}
    for path, text in sorted(texts.items()):
        parts = Path(path).relative_to(SOURCE).parts
        package = parts[0] if len(parts) > 1 else "mowich"
        out[package] = out.get(package, Size()) + size_of(text)
    return out


def here() -> dict[str, str]:
    """The files of the working tree."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / SOURCE).rglob("*.py")
        if "__pycache__" not in path.parts
    }


def at(revision: str) -> dict[str, str] | None:
    """The files of a commit; None where git does not have it."""
    words = ["git", "archive", "--format=tar", revision, SOURCE]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None
    out: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.name.endswith(".py") else None
            if file is not None:
                out[member.name] = file.read().decode()
    return out


def table(now: Mapping[str, Size], before: Mapping[str, Size] | None) -> Iterable[str]:
    """Lines to print: packages by their code, largest first, and all together."""
    names = [f.name for f in fields(Size)]
    yield "".join([f"{'package':<12}", *(f"{name:>12}" for name in names), f"{'code since':>12}" if before else ""])
    order = sorted({*now, *(before or {})}, key=lambda name: -now.get(name, Size()).code)
    for package in [*order, "all"]:
        size = sum(now.values(), Size()) if package == "all" else now.get(package, Size())
        cells = [f"{getattr(size, name):>12,}" for name in names]
        if before is not None:
            old = sum(before.values(), Size()) if package == "all" else before.get(package, Size())
            cells.append(f"{size.code - old.code:>+12,}")
        yield "".join([f"{package:<12}", *cells])


def main() -> int:
    parser = argparse.ArgumentParser(description="Lines of the source, and what a change adds.")
    parser.add_argument("--since", metavar="REV", help="print what has come since this commit")
    given = parser.parse_args()
    texts = at(given.since) if given.since else None
    if given.since and texts is None:
        print(f"git has no {given.since}: the lines of now alone", file=sys.stderr)
    now, before = by_package(here()), None if texts is None else by_package(texts)
    print("\n".join(table(now, before)))
    if before is not None:
        added = sum(s.code for s in now.values()) - sum(s.code for s in before.values())
        if added > TOLD:
            print(f"{added:,} lines of code more: the message says what they make needless")
    return 0


if __name__ == "__main__":
    sys.exit(main())
