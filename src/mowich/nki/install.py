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

from mowich.errors import UserError

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
}
"""The older namespace."""


def _real(top: str) -> bool:
    """True where another package of that name can be imported."""
    module = sys.modules.get(top)
    if module is not None:
        return not module.__name__.startswith("mowich.")
    return importlib.machinery.PathFinder.find_spec(top) is not None


def install(replace: bool = False) -> None:
    """Let `nki` and `neuronxcc.nki` resolve to Mowich for the rest of the process. A real one is shadowed with
    replace=True only."""
    modules = NAMES | {
        n: m for n, m in BETA1.items() if importlib.util.find_spec("mowich.nki.beta1") and importlib.util.find_spec(m)
    }
    if not replace and _real("neuron_dtypes"):
        del modules["neuron_dtypes"]  # a package of formats alone: the real one serves as well
    for top in sorted({name.partition(".")[0] for name in modules}):
        if _real(top):
            if not replace:
                raise UserError(f"a package '{top}' is installed", fix="install(replace=True) puts Mowich's before it")
            for name in [m for m in sys.modules if m == top or m.startswith(top + ".")]:
                del sys.modules[name]
    for name, ours in modules.items():
        sys.modules[name] = importlib.import_module(ours)


@contextlib.contextmanager
def installed(replace: bool = False) -> Iterator[types.ModuleType]:
    """`install` for the length of a `with` block; gives the `nki` module."""
    tops = ("nki", "neuronxcc", "neuron_dtypes")
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in tops}
    install(replace)
    try:
        yield sys.modules["nki"]
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(before)
