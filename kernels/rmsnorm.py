"""RMS norm: x / sqrt(mean(x^2) + eps) * weight over the rows of [tokens, hidden].

Many tokens lie on partitions: the Scalar Engine squares and sums a row in one pass; the Vector Engine multiplies by the row's factor and
then by the weight, both in its fast modes where the rows are bf16. The weight, one row in HBM, is repeated over the partitions by a
matmul with a column of ones. On two cores each takes every other tile of 128 tokens.

Few tokens, as in decoding, would leave most partitions empty: there the features of every token are dealt over the partitions, and a
matmul with ones adds up their sums. On two cores each takes half of the tokens.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FEW, LEAST = (
    32,
    8,
)  # tokens whose features are dealt over the partitions, and features of each partition that make it worth it


@nki.jit
def rmsnorm(x, weight, eps=1e-6):
    """x [T, H], weight [1, H] of the same dtype -> [T, H]. Any T; any H that fits SBUF six times (16384 in bf16)."""
    T, H = x.shape
    P = nl.tile_size.pmax
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((T, H), dtype=x.dtype, buffer=nl.shared_hbm)
    if T <= FEW and H % P == 0 and H // P >= LEAST:
        share = -(-T // cores)
        if me * share < T:
            few_tokens(result, x, weight, slice(me * share, min(T, (me + 1) * share)), eps)
        return result
    scale = on_partitions(weight, min(P, T))
    for start in nl.affine_range(me * P, T, cores * P):
        size = min(P, T - start)
        tile = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + size, :])
        out = nl.ndarray((size, H), dtype=x.dtype, buffer=nl.sbuf)
        total = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(
            dst=out, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=total
        )  # only the sum is used
        factor = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=factor, data=total, op0=nl.multiply, operand0=1.0 / H, op1=nl.add, operand1=eps)
        nisa.tensor_scalar(dst=factor, data=factor, op0=nl.power, operand0=-0.5)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=factor)
        nisa.tensor_tensor(dst=out, data1=tile, data2=scale[:size, :], op=nl.multiply)
        nisa.dma_copy(dst=result[start : start + size, :], src=out)
    return result


def few_tokens(result, x, weight, tokens, eps):
    """result[tokens] = the norm of x[tokens], with features on partitions."""
    T, (_, H), P = tokens.stop - tokens.start, x.shape, nl.tile_size.pmax
    each = H // P
    tile, out = (nl.ndarray((P, T, each), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2))
    nisa.dma_copy(dst=tile, src=x[tokens, :].reshape((T, P, each)).permute((1, 0, 2)))
    scale = nl.ndarray((P, 1, each), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=scale, src=weight.reshape((P, 1, each)))
    ones = nl.ndarray((P, P), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    square = nl.ndarray((P, T, each), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation(dst=square, op=nl.square, data=tile)
    part = nl.ndarray((P, T), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=part, op=nl.add, data=square, axis=2)
    total = nl.ndarray((P, T), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=total, stationary=ones, moving=part)
    factor = nl.ndarray((P, T, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_scalar(
        dst=factor.reshape((P, T)), data=total, op0=nl.multiply, operand0=1.0 / H, op1=nl.add, operand1=eps
    )
    nisa.tensor_scalar(dst=factor, data=factor, op0=nl.power, operand0=-0.5)
    nisa.tensor_tensor(dst=tile, data1=tile, data2=factor.broadcast(2, each), op=nl.multiply)
    nisa.tensor_tensor(dst=out, data1=tile, data2=scale.broadcast(1, T), op=nl.multiply)
    nisa.dma_copy(dst=result[tokens, :].reshape((T, P, each)).permute((1, 0, 2)), src=out)


def on_partitions(row, count):
    """A row [1, H] of HBM on each of the first `count` partitions of SBUF."""
    _, H = row.shape
    BANK = nl.tile_size.psum_fmax
    one = nl.ndarray((1, H), dtype=row.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=one, src=row)
    if count == 1:
        return one
    ones = nl.ndarray((1, count), dtype=row.dtype, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    out = nl.ndarray((count, H), dtype=row.dtype, buffer=nl.sbuf)
    for start in nl.static_range(0, H, BANK):
        part = slice(start, min(start + BANK, H))
        spread = nl.ndarray((count, part.stop - start), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(dst=spread, stationary=ones, moving=one[:, part])
        if start // BANK % 2:
            nisa.activation(dst=out[:, part], op=nl.copy, data=spread)
        else:
            nisa.tensor_copy(dst=out[:, part], src=spread)
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
