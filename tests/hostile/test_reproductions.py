"""What a review found to go wrong, where no other test asks it: each is one line that says what is wrong, or right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.errors import EXIT_BAD_INPUT, EXIT_OK, UserError

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 6,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}


def asked(*words: str) -> tuple[int, str, list[str]]:
    """Exit code, stdout, lines of stderr of a process: in one, stdout is bytes."""
    done = subprocess.run([sys.executable, "-m", "mowich", *words], capture_output=True, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").splitlines()


def test_the_name_of_a_file_may_be_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff.json"))
    try:
        Path(name).write_text(json.dumps(CONFIG), encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such name")
    code, said, _ = asked("model", name)
    assert (code, ".json" in said) == (EXIT_OK, True)
    Path(name).write_text("{", encoding="utf-8")
    code, _, lines = asked("model", name)
    assert (code, len(lines)) == (EXIT_BAD_INPUT, 1)


def test_a_folder_without_facts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["power", "--on", "trn3", "--facts", str(tmp_path)]) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no facts" in line


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "facts by a name": (lambda: mowich.compare("llama-3.1-8b", facts="acme.yaml"), "not facts, got 'acme.yaml'"),
    "no model": (lambda: mowich.load(None), "not a model"),
    "5,000 digits": (lambda: mowich.plan("llama-3.1-8b", on="trn3", chips=10**5000), "too large a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_python_says_what_is_wrong(name: str) -> None:
    ask, why = WRONG[name]
    with pytest.raises(UserError, match=why):
        ask()
