"""The scan of a state-space layer: each channel has a few states that decay and gather along the sequence."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=7168 C=256 S=16"


@nki.jit
def mamba(delta, u, a, b, c):
    """delta, u [C, M], a [C, S], b, c [S, M] float32 -> [C, M]: h = exp(delta a) h + delta b u, summed over the S
    states with weights c."""
    (C, M), S = delta.shape, a.shape[1]
    P = nl.tile_size.pmax
    result = nl.ndarray((C, M), dtype=delta.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, C, P):
        rows = slice(start, min(C, start + P))
        size = rows.stop - start
        step, decay = loaded(delta[rows, :]), loaded(a[rows, :])
        fed, total = loaded(u[rows, :]), numbers(size, M)
        nisa.tensor_tensor(dst=fed, data1=fed, data2=step, op=nl.multiply)
        nisa.memset(dst=total, value=0.0)
        for s in nl.affine_range(S):
            keep, gain, state = numbers(size, M), numbers(size, M), numbers(size, M)
            nisa.activation(dst=keep, op=nl.exp, data=step, scale=decay[:, s : s + 1])
            nisa.tensor_tensor(dst=gain, data1=fed, data2=wide(b[s : s + 1, :], size), op=nl.multiply)
            nisa.tensor_tensor_scan(dst=state, data0=keep, data1=gain, initial=0.0, op0=nl.multiply, op1=nl.add)
            nisa.tensor_tensor(dst=state, data1=state, data2=wide(c[s : s + 1, :], size), op=nl.multiply)
            nisa.tensor_tensor(dst=total, data1=total, data2=state, op=nl.add)
        nisa.dma_copy(dst=result[rows, :], src=total)
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


def inputs(seed=0, M=512, C=128, S=4):
    """Arguments for `mamba`."""
    rng = np.random.default_rng(seed)
    shapes = {"delta": (C, M), "u": (C, M), "a": (C, S), "b": (S, M), "c": (S, M)}
    return {name: 0.05 * rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def reference(delta, u, a, b, c):
    """The same in NumPy."""
    state = np.zeros((*delta.shape[:1], a.shape[1]), np.float32)
    out = np.empty_like(delta)
    for t in range(delta.shape[1]):
        now = delta[:, t, None]
        state = np.exp(now * a) * state + now * u[:, t, None] * b[:, t]
        out[:, t] = state @ c[:, t]
    return out
