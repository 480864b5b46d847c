"""Attention of one new token of each sequence on its cached keys and values, with grouped heads: bound by reading the cache.

The few queries that share a key-value head would leave most partitions empty, so up to four of them (sequences x key-value heads) lie
in one tile, each in its own 32 partitions: every instruction of the Vector and Scalar Engines works on four caches at once. Keys and
values are loaded 2048 tokens at a time, of all caches of a tile at once, into three buffers in turn; they are taken 1024 at a time. A
partition holds 8 tokens of values in a row, so that descriptors are long, and the transposed probabilities are taken in that order. Keys of
narrow heads share the 128 partitions, so that all DMA engines bring them, and where the array can be cut into tiles (from v3) the scores of
several caches are made side by side.
Steps are brought to one scale and overlap as in `attention_prefill.py`. On two cores each takes half of the caches.
"""

import math

import nki
import nki.isa as nisa
import nki.language as nl
import numpy as np

LOAD = 2048  # tokens in one load
STEP = 1024  # tokens in one step: two PSUM banks of scores
BUFFERS = 3  # of loads
AHEAD = 2  # steps between the scores and the product of one
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
    first, last = me * -(-N // cores), min(N, (me + 1) * -(-N // cores))
    tokens, many, per_step = min(S, LOAD), min(P // room, max(last - first, 1)), STEP // P
    pack = P // d if d in (P // 2, P // 4) else 1  # heads whose keys lie in one tile
    buffers = [(nl.ndarray((pack * d, -(-many // pack), tokens), dtype=k.dtype, buffer=nl.sbuf), nl.ndarray((P, many, tokens // P, d), dtype=v.dtype, buffer=nl.sbuf))
               for _ in range(min(BUFFERS, -(-S // LOAD) * -(-(last - first) // many)))]  # fmt: skip
    under_way, loads = [], 0
    for n0 in nl.affine_range(first, last, many):
        group = Group(q, range(n0, min(n0 + many, last)), room, pack)
        for s0 in range(0, S, LOAD):
            keys, values = load(k, v, group.caches, s0, min(s0 + LOAD, S), *buffers[loads % len(buffers)])
            loads += 1
            for t in range(0, values.shape[2], per_step):
                runs = slice(t, min(t + per_step, values.shape[2]))
                under_way.append(group.score(keys[:, :, runs.start * P : runs.stop * P], values[:, :, runs, :]))
                if len(under_way) > 1:
                    under_way[-2].turn()
                if len(under_way) > AHEAD:
                    under_way.pop(0).collect()
        under_way[-1].result = result
    if under_way:
        under_way[-1].turn()
    while under_way:
        under_way.pop(0).collect()
    return result


def load(k, v, caches, s0, s1, keys, values):
    """Tokens s0 .. s1 of the caches into a pair of buffers: keys [pack x d, caches / pack, tokens], values [128, caches, tokens / 128, d], where a partition
    has the tokens of a step that follow each other."""
    P, n = nl.tile_size.pmax, slice(caches[0], caches[-1] + 1)
    keys, values = keys[:, :, : s1 - s0], values[:, : len(caches), : (s1 - s0) // P, :]
    load_packed(keys, k[n, :, s0:s1])
    whole = (s1 - s0) // STEP
    for start, steps, runs in ((0, whole, STEP // P), (whole * STEP, 1, (s1 - s0 - whole * STEP) // P)):
        if steps and runs:
            source = v[n, s0 + start : s0 + start + steps * runs * P, :].reshape(
                (len(caches), steps, P, runs * v.shape[2])
            )
            target = values[:, :, start // P : start // P + steps * runs, :].reshape(
                (P, len(caches), steps, runs * v.shape[2])
            )
            nisa.dma_copy(dst=target, src=source.permute((2, 0, 1, 3)))
    return keys, values


def load_packed(dst, src):
    """src [caches, d, n] in HBM -> dst [pack x d, caches / pack, n] in SBUF."""
    many, d, n = src.shape
    pack = dst.shape[0] // d
    full = many // pack
    if full:
        nisa.dma_copy(dst=dst[:, :full, :], src=src[: full * pack].reshape((full, pack * d, n)).permute((1, 0, 2)))
    for i in range(full * pack, many):
        nisa.dma_copy(dst=dst[i % pack * d : (i % pack + 1) * d, full, :], src=src[i])


class Group:
    """A few caches, `room` partitions each, and the sums of their queries so far, relative to exp(-bias): output [rows, d], total, bias."""

    def __init__(self, q, caches, room, pack):
        _, d, R = q.shape
        self.caches, self.room, self.pack, self.rows, self.scale = (
            caches,
            room,
            pack,
            len(caches) * room,
            1.0 / math.sqrt(d),
        )
        self.queries = nl.ndarray((pack * d, -(-len(caches) // pack), room), dtype=q.dtype, buffer=nl.sbuf)
        if room > R:
            nisa.memset(dst=self.queries[:, :, R:], value=0.0)
        load_packed(self.queries[:, :, :R], q[caches[0] : caches[-1] + 1])
        self.output = nl.ndarray((self.rows, d), dtype=nl.float32, buffer=nl.sbuf)
        self.total = self.bias = None

    def score(self, keys, values):
        """The step of these tokens, with its probabilities."""
        d, width, BANK = self.output.shape[1], keys.shape[2], nl.tile_size.psum_fmax
        scores = nl.ndarray((self.rows, width), dtype=nl.float32, buffer=nl.psum)
        for b in range(0, width, BANK):
            part = slice(b, min(b + BANK, width))
            for i in range(len(self.caches)):
                head = slice(i % self.pack * d, (i % self.pack + 1) * d)
                rows = slice(i * self.room, (i + 1) * self.room)
                nisa.nc_matmul(dst=scores[rows, part], stationary=self.queries[head, i // self.pack, :], moving=keys[head, i // self.pack, part],
                               **array_tile(head, rows))  # fmt: skip
        bias, total, change = column(self.rows), column(self.rows), None
        nisa.tensor_reduce(dst=bias, op=nl.maximum, data=scores, axis=1, negate=True)
        more = {} if self.bias is None else {"op1": nl.minimum, "operand1": self.bias}
        nisa.tensor_scalar(dst=bias, data=bias, op0=nl.multiply, operand0=self.scale, engine=nisa.gpsimd_engine, **more)
        power = nl.ndarray((self.rows, width), dtype=values.dtype, buffer=nl.sbuf)
        nisa.activation_reduce(
            dst=power, op=nl.exp, data=scores, scale=self.scale, bias=bias, reduce_op=nl.add, reduce_res=total
        )
        if self.bias is not None:
            change = column(self.rows)
            nisa.activation(dst=change, op=nl.exp, data=self.bias, scale=-1.0, bias=bias)
        self.bias = bias
        return Step(self, power, values, total, change)

    def finish(self, result):
        """Store the attention of the group's queries."""
        inverse = column(self.rows)
        nisa.reciprocal(dst=inverse, data=self.total)
        out = nl.ndarray(self.output.shape, dtype=self.queries.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=out, data=self.output, op0=nl.multiply, operand0=inverse)
        for i, n in enumerate(self.caches):
            nisa.dma_copy(dst=result[n], src=out[i * self.room : i * self.room + result.shape[1], :])


def array_tile(head, rows):
    """Where in the array a product of these rows and columns lies, so that others beside it may run."""
    P, high, wide = nl.tile_size.pmax, head.stop - head.start, rows.stop - rows.start
    if nisa.get_nc_version() == nisa.nc_version.gen2 or wide == P:
        return {}
    high = high if high in (P // 4, P // 2) else P
    return {"tile_position": (head.start, rows.start), "tile_size": (high, wide)}


class Step:
    """Scored tokens of a group: their probabilities and values, their sum, the factor that brings the group's sums to their scale; and
    where the group's result goes, if it is the last."""

    def __init__(self, group, power, values, total, change):
        self.group, self.power, self.values, self.total, self.change, self.result = (
            group,
            power,
            values,
            total,
            change,
            None,
        )

    def turn(self):
        """Transpose the probabilities, so that tokens lie on partitions."""
        g, P, runs = self.group, nl.tile_size.pmax, self.values.shape[2]
        by_run = self.power.reshape((g.rows, P, runs))
        turned = nl.ndarray((P, runs, g.rows), dtype=self.power.dtype, buffer=nl.psum)
        for t in range(runs):
            nisa.nc_transpose(dst=turned[:, t, :], data=by_run[:, :, t], engine=nisa.tensor_engine)
        self.tokens = nl.ndarray((P, runs, g.rows), dtype=self.power.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(dst=self.tokens, src=turned)

    def collect(self):
        """Multiply the probabilities with the values, and add to the group's sums."""
        g, (runs, d) = self.group, self.values.shape[2:]
        product = nl.ndarray((g.rows, d), dtype=nl.float32, buffer=nl.psum)
        sums = nl.ndarray(
            (d, g.rows), dtype=nl.float32, buffer=nl.psum
        )  # few queries: they stream past the values, not the reverse
        for i in range(len(g.caches)):
            rows = slice(i * g.room, (i + 1) * g.room)
            for t in range(runs):
                nisa.nc_matmul(dst=sums[:, rows], stationary=self.values[:, i, t, :], moving=self.tokens[:, t, rows])
        upright = nl.ndarray((d, g.rows), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=upright, src=sums)
        nisa.nc_transpose(dst=product, data=upright, engine=nisa.tensor_engine)
        if self.change is None:
            g.total = self.total
            nisa.tensor_copy(dst=g.output, src=product)
        else:
            nisa.tensor_scalar(dst=g.total, data=g.total, op0=nl.multiply, operand0=self.change, op1=nl.add, operand1=self.total,
                               engine=nisa.gpsimd_engine)  # fmt: skip
            nisa.scalar_tensor_tensor(
                dst=g.output, data=g.output, op0=nl.multiply, operand0=self.change, op1=nl.add, operand1=product
            )
        if self.result is not None:
            g.finish(self.result)


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
