"""Every dependency has both bounds and a reason, is locked within its bounds, and is imported where needed only."""

from __future__ import annotations

import ast
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
    code = "import sys, mowich, mowich.cli; [getattr(mowich, n) for n in mowich.__all__]"
    code += "; assert 'pydantic' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    users = {
        path.relative_to(ROOT / "src" / "mowich").parent.as_posix()
        for path in (ROOT / "src" / "mowich").rglob("*.py")
        if re.search(r"^\s*(from|import) pydantic", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert users <= {"web", "gym/adapters"}


BASES = {
    "numpy.ndarray",
    "pydantic.BaseModel",
    "torch.autocast",
    "torch.overrides.TorchFunctionMode",
    "torch.utils._python_dispatch.TorchDispatchMode",  # the name under which PyTorch documents it
    "typer.core.TyperCommand",
    "typer.core.TyperGroup",
    "uvicorn.Server",
}
"""Classes of libraries that ours are made of: each is one that its library documents."""


def bases(text: str) -> set[str]:
    """Full names of the classes of libraries that classes of a file are made of, by `class` or by `type(...)`.

    >>> sorted(bases("import a.b, enum\\nfrom c import D as E\\nclass X(E[int], a.b.C): ...\\nY = type('Y', (E,), {})"))
    ['a.b.C', 'c.D']
    """
    names, asked = {}, []
    for one in ast.walk(ast.parse(text)):
        match one:
            case ast.Import(names=given):
                names |= {a.asname or a.name.partition(".")[0]: a.name.partition(".")[0] for a in given if not a.asname}
                names |= {a.asname: a.name for a in given if a.asname}
            case ast.ImportFrom(module=str(module), names=given, level=0):
                names |= {a.asname or a.name: f"{module}.{a.name}" for a in given}
            case ast.ClassDef(bases=given) | ast.Call(func=ast.Name(id="type"), args=[_, ast.Tuple(elts=given), _]):
                asked += [b.value if isinstance(b, ast.Subscript) else b for b in given]
    parts = [ast.unparse(b).partition(".") for b in asked]
    found = {names[top] + dot + rest for top, dot, rest in parts if top in names}
    return {f for f in found if f.partition(".")[0] not in {*sys.stdlib_module_names, "mowich"}}


def test_no_class_is_made_of_a_private_class_of_a_library() -> None:
    own, found = {*sys.stdlib_module_names, "mowich"}, set()
    for path in (ROOT / "src" / "mowich").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if {*re.findall(r"^ *(?:from|import) (\w+)", text, re.MULTILINE)} - own and re.search(
            r"\b(class|type)\b", text
        ):
            found |= bases(text)
    assert found == BASES
