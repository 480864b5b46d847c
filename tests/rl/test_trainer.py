"""Packed answers, optimizer steps and forward passes of a trainer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans.plan import Plan, Plans
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.job import RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.trainer import document_tokens, packed, packed_job, slowed, trainer_side
from mowich.software.stack import equip
from mowich.training.stage import stage_times
from mowich.training.step import forward_time, micro_batches_of, predict_step, step_time


def _job(**changed: object) -> RlJob:
    usual = RlJob(
        algorithm="grpo",
        prompts=64,
        samples=32,
        global_batch=512,
        lengths=Lengths.lognormal(mean=1060.0, cap=3970.0, sigma=0.7),
        prompt=126.0,
        most=4096.0,
        passes=("policy", "reference"),
    )
    return replace(usual, **changed)  # type: ignore[arg-type]


@pytest.fixture
def framework(facts: Facts) -> Framework:
    return read_framework(facts, "nemo-rl", "v0.5")


@settings(max_examples=10, deadline=None)
@given(
    mean=st.floats(50.0, 3000.0), sigma=st.floats(0.1, 1.2), prompt=st.floats(1.0, 500.0), sequences=st.integers(1, 600)
)
def test_micro_batches_hold_every_token_and_no_more_than_fit(
    mean: float, sigma: float, prompt: float, sequences: int
) -> None:
    lengths, room = Lengths.lognormal(mean=mean, cap=3500.0, sigma=sigma), 4096.0
    found = packed(lengths, prompt, room, sequences)
    n = min(sequences, 512)
    shares = (np.arange(n) + 0.5) / n
    tokens = np.interp(shares, (np.arange(len(lengths.table)) + 0.5) / len(lengths.table), lengths.table) + prompt
    assert found.fill.sum() == pytest.approx(tokens.sum())
    assert found.fill.max() <= room + 1e-6
    assert len(found.fill) == round(found.share * n)
    assert np.count_nonzero(found.fill <= room / 2.0) <= 1  # two of these would be one
    assert found.mean <= found.fullest_of(8.0) <= room


def test_ranks_that_share_experts_go_at_the_pace_of_the_fullest() -> None:
    job = _job(lengths=Lengths.lognormal(mean=3000.0, cap=3970.0, sigma=0.7))
    alone, together = (packed_job(job, Plan(dp=32, ep=ep), 512.0) for ep in (1, 8))
    assert together.seq > alone.seq
    assert packed_job(job, Plan(dp=16, tp=2, ep=2), 512.0).seq < together.seq  # one micro-batch for its two ranks
    assert together.seq <= job.most


def test_a_token_sees_the_sequence_that_it_is_in() -> None:
    lengths = Lengths.of_quantiles({0.0: 10.0, 0.5: 10.0, 0.500001: 1000.0, 1.0: 1000.0}, cap=1000.0)
    assert document_tokens(lengths, 0.0) == pytest.approx((10.0**2 + 1000.0**2) / 1010.0, rel=1e-3)


@pytest.mark.parametrize("plan", [Plan(pp=2, dp=8, recompute="full"), Plan(dp=16), Plan(tp=2, pp=4, dp=2)])
def test_updates_and_passes_are_those_of_training(facts: Facts, framework: Framework, plan: Plan) -> None:
    model, system, job = load_model("llama-3.1-8b"), equip(facts, "h100", chips=16), _job()
    side = trainer_side(model, system, job, plan, framework)
    update = predict_step(model, slowed(system, framework.training), packed_job(job, plan, 512.0), plan)
    assert side.update_s == pytest.approx(4.0 * update.total_s)
    whole, one = packed_job(job, plan, 2048.0), Plans.of([plan])
    stage, g = stage_times(model, system, whole, one), float(micro_batches_of(whole, one)[0])
    wires = 0.5 * sum(float(stage.parts[name][0]) for name in ("tp", "cp", "ep"))
    speed = system.stack.speed * system.efficiency.framework_carry / framework.passes
    each = (float(stage.forward_s[0]) - wires) / speed + wires
    assert side.passes_s["policy"] == pytest.approx((g + plan.pp - 1.0) * each)
    assert side.passes_s["policy"] < 0.5 * side.update_s  # a third of an update, and what is computed again


def test_a_slower_framework_makes_no_transfer_longer(facts: Facts) -> None:
    model, system = load_model("qwen3-30b-a3b"), equip(facts, "h100", chips=32)
    job, plan = packed_job(_job(), Plan(dp=32, ep=8), 512.0), Plans.of([Plan(dp=32, ep=8)])
    usual, slow = (step_time(model, machine, job, plan) for machine in (system, slowed(system, 2.0)))
    wires = sum(float(usual.parts[name][0]) for name in ("tp", "cp", "ep", "dp", "pp_transfer", "jitter"))
    assert wires > 0.0
    assert float(slow.total_s[0]) == pytest.approx(2.0 * float(usual.total_s[0]) - wires)
    passes = [float(forward_time(model, machine, job, plan)[0]) for machine in (system, slowed(system, 2.0))]
    assert passes[0] < passes[1] < 2.0 * passes[0]


def test_a_critic_is_trained_and_passed_too(facts: Facts, framework: Framework) -> None:
    model, small = load_model("llama-3.1-8b"), load_model("llama-3.2-1b")
    system, plan = equip(facts, "h100", chips=16), Plan(dp=16)
    policy = trainer_side(model, system, _job(), plan, framework)
    ppo = _job(algorithm="ppo", passes=("policy", "reference", "critic"), trained=2)
    same, other = (trainer_side(model, system, ppo, plan, framework, models=m) for m in (None, {"critic": small}))
    assert same.update_s == pytest.approx(2.0 * policy.update_s)
    assert same.passes_s["critic"] == same.passes_s["policy"]
    assert policy.update_s < other.update_s < same.update_s
    assert other.passes_s["critic"] < 0.5 * other.passes_s["policy"]
