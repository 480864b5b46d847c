"""The mean over the middle axis, bf16 in and float32 out."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=4096 H=32 D=128"


@nki.jit
def mean_of_heads(x):
    """x [R, H, D] bfloat16 -> [R, D] float32."""
    R, H, D = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, D), dtype=nl.float32, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        tile, total = loaded(x[rows, :, :]), numbers(rows.stop - start, D)
        nisa.memset(dst=total, value=0.0)
        for h in range(H):
            nisa.tensor_tensor(dst=total, data1=total, data2=tile[:, h, :], op=nl.add)
        nisa.tensor_scalar(dst=total, data=total, op0=nl.multiply, operand0=1.0 / H)
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


def inputs(seed=0, R=200, H=8, D=64):
    """Arguments for `mean_of_heads`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, H, D)).astype(nl.bfloat16)}


def reference(x):
    """The same in NumPy."""
    return x.astype(np.float32).mean(axis=1)
