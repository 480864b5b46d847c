"""The fields of questions: what each may hold, and how a value is read.

A value comes as text (the command line, a scenario), or as a number, a flag or a list (Python, JSON). Text has its
unit; a number of a field with a unit is in SI. `parse` refuses with a `UserError` that has no place: the reader knows
the field, and the edge knows how the field is spelled there.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, Literal, TypedDict, TypeVar, Unpack

from mowich.errors import UserError, unknown
from mowich.shown import Result
from mowich.units import parse, parse_count

T_co = TypeVar("T_co", covariant=True)

FieldKind = Literal[
    "flag", "count", "number", "quantity", "share", "word", "names", "texts", "file", "files", "mapping", "object"
]
"""flag: yes or no; count: a whole number, "4k"; number; quantity: with a unit; share: 0.6 or "60%"; word; names: words
with commas or a list; texts: a list; file, files: paths; mapping: field -> choices; object: what only Python gives."""


class Edge(Enum):
    """Where a question comes from: options of the command line, keywords of Python, keys of JSON."""

    OPTION = "option"
    KEYWORD = "keyword"
    KEY = "key"


EVERYWHERE = frozenset(Edge)
TYPED = frozenset({Edge.OPTION})
"""What only the command line has: files, and the form of the answer."""
CALLED = frozenset({Edge.KEYWORD})
"""What only Python has."""
_SENT = frozenset({Edge.KEY})
"""What only HTTP has."""


_KEY_UNITS = {"s": "_s", "W": "_W", "B/s": "_Bps", "USD": "_usd"}
"""Unit of a field -> the end of the key that a result states it under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Generic[T_co]):
    """One field of a question. low..high: bounds in SI (with `above`, low itself is refused); words: the vocabulary, or
    what gives it where that brings more than `--help` waits for;
    default: where it is not given, shown: how `--help` writes that; is_listed: whether it has a line of its own there;
    group: the job that it is a part of ("train" is a mapping in Python and JSON); needs: that it must be given;
    implies: a flag that the command line has to say with it, and other edges need not; annotation: its type in Python,
    where that is not the usual one of its kind; told: the key of a result's inputs that states it, or what finds it in
    a result ("": its own name, with the unit that keys of results have); shortens: the fact that a result states among
    its settings, and whose short form the field is."""

    name: str
    parse: Callable[[object], T_co]
    kind: FieldKind
    help: str = ""
    metavar: str = ""
    option: str = ""
    short: str = ""
    negative: str = ""
    is_argument: bool = False
    keyword: str = ""
    group: str = ""
    edges: frozenset[Edge] = EVERYWHERE
    default: T_co | None = None
    shown: str = ""
    is_listed: bool = True
    needs: bool = False
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    tells_bounds: bool = False
    words: tuple[str, ...] | Callable[[], Sequence[str]] = ()
    example: str = ""
    implies: str = ""
    completes: Literal["", "model", "systems"] = ""
    annotation: str = ""
    told: str | Callable[[Result], object] = ""
    shortens: str = ""

    def stated(self, result: Result) -> object:
        """The value that a result was asked with; None where it does not say."""
        if isinstance(self.told, str):
            key = self.told or f"{self.name}{_KEY_UNITS.get(self.unit, '')}"
            return (result.get("inputs") or {}).get(key)
        return self.told(result)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that the field takes; none where it takes others too."""
        return tuple(self.words() if callable(self.words) else self.words)

    def spelled(self, edge: Edge) -> str:
        """The field as an edge calls it: "--bytes", "sizes", "train.tokens"."""
        if edge is Edge.OPTION:
            return self.flag
        own = (self.keyword if edge is Edge.KEYWORD else "") or self.name
        return f"{self.group}.{own}" if self.group else own

    @property
    def flag(self) -> str:
        """The option, or the name of the argument, on the command line."""
        if self.is_argument:
            return self.metavar.strip("[]").removesuffix("...")
        return self.option or f"--{self.name.replace('_', '-')}"


# ---- reading one value
# ----------------------------------------------------------------------------------------------------------------------


def _number(value: object) -> float | None:
    """A number that is no text; None for anything else. Raises UserError for one that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        raise UserError("too large a number", given=value) from None


def read_count(value: object, low: float = 1, high: float = math.inf, allowed: str | None = None) -> float:
    """A whole number within low..high: 16384, "4k", "1T tokens"."""
    text = value.removesuffix("tokens").strip() if isinstance(value, str) else value
    try:
        number = parse_count(text, minimum=low)
        if number > high:
            raise UserError(f"must be at most {high:g}", given=value)
    except UserError as error:
        error.allowed = allowed or error.allowed
        raise
    return number


