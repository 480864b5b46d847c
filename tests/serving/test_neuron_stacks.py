"""Stacks of Trainium: how rows are read, what a stack adds to a step, what the ranges say, which is the default."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.evidence.measured_tables import TABLES, TRAINIUM, published, read_csv
from mowich.evidence.scores import FITTED_TO, left_out
from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_notes import CompiledGraph
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts, load_facts
from mowich.machines.system import logical_cores, resolve, with_lnc
from mowich.models import load_model
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.requests.jobs import PlanRequest
from mowich.serving.anchors import METRICS, Class, anchors_for
from mowich.serving.search import ServeJob
from mowich.serving.step import step, total
from mowich.software.engine import EngineCosts, about_engine, engine_for, engine_names, kernels_shipped
from mowich.software.vendors import HAND_TUNED
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import plan_serving

FACTS = load_facts()
TOOLS = Path(__file__).resolve().parents[2] / "tools"
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
    """A step that decodes: layers, layers with experts, visits and reads of chosen experts; a step with a prompt: a
    launch for each expert of each layer."""
    s, c = costs("nxdi-xla")
    layers, experts = 48, 128
    one = step(s, c, n=1.0, context=100.0)
    visits = float(c.expert_visit[0])
    assert visits > 0
    assert one["layers"][0] == pytest.approx(layers * float(c.layer[0] + c.moe_layer[0] + 8 * visits))
    once = step(s, replace(c, expert_reads=np.ones(1)), n=1.0, context=100.0)
    share = 1.0 - 8 / experts
    again = 1.0 + (float(c.expert_reads[0]) - 1.0) * share
    assert one["experts"][0] == pytest.approx(once["experts"][0] * again, rel=0.05)
    everybody = step(s, c, n=4000.0, context=100.0)
    read_once = step(s, replace(c, expert_reads=np.ones(1)), n=4000.0, context=100.0)
    assert everybody["experts"][0] == pytest.approx(
        read_once["experts"][0], rel=1e-3
    )  # all are visited: each is read once
    prompt = step(s, c, n=0.0, context=0.0, prompt=4000.0)
    longer, each = float(c.prefill_layer[0]), float(c.expert_launch[0]) + visits
    assert prompt["layers"][0] == pytest.approx(
        layers * (longer * float(c.layer[0] + c.moe_layer[0]) + experts * each), rel=1e-3
    )


@settings(deadline=None, max_examples=10)
@given(ep=st.sampled_from([2, 4, 8, 16]), prompt=st.floats(2000.0, 8000.0), q=st.floats(0.0, 1.0))
def test_ranks_that_share_experts_save_a_part_of_their_launches(ep: int, prompt: float, q: float) -> None:
    """By ep^-q: none at q 0, all but each rank's own at 1; and an engine without launches of experts is untouched."""
    model = load_model("qwen3-30b-a3b")
    shared = ServePlan(tp=16, ep=ep, weights="bf16", kv="bf16")
    s, alone = (shapes(model, ServePlans.of([p])) for p in (shared, replace(shared, ep=1)))

    def launches(at: Shapes, q: float, engine: str = "nxdi-port") -> float:
        on = "trn2:16" if engine == "nxdi-port" else "h200:16"
        c = replace(deploy(model, resolve(FACTS, on), engine, [shared], FACTS).costs, launch_ep=np.array([q]))
        bare = replace(c, expert_launch=np.zeros(1))
        with_, without = (step(at, one, n=0.0, context=0.0, prompt=prompt)["layers"][0] for one in (c, bare))
        return float(with_ - without)

    assert launches(s, q) == pytest.approx(launches(alone, q) * ep**-q)
    assert launches(alone, 0.0) / ep <= launches(s, q) * (1 + 1e-9)
    assert launches(s, q, "vllm") == 0.0
    assert 0.0 < FACTS.number("serving.nxdi-port.launch_ep") < 0.5


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 64), batch=st.integers(1, 64), model=st.sampled_from(["qwen3-30b-a3b", "llama-3.1-8b"]))
def test_a_compiled_graph_computes_its_whole_batch(n: int, batch: int, model: str) -> None:
    """However few decode; a step without decodes has none to pad."""
    s, c = costs("nxdi-port", model=model)
    compiled = replace(c, compiled=np.array([float(batch)]))
    padded, full = (step(s, c1, n=float(m), context=500.0) for c1, m in ((compiled, n), (c, max(n, batch))))
    assert {k: float(v[0]) for k, v in padded.items()} == {k: float(v[0]) for k, v in full.items()}
    prompts = [step(s, one, n=0.0, context=0.0, prompt=100.0)["linear"][0] for one in (c, compiled)]
    assert prompts[0] == prompts[1]


def test_flags_of_a_graph_are_read_from_notes_and_columns() -> None:
    assert found(read(concurrency="1", batch="1")).batch == 0.0
    assert found(read(concurrency="1", batch="", notes="batch 32 graph always")).batch == 32.0
    assert found(read(concurrency="1", batch="32")).batch == 32.0
    assert found(read(concurrency="1", batch="", compiled_batch="16", notes="batch 32 graph always")).batch == 16.0
    assert found(read(notes="torch_block_wise MoE")).block_wise is True
    assert found(read(notes="torch_block_wise MoE", block_wise="no")).block_wise is False
    assert found(read()).asynchronous is None
    base = found(read(source="aws-neuron nki-moe contest baseline"))
    assert (base.sampling_on_device, base.fused_qkv, base.asynchronous, base.block_wise) == (False, False, False, True)
    assert base.disputed
    assert not found(read(notes="KV bucket 2048")).disputed
    anomalous = read(notes="KV bucket 640", concurrency="1", batch="", compiled_batch="8")
    assert found(anomalous).disputed
    assert isinstance(anomalous, ServingCase)
    assert sum(item.startswith(("disputed: ", "compiled batch=8")) for item in anomalous.inferred) == 2
    assert "fused_qkv: 'perhaps'" in str(read(fused_qkv="perhaps"))
    assert "compiled_batch: '2'" in str(read(compiled_batch="2"))


