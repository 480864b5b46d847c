"""One AdamW step: bf16 gradient, float32 master weight and moments, updated in new arrays, and the bf16 weight for the next forward pass.

28 bytes per parameter go over the DMA engines and a dozen operations per parameter over three engines: the Scalar Engine scales, squares
and takes the root, GpSimd decays the weight, the Vector Engine does the rest. On two cores each takes every other tile.

    m' = b1 m + (1 - b1) g        v' = b2 v + (1 - b2) g^2
    w' = (1 - lr decay) w - lr / (1 - b1^t) m' / (sqrt(v' / (1 - b2^t)) + eps)
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

RUN = 1024  # elements of a partition in one tile


@nki.jit
def adamw(g, w, m, v, step=1, lr=1e-3, b1=0.9, b2=0.95, eps=1e-8, decay=0.1):
    """g [N] bfloat16; w, m, v [N] float32 -> w', m', v' float32 and w' bfloat16. N in multiples of 128."""
    (N,) = w.shape
    P = nl.tile_size.pmax
    assert N % P == 0, f"{N} parameters: pad to a multiple of {P}"
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    results = [
        nl.ndarray((N,), dtype=t, buffer=nl.shared_hbm) for t in (nl.float32, nl.float32, nl.float32, nl.bfloat16)
    ]
    g, w, m, v, *outs = (x.reshape((P, N // P)) for x in (g, w, m, v, *results))
    rate, unbias = lr / (1 - b1**step), 1 / (1 - b2**step)
    each = min(RUN, -(-N // P // cores))
    for start in nl.affine_range(me * each, N // P, cores * each):
        part = slice(start, min(N // P, start + each))
        grad, weight, first, second = (loaded(x[:, part]) for x in (g, w, m, v))
        some = nl.ndarray(weight.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=some, op=nl.copy, data=grad, scale=1 - b1)
        nisa.scalar_tensor_tensor(dst=first, data=first, op0=nl.multiply, operand0=b1, op1=nl.add, operand1=some)
        square = nl.ndarray(weight.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=square, op=nl.square, data=grad, scale=math.sqrt(1 - b2))
        nisa.scalar_tensor_tensor(dst=second, data=second, op0=nl.multiply, operand0=b2, op1=nl.add, operand1=square)
        root = nl.ndarray(weight.shape, dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(dst=root, op=nl.sqrt, data=second, scale=unbias)
        nisa.tensor_scalar(dst=root, data=root, op0=nl.add, operand0=eps, engine=nisa.gpsimd_engine)
        nisa.tensor_tensor(dst=root, data1=first, data2=root, op=nl.divide)
        nisa.tensor_scalar(dst=weight, data=weight, op0=nl.multiply, operand0=1 - lr * decay, engine=nisa.gpsimd_engine)
        nisa.scalar_tensor_tensor(dst=weight, data=root, op0=nl.multiply, operand0=-rate, op1=nl.add, operand1=weight)
        low = nl.ndarray(weight.shape, dtype=nl.bfloat16, buffer=nl.sbuf)
        nisa.activation(dst=low, op=nl.copy, data=weight)
        for out, tile in zip(outs, (weight, first, second, low), strict=True):
            nisa.dma_copy(dst=out[:, part], src=tile)
    return tuple(results)


def loaded(source):
    """A tile of SBUF with the elements of a view of HBM."""
    tile = nl.ndarray(source.shape, dtype=source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=source)
    return tile


def inputs(seed=0, N=128 * 1500):
    """Arguments for `adamw`."""
    rng = np.random.default_rng(seed)
    w, m, v = (rng.standard_normal(N).astype(np.float32) for _ in range(3))
    return {"g": rng.standard_normal(N).astype(nl.bfloat16), "w": w, "m": 0.1 * m, "v": np.square(v), "step": 10}


def reference(g, w, m, v, step=1, lr=1e-3, b1=0.9, b2=0.95, eps=1e-8, decay=0.1):
    """The same in NumPy."""
    g = g.astype(np.float32)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    w = (1 - lr * decay) * w - lr / (1 - b1**step) * m / (np.sqrt(v / (1 - b2**step)) + eps)
    return w, m, v, w.astype(nl.bfloat16)


if __name__ == "__main__":
    given = inputs()
    got, want = adamw(**given), reference(**given)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), rtol=1e-2, atol=1e-5)
    print(f"adamw {want[0].shape}: largest difference of the weight {np.abs(got[0] - want[0]).max():.3g}")
