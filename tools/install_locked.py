"""Install what a lock names beside the Python that runs this, each file only with one of the hashes there.

    python tools/install_locked.py -r requirements.lock

uv installs in a fifth of pip's time. pip fetches it once, by its own lock, and installs by itself where uv cannot: where
only pip is told of another registry, or there is no uv for the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV_FOLDER = ROOT / "build" / "uv"
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
HASHED = ("--require-hashes", "--only-binary", ":all:")


def fetched_uv() -> Path:
    """uv's program, fetched where it is not there yet; two that fetch it at once do not meet.

    Raises CalledProcessError where pip cannot fetch it.
    """
    if not UV_FOLDER.exists():
        UV_FOLDER.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UV_FOLDER.parent) as folder:
            made = Path(folder) / "uv"
            subprocess.run([*PIP, *HASHED, "--target", made, "-r", ROOT / "requirements-uv.lock"], check=True)
            if not UV_FOLDER.exists():
                made.rename(UV_FOLDER)
    return UV_FOLDER / "bin" / "uv"


def main(words: list[str]) -> int:
    try:
        ask = [fetched_uv(), "pip", "install", "--quiet", "--system-certs", "--no-config", "--python", sys.executable]
        registry = os.environ.get("PIP_INDEX_URL")
        ask += ["--default-index", registry] if registry else []
        if subprocess.run([*ask, "--no-deps", *HASHED, *words], check=False).returncode == 0:
            return 0
    except (OSError, subprocess.CalledProcessError):
        pass
    print("uv could not install: pip does", file=sys.stderr)
    return subprocess.run([*PIP, *HASHED, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
