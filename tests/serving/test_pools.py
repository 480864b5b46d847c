"""Prefill here, decode there: two systems, the way of a cache between them, and draft models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mowich
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.plans.plan import ServePlan
from mowich.requests.jobs import PlanRequest
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.search import ServeJob
from mowich.serving.step import step
from mowich.serving.traffic.policies import Scheduler
from mowich.studies import rates
from mowich.studies.rates import RateResult
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import plan_serving
from mowich.studies.traffic import ranges_of, simulate_traffic, traffic
from mowich.studies.traffic_pools import (
    Pool,
    Speculation,
    accepted_tokens,
    make_pool,
    make_transfer,
    network_Bps,
)
from mowich.studies.traffic_scenario import read_traffic
from shared_facts import fresh_facts

FACTS = fresh_facts()
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
MODEL = load_model("llama-3.1-70b")


def pool(on: str, engine: str, model: Model = MODEL, **plan: object) -> Pool:
    return pool_of(on, engine, model, ServePlan(weights="fp8", **plan))  # type: ignore[arg-type]


def pool_of(on: str, engine: str, model: Model, plan: ServePlan) -> Pool:
    return make_pool(
        model,
        resolve(FACTS, on),
        engine,
        plan,
        1,
        Scheduler(),
        FACTS,
        blocks=None,
        apart=True,
        speculation=Speculation(),
        where="",
    )


def test_a_cache_between_systems_goes_by_the_measured_network() -> None:
    """Sixteen devices of Trainium2 are four chips, each of which sends 19.3 GB/s over EFA; 160 KiB a token in 8 bit."""
    trn2, h200 = pool("trn2:16", "vllm-neuron", tp=16, kv="fp8"), pool("h200:8", "vllm", tp=4, kv="fp8")
    way = make_transfer(FACTS, MODEL, trn2, h200, None)
    per_chip = network_Bps(FACTS, trn2.system) * trn2.system.devices_per_chip
    assert per_chip == pytest.approx(19.3e9, rel=1e-6)
    assert way.sent_B == 80 * 2 * 8 * 128
    assert way.Bps == pytest.approx(4 * 19.3e9, rel=1e-6)
    assert way.convert_s == 0.0
    assert way.seconds(8000) == pytest.approx(way.latency_s + 8000 * 163_840 / (4 * 19.3e9))
    assert way.words == "network between machines"


def test_layers_with_a_window_send_their_window() -> None:
    """gpt-oss-120b: 18 of 36 layers keep 128 tokens, of 2 x 8 heads x 64 elements in 16 bit."""
    model = load_model("gpt-oss-120b")
    one = pool("h200:8", "vllm", model, tp=4, kv="bf16")
    way = make_transfer(FACTS, model, one, one, None)
    layer_B = 2 * 8 * 64 * 2
    assert way.sent_B == 36 * layer_B
    assert way.windowed_share == pytest.approx(0.5)
    for tokens in (100, 8000):
        assert way.seconds(tokens) == pytest.approx(18 * layer_B * (tokens + min(tokens, 128)) / way.Bps)
    dense = pool("h200:8", "vllm", tp=4, kv="bf16")
    assert make_transfer(FACTS, MODEL, dense, dense, None).windowed_share == 0.0


def test_the_narrower_format_is_sent_and_the_wider_one_converted() -> None:
    wide, narrow = pool("h200:8", "vllm", tp=4, kv="bf16"), pool("trn3:16", "vllm-neuron", tp=16, kv="fp8")
    same = make_transfer(FACTS, MODEL, narrow, pool("h200:8", "vllm", tp=4, kv="fp8"), None)
    for front, behind in ((wide, narrow), (narrow, wide)):
        way = make_transfer(FACTS, MODEL, front, behind, None)
        assert way.sent_B == same.sent_B == 163_840
        assert way.convert_s == pytest.approx(3 * 163_840 / (4 * wide.system.hbm_Bps))
        assert way.to_dict()["convert_s_per_token"] == way.convert_s


def test_a_receiver_that_holds_copies_takes_longer() -> None:
    """Eight heads on sixteen devices: each holds a head that another holds too, and receives all of it."""
    front = pool("h200:8", "vllm", tp=8, kv="fp8")
    few, many = pool("trn3:16", "vllm-neuron", tp=8, kv="fp8"), pool("trn3:16", "vllm-neuron", tp=16, kv="fp8")
    slow = make_transfer(FACTS, MODEL, front, few, None)
    assert make_transfer(FACTS, MODEL, front, many, None).Bps == pytest.approx(slow.Bps)
    assert slow.Bps == pytest.approx(8 * network_Bps(FACTS, few.system))


def test_on_one_system_caches_take_its_links() -> None:
    """Equal workers: the part of a device over its link, as ever."""
    one = pool("h200:8", "vllm", tp=4, kv="fp8")
    way = make_transfer(FACTS, MODEL, one, one, None)
    assert way.words == "links of the system"
    assert way.Bps == pytest.approx(4 * one.system.levels[0].bandwidth_Bps)
    assert make_transfer(FACTS, MODEL, one, one, 50e9).Bps == pytest.approx(4 * 50e9)


def test_recurrent_state_goes_with_the_cache() -> None:
    """Qwen3-Next: 77.3 MB of state a request, whatever its length, over the same links as its cache."""
    model = load_model("qwen3-next-80b-a3b")
    one = pool("h200:8", "vllm", model, tp=2, kv="fp8")
    way = make_transfer(FACTS, model, one, one, None)
    assert way.state_B == model.state_bytes() > 77e6
    assert way.seconds(1000) == pytest.approx((1000 * way.sent_B + way.state_B) / way.Bps)
    assert way.to_dict()["state_bytes"] == way.state_B
    dense = pool("h200:8", "vllm", tp=4, kv="fp8")
    assert make_transfer(FACTS, MODEL, dense, dense, None).state_B == 0.0


@pytest.mark.parametrize(
    "model",
    ["llama-3.1-70b", "gpt-oss-120b", "qwen3-next-80b-a3b", pytest.param("deepseek-v3", marks=pytest.mark.slow)],
)
def test_plans_and_traffic_have_one_transfer(model: str) -> None:
    """Of every pair that a search found: other formats, heads that are copied, stages, windows, state."""
    shape, job = load_model(model), ServeJob(prompt=8192.0, output=512.0, ttft_s=20.0)
    found = plan_serving(
        PlanRequest(
            facts=FACTS, model=shape, systems=("h200:32",), serve=job, top=6, fixed={"mode": ("disaggregated",)}
        )
    )
    assert found.rows
    for row in (*found.rows, *found.front):
        assert row.prefill is not None
        front, behind = (pool_of("h200:32", "vllm", shape, p) for p in (row.prefill, row.decode))
        way = make_transfer(FACTS, shape, front, behind, None)
        assert row.ttft_s.breakdown["kv_transfer"] == pytest.approx(way.seconds(8192), rel=1e-9)


def test_the_mixed_pool_that_ships() -> None:
    """Prompts on Trainium 3, answers on GB300: served within limits, each side with its chips, price and power."""
    result = traffic(TrafficRequest(facts=FACTS, scenario=SCENARIOS / "prefill-trn3-decode-gb300.yaml", draws=1))
    assert result.completed == result.requests == 1000
    assert result.is_mixed
    assert result.chips_of == {"trn3-gen2": 16, "gb300": 4}
    assert result.chips == 20
    assert result.inputs["decode_system"] == "gb300"
    assert result.goodput_frac is not None
    assert result.goodput_frac > 0.98
    assert result.J_per_token is not None
    assert result.ranges["ttft_s"]["p99"][0] < (result.ttft_s["p99"] or 0.0) < result.ranges["ttft_s"]["p99"][1]
    assert set(result.coverage) == {"simulated kernels", "fitted"}  # prompts on Trainium, answers on GB300
    assert sum(result.coverage.values()) == pytest.approx(1.0)


def test_a_mixed_pool_costs_what_its_chips_cost() -> None:
    prices = FACTS.with_values({"prices.user.trn3-gen2": 2.0 / 3600, "prices.user.gb300": 5.0 / 3600})
    result = traffic(TrafficRequest(facts=prices, scenario=SCENARIOS / "prefill-trn3-decode-gb300.yaml", draws=0))
    assert result.usd_per_h == pytest.approx(16 * 2.0 + 4 * 5.0)
    tokens_per_h = result.tokens_per_s_per_chip * 20 * 3600
    assert result.usd_per_mtok == pytest.approx((result.usd_per_h or 0.0) / tokens_per_h * 1e6)


def test_the_plan_of_aws_runs() -> None:
    """Six prefill workers and one decode server keep 128 users busy, eight on each of its sixteen ranks."""
    result = traffic(TrafficRequest(facts=FACTS, scenario=SCENARIOS / "gpt-oss-120b-trn3.yaml", draws=0))
    assert result.completed == result.requests == 1280
    assert 100 < result.in_flight <= 128
    assert result.chips == 28
    assert (result.tpot_s["p99"] or 1.0) < 1.02 * (result.tpot_s["p50"] or 0.0)


def test_a_slower_network_delays_the_first_token_alone(tmp_path: Path) -> None:
    text = (SCENARIOS / "prefill-trn3-decode-gb300.yaml").read_text(encoding="utf-8")
    seen = []
    for speed in ("1 GB/s", "20 GB/s"):
        path = tmp_path / "s.yaml"
        words = text.replace("prefill: 4,", f"prefill: 4, transfer: {speed},")
        path.write_text(words.replace("requests: 1000", "requests: 200"))
        seen.append(simulate_traffic(read_traffic(path, FACTS), FACTS))
    assert (seen[0].ttft_s["p50"] or 0.0) > (seen[1].ttft_s["p50"] or 0.0) + 0.01
    assert seen[0].tpot_s["p50"] == pytest.approx(seen[1].tpot_s["p50"], rel=0.02)


@pytest.mark.parametrize(
    ("model", "rate", "chips"),
    [("llama-3.1-8b", "8rps", 4), pytest.param("llama-3.1-70b", "1rps", 48, marks=pytest.mark.slow)],
)
def test_splits_over_two_systems_are_searched(
    model: str, rate: str, chips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chip of the cheap system is not enough for both pools: the cheapest deployment has a pool on each. It is
    found without the ranges of its times, which tests/studies/test_rates.py looks at."""
    monkeypatch.setattr(
        rates, "with_ranges", lambda result, *_: replace(result, ranges=ranges_of(result, result, result, ()))
    )
    found = mowich.plan(
        model,
        f"trn3:{chips},gb300:1",
        serve={"isl": "4k", "osl": 400, "rate": rate, "p99_ttft": "15s", "p99_tpot": "40ms"},
        facts=FACTS.with_values({"prices.user.trn3-gen2": 2.0 / 3600, "prices.user.gb300": 0.1 / 3600}),
        fixed={"mode": "disaggregated", "weights": "fp8"},
    )
    assert isinstance(found, RateResult)
    cheap = next(row for row in found.rows if row.is_cheapest)
    assert set(cheap.chips_of) == {"trn3-gen2", "gb300"}
    assert cheap.decode_system is not None
    again = mowich.traffic(cheap.scenario, draws=0)
    assert again.ttft_s["p99"] == cheap.p99_ttft_s.value
    assert again.is_mixed


