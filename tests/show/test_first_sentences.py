"""The first sentence of an answer is short, and names no winner alone where ranges overlap."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.show.formats import MOST_FIRST_WORDS
from mowich.show.verbs import page_of

WORD = re.compile(r"\w+(?:[.,'/^-]\w+)*%?")
TRAIN = "llama-3.1-8b --train --tokens 1T --seq 4096 --batch 256seqs"
SERVE = "llama-3.1-8b --serve --isl 2k --osl 500 --ttft 2s --tpot 50ms"
FIT = "llama-3.1-8b --seq 4096 --batch 256seqs"
ASKED = [
    f"compare {TRAIN} --on trn3:64,h100:64",
    f"compare {TRAIN} --on trn3,trn2,h100,h200,b200 --chips 64",
    f"compare {TRAIN} --on trn3:64",
    f"compare {SERVE} --on trn3:8,h100:8",
    f"compare {SERVE} --on trn3,ironwood,gb300,h100 --chips 16",
    f"plan {TRAIN} --on trn3:64",
    f"plan {SERVE} --on h100:8",
    f"fit {FIT} --on trn3:16",
    f"gap {TRAIN} --on trn3:64,h100:64",
    "prices --on trn3,h100",
    "prices --on trn3",
    "claims",
    "goodput --on trn3 --chips 4096 --step 10s",
    "collective all-reduce --on trn3:64",
]


@pytest.mark.parametrize("asked", ASKED)
def test_first_sentence_is_short_and_true_alone(asked: str) -> None:
    done = CliRunner().invoke(load_verbs(app), [*asked.split(), "--json", "--quiet"])
    assert done.exit_code in (0, 3, 4), done.output
    page = page_of(json.loads(done.stdout))
    first = page.sentences[0]
    assert len(WORD.findall(first)) <= MOST_FIRST_WORDS, first
    for word, metric in (("Cheapest", "usd_per_mtok"), ("Fastest", "days"), ("Most per chip", "tokens_per_s_per_chip")):
        if not first.startswith(word):
            continue
        marks = page.marks[metric]
        names = [str(r["system"]) for r, mark in zip(page.records, marks, strict=True) if mark]
        assert "best" in marks, first
        assert "close" not in marks or "overlap" in first or all(name in first for name in names), first
