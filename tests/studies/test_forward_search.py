"""What forward passes come to on given chips: the search of a plan, its limits and its row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_dits import captured_dit, flux_json, wan_json
from captured_models import signed
from mowich.errors import UserError
from mowich.estimate import Estimate, Notes
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.forward import ForwardJob, ForwardPlan
from mowich.plans.preference import margin
from mowich.studies.forward import assess_forward, best_forward, forward_laws
from mowich.studies.forward_row import ForwardAsk, ForwardRow
from shared_facts import SHARED_FACTS

MODELS = {
    "flux": captured_dit(flux_json()),
    "wan": captured_dit(wan_json()),
    "ltx": load_model("ltx-2"),
    "llama": load_model("llama-3.1-8b"),
}
NEAR = 1.0 + margin(SHARED_FACTS)
"""Rates that are no further apart are not told apart."""
ASKS = {
    "model": st.sampled_from(sorted(MODELS)),
    "on": st.sampled_from(["trn2", "trn3", "h100", "b300"]),
    "chips": st.sampled_from([1, 2, 8]),
    "tokens": st.sampled_from([1024, 4096]),
    "branches": st.sampled_from([1, 2]),
}


def asked(on: str, chips: int, model: str = "flux", **job: Any) -> ForwardAsk:
    system_id = resolve(SHARED_FACTS, on, chips=chips).id
    given = {"task": "encode" if model == "llama" else "diffuse", "tokens": 4096, "batch": 1, **job}
    return ForwardAsk(
        model=MODELS[model], job=ForwardJob(**given), on=on, system_id=system_id, chips=chips, facts=SHARED_FACTS
    )


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.value


def rate(row: ForwardRow) -> float:
    """Items a second of all chips; 0 where nothing runs."""
    return value(row.items_per_s_per_chip) * row.ask.chips if row.feasible else 0.0


@given(**ASKS)
def test_a_row_says_one_thing(on: str, chips: int, **job: Any) -> None:
    """Items a second, seconds of an item, parts, cost and energy of a row are those of its plan and its replicas."""
    row = assess_forward(asked(on, chips, steps=20, **job))
    if not row.feasible:
        assert "short per device" in row.reason
        assert row.plan is None
        return
    assert row.plan is not None
    system = resolve(SHARED_FACTS, on, chips=chips)
    assert sum(row.parts.values()) == pytest.approx(value(row.pass_s), rel=1e-12)
    assert value(row.item_s) == pytest.approx(20 * value(row.pass_s), rel=1e-12)
    assert rate(row) * value(row.item_s) == pytest.approx(row.replicas * row.plan.batch, rel=1e-12)
    assert row.replicas * row.plan.devices <= system.devices
    assert row.chips_used <= chips
    assert sum(row.memory_B.values()) <= system.hbm_usable_B
    assert 0.0 < value(row.mfu) < 1.0
    assert value(row.usd_per_item) > 0
    assert value(row.J_per_item) > 0
    alone = assess_forward(replace(row.ask, plan=row.plan))
    assert (alone.pass_s, alone.memory_B, alone.replicas) == (row.pass_s, row.memory_B, row.replicas)


@given(**ASKS, key=st.sampled_from(["tp", "cp", "cfg"]), other=st.sampled_from([1, 2, 4]))
def test_more_chips_never_lose_and_a_restriction_never_wins(
    on: str, chips: int, key: str, other: int, **job: Any
) -> None:
    ask = asked(on, chips, **job)
    best = rate(assess_forward(ask))
    assert rate(assess_forward(asked(on, 2 * chips, **job))) * NEAR >= best
    fixed = assess_forward(replace(ask, fixed={key: (other,)}))
    assert rate(fixed) <= best * NEAR
    if fixed.plan is not None:
        assert getattr(fixed.plan, key) == other
    sooner = assess_forward(replace(ask, job=replace(ask.job, latency_s=0.2)))
    if sooner.feasible:
        assert value(sooner.item_s) <= 0.2
        assert rate(sooner) <= best * NEAR


@given(**{name: drawn for name, drawn in ASKS.items() if name != "tokens"})
def test_a_larger_image_takes_no_less(on: str, chips: int, **job: Any) -> None:
    small, large = (assess_forward(asked(on, chips, tokens=tokens, **job)) for tokens in (1024, 4096))
    assert rate(large) <= rate(small)
    if large.feasible:
        assert value(large.usd_per_item) >= value(small.usd_per_item)


def test_steps_cost_in_proportion() -> None:
    one, ten = (assess_forward(asked("trn3", 2, steps=steps)) for steps in (1, 10))
    for name in ("item_s", "usd_per_item", "J_per_item"):
        assert value(getattr(ten, name)) == pytest.approx(10 * value(getattr(one, name)), rel=1e-9)
    assert (ten.plan, ten.pass_s) == (one.plan, one.pass_s)


def test_the_front_goes_from_cheap_to_fast() -> None:
    rows = best_forward(asked("trn3", 4, steps=28), top=5)
    assert len(rows) == 5
    seconds = [value(row.item_s) for row in rows]
    front = seconds[: next((i for i in range(1, 5) if seconds[i] >= seconds[i - 1]), 5)]
    assert len(front) > 1
    assert all(rate(row) <= rate(rows[0]) * NEAR for row in rows)
    assert [row.plan for row in rows] == [row.plan for row in best_forward(asked("trn3", 4, steps=28), top=5)]


def test_what_cannot_be_says_why() -> None:
    """A device that is too small, a limit that nothing keeps, choices that no plan has."""
    row = assess_forward(replace(asked("trn2", 1), model=captured_dit(wan_json(layers=160))))
    assert row.reason.startswith("does not fit: ")
    assert "weights 26.5" in row.reason
    assert set(row.memory_B) == {"weights", "activations", "latents", "reserve"}
    late = assess_forward(asked("h100", 1, steps=50, latency_s=0.5))
    assert late.reason.startswith("no plan makes an item in 0.5 s; the fastest takes ")
    assert late.plan is not None
    assert value(late.item_s) > 0.5
    none = assess_forward(replace(asked("h100", 1), fixed={"cfg": (2,)}))
    assert none.reason == "no plan is legal with cfg=2: tp x cp x cfg is 1 to 1 devices, cfg at most 1"
    with pytest.raises(UserError, match="tp=5 does not divide the 24 query heads"):
        assess_forward(replace(asked("trn3", 8), fixed={"tp": (5,)}))


def test_batches_are_searched_where_none_is_given() -> None:
    """An encoder's batch is as large as its rate gains from it; an image is made alone without a limit of time."""
    texts = assess_forward(asked("h100", 1, model="llama", tokens=64, batch=0))
    assert texts.plan is not None
    assert texts.plan.batch > 1
    given = assess_forward(asked("h100", 1, model="llama", tokens=64, batch=1))
    assert rate(texts) > rate(given)
    image = assess_forward(asked("h100", 1, batch=0))
    assert image.plan is not None
    assert image.plan.batch == 1
    assert any("one item at a time" in words for words in image.assumed)
    assert any("the text encoder" in words for words in image.assumed)


