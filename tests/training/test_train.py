"""Step time: one layer by hand, and published steps inside the interval that is stated for them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mowich.estimate import Notes
from mowich.evidence.scores import Validation
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import System
from mowich.models import load_model
from mowich.models.model import Attention, Layer, Mlp, Model, Moe
from mowich.models.task import Lora
from mowich.operators import list as list_
from mowich.operators.law import busiest_load
from mowich.operators.tables import operator_s
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform, equip
from mowich.studies.explain.formula import evaluate
from mowich.training.layer import LayerWork, Once, rank_share
from mowich.training.parts import LAYER_PARTS, layer_times
from mowich.training.slices import slice_chips
from mowich.training.stage import layer_sums, stage_times
from mowich.training.step import STEP_PARTS, WIRES, predict_step, step_time

ONE = np.ones(1)
H, HEADS, HEAD, FFN, VOCAB, SEQ = 4096, 32, 128, 11008, 32000, 4096


def one_layer(count: int = 1) -> Model:
    attention = Attention(kind="gqa", num_heads=HEADS, num_kv_heads=HEADS, head_dim=HEAD, v_head_dim=HEAD)
    layer = Layer(count=count, mixer=attention, ffn=Mlp(ffn=FFN, gated=True), norm_params=2 * H, hidden=H)
    return Model(
        name="one",
        architecture="llama",
        hidden=H,
        vocab=VOCAB,
        layers=(layer,),
        tied_embeddings=False,
        embedding_params=VOCAB * H,
        head_params=VOCAB * H,
        final_norm_params=H,
    )


def job(seqs: int) -> TrainJob:
    return TrainJob(tokens=1e9, seq=SEQ, batch_seqs=seqs)


@pytest.fixture
def h100(facts: Facts) -> System:
    return equip(facts, "h100", chips=1)


def larger(a: float, b: float) -> float:
    return (a**3 + b**3) ** (1 / 3)


def busier(a: float, b: float) -> float:
    return (a**6 + b**6) ** (1 / 6)


def gemm_s(system: System, m: float, n: float, k: float) -> float:
    """2 m n k over the rate that is reached at this shape, or its bytes over the memory's, whichever is larger,
    rounded."""
    e = system.efficiency
    rate = system.peak_flops["bf16"] * e.product_16 * e.sustained
    rows = m + m * e.rows_half / (m + e.rows_half)
    flop = 2 * rows * (n + e.columns_half) * (k + e.columns_half)
    assert n % 64 == k % 64 == 0
    bytes_ = 2 * (m * k + k * n + e.narrow_columns * max(n, k)) + 2 * m * n
    return larger(flop / rate, bytes_ / (system.hbm_Bps * e.weights_16))


def test_mixed_precision_widens_what_lies_between_products(facts: Facts) -> None:
    """On Trainium passes over memory and the scores of attention take four bytes an element under automatic mixed
    precision, as in fp32, and products read as much; kernels of GPUs keep two."""
    bert, p = load_model("bert-large"), Plans.of([Plan(dp=512, micro_batch=16)])
    plain = TrainJob(tokens=1e9, seq=128, batch_seqs=8192.0)
    mixed, whole = replace(plain, is_autocast=True), replace(plain, element_B=4.0)
    for chip, wide in (("trn1", 2.0), ("h100", 1.0)):
        system = equip(facts, chip, chips=256)
        short, long, fp32 = (layer_times(bert, bert.layers[0], system, job, p) for job in (plain, mixed, whole))
        assert long["memory_bound"] / short["memory_bound"] == pytest.approx(wide)
        assert (long["gemm"] > 1.02 * short["gemm"]) == (chip == "trn1")
        assert (long["attention"] > 1.5 * short["attention"]) == (chip == "trn1")
        if chip == "trn1":
            assert long["memory_bound"] == pytest.approx(fp32["memory_bound"])
            assert long["attention"] == pytest.approx(fp32["attention"])
            assert long["gemm"] == pytest.approx(fp32["gemm"])


def test_full_recompute_stops_before_the_last_product_where_the_software_does(facts: Facts) -> None:
    """PyTorch and JAX leave out the down projection, whose output only joins the residual stream; Megatron does not."""
    model, p = one_layer(), Plans.of([Plan(recompute="full")])
    for stack, chip, stops in (("pytorch-fsdp", "h100", 1), ("jax-tpu", "tpu-v5p", 1), ("megatron", "h100", 0)):
        system = equip(facts, chip, chips=1, stack=stack)
        x = layer_times(model, model.layers[0], system, job(1), p)
        down = gemm_s(system, SEQ, H, FFN) if chip == "h100" else float(x.last[0])
        assert x.last == pytest.approx(down)
        sums = layer_sums(model, system, job(1), p, None)
        again = x["gemm"] - stops * x.last + x["memory_bound"]
        assert sums["recompute"] == pytest.approx(system.stack.full_recompute * again + x["attention"], rel=1e-3)


def test_a_mixture_of_experts_has_last_products_too(facts: Facts) -> None:
    """Those of routed experts, and of the one that all tokens take."""
    model = load_model("deepseek-v3")
    system, p = equip(facts, "h100", chips=64), Plans.of([Plan(ep=64, dp=64)])
    x = layer_times(model, model.layers[-1], system, job(64), p)
    of = LayerWork(model, model.layers[-1], system, job(64), p, None, None, Once())
    assert 0.3 < float((x.last / of.mixture.gemm)[0]) < 0.5
    assert not list_.is_last(
        list_.products(model.layers[-1], model.hidden, rank_share(job(64), p, 2.0))[0], model.layers[-1]
    )


def test_products_of_8_bits_gather_their_inputs_in_8_bits(facts: Facts) -> None:
    """With sequence parallelism Megatron's ranks gather half of the bytes and scatter all; FSDP moves all."""
    model, narrow = one_layer(), Plans.of([Plan(tp=8, sp=True, precision="fp8", tp_overlap=False)])
    wide = Plans.of([Plan(tp=8, sp=True, tp_overlap=False)])
    moved = np.array([2.0 * SEQ * H])
    for stack, share in (("megatron", 0.5), ("pytorch-fsdp", 1.0)):
        system = equip(facts, "h100", chips=8, stack=stack)
        few, all_ = (layer_times(model, model.layers[0], system, job(64), p)["tp"] for p in (narrow, wide))
        scatter, gather = (collectives.reduce_scatter_s(system, b, narrow.tp, ONE) for b in (moved, share * moved))
        assert all_ == pytest.approx(4 * scatter)
        assert few == pytest.approx(2 * (scatter + gather))


