"""Softmax over the rows of [rows, columns], with the largest element taken off first.

One pass of the Vector Engine finds the largest element, negated, so that it is the bias of the exponential; the Scalar Engine sums
while it computes the exponential. On two cores each takes every other tile of 128 rows.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def softmax(x):
    """x [R, C] -> [R, C] in the dtype of x."""
    R, C = x.shape
    P = nl.tile_size.pmax
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(me * P, R, cores * P):
        size = min(P, R - start)
        tile = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        minus_top = nl.ndarray(
            (size, 1), dtype=x.dtype, buffer=nl.sbuf
        )  # an element of the row: exact, and bf16 is reduced faster
        nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=tile, axis=1, negate=True)
        power = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=power, op=nl.exp, data=tile, bias=minus_top, reduce_op=nl.add, reduce_res=total)
        inverse = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=total)
        nisa.tensor_scalar(dst=power, data=power, op0=nl.multiply, operand0=inverse)
        nisa.dma_copy(dst=result[start : start + size, :], src=power)
    return result


def inputs(seed=0, R=300, C=1000, dtype=np.float32):
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
