"""When somebody last looked at what a fact says, and what to look for now.

A fact was last confirmed on the day on which its source was last looked at (`looked` in sources.yaml), or on a later
day that it says itself (`confirmed`). What comes from our own fits and estimates (sources `mowich-...`) was last gone
through on its own date. What is unknown was last searched for when the estimates were last gone through, unless it
says a day.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from mowich.facts.load import FACT_KINDS, Facts
from mowich.facts.schema import LastLook

OWN_WORK = "mowich-"
"""Beginning of the names of sources that are our own work."""
SEARCHES = "mowich-estimates"
"""The source whose last look is that of every search that found nothing."""
_USERS = "prices.user."
"""Facts that are the user's to give: nobody looks for them."""


def last_looks(facts: Facts, as_of: datetime.date, among: Iterable[str] | None = None) -> list[LastLook]:
    """The last look at every fact, the oldest first (those without a day before all). References are not listed: the
    fact that they name is. among: at these facts alone, but for those that were set."""
    sources, paths = facts.sources, None if among is None else set(among) - facts.overrides.keys()
    files = [(kind, name) for kind in FACT_KINDS for name in facts.ids(kind)]
    if paths is not None:
        own = {tuple(path.split(".")[:2]) for path in paths}
        files = [file for file in files if file in own]
    found = [one for kind, name in files for one in _of_file(facts, kind, name, sources)]
    dated = [_aged(one, as_of) for one in found if paths is None or one.path in paths]
    return sorted(dated, key=lambda one: (one.age_days is not None, -(one.age_days or 0), one.path))


def _aged(look: LastLook, as_of: datetime.date) -> LastLook:
    if look.confirmed is None:
        return look
    return replace(look, age_days=(as_of - look.confirmed).days)


def confirmed_on(leaf: Mapping[str, object], sources: Mapping[str, Mapping[str, object]]) -> datetime.date | None:
    """The day on which a fact was last confirmed; None where neither it nor its source says one."""
    source = str(leaf.get("source") or (SEARCHES if leaf.get("value", "") is None else ""))
    days = [read_day(leaf.get("confirmed")), read_day(sources.get(source, {}).get("looked"))]
    if source.startswith(OWN_WORK) or source not in sources:  # our own work, or the user's: it has its own date
        days = [days[0], read_day(leaf.get("date")) or days[1]]
    return max((day for day in days if day is not None), default=None)


def read_day(value: object) -> datetime.date | None:
    """A day as YAML or a text gives it; None for a month, a year and other words."""
    if isinstance(value, datetime.date):
        return value
    text = str(value or "").strip()
    return datetime.date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None


def _of_file(facts: Facts, kind: str, name: str, sources: Mapping[str, Mapping[str, object]]) -> Iterator[LastLook]:
    meta = facts.meta(kind, name)
    thing = str(meta.get("name") or meta.get("display") or name)
    for path in facts.paths(f"{kind}.{name}"):
        leaf = facts.leaf(path)
        if "ref" in leaf or path.startswith(_USERS):
            continue
        source = str(leaf.get("source") or "")
        entry = sources.get(source, {})
        value = leaf.get("text", leaf.get("value"))
        yield LastLook(
            path=path,
            value="?" if value is None else str(value),
            confirmed=confirmed_on(leaf, sources),
            age_days=None,
            source=source,
            title=str(entry.get("title", "")),
            host=urlsplit(str(entry.get("address", ""))).hostname or "",
            search=_search(thing, path),
        )


def _search(thing: str, path: str) -> str:
    """Words to search for: what it is of, and the last two names of its path."""
    field = " ".join(path.split(".")[2:][-2:]).replace("_", " ").replace("-", " ")
    bare = re.sub(r"[(),;:]", " ", thing)
    return " ".join(dict.fromkeys(f"{bare} {field}".split()))
