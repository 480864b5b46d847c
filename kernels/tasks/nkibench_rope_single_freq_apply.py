"""Rotary positions with heads on partitions: the upper and the lower half of each column are turned."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "D=128 T=262144"


@nki.jit
def rope(x, cos, sin, width=2048):
    """x [D, T], cos and sin [D / 2, T] float32 -> [D, T]."""
    D, T = x.shape
    half = D // 2
    result = nl.ndarray((D, T), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, T, width):
        part = slice(start, min(T, start + width))
        upper, lower, c, s = (loaded(v) for v in (x[0:half, part], x[half:D, part], cos[:, part], sin[:, part]))
        turned(result[0:half, part], upper, c, lower, s, nl.subtract)
        turned(result[half:D, part], lower, c, upper, s, nl.add)
    return result


def turned(out, mine, cos, other, sin, op):
    """out = mine cos -+ other sin."""
    straight = nl.ndarray(mine.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=straight, data1=mine, data2=cos, op=nl.multiply)
    across = nl.ndarray(mine.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=across, data1=other, data2=sin, op=nl.multiply)
    nisa.tensor_tensor(dst=straight, data1=straight, data2=across, op=op)
    nisa.dma_copy(dst=out, src=straight)


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def inputs(seed=0, D=128, T=1024):
    """Arguments for `rope`."""
    rng = np.random.default_rng(seed)
    x, cos, sin = (rng.standard_normal((rows, T), dtype=np.float32) for rows in (D, D // 2, D // 2))
    return {"x": x, "cos": cos, "sin": sin}


def reference(x, cos, sin):
    """The same in NumPy."""
    upper, lower = np.split(x, 2)
    return np.concatenate([upper * cos - lower * sin, lower * cos + upper * sin])
