"""Reading facts: YAML files on demand, overlays of the user's own, and overrides that copy nothing.

`Facts` parses a file when a path inside it is first asked for. `Facts.with_values` gives a view with some
values replaced: how `--set`, and every uncertainty range, reach the models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache, wraps
from importlib import resources
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, SupportsFloat, TypeVar

from mowich.errors import UserError, did_you_mean, placed, unknown
from mowich.facts import fields
from mowich.facts.names import Instance, SystemNames, instance_name, named_system
from mowich.facts.schema import IDENTITY_KEYS, Fact, FreshnessLimit, check_fact, is_leaf, leaves, parse_leaf
from mowich.files import exists, line_of, read_yaml, shipped_yaml
from mowich.units import show

FACT_KINDS = (
    "chips",
    "systems",
    "prices",
    "sites",
    "reliability",
    "networks",
    "claims",
    "devices",
    "training",
    "recipes",
    "serving",
    "vendors",
    "neuroncore",
    "rl",
    "supply",
    "launch",
)
"""Directories of fact files. `models` and `published` have forms of their own and are read elsewhere."""

MAX_REFERENCES = 8
"""Longest chain of references that is followed."""

FACT_TABLES = ("aliases.yaml", "sources.yaml")
"""Files beside the directories."""


@cache
def shipped_folder() -> Path:
    """The directory of the facts that ship with Mowich."""
    return Path(str(resources.files("mowich.facts")))


Stamp = tuple[str, int, int] | None
"""Place, time of change and bytes of a user's file; None for a file that ships, which does not change."""


def _stamp(path: Path) -> Stamp:
    if path.is_relative_to(shipped_folder()):
        return None
    found = path.stat() if path.exists() else None
    return (str(path.absolute()), 0, -1) if found is None else (str(path.absolute()), found.st_mtime_ns, found.st_size)


def read_file(path: Path) -> Mapping[str, object]:
    """A YAML file as nested mappings; one line per error, with file:line. What ships is not checked: tests do that, and
    it costs time. A user's file is read again when it has changed."""
    return _read_file(path, _stamp(path))


@lru_cache(maxsize=4096)
def _read_file(path: Path, stamp: Stamp) -> Mapping[str, object]:
    data = shipped_yaml(path) if path.is_relative_to(shipped_folder()) else read_yaml(path, "facts").data
    if not isinstance(data, dict):
        raise UserError("a fact file is a mapping", where=f"{path}:1")
    return data


def read_fact_table(path: Path) -> Mapping[str, Mapping[str, object]]:
    """One of `FACT_TABLES`: a mapping under each name. Raises UserError for anything else."""
    return _read_fact_table(path, _stamp(path))


@lru_cache(maxsize=256)
def _read_fact_table(path: Path, stamp: Stamp) -> Mapping[str, Mapping[str, object]]:
    found: dict[str, Mapping[str, object]] = {}
    for name, entry in read_file(path).items():
        if not isinstance(entry, Mapping):
            raise UserError(f"{name} is a mapping", where=f"{path}:{line_of(path, [name])}", given=entry)
        found[name] = entry
    return found


def _listed(path: Path, name: str, entry: Mapping[str, object], key: str) -> tuple[str, ...]:
    """The words of a list in an entry of a table. Raises UserError for anything but a list."""
    words = entry.get(key, ())
    if not isinstance(words, list | tuple):
        raise UserError(f"{key} is a list of names", where=f"{path}:{line_of(path, [name, key])}", given=words)
    return tuple(str(word) for word in words)


T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """Something made of facts: what, and the paths that its making asked for, in order (of references those on the way,
    too)."""

    what: Any
    asked: Mapping[str, None]


