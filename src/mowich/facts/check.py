"""The rules that every shipped fact keeps, beyond the schema of one leaf: where it comes from, how sure it is, that
nothing dangles.

`audit` is what `mowich facts check` adds for the facts that ship. A user's overlay need not cite sources:
`overlay_names` only asks that its new files, systems and fields bear names that something reads. Problems are listed
all at once, each with file:line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mowich.errors import UserError, did_you_mean, unknown
from mowich.facts import entries, freshness
from mowich.facts.claim_check import unknown_inputs
from mowich.facts.load import FACT_KINDS, Facts, known_unit, read_file
from mowich.facts.names import SystemNames
from mowich.facts.schema import SOFTWARE_STATUSES, Fact, check_fact, leaves
from mowich.facts.unread import file_problems
from mowich.files import line_of
from mowich.units import show

CHIP_FIELDS = (
    *(f"peak_dense.{precision}" for precision in ("bf16", "fp8", "mxfp8", "nvfp4", "mxfp4")),
    "memory.hbm_capacity",
    "memory.hbm_usable",
    "memory.hbm_bandwidth",
    "scale_out.bandwidth_per_direction",
    "power.tdp",
    "power.all_in",
    "devices_per_chip",
)
"""What the cost model may ask of a chip: each chip of a system has it, null with a reason where nothing is known."""

FASTER = (("mxfp4", "fp4"), ("mxfp8", "fp8"), ("bf16",), ("tf32",), ("fp32",))
"""Formats of a peak, the fewest bits first: no chip is faster with more of them. Those side by side may differ."""

SYSTEM_FIELDS = ("chips_per_unit", "chips_per_server", "max_chips")
ALIAS_KEYS = ("display", "chip", "aliases", "in_data")
_SOFTWARE: Mapping[str, str] = {"training": "speed", "serving": "step"}
"""Kind of facts -> the field that a file of software has, and a file of a family of chips has not."""
SOFTWARE_FIELDS = ("version", "released")
"""What each training stack and serving engine says of itself: which releases its constants are of, and when those were
out or measured; null with a reason where nothing is known."""
RELEASED = re.compile(r"\d{4}(-\d{2}){0,2}( to \d{4}(-\d{2}){0,2})?")
"""A date of `released`, or the first and the last."""
LEVEL_FIELDS = ("kind", "bandwidth", "latency")
LEVEL_KINDS = ("switch", "ring", "torus2d", "torus3d", "mesh", "links", "network")
_OWN = "mowich-"
"""Sources that are our own arithmetic: the formula or reason says what a locator would."""

FITTED = ("devices.", "training.", "serving.", "rl.frameworks.", "rl.constants.", "rl.sync.")
"""Fitted constants: the value is the end of the fit and the range is what other fits gave, so the rule of the mean does
not hold there."""

MEAN_TOLERANCE = 0.02
"""How far the value of an estimate may lie from the geometric mean of its range before its reason has to say why
(rounding)."""


def check_files(root: Path, known: Facts | None = None, *, is_overlay: bool = False) -> list[UserError]:
    """Every problem of a directory of fact files, with file:line: of each file by itself, and of what the files are to
    one another. Facts that ship are audited once each file is right by itself."""
    problems = file_problems(root, known, is_overlay=is_overlay)
    if known and root.is_dir() and (is_overlay or not problems):
        try:
            problems += overlay_names(root, known) if is_overlay else audit(root, known)
        except UserError:  # a fact that cannot be read, already said with its line
            if not problems:
                raise
    return problems


def audit(root: Path, facts: Facts) -> list[UserError]:
    """Every problem of the facts in `root`, which `facts` reads: of single facts, then, where those are right, of what
    they are to one another, then of names and sources."""
    cited: set[str] = set()
    problems = list(_wrong_leaves(root, facts, cited))
    if not problems:
        problems += _wrong_together(root, facts)
    problems += [UserError(what, where=str(root / "aliases.yaml")) for what in _alias_problems(facts)]
    problems += _wrong_sources(root, facts, cited)
    return problems


def _wrong_leaves(root: Path, facts: Facts, cited: set[str]) -> Iterator[UserError]:
    """Problems of single facts, in order of file and line. cited: gets the source of each."""
    for kind in FACT_KINDS:
        for name in facts.ids(kind):
            file = root / kind / f"{name}.yaml"
            for path in facts.paths(f"{kind}.{name}"):
                leaf = facts.leaf(path)
                cited.add(str(leaf.get("source")))
                for what in _leaf_problems(path, leaf, facts):
                    yield UserError(what, where=_place(file, path))


def _wrong_together(root: Path, facts: Facts) -> Iterator[UserError]:
    """Problems of claims, systems, chips and software whose facts are each right by themselves."""
    for path, what in entries.claim_problems(facts):
        yield UserError(what, where=_place(root / "claims" / f"{path.split('.')[1]}.yaml", path))
    yield from _wrong_inputs(root, facts)
    yield from _wrong_peaks(root, facts)
    for system in facts.aliases():
        where = str(root / "systems" / f"{system}.yaml")
        yield from (UserError(what, where=where) for what in _system_problems(system, facts))
    for chip in facts.ids("chips"):
        try:
            facts.check_memory(f"chips.{chip}.memory")
        except UserError as error:
            yield UserError(f"memory.{error.line()}", where=str(root / "chips" / f"{chip}.yaml"))
        default = facts.get(f"chips.{chip}.training_stack")
        if default is not None and default.value not in facts.ids("training"):
            what = f"training_stack is '{default.value}', which is no stack"
            yield UserError(what, where=str(root / "chips" / f"{chip}.yaml"))
    for kind, field in _SOFTWARE.items():
        for name in facts.ids(kind):
            if facts.get(f"{kind}.{name}.{field}") is not None:
                where = str(root / kind / f"{name}.yaml")
                yield from (UserError(what, where=where) for what in _software_problems(f"{kind}.{name}", facts))


def _wrong_peaks(root: Path, facts: Facts) -> Iterator[UserError]:
    """Peaks of the chips in a folder that are above one of fewer bits, which is a mistake of one of the two."""
    for file in sorted((root / "chips").glob("*.yaml")):
        at = f"chips.{file.stem}.peak_dense"
        found = [(k, name, facts.get(f"{at}.{name}")) for k, names in enumerate(FASTER) for name in names]
        peaks = [(k, name, fact.value) for k, name, fact in found if fact and isinstance(fact.value, float)]
        for k, name, peak in peaks:
            least, other = min(((p, n) for fewer, n, p in peaks if fewer < k), default=(math.inf, ""))
            if peak > least:
                yield UserError(
                    f"is above the peak of {other}, which has fewer bits",
                    where=_place(file, f"{at}.{name}"),
                    given=show(peak, "FLOP/s"),
                    allowed=f"up to {show(least, 'FLOP/s')}",
                    fix=f"state the peak of {other} too",
                )


def _wrong_inputs(root: Path, facts: Facts) -> Iterator[UserError]:
    """Paths of the checks of claims that are no facts, of the files in a folder."""
    for error in unknown_inputs(facts):
        file = root / "claims" / f"{str(error.where).split('.')[1]}.yaml"
        if file.is_file():
            error.where = _place(file, str(error.where))
            yield error


def _wrong_sources(root: Path, facts: Facts, cited: set[str]) -> Iterator[UserError]:
    """Sources without the day on which they were read, and sources that no fact cites."""
    file = root / "sources.yaml"
    for name, entry in facts.sources.items():
        if freshness.read_day(entry.get("looked")) is None:
            what = f"source '{name}' does not say on which day it was last looked at"
            yield UserError(what, where=f"{file}:{line_of(file, [name])}")
    for orphan in sorted(set(facts.sources) - cited):
        yield UserError(f"source '{orphan}' is cited by no fact", where=str(file))


def overlay_names(root: Path, base: Facts) -> list[UserError]:
    """Names in a user's directory that nothing would read: fields that no chip or system has, systems without a
    file."""
    whole = base.with_root(root)
    problems = [*_unknown_fields(root, base), *_unknown_systems(root, base), *_wrong_references(root, base, whole)]
    if (root / "claims").is_dir():
        problems += _wrong_inputs(root, whole)
    for path in sorted((root / "chips").glob("*.yaml")):
        try:
            whole.check_memory(f"chips.{path.stem}.memory")
        except UserError as error:
            if error.where is not None:  # a fact that cannot be read, already said with its line
                continue
            where = f"{path}:{line_of(path, ['memory', 'hbm_usable'])} memory.hbm_usable"
            problems.append(UserError(error.what, where=where, given=error.given, fix=error.fix))
    for path in sorted((root / "systems").glob("*.yaml")):
        if path.stem not in base.ids("systems"):
            problems += [UserError(what, where=str(path)) for what in _system_problems(path.stem, whole)]
    return problems


def _unknown_fields(root: Path, base: Facts) -> Iterator[UserError]:
    """Fields of new chips and systems that no shipped one has."""
    for kind in ("chips", "systems"):
        shipped = base.ids(kind)
        known = sorted({field_name(p) for name in shipped for p in base.paths(f"{kind}.{name}")})
        for path in sorted((root / kind).glob("*.yaml")):
            for leaf, _ in () if path.stem in shipped else leaves(_read(path), f"{kind}.{path.stem}"):
                if field_name(leaf) not in known:
                    yield UserError(
                        f"unknown field '{field_name(leaf)}'",
                        where=_place(path, leaf),
                        fix=did_you_mean(field_name(leaf), known)
                        or f"mowich facts show {shipped[0]} lists those of another",
                    )


def _unknown_systems(root: Path, base: Facts) -> Iterator[UserError]:
    """Names in prices and aliases that no system has, and keys of aliases that no alias may have."""
    systems = sorted({*base.ids("systems"), *(p.stem for p in (root / "systems").glob("*.yaml"))})
    prices = root / "prices" / "user.yaml"
    for name, leaf in _read(prices).items():
        if isinstance(leaf, Mapping) and name not in systems:
            yield unknown("system", str(name), systems, where=f"{prices}:{line_of(prices, [str(name)])}")
    aliases = root / "aliases.yaml"
    for name, entry in _read(aliases).items():
        if name not in systems:
            yield unknown("system", str(name), systems, where=f"{aliases}:{line_of(aliases, [str(name)])}")
        for key in entry if isinstance(entry, Mapping) else ():
            if key not in ALIAS_KEYS:
                where = f"{aliases}:{line_of(aliases, [str(name), str(key)])}"
                yield unknown("key", str(key), ALIAS_KEYS, where=where)


def _wrong_references(root: Path, base: Facts, whole: Facts) -> Iterator[UserError]:
    """References to facts of another unit, or outside the bounds of their field."""
    for kind in FACT_KINDS:
        for path in sorted((root / kind).glob("*.yaml")):
            for leaf, node in leaves(_read(path), f"{kind}.{path.stem}"):
                try:
                    if "ref" in node and (fact := whole.get(leaf)) is not None:
                        check_fact(leaf, fact, known_unit(base, leaf))
                except UserError as error:
                    if error.where not in (None, leaf):  # what it refers to cannot be read, already said with its line
                        continue
                    yield UserError(
                        error.what,
                        where=_place(path, leaf),
                        given=error.given,
                        allowed=error.allowed,
                        fix=error.fix,
                    )


def _place(path: Path, leaf: str) -> str:
    """file:line and the key in it."""
    keys = leaf.split(".")[2:]
    return f"{path}:{line_of(path, keys)} {'.'.join(keys)}"


def field_name(path: str) -> str:
    """A path without its kind, id and name of level or instance: what two chips or two systems have in common."""
    keys = path.split(".")[2:]
    return ".".join([keys[0], "*", *keys[2:]] if keys[0] in ("levels", "also_rented") else keys)


def _read(path: Path) -> Mapping[str, object]:
    """A file as mappings; empty where it is missing or broken (then the schema check reports it)."""
    try:
        return read_file(path) if path.is_file() else {}
    except UserError:
        return {}


def _leaf_problems(path: str, leaf: Mapping[str, object], facts: Facts) -> Iterator[str]:
    """What is wrong with one leaf that parses."""
    if "ref" in leaf:
        if not facts.leaf(str(leaf["ref"])):
            yield f"refers to '{leaf['ref']}', which does not exist"
            return
        try:
            check_fact(path, facts.fact(path))
        except UserError as error:
            yield f"refers to '{leaf['ref']}': {error.line()}"
        return
    if "text" not in leaf and leaf["value"] is None:
        if not leaf.get("reason"):
            yield "unknown, without a reason"
        return
    source = leaf.get("source")
    for key in ("source", "locator", "date", "grade"):
        if not leaf.get(key) and not (key == "locator" and str(source).startswith(_OWN)):
            yield f"has no {key}"
    if source and source not in facts.sources:
        yield f"cites '{source}', which sources.yaml does not list"
    yield from _grade_problems(path, leaf, facts.fact(path))


def _grade_problems(path: str, leaf: Mapping[str, object], fact: Fact) -> Iterator[str]:
    """What a number of grade C or D must state and does not."""
    says = " ".join(str(leaf.get(key) or "") for key in ("formula", "reason", "note"))
    if not isinstance(fact.value, float):
        return
    if fact.grade == "C" and not says.strip():
        yield "is derived (grade C) without a formula, a reason or a note"
    if fact.grade == "D":
        if not leaf.get("reason"):
            yield "is an estimate (grade D) without a reason"
        if fact.low is None or fact.high is None:
            yield "is an estimate (grade D) without a range"
        elif fact.low > 0 and not path.startswith(FITTED) and not re.search(r"\bvalue (is|=)", says):
            mean = math.sqrt(fact.low * fact.high)
            if abs(math.log(fact.value / mean)) > MEAN_TOLERANCE:
                yield f"is {fact.shown}, not the geometric mean of its range, and no word says why its value is another"


def _readable(facts: Facts, path: str) -> Fact | None:
    """The fact at a path; None where there is no fact, or where it cannot be read (which another line tells)."""
    try:
        return facts.get(path)
    except UserError:
        return None


def _is_there(facts: Facts, path: str) -> bool:
    """Whether a fact is written at a path, right or wrong."""
    return _readable(facts, path) is not None or bool(facts.leaf(path))


def _system_problems(system: str, facts: Facts) -> Iterator[str]:
    """Keys that the cost model reads and that a system or its chip lacks."""
    if system not in facts.ids("systems"):
        yield f"system '{system}' of aliases.yaml has no file"
        return
    chip = str(facts.meta("systems", system).get("chip"))
    if chip not in facts.ids("chips") or chip != (facts.aliases().get(system, SystemNames()).chip or chip):
        yield f"its chip '{chip}' has no file, or is not the one of aliases.yaml"
        return
    missing = [key for key in ("family", "vendor") if not facts.meta("chips", chip).get(key)]
    if missing or not facts.meta("systems", system).get("display"):
        yield f"the system needs a display name and its chip '{chip}' a family and a vendor"
    for wanted in (*(f"chips.{chip}.{f}" for f in CHIP_FIELDS), *(f"systems.{system}.{f}" for f in SYSTEM_FIELDS)):
        if not _is_there(facts, wanted):
            yield f"lacks {wanted}"
    yield from _level_problems(f"systems.{system}.levels", facts)


def _level_problems(levels_at: str, facts: Facts) -> Iterator[str]:
    """What the levels of a system lack, and whose kind or size cannot be. levels_at: their path."""
    levels = facts.children(levels_at) if facts.paths(levels_at) else ()
    if not levels or levels[-1] != "scale_out":
        yield "its last level is not scale_out"
    size = 0.0
    for at in (f"{levels_at}.{level}" for level in levels):
        for wanted in LEVEL_FIELDS:
            if not _is_there(facts, f"{at}.{wanted}"):
                yield f"lacks {at}.{wanted}"
        kind, chips = _readable(facts, f"{at}.kind"), _readable(facts, f"{at}.chips")
        if kind is not None and kind.value not in LEVEL_KINDS:
            yield f"{at}.kind is '{kind.value}', not one of {', '.join(LEVEL_KINDS)}"
        if chips is not None and isinstance(chips.value, float):
            if chips.value < size:
                yield f"{at}.chips is smaller than the level inside it"
            size = chips.value


def _software_problems(path: str, facts: Facts) -> Iterator[str]:
    """What a training stack or a serving engine does not say of its releases, or says in no form of a date; an engine
    written by hand that it names and that has no file."""
    for field in SOFTWARE_FIELDS:
        fact = facts.get(f"{path}.{field}")
        if fact is None:
            yield f"lacks {path}.{field}"
        elif fact.value is not None and not isinstance(fact.value, str):
            yield f"{path}.{field} is a number, not a text"
        elif field == "released" and fact.value is not None and not RELEASED.fullmatch(fact.value):
            yield f"{path}.released is '{fact.value}', not a date as 2026-06, or two as 2025-09 to 2026-06"
    status = facts.get(f"{path}.status")
    if status is not None and status.value not in SOFTWARE_STATUSES:
        yield f"{path}.status is '{status.value}', not one of {', '.join(SOFTWARE_STATUSES)}"
    if status is not None and facts.get(f"{path}.release") is None:
        yield f"lacks {path}.release, which {path}.status is of"
    if (status is not None and status.value == "ended") != (facts.get(f"{path}.ended") is not None):
        yield f"{path}.ended, the release and the day of the end, goes with the status 'ended'"
    for field in ("hand_tuned", "other_mixtures"):
        other = facts.get(f"{path}.{field}")
        if other is not None and other.value not in facts.ids("serving"):
            yield f"{path}.{field} is '{other.value}', which is no engine"


def _alias_problems(facts: Facts) -> Iterator[str]:
    """Names that two systems claim, or a system and an instance."""
    owner: dict[str, str] = {name: f"an instance of {one.system}" for name, one in facts.instances().items()}
    for system, entry in facts.aliases().items():
        names = {n.casefold() for n in (system, *entry.aliases, *entry.in_data)}
        for name in sorted(names):
            if owner.setdefault(name, system) != system:
                yield f"'{name}' names both {owner[name]} and {system}"
