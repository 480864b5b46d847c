"""GELU by its approximation with tanh, bf16."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "R=4096 C=8192"


@nki.jit
def gelu(x):
    """x [R, C] bfloat16 -> [R, C]."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        rows = slice(start, min(R, start + P))
        size = rows.stop - start
        tile, inner = loaded(x[rows, :]), numbers(size, C)
        nisa.tensor_tensor(dst=inner, data1=tile, data2=tile, op=nl.multiply)
        nisa.tensor_scalar(dst=inner, data=inner, op0=nl.multiply, operand0=0.044715, op1=nl.add, operand1=1.0)
        nisa.tensor_tensor(dst=inner, data1=inner, data2=tile, op=nl.multiply)
        nisa.activation(dst=inner, op=nl.tanh, data=inner, scale=(2 / np.pi) ** 0.5)
        nisa.tensor_scalar(dst=inner, data=inner, op0=nl.add, operand0=1.0, op1=nl.multiply, operand1=0.5)
        nisa.tensor_tensor(dst=tile, data1=tile, data2=inner, op=nl.multiply)
        nisa.dma_copy(dst=result[rows, :], src=tile)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, R=200, C=512):
    """Arguments for `gelu`."""
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((R, C)).astype(nl.bfloat16)}


def reference(x):
    """The same in NumPy."""
    a = x.astype(np.float32)
    return (a * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))).astype(x.dtype)