class Ledger:
    """What an answer has read of its facts. said: paths of the facts that its question gave, in order; asked: those
    that were asked for before, while the question was read; limit: which of them its question calls old, None: it does
    not ask."""

    __slots__ = ("_log", "limit", "said")

    def __init__(
        self, said: Iterable[str] = (), asked: Iterable[str] = (), limit: FreshnessLimit | None = None
    ) -> None:
        self.said = tuple(said)
        self.limit = limit
        self._log: dict[str | _Made | Ledger, None] = dict.fromkeys(asked)
        """Paths, and in their places what was made of others (`Facts.once`) and what asked for others: their paths are
        gathered when somebody wants them, so that a note costs the same however many they are."""

    def note(self, what: str | _Made | Ledger) -> None:
        """A path that was asked for, something that was made of facts, or the ledger of an answer within."""
        self._log[what] = None

    def note_all(self, paths: Iterable[str]) -> None:
        """Paths that something else has asked for in the answer's place."""
        self._log.update(dict.fromkeys(paths))

    def __reduce__(self) -> tuple[object, ...]:
        """In another process it is its paths: what was made stays here."""
        return Ledger, (self.said, tuple(self.asked), self.limit)

    @property
    def asked(self) -> Mapping[str, None]:
        """The paths that something asked for, in order, with or without a fact; of references those on the way, too."""
        found: dict[str, None] = {}
        for what in list(self._log):  # at once: another thread may note more
            if isinstance(what, str):
                found[what] = None
            else:
                found.update(what.asked)
        return found

    def unread(self) -> tuple[str, ...]:
        """The facts that were given and that nothing has read: they changed nothing."""
        asked = self.asked if self.said else {}
        return tuple(path for path in self.said if path not in asked)


USABLE, CAPACITY = ".hbm_usable", ".hbm_capacity"
"""Ends of paths. Where a capacity is given and what is usable of it is not, the usable share stays what it was."""


