"""Wrong words in a kernel, as one line each: names that a module does not have, and arguments that an instruction does
not take.

Both stay what Python raises for them, an AttributeError and a TypeError, so that `hasattr` and `getattr` with a default
work. A module says `__getattr__ = words.missing(__name__)`. Arguments cost nothing until a call fails: then
`explained_call` looks at the call in the source.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import NoReturn

from mowich.errors import UserError, did_you_mean, shorten
from mowich.neuroncore import core as machine
from mowich.neuroncore.core import NkiValidationError
from mowich.neuroncore.views import host_fix
from mowich.nki import faces

SHOWN = {
    "mowich.nki": "nki",
    "mowich.nki.isa": "nki.isa",
    "mowich.nki.language": "nki.language",
    "mowich.nki.grids": "nki.language",
    "mowich.nki.objects": "nki.language",
    "mowich.nki.collectives": "nki.collectives",
    "mowich.nki.beta1": "neuronxcc.nki",
    "mowich.nki.beta1.isa": "neuronxcc.nki.isa",
    "mowich.nki.beta1.language": "neuronxcc.nki.language",
}
"""Our modules -> how kernels import them."""
SINCE_0_7 = {
    "mowich.nki.language": (
        *("tiles", "blocks", "alloc_tiles", "alloc_blocks", "NkiGrid", "NkiTileGrid", "NkiBlockGrid", "int64"),
    ),
    "mowich.nki.isa": ("NkiScalar", "scalar_load", "scalar_store"),
    "mowich.nki.collectives": (
        *(f"all_{kind}_v_{half}" for kind in ("gather", "to_all") for half in ("prepare", "trigger")),
        "reduce_scatter_v",
    ),
}
"""Names that came with NKI 0.7.0 (Neuron 2.33, October 2026)."""
_NEAREST = 3
"""Names that an error lists as the nearest."""
CUTOFF = 0.5
"""Likeness (of `difflib`, 0 to 1) from which on a name is listed among the nearest."""


_OURS = ("NkiOp",)
"""Names of our modules that AWS's do not have."""


class UnknownName(NkiValidationError, AttributeError):
    """A module of the interface has no such name."""


class WrongArguments(NkiValidationError, TypeError):
    """An instruction or a function of the interface does not take these arguments."""


class WrongValue(NkiValidationError, ValueError):
    """An argument has a value that a function does not take."""


class OutsideGrid(NkiValidationError, IndexError):
    """An index of a grid of tiles is out of its bounds."""


# names
# ----------------------------------------------------------------------------------------------------


def missing(module: str) -> Callable[[str], NoReturn]:
    """The `__getattr__` of a module of the interface: it raises `UnknownName` with the nearest names."""

    def lookup(name: str) -> NoReturn:
        if name.startswith("_"):  # Python and its tools ask for these
            raise AttributeError(f"module {SHOWN[module]!r} has no attribute {name!r}")
        raise unknown_name(module, name)

    return lookup


def unknown_name(module: str, name: str) -> UnknownName:
    """The error for a name that a module does not have: nearest names, or the module that has it."""
    known = public(sys.modules[module])
    near = difflib.get_close_matches(name.casefold(), known, n=_NEAREST, cutoff=CUTOFF)
    elsewhere = [SHOWN[m] for m in SHOWN if m != module and m in sys.modules and name in public(sys.modules[m])]
    elsewhere.sort(key=lambda m: m.partition(".")[0] != SHOWN[module].partition(".")[0])  # of the same interface first
    fix = f"{elsewhere[0]} has it" if elsewhere else did_you_mean(name, near)
    return UnknownName(
        f"{SHOWN[module]} has no '{shorten(name)}'",
        where=machine.where(),
        allowed=f"{len(known)} names, nearest {', '.join(near)}" if near else f"{len(known)} names, none is near",
        fix=fix,
    )


_IMPORT = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


def spelled(module: str, name: str) -> str:
    """A name of a module of ours as kernels write it: "nki.language.tiles"."""
    return f"{SHOWN[module]}.{name}"


def not_imported(error: ImportError, where: str) -> UnknownName | None:
    """`from nki.isa import NAME` of a name that is not there, as one line; None for other failures to import. where:
    file:line."""
    match = _IMPORT.match(str(error))
    if match is None or match[2] not in SHOWN:
        return None
    found = unknown_name(match[2], match[1])
    found.where = where
    return found


