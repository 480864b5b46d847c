"""How results show themselves: printed, in a notebook as a small table, as plain rows for any dataframe, as pictures.

Pages of results are drawn by `mowich.show`, which stands above them in the order of imports. So no result knows it:
what draws is registered here (`draw_with`), by the public face of the package, and loaded when a result is first shown.
`Rows` is the tuple of a result's rows; when called, it gives them as plain numbers.

>>> class Two:
...     def to_dict(self):
...         step = {"value": 2.0, "low": 1.0, "high": 3.0, "grade": "C", "unit": "s"}
...         return {"system": "trn3", "step_s": step, "plan": {"tp": 4}}
>>> Rows([Two()])()
[{'system': 'trn3', 'step_s': 2.0, 'step_s_low': 1.0, 'step_s_high': 3.0, 'step_s_grade': 'C', 'plan_tp': 4}]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from functools import cache, wraps
from os import PathLike
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, overload

T = TypeVar("T", covariant=True)
S = TypeVar("S", bound="Shown")

Result = Mapping[str, Any]
"""The JSON of an answer, or of an object in it: a row, a plan, its inputs. Its schema says which keys there are, and
what stands under each."""

NO_COLUMNS = ("spread", "breakdown", "coverage")
"""Parts of an estimate and of a row that are not columns."""

LEFT_OUT = (*NO_COLUMNS, "unit", "reason_of")
"""Parts that plain numbers leave out."""


class Text(str):
    """Text that a prompt and a notebook show as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self)}</pre>"


class Told(Protocol):
    """What has a JSON object."""

    def to_dict(self) -> Result: ...


