"""What is asked of a kernel while it runs: where to stop, which tiles to show, what to compare it with.

The same fields serve `mowich kernel run` and `mowich.debug_kernel`, so both accept and refuse alike.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import EllipsisType
from typing import Literal, NamedTuple

from mowich.errors import UserError
from mowich.neuroncore.source import lines_of
from mowich.requests.fields import CALLED, TYPED, Edge, Field, read_kernels_file, read_texts
from mowich.requests.schema import QuestionReader

_EDGES = frozenset({Edge.OPTION, Edge.KEYWORD})


class SourceLine(NamedTuple):
    """A line of a kernel. file: its name or the end of its path, "" for the file that runs; turn: which of the
    instructions that come from the line, from 1."""

    file: str
    line: int
    turn: int = 1


TileIndex = tuple["int | slice | EllipsisType", ...]
"""An index of a tile, or of a list where it is one number."""


class Step(NamedTuple):
    """One step from a variable to what is shown. name: of an attribute or a key; at: an index."""

    kind: Literal["attribute", "key", "index"]
    name: str = ""
    at: TileIndex = ()


class TileName(NamedTuple):
    """A tile as a kernel names it. text: as it was given; root: the variable; steps: from there."""

    text: str
    root: str
    steps: tuple[Step, ...]


class ReferenceFile(NamedTuple):
    """A file with a reference. name: of the function in it, "" where the file says it by its names."""

    file: Path
    name: str


def read_source_line(value: object) -> SourceLine:
    """ "softmax.py:42", "42", or with the turn "softmax.py:42:3".

    >>> read_source_line("kernels/softmax.py:42:3")
    SourceLine(file='kernels/softmax.py', line=42, turn=3)
    """
    match = re.fullmatch(r"(?:(.+?):)?([0-9]{1,9})(?::([0-9]{1,9}))?", str(value).strip())
    # "42:3" is line 42, not line 3 of a file "42"
    swapped = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", str(value).strip())
    found = ("", *swapped.groups()) if swapped else match.groups() if match else None
    if found is None or isinstance(value, bool) or int(found[1]) < 1 or int(found[2] or 1) < 1:
        raise UserError(
            "not a line of a kernel",
            given=value,
            allowed="FILE.py:LINE, or FILE.py:LINE:N for the N-th instruction that comes from it",
        )
    return SourceLine(found[0] or "", int(found[1]), int(found[2] or 1))


def read_tile_name(value: object) -> TileName:
    """ "x", "x[0:4, 0:8]", "self.cache[2][:, 0]".

    >>> read_tile_name("x[0:4]").root
    'x'
    """
    text = str(value).strip()
    refused = UserError("not the name of a tile", given=value, fix="for example x, x[0:4, 0:8] or self.cache[2]")
    if not isinstance(value, str):
        raise refused
    try:
        node: ast.expr = ast.parse(text, mode="eval").body
        steps: list[Step] = []
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute):
                steps.append(Step("attribute", node.attr))
            elif isinstance(node, ast.Subscript):
                steps.append(_step(node.slice))
            else:
                raise refused
            node = node.value
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise refused from None
    return TileName(text, node.id, tuple(reversed(steps)))


def _step(node: ast.expr) -> Step:
    """What stands in brackets. Raises ValueError for text that is not a literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return Step("key", node.value)
    return Step("index", at=tuple(_part(part) for part in (node.elts if isinstance(node, ast.Tuple) else [node])))


def _part(node: ast.expr) -> int | slice | EllipsisType:
    if isinstance(node, ast.Slice):
        bounds = [None if part is None else ast.literal_eval(part) for part in (node.lower, node.upper, node.step)]
        if not all(b is None or type(b) is int for b in bounds):
            raise ValueError
        return slice(*bounds)
    found = ast.literal_eval(node)
    if found is Ellipsis:
        return ...
    if type(found) is not int:
        raise ValueError
    return found


def read_reference_file(value: object) -> ReferenceFile:
    """ "reference.py", "reference.py:NAME", "@softmax" """
    match = re.fullmatch(r"(.+\.py|@\w+):([A-Za-z_]\w*)", str(value))
    file = read_kernels_file(match[1] if match else value)
    if not file.is_file():
        raise UserError("no such file", given=str(file))
    return ReferenceFile(file, match[2] if match else "")


STOP: Field[SourceLine] = Field(
    name="stop",
    parse=read_source_line,
    kind="word",
    help=(
        "Stop before the first instruction that comes from this line, and say the state: tiles, memories, engines."
        " FILE.py:LINE:N: before the N-th."
    ),
    metavar="FILE.py:LINE",
    edges=_EDGES,
)
PRINT: Field[tuple[TileName, ...]] = Field(
    name="print",
    parse=lambda value: tuple(read_tile_name(text) for text in read_texts(value)),
    kind="texts",
    help="Show the values of a tile at the stop, or at the end: x, x[0:4, 0:8]. May be given more than once.",
    metavar="TILE",
    keyword="tiles",
    default=(),
    edges=_EDGES,
)
WATCH: Field[TileName] = Field(
    name="watch",
    parse=read_tile_name,
    kind="word",
    help="Show how the values of a tile change: a row and a point of the picture for each instruction that writes it.",
    metavar="TILE",
    edges=_EDGES,
)
FIRST_DIFFERENCE: Field[ReferenceFile] = Field(
    name="first_difference",
    parse=read_reference_file,
    kind="word",
    help=(
        "Find the first instruction whose output leaves a reference: a kernel of the same name in FILE.py, else its"
        " reference(), which may yield (name, array) for tiles within. FILE.py:NAME names another."
    ),
    metavar="FILE.py",
    edges=TYPED,
)
CALLED_REFERENCE: Field[object] = Field(
    name="first_difference",
    parse=lambda value: value,
    kind="object",
    help="A function of the same arguments, a generator of (name, array), or another kernel.",
    edges=CALLED,
)


def check_debugging(reader: QuestionReader, reference: Field[object]) -> None:
    """Note what does not go together."""
    if reader.has(reference):
        for field in (STOP, PRINT, WATCH):
            if reader.given(field):
                reader.add(f"goes without {reader.said(reference)}: ask one of the two", field)
    place = reader.get(STOP)
    if place is not None and place.file and Path(place.file).is_file():
        with reader.watch():
            check_line(place, Path(place.file), reader.said(STOP))


def check_line(place: SourceLine, file: Path, where: str) -> None:
    """Raise for a line that a file does not have."""
    count = len(lines_of(str(file)))
    if count and place.line > count:
        raise UserError("no such line", where=where, given=place.line, allowed=f"{file.name} has {count} lines")
