"""One step of gradient descent with momentum: the new weight and the new velocity."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=8192 C=4096"


@nki.jit
def momentum(w, g, v, rate=0.1, keep=0.9):
    """w, v [R, C] float32, g [R, C] bfloat16 -> w - rate v', and v' = keep v + g."""
    R, C = w.shape
    P = nl.tile_size.pmax
    weights, speeds = (nl.ndarray((R, C), dtype=nl.float32, buffer=nl.shared_hbm) for _ in range(2))
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        weight, grad, speed = loaded(w[rows, :]), loaded(g[rows, :]), loaded(v[rows, :])
        nisa.tensor_scalar(dst=speed, data=speed, op0=nl.multiply, operand0=keep)
        nisa.tensor_tensor(dst=speed, data1=speed, data2=grad, op=nl.add)
        moved = nl.ndarray(speed.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=moved, data=speed, op0=nl.multiply, operand0=-rate)
        nisa.tensor_tensor(dst=weight, data1=weight, data2=moved, op=nl.add)
        nisa.dma_copy(dst=weights[rows, :], src=weight)
        nisa.dma_copy(dst=speeds[rows, :], src=speed)
    return weights, speeds


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def inputs(seed=0, R=200, C=512):
    """Arguments for `momentum`."""
    rng = np.random.default_rng(seed)
    w, g, v = (rng.standard_normal((R, C), dtype=np.float32) for _ in range(3))
    return {"w": w, "g": g.astype(nl.bfloat16), "v": v}


def reference(w, g, v, rate=0.1, keep=0.9):
    """The same in NumPy."""
    speed = keep * v + g.astype(np.float32)
    return (w - rate * speed).astype(np.float32), speed.astype(np.float32)
