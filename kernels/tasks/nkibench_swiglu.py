"""A gated feed-forward layer: (silu(x w_gate) * (x w_up)) w_down."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "M=4096 N=3072 K=1024"


@nki.jit
def swiglu(x, w_up, w_down, w_gate):
    """x [M, K], w_up and w_gate [K, N], w_down [N, K] float32 -> [M, K]. K, N in multiples of 128."""
    (M, K), N = x.shape, w_up.shape[1]
    P, BANK = nl.tile_size.pmax, nl.tile_size.psum_fmax
    result = nl.ndarray((M, K), dtype=x.dtype, buffer=nl.shared_hbm)
    for start in nl.affine_range(0, M, P):
        rows = slice(start, min(M, start + P))
        parts, hidden = turned(loaded(x[rows, :])), []
        for n in range(0, N, BANK):
            columns = slice(n, min(N, n + BANK))
            gate, up = product(parts, w_gate, columns), product(parts, w_up, columns)
            nisa.activation(dst=gate, op=nl.silu, data=gate)
            nisa.tensor_tensor(dst=gate, data1=gate, data2=up, op=nl.multiply)
            hidden += turned(gate)
        for k in nl.affine_range(0, K, BANK):
            columns = slice(k, min(K, k + BANK))
            nisa.dma_copy(dst=result[rows, columns], src=product(hidden, w_down, columns))
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def turned(tile):
    """Tiles [up to 128, rows] that are the transposed columns of a tile [rows, columns], 128 at a time."""
    P, (rows, columns) = nl.tile_size.pmax, tile.shape
    out = []
    for start in range(0, columns, P):
        part = tile[:, start : min(columns, start + P)]
        there = nl.ndarray((part.shape[1], rows), dtype=tile.dtype, buffer=nl.psum)
        nisa.nc_transpose(dst=there, data=part, engine=nisa.tensor_engine)
        here = nl.ndarray(there.shape, dtype=tile.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=here, src=there)
        out.append(here)
    return out


def product(parts, w, columns):
    """Sum over i of parts[i].T @ the i-th 128 rows of w [K, N], at these columns: float32 in SBUF."""
    P, rows = nl.tile_size.pmax, parts[0].shape[1]
    total = nl.ndarray((rows, columns.stop - columns.start), dtype=nl.float32, buffer=nl.psum)
    for i, part in enumerate(parts):
        nisa.nc_matmul(dst=total, stationary=part, moving=loaded(w[i * P : i * P + part.shape[0], columns]))
    out = nl.ndarray(total.shape, dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=total)
    return out


def inputs(seed=0, M=256, N=640, K=384):
    """Arguments for `swiglu`."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (M, K), "w_up": (K, N), "w_down": (N, K), "w_gate": (K, N)}
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def reference(x, w_up, w_down, w_gate):
    """The same in NumPy."""
    gate = x @ w_gate
    return (gate / (1 + np.exp(-gate)) * (x @ w_up)) @ w_down
