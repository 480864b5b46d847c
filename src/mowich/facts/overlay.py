"""Facts as a user has them: those that ship, with the user's own directories or files laid over them.

Stands above `load_facts`, which reads the files, and `check`, which judges them: an overlay is checked whole before a
fact of it is read.
"""

from __future__ import annotations

import atexit
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from mowich.errors import UserError, UserErrors, unknown
from mowich.facts.load import FACT_KINDS, Facts, read_file, shipped_folder
from mowich.files import exists, line_of, parse_yaml, read_text


def overlay(path: Path, known: Facts) -> tuple[Path, list[UserError]]:
    """A user's directory or file as a directory, and its problems with file and line."""
    from mowich.facts.check import check_files  # only a user's own files need it

    try:
        if path.is_dir() or not (path.is_symlink() or exists(path)):
            return path, check_files(path, known, is_overlay=True) or _without_facts(path, path)
        root = unfold(path)
    except UserErrors as errors:
        return path, list(errors.errors)
    except UserError as error:
        return path, [error]
    found = [_in_file(error, root, path) for error in check_files(root, known, is_overlay=True)]
    return root, found or _without_facts(root, path)


def _without_facts(root: Path, path: Path) -> list[UserError]:
    """What is to be said of an overlay that changes nothing: a folder above the right one, or an empty file."""
    if any(next((root / kind).glob("*.yaml"), None) for kind in FACT_KINDS) or any(root.glob("*.yaml")):
        return []
    return [
        UserError(
            "holds no facts", where=str(path), allowed=" ".join([*(f"{kind}/" for kind in FACT_KINDS), "aliases.yaml"])
        )
    ]


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


NAME_FORM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""What a chip or a system may be called: it becomes the name of a file."""


def unfold(file: Path) -> Path:
    """A directory with what one file holds as {kind: {name: facts}}, each part at the lines where it stood, so that
    errors name them. Raises UserError for a file that is not of that form."""
    import tempfile  # only a user's own files need them

    import yaml

    data = read_file(file)
    text = read_text(file, "facts").splitlines()
    root = Path(tempfile.mkdtemp(prefix="mowich-facts-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for kind in data:
        if kind not in FACT_KINDS:
            raise unknown("kind of facts", str(kind), FACT_KINDS, where=f"{file}:{line_of(file, [kind])}")
    whole = parse_yaml("\n".join(text), str(file)).node
    assert isinstance(whole, yaml.MappingNode)
    for key, group in whole.value:
        if not isinstance(group, yaml.MappingNode):
            raise UserError(f"{key.value} holds names, and facts under each", where=f"{file}:{key.start_mark.line + 1}")
        for name, node in group.value:
            if not isinstance(node, yaml.MappingNode):
                raise UserError(
                    f"{name.value} holds facts",
                    where=f"{file}:{name.start_mark.line + 1}",
                    allowed="{value: ..., grade: user}",
                )
            if not NAME_FORM.fullmatch(name.value):
                where = f"{file}:{name.start_mark.line + 1}"
                raise UserError("not a name", where=where, given=name.value, allowed="letters, digits, - and _")
            part = root / key.value / f"{name.value}.yaml"
            part.parent.mkdir(exist_ok=True)
            first, last = node.start_mark, node.end_mark
            lines = text[first.line : last.line + 1]
            if node.flow_style:
                lines[-1] = lines[-1][: last.column]
                lines[0] = " " * first.column + lines[0][first.column :]
            elif last.column == 0 or last.line >= len(text) or last.column < first.column:
                lines = text[first.line : last.line]
            part.write_text("\n" * first.line + "\n".join(lines) + "\n", encoding="utf-8")
    return root
