"""Schedulers of serving engines by release: their defaults, and the names of their options.

Defaults are facts (`facts/serving/schedulers.yaml`), names are in `facts/scheduler_options.yaml`, and
`serving.traffic.scheduling` has the rules. The plain loop plays an engine that is in neither file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypedDict

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.plans.launch_settings import setting_arguments

ReleaseNumbers = tuple[int, ...]
"""Numbers of a release."""


class FamilyEntry(TypedDict):
    """Engines with one scheduler."""

    name: str
    engines: list[str]
    not_taken: Mapping[str, str]
    source: str


class OptionWord(TypedDict("OptionFlags", {"not": bool}, total=False), total=False):
    """An engine's name of an option; see the head of the file."""

    word: str
    values: list[str]
    since: str
    before: str


class OptionEntry(TypedDict):
    """An option: its meaning, and family -> its name there."""

    about: str
    by: Mapping[str, OptionWord]


class OptionTable(TypedDict):
    """The file of words."""

    families: Mapping[str, FamilyEntry]
    options: Mapping[str, OptionEntry]


@cache
def option_table() -> OptionTable:
    """Engines, and their names of the options of a scheduler."""
    from mowich.facts.load import shipped_folder
    from mowich.files import shipped_yaml

    loaded: OptionTable = shipped_yaml(shipped_folder() / "scheduler_options.yaml")
    return loaded


def family_of(engine: str) -> str | None:
    """The family of an engine's scheduler; None: unknown.

    >>> family_of("vllm-rocm"), family_of("nxdi-port"), family_of("jax-tpu")
    ('vllm', 'nxdi', None)
    """
    families = option_table()["families"]
    return next((name for name, entry in families.items() if engine in entry["engines"]), None)


def release_numbers(words: str) -> ReleaseNumbers:
    """The first release that words name, as numbers; empty where they name none.

    >>> release_numbers("vLLM Neuron 0.29.0.1.2.0, Neuron 2.33.0"), release_numbers("0.11.2")
    ((0, 29, 0, 1, 2, 0), (0, 11, 2))
    """
    found = re.search(r"\d+(\.\d+)+", words)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineScheduler:
    """The scheduler of an engine at a release. family, name: whose; release: as asked, None: the newest; version: its
    numbers; path: of its facts; until: the numbers of the release that ends it, empty: the newest is of it."""

    family: str
    name: str
    release: str | None
    version: ReleaseNumbers
    path: str
    until: ReleaseNumbers = ()

    @property
    def words(self) -> dict[str, OptionWord]:
        """Option of a scenario -> this engine's name of it, for options of this release."""
        options = option_table()["options"]
        table = {key: entry["by"][self.family] for key, entry in options.items() if self.family in entry["by"]}
        return {key: entry for key, entry in table.items() if self.has(entry)}

    def has(self, entry: OptionWord) -> bool:
        """Whether this release has the word."""
        since, before = release_numbers(entry.get("since", "")), release_numbers(entry.get("before", ""))
        return self.version >= since and not (before and self.version >= before)

    def text(self, facts: Facts, what: str) -> str | None:
        """A default in words; None: as the loop has it."""
        return facts.text(f"{self.path}.{what}") if facts.get(f"{self.path}.{what}") is not None else None

    def number(self, facts: Facts, what: str) -> float | None:
        """A default that is a number; None: as the loop has it."""
        return facts.number(f"{self.path}.{what}") if facts.get(f"{self.path}.{what}") is not None else None


def release_ranges(facts: Facts, family: str) -> list[tuple[str, ReleaseNumbers]]:
    """(path, first release) of the ranges of releases of a family, oldest first."""
    begins = facts.paths(f"serving.schedulers.{family}")
    found = [path.removesuffix(".from") for path in begins if path.endswith(".from")]
    return sorted(((path, release_numbers(facts.text(f"{path}.from"))) for path in found), key=lambda one: one[1])


def newest_release_numbers(facts: Facts, engine: str) -> ReleaseNumbers:
    """The newest release of an engine, which plans use."""
    return release_numbers(facts.text(f"serving.{engine}.release"))


