"""`mowich web`: every endpoint gives what the command line gives, hostile requests are refused in words, and the
headers hold."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from captured_models import captured_json
from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.examples import names_of, shipped
from mowich.facts import load_facts
from mowich.fleets.read import read_problem
from mowich.models import load_model
from mowich.requests import jobs
from mowich.requests.brief import BriefRequest
from mowich.requests.fields import Edge
from mowich.requests.rl import RL
from mowich.requests.rl_fields import SCENARIO_KEYS
from mowich.requests.rooms import gap, value
from mowich.show.formats import MOST_FIRST_WORDS
from mowich.show.verbs import page_of
from mowich.software.engine import engine_names
from mowich.software.stack import training_stacks
from mowich.web import asks, verbs
from mowich.web.cache import AnswerCache
from mowich.web.reading import Knowledge
from mowich.web.routes import MAX_BODY_B
from mowich.web.scenario import rl_fields, rl_yaml, scenario_ask
from mowich.web.server import ServerOptions, create_app
from mowich.web.shipped import is_current, shipped_brief
from mowich.web.turns import RefusedRequestError
from server_here import Here

ROOT = Path(__file__).resolve().parents[2]
TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
COMPARE = {"model": "llama-3.1-8b", "on": ["trn2-server", "h100"], "chips": 64, "train": TRAIN}
SMALL = {**COMPARE, "on": ["trn2:4", "h100:8"], "chips": None}
SERVE = {
    "model": "llama-3.1-8b",
    "on": ["trn2-server", "h100"],
    "chips": 8,
    "serve": {"isl": "2k", "osl": 200, "ttft": "2s", "tpot": "50ms"},
}
GAP = {"first": "trn2-server", "second": "h100", "model": "llama-3.1-8b", "chips": 16, "train": TRAIN}
VALUE = {
    "on": "trn2-server:16",
    "of": "bandwidth",
    "models": ["llama-3.1-8b", "gpt2"],
    "train": TRAIN,
    "low": "2 TB/s",
    "high": "6 TB/s",
    "points": 2,
}
PRICES = {"verb": "prices", "on": ["trn3", "gb300"], "rule": "semianalysis", "quarter": "2026Q1"}
CLAIMS = {"verb": "claims", "word": "4x trainium"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(ServerOptions(warm=False), Here()), raise_server_exceptions=True) as client:
        yield client


def said_by_cli(command: str) -> dict[str, Any]:
    """The JSON of a command."""
    import shlex

    words = shlex.split(command)
    assert words[0] == "mowich"
    done = CliRunner().invoke(load_verbs(app), [*words[1:], "--json"])
    return json.loads(done.stdout)


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("compare", COMPARE),
        (
            "compare",
            {
                **COMPARE,
                "equal": "usd",
                "set": ["prices.term=3y", "plan.tp=1,2"],
                "train": {**TRAIN, "task": "lora:16", "fill": 0.9},
            },
        ),
        ("compare", SERVE),
        ("serve", {**SERVE, "serve": {**SERVE["serve"], "cached": "60%", "accept": 2.0}}),
        ("compare", {**SERVE, "on": ["h100"], "have": ["trn2-server:16"], "per": "year"}),
        ("compare", {**{k: v for k, v in SERVE.items() if k != "chips"}, "power": "100 kW", "per": "day"}),
        ("plan", {**COMPARE, "on": "h100", "top": 2}),
        ("gap", GAP),
        ("value", VALUE),
        ("prices", PRICES),
        ("claims", CLAIMS),
        ("plan", {**SERVE, "on": "h100", "top": 1}),
        pytest.param(
            "plan",
            {**SERVE, "on": "h100:4", "serve": {"isl": 2048, "osl": 128, "rate": "12rps", "p99_tpot": "60ms"}},
            marks=pytest.mark.slow,
        ),
        ("fit", {"model": "llama-3.1-8b", "on": "h100:8", "train": {"seq": 4096, "batch": "64seqs"}}),
        ("fit", {"model": "llama-3.1-8b", "on": "trn3", "kv": "64k"}),
        ("gap", {**{k: v for k, v in SERVE.items() if k != "on"}, "first": "h100", "second": "h200"}),
    ],
)
def test_an_answer_is_what_its_command_prints(client: TestClient, path: str, ask: dict[str, Any]) -> None:
    answer = client.post(f"/api/{path}", json=ask)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["result"] == said_by_cli(body["command"])
    shown, page = body.get("view", body), page_of(body["result"])
    assert (shown["headline"], shown["under"]) == (page.sentences[0], " ".join(page.sentences[1:]))
    assert 0 < len(shown["headline"].split()) <= MOST_FIRST_WORDS


def test_the_other_verbs(client: TestClient) -> None:
    ring = client.post("/api/collective", json={"kind": "all-reduce", "on": "trn3-gen2", "sizes": ["1MiB"]}).json()[
        "result"
    ]
    assert ring == said_by_cli("mowich collective all-reduce --on trn3-gen2 --bytes 1MiB")
    kept = client.post("/api/goodput", json={"on": "h100:1024", "samples": 20}).json()["result"]
    assert kept == said_by_cli("mowich goodput --on h100:1024 --samples 20")
    shown = client.get("/api/facts/trn3").json()["result"]
    assert shown == said_by_cli("mowich facts show trn3")
    assert client.get("/api/facts").json()["result"] == said_by_cli("mowich facts list")
    model = client.post("/api/model", json={"model": "deepseek-v3"}).json()["result"]
    assert model == said_by_cli("mowich model deepseek-v3")
    assert "deepseek-v3" in [m["name"] for m in client.get("/api/models").json()["result"]["models"]]
    assert "trn3-gen2" in [s["id"] for s in client.get("/api/systems").json()["result"]["systems"]]
    side = client.get("/api/facts/side", params={"name": ["trn3", "gb300"]}).json()["result"]
    bandwidth = next(r for r in side["rows"] if r["field"] == "chips.memory.hbm_bandwidth")
    assert [f["unit"] for f in bandwidth["facts"]] == ["B/s", "B/s"]


def test_a_key_of_any_letters_is_refused_in_one_line(client: TestClient) -> None:
    told = client.post("/api/fit", json={"model": "gpt2", "on": "trn3", "kv": "1k", "\n": 1, "a\u2028b": 2})
    assert told.status_code == 422
    lines = [error["line"] for error in told.json()["errors"]]
    assert len(lines) == 2
    assert all(line.isprintable() and "Extra inputs" in line for line in lines)


def test_a_pasted_config_is_the_model_it_describes(client: TestClient) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }
    ours = client.post("/api/model", json={"model": config}).json()["result"]
    assert ours["params"] == client.post("/api/model", json={"model": "llama-3.1-8b"}).json()["result"]["params"]
    rows = [
        client.post("/api/compare", json={**COMPARE, "model": m}).json()["result"]["rows"]
        for m in (config, "llama-3.1-8b")
    ]
    assert rows[0][0]["step_s"] == rows[1][0]["step_s"]


def test_a_pasted_captured_model_is_data_that_is_checked(client: TestClient) -> None:
    """What `mowich capture` wrote is a model; one number changed, a false sum or code in its place is one line."""
    data = captured_json(load_model("llama-3.1-8b"))
    ours = client.post("/api/model", json={"model": data}).json()["result"]
    assert ours["params"] == load_model("llama-3.1-8b").params
    for changed in ({"hidden": 1}, {"params": data["params"] + 1}, {"source": "x" * 3000}, {"layers": "import os"}):
        told = client.post("/api/model", json={"model": {**data, **changed}})
        assert told.status_code == 422
        lines = [error["line"] for error in told.json()["errors"]]
        assert lines
        assert all(line.isprintable() for line in lines)


def test_near_says_that_it_is_not_the_whole_search(client: TestClient) -> None:
    whole = client.post("/api/compare", json=COMPARE).json()["result"]
    near = {
        r["system"]: {k: r["plan"][k] for k in ("tp", "pp", "ep", "cp", "micro_batch", "precision")}
        for r in whole["rows"]
    }
    first = client.post("/api/compare", json={**COMPARE, "near": near}).json()["result"]
    assert whole["complete"] is True
    assert first["complete"] is False
    assert any("near" in w for w in first["warnings"])
    for a, b in zip(first["rows"], whole["rows"], strict=True):  # the best plan is near itself
        assert a["plan"] == b["plan"]
        assert a["step_s"] == b["step_s"]


def test_explain_and_report(client: TestClient) -> None:
    why = client.post("/api/explain", json={"ask": SMALL, "metric": "h100.step_s"}).json()["result"]
    row = client.post("/api/compare", json=SMALL).json()["result"]["rows"][1]
    assert sum(why["parts"].values()) == pytest.approx(row["step_s"]["value"])
    assert why["terms"]
    assert all({"name", "value", "unit", "formula"} <= t.keys() for t in why["terms"])
    named = {f["path"] for f in why["facts"]} | {path for t in why["terms"] for path in t["facts"]}
    assert named
    assert named <= why["fact_labels"].keys()  # the page says each in words
    assert not [words for words in why["fact_labels"].values() if "_" in words]
    page = client.post("/api/report", json=SMALL)
    assert page.headers["content-type"].startswith("text/html")
    assert "llama-3.1-8b" in page.text
    more = client.post("/api/deepen", json=SMALL).json()
    assert any("nearest measured" in t["title"] for t in more["view"]["tables"])
    assert more["view"]["charts"]
    for system in SMALL["on"]:  # of a machine without a known link to its host's memory too
        told = client.post("/api/explain", json={"ask": SMALL, "metric": f"{system}.step_s"})
        assert told.status_code == 200, told.text
    wrong = client.post("/api/explain", json={"ask": SMALL, "metric": "h100.colour"})
    assert wrong.status_code == 422


LAB = """mowich: 1
name: a small lab
periods: {start: 2027-Q1, count: 2, length: quarter}
workloads:
  chat:
    serve: {model: llama-3.1-70b, isl: 2000, osl: 500, ttft: 2s, tpot: 50ms, tokens_per_s: 200k}
    on_chips: 64
