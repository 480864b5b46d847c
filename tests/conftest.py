"""Fixtures shared by all tests: the shipped facts, and small helpers that build plans."""

from __future__ import annotations

import os

# read as NumPy is imported. Threads of one product wait for each other in a loop: beside other tests that takes five
# times the processor time of one thread. The kept answers are made so, too
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mowich.cli.app import GC_OBJECTS
from mowich.facts import Facts, overlay
from shared_facts import SHARED_FACTS, fresh_facts
from shares import put_aside

# a property holds, however busy the machine is. Tests that do not say how many cases they draw are run again with many
# by `make test-slow`; `make fuzz SEED=date` draws cases that no other day has
settings.register_profile("quick", deadline=None, max_examples=30)
settings.register_profile("many", deadline=None, max_examples=200)
settings.register_profile("daily", deadline=None, max_examples=200, derandomize=False, print_blob=True)
settings.load_profile("quick")

# what pytest makes of a test file is kept, whatever the environment says: making it anew is two thirds of a collection
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ.setdefault("MOWICH_CACHE", "off")  # the last result of the person who tests is not of the tests

# tests of mowich.nki are in nki_interface: a folder named nki, beside this file, would be found as AWS's package
collect_ignore = ["conformance", "slow", "web/serving.py"]
collect_ignore_glob = ["web/check_*.py", "capture/check_*.py", "golden/scenarios/*.py"]
"""Scripts with environments of their own (`make conformance`, `make test-slow`, `make test-web`), not run by pytest."""

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Material beside the project; tests that read it skip where it is absent."""


def pytest_collection() -> None:
    """Facts that a test file reads as it is imported are the shared ones."""
    overlay.shipped_facts = lambda: SHARED_FACTS


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Where nothing is compiled yet, two workers that go the same way compile each file twice, side by side: every
    second worker begins at the other end, and both find half of it made."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if isinstance(collector, pytest.Session) and int(worker[2:]) % 2 and len(collector.config.args) > 1:
        for file in sorted(Path(__file__).parent.glob("*/test_*.py"), reverse=True):
            sys.path.insert(0, str(file.parent))
            importlib.import_module(file.stem)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest takes out what is slow."""
    put_aside(items)


def pytest_collection_finish() -> None:
    """Tests, once found, stay: looking through all of them for garbage would take a good part of the run."""
    overlay.shipped_facts = fresh_facts
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)  # as the command line has it


@pytest.fixture(scope="session")
def facts() -> Facts:
    return SHARED_FACTS


@pytest.fixture(autouse=True)
def _shared_facts(request: pytest.FixtureRequest, facts: Facts) -> Iterator[None]:
    """Commands of a test find the facts of the commands before, with what was made of them, as requests of one `mowich
    web` do. A test that replaces code gets its own: what it makes must not serve others."""
    if "monkeypatch" in request.fixturenames:
        yield
        return
    read, overlay.shipped_facts = overlay.shipped_facts, lambda: facts
    yield
    overlay.shipped_facts = read


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project")
    return SHARED
