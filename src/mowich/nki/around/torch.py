"""`torch_neuronx` and `libtorch_neuronx_lite`: kernels as operators of torch.

>>> from mowich.nki.around.torch import wrap_nki
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mowich.nki import beta1
from mowich.nki.runtime import Kernel, jit

nki_jit = beta1.jit
"""Decorator of kernels of the older interface, which write to tensors that they are given."""


def wrap_nki(kernel: Callable[..., object]) -> Kernel:
    """A kernel that takes torch tensors: `wrap_nki(kernel)[2](x, y)`."""
    made = jit(kernel)
    assert isinstance(made, Kernel)
    return made


def nki_op(
    name: str, mutates_args: str | Iterable[str] = (), **options: object
) -> Callable[[Callable[..., object]], object]:
    """Decorator: an operator of torch ("namespace::name") of a function that calls kernels. It stays inside the graphs
    of `torch.compile`; gradients come with its `register_autograd`. mutates_args: names of the arguments that it writes
    to."""
    import torch

    def register(function: Callable[..., object]) -> object:
        changed = mutates_args if isinstance(mutates_args, str) else tuple(mutates_args)
        made = torch.library.custom_op(name, function, mutates_args=changed, **options)
        made.register_fake(function)  # on tensors without values its kernels give shapes (`nki.frameworks`)
        return made

    return register


__all__ = ["nki_jit", "nki_op", "wrap_nki"]
