"""The schema of a verb, and the one reader: values by name in, a frozen request or all problems out."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, Unpack, cast

from mowich.errors import ErrorDetails, ProblemList, UserError, UserErrors, unknown
from mowich.requests.fields import Edge, Field
from mowich.shown import Result
from mowich.units import exact_digits, exact_words, parse_count, show_count

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from mowich.facts import Facts
    from mowich.models.model import Model

T = TypeVar("T")
Q_co = TypeVar("Q_co", covariant=True)
R = TypeVar("R", bound="DataclassInstance")
Values = Mapping[str, object]
"""What was given, by the name of the field; None: not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSource:
    """Where a question comes from. facts: those that it is asked of (None: the shipped ones with the question's own
    directories); load: how a model's name is read (None: names and files); change: facts and the settings laid over
    them -> facts."""

    edge: Edge
    facts: Facts | None = None
    load: Callable[[object], Model] | None = None
    change: Callable[[Facts, Mapping[str, float | str]], Facts] | None = None


class QuestionReader:
    """The values of one question while it is read. What is wrong is noted, once, when a field is first read; `stop`
    raises all of it."""

    def __init__(self, schema: Schema[object], values: Values, source: QuestionSource) -> None:
        self.schema, self.source, self.edge = schema, source, source.edge
        self.problems = ProblemList()
        self.notes: list[str] = []
        self._read: dict[str, object] = {}
        self._places: dict[str, str] = {}
        self._jobs: dict[str, str] = {}
        self._values = _flat(schema, values, self)

    def lay(self, values: Values, places: Mapping[str, str], *, instead: Field[object]) -> None:
        """Take the values of a file where the question gives none. places: field -> file, line and key, also of fields
        that the file does not give; instead: the field that named the file, whose value is now the file's."""
        unset = {f.name for f in self.schema.fields if self.given(f) is None or self.given(f) is f.default is False}
        unset.add(instead.name)
        self._values = {**values, **{name: value for name, value in self._values.items() if name not in unset}}
        self._places = {name: place for name, place in places.items() if name in unset or name not in self._values}
        self._read = {name: value for name, value in self._read.items() if name not in unset}

    def given(self, field: Field[object]) -> object:
        """The value as it was given; None where it was not."""
        return self._values.get(field.name)

    def has(self, field: Field[object]) -> bool:
        """Whether a value was given."""
        return self.given(field) is not None

    def get(self, field: Field[T]) -> T | None:
        """The value of a field; its default where it was not given, None where it is wrong."""
        value = self.given(field)
        if value is None:
            return field.default
        if field.name not in self._read:
            self._read[field.name] = None
            with self.watch(field):
                self._read[field.name] = field.parse(value)
        return cast("T | None", self._read[field.name])

    def sure(self, field: Field[T]) -> T:
        """The value of a field that is needed, or has a default, after `stop`."""
        value = self.get(field)
        assert value is not None, field.name
        return value

    def flag(self, field: Field[bool]) -> bool:
        """Whether a flag was given."""
        return bool(self.get(field))

    def fill(self, made: type[R], **own: object) -> R:
        """A request of what was read: `own`, and the other fields by their names. After `stop`."""
        fields = (*self.schema.fields, *self.schema.at(self.edge))  # those of this edge are last, and count
        names = {f.keyword or f.name: f for f in fields}
        left = [f.name for f in dataclasses.fields(made) if f.name not in own]
        return made(**own, **{name: self.get(names[name]) for name in left if name in names})

    def took(self, name: str, job: str) -> None:
        """Note which job a value was given for: two jobs may have a field of one name."""
        self._jobs[name] = job

    def read_all(self) -> None:
        """Read every field of the schema, so that all that is wrong is noted."""
        for field in self.schema.at(self.edge):
            if self._jobs.get(field.name, field.group) != field.group:
                continue
            if field.needs and not self.has(field):
                self.missing(field)
            self.get(field)

    def missing(self, field: Field[object], why: str = "") -> None:
        """Note that a field was not given."""
        self.add(f"is required{why}", field, fix=f"for example {self.example(field)}" if field.example else None)

    def need(self, *fields: Field[object], why: str = "") -> None:
        """Note each of some fields that was not given."""
        for field in fields:
            if not self.has(field):
                self.missing(field, why)

    def refuse(self, what: str, *fields: Field[object], allowed: str | None = None, fix: str | None = None) -> None:
        """Note a problem of each of some fields that was given, with what was given."""
        for field in fields:
            if self.has(field):
                self.add(what, field, given=self.given(field), allowed=allowed, fix=fix)

    def example(self, field: Field[object]) -> str:
        """How a value of a field is written here."""
        return f"{self.said(field)} {field.example}" if self.edge is Edge.OPTION else field.example

    def said(self, field: Field[object]) -> str:
        """A field as this edge spells it, or its place in a file."""
        return self._places.get(field.name) or field.spelled(self.edge)

    def key(self, field: Field[object]) -> str:
        """A field as it is spelled here, without its line in a file."""
        return self.said(field).rpartition(" ")[2]

    def add(self, what: str, field: Field[object], **details: Unpack[ErrorDetails]) -> None:
        """Note a problem of a field."""
        self.problems.add(what, where=self.said(field), **details)

    @contextmanager
    def watch(self, field: Field[object] | None = None) -> Iterator[None]:
        """Note what the block refuses; a problem that names no field is one of `field`."""
        try:
            yield
        except UserError as error:
            for one in error.errors if isinstance(error, UserErrors) else (error,):
                if one.where is None and one.field is None and field is not None:
                    one.where = self.said(field)
                self.schema.spell(one, self.edge)
                self.problems.found.append(one)

    def note(self, text: str) -> None:
        """Something to tell beside the answer, in one line whatever words of a file it quotes."""
        self.notes.append(" ".join(text.splitlines()))

    def stop(self) -> None:
        """Raise what was found."""
        self.problems.stop()


