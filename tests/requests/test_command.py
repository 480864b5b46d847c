"""The command that an answer prints asks the question that was asked: read back, it makes the same request."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import random
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.requests.command import command_of, schema_of
from mowich.requests.job_fields import CHIPS, TTFT
from mowich.requests.jobs import COMPARE, ITEM_LATENCY
from mowich.requests.rooms.collective import FAIL
from mowich.requests.schema import Schema
from mowich.requests.settings import OPTIMIZER, RECIPE
from mowich.software.engine import engine_for
from mowich.software.stack import OPTIMIZER_CHOSEN, RECIPE_CHOSEN
from mowich.software.vendors import ships_with
from mowich.studies.asked import read_words

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "golden" / "answers"
PARTS = 20
"""Of the kept answers, of which one is read in every run."""
OF_THE_ANSWER = {"form", "notes", "facts", "given", "model_given", "places", "again", "assumed"}
"""What a request says of its words, its facts and the form of its answer."""
OF_THE_RUN = {"jobs", "out", "overlay", "rates_out", "timeline"}
"""How an answer is found, and files that are written beside it."""
TAKEN = {"quarter", "rule", "buyer"} | {
    "chips",
    "group",
    "worker",
    "replica",
    "seq",
    "engine",
    "stack",
    "software",
    "on",
    "model",
    "batch_tolerance",
}
"""What an answer says that it took, where the question leaves it open."""


def kept() -> Iterator[tuple[list[str], dict[str, Any]]]:
    for file in sorted(KEPT.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            if isinstance(found["answer"], dict) and "schema" in found["answer"] and command_of(found["answer"]):
                yield shlex.split(found["question"]), found["answer"]


def request_of(schema: Schema[Any], words: list[str]) -> Any:
    """The request that a command line makes, words without "mowich"."""
    return read_words(schema, words[len(schema.name.split()) :])


def said_by(request: Any) -> dict[str, Any]:
    """What a request asks: a name as the facts have it, and a file by where it is."""
    left = OF_THE_ANSWER | OF_THE_RUN
    out = {f.name: getattr(request, f.name) for f in dataclasses.fields(request) if f.name not in left}
    systems, chips = out.get("systems") or (), out.get("chips")
    if len(systems) == 1:
        one = resolve(request.facts, systems[0], chips=chips)
        out |= {"systems": (one.id, one.chips), "chips": None}
        out["engine"] = out.get("engine") and engine_for(request.facts, one, out["engine"])
        out["stack"] = None if ships_with(one.id, out.get("stack")) else out.get("stack")
    given: Mapping[str, Any] = getattr(request, "given", {})
    out |= {"set": sorted(map(str, given.get("set", ()))), "facts_dirs": given.get("facts_dirs")}
    return {name: value.resolve() if isinstance(value, Path) else value for name, value in out.items()}


def lost(asked: Any, again: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """What one request asks and the other does not. As many plans as the answer has are all that were asked for."""
    first, second = said_by(asked), said_by(again)
    if second.get("top") == len(answer.get("plans") or answer.get("rows") or ()) <= first.get("top", 0):
        first["top"] = second["top"]
    out = {}
    for name, value in first.items():
        other = second[name]
        if dataclasses.is_dataclass(value) and type(value) is type(other):
            inner = {f.name: (getattr(value, f.name), getattr(other, f.name)) for f in dataclasses.fields(value)}
            pairs = {f"{name}.{key}": pair for key, pair in inner.items()}
        else:
            pairs = {name: (value, other)}
        out |= {k: (a, b) for k, (a, b) in pairs.items() if a != b and (a or k.split(".")[-1] not in TAKEN)}
    return out


@pytest.mark.share(PARTS)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_command_of_a_kept_answer_asks_the_same(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for asked, answer in itertools.islice(kept(), part, None, PARTS):
        schema = schema_of(answer)
        assert schema is not None
        command = shlex.split(command_of(answer))[1:]
        found = lost(request_of(schema, asked), request_of(schema, command), answer)
        assert not found, (shlex.join(asked), shlex.join(command))


TRAIN = "--train --tokens 1B --seq 1Ki --batch 64seqs"
SERVE = "--serve --isl 512 --osl 64"
SMALL = "--set plan.tp=1 --set plan.pp=1"
DRAWN: Mapping[str, tuple[str, ...]] = {
    f"compare gpt2 {TRAIN} --on h100:2,trn3:1 {SMALL}": (
        *("--task lora:8:attention,mlp", "--task sft", "--document 300", "--optimizer muon", "--price 3y"),
        *("--recipe future", "--seed 3", "--set power.trn3='900 W'", "--have trn2:4", "--stack hand-tuned"),
        *("--per year --sells '$0.3..$0.6/Mtok' --within 2y", "--fill 0.9", "--stale 90d --as-of 2027-03-01"),
    ),
    f"compare gpt2 {SERVE} --on h100:1,trn3:1 {SMALL}": (
        *("--ttft 2s", "--tpot 30ms", "--cached 60%", "--accept 2.3", "--price tco", "--per month"),
    ),
    f"plan gpt2 {TRAIN} --on trn3:4 {SMALL}": (
        *("--top 2", "--neighbours", "--pareto", "--stack megatron", "--task lora:8", "--batch 60seqs~5%"),
    ),
    f"plan gpt2 {SERVE} --on h100:1 {SMALL}": (
        *("--top 2", "--ttft 2s", "--cached 0.25", "--engine sglang", "--price tco", "--seed 4"),
    ),
    f"plan gpt2 {SERVE} --on h100:1 --rate 2rps --p99-ttft 1s": ("--headroom 40%", "--top 1", "--seed 2"),
    "plan flux.1-dev --task diffuse --height 256 --width 256 --steps 4 --on h100:1": (
        *("--latency 5s", "--guidance 2", "--batch 4", "--top 2", "--frames 1"),
    ),
    f"fit gpt2 {TRAIN} --on trn3:4": ("--task lora:8:all", "--stack megatron", "--recipe future", "--optimizer muon"),
    "fit gpt2 --serve --kv 1k --on h100": ("--engine sglang", "--chips 4"),
    f"gap trn3 h100 --model gpt2 {TRAIN} --chips 8": (
        *("--metric usd_per_mtok", "--seed 2", "--stack megatron", "--price 3y", "--optimizer muon"),
    ),
    f"value trn3:8 --of memory --model gpt2 {TRAIN} --points 2": (
        *("--from '96 GiB'", "--to '300 GB'", "--price 3y", "--stack megatron", "--optimizer muon", SERVE),
        *("--task lora:8", "--document 300"),
    ),
    f"sweep gpt2 {TRAIN} --on h100 --chips 1,2 --set plan.pp=1 --jobs 1": (
        *("--vary plan.tp=1,2", "--price 3y", "--stack megatron", "--recipe future", "--set power.h100='900 W'"),
    ),
    "rl llama-3.2-1b --prompts 8 --samples 4 --mean 200 --cap 500 --on h100:8": (
        *("--grpo", "--sigma 0.5", "--prompt 50", "--no-reference", "--epochs 2", "--global-batch 16"),
        *("--rollout-plan tp=1", "--trainer-plan 'tp=1|2'", "--memory-share 60%", "--seed 3", "--price 3y"),
        *("--turns 2 --call 1s", "--reward 1s", "--engine sglang", "--framework verl", "--partial"),
    ),
    "fleet startup --draws 0": ("--lp", "--flips", "--what-if h100", "--gap 0.01", "--seed 3", "--time-limit 30"),
    "traffic tests/golden/scenarios/lone.yaml": ("--draws 0", "--draws 1", "--set power.trn3='900 W'"),
    "collective all-reduce --on trn3:64": ("--bytes 1MiB,3", "--group 16", "--fail link:3", "--fail chip:5"),
    "goodput --on h100:1024 --samples 10": ("--days 5", "--step '2 s'", "--strategy sync,elastic", "--seed 3"),
    "prices --on h100,trn3": ("--quarter 2026Q1", "--price rent", "--rule epoch", "--life 3years", "--margin 0.3"),
    "power --on h100": ("--cap 20MW", "--spares 0.02", "--tokens-per-s 1000"),
    "model gpt2": ("--seq 512", "--kv-bytes 1"),
    "model tests/golden/scenarios/newthing.json --as llama": ("--seq 512",),
    "claims": ("4x", "--set power.trn3='900 W'"),
    "calibrate tests/golden/measured/made-trn3-nccom.log --on trn3:4": (
        *("--widen", "--format nccom-test", "--plan kind=all-gather"),
    ),
}
"""A question of each verb, and what more it may ask."""


QUICK = ("collective", "rl", "model tests", f"plan gpt2 {SERVE} --on h100:1 {SMALL}")
"""Of these, those of every run."""


def answered(words: list[str]) -> Any:
    """The JSON of an answer; None where the question is refused."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run([*words, "--json", "--quiet"])
    return json.loads(out.getvalue()) if code in (0, 3, 4) else None


