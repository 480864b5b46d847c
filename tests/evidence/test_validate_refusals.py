"""What `validate_rows` refuses by name: cells that it cannot read, degrees and loads that contradict each other, plans
that no device holds."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mowich.evidence import validate as study
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.rows import Case
from mowich.evidence.rows import read_cases as read_training
from mowich.evidence.scores import Validation
from mowich.evidence.serving_checks import read_serving_cases as read_serving
from mowich.evidence.serving_notes import PATTERN_COLUMNS, ServingNote
from mowich.evidence.serving_ranks import plan_of_id, unfold_plan
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts

ROOT = Path(__file__).resolve().parents[2]


# a published row with one cell spoiled
# ----------------------------------------------------------------------------------------------------------------------

KINDS = {
    "H100, Megatron": {"chip": "H100", "source_group": "Megatron-Bridge", "task": "pretrain"},
    "GB200, experts": {"chip": "GB200", "source_group": "Megatron-Bridge", "task": "pretrain", "n_experts": "128"},
    "A100, FSDP": {"chip": "A100", "source_group": "Mosaic", "task": "pretrain"},
    "A100, topology search": {"chip": "A100", "source_group": "BLOOM", "task": "pretrain"},
    "TPU, MaxText": {"chip": "TPU", "source_group": "MaxText", "task": "pretrain"},
    "Trainium, Neuron": {"chip": "Trn1", "source_group": "Neuron", "task": "pretrain", "model_name": "Llama"},
}
"""What the first answered published row of each kind says: words that its columns hold."""


@pytest.fixture(scope="module")
def answered(facts: Facts) -> Mapping[str, Mapping[str, str]]:
    rows = read_csv(published(), facts)
    cases = read_training(rows, facts)
    found = {}
    for kind, words in KINDS.items():
        found[kind] = next(
            row
            for row, case in zip(rows, cases, strict=True)
            if isinstance(case, Case)
            and all(word.casefold() in row[column].casefold() for column, word in words.items())
        )
    return found


SPOILED = [
    ("DP", "7"),
    ("precision", "foo"),
    ("precision", "bf61"),
    ("task", "foo"),
    ("recompute", "foo"),
    ("fsdp_zero", "foo"),
    ("SP", "foo"),
    ("mla", "foo"),
    ("stack", "foo"),
    ("TP", "0.5"),
    ("TP", "0"),
    ("PP", "1.5"),
    ("CP", "0.25"),
    ("EP", "0.5"),
    ("VPP", "2.5"),
    ("DP", "0.5"),
    ("n_layers", "0.5"),
    ("hidden", "4096.5"),
    ("head_dim", "0.5"),
    ("head_dim", "foo"),
    ("vocab", "0"),
    ("seq_len", "1.5"),
    ("global_batch_seqs", "8.5"),
    ("micro_batch", "1e-300"),
    ("micro_batch", "1e300"),
    ("grad_accum", "0.5"),
    ("n_experts", "1.5"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_cell_is_refused_with_its_column_and_value(
    facts: Facts, answered: Mapping[str, Mapping[str, str]], kind: str
) -> None:
    rows = [{**answered[kind], column: value} for column, value in SPOILED]
    for (column, value), got in zip(SPOILED, read_training(rows, facts), strict=True):
        assert isinstance(got, str), f"{column}={value} was answered"
        assert column in got
        assert f"'{value}'" in got
        assert "allowed" in got


def test_a_refusal_suggests_the_nearest_word(facts: Facts, answered: Mapping[str, Mapping[str, str]]) -> None:
    row = answered["H100, Megatron"]
    got = read_training([{**row, "precision": "bf61"}, {**row, "recompute": "selectiv"}], facts)
    assert "did you mean 'bf16'?" in got[0]  # type: ignore[operator]
    assert "did you mean 'selective'?" in got[1]  # type: ignore[operator]


def test_a_refused_row_is_unsupported_and_does_not_count(
    tmp_path: Path, facts: Facts, answered: Mapping[str, Mapping[str, str]]
) -> None:
    row = answered["H100, Megatron"]
    file = tmp_path / "runs.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(row))
        writer.writeheader()
        writer.writerows([row, {**row, "id": "spoiled", "precision": "foo"}])
    got = validate_rows(file, facts)
    assert [r.status for r in got.rows] == ["ok", "unsupported"]
    assert got.rows[1].reason == next(r for r in read_training([{**row, "precision": "foo"}], facts))
    assert got.summary()["all"].n == 1


def test_words_of_other_tables_are_read(facts: Facts) -> None:
    assert plan(facts, precision="float8").precision == "fp8"
    assert plan(facts, precision="FP8_e4m3 (hybrid)").precision == "fp8"
    assert plan(facts, fsdp_zero="ZeRO stage 3").zero == 3
    assert plan(facts, fsdp_zero="NO_SHARD").zero == plan(facts, fsdp_zero="ddp").zero == 0
    assert plan(facts, fsdp_zero="2").zero == 2
    assert plan(facts, recompute="activation checkpointing").recompute == "full"
    assert case(facts, task="SFT").job.task == "sft"  # type: ignore[union-attr]


# degrees
# ----------------------------------------------------------------------------------------------------------------------

MODEL = {
    "model_name": "fixture",
    "n_layers": "32",
    "hidden": "4096",
    "n_heads": "32",
    "n_kv_heads": "8",
    "head_dim": "128",
    "ffn_hidden": "14336",
    "vocab": "128256",
    "seq_len": "8192",
}
EXPERTS = MODEL | {"n_experts": "64", "top_k": "4", "moe_ffn_hidden": "1536", "ffn_hidden": "", "n_layers": "16"}
RUN = {
    "id": "x",
    "chip": "H100",
    "n_chips": "64",
    "chips_per_scaleup_domain": "8",
    "source_group": "Megatron-Bridge",
    "precision": "bf16",
    "task": "pretrain",
    "global_batch_seqs": "128",
    "micro_batch": "1",
    "recompute": "full",
    "primary_metric": "step_time_s",
    "step_time_s": "10",
}


def case(facts: Facts, base: Mapping[str, str] = MODEL, **cells: object) -> Case | str:
    return read_training([{**RUN, **base, **{k: str(v) for k, v in cells.items()}}], facts)[0]


def plan(facts: Facts, base: Mapping[str, str] = MODEL, **cells: object):  # type: ignore[no-untyped-def]
    got = case(facts, base, **cells)
    assert isinstance(got, Case), got
    return got.plan


def dp_note(facts: Facts, base: Mapping[str, str] = MODEL, **cells: object) -> tuple[int, str]:
    """(data ranks of the plan, how DP was read)."""
    got = case(facts, base, **cells)
    assert isinstance(got, Case), got
    return got.plan.dp, next((item for item in got.inferred if item.startswith("dp=")), "")


def test_dp_of_replicas_needs_no_note(facts: Facts) -> None:
    assert dp_note(facts, TP=4, PP=2, CP=2, DP=4) == (4, "")


def test_dp_may_count_the_ranks_of_context_parallelism(facts: Facts) -> None:
    dp, how = dp_note(facts, TP=4, PP=2, CP=2, DP=8)
    assert dp == 4
    assert "CP" in how


@pytest.mark.parametrize(
    ("degrees", "stated"),
    [
        ({"TP": 2, "PP": 2, "EP": 8}, 2),
        ({"TP": 2, "PP": 2, "CP": 2, "EP": 8}, 2),
        ({"TP": 2, "PP": 2, "CP": 2, "EP": 4}, 2),
    ],
)
def test_dp_may_count_replicas_of_the_experts(facts: Facts, degrees: dict[str, int], stated: int) -> None:
    dp, how = dp_note(facts, EXPERTS, **degrees, DP=stated)
    assert dp == 64 // (degrees["TP"] * degrees["PP"] * degrees.get("CP", 1))
    assert "experts" in how


def test_dp_may_count_replicas_of_sharded_weights(facts: Facts) -> None:
    sharded = {"source_group": "torchtitan", "fsdp_zero": "HSDP", "TP": 1, "PP": 1}
    dp, how = dp_note(facts, **sharded, DP=8)
    assert dp == 64
    assert "sharded" in how
    refused = case(facts, **sharded, DP=7)
    assert isinstance(refused, str)
    assert "DP: '7'" in refused


def test_a_smaller_dp_of_no_convention_is_a_misprint_where_it_divides_the_devices(facts: Facts) -> None:
    for stated in (1, 2):
        dp, how = dp_note(facts, TP=4, PP=2, CP=2, DP=stated)
        assert dp == 4
        assert f"DP {stated}" in how
        assert "misprint" in how
    for stated in (3, 7, 16, 64):
        refused = case(facts, TP=4, PP=2, CP=2, DP=stated)
        assert isinstance(refused, str)
        assert f"DP: '{stated}'" in refused
        assert "allowed: 4, 8" in refused


# misprints
# ----------------------------------------------------------------------------------------------------------------------

CORES = {
    "chip": "Trn1",
    "chips_per_scaleup_domain": "16",
    "n_chips": "256",
    "source_group": "Neuron",
    "precision": "Autocast:BF16+SR",
    "recompute": "none",
}


@pytest.mark.parametrize(
    "words", ["topology: [8xNC(TP)x4(DP)] x 16Nodes(DP)", "8 cores (TP) x 4 (DP), 16 nodes", "[8 x NC (TP) x 4 (DP)]"]
)
def test_a_topology_in_words_gives_the_tensor_parallelism(facts: Facts, words: str) -> None:
    got = case(facts, **CORES, TP=1, PP=1, DP=512, notes=words, global_batch_seqs=1024, seq_len=2048)
    assert isinstance(got, Case), got
    assert got.plan.tp == 8
    assert got.plan.devices == 512
    assert any(item.startswith("TP=8") and "topology" in item for item in got.inferred)
    other = case(facts, **CORES, TP=4, PP=1, notes=words, global_batch_seqs=1024)
    assert isinstance(other, str)
    assert "TP: '4'" in other


def test_a_pipeline_deeper_than_the_model_is_read_as_one_stage_where_that_fits(facts: Facts) -> None:
    got = case(facts, TP=2, PP=41)
    assert isinstance(got, Case), got
    assert got.plan.pp == 1
    assert any(item.startswith("PP=1") and "41" in item for item in got.inferred)
    large = MODEL | {"n_layers": "80", "hidden": "8192", "n_heads": "64", "ffn_hidden": "28672"}
    refused = case(facts, large, TP=2, PP=96)
    assert isinstance(refused, str)
    assert "PP: '96'" in refused


def test_a_batch_that_the_ranks_do_not_divide_gives_way_to_the_printed_rate(facts: Facts) -> None:
    cells = {"TP": 2, "PP": 2, "DP": 16, "step_time_s": 10}
    assert case(facts, **cells, global_batch_seqs=150, tokens_per_s_total=128 * 8192 / 10).job.batch_seqs == 128  # type: ignore[union-attr]
    assert case(facts, **cells, global_batch_seqs=160, tokens_per_s_total=128 * 8192 / 10).job.batch_seqs == 160  # type: ignore[union-attr]
    assert case(facts, **cells, global_batch_seqs=150, tokens_per_s_total=131 * 8192 / 10).job.batch_seqs == 150  # type: ignore[union-attr]


def test_memory_decides_between_answered_marked_and_refused(facts: Facts) -> None:
    fits, over = case(facts, TP=8, PP=1, DP=8), case(facts, TP=1, PP=1, DP=64, fsdp_zero="ZeRO-0")
    assert isinstance(fits, Case)
    assert isinstance(over, Case)
    assert fits.memory_share <= 1.0 < over.memory_share <= 8.0
    assert not any(item.startswith("memory=") for item in fits.inferred)
    assert any(item.startswith("memory=") for item in over.inferred)
    assert study.predict(fits, facts).fits_memory is True
    assert study.predict(over, facts).fits_memory is False
    large = MODEL | {"n_layers": "126", "hidden": "16384", "n_heads": "128", "ffn_hidden": "53248"}
    refused = case(facts, large, TP=1, PP=1, DP=64, fsdp_zero="ZeRO-0")
    assert isinstance(refused, str)
    assert "times the memory" in refused
    assert "TP '1'" in refused


def test_the_summary_scores_rows_without_room_apart(facts: Facts, shipped: Validation) -> None:
    summary = shipped.summary()
    apart, others, everything = (summary[k] for k in ("does_not_fit_memory", "fits_memory", "all"))
    assert apart.n > 0
    assert apart.n + others.n == everything.n
    marked = {r.id for r in shipped.rows if any(item.startswith("memory=") for item in r.inferred)}
    unmet = {r.id for r in shipped.rows if r.fits_memory is False}
    by_what_is_open = {r.id for r in shipped.rows if r.case and r.case.memory_plan != r.case.plan}
    assert marked == unmet | by_what_is_open
    assert not unmet & by_what_is_open


@pytest.fixture(scope="module")
def shipped(facts: Facts) -> Validation:
    return validate_rows(None, facts)


# no rule names a row
# ----------------------------------------------------------------------------------------------------------------------

MATCHED = {*PATTERN_COLUMNS, "script"}
ASKED = {"starts", "ends", "lengths", "min_users", "max_users", "max_tp"}
ALLOWED_KEYS = {
    "row_notes.yaml": {
        "stacks": {"stack", "columns", "pattern", "and"},
        "releases": {"columns", "pattern", "and", "release"},
        "models": {"match", "set", "source"},
        "recipes": {"match", "set", "source"},
        "batches": {"match", "notes", "batch", "source"},
        "misprints": {"match", "set", "reason"},
        "refused": {"match", "reason"},
    },
    "serving_notes.yaml": {
        "engines": {"engine", "pattern"},
        "stacks": {"engine", "pattern", "batch"},
        "graphs": {*MATCHED, *("sampling_on_device", "fused_qkv", "block_wise", "asynchronous", "batch", "disputed")},
        "campaigns": {*MATCHED, "campaign", "rounds", "requests", "mean_length"},
        "models": None,
        "rules": {*MATCHED, "min_tp", "skip", "exclude", "reason"},
        "speculation": {*MATCHED, "lengths", "min_users", "tp", "ep", "twice"},
        "ranks": {*MATCHED, *ASKED, "spreads"},
        "launch": {
            *(*MATCHED, *ASKED, "dp", "ep", "speculates", "interval", "balance", "wait", "budget", "prompts", "more"),
            *("memory", "drafts", "graphs", "products"),
        },
        "caches": {*MATCHED, "kv"},
        "experts": {*MATCHED, "dp", "path"},
        "norms": {*MATCHED, "apart"},
    },
}
"""The whole schema: entries match what a row says, and `id` is no column of it."""


def test_every_key_of_a_serving_note_is_typed() -> None:
    parts = [keys for keys in ALLOWED_KEYS["serving_notes.yaml"].values() if keys is not None]
    assert set(ServingNote.__annotations__) == set().union(*parts)


@pytest.mark.parametrize("name", ALLOWED_KEYS)
def test_notes_are_about_content_and_never_about_ids(name: str, facts: Facts) -> None:
    text = (resources.files("mowich.facts") / "published" / name).read_text(encoding="utf-8")
    loaded = yaml.safe_load(text)
    assert set(loaded) == set(ALLOWED_KEYS[name])
    for part, keys in ALLOWED_KEYS[name].items():
        if keys is None:
            continue
        for entry in loaded[part]:
            assert set(entry) <= keys, f"{part}: {entry}"
            assert "id" not in (entry["match"] if isinstance(entry.get("match"), dict) else {})
    ids = {row["id"] for row in read_csv(published(), facts)}
    assert not set(re.findall(r"\bM\d{5}\b|\bm\d{5}\b", text))
    assert not {word for word in re.findall(r"\w+", text) if word in ids}


def test_every_row_that_a_page_explains_is_in_the_table(facts: Facts) -> None:
    ids = {row["id"] for row in read_csv(published(), facts)}
    worst = yaml.safe_load((ROOT / "tools" / "worst_rows.yaml").read_text(encoding="utf-8"))
    assert {i for entry in worst for i in entry["ids"]} <= ids


def test_rules_read_a_row_under_another_id_the_same(facts: Facts) -> None:
    rows = read_csv(published(), facts)
    renamed = [{**row, "id": f"other-{n}"} for n, row in enumerate(rows)]
    for mine, theirs in zip(read_training(rows, facts), read_training(renamed, facts), strict=True):
        if isinstance(mine, str):
            assert mine == theirs
        else:
            assert isinstance(theirs, Case)
            assert (mine.plan, mine.job, mine.inferred) == (theirs.plan, theirs.job, theirs.inferred)


# serving
# ----------------------------------------------------------------------------------------------------------------------

SERVED = {
    "id": "x",
    "source": "mine",
    "chip": "h200",
    "n_chips": "8",
    "framework": "vllm 0.18.0",
    "model": "llama-3.1-70b",
    "precision": "fp8",
    "kv_precision": "fp8",
    "mode": "online",
    "tp": "8",
    "isl": "1024",
    "osl": "1024",
    "concurrency": "16",
    "ttft_ms": "90",
    "tpot_ms": "9",
}


def served(facts: Facts, **cells: object) -> ServingCase | str:
    return read_serving([{**SERVED, **{k: str(v) for k, v in cells.items()}}], facts)[0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("precision", "foo"),
        ("kv_precision", "foo"),
        ("mode", "foo"),
        ("framework", "foo"),
        ("spec_decode", "foo"),
        ("tp", "0.5"),
        ("dp", "1.5"),
        ("ep", "0.5"),
        ("moe_tp", "0.5"),
        ("pp", "1.5"),
        ("isl", "1.5"),
        ("osl", "0.5"),
        ("concurrency", "8.5"),
        ("batch", "1e-300"),
        ("n_chips", "1.5"),
    ],
)
def test_a_spoiled_cell_of_serving_is_refused_with_its_column_and_value(facts: Facts, column: str, value: str) -> None:
    assert isinstance(served(facts), ServingCase)
    got = served(facts, **{column: value})
    assert isinstance(got, str)
    assert f"{column}: '{value}'" in got
    assert "allowed" in got


def test_words_of_other_serving_tables_are_read(facts: Facts) -> None:
    assert served(facts, precision="BF16 (dequantised from FP8)").plan.weights == "bf16"  # type: ignore[union-attr]
    assert served(facts, precision="W4A16").plan.weights == "int4"  # type: ignore[union-attr]
    assert served(facts, kv_precision="auto").plan.kv == "bf16"  # type: ignore[union-attr]
    assert served(facts, spec_decode="none").speculates is False  # type: ignore[union-attr]
    assert served(facts, spec_decode="EAGLE3, accept length 1.7").speculates is True  # type: ignore[union-attr]
    assert served(facts, mode="aggregated", dp=0, ep=0).plan.dp == 1  # type: ignore[union-attr]


def test_littles_law_holds_or_the_row_is_refused(facts: Facts) -> None:
    latency_s = 0.090 + 1023 * 0.009
    rate = 16 / latency_s * 1024  # tokens/s of 16 users
    for factor in (0.7, 1.0, 1.4):
        assert isinstance(served(facts, output_tok_s=rate * factor), ServingCase), factor
    for factor in (0.5, 2.0, 4.0):
        got = served(facts, output_tok_s=rate * factor)
        assert isinstance(got, str)
        assert "Little's law" in got
        assert "concurrency: '16'" in got
    assert isinstance(served(facts, output_tok_s_per_chip=rate / 8), ServingCase)
    assert isinstance(served(facts, output_tok_s_per_chip=rate), str)
    assert isinstance(served(facts, output_tok_s=16 / 0.009, osl=32), ServingCase)  # the rate of decoding alone


def test_replicas_that_are_not_stated_are_refused(facts: Facts) -> None:
    assert isinstance(served(facts, batch=16), ServingCase)
    assert isinstance(served(facts, batch=32), ServingCase)  # what the engine may run
    more = served(facts, batch=4)
    assert isinstance(more, str)
    assert "concurrency: '16'" in more
    assert "batch '4'" in more
    chips = served(facts, n_chips=64)
    assert isinstance(chips, str)
    assert "n_chips" in chips
    assert "64" in chips
    alone = served(facts, concurrency="", batch=16)
    assert isinstance(alone, str)
    assert "concurrency" in alone


def test_users_that_wait_for_nothing_that_the_row_states(facts: Facts) -> None:
    crowd = {"concurrency": 256, "tpot_ms": 9}
    assert isinstance(served(facts, **crowd, ttft_ms=4000), ServingCase)
    capped = served(facts, **crowd, ttft_ms=60000)  # 13% of the users decode
    assert isinstance(capped, str)
    assert "ttft_ms: '60000'" in capped
    cold = served(facts, concurrency=16, ttft_ms=8000, osl=4096)  # most decode, and yet the first token waits for 8 s
    assert isinstance(cold, ServingCase)
    assert "ttft_ms" in cold.skip
    assert "tpot_ms" not in cold.skip
    assert isinstance(served(facts, concurrency=1, ttft_ms=60000), ServingCase)  # a lone user waits for nobody
    assert isinstance(served(facts, mode="static batch", concurrency=256, ttft_ms=60000), ServingCase)


def test_short_answers_to_long_prompts_keep_their_users_waiting(facts: Facts) -> None:
    got = served(facts, concurrency=64, isl=8192, osl=16, ttft_ms=9000, tpot_ms=20)  # 97% wait, for prompts
    assert isinstance(got, ServingCase)
    assert not got.skip


def test_what_no_device_holds_is_refused(facts: Facts) -> None:
    weights = served(facts, chip="h100", model="qwen3-235b-a22b", tp=2, n_chips=2)
    assert isinstance(weights, str)
    assert "no room for one sequence" in weights
    cache = served(facts, chip="h100", model="llama-3.1-8b", tp=1, n_chips=1, isl=2_000_000, osl=1000, concurrency=1)
    assert isinstance(cache, str)
    assert "no room for one sequence" in cache


def test_more_decoding_users_than_fit_are_marked(facts: Facts) -> None:
    cells = {"chip": "h100", "tp": 2, "n_chips": 2, "isl": 8192, "osl": 1024, "ttft_ms": 900, "tpot_ms": 400}
    few, many = served(facts, **cells, concurrency=4), served(facts, **cells, concurrency=512)
    assert isinstance(few, ServingCase)
    assert isinstance(many, ServingCase)
    assert few.memory_share <= 1.0 < many.memory_share
    assert any(item.startswith("memory=") for item in many.inferred)


@pytest.mark.parametrize(
    ("printed", "real"),
    [((4, 1, 2, 2), (4, 1, 2)), ((8, 1, 4, 2), (8, 1, 4)), ((16, 1, 4, 4), (4, 1, 4)), ((64, 1, 8, 8), (8, 1, 8))],
)
def test_a_plan_that_an_engine_can_run_is_not_unfolded(
    printed: tuple[int, int, int, int], real: tuple[int, int, int]
) -> None:
    assert unfold_plan(*printed)[:3] == real
    assert unfold_plan(*printed, domain=72)[:3] == printed[:3]


@given(
    ranks=st.sampled_from((1, 2, 4, 8)),
    groups=st.sampled_from((1, 2, 4, 8)),
    is_dp=st.booleans(),
    moe_tp=st.integers(1, 8),
)
def test_the_id_of_a_row_wins_over_cells_that_multiply_its_plan(
    ranks: int, groups: int, is_dp: bool, moe_tp: int
) -> None:
    """An id says how many ranks there are; cells that are that times its groups of experts count these twice."""
    text = f"dsr1_fp4_b200_c64_tp{ranks}_ep{groups}_7 [source_file=x.csv]"
    folded = (1, ranks * groups) if is_dp else (ranks * groups, 1)
    plain = (1, ranks) if is_dp else (ranks, 1)
    found = plan_of_id(text, *folded, groups)
    assert (found is None) == (groups == 1)
    if found is not None:
        assert found[:3] == (*plain, groups)
        assert f"tp{ranks}_ep{groups}" in found[3]
        assert plan_of_id(text, *plain, groups) is None  # cells that say the same are as printed
    assert plan_of_id(text.replace(f"_tp{ranks}", f"_tp{3 * ranks}"), *folded, groups) is None
    assert plan_of_id("m00710", *folded, groups) is None


def test_a_row_is_read_by_its_id_where_its_cells_are_folded(facts: Facts) -> None:
    cells = {"chip": "b200", "model": "minimax-m2", "n_chips": "", "tp": 4, "dp": 1, "ep": 2, "moe_tp": 2}
    said = served(facts, **cells, source_path_or_url="silicon.csv id=minimax_c64_tp2_ep2_7")
    plain = served(facts, **cells, source_path_or_url="silicon.csv id=minimax_c64_tp4_ep2_7")
    assert isinstance(said, ServingCase)
    assert isinstance(plain, ServingCase)
    assert (said.plan.tp, said.plan.ep, said.chips) == (2, 2, 2)
    assert (plain.plan.tp, plain.plan.ep, plain.chips) == (4, 2, 4)


def test_the_reading_of_a_folded_plan_is_the_one_that_fits(facts: Facts) -> None:
    cells = {"chip": "h100", "model": "minimax-m2", "n_chips": "", "tp": 4, "dp": 1, "ep": 2, "moe_tp": 2}
    got = served(facts, **cells)
    assert isinstance(got, ServingCase)
    assert (got.plan.tp, got.plan.ep, got.chips) == (4, 2, 4)
    ranks = {
        "chip": "h200",
        "model": "llama-3.1-405b",
        "n_chips": "",
        "precision": "bf16",
        "concurrency": 4,
        "tpot_ms": 30,
    }
    folded = served(facts, **ranks, tp=16, dp=1, ep=4, moe_tp=4)  # 810 GB: not on the four chips of the unfolded plan
    assert isinstance(folded, ServingCase)
    assert folded.plan.tp == 16
    own = served(facts, model="deepseek-v3", n_chips=16, tp=16, dp=1, ep=4, moe_tp=4)  # the row counts its chips itself
    assert isinstance(own, ServingCase)
    assert own.plan.tp == 16
    derived = served(
        facts,
        model="deepseek-v3",
        n_chips=16,
        tp=16,
        dp=1,
        ep=4,
        moe_tp=4,
        chip="b300",
        precision="fp4",
        derived_fields="n_chips",
    )
    assert isinstance(derived, ServingCase)
    assert derived.plan.tp == 4
