"""One reader of what `shown.written_fields` writes: a record from its JSON, by the types of its fields.
`record_of` makes one from another record.

Nothing in the JSON is trusted: each key, type and bound is checked, and each problem is one line with its place.
`Annotated[int, WholeBounds(1, 8)]` bounds a number; `Annotated[str, Most(300)]` the characters of a text, or the
entries of a list.
"""

from __future__ import annotations

import datetime
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from mowich.errors import ErrorDetails, UserError, UserErrors, did_you_mean, shorten
from mowich.shown import Rows, key_words

R = TypeVar("R")

_TOLD = 5
"""Problems that are told at once."""


@dataclass(frozen=True, slots=True)
class WholeBounds:
    """Bounds of a whole number."""

    low: int
    high: int

    def holds(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Most:
    """Characters of a text, or entries of a list, at most."""

    number: int


TypeForm = Any
"""A type of a field, `int` or `Annotated[int, ...]`: Python has no type for that yet."""


def read_fields(kind: type[R], value: object, where: str, *, fix: str | None = None) -> R:
    """The record that `value` is the JSON of; `where` names its place in errors; fix: what to do where a key is
    missing. What the JSON says and no field holds (a property) is not looked at. Raises UserError, or UserErrors, for
    an unknown or missing key, a wrong type and a number out of its bounds, each with its place in the JSON.

    >>> @dataclass(frozen=True, slots=True, kw_only=True)
    ... class Part:
    ...     KEYS = "part=name ran.on=engines"
    ...     name: str
    ...     engines: tuple[str, ...] = ()
    >>> read_fields(Part, {"part": "mlp", "ran": {"on": ["PE"]}}, "r.json")
    Part(name='mlp', engines=('PE',))
    """
    reader = FieldReader(where=where, fix=fix)
    found = reader.record(kind, value, "")
    reader.stop()
    assert isinstance(found, kind)
    return found


def record_of(kind: type[R], source: object, **own: object) -> R:
    """A record of `own` and, by the names of its other fields, of what another record or a mapping has; a field that
    neither has keeps its default. Types are not checked.

    >>> record_of(WholeBounds, {"low": 1, "high": 8, "unit": "cores"}, high=4)
    WholeBounds(low=1, high=4)
    """
    names = {f.name for f in fields(kind)} - own.keys()  # type: ignore[arg-type]
    if isinstance(source, Mapping):
        return kind(**own, **{name: source[name] for name in names & source.keys()})
    return kind(**own, **{name: getattr(source, name) for name in names if hasattr(source, name)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A field as it stands in the JSON. places: keys from the outside; is_none: whether null stands for the default."""

    name: str
    places: tuple[str, ...]
    hint: TypeForm
    has_default: bool
    is_none: bool


@cache
def _fields(kind: type) -> tuple[tuple[_Field, ...], frozenset[str]]:
    """The fields of a record, and the keys that its JSON may have."""
    hints = get_type_hints(kind, include_extras=True)
    words = key_words(kind)
    own = {word.path[0]: word for word in words if word.key and len(word.path) == 1 and word.mark != "count"}
    out: list[_Field] = []
    for f in fields(kind):
        word = own.get(f.name)
        has_default = f.default is not MISSING or f.default_factory is not MISSING
        if word is not None or not has_default:
            out.append(
                _Field(
                    name=f.name,
                    places=(f.name,) if word is None else (*word.places, word.key),
                    hint=hints[f.name],
                    has_default=has_default,
                    is_none=word is not None and word.mark == "none",
                )
            )
    schema = {"schema"} if getattr(kind, "SCHEMA", "") else set[str]()
    return tuple(out), frozenset((*word.places, word.key)[0] for word in words) | schema


def place_in(where: str, path: str) -> str:
    """A place in a file, as errors name it."""
    return f"{where} {path}" if path else where


@dataclass(slots=True, kw_only=True)
class FieldReader:
    """Reads plain data as records say it, and collects what is wrong. What is wrong becomes None, and is never used.
    where: names the file; fix: what to do where a key is missing."""

    where: str
    fix: str | None = None
    errors: list[UserError] = field(default_factory=list)

    def stop(self) -> None:
        """Raise what was collected."""
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else UserErrors(self.errors[:_TOLD])

    def wrong(self, at: str, what: str, **more: Unpack[ErrorDetails]) -> object:
        """Collect one problem; what is read instead is None."""
        given = more.get("given")
        if isinstance(given, list | Mapping):
            more["given"] = shorten(json.dumps(given))
        self.errors.append(UserError(what, where=place_in(self.where, at), **more))
        return None

    def record(self, kind: type, value: object, at: str) -> object:
        """A record of that kind."""
        if not isinstance(value, Mapping):
            return self.wrong(at, "must be a mapping", given=value)
        own, known = _fields(kind)
        found = len(self.errors)
        for key in value:
            if key not in known:
                fix = did_you_mean(str(key), known)
                self.wrong(f"{at}.{key}".lstrip("."), "unknown key", allowed=sorted(known), fix=fix)
        read = {}
        for f in own:
            path = ".".join((at, *f.places)).lstrip(".")
            inside: object = value
            for key in f.places:
                inside = inside.get(key, MISSING) if isinstance(inside, Mapping) else MISSING
            if inside is MISSING or (inside is None and f.is_none):
                if not f.has_default:
                    self.wrong(path, "missing key", fix=self.fix)
            else:
                read[f.name] = self.value(f.hint, inside, path)
        return None if len(self.errors) > found else kind(**read)

    def value(self, hint: TypeForm, value: object, at: str) -> object:
        """A value of any type that a record has."""
        bounds: Sequence[TypeForm] = getattr(hint, "__metadata__", ())  # of Annotated
        hint = get_args(hint)[0] if bounds else hint
        origin: TypeForm = get_origin(hint)
        if hint is types.NoneType:
            return None if value is None else self.wrong(at, "must be null", given=value)
        if origin in (Union, types.UnionType):
            return self._either(get_args(hint), value, at)
        if is_dataclass(hint):
            return self.record(hint, value, at)  # type: ignore[arg-type]
        if origin in (tuple, Sequence, Rows, Mapping, dict):
            is_list = origin not in (Mapping, dict)
            inner = (*get_args(hint), *([Ellipsis] if origin in (Sequence, Rows) else []))
            found = self._many(is_list, inner, bounds[0].number if bounds else None, value, at)
            return Rows(found) if origin is Rows and isinstance(found, tuple) else found
        if origin is Literal:
            words = get_args(hint)
            is_known = isinstance(value, str) and value in words
            return value if is_known else self.wrong(at, "is none of these", given=value, allowed=words)
        return value if hint is object else self._scalar(hint, bounds[0] if bounds else None, value, at)

    def _either(self, kinds: Sequence[TypeForm], value: object, at: str) -> object:
        """A value of the first of the types that takes it."""
        if value is None and types.NoneType in kinds:
            return None
        found = len(self.errors)
        for kind in (kind for kind in kinds if kind is not types.NoneType):
            del self.errors[found:]
            read = self.value(kind, value, at)
            if len(self.errors) == found:
                return read
        return None

    def _scalar(self, hint: TypeForm, bound: TypeForm, value: object, at: str) -> object:
        if hint is bool:
            return value if isinstance(value, bool) else self.wrong(at, "must be true or false", given=value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if hint is int:
            if is_number and isinstance(value, int) and (bound is None or bound.holds(value)):
                return value
            allowed = None if bound is None else f"{bound.low} to {bound.high}"
            return self.wrong(at, "must be a whole number", given=value, allowed=allowed)
        if hint is float:
            return value if is_number else self.wrong(at, "must be a number", given=value)
        if hint is str:
            return self._text(None if bound is None else bound.number, value, at)
        return self._from_text(hint, value, at)

    def _from_text(self, hint: TypeForm, value: object, at: str) -> object:
        """A path, a day or an enum."""
        try:
            if issubclass(hint, Path) and isinstance(value, str):
                return Path(value)
            if issubclass(hint, datetime.date):
                return hint.fromisoformat(value)
            if issubclass(hint, Enum):
                return hint(value)
        except (TypeError, ValueError):
            pass
        return self.wrong(at, f"must be a {hint.__name__.lower()}", given=value)

    def _text(self, most: int | None, value: object, at: str) -> object:
        if isinstance(value, str) and (most is None or (len(value) <= most and value.isprintable())):
            return value
        if most is None:
            return self.wrong(at, "must be a text", given=value)
        allowed = f"up to {most} printable characters"
        return self.wrong(at, "must be a text of one line", given=value, allowed=allowed)

    def _many(self, is_list: bool, inner: Sequence[TypeForm], most: int | None, value: object, at: str) -> object:
        """A list, of one kind or with a kind for each place; or a mapping with one kind of value."""
        if not isinstance(value, list | tuple if is_list else Mapping):
            return self.wrong(at, "must be a list" if is_list else "must be a mapping", given=value)
        if most is not None and len(value) > most:
            return self.wrong(at, "has too many entries", given=len(value), allowed=f"up to {most}")
        if isinstance(value, Mapping):
            for key in value if most is not None else ():
                self._text(most, key, at)
            return {key: self.value(inner[1], x, f"{at}.{key}") for key, x in value.items()}
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            return self.wrong(at, "has another number of entries", given=len(value), allowed=f"{len(kinds)}")
        return tuple(self.value(k, x, f"{at}.{i}") for i, (k, x) in enumerate(zip(kinds, value, strict=True)))
