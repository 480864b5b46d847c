"""Reading a file that a user gives: the one place where its bytes become text, YAML or JSON.

Whatever is wrong with the file is a `UserError` of one line: not a regular file (a pipe, a device, a directory), too
large, not UTF-8, nested too deep, a key given twice, a number of thousands of digits, YAML's anchors and tags. So a
reader above works with plain mappings, lists, words and finite numbers, and a broken file is never a bug of ours. Files
that ship with Mowich are read by `shipped_yaml`, without these checks.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, TypeVar

from mowich.errors import UserError, UserErrors, shorten
from mowich.writing import replace_file

if TYPE_CHECKING:
    import yaml

T = TypeVar("T")

FileKind = Literal["facts", "scenario", "config", "table", "result", "rates"]

LIMIT_B: Mapping[FileKind, int] = {
    "facts": 8_000_000,
    "scenario": 4_000_000,
    "config": 32_000_000,
    "table": 256_000_000,
    "result": 512_000_000,
    "rates": 64_000_000,
}
"""Largest file of each kind, in bytes: a hundred times what is usual."""

MAX_DEPTH = 40
"""Mappings and lists inside one another. The deepest file that Mowich writes or ships has about 10."""

MAX_DIGITS = 100
"""Digits of a whole number: more do not fit a float, or are slow to turn into one."""

MAX_VALUES = 400_000
"""Keys, words and brackets of a YAML file."""

KEPT_FORM = b"1"
"""Of what `kept_beside` keeps. To be counted up when the same file is read into something else than before."""


# files
# ---------------------------------------------------------------------------------------------------------------------


def _what(mode: int) -> str:
    """What stands at a path, in words; "" for a regular file."""
    if stat.S_ISREG(mode):
        return ""
    names = (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in names if test(mode)), "no regular file")


def _unreadable(error: OSError | ValueError, where: str) -> UserError:
    """Why the system did not give a file, as one line."""
    if isinstance(error, ValueError):
        why = "a name does not hold the character NUL"
    elif error.errno == errno.ELOOP:
        why = "a symbolic link to itself"
    elif error.errno == errno.ENOENT:
        why = "no such file"
    else:
        why = (error.strerror or type(error).__name__).lower()
    return UserError(f"cannot be read: {why}", where=where)


def exists(path: Path) -> bool:
    """Whether something stands at a path. A path that the system refuses (not permitted) counts, so that reading it
    says why; a name that is too long does not."""
    try:
        return path.exists()
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG


def open_bytes(path: str | Path, fix: str | None = None) -> IO[bytes]:
    """A regular file, open for reading. Raises UserError for anything else; never waits for one who writes."""
    where = str(path)
    try:
        found = _what(os.stat(path).st_mode)
        if not found:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            found = _what(os.fstat(handle).st_mode)  # another thing may stand there by now
            if not found:
                return os.fdopen(handle, "rb")
            os.close(handle)
    except (OSError, ValueError) as error:
        raised = _unreadable(error, where)
        raised.fix = fix
        raise raised from None
    raise UserError(f"is {found}", where=where, allowed="a regular file")


@contextmanager
def open_lines(path: str | Path) -> Iterator[IO[str]]:
    """A table of any length, open as UTF-8 text to be read line by line. What turns out not to be UTF-8, or no CSV, is
    a UserError too."""
    import csv

    with TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
        try:
            yield file
        except UnicodeDecodeError:
            raise UserError("cannot be read as UTF-8 text", where=str(path), fix="save it as UTF-8") from None
        except csv.Error as error:
            raise UserError(f"not a CSV table: {error}", where=str(path)) from None
        except OSError as error:
            raise _unreadable(error, str(path)) from None


def read_bytes(path: str | Path, kind: FileKind, fix: str | None = None) -> bytes:
    """The bytes of a regular file within the limit of its kind. fix: what to do where there is no file."""
    with open_bytes(path, fix) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            data = b"" if size > LIMIT_B[kind] else file.read(LIMIT_B[kind] + 1)
        except OSError as error:
            raise _unreadable(error, str(path)) from None
    if max(size, len(data)) > LIMIT_B[kind]:
        raise _too_large(kind, str(path), size)
    return data


def _too_large(kind: FileKind, where: str, size: int) -> UserError:
    given = f"{size / 1e6:.4g} MB" if size else None
    return UserError("the file is too large", where=where, given=given, allowed=f"up to {LIMIT_B[kind] / 1e6:g} MB")


def read_text(path: str | Path, kind: FileKind, fix: str | None = None) -> str:
    """The text of a file: UTF-8, a byte order mark left out."""
    return decode(read_bytes(path, kind, fix), str(path))


def read_unpacked(path: str | Path, kind: FileKind) -> str:
    """The text of a file that may be packed by gzip (`.gz`), within the limit of its kind when unpacked."""
    if Path(path).suffix != ".gz":
        return read_text(path, kind)
    import gzip  # few files are packed

    try:
        with gzip.open(BytesIO(read_bytes(path, kind))) as packed:
            data = packed.read(LIMIT_B[kind] + 1)
    except (OSError, EOFError, zlib.error):
        raise UserError("cannot be unpacked", where=str(path), allowed="a whole file packed by gzip") from None
    if len(data) > LIMIT_B[kind]:
        raise _too_large(kind, str(path), 0)
    return decode(data, str(path))


def read_stream(stream: IO[str], kind: FileKind, where: str) -> str:
    """What stdin gives, within the limit of its kind."""
    try:
        text = stream.read(LIMIT_B[kind] + 1)
    except UnicodeDecodeError:
        raise UserError("cannot be read as UTF-8 text", where=where) from None
    if len(text) > LIMIT_B[kind]:
        raise _too_large(kind, where, 0)
    return text


def decode(data: bytes, where: str) -> str:
    """Bytes as UTF-8 text; the line of the first byte that is not."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            "cannot be read as UTF-8 text",
            where=f"{where}:{line}",
            given=f"byte 0x{data[error.start]:02x}",
            fix="save it as UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


