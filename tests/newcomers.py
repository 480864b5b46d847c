"""A copy of the package for a newcomer's task: a few files are copies, the others links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "mowich"


def copy_of_package(folder: Path, own: Collection[str]) -> Path:
    """The package under a folder. own: files and folders of it, by their path, that are copied."""

    def lay(source: Path, target: Path) -> None:
        target.mkdir()
        for path in source.iterdir():
            name = path.relative_to(PACKAGE).as_posix()
            if name in own or path.name == "__pycache__":  # compiled files are known by time and size of their source
                (shutil.copytree if path.is_dir() else shutil.copy)(path, target / path.name)
            elif any(one.startswith(f"{name}/") for one in own):
                lay(path, target / path.name)
            else:
                (target / path.name).symlink_to(path)

    lay(PACKAGE, folder / "mowich")
    return folder / "mowich"


def run_copy(package: Path, *words: str, code: int = 0) -> str:
    """What Python prints, with the copy in the place of the package: its errors, where another exit code than 0 is
    expected."""
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(package.parent), "MOWICH_CACHE": "off"},
        capture_output=True,
        text=True,
        check=False,
        cwd=package.parent,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr
