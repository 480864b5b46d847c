"""How long the sentences of the pages are: `python tools/readability.py [PAGE ...]` prints, for each page, the number of sentences, the median and the 90th percentile
of their words, and the longest. `--long N` prints every sentence of more than N words.

Code, tables, addresses of links and HTML are not counted; an item of a list, a heading or a line before a colon is a sentence of its own. A number, a name or a
formula between backquotes counts as one word. `tests/house/test_readability.py` holds hand-written pages to a median under `MOST_MEDIAN` and to no sentence of more
words than `most_words` allows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from pages import NOT_COMPARED, ROOT, SCRIPTS

MOST_MEDIAN = 20
MOST_WORDS = 60
MOST_WORDS_OF_SHELF = {"read": 30, "theory": 40}
"""Words of a sentence where people read first; README.md counts as read."""

FENCE = re.compile(r"^(```|~~~).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
HTML = re.compile(r"<!--.*?-->|</?\w[^>\n]*>", re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n+)+")
TABLE = re.compile(r"^[ ]*\|.*$", re.MULTILINE)
BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)|\n(?=#)|(?<=:)\n")
"""Where a paragraph, an item or a heading ends."""
END = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[A-Z0-9*_\"(`])")
"""Where a sentence ends inside a paragraph: a colon or a semicolon ends none."""
WORD = re.compile(r"\w+(?:[.,'/^-]\w+)*%?")


def sentences(text: str) -> Iterator[str]:
    """The sentences of a page."""
    text = HTML.sub(" ", FENCE.sub("\n\n", text))
    text = TABLE.sub("\n\n", INDENTED.sub("\n\n", text))
    text = LINK.sub(r"\1", CODE.sub(" CODE ", text))
    for block in BREAK.split(text):
        flat = re.sub(r"\s+", " ", block).strip(" #-*>")
        yield from (s.strip() for s in END.split(flat) if len(WORD.findall(s)) > 1)


def words(sentence: str) -> int:
    """How many words a sentence has."""
    return len(WORD.findall(sentence))


FILLED = {"tables.md", "clock-points.md", "judge.md"}
"""Pages whose figures a script fills in, between text that people write."""


def generated() -> set[str]:
    """Names of pages of docs/ that a script writes whole, and of the list of changes."""
    out = {"CHANGELOG.md", *NOT_COMPARED}
    for name in SCRIPTS:
        out |= set(re.findall(r'"([\w-]+\.md)"', (ROOT / "tools" / f"{name}.py").read_text(encoding="utf-8")))
    return out - {"README.md"} - FILLED


def most_words(path: Path) -> int:
    """The words that a sentence of a page may have."""
    shelf = "read" if path == ROOT / "README.md" else path.parent.name
    return MOST_WORDS_OF_SHELF.get(shelf, MOST_WORDS)


def held() -> list[Path]:
    """Pages whose sentences are held short: those that people write, and all that are read."""
    return sorted({*hand_written(), *(ROOT / "docs" / "read").glob("*.md")})


def hand_written() -> list[Path]:
    """Pages whose text people write."""
    found = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "tools" / "README.md",
        ROOT / "benchmarks" / "README.md",
    ]
    return sorted(p for p in found if p.name not in generated())


def figures(path: Path) -> tuple[int, float, float, int]:
    """(sentences, median, 90th percentile, longest) in words; zeros for a page without sentences."""
    counts = [words(s) for s in sentences(path.read_text(encoding="utf-8"))]
    if len(counts) < 2:
        return len(counts), float(sum(counts)), float(sum(counts)), sum(counts)
    return len(counts), median(counts), quantiles(counts, n=10)[-1], max(counts)


def main() -> None:
    """Print the figures of the pages named, or of all hand-written ones."""
    arguments = sys.argv[1:]
    long = int(arguments.pop(arguments.index("--long") + 1)) if "--long" in arguments else 0
    paths = [Path(a) for a in arguments if not a.startswith("--")] or hand_written()
    print(f"{'page':34} {'sentences':>9} {'median':>7} {'p90':>6} {'longest':>8}")
    for path in paths:
        n, middle, most, longest = figures(path)
        print(f"{path.name:34} {n:9} {middle:7.0f} {most:6.0f} {longest:8}")
        if long:
            for sentence in sentences(path.read_text(encoding="utf-8")):
                if words(sentence) > long:
                    print(f"    {words(sentence)}: {sentence}")


if __name__ == "__main__":
    main()
