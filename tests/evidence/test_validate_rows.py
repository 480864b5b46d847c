"""`evidence.rows`: each rule that fills a gap, on a row made for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mowich.estimate import Estimate, unknown_estimate
from mowich.evidence.row_rules import board_limits, network_speed, per_device_batch, stack_of_row, stated_flop_per_token
from mowich.evidence.row_words import precision_of, recompute_of, zero_of
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.scores import RowResult, scored_rows
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import Moe
from mowich.operators.rates import rates
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import equip
from mowich.training.experts import experts_s
from mowich.training.layer import rank_share

LLAMA_8B = {
    "model_name": "Llama 3 8B",
    "model_ref": "llama3-8b",
    "n_layers": "32",
    "hidden": "4096",
    "n_heads": "32",
    "n_kv_heads": "8",
    "head_dim": "128",
    "ffn_hidden": "14336",
    "vocab": "128256",
    "seq_len": "8192",
    "precision": "bf16",
    "task": "pretrain",
}
LLAMA_70B = LLAMA_8B | {
    "model_name": "Llama 3 70B",
    "model_ref": "llama3-70b",
    "n_layers": "80",
    "hidden": "8192",
    "n_heads": "64",
    "ffn_hidden": "28672",
}


def read(facts: Facts, base: dict[str, str], **cells: object) -> Case:
    row = {
        "id": "x",
        "chip": "H100",
        "n_chips": "64",
        "chips_per_scaleup_domain": "8",
        "source_group": "Megatron-Bridge",
        "global_batch_seqs": "128",
        "primary_metric": "step_time_s",
        "step_time_s": "10",
        **base,
        **{k: str(v) for k, v in cells.items()},
    }
    case = read_cases([row], facts)[0]
    assert isinstance(case, Case), case
    return case


def reason(facts: Facts, base: dict[str, str], **cells: object) -> str:
    row = {
        "id": "x",
        "chip": "H100",
        "n_chips": "64",
        "primary_metric": "step_time_s",
        "step_time_s": "10",
        "global_batch_seqs": "128",
        **base,
        **{k: str(v) for k, v in cells.items()},
    }
    case = read_cases([row], facts)[0]
    assert isinstance(case, str)
    return case


def named(case: Case) -> set[str]:
    return {item.split("=")[0] for item in case.inferred}


def test_stated_plan_is_kept(facts: Facts) -> None:
    case = read(facts, LLAMA_70B, TP=4, PP=4, VPP=5, CP=1, DP=4, micro_batch=1, recompute="full")
    p = case.plan
    assert (p.tp, p.pp, p.vpp, p.cp, p.dp, p.micro_batch, p.recompute, p.sp, p.zero, p.schedule) == (
        4,
        4,
        5,
        1,
        4,
        1,
        "full",
        True,
        1,
        "interleaved",
    )
    assert case.fully_specified


def test_unstated_recompute_is_never_full_on_gpus(facts: Facts) -> None:
    case = read(facts, LLAMA_70B, TP=4, PP=4, VPP=5, CP=1, micro_batch=1)
    assert case.plan.recompute == "none"
    assert "recompute" in named(case)
    assert not case.fully_specified


def test_recipes_state_what_tables_leave_out(facts: Facts) -> None:
    nemotron = {
        "model_name": "Nemotron_3_Super",
        "model_ref": "nemotron-3-super",
        "seq_len": "8192",
        "precision": "fp8-mx",
        "chip": "GB200",
        "source_group": "Megatron-Bridge perf summary",
        "TP": "1",
        "PP": "1",
        "EP": "64",
        "micro_batch": "1",
    }
    case = read(facts, nemotron)
    assert case.plan.recompute == "experts"
    assert any(item.startswith("recompute=experts (recipe") for item in case.inferred)
    assert read(facts, nemotron, recompute="none").plan.recompute == "none"
    assert read(facts, nemotron, source_group="somewhere else").plan.recompute == "none"
    tuned = read(facts, LLAMA_8B, task="lora", source_group="dgxc-benchmarking")
    assert tuned.job.document == 180
    assert tuned.job.seq == 8192
    assert read(facts, LLAMA_8B, source_group="dgxc-benchmarking").job.document is None


def test_recipes_say_what_else_is_trained_and_kept(facts: Facts) -> None:
    nemotron = {
        "model_name": "Nemotron_3_Super",
        "model_ref": "nemotron-3-super",
        "seq_len": "8192",
        "precision": "fp8-mx",
        "chip": "B300",
        "TP": "1",
        "PP": "1",
        "EP": "8",
        "micro_batch": "1",
        "flop_convention": "Megatron-Bridge",
    }
    once, twice = read(facts, nemotron, source_group="elsewhere"), read(facts, nemotron, source_group="Megatron-Bridge")
    assert (once.model.heads, twice.model.heads) == (2, 3)
    assert twice.model.num_layers - once.model.num_layers == 2  # attention and experts of one more prediction
    automodel = {
        "source_group": "NeMo AutoModel perf summary",
        "task": "lora",
        "TP": "2",
        "PP": "1",
        "fsdp_zero": "FSDP2 32",
    }
    large, small = read(facts, LLAMA_70B, **automodel), read(facts, LLAMA_8B, **automodel)
    assert (large.plan.recompute, small.plan.recompute) == ("full", "none")
    assert (
        large.system.stack.optimizer_memory_B
        == 4.0
        < read(facts, LLAMA_70B, TP=2, PP=1).system.stack.optimizer_memory_B
    )


QWEN = {
    "model_name": "Qwen3-30B-A3B",
    "model_ref": "qwen3-30b-a3b",
    "seq_len": "",
    "precision": "bf16",
    "chip": "TPU v5p",
    "n_chips": "512",
    "chips_per_scaleup_domain": "512",
    "source_group": "MaxText",
    "global_batch_seqs": "",
    "step_time_s": "13.0",
    "tokens_per_s_total": "1300000",
}


def test_a_length_that_is_not_stated_is_that_of_the_printed_mfu(facts: Facts) -> None:
    """Llama-70B's FLOP hardly depend on the length: no length stands out, and the most common one is taken."""
    case = read(facts, QWEN, mfu_reported_pct="31.3")
    assert (case.job.seq, case.job.batch_seqs) == (16384, 1031)
    assert "its FLOP a token are those of the printed MFU and rate" in next(i for i in case.inferred if "seq=" in i)
    assert read(facts, QWEN).job.seq == read(facts, QWEN, mfu_reported_pct="80").job.seq == 4096
    flat = LLAMA_70B | {"seq_len": "", "chip": "TPU v5p", "n_chips": "512", "tokens_per_s_total": "341000"}
    assert read(facts, flat, mfu_reported_pct="64.4").job.seq == 4096


