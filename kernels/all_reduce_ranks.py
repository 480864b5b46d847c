"""A row-parallel linear layer on several ranks: each rank multiplies its slice of the contraction, an all-reduce adds the parts.

Collectives work on HBM. On a simulated machine the ranks run in one process: `mowich.nki.simulate_ranks(kernel, [arguments of each])`.
"""

import sys

import nki
import nki.collectives as ncc
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def row_parallel_linear(xT, w, num_ranks):
    """xT [K, M], w [K, N]: this rank's slices (K <= 128, M <= 128, N <= 512) -> sum over ranks of xT.T @ w, in float32."""
    K, M = xT.shape
    N = w.shape[1]
    result = nl.ndarray((M, N), dtype=nl.float32, buffer=nl.shared_hbm)
    part = nl.ndarray((M, N), dtype=nl.float32, buffer=nl.private_hbm)

    stationary = nl.ndarray((K, M), dtype=xT.dtype, buffer=nl.sbuf)
    moving = nl.ndarray((K, N), dtype=w.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=stationary, src=xT)
    nisa.dma_copy(dst=moving, src=w)
    product = nl.ndarray((M, N), dtype=nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst=product, stationary=stationary, moving=moving)
    out = nl.ndarray((M, N), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=product)
    nisa.dma_copy(dst=part, src=out)
    ncc.all_reduce(srcs=[part], dsts=[result], replica_group=ncc.ReplicaGroup([list(range(num_ranks))]), op=nl.add)
    return result


def inputs(seed=0, ranks=4, K=64, M=96, N=256, dtype=np.float32):
    """Arguments of each rank."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(ranks):
        xT, w = (rng.standard_normal((K, n)).astype(dtype) for n in (M, N))
        made.append({"xT": xT, "w": w, "num_ranks": ranks})
    return made


def reference(each):
    """What every rank gets, in NumPy."""
    return sum(a["xT"].astype(np.float32).T @ a["w"].astype(np.float32) for a in each)


if __name__ == "__main__":
    from mowich.nki import simulate_ranks

    given = inputs(ranks=int(sys.argv[1]) if len(sys.argv) > 1 else 4)
    want = reference(given)
    for got in simulate_ranks(row_parallel_linear, given):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    print(f"row_parallel_linear on {len(given)} ranks {want.shape}: every rank has the sum")
