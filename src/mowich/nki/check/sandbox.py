"""Functions of a file, run without the file: names are resolved from its text, and what is not at hand is `Unknown`.

The calls, attributes and subscripts of a function are handed to `Sandbox` (`rewriting`). So an unknown value
spreads instead of failing, nothing but the interface, arithmetic and the functions of files at hand can be reached (no
file, no module, no private attribute), and the work of a run is counted.
"""

from __future__ import annotations

import abc
import ast
import builtins
import collections
import dataclasses
import enum
import functools
import itertools
import math
import numbers
import operator
import random
import typing
from collections.abc import Callable, Iterator
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType

import numpy as np

from mowich import nki
from mowich.neuroncore.access import storage_of
from mowich.neuroncore.views import Tile
from mowich.nki import beta1, neuron_dtypes
from mowich.nki import compiler as nki_compiler
from mowich.nki.beta1 import dimensions, nccl, package
from mowich.nki.beta1.tensor import Tensor
from mowich.nki.check.program import FunctionNode, Module, assigned_values, file_module, imported_module
from mowich.nki.check.rewriting import compiled_code
from mowich.nki.install import BETA1, NAMES


class GaveUp(BaseException):
    """A run went where values are needed that are not known."""


class TooLong(GaveUp):
    """A run did more work than one may do: it tells nothing."""


class RefusedArguments(BaseException):
    """The kernel itself refuses its arguments."""


class Unknown:
    """A value that is not at hand. base: a tensor that it may be a view of."""

    __slots__ = ("base", "box", "parts", "truth")
    __array_ufunc__ = None  # arithmetic with an array is one unknown value, not one for each element

    def __init__(self, box: Sandbox, base: object = None) -> None:
        self.box, self.base = box, base
        box.unknowns += 1
        self.parts: dict[str, Unknown] = {}
        self.truth: bool | None = None

    def part(self, name: str) -> Unknown:
        """An attribute: the same each time."""
        return self.parts.setdefault(name, Unknown(self.box, self.base))

    def __bool__(self) -> bool:
        if self.truth is None:
            self.truth = self.box.rng.random() < 0.5
        return self.truth

    def __iter__(self) -> Iterator[Unknown]:
        return iter((Unknown(self.box, self.base),))

    def _made(self, *_: object) -> Unknown:
        return Unknown(self.box)

    def _needed(self, *_: object) -> int:
        raise GaveUp

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _made
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __and__ = __rand__ = _made
    __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _made
    __neg__ = __pos__ = __abs__ = __invert__ = __lt__ = __le__ = __gt__ = __ge__ = __matmul__ = _made
    __eq__ = __ne__ = _made  # type: ignore[assignment]

    def __format__(self, spec: str) -> str:
        return "unknown"

    __int__ = __index__ = __len__ = _needed
    __hash__ = object.__hash__

    def __float__(self) -> float:
        raise GaveUp

    def __contains__(self, item: object) -> bool:
        return bool(self.part("in"))

    def __setitem__(self, key: object, value: object) -> None:
        self.box.written(self)

    def __enter__(self) -> Unknown:
        return self

    def __exit__(self, *_: object) -> None:
        return None