def test_experts_are_padded_to_the_capacity_that_a_guide_states(facts: Facts) -> None:
    moe = QWEN | {"chip": "TPU v6e", "n_chips": "256", "source_group": "MaxText custom model guide (v6e)"}
    moe |= {"model_name": "MaxText 700B MoE final", "model_ref": "maxtext-moe-700b-final", "seq_len": "8192"}
    first, last = (read(facts, moe, notes=f"capacity factor {x}; 1 pod") for x in ("1.0", "1.5"))
    assert (first.system.stack.moe_capacity, last.system.stack.moe_capacity) == (1.0, 1.5)
    assert first.plan.ep == last.plan.ep == 16
    assert read(facts, moe, notes="").system.stack.moe_capacity == 0.0


def test_what_a_recipe_states_of_the_software_is_of_no_fact(facts: Facts) -> None:
    """So a fit of the constant leaves the row alone."""
    moe = QWEN | {"seq_len": "4096", "global_batch_seqs": "512"}
    marin, other = read(facts, moe, source_group="Marin / Levanter issues"), read(facts, moe)
    assert marin.system.stack.full_recompute == 1.0 > other.system.stack.full_recompute
    assert set(other.system.paths) - set(marin.system.paths) == {
        f"stack.{name}" for name in ("full_recompute", "moe_passes", "fsdp_overlap")
    }


