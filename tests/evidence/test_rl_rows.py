"""Measured steps of reinforcement learning: what a row is read as, what is refused, and how phases are scored."""

from __future__ import annotations

import csv
import importlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.evidence.measured_tables import table_form
from mowich.evidence.rl_rows import PHASES, ROW_KINDS, RlCase, read_rl_row
from mowich.evidence.scores import OrderedPair, RowResult, Validation, left_out, summarise
from mowich.facts import Facts, load_facts
from mowich.show.page import Run
from mowich.show.validate import validate_page
from mowich.studies.explain.validate import validated
from mowich.studies.rl import assess
from mowich.studies.rl_evidence import PARTS_OF, ask_of_case, score_rl
from mowich.studies.validate import validate

FACTS = load_facts()
SHARED = Path(__file__).resolve().parents[3] / "shared" / "truth" / "rl_calibration.csv"

Row = Mapping[str, str]

RL = table_form("rl")
COLOCATED: Row = {
    "id": "one",
    "row_kind": "step",
    "framework": "NeMo RL",
    "framework_version": "v0.5",
    "source": "own",
    "family": "8B | H100",
    "model": "Llama-3.1-8B-Instruct",
    "hardware": "H100 (our cluster)",
    "n_gpus_total": "16",
    "colocated": "yes",
    "algorithm": "GRPO",
    "prompts_per_step": "64",
    "samples_per_prompt": "32",
    "train_global_batch": "512",
    "max_seq_len": "4096",
    "mean_seq_len": "1019",
    "total_tokens_per_step": "2347469",
    "train_backend": "Megatron-Core",
    "train_tp": "1",
    "train_pp": "2",
    "recompute": "full",
    "gen_engine": "vLLM",
    "gen_tp": "1",
    "gen_mem_util": "0.6",
    "step_time_s": "95",
    "gen_time_s": "44",
    "train_time_s": "27",
    "logprob_time_s": "17",
    "weight_sync_s": "5",
}
SPLIT: Row = {
    **COLOCATED,
    "id": "two",
    "colocated": "no",
    "n_gpus_train": "8",
    "n_gpus_gen": "8",
    "max_staleness": "1",
    "inflight_weight_updates": "yes",
    "gen_mem_util": "0.8",
    "step_time_s": "70",
    "exposed_gen_time_s": "20",
}
TRAINER: Row = {
    "id": "three",
    "row_kind": "trainer_only",
    "framework": "prime-rl",
    "model": "Qwen3-0.6B",
    "hardware": "H100",
    "n_gpus_train": "1",
    "max_seq_len": "65536",
    "train_backend": "FSDP2 (prime-rl)",
    "train_tp": "1",
    "recompute": "full activation checkpointing",
    "train_time_s": "6.5",
    "notes": "RL LoRA(r=16); attention FA3",
}


def read(row: Row, **cells: str) -> RlCase:
    found = read_rl_row({**row, **cells}, FACTS)
    assert isinstance(found, RlCase), found
    return found


def refused(row: Row, **cells: str) -> str:
    found = read_rl_row({**row, **cells}, FACTS)
    assert isinstance(found, str)
    return found


def write(path: Path, *rows: Row) -> Path:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


# reading
# ----------------------------------------------------------------------------------------------------------------------


@given(
    prompts=st.integers(1, 512),
    samples=st.integers(1, 64),
    mean=st.integers(50, 20000),
    room=st.integers(2, 20000),
    beside=st.integers(1, 2000),
)
def test_a_row_is_the_run_that_it_states(prompts: int, samples: int, mean: int, room: int, beside: int) -> None:
    """Batch, lengths and prompts are those of the cells, whatever they are."""
    cells = {
        "prompts_per_step": str(prompts),
        "samples_per_prompt": str(samples),
        "train_global_batch": "",
        "mean_seq_len": str(mean),
        "max_new_tokens": str(mean + room),
        "max_seq_len": "",
        "total_tokens_per_step": str((mean + beside) * prompts * samples),
    }
    job = read(COLOCATED, **cells).job
    assert job is not None
    assert (job.batch, job.updates) == (prompts * samples, 1.0)
    assert job.lengths.mean == pytest.approx(mean, rel=1e-6)
    assert job.lengths.cap == mean + room
    assert job.prompt == pytest.approx(beside)
    assert job.most >= mean + room


