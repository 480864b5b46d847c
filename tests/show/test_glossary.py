"""The glossary: short and plain, and every head of a table has its meaning there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mowich.economics.ownership import OWNED
from mowich.handbook import handbook
from mowich.show.glossary import glossary, term_of
from mowich.show.page import Column, Page, Table
from mowich.show.rooms.goodput import LOST
from mowich.show.rooms.prices import OWNED_WORDS

ROOT = Path(__file__).resolve().parents[2]
SHOW = ROOT / "src" / "mowich" / "show"
VERBS = (
    "compare",
    "plan",
    "serve",
    "rates",
    "fit",
    "forward",
    "fleet",
    "fleet_idle",
    "fleet_design",
    "rooms/gap",
    "rl",
    "rooms/value",
    "rooms/prices",
    "rooms/goodput",
    "deepen",
    "brief",
    "rooms/claims",
    "validate",
    "kernel",
)
"""Modules whose tables have heads with a meaning in the glossary."""
PLACEHOLDER = "/5"
"""Stands for words that differ from answer to answer."""


def text_of(node: ast.expr) -> list[str]:
    """The texts that a head may have; none where all of it comes from the answer, such as the name of a system."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.IfExp():
            return text_of(node.body) + text_of(node.orelse)
        case ast.JoinedStr(values=values):
            return ["".join(str(v.value) if isinstance(v, ast.Constant) else PLACEHOLDER for v in values)]
        case ast.List(elts=elements):
            return [text for element in elements for text in text_of(element)]
        case _:
            return []


def heads_of(source: str) -> Iterator[str]:
    """Heads of columns that a module writes, wide ones and short ones."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Column":
                for keyword in node.keywords:
                    if keyword.arg in ("name", "short"):
                        yield from text_of(keyword.value)
            elif node.func.id == "word_columns":
                yield from text_of(node.args[0])


@pytest.mark.parametrize("name", VERBS)
def test_every_head_of_a_table_is_in_the_glossary(name: str) -> None:
    heads = {h for h in heads_of((SHOW / f"{name}.py").read_text(encoding="utf-8")) if h.strip()}
    assert heads
    assert [h for h in sorted(heads) if term_of(h) is None and not h.startswith(PLACEHOLDER)] == []


def test_heads_are_found_however_they_are_written() -> None:
    source = """
[Column(name="a", short="b"), Column(name="#" if x else "c"), Column(name=f"d of {y}"), Column(name=name)]
word_columns(["e", "f"], left=["e"])
"""
    assert sorted(heads_of(source)) == ["#", "a", "b", "c", f"d of {PLACEHOLDER}", "e", "f"]


def test_heads_that_are_made_of_lists_of_words_are_in_the_glossary() -> None:
    assert tuple(OWNED_WORDS) == OWNED
    words = [*OWNED_WORDS.values(), *LOST.values()]
    assert [w for w in words if term_of(w) is None] == []


def test_a_head_is_found_with_its_unit_and_with_words_of_the_answer() -> None:
    found = {head: term_of(head) for head in ("step, s", "MFU, %", "worth, $/GiB", "trn3 once", "at a margin of 35%")}
    assert {head: term and term.name for head, term in found.items()} == {
        "step, s": "step",
        "MFU, %": "MFU",
        "worth, $/GiB": "worth",
        "trn3 once": "paid once",
        "at a margin of 35%": "at a margin of",
    }
    assert term_of("trn3") is None
    assert term_of("ironwood, $/h") is None


def test_a_meaning_is_short_and_leads_to_a_page() -> None:
    for term in glossary().values():
        sentences = re.findall(r"[.!?](?= [A-Z0-9]|$)", term.means)
        assert 1 <= len(sentences) <= 2, term
        assert term.means.endswith("."), term
        assert len(term.means.split()) <= 45, term
        assert term.see in handbook(), term
        assert term.group


def test_no_writing_stands_for_two_terms() -> None:
    written = [w for term in glossary().values() for w in {term.name, *term.heads}]
    assert sorted(written) == sorted(set(written))


def test_a_report_says_what_a_head_means() -> None:
    from mowich.show.render.html import _table

    table = Table(title="Answers", columns=[Column(name="step", unit="s"), Column(name="trn3")], rows=[["1", "2"]])
    assert Page(title="", sentences=[], parts=(table,)).tables == [table]
    html = _table(table)
    assert html.count("<th ") == 2
    assert html.count(" title=") == 1
    assert 'title="In training, the time from one update' in html
