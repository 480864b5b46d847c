"""The conformance report: what failed, what was not attempted and what never ran are counted apart, explained failures
say whose, and a later run can be compared with an earlier one; each entry kernel has its counts or a reason. Inputs
drawn at once are those drawn one by one."""

import importlib.util
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "conformance"
sys.path.append(str(FOLDER))  # its files import each other


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return module("report")


def row(name: str, outcome: str, why: str = "") -> dict[str, object]:
    return {
        "suite": "nkilib",
        "target": "trn2",
        "id": f"nkilib/core/x/test_x.py::T::{name}",
        "set": "regular",
        "strict": False,
        "outcome": outcome,
        "seconds": 1.0,
        "cpu_s": 30.0,
        "kernels": [],
        "spilled": "",
        "why": why,
        "where": "",
    }


def test_a_case_that_never_ran_counts_neither_as_passed_nor_as_failed(report: ModuleType) -> None:
    rows = [
        row("a", "passed"),
        row("b", "failed", "ValueError: no"),
        row("c", "not attempted", "skipped"),
        row("d", "never run"),
        row("f", "not attempted", "needs more than 8.0 GB of memory, by its own inputs"),
    ]
    text = report.write([*rows, row("e", "never run")])
    assert "| nkilib | trn2 | checked against references | 1 | 1 | 2 | 2 | 16.7% |" in text
    assert "Of its 2 cases not attempted, 1 need more memory" in text
    assert "2 cases of nki-library never ran" in text
    assert "0 are of kinds whose failures are explained" in text
    assert "nki-library's 2 cases took 1 minutes" in text  # of those that ran
    assert "| 1 | ValueError: no | not yet explained |" in text


def test_a_cast_that_is_not_there_is_stood_in_for() -> None:
    """Every name below neuronxcc.starfish can be imported from Mowich, and is refused when it is called."""
    code = "import nkilib_plugin; from neuronxcc.starfish.support.dtype import static_cast; print(type(static_cast))"
    path = os.pathsep.join(map(str, (FOLDER, FOLDER / "shims", FOLDER.parents[1] / "src")))
    found = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=path), capture_output=True, text=True
    )
    assert found.stdout == "<class 'function'>\n", found.stderr


def test_what_trn2_runs_too_has_a_line_of_its_own_on_trn3(report: ModuleType) -> None:
    on_trn3 = [row(name, outcome) | {"target": "trn3"} for name, outcome in (("a", "passed"), ("b", "never run"))]
    text = report.write([row("a", "passed"), *on_trn3])
    assert "| nkilib | trn2 | checked against references | 1 | 0 | 0 | 0 | 100.0% |" in text
    assert "| nkilib | trn3 | checked against references, cases of trn2 | 1 | 0 | 0 | 0 | 100.0% |" in text
    assert "| nkilib | trn3 | checked against references | 0 | 0 | 0 | 1 | 0.0% |" in text


def test_without_cases_left_nothing_is_said_of_them(report: ModuleType) -> None:
    assert "never ran" not in report.write([row("a", "passed")])


def test_an_explanation_is_found_by_id_and_says_whose(report: ModuleType) -> None:
    assert report.explanation(row("x", "failed") | {"id": "beta1/nki_isa_activation"}).startswith("theirs: ")
    assert report.explanation(row("x", "failed")) == ""


def test_the_share_without_failures_of_others_counts_those_not_explained(report: ModuleType) -> None:
    theirs = row("x", "failed") | {"id": "beta1/nki_isa_activation", "suite": "beta1"}
    text = report.write([row("a", "passed"), row("b", "passed"), row("c", "failed", "ValueError: no"), theirs])
    assert "Failures by cause: 1 not yet explained, 1 theirs." in text
    assert "of the other 3 cases that ran, 66.7% pass" in text
    assert "Failures by cause" not in report.write([row("a", "passed")])


