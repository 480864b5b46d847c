"""A keyword of a question stands in three places: the field of the request with its help and what is read of it, the
arithmetic that uses it, and the page that prints it. All between them hand the request on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "mowich"
PLACES = {"requests/footing.py", "studies/footing.py", "show/headline.py"}
"""Where the money of a run stands by its name."""
OTHERS = {
    "of reinforcement learning": ("requests/rl", "rl/", "studies/rl_", "studies/split_table.py", "explain/rules/rein"),
    "of a fleet": ("fleets/",),
    "of measurements": (
        *("requests/next_measure.py", "studies/next_measure.py", "cli/next.py", "evidence/prospects.py"),
        *("requests/judging.py", "studies/judge/", "show/kernel_judge.py"),
        *("api/kernel_verbs.py", "api/result_verbs.py", "studies/brief/one_page.py"),
    ),
    "of prompt tokens": (
        *("serving/", "software/engine.py", "studies/serving", "studies/traffic_", "plans/launch_settings.py"),
        *("evidence/serving_", "evidence/fitting/serving.py", "capture/adapters/", "models/encoder.py"),
    ),
    "of simulations": ("studies/rate_search.py",),
}
"""Other budgets, and the beginnings of the files that have them; those of `explain/rules` anywhere in the path."""


def names_of(source: str) -> Iterator[str]:
    """Names, attributes, keywords, parameters and keys of mappings in a module."""
    for node in ast.walk(ast.parse(source)):
        for key in ("id", "attr", "arg", "name"):
            if isinstance(word := getattr(node, key, None), str):
                yield word
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def is_another(file: str) -> bool:
    return any(file.startswith(start) or f"/{start}" in file for starts in OTHERS.values() for start in starts)


def test_the_budget_of_a_run_stands_in_three_places() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if any("budget" in word.lower() for word in names_of(path.read_text(encoding="utf-8")))
    }
    assert {file for file in found if not is_another(file)} == PLACES


def test_a_name_is_found_wherever_a_question_may_be_spelled_out() -> None:
    said = ("def f(budget): 0", "f(budget=1)", "a.budget", "from a import RUN_BUDGET", "x = {'budget_usd': 1}")
    for source in said:
        assert any("budget" in word.lower() for word in names_of(source)), source
    assert not any("budget" in word for word in names_of('"""A budget rents."""\nx = "the budget pays"'))


BATCH_WORDS = re.compile(r"""["'}]seqs\b|removesuffix\(["']seq|parse_batch""")
"""What takes a batch apart or puts one together: "seqs" behind a value, or alone; no key of a mapping."""
BATCH_READ = {"units.py", "requests/job_reading.py", "studies/fleet.py"}
"""Where words of a batch are read: what a batch is, the job of a question, and the work of a scenario of a fleet."""


def test_a_batch_is_written_and_taken_apart_in_one_place() -> None:
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
    assert {file for file, source in files.items() if BATCH_WORDS.search(source)} == {"units.py"}
    assert {file for file, source in files.items() if "StepBatch.read(" in source} == BATCH_READ


def test_a_batch_that_is_written_by_hand_is_found() -> None:
    for source in ('f"{batch}seqs"', 'word.removesuffix("seqs")', 'text + "seqs"', 'parse_batch("8seqs", 4096)'):
        assert BATCH_WORDS.search(source), source
    for source in ('{"seq": 4096}', 'inputs["seq"]', '"--batch 256seqs"', 'f"{batch}_seqs"', "batch_seqs"):
        assert not BATCH_WORDS.search(source), source
