"""A question that is asked in this process is answered as by a process of its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.models import load_model
from mowich.studies.asked import ask_question
from mowich.studies.job_answers import ask_here

QUESTIONS = (
    "compare llama-3.1-8b --train --tokens 1T --seq 4096 --batch 256seqs --on trn3,h100 --chips 64 --set plan.tp=4",
    "plan llama-3.1-8b --serve --isl 2k --osl 500 --tpot 20ms --on h200:1 --set power.h200=700W",
    "fit llama-3.1-8b --train --seq 4096 --batch 64seqs --on trn3:64",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_the_same_in_this_process(question: str) -> None:
    words = shlex.split(question)
    expected = ask_question(words)
    expected.pop("version", None)
    found = json.loads(json.dumps(ask_here(words)))
    found.pop("version", None)
    assert found == expected


def test_facts_and_a_model_may_be_given(tmp_path: Path) -> None:
    words = shlex.split("plan m --train --tokens 1T --seq 4096 --batch 256seqs --on h100:64 --top 1")
    slow = load_facts().with_values({"chips.h100_sxm.memory.hbm_bandwidth": 1e12})
    own = tmp_path / "own.yaml"
    own.write_text(
        'chips: {h100_sxm: {memory: {hbm_capacity: {value: "70 GB", source: "a note", locator: here, grade: A}}}}\n',
        encoding="utf-8",
    )
    model = load_model("llama-3.1-8b")

    def step(*more: str) -> float:
        return float(ask_here([*words, *more], facts=slow, model=model)["plans"][0]["step_s"]["value"])

    shipped = float(ask_here(["plan", "llama-3.1-8b", *words[2:]])["plans"][0]["step_s"]["value"])
    assert step() > shipped
    found = ask_here([*words, "--facts", str(own)], facts=slow, model=model)
    assert found["facts_hash"] != ask_here(words, facts=slow, model=model)["facts_hash"]


def test_a_refusal_is_one_line() -> None:
    with pytest.raises(UserError, match="unknown option"):
        ask_here(["compare", "llama-3.1-8b", "--onn", "trn3"])
