"""The sum of each column, over rows that lie on partitions."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=16384 C=4096"


@nki.jit
def sum_of_columns(x):
    """x [R, C] float32 -> [1, C]. R in multiples of 128."""
    R, C = x.shape
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((1, C), dtype=x.dtype, buffer=nl.shared_hbm)
    ones, total = numbers(P, 1), numbers(P, C)
    nisa.memset(dst=ones, value=1.0)
    nisa.memset(dst=total, value=0.0)
    for start in nl.sequential_range(0, R, P):
        nisa.tensor_tensor(dst=total, data1=total, data2=loaded(x[start : start + P, :]), op=nl.add)
    for c in nl.affine_range(0, C, BANK):
        columns = slice(c, min(C, c + BANK))
        there = nl.ndarray((1, columns.stop - c), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=there, stationary=ones, moving=total[:, columns])
        here = numbers(1, columns.stop - c)
        nisa.tensor_copy(dst=here, src=there)
        nisa.dma_copy(dst=result[:, columns], src=here)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, R=512, C=768):
    """Arguments for `sum_of_columns`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C), dtype=np.float32)}


def reference(x):
    """The same in NumPy."""
    return x.sum(axis=0, keepdims=True)
