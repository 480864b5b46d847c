"""Kernels in the forms that AWS's samples use, small and our own: tiles indexed by grids and by masks (older
interface), tiles as slices with destinations (newer interface). The corpus runs each on trn1, trn2 and trn3.
`INPUTS[name]()` gives the arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mowich.nki as nki
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
import mowich.nki.isa as nisa
import mowich.nki.language as nl

# older interface
# ---------------------------------------------------------------------------------------------------------


@old.jit
def added_on_a_grid(a: Any, b: Any) -> Any:
    """a + b [256, 1024]: each program of a grid of 2 x 2 takes a tile of [128, 512]."""
    out = onl.ndarray(a.shape, dtype=a.dtype, buffer=onl.shared_hbm)
    rows = onl.program_id(0) * 128 + onl.arange(128)[:, None]
    columns = onl.program_id(1) * 512 + onl.arange(512)[None, :]
    onl.store(out[rows, columns], value=onl.load(a[rows, columns]) + onl.load(b[rows, columns]))
    return out


@old.jit
def transposed_in_rows(x: Any) -> Any:
    """x [128, 12 x 20] -> [128, 20 x 12]: the two free dimensions change places element by element."""
    out = onl.ndarray(x.shape, dtype=x.dtype, buffer=onl.shared_hbm)
    p, f1, f2 = onl.mgrid[0:128, 0:12, 0:20]
    t = onl.load(x)
    turned = onl.ndarray(x.shape, dtype=x.dtype, buffer=onl.sbuf)
    turned[p, f2 * 12 + f1] = onl.copy(t[p, f1 * 20 + f2])
    onl.store(out, value=turned)
    return out


@old.jit
def average_pool(x: Any) -> Any:
    """x [64, 24, 24] -> means of windows of 2 x 2, [64, 12, 12]."""
    out = onl.ndarray((64, 12, 12), dtype=x.dtype, buffer=onl.shared_hbm)
    t = onl.load(x)
    p, i, j, di, dj = onl.mgrid[0:64, 0:12, 0:12, 0:2, 0:2]
    onl.store(out, value=onl.sum(t[p, 2 * i + di, 2 * j + dj], axis=[3, 4]) * 0.25)
    return out


@old.jit
def matmul_in_tiles(lhs_t: Any, rhs: Any) -> Any:
    """lhs_t.T @ rhs, [512, 256] and [512, 1024]: tiles loaded for each product, sums in PSUM."""
    k, m = lhs_t.shape
    n = rhs.shape[1]
    out = onl.ndarray((m, n), dtype=lhs_t.dtype, buffer=onl.shared_hbm)
    for i in onl.affine_range(m // 128):
        for j in onl.affine_range(n // 512):
            acc = onl.zeros((128, 512), onl.float32, buffer=onl.psum)
            for c in onl.affine_range(k // 128):
                a = onl.load(lhs_t[c * 128 : (c + 1) * 128, i * 128 : (i + 1) * 128])
                b = onl.load(rhs[c * 128 : (c + 1) * 128, j * 512 : (j + 1) * 512])
                acc += onl.matmul(a, b, transpose_x=True)
            onl.store(out[i * 128 : (i + 1) * 128, j * 512 : (j + 1) * 512], value=onl.copy(acc, dtype=lhs_t.dtype))
    return out


@old.jit
def masked_norm(x: Any, weight: Any) -> Any:
    """RMS norm of the rows of x [300, 512], the last tile masked; weight [1, 512]."""
    out = onl.ndarray(x.shape, dtype=x.dtype, buffer=onl.shared_hbm)
    ix, iy = onl.arange(128)[:, None], onl.arange(x.shape[1])[None, :]
    w = onl.load(weight[onl.arange(1)[:, None], iy])
    for t in onl.affine_range(-(-x.shape[0] // 128)):
        row = t * 128 + ix
        a = onl.load(x[row, iy], mask=row < x.shape[0])
        mean = onl.sum(onl.square(a), axis=[1]) / x.shape[1]
        a = onl.multiply(a * onl.rsqrt(mean), w.broadcast_to((128, x.shape[1])))
        onl.store(out[row, iy], value=a, mask=row < x.shape[0])
    return out


@old.jit
def causal_scores(q_t: Any, k_t: Any) -> Any:
    """Softmax of causal scores of one head: q_t, k_t [64, 128] -> [128, 128]."""
    out = onl.ndarray((128, 128), dtype=q_t.dtype, buffer=onl.shared_hbm)
    scores = oisa.nc_matmul(onl.load(q_t), onl.load(k_t))
    i, j = onl.mgrid[0:128, 0:128]
    seen = oisa.affine_select(pred=i >= j, on_true_tile=scores[i, j], on_false_value=-9984.0)
    top = oisa.tensor_reduce(np.max, seen, axis=[1], negate=True)
    power = oisa.activation(op=onl.exp, data=seen, bias=top)
    onl.store(out, value=power * onl.reciprocal(onl.sum(power, axis=[1])))
    return out


# newer interface
# ---------------------------------------------------------------------------------------------------------


@nki.jit
def turned_by_the_tensor_engine(x: Any) -> Any:
    """x [256, 384] -> its transpose, in tiles of 128 x 128 through PSUM."""
    out = nl.ndarray((x.shape[1], x.shape[0]), dtype=x.dtype, buffer=nl.shared_hbm)
    for r in nl.affine_range(x.shape[0] // 128):
        t = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=x[128 * r : 128 * (r + 1), :])
        for c in nl.affine_range(x.shape[1] // 128):
            p = nl.ndarray((128, 128), dtype=x.dtype, buffer=nl.psum)
            nisa.nc_transpose(dst=p, data=t[:, 128 * c : 128 * (c + 1)])
            s = nl.ndarray((128, 128), dtype=x.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=s, src=p)
            nisa.dma_copy(dst=out[128 * c : 128 * (c + 1), 128 * r : 128 * (r + 1)], src=s)
    return out


@nki.jit
def decayed_sums(a: Any, b: Any) -> Any:
    """s[t] = a[t] s[t-1] + b[t] along the rows of [256, 512]."""
    out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    for r in nl.affine_range(a.shape[0] // 128):
        rows = slice(128 * r, 128 * (r + 1))
        x, y, s = (nl.ndarray((128, a.shape[1]), dtype=a.dtype, buffer=nl.sbuf) for _ in range(3))
        nisa.dma_copy(dst=x, src=a[rows, :])
        nisa.dma_copy(dst=y, src=b[rows, :])
        nisa.tensor_tensor_scan(dst=s, data0=x, data1=y, initial=0.0, op0=nl.multiply, op1=nl.add)
        nisa.dma_copy(dst=out[rows, :], src=s)
    return out


def whole(seed: int, *shape: int) -> np.ndarray:
    """Small whole numbers as float32: sums of their products are exact in any order, so that outputs have the same bits
    everywhere."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def broken(seed: int, *shape: int) -> np.ndarray:
    """Random float32 between -1 and 1."""
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)


INPUTS: dict[str, Callable[[], tuple[np.ndarray, ...]]] = {
    "added_on_a_grid": lambda: (whole(0, 256, 1024), whole(1, 256, 1024)),
    "transposed_in_rows": lambda: (whole(0, 128, 240),),
    "average_pool": lambda: (whole(0, 64, 24, 24),),
    "matmul_in_tiles": lambda: (whole(0, 512, 256), whole(1, 512, 1024)),
    "masked_norm": lambda: (broken(0, 300, 512), broken(1, 1, 512)),
    "causal_scores": lambda: (broken(0, 64, 128), broken(1, 64, 128)),
    "turned_by_the_tensor_engine": lambda: (whole(0, 256, 384),),
    "decayed_sums": lambda: (broken(0, 256, 512), broken(1, 256, 512)),
}
