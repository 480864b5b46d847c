"""Names of Neuron's packages that Mowich does not have: they can be imported, and refuse to be used.

A file imports them beside its kernels, for code that never runs here. So a name is a class that files may derive from,
name as a type, or index with a grid; a call of it raises `UserError`.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from typing import NoReturn

from mowich.errors import UserError

INSIDE_COMPILER = tuple(
    f"neuronxcc.nki.{name}" for name in ("kernels", "_private_kernels", "_pre_prod_kernels", "_pre_prod_nkl")
)
"""Packages of kernels that AWS ships inside its compiler."""
FRAMEWORK_PACKAGES = ("torch_neuronx", "libtorch_neuronx_lite", "jax_neuronx", "torch_xla")
"""Packages of frameworks."""
_OTHERS = ("neuronxcc.nki.compiler.backends", "neuronxcc.nki._private", "neuronxcc.starfish")
ROOTS = (*INSIDE_COMPILER, *FRAMEWORK_PACKAGES, *_OTHERS)
"""Packages below which every module and every name can be imported."""


def _refusal(path: str) -> UserError:
    if path.startswith(tuple(f"{package}." for package in INSIDE_COMPILER)):
        what = f"{path} is a kernel inside AWS's compiler, which Mowich does not have"
        fix = "call the kernel for it of a checkout of aws-neuron/nki-library or aws-neuron/nki-samples"
    else:
        what = f"{path} is not part of what a kernel needs, and Mowich does not have it"
        fix = "run the kernel alone; torch_neuronx has nki_op, wrap_nki and nki_jit here, jax_neuronx has nki_call"
    return UserError(what, fix=fix)


class _Absent(type):
    """The class of names that are not there. path: as files import it."""

    path: str

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        raise _refusal(cls.path)

    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return absent(f"{cls.path}.{name}")

    def __getitem__(cls, grid: object) -> _Absent:
        return cls

    def __repr__(cls) -> str:
        return f"<{cls.path}, absent>"


def absent(path: str) -> type:
    """The stand-in for a name."""
    return _Absent(path.rpartition(".")[2], (), {"path": path, "__module__": path.rpartition(".")[0]})


class AbsentModule(types.ModuleType):
    """A module of which a part is there, or nothing: its other names are absent. part: ours, with what is there."""

    def __init__(self, name: str, part: types.ModuleType | None = None) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        if part is not None:
            vars(self).update({word: getattr(part, word) for word in part.__all__})

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        path = f"{self.__name__}.{name}"
        return sys.modules[path] if path in sys.modules else absent(path)


class Finder(MetaPathFinder, Loader):
    """Finds the modules below `ROOTS` that are not there; the others are in `sys.modules` before it is asked."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for such a module. Those of a package that is really there are left to Python."""
        if not any(fullname == root or fullname.startswith(root + ".") for root in ROOTS):
            return None
        top = sys.modules.get(fullname.partition(".")[0])
        if top is None or not (top.__name__.startswith("mowich.") or isinstance(top, AbsentModule)):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """The module."""
        return AbsentModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""
