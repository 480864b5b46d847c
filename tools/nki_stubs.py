"""Writes src/mowich/nki/stubs: the names and signatures of AWS's interface as editors and type checkers read them.

Most functions of `nki.isa` are made from the table of instructions when the module is loaded, and some take arguments
that no signature shows: an editor that reads the source sees neither. The stubs say what `help` says. Run by
`make docs`.
"""

from __future__ import annotations

import builtins
import collections.abc
import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from enum import Enum, EnumType
from pathlib import Path
from types import ModuleType

from pages import write

from mowich.neuroncore.dtypes import DType
from mowich.nki import collectives, isa, language, words
from mowich.nki.install import STUBS

HEAD = '''"""{about}

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

'''
HANDED_ON = {
    "__init__": (
        "`nki`.",
        {
            "mowich.nki": "NKIObject NkiValidationError cpu_simulate jit simulate",
            ".": "collectives compiler isa language typing",
        },
    ),
    "compiler": (
        "`nki.compiler`.",
        {
            "mowich.nki.compiler": "AddressRotation CompileConfig SpecializationConfig enable_stack_allocator no_reorder skip_middle_end_transformations"
        },
    ),
    "isa/constants": (
        "The enumerations of `nki.isa`.",
        {".": " ".join(n for n in words.public(isa) if isinstance(getattr(isa, n), EnumType))},
    ),
    "typing": ("`nki.typing`.", {"mowich.nki.typing": "mutable_tensor tensor"}),
}
"""Stub -> what it is of, and module -> the names that it hands on from there."""
WRITTEN = {"isa/__init__": isa, "language": language, "collectives": collectives}
"""Stub -> the module whose names it shows."""
RENAMED = {"Tile": "NkiTensor", "Register": "VirtualRegister"}
"""Class of ours -> as kernels know it."""
_WIDTH = 110
_WORD = re.compile(r"(?<![\w.'])[A-Za-z_]\w*")


def handed_on(module: str, name: str, own: str) -> str:
    """A line that gives a name of a module on under one's own."""
    return f"from {module} import {own} as {name}\n"


def signature(value: object) -> inspect.Signature | None:
    """The signature that a name shows, None for what is no function."""
    is_called = callable(value) and not isinstance(value, type)  # an operator is a function of tiles as well
    if not is_called or isinstance(value, DType):
        return None
    found = inspect.signature(value)
    gives = str(found.return_annotation)
    if hasattr(value, "__wrapped__"):  # of `contextlib.contextmanager`
        gives = gives.replace("Iterator", "AbstractContextManager")
    return found.replace(return_annotation=gives)


def annotation(text: object) -> str:
    """An annotation, with the names that kernels know."""
    return _WORD.sub(lambda m: RENAMED.get(m[0], m[0]), "object" if text is inspect.Parameter.empty else str(text))


def default(value: object) -> str:
    """A default, where it is short to write."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(value) if value is None or type(value) in (bool, int, float, str, tuple) else "..."


def parameters(found: inspect.Signature) -> Iterator[str]:
    """The parameters as in a `def`."""
    before = None
    for p in found.parameters.values():
        if p.kind is p.KEYWORD_ONLY and before not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            yield "*"
        before = p.kind
        text = f"{p.name}: {annotation(p.annotation)}"
        yield text if p.default is p.empty else f"{text} = {default(p.default)}"


def function(name: str, found: inspect.Signature, doc: str | None) -> str:
    """A function of a stub."""
    listed, gives = [*parameters(found)], annotation(found.return_annotation)
    head = f"def {name}({', '.join(listed)}) -> {gives}:"
    if len(head) > _WIDTH:
        head = f"def {name}(\n" + "".join(f"    {text},\n" for text in listed) + f") -> {gives}:"
    return f"{head}\n" + textwrap.indent(f'"""{doc}"""', "    ") + "\n" if doc else f"{head} ...\n"


def home(name: str) -> str:
    """The module that defines a name of an annotation."""
    if name == "AbstractContextManager":
        return "contextlib"
    standard = next((m.__name__ for m in (collections.abc, typing) if hasattr(m, name)), None)
    if standard is not None:
        return standard
    ours = {n: m for n, m in sorted(sys.modules.items()) if n.startswith(("mowich.neuroncore", "mowich.nki"))}
    having = {place: module for place, module in ours.items() if name in vars(module)}
    made = [place for place, module in having.items() if getattr(vars(module)[name], "__module__", "") == place]
    an_alias = re.compile(rf"^{name}(?:: TypeAlias)? = ", re.MULTILINE)
    return [*made, *(place for place, module in having.items() if an_alias.search(inspect.getsource(module)))][0]


def stub(module: ModuleType) -> str:
    """The stub of a module: the names that it offers to kernels."""
    classes, values, functions, own, used = [], [], [], set(), set()
    for name in words.public(module):
        value = vars(module)[name]
        found = signature(value)
        if found is not None:
            functions.append(function(name, found, inspect.getdoc(value)))
            notes = [found.return_annotation, *(p.annotation for p in found.parameters.values())]
            used |= {word for note in notes for word in _WORD.findall(annotation(note))}
        elif isinstance(value, type):
            own.add(name)
            at, called = value.__module__, value.__name__
            renamed = f"from {at} import {called}\n{name} = {called}\n"
            classes.append(handed_on(at, name, name) if name == called else renamed)
        else:
            values.append(f"{name}: {type(value).__name__}\n")
            used.add(type(value).__name__)
    needed = {"import builtins\n"} if "builtins" in used else set()
    kept = {new: old for old, new in RENAMED.items()}
    for name in used - own - set(dir(builtins)) - {"builtins"}:
        was = kept.get(name, name)
        needed.add(f"from {home(was)} import {was}" + (f" as {name}\n" if was != name else "\n"))
    return HEAD.format(about=f"`{words.SHOWN[module.__name__]}`.") + "".join(
        [*sorted(needed), *classes, *values, *functions]
    )


def pages() -> dict[Path, str]:
    """The stubs and their text now."""
    out = {STUBS / "nki" / f"{name}.pyi": stub(module) for name, module in WRITTEN.items()}
    for name, (about, modules) in HANDED_ON.items():
        lines = [handed_on(module, n, n) for module, listed in modules.items() for n in listed.split()]
        out[STUBS / "nki" / f"{name}.pyi"] = HEAD.format(about=about) + "".join(lines)
    return out


if __name__ == "__main__":
    write(pages())