@pytest.mark.parametrize("draw", range(2))
@pytest.mark.parametrize(
    "question",
    [pytest.param(q, marks=() if q.startswith(QUICK) else pytest.mark.slow) for q in DRAWN],
    ids=lambda q: "-".join(q.split()[:2]),
)
def test_the_command_of_a_drawn_question_asks_the_same(
    question: str, draw: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    options = DRAWN[question]
    rng = random.Random(f"{question} {draw}")
    for count in (*sorted(rng.sample((1, 2, 3), 3), reverse=True), 0):
        asked = shlex.split(" ".join((question, *rng.sample(options, min(count, len(options))))))
        answer = answered(asked)
        if answer is not None:
            break
    schema = schema_of(answer)
    assert schema is not None
    command = shlex.split(command_of(answer))[1:]
    found = lost(request_of(schema, asked), request_of(schema, command), answer)
    assert not found, (shlex.join(asked), shlex.join(command))
    again = answered(command)
    assert again is not None, shlex.join(command)
    assert command_of(again) == shlex.join(["mowich", *command])
    same = [key for key in answer if key not in ("inputs", "digest", "seconds", "facts_read")]
    assert {key: again.get(key) for key in same} == {key: answer[key] for key in same}


def test_every_verb_whose_answers_print_a_command_is_drawn() -> None:
    drawn = {question.split()[0] for question in DRAWN}
    printed = {schema_of(answer).name.split()[0] for _, answer in kept()}  # type: ignore[union-attr]
    assert printed - drawn <= {
        "validate",
        "prices",
        "kernel",
        "verify",
        "brief",
    }  # each with a test of its own, or slow


def test_a_setting_with_a_field_of_its_own_is_printed_by_it() -> None:
    assert (RECIPE.shortens, OPTIMIZER.shortens) == (RECIPE_CHOSEN, OPTIMIZER_CHOSEN)


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


def test_choices_that_python_gives_by_keyword_are_printed() -> None:
    asked = COMPARE.of(
        load_facts(),
        model="gpt2",
        systems=["h100:2"],
        train={"tokens": "1B", "seq": 1024, "batch": "8seqs"},
        fixed={"tp": "1,2", "pp": 1, "precision": "bf16"},
    )
    inputs = {"task": "train", "model": "gpt2", "systems": [{"system": "h100:2", "id": "h100"}], "fixed": asked.fixed}
    words = shlex.split(command_of({"schema": "mowich/compare@1", "rows": [], "inputs": {**inputs, "seq": 1024}}))
    typed = " ".join((*words[1:], "--tokens 1B --batch 8seqs"))
    assert request_of(COMPARE, shlex.split(typed)).fixed == asked.fixed