def read_number(value: object, low: float, high: float, *, above: bool = False, allowed: str = "") -> float:
    """A number within low..high, without a unit: 2.3, "2.3"."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError("not a finite number", given=value)
    number = parse_count(value, minimum=-math.inf, whole=False)
    return _within(number, value, low, high, above, allowed)


def read_quantity(
    value: object, unit: str, low: float, high: float, *, above: bool = False, example: str = ""
) -> float:
    """A quantity in SI within low..high: "2 s", or a number of the unit. example: a usual one, for who forgets the
    unit."""
    number = _number(value)
    read = parse(value, unit, example=example).value if number is None else number
    return _within(read, value, low, high, above, "")


def read_share(value: object, *, most: float = math.nextafter(1.0, 0.0)) -> float:
    """A share from 0 up to 1, without 1: 0.6, "0.6" or "60%"."""
    said = "a share such as 0.6 or 60%"
    number = _number(value)
    if number is None:
        text = value if isinstance(value, str) and value.strip().endswith("%") else f"{value} x"
        try:
            number = parse(text, "1").value
        except UserError:
            raise UserError("not a share", given=value, allowed=said) from None
    if not 0 <= number <= most:
        raise UserError(f"must lie in 0 to {most:.3g}", given=value, allowed=said)
    return number


def read_size(value: object) -> int:
    """Bytes of a buffer, at least one: 1024 or "1GiB", a text rounded to whole bytes."""
    if isinstance(value, str):
        number = float(round(parse(value.strip(), "B").value))
    else:
        number = parse_count(value, minimum=-math.inf)
    if number < 1:
        raise UserError("must be at least 1 byte", given=value)
    return int(number)


def _within(number: float, given: object, low: float, high: float, above: bool, allowed: str) -> float:
    if low <= number <= high and not (above and number == low) and math.isfinite(number):
        return number
    if above and low == 0 and not number > 0:
        raise UserError("must be above 0", given=given)
    if math.isfinite(number) and number < low and high == math.inf:
        raise UserError(f"must be at least {low:g}", given=given)
    if low == -math.inf or high == math.inf:
        raise UserError("not a finite number", given=given)
    raise UserError(
        f"must lie in {low:g} to {high:g}" if allowed else "out of range",
        given=given,
        allowed=allowed or f"{low:g} to {high:g}",
    )


def read_word(value: object, words: Sequence[str] = (), what: str = "word") -> str:
    """A word, of a vocabulary where there is one."""
    if not isinstance(value, str):
        raise UserError("not a word", given=value)
    if words and value not in words:
        raise unknown(what, value, words)
    return value


def read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise UserError("yes or no", given=value, allowed="true, false")
    return value


def read_names(value: object) -> tuple[str, ...]:
    """Words: a text with commas, or a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise UserError("not a list of names", given=value)
    return tuple(word.strip() for word in words if word.strip())


def read_texts(value: object) -> tuple[str, ...]:
    """A list of texts."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise UserError("not a list of texts", given=value)
    return tuple(value)


def read_path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise UserError("not a path", given=value)
    path = Path(value)
    try:
        path.lstat()
    except ValueError:
        raise UserError("a path holds no zero byte", given=value) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError("too long for the name of a file", given=str(value)) from None
    return path


def read_kernels_file(value: object) -> Path:
    """A file with kernels: the user's, or @NAME: one that ships."""
    from mowich.examples import file_or_example

    return file_or_example(str(read_path(value)), "kernels")


def read_scenario_file(value: object) -> Path:
    """A scenario: the user's file, or the name of one that ships."""
    from mowich.examples import file_or_example

    return file_or_example(str(read_path(value)), "scenarios")


def read_paths(value: object) -> tuple[Path, ...]:
    return tuple(read_path(path) for path in value) if isinstance(value, Sequence) else (read_path(value),)


def read_several(value: object) -> tuple[object, ...]:
    """Names with commas, a list, or one thing alone: models and systems as Python has them too."""
    if isinstance(value, str):
        return read_names(value)
    return tuple(value) if isinstance(value, Sequence) else (value,)


