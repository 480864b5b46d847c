"""What of some facts is the user's own: which facts, and all of it in a form to send elsewhere."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mowich.facts.load import Facts, fact_files, shipped_folder
from mowich.facts.schema import Fact, parse_leaf


def given_facts(facts: Facts) -> tuple[str, ...]:
    """Paths of the facts that are the user's own: those that were set, then those of directories laid over the shipped
    facts that say something else than what ships."""
    shipped, found = Facts(facts.roots[:1], {}, {}, {}), list(facts.overrides)
    for root in facts.roots[1:]:
        own = Facts((root,), {}, {}, {})
        for file in fact_files(root):
            paths = own.paths(f"{file.parent.name}.{file.stem}") if file.parent != root else ()
            found += [path for path in paths if _says(path, own.leaf(path)) != _says(path, shipped.leaf(path))]
    return tuple(dict.fromkeys(found))


def _says(path: str, leaf: Mapping[str, object]) -> tuple[object, ...]:
    """What a fact says, however it is written."""
    if not leaf or "ref" in leaf:
        return (leaf.get("ref"),)
    fact = parse_leaf(path, leaf, {})
    return fact.value, fact.low, fact.high


def pack_facts(facts: Facts) -> PackedFacts:
    """Facts in a form that another process or machine can open."""
    over = tuple(
        (str(root), tuple((p.relative_to(root).as_posix(), p.read_bytes()) for p in fact_files(root)))
        for root in facts.roots[1:]
    )
    return PackedFacts(overlays=over, overrides=tuple(sorted(facts.overrides.items())))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFacts:
    """Facts to send elsewhere: the files laid over the shipped ones, each directory's path with its files' contents,
    and the values set. The shipped files are those of the receiver: compare `Facts.hash`."""

    overlays: tuple[tuple[str, tuple[tuple[str, bytes], ...]], ...]
    overrides: tuple[tuple[str, Fact], ...]

    @property
    def settings(self) -> dict[str, float | str | None]:
        """Path -> value of every fact that was set."""
        return {path: fact.value for path, fact in self.overrides}

    def open(self) -> Facts:
        """The facts; directories that this machine does not have with the same contents are written to a temporary
        place."""
        roots = [shipped_folder()]
        for folder, held in self.overlays:
            root = Path(folder)
            if not all((root / name).is_file() and (root / name).read_bytes() == data for name, data in held):
                root = Path(tempfile.mkdtemp(prefix="mowich-facts-"))
                atexit.register(shutil.rmtree, root, ignore_errors=True)
                for name, data in held:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_bytes(data)
            roots.append(root)
        return Facts(tuple(roots), {}, {}, dict(self.overrides))
