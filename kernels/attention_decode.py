"""Attention of one new token of each sequence on its cached keys and values, with grouped heads: bound by reading the cache.

The few queries that share a key-value head would leave most partitions empty, so up to four of them (sequences x key-value heads) lie
in one tile, each in its own 32 partitions: every instruction of the Vector and Scalar Engines works on four caches at once. Keys and
values are read 2048 tokens at a time; a partition takes 16 tokens of values in a row, so that descriptors are long, and the transposed
probabilities are taken in that order. The tokens of a block are brought to one scale as in `attention_prefill.py`. On two cores each
takes half of the caches.
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

BLOCK = 2048  # tokens in one step
QUADRANT = 32


@nki.jit
def attention_decode(q, k, v):
    """q [N, d, R], k [N, d, S], v [N, S, d] -> [N, R, d]: N caches, each read by R queries. d, R <= 128, S in multiples of 128."""
    N, d, R = q.shape
    S = k.shape[2]
    P = nl.tile_size.pmax
    assert S % P == 0, f"{S} tokens: pad the cache to a multiple of {P}"
    assert max(R, d) <= P, f"{R} queries of {d}: at most {P}"
    cores, me = nl.num_programs(axes=0), nl.program_id(axis=0)
    result = nl.ndarray((N, R, d), dtype=q.dtype, buffer=nl.shared_hbm)
    room = next(r for r in (QUADRANT, 2 * QUADRANT, P) if r >= R)  # partitions of one cache
    identity = nl.shared_identity_matrix(P, dtype=v.dtype)
    share = -(-N // cores)
    for n0 in nl.affine_range(me * share, min(N, (me + 1) * share), P // room):
        caches = range(n0, min(n0 + P // room, N, (me + 1) * share))
        out = attend(q, k, v, caches, room, identity)
        for i, n in enumerate(caches):
            nisa.dma_copy(dst=result[n], src=out[i * room : i * room + R, :])
    return result


def attend(q, k, v, caches, room, identity):
    """Attention of the queries of a few caches, `room` partitions each: [caches x room, d] in SBUF."""
    _, d, R = q.shape
    S, P, BANK = k.shape[2], nl.tile_size.pmax, nl.tile_size.psum_fmax
    rows, scale = len(caches) * room, 1.0 / math.sqrt(d)
    queries = nl.ndarray((d, len(caches), room), dtype=q.dtype, buffer=nl.sbuf)
    if room > R:
        nisa.memset(dst=queries, value=0.0)
    nisa.dma_copy(dst=queries[:, :, :R], src=q[caches[0] : caches[-1] + 1].permute((1, 0, 2)))
    output = nl.ndarray((rows, d), dtype=nl.float32, buffer=nl.sbuf)
    total, before = column(rows), None
    for s0 in range(0, S, BLOCK):
        width = min(BLOCK, S - s0)
        runs = width // P  # tokens of values that lie side by side in a partition
        keys, values = [], []
        for n in caches:
            keys.append(nl.ndarray((d, width), dtype=k.dtype, buffer=nl.sbuf))
            nisa.dma_copy(dst=keys[-1], src=k[n, :, s0 : s0 + width])
            values.append(nl.ndarray((P, runs, d), dtype=v.dtype, buffer=nl.sbuf))
            nisa.dma_copy(dst=values[-1], src=v[n, s0 : s0 + width, :].reshape((P, runs, d)))

        halves = []  # of the scores: two PSUM banks each
        for c in range(0, width, 2 * BANK):
            scores = nl.ndarray((rows, min(2 * BANK, width - c)), dtype=nl.float32, buffer=nl.psum)
            for b in range(0, scores.shape[1], BANK):
                part = slice(b, min(b + BANK, scores.shape[1]))
                for i in range(len(caches)):
                    nisa.nc_matmul(dst=scores[i * room : (i + 1) * room, part], stationary=queries[:, i, :],
                                   moving=keys[i][:, c + part.start : c + part.stop])  # fmt: skip
            halves.append(scores)
        tops = nl.ndarray((rows, len(halves)), dtype=nl.float32, buffer=nl.sbuf)
        for i, scores in enumerate(halves):
            nisa.tensor_reduce(dst=tops[:, i : i + 1], op=nl.maximum, data=scores, axis=1)
        top = column(rows)
        nisa.tensor_reduce(dst=top, op=nl.maximum, data=tops, axis=1)
        if before is not None:
            nisa.tensor_tensor(dst=top, data1=top, data2=before, op=nl.maximum)
        bias = column(rows)
        nisa.tensor_scalar(dst=bias, data=top, op0=nl.multiply, operand0=-scale)
        power = nl.ndarray((rows, P, runs), dtype=v.dtype, buffer=nl.sbuf)
        sums = nl.ndarray((rows, len(halves)), dtype=nl.float32, buffer=nl.sbuf)
        for i, scores in enumerate(halves):
            flat = power.reshape((rows, width))[:, 2 * BANK * i : 2 * BANK * i + scores.shape[1]]
            nisa.activation_reduce(dst=flat, op=nl.exp, data=scores, scale=scale, bias=bias, reduce_op=nl.add, reduce_res=sums[:, i : i + 1])

        tokens = nl.ndarray((P, runs, rows), dtype=v.dtype, buffer=nl.sbuf)
        for t0 in range(0, runs, 8):  # one PSUM bank of transposes
            t1 = min(t0 + 8, runs)
            turned = nl.ndarray((P, t1 - t0, rows), dtype=v.dtype, buffer=nl.psum)
            for t in range(t0, t1):
                nisa.nc_transpose(dst=turned[:, t - t0, :], data=power[:, :, t], engine=nisa.tensor_engine)
            nisa.tensor_copy(dst=tokens[:, t0:t1, :], src=turned, engine=nisa.scalar_engine if t0 else nisa.vector_engine)
        product = nl.ndarray((rows, d), dtype=nl.float32, buffer=nl.psum)
        for i in range(len(caches)):
            for t in range(runs):
                nisa.nc_matmul(dst=product[i * room : (i + 1) * room, :], stationary=tokens[:, t, i * room : (i + 1) * room], moving=values[i][:, t, :])

        new = total if before is None else column(rows)
        nisa.tensor_reduce(dst=new, op=nl.add, data=sums, axis=1)
        if before is None:
            nisa.tensor_copy(dst=output, src=product)
        else:
            change = column(rows)
            nisa.activation(dst=change, op=nl.exp, data=before, scale=scale, bias=bias)
            nisa.scalar_tensor_tensor(dst=total, data=total, op0=nl.multiply, operand0=change, op1=nl.add, operand1=new)
            nisa.scalar_tensor_tensor(dst=output, data=output, op0=nl.multiply, operand0=change, op1=nl.add, operand1=product)
        before = top
    inverse = column(rows)
    nisa.reciprocal(dst=inverse, data=total)
    out = nl.ndarray((rows, d), dtype=q.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=out, data=output, op0=nl.multiply, operand0=inverse)
    return out


def column(rows):
    """A number for each partition."""
    return nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)


def inputs(seed=0, N=5, R=8, d=64, S=2304, dtype=nl.bfloat16):
    """Arguments for `attention_decode`."""
    rng = np.random.default_rng(seed)
    shapes = {"q": (N, d, R), "k": (N, d, S), "v": (N, S, d)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def reference(q, k, v):
    """The same in NumPy."""
    q, k, v = (a.astype(np.float32) for a in (q, k, v))
    scores = q.transpose(0, 2, 1) @ k / math.sqrt(q.shape[1])
    power = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return power / power.sum(axis=-1, keepdims=True) @ v


if __name__ == "__main__":
    given = inputs()
    got, want = (np.asarray(a, np.float32) for a in (attention_decode(**given), reference(**given)))
    np.testing.assert_allclose(got, want, rtol=2e-2, atol=2e-2)
    print(f"attention_decode {want.shape}: largest difference {np.abs(got - want).max():.3g}")