# JSON
# ----------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]', re.DOTALL)


class _Found(Exception):
    """What a hook of the JSON parser refuses: the message, the value's text, and what is allowed."""

    def __init__(self, what: str, given: str, allowed: str) -> None:
        super().__init__(what)
        self.what, self.given, self.allowed = what, given, allowed


def read_json(path: str | Path, kind: FileKind, *, infinite: bool = False, fix: str | None = None) -> dict[str, object]:
    """The object of a JSON file. infinite: whether NaN and Infinity are read, each as its word: Python writes them into
    configs, and no JSON may hold them as numbers again."""
    return parse_json(read_text(path, kind, fix), str(path), infinite=infinite)


def parse_json(text: str, where: str, *, infinite: bool = False) -> dict[str, object]:
    """The object that a text holds. Raises UserError with the line: no JSON, a key given twice, nested too deep, a
    number too long or too large."""
    import json

    twice = False

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal twice
        made = dict(items)
        twice = twice or len(made) < len(items)
        return made

    try:
        data = json.loads(
            text, object_pairs_hook=pairs, parse_int=_whole, parse_float=_finite, parse_constant=_constant(infinite)
        )
    except json.JSONDecodeError as error:
        what = f"not valid JSON: {error.msg}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            what += " (is the file cut off?)"
        raise UserError(what, where=f"{where}:{error.lineno}:{error.colno}") from None
    except _Found as found:
        line = text.count("\n", 0, max(text.find(found.given), 0)) + 1
        raise UserError(
            found.what, where=f"{where}:{line}", given=shorten(found.given, 40), allowed=found.allowed
        ) from None
    except RecursionError:
        data = None
        deep = True
    else:
        deep = _deeper(data)
    if deep:
        line = next((line for line, _, depth in _json_keys(text) if depth > MAX_DEPTH), 1)
        raise _too_deep(where, line, MAX_DEPTH)
    if twice:
        raise next(_json_twice(text, where))
    if not isinstance(data, dict):
        raise UserError("not a JSON object", where=f"{where}:1", given=type(data).__name__)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        _no_half_characters(data, where)
    return data


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Found(f"a whole number of {len(text)} digits", text, f"up to {MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Found("too large a number", text, "up to 1.8e308")
    return value


def _constant(infinite: bool) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not infinite:
            raise _Found("not a number of JSON", text, "finite numbers")
        return text

    return read


def _deeper(data: object) -> bool:
    """Whether containers are inside one another by more than MAX_DEPTH."""
    level, depth = [data], 0
    while level:
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        level = [inner for inner in level if isinstance(inner, dict | list)]
        depth += 1
        if depth >= MAX_DEPTH and level:
            return True
    return False


def _json_keys(text: str) -> Iterator[tuple[int, tuple[int, str] | None, int]]:
    """(line, (object, key) or None at a bracket, depth) of each key and opening bracket, in the order of the text: for
    errors, which need the line."""
    import json

    opened, count, line, at = [0], 0, 1, 0
    is_object = [False]
    wants_key = False
    for token in _TOKEN.finditer(text):
        word = token.group()
        line += text.count("\n", at, token.start())
        at = token.start()
        if word in "{[":
            count += 1
            opened.append(count)
            is_object.append(word == "{")
            wants_key = word == "{"
            yield line, None, len(opened) - 1
        elif word in "}]":
            if len(opened) > 1:
                opened.pop()
                is_object.pop()
            wants_key = False
        elif word == ",":
            wants_key = is_object[-1]
        elif word != ":" and wants_key:
            wants_key = False
            yield line, (opened[-1], json.loads(word)), len(opened) - 1


def _json_twice(text: str, where: str) -> Iterator[UserError]:
    """An error for each key that its object has already."""
    seen: dict[tuple[int, str], int] = {}
    for line, key, _ in _json_keys(text):
        if key is None:
            continue
        if key in seen:
            yield _twice(where, line, key[1], seen[key])
        seen.setdefault(key, line)


def _no_half_characters(data: object, where: str) -> None:
    import json

    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            r"half of a character pair (\ud800 to \udfff)", where=where, allowed="whole characters"
        ) from None


