"""Full attention with grouped heads, in float32: each key and value head serves two query heads."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "B=1 N=4096 QH=16 KH=8 D=128"


@nki.jit
def gqa_full(q, k, v):
    """q [B, N, QH, D], k and v [B, N, KH, D] float32 -> [B, QH, N, D]. N in multiples of 128, D up to 128."""
    (B, N, QH, D), KH = q.shape, k.shape[2]
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((B, QH, N, D), dtype=q.dtype, buffer=nl.shared_hbm)
    for b in nl.affine_range(B):
        for h in nl.affine_range(QH):
            group = h // (QH // KH)
            keys = nl.ndarray((D, N), dtype=q.dtype, buffer=nl.sbuf)
            for n in nl.affine_range(0, N, P):
                nisa.tensor_copy(dst=keys[:, n : n + P], src=turned(loaded(k[b, n : n + P, group, :]))[0])
            for start in nl.affine_range(0, N, P):
                query = turned(loaded(q[b, start : start + P, h, :]))[0]
                scores = numbers(P, N)
                for n in nl.affine_range(0, N, BANK):
                    columns = slice(n, min(N, n + BANK))
                    there = nl.ndarray((P, columns.stop - n), dtype=nl.float32, buffer=nl.psum)
                    nisa.nc_matmul(dst=there, stationary=query, moving=keys[:, columns])
                    nisa.activation(dst=scores[:, columns], op=nl.copy, data=there, scale=D**-0.5)
                minus_top, total = numbers(P, 1), numbers(P, 1)
                nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=scores, axis=1, negate=True)
                nisa.activation_reduce(
                    dst=scores, op=nl.exp, data=scores, bias=minus_top, reduce_op=nl.add, reduce_res=total
                )
                nisa.reciprocal(dst=total, data=total)
                out = product(turned(scores), v[b, :, group, :], slice(0, D))
                nisa.tensor_scalar(dst=out, data=out, op0=nl.multiply, operand0=total)
                nisa.dma_copy(dst=result[b, h, start : start + P, :], src=out)
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


def inputs(seed=0, B=1, N=256, QH=4, KH=2, D=64):
    """Arguments for `gqa_full`."""
    rng = np.random.default_rng(seed)
    shapes = {"q": (B, N, QH, D), "k": (B, N, KH, D), "v": (B, N, KH, D)}
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def reference(q, k, v):
    """The same in NumPy."""
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) / np.float32(np.sqrt(q.shape[3]))
    power = np.exp(scores - scores.max(axis=3, keepdims=True))
    return power / power.sum(axis=3, keepdims=True) @ v
