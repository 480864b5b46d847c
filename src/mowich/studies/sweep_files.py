"""Files of a sweep's directory: written whole or not at all, one writer at a time, each part with a checksum.

`_checksums.sha256` has a line for each part, as `sha256sum -c` reads it. The line of a part is on the disk before the
part is: a part without a line, or with another one, was changed or comes from elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mowich.errors import UserError
from mowich.writing import replace_file, told_unwritable

CHECKSUMS = "_checksums.sha256"  # readers of directories of Parquet skip names that begin with an underscore
DAMAGED = "_damaged"
"""Folder of parts that were set aside."""
SWEEP_REPORT = "_report.html"
"""The page of a sweep in its directory: under this name readers of Parquet skip it."""
LOCK = "_lock"
"""Stands for the directory where none can be opened (Windows)."""
_LINE = re.compile(r"([0-9a-f]{64})  (part-\d{6}\.parquet|_task-\d{6})")


def written(path: Path) -> contextlib.AbstractContextManager[None]:
    """Where a file of a sweep is written: what goes wrong is one line."""
    return told_unwritable(where=str(path), fix="what is there is whole; mend that, and the same command goes on")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder for this process alone, made where it is missing. Raises UserError where another process has it. A
    process that dies lets it go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _handle_of(folder)
    except OSError as error:
        raise UserError(f"cannot be made ({error.strerror})", field=f"out {folder}") from None
    try:
        try:
            _lock(handle)
        except OSError:
            raise UserError("another sweep is writing there", field=f"out {folder}") from None
        yield
    finally:
        os.close(handle)


if sys.platform == "win32":  # pragma: no cover - no folder can be opened there: a file in it stands for it
    import msvcrt

    def _handle_of(folder: Path) -> int:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:

    def _handle_of(folder: Path) -> int:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def _lock(handle: int) -> None:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def checksum_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """Part -> checksum. The last line of a part holds; a line that a kill cut short is none."""
    path = folder / CHECKSUMS
    if not path.is_file():
        return {}
    found = (_LINE.fullmatch(line) for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1])
    return {line[2]: line[1] for line in found if line}


def note_checksum(folder: Path, name: str, checksum: str) -> None:
    """Add the line of a part, on the disk before this returns. A line that was cut short before it is ended first."""
    path = folder / CHECKSUMS
    with path.open("ab") as file:
        if file.tell():
            with path.open("rb") as there:
                there.seek(-1, os.SEEK_END)
                if there.read(1) != b"\n":
                    file.write(b"\n")
        file.write(f"{checksum}  {name}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def order_checksums(folder: Path, names: Iterable[str]) -> None:
    """Write the lines of these parts alone, in order of the parts."""
    known = read_checksums(folder)
    text = "".join(f"{known[name]}  {name}\n" for name in sorted(names))
    if not (folder / CHECKSUMS).is_file() or (folder / CHECKSUMS).read_bytes() != text.encode():
        replace_file(folder / CHECKSUMS, text.encode())


def is_sound(folder: Path, name: str, checksums: Mapping[str, str]) -> bool:
    """Whether a part has the bytes that were written."""
    return checksum_of(folder / name) == checksums.get(name)


def set_aside(path: Path) -> Path:
    """Move a part that is not sound into `DAMAGED`, under a name that is free; where it is now."""
    folder = path.parent / DAMAGED
    folder.mkdir(exist_ok=True)
    count = sum(1 for _ in folder.glob(f"{path.name}*"))
    target = folder / (path.name + (f".{count}" if count else ""))
    os.replace(path, target)
    return target
