"""Planners in the loop: forecasts, rules, profiles, the start of a replica, and regret."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.startup import StartupAsk, startup_s
from mowich.serving.traffic.forecasts import PREDICTORS, Forecasting, KnownAhead, Noise
from mowich.serving.traffic.planner import ByQueue, PoolView, prompts_per_s
from mowich.studies.traffic import TrafficResult, simulate_traffic, traffic
from mowich.studies.traffic_autoscale import OUTPUTS, PROMPTS, replica_profile
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()

BASE = (
    "{{mowich: 1, model: llama-3.1-8b, on: 'h100:8', plan: {{tp: 1}}, route: least-loaded,"
    " slo: {{ttft: 1 s, tpot: 30 ms}}, traffic: {{{load}, prompt: {prompt}, output: 100}}, autoscale: {{{rule}}}%s}}"
)
ONE, APART = BASE % "", BASE % ", disaggregated: {{prefill: 3, decode: 3}}"
BURST = "rate: {0 s: 2, 40 s: 2, 41 s: 25, 80 s: 25, 81 s: 2}, duration: 150 s, seed: 3"
RULES = {
    "inside": "by: inside, inside: 10",
    "queue": "by: queue",
    "sla": "by: sla",
    "forecast": "by: forecast, predictor: kalman, utilisation: 0.7",
}


def played(words: str, *, load: str = BURST, prompt: str = "'1500'", base: str = ONE, **more: object) -> TrafficResult:
    settled = {"every": "4 s", "start": "8 s", "hold": "12 s"} | {k: str(v) for k, v in more.items()}
    bounds = "least: 1, most: 3" if base is ONE else "least: 1"
    rule = f"{bounds}, {', '.join(f'{k}: {v}' for k, v in settled.items())}, {words}"
    return simulate_traffic(read_traffic(base.format(load=load, prompt=prompt, rule=rule), FACTS), FACTS)


def pools(result: TrafficResult) -> dict[str, Any]:
    found = result.scaling["pools"]
    assert isinstance(found, dict)
    return found


# forecasts
# ----------------------------------------------------------------------------------------------------------------------

NOISE = Noise(level=1.0, trend=0.1, seen=10.0)


@given(name=st.sampled_from(PREDICTORS), value=st.floats(0.0, 1e4), seen=st.integers(1, 80), ahead=st.integers(0, 40))
def test_a_constant_series_stays_as_it_is(name: str, value: float, seen: int, ahead: int) -> None:
    predictor = Forecasting(predictor=name, window=20, season=12, noise=NOISE).make()
    for _ in range(seen):
        predictor.add(value)
    assert predictor.ahead(ahead) == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(slope=st.floats(0.1, 50.0), start=st.floats(0.0, 100.0), ahead=st.integers(1, 20))
def test_a_trend_is_followed_by_those_that_know_trends(slope: float, start: float, ahead: int) -> None:
    for name in ("kalman", "arima"):
        predictor = Forecasting(predictor=name, window=50, season=1, noise=NOISE).make()
        for i in range(200):
            predictor.add(start + slope * i)
        assert predictor.ahead(ahead) == pytest.approx(start + slope * (199 + ahead), rel=0.01)


@given(
    season=st.lists(st.floats(0.0, 100.0), min_size=3, max_size=12),
    grown=st.floats(0.0, 50.0),
    ahead=st.integers(1, 30),
)
def test_a_season_comes_again_moved_by_what_has_grown(season: list[float], grown: float, ahead: int) -> None:
    n = len(season)
    predictor = Forecasting(predictor="seasonal", window=n, season=n, noise=NOISE).make()
    series = [*season, *(x + grown for x in season)]
    for value in series:
        predictor.add(value)
    expected = season[(len(series) - 1 + ahead) % n] + 2 * grown
    assert predictor.ahead(ahead) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=40), st.integers(0, 10))
def test_no_forecast_is_below_nothing_and_the_truth_is_the_largest_to_come(series: list[float], ahead: int) -> None:
    truth = KnownAhead(series)
    for name in PREDICTORS:
        predictor = Forecasting(predictor=name, window=10, season=5, noise=NOISE).make()
        for value in series:
            predictor.add(value)
            assert predictor.ahead(ahead) >= 0.0
    for i in range(len(series)):
        truth.add(series[i])
        assert truth.ahead(ahead) == max(series[i + 1 : i + 2 + ahead], default=0.0)


# profiles
# ----------------------------------------------------------------------------------------------------------------------

POOL = read_traffic(
    ONE.format(
        load="rate: 1, requests: 5", prompt=100, rule="least: 1, most: 4, inside: 9, every: 9 s, start: 0 s, hold: 0 s"
    ),
    FACTS,
).serve
PROFILE = replica_profile(POOL, has_front=True)


@given(i=st.integers(0, len(PROMPTS) - 1), j=st.integers(0, len(OUTPUTS) - 1), k=st.integers(0, len(PROFILE.users) - 1))
def test_a_profile_is_exact_at_its_points(i: int, j: int, k: int) -> None:
    found = PROFILE.at(PROMPTS[i], OUTPUTS[j], PROFILE.users[k])
    assert found == pytest.approx((PROFILE.ttft_s[i][j][k], PROFILE.tpot_s[i][j][k]), rel=1e-9)


@given(
    prompt=st.floats(40.0, 2e4), output=st.floats(8.0, 2e3), ttft=st.floats(0.05, 5.0), tpot=st.floats(0.005, 0.1),
    looser=st.floats(1.0, 3.0),
)  # fmt: skip
def test_looser_limits_never_lower_the_rate_of_a_replica(
    prompt: float, output: float, ttft: float, tpot: float, looser: float
) -> None:
    rate = PROFILE.rate(prompt, output, ttft, tpot)
    assert 0.0 < rate <= PROFILE.rate(prompt, output, ttft * looser, tpot) * (1 + 1e-9)
    assert rate <= PROFILE.rate(prompt, output, ttft, tpot * looser) * (1 + 1e-9)


def test_a_profile_is_the_traffic_of_one_request_at_a_time() -> None:
    text = ONE.format(
        load="users: 1, requests: 20",
        prompt=1024,
        rule="least: 1, most: 2, inside: 9, every: 9 s, start: 0 s, hold: 0 s",
    )
    result = simulate_traffic(read_traffic(text.replace("output: 100", "output: 256"), FACTS), FACTS)
    ttft, tpot = PROFILE.at(1024.0, 256.0, 1.0)
    assert result.ttft_s["mean"] == pytest.approx(ttft, rel=0.07)
    assert result.tpot_s["mean"] == pytest.approx(tpot, rel=0.05)


@given(each=st.floats(0.001, 2.0), times=st.floats(1.01, 50.0))
def test_prompts_wait_as_in_a_queue_with_equal_times(each: float, times: float) -> None:
    """At that rate the mean wait of M/D/1, rho / (2 (1 - rho)) of a prompt, is what the limit leaves."""
    rho = prompts_per_s(each, each * times) * each
    assert rho / (2.0 * (1.0 - rho)) == pytest.approx(times - 1.0, rel=1e-6)


# rules
# ----------------------------------------------------------------------------------------------------------------------


@given(
    there=st.integers(1, 9), starting=st.integers(0, 2), waiting=st.integers(0, 40), kv=st.floats(0.0, 1.0),
    step=st.integers(1, 3),
)  # fmt: skip
def test_a_queue_adds_and_takes_one_step_and_none_while_one_starts(
    there: int, starting: int, waiting: int, kv: float, step: int
) -> None:
    rule = ByQueue(queue_up=2.0, queue_down=0.5, kv_up=0.8, kv_down=0.4, step=step, counts_tokens=False)
    serving = max(1, there - starting)
    view = PoolView(at_s=9.0, since_s=3.0, there=there, serving=serving, inside=50, waiting=waiting, kv=kv)
    wanted = rule.wanted(view)
    assert wanted in (there - step, there, there + step)
    if serving < there:
        assert wanted == there
    elif waiting / serving > 2.0 or kv > 0.8:
        assert wanted == there + step
    elif wanted < there:
        assert kv * there / wanted < 0.8
        assert waiting / serving < 0.5


@pytest.mark.parametrize("base", [ONE, APART], ids=["one", "apart"])
@pytest.mark.parametrize("name", RULES)
def test_no_request_is_lost_while_replicas_come_and_go(name: str, base: str) -> None:
    result = played(RULES[name], base=base)
    again = played(RULES[name], base=base)
    assert result.completed == result.requests > 900
    assert result.to_dict() == again.to_dict()
    assert result.scale_ups == sum(pool["scale_ups"] for pool in pools(result).values()) > 0
    assert 0 < int(str(result.scaling["scale_downs"])) <= result.scale_ups
    for pool in pools(result).values():
        for point in pool["timeline"]:
            assert point["up"] <= point["paid"] <= 3
            assert 1 <= point["wanted"] <= 3
        # paid for from time 0, over a makespan that begins with the first request
        assert 1.0 <= pool["replicas_mean"] <= 1.01 * pool["replicas_most"]
    hours = result.scaling["hours"]
    assert isinstance(hours, list)
    assert sum(hour["requests"] for hour in hours) == result.completed
    assert result.chips_mean < result.chips


@settings(max_examples=12, deadline=None, derandomize=True)
@given(name=st.sampled_from(list(RULES)), rate=st.integers(1, 30), base=st.sampled_from([ONE, APART]))
def test_a_constant_load_gets_a_constant_number(name: str, rate: int, base: str) -> None:
    """By rates; what is inside and what waits depends on the replicas that are there, so these may swing between two
    neighbours."""
    load = f"rate: {rate}, requests: {40 * rate}, arrivals: fixed"
    result = played(RULES[name], load=load, base=base, every="1 s", start="2 s", hold="10 s")
    for pool in pools(result).values():
        last = {point["paid"] for point in pool["timeline"][-8:]}
        assert max(last) - min(last) <= (0 if name in ("sla", "forecast") else 1), (name, rate, last)


@pytest.mark.parametrize("name", RULES)
def test_more_at_the_least_keeps_no_fewer_limits(name: str) -> None:
    def good(least: int) -> float:
        rule = f"least: {least}, most: 3, every: 4 s, start: 8 s, hold: 12 s, {RULES[name]}"
        text = ONE.format(load=BURST, prompt="'1500'", rule=rule)
        return simulate_traffic(read_traffic(text, FACTS), FACTS).goodput_frac or 0.0

    shares = [good(least) for least in (1, 2, 3)]
    assert all(b >= a - 0.01 for a, b in itertools.pairwise(shares)), shares
    assert shares[0] < shares[-1]


def test_pools_apart_scale_by_figures_of_their_own() -> None:
    """Long prompts need workers of prompts, long answers need workers that decode."""
    steady = "rate: {0 s: 6, 20 s: 12}, duration: 120 s, seed: 1"
    prompts = played(RULES["sla"], load=steady, prompt="6000", base=APART, every="5 s")
    text = APART.replace("output: 100", "output: 1500").replace("30 ms", "9 ms")
    answers = played(RULES["sla"], load=steady, prompt="60", base=text, every="5 s")
    of_prompts, of_answers = ({k: p["replicas_mean"] for k, p in pools(r).items()} for r in (prompts, answers))
    assert of_prompts["prefill"] > 1.3 * of_answers["prefill"]
    assert of_answers["decode"] > 1.3 * of_prompts["decode"]


def test_by_inside_alone_is_told_as_it_was() -> None:
    rule = read_traffic(
        ONE.format(load=BURST, prompt=100, rule="least: 1, most: 3, inside: 6, every: 4 s, start: 8 s, hold: 12 s"),
        FACTS,
    )
    assert rule.inputs["autoscale"] == {
        "least": 1,
        "most": 3,
        "inside": 6.0,
        "every_s": 4.0,
        "start_s": 8.0,
        "hold_s": 12.0,
    }


# the start of a replica
# ----------------------------------------------------------------------------------------------------------------------


@given(
    family=st.sampled_from(["hopper", "blackwell-ultra", "neuroncore-v4"]), size=st.floats(1e9, 1e12),
    weights=st.sampled_from(["store", "disk", "host"]), machine=st.floats(0.0, 600.0),
)  # fmt: skip
def test_parts_of_a_start_sum_and_more_weights_take_longer(
    family: str, size: float, weights: str, machine: float
) -> None:
    def start(size: float, **more: Any) -> Any:
        asked = {"weights": weights, "rate_Bps": None, "machine_s": machine, "compiled": True} | more
        return startup_s(FACTS, family, size, StartupAsk(**asked), "here")

    found = start(size)
    assert sum(found.breakdown.values()) == pytest.approx(found.value)
    assert found.low <= found.value <= found.high
    assert start(2 * size).value > found.value
    assert start(size, compiled=False).value > found.value
    assert start(size, rate_Bps=1e9).breakdown["weights"] == pytest.approx(size / 1e9)


def test_a_start_by_law_is_that_of_the_rule() -> None:
    rule = "least: 1, most: 2, every: 9 s, hold: 9 s, inside: 5, start: {weights: disk, machine: 30 s}"
    scenario = read_traffic(ONE.format(load="rate: 2, requests: 20", prompt=100, rule=rule), FACTS)
    assert scenario.scaling is not None
    assert scenario.scaling.start is not None
    assert scenario.autoscale is not None
    assert scenario.autoscale.start_s == scenario.scaling.start.value > 60.0
    assert "start_s" in simulate_traffic(scenario, FACTS).scaling


# regret
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [ONE, pytest.param(APART, marks=pytest.mark.slow)], ids=["one", "apart"])
def test_hindsight_is_never_dearer_and_is_played(base: str) -> None:
    rule = "least: 1, every: 4 s, start: 8 s, hold: 12 s, inside: 10, utilisation: 0.7, regret: true"
    rule += ", by: [inside, queue, sla]" + (", most: 3" if base is ONE else "")
    text = base.format(load=BURST, prompt="'1500'", rule=rule)
    result = traffic(TrafficRequest(facts=FACTS, scenario=text, draws=0))
    regret, rules = result.scaling["regret"], result.scaling["rules"]
    assert isinstance(regret, dict)
    assert isinstance(rules, list)
    best, own = regret["hindsight"], regret["rule"]
    assert own["goodput_frac"] == result.goodput_frac == regret["goodput_frac"]
    assert own["chip_hours"] == pytest.approx(result.scaling["chip_hours"])
    assert best["goodput_frac"] >= own["goodput_frac"] - 1e-12
    assert best["chip_hours"] <= own["chip_hours"]
    assert regret["chip_hours"] == pytest.approx(own["chip_hours"] - best["chip_hours"])
    assert best["is"] == "schedule"  # a burst that is known needs fewer chip-hours than one that is met
    assert [row["by"] for row in rules] == ["inside", "queue", "sla"]
    assert all(row["regret_chip_hours"] >= 0.0 for row in rules)
    assert rules[0]["chip_hours"] == own["chip_hours"]
    if base is ONE:  # the best constant number is what that number alone comes to
        n = regret["constant"]["replicas"][0]
        fixed = ONE.format(load=BURST, prompt="'1500'", rule="").replace(", autoscale: {}", f", replicas: {n}")
        alone = simulate_traffic(read_traffic(fixed, FACTS), FACTS)
        assert regret["constant"]["goodput_frac"] == pytest.approx(alone.goodput_frac, abs=0.01)


def test_a_target_below_the_rule_makes_hindsight_cheaper() -> None:
    rule = "least: 1, most: 3, every: 4 s, start: 8 s, hold: 12 s, inside: 3, regret: %s"
    load = BURST.replace("25", "12")
    found = [
        traffic(
            TrafficRequest(facts=FACTS, scenario=ONE.format(load=load, prompt="'1500'", rule=rule % words), draws=0)
        ).scaling["regret"]
        for words in ("true", "{goodput: 0.6}")
    ]
    own, looser = found
    assert isinstance(own, dict)
    assert isinstance(looser, dict)
    assert looser["goodput_frac"] == 0.6 < own["goodput_frac"]
    assert looser["hindsight"]["chip_hours"] <= own["hindsight"]["chip_hours"]


def test_rules_are_compared_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = "least: 1, most: 2, every: 4 s, start: 8 s, hold: 12 s, inside: 10"
    path = tmp_path / "s.yaml"
    path.write_text(ONE.format(load="rate: 4, requests: 80", prompt=500, rule=rule))
    asked = ["traffic", str(path), "--autoscale", "queue,sla", "--draws", "0"]
    assert cli.run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["by"] for row in found["scaling"]["rules"]] == ["queue", "sla"]
    assert found["inputs"]["autoscale"]["by"] == ["queue", "sla"]
    assert cli.run([*asked, "--trace-out", str(tmp_path / "t.json")]) == 0
    shown = capsys.readouterr().out
    assert "Rules over the same load" in shown or "within SLO" in shown
    kinds = Counter(event["ph"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"])
    assert kinds["C"] >= 2


# bad input
# ----------------------------------------------------------------------------------------------------------------------

EVERY = "every: 9 s, start: 9 s, hold: 9 s"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (f"by: queu, least: 1, most: 2, {EVERY}", "autoscale.by: unknown name 'queu'; allowed"),
        (f"by: queue, least: 1, most: 2, {EVERY}, kv_up: 2", "autoscale.kv_up: must lie in 0 to 1, got 2"),
        (f"by: queue, least: 1, most: 2, {EVERY}, kv_up: 0.3", "autoscale.kv_up: is below kv_down"),
        (f"by: queue, least: 1, most: 2, {EVERY}, queue_down: 3", "autoscale.queue_down: is above queue_up"),
        (f"by: queue, least: 1, most: 2, {EVERY}, queue_up: -1", "autoscale.queue_up"),
        (f"by: queue, least: 1, most: 2, {EVERY}, queue_in: tokens", "autoscale.queue_up is missing"),
        (f"by: queue, least: 1, most: 2, {EVERY}, queue_in: blocks", "autoscale.queue_in: unknown queue_in 'blocks'"),
        (f"by: queue, least: 1, most: 2, {EVERY}, change: 0", "autoscale.change: must be at least 1"),
        (f"by: queue, least: 1, most: 2, {EVERY}, inside: 4", "autoscale.inside: goes with by: inside"),
        (f"by: queue, least: 1, most: 2, {EVERY}, kvup: 0.5", "autoscale.kvup: unknown key"),
        (f"by: sla, least: 1, most: 2, {EVERY}, utilisation: 0", "autoscale.utilisation: must lie in 0.01 to 1"),
        (f"by: sla, least: 1, most: 2, {EVERY}, enough: 0", "autoscale.enough: must be at least 1"),
        (f"by: sla, least: 1, most: 2, {EVERY}, predictor: arima", "autoscale.predictor: goes with by: forecast"),
        (f"by: forecast, least: 1, most: 2, {EVERY}, predictor: prophet", "autoscale.predictor: unknown predictor"),
        (f"by: forecast, least: 1, most: 2, {EVERY}, predictor: seasonal", "autoscale.season is missing"),
        (f"by: forecast, least: 1, most: 2, {EVERY}, season: 24 h", "autoscale.season: goes with predictor: seasonal"),
        (f"by: forecast, least: 1, most: 2, {EVERY}, window: 1", "autoscale.window: must be at least 2"),
        (
            f"by: sla, least: {{prefill: 1, decode: 1}}, most: 2, {EVERY}",
            "autoscale.least: is one number: only one pool scales",
        ),
        ("by: sla, least: 1, most: 2, every: 9 s, hold: 9 s, start: {weights: tape}", "start.weights: unknown weights"),
        ("by: sla, least: 1, most: 2, every: 9 s, hold: 9 s, start: {rate: 2 GB/s}", "start.weights is missing"),
        (f"by: sla, least: 1, most: 2, {EVERY}, regret: maybe", "autoscale.regret: yes or no"),
        (f"by: sla, least: 1, most: 2, {EVERY}, regret: {{goodput: 2}}", "regret.goodput: must lie in 0 to 1"),
        (f"by: sla, least: 1, most: 2, {EVERY}, regret: {{godput: 1}}", "did you mean 'goodput'"),
    ],
)
def test_bad_rules_say_where(tmp_path: Path, rule: str, complaint: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(ONE.format(load="rate: 2, requests: 20", prompt=100, rule=rule))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert complaint in caught.value.line()
    assert "s.yaml:1" in caught.value.line()


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (
            f"by: sla, least: 1, most: 2, {EVERY}",
            "autoscale.most: is stated already, by disaggregated.prefill and .decode",
        ),
        (f"by: sla, least: 3, {EVERY}", "autoscale: neither pool can scale"),
        (f"by: sla, least: {{prefill: 4, decode: 1}}, {EVERY}", "autoscale.least: is above disaggregated.prefill"),
        (f"by: sla, least: {{prefil: 1, decode: 1}}, {EVERY}", "did you mean 'prefil'"),
    ],
)
def test_bad_rules_of_pools_apart_say_where(rule: str, complaint: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(APART.format(load="rate: 2, requests: 20", prompt=100, rule=rule), FACTS)
    assert complaint in caught.value.line()


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (f"by: forecast, least: 1, most: 2, {EVERY}", "forecast plans by limits: slo.ttft is missing"),
        (f"inside: 4, least: 1, most: 2, {EVERY}, regret: true", "autoscale.regret: compares goodput"),
    ],
)
def test_rules_by_limits_need_limits(rule: str, complaint: str) -> None:
    text = ONE.format(load="rate: 2, requests: 20", prompt=100, rule=rule)
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(text.replace(" slo: {ttft: 1 s, tpot: 30 ms},", ""), FACTS)
    assert complaint in caught.value.line()


def test_too_many_numbers_for_regret_and_an_unknown_start_are_refused() -> None:
    many = f"inside: 4, least: 1, most: 60, {EVERY}, regret: true"
    text = ONE.format(load="rate: 2, requests: 20", prompt=100, rule=many).replace("h100:8", "h100:64")
    with pytest.raises(UserError, match="regret plays every constant number"):
        traffic(TrafficRequest(facts=FACTS, scenario=text, draws=0))
    with pytest.raises(UserError, match="published for GPUs of NVIDIA and for Trainium"):
        startup_s(
            FACTS, "tpu-v7", 1e9, StartupAsk(weights="store", rate_Bps=None, machine_s=0.0, compiled=True), "here"
        )
    assert math.isfinite(PROFILE.rate(1e9, 1e9, 1e-9, 1e-9))


@pytest.mark.slow
def test_the_day_of_the_page_is_what_it_says() -> None:
    """The table of docs/records/autoscaling.md is that of its scenario, as its script writes it."""
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "records" / "autoscaling.md").read_text(encoding="utf-8")
    scaling: Any = traffic(TrafficRequest(facts=FACTS, scenario=root / "scenarios" / "day-burst.yaml", draws=0)).scaling
    for row in scaling["rules"]:
        told = next(
            line for line in page.splitlines() if line.startswith(f"| `{row['by']}` | {row['goodput_frac']:.1%} ")
        )
        assert f" {row['chip_hours']:.1f} " in told
        assert row["regret_frac"] >= 0.0
    regret = scaling["regret"]
    assert regret["short_frac"] == pytest.approx(0.99 - scaling["rules"][0]["goodput_frac"])
    assert regret["hindsight"]["chip_hours"] < regret["rule"]["chip_hours"] < regret["constant"]["chip_hours"]
    assert regret["known_rate"]["goodput_frac"] > regret["rule"]["goodput_frac"]
