"""What the software of forward passes does to measured models: masks, older kernels, a board that its power holds."""

from __future__ import annotations

import pytest

from mowich.facts import Facts
from mowich.models.builtin import builtin, captured_names
from mowich.plans.forward import ForwardJob, ForwardPlan
from mowich.studies.forward import assess_forward
from mowich.studies.forward_row import ForwardAsk, ForwardRow

EAGER = "training.diffusers-eager"


def one_pass(facts: Facts, name: str, on: str) -> ForwardRow:
    job = ForwardJob(task="diffuse", tokens=4096, batch=1)
    ask = ForwardAsk(model=builtin(name), job=job, on=on, system_id=on, chips=1, facts=facts, plan=ForwardPlan())
    return assess_forward(ask)


@pytest.mark.parametrize("name", captured_names())
@pytest.mark.parametrize("on", ["h100-pcie", "b300"])
def test_only_attention_with_a_mask_is_slower_for_dense_masks(facts: Facts, name: str, on: str) -> None:
    dense, packed = one_pass(facts, name, on), one_pass(facts.with_values({f"{EAGER}.dense_masks": 0.0}), name, on)
    model = builtin(name)
    has_masks = any(core.is_masked for layer in model.layers for core in getattr(layer.mixer, "cores", ()))
    assert (dense.parts["attention"] > packed.parts["attention"]) is has_masks
    moved = ("attention", "outside", "host")  # the host is waited for where the device is done sooner
    assert {k: v for k, v in dense.parts.items() if k not in moved} == {
        k: v for k, v in packed.parts.items() if k not in moved
    }
    assert has_masks is (name in ("hunyuan-video", "ltx-2"))


@pytest.mark.parametrize("on", ["h100-pcie", "b300"])
def test_kernels_of_the_generation_are_faster_than_older_ones(facts: Facts, on: str) -> None:
    older = one_pass(facts, "flux.1-dev", on)
    newer = one_pass(facts.with_values({f"{EAGER}.has_older_attention": 0.0}), "flux.1-dev", on)
    assert newer.parts["attention"] < older.parts["attention"]


@pytest.mark.parametrize("name", captured_names())
def test_a_board_of_350_W_is_never_faster_than_the_module_of_700_W(facts: Facts, name: str) -> None:
    board, module = (one_pass(facts, name, on).pass_s.value for on in ("h100-pcie", "h100"))
    assert board is not None
    assert module is not None
    assert board > module
