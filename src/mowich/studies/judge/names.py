"""The Python that a candidate may use: modules, builtins and attributes from which no way leads to the simulator, to
the judge, or to the machine.

Two guards stand behind one another. `names_refused` reads the text: private names, names of frames and code, changes of
what is not the candidate's own. `candidate_globals` gives it modules that show their public names alone, and builtins
without those that reach further.
"""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import FunctionType, ModuleType

import numpy as np

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
            *("rec", "ma", "char", "matlib", "from_dlpack"),
        )
    ),
    "mowich.nki": frozenset(
        (
            *("Kernel", "Result", "cpu_simulate", "hollow", "install", "installed", "last_latency_us", "run_kernel"),
            *("simulate", "simulate_ranks"),
        )
    ),
    "abc": frozenset(("ABCMeta", "update_abstractmethods")),
    "dataclasses": frozenset(("make_dataclass",)),
    "enum": frozenset(
        ("EnumMeta", "EnumType", "EnumDict", "ReprEnum", "global_enum", "global_enum_repr", "global_flag_repr")
    ),
    "functools": frozenset(("update_wrapper",)),
    "string": frozenset(("Formatter",)),
    "operator": frozenset(("attrgetter", "methodcaller")),
    "typing": frozenset(("get_type_hints", "ForwardRef", "evaluate_forward_ref")),
    "contextlib": frozenset(("redirect_stdout", "redirect_stderr", "chdir")),
}
"""Names of a module that are not shown: they reach files, memory, attributes by name, or the text of code, run kernels
from the host, or make classes with names that no text shows."""

_BUILTINS = frozenset(
    (
        *("abs", "all", "any", "ascii", "bin", "bool", "bytearray", "bytes", "callable", "chr", "classmethod"),
        *("complex", "dict", "divmod", "enumerate", "filter", "float", "format", "frozenset", "hash", "hex", "id"),
        *("int", "isinstance", "issubclass", "iter", "len", "list", "map", "max", "min", "next", "object", "oct"),
        *("ord", "pow", "print", "property", "range", "repr", "reversed", "round", "set", "slice", "sorted"),
        *("staticmethod", "str", "sum", "super", "tuple", "zip", "Ellipsis", "NotImplemented"),
        *("__build_class__", "__name__", "__debug__", "True", "False", "None"),
    )
)
"""Builtins that are given as they are, beside all exceptions."""

_FRAMES = frozenset(
    (
        *("gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "ag_frame", "ag_code"),
        *("f_back", "f_globals", "f_locals", "f_builtins", "f_code", "tb_frame", "tb_next", "with_traceback"),
        *("co_consts", "co_code", "co_names", "mro", "ctypes", "tofile", "dump", "dumps"),
        *("resize", "cffi", "capsule", "obj", "gen", "launch"),
    )
)
"""Attributes that lead to frames and code, to raw memory and to files, or that launch a kernel from the host."""
_DEFINED = frozenset(
    f"__{name}__"
    for name in (
        *("init", "post_init", "new", "repr", "str", "bool", "len", "iter", "next", "contains", "call", "hash"),
        *("getitem", "setitem", "delitem", "enter", "exit", "index", "int", "float"),
        *("eq", "ne", "lt", "le", "gt", "ge"),
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "neg", "pos", "abs"),
        *("radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod", "rpow", "rmatmul", "invert", "lshift", "rshift"),
        *("iadd", "isub", "imul", "slots", "all", "version", "author", "doc"),
    )
)
"""Names of Python's own that a candidate may define. Others say how an object is read as memory, as in
`__array_interface__`, or how its attributes are found."""
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
            said = _looks(node) or _changes(node)
            if said:
                yield Refusal(line=line, what=said)
        elif isinstance(node, ast.MatchClass):
            for name in filter(_is_closed, node.kwd_attrs):
                yield Refusal(line=line, what=f"{name} is not a candidate's to look at")
        else:
            for name in (n for n in _identifiers(node) if _is_dunder(n) and not _may_be_said(node, n)):
                yield Refusal(line=line, what=f"{name} is a name of Python's own")