class Facts:
    """All facts, shipped and overlaid. Immutable: `with_values` returns a new view that shares every parsed file.

    Units: SI.

    Example:
        >>> import mowich
        >>> mowich.load_facts().number("chips.trainium3.memory.hbm_capacity") / 2**30
        144.0
    """

    __slots__ = ("_cache", "_files", "_made", "_origin", "_sources", "ledger", "overrides", "roots")

    def __init__(
        self,
        roots: tuple[Path, ...],
        files: dict[tuple[str, str], Mapping[str, object]],
        parsed: dict[str, Fact | str | None],
        overrides: Mapping[str, Fact],
        ledger: Ledger | None = None,
    ) -> None:
        """parsed: path -> the fact there, the path that it refers to, or None where there is none; ledger: notes what
        is read of these facts and of their views."""
        self.roots = roots
        self._files = files
        self._cache = parsed
        self.overrides = overrides
        self.ledger = ledger
        self._made: dict[Hashable, _Made] = {}
        self._sources: Mapping[str, Mapping[str, object]] | None = None
        self._origin: tuple[Facts, frozenset[str]] | None = None
        """The facts that this is a view of, and the paths whose facts are others here."""

    def __reduce__(self) -> tuple[object, ...]:
        """In another process nothing is made of them yet."""
        return Facts, (self.roots, self._files, self._cache, self.overrides, self.ledger)

    def once(self, key: Hashable, make: Callable[[Facts], T], *, most: int | None = None) -> T:
        """What `make` makes of these facts, made once for a key. Not to be changed by who gets it.

        What was made of the facts that this is a view of serves here too, unless its making read a fact that differs.
        So `make` reads facts from its argument alone, keeps none of them, and key and function say all else that it
        depends on. Who gets what was made before has read what its making read. most: how many are kept of the keys
        that begin alike, None: all.
        """
        made = self._known(key) or self._make(key, make, self.ledger, most)
        if self.ledger is not None:
            self.ledger.note(made)
        what: T = made.what
        return what

    def _make(self, key: Hashable, make: Callable[[Facts], object], ledger: Ledger | None, most: int | None) -> _Made:
        """What is not known yet. ledger: is told what a making read that ends with an error: nothing is kept of it."""
        watched = Watched(self)
        try:
            what = make(watched)
        except UserError:
            if ledger is not None:
                ledger.note_all(watched.asked)
            raise
        made = self._made[key] = _Made(what, watched.asked)
        if most is not None and isinstance(key, tuple):
            alike = [other for other in list(self._made) if isinstance(other, tuple) and other[0] is key[0]]
            for other in alike[:-most]:
                self._made.pop(other, None)
        return made

    def _known(self, key: Hashable) -> _Made | None:
        """What has been made for a key of these facts, or serves for it."""
        made = self._made.get(key)
        if made is None and self._origin is not None:
            facts, changed = self._origin
            made = facts._known(key)
            if made is None or any(path in made.asked for path in changed):
                return None
            self._made[key] = made
        return made

    # files
    # -------------------------------------------------------------------------------------------------------------
    def ids(self, kind: str) -> tuple[str, ...]:
        """Names of the files of a kind, sorted; listed once, as each file is read once."""
        if (kind, "") not in self._files:
            found = {p.stem for root in self.roots for p in (root / kind).glob("*.yaml")}
            self._files[kind, ""] = dict.fromkeys(sorted(found))
        return tuple(self._files[kind, ""])

    def _file(self, kind: str, name: str) -> Mapping[str, object]:
        key = (kind, name)
        if key not in self._files:
            merged: dict[str, object] = {}
            found = False
            for root in self.roots:
                path = root / kind / f"{name}.yaml"
                if exists(path) and path.is_file():
                    merged = _merge(merged, read_file(path))
                    found = True
            if not found:
                raise unknown(kind.removesuffix("s"), name, self.ids(kind))
            self._files[key] = merged
        return self._files[key]

    @property
    def sources(self) -> Mapping[str, Mapping[str, object]]:
        """Source id -> title, address, date, how it was read."""
        if self._sources is None:  # each fact that is parsed asks for it
            tables = (root / "sources.yaml" for root in self.roots)
            self._sources = {
                name: source for path in tables if path.is_file() for name, source in read_fact_table(path).items()
            }
        return self._sources

    def _node(self, path: str) -> object:
        parts = path.split(".")
        if parts[0] not in FACT_KINDS or len(parts) < 2:
            return None
        try:
            node: object = self._file(parts[0], parts[1])
        except UserError:
            return None
        for part in parts[2:]:
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node

    # facts
    # -------------------------------------------------------------------------------------------------------------
    def get(self, path: str) -> Fact | None:
        """The fact at a path, or None. A reference is followed: the fact returned carries the path that it stands
        at."""
        at = path
        for _ in range(MAX_REFERENCES):
            found = self._entry(at)
            if isinstance(found, Fact):
                return found
            if found is None:
                if at == path:
                    return None
                raise UserError("reference to a fact that does not exist", where=path, given=at)
            at = found
        raise UserError("references go round in a circle", where=path, given=at)

    def _entry(self, at: str) -> Fact | str | None:
        """What stands at a path: a fact, the path that it refers to, or None."""
        if self.ledger is not None:
            self.ledger.note(at)
        found: Fact | str | None = self.overrides.get(at)
        if found is not None:
            return found
        if at not in self._cache:
            node = self._node(at)
            if not is_leaf(node):
                self._cache[at] = None
            else:
                self._cache[at] = str(node["ref"]) if "ref" in node else parse_leaf(at, node, self.sources)
        found = self._cache[at]
        return self._of_capacity(found) if at.endswith(USABLE) and isinstance(found, Fact) else found

    def _of_capacity(self, usable: Fact) -> Fact:
        """The usable bytes of a memory at its present capacity: the share of the capacity that a file states for them
        stays."""
        at = usable.path.removesuffix(USABLE) + CAPACITY
        if self.ledger is not None:
            self.ledger.note(at)
        if len(self.roots) == 1 and at not in self.overrides:
            return usable
        last = max(i for i, root in enumerate(self.roots) if is_leaf(Facts((root,), {}, {}, {})._node(usable.path)))
        now, stated = self.get(at), Facts(self.roots[: last + 1], {}, {}, {}).get(at)
        sizes = [fact.value for fact in (now, stated) if fact is not None and isinstance(fact.value, float)]
        if now is None or stated is None or len(sizes) < 2 or sizes[0] == sizes[1]:
            return usable
        value, low, high = (
            fields.usable_share(x, sizes[1], sizes[0]) * sizes[0] if isinstance(x, float) else None
            for x in (usable.value, usable.low, usable.high)
        )
        if value is not None and high is not None:  # a range may hold other capacities than the one that is given
            high = min(high, max(value, now.high or sizes[0]))
        return replace(
            usable,
            value=value,
            low=low,
            high=high,
            grade="D" if usable.grade == "D" else "C",
            formula=f"{usable.shown} of {stated.shown}, and the same share of {now.shown}",
            shown="" if value is None else show(value, "B"),
            shown_range="" if low is None or high is None else f"{show(low, 'B')} .. {show(high, 'B')}",
        )

    def fact(self, path: str) -> Fact:
        """The fact at a path. Raises UserError, with the nearest path, when there is none."""
        found = self.get(path)
        if found is None:
            raise self._missing(path)
        return found

    def _missing(self, path: str) -> UserError:
        parts = path.split(".")
        if parts[0] not in FACT_KINDS:
            return unknown("kind of fact", parts[0], FACT_KINDS, where=path)
        if len(parts) < 2 or parts[1] not in self.ids(parts[0]):
            return unknown(
                parts[0].removesuffix("s"), parts[1] if len(parts) > 1 else "", self.ids(parts[0]), where=path
            )
        known = [p for p, _ in leaves(self._file(parts[0], parts[1]), f"{parts[0]}.{parts[1]}")]
        return UserError(
            f"unknown fact '{path}'",
            fix=did_you_mean(path, known) or f"mowich facts show {parts[1]} lists what there is",
        )

    def number(self, path: str) -> float:
        """SI value of a fact. Raises UserError when it is unknown, with the reason, or not a number."""
        fact = self.fact(path)
        if fact.value is None:
            raise UserError(
                f"{path} is unknown ({fact.reason or 'no source of ours states it'})",
                fix=f'give your own with --set {path}="..."',
            )
        if isinstance(fact.value, str):
            raise UserError(f"{path} is text, not a number", given=fact.value)
        return fact.value

    def text(self, path: str) -> str:
        """Words of a text fact."""
        return str(self.fact(path).value)

    def children(self, prefix: str) -> tuple[str, ...]:
        """Names one level below a path, in file order (identity keys left out)."""
        node = self._node(prefix)
        if not isinstance(node, Mapping):
            raise self._missing(prefix)
        return tuple(str(k) for k in node if len(prefix.split(".")) > 2 or k not in IDENTITY_KEYS)

    def paths(self, prefix: str) -> tuple[str, ...]:
        """Paths of all facts under a prefix such as "chips.trainium3" or "chips.trainium3.memory", in file order."""
        node = self._node(prefix)
        if is_leaf(node):
            return (prefix,)
        return tuple(p for p, _ in leaves(node, prefix)) if isinstance(node, Mapping) else ()

    def leaf(self, path: str) -> Mapping[str, object]:
        """A fact as it is written, before parsing; empty where there is no fact."""
        node = self._node(path)
        return node if isinstance(node, Mapping) and is_leaf(node) else {}

    def meta(self, kind: str, name: str) -> Mapping[str, object]:
        """Identity keys of a file: id, name, vendor, chip, family, display."""
        return {k: v for k, v in self._file(kind, name).items() if k in IDENTITY_KEYS}

    def words(self, path: str) -> Mapping[str, str]:
        """Plain texts of a group that are no facts: the title and the topic of a claim."""
        node = self._node(path)
        return {k: v for k, v in node.items() if isinstance(v, str)} if isinstance(node, Mapping) else {}

    def group(self, path: str) -> Mapping[str, object]:
        """A group as its files have it; empty where there is none."""
        node = self._node(path)
        return node if isinstance(node, Mapping) else {}

    # names
    # -------------------------------------------------------------------------------------------------------------
    def aliases(self) -> Mapping[str, SystemNames]:
        """Canonical system id -> the names that a system goes by. Overlays add names."""
        merged: dict[str, SystemNames] = {}
        for root in self.roots:
            path = root / "aliases.yaml"
            for system, entry in read_fact_table(path).items() if path.is_file() else ():
                old = merged.get(system, SystemNames())
                merged[system] = SystemNames(
                    display=old.display if "display" not in entry else str(entry["display"]),
                    chip=old.chip if "chip" not in entry else str(entry["chip"]),
                    aliases=(*old.aliases, *_listed(path, system, entry, "aliases")),
                    in_data=(*old.in_data, *_listed(path, system, entry, "in_data")),
                )
        return merged

    def instances(self) -> Mapping[str, Instance]:
        """Name in small letters -> the instance that a cloud rents under it."""
        return self.once("instances", lambda facts: {one.name.casefold(): one for one in facts._rented()})

    def _rented(self) -> Iterator[Instance]:
        for system in self.ids("systems"):
            root = f"systems.{system}"
            name = self.get(f"{root}.rented.instance")
            found = [] if name is None or name.value is None else [(str(name.value), f"{root}.rented.chips")]
            others = self._node(f"{root}.also_rented")
            found += [(instance_name(k), f"{root}.also_rented.{k}") for k in others] if isinstance(others, dict) else []
            for one, path in found:
                chips = self.fact(path)
                count = None if chips.value is None else round(self.number(path))
                yield Instance(name=one, system=system, chips=count, why=chips.reason or "", path=path)

    def instance(self, name: str) -> Instance | None:
        """The instance that a name is of; None where it is a name of a system. Raises as `resolve_system`."""
        return self._named(name)[1]

    def resolve_system(self, name: str) -> str:
        """Any name of a system -> its canonical id: "trn3" -> "trn3-gen2", "NVIDIA H100 SXM5 80GB" -> "h100". Raises
        UserError with the nearest name and the list, and for a name of several systems."""
        return self._named(name)[0]

    def _named(self, name: str) -> tuple[str, Instance | None]:
        return self.once(
            ("system", name),
            lambda facts: named_system(
                name,
                facts.aliases(),
                facts.ids("systems"),
                facts.instances,
                lambda system: bool(facts._node(f"systems.{system}.levels")),
            ),
        )

    # overrides
    # ---------------------------------------------------------------------------------------------------------
    def with_values(self, values: Mapping[str, float | str | Fact]) -> Facts:
        """A view in which some facts have other values (SI floats, words, or whole facts). A float becomes a fact
        without range, grade "user".

        Raises UserError for a path without a fact, and for what the field cannot hold: the same checks as `--set` and
        `--facts`. With another `hbm_capacity` the same share of it is usable; more `hbm_usable` than capacity is
        refused."""
        overrides, known = dict(self.overrides), self.silent()
        for path, value in values.items():
            if isinstance(value, Fact):
                with placed(path):
                    check_fact(path, value, known_unit(known, path))
                overrides[path] = value
            else:
                old = known.fact(path)
                is_word = isinstance(value, str)
                if is_word != (old.unit == "text"):
                    raise UserError("a fact that is text takes words, another a number", where=path, given=value)
                new = value if isinstance(value, str) else _as_float(path, value)
                if isinstance(new, float):
                    with placed(path):
                        for at in dict.fromkeys((path, old.path)):
                            fields.check_value(at, new, old.unit)
                overrides[old.path] = replace(
                    old,
                    value=new,
                    low=None,
                    high=None,
                    grade="user",
                    reason=None,
                    source=None,
                    title="set by the user",
                    locator=None,
                    shown=new if isinstance(new, str) else show(new, old.unit),
                    shown_range="",
                )
        view = Facts(self.roots, self._files, self._cache, overrides, self.ledger)
        changed = [path for path, fact in overrides.items() if self.overrides.get(path) is not fact]
        view._origin = (self, frozenset(changed))
        for path in values:
            if path.endswith((USABLE, CAPACITY)):
                with placed(path):
                    view.silent().check_memory(path.rpartition(".")[0])
        return view

    def found(self, paths: Iterable[str]) -> dict[str, Fact]:
        """The facts at some paths, by the paths at which they stand, in order; of a path without a fact none."""
        return {fact.path: fact for path in paths if (fact := self.get(path)) is not None}

    def silent(self) -> Facts:
        """These facts without a ledger: what is set, told or printed is not read thereby."""
        view = Facts(self.roots, self._files, self._cache, self.overrides)
        view._origin = (self, frozenset())
        return view

    def check_memory(self, memory: str) -> None:
        """Raise UserError, without a place, where more of a memory could be used than there is at the most. memory:
        "chips.trainium3.memory"."""
        has, usable = self.get(memory + CAPACITY), self.get(memory + USABLE)
        if has is not None and usable is not None and isinstance(has.value, float) and isinstance(usable.value, float):
            most = has.value if has.high is None else has.high
            fields.check_memory(most, usable.value if usable.low is None else usable.low)

    def with_root(self, root: Path) -> Facts:
        """These facts with one more directory laid over them, unchecked."""
        return Facts((*self.roots, root), {}, {}, self.overrides)

    def heard(self, said: Iterable[str] = (), limit: FreshnessLimit | None = None) -> Facts:
        """These facts for one question that gave `said` of them, with a ledger of what its answer reads. It is empty;
        who watches these facts sees what is read through those. limit: which of them the question calls old."""
        before = self.ledger or Ledger()
        out = Watched(self._bare(), Ledger(dict.fromkeys((*before.said, *said)), (), limit or before.limit))
        before.note(out.ledger)
        return out

    def heard_again(self) -> Facts:
        """These facts for one more answer to the question that was read with them: its ledger begins with what was read
        with the question, and nobody else sees it."""
        known = self.ledger
        return self if known is None else Watched(self._bare(), Ledger(known.said, known.asked, known.limit))

    def _bare(self) -> Facts:
        """The facts below a ledger."""
        return self

    def without(self, path: str) -> Facts | None:
        """These facts as if the user had not given the one at a path, with no ledger; None where none ships there."""
        rest = {at: fact for at, fact in self.overrides.items() if at != path}
        if len(rest) == len(self.overrides):
            shipped = Facts(self.roots[:1], {}, {}, {}).get(path)
            if shipped is None:
                return None
            rest[path] = shipped
        view = Facts(self.roots, self._files, self._cache, rest)
        view._origin = (self, frozenset((path,)))
        return view

    def hash(self) -> str:
        """12 hex digits over every fact file, overlay and override: the same digits mean the same facts."""
        digest = _content(self.roots).copy()
        for path_, fact in sorted(self.overrides.items()):
            digest.update(json.dumps([path_, fact.value, fact.low, fact.high]).encode())
        return str(digest.hexdigest()[:12])


