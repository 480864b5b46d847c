"""Causal attention of one head in bf16, scores in float32."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "S=2048 D=128"


@nki.jit
def attention_causal(q, k, v):
    """q, k, v [S, D] bfloat16 -> [S, D] bfloat16. S in multiples of 128, D up to 128."""
    S, D = q.shape
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((S, D), dtype=q.dtype, buffer=nl.shared_hbm)
    keys = nl.ndarray((D, S), dtype=q.dtype, buffer=nl.sbuf)
    for s in nl.affine_range(0, S, P):
        nisa.tensor_copy(dst=keys[:, s : s + P], src=turned(loaded(k[s : s + P, :]))[0])
    for start in nl.affine_range(0, S, P):
        query = turned(loaded(q[start : start + P, :]))[0]
        scores, seen = numbers(P, S), numbers(P, S)
        for s in nl.affine_range(0, S, BANK):
            columns = slice(s, min(S, s + BANK))
            there = nl.ndarray((P, columns.stop - s), dtype=nl.float32, buffer=nl.psum)
            nisa.nc_matmul(dst=there, stationary=query, moving=keys[:, columns])
            nisa.activation(dst=scores[:, columns], op=nl.copy, data=there, scale=D**-0.5)
        nisa.affine_select(
            dst=seen,
            pattern=[[-1, S]],
            channel_multiplier=1,
            offset=start,
            on_true_tile=scores,
            on_false_value=-1e30,
            cmp_op=nl.greater_equal,
        )
        minus_top, total = numbers(P, 1), numbers(P, 1)
        nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=seen, axis=1, negate=True)
        power = nl.ndarray((P, S), dtype=q.dtype, buffer=nl.sbuf)
        nisa.activation_reduce(dst=power, op=nl.exp, data=seen, bias=minus_top, reduce_op=nl.add, reduce_res=total)
        sums = product(turned(power), v, slice(0, D))
        out = nl.ndarray((P, D), dtype=q.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=out, data=sums, op0=nl.divide, operand0=total)
        nisa.dma_copy(dst=result[start : start + P, :], src=out)
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


def inputs(seed=0, S=512, D=64):
    """Arguments for `attention_causal`."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((S, D)).astype(nl.bfloat16) for _ in range(3))
    return {"q": q, "k": k, "v": v}


def reference(q, k, v):
    """The same in NumPy."""
    a, b, c = (x.astype(np.float32) for x in (q, k, v))
    scores = np.where(np.tri(len(a), dtype=bool), a @ b.T / np.sqrt(a.shape[1]), -np.inf)
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (power / power.sum(axis=1, keepdims=True) @ c).astype(q.dtype)
