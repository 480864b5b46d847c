"""Functions of an interface, made of the instructions: the table and the effect say which arguments an instruction
takes.

A function is written as text and compiled, as dataclasses are: a call costs what it would cost if it stood in a file,
and `help`, `inspect.signature` and the errors of Python for wrong arguments are those of any function.
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import TypeVar

from mowich.neuroncore.instructions.table import InstructionRow

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """An enumeration that kernels use for an argument. kind: the enumeration; word: a member, its number or its name ->
    what the effect takes; absent: the effect's word for an argument that is not given."""

    kind: type[Enum]
    word: Callable[[object], str]
    absent: str | None = None

    def default(self, word: object) -> Enum | None:
        """The member for a default of the effect."""
        if word == self.absent:
            return None
        return next(m for m in self.kind if m.name == word)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a face. default: `inspect.Parameter.empty` where there is none; note: its annotation."""

    name: str
    default: object
    note: str


def own(effect: Callable[..., None]) -> dict[str, inspect.Parameter]:
    """The arguments of an effect that interfaces see: all but those by keyword only."""
    found = inspect.signature(effect).parameters
    return {n: p for n, p in found.items() if p.kind is not p.KEYWORD_ONLY}


def arguments(
    effect: Callable[..., None], listed: str, words: Mapping[str, Vocabulary], operators: Mapping[str, object]
) -> list[Argument]:
    """The arguments that a face lists (see `InstructionRow`). operators: name -> what the interface has for it, where
    defaults are operators."""
    parameters = own(effect)
    entries = [entry for entry in listed.split() if entry != "|"]
    named = {entry.partition("=")[0] for entry in entries}
    out: list[Argument] = []
    for entry in entries:
        name, _, literal = entry.partition("=")
        for n in [n for n in parameters if n not in named] if name == "*" else [name]:
            p = parameters.get(n)
            if p is None:
                out.append(Argument(n, LITERALS[literal], "object"))
                continue
            default, note = (LITERALS.get(literal, literal) if literal else p.default), str(p.annotation)
            if n in words:
                note = f"{words[n].kind.__name__} | int | str | None"
                default = words[n].default(default) if isinstance(default, str) else default
            elif n.endswith("op") and isinstance(default, str):
                default = operators.get(default, default)
            out.append(Argument(n, default, note))
    return out


LITERALS: dict[str, bool | None] = {"": None, "None": None, "True": True, "False": False}
"""Defaults as a face writes them; another word is that of the effect."""


def define(
    name: str,
    module: str,
    doc: str | None,
    parameters: Sequence[str],
    returns: str,
    body: Sequence[str],
    uses: Mapping[str, object],
) -> FunctionType:
    """A function of a module, compiled from text. parameters: as in a `def`; body: its statements; uses: what they
    name."""
    lines = [
        f"def make({', '.join(uses)}):",
        f"    def {name}({', '.join(parameters)}) -> {returns}:",
        *(f"        {statement}" for statement in body),
        f"    return {name}",
    ]
    text = "\n".join(lines) + "\n"
    file = f"{Path(__file__).with_suffix('')}/{module}.{name}.py"  # ours, for the search of the kernel's line
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, object] = {"__name__": module}
    exec(compile(text, file, "exec"), space)  # like this module, with annotations as text
    make = space["make"]
    assert isinstance(make, FunctionType)
    function = make(**uses)
    assert isinstance(function, FunctionType)
    function.__qualname__, function.__doc__ = name, doc
    return function


def signed(listed: Sequence[Argument], uses: dict[str, object]) -> list[str]:
    """Arguments as in a `def`; their defaults are entered in `uses`."""
    out = []
    for a in listed:
        text = f"{a.name}: {a.note}"
        if a.default is not inspect.Parameter.empty:
            uses[f"_default_{a.name}"] = a.default
            text += f" = _default_{a.name}"
        out.append(text)
    return out


def given(effect: Callable[..., None], words: Mapping[str, Vocabulary], uses: dict[str, object]) -> dict[str, str]:
    """Argument of an effect -> what a function of the interface hands over for it; what that names is entered in
    `uses`."""
    out = {}
    for n in own(effect):
        out[n] = n
        if n in words:
            uses[f"_word_{n}"] = words[n].word
            out[n] = f"_word_{n}({n})"
    return out


def shown_without(*names: str) -> Callable[[F], F]:
    """A decorator: a function takes these arguments, and its signature does not show them. Older kernels pass them, and
    AWS's functions do not have them."""

    def decorate(function: F) -> F:
        found = inspect.signature(function)
        kept = [p for n, p in found.parameters.items() if n not in names]
        function.__dict__["__signature__"] = found.replace(parameters=kept)
        return function

    return decorate


def taken(function: object) -> tuple[str, ...]:
    """The arguments that a function takes, also those that its signature does not show."""
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def face(
    row: InstructionRow,
    module: str,
    words: Mapping[str, Vocabulary],
    operators: Mapping[str, object],
    done: Callable[[], object],
    returns: str,
) -> FunctionType:
    """The function of an interface that issues an instruction and returns `done()`. returns: the annotation for
    that."""
    uses: dict[str, object] = {"_effect": row.effect, "_done": done}
    parameters = signed(arguments(row.effect, row.face, words, operators), uses)
    call = f"_effect({', '.join(given(row.effect, words, uses).values())})"
    made = define(row.name, module, row.effect.__doc__, parameters, returns, [call, "return _done()"], uses)
    hidden = row.face.partition("|")[2].split()
    return shown_without(*hidden)(made) if hidden else made
