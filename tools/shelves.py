"""Words of the documents by shelf: `python tools/shelves.py` prints them, `make test` with every run.

Words are those of sentences, lists and tables; commands and what they print are not counted, but stand beside. A page
belongs to the shelf in whose folder of docs/ it stands; README.md is to be read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from readability import FENCE, HTML, LINK, words

ROOT = Path(__file__).resolve().parents[1]
MOST: Mapping[str, int | None] = {"read": 25_000, "theory": 25_000, "records": None, "project": None}
"""Words that a shelf may have; None: any number. Both are held: cut a page, never raise them."""


def pages_of(shelf: str) -> list[Path]:
    """The pages of a shelf."""
    first = [ROOT / "README.md"] if shelf == "read" else []
    return [*first, *sorted((ROOT / "docs" / shelf).glob("*.md"))]


def words_of(text: str) -> int:
    """Words of a page outside its listings.

    >>> words_of("Two words, `one --more`.\\n```text\\nnot these\\n```\\n")
    4
    """
    return words(LINK.sub(r"\1", HTML.sub(" ", FENCE.sub("\n", text))))


def listed(shelf: str) -> tuple[int, int]:
    """(words, everything between blanks) of a shelf."""
    texts = [path.read_text(encoding="utf-8") for path in pages_of(shelf)]
    return sum(map(words_of, texts)), sum(len(text.split()) for text in texts)


def main() -> int:
    """Print the words of each shelf, with those of each page for `--pages`; 1 where one has too many."""
    failed = 0
    for shelf, most in MOST.items():
        words, everything = listed(shelf)
        failed |= most is not None and words > most
        bound = "" if most is None else f" of at most {most:,}"
        print(f"{shelf:8} {len(pages_of(shelf)):3} pages {words:8,} words{bound} ({everything:,} with listings)")
        if "--pages" in sys.argv:
            for path in pages_of(shelf):
                print(f"    {words_of(path.read_text(encoding='utf-8')):6,} {path.relative_to(ROOT)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