def test_ranks_cast_their_own_tokens_where_they_gather_in_8_bits(facts: Facts) -> None:
    """Inputs of the products that tensor parallelism splits by columns are cast before they are gathered. Adapters read
    them in 16 bit: with LoRA nothing is gathered in 8 bits."""
    model, p = one_layer(), Plans.of([Plan(tp=8, sp=True, precision="fp8")])
    lora = replace(job(64), task="lora")
    for stack, work, own in (("megatron", job(64), 8), ("megatron", lora, 1), ("pytorch-fsdp", job(64), 1)):
        system = equip(facts, "h100", chips=8, stack=stack)
        elements = SEQ * (2 * H / own + (H + FFN) / 8)
        expected = system.efficiency.quantise_B * elements / (system.hbm_Bps * system.efficiency.memory)
        assert layer_times(model, model.layers[0], system, work, p)["quantise"] == pytest.approx(expected)


def test_a_bubble_is_of_the_other_stages(facts: Facts) -> None:
    """With 1F1B the first and the last micro-batch pass through all stages; the fullest is not counted twice."""
    model, p = load_model("llama-3.1-8b"), Plans.of([Plan(pp=8, dp=1, schedule="1f1b")])
    system = equip(facts, "h100", chips=8)
    x = stage_times(model, system, TrainJob(tokens=1e9, seq=4096, batch_seqs=64.0), p)
    through_all = sum(float(x.sums[name][0]) for name in LAYER_PARTS) + float(x.head_s[0])
    assert float(x.bubble_s[0]) == pytest.approx(through_all - float(x.total_s[0]))
    assert float(x.bubble_s[0]) < 7 * float(x.total_s[0])


