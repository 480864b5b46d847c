"""The command that a result prints has every option of the question that was asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mowich.requests.jobs import CHIPS, COMPARE, ITEM_LATENCY, TTFT
from mowich.requests.rooms.collective import FAIL
from mowich.show.command import command_of

KEPT = Path(__file__).parents[1] / "golden" / "answers"
SHAPE = {"--json", "--csv", "--plain", "--quiet", "--out", "--jobs"}
"""Options of how an answer is given."""
IN_OTHER_WORDS = {
    ("plan", "--chips"),  # stands behind the name of the system
    ("plan", "--top"),  # of serving, no answer says how many were asked for
    ("plan", "--stack"),  # the one that ships
    ("plan", "--recipe"),  # a --set
    ("plan", "--as"),  # behind the name of the model
    ("fleet", "--what-if"),
}


def kept() -> Iterator[tuple[list[str], dict[str, Any]]]:
    for file in sorted(KEPT.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            if isinstance(found["answer"], dict) and "schema" in found["answer"]:
                yield shlex.split(found["question"]), found["answer"]


def test_every_option_of_a_kept_question_stands_in_the_command_of_its_answer() -> None:
    seen, lost = set[str](), set[tuple[str, str, str]]()
    for asked, answer in kept():
        command = shlex.split(command_of(answer))
        if not command:
            continue
        options = {word for word in asked if word.startswith("--")} - SHAPE - set(command)
        lost |= {(asked[0], o, " ".join(asked)) for o in options if (asked[0], o) not in IN_OTHER_WORDS}
        seen |= set(command)
    lost = {one for one in lost if "--layer graph" not in one[2]}  # what is there without it
    assert not lost
    assert {"--price", "--budget", "--headroom", "--lnc", "--batch", "--engine", "--strategy"} <= seen


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [(TTFT, "ttft_s", 2.0), (ITEM_LATENCY, "latency_s", 5.0), (CHIPS, "chips", 64), (FAIL, "faults", ["link:3"])],
)
def test_a_field_finds_its_value_under_the_key_that_results_have(field: Any, key: str, value: object) -> None:
    assert field.stated({"schema": "mowich/compare@1", "rows": [], "inputs": {key: value}}) == value
    assert field.stated({"schema": "mowich/compare@1", "rows": [], "inputs": {}}) is None


def test_a_budget_is_printed_with_its_unit_and_a_price_that_was_asked() -> None:
    inputs = {"task": "train", "model": "gpt2", "batch_seqs": 8.0, "systems": [{"system": "h100"}], "price_term": "3y"}
    found = {"schema": "mowich/compare@1", "rows": [], "inputs": {**inputs, "budget_usd": 2e6, "days": 30.0}}
    command = shlex.split(command_of(found))
    assert command[command.index("--budget") + 1] == "2 M$"
    assert command[command.index("--price") + 1] == "3y"
    assert {f.name for f in COMPARE.fields if f.flag in command} >= {"budget", "days", "price", "batch", "train", "on"}