def test_sides_of_a_row() -> None:
    one, two, alone = read(COLOCATED), read(SPLIT), read(TRAINER)
    assert (one.trainer.devices, one.rollouts and one.rollouts.devices) == (16, 16)
    assert (two.trainer.devices, two.rollouts and two.rollouts.devices) == (8, 8)
    assert (one.trainer.software, alone.trainer.software) == ("megatron", "pytorch-compile")
    assert str(one.trainer.plan) == "pp2 dp8 z1 mb1 bf16 rc-full"
    assert str(alone.trainer.plan) == "dp1 z3 mb1 bf16 rc-full"
    assert one.job is not None
    assert two.job is not None
    assert (one.job.placement, one.job.staleness, one.job.passes) == ("colocated", 0, ("policy", "reference"))
    assert (two.job.placement, two.job.staleness, two.job.order, two.job.partial) == ("split", 1, "started", True)
    assert alone.update is not None
    assert (alone.update.task, alone.update.seq) == ("lora", 65536)
    assert (one.row["chip"], one.row["stack"]) == ("H100", "NeMo RL v0.5")
    assert read(SPLIT, max_staleness="0.5", framework="verl").job.staleness == 1  # type: ignore[union-attr]
    assert read(SPLIT, max_staleness="", framework="prime-rl").job.staleness == 8  # type: ignore[union-attr]
    assert read(SPLIT, max_staleness="", async_mode="synchronous").job.staleness == 0  # type: ignore[union-attr]


def test_what_was_filled_in_is_said() -> None:
    """A field that the row states is never filled in, one that it leaves open always."""
    for column, field in (("total_tokens_per_step", "prompt"), ("gen_tp", "worker"), ("train_tp", "trainer plan")):
        stated, left_open = read(COLOCATED), read(COLOCATED, **{column: ""})
        assert not [said for said in stated.inferred if said.startswith(f"{field}=")]
        assert [said for said in left_open.inferred if said.startswith(f"{field}=")]


REASONS: Mapping[str, tuple[Row, str]] = {
    "mean length": ({"mean_seq_len": ""}, "the mean length of answers is not stated"),
    "cap": ({"max_seq_len": ""}, "the longest answer that is allowed is not stated"),
    "batch": ({"samples_per_prompt": ""}, "the batch is not stated"),
    "devices": ({"n_gpus_total": ""}, "how many devices train"),
    "dynamic sampling": ({"algorithm": "DAPO"}, "dynamic sampling: the share of groups"),
    "agents": ({"algorithm": "multi-turn GRPO"}, "tools are called: their number and time"),
    "model": ({"model": "a model of ours"}, "no model 'a model of ours'"),
    "machine": ({"hardware": "not stated"}, "no machine 'not stated'"),
    "complaint": ({"doubts": "filed as a performance complaint"}, "its own doubts: filed as"),
}


@pytest.mark.parametrize("missing", REASONS)
def test_a_row_without_what_decides_is_refused(missing: str) -> None:
    cells, reason = REASONS[missing]
    assert reason in refused(COLOCATED, **cells)


def test_a_trainer_alone_states_its_degrees() -> None:
    """Of a whole step a plan is searched, for its chips are there to be used; a micro-batch is of one plan."""
    assert "the degrees of the trainer are not stated" in refused(TRAINER, train_tp="")
    assert read(COLOCATED, train_tp="").trainer.plan is None