_WORDS = (
    *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "frozenset", "int", "isinstance"),
    *("issubclass", "iter", "len", "list", "map", "max", "min", "next", "object", "pow", "range", "repr", "reversed"),
    *("round", "set", "slice", "sorted", "str", "sum", "tuple", "zip", "property", "staticmethod", "classmethod"),
    *("super", "True", "False", "None", "NotImplemented", "callable", "hash", "id", "__build_class__"),
)
BUILTINS: dict[str, object] = {name: getattr(builtins, name) for name in _WORDS} | {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, Warning)
}
"""What a function may use of Python."""
_HARMLESS = {
    "math": (),
    "itertools": (),
    "enum": ("global_enum", "global_enum_repr", "global_flag_repr", "global_str"),
    "abc": (),
    "numbers": (),
    "dataclasses": ("make_dataclass",),
    "functools": ("cached_property", "singledispatch", "singledispatchmethod"),
    "typing": ("get_type_hints", "ForwardRef", "_eval_type", "sys"),
    "collections": ("_sys",),
    "operator": ("attrgetter", "methodcaller", "itemgetter"),
}
"""Modules of Python that a function may use, and what of them it may not."""
_NUMPY = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool_", "integer", "floating", "number", "ndarray", "dtype", "finfo", "iinfo", "prod", "ceil", "floor", "sqrt"),
    *("log", "log2", "exp", "pi", "inf", "nan", "array", "asarray", "arange", "zeros", "ones", "full", "eye", "min"),
    *("max", "sum", "abs", "minimum", "maximum", "round", "concatenate", "stack", "reshape", "newaxis", "newaxis"),
)
PYTHON_MODULES = {
    m.__name__: m
    for m in (math, itertools, enum, abc, numbers, dataclasses, functools, typing, collections, operator, np)
}
"""Modules that a function may use."""
FACE_MODULES: dict[str, ModuleType] = {
    m.__name__: m
    for m in (
        *(nki, nki.language, nki.isa, nki.collectives, nki.typing, nki_compiler, neuron_dtypes),
        *(beta1, beta1.language, beta1.isa, beta1.compiler, dimensions, nccl, package),
    )
}
"""Modules of the interface."""
_DUNDERS = ("__init__", "__name__", "__post_init__", "__class_getitem__", "__members__")
_DATA = ("shared_constant",)
"""Functions of `nki.language` that read a file."""
_READERS = ("register_load", "register_alloc")
"""Functions that give the program a number of the device."""
_EXCHANGES = ("mowich.nki.collectives", "mowich.nki.beta1.nccl")
"""Modules of what needs other ranks, of which there are none here."""
_OF_LAUNCH = ("program_id", "num_programs", "program_ndim", "core_barrier", "sendrecv", "send", "recv")
"""Functions that tell the cores of a launch apart, or join them: how many there are is not known here."""
_CONTAINERS = (list, dict, set, tuple, str)


CheckedLine = tuple[str, int, float]
"""A statement: file, first line, last line."""