class Watched(Facts):
    """The same facts with a ledger of their own: what a number rests on is what its making has read."""

    __slots__ = ("_facts",)

    ledger: Ledger

    def __init__(self, facts: Facts, ledger: Ledger | None = None) -> None:
        super().__init__(facts.roots, facts._files, facts._cache, facts.overrides, ledger or Ledger())
        self._facts = facts

    def __reduce__(self) -> tuple[object, ...]:
        return Watched, (self._facts, self.ledger)

    def _bare(self) -> Facts:
        return self._facts

    @property
    def asked(self) -> Mapping[str, None]:
        """The paths that were asked for, in order, with or without a fact."""
        return self.ledger.asked

    @property
    def read(self) -> Mapping[str, Fact]:
        """The facts that were asked for, by the paths at which they stand, in order."""
        return self.silent().found(self.ledger.asked)

    def get(self, path: str) -> Fact | None:
        found = self.overrides.get(path) or self._cache.get(path, "")
        if found is None or (isinstance(found, Fact) and not path.endswith(USABLE)):  # no reference to follow
            self.ledger.note(path)
            return found
        return super().get(path)

    def _make(self, key: Hashable, make: Callable[[Facts], object], ledger: Ledger | None, most: int | None) -> _Made:
        return self._facts._make(key, make, ledger, most)

    def _known(self, key: Hashable) -> _Made | None:
        return self._facts._known(key)


