"""A server of its own for each script, on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOWICH = ROOT / ".venv" / "bin" / "mowich"
COMMAND = [str(MOWICH)] if MOWICH.exists() else [sys.executable, "-m", "mowich"]
BUILD = ROOT / "build" / "web"


@contextmanager
def server(*options: str) -> Iterator[str]:
    """Start `mowich web`; its address."""
    with started(*options) as (base, _):
        yield base


@contextmanager
def started(*options: str) -> Iterator[tuple[str, int]]:
    """Start `mowich web`; its address, and its process."""
    process = subprocess.Popen([*COMMAND, "web", "--port", "0", *options], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[^ ]+", line)
        if found is None:
            sys.exit(f"the server did not start: {line}")
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait(20)
