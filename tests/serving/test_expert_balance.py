"""Redundant experts: copies, their placement, the imbalance that is left, and what a plan with them takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mowich
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.launch_settings import LaunchSettings
from mowich.plans.memory import weights_B
from mowich.plans.plan import ServePlan
from mowich.serving.expert_balance import busiest_over_mean, copies_of, expected_imbalance, placed_by_load
from mowich.serving.step import step
from mowich.studies.serving import Deployment, deploy
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()


def deployed(*redundant: int | None, ep: int = 8, on: str = "h200:8") -> Deployment:
    plans = [
        ServePlan(dp=ep, ep=ep, weights="fp8", kv="fp8", launch=LaunchSettings(redundant_experts=r)) for r in redundant
    ]
    return deploy(load_model("deepseek-v3"), resolve(FACTS, on), "sglang", plans, FACTS)


def test_every_expert_is_placed_and_ranks_hold_as_many_copies() -> None:
    """Loads, ranks and copies drawn: the next copy is of the expert whose copies have most to do, no rank holds more
    than its room, and no order of the checkpoint is better than the placement without copies by more than an expert."""
    rng = np.random.default_rng(0)
    for _ in range(80):
        ranks = int(rng.integers(2, 17))
        experts = ranks * int(rng.integers(1, 9))
        redundant = ranks * int(rng.integers(0, 4))
        load = rng.lognormal(0.0, 1.0, experts).tolist()
        copies = copies_of(load, redundant)
        assert sum(copies) == experts + redundant
        most = max(x / n for x, n in zip(load, copies, strict=True))
        assert all(n == 1 or x / (n - 1) >= most * (1 - 1e-12) for x, n in zip(load, copies, strict=True))
        place = placed_by_load(load, copies, ranks)
        assert {len(one) for one in place} == {(experts + redundant) // ranks}
        held = [i for one in place for i in one]
        assert sorted(held) == [i for i, n in enumerate(copies) for _ in range(n)]
        left = busiest_over_mean(load, copies, place)
        assert 1.0 - 1e-12 <= left <= 1.0 + most * ranks / sum(load) + 1e-9  # a greedy placement is one copy off


@pytest.mark.parametrize(("experts", "ranks"), [(256, 32), (128, 8), (96, 48)])
def test_more_redundant_experts_are_never_a_worse_imbalance(experts: int, ranks: int) -> None:
    """In expectation, for any skew; placing by load is better than the order of the checkpoint; equal experts need
    neither."""
    for skew in (0.4, 1.0, 2.0):
        left = [expected_imbalance(experts, ranks, ranks * k, skew, 0.2) for k in range(4)]
        before = expected_imbalance(experts, ranks, None, skew, 0.2)
        assert left[0] <= before * (1.0 + 1e-12)
        assert left == sorted(left, reverse=True), (skew, left)
        assert left[-1] < left[0] or skew < 1.0
    even = expected_imbalance(experts, ranks, None, 0.0, 0.0)
    assert even == pytest.approx(1.0)
    assert expected_imbalance(experts, 1, 32, 1.0, 0.2) == 1.0


@pytest.mark.parametrize(
    ("experts", "ranks", "redundant", "published", "slack"),
    [(256, 32, 32, 1.49, 0.15), (256, 72, 32, 2.54, 0.15), (384, 8, 0, 1.167, 0.05), (384, 8, 64, 1.244, 0.06)],
)
def test_published_gains_of_placing_by_load(
    experts: int, ranks: int, redundant: int, published: float, slack: float
) -> None:
    """SGLang's on 96 H100 (prompts, decodes) and ATOM's on 8 MI355X, whole steps, against the busiest rank before over
    after."""
    skew, drift = (FACTS.number(f"serving.experts.{name}") for name in ("skew", "drift"))
    before, after = (expected_imbalance(experts, ranks, r, skew, drift) for r in (None, redundant))
    assert before / after == pytest.approx(published, rel=slack)


def test_a_plan_with_copies_takes_their_memory_and_balances_the_ranks() -> None:
    d = deployed(None, 0, 32, 64)
    weights = weights_B(d.shapes)
    one_B = 58 * float(d.shapes.W_expert[0, 0]) / 8
    assert weights[1] == weights[0]
    assert (weights[2:] - weights[0]).tolist() == pytest.approx([32 * one_B, 64 * one_B], rel=1e-9)
    blocks = [d.blocks(i, 2048.0) for i in range(4)]
    assert blocks[0] == blocks[1] > blocks[2] > blocks[3]
    skew, drift = (FACTS.number(f"serving.experts.{name}") for name in ("skew", "drift"))
    expected = [expected_imbalance(256, 8, r, skew, drift) for r in (0, 32, 64)]
    assert d.costs.ep_imbalance[1:].tolist() == pytest.approx(expected, rel=1e-12)
    assert d.costs.ep_imbalance[0] == FACTS.number("serving.common.ep_imbalance")
    pause = FACTS.number("serving.experts.rebalance") / FACTS.number("serving.experts.rebalance_steps")
    assert (d.costs.step[1:] - d.costs.step[0]).tolist() == pytest.approx([pause] * 3)
    # of a full batch, which reads every expert: rows are balanced, and each copy is read
    parts = step(d.shapes, d.costs, n=0.0, context=0.0, prompt=16384.0)["experts"]
    assert parts[2] < parts[1]


def test_a_plan_says_nothing_of_copies_unless_it_is_asked() -> None:
    plan = ServePlan(dp=8, ep=8)
    assert "redundant_experts" not in plan.to_dict()
    asked = ServePlan(dp=8, ep=8, launch=LaunchSettings(redundant_experts=32))
    assert ServePlan.from_dict(asked.to_dict()) == asked
    assert str(asked).endswith("redundant_experts=32")


SCENARIO = """mowich: 1
model: deepseek-v3
on: h200:16
engine: sglang
plan: {dp: 16, ep: 16, weights: fp8, kv: fp8, redundant_experts: 32}
traffic: {rate: 2, requests: 10, prompt: 500, output: 20}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("redundant_experts: 32", "redundant_experts: 30", "ep=16 must divide 256 experts and 30 copies"),
        ("redundant_experts: 32", "redundant_experts: some", "s.yaml:5 plan.redundant_experts: not a value"),
        ("redundant_experts: 32", "redundant_expert: 32", "did you mean 'redundant_experts'?"),
        ("ep: 16", "ep: 1", "experts are not spread over ranks"),
        ("engine: sglang", "engine: trtllm", "trtllm has no such setting"),
    ],
)
def test_bad_copies_say_where(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    assert read_traffic(path, FACTS).inputs["plan"]["redundant_experts"] == 32  # type: ignore[index]
    path.write_text(SCENARIO.replace(old, new, 1))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert said in caught.value.line()


def test_a_dense_model_has_no_experts_to_place() -> None:
    job = {"isl": "1k", "osl": 100, "engine": "sglang"}
    with pytest.raises((UserError, UserErrors), match=r"has no experts to place") as caught:
        mowich.plan("llama-3.1-8b", "h100:2", serve=job, fixed={"redundant_experts": "8"})
    assert "fixed.redundant_experts" in caught.value.line()
