"""The operators of `nki.language` as functions of tensors of the older interface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mowich.neuroncore import ops
from mowich.neuroncore.views import Tile
from mowich.nki import language as now
from mowich.nki.beta1.index import Symbol, partial, plain_array
from mowich.nki.beta1.tensor import Tensor, as_tensor, flush, operand


def values_taken(x: object, mask: object = None) -> object:
    """What stands in an operator as an instruction takes it: index expressions and arrays as numbers in SBUF."""
    if isinstance(x, Symbol | np.ndarray) and np.ndim(x):
        return operand(as_tensor(x), mask)
    return operand(x, mask)


_OP_WORDS = ("x", "y", "dtype")
"""Keywords that reach an operator: functions of the older interface take any others, and leave them out."""


def _lifted(op: now.NkiOp) -> Callable[..., object]:
    """A function of tiles as a function of tensors; the result keeps the mask that it was made under."""

    def call(name: str, *args: object, mask: object = None, **kwargs: object) -> object:
        flush()
        mask = partial(mask)
        tensors = [a for a in args if isinstance(a, Tensor)]
        if not tensors:
            return ops.alu(name).apply(*[plain_array(a) for a in args])
        made = op(
            *[values_taken(a, mask) for a in args],
            **{k: v if k == "dtype" else operand(v, mask) for k, v in kwargs.items() if k in _OP_WORDS},
        )
        assert isinstance(made, Tile)
        out = Tensor(made)
        valid = next((t.valid for t in tensors if t.valid is not None and t.shape == out.shape), None)
        if mask is not None:
            m = np.broadcast_to(np.asarray(mask), out.shape)
            valid = m if valid is None else m & valid
        out.valid = valid
        return out

    return call


OPERATORS = {
    name: now.NkiOp(op.op_name, _lifted(op), op.__doc__ or "")
    for name, op in vars(now).items()
    if isinstance(op, now.NkiOp)
}
"""The operators of `nki.language` as functions of tensors, by name."""

Tensor.operators = OPERATORS
