"""What random arrivals do to a plan: the row of the plan, the command that stands in it, and longer traffics agree."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

import mowich
from mowich import cli
from mowich.facts import load_facts
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.studies.rate_scenario import ANSWERS_VARY
from mowich.studies.serving_plan import ServeResult, ServeRow
from mowich.studies.traffic import TrafficResult, simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()

ASKED = [
    ("llama-3.1-8b", "h100:2", "vllm", "1k", "200", "12ms"),
    ("llama-3.1-70b", "h200:16", "vllm", "4k", "300", "30ms"),
    ("qwen3-32b", "h200:8", "sglang", "2k", "300", "30ms"),
    ("llama-3.1-70b", "trn3:16", "vllm-neuron", "4k", "300", "30ms"),
    ("llama-3.1-8b", "trn2:8", "vllm-neuron", "1k", "200", "15ms"),
    ("gpt-oss-120b", "b200:4", "trtllm", "2k", "200", "12ms"),
    ("gpt-oss-120b", "mi300x:8", "vllm", "2k", "200", "30ms"),
    ("qwen3-235b-a22b", "gb300:8", "trtllm", "2k", "200", "25ms"),
    ("llama-3.1-70b", "ironwood:8", "jax-tpu", "2k", "200", "30ms"),
    ("deepseek-v3", "h200:16", "sglang", "2k", "200", "40ms"),
]


def plan(model: str, on: str, engine: str, isl: str, osl: str, tpot: str, mode: str) -> ServeRow:
    serve = {"isl": isl, "osl": osl, "tpot": tpot, "engine": engine}
    found = mowich.plan(model, on, serve=serve, fixed={"mode": mode}, top=1)
    assert isinstance(found, ServeResult)
    return found.rows[0]


def scenario_of(row: ServeRow) -> dict[str, object]:
    assert row.arrivals is not None
    found = json.loads(shlex.split(row.arrivals.command)[2])
    assert isinstance(found, dict)
    return found


def played(scenario: dict[str, object]) -> TrafficResult:
    return simulate_traffic(read_traffic(json.dumps(scenario), FACTS), FACTS)


def agrees(row: ServeRow, *, longer: float) -> list[str]:
    """Where the row and a longer traffic of other draws differ by more than 5% in a mean."""
    at = row.arrivals
    assert at is not None
    if at.is_overloaded:
        return []
    scenario = scenario_of(row)
    traffic = scenario["traffic"]
    assert isinstance(traffic, dict)
    begin, end = (float(traffic["counted"][key].removesuffix(" s")) for key in ("from", "to"))
    last = float(traffic["duration"].removesuffix(" s")) - end
    end = begin + longer * (end - begin)
    traffic |= {"seed": 5, "duration": f"{end + last} s", "counted": {"from": f"{begin} s", "to": f"{end} s"}}
    seen = played(scenario)
    out = []
    for name, own in (("ttft_s", at.ttft_s), ("tpot_s", at.tpot_s)):
        value = getattr(seen, name)["mean"]
        if abs(float(own) / value - 1.0) > 0.05:
            out.append(f"{row.system} {row.mode} {name}: {float(own):.4g} in the row, {value:.4g} played longer")
    return out


@pytest.mark.parametrize(("asked", "mode"), [(ASKED[0], "aggregated"), (ASKED[2], "disaggregated")])
def test_the_row_of_a_plan_agrees_with_its_command_and_with_longer_traffic(asked: tuple[str, ...], mode: str) -> None:
    row = plan(*asked, mode)
    at = row.arrivals
    assert at is not None
    seen = played(scenario_of(row))
    for name, mean, tail in (("ttft_s", at.ttft_s, at.p99_ttft_s), ("tpot_s", at.tpot_s, at.p99_tpot_s)):
        assert (getattr(seen, name)["mean"], getattr(seen, name)["p99"]) == pytest.approx((mean.value, tail.value))
        assert mean.low is not None
        assert mean.low < float(mean) < (mean.high or 0.0)
    steady = float(row.tokens_per_s_per_chip) * row.chips_requested / float(asked[4])
    assert at.requests_per_s == pytest.approx(0.95 * steady, rel=1e-5)
    assert agrees(row, longer=4.0) == []
    assert row.to_dict()["random_arrivals"] == at.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("mode", ["aggregated", "disaggregated"])
def test_rows_of_all_engines_agree_with_longer_traffic(asked: tuple[str, ...], mode: str) -> None:
    row = plan(*asked, mode)
    if row.arrivals is not None:
        assert agrees(row, longer=4.0) == []


def test_a_plan_that_random_arrivals_overload_says_so_in_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Ranks of one worker whose prompts never come together stop each other's answers."""
    words = "plan gpt-oss-120b --serve --isl 8k --osl 300 --on trn3:16 --tpot 30ms --top 1 --set plan.mode=aggregated"
    assert cli.run([*words.split(), "--set", "plan.dp=64"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "at random: overloaded" in out


def test_a_limit_that_the_tail_breaks_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = "plan llama-3.1-70b --serve --isl 4k --osl 500 --on h200:8 --tpot 30ms --top 1 --set plan.mode=aggregated"
    assert cli.run(words.split()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "at random: TTFT" in out
    assert "at the 99th percentile is above the limit of 30.0 ms" in out


def flat(step_s: float, token_s: float) -> StepTimes:
    return StepTimes(
        tokens=[step_s + token_s * m for m in range(9000)],
        sampled=[0.0] * 300,
        per_context=0.0,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def mean_wait_s(replicas: int, lengths: tuple[int, int], requests: int, seed: int) -> tuple[float, float]:
    """Mean wait for a first token, of the first and of the second half of a traffic."""
    rng = np.random.default_rng(seed)
    pool = [Replica(i, flat(0.01, 1e-4), Scheduler(budget=2048, max_sequences=64)) for i in range(replicas)]
    at = np.cumsum(rng.exponential(1.0 / (replicas * 3.2), requests)).tolist()
    asked = [UserRequest(str(i), t, 2000, int(rng.integers(*lengths))) for i, t in enumerate(at)]
    list(ReplicaFleet(replicas=pool, route="least-loaded").run(asked))
    waits = [r.first_token_s - r.arrival_s for r in asked]
    half = len(waits) // 2
    return float(np.mean(waits[:half])), float(np.mean(waits[half:]))


def test_answers_of_one_length_form_convoys_and_answers_that_vary_do_not() -> None:
    """Why a plan is played with answers that vary: what began together ends together, and is then sent together."""
    more = int(ANSWERS_VARY * 200)
    early, late = np.mean([mean_wait_s(16, (200, 201), 4000, seed) for seed in range(2)], axis=0)
    assert late > 1.1 * early
    early, late = np.mean([mean_wait_s(16, (200 - more, 201 + more), 4000, seed) for seed in range(2)], axis=0)
    assert late == pytest.approx(early, rel=0.05)


@pytest.mark.parametrize("route", ["least-loaded", "kv"])
def test_a_prompt_goes_to_an_idle_worker_while_there_is_one(route: str) -> None:
    """A prompt in the step that runs is inside until it ends, also where its worker hands it on."""
    times, scheduler = flat(0.01, 1e-4), Scheduler(budget=4096, max_sequences=64)
    pool, decoders = ([Replica(i, times, scheduler) for i in range(n)] for n in (8, 2))
    asked = [UserRequest(str(i), 0.1 * i, 4000, 3) for i in range(200)]  # 4.1 of 8 workers are busy
    list(ReplicaFleet(replicas=pool, decoders=decoders, route=route).run(asked))
    assert all(r.scheduled_s == pytest.approx(r.arrival_s) for r in asked)
