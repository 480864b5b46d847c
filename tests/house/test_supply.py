"""What is installed is locked with hashes and listed, under licences that are allowed; every place of a measurement has
its terms; no secrets."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-ray.lock", "requirements-site.lock", "requirements-peers.lock")
TORCH_LOCKS = (
    *("requirements-capture.lock", "requirements-slow.lock", "requirements-launch.lock", "requirements-launchers.lock"),
    "tests/conformance/requirements.lock",
)
"""Locks of environments with PyTorch, which has two locks of its own."""
SMALL_LOCKS = ("requirements-uv.lock", "requirements-coverage.lock", "requirements-torch-cpu.lock")


def loaded(name: str) -> ModuleType:
    """A tool, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    return loaded("supply")


def pins(file: str) -> dict[tuple[str, str], set[str]]:
    """(package, version) -> hashes."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    out = {}
    for line in lines:
        found = re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line)
        assert found, f"{file}: not a pin: {line[:80]}"
        out[found[1], found[2]] = set(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
    return out


@pytest.mark.parametrize(
    ("file", "least"),
    [
        *((lock, 16) for lock in (*LOCKS, "requirements-torch.lock")),
        *((lock, 5) for lock in TORCH_LOCKS),
        *((lock, 1) for lock in SMALL_LOCKS),
    ],
)
def test_every_pin_has_hashes(file: str, least: int) -> None:
    found = pins(file)
    assert len(found) >= least
    assert [pin for pin, hashes in found.items() if not hashes] == []


def test_locks_agree_with_one_another() -> None:
    ours, ray = (dict(pins(file)) for file in LOCKS[:2])
    versions = {name.lower().replace("_", "-"): version for name, version in ours}
    both = {name: version for name, version in ray if name.lower().replace("_", "-") in versions}
    assert {name: versions[name.lower().replace("_", "-")] for name in both} == both


@pytest.mark.parametrize("file", [*LOCKS[1:], *TORCH_LOCKS, "requirements-torch.lock"])
def test_what_a_list_asks_for_is_in_its_lock(file: str) -> None:
    """`make site` installs the lock alone: a package that was added to the list only is not there."""
    asked = [
        Requirement(line.partition("#")[0])
        for line in (ROOT / file).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
        if line.partition("#")[0].strip()
    ]
    beside = ("requirements.lock", "requirements-torch.lock") if file in TORCH_LOCKS else ()
    locked = {canonicalize_name(name): version for one in (*beside, file) for name, version in pins(one)}
    assert [str(need) for need in asked if locked.get(canonicalize_name(need.name), "") not in need.specifier] == []


def test_what_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    asked += project["build-system"]["requires"]
    names = {re.match(r"[A-Za-z0-9_.-]+", one)[0].lower().replace("_", "-") for one in asked}  # type: ignore[index]
    assert names <= {name.lower().replace("_", "-") for name, _ in pins("requirements.lock")}


def test_make_installs_what_is_locked_with_hashes_alone() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LOCKED := (.*)$", text, re.MULTILINE)[1] == "tools/install_locked.py"  # type: ignore[index]
    uses = [line for line in text.splitlines() if re.search(r"-r requirements[\w-]*\.lock", line)]
    assert len(uses) >= 5
    assert [line for line in uses if "$(LOCKED)" not in line] == []


def test_each_environment_is_installed_by_hash() -> None:
    """What pip takes without hashes makes locks, the bill and audits, and is never run with Mowich."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    free = [line.split("$(PIP)")[1].strip() for line in text.splitlines() if "$(PIP)" in line and "-e ." not in line]
    free = [line for line in free if not line.startswith(("$(UV)", "cyclonedx", "pip-audit", '".[dev]"'))]
    assert free == []
    assert "pip install" not in text.split("LOCKED :=")[1]