_SAID: dict[type[ast.AST], tuple[str, ...]] = {
    ast.Name: ("id",),
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler), ("name",)),
    **dict.fromkeys((ast.MatchAs, ast.MatchStar), ("name",)),
    ast.MatchMapping: ("rest",),
    **dict.fromkeys((ast.arg, ast.keyword), ("arg",)),
    ast.alias: ("name", "asname"),
}
"""Where a node says a name."""


def _identifiers(node: ast.AST) -> Iterator[str]:
    """The names that a node says or binds: of variables, functions, classes, arguments, captures of a pattern, aliases
    of an import."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    for key in _SAID.get(type(node), ()):
        found = getattr(node, key)
        if found is not None:
            yield found


def _may_be_said(node: ast.AST, name: str) -> bool:
    """Whether a name of Python's own may stand there."""
    if isinstance(node, ast.alias):
        return name == "__future__" == node.name
    if isinstance(node, ast.Name):
        return name in ("__name__", "__file__") or (isinstance(node.ctx, ast.Store) and name in _DEFINED)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and name in _DEFINED


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


def _looks(node: ast.Attribute) -> str:
    """Why an attribute may not be looked at; "" where it may."""
    name = node.attr
    if _is_dunder(name):
        # a class may call the methods of its base; nothing else of Python's own is looked at
        of_super = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        if not (of_super and node.value.func.id == "super" and name in ("__init__", "__post_init__")):  # type: ignore
            return f".{name} is an attribute of Python's own"
    elif name in _FRAMES:
        return f".{name} is not a candidate's to look at"
    elif name.startswith("_") and not _is_of_own(node):
        return f".{name} is private"
    return ""


def _changes(node: ast.Attribute) -> str:
    """Why an attribute may not be changed; "" where it may, or is not."""
    if isinstance(node.ctx, ast.Load) or _is_of_own(node):
        return ""
    return f".{node.attr} of what is not its own is changed"


def _is_of_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in _OWN


def _is_closed(name: str) -> bool:
    """Whether an attribute of this name is no candidate's to look at, however it is named."""
    return name.startswith("_") or name in _FRAMES


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


# ---- what stands behind names
# ----------------------------------------------------------------------------------------------------------------------


def candidate_globals(file: str) -> dict[str, object]:
    """The globals of a candidate's module: its builtins, and what every module has."""
    own: dict[str, object] = {name: getattr(builtins, name) for name in _BUILTINS if hasattr(builtins, name)}
    own |= {n: v for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException)}
    own |= {"__import__": _importer(), "getattr": _getattr, "hasattr": _hasattr, "setattr": _setattr}
    own |= {"type": type_of}
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
    listed = _offered(module)
    for key in (k for k in listed if k not in hidden and hasattr(module, k)):
        value = getattr(module, key)
        if not isinstance(value, ModuleType):
            setattr(face, key, shown_value(name, key, value))
        elif _is_part(value.__name__, name):
            setattr(face, key, public_face(value))
    for inner in [n for n in sys.modules if n.rpartition(".")[0] == name]:
        key = inner.rpartition(".")[2]
        if not key.startswith("_") and key not in hidden and not hasattr(face, key):
            setattr(face, key, public_face(sys.modules[inner]))
    return face


# ---- stand-ins
# ----------------------------------------------------------------------------------------------------------------------


class _StandIn(type):
    """A class to compare with, and to ask whether something is an instance of it. _of: what it stands for, which
    no candidate may ask for."""

    _of: type

    def __call__(cls, *args: object, **named: object) -> object:
        raise _refused_call(f"{cls._of.__name__}(...) makes an object of memory that is not its own")

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._of)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(getattr(other, "_of", other), cls._of)


class _TypeOf(_StandIn):
    """`type` of one argument: the class of an object, and none that makes classes or arrays of memory."""

    def __call__(cls, *args: object, **named: object) -> object:
        if len(args) != 1 or named:
            raise _refused_call("type(...) makes a class; a class statement does")
        found = type(args[0])
        return type_of if issubclass(found, type) else stand_in(found)


