"""`plan --serve` and `compare --serve`: legality, limits, the front, matching of prefill and decode, JSON, errors."""

from __future__ import annotations

import json

import pytest

from mowich import cli
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.facts.claim_check import SERVED_NAMES, check_of
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import WEIGHT_ONLY, WEIGHTS
from mowich.plans.serving_choices import parse_serving
from mowich.plans.workers import worker_plans
from mowich.requests.jobs import CompareRequest, PlanRequest
from mowich.serving.engines import is_expanded, link_Bps, peak
from mowich.serving.search import ServeJob, ladder
from mowich.studies.serving_claims import gpt_oss_served
from mowich.studies.serving_plan import ServeRow, compare_serving, native_weights, plan_serving

FACTS = load_facts()
JOB = ServeJob(prompt=4000, output=1000, ttft_s=2.0, tpot_s=0.03)


def best(
    model: str = "llama-3.1-70b", on: str = "h200:32", job: ServeJob = JOB, **fixed: tuple[int | str, ...]
) -> ServeRow:
    asked = PlanRequest(facts=FACTS, model=load_model(model), systems=(on,), serve=job, fixed=fixed)
    return plan_serving(asked).rows[0]


@pytest.mark.parametrize(
    ("model", "on"),
    [
        ("llama-3.1-70b", "h200:32"),
        ("deepseek-v3", "h200:32"),
        ("gpt-oss-120b", "trn3:64"),
        ("qwen3-32b", "ironwood:8"),
    ],
)
def test_best_plan_keeps_the_limits_and_the_machine(model: str, on: str) -> None:
    result = plan_serving(PlanRequest(facts=FACTS, model=load_model(model), systems=(on,), serve=JOB))
    system = resolve(FACTS, on)
    assert result.rows[0].feasible
    for row in (*result.rows, *result.front):
        assert row.decode is not None
        assert row.prefill is not None
        devices = row.decode.devices * row.replicas["decode"]
        if row.mode == "disaggregated":
            devices += row.prefill.devices * row.replicas["prefill"]
        assert devices <= system.devices
        assert row.chips_used + row.chips_idle == row.chips_requested
        assert sum(row.tpot_s.breakdown.values()) == pytest.approx(row.tpot_s.value)
        assert sum(row.ttft_s.breakdown.values()) == pytest.approx(row.ttft_s.value)
        assert row.memory_B["kv"] > 0
    for row in result.rows:
        assert (row.ttft_s.value or 9) <= JOB.ttft_s
        assert (row.tpot_s.value or 9) <= JOB.tpot_s
    speeds = [r.tokens_per_s_per_chip.value or 0.0 for r in result.rows]
    assert speeds == sorted(speeds, reverse=True)


def test_front_trades_user_speed_for_chip_speed() -> None:
    front = plan_serving(
        PlanRequest(facts=FACTS, model=load_model("llama-3.1-70b"), systems=("h200:32",), serve=JOB)
    ).front
    user = [r.tokens_per_s_per_user.value or 0.0 for r in front]
    chip = [r.tokens_per_s_per_chip.value or 0.0 for r in front]
    assert user == sorted(user, reverse=True)
    assert chip == sorted(chip)
    assert len(front) > 10


def test_looser_limits_never_cost_more() -> None:
    tight, loose = best(), best(job=ServeJob(prompt=4000, output=1000, ttft_s=4.0, tpot_s=0.06))
    assert (loose.usd_per_mtok.value or 9e9) <= (tight.usd_per_mtok.value or 0.0)


def test_caching_prompts_and_speculation_help() -> None:
    plain = best().tokens_per_s_per_chip.value or 0.0
    cached = (
        best(job=ServeJob(prompt=4000, output=1000, ttft_s=2.0, tpot_s=0.03, cached=0.6)).tokens_per_s_per_chip.value
        or 0.0
    )
    faster = (
        best(job=ServeJob(prompt=4000, output=1000, ttft_s=2.0, tpot_s=0.03, accept=2.5)).tokens_per_s_per_chip.value
        or 0.0
    )
    assert cached > plain
    assert faster > plain


def test_fixed_fields_restrict_the_search() -> None:
    row = best(tp=(4,), pp=(1,), weights=("fp8",), kv=("fp8",), mode=("aggregated",))
    assert row.decode is not None
    assert (row.decode.tp, row.decode.pp, row.decode.weights, row.mode) == (4, 1, "fp8", "aggregated")


