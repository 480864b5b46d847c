"""What is wrong with the files of a folder of facts: strange names, files without facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mowich.errors import UserError, UserErrors, did_you_mean, unknown
from mowich.facts import fields
from mowich.facts.claim_check import CHECK_KEY, read_check, stated_checks
from mowich.facts.load import FACT_KINDS, FACT_TABLES, Facts, known_unit, read_fact_table, read_file
from mowich.facts.schema import CLAIM_WORDS, IDENTITY_KEYS, check_fact, is_leaf, leaves, parse_leaf
from mowich.files import line_of


def file_problems(root: Path, known: Facts | None = None, *, is_overlay: bool = False) -> list[UserError]:
    """What is wrong with each file of a directory of fact files by itself, with file:line. An overlay may only use
    groups and fields that exist, or add whole files."""
    problems: list[UserError] = []
    sources = known.sources if known else {}
    if not root.is_dir():
        return [UserError("no such directory", field="facts", given=str(root))]
    problems += _strange_names(root, is_overlay)
    for name in FACT_TABLES if is_overlay else ():
        try:
            if (root / name).is_symlink() or (root / name).exists():
                read_fact_table(root / name)
        except UserError as error:
            problems += error.errors if isinstance(error, UserErrors) else [error]
    for kind in FACT_KINDS:
        for path in sorted((root / kind).glob("*.yaml")):
            try:
                data = read_file(path)
            except UserError as error:
                problems += error.errors if isinstance(error, UserErrors) else [error]
                continue
            problems += _check_file(path, kind, data, sources, known if is_overlay else None)
    return problems


def _strange_names(root: Path, is_overlay: bool) -> list[UserError]:
    """Names in a directory of facts that nothing would read: another ending, a file where a directory is due, another
    kind. Names that begin with "." or "_" are the user's own, and so are notes (.md, .txt)."""
    problems = []
    kinds = (*FACT_KINDS, *(() if is_overlay else ("models", "published")))
    for entry in _listed(root):
        where = str(entry)
        if entry.name in FACT_TABLES or (_is_note(entry) and not entry.is_dir()):
            continue
        if entry.name in kinds:
            if not entry.is_dir():
                problems.append(UserError("is a file", where=where, allowed=f"a directory: {entry.name}/NAME.yaml"))
        elif entry.is_dir():
            problems.append(unknown("kind of facts", entry.name, FACT_KINDS, where=where))
        elif is_overlay:
            allowed = "aliases.yaml, sources.yaml, or a directory of a kind"
            near = did_you_mean(entry.stem, [Path(name).stem for name in FACT_TABLES])
            if near is None and entry.suffix == ".yaml":
                near = f"a file of several kinds is given by itself: --facts {entry}"
            problems.append(UserError("not a file of facts", where=where, allowed=allowed, fix=near))
    for kind in FACT_KINDS if is_overlay else ():
        for entry in _listed(root / kind) if (root / kind).is_dir() else ():
            if entry.suffix != ".yaml" and not (_is_note(entry) and not entry.is_dir()):
                problems.append(_other_ending(entry))
    return problems


def _listed(folder: Path) -> list[Path]:
    """What a directory holds, sorted, without names that are the user's own."""
    try:
        return [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(("_", "."))]
    except OSError as error:
        raise UserError(f"cannot be read: {(error.strerror or '').lower()}", where=str(folder)) from None


def _is_note(entry: Path) -> bool:
    return entry.suffix.casefold() in {".md", ".txt", ".rst"} or entry.stem.upper() in {"README", "LICENSE"}


def _other_ending(entry: Path) -> UserError:
    what = "is a directory" if entry.is_dir() else "not a file of facts"
    return UserError(what, where=str(entry), allowed="files NAME.yaml", fix=f"did you mean '{entry.stem}.yaml'?")


def _check_file(
    path: Path, kind: str, data: Mapping[str, object], sources: Mapping[str, Mapping[str, object]], base: Facts | None
) -> list[UserError]:
    root = f"{kind}.{path.stem}"
    return [
        *_unknown_keys(path, data, base),
        *_wrong_facts(path, root, data, sources, base),
        *(_wrong_checks(path, root, data) if kind == "claims" else ()),
        *_bare_values(path, root, data, base),
    ]


