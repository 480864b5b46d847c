"""Kernels of the older interface, for tests."""

import mowich.nki.beta1 as nki
import mowich.nki.beta1.isa as nisa
import mowich.nki.beta1.language as nl


@nki.jit
def product(x):
    """x transposed @ x, summed in PSUM over two halves of the rows: a matmul waits for the place that it adds to."""
    k, n = x.shape
    out = nl.ndarray((n, n), dtype=nl.float32, buffer=nl.shared_hbm)
    total = nl.zeros((n, n), dtype=nl.float32, buffer=nl.psum)
    for half in nl.affine_range(2):
        tile = nl.load(x[half * (k // 2) : (half + 1) * (k // 2), :])
        total += nisa.nc_matmul(tile, tile)
    nl.store(out, nl.copy(total))
    return out


@nki.jit
def shifted(x):
    """x * 2 + its row's maximum."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nl.store(out, tile * 2.0 + nl.max(tile, axis=1, keepdims=True))
    return out
