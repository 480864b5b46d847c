"""Kernels of third parties: the list is whole and was run, its section in docs/records/conformance.md stays whoever
writes that page, and the runner says what happened to each kernel."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from test_conformance_report import module

import mowich.nki

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def third_party() -> ModuleType:
    return module("third_party")


def test_the_list(third_party: ModuleType) -> None:
    rows = list(third_party.listed())
    assert len(rows) >= 150
    assert len({r["repo"] for r in rows}) >= 25
    places = [(r["repo"], r["path"], r["kernel"]) for r in rows]
    assert len(set(places)) == len(places), "no kernel stands there twice"
    for r in rows:
        assert len(r["commit"]) == 40
        assert int(r["commit"], 16)
        assert r["expected"] in third_party.OUTCOMES
        assert r["why"] or r["expected"] in ("equal", "ran"), f"{r['repo']} {r['path']}: say why it is {r['expected']}"


def test_the_record_is_of_this_list(third_party: ModuleType) -> None:
    rows = [r for r in third_party.recorded() if "kernel" in r]
    columns = ("repo", "commit", "path", "kernel", "call", "expected", "says", "why")
    assert sorted(tuple(r[c] for c in columns) for r in rows) == sorted(
        tuple(r[c] for c in columns) for r in third_party.listed()
    )
    assert [r for r in rows if not third_party.as_expected(r)] == []


def test_the_page_has_the_section_and_keeps_it(third_party: ModuleType) -> None:
    text = (ROOT / "docs/records/conformance.md").read_text()
    lines = third_party.section(third_party.recorded())
    assert "\n".join(lines) in text
    assert third_party.replaced(text, lines) == text
    assert "\n".join(lines) in module("report").write([])
    other = third_party.replaced(text + "\n## Another\n\nIts text.\n", lines)
    assert other.endswith("\n## Another\n\nIts text.\n")
    assert other.count(third_party.HEADING) == 1


KERNELS = """
import neuronxcc.nki as nki
import neuronxcc.nki.language as nl
import torch_neuronx

@nki.jit
def doubled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x) * 2)
    return out

@nki.jit
def tripled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x) * 3)
    return out
"""
LIST = """
calls:
  small: {inputs: ["f32[128, 4]"], reference: double}
  tall: {inputs: ["f32[256, 4]"], reference: double}
repositories:
- repo: someone/kernels
  commit: COMMIT
  kernels:
  - k.py:doubled: small
  - k.py:tripled: {call: small, outcome: failed, says: differs by, why: it triples}
- repo: someone/gone
  commit: COMMIT
  kernels:
  - k.py:doubled: {call: small, outcome: not attempted, says: no checkout, why: nobody has it}
"""


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "someone+kernels"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "k.py").write_text(KERNELS)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "k.py").write_text("this is not the commit of the list")
    listing = tmp_path / "list.yaml"

    def run(text: str) -> subprocess.CompletedProcess[str]:
        listing.write_text(text.replace("COMMIT", commit))
        command = [sys.executable, str(ROOT / "tests/conformance/third_party.py"), "--checkouts", str(tmp_path)]
        command += ["--list", str(listing), "--build", str(tmp_path / "build"), "--only", "someone"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    ran = run(LIST)
    assert "3 kernels of 2 repositories: {'not attempted': 1, 'equal': 1, 'failed': 1}, 0 not as expected" in ran.stdout
    assert "0 of 1 files with kernels import a name that is not there" in ran.stdout
    assert (ran.returncode, "someone/gone: no checkout" in ran.stderr) == (0, True)
    wrong = run(LIST.replace("k.py:doubled: small", "k.py:doubled: tall"))
    assert wrong.returncode == 1
    assert "someone/kernels k.py:doubled: refused, k.py:" in wrong.stdout
    assert "exceeds 128 partitions" in wrong.stdout


def test_names_that_are_not_there(third_party: ModuleType) -> None:
    lines = ("import neuronxcc.nki.isa as nisa", "from neuronxcc.nki.nothing import x", "from nki.isa import dma_cpy")
    tree = ast.parse("\n".join(lines))
    with mowich.nki.installed():
        assert third_party.unresolved(tree) == ["neuronxcc.nki.nothing.x", "nki.isa.dma_cpy"]
    assert not third_party.has_kernels(tree)
    assert third_party.has_kernels(ast.parse("from torch_neuronx.xla_impl.ops import nki_jit"))
