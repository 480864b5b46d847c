"""The logarithm of the softmax over rows."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=4096 C=8192"


@nki.jit
def log_softmax(x):
    """x [R, C] float32 -> [R, C]."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        tile, power = loaded(x[rows, :]), numbers(size, C)
        minus_top, total = numbers(size, 1), numbers(size, 1)
        nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=tile, axis=1, negate=True)
        nisa.activation(dst=power, op=nl.exp, data=tile, bias=minus_top)
        nisa.tensor_reduce(dst=total, op=nl.add, data=power, axis=1)
        nisa.activation(dst=total, op=nl.log, data=total)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=minus_top)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.subtract, operand0=total)
        nisa.dma_copy(dst=result[rows, :], src=tile)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, R=200, C=512):
    """Arguments for `log_softmax`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C), dtype=np.float32)}


def reference(x):
    """The same in NumPy."""
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