@pytest.mark.parametrize("has_cpu_build", [True, False])
def test_torch_is_installed_by_one_of_its_two_locks(has_cpu_build: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, ran = loaded("install_locked"), list[Sequence[str]]()

    def installed(words: Sequence[str]) -> int:
        ran.append(words)
        return int("requirements-torch-cpu.lock" in words and not has_cpu_build)

    monkeypatch.setattr(tool, "installed", installed)
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels")
    assert tool.main(["--torch", "-r", "requirements.lock"]) == 0
    torch = [["-r", "requirements-torch-cpu.lock"], ["-r", "requirements-torch.lock"]][: 2 - has_cpu_build]
    assert ran == [*torch, ["-r", "requirements.lock"]]


@pytest.mark.parametrize("failing", [(), ("uv",), ("pip",), ("uv", "pip")])
def test_what_is_locked_is_installed_by_uv_or_else_by_pip(
    failing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every install is by hash; it fails only where none of the two can."""
    tool = loaded("install_locked")
    monkeypatch.setattr(tool, "UV_FOLDER", tmp_path / "build" / "uv")
    ran: list[str] = []

    def run(words: Sequence[object], check: bool) -> subprocess.CompletedProcess[str]:
        assert {"--require-hashes", "--only-binary"} <= {*words}
        ran.append("uv" if str(words[0]).endswith("uv") else "pip")
        if "--target" in words:
            Path(str(words[words.index("--target") + 1])).mkdir()
        elif ran[-1] in failing:
            return subprocess.CompletedProcess([], 1)
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(tool.subprocess, "run", run)
    assert tool.main(["-r", "requirements.lock"]) == (failing == ("uv", "pip"))
    assert ran == (["pip", "uv"] if "uv" not in failing else ["pip", "uv", "pip"])


def test_the_bill_of_materials_is_the_lock() -> None:
    bill = json.loads((ROOT / "sbom.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "mowich"
    listed = {
        (one["name"], one["version"]): {h["content"] for e in one["externalReferences"] for h in e["hashes"]}
        for one in bill["components"]
    }
    assert listed == pins("requirements.lock")
    assert all(
        one["purl"] == f"pkg:pypi/{one['name'].lower()}@{one['version']}".replace("_", "-")
        for one in bill["components"]
    )


def test_licences_terms_and_secrets(supply: ModuleType) -> None:
    assert list(supply.licence_problems()) == []
    assert list(supply.term_problems()) == []
    assert list(supply.action_problems()) == []


@pytest.mark.parametrize(
    ("used", "is_pinned"),
    [("actions/checkout@v4", False), ("a/b@main", False), ("a/b/c@" + "0f" * 20, True), ("./.github/own", True)],
)
def test_an_action_is_named_by_a_digest(
    supply: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, used: str, is_pinned: bool
) -> None:
    flow = tmp_path / ".github" / "workflows" / "own.yml"
    flow.parent.mkdir(parents=True)
    flow.write_text(f"jobs:\n  a:\n    steps:\n      - uses: {used} # words\n")
    monkeypatch.setattr(supply, "ROOT", tmp_path)
    assert [line.split(": ")[0] for line in supply.action_problems()] == [".github/workflows/own.yml:4"][is_pinned:]


def test_licences_are_listed_as_spdx_has_them(supply: ModuleType) -> None:
    assert supply.expression_of("MIT License") == "MIT"
    assert supply.expression_of("Apache 2.0 OR BSD-3-Clause") == "Apache-2.0 OR BSD-3-Clause"
    bill = json.loads((ROOT / "sbom.cdx.json").read_text(encoding="utf-8"))
    known = set(supply.ALLOWED.values())
    for one in bill["components"]:
        for licence in one.get("licenses", ()):
            choices = licence["expression"].split(" OR ")
            assert any(set(choice.split(" AND ")) <= known for choice in choices), one["name"]


def test_what_is_wrong_is_found(supply: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that never finds anything would let everything pass. Secrets are made here, so that no file has one."""
    made = {
        "a private key": "-----BEGIN " + "RSA PRIVATE KEY-----",
        "a key of AWS": "AKIA" + "Q" * 16,
        "a token of GitHub": "ghp_" + "a1" * 18,
        "a token of PyPI": "pypi-AgEIcHlwaS5vcmc" + "a" * 60,
        "a token of Hugging Face": "hf_" + "a" * 34,
        "a key of Google": "AIza" + "b" * 35,
        "a token of Slack": "xoxb-" + "1" * 24,
        "a key of an API": "sk-" + "c" * 40,
        "a password in an address": "https://user:" + "hunter22@example.com",
        "a signed token": ".".join(("eyJ" + "a" * 24, "eyJ" + "b" * 24, "c" * 24)),
    }
    assert made.keys() == supply.SECRETS.keys()
    for what, text in made.items():
        assert list(supply.secrets_in(f"x\ny = '{text}'\n")) == [(2, what)]
    monkeypatch.setattr(supply, "licence_of", lambda package: "GPL-3.0-only" if package == "numpy" else "MIT")
    assert [line for line in supply.licence_problems() if line.startswith("numpy: licence 'GPL-3.0-only'")]
    known = supply.terms()
    del known["arxiv.org"]
    monkeypatch.setattr(supply, "terms", lambda: known)
    assert list(supply.term_problems()) == ["training.csv: published/terms.csv has no licence or terms of arxiv.org"]


@pytest.mark.slow
def test_no_file_looks_like_a_secret(supply: ModuleType) -> None:
    """`make lint` says the same in each run."""
    assert list(supply.secret_problems()) == []


@pytest.mark.slow
def test_two_wheels_of_one_source_are_the_same_bytes(tmp_path: Path) -> None:
    """Built twice, at two times of the files, in two folders."""
    made = []
    for i in range(2):
        source, out = tmp_path / f"source {i}", tmp_path / f"out {i}"
        source.mkdir()
        tar = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "x", "-C", str(source)], input=tar.stdout, check=True)
        for path in source.rglob("*"):
            os.utime(path, (1e9 + 1e6 * i, 1e9 + 1e6 * i))
        build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "."]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run(
            [*build, "--wheel-dir", str(out), "."], cwd=source, check=True, capture_output=True, env=environment
        )
        (wheel,) = out.glob("*.whl")
        made.append((wheel.name, wheel.read_bytes()))
    assert made[0] == made[1]
