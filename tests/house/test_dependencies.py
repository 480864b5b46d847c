"""Every dependency has both bounds and a reason, is locked within its bounds, and is imported where needed only."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)
EXTRAS = PROJECT["project"]["optional-dependencies"]
ASKED = sorted(
    {
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(one for extra in EXTRAS.values() for one in extra),
    }
)


def locked() -> dict[str, str]:
    """Package -> version, of the locks that hold what pyproject.toml asks for."""
    out = {}
    for file in ("requirements-ray.lock", "requirements.lock"):
        for found in re.finditer(r"^([\w.-]+)==(\S+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
            out[canonicalize_name(found[1])] = found[2]
    return out


@pytest.mark.parametrize("asked", ASKED)
def test_a_dependency_has_both_bounds_and_a_reason(asked: str) -> None:
    assert {one.operator for one in Requirement(asked).specifier} == {">=", "<"}
    lines = [line for line in TEXT.splitlines() if f'"{asked}"' in line]
    assert lines
    assert [line for line in lines if not re.search(r"[\],]  # \S+ ?\S+", line)] == []


def test_what_is_locked_lies_within_the_bounds() -> None:
    versions = locked()
    needs = [Requirement(one) for one in ASKED if canonicalize_name(Requirement(one).name) in versions]
    assert len(needs) > len(ASKED) - 4  # those of [measured] and [notebook] are locked nowhere
    assert [str(one) for one in needs if versions[canonicalize_name(one.name)] not in one.specifier] == []


def test_pydantic_is_of_the_server_alone() -> None:
    assert "pydantic" not in {Requirement(one).name for one in PROJECT["project"]["dependencies"]}
    code = "import sys, mowich, mowich.cli, mowich.api; assert 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    users = {
        path.relative_to(ROOT / "src" / "mowich").parent.as_posix()
        for path in (ROOT / "src" / "mowich").rglob("*.py")
        if re.search(r"^\s*(from|import) pydantic", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert users <= {"web", "gym/adapters"}