systems:
  trn2: {rent: {price: {low: $1.2/chip/h, high: $2.4/chip/h}, for: 2 quarters, supply: 60}}
  gb300: {unit_chips: 72, rent: {price: $4/chip/h, for: 1 quarter, supply: 60}}
goals: [cost]
"""


def test_a_step_without_a_link_to_the_host_is_explained(client: TestClient) -> None:
    """Its rate is no number: it once made an answer that JSON does not hold."""
    answer = client.post("/api/explain", json={"ask": {**COMPARE, "on": ["trn2"]}, "metric": "trn2.step_s"})
    assert answer.status_code == 200, answer.text
    assert "offload" not in [t["name"] for t in answer.json()["result"]["terms"]]


def test_fleet_takes_no_file_and_agrees_with_the_command(client: TestClient, tmp_path: Any) -> None:
    text = LAB
    answer = client.post("/api/fleet", json={"yaml": text, "relaxed": True})
    assert answer.status_code == 200, answer.text
    (tmp_path / "scenario.yaml").write_text(text, encoding="utf-8")
    theirs = said_by_cli(f"mowich fleet {tmp_path / 'scenario.yaml'} --lp")
    ours = answer.json()["result"]
    assert ours["objective"] == theirs["objective"]
    assert ours["buy"] == theirs["buy"]
    given = "chips.gb300.memory.hbm_bandwidth=2 TB/s"
    slow = client.post("/api/fleet", json={"yaml": text, "relaxed": True, "set": [given]}).json()["result"]
    theirs_slow = said_by_cli(f"mowich fleet {tmp_path / 'scenario.yaml'} --lp --set '{given}'")
    assert (slow["objective"], slow["unread"]) == (theirs_slow["objective"], []), "what is set is heard"
    assert slow["objective"] != ours["objective"]
    for _ in range(2):  # also with speeds that were predicted before
        again = client.post("/api/fleet", json={"yaml": text, "relaxed": True, "gap": 0.01}).json()["result"]
        assert again["facts_read"] == ours["facts_read"] == theirs["facts_read"]
    for line in ("rates: /etc/hostname", "rates: rates.json"):
        refused = client.post("/api/fleet", json={"yaml": f"{text}\n{line}\n"})
        assert refused.status_code == 422
        assert "files are not read" in refused.text
    for run, why in (
        ("/etc/hostname", "files are not read"),
        ("{model: llama-3.1-8b, lengths: {csv: /etc/hostname}}", "files are not read"),
        ("{model: llama-3.1-8b, environment: {judge: {model: ./config.json}}}", "unknown model"),
    ):
        learns = f"workloads:\n  more: {{rl: {{tokens: 1T, run: {run}}}}}\n"
        refused = client.post("/api/fleet", json={"yaml": text.replace("workloads:\n", learns)})
        assert refused.status_code == 422, refused.text
        assert why in refused.text
    there = client.post("/api/fleet", json={"yaml": text.replace("llama-3.1-70b", "./config.json")})
    assert there.status_code == 422
    assert "unknown model" in there.text


RUN = {
    "model": "llama-3.1-8b",
    "algorithm": "grpo",
    "prompts": "16",
    "samples": 8,
    "mean": "500",
    "cap": "904",
    "on": ["h100:8"],
    "rollout_plan": {"tp": 1},
    "trainer_plan": {"tp": 1},
}


def test_a_run_of_learning_is_the_same_by_fields_as_a_scenario_and_by_the_command(client: TestClient) -> None:
    answer = client.post("/api/rl", json=RUN)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["result"]["rows"][0]["feasible"]
    assert body["asked"] == RUN | {"prompts": "16", "samples": "8"}
    theirs = said_by_cli(body["command"])
    assert body["result"]["rows"] == theirs["rows"]
    assert body["result"]["facts_read"] == theirs["facts_read"]
    assert "\non:" in body["yaml"]
    as_text = client.post("/api/rl", json={"yaml": body["yaml"]}).json()
    assert as_text["result"]["rows"] == body["result"]["rows"]
    assert as_text["yaml"] == body["yaml"]
    with_more = client.post("/api/rl", json={"yaml": body["yaml"], "mean": "600"}).json()
    assert with_more["asked"]["mean"] == "600", "what is given beside a text wins"
    assert with_more["result"]["step_s"]["value"] > body["result"]["step_s"]["value"]
    metric = {"ask": {"verb": "rl", "yaml": body["yaml"]}, "metric": "parts.reward"}
    assert client.post("/api/explain", json=metric).json()["result"]["estimate"]["value"] == 0.0


@pytest.mark.slow
def test_a_run_of_learning_is_explained_and_reported(client: TestClient) -> None:
    body = client.post("/api/rl", json=RUN).json()
    why = client.post("/api/explain", json={"ask": {"verb": "rl", **RUN}, "metric": "step_s"}).json()
    assert why["result"]["estimate"]["value"] == body["result"]["step_s"]["value"]
    page = client.post("/api/report", json={"verb": "rl", **RUN})
    assert page.status_code == 200
    assert body["view"]["headline"] in page.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mean": None}, "mean"),
        ({"cap": "400"}, "cap"),
        ({"global_batch": "100"}, "global_batch"),
        ({"prompts": "65536", "samples": "2"}, "batch"),
        ({"model": "./config.json"}, "model"),
        ({"lengths": "/etc/hostname"}, "lengths"),
        ({"teacher": "../x"}, "teacher"),
        ({"yaml": "mowich: 1\nmodel: llama-3.1-8b\nlengths: {csv: /etc/hostname, cap: 9}\n"}, "csv"),
        ({"yaml": "mowich: 1\nmodel: &a llama-3.1-8b\n"}, "anchor"),
    ],
)
def test_a_run_that_cannot_be_is_refused_where_it_is_wrong(
    client: TestClient, more: dict[str, object], said: str
) -> None:
    body = {key: value for key, value in {**({} if "yaml" in more else RUN), **more}.items() if value is not None}
    refused = client.post("/api/rl", json=body)
    assert refused.status_code == 422
    errors = refused.json()["errors"]
    assert any(said in f"{e['where']} {e['line']}" for e in errors), errors


@pytest.mark.share(2)
@pytest.mark.parametrize(("verb", "ask"), [("gap", GAP), ("value", VALUE), ("prices", PRICES), ("claims", CLAIMS)])
def test_a_view_of_one_verb_is_the_page_of_its_answer_and_explains_its_numbers(
    client: TestClient, verb: str, ask: dict[str, Any]
) -> None:
    answer = client.post(f"/api/{verb}", json=ask).json()
    view = answer["view"]
    assert view["headline"] == page_of(answer["result"]).headline
    cells = [cell for table in view["tables"] for row in table["rows"] for cell in row if isinstance(cell, list)]
    metrics = [cell[2] for cell in cells if len(cell) > 2]
    assert len(metrics) >= 8
    for metric in (metrics[0], metrics[len(metrics) // 2], metrics[-1]):
        why = client.post("/api/explain", json={"ask": ask, "metric": metric})
        assert why.status_code == 200, why.text
        assert why.json()["result"]["metric"] == metric
    report = client.post("/api/report", json=ask)
    assert report.status_code == 200
    assert answer["command"].split()[1] == verb
    form = client.get("/static/views.js").text.split(f"\n  {verb}: {{")[1].split("\n  },")[0]
    schema = client.get("/openapi.json").json()["components"]["schemas"][verb.capitalize()]
    shown = set(re.findall(r'"(\w+)"', form)) | {"stack", "recipe", "price", "set"}  # those of every job
    assert set(schema["properties"]) - {"train", "serve", "verb"} <= shown


@pytest.mark.parametrize(
    ("verb", "ask", "more", "line"),
    [
        ("gap", GAP, {"first": "trn33"}, "first: unknown system 'trn33'"),
        ("gap", GAP, {"second": "trn2-server"}, "first: 'trn2-server' is named twice"),
        ("gap", GAP, {"metric": "speed"}, "metric: unknown metric 'speed'; allowed: tokens_per_s_per_chip"),
        ("gap", GAP, {"model": "nope"}, "model: unknown model 'nope'"),
        ("gap", GAP, {"chips": "many"}, "chips: not a count, got 'many'"),
        ("gap", GAP, {"train": {**TRAIN, "batch": "lots"}}, "train.batch: "),
        ("value", VALUE, {"of": "software"}, "low: software is varied by its releases, and has no amount"),
        ("value", VALUE, {"low": "2 lightyears"}, "low: unknown unit 'lightyears'"),
        ("value", VALUE, {"low": 2e12}, "low: Input should be a valid string"),
        ("value", VALUE, {"low": "9 TB/s"}, "low: the range ends before it begins"),
        ("value", VALUE, {"high": "much\x00"}, "high: String should match pattern"),
        ("value", VALUE, {"points": 17}, "points: must be at most 16 here, got '17'"),
        ("value", VALUE, {"models": ["nope"]}, "models: unknown model 'nope'"),
        ("value", VALUE, {"models": []}, "models: names no model"),
        ("prices", PRICES, {"on": ["x"]}, "on: unknown system 'x'"),
        ("prices", PRICES, {"quarter": "1999Q1"}, "quarter: unknown quarter '1999Q1'; allowed: 2025Q3"),
        ("prices", PRICES, {"rule": "mine"}, "rule: unknown rule 'mine'; allowed: epoch, owner"),
        ("prices", PRICES, {"life": "100years"}, "life: must be 1 to 50 years"),
        ("prices", PRICES, {"margin": "200%"}, "margin: must lie in 0 to 1"),
        ("claims", CLAIMS, {"word": "no such thing"}, "word: no claim has all of these words"),
        ("claims", CLAIMS, {"word": "x" * 65}, "word: String should have at most 64 characters"),
    ],
)
def test_what_is_wrong_with_a_view_of_one_verb_names_its_field(
    client: TestClient, verb: str, ask: dict[str, Any], more: dict[str, Any], line: str
) -> None:
    refused = client.post(f"/api/{verb}", json={**ask, **more})
    assert refused.status_code == 422
    errors = refused.json()["errors"]
    assert errors[0]["line"].startswith(line), errors
    assert errors[0]["where"].split(".")[0] == line.split(":")[0].split(".")[0]


def test_the_page_offers_the_words_of_prices_that_facts_hold(client: TestClient) -> None:
    """No list of its own: each word is one that a question of prices takes, and no other is."""
    for name, words in client.get("/api/systems").json()["result"]["prices"].items():
        refused = client.post("/api/prices", json={**PRICES, name: "no-such"})
        allowed = refused.json()["errors"][0]["line"].partition("allowed: ")[2].split(", ")
        assert sorted(words) == allowed


@pytest.mark.parametrize("seed", range(20))
def test_fields_of_a_run_go_through_its_scenario_and_back(seed: int) -> None:
    dice = random.Random(seed)
    kinds = {
        "mapping": {"tp": 4, "weights": "fp8"},
        "flag": True,
        "names": ["gb300", "trn3"],
        "texts": ["gb300:8"],
        "number": 2.5,
        "share": "60%",
        "count": "4k",
    }
    chosen = [field for field in SCENARIO_KEYS.values() if field.name != "lengths" and dice.random() < 0.5]
    fields = {field.name: kinds.get(field.kind, "llama-3.1-8b") for field in chosen}
    text = rl_yaml(fields)
    assert rl_fields(text) == fields
    assert rl_yaml(rl_fields(text)) == text


def test_fields_of_every_shipped_run_are_a_body(client: TestClient) -> None:
    found = client.get("/api/scenarios?verb=rl").json()["result"]["scenarios"]
    assert len(found) >= 5
    for scenario in found:
        assert scenario["command"] == f"mowich rl {scenario['name']}"
        asked = rl_fields(scenario["text"])
        assert asks.RlBody.model_validate(asked).values().keys() == asked.keys()
        assert rl_fields(rl_yaml(asked)) == asked


def test_every_field_of_a_run_that_a_body_takes_has_a_meaning_and_a_type_in_the_openapi(client: TestClient) -> None:
    told = client.get("/openapi.json").json()["components"]["schemas"]["Rl"]["properties"]
    wanted = {field.name for field in SCENARIO_KEYS.values() if Edge.KEY in field.edges}
    assert wanted <= set(told)
    assert [name for name in wanted if not told[name].get("description")] == []


def test_fleet_opens_on_a_scenario_with_a_decision_and_little_idle(client: TestClient) -> None:
    found = client.get("/api/scenarios").json()["result"]["scenarios"]
    assert [s["name"] for s in found[:2]] == ["startup", "trainium-tenants"]
    assert {s["name"] for s in found} == {
        name for name in names_of("scenarios") if shipped("scenarios", name).command.startswith("mowich fleet ")
    }
    answer = client.post("/api/fleet", json={"yaml": found[0]["text"]}).json()
    assert answer["view"]["headline"].startswith("Rent h100")
    assert answer["view"]["under"].startswith("Rent up to")
    assert "No system stands idle" in json.dumps(answer["view"])


def test_shipped_scenarios_bring_their_speeds_and_what_is_changed_is_predicted(client: TestClient) -> None:
    found = {s["name"]: s for s in client.get("/api/scenarios").json()["result"]["scenarios"]}
    assert "rainier" in found
    assert all(s["command"] == f"mowich fleet {name}" and s["what"] for name, s in found.items())
    facts, text = load_facts(), str(found["startup"]["text"])

    def speeds(text: str) -> dict[tuple[str, str], float | None]:
        problem = read_problem("scenario", facts, text=text)
        known, asked = verbs._shipped_rates(problem, facts), verbs._speeds_asked(problem)
        return {
            (t.name, c.name): known[key].tokens_per_s_per_chip.value for key, (t, c) in asked.items() if key in known
        }

    shipped = json.loads((ROOT / "scenarios" / "startup.rates.json").read_text(encoding="utf-8"))
    same = speeds(text)
    assert same == {(r["task"], r["system"]): r["tokens_per_s_per_chip"]["value"] for r in shipped["rates"]}
    other = speeds(text.replace("{model: qwen3-32b, isl: 2000", "{model: qwen3-32b, isl: 2001"))
    assert {task for task, _ in same} - {task for task, _ in other} == {"chat"}
    engine = speeds(text.replace("trn2-server: {", "trn2-server: {engine: nxdi-megakernel, "))
    assert set(same) - set(engine) == {(task, "trn2-server") for task, _ in same}
    assert speeds(text.replace("rates: startup.rates.json", "")) == {}


def test_the_page_opens_on_the_brief_that_ships(client: TestClient) -> None:
    first = client.get("/first.json").json()
    assert first["result"] == shipped_brief()
    assert first["command"] == "mowich brief"
    assert len(first["view"]["stories"]) == len(first["result"]["rows"])
    assert first["current"] is (first["result"]["facts_hash"] == load_facts().hash())
    if first["current"]:
        assert client.post("/api/brief", json={}).json()["result"] == first["result"]
        memory = next(story for story in first["view"]["stories"] if "GiB" in story["question"])
        name = memory["table"]["rows"][0][1][2]
        why = client.post("/api/explain", json={"ask": {}, "metric": name})
        assert why.status_code == 200, why.text
        assert "mowich value trn3" in why.text


def test_every_head_of_the_table_of_answers_has_its_meaning(client: TestClient) -> None:
    """But for "confidence", which the page tells beside its dots."""
    means = client.get("/api/glossary").json()["result"]["means"]
    script = client.get("/static/table.js").text
    heads = set(re.findall(r'head: "([^"]+)"', script)) - {"confidence", "step, hand-tuned"}
    assert len(heads) > 12
    assert all(means.get(head) for head in heads), sorted(head for head in heads if not means.get(head))


def test_the_table_of_serving_shows_the_first_wait_and_users_at_once(client: TestClient) -> None:
    """Without "all columns"; the users of a plan, times their speed, are the tokens of its chips."""
    serving = client.get("/static/table.js").text.split("const SERVE = [")[1].split("];")[0]
    few = {found[1] for found in re.finditer(r'key: "(\w+)".*few: true', serving)}
    assert {"ttft_s", "users"} <= few
    assert len(few) <= 8
    answer = client.post("/api/compare", json=SERVE).json()
    assert answer["view"]["tables"] == []  # the page makes the table of answers from the rows
    for row, why in zip(answer["result"]["rows"], answer["view"]["whys"], strict=True):
        users = why["users"]["value"]
        each, workers = (float(part) for part in why["users"]["of"].split(" × "))
        assert users == pytest.approx(each * workers, rel=0.01)
        shown = client.post("/api/explain", json={"ask": SERVE, "metric": f"{row['system']}.batch"}).json()
        assert shown["result"]["value"] == pytest.approx(each, rel=0.01)
        tokens = row["chips_used"] * row["tokens_per_s_per_chip"]["value"]
        assert users * row["tokens_per_s_per_user"]["value"] == pytest.approx(tokens, rel=0.05)


def test_what_it_comes_to_in_a_year_is_a_table_below_the_answers(client: TestClient) -> None:
    answer = client.post("/api/compare", json={**SERVE, "per": "year"}).json()
    [year] = answer["view"]["tables"]
    assert year["title"] == "A year of it"
    metric = year["rows"][0][1][2]
    assert client.post("/api/explain", json={"ask": {**SERVE, "per": "year"}, "metric": metric}).status_code == 200
    trained = client.post("/api/compare", json=SMALL).json()
    assert [why["users"] for why in trained["view"]["whys"]] == [None, None]


@pytest.mark.parametrize(
    ("more", "where", "line"),
    [
        ({"have": ["trn2"]}, "have", "have: 'trn2' does not say how many are there; trn2:512"),
        ({"have": []}, "have", "have: names no system; for example trn2:512"),
        ({"have": ["trn2 512"]}, "have.0", "have.0: String should match"),
        ({"have": ["nosuch:4"]}, None, "unknown system 'nosuch'"),
        ({"power": "5 rabbits"}, "power", "power: unknown unit 'rabbits'"),
        ({"power": "-1kW"}, "power", "power: must be above 0"),
        ({"power": "5MW", "chips": 8}, "chips", "chips: power says how many chips; leave one of them out"),
        ({"per": "week"}, "per", "per: unknown time 'week'; allowed: day, month, year"),
    ],
)
def test_what_is_wrong_with_chips_of_ones_own_a_site_or_a_year_names_its_field(
    client: TestClient, more: dict[str, Any], where: str | None, line: str
) -> None:
    """As for money and days; a system that is not known names itself."""
    ask = {k: v for k, v in SERVE.items() if k != "chips" or "power" not in more}
    refused = client.post("/api/compare", json={**ask, **more})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["where"] == where
    assert error["line"].startswith(line), error["line"]
    fields = re.search(r"const FIELDS = \[([^]]+)\]", client.get("/static/form.js").text)
    assert fields is not None
    assert where is None or f'"{where.split(".")[0]}"' in fields[1]


@pytest.mark.parametrize(
    ("load", "where"),
    [
        ({"rate": "many"}, "rate"),
        ({"rate": "20rps", "p99_ttft": None}, "rate"),
        ({"users": "0"}, "users"),
        ({"users": "many"}, "users"),
        ({"users": "20", "think": "soon"}, "think"),
        ({"users": "20", "p99_ttft": "-1s"}, "p99_ttft"),
        ({"users": "20", "p99_tpot": "slow"}, "p99_tpot"),
    ],
)
def test_what_is_wrong_with_a_load_names_its_field(client: TestClient, load: dict[str, Any], where: str) -> None:
    """The page has a field of that name (`load.js`)."""
    serve = {"isl": "2k", "osl": 200, "p99_ttft": "5s", **load}
    refused = client.post("/api/plan", json={"model": "llama-3.1-8b", "on": "h100", "serve": serve})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["where"] == f"serve.{where}"
    assert error["line"].startswith(f"serve.{where}: ")
    assert f'["{where}", ' in client.get("/static/load.js").text


def test_the_page_offers_the_software_that_facts_hold(client: TestClient) -> None:
    """No list of its own; each word is one that a comparison takes."""
    known, facts = client.get("/api/systems").json()["result"], load_facts()
    assert known["stacks"] == training_stacks(facts)
    assert known["engines"] == engine_names(facts)
    form = client.get("/static/form.js").text
    assert not [name for name in (*known["stacks"], *known["engines"]) if f'"{name}"' in form]
    for job, key in ((SMALL, "stack"), (SERVE, "engine")):
        wrong = (
            {**job, "stack": "none-such"} if key == "stack" else {**job, "serve": {**SERVE["serve"], key: "no-such"}}
        )
        refused = client.post("/api/compare", json=wrong)
        assert refused.status_code == 422
        assert all(name in refused.text for name in known[f"{key}s"]), refused.text


def test_what_one_worker_has_read_is_not_anothers() -> None:
    """The same question is read once by a worker, and by each worker with its own facts."""
    ask = asks.PricesBody.model_validate({"on": ("trn3",)})
    facts = load_facts()
    one, other = Knowledge(facts), Knowledge(facts.with_values({"sites.default.pue": 1.5}))
    assert one.read(ask).given is one.read(ask).given
    assert (one.read(ask).facts.hash(), other.read(ask).facts.hash()) == (facts.hash(), other.facts.hash())
    assert facts.hash() != other.facts.hash()


def test_a_brief_of_other_facts_or_rivals_is_not_the_one_that_ships() -> None:
    def asked(**values: object) -> BriefRequest:
        found = known.read(asks.BriefBody.model_validate(values))
        assert isinstance(found, BriefRequest)
        return found

    facts, shipped = load_facts(), shipped_brief()
    known = Knowledge(facts)
    of_now = {**shipped, "facts_hash": facts.hash()}
    assert is_current(of_now, asked())
    assert not is_current(of_now, asked(against=["gb300"]))
    assert not is_current(of_now, asked(models=["llama-3.1-405b", "gpt-oss-120b"]))
    assert not is_current(of_now, asked(set=["power.trn3=900 W"]))
    with pytest.raises(UserError, match="unknown model"):
        asked(models=["etc/passwd"])


@pytest.mark.parametrize("ask", [COMPARE, SERVE])
def test_why_a_row_is_what_it_is_in_words(client: TestClient, ask: dict[str, Any]) -> None:
    answer = client.post("/api/compare", json=ask).json()
    view, rows = answer["view"], answer["result"]["rows"]
    assert "cost of ownership for all" in view["footing"] or "for all" in view["footing"]
    assert f"{ask['chips']} chips each" in view["footing"]
    assert len(view["whys"]) == len(rows)
    for why, row in zip(view["whys"], rows, strict=True):
        assert "_" not in json.dumps([why["plans"], why["memory"], why["binds"], [t["groups"] for t in why["times"]]])
        assert sum(why["sure"].values()) == pytest.approx(1)
        assert sum(size for _, size in why["memory"]) == pytest.approx(sum(row["memory_B"].values()))
        for told in why["times"]:
            if told["groups"]:
                assert [g["name"] for g in told["groups"]] == ["compute", "memory", "network", "waiting", "software"]
                total = sum(part for g in told["groups"] for _, part in g["parts"])
                assert total == pytest.approx(row[told["metric"]]["value"])


def test_rows_within_one_scale_up_unit_have_a_map_of_their_machine(client: TestClient) -> None:
    """And no other row; the map has every chip, and a machine that is too large is refused in words."""
    asked = {**COMPARE, "on": ["trn3", "h100", "ironwood"], "chips": "64"}
    assert client.post("/api/compare", json=asked).json()["view"]["maps"] == ["trn3-gen2:64", "", "ironwood:64"]
    answer = client.get("/api/map", params={"name": "trn3-gen2:144"}).json()
    [machine] = [s for s in answer["chart"]["option"]["series"] if s["type"] == "graph"]
    assert sum(n["name"].startswith("chip ") for n in machine["data"]) == 144
    large = client.get("/api/map", params={"name": "ironwood:9216"})
    assert large.status_code == 422
    assert "name: 9216 chips cannot be drawn" in large.json()["errors"][0]["line"]
    assert client.get("/api/map", params={"name": "../etc"}).status_code == 422


@pytest.mark.parametrize(("model", "dots"), [("qwen3-1.7b", 15), ("llama-3.1-8b", 0)])
def test_what_was_measured_of_the_same_model_and_chip_stands_beside_the_front(
    client: TestClient, model: str, dots: int
) -> None:
    ask = {**SERVE, "model": model, "on": ["trn2", "h100"], "serve": {"isl": "1k", "osl": 200}}
    front = client.post("/api/compare", json=ask).json()["view"]["charts"][0]
    drawn = [s for s in front["option"]["series"] if ", measured (" in s["name"]]
    in_legend = [n for n in front["option"]["legend"]["data"] if "measured" in str(n)]
    in_table = [row for row in front["rows"] if row[1].startswith("measured: ")]
    has = bool(dots)
    assert ("Hollow" in front["note"], len(drawn), len(in_legend), len(in_table)) == (has, has, has, dots)
    for series in drawn:
        assert series["name"] == in_legend[0] == "trn2, measured (Qwen3-1.7B Trn2 sweep (vLLM 0.13))"
        assert [d["name"] for d in series["data"]] == [row[1] for row in in_table]


def test_the_page_tells_its_headline_and_has_a_grey_line_under_it(client: TestClient) -> None:
    """A reader of screens hears a new headline; every module of a view writes both lines by one function."""
    page = client.get("/").text
    assert re.search(r'<h1 id="headline" aria-live="polite">[^<]+</h1>\s*<p class="beneath" id="under"></p>', page)
    for file in (ROOT / "src" / "mowich" / "web" / "static").glob("*.js"):
        text = file.read_text(encoding="utf-8")
        assert '$("headline").textContent' not in text, file.name


def test_software_that_is_named_stands_below_the_headline(client: TestClient) -> None:
    for ask, named in (
        (COMPARE, {"stack": "hand-tuned"}),
        (SERVE, {"serve": {**SERVE["serve"], "engine": "hand-tuned"}}),
    ):
        answer = client.post("/api/compare", json={**ask, **named}).json()
        assert "software: hand-tuned where there is some" in answer["view"]["footing"]
        assert "hand-tuned" in answer["command"]
        assert "software" not in client.post("/api/compare", json=ask).json()["view"]["footing"]


def test_an_announced_chip_is_marked_in_training_and_in_serving(client: TestClient) -> None:
    for ask in (COMPARE, SERVE):
        view = client.post("/api/compare", json={**ask, "on": ["trn3", "trn4"]}).json()["view"]
        assert [why["announced"] for why in view["whys"]] == [False, True]


def test_a_scenario_is_the_request_that_it_means(client: TestClient) -> None:
    text = (
        "mowich: 1\nworkload:\n  model: llama-3.1-8b\n  train: {tokens: 1T, seq: 4096, batch: 256seqs}\nsystems:"
        " [trn2-server, h100]\nchips: 64\nprice: 3y\nset:\n  site.pue: 1.2\n"
    )
    answer = client.post("/api/scenario", json={"yaml": text}).json()
    assert answer["result"]["ask"] == {
        "model": "llama-3.1-8b",
        "on": ["trn2-server", "h100"],
        "chips": "64",
        "price": "3y",
        "set": ["site.pue=1.2"],
        "train": {"tokens": "1T", "seq": "4096", "batch": "256seqs"},
    }
    assert scenario_ask(text).chips == "64"
    for bad, line in (
        ("sytems: [trn3]", "sytems"),
        ("chips: many", "chips"),
        ("chips: *a", "aliases"),
        ("chips: [", "not YAML"),
        ("chips: &a 64", "anchors"),
        ("chips: !!python/object:os.system 1", "tags"),
    ):
        refused = client.post("/api/scenario", json={"yaml": text.replace("chips: 64", bad)})
        assert refused.status_code == 422
        assert line in refused.text, refused.text
    own = client.post(
        "/api/scenario", json={"yaml": text.replace("chips: 64", "power: 5MW\nper: year\nhave: [trn2:512]")}
    )
    assert {key: own.json()["result"]["ask"].get(key) for key in ("have", "power", "per")} == {
        "have": ["trn2:512"],
        "power": "5MW",
        "per": "year",
    }
    deep = client.post("/api/scenario", json={"yaml": "a: " + "[" * 400 + "]" * 400})
    assert deep.status_code == 422


def test_a_scenario_takes_every_field_of_the_footing() -> None:
    text = "mowich: 1\nworkload: {model: gpt2, serve: {isl: 8k, osl: 1k}}\nsystems: [trn3]\nchips: 4\n"
    said = {"per": "year", "sells": "$0.5/Mtok", "within": "2y", "power": "5MW", "budget": "$2M", "days": 30}
    found = scenario_ask(text + "".join(f"{key}: {value}\n" for key, value in said.items()))
    assert {key: str(getattr(found, key)) for key in said} == {key: str(value) for key, value in said.items()}


PAID = {k: v for k, v in COMPARE.items() if k != "chips"} | {"budget": "$200k", "days": "30"}


def test_money_and_days_say_the_chips(client: TestClient) -> None:
    """As `compare --budget --days`, with tokens and without, and from a scenario."""
    answer = client.post("/api/compare", json=PAID).json()
    theirs = said_by_cli(answer["command"])
    assert answer["result"]["rows"] == theirs["rows"]
    assert all(row["tokens_trained"]["value"] > 1e11 for row in answer["result"]["rows"])
    assert answer["view"]["headline"].startswith("Most tokens for $200000 in 30 days")
    open_ended = {**PAID, "train": {k: v for k, v in TRAIN.items() if k != "tokens"}}
    rows = client.post("/api/compare", json=open_ended).json()["result"]["rows"]
    assert [row["days"]["value"] for row in rows] == [None, None]
    text = (
        "mowich: 1\nworkload:\n  model: llama-3.1-8b\n  train: {seq: 4096, batch: 256seqs}\n"
        "systems: [trn2-server, h100]\nbudget: $200k\ndays: 30\n"
    )
    ask = client.post("/api/scenario", json={"yaml": text}).json()["result"]["ask"]
    assert (ask["budget"], ask["days"]) == ("$200k", "30")
    assert client.post("/api/compare", json=ask).json()["result"]["rows"] == rows


@pytest.mark.parametrize(
    ("more", "where", "what"),
    [
        ({"days": None}, "days", "is required with budget"),
        ({"budget": None}, "budget", "is required with days"),
        ({"budget": "two"}, "budget", "not a quantity"),
        ({"days": "0"}, "days", "above 0"),
        ({"price": "tco"}, "price", "budget rents chips"),
    ],
)
def test_what_is_wrong_with_money_or_days_names_its_field(
    client: TestClient, more: dict[str, Any], where: str, what: str
) -> None:
    """The page has a field of that name, and a line for its mistake (`form.js`)."""
    refused = client.post("/api/compare", json={**PAID, **more})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert (error["where"], what in error["line"]) == (where, True), error
    fields = re.search(r"const FIELDS = \[([^]]+)\]", client.get("/static/form.js").text)
    assert fields is not None
    assert f'"{where}"' in fields[1]


@pytest.mark.parametrize(
    ("ask", "word"),
    [
        ({**COMPARE, "model": "/etc/passwd"}, "model"),
        ({**COMPARE, "model": "../config.json"}, "files are not read"),
        ({**COMPARE, "model": "config.json"}, "files are not read"),
        ({**COMPARE, "model": "."}, "model"),
        ({**COMPARE, "on": ["/etc/passwd"]}, "on"),
        ({**COMPARE, "on": ["trn33"]}, "did you mean"),
        ({**COMPARE, "on": []}, "on"),
        ({**COMPARE, "on": ["trn2"] * 40}, "on"),
        ({**COMPARE, "set": ["chips./tmp/x.power=1"]}, "set"),
        ({**COMPARE, "set": ["site.pue=0.5"]}, "out of range"),
        ({**COMPARE, "chips": 1e300}, "out of range"),
        ({**COMPARE, "chips": -1}, "at least 1"),
        ({**COMPARE, "chips": True}, "chips"),
        ({**COMPARE, "train": {**TRAIN, "seq": "1e12"}}, "at most"),
        ({**COMPARE, "train": {**TRAIN, "tokens": "1e17", "batch": "1e9seqs"}}, "at most"),
        ({**COMPARE, "train": None}, "either train or serve"),
        ({**COMPARE, "colour": "red"}, "colour"),
        ({**COMPARE, "model": {"model_type": "llama", "hidden_size": 1e30}}, "not within"),
        ({**COMPARE, "model": {"model_type": "llama", "hidden_size": 10**400}}, "not within"),
        ({**COMPARE, "model": {"model_type": "llama"}}, "missing key"),
        ({**COMPARE, "model": {"a": [[[[[[[[[[1]]]]]]]]]]}}, "nested"),
        ({**SERVE, "serve": {"isl": "1k", "osl": "1k", "engine": "abc"}}, "engine"),
        ({**SERVE, "serve": {"isl": "1k", "osl": "1k", "cached": "150%"}}, "0 to 1"),
        ("text", "dict"),
        ([1, 2], "dict"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(client: TestClient, ask: Any, word: str) -> None:
    refused = client.post("/api/compare", json=ask)
    assert refused.status_code == 422
    lines = [e["line"] for e in refused.json()["errors"]]
    assert lines
    assert word in " ".join(lines), lines


@pytest.mark.parametrize(
    ("path", "ask", "line"),
    [
        ("plan", {**COMPARE, "on": "h100", "top": 51}, "top: must be at most 50 here, got '51'"),
        ("goodput", {"on": "h100:1024", "samples": 1001}, "samples: must be at most 1000 here, got '1001'"),
        ("goodput", {"on": "h100:1024", "step": 1e-4}, "step: must be at least 0.001 here, got '0.0001'"),
        (
            "collective",
            {"kind": "all-reduce", "on": "trn3-gen2", "sizes": ["2 PB"]},
            "sizes: must be at most 1.1259e+15 here, got '2e+15'",
        ),
        ("fleet", {"yaml": "mowich: 1", "draws": 51}, "draws: must be at most 50 here, got '51'"),
    ],
)
def test_more_work_than_a_server_does_is_refused(client: TestClient, path: str, ask: dict[str, Any], line: str) -> None:
    refused = client.post(f"/api/{path}", json=ask)
    assert refused.status_code == 422
    assert [e["line"] for e in refused.json()["errors"]] == [line]


def test_a_number_of_a_field_with_a_unit_is_in_si(client: TestClient) -> None:
    asked = {"model": "gpt2", "on": "h100:1", "set": ["plan.tp=1", "plan.mode=aggregated"]}
    answers = [
        client.post("/api/plan", json={**asked, "serve": {"isl": 512, "osl": 64, "ttft": ttft}}).json()
        for ttft in (2, "2 s", "2000 ms")
    ]
    assert answers[0]["result"] == answers[1]["result"] == answers[2]["result"]
    assert "--ttft '2 s'" in answers[0]["command"]
    bare = client.post("/api/plan", json={**asked, "serve": {"isl": 512, "osl": 64, "ttft": "2"}})
    assert "serve.ttft: 2 has no unit" in bare.text


def test_bodies_are_bounded_and_must_be_json(client: TestClient) -> None:
    kind = {"content-type": "application/json"}
    assert client.post("/api/compare", content=b"{" * 5, headers=kind).status_code == 400
    assert client.post("/api/compare", content=b"{}", headers={"content-type": "text/plain"}).status_code == 422
    assert client.post("/api/compare", content=b"x" * (MAX_BODY_B + 1)).status_code == 413
    assert client.post("/api/compare", content=(b"x" * 50_000 for _ in range(20))).status_code == 413
    assert client.post("/api/compare", content=b"[" * 100_000, headers=kind).status_code in (400, 422)
    assert client.post("/api/compare", content=b'{"chips": 1' + b"0" * 6000 + b"}", headers=kind).status_code in (
        400,
        422,
    )
    assert client.get("/api/compare").status_code == 405
    assert client.get("/nothing").status_code == 404
    for name in ("../server.py", "..%2fserver.py", "/etc/passwd"):
        assert client.get(f"/static/{name}").status_code == 404
    assert client.get("/api/facts/..%2f..%2fetc").status_code in (404, 422)


def test_headers_hold_on_every_answer(client: TestClient) -> None:
    for path in ("/", "/static/main.js", "/api/about", "/nothing", "/openapi.json", "/first.json"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page = client.get("/").text
    assert "<script>" not in page
    assert "style=" not in page
    assert " onclick" not in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page)
    tag = client.get("/static/app.css").headers["etag"]
    assert client.get("/static/app.css", headers={"if-none-match": tag}).status_code == 304


def test_the_page_gets_the_colours_that_pictures_have(client: TestClient) -> None:
    """One colour code for pills, rows and charts, in both themes."""
    from mowich.show import colours

    assert client.get("/static/colours.css").text == colours.css()
    assert client.get("/static/colours.js").text == colours.script()
    assert "/static/colours.css" in client.get("/").text


def test_the_page_asks_nothing_of_others(client: TestClient) -> None:
    """No file of ours names another host, but in a namespace."""
    from importlib import resources

    for file in (resources.files("mowich.web") / "static").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file.name
        assert "https://" not in text, file.name
        assert "innerHTML" not in text, file.name
        assert "eval(" not in text, file.name


def test_kernels_run_only_where_that_was_asked_for(client: TestClient) -> None:
    ask = {"source": "print(1)", "kernel": "k"}
    refused = client.post("/api/kernel/profile", json=ask)
    assert refused.status_code == 403
    assert "--kernels" in refused.text
    words = CliRunner().invoke(load_verbs(app), ["web", "--kernels", "--host", "0.0.0.0"])
    assert isinstance(words.exception, UserError)
    assert "loopback" in str(words.exception)
    with TestClient(create_app(ServerOptions(warm=False, kernels=True), Here())) as own:
        source = names_of("kernels")["matmul"].read_text(encoding="utf-8")
        arguments = ["lhsT=bfloat16[512,256]", "rhs=bfloat16[512,2048]"]  # those of the form
        sent = own.post("/api/kernel/profile", json={"source": source, "kernel": "matmul", "arguments": arguments})
        assert sent.json()["result"]["schema"] == "mowich/kernel@1", sent.text
        assert any(e["ph"] == "X" for e in sent.json()["trace"]["traceEvents"])
        wrong = own.post("/api/kernel/profile", json={"source": "def k(:\n", "kernel": "k"})
        assert wrong.status_code == 422
        assert "SyntaxError" in wrong.text


def test_every_kernel_that_ships_is_shown_with_its_source_where_no_kernel_of_a_visitor_runs(client: TestClient) -> None:
    listed = client.get("/api/kernels").json()["result"]["kernels"]
    assert [k["name"] for k in listed] == list(names_of("kernels"))
    assert all(k["what"] for k in listed)
    for name in ("all_reduce_ranks", "layer_norm_wrong"):  # several ranks; wrong on purpose
        answer = client.get(f"/api/kernel/{name}").json()
        assert answer["command"] == f"mowich kernel profile @{name}"
        assert answer["source"] == names_of("kernels")[name].read_text(encoding="utf-8")
        assert any(e["ph"] == "X" for e in answer["trace"]["traceEvents"])
    assert any("there is a mistake to find" in line for line in answer["said"])
    again = client.get("/api/kernel/layer_norm_wrong")
    assert again.json() == answer
    assert float(again.headers["server-timing"].split("dur=")[1]) < 200  # ms: from the cache
    for name, status in (("softmx", 404), ("..%2F..%2Fsetup", 404), ("@softmax", 422)):
        refused = client.get(f"/api/kernel/{name}")
        assert refused.status_code == status, refused.text
        assert len(refused.json()["errors"]) == 1
    assert "did you mean" in client.get("/api/kernel/softmx").json()["errors"][0]["line"]


def test_pages_of_other_sites_start_no_work() -> None:
    with TestClient(create_app(ServerOptions(kernels=True, warm=False), Here())) as client:
        body = json.dumps({"source": "x", "kernel": "k"})
        for foreign in ({"origin": "https://example.org"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            answer = client.post("/api/kernel/profile", content=body, headers=foreign)
            assert answer.status_code == 403
            assert "another site" in answer.json()["errors"][0]["line"]
        for own in (
            {"origin": "http://testserver"},
            {"sec-fetch-site": "same-origin", "origin": "https://proxy.example"},
            {},
        ):
            assert client.post("/api/model", json={"model": "gpt2"}, headers=own).status_code == 200
        for path in ("/api/systems", "/api/validate", "/first.json", "/openapi.json", "/metrics"):
            for foreign in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
                assert client.get(path, headers=foreign).status_code == 403, path
        for path in ("/", "/static/main.js"):  # other sites may link to the page
            assert client.get(path, headers={"sec-fetch-site": "cross-site"}).status_code == 200
        typed = {"sec-fetch-site": "none"}
        assert client.get("/api/systems", headers=typed).status_code == 200


def test_on_loopback_other_names_are_refused() -> None:
    with TestClient(create_app(ServerOptions(warm=False, hosts=("localhost", "[::1]")), Here())) as own:
        assert own.get("/api/about", headers={"host": "localhost:8000"}).status_code == 200
        assert own.get("/api/about", headers={"host": "[::1]:8000"}).status_code == 200
        assert own.get("/api/about", headers={"host": "LocalHost"}).status_code == 200
        assert own.get("/api/about", headers={"host": "evil.example"}).status_code == 421


def test_the_openapi_names_every_verb(client: TestClient) -> None:
    api = client.get("/openapi.json").json()
    for verb in (
        "compare",
        "plan",
        "serve",
        "fit",
        "gap",
        "value",
        "prices",
        "claims",
        "brief",
        "fleet",
        "rl",
        "collective",
        "goodput",
        "explain",
        "report",
        "validate",
        "models",
        "model",
        "systems",
        "scenarios",
        "kernels",
        "glossary",
        "facts",
        "scenario",
    ):
        assert f"/api/{verb}" in api["paths"]
    assert client.get("/docs").status_code == 404  # its page would load scripts from elsewhere


def test_the_cache_is_bounded_and_joins_what_is_under_way() -> None:
    async def scene() -> None:
        cache, made = AnswerCache(10), []

        async def make(key: str) -> bytes:
            made.append(key)
            await asyncio.sleep(0)
            return b"12345"

        both = await asyncio.gather(*(cache.get("a", lambda: make("a")) for _ in range(3)))
        assert both == [b"12345"] * 3
        assert made == ["a"]
        for key in "bca":
            await cache.get(key, lambda key=key: make(key))
        assert made == ["a", "b", "c", "a"]  # a was the oldest

        async def broken() -> bytes:
            raise RefusedRequestError(422, [{"line": "no"}])

        for _ in range(2):
            with pytest.raises(RefusedRequestError):
                await cache.get("x", broken)

    asyncio.run(scene())


def test_the_command_says_what_it_needs() -> None:
    code = "import sys; sys.modules['fastapi'] = None; from mowich import cli; sys.exit(cli.run(['web']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mowich[web]" in done.stderr


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("compare", {**COMPARE, "on": ["trn3", "h100"]}),
        ("compare", {**SERVE, "on": ["trn3", "h100"]}),
        ("plan", {k: v for k, v in SERVE.items() if k != "on"} | {"on": "trn3"}),
        ("collective", {"kind": "all-reduce", "on": "trn3:64", "sizes": ["1MiB"]}),
    ],
)
def test_a_setting_that_changes_nothing_is_told(client: TestClient, path: str, ask: dict[str, Any]) -> None:
    """What one system of several reads counts, also where its row comes from the cache."""
    unread, read = "systems.trn3-gen2.hbm_bandwidth", "networks.collectives.neuroncore-v4.ring_efficiency"
    asked = {**ask, "set": [f"{unread}=1000 TB/s", f"{read}=0.5"]}
    for _ in range(2):
        found = client.post(f"/api/{path}", json=asked).json()["result"]
        assert found["unread"] == [unread]
        asked = {**asked, "set": asked["set"][:1]}
    assert "unread" not in client.post(f"/api/{path}", json=ask).json()["result"]


@pytest.mark.parametrize("verb", ["compare", "plan", "fit"])
def test_forward_passes_are_answered_as_the_command_line_answers_them(client: TestClient, verb: str) -> None:
    job = {"task": "encode", "tokens": 512, "batch": 4}
    body = {"model": "bert-large", "on": ["h100:2"] if verb == "compare" else "h100:2", "forward": job}
    answer = client.post(f"/api/{verb}", json=body).json()
    assert answer["result"] == said_by_cli(answer["command"])
    assert answer["view"]["headline"]
    refused = client.post(f"/api/{verb}", json={**body, "forward": {**job, "hight": 9}})
    assert refused.status_code == 422
    refused = client.post(f"/api/{verb}", json={**body, "forward": {"task": "diffuse", "steps": 9}})
    assert refused.json()["errors"][0]["where"] == "forward.task"


WORD_OF_LIST = re.compile(r'\[?"([\w.-]*)"(, "[^"]*"\])?')
LIST_OF_WORDS = re.compile(r'\[\s*((?:\[?"[\w.-]*"(?:, "[^"]*"\])?,?\s*){2,})\]')
"""Lists of words in a script, and of words with their labels."""


def test_the_page_takes_the_words_of_fields_from_the_server(client: TestClient) -> None:
    """No list of a script holds what a field may be: two words of one vocabulary side by side are one."""
    words = client.get("/api/systems").json()["result"]["words"]
    assert words["price"][:2] == ["tco", "rent"]
    assert words["task"] == ["pretrain", "sft", "lora"]
    assert set(words) == {"equal", "per", "price", "task"}
    about = client.get("/api/about").json()["result"]
    schemas = (jobs.COMPARE, RL, gap.SCHEMA, value.SCHEMA)
    known = [list(f.vocabulary) for schema in schemas for f in schema.at(Edge.KEY) if f.words]
    assert about["kernel_targets"] == ["trn3", "trn2", "trn1"]
    assert ["colocated", "split"] in known
    known += [about["kernel_targets"], words["task"]]
    for file in sorted((Path(asks.__file__).parent / "static").glob("*.js")):
        for one in LIST_OF_WORDS.findall(file.read_text(encoding="utf-8")):
            said = {first for first, _ in WORD_OF_LIST.findall(one)} - {"", "default"}
            for vocabulary in known:
                assert len(said) < 2 or not said <= set(vocabulary), (file.name, one[:80])


def test_a_list_of_words_in_a_script_is_found() -> None:
    for source in ('x = ["tco", "rent"];', 'P = [\n  ["1y", "1 year"],\n  ["3y", "3 years"],\n];'):
        (found,) = LIST_OF_WORDS.findall(source)
        assert len(WORD_OF_LIST.findall(found)) == 2
