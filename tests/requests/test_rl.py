"""Questions of reinforcement learning: one set of fields at every edge; every mistake is a line with its place."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.cli import run
from mowich.errors import EXIT_BAD_INPUT, UserError
from mowich.facts import Facts
from mowich.requests.command import command_of
from mowich.requests.fields import Edge, Field
from mowich.requests.rl import RL, RlRequest
from mowich.requests.rl_fields import LENGTHS_FILE, SCENARIO_KEYS
from mowich.requests.rl_files import read_run_lengths
from mowich.requests.schema import QuestionSource

RUN: dict[str, object] = {
    "model": "llama-3.1-8b",
    "algorithm": "grpo",
    "prompts": 64,
    "samples": 32,
    "global_batch": 512,
    "lengths.mean": 1060,
    "lengths.cap": 4096,
    "on": "h100:16",
}
"""A run by the keys of its scenario."""
SPLIT = {k: v for k, v in RUN.items() if k != "on"} | {"rollouts.on": "trn3:16", "trainer.on": "gb300:16"}

EXTRA: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.integers(1, 500),
    "lengths.sigma": st.floats(0.1, 2.0),
    "max_sequence": st.integers(5000, 9000),
    "epochs": st.integers(1, 4),
    "reference": st.booleans(),
    "acceptance": st.floats(0.05, 1.0),
    "order": st.sampled_from(["started", "finished"]),
    "partial": st.booleans(),
    "rollouts.engine": st.sampled_from(["vllm", "sglang"]),
    "rollouts.plan": st.sampled_from([{"tp": 2}, {"tp": 1, "weights": "fp8"}]),
    "rollouts.memory_share": st.floats(0.1, 1.0),
    "rollouts.accept": st.floats(1.0, 8.0),
    "trainer.stack": st.just("megatron"),
    "trainer.plan": st.sampled_from([{"tp": 2}, {"pp": [1, 2]}, {"precision": "fp8"}]),
    "framework": st.sampled_from(["nemo-rl", "verl@0.9"]),
    "sync.method": st.sampled_from(["broadcast", "rdma"]),
    "sync.link": st.floats(1e9, 1e12),
    "environment.reward": st.floats(0.0, 100.0),
    "price": st.sampled_from(["rent", "tco"]),
}
"""What a run may state beside, and values of it."""

NOT_COMPARED = ("form", "given", "places", "again", "notes", "model_given", "facts")


def nested(keys: dict[str, Any]) -> dict[str, Any]:
    """A scenario of its keys."""
    out: dict[str, Any] = {"mowich": 1}
    for key, value in keys.items():
        *above, own = key.split(".")
        inner = out
        for name in above:
            inner = inner.setdefault(name, {})
        inner[own] = value
    return out


def read(values: dict[str, Any], edge: Edge, facts: Facts) -> RlRequest:
    return RL.read(values, QuestionSource(edge=edge, facts=facts))


def compared(request: RlRequest) -> dict[str, object]:
    return {f.name: getattr(request, f.name) for f in dataclasses.fields(request) if f.name not in NOT_COMPARED}


def typed(field: Field[object], value: Any) -> Any:
    """A value as the command line has it: text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, dict):
        return ",".join(f"{k}={'|'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in value.items())
    return f"{value!r} {field.unit}" if field.kind == "quantity" and isinstance(value, float) else str(value)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_every_edge_reads_the_same_run(facts: Facts, data: st.DataObject) -> None:
    """A scenario, options, keywords and a body are one question."""
    more = data.draw(st.lists(st.sampled_from(sorted(EXTRA)), unique=True, max_size=6))
    keys = {**RUN, **{key: data.draw(EXTRA[key], label=key) for key in more}}
    by_name = {SCENARIO_KEYS[key].name: value for key, value in keys.items()}
    called = read(by_name, Edge.KEYWORD, facts)
    filed = read({"model": yaml.safe_dump(nested(keys), default_flow_style=True, width=1e9)}, Edge.KEYWORD, facts)
    sent = read({"yaml": yaml.safe_dump(nested(keys))}, Edge.KEY, facts)
    lined = read(
        {SCENARIO_KEYS[key].name: typed(SCENARIO_KEYS[key], value) for key, value in keys.items()}, Edge.OPTION, facts
    )
    assert compared(called) == compared(filed) == compared(sent) == compared(lined)
    assert filed.said(SCENARIO_KEYS["lengths.mean"]).endswith(":1 lengths.mean")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.data())
