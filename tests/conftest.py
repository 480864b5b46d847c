"""Fixtures shared by all tests: the shipped facts, and small helpers that build plans."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from mowich.facts import Facts, load_facts

settings.register_profile("mowich", deadline=None)  # a property holds, however busy the machine is
settings.load_profile("mowich")

os.environ.setdefault("MOWICH_CACHE", "off")  # the last result of the person who tests is not of the tests

# tests of mowich.nki are in nki_interface: a folder named nki, beside this file, would be found as AWS's package
collect_ignore = ["conformance", "slow", "web/serving.py"]
collect_ignore_glob = ["web/check_*.py"]
"""Scripts with environments of their own (`make conformance`, `make test-slow`, `make test-web`), not run by pytest."""

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Material beside the project; tests that read it skip where it is absent."""


@pytest.fixture(scope="session")
def facts() -> Facts:
    return load_facts()


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED
