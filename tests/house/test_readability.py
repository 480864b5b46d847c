"""Pages are written in sentences that a reader takes in at once: tools/readability.py counts their words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(scope="module")
def readability() -> Iterator[ModuleType]:
    """The script; it imports its neighbour by name, as it does when it is run."""
    sys.path.insert(0, str(TOOLS))
    yield importlib.import_module("readability")
    sys.path.remove(str(TOOLS))


def test_sentences_of_pages_are_short(readability: ModuleType) -> None:
    pages = readability.held()
    assert len(pages) > 30
    wrong = []
    for path in pages:
        _, middle, _, longest = readability.figures(path)
        most = readability.most_words(path)
        if middle >= readability.MOST_MEDIAN or longest > most:
            wrong.append(
                f"{path.name}: median {middle:g}, longest {longest}: `python tools/readability.py {path} --long {most}`"
            )
    assert wrong == []


def test_what_is_read_first_has_the_shortest_sentences(readability: ModuleType) -> None:
    docs = readability.ROOT / "docs"
    pages = {
        readability.ROOT / "README.md": 30,
        docs / "read" / "rl.md": 30,
        docs / "read" / "glossary.md": 30,
        docs / "theory" / "search.md": 40,
        docs / "records" / "brief.md": 60,
        readability.ROOT / "CONTRIBUTING.md": 60,
        readability.ROOT / "tools" / "README.md": 60,
    }
    assert {path: readability.most_words(path) for path in pages} == pages
    assert {path for path in pages if path.parent == docs / "read"} <= set(readability.held())


def test_code_tables_links_and_html_are_not_counted(readability: ModuleType) -> None:
    text = """# A head of words

One two [three four](far/away.md#x) `a long piece of code`. Five six, seven;
eight nine: ten eleven?

| a | table with many words in it |
|--|--|

```console
mowich compare a b c d e f
```
<!-- a remark -->
- An item of four.
- Another item of 3.5 GiB here.
"""
    found = list(readability.sentences(text))
    assert [readability.words(s) for s in found] == [4, 5, 7, 4, 6]
    assert found[1] == "One two three four CODE ."


def test_a_page_of_long_sentences_is_found(readability: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "long.md"
    page.write_text(f"Short words here.\n\nA {'long ' * 70}one.\n\n{'some ' * 24}more.\n", encoding="utf-8")
    count, middle, _, longest = readability.figures(page)
    assert (count, middle, longest) == (3, 25, 72)
