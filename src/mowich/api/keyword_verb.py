"""Python functions that ask what a schema asks: their arguments are its fields, and `facts`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from mowich.api.keywords import keywords_asked, name_called, names_called
from mowich.machines.system import System
from mowich.requests.fields import Edge, Field
from mowich.requests.schema import Schema

Q = TypeVar("Q")
R = TypeVar("R")

_BY_KIND = {
    "flag": "bool",
    "count": "int",
    "number": "float",
    "quantity": "float | str",
    "share": "float | str",
    "word": "str",
    "names": "str | Sequence[str]",
    "texts": "Sequence[str]",
    "file": "str | Path",
    "files": "str | Path | Sequence[str | Path]",
    "mapping": "Mapping[str, str]",
}
_BY_NAME = {
    ("object", "model"): "str | Path | Model",
    ("object", "systems"): "str | Sequence[str | System]",
    ("word", "systems"): "str | System",
    ("names", "model"): "str | Model | Sequence[str | Model]",
    ("names", "systems"): "Sequence[str | System]",
}
_JOB_CLASSES = {"train": "Train", "serve": "Serve", "forward": "Forward"}
"""Job -> the class of `api.keywords` with its keys."""

_NO_JOBS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordVerb:
    """What a function of Python asks. gives: field -> the result of a question that has it, in the words of an
    annotation ("": of a question that has none of them); empty where all questions have one result."""

    schema: Schema[object]
    signature: Signature
    gives: Mapping[str, str]


def keyword_verb(
    schema: Schema[Q],
    *places: str,
    gives: Mapping[str, str] = _NO_JOBS,
    listed: Collection[str] = (),
    has_facts: bool = True,
) -> Callable[[Callable[[Q], R]], Callable[..., R]]:
    """Decorates what answers a request: the function of Python that makes the request of its arguments. places: fields
    that are given by position too; gives: as in `KeywordVerb`; listed: fields that take a list alone, no text (an empty
    one without a place is not given); has_facts: whether other facts may be given."""
    fields = {f.spelled(Edge.KEYWORD): f for f in schema.at(Edge.KEYWORD) if not f.group}

    def of(answer: Callable[[Q], R]) -> Callable[..., R]:
        order = [*places, *(name for name in fields if name not in places)]
        arguments = [_parameter(schema, name, fields[name], is_placed=name in places) for name in order]
        facts = Parameter("facts", Parameter.KEYWORD_ONLY, default=None, annotation="Facts | None")
        signature = Signature(
            [*arguments, facts] if has_facts else arguments, return_annotation=str(answer.__annotations__["return"])
        )

        @wraps(answer)
        def called(*args: object, **named: object) -> R:
            try:
                given = signature.bind(*args, **named).arguments
            except TypeError as error:
                raise TypeError(f"{answer.__name__}() {error}") from None
            known = given.pop("facts", None)
            asked = {name: names_called(x) if name in listed else _named(x, fields[name]) for name, x in given.items()}
            asked = {name: x for name, x in asked.items() if x or name not in listed or name in places}
            with keywords_asked(schema, known, **asked) as request:
                return answer(request)

        called.__annotations__ = {"return": signature.return_annotation}
        vars(called).update(__signature__=signature, verb=KeywordVerb(schema=schema, signature=signature, gives=gives))
        return called

    return of


def _named(value: object, field: Field[object]) -> object:
    """A value in which each system is its name, and in place of words each path is its text."""
    if isinstance(value, list | tuple):
        return [_named(part, field) for part in value]
    if isinstance(value, Path) and field.kind in ("word", "texts"):
        return str(value)
    return name_called(value) if isinstance(value, System) else value


def _parameter(schema: Schema[object], name: str, field: Field[object], *, is_placed: bool) -> Parameter:
    is_job = name in schema.groups
    default = Parameter.empty if field.needs else None if is_job else field.default
    words = field.annotation or (_JOB_CLASSES[name] if is_job else _BY_NAME.get((field.kind, field.completes)))
    words = (words or _BY_KIND[field.kind]) + (" | None" if default is None else "")
    kind = Parameter.POSITIONAL_OR_KEYWORD if is_placed else Parameter.KEYWORD_ONLY
    return Parameter(name, kind, default=default, annotation=words)
