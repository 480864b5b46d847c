"""A choice of a plan has the same words in settings and in Python's `fixed`: with "plan." before it, or without."""

from __future__ import annotations

import json

import pytest

import mowich
from mowich.cli.app import run
from mowich.errors import UserError
from mowich.plans.plan import FIXABLE
from mowich.plans.serving_choices import SERVE_FIXABLE
from mowich.requests.fields import read_mapping

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}


@pytest.mark.parametrize("name", sorted({*FIXABLE, *SERVE_FIXABLE}))
def test_a_choice_is_one_with_its_prefix_and_without(name: str) -> None:
    assert read_mapping({name: 1}) == read_mapping({f"plan.{name}": "1"}) == {name: "1"}
    with pytest.raises(UserError, match="given twice"):
        read_mapping({name: 1, f"plan.{name}": 2})


def test_both_edges_take_both_words(capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "plan",
        "llama-3.1-8b",
        "--train",
        "--tokens",
        "1T",
        "--seq",
        "4096",
        "--batch",
        "256seqs",
        "--on",
        "h100:64",
    )
    shown = []
    for word in ("tp=4", "plan.tp=4"):
        assert run([*asked, "--top", "1", "--json", "--set", word]) == 0
        shown.append(json.loads(capsys.readouterr().out)["plans"])
    assert shown[0] == shown[1]
    first, second = (
        mowich.plan("llama-3.1-8b", "h100:64", train=TRAIN, top=1, fixed=fixed).to_dict()
        for fixed in ({"tp": 4}, {"plan.tp": "4"})
    )
    assert first == second
