"""A bundle as a folder: written whole or not at all, over an earlier bundle or into an empty folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mowich.errors import UserError
from mowich.files import parse_json, read_text
from mowich.launch.bundle import BUNDLE_INDEX, FORECAST, README, Bundle, BundleFile
from mowich.launch.bundle_readme import readme_text
from mowich.version import VERSION
from mowich.writing import replace_files, told_unwritable

SCHEMA = "mowich/bundle@1"
_FIELD = "out"
_FIX = "name a new or an empty folder, or one with a bundle of Mowich"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBundle:
    """What was written. left: files of the folder that are not of the bundle, and stay as they are."""

    bundle: Bundle
    folder: Path
    files: tuple[str, ...]
    left: tuple[str, ...]


def check_folder(folder: Path) -> Mapping[str, str]:
    """Files of the bundle that a folder holds -> a hash of each as it was written; empty for a folder that is new or
    empty. Raises UserError for a file, and for a folder with other things in it."""
    if folder.exists() and not folder.is_dir():
        raise UserError("is not a folder", field=_FIELD, given=str(folder), fix=_FIX)
    try:
        held = sorted(os.listdir(folder)) if folder.exists() else []
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", field=_FIELD, given=str(folder), fix=_FIX) from error
    if not held:
        return {}
    if BUNDLE_INDEX not in held:
        more = f" and {len(held) - 1} more" if len(held) > 1 else ""
        raise UserError(f"holds {held[0]}{more}, but no bundle", field=_FIELD, given=str(folder), fix=_FIX)
    return _listed(folder)


def _listed(folder: Path) -> dict[str, str]:
    """The files that the list of a bundle names."""
    where = str(folder / BUNDLE_INDEX)
    data = parse_json(read_text(folder / BUNDLE_INDEX, "result"), where)
    files = data.get("files")
    if data.get("schema") != SCHEMA or not isinstance(files, Mapping):
        raise UserError("is not the list of files of a bundle", where=where, given=data.get("schema"), allowed=SCHEMA)
    for path in files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise UserError("names a file outside its folder", where=where, given=path)
    return {str(path): str(mark) for path, mark in files.items()}


def write_bundle(folder: Path, bundle: Bundle, forecast: str, pick: int) -> WrittenBundle:
    """Write a bundle with its forecast (JSON), of which it runs the row `pick`, from 1. Files of an earlier bundle are
    replaced; those that the new one does not have are removed, unless somebody changed them. Raises UserError where the
    folder is not fit, or cannot be written to; then all files are as before."""
    before = check_folder(folder)
    files = [
        *bundle.files,
        *bundle.benchmark.files,
        BundleFile(path=FORECAST, text=forecast, about="the answer with its ranges: mowich explain, mowich verify"),
    ]
    files.append(BundleFile(path=README, text=readme_text(bundle, files, pick), about="this page"))
    index = {
        "schema": SCHEMA,
        "version": VERSION,
        "program": bundle.program,
        "title": bundle.title,
        "benchmark": {"program": bundle.benchmark.program, "log": bundle.benchmark.log},
        "files": {file.path: _mark(file.text.encode()) for file in files},
    }
    files.append(BundleFile(path=BUNDLE_INDEX, text=json.dumps(index, indent=1, ensure_ascii=False) + "\n"))
    with told_unwritable(field=_FIELD, given=str(folder)):
        _write_all(folder, files)
    written = {file.path for file in files}
    for path in before.keys() - written:
        _remove(folder / path, before[path])
    return WrittenBundle(
        bundle=bundle,
        folder=folder,
        files=tuple(file.path for file in files),
        left=tuple(path for path in _found(folder) if path not in written),
    )


def _mark(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _write_all(folder: Path, files: Sequence[BundleFile]) -> None:
    """All files take their names after the last of them is written. Raises OSError, and UserError for a link that leads
    out of the folder."""
    root = folder.resolve()
    for file in files:
        if not (folder / file.path).resolve().is_relative_to(root):
            raise UserError("leads out of the folder", field=_FIELD, given=str(folder / file.path), fix=_FIX)
    replace_files(
        {folder / file.path: file.text for file in files},
        scripts={folder / file.path for file in files if file.is_script},
    )


def _remove(path: Path, mark: str) -> None:
    """Remove a file of an earlier bundle that nobody changed, and the folder that it leaves empty."""
    with suppress(OSError):
        if path.is_file() and not path.is_symlink() and _mark(path.read_bytes()) == mark:
            path.unlink()
            path.parent.rmdir()


def _found(folder: Path) -> list[str]:
    """The files under a folder, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
