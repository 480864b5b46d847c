"""One step of AdamW in float32: what becomes of a weight, with its gradient and both moments."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=10944 N=2048"


@nki.jit
def adamw(theta, g, m, v):
    """theta, g, m, v [M, N] float32 -> the new theta [M, N]."""
    M, N = theta.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((M, N), dtype=theta.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        weight, grad, first, second = (loaded(x[rows, :]) for x in (theta, g, m, v))
        square = nl.ndarray(grad.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=square, data1=grad, data2=grad, op=nl.multiply)
        nisa.tensor_scalar(dst=square, data=square, op0=nl.multiply, operand0=0.001)
        nisa.scalar_tensor_tensor(dst=second, data=second, op0=nl.multiply, operand0=0.999, op1=nl.add, operand1=square)
        nisa.tensor_scalar(dst=grad, data=grad, op0=nl.multiply, operand0=0.1)
        nisa.scalar_tensor_tensor(dst=first, data=first, op0=nl.multiply, operand0=0.9, op1=nl.add, operand1=grad)
        nisa.activation(dst=second, op=nl.sqrt, data=second, scale=1000.0)
        nisa.tensor_scalar(dst=second, data=second, op0=nl.add, operand0=1e-8)
        nisa.tensor_tensor(dst=first, data1=first, data2=second, op=nl.divide)
        nisa.tensor_scalar(dst=weight, data=weight, op0=nl.multiply, operand0=1.0 - 1e-5)
        nisa.scalar_tensor_tensor(dst=weight, data=first, op0=nl.multiply, operand0=-0.01, op1=nl.add, operand1=weight)
        nisa.dma_copy(dst=result[rows, :], src=weight)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def inputs(seed=0, M=200, N=512):
    """Arguments for `adamw`."""
    rng = np.random.default_rng(seed)
    theta, g, m, v = (rng.standard_normal((M, N), dtype=np.float32) for _ in range(4))
    return {"theta": theta, "g": g, "m": m, "v": np.abs(v)}


def reference(theta, g, m, v):
    """The same in NumPy: rate 0.01, decay 0.001, moments 0.9 and 0.999, at the first step."""
    rate, decay, b1, b2 = 0.01, 0.001, 0.9, 0.999
    first, second = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return ((1 - rate * decay) * theta - rate * first / (np.sqrt(second / (1 - b2)) + 1e-8)).astype(np.float32)
