"""Layer norm with a mistake in it, to try the debugger on: (x - mean) / sqrt(variance + eps) over the rows of [rows, columns].

`reference` is in NumPy and yields what each tile should hold, by the name that the kernel gives it. So the first instruction that leaves
it is found: `mowich kernel run @layer_norm_wrong -k layer_norm --first-difference @layer_norm_wrong:reference`.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def layer_norm(x, eps=1e-5):
    """x [R, C] float32 -> [R, C]."""
    R, C = x.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, P):
        size = min(P, R - start)
        tile = nl.ndarray((size, C), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=total, op=nl.add, data=tile, axis=1)
        mean = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=mean, data=total, op0=nl.multiply, operand0=1.0 / C)
        centred = nl.ndarray((size, C), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=centred, data=tile, op0=nl.subtract, operand0=mean)
        square = nl.ndarray((size, C), dtype=nl.float32, buffer=nl.sbuf)
        squares = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=square, op=nl.square, data=centred, reduce_op=nl.add, reduce_res=squares)
        variance = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=variance, data=squares, op0=nl.multiply, operand0=1.0 / (C - 1))
        scale = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=scale, data=variance, op0=nl.add, operand0=eps, op1=nl.power, operand1=-0.5)
        nisa.tensor_scalar(dst=centred, data=centred, op0=nl.multiply, operand0=scale)
        nisa.dma_copy(dst=result[start : start + size, :], src=centred)
    return result


def inputs(seed=0, R=200, C=512):
    """Arguments for `layer_norm`."""
    return {"x": (3 * np.random.default_rng(seed).standard_normal((R, C)) + 1).astype(np.float32)}


def reference(x, eps=1e-5):
    """The same in NumPy, tile by tile: all rows of a name at once."""
    mean = x.mean(axis=1, keepdims=True)
    yield "mean", mean
    variance = x.var(axis=1, keepdims=True)
    yield "variance", variance
    scale = 1 / np.sqrt(variance + eps)
    yield "scale", scale
    return (x - mean) * scale


if __name__ == "__main__":
    given = inputs()
    *_, (_, scale) = reference(**given)
    got, want = layer_norm(**given), (given["x"] - given["x"].mean(axis=1, keepdims=True)) * scale
    print(f"layer_norm {want.shape}: largest difference {np.abs(got - want).max():.3g}, there is a mistake to find")