def test_every_reason_is_told_at_once() -> None:
    gone = {column: value for cells, _ in REASONS.values() for column, value in cells.items()}
    found = refused(COLOCATED, **gone)
    for missing in set(REASONS) - {"dynamic sampling"}:
        assert REASONS[missing][1] in found


def test_what_is_asked_for_answers_the_row() -> None:
    """What a refusal asks for makes the row one that is answered."""
    sampled = read(COLOCATED, algorithm="DAPO", acceptance="0.5").job
    assert sampled is not None
    assert (sampled.algorithm, sampled.acceptance) == ("dapo", 0.5)
    agent = read(COLOCATED, algorithm="multi-turn GRPO", turns="4", call_s="2", reward_s="3").job
    assert agent is not None
    assert (agent.environment.turns, agent.environment.call_s, agent.environment.reward_s) == (4.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"row_kind": "stp"}, "unknown kind of row"),
        ({"row_kind": ""}, "must not be blank"),
        ({"colocated": "maybe"}, "yes or no"),
        ({"step_time_s": "-1"}, "out of range"),
        ({"mean_seq_len": "long"}, "not a number"),
    ],
)
def test_cells_that_cannot_be_read(tmp_path: Path, cells: Row, words: str) -> None:
    """A slip is told with file, line and column, and not replaced by anything."""
    with pytest.raises((UserError, UserErrors)) as caught:
        validate(write(tmp_path / "rl.csv", COLOCATED, {**SPLIT, **cells}), FACTS)
    assert words in str(caught.value)
    assert "rl.csv:3" in str(caught.value)
    for column, text in (("n_gpus_train", "7"), ("mean_seq_len", "5000"), ("samples_per_prompt", "1.5")):
        assert column.split("_")[0] in refused({**SPLIT, "train_pp": "2"}, **{column: text})


SYNC: Row = {
    "id": "four",
    "row_kind": "weight_sync",
    "framework": "miles",
    "model": "qwen3-30b-a3b",
    "hardware": "H100",
    "n_gpus_train": "16",
    "n_gpus_gen": "16",
    "train_parallel_text": "TP4 EP8",
    "gen_parallel_text": "TP8 EP8",
    "sync_method": "NCCL broadcast",
    "weight_sync_s_max": "2.6",
    "weight_sync_s": "2.5",
}


@given(
    row=st.sampled_from([COLOCATED, SPLIT, TRAINER, SYNC]),
    column=st.sampled_from(sorted({*COLOCATED, *SPLIT, *TRAINER, *SYNC, *RL.numbers} - {"id", "row_kind"})),
    cell=st.sampled_from(["", "0", "1", "3", "0.5", "1e9", "none", "fp9", "yes", "no", "TP3", "v0", "H100", "trn3"]),
)
@settings(max_examples=150)
def test_any_cell_is_read_or_refused(row: Row, column: str, cell: str) -> None:
    """A cell that no check of the table stops leaves a row that is read, or refused with a reason."""
    changed = {**row, column: cell}
    if RL.wrong_cells(changed, "here"):
        return
    if row is SYNC:  # of which the law itself is asked: it takes no time
        (found,), _ = score_rl([changed], FACTS)
        assert found.reason or (found.predicted or 0.0) > 0.0
    else:
        case = read_rl_row(changed, FACTS)
        assert isinstance(case, RlCase) or case


# scores
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    nowhere = {**SPLIT, **REASONS["machine"][0], "id": "four"}
    return validate(write(tmp_path_factory.mktemp("rl") / "own.csv", COLOCATED, SPLIT, TRAINER, nowhere), FACTS)


def test_each_phase_is_that_part_of_the_step(scored: Validation) -> None:
    answer = assess(ask_of_case(read(COLOCATED), FACTS))
    found = {r.metric: r for r in scored.rows if r.id == "one"}
    assert set(found) == {column for column in PHASES if column in COLOCATED}
    assert found["step_time_s"].predicted == pytest.approx(answer.step_s.value)
    for column in set(found) - {"step_time_s"}:
        parts = [answer.parts[name].value for name in PARTS_OF[column]]
        assert found[column].predicted == pytest.approx(math.fsum(x or 0.0 for x in parts))
    for row in found.values():
        assert (row.low or 0.0) < (row.predicted or 0.0) < (row.high or 0.0)


