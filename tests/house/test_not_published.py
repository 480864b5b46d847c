"""No sentence says that something is not published without the month of the search and what was searched.

In README, the documents, the texts of facts, what the code says, the page in the browser and scenarios. What nobody
states today may be stated tomorrow: a reader must see when and where somebody looked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "src" / "mowich"
FACTS = CODE / "facts"

CLAIMS = re.compile(
    r"\b(?:not|never) (?:been )?published\b|\bunpublished\b|\bpublish(?:es)? (?:no|none|neither)\b|\bnobody publishes\b"
    r"|\b(?:has|have) no published\b"
    r"|\bno (?:figure|price|cost|power|latency|TDP|(?:failure )?rate)\b[^.;:()]* published\b",
    re.IGNORECASE,
)
"""That no figure was published. What is said of our own rows ("no published row depends on it") is no such claim."""
SEARCHED = re.compile(r"\bsearched 20\d\d-(?:0[1-9]|1[0-2])(?:-[0-3]\d)?: \w")


def unsearched(text: str) -> list[str]:
    """The claims of a text without a search. A search that follows the claim in its sentence counts.

    >>> unsearched("Its power is not published. Its price is not published (searched 2026-11: price pages).")
    ['Its power is not published.']
    """
    sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z*`|\"])", " ".join(text.split()))
    return [s for s in sentences if any(not SEARCHED.search(s, found.end()) for found in CLAIMS.finditer(s))]


def said_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of what a module may show: its strings with "..." for what is put in, without docstrings and names
    of keys.

    >>> list(said_in(ast.parse('def f(x):\\n    "Its price is not published."\\n    return f"{x} is not published"')))
    [(3, '... is not published')]
    """
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inside.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
            inside.update(part for part in node.values if isinstance(part, ast.Constant))
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


def texts() -> Iterator[tuple[str, str]]:
    """(place, text): paragraphs and lines of tables of documents, lines of facts (one fact each)."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for i, block in enumerate(re.split(r"\n\s*\n|\n(?=\||[-*] )", path.read_text(encoding="utf-8")), 1):
            yield f"{path.name}, block {i}", block
    for path in sorted(FACTS.rglob("*.yaml")):
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(FACTS)}:{i}", line
    for path in sorted((ROOT / "scenarios").glob("*.yaml")):
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.name}:{i}", line
    for path in sorted(CODE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for i, text in said_in(ast.parse(source)) if "publish" in source.lower() else ():
            yield f"{path.relative_to(CODE)}:{i}", text
    for path in sorted((CODE / "web" / "static").glob("*.js")):
        for i, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            yield f"{path.relative_to(CODE)}:{i}", line


def test_every_claim_says_when_and_where_was_searched() -> None:
    claiming = [(place, text) for place, text in texts() if CLAIMS.search(" ".join(text.split()))]
    found = [f"{place}: {claim[:160]}" for place, text in claiming for claim in unsearched(text)]
    assert not found, "\n".join(found)
    assert len(claiming) > 30


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("AWS publishes none", 1),
        ("AWS publishes neither, and we estimate", 1),
        ("Trainium 3 has no published price", 1),
        ("Its price is not published (searched 2026-11: AWS price pages).", 0),
        ("Its price is not published (searched 2026: AWS).", 1),
        ("Searched 2026-11: AWS pages. Its price is not published.", 1),
        ("no price of Trainium3 is published", 1),
        ("no latency of these switches was ever published", 1),
        ("few or no published rows depend on it", 0),
        ("a file that is published", 0),
    ],
)
def test_what_counts_as_a_claim(text: str, count: int) -> None:
    assert len(unsearched(text)) == count
