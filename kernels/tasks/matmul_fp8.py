"""A matrix product of fp8 with one scale, the left operand transposed, in bf16."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=4096 N=4096 K=4096"


@nki.jit
def matmul_fp8(lhs, rhs, scale=0.5):
    """lhs [K, M], rhs [K, N] float8_e4m3 -> scale lhs.T @ rhs [M, N] bfloat16. K in multiples of 128."""
    (K, M), N = lhs.shape, rhs.shape[1]
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((M, N), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        parts = [loaded(lhs[k : k + P, rows]) for k in range(0, K, P)]
        for n in nl.affine_range(0, N, BANK):
            columns = slice(n, min(N, n + BANK))
            sums = product(parts, rhs, columns)
            out = nl.ndarray(sums.shape, dtype=nl.bfloat16, buffer=nl.sbuf)
            nisa.tensor_scalar(dst=out, data=sums, op0=nl.multiply, operand0=scale)
            nisa.dma_copy(dst=result[rows, columns], src=out)
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


def inputs(seed=0, M=256, N=640, K=384):
    """Arguments for `matmul_fp8`."""
    rng = np.random.default_rng(seed)
    lhs, rhs = (rng.standard_normal(shape).astype(nl.float8_e4m3) for shape in ((K, M), (K, N)))
    return {"lhs": lhs, "rhs": rhs}


def reference(lhs, rhs, scale=0.5):
    """The same in NumPy."""
    return (scale * (lhs.astype(np.float32).T @ rhs.astype(np.float32))).astype(nl.bfloat16)
