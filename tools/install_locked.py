"""Install what a lock names beside the Python that runs this, each file only with one of the hashes there.

    python tools/install_locked.py -r requirements.lock
    python tools/install_locked.py --torch -r requirements.lock -r requirements-capture.lock

--torch: PyTorch first. Any build will do: the one for CPUs of requirements-torch-cpu.lock where pip is told of a folder or
page that has it (PIP_FIND_LINKS), else the one of requirements-torch.lock, with the libraries of CUDA that it asks for.

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
HASHED = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
"""A lock names all that is needed."""


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
    if "--torch" in words:
        words = [word for word in words if word != "--torch"]
        cpu, any_build = (["-r", f"requirements-torch{kind}.lock"] for kind in ("-cpu", ""))
        is_there = os.environ.get("PIP_FIND_LINKS") is not None and not installed(cpu)
        if not is_there and installed(any_build):
            return 1
    return installed(words)


def installed(words: list[str]) -> int:
    """Install what these locks name; 0 where it is done."""
    registry, folder = os.environ.get("PIP_INDEX_URL"), os.environ.get("PIP_FIND_LINKS")
    try:
        ask = [fetched_uv(), "pip", "install", "--quiet", "--system-certs", "--no-config", "--python", sys.executable]
        ask += ["--default-index", registry] if registry else []
        ask += ["--find-links", folder] if folder else []
        if subprocess.run([*ask, *HASHED, *words], check=False).returncode == 0:
            return 0
    except (OSError, subprocess.CalledProcessError):
        pass
    print("uv could not install: pip does", file=sys.stderr)
    return subprocess.run([*PIP, *HASHED, *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
