"""The softmax over rows of square scores in which row i sees columns 0 to i."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=4096"


@nki.jit
def softmax_causal(x):
    """x [R, R] float32 -> [R, R], 0 above the diagonal."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        tile, seen = loaded(x[rows, :]), numbers(size, C)
        minus_top, total = numbers(size, 1), numbers(size, 1)
        nisa.affine_select(
            dst=seen,
            pattern=[[-1, C]],
            channel_multiplier=1,
            offset=start,
            on_true_tile=tile,
            on_false_value=-1e30,
            cmp_op=nl.greater_equal,
        )
        nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=seen, axis=1, negate=True)
        nisa.activation(dst=seen, op=nl.exp, data=seen, bias=minus_top)
        nisa.tensor_reduce(dst=total, op=nl.add, data=seen, axis=1)
        nisa.tensor_scalar(dst=seen, data=seen, op0=nl.divide, operand0=total)
        nisa.dma_copy(dst=result[rows, :], src=seen)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, R=256):
    """Arguments for `softmax_causal`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, R), dtype=np.float32)}


def reference(x):
    """The same in NumPy."""
    seen = np.where(np.tri(len(x), dtype=bool), x, -np.inf)
    power = np.exp(seen - seen.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)
