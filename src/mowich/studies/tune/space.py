"""The variants of a kernel's file: constants of the file, and defaults of the kernel's arguments, that take each value.

A variant is a text of its own, in which other values stand in the place of those of the file, on the same lines. The
file is read and never executed here.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mowich.errors import UserError, UserErrors, unknown
from mowich.files import MAX_DIGITS
from mowich.studies.sweep_grid import values_of

ConstantValue = int | float | bool | str | None
"""A value that a constant takes; of a name such as nisa.vector_engine its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A value that can be varied. line: where it is; start, end: its bytes in the text of the file; text, node: it."""

    name: str
    line: int
    start: int
    end: int
    text: str
    node: ast.expr


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A value that is varied. words: what is written in its place, one for each value, in an order that does not depend
    on how they were given; values: the same as an answer says them."""

    at: Written
    words: tuple[str, ...]
    values: tuple[ConstantValue, ...]

    @property
    def name(self) -> str:
        """Of the constant, or of the argument."""
        return self.at.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """number: its place in the whole space; settings: name -> value; text: of its file."""

    number: int
    settings: Mapping[str, ConstantValue]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpace:
    """All variants of a file: each value of each axis with each of the others.

    Example:
        >>> space = read_space("TILE = 128\\n", "k.py", None, ["TILE=64,256"])
        >>> len(space), space.variant(1).text
        (2, 'TILE = 256\\n')
    """

    text: str
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        return math.prod(len(axis.words) for axis in self.axes)

    def variant(self, number: int) -> Variant:
        """The variant of this number, 0 to the last."""
        raw, settings = self.text.encode(), dict[str, ConstantValue]()
        written = list[tuple[Written, str]]()
        for axis, place in zip(self.axes, self.places(number), strict=True):
            settings[axis.name] = axis.values[place]
            written.append((axis.at, axis.words[place]))
        for at, word in sorted(written, key=lambda pair: -pair[0].start):
            raw = raw[: at.start] + word.encode() + raw[at.end :]
        return Variant(number=number, settings=settings, text=raw.decode())

    def places(self, number: int) -> tuple[int, ...]:
        """Which value of each axis a variant has."""
        out = []
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.words))
            out.append(place)
        return tuple(reversed(out))

    def neighbours(self, number: int) -> Iterator[int]:
        """Variants that differ from one in the value of one axis."""
        weight = 1
        for axis, place in zip(reversed(self.axes), reversed(self.places(number)), strict=True):
            for other in range(len(axis.words)):
                if other != place:
                    yield number + (other - place) * weight
            weight *= len(axis.words)


def read_space(text: str, file: str, kernel: str | None, vary: Sequence[str]) -> VariantSpace:
    """The variants that are asked for. vary: "TILE=128,256" or "TILE=64..512:x2". Raises UserErrors for all that is
    wrong with them, UserError for a file that is no Python."""
    known = varied_values(text, file, kernel)
    asked, problems = dict[str, list[str]](), list[UserError]()
    for words in vary:
        name, equals, listed = words.partition("=")
        name = name.strip()
        try:
            if not equals or not listed.strip():
                raise UserError("not a list of values", given=words, allowed="NAME=VALUE,VALUE...", field="vary")
            if name not in known:
                raise unknown("constant", name, known, where=file)
            asked.setdefault(name, []).extend(values_of(listed))
        except UserError as error:
            problems.append(error)
    axes = []
    for name in sorted(asked):
        try:
            axes.append(_axis(known[name], asked[name], file))
        except UserError as error:
            problems.append(error)
    if problems:
        raise UserErrors(problems)
    return VariantSpace(text=text, axes=tuple(axes))


