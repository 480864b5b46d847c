"""AWS's Neuron Kernel Interface on a simulated NeuronCore: `jit`, `simulate`, `language`, `isa`, `collectives`,
`typing`.

>>> import numpy as np
>>> import mowich.nki as nki
>>> import mowich.nki.isa as nisa, mowich.nki.language as nl
>>> @nki.jit
... def double(x):
...     out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
...     tile = nl.load(x)
...     nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
...     nisa.dma_copy(dst=out, src=tile)
...     return out
>>> double(np.ones((2, 3), np.float32)).tolist()
[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]

`with mowich.nki.installed():` lets scripts that say `import nki` find it.
"""

from __future__ import annotations

from mowich.neuroncore.core import NkiValidationError, where
from mowich.nki import collectives, compiler, isa, language, typing, words
from mowich.nki.hollows import hollow
from mowich.nki.install import install, installed
from mowich.nki.objects import NKIObject
from mowich.nki.result import Result
from mowich.nki.runtime import Kernel, cpu_simulate, jit, last_latency_us, run_kernel, simulate, simulate_ranks

__all__ = [
    "Kernel",
    "NKIObject",
    "NkiValidationError",
    "Result",
    "collectives",
    "compiler",
    "cpu_simulate",
    "hollow",
    "install",
    "installed",
    "isa",
    "jit",
    "language",
    "last_latency_us",
    "run_kernel",
    "simulate",
    "simulate_ranks",
    "typing",
]

_GONE = {
    "benchmark": "`mowich kernel profile FILE -k KERNEL` measures; `neuronxcc.nki` has it",
    "profile": "`mowich kernel profile FILE -k KERNEL` measures; `neuronxcc.nki` has it",
    "baremetal": "call the kernel; `neuronxcc.nki` has it",
    "simulate_kernel": "call the kernel, or nki.simulate(kernel)(...); `neuronxcc.nki` has it",
}
"""Names of the older interface that AWS took out of this one -> what to do instead."""


def __getattr__(name: str) -> object:
    if name in _GONE:
        raise words.UnknownName(f"this generation of the interface has no nki.{name}", where=where(), fix=_GONE[name])
    words.missing(__name__)(name)


dtype = language
experimental = language
tensor = language
builtin = compiler
trace = jit
