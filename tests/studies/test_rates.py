"""The smallest and the cheapest deployment for a load, and its agreement with the traffic that it names."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.loads import read_rate
from mowich.studies.rates import RateResult
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import read_traffic
from pace import within

FACTS = load_facts()


def ask(on: str, model: str = "llama-3.1-8b", fixed: dict[str, str] | None = None, **load: object) -> RateResult:
    serve = {"isl": "2k", "osl": 200, "engine": "vllm", "headroom": 0} | load
    found = mowich.plan(model, on, serve=serve, fixed=fixed)
    assert isinstance(found, RateResult)
    return found


LOADS: dict[str, dict[str, Any]] = {
    "rate": {"on": "h200:8", "rate": "25rps", "p99_ttft": "600ms", "p99_tpot": "25ms"},
    "users": {"on": "h200:8", "users": 120, "think": "4s", "p99_ttft": "800ms", "p99_tpot": "20ms"},
    "apart": {
        "on": "h200:8",
        "rate": "12rps",
        "p99_ttft": "1s",
        "p99_tpot": "10ms",
        "fixed": {"mode": "disaggregated"},
    },
}


@pytest.fixture(scope="module", params=[pytest.param("live", marks=pytest.mark.slow)])
def answers() -> dict[str, RateResult]:
    return {name: ask(**load) for name, load in LOADS.items()}


@pytest.mark.parametrize("name", LOADS)
def test_a_p99_question_agrees_with_traffic_at_the_same_point(name: str, answers: dict[str, RateResult]) -> None:
    """The command that the answer prints gives its numbers; a longer traffic of other draws is within 10%; and the
    question takes less than ten seconds of processor time."""
    result = answers[name]
    assert result.seconds < 10.0
    row = result.rows[0]
    assert row.feasible
    assert row.is_smallest
    words = shlex.split(row.command)
    assert words[:2] == ["mowich", "traffic"]
    again = mowich.traffic(words[2], draws=0)
    assert again.ttft_s["p99"] == row.p99_ttft_s.value
    assert again.tpot_s["p99"] == row.p99_tpot_s.value
    scenario = json.loads(row.scenario)
    counted = scenario["traffic"]["counted"]
    begin, end = (float(counted[k].removesuffix(" s")) for k in ("from", "to"))
    longer = begin + 3.0 * (end - begin)
    counted["to"], scenario["traffic"]["duration"], scenario["traffic"]["seed"] = f"{longer} s", f"{longer + 10} s", 99
    if "requests" in scenario["traffic"]:
        scenario["traffic"]["requests"] *= 4
    other = simulate_traffic(read_traffic(json.dumps(scenario), FACTS), FACTS)
    assert other.counted > 8000
    for found, value in ((other.ttft_s, row.p99_ttft_s.value), (other.tpot_s, row.p99_tpot_s.value)):
        assert found["p99"] == pytest.approx(value, rel=0.1)  # of other draws; those of the command are the same


@pytest.mark.parametrize("name", LOADS)
def test_one_worker_less_breaks_a_limit(name: str, answers: dict[str, RateResult]) -> None:
    """Of each pool; else the answer is not the smallest of its kind."""
    result, load = answers[name], LOADS[name]
    row = result.rows[0]
    for pool in ("prefill", "decode") if row.mode == "disaggregated" else ("replicas",):
        scenario = json.loads(row.scenario)
        holder = scenario["disaggregated"] if row.mode == "disaggregated" else scenario
        if holder[pool] == 1:
            continue
        holder[pool] -= 1
        less = simulate_traffic(read_traffic(json.dumps(scenario), FACTS), FACTS)
        limits = [float(str(load[k]).removesuffix("ms").removesuffix("s")) for k in ("p99_ttft", "p99_tpot")]
        scales = [1e-3 if str(load[k]).endswith("ms") else 1.0 for k in ("p99_ttft", "p99_tpot")]
        found = (less.ttft_s["p99"] or 0.0, less.tpot_s["p99"] or 0.0)
        assert any(f > 0.97 * limit * scale for f, limit, scale in zip(found, limits, scales, strict=True)), pool


@pytest.mark.slow
def test_more_load_and_tighter_limits_never_need_fewer_chips() -> None:
    """Of one kind of deployment: the search goes through the best of each kind by bounds, not through all."""
    fixed = {"mode": "aggregated", "tp": "1"}
    few = ask("h200:16", rate="8rps", p99_ttft="1s", p99_tpot="30ms", fixed=fixed).rows[0]
    many = ask("h200:16", rate="60rps", p99_ttft="1s", p99_tpot="30ms", fixed=fixed).rows[0]
    tight = ask("h200:16", rate="60rps", p99_ttft="1s", p99_tpot="12ms", fixed=fixed).rows[0]
    assert few.chips_used < many.chips_used <= tight.chips_used


@pytest.mark.slow
def test_the_smallest_and_the_cheapest_of_several_systems() -> None:
    """A system with a lower price per chip may be the cheapest with more chips; pairs of systems are searched too."""
    found = mowich.plan(
        "llama-3.1-8b",
        "h100:16,h200:16",
        serve={
            "isl": "2k",
            "osl": 200,
            "engine": "vllm",
            "rate": "40rps",
            "p99_ttft": "1s",
            "p99_tpot": "40ms",
            "headroom": 0,
        },
        facts=FACTS.with_values({"prices.user.h100": 0.5 / 3600, "prices.user.h200": 9.0 / 3600}),
    )
    assert isinstance(found, RateResult)
    assert {row.system for row in found.rows} == {"h100:16", "h200:16"}
    small = next(row for row in found.rows if row.is_smallest)
    cheap = next(row for row in found.rows if row.is_cheapest)
    assert all(small.chips_used <= row.chips_used for row in found.rows)
    assert all((cheap.usd_per_h or 0.0) <= (row.usd_per_h or 0.0) for row in found.rows)
    assert list(cheap.chips_of) == ["h100"]


def test_limits_that_nothing_keeps_have_their_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    base = ["plan", "llama-3.1-8b", "--serve", "--isl", "2k", "--osl", "200", "--on", "h200:1", "--headroom", "0"]
    assert cli.run([*base, "--rate", "200rps", "--p99-ttft", "1s"]) == 3  # by its bounds, no plan could
    assert "No deployment" in capsys.readouterr().out
    file = tmp_path / "r.json"
    assert cli.run([*base, "--rate", "13rps", "--p99-ttft", "120ms", "--out", str(file)]) == 4
    row = json.loads(file.read_text())["plans"][0]
    assert not row["feasible"]
    assert row["reason"].startswith("breaks a limit: TTFT p99 is ")
    assert row["reason"].endswith("its limit of 120 ms")


@pytest.mark.slow
def test_the_command_and_its_answer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The page names the traffic that repeats it; the JSON has the contract of a plan's rows."""
    file = tmp_path / "r.json"
    words = "plan llama-3.1-8b --serve --isl 500 --osl 20 --on h200:2 --rate 6/s --p99-tpot 30ms"
    words += " --set serving.vllm.step=1ms"
    assert cli.run([*words.split(), "--out", str(file)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "serves 6.00 requests/s with 20% of the capacity free: 1 chip of h200" in out
    assert "Next: mowich traffic '{" in out
    result = json.loads(file.read_text())
    assert result["schema"] == "mowich/rates@1"
    [row] = result["plans"][:1]
    assert row["command"].endswith("--set serving.vllm.step=1ms")
    for name in ("ttft_s", "tpot_s", "p99_ttft_s", "p99_tpot_s"):
        assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
    assert cli.run(["explain", str(file), "1.p99_tpot_s", "--plain"]) == 0
    assert "serving.vllm.step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--rate 5rps", "--rate: needs a limit: --p99-ttft, --p99-tpot"),
        ("--rate 5rps --users 4 --p99-ttft 1s", "--users: give either a rate or users"),
        ("--rate fast --p99-ttft 1s", "--rate: not a rate of requests"),
        ("--rate 0 --p99-ttft 1s", "--rate: not a rate of requests"),
        ("--p99-ttft 1s", "--p99-ttft: needs --rate or --users"),
        ("--rate 5rps --think 3s --p99-ttft 1s", "--think: needs --users"),
        ("--rate 5rps --cached 0.5 --p99-ttft 1s", "--cached: is not for a load"),
        ("--users 0 --p99-ttft 1s", "--users"),
        ("--headroom 20%", "--headroom: needs --rate or --users"),
        ("--rate 5rps --p99-ttft 1s --headroom 95%", "--headroom: must lie in 0 to 0.9"),
    ],
)
def test_a_load_that_cannot_be_read_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["plan", "llama-3.1-8b", "--serve", "--isl", "2k", "--osl", "200", "--on", "h200:1"]
    assert cli.run([*base, *words.split()]) == 2
    err = capsys.readouterr().err.strip()
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_load_that_is_too_much_to_play_out_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = "plan llama-3.1-70b --serve --isl 2k --osl 2k --on h200:9000 --rate 5000rps --p99-tpot 50ms"
    assert cli.run(words.split()) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: --rate: a steady state of this load is")
    assert len(err.splitlines()) == 1


def test_a_load_is_of_serving_and_one_system_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    train = "plan llama-3.1-8b --train --tokens 1T --seq 4096 --batch 64seqs --on h200:8 --rate 4rps"
    assert cli.run(train.split()) == 2
    assert "--rate is an option of serving" in capsys.readouterr().err.replace("--rate: ", "--rate ")
    serve = "plan llama-3.1-8b --serve --isl 2k --osl 200 --on h200:1,h100:1"
    assert cli.run(serve.split()) == 2
    assert "takes one system" in capsys.readouterr().err


def test_rates_are_read_in_the_words_that_people_use() -> None:
    assert [read_rate(x) for x in ("20rps", "20", 20, "20/s", "1200/min", "1200 rpm", "20 req/s")] == [20.0] * 7
    for word in ("-1", "", "0rps", "20 r", "1e9/s"):
        with pytest.raises((UserError, UserErrors)):
            read_rate(word)


@pytest.mark.slow
def test_the_same_question_gives_the_same_bytes() -> None:
    with within(20.0):
        both = [json.dumps(ask("h200:2", rate="6rps", p99_tpot="30ms").to_dict()) for _ in range(2)]
    assert both[0] == both[1]
