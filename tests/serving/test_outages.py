"""Replicas that go, lost or drained: no request is lost or answered twice, and what each way out of it costs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compiled_code
from drawn_loads import drawn_load
from drawn_traffic import DrawnWay
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.arrivals import draw, lengths
from mowich.serving.traffic.adapters import AdapterCosts
from mowich.serving.traffic.autoscale import Autoscale, ScaledPool
from mowich.serving.traffic.compiled import TRAFFIC_LIBRARY
from mowich.serving.traffic.outages import RECOVERIES, Chance, Failure, Recovery, drawn_failures, rolling
from mowich.serving.traffic.policies import ROUTES, Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.studies.explain import Explainer, tree
from mowich.studies.traffic import traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
TIMES = StepTimes(
    tokens=[0.01 + 1e-5 * m for m in range(400)],
    sampled=[1e-4] * 40,
    per_context=1e-6,
    windows=(),
    prefill_step=0.0,
    pair=1e-8,
    window_pairs=(),
    kv_B=1.0,
)


ADAPTERS = AdapterCosts(slots=2, host=3, fixed_s=1e-3, each_s=1e-3, token_s=1e-6, load_s=5e-3, read_s=2e-2)


def played(
    requests: list[UserRequest], scheduler: Scheduler, *, replicas: int = 2, decoders: int = 0, **fleet: Any
) -> tuple[list[UserRequest], list[Replica]]:
    """(the requests in the order in which they were answered, the replicas)."""
    done: list[UserRequest] = []
    times = replace(TIMES, adapters=fleet.pop("adapters", None))
    pool = [Replica(i, times, scheduler, on_done=done.append) for i in range(replicas)]
    behind = [Replica(i, times, scheduler, on_done=done.append) for i in range(decoders)]
    if fleet.pop("scales", False):
        rule = Autoscale(least=1, most=replicas, inside=4, every_s=0.5, start_s=0.3, hold_s=1.0)
        fleet["scaled"] = ScaledPool(rule=rule, replicas=pool)
    list(ReplicaFleet(replicas=pool, decoders=behind, transfer_s=lambda n: n * 1e-5, **fleet).run(requests))
    return done, [*pool, *behind]


def follow_up(request: UserRequest) -> list[UserRequest]:
    if request.turn == 2:
        return []
    more = UserRequest(f"{request.id}+", request.last_token_s + 0.1, request.prompt + 10, request.output)
    more.turn, more.adapter = request.turn + 1, request.adapter
    return [more]


def test_no_request_is_lost_or_answered_twice() -> None:
    """Whatever goes, however it is drained, found, moved, routed and scaled, drawn."""
    felt = moved = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)

        def some(*of: Any, rng: np.random.Generator = rng) -> Any:
            return of[int(rng.integers(len(of)))]

        asked = drawn_load(
            rng, seed, rate=some(5.0, 20.0), requests=30, prompt="uniform(8, 200)", output="uniform(1, 60)"
        )
        for one in asked:
            one.adapter = int(rng.integers(-1, 6))
        follow = some(None, None, follow_up)
        decoders = some(0, 0, 1, 2)
        replicas = some(1, 2, 3)
        of = decoders or replicas
        failures = [
            Failure(
                at_s=float(rng.uniform(0, 3)),
                replica=int(rng.integers(of)),
                down_s=some(0.2, 1.0),
                drain_s=some(None, 0.0, 0.3, 5.0),
            )
            for _ in range(int(rng.integers(5)))
        ]
        if some(0, 0, 1):
            failures += rolling(of, at_s=0.5, each_s=some(0.1, 1.0), drain_s=some(0.1, 2.0), down_s=0.5)
        chance = Chance(mtbf_s=some(1.0, 5.0), down_s=0.3, seed=seed) if some(0, 0, 1) else None
        done, everyone = played(
            asked,
            Scheduler(
                budget=64,
                max_sequences=8,
                blocks=some(45, 300),
                policy=some("fcfs", "priority"),
                preemption=some("recompute", "swap"),
                host_Bps=1e5,
                prefix_cache=some(True, False),
                hash_block=32,
                accepted=some(1.0, 1.7),
                verified=2.0,
            ),
            replicas=replicas,
            decoders=decoders,
            route=some(*ROUTES),
            failures=tuple(failures),
            chance=chance,
            recovery=Recovery(
                detect_s=some(0.0, 0.0, 0.1, 2.0),
                retry_s=some(0.0, 0.2),
                moves=some(*RECOVERIES),
                way=DrawnWay(kept=((1.0, math.inf),), token_s=1e-4, state_s=0.0, latency_s=0.0),
            ),
            follow=follow,
            adapters=some(None, None, ADAPTERS),
            scales=not decoders and some(False, False, True),
        )
        expected = {r.id + "+" * k for r in asked for k in range(1 if follow is None else 3)}
        assert sorted(r.id for r in done) == sorted(expected), seed
        for r in done:
            assert r.arrival_s <= r.scheduled_s <= r.first_token_s <= r.last_token_s, seed
            assert r.output == 1 or r.last_token_s > r.first_token_s, seed
        for one in everyone:
            assert one.adapters is None or not one.adapters.active, seed
            assert (one.load, one.blocks_private, one.cache.used_blocks, one._used(one.D)) == (0, 0, 0, 0), seed
        felt += sum(r.failures for r in done)
        moved += sum(r.moves for r in done)
    assert felt > 300
    assert moved > 300


def load(n: int = 120) -> list[UserRequest]:
    return list(draw(rate=30.0, requests=n, prompt=lengths("uniform(8, 100)", ""), output=lengths(40, ""), seed=2))


PLAIN = Scheduler(budget=128, max_sequences=16, blocks=2000)


@pytest.mark.parametrize("route", ROUTES)
def test_a_drain_with_a_long_deadline_loses_no_token(route: str) -> None:
    """No prompt is read twice and no step repeats a token; the drained replica takes nothing until it is back."""
    drain = Failure(at_s=1.0, replica=0, down_s=0.5, drain_s=600.0)
    done, pool = played(load(), PLAIN, route=route, failures=(drain,))
    assert sum(r.failures + r.moves + r.preemptions for r in done) == 0
    assert sum(r.prompt_tokens for r in pool) == sum(r.prompt for r in done)
    mine = sorted(r.scheduled_s for r in done if r.replica == 0)
    gap = max(b - a for a, b in itertools.pairwise(mine))
    assert gap > 0.5  # its last answers, and the time that it is down
    assert mine[-1] > 2.0  # and it is back at once, not after the deadline


def test_a_short_deadline_moves_the_rest() -> None:
    """With their caches: no prompt is read again; by replay only what was read is; from the start, most is."""
    read = {}
    for moves in RECOVERIES:
        drain = Failure(at_s=1.0, replica=0, down_s=0.5, drain_s=0.05)
        done, pool = played(load(), PLAIN, failures=(drain,), recovery=Recovery(moves=moves))
        again = [r for r in done if r.failures or r.moves]
        assert again
        assert all(bool(r.failures) == (moves == "restart") for r in again)
        read[moves] = sum(r.prompt_tokens for r in pool)
        last = max(r.last_token_s for r in again)
        read[moves, "last"] = last
    asked = sum(r.prompt for r in load())
    assert asked <= read["cache"] < read["replay"]
    assert read["cache", "last"] <= read["replay", "last"] <= read["restart", "last"]


def test_the_router_sends_to_a_lost_replica_until_it_is_found() -> None:
    """Each second until detection costs more requests a try; a replica that is known to be down gets none."""
    lost = []
    for detect_s in (0.0, 0.5, 2.0, 9.0):
        failure = Failure(at_s=1.0, replica=0, down_s=3.0)
        done, _ = played(load(), PLAIN, failures=(failure,), recovery=Recovery(detect_s=detect_s))
        lost.append(sum(r.failures for r in done))
        seen_s = 1.0 + min(detect_s, 3.0)
        assert not [r for r in done if r.replica == 0 and 1.05 < r.scheduled_s < 4.0]
        assert all(r.last_token_s > seen_s for r in done if r.failures)
    assert lost == sorted(lost)
    assert lost[0] < lost[1] < lost[2]
    assert lost[3] >= lost[2]


def test_failures_by_chance_have_their_mean_and_depend_on_the_seed() -> None:
    some = list(itertools.islice(drawn_failures(4, Chance(mtbf_s=100.0, down_s=10.0, seed=1)), 4000))
    assert [f.at_s for f in some] == sorted(f.at_s for f in some)
    assert some[-1].at_s / (len(some) / 4) == pytest.approx(110.0, rel=0.05)
    other = next(drawn_failures(4, Chance(mtbf_s=100.0, down_s=10.0, seed=2)))
    assert other.at_s != some[0].at_s
    alone = [f.at_s for f in itertools.islice(drawn_failures(1, Chance(mtbf_s=100.0, down_s=10.0, seed=1)), 5)]
    assert alone == [f.at_s for f in some if f.replica == 0][:5]


def test_a_rolling_update_of_a_pool_with_room_is_hardly_felt() -> None:
    """Drained one by one with time to answer, nobody starts again; all lost at once, many do."""
    update = rolling(3, at_s=0.5, each_s=2.0, drain_s=1.5, down_s=0.3)
    asked = load(200)
    done, _ = played(asked, PLAIN, replicas=3, failures=update)
    assert sum(r.failures for r in done) == 0
    at_once = tuple(Failure(at_s=0.5, replica=i, down_s=0.3) for i in range(3))
    lost, _ = played(load(200), PLAIN, replicas=3, failures=at_once)
    assert sum(r.failures for r in lost) > 5


# scenarios
# ----------------------------------------------------------------------------------------------------------------------

SCENARIO = """mowich: 1
model: llama-3.1-8b
on: h100:2
engine: vllm
plan: {tp: 1, weights: bf16}
route: least-loaded
traffic: {rate: 8, requests: 80, prompt: 500, output: 100}
failures:
  one: {at: 3 s, replica: 0, down: 2 s, drain: 100 ms}
  rolling: {at: 6 s, each: 1 s, drain: 500 ms, down: 100 ms}
  mtbf: 20 s
  down: 1 s
  detect: 500 ms
  moves: replay
