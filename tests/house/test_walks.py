"""The walks of docs/project/architecture.md are walked: every function that they name is called by the command above
them, and the steps come in the order in which they are told."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "mowich"
TEXT = (ROOT / "docs" / "project" / "architecture.md").read_text(encoding="utf-8")

TRACER = """
import json, shlex, sys
from mowich import cli
package, seen = sys.argv[1], {}

def note(frame, event, argument):
    if event == "call" and frame.f_code.co_filename.startswith(package):
        seen.setdefault(f"{frame.f_code.co_filename[len(package) + 1:]}:{frame.f_code.co_name}", len(seen))

sys.setprofile(note)
code = cli.run(shlex.split(sys.argv[2])[1:])
sys.setprofile(None)
print("\\n" + json.dumps([code, seen]))
"""


def walks() -> dict[str, tuple[str, list[str]]]:
    """Title -> (command, steps). A step that is of another command is left out."""
    part = TEXT.partition("## Four walks\n")[2].partition("\n## ")[0]
    out = {}
    for title, body in re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", part, re.MULTILINE | re.DOTALL):
        command = re.match(r"`(mowich [^`]+)`", body)
        assert command is not None, title
        steps = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\n\n|\Z)", body, re.MULTILINE | re.DOTALL)
        assert len(steps) > 3, title
        out[title] = (command[1], [step for step in steps if "`mowich " not in step])
    return out


@cache
def functions(path: str) -> frozenset[str]:
    """What a file defines at its top as functions."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def named(step: str) -> list[str]:
    """Functions that a step names, as "file:function"."""
    found = re.findall(r"`([\w/]+\.py):(\w+)`", step)
    return [f"{path}:{name}" for path, name in found if name in functions(path)]


@pytest.mark.slow
@pytest.mark.parametrize("title", walks())
def test_a_walk_is_what_its_command_does(title: str) -> None:
    command, steps = walks()[title]
    done = subprocess.run(
        [sys.executable, "-c", TRACER, str(PACKAGE), command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    code, seen = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    told = [named(step) for step in steps]
    assert sum(map(len, told)) > 5
    assert [name for names in told for name in names if name not in seen] == []
    begins = [seen[names[0]] for names in told if names]
    assert begins == sorted(begins), [names[0] for names in told if names]
