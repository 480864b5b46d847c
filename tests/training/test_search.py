"""The search is exact: the plan that it returns is the best of all legal plans evaluated one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models import load_model
from mowich.models.model import Model, as_trained
from mowich.plans.enumerate import every_dp, legal_plans
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob, parse_fixed
from mowich.software.stack import equip
from mowich.training import narrow
from mowich.training.floor import floor_of, least, least_between, least_of_any, with_traffic
from mowich.training.search import Bounds, Whole, search, step_s_per_token
from mowich.training.step import micro_batches_of, predict_step

CASES = [
    pytest.param("llama-3.1-8b", "h100:16", 64, {"cp": "1", "micro_batch": "1,2"}, marks=pytest.mark.slow),
    ("llama-3.1-8b", "ironwood:8", 64, {"cp": "1", "micro_batch": "4", "precision": "fp8"}),
    pytest.param(
        *("llama-3.1-8b", "ironwood:8", 64),
        {"cp": "1", "micro_batch": "1,4", "precision": "fp8"},
        marks=pytest.mark.slow,
    ),
    ("llama-3.1-8b", "h100:64", 64, {"cp": "1", "micro_batch": "1,2", "zero": "3", "precision": "bf16"}),
    pytest.param(
        *("mixtral-8x7b", "trn2:64", 128),
        {"cp": "1", "micro_batch": "1", "tp": "1,4", "pp": "1,4", "precision": "bf16"},
        marks=pytest.mark.slow,
    ),
]


def brute_force(model: Model, system: System, job: TrainJob, fixed: dict[str, str]) -> list[tuple[float, float, str]]:
    """(seconds per token, bytes, plan) of every legal plan that fits, each evaluated alone, fastest first; of those
    that differ in dp alone the fastest."""
    found: dict[Plan, tuple[float, float, str]] = {}
    largest = legal_plans(model, system, job, parse_fixed(fixed)).plans
    dp, of = every_dp(system, job, largest, np.ones(len(largest)))
    for plan in replace(largest.take(of), dp=dp):
        one = Plans.of([plan])
        need = float(sum(v[0] for v in memory_B(model, system, job, one, micro_batches_of(job, one)).values()))
        if need <= system.hbm_usable_B:
            step = predict_step(model, system, job, plan)
            rest, this = replace(plan, dp=1), (step.total_s / step.tokens, need, str(plan))
            found[rest] = min(found.get(rest, this), this)
    return sorted(found.values())


@pytest.mark.share(2)
@pytest.mark.parametrize(("name", "spec", "batch", "fixed"), CASES)
def test_search_equals_brute_force(facts: Facts, name: str, spec: str, batch: int, fixed: dict[str, str]) -> None:
    model, system = as_trained(load_model(name)), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    every = brute_force(model, system, job, fixed)
    found = search(model, system, job, fixed=parse_fixed(fixed), top=3)
    assert found.evaluated >= found.feasible >= len(every) > 10
    assert found.best[0].seconds_per_token == pytest.approx(every[0][0], rel=1e-12)
    assert str(found.best[0].plan) in {plan for time, _, plan in every if time <= every[0][0] * (1 + 1e-9)}
    times = [c.seconds_per_token for c in found.best]
    assert times == pytest.approx([time for time, _, _ in every[:3]], rel=1e-12)
    assert all(sum(c.memory_B.values()) <= system.hbm_usable_B for c in found.best)


def test_few_sequences_for_many_chips_are_searched_as_one_by_one(facts: Facts) -> None:
    """Where the best dp is far below the largest: the bounds must not leave it out. On a torus smaller degrees run on
    smaller slices."""
    for name, spec in (("llama-3.1-8b", "h100:256"), ("llama-3.1-8b", "tpu-v5p:200")):
        model, system = as_trained(load_model(name)), equip(facts, spec)
        job = TrainJob(tokens=1e12, seq=2048, batch_seqs=30)
        fixed = {
            "precision": "bf16",
            "recompute": "none,full",
            "micro_batch": "1,2",
            "cp": "1,4",
            "tp": "1,4",
            "pp": "1,2,8",
            "vpp": "1,2",
        }
        every = brute_force(model, system, job, fixed)
        found = search(model, system, job, fixed=parse_fixed(fixed), top=5)
        assert [c.seconds_per_token for c in found.best] == pytest.approx(
            [time for time, _, _ in every[:5]], rel=1e-12, abs=0.0
        )
        assert search(model, system, job, fixed=parse_fixed(fixed)).best[0].plan == found.best[0].plan


@pytest.mark.parametrize(
    ("name", "spec", "batch", "fixed"),
    [
        ("llama-3.1-8b", "h100:512", 300, {"schedule": "all", "order": "all"}),
        ("llama-3.1-8b", "tpu-v5p:300", 300, {"zero": "0,1,2,3"}),
        ("mixtral-8x7b", "h100:512", 384, {"zero": "1,2,3", "shards": "0,4,8,48"}),
        ("qwen3-30b-a3b", "trn2:128", 256, {"zero": "1,3"}),
        ("deepseek-v3", "ironwood:12000", 2048, {"micro_batch": "1,2"}),
    ],
)
def test_no_dp_takes_less_than_the_bounds_say(
    facts: Facts, name: str, spec: str, batch: int, fixed: dict[str, str]
) -> None:
    """Of plans drawn from all, with every dp: the bound of the plan, that of the dp, and both with the traffic between
    the ranks that are left."""
    model, system = as_trained(load_model(name)), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    plans = legal_plans(model, system, job, parse_fixed({"precision": "bf16", **fixed})).plans
    plans = plans.take(np.sort(np.random.default_rng(1).choice(len(plans), 400, replace=False)))
    lowest = np.ceil(plans.dp * np.random.default_rng(2).uniform(0.02, 1.0, len(plans)))
    floor = floor_of(model, system, job, plans)
    for known in (floor, with_traffic(model, system, job, plans, floor, lowest)):
        dp, of = every_dp(system, job, plans, lowest)
        took = step_s_per_token(model, system, job, replace(plans.take(of), dp=dp))
        bound = least(system, job, plans, known, dp, of)
        assert len(dp) > 500
        assert np.all(bound <= took * (1 + 1e-12))
        assert np.all(least_of_any(system, job, plans, known)[of] <= bound * (1 + 1e-12))
    rng = np.random.default_rng(3)
    wide = np.where(rng.random(len(dp)) < 0.2, 0.0, 10.0 ** rng.uniform(-3, 0.7, len(dp)))  # ranges around each dp
    low = np.maximum(1.0, np.floor(dp / (1.0 + wide * rng.random(len(dp)))))
    high = np.minimum(plans.dp[of], np.ceil(dp * (1.0 + wide)))
    bound = least_between(model, system, job, plans.take(of), floor.take(of), low, high)
    assert np.all(bound <= took * (1 + 1e-12))
    assert np.median(bound / took) > 0.3


@pytest.mark.parametrize(
    ("name", "spec", "batch", "fixed"),
    [
        ("deepseek-v3", "trn3:2048", 2048, {"micro_batch": "1,2,4"}),
        ("deepseek-v3", "ironwood:9000", 9000, {"micro_batch": "1,3", "tp": "1,8"}),
        ("llama-3.1-8b", "gb300:512", 512, {"schedule": "all", "order": "all", "pp": "1,2,8"}),
        ("llama-3.1-70b", "h100:512", 512, {"split": "even,balanced", "regather": "on,off", "micro_batch": "1,2"}),
    ],
)
def test_bounds_that_are_not_made_would_be_no_lower(
    facts: Facts, name: str, spec: str, batch: int, fixed: dict[str, str]
) -> None:
    """Plans that the layers alone put out of the question: the least bounds and those below a limit are the ones that
    all bounds, each plan evaluated by itself, give."""
    model, system = as_trained(load_model(name)), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    space = legal_plans(model, system, job, parse_fixed(fixed))
    n = len(space)
    whole = Whole(model=model, system=system, job=job, space=space, need_B=np.zeros(n), fits=np.ones(n, dtype=np.bool_))
    rows = np.sort(np.random.default_rng(4).choice(n, min(n, 3000), replace=False))
    plans = space.take(rows)
    floor = floor_of(model, system, job, plans)
    every = least_of_any(system, job, plans, floor)
    for most in (1, 40, 1000, len(rows)):
        bounds = Bounds(whole, rows)
        assert bounds.first(most).tolist() == np.argsort(every, kind="stable")[:most].tolist()
    for limit in np.quantile(every, [0.0, 0.01, 0.3, 1.0]):
        bounds = Bounds(whole, rows)
        near = bounds.below(float(limit))
        assert near.tolist() == np.flatnonzero(every < limit).tolist()
        assert np.array_equal(bounds.bound[near], every[near])
        assert np.array_equal(bounds.floor(near).stage, floor.stage[near])
    made = Bounds(whole, rows)
    made.below(float(np.quantile(every, 0.01)))
    assert np.isfinite(made.bound).sum() < 0.8 * len(rows)


def test_more_than_the_best_are_plans_that_differ_in_more_than_dp(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:64")
    best = search(model, system, TrainJob(tokens=1e12, seq=4096, batch_seqs=512), top=20).best
    assert len({replace(c.plan, dp=1) for c in best}) == len(best) == 20


def test_the_same_search_gives_the_same_answer(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "trn3:64")
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=256)
    one, two = (replace(search(model, system, job, top=5), seconds=0.0) for _ in range(2))
    assert one == two


JOBS = (
    ("gpt2", "trn3:500", 3000, {}),
    pytest.param("gpt2", "gb300:400", 5000, {"schedule": "all", "order": "all"}, marks=pytest.mark.slow),
    ("gpt2", "gb300:150", 2000, {"order": "all", "micro_batch": "1,4"}),
    ("gpt2", "h100:300", 300, {"zero": "0,1,2,3"}),
    ("llama-3.1-8b", "tpu-v5p:300", 1000, {"order": "all"}),
    ("llama-3.1-8b", "h100:512", 100, {"micro_batch": "1,2"}),
    ("qwen3-30b-a3b", "trn2:128", 700, {"precision": "bf16"}),
    ("mixtral-8x7b", "ironwood:200", 400, {"tp": "1,4"}),
)


@pytest.mark.share(3)
@pytest.mark.parametrize(("name", "spec", "batch", "fixed"), JOBS)
def test_narrowed_ranges_of_dp_hold_the_best_plans(
    facts: Facts, monkeypatch: pytest.MonkeyPatch, name: str, spec: str, batch: int, fixed: dict[str, str]
) -> None:
    """Ranges of dp that are bounded and halved leave out no plan that all of them, one by one, would have found."""
    model, system = as_trained(load_model(name)), equip(facts, spec)
    job = TrainJob(tokens=1e12, seq=2048, batch_seqs=batch)
    asked = parse_fixed({"cp": "1", **fixed})
    for top, margin in ((1, 0.0), (5, 0.0), (1, 0.03)):
        found = []
        for many in (np.inf, 0):
            monkeypatch.setattr(narrow, "TOO_MANY", many)
            monkeypatch.setattr(narrow, "FEW_LEFT", 2)
            found.append(search(model, system, job, fixed=asked, top=top, margin=margin))
        every, some = found
        assert [(str(c.plan), c.step_s) for c in some.best] == [(str(c.plan), c.step_s) for c in every.best]
        assert some.preferred == every.preferred
        assert some.unconstrained_s_per_token == every.unconstrained_s_per_token


@pytest.mark.parametrize(
    ("name", "spec", "batch"),
    [("llama-3.1-70b", "h100:64", 64), ("llama-3.1-70b", "trn3:64", 512), ("qwen3-30b-a3b", "ironwood:64", 256)],
)
def test_the_time_if_memory_were_free_is_the_least_of_all_plans(facts: Facts, name: str, spec: str, batch: int) -> None:
    model, system, job = load_model(name), equip(facts, spec), TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    every = step_s_per_token(model, system, job, legal_plans(model, system, job).plans)
    for fixed in ({}, {"recompute": ("none",)}):
        found = search(model, system, job, fixed=fixed)
        assert found.unconstrained_s_per_token == pytest.approx(float(every.min()), rel=1e-12)


def test_when_nothing_fits_the_smallest_plan_is_kept(facts: Facts) -> None:
    model, system = as_trained(load_model("deepseek-v3")), equip(facts, "trn3:1")
    found = search(model, system, TrainJob(tokens=1e12, seq=4096, batch_seqs=64))
    assert found.best == ()
    assert found.feasible == 0 < found.evaluated
    assert sum(found.smallest_B.values()) > system.hbm_usable_B
    assert found.unconstrained_s_per_token > 0


def test_more_memory_never_slows(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
    times = [
        search(model, replace(system, hbm_usable_B=system.hbm_usable_B * x), job).best[0].seconds_per_token
        for x in (0.5, 1.0, 2.0)
    ]
    assert times == sorted(times, reverse=True)


def test_no_legal_plan_is_an_error_with_exit_code_3(facts: Facts) -> None:
    with pytest.raises(UserError) as error:
        search(
            load_model("llama-3.1-8b"),
            equip(facts, "h100:8"),
            TrainJob(tokens=1e12, seq=4096, batch_seqs=64),
            fixed=parse_fixed({"cp": "3"}),
        )
    assert error.value.code == 3
