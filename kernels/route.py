"""The largest elements of rows: which experts a token goes to, and which token comes next.

The Vector Engine finds the eight largest elements of each partition in one pass, and their places in a second one. A router's
probabilities are the softmax over the k largest logits: an element below the k-th largest is masked, so no place is needed for them.
On two cores each takes every other tile of 128 rows.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

EIGHT = 8  # what one instruction finds


@nki.jit
def largest(x):
    """x [R, C], C from 8 to 16384 -> values [R, 8] in the dtype of x, the largest first, and their places [R, 8], uint32."""
    R = x.shape[0]
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    values = nl.ndarray((R, EIGHT), dtype=x.dtype, buffer=nl.shared_hbm)
    places = nl.ndarray((R, EIGHT), dtype=nl.uint32, buffer=nl.shared_hbm)
    for start in nl.affine_range(me * nl.tile_size.pmax, R, cores * nl.tile_size.pmax):
        rows = slice(start, min(R, start + nl.tile_size.pmax))
        _, top, place = found(x[rows, :])
        nisa.dma_copy(dst=values[rows, :], src=top)
        nisa.dma_copy(dst=places[rows, :], src=place)
    return values, places


@nki.jit
def route(logits, k):
    """logits [T, E] float32, k to 8 -> probabilities [T, E] (of the k largest logits, 0 elsewhere) and experts [T, k], uint32."""
    T, E = logits.shape
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    shares = nl.ndarray((T, E), dtype=nl.float32, buffer=nl.shared_hbm)
    experts = nl.ndarray((T, k), dtype=nl.uint32, buffer=nl.shared_hbm)
    for start in nl.affine_range(me * nl.tile_size.pmax, T, cores * nl.tile_size.pmax):
        rows = slice(start, min(T, start + nl.tile_size.pmax))
        tile, top, place = found(logits[rows, :])
        size = tile.shape[0]
        minus_top, total = numbers(size, 1), numbers(size, 1)
        nisa.tensor_scalar(dst=minus_top, data=top[:, 0:1], op0=nl.multiply, operand0=-1.0)
        power, chosen = numbers(size, E), numbers(size, E)
        nisa.activation(dst=power, op=nl.exp, data=tile, bias=minus_top)
        nisa.tensor_scalar(dst=chosen, data=tile, op0=nl.greater_equal, operand0=top[:, k - 1 : k])
        nisa.tensor_tensor(dst=power, data1=power, data2=chosen, op=nl.multiply)
        nisa.tensor_reduce(dst=total, op=nl.add, data=power, axis=1)
        nisa.reciprocal(dst=total, data=total)
        nisa.tensor_scalar(dst=power, data=power, op0=nl.multiply, operand0=total)
        nisa.dma_copy(dst=shares[rows, :], src=power)
        nisa.dma_copy(dst=experts[rows, :], src=place[:, 0:k])
    return shares, experts


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def found(rows):
    """Rows of HBM in SBUF, their eight largest elements, and where these are."""
    size, C = rows.shape
    tile = nl.ndarray((size, C), dtype=rows.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=rows)
    top = nl.ndarray((size, EIGHT), dtype=rows.dtype, buffer=nl.sbuf)
    nisa.max8(dst=top, src=tile)
    place = nl.ndarray((size, EIGHT), dtype=nl.uint32, buffer=nl.sbuf)
    nisa.nc_find_index8(dst=place, data=tile, vals=top)
    return tile, top, place


def inputs(seed=0, T=20, E=128, k=8):
    """Arguments for `route`; without k, for `largest`."""
    given = {"logits" if k else "x": np.random.default_rng(seed).standard_normal((T, E)).astype(np.float32)}
    return {**given, "k": k} if k else given


def reference(logits=None, k=EIGHT, x=None):
    """The same in NumPy."""
    a = x if logits is None else logits
    place = np.argsort(-a, axis=1, kind="stable")[:, :k]
    top = np.take_along_axis(a, place, axis=1)
    if logits is None:
        return top, place.astype(np.uint32)
    power = np.exp(top - top[:, :1])
    shares = np.zeros_like(a)
    np.put_along_axis(shares, place, power / power.sum(axis=1, keepdims=True), axis=1)
    return shares, place.astype(np.uint32)


if __name__ == "__main__":
    given = inputs()
    got, want = route(**given), reference(**given)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    print(f"route {want[0].shape}: largest difference {np.abs(got[0] - want[0]).max():.3g}")
