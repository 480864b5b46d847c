"""One time to first token and one per token: the steady state and the simulated traffic answer alike where one request
at a time is served."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.steady import Load, closed_loop
from mowich.software.engine import build_for, engine_names
from mowich.studies.serving import deploy
from mowich.studies.traffic import traffic

FACTS = load_facts()
ENGINES = [e for e in engine_names(FACTS) if FACTS.get(f"serving.{e}.build_of") is None]
"""A build for the chips of one vendor is what its engine's name means there."""

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense": ("qwen3-32b", "h100:2", {"tp": 2}),
    "dense, one device": ("llama-3.1-8b", "h100:1", {}),
    "dense, 8 bit": ("llama-3.1-70b", "b200:8", {"tp": 8, "weights": "fp8"}),
    "experts, windows": ("gpt-oss-120b", "h200:4", {"tp": 4, "weights": "mxfp4"}),
    "experts, ep": ("qwen3-235b-a22b", "h200:8", {"tp": 8, "ep": 8, "weights": "fp8"}),
    "mla": ("deepseek-v3", "h200:8", {"tp": 8, "weights": "fp8"}),
    "mla, a family without corrections": ("deepseek-v3", "mi355x:8", {"tp": 8, "weights": "fp8"}),
    "mla, rank groups": ("deepseek-v3", "h200:8", {"dp": 8, "ep": 8, "weights": "fp8"}),
    "mla, stages": ("deepseek-v3", "h200:16", {"tp": 8, "pp": 2, "weights": "fp8"}),
    "recurrent layers": ("qwen3.5-397b-a17b", "b200:8", {"tp": 8, "weights": "fp8"}),
    "trainium2": ("llama-3.1-70b", "trn2:16", {"tp": 16}),
    "trainium3, stages": ("llama-3.1-70b", "trn3:16", {"tp": 16, "pp": 2}),
    "tpu": ("llama-3.1-8b", "ironwood:4", {"tp": 2}),
    "tables of its own": ("llama-3.1-8b", "rtx-pro-6000:1", {}),
}
LENGTHS = ((1000, 500), (8000, 128), (200, 1000), (30_000, 300))


def steady(
    case: str,
    engine: str,
    prompt: int,
    output: int,
    *,
    users: float = 1.0,
    cached: float = 0.0,
    accept: float | None = None,
) -> tuple[float, float]:
    """(TTFT, TPOT) of so many users for each rank group, shifted by measured rows."""
    model, on, plan = CASES[case]
    system = resolve(FACTS, on)
    d = deploy(
        load_model(model),
        system,
        build_for(FACTS, engine, system.vendor),
        [ServePlan(**{"weights": "bf16", "kv": "bf16", **plan})],
        FACTS,
        accept=accept,
    )
    one = np.ones(1)
    load_ = Load(
        users=users * one,
        prompt=prompt * one,
        output=output * one,
        cached=cached * one,
        verify=d.verified,
        accepted=d.accepted,
        rounds=math.inf * one,
        is_static=0 * one,
    )
    got = closed_loop(d.shapes, d.costs, d.around, load_, d.system.hbm_usable_B)
    ttft, tpot = (
        float(v[0]) * math.exp(float(d.near(m, 0).shift(users, math.log2(prompt))[0]))
        for m, v in (("ttft", got.ttft_s), ("tpot", got.tpot_s))
    )
    return ttft, tpot


def served(
    folder: Path,
    case: str,
    engine: str,
    requests: list[tuple[float, int, int]],
    *,
    hashes: list[list[int]] | None = None,
    **more: Any,
) -> list[dict[str, float]]:
    """What the users of a trace of (arrival, prompt, output) see."""
    model, on, plan = CASES[case]
    hashes = hashes or [[] for _ in requests]
    lines = [
        json.dumps({"timestamp": 1e3 * at, "input_length": p, "output_length": o, "hash_ids": h})
        for (at, p, o), h in zip(requests, hashes, strict=True)
    ]
    (folder / "t.jsonl").write_text("\n".join(lines) + "\n")
    asked = {
        "mowich": 1,
        "model": model,
        "on": on,
        "engine": engine,
        "plan": {"weights": "bf16", "kv": "bf16", **plan},
        "replicas": 1,
        "traffic": {"trace": "t.jsonl"},
        **more,
    }
    (folder / "s.yaml").write_text(json.dumps(asked))
    traffic(TrafficRequest(facts=FACTS, scenario=folder / "s.yaml", requests_out=folder / "r.csv"))
    with (folder / "r.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda r: r["id"])


def ttft(row: dict[str, float]) -> float:
    return row["first_token_s"] - row["arrival_s"]


def tpot(row: dict[str, float]) -> float:
    return (row["last_token_s"] - row["first_token_s"]) / (row["output"] - 1)


@pytest.mark.share(4)
@pytest.mark.parametrize(
    "engine",
    [pytest.param(e, marks=pytest.mark.slow) if n % 2 else e for n, e in enumerate(ENGINES)],
)
@pytest.mark.parametrize("case", CASES)
def test_plan_and_traffic_agree_on_one_request_at_a_time(tmp_path: Path, case: str, engine: str) -> None:
    """TTFT and TPOT within 5%. With rank groups, one request for each of them at a time: that is what the steady state
    calls one user."""
    groups = CASES[case][2].get("dp", 1)
    requests = [(1000.0 * (1 + i), *sizes) for i, sizes in enumerate(LENGTHS) for _ in range(groups)]
    rows = served(tmp_path, case, engine, requests)
    for row in rows:
        first, each = steady(case, engine, int(row["prompt"]), int(row["output"]))
        assert ttft(row) == pytest.approx(first, rel=0.05), row
        assert tpot(row) == pytest.approx(each, rel=0.05), row
        assert row["arrival_s"] <= row["scheduled_s"] <= row["first_token_s"] < row["last_token_s"]


@pytest.mark.share(4)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["dense", "mla", "mla, rank groups", "trainium2"])
def test_they_agree_when_tokens_are_verified_in_groups(tmp_path: Path, case: str, engine: str) -> None:
    groups = CASES[case][2].get("dp", 1)
    rows = served(tmp_path, case, engine, [(1000.0, 1000, 500)] * groups, speculation={"accepted": 2.3})
    first, each = steady(case, engine, 1000, 500, accept=2.3)
    assert ttft(rows[0]) == pytest.approx(first, rel=0.05)
    assert tpot(rows[0]) == pytest.approx(each, rel=0.05)