def test_marin_runs_on_tpus_list_devices_and_return_results_by_scatter(facts: Facts) -> None:
    """Its logbook of issue 3420 times one layer of experts on four TPU v5p: 40 x 4,096 tokens of 2,048, top 4 of 128
    experts of 1,536, over 4 ranks, padded to the mean, forward and backward: 79.19 ms."""
    moe = QWEN | {"seq_len": "4096", "global_batch_seqs": "512", "source_group": "Marin / Levanter issues"}
    marin, on_gpu = read(facts, moe), read(facts, moe | {"chip": "H100"})
    assert any(level.in_device_order for level in marin.system.levels)
    assert not any(level.in_device_order for level in on_gpu.system.levels)
    assert on_gpu.system.stack.moe_passes == facts.number("training.common.moe_passes")
    software = replace(marin.system.stack, moe_capacity=1.0)
    system = replace(equip(facts, "tpu-v5p", chips=4), stack=software)
    ffn = marin.model.layers[0].ffn
    assert isinstance(ffn, Moe)
    ffn = replace(ffn, num_experts=128, top_k=4, ffn=1536)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=40, is_balanced=True)
    p = Plans.of([Plan(dp=4, ep=4, micro_batch=10, zero=3)])
    x = experts_s(ffn, marin.model, system, job, p, rates(system, p.precision), rank_share(job, p, 2.0), None)
    both_ways = 3.0 * (x.gemm + x.routing) + 2.0 * x.exchange
    assert both_ways[0] == pytest.approx(79.19e-3, rel=0.02)


def test_levanter_counts_windowed_layers_as_full_ones(facts: Facts) -> None:
    marin = load_model("marin-67b-a2b")
    full = replace(marin, layers=tuple(replace(x, mixer=replace(x.attention, window=None)) for x in marin.layers))
    plain, windowed = {"flop_convention": ""}, {"flop_convention": "Levanter throughput/mfu"}
    assert stated_flop_per_token(windowed, marin, 8192) == stated_flop_per_token(plain, full, 8192)
    assert stated_flop_per_token(plain, marin, 8192) < 0.9 * stated_flop_per_token(windowed, marin, 8192)
    assert marin.params == pytest.approx(67e9, rel=0.01)


def test_trainium_rows_are_read_with_the_scripts_that_ran_them(facts: Facts) -> None:
    table = {
        "chip": "Trn1",
        "n_chips": "256",
        "chips_per_scaleup_domain": "16",
        "source_group": "AWS Neuron SDK benchmarks (Trn1)",
        "primary_metric": "seqs_per_s_total",
        "seqs_per_s_total": "127",
        "global_batch_seqs": "",
        "precision": "Autocast:BF16+SR",
        "micro_batch": "1",
    }
    gpt = table | {"model_name": "GPT3-6.7B", "seq_len": "2048", "TP": "8", "PP": "1"}
    case = read(facts, gpt)
    assert (case.plan.tp, case.plan.sp, case.plan.recompute, case.job.batch_seqs) == (8, False, "none", 1024)
    tutorial = read(facts, gpt, source_title="GPT-3 6.7B (Megatron-LM on Neuron) tutorial log", TP="32", DP="16")
    assert (tutorial.plan.tp, tutorial.plan.dp) == (8, 64)
    llama = LLAMA_70B | table | {"model_ref": "llama2-13b", "TP": "8", "PP": "4", "date": "2024-01-18"}
    nemo, nxd = (
        read(facts, llama, notes=f"{name}; cores") for name in ("neuronx-nemo-megatron", "neuronx-distributed")
    )
    assert (nemo.plan.recompute, nemo.plan.zero) == ("full", 0)
    assert (nxd.plan.recompute, nxd.plan.zero) == ("selective", 1)


