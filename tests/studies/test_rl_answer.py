"""The answer of `mowich rl`: its JSON, alike at every edge; numbers that fit together; explained by laws and facts."""

from __future__ import annotations

import json
import math
import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.cli import run
from mowich.errors import EXIT_INFEASIBLE
from mowich.facts import Facts
from mowich.requests.result_check import check_result
from mowich.show.json import to_json
from mowich.studies.explain import Explainer, tree
from mowich.studies.rl_answer import FIRST_ROW, RlAnswer

RUN: dict[str, Any] = {
    "algorithm": "grpo",
    "prompts": 8,
    "samples": 4,
    "mean": 200,
    "cap": 400,
    "rollout_plan": {"tp": 1},
    "trainer_plan": {"tp": 1, "pp": 1},
}
SHARED = {**RUN, "on": "h100:2"}
SPLIT = {**RUN, "rollouts": "h100:1", "trainer": "trn3:1"}

ROW = {
    *("name", "placement", "rollouts", "trainer", "chips", "feasible", "reason", "step_s", "parts", "binds"),
    *("closed_form_s", "tokens_per_s_per_chip", "trainer_wait_frac", "rollout_idle_frac", "longest_s", "staleness"),
    *("sync", "usd_per_mtok", "J_per_token", "price", "power_basis", "assumed"),
}


def told(answer: RlAnswer) -> Any:
    return json.loads(to_json(answer.to_dict()))


@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    base=st.sampled_from([SHARED, SPLIT]),
    more=st.fixed_dictionaries(
        {},
        optional={
            "prompts": st.integers(2, 12),
            "global_batch": st.just(4),
            "epochs": st.integers(1, 3),
            "algorithm": st.sampled_from(["grpo", "ppo"]),
            "reward": st.floats(0.0, 5.0),
            "sigma": st.floats(0.3, 1.5),
        },
    ),
)
def test_numbers_of_an_answer_fit_together(base: dict[str, Any], more: dict[str, Any]) -> None:
    result = told(mowich.rl("llama-3.2-1b", **{**base, **more}))
    assert result["schema"] == "mowich/rl@1"
    check_result(result, "result")
    [row] = result["rows"]
    assert row.keys() >= ROW
    assert {name: result[name] for name in FIRST_ROW} == {name: row[name] for name in FIRST_ROW}
    step, inputs = row["step_s"]["value"], result["inputs"]
    assert math.isclose(sum(part["value"] for part in row["parts"].values()), step, rel_tol=1e-9)
    tokens = inputs["prompts"] * inputs["samples"] * (inputs["prompt"] + inputs["lengths"]["mean"])
    assert math.isclose(row["tokens_per_s_per_chip"]["value"] * row["chips"] * step, tokens, rel_tol=1e-6)
    assert row["staleness"]["max"] <= inputs["staleness"]
    assert row["chips"] == 2
    assert tree.find_path(result, f"{row['name']}.step_s") == ("rows", 0, "step_s")
    assert shlex.quote(row["name"]) == row["name"]
    assert row["sync"]["method"]
    assert set(row["rollouts"]) == {"system", "chips", "engine", "plan", "workers"}
    assert set(row["trainer"]) == {"system", "chips", "stack", "plan"}


def test_python_and_the_command_line_answer_alike(capsys: pytest.CaptureFixture[str]) -> None:
    words = "rl llama-3.2-1b --grpo --prompts 8 --samples 4 --mean 200 --cap 400 --on h100:2"
    assert run([*words.split(), "--rollout-plan", "tp=1", "--trainer-plan", "tp=1,pp=1", "--json"]) == 0
    typed, called = json.loads(capsys.readouterr().out), told(mowich.rl("llama-3.2-1b", **SHARED))
    assert typed["digest"] == called["digest"]
    for result in (typed, called):
        del result["inputs"]
    assert typed == called


def test_a_run_without_room_is_a_row_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    words = "rl llama-3.1-405b --grpo --prompts 8 --samples 4 --mean 200 --cap 400 --on h100:8 --json"
    assert run(words.split()) == EXIT_INFEASIBLE
    result = json.loads(capsys.readouterr().out)
    [row] = result["rows"]
    assert (row["feasible"], row["step_s"]["value"]) == (False, None)
    assert row["reason"]
    check_result(result, "result")


@pytest.mark.parametrize(
    ("metric", "terms"),
    [
        ("1.parts.sync", {"sync_start"}),
        ("1.parts.generation", {"worker_step", "framework.generation"}),
    ],
)
def test_a_part_is_explained_by_its_side(metric: str, terms: set[str], facts: Facts) -> None:
    result = told(mowich.rl("llama-3.2-1b", **SHARED))
    found = Explainer(result, facts).explain(metric, sensitivity=False)
    assert terms <= {term.name for term in found.terms}
    assert any(fact.grade and fact.title for fact in found.facts)


def test_a_fact_that_was_set_moves_the_number_that_rests_on_it(facts: Facts) -> None:
    """Seconds of the switch are the switch, and nothing else of the parts."""
    asked = {**SHARED, "trainer_plan": {"tp": 1, "pp": 1, "dp": 2, "micro_batch": 1}}
    other = facts.with_values({"rl.frameworks.unstated.switch": 2.0 * facts.number("rl.frameworks.unstated.switch")})
    before, after = (told(mowich.rl("llama-3.2-1b", facts=known, **asked))["parts"] for known in (facts, other))
    assert after["switch"]["value"] == pytest.approx(2.0 * before["switch"]["value"])
    assert {k: v["value"] for k, v in before.items() if k != "switch"} == pytest.approx(
        {k: v["value"] for k, v in after.items() if k != "switch"}
    )
