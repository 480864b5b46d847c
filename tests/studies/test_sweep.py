"""Sweeps: every point once and in order, on any executor; a scenario's mistakes with their lines."""

from __future__ import annotations

import csv
import io
import json
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts
from mowich.models import load_model
from mowich.software.stack import equip
from mowich.studies.sweep import sweep
from mowich.studies.sweep_grid import read_sweep
from mowich.training.search import search

TEXT = """\
mowich: 1
models: [llama-3.1-8b, gpt2]
on: [h100, trn3]
chips: [8]
seq: [1024, 2048]
batch: 64seqs
tokens: 1T
plan: {cp: 1, micro_batch: [1, 2]}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT)
    return file


class Reversed(Executor):
    """Finishes the last task first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        if len(self.waiting) == 4:
            for waiting, call in reversed(self.waiting):
                waiting.set_result(call())
        return future


def without_seconds(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, sort_keys=True, default=str)


def test_rows_do_not_depend_on_the_executor(scenario: Path, facts: Facts) -> None:
    grid = read_sweep(scenario, facts)
    assert len(grid.points) == 8
    alone = sweep(grid, facts.heard())
    assert [p for p, _ in alone.rows] == list(grid.points)
    expected = without_seconds(alone.to_dict()["rows"])  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2) as processes:
        for executor in (threads, processes, Reversed()):
            found = sweep(grid, facts.heard(), executor=executor, tasks=4)
            assert without_seconds(found.to_dict()["rows"]) == expected  # type: ignore[arg-type]
            assert (found.facts_read, found.digest) == (alone.facts_read, alone.digest)
    assert len(alone.facts_read) > 100


def test_a_row_is_what_the_search_finds(scenario: Path, facts: Facts) -> None:
    grid = read_sweep(scenario, facts)
    point, row = sweep(grid, facts).rows[0]
    best = search(load_model(point.model), equip(facts, "h100:8"), point.job, fixed=grid.fixed).best[0]
    assert row.plan == best.plan
    assert row.step_s.value == pytest.approx(best.step_s)


def test_changed_facts_reach_other_processes(scenario: Path, facts: Facts) -> None:
    slower = facts.with_values(
        {"chips.h100_sxm.memory.hbm_bandwidth": facts.number("chips.h100_sxm.memory.hbm_bandwidth") / 4}
    )
    grid = read_sweep(scenario, slower)
    with ProcessPoolExecutor(1) as pool:
        there = sweep(grid, slower, executor=pool).rows[0][1]
    assert there.step_s.value == sweep(grid, slower).rows[0][1].step_s.value
    assert (there.step_s.value or 0) > (sweep(grid, facts).rows[0][1].step_s.value or 0) * 1.05


def test_a_point_that_cannot_be_is_a_row_with_a_reason(tmp_path: Path, facts: Facts) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: llama-3.1-70b\non: h100\nchips: [1, 64, 900k]\nseq: 4096\nbatch: 1M\ntokens: 1T\n"
    )
    rows = sweep(read_sweep(file, facts), facts).rows
    assert [row.feasible for _, row in rows] == [False, True, False]
    assert "does not fit" in (rows[0][1].reason or "")
    assert "out of range" in (rows[2][1].reason or "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gpt2", "gpt22", ["s.yaml:2", "unknown model 'gpt22'", "gpt2"]),
        ("chips: [8]", "chips: [8, 0]", ["s.yaml:4", "at least 1"]),
        ("trn3", "trn33", ["s.yaml:3", "unknown system"]),
        ("trn3", '"trn3, h100"', ["s.yaml:3", "several are a list: [trn3, h100]"]),
        ("cp: 1", "lnc: 1", ["s.yaml:8", "is one for all points and systems; give --set plan.lnc=1"]),
        ("chips:", "chipz:", ["s.yaml:4", "unknown key", "did you mean 'chips'"]),
        ("64seqs", "64", ["s.yaml:6", "less than one sequence", "64seqs"]),
        ("tokens: 1T", "tokens: 5", ["less than one step"]),
        ("cp: 1", "cpp: 1", ["s.yaml:8", "unknown plan field"]),
        ("seq: [1024, 2048]\n", "", ["seq is missing"]),
        ("mowich: 1\n", "", ["mowich: 1"]),
        ("64seqs", "[[1, 2]]", ["s.yaml:6", "not a value"]),
        ("seq: [1024, 2048]", "seq: 1..1e999:x2", ["s.yaml:5", "too large"]),
        ("tokens: 1T", "tokens: [1T, 1k]", ["s.yaml:7", "1k tokens are less than one step"]),
    ],
)
def test_mistakes_are_said_with_their_line(tmp_path: Path, facts: Facts, old: str, new: str, said: list[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT.replace(old, new))
    with pytest.raises((UserError, UserErrors)) as error:
        read_sweep(file, facts)
    lines = error.value.line()
    assert all(word in lines for word in said), lines


def test_all_mistakes_are_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(TEXT.replace("gpt2", "gpt22").replace("trn3", "trn33").replace("cp: 1", "tp: x"))
    assert run(["sweep", str(file)]) == 2
    assert capsys.readouterr().err.count("error: ") == 3


def test_the_table_has_a_column_for_everything_that_varies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: gpt2\non: h100\nchips: 8\nseq: 1024\nbatch: 64seqs\ntokens: [1T, 2T]\n"
        "vary: {plan.tp: '1,2', site.pue: '1.1,1.2'}\n"
    )
    assert run(["sweep", str(file), "--jobs", "1", "--quiet"]) == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines()[2:])
    assert head[:3] == ["tokens", "default.pue", "plan.tp"]
    assert {tuple(row[:3]) for row in rows[:8]} == {
        (t, p, tp) for t in ("1T", "2T") for p in ("1.10", "1.20") for tp in "12"
    }


def test_the_verb_prints_a_table_json_and_csv(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["sweep", str(scenario), "--jobs", "1", "--quiet"]
    assert run(args) == 0
    out = capsys.readouterr().out
    assert "8 points" in out
    assert max(map(len, out.splitlines())) <= 100
    assert run([*args, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "mowich/sweep@1"
    assert len(data["rows"]) == 8
    assert run([*args, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(r["model"], r["seq"]) for r in rows] == [(r["model"], str(r["seq"])) for r in data["rows"]]