class Sandbox:
    """One run. values: it computes; rng: decides what is not known; ticks: turns of loops, and calls; work: elements
    that instructions touched; unknowns: unknown values that were met; passed: statements that ended; refused: the
    assertion that failed; finished: the kernel returned; has_empty_loop: a loop went over nothing; reads_data: the
    program read a number of the device; asks_launch: it asked which core of a launch it is on."""

    slice = slice
    TICKS = 6000
    """Ticks of a run, at most."""
    ELEMENTS = 1 << 22
    """Work of a run, at most."""
    CALL = 1 << 12
    """What a call of the interface counts, in elements."""

    def __init__(self, seed: int, values: bool = True) -> None:
        self.values = values
        self.rng = random.Random(seed)
        self.ticks = self.work = self.unknowns = 0
        self.asks_launch = self.reads_data = self.finished = self.has_empty_loop = False
        self.refused: CheckedLine | None = None
        self.programs = self.rng.choice((1, 2))
        self.passed: set[CheckedLine] = set()
        self.spaces: dict[Module, Names] = {}

    def space(self, module: Module) -> Names:
        """The names of a module in this run."""
        if module not in self.spaces:
            self.spaces[module] = Names(self, module)
        return self.spaces[module]

    def function(self, module: Module, name: str) -> Callable[..., object]:
        """A function of a module's top level."""
        found = self.space(module)[name]
        assert callable(found)
        return found

    # what the compiled_code functions call
    # ------------------------------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """Count a turn. Raises `TooLong` where a run did too much."""
        self.ticks += 1
        if self.ticks > self.TICKS or self.work > self.ELEMENTS:
            raise TooLong

    def done(self, file: str, first: int, last: int) -> None:
        """A statement ended."""
        self.passed.add((file, first, last))

    def returned(self, value: object, file: str, first: int, last: int) -> object:
        """A statement ended that returns a value."""
        self.done(file, first, last)
        return value

    def assume(self, value: object) -> bool:
        """The truth of an assertion; what is not known holds."""
        return True if isinstance(value, Unknown) else bool(value)

    def require(self, holds: bool, file: str, first: int, last: int, part: int) -> None:
        """An assertion of the kernel, or a place where it refuses its arguments. part: of the assertion."""
        if not holds:
            self.refused = (file, first, last)
            raise RefusedArguments
        self.passed.add((file, first, last - part * 1e-3))  # each part is one step further

    def unknown(self) -> Unknown:
        """A value that is not at hand."""
        return Unknown(self)

    def slot(self, owner: object) -> SetAttribute:
        """An object whose attribute is set."""
        return SetAttribute(self, owner)

    def cells(self, owner: object) -> object:
        """An object whose elements are set."""
        return owner if isinstance(owner, list | dict | Unknown) else SetCells(self, owner)

    def each(self, values: object, count: int) -> Iterator[object]:
        """What a loop goes over. count: names that each value is given to, 0: one."""
        is_empty = True
        for v in values:  # type: ignore[attr-defined]
            self.tick()
            is_empty = False
            yield self.unpacked(v, count) if count else v
        self.has_empty_loop |= is_empty

    def imported(self, file: str, dotted: str) -> object:
        """What an import within a function of a file brings."""
        space = next((s for m, s in self.spaces.items() if m.file == file), None)
        return Unknown(self) if space is None else space.imported(dotted)

    def unpacked(self, value: object, count: int) -> object:
        """What is assigned to several names."""
        return tuple(Unknown(self, value.base) for _ in range(count)) if isinstance(value, Unknown) else value

    def attribute(self, owner: object, name: str) -> object:
        """owner.name, without private names and without modules that a module imports for itself."""
        if isinstance(owner, Unknown):
            return owner.part(name)
        if isinstance(owner, Names):
            return owner[name] if name in owner or owner.has(name) else Unknown(self)
        if (name.startswith("__") and name not in _DUNDERS) or name in ("gi_frame", "gi_code", "cr_frame", "tb_frame"):
            return Unknown(self)
        if isinstance(owner, ModuleType):
            return self._of_module(owner, name)
        if isinstance(owner, FunctionType) and name != "__name__":
            return Unknown(self)
        return getattr(owner, name)

    def _of_module(self, module: ModuleType, name: str) -> object:
        top = module.__name__.partition(".")[0]
        hidden = name in _HARMLESS.get(top, ()) or name.startswith("_")
        offered = _NUMPY if top == "numpy" else getattr(module, "__all__", None) if top in _HARMLESS else None
        if hidden or (offered is not None and name not in offered) or (top == "mowich" and name in _DATA):
            return Unknown(self)
        try:
            found = getattr(module, name)
        except Exception:  # the rules over the text tell of it
            return Unknown(self)
        if isinstance(found, ModuleType):
            return found if found.__name__ in FACE_MODULES else Unknown(self)
        is_borrowed = isinstance(found, type | FunctionType) and not found.__module__.startswith("mowich.")
        return Unknown(self) if top == "mowich" and is_borrowed else found

    def item(self, owner: object, key: object) -> object:
        """owner[key]"""
        if isinstance(owner, FunctionType):  # a kernel within another one, with a grid
            return owner
        if isinstance(owner, Unknown) or self.holds_unknown(key, 2):
            return Unknown(self, self._base(owner))
        return owner[key]  # type: ignore[index]

    def call(self, function: object, /, *args: object, **kwargs: object) -> object:
        """function(*args, **kwargs); with an unknown argument only what is of the file itself."""
        if isinstance(function, FunctionType) and isinstance(function.__globals__, Names):
            self.tick()
            return function(*args, **kwargs)
        if isinstance(function, MethodType) and isinstance(getattr(function.__func__, "__globals__", None), Names):
            self.tick()
            return function(*args, **kwargs)
        owner = getattr(function, "__self__", None)
        if isinstance(function, type) and getattr(function, "__module__", "") == MODULE:
            return function(*args, **kwargs)
        is_own = isinstance(function, BuiltinMethodType) and isinstance(owner, _CONTAINERS)
        given = (*args, *kwargs.values())
        home = str(getattr(function, "__module__", ""))
        is_left_out = isinstance(function, Unknown) or (home in _EXCHANGES and not isinstance(function, type))
        if not is_own and (is_left_out or any(self.holds_unknown(a, 3) for a in given)):
            for a in (owner, *given):
                self.written(a)
            return Unknown(self, next((b for a in (owner, *given) if (b := self._base(a)) is not None), None))
        if any(isinstance(a, range) and len(a) > self.TICKS for a in given) and function is not len:
            raise TooLong
        name = str(getattr(function, "__name__", ""))
        self.reads_data |= name in _READERS
        self.asks_launch |= name in _OF_LAUNCH
        if home.startswith("mowich"):
            self.work += self.CALL
            if name == "num_programs":
                return self.programs
        if self.values:
            self.work += sum(a.size for a in given if isinstance(a, Tile | Tensor))
            if self.work > self.ELEMENTS:
                raise TooLong
        return function(*args, **kwargs)  # type: ignore[operator]

    # unknown values
    # ------------------------------------------------------------------------------------------------------------------
    def holds_unknown(self, x: object, depth: int) -> bool:
        """Whether a value is unknown, or a container with such a value."""
        if isinstance(x, Unknown):
            return True
        if not depth:
            return False
        if isinstance(x, slice):
            return any(isinstance(v, Unknown) for v in (x.start, x.stop, x.step))
        if isinstance(x, tuple | list):
            return any(self.holds_unknown(v, depth - 1) for v in x[:64])
        if isinstance(x, dict):
            return any(self.holds_unknown(v, depth - 1) for v in x.values())
        return False

    def _base(self, x: object) -> object:
        if isinstance(x, Unknown):
            return x.base
        return x if isinstance(x, Tile | Tensor) else None

    def written(self, x: object, depth: int = 3) -> None:
        """Tensors that a call which was not made may have written count as written."""
        if isinstance(x, Unknown):
            x = x.base
        if isinstance(x, Tensor):
            x = x.tile
        if isinstance(x, Tile):
            storage = storage_of(x)
            storage.fill()
            storage.whole()
            storage.is_made = True
        elif depth and isinstance(x, tuple | list):
            for v in x:
                self.written(v, depth - 1)
        elif depth and isinstance(x, dict):
            for v in x.values():
                self.written(v, depth - 1)
        elif depth and type(x).__module__ == MODULE:
            self.written(vars(x) if hasattr(x, "__dict__") else None, depth - 1)