def test_layers_that_do_not_divide_make_room_for_the_head(facts: Facts) -> None:
    """126 layers on 8 stages: 16 on most, two missing, of which one for the head; 128 layers divide and leave none."""
    model = load_model("llama-3.1-405b")
    assert model.num_layers == 126
    whole = replace(model, layers=(replace(model.layers[0], count=128),))
    system, p = equip(facts, "h100", chips=64), Plans.of([Plan(tp=8, pp=8, dp=1)])
    task = TrainJob(tokens=1e9, seq=8192, batch_seqs=64.0)
    uneven, even = (stage_times(m, system, task, p) for m in (model, whole))
    assert uneven.parts["head"] == pytest.approx(uneven.head_s / 8)
    share = 1 / 8 + system.stack.head_exposed * 7 / 8
    assert even.parts["head"] == pytest.approx(share * even.head_s)


def test_a_dense_layer_by_hand(h100: System) -> None:
    """Every part of the step of one dense layer on one H100 in bf16, two micro-batches of one sequence."""
    s, e = h100.stack, h100.efficiency
    B = h100.hbm_Bps * e.memory
    got = predict_step(one_layer(), h100, job(2), Plan(zero=0))
    assert got.num_micro_batches == 2
    assert got.tokens == 2 * SEQ

    linear = (
        gemm_s(h100, SEQ, 3 * H, H)
        + gemm_s(h100, SEQ, H, H)
        + gemm_s(h100, SEQ, 2 * FFN, H)
        + gemm_s(h100, SEQ, H, FFN)
    )
    share = e.attention * e.attention_kernels
    core = 4 * SEQ * (SEQ / 2) * H * (1 + e.attention_half / SEQ) / (share * h100.peak_flops["bf16"])
    norms = 2 * SEQ * (10 * H + 3 * (H + 2 * H) + 2 * FFN) * s.memory_passes / B
    head = 3 * gemm_s(h100, SEQ, VOCAB, H) + 2 * s.head_passes * SEQ * VOCAB / B
    summed = 2 * s.grad_memory_B * (4 * H * H + 3 * H * FFN) / B  # the sums of gradients, read and written
    forward, backward = linear + core + norms, 2 * linear + s.backward_attention * core + 2 * norms + summed
    host = busier(forward, s.host_per_layer) - forward
    host += busier(backward, s.backward_host * s.host_per_layer) - backward
    params = 4 * H * H + 3 * H * FFN + 2 * H + 2 * VOCAB * H
    by_hand = {
        "gemm": 2 * 3 * linear,
        "attention": 2 * (1 + s.backward_attention) * core,
        "memory_bound": 2 * (3 * norms + summed),
        "head": 2 * head,
        "host": 2 * host,
        "optimizer": s.optimizer_B * params / B,
        "fixed": s.step_fixed,
    }
    base = sum(by_hand.values())
    by_hand["software"] = base * (1 / s.speed - 1)
    for part in STEP_PARTS:
        assert got.breakdown[part] == pytest.approx(by_hand.get(part, 0.0), rel=1e-3, abs=1e-12), part
    assert got.total_s == pytest.approx(sum(by_hand.values()), rel=1e-3)


def test_the_step_is_micro_batches_times_the_stage(h100: System) -> None:
    """step = g x stage + what happens once: from 2 to 4 micro-batches the step grows by 2 stages and nothing else."""
    two, four, six = (predict_step(one_layer(), h100, job(g), Plan(zero=0)).total_s for g in (2, 4, 6))
    assert six - four == pytest.approx(four - two, rel=1e-9)
    assert two > (four - two)


