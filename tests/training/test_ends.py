"""Uncertain facts at their ends, all in one evaluation, are those facts moved one at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import Plan, TrainJob
from mowich.software.stack import equip
from mowich.training.sensitivity import ends, moves, stack
from mowich.training.step import predict_step

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=1024)
DENSE = Plan(tp=4, sp=True, pp=2, dp=8, zero=3, micro_batch=2, recompute="selective")
EXPERTS = Plan(tp=4, sp=True, pp=2, dp=8, ep=8, zero=1, micro_batch=1, precision="fp8", order="tp-pp-dp")


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("model", "plan"),
    [
        ("llama-3.1-8b", DENSE),
        ("deepseek-v3", EXPERTS),
        ("llama-3.1-8b", replace(DENSE, offload="optimizer+activations", cp=2, dp=4)),
    ],
)
@pytest.mark.parametrize("system", ["trn3", "trn4", "ironwood", "gb300", "h100"])
def test_one_evaluation_is_as_many_as_there_are_ends(facts: Facts, system: str, model: str, plan: Plan) -> None:
    trained = as_trained(load_model(model))
    base = equip(facts, system, chips=64)
    if not base.host_Bps:
        plan = replace(plan, offload="none")
    if plan.precision not in base.peak_flops:
        plan = replace(plan, precision="mxfp8")

    def log_time(known: Facts) -> float:
        step = predict_step(trained, equip(known, system, chips=64), JOB, plan)
        return math.log(step.total_s / step.tokens)

    found = {
        path: (low, high)
        for path, low, high in moves(
            trained, JOB, plan, facts=facts, system_id=base.id, chips=64, stack_name=None, least=-1.0
        )
    }
    assert len(found) > 10
    middle = log_time(facts)
    for path, change in found.items():
        fact = facts.fact(path)
        for end, moved in zip((fact.low, fact.high), change, strict=True):
            assert end is not None
            assert moved == pytest.approx(log_time(facts.with_values({path: end})) - middle, abs=1e-12), path


def test_what_no_measurement_tested_is_moved_and_what_was_fitted_is_not(facts: Facts) -> None:
    found = ends(facts, "trn3-gen2", None)
    paths = {path for path, _ in found.moved} | {path for path, _, _ in found.alone}
    assert "devices.neuroncore-v4.product_16" in paths
    for path in paths:
        fact = facts.fact(path)
        assert not (path.startswith(("devices.", "training.")) and fact.grade == "C")
    assert np.shape(found.stacked.efficiency.product_16) == (1 + len(found.moved), 1)


def test_systems_that_differ_in_more_than_numbers_do_not_stack(facts: Facts) -> None:
    one = equip(facts, "h100")
    assert stack([one, one]) == one
    with pytest.raises(Exception, match="library"):
        stack([one, replace(one, fabric=replace(one.fabric, library="neuron"))])
    with pytest.raises(Exception, match="unfused_attention"):
        stack([one, replace(one, stack=replace(one.stack, unfused_attention=1.0))])