def varied_values(text: str, file: str, kernel: str | None = None) -> dict[str, Written]:
    """What of a file can be varied, by name: constants that it sets once, and defaults of its kernel's arguments.

    >>> sorted(varied_values("import nki\\nTILE = 128\\n@nki.jit\\ndef k(x, ahead=2):\\n    pass\\n", "k.py"))
    ['TILE', 'ahead']
    """
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{type(error).__name__}: {error}", where=f"{file}:{getattr(error, 'lineno', None) or 1}"
        ) from None
    starts, raw = [0], text.encode()
    for line in raw.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    found, twice = dict[str, Written](), set[str]()

    def put(name: str, value: ast.expr | None) -> None:
        if value is None or value.end_lineno is None or value.end_col_offset is None:
            return
        twice.update({name} & {*found})
        start, end = starts[value.lineno - 1] + value.col_offset, starts[value.end_lineno - 1] + value.end_col_offset
        written = raw[start:end].decode()
        found[name] = Written(name=name, line=value.lineno, start=start, end=end, text=written, node=value)

    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            put(node.targets[0].id, node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            put(node.target.id, node.value)
    for node in _kernel(tree, kernel):
        plain = [*node.args.posonlyargs, *node.args.args]
        for argument, value in zip(plain[len(plain) - len(node.args.defaults) :], node.args.defaults, strict=True):
            put(argument.arg, value)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            put(argument.arg, default)
    return {name: at for name, at in found.items() if name not in twice and not name.startswith("__")}


def _kernel(tree: ast.Module, kernel: str | None) -> list[ast.FunctionDef]:
    """The kernel that is meant: the one of this name, or the only one; none where that is not clear."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if kernel is not None:
        return [node for node in functions if node.name == kernel][-1:]
    jitted = [node for node in functions if any("jit" in ast.dump(d) for d in node.decorator_list)]
    return jitted if len(jitted) == 1 else []


def _axis(at: Written, words: Sequence[str], file: str) -> Axis:
    """Values of one axis; the same value twice is once."""
    where, made = f"{file}:{at.line}", dict[str, ConstantValue]()
    if at.node.lineno != at.node.end_lineno:
        raise UserError(f"{at.name} is written on several lines and cannot be varied", where=where)
    for word in words:
        text, value = _read_value(at, word, where)
        made[at.text if _same(text, at.text) else text] = value
    ordered = sorted(made.items(), key=lambda pair: (isinstance(pair[1], str), _rank(pair[1]), pair[0]))
    return Axis(at=at, words=tuple(text for text, _ in ordered), values=tuple(value for _, value in ordered))


def _same(text: str, other: str) -> bool:
    """Whether two texts are one expression: a value that the file already has is not written again."""
    return ast.dump(ast.parse(text, mode="eval")) == ast.dump(ast.parse(other.strip(), mode="eval"))


def _rank(value: ConstantValue) -> float:
    return 0.0 if value is None or isinstance(value, str) else float(value)


def _read_value(at: Written, word: str, where: str) -> tuple[str, ConstantValue]:
    """(What is written, what it means) of a value for a constant: of the kind of the value that it has."""
    node, refused = at.node, f"not a value for {at.name}"
    now = node.value if isinstance(node, ast.Constant) else None
    if isinstance(now, bool):
        if word.lower() not in ("true", "false"):
            raise UserError(refused, where=where, given=word, allowed="True or False")
        return word.capitalize(), word.lower() == "true"
    if isinstance(now, str):
        return repr(word), word
    if isinstance(node, ast.Constant) and now is None:
        return _literal(word)
    kind = _number_kind(node)
    if kind is int:
        if not re.fullmatch(r"[+-]?\d+", word) or len(word) > MAX_DIGITS:
            raise UserError(refused, where=where, given=word, allowed="a whole number, as in the file")
        return str(int(word)), int(word)
    if kind is float:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(refused, where=where, given=word, allowed="a number, as in the file")
        return repr(number), number
    if isinstance(node, ast.Name | ast.Attribute) and (dotted := _dotted(node)):
        name = _beside(dotted, word)
        if name is None:
            raise UserError(refused, where=where, given=word, allowed=f"a name that stands where {dotted} does")
        return name, word
    raise UserError(
        f"{at.name} cannot be varied: it is a {type(node).__name__.lower()}",
        where=where,
        allowed="a number, True, False, None, a text in quotes, or a name such as nisa.vector_engine",
    )


def _literal(word: str) -> tuple[str, ConstantValue]:
    """A value where the file has None: a number, True, False, None, else a text."""
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = word
    if not isinstance(value, int | float | str | None) or (isinstance(value, float) and not math.isfinite(value)):
        value = word
    return repr(value), value


def _number_kind(node: ast.expr) -> type | None:
    """int or float, of a number or of arithmetic on numbers alone; None of anything else."""
    if isinstance(node, ast.Constant):
        return type(node.value) if type(node.value) in (int, float) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return _number_kind(node.operand)
    if isinstance(node, ast.BinOp):
        kinds = {_number_kind(node.left), _number_kind(node.right)}
        return None if None in kinds else float if float in kinds or isinstance(node.op, ast.Div) else int
    return None


def _dotted(node: ast.expr) -> str:
    """ "nisa.vector_engine"; "" for an expression that is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


_ENGINE = "_engine"


def _beside(dotted: str, word: str) -> str | None:
    """A name in the place of another one.

    >>> _beside("nisa.vector_engine", "gpsimd"), _beside("nl.float32", "bfloat16"), _beside("nl.float32", "2")
    ('nisa.gpsimd_engine', 'nl.bfloat16', None)
    """
    if not all(part.isidentifier() for part in word.split(".")):
        return None
    if "." in word:
        return word
    before, dot, last = dotted.rpartition(".")
    if last.endswith(_ENGINE) and not word.endswith(_ENGINE):
        word += _ENGINE
    return f"{before}{dot}{word}"
