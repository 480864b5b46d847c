"""`mowich help`: pages by topic, options of a verb, words of the glossary; and every topic that is named somewhere
opens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mowich.cli import run
from mowich.cli.verbs import ALL_VERBS
from mowich.errors import EXIT_BAD_INPUT
from mowich.handbook import handbook, topic_of
from mowich.show.glossary import glossary

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"mowich help ([a-z][\w-]*)")


def _files() -> list[Path]:
    found = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.js"), *(ROOT / "src").rglob("*.yaml")]
    return [*found, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]


def test_every_topic_that_is_named_opens() -> None:
    topics = {*handbook(), *ALL_VERBS, "topics"}
    named = {(path.name, topic) for path in _files() for topic in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 15
    assert [one for one in sorted(named) if one[1] not in topics] == []


def test_no_message_names_a_file_of_the_documents() -> None:
    """A wheel has no docs/: what a user reads names a topic. Docstrings and comments are for people with the source."""
    import ast

    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "docs/" not in text:
            continue
        tree = ast.parse(text)
        expressions = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)]
        strings = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        said = [n.value for n in strings if n not in expressions]
        assert not [s for s in said if re.search(r"\bdocs/[\w/-]+\.md", s)], path


def test_basenames_of_pages_are_unique() -> None:
    """A topic is the name of a page."""
    pages = [p for shelf in ("read", "theory", "records") for p in (ROOT / "docs" / shelf).glob("*.md")]
    assert len({p.stem for p in pages}) == len(pages) == len(handbook())


def test_a_page_opens_by_its_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "serving"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Serving")
    assert "<!--" not in printed
    assert not re.search(r"\]\([^)]*\.md", re.sub(r"```.*?```", "", printed, flags=re.DOTALL))
    assert "mowich help " in printed


@pytest.mark.parametrize(
    "topic", ["theory-training", "THEORY-TRAINING", "theory training", "docs/theory/theory-training.md"]
)
def test_writings_of_a_topic(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert topic_of(topic) == "theory-training"
    assert run(["help", *topic.split()]) == 0
    assert capsys.readouterr().out.startswith("# How a training step is predicted")


def test_a_verb_with_a_page_says_where_its_options_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "rl"]) == 0
    assert capsys.readouterr().out.endswith("Options: mowich rl --help\n")
    assert run(["help", "compare"]) == 0
    assert "Usage: mowich compare" in capsys.readouterr().out


def test_topics_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "topics"]) == 0
    printed = capsys.readouterr().out
    for topic, page in handbook().items():
        assert re.search(rf"^  {topic} +{re.escape(page.title)}$", printed, re.MULTILINE)


def test_words_of_the_glossary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "ttft"]) == 0
    assert glossary()["TTFT"].means in capsys.readouterr().out


def test_an_unknown_topic_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "servin"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "serving" in said
    assert "mowich help topics" in said


def test_help_alone_says_that_there_are_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help"]) == 0
    assert "mowich help topics" in capsys.readouterr().out