def public(module: ModuleType) -> list[str]:
    """Names that a module offers to kernels: of a package its `__all__`, otherwise all but its constants, and the
    modules, types and helpers that it imports for itself."""
    if module.__spec__ is not None and module.__spec__.submodule_search_locations is not None:
        return sorted(module.__all__)
    own = SHOWN.get(module.__name__, "").rpartition(".")[2]
    out = []
    for name, value in vars(module).items():
        if name.startswith("_") or name.isupper() or name in _OURS or isinstance(value, ModuleType):
            continue
        if isinstance(value, type | FunctionType):
            is_ours = value.__module__.startswith("mowich.")
            is_theirs = is_ours and (value.__name__ != name or name in SINCE_0_7.get(module.__name__, ()))
            if SHOWN.get(value.__module__, ".?").rpartition(".")[2] != own and not is_theirs:
                continue
        elif type(value).__module__ in ("builtins", "collections.abc", "types", "typing", "__future__"):
            continue
        out.append(name)
    return sorted(out)


# arguments
# ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A call as it stands in a kernel. name: as kernels write it; positions: arguments by position; words: keywords;
    is_open: `*` or `**` pass some that cannot be read off the source; taken: arguments that it takes, also where its
    signature does not show them."""

    name: str
    parameters: Sequence[inspect.Parameter]
    positions: int
    words: Sequence[str]
    is_open: bool
    taken: Sequence[str]


@contextmanager
def explained_call() -> Iterator[None]:
    """Turn a TypeError of a kernel that comes from the arguments of a call of ours, or from arithmetic on tiles, into
    one line; say where in the kernel other errors are."""
    try:
        yield
    except UserError as error:
        at = _kernel_frame(error.__traceback__) if error.where is None else None
        error.where = at[1] if at is not None else error.where
        raise
    except AttributeError as error:
        at, owner = _kernel_frame(error.__traceback__), type(error.obj)
        if at is None or not owner.__module__.startswith("mowich."):
            raise
        name, on_host = str(error.name), host_fix(str(error.name))
        fix = on_host or did_you_mean(name, [n for n in dir(owner) if not n.startswith("_")])
        why = ": values reach it, and leave it, through instructions only" if on_host else ""
        raise UnknownName(f"a {owner.__name__} has no '{name}'{why}", where=at[1], fix=fix) from error
    except TypeError as error:
        found = _explanation(error)
        if found is None:
            raise
        raise found from error


def _explanation(error: TypeError) -> WrongArguments | None:
    at = _kernel_frame(error.__traceback__)
    if at is None:
        return None
    frame, where, source = at
    call = _call(frame, source)
    found = _wrong(call, str(error)) if call is not None else None
    if found is None:
        found = _arithmetic(str(error))
    if found is not None:
        found.where = where
    return found


def _kernel_frame(traceback: TracebackType | None) -> tuple[FrameType, str, str] | None:
    """The innermost frame of the kernel: itself, its file:line, and the text of the expression that it was at."""
    last: TracebackType | None = None
    while traceback is not None:
        if not machine.is_ours(traceback.tb_frame.f_code.co_filename):
            last = traceback
        traceback = traceback.tb_next
    if last is None:
        return None
    code = last.tb_frame.f_code
    places = list(code.co_positions())
    line, end_line, column, end_column = places[last.tb_lasti // 2]
    text = ""
    if line is not None and end_line is not None and column is not None and end_column is not None:
        rows = [
            row.encode() for row in linecache.getlines(code.co_filename, last.tb_frame.f_globals)[line - 1 : end_line]
        ]
        if rows:
            rows[-1] = rows[-1][:end_column]
            rows[0] = rows[0][column:]
            text = b"".join(rows).decode(errors="replace")
    return last.tb_frame, f"{code.co_filename}:{last.tb_lineno}", text


def _call(frame: FrameType, source: str) -> _Call | None:
    """The call of a function of ours that a frame was at, None where it was at something else."""
    try:
        node = ast.parse(f"({source}\n)", mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(node, ast.Call):
        return None
    target = _value(node.func, frame)
    module = str(getattr(target, "__module__", ""))
    signed = getattr(target, "signature", None) if not isinstance(target, type | FunctionType) else None
    if module not in SHOWN or not callable(target):
        return None
    try:
        parameters = signed() if callable(signed) else list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
    words = [k.arg for k in node.keywords if k.arg is not None]
    is_open = len(words) < len(node.keywords) or any(isinstance(a, ast.Starred) for a in node.args)
    name = str(getattr(target, "__name__", ""))
    return _Call(
        name=f"{SHOWN[module]}.{name}",
        parameters=parameters,
        positions=len(node.args),
        words=words,
        is_open=is_open,
        taken=faces.taken(target),
    )


def _value(node: ast.expr, frame: FrameType) -> object:
    """What a name, or a name in a module, stands for in a frame; None where that cannot be read without running
    code."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        return vars(owner).get(node.attr) if isinstance(owner, ModuleType) else None
    return None