# draft models
# ----------------------------------------------------------------------------------------------------------------------


def test_tokens_kept_of_a_draft() -> None:
    assert accepted_tokens(0.0, 4) == 1.0
    assert accepted_tokens(0.5, 1) == 1.5
    assert accepted_tokens(0.7, 4) == pytest.approx(sum(0.7**k for k in range(5)))


DRAFTED = (
    "{mowich: 1, model: llama-3.1-70b, on: 'h200:4', plan: {tp: 4, weights: fp8, kv: fp8}, traffic: {rate: 0.5,"
    " requests: 60, prompt: 1000, output: 300}%s}"
)


def tpot(words: str) -> float:
    result = simulate_traffic(read_traffic(DRAFTED % words, FACTS), FACTS)
    assert result.completed == 60
    return result.tpot_s["p50"] or 0.0


def test_a_draft_model_pays_where_it_is_right_and_small() -> None:
    draft = ", speculation: {draft: llama-3.2-1b, tokens: %d, acceptance: %g}"
    plain, good, bad = tpot(""), tpot(draft % (3, 0.8)), tpot(draft % (3, 0.05))
    assert good < 0.8 * plain
    assert bad > 1.1 * plain  # three small steps and nothing kept
    big = tpot(", speculation: {draft: llama-3.1-8b, tokens: 3, acceptance: 0.8}")
    assert good < big