_P = ParamSpec("_P")


def once_for(most: int) -> Callable[[Callable[Concatenate[Facts, _P], T]], Callable[Concatenate[Facts, _P], T]]:
    """Decorates a function of facts and of what can be a key: made once (`Facts.once`), the newest `most` are kept. In
    place of `lru_cache`, which does not know what was read."""

    def of(make: Callable[Concatenate[Facts, _P], T]) -> Callable[Concatenate[Facts, _P], T]:
        @wraps(make)
        def kept(facts: Facts, /, *args: _P.args, **named: _P.kwargs) -> T:
            key = (make, *args, *sorted(named.items()))
            return facts.once(key, lambda known: make(known, *args, **named), most=most)

        return kept

    return of


def _content(roots: tuple[Path, ...]) -> hashlib._Hash:
    """A digest of every fact file of these directories, read once for each content of a user's file."""
    own = [path for root in roots if root != shipped_folder() for path in fact_files(root)]
    return _digest(roots, tuple(map(_stamp, own)))


@lru_cache(maxsize=64)
def _digest(roots: tuple[Path, ...], stamps: tuple[Stamp, ...]) -> hashlib._Hash:
    digest = hashlib.sha256()
    for root in roots:
        files = (
            [path.relative_to(root).parts for path in fact_files(root)] if root != shipped_folder() else _below(root)
        )
        for parts in files:
            digest.update("/".join(parts).encode())
            with open(os.path.join(root, *parts), "rb", buffering=0) as file:
                digest.update(file.read())
    return digest


