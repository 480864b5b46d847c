"""The Python that a candidate may use: modules, builtins and attributes from which no way leads to the simulator, to
the judge, or to the machine.

Two guards stand behind one another. `names_refused` reads the text: private names, names of frames and code, changes of
what is not the candidate's own. `candidate_globals` gives it modules that show their public names alone, and builtins
without those that reach further.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from mowich.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A line of a candidate that is refused, and why."""

    line: int
    what: str


ALLOWED = (
    *("nki", "neuronxcc", "neuron_dtypes", "numpy", "ml_dtypes"),
    *("math", "cmath", "typing", "dataclasses", "enum", "functools", "itertools", "collections", "operator", "numbers"),
    *("abc", "contextlib", "copy", "string", "fractions", "decimal", "statistics", "__future__"),
)
"""Packages that a candidate may import."""

_HIDDEN = {
    "numpy": frozenset(
        (
            *("load", "save", "savez", "savez_compressed", "loadtxt", "savetxt", "genfromtxt", "fromfile", "fromregex"),
            *("memmap", "DataSource", "lib", "ctypeslib", "f2py", "testing", "core", "show_config", "info", "source"),
            *("get_include", "test", "set_printoptions", "setbufsize", "seterrcall", "seterr", "errstate"),
        )
    ),
    "operator": frozenset(("attrgetter", "methodcaller")),
    "typing": frozenset(("get_type_hints", "ForwardRef", "evaluate_forward_ref")),
    "contextlib": frozenset(("redirect_stdout", "redirect_stderr", "chdir")),
}
"""Names of a module that are not shown: they reach files, attributes by name, or the text of code."""

_BUILTINS = frozenset(
    (
        *("abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "classmethod"),
        *("complex", "dict", "divmod", "enumerate", "filter", "float", "format", "frozenset", "hash", "hex", "id"),
        *("int", "isinstance", "issubclass", "iter", "len", "list", "map", "max", "min", "next", "object", "oct"),
        *("ord", "pow", "print", "property", "range", "repr", "reversed", "round", "set", "slice", "sorted"),
        *("staticmethod", "str", "sum", "super", "tuple", "type", "zip", "Ellipsis", "NotImplemented"),
        *("__build_class__", "__name__", "__debug__", "True", "False", "None"),
    )
)
"""Builtins that are given as they are, beside all exceptions."""

_FRAMES = frozenset(
    (
        *("gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "ag_frame", "ag_code"),
        *("f_back", "f_globals", "f_locals", "f_builtins", "f_code", "tb_frame", "tb_next", "with_traceback"),
        *("co_consts", "co_code", "co_names", "mro", "ctypes", "tofile", "dump", "dumps"),
    )
)
"""Attributes that lead to frames and code, to raw memory and to files."""
_OWN = frozenset(("self", "cls"))


def names_refused(tree: ast.AST) -> list[Refusal]:
    """What the text of a candidate may not say, in the order of its lines."""
    return sorted(_refusals(tree), key=lambda r: r.line)


def _refusals(tree: ast.AST) -> Iterator[Refusal]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node)
        elif isinstance(node, ast.Attribute):
            said = _attribute(node)
            if said:
                yield Refusal(line=line, what=said)
        elif isinstance(node, ast.Name) and _is_dunder(node.id) and node.id not in ("__name__", "__file__"):
            yield Refusal(line=line, what=f"{node.id} is a name of Python's own")
        elif isinstance(node, ast.MatchClass):
            for name in (n for n in node.kwd_attrs if n.startswith("_") or n in _FRAMES):
                yield Refusal(line=line, what=f"{name} is not a candidate's to look at")
        elif isinstance(node, ast.Global | ast.Nonlocal):
            for name in (n for n in node.names if _is_dunder(n)):
                yield Refusal(line=line, what=f"{name} is a name of Python's own")


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Refusal]:
    named = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or "."]
    if isinstance(node, ast.ImportFrom) and node.level:
        named = ["." * node.level + (node.module or "")]
    for name in named:
        if name.partition(".")[0] not in ALLOWED:
            yield Refusal(
                line=node.lineno, what=f"it imports {name}: a candidate imports {', '.join(ALLOWED[:4])}, ..."
            )
    if isinstance(node, ast.ImportFrom):
        for name in (a.name for a in node.names if a.name.startswith("_") and node.module != "__future__"):
            yield Refusal(line=node.lineno, what=f"it imports {name}, which is private")


