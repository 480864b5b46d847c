"""Docstrings of the package as Markdown, for the page of the Python reference: arguments as a list, examples as blocks of code. An extension of griffe, which reads the
docstrings for the site; mkdocs.yml names it."""

from __future__ import annotations

import re
from inspect import cleandoc
from textwrap import dedent
from typing import Any

import griffe

ARGUMENT = re.compile(r"^    (\**\w+): ", re.MULTILINE)
"""The first line of an argument, below "Args:"."""
LABEL = re.compile(r"^(Returns|Units|Raises|Yields): ", re.MULTILINE)


def fenced(text: str) -> str:
    """A text with each run of example lines, up to the next empty one, inside a fence."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(">>>") and not inside:
            out += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            out.append("```")
            inside = False
        out.append(re.sub(r"\s+# doctest: .*$", "", line))
    return "\n".join([*out, "```"] if inside else out)


def section(block: str) -> str:
    """A block of a docstring whose first line may be "Args:" or "Example:"."""
    head, _, body = block.partition("\n")
    if head == "Args:":
        return "**Arguments**\n\n" + re.sub(
            r"\n {8,}", " ", dedent(ARGUMENT.sub(r"    - `\1`: ", body)).replace("\n    ", " ")
        )
    if head in ("Example:", "Examples:"):
        return "**Example**\n" + fenced(dedent(body))
    return LABEL.sub(r"\n\n**\1** ", fenced(block)).lstrip("\n")


def as_markdown(docstring: str) -> str:
    """A docstring of the package -> Markdown."""
    blocks = re.split(r"\n(?:[ ]*\n)+(?=\S)", cleandoc(docstring))
    return "\n\n".join(section(b) for b in blocks) + "\n"


class DoctestFences(griffe.Extension):
    """Rewrites every docstring while it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
