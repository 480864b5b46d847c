"""Attention of one new token: the queries of a group of heads on a cache of keys and values, bf16."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "S=8192 H=8 D=128"


@nki.jit
def attention_one_token(q, k, v):
    """q [H, D], k and v [S, D] bfloat16 -> [H, D] float32. S in multiples of 128, H and D up to 128."""
    (H, D), S = q.shape, k.shape[0]
    P = nl.tile_size.pmax
    result = nl.ndarray((H, D), dtype=nl.float32, buffer=nl.shared_hbm)
    query, scores = turned(loaded(q))[0], numbers(H, S)
    for s in nl.affine_range(0, S, P):
        there = nl.ndarray((H, P), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=there, stationary=query, moving=turned(loaded(k[s : s + P, :]))[0])
        nisa.activation(dst=scores[:, s : s + P], op=nl.copy, data=there, scale=D**-0.5)
    minus_top, total = numbers(H, 1), numbers(H, 1)
    nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=scores, axis=1, negate=True)
    power = nl.ndarray((H, S), dtype=q.dtype, buffer=nl.sbuf)
    nisa.activation_reduce(dst=power, op=nl.exp, data=scores, bias=minus_top, reduce_op=nl.add, reduce_res=total)
    out = product(turned(power), v, slice(0, D))
    nisa.tensor_scalar(dst=out, data=out, op0=nl.divide, operand0=total)
    nisa.dma_copy(dst=result, src=out)
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


def inputs(seed=0, S=1024, H=8, D=64):
    """Arguments for `attention_one_token`."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((rows, D)).astype(nl.bfloat16) for rows in (H, S, S))
    return {"q": q, "k": k, "v": v}


def reference(q, k, v):
    """The same in NumPy."""
    a, b, c = (x.astype(np.float32) for x in (q, k, v))
    scores = a @ b.T / np.sqrt(a.shape[1])
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (power / power.sum(axis=1, keepdims=True) @ c).astype(np.float32)