def plain_json(value: object) -> object:
    """A value as JSON has it: what has a `to_dict` says itself; other dataclasses are their fields, mappings stay
    mappings, tuples and lists are lists, an enum is its value, a date its ISO form, a path its text."""
    if value is None or type(value) in (str, float, int, bool):  # most values, and the imports cost time
        return value
    import datetime  # not above, as `dataclasses` below: `import mowich` loads this module
    from dataclasses import is_dataclass
    from enum import Enum
    from pathlib import PurePath

    if value is None or (isinstance(value, str | int | float) and not isinstance(value, Enum)):
        return value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain_json(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [plain_json(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime.date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return written_fields(value)
    return str(value) if isinstance(value, PurePath) else value


def written_fields(item: object) -> dict[str, object]:
    """The JSON object of an item: its `SCHEMA` where it has one, then what its `KEYS` name, or all its fields.

    `KEYS` is one text of words, in the order of the JSON. "time_s" is the field or the property of that name;
    "price=price_label" has a key of its own; "where=point.where" is a field of a field, None where the first is None;
    "clock_s=run.clock_s" may be of a mapping too, "read_B=hbm_B.0" of a pair;
    "inputs.on=system" stands in an object of its own, as does "run.mean", a field of the field "run". "need?" is left
    out where it is None. "**need" puts the keys of an object here, and none where it is None. A mark of `MARKS` follows
    a colon: "predicted:bare", "why_not:none", "stack:none?". "*" as the first word is all fields: each word after it
    stands in place of that of its field, or at the end, and "-seconds" leaves a field out.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, slots=True, kw_only=True)
    ... class Part(Keyed):
    ...     KEYS = "part=name engines:none? ran.binds=binds ran.on=engines:count"
    ...     name: str
    ...     binds: str = "PE"
    ...     engines: tuple[str, ...] = ()
    >>> Part(name="mlp").to_dict()
    {'part': 'mlp', 'ran': {'binds': 'PE', 'on': 0}}
    """
    schema = getattr(item, "SCHEMA", "")
    out: dict[str, object] = {"schema": schema} if schema else {}
    kind: type = type(item)
    for word in key_words(kind):
        value: object = item
        for name in word.path:
            value = _of(value, name)
        value = MARKS[word.mark](value) if word.mark else value
        if word.is_optional and value is None:
            continue
        into = out
        for name in word.places:
            inner = into.setdefault(name, {})
            assert isinstance(inner, dict), f"{kind.__name__}: {name} is a key and holds keys"
            into = inner
        told = plain_json(value)
        if word.key:
            into[word.key] = told
        elif isinstance(told, Mapping):
            into |= told
    return out


def _of(value: object, name: str) -> object:
    """What stands under a name of a path."""
    if value is None or isinstance(value, dict):
        return value.get(name) if value else None
    return value[int(name)] if isinstance(value, tuple) and name.isdigit() else getattr(value, name)


def _bare(value: object) -> object:
    told = plain_json(value)
    return {**told, "coverage": {}, "breakdown": {}} if isinstance(told, Mapping) else told


def _count(value: object) -> int:
    assert isinstance(value, Sized)
    return len(value)


def _finite(value: object) -> object:
    from math import isfinite

    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(part) for part in value]
    return value if not isinstance(value, float) or isfinite(value) else None


def _graded(value: object) -> object:
    told = plain_json(value)
    return {**told, "grade": told["grade"] or None} if isinstance(told, Mapping) else told


MARKS: Mapping[str, Callable[[object], object]] = {
    "bare": _bare,
    "count": _count,
    "graded": _graded,
    "is": lambda value: value is not None,
    "list": lambda value: value or (),
    "finite": _finite,
    "none": lambda value: value or None,
    "zero": lambda value: value or 0,
}
"""What a mark makes of a value. bare: an estimate without its parts and its coverage; count: how many there are;
graded: an estimate, with None for a grade that is empty; is: whether it is there; list: an empty list where it is
None; finite: None for each number in it that is not finite; none: None where it is empty or zero; zero: 0 where it is
None."""


class KeyWord(NamedTuple):
    """A word of `KEYS`. key: "" where the keys of an object stand here; places: the objects that it stands in, from
    the outside; path: names of fields."""

    key: str
    places: tuple[str, ...]
    path: tuple[str, ...]
    mark: str
    is_optional: bool


@cache
def key_words(kind: type) -> tuple[KeyWord, ...]:
    """The words of a class: those of its `KEYS`, else one for each field.

    >>> key_words(type("Part", (), {"KEYS": "run.why=why_not:none?"}))
    (KeyWord(key='why', places=('run',), path=('why_not',), mark='none', is_optional=True),)
    """
    found: list[KeyWord] = []
    for word in _words_of(kind):
        names, _, mark = word.rstrip("?").partition(":")
        key, _, path = names.rpartition("=")
        *places, own = (key or path.strip("*")).split(".")
        found.append(
            KeyWord(
                key="" if path.startswith("**") else own.rstrip("_"),
                places=tuple(places),
                path=tuple(path.strip("*").split(".")),
                mark=mark,
                is_optional=word.endswith("?"),
            )
        )
    return tuple(found)


def _words_of(kind: type) -> list[str]:
    """The words of `KEYS`, with those of all fields in place of "*"."""
    from dataclasses import fields

    first, *rest = getattr(kind, "KEYS", "").split() or ["*"]
    if first != "*":
        return [first, *rest]
    own = {re.split("[:?]", word.lstrip("-").rpartition("=")[2])[0]: word for word in rest}
    words = [own.pop(field.name, field.name) for field in fields(kind)]
    return [word for word in (*words, *own.values()) if not word.startswith("-")]


class Keyed:
    """What writes itself as `written_fields` does."""

    KEYS: ClassVar[str] = ""
    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The keys of its JSON, in order."""
        return written_fields(self)


class Rows(tuple[T, ...]):
    """Rows of a result; `rows()` gives them as a list of dicts of plain numbers, SI, None where unknown.

    Units: SI; an unknown is None.

    Example:
        >>> import mowich
        >>> found = mowich.goodput("trn3:64", samples=20)
        >>> len(found.rows), found.rows()[0]["strategy"]
        (4, 'sync')
    """

    __slots__ = ()

    def __call__(self) -> list[dict[str, object]]:
        return [plain_row(_as_dict(row)) for row in self]


def _as_dict(row: object) -> Mapping[str, object]:
    from dataclasses import fields, is_dataclass  # not above: `import mowich` loads this module, and they take 10 ms

    if isinstance(row, tuple):  # (the question, its answer)
        return {k: v for part in row for k, v in _as_dict(part).items()}
    if hasattr(row, "to_dict"):
        told: Mapping[str, object] = row.to_dict()
        return told
    if is_dataclass(row):
        return {f.name: getattr(row, f.name) for f in fields(row)}
    raise TypeError(f"{type(row).__name__} is no row")


class Spot(NamedTuple):
    """A place of a table. is_estimated: the value, an end or the grade of an estimate."""

    column: str
    value: object
    is_estimated: bool = False


def spots(row: Mapping[str, object], join: str, left_out: tuple[str, ...] = NO_COLUMNS) -> Iterator[Spot]:
    """One row, nested objects spread over columns, with `join` between their names; an estimate E becomes E, E_low,
    E_high and E_grade; a list is one text."""
    from dataclasses import is_dataclass

    for key, value in row.items():
        if key in left_out:
            continue
        value = value.to_dict() if hasattr(value, "to_dict") else value
        if isinstance(value, Mapping) and "grade" in value and "value" in value:
            yield Spot(key, value["value"], True)
            for part in ("low", "high", "grade"):
                yield Spot(f"{key}_{part}", value.get(part), True)
        elif isinstance(value, Mapping) or is_dataclass(value):
            for spot in spots(value if isinstance(value, Mapping) else _as_dict(value), join, left_out):
                yield spot._replace(column=f"{key}{join}{spot.column}")
        elif isinstance(value, list | tuple):
            yield Spot(key, "; ".join(map(str, value)))
        else:
            yield Spot(key, value)


def plain_row(row: Mapping[str, object]) -> dict[str, object]:
    """One row as plain numbers, SI, None where unknown."""
    return {spot.column: spot.value for spot in spots(row, "_", LEFT_OUT)}


class MadeOf(Protocol):
    """What an answer is made of: `mowich.studies.record` has it."""

    @property
    def facts_read(self) -> Sequence[str]: ...
    @property
    def digest(self) -> str: ...
    def to_dict(self) -> Result: ...


class Drawn(Protocol):
    """A picture that shows itself in a notebook. chart: its numbers as a table (`head`, `rows`), and what draws
    them."""

    @property
    def chart(self) -> object: ...
    def html(self) -> str: ...


class Frame(Protocol):
    """A dataframe of pandas or polars: what the two have in common."""

    @property
    def columns(self) -> Sequence[str]: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, column: str, /) -> Sequence[object]: ...


class Drawer(Protocol):
    """What draws results: `mowich.show.render.notebook` is one."""

    def html(self, result: Shown, /) -> str: ...
    def text(self, result: Shown, /) -> str: ...
    def plot(self, result: Shown, which: int | str, /) -> Drawn: ...
    def pictures(self, result: Shown, /) -> list[str]: ...
    def explained(self, result: Shown, metric: str, facts: object, /) -> str: ...
    def frame(self, result: Shown, library: str | None, /) -> Frame: ...
    def csv(self, result: Shown, path: str | PathLike[str] | None, /) -> str: ...
    def parquet(self, result: Shown, path: str | PathLike[str], /) -> None: ...
    def file_text(self, result: Shown, inputs: Mapping[str, object], more: Mapping[str, object], /) -> str: ...


_find: Callable[[], Drawer] | None = None


def draw_with(find: Callable[[], Drawer]) -> None:
    """Name what draws results. find: gives it, and is called each time that a result is drawn; so it can load it
    late."""
    global _find
    _find = find


def _drawer() -> Drawer:
    assert _find is not None, "importing the package names what draws results"
    return _find()


class Shown:
    """A result that prints itself as its table, and that a notebook shows.

    Units: SI in rows and files (seconds, bytes, dollars, joules); an unknown is None.

    Example:
        >>> import mowich
        >>> answer = mowich.collective("all-reduce", "trn3:64", sizes=["1GiB"])
        >>> print(answer)  # doctest: +ELLIPSIS
        All-reduce of 1.00 GiB: about ...
    """

    __slots__ = ("__dict__",)  # of what was heard: a slot of its own would not go with those of other bases

    def __init_subclass__(cls) -> None:
        """The JSON of every kind of result says what it is made of, and what its question gave in vain."""
        super().__init_subclass__()
        own = cls.__dict__.get("to_dict")
        if own is None or hasattr(own, "__wrapped__"):
            return

        @wraps(own)
        def to_dict(self: Shown, *args: object, **named: object) -> dict[str, object]:
            return self._with_origin(own(self, *args, **named))

        cls.to_dict = to_dict  # type: ignore[method-assign]

    def heard(self) -> Mapping[str, object]:
        """Which of the facts that were set changed nothing here; empty where none was set.

        Returns: `unread`: paths that the answer does not read; `read_instead`: for each of them what it reads in its
        place; `unmoved`: what it reads and what moves nothing, {"path", "because"}, None where nobody looked.

        Example:
            >>> import mowich
            >>> facts = mowich.load_facts().with_values({"chips.h100_sxm.power.tdp": 650.0})
            >>> mowich.collective("all-reduce", "h100:8", sizes=["1GiB"], facts=facts).heard()["unread"]
            ['chips.h100_sxm.power.tdp']
        """
        found: Mapping[str, object] = getattr(self, "_heard", {})
        return found

    @property
    def _record(self) -> MadeOf | None:
        found: MadeOf | None = getattr(self, "_made_of", None)
        return found

    @property
    def facts_read(self) -> tuple[str, ...]:
        """Paths of the facts that the answer read, sorted; empty for an object that answers no question.

        Units: none.

        Example:
            >>> import mowich
            >>> answer = mowich.collective("all-reduce", "h100:8", sizes=["1GiB"])
            >>> [path for path in answer.facts_read if path.startswith("chips.h100_sxm.scale_up")]
            ['chips.h100_sxm.scale_up.links', 'chips.h100_sxm.scale_up.nvlink_bandwidth_per_direction']
        """
        return () if self._record is None else tuple(self._record.facts_read)

    @property
    def digest(self) -> str:
        """16 hex digits of the question, of the facts that its answer read and of the version of Mowich: the same
        digest means the same answer. "" for an object that answers no question.

        Units: none.

        Example:
            >>> import mowich
            >>> one, other = (mowich.goodput("trn3:64", samples=n) for n in (20, 21))
            >>> len(one.digest), one.digest == other.digest
            (16, False)
        """
        return "" if self._record is None else self._record.digest

    def _with_origin(self, found: dict[str, object]) -> dict[str, object]:
        """The JSON with what was heard, and with what the answer is made of."""
        return {**found, **self.heard(), **({} if self._record is None else self._record.to_dict())}

    def to_dict(self) -> dict[str, object]:
        """The JSON of the result, with its schema, as `--json` prints it.

        Returns: a mapping; numbers are SI, an estimate is {"value", "low", "high", "grade", "unit"}.

        Example:
            >>> import mowich
            >>> mowich.goodput("trn3:64", samples=20).to_dict()["schema"]
            'mowich/goodput@1'
        """
        return self._with_origin(written_fields(self))

    def __str__(self) -> str:
        """The page that the command line prints; of a result without one, its fields."""
        return _drawer().text(self)

    def _repr_html_(self) -> str:
        """Headline, the main table with ranges and grades, and the remarks."""
        return _drawer().html(self)

    def plot(self, which: int | str = 0) -> Drawn:
        """A picture of the result, which shows itself in a notebook.

        Args:
            which: its place from 0, a word of its title, or the name of a kind: "pareto", "time", "memory", "ranges",
                "cost", "drivers", "waterfall", "engines", "power". `pictures()` lists the titles.

        Returns: a picture; `.html()` is a whole document, `.chart.rows` its numbers. Raises UserError with what there
        is.

        Example:
            >>> import mowich
            >>> answer = mowich.collective("all-reduce", "trn3:64", sizes=["1MiB", "1GiB"])
            >>> answer.plot("ranges").chart.title
            'Time with its 90% range'
        """
        return _drawer().plot(self, which)

    def pictures(self) -> list[str]:
        """Titles of the pictures that there are.

        Returns: one title for each picture, in the order of the report.

        Example:
            >>> import mowich
            >>> mowich.goodput("trn3:64", samples=20).pictures()[0]
            'Goodput with its 90% range'
        """
        return _drawer().pictures(self)

    def explain(self, metric: str, *, facts: object = None) -> Text:
        """Where a number comes from, as `mowich explain` prints it.

        Args:
            metric: name of the number, "trn3.step_s.ep".
            facts: those that made the result, where they are not the shipped ones.

        Returns: text with units: formula, inputs, facts with sources, what would move it most.

        Example:
            >>> import mowich
            >>> answer = mowich.goodput("trn3:64", samples=20)
            >>> "grade" in answer.explain("sync.goodput")
            True
        """
        return Text(_drawer().explained(self, metric, facts))

    def to_df(self, library: str | None = None) -> Frame:
        """The rows as a dataframe: one line for each row, a column for each number.

        Args:
            library: "pandas" or "polars"; None takes the first that is installed.

        Returns: a dataframe, SI units; an estimate E has the columns E, E_low, E_high and E_grade. Raises UserError
        where neither is installed.

        Example:
            >>> import mowich
            >>> frame = mowich.goodput("trn3:64", samples=20).to_df()  # doctest: +SKIP
            >>> frame.shape[0]  # doctest: +SKIP
            4
        """
        return _drawer().frame(self, library)

    def to_json(self, inputs: Mapping[str, object] | None = None, more: Mapping[str, object] | None = None) -> Text:
        """The result as a file that `mowich explain` reads, as `--out` writes it.

        Args:
            inputs: beside those that it states: the words of a question.
            more: beside the result.

        Returns: JSON, with its schema and the version of Mowich; SI units.

        Example:
            >>> import mowich
            >>> mowich.goodput("trn3:64", samples=20).to_json().splitlines()[1]
            ' "schema": "mowich/goodput@1",'
        """
        return Text(_drawer().file_text(self, inputs or {}, more or {}))

    def to_csv(self, path: str | PathLike[str] | None = None) -> Text:
        """The rows as CSV, as `--csv` prints them.

        Args:
            path: also written there.

        Returns: the text, SI units; "?" where a number is unknown.

        Example:
            >>> import mowich
            >>> mowich.goodput("trn3:64", samples=20).to_csv().splitlines()[0][:8]
            'strategy'
        """
        return Text(_drawer().csv(self, path))

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write the rows as one Parquet file, SI units. Needs the extra [tables].

        Args:
            path: of the file. Raises UserError where DuckDB is missing or the file cannot be written.

        Example:
            >>> import mowich
            >>> mowich.goodput("trn3:64", samples=20).to_parquet("goodput.parquet")  # doctest: +SKIP
        """
        _drawer().parquet(self, path)


def with_heard(result: S, found: Mapping[str, object]) -> S:
    """The same result, whose `heard` now says this."""
    object.__setattr__(result, "_heard", found)
    return result


def with_record(result: S, record: MadeOf) -> S:
    """The same result, which now says that it is made of this."""
    object.__setattr__(result, "_made_of", record)
    return result


class AnswerList(Shown, Sequence[T]):
    """A result that is its rows: it has a length, a place for each row, and prints itself as its table.

    Args:
        rows: of the answer, in order; `rows()` gives them as plain dicts.

    Units: SI.

    Example:
        >>> import mowich
        >>> found = mowich.power(["trn3", "gb300"])
        >>> len(found), found[0].system
        (2, 'trn3')
    """

    def __init__(self, rows: Sequence[T]) -> None:
        self.rows: Rows[T] = Rows(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...
    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        return self.rows[place]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows)"
