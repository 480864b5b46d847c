"""Quantisation of bf16: to fp8 with one scale per row, and to microscaled fp8 (MX) with one scale per 32 elements on Trainium 3.

`quantise_fp8` needs the row's largest magnitude before it can divide: one pass to find it, one to scale and cast. `quantise_mx` is one
instruction of the Vector Engine, which finds, scales and packs. Its operand has the contraction on partitions, four consecutive
elements of it side by side: [K / 4, M, 4], the layout that `matmul_mx.py` multiplies.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np
from ml_dtypes import float8_e4m3fn

FP8_MAX = 240.0  # of float8_e4m3
COLUMNS = 8192  # of one mx tile, in elements of bf16: long, as its scales take four small stores


@nki.jit
def quantise_fp8(x):
    """x [R, C] bfloat16 -> ([R, C] float8_e4m3, [R, 1] float32): x = values * scale, the largest magnitude of each row at 240."""
    R, C = x.shape
    P = nl.tile_size.pmax
    values = nl.ndarray((R, C), dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
    scales = nl.ndarray((R, 1), dtype=nl.float32, buffer=nl.shared_hbm)
    for start in my_range(R, P):
        size = min(P, R - start)
        rows = slice(start, start + size)
        tile = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[rows, :])
        ends = [nl.ndarray((size, 1), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2)]  # elements: exact
        nisa.tensor_reduce(dst=ends[0], op=nl.maximum, data=tile, axis=1)
        nisa.tensor_reduce(dst=ends[1], op=nl.minimum, data=tile, axis=1, negate=True)
        scale = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=scale, data1=ends[0], data2=ends[1], op=nl.maximum)
        nisa.tensor_scalar(
            dst=scale, data=scale, op0=nl.maximum, operand0=1e-10, op1=nl.multiply, operand1=1.0 / FP8_MAX
        )
        inverse = nl.ndarray((size, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.reciprocal(dst=inverse, data=scale)
        out = nl.ndarray((size, C), dtype=nl.float8_e4m3, buffer=nl.sbuf)
        nisa.activation(dst=out, op=nl.copy, data=tile, scale=inverse)
        nisa.dma_copy(dst=values[rows, :], src=out)
        nisa.dma_copy(dst=scales[rows, :], src=scale)
    return values, scales


@nki.jit
def quantise_mx(x):
    """x [K/4, M, 4] bfloat16 -> ([K/4, M] float8_e4m3fn_x4, [K/32, M] uint8 scales). K in multiples of 128."""
    W, M, _ = x.shape
    P = nl.tile_size.pmax
    words = nl.ndarray((W, M), dtype=nl.float8_e4m3fn_x4, buffer=nl.shared_hbm)
    scales = nl.ndarray((W // 8, M), dtype=nl.uint8, buffer=nl.shared_hbm)
    x = x.reshape((W, 4 * M))
    for start in my_range(W, P):
        size = min(P, W - start)
        for c in nl.affine_range(0, M, COLUMNS // 4):
            columns = min(COLUMNS // 4, M - c)
            tile = nl.ndarray((size, 4 * columns), dtype=x.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=x[start : start + size, 4 * c : 4 * (c + columns)])
            out = nl.ndarray((size, columns), dtype=words.dtype, buffer=nl.sbuf)
            scale = nl.ndarray((size, columns), dtype=nl.uint8, buffer=nl.sbuf)
            nisa.quantize_mx(dst=out, src=tile, dst_scale=scale)
            nisa.dma_copy(dst=words[start : start + size, c : c + columns], src=out)
            for q in range(0, size, 32):
                to = (start + q) // 8
                nisa.dma_copy(dst=scales[to : to + 4, c : c + columns], src=scale[q : q + 4, :])
    return words, scales


def my_range(rows, step):
    """Starts of this core's tiles of rows."""
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    return nl.affine_range(me * step, rows, cores * step)


def inputs(seed=0, R=200, C=768, mx=False):
    """Arguments for `quantise_fp8`, or with mx for `quantise_mx` of K = R, M = C."""
    x = 3 * np.random.default_rng(seed).standard_normal((R, C))
    return {"x": (x.reshape(R // 4, 4, C).transpose(0, 2, 1) if mx else x).astype(nl.bfloat16)}


def reference(x):
    """The same in NumPy."""
    a = x.astype(np.float32)
    if a.ndim == 2:
        scale = np.maximum(np.abs(a).max(axis=1, keepdims=True), np.float32(1e-10)) * np.float32(1.0 / FP8_MAX)
        return (a * (np.float32(1) / scale)).astype(nl.float8_e4m3), scale
    W, M, _ = a.shape
    blocks = a.reshape(W // 8, 8, M, 4)
    exponent = np.floor(np.log2(np.abs(blocks).max(axis=(1, 3)))) - 8
    scaled = np.clip(blocks / np.exp2(exponent)[:, None, :, None], -448, 448)
    values = np.ascontiguousarray(scaled).astype(float8_e4m3fn)
    return values.view(np.uint32).reshape(W, M).view(nl.float8_e4m3fn_x4.dtype), (exponent + 127).astype(np.uint8)


if __name__ == "__main__":
    given = inputs()
    (got, got_scale), (want, want_scale) = quantise_fp8(**given), reference(**given)
    np.testing.assert_allclose(got_scale, want_scale, rtol=1e-6)
    same = np.mean(got.view(np.uint8) == want.view(np.uint8))
    assert same > 0.999, same
    print(f"quantise_fp8 {want.shape}: {same:.2%} of the elements are the reference's to the bit")
