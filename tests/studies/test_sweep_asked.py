"""A sweep asked for by options, by keywords and by a scenario: the same bytes, each row that of compare, and mistakes
in the words of the edge. Its folder, read by others."""

from __future__ import annotations

import json
import shlex
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts
from mowich.requests.command import command_of
from mowich.studies.explain.explainer import Explainer
from mowich.studies.sweep import sweep
from mowich.studies.sweep_grid import read_sweep
from mowich.studies.sweep_read import stored_sweep
from mowich.studies.sweep_store import sweep_to

MODEL = "llama-3.2-1b"
TRAIN = {"tokens": "1T", "seq": "2048,4096", "batch": "256seqs"}
SERVE = {"isl": "1k", "osl": "200", "tpot": "20ms..40ms:2"}
SCENARIOS = {
    "train": (
        "{mowich: 1, models: llama-3.2-1b, on: h100, chips: 8, seq: [2048, 4096], batch: 256seqs,"
        " tokens: 1T, plan: {pp: 1, cp: 1, precision: bf16}, vary: {plan.tp: '1,2'}}"
    ),
    "serve": (
        "{mowich: 1, models: llama-3.2-1b, on: h100, chips: 4, isl: 1k, osl: 200, plan: {pp: 1},"
        " vary: {tpot: '20ms..40ms:2', plan.tp: '1,2'}}"
    ),
}
TYPED = {
    "train": (
        *("--train", "--tokens", "1T", "--seq", "2048,4096", "--batch", "256seqs", "--chips", "8"),
        *("--set", "plan.cp=1", "--set", "plan.precision=bf16"),
    ),
    "serve": ("--serve", "--isl", "1k", "--osl", "200", "--tpot", "20ms..40ms:2", "--chips", "4"),
}
CALLED: dict[str, dict[str, Any]] = {
    "train": {"train": TRAIN, "chips": [8], "fixed": {"pp": 1, "cp": 1, "precision": "bf16"}},
    "serve": {"serve": SERVE, "chips": 4, "fixed": {"pp": 1}},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("work", ["train", "serve"])
def test_options_keywords_and_a_scenario_give_the_same_bytes(
    work: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("typed", "called", "file")
    typed, called, file = (tmp_path / name for name in names)
    asked = ("sweep", MODEL, *TYPED[work], "--on", "h100", "--set", "plan.pp=1", "--vary", "plan.tp=1,2")
    assert run([*asked, "--jobs", "1", "--out", str(typed), "-q"]) == 0
    made = mowich.sweep(MODEL, ["h100"], **CALLED[work], vary={"plan.tp": [1, 2]}, out=called)
    assert made.complete
    assert mowich.sweep(SCENARIOS[work], out=file).complete
    assert contents(typed) == contents(called) == contents(file)
    assert sorted(contents(typed)) == ["_checksums.sha256", "_manifest.json", "part-000000.parquet"]
    assert len(made.rows()) == 4
    capsys.readouterr()
    assert run([*asked, "--jobs", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert "scenario" not in data["inputs"]
    assert data["rows"] == json.loads(json.dumps(mowich.sweep(SCENARIOS[work]).to_dict()))["rows"]


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_a_row_is_that_of_compare(data: st.DataObject) -> None:
    system, chips = data.draw(st.sampled_from(["h100", "trn2", "b200"])), data.draw(st.sampled_from([2, 4, 8]))
    axis = {"tp": data.draw(st.sampled_from(["1", "2", "4"]))}
    job: dict[str, Any]
    if data.draw(st.booleans()):
        job = {"tokens": "1T", "seq": data.draw(st.sampled_from([1024, "4Ki"])), "batch": "64seqs"}
        job |= data.draw(st.sampled_from([{}, {"task": "lora:16"}, {"document": "700", "fill": 0.9}]))
        job |= data.draw(st.sampled_from([{}, {"batch": "60seqs~10%"}, {"optimizer": "muon"}]))
        work = "train"
    else:
        job = {"isl": data.draw(st.sampled_from(["1k", 3000])), "osl": "100"}
        job |= data.draw(st.sampled_from([{}, {"ttft": "500ms", "cached": "50%"}, {"tpot": 0.03, "engine": "vllm"}]))
        work = "serve"
    made = mowich.sweep("llama-3.2-1b", system, **{work: job}, chips=[chips], vary={"plan.tp": axis["tp"]})
    ((_, row),) = made.rows
    ask: dict[str, Any] = {work: job}
    compared = mowich.compare("llama-3.2-1b", [system], chips=chips, fixed=axis, **ask)
    assert row.to_dict() == compared.rows[0].to_dict()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gpt22", *TYPED["train"], "--on", "h100"), ["unknown model 'gpt22'"]),
        ((MODEL, "--train", "--on", "h100"), ["--seq: is required with --train", "--batch", "--tokens"]),
        ((MODEL, *TYPED["train"]), ["--on: is required"]),
        ((MODEL, *TYPED["train"], "--on", "h101"), ["--on: unknown system", "h100"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--seq", "2048,x"), ["--seq: ", "'x'"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--seq", "9..1:x2"), ["--seq: an empty range", "9..1:x2"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--batch", "64"), ["--batch: ", "less than one sequence"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--tokens", "1k"), ["--tokens: 1k tokens are less than one step"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--chips", "8,0"), ["--chips: ", "at least 1"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--isl", "8k"), ["--isl: is an option of serving"]),
        ((MODEL, *TYPED["serve"], "--on", "h100", "--seq", "8k"), ["--seq: is an option of training"]),
        ((MODEL, *TYPED["serve"], "--on", "h100", "--engine", "vlm"), ["--engine: unknown engine 'vlm'", "vllm"]),
        ((MODEL, *TYPED["serve"], "--on", "h100", "--tpot", "20"), ["--tpot: "]),
        ((MODEL, *TYPED["train"], "--serve", "--on", "h100"), ["give either --train or --serve"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--vary", "seq=1,2"), ["--seq: is an axis already"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--vary", "plan.cp=1,2"), ["plan.cp is both varied and fixed"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--vary", "sex=1"), ["unknown axis 'sex'", "seq"]),
        ((MODEL, "--on", "h100"), ["SCENARIO: is a model", "--train or --serve"]),
        ((MODEL, *TYPED["train"], "--on", "h100", "--sites", "2"), ["--site-link: is required with --sites"]),
        (("bert-large", *TYPED["serve"], "--on", "h100"), ["decodes no tokens"]),
    ],
)
def test_mistakes_are_said_in_words_of_the_command_line(
    words: tuple[str, ...], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", *words, "--jobs", "1"]) == 2
    found = capsys.readouterr().err
    assert all(word in found for word in said), found
    assert all(line.startswith(("error: ", "note: ")) for line in found.splitlines())


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"train": {**TRAIN, "seq": "x"}, "systems": "h100"}, "train.seq: "),
        ({"train": {**TRAIN, "colour": 1}, "systems": "h100"}, "unknown key of train 'colour'"),
        ({"serve": {"isl": "1k"}, "systems": ["h100"]}, "serve.osl: is required"),
        ({"train": TRAIN, "systems": "h101"}, "systems: unknown system"),
        ({"train": TRAIN, "systems": "h100", "chips": "8..1:x2"}, "chips: an empty range"),
        ({"train": TRAIN, "systems": "h100", "fixed": {"tpp": 1}}, "unknown plan field 'tpp'"),
        ({"train": TRAIN, "systems": "h100", "vary": 3}, "vary: not a mapping"),
    ],
)
def test_mistakes_are_said_in_words_of_python(named: dict[str, Any], said: str) -> None:
    with pytest.raises((UserError, UserErrors)) as error:
        mowich.sweep(MODEL, **named)
    assert said in error.value.line()


def test_axes_of_two_jobs_in_one_scenario_are_refused(tmp_path: Path, facts: Facts) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("mowich: 1\nmodels: gpt2\non: h100\nisl: 1k\nosl: 100\nseq: 1024\n")
    with pytest.raises(UserError, match=r"s.yaml:6 seq: is an axis of training, but isl is one of serving"):
        read_sweep(file, facts)


def test_an_option_takes_the_place_of_an_axis_of_the_scenario(facts: Facts) -> None:
    made = read_sweep(SCENARIOS["train"], facts, axes={"chips": "32..64:x2", "on": "trn3"})
    assert (made.chips, made.systems) == ((32, 64), ("trn3",))


def test_notes_of_words_that_are_easily_meant_otherwise_are_told_once(facts: Facts) -> None:
    made = read_sweep(SCENARIOS["train"], facts, axes={"seq": "4k,8192"})
    assert len(made.notes) == 1
    assert "4k is 4000 tokens" in made.notes[0]


def test_a_small_sweep_is_one_file_on_every_executor(tmp_path: Path, facts: Facts) -> None:
    grid = read_sweep(SCENARIOS["train"], facts, axes={"on": "h100", "seq": 2048})
    pools: dict[str, Executor | None] = {"here": None, "threads": ThreadPoolExecutor(2), "more": ProcessPoolExecutor(2)}
    for name, pool in pools.items():
        assert sweep_to(tmp_path / name, grid, facts, executor=pool, workers=2).complete
        assert len(list((tmp_path / name).glob("*.parquet"))) == 1
        assert contents(tmp_path / name) == contents(tmp_path / "here")
        if pool is not None:
            pool.shutdown()


def test_pandas_reads_the_folder_after_a_report_and_beside_finished_rows_of_a_task(
    tmp_path: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    made = sweep_to(folder, read_sweep(SCENARIOS["serve"], facts, axes={"on": "h100"}), facts)
    assert run(["report", str(folder), "-q"]) == 0
    (folder / "_task-000007").write_bytes((folder / "part-000000.parquet").read_bytes())
    found = pandas.read_parquet(folder)
    assert len(found) == made.points == 4
    assert found["tpot_s"].tolist() == [row["tpot_s"] for row in made.rows()]
    assert duckdb.sql(f"select count(*) from '{folder}/*.parquet'").fetchall() == [(4,)]
    page = (folder / "_report.html").read_text("utf-8")
    assert "Cost against time per token" in page


def test_rows_of_serving_on_disk_are_those_of_the_answer_and_are_explained(tmp_path: Path, facts: Facts) -> None:
    grid = read_sweep(SCENARIOS["serve"], facts, axes={"on": "h100"})
    sweep_to(tmp_path / "results", grid, facts)
    stored, answer = stored_sweep(tmp_path / "results"), json.loads(json.dumps(sweep(grid, facts).to_dict()))
    for there, here in zip(stored["rows"], answer["rows"], strict=True):
        for key in ("ttft_s", "tpot_s", "tokens_per_s_per_chip", "usd_per_mtok"):
            assert {k: there[key][k] for k in ("value", "low", "high", "grade")} == {
                k: here[key][k] for k in ("value", "low", "high", "grade")
            }
        own = ("isl", "osl", "tpot_limit_s", "ttft_limit_s", "cached", "decode", "prefill", "replicas", "set", "mode")
        assert {k: there[k] for k in own} == {k: here[k] for k in own}
    said = Explainer(answer, facts=facts).explain("2.tpot_s").to_dict()
    assert said["value"] == answer["rows"][1]["tpot_s"]["value"]


def test_verify_tells_files_that_are_none_of_the_sweep(
    tmp_path: Path, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "results", tmp_path / "s.yaml"
    file.write_text(SCENARIOS["train"])
    sweep_to(folder, read_sweep(file, facts), facts)
    words = ["sweep", str(file), "--out", str(folder), "--verify"]
    (folder / "_task-000099").write_bytes(b"left")
    assert run(words) == 0
    assert "left over: _task-000099" in capsys.readouterr().out
    (folder / "part-000007.parquet").write_bytes((folder / "part-000000.parquet").read_bytes())
    assert run([*words, "--json"]) == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["strays"] == ["_task-000099", "part-000007.parquet"]
    assert "1 files belong to no part of this sweep, but readers take them for its rows; move them away" in said.err


def test_a_saved_answer_says_the_command_that_asks_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.json"
    asked = ("sweep", MODEL, *TYPED["serve"], "--on", "h100", "--set", "plan.pp=1", "--vary", "plan.tp=1,2")
    assert run([*asked, "--jobs", "1", "--out", str(file), "-q"]) == 0
    data = json.loads(file.read_text("utf-8"))
    capsys.readouterr()
    words = shlex.split(command_of(data))
    assert run([*words[1:], "--jobs", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == data["rows"]
    called = mowich.sweep(MODEL, "h100", serve=SERVE, chips=[4, 8], fixed={"pp": 1}, vary={"plan.tp": 1})
    assert command_of(json.loads(json.dumps(called.to_dict()))) == (
        f"mowich sweep {MODEL} --on h100 --serve --isl 1k --osl 200 --tpot 20ms..40ms:2 --chips 4,8 --vary plan.tp=1"
        " --set plan.pp=1"
    )
    assert run(["report", str(file), "-q"]) == 0


def test_a_path_with_dots_is_no_range(tmp_path: Path, facts: Facts) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIOS["train"])
    with pytest.raises(UserError, match=r"nobody\.json"):
        read_sweep(tmp_path / "s.yaml", facts, axes={"models": f"{tmp_path}/../nobody.json"})
