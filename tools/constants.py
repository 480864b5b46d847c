"""Numbers in formulas that no fact holds: each needs a line in tools/constants.yaml that says where it comes from.

    python tools/constants.py        # exit code 1 where one has no line, or a line has no number

Hardware, prices and fitted constants are facts (src/mowich/facts). What may stand in code: numbers of mathematics and of
a definition, tolerances, limits of a search. Small whole numbers, powers of ten and units of time are let through.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("training", "serving", "operators", "software", "machines", "plans", "economics", "neuroncore", "fleets")
FREE = {0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 100.0, 1e3, 1e6, 1e9, 1e12, 1e15, 3600.0, 86400.0}
FREE |= {1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 1e-30}


def numbers(folder: Path) -> Iterator[tuple[str, float, int]]:
    """(file, number, line) of every float in the formulas of a package."""
    for name in (*FOLDERS, "models"):
        for path in sorted((folder / name).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, float) and abs(node.value) not in FREE:
                    yield path.relative_to(folder).as_posix(), node.value, node.lineno


def problems(folder: Path, allowed: Mapping[str, Mapping[float, str]]) -> list[str]:
    """Numbers without a line, and lines without a number."""
    found = list(numbers(folder))
    unknown = [
        f"{file}:{line}: {value:g} is neither a fact nor explained: move it to src/mowich/facts, or say in"
        " tools/constants.yaml where it comes from"
        for file, value, line in found
        if not str(allowed.get(file, {}).get(value, "")).strip()
    ]
    seen = {(file, value) for file, value, _ in found}
    stale = [
        f"tools/constants.yaml: {file} has no {value:g}"
        for file, rows in allowed.items()
        for value in rows
        if (file, float(value)) not in seen
    ]
    return unknown + stale


def allowed() -> dict[str, dict[float, str]]:
    """The numbers that are let through: file -> number -> where it comes from."""
    text = (ROOT / "tools" / "constants.yaml").read_text(encoding="utf-8")
    return {file: {float(v): why for v, why in rows.items()} for file, rows in yaml.safe_load(text).items()}


if __name__ == "__main__":
    said = problems(ROOT / "src" / "mowich", allowed())
    print("\n".join(said), file=sys.stderr, end="\n" if said else "")
    sys.exit(1 if said else 0)
