"""Loads that change with time, users who wait for answers, and replicas that follow the load."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.arrivals import draw, lengths
from mowich.serving.conversations import Conversations, pauses
from mowich.serving.rate_curve import RateCurve
from mowich.serving.traffic.autoscale import Autoscale, ScaledPool
from mowich.serving.traffic.policies import ROUTES, Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.studies.traffic import TrafficResult, simulate_traffic, traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def flat(step_s: float = 0.01, prompt_token_s: float = 1e-4) -> StepTimes:
    """A worker whose steps take `step_s`, and `prompt_token_s` more for each prompt token."""
    return StepTimes(
        tokens=[step_s + prompt_token_s * max(0, m - 1) for m in range(9000)],
        sampled=[0.0] * 500,
        per_context=1e-7,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def talks(**more: object) -> Conversations:
    given_: dict[str, object] = {
        "requests": 400,
        "prompt": lengths("uniform(50, 400)", ""),
        "output": lengths("uniform(1, 80)", ""),
        "turns": lengths("uniform(1, 5)", ""),
        "think": pauses("exponential(1 s)", ""),
        "users": 20,
        "block": 64,
    }
    return Conversations(**(given_ | more))  # type: ignore[arg-type]


def play(c: Conversations, route: str = "kv", replicas: int = 3, blocks: int = 2000) -> list[UserRequest]:
    """The answered requests, in order of their answers."""
    done: list[UserRequest] = []
    scheduler = Scheduler(budget=512, max_sequences=8, blocks=blocks, prefix_cache=True, hash_block=64)
    pool = [Replica(i, flat(), scheduler, on_done=done.append) for i in range(replicas)]
    given_ = list(ReplicaFleet(replicas=pool, route=route, follow=c.after).run(c.starts()))
    assert len(given_) == len(done)
    assert all(not r.load and not r.blocks_private and not r.queued_tokens for r in pool)
    return done


# rates along time
# ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.floats(0.1, 100.0), min_size=0, max_size=5),
    rates=st.lists(st.floats(0.0, 50.0), min_size=6, max_size=6),
    repeats=st.booleans(),
    at=st.floats(0.0, 400.0),
)
def test_a_curve_counts_what_it_brings(gaps: list[float], rates: list[float], repeats: bool, at: float) -> None:
    """`expected` is the integral of the rate, and `time_of` its inverse."""
    times = tuple(itertools.accumulate(gaps, initial=0.0))
    rates = [max(r, 0.01) for r in rates[: len(times)]]
    period = times[-1] + 3.0 if repeats else math.inf
    curve = RateCurve(times, tuple(rates), period)

    def until(end: float) -> float:
        """The integral within one period: exact, for the rate is straight between these points."""
        points = np.array(sorted({0.0, end, *(t for t in times if t < end)}))
        return float(np.trapezoid(np.interp(points, times, rates), points))

    laps = math.floor(at / period) if repeats else 0
    want = laps * until(period) + until(at - laps * period) if repeats else until(at)
    assert curve.expected(at) == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert curve.time_of(curve.expected(at)) == pytest.approx(at, abs=1e-6, rel=1e-9)


def test_arrivals_follow_the_curve() -> None:
    curve = RateCurve((0.0, 100.0, 200.0), (0.0, 40.0, 0.0), 200.0)
    out = list(draw(rate=curve, requests=10**6, prompt=lengths(9, ""), output=lengths(9, ""), until_s=400.0))
    at = np.array([r.arrival_s for r in out])
    assert np.all(np.diff(at) >= 0)
    assert at[-1] <= 400.0
    assert len(out) == pytest.approx(8000, rel=0.05)
    for start, want in ((0, 500), (50, 1500), (100, 1500), (150, 500), (200, 500)):
        assert np.sum((at >= start) & (at < start + 50)) == pytest.approx(want, rel=0.15)


# users who wait
# ----------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    route=st.sampled_from(ROUTES),
    replicas=st.integers(1, 4),
    blocks=st.integers(60, 900),
    users=st.integers(0, 30),
    shared=st.sampled_from([0, 128]),
)
def test_a_turn_comes_after_the_answer_before_it(
    seed: int, route: str, replicas: int, blocks: int, users: int, shared: int
) -> None:
    """Turns of a conversation come in order, each one after the last answer and a pause, with all that was said; no
    request is served before it comes, and the same questions are asked whatever the replicas are."""
    how = {"users": users} if users else {"users": 0, "rate": 8.0}
    c = talks(requests=120, seed=seed, shared_prefix=shared, longest=blocks * 16 // 2, **how)
    done = play(c, route, replicas, blocks)
    assert len(done) == 120
    by_talk: dict[int, list[UserRequest]] = {}
    for r in sorted(done, key=lambda r: r.turn):
        by_talk.setdefault(r.conversation, []).append(r)
        assert r.arrival_s <= r.scheduled_s < r.first_token_s <= r.last_token_s
    for turns in by_talk.values():
        assert [r.turn for r in turns] == list(range(len(turns)))
        for a, b in itertools.pairwise(turns):
            assert b.arrival_s >= a.last_token_s
            assert b.prompt > a.prompt + a.output
            assert b.hashes[: len(a.hashes)] == a.hashes
    other = play(talks(requests=120, seed=seed, shared_prefix=shared, longest=blocks * 16 // 2, **how), "kv", 4, 2000)
    asked = {(r.conversation, r.turn): (r.prompt, r.output) for r in other}
    assert all(asked.get((r.conversation, r.turn), (r.prompt, r.output)) == (r.prompt, r.output) for r in done)


@pytest.mark.share(2)
@pytest.mark.parametrize("route", ROUTES)
def test_users_are_either_inside_or_thinking(route: str) -> None:
    """N = X (R + Z), the law of a closed loop."""
    done = play(talks(requests=4000, users=30, think=pauses("exponential(2 s)", "")), route)
    span = max(r.last_token_s for r in done)
    inside = np.mean([r.last_token_s - r.arrival_s for r in done])
    assert len(done) / span * (inside + 2.0) == pytest.approx(30, rel=0.03)


def test_routes_that_know_the_cache_find_more_of_it() -> None:
    share = {}
    for route in ROUTES:
        done = play(talks(requests=2000), route, replicas=4)
        share[route] = sum(r.cached for r in done) / sum(r.prompt for r in done)
    assert share["kv"] > 1.3 * share["round-robin"]
    assert share["prefix"] > 1.3 * share["least-loaded"]


def test_an_answer_is_in_the_cache_of_the_next_turn() -> None:
    """One user: all blocks that were said are found again, those of the answer too."""
    done = play(talks(requests=50, users=1, output=lengths(200, ""), turns=lengths(5, "")), replicas=1)
    later = [r for r in done if r.turn]
    before = {(r.conversation, r.turn): r for r in done}
    for r in later:
        last = before[r.conversation, r.turn - 1]
        assert r.cached == (last.prompt + last.output) // 64 * 64


# Little's law
# ----------------------------------------------------------------------------------------------------------------------


def counted_inside(path: Path) -> float:
    """Mean number of requests inside, by going through the log of arrivals and last tokens in order of time."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    events = sorted([(float(r["arrival_s"]), 1) for r in rows] + [(float(r["last_token_s"]), -1) for r in rows])
    inside, area, last = 0, 0.0, events[0][0]
    for at, step in events:
        area += inside * (at - last)
        inside, last = inside + step, at
    assert inside == 0
    return area / (events[-1][0] - events[0][0])


