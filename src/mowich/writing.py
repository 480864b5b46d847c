"""Writing a file that a user names: whole or not at all.

What is written goes to a new file in the same folder. Only when all its bytes are on the disk does it take the name.
So a full disk, a limit, a kill or a power cut leaves the file that was there, and no other process reads half a file.
Where a name is no regular file (a pipe, a terminal, /dev/null) there is nothing to keep, and it is written to directly.
Nothing else in Mowich opens a user's file for writing (tests/hostile/test_writing.py).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from mowich.errors import UserError

_READS, _RUNS = 0o444, 0o111
"""Rights to read a file, and to run it: who may read a script may run it."""

NEW_MODE = 0o666
"""Of a new file, less what the umask takes."""


@contextmanager
def told_unwritable(
    *, where: str | None = None, field: str | None = None, given: object = None, fix: str | None = None
) -> Iterator[None]:
    """Where a file is written: a full disk, a folder that may not be written to, a broken disk are one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror or error})", where=where, field=field, given=given, fix=fix
        ) from error


@contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A new file to write to, which is at `path` when the block ends, and is gone when it fails; `path` itself where
    that is no regular file. A link is followed; the rights of the file that was there stay. lasting: whether it
    outlives a power cut, which a file that can be made again need not. Raises OSError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "result.txt"
    ...     with whole_file(file) as new:
    ...         _ = new.write_text("all of it")
    ...     print(file.read_text(), len(list(Path(folder).iterdir())))
    all of it 1
    """
    target = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(target.stat().st_mode):
            yield path
            return
    new = _new_beside(target)
    try:
        yield new
        if lasting:
            settle(new, target)
        else:
            os.replace(new, target)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: str | bytes, *, lasting: bool = True) -> None:
    """Write a file so that it is there whole or not at all (`whole_file`). Text is UTF-8, with its own ends of lines.
    Raises OSError."""
    with whole_file(path, lasting=lasting) as new:
        new.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def replace_files(contents: Mapping[Path, str], scripts: Collection[Path] = ()) -> None:
    """Write several files: the first takes its name when the bytes of all are on the disk, so a full disk leaves all as
    they were. Folders above them are made. scripts: those that may be run. Raises OSError."""
    with ExitStack() as stack:
        made = []
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            new = stack.enter_context(whole_file(path))
            new.write_bytes(text.encode("utf-8"))
            rights = stat.S_IMODE(new.stat().st_mode)
            new.chmod(rights | (rights & _READS) >> 2 if path in scripts else rights & ~_RUNS)
            made.append(new)
        for new in made:
            _sync(new, os.O_RDWR)


def write_file(
    path: Path, content: str | bytes, *, where: str | None = None, field: str | None = None, given: object = None
) -> None:
    """Write a file that a user named. Raises UserError with this place where it cannot be written."""
    with told_unwritable(where=where, field=field, given=given):
        replace_file(path, content)


def settle(temporary: Path, path: Path) -> None:
    """Give a finished file its name: first its bytes are on the disk, then the name is. Raises OSError."""
    _sync(temporary, os.O_RDWR)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _new_beside(target: Path) -> Path:
    """An empty file in the folder of a target, with the rights of the target, or of a new file where it is not there.
    Its end is that of the target, as some writers choose a format by it."""
    for n in count():
        new = target.with_name(f".{target.stem}.{os.getpid()}.{n}.new{target.suffix}")
        with suppress(FileExistsError):
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_MODE)
            break
    try:
        os.close(handle)
    except BaseException:
        new.unlink()
        raise
    with suppress(OSError):  # it is not there, or belongs to somebody else
        new.chmod(stat.S_IMODE(target.stat().st_mode))
    return new


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":  # pragma: no cover - no folder can be opened there

    def _sync_folder(folder: Path) -> None:
        pass

else:

    def _sync_folder(folder: Path) -> None:
        _sync(folder, os.O_RDONLY)