ROW_KEYS: Mapping[str, str] = {"rows": "array"}
"""What an answer has beside its inputs, and the types of that in JSON, where a schema does not say it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a server computes at most: of a field, by the attribute of the request, from low to high (SI)."""

    field: str
    attribute: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbOnWeb:
    """What the server says of a room (`requests/rooms`), and what it bears. tag: under which its address stands; said:
    of the address, about: of the body, "": as the list of verbs says; defaults: of fields, where they are others here;
    limits: larger questions are for the command line; is_quick: takes milliseconds, is_long: takes seconds."""

    tag: str = "rooms"
    said: str = ""
    about: str = ""
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    is_quick: bool = False
    is_long: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(Generic[Q_co]):
    """One verb: its fields in the order of `--help`, and what makes a request of them. help: for the page of the verb,
    short: for the list of verbs; after: of a room (`requests/rooms`), the verb that it stands behind in lists of verbs;
    places: keywords that Python takes by position, where those are not the ones that are needed;
    keys: what its answers have beside their inputs, and the types of that in JSON; web: what the server says of it."""

    name: str
    fields: tuple[Field[object], ...]
    make: Callable[[QuestionReader], Q_co]
    help: str
    short: str = ""
    example: str = ""
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    after: str = ""
    places: tuple[str, ...] = ()
    keys: Mapping[str, str] = dataclasses.field(default_factory=lambda: ROW_KEYS)
    web: VerbOnWeb = VerbOnWeb()

    def at(self, edge: Edge) -> tuple[Field[object], ...]:
        """The fields that an edge has."""
        return tuple(f for f in self.fields if edge in f.edges)

    def read(self, values: Values, source: QuestionSource) -> Q_co:
        """The request that `values` ask for. Raises UserErrors with every problem."""
        reader = QuestionReader(self, values, source)
        reader.read_all()
        with self.told(source.edge):
            return self.make(reader)

    def of(self, facts: Facts, /, **values: object) -> Q_co:
        """The request that keywords ask of these facts. Raises UserErrors with every problem."""
        return self.read(values, QuestionSource(edge=Edge.KEYWORD, facts=facts))

    @contextmanager
    def told(self, edge: Edge) -> Iterator[None]:
        """Spell the fields of what the block refuses as the edge does: for errors of the studies and below."""
        try:
            yield
        except UserError as error:
            for one in error.errors if isinstance(error, UserErrors) else (error,):
                self.spell(one, edge)
            raise

    def command(self, values: Values) -> str:
        """The command line that asks the same. Values by name, jobs as mappings; a model that is no name stands in the
        file config.json."""
        flat: dict[str, object] = {}
        for key, value in values.items():
            flat |= {key: True, **value} if key in self.groups and isinstance(value, Mapping) else {key: value}
        flat |= {f.implies: True for f in self.fields if f.implies and flat.get(f.name) is not None}
        words = ["mowich", *self.name.split()]
        for field in self.at(Edge.OPTION):
            words += _words(field, flat.get(field.name))
        return shlex.join(words)

    def stated(self, result: Result) -> dict[str, object]:
        """The values of the question that a result answers, by the names of the fields of the command line. A setting
        that has a field of its own is said by that."""
        fields = self.at(Edge.OPTION)
        out = {field.name: field.stated(result) for field in fields}
        settings = out.get("set")
        if isinstance(settings, Sequence) and not isinstance(settings, str):
            said = {f"{field.shortens}=": field.name for field in fields if field.shortens}
            left: list[object] = []
            for item in settings:
                short = next((short for short in said if str(item).startswith(short)), None)
                if short is None:
                    left.append(item)
                else:
                    out[said[short]] = str(item).removeprefix(short)
            out["set"] = left
        return out

    def typed(self, words: Sequence[str]) -> dict[str, object]:
        """What the words of a command line say, after those of the verb: the other way of `command`. Values by name, as
        text. Raises UserError for an option that the verb does not have, and for one without its value."""
        fields = self.at(Edge.OPTION)
        flags = {word: field for field in fields for word in (field.flag, field.short) if word.startswith("-")}
        negative = {field.negative: field for field in fields if field.negative}
        arguments = [field for field in fields if field.is_argument]
        out: dict[str, object] = {}
        rest = list(words)
        while rest:
            head, equals, value = rest.pop(0).partition("=")
            if not head.startswith("-"):
                if not arguments:
                    raise UserError("one argument too many", where=f"mowich {self.name}", given=head)
                _lay(out, arguments[0], head + equals + value)
                if arguments[0].kind not in _REPEATED:
                    arguments.pop(0)
                continue
            field = flags.get(head) or negative.get(head)
            if field is None:
                raise unknown("option", head, flags)
            if field.kind == "flag":
                out[field.name] = head in flags
                continue
            if not equals and not rest:
                raise UserError("needs a value", where=head, allowed=field.metavar)
            _lay(out, field, value if equals else rest.pop(0))
        return out

    def spell(self, error: UserError, edge: Edge) -> None:
        """Give an error its place: the field that it names, as the edge spells it."""
        if error.field is not None:
            error.where, error.field = self.place(error.field, edge), None

    def place(self, path: str, edge: Edge) -> str:
        """A field, or a part of it, as the edge spells it: "plan.tp" is `--set plan.tp`, or fixed.tp."""
        head, _, rest = path.replace(" ", ".", 1).partition(".")
        if head in ("plan", "prices"):
            if edge is Edge.KEYWORD:
                return rest if head == "prices" else f"fixed.{rest}" if rest else "fixed"
            return f"{'--set' if edge is Edge.OPTION else 'set'} {path}"
        known = next((f for f in self.fields if f.name == head), None)
        own = head if known is None else known.spelled(edge)
        if known is None and edge is Edge.OPTION:
            own = f"--{head.replace('_', '-')}"
        return f"{own} {rest}" if rest else own