def test_boards_that_differ_from_the_standard_one(facts: Facts) -> None:
    plain = read(facts, LLAMA_8B, TP=1, PP=1).system
    capped = read(facts, LLAMA_8B, TP=1, PP=1, chip_detail="H100 96GB HBM2e 2.4 TB/s, 500 W limit (Grand Teton)").system
    assert capped.hbm_Bps == 2.4e12 < plain.hbm_Bps
    assert capped.power_share == pytest.approx(((500 - 158) / (700 - 158)) ** (1 / 1.7))
    assert (
        plain.power_share
        == read(facts, LLAMA_8B, TP=1, PP=1, chip_detail="H100, 900 W limit").system.power_share
        == 1.0
    )
    assert board_limits("DGX-H100 80GB") == (None, None)
    cut = read(
        facts, LLAMA_8B, TP=1, PP=1, chip="A100-80GB", chip_detail="A800-80GB (A100 with 400 GB/s NVLink)"
    ).system
    assert (cut.id, cut.levels[0].bandwidth_Bps, cut.hbm_Bps) == (
        "a800",
        200e9,
        read(facts, LLAMA_8B, TP=1, PP=1, chip="A100-80GB").system.hbm_Bps,
    )


@pytest.mark.parametrize(
    ("cells", "plan"),
    [
        (
            {"chip": "NVIDIA H100 SXM5 80GB", "TP": "2", "PP": "4", "CP": "1", "micro_batch": "1"},
            "tp2 pp4v4 dp8 z1 mb1 bf16",
        ),
        ({"chip": "h100", "precision": "FP8 (current scaling)", "TP": "4.0", "PP": "1.0"}, "tp4 dp16 z1 mb4 fp8"),
        (
            {
                "chip": "NVIDIA GB300",
                "chips_per_scaleup_domain": "72",
                "precision": "MXFP8",
                "TP": "1",
                "PP": "1",
                "micro_batch": "2",
            },
            "dp64 z1 mb2 mxfp8",
        ),
        ({"chip": "H800", "precision": "fp8", "TP": "8", "PP": "1", "micro_batch": "4"}, "tp8 dp8 z1 mb4 fp8"),
        (
            {
                "chip": "AMD Instinct MI300X",
                "precision": "bf16",
                "fsdp_zero": "FSDP2 64",
                "micro_batch": "2",
                "recompute": "none",
            },
            "dp64 z3 mb2 bf16",
        ),
        ({"chip": "H100", "precision": "fp8", "seq_len": "131072", "global_batch_seqs": "4"}, "tp8 cp2 dp4 z1 mb1 fp8"),
        (
            {
                "chip": "A100-80GB",
                "precision": "fp16",
                "global_batch_seqs": "16",
                "micro_batch": "1",
                "seq_len": "2048",
            },
            "tp4 dp16 z1 mb1 bf16",
        ),
        (
            {
                "chip": "TPU v5p",
                "chips_per_scaleup_domain": "64",
                "source_group": "MaxText",
                "global_batch_seqs": "",
                "per_device_batch_stated": "4 per chip",
                "recompute": "minimal",
            },
            "dp64 z3 mb4 bf16 rc-sel",
        ),
        (
            {
                "chip": "Trn1",
                "chips_per_scaleup_domain": "16",
                "precision": "Autocast:BF16+SR",
                "TP": "8",
                "PP": "1",
                "micro_batch": "1",
            },
            "tp8 dp16 z0 mb1 bf16",
        ),
    ],
)
def test_rows_in_the_words_of_others_are_read_as_a_person_would(facts: Facts, cells: dict[str, str], plan: str) -> None:
    assert str(read(facts, LLAMA_8B, **cells).plan) == plan


def test_a_checkpoint_or_a_vision_model_has_the_shape_of_its_text_model(facts: Facts) -> None:
    bare = {"seq_len": "4096", "precision": "fp8", "TP": "1", "PP": "1", "EP": "8", "micro_batch": "1"}
    plain = read(facts, bare, model_name="Qwen3 30B A3B").model
    for name in ("Qwen3_VL_30B_A3B", "Qwen3-30B-A3B-FP8", "Qwen3-VL-30B-A3B-Instruct", "Qwen3-30B-A3B 2-node"):
        assert read(facts, bare, model_name=name).model == plain