def test_images_are_made_on_whole_chips() -> None:
    """Trainium has four devices in a chip: a replica has all of them, and texts are encoded on each."""
    for chips in (1, 4):
        for row in best_forward(asked("trn3", chips), top=20):
            assert row.plan is not None
            assert row.plan.devices >= 4
    text = assess_forward(asked("trn3", 1, model="llama", tokens=512))
    assert text.replicas == 4
    alone = assess_forward(replace(asked("trn3", 1), fixed={"tp": (1,), "cp": (1,)}))
    assert alone.reason.startswith("no plan is legal with tp=1, cp=1: tp x cp x cfg is 4 to 4 devices")


def test_logical_cores_may_be_chosen() -> None:
    """Trainium with one physical core in a device: twice the devices, and a plan on them."""
    ask = asked("trn2", 1)
    row = assess_forward(replace(ask, plan=ForwardPlan(tp=8, lnc=1)))
    assert row.plan == ForwardPlan(tp=8, lnc=1)
    assert row.replicas == 1
    assert assess_forward(replace(ask, fixed={"tp": (4,)})).plan == ForwardPlan(tp=4, lnc=2)


def test_each_number_has_its_laws() -> None:
    """The laws of a plan give the numbers of its row, each with the facts that move it."""
    ask = asked("trn3", 1)
    ask = replace(ask, plan=assess_forward(ask).plan)
    notes = Notes()
    row, terms = assess_forward(ask, notes), forward_laws(ask).terms
    assert {name: terms[name].value for name in terms} == pytest.approx({n: notes.terms[n].value for n in terms})
    assert terms["pass"].value == pytest.approx(value(row.pass_s))
    assert sum(terms[f"{name}.pass"].value for name in row.parts) == pytest.approx(value(row.pass_s))
    for name, held in row.memory_B.items():
        assert terms[f"memory.{name}"].value == pytest.approx(held)
    assert "devices.neuroncore-v4.product_16" in terms["gemm.attn.to_q x 19 layers (kind 1)"].facts
    assert "devices.neuroncore-v4.attention" in terms["attention.core.attn x 19 layers (kind 1)"].facts
    assert not terms["memory.weights"].facts
    with pytest.raises(ValueError, match="one plan"):
        forward_laws(replace(ask, plan=None))


def test_weights_whose_roles_are_not_known_are_not_cut() -> None:
    """Such a model has the plans of one tensor rank, which share its tokens."""
    data = flux_json(double=2, single=2)
    for product in (p for layer in data["layers"] for p in layer["products"]):
        product["role"] = "unknown"
    rows = best_forward(replace(asked("trn3", 2), model=captured_dit(signed(data))), top=9)
    assert all(row.feasible for row in rows)
    assert {row.plan.tp for row in rows if row.plan} == {1}
    assert {row.plan.cp for row in rows if row.plan} == {4, 8}


def test_a_plan_that_is_asked_may_be_too_large() -> None:
    row = assess_forward(replace(asked("h100", 1), plan=ForwardPlan(tp=4)))
    assert row.reason.startswith("no plan is legal with tp4 b1 bf16: tp x cp x cfg is 1 to 1 devices")
