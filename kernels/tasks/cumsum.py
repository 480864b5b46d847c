"""The running sum along each row."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=2048 C=16384"


@nki.jit
def cumsum(x):
    """x [R, C] float32 -> [R, C]."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        ones, out = numbers(size, C), numbers(size, C)
        nisa.memset(dst=ones, value=1.0)
        nisa.tensor_tensor_scan(dst=out, data0=ones, data1=loaded(x[rows, :]), initial=0.0, op0=nl.multiply, op1=nl.add)
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


def inputs(seed=0, R=200, C=1000):
    """Arguments for `cumsum`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C), dtype=np.float32)}


def reference(x):
    """The same in NumPy."""
    return np.cumsum(x, axis=1, dtype=np.float32)
