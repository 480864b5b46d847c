"""The last result of the command line, kept for `mowich explain last` and `mowich report last`.

It is one JSON file in the user's cache folder: `MOWICH_CACHE` names another folder, and `MOWICH_CACHE=off` keeps
nothing. It is read where the word `last` stands in the place of a file, and nowhere else: no number rests on it.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from mowich.errors import UserError
from mowich.writing import replace_file

LAST = "last"
"""The word that stands for the last result."""

CACHE_VARIABLE = "MOWICH_CACHE"
"""Of the environment: a folder, or "off"."""

_MOST = 32_000_000
"""Characters of a result that is kept."""


def kept_folder() -> Path | None:
    """The folder of the last result; None where nothing is kept."""
    named = os.environ.get(CACHE_VARIABLE, "")
    if named.casefold() in ("off", "no", "0"):
        return None
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mowich" if base else None


def keep_last(text: str) -> None:
    """Keep a result. Where that cannot be, nothing is kept: the answer does not need it."""
    with suppress(OSError, RuntimeError):
        folder = kept_folder()
        if folder is None or len(text) > _MOST:
            return
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "last.json", text, lasting=False)


def result_file(named: Path) -> Path:
    """The file that is meant: the last result for "last", where no file has that name. Raises UserError where none is
    kept."""
    if str(named) != LAST or named.exists():
        return named
    folder = kept_folder()
    if folder is None:
        raise UserError("no result is kept", where=LAST, fix=f"{CACHE_VARIABLE} is off: name a file that --out wrote")
    file = folder / "last.json"
    if not file.is_file():
        raise UserError("no result is kept yet", where=LAST, fix="ask something first, or name a file that --out wrote")
    return file
