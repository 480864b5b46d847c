"""Column sums on the two cores of a logical core (LNC 2): each sums half of the rows, they swap halves of the result, both store.

Core 0 finishes the left half of the columns, core 1 the right half: each sends the other the part that it does not finish. Launch with
`column_sums[2](x)`.
"""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np


@nki.jit
def column_sums(x):
    """x [R, C] -> [1, C] in float32. R in multiples of 256, C even and at most 1024."""
    R, C = x.shape
    P, half = nl.tile_size.pmax, C // 2
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    assert cores == 2, "launch on two cores: column_sums[2](x)"
    result = nl.ndarray((1, C), dtype=nl.float32, buffer=nl.shared_hbm)

    ones = nl.ndarray((P, 1), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    left = nl.ndarray((1, half), dtype=nl.float32, buffer=nl.psum)
    right = nl.ndarray((1, half), dtype=nl.float32, buffer=nl.psum)
    rows_each = R // cores
    for start in nl.static_range(me * rows_each, (me + 1) * rows_each, P):
        tile = nl.ndarray((P, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[start : start + P, :])
        nisa.nc_matmul(dst=left, stationary=ones, moving=tile[:, :half])
        nisa.nc_matmul(dst=right, stationary=ones, moving=tile[:, half:])

    mine = nl.ndarray((1, half), dtype=nl.float32, buffer=nl.sbuf)
    for_other = nl.ndarray((1, half), dtype=nl.float32, buffer=nl.sbuf)
    from_other = nl.ndarray((1, half), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=mine, src=left if me == 0 else right)
    nisa.tensor_copy(dst=for_other, src=right if me == 0 else left)
    nisa.sendrecv(src=for_other, dst=from_other, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0)
    nisa.tensor_tensor(dst=mine, data1=mine, data2=from_other, op=nl.add)
    nisa.dma_copy(dst=result[:, me * half : (me + 1) * half], src=mine)
    return result


def inputs(seed=0, R=1024, C=768, dtype=np.float32):
    """Arguments for `column_sums`."""
    return {"x": np.random.default_rng(seed).standard_normal((R, C)).astype(dtype)}


def reference(x):
    """The same in NumPy."""
    return x.astype(np.float32).sum(axis=0, keepdims=True)


if __name__ == "__main__":
    given = inputs()
    got, want = column_sums[2](**given), reference(**given)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    print(f"column_sums on two cores {want.shape}: largest difference {np.abs(got - want).max():.3g}")