@pytest.mark.parametrize("name", ["trn2", "trn3", "tpu-v5p"])
def test_software_lengthens_kernels_and_no_transfer(facts: Facts, name: str) -> None:
    """(1 / speed - 1) of all parts but transfers and jitter: a slower network adds what it takes, and no software."""
    system, work = equip(facts, name, chips=256), TrainJob(tokens=1e9, seq=SEQ, batch_seqs=1024)
    model, plan = load_model("llama-3.1-70b"), Plan(tp=4, pp=2, dp=system.devices // 8, zero=1, micro_batch=1, sp=True)
    slow_links = tuple(replace(level, bandwidth_Bps=level.bandwidth_Bps / 8.0) for level in system.levels)
    passes = system.fabric.pass_Bps
    slow_cores = replace(system.fabric, pass_Bps=None if passes is None else passes / 8.0)  # they bind inside a chip
    slowed = replace(system, levels=slow_links, fabric=slow_cores)
    usual, slow = (predict_step(model, machine, work, plan) for machine in (system, slowed))
    wires = sum(slow.breakdown[k] - usual.breakdown[k] for k in ("tp", "dp", "pp_transfer"))
    assert wires > 0.1 * usual.total_s
    slower = 1.0 / (system.stack.speed * system.efficiency.framework_carry) - 1.0
    for step in (usual, slow):
        kernels = sum(v for k, v in step.breakdown.items() if k not in (*WIRES, "software"))
        assert step.breakdown["software"] == pytest.approx(slower * kernels)
    stretched = slow.breakdown["pp_bubble"] - usual.breakdown["pp_bubble"]  # it waits for transfers inside a stage
    added = slow.breakdown["software"] - usual.breakdown["software"]
    assert added == pytest.approx(slower * stretched, abs=1e-9 * usual.total_s)


def test_the_bubble_is_pp_minus_1_over_vpp_stages(facts: Facts) -> None:
    system = equip(facts, "h100", chips=4)
    deep, model = job(16), one_layer(16)
    plain = predict_step(model, system, deep, Plan(pp=4, zero=0))
    woven = predict_step(model, system, deep, Plan(pp=4, vpp=2, zero=0, schedule="interleaved"))
    layers = sum(v for k, v in plain.breakdown.items() if k in ("gemm", "attention", "memory_bound", "host")) / 16
    head = stage_times(model, system, deep, Plans.of([Plan(pp=4, zero=0)])).head_s
    others = 3 * layers + head - plain.breakdown["head"] / 16
    assert plain.breakdown["pp_bubble"] == pytest.approx(others)
    assert woven.breakdown["pp_bubble"] < 0.6 * plain.breakdown["pp_bubble"]


def test_every_interleaved_chunk_is_handed_over(facts: Facts) -> None:
    """2 g vpp passes of chunks: each hand-over, and the share of its hidden transfer that the copy takes from compute.
    Without interleaving, and in a compiled graph, none."""
    system, deep, model = equip(facts, "h100", chips=4), job(16), one_layer(16)
    woven = Plan(pp=4, vpp=4, zero=0, schedule="interleaved")

    def transfers(machine: Platform, plan: Plan) -> float:
        return predict_step(model, machine, deep, plan).breakdown["pp_transfer"]

    def handed(machine: Platform, **changed: float) -> Platform:
        return replace(machine, stack=replace(machine.stack, **changed))

    free = handed(system, chunk_handover=0.0)
    assert transfers(system, woven) - transfers(free, woven) == pytest.approx(2 * 16 * 4 * system.stack.chunk_handover)
    unhindered = replace(free, efficiency=replace(free.efficiency, comm_contention=0.0))
    hop = transfers(unhindered, woven) / (2 * (4 * 4 - 1))
    copies = transfers(free, woven) - transfers(unhindered, woven)
    assert copies == pytest.approx(2 * 16 * 4 * system.efficiency.comm_contention * hop)
    assert transfers(system, Plan(pp=4, zero=0)) == transfers(free, Plan(pp=4, zero=0))
    assert all(equip(facts, name, chips=64).stack.chunk_handover == 0 for name in ("trn1", "tpu-v5p"))


@pytest.mark.parametrize("name", ["ironwood", "tpu-v5p", "trn2"])
def test_a_plan_takes_the_same_time_where_half_of_the_chips_are_idle(facts: Facts, name: str) -> None:
    """The sides of a torus are those of the slice that the job asks for, not of all that there is; a plan that needs
    more than half asks for all."""
    model = load_model("llama-3.1-8b")
    for chips in (4, 32, 96, 512, 4096):
        system = equip(facts, name, chips=chips)
        twice = replace(system, chips=2 * chips)
        plan = Plan(tp=4, sp=True, dp=system.devices // 4, zero=3)
        job = TrainJob(tokens=1e12, seq=4096, batch_seqs=plan.dp)
        assert predict_step(model, system, job, plan) == predict_step(model, twice, job, plan)
    torus = equip(facts, "ironwood", chips=512)
    wide = Plan(tp=8, sp=True, dp=65, zero=3)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=65)
    assert [slice_chips(torus, np.array([float(n)]))[0] for n in (wide.devices, 512, 513, 2, 1)] == [
        512,
        256,
        512,
        1,
        1,
    ]
    assert predict_step(model, torus, job, wide) != predict_step(model, replace(torus, chips=260), job, wide)


def test_plans_of_several_slices_are_what_each_is_alone(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "ironwood", chips=512)
    plans = [Plan(tp=4, sp=True, dp=dp, zero=3) for dp in (200, 3, 64, 256, 1, 17)]
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=256)
    together = step_time(model, system, job, Plans.of(plans))
    assert together.total_s == pytest.approx(
        [predict_step(model, system, job, plan).total_s for plan in plans], rel=1e-12
    )