_REPEATED = ("texts", "files")
"""Kinds of fields that are given again and again."""


def _words(field: Field[object], value: object) -> list[str]:
    """The words of a command line that give a field a value; none where it is what the field has anyway."""
    if value is False and field.negative:
        return [field.negative]
    if value is None or value is False or value == field.default or (not value and value != 0):
        return []
    if field.kind == "flag":
        return [field.flag]
    if field.is_argument and field.kind == "files" and isinstance(value, Sequence) and not isinstance(value, str):
        return [str(file) for file in value]
    if field.is_argument:
        return [value if isinstance(value, str) else "config.json"]
    if field.kind in _REPEATED and isinstance(value, Sequence):
        return [word for text in value for word in (field.flag, str(text))]
    return [field.flag, _typed(field, value)]


def _lay(values: dict[str, object], field: Field[object], word: str) -> None:
    """Set the value of a field; of one that is repeated, one more."""
    before = values.get(field.name)
    kept = (*before, word) if isinstance(before, tuple) else (word,)
    values[field.name] = kept if field.kind in _REPEATED else word


def _typed(field: Field[object], value: object) -> str:
    """A value as it is typed: a number of a field with a unit gets it, a count its letter, where that says it
    exactly."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ",".join(_typed(field, part) for part in value)
    if isinstance(value, Mapping):
        choices = ((key, one if isinstance(one, list | tuple) else [one]) for key, one in value.items())
        return ",".join(f"{key}={'|'.join(map(str, one))}" for key, one in choices)
    if isinstance(value, int | float):
        if field.kind == "quantity" and field.unit:
            return exact_words(value, field.unit)
        if field.kind == "count" and abs(value) >= _EXACT:
            words = show_count(value)
            return words if parse_count(words, minimum=0) == value else exact_digits(value)
        return exact_digits(value)
    return str(value)


_EXACT = 1e9
"""A count from which on a letter stands for its zeros: 15T."""


def _flat(schema: Schema[object], values: Values, reader: QuestionReader) -> dict[str, object]:
    """The values by the names of the fields: jobs that are mappings unfolded, unknown keys reported."""
    fields = schema.at(reader.edge)
    if reader.edge is Edge.OPTION:
        return dict(values)
    out: dict[str, object] = {}
    own = {(f.keyword if reader.edge is Edge.KEYWORD else "") or f.name: f for f in fields if not f.group}
    for key, value in values.items():
        known = own.get(key)
        if known is None:
            reader.problems.found.append(unknown("field", str(key), own))
        elif key in schema.groups and value is not None:
            inner = {f.name: f for f in fields if f.group == key}
            if not isinstance(value, Mapping):
                reader.add("not a job", known, given=value, allowed=schema.groups[key])
                continue
            out[known.name] = True
            for name, part in value.items():
                if name not in inner:
                    reader.problems.found.append(unknown(f"key of {key}", str(name), inner))
                out[str(name)] = part
                reader.took(str(name), str(key))
        else:
            out[known.name] = value
    return out