BASE = "mowich: 1, model: llama-3.1-8b, plan: {{tp: 1}}, on: 'h200:{chips}', route: {route}, "
LOADS = (
    "{{rate: {rate}, requests: {n}, prompt: 'lognormal(500, p95 3k)', output: 'exponential(100)', seed: {seed}}}",
    "{{rate: {rate}, requests: {n}, arrivals: gamma, cv: 2, prompt: 800, output: 100, seed: {seed}}}",
    "{{rate: {{0 s: {rate}, 20 s: 1}}, period: 30 s, requests: {n}, prompt: 800, output: 100, seed: {seed}}}",
    "{{users: {users}, requests: {n}, prompt: 800, output: 'uniform(1, 200)', seed: {seed}}}",
    "{{users: {users}, turns: 3, think: 3 s, ramp_up: 5 s, requests: {n}, prompt: 400, output: 80, seed: {seed}}}",
    "{{rate: {rate}, turns: 'uniform(1, 4)', think: 1 s, requests: {n}, prompt: 400, output: 80, seed: {seed}}}",
)
KINDS = (
    "",
    "scheduler: {prefix_cache: true, hash_block: 128}, ",
    "scheduler: {kv_blocks: 700}, ",
    "autoscale: {least: 1, most: 3, inside: 6, every: 2 s, start: 5 s, hold: 6 s}, ",
    "disaggregated: {prefill: 1, decode: 2}, ",
    "speculation: {accepted: 2.1}, ",
    "front_end: false, ",
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    load_=st.sampled_from(LOADS),
    kind=st.sampled_from(KINDS),
    route=st.sampled_from(ROUTES),
    rate=st.integers(1, 30),
    users=st.integers(1, 60),
    n=st.integers(20, 120),
    seed=st.integers(0, 99),
)
def test_littles_law_holds_in_every_traffic(
    tmp_path_factory: pytest.TempPathFactory,
    load_: str,
    kind: str,
    route: str,
    rate: int,
    users: int,
    n: int,
    seed: int,
) -> None:
    """Requests inside = requests per second x time of a request, where the requests inside are counted in the log."""
    log = tmp_path_factory.mktemp("littles") / "requests.csv"
    words = BASE.format(chips=3, route=route) + kind
    text = "{" + words + "traffic: " + load_.format(rate=rate, users=users, n=n, seed=seed) + "}"
    result = simulate_traffic(read_traffic(text, FACTS), FACTS, requests_out=log)
    assert result.completed == result.requests == n
    assert result.e2e_s["mean"] is not None
    assert result.in_flight == pytest.approx(result.requests_per_s * result.e2e_s["mean"], rel=1e-9)
    assert result.in_flight == pytest.approx(counted_inside(log), rel=1e-4)
    assert result.requests_per_s == pytest.approx(result.completed / result.makespan_s)