@pytest.mark.parametrize("case", ["dense, 8 bit", "mla", "recurrent layers"])
def test_a_cached_prefix_counts_in_both(tmp_path: Path, case: str) -> None:
    """The second request finds 6 blocks of 512 tokens of its prompt of 4,096."""
    requests, hashes = [(1000.0, 4096, 200), (2000.0, 4096, 200)], [list(range(8)), [0, 1, 2, 3, 4, 5, 16, 17]]
    rows = served(tmp_path, case, "vllm", requests, hashes=hashes, scheduler={"prefix_cache": True, "hash_block": 512})
    assert [r["cached"] for r in rows] == [0, 3072]
    for row, share in zip(rows, (0.0, 0.75), strict=True):
        assert ttft(row) == pytest.approx(steady(case, "vllm", 4096, 200, cached=share)[0], rel=0.05)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wait_is_counted_once(tmp_path: Path, engine: str) -> None:
    """A request behind a long prompt: its wait in the queue, and beside it what a lone request takes."""
    budget = int(FACTS.number(f"serving.{engine}.prompt_budget"))
    rows = served(tmp_path, "dense", engine, [(0.0, 8 * budget, 2), (2.0, 1000, 50)])
    front = FACTS.number(f"serving.{engine}.front_end") + 1000 * FACTS.number(f"serving.{engine}.front_end_per_token")
    wait = rows[1]["scheduled_s"] - 2.0 - front
    alone = steady("dense", engine, 1000, 50)[0]
    assert wait > 3.0 * alone
    assert ttft(rows[1]) == pytest.approx(wait + alone, rel=0.05)


def test_the_engines_own_times_have_no_front_end_and_no_correction(tmp_path: Path) -> None:
    row = served(tmp_path, "dense", "sglang", [(0.0, 1000, 50)], front_end=False)[0]
    model, on, plan = CASES["dense"]
    d = deploy(
        load_model(model), resolve(FACTS, on), "sglang", [ServePlan(**{"weights": "bf16", "kv": "bf16", **plan})], FACTS
    )
    one = np.ones(1)
    load_ = Load(
        users=one,
        prompt=1000 * one,
        output=50 * one,
        cached=0 * one,
        verify=one,
        accepted=one,
        rounds=math.inf * one,
        is_static=0 * one,
    )
    prefill = closed_loop(d.shapes, d.costs, d.around, load_, d.system.hbm_usable_B).ttft_parts["prefill"][0]
    steps = math.exp(float(d.near("tpot", 0).shift(1.0, math.log2(1000.0))[0]))
    assert row["scheduled_s"] == 0.0
    assert row["first_token_s"] == pytest.approx(prefill * steps, rel=0.02)


def test_each_rank_group_has_a_step_of_its_own(tmp_path: Path) -> None:
    """Eight prompts on eight rank groups take as long as one on one, and sixteen about twice that: a prompt is not
    spread over groups."""
    case, prompt = "mla, rank groups", 8192
    budget = {"max_num_batched_tokens": prompt}
    times = {
        n: max(
            map(ttft, served(tmp_path, case, "trtllm", [(1000.0, prompt, 1)] * n, scheduler=budget, front_end=False))
        )
        for n in (1, 8, 16)
    }
    assert times[1] > 0.3 * times[8]
    assert times[16] == pytest.approx(2.0 * times[8], rel=0.1)


def test_a_lone_user_is_not_interrupted_by_its_own_prompt() -> None:
    model, on, plan = CASES["dense"]
    d = deploy(
        load_model(model),
        resolve(FACTS, on),
        "vllm",
        [ServePlan(**{"weights": "bf16", "kv": "bf16", **plan})] * 2,
        FACTS,
    )
    one = np.ones(2)
    load_ = Load(
        users=np.array([1.0, 8.0]),
        prompt=8000 * one,
        output=128 * one,
        cached=0 * one,
        verify=one,
        accepted=one,
        rounds=math.inf * one,
        is_static=0 * one,
    )
    got = closed_loop(d.shapes, d.costs, d.around, load_, d.system.hbm_usable_B)
    assert got.tpot_parts["prefill_interference"][0] == 0.0
    assert got.tpot_parts["prefill_interference"][1] > 0.1 * got.tpot_s[1]
