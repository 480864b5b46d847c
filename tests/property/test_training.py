"""What must hold for every legal plan, whatever the constants are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.machines import collectives
from mowich.machines.system import System
from mowich.models import Model, load_model
from mowich.models.model import as_trained
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import CATEGORIES, memory_B
from mowich.plans.plan import FIXABLE, SWITCHES, Plan, Plans, TrainJob, parse_fixed
from mowich.software.stack import equip
from mowich.training.step import STEP_PARTS, micro_batches_of, predict_step, step_time

FACTS = load_facts()
CASES = [
    ("llama-3.1-8b", "h100", 64, 256),
    ("qwen3-30b-a3b", "trn3", 288, 512),
    ("deepseek-v3", "ironwood", 1024, 2048),
    ("gpt-oss-120b", "gb300", 144, 512),
    ("mixtral-8x7b", "trn2", 128, 512),
]


@cache
def case(i: int) -> tuple[Model, System, TrainJob, Plans]:
    name, system_name, chips, batch = CASES[i]
    model, system = as_trained(load_model(name)), equip(FACTS, system_name, chips=chips)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=batch)
    return model, system, job, legal_plans(model, system, job).plans


cases = st.integers(0, len(CASES) - 1)
picks = st.integers(0, 10**9)


def pick(i: int, at: int) -> tuple[Model, System, TrainJob, Plan]:
    model, system, job, plans = case(i)
    return model, system, job, plans.plan(at % len(plans))


@settings(max_examples=60, deadline=None)
@given(cases, picks)
def test_parts_sum_to_the_step_and_are_not_negative(i: int, at: int) -> None:
    model, system, job, plan = pick(i, at)
    step = predict_step(model, system, job, plan)
    assert set(step.breakdown) == set(STEP_PARTS)
    assert all(v >= 0 for v in step.breakdown.values()), step.breakdown
    assert sum(step.breakdown.values()) == pytest.approx(step.total_s, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases, picks)
def test_a_degree_of_one_costs_nothing(i: int, at: int) -> None:
    model, system, job, plan = pick(i, at)
    got = predict_step(model, system, job, plan).breakdown
    for part, degree in (
        ("tp", plan.tp),
        ("cp", plan.cp),
        ("ep", plan.ep * plan.etp),
        ("pp_bubble", plan.pp),
        ("pp_transfer", plan.pp),
    ):
        assert (got[part] == 0) == (degree == 1), (part, plan)
    if plan.recompute == "none":
        assert got["recompute"] == 0
    if plan.precision == "bf16":
        assert got["quantise"] == 0


def test_one_data_parallel_rank_has_no_data_parallel_time() -> None:
    model, system, job, _ = case(0)
    plan = Plan(tp=8, dp=1, sp=True)
    assert predict_step(model, equip(FACTS, "h100", chips=8), job, plan).breakdown["dp"] == 0
    assert predict_step(model, system, job, replace(plan, dp=8)).breakdown["dp"] > 0


@settings(max_examples=40, deadline=None)
@given(cases, picks, st.sampled_from(["hbm", "links", "network", "peak"]), st.floats(1.05, 8.0))
def test_faster_hardware_is_never_slower(i: int, at: int, what: str, factor: float) -> None:
    model, system, job, plan = pick(i, at)
    if what == "hbm":
        better = replace(system, hbm_Bps=system.hbm_Bps * factor)
    elif what == "peak":
        better = replace(system, peak_flops={k: v * factor for k, v in system.peak_flops.items()})
    else:
        wanted = what == "network"
        levels = tuple(
            replace(x, bandwidth_Bps=x.bandwidth_Bps * factor) if x.is_network == wanted else x for x in system.levels
        )
        better = replace(system, levels=levels)
    before, after = predict_step(model, system, job, plan).total_s, predict_step(model, better, job, plan).total_s
    assert after <= before * (1 + 1e-12)


@settings(max_examples=20, deadline=None)
@given(cases, st.integers(0, 10**6))
def test_columns_equal_one_plan_at_a_time(i: int, at: int) -> None:
    model, system, job, plans = case(i)
    index = np.arange(at % max(1, len(plans) - 40), min(len(plans), at % max(1, len(plans) - 40) + 40))
    some = plans.take(index)
    step = step_time(model, system, job, some)
    memory = memory_B(model, system, job, some, micro_batches_of(job, some))
    for j in range(0, len(some), 7):
        one = Plans.of([some.plan(j)])
        alone = step_time(model, system, job, one)
        assert alone.total_s[0] == pytest.approx(step.total_s[j], rel=1e-12)
        alone_memory = memory_B(model, system, job, one, micro_batches_of(job, one))
        for name in CATEGORIES:
            assert alone_memory[name][0] == pytest.approx(memory[name][j], rel=1e-12)


@pytest.mark.parametrize("i", range(len(CASES)))
def test_generated_plans_are_legal(i: int) -> None:
    model, system, job, p = case(i)
    assert len(p) > 100
    heads = {layer.attention.num_heads for layer in model.layers}
    for h in heads:
        assert np.all(np.mod(h, p.tp) == 0)
    devices = p.tp * p.pp * p.cp * p.dp
    assert np.all(devices <= system.devices)
    assert np.all(np.mod(p.tp * p.cp * p.dp, p.ep * p.etp) == 0)
    assert np.all(p.pp <= model.num_layers)
    assert np.all((p.sp == 0) | (p.tp > 1))
    tokens = micro_batches_of(job, p) * p.micro_batch * p.dp * job.seq
    assert np.all(np.abs(tokens / job.tokens_per_step - 1) <= job.batch_tolerance + 1e-9)
    assert np.all((p.vpp == 1) == (p.schedule == 0))


VALUES: dict[str, list[str]] = {
    name: list(words) if words is not None else ["false", "true"] if name in SWITCHES else ["1", "2", "3", "4", "8"]
    for name, words in FIXABLE.items()
}
"""Field of a plan -> words that may fix it."""


@given(cases, st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 10**6), min_size=1, max_size=4))
def test_fixed_choices_leave_plans_or_are_refused(i: int, drawn: dict[str, int]) -> None:
    model, system, job, _ = case(i)
    fixed = parse_fixed({name: VALUES[name][at % len(VALUES[name])] for name, at in drawn.items()})
    try:
        plans = legal_plans(model, system, job, fixed).plans
    except UserError:
        return
    assert len(plans)
    for name, (value,) in fixed.items():
        assert {getattr(plan, name) for plan in (plans.plan(0), plans.plan(len(plans) - 1))} == {value}, name


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["h100", "trn2", "trn3", "trn3-gen1", "ironwood", "tpu-v5e", "gb300"]),
    st.integers(0, 12),
    st.integers(0, 6),
    st.floats(1.0, 1e10),
    st.floats(1.0, 100.0),
)
def test_more_bytes_are_never_faster_and_alone_is_free(
    name: str, log_n: int, log_stride: int, data: float, factor: float
) -> None:
    system = equip(FACTS, name, chips=4096)
    n, stride = np.array([2.0**log_n]), np.array([2.0**log_stride])
    for kind in (collectives.reduce_scatter_s, collectives.all_reduce_s):
        little, much = (
            kind(system, np.array([data]), n, stride)[0],
            kind(system, np.array([data * factor]), n, stride)[0],
        )
        assert (little == 0) if log_n == 0 else (little > 0)
        assert much >= little * (1 - 1e-12)
    little = collectives.all_to_all_s(system, np.array([data]), n, stride)
    much = collectives.all_to_all_s(system, np.array([data * factor]), n, stride)
    assert much.inside_s[0] + much.outside_s[0] >= (little.inside_s[0] + little.outside_s[0]) * (1 - 1e-12)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["h100", "gb300", "b200", "trn2", "trn3", "trn3-gen1", "ironwood", "tpu-v5e"]),
    st.integers(1, 65536),
    st.integers(0, 4096),
    st.integers(0, 6),
    st.integers(0, 1),
)
def test_the_least_time_of_a_group_is_below_that_of_all_larger_groups(
    name: str, size: int, more: int, log_stride: int, times: int
) -> None:
    system = equip(FACTS, name, chips=65536)
    assert system.levels[-1].is_network
    stride = np.array([2.0**log_stride * 3**times])
    bound = collectives.least_linear(system, np.array([float(size)]), stride)
    real = collectives.linear(system, np.array([float(size + more)]), stride)
    assert bound[0][0] <= real[0][0] * (1 + 1e-12)
    assert bound[1][0] <= real[1][0] * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(cases, picks)
def test_memory_shrinks_with_recompute_and_sharding(i: int, at: int) -> None:
    model, system, job, plan = pick(i, at)

    def total(p: Plan) -> dict[str, float]:
        columns = Plans.of([p])
        return {
            k: float(v[0]) for k, v in memory_B(model, system, job, columns, micro_batches_of(job, columns)).items()
        }

    none, selective = total(replace(plan, recompute="none")), total(replace(plan, recompute="selective"))
    assert selective["activations"] <= none["activations"]
    assert total(replace(plan, zero=1))["optimizer"] <= total(replace(plan, zero=0))["optimizer"]
    assert all(v >= 0 for v in none.values())