def test_a_batch_follows_from_rate_and_time_and_a_time_alone_is_refused(facts: Facts) -> None:
    cells = {"TP": 1, "PP": 1, "micro_batch": 1, "global_batch_seqs": ""}
    assert read(facts, LLAMA_8B, **cells, tokens_per_s_per_chip=1638.4).job.batch_seqs == 128
    assert read(facts, LLAMA_8B, **cells, seqs_per_s_total=12.8).job.batch_seqs == 128
    assert "batch" in reason(facts, LLAMA_8B, **cells)
    assert read(
        facts, LLAMA_8B, **cells, primary_metric="tokens_per_s_per_chip", step_time_s="", tokens_per_s_per_chip=9000
    )


def test_missing_vpp_is_about_four_in_modern_megatron_and_one_in_old(facts: Facts) -> None:
    cells = {"TP": 4, "PP": 4, "CP": 1, "micro_batch": 1}
    assert read(facts, LLAMA_70B, **cells).plan.vpp == 4
    assert read(facts, LLAMA_70B, **cells, source_group="vTrain ground truth").plan.vpp == 1
    assert read(facts, LLAMA_70B, **cells, source_group="HF nanotron ultrascale").plan.vpp == 1


def test_pipeline_rows_of_pytorch_print_the_local_batch(facts: Facts) -> None:
    case = read(facts, LLAMA_70B, TP=2, PP=4, DP=8, micro_batch=16, source_group="torchtitan", fsdp_zero="FSDP2 8")
    assert case.plan.micro_batch == 1
    assert "micro_batch" in named(case)


def test_two_devices_per_chip(facts: Facts) -> None:
    case = read(facts, LLAMA_8B, chip="Trn1", n_chips=32, chips_per_scaleup_domain=16, TP=8, PP=1, DP=8, micro_batch=1)
    assert case.system.devices == 64 == case.plan.devices
    ironwood = read(
        facts,
        LLAMA_8B,
        chip="TPU v7",
        n_chips=64,
        chips_per_scaleup_domain=64,
        per_device_batch_stated="2 per JAX device",
        global_batch_seqs="",
    )
    assert ironwood.plan.dp == 128
    assert ironwood.job.batch_seqs == 256
    assert ironwood.plan.micro_batch == 2
    assert ironwood.plan.zero == 3


def test_devices_that_share_a_micro_batch_become_tp_and_cp(facts: Facts) -> None:
    case = read(
        facts, LLAMA_70B, task="LoRA fine-tune", grad_accum=1, global_batch_seqs=8, source_group="MLPerf Training LoRA"
    )
    assert case.plan.dp == 8
    assert case.plan.tp * case.plan.cp == 8
    assert case.plan.pp == 1
    assert case.job.frozen_base


def test_wrong_products_are_refused(facts: Facts) -> None:
    assert read(facts, LLAMA_70B, TP=8, PP=4, DP=2, micro_batch=1, VPP=1).plan.dp == 2
    assert read(facts, LLAMA_70B, TP=8, PP=4, DP=1, micro_batch=1, VPP=1).plan.dp == 2  # a misprint, which is said
    assert "DP: '3'" in reason(facts, LLAMA_70B, TP=8, PP=4, DP=3, micro_batch=1, VPP=1)


def test_rates_become_seconds_per_step(facts: Facts) -> None:
    case = read(
        facts, LLAMA_8B, TP=1, PP=1, micro_batch=1, primary_metric="tokens_per_s_per_chip", tokens_per_s_per_chip=8192
    )
    assert case.measured_step_s == pytest.approx(128 * 8192 / (8192 * 64))
    case = read(facts, LLAMA_8B, TP=1, PP=1, micro_batch=1, primary_metric="seqs_per_s_total", seqs_per_s_total=32)
    assert case.measured_step_s == pytest.approx(4.0)


def test_mfu_uses_the_convention_of_its_source(facts: Facts) -> None:
    cells = {
        "TP": 1,
        "PP": 1,
        "micro_batch": 1,
        "primary_metric": "mfu_reported_pct",
        "mfu_reported_pct": 40,
        "step_time_s": "",
    }
    full = read(facts, LLAMA_8B, **cells, flop_convention="attention not causal-halved")
    halved = read(facts, LLAMA_8B, **cells, flop_convention="with causal attention halved (after PR #1988)")
    hardware = read(facts, LLAMA_8B, **cells, flop_convention="HARDWARE FLOPs: 96*B*s*l*h^2")
    assert halved.measured_step_s < full.measured_step_s < hardware.measured_step_s
    flop = 3 * halved.model.flop_per_token(8192) * 128 * 8192
    assert halved.measured_step_s == pytest.approx(flop / (0.4 * halved.system.peak_flops["bf16"] * 64))


