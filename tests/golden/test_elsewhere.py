"""The corpus is asked as other machines answer it: by other dispatch levels of NumPy, and by a newer Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import corpus
import elsewhere
import pytest

FEATURES = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(*(name for name in f if f[name]))"


def test_each_level_has_the_features_of_those_below_it_alone() -> None:
    found = elsewhere.levels()
    for name, without in found.items():
        env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": without}
        out = subprocess.run([sys.executable, "-c", FEATURES], env=env, capture_output=True, text=True, check=True)
        has = out.stdout.split()
        assert name in has
        assert without
        assert not set(without.split()) & set(has)
    assert len({*found.values()}) == len(found)


def test_a_tenth_has_questions_of_every_group_and_none_that_is_slow() -> None:
    is_asked = corpus.one_in(10)
    asked = [q for q in corpus.questions() if is_asked(q)]
    assert {q.group for q in asked} == {q.group for q in corpus.questions() if not q.is_slow}
    assert not any(q.is_slow for q in asked)
    assert len(corpus.questions()) / 12 < len(asked) < len(corpus.questions()) / 5
    parts = [corpus.one_in(10, part) for part in range(10)]
    assert all(any(is_asked(q) for is_asked in parts) is not q.is_slow for q in corpus.questions())


@pytest.mark.parametrize(("code", "found"), [(0, True), (1, False)])
def test_the_newest_python_is_one_that_runs(
    code: int, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = tmp_path / "python3.14"
    newest.write_text(f"#!/bin/sh\nexit {code}\n")
    newest.chmod(0o755)
    (tmp_path / "python3.99").symlink_to(newest)  # none that pyproject.toml names
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(elsewhere, "FOLDERS", ())
    assert elsewhere.newest_python() == (str(newest) if found else "")


def test_a_machine_without_a_newer_python_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def noted(name: str, python: Path, without: str, words: list[str]) -> tuple[int, str]:
        asked.append((name, without))
        return 5 if name == "b" else 0, f"{name}: {words}"

    monkeypatch.setattr(elsewhere, "ROOT", tmp_path)
    monkeypatch.setattr(elsewhere, "asked", noted)
    monkeypatch.setattr(elsewhere, "levels", lambda: {"a": "X", "b": "Y", "c": "Z"})
    monkeypatch.setattr(sys, "argv", ["elsewhere.py"])
    assert elsewhere.main() == 5  # one that moved is enough
    assert sorted(asked) == [("a", "X"), ("b", "Y"), ("c", "Z")]
    said = capsys.readouterr().out
    assert said.startswith("no Python newer than 3.")
    assert "b: ['--share', '40', '--part', '1']" in said