def _unknown_keys(path: Path, data: Mapping[str, object], base: Facts | None) -> Iterator[UserError]:
    """Keys at the top of a file that name neither a group nor what identifies it."""
    for key, value in data.items():
        if isinstance(value, Mapping) or key in IDENTITY_KEYS:
            continue
        where = f"{path}:{line_of(path, [str(key)])}"
        if isinstance(value, int | float):
            example = f'write {{value: "144 GiB", {_rest_of_fact(base)}}}'
            yield UserError(f"{key} is not a fact", where=where, given=value, fix=example)
        else:
            yield unknown("key", str(key), IDENTITY_KEYS, where=where)


def _wrong_facts(
    path: Path, root: str, data: Mapping[str, object], sources: Mapping[str, Mapping[str, object]], base: Facts | None
) -> Iterator[UserError]:
    """What is wrong with the facts of a file, each with its line."""
    kind, name = root.split(".", 1)
    for leaf_path, leaf in leaves(data, root):
        keys = leaf_path.split(".")[2:]
        try:
            if "ref" not in leaf:
                known_as = known_unit(base, leaf_path)
                check_fact(leaf_path, parse_leaf(leaf_path, leaf, sources, known_as), known_as)
            is_known = base is None or base.get(leaf_path) is not None or is_profile(leaf_path, base)
            if base is not None and name in base.ids(kind) and not is_known and kind != "prices":
                known = base.paths(root)
                raise UserError(
                    f"unknown fact '{leaf_path}'",
                    fix=did_you_mean(leaf_path, known) or f"mowich facts show {name} lists what there is",
                )
        except UserError as error:
            where = f"{path}:{line_of(path, keys)} {'.'.join(keys)}"
            yield UserError(error.what, where=where, given=error.given, allowed=error.allowed, fix=error.fix)


def _bare_values(path: Path, root: str, data: Mapping[str, object], base: Facts | None) -> Iterator[UserError]:
    """Values that stand where a fact should. The words and checks of claims are no facts."""
    for group, value in _plain_values(data, []):
        is_word = len(group) > 2 and group[-1] in CLAIM_WORDS and isinstance(value, str)
        named = root.startswith("claims.") and (is_word or CHECK_KEY in group)
        if len(group) < 2 or named:
            continue
        where = f"{path}:{line_of(path, group)} {'.'.join(group)}"
        wanted = fields.unit_of(".".join([root, *group]))
        if wanted and isinstance(value, int | float):
            what, example = f"{value} has no unit", f"{value:g} {fields.unit_meant(str(value), wanted) or wanted}"
        else:
            what, example = f"{group[-1]} is not a fact", value if isinstance(value, str) else "144 GiB"
        yield UserError(what, where=where, fix=f'write {{value: "{example}", {_rest_of_fact(base)}}}')


def _rest_of_fact(base: Facts | None) -> str:
    """What a fact has beside its value, in a file of a user or in one of the package, which has no base."""
    return "grade: user" if base is not None else "source: ..., date: ..., grade: ..."


def _wrong_checks(path: Path, root: str, data: Mapping[str, object]) -> Iterator[UserError]:
    """What is wrong with the checks of a file of claims, each with its line."""
    for at, said in stated_checks(data, root):
        try:
            read_check(said, at)
        except UserError as error:
            keys = (error.where or at).split(".")[2:]
            error.where = f"{path}:{line_of(path, keys)} {'.'.join(keys)}"
            yield error


def is_profile(path: str, base: Facts) -> bool:
    """Whether a path is that of a measured factor of an engine on a chip: `serving.profiles.<factor>_<engine>_<chip>_`
    and a class of models."""
    group, _, name = path.rpartition(".")
    if group != "serving.profiles":
        return False
    heads = [f"{factor}_{engine}_" for factor in base.children(group) for engine in base.ids("serving")]
    rest = [name.removeprefix(head) for head in heads if name.startswith(head)]
    return any(left.startswith(f"{chip}_") for left in rest for chip in base.ids("chips"))


def _plain_values(node: Mapping[str, object], at: list[str]) -> list[tuple[list[str], object]]:
    """Keys and value of everything that is neither a fact nor a group."""
    out: list[tuple[list[str], object]] = []
    for key, value in node.items():
        if is_leaf(value):
            continue
        here = [*at, str(key)]
        if isinstance(value, Mapping):
            out += _plain_values(value, here)
        else:
            out.append((here, value))
    return out