def test_only_what_a_split_run_shows_is_scored(scored: Validation) -> None:
    """Generation of a split run is hidden, what the trainer waits for is not."""
    found = {r.metric: r for r in scored.rows if r.id == "two"}
    assert "hidden" in str(found["gen_time_s"].reason)
    assert found["exposed_gen_time_s"].predicted is not None


def test_nothing_is_fitted_to_the_rows() -> None:
    """Other measured times change no prediction."""
    row = {**TRAINER, "source": ""}
    (one,), _ = score_rl([row], FACTS)
    (other,), _ = score_rl([{**row, "train_time_s": "650"}], FACTS)
    assert (one.predicted, one.low, one.high) == (other.predicted, other.low, other.high)
    assert other.ratio == pytest.approx((one.ratio or 0.0) / 100.0)


def test_a_trainer_of_full_weights_writes_them() -> None:
    """The benchmark of prime-rl saves the whole model after each step; adapters are not."""
    (lora,), _ = score_rl([TRAINER], FACTS)
    (full,), _ = score_rl([{**TRAINER, "notes": "RL Full; attention FA3"}], FACTS)
    case = read(TRAINER, notes="RL Full; attention FA3")
    rate = FACTS.number("rl.frameworks.prime-rl.file_rate")
    assert case.saves_B == case.model.params  # 2 B a parameter, after two micro-batches
    assert read(TRAINER).saves_B == 0.0
    assert (full.predicted or 0.0) - (lora.predicted or 0.0) == pytest.approx(case.saves_B / rate, rel=0.2)


def test_order_of_runs(scored: Validation) -> None:
    """Runs that share all but their order of work are a pair where their steps differ; others are none."""
    (pair,) = scored.pairs or ()
    assert (pair.synchronous, pair.asynchronous) == ("one", "two")
    assert pair.measured == pytest.approx(95 / 70)
    for measured, predicted, right in ((1.2, 1.01, True), (1.2, 0.99, False), (0.8, 0.9, True)):
        drawn = OrderedPair(synchronous="a", asynchronous="b", measured=measured, predicted=predicted, doubts="")
        assert drawn.is_right is right


def test_answer_keeps_the_contract(scored: Validation) -> None:
    """The keys of other tables, with pairs and families beside them."""
    data = json.loads(json.dumps(scored.to_dict()))
    assert data["schema"] == "mowich/validate@1"
    assert {"all", "fully_specified", "by_chip", "by_source", "by_metric", "by_stack", "by_family"} <= set(
        data["summary"]
    )
    assert set(data["pairs"][0]) == {"synchronous", "asynchronous", "measured", "predicted", "doubts", "is_right"}
    text = repr(validate_page(data, Run()).parts)
    for words in ("by phase", "waiting for answers", "NeMo RL v0.5", "1 x no machine 'not stated'", "1 of 1 right"):
        assert words in text, words


def test_explained(scored: Validation) -> None:
    """A measured row is made again from its cells."""
    row = next(r for r in scored.rows if r.metric == "train_time_s" and r.id == "three")
    source = validated(("rows", 0), row.to_dict(), {**TRAINER, "chip": "H100", "source": ""}, FACTS)
    assert source.numbers(FACTS, ("predicted",))["predicted",] == pytest.approx(row.predicted)


def test_columns_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing columns: framework, model, hardware"):
        validate(write(tmp_path / "few.csv", {"id": "a", "row_kind": "step"}), FACTS)
    assert tuple(PHASES) == RL.metrics
    assert next(tuple(c.allowed) for c in RL.columns if c.name == "row_kind") == ROW_KINDS