def test_full_recompute_adds_the_forward_pass(h100: System) -> None:
    none, full = (
        predict_step(one_layer(), h100, job(2), Plan(zero=0, recompute=r)).breakdown for r in ("none", "full")
    )
    weights = 4 * H * H + 3 * H * FFN
    summed = 2 * 2 * h100.stack.grad_memory_B * weights / (h100.hbm_Bps * h100.efficiency.memory)
    passes = (none["memory_bound"] - summed) / 3
    forward = none["gemm"] / 3 + none["attention"] / (1 + h100.stack.backward_attention) + passes
    assert none["recompute"] == 0
    assert full["recompute"] == pytest.approx(forward)


def test_full_recompute_launches_a_layer_once_more(h100: System) -> None:
    """Where the host is all that counts, a layer takes its launches forward, again, and back."""
    stack = replace(h100.stack, host_per_layer=1.0)
    slow_host = replace(h100, stack=stack)
    none, full = (
        predict_step(one_layer(3), slow_host, job(2), Plan(zero=0, recompute=r)).breakdown for r in ("none", "full")
    )
    layers = 2 * 3  # micro-batches, layers
    kernels = sum(none[part] for part in ("gemm", "attention", "memory_bound"))
    assert none["host"] + kernels == pytest.approx(layers * (1.0 + stack.backward_host), rel=1e-6)
    assert full["host"] == none["host"]
    assert full["recompute"] == pytest.approx(layers, rel=1e-6)


@pytest.mark.parametrize(("chip", "is_slower"), [("a100", False), ("h100", True), ("gb300", True)])
def test_kernels_of_attention_for_the_generation_before_are_slower(facts: Facts, chip: str, is_slower: bool) -> None:
    """FSDP programs attend with FlashAttention-2, which was written for Ampere."""
    platform = equip(facts, chip, chips=8, stack="pytorch-fsdp")
    newest = replace(platform, stack=replace(platform.stack, has_older_attention=0.0))
    older, own = (
        predict_step(one_layer(), system, job(16), Plan(zero=3, dp=8)).breakdown["attention"]
        for system in (platform, newest)
    )
    assert own / older == pytest.approx(platform.efficiency.older_attention)
    assert (older > own) is is_slower