# replicas that come and go
# ----------------------------------------------------------------------------------------------------------------------


def test_a_new_replica_serves_after_its_delay_and_leaves_when_it_is_empty() -> None:
    rule = Autoscale(least=1, most=3, inside=2, every_s=1.0, start_s=5.0, hold_s=4.0)
    pool = [Replica(i, flat(0.1, 0.0), Scheduler(max_sequences=4)) for i in range(3)]
    scaled = ScaledPool(rule=rule, replicas=pool)
    burst = [UserRequest(str(i), 0.1 * i, 10, 50) for i in range(40)]
    late = [UserRequest(str(40 + i), 60.0 + 2.0 * i, 10, 5) for i in range(30)]
    list(ReplicaFleet(replicas=pool, scaled=scaled, route="least-loaded").run([*burst, *late]))
    first_on = {i: min(r.scheduled_s for r in burst if r.replica == i) for i in {r.replica for r in burst}}
    assert scaled.orders == 2
    assert all(first_on[i] >= 6.0 for i in (1, 2) if i in first_on)  # ordered at 1 s at the soonest
    assert {r.replica for r in late[15:]} == {0}
    end = max(r.last_token_s for r in late)
    assert end < scaled.paid_until(end) < 3.0 * end
    assert set(scaled.since) == {0}


