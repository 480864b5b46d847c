"""RMS norm: x / sqrt(mean(x^2) + eps) * weight over the rows of [tokens, hidden].

Tokens lie on partitions. The Scalar Engine squares and sums a row in one pass; the weight, one row in HBM, is repeated over the
partitions by a matmul with a column of ones.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def rmsnorm(x, weight, eps=1e-6):
    """x [T, H], weight [1, H] -> [T, H] in the dtype of x. Any T; H in multiples of 512, or below it."""
    T, H = x.shape
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((T, H), dtype=x.dtype, buffer=nl.shared_hbm)

    row = nl.ndarray((1, H), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=row, src=weight)
    ones = nl.ndarray((1, P), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    scale = nl.ndarray((P, H), dtype=nl.float32, buffer=nl.sbuf)
    for start in nl.static_range(0, H, BANK):
        size = min(BANK, H - start)
        spread = nl.ndarray((P, size), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=spread, stationary=ones, moving=row[:, start : start + size])
        nisa.tensor_copy(dst=scale[:, start : start + size], src=spread)

    for start in nl.affine_range(0, T, P):
        size = min(P, T - start)
        tile = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        square = nl.ndarray((size, H), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=square, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total)
        mean = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=mean, data=total, op0=nl.multiply, operand0=1.0 / H, op1=nl.add, operand1=eps)
        factor = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=factor, op=nl.rsqrt, data=mean)
        out = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        nisa.scalar_tensor_tensor(
            dst=out, data=tile, op0=nl.multiply, operand0=factor, op1=nl.multiply, operand1=scale[:size, :]
        )
        nisa.dma_copy(dst=result[start : start + size, :], src=out)
    return result


def inputs(seed=0, T=200, H=1536, dtype=np.float32):
    """Arguments for `rmsnorm`."""
    rng = np.random.default_rng(seed)
    return {
        "x": (3 * rng.standard_normal((T, H))).astype(dtype),
        "weight": rng.uniform(0.5, 1.5, (1, H)).astype(np.float32),
    }


def reference(x, weight, eps=1e-6):
    """The same in NumPy."""
    a = x.astype(np.float32)
    return (a / np.sqrt(np.mean(a * a, axis=1, keepdims=True) + eps) * weight).astype(x.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = rmsnorm(**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    print(f"rmsnorm {want.shape}: largest difference {np.abs(got - want).max():.3g}")
