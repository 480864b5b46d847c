"""A matrix of bf16, transposed."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=4096 C=4096"


@nki.jit
def transpose(x):
    """x [R, C] bfloat16 -> [C, R]."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((C, R), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        tile = loaded(x[rows, :])
        for c in nl.affine_range(0, C, P):
            columns = slice(c, min(C, c + P))
            there = nl.ndarray((columns.stop - c, rows.stop - start), dtype=x.dtype, buffer=nl.psum)
            nisa.nc_transpose(dst=there, data=tile[:, columns], engine=nisa.tensor_engine)
            here = nl.ndarray(there.shape, dtype=x.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=here, src=there)
            nisa.dma_copy(dst=result[columns, rows], src=here)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def inputs(seed=0, R=300, C=640):
    """Arguments for `transpose`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C)).astype(nl.bfloat16)}


def reference(x):
    """The same in NumPy."""
    return np.ascontiguousarray(x.T)
