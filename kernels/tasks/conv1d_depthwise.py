"""A causal convolution of each channel with a few taps of its own."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "C=4096 T=4096 K=4"


@nki.jit
def conv1d_depthwise(x, w):
    """x [C, T], w [C, K] float32 -> [C, T]: sum over i of w[:, i] x[:, t - (K - 1) + i]; before the first: 0."""
    (C, T), K = x.shape, w.shape[1]
    P = nl.tile_size.pmax
    result = nl.ndarray((C, T), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, C, P):
        rows = slice(start, min(C, start + P))
        size = rows.stop - start
        held, taps, total = numbers(size, T + K - 1), loaded(w[rows, :]), numbers(size, T)
        nisa.memset(dst=held, value=0.0)
        nisa.dma_copy(dst=held[:, K - 1 : T + K - 1], src=x[rows, :])
        nisa.memset(dst=total, value=0.0)
        for i in range(K):
            part = numbers(size, T)
            nisa.tensor_scalar(dst=part, data=held[:, i : i + T], op0=nl.multiply, operand0=taps[:, i : i + 1])
            nisa.tensor_tensor(dst=total, data1=total, data2=part, op=nl.add)
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


def inputs(seed=0, C=200, T=512, K=4):
    """Arguments for `conv1d_depthwise`."""
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal((C, n), dtype=np.float32) for n in (T, K))
    return {"x": x, "w": w}


def reference(x, w):
    """The same in NumPy."""
    K, T = w.shape[1], x.shape[1]
    held = np.pad(x, ((0, 0), (K - 1, 0)))
    return sum(w[:, i : i + 1] * held[:, i : i + T] for i in range(K))