def test_a_run_is_asked_again_by_its_command(facts: Facts, data: st.DataObject) -> None:
    """What a result keeps of its question is written as a command line that reads the same run."""
    more = data.draw(st.lists(st.sampled_from(sorted(EXTRA)), unique=True, max_size=6))
    keys = {**RUN, **{key: data.draw(EXTRA[key], label=key) for key in more}}
    asked = read({SCENARIO_KEYS[key].name: value for key, value in keys.items()}, Edge.KEYWORD, facts)
    words = shlex.split(command_of({"schema": "mowich/rl@1", "inputs": {"asked": asked.again}}))
    assert words[:3] == ["mowich", "rl", "llama-3.1-8b"]
    assert compared(read(parsed(words[3:]), Edge.OPTION, facts)) == compared(asked)


def parsed(words: list[str]) -> dict[str, Any]:
    """Options of a command line, as the parser hands them on."""
    flags = {f.flag: f for f in RL.at(Edge.OPTION)} | {f.negative: f for f in RL.fields if f.negative}
    out: dict[str, Any] = {"model": "llama-3.1-8b"}
    rest = iter(words)
    for word in rest:
        field = flags[word]
        out[field.name] = word != field.negative if field.kind == "flag" else next(rest)
    return out


BROKEN: dict[str, tuple[dict[str, object], str]] = {
    "lengths.mean": ({"lengths.mean": None}, "is required: nobody can guess"),
    "lengths.cap": ({"lengths.cap": 1000}, r"is not above the mean length, got 1000; allowed: above 1060"),
    "lengths.sigma": ({"lengths.sigma": -1}, "must lie in|must be above 0|out of range"),
    "global_batch": ({"global_batch": 500}, r"does not fill 64 x 32 = 2048 samples .*; for example 256 or 512"),
    "acceptance": ({"algorithm": "dapo"}, "is required with dapo"),
    "algorithm": ({"algorithm": "gpro"}, "unknown algorithm 'gpro'.*did you mean 'grpo'"),
    "staleness": ({"staleness": 2}, "take turns on the same chips, got 2; allowed: 0"),
    "placement": ({"placement": "split"}, "needs rollouts.on and trainer.on"),
    "environment.call": ({"environment.turns": 8}, "is required with environment.turns above 1"),
    "environment.kind": ({"environment.kind": "maths"}, "unknown kind of environment 'maths'.*did you mean 'math'"),
    "environment.judge.on": (
        {"environment.judge.model": "llama-3.1-8b", "environment.judge.tokens": 300},
        "is required with environment.judge.model",
    ),
    "framework": ({"framework": "nemmo"}, "unknown framework 'nemmo'.*did you mean 'nemo-rl'"),
    "sync.method": ({"sync.method": "brodcast"}, "unknown method .*did you mean 'broadcast'"),
    "sync.link": ({"sync.link": "100 GB"}, "link|unit|B/s"),
    "rollouts.engine": ({"rollouts.engine": "vlm"}, "unknown engine 'vlm'.*did you mean 'vllm'"),
    "rollouts.drafts": ({"rollouts.drafts": 99, "rollouts.accept": 2}, "must be at most 32"),
    "trainer.plan": ({"trainer.plan": {"tq": 2}}, "unknown plan field 'tq'"),
    "trainer.stack": ({"trainer.stack": "megatrn"}, "unknown software stack"),
    "on": ({"on": "h1000:16"}, "unknown system 'h1000'"),
    "price": ({"price": "cheap"}, "unknown price term"),
    "order": ({"order": "last"}, "unknown order 'last'"),
    "epochs": ({"epochs": 0}, "must be at least 1"),
    "max_sequence": ({"max_sequence": 100}, "is less than a prompt and a mean answer"),
    "critic": ({"critic": "llama-3.1-8b"}, "goes with ppo"),
    "partial": ({"partial": "perhaps"}, "yes or no, got 'perhaps'"),
    "lenghts": ({"lenghts": {"p50": 1}}, "unknown key.*did you mean 'lengths'"),
}
"""Key that is told -> what breaks it, and what is said."""
ALONE = ("lengths.mean", "on", "acceptance", "algorithm")
"""Mistakes that hide others, or are told in the place of others."""


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.sampled_from(ALONE).map(lambda key: [key]),
        st.lists(st.sampled_from([key for key in BROKEN if key not in ALONE]), unique=True, min_size=1, max_size=5),
    )
)
def test_every_mistake_of_a_scenario_is_one_line_with_its_place(facts: Facts, which: list[str]) -> None:
    keys: dict[str, Any] = dict(RUN)
    for key in which:
        keys |= BROKEN[key][0]
    keys = {key: value for key, value in keys.items() if value is not None}
    text = yaml.safe_dump(nested(keys), sort_keys=False)
    with pytest.raises(UserError) as error:
        read({"yaml": text}, Edge.KEY, facts)
    lines = error.value.line().splitlines()
    assert len(lines) == len(which), lines
    numbers = [int(found[1]) for line in lines if (found := re.match(r"the scenario:(\d+) ", line))]
    assert numbers == sorted(numbers)
    for key in which:
        [line] = [line for line in lines if f" {key}" in line.split(": ")[0]]
        placed = re.match(r"the scenario:(\d+) ", line)
        assert placed, line
        assert re.search(BROKEN[key][1], line), line
        if BROKEN[key][0].get(key) is not None:
            assert key.rpartition(".")[2] in text.splitlines()[int(placed[1]) - 1], line


