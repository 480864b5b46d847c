"""The most from what is there, asked in words: as a scenario says it by hand, and bad words in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import mowich
from fleet_problems import speeds
from mowich import cli
from mowich.facts import load_facts
from mowich.fleets.problem import write_rates
from mowich.requests.command import command_of
from mowich.requests.fleet_words import read_fleet_work, read_there
from mowich.requests.scenarios import FleetRequest
from mowich.studies.fleet import fleet

BY_HAND = """
mowich: 1
name: by hand
periods: {start: 2027-M01, count: 1, length: month}
workloads:
  serve-llama-3.1-8b:
    serve: {model: llama-3.1-8b, isl: 2000, osl: 500, tpot: 50ms, tokens_per_s: 20k}
  batch-llama-3.1-8b:
    batch: {model: llama-3.1-8b, isl: 1000, osl: 100, tokens: 1G}
    most: any
    any_hour: true
systems: {trn2: {have: {cloud: 128 chips}}, h100: {have: {cloud: 2 units}}}
goals: [tokens]
"""


def test_what_is_there_in_words_is_what_a_scenario_says(tmp_path: Path) -> None:
    file = tmp_path / "hand.yaml"
    file.write_text(BY_HAND)
    names = ("serve-llama-3.1-8b", "batch-llama-3.1-8b")
    table = speeds({(name, system): 2000 + 500 * i for name in names for i, system in enumerate(("trn2", "h100"))})
    write_rates(tmp_path / "rates.json", table, facts_hash="")
    hand = fleet(FleetRequest(facts=load_facts(), scenario=file, rates=tmp_path / "rates.json", draws=0)).to_dict()
    words = [
        "serve llama-3.1-8b isl=2000 osl=500 tpot=50ms tokens_per_s=20k",
        "batch llama-3.1-8b isl=1000 osl=100",
    ]
    said = mowich.fleet(have="trn2:128,h100:16", work=words, draws=0, rates=tmp_path / "rates.json").to_dict()
    for key in ("objective", "use", "usd", "energy_J"):
        assert said[key] == hand[key], key
    assert [d["workload"] for d in said["done"]] == ["serve-llama-3.1-8b", "batch-llama-3.1-8b"]
    assert [d["tokens"] for d in said["done"]] == [d["tokens"] for d in hand["done"]]
    command = shlex.split(command_of(said))
    assert command[:2] == ["mowich", "fleet"]
    assert command[2] == said["inputs"]["scenario"]
    scenario = json.loads(said["inputs"]["scenario"])
    assert scenario["workloads"]["batch-llama-3.1-8b"]["most"] == "any"
    assert "most" not in scenario["workloads"]["serve-llama-3.1-8b"]


def test_words_are_read() -> None:
    assert read_there("trn2:512,h100:64") == read_there(["trn2:512", "h100:64"]) == (("trn2", 512), ("h100", 64))
    assert read_fleet_work("batch m isl=1k osl=2 worth=$1/Mtok")[2] == {"isl": "1k", "osl": "2", "worth": "$1/Mtok"}


CHAT = "serve llama-3.1-8b isl=10 osl=10"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "SCENARIO: is required, or --have and --work"),
        (["--have", "trn2:64"], "--work: is required with --have"),
        (["--work", CHAT], "--have: is required with --work"),
        (["startup", "--have", "trn2:64", "--work", CHAT], "--have: is in the place of a scenario"),
        (["--have", "trn2", "--work", CHAT], "--have: how many chips are there?"),
        (["--have", "trn2:64,trn2:64", "--work", CHAT], "trn2:128"),
        (["--have", "trn2:100", "--work", CHAT], "64 chips or 128 chips"),
        (["--have", "trn22:64", "--work", CHAT], "unknown system 'trn22'"),
        (["--have", "trn2:64", "--work", "chat"], "--work: a kind of work and a model"),
        (["--have", "trn2:64", "--work", "srve m isl=1 osl=1"], "did you mean 'serve'?"),
        (["--have", "trn2:64", "--work", f"{CHAT} tft=2s"], "did you mean 'ttft'?"),
        (["--have", "trn2:64", "--work", f"{CHAT} ttft"], "a key has a value"),
        (["--have", "trn2:64", "--work", "train llama-3.1-8b seq=4096"], "train needs batch"),
        (["--have", "trn2:64", "--work", "serve llama-3.1-8b isl=bad osl=10"], "serve-llama-3.1-8b.isl: not a count"),
    ],
)
def test_bad_words_get_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.run(["fleet", *words, "--draws", "0", "--lp"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
