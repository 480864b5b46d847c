"""Tiled matrix product: [M, K] @ [K, N], with the left operand given transposed, as the Tensor Engine wants it.

The stationary operand has the contraction on its 128 partitions and at most 128 columns, the moving one at most 512: so the output is
made in tiles of 128 x 512, each summed over K in one PSUM bank. A block of rows of the left operand stays in SBUF while N is walked.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def matmul(lhsT, rhs):
    """lhsT [K, M], rhs [K, N] -> [M, N] in the dtype of lhsT. K and M in multiples of 128, N of 512."""
    K, M = lhsT.shape
    K_rhs, N = rhs.shape
    TILE_K, TILE_M, TILE_N = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    assert K_rhs == K, f"contraction of {K} and {K_rhs}"
    for size, tile in ((K, TILE_K), (M, TILE_M), (N, TILE_N)):
        assert size % tile == 0, f"{size} is not a multiple of {tile}: whole tiles only"
    result = nl.ndarray((M, N), dtype=lhsT.dtype, buffer=nl.shared_hbm)
    num_k = K // TILE_K

    for n in nl.affine_range(N // TILE_N):
        columns = nl.ds(n * TILE_N, TILE_N)
        moving = nl.ndarray((TILE_K, num_k, TILE_N), dtype=rhs.dtype, buffer=nl.sbuf)
        for k in nl.affine_range(num_k):
            nisa.dma_copy(dst=moving[:, k, :], src=rhs[nl.ds(k * TILE_K, TILE_K), columns])
        for m in nl.affine_range(M // TILE_M):
            rows = nl.ds(m * TILE_M, TILE_M)
            stationary = nl.ndarray((TILE_K, num_k, TILE_M), dtype=lhsT.dtype, buffer=nl.sbuf)
            for k in nl.affine_range(num_k):
                nisa.dma_copy(dst=stationary[:, k, :], src=lhsT[nl.ds(k * TILE_K, TILE_K), rows])
            total = nl.ndarray((TILE_M, TILE_N), dtype=nl.float32, buffer=nl.psum)
            for k in nl.affine_range(num_k):
                nisa.nc_matmul(dst=total, stationary=stationary[:, k, :], moving=moving[:, k, :])
            out = nl.ndarray((TILE_M, TILE_N), dtype=result.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=out, src=total)
            nisa.dma_copy(dst=result[rows, columns], src=out)
    return result


def inputs(seed=0, K=256, M=256, N=1024, dtype=nl.bfloat16):
    """Arguments for `matmul`."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in (("lhsT", (K, M)), ("rhs", (K, N)))}


def reference(lhsT, rhs):
    """The same in NumPy."""
    return (lhsT.astype(np.float32).T @ rhs.astype(np.float32)).astype(lhsT.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (matmul(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2)
    print(f"matmul {want.shape}: largest difference {np.abs(got - want).max():.3g}")
