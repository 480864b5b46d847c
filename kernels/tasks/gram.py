"""All products of the columns of a tall matrix: x.T @ x."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=16384 C=1024"


@nki.jit
def gram(x):
    """x [R, C] bfloat16 -> x.T @ x [C, C] float32. R in multiples of 128."""
    R, C = x.shape
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((C, C), dtype=nl.float32, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, C, P):
        rows = slice(start, min(C, start + P))
        parts = [loaded(x[r : r + P, rows]) for r in range(0, R, P)]
        for c in nl.affine_range(0, C, BANK):
            columns = slice(c, min(C, c + BANK))
            nisa.dma_copy(dst=result[rows, columns], src=product(parts, x, columns))
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def product(parts, w, columns):
    """Sum over i of parts[i].T @ the i-th 128 rows of w [K, N], at these columns: float32 in SBUF."""
    P, rows = nl.tile_size.pmax, parts[0].shape[1]
    total = nl.ndarray((rows, columns.stop - columns.start), dtype=nl.float32, buffer=nl.psum)
    for i, part in enumerate(parts):
        nisa.nc_matmul(dst=total, stationary=part, moving=loaded(w[i * P : i * P + part.shape[0], columns]))
    out = nl.ndarray(total.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=total)
    return out


def inputs(seed=0, R=512, C=640):
    """Arguments for `gram`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C)).astype(nl.bfloat16)}


def reference(x):
    """The same in NumPy."""
    a = x.astype(np.float32)
    return a.T @ a
