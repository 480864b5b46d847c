"""The conformance report: what failed, what was not attempted and what never ran are counted apart, and explained failures say whose."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[1] / "conformance" / "report.py"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_report", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name: str, outcome: str, why: str = "") -> dict[str, object]:
    return {
        "suite": "nkilib", "target": "trn2", "id": f"nkilib/core/x/test_x.py::T::{name}", "set": "regular", "strict": False,
        "outcome": outcome, "seconds": 1.0, "cpu_s": 30.0, "kernels": [], "spilled": "", "why": why, "where": "",
    }  # fmt: skip


def test_a_case_that_never_ran_counts_neither_as_passed_nor_as_failed(report: ModuleType) -> None:
    rows = [
        row("a", "passed"),
        row("b", "failed", "ValueError: no"),
        row("c", "not attempted", "skipped"),
        row("d", "never run"),
    ]
    text = report.write([*rows, row("e", "never run")])
    assert "| nkilib | trn2 | checked against references | 1 | 1 | 1 | 2 | 50.0% |" in text
    assert "2 cases of nki-library never ran" in text
    assert "nki-library's 2 cases took 1 minutes" in text  # of those that ran
    assert "| 1 | ValueError: no | not yet explained |" in text


def test_without_cases_left_nothing_is_said_of_them(report: ModuleType) -> None:
    assert "never ran" not in report.write([row("a", "passed")])


def test_an_explanation_is_found_by_id_and_says_whose(report: ModuleType) -> None:
    assert report.explanation(row("x", "failed") | {"id": "beta1/nki_isa_activation"}).startswith("theirs: ")
    assert report.explanation(row("x", "failed")) == ""


def test_every_explanation_says_whose_the_failure_is(report: ModuleType) -> None:
    assert {e["whose"] for e in report.known()} <= {"ours", "theirs", "open"}
    assert all(e["ids"] and e["why"] for e in report.known())