def _attribute(node: ast.Attribute) -> str:
    """Why an attribute is refused; "" where it is not."""
    name, of_own = node.attr, isinstance(node.value, ast.Name) and node.value.id in _OWN
    if _is_dunder(name):
        # a class may call the methods of its base; nothing else of Python's own is looked at
        of_super = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        if not (of_super and node.value.func.id == "super" and name in ("__init__", "__post_init__")):  # type: ignore
            return f".{name} is an attribute of Python's own"
    elif name in _FRAMES:
        return f".{name} is not a candidate's to look at"
    elif name.startswith("_") and not of_own:
        return f".{name} is private"
    elif not isinstance(node.ctx, ast.Load) and not of_own:
        return f".{name} of what is not its own is changed"
    return ""


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# ---- what stands behind names
# ----------------------------------------------------------------------------------------------------------------------


def candidate_globals(file: str) -> dict[str, object]:
    """The globals of a candidate's module: its builtins, and what every module has."""
    own: dict[str, object] = {name: getattr(builtins, name) for name in _BUILTINS if hasattr(builtins, name)}
    own |= {n: v for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException)}
    own |= {"__import__": _importer(), "getattr": _getattr, "hasattr": _hasattr, "setattr": _setattr}
    return {"__builtins__": own, "__name__": "candidate", "__file__": file, "__doc__": None}


def _importer() -> Callable[..., object]:
    def candidate_import(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or top not in ALLOWED:
            raise ImportError(f"a candidate may not import {name}")
        __import__(name)
        if top == "__future__":
            return sys.modules[name]
        for item in fromlist or ():
            if item != "*" and not hasattr(sys.modules[name], item):
                with suppress(ImportError):
                    __import__(f"{name}.{item}")
        return public_face(sys.modules[name if fromlist else top])

    return candidate_import


@cache
def _faces() -> dict[str, ModuleType]:
    """Faces that were made, by the name of their module; modules name one another in circles."""
    return {}


def public_face(module: ModuleType) -> ModuleType:
    """A module with the public names of another one. Modules within it of the same package have such faces too, others
    are left out."""
    name, made = module.__name__, _faces()
    if name in made:
        return made[name]
    face = made[name] = ModuleType(name)
    hidden = _HIDDEN.get(name, frozenset[str]())
    listed = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    for key in (k for k in listed if k not in hidden and hasattr(module, k)):
        value = getattr(module, key)
        if not isinstance(value, ModuleType):
            setattr(face, key, value)
        elif _is_part(value.__name__, name):
            setattr(face, key, public_face(value))
    for inner in [n for n in sys.modules if n.rpartition(".")[0] == name]:
        key = inner.rpartition(".")[2]
        if not key.startswith("_") and key not in hidden and not hasattr(face, key):
            setattr(face, key, public_face(sys.modules[inner]))
    return face


_FAMILIES = ("nki", "neuronxcc", "mowich.nki", "neuron_dtypes")


def _is_part(name: str, of: str) -> bool:
    """Whether a module belongs to another one's package. The interfaces of NKI are one family."""
    tops = {next((f for f in _FAMILIES if x == f or x.startswith(f + ".")), x.partition(".")[0]) for x in (name, of)}
    return len(tops) == 1 or tops <= set(_FAMILIES)


def _named(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError("attribute name must be string")
    if name.startswith("_") or name in _FRAMES:
        raise UserError(f"not for a candidate: {name} is not its own to look at")
    return name


def _getattr(x: object, name: str, *default: object) -> object:
    return getattr(x, _named(name), *default)


def _hasattr(x: object, name: str) -> bool:
    return hasattr(x, _named(name))


def _setattr(x: object, name: str, value: object) -> None:
    if type(x).__module__ != "candidate":
        raise UserError(f"not for a candidate: {name} of what is not its own is changed")
    setattr(x, _named(name), value)


def parsed_candidate(text: str, file: str) -> ast.Module:
    """The text of a candidate as a tree. Raises UserError for what is no Python, or says what a candidate may not."""
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UserError(f"{type(error).__name__}: {error}", where=f"{file}:{line}") from None
    refused = names_refused(tree)
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UserError(f"not for a candidate: {first.what}{more}", where=f"{file}:{first.line}")
    return tree
