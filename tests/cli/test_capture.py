"""`mowich capture`: the guest that runs the model's code, and every way in which it ends. A script stands in the place
of a Python with PyTorch; `make test-capture` runs the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from captured_models import captured_json
from mowich import cli
from mowich.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_LIMIT_BROKEN, UserError
from mowich.models import load_model
from mowich.requests.capturing import CAPTURE
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource
from mowich.studies.capture import captured


def _python(folder: Path, script: str) -> Path:
    """A program that takes the arguments of a Python: "$3" is the model, "$4" is --out=FILE."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\nout=${{4#--out=}}\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


def _captured(tmp_path: Path, script: str, **more: object) -> tuple[object, list[str]]:
    said: list[str] = []
    given = {"spec": "my.py:build", "out": tmp_path / "model.json", "python": _python(tmp_path, script), **more}
    asked = CAPTURE.read(given, QuestionSource(edge=Edge.OPTION))
    return captured(asked, said.append), said


def test_what_the_guest_writes_is_the_model(tmp_path: Path) -> None:
    """Its options are passed on, what it prints is told line by line, and the environment has the package alone."""
    model = load_model("llama-3.2-1b")
    made = tmp_path / "made.json"
    made.write_text(json.dumps(captured_json(model)), encoding="utf-8")
    script = f'ls "${{PYTHONPATH%%:*}}"; echo "$@"; cp {made} "$out"'
    found, said = _captured(
        tmp_path, script, name="mine", settings=["layers=2", "wide=True"], scan=["mixer=1e6,64"], kernel=["my.op=2,3"]
    )
    assert found.params == model.params  # type: ignore[attr-defined]
    options = (
        f"--out={tmp_path}/model.json --name=mine --set=layers=2 --set=wide=True --scan=mixer=1e6,64 --kernel=my.op=2,3"
    )
    assert said == ["mowich", f"-m mowich.capture my.py:build {options}"]


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("echo 'error: my.py:3: build raised KeyError'; exit 2", EXIT_BAD_INPUT, ("my.py:3: build raised KeyError",)),
        ("echo 'error: a mistake of mowich.capture'; exit 70", EXIT_BUG, ("a mistake of mowich.capture",)),
        ("exit 3", EXIT_BAD_INPUT, ("ended with exit code 3", "no reason")),
        ("kill -SEGV $$", EXIT_BAD_INPUT, ("ended by SIGSEGV",)),
        ("exit 0", EXIT_BUG, ("--out", "wrote no file")),
        ("sleep 30 & sleep 30", EXIT_LIMIT_BROKEN, ("--timeout", "longer than 0.3 s")),
        ("echo 'error: my.py:3: build raised MemoryError'; exit 2", EXIT_LIMIT_BROKEN, ("--memory", "32 GiB")),
        (
            "echo 'error: PyTorch is not installed in this environment; run it'; exit 2",
            EXIT_BAD_INPUT,
            ("--python", "PyTorch is not installed"),
        ),
        ('echo "{}" > "$out"', EXIT_BAD_INPUT, ("model.json",)),
        ('echo "no JSON" > "$out"', EXIT_BAD_INPUT, ("model.json",)),
    ],
)
def test_each_end_of_the_guest_is_one_line(script: str, code: int, words: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, CAPTURE.told(Edge.OPTION):
        _captured(tmp_path, script, **({"timeout": 0.3} if "sleep" in script else {}))
    line = error.value.line()
    assert error.value.code == code
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a process the children of its children")
def test_what_the_code_leaves_running_ends_with_it(tmp_path: Path) -> None:
    """In a session of its own too."""
    made = tmp_path / "pid"
    python = _python(tmp_path, f"setsid sleep 60 & echo $! > {made}; exit 3")
    assert cli.run(["capture", "my.py:build", "--out", str(tmp_path / "m.json"), "--python", str(python)]) == 2
    assert not Path(f"/proc/{made.read_text().strip()}").exists()


def test_a_memory_limit_is_kept(tmp_path: Path) -> None:
    """The guest's addresses are bounded from outside, before its code runs."""
    said: list[str] = []
    limited = _python(tmp_path, "sleep 0.2; ulimit -v; exit 3")
    given = {"spec": "a:b", "out": tmp_path / "x.json", "python": limited, "memory": 2}
    with pytest.raises(UserError):
        captured(CAPTURE.read(given, QuestionSource(edge=Edge.OPTION)), said.append)
    assert said == [str(2 * 2**20)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"python": "/nowhere/python"}, ("--python", "is not a program", "/nowhere/python")),
        ({"out": "/nowhere/model.json"}, ("--out", "folder")),
        ({"timeout": -1}, ("--timeout",)),
    ],
)
def test_bad_input_is_told_before_anything_runs(more: dict[str, object], words: Sequence[str], tmp_path: Path) -> None:
    given = {"spec": "a:b", "out": tmp_path / "x.json", "python": _python(tmp_path, "touch ran"), **more}
    with pytest.raises(UserError) as error, CAPTURE.told(Edge.OPTION):
        captured(CAPTURE.read(given, QuestionSource(edge=Edge.OPTION)), print)
    assert all(word in error.value.line() for word in words)


def test_mowich_itself_loads_no_exporter() -> None:
    """The verb and the study know the exporter by its name alone."""
    code = (
        "import sys, mowich.cli.capture, mowich.studies.capture;"
        "print([m for m in sys.modules if 'mowich.capture' in m or m == 'torch'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