def test_a_frozen_base_has_no_weight_gradients(h100: System) -> None:
    whole, frozen = (
        predict_step(one_layer(), h100, replace(job(2), task=task, lora=Lora(targets=())), Plan(zero=0)).breakdown
        for task in ("pretrain", "lora")
    )
    assert frozen["gemm"] == pytest.approx(2 / 3 * whole["gemm"])
    assert frozen["optimizer"] == frozen["dp"] == 0


def test_tensor_parallel_traffic_by_hand(facts: Facts) -> None:
    """Two all-reduces of the layer's output forward, the stack's share of that backward, less what is overlapped."""
    system = equip(facts, "h100", chips=8)
    s = system.stack
    got = predict_step(one_layer(), system, job(1), Plan(tp=8, sp=True, zero=0)).breakdown["tp"]
    eight, one = np.array([8.0]), np.ones(1)
    each = 2 * float(collectives.reduce_scatter_s(system, np.array([SEQ * H * 2.0]), eight, one)[0])
    contention = system.efficiency.comm_contention
    assert contention > 0
    assert got == pytest.approx((1 + s.backward_tp) * 2 * (1 - s.tp_overlap * (1 - contention)) * each)


@pytest.fixture(scope="module")
def published(facts: Facts) -> Validation:
    return validate_rows(None, facts)


@pytest.mark.parametrize(
    "anchor",
    ["M01507", "M01152", "M01711", "M01682"],
    ids=["405B on 16384 H100", "405B on 256 Ironwood", "235B MoE on 256 GB200", "70B on 1024 Trainium 2"],
)
def test_published_steps_lie_in_the_stated_interval(published: Validation, anchor: str) -> None:
    row = next(r for r in published.rows if r.id == anchor)
    assert row.status == "ok"
    assert row.is_covered, f"{anchor}: measured {row.measured}, predicted {row.predicted} ({row.low} .. {row.high})"
    assert row.ratio is not None
    assert math.isfinite(row.ratio)


def test_the_shipped_rows_are_answered_and_close(published: Validation) -> None:
    """Loose floors under what docs/records/accuracy.md states; coverage there is of rows left out, and higher for rows
    in the fit."""
    everything = published.summary()["all"]
    assert everything.n >= 0.95 * len(published.rows)
    assert everything.median_abs_error < 0.08
    assert everything.p90_abs_error < 0.30
    assert 0.88 < everything.interval_coverage < 0.99
    assert abs(everything.bias) < 0.03


def experts(num: int = 64, top_k: int = 4, gated: bool = True) -> Model:
    """Four layers of experts."""
    dense = one_layer()
    moe = Moe(ffn=1408, num_experts=num, top_k=top_k, gated=gated)
    return replace(dense, layers=(replace(dense.layers[0], ffn=moe, count=4),))


