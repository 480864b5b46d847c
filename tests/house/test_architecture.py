"""docs/project/architecture.md against the tree: its picture is .importlinter's, the files and names in it are
there."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "mowich"
PAGE = ROOT / "docs" / "project" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w.][\w./<>-]*(?:/[\w<>.-]+|\.(?:py|yaml|csv|md|cff)))(?::(\w+))?`")
"""A path, and perhaps a name in that file: `training/step.py:step_time`, `facts/systems`, `.importlinter` is none."""


def contract(name: str) -> dict[str, list[str]]:
    """Lines of each key of a contract of .importlinter, without the package's name."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter", encoding="utf-8")
    section = parser[f"importlinter:contract:{name}"]
    return {key: [line.strip() for line in value.splitlines() if line.strip()] for key, value in section.items()}


def bare(names: str) -> str:
    return names.replace("mowich.", "")


def named() -> list[tuple[str, str]]:
    """(path, name or "") of every file that the page names in the running text."""
    running = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    found = {(path, name) for path, name in NAMED.findall(running) if not path.startswith("mowich/")}
    return sorted(found)


def place(path: str) -> Path | None:
    """Where a path of the page is: from the root, or from the package. Of `facts/chips/<id>.yaml` its folder counts."""
    plain = path.split("<")[0].rpartition("/")[0] if "<" in path else path
    return next((root / plain for root in (ROOT, PACKAGE) if (root / plain).exists()), None)


def names_of(path: Path) -> set[str]:
    """What a Python file defines at its top."""
    out: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            out.add(node.name)
        elif isinstance(node, ast.Assign):
            out |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            out.add(node.target.id)
    return out


def test_the_picture_is_what_import_linter_holds() -> None:
    block = re.search(r"<!-- layers -->\n```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert block is not None
    drawn = [re.split(r" {2,}", line, maxsplit=1) for line in block[1].splitlines()]
    assert [line[0] for line in drawn] == [bare(line) for line in contract("layers")["layers"]]
    assert all(len(line) == 2 for line in drawn), "each layer says what it is"
    assert len({block[1].splitlines()[i].index(words) for i, (_, words) in enumerate(drawn)}) == 1, (
        "words stand in one column"
    )


def test_every_module_of_the_package_is_in_the_picture() -> None:
    """A new top-level module would be outside the rules."""
    layers = {name.strip() for line in contract("layers")["layers"] for name in bare(line).split("|")}
    here = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert here - {"__init__", "__main__"} == layers


def test_what_import_linter_forbids_is_told() -> None:
    assert "ignore_imports" not in contract("layers"), "an exception is told on the page"
    kernels = contract("kernels")
    told = TEXT.split("through files only:")[1].split("\n")[0]
    for name in (*kernels["source_modules"], *kernels["forbidden_modules"]):
        assert f"`{bare(name)}`" in told, name


@pytest.mark.parametrize(("path", "name"), named(), ids=lambda x: x.replace("/", "-"))
def test_what_the_page_names_is_there(path: str, name: str) -> None:
    found = place(path)
    assert found is not None, f"{path}: no such file"
    if name:
        assert name in names_of(found), f"{path} has no {name}"


def walks() -> dict[str, tuple[str, set[tuple[str, str]]]]:
    """Heading of each walk -> (its command, (file, function) of every function that it names)."""
    out = {}
    for walk in TEXT.split("\n## Four walks\n")[1].split("\n## ")[0].split("\n### ")[1:]:
        title, _, text = walk.partition("\n")
        command = re.match(r"\n?`mowich ([^`]+)`\n", text)
        assert command is not None, title
        functions = {(path, name) for path, name in NAMED.findall(text) if name.islower()}
        out[title] = (command[1], functions)
    return out


OTHERS = (
    "{compare} --plain",
    "{compare} --csv",
    "{compare} --json --out {tmp}/compare.json",
    "report {tmp}/compare.json --html {tmp}/compare.html",
    "{serve} --plain",
    "{serve} --json --out {tmp}/serve.json",
    "report {tmp}/serve.json --html {tmp}/serve.html",
    "traffic {tmp}/traffic.yaml",
    "plan llama-3.1-8b --serve --isl 1k --osl 100 --on h200:2 --rate 2rps --p99-ttft 1s --set plan.mode=disaggregated",
    "{kernel}",
    "kernel profile kernels/softmax.py -k softmax x=float32[256,1024]",
    "{fleet} --draws 2 --flips --lp",
    "fleet {tmp}/fleet.yaml --lp --json --out {tmp}/fleet.json",
    "report {tmp}/fleet.json --html {tmp}/fleet.html",
)
"""The commands of the walks in the forms that the walks speak of."""


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """(file, function) of everything of the package that ran in these commands."""
    tmp = tmp_path_factory.mktemp("walks")
    fleet = (ROOT / "scenarios" / "startup.yaml").read_text(encoding="utf-8")
    (tmp / "fleet.yaml").write_text(re.sub(r"^rates:.*\n", "", fleet, flags=re.MULTILINE), encoding="utf-8")
    traffic = (ROOT / "scenarios" / "chat-llama-70b.yaml").read_text(encoding="utf-8")
    (tmp / "traffic.yaml").write_text(traffic, encoding="utf-8")
    words = dict(
        zip(("compare", "serve", "kernel", "fleet"), (command for command, _ in walks().values()), strict=True)
    )
    lines = [line.format(tmp=tmp, **words) for line in OTHERS]
    script = ROOT / "tests" / "fixtures" / "called.py"
    done = subprocess.run([sys.executable, str(script), *lines], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(file, name) for file, _, name in (line.partition(" ") for line in done.stdout.splitlines())}


@pytest.mark.slow  # every call of some 14 commands is watched: half a minute
@pytest.mark.parametrize("title", walks())
def test_a_walk_goes_where_the_code_goes(title: str, called: set[tuple[str, str]]) -> None:
    """Every function that a walk names was called by the commands of the walks."""
    functions = walks()[title][1]
    assert len(functions) > 5
    assert sorted(functions - called) == []


def test_the_page_has_four_walks_and_ten_questions() -> None:
    assert len(named()) > 120
    assert len(walks()) == 4
    table = TEXT.split("\n## Where is ...?\n")[1].strip().split("\n\n")[0].splitlines()
    assert len(table) == 2 + 10