def _twice(where: str, line: int, path: str, first: int) -> UserError:
    return UserError(f"given twice (first on line {first})", where=f"{where}:{line} {shorten(path, 80)}")


def _too_deep(where: str, line: int, most: int) -> UserError:
    return UserError("nested too deep", where=f"{where}:{line}", allowed=f"up to {most} levels")


# what is kept of files that ship
# ----------------------------------------------------------------------------------------------------------------------


def kept_beside(path: Path, make: Callable[[bytes], T]) -> T:
    """What `make` makes of the bytes of a file that ships with Mowich: plain data, kept in `__pycache__` beside it.

    What is kept begins with a digest of the file's bytes and one of its own. So it is used for exactly these bytes, and
    a torn one is not used. It is written under another name, which then takes the place of the old one. Where it cannot
    be written (a folder that is read-only), the next command makes it again.
    """
    import pickle

    source = path.read_bytes()
    stamp = sha256(KEPT_FORM + source).digest()
    kept = _kept_path(path)
    with suppress(OSError):
        held = kept.read_bytes()
        if held[:32] == stamp and sha256(held[64:]).digest() == held[32:64]:
            found: T = pickle.loads(held[64:])
            return found
    made = make(source)
    data = pickle.dumps(made, protocol=5)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, stamp + sha256(data).digest() + data, lasting=False)
    return made


def _kept_path(path: Path) -> Path:
    """Where Python would keep what it makes of a file: beside it, or in the folder of PYTHONPYCACHEPREFIX."""
    from importlib.util import cache_from_source

    return Path(cache_from_source(str(path))).with_suffix(f"{path.suffix}-kept")


# YAML
# ----------------------------------------------------------------------------------------------------------------------


class Document(NamedTuple):
    """A YAML text: its values, with keys as they are written, and its nodes, which have the lines. Both None where the
    text holds nothing."""

    data: object
    node: yaml.Node | None


@cache
def _loader() -> type[yaml.SafeLoader]:
    """The fast parser where it is built."""
    import yaml

    found: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return found


def shipped_yaml(path: Path) -> Any:
    """What a YAML file holds that ships with Mowich: no checks, as tests read these files, and every command would pay.
    What the parser makes of it is kept beside the file (`kept_beside`)."""

    def parse(text: bytes) -> object:
        import yaml

        return yaml.load(text, Loader=_loader())

    return kept_beside(path, parse)


def read_yaml(path: str | Path, kind: FileKind) -> Document:
    """A YAML file that a user gives."""
    return parse_yaml(read_text(path, kind), str(path))


