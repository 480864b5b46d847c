"""Facts as a user has them: those that ship, with the user's own directories or files laid over them.

Stands above `load_facts`, which reads the files, and `check`, which judges them: an overlay is checked whole before a
fact of it is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mowich.errors import UserError, UserErrors
from mowich.facts.load import Facts, shipped_folder, unfold
from mowich.files import exists


def overlay(path: Path, known: Facts) -> tuple[Path, list[UserError]]:
    """A user's directory or file as a directory, and its problems with file and line."""
    from mowich.facts.check import check_files  # only a user's own files need it

    try:
        if path.is_dir() or not (path.is_symlink() or exists(path)):
            return path, check_files(path, known, is_overlay=True)
        root = unfold(path)
    except UserErrors as errors:
        return path, list(errors.errors)
    except UserError as error:
        return path, [error]
    return root, [_in_file(error, root, path) for error in check_files(root, known, is_overlay=True)]


def _in_file(error: UserError, root: Path, file: Path) -> UserError:
    """A problem of an unfolded part, said of the file that was given: its lines are the same."""
    where = re.sub(rf"{re.escape(str(root))}[^:\s]*", str(file), error.where or str(file))
    return UserError(error.what, where=where, given=error.given, allowed=error.allowed, fix=error.fix)


def shipped_facts() -> Facts:
    """The facts that ship with the program."""
    return Facts((shipped_folder(),), {}, {}, {})


def load_facts(overlays: Sequence[Path | str] = ()) -> Facts:
    """The shipped facts, with the user's own directories laid over them in order.

    Args:
        overlays: directories or files of your own, the last one wins.

    Returns: facts; `.with_values({path: number})` gives a copy with other numbers. Units: SI.

    Example:
        >>> import mowich
        >>> mowich.load_facts().number("chips.trainium3.memory.hbm_capacity") / 2**30
        144.0

    An overlay has the same layout (chips/, systems/, prices/, aliases.yaml, sources.yaml), or is one file of it:
    {chips: {acme1: ...}, systems: {acme: ...},
    prices: {user: ...}}. It is checked whole before anything is read:
    raises UserErrors that name file, line and field for an unknown key, a missing unit, or a field that does not exist.
    """
    if not overlays:
        return shipped_facts()
    roots = [shipped_folder()]
    problems: list[UserError] = []
    for path in overlays:
        root, found = overlay(Path(path), Facts(tuple(roots), {}, {}, {}))
        problems += found
        roots.append(root)
    if problems:
        raise UserErrors(problems) if len(problems) > 1 else problems[0]
    return Facts(tuple(roots), {}, {}, {})
