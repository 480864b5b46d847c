"""The loss of each token: the logarithm of the sum of its powers, less the logit of its label."""

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

FULL = "T=4096 V=16384"


@nki.jit
def cross_entropy(logits, labels):
    """logits [T, V] float32, labels [T, 1] int32 -> [T, 1] float32."""
    T, V = logits.shape
    P = nl.tile_size.pmax
    result = nl.ndarray((T, 1), dtype=logits.dtype, buffer=nl.shared_hbm)
    place = nl.ndarray((P, V), dtype=nl.float32, buffer=nl.sbuf)
    nisa.iota(dst=place, pattern=[[1, V]])
    for start in nl.affine_range(0, T, P):
        rows = slice(start, min(T, start + P))
        size = rows.stop - start
        tile, label, chosen = loaded(logits[rows, :]), numbers(size, 1), numbers(size, V)
        minus_top, total, own = numbers(size, 1), numbers(size, 1), numbers(size, 1)
        nisa.tensor_copy(dst=label, src=loaded(labels[rows, :]))
        nisa.tensor_scalar(dst=chosen, data=place[:size, :], op0=nl.equal, operand0=label)
        nisa.tensor_tensor(dst=chosen, data1=chosen, data2=tile, op=nl.multiply)
        nisa.tensor_reduce(dst=own, op=nl.add, data=chosen, axis=1)
        nisa.tensor_reduce(dst=minus_top, op=nl.maximum, data=tile, axis=1, negate=True)
        nisa.activation_reduce(dst=tile, op=nl.exp, data=tile, bias=minus_top, reduce_op=nl.add, reduce_res=total)
        nisa.activation(dst=total, op=nl.log, data=total)
        nisa.tensor_tensor(dst=total, data1=total, data2=minus_top, op=nl.subtract)
        nisa.tensor_tensor(dst=total, data1=total, data2=own, op=nl.subtract)
        nisa.dma_copy(dst=result[rows, :], src=total)
    return result


def loaded(view):
    """A view of HBM in SBUF."""
    tile = nl.ndarray(view.shape, dtype=view.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=view)
    return tile


def numbers(rows, columns):
    """A tile of float32."""
    return nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, T=200, V=1000):
    """Arguments for `cross_entropy`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, V, (T, 1)).astype(np.int32)
    return {"logits": rng.standard_normal((T, V), dtype=np.float32), "labels": labels}


def reference(logits, labels):
    """The same in NumPy."""
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1, keepdims=True)) + top
    return total - np.take_along_axis(logits, labels, axis=1)