class type_of(metaclass=_TypeOf):  # noqa: N801  it stands for `type`
    """What a candidate has in the place of `type`."""

    _of = type


@cache
def _stand_ins() -> dict[type, type]:
    """Stand-ins that were made, one of each class: classes are compared."""
    return {}


def stand_in(kind: type) -> type:
    """A class as a candidate sees it: an array class is not there to make arrays of."""
    if not issubclass(kind, np.ndarray):
        return kind
    if kind not in _stand_ins():
        _stand_ins()[kind] = _StandIn(kind.__name__, (), {"_of": kind, "__module__": kind.__module__})
    return _stand_ins()[kind]


class _NamedMembers(enum.EnumMeta):
    """Enumerations are made by a class statement, whose names the text shows."""

    def __call__(cls, value: object, *names: object, **more: object) -> object:  # type: ignore[override]
        if names or more:
            raise _refused_call("an enumeration made by a call; a class statement does")
        return super().__call__(value)


@cache
def _closed_enums() -> dict[str, type]:
    """The classes that an enumeration is made of, for candidates."""
    bases = (enum.Enum, enum.IntEnum, enum.Flag, enum.IntFlag, enum.StrEnum)
    return {base.__name__: _NamedMembers(base.__name__, (base,), enum.EnumMeta.__prepare__(base.__name__, (base,)))
            for base in bases}  # fmt: skip


def _wraps(wrapped: object) -> Callable[..., object]:
    """`functools.wraps` of a function, and of all that it copies by default."""
    if not isinstance(wrapped, FunctionType):
        raise _refused_call("functools.wraps of what is no function")
    return functools.wraps(wrapped)


def shown_value(module: str, key: str, value: object) -> object:
    """What a face has in the place of a name of its module."""
    if module == "enum" and key in _closed_enums():
        return _closed_enums()[key]
    if (module, key) == ("functools", "wraps"):
        return _wraps
    if module == "numpy" and key in ("empty", "empty_like"):
        return np.zeros if key == "empty" else np.zeros_like  # memory of the process may hold what was computed before
    if isinstance(value, type):
        return type_of if issubclass(value, type) else stand_in(value)
    return value


def _offered(module: ModuleType) -> Sequence[str]:
    """Public names of a module. `__all__` of some of the interface is what they give on to our own modules, beside what
    they offer to kernels."""
    from mowich.nki import words
    from mowich.nki.install import BETA1, NAMES

    listed = getattr(module, "__all__", None) or [n for n in dir(module) if not n.startswith("_")]
    is_interface = module.__name__ in {*NAMES.values(), *BETA1.values()}
    return sorted({*listed, *words.public(module)}) if is_interface else listed


_FAMILIES = ("nki", "neuronxcc", "mowich.nki", "neuron_dtypes")


def _is_part(name: str, of: str) -> bool:
    """Whether a module belongs to another one's package. The interfaces of NKI are one family."""
    tops = {next((f for f in _FAMILIES if x == f or x.startswith(f + ".")), x.partition(".")[0]) for x in (name, of)}
    return len(tops) == 1 or tops <= set(_FAMILIES)


def _named(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError("attribute name must be string")
    if _is_closed(name):
        raise _refused_call(f"{name} is not its own to look at")
    return str(name)


def _refused_call(what: str) -> UserError:
    """The refusal of a call, at the candidate's line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return UserError(f"not for a candidate: {what}", where=f"{frame.f_code.co_filename}:{frame.f_lineno}")


def _getattr(x: object, name: str, *default: object) -> object:
    return getattr(x, _named(name), *default)


def _hasattr(x: object, name: str) -> bool:
    return hasattr(x, _named(name))


def _setattr(x: object, name: str, value: object) -> None:
    if type(x).__module__ != "candidate":
        raise _refused_call(f"{name} of what is not its own is changed")
    setattr(x, _named(name), value)


def parsed_candidate(text: str, file: str) -> ast.Module:
    """The text of a candidate as a tree. Raises UserError for text that is not Python, or that uses what a candidate
    may not use."""
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
