"""LoRA and fine-tuning: trainable weights, FLOP, memory and time beside a frozen base; packed documents and padding."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mowich
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.models import load_model
from mowich.models.task import Lora, parse_task, train_flop_per_token
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import equip
from mowich.training.step import micro_batches_of, step_time

JOB = TrainJob(tokens=1e9, seq=4096, batch_seqs=32)
LORA = replace(JOB, task="lora", lora=Lora(rank=16))


def numbers(job: TrainJob, plan: Plan, model: str = "llama3-8b") -> tuple[dict[str, float], dict[str, float], float]:
    """(memory by category, parts of the step, step) on eight H100."""
    system, shape, columns = equip(load_facts(), "h100", chips=8), load_model(model), Plans.of([plan])
    memory = memory_B(shape, system, job, columns, micro_batches_of(job, columns))
    step = step_time(shape, system, job, columns)
    return (
        {k: float(v[0]) for k, v in memory.items()},
        {k: float(v[0]) for k, v in step.parts.items()},
        float(step.total_s[0]),
    )


def test_trainable_weights_are_counted_from_shapes() -> None:
    """Rank x (rows + columns) of each adapted matrix: Llama 2 70B with rank 16 on attention, as MLPerf trains it."""
    h, kv, ffn, layers = 8192, 2 * 1024, 28672, 80
    attention = (h + h + kv) + (h + h)
    assert Lora(rank=16).params(load_model("llama2-70b")) == layers * 16 * attention
    everything = Lora.of(16, ["all"])
    assert everything.params(load_model("llama2-70b")) == layers * 16 * (attention + (h + 2 * ffn) + (ffn + h))


def test_words_for_targets() -> None:
    assert parse_task("lora:32:q_proj,v_proj,o_proj") == ("lora", Lora(rank=32, targets=("qkv", "attn_out")))
    assert parse_task("lora:8:all")[1] == Lora.of(8, ["attention", "mlp"])
    assert parse_task("sft") == ("sft", None)
    for text, message in (
        ("lra", "did you mean 'lora'"),
        ("lora:0", "at least 1"),
        ("lora:8:head", "unknown target"),
        ("sft:3", "not a task"),
    ):
        with pytest.raises(UserError, match=message):
            parse_task(text)


def test_recurrent_and_latent_layers_have_adapters() -> None:
    for name in ("nemotron-3-super", "deepseek-v4-flash", "qwen3.5-397b-a17b", "deepseek-v3"):
        model = load_model(name)
        assert 0 < Lora.of(16, ["all"]).params(model) < 0.01 * model.params


def test_flop_of_a_frozen_base() -> None:
    """No gradient of frozen matrices: 4 per weight instead of 6; attention's own backward stays; adapters cost 6 a
    weight."""
    model = load_model("llama2-70b")
    full = train_flop_per_token(model, 8192, "pretrain", None)
    frozen = train_flop_per_token(model, 8192, "lora", Lora(rank=16))
    saved = 2.0 * (model.flop_per_token(8192) - model.attention_flop_per_token(8192)) / 2.0
    assert frozen == pytest.approx(full - saved + 6 * 44_564_480)
    assert frozen / full == pytest.approx(0.69, abs=0.02)


def test_adapters_need_little_memory_and_less_time() -> None:
    plan = Plan(dp=8, zero=1)
    memory, parts, step = numbers(LORA, plan)
    full_memory, full_parts, full_step = numbers(JOB, plan)
    assert memory["gradients"] + memory["optimizer"] < 0.01 * (full_memory["gradients"] + full_memory["optimizer"])
    assert memory["weights"] > full_memory["weights"]
    assert memory["activations"] < full_memory["activations"]
    assert 0.6 < step / full_step < 0.8
    assert parts["optimizer"] < 0.01 * full_parts["optimizer"]
    assert parts["dp"] < full_parts["dp"]


def test_a_sharded_frozen_base_is_still_gathered() -> None:
    _, sharded, _ = numbers(LORA, Plan(dp=8, zero=3))
    _, full, _ = numbers(JOB, Plan(dp=8, zero=3))
    assert 0 < sharded["dp"] < full["dp"]


def test_rank_and_targets_cost() -> None:
    times = [
        numbers(replace(LORA, lora=Lora.of(r, words)), Plan(dp=8))[2]
        for r, words in ((8, ["qkv"]), (64, ["qkv"]), (64, ["all"]))
    ]
    assert times == sorted(times)
    assert times[0] < times[2]


def test_packed_documents_attend_to_themselves() -> None:
    packed = replace(JOB, document=512.0)
    _, parts, _ = numbers(packed, Plan(dp=8))
    _, whole, _ = numbers(JOB, Plan(dp=8))
    assert parts["attention"] < 0.5 * whole["attention"]
    assert parts["gemm"] == whole["gemm"]


def test_padding_is_computed_and_not_counted() -> None:
    work = {"tokens": "1B", "seq": 4096, "batch": "32seqs", "task": "sft"}
    full = mowich.compare("llama3-8b", ["h100"], train=work, chips=8).rows[0]
    half = mowich.compare("llama3-8b", ["h100"], train={**work, "fill": 0.5}, chips=8).rows[0]
    assert half.step_s.value == full.step_s.value
    assert half.tokens_per_s_per_chip.value == pytest.approx(full.tokens_per_s_per_chip.value / 2)
    assert half.mfu.value == pytest.approx(full.mfu.value / 2)


def test_the_job_is_stated_and_read_back() -> None:
    job = replace(LORA, document=512.0, fill=0.9)
    assert TrainJob.from_inputs(job.inputs()) == job
    assert set(JOB.inputs()) == {"task", "tokens", "seq", "batch_seqs"}
    for bad in ({"fill": 0}, {"document": 9000}, {"task": "lorra"}, {"targets": "all"}):
        with pytest.raises(UserError):
            mowich.compare("llama3-8b", ["h100"], train={"tokens": "1B", "seq": 4096, "batch": "32seqs", **bad})