# the page
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    tools = str(Path(__file__).resolve().parents[2] / "tools")
    sys.path.insert(0, tools)
    try:
        return importlib.import_module("rl_accuracy")
    finally:
        sys.path.remove(tools)


def test_reasons_are_counted_once_a_row(tool: ModuleType) -> None:
    """What differs by row stands beside its reason; doubts of all rows are one."""
    reasons = [
        "no model 'a'",
        "no model 'b'",
        "no model 'a'",
        "no cap",
        "its own doubts: a 'fast' run",
        "its own doubts: x",
    ]
    found = {one["reason"]: (one["rows"], one["of"]) for one in tool.counted(reasons)}
    assert found == {"no model": (3, ["a", "b"]), "no cap": (1, []), "doubts": (2, ["a 'fast' run", "x"])}


def test_section_tells_what_is_kept(tool: ModuleType) -> None:
    """Each phase, family and reason has its line, and the errors that ship are those of the section."""
    kept = json.loads(tool.KEPT.read_text(encoding="utf-8"))
    text = "\n".join(tool.section())
    assert text.count("\n|") == len(kept["phases"]) + len(kept["families"]) + len(kept["reasons"]) + 6
    for part in kept["phases"]:
        assert f"| {part['phase']} | {part['of']} | {part['n']} | {part['refused']} |" in text
    (shipped,) = (e for e in left_out() if e.work == tool.WORK)
    assert (shipped.rows, shipped.date) == (kept["left_out"]["rows"], kept["date"])
    assert f"{100 * shipped.median:.1f}% median, {100 * shipped.p90:.1f}% at p90" in text


def test_a_family_left_out_has_no_say(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn rows whose families run slower by factors of their own: the factor fitted to the others misses by what the
    family is slower than they are."""
    slower = {"a": 1.2, "b": 1.2, "c": 1.2, "d": 0.9}

    def drawn(rows: object, known: Facts) -> tuple[list[RowResult], tuple[()]]:
        by = known.number(tool.factors(FACTS)[0]) / FACTS.number(tool.factors(FACTS)[0])
        (blank,) = RowResult.refused({"id": "", "chip": ""}, "", "step_time_s")
        blank = replace(blank, predicted=by, low=0.5 * by, high=2.0 * by)
        return [replace(blank, id=name, kind=name, ratio=by / own) for name, own in slower.items()], ()

    monkeypatch.setattr(tool, "score_rl", drawn)
    errors, covered = tool.left_out_errors([], FACTS)
    assert errors["d"] == pytest.approx([math.log(1.2 / 0.9)], abs=0.01)
    assert errors["a"] == pytest.approx([0.0], abs=0.01)
    assert covered == [True] * 4


# published rows
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="published rows do not ship")
def test_published_steps() -> None:
    """Errors of published steps by phase, their ranges, and the order of runs. What law and facts are held to."""
    found = validate(SHARED, FACTS)
    steps = [r for r in found.rows if r.metric == "step_time_s"]
    own = summarise([r for r in steps if r.chip == "H100" and "DeepSeek" not in r.kind])
    assert own.n >= 20
    assert (own.median_abs_error or 1.0) < 0.07
    assert (own.p90_abs_error or 1.0) < 0.25
    whole = summarise(steps)
    assert whole.n >= 35
    assert (whole.median_abs_error or 1.0) < 0.10
    assert (whole.p90_abs_error or 1.0) < 0.35
    by_phase = found.summary()["by_metric"]
    for metric, most in {"gen_time_s": 0.08, "train_time_s": 0.20, "weight_sync_s": 0.30}.items():
        assert by_phase[metric].n
        assert (by_phase[metric].median_abs_error or 1.0) < most, metric
    assert (found.summary()["all"].interval_coverage or 0.0) >= 0.85
    sure = [pair for pair in found.pairs or () if not pair.doubts]
    assert sure
    assert all(pair.is_right for pair in sure)
