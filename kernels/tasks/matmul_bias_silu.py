"""A matrix product in bf16, a bias of each column, and the SiLU of the sum."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=4096 N=4096 K=1024"


@nki.jit
def matmul_bias_silu(x, w, bias):
    """x [M, K], w [K, N], bias [1, N] bfloat16 -> silu(x @ w + bias) [M, N] bfloat16."""
    (M, _), N = x.shape, w.shape[1]
    biases = wide(bias, nl.tile_size.pmax)
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((M, N), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        parts = turned(loaded(x[rows, :]))
        for n in nl.affine_range(0, N, BANK):
            columns = slice(n, min(N, n + BANK))
            sums = product(parts, w, columns)
            nisa.tensor_tensor(dst=sums, data1=sums, data2=biases[: rows.stop - start, columns], op=nl.add)
            out = nl.ndarray(sums.shape, dtype=x.dtype, buffer=nl.sbuf)
            nisa.activation(dst=out, op=nl.silu, data=sums)
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
    """Arguments for `matmul_bias_silu`."""
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal(shape).astype(nl.bfloat16) for shape in ((M, K), (K, N)))
    return {"x": x, "w": w, "bias": rng.standard_normal((1, N)).astype(nl.bfloat16)}


def reference(x, w, bias):
    """The same in NumPy."""
    a = x.astype(np.float32) @ w.astype(np.float32) + bias.astype(np.float32)
    return (a / (1 + np.exp(-a))).astype(x.dtype)
