"""A block as it was captured against the same layer of ours, and what must hold for any list of products."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import numpy as np
import pytest
from tests.traced_layers import traced_model, traced_of

from mowich.errors import UserError
from mowich.estimate import Notes
from mowich.evidence.residual import half_width
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import Model, load_model
from mowich.models.attention import NO_ATTENTION, Attention
from mowich.models.model import NO_FFN, Layer, Mlp, Moe, Recurrent
from mowich.models.traced import Traced
from mowich.operators import list as operators
from mowich.plans.enumerate import legal_plans, tp_degrees
from mowich.plans.memory import memory_B, weights_B
from mowich.plans.plan import Plan, Plans, ServePlan, ServePlans, TrainJob
from mowich.plans.shapes import shapes
from mowich.plans.workers import worker_plans
from mowich.software.stack import Platform, equip
from mowich.training.layer import rank_share
from mowich.training.step import micro_batches_of, predict_step

FACTS = load_facts()
SYSTEMS = [equip(FACTS, on) for on in ("h100:64", "trn3:64", "trn2:128", "gb300:72", "ironwood:64")]
JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=256.0)


def drawn_attention(rng: random.Random) -> Attention:
    kv, size = rng.choice((2, 4, 8)), rng.choice((64, 128))
    return Attention(
        kind="gqa",
        num_heads=kv * rng.choice((1, 2, 8)),
        num_kv_heads=kv,
        head_dim=size,
        v_head_dim=size,
        window=rng.choice((None, None, 1024)),
        sinks=rng.random() < 0.3,
        qkv_bias=rng.random() < 0.3,
        causal=rng.random() < 0.9,
    )


def drawn_model(rng: random.Random, layers: int = 2) -> Model:
    """A model of ours: attention and dense or routed feed-forwards, either alone too."""
    hidden, kinds = 256 * rng.randint(2, 16), list[Layer]()
    for _ in range(layers):
        ffn: Mlp | Moe = Mlp(ffn=256 * rng.randint(2, 40), gated=rng.random() < 0.7, bias=rng.random() < 0.3)
        if rng.random() < 0.4:
            shared = rng.choice((0, 512))
            ffn = Moe(num_experts=16, top_k=2, ffn=256 * rng.randint(1, 4), shared_ffn=shared)
        has = rng.choice(("both", "both", "mixer", "ffn")) if kinds else "both"
        kinds.append(
            Layer(
                count=rng.randint(1, 12),
                mixer=NO_ATTENTION if has == "ffn" else drawn_attention(rng),
                ffn=NO_FFN if has == "mixer" else ffn,
                norm_params=2 * hidden,
                hidden=hidden,
            )
        )
    return replace(load_model("llama-3.1-8b"), hidden=hidden, layers=tuple(kinds), pattern=())


def drawn_plans(model: Model, system: Platform, rng: random.Random, number: int = 4) -> list[Plan]:
    plans = legal_plans(model, system, JOB, {"precision": ["bf16"], "schedule": ["1f1b"]}).plans
    return [plans.plan(rng.randrange(len(plans))) for _ in range(number)]


def memory(model: Model, system: Platform, plan: Plan) -> dict[str, float]:
    p = Plans.of([plan])
    return {name: float(held[0]) for name, held in memory_B(model, system, JOB, p, micro_batches_of(JOB, p)).items()}


def assert_same(a: dict[str, float], b: dict[str, float], what: object, rel: float = 1e-9) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert b[name] == pytest.approx(a[name], rel=rel, abs=1e-12 * sum(a.values())), (name, what)


@pytest.mark.parametrize("seed", range(12))
def test_a_layer_as_captured_takes_the_same_time_and_memory(seed: int) -> None:
    """Parameters, FLOP, caches, degrees of tensor parallelism, parts of a training step, memory, and all that serving
    asks of a worker."""
    rng = random.Random(seed)
    ours, system = drawn_model(rng), SYSTEMS[seed % len(SYSTEMS)]
    code = traced_model(ours)
    assert all(isinstance(layer.mixer, Traced) for layer in code.layers)
    assert code.params == ours.params
    for seq in (100.0, 4096.0):
        assert code.flop_per_token(seq) == pytest.approx(ours.flop_per_token(seq), rel=1e-12)
        assert code.kv_bytes(seq) == ours.kv_bytes(seq)
    assert tp_degrees(code, system) == tp_degrees(ours, system)
    for plan in drawn_plans(ours, system, rng):
        a, b = (predict_step(model, system, JOB, plan).breakdown for model in (ours, code))
        assert_same(a, b, (system.display, plan))
        assert_same(memory(ours, system, plan), memory(code, system, plan), plan)
    served = ServePlans.of([ServePlan(tp=tp) for tp in (1, 2)])
    x, y = shapes(ours, served), shapes(code, served)
    for field in fields(x):
        if field.name != "kernels":  # counted from the list, see below
            assert getattr(y, field.name) == pytest.approx(getattr(x, field.name), rel=1e-9), field.name
    assert y.kernels == pytest.approx(x.kernels, rel=0.25)


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-30b-a3b", "gpt-oss-120b", "nemotron-3-nano-30b-a3b", "glm-4.5"])
def test_published_models_as_captured_are_near(name: str) -> None:
    """Where a list of products knows less than we do: which of them engines fuse, what else latent attention keeps."""
    ours = load_model(name)
    code, system, rng = traced_model(ours), SYSTEMS[0], random.Random(name)
    plans = [Plan(tp=4, dp=16, sp=True), Plan(tp=8, dp=8, recompute=rng.choice(("full", "selective")))]
    for plan in plans:
        a, b = (predict_step(model, system, JOB, plan).total_s for model in (ours, code))
        assert b == pytest.approx(a, rel=0.02)
        held, again = (sum(memory(model, system, plan).values()) for model in (ours, code))
        assert again == pytest.approx(held, rel=0.02)
    x, y = (weights_B(shapes(model, ServePlans.of([ServePlan(tp=4)]))) for model in (ours, code))
    assert y == pytest.approx(x, rel=0.02)
    assert code.kv_bytes_per_token() == ours.kv_bytes_per_token()
    assert code.state_bytes() == ours.state_bytes()


def changed(model: Model, rng: random.Random, **values: object) -> Model:
    """With one of its products changed."""
    at = rng.choice([i for i, layer in enumerate(model.layers) if layer.traced and layer.traced.products])
    layer = model.layers[at]
    traced = layer.traced
    assert traced is not None
    i = rng.randrange(len(traced.products))
    products = list(traced.products)
    products[i] = replace(products[i], **values)
    layers = list(model.layers)
    layers[at] = replace(layer, mixer=replace(traced, products=tuple(products)))
    return replace(model, layers=tuple(layers))


@pytest.mark.parametrize("seed", range(10))
def test_a_product_that_is_not_split_never_takes_less_memory(seed: int) -> None:
    rng = random.Random(100 + seed)
    model, system = traced_model(drawn_model(rng)), SYSTEMS[seed % len(SYSTEMS)]
    whole = changed(model, rng, role="replicated")
    for plan in drawn_plans(model, system, rng, 6):
        before, after = memory(model, system, plan), memory(whole, system, plan)
        for name in ("weights", "activations", "optimizer"):
            assert after[name] >= before[name] * (1.0 - 1e-12), (name, plan)
        assert sum(after.values()) >= sum(before.values()) * (1.0 - 1e-12)
        if plan.tp == 1:  # there is nothing to split
            assert_same(before, after, plan)
            steps = [predict_step(m, system, JOB, plan).breakdown for m in (model, whole)]
            assert_same(*steps, plan, rel=1e-6)
    for tp in (1, 2, 8):
        a, b = (shapes(m, ServePlans.of([ServePlan(tp=tp)])) for m in (model, whole))
        assert weights_B(b)[0] >= weights_B(a)[0]
        assert np.sum(b.att_layers * b.kv) >= np.sum(a.att_layers * a.kv)


@pytest.mark.parametrize("seed", range(8))
def test_more_rows_never_cost_less(seed: int) -> None:
    """Of one product: a longer step, more FLOP, no less memory; its weights stay."""
    rng = random.Random(200 + seed)
    model, system = traced_model(drawn_model(rng)), SYSTEMS[seed % len(SYSTEMS)]
    at = rng.randrange(10**6)
    more = changed(model, random.Random(at), rows=(rng.choice((0.0, 512.0)), 1.0 + rng.choice((1.0, 0.25))))
    assert more.params == model.params
    assert more.flop_per_token(4096) > model.flop_per_token(4096)
    for plan in drawn_plans(model, system, rng):
        times = [predict_step(m, system, JOB, plan).breakdown for m in (model, more)]
        assert times[1]["gemm"] > times[0]["gemm"], plan
        before, after = memory(model, system, plan), memory(more, system, plan)
        assert sum(after.values()) >= sum(before.values())
        assert after["weights"] == before["weights"]
    tp2 = ServePlans.of([ServePlan(tp=2)])
    assert weights_B(shapes(more, tp2)) == pytest.approx(weights_B(shapes(model, tp2)), rel=1e-12)


def test_a_scan_keeps_its_state() -> None:
    """A recurrence as a scan: the same state in serving; whole on each rank where its heads are not known."""
    r = Recurrent(kind="mamba2", num_heads=64, head_dim=64, num_groups=8, state_dim=128)
    hidden = 2048
    layer = Layer(count=4, mixer=r, ffn=NO_FFN, norm_params=hidden, hidden=hidden)
    ours = replace(load_model("llama-3.1-8b"), hidden=hidden, layers=(layer,), pattern=())
    code = traced_model(ours)
    for tp in (1, 4):
        a, b = (shapes(m, ServePlans.of([ServePlan(tp=tp)])) for m in (ours, code))
        assert b.state_B == pytest.approx(a.state_B)
        assert b.f_token == pytest.approx(a.f_token)
    traced = traced_of(layer).traced
    assert traced is not None
    unknown = replace(
        code, layers=(replace(layer, mixer=replace(traced, scans=(replace(traced.scans[0], num_heads=0),))),)
    )
    one, four = (shapes(unknown, ServePlans.of([ServePlan(tp=tp)])).state_B[0] for tp in (1, 4))
    assert one == four


def test_bytes_counted_in_code_widen_the_range() -> None:
    ours, system = load_model("llama-3.1-8b"), SYSTEMS[0]
    code = traced_model(ours)
    parts = predict_step(ours, system, JOB, Plan(tp=2, dp=32)).breakdown
    known, counted = (half_width(parts, model, system, FACTS) for model in (ours, code))
    share = parts["memory_bound"] / sum(parts.values())
    assert counted**2 - known**2 == pytest.approx((FACTS.number("training.residuals.captured") * share) ** 2)
    half = replace(code, layers=(*code.layers, *ours.layers))
    assert known < half_width(parts, half, system, FACTS) < counted


def test_where_no_role_is_known_nothing_is_split() -> None:
    """One rank of tensor parallelism in training and serving; another degree is refused with a line."""
    code, system = traced_model(load_model("llama-3.1-8b")), SYSTEMS[0]
    traced = code.layers[0].traced
    assert traced is not None
    whole = tuple(replace(product, role="replicated") for product in traced.products)
    unknown = replace(code, layers=(replace(code.layers[0], mixer=replace(traced, products=whole)),))
    assert tp_degrees(unknown, system) == [1]
    assert set(legal_plans(unknown, system, JOB).plans.tp) == {1.0}
    with pytest.raises(UserError, match="cannot split llama"):
        legal_plans(unknown, system, JOB, {"tp": [2]})
    ways = worker_plans(unknown, resolve(FACTS, "h100:64"), weights=["bf16"], kv=["bf16"], fixed={}, long_prompt=False)
    assert {way.tp for way in ways} == {1}


def test_terms_are_named_by_modules_of_the_code() -> None:
    notes = Notes()
    predict_step(traced_model(load_model("llama-3.1-8b")), SYSTEMS[0], JOB, Plan(tp=2, dp=32), notes)
    named = {name.split(" x ")[0] for name in notes.terms}
    assert {"gemm.attn.qkv", "gemm.attn.attn_out", "gemm.mlp.mlp_down", "attention.core.attn"} <= named


def test_software_moves_no_more_than_the_code_as_written() -> None:
    """What is compiled moves the fused bytes some times over; eager code moves what it moves; fixed rows are whole on
    each rank that shares a sequence."""
    layer = traced_of(load_model("llama-3.1-8b").layers[0])
    traced = layer.traced
    assert traced is not None
    fused = traced.moved[1]
    seen = replace(layer, mixer=replace(traced, moved=(1000.0 * fused, fused), moved_eager=(0.0, 3.0 * fused)))
    share = rank_share(JOB, Plans.of([Plan(), Plan(cp=2)]), 2.0)
    compiled, eager = (operators.stream(seen, 4096.0, share, is_eager=is_eager) for is_eager in (False, True))
    assert compiled.bytes_ == pytest.approx(2.0 * share.tokens * fused * (1.0 + 1000.0 * share.cp / JOB.seq))
    assert eager.bytes_ == pytest.approx(2.0 * share.tokens * 3.0 * fused)
    assert eager.most == 1.0
