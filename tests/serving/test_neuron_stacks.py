"""Stacks of Trainium: how rows are read, what a stack adds to a step, what the ranges say, which is the default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.validate import TABLES, published, read_csv, validate_rows
from mowich.facts import load_facts
from mowich.machines.system import logical_cores, resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.serving.anchors import METRICS, Class, anchors_for
from mowich.serving.step import step
from mowich.software.engine import EngineCosts, engine_for, engine_names
from mowich.studies.serving import deploy

FACTS = load_facts()
ROW = {
    "id": "r",
    "source": "somebody",
    "date": "2026",
    "chip": "trainium3",
    "n_chips": "1",
    "framework": "NxD Inference",
    "model": "gpt-oss-20b",
    "precision": "BF16",
    "mode": "aggregated",
    "tp": "8",
    "isl": "7",
    "osl": "633",
    "concurrency": "4",
    "batch": "4",
    "tpot_ms": "10",
    "stack": "nxdi/megakernel",
    "lnc": "1",
}
STACKS = ("nxdi-megakernel", "nxdi-nki", "nxdi-port", "nxdi-xla", "vllm-neuron")


def read(**cells: str) -> ServingCase | str:
    return read_serving_cases([{**ROW, **cells}], FACTS)[0]


def costs(engine: str, on: str = "trn2:1", model: str = "qwen3-30b-a3b") -> tuple[Shapes, EngineCosts]:
    plan = ServePlan(tp=4, weights="bf16", kv="bf16")
    d = deploy(load_model(model), resolve(FACTS, on), engine, [plan], FACTS)
    return shapes(load_model(model), ServePlans.of([plan])), d.costs


def test_a_stack_and_its_cores_are_read_from_the_row() -> None:
    case = read()
    assert isinstance(case, ServingCase)
    assert (case.engine, case.is_static, case.chips) == ("nxdi-megakernel", True, 1)
    assert case.system.devices_per_chip == 8
    whole = resolve(FACTS, "trn3:1")
    assert case.system.hbm_Bps * 8 == pytest.approx(whole.hbm_Bps * whole.devices_per_chip)
    assert "n_chips" in str(read(lnc="2"))  # eight devices of two cores each are two chips
    served = read(stack="vllm-neuron/default", tp="4", lnc="2")
    assert isinstance(served, ServingCase)
    assert (served.engine, served.is_static) == ("vllm-neuron", False)


def test_a_stack_or_cores_that_are_not_known_are_refused() -> None:
    assert "stack: 'nxdi/cuda'" in str(read(stack="nxdi/cuda"))
    assert "lnc" in str(read(lnc="3"))
    with pytest.raises(UserError, match="not groups of cores"):
        logical_cores(FACTS, resolve(FACTS, "h100:8"), 1)


def test_a_part_of_a_chip_is_refused_and_a_rate_of_decoding_is_not_scored() -> None:
    assert "part of a chip" in str(read(notes="TP1 is 1/4 of a chip, n_chips 1 is a stand-in"))
    case = read(output_tok_s_per_chip="400")
    assert isinstance(case, ServingCase)
    assert "decoding alone" in case.skip["output_tok_s_per_chip"]
    assert "output_tok_s_per_chip" not in getattr(
        read(output_tok_s_per_chip="300"), "skip", {"output_tok_s_per_chip": ""}
    )


def test_what_a_stack_adds_to_a_step() -> None:
    """A step that decodes: layers, layers with experts, and reads of chosen experts; a step with a prompt: a launch for
    each expert of each layer."""
    s, c = costs("nxdi-xla")
    layers, experts = 48, 128
    one = step(s, c, n=1.0, context=100.0)
    assert one["layers"][0] == pytest.approx(layers * float(c.layer[0] + c.moe_layer[0]))
    once = step(s, replace(c, expert_reads=np.ones(1)), n=1.0, context=100.0)
    share = 1.0 - 8 / experts
    again = 1.0 + (float(c.expert_reads[0]) - 1.0) * share
    assert one["experts"][0] == pytest.approx(once["experts"][0] * again, rel=0.05)
    everybody = step(s, c, n=4000.0, context=100.0)
    read_once = step(s, replace(c, expert_reads=np.ones(1)), n=4000.0, context=100.0)
    assert everybody["experts"][0] == pytest.approx(
        read_once["experts"][0], rel=1e-3
    )  # all are visited: each is read once
    prompt = step(s, c, n=0.0, context=0.0, prompt=100.0)
    longer = float(c.prefill_layer[0])
    assert prompt["layers"][0] == pytest.approx(
        layers * (longer * float(c.layer[0] + c.moe_layer[0]) + experts * float(c.expert_launch[0]))
    )


def test_fixed_times_fall_with_the_generation() -> None:
    (s, old), (_, new) = costs("nxdi-xla"), costs("nxdi-xla", "trn3:1")
    shorter = FACTS.number("serving.generations.neuroncore-v4")
    assert 0.4 < shorter < 1.0
    before, after = (step(s, c, n=1.0, context=100.0)["layers"][0] for c in (old, new))
    assert after == pytest.approx(shorter * before)


def test_engines_without_constants_of_their_own_are_as_they_were() -> None:
    """What only stacks of Trainium have does nothing elsewhere."""
    _, c = costs("vllm", "h200:4")
    for name, value in (("moe_layer", 0.0), ("expert_launch", 0.0), ("expert_reads", 1.0), ("prefill_layer", 1.0)):
        assert float(getattr(c, name)[0]) == value
    assert float(c.fixed_times[0]) == 1.0


def test_the_default_is_what_a_customer_gets_and_hand_tuned_is_faster() -> None:
    assert set(STACKS) <= set(engine_names(FACTS))
    for on in ("trn2:1", "trn3:1"):
        assert engine_for(FACTS, resolve(FACTS, on), None) == "vllm-neuron"
        s, slow = costs("vllm-neuron", on)
        _, fast = costs("nxdi-megakernel", on)
        default, tuned = (sum(v[0] for v in step(s, c, n=1.0, context=500.0).values()) for c in (slow, fast))
        assert tuned < 0.7 * default
    assert engine_for(FACTS, resolve(FACTS, "inf2:1"), None) == "neuron"


def test_ranges_are_wider_where_no_row_is() -> None:
    stacks = anchors_for("vllm-neuron")
    assert stacks is not anchors_for("vllm")
    assert stacks.knows("neuroncore-v4")
    one = Class(
        engine="vllm-neuron",
        arch="moe",
        model="gpt-oss-20b",
        family="neuroncore-v4",
        chip="trainium3",
        vendor="AWS",
        weights="bf16",
        plan="tp",
        users=1.0,
        prompt=1024.0,
        output=128.0,
        ranks=4.0,
    )
    cases = [one, replace(one, arch="mla"), replace(one, family="neuroncore-v5")]
    for metric in METRICS:
        shift, half = stacks.apply(metric, cases)
        assert not shift.any()
        assert 0.2 < half[0] < half[1] == half[2]
    assert [stacks.distance(c) for c in cases] == [
        "measured nearby",
        "measured for this family",
        "measured for this vendor",
    ]


def test_published_rows_of_trainium_are_scored_by_stack() -> None:
    found = validate_rows("trainium-serving", FACTS)
    assert found.path == TABLES["trainium-serving"]
    assert len({r.id for r in found.rows}) == len(read_csv(published(TABLES["trainium-serving"]), FACTS))
    summary = found.summary()
    assert len(summary["by_stack"]) == 8
    tpot = [r for r in found.rows if r.metric == "tpot_ms" and r.abs_error is not None]
    for chip in ("trainium2", "trainium3"):
        errors = sorted(r.abs_error or 0.0 for r in tpot if r.chip == chip)
        assert len(errors) >= 18
        assert errors[len(errors) // 2] < 0.2
    held = [bool(r.is_covered) for r in tpot]
    assert sum(held) / len(held) > 0.85
