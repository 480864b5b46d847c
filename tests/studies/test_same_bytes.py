"""The same question gives the same bytes: no clock, no hash seed, no locale, no time zone, no folder and no width is in
an answer.

Every verb runs once in each of two processes that differ in all of these, and in the order of the questions. Verbs that
plan on many machines are asked by `make test-slow`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from test_explain_everything import ROOT, VERBS, write_inputs
from typer.main import get_command

from mowich import cli
from mowich.cli.app import app
from mowich.cli.verbs import load_verbs

MORE: dict[str, tuple[str, ...]] = {
    "facts": ("facts", "list"),
    "example": ("example", "--json"),
    "forecast": ("forecast", "list"),
    "next": ("next", "--on", "h200:1", "--for", "plan llama-3.1-8b --serve --isl 2k --osl 500 --on h200:1"),
    "facts-show": ("facts", "show", "trn3"),
    "facts-diff": ("facts", "diff", "trn3", "gb300"),
    "plan-timeline": (
        "plan",
        "llama-3.2-1b",
        "--train",
        "--seq",
        "4096",
        "--batch",
        "256seqs",
        "--tokens",
        "1T",
        "--on",
        "trn3:64",
        "--top",
        "2",
    ),
    "traffic-apart": ("traffic", "{tmp}/apart.yaml"),
}
"""Questions beside those whose every number is explained."""

SAVED = ("compare", "compare-serve", "plan-serve", "traffic", "fleet")
"""Results that are saved as well; a page is made of each, and one of its numbers explained."""

ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80", "OPENBLAS_NUM_THREADS": "1"},
    {
        "PYTHONHASHSEED": "4711",
        "LC_ALL": "C",
        "LANG": "tr_TR.UTF-8",
        "TZ": "America/St_Johns",
        "COLUMNS": "40",
        "OPENBLAS_NUM_THREADS": "4",
        "OMP_NUM_THREADS": "4",
    },
)

DRIVER = """
import contextlib, io, json, sys
from pathlib import Path
from mowich import cli

verbs, saved, tmp, turned = json.load(sys.stdin)
answers = {}

def ask(name, words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.run(words)
    answers[name] = f"exit {code}\\n" + out.getvalue()

for name in (reversed(list(verbs)) if turned else verbs):
    ask(name, [*verbs[name], "--json", *(("--out", f"{tmp}/{name}.json") if name in saved else ())])
for name in saved:
    answers[name + " saved"] = Path(f"{tmp}/{name}.json").read_text(encoding="utf-8")
    ask(name + " page", ["report", f"{tmp}/{name}.json", "--html", f"{tmp}/{name}.html"])
    answers[name + " html"] = Path(f"{tmp}/{name}.html").read_text(encoding="utf-8")
ask("explain", ["explain", f"{tmp}/compare.json", "trn3:64.step_s", "--json"])
sys.__stdout__.write(json.dumps(answers))
"""


HEAVY = ("gap", "gap-serve", "value", "value-serve", "plan-load", "claims", "claims-measured", "calibrate", "rl-split")
"""Questions that take seconds each."""


@pytest.fixture(scope="module", params=[pytest.param(which, marks=pytest.mark.slow) for which in ("usual", "heavy")])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Question -> what was printed or saved, in each environment."""
    tmp = tmp_path_factory.mktemp("bytes")
    write_inputs(tmp)
    (tmp / "apart.yaml").write_text(
        "mowich: 1\nmodel: llama-3.1-8b\non: h200:8\nplan: {tp: 2}\ndisaggregated: {prefill: 1, decode: 2}\nroute:"
        " least-loaded\nscheduler: {prefix_cache: true}\nfailures: {one: {at: 3 s, replica: 1, down: 2 s}}\ntraffic:"
        ' {rate: 20, requests: 100, prompt: "lognormal(1k, p95 4k)", output: 100, shared_prefix: 512}\n'
    )
    for name in ("a", "b"):
        words = ["kernel", "profile", str(ROOT / "kernels" / "softmax.py"), "-k", "softmax", "x=float32[128,64]"]
        assert cli.run([*words, "--parquet", str(tmp / name), "-q"]) == 0
    verbs = {n: [w.replace("{tmp}", str(tmp)) for w in words] for n, words in {**VERBS, **MORE}.items()}
    if request.param == "usual":
        verbs = {n: words for n, words in verbs.items() if n not in HEAVY}
    out = []
    for i, environment in enumerate(ENVIRONMENTS):
        folder = tmp / f"from {i}"
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps([verbs, SAVED, str(tmp), i % 2]),
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        out.append(json.loads(done.stdout))
    return out


def test_every_verb_is_asked() -> None:
    asked = {words[0] for words in {**VERBS, **MORE}.values()} | {"report", "explain"}
    # tests/studies/test_brief.py keeps the page of a brief
    assert set(get_command(load_verbs(app)).commands) - asked == {"web", "brief", "mcp", "capture"}  # type: ignore[attr-defined]


def test_every_question_has_the_same_bytes_everywhere(answers: list[dict[str, str]]) -> None:
    first, *others = answers
    assert {
        name: text.partition("\n")[0]
        for name, text in first.items()
        if text.startswith("exit") and text.partition("\n")[0] != "exit 0"
    } == {}
    for other in others:
        assert other.keys() == first.keys()
        assert [name for name in first if other[name] != first[name]] == []


def test_an_answer_is_the_same_on_stdout_and_in_a_file(answers: list[dict[str, str]]) -> None:
    for name in SAVED:
        assert answers[0][name].startswith("exit 0\n{")
        assert answers[0][name].removeprefix("exit 0\n") == answers[0][name + " saved"]
