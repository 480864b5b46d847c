"""x + y, element by element: what a residual connection costs. The memory-bound kernel against which the others are read.

The elements of both arrays are dealt over the 128 partitions in long runs, whatever their rows, so that a DMA descriptor is never short.
On two cores each takes every other tile.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

RUN = 4096  # elements of a partition in one tile


@nki.jit
def add(x, y):
    """x, y [R, C] of one dtype -> x + y. Any R and C; R x C in multiples of 128, or below 128 x 4096."""
    R, C = x.shape
    P = nl.tile_size.pmax
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((R, C), dtype=x.dtype, buffer=nl.shared_hbm)
    rows = P if (R * C) % P == 0 else max(p for p in range(1, P) if (R * C) % p == 0)
    run = R * C // rows
    flat = [t.reshape((rows, run)) for t in (x, y, result)]
    each = min(RUN, -(-run // cores))
    for start in nl.affine_range(me * each, run, cores * each):
        part = slice(start, min(run, start + each))
        tiles = [nl.ndarray((rows, part.stop - start), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2)]
        for tile, source in zip(tiles, flat, strict=False):
            nisa.dma_copy(dst=tile, src=source[:, part])
        nisa.tensor_tensor(dst=tiles[0], data1=tiles[0], data2=tiles[1], op=nl.add)
        nisa.dma_copy(dst=flat[2][:, part], src=tiles[0])
    return result


def inputs(seed=0, R=300, C=1024, dtype=np.float32):
    """Arguments for `add`."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((R, C)).astype(dtype) for name in "xy"}


def reference(x, y):
    """The same in NumPy."""
    return (x.astype(np.float32) + y.astype(np.float32)).astype(x.dtype)


if __name__ == "__main__":
    given = inputs()
    got, want = add(**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    print(f"add {want.shape}: largest difference {np.abs(got - want).max():.3g}")
