"""Making `import nki` mean this package: `install`, and `installed` for the length of a `with` block.

A top-level `nki` package is never shipped: names are entered in `sys.modules`, and taken out again.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from mowich.errors import UserError
from mowich.nki.around import absent

STUBS = Path(__file__).with_name("stubs")
"""Folder with `nki/*.pyi`: an editor or a type checker that has it in its path reads the signatures of the interface
from there, where a kernel says `import nki`."""
NAMES = {
    "nki": "mowich.nki",
    "nki.language": "mowich.nki.language",
    "nki.isa": "mowich.nki.isa",
    "nki.isa.constants": "mowich.nki.isa",
    "nki.collectives": "mowich.nki.collectives",
    "nki.typing": "mowich.nki.typing",
    "nki.dtype": "mowich.nki.language",
    "nki.tensor": "mowich.nki.language",
    "nki.language.dtypes": "mowich.nki.language",
    "nki.compiler": "mowich.nki.compiler",
    "nki.experimental": "mowich.nki.language",
    "neuron_dtypes": "mowich.nki.neuron_dtypes",
}
"""Module that scripts import -> ours."""

BETA1 = {
    "neuronxcc": "mowich.nki.beta1.package",
    "neuronxcc.nki": "mowich.nki.beta1",
    "neuronxcc.nki.language": "mowich.nki.beta1.language",
    "neuronxcc.nki.language.constants": "mowich.nki.beta1.language",
    "neuronxcc.nki.isa": "mowich.nki.beta1.isa",
    "neuronxcc.nki.isa.constants": "mowich.nki.beta1.isa",
    "neuronxcc.nki.typing": "mowich.nki.typing",
    "neuronxcc.nki.compiler": "mowich.nki.beta1.compiler",
    "neuronxcc.nki.compiler.backends.neuron.dimensions": "mowich.nki.beta1.dimensions",
    "neuronxcc.starfish.penguin.targets.nki.private_api": "mowich.nki.beta1.dimensions",
    "neuronxcc.nki._private.private_api": "mowich.nki.beta1.dimensions",
    "neuronxcc.nki.nccl": "mowich.nki.beta1.nccl",
}
"""The older namespace."""

AROUND_NKI = {
    "torch_neuronx": "mowich.nki.around.torch",
    "torch_neuronx.nki_hop": "mowich.nki.around.torch",
    "torch_neuronx.xla_impl.ops": "mowich.nki.around.torch",
    "libtorch_neuronx_lite": "mowich.nki.around.torch",
    "libtorch_neuronx_lite.nki.nki_hop": "mowich.nki.around.torch",
    "jax_neuronx": "mowich.nki.around.jax",
    "torch_xla": "mowich.nki.around.xla",
    "torch_xla.core.xla_model": "mowich.nki.around.xla",
}
"""Packages around the interface, where the real ones are not installed: these serve as well."""


def _real(top: str) -> bool:
    """True where another package of that name can be imported."""
    module = sys.modules.get(top)
    if module is not None:
        return not (module.__name__.startswith("mowich.") or isinstance(module, absent.AbsentModule))
    return importlib.machinery.PathFinder.find_spec(top) is not None


def install(replace: bool = False) -> None:
    """Let `nki` and `neuronxcc.nki` resolve to Mowich for the rest of the process. A real one is shadowed with
    replace=True only."""
    modules = NAMES | BETA1 | AROUND_NKI
    left = {top for top in ("neuron_dtypes", *absent.FRAMEWORK_PACKAGES) if not replace and _real(top)}
    left |= {"torch_xla"} if _real("torch_xla") else set()  # of Google and PyTorch: nobody means ours
    modules = {name: ours for name, ours in modules.items() if name.partition(".")[0] not in left}
    for top in sorted({name.partition(".")[0] for name in modules}):
        if _real(top):
            if not replace:
                raise UserError(f"a package '{top}' is installed", fix="install(replace=True) puts Mowich's before it")
            for name in [m for m in sys.modules if m == top or m.startswith(top + ".")]:
                del sys.modules[name]
    if not any(isinstance(finder, absent.Finder) for finder in sys.meta_path):
        sys.meta_path.append(absent.Finder())
    for name, ours in modules.items():
        parent = name.rpartition(".")[0]
        if parent and parent not in sys.modules:
            importlib.import_module(parent)
        found = importlib.import_module(ours)
        sys.modules[name] = absent.AbsentModule(name, found) if name in AROUND_NKI else found


@contextlib.contextmanager
def installed(replace: bool = False) -> Iterator[types.ModuleType]:
    """`install` for the length of a `with` block; gives the `nki` module."""
    tops = {name.partition(".")[0] for name in NAMES | BETA1 | AROUND_NKI}
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in tops}
    finders = list(sys.meta_path)
    install(replace)
    try:
        yield sys.modules["nki"]
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(before)
        if not any(isinstance(finder, absent.Finder) for finder in finders):
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, absent.Finder)]
