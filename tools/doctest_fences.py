"""Examples of docstrings on the page of the Python reference: lines that begin with `>>>`, and what they print, as a block of code. An extension of griffe, which reads
the docstrings for the site; mkdocs.yml names it."""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """A docstring with each run of example lines, up to the next empty one, inside a fence."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(">>>") and not inside:
            out += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            out.append("```")
            inside = False
        out.append(line.replace("  # doctest: +SKIP", ""))
    return "\n".join([*out, "```"] if inside else out)


class DoctestFences(griffe.Extension):
    """Rewrites every docstring while it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
