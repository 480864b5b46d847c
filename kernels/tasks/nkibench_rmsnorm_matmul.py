"""Rows over their root mean square, then a matrix product."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=4096 N=2048 K=1024"


@nki.jit
def rmsnorm_matmul(x, w):
    """x [M, K], w [K, N] float32 -> (x / rms(x)) @ w [M, N]."""
    (M, _), N = x.shape, w.shape[1]
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        tile = loaded(x[rows, :])
        over_rms(tile, 0.0)
        parts = turned(tile)
        for n in nl.affine_range(0, N, BANK):
            columns = slice(n, min(N, n + BANK))
            nisa.dma_copy(dst=result[rows, columns], src=product(parts, w, columns))
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def over_rms(tile, eps):
    """Divide each row by its root mean square."""
    size, N = tile.shape
    square, factor = numbers(size, N), numbers(size, 1)
    nisa.activation_reduce(dst=square, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=factor)
    nisa.tensor_scalar(dst=factor, data=factor, op0=nl.multiply, operand0=1.0 / N, op1=nl.add, operand1=eps)
    nisa.tensor_scalar(dst=factor, data=factor, op0=nl.power, operand0=-0.5)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)


def turned(tile):
    """Tiles [up to 128, rows] that are the transposed columns of a tile [rows, columns], 128 at a time."""
    P, (rows, columns) = nl.tile_size.pmax, tile.shape
    out = []
    for start in range(0, columns, P):
        part = tile[:, start : min(columns, start + P)]
        there = nl.ndarray((part.shape[1], rows), dtype=tile.dtype, buffer=nl.psum)
        nisa.nc_transpose(dst=there, data=part, engine=nisa.tensor_engine)
        here = nl.ndarray(there.shape, dtype=tile.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=here, src=there)
        out.append(here)
    return out


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
    """Arguments for `rmsnorm_matmul`."""
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((M, K), (K, N)))
    return {"x": x, "w": w}


def reference(x, w):
    """The same in NumPy."""
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True)) @ w