def scheduler_of(facts: Facts, engine: str, release: str | None = None) -> EngineScheduler | None:
    """The scheduler of an engine at a release (None: the newest); None where it is not known. Raises UserError for a
    release that facts do not reach.

    >>> from mowich.facts import load_facts
    >>> facts = load_facts()
    >>> [scheduler_of(facts, "vllm", release).text(facts, "admission") for release in ("0.7", "0.11", None)]
    ['prompt', 'chunk', 'prompt']
    """
    family = family_of(engine)
    if family is None:
        if release is not None:
            raise UserError(
                f"the releases of {engine} are not told apart",
                given=release,
                allowed=", ".join(e for entry in option_table()["families"].values() for e in entry["engines"]),
                fix="leave it out",
            )
        return None
    ranges, newest = release_ranges(facts, family), newest_release_numbers(facts, engine)
    version = newest if release is None else release_numbers(release)
    first = ranges[0][1]
    if not version or version < first or version > newest:
        shown = [".".join(map(str, one)) for one in (first, newest)]
        name = option_table()["families"][family]["name"]
        raise UserError(f"not a release of {name} that is known", given=release, allowed=f"{shown[0]} to {shown[1]}")
    path, until = next(
        (path, after)
        for (path, begin), (_, after) in reversed(list(itertools.pairwise([*ranges, ("", ())])))
        if begin <= version
    )
    name = option_table()["families"][family]["name"]
    return EngineScheduler(family=family, name=name, release=release, version=version, path=path, until=until)


def foreign_option(key: str, engine: str, own: EngineScheduler | None) -> UserError | None:
    """Why a known key is no option of an engine's scheduler: it belongs to another engine, to other releases, to the
    settings of a plan, or is not supported; None for a key that no engine has."""
    table = option_table()
    name = own.name if own else engine
    if own and (why := table["families"][own.family]["not_taken"].get(key)):
        return UserError(f"is not taken: {why}", given=key, fix="leave it out")
    launch = {
        _word(n): s for s, a in setting_arguments(own.family if own else engine).items() if (n := a.get("number"))
    }
    if key in launch:
        return UserError(f"is plan.{launch[key]}", given=key, fix=f"plan: {{{launch[key]}: ...}}")
    for option, entry in table["options"].items():
        if wrong := _of_other_words(key, option, entry["by"], engine, own):
            return wrong
    for other, family in table["families"].items():
        if key in family["not_taken"] and (own is None or other != own.family):
            return UserError(f"is an option of {family['name']}, not of {name}", given=key, fix="leave it out")
    return None


def _of_other_words(
    key: str, option: str, by: Mapping[str, OptionWord], engine: str, own: EngineScheduler | None
) -> UserError | None:
    """Why a key is not an option: other releases have it, or other engines call it so. by: family -> its word."""
    families = option_table()["families"]
    name, mine = (own.name, own.words) if own else (engine, {})
    has = by.get(own.family) if own else None
    if own and has and has["word"] == key:
        span = f"before {has['before']}" if "before" in has else f"since {has['since']}"
        asked = own.release or "the newest"
        return UserError(f"{name} has it {span} only", given=f"release {asked}", fix="another release")
    owners = [families[family]["name"] for family, word in by.items() if word["word"] == key]
    if not owners and not (key == option and own and option not in mine):
        return None
    said = f"is an option of {' and '.join(owners)}, not of {name}" if owners else f"{name} has no such option"
    ours = mine[option]["word"] if option in mine else ""
    fix = f"{name} calls it {ours}" if ours else f"leave it out: {name} has nothing like it"
    return UserError(said, given=key, allowed=_listed(mine), fix=fix)


def _listed(mine: Mapping[str, OptionWord]) -> str:
    """The options of an engine, in its words."""
    return ", ".join(entry["word"] for entry in mine.values()) or "the common ones"


def _word(argument: str) -> str:
    """An argument as a key of a scenario: "--scheduler-recv-interval" -> "scheduler_recv_interval"."""
    return argument.lstrip("-").replace("-", "_").rsplit(".", 1)[-1]