def parse_yaml(text: str, where: str) -> Document:
    """Plain data from a YAML text. Raises UserError, or UserErrors for several keys given twice, each with its line."""
    import yaml

    check_yaml(text, where)
    try:
        node = yaml.compose(text, Loader=_loader())
    except yaml.YAMLError as error:
        _not_yaml(error, text, where)
    if node is None:
        return Document(None, None)
    twice: list[UserError] = []
    data = _build(node, where, (), twice)
    if twice:
        raise twice[0] if len(twice) == 1 else UserErrors(twice)
    return Document(data, node)


def check_yaml(text: str, where: str, *, depth: int = MAX_DEPTH, values: int = MAX_VALUES) -> None:
    """Refuse what plain data does not need: anchors, aliases, tags, deep nesting, more than `values` keys, words and
    brackets. Raises UserError."""
    import yaml

    level, count = 0, 0
    opens, closes = (yaml.MappingStartEvent, yaml.SequenceStartEvent), (yaml.MappingEndEvent, yaml.SequenceEndEvent)
    try:
        for event in yaml.parse(text, Loader=_loader()):
            count += 1
            level += 1 if isinstance(event, opens) else -1 if isinstance(event, closes) else 0
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise UserError(
                    "anchors, aliases and tags are not taken here",
                    where=f"{where}:{line}",
                    fix="write the value out; a word that begins with &, * or ! in quotes",
                )
            if level > depth:
                raise _too_deep(where, line, depth)
            if count > values:
                raise UserError("too many values", where=f"{where}:{line}", allowed=f"up to {values}")
    except yaml.YAMLError as error:
        _not_yaml(error, text, where)


def _not_yaml(error: yaml.YAMLError, text: str, where: str) -> NoReturn:
    """A parser's error as one line."""
    import yaml
    from yaml.reader import Reader

    if isinstance(error, yaml.MarkedYAMLError):
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        if "nesting depth" in str(error.problem):
            raise _too_deep(where, line, MAX_DEPTH) from None
        raise UserError(f"not YAML: {error.problem}", where=f"{where}:{line}") from None
    strange = Reader.NON_PRINTABLE.search(text)
    if strange is None:
        raise UserError(f"not YAML ({type(error).__name__})", where=where) from None
    line = text.count("\n", 0, strange.start()) + 1
    raise UserError("not YAML: a control character", where=f"{where}:{line}", given=strange.group()) from None


def _build(node: yaml.Node, where: str, path: tuple[str, ...], twice: list[UserError]) -> object:
    """The values of a node. Keys stay as they are written: YAML reads `on` as true and 8 as a number."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_build(item, where, (*path, str(place)), twice) for place, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, where)
    made: dict[str, object] = {}
    lines: dict[str, int] = {}
    for name, child in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode) or name.value == "<<":
            raise UserError(
                "not a key", where=f"{where}:{line}", given=shorten(str(name.value), 40), allowed="one word"
            )
        key = name.value
        if key in made:
            twice.append(_twice(where, line, ".".join((*path, key)), lines[key]))
        else:
            lines[key] = line
        made[key] = _build(child, where, (*path, key), twice)
    return made


def _scalar(node: yaml.Node, where: str) -> object:
    """A word, a finite number, a date, true, false or null."""
    import yaml

    line, text = node.start_mark.line + 1, str(node.value)
    what = node.tag.rpartition(":")[2]
    if what == "str":
        return text
    if what == "int" and len(text) > MAX_DIGITS:
        raise UserError(
            f"a whole number of {len(text)} digits",
            where=f"{where}:{line}",
            given=shorten(text, 40),
            allowed=f"up to {MAX_DIGITS} digits",
        )
    try:
        value = yaml.constructor.SafeConstructor().construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError):
        what = {"timestamp": "date", "int": "number", "float": "number"}.get(what, what)
        raise UserError(
            f"not a {what}", where=f"{where}:{line}", given=shorten(text, 40), fix="put a word in quotes"
        ) from None
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise UserError("not a finite number", where=f"{where}:{line}", given=shorten(text, 40))
    return value


def line_of(path: str | Path, keys: Sequence[str]) -> int:
    """Line of a nested key in a YAML file that was read before, for error messages (parses the file again)."""
    import yaml

    text = read_text(path, "facts")
    try:
        node = yaml.compose(text, Loader=_loader())
    except yaml.YAMLError as error:  # the file is another one by now
        _not_yaml(error, text, str(path))
    line = 1
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, child in node.value:
            if name.value == key:
                line, node = name.start_mark.line + 1, child
                break
        else:
            break
    return line