def test_a_draft_model_takes_room_from_the_cache() -> None:
    plain = read_traffic(DRAFTED % "", FACTS)
    drafted = read_traffic(DRAFTED % ", speculation: {draft: llama-3.1-8b, tokens: 3, acceptance: 0.7}", FACTS)
    assert drafted.serve.scheduler.blocks < 0.95 * plain.serve.scheduler.blocks
    assert drafted.serve.scheduler.verified == 4.0
    assert drafted.serve.scheduler.accepted == pytest.approx(accepted_tokens(0.7, 3))
    assert drafted.inputs["draft"] == {"model": "llama-3.1-8b", "tokens": 3, "acceptance": 0.7}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("gb300:4", "gb3000:4", "disaggregated.decode_on"),
        ("gb300:4", "gb300:2", "more devices than the system has"),
        ("decode_plan: {tp: 2, weights: fp8, kv: bf16}", "decode_plan: {tp: 3}", "tp=3 does not divide"),
        (", decode_plan: {tp: 2, weights: fp8, kv: bf16}", "", "disaggregated.decode_plan is missing"),
        ("decode: 2,", "decode: 2, transfer: 0 B/s,", "disaggregated.transfer: must be at least 1"),
    ],
)
def test_bad_pools_are_one_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (SCENARIOS / "prefill-trn3-decode-gb300.yaml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "s.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_reduces_beyond_a_domain_are_the_librarys() -> None:
    """An engine's own kernels reduce over peer memory, which ends at the domain. Ranks of two servers wait for the
    library at its full latency, so that `tp_graph` decides nothing there, and all that it decides within a server."""
    facts = load_facts()
    model, system = load_model("deepseek-v3"), resolve(facts, "h100", chips=16)

    def tp_s(tp: int, graph: float) -> float:
        plan = ServePlan(tp=tp, ep=tp, weights="fp8", kv="fp8")
        at = facts.with_values({"serving.common.tp_graph": graph})
        d = deploy(model, system, "trtllm", [plan], at)
        return float(step(d.shapes, d.costs, n=np.ones(1), context=np.full(1, 1000.0))["tp"][0])

    assert tp_s(16, 0.25) == tp_s(16, 0.35)
    assert tp_s(8, 0.25) < tp_s(8, 0.35)
    assert tp_s(16, 0.25) > 2.0 * tp_s(8, 0.25)
