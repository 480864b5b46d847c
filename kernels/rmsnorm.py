"""RMS norm: x / sqrt(mean(x^2) + eps) * weight over the rows of [tokens, hidden].

Tokens lie on partitions. The Scalar Engine squares and sums a row in one pass; the Vector Engine multiplies by the row's factor and then
by the weight, both in its fast modes where the rows are bf16. The weight, one row in HBM, is repeated over the partitions by a
matmul with a column of ones. On two cores each takes every other tile of 128 tokens.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def rmsnorm(x, weight, eps=1e-6):
    """x [T, H], weight [1, H] of the same dtype -> [T, H]. Any T; any H that fits SBUF six times (16384 in bf16)."""
    T, H = x.shape
    P = nl.tile_size.pmax
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((T, H), dtype=x.dtype, buffer=nl.shared_hbm)
    scale = on_all_partitions(weight)
    for start in nl.affine_range(me * P, T, cores * P):
        size = min(P, T - start)
        tile = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        out = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(dst=out, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total)  # only the sum is used
        factor = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=factor, data=total, op0=nl.multiply, operand0=1.0 / H, op1=nl.add, operand1=eps)
        nisa.tensor_scalar(dst=factor, data=factor, op0=nl.power, operand0=-0.5)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
        nisa.tensor_tensor(dst=out, data1=tile, data2=scale[:size, :], op=nl.multiply)
        nisa.dma_copy(dst=result[start : start + size, :], src=out)
    return result


def on_all_partitions(row):
    """A row [1, H] of HBM on each of the 128 partitions of SBUF."""
    _, H = row.shape
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    one = nl.ndarray((1, H), dtype=row.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=one, src=row)
    ones = nl.ndarray((1, P), dtype=row.dtype, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    out = nl.ndarray((P, H), dtype=row.dtype, buffer=nl.sbuf)
    for start in nl.static_range(0, H, BANK):
        size = min(BANK, H - start)
        spread = nl.ndarray((P, size), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=spread, stationary=ones, moving=one[:, start : start + size])
        nisa.tensor_copy(dst=out[:, start : start + size], src=spread)
    return out


def inputs(seed=0, T=200, H=1536, dtype=np.float32):
    """Arguments for `rmsnorm`."""
    rng = np.random.default_rng(seed)
    return {
        "x": (3 * rng.standard_normal((T, H))).astype(dtype),
        "weight": rng.uniform(0.5, 1.5, (1, H)).astype(dtype),
    }


def reference(x, weight, eps=1e-6):
    """The same in NumPy."""
    a = x.astype(np.float32)
    return (a / np.sqrt(np.mean(a * a, axis=1, keepdims=True) + eps) * weight.astype(np.float32)).astype(x.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = rmsnorm(**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    print(f"rmsnorm {want.shape}: largest difference {np.abs(got - want).max():.3g}")