def test_modes_are_kept() -> None:
    for mode in ("aggregated", "disaggregated"):
        result = plan_serving(
            PlanRequest(
                facts=FACTS, model=load_model("llama-3.1-70b"), systems=("h200:32",), serve=JOB, fixed={"mode": (mode,)}
            )
        )
        assert {r.mode for r in (*result.rows, *result.front)} == {mode}
    alone = plan_serving(
        PlanRequest(
            facts=FACTS,
            model=load_model("llama-3.1-70b"),
            systems=("h200:1",),
            serve=JOB,
            fixed={"mode": ("disaggregated",), "weights": ("fp8",)},
        )
    ).rows[0]
    assert alone.feasible is False


def test_two_modes_are_both_searched() -> None:
    both = plan_serving(
        PlanRequest(
            facts=FACTS,
            model=load_model("llama-3.1-70b"),
            systems=("h200:32",),
            serve=JOB,
            fixed={"mode": ("aggregated", "disaggregated")},
            top=50,
        )
    )
    free = plan_serving(
        PlanRequest(facts=FACTS, model=load_model("llama-3.1-70b"), systems=("h200:32",), serve=JOB, top=50)
    )
    assert [r.mode for r in both.rows] == [r.mode for r in free.rows]


def test_what_does_not_fit_and_what_breaks_a_limit() -> None:
    too_big = best("llama-3.1-405b", "h100:2")
    assert too_big.feasible is False
    assert "does not fit" in str(too_big.reason)
    late = best(job=ServeJob(prompt=4000, output=1000, tpot_s=0.0005))
    assert late.feasible is False
    assert "no plan meets the limits" in str(late.reason)
    assert late.decode is not None


def test_plans_are_legal() -> None:
    model, system = load_model("deepseek-v3"), resolve(FACTS, "h200:32")
    plans = worker_plans(model, system, weights=["fp8"], kv=["fp8"], fixed={}, long_prompt=True)
    assert len(plans) == len(set(plans)) > 100
    for p in plans:
        assert 128 % p.tp == 0
        assert 256 % p.ep == 0
        assert (p.tp * p.dp) % p.ep == 0
        assert p.devices <= 32
        assert p.tp * p.cp <= 8
    assert any(p.dp * p.tp > 8 for p in plans)
    assert ladder(512)[-1] == 512


def test_links_level_by_level() -> None:
    h200, trn3 = resolve(FACTS, "h200:32"), resolve(FACTS, "trn3:64")
    assert link_Bps(h200, 8) == pytest.approx(h200.levels[0].bandwidth_Bps)
    inside, beyond = trn3.levels[0].bandwidth_Bps, link_Bps(trn3, 32)
    assert trn3.levels[1].bandwidth_Bps < beyond < inside
    assert link_Bps(trn3, 32, reduces=False) < beyond


def test_settings_and_options_say_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="did you mean 'weights'"):
        parse_serving({"weigths": "fp8"})
    with pytest.raises(UserError, match="not a legal degree"):
        parse_serving({"tp": "0"})
    assert (
        cli.run(["plan", "llama-3.1-8b", "--serve", "--on", "h100", "--isl", "8k", "--tokens", "1T", "--engine", "vlm"])
        == 2
    )
    err = capsys.readouterr().err
    assert "--osl: is required with --serve" in err
    assert "--tokens: is an option of training" in err
    assert "did you mean 'vllm'" in err


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("plan", ["--fill", "0.5"]),
        ("compare", ["--fill", "0.5"]),
        ("plan", ["--pareto"]),
        ("plan", ["--task", "sft"]),
        ("compare", ["--stack", "megatron"]),
    ],
)
def test_options_of_training_are_not_ignored(capsys: pytest.CaptureFixture[str], verb: str, more: list[str]) -> None:
    assert cli.run([verb, "llama-3.1-8b", "--serve", "--on", "h100:8", "--isl", "2k", "--osl", "500", *more]) == 2
    assert f"{more[0]}: is an option of training" in capsys.readouterr().err


def test_a_pick_is_of_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "llama-3.1-8b", "--serve", "--on", "h100:8", "--isl", "2k", "--osl", "500", "--pick", "2"]
    assert cli.run(asked) == 2
    assert "--pick: says which plan --timeline or --emit takes" in capsys.readouterr().err


def test_serving_has_one_footing(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "llama-3.1-8b", "--serve", "--on", "h100:8", "--isl", "2k", "--osl", "500", "--equal"]
    assert cli.run([*asked, "usd"]) == 2
    assert "--equal: serving compares on equal chips" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["plan", "compare"])
