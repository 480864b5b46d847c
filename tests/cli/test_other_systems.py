"""Modules that only Unix has are not needed: what runs on Windows is checked with them absent."""

from __future__ import annotations

import subprocess
import sys

import pytest

UNIX = ("fcntl", "grp", "pwd", "resource", "termios")

SCRIPT = """
import sys
for name in {absent}:
    sys.modules[name] = None
from mowich.cli import run
sys.exit(run({words}))
"""


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "words",
    [
        [
            "compare",
            "llama-3.1-8b",
            "--train",
            "--tokens",
            "1T",
            "--seq",
            "4096",
            "--batch",
            "64seqs",
            "--on",
            "trn3:16",
        ],
        ["kernel", "run", "@add"],
        ["facts", "list", "chips"],
        ["traffic", "chat-llama-70b", "--json"],
    ],
    ids=lambda words: words[0],
)
def test_runs_without_the_modules_of_unix(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(absent=UNIX, words=words)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.share(3)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_of_another_encoding_prints_every_sign(encoding: str) -> None:
    """A console that cannot show a sign gets another one, and no error."""
    words = [
        "compare",
        "gpt2",
        "--train",
        "--tokens",
        "1B",
        "--seq",
        "1024",
        "--batch",
        "64seqs",
        "--on",
        "trn3,gb300",
        "--chips",
        "8",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mowich", *words],
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Fastest" in done.stdout.decode(encoding)
