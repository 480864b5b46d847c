"""What systems are called: ids, names that people and measured tables use, and instances that clouds rent.

An instance is a name with a count of chips ("p5en.48xlarge": 8 H200). Which there are stands in the files of systems:
`rented` is the one that plans leave as, `also_rented` holds others (chips of each; null where nobody says how many).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mowich.errors import UserError, did_you_mean, shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemNames:
    """What a system is called. chip: the chip that the names stand for; aliases: names that people use, in_data: names
    in measured tables."""

    display: str = ""
    chip: str = ""
    aliases: tuple[str, ...] = ()
    in_data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance that a cloud rents. name: as the cloud writes it; system: id of the machine that it is, or is a part
    of; chips: of one instance, None where nobody says; why: then the reason; path: of the fact of its chips."""

    name: str
    system: str
    chips: int | None
    why: str
    path: str


_SIZE = re.compile(r"-(\d*x?large|metal)$")


def instance_name(key: str) -> str:
    """The key of `also_rented` as the cloud writes it: paths of facts have no dots inside a name.

    >>> instance_name("p6e-gb300-36xlarge"), instance_name("tpu7x-standard-4t")
    ('p6e-gb300.36xlarge', 'tpu7x-standard-4t')
    """
    return _SIZE.sub(r".\1", key)


_FORM = re.compile(r"\b(nvidia|amd|instinct|google|aws|cloud|geforce|hgx|dgx|sxm\d?|hbm\d?e?)\b")
"""Words of a system's name that do not tell it from others of its vendor."""


def _bare(name: str) -> str:
    """The name without vendor and form: "nvidia h100-sxm5-80gb" -> "h100 80gb". What tells variants apart (PCIe, NVL,
    memory) stays."""
    words = re.sub(r"[-_\s]+", " ", name.casefold())
    return " ".join(_FORM.sub(" ", words).split())


def named_system(
    name: str,
    aliases: Mapping[str, SystemNames],
    systems: Sequence[str],
    instances: Callable[[], Mapping[str, Instance]],
    can_run: Callable[[str], bool],
) -> tuple[str, Instance | None]:
    """A name of a system -> its id, and the instance that it is a name of: "trn3" -> "trn3-gen2", "p5en.48xlarge" ->
    "h200", "NVIDIA H100 SXM5 80GB" -> "h100". instances: by name in small letters, asked for where no name of a system
    is meant; can_run: whether a system is a machine with levels.

    Raises UserError for a name of several systems, with all of them, and for an unknown one, with the nearest of its
    kind and the list."""
    if name in aliases:
        return name, None
    wanted = name.strip().casefold()
    names: dict[str, str] = {}
    for system, entry in aliases.items():
        for alias in (system, *entry.aliases, *entry.in_data):
            names.setdefault(alias.casefold(), system)
    for system in systems:
        names.setdefault(system.casefold(), system)
    if wanted in names:
        return names[wanted], None
    rented = instances()
    if wanted in rented:
        return rented[wanted].system, rented[wanted]
    bare = {_bare(alias): system for alias, system in reversed(names.items())}
    if _bare(wanted) in bare:
        return bare[_bare(wanted)], None
    everything = {**{one: instance.system for one, instance in rented.items()}, **names}
    several = _of_family(wanted, everything)
    if len(set(several.values())) > 1:
        raise UserError(f"'{name}' names several systems", allowed=_short_names(several))
    known = sorted(s for s in systems if can_run(s))
    close = near_name(wanted, everything, rented)
    raise UserError(f"unknown system '{shorten(name)}'", allowed=known, fix=close or "mowich facts list systems")


def _of_family(word: str, names: Mapping[str, str]) -> dict[str, str]:
    """Names of a family of instances: "p6" -> those that begin with p6, at most a letter more, and a sign."""
    if not re.fullmatch(r"[a-z]+\d+", word):
        return {}
    own = re.compile(re.escape(word) + r"[a-z]{0,2}([-.]|$)")
    return {name: system for name, system in names.items() if own.match(name)}


def _short_names(names: Mapping[str, str]) -> list[str]:
    """One name for each system, the shortest, with the system's id where that is another word."""
    best: dict[str, str] = {}
    for name in sorted(names, key=lambda n: (len(n), n)):
        best.setdefault(names[name], name)
    return [name if name == system else f"{name} ({system})" for system, name in sorted(best.items(), key=_second)]


def _second(pair: tuple[str, str]) -> str:
    return pair[1]


_INSTANCE = re.compile(r"[a-z]+\d+[a-z0-9-]*\.(\d*x)?[a-z]+")
"""A name that looks like an instance of AWS: p5en.48xlarge."""


def near_name(word: str, names: Mapping[str, str], rented: Mapping[str, Instance]) -> str | None:
    """`"did you mean 'x'?"` for the nearest name: one of the same family first ("p5..."), then one that begins with the
    same letters ("trn...", one vendor's). An instance is never another letter's instance; any other word may be near to
    every name."""
    start = re.match(r"([a-z]+)(\d*)", word)
    if start is None:
        return did_you_mean(word, names)
    letters, family = start[1], start[0]
    alike = [name for name in names if re.match(r"[a-z]*", name)[0] == letters]  # type: ignore[index]
    is_instance = _INSTANCE.match(word) is not None
    pool = [name for name in alike if name in rented] if is_instance else alike
    for group in ([name for name in pool if name.startswith(family)], pool):
        close = did_you_mean(word, group)
        if close:
            return close
    return None if is_instance else did_you_mean(word, [name for name in names if name not in rented])
