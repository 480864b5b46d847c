"""A matrix product of bf16 with weights of 8-bit integers, one scale for each column."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=512 N=4096 K=4096"


@nki.jit
def dequantise_matmul(x, w, scale):
    """x [M, K] bfloat16, w [K, N] int8, scale [1, N] float32 -> x @ (w scale) [M, N] float32."""
    (M, _), N = x.shape, w.shape[1]
    scales = wide(scale, nl.tile_size.pmax)
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((M, N), dtype=nl.float32, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        parts = turned(loaded(x[rows, :]))
        for n in nl.affine_range(0, N, BANK):
            columns = slice(n, min(N, n + BANK))
            total = nl.ndarray((rows.stop - start, columns.stop - n), dtype=nl.float32, buffer=nl.psum)
            for i, part in enumerate(parts):
                words = loaded(w[i * P : i * P + part.shape[0], columns])
                weights = nl.ndarray(words.shape, dtype=nl.bfloat16, buffer=nl.sbuf)
                nisa.tensor_copy(dst=weights, src=words)
                nisa.nc_matmul(dst=total, stationary=part, moving=weights)
            out = numbers(rows.stop - start, columns.stop - n)
            nisa.tensor_tensor(dst=out, data1=total, data2=scales[: rows.stop - start, columns], op=nl.multiply)
            nisa.dma_copy(dst=result[rows, columns], src=out)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def wide(row, count):
    """A row [1, N] of HBM on each of `count` partitions."""
    _, N = row.shape
    one, ones = loaded(row), nl.ndarray((1, count), dtype=row.dtype, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    out = numbers(count, N)
    for start in range(0, N, nl.tile_size.psum_fmax):
        part = slice(start, min(N, start + nl.tile_size.psum_fmax))
        there = nl.ndarray((count, part.stop - start), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=there, stationary=ones, moving=one[:, part])
        nisa.tensor_copy(dst=out[:, part], src=there)
    return out


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


def inputs(seed=0, M=200, N=640, K=384):
    """Arguments for `dequantise_matmul`."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((M, K)).astype(nl.bfloat16), rng.integers(-127, 128, (K, N)).astype(np.int8)
    return {"x": x, "w": w, "scale": rng.uniform(0.01, 0.02, (1, N)).astype(np.float32)}


def reference(x, w, scale):
    """The same in NumPy."""
    return x.astype(np.float32) @ w.astype(np.float32) * scale