@pytest.mark.parametrize(("ranks", "skew"), [(8, 0.0), (8, 0.2), (16, 0.1), (64, 0.1), (64, 0.3)])
def test_the_busiest_rank_is_as_busy_as_drawn_experts_make_it(ranks: int, skew: float) -> None:
    moe, tokens, rounds = Moe(ffn=1, num_experts=64, top_k=4), 1024, 60
    rng = np.random.default_rng(7)
    seen = []
    for _ in range(rounds):
        popularity = np.maximum(1.0 + skew * rng.standard_normal(moe.num_experts), 0.05)
        # the k largest of Gumbel-perturbed log popularities: k distinct experts, drawn in proportion
        keys = np.log(popularity) + rng.gumbel(size=(tokens, moe.num_experts))
        chosen = np.argpartition(-keys, moe.top_k, axis=1)[:, : moe.top_k]
        load = np.bincount(chosen.ravel() * ranks // moe.num_experts, minlength=ranks)
        seen.append(load.max() / load.mean())
    predicted = float(busiest_load(np.array([float(tokens)]), moe, np.array([float(ranks)]), skew)[0])
    assert predicted - 1.0 == pytest.approx(float(np.mean(seen)) - 1.0, rel=0.25, abs=0.01)


def test_the_busiest_rank_follows_ranks_experts_tokens_and_capacity(facts: Facts) -> None:
    def load(tokens: float, num: int, k: int, ep: float, capacity: float = 0.0) -> float:
        moe = Moe(ffn=1, num_experts=num, top_k=k)
        return float(busiest_load(np.array([tokens]), moe, np.array([ep]), 0.05, capacity)[0])

    assert load(1e5, 64, 4, 1) == 1.0
    assert load(1e5, 64, 4, 64) > load(1e5, 64, 4, 8) > 1.0  # more ranks to wait for, with fewer experts each
    assert load(1e5, 256, 4, 8) < load(1e5, 64, 4, 8)  # more experts a rank average out
    assert load(1e3, 64, 4, 8) > load(1e5, 64, 4, 8)  # few tokens sample the experts unevenly
    assert load(1e5, 64, 64, 8) < load(1e5, 64, 4, 8)  # every token to every expert
    assert load(1e5, 64, 4, 8, capacity=1.25) == 1.25

    model = experts()
    shape = {"tokens": 1e9, "seq": SEQ, "batch_seqs": 64}
    at = equip(facts.with_values({"training.common.router_skew": 0.3}), "h100", chips=64)
    plan = Plan(ep=64, dp=64, micro_batch=1)
    skewed = predict_step(model, at, TrainJob(**shape), plan)
    forced = predict_step(model, at, TrainJob(**shape, is_balanced=True), plan)
    assert skewed.breakdown["gemm"] > forced.breakdown["gemm"]
    assert skewed.breakdown["ep"] > forced.breakdown["ep"]


def test_recomputing_experts_repeats_them_alone(facts: Facts) -> None:
    at = equip(facts, "h100", chips=8)
    plan = Plan(ep=8, dp=8, micro_batch=1)
    took = {rc: predict_step(experts(), at, job(8), replace(plan, recompute=rc)) for rc in ("none", "experts", "full")}
    assert took["none"].breakdown["recompute"] == 0.0
    assert 0.0 < took["experts"].breakdown["recompute"] < took["full"].breakdown["recompute"]
    dense = predict_step(one_layer(4), at, job(8), Plan(dp=8, micro_batch=1, recompute="experts"))
    assert dense.breakdown["recompute"] == 0.0

    def kept(rc: str) -> float:
        plans = Plans.of([replace(plan, recompute=rc)])
        return float(memory_B(experts(), at, job(8), plans, np.ones(1))["activations"][0])

    assert kept("full") < kept("experts") < kept("none")


def test_fused_experts_need_a_gate_and_a_block_scaled_recipe(facts: Facts) -> None:
    at = equip(facts, "gb200", chips=8, stack="megatron", has_recipe=False)
    before = equip(facts, "gb200", chips=8, stack="megatron-2025", has_recipe=False)

    def moe_s(system: System, precision: str, gated: bool = True) -> float:
        plan = Plan(ep=8, dp=8, micro_batch=1, precision=precision)
        return predict_step(experts(gated=gated), system, job(8), plan).breakdown["moe"]

    assert moe_s(at, "mxfp8") < 0.7 * moe_s(before, "mxfp8")
    assert moe_s(at, "bf16") == moe_s(before, "bf16")
    assert moe_s(at, "mxfp8", gated=False) == moe_s(before, "mxfp8", gated=False)


def test_encoders_on_neuron_attend_outside_the_fused_kernel(facts: Facts) -> None:
    at = equip(facts, "trn1", chips=16)
    decoder = one_layer()
    layer = decoder.layers[0]
    encoder = replace(decoder, layers=(replace(layer, mixer=replace(layer.attention, causal=False)),))
    plan = Plan(dp=at.devices, micro_batch=1, zero=0)
    long, short = (
        predict_step(encoder, at, TrainJob(tokens=1e9, seq=seq, batch_seqs=at.devices), plan).breakdown["attention"]
        for seq in (1024, 512)
    )
    assert long / short == pytest.approx(4.0, rel=0.01)  # every score travels, and there are four times as many
    fused = predict_step(decoder, at, TrainJob(tokens=1e9, seq=1024, batch_seqs=at.devices), plan)
    assert fused.breakdown["attention"] < long / 2.0


def test_the_written_formula_of_attention_gives_its_number(facts: Facts) -> None:
    """As `explain` shows it: fused, with sinks outside the kernel, unfused, and a recurrence."""
    plans = Plans.of([Plan(tp=2, dp=4, micro_batch=2)])
    for name, on, word in (
        ("llama-3.1-8b", "h100", "fused"),
        ("gpt-oss-20b", "gb300", "sinks"),
        ("bert-large", "trn1", "unfused"),
        ("qwen3.5-27b", "h100", "scan"),
    ):
        model, system = load_model(name), equip(facts, on, chips=8)
        said: list[str] = []
        for layer in model.layers:
            notes = Notes()
            times = layer_times(model, layer, system, TrainJob(tokens=1e9, seq=512, batch_seqs=64), plans, notes)
            term = notes.terms["attention.core"]
            x = {k: float(v) for k, v in term.inputs.items() if not isinstance(v, str)}
            assert float(times["attention"][0]) == pytest.approx(evaluate(term.formula, x.__getitem__))
            said += [t.note for t in notes.terms.values()]
        assert any(word in note for note in said)


@pytest.mark.parametrize("name", ["deepseek-v3", "gemma-3-27b", "qwen3.5-27b", "gpt-oss-120b"])
def test_kinds_of_layers_share_only_what_is_equal(facts: Facts, name: str) -> None:
    model, system = load_model(name), equip(facts, "gb300", chips=64)
    plans = Plans.of([Plan(tp=2, sp=True, dp=32, micro_batch=2), Plan(tp=4, cp=2, dp=8, ep=8, micro_batch=1)])
    job, once = TrainJob(tokens=1e9, seq=4096, batch_seqs=64), Once()
    assert len(model.layers) > 1
    for layer in model.layers:
        shared, alone = (layer_times(model, layer, system, job, plans, once=x) for x in (once, None))
        assert np.array_equal(shared.last, alone.last)
        assert np.array_equal(shared.experts_again, alone.experts_again)
        for ours, theirs in zip(*((x.forward, x.backward, x.late) for x in (shared, alone)), strict=True):
            assert ours.keys() == theirs.keys()
            for part, seconds in ours.items():
                assert np.array_equal(seconds, theirs[part]), part


@pytest.mark.parametrize("chip", ["trainium2", "trainium3"])
def test_attention_on_trainium_is_as_the_tables_of_kernels_have_it(facts: Facts, chip: str) -> None:
    """The constant, with what short prompts cost, is the mean of the forward kernel's share of peak over prompts of
    2,048 to 8,192 tokens and heads of 128."""
    family = facts.meta("chips", chip)["family"]
    half = facts.number("devices.common.attention_half")
    queries = np.array([2048.0, 4096.0, 8192.0])
    taken = operator_s(
        chip, "attention_prefill", "bf16", {"heads": 8, "queries": queries, "prefix": 0, "head_dim": 128}
    )
    peak = facts.number(f"chips.{chip}.peak_dense.bf16") / facts.number(f"chips.{chip}.devices_per_chip")
    shares = 2.0 * 8 * queries**2 * 128 / taken.seconds / peak * (1.0 + half / queries)
    stated = facts.fact(f"devices.{family}.attention")
    assert stated.value == pytest.approx(float(np.exp(np.log(shares).mean())), rel=0.03)
    assert stated.low < shares.min() < shares.max() < stated.high