def read_mapping(value: object) -> dict[str, str]:
    """Name -> text, for choices of a plan: "tp", or "plan.tp" as settings write it.

    >>> read_mapping({"plan.tp": 8, "pp": "1,2"})
    {'tp': '8', 'pp': '1,2'}
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UserError("not a mapping of names", given=value)
    out: dict[str, str] = {}
    for key, text in value.items():
        name = key.removeprefix("plan.")
        if name in out:
            raise UserError(f"plan.{name} is given twice", fix="several choices are written '4,8'")
        out[name] = str(text)
    return out


# ---- kinds of fields
# ----------------------------------------------------------------------------------------------------------------------


class Spelling(TypedDict, total=False):
    """What a field of any kind may say beside its name and its default, as in `Field`."""

    metavar: str
    option: str
    short: str
    negative: str
    is_argument: bool
    keyword: str
    group: str
    edges: frozenset[Edge]
    shown: str
    is_listed: bool
    needs: bool
    tells_bounds: bool
    example: str
    implies: str
    completes: Literal["", "model", "systems"]
    told: str | Callable[[Result], object]
    shortens: str


def flag(name: str, help: str = "", *, default: bool = False, **more: Unpack[Spelling]) -> Field[bool]:
    return Field(name=name, parse=read_flag, kind="flag", help=help, default=default, **more)


def count(
    name: str,
    help: str = "",
    *,
    low: float = 1,
    high: float = math.inf,
    default: float | None = None,
    **more: Unpack[Spelling],
) -> Field[float]:
    """A whole number of tokens or the like: up to 1e18, so a float."""
    return Field(
        name=name,
        parse=lambda v: read_count(v, low, high),
        kind="count",
        annotation="float | str",
        help=help,
        low=low,
        high=high,
        default=default,
        **more,
    )


def whole(
    name: str,
    help: str = "",
    *,
    low: float = 1,
    high: float = math.inf,
    allowed: str | None = None,
    default: int | None = None,
    **more: Unpack[Spelling],
) -> Field[int]:
    """A whole number of chips, plans, draws."""
    return Field(
        name=name,
        parse=lambda v: int(read_count(v, low, high, allowed)),
        kind="count",
        help=help,
        low=low,
        high=high,
        default=default,
        **more,
    )


def number(
    name: str,
    help: str = "",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    allowed: str = "",
    default: float | None = None,
    **more: Unpack[Spelling],
) -> Field[float]:
    return Field(
        name=name,
        parse=lambda v: read_number(v, low, high, above=above, allowed=allowed),
        kind="number",
        help=help,
        low=low,
        high=high,
        default=default,
        **more,
    )


def quantity(
    name: str,
    unit: str,
    help: str = "",
    *,
    low: float = 0.0,
    high: float = math.inf,
    above: bool = True,
    default: float | None = None,
    **more: Unpack[Spelling],
) -> Field[float]:
    """A number with a unit, above 0 unless it says otherwise."""
    return Field(
        name=name,
        parse=lambda v: read_quantity(v, unit, low, high, above=above, example=more.get("example", "")),
        kind="quantity",
        unit=unit,
        help=help,
        low=low,
        high=high,
        default=default,
        **more,
    )


def share(name: str, help: str = "", *, default: float | None = None, **more: Unpack[Spelling]) -> Field[float]:
    return Field(name=name, parse=read_share, kind="share", help=help, low=0.0, high=1.0, default=default, **more)


def word(
    name: str,
    help: str = "",
    *,
    words: tuple[str, ...] | Callable[[], Sequence[str]] = (),
    what: str = "word",
    default: str | None = None,
    **more: Unpack[Spelling],
) -> Field[str]:
    return Field(
        name=name,
        parse=lambda v: read_word(v, words() if callable(words) else words, what),
        kind="word",
        help=help,
        words=words,
        default=default,
        **more,
    )


def names(
    name: str, help: str = "", *, default: tuple[str, ...] | None = None, **more: Unpack[Spelling]
) -> Field[tuple[str, ...]]:
    return Field(name=name, parse=read_names, kind="names", help=help, default=default, **more)


def texts(
    name: str, help: str = "", *, default: tuple[str, ...] = (), **more: Unpack[Spelling]
) -> Field[tuple[str, ...]]:
    return Field(name=name, parse=read_texts, kind="texts", help=help, default=default, **more)


def path(name: str, help: str = "", *, default: Path | None = None, **more: Unpack[Spelling]) -> Field[Path]:
    return Field(name=name, parse=read_path, kind="file", help=help, default=default, **more)


def paths(
    name: str, help: str = "", *, default: tuple[Path, ...] = (), **more: Unpack[Spelling]
) -> Field[tuple[Path, ...]]:
    return Field(name=name, parse=read_paths, kind="files", help=help, default=default, **more)
