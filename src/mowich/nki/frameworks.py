"""Kernels among the arrays of torch and jax: what goes in and comes out, and calls while one of them compiles.

`torch.compile` leaves its graph for a kernel: the simulator is no part of a graph. An operator that
`torch_neuronx.nki_op` registers stays inside. `jax.jit` and the like see a call back to the host. In both, the shapes
of the outputs come from a run of the kernel without values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mowich.arrays import Array
from mowich.errors import UserError
from mowich.neuroncore.dtypes import as_dtype
from mowich.nki.hollows import hollow

_OWN_IN_TORCH = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Formats that torch has and NumPy lacks: they pass as bits."""


class KernelLaunch(Protocol):
    """A launch of a kernel on arrays: what it returned. values=False gives arrays of the right shape and format
    only."""

    def __call__(self, args: Sequence[object], kwargs: Mapping[str, object], *, values: bool) -> object: ...


@runtime_checkable
class _Shaped(Protocol):
    """What the arrays of all frameworks have."""

    shape: Sequence[int]
    dtype: object


def framework(x: object) -> str | None:
    """ "torch" or "jax" for an array of these; None for anything else."""
    kind = type(x)
    top = kind.__module__.partition(".")[0]
    if top == "torch" and (kind.__name__ in ("Tensor", "Parameter") or _is_shape_of_torch(x)):
        return "torch"
    if top in ("jax", "jaxlib") and hasattr(x, "__array__") and hasattr(x, "shape"):
        return "jax"
    return None


def from_torch(x: object) -> Array:
    """A torch tensor's memory as an array, shared where possible."""
    import torch

    t = torch.as_tensor(x).detach()
    if t.device.type != "cpu":
        t = t.cpu()
    for name in _OWN_IN_TORCH:
        if t.dtype is getattr(torch, name, None):
            d = as_dtype(name).dtype
            return t.contiguous().view(torch.int16 if d.itemsize == 2 else torch.uint8).numpy().view(d)  # type: ignore[no-any-return]
    return t.numpy()  # type: ignore[no-any-return]


def to_framework(a: Array, framework: str) -> object:
    """An array as one of "numpy", "torch" or "jax"."""
    if framework == "torch":
        import torch

        name = as_dtype(a.dtype).name
        if name in _OWN_IN_TORCH:
            raw = np.ascontiguousarray(a).view(np.int16 if a.itemsize == 2 else np.uint8)
            return torch.from_numpy(raw).view(getattr(torch, name))
        if a.dtype.kind in "fiub":
            return torch.from_numpy(np.ascontiguousarray(a))
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(a)
    return a


# while a framework compiles
# ----------------------------------------------------------------------------------------------------


def outside_graph(call: Callable[..., object]) -> Callable[..., object] | None:
    """While torch.compile traces: the call as it is made outside the graph; None otherwise. Dynamo itself runs this
    function, so that it is plain."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None or not dynamo.is_compiling():
        return None
    dynamo.graph_break(
        msg="an NKI kernel runs outside the graph; for fullgraph=True register it as an operator with "
        "torch_neuronx.nki_op"
    )
    return dynamo.disable(call)  # type: ignore[no-any-return]


def called(launch: KernelLaunch, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """Call a kernel on the arrays of a framework, also on those that have no values while it compiles."""
    if "jax" in sys.modules and any(_is_traced_by_jax(x) for x in leaves_of((args, kwargs))):
        return _by_jax(launch, args, kwargs)
    if "torch" in sys.modules:
        first = next((x for x in leaves_of((args, kwargs)) if _is_shape_of_torch(x)), None)
        if first is not None:
            return _shapes_in_torch(launch, args, kwargs, first)
    return launch(args, kwargs, values=True)


def leaves_of(x: object) -> Iterator[object]:
    """What lists, tuples and dicts hold."""
    if isinstance(x, Mapping):
        for v in x.values():
            yield from leaves_of(v)
    elif isinstance(x, list | tuple):
        for v in x:
            yield from leaves_of(v)
    else:
        yield x


def each_value(x: object, change: Callable[[object], object]) -> Any:
    """The same lists, tuples and dicts with what `change` makes of each thing in them."""
    if isinstance(x, Mapping):
        return {k: each_value(v, change) for k, v in x.items()}
    if isinstance(x, list | tuple):
        made = [each_value(v, change) for v in x]
        return made if isinstance(x, list) else type(x)(*made) if hasattr(x, "_fields") else tuple(made)
    return change(x)


def _is_traced_by_jax(x: object) -> bool:
    if not type(x).__module__.startswith("jax."):
        return False
    import jax

    return isinstance(x, jax.core.Tracer)


def _is_shape_of_torch(x: object) -> bool:
    """A tensor without values: of `torch.compile` (FakeTensor), or of the device "meta"."""
    kind = type(x)
    if kind.__module__.partition(".")[0] != "torch" or not hasattr(x, "device"):
        return False
    return kind.__name__ == "FakeTensor" or getattr(x.device, "type", "") == "meta"


def _without_values(launch: KernelLaunch, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """What a kernel returns for arrays of these shapes and formats."""

    def stand_in(x: object) -> object:
        if framework(x) is None or not isinstance(x, _Shaped):
            return x
        return hollow([int(n) for n in x.shape], str(x.dtype).removeprefix("torch."))

    words = {name: each_value(x, stand_in) for name, x in kwargs.items()}
    return launch([each_value(x, stand_in) for x in args], words, values=False)


def _by_jax(launch: KernelLaunch, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """A call while jax traces: shapes now, the run when the compiled function runs."""
    import jax

    traced = [x for x in leaves_of((args, kwargs)) if _is_traced_by_jax(x)]
    outputs = each_value(
        _without_values(launch, args, kwargs),
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, np.ndarray) else x,
    )
    if any(not isinstance(x, jax.ShapeDtypeStruct) for x in leaves_of(outputs)):
        raise UserError("under jax.jit a kernel returns tensors", given=outputs, fix="call it outside jax.jit")

    def run(*arrays: object) -> object:
        values = iter(arrays)

        def filled(x: object) -> object:
            return np.array(next(values)) if _is_traced_by_jax(x) else x

        given = [each_value(x, filled) for x in args]
        return each_value(launch(given, {n: each_value(x, filled) for n, x in kwargs.items()}, values=True), np.asarray)

    return jax.pure_callback(run, outputs, *traced)


def _shapes_in_torch(
    launch: KernelLaunch, args: Sequence[object], kwargs: Mapping[str, object], like: object
) -> object:
    """The outputs of a call on tensors without values. like: one of them."""
    import torch

    def made(x: object) -> object:
        if not isinstance(x, np.ndarray):
            return x
        return torch.empty_like(like, dtype=getattr(torch, as_dtype(x.dtype).name)).new_empty(x.shape)

    return each_value(_without_values(launch, args, kwargs), made)