def test_every_explanation_says_whose_the_failure_is(report: ModuleType) -> None:
    assert {e["whose"] for e in report.known()} <= {"ours", "theirs", "open"}
    assert all(e["ids"] and e["why"] for e in report.known())


def test_a_later_run_shows_what_changed_failures_first(report: ModuleType) -> None:
    before = [
        row("a", "failed", "no"),
        row("b", "passed"),
        row("c", "passed"),
        row("d", "never run"),
        row("e", "passed"),
    ]
    after = [
        row("a", "passed"),
        row("b", "failed", "why"),
        row("c", "passed"),
        row("d", "failed"),
        row("e", "never run"),
    ]
    name = "nkilib/core/x/test_x.py::T::"
    assert report.changes(before, after) == [
        f"passed -> failed: {name}b (trn2)  why",
        f"failed -> passed: {name}a (trn2)",
    ]


def test_the_share_of_the_kernels_is_that_of_the_cases_that_tell_it(report: ModuleType) -> None:
    assert "kernels themselves" not in report.write([row("a", "passed")])
    text = report.write([row("a", "passed"), row("b", "passed") | {"machine_s": 6.0}])
    assert "in the 1 of which it is known, the kernels themselves took 20%" in text


def test_each_entry_kernel_has_its_counts_or_a_reason(report: ModuleType) -> None:
    entry = row("", "passed") | {"suite": "entry", "target": ""}
    named = [entry | {"id": f"m:{k}", "strict": strict} for k in ("both", "new", "none") for strict in (False, True)]
    both, new = (
        row("a", "passed") | {"kernels": ["m:both"]},
        row("b", "passed") | {"kernels": ["m:new"], "target": "trn3"},
    )
    wants_error = both | {"id": "c", "ran": []}
    text = report.write(
        [
            *named,
            wants_error,
            both,
            both | {"target": "trn3", "outcome": "failed"},
            both | {"target": "trn3", "strict": True},
            new,
        ]
    )
    assert (
        "3 import without the harness. A case passed on trn2 for 1 and on trn3 for 1, without repairs for 0 and 1."
        in text
    )
    assert "| m:both | yes | 1 of 1 | 0 of 1 |  | 1 of 1 |  |" in text
    assert "| m:new | yes |  | 1 of 1 |  |  | its tests are for trn3 only |" in text
    assert (
        "| m:none | yes |  |  |  |  | trn2: no case that reaches it has run; trn3: no case that reaches it has run |"
        in text
    )


def test_small_shapes_are_a_row_of_the_test_s_own_table() -> None:
    def table(hidden: int, func: str, tokens: int, block_size: int) -> None: ...

    rows = [(4096, "BLOCK", 8192, 256), (2048, "DROPPING", 4096, 512)]
    ids: list[str | None] = ["a", "b"]
    table.__name__ = "test_moe_blockwise_mm_kernel_lnc2"
    names = "hidden, bwmm_func, tokens, block_size"  # as its tests have them
    marked = pytest.mark.parametrize(names, rows, ids=ids)(table)
    test = SimpleNamespace(
        function=table, definition=SimpleNamespace(iter_markers=lambda name: iter(marked.pytestmark))
    )
    module("small").add(test)
    assert [tuple(row.values) for row in rows[2:]] == [(512, "DROPPING", 2048, 1024)]
    assert rows[2].id == "small-DROPPING"
    assert ids == ["a", "b", None]


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_numbers_drawn_at_once_are_those_drawn_one_by_one(seed: int) -> None:
    draws, n = module("draws"), 500
    np.random.seed(seed)
    np.random.random(3 * seed)
    one_by_one = []
    for _ in range(n):
        i, j = np.random.randint(0, 7), np.random.randint(0, 3)
        one_by_one.append((i, j, np.random.choice([0, 1]), np.random.random()))
    after = np.random.random()
    np.random.seed(seed)
    np.random.random(3 * seed)
    np.testing.assert_array_equal(np.stack(draws.block_draws(n), axis=1), np.array(one_by_one))
    assert np.random.random() == after  # the generator goes on where it would have


