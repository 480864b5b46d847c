"""What tables of a campaign leave out and its configurations say: guesses, ranks, caches, kernels of experts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_serving_launch import ROW as SERVED
from test_serving_launch import steady

from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_notes import NotedRun, ServingNote, is_noted
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import load_facts
from mowich.facts.load import shipped_folder
from mowich.operators.law import active_experts, busiest_rank, largest_of
from mowich.serving.steady import decode_step

FACTS = load_facts()
ROW = {**SERVED, "id": "u", "precision": "fp8"}


def read(*rows: dict[str, str]) -> list[ServingCase | str]:
    return read_serving_cases([{**ROW, **cells} for cells in rows], FACTS)


def case(**cells: str) -> ServingCase:
    (got,) = read(cells)
    assert isinstance(got, ServingCase), got
    return got


def constants(one: ServingCase) -> dict[str, str]:
    """Constant -> the path of its fact."""
    columns = gather_cases([one], FACTS).columns
    return {field: columns.names[int(index[0])] for field, index in columns.index.items()}


@pytest.mark.parametrize(
    ("cells", "kv"),
    [
        ({"chip": "h200", "framework": "sglang 0.5.9"}, "bf16"),
        ({"chip": "h200", "framework": "trtllm 1.1.0rc2.post2"}, "fp8"),
        ({"chip": "h200", "framework": "trtllm", "model": "gpt-oss-120b", "precision": "fp4"}, "bf16"),
        ({"chip": "h200", "framework": "vllm 0.18.0", "model": "minimax-m2"}, "bf16"),
        ({"chip": "h200", "framework": "vllm 0.18.0", "model": "llama-3.1-70b"}, "fp8"),
        ({"framework": "vllm 0.17.0", "model": "minimax-m2"}, "bf16"),
        ({"framework": "vllm 0.19.0", "model": "minimax-m2"}, "fp8"),
    ],
)
def test_caches_have_the_format_of_the_scripts(cells: dict[str, str], kv: str) -> None:
    assert case(**cells, date="2026-03-26").plan.kv == kv


def test_scripts_spread_experts_and_users_over_the_ranks_that_a_table_prints() -> None:
    old = {"framework": "trtllm", "precision": "fp4", "date": "2025-11-02"}
    few, some, many = (case(**old, concurrency=n) for n in ("8", "16", "256"))
    assert [(c.plan.tp, c.plan.dp, c.plan.ep) for c in (few, some, many)] == [(8, 1, 1), (8, 1, 8), (1, 8, 8)]
    assert many.users == 32.0
    assert case(**{**old, "framework": "sglang"}).plan.ep == 8
    assert case(**old, source="somebody").plan.ep == 1


def test_kernels_of_experts_that_take_more_launches_take_longer() -> None:
    note: ServingNote = {"framework": "^trtllm", "dp": True, "path": "deepgemm"}
    row = {**ROW, "framework": "trtllm 1.2"}
    assert is_noted(note, row, NotedRun(dp=8))
    assert not is_noted(note, row, NotedRun(dp=1))
    assert not is_noted(note, ROW, NotedRun(dp=8))
    deep = case(framework="trtllm 1.1.0rc2.post2", date="2025-12-15", ep="8")
    usual = case(framework="trtllm 1.2.0rc6.post2", date="2026-01-29", ep="8")
    assert constants(deep)["moe_layer"] == "serving.common.experts_deepgemm"
    assert constants(usual)["moe_layer"] == "serving.common.moe_layer"
    more = steady(deep).full_step["layers"][0] - steady(usual).full_step["layers"][0]
    layers = sum(gather_cases([deep], FACTS).shapes.moe_layers[:, 0])
    shorter = FACTS.number("serving.common.generation")  # on B200
    assert more == pytest.approx(layers * shorter * FACTS.number("serving.common.experts_deepgemm"))


def test_prompts_of_one_kind_of_text_choose_fewer_experts() -> None:
    row = {"chip": "h100", "framework": "trtllm 1.0.0rc3", "model": "qwen3-235b-a22b", "date": "", "ep": "8"}
    text, drawn = case(**row, source="NVIDIA gap-analysis runs"), case(**row)
    assert constants(text)["expert_spread"] == "serving.common.expert_spread_text"
    assert constants(drawn)["expert_spread"] == "serving.common.expert_spread"
    with (shipped_folder() / "serving" / "priors.csv").open(encoding="utf-8", newline="") as file:
        (prior,) = [float(r["value"]) for r in csv.DictReader(file) if r["path"].endswith("expert_spread_text")]
    read_of = active_experts(128.0, 8.0, np.array([1.0, 16.0]) ** prior)
    assert read_of == pytest.approx([8.0, 57.745], abs=0.5)  # the second was measured
    assert steady(text).full_step["experts"][0] < steady(drawn).full_step["experts"][0]


@pytest.mark.parametrize(
    ("cells", "fact"),
    [
        ({"framework": "trtllm 1.2.0rc2", "model": "gpt-oss-120b"}, "trtllm.reduce_norms"),
        ({"framework": "trtllm 1.0.0rc3", "model": "Qwen/Qwen3-32B", "chip": "h100"}, "common.reduce_norms"),
        ({"framework": "vllm", "model": "llama-3.1-70b"}, "vllm.reduce_norms"),
        ({"framework": "vllm", "model": "llama-3.1-70b", "chip": "h200"}, "common.reduce_norms"),
        ({"framework": "vllm 0.18.0", "model": "gpt-oss-120b", "chip": "h200"}, "vllm.reduce_norms"),
        ({"framework": "vllm 0.18.0", "model": "llama-3.1-70b", "chip": "a100_sxm_80g"}, "common.reduce_norms"),
        ({"framework": "sglang 0.5.9"}, "sglang.reduce_norms"),
        ({"framework": "sglang 0.5.9", "model": "llama-3.1-70b"}, "sglang.reduce_norms_dense"),
        ({"framework": "sglang nightly-dev", "model": "glm-5", "date": "2026-03-19"}, "common.reduce_norms"),
        ({"framework": "sglang nightly-dev", "model": "glm-5", "date": "2026-03-20"}, "sglang.reduce_norms"),
    ],
)
def test_all_reduces_do_norms_where_releases_and_scripts_say_so(cells: dict[str, str], fact: str) -> None:
    precision = {"precision": "bf16"} if "a100" in cells.get("chip", "") else {}
    assert constants(case(**{"date": "2026-03-26", **cells}, **precision))["reduce_norms"] == f"serving.{fact}"
    assert FACTS.number("serving.common.reduce_norms") == FACTS.number("serving.sglang.reduce_norms_dense") == 0.0


def test_norms_inside_of_all_reduces_are_launched_no_more() -> None:
    run = {"model": "llama-3.1-70b", "chip": "h200", "concurrency": "4", "tpot_ms": "30"}
    new, old = ({**run, "framework": f"vllm 0.{n}.0"} for n in (18, 12))
    fewer = [
        float(steady(case(**old, tp=tp, n_chips=tp)).full_step["layers"][0])
        - float(steady(case(**new, tp=tp, n_chips=tp)).full_step["layers"][0])
        for tp in ("1", "8")
    ]
    assert fewer == pytest.approx([0.0, 160.0 * FACTS.number("serving.vllm.kernel")], abs=1e-12)


def test_weights_of_four_bits_are_read_slower_outside_of_experts_and_where_they_are_widened() -> None:
    dense = {"framework": "trtllm", "model": "llama-3.1-70b", "date": "2025-10-29"}
    assert constants(case(**dense, precision="fp4"))["reads_linear"] == "serving.trtllm.dense_4"
    assert constants(case(**dense))["reads_linear"] == "serving.common.reads"
    experts = {"framework": "vllm 0.15.1", "model": "kimi-k2.5", "date": "2026-03-24"}
    widened, native = case(**experts, precision="int4"), case(**experts, precision="fp4")
    assert constants(widened)["reads_expert"] == "serving.vllm.widened_4"
    assert constants(native)["reads_expert"] == "serving.common.reads"
    hopper = case(**experts, precision="int4", chip="h200")
    assert constants(hopper)["reads_expert"] == "serving.common.reads"  # it widens everything: no other rate
    share = FACTS.number("serving.vllm.widened_4")
    times = [steady(one).full_step["experts"][0] for one in (widened, native)]
    bits = 4.25 / 4.5  # of int4 with a scale for 128 or fewer weights, of nvfp4 with one for 16
    assert times[0] / times[1] == pytest.approx(bits / share, rel=0.1)


def test_the_host_works_on_each_sequence_of_a_step_that_guesses_where_it_does_not_run_beside() -> None:
    table = gather_cases([case(concurrency="128", tpot_ms="28")], FACTS)
    costs, _, load = table._around(np.array([FACTS.number(path) for path in table.columns.names]))
    both = [decode_step(table.shapes, costs, load, np.array([n]))["host"][0] for n in (64.0, 128.0)]
    each = FACTS.number("serving.sglang.per_sequence") + FACTS.number("serving.sglang.guess_host")
    assert both[1] - both[0] == pytest.approx(64.0 * each)
    assert FACTS.number("serving.common.guess_host") == 0.0


@given(ep=st.sampled_from([2, 4, 8, 16, 64, 256]))
def test_the_most_of_several_is_what_drawing_gives(ep: int) -> None:
    drawn = np.random.default_rng(3).standard_normal((2000, ep)).max(axis=1).mean()
    assert largest_of(np.array([float(ep)]))[0] == pytest.approx(drawn, abs=0.06)


def test_one_law_says_what_the_busiest_of_several_ranks_has() -> None:
    ranks, ones = np.array([2.0, 8.0, 64.0]), np.ones(3)
    got = busiest_rank(64.0 * ones, 256.0 * ones, ranks, 0.5 * ones)
    spread = np.sqrt(0.75 / np.maximum(64.0 / ranks, 1.0))
    assert got == pytest.approx(np.minimum(1.0 + 0.5 * largest_of(ranks) * spread, 4.0))


def test_what_a_table_says_of_experts_gives_way_to_the_script() -> None:
    cells = {"n_chips": "4", "tp": "4"}
    mini = {**cells, "model": "minimax-m2", "precision": "fp8"}
    assert case(**mini, framework="vllm 0.17.0", date="2026-03-11").plan.ep == 4  # also where the table says 1
    assert case(**mini, framework="vllm 0.19.0", date="2026-04-03").plan.ep == 1
    assert case(**mini, chip="h200", framework="vllm 0.16.0", date="2026-03-01").plan.ep == 1
    assert case(**mini, chip="h200", framework="vllm 0.18.0", date="2026-03-28").plan.ep == 4
    kimi = case(**cells, model="kimi-k2.5", precision="fp4", framework="vllm 0.17.0", date="2026-03-27", ep="4")
    assert (kimi.plan.tp, kimi.plan.dp, kimi.plan.ep) == (4, 1, 1)
    assert any("no word of experts" in item for item in kimi.inferred)
