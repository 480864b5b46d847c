"""Rotary positions of pairs that lie side by side."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=32768 C=128"


@nki.jit
def rope_interleaved(x, cos, sin):
    """x [R, C], cos and sin [R, C / 2] float32 -> [R, C]: pairs (2 i, 2 i + 1) of a row are turned."""
    R, C = x.shape
    P, half = nl.tile_size.pmax, C // 2
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        tile, c, s = loaded(x[rows, :]), loaded(cos[rows, :]), loaded(sin[rows, :])
        out = numbers(size, C)
        pairs, turned = tile.reshape((size, half, 2)), out.reshape((size, half, 2))
        for mine, other, op in ((0, 1, nl.subtract), (1, 0, nl.add)):
            straight, across = numbers(size, half), numbers(size, half)
            nisa.tensor_tensor(dst=straight, data1=pairs[:, :, mine], data2=c, op=nl.multiply)
            nisa.tensor_tensor(dst=across, data1=pairs[:, :, other], data2=s, op=nl.multiply)
            nisa.tensor_tensor(dst=turned[:, :, mine], data1=straight, data2=across, op=op)
        nisa.dma_copy(dst=result[rows, :], src=out)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, R=300, C=64):
    """Arguments for `rope_interleaved`."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 6, (R, C // 2))
    x = rng.standard_normal((R, C), dtype=np.float32)
    return {"x": x, "cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}


def reference(x, cos, sin):
    """The same in NumPy."""
    out, (even, odd) = np.empty_like(x), (x[:, 0::2], x[:, 1::2])
    out[:, 0::2], out[:, 1::2] = even * cos - odd * sin, odd * cos + even * sin
    return out
