"""The optimizer of a job: what its states weigh, what it moves, and what orthogonalising matrices takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mowich
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import dense_params_per_device, expert_params_per_device, matrix_params_per_device, memory_B
from mowich.plans.plan import Plan, Plans, TrainJob, parse_fixed
from mowich.software.stack import OPTIMIZER_CHOSEN, Platform, equip, optimizers
from mowich.training.orthogonal import matrices, newton_schulz_s, orthogonal_s
from mowich.training.step import micro_batches_of, step_time

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=256)
CASES = [("llama-3.1-8b", "h100:64"), ("qwen3-30b-a3b", "trn2:64"), ("deepseek-v3", "gb300:144")]


def with_optimizer(facts: Facts, spec: str, name: str) -> Platform:
    return equip(facts.with_values({OPTIMIZER_CHOSEN: name}), spec)


def plans_of(facts: Facts, name: str, spec: str) -> Plans:
    """Some legal plans, drawn."""
    fixed = parse_fixed({"precision": "bf16", "micro_batch": "1", "zero": "0,1,3"})
    plans = legal_plans(as_trained(load_model(name)), equip(facts, spec), JOB, fixed).plans
    return plans.take(np.sort(np.random.default_rng(4).choice(len(plans), min(300, len(plans)), replace=False)))


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_an_optimizer_changes_its_own_memory_and_time_alone(facts: Facts, name: str, spec: str) -> None:
    """Bytes a parameter that its facts say; muon 4 less of a layer's matrices. Every other part is as with AdamW, but
    for the wait for the slowest rank, and what the software adds."""
    model, plans = as_trained(load_model(name)), plans_of(facts, name, spec)
    g = micro_batches_of(JOB, plans)
    own = equip(facts, spec)
    base, held = step_time(model, own, JOB, plans), memory_B(model, own, JOB, plans, g)
    of_layers = matrix_params_per_device(model, plans) + expert_params_per_device(model, plans)
    everything = dense_params_per_device(model, plans) + expert_params_per_device(model, plans)
    unsharded = plans.zero == 0
    for optimizer, per_B, less in (("adamw-bf16", 8.0, 0.0), ("adamw-8bit", 6.004, 0.0), ("muon", 12.0, 4.0)):
        other = with_optimizer(facts, spec, optimizer)
        step, memory = step_time(model, other, JOB, plans), memory_B(model, other, JOB, plans, g)
        for part, seconds in step.parts.items():
            if part not in ("optimizer", "jitter", "software"):
                assert np.array_equal(seconds, base.parts[part]), part
        for category in held:
            if category != "optimizer":
                assert np.array_equal(memory[category], held[category]), category
        expected = (per_B * everything - less * of_layers)[unsharded]
        assert memory["optimizer"][unsharded] == pytest.approx(expected, rel=1e-12)
        assert np.all(memory["optimizer"] < held["optimizer"])
        assert np.all((step.parts["optimizer"] > base.parts["optimizer"]) == (optimizer == "muon"))


@pytest.mark.parametrize(("name", "spec"), CASES)
def test_no_rank_orthogonalises_faster_than_its_share_at_the_peak(facts: Facts, name: str, spec: str) -> None:
    """4 m m n + 2 m^3 FLOP an iteration, on the ranks of a sharding group and their tensor ranks; and all of them
    together take the matrices of the model once."""
    model, system = as_trained(load_model(name)), with_optimizer(facts, spec, "muon")
    plans = plans_of(facts, name, spec).take(np.arange(50))
    peak, flop = system.peak_flops["bf16"], 0.0
    for experts in (False, True):
        count, each = newton_schulz_s(model, system, experts=experts)
        sides = [(many, min(a, b), max(a, b)) for many, a, b in matrices(model, experts=experts)]
        work = sum(many * 5.0 * (4.0 * m * m * n + 2.0 * m**3) for many, m, n in sides)
        assert count * float(each[0]) >= work / peak
        assert count == sum(many for many, _, _ in sides)
        flop += work
    assert np.all(orthogonal_s(model, system, plans) >= flop / (peak * system.devices))


def test_more_ranks_that_share_take_no_longer_until_each_has_one_matrix(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), with_optimizer(facts, "h100:512", "muon")
    system = replace(system, stack=replace(system.stack, matrix_gather_B=0.0))
    plans = Plans.of([Plan(dp=2**k, zero=1) for k in range(10)])
    took = orthogonal_s(model, system, plans)
    count, each = newton_schulz_s(model, system, experts=False)
    assert took == pytest.approx(float(each[0]) * np.maximum(1.0, count / plans.dp), abs=2.5e-3)  # latency
    alone = orthogonal_s(model, system, Plans.of([Plan(dp=64, zero=0)]))
    assert alone[0] == pytest.approx(took[0], rel=1e-12)  # who shares nothing does all of it
    assert orthogonal_s(model, equip(facts, "h100:512"), plans).max() == 0.0


def test_the_optimizer_is_asked_for_by_name(facts: Facts) -> None:
    job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
    plan = {"tp": "1", "pp": "1", "zero": "1", "precision": "bf16"}
    found = mowich.plan("llama-3.1-8b", "h100:64", train={**job, "optimizer": "muon"}, fixed=plan, top=1)
    own = mowich.plan("llama-3.1-8b", "h100:64", train=job, fixed=plan, top=1)
    assert found.inputs["systems"][0]["optimizer"] == "muon"
    assert "optimizer" not in own.inputs["systems"][0]
    assert found[0].memory_B["optimizer"] < own[0].memory_B["optimizer"]
    with pytest.raises(UserError, match="did you mean 'muon'") as error:
        mowich.fit("llama-3.1-8b", "h100:64", train={**job, "optimizer": "moun"})
    assert all(name in error.value.line() for name in optimizers(facts))
