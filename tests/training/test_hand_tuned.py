"""The hand-tuned step: operators by the kernel tables, the formulas where a table does not reach, and the share that
was timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.rows import read_cases
from mowich.evidence.validate import predict as predict_case
from mowich.evidence.validate import with_hand_tuned
from mowich.facts import Facts
from mowich.machines.system import PRECISIONS, resolve
from mowich.models.builtin import builtin
from mowich.operators.kernels import ROW, Kernels
from mowich.operators.tables import operator_s
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.requests.command import command_of
from mowich.software.engine import engine_for
from mowich.software.stack import equip
from mowich.studies.scaling import scaling
from mowich.training.step import predict_step, step_time
from mowich.training.tuned import has_kernels, predict_hand_tuned

BF16, FP8, MXFP8 = (float(PRECISIONS.index(name)) for name in ("bf16", "fp8", "mxfp8"))
JOB = TrainJob(tokens=1e9, seq=4096, batch_seqs=64)
PLAN = Plan(tp=8, sp=True, dp=8, zero=1)


def one(x: float) -> np.ndarray:
    return np.array([x])


def matmul_s(chip: str, dtype: str, m: float, n: float, k: float) -> float:
    return float(operator_s(chip, "matmul", dtype, {"m": m, "n": n, "k": k}).seconds)


@pytest.mark.parametrize(
    ("chip", "index", "dtype"), [("trainium1", BF16, "bf16"), ("trainium2", FP8, "fp8"), ("trainium3", MXFP8, "mxfp8")]
)
def test_a_product_takes_the_mean_of_its_three(chip: str, index: float, dtype: str) -> None:
    m, n, k = 4096.0, 3584.0, 5120.0
    got = Kernels(chip).products(one(m), one(n), one(k), 1.0, one(index), one(7.0))
    three = [matmul_s(chip, dtype, *s) for s in ((m, n, k), (m, k, n), (k, n, m))]
    assert got == pytest.approx(np.mean(three))


def test_where_no_table_reaches_the_formula_stands() -> None:
    kernels = Kernels("trainium3")
    narrow = kernels.products(
        one(4096), one(64), one(4096), 1.0, one(BF16), one(7.0)
    )  # n below the smallest: two of three have no time
    assert narrow == pytest.approx((7.0 + 7.0 + 7.0) / 3)
    assert Kernels("trainium4").products(one(4096), one(4096), one(4096), 1.0, one(BF16), one(7.0)) == 7.0
    assert (
        kernels.products(one(4096), one(4096), one(4096), 1.0, one(float(PRECISIONS.index("mxfp4"))), one(7.0)) == 7.0
    )
    assert kernels.optimizer(one(10.0), one(7.0)) == 7.0


def test_a_long_contraction_is_done_in_parts() -> None:
    m, n, k = 2048.0, 4096.0, 40000.0
    got = Kernels("trainium2").products(one(m), one(n), one(k), 1.0, one(BF16), one(7.0))
    three = [
        3 * matmul_s("trainium2", "bf16", m, n, k / 3),
        matmul_s("trainium2", "bf16", m, k, n),
        matmul_s("trainium2", "bf16", k, n, m),
    ]
    assert got == pytest.approx(np.mean(three))


def test_columns_of_recipes_and_experts_are_as_each_alone() -> None:
    kernels = Kernels("trainium3")
    m, n, k = np.array([4096.0, 512.0, 900.0]), np.array([4096.0, 2048.0, 1024.0]), np.array([4096.0, 1024.0, 2048.0])
    recipe, experts = np.array([BF16, MXFP8, FP8]), np.array([2.0, 1.0, 16.0])
    got = kernels.products(m, n, k, experts, recipe, np.full(3, 7.0))
    for i in range(3):
        alone = kernels.products(m[[i]], n[[i]], k[[i]], experts[[i]], recipe[[i]], one(7.0))
        assert got[i] == pytest.approx(alone[0])


def test_attention_in_chunks_and_kinds_without_a_table() -> None:
    kernels, again = Kernels("trainium3"), 2.5
    dense, latent = builtin("llama3-8b").layers[0], builtin("deepseek-v3").layers[0]
    forward, backward = kernels.attention(dense.attention, one(4.0), 32768.0, one(0.5), again, (one(7.0), one(9.0)))
    chunks = [{"heads": 4.0, "queries": 8192.0, "prefix": 8192.0 * i, "head_dim": 128.0} for i in range(4)]
    whole = sum(float(operator_s("trainium3", "attention_prefill", "bf16", c).seconds) for c in chunks)
    assert forward == pytest.approx(0.5 * whole)
    assert backward == pytest.approx(again * 0.5 * whole)
    assert kernels.attention(latent.attention, one(4.0), 4096.0, one(1.0), again, (one(7.0), one(9.0))) == (7.0, 9.0)


def test_hand_tuned_is_the_same_plan_without_the_framework(facts: Facts) -> None:
    model, system = builtin("llama3-8b"), equip(facts, "trn2", chips=16)
    shipped, tuned = predict_step(model, system, JOB, PLAN), predict_hand_tuned(model, system, JOB, PLAN)
    assert tuned.step.breakdown["software"] == 0
    assert sum(tuned.step.breakdown.values()) == pytest.approx(tuned.step.total_s)
    assert tuned.low_s < tuned.step.total_s < tuned.high_s
    assert tuned.step.total_s < shipped.total_s
    for part in ("tp", "dp", "pp_transfer", "fixed"):  # the network and the host stay
        assert tuned.step.breakdown[part] == pytest.approx(shipped.breakdown[part], rel=0.2)


def test_coverage_is_the_share_of_timed_operators(facts: Facts) -> None:
    model, system = builtin("llama3-8b"), equip(facts, "trn3", chips=16)
    tuned = predict_hand_tuned(model, system, JOB, PLAN)
    parts = tuned.step.breakdown
    timed = (
        parts["gemm"]
        + parts["attention"] / (1 + system.stack.backward_attention)
        + parts["memory_bound"] / 3
        + parts["optimizer"]
    )
    timed *= 1 + parts["jitter"] / (tuned.step.total_s - parts["jitter"])  # jitter is a share of all
    rest = tuned.coverage * tuned.step.total_s - timed  # of the head and recompute
    assert 0 < rest < parts["head"] + parts["recompute"]
    assert 0.3 < tuned.coverage < 0.95


@pytest.mark.parametrize(
    ("chip", "name", "said"),
    [
        ("trn3", "gemm.shared_up", "operator tables of trainium3: kernels of ours"),
        ("trn3", "moe.experts", "operator tables of trainium3: kernels of ours"),
        ("trn3", "attention.core", "the formula: no operator table of trainium3 reaches this"),
        ("trn3", "memory_bound", "33% from operator tables of trainium3; the rest"),
        ("trn4", "moe.experts", "the formula: no operator table of trainium4 reaches this"),
    ],
)
def test_each_term_says_whether_a_table_reaches_it(facts: Facts, chip: str, name: str, said: str) -> None:
    """Latent attention has no table, and Trainium4 has none at all; of memory-bound work the forward pass was timed, a
    third of it."""
    notes = Notes()
    predict_hand_tuned(builtin("deepseek-v3"), equip(facts, chip, chips=256), JOB, Plan(dp=1024, ep=64, zero=3), notes)
    found = [t for key, t in notes.terms.items() if key.startswith(f"{name} x 58 layers")]
    assert len(found) == 1
    assert said in found[0].note


def test_a_chip_without_tables_is_all_formula(facts: Facts) -> None:
    model, system = builtin("llama3-8b"), equip(facts, "trn4", chips=64)
    shipped, tuned = predict_step(model, system, JOB, PLAN), predict_hand_tuned(model, system, JOB, PLAN)
    assert has_kernels(system)
    assert tuned.coverage == 0
    assert tuned.step.total_s == pytest.approx(shipped.total_s - shipped.breakdown["software"])


def test_many_plans_are_as_each_alone(facts: Facts) -> None:
    model, system = builtin("qwen3-30b-a3b"), equip(facts, "trn3", chips=64)
    kernels = Kernels(system.chip)
    plans = [
        Plan(tp=t, sp=t > 1, dp=256 // t, ep=e, zero=1, micro_batch=b, precision=f)
        for t, e, b, f in ((1, 32, 1, "bf16"), (4, 64, 2, "mxfp8"), (2, 128, 1, "fp8"))
    ]
    job = TrainJob(tokens=1e9, seq=ROW, batch_seqs=1024)
    together = step_time(model, system, job, Plans.of(plans), kernels=kernels).total_s
    alone = [float(step_time(model, system, job, Plans.of([p]), kernels=kernels).total_s[0]) for p in plans]
    assert together == pytest.approx(alone)


def test_every_trainium_row_has_both_values_and_trn2_lies_in_its_interval(facts: Facts) -> None:
    rows = [row for row in read_csv(published(), facts) if row["chip"] in ("Trn1", "Trn2")]
    cases = [c for c in read_cases(rows, facts) if not isinstance(c, str)]
    found = with_hand_tuned(predict_case(case, facts) for case in cases)
    factors = {chip: [r.framework_factor or 0.0 for r in found if r.chip == chip] for chip in ("Trn1", "Trn2")}
    assert len(factors["Trn1"]) > 80
    assert all((r.hand_tuned_coverage or 0) > 0.1 for r in found)
    # a step's fixed time is fitted: a run of steps of 0.4 s may be faster than a sum of which it is a third
    slower = {r.id: (r.framework_factor or 0.0) > 1 for r in found if (r.case.measured_step_s if r.case else 0.0) > 0.5}
    assert len(slower) > 60
    assert all(slower.values())
    assert min(min(f) for f in factors.values()) > 0.9
    assert 1.3 < np.median(factors["Trn1"]) < 2.0
    assert len(factors["Trn2"]) == 1
    assert all(r.is_covered for r in found if r.chip == "Trn2")


def test_layers_without_attention_have_no_table_of_it(facts: Facts) -> None:
    """Nemotron 3: layers of experts alone, of Mamba, of attention."""
    model, system = builtin("nemotron-3-nano"), equip(facts, "trn3", chips=16)
    tuned = predict_hand_tuned(model, system, JOB, Plan(dp=64, ep=16, zero=3))
    assert tuned.step.breakdown["attention"] > 0
    assert 0 < tuned.coverage < 1


ASKED = {"train": {"tokens": "1T", "seq": 4096, "batch": "256seqs"}, "chips": 64}


def test_the_plan_that_is_best_with_hand_tuned_kernels_is_taken(facts: Facts) -> None:
    """On Trainium 2 another plan is best for this job than with the software as shipped; on more chips too."""
    asked: dict[str, Any] = {"train": {"tokens": "1T", "seq": 8192, "batch": "1024seqs"}, "chips": 4096}
    shipped = mowich.compare("llama-3.1-405b", ["trn2"], **asked).rows[0]
    found = mowich.compare("llama-3.1-405b", ["trn2"], stack="hand-tuned", **asked)
    tuned = found.rows[0]
    assert shipped.hand_tuned_step_s is not None
    assert tuned.plan != shipped.plan
    assert float(tuned.step_s) < float(shipped.hand_tuned_step_s)
    assert sum(tuned.breakdown.values()) == pytest.approx(float(tuned.step_s))
    result = json.loads(json.dumps(found.to_dict()))
    [size] = scaling(builtin("llama-3.1-405b"), result["rows"][0], result["inputs"], facts, sizes=(4096,))[:1]
    assert size.chips == 4096
    assert size.step_s / size.batch_scale == pytest.approx(float(tuned.step_s), rel=0.1)  # the page draws this time


def test_a_comparison_with_hand_tuned_software_takes_that_step_and_leaves_other_makers_alone() -> None:
    """Where the same plan is best, the step is the one that stands beside it there, and what follows from a step
    follows from this one."""
    one = {**ASKED, "fixed": {"tp": "4", "micro_batch": "4"}}
    shipped = mowich.compare("llama-3.1-8b", ["trn3", "h100"], **one).to_dict()
    tuned = mowich.compare("llama-3.1-8b", ["trn3", "h100"], stack="hand-tuned", **one).to_dict()
    before, after = shipped["rows"][0], tuned["rows"][0]
    assert after["plan"] == before["plan"]
    assert after["hand_tuned_step_s"] is None
    for key in ("value", "low", "high", "grade", "coverage", "breakdown"):
        assert after["step_s"][key] == before["hand_tuned_step_s"][key], key
    faster = before["step_s"]["value"] / after["step_s"]["value"]
    assert faster > 1.2
    assert after["tokens_per_s_per_chip"]["value"] == pytest.approx(faster * before["tokens_per_s_per_chip"]["value"])
    assert after["mfu"]["value"] == pytest.approx(faster * before["mfu"]["value"])
    days = after["step_s"]["value"] / before["step_s"]["value"] * before["goodput"]["value"] / after["goodput"]["value"]
    assert after["days"]["value"] == pytest.approx(days * before["days"]["value"])
    assert after["usd_per_mtok"]["value"] == pytest.approx(days * before["usd_per_mtok"]["value"])
    assert not any("framework_carry" in move["fact"] for move in after["spread"])
    assert [s["stack"] for s in tuned["inputs"]["systems"]] == ["torchtitan-neuron, hand-tuned", "megatron"]
    for key, value in shipped["rows"][1].items():
        if not key.startswith("breakeven"):  # which is against the other row
            assert tuned["rows"][1][key] == value, key


def test_a_comparison_is_made_again_with_the_software_that_was_named(tmp_path: Path) -> None:
    """Also one that some maker ships anyway, and one of serving."""
    train = "--train --tokens 1T --seq 4096 --batch 256seqs --on trn3,h100 --chips 64"
    serve = "--serve --isl 1000 --osl 200 --on trn3,h100 --chips 4"
    for words, named in (
        (train, "--stack hand-tuned"),
        (train, "--stack megatron"),
        (serve, "--engine hand-tuned"),
        (serve, "--engine vllm"),
        (train, ""),
    ):
        file = tmp_path / "r.json"
        assert cli.run([*f"compare llama-3.1-8b {words} {named}".split(), "--out", str(file), "--quiet"]) == 0
        again = command_of(json.loads(file.read_text(encoding="utf-8")))
        assert named in again
        assert ("--stack" in again or "--engine" in again) == bool(named)


def test_hand_tuned_is_a_choice_of_comparisons_and_of_engines_that_have_one(facts: Facts) -> None:
    assert [engine_for(facts, resolve(facts, s), "hand-tuned") for s in ("trn2", "trn3", "trn1", "gb300")] == [
        "nxdi-megakernel",
        "nxdi-megakernel",
        *(engine_for(facts, resolve(facts, s), None) for s in ("trn1", "gb300")),
    ]
    with pytest.raises(UserError, match="is a choice that only compare has, got 'hand-tuned'"):
        mowich.plan("llama-3.1-8b", "trn3:64", train=ASKED["train"], stack="hand-tuned")
