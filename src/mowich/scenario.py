"""Reading a scenario file: YAML whose every key is asked for, with file:line in every error.

`read_scenario(path)` gives a `Node`. Whoever reads it asks for keys by name and kind; `done()` reports keys that nobody
asked for, with the closest name. Problems are collected, not raised, so that a file with five mistakes says five;
`stop()` on the root raises them in file order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import SupportsFloat, TypeVar, Unpack

import yaml

from mowich.errors import ErrorDetails, UserError, UserErrors, did_you_mean, unknown
from mowich.files import parse_yaml, read_text
from mowich.units import parse, parse_count

T = TypeVar("T")
FORMAT = 1
"""`mowich: 1` at the top of every scenario file."""


class Node:
    """A mapping of the file. Values are asked for by kind; each kind says what it allows."""

    __slots__ = ("_asked", "_data", "_file", "_found", "_node", "path")

    def __init__(
        self, file: str, path: str, node: yaml.Node | None, data: object, found: list[tuple[int, UserError]]
    ) -> None:
        self._file = file
        self._node = node
        self._data: dict[str, object] = {}
        self._found = found
        self._asked: set[str] = set()
        self.path = path
        if isinstance(node, yaml.MappingNode) and isinstance(data, dict):
            self._data = data
        elif node is not None:
            self._report(node.start_mark.line, UserError(f"{path or 'a scenario'} is a mapping", given=data))

    # places and problems
    # -----------------------------------------------------------------------------------------------
    def _report(self, line: int, error: UserError) -> None:
        error.where = f"{self._file}:{line + 1}" + (f" {error.where}" if error.where else "")
        self._found.append((line, error))

    def line(self, key: str | None = None) -> int:
        """The line, from 0, of a key or of the mapping itself."""
        if isinstance(self._node, yaml.MappingNode):
            for name, _ in self._node.value:
                if name.value == str(key):
                    return int(name.start_mark.line)
        return int(self._node.start_mark.line) if self._node is not None else 0

    def place(self, key: str | None = None) -> str:
        """File and line of a key, or of the mapping itself."""
        return f"{self._file}:{self.line(key) + 1}"

    @property
    def file(self) -> str:
        """The name of the file, as errors have it."""
        return self._file

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def problem(self, key: str | None, what: str, **details: Unpack[ErrorDetails]) -> None:
        """Report something about a key, or about the mapping."""
        place = self.name(key) if key else self.path
        self._report(self.line(key), UserError(what, where=place or None, **details))

    def wrong(self, key: str, what: str, *, allowed: str | Sequence[str] | None = None, fix: str | None = None) -> None:
        """Report the value that is given under a key."""
        self.problem(key, what, given=self.raw(key), allowed=allowed, fix=fix)

    @contextmanager
    def watch(self, key: str, **details: Unpack[ErrorDetails]) -> Iterator[None]:
        """Report what the block refuses as a problem of a key. details: to say in place of the error's own."""
        try:
            yield
        except UserError as error:
            own: ErrorDetails = {"given": error.given, "allowed": error.allowed, "fix": error.fix}
            own.update(details)
            self.problem(key, error.what, **own)

    def refuse(self, what: str, *keys: str, fix: str = "leave it out") -> None:
        """Report those of some keys that are there."""
        for key in keys:
            if key in self:
                self.wrong(key, what, fix=fix)

    def report(self, error: UserError) -> None:
        """Keep a problem that stands in no line of the file, behind those that do."""
        self._found.append((sys.maxsize, error))

    def stop(self) -> None:
        """Raise what was found, in file order."""
        if self._found:
            errors = [e for _, e in sorted(self._found, key=lambda item: item[0])]
            raise errors[0] if len(errors) == 1 else UserErrors(errors)

    def is_asked(self, key: str) -> bool:
        """Whether somebody has asked for a key."""
        return key in self._asked

    # asking
    # ------------------------------------------------------------------------------------------------------------
    def __contains__(self, key: str) -> bool:
        return key in self._data

    def keys(self) -> tuple[str, ...]:
        return tuple(self._data)

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def raw(self, key: str, default: object = None) -> object:
        """The value as YAML has it."""
        self._asked.add(key)
        return self._data.get(key, default)

    def need(self, *keys: str) -> None:
        """Report the keys that are missing, or have no value."""
        for key in keys:
            if key in self and self._data[key] is None:
                self.problem(key, "has no value")
            elif key not in self:
                near = did_you_mean(key, [k for k in self.keys() if k not in self._asked])
                self.problem(None, f"{self.name(key)} is missing", fix=near)

    def text(self, key: str, default: str = "", *, allowed: Sequence[str] | None = None) -> str:
        value = self.raw(key)
        if value is None:
            return default
        word = str(value)
        if allowed is not None and word not in allowed:
            error = unknown(key, word, allowed, where=self.name(key))
            self._report(self.line(key), error)
            return default
        return word

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            self.problem(key, "yes or no", given=value, allowed="true, false")
            return default
        return value

    def count(
        self, key: str, default: float = 0.0, *, minimum: float = 1, maximum: float = math.inf, whole: bool = True
    ) -> float:
        """16384, 4k, 64M, 15T, of at least `minimum` and at most `maximum`."""
        value = self.raw(key)
        if value is None:
            return default
        number = self.count_of(key, value, default, minimum=minimum, whole=whole)
        if number > maximum:
            self.problem(key, f"must lie in {minimum:,} to {maximum:,}", given=value)
            return default
        return number

    def count_of(
        self, key: str, value: object, default: float = 0.0, *, minimum: float = 1, whole: bool = True
    ) -> float:
        try:
            return parse_count(value, where=self.name(key), minimum=minimum, whole=whole)
        except UserError as error:
            self._report(self.line(key), error)
            return default

    def quantity(self, key: str, unit: str, default: float | None = None, *, minimum: float = 0.0) -> float | None:
        """A number with its unit, "100 MW" -> 1e8; None where the key is missing."""
        value = self.raw(key)
        if value is None:
            return default
        try:
            number = parse(value, unit, where=self.name(key)).value
        except UserError as error:
            self._report(self.line(key), error)
            return default
        if number < minimum:
            self.problem(key, f"must be at least {minimum:g}", given=value)
        return number

    def number(self, key: str, default: float, *, low: float, high: float) -> float:
        """A bare number or a percentage within low..high."""
        value = self.raw(key, default)
        try:
            number = parse(value, "1").value if isinstance(value, str) else _as_float(value)
        except (UserError, TypeError, ValueError):
            self.problem(key, "not a number", given=value, allowed=f"{low:g} to {high:g}, or a percentage")
            return default
        if not low <= number <= high:
            self.problem(key, f"must lie in {low:g} to {high:g}", given=value)
        return number

    def parsed(self, key: str, parse: Callable[[object], T]) -> T | None:
        """The value as `parse` reads it, such as a field of a question; None where the key is missing or wrong."""
        value = self.raw(key)
        if value is None:
            return None
        try:
            return parse(value)
        except UserError as error:
            error.where = self.name(key)
            self._report(self.line(key), error)
            return None

    def names(self, key: str, known: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of words; a single word is a list of one."""
        value = self.raw(key)
        if value is None:
            return ()
        words = [str(v) for v in (value if isinstance(value, list) else [value])]
        for word in words:
            if known is not None and word not in known:
                self._report(self.line(key), unknown("name", word, known, where=self.name(key)))
        return tuple(words)

    def node(self, key: str) -> Node:
        """The mapping under a key; an empty one where it is missing."""
        self._asked.add(key)
        child = None
        if isinstance(self._node, yaml.MappingNode):
            child = next((value for name, value in self._node.value if name.value == key), None)
        return Node(self._file, self.name(key), child, self._data.get(key, {}), self._found)

    @contextmanager
    def inside(self, key: str, *needs: str) -> Iterator[Node]:
        """The mapping under a key. needs: keys that it reports where they are missing; at the end of the block it
        reports those that nobody asked for."""
        child = self.node(key)
        child.need(*needs)
        yield child
        child.done()

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Every key with the mapping under it."""
        for key in self.keys():
            yield key, self.node(key)

    def done(self, known: Sequence[str] = ()) -> None:
        """Report keys that nobody asked for; `known` are further names to suggest."""
        for key in self.keys():
            if key not in self._asked:
                names = sorted(self._asked | set(known))
                self.problem(key, "unknown key", allowed=names, fix=did_you_mean(key, names))


def _as_float(value: object) -> float:
    """A number of YAML. Raises TypeError for other values."""
    if not isinstance(value, SupportsFloat):
        raise TypeError
    return float(value)


def is_inline(path: str | Path) -> bool:
    """Whether this is the text of a scenario, in braces, and not the name of a file."""
    return str(path).lstrip().startswith("{")


def read_scenario(path: str | Path) -> Node:
    """A scenario file, or its text in braces, -> its root node. Raises UserError where the file cannot be read or is
    not YAML."""
    if is_inline(path):
        return parse_text(str(path), "the scenario")
    return parse_text(read_text(path, "scenario"), str(path))


def parse_text(text: str, where: str) -> Node:
    """The text of a scenario -> its root node; `where` names it in errors. Raises UserError where it is not YAML."""
    data, node = parse_yaml(text, where)
    if node is None:
        raise UserError("an empty scenario", where=where)
    root = Node(where, "", node, data, [])
    if root.raw("mowich") != FORMAT:
        root.wrong("mowich", f"a scenario begins with 'mowich: {FORMAT}'")
    return root
