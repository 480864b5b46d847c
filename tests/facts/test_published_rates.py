"""No term of the planner runs above the published rates, with the constants as they are and with all of them at the
high ends of their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import PRECISIONS, System
from mowich.models.builtin import builtin
from mowich.operators.kernels import Kernels
from mowich.operators.law import gemm_s
from mowich.operators.rates import rates
from mowich.plans.plan import WEIGHTS, ServePlan, ServePlans, TrainJob
from mowich.plans.shapes import shapes
from mowich.serving import engines
from mowich.serving import step as serving_step
from mowich.software.engine import engine_for
from mowich.software.stack import equip
from mowich.training.stage import head_times

SYSTEMS = (
    "a100-80g",
    "h100",
    "h200",
    "b200",
    "b300",
    "gb200",
    "gb300",
    "trn1",
    "trn2",
    "trn3",
    "trn4",
    "v5e",
    "v5p",
    "v6e",
    "ironwood",
    "mi300x",
    "l40s",
)
WIDTH_B = {"bf16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5, "mxfp4": 0.5, "int8": 1.0}
CASES = 300


def at_high_ends(facts: Facts, kind: str) -> Facts:
    """Every constant of devices, and of `training` or `serving`, that has a range at its high end."""
    paths = [path for k in ("devices", kind) for name in facts.ids(k) for path in facts.paths(f"{k}.{name}")]
    found = [(path, facts.get(path)) for path in paths if "ref" not in facts.leaf(path)]
    return facts.with_values({path: float(f.high) for path, f in found if f is not None and f.high is not None})


def machines(facts: Facts) -> list[System]:
    return [equip(facts, name) for name in SYSTEMS]


@pytest.mark.parametrize("ends", [False, True])
def test_products_of_a_training_step(facts: Facts, ends: bool) -> None:
    rng = np.random.default_rng(1)
    m, n, k = np.exp(rng.uniform(np.log(16), np.log(1e6), (3, CASES))).round()
    groups = rng.integers(1, 65, CASES).astype(float)
    for system in machines(at_high_ends(facts, "training") if ends else facts):
        for name, peak in system.peak_flops.items():
            r = rates(system, np.full(CASES, float(PRECISIONS.index(name))))
            for experts in (1.0, groups):
                seconds = gemm_s(m, n, k, r, groups=experts)
                assert (2.0 * experts * m * n * k / seconds <= peak * (1 + 1e-9)).all(), (system.id, name)
                moved = experts * (WIDTH_B[name] * (m * k + k * n) + 2.0 * m * n)
                assert (moved / seconds <= system.hbm_Bps * (1 + 1e-9)).all(), (system.id, name)


@pytest.mark.parametrize("ends", [False, True])
def test_head_and_attention_of_a_training_step(facts: Facts, ends: bool) -> None:
    """Of llama3-8b, one rank: attention's forward is 4 x half the square, the backward twice as much work; the head is
    one product in 16 bit."""
    from mowich.plans.plan import Plan, Plans
    from mowich.training.parts import layer_times

    model, seq = builtin("llama3-8b"), 8192.0
    job, p = TrainJob(tokens=1e9, seq=seq, batch_seqs=64), Plans.of([Plan(dp=8, micro_batch=b) for b in (1, 2, 8)])
    layer, t = model.layers[0], np.array([1.0, 2.0, 8.0]) * seq
    core = 2.0 * 2.0 * t * (seq / 2.0) * layer.attention.num_heads * layer.attention.head_dim
    for system in machines(at_high_ends(facts, "training") if ends else facts):
        peak = system.peak_flops["bf16"] * (1 + 1e-9)
        x = layer_times(model, layer, system, job, p)
        assert (core / x["attention"] <= peak).all(), system.id
        assert (2.0 * core / x.backward["attention"] <= peak).all(), system.id
        forward, _, weights = head_times(model, system, job, p, rates(system, p.precision))
        for seconds in (forward, weights):
            assert (2.0 * t * model.vocab * model.hidden / seconds <= peak).all(), system.id


@pytest.mark.parametrize("name", ["trn1", "trn2", "trn3", "trn4"])
def test_products_by_tables_or_by_formula_where_none_reaches(facts: Facts, name: str) -> None:
    """A training step asks for the mean of three products; also at the low ends of the tables' intervals, and with
    columns of experts."""
    rng = np.random.default_rng(3)
    m, n, k = np.exp(rng.uniform(np.log(16), np.log(1e5), (3, CASES))).round()
    groups = rng.integers(1, 129, CASES).astype(float)
    system = equip(facts, name)
    for precision in set(system.peak_flops) & set(WIDTH_B):
        for down in (0.0, 1.0):
            r = rates(system, np.full(CASES, float(PRECISIONS.index(precision))), Kernels(system.chip, down=down))
            for experts in (1.0, groups):
                seconds = gemm_s(m, n, k, r, groups=experts)
                assert (2.0 * experts * m * n * k / seconds <= system.peak_flops[precision] * (1 + 1e-9)).all()


def test_a_share_above_the_published_rate_is_refused(facts: Facts) -> None:
    for name in ("product_16", "attention", "memory"):
        with pytest.raises(
            UserError, match=rf"devices\.neuroncore-v3\.{name}: out of range, got '1.2'; allowed: above 0 to 1"
        ):
            facts.with_values({f"devices.neuroncore-v3.{name}": 1.2})


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("name", ["llama3-8b", "deepseek-v3", "qwen3-30b-a3b"])
def test_terms_of_a_serving_step(facts: Facts, name: str, ends: bool) -> None:
    """Weights read once at HBM's rate, products at the peak of the format that multiplies, attention at the 16-bit peak
    or its cache's way."""
    rng = np.random.default_rng(2)
    model = builtin(name)
    known = at_high_ends(facts, "serving") if ends else facts
    cases, plans = [], []
    for system in machines(known):
        for weights in ("bf16", "fp8", "nvfp4", "mxfp8", "int4"):
            plan = ServePlan(tp=int(2 ** rng.integers(0, 4)), weights=weights)
            plans.append(plan)
            cases.append(
                engines.Served(
                    model=model,
                    arch=engines.architecture(model),
                    system=system,
                    engine=engine_for(known, system, None),
                    plan=plan,
                )
            )
    s = shapes(model, ServePlans.of(plans))
    c, *_ = engines.constant_columns(cases).constants(known.number)
    ranges = ((1, 4096), (16, 1e5), (1, 32768), (16, 1e5))
    n, context, prompt, seen = (np.exp(rng.uniform(np.log(a), np.log(b), len(cases))) for a, b in ranges)
    x = serving_step.step(s, c, n=n, context=context, prompt=prompt, prompt_context=seen)
    m, ok = n + prompt, 1 + 1e-9
    hbm = np.array([case.system.hbm_Bps for case in cases]) * ok
    top = (
        np.array([max(case.system.peak_flops[w] for w in case.system.peak_flops if w in WEIGHTS) for case in cases])
        * ok
    )
    top16 = np.array([case.system.peak_flops["bf16"] for case in cases]) * ok
    for part, W, b, rows, peak in (("linear", s.W_linear, s.b_linear, m, top), ("head", s.W_head, 2.0, n, top16)):
        assert (2.0 * W * rows / x[part] <= peak).all(), part
        assert (W * b / x[part] <= hbm).all(), part
    kv = np.sum(s.att_layers * s.kv * np.minimum(context, s.window), axis=0) * n * s.b_kv
    assert (kv / x["attention"] <= hbm).all()
    decode = np.sum(s.att_layers * s.f_dec * np.minimum(context, s.window), axis=0) * n
    assert (decode / x["attention"] <= top16).all()
    prefill = np.sum(s.att_layers * s.f_pre * np.minimum(seen, s.window), axis=0) * prompt
    assert (prefill / x["prefill_attention"] <= top16).all()
    if np.any(s.moe_layers):
        routed = 2.0 * np.sum(s.moe_layers * s.top_k * s.W_expert, axis=0) * m / s.tp
        assert (routed / x["experts"] <= top).all()