def test_stated_network_replaces_that_of_the_system(facts: Facts) -> None:
    plain, stated = (
        read(facts, LLAMA_8B, TP=1, PP=1),
        read(facts, LLAMA_8B, TP=1, PP=1, system_note="4 x Omni-Path 100 Gb/s links per node"),
    )
    assert stated.system.levels[-1].bandwidth_Bps == pytest.approx(6.25e9) != plain.system.levels[-1].bandwidth_Bps
    assert network_speed("8 nodes x 8") is None
    assert network_speed("NVLINK Gen4 900 GB/s + NVSWITCH Gen3") is None


def test_refusals_say_why(facts: Facts) -> None:
    assert "does not divide" in reason(facts, LLAMA_8B, TP=3, PP=1)
    assert reason(facts, {"model_name": "Jamba Large", "precision": "bf16"}, TP=1, PP=1)
    assert "blank" in reason(facts, LLAMA_8B, TP=1, PP=1, micro_batch=1, step_time_s="")


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("0 (DDP + distributed optimizer)", 1),
        ("ZeRO-1 within 8", 1),
        ("FSDP FULL_SHARD, MP mode PURE", 3),
        ("FSDP2 8", 3),
        ("FSDP SHARD_GRAD_OP, MP mode DEFAULT", 2),
        ("ZeRO-0", 0),
        ("data=-1 (pure DP)", 0),
        ("ici_tensor_parallelism=8", None),
        ("", None),
    ],
)
def test_zero_words(words: str, level: int | None) -> None:
    assert zero_of(words) == level


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ("full (recompute_all)", "full"),
        ("selective (per-op SAC)", "selective"),
        ("none", "none"),
        ("activation offload", "none"),
        ("remat_policy save_dot_except_logits", "selective"),
        ("remat_policy custom", "full"),
        ("", None),
        ("moe_act, layernorm", "selective"),
        ("moe, layernorm", "experts"),
        ("mla_up_proj", "selective"),
        ("No", "none"),
    ],
)
def test_recompute_words(words: str, mode: str | None) -> None:
    assert recompute_of(words) == mode


def test_precision_words(facts: Facts) -> None:
    h100 = read(facts, LLAMA_8B, TP=1, PP=1).system
    gb200 = read(facts, LLAMA_8B, chip="GB200", chips_per_scaleup_domain=72, TP=1, PP=1).system
    assert precision_of("fp8-mx", gb200)[0] == "mxfp8"
    assert precision_of("fp8-mx", h100)[0] == "fp8"
    assert precision_of("fp8 or nvfp4 (per config)", gb200)[0] == "nvfp4"
    assert precision_of("fp8 or nvfp4 (per config)", h100)[0] == "fp8"
    assert precision_of("Autocast:BF16+SR", h100) == ("bf16", "")
    assert precision_of("nvfp4", h100)[0] == precision_of("int8", replace(h100, peak_flops={"bf16": 1e15}))[0] == "bf16"
    assert "nvfp4" in precision_of("nvfp4", h100)[1]


def test_chips_follow_from_the_degrees(facts: Facts) -> None:
    case = read(facts, LLAMA_8B, n_chips="", TP=2, PP=4, DP=4, CP=1, micro_batch=1)
    assert case.system.chips == 32
    assert "n_chips" in named(case)
    assert read(facts, LLAMA_8B, chip="Trn1", n_chips="", TP=8, PP=1, DP=4).system.chips == 16  # two devices a chip
    assert "chips" in reason(facts, LLAMA_8B, n_chips="", TP=2)


