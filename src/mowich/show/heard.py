"""What an answer says of facts that were given and changed nothing: a line each, below it or beside it."""

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


def with_heard(page: Page, result: Result) -> Page:
    """A page with these lines at its end."""
    lines = paragraphs(heard_lines(result), "warning", indent=0, gap=True)
    return replace(page, parts=[*page.parts, *lines]) if lines else page
