"""One forward pass of a whole model: parts, relations between plans, and what a device holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_dits import captured_dit, flux_json, wan_json
from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.models import load_model
from mowich.models.model import Model
from mowich.plans.forward import ForwardPlan
from mowich.software.stack import Platform, equip
from mowich.training.forward import (
    PASS_PARTS,
    PassWork,
    forward_flop,
    pass_memory_B,
    pass_plans,
    pass_time,
)
from shared_facts import SHARED_FACTS

MODELS = {
    "flux": captured_dit(flux_json()),
    "wan": captured_dit(wan_json()),
    "llama": load_model("llama-3.1-8b"),
    "experts": load_model("mixtral-8x7b"),
    "ltx": load_model("ltx-2"),
}
SYSTEMS = {
    "trn2": equip(SHARED_FACTS, "trn2:4", stack="neuron-diffusion"),
    "trn3": equip(SHARED_FACTS, "trn3:4", stack="neuron-diffusion"),
    "h100": equip(SHARED_FACTS, "h100:8", stack="diffusers-eager"),
    "ironwood": equip(SHARED_FACTS, "ironwood:8", stack="jax-forward"),
}
PLANS = st.builds(
    ForwardPlan,
    tp=st.sampled_from([1, 2, 4]),
    cp=st.sampled_from([1, 2, 4]),
    cfg=st.sampled_from([1, 2]),
    batch=st.sampled_from([1, 2, 8]),
)
DRAWN = {"model": st.sampled_from(sorted(MODELS)), "on": st.sampled_from(sorted(SYSTEMS))}


def seconds(model: Model, system: Platform, work: PassWork, *plans: ForwardPlan) -> Floats:
    return pass_time(model, system, work, pass_plans(plans, system)).total_s


@given(plans=st.lists(PLANS, min_size=2, max_size=6), tokens=st.sampled_from([256, 4096]), **DRAWN)
def test_one_plan_is_a_column_of_many_and_parts_sum(plans: list[ForwardPlan], tokens: int, model: str, on: str) -> None:
    m, system, work = MODELS[model], SYSTEMS[on], PassWork(tokens=tokens, branches=2, is_diffusion=True)
    columns = pass_plans(plans, system)
    time, memory = pass_time(m, system, work, columns), pass_memory_B(m, system, work, columns)
    assert set(time.parts) == set(PASS_PARTS)
    assert np.allclose(np.sum(list(time.parts.values()), axis=0), time.total_s, rtol=1e-12)
    assert all(np.all(part >= -1e-15) for part in time.parts.values())
    for i, plan in enumerate(plans):
        assert seconds(m, system, work, plan)[0] == pytest.approx(time.total_s[i], rel=1e-12)
        alone = pass_memory_B(m, system, work, pass_plans([plan], system))
        assert {name: v[0] for name, v in alone.items()} == pytest.approx({name: v[i] for name, v in memory.items()})


@given(plan=PLANS, tokens=st.sampled_from([1024, 4096]), **DRAWN)
def test_more_work_takes_longer_and_more_memory(plan: ForwardPlan, tokens: int, model: str, on: str) -> None:
    """More tokens, more items and another branch of guidance never take less; nor do they need less memory."""
    m, system = MODELS[model], SYSTEMS[on]
    work, p = PassWork(tokens=tokens), pass_plans([plan], system)
    longer = (
        (replace(work, tokens=2 * tokens), p),
        (work, pass_plans([replace(plan, batch=2 * plan.batch)], system)),
        (replace(work, branches=2), p),
    )
    base, held = pass_time(m, system, work, p).total_s[0], sum(v[0] for v in pass_memory_B(m, system, work, p).values())
    for other, plans in longer:
        assert pass_time(m, system, other, plans).total_s[0] >= base
        assert sum(v[0] for v in pass_memory_B(m, system, other, plans).values()) >= held * (1.0 - 1e-12)


@given(plan=PLANS, **DRAWN)
def test_branches_on_devices_of_their_own_are_never_slower(plan: ForwardPlan, model: str, on: str) -> None:
    """An item takes no longer on twice the devices, but for the exchange, and two branches on the same devices take
    twice as long as one."""
    m, system, work = MODELS[model], SYSTEMS[on], PassWork(tokens=4096, branches=2)
    together, apart = (pass_plans([replace(plan, cfg=cfg)], system) for cfg in (1, 2))
    one, two = pass_time(m, system, work, together), pass_time(m, system, work, apart)
    assert two.total_s[0] < one.total_s[0]
    single = pass_time(m, system, replace(work, branches=1), together).total_s[0]
    assert one.total_s[0] == pytest.approx(2.0 * single, rel=1e-12)
    assert two.total_s[0] - two.parts["cfg"][0] == pytest.approx(single, rel=1e-12)


@given(**DRAWN, split=st.sampled_from(["tp", "cp"]))
def test_ranks_share_the_work(model: str, on: str, split: str) -> None:
    """More ranks compute less each and never less than their share; tensor parallelism also shares the weights."""
    m, system, work = MODELS[model], SYSTEMS[on], PassWork(tokens=4096)
    plans = pass_plans([ForwardPlan(), ForwardPlan(**{split: 2}), ForwardPlan(**{split: 4})], system)
    time, weights = pass_time(m, system, work, plans), pass_memory_B(m, system, work, plans)["weights"]
    for name in ("gemm", "attention"):
        part = time.parts[name]
        assert np.all(np.diff(part) < 0)
        assert np.all(part >= part[0] / np.array([1.0, 2.0, 4.0]) * (1.0 - 1e-12))
    assert np.all(np.diff(weights) < 0) if split == "tp" else np.all(np.diff(weights) == 0)


def test_flop_of_published_transformers() -> None:
    """Counted by hand from the shapes: products of image and text rows, and the full square of attention."""
    S, T, h = 4096, 512, 3072
    block = 2 * (S + T) * 12 * h**2 + 4 * (S + T) ** 2 * h
    modulation = 2 * (19 * 12 * h**2 + 38 * 3 * h**2)
    once = 2 * (S * 64 * h + T * 4096 * h + 2 * h**2 + S * 64 * h)
    assert forward_flop(MODELS["flux"], S) == pytest.approx(57 * block + modulation + once, rel=1e-9)
    S, h = 4680, 5120
    own = 2 * S * (6 * h**2 + 2 * h * 13824) + 2 * T * 2 * h**2
    once = 2 * (S * 64 * h * 2 + T * 4096 * h + 6 * h**2)
    wan = 40 * (own + 4 * S * S * h + 4 * S * T * h) + once
    assert forward_flop(MODELS["wan"], S) == pytest.approx(wan, rel=1e-9)


def test_joint_text_is_whole_on_every_context_rank() -> None:
    """Text rows are not split with the tokens of an image: four context ranks compute more than a quarter each."""
    system, work = SYSTEMS["trn3"], PassWork(tokens=4096)
    columns = pass_plans([ForwardPlan(), ForwardPlan(cp=4)], system)
    for text, least in ((16, 1.0), (2048, 1.3)):
        gemm = pass_time(captured_dit(flux_json(text=text)), system, work, columns).parts["gemm"]
        assert 4.0 * gemm[1] / gemm[0] >= least


def test_a_dense_mask_and_eager_code_cost_what_the_stack_says() -> None:
    plain, masked = (captured_dit(flux_json(masked=masked)) for masked in (False, True))
    work, plan = PassWork(tokens=4096), ForwardPlan()
    eager, compiled = SYSTEMS["h100"], SYSTEMS["trn3"]
    assert seconds(masked, compiled, work, plan)[0] == seconds(plain, compiled, work, plan)[0]
    slow, fast = (pass_time(m, eager, work, pass_plans([plan], eager)).parts for m in (masked, plain))
    rate = eager.efficiency.masked_attention
    assert 0 < rate < 1
    unmasked = eager.efficiency.older_attention**eager.stack.has_older_attention
    assert fast["attention"][0] / slow["attention"][0] == pytest.approx(rate / unmasked, rel=1e-9)
    fused = replace(eager, stack=replace(eager.stack, eager=0.0))
    moved = pass_time(plain, fused, work, pass_plans([plan], fused)).parts["memory_bound"]
    assert fast["memory_bound"][0] / moved[0] == pytest.approx(4.0 / min(eager.stack.memory_passes, 4.0), rel=1e-9)


def test_launches_show_where_kernels_are_short() -> None:
    """A small image on eager software waits for the host: a longer launch is the whole difference there, and hardly
    any beside long kernels."""
    system, plan = SYSTEMS["h100"], ForwardPlan()
    slower = replace(system, stack=replace(system.stack, eager_launch=2.0 * system.stack.eager_launch))
    small, large = (
        seconds(MODELS["flux"], slower, work, plan)[0] / seconds(MODELS["flux"], system, work, plan)[0]
        for work in (PassWork(tokens=16), PassWork(tokens=16384))
    )
    assert small > 1.1
    assert large < 1.01


def test_a_compiled_pass_has_a_floor() -> None:
    """However little a pass computes, the host starts each forward of it."""
    system, plan = SYSTEMS["trn3"], ForwardPlan()
    tiny = captured_dit(flux_json(double=1, single=1, text=1))
    for branches in (1, 2):
        time = pass_time(tiny, system, PassWork(tokens=1, branches=branches), pass_plans([plan], system))
        assert time.parts["fixed"][0] == pytest.approx(branches * system.stack.pass_start)
        assert time.total_s[0] > branches * system.stack.pass_start > 0


def test_each_law_is_told_with_a_block_of_the_model() -> None:
    """Terms sum to the pass, and products stand under the names of the user's modules."""
    system, work, plan = SYSTEMS["trn3"], PassWork(tokens=4096, branches=2), ForwardPlan(tp=4, cp=2, cfg=2)
    notes = Notes()
    time = pass_time(MODELS["flux"], system, work, pass_plans([plan], system), notes)
    terms = notes.terms
    assert terms["pass"].value == pytest.approx(float(time.total_s[0]))
    assert any("attn.to_q" in name for name in terms)
    assert any(name.endswith("outside") for name in terms)
    assert "accumulate" not in " ".join(terms)
