"""Code that is compiled from C: libraries found, loaded and called. Their sources are in a folder `c` beside the Python
code that they do the work of; `tools/hatch_build.py` compiles them when Mowich is installed.

The Python code is the rule; the compiled code does the same to the last bit, faster. Without a C compiler, or in a
checkout that was not installed, the Python code runs. A variable of the environment asks for one of them: `python`, or
`compiled`, which refuses to run without the compiled code. A library that was compiled from other sources than those
beside it is not used. What goes over are integers, floats and addresses of columns, 64 bits each.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self, SupportsFloat, SupportsInt, TypeVar

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError
from mowich.progress import IS_QUIET

_DONE, _NO_MEMORY = range(2)
"""What a call returns in every library."""


def source_digest(sources: Path) -> str:
    """Of C sources: a library says which ones it was compiled from."""
    made = hashlib.sha256()
    for path in sorted(sources.iterdir()):
        if path.suffix in (".c", ".h"):
            made.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made.hexdigest()


CFunctions = Mapping[type[ctypes.c_int64] | type[ctypes.c_int] | type[ctypes.c_void_p] | None, str]
"""By what they return, functions without their prefix, each with how many integers and addresses it takes."""


@dataclass(slots=True, eq=False)
class CompiledLibrary:
    """A library and its sources. what: it does, in words; path: of the library; prefix: of its functions; variable: of
    the environment; worth_saying: so much work, in its own measure, from which on a user may wait noticeably longer for
    the Python code."""

    what: str
    path: Path
    prefix: str
    variable: str
    functions: CFunctions
    worth_saying: int
    sources: Path = field(init=False)
    _found: dict[Path, tuple[ctypes.CDLL | None, str]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sources = self.path.parent / "c"

    def loaded(self) -> tuple[ctypes.CDLL | None, str]:
        """The library, and what is wrong where there is none."""
        if self.path not in self._found:
            self._found[self.path] = self._load()
        return self._found[self.path]

    def _load(self) -> tuple[ctypes.CDLL | None, str]:
        name = self.path.name
        if not self.path.exists():
            return None, "Mowich was installed without a C compiler, or not installed"
        try:
            library = ctypes.CDLL(str(self.path))
            sources = getattr(library, f"{self.prefix}_sources")
            sources.restype = ctypes.c_char_p
            compiled_from = sources().decode()
        except (OSError, AttributeError) as error:
            return None, f"{name}: {error}"
        if self.sources.exists() and compiled_from != source_digest(self.sources):
            return None, f"{name} was compiled from other sources: install again"
        for result, told in self.functions.items():
            for function_name, arguments in zip(told.split()[::2], told.split()[1::2], strict=True):
                function = getattr(library, f"{self.prefix}_{function_name}")
                function.argtypes, function.restype = [ctypes.c_void_p] * int(arguments), result
        return library, ""

    def library(self, work: int = 0) -> ctypes.CDLL | None:
        """The compiled code; None where the Python code shall run, which is said once on stderr for much work. Raises
        UserError where the environment asks for what is not there."""
        asked = os.environ.get(self.variable, "")
        if asked == "python":
            return None
        if asked not in ("", "compiled"):
            raise UserError(f"{self.variable}={asked}", fix="python, compiled, or nothing")
        found, reason = self.loaded()
        if found is None:
            if asked:
                raise UserError(f"{self.variable}=compiled, but there is no compiled {self.what}: {reason}")
            if work >= self.worth_saying:
                self.say(reason)
        return found

    def say(self, reason: str) -> None:
        """Once for each reason, on stderr: results are on stdout."""
        if reason not in self._said and not IS_QUIET.get():
            self._said.add(reason)
            print(f"note: the {self.what} runs in Python, slowly: {reason}", file=sys.stderr)


def done(status: int) -> bool:
    """Whether the compiled code did it; False where the Python code has to. Raises MemoryError."""
    if status == _NO_MEMORY:
        raise MemoryError
    return status == _DONE


def is_done(function: Callable[..., int], *given: object) -> bool:
    """Whether the compiled code did what a call of it asks. given: structs, columns and integers. Raises
    MemoryError."""
    return done(
        function(*(by_reference(x) if isinstance(x, ctypes.Structure | ctypes.Array) else _word(x) for x in given))
    )


def address(column: NDArray[np.generic] | array[int] | None) -> int:
    """Where a column begins, 0 where it is empty; the caller keeps the column alive."""
    if column is None or not len(column):
        return 0
    return column.buffer_info()[0] if isinstance(column, array) else begin(column)


def begin(column: NDArray[np.generic]) -> int:
    """Where a column begins that has at least one element."""
    found: int = column.__array_interface__["data"][0]
    return found


by_reference = ctypes.byref


def _word(given: object) -> int:
    """An integer, or where a column or a struct begins."""
    if isinstance(given, int):  # most are, and what a protocol takes to look at is as much as an instruction takes
        return int(given)
    if given is None or isinstance(given, array | np.ndarray):
        return address(given)
    if isinstance(given, ctypes.Structure | ctypes.Array):
        return ctypes.addressof(given)
    assert isinstance(given, SupportsInt)
    return int(given)


class CompiledStruct(ctypes.Structure):
    """A struct of C code: integers, floats, addresses and structs. own_fields: their
    names; made_of: what it was made of, which has to
    stay."""

    own_fields: ClassVar[tuple[str, ...]] = ()
    made_of: tuple[object, ...] = ()

    @classmethod
    def of(cls, owner: object, **given: object) -> Self:
        """One of these values and columns, and for the other fields of those that an object has under their names. A
        list or a tuple is a column of its numbers."""
        known = (given[name] if name in given else getattr(owner, name) for name in cls.own_fields)
        found = [np.array(x, np.float64).ravel() if isinstance(x, list | tuple) else x for x in known]
        made = cls(*(_given(field[1], x) for field, x in zip(cls._fields_, found, strict=True)))
        made.made_of = tuple(found)
        return made


def _given(kind: type[object], given: object) -> object:
    """What a field of a struct is set to."""
    if issubclass(kind, ctypes.Structure):
        return given
    if kind is ctypes.c_double:
        assert isinstance(given, SupportsFloat)
        return float(given)
    return _word(given)


StructT = TypeVar("StructT", bound=CompiledStruct)


def c_struct(
    base: type[StructT], place: str, fields: str, floats: str = "", **structs: type[ctypes.Structure]
) -> type[StructT]:
    """The struct at a place in `c` ("file.c:Name"), with these fields: 64-bit integers and addresses, floats where they
    are among these, structs where they are given (tests compare them with the C code)."""
    kinds = {**dict.fromkeys(floats.split(), ctypes.c_double), **structs}
    names = tuple(fields.split())
    declared = [(name, kinds.get(name, ctypes.c_int64)) for name in names]
    return type(place, (base,), {"_fields_": declared, "own_fields": names})