def _below(root: Path) -> list[tuple[str, ...]]:
    """The YAML files below a directory, sorted, as parts of their paths. Without `Path.rglob`, which takes as long as
    reading them."""
    found = []
    for folder, _, names in os.walk(root):
        parts = Path(folder).relative_to(root).parts
        found += [(*parts, name) for name in names if name.endswith(".yaml")]
    return sorted(found)


def fact_files(root: Path) -> list[Path]:
    """The files of a directory laid over the facts, sorted: those that are read."""
    tables = [root / name for name in FACT_TABLES if (root / name).is_file()]
    return sorted([*tables, *(path for kind in FACT_KINDS for path in (root / kind).glob("*.yaml"))])


def _as_float(path: str, value: float) -> float:
    """A number that was set. Raises UserError for a truth value, and for anything else that is not a number."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise UserError("not a number", where=path, given=value)
    try:
        return float(value)
    except OverflowError:
        raise UserError("not a finite number", where=path, given=str(value)[:40]) from None


def _merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Overlay: groups merge, leaves and plain keys replace."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not is_leaf(old) and not is_leaf(value):
            out[key] = _merge(old, value)
        else:
            out[key] = value
    return out


def known_unit(base: Facts | None, path: str) -> str | None:
    """The SI unit of the fact at a path; None where there is none, or where it is unknown and says no unit."""
    fact = None if base is None else base.get(path)
    return None if fact is None or fact.unit == "text" or (fact.value is None and not fact.unit) else fact.unit
