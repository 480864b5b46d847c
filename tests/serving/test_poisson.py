"""Random arrivals by the closed form: the theory that it must meet, and traffic that was played out."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mowich
from mowich.facts import load_facts
from mowich.serving.poisson import random_load
from mowich.studies.serving_plan import ServeResult
from mowich.studies.traffic import simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()


@pytest.mark.parametrize("seed", range(8))
def test_one_server_that_is_shared_is_mm1(seed: int) -> None:
    """Answered at a constant rate whatever is inside: rho / (1 - rho) inside, geometric."""
    at = np.random.default_rng(seed)
    rho, per_s = at.uniform(0.2, 0.95), at.uniform(0.5, 50.0)
    n = np.arange(1.0, 3000.0)
    found = random_load(rho * per_s, n, np.zeros(len(n)), n / per_s / 100.0, 101.0)
    assert found is not None
    assert found.inside == pytest.approx(rho / (1.0 - rho), rel=1e-6)
    assert found.tpot_s == pytest.approx(found.inside / (rho * per_s) / 100.0, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_more_arrivals_never_make_it_faster_and_too_many_have_no_answer(seed: int) -> None:
    at = np.random.default_rng(seed)
    n = np.arange(1.0, 400.0)
    tpot, ttft = 0.01 + at.uniform(1e-5, 1e-3) * n, 0.1 + at.uniform(1e-4, 1e-2) * n
    most = float(n[-1] / (ttft[-1] + 100.0 * tpot[-1]))
    found = [random_load(share * most, n, ttft, tpot, 101.0) for share in (0.3, 0.6, 0.9)]
    assert all(one is not None for one in found)
    times = [(one.ttft_s, one.tpot_s, one.tpot_at_p99_s) for one in found if one is not None]
    assert times == sorted(times)
    assert all(tail >= mean for _, mean, tail in times)
    assert random_load(1.001 * most, n, ttft, tpot, 101.0) is None


def plan(model: str, on: str, **serve: object) -> ServeResult:
    found = mowich.plan(model, on, serve={"isl": "1k", "osl": 200, **serve}, fixed={"mode": "aggregated"}, top=1)
    assert isinstance(found, ServeResult)
    return found


@pytest.mark.parametrize(("model", "on", "tpot"), [("llama-3.1-8b", "h100:2", "12ms"), ("qwen3-32b", "h200:2", "30ms")])
def test_the_line_of_a_plan_agrees_with_traffic_at_that_rate(model: str, on: str, tpot: str) -> None:
    found = plan(model, on, tpot=tpot)
    arrivals, row = found.arrivals, found.rows[0]
    assert arrivals is not None
    assert row.decode is not None
    steady = float(row.tokens_per_s_per_chip) * row.chips_requested / 200.0
    assert arrivals.requests_per_s == pytest.approx(0.95 * steady)
    scenario = {
        "mowich": 1,
        "model": model,
        "on": on,
        "plan": {**{k: getattr(row.decode, k) for k in ("tp", "pp", "dp", "ep")}, "kv": row.decode.kv},
        "route": "least-loaded",
        "traffic": {"rate": arrivals.requests_per_s, "requests": 1500, "prompt": 1000, "output": 200},
    }
    seen = simulate_traffic(read_traffic(json.dumps(scenario), FACTS), FACTS)
    assert seen.tpot_s["mean"] == pytest.approx(float(arrivals.tpot_s), rel=0.1)
    assert seen.tpot_s["p99"] == pytest.approx(float(arrivals.tpot_at_p99_s), rel=0.2)
    assert arrivals.tpot_s.low is not None
    assert arrivals.tpot_s.low < float(arrivals.tpot_s) < (arrivals.tpot_s.high or 0.0)
    said = found.to_dict()["random_arrivals"]
    assert said["tpot_at_p99_s"]["value"] == float(arrivals.tpot_at_p99_s)  # type: ignore[index]


def test_a_limit_that_random_arrivals_break_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from mowich import cli

    words = "plan llama-3.1-70b --serve --isl 4k --osl 500 --on h200:8 --tpot 30ms --top 1 --set plan.mode=aggregated"
    assert cli.run(words.split()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Poisson arrivals at 95% of its rate" in out
    assert "above the limit of 30.0 ms" in out