"""


def test_every_number_of_outages_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    result = traffic(TrafficRequest(facts=FACTS, scenario=path, draws=1)).to_dict()
    felt = result["disturbed"]
    assert felt["requests"] == round(felt["frac"] * result["counted"]) > 0  # type: ignore[index]
    explainer = Explainer(result, FACTS)
    for where in [("disturbed",), ("inputs", "failures")]:
        for found in tree.numbers(result):
            if found[: len(where)] == where:
                told = explainer.at(found, sensitivity=False)
                assert told.formula or told.words, found
    assert "failures" in read_traffic(path, FACTS).inputs


def test_facts_give_the_rate_of_failures(tmp_path: Path) -> None:
    """Of all chips of a replica together."""
    path = tmp_path / "s.yaml"
    means = []
    for tp in (1, 2):
        path.write_text(
            SCENARIO.split("failures:")[0].replace("tp: 1", f"tp: {tp}") + "failures: {mtbf: facts, down: 10 min}\n"
        )
        chance = read_traffic(path, FACTS).outages.chance
        assert chance is not None
        means.append(chance.mtbf_s)
    assert means[0] == pytest.approx(2 * means[1])
    rates = [FACTS.number(f"reliability.components.{x}") for x in ("accelerator", "host", "network", "software")]
    assert means[0] == pytest.approx(1.0 / sum(rates))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("replica: 0", "replica: 2", "no such replica"),
        ("drain: 100 ms", "drian: 100 ms", "did you mean 'drain'?"),
        ("drain: 100 ms", "drain: 5", "s.yaml:9 failures.one.drain"),
        ("each: 1 s, ", "", "s.yaml:10 failures.rolling: failures.rolling.each is missing"),
        ("  down: 1 s\n", "", "failures.down is missing"),
        ("  mtbf: 20 s\n", "", "failures.down: goes with failures by chance"),
        ("mtbf: 20 s", "mtbf: often", "s.yaml:11 failures.mtbf"),
        ("moves: replay", "moves: reply", "did you mean 'replay'?"),
        ("moves: replay", "moves: replay\n  retry: 1 s", "s.yaml:15 failures.retry: goes with users who ask again"),
        ("detect: 500 ms", "detect: -1 s", "s.yaml:13 failures.detect"),
        ("  one: {", "  one: 3\n  two: {", "s.yaml:9: failures.one is a mapping"),
    ],
)
def test_bad_outages_say_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace(old, new, 1))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert said in caught.value.line()


@pytest.mark.parametrize("code", ["python", "compiled"])
def test_a_request_that_is_never_answered_between_failures_is_said(
    tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == "compiled" and not compiled_code.available(TRAFFIC_LIBRARY):
        pytest.skip("no C compiler")
    monkeypatch.setenv(TRAFFIC_LIBRARY.variable, code)
    path = tmp_path / "s.yaml"
    text = SCENARIO.split("failures:")[0].replace("output: 100", "output: 2000").replace("requests: 80", "requests: 2")
    path.write_text(text + "failures: {mtbf: 500 ms, down: 1 ms}\n")
    with pytest.raises(UserError, match="has lost its replica 1000 times") as caught:
        traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0))
    assert "s.yaml" in caught.value.line()
    path.write_text(text + "failures: {mtbf: 2 s, down: 1 ms, moves: replay}\n")  # a part of an answer is kept
    assert traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0)).completed == 2
