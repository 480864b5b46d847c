"""Facts that nobody has looked at for long (`mowich facts check --stale`)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from mowich.facts import Facts, load_facts
from mowich.facts.freshness import last_looks
from mowich.facts.schema import FreshnessLimit, LastLook
from mowich.requests.known import CheckRequest
from mowich.shown import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness(Shown):
    """stale: facts whose last look is older than `older_than_s` on the day `as_of`, or of which no source says a day,
    the oldest first; facts: how many there are in all; newest, oldest: ages in days of all that have one.

    Units: days; seconds where a name ends in _s.

    Example:
        >>> import mowich
        >>> mowich.stale_facts("90d", as_of="2026-12-01").stale
        ()
    """

    SCHEMA = "mowich/facts-stale@1"
    KEYS = (
        "facts_hash inputs.older_than_s=older_than_s inputs.as_of=as_of facts newest_days=newest "
        "oldest_days=oldest rows=stale"
    )

    older_than_s: float
    as_of: datetime.date
    facts: int
    newest: int | None
    oldest: int | None
    stale: tuple[LastLook, ...]
    facts_hash: str


def find_stale(asked: CheckRequest, facts: Facts | None = None) -> Staleness:
    """The facts whose last look is older than is asked. facts: None: those that ship, with the user's."""
    facts, older_than_s = facts or load_facts(asked.dirs), asked.stale_s or 0.0
    as_of = asked.as_of or datetime.date.today()
    found = last_looks(facts, as_of)
    ages = [one.age_days for one in found if one.age_days is not None]
    return Staleness(
        older_than_s=older_than_s,
        as_of=as_of,
        facts=len(found),
        newest=min(ages, default=None),
        oldest=max(ages, default=None),
        stale=FreshnessLimit(older_than_s=older_than_s, as_of=as_of).old(found),
        facts_hash=facts.hash(),
    )
