"""Which version of NKI a kernel is of: the one that is named, else 0.7 where it uses a name that came with it.

From 0.7 on a kernel is traced: Python runs it, and numbers of the device have no value there. Earlier ones are parsed
by default, and keep what 0.7 took away."""

from __future__ import annotations

import dis
import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from weakref import WeakKeyDictionary

from mowich.errors import UserError
from mowich.neuroncore.core import is_ours
from mowich.nki.affine.source import codes_within
from mowich.nki.words import SINCE_0_7, UnknownName, spelled

TRACING = (0, 7)
"""The first version that traces by default."""
FRONTEND = "NKI_COMPILER_FRONTEND"
"""Environment variable: the front end of AWS's compiler, of which 0.7 has both."""
_PARSERS, _TRACER = ("custom", "parser"), "tracer"


def is_traced(func: Callable[..., object], version: tuple[int, int] | None) -> bool:
    """Whether a kernel is traced as NKI 0.7 does it. version: that the user named, None: none. Raises for a kernel with
    names of 0.7 where an earlier version or its front end was asked for."""
    chosen = os.environ.get(FRONTEND)
    if chosen not in (None, "", *_PARSERS, _TRACER):
        raise UserError(FRONTEND, given=chosen, allowed=", ".join((*_PARSERS, _TRACER)))
    parses = chosen in _PARSERS or (version is not None and version < TRACING)
    if not parses and (version is not None or chosen == _TRACER):
        return True
    found = first_use(func)
    if found is not None and parses:
        name, where = found
        asked = f"{FRONTEND}={chosen}" if chosen in _PARSERS else f"NKI {'.'.join(map(str, version or ()))}"
        raise UnknownName(
            f"{name} is of NKI 0.7, and {asked} was asked for", where=where, fix="ask for 0.7, or for no version"
        )
    return found is not None


_FOUND: WeakKeyDictionary[FunctionType, tuple[tuple[str, str] | None]] = WeakKeyDictionary()


def first_use(func: Callable[..., object]) -> tuple[str, str] | None:
    """The first name of NKI 0.7 that a kernel, or a function that it calls, uses: as users write it, and file:line."""
    if not isinstance(func, FunctionType):
        return None
    if func not in _FOUND:
        _FOUND[func] = (_search(func),)
    return _FOUND[func][0]


def _search(func: FunctionType) -> tuple[str, str] | None:
    todo, seen = [func], {func.__code__}
    while todo:
        f = todo.pop()
        names = f.__globals__ | dict(_cells(f))
        for code in codes_within(f.__code__):
            if not ALL_NAMES.isdisjoint(code.co_names) and (found := _in_code(code, names)) is not None:
                return found
            for name in code.co_names:
                value = names.get(name)
                # a module of ours looks long for what it might have meant by a name that it has not
                other = value if isinstance(value, ModuleType) else getattr(value, "func", value)
                if isinstance(other, FunctionType) and other.__code__ not in seen:
                    seen.add(other.__code__)
                    if not is_ours(other.__code__.co_filename):
                        todo.append(other)
    return None


ALL_NAMES = frozenset(name for names in SINCE_0_7.values() for name in names)


def _cells(f: FunctionType) -> Iterator[tuple[str, object]]:
    """Names of the functions around one, and what they hold."""
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # set later
            continue


def _in_code(code: CodeType, names: dict[str, object]) -> tuple[str, str] | None:
    owner: object = None
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "EXTENDED_ARG", "PUSH_NULL", "PRECALL"):
            continue
        name = str(step.argval)
        value = names.get(name) if step.opname in ("LOAD_GLOBAL", "LOAD_DEREF", "LOAD_NAME") else None
        where = f"{code.co_filename}:{step.positions.lineno if step.positions else code.co_firstlineno}"
        for module, since in SINCE_0_7.items():
            if name in since and value is not None and value is vars(sys.modules[module]).get(name):
                return spelled(module, name), where
            if name in since and isinstance(owner, ModuleType) and owner.__name__ == module:
                return spelled(module, name), where
        owner = value
    return None
