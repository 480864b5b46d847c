"""The older front end, `neuronxcc.nki`: instructions return their result, indices are arrays, `mask=` leaves elements
out.

A thin layer over the same instructions: `jit`, `simulate_kernel`, and `trace`, `baremetal`, `benchmark`, `profile`,
which run the kernel too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mowich.neuroncore.core import Core
from mowich.neuroncore.memory import MemoryRegion
from mowich.nki import typing, words
from mowich.nki.beta1 import compiler, isa, language
from mowich.nki.beta1.tensor import unwrap, wrap_tiles
from mowich.nki.result import Result
from mowich.nki.runtime import Kernel

tensor = typing.tensor
__getattr__ = words.missing(__name__)


def _results(value: object, core: Core) -> object:
    return unwrap(value)


class Beta1Kernel(Kernel):
    """A kernel whose loops a compiler would reorder, and whose tensors it would spill: memory over capacity is not an
    error. Its outputs may lie in any HBM: until NKI 0.3 `nl.hbm` was as good as `nl.shared_hbm`."""

    returned = (MemoryRegion.shared_hbm, MemoryRegion.private_hbm)
    older = True

    def launch(self, args: Sequence[object], kwargs: Mapping[str, Any], **how: object) -> Result:
        """Run on the host's arrays."""
        how.setdefault("check", False)
        return super().launch(args, kwargs, **how)


def _kernel(func: Callable[..., object], options: dict[str, Any]) -> Kernel:
    @functools.wraps(func)
    def call(*args: Any, **kwargs: object) -> Any:
        return func(*wrap_tiles(list(args)), **wrap_tiles(kwargs))

    return Beta1Kernel(call, platform_target=options.get("platform_target"), options=options, results=_results)


def jit(func: Any = None, **options: object) -> Any:
    """Decorator of kernels: bare, or with keywords (`mode=`, `platform_target=`)."""
    if func is None:
        return lambda f: jit(f, **options)
    return func if isinstance(func, Kernel) else _kernel(func, options)


trace = baremetal = profile = jit


class _Latency:
    """Latency of the last run of a kernel, in microseconds: simulated, so that every percentile is the same."""

    def __init__(self) -> None:
        self.us = 0.0

    def get_latency_percentile(self, percentile: float) -> float:
        """The latency."""
        return self.us


class _Result:
    def __init__(self) -> None:
        self.nc_latency = _Latency()


class _Benchmark(Beta1Kernel):
    """A kernel that notes its latency at each launch."""

    benchmark_result: _Result

    def launch(self, args: Sequence[object], kwargs: Mapping[str, Any], **how: object) -> Result:
        """Run once, and put the run on the clock; `nki.typing.tensor[[128, 512], dtype]` stands for an array of random
        numbers."""
        given = {name: typing.drawn(x) for name, x in kwargs.items()}
        result = super().launch([typing.drawn(x) for x in args], given, **how)
        result.timed = True
        self.benchmark_result.nc_latency.us = result.device_s * 1e6 if result.instructions else math.nan
        return result


def benchmark(func: object = None, **options: object) -> Any:
    """Decorator of kernels to measure: `kernel.benchmark_result.nc_latency` has the simulated latency after a
    launch."""
    if func is None:
        return lambda f: benchmark(f, **options)
    kernel = jit(func, **options)
    made = kernel._again(_Benchmark)
    assert isinstance(made, _Benchmark)
    made.benchmark_result = _Result()
    return made


def simulate_kernel(kernel: object, *args: object, **kwargs: object) -> Any:
    """Run a kernel on the CPU; tensors that it writes in place are the arrays given."""
    return jit(kernel)(*args, **kwargs)


__all__ = [
    "baremetal",
    "benchmark",
    "compiler",
    "isa",
    "jit",
    "language",
    "profile",
    "simulate_kernel",
    "tensor",
    "trace",
    "typing",
]
