"""The range of a plan's memory, the chance of running out, and what the reserve is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.facts import Facts, load_facts
from mowich.models import load_model
from mowich.plans.memory import CATEGORIES, groups_of_ranks, memory_B
from mowich.plans.memory_range import allocated, chance_to_fit, memory_need
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform, equip
from mowich.training.step import micro_batches_of

SYSTEMS = ("h100", "b200", "trn2", "trn3", "ironwood", "a100")
SOME_B = st.floats(1e8, 1e11)


def memory_on(system: Platform, plan: Plan) -> dict[str, float]:
    """Bytes of llama3-8b under a plan."""
    columns, job = Plans.of([plan]), TrainJob(tokens=1e9, seq=4096, batch_seqs=64)
    found = memory_B(load_model("llama3-8b"), system, job, columns, micro_batches_of(job, columns))
    return {name: float(found[name][0]) for name in CATEGORIES}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SYSTEMS), st.lists(SOME_B, min_size=6, max_size=6), st.integers(0, 3), st.floats(1.01, 3.0))
def test_the_chance_of_running_out_rises_with_the_need(name: str, parts: list[float], ranks: int, more: float) -> None:
    facts = load_facts()
    system, plan = equip(facts, name), Plan(tp=2**ranks, dp=2)
    small = dict(zip(CATEGORIES, parts, strict=True))
    for grown in ("weights", "activations", "temporary"):
        large = small | {grown: small[grown] * more}
        one, two = (memory_need(facts, system, plan, each) for each in (small, large))
        assert 0.0 <= one.out_of_memory <= two.out_of_memory + 1e-4 <= 1.0 + 1e-4
        for need in (one.need, two.need):
            assert need.low is not None
            assert need.high is not None
            assert need.low <= float(need) <= need.high
    assert float(one.need) == pytest.approx(sum(parts))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(SYSTEMS), st.lists(SOME_B, min_size=6, max_size=6), st.floats(1.01, 4.0))
def test_more_memory_makes_the_chance_smaller_and_the_middle_is_half(
    name: str, parts: list[float], more: float
) -> None:
    facts = load_facts()
    system, plan = equip(facts, name), Plan(dp=2)
    need = dict(zip(CATEGORIES, parts, strict=True))
    fits = replace(system, hbm_usable_B=sum(parts))
    assert chance_to_fit(fits, need) == pytest.approx(0.5)
    assert chance_to_fit(replace(fits, hbm_usable_B=sum(parts) * more), need) > 0.5
    path = f"chips.{system.chip}.memory.hbm_capacity"
    roomy = facts.with_values({path: more * facts.number(path)})
    was, now = (memory_need(known, system, plan, need).out_of_memory for known in (facts, roomy))
    assert now <= was


def test_the_reserve_is_the_driver_groups_workspaces_graphs_and_waste(facts: Facts) -> None:
    system = equip(facts, "h100", chips=64, stack="megatron")
    s = system.stack
    plans = [Plan(dp=64), Plan(tp=8, dp=8), Plan(tp=2, pp=2, dp=16), Plan(tp=2, pp=2, cp=2, dp=8)]
    for plan in plans:
        parts = memory_on(system, plan)
        groups = float(groups_of_ranks(Plans.of([plan]))[0])
        assert groups == sum(n > 1 for n in (plan.tp, plan.pp, plan.cp, plan.dp * plan.cp, plan.ep))
        moving = parts["activations"] + parts["temporary"]
        fixed = system.efficiency.runtime_reserve + groups * s.communicator_B + s.workspace_B + s.graph_pool_B
        assert parts["reserve"] == pytest.approx(fixed + s.fragmentation * moving)
        held = allocated(facts, system, plan, parts)
        outside = system.efficiency.runtime_reserve + groups * s.communicator_B
        assert float(held) == pytest.approx(sum(parts.values()) - outside)


@pytest.mark.parametrize("name", ["trn3", "ironwood"])
def test_a_gpu_stack_brings_no_gpu_libraries_to_other_chips(facts: Facts, name: str) -> None:
    own, other = (equip(facts, name, chips=64, stack=stack) for stack in (None, "megatron"))
    for system in (own, other):
        assert system.stack.communicator_B == system.stack.workspace_B == system.stack.graph_pool_B == 0.0
    parts = memory_on(other, Plan(tp=2, dp=64))
    moving = parts["activations"] + parts["temporary"]
    assert parts["reserve"] == pytest.approx(other.efficiency.runtime_reserve + other.stack.fragmentation * moving)


@pytest.mark.parametrize("layers", [0, 8, 16, 32, 64])
def test_layers_with_the_host_leave_the_device(facts: Facts, layers: int) -> None:
    system = equip(facts, "gb200", chips=64)
    away = replace(system, stack=replace(system.stack, offloaded_layers=float(layers)))
    plan = Plan(dp=64, zero=3)
    here, left = memory_on(system, plan)["activations"], memory_on(away, plan)["activations"]
    assert left == pytest.approx(here * (1.0 - min(1.0, layers / 32)))


def test_an_eager_gate_keeps_one_width_more(facts: Facts) -> None:
    """Of llama3-8b, whose feed-forward is 14,336 wide: one 16-bit element of it a token and layer."""
    system = equip(facts, "h100", chips=8, stack="pytorch-fsdp")
    fused = replace(system, stack=replace(system.stack, unfused_gate=0.0))
    plan = Plan(dp=8, zero=3)
    more = memory_on(system, plan)["activations"] - memory_on(fused, plan)["activations"]
    assert more == pytest.approx(2.0 * 4096 * 14336 * 32)
    assert np.isclose(memory_on(system, replace(plan, recompute="full"))["activations"], 2.0 * 4096 * 4096 * 32)
