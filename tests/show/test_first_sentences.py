"""The headline of an answer has few words on every page, and names no winner alone where ranges overlap."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.requests.rooms import room_names
from mowich.show.formats import MOST_FIRST_WORDS
from mowich.show.page import Page
from mowich.show.verbs import PAGES, has_page, page_of
from mowich.web.shipped import shipped_brief

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = ROOT / "tests" / "golden" / "answers"
WORD = re.compile(r"\w+(?:[.,'/^-]\w+)*%?")
TRAIN = "llama-3.1-8b --train --tokens 1T --seq 4096 --batch 256seqs"
SERVE = "llama-3.1-8b --serve --isl 2k --osl 500 --ttft 2s --tpot 50ms"
KERNEL = "kernels/softmax.py -k softmax x=float32[128,64]"
ASKED = [
    f"compare {TRAIN} --on trn3:64,h100:64",
    f"compare {TRAIN} --on trn3:64",
    f"compare {SERVE} --on trn3:8,h100:8",
    f"plan {TRAIN} --on trn3:64",
    "prices --on trn3",
    "power --on trn3",
    "goodput --on trn3:4096 --step 10s",
    "facts check --stale 90d",
    "facts check --stale 1d",
    "kernel check kernels/softmax.py",
    f"kernel run {KERNEL}",
    f"kernel run {KERNEL} --watch x",
    f"kernel run {KERNEL} --stop softmax.py:23",
    "kernel run @layer_norm_wrong -k layer_norm --first-difference @layer_norm_wrong:reference",
    f"kernel profile {KERNEL}",
    "kernel diff @softmax @softmax_slow -k softmax x=float32[128,64]",
    "kernel judge @softmax @softmax_slow --reference @softmax --shapes x=float32[32,64] --on trn2",
    "kernel tune @softmax_slow --vary ROWS=64,128",
    "kernel layer llama-3.2-1b --on trn3:1 --tp 4 --context 128",
]
NAMED = ("system", "display", "name", "kernel", "on", "of", "model", "software")
LONG = "a name of my own that takes many more words than there is room for"


def checked(page: Page) -> str:
    """The headline of a page, which is short, ends as a sentence and is told apart from what follows."""
    first = page.headline
    assert first, page.title
    assert max(len(WORD.findall(first)), len(first.split())) <= MOST_FIRST_WORDS, first
    assert "\n" not in first
    assert not re.search(r"[:;,]$", first), first
    assert first not in page.sentences[1:], first
    return first


def true_alone(page: Page) -> None:
    """A headline that names who is best names every row that overlaps with it, or says that ranges overlap."""
    first = page.headline
    for word, metric in (("Cheapest", "usd_per_mtok"), ("Fastest", "days"), ("Most per chip", "tokens_per_s_per_chip")):
        if not first.startswith(word) or metric not in page.marks:
            continue
        marks = page.marks[metric]
        names = [str(r["system"]) for r, mark in zip(page.records, marks, strict=True) if mark]
        assert "best" in marks, first
        alone = "close" not in marks
        assert alone or "overlap" in first or all(name in first for name in names), first


@pytest.mark.share(2)
@pytest.mark.parametrize("asked", ASKED)
def test_first_sentence_is_short_and_true_alone(asked: str) -> None:
    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(load_verbs(app), [*asked.split(), "--json", "--quiet"])
    assert done.exit_code in (0, 1, 3, 4, 5), done.output
    page = page_of(json.loads(done.stdout))
    checked(page)
    true_alone(page)


def test_a_log_beside_its_forecast_begins_with_the_verdict(tmp_path: Path) -> None:
    file, log = str(tmp_path / "plan.json"), str(ROOT / "scenarios" / "logs" / "megatron-llama-8b.log")
    for on, begins in (("h100:8 --set plan.cp=2", "Inside: "), ("h100:8", "Another setup: ")):
        ask = f"plan llama-3.1-8b --train --tokens 1B --on {on} --seq 8192 --batch 128seqs --top 1"
        assert not CliRunner().invoke(load_verbs(app), [*ask.split(), "--quiet", "--out", file]).exit_code
        done = CliRunner().invoke(load_verbs(app), ["verify", file, log, "--json", "--quiet"])
        assert checked(page_of(json.loads(done.stdout))).startswith(begins), done.stdout


def kept() -> Iterator[dict[str, Any]]:
    """The answers that the corpus keeps as JSON, of each kind that has a page, and the brief."""
    yield dict(shipped_brief())
    for file in sorted(ANSWERS.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)["answer"]
            if isinstance(found, dict) and has_page(found) and found["schema"] != "mowich/validate@1":
                yield restored({"facts_hash": "", **found})


def restored(value: Any) -> Any:
    """What the corpus leaves out of an answer or keeps short, so that a page can be made of it."""
    if isinstance(value, list):
        return [restored(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"points", "first", "last"}:
        return [value["first"], value["last"]]
    more = {"version": ""} if {"id", "source", "correlation"} <= value.keys() else {}
    return {**{k: restored(v) for k, v in value.items()}, **more}


def test_every_kept_answer_begins_with_a_headline_of_few_words() -> None:
    seen = set[str]()
    for answer in kept():
        page = page_of(answer)
        checked(page)
        true_alone(page)
        seen.add(answer["schema"].partition("/")[2].partition("@")[0])
    asked = {"facts-stale", *(f"kernel{k}" for k in ("", "-run", "-check", "-debug", "-diff", "-layer", "-tune"))}
    asked |= {"judge", "validate", "verify"}  # the corpus keeps their sums alone
    assert {schema.partition("/")[2].partition("@")[0] for schema in PAGES} | set(room_names()) <= asked | seen


def renamed(value: Any, names: dict[str, str]) -> Any:
    """An answer whose systems, models and works have the names of `names`, where they are for a reader."""
    if isinstance(value, list):
        return [renamed(v, names) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: names.get(v, v) if k in NAMED and isinstance(v, str) else renamed(v, names) for k, v in value.items()}


def test_long_names_and_fewer_rows_leave_the_headline_short() -> None:
    draw = random.Random(20)
    for answer in draw.sample(list(kept()), 120):
        rows = answer.get("rows")
        if answer["schema"] == "mowich/compare@1" and isinstance(rows, list) and len(rows) > 1:
            answer["rows"] = draw.sample(rows, draw.randint(1, len(rows)))
        said = set(re.findall(r'"([^"]{2,60})"', json.dumps(answer)))
        names = {name: f"{LONG} {i}" for i, name in enumerate(sorted(said)) if draw.random() < 0.5}
        try:
            page = page_of(renamed(answer, names))
        except (KeyError, ValueError):  # what is looked up by its name cannot have another
            continue
        checked(page)
        true_alone(page)