SAID: list[tuple[dict[str, object], str]] = [
    ({"staleness": 0}, "staleness: leaves one side of a split idle"),
    ({"staleness": 0, "placement": "split", "framework": "verl"}, "staleness: leaves one side of a split idle"),
    ({"trainer": None}, "trainer: is required with rollouts"),
    ({"on": "h100:8"}, "on: names one machine for both sides"),
    ({"chips": 64}, "chips: goes with a search"),
    ({"batch": 100}, "batch: is not prompts x samples, got 100; allowed: 2048"),
    ({"quantiles": {"p50": 900}}, "quantiles: needs two quantiles or more"),
    ({"quantiles": {"p50": 900, "p90": 100}}, "quantiles: p90 is below p50"),
    ({"quantiles": {"p50": 900, "p90": 1000}}, "quantiles: mean already says how long answers are"),
    ({"algorithm": "distill"}, "teacher: is required with distill"),
    ({"algorithm": "distill", "teacher": "llama-3.1-70b", "reward": 2.0}, "reward: a teacher gives no rewards"),
    ({"goal": "time"}, "goal: goes with a search"),
    ({"drafts": 2}, "accept: is required with drafts"),
    ({"rollout_plan": {"mode": "any"}}, "rollout_plan: is not a choice of rollouts"),
    ({"framework": "verl@new"}, "framework: not a release of a framework"),
    ({"acceptance": 0}, "acceptance: must be above 0"),
    ({"algorithm": "dapo", "acceptance": 1e-300}, "acceptance: a step makes more than 1000000 samples to keep"),
]


@pytest.mark.parametrize(("more", "said"), SAID, ids=lambda x: str(x)[:40])
def test_what_does_not_go_together_is_told_by_keyword(facts: Facts, more: dict[str, object], said: str) -> None:
    values = {SCENARIO_KEYS[key].name: value for key, value in SPLIT.items()} | more
    with pytest.raises(UserError) as error:
        read({name: value for name, value in values.items() if value is not None}, Edge.KEYWORD, facts)
    assert any(line.startswith(said) for line in error.value.line().splitlines()), error.value.line()


def test_a_split_in_turns_can_be_meant(facts: Facts) -> None:
    values = {SCENARIO_KEYS[key].name: value for key, value in SPLIT.items()}
    asked = read({**values, "staleness": 0, "placement": "split"}, Edge.KEYWORD, facts)
    assert (asked.staleness, asked.placement) == (0, "split")


