"""The size of the source that tools/size.py prints: every line is counted, once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def size() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mowich_size", ROOT / "tools" / "size.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_line_is_counted_once(size: ModuleType) -> None:
    for path in sorted((ROOT / "src" / "mowich" / "studies").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        found = size.size_of(text)
        kinds = found.code + found.imports + found.docstrings + found.comments + found.blank
        assert kinds == len(text.splitlines()), path.name


def test_what_a_change_adds_is_its_code(size: ModuleType) -> None:
    old = {"src/mowich/a/b.py": '"""Text."""\n\nx = 1\n', "src/mowich/c.py": "y = 2\n"}
    new = {"src/mowich/a/b.py": '"""Text, longer.\n\nMuch."""\n\nx = 1\nz = [\n    3,\n]\n'}
    before, now = size.by_package(old), size.by_package(new)
    assert (before["a"].code, now["a"].code, before["mowich"].code) == (1, 4, 1)
    *_, whole = size.table(now, before)
    assert whole.split()[-1] == "+2"