_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


def _wrong(call: _Call, message: str) -> WrongArguments | None:
    """What is wrong with the arguments of a call, None where nothing is."""
    by_name = [p for p in call.parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in call.parameters)
    in_order = [p.name for p in call.parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    allowed = ", ".join(n if p.default is not p.empty else f"{n} (needed)" for n, p in zip(names, by_name, strict=True))
    unexpected = _UNEXPECTED.search(message) if call.is_open else None
    odd = [w for w in call.words if w not in (*names, *call.taken)] + ([unexpected[1]] if unexpected else [])
    if odd and not takes_any:
        free = [n for n in names if n not in call.words]
        return WrongArguments(
            f"{call.name} has no argument '{odd[0]}'",
            given=f"{odd[0]}=",
            allowed=allowed,
            fix=did_you_mean(odd[0], free),
        )
    if call.is_open:
        return None
    absent = [
        p.name for p in by_name if p.default is p.empty and p.name not in (*in_order[: call.positions], *call.words)
    ]
    if absent:
        text = ", ".join((*in_order[: call.positions], *call.words)) or "nothing"
        fix = None
        if in_order[:1] == ["dst"] and "dst" not in call.words:
            fix = (
                "this interface writes to a tile that you give as dst; in the older one (neuronxcc.nki) instructions"
                " return their result"
            )
        return WrongArguments(f"{call.name} needs {', '.join(absent)}", given=text, allowed=allowed, fix=fix)
    has_any = any(p.kind is p.VAR_POSITIONAL for p in call.parameters)
    if call.positions > len(in_order) and not has_any:
        return WrongArguments(
            f"{call.name} takes at most {len(in_order)} arguments by position",
            given=call.positions,
            allowed=allowed,
            fix="give the others by name",
        )
    return None


_OPERATOR = re.compile(
    r"for (\S+?):? '(\w+)' and '(\w+)'|'(\S+)' not supported between instances of '(\w+)' and '(\w+)'|for (unary \S+):"
    r" '(\w+)'"
)
_NAMES = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "/": "divide",
    "unary -": "negative",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "**": "power",
}


def _arithmetic(message: str) -> WrongArguments | None:
    """Python's arithmetic on tiles, which this interface does not have."""
    match = _OPERATOR.search(message)
    if match is None:
        return None
    sign, left, right = match.group(*((1, 2, 3) if match[1] else (4, 5, 6) if match[4] else (7, 8, 8)))
    sides = {"Tile": "a tile", "NkiInstruction": "an instruction", "NoneType": "None"}
    if not {left, right} & {"Tile", "NkiInstruction"}:
        return None
    op = _NAMES.get(sign.removesuffix("="), "") or _NAMES.get(sign, "")
    tiles = "a" if match[7] else "a, b"
    fix = (
        f"nl.{op}({tiles}) gives a new tile"
        + ("" if match[7] else f", nisa.tensor_tensor(dst, a, b, nl.{op}) writes to one")
        if op
        else "use an instruction of nki.isa"
    )
    if "NkiInstruction" in (left, right):
        fix = "an instruction writes to its dst and returns no tile; nc_matmul adds to dst with accumulate=True"
    return WrongArguments(
        f"tiles have no operator {sign} in this interface",
        given=" and ".join(dict.fromkeys((sides.get(left, left), sides.get(right, right)))),
        fix=fix,
    )
