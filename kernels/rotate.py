"""Rotary positions of queries and keys, with the norm of each head before where a model has one.

A row is a head of a token. Its halves are turned: first' = first cos - second sin, second' = second cos + first sin. Rows lie on
partitions; on two cores each takes every other tile of 128 rows.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def rotate(x, cos, sin, weight=None, eps=1e-6):
    """x [R, d], cos and sin [R, d / 2] -> [R, d] in the dtype of x. weight [R, d]: each row is first divided by its root
    mean square and multiplied by it."""
    R, d = x.shape
    P, half = nl.tile_size.pmax, d // 2
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((R, d), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(me * P, R, cores * P):
        size = min(P, R - start)
        rows = slice(start, start + size)
        tile = loaded(x[rows, :])
        if weight is not None:
            tile = normalised(tile, loaded(weight[rows, :]), eps)
        c, s = loaded(cos[rows, :]), loaded(sin[rows, :])
        out = nl.ndarray((size, d), dtype=x.dtype, buffer=nl.sbuf)
        turn(out[:, 0:half], tile[:, 0:half], c, tile[:, half:d], s, nl.subtract)
        turn(out[:, half:d], tile[:, half:d], c, tile[:, 0:half], s, nl.add)
        nisa.dma_copy(dst=result[rows, :], src=out)
    return result


def loaded(rows):
    """Rows of HBM in SBUF."""
    tile = nl.ndarray(rows.shape, dtype=rows.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=rows)
    return tile


def turn(out, mine, cos, other, sin, op):
    """One half: mine cos -+ other sin."""
    rows, half = out.shape
    straight, turned = numbers(rows, half), numbers(rows, half)
    nisa.tensor_tensor(dst=straight, data1=mine, data2=cos, op=nl.multiply)
    nisa.tensor_tensor(dst=turned, data1=other, data2=sin, op=nl.multiply)
    nisa.tensor_tensor(dst=out, data1=straight, data2=turned, op=op)


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def normalised(tile, weight, eps):
    """Each row over its root mean square, times the weight."""
    size, d = tile.shape
    square, out, factor = numbers(size, d), numbers(size, d), numbers(size, 1)
    # only the sum is used
    nisa.activation_reduce(dst=square, op=nl.square, data=tile, reduce_op=nl.add, reduce_res=factor)
    nisa.tensor_scalar(dst=factor, data=factor, op0=nl.multiply, operand0=1.0 / d, op1=nl.add, operand1=eps)
    nisa.tensor_scalar(dst=factor, data=factor, op0=nl.power, operand0=-0.5)
    nisa.tensor_scalar(dst=out, data=tile, op0=nl.multiply, operand0=factor)
    nisa.tensor_tensor(dst=out, data1=out, data2=weight, op=nl.multiply)
    return out


def inputs(seed=0, R=150, d=64, dtype=np.float32, norm=False):
    """Arguments for `rotate`."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 6, (R, d // 2))
    given = {"x": rng.standard_normal((R, d)).astype(dtype)}
    given |= {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}
    return {**given, "weight": rng.uniform(0.5, 1.5, (R, d)).astype(np.float32)} if norm else given


def reference(x, cos, sin, weight=None, eps=1e-6):
    """The same in NumPy."""
    a = x.astype(np.float32)
    if weight is not None:
        a = a / np.sqrt((a * a).mean(axis=1, keepdims=True) + eps) * weight
    first, second = np.split(a, 2, axis=1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1).astype(x.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = rotate(**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    print(f"rotate {want.shape}: largest difference {np.abs(got - want).max():.3g}")
