"""Fixtures shared by all tests: the shipped facts, and small helpers that build plans."""

from __future__ import annotations

from pathlib import Path

import pytest

from mowich.facts import Facts, load

collect_ignore = ["conformance"]
"""Run by tests/conformance/run.py (`make conformance`), not by pytest."""

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Material beside the project; tests that read it skip where it is absent."""


@pytest.fixture(scope="session")
def facts() -> Facts:
    return load()


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED
