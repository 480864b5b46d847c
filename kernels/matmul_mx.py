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
    result = nl.ndarray((lhsT.shape[1], rhs.shape[1]), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    multiply(result, lhsT, lhsT_scale, rhs, rhs_scale)
    return result


@nki.jit
def grouped_matmul_mx(lhsT, lhsT_scale, rhs, rhs_scale):
    """The same for each of E experts: lhsT [E, K/4, M], scales [E, K/32, M] and so on -> [E, M, N] bfloat16."""
    E, _, M = lhsT.shape
    result = nl.ndarray((E, M, rhs.shape[2]), dtype=nl.bfloat16, buffer=nl.shared_hbm)
    for e in nl.affine_range(E):
        multiply(result[e], lhsT[e], lhsT_scale[e], rhs[e], rhs_scale[e])
    return result


def multiply(result, lhsT, lhsT_scale, rhs, rhs_scale):
    """result = lhsT.T @ rhs in HBM, this core's share of the columns."""
    W, M = lhsT.shape
    N = rhs.shape[1]
    P, TILE_M, TILE_N = nl.tile_size.pmax, nl.tile_size.gemm_stationary_fmax, nl.tile_size.gemm_moving_fmax
    p = min(P, W)
    assert rhs.shape[0] == W, f"contraction of {4 * W} and {4 * rhs.shape[0]}"
    assert W % p == p % QUADRANT == 0, f"K = {4 * W}: whole tiles only"
    left, right = (in_tiles(x, s, p) for x, s in ((lhsT, lhsT_scale), (rhs, rhs_scale)))

    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    share = -(-N // cores)
    first, last = me * share, min(N, (me + 1) * share)
    block, wide = block_size(M, W // p)
    for m0 in nl.affine_range(0, M, block):
        stationary = kept(chunks(*left, m0, min(block, M - m0)))
        tiles = [slice(m, min(m + TILE_M, M)) for m in range(m0, min(m0 + block, M), TILE_M)]
        for n0 in nl.affine_range(first, last, wide):
            columns = [slice(n, min(n + TILE_N, last)) for n in range(n0, min(n0 + wide, last), TILE_N)]
            sums = [
                [nl.ndarray((width(m), width(n)), dtype=nl.float32, buffer=nl.psum) for n in columns] for m in tiles
            ]
            for k0, k1, moving, moving_scale in chunks(*right, n0, min(wide, last - n0)):
                for k in range(k0, k1):
                    at, held, held_scale = stationary(k)
                    for m, row in zip(tiles, sums, strict=True):
                        part = slice(m.start - m0, m.stop - m0)
                        for n, total in zip(columns, row, strict=True):
                            stream = slice(n.start - n0, n.stop - n0)
                            nisa.nc_matmul_mx(dst=total, stationary=held[:, at, part], stationary_scale=held_scale[:, at, part],
                                              moving=moving[:, k - k0, stream], moving_scale=moving_scale[:, k - k0, stream])  # fmt: skip
            for m, row in zip(tiles, sums, strict=True):
                out = nl.ndarray((width(m), min(wide, last - n0)), dtype=result.dtype, buffer=nl.sbuf)
                for n, total in zip(columns, row, strict=True):
                    evacuate(out[:, n.start - n0 : n.stop - n0], total, (m.start // TILE_M + n.start // TILE_N) % 2)
                nisa.dma_copy(dst=result[m, n0 : n0 + out.shape[1]], src=out)


def block_size(M, num_k):
    """(rows of the left operand to keep in SBUF, columns of the right to sum at once): together all PSUM banks, rows in 3/4 of SBUF."""
    TILE_M, TILE_N, tiles = (
        nl.tile_size.gemm_stationary_fmax,
        nl.tile_size.gemm_moving_fmax,
        nl.tile_size.psum_num_banks,
    )
    while tiles > 1 and (
        tiles * TILE_M // 2 >= M or tiles * TILE_M * num_k * 5 > 3 * nl.tile_size.sbuf_fmax_bytes // 4
    ):
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


def kept(loading):
    """A function: tile of K -> (place in its chunk, words, scales), of chunks that are loaded when first asked for and stay."""
    loaded = []

    def find(k):
        while not loaded or loaded[-1][1] <= k:
            loaded.append(next(loading))
        each = loaded[0][1]
        return k % each, *loaded[k // each][2:]

    return find


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


def inputs(seed=0, K=1024, M=150, N=700, E=None):
    """Arguments for `matmul_mx`: random elements and scales; with E, for `grouped_matmul_mx`."""
    rng = np.random.default_rng(seed)
    experts = () if E is None else (E,)
    made = {}
    for name, columns in (("lhsT", M), ("rhs", N)):
        values = rng.standard_normal((*experts, K // 4, columns, 4)).astype(float8_e4m3fn)
        made[name] = values.view(np.uint32)[..., 0].view(nl.float8_e4m3fn_x4.dtype)
        made[f"{name}_scale"] = rng.integers(125, 130, (*experts, K // 32, columns)).astype(np.uint8)
    return made


def reference(lhsT, lhsT_scale, rhs, rhs_scale):
    """The same in NumPy."""
    a, b = (dequantise(x, s) for x, s in ((lhsT, lhsT_scale), (rhs, rhs_scale)))
    return (np.swapaxes(a, -1, -2) @ b).astype(nl.bfloat16)


def dequantise(words, scale):
    """Words [..., K/4, M] and scales [..., K/32, M] -> float32 [..., K, M]."""
    *experts, W, M = words.shape
    values = words.view(np.uint32)[..., None].view(float8_e4m3fn).astype(np.float32)
    factor = np.ldexp(np.float32(1), scale.astype(np.int32) - 127)
    return np.swapaxes(values * np.repeat(factor, 8, axis=-2)[..., None], -1, -2).reshape(*experts, 4 * W, M)


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (matmul_mx(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-1)
    print(f"matmul_mx {want.shape}: largest difference {np.abs(got - want).max():.3g}")