def test_what_is_given_beside_a_scenario_wins_and_is_told_by_its_own_name(
    facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = read({"model": "rl-nemo-8b", "mean": 500, "reference": False}, Edge.KEYWORD, facts)
    assert (asked.lengths.mean, asked.reference, asked.prompts) == (500.0, False, 64)
    assert run(["rl", "rl-nemo-8b", "--cap", "900", "--samples", "30"]) == EXIT_BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    assert "rl-nemo-8b.yaml:" in lines[0]  # the batch of the file does not fill
    assert lines[1].startswith("error: --cap: is not above the mean length, got '900'")


@pytest.mark.parametrize(
    ("scenario", "more", "seen"),
    [
        ("rl-nemo-8b", {"quantiles": {"p50": 900, "p100": 4000}}, {"placement": "colocated"}),
        ("rl-nemo-8b", {"rollouts": "trn3:16", "trainer": "h100:8"}, {"placement": "split", "systems": ()}),
        ("rl-nemo-8b", {"on": "h100,trn3", "chips": 32}, {"placement": "split", "chips": 32}),
        ("rl-async-30b", {"on": "h100:32"}, {"placement": "colocated", "staleness": 0, "rollouts": None}),
        ("rl-async-30b", {"on": "h100,trn3", "chips": 64}, {"staleness": 1, "rollouts": None}),
        ("rl-two-vendors-235b", {"staleness": 2}, {"rollouts": "trn3:144", "staleness": 2}),
    ],
)
def test_another_way_to_say_a_thing_takes_the_place_of_the_files(
    facts: Facts, scenario: str, more: dict[str, object], seen: dict[str, object]
) -> None:
    asked = read({"model": scenario, **more}, Edge.KEYWORD, facts)
    assert {name: getattr(asked, name) for name in seen} == seen
    assert (asked.lengths.quantiles is not None) == ("quantiles" in more)


def test_what_nobody_stated_is_told_with_its_range(facts: Facts) -> None:
    asked = read({SCENARIO_KEYS[key].name: value for key, value in RUN.items()}, Edge.KEYWORD, facts)
    told = "; ".join(asked.assumed)
    for words in ("sigma 0.7 (0.4 to", "prompts of 120 tokens (80 to 180)", "updates in bf16", "no reference model"):
        assert words in told
    stated = {"sigma": 0.7, "prompt": 120, "reference": False, "trainer_plan": {"precision": "bf16"}, "reward": 0.0}
    quiet = read({**{SCENARIO_KEYS[key].name: value for key, value in RUN.items()}, **stated}, Edge.KEYWORD, facts)
    assert quiet.assumed == ("sequences of up to 4216 tokens in training",)
    assert compared(quiet) == compared(asked) | {"assumed": quiet.assumed}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9000), min_size=3, max_size=30), st.data())
def test_lengths_of_a_run_come_from_a_column(tmp_path_factory: Any, tokens: list[int], data: st.DataObject) -> None:
    file: Path = tmp_path_factory.mktemp("lengths") / "run.csv"
    rows = [f"{i},{n}" for i, n in enumerate(tokens)]
    file.write_text("id,tokens\n" + "\n".join(rows) + "\n")
    assert read_run_lengths(file, "tokens") == tuple(map(float, tokens))
    at = data.draw(st.integers(0, len(rows) - 1))
    bad = data.draw(st.sampled_from(["", "x", "-3", "0", "1.5", "1e9"]))
    rows[at] = f"{at},{bad}"
    file.write_text("id,tokens\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError) as error:
        read_run_lengths(file, "tokens")
    assert error.value.line().startswith(f"{file}:{at + 2} tokens: ")
    with pytest.raises(UserError, match=r"unknown column 'token'.*did you mean 'tokens'"):
        read_run_lengths(file, "token")


def test_passes_are_those_of_the_framework_unless_they_are_stated(facts: Facts) -> None:
    values = {SCENARIO_KEYS[key].name: value for key, value in RUN.items()}

    def passes(**more: object) -> tuple[str, ...]:
        return read({**values, **more}, Edge.KEYWORD, facts).passes

    assert passes(framework="nemo-rl") == ("policy", "reference")
    assert passes(framework="nemo-rl", reference=False) == ("policy",)
    assert passes(framework="nemo-rl", algorithm="dapo", acceptance=0.5) == ("policy",)
    assert passes(framework="nemo-rl", algorithm="ppo") == ("policy", "reference", "critic")
    assert passes(framework="nemo-rl", algorithm="distill", teacher="llama-3.1-70b") == ("teacher",)
    assert passes(framework="prime-rl", reference=True) == ("reference",)


def test_a_scenario_that_is_sent_reads_no_file(facts: Facts) -> None:
    keys = {key: value for key, value in RUN.items() if key != "lengths.mean"} | {"lengths.csv": "/etc/hostname"}
    with pytest.raises(UserError, match="files are not read here"):
        read({"yaml": yaml.safe_dump(nested(keys))}, Edge.KEY, facts)
    assert LENGTHS_FILE not in RL.at(Edge.KEY)


def test_the_page_has_every_key_of_a_scenario_with_its_option() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "records" / "scenario-keys.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (`--[^|]*|MODEL) \|", page, re.MULTILINE))
    assert list(rows) == list(SCENARIO_KEYS)
    for key, field in SCENARIO_KEYS.items():
        if field in RL.at(Edge.OPTION) and not field.is_argument:
            assert rows[key] == f"`{field.flag}`", key


def test_a_task_of_plan_that_is_reinforcement_learning_leads_here(capsys: pytest.CaptureFixture[str]) -> None:
    words = "plan llama-3.1-8b --train --tokens 1T --seq 4096 --batch 64seqs --on h100:8 --task grpo"
    assert run(words.split()) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        "error: --task: is reinforcement learning, got 'grpo'; mowich rl MODEL --grpo ... (mowich help rl)"
    ]