def test_options_of_serving_are_not_ignored(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    args = [verb, "llama-3.1-8b", "--train", "--tokens", "1T", "--seq", "4096", "--batch", "64seqs", "--on", "h100:8"]
    assert cli.run([*args, "--isl", "8k", "--engine", "vllm"]) == 2
    err = capsys.readouterr().err
    assert "--isl: is an option of serving" in err
    assert "--engine: is an option of serving" in err


def test_sizes_and_lengths_that_do_not_hold_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", "llama3-8b", "--serve", "--on", "h100:8", "--chips", "4", "--isl", "8k", "--osl", "1k"]
    assert cli.run(args) == 0
    err = capsys.readouterr().err
    assert "is longer than the context" in err
    assert "wins over --chips" in err
    assert cli.run(["plan", "llama3-8b", "--serve", "--on", "h100", "--chips", "8", "--isl", "1k", "--osl", "1"]) == 0
    assert "note: --osl 1: an answer ends with its first token" in capsys.readouterr().err


def test_json_contracts(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.run(
            [
                "plan",
                "llama-3.1-8b",
                "--serve",
                "--on",
                "h100:8",
                "--isl",
                "2k",
                "--osl",
                "500",
                "--ttft",
                "1s",
                "--tpot",
                "20ms",
                "--json",
            ]
        )
        == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "mowich/plan@1"
    row = data["plans"][0]
    for name in (
        "prefill",
        "decode",
        "replicas",
        "batch",
        "ttft_s",
        "tpot_s",
        "tokens_per_s_per_chip",
        "tokens_per_s_per_user",
        "usd_per_mtok",
        "J_per_token",
    ):
        assert name in row
    assert {"tp", "pp", "dp", "cp", "ep", "etp", "precision"} <= set(row["decode"])
    assert row["ttft_s"]["low"] < row["ttft_s"]["value"] < row["ttft_s"]["high"]
    assert (
        cli.run(
            ["compare", "llama-3.1-8b", "--serve", "--on", "h100:8,trn3:8", "--isl", "2k", "--osl", "500", "--json"]
        )
        == 0
    )
    assert [r["system"] for r in json.loads(capsys.readouterr().out)["rows"]] == ["h100:8", "trn3:8"]
    assert cli.run(["plan", "llama-3.1-405b", "--serve", "--on", "h100:1", "--isl", "2k", "--osl", "500"]) == 3
    assert (
        cli.run(["plan", "llama-3.1-8b", "--serve", "--on", "h100:1", "--isl", "2k", "--osl", "500", "--tpot", "1ms"])
        == 4
    )
    assert cli.run(["compare", "gpt-oss-120b", "--serve", "--on", "trn2,trn3", "--isl", "2k", "--osl", "1k"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Prices: trn2 $" in said
    assert "so cost is the owner's where it is known" in said


def test_compare_puts_systems_side_by_side() -> None:
    result = compare_serving(
        CompareRequest(
            facts=FACTS,
            model=load_model("gpt-oss-120b"),
            systems=("h200:8", "b200:8"),
            serve=ServeJob(prompt=1000, output=1000, tpot_s=0.02),
        )
    )
    slow, fast = (r.tokens_per_s_per_chip.value or 0.0 for r in result.rows)
    assert fast > slow


def test_gpt_oss_claim_needs_its_precondition() -> None:
    found = gpt_oss_served(FACTS)
    assert set(found) == set(SERVED_NAMES)
    path = "claims.trainium3-reinvent-2025.claims.GPT-OSS_throughput_per_chip_vs_Trn2_UltraServer"
    assert FACTS.number(f"{path}.published") == 3.0
    assert 2.0 < found["throughput"] < 4.5
    assert found["same_weights"] < 0.6 * found["throughput"]
    assert found["response"] > 2.0 > found["alone"]
    assert "MXFP4" in check_of(FACTS, path, "trainium3-reinvent-2025").condition


@pytest.mark.parametrize("output", [1, 2, 8])
def test_short_answers_cannot_outrun_the_chip(output: int) -> None:
    """Prompts of 2,000 tokens cost 2 x 8e9 FLOP a token: the FLOP of the answered requests stay under the peak, and
    users under Little's law."""
    model = load_model("llama-3.1-8b")
    row = plan_serving(
        PlanRequest(
            facts=FACTS,
            model=model,
            systems=("h100:8",),
            serve=ServeJob(prompt=2000, output=output),
            top=1,
            fixed=parse_serving({"mode": "aggregated", "kv": "bf16"}),
        )
    ).rows[0]
    requests_per_s = float(row.tokens_per_s_per_chip) / output
    assert requests_per_s * 2 * (model.params - model.embedding_params) * 2000 < FACTS.number(
        "chips.h100_sxm.peak_dense.bf16"
    )
    assert requests_per_s * (float(row.ttft_s) + (output - 1) * float(row.tpot_s)) == pytest.approx(
        row.batch or 0, rel=0.35
    )


def test_a_row_at_its_break_even_costs_and_draws_what_the_best_other_row_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve = ["--serve", "--isl", "2k", "--osl", "500"]
    ask = ["compare", "llama-3.1-8b", *serve, "--on", "trn3:8,h200:8,gb300:8", "--json", "-q"]
    assert cli.run(ask) == 0
    first, *others = json.loads(capsys.readouterr().out)["rows"]
    assert ", tco, " in first["price"]
    for metric, even, path, unit in (
        ("usd_per_mtok", "breakeven_usd_per_chip_h", "prices", "USD/chip/h"),
        ("J_per_token", "breakeven_W_per_chip", "power", "W"),
    ):
        best = min(r[metric]["value"] for r in others)
        assert first[even]["unit"] == unit
        value = first[even]["value"]
        said = f"${value:.9f}/chip/h" if path == "prices" else f"{value:.9f} W"
        assert cli.run([*ask, "--set", f"{path}.trn3-gen2={said}"]) == 0
        again = json.loads(capsys.readouterr().out)["rows"][0]
        assert again[metric]["value"] == pytest.approx(best, rel=1e-6)


def test_cores_of_a_device_are_a_choice_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """LNC 1: twice the devices of a chip, half of the memory each; the plan says it, and only where there are logical
    cores."""
    ask = "plan gpt-oss-120b --serve --isl 8k --osl 1k --tpot 30ms --on {} --set plan.tp=8 --top 1 --json"
    ask += " --set plan.mode=aggregated"
    found = {}
    for on, lnc in (("trn3-gen1:16", 1), ("trn3-gen1:16", 2), ("trn3-gen1:16", None), ("h100:16", None)):
        more = ["--set", f"plan.lnc={lnc}"] if lnc else []
        assert cli.run([*ask.format(on).split(), *more]) == 0
        found[on, lnc] = json.loads(capsys.readouterr().out)["plans"][0]
    one, two, usual = (found["trn3-gen1:16", lnc] for lnc in (1, 2, None))
    assert [row["decode"]["lnc"] for row in (one, two, usual)] == [1, 2, 2]
    assert [row["devices_per_chip"] for row in (one, two)] == [8, 4]
    assert one["memory_capacity_B"] == pytest.approx(two["memory_capacity_B"] / 2)
    assert usual == two
    assert "lnc" not in found["h100:16", None]["decode"]


@pytest.mark.parametrize(
    ("on", "lnc", "words"),
    [
        ("h100:16", "1", "no system here has logical cores"),
        ("trn3:16", "3", "allowed: 1, 2"),
        ("trn3:16", "1,2", "one whole number"),
    ],
)
def test_a_wrong_number_of_cores_is_said(on: str, lnc: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask = f"plan llama-3.1-8b --serve --isl 2k --osl 500 --on {on} --set plan.lnc={lnc}"
    assert cli.run(ask.split()) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("model", "on", "weights"),
    [
        ("gpt-oss-120b", "trn2", "bf16"),
        ("gpt-oss-120b", "trn3", "mxfp4"),
        ("gpt-oss-120b", "h100", "mxfp4"),
        ("deepseek-v3", "trn2", "fp8"),
        ("deepseek-v3", "trn3", "mxfp8"),
    ],
)
def test_a_chip_serves_the_formats_that_its_software_has(model: str, on: str, weights: str) -> None:
    assert native_weights(load_model(model), resolve(FACTS, on), FACTS) == weights


@pytest.mark.parametrize("on", ["trn2", "trn3", "h100", "gb300", "ironwood", "mi355x"])
def test_formats_of_weights_alone_run_at_the_rate_of_16_bit(on: str) -> None:
    """On chips with units of 8 and 4 bit, too: activations stay in 16."""
    system = resolve(FACTS, on)
    for weights in WEIGHTS:
        is_slow = peak(weights, system) == peak("bf16", system)
        assert is_slow or weights not in WEIGHT_ONLY, weights
        assert is_expanded(weights, system) == (is_slow and weights != "bf16"), weights
