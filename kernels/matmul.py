"""Tiled matrix product: [M, K] @ [K, N], with the left operand given transposed, as the Tensor Engine wants it. bf16, fp32, or fp8.

A block of up to 1024 rows of the left operand stays in SBUF, whole K, while the right operand streams past it once: each of its tiles
meets the block's stationary tiles, whose sums grow in the eight PSUM banks; fewer rows leave banks for more columns, so that loads get
wider. A bank is emptied by the Vector or Scalar Engine while the Tensor Engine finishes the others, in turn. fp8 takes two rows of K in
one pass (double row). On two cores each makes half of the columns.

`grouped_matmul` does it for each expert of a mixture.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

CHUNK_B = 8192  # of each partition, in one load: enough for the DMA engines to run at their rate, small enough to be freed soon


@nki.jit
def matmul(lhsT, rhs):
    """lhsT [K, M], rhs [K, N] -> [M, N] in the dtype of lhsT (fp8: bfloat16). Any M and N; K below 128 or in multiples of it (fp8: 256)."""
    result = nl.ndarray((lhsT.shape[1], rhs.shape[1]), dtype=result_dtype(lhsT), buffer=nl.shared_hbm)
    multiply(result, lhsT, rhs)
    return result


@nki.jit
def grouped_matmul(lhsT, rhs):
    """lhsT [E, K, M], rhs [E, K, N] -> [E, M, N]: one product for each of E experts, M rows each."""
    E, _, M = lhsT.shape
    result = nl.ndarray((E, M, rhs.shape[2]), dtype=result_dtype(lhsT), buffer=nl.shared_hbm)
    for e in nl.affine_range(E):
        multiply(result[e], lhsT[e], rhs[e])
    return result


def result_dtype(x):
    """fp8 products are given in bfloat16."""
    return nl.bfloat16 if x.dtype == nl.float8_e4m3 else x.dtype


def multiply(result, lhsT, rhs):
    """result = lhsT.T @ rhs in HBM, this core's share of the columns."""
    K, M = lhsT.shape
    K_rhs, N = rhs.shape
    P, TILE_M, TILE_N = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    double = lhsT.dtype == nl.float8_e4m3
    p = min(P, K)
    assert K_rhs == K, f"contraction of {K} and {K_rhs}"
    mode = nisa.matmul_perf_mode.double_row if double else nisa.matmul_perf_mode.none
    step = 2 if double else 1  # tiles of K in one pass
    assert K % (step * p) == 0, f"K = {K} is not a multiple of {step * p}: whole passes only"
    num_k, size = K // p, 1 if double else 4 if lhsT.dtype == nl.float32 else 2
    lhsT, rhs = (x.reshape((num_k, p, x.shape[1])).permute((1, 0, 2)) for x in (lhsT, rhs))

    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    share = -(-N // cores)
    first, last = me * share, min(N, (me + 1) * share)
    block, wide = block_size(M, num_k * size)
    for m0 in nl.affine_range(0, M, block):
        stationary = kept(chunks(lhsT, m0, min(block, M - m0), size, step))
        tiles = [slice(m, min(m + TILE_M, M)) for m in range(m0, min(m0 + block, M), TILE_M)]
        for n0 in nl.affine_range(first, last, wide):
            columns = [slice(n, min(n + TILE_N, last)) for n in range(n0, min(n0 + wide, last), TILE_N)]
            sums = [
                [nl.ndarray((width(m), width(n)), dtype=nl.float32, buffer=nl.psum) for n in columns] for m in tiles
            ]
            for k0, k1, moving in chunks(rhs, n0, min(wide, last - n0), size, step):
                for k in range(k0, k1, step):
                    at, held = stationary(k)
                    for m, row in zip(tiles, sums, strict=True):
                        part = held[:, at : at + step, m.start - m0 : m.stop - m0]
                        for n, total in zip(columns, row, strict=True):
                            stream = moving[:, k - k0 : k - k0 + step, n.start - n0 : n.stop - n0]
                            nisa.nc_matmul(dst=total, stationary=part if double else part.reshape((p, width(m))),
                                           moving=stream if double else stream.reshape((p, width(n))), perf_mode=mode)  # fmt: skip
            for m, row in zip(tiles, sums, strict=True):
                out = nl.ndarray((width(m), min(wide, last - n0)), dtype=result.dtype, buffer=nl.sbuf)
                for n, total in zip(columns, row, strict=True):
                    evacuate(out[:, n.start - n0 : n.stop - n0], total, (m.start // TILE_M + n.start // TILE_N) % 2)
                nisa.dma_copy(dst=result[m, n0 : n0 + out.shape[1]], src=out)


def block_size(M, row_B):
    """(rows of the left operand to keep in SBUF, columns of the right to sum at once): together all PSUM banks, rows in 3/4 of SBUF."""
    TILE_M, TILE_N, tiles = (
        nl.tile_size.gemm_stationary_fmax,
        nl.tile_size.gemm_moving_fmax,
        nl.tile_size.psum_num_banks,
    )
    while tiles > 1 and (tiles * TILE_M // 2 >= M or tiles * TILE_M * row_B > 3 * nl.tile_size.sbuf_fmax_bytes // 4):
        tiles //= 2
    return tiles * TILE_M, nl.tile_size.psum_num_banks // tiles * TILE_N


def evacuate(out, total, turn):
    """Copy a sum out of PSUM, by the Vector and the Scalar Engine in turn."""
    if turn:
        nisa.tensor_copy(dst=out, src=total, engine=nisa.vector_engine)
    else:
        nisa.activation(dst=out, op=nl.copy, data=total)


def width(part):
    """Elements of a slice."""
    return part.stop - part.start


def chunks(x, start, width, size, step):
    """Load columns start .. start + width of x [p, num_k, N] (HBM) a few tiles of K at a time: yields (first tile, past the last, SBUF tile)."""
    p, num_k, _ = x.shape
    each = max(step, CHUNK_B // (width * size) // step * step)
    for k0 in range(0, num_k, each):
        k1 = min(num_k, k0 + each)
        tile = nl.ndarray((p, k1 - k0, width), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[:, k0:k1, start : start + width])
        yield k0, k1, tile


def kept(loading):
    """A function: tile of K -> (place in its chunk, chunk), of chunks that are loaded when first asked for and stay."""
    loaded = []

    def find(k):
        while not loaded or loaded[-1][1] <= k:
            loaded.append(next(loading))
        each = loaded[0][1]
        return k % each, loaded[k // each][2]

    return find


def inputs(seed=0, K=256, M=200, N=1024, dtype=nl.bfloat16, E=None):
    """Arguments for `matmul`; with E, for `grouped_matmul`."""
    rng = np.random.default_rng(seed)
    experts = () if E is None else (E,)
    return {n: rng.standard_normal((*experts, *s)).astype(dtype) for n, s in (("lhsT", (K, M)), ("rhs", (K, N)))}


def reference(lhsT, rhs):
    """The same in NumPy."""
    total = np.swapaxes(lhsT.astype(np.float32), -1, -2) @ rhs.astype(np.float32)
    return total.astype(nl.bfloat16 if lhsT.dtype == nl.float8_e4m3 else lhsT.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (matmul(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2)
    print(f"matmul {want.shape}: largest difference {np.abs(got - want).max():.3g}")
