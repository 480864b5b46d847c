"""Writes src/mowich/__init__.pyi: the functions of Python as editors and type checkers read them.

The arguments of most functions are the fields of a schema, which no `def` lists: an editor that reads the source would
see none. The stub says what `help` says. Run by `make docs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from inspect import Parameter
from pathlib import Path

from pages import ROOT, write

import mowich
from mowich.api.keyword_verb import KeywordVerb
from mowich.api.names import HOMES
from mowich.requests.rooms import room_names

STUB = ROOT / "src" / "mowich" / "__init__.pyi"
HEAD = '"""The verbs as Python functions.\n\nWritten by `tools/python_stubs.py` from their schemas. Do not edit."""\n\n'
LONG = 60
"""Characters from which a default is left out."""

_STANDARD = {
    "Callable": "collections.abc",
    "Executor": "concurrent.futures",
    "Mapping": "collections.abc",
    "Path": "pathlib",
    "RoomAnswer": "mowich.studies.rooms",
    "Sequence": "collections.abc",
}


def arguments(verb: KeywordVerb, having: str) -> Iterator[str]:
    """The arguments of a function, of a question that has one of the fields that decide its result."""
    starred = False
    for name, one in verb.signature.parameters.items():
        if one.kind is Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        if name == having:
            yield f"{name}: {one.annotation.removesuffix(' | None')}"
        elif name in verb.gives:
            yield f"{name}: None = None"
        else:
            default = "" if one.default is Parameter.empty else f" = {shown(one.default)}"
            yield f"{name}: {one.annotation}{default}"


def shown(default: object) -> str:
    """A default as a stub has it: what is long is left out."""
    text = json.dumps(default) if isinstance(default, str) else repr(default)
    return text if len(text) < LONG else "..."


def functions(name: str, verb: KeywordVerb) -> Iterator[str]:
    """A function, or one for each of its results."""
    one = {"": verb.signature.return_annotation}
    for having, gives in (verb.gives or one).items():
        lines = "".join(f"    {text},\n" for text in arguments(verb, having))
        yield ("@overload\n" if verb.gives else "") + f"def {name}(\n{lines}) -> {gives}: ...\n"


def stub() -> str:
    """The stub's text."""
    made, there = "", dict[str, list[str]]()
    for name in sorted((*HOMES, *room_names())):
        verb = getattr(getattr(mowich, name), "verb", None)
        if not isinstance(verb, KeywordVerb):
            there.setdefault(HOMES[name], []).append(f"{name} as {name}")
        else:
            made += "".join(functions(name, verb))
    homes = {**_STANDARD, "overload": "typing"}
    for word in sorted(set(re.findall(r"\w+", made)) & homes.keys()):
        there.setdefault(homes[word], []).append(word)
    imports = "".join(f"from {home} import {', '.join(names)}\n" for home, names in sorted(there.items()))
    return f"{HEAD}{imports}\n__version__: str\n\n{made}"


def pages() -> dict[Path, str]:
    """The stub and its text now."""
    return {STUB: stub()}


if __name__ == "__main__":
    write(pages())