def test_one_element_of_each_block_is_raised() -> None:
    data = np.zeros((16, 12))
    np.random.seed(0)
    module("draws").raise_blocks(data, 2)
    raised = np.abs(data.reshape(2, 8, 3, 4)).max(axis=(1, 3))
    assert np.count_nonzero(data) == 6
    assert ((raised >= 4) & (raised < 6)).all()


def whole(a: np.ndarray, b: np.ndarray, rtol: float, atol: float, verbose: int = 0) -> bool:
    with np.errstate(invalid="ignore"):
        close = np.abs(a.astype(float) - b.astype(float)) <= atol + rtol * np.abs(b[np.isfinite(b)]).max()
    return bool(close.all() and (np.isfinite(a) == np.isfinite(b)).all())


@pytest.mark.parametrize("place", [0, 1023, 1024, 4999])
@pytest.mark.parametrize(
    ("change", "verdict"), [(0.0, True), (0.9, True), (1.1, False), (np.nan, False), (np.inf, False)]
)
def test_arrays_compared_in_pieces_get_the_verdict_of_the_whole(place: int, change: float, verdict: bool) -> None:
    b = np.random.default_rng(0).uniform(-1, 1, (50, 100)).astype(np.float32)
    b[17, 3] = -8.0  # the tolerance of every piece follows from this one
    a = b.copy()
    a.reshape(-1)[place] += np.float32(change * 8.0 * 0.01)
    assert whole(a, b, 0.01, 1e-5) is verdict
    sizes = []

    def counted(a: np.ndarray, b: np.ndarray, *args: float, **kwargs: int) -> bool:
        sizes.append(a.size)
        return whole(a, b, *args, **kwargs)

    assert module("pieces").in_pieces(counted, 1024)(a, b, 0.01, 1e-5, verbose=1) is verdict
    assert sizes == ([1025] * 4 + [905])[: len(sizes)]
    assert len(sizes) == (5 if verdict else place // 1024 + 1)  # up to the piece that differs


def accepts(wanted: bool) -> Callable[[list[int]], bool]:
    def partial(case: list[int]) -> bool:
        return odd(case) == accept_result

    accept_result = wanted
    odd = a_filter
    return partial


def a_filter(case: list[int]) -> bool:
    return sum(case) % 2 == 1


def test_pairs_are_drawn_once_for_the_same_parameters_filter_and_sources(tmp_path: Path) -> None:
    drawn = []

    def generate(params: dict[str, list[int]], filter_func: Callable[[list[int]], bool]) -> list[list[int]]:
        drawn.append(params)
        return [list(row) for row in itertools.product(*params.values()) if filter_func(list(row))]

    params = {"a": [1, 2, 3], "b": [10, 11]}
    pairs = module("pairs")
    first = pairs.kept(generate, tmp_path, "one")(params, filter_func=accepts(True))
    assert first == [[1, 10], [2, 11], [3, 10]]
    assert pairs.kept(generate, tmp_path, "one")(params, filter_func=accepts(True)) == first
    assert len(drawn) == 1
    assert pairs.kept(generate, tmp_path, "one")(params, filter_func=accepts(False)) == [[1, 11], [2, 10], [3, 11]]
    assert pairs.kept(generate, tmp_path, "two")(params, filter_func=accepts(True)) == first
    assert pairs.kept(generate, tmp_path, "one")({"a": [1], "b": [10, 12]}, filter_func=accepts(True)) == [
        [1, 10],
        [1, 12],
    ]
    assert len(drawn) == 4


def test_the_stamp_of_sources_changes_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a = 1\n")
    stamp = module("pairs").stamp
    before = stamp([tmp_path])
    assert stamp([tmp_path]) == before
    (tmp_path / "x.py").write_text("a = 10\n")
    assert stamp([tmp_path]) != before
