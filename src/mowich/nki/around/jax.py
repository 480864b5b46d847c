"""`jax_neuronx`: `nki_call`, the older way to call a kernel from jax. The kernel takes its outputs after its inputs,
and writes to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mowich.nki import beta1


def nki_call(
    func: Callable[..., object],
    *args: object,
    out_shape: object,
    grid: object = None,
    platform_target: str | None = None,
) -> object:
    """Call a kernel on jax arrays, also inside `jax.jit`. out_shape: a `jax.ShapeDtypeStruct`, or a tree of them, as
    the result is; grid: programs."""
    import jax

    kernel = beta1.jit(func, platform_target=platform_target)
    structs, tree = jax.tree_util.tree_flatten(out_shape)

    def run(*arrays: object) -> object:
        outputs = [np.zeros(s.shape, s.dtype) for s in structs]
        (kernel if grid is None else kernel[grid])(*map(np.array, arrays), *outputs)
        return jax.tree_util.tree_unflatten(tree, outputs)

    return jax.pure_callback(run, out_shape, *args)


__all__ = ["nki_call"]
