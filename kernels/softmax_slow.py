"""Softmax over the rows of [rows, columns], as it is written first: each step an instruction of its own.

What docs/read/tutorial-softmax.md makes fast: few rows at a time, and nearly all steps on one engine.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

ROWS = 32  # of a tile; SBUF has 128 partitions
ENGINE = nisa.vector_engine  # of the steps that two engines can do


@nki.jit
def softmax(x):
    """x [R, C] -> [R, C] in the dtype of x."""
    R, C = x.shape
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, R, ROWS):
        size = min(ROWS, R - start)
        tile = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        top = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=top, op=nl.maximum, data=tile, axis=1)
        shifted = nl.ndarray((size, C), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=shifted, data=tile, op0=nl.subtract, operand0=top, engine=ENGINE)
        power = nl.ndarray((size, C), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=power, op=nl.exp, data=shifted)
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=total, op=nl.add, data=power, axis=1)
        inverse = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=total)
        out = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=out, data=power, op0=nl.multiply, operand0=inverse, engine=ENGINE)
        nisa.dma_copy(dst=result[start : start + size, :], src=out)
    return result


def inputs(seed=0, R=1024, C=2048, dtype=np.float32):
    """Arguments for `softmax`."""
    return {"x": (10 * np.random.default_rng(seed).standard_normal((R, C))).astype(dtype)}


def reference(x):
    """The same in NumPy."""
    a = x.astype(np.float32)
    e = np.exp(a - a.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(x.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = softmax(**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    print(f"softmax {want.shape}: largest difference {np.abs(got - want).max():.3g}")
