"""Mean and variance of each row."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=16384 C=4096"


@nki.jit
def row_statistics(x):
    """x [R, C] float32 -> [R, 2]: mean, variance."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, 2), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        tile, square, out = loaded(x[rows, :]), numbers(size, C), numbers(size, 2)
        nisa.tensor_reduce(dst=out[:, 0:1], op=nl.add, data=tile, axis=1)
        nisa.tensor_scalar(dst=out[:, 0:1], data=out[:, 0:1], op0=nl.multiply, operand0=1.0 / C)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.subtract, operand0=out[:, 0:1])
        nisa.tensor_tensor(dst=square, data1=tile, data2=tile, op=nl.multiply)
        nisa.tensor_reduce(dst=out[:, 1:2], op=nl.add, data=square, axis=1)
        nisa.tensor_scalar(dst=out[:, 1:2], data=out[:, 1:2], op0=nl.multiply, operand0=1.0 / C)
        nisa.dma_copy(dst=result[rows, :], src=out)
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
    """Arguments for `row_statistics`."""
    rng = np.random.default_rng(seed)
    return {"x": 2 * rng.standard_normal((R, C), dtype=np.float32) + 1}


def reference(x):
    """The same in NumPy."""
    return np.stack([x.mean(axis=1), x.var(axis=1)], axis=1)
