"""The package that nki-library's simulation mode imports (AWS's simulator, not public): every name of it resolves to
the `nki` that is importable. Nothing here computes."""

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

nki = importlib.import_module("nki")


class _Annotation:
    def __getitem__(self, key: Any) -> "_Annotation":
        return self


def _module(name: str, fill: Callable[[types.ModuleType], None]) -> types.ModuleType:
    """The module if there is one, else an empty one that `fill` fills."""
    try:
        return importlib.import_module(name)
    except ImportError:
        module = types.ModuleType(name)
        fill(module)
        sys.modules[name] = module
        return module


def _like(source: types.ModuleType) -> Callable[[types.ModuleType], None]:
    def fill(module: types.ModuleType) -> None:
        module.__getattr__ = lambda name: getattr(source, name)  # type: ignore[method-assign]

    return fill


def _typing(module: types.ModuleType) -> None:
    module.__dict__.update(mutable_tensor=object, tensor=_Annotation())


isa = importlib.import_module("nki.isa")
language = importlib.import_module("nki.language")
_constants = _module("nki.isa.constants", _like(isa))
_dtypes = _module("nki.dtype", _like(language))
_types = _module("nki.typing", _typing)
_tensor = _module("nki.tensor", _like(language))
_compiler = _module("nki.compiler", lambda _: None)
_builtin = _module("nki.builtin", lambda _: None)

for _name, _value in {
    "nki": nki,
    "nki.isa": isa,
    "nki.isa.constants": _constants,
    "nki.language": language,
    "nki.language.dtypes": _dtypes,
    "nki.typing": _types,
    "nki.tensor": _tensor,
    "nki.compiler": _compiler,
    "nki.builtin": _builtin,
}.items():
    sys.modules["nki_cpu_simulator." + _name] = _value

# `import nki_cpu_simulator.nki.isa as x` resolves attributes through the parents
for _parent, _attribute, _value in (
    (nki, "isa", isa),
    (nki, "language", language),
    (nki, "typing", _types),
    (nki, "tensor", _tensor),
    (nki, "compiler", _compiler),
    (nki, "builtin", _builtin),
    (nki, "dtype", _dtypes),
    (isa, "constants", _constants),
    (language, "dtypes", _dtypes),
):
    if not isinstance(getattr(_parent, _attribute, None), types.ModuleType):
        setattr(_parent, _attribute, _value)


def cpu_simulate(kernel: Any) -> Any:
    """`nki.cpu_simulate(kernel)[lnc](**inputs)` in terms of the public `nki.simulate(kernel[lnc])(**inputs)`."""

    class Launcher:
        def __getitem__(self, lnc: int) -> Any:
            k = kernel if hasattr(kernel, "__getitem__") else nki.jit(kernel)
            return nki.simulate(k[lnc] if lnc != 1 else k)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self[1](*args, **kwargs)

    return Launcher()


if not hasattr(nki, "cpu_simulate"):
    nki.cpu_simulate = cpu_simulate  # type: ignore[attr-defined]