def test_a_quicker_start_never_hurts_the_tail_and_fewer_replicas_cost_less() -> None:
    """Of one burst: a delay costs users time, a pool that follows the load costs less than one that is always there."""
    text = (
        "{mowich: 1, model: llama-3.1-8b, on: 'h100:3', plan: {tp: 1}, route: least-loaded, traffic: {rate: {0 s: 1,"
        " 60 s: 1, 61 s: 20, 120 s: 20, 121 s: 1}, duration: 300 s, prompt: 2000, output: 300}, %s}"
    )
    rule = "autoscale: {least: 1, most: 3, inside: 20, every: 5 s, start: %s, hold: 20 s}"
    found: dict[str, TrafficResult] = {
        name: simulate_traffic(read_traffic(text % words, FACTS), FACTS)
        for name, words in (("fixed", "replicas: 3"), ("quick", rule % "1 s"), ("slow", rule % "40 s"))
    }
    p99 = {name: r.ttft_s["p99"] or 0.0 for name, r in found.items()}
    assert p99["fixed"] <= p99["quick"] < p99["slow"]
    assert found["quick"].chips_mean < 0.8 * found["fixed"].chips_mean == 0.8 * 3
    assert (found["quick"].usd_per_mtok or 0.0) < (found["fixed"].usd_per_mtok or 0.0)
    assert found["quick"].scale_ups >= 2
    assert found["fixed"].scale_ups == 0


@pytest.mark.slow
def test_the_day_that_ships_follows_its_load() -> None:
    """A day with autoscaling: replicas are ordered and go, and the service keeps its promise at a part of the chips."""
    result = traffic(TrafficRequest(facts=FACTS, scenario=SCENARIOS / "day-autoscaled.yaml", draws=0))
    assert result.completed == result.requests > 40_000
    assert result.makespan_s == pytest.approx(86_400, rel=0.01)
    assert result.scale_ups >= 3
    assert 2.0 < result.chips_mean < 4.0 < result.chips == 8
    assert result.goodput_frac is not None
    assert result.goodput_frac > 0.99
    assert result.cached_frac > 0.5


# scenarios
# ----------------------------------------------------------------------------------------------------------------------

GOOD = """mowich: 1
model: llama-3.1-8b
on: h100:2
traffic: {rate: 2, requests: 20, prompt: 500, output: 50}
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("rate: 2", "rate: 2, users: 3", "traffic.users: give either a rate or users"),
        ("rate: 2, ", "", "traffic.rate is missing"),
        ("rate: 2", "users: none", "traffic.users: not a count"),
        ("rate: 2", "rate: {10 s: 2}", "traffic.rate: times begin at 0 s and rise"),
        ("rate: 2", "rate: {0 s: 2, 1 apple: 3}", "unknown unit 'apple'"),
        ("rate: 2", "rate: {0 s: 0}", "traffic.rate: is 0 at all times"),
        ("rate: 2", "rate: {0 s: 2, 20 s: 0}, period: 10 s", "traffic.period: is before the last time"),
        ("rate: 2", "rate: {0 s: 1, 10 s: 0}", "traffic.requests: more requests than the rate brings"),
        ("rate: 2", "rate: 2, period: 1 h", "traffic.period: needs a rate along time"),
        ("rate: 2", "rate: 2, think: 3 s", "traffic.think: needs users or turns"),
        ("rate: 2", "users: 2, think: soon", "traffic.think: not a quantity"),
        ("rate: 2", "users: 2, arrivals: gamma", "traffic.arrivals: is not for conversations"),
        ("rate: 2", "rate: 2, counted: {from: 10 s, to: 5 s}", "traffic.counted.to: must be after from"),
        ("rate: 2, requests: 20", "users: 2, duration: 20 s", "traffic.requests is missing"),
        (
            "traffic",
            "autoscale: {least: 2, most: 1, inside: 4, every: 9 s, start: 9 s, hold: 9 s}\ntraffic",
            "is below least",
        ),
        (
            "traffic",
            "autoscale: {least: 1, most: 2, inside: 4, every: 9 s, start: 9 s}\ntraffic",
            "autoscale.hold is missing",
        ),
        ("traffic", "speculation: {draft: llama-3.1-8b, tokens: 4}\ntraffic", "speculation.acceptance is missing"),
        (
            "traffic",
            "speculation: {draft: lama, tokens: 4, acceptance: 0.7}\ntraffic",
            "speculation.draft: unknown model",
        ),
        ("traffic", "speculation: {tokens: 4}\ntraffic", "speculation.tokens: needs a draft model"),
        ("traffic", "route: nearest\ntraffic", "route: unknown route 'nearest'"),
    ],
)
def test_bad_loads_say_where(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert complaint in str(caught.value), caught.value
    assert "s.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)
