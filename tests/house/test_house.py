"""What stands around the code: the version in every place, the workflow, the hooks before a commit, the
forms for issues."""

from __future__ import annotations

import ast
import ctypes
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import mowich

MOST_ANY = 210
"""Most words `Any` in src: the number only falls. `Any` is for foreign edges; a function that looks at what it is given
says `object`."""
ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = read(ROOT / "CITATION.cff")
    assert str(citation["version"]) == project["version"] == mowich.__version__
    assert citation["license"] == project["license"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["version"]


def test_the_workflow_runs_the_makefile_and_nothing_else() -> None:
    flow = read(GITHUB / "workflows" / "ci.yml")
    ran = [step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step]
    assert ran
    for line in ran:
        found = re.fullmatch(r"make ([\w-]+)(?: SEED=date)? PYTHON=python", line)
        assert found is not None, line
        assert found[1] in targets(), line
    least = re.search(r">=([\d.]+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("requires-python")[1])
    assert least is not None
    assert least[1] in flow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert flow[True]["schedule"]  # YAML 1.1 reads "on" as true
    assert flow["permissions"] == {"contents": "read"}


def test_products_of_a_test_run_in_one_thread() -> None:
    """NumPy's library reads the variable as it is loaded: set later, it changes nothing."""
    found = sorted((Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"))
    asked = getattr(ctypes.CDLL(str(found[0])), "scipy_openblas_get_num_threads64_", None) if found else None
    if asked is None:
        pytest.skip("NumPy has another library here")
    assert asked() <= int(os.environ["OPENBLAS_NUM_THREADS"])


def test_hooks_before_a_commit_fetch_nothing_and_run_what_lint_runs() -> None:
    repos = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    entries = [hook["entry"] for hook in repos[0]["hooks"]]
    assert all(hook["language"] == "system" for hook in repos[0]["hooks"])
    assert "make lint" in entries
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    for verb in ("ruff check", "ruff format"):
        assert any(entry.startswith(f".venv/bin/{verb}") for entry in entries)
        folders = re.search(rf"{verb} (?:--check )?([\w ]+)", lint)
        assert folders is not None
        wanted = "^(" + "|".join(folders[1].split()) + ")/"
        assert all(h["files"] == wanted for h in repos[0]["hooks"] if verb in h["entry"])


@pytest.mark.parametrize("name", ["bug", "fact", "kernel", "wrong_number"])
def test_a_form_for_issues_asks_for_what_is_needed(name: str) -> None:
    form = read(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert {"name", "description", "title", "body"} <= set(form)
    fields = [f for f in form["body"] if f["type"] != "markdown"]
    assert {f["type"] for f in fields} <= {"input", "textarea", "dropdown"}
    ids = [f["id"] for f in fields]
    assert len(ids) == len(set(ids))
    assert all(f["attributes"]["label"] for f in fields)
    assert sum(f.get("validations", {}).get("required", False) for f in fields) >= 3


def test_the_form_of_a_change_asks_for_what_contributing_demands() -> None:
    form = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")
    rules = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .split("\n## What a change must show\n")[1]
        .split("\n## ")[0]
    )
    for command in ("make test", "make golden-diff", "make golden", "make docs", "mowich facts check"):
        assert f"`{command}`" in form, command
        assert f"`{command}`" in rules, command
    assert "CHANGELOG.md" in form
    assert "failed before" in form


def words_any(source: Path) -> dict[str, int]:
    """File under a directory -> how often the word `Any` stands in it, the most first."""
    found = {
        str(path.relative_to(source)): len(re.findall(r"\bAny\b", path.read_text(encoding="utf-8")))
        for path in sorted(source.rglob("*.py"))
    }
    return dict(sorted(((file, n) for file, n in found.items() if n), key=lambda item: -item[1]))


def test_the_words_any_only_become_fewer(tmp_path: Path) -> None:
    # the exporter handles PyTorch's objects, whose types are not there where it is checked
    found = {file: n for file, n in words_any(ROOT / "src").items() if not file.startswith("mowich/capture/")}
    total = sum(found.values())
    largest = ", ".join(f"{file} {n}" for file, n in list(found.items())[:12])
    assert total <= MOST_ANY, f"{total} words Any in src, allowed {MOST_ANY}; most in {largest}"
    assert total > MOST_ANY - 60, f"{total} words Any in src: lower MOST_ANY, {MOST_ANY}, to that"
    (tmp_path / "a.py").write_text("from typing import Any\nx: Any = Anyone = 0\n", encoding="utf-8")
    (tmp_path / "b.py").write_text("y = 0\n", encoding="utf-8")
    assert words_any(tmp_path) == {"a.py": 2}


_EMPTY = {"dict", "list", "set", "OrderedDict", "defaultdict", "deque", "Counter"}
"""What makes an empty container."""


def filled_later(source: str) -> list[str]:
    """Names of a module that begin as an empty container: something fills them while the program runs."""
    found = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        value = node.value
        is_empty = (
            (isinstance(value, ast.Dict) and not value.keys)
            or (isinstance(value, ast.List) and not value.elts)
            or (isinstance(value, ast.Call) and not value.args and ast.unparse(value.func).split(".")[-1] in _EMPTY)
        )
        if is_empty:
            found.append(ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target))
    return found


def test_what_is_kept_has_an_owner() -> None:
    """Outside the NeuronCore and its interface, whose tables are filled on import, no module is a place to keep
    things: an object keeps them, as long as it lives."""
    package = ROOT / "src" / "mowich"
    files = [f for f in package.rglob("*.py") if f.relative_to(package).parts[0] not in ("neuroncore", "nki")]
    found = {str(f.relative_to(package)): names for f in files if (names := filled_later(f.read_text("utf-8")))}
    assert found == {}
    text = "import collections\na: dict[str, int] = {}\nb = collections.OrderedDict()\nc = {1: 2}\nd = dict(c)\n"
    assert filled_later(text) == ["a", "b"]


def test_lines_of_scripts_for_the_browser_have_at_most_120_characters() -> None:
    for folder in ("web", "show"):
        for path in (ROOT / "src" / "mowich" / folder / "static").glob("*.js"):
            if path.name.endswith(".min.js"):
                continue
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            assert [f"{path.name}:{at}" for at, line in lines if len(line) > 120] == []
