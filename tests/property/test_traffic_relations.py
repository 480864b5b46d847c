"""What must hold of any traffic, whatever its numbers: relations of one run with itself, and of two runs that differ in
one thing and share their draws.

A scheduler is no monotone machine: one prompt more in a step may let another one wait. So a pair of runs may break a
relation by `NOISE` of a mean, and no more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mowich.facts import load_facts
from mowich.studies.traffic import TrafficResult, simulate_traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
NOISE = 0.02
"""Share of a mean."""
Scenario = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A scenario of one seed, and more choices of it."""

    scenario: Scenario
    rng: np.random.Generator

    def one(self, *of: Any) -> Any:
        return of[int(self.rng.integers(len(of)))]

    def with_traffic(self, **traffic: object) -> Scenario:
        return {**self.scenario, "traffic": {**self.scenario["traffic"], **traffic}}

    def with_scheduler(self, **scheduler: object) -> Scenario:
        return {**self.scenario, "scheduler": {**self.scenario["scheduler"], **scheduler}}


def drawn(seed: int) -> Drawn:
    rng = np.random.default_rng(seed)
    d = Drawn({}, rng)
    prompt, output = int(rng.integers(50, 900)), int(rng.integers(4, 120))
    replicas = d.one(1, 1, 2, 3)
    scenario = {
        "mowich": 1,
        "model": "llama-3.1-8b",
        "on": "h100:4",
        "engine": d.one("vllm", "vllm", "sglang", "trtllm"),
        "plan": {"weights": d.one("bf16", "fp8")},
        "replicas": replicas,
        "route": d.one("least-loaded", "least-loaded", "round-robin"),
        "scheduler": {
            "max_num_seqs": d.one(8, 32, 128),
            "max_num_batched_tokens": d.one(512, 2048, 8192),
            "kv_blocks": int((1.5 * prompt + 2.0 * output) / 16 * d.one(4, 12, 40)),
        },
        "traffic": {
            "rate": round(replicas * float(rng.uniform(1.0, 25.0)), 3),
            "requests": 120,
            "prompt": f"uniform({prompt // 2}, {3 * prompt // 2})",
            "output": f"uniform({max(1, output // 2)}, {3 * output // 2})",
            "seed": seed,
        },
    }
    return replace(d, scenario=scenario)


def played(scenario: Scenario) -> TrafficResult:
    return simulate_traffic(read_traffic(json.dumps(scenario), FACTS), FACTS)


def mean(result: TrafficResult, name: str) -> float:
    value = getattr(result, name)["mean"]
    return float(value) if value is not None else 0.0


def not_less(more: float, less: float) -> bool:
    return more >= less * (1.0 - NOISE) - 1e-9


def marks_are_in_order(d: Drawn) -> bool:
    found = played(d.scenario)
    marks = [found.ttft_s, found.tpot_s, found.e2e_s, found.queue_s]
    ordered = [(m["p50"], m["p90"], m["p99"]) for m in marks if m["mean"] is not None]
    positive = all((m["mean"] or 0.0) >= 0.0 for m in marks)
    return positive and all((a or 0.0) <= (b or 0.0) <= (c or 0.0) for a, b, c in ordered)


def times_add_up(d: Drawn) -> bool:
    """The whole request is at least its first token, and this at least its wait."""
    found = played(d.scenario)
    return mean(found, "queue_s") <= mean(found, "ttft_s") * (1 + 1e-9) <= mean(found, "e2e_s") * (1 + 1e-9)


def little(d: Drawn) -> bool:
    found = played(d.scenario)
    return math.isclose(found.in_flight, found.requests_per_s * mean(found, "e2e_s"), rel_tol=1e-9)


def nothing_is_lost(d: Drawn) -> bool:
    found = played(d.scenario)
    fixed = played(d.with_traffic(prompt=300, output=7))
    tokens = fixed.tokens_per_s_per_chip * fixed.chips * fixed.makespan_s
    return found.completed == found.requests == 120 and math.isclose(tokens, 7 * 120, rel_tol=1e-9)


def nobody_works_more_than_always(d: Drawn) -> bool:
    return 0.0 < played(d.scenario).utilisation <= 1.0 + 1e-9


def windows_add_up(d: Drawn) -> bool:
    """The requests of two windows that follow each other are those of both."""
    half = 60 / d.scenario["traffic"]["rate"]
    windows = [("0 s", f"{half} s"), (f"{half} s", "1000000 s")]
    parts = [played(d.with_traffic(counted={"from": a, "to": b})).counted for a, b in windows]
    return sum(parts) == 120


def looser_limits_keep_more(d: Drawn) -> bool:
    def good(times: float) -> float:
        slo = {"ttft": f"{0.2 * times} s", "tpot": f"{0.02 * times} s"}
        return played({**d.scenario, "slo": slo}).goodput_frac or 0.0

    few, more, most = good(0.5), good(1.0), good(1e4)
    return few <= more <= most == 1.0