def test_a_row_with_a_compiled_batch_has_its_step() -> None:
    row = {"batch": "", "concurrency": "1", "tp": "4", "lnc": "2", "stack": "contrib-port/default", "chip": "trainium2"}
    one, padded, all_ = (
        gather_cases([case], FACTS)
        for case in (read(**row), read(**row, compiled_batch="32"), read(**{**row, "concurrency": "32"}))
        if isinstance(case, ServingCase)
    )
    alone, whole, many = (
        float(t.steady(np.array([FACTS.number(p) for p in t.columns.names])).tpot_s[0]) for t in (one, padded, all_)
    )
    assert whole == pytest.approx(many)
    assert whole > 1.2 * alone


def found(case: ServingCase | str) -> CompiledGraph:
    assert isinstance(case, ServingCase), case
    return case.graph


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


@pytest.mark.parametrize("on", ["trn2:16", "trn3:16", "trn4:16", "h100:8", "ironwood:16"])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "qwen3-30b-a3b", "deepseek-v3", "qwen3-32b"])
def test_the_default_goes_by_the_class_of_the_model(name: str, on: str) -> None:
    """On Trainium mixtures without a recipe are ports, and the answer says that no server supports them; a named engine
    stays, and other machines have one default."""
    model, system = load_model(name), resolve(FACTS, on)
    usual, mine = engine_for(FACTS, system, None), engine_for(FACTS, system, None, model)
    is_port = on.startswith("trn") and name in ("qwen3-30b-a3b", "deepseek-v3")
    assert mine == ("nxdi-port" if is_port else usual)
    assert ("unsupported" in about_engine(FACTS, mine, name, system.chip)) == is_port
    assert engine_for(FACTS, system, usual, model) == usual
    assert engine_for(FACTS, system, HAND_TUNED, model) == engine_for(FACTS, system, HAND_TUNED)


def test_the_kernels_that_ship_serve_what_they_ship_for() -> None:
    """One model on one chip at one core a device, on decode workers of their own."""
    model, trn3 = load_model("gpt-oss-120b"), resolve(FACTS, "trn3:16")
    narrow = logical_cores(FACTS, trn3, 1)
    assert kernels_shipped(FACTS, narrow, model) == "nxdi-megakernel"
    assert kernels_shipped(FACTS, trn3, model) is None
    assert kernels_shipped(FACTS, narrow, load_model("gpt-oss-20b")) is None
    assert kernels_shipped(FACTS, logical_cores(FACTS, resolve(FACTS, "trn2:16"), 1), model) is None
    assert kernels_shipped(FACTS, resolve(FACTS, "h100:8"), model) is None
    ones = FACTS.with_values(with_lnc(FACTS, 1))
    job, tp8 = ServeJob(prompt=8000.0, output=1000.0), {"tp": (8,), "weights": ("mxfp4",)}

    def engine(facts: Facts, mode: str) -> tuple[str, str]:
        fixed = {**tp8, "mode": (mode,)}
        row = plan_serving(
            PlanRequest(facts=facts, model=model, systems=("trn3:4",), serve=job, fixed=fixed, top=1)
        ).rows[0]
        return row.engine, row.mode

    assert engine(ones, "any") == ("nxdi-megakernel", "disaggregated")
    assert engine(ones, "aggregated") == ("vllm-neuron", "aggregated")
    assert engine(FACTS, "disaggregated") == ("vllm-neuron", "disaggregated")


def test_a_port_of_deepseek_on_64_ranks_is_near_its_measured_rows() -> None:
    plan = ServePlan(tp=64, weights="bf16", kv="bf16")
    d = deploy(load_model("deepseek-v3"), resolve(FACTS, "trn2:16"), "nxdi-port", [plan], FACTS)
    assert 18e-3 < float(total(step(d.shapes, d.costs, n=1.0, context=384.0))[0]) < 25e-3


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
    for entry in (e for e in left_out() if e.work == FITTED_TO[TRAINIUM] and e.what == "time per token"):
        assert entry.median < 0.2
        assert entry.p90 < 0.45
        assert entry.in_range is not None
        assert 0.85 <= entry.in_range <= 0.95 or entry.chip
    assert sum(held) / len(held) > 0.85


@pytest.mark.slow
def test_no_source_that_is_left_out_is_far_off() -> None:
    """Every source with three rows or more is left out in turn, and the rest is fitted again: half of its times per
    token are within the stated bound, and most of them in range."""
    sys.path.insert(0, str(TOOLS))
    try:
        import fit_neuron as fit
    finally:
        sys.path.remove(str(TOOLS))
    cases = [c for c in read_serving_cases(read_csv(published(TRAINIUM), FACTS), FACTS) if isinstance(c, ServingCase)]
    problem = fit.Problem(cases, FACTS)
    every, _ = fit.solve(problem, np.ones(len(cases), dtype=bool))
    outside = fit.left_out(problem, every, [c.source for c in cases])
    widths = fit.half_widths(problem, outside)
    miss = np.abs(outside["tpot"] - problem.measured["tpot"])
    half = np.array([widths["tpot", "moe" if fit.is_moe(c) else "dense"] for c in cases])
    for source in {c.source for c in cases}:
        at = np.array([c.source == source for c in cases]) & ~np.isnan(miss)
        if at.sum() >= 3:
            assert np.expm1(np.median(miss[at])) < 0.41, source
            assert np.mean(miss[at] <= half[at]) > 0.6, source