MODULE = "mowich.kernel_under_check"
"""The name of the module that classes of a file say they are of."""


class SetAttribute:
    """An object whose attribute a kernel sets: `SetAttribute(x)["name"] = value`."""

    def __init__(self, box: Sandbox, owner: object) -> None:
        self.box, self.owner = box, owner

    def __getitem__(self, name: str) -> object:
        return self.box.attribute(self.owner, name)

    def __setitem__(self, name: str, value: object) -> None:
        if type(self.owner).__module__ == MODULE:
            object.__setattr__(self.owner, name, value)


class SetCells:
    """A tensor whose elements a kernel sets: `SetCells(t)[key] = value`."""

    def __init__(self, box: Sandbox, owner: object) -> None:
        self.box, self.owner = box, owner

    def __getitem__(self, key: object) -> object:
        return self.box.item(self.owner, key)

    def __setitem__(self, key: object, value: object) -> None:
        if self.box.holds_unknown((key, value), 3):
            self.box.written(self.owner)
        else:
            self.owner[key] = value  # type: ignore[index]


class Names(dict[str, object]):
    """The global names of a module: each is made when it is asked for first."""

    def __init__(self, box: Sandbox, module: Module) -> None:
        super().__init__()
        self.box, self.module = box, module
        self.busy: set[str] = set()
        self["__builtins__"] = BUILTINS | {
            "print": lambda *_, **__: None,
            "getattr": self._getattr,
            "hasattr": self._hasattr,
            "setattr": self._setattr,
            "type": _type_of,
        }
        self["__name__"] = MODULE
        self["__box__"] = box

    def has(self, name: str) -> bool:
        """Whether the module's top level says what a name is."""
        module = self.module
        return (
            name in module.functions
            or name in module.classes
            or name in module.aliases
            or name in assigned_values(module)
        )

    def __missing__(self, name: str) -> object:
        if not self.has(name):
            known = self["__builtins__"]
            assert isinstance(known, dict)
            if name in known or not (hasattr(builtins, name) or "*" in self.module.aliases):
                raise KeyError(name)
            return Unknown(self.box)
        if name in self.busy:
            return Unknown(self.box)
        self.busy.add(name)
        made = self._made(name)
        self.busy.discard(name)
        self[name] = made
        return made

    def _made(self, name: str) -> object:
        module = self.module
        node = module.functions.get(name) or module.classes.get(name)
        if node is not None:
            return self._defined(node)
        values = assigned_values(module).get(name)
        if values is not None:
            if len(values) > 1 or name in module.aliases:
                return Unknown(self.box)
            return self._evaluated(values[0])
        dotted = module.aliases[name]
        return self.imported(next(iter(dotted))) if len(dotted) == 1 else Unknown(self.box)

    def _defined(self, node: FunctionNode | ast.ClassDef) -> object:
        inner: dict[str, object] = {}
        try:
            exec(compiled_code(self.module, node), self, inner)
        except GaveUp:
            raise
        except Exception:
            return Unknown(self.box)
        return inner[node.name]

    def _evaluated(self, node: ast.expr) -> object:
        try:
            return eval(compiled_code(self.module, node), self)
        except GaveUp:
            raise
        except Exception:
            return Unknown(self.box)

    def imported(self, dotted: str) -> object:
        """What an import brings: of the interface, of Python, or of a file at hand."""
        parts = dotted.split(".")
        for cut in range(len(parts), 0, -1):
            ours = (NAMES | BETA1).get(".".join(parts[:cut]))
            if ours is not None:
                found: object = FACE_MODULES.get(ours) or Unknown(self.box)
                for part in parts[cut:]:
                    found = self.box.attribute(found, part)
                return found
        if parts[0] in PYTHON_MODULES:
            found = PYTHON_MODULES[parts[0]]
            for part in parts[1:]:
                found = self.box.attribute(found, part)
            return found
        other = imported_module(self.module, dotted)
        if other is not None:
            space = self.box.space(other[0])
            if space.has(other[1]):
                return space[other[1]]
        whole = file_module(self.module, dotted)
        return self.box.space(whole) if whole is not None else Unknown(self.box)

    # attributes by a text
    # ------------------------------------------------------------------------------------------------------------------
    def _getattr(self, owner: object, name: object, *default: object) -> object:
        try:
            return self.box.attribute(owner, str(name))
        except AttributeError:
            if default:
                return default[0]
            raise

    def _hasattr(self, owner: object, name: object) -> object:
        if isinstance(owner, Unknown):
            return Unknown(self.box)
        return self._getattr(owner, name, self) is not self

    def _setattr(self, owner: object, name: object, value: object) -> None:
        SetAttribute(self.box, owner)[str(name)] = value


def _type_of(x: object) -> type:
    return type(x)
