"""Text of a file that somebody else made is text in every medium: no terminal obeys it, no spreadsheet works it out,
no browser runs it."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mowich.errors import visible
from mowich.show.render.csv import csv_of, inert
from mowich.show.render.html import render_html
from mowich.show.render.terminal import Style, terminal
from mowich.show.verbs import has_page, page_of

ANSWERS = Path(__file__).resolve().parents[1] / "golden" / "answers"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BAD = {
    "title of the window": "\x1b]0;owned\x07\x1b[2J",
    "one byte": "\x9b31mred\x85",
    "the other way": "\u202egpj.exe",
    "return": "all fine\rnothing to see",
    "formula": '=HYPERLINK("http://x")',
    "script": "<script>owned()</script><img src=x onerror=owned()>'\"",
}


@cache
def answers() -> list[dict[str, Any]]:
    """Kept answers that have a page, of many verbs. They are kept without versions and hashes: those whose page needs
    more than a hash are left out."""
    groups = ("training", "serving", "gap", "value", "fit", "machines", "models", "fleet", "traffic")
    lines = (line for group in groups for line in (ANSWERS / f"{group}.jsonl").open(encoding="utf-8"))
    found = []
    for line in lines:
        answer = json.loads(line)["answer"]
        if isinstance(answer, dict) and has_page(answer):
            with suppress(KeyError, TypeError):
                page_of({"facts_hash": "", **answer})
                found.append({"facts_hash": "", **answer})
    return found


WORDS = ("display", "reason", "name", "what", "note", "given", "title", "text", "model_given", "source")
"""Keys whose words are those of a file, or of a user, and no vocabulary of ours."""


def words_of_files(node: object) -> Iterator[tuple[Any, Any]]:
    """(Mapping or list, key) of each text that may come from a file."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        if isinstance(value, str) and key in WORDS:
            yield node, key
        yield from words_of_files(value)


def spoiled(seed: int, bad: str) -> dict[str, Any]:
    """A kept answer of which a third of the words of files end in something else."""
    rng = random.Random(f"{seed} {bad}")
    answer = copy.deepcopy(rng.choice([a for a in answers() if next(words_of_files(a), None)]))
    for n, (node, key) in enumerate(list(words_of_files(answer))):
        if n == 0 or rng.random() < 0.3:
            node[key] = bad + node[key]
    return answer


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bad", BAD)
def test_no_renderer_passes_it_on(seed: int, bad: str) -> None:
    answer = spoiled(seed, BAD[bad])
    page = page_of(answer)
    for style in (Style(width=80), Style(width=200, legend=True), Style(unicode=False)):
        assert not OBEYED.search(terminal(page, style))
    cells = [cell for line in csv_of(page).splitlines() for cell in line.split(",")]
    assert not any(cell.strip('"').startswith("=") for cell in cells)


class Ran(HTMLParser):
    """What a browser would run of a page: scripts, and attributes that hold some."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.found += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        self.found += [f"{tag} {value}" for name, value in attrs if name == "src" and value == "x"]

    def handle_data(self, data: str) -> None:
        if self._in_script and data.startswith("owned()"):
            self.found.append(data)


@pytest.mark.parametrize("seed", range(2))
def test_a_browser_runs_nothing_of_it(seed: int) -> None:
    ran = Ran()
    ran.feed(render_html(spoiled(seed, BAD["script"])))
    assert ran.found == []


def test_answers_of_many_verbs_are_spoiled() -> None:
    assert len({a["schema"] for a in answers() if next(words_of_files(a), None)}) >= 8


def test_what_is_harmless_stays_as_it_is() -> None:
    assert visible("a\tb\nc é 中 ±") == "a\tb\nc é 中 ±"
    assert [inert(x) for x in (-1.5, "trn3:64", "", "-", None, "'=1")] == [-1.5, "trn3:64", "", "-", None, "'=1"]
