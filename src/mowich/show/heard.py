"""What an answer says of facts that were given and changed nothing, and of those that are old: lines below it or beside
it."""

from __future__ import annotations

from dataclasses import replace

from mowich.show.page import Page, paragraphs
from mowich.shown import Result

_MOST = 3
"""Facts that nothing read, each on a line of its own; more share one line."""


def heard_lines(result: Result) -> list[str]:
    """The lines of an answer's JSON; none where every fact that was given moved something.

    >>> heard_lines({"unread": ["chips.a.b"], "read_instead": {"chips.a.b": ["chips.a.c"]}, "unmoved": None})
    ['chips.a.b changed nothing here: this answer does not read it; did you mean chips.a.c?']
    """
    unread, near = result.get("unread") or (), result.get("read_instead") or {}
    lines = []
    for path in unread if len(unread) <= _MOST else ():
        meant = f"; did you mean {' or '.join(near[path])}?" if path in near else ""
        lines.append(f"{path} changed nothing here: this answer does not read it{meant}")
    if len(unread) > _MOST:
        named = ", ".join(unread[:_MOST])
        lines.append(
            f"{len(unread)} given facts changed nothing here: this answer does not read them: {named}, ..."
            " (--json lists them: unread)"
        )
    return lines + [f"{one['path']} moves nothing here: {one['because']}" for one in result.get("unmoved") or ()]


def with_heard_lines(page: Page, result: Result) -> Page:
    """A page with what an answer says of the given facts, and of old ones, at its end."""
    lines = paragraphs(heard_lines(result), "warning", indent=0, gap=True)
    lines += paragraphs(stale_lines(result), "note", indent=0, gap=True)
    return replace(page, parts=[*page.parts, *lines]) if lines else page


def stale_lines(result: Result, what: str = "This answer", *, each: bool = False) -> list[str]:
    """What an answer's JSON says of old facts, where its question asks. what: rests on them; each: with a line for each
    of them, else one line for all.

    >>> stale = {"older_than_s": 7776000.0, "as_of": "2027-03-01", "of": 52, "facts": []}
    >>> stale_lines({"stale": stale})
    ['This answer rests on no fact older than 90 days on 2027-03-01: it reads 52']
    """
    stale = result.get("stale")
    if stale is None:
        return []
    old, age = stale["facts"], stale["older_than_s"] / 86400.0
    days = f"{age:g} day{'s' * (age != 1)} on {stale['as_of']}"
    if not old:
        return [f"{what} rests on no fact older than {days}: it reads {stale['of']}"]
    said = f"{what} rests on {len(old)} fact{'s' * (len(old) > 1)} older than {days}, of {stale['of']} that it reads"
    if each:
        return [
            f"{said}:",
            *(f"  {_age(fact)}  {fact['path']}  ({fact['title'] or fact['source'] or '?'})" for fact in old),
        ]
    named = ", ".join(f"{fact['path']} ({_age(fact)})" for fact in old[:_MOST])
    return [f"{said}: {named}{', ... (--json lists them: stale)' if len(old) > _MOST else ''}"]


def _age(fact: Result) -> str:
    return "no day" if fact["age_days"] is None else f"{fact['age_days']} days"
