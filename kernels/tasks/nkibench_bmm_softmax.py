"""Matrix products of a batch, and the softmax over the rows of each."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "B=16 K=64 M=4096 N=4096"


@nki.jit
def bmm_softmax(lhs, rhs):
    """lhs [B, M, K], rhs [B, K, N] float32 -> softmax(lhs @ rhs) [B, M, N]. K up to 128."""
    (B, M, _), N = lhs.shape, rhs.shape[2]
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((B, M, N), dtype=lhs.dtype, buffer=nl.shared_hbm)
    for b in nl.affine_range(B):
        for start in nl.affine_range(0, M, P):
            rows = slice(start, min(M, start + P))
            size = rows.stop - start
            parts = turned(loaded(lhs[b, rows, :]))
            scores = numbers(size, N)
            for n in nl.affine_range(0, N, BANK):
                columns = slice(n, min(N, n + BANK))
                nisa.tensor_copy(dst=scores[:, columns], src=product(parts, rhs[b], columns))
            minus_top, total = numbers(size, 1), numbers(size, 1)
            nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=scores, axis=1, negate=True)
            nisa.activation_reduce(
                dst=scores, op=nl.exp, data=scores, bias=minus_top, reduce_op=nl.add, reduce_res=total
            )
            nisa.reciprocal(dst=total, data=total)
            nisa.tensor_scalar(dst=scores, data=scores, op0=nl.multiply, operand0=total)
            nisa.dma_copy(dst=result[b, rows, :], src=scores)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


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


def inputs(seed=0, B=2, K=64, M=256, N=640):
    """Arguments for `bmm_softmax`."""
    rng = np.random.default_rng(seed)
    lhs, rhs = (rng.standard_normal(shape, dtype=np.float32) for shape in ((B, M, K), (B, K, N)))
    return {"lhs": lhs, "rhs": rhs}


def reference(lhs, rhs):
    """The same in NumPy."""
    scores = lhs @ rhs
    power = np.exp(scores - scores.max(axis=2, keepdims=True))
    return power / power.sum(axis=2, keepdims=True)
