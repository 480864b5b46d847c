"""Tasks: each has a reference, arguments and a kernel to begin from that the judge calls right; sizes can be given."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.errors import UserErrors
from mowich.examples import tasks_of
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.judge import JudgeAsk, Judged, judge_kernels
from mowich.studies.kernel_tasks import KernelTask, kernel_task, kernel_tasks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="candidates run in copies of a process")

NKIBENCH = {
    *("adamw", "add_rmsnorm_matmul", "bmm", "bmm_softmax", "gqa_full", "lora", "mamba", "matmul", "matmul_add_rmsnorm"),
    *("rmsnorm_matmul", "rope_single_freq_apply", "silu", "swiglu", "transpose_matmul"),
}
QUICK = ("gelu", "top8", "nkibench_silu")


def judged(task: KernelTask, shapes: tuple[str, ...] = (), target: str = "trn3") -> Judged:
    ask = JudgeAsk(
        reference=ReferenceFile(task.path, ""),
        kernel=task.kernel,
        how=JudgeRun(target=target),
        shapes=shapes,
        seeds=1,
        time_s=120.0,
    )
    [row] = judge_kernels([KernelCandidate(name=task.name, text=task.text)], ask).rows
    return row


def test_the_operators_of_nkibench_our_examples_and_twenty_more() -> None:
    groups: dict[str, set[str]] = {}
    for task in kernel_tasks():
        groups.setdefault(task.group, set()).add(task.name)
    assert groups["NKIBench"] == {f"nkibench_{name}" for name in NKIBENCH}
    assert {"softmax", "rmsnorm", "swiglu_mlp", "adamw"} <= groups["example"]
    assert len(groups["Mowich"]) >= 20
    assert all(task.full for task in kernel_tasks() if task.group != "example")


@pytest.mark.share(2)
@pytest.mark.parametrize("name", QUICK)
def test_the_kernel_to_begin_from_is_right(name: str) -> None:
    row = judged(kernel_task(name))
    assert (row.status, row.rank) == ("ok", 1), row.reason


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(tasks_of()) - set(QUICK)))
def test_every_kernel_to_begin_from_is_right(name: str) -> None:
    row = judged(kernel_task(name))
    assert (row.status, row.rank) == ("ok", 1), row.reason


@pytest.mark.parametrize("name", sorted(task.name for task in kernel_tasks() if task.full))
def test_full_sizes_are_sizes_that_inputs_takes(name: str) -> None:
    task = kernel_task(name)
    names = set(re.findall(r"(\w+)=", task.sizes))
    assert set(re.findall(r"(\w+)=\d+", task.full)) == names
    assert names


def test_sizes_are_given_to_inputs_and_arguments_to_the_kernel() -> None:
    """The same arrays, whichever words name them; a word that is neither is an error that says so."""
    task = kernel_task("nkibench_silu")
    by_size, by_shape = (judged(task, shapes=(words,)) for words in ("M=96 N=64", "x=float32[96,64]"))
    assert by_size.run is not None
    assert by_shape.run is not None
    assert by_size.run.figures == by_shape.run.figures
    assert by_size.run.outputs[0].shape == (96, 64)
    with pytest.raises(UserErrors, match="unknown argument of reference 'Q'"):
        judged(task, shapes=("Q=96",))


def test_tasks_are_listed_printed_and_run_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kernel", "tasks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tasks"]
    assert [row["name"] for row in rows] == [task.name for task in kernel_tasks()]
    assert cli.run(["kernel", "tasks", "gelu"]) == 0
    assert capsys.readouterr().out == kernel_task("gelu").path.read_text(encoding="utf-8")
    assert cli.run(["kernel", "tasks", "gelo"]) == 2
    assert "did you mean 'gelu'" in capsys.readouterr().err
    assert mowich.load_kernel("task:gelu").__name__ == "gelu"
    found = mowich.judge(["task:gelu"], "task:gelu", seeds=1)
    assert found.best is not None
    assert found.best.candidate.name == "task:gelu"


def test_tasks_are_texts_of_their_own() -> None:
    """No two begin with the same kernel, and each says what its arguments are."""
    texts = [task.text for task in kernel_tasks() if task.group != "example"]
    assert len({*texts}) == len(texts)
    assert all(re.search(r'"""[^"]*->', text) for text in texts)
    assert {Path(task.path).suffix for task in kernel_tasks()} == {".py"}
