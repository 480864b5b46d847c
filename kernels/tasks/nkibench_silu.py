"""SiLU: x / (1 + exp(-x)), element by element."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=4096 N=7168"


@nki.jit
def silu(x):
    """x [M, N] float32 -> [M, N]."""
    M, N = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        tile = loaded(x[rows, :])
        below = nl.ndarray(tile.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=below, op=nl.exp, data=tile, scale=-1.0)
        nisa.tensor_scalar(dst=below, data=below, op0=nl.add, operand0=1.0)
        nisa.tensor_tensor(dst=tile, data1=tile, data2=below, op=nl.divide)
        nisa.dma_copy(dst=result[rows, :], src=tile)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def inputs(seed=0, M=200, N=512):
    """Arguments for `silu`."""
    return {"x": np.random.default_rng(seed).standard_normal((M, N), dtype=np.float32)}


def reference(x):
    """The same in NumPy."""
    return x / (1 + np.exp(-x))
