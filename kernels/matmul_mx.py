"""Matrix product of microscaled operands on Trainium 3: MX fp8, four rows of K in one pass and one scale for 32 elements.

The walk is that of `matmul.py`: a block of rows stays in SBUF, the right operand streams past it, sums grow in PSUM. An operand in HBM
is [K / 4, M] words of four consecutive K, with scales [K / 32, M]: `quantise_mx` in quantise.py writes both. In SBUF the four scale rows
of each 32 partitions lie in the first four of them.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np
from ml_dtypes import float8_e4m3fn

CHUNK_B = 16384  # of each partition, in one load
QUADRANT, SCALES = 32, 4  # partitions, and their scale rows


@nki.jit
def matmul_mx(lhsT, lhsT_scale, rhs, rhs_scale):
    """lhsT [K/4, M], rhs [K/4, N] float8_e4m3fn_x4, scales [K/32, M], [K/32, N] uint8 -> [M, N] bfloat16. K below 512 or in multiples of it."""
    W, M = lhsT.shape
    N = rhs.shape[1]
    result = nl.ndarray((M, N), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    P, TILE_M, TILE_N = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    p = min(P, W)
    assert rhs.shape[0] == W, f"contraction of {4 * W} and {4 * rhs.shape[0]}"
    assert W % p == p % QUADRANT == 0, f"K = {4 * W}: whole tiles only"
    left, right = (in_tiles(x, s, p) for x, s in ((lhsT, lhsT_scale), (rhs, rhs_scale)))

    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    share = -(-N // cores)
    first, last = me * share, min(N, (me + 1) * share)
    block = TILE_M * (nl.tile_size.psum_num_banks // 2)
    for m0 in nl.affine_range(0, M, block):
        rows = min(block, M - m0)
        stationary = list(chunks(*left, m0, rows))
        each = stationary[0][1]
        for n0 in nl.affine_range(first, last, TILE_N):
            columns = min(TILE_N, last - n0)
            sums = [nl.ndarray((min(TILE_M, rows - m), columns), dtype=nl.float32, buffer=nl.psum) for m in range(0, rows, TILE_M)]
            for k0, k1, moving, moving_scale in chunks(*right, n0, columns):
                for k in range(k0, k1):
                    _, _, held, held_scale = stationary[k // each]
                    for i, total in enumerate(sums):
                        part = slice(i * TILE_M, i * TILE_M + total.shape[0])
                        nisa.nc_matmul_mx(dst=total, stationary=held[:, k % each, part], stationary_scale=held_scale[:, k % each, part],
                                          moving=moving[:, k - k0, :], moving_scale=moving_scale[:, k - k0, :])  # fmt: skip
            for i, total in enumerate(sums):
                m = m0 + i * TILE_M
                out = nl.ndarray(total.shape, dtype=result.dtype, buffer=nl.sbuf)
                nisa.tensor_copy(dst=out, src=total, engine=nisa.vector_engine if i % 2 else nisa.scalar_engine)
                nisa.dma_copy(dst=result[m : m + total.shape[0], n0 : n0 + columns], src=out)
    return result


def in_tiles(x, scale, p):
    """Words [W, N] -> [p, W / p, N], scales [W / 8, N] -> [p / 8, W / p, N]: views of HBM."""
    num_k, N = x.shape[0] // p, x.shape[1]
    return x.reshape((num_k, p, N)).permute((1, 0, 2)), scale.reshape((num_k, p // 8, N)).permute((1, 0, 2))


def chunks(x, scale, start, width):
    """Load columns start .. start + width a few tiles of K at a time: yields (first tile, past the last, words, scales)."""
    p, num_k, _ = x.shape
    each = max(1, CHUNK_B // (4 * width))
    for k0 in range(0, num_k, each):
        k1 = min(num_k, k0 + each)
        words = nl.ndarray((p, k1 - k0, width), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=words, src=x[:, k0:k1, start : start + width])
        scales = nl.ndarray((p, k1 - k0, width), dtype=nl.uint8, buffer=nl.sbuf)
        for q in range(p // QUADRANT):
            nisa.dma_copy(dst=scales[q * QUADRANT : q * QUADRANT + SCALES],
                          src=scale[q * SCALES : (q + 1) * SCALES, k0:k1, start : start + width])  # fmt: skip
        yield k0, k1, words, scales


def inputs(seed=0, K=1024, M=150, N=700):
    """Arguments for `matmul_mx`: random elements and scales."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, columns in (("lhsT", M), ("rhs", N)):
        values = rng.standard_normal((K // 4, columns, 4)).astype(float8_e4m3fn)
        made[name] = values.view(np.uint32).reshape(K // 4, columns).view(nl.float8_e4m3fn_x4.dtype)
        made[f"{name}_scale"] = rng.integers(125, 130, (K // 32, columns)).astype(np.uint8)
    return made


def reference(lhsT, lhsT_scale, rhs, rhs_scale):
    """The same in NumPy."""
    a, b = (dequantise(x, s) for x, s in ((lhsT, lhsT_scale), (rhs, rhs_scale)))
    return (a.T @ b).astype(nl.bfloat16)


def dequantise(words, scale):
    """Words [K/4, M] and scales [K/32, M] -> float32 [K, M]."""
    W, M = words.shape
    values = words.view(np.uint32).view(float8_e4m3fn).reshape(W, M, 4).astype(np.float32)
    factor = np.ldexp(np.float32(1), scale.astype(np.int32) - 127)
    return (values * np.repeat(factor, 8, axis=0)[:, :, None]).transpose(0, 2, 1).reshape(4 * W, M)


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (matmul_mx(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-1)
    print(f"matmul_mx {want.shape}: largest difference {np.abs(got - want).max():.3g}")
