"""Budgets of the source that only fall: tangled functions; and numbers in formulas, each of which is a
fact or says where it comes from."""

from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pace import pace

MOST_COLLECTING_S = 8.0
ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "mowich").rglob("*.py"))
CORE = ("neuroncore", "nki")
TANGLED = {
    "violations": "goes through every rule of a fleet once more, in their order, sharing nothing with the solver",
    "formulate": "writes one programme: its variables, its rows, its goals",
    "serve_row": "holds the ways to make a served row again, as closures over the same row",
    "_admit": "lets requests into a step of an engine, rule by rule in its order; C has the same lines",
    "_mixed": "is one step with prompts: room, prompts, times, ends; C has the same lines",
    "create_app": "holds the routes of the server, each a function of a few lines",
}
"""Functions of complexity above 15 outside the NeuronCore, and why they stay whole."""


def constants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mowich_constants", ROOT / "tools" / "constants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_number_in_a_formula_is_a_fact_or_explained(tmp_path: Path) -> None:
    """The source itself is read by `make lint`, which runs tools/constants.py."""
    module = constants()
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "step.py").write_text("def f(x):\n    return 0.83 * x + 2.0\n", encoding="utf-8")
    [said] = module.problems(tmp_path, {})
    assert said.startswith("training/step.py:2: 0.83 is neither a fact nor explained")
    assert module.problems(tmp_path, {"training/step.py": {0.83: "a reason"}}) == []
    [said] = module.problems(tmp_path, {"training/step.py": {0.83: "a reason", 0.5772: "another"}})
    assert said == "tools/constants.yaml: training/step.py has no 0.5772"


def test_the_formatter_is_switched_off_for_tables_of_numbers_only() -> None:
    skips = [path for path in SOURCES for _ in re.findall(r"# fmt: skip", path.read_text(encoding="utf-8"))]
    assert len(skips) <= 40, sorted({str(path.relative_to(ROOT)) for path in skips})


def test_few_functions_outside_the_core_are_tangled() -> None:
    command = ["check", "--select", "C901", "--config", "lint.mccabe.max-complexity=15", "--output-format", "concise"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "src"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = [
        name
        for line in done.stdout.splitlines()
        if not re.search("|".join(f"/{core}/" for core in CORE), line)
        for name in re.findall(r"C901 `(\w+)`", line)
    ]
    assert set(found) <= set(TANGLED), found


@pytest.mark.slow
def test_tests_are_collected_in_eight_seconds() -> None:
    """Of processor time, each process that runs tests: nothing is answered, and a test file is rewritten once, by the
    first process that reads it."""
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(collect, cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < MOST_COLLECTING_S * pace(), spent