def more_load_is_not_faster(d: Drawn) -> bool:
    rate = d.scenario["traffic"]["rate"]
    return not_less(mean(played(d.with_traffic(rate=2.0 * rate)), "e2e_s"), mean(played(d.scenario), "e2e_s"))


def more_memory_does_no_harm(d: Drawn) -> bool:
    small, large = played(d.scenario), played(d.with_scheduler(kv_blocks=4 * d.scenario["scheduler"]["kv_blocks"]))
    return large.preemptions <= small.preemptions and not_less(mean(small, "e2e_s"), mean(large, "e2e_s"))


def longer_prompts_come_not_earlier(d: Drawn) -> bool:
    wide = d.with_scheduler(kv_blocks=20_000)["scheduler"]

    def first(tokens: int) -> float:
        return mean(played({**d.with_traffic(prompt=tokens), "scheduler": wide}), "ttft_s")

    tokens = d.one(64, 500, 2000)
    return not_less(first(2 * tokens), first(tokens))


def longer_answers_end_not_earlier(d: Drawn) -> bool:
    wide = d.with_scheduler(kv_blocks=20_000)["scheduler"]

    def end(tokens: int) -> float:
        return mean(played({**d.with_traffic(output=tokens), "scheduler": wide}), "e2e_s")

    tokens = d.one(2, 20, 80)
    return not_less(end(2 * tokens), end(tokens))


def more_replicas_are_not_slower(d: Drawn) -> bool:
    few = {**d.scenario, "route": "least-loaded"}
    more = {**few, "replicas": d.scenario["replicas"] + 1}
    return not_less(mean(played(few), "e2e_s"), mean(played(more), "e2e_s"))


def faster_steps_are_not_slower(d: Drawn) -> bool:
    usual = read_traffic(json.dumps(d.scenario), FACTS)
    quick = replace(usual, serve=replace(usual.serve, times=usual.serve.times.scaled(-0.1)))
    return not_less(mean(simulate_traffic(usual, FACTS), "e2e_s"), mean(simulate_traffic(quick, FACTS), "e2e_s"))


def more_of_a_prefix_is_not_later(d: Drawn) -> bool:
    """Prompts that share their beginning, with a cache and without."""
    shared = {**d.with_traffic(prompt=800, shared_prefix=640), "route": "round-robin"}
    cache = {"kv_blocks": 20_000, "hash_block": 64}
    off, on = (
        played({**shared, "scheduler": {**d.scenario["scheduler"], **cache, "prefix_cache": kept}})
        for kept in (False, True)
    )
    return on.cached_frac > off.cached_frac == 0.0 and not_less(mean(off, "ttft_s"), mean(on, "ttft_s"))


def more_in_host_memory_hits_not_less(d: Drawn) -> bool:
    """Users in turns, whose blocks come back from host memory."""
    talks = {
        "users": 6,
        "requests": 60,
        "turns": 4,
        "think": "2 s",
        "prompt": 128,
        "output": 32,
        "seed": d.scenario["traffic"]["seed"],
    }
    cache = {"kv_blocks": 120, "prefix_cache": True, "hash_block": 32, "host_bandwidth": "50 GB/s"}
    one = {**d.scenario, "replicas": 1, "traffic": talks}
    hits = [
        played({**one, "scheduler": {**d.scenario["scheduler"], **cache, "host_blocks": blocks}}).cached_frac
        for blocks in (0, 40, 4000)
    ]
    return not_less(hits[1], hits[0]) and not_less(hits[2], hits[1])


RELATIONS: tuple[Callable[[Drawn], bool], ...] = (
    marks_are_in_order,
    times_add_up,
    little,
    nothing_is_lost,
    nobody_works_more_than_always,
    windows_add_up,
    looser_limits_keep_more,
    more_load_is_not_faster,
    more_memory_does_no_harm,
    longer_prompts_come_not_earlier,
    longer_answers_end_not_earlier,
    more_replicas_are_not_slower,
    faster_steps_are_not_slower,
    more_of_a_prefix_is_not_later,
    more_in_host_memory_hits_not_less,
)


def violated(relation: Callable[[Drawn], bool], seeds: range) -> list[int]:
    """The seeds whose traffic breaks it."""
    return [seed for seed in seeds if not relation(drawn(seed))]


@pytest.mark.share(3)
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_holds_of_a_few_drawn_traffics(relation: Callable[[Drawn], bool]) -> None:
    assert violated(relation, range(8)) == []


@pytest.mark.slow
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_holds_of_many_drawn_traffics(relation: Callable[[Drawn], bool]) -> None:
    """A thousand in all."""
    assert violated(relation, range(100, 167)) == []