@pytest.mark.parametrize(
    ("words", "seqs"),
    [("2 per JAX device", 2), ("0.125 per JAX device", 0.125), ("8k tokens/device", 2), ("see config", None)],
)
def test_per_device_batch(words: str, seqs: float | None) -> None:
    assert per_device_batch(words, 4096) == seqs


@pytest.mark.parametrize(
    ("cells", "stack"),
    [
        ({"chip": "Trn2", "source_group": "AXLearn paper"}, "neuron"),
        ({"chip": "TPU v5p", "source_group": "MaxText"}, "jax-tpu"),
        ({"chip": "H100", "source_group": "AXLearn paper", "model_name": "Llama2-7B (Megatron-LM)"}, "megatron-2025"),
        ({"chip": "A100", "source_group": "MegaScale paper", "model_name": "175B (Megatron-LM)"}, "megatron-2021"),
        ({"chip": "GB200", "source_group": "Megatron-Bridge perf summary", "date": "2026-04"}, "megatron-2025"),
        ({"chip": "GB200", "source_group": "Megatron-Bridge perf summary", "date": "2026-06"}, "megatron"),
        ({"chip": "H100", "source_group": "torchtitan"}, "pytorch-fsdp"),
        ({"chip": "A100-80GB", "source_group": "BLOOM / BigScience"}, "deepspeed-2022"),
        ({"chip": "A100-80GB", "source_group": "mine", "model_name": "MT-NLG 530B"}, "deepspeed-2022"),
        (
            {"chip": "A100-80GB", "source_group": "Megatron-LM seqsel paper", "model_name": "MT-NLG 530B"},
            "megatron-2021",
        ),
        (
            {"chip": "H100", "source_group": "dgxc-benchmarking", "source_title": "maxtext/README_70b.md"},
            "jax-gpu-maxtext",
        ),
        ({"chip": "H100", "source_group": "NVIDIA JAX-Toolbox Pax"}, "jax-gpu"),
        ({"chip": "H100", "source_group": "mine", "fsdp_zero": "FSDP 8"}, "pytorch-fsdp"),
        ({"chip": "H100", "source_group": "NeMo AutoModel perf summary"}, "pytorch-fsdp"),
        (
            {"chip": "H100", "source_group": "NeMo AutoModel perf summary", "notes": "kernels: TE + DeepEP; LBS 2"},
            "megatron-2025",
        ),
        ({"chip": "H100", "source_group": "mine"}, "megatron"),
        ({"chip": "H100", "source_group": "torchtitan", "stack": "jax-gpu"}, "jax-gpu"),
    ],
)
def test_stack_of_a_row(cells: dict[str, str], stack: str) -> None:
    assert stack_of_row(cells)[0] == stack


def test_results_stand_in_the_order_of_the_rows_whatever_is_refused() -> None:
    rows = [{"id": name, "chip": "trn3", "source": "s"} for name in "abc"]

    def predict(cases: list[float]) -> list[list[RowResult] | str]:
        known = [Estimate(value=case, unit="s", low=case / 2, high=2 * case) for case in cases]
        one, _ = (RowResult.scored(rows[0], e, metric="x_ms", measured=4.0, kind="k", scale=1e3) for e in known)
        return [[one], "booked elsewhere"]

    found = scored_rows(rows, [2.0, "unread", 3.0], predict, lambda row, why: RowResult.refused(row, why, "x_ms"))
    assert [(row.id, row.reason) for row in found] == [("a", None), ("b", "unread"), ("c", "booked elsewhere")]
    assert (found[0].measured, found[0].predicted, found[0].low, found[0].ratio) == (4e3, 2e3, 1e3, 0.5)


def test_a_row_without_a_known_time_is_refused_with_the_reason() -> None:
    row = {"id": "a", "chip": "trn3", "source": "s"}
    found = RowResult.scored(row, unknown_estimate("s", "no power"), metric="x_ms", measured=4.0, kind="k")
    assert (found.status, found.reason, found.measured) == ("unsupported", "no power", None)
    assert [one.metric for one in RowResult.refused(row, "why", "", "x_ms")] == ["x_ms"]
    assert [one.metric for one in RowResult.refused(row, "why")] == ["none"]
